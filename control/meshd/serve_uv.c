/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's side of ask_uv.c: what a manager wants to know of this node. */
#include <stdio.h>

#include "base/mem.h"
#include "control/meshd/meshd.h"
#include "control/model/json.h"

struct serve {
	struct meshd *m;
	struct net_conn *conn;
};

static void send_record(struct serve *s, uint32_t stream, struct jw *w)
{
	(void)net_send(s->conn, NET_DATA, stream, w->b.data, w->b.len);
	buf_fini(&w->b);
}

static void send_end(struct serve *s, uint32_t stream, int code, const struct mesh_err *err)
{
	struct wire_end end = { .code = code, .text = code ? (char *)(uintptr_t)mesh_err_text(err, code) : NULL };
	struct buf b = { 0 };
	sch_encode(&wire_end_schema, &end, &b);
	(void)net_send(s->conn, NET_END, stream, b.data, b.len);
	buf_fini(&b);
}

static void serve_stats(struct serve *s, uint32_t stream)
{
	struct mesh_err err = { 0 };
	struct dp_stats st;
	struct jw w = { 0 };
	int rc =
		network_stats(s->m->network, &st) ? 0 : mesh_fail(&err, MESH_E_UNSUPPORTED, "no data plane runs there");
	if (!rc) {
		md_json_write(&w, &dp_stats_schema, &st);
		send_record(s, stream, &w);
	}
	sch_clear(&dp_stats_schema, &st);
	send_end(s, stream, rc, &err);
}

struct serve *serve_new(struct meshd *m, struct net_conn *c)
{
	struct serve *s = XNEW(struct serve);
	*s = (struct serve){ .m = m, .conn = c };
	return s;
}

bool serve_call(struct serve *s, uint32_t stream, const struct wire_call *call)
{
	if (streq(call->what, "logs"))
		return false;
	if (streq(call->what, "stats")) {
		serve_stats(s, stream);
		return true;
	}
	struct mesh_err err = { 0 };
	int rc = mesh_fail(&err, MESH_E_UNSUPPORTED, "this node's meshd %s does not know \"%.32s\": upgrade it",
	                   MESH_VERSION, call->what ? call->what : "");
	send_end(s, stream, rc, &err);
	return true;
}

void serve_free(struct serve *s)
{
	free(s);
}
