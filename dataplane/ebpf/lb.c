// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Services, backends and their tables, all in memory shared with the programs: no system calls.
 * A table is never changed while a program may read it: the new one is written elsewhere and one word switches.
 * The previous table says for every slot who had it first of those that still live, so that flows the programs do not
 * remember are found through any number of changes.
 */
#include <errno.h>
#include <time.h>

#include "base/clock.h"
#include "dataplane/ebpf/internal.h"
#include "dataplane/ebpf/maglev.h"

#define LIMBO_MS 20
#define MAX(a, b) ((a) > (b) ? (a) : (b))

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t chunks_of(uint64_t table)
{
	uint32_t slots = 1u << (table & 31);

	return table ? (slots + ABI_CHUNK - 1) / ABI_CHUNK : 0;
}

static uint16_t *table_memory(struct ebpf *e, uint64_t table)
{
	return table ? e->slots[table >> 8].slot : NULL;
}

static bool table_sane(const struct ebpf *e, uint64_t table)
{
	return !table || ((table & 0xff) <= MAGLEV_BITS_MAX && (table & 0xff) >= MAGLEV_BITS_MIN &&
	                  (table >> 8) + chunks_of(table) <= e->n_chunks);
}

/* ---- memory ---- */

static void limbo_release(struct ebpf *e, bool all)
{
	uint64_t now = now_ns() / 1000000;
	size_t kept = 0;

	for (size_t i = 0; i < e->limbo.len; i++) {
		struct limbo l = e->limbo.data[i];
		if (!all && now - l.at_ms < LIMBO_MS)
			e->limbo.data[kept++] = l;
		else if (l.count)
			memset(e->chunk_used + l.first, 0, l.count);
		else
			e->backends[l.first].state = BACKEND_FREE;
	}
	e->limbo.len = kept;
}

static void limbo_add(struct ebpf *e, uint32_t first, uint32_t count)
{
	struct limbo l = { .at_ms = now_ns() / 1000000, .first = first, .count = count };

	vec_push(&e->limbo, l);
}

static void table_free(struct ebpf *e, uint64_t table)
{
	if (table)
		limbo_add(e, (uint32_t)(table >> 8), chunks_of(table));
}

/* First fit at a multiple of the size; 0 when full. */
static uint64_t table_alloc(struct ebpf *e, unsigned bits)
{
	uint32_t n = chunks_of(bits), first = 0;

	for (; first + n <= e->n_chunks; first += n) {
		if (memchr(e->chunk_used + first, 1, n))
			continue;
		memset(e->chunk_used + first, 1, n);
		return (uint64_t)first << 8 | bits;
	}
	return 0;
}

static uint64_t table_alloc_retry(struct ebpf *e, unsigned bits)
{
	uint64_t t = table_alloc(e, bits);

	if (t)
		return t;
	/* Rather a reader that meets a table half rewritten than a service that does not change. */
	limbo_release(e, true);
	return table_alloc(e, bits);
}

static uint32_t backend_alloc(struct ebpf *e)
{
	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 1; i < e->n_backends; i++)
			if (e->backends[i].state == BACKEND_FREE)
				return i;
		limbo_release(e, true);
	}
	return 0;
}

/* ---- services ---- */

static struct service *service_of(const struct ebpf *e, uint64_t key)
{
	for (size_t i = 0; i < e->service_list.len; i++)
		if (e->service_list.data[i]->key == key)
			return e->service_list.data[i];
	return NULL;
}

static struct service *service_new(struct ebpf *e, uint64_t key)
{
	for (uint32_t i = 1; i < e->n_services; i++) {
		if (e->services[i].key)
			continue;
		struct service *s = XNEW(struct service);
		memset(&e->services[i], 0, sizeof(e->services[i]));
		e->services[i].key = key;
		s->key = key;
		s->index = i;
		vec_push(&e->service_list, s);
		return s;
	}
	return NULL;
}

static struct member *member_of(const struct service *s, const struct abi_addr *ip)
{
	for (size_t i = 0; i < s->members.len; i++)
		if (memcmp(&s->members.data[i].ip, ip, sizeof(*ip)) == 0)
			return &s->members.data[i];
	return NULL;
}

uint32_t lb_service_index(const struct ebpf *e, uint64_t key)
{
	struct service *s = service_of(e, key);

	return s ? s->index : 0;
}

uint32_t lb_backend_index(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip)
{
	for (size_t i = 0; i < e->service_list.len; i++) {
		struct service *s = e->service_list.data[i];
		struct member *m = e->services[s->index].vni == vni ? member_of(s, ip) : NULL;
		if (m)
			return m->backend;
	}
	return 0;
}

void lb_set_ifindex(struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t ifindex)
{
	for (size_t i = 0; i < e->service_list.len; i++) {
		struct service *s = e->service_list.data[i];
		struct member *m = e->services[s->index].vni == vni ? member_of(s, ip) : NULL;
		if (m)
			e->backends[m->backend].ifindex = ifindex;
	}
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
	struct member m = { .ip = *ip, .backend = (uint16_t)backend_alloc(e) };

	if (!m.backend)
		return NULL;
	e->backends[m.backend] = (struct abi_backend){
		.ip = *ip,
		.vni = e->services[s->index].vni,
		.service = s->index,
		.uid = e->next_uid++,
		.state = BACKEND_STARTING,
	};
	stats_clear(e, m.backend);
	vec_push(&s->members, m);
	return &s->members.data[s->members.len - 1];
}

static int member_set(struct ebpf *e, struct service *s, const struct ebpf_backend *w, bool *draining_later)
{
	struct abi_addr ip = ebpf_addr(&w->ip);
	struct member *m = member_of(s, &ip);
	struct abi_backend *b;
	struct dp_ip addr = w->ip;

	m = m ? m : member_new(e, s, &ip);
	if (!m)
		return MESH_E_EXHAUSTED;
	b = &e->backends[m->backend];
	b->node = w->local ? (struct abi_addr){} : ebpf_addr(&w->node);
	b->ifindex = w->local ? iface_of(e, b->vni, &ip, NULL) : 0;
	b->weight = w->weight ? w->weight : 1;
	dp_mac_of(&addr, b->mac);
	*draining_later |= b->state != abi_state(w->state);
	b->state = (uint8_t)abi_state(w->state);
	return 0;
}

static bool is_wanted(const struct ebpf_service *w, const struct abi_addr *ip)
{
	for (size_t i = 0; i < w->n; i++)
		if (memcmp(w->backends[i].ip.b, ip, sizeof(*ip)) == 0)
			return true;
	return false;
}

static bool lives(const struct ebpf *e, uint16_t backend)
{
	return backend && e->backends[backend].state != BACKEND_GONE && e->backends[backend].state != BACKEND_FREE;
}

static uint16_t slot_at(const uint16_t *table, uint64_t word, uint32_t i)
{
	return table ? table[i & ((1u << (word & 31)) - 1)] : 0;
}

static uint16_t other_at(const struct service *s, uint16_t prev, uint32_t i)
{
	if (s->others)
		return s->others[i & ((1u << s->others_bits) - 1)];
	return prev & SLOT_LOOKUP ? OTHERS_MANY : 0; /* after a restart */
}

/* Adds backend to the others of a slot whose base is known. */
static uint16_t other_with(const struct ebpf *e, uint16_t others, uint16_t backend, uint16_t base)
{
	if (others == OTHERS_MANY || backend == base || backend == others || !lives(e, backend))
		return others;
	return others ? OTHERS_MANY : backend;
}

/*
 * The previous table: a slot keeps the oldest backend that still lives, for its flows are remembered nowhere. Those
 * who had the slot since have their flows in the ingress's memory, which is asked as long as one of them may live.
 */
static void build_prev(struct ebpf *e, struct service *s, uint16_t *out, unsigned bits, const uint16_t *new,
                       unsigned new_bits)
{
	const struct abi_service *a = &e->services[s->index];
	const uint16_t *c = table_memory(e, a->cur), *p = table_memory(e, a->prev);
	uint16_t *others = xcalloc((size_t)1 << bits, sizeof(*others));

	for (uint32_t i = 0; i < 1u << bits; i++) {
		uint16_t was = slot_at(c, a->cur, i), raw = slot_at(p, a->prev, i), other = other_at(s, raw, i);
		uint16_t base = raw ? raw & ~SLOT_LOOKUP : was;
		if (!lives(e, base))
			base = slot_at(new, new_bits, i);
		other = other == OTHERS_MANY || (lives(e, other) && other != base) ? other : 0;
		other = other_with(e, other, was, base);
		others[i] = other;
		out[i] = base ? base | (other ? SLOT_LOOKUP : 0) : 0;
	}
	free(s->others);
	s->others = others;
	s->others_bits = bits;
}

static size_t serving(struct ebpf *e, const struct service *s, struct maglev_backend *out)
{
	size_t n = 0;

	for (size_t i = 0; i < s->members.len; i++) {
		uint16_t k = s->members.data[i].backend;
		if (e->backends[k].state == BACKEND_SERVING)
			out[n++] = (struct maglev_backend){ .id = hash64(&e->backends[k].ip, sizeof(struct abi_addr)),
				                            .weight = e->backends[k].weight,
				                            .value = k };
	}
	return n;
}

/* prev first: a reader that sees both new finds equal tables at worst. */
static void publish(struct ebpf *e, struct service *s, uint64_t cur, uint64_t prev)
{
	struct abi_service *a = &e->services[s->index];
	uint64_t old_cur = a->cur, old_prev = a->prev;

	a->changed_ns = now_ns();
	__atomic_store_n(&a->prev, prev, __ATOMIC_RELEASE);
	__atomic_store_n(&a->cur, cur, __ATOMIC_RELEASE);
	table_free(e, old_cur);
	table_free(e, old_prev);
}

/* True when the table in force names no backend that is gone and is what a build gives. */
static int rebuild(struct ebpf *e, struct service *s, struct mesh_err *err)
{
	struct abi_service *a = &e->services[s->index];
	CLEAN_FREE struct maglev_backend *list = xcalloc(s->members.len + 1, sizeof(*list));
	CLEAN_FREE uint16_t *want = xcalloc((size_t)1 << MAGLEV_BITS_MAX, sizeof(*want));
	size_t n = serving(e, s, list);
	unsigned old_bits = (unsigned)(a->cur & 0xff), bits = maglev_bits(n);
	unsigned prev_bits = MAX(bits, old_bits);
	uint64_t cur = 0, prev = 0;

	a->n = (uint32_t)n;
	maglev_build(want, bits, list, n);
	if (a->cur && n && bits == old_bits && !memcmp(want, table_memory(e, a->cur), sizeof(*want) << bits))
		return 0;
	if (!a->cur && !n)
		return 0;
	if (n) {
		cur = table_alloc_retry(e, bits);
		if (!cur)
			return mesh_fail(err, MESH_E_EXHAUSTED, "no room for another load balancing table");
		memcpy(table_memory(e, cur), want, sizeof(*want) << bits);
	}
	if (a->cur || a->prev) {
		/* Never coarser than what it remembers. */
		prev_bits = MAX(prev_bits, (unsigned)(a->prev & 0xff));
		prev = table_alloc_retry(e, prev_bits);
		/* Without it old flows of moved slots lean on the flow cache and on second chance. */
		if (prev)
			build_prev(e, s, table_memory(e, prev), prev_bits, want, bits);
	}
	publish(e, s, cur, prev);
	return 0;
}

/* Slots of the previous table whose backend is gone; nobody's flows are unremembered there. */
static void drop_gone_prev(struct ebpf *e, struct service *s)
{
	const struct abi_service *a = &e->services[s->index];
	const uint16_t *c = table_memory(e, a->cur);
	uint16_t *m = table_memory(e, a->prev);

	for (uint32_t i = 0; m && i < 1u << (a->prev & 31); i++) {
		uint16_t base = m[i] & ~SLOT_LOOKUP, other = other_at(s, m[i], i);
		if (!lives(e, base))
			base = slot_at(c, a->cur, i);
		if (other != OTHERS_MANY && (!lives(e, other) || other == base))
			other = 0;
		if (s->others)
			s->others[i & ((1u << s->others_bits) - 1)] = other;
		m[i] = lives(e, base) ? base | (other ? SLOT_LOOKUP : 0) : 0;
	}
}

/* Backends of no table and no wish any more; the table edit is one aligned store a slot. */
static void drop_gone(struct ebpf *e, struct service *s)
{
	struct abi_service *a = &e->services[s->index];
	uint16_t *c = table_memory(e, a->cur);

	for (uint32_t i = 0; c && i < 1u << (a->cur & 31); i++)
		if (c[i] && e->backends[c[i]].state == BACKEND_GONE)
			c[i] = 0;
	drop_gone_prev(e, s);
	for (size_t i = s->members.len; i-- > 0;) {
		struct member m = s->members.data[i];
		if (e->backends[m.backend].state != BACKEND_GONE)
			continue;
		vec_remove(&s->members, i);
		limbo_add(e, m.backend, 0);
		endpoint_refresh(e, a->vni, &m.ip);
	}
}

int ebpf_set_service(struct ebpf *e, const struct ebpf_service *w, struct mesh_err *err)
{
	struct service *s = service_of(e, w->key);
	bool changed = false;
	int rc = 0;

	if (!w->key)
		return mesh_fail(err, MESH_E_INVALID, "a service needs a key");
	limbo_release(e, false);
	s = s ? s : service_new(e, w->key);
	if (!s)
		return mesh_fail(err, MESH_E_EXHAUSTED, "more than %u services", e->n_services - 1);
	s->pass = e->pass;
	e->services[s->index].vni = w->vni;
	e->services[s->index].flags = (w->direct_return ? SERVICE_DIRECT : 0) | (w->affinity ? SERVICE_AFFINITY : 0);
	for (size_t i = 0; i < w->n && !rc; i++)
		rc = member_set(e, s, &w->backends[i], &changed);
	if (rc)
		return mesh_fail(err, rc, "more than %u backends", e->n_backends - 1);
	for (size_t i = 0; i < s->members.len; i++)
		if (!is_wanted(w, &s->members.data[i].ip))
			e->backends[s->members.data[i].backend].state = BACKEND_GONE;
	rc = rebuild(e, s, err);
	if (rc)
		return rc;
	drop_gone(e, s);
	for (size_t i = 0; i < s->members.len; i++)
		endpoint_refresh(e, w->vni, &s->members.data[i].ip);
	return 0;
}

void ebpf_del_service(struct ebpf *e, uint64_t key)
{
	struct service *s = service_of(e, key);
	struct abi_service *a;

	if (!s)
		return;
	a = &e->services[s->index];
	publish(e, s, 0, 0);
	for (size_t i = 0; i < s->members.len; i++)
		e->backends[s->members.data[i].backend].state = BACKEND_GONE;
	drop_gone(e, s);
	a->flags = 0;
	a->key = 0;
	for (size_t i = 0; i < e->service_list.len; i++)
		if (e->service_list.data[i] == s) {
			vec_remove(&e->service_list, i);
			break;
		}
	vec_fini(&s->members);
	free(s->others);
	free(s);
}

/* ---- after a restart ---- */

static void adopt_table(struct ebpf *e, __u64 *table)
{
	if (!table_sane(e, *table))
		*table = 0;
	memset(e->chunk_used + (*table >> 8), 1, chunks_of(*table));
}

void lb_adopt(struct ebpf *e)
{
	CLEAN_FREE struct service **by_index = xcalloc(e->n_services, sizeof(*by_index));

	e->chunk_used = xcalloc(e->n_chunks, 1);
	e->next_uid = 1;
	for (uint32_t i = 1; i < e->n_services; i++) {
		struct abi_service *a = &e->services[i];
		if (!a->key)
			continue;
		struct service *s = XNEW(struct service);
		s->key = a->key;
		s->index = i;
		adopt_table(e, &a->cur);
		adopt_table(e, &a->prev);
		vec_push(&e->service_list, s);
		by_index[i] = s;
	}
	for (uint32_t i = 1; i < e->n_backends; i++) {
		struct abi_backend *b = &e->backends[i];
		struct member m = { .ip = b->ip, .backend = (uint16_t)i };
		if (b->uid >= e->next_uid)
			e->next_uid = b->uid + 1;
		if (b->state == BACKEND_FREE)
			continue;
		if (b->service < e->n_services && by_index[b->service])
			vec_push(&by_index[b->service]->members, m);
		else
			b->state = BACKEND_FREE;
	}
}

void lb_sweep(struct ebpf *e)
{
	for (size_t i = e->service_list.len; i-- > 0;)
		if (e->service_list.data[i]->pass != e->pass)
			ebpf_del_service(e, e->service_list.data[i]->key);
}

void lb_fini(struct ebpf *e)
{
	for (size_t i = 0; i < e->service_list.len; i++) {
		vec_fini(&e->service_list.data[i]->members);
		free(e->service_list.data[i]->others);
		free(e->service_list.data[i]);
	}
	vec_fini(&e->service_list);
	vec_fini(&e->limbo);
	free(e->chunk_used);
}
