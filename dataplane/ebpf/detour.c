// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A socket of a task was pointed at a backend that died before it answered: the connection is given another, packet by
 * packet, in "vip_flows" (bpf/abi.h). Only packets to addresses that nobody has are looked up there.
 */
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"

static struct abi_flow_key key_of(const struct ebpf_conn *c, const struct abi_addr *peer)
{
	return (struct abi_flow_key){ .task = ebpf_addr(&c->ip).w[3],
		                      .peer = peer->w[3],
		                      .tport = htons(c->port),
		                      .pport = htons(c->peer_port),
		                      .proto = IPPROTO_TCP };
}

/* The service whose address the socket was connected to; NULL: it was not. */
static const struct service *service_of_socket(const struct ebpf *e, const struct ebpf_conn *c)
{
	struct abi_sock_key k = {
		.cookie = c->cookie, .addr = ebpf_addr(&c->peer), .port = htons(c->peer_port), .kind = SOCK_PEER
	};
	struct abi_sock s;
	const struct abi_vip *vip;

	if (bpf_map_lookup_elem(e->table_fd[TABLE_SOCKS], &k, &s))
		return NULL;
	vip = table_get(&e->vips, &s.addr);
	return vip && vip->vni == c->vni ? lb_service(e, e->services[vip->service].key) : NULL;
}

static bool serves(const struct ebpf *e, const struct member *m, const struct abi_addr *client,
                   const struct abi_addr *dead)
{
	const struct abi_backend *b = backend_at(e, m->backend);

	return b->state == BACKEND_SERVING && memcmp(&b->ip, client, sizeof(b->ip)) &&
	       memcmp(&b->ip, dead, sizeof(b->ip));
}

/* Not the client itself, nor the dead one; which is up to the client's port. */
static const struct abi_backend *another(const struct ebpf *e, const struct service *s, const struct ebpf_conn *c)
{
	struct abi_addr client = ebpf_addr(&c->ip), dead = ebpf_addr(&c->peer);
	size_t n = 0, want;

	for (size_t i = 0; i < s->members.len; i++)
		n += serves(e, s->members.data[i], &client, &dead);
	want = n ? c->port % n : 0;
	for (size_t i = 0; n && i < s->members.len; i++)
		if (serves(e, s->members.data[i], &client, &dead) && !want--)
			return backend_at(e, s->members.data[i]->backend);
	return NULL;
}

static bool put(struct ebpf *e, const struct abi_flow_key *k, const struct abi_flow *f)
{
	if (bpf_map_update_elem(e->table_fd[TABLE_VIP_FLOWS], k, f, BPF_NOEXIST))
		return !bpf_map_update_elem(e->table_fd[TABLE_VIP_FLOWS], k, f, BPF_ANY);
	__atomic_fetch_sub(&e->runtime->removed[TABLE_VIP_FLOWS], 1,
	                   __ATOMIC_RELAXED); /* the programs count what they put in */
	return true;
}

/* From now on the programs look at what comes to this task. */
static bool watch_answers(struct ebpf *e, const struct ebpf_conn *c)
{
	struct abi_endpoint_key k = { .vni = c->vni, .ip = ebpf_addr(&c->ip) };
	struct abi_endpoint ep;

	if (bpf_map_lookup_elem(e->endpoints.fd, &k, &ep))
		return false;
	ep.flags |= ENDPOINT_VIP_FLOWS;
	return !bpf_map_update_elem(e->endpoints.fd, &k, &ep, BPF_EXIST);
}

bool ebpf_detour(struct ebpf *e, const struct ebpf_conn *c)
{
	const struct service *s = service_of_socket(e, c);
	const struct abi_backend *b = s ? another(e, s, c) : NULL;
	struct abi_addr dead = ebpf_addr(&c->peer);

	if (!b)
		return false;
	struct abi_flow there = { .dst = b->ip.w[3], .task = b->uid, .flags = FLOW_DETOUR };
	struct abi_flow back = { .dst = dead.w[3], .task = b->uid };
	struct abi_flow_key k = key_of(c, &dead), answers = key_of(c, &b->ip), arp = k;

	arp.tport = arp.pport = arp.proto = 0;
	return put(e, &answers, &back) && put(e, &arp, &there) && watch_answers(e, c) && put(e, &k, &there);
}

bool ebpf_is_detoured(struct ebpf *e, const struct ebpf_conn *c)
{
	struct abi_addr peer = ebpf_addr(&c->peer);
	struct abi_flow_key k = key_of(c, &peer);
	struct abi_endpoint_key to = { .vni = c->vni, .ip = peer };
	struct abi_flow f;

	if (bpf_map_lookup_elem(e->table_fd[TABLE_VIP_FLOWS], &k, &f) || !(f.flags & FLOW_DETOUR))
		return false;
	to.ip.w[3] = f.dst;
	return table_get(&e->endpoints, &to) != NULL;
}
