// SPDX-License-Identifier: GPL-2.0-or-later
/* Reading back: flows, counters. */
#include <errno.h>
#include <netinet/in.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dataplane/ebpf/internal.h"

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

/* ---- counters ---- */

uint64_t stats_counter(int fd, uint32_t i)
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

static struct abi_events all_events(const struct ebpf *e)
{
	int cpus = libbpf_num_possible_cpus();
	CLEAN_FREE struct abi_events *v = xcalloc((size_t)(cpus > 0 ? cpus : 1), sizeof(*v));
	struct abi_events sum = {};
	uint32_t zero = 0;

	if (cpus <= 0 || bpf_map_lookup_elem(e->events_fd, &zero, v))
		return sum;
	for (int c = 0; c < cpus; c++)
		for (uint32_t i = 0; i < EVENT_MAX; i++)
			sum.n[i] += v[c].n[i];
	return sum;
}

uint64_t stats_event(const struct ebpf *e, enum abi_event i)
{
	return all_events(e).n[i];
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
	*packets = stats_counter(e->drops_fd, i);
	return true;
}

static void add_table(struct dp_stats *out, const char *name, uint64_t used, uint64_t max)
{
	struct dp_table_stats *t = LIST_ADD(&out->tables);

	*t = (struct dp_table_stats){ .name = xstrdup(name), .used = used, .max = max };
}

static void add_count(void *list, const char *id, const char *text, uint64_t n)
{
	struct dp_count *c = sch_list_add(list, sizeof(*c));

	*c = (struct dp_count){ xstrdup(id), xstrdup(text), n };
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

	for (uint32_t i = 0; i < DROP_MAX; i++)
		add_count(&out->drops, drop_ids[i], drop_texts[i], stats_counter(e->drops_fd, i));
	struct abi_events events = all_events(e);
	for (uint32_t i = 0; i < EVENT_MAX; i++)
		add_count(&out->events, event_ids[i], event_texts[i], events.n[i]);
	add_backends_used(e, out);
	for (size_t i = 0; i < ARRAY_SIZE(ours); i++)
		add_table(out, ours[i].name, ours[i].t->entries.count, ours[i].t->max);
	forget_stats(e, out);
}
