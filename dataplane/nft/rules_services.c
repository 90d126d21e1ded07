/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which backend a new connection gets, and how a packet goes there. */
#include <math.h>
#include <stdio.h>

#include "dataplane/nft/rules_int.h"

#define SLOTS 128

struct choice VEC(const struct ebpf_backend *);

static void serving(const struct item *svc, struct choice *out)
{
	for (size_t i = 0; svc && i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		if (b->state == DP_SERVING && !b->spare && dp_ip_is_v4(&b->ip))
			vec_push(out, b);
	}
}

/* The highest of a backend's scores wins the slot: a backend that comes or goes moves no slot between others. */
static const struct ebpf_backend *winner(const struct choice *c, unsigned slot)
{
	const struct ebpf_backend *best = NULL;
	double top = 0;
	for (size_t i = 0; i < c->len; i++) {
		uint32_t key[2] = { slot, rules_v4(&c->data[i]->ip) };
		double u = ((double)(hash64(key, sizeof(key)) >> 11) + 0.5) / 9007199254740992.0;
		double score = (c->data[i]->weight ? c->data[i]->weight : 1) / -log(u);
		if (!best || score > top) {
			best = c->data[i];
			top = score;
		}
	}
	return best;
}

static const char *backend_chain(const struct ebpf_backend *b, char out[16])
{
	snprintf(out, 16, "%s_%08x", b->local ? "l" : "r", rules_v4(&b->ip));
	return out;
}

/*
 * What is remembered goes there as long as the task is there, whatever the set becomes. Datagrams only while it serves:
 * nobody waits for them when it stops, and a port that another socket of the client has now is the same flow.
 */
static void live(struct rules *r, const struct ebpf_backend *b, const char *chain)
{
	CLEAN_FREE char *verdict = xasprintf("goto %s", chain);
	rules_elem(r, verdict, "live\n0x%08x", rules_task_mark(&b->ip));
	if (b->state == DP_SERVING)
		rules_elem(r, verdict, "serving\n0x%08x", rules_task_mark(&b->ip));
}

static void remote_rules(struct rules *r, const struct rules_in *in, const struct ebpf_backend *b)
{
	struct buf body = { 0 };
	char name[16];
	backend_chain(b, name);
	/* On the output hook nothing: what it sends comes again through lo. */
	buf_printf(&body, "meta iif 0 accept\nmeta mark set 0x%08x\njump hold\ndup to %s device \"%s\" drop",
	           rules_task_mark(&b->ip), IP(&b->ip), in->vxlan);
	rules_chain(r, name, &body);
	live(r, b, name);
	rules_elem(r, IP(&b->ip), "live_at\n0x%08x", rules_task_mark(&b->ip));
}

/* Connection tracking remembers where they go, but datagrams that pause only for 30 s. */
static void local_rules(struct rules *r, const struct ebpf_backend *b)
{
	struct buf body = { 0 };
	char name[16];
	backend_chain(b, name);
	buf_printf(&body, "meta mark set 0x%08x\nmeta l4proto udp ip hdrlength 5 " RULES_HOLD_DATAGRAM "\naccept",
	           rules_task_mark(&b->ip));
	rules_chain(r, name, &body);
	live(r, b, name);
}

static void backend_rules(struct rules *r, const struct rules_in *in, const struct item *svc)
{
	for (size_t i = 0; i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		if (!dp_ip_is_v4(&b->ip))
			continue;
		if (b->local)
			local_rules(r, b);
		else
			remote_rules(r, in, b);
	}
}

/* What finds no serving task. A task hears of it, as a socket would; a client outside asks again. */
static void refuse(struct rules *r, struct buf *body, uint64_t service, bool told)
{
	char name[32];
	buf_printf(body, "counter name \"drop_no_backend\" counter name \"%s\"%s", rules_refused(r, service, name),
	           told ? "\nmeta l4proto tcp reject with tcp reset\nmeta l4proto udp reject\ndrop" : " drop");
}

typedef void (*slot_fn)(struct buf *b, const struct ebpf_backend *backend);
static void goto_backend(struct buf *b, const struct ebpf_backend *backend)
{
	char name[16];
	buf_printf(b, "goto %s", backend_chain(backend, name));
}
static void addr_of_backend(struct buf *b, const struct ebpf_backend *backend)
{
	buf_puts(b, IP(&backend->ip));
}
static void mark_of_backend(struct buf *b, const struct ebpf_backend *backend)
{
	buf_printf(b, "0x%08x", rules_task_mark(&backend->ip));
}

static void range(struct buf *b, uint64_t from, uint64_t to)
{
	buf_printf(b, "%llu", (unsigned long long)from);
	if (to > from)
		buf_printf(b, "-%llu", (unsigned long long)to);
	buf_puts(b, " : ");
}

/* "{ 0-3 : ..., 4 : ... }" of the hash slots. */
static void slots(struct buf *b, const struct choice *c, slot_fn data)
{
	const struct ebpf_backend *at = winner(c, 0);
	unsigned from = 0;
	buf_puts(b, "{ ");
	for (unsigned i = 1; i <= SLOTS; i++) {
		const struct ebpf_backend *next = i < SLOTS ? winner(c, i) : NULL;
		if (next == at)
			continue;
		range(b, from, i - 1);
		data(b, at);
		buf_puts(b, next ? ", " : " }");
		from = i;
		at = next;
	}
}

/* "{ mark : ..., ... }" of those that take new flows. */
static void marks(struct buf *b, const struct choice *c, slot_fn data)
{
	buf_puts(b, "{ ");
	for (size_t i = 0; i < c->len; i++) {
		mark_of_backend(b, c->data[i]);
		buf_puts(b, " : ");
		data(b, c->data[i]);
		buf_puts(b, i + 1 < c->len ? ", " : " }");
	}
}

/*
 * Client affinity: who has a task that takes new flows goes there ("verb { mark : ... }"), for as long as the service says
 * since its last new one; who has none is given the hash's, by the rule that follows. Where the map is full, all go by that.
 * way: one of this service, with which the map tells them apart; of two that are the same to it, neither has the other's tasks.
 */
static void affinity(struct buf *b, const struct item *svc, const struct choice *c, const void *way, size_t n,
                     const char *verb, slot_fn data)
{
	uint32_t key = (uint32_t)hash64(way, n);
	CLEAN_FREE char *keep =
		xasprintf("update @affine { ip saddr . 0x%08x timeout %us : meta mark }\n", key, svc->svc.affinity_s);
	buf_printf(b, "meta mark set 0x%08x\nmeta mark set ip saddr . meta mark map @affine %s%s", key, keep, verb);
	marks(b, c, data);
	buf_printf(b, "\nmeta mark set jhash ip saddr mod %d seed 0x1 map ", SLOTS);
	slots(b, c, mark_of_backend);
	buf_printf(b, " %s", keep);
}

#define VIP_DNAT "meta l4proto { tcp, udp } dnat to "

void rules_vip(struct rules *r, const struct rules_in *in, const struct item *vip)
{
	const struct item *svc = rules_service(in, vip->service);
	struct choice c = { 0 };
	struct buf body = { 0 };
	char name[32];
	uint64_t total = 0;
	if (!svc)
		return;
	for (size_t i = 0; i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		if (dp_ip_is_v4(&b->ip))
			rules_elem(r, "", "%s\n%s", rules_counting[COUNT_VIP_CONNS], IP(&b->ip));
		rules_takes(r, b, &b->ip);
	}
	serving(svc, &c);
	for (size_t i = 0; i < c.len; i++)
		total += c.data[i]->weight ? c.data[i]->weight : 1;
	if (c.len && svc->svc.affinity_s) {
		affinity(&body, svc, &c, &vip->addr, sizeof(vip->addr), VIP_DNAT "meta mark map ", addr_of_backend);
		buf_printf(&body, VIP_DNAT "jhash ip saddr mod %d seed 0x1 map ", SLOTS);
		slots(&body, &c, addr_of_backend);
		buf_puts(&body, "\n");
	} else if (c.len == 1) {
		buf_printf(&body, VIP_DNAT "%s\n", IP(&c.data[0]->ip));
	} else if (c.len) {
		uint64_t at = 0;
		buf_printf(&body, VIP_DNAT "numgen random mod %llu map { ", (unsigned long long)total);
		for (size_t i = 0; i < c.len; i++) {
			uint64_t w = c.data[i]->weight ? c.data[i]->weight : 1;
			range(&body, at, at + w - 1);
			buf_printf(&body, "%s%s", IP(&c.data[i]->ip), i + 1 < c.len ? ", " : " }\n");
			at += w;
		}
	}
	refuse(r, &body, vip->service, true);
	snprintf(name, sizeof(name), "v_" SERVICE, (unsigned long long)vip->service);
	rules_switch(r, name, &body);
	CLEAN_FREE char *verdict = xasprintf("goto %s", name);
	rules_elem(r, verdict, "vips\n%s", IP(&vip->addr));
	rules_elem(r, "", "pings\n%s", IP(&vip->addr));
	vec_fini(&c);
}

/* Connections of this machine to 127.0.0.1: tasks elsewhere could not answer there, unless our address stands in. */
static void loopback_rules(struct buf *b, const struct choice *c)
{
	struct choice here = { 0 };
	for (size_t i = 0; i < c->len; i++)
		if (c->data[i]->local)
			vec_push(&here, c->data[i]);
	if (!here.len)
		buf_printf(b, "meta mark set 0x%08x", MARK_SELF);
	else if (here.len == 1)
		buf_printf(b, "meta mark set 0x%08x", rules_task_mark(&here.data[0]->ip));
	else
		buf_printf(b, "meta mark set numgen random mod %zu map { ", here.len);
	for (size_t i = 0; here.len > 1 && i < here.len; i++)
		buf_printf(b, "%zu : 0x%08x%s", i, rules_task_mark(&here.data[i]->ip), i + 1 < here.len ? ", " : " }");
	vec_fini(&here);
}

/* "ip saddr != { ... } drop": of the ranges of one kind, when there are any. */
static void range_rule(struct buf *b, const struct item *svc, bool dialled, const char *match, const char *verdict)
{
	bool any = false;
	for (size_t i = 0; i < svc->ranges.len; i++) {
		const struct ebpf_range *x = &svc->ranges.data[i];
		if (x->dialled != dialled || !dp_ip_is_v4(&x->net))
			continue;
		if (any)
			buf_puts(b, ", ");
		else
			buf_printf(b, "%s != { ", match);
		buf_printf(b, "%s/%u", IP(&x->net), x->prefix);
		any = true;
	}
	if (any)
		buf_printf(b, " } %s\n", verdict);
}

void rules_published(struct rules *r, const struct rules_in *in, const struct item *svc)
{
	struct choice c = { 0 };
	struct buf body = { 0 }, lo = { 0 };
	char name[32];
	serving(svc, &c);
	backend_rules(r, in, svc);
	/* This machine may always dial 127.0.0.1. */
	range_rule(&body, svc, true, "ip daddr", "return");
	range_rule(&lo, svc, true, "ip daddr", "return");
	range_rule(&body, svc, false, "ct original ip saddr != 127.0.0.0/8 ip saddr",
	           "counter name \"drop_source\" drop");
	buf_puts(&body, "jump recall\n");
	if (!c.len) {
		refuse(r, &body, svc->svc.key, false);
		refuse(r, &lo, svc->svc.key, false);
	} else {
		if (svc->svc.affinity_s)
			affinity(&body, svc, &c, &svc->svc.key, sizeof(svc->svc.key), "meta mark vmap ", goto_backend);
		buf_printf(&body, "jhash %s mod %d seed 0x1 vmap ",
		           svc->svc.affinity_s ? "ip saddr" : "ip saddr . th sport . ip daddr . th dport", SLOTS);
		slots(&body, &c, goto_backend);
		loopback_rules(&lo, &c);
	}
	snprintf(name, sizeof(name), "p_" SERVICE, (unsigned long long)svc->svc.key);
	rules_switch(r, name, &body);
	snprintf(name, sizeof(name), "o_" SERVICE, (unsigned long long)svc->svc.key);
	rules_switch(r, name, &lo);
	vec_fini(&c);
}
