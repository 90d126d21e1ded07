/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    what the files of control/api share: the request, ways to answer it (at once, later, as a stream, as a
 *          raw connection), the route table's entry, committing changes.
 * Life:    a handler gets a request once, when its body is complete, and sees to it that it is answered exactly once,
 *          now or later. Who answers later holds a reference (req_ref) and asks req_live first: the daemon may have
 *          answered 503 and gone meanwhile.
 * Loop:    all on the API's loop; nothing here blocks but writing an uploaded archive to its temporary file.
 * Errors:  req_fail turns a code and its story into {"message": ...} with the code's HTTP status.
 */
#ifndef CONTROL_API_HTTP_H
#define CONTROL_API_HTTP_H

#include <microhttpd.h>
#include <uv.h>

#include "control/api/api.h"
#include "control/model/json.h"

#define API_VERSION "1.47"
#define API_MIN_VERSION "1.24"
#define API_MIN_MINOR 24
#define API_BODY_MAX (16u << 20)

struct events;
struct execs;

struct api {
	uv_loop_t *loop;
	const struct api_ops *ops;
	void *arg;
	char *socket_path;
	struct MHD_Daemon *daemon;
	uv_poll_t poll;
	uv_timer_t timer;
	struct req *reqs;       /* all open ones */
	struct stream *streams; /* streaming answers */
	struct hijack *hijacks; /* raw connections */
	struct events *events;
	struct execs *execs;
	bool closing;
	int handles; /* uv handles of ours not closed yet */
	void (*closed)(void *arg);
	void *closed_arg;
	unsigned long long requests; /* answered, for /metrics */
};

enum route_flag {
	R_MANAGER = 1 << 0, /* 503 unless this node is a manager; r->store is set */
	R_UPLOAD = 1 << 1,  /* the body goes to a file, r->upload_path */
};
struct req;
struct route {
	const char *method, *pattern; /* "/services/{}/update"; {*} takes several segments */
	void (*fn)(struct req *r);
	unsigned flags;
};

#define REQ_ARGS 2
struct req {
	struct api *api; /* NULL once the API is closed */
	struct MHD_Connection *conn;
	struct req *next, *prev;
	unsigned refs;
	const struct route *route;
	char *path;          /* decoded, without the version */
	char *arg[REQ_ARGS]; /* what the pattern's {} stand for */
	int minor;           /* 41 for /v1.41; 0 without a version */
	struct store *store; /* valid during the handler only */
	struct buf body;
	bool too_large;
	int upload_fd, upload_error;
	char *upload_path;
	bool dispatched, answered, suspended;
	unsigned status;
	struct MHD_Response *response;
	struct hijack *hijack; /* queued, not opened yet */
	void *data;            /* the handler's own */
	void (*data_free)(void *data);
	struct str_list warnings;
};

/* ---- router.c ---- */

/* Splits "/v1.41/services/x" into version and path; *minor 0 without one. MESH_E_INVALID "client version ...". */
int api_path_split(const char *url, int *minor, const char **path, struct mesh_err *err) MESH_MUST_CHECK;
/* The route for a method and path, its arguments copied to arg (caller frees). *known: the path exists. */
const struct route *api_route_find(const char *method, const char *path, char *arg[REQ_ARGS], bool *known);
/* Finds the route (at the first bytes) and calls its handler (at the last). */
void api_route(struct req *r, const char *method, const char *url);
void api_dispatch(struct req *r);

/* A uv handle of ours begins to live; has been closed. api_close waits for all of them. */
void api_handle_opened(struct api *a);
void api_handle_closed(struct api *a);

/* ---- request ---- */

struct req *req_ref(struct req *r);
void req_unref(struct req *r);
/* May it still be answered? */
bool req_live(const struct req *r);
/* Decoded query parameter or NULL; header or NULL. Valid until answered. */
const char *req_query(struct req *r, const char *key);
const char *req_header(struct req *r, const char *key);
/* As the engine reads them: absent, "", 0, no, false, none are false. */
bool req_flag(struct req *r, const char *key);
/* A number of the query; def when absent. MESH_E_INVALID. */
int req_number(struct req *r, const char *key, int64_t def, int64_t *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Body to object; unknown members land in r->warnings and the log. Answers 400 itself: then nonzero. */
int req_decode(struct req *r, const struct schema *s, void *obj) MESH_MUST_CHECK;
/* Body to JSON tree, NULL after having answered 400; an empty body gives {}. Caller json_decrefs. */
json_t *req_json(struct req *r);
void req_keep(struct req *r, void *data, void (*data_free)(void *));

/* ---- answers ---- */

/* Each takes what it is given. */
void req_reply(struct req *r, unsigned status, const char *type, struct buf *body);
void req_reply_json(struct req *r, unsigned status, struct jw *w);
void req_reply_empty(struct req *r, unsigned status);
void req_reply_id(struct req *r, unsigned status, const char *key, const char *id);
void req_fail(struct req *r, int code, const struct mesh_err *err);
void req_error(struct req *r, unsigned status, const char *fmt, ...) MESH_PRINTF(3, 4);
/* An extra header of the coming answer; only between building and queueing, see ping. */
void req_answer(struct req *r, unsigned status, struct MHD_Response *response);
void api_response_headers(struct MHD_Response *response, const char *type);

/* A chunked answer, as long as it takes. */
struct stream_ops {
	void (*drained)(void *arg); /* room again after stream_write said no; may be NULL */
	void (*closed)(void *arg);  /* once, last: sent to its end or the client went away */
};
struct stream *req_stream(struct req *r, unsigned status, const char *type, const struct stream_ops *ops, void *arg);
/* False: enough for now, wait for drained (what was given is kept all the same). */
bool stream_write(struct stream *s, const void *p, size_t n);
void stream_end(struct stream *s);

/* The connection itself, after 101. */
struct hijack_ops {
	void (*open)(void *arg, struct hijack *h);
	void (*data)(void *arg, const uint8_t *p, size_t n); /* n = 0: the client has closed its sending side */
	void (*closed)(void *arg);                           /* once, last */
};
/* type: Content-Type of the 101. The client must have asked for an upgrade: answers 400 otherwise, false. */
bool req_hijack(struct req *r, const char *type, const struct hijack_ops *ops, void *arg);
void hijack_write(struct hijack *h, const void *p, size_t n);
size_t hijack_queued(const struct hijack *h);
/* Sends what is queued, then closes. */
void hijack_end(struct hijack *h);

/* ---- changes to the store (change.c) ---- */

/* Puts changes into tx; may be called again when others were faster. Nonzero: the answer is this failure. */
typedef int (*change_fn)(struct req *r, struct store_tx *tx, struct mesh_err *err);
void req_change(struct req *r, change_fn build, void (*finish)(struct req *r));
/* "rpc error: code = <grpc> desc = ..." as the engine words it. Returns code. */
int api_rpc_fail(struct mesh_err *err, int code, const char *grpc, const char *fmt, ...) MESH_PRINTF(4, 5);
/* ?version=N against an object's. */
int api_check_version(struct req *r, const struct md_meta *meta, struct mesh_err *err) MESH_MUST_CHECK;
/* Object for the request's first argument. */
int api_find(struct req *r, enum store_kind k, const void **out, struct mesh_err *err) MESH_MUST_CHECK;
/* The engine's text for a node that is not a manager. */
int api_not_manager(struct api *a, struct mesh_err *err);
void api_new_id(struct api *a, char out[MESH_ID_LEN + 1]);
void api_new_hex(struct api *a, char out[65]);
void api_local(struct api *a, struct api_local_state *out);
/* NULL when there is none. */
struct agent *api_agent(struct api *a);

/* ---- events.c, exec.c: state with a life of its own ---- */
struct events *events_new(struct api *a);
void events_free(struct events *e);
struct execs *execs_new(void);
void execs_free(struct execs *e);

/* ---- handlers ---- */
typedef void api_handler(struct req *r);
api_handler api_ping, api_version, api_info, api_df, api_auth, api_metrics, api_events, api_mesh_stats, api_mesh_trace,
	api_mesh_doctor, api_mesh_node, api_mesh_node_inspect, api_mesh_service_inspect, api_mesh_service_rebalance,
	api_swarm_inspect, api_swarm_init, api_swarm_join, api_swarm_leave, api_swarm_update, api_swarm_unlockkey,
	api_swarm_unlock, api_node_list, api_node_inspect, api_node_update, api_node_remove, api_service_list,
	api_service_inspect, api_service_create, api_service_update, api_service_remove, api_service_logs,
	api_task_list, api_task_inspect, api_task_logs, api_network_list, api_network_inspect, api_network_create,
	api_network_remove, api_network_prune, api_network_connect, api_secret_list, api_secret_inspect,
	api_secret_create, api_secret_update, api_secret_remove, api_config_list, api_config_inspect, api_config_create,
	api_config_update, api_config_remove, api_container_list, api_container_inspect, api_container_logs,
	api_container_top, api_container_stats, api_container_kill, api_container_stop, api_container_start,
	api_container_restart, api_container_remove, api_container_wait, api_container_create, api_container_rename,
	api_container_resize, api_container_attach, api_container_prune, api_container_unsupported, api_exec_create,
	api_exec_start, api_exec_resize, api_exec_inspect, api_image_list, api_image_inspect, api_image_history,
	api_image_create, api_image_load, api_image_tag, api_image_remove, api_image_prune, api_image_unsupported,
	api_distribution_inspect, api_volume_list, api_volume_inspect, api_volume_create, api_volume_remove,
	api_volume_prune;

#endif
