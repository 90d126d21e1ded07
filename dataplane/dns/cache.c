/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dns/cache.h"

#define SETS 1024
#define WAYS 4
#define KEY_MAX (DNS_WIRE_MAX + 13)

struct entry {
	int64_t stored, expires;
	uint8_t *msg; /* NULL = free */
	uint16_t len, n_ttls, key_len;
	uint16_t *ttl_offs;
	uint8_t *key;
};
struct dns_cache {
	struct entry sets[SETS][WAYS];
};

struct dns_cache *dns_cache_new(void)
{
	return XNEW(struct dns_cache);
}

static void drop(struct entry *e)
{
	free(e->msg);
	free(e->ttl_offs);
	free(e->key);
	*e = (struct entry){ 0 };
}

void dns_cache_free(struct dns_cache *c)
{
	if (!c)
		return;
	for (size_t s = 0; s < SETS; s++)
		for (size_t w = 0; w < WAYS; w++)
			drop(&c->sets[s][w]);
	free(c);
}

static size_t key_of(const struct dns_query *q, uint64_t scope, uint8_t out[KEY_MAX])
{
	size_t n = q->wire_len;
	memcpy(out, q->wire, n);
	dns_put16(out + n, q->type);
	dns_put16(out + n + 2, q->class);
	out[n + 4] = (uint8_t)((q->flags & 0x0110) >> 4 | q->edns << 1 | q->dnssec_ok << 2);
	memcpy(out + n + 5, &scope, 8);
	return n + 13;
}

static struct entry *find(struct dns_cache *c, const uint8_t *key, size_t n, struct entry **set)
{
	*set = c->sets[hash64(key, n) % SETS];
	for (size_t w = 0; w < WAYS; w++) {
		struct entry *e = &(*set)[w];
		if (e->msg && e->key_len == n && memcmp(e->key, key, n) == 0)
			return e;
	}
	return NULL;
}

static struct entry *oldest(struct entry *set)
{
	struct entry *e = &set[0];
	for (size_t w = 0; w < WAYS; w++) {
		if (!set[w].msg)
			return &set[w];
		if (set[w].expires < e->expires)
			e = &set[w];
	}
	return e;
}

void dns_cache_put(struct dns_cache *c, const struct dns_query *q, uint64_t scope, const uint8_t *msg, size_t n,
                   const struct dns_response *r, int64_t now_s)
{
	if (!r->cacheable || n > DNS_UDP_MAX)
		return;
	uint8_t key[KEY_MAX];
	size_t key_len = key_of(q, scope, key);
	struct entry *set, *e = find(c, key, key_len, &set);
	if (!e)
		e = oldest(set);
	drop(e);
	*e = (struct entry){ .stored = now_s,
		             .expires = now_s + r->ttl,
		             .msg = xmemdup(msg, n),
		             .len = (uint16_t)n,
		             .n_ttls = (uint16_t)r->n_ttls,
		             .key_len = (uint16_t)key_len,
		             .ttl_offs = xmemdup(r->ttl_offs, r->n_ttls * sizeof(*r->ttl_offs)),
		             .key = xmemdup(key, key_len) };
}

size_t dns_cache_get(struct dns_cache *c, const struct dns_query *q, uint64_t scope, int64_t now_s, uint8_t *out)
{
	uint8_t key[KEY_MAX];
	struct entry *set, *e = find(c, key, key_of(q, scope, key), &set);
	if (!e)
		return 0;
	if (now_s >= e->expires) {
		drop(e);
		return 0;
	}
	memcpy(out, e->msg, e->len);
	dns_put16(out, q->id);
	for (size_t i = 0; i < e->n_ttls; i++) {
		uint8_t *p = out + e->ttl_offs[i];
		uint32_t ttl = dns_get32(p), age = (uint32_t)(now_s - e->stored);
		dns_put32(p, ttl > age ? ttl - age : 0);
	}
	return e->len;
}
