/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the DNS messages a resolver reads and writes, as pure functions over bytes: queries of tasks, our
 *         answers, and answers of upstream resolvers (checked and measured, passed on as they are).
 * Errors: foreign bytes are bounded; a message that cannot be answered gives DNS_DROP, one that can gives
 *         the response code to answer with.
 * Units:  times to live in seconds; names as lower case text without the last dot.
 */
#ifndef DATAPLANE_DNS_DNS_H
#define DATAPLANE_DNS_DNS_H

#include "dataplane/dns/zone.h"

#define DNS_PORT 53
#define DNS_WIRE_MAX 255 /* a name in a message */
#define DNS_UDP_MIN 512  /* what every client takes */
#define DNS_UDP_MAX 4096
#define DNS_TCP_MAX 65535

enum dns_rcode {
	DNS_NOERROR = 0,
	DNS_FORMERR = 1,
	DNS_SERVFAIL = 2,
	DNS_NXDOMAIN = 3,
	DNS_NOTIMP = 4,
	DNS_REFUSED = 5,
	DNS_BADVERS = 16,
};
#define DNS_DROP (-1)

enum dns_type { DNS_A = 1, DNS_PTR = 12, DNS_AAAA = 28, DNS_OPT = 41, DNS_ANY = 255 };

struct dns_query {
	uint16_t id, flags, type, class;
	uint8_t wire[DNS_WIRE_MAX + 1]; /* the name as in the message, lower case */
	size_t wire_len;
	char name[DNS_WIRE_MAX + 1]; /* as text; empty for the root and for names with odd bytes in a label */
	size_t question_len;         /* name, type and class in the message, from byte 12 */
	bool edns, dnssec_ok;
	uint16_t udp_size; /* what the client takes over UDP, DNS_UDP_MIN..DNS_UDP_MAX */
};

/* DNS_NOERROR, another response code to answer with (q is good enough for dns_build), or DNS_DROP. */
int dns_query_parse(const uint8_t *msg, size_t n, struct dns_query *q) MESH_MUST_CHECK;

/*
 * Writes the answer to q, whose message is msg, and returns its length (at most limit, at least 12 + question).
 * found may be NULL: no records. rot picks the first of several addresses. Sets TC when limit is too small.
 */
size_t dns_build(const uint8_t *msg, const struct dns_query *q, int rcode, const struct dns_found *found, unsigned rot,
                 size_t limit, uint8_t *out);

/* "5.1.0.10.in-addr.arpa" and the ip6.arpa form to an address; false for any other name. */
bool dns_reverse_parse(const char *name, struct dp_ip *out);

#define DNS_TTLS_MAX 64
struct dns_response {
	uint16_t id;
	int rcode;
	bool truncated, cacheable;
	uint32_t ttl;                    /* the smallest; for a negative answer from its SOA */
	uint16_t ttl_offs[DNS_TTLS_MAX]; /* where the times to live stand */
	size_t n_ttls;
};
/* MESH_E_PROTOCOL when it is malformed or not an answer to q's question. The id is the caller's to compare. */
int dns_response_parse(const uint8_t *msg, size_t n, const struct dns_query *q, struct dns_response *r) MESH_MUST_CHECK;

static inline uint16_t dns_get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}
static inline uint32_t dns_get32(const uint8_t *p)
{
	return (uint32_t)dns_get16(p) << 16 | dns_get16(p + 2);
}
static inline void dns_put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}
static inline void dns_put32(uint8_t *p, uint32_t v)
{
	dns_put16(p, v >> 16);
	dns_put16(p + 2, v & 0xffff);
}

#endif
