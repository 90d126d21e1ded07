// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Where load balancing tables and backends live: segments that are added when there is no room. A segment of "slots"
 * holds tables of one size, so that neither taking nor giving back depends on how many there are.
 */
#include <time.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"

#define LIMBO_MS 20

uint64_t lb_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t chunks_of(unsigned bits)
{
	return ((1u << bits) + ABI_CHUNK - 1) / ABI_CHUNK;
}

uint32_t *lb_table(const struct ebpf *e, uint64_t table)
{
	return table ? ((struct abi_chunk *)segments_at(&e->slots, (uint32_t)(table >> 8)))->slot : NULL;
}

/* ---- what readers may still see ---- */

static void release(struct ebpf *e, const struct limbo *l)
{
	unsigned bits = l->table & 0xff;

	if (l->table) {
		vec_push(&e->free_tables[bits], (uint32_t)(l->table >> 8));
		e->tables_used -= chunks_of(bits);
	} else {
		backend_at(e, l->backend)->state = BACKEND_FREE;
		vec_push(&e->free_backends.free, l->backend);
	}
}

void lb_limbo_release(struct ebpf *e, bool all)
{
	uint64_t now = lb_now_ns() / 1000000;

	while (e->limbo_first < e->limbo.len && (all || now - e->limbo.data[e->limbo_first].at_ms >= LIMBO_MS))
		release(e, &e->limbo.data[e->limbo_first++]);
	if (e->limbo_first == e->limbo.len)
		e->limbo_first = e->limbo.len = 0;
}

void lb_table_free(struct ebpf *e, uint64_t table)
{
	struct limbo l = { .at_ms = lb_now_ns() / 1000000, .table = table };

	if (table)
		vec_push(&e->limbo, l);
}

void lb_backend_free(struct ebpf *e, uint32_t backend)
{
	struct limbo l = { .at_ms = lb_now_ns() / 1000000, .backend = backend };

	vec_push(&e->limbo, l);
}

/* ---- room ---- */

uint32_t lb_number_take(struct numbers *n, uint32_t end, bool *fresh)
{
	*fresh = !n->free.len && n->next < end;
	if (n->free.len)
		return n->free.data[--n->free.len];
	return *fresh ? n->next++ : 0;
}

static void offer_segment(struct ebpf *e, uint32_t segment, unsigned bits)
{
	uint32_t n = chunks_of(bits);

	for (uint32_t i = ABI_SEGMENT_CHUNKS; i >= n; i -= n)
		vec_push(&e->free_tables[bits], segment * ABI_SEGMENT_CHUNKS + i - n);
}

static void more_tables(struct ebpf *e, unsigned bits)
{
	bool fresh;
	uint32_t segment = lb_number_take(&e->free_segments, 0, &fresh);

	if (!segment) {
		uint32_t had = e->slots.n;
		/* Rather a reader that meets a table half rewritten than a service that does not change. */
		if (segments_grow(&e->slots) && e->slots.n == had)
			lb_limbo_release(e, true);
		for (uint32_t s = e->slots.n; s > had; s--)
			vec_push(&e->free_segments.free, s);
		segment = lb_number_take(&e->free_segments, 0, &fresh);
	}
	if (segment)
		offer_segment(e, segment - 1, bits);
}

uint64_t lb_table_alloc(struct ebpf *e, unsigned bits)
{
	if (!e->free_tables[bits].len)
		more_tables(e, bits);
	if (!e->free_tables[bits].len)
		return 0;
	e->tables_used += chunks_of(bits);
	return (uint64_t)e->free_tables[bits].data[--e->free_tables[bits].len] << 8 | bits;
}

uint32_t lb_backend_alloc(struct ebpf *e)
{
	bool fresh;
	uint32_t i = lb_number_take(&e->free_backends, segments_size(&e->backends), &fresh);

	if (!i && segments_grow(&e->backends))
		lb_limbo_release(e, true);
	if (!i)
		i = lb_number_take(&e->free_backends, segments_size(&e->backends), &fresh);
	if (i && !fresh)
		stats_clear(e, i);
	/* A backend that is not counted is a backend all the same. */
	if (i >= segments_size(&e->stats) && segments_grow(&e->stats))
		log_warn("no memory to count what backends get backend=%u", i);
	return i;
}

/* ---- after a restart ---- */

struct lb_adoption *lb_adoption_new(const struct ebpf *e)
{
	struct lb_adoption *a = XNEW(struct lb_adoption);

	a->used = xcalloc(segments_size(&e->slots) + 1, 1);
	a->bits = xcalloc(e->slots.n + 1, 1);
	return a;
}

/* Each table within its segment, at a multiple of its size, beside others of that size, nobody else's. */
bool lb_adopt_table(struct ebpf *e, struct lb_adoption *a, uint64_t table)
{
	unsigned bits = table & 0xff;
	uint32_t first = (uint32_t)(table >> 8);

	if (!table)
		return true;
	if (bits < MAGLEV_BITS_MIN || bits > MAGLEV_BITS_MAX || table >> 40 || first >= segments_size(&e->slots))
		return false;
	uint32_t n = chunks_of(bits);
	uint8_t *in = &a->bits[first / ABI_SEGMENT_CHUNKS];
	if (first % n || (*in && *in != bits) || a->used[first])
		return false;
	*in = (uint8_t)bits;
	a->used[first] = 1;
	e->tables_used += n;
	return true;
}

void lb_adoption_end(struct ebpf *e, struct lb_adoption *a)
{
	for (uint32_t s = e->slots.n; s-- > 0;) {
		uint32_t n = a->bits[s] ? chunks_of(a->bits[s]) : 0;
		if (!n)
			vec_push(&e->free_segments.free, s + 1);
		for (uint32_t i = ABI_SEGMENT_CHUNKS; n && i >= n; i -= n)
			if (!a->used[s * ABI_SEGMENT_CHUNKS + i - n])
				vec_push(&e->free_tables[a->bits[s]], s * ABI_SEGMENT_CHUNKS + i - n);
	}
	free(a->used);
	free(a->bits);
	free(a);
}

void lb_tables_fini(struct ebpf *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(e->free_tables); i++)
		vec_fini(&e->free_tables[i]);
	vec_fini(&e->free_services.free);
	vec_fini(&e->free_backends.free);
	vec_fini(&e->free_segments.free);
	vec_fini(&e->limbo);
}
