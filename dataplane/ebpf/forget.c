// SPDX-License-Identifier: GPL-2.0-or-later
/* The tables that forget: flows, choices, sockets. The programs fill them; here they are read and purged. */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <time.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"
#include "dataplane/seen.h"

#define BATCH 512
/* A handshake that did not finish in this time never will. */
#define SYN_IDLE_NS (60ULL * 1000000000)

static const struct {
	const char *name;
	size_t key, value;
} tables[] = {
#define X(id, map, k, v) { #map, sizeof(k), sizeof(v) },
	ABI_TABLES(X)
#undef X
};

typedef void (*entry_fn)(void *arg, const void *key, const void *value);

static int each(const struct ebpf *e, enum abi_table t, entry_fn fn, void *arg)
{
	size_t ks = tables[t].key, vs = tables[t].value;
	CLEAN_FREE char *keys = xcalloc(BATCH, ks), *values = xcalloc(BATCH, vs);
	uint32_t next = 0, batch = BATCH, n;
	bool first = true;
	int rc;

	for (;;) {
		uint32_t cursor = next;
		n = batch;
		rc = bpf_map_lookup_batch(e->table_fd[t], first ? NULL : &cursor, &next, keys, values, &n, NULL);
		if (rc && errno == ENOSPC) {
			/* One bucket holds more than the batch. */
			batch *= 4;
			keys = xrealloc(keys, batch * ks);
			values = xrealloc(values, batch * vs);
			continue;
		}
		if (rc && errno != ENOENT)
			return -errno;
		for (uint32_t i = 0; i < n; i++)
			fn(arg, keys + i * ks, values + i * vs);
		if (rc)
			return 0;
		first = false;
	}
}

/* ---- flows ---- */

struct flow_count {
	__be32 task;
	uint64_t now_ns;
	size_t n;
};

static void on_count(void *arg, const void *key, const void *value)
{
	const struct abi_flow_key *k = key;
	const struct abi_flow *f = value;
	struct flow_count *c = arg;
	uint64_t idle = c->now_ns > f->seen_ns ? c->now_ns - f->seen_ns : 0;

	if (k->task != c->task || k->proto != IPPROTO_TCP || f->state == FLOW_CLOSED)
		return;
	if (f->state == FLOW_SYN && (idle > SYN_IDLE_NS || (f->flags & FLOW_REFUSED)))
		return;
	c->n++;
}

int ebpf_flow_count(struct ebpf *e, const struct dp_ip *task, size_t *out)
{
	struct flow_count c = { .task = ebpf_addr(task).w[3] };
	struct timespec t;
	int rc;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	c.now_ns = (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
	rc = each(e, TABLE_FLOWS, on_count, &c);
	rc = rc ? rc : each(e, TABLE_SYNS, on_count, &c);
	*out = c.n;
	return rc;
}

struct flow_purge {
	__be32 task;
	int fd;
	uint64_t n;
};

static void on_purge(void *arg, const void *key, const void *value)
{
	struct flow_purge *p = arg;

	(void)value;
	if (((const struct abi_flow_key *)key)->task == p->task)
		p->n += !bpf_map_delete_elem(p->fd, key);
}

void ebpf_flow_purge(struct ebpf *e, const struct dp_ip *task)
{
	static const enum abi_table of_flows[] = { TABLE_FLOWS, TABLE_SYNS, TABLE_VIP_FLOWS };

	for (size_t i = 0; i < ARRAY_SIZE(of_flows); i++) {
		enum abi_table t = of_flows[i];
		struct flow_purge p = { .task = ebpf_addr(task).w[3], .fd = e->table_fd[t] };
		/* A table that cannot be read ages out by itself. */
		(void)each(e, t, on_purge, &p);
		__atomic_fetch_add(&e->runtime->removed[t], p.n, __ATOMIC_RELAXED);
	}
}

/* ---- occupancy ---- */

static void on_any(void *arg, const void *key, const void *value)
{
	(void)key;
	(void)value;
	++*(uint64_t *)arg;
}

/* What went in and is neither there nor was taken out made room for others. */
void forget_stats(struct ebpf *e, struct dp_stats *out)
{
	for (enum abi_table t = 0; t < TABLE_MAX; t++) {
		struct bpf_map_info info = {};
		uint32_t len = sizeof(info);
		uint64_t used = 0, in = stats_counter(e->inserted_fd, t), gone = e->runtime->removed[t];
		if (bpf_obj_get_info_by_fd(e->table_fd[t], &info, &len) || each(e, t, on_any, &used))
			continue;
		struct dp_table_stats *s = LIST_ADD(&out->tables);
		*s = (struct dp_table_stats){ .name = xstrdup(tables[t].name),
			                      .used = used,
			                      .max = info.max_entries,
			                      .evicted = in > used + gone ? in - used - gone : 0 };
	}
}
