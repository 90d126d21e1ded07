/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the one contract between the programs in the kernel and userspace: map keys and values, drop
 *         reasons, load-time configuration. Included by both sides; nothing else of bpf/ is.
 * Order:  addresses and ports are in network byte order, everything else in host order.
 * Layout: ABI_LAYOUT names the directory maps are pinned in. A change of any struct here raises it: a new meshd then
 *         has maps of its own, and fills them from the old ones field by field (dataplane/ebpf/handover.h). So a field
 *         keeps its name as long as it keeps its meaning, and only so long.
 * IPv6:   addresses are 16 bytes, IPv4 as ::ffff:a.b.c.d. The IPv4 path is what is implemented.
 *         What is kept per flow is IPv4 only and small: with key and header an entry is one cache line, its value
 *         another. IPv6 flows belong into tables of their own.
 */
#ifndef BPF_ABI_H
#define BPF_ABI_H

#include <linux/types.h>

#define ABI_LAYOUT 17

struct abi_addr {
	__be32 w[4];
};
_Static_assert(sizeof(struct abi_addr) == 16, "address");

/* Why a packet was dropped: per-CPU counter map "drops", in this order.
 *       name             text */
#define ABI_DROPS(X)                                                                                                   \
	X(MALFORMED, "malformed", "headers are cut short or contradict themselves")                                    \
	X(SPOOF, "spoof", "a task sent with an address that is not its own")                                           \
	X(MULTICAST, "multicast", "multicast and broadcast do not leave a task")                                       \
	X(IPV6, "ipv6", "IPv6 on a network without it")                                                                \
	X(IPV6_ND, "ipv6_nd", "IPv6 neighbour and router discovery, harmless")                                         \
	X(ETHERTYPE, "ethertype", "neither IPv4, IPv6 nor ARP")                                                        \
	X(ARP_UNKNOWN, "arp_unknown", "ARP for an address nobody has")                                                 \
	X(UNKNOWN_DST, "unknown_dst", "address of the network that no task has")                                       \
	X(ISOLATED, "isolated", "address of another network")                                                          \
	X(INTERNAL, "internal", "an internal network has no way out")                                                  \
	X(NO_BACKEND, "no_backend", "the service has no serving task")                                                 \
	X(PROTOCOL, "protocol", "a service address takes TCP, UDP and ICMP echo only")                                 \
	X(FRAGMENT, "fragment", "a fragment whose first part did not pass here before")                                \
	X(TTL, "ttl", "time to live ran out")                                                                          \
	X(UNKNOWN_NODE, "unknown_node", "tunnelled by a machine that is not of the cluster")                           \
	X(UNKNOWN_SRC, "unknown_src", "tunnelled with a source its sender does not run")                               \
	X(NOT_LOCAL, "not_local", "tunnelled here for a task that is not here")                                        \
	X(NO_IFACE, "no_iface", "device without a task")                                                               \
	X(NO_PORT, "no_port", "tunnelled for a port that nothing publishes")                                           \
	X(FLOW_FULL, "flow_full", "no free client port, or the flow table refused")                                    \
	X(NO_ROUTE, "no_route", "no route back to the client")                                                         \
	X(NAT, "nat", "rewriting the packet failed")                                                                   \
	X(TUNNEL, "tunnel", "no tunnel key")                                                                           \
	X(ICMP, "icmp", "ICMP error about a flow its task does not have")                                              \
	X(SOURCE, "source", "a published port that this client's address may not dial")                                \
	X(TUNNEL_PORT, "tunnel_port", "a task sent to the port of the tunnels, outside")                               \
	X(REFUSAL, "refusal",                                                                                          \
	  "the second refusal of a connection to a task that may just have died: the client asks again")

enum abi_drop {
#define X(name, id, text) DROP_##name,
	ABI_DROPS(X)
#undef X
		DROP_MAX
};

/* What happened on purpose: "events", PERCPU_ARRAY of one struct abi_events. */
#define ABI_EVENTS(X)                                                                                                  \
	X(INGRESS, "ingress", "packets to published ports, chosen a task here")                                        \
	X(SECOND_CHANCE, "second_chance", "packets passed on to another task because theirs is gone")                  \
	X(OTHER_PORT, "other_port", "flows that got another client port, theirs was taken")                            \
	X(CACHED, "cached", "packets that kept their task while the set changed")                                      \
	X(PREVIOUS, "previous", "packets of older flows sent to the previous choice")                                  \
	X(FLOW_NEW, "flow_new", "flows begun with a task of this node")                                                \
	X(VIP_PACKET, "vip_packet", "packets to a service address translated one by one")                              \
	X(ARP, "arp", "ARP questions answered")                                                                        \
	X(ECHO, "echo", "echo requests answered for service addresses and gateways")                                   \
	X(CONNECT, "connect", "sockets pointed from a service address to a task")                                      \
	X(REFUSED, "refused", "sockets refused because the service has no serving task")                               \
	X(FRAGMENT, "fragment", "fragments that followed their first part")                                            \
	X(TOO_BIG, "too_big", "packets too big for the tunnel whose sender was told")                                  \
	X(ASK_AGAIN, "ask_again",                                                                                      \
	  "refusals by a task that may just have died, told so that the client asks again at once")                    \
	X(UNSEEN, "unseen", "packets on show for which the reader had left no room")                                   \
	X(ENCAP, "encap", "packets tunnelled to another node by our own headers")                                      \
	X(DECAP, "decap", "packets (merged ones once) taken out of their tunnel at the uplink")                        \
	X(PROBE, "probe", "probes of other nodes answered, and answers to ours")                                       \
	X(XDP, "xdp", "packets sent on by XDP, before the stack saw them")

enum abi_event {
#define X(name, id, text) EVENT_##name,
	ABI_EVENTS(X)
#undef X
		EVENT_MAX
};
struct abi_events {
	__u64 n[EVENT_MAX];
};

/* Load-time configuration: "const volatile struct abi_config config" of every program. */
struct abi_config {
	struct abi_addr self; /* this node's underlay address */
	__u32 vxlan_ifindex;
	__u32 lo_ifindex;
	__u32 zero_csum;    /* outer UDP checksum left zero */
	__u32 test_tunnel;  /* tests only: tunnel key from skb->mark (VNI) and skb->priority (IPv4, host order) */
	__u32 handover;     /* these are the programs that stand between two layouts, see bpf/handover.h */
	__be16 tunnel_port; /* UDP; a task must not send there: as a packet of its node's it would be believed */
	__u16 test_room; /* benchmarks only: room for outer headers without the mark of a tunnel, which nothing takes off */
};
_Static_assert(sizeof(struct abi_config) == 40, "config");

/* Tables that forget the least recently used when they are full: per-CPU counter map "inserted", in this order. */
#define ABI_TABLES(X)                                                                                                  \
	X(FLOWS, flows, struct abi_flow_key, struct abi_flow)                                                          \
	X(SYNS, syns, struct abi_flow_key, struct abi_flow)                                                            \
	X(VIP_FLOWS, vip_flows, struct abi_flow_key, struct abi_flow)                                                  \
	X(CHOICES, choices, struct abi_choice_key, struct abi_choice)                                                  \
	X(SYN_CHOICES, syn_choices, struct abi_choice_key, struct abi_choice)                                          \
	X(FRAGMENTS, fragments, struct abi_fragment_key, struct abi_fragment)                                          \
	X(AFFINITY, affinity, struct abi_affinity_key, struct abi_affinity)                                            \
	X(SOCKS, socks, struct abi_sock_key, struct abi_sock)

enum abi_table {
#define X(id, map, key, value) TABLE_##id,
	ABI_TABLES(X)
#undef X
		TABLE_MAX
};

/* "links": HASH, ifindex of an uplink whose driver runs our XDP program. */
enum abi_link_flags {
	LINK_TURNS = 1, /* sends what came in by it with XDP_TX */
	LINK_SENDS = 2, /* sends what is redirected to it */
};
struct abi_link {
	__u8 mac[6];
	__u8 flags;
	__u8 pad;
};
_Static_assert(sizeof(struct abi_link) == 8, "link");

/*
 * "runtime": ARRAY of one. What may change while the programs run. Watchers are bits: those that take packets from or
 * to any address, of a protocol, and every drop. While there are any, every program's "seen_on" is 1.
 */
#define ABI_OWN 8
enum abi_phase { PHASE_OWN, PHASE_BEFORE, PHASE_COPYING };
struct abi_runtime {
	__u32 ingress_vni;
	__u16 from_any, to_any;
	__u16 tcp, udp, other;
	__u16 drops;
	__u32 phase;         /* of a hand-over; read by its programs only */
	__u32 tunnel_mtu;    /* the largest IP packet a tunnel takes in one piece; 0 = do not mind */
	__u32 other_ports;   /* kernel: a flow got another client port than its own, look for more of them */
	__u32 via_device;    /* nonzero: tunnels through the VXLAN device after all, both ways */
	__be32 own[ABI_OWN]; /* of "host_addrs"; zero = none */
	__u32 own_more;      /* nonzero: not all of them are here */
	__u32 ways;          /* raised when "nodes" or "links" have changed: "ways" are found anew */
	__u32 link_ifindex;  /* one of "links", 0 = none */
	__u32 pad;
	struct abi_link link;
	__u64 removed[TABLE_MAX]; /* both: entries taken out of the tables that forget */
};
_Static_assert(sizeof(struct abi_runtime) == 88 + 8 * TABLE_MAX, "runtime");

/* "ifaces": HASH, host-end ifindex -> the task interface behind it. */
enum abi_iface_flags { IFACE_INTERNAL = 1 }; /* no way out */
struct abi_iface {
	struct abi_addr ip, gateway, net, mask;
	struct abi_addr published; /* the task's address on the ingress network; zero if none or the same */
	__u32 vni;
	__u32 task; /* same for all interfaces of a task */
	__u32 flags;
	__u32 backend; /* of its address, index in "backends", 0 = of no service */
	__u8 mac[6], host_mac[6];
};
_Static_assert(sizeof(struct abi_iface) == 108, "iface");

/* "endpoints": HASH */
struct abi_endpoint_key {
	__u32 vni;
	struct abi_addr ip;
};
_Static_assert(sizeof(struct abi_endpoint_key) == 20, "endpoint key");

enum abi_endpoint_flags { ENDPOINT_VIP_FLOWS = 1 }; /* kernel: it has flows translated packet by packet */
struct abi_endpoint {
	struct abi_addr node; /* underlay address; all zero for tasks of this node */
	__u32 ifindex;        /* host end, 0 for tasks of other nodes */
	__u32 backend;        /* index in "backends", 0 = of no service */
	__u32 task;           /* as in abi_iface, 0 for tasks of other nodes */
	__u8 mac[6];
	__u8 flags;
	__u8 pad;
};
_Static_assert(sizeof(struct abi_endpoint) == 36, "endpoint");

/*
 * "backends", "backend_stats" and "slots" grow: an ARRAY_OF_MAPS of segments, arrays of one size that userspace adds
 * when the last is full. Element i is element i % size of segment i / size.
 */
#define ABI_SEGMENT_BACKENDS 4096
#define ABI_SEGMENT_CHUNKS 16384

/* "backends": mmapable segments, element 0 unused. One is not used again before no table names it. */
enum abi_backend_state { BACKEND_FREE, BACKEND_STARTING, BACKEND_SERVING, BACKEND_DRAINING, BACKEND_GONE };
struct abi_backend {
	struct abi_addr ip, node; /* node: all zero for tasks of this node */
	__u32 vni;
	__u32 ifindex; /* 0 for tasks of other nodes */
	__u32 service; /* index in "services" */
	__u32 uid;     /* never used twice, so that a cached index can be checked */
	__u32 weight;
	__u8 mac[6];
	__u8 state;
	__u8 spare; /* takes nothing new from here, whatever its state */
	__u32 heard; /* kernel, for tasks of this node: bit port % 32 of every TCP port that has ever answered a client */
};
_Static_assert(sizeof(struct abi_backend) == 64, "backend");

/*
 * "services": mmapable ARRAY, slot 0 unused. cur and prev name Maglev tables in "slots":
 * first chunk << 8 | log2(slots), written as one word; 0 = none.
 */
enum abi_service_flags {
	SERVICE_DIRECT = 1,
	SERVICE_AFFINITY = 2,
	SERVICE_SOURCES = 4,     /* "ranges" says who may dial its ports */
	SERVICE_DIALLED = 8,     /* and at which addresses */
	SERVICE_PREV_OTHER = 16, /* prev's slots are by the other hash: affinity was turned on or off since */
};
struct abi_service {
	__u64 key; /* chosen by userspace, 0 = free */
	__u64 cur, prev;
	__u64 changed_ns; /* CLOCK_MONOTONIC, when cur replaced prev */
	__u32 flags;
	__u32 vni;
	__u32 n; /* backends in the table */
	__u32 affinity_s;
	__u32 pad;
	__u64 refused; /* kernel: packets and sockets that found no serving task */
};
_Static_assert(sizeof(struct abi_service) == 64, "service");

/*
 * "slots": mmapable segments of chunks of backend indexes (0 = empty); a table is within one segment. In a previous
 * table a slot names whom flows belong to that nobody remembers; with SLOT_LOOKUP others that still live had the slot
 * since, and their flows are in "choices"; alone, while nobody serves, it names nobody else.
 */
#define ABI_CHUNK 16
#define SLOT_LOOKUP 0x80000000U
struct abi_chunk {
	__u32 slot[ABI_CHUNK];
};
_Static_assert(sizeof(struct abi_chunk) == 64, "a cache line");

/* "vips": HASH, address -> service */
struct abi_vip {
	__u32 service;
	__u32 vni;
};

/*
 * "ports": HASH. Also says what a published port means to a task of this node. "published": mmapable ARRAY of the same,
 * what every packet is asked about: element (UDP ? 65536 : 0) + port, a word, 0 = not published.
 */
struct abi_port_key {
	__u8 proto, pad;
	__be16 port;
};
enum abi_port_kind { PORT_MESH, PORT_HOST };
enum abi_port_flags { PORT_CLOSED_HERE = 1 }; /* known, but this node's own addresses do not take it */
struct abi_port {
	__u32 service; /* PORT_MESH: index in "services" */
	__u32 vni;     /* PORT_HOST: the task */
	struct abi_addr ip;
	__be16 target;
	__u8 kind;
	__u8 flags;
};
_Static_assert(sizeof(struct abi_port) == 28, "port");
#define ABI_PUBLISHED (2 * 65536)
struct abi_published {
	__u32 service;
	__be16 target;
	__u8 kind; /* PORT_HOST: which task is in "ports" */
	__u8 flags;
};
_Static_assert(sizeof(struct abi_published) == 8, "a word");

/*
 * "nodes": HASH, underlay address -> the way there. "near": mmapable ARRAY of the same by a hash of the address, where
 * nearly all are found without a lookup; of two in one place one is here.
 */
struct abi_node {
	__u32 ifindex; /* 0: through the VXLAN device */
	__be32 next_hop;
	__u32 mtu;
	__be32 addr; /* whose way it is; 0 = nobody's */
};
_Static_assert(sizeof(struct abi_node) == 16, "node");
#define ABI_NEAR 1024
#define ABI_NEAR_SLOT(addr) ((__u32)(addr)*0x9e3779b1U >> 22)

/* "ways": PERCPU_ARRAY by a hash of the node, the kernel's alone: the way XDP found to a node, for a moment. */
#define ABI_WAYS 256
struct abi_way {
	__be32 node;      /* 0 = none */
	__u32 in;         /* for what came by this device */
	__u32 generation; /* abi_runtime.ways */
	__u32 ifindex;
	__u64 until; /* jiffies */
	__u32 mtu;
	__u8 dmac[6], smac[6];
};
_Static_assert(sizeof(struct abi_way) == 40, "way");

/* "host_addrs": HASH, address -> u32. "subnets": LPM_TRIE -> vni. */
struct abi_subnet_key {
	__u32 prefix; /* of 128 */
	struct abi_addr net;
};

/*
 * "flows": LRU_HASH, on the node that runs the task. Key: how the task sees the connection.
 * "syns": the same, of connections whose client has sent nothing but its SYN (FLOW_HALF); its first other packet moves
 *   them to "flows". A flood of SYNs fills this table alone.
 * "vip_flows": LRU_HASH of the same types, on the client's node, for what no socket hook translated:
 *   (client, VIP) -> backend in .dst, and (client, backend) -> VIP in .dst. And, by userspace, detours of connections whose
 *   backend died before it answered: (client, dead) -> another backend, with FLOW_DETOUR, once with ports and once
 *   without for ARP, and (client, other) -> dead.
 */
struct abi_flow_key {
	__be32 task, peer;
	__be16 tport, pport;
	__u8 proto;
	__u8 pad[3];
};
_Static_assert(sizeof(struct abi_flow_key) == 16, "flow key");

enum abi_flow_state { FLOW_SYN, FLOW_OPEN, FLOW_CLOSED };
enum abi_flow_flags {
	FLOW_FIN_CLIENT = 1,
	FLOW_FIN_TASK = 2,
	FLOW_DIRECT = 4,
	FLOW_HALF = 8,
	FLOW_ASKED = 16, /* refused, and its client made to ask again */
	FLOW_HELD = 32,  /* refused once more */
	FLOW_REFUSED = FLOW_ASKED | FLOW_HELD,
	FLOW_DETOUR = 64 /* in "vip_flows" */
};
struct abi_flow {
	__be32 dst;    /* what the client dialled */
	__be32 client; /* who the client is: differs from key.peer for loopback and local tasks */
	__be32 node;   /* ingress node, 0 = this one */
	__be16 dport, cport;
	__u32 backend;
	__u32 task;
	__u64 seen_ns; /* CLOCK_MONOTONIC_COARSE: last change of state, for UDP last packet */
	__u8 state, flags;
	__u16 pad;
	__u32 tick; /* kernel, UDP: jiffies when the clock was last read for seen_ns */
	__u8 pad2[24];
};
_Static_assert(sizeof(struct abi_flow) == 64, "the kernel's 48 bytes and the key before it: two whole cache lines");

/*
 * "choices": LRU_HASH, at the ingress: who serves a flow begun while the set was changing. "syn_choices": the same, as
 * long as its client has sent nothing but its SYN.
 */
struct abi_choice_key {
	__be32 client, dst;
	__be16 cport, dport;
	__u8 proto;
	__u8 pad[3];
};
struct abi_choice {
	__u32 backend, uid;
};

/* "ranges": LPM_TRIE -> u32, which addresses a service's published ports take. */
enum abi_range_kind { RANGE_SOURCE, RANGE_DIALLED };
struct abi_range_key {
	__u32 prefix;  /* of 192 */
	__u32 service; /* index in "services" */
	__u32 kind;
	struct abi_addr net;
};
_Static_assert(sizeof(struct abi_range_key) == 28, "range key");

/* "affinity": LRU_HASH, the task a client's new flows go to. */
#define AFFINITY_NETNS (1ULL << 63) /* the client is a task: a network namespace's cookie, else an IPv4 address */
struct abi_affinity_key {
	__u64 service; /* abi_service.key */
	__u64 client;
};
struct abi_affinity {
	__u32 backend, uid;
	__u64 seen_ns; /* CLOCK_MONOTONIC_COARSE, its last new flow or datagram */
};

/*
 * "fragments": LRU_HASH, where the first fragment of a packet went: the others carry no ports. Key: as it came in.
 */
struct abi_fragment_key {
	__be32 saddr, daddr;
	__u32 ifindex;
	__be16 id;
	__u8 proto;
	__u8 pad;
};
_Static_assert(sizeof(struct abi_fragment_key) == 16, "fragment key");
struct abi_fragment {
	__be32 saddr, daddr;
	__u32 ifindex; /* of a task here; with node 0 too: out to a client */
	__be32 node;
	__u32 vni;
	__u8 dmac[6], smac[6];
	__u8 hops;
	__u8 pad[3];
};

/* "socks": LRU_HASH, socket cookie and address -> the other address of the translation. */
enum abi_sock_kind { SOCK_FORWARD, SOCK_REVERSE, SOCK_PEER };
struct abi_sock_key {
	__u64 cookie;
	struct abi_addr addr;
	__be16 port;
	__u16 kind;
	__u32 pad;
};
_Static_assert(sizeof(struct abi_sock_key) == 32, "sock key");
struct abi_sock {
	struct abi_addr addr;
	__u32 backend, uid;
};

/*
 * "backend_stats": segments that are PERCPU_ARRAYs, by backend index. In: to the task. Published ports and the task's other traffic on its
 * network are apart: the latter is both what it serves and what it asks of others.
 */
#define ABI_STATS(X)                                                                                                   \
	X(packets_in)                                                                                                  \
	X(bytes_in)                                                                                                    \
	X(packets_out)                                                                                                 \
	X(bytes_out)                                                                                                   \
	X(net_packets_in)                                                                                              \
	X(net_bytes_in)                                                                                                \
	X(net_packets_out)                                                                                             \
	X(net_bytes_out)                                                                                               \
	X(conns)  /* begun: through published ports at the task's node, to service addresses at the client's */        \
	X(failed) /* through published ports, reset before they were open */                                           \
	X(opened) /* through published ports, and how long that took from the first SYN */                             \
	X(open_ns)                                                                                                     \
	X(resets_task) /* RST packets by the task */                                                                   \
	X(resets_peer) /* RST packets to it */
struct abi_stats {
#define X(name) __u64 name;
	ABI_STATS(X)
#undef X
};

/* ---- watching ---- */

enum abi_hook { HOOK_UPLINK, HOOK_LO, HOOK_VXLAN, HOOK_TASK, HOOK_SOCKET, HOOK_MAX };
/* What became of a packet at a hook. */
#define ABI_VERDICTS(X)                                                                                                \
	X(DROP, "drop")       /* reason says why */                                                                    \
	X(PASS, "pass")       /* to this machine's own stack: not ours */                                              \
	X(TASK, "task")       /* into the task behind out_ifindex */                                                   \
	X(NODE, "tunnel")     /* to another node through the tunnel, with vni */                                       \
	X(OUT, "out")         /* to a client, by out_ifindex */                                                        \
	X(HOST, "host")       /* to a client on this machine */                                                        \
	X(ANSWER, "answer")   /* answered here (ARP, echo) */                                                          \
	X(CONNECT, "connect") /* a socket pointed at a task */                                                         \
	X(REFUSE, "refuse")   /* a socket refused */                                                                   \
	X(PROBE, "probe")     /* another node's answer to our probe: netns holds its token, len its size */
enum abi_verdict {
#define X(name, id) VERDICT_##name,
	ABI_VERDICTS(X)
#undef X
		VERDICT_MAX
};
/* One packet at one hook: what "seen" (RINGBUF) carries. Addresses are IPv4, zero for anything else. */
struct abi_seen {
	__u64 time_ns; /* CLOCK_MONOTONIC */
	__u64 netns;   /* sockets: cookie of the network namespace */
	__be32 saddr, daddr, new_saddr, new_daddr;
	__be16 sport, dport, new_sport, new_dport;
	__be32 node;   /* other end of the tunnel it came by or goes by */
	__be32 target; /* the task the frame is for, when its MAC says so */
	__u32 vni;
	__u32 ifindex, out_ifindex;
	__u32 len;
	__u32 notes; /* bits of enum abi_event: what happened on the way */
	__u16 watchers;
	__be16 ethertype;
	__u8 hook, verdict, reason;
	__u8 proto, tcp, ttl;
	__u8 pad[6];
};
_Static_assert(sizeof(struct abi_seen) == 88, "seen");
_Static_assert(EVENT_MAX <= 32, "notes");

/*
 * A probe of the way between two nodes: a tunnelled packet of this VNI, which no network has, with this behind its UDP
 * header. The other node sends it back, cut to its shortest.
 */
#define ABI_PROBE_VNI 1
#define ABI_PROBE_MAGIC 0x6d657368
#define ABI_PROBE_OFF 42 /* in the inner frame: Ethernet, IPv4, UDP */
struct abi_probe {
	__u32 magic;
	__u32 size; /* of the whole, outer headers included */
	__u64 token;
	__u32 answer; /* 0: to be sent back */
	__u32 pad;
};
_Static_assert(sizeof(struct abi_probe) == 24, "probe");

/* "watched": HASH, an address (or, with WATCH_NETNS, a namespace's cookie) and a port (0 = any) -> who watches it. */
#define WATCH_NETNS (1ULL << 63)
struct abi_watch_key {
	__u64 id;
	__be16 port;
	__u16 pad[3];
};
struct abi_watch {
	__u16 from, to;
};

#endif
