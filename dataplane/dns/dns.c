/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dns/dns.h"

#include <stdio.h>

#define HEADER 12
#define FLAG_QR 0x8000
#define FLAG_OPCODE 0x7800
#define FLAG_TC 0x0200
#define FLAG_RD 0x0100
#define FLAG_RA 0x0080
#define FLAG_CD 0x0010
#define CLASS_IN 1
#define TYPE_SOA 6
#define OPT_LEN 11
#define OWN_UDP_SIZE 1232 /* fits every path without fragments; what we announce */
/*
 * Clients must see a change at once and we are on their own machine: nothing is gained by their caching.
 * Not 0, which some stub resolvers treat as an error.
 */
#define OWN_TTL 1
#define TTL_MAX 3600
#define NEGATIVE_TTL_MAX 60

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* ---- queries ------------------------------------------------------------------------------------- */

/* An uncompressed name at *at into q->wire and q->name. */
static bool read_name(const uint8_t *msg, size_t n, size_t *at, struct dns_query *q)
{
	size_t p = *at, w = 0, t = 0;
	bool odd = false;
	for (;;) {
		if (p >= n)
			return false;
		uint8_t len = msg[p++];
		if (len > 63 || p + len > n || w + 1u + len > DNS_WIRE_MAX)
			return false;
		q->wire[w++] = len;
		if (!len)
			break;
		if (t)
			q->name[t++] = '.';
		for (uint8_t i = 0; i < len; i++) {
			uint8_t c = lower(msg[p++]);
			odd |= c == '.' || c == '\0';
			q->wire[w++] = c;
			q->name[t++] = (char)c;
		}
	}
	q->name[odd ? 0 : t] = '\0';
	q->wire_len = w;
	*at = p;
	return true;
}

/* The end of a possibly compressed name that starts at p; 0 when malformed. */
static size_t skip_name(const uint8_t *msg, size_t n, size_t p)
{
	while (p < n) {
		uint8_t len = msg[p];
		if (len >= 0xc0)
			return p + 2 <= n ? p + 2 : 0;
		if (len > 63)
			return 0;
		p += 1u + len;
		if (!len)
			return p <= n ? p : 0;
	}
	return 0;
}

struct rr {
	uint16_t type, class, rdlen;
	uint32_t ttl;
	size_t ttl_off, rdata;
};
/* The end of the record at p; 0 when malformed. */
static size_t read_rr(const uint8_t *msg, size_t n, size_t p, struct rr *r)
{
	p = skip_name(msg, n, p);
	if (!p || p + 10 > n)
		return 0;
	*r = (struct rr){ .type = dns_get16(msg + p),
		          .class = dns_get16(msg + p + 2),
		          .ttl = dns_get32(msg + p + 4),
		          .ttl_off = p + 4,
		          .rdlen = dns_get16(msg + p + 8),
		          .rdata = p + 10 };
	return r->rdata + r->rdlen <= n ? r->rdata + r->rdlen : 0;
}

static int read_additional(const uint8_t *msg, size_t n, size_t p, struct dns_query *q)
{
	unsigned skip = dns_get16(msg + 6) + dns_get16(msg + 8), more = dns_get16(msg + 10);
	for (unsigned i = 0; i < skip + more; i++) {
		struct rr r;
		p = read_rr(msg, n, p, &r);
		if (!p)
			return DNS_FORMERR;
		if (r.type != DNS_OPT || i < skip)
			continue;
		if (q->edns)
			return DNS_FORMERR;
		q->edns = true;
		q->udp_size = r.class < DNS_UDP_MIN ? DNS_UDP_MIN : r.class > DNS_UDP_MAX ? DNS_UDP_MAX : r.class;
		q->dnssec_ok = r.ttl & 0x8000;
		if ((r.ttl >> 16 & 0xff) != 0)
			return DNS_BADVERS;
	}
	return DNS_NOERROR;
}

int dns_query_parse(const uint8_t *msg, size_t n, struct dns_query *q)
{
	if (n < HEADER)
		return DNS_DROP;
	q->id = dns_get16(msg);
	q->flags = dns_get16(msg + 2);
	q->type = q->class = 0;
	q->wire_len = q->question_len = 0;
	q->name[0] = '\0';
	q->edns = q->dnssec_ok = false;
	q->udp_size = DNS_UDP_MIN;
	if (q->flags & FLAG_QR)
		return DNS_DROP;
	if (q->flags & FLAG_OPCODE)
		return DNS_NOTIMP;
	size_t p = HEADER;
	if (dns_get16(msg + 4) != 1 || !read_name(msg, n, &p, q) || p + 4 > n)
		return DNS_FORMERR;
	q->type = dns_get16(msg + p);
	q->class = dns_get16(msg + p + 2);
	p += 4;
	q->question_len = p - HEADER;
	return read_additional(msg, n, p, q);
}

/* ---- answers ------------------------------------------------------------------------------------- */

struct out {
	uint8_t *buf;
	size_t len, limit;
	unsigned answers;
	bool full;
};

/* Room for one answer record with its head written; NULL when it does not fit. */
static uint8_t *put_rr(struct out *o, unsigned type, size_t rdlen)
{
	if (o->len + 12 + rdlen > o->limit) {
		o->full = true;
		return NULL;
	}
	uint8_t *p = o->buf + o->len;
	dns_put16(p, 0xc000 | HEADER); /* the question's name */
	dns_put16(p + 2, type);
	dns_put16(p + 4, CLASS_IN);
	dns_put32(p + 6, OWN_TTL);
	dns_put16(p + 10, (unsigned)rdlen);
	o->len += 12 + rdlen;
	o->answers++;
	return p + 12;
}

static void put_ips(struct out *o, const struct dns_query *q, const struct dns_found *f, unsigned rot)
{
	bool want4 = q->type == DNS_A || q->type == DNS_ANY, want6 = q->type == DNS_AAAA || q->type == DNS_ANY;
	for (size_t i = 0; i < f->n && !o->full; i++) {
		const struct dp_ip *ip = &f->ips[(i + rot) % f->n];
		bool v4 = dp_ip_is_v4(ip);
		if (!(v4 ? want4 : want6))
			continue;
		uint8_t *p = put_rr(o, v4 ? DNS_A : DNS_AAAA, v4 ? 4 : 16);
		if (p)
			memcpy(p, v4 ? ip->b + 12 : ip->b, v4 ? 4 : 16);
	}
}

/* Text to wire; 0 when a label or the name is too long. */
static size_t name_to_wire(const char *text, uint8_t wire[DNS_WIRE_MAX])
{
	size_t w = 0;
	while (*text) {
		size_t n = strcspn(text, ".");
		if (!n || n > 63 || w + 1 + n + 1 > DNS_WIRE_MAX)
			return 0;
		wire[w++] = (uint8_t)n;
		memcpy(wire + w, text, n);
		w += n;
		text += n;
		text += *text == '.';
	}
	wire[w++] = 0;
	return w;
}

static void put_ptr(struct out *o, const char *name)
{
	uint8_t wire[DNS_WIRE_MAX];
	size_t n = name_to_wire(name, wire);
	uint8_t *p = n ? put_rr(o, DNS_PTR, n) : NULL;
	if (p)
		memcpy(p, wire, n);
}

static void put_opt(struct out *o, const struct dns_query *q, int rcode)
{
	uint8_t *p = o->buf + o->len;
	p[0] = 0;
	dns_put16(p + 1, DNS_OPT);
	dns_put16(p + 3, OWN_UDP_SIZE);
	dns_put32(p + 5, (uint32_t)(rcode >> 4) << 24 | (q->dnssec_ok ? 0x8000u : 0));
	dns_put16(p + 9, 0);
	o->len += OPT_LEN;
}

size_t dns_build(const uint8_t *msg, const struct dns_query *q, int rcode, const struct dns_found *found, unsigned rot,
                 size_t limit, uint8_t *out)
{
	struct out o = { .buf = out, .len = HEADER + q->question_len, .limit = limit - (q->edns ? OPT_LEN : 0) };
	memcpy(out + HEADER, msg + HEADER, q->question_len);
	if (found && found->ptr)
		put_ptr(&o, found->ptr);
	else if (found && found->n)
		put_ips(&o, q, found, rot);
	unsigned flags = FLAG_QR | FLAG_RA | (q->flags & (FLAG_OPCODE | FLAG_RD | FLAG_CD)) | ((unsigned)rcode & 15);
	dns_put16(out, q->id);
	dns_put16(out + 2, flags | (o.full ? FLAG_TC : 0));
	dns_put16(out + 4, q->question_len ? 1 : 0);
	dns_put16(out + 6, o.answers);
	dns_put16(out + 8, 0);
	dns_put16(out + 10, q->edns);
	if (q->edns)
		put_opt(&o, q, rcode);
	return o.len;
}

/* ---- reverse names ------------------------------------------------------------------------------- */

static bool reverse4(const char *name, size_t n, struct dp_ip *out)
{
	memset(out, 0, sizeof(*out));
	out->b[10] = out->b[11] = 0xff;
	size_t at = 0;
	for (int part = 15; part >= 12; part--) {
		unsigned v = 0, digits = 0;
		while (at < n && name[at] >= '0' && name[at] <= '9' && digits < 3) {
			v = v * 10 + (unsigned)(name[at++] - '0');
			digits++;
		}
		if (!digits || v > 255 || (part > 12 && (at >= n || name[at++] != '.')))
			return false;
		out->b[part] = (uint8_t)v;
	}
	return at == n;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool reverse6(const char *name, size_t n, struct dp_ip *out)
{
	if (n != 63)
		return false;
	memset(out, 0, sizeof(*out));
	for (int i = 0; i < 32; i++) {
		int v = hex(name[2 * i]);
		if (v < 0 || (i < 31 && name[2 * i + 1] != '.'))
			return false;
		out->b[15 - i / 2] |= (uint8_t)(i % 2 ? v << 4 : v);
	}
	return true;
}

bool dns_reverse_parse(const char *name, struct dp_ip *out)
{
	static const char v4[] = ".in-addr.arpa", v6[] = ".ip6.arpa";
	size_t n = strlen(name);
	if (n > sizeof(v4) - 1 && strcmp(name + n - (sizeof(v4) - 1), v4) == 0)
		return reverse4(name, n - (sizeof(v4) - 1), out);
	if (n > sizeof(v6) - 1 && strcmp(name + n - (sizeof(v6) - 1), v6) == 0)
		return reverse6(name, n - (sizeof(v6) - 1), out);
	return false;
}

/* ---- answers of others --------------------------------------------------------------------------- */

static bool same_question(const uint8_t *msg, size_t n, const struct dns_query *q)
{
	if (dns_get16(msg + 4) != 1 || HEADER + q->question_len > n || q->question_len != q->wire_len + 4)
		return false;
	for (size_t i = 0; i < q->wire_len; i++)
		if (lower(msg[HEADER + i]) != q->wire[i])
			return false;
	return dns_get16(msg + HEADER + q->wire_len) == q->type &&
	       dns_get16(msg + HEADER + q->wire_len + 2) == q->class;
}

/* What a resolver may keep of a "no such thing": RFC 2308, the smaller of the SOA's TTL and its minimum. */
static bool negative_ttl(const uint8_t *msg, size_t n, const struct rr *soa, uint32_t *ttl)
{
	size_t p = skip_name(msg, n, soa->rdata);
	p = p ? skip_name(msg, n, p) : 0;
	if (!p || p + 20 > soa->rdata + soa->rdlen)
		return false;
	uint32_t minimum = dns_get32(msg + p + 16);
	*ttl = minimum < soa->ttl ? minimum : soa->ttl;
	return true;
}

int dns_response_parse(const uint8_t *msg, size_t n, const struct dns_query *q, struct dns_response *r)
{
	*r = (struct dns_response){ .ttl = TTL_MAX };
	if (n < HEADER || n > DNS_TCP_MAX || !(dns_get16(msg + 2) & FLAG_QR) || !same_question(msg, n, q))
		return MESH_E_PROTOCOL;
	r->id = dns_get16(msg);
	r->rcode = dns_get16(msg + 2) & 15;
	r->truncated = dns_get16(msg + 2) & FLAG_TC;
	unsigned answers = dns_get16(msg + 6), total = answers + dns_get16(msg + 8) + dns_get16(msg + 10);
	bool negative = r->rcode == DNS_NXDOMAIN || !answers, soa_seen = false, fits = true;
	size_t p = HEADER + q->question_len;
	for (unsigned i = 0; i < total; i++) {
		struct rr rr;
		p = read_rr(msg, n, p, &rr);
		if (!p)
			return r->truncated ? 0 : MESH_E_PROTOCOL;
		if (rr.type == DNS_OPT)
			continue;
		if (r->n_ttls == DNS_TTLS_MAX)
			fits = false;
		else
			r->ttl_offs[r->n_ttls++] = (uint16_t)rr.ttl_off;
		uint32_t ttl = rr.ttl;
		if (rr.type == TYPE_SOA && negative && i >= answers && negative_ttl(msg, n, &rr, &ttl)) {
			soa_seen = true;
			ttl = ttl < NEGATIVE_TTL_MAX ? ttl : NEGATIVE_TTL_MAX;
		}
		if (ttl < r->ttl)
			r->ttl = ttl;
	}
	r->cacheable = fits && !r->truncated && r->ttl > 0 && (r->rcode == DNS_NOERROR || r->rcode == DNS_NXDOMAIN) &&
	               (!negative || soa_seen);
	return 0;
}
