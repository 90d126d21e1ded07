// SPDX-License-Identifier: GPL-2.0-or-later
/* Packets on show: who watches what, and what the programs have put into the ring. */
#include <errno.h>
#include <netinet/in.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "dataplane/ebpf/internal.h"
#include "from_lo.skel.h"
#include "from_task.skel.h"
#include "from_uplink.skel.h"
#include "from_vxlan.skel.h"
#include "from_xdp.skel.h"
#include "sock.skel.h"

static const char *const hook_ids[HOOK_MAX] = { "uplink", "host", "tunnel", "task", "socket" };
static const char *const verdict_ids[] = {
#define X(name, id) id,
	ABI_VERDICTS(X)
#undef X
};
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

/* ---- one event ---- */

static struct dp_ip ip4(__be32 a)
{
	struct dp_ip ip = { { 0 } };

	if (!a)
		return ip;
	ip.b[10] = ip.b[11] = 0xff;
	memcpy(ip.b + 12, &a, 4);
	return ip;
}

static struct dp_place place(__be32 addr, __be16 port)
{
	return (struct dp_place){ .ip = ip4(addr), .port = ntohs(port) };
}

int ebpf_seen_decode(const void *p, size_t n, struct dp_seen *out)
{
	struct abi_seen s;

	if (n < sizeof(s))
		return MESH_E_CORRUPT;
	memcpy(&s, p, sizeof(s));
	if (s.hook >= HOOK_MAX || s.verdict >= VERDICT_MAX || s.reason >= DROP_MAX)
		return MESH_E_CORRUPT;
	bool dropped = s.verdict == VERDICT_DROP || s.verdict == VERDICT_REFUSE;
	*out = (struct dp_seen){
		.mono_ns = s.time_ns,
		.netns = s.netns,
		.watchers = s.watchers,
		.hook = hook_ids[s.hook],
		.verdict = verdict_ids[s.verdict],
		.reason = dropped ? drop_ids[s.reason] : "",
		.text = dropped ? drop_texts[s.reason] : "",
		.from = place(s.saddr, s.sport),
		.to = place(s.daddr, s.dport),
		.new_from = place(s.new_saddr, s.new_sport),
		.new_to = place(s.new_daddr, s.new_dport),
		.node = ip4(s.node),
		.target = ip4(s.target),
		.vni = s.vni,
		.ifindex = s.ifindex,
		.out_ifindex = s.out_ifindex,
		.length = s.len,
		.ethertype = ntohs(s.ethertype),
		.protocol = s.proto,
		.tcp = s.tcp,
		.ttl = s.ttl,
	};
	for (unsigned i = 0; i < EVENT_MAX; i++)
		if (s.notes & 1u << i)
			out->notes[out->n_notes++] = event_ids[i];
	return 0;
}
_Static_assert(EVENT_MAX <= DP_NOTES_MAX, "room for every note");

/* ---- who watches ---- */

static void switch_all(struct ebpf *e, bool on)
{
	e->task->bss->seen_on = e->vxlan->bss->seen_on = e->uplink->bss->seen_on = on;
	e->lo->bss->seen_on = e->sock->bss->seen_on = on;
	if (e->xdp)
		e->xdp->bss->seen_on = on;
}

static void mask_set(__u16 *mask, unsigned watcher, bool on)
{
	__u16 bit = (__u16)(1u << watcher);

	*mask = on ? *mask | bit : *mask & (__u16)~bit;
}

static int role_add(struct ebpf *e, const struct abi_watch_key *k, unsigned watcher, bool to, struct mesh_err *err)
{
	int fd = bpf_map__fd(e->task->maps.watched);
	struct abi_watch w = { 0 };

	/* Absent: nobody watches it yet. */
	(void)bpf_map_lookup_elem(fd, k, &w);
	mask_set(to ? &w.to : &w.from, watcher, true);
	if (bpf_map_update_elem(fd, k, &w, BPF_ANY))
		return mesh_fail(err, -errno, "more addresses to watch than there is room for");
	return 0;
}

static int add_places(struct ebpf *e, const struct dp_place *v, size_t n, unsigned watcher, bool to,
                      struct mesh_err *err)
{
	for (size_t i = 0; i < n; i++) {
		struct abi_watch_key k = { .id = ebpf_addr(&v[i].ip).w[3], .port = htons(v[i].port) };
		int rc = role_add(e, &k, watcher, to, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* Takes the watcher off every address; entries nobody watches go. */
static void forget(struct ebpf *e, unsigned watcher)
{
	int fd = bpf_map__fd(e->task->maps.watched);
	struct VEC(struct abi_watch_key) keys = { 0 };
	struct abi_watch_key k, *at = NULL;

	for (; bpf_map_get_next_key(fd, at, &k) == 0; at = &keys.data[keys.len - 1])
		vec_push(&keys, k);
	for (size_t i = 0; i < keys.len; i++) {
		struct abi_watch w;
		if (bpf_map_lookup_elem(fd, &keys.data[i], &w))
			continue;
		mask_set(&w.from, watcher, false);
		mask_set(&w.to, watcher, false);
		if (w.from || w.to)
			(void)bpf_map_update_elem(fd, &keys.data[i], &w, BPF_ANY);
		else
			(void)bpf_map_delete_elem(fd, &keys.data[i]);
	}
	vec_fini(&keys);
}

void ebpf_unwatch(struct ebpf *e, unsigned watcher)
{
	struct abi_runtime *rt = e->runtime;
	__u16 *masks[] = { &rt->from_any, &rt->to_any, &rt->tcp, &rt->udp, &rt->other, &rt->drops };

	for (size_t i = 0; i < ARRAY_SIZE(masks); i++)
		mask_set(masks[i], watcher, false);
	forget(e, watcher);
	e->watchers &= ~(1u << watcher);
	if (!e->watchers)
		switch_all(e, false);
}

int ebpf_watch(struct ebpf *e, unsigned watcher, const struct dp_filter *f, struct mesh_err *err)
{
	struct abi_runtime *rt = e->runtime;
	int rc;

	ebpf_unwatch(e, watcher);
	rc = add_places(e, f->from.data, f->from.len, watcher, false, err);
	rc = rc ? rc : add_places(e, f->to.data, f->to.len, watcher, true, err);
	for (size_t i = 0; i < f->netns.len && !rc; i++) {
		struct abi_watch_key k = { .id = WATCH_NETNS | f->netns.data[i] };
		rc = role_add(e, &k, watcher, false, err);
	}
	if (rc) {
		ebpf_unwatch(e, watcher);
		return rc;
	}
	mask_set(&rt->from_any, watcher, !f->from.len);
	mask_set(&rt->to_any, watcher, !f->to.len);
	mask_set(&rt->tcp, watcher, f->packets && (!f->protocol || f->protocol == IPPROTO_TCP));
	mask_set(&rt->udp, watcher, f->packets && (!f->protocol || f->protocol == IPPROTO_UDP));
	mask_set(&rt->other, watcher, f->packets && (!f->protocol || f->protocol == IPPROTO_ICMP));
	mask_set(&rt->drops, watcher, f->drops);
	e->watchers |= 1u << watcher;
	switch_all(e, true);
	return 0;
}

/* ---- reading ---- */

struct reading {
	void (*fn)(void *arg, const struct dp_seen *s);
	void *arg;
};

static int on_event(void *ctx, void *data, size_t n)
{
	struct ebpf *e = ctx;
	struct reading *r = e->reading;
	struct dp_seen s;

	if (r && ebpf_seen_decode(data, n, &s) == 0)
		r->fn(r->arg, &s);
	return 0;
}

/* Grows while the programs find no room in the ring. */
static uint64_t unseen(const struct ebpf *e)
{
	return stats_event(e, EVENT_UNSEEN);
}

uint64_t ebpf_watch_read(struct ebpf *e, void (*fn)(void *arg, const struct dp_seen *s), void *arg)
{
	struct reading r = { fn, arg };
	uint64_t before = e->unseen;

	e->reading = &r;
	(void)ring_buffer__consume(e->ring); /* a failure is the next reading's business */
	e->reading = NULL;
	e->unseen = unseen(e);
	return e->unseen - before;
}

int watch_open(struct ebpf *e, struct mesh_err *err)
{
	e->ring = ring_buffer__new(bpf_map__fd(e->task->maps.seen), on_event, e, NULL);
	if (!e->ring)
		return mesh_fail(err, -errno, "ring of packets on show");
	/* Those of an earlier run are gone, and what they did not read is of no interest. */
	for (unsigned i = 0; i < DP_WATCHERS_MAX; i++)
		ebpf_unwatch(e, i);
	(void)ring_buffer__consume(e->ring);
	e->unseen = unseen(e);
	return 0;
}

void watch_close(struct ebpf *e)
{
	if (e->ring)
		ring_buffer__free(e->ring);
	e->ring = NULL;
}
