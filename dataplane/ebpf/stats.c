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

static void on_any(void *arg, const struct abi_flow_key *k, const struct abi_flow *f)
{
	size_t *n = arg;

	(void)k;
	*n += f->state != FLOW_CLOSED;
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

static void add_backend(const struct ebpf *e, uint32_t i, struct ebpf_stats *out)
{
	int cpus = libbpf_num_possible_cpus();
	CLEAN_FREE struct abi_stats *v = xcalloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*v));
	uint32_t in = i % ABI_SEGMENT_BACKENDS;

	if (cpus <= 0 || i >= segments_size(&e->stats) ||
	    bpf_map_lookup_elem(e->stats.fds[i / ABI_SEGMENT_BACKENDS], &in, v))
		return;
	for (int c = 0; c < cpus; c++) {
		out->packets_in += v[c].packets_in;
		out->bytes_in += v[c].bytes_in;
		out->packets_out += v[c].packets_out;
		out->bytes_out += v[c].bytes_out;
		out->conns += v[c].conns;
	}
}

int ebpf_service_stats(struct ebpf *e, uint64_t service, const struct dp_ip *ip, struct ebpf_stats *out)
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

bool ebpf_drop(struct ebpf *e, unsigned i, const char **id, const char **text, uint64_t *packets)
{
	if (i >= DROP_MAX)
		return false;
	*id = drop_ids[i];
	*text = drop_texts[i];
	*packets = counter(e->drops_fd, i);
	return true;
}

void ebpf_metrics(struct ebpf *e, struct buf *out)
{
	size_t flows = 0;

	buf_puts(out, "# HELP mesh_dropped_packets_total Packets dropped by the data plane.\n"
	              "# TYPE mesh_dropped_packets_total counter\n");
	for (uint32_t i = 0; i < DROP_MAX; i++)
		buf_printf(out, "mesh_dropped_packets_total{reason=\"%s\"} %llu\n", drop_ids[i],
		           (unsigned long long)counter(e->drops_fd, i));
	buf_puts(out, "# HELP mesh_dataplane_events_total What the data plane did, by kind.\n"
	              "# TYPE mesh_dataplane_events_total counter\n");
	for (uint32_t i = 0; i < EVENT_MAX; i++)
		buf_printf(out, "mesh_dataplane_events_total{event=\"%s\"} %llu\n", event_ids[i],
		           (unsigned long long)counter(e->events_fd, i));
	if (flow_each(e->flows_fd, on_any, &flows) == 0)
		buf_printf(out,
		           "# HELP mesh_flows Flows through published ports to tasks of this node.\n"
		           "# TYPE mesh_flows gauge\nmesh_flows %zu\n",
		           flows);
}
