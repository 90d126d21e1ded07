/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the parts of one daemon and how they are wired. Each part is behind its own header; only this folder
 *         knows them all. One loop, one thread; the data plane has its own (network_uv.c hands its reports over).
 */
#ifndef CONTROL_MESHD_MESHD_H
#define CONTROL_MESHD_MESHD_H

#include <uv.h>

#include "control/agent/agent.h"
#include "control/api/api.h"
#include "control/ca/ca.h"
#include "control/meshd/options.h"
#include "control/dispatcher/wire.h"
#include "control/meshd/state.h"

struct manager;
struct session;
struct network;

struct meshd {
	uv_loop_t *loop;
	const struct options *opt;
	struct mesh_rng rng;
	struct api *api;
	struct agent *agent;
	struct network *network; /* the data plane and its reports; always there */
	/* In a swarm: */
	bool in_swarm, busy; /* busy: init, join or leave is under way */
	struct node_state st;
	struct net_identity *identity;
	struct manager *manager; /* managers only */
	struct session *session; /* to a manager, also on the manager itself */
	char error[512];         /* shown by /info while not empty */
	bool stopping;
	uv_timer_t renew; /* certificate; cluster_uv.c */
};

#define MESH_PORT 2377
#define MESH_VXLAN_PORT 4789

/* ---- cluster_uv.c: init, join, leave, and coming back after a restart ---- */
int cluster_resume(struct meshd *m, struct mesh_err *err) MESH_MUST_CHECK;
void cluster_init(struct meshd *m, const struct api_init_request *r, api_done done, void *arg);
void cluster_join(struct meshd *m, const struct api_join_request *r, api_done done, void *arg);
void cluster_leave(struct meshd *m, bool force, api_done done, void *arg);
/* Watches the certificate from now on; stops before the loop ends. */
void cluster_watch_certificate(struct meshd *m);
/*
 * A manager that was down for longer than its certificate lives would be refused by everybody, itself included; it holds
 * the cluster's key, so it makes itself another.
 */
void cluster_renew_own(struct meshd *m, const struct md_cluster *c);
void cluster_unwatch_certificate(struct meshd *m);
/* This manager leads now: an init goes on. */
void cluster_leads(struct meshd *m);
/* The first session of a join was welcomed. */
void cluster_welcomed(struct meshd *m);

/* ---- manager_uv.c: the manager role ---- */
int manager_open(struct meshd *m, bool bootstrap, struct manager **out, struct mesh_err *err) MESH_MUST_CHECK;
void manager_close(struct manager *mgr, void (*cb)(void *arg), void *arg);
struct store *manager_store(struct manager *mgr);
bool manager_leads(const struct manager *mgr);
/* Takes tx. */
void manager_commit(struct manager *mgr, struct store_tx *tx, api_done done, void *arg);
/* A frame to a node's agent; false when it has no session. */
bool manager_send(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const struct buf *b);
uint32_t manager_new_stream(struct manager *mgr);
uv_loop_t *manager_loop(const struct manager *mgr);
size_t manager_sessions(const struct manager *mgr);
uint64_t manager_term(const struct manager *mgr);
/* Of every node while this manager leads: the last version sent to it and the last it acknowledged. */
void manager_each_session(const struct manager *mgr,
                          void (*fn)(void *arg, const char *node, bool connected, uint64_t sent, uint64_t acked),
                          void *arg);
/* Certificate for this node itself, at init. */
int manager_update_cluster(struct manager *mgr, const struct api_swarm_update *r, api_done done, void *arg);

/* ---- session_uv.c: the agent's side of a session ---- */
struct session *session_open(struct meshd *m);
/* say_leave: tells the manager that this node leaves. */
void session_close(struct session *s, bool say_leave, void (*cb)(void *arg), void *arg);
void session_status(struct session *s, const char *task, const struct md_task_status *st);
void session_applied(struct session *s, uint64_t version);
/* Something about this machine changed. */
void session_describe(struct session *s);
bool session_welcomed(const struct session *s);
/* Node id of the manager it talks to, NULL while there is none. */
const char *session_manager(const struct session *s);
/* Asks the manager (enum wire_run_op); MESH_E_NO_LEADER at once when there is none. */
void session_run(struct session *s, unsigned op, const struct md_task *t, api_done done, void *arg);

/* ---- runs.c: the manager's side of it ---- */
struct run_asked;
/* A node's request, whose task is taken; answers it now or later. */
void runs_request(struct manager *mgr, const char *node, struct wire_run *run);
/* A task changed: is somebody waiting for its place? */
void runs_on_task(struct manager *mgr, const struct md_task *t);
/* NULL: the manager role ends. */
void runs_node_gone(struct manager *mgr, const char *node);
struct map *manager_runs(struct manager *mgr);

/* ---- network_uv.c: the data plane on this loop ---- */
struct network *network_new(struct meshd *m);
/* Opens the data plane once the node is in a swarm. A failure is kept, said, and shown: tasks then fail to attach. */
void network_start(struct network *n);
/* destroy: remove every trace from the kernel. */
void network_stop(struct network *n, bool destroy);
void network_free(struct network *n, void (*cb)(void *arg), void *arg);
void network_submit(struct network *n, struct dp_delta *delta);
void network_attach(struct network *n, const struct md_task *t, int pid, int udp_fd, int tcp_fd);
void network_detach(struct network *n, const char *task);
void network_watch_listen(struct network *n, const char *task, const struct dp_port *ports, size_t count);
void network_watch_flows(struct network *n, const char *task);
void network_adopted(struct network *n);
const char *network_driver(const struct network *n);
/* Adds addresses, listening ports and the driver to a description. */
void network_describe(const struct network *n, struct md_node_description *d);
/* Packets on show: e, or err: this watcher will see nothing. */
typedef void (*network_seen_fn)(void *arg, const struct dp_event *e, const struct mesh_err *err);
/* Takes what f holds. The watcher's number, until network_unwatch; fn comes from the loop. */
int network_watch(struct network *n, struct dp_filter *f, network_seen_fn fn, void *arg,
                  struct mesh_err *err) MESH_MUST_CHECK;
void network_unwatch(struct network *n, int watcher);
/* False: there is no data plane. out must be cleared either way. */
bool network_stats(struct network *n, struct dp_stats *out);

/* ---- logs_uv.c: logs of tasks on other nodes ---- */
struct api_logs *logs_open(struct manager *mgr, const char *const *tasks, size_t n, const struct agent_log_opts *o,
                           const struct api_logs_ops *ops, void *arg);
void logs_resume(struct api_logs *l);
void logs_close(struct api_logs *l);
/* Frames of a node that belong to a stream a manager opened; the node's session ended. */
void logs_frame(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const uint8_t *p, size_t n);
void logs_node_gone(struct manager *mgr, const char *node);
/* The manager role ends: readers that are still there get no more lines. */
void logs_manager_gone(struct manager *mgr);
struct map *manager_streams(struct manager *mgr);
/* The agent's side: serves one call; frames of the call's stream go to logserve_frame. */
struct logserve;
struct logserve *logserve_new(struct agent *a, struct net_conn *c);
void logserve_call(struct logserve *ls, uint32_t stream, const struct wire_call *call);
void logserve_frame(struct logserve *ls, uint16_t type, uint32_t stream, const uint8_t *p, size_t n);
void logserve_drain(struct logserve *ls);
void logserve_free(struct logserve *ls);

/* ---- ask_uv.c: a question to every node, of a manager ---- */
struct api_ask *ask_open(struct manager *mgr, const char *what, const struct str_list *args,
                         const struct api_ask_ops *ops, void *arg);
void ask_close(struct api_ask *a);
/* False: the stream is of something else. */
bool ask_frame(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const uint8_t *p, size_t n);
void asks_node_gone(struct manager *mgr, const char *node);
void asks_manager_gone(struct manager *mgr);
struct map *manager_asks(struct manager *mgr);

/* ---- serve_uv.c: and its answer, of a node ---- */
struct serve;
struct serve *serve_new(struct meshd *m, struct net_conn *c);
/* False: this call is of something else. */
bool serve_call(struct serve *s, uint32_t stream, const struct wire_call *call);
/* The connection takes more again. */
void serve_drain(struct serve *s);
/* The manager has heard enough. */
void serve_end(struct serve *s, uint32_t stream);
/* The connection ended. */
void serve_free(struct serve *s);

/* ---- metrics.c ---- */
void metrics_write(struct meshd *m, struct buf *out);
/* Is this node, or a published port, well? Appends why. */
bool metrics_health(struct meshd *m, unsigned port, struct buf *out);

/* ---- address.c ---- */
/* "eth0", "10.0.0.1", "10.0.0.1:2377" -> address and port (def when absent). Must be local when local is set. */
int address_resolve(const char *text, uint16_t def, bool local, char addr[64], uint16_t *port,
                    struct mesh_err *err) MESH_MUST_CHECK;
/* The address of the link the default route uses, else the first global one. */
int address_default(char addr[64], struct mesh_err *err) MESH_MUST_CHECK;

/* ---- ops.c ---- */
extern const struct api_ops meshd_api_ops;

#endif
