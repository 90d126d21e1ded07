// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Services, backends and their tables, all in memory shared with the programs: no system calls but to make room.
 * A table is never changed while a program may read it: the new one is written elsewhere and one word switches.
 * The previous table says for every slot who had it first of those that still live, so that flows the programs do not
 * remember are found through any number of changes. No step depends on how many services there are.
 */
#include "dataplane/ebpf/internal.h"

#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* ---- services and members ---- */

struct service *lb_service(const struct ebpf *e, uint64_t key)
{
	return hset_get(&e->by_key, &key);
}

static struct service *service_new(struct ebpf *e, uint64_t key)
{
	bool fresh;
	uint32_t i = lb_number_take(&e->free_services, e->n_services, &fresh);
	struct service *s;

	if (!i)
		return NULL;
	s = XNEW(struct service);
	memset(&e->services[i], 0, sizeof(e->services[i]));
	e->services[i].key = key;
	s->key = key;
	s->index = i;
	(void)hset_put(&e->by_key, s);
	return s;
}

static struct member *place(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip)
{
	struct abi_endpoint_key at = { .vni = vni, .ip = *ip };

	return hset_get(&e->by_place, &at);
}

static struct member *member_of(const struct ebpf *e, const struct service *s, uint32_t vni, const struct abi_addr *ip)
{
	struct member *m = place(e, vni, ip);

	while (m && m->service != s)
		m = m->same;
	return m;
}

static struct member *member_add(struct ebpf *e, struct service *s, uint32_t backend)
{
	const struct abi_backend *b = backend_at(e, backend);
	struct member *m = XNEW(struct member);

	m->at = (struct abi_endpoint_key){ .vni = b->vni, .ip = b->ip };
	m->backend = backend;
	m->service = s;
	m->same = hset_put(&e->by_place, m);
	vec_push(&s->members, m);
	return m;
}

/* The caller takes it out of its service's list. */
static void member_free(struct ebpf *e, struct member *m)
{
	struct member *first = hset_get(&e->by_place, &m->at);

	if (first == m) {
		(void)hset_del(&e->by_place, &m->at);
		if (m->same)
			(void)hset_put(&e->by_place, m->same);
	} else {
		while (first->same != m)
			first = first->same;
		first->same = m->same;
	}
	free(m);
}

uint32_t lb_service_index(const struct ebpf *e, uint64_t key)
{
	struct service *s = lb_service(e, key);

	return s ? s->index : 0;
}

uint32_t lb_backend_index(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip)
{
	struct member *m = place(e, vni, ip);

	return m ? m->backend : 0;
}

void lb_set_ifindex(struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t ifindex)
{
	for (struct member *m = place(e, vni, ip); m; m = m->same)
		backend_at(e, m->backend)->ifindex = ifindex;
}

static enum abi_backend_state abi_state(enum dp_backend_state s)
{
	switch (s) {
	case DP_SERVING:
		return BACKEND_SERVING;
	case DP_DRAINING:
		return BACKEND_DRAINING;
	default:
		return BACKEND_STARTING;
	}
}

static struct member *member_new(struct ebpf *e, struct service *s, const struct abi_addr *ip)
{
	uint32_t i = lb_backend_alloc(e);

	if (!i)
		return NULL;
	*backend_at(e, i) = (struct abi_backend){
		.ip = *ip,
		.vni = e->services[s->index].vni,
		.service = s->index,
		.uid = e->next_uid++,
		.state = BACKEND_STARTING,
	};
	return member_add(e, s, i);
}

static int member_set(struct ebpf *e, struct service *s, const struct ebpf_backend *w)
{
	struct abi_addr ip = ebpf_addr(&w->ip);
	struct member *m = member_of(e, s, e->services[s->index].vni, &ip);
	struct abi_backend *b;

	m = m ? m : member_new(e, s, &ip);
	if (!m)
		return MESH_E_EXHAUSTED;
	m->wanted = true;
	b = backend_at(e, m->backend);
	b->node = w->local ? (struct abi_addr){} : ebpf_addr(&w->node);
	b->ifindex = w->local ? iface_of(e, b->vni, &ip, NULL) : 0;
	b->weight = w->weight ? w->weight : 1;
	dp_mac_of(&w->ip, b->mac);
	b->spare = w->spare;
	b->state = (uint8_t)abi_state(w->state);
	return 0;
}

/* ---- tables ---- */

static bool lives(const struct ebpf *e, uint32_t backend)
{
	return backend && backend_at(e, backend)->state != BACKEND_GONE &&
	       backend_at(e, backend)->state != BACKEND_FREE;
}

static uint32_t slot_at(const uint32_t *table, uint64_t word, uint32_t i)
{
	return table ? table[i & ((1u << (word & 31)) - 1)] : 0;
}

static uint32_t other_at(const struct service *s, uint32_t prev, uint32_t i)
{
	if (s->others)
		return s->others[i & ((1u << s->others_bits) - 1)];
	return s->others_unknown && (prev & SLOT_LOOKUP) ? OTHERS_MANY : 0;
}

/* Adds backend to the others of a slot whose base is known. */
static uint32_t other_with(const struct ebpf *e, uint32_t others, uint32_t backend, uint32_t base)
{
	if (others == OTHERS_MANY || backend == base || backend == others || !lives(e, backend))
		return others;
	return others ? OTHERS_MANY : backend;
}

/*
 * The previous table: a slot keeps the oldest backend that still lives, for its flows are remembered nowhere. Those
 * who had the slot since have their flows in the ingress's memory, which is asked as long as one of them may live.
 */
static void build_prev(struct ebpf *e, struct service *s, uint32_t *out, unsigned bits, const uint32_t *new,
                       unsigned new_bits)
{
	const struct abi_service *a = &e->services[s->index];
	const uint32_t *c = lb_table(e, a->cur), *p = lb_table(e, a->prev);
	uint32_t *others = xcalloc((size_t)1 << bits, sizeof(*others));
	bool any = false;

	for (uint32_t i = 0; i < 1u << bits; i++) {
		uint32_t was = slot_at(c, a->cur, i), raw = slot_at(p, a->prev, i), other = other_at(s, raw, i);
		uint32_t base = raw ? raw & ~SLOT_LOOKUP : was;
		if (!lives(e, base))
			base = slot_at(new, new_bits, i);
		other = other == OTHERS_MANY || (lives(e, other) && other != base) ? other : 0;
		other = other_with(e, other, was, base);
		others[i] = other;
		any |= other != 0;
		/* No base while nobody serves: those who are remembered go on all the same. */
		out[i] = base | (other ? SLOT_LOOKUP : 0);
	}
	free(s->others);
	s->others = any ? others : NULL;
	s->others_bits = bits;
	s->others_unknown = false;
	if (!any)
		free(others);
}

/* From now on every packet of the service asks the memory, and only then the table. */
static void lookup_all(struct ebpf *e, struct service *s)
{
	uint64_t prev = e->services[s->index].prev;
	uint32_t *m = lb_table(e, prev);

	for (uint32_t i = 0; m && i < 1u << (prev & 31); i++)
		m[i] |= SLOT_LOOKUP;
	free(TAKE(s->others));
	s->others_unknown = true;
}

bool lb_other_hash(struct ebpf *e, struct service *s)
{
	struct abi_service *a = &e->services[s->index];
	unsigned bits = (unsigned)MAX(a->cur & 0xff, a->prev & 0xff);
	uint64_t old = a->prev;

	if (lb_prev_is_other(a)) /* back to the hash it has */
		return false;
	uint64_t prev = old || a->cur ? lb_table_alloc(e, bits) : 0;
	a->changed_ns = lb_now_ns();
	if (prev) {
		build_prev(e, s, lb_table(e, prev), bits, lb_table(e, a->cur), (unsigned)(a->cur & 0xff));
		__atomic_store_n(&a->prev, prev, __ATOMIC_RELEASE);
		lb_table_free(e, old);
	}
	lookup_all(e, s);
	return a->prev != 0;
}

static size_t serving(struct ebpf *e, const struct service *s, struct maglev_backend *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s->members.len; i++) {
		uint32_t k = s->members.data[i]->backend;
		const struct abi_backend *b = backend_at(e, k);
		if (b->state == BACKEND_SERVING && !b->spare)
			out[n++] = (struct maglev_backend){ .id = hash64(&b->ip, sizeof(b->ip)),
				                            .weight = b->weight,
				                            .value = k };
	}
	return n;
}

/* prev first: a reader that sees both new finds equal tables at worst. */
static void publish(struct ebpf *e, struct service *s, uint64_t cur, uint64_t prev)
{
	struct abi_service *a = &e->services[s->index];
	uint64_t old_cur = a->cur, old_prev = a->prev;

	a->changed_ns = lb_now_ns();
	__atomic_store_n(&a->prev, prev, __ATOMIC_RELEASE);
	__atomic_store_n(&a->cur, cur, __ATOMIC_RELEASE);
	lb_table_free(e, old_cur);
	if (old_prev != prev)
		lb_table_free(e, old_prev);
}

/* True when the table in force names no backend that is gone and is what a build gives. */
static int rebuild(struct ebpf *e, struct service *s, struct mesh_err *err)
{
	struct abi_service *a = &e->services[s->index];
	CLEAN_FREE struct maglev_backend *list = xcalloc(s->members.len + 1, sizeof(*list));
	size_t n = serving(e, s, list);
	unsigned old_bits = (unsigned)(a->cur & 0xff), bits = maglev_bits(n);
	CLEAN_FREE uint32_t *want = xcalloc((size_t)1 << bits, sizeof(*want));
	unsigned prev_bits = MAX(bits, old_bits);
	uint64_t cur = 0, prev = 0;

	a->n = (uint32_t)n;
	maglev_build(want, bits, list, n);
	if (a->cur && n && bits == old_bits && !memcmp(want, lb_table(e, a->cur), sizeof(*want) << bits))
		return 0;
	if (!a->cur && !n)
		return 0;
	if (n) {
		cur = lb_table_alloc(e, bits);
		if (!cur)
			return mesh_fail(err, MESH_E_EXHAUSTED, "no memory for another load balancing table");
		memcpy(lb_table(e, cur), want, sizeof(*want) << bits);
	}
	if (lb_prev_is_other(a)) {
		prev = a->prev;
	} else if (a->cur || a->prev) {
		/* Never coarser than what it remembers. */
		prev_bits = MAX(prev_bits, (unsigned)(a->prev & 0xff));
		prev = lb_table_alloc(e, prev_bits);
		/* Without it old flows of moved slots lean on the flow cache and on second chance. */
		if (prev)
			build_prev(e, s, lb_table(e, prev), prev_bits, want, bits);
	}
	publish(e, s, cur, prev);
	return 0;
}

/*
 * Slots of the previous table whose backend is gone; nobody's flows are unremembered there. A table that says the same
 * as the one in force in every slot says nothing: packets need not look at it.
 */
static void drop_gone_prev(struct ebpf *e, struct service *s)
{
	struct abi_service *a = &e->services[s->index];
	const uint32_t *c = lb_table(e, a->cur);
	uint32_t *m = lb_table(e, a->prev);
	bool says = false, other_hash = lb_prev_is_other(a);

	for (uint32_t i = 0; m && i < 1u << (a->prev & 31); i++) {
		uint32_t base = m[i] & ~SLOT_LOOKUP, other = other_at(s, m[i], i),
			 now = other_hash ? 0 : slot_at(c, a->cur, i);
		base = lives(e, base) ? base : now;
		if (other != OTHERS_MANY && (!lives(e, other) || other == base))
			other = 0;
		if (s->others)
			s->others[i & ((1u << s->others_bits) - 1)] = other;
		m[i] = (lives(e, base) ? base : 0) | (other ? SLOT_LOOKUP : 0);
		says |= m[i] != now;
	}
	if (!m || says)
		return;
	lb_table_free(e, a->prev);
	__atomic_store_n(&a->prev, 0, __ATOMIC_RELEASE);
	__atomic_store_n(&a->flags, a->flags & ~SERVICE_PREV_OTHER, __ATOMIC_RELEASE);
	free(TAKE(s->others));
	s->others_unknown = false;
}

/* Backends of no table and no wish any more; the table edit is one aligned store a slot. */
static void drop_gone(struct ebpf *e, struct service *s)
{
	struct abi_service *a = &e->services[s->index];
	uint32_t *c = lb_table(e, a->cur);

	for (uint32_t i = 0; c && i < 1u << (a->cur & 31); i++)
		if (c[i] && !lives(e, c[i]))
			c[i] = 0;
	drop_gone_prev(e, s);
	for (size_t i = s->members.len; i-- > 0;) {
		struct member *m = s->members.data[i];
		struct abi_addr ip = m->at.ip;
		if (backend_at(e, m->backend)->state != BACKEND_GONE)
			continue;
		vec_remove(&s->members, i);
		lb_backend_free(e, m->backend);
		member_free(e, m);
		endpoint_refresh(e, a->vni, &ip);
	}
}

int ebpf_set_service(struct ebpf *e, const struct ebpf_service *w, struct mesh_err *err)
{
	struct service *s = lb_service(e, w->key);
	int rc = 0;

	if (!w->key)
		return mesh_fail(err, MESH_E_INVALID, "a service needs a key");
	lb_limbo_release(e, false);
	s = s ? s : service_new(e, w->key);
	if (!s)
		return mesh_fail(err, MESH_E_EXHAUSTED, "a node holds %u services", e->n_services - 1);
	s->pass = e->pass;
	e->services[s->index].vni = w->vni;
	rc = lb_set_policy(e, s, w, err);
	if (rc)
		return rc;
	for (size_t i = 0; i < s->members.len; i++)
		s->members.data[i]->wanted = false;
	for (size_t i = 0; i < w->n && !rc; i++)
		rc = member_set(e, s, &w->backends[i]);
	if (rc)
		return mesh_fail(err, rc, "a node holds %u backends", e->backends.per * e->backends.max - 1);
	for (size_t i = 0; i < s->members.len; i++)
		if (!s->members.data[i]->wanted)
			backend_at(e, s->members.data[i]->backend)->state = BACKEND_GONE;
	rc = rebuild(e, s, err);
	if (rc)
		return rc;
	drop_gone(e, s);
	for (size_t i = 0; i < s->members.len; i++)
		endpoint_refresh(e, w->vni, &s->members.data[i]->at.ip);
	return 0;
}

static void service_free(struct service *s)
{
	for (size_t i = 0; i < s->members.len; i++)
		free(s->members.data[i]);
	vec_fini(&s->members);
	vec_fini(&s->ranges);
	free(s->others);
	free(s);
}

void ebpf_del_service(struct ebpf *e, uint64_t key)
{
	struct service *s = lb_service(e, key);
	struct abi_service *a;

	if (!s)
		return;
	lb_limbo_release(e, false);
	a = &e->services[s->index];
	publish(e, s, 0, 0);
	for (size_t i = 0; i < s->members.len; i++)
		backend_at(e, s->members.data[i]->backend)->state = BACKEND_GONE;
	drop_gone(e, s);
	lb_ranges_fini(e, s);
	a->flags = 0;
	a->key = 0;
	vec_push(&e->free_services.free, s->index);
	(void)hset_del(&e->by_key, &key);
	service_free(s);
}

/* ---- after a restart ---- */

static void adopt_services(struct ebpf *e, struct service **by_index)
{
	struct lb_adoption *tables = lb_adoption_new(e);

	e->free_services.next = 1;
	for (uint32_t i = 1; i < e->n_services; i++) {
		struct abi_service *a = &e->services[i];
		if (!a->key)
			continue;
		struct service *s = XNEW(struct service);
		s->key = a->key;
		s->index = i;
		s->others_unknown = true;
		a->cur = lb_adopt_table(e, tables, a->cur) ? a->cur : 0;
		a->prev = lb_adopt_table(e, tables, a->prev) ? a->prev : 0;
		(void)hset_put(&e->by_key, s);
		by_index[i] = s;
		for (; e->free_services.next < i; e->free_services.next++)
			vec_push(&e->free_services.free, e->free_services.next);
		e->free_services.next = i + 1;
	}
	lb_adoption_end(e, tables);
}

static void adopt_backends(struct ebpf *e, struct service **by_index)
{
	e->free_backends.next = e->next_uid = 1;
	for (uint32_t i = 1; i < segments_size(&e->backends); i++) {
		struct abi_backend *b = backend_at(e, i);
		if (b->uid >= e->next_uid)
			e->next_uid = b->uid + 1;
		if (b->state == BACKEND_FREE)
			continue;
		for (; e->free_backends.next < i; e->free_backends.next++)
			vec_push(&e->free_backends.free, e->free_backends.next);
		e->free_backends.next = i + 1;
		if (b->service < e->n_services && by_index[b->service]) {
			(void)member_add(e, by_index[b->service], i);
		} else {
			b->state = BACKEND_FREE;
			vec_push(&e->free_backends.free, i);
		}
	}
}

void lb_adopt(struct ebpf *e)
{
	CLEAN_FREE struct service **by_index = xcalloc(e->n_services, sizeof(*by_index));

	e->by_key = HSET(struct service, key);
	e->by_place = HSET(struct member, at);
	adopt_services(e, by_index);
	adopt_backends(e, by_index);
}

void lb_sweep(struct ebpf *e)
{
	struct VEC(uint64_t) old = {};

	HSET_FOREACH(&e->by_key, struct service, s)
	if (s->pass != e->pass)
		vec_push(&old, s->key);
	for (size_t i = 0; i < old.len; i++)
		ebpf_del_service(e, old.data[i]);
	vec_fini(&old);
}

void lb_fini(struct ebpf *e)
{
	HSET_FOREACH(&e->by_key, struct service, s)
	service_free(s);
	hset_fini(&e->by_key);
	hset_fini(&e->by_place);
	lb_tables_fini(e);
}
