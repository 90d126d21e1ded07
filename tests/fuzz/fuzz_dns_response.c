/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An upstream resolver's answer to the question it carries itself: checked, kept, and given out again.
 * Then the same bytes as a resolv.conf.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "dataplane/dns/cache.h"
#include "dataplane/dns/upstream.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* The question of a message, as the query that would have asked it. */
static int question_of(const uint8_t *p, size_t n, struct dns_query *q)
{
	if (n < 12 || n > DNS_TCP_MAX)
		return DNS_DROP;
	uint8_t *copy = malloc(n);
	memcpy(copy, p, n);
	copy[2] &= 0x07;
	memset(copy + 6, 0, 6);
	int rc = dns_query_parse(copy, n, q);
	free(copy);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static struct dns_cache *cache;
	static int64_t now = 1;
	struct dns_query q;
	struct dns_response r;
	struct dns_upstreams u;
	uint8_t out[DNS_UDP_MAX];
	if (!cache)
		cache = dns_cache_new();
	char *text = xstrndup((const char *)p, n);
	dns_resolv_conf_parse(text, &u);
	free(text);
	if (question_of(p, n, &q) != DNS_NOERROR || dns_response_parse(p, n, &q, &r) != 0)
		return 0;
	for (size_t i = 0; i < r.n_ttls; i++)
		if ((size_t)r.ttl_offs[i] + 4 > n)
			abort();
	dns_cache_put(cache, &q, 0, p, n, &r, now);
	size_t got = dns_cache_get(cache, &q, 0, now, out);
	if (r.cacheable && n <= DNS_UDP_MAX && got != n)
		abort();
	now += 10;
	return 0;
}
