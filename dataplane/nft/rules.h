/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the nft driver's decisions, pure: from what should be in force to named chains and elements of sets, to
 *         the routes that go with them, and to the text of one nftables transaction.
 * Layout: tables "ip <mark>_lb" and "netdev <mark>_lb". The chains with hooks and the sets never change; what does
 *         are elements, counters, and chains of one service ("v_", "p_", "o_") or backend ("r_", "l_").
 * Wire:   as bpf/ingress.h: a published port that is taken in here for a task elsewhere leaves as the client sent it,
 *         in a frame for the task's MAC. "dup" sends it there; the original is dropped.
 * Change: a packet may look into a rule's own map ("vmap { ... }") a moment before the kernel has filled it, though the rule
 *         is there, and a moment after it was emptied with a rule that goes. So "v_", "p_" and "o_" only go on to a chain
 *         named by its text. A change makes what is new in a transaction of its own, switches in the next, and leaves what
 *         nothing names any more to the next change, when no packet can be in it.
 * Anew:   a set that is flushed and filled, or a chain, in one transaction is missed by packets for a moment, and a
 *         connection that began then stays untranslated. So a daemon that starts changes what differs and no more: the
 *         set "standing" holds the hash of each chain's text, and one of all that never changes.
 * Flows:  connections to tasks of this node are connection tracking's. What is passed on is remembered in maps that
 *         the rules themselves fill ("flows", "syns", "ended", "datagrams"), for as long as its task is "live"; datagrams
 *         while it is "serving": to a table of flows, a client's port that is used again is the flow of before.
 *         Whom a client was given, where a service has affinity, is in "affine", for both.
 * Marks:  packets that chose a task of this node: 0x6d and 24 bits of its address, until they are translated.
 *         Connections that other nodes took in: conntrack mark, 31 bits of the node's address, and 1 << 31 when the
 *         task must not see the client (it has the same address as something of its own).
 */
#ifndef DATAPLANE_NFT_RULES_H
#define DATAPLANE_NFT_RULES_H

#include "dataplane/netlink/conntrack.h"
#include "dataplane/nft/read.h"
#include "dataplane/plan.h"

struct rules_iface {
	const char *host_name;
	uint32_t vni;
	struct dp_ip ip;
	struct dp_ip answer; /* the address the task answers strangers from: that of its default route */
};
struct rules_in {
	const char *mark, *vxlan; /* the device's name */
	uint16_t vxlan_port;
	struct dp_ip self;
	const struct plan_table *have; /* items */
	const struct rules_iface *ifaces;
	size_t n_ifaces;
	const struct dp_ip *masquerade; /* tasks with a way out */
	size_t n_masquerade;
	uint32_t flows_max; /* connections passed on that are remembered, of each kind; 0: RULES_FLOWS_MAX */
};
#define RULES_FLOWS_MAX 65536

/* A route over the tunnel device; without a node it only makes the host answer ARP for the subnet. */
struct rules_route {
	struct dp_ip dst, node;
	unsigned prefix;
	uint32_t vni;
	uint8_t mac[6]; /* of dst, the destination of the inner frame */
};
struct rules {
	struct map elems;    /* "set\nkey" -> data text, "" in a set */
	struct map chains;   /* name -> rules, one a line */
	struct map counters; /* names */
	struct map routes;   /* destination -> struct rules_route */
	struct map takes;    /* addresses of tasks that datagrams to a service are translated to, while they serve */
	struct map stale_chains,
		stale_counters; /* as those: they stand, nothing names them, the next change removes them */
};
void rules_build(const struct rules_in *in, struct rules *out);
void rules_fini(struct rules *r);
/* The address that stands for a node on the tunnel device: class E, never on a wire. */
struct dp_ip rules_way_to(const struct dp_ip *node);
bool rules_route_equal(const struct rules_route *a, const struct rules_route *b);

/* ---- counters ---- */
#define RULES_REFUSED "refused_" /* and 16 hexadecimal digits of the service: packets that found no serving task */
#define RULES_DROP "drop_"       /* and the id of a reason, bpf/abi.h */
#define RULES_EVENT "event_"     /* and the id of what happened on purpose */
/* Counters with these prefixes that always stand: name and text of number i; NULL past the last. */
const char *rules_fixed_counter(size_t i, const char **text);
/*
 * Sets whose elements count, by the address of a task of this node, but for the last: packets and resets in and out,
 * those of published ports apart from all others; connections through published ports; and those from here to service
 * addresses, by the task that was chosen, anywhere.
 */
enum rules_counting {
	COUNT_NET_IN,
	COUNT_NET_OUT,
	COUNT_NET_RST_IN,
	COUNT_NET_RST_OUT,
	COUNT_PUB_IN,
	COUNT_PUB_OUT,
	COUNT_PUB_RST_IN,
	COUNT_PUB_RST_OUT,
	COUNT_PUB_CONNS,
	COUNT_VIP_CONNS,
	RULES_COUNTING_MAX
};
extern const char *const rules_counting[RULES_COUNTING_MAX]; /* their names */

/* ---- transactions ---- */
/* Makes everything anew: what was counted and whom connections went to is forgotten. */
void rules_load_text(const struct rules_in *in, const struct rules *r, struct buf *out);
/* The same around what was counted and remembered by an earlier run, of which found is left. */
void rules_adopt_text(const struct rules_in *in, const struct rules *r, const struct nft_found *found, struct buf *out);
/* The text of "nft list set" or "list map": its elements, into elems as those of struct rules. */
void rules_take_listed(const char *set, const char *text, struct map *elems);
/* Sets and maps whose elements rules_build makes and nothing counts, "set NAME" or "map NAME"; NULL past the last. */
const char *rules_listed(size_t i);
/*
 * What an earlier run left, as the rules it was made from, so that rules_change_text leads to r. listed: of all those
 * sets. false: what never changes is not what it should be, and out is empty.
 */
bool rules_left(const struct rules_in *in, const struct rules *r, const struct nft_found *found,
                const struct map *listed, struct rules *out);
/* The table of frames as nft lists it: is it what it should be? */
bool rules_frames_stand(const struct rules_in *in, const char *text);
void rules_frames_text(const struct rules_in *in, struct buf *out);
/*
 * From a to b, two transactions, each empty when there is nothing to do: what is new and no packet comes to, what was
 * stale away; then the switch. What a alone has of chains and counters stays.
 */
void rules_prepare_text(const char *mark, const struct rules *a, const struct rules *b, struct buf *out);
void rules_change_text(const char *mark, const struct rules *a, const struct rules *b, struct buf *out);
/* Between them f is to be forgotten: an answered question whose task takes nothing new any more. quiet_s: nothing came since. */
bool rules_moves(const struct rules *a, const struct rules *b, const struct ct_flow *f, uint32_t quiet_s);
/* Once that is in force: what a alone had is stale in b. */
void rules_changed(const struct rules *a, struct rules *b);

#endif
