// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hook: XDP of the node's own links, before from_uplink, which stays where it is: sends on what clients send to tasks
 * of other nodes, and what those answer. Everything else passes as it came.
 */
#define MESH_XDP
#include "bpf/xdp.h"

/* ---- to a task of another node ---- */

/* Is nothing of the way there the stack's? */
static __always_inline bool find_node(ctx_t *ctx, struct abi_runtime *rt, const struct packet *p, __be32 node,
                                      struct way_out *out)
{
	return !rt->via_device && !too_big(ctx, p, rt->tunnel_mtu) && find_way(ctx, rt, node, out);
}

static __always_inline int to_node(ctx_t *ctx, struct abi_runtime *rt, __be32 node, const struct way_out *out)
{
	struct abi_events *ev = events_of();
	__u32 vni = rt->ingress_vni;
	struct inner in;

	if (ev) {
		ev->n[EVENT_INGRESS]++;
		ev->n[EVENT_XDP]++;
	}
	see_node(ctx, node, vni);
	if (read_inner(ctx, &in) || bpf_xdp_adjust_head(ctx, -OUTER_LEN) ||
	    write_outer(ctx, &in, node, vni, next_id(ctx, ev)))
		return drop(DROP_TUNNEL);
	return send_out(ctx, out);
}

static __noinline int on_packet(ctx_t *ctx)
{
	struct origin o = { .hops = 1 };
	struct dialled d = {};
	struct way_out out;
	struct packet p;
	struct abi_published port;
	struct abi_runtime *rt;

	if (parse4(ctx, &p) || !has_ports(&p) || p.first)
		return CTX_PASS;
	port = port_of(p.proto, p.dport);
	if (!is_published(port) || port.kind != PORT_MESH)
		return CTX_PASS;
	rt = runtime_of();
	if (!rt || !is_own_addr(rt, p.daddr) || !is_for_us(ctx, rt, p.dmac))
		return CTX_PASS;
	struct iphdr *ip = data_of(ctx) + IP_OFF;
	__u16 *check = data_of(ctx) + L4_OFF(&p) + CHECK_OFF(p.proto);
	if ((void *)(ip + 1) > end_of(ctx) || (void *)(check + 1) > end_of(ctx) || is_unfinished(ip, *check))
		return CTX_PASS;
	int rc = dial(ctx, &p, port, &o, &d);
	if (rc != DIALLED)
		return rc;
	if (!d.t.node || !find_node(ctx, rt, &p, d.t.node, &out))
		return CTX_PASS;
	if (d.s)
		take_choice(d.s, &p, &d.c);
	rc = address_to(ctx, &p, &d.t, &o);
	return rc == DIALLED ? to_node(ctx, rt, d.t.node, &out) : rc;
}

/* ---- a task's answer to a client of ours ---- */

/* Whole, of one piece, and from an address of ours, as tasks' answers are. */
static __always_inline bool is_answer(struct abi_runtime *rt, const struct ethhdr *eth, const struct iphdr *ip)
{
	const void *l4 = ip + 1, *check = l4 + CHECK_OFF(ip->protocol);

	return eth->h_proto == bpf_htons(ETH_P_IP) && is_answer_mac(eth->h_dest) && *(const __u8 *)ip == 0x45 &&
	       !(ip->frag_off & bpf_htons(0x3fff)) && (ip->protocol == IPPROTO_TCP || ip->protocol == IPPROTO_UDP) &&
	       !is_unfinished(ip, *(const __u16 *)check) && is_own_addr(rt, ip->saddr);
}

static __noinline int on_tunnelled(ctx_t *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *outer = data + IP_OFF, *ip = data + OUTER_LEN + ETH_HLEN;
	struct ethhdr *eth = data + OUTER_LEN;
	struct vxlan_head *vx = data + OUTER_VXLAN;
	struct abi_runtime *rt = runtime_of();
	struct way_out out;

	if ((void *)(ip + 1) + sizeof(struct tcphdr) > end || !rt || rt->via_device || !rt->ingress_vni ||
	    !is_outer(ctx, outer, data + OUTER_UDP, vx) || vx->vni != bpf_htonl(rt->ingress_vni << 8))
		return CTX_PASS;
	__be32 node = outer->saddr;
	if (!is_answer(rt, eth, ip) || !is_node(node) || !is_for_us(ctx, rt, data) ||
	    !find_out(ctx, rt, ip->saddr, ip->daddr, bpf_ntohs(ip->tot_len), &out))
		return CTX_PASS;
	if (bpf_xdp_adjust_head(ctx, OUTER_LEN))
		return CTX_PASS;
	struct abi_events *ev = events_of();
	if (ev) {
		ev->n[EVENT_DECAP]++;
		ev->n[EVENT_XDP]++;
	}
	see_arrival(ctx, node, rt->ingress_vni);
	see_out(ctx, VERDICT_OUT, out.ifindex);
	return send_out(ctx, &out);
}

SEC("xdp")
int from_xdp(ctx_t *ctx)
{
	if (is_tunnelled(ctx))
		return on_tunnelled(ctx);
	if (special(ctx) != NOT_SPECIAL || protocol_of(ctx) != bpf_htons(ETH_P_IP))
		return CTX_PASS;
	see(ctx, HOOK_UPLINK);
	return on_packet(ctx);
}

/* While layouts change hands the tc programs alone know who knows what. */
SEC("xdp")
int from_xdp_handover(ctx_t *ctx)
{
	(void)ctx;
	return CTX_PASS;
}

char LICENSE[] SEC("license") = "GPL";
