/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   answers of upstream resolvers, kept for their time to live. Bounded: 4 x 1024 answers of at most
 *         DNS_UDP_MAX bytes; a full set gives up its oldest.
 * Time:   a parameter, monotonic seconds.
 */
#ifndef DATAPLANE_DNS_CACHE_H
#define DATAPLANE_DNS_CACHE_H

#include "dataplane/dns/dns.h"

struct dns_cache;

struct dns_cache *dns_cache_new(void);
void dns_cache_free(struct dns_cache *c);
/*
 * The key: question and the flags that change the answer (RD, CD, EDNS, DO), and scope, which tells apart
 * tasks that ask different resolvers.
 */
void dns_cache_put(struct dns_cache *c, const struct dns_query *q, uint64_t scope, const uint8_t *msg, size_t n,
                   const struct dns_response *r, int64_t now_s);
/* Writes the answer with q's id and the remaining times to live into out (DNS_UDP_MAX bytes); 0 = not there. */
size_t dns_cache_get(struct dns_cache *c, const struct dns_query *q, uint64_t scope, int64_t now_s, uint8_t *out);

#endif
