/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/log.h"
#include "dataplane/dp_int.h"

/* Somebody waits for an answer or for an acknowledgement. Who has heard the peer's end (CLOSE_WAIT) does not. */
#define WAITING_STATES (1u << TCP_ESTABLISHED | 1u << TCP_SYN_SENT | 1u << TCP_FIN_WAIT1 | 1u << TCP_FIN_WAIT2)

static bool in_subnet(const struct ebpf_network *n, const struct dp_ip *ip)
{
	unsigned bits = dp_ip_is_v4(&n->subnet) ? 96 + n->prefix : n->prefix;
	for (unsigned i = 0; i < bits; i++) {
		uint8_t bit = (uint8_t)(0x80 >> i % 8);
		if ((n->subnet.b[i / 8] ^ ip->b[i / 8]) & bit)
			return false;
	}
	return true;
}

static bool nobody_has(const struct dp *d, uint32_t vni, const struct dp_ip *ip)
{
	struct item net = { .kind = ITEM_NETWORK, .network.vni = vni };
	struct item ep = { .kind = ITEM_ENDPOINT, .endpoint = { .vni = vni, .ip = *ip } };
	struct item vip = { .kind = ITEM_VIP, .addr = *ip };
	const struct item *n = plan_table_get(&d->have, &net);
	return n && in_subnet(&n->network, ip) && memcmp(&n->network.gateway, ip, sizeof(*ip)) != 0 &&
	       !plan_table_get(&d->have, &ep) && !plan_table_get(&d->have, &vip);
}

void dp_nets(const struct dp *d, struct dp_nets *out)
{
	MAP_FOREACH(&d->have.items, e) {
		const struct item *i = e->value;
		if (i->kind == ITEM_NETWORK)
			vec_push(out, &i->network);
	}
}

bool dp_nobody_has(const struct dp *d, const struct dp_nets *nets, const struct dp_ip *ip)
{
	for (size_t i = 0; i < nets->len; i++)
		if (nobody_has(d, nets->data[i]->vni, ip))
			return true;
	return false;
}

/* The network of t in which nobody has this address; 0: somebody has. */
static uint32_t stuck_in(const struct dp *d, const struct dp_task *t, uint32_t vni, const struct dp_ip *peer)
{
	for (size_t i = 0; i < t->nets.n; i++) {
		uint32_t v = t->nets.v[i].vni;
		if (v && (!vni || v == vni) && nobody_has(d, v, peer))
			return v;
	}
	return 0;
}

static void close_one(struct dp *d, const struct dp_task *t, const struct sd_sock *s)
{
	char peer[DP_IP_TEXT_MAX];
	int rc = sd_destroy(t->sd, s);
	if (rc == MESH_E_UNSUPPORTED) {
		d->no_destroy = true;
		log_warn(
			"this kernel cannot close the sockets of tasks whose peer is gone: they time out by themselves "
			"missing=CONFIG_INET_DIAG_DESTROY");
	} else if (!rc) {
		d->sockets_closed++;
		log_debug("closed a socket whose peer is gone task=%s peer=%s port=%u", t->id.s,
		          dp_ip_format(&s->peer, peer), s->peer_port);
	}
}

static void close_of_task(struct dp *d, const struct dp_task *t, uint32_t vni)
{
	struct sd_socks socks = { 0 };
	int rc = sd_dump(t->sd, IPPROTO_TCP, WAITING_STATES, &socks);
	if (!rc)
		rc = sd_dump(t->sd, IPPROTO_UDP, 1u << TCP_ESTABLISHED, &socks);
	if (rc)
		log_debug("sock_diag task=%s error=%s", t->id.s, mesh_code_text(rc));
	for (size_t i = 0; i < socks.len && !d->no_destroy; i++) {
		const struct sd_sock *s = &socks.data[i];
		uint32_t in = stuck_in(d, t, vni, &s->peer);
		/* One that was never answered can still be answered by another. */
		if (in && !(d->drv->detour && d->drv->detour(d, t, in, s, s->state == TCP_SYN_SENT)))
			close_one(d, t, s);
	}
	vec_fini(&socks);
}

static bool has_address(const struct dp_task *t, const struct dp_ip *ip)
{
	for (size_t i = 0; i < t->nets.n; i++)
		if (memcmp(&t->nets.v[i].wire.ip, ip, sizeof(*ip)) == 0)
			return true;
	return false;
}

static bool is_at(const struct sd_sock *s, const struct dp_place *local, const struct dp_place *peer)
{
	return s->port == local->port && s->peer_port == peer->port &&
	       memcmp(&s->peer, &peer->ip, sizeof(s->peer)) == 0;
}

void dp_close_socket(struct dp *d, uint8_t protocol, const struct dp_place *local, const struct dp_place *peer)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		struct sd_socks socks = { 0 };
		if (t->sd < 0 || d->no_destroy || !has_address(t, &local->ip))
			continue;
		int rc = sd_dump(t->sd, protocol, protocol == IPPROTO_TCP ? WAITING_STATES : 1u << TCP_ESTABLISHED,
		                 &socks);
		if (rc)
			log_debug("sock_diag task=%s error=%s", t->id.s, mesh_code_text(rc));
		for (size_t i = 0; i < socks.len && !d->no_destroy; i++)
			if (is_at(&socks.data[i], local, peer))
				close_one(d, t, &socks.data[i]);
		vec_fini(&socks);
	}
}

void dp_close_stuck(struct dp *d, uint32_t vni)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		bool there = false;
		for (size_t i = 0; i < t->nets.n; i++)
			there |= t->nets.v[i].vni && (!vni || t->nets.v[i].vni == vni);
		if (there && t->sd >= 0 && !d->no_destroy)
			close_of_task(d, t, vni);
	}
}
