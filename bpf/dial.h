/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: published ports at the node a client dials: who may, and which task serves. For tc and XDP alike.
 * Wire: the inner frame's destination MAC names the task, its source MAC the ingress node:
 *       02 : 4c | HOP | MASQ : a.b.c.d. Answers carry the destination MAC reply_mac. IP headers are as the
 *       client sees them; only the task's node translates, and it keeps the flow.
 */
#ifndef BPF_DIAL_H
#define BPF_DIAL_H

#include "bpf/lb.h"
#include "bpf/tunnel.h"

/* Where a packet came from, for those who serve it. */
struct origin {
	__be32 node;    /* ingress node, 0 = this one */
	__u8 mac_flags; /* MAC_HOP, MAC_MASQ */
	__u8 egress;    /* we run on an egress hook */
	__u8 hops;      /* to take from the TTL: 1 at the ingress, 0 behind the tunnel */
};

struct target {
	__u32 backend; /* 0: a host-mode task of no service */
	__be32 ip;
	__be32 node; /* 0 = this one */
	__u32 ifindex;
	__u32 task;
	__u8 mac[ETH_ALEN] MAC;
	__u8 serving;
};

static __always_inline void add_refused(struct abi_service *s)
{
	if (s)
		__sync_fetch_and_add(&s->refused, 1);
}

static __always_inline struct abi_endpoint *endpoint_of(__u32 vni, __be32 ip)
{
	struct abi_endpoint_key k = { .vni = vni, .ip = addr4(ip) };

	return bpf_map_lookup_elem(&endpoints, &k);
}

static __always_inline bool target_of_backend(struct target *t, __u32 i)
{
	struct abi_backend *b = backend_of(i);

	if (!b)
		return false;
	t->backend = i;
	t->ip = b->ip.w[3];
	t->node = b->node.w[3];
	t->ifindex = b->ifindex;
	t->task = 0;
	t->serving = takes_new(b);
	copy_mac(t->mac, b->mac);
	return true;
}

static __always_inline void target_of_endpoint(struct target *t, const struct abi_endpoint *ep, __be32 ip)
{
	struct abi_backend *b = backend_of(ep->backend);

	t->backend = ep->backend;
	t->ip = ip;
	t->node = ep->node.w[3];
	t->ifindex = ep->ifindex;
	t->task = ep->task;
	t->serving = !b || takes_new(b);
	copy_mac(t->mac, ep->mac);
}

/* What a TCP or UDP port is, read at once. */
static __always_inline struct abi_published port_of(__u8 proto, __be16 port)
{
	__u32 i = (proto == IPPROTO_UDP ? ABI_PUBLISHED / 2 : 0) + bpf_ntohs(port);
	volatile __u64 *word = bpf_map_lookup_elem(&published, &i);
	union {
		__u64 word;
		struct abi_published port;
	} u = { .word = word ? *word : 0 };

	return u.port;
}

static __always_inline bool is_published(struct abi_published port)
{
	return port.service || port.kind == PORT_HOST;
}

/* The task behind a port of kind PORT_HOST; with *ip its address. */
static __always_inline struct abi_endpoint *host_task(__u8 proto, __be16 dport, __be32 *ip)
{
	struct abi_port_key k = { .proto = proto, .port = dport };
	struct abi_port *port = bpf_map_lookup_elem(&ports, &k);

	if (!port)
		return 0;
	*ip = port->ip.w[3];
	return endpoint_of(port->vni, *ip);
}

/* Published ports above this may be some connection's own port: then a socket of the host decides. */
#define EPHEMERAL_MIN 32768

static __always_inline bool is_host_socket(ctx_t *ctx, const struct packet *p)
{
	struct bpf_sock_tuple t = { .ipv4 = { p->saddr, p->daddr, p->sport, p->dport } };
	struct bpf_sock *sk;
	bool ours;

	if (bpf_ntohs(p->dport) < EPHEMERAL_MIN)
		return false;
	if (p->proto == IPPROTO_TCP) {
		if (is_new(p))
			return false;
		sk = bpf_skc_lookup_tcp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
		ours = sk && sk->state != BPF_TCP_LISTEN;
	} else {
		sk = bpf_sk_lookup_udp(ctx, &t, sizeof(t.ipv4), BPF_F_CURRENT_NETNS, 0);
		ours = sk && sk->state == BPF_TCP_ESTABLISHED;
	}
	if (sk)
		bpf_sk_release(sk);
	return ours;
}

static __noinline bool in_range(__u32 service, enum abi_range_kind kind, __be32 addr)
{
	struct abi_range_key k = { .prefix = 192, .service = service, .kind = kind, .net = addr4(addr) };

	return bpf_map_lookup_elem(&ranges, &k) != 0;
}

/* What dialling comes to, besides verdicts and NOT_KNOWN. */
#define DIALLED (-3)

/* Whether a service's ranges let a packet in: DIALLED, or what becomes of it. The machine itself may always dial. */
static __always_inline int admit(const struct abi_service *s, __u32 service, const struct packet *p)
{
	if ((s->flags & SERVICE_DIALLED) && !in_range(service, RANGE_DIALLED, p->daddr))
		return CTX_PASS;
	if ((s->flags & SERVICE_SOURCES) && !is_loopback(p->saddr) && !in_range(service, RANGE_SOURCE, p->saddr))
		return drop(DROP_SOURCE);
	return DIALLED;
}

struct dialled {
	struct abi_service *s; /* NULL: host mode */
	struct target t;
	struct choice c;
};

static __always_inline int dial_host_mode(const struct packet *p, struct dialled *d)
{
	__be32 ip = 0;
	struct abi_endpoint *ep = host_task(p->proto, p->dport, &ip);

	if (!ep || !ep->ifindex)
		return drop(DROP_NO_BACKEND);
	target_of_endpoint(&d->t, ep, ip);
	d->t.serving = 1;
	return DIALLED;
}

static __always_inline int dial_mesh(const struct packet *p, struct abi_published port, struct dialled *d)
{
	struct abi_service *s = service_of(port.service);

	if (s && (s->flags & (SERVICE_SOURCES | SERVICE_DIALLED))) {
		int rc = admit(s, port.service, p);
		if (rc != DIALLED)
			return rc;
	}
	if (s && remembered_before(s, p))
		return NOT_KNOWN;
	if (s)
		choose(s, p, &d->c);
	if (!s || !target_of_backend(&d->t, d->c.backend)) {
		add_refused(s);
		return drop(DROP_NO_BACKEND);
	}
	d->s = s;
	return DIALLED;
}

/*
 * A packet to one of the host's addresses whose port is published. DIALLED: to d's target, once the choice is taken.
 * CTX_PASS: not ours after all.
 */
static __always_inline int dial(ctx_t *ctx, const struct packet *p, struct abi_published port, const struct origin *o,
                                struct dialled *d)
{
	if ((port.flags & PORT_CLOSED_HERE) || is_host_socket(ctx, p))
		return CTX_PASS;
	if (o->hops && p->ttl <= 1)
		return drop(DROP_TTL);
	return port.kind == PORT_HOST ? dial_host_mode(p, d) : dial_mesh(p, port, d);
}

/* The frame as its task's node expects it. 0, or what became of it. */
static __always_inline int address_to(ctx_t *ctx, const struct packet *p, const struct target *t,
                                      const struct origin *o)
{
	__be32 node = o->node ? o->node : config.self.w[3];
	half_mac mac[3] = { bpf_htons(0x0200 | MAC_MARK | o->mac_flags) };
	struct rewrite r = rewrite_of(p);

	__builtin_memcpy(mac + 1, &node, 4);
	r.hops = o->hops;
	/* No transport sum covers what changes. */
	if (r.hops && rewrite_header(ctx, p, &r, 0))
		return drop(DROP_NAT);
	return set_macs(ctx, t->mac, mac) ? drop(DROP_MALFORMED) : DIALLED;
}

#endif
