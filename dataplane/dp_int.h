/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the parts of the data plane's thread share. Private to dataplane/dp*.c.
 * Thread: everything here belongs to the data plane's thread, but for the queue and the last statistics (lock).
 */
#ifndef DATAPLANE_DP_INT_H
#define DATAPLANE_DP_INT_H

#include <net/if.h>
#include <pthread.h>
#include <stdatomic.h>

#include "dataplane/dns/server.h"
#include "dataplane/dp.h"
#include "dataplane/host.h"
#include "dataplane/netlink/way.h"
#include "dataplane/nft/steer.h"
#include "dataplane/nft/nft.h"
#include "dataplane/plan.h"
#include "dataplane/reserve.h"
#include "dataplane/wire.h"

enum cmd_kind {
	CMD_DELTA,
	CMD_ATTACH,
	CMD_DETACH,
	CMD_ATTACH_DONE,
	CMD_WATCH_LISTEN,
	CMD_WATCH_FLOWS,
	CMD_STATS,
	CMD_WATCH,
	CMD_UNWATCH,
};
struct cmd {
	enum cmd_kind kind;
	struct dp_delta *delta;
	struct dp_attach *attach;
	task_id task;
	struct dp_port *ports;
	size_t n_ports;
	unsigned watcher;
	struct dp_filter filter;
	struct cmd *next;
};

#define OVERLAY_OVERHEAD 50 /* outer Ethernet, IP, UDP and VXLAN headers */

struct dp_tnet {
	network_id network; /* empty: local */
	uint32_t vni;
	bool internal, ingress;
	struct wire_iface wire;
};

struct dp_task {
	task_id id;
	uint32_t number; /* for the driver */
	pid_t pid;
	int sd; /* sock_diag of its namespace */
	SCH_LIST(struct dp_tnet) nets;
	size_t way_out; /* index in nets of the default route's; nets.n = none */
	SCH_LIST(struct dp_host_publish) host_ports;
	struct VEC(struct dp_port) listen; /* what DP_LISTENING waits for, and then what it serves */
	bool watch_listen, watch_flows;
	int64_t poll_at, poll_every;
};

/* An attach that waits for its network to come with a delta. */
struct dp_waiting {
	struct dp_attach *attach;
	int64_t deadline; /* 0: none, no state has come at all */
};

/* How packets are steered. Every function runs on the data plane's thread, once d's devices stand. */
struct dp_driver {
	const char *name;
	int (*open)(struct dp *d, struct mesh_err *err);
	void (*close)(struct dp *d);                             /* memory only; also when open failed */
	void (*destroy)(struct dp *d);                           /* every trace, and close */
	int (*attach_vxlan)(struct dp *d, struct mesh_err *err); /* the device is a new one */
	int (*attach_uplink)(struct dp *d, int ifindex, struct mesh_err *err);
	void (*detach_uplink)(struct dp *d, int ifindex);
	void (*rerouted)(struct dp *d); /* NULL: no matter. Routes, addresses or links changed, or may have */
	void (*poll)(struct dp *d);     /* NULL: nothing. What changes without notice, every few seconds */
	int (*attach_task)(struct dp *d, const struct dp_task *t, const struct dp_tnet *n, struct mesh_err *err);
	void (*detach_task)(struct dp *d, int ifindex); /* the device may be gone */
	void (*tunnel_mtu)(struct dp *d, uint32_t mtu); /* NULL: the kernel's forwarding sees to it */
	int (*set)(struct dp *d, const struct item *i, struct mesh_err *err);
	void (*del)(struct dp *d, const struct item *i);
	/* NULL: set and del take effect at once, and masquerading is left to dataplane/nft/nft.h. */
	int (*commit)(struct dp *d, const struct dp_ip *masquerade, size_t n, struct mesh_err *err);
	void (*sweep)(struct dp *d); /* what an earlier run left and nothing wants */
	/* Connections whose task is gone (dp_nobody_has) are forgotten: their next packet goes to another. NULL: del does. */
	void (*forget)(struct dp *d);
	bool sees_handshakes; /* counts how they end and how long they take */
	/* Drops, events, tables; called before those of services are asked for. */
	void (*stats)(struct dp *d, struct dp_stats *out);
	bool (*backend_stats)(struct dp *d, uint64_t service, const struct dp_ip *ip, struct dp_counters *out);
	uint64_t (*refused)(struct dp *d, uint64_t service);
	/*
	 * NULL: it cannot. Whether a connection of t to an address that nobody has is one to another task, or becomes one: only
	 * a connection that was never answered (syn) can.
	 */
	bool (*detour)(struct dp *d, const struct dp_task *t, uint32_t vni, const struct sd_sock *s, bool syn);
	/* NULL: this driver cannot show packets. */
	int (*watch)(struct dp *d, unsigned watcher, const struct dp_filter *f, struct mesh_err *err);
	void (*unwatch)(struct dp *d, unsigned watcher);
	/* How many found no room since the last reading. */
	uint64_t (*watch_read)(struct dp *d, void (*fn)(void *arg, const struct dp_seen *s), void *arg);
};
extern const struct dp_driver dp_driver_ebpf, dp_driver_nft;

/* dp_choose.c: the driver for what is wanted ("auto", "ebpf", "nft"; NULL: auto) on a kernel that was probed for ebpf. */
struct dp_probed {
	int code;   /* 0: it has all */
	bool tried; /* the kernel has all, and the driver did not start all the same: code and why are of that */
	const char *why, *kernel;
};
struct dp_choice {
	const struct dp_driver *drv;
	char text[DP_DRIVER_TEXT]; /* which, why, what it cannot */
};
int dp_choose(const char *want, const struct dp_probed *probed, struct dp_choice *out,
              struct mesh_err *err) MESH_MUST_CHECK;

/* XDP on one uplink. */
struct xdp_uplink {
	int ifindex;
	char name[IF_NAMESIZE];
	char why_not[128]; /* empty: it runs */
};

struct dp {
	/* Copies of the configuration. */
	char *name, *state_dir, *run_dir, *cgroup, *data_path_addr, *pin_dir;
	uint16_t vxlan_port;
	uint32_t flows_max;
	bool xdp;
	struct ebpf_network local;
	void (*report)(void *arg, struct dp_report *r);
	void *arg;
	char driver[DP_DRIVER_TEXT];

	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t stats_ready;
	struct cmd *head, *tail;
	bool stop;
	unsigned watchers; /* bits */
	unsigned stats_round;
	struct dp_stats stats; /* under lock, as of the last time somebody asked */
	int wakefd, epfd;

	struct wire wire;
	const struct dp_driver *drv;
	struct ebpf *ebpf; /* of the ebpf driver */
	struct ways *ways; /* the same */
	bool ipsec;        /* its tunnels are left to the stack for that */
	struct VEC(struct xdp_uplink) xdp_uplinks;
	struct steer *steer; /* of the nft driver */
	struct dns_server *dns;
	struct nft *nft;
	int monitor;
	struct dp_ip self;
	uint32_t underlay_mtu;
	int underlay_ifindex;
	int vxlan_ifindex;

	struct desired desired;
	struct plan_table have;
	struct map problems; /* plan.h */
	struct map tasks;    /* id -> struct dp_task */
	struct map down;     /* ids of tasks that ended here and that the manager still names */
	struct map zones;    /* network id -> struct dns_zone */
	struct VEC(struct dp_waiting) waiting;
	struct VEC(task_id) attached; /* wired, to be reported once the pass has put them into force */
	struct VEC(struct dp_ip) host_addrs;
	struct VEC(int) uplinks;
	struct VEC(struct dp_ip) reserved; /* local addresses of tasks of before a restart */
	struct VEC(struct dp_ip) masqueraded;
	struct dp_ip last_local;
	struct port_set published;      /* what stands open here */
	struct port_set reserved_ports; /* by us, from the host's own connections */
	struct host_watch host_watch;
	struct dp_host host;           /* as it is */
	struct dp_host *host_reported; /* as it was last said */

	bool no_destroy; /* the kernel cannot close sockets of others */
	bool dirty, observe_again, nft_stands, attach_done, swept;
	char degraded[256];
	uint64_t applied; /* last version reported */
	bool version_due;
	int64_t host_at, retry_at;
	int journal;         /* STATE/dataplane.state, open at its end; -1: the next change writes it anew */
	size_t journal_left; /* bytes until then */
	uint64_t passes, ops, op_failures, sockets_closed;
};

/* dp.c */
void dp_report_task(struct dp *d, enum dp_report_kind kind, const task_id *task, int code, const char *text);

/* dp_apply.c: the kernel and DNS are made what desired and tasks say; reports the version. */
void dp_pass(struct dp *d);
void dp_state_load(struct dp *d);
/* Takes delta: on file, then in desired. */
void dp_state_apply(struct dp *d, struct dp_delta *delta);
void dp_zones_fini(struct dp *d);
/* The task's zones, in the order of its interfaces; at most n. Returns how many. */
size_t dp_task_zones(struct dp *d, const struct dp_task *t, struct dns_zone **out, size_t n);

/* dp_tasks.c */
void dp_do_attach(struct dp *d, struct dp_attach *a, int64_t now); /* takes a */
void dp_retry_waiting(struct dp *d, int64_t now);
void dp_do_detach(struct dp *d, const task_id *tasks, size_t n);
void dp_do_attach_done(struct dp *d);
/* After a restart: tasks of before that run, and whose interfaces nobody has named yet. */
bool dp_tasks_missing(struct dp *d);
void dp_task_free(struct dp *d, struct dp_task *t); /* memory only */
int dp_read_reserved(struct dp *d) MESH_MUST_CHECK;

/* dp_watch.c */
void dp_do_watch_listen(struct dp *d, struct cmd *c, int64_t now);
void dp_do_watch_flows(struct dp *d, const task_id *task, int64_t now);
void dp_poll_tasks(struct dp *d, int64_t now);

/*
 * dp_stuck.c: closes the sockets of tasks here whose peer is an address of one of their networks that nobody has any
 * more: nothing would ever answer them. vni 0: of all networks.
 */
void dp_close_stuck(struct dp *d, uint32_t vni);
/* The networks of this node, and whether ip is an address of one of them that no task and no service has. */
struct dp_nets VEC(const struct ebpf_network *);
void dp_nets(const struct dp *d, struct dp_nets *out);
bool dp_nobody_has(const struct dp *d, const struct dp_nets *nets, const struct dp_ip *ip);
/* The socket of a task here, at local, that talks to peer by a service address which was translated on the way. */
void dp_close_socket(struct dp *d, uint8_t protocol, const struct dp_place *local, const struct dp_place *peer);

/* dp_stats.c */
void dp_do_stats(struct dp *d);

/* dp_seen.c */
void dp_do_watch(struct dp *d, unsigned watcher, struct dp_filter *f);
void dp_do_unwatch(struct dp *d, unsigned watcher);
/* Reports what was seen since; called some times a second while anybody watches. */
void dp_read_seen(struct dp *d);

/*
 * dp_xdp.c: the ebpf driver's second place on uplinks, where asked for and where the link's driver can. What cannot is
 * said once, and tc does it. check: links that cannot any more; all: and those that may by now.
 */
void dp_xdp_attach(struct dp *d, int ifindex);
void dp_xdp_detach(struct dp *d, int ifindex); /* of the uplink's other programs, too, see ebpf_detach */
void dp_xdp_check(struct dp *d, bool all);
/* "; XDP on eth0": how it stands on each uplink known so far. As snprintf. */
size_t dp_xdp_format(const struct dp *d, char *out, size_t size);

/* dp_observe.c */
int dp_find_underlay(struct dp *d, struct mesh_err *err) MESH_MUST_CHECK;
/* Looks at links, addresses and routes: uplinks, host addresses, our own routes and devices. */
void dp_observe(struct dp *d);
/*
 * dp_mtu.c: the link that carries our underlay address has this MTU now: the tunnel's and the tasks' interfaces follow,
 * but for those of networks with an MTU of their own.
 */
void dp_follow_mtu(struct dp *d, uint32_t underlay_mtu);
uint32_t dp_clamp_mtu(uint32_t link_mtu);

/* Looks at the host's listening ports; reports DP_HOST when anything of the host changed. */
void dp_observe_ports(struct dp *d);

#endif
