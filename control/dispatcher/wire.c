/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/dispatcher/wire.h"

#define FIELDS(type) static const struct sch_field type##_fields[] =

#define T struct wire_hello
FIELDS(wire_hello){
	SF_OBJ(1, "description", description, &md_node_description_schema, 0),
	SF(2, STR, "meshd_version", meshd_version, 0),
	SF_ENUM(3, "availability", availability, &md_availability_names, 0),
};
SCHEMA(wire_hello_schema, wire_hello, wire_hello_fields);
#undef T
#define T struct wire_task_status
FIELDS(wire_task_status){
	SF(1, ID, "task", task, 0),
	SF_OBJ(2, "status", status, &md_task_status_schema, 0),
};
static SCHEMA(wire_task_status_schema, wire_task_status, wire_task_status_fields);
#undef T
#define T struct wire_status
FIELDS(wire_status){ SF_LIST(1, "tasks", tasks, &wire_task_status_schema, 0) };
SCHEMA(wire_status_schema, wire_status, wire_status_fields);
#undef T
#define T struct wire_ack
FIELDS(wire_ack){ SF(1, U64, "version", version, 0) };
SCHEMA(wire_ack_schema, wire_ack, wire_ack_fields);
#undef T
#define T struct wire_manager
FIELDS(wire_manager){ SF(1, ID, "node", node, 0), SF(2, STR, "addr", addr, 0) };
static SCHEMA(wire_manager_schema, wire_manager, wire_manager_fields);
#undef T
#define T struct wire_welcome
FIELDS(wire_welcome){
	SF(1, I64, "heartbeat_ns", heartbeat_ns, 0),
	SF(2, U32, "data_path_port", data_path_port, 0),
	SF_LIST(3, "managers", managers, &wire_manager_schema, 0),
};
SCHEMA(wire_welcome_schema, wire_welcome, wire_welcome_fields);
#undef T
#define T struct wire_task
FIELDS(wire_task){
	SF_OBJ(1, "task", task, &md_task_schema, 0),
	SF_LIST(2, "secrets", secrets, &md_secret_schema, 0),
	SF_LIST(3, "configs", configs, &md_config_schema, 0),
};
SCHEMA(wire_task_schema, wire_task, wire_task_fields);
#undef T
#define T struct wire_assign
FIELDS(wire_assign){
	SF(1, U64, "version", version, 0),  SF(2, BOOL, "snapshot", snapshot, 0),
	SF(3, BOOL, "more", more, 0),       SF_LIST(4, "tasks", tasks, &wire_task_schema, 0),
	SF(5, STRS, "removed", removed, 0), SF_OBJ(6, "net", net, &dp_delta_schema, 0),
};
SCHEMA(wire_assign_schema, wire_assign, wire_assign_fields);
#undef T
#define T struct wire_call
FIELDS(wire_call){
	SF(1, STR, "what", what, 0),   SF(2, STRS, "tasks", tasks, 0),   SF(3, BOOL, "out", out, 0),
	SF(4, BOOL, "err", err, 0),    SF(5, BOOL, "follow", follow, 0), SF(6, I64, "since", since, 0),
	SF(7, I64, "until", until, 0), SF(8, I64, "tail", tail, 0),      SF(9, STRS, "args", args, 0),
};
SCHEMA(wire_call_schema, wire_call, wire_call_fields);
#undef T
#define T struct wire_log_line
FIELDS(wire_log_line){
	SF(1, ID, "task", task, 0),
	SF(2, U32, "stream", stream, 0),
	SF(3, I64, "time_ns", time_ns, 0),
	SF(4, BYTES, "text", text, 0),
};
SCHEMA(wire_log_line_schema, wire_log_line, wire_log_line_fields);
#undef T
#define T struct wire_end
FIELDS(wire_end){ SF(1, I64, "code", code, 0), SF(2, STR, "text", text, 0) };
SCHEMA(wire_end_schema, wire_end, wire_end_fields);
#undef T
#define T struct wire_run
FIELDS(wire_run){
	SF(1, U64, "number", number, 0),
	SF(2, U32, "op", op, 0),
	SF_OBJ(3, "task", task, &md_task_schema, 0),
};
SCHEMA(wire_run_schema, wire_run, wire_run_fields);
#undef T
#define T struct wire_ran
FIELDS(wire_ran){
	SF(1, U64, "number", number, 0),
	SF(2, I64, "code", code, 0),
	SF(3, STR, "text", text, 0),
};
SCHEMA(wire_ran_schema, wire_ran, wire_ran_fields);
#undef T
static const struct schema empty_schema = { .name = "empty", .size = 1 };

const struct schema *wire_schema(enum wire_kind kind)
{
	switch (kind) {
	case WIRE_HELLO:
		return &wire_hello_schema;
	case WIRE_DESCRIBE:
		return &md_node_description_schema;
	case WIRE_HEARTBEAT:
	case WIRE_LEAVE:
		return &empty_schema;
	case WIRE_STATUS:
		return &wire_status_schema;
	case WIRE_ACK:
		return &wire_ack_schema;
	case WIRE_WELCOME:
		return &wire_welcome_schema;
	case WIRE_ASSIGN:
		return &wire_assign_schema;
	case WIRE_RUN:
		return &wire_run_schema;
	case WIRE_RAN:
		return &wire_ran_schema;
	}
	return NULL;
}

void wire_encode(enum wire_kind kind, const struct schema *s, const void *obj, struct buf *out)
{
	buf_put_u8(out, (uint8_t)kind);
	if (obj)
		sch_encode(s, obj, out);
}
