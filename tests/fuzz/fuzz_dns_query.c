/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A task's question: parsed, looked up, answered over UDP and TCP; the answer must be one we would accept. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "dataplane/dns/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct dns_zone *fuzz_zone(void)
{
	static char *names[] = { (char *)"web.1.aaa" };
	struct dp_network net = { .name = (char *)"blue", .subnet = (char *)"10.0.1.0/24" };
	struct dp_service web = { .name = (char *)"web", .vip = (char *)"10.0.1.2" };
	struct dp_endpoint e = { .addr = (char *)"10.0.1.5", .state = DP_SERVING, .names = { names, 1 } };
	const struct dp_service *s[] = { &web };
	const struct dp_endpoint *es[] = { &e };
	return dns_zone_new(&net, s, 1, es, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct dns_zone *zone;
	static uint8_t tcp[DNS_TCP_MAX];
	struct dns_query q;
	struct dns_found found = { 0 };
	struct dns_response r;
	struct dp_ip ip;
	if (!zone)
		zone = fuzz_zone();
	int rcode = dns_query_parse(p, n, &q);
	if (rcode == DNS_DROP)
		return 0;
	if (dns_reverse_parse(q.name, &ip))
		(void)dns_lookup_ptr(&zone, 1, &ip, &found);
	else
		(void)dns_lookup(&zone, 1, q.name, &found);
	if (q.udp_size < DNS_UDP_MIN || q.udp_size > DNS_UDP_MAX)
		abort();
	/* Exactly as much room as is promised, so that a sanitizer sees one byte more. */
	uint8_t *out = malloc(q.udp_size);
	size_t len = dns_build(p, &q, rcode, &found, 3, q.udp_size, out);
	if (len > q.udp_size || (rcode == DNS_NOERROR && dns_response_parse(out, len, &q, &r) != 0))
		abort();
	len = dns_build(p, &q, rcode, &found, 3, sizeof(tcp), tcp);
	if (len > sizeof(tcp))
		abort();
	free(out);
	return 0;
}
