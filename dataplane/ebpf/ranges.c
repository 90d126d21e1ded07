// SPDX-License-Identifier: GPL-2.0-or-later
/* A service's flags, and the address ranges that limit its published ports. */
#include "dataplane/ebpf/internal.h"

static struct abi_range_key range_key(const struct service *s, const struct ebpf_range *r)
{
	uint32_t prefix = mapped_prefix(&r->net, r->prefix);
	struct abi_addr net = ebpf_addr(&r->net);

	return (struct abi_range_key){ .prefix = 64 + prefix,
		                       .service = s->index,
		                       .kind = r->dialled ? RANGE_DIALLED : RANGE_SOURCE,
		                       .net = addr_masked(&net, prefix) };
}

static uint32_t flags_of(const struct ebpf_service *w)
{
	uint32_t flags = (w->direct_return ? SERVICE_DIRECT : 0) | (w->affinity_s ? SERVICE_AFFINITY : 0);

	for (size_t i = 0; i < w->n_ranges; i++)
		flags |= w->ranges[i].dialled ? SERVICE_DIALLED : SERVICE_SOURCES;
	return flags;
}

static void ranges_drop(struct ebpf *e, struct service *s, const struct ebpf_range *keep, size_t n)
{
	for (size_t i = s->ranges.len; i-- > 0;) {
		bool kept = false;
		for (size_t k = 0; k < n && !kept; k++) {
			struct abi_range_key key = range_key(s, &keep[k]);
			kept = memcmp(&key, &s->ranges.data[i], sizeof(key)) == 0;
		}
		if (kept)
			continue;
		table_del(&e->ranges, &s->ranges.data[i]);
		vec_remove(&s->ranges, i);
	}
}

/* New ranges, then the flags that ask for them, then old ranges go: nobody is let in or kept out meanwhile. */
int lb_set_policy(struct ebpf *e, struct service *s, const struct ebpf_service *w, struct mesh_err *err)
{
	struct abi_service *a = &e->services[s->index];
	uint32_t one = 1;

	for (size_t i = 0; i < w->n_ranges; i++) {
		struct abi_range_key k = range_key(s, &w->ranges[i]);
		bool known = false;
		int rc = table_set(&e->ranges, &k, &one, e->pass, "ranges", err);
		if (rc)
			return rc;
		for (size_t j = 0; j < s->ranges.len && !known; j++)
			known = memcmp(&k, &s->ranges.data[j], sizeof(k)) == 0;
		if (!known)
			vec_push(&s->ranges, k);
	}
	uint32_t flags = flags_of(w);
	bool turned = (flags ^ a->flags) & SERVICE_AFFINITY, other = turned ? lb_other_hash(e, s) : lb_prev_is_other(a);
	a->affinity_s = w->affinity_s;
	__atomic_store_n(&a->flags, flags | (other ? SERVICE_PREV_OTHER : 0), __ATOMIC_RELEASE);
	ranges_drop(e, s, w->ranges, w->n_ranges);
	return 0;
}

void lb_ranges_fini(struct ebpf *e, struct service *s)
{
	ranges_drop(e, s, NULL, 0);
}
