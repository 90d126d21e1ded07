/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the eBPF driver: loads the programs, attaches them, and writes what they look up. Knows nothing of
 *         ids, names or deltas; dataplane/dp.c says what should be there.
 * Owner:  pinned maps and links below pin_dir; they outlive the process. ebpf_destroy removes them.
 * Thread: the data plane's; every call may block in the kernel for a short while (services: writes to
 *         shared memory only). ebpf_stats too: call it from the same thread.
 * Order:  every ebpf_set_* is idempotent and replaces. What is referred to need not exist yet, except that
 *         a task interface needs its network. Make before break: set endpoints and services before VIPs and ports.
 * Restart: nothing is remembered here but what is in the maps. After ebpf_open set everything that is wanted,
 *         attach everything again (programs are swapped atomically), then ebpf_sweep removes the rest.
 *         ebpf_mark starts such a pass at any other time.
 * Errors: negative codes; err tells the story.
 */
#ifndef DATAPLANE_EBPF_EBPF_H
#define DATAPLANE_EBPF_EBPF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "dataplane/seen.h"

struct ebpf;

struct ebpf_config {
	const char *pin_dir;    /* on a bpffs, private to this node; made when absent */
	const char *cgroup;     /* cgroup v2 directory of all our tasks; NULL: no socket hooks */
	struct dp_ip self;      /* this node's underlay address */
	unsigned vxlan_ifindex; /* the collect-metadata device */
	uint16_t tunnel_port;   /* UDP, host order; 0: tasks may send to any, and tunnels are the VXLAN device's */
	uint32_t flows_max;     /* entries of the flow tables, 0 = 65536 */
	bool udp_csum;          /* checksums in the outer UDP header (default: zero, as VXLAN over IPv4 has it) */
	bool no_tcx;            /* use clsact even where the kernel has tcx */
	bool no_own_tunnel;     /* leave outer headers to the VXLAN device even where the programs can write them */
	bool xdp;               /* load the XDP program, too; a kernel that does not take it is no failure */
	bool test_tunnel;       /* tests only, see bpf/abi.h */
	bool test_room;         /* benchmarks only, likewise */
};

/* 0 when this kernel can run the driver; else MESH_E_UNSUPPORTED or -EPERM, err names what is missing. */
int ebpf_probe(struct mesh_err *err) MESH_MUST_CHECK;

/*
 * Loads, adopts pinned maps (of another layout: hands them over, without a packet lost), attaches the socket hooks.
 * Begins a mark-and-sweep pass.
 */
int ebpf_open(const struct ebpf_config *c, struct ebpf **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Frees memory; programs, links and maps stay. NULL is fine. */
void ebpf_close(struct ebpf *e);
/* Detaches and unpins everything, then frees. */
void ebpf_destroy(struct ebpf *e);
/* The same of what another run left there, without loading anything: also where nothing can be loaded. */
void ebpf_remove(const char *pin_dir);

/* Are devices attached to by tcx links? If not, this kernel has none and clsact filters do the same. */
bool ebpf_has_tcx(const struct ebpf *e);

/* Starts a pass: what is not set or attached again until ebpf_sweep is removed by it. */
void ebpf_mark(struct ebpf *e);
void ebpf_sweep(struct ebpf *e);

/* ---- devices, all of the network namespace the caller runs in ---- */
enum ebpf_hook { EBPF_UPLINK, EBPF_LO, EBPF_VXLAN };
int ebpf_attach(struct ebpf *e, enum ebpf_hook hook, unsigned ifindex, struct mesh_err *err) MESH_MUST_CHECK;
/*
 * XDP on an uplink, in its driver, beside EBPF_UPLINK's program; frames leave by such uplinks only. Another's program
 * stays: -EBUSY. Again: swaps the program. err says why not, for the operator.
 */
int ebpf_attach_xdp(struct ebpf *e, unsigned ifindex, struct mesh_err *err) MESH_MUST_CHECK;
struct ebpf_link {
	uint8_t mac[6];
	bool turns; /* sends back out of it what came in by it (XDP_TX) */
	bool sends; /* sends what is redirected to it */
};
/* Until then, and of a link that does neither, everything is passed up. */
int ebpf_set_link(struct ebpf *e, unsigned ifindex, const struct ebpf_link *l, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_detach_xdp(struct ebpf *e, unsigned ifindex);
/* An uplink went away or is none any more. A device that is gone is fine. */
void ebpf_detach(struct ebpf *e, unsigned ifindex);

/* The largest IP packet a tunnel takes in one piece: who sends clients' larger ones is told. 0: nobody is. */
void ebpf_set_tunnel_mtu(struct ebpf *e, uint32_t mtu);

/* One interface of a task: the host end of its veth pair. */
struct ebpf_iface {
	unsigned ifindex;    /* host end */
	uint32_t vni;        /* network, 0 = the local one; must have been set */
	struct dp_ip ip;     /* the task's */
	uint32_t task;       /* same nonzero number for all interfaces of a task, distinct from other tasks' here */
	uint8_t host_mac[6]; /* of the host end; the gateway's answer to ARP */
	bool internal;       /* no way out through this one (also when the network is internal) */
};
int ebpf_attach_task(struct ebpf *e, const struct ebpf_iface *i, struct mesh_err *err) MESH_MUST_CHECK;
/* Before or after the device is deleted. The endpoint's own entry is removed with ebpf_del_endpoint. */
void ebpf_detach_task(struct ebpf *e, unsigned ifindex);

/* A connection of a task here, from ip:port to peer:peer_port. cookie: the socket's. */
struct ebpf_conn {
	uint32_t vni;
	uint64_t cookie;
	struct dp_ip ip, peer;
	uint16_t port, peer_port;
};
/*
 * Its peer is gone and never answered. Was it chosen by the address of a service, another of its tasks answers in its
 * stead when the client asks again; false: it was not, or there is no other.
 */
bool ebpf_detour(struct ebpf *e, const struct ebpf_conn *c);
/* Does it go to another than its peer, who is there? */
bool ebpf_is_detoured(struct ebpf *e, const struct ebpf_conn *c);

/* ---- what the programs look up ---- */
/* The machine's own addresses: what clients may dial published ports at. */
int ebpf_set_host_addr(struct ebpf *e, const struct dp_ip *addr, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_host_addr(struct ebpf *e, const struct dp_ip *addr);

/*
 * The way to a node's underlay address, for the programs that write outer headers. ifindex 0: there is none they
 * could take (not an Ethernet device, no route, this node itself), the VXLAN device has to find it.
 */
struct ebpf_way {
	unsigned ifindex;
	struct dp_ip next_hop; /* on that device's link */
	uint32_t mtu;          /* of the whole way, as far as it is known */
};
/* Machines we take tunnelled packets from. */
int ebpf_set_node(struct ebpf *e, const struct dp_ip *addr, const struct ebpf_way *way,
                  struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_node(struct ebpf *e, const struct dp_ip *addr);

/* Do the programs write and strip outer headers themselves? If not, why (static text, NULL otherwise). */
const char *ebpf_device_reason(const struct ebpf *e);
/* Leaves tunnels to the VXLAN device, both ways, or not: for what only the stack does to them, such as IPsec. */
void ebpf_via_device(struct ebpf *e, bool device);

struct ebpf_network {
	uint32_t vni; /* 0 = the local network */
	struct dp_ip subnet, gateway;
	unsigned prefix; /* of an IPv4 or IPv6 address: "10.0.1.0/24" is 24 */
	bool internal, ingress;
};
int ebpf_set_network(struct ebpf *e, const struct ebpf_network *n, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_network(struct ebpf *e, uint32_t vni);

struct ebpf_endpoint {
	uint32_t vni;
	struct dp_ip ip;
	struct dp_ip node; /* underlay address of its machine; ignored for tasks of this node */
	bool local;        /* runs here; takes packets once ebpf_attach_task named its interface */
};
int ebpf_set_endpoint(struct ebpf *e, const struct ebpf_endpoint *ep, struct mesh_err *err) MESH_MUST_CHECK;
/* New packets for it are refused from now on; its flows are forgotten. */
void ebpf_del_endpoint(struct ebpf *e, uint32_t vni, const struct dp_ip *ip);

/* A service on one network. key: nonzero, the caller's, stable over restarts: a 64-bit hash of the ids. */
struct ebpf_backend {
	struct dp_ip ip;
	struct dp_ip node; /* as in ebpf_endpoint */
	bool local;
	uint32_t weight;             /* 0 = 1 */
	enum dp_backend_state state; /* only serving ones are in the table */
	bool spare; /* not in the table all the same: it keeps what it has, and what other nodes send */
};
/* Of IPv4 or IPv6 addresses, prefix as in ebpf_network. */
struct ebpf_range {
	struct dp_ip net;
	unsigned prefix;
	bool dialled; /* where clients may dial it; else who may */
};
struct ebpf_service {
	uint64_t key;
	uint32_t vni;
	bool direct_return;
	uint32_t affinity_s;                 /* 0 = none */
	const struct ebpf_backend *backends; /* borrowed; in any order */
	size_t n;
	const struct ebpf_range *ranges; /* borrowed; of its published ports. None of a kind: everybody, everywhere */
	size_t n_ranges;
};
/* Rebuilds the table when the serving set or weights changed; the table depends on the set alone. */
int ebpf_set_service(struct ebpf *e, const struct ebpf_service *s, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_service(struct ebpf *e, uint64_t key);

/* The service must have been set. */
int ebpf_set_vip(struct ebpf *e, const struct dp_ip *vip, uint64_t service, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_vip(struct ebpf *e, const struct dp_ip *vip);

struct ebpf_port {
	uint8_t proto;              /* IPPROTO_TCP, IPPROTO_UDP */
	uint16_t published, target; /* host order */
	uint64_t service;           /* routing mesh; must have been set */
	bool host_mode;             /* straight to the local task (vni, ip) instead */
	uint32_t vni;
	struct dp_ip ip;
	bool closed_here; /* the host listens on it: tasks here still serve what other nodes take in */
};
int ebpf_set_port(struct ebpf *e, const struct ebpf_port *p, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_del_port(struct ebpf *e, uint8_t proto, uint16_t published);

/* ---- what the programs know ---- */
/* TCP connections through published ports that are open to this task address (UDP just ages out). */
int ebpf_flow_count(struct ebpf *e, const struct dp_ip *task, size_t *out) MESH_MUST_CHECK;
/* Forgets all flows of a task address (dead tasks; ebpf_del_endpoint does it too). */
void ebpf_flow_purge(struct ebpf *e, const struct dp_ip *task);

/* Of one backend of a service, of all it has when ip is NULL. MESH_E_NOT_FOUND. */
int ebpf_service_stats(struct ebpf *e, uint64_t service, const struct dp_ip *ip,
                       struct dp_counters *out) MESH_MUST_CHECK;
/* Packets and sockets that found no serving task. */
uint64_t ebpf_refused(const struct ebpf *e, uint64_t service);
/* Reads drop counter i: its id and text (static); false past the last. */
bool ebpf_drop(struct ebpf *e, unsigned i, const char **id, const char **text, uint64_t *packets);
/*
 * Shows packets to a watcher (0 .. DP_WATCHERS_MAX - 1) from now on; again: by another filter. Events are to be read
 * some times a second while anybody watches; else it costs nothing.
 */
int ebpf_watch(struct ebpf *e, unsigned watcher, const struct dp_filter *f, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_unwatch(struct ebpf *e, unsigned watcher);
/* Returns how many events of anybody's the ring had no room for since the last reading. */
uint64_t ebpf_watch_read(struct ebpf *e, void (*fn)(void *arg, const struct dp_seen *s), void *arg);
/* One event of the ring, foreign bytes. MESH_E_CORRUPT. Pure. */
int ebpf_seen_decode(const void *p, size_t n, struct dp_seen *out) MESH_MUST_CHECK;
/* Appends drops by reason, events, tables. */
void ebpf_stats(struct ebpf *e, struct dp_stats *out);

#endif
