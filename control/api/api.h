/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the Docker Engine HTTP API on the node's unix socket (and later over mutual TLS): libmicrohttpd on the
 *          libuv loop, JSON by jansson through the schema tables. Handlers translate; the decisions are behind
 *          struct api_ops, which control/meshd wires to the store, the agent and the cluster.
 * Answers: as docs and recordings of the real engine say: paths, status codes, field order, error texts.
 *          Fields of a request that no schema knows are named in the answer's Warnings and in the log.
 * Loop:    all ops are called on the loop's thread. Asynchronous ones answer through the given done function
 *          exactly once, now or later; a client that goes away meanwhile does no harm.
 */
#ifndef CONTROL_API_API_H
#define CONTROL_API_API_H

#include <uv.h>

#include "control/agent/agent.h"
#include "control/agent/images.h"
#include "control/store/store.h"

struct api;

typedef void (*api_done)(void *arg, int code, const char *text, const struct mesh_err *err);

struct api_init_request {
	char *listen_addr, *advertise_addr, *data_path_addr;
	uint32_t data_path_port, subnet_size;
	struct str_list default_addr_pool;
	bool force_new_cluster, autolock;
	int availability; /* enum md_availability */
	struct md_cluster_spec spec;
};
struct api_join_request {
	char *listen_addr, *advertise_addr, *data_path_addr, *token;
	struct str_list remote_addrs;
	int availability;
};
struct api_swarm_update {
	uint64_t version;
	bool rotate_worker_token, rotate_manager_token, rotate_unlock_key;
	struct md_cluster_spec spec;
};
struct api_local_state {   /* what this node knows of itself, for /info and /_ping */
	const char *state; /* "inactive", "pending", "active", "error", "locked" */
	const char *error;
	bool manager; /* ControlAvailable */
	const char *node_id, *node_addr, *hostname;
	const char *data_plane;            /* "ebpf" / "nft: why" */
	const struct str_map *labels;      /* of the engine; may be NULL */
	const struct md_resources *offers; /* generic resources; may be NULL */
	struct {                           /* managers known: node id, "addr:2377" */
		struct {
			const char *node_id, *addr;
		} v[16];
		size_t n;
	} managers;
};

/* One line of a log on its way to a client. */
struct api_log_line {
	int stream;
	int64_t time_ns;
	const char *node, *service, *task;
	const char *text;
	size_t n;
};
struct api_logs; /* a running log read over several nodes */
struct api_logs_ops {
	bool (*on_line)(void *arg, const struct api_log_line *l); /* false: pause until resumed */
	/* Once, last, from the loop: the struct api_logs is gone then and must not be closed. */
	void (*on_end)(void *arg, int code, const struct mesh_err *err);
};

/* A question to every node of the cluster, see api_ops.ask_open. */
struct api_ask;
struct api_ask_ops {
	/* One record, JSON text as the node sent it: foreign bytes. */
	void (*on_record)(void *arg, const char *node, const char *json, size_t n);
	/* Once a node: it has said all (code 0), or why it will not. */
	void (*on_node_end)(void *arg, const char *node, int code, const struct mesh_err *err);
	/* Once, last, unless closed before: the struct api_ask is gone then. */
	void (*on_end)(void *arg);
};

struct api_ops {
	/* NULL when this node is not a manager. Reads are from here, after sync() when they must be fresh. */
	struct store *(*store)(void *arg);
	void (*local)(void *arg, struct api_local_state *out);
	struct agent *(*agent)(void *arg);
	/* Random ids for new objects. */
	struct mesh_rng *(*rng)(void *arg);
	/*
	 * Takes tx; done(arg, 0, NULL, NULL) once it is committed and applied. MESH_E_OUT_OF_SEQUENCE,
	 * MESH_E_CONFLICT (a name taken), MESH_E_NO_LEADER.
	 */
	void (*commit)(void *arg, struct store_tx *tx, api_done done, void *done_arg);
	/* text of done: the node id. */
	void (*swarm_init)(void *arg, const struct api_init_request *r, api_done done, void *done_arg);
	void (*swarm_join)(void *arg, const struct api_join_request *r, api_done done, void *done_arg);
	void (*swarm_leave)(void *arg, bool force, api_done done, void *done_arg);
	void (*swarm_update)(void *arg, const struct api_swarm_update *r, api_done done, void *done_arg);
	/* Tasks' logs wherever they run. ids: task ids. */
	struct api_logs *(*logs_open)(void *arg, const char *const *tasks, size_t n, const struct agent_log_opts *o,
	                              const struct api_logs_ops *ops, void *ops_arg);
	void (*logs_resume)(struct api_logs *l);
	void (*logs_close)(struct api_logs *l); /* no callback after */
	/*
	 * Is this port free for publishing on every node? MESH_E_IN_USE: "port 8080/tcp is already in use on
	 * node n2 by sshd". Beside what other services publish, which the allocator knows.
	 */
	int (*check_published)(void *arg, const struct md_port *p, struct mesh_err *err);
	/* Prometheus text for /metrics. */
	void (*metrics)(void *arg, struct buf *out);
	/*
	 * A change to a container run by hand on this node (enum wire_run_op): asked of the manager, wherever it is.
	 * NULL: none can be run here.
	 */
	void (*run)(void *arg, unsigned op, const struct md_task *t, api_done done, void *done_arg);
	/*
	 * Asks all nodes of the store: what is "stats", "seen" or "check" (control/dispatcher/wire.h). On managers only.
	 * NULL: not supported. No callback comes from within ask_open, none after ask_close.
	 */
	struct api_ask *(*ask_open)(void *arg, const char *what, const struct str_list *args,
	                            const struct api_ask_ops *ops, void *ops_arg);
	void (*ask_close)(struct api_ask *a);
	/* The key as a person has it ("SWMKEY-1-..."). May be NULL: not supported. */
	void (*swarm_unlock)(void *arg, const char *key, api_done done, void *done_arg);
};

/* Listens on path (removed first when nothing answers there; -EADDRINUSE when a daemon does). Mode 0660. */
int api_open(uv_loop_t *loop, const char *socket_path, const struct api_ops *ops, void *arg, struct api **out,
             struct mesh_err *err) MESH_MUST_CHECK;
/* Answers what runs with 503, closes. cb once, then a is gone. */
void api_close(struct api *a, void (*cb)(void *arg), void *arg);

/* An event for /events; attrs borrowed. scope "swarm" or "local". */
void api_event(struct api *a, const char *scope, const char *type, const char *action, const char *id,
               const struct str_map *attrs);
/* The same for a change in the store, worded as the engine does: a store_watch_fn, arg is the struct api. */
void api_on_store_event(void *api, const struct store_event *ev);

#endif
