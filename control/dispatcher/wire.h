/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what an agent and its manager say to each other on an authenticated connection (control/net/net.h).
 * Format: NET_SESSION frames: one byte kind, then the message by its schema. NET_CALL opens a stream with a
 *         struct wire_call; NET_DATA carries its answer, NET_END ends it with a code and a text.
 * Order:  assignments to one node are one ordered stream; a node acknowledges a version when its kernel holds it.
 */
#ifndef CONTROL_DISPATCHER_WIRE_H
#define CONTROL_DISPATCHER_WIRE_H

#include "control/model/model.h"
#include "dataplane/state.h"

enum wire_kind {
	/* agent -> manager */
	WIRE_HELLO = 1, /* struct wire_hello; first message of a session */
	WIRE_DESCRIBE,  /* struct md_node_description: something about the machine changed */
	WIRE_HEARTBEAT, /* empty */
	WIRE_STATUS,    /* struct wire_status */
	WIRE_ACK,       /* struct wire_ack */
	WIRE_LEAVE,     /* empty: the node leaves the swarm */
	WIRE_RUN,       /* struct wire_run: a standalone container of this node */
	/* manager -> agent */
	WIRE_WELCOME = 32, /* struct wire_welcome */
	WIRE_ASSIGN,       /* struct wire_assign */
	WIRE_RAN,          /* struct wire_ran */
};

struct wire_hello {
	struct md_node_description description;
	char *meshd_version;
	int availability; /* enum md_availability asked for at join; counts the first time only */
};

struct wire_task_status {
	task_id task;
	struct md_task_status status;
};
struct wire_status {
	SCH_LIST(struct wire_task_status) tasks;
};
struct wire_ack {
	uint64_t version;
};

struct wire_manager {
	node_id node;
	char *addr; /* host:port */
};
struct wire_welcome {
	int64_t heartbeat_ns; /* send a heartbeat this often */
	uint32_t data_path_port;
	SCH_LIST(struct wire_manager) managers;
};

/* A task and what it needs beside itself. */
struct wire_task {
	struct md_task task;
	SCH_LIST(struct md_secret) secrets;
	SCH_LIST(struct md_config) configs;
};
struct wire_assign {
	uint64_t version;
	bool snapshot; /* first part of a whole state: whatever its parts do not name goes */
	bool more;     /* parts follow; nothing is acted on before the last */
	SCH_LIST(struct wire_task) tasks;
	struct str_list removed; /* task ids */
	struct dp_delta net;     /* its version and snapshot fields are not used */
};

/* Opens a stream from manager to agent. */
struct wire_call {
	char *what; /* "logs"; "stats", "seen", "check": answered by records of JSON, one a NET_DATA */
	struct str_list tasks;
	bool out, err, follow;
	int64_t since, until, tail;
	struct str_list args; /* of all but logs */
};
/* NET_DATA of "logs". */
struct wire_log_line {
	task_id task;
	uint32_t stream;
	int64_t time_ns;
	struct bytes text;
};
/* NET_END. */
struct wire_end {
	int64_t code;
	char *text;
};

/*
 * What a node asks of the store for a container that was run on it. The manager answers each with a WIRE_RAN of
 * the same number: CREATE once the task has its addresses and its node has been confirmed.
 */
enum wire_run_op { WIRE_RUN_CREATE, WIRE_RUN_START, WIRE_RUN_RENAME, WIRE_RUN_REMOVE, WIRE_RUN_MAX };
struct wire_run {
	uint64_t number;
	uint32_t op;
	struct md_task task; /* CREATE: whole; RENAME: id and name; else the id */
};
struct wire_ran {
	uint64_t number;
	int64_t code;
	char *text;
};

extern const struct schema wire_run_schema, wire_ran_schema;
extern const struct schema wire_hello_schema, wire_status_schema, wire_ack_schema, wire_welcome_schema,
	wire_assign_schema, wire_task_schema, wire_call_schema, wire_log_line_schema, wire_end_schema;

/* Kind byte and object, appended. */
void wire_encode(enum wire_kind kind, const struct schema *s, const void *obj, struct buf *out);
/* Schema of a kind, NULL for unknown ones; heartbeat has an empty schema. */
const struct schema *wire_schema(enum wire_kind kind);

#endif
