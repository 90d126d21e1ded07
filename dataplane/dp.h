/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the data plane of this node: makes the kernel match a desired state, wires tasks to their
 *          networks, answers their names. Knows no service specs; everything it needs is in state.h.
 * Thread:  runs on a thread of its own. The functions below only queue work and return at once, from any
 *          one thread; reports come back on the data plane's thread through config.report, which must
 *          hand them on (control wraps it in a uv_async) and not block.
 * Loop:    observe -> plan -> apply -> report. Level-triggered and idempotent: opening it after a crash
 *          adopts what carries our mark and removes what nothing wants any more.
 * Life:    programs, maps, devices and routes outlive dp_close; dp_destroy removes them all.
 */
#ifndef DATAPLANE_DP_H
#define DATAPLANE_DP_H

#include <sys/types.h>

#include "base/map.h"
#include "dataplane/seen.h"

struct dp;

enum dp_report_kind {
	DP_APPLIED,     /* version: everything up to it is in force in the kernel and in DNS */
	DP_ATTACHED,    /* task: its interfaces, addresses, routes and resolver stand, or code/text say why not */
	DP_DETACHED,    /* task: nothing of it is left */
	DP_LISTENING,   /* task: all watched ports are listened on inside its network namespace */
	DP_FLOWS_ENDED, /* task: no connection is open to it any more */
	DP_HOST,        /* the host's own listening ports, addresses or links changed: host is set */
	DP_SEEN,        /* events: packets on show; or code and text: watcher "version" cannot watch here */
	DP_DEGRADED,    /* text: what does not work and what to do; empty text: whole again */
};

struct dp_host_port {
	uint16_t port;
	uint8_t protocol; /* IPPROTO_* */
	char process[32]; /* best effort, may be empty */
};
/* What the machine itself looks like, for "port already in use" and "subnet overlaps the underlay". */
struct dp_host {
	struct VEC(struct dp_host_port) ports;
	struct str_list addrs;   /* "172.31.1.11/24", every address of the host's own links */
	struct str_list subnets; /* routes of the host that are not ours: "172.31.1.0/24" */
};

struct dp_report {
	enum dp_report_kind kind;
	uint64_t version;
	task_id task;
	int code; /* 0 or negative */
	char text[256];
	struct dp_host *host;     /* DP_HOST; the receiver takes it (dp_host_free) */
	struct dp_events *events; /* DP_SEEN; the receiver takes it (sch_free, dp_events_schema) */
};
void dp_host_free(struct dp_host *h);

struct dp_config {
	const char *name;           /* our mark in kernel-visible names, at most 8 characters ("mesh") */
	const char *state_dir;      /* private, persistent: /var/lib/mesh/... */
	const char *run_dir;        /* private, gone at reboot: BPF pins live in run_dir/bpf (a bpffs we mount) */
	const char *cgroup;         /* absolute cgroup v2 directory that holds all our tasks (made when absent) */
	const char *data_path_addr; /* underlay address to use, NULL = address of the default route's link */
	uint16_t vxlan_port;        /* 4789 */
	const char *driver;         /* "auto", "ebpf", "nft" */
	uint32_t flows_max;         /* entries of each flow table, 0 = default */
	bool xdp;                   /* the ebpf driver: also in the drivers of uplinks that can */
	const char *local_subnet;   /* "172.18.0.0/16": addresses of tasks on no overlay network */
	void (*report)(void *arg, struct dp_report *r);
	void *arg;
};

/*
 * Probes the kernel, mounts what is needed, adopts what an earlier run left, starts the thread.
 * -EPERM without CAP_NET_ADMIN/CAP_BPF; MESH_E_UNSUPPORTED names the kernel feature that is missing.
 */
int dp_open(const struct dp_config *c, struct dp **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Stops the thread; leaves the kernel as it is. */
void dp_close(struct dp *d);
/* Stops the thread and removes every trace from the kernel: leaving the swarm. */
void dp_destroy(struct dp *d);

/* "ebpf" or "nft", why, and what it cannot; valid as long as d, shorter than DP_DRIVER_TEXT. */
#define DP_DRIVER_TEXT 448
const char *dp_driver(const struct dp *d);

/* Takes delta. Several queued deltas may be applied in one pass; the last version is reported. */
void dp_submit(struct dp *d, struct dp_delta *delta);

/* How a task is wired: the data plane owns the host side, the shim the namespace. */
struct dp_attach_net {
	network_id network; /* must have come with a delta; the local network for an empty id */
	char *addr;         /* "10.0.1.5/24"; empty with an empty network id: one is chosen from local_subnet */
};
struct dp_host_publish { /* mode=host: this node's port straight to this task */
	int protocol;
	uint32_t published, target;
};
struct dp_attach {
	task_id task;
	pid_t pid; /* any process in the task's network namespace: its shim */
	int dns_udp_fd,
		dns_tcp_fd; /* sockets at 127.0.0.11:53 the shim made there, in pid's fd table; -1: we open them */
	SCH_LIST(struct dp_attach_net) nets; /* eth0, eth1, ... in this order */
	SCH_LIST(struct dp_host_publish) host_ports;
	struct str_list nameservers; /* forwarders instead of the host's, may be empty */
};
void dp_attach_free(struct dp_attach *a);

/* Takes a. Answered by DP_ATTACHED. Again for a task that is attached: adopts, changes nothing. */
void dp_attach_task(struct dp *d, struct dp_attach *a);
/* Answered by DP_DETACHED. New packets for the task are answered by its peers from now on. */
void dp_detach_task(struct dp *d, task_id task);
/* After a restart: every task that is still wanted has been attached again; the rest may go. */
void dp_attach_done(struct dp *d);
/* DP_LISTENING once all ports are listened on in the task's namespace (sock_diag). */
void dp_watch_listen(struct dp *d, task_id task, const struct dp_port *ports, size_t n);
/* DP_FLOWS_ENDED once no established connection to the task is known; at once when there is none. */
void dp_watch_flows(struct dp *d, task_id task);

/* Takes what f holds. DP_SEEN from now on, for watcher (0 .. DP_WATCHERS_MAX - 1). */
void dp_watch(struct dp *d, unsigned watcher, struct dp_filter *f);
void dp_unwatch(struct dp *d, unsigned watcher);

/* The nftables ruleset of this network namespace as JSON text, without the elements of sets. Blocks some milliseconds. */
int dp_ruleset_json(struct buf *out, struct mesh_err *err) MESH_MUST_CHECK;

/* What was counted. Thread-safe; waits half a second at most, then gives the figures of last time. out must be cleared. */
void dp_stats_get(struct dp *d, struct dp_stats *out);

#endif
