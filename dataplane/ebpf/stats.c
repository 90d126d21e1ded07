// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading back: flows, counters. */
#include <errno.h>
#include <netinet/in.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dataplane/ebpf/internal.h"

#define BATCH 512
/* A handshake that did not finish in this time never will. */
#define SYN_IDLE_NS (60ULL * 1000000000)

static const char *const drop_ids[] = {
#define X(name, id, text) id,
	ABI_DROPS(X)
#undef X
};
static const char *const drop_texts[] = {
#define X(name, id, text) text,
	ABI_DROPS(X)
#undef X
};
static const char *const event_ids[] = {
#define X(name, id, text) id,
	ABI_EVENTS(X)
#undef X
};
static const char *const event_texts[] = {
#define X(name, id, text) text,
	ABI_EVENTS(X)
#undef X
};
_Static_assert(sizeof(struct abi_stats) == sizeof(struct dp_counters), "every counter has its place");

/* ---- flows ---- */

typedef void (*flow_fn)(void *arg, const struct abi_flow_key *k, const struct abi_flow *f);

static int flow_each(int fd, flow_fn fn, void *arg)
{
	CLEAN_FREE struct abi_flow_key *keys = xcalloc(BATCH, sizeof(*keys));
	CLEAN_FREE struct abi_flow *values = xcalloc(BATCH, sizeof(*values));
	uint32_t next = 0, batch = BATCH, n;
	bool first = true;
	int rc;

	for (;;) {
		uint32_t cursor = next;
		n = batch;
		rc = bpf_map_lookup_batch(fd, first ? NULL : &cursor, &next, keys, values, &n, NULL);
		if (rc && errno == ENOSPC) {
			/* One bucket holds more than the batch. */
			batch *= 4;
			keys = xrealloc(keys, batch * sizeof(*keys));
			values = xrealloc(values, batch * sizeof(*values));
			continue;
		}
		if (rc && errno != ENOENT)
			return -errno;
		for (uint32_t i = 0; i < n; i++)
			fn(arg, &keys[i], &values[i]);
		if (rc)
			return 0;
		first = false;
	}
}

struct flow_count {
	__be32 task;
	uint64_t now_ns;
	size_t n;
};

static void on_count(void *arg, const struct abi_flow_key *k, const struct abi_flow *f)
{
	struct flow_count *c = arg;
	uint64_t idle = c->now_ns > f->seen_ns ? c->now_ns - f->seen_ns : 0;

	if (k->task != c->task || k->proto != IPPROTO_TCP || f->state == FLOW_CLOSED)
		return;
	if (f->state == FLOW_SYN && idle > SYN_IDLE_NS)
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
	rc = flow_each(e->flows_fd, on_count, &c);
	*out = c.n;
	return rc;
}

struct flow_purge {
	__be32 task;
	int fd;
};

static void on_purge(void *arg, const struct abi_flow_key *k, const struct abi_flow *f)
{
	struct flow_purge *p = arg;

	(void)f;
	if (k->task == p->task)
		(void)bpf_map_delete_elem(p->fd, k);
}

void ebpf_flow_purge(struct ebpf *e, const struct dp_ip *task)
{
	struct flow_purge p = { .task = ebpf_addr(task).w[3], .fd = e->flows_fd };

	/* A table that cannot be read ages out by itself. */
	(void)flow_each(p.fd, on_purge, &p);
	p.fd = e->vip_flows_fd;
	(void)flow_each(p.fd, on_purge, &p);
}

/* ---- counters ---- */

static uint64_t counter(int fd, uint32_t i)
{
	int cpus = libbpf_num_possible_cpus();
	CLEAN_FREE uint64_t *v = xcalloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*v));
	uint64_t sum = 0;

	if (cpus <= 0 || bpf_map_lookup_elem(fd, &i, v))
		return 0;
	for (int c = 0; c < cpus; c++)
		sum += v[c];
	return sum;
}

void stats_clear(struct ebpf *e, uint32_t backend)
{
	int cpus = libbpf_num_possible_cpus();
	CLEAN_FREE struct abi_stats *zero = xcalloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*zero));
	uint32_t in = backend % ABI_SEGMENT_BACKENDS;

	/* Counters of an earlier owner are an untidiness, no failure. */
	if (cpus > 0 && backend < segments_size(&e->stats))
		(void)bpf_map_update_elem(e->stats.fds[backend / ABI_SEGMENT_BACKENDS], &in, zero, BPF_ANY);
}

static const size_t counters_of[][2] = {
#define X(name) { offsetof(struct abi_stats, name), offsetof(struct dp_counters, name) },
	ABI_STATS(X)
#undef X
};

static void add_backend(const struct ebpf *e, uint32_t i, struct dp_counters *out)
{
	int cpus = libbpf_num_possible_cpus();
	CLEAN_FREE struct abi_stats *v = xcalloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*v));
	uint32_t in = i % ABI_SEGMENT_BACKENDS;

	if (cpus <= 0 || i >= segments_size(&e->stats) ||
	    bpf_map_lookup_elem(e->stats.fds[i / ABI_SEGMENT_BACKENDS], &in, v))
		return;
	for (int c = 0; c < cpus; c++)
		for (size_t f = 0; f < ARRAY_SIZE(counters_of); f++)
			*(uint64_t *)((char *)out + counters_of[f][1]) +=
				*(const uint64_t *)((const char *)&v[c] + counters_of[f][0]);
}

int ebpf_service_stats(struct ebpf *e, uint64_t service, const struct dp_ip *ip, struct dp_counters *out)
{
	const struct service *s = lb_service(e, service);
	bool found = s && !ip;

	memset(out, 0, sizeof(*out));
	for (size_t m = 0; s && m < s->members.len; m++) {
		if (ip && memcmp(&s->members.data[m]->at.ip, ip->b, sizeof(struct abi_addr)) != 0)
			continue;
		add_backend(e, s->members.data[m]->backend, out);
		found = true;
	}
	return found ? 0 : MESH_E_NOT_FOUND;
}

uint64_t ebpf_refused(const struct ebpf *e, uint64_t service)
{
	uint32_t i = lb_service_index(e, service);

	return i ? e->services[i].refused : 0;
}

bool ebpf_drop(struct ebpf *e, unsigned i, const char **id, const char **text, uint64_t *packets)
{
	if (i >= DROP_MAX)
		return false;
	*id = drop_ids[i];
	*text = drop_texts[i];
	*packets = counter(e->drops_fd, i);
	return true;
}

/* Entries of a table that only the programs write. */
static uint64_t map_count(int fd, size_t key_size, size_t value_size)
{
	CLEAN_FREE char *keys = xcalloc(BATCH, key_size);
	CLEAN_FREE char *values = xcalloc(BATCH, value_size);
	uint32_t next = 0, batch = BATCH;
	uint64_t all = 0;

	for (bool first = true;; first = false) {
		uint32_t cursor = next, n = batch;
		int rc = bpf_map_lookup_batch(fd, first ? NULL : &cursor, &next, keys, values, &n, NULL);
		if (rc && errno == ENOSPC) {
			/* One bucket holds more than the batch. */
			batch *= 4;
			keys = xrealloc(keys, batch * key_size);
			values = xrealloc(values, batch * value_size);
			continue;
		}
		all += rc && errno != ENOENT ? 0 : n;
		if (rc)
			return all;
	}
}

static void add_table(struct dp_stats *out, const char *name, uint64_t used, uint64_t max)
{
	struct dp_table_stats *t = LIST_ADD(&out->tables);

	*t = (struct dp_table_stats){ xstrdup(name), used, max };
}

static void add_count(void *list, const char *id, const char *text, uint64_t n)
{
	struct dp_count *c = sch_list_add(list, sizeof(*c));

	*c = (struct dp_count){ xstrdup(id), xstrdup(text), n };
}

static uint64_t map_max(int fd)
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.max_entries;
}

/* Element 0 of each is unused. */
static uint64_t numbers_used(const struct numbers *n)
{
	return n->next > 1 + n->free.len ? n->next - 1 - n->free.len : 0;
}

static void add_backends_used(struct ebpf *e, struct dp_stats *out)
{
	add_table(out, "services", numbers_used(&e->free_services), e->n_services - 1);
	add_table(out, "backends", numbers_used(&e->free_backends), (uint64_t)e->backends.max * e->backends.per - 1);
	add_table(out, "slot_tables", e->tables_used,
	          (uint64_t)e->slots.max * e->slots.per * ABI_CHUNK >> MAGLEV_BITS_MIN);
}

void ebpf_stats(struct ebpf *e, struct dp_stats *out)
{
	const struct {
		const char *name;
		const struct table *t;
	} ours[] = { { "ifaces", &e->ifaces },
		     { "endpoints", &e->endpoints },
		     { "vips", &e->vips },
		     { "ports", &e->ports },
		     { "nodes", &e->nodes } };
	const struct {
		const char *name;
		int fd;
		size_t key, value;
	} theirs[] = {
		{ "flows", e->flows_fd, sizeof(struct abi_flow_key), sizeof(struct abi_flow) },
		{ "vip_flows", e->vip_flows_fd, sizeof(struct abi_flow_key), sizeof(struct abi_flow) },
		{ "choices", e->choices_fd, sizeof(struct abi_choice_key), sizeof(struct abi_choice) },
		{ "socks", e->socks_fd, sizeof(struct abi_sock_key), sizeof(struct abi_sock) },
	};

	for (uint32_t i = 0; i < DROP_MAX; i++)
		add_count(&out->drops, drop_ids[i], drop_texts[i], counter(e->drops_fd, i));
	for (uint32_t i = 0; i < EVENT_MAX; i++)
		add_count(&out->events, event_ids[i], event_texts[i], counter(e->events_fd, i));
	add_backends_used(e, out);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		add_table(out, ours[i].name, ours[i].t->entries.count, ours[i].t->max);
	for (size_t i = 0; i < ARRAY_SIZE(theirs); i++)
		add_table(out, theirs[i].name, map_count(theirs[i].fd, theirs[i].key, theirs[i].value),
		          map_max(theirs[i].fd));
}
