// SPDX-License-Identifier: GPL-2.0-or-later
/* Hook: ingress of the collect-metadata VXLAN device: what other nodes send and from_uplink did not open itself. */
#include "bpf/arrival.h"

static __always_inline int tunnel_key(struct __sk_buff *skb, struct arrival *a)
{
	struct bpf_tunnel_key key = {};

	if (config.test_tunnel) {
		a->node = bpf_htonl(skb->priority);
		a->vni = skb->mark;
		return 0;
	}
	if (bpf_skb_get_tunnel_key(skb, &key, sizeof(key), 0))
		return -1;
	a->node = bpf_htonl(key.remote_ipv4);
	a->vni = key.tunnel_id;
	return 0;
}

static __always_inline int from_vxlan_path(struct __sk_buff *skb)
{
	struct arrival a = {};
	int rc = tunnel_key(skb, &a);

	see_arrival(skb, a.node, a.vni);
	return rc ? drop(DROP_TUNNEL) : arrived(skb, &a);
}

MESH_PROGRAM(from_vxlan, from_vxlan_path)

/* Never attached: run once on a test packet, to learn whether this kernel writes and strips outer headers as asked. */
SEC("tc")
int probe_tunnel(struct __sk_buff *skb)
{
	if (bpf_skb_adjust_room(skb, OUTER_LEN, BPF_ADJ_ROOM_MAC, ENCAP_FLAGS) ||
	    bpf_skb_adjust_room(skb, -OUTER_LEN, BPF_ADJ_ROOM_MAC, DECAP_FLAGS))
		return TC_ACT_SHOT;
	return TC_ACT_OK;
}

char LICENSE[] SEC("license") = "GPL";
