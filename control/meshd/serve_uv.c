/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's side of ask_uv.c: what a manager wants to know of this node. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/meshd/doctor.h"
#include "control/meshd/meshd.h"
#include "control/model/json.h"

struct served {
	struct serve *s;
	uint32_t stream;
	int watcher;           /* -1: none */
	struct doctor *doctor; /* NULL: none */
	uint64_t lost;         /* events, while the connection is full */
};
struct serve {
	struct meshd *m;
	struct net_conn *conn;
	struct map calls; /* stream -> struct served, those that go on */
	bool full;        /* the connection's queue, until serve_drain */
};

static void stream_key(uint32_t stream, char out[16])
{
	snprintf(out, 16, "%u", stream);
}

static void send_record(struct serve *s, uint32_t stream, struct jw *w)
{
	s->full = !net_send(s->conn, NET_DATA, stream, w->b.data, w->b.len);
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

/* ---- packets on show ---- */

static void served_free(struct served *d)
{
	char key[16];
	stream_key(d->stream, key);
	map_del(&d->s->calls, key);
	if (d->watcher >= 0)
		network_unwatch(d->s->m->network, d->watcher);
	if (d->doctor)
		doctor_cancel(d->doctor);
	free(d);
}

static void on_seen(void *arg, const struct dp_event *e, const struct mesh_err *err)
{
	struct served *d = arg;
	struct jw w = { 0 };
	if (err) {
		send_end(d->s, d->stream, err->code, err);
		served_free(d);
		return;
	}
	if (streq(e->verdict, "probe"))
		return; /* the doctor's */
	if (d->s->full) {
		d->lost += e->lost ? e->lost : 1;
		return;
	}
	md_json_write(&w, &dp_event_schema, e);
	send_record(d->s, d->stream, &w);
}

static void tell_lost(struct served *d)
{
	struct dp_event e = { 0 };
	struct jw w = { 0 };
	if (!d->lost || d->s->full)
		return;
	dp_event_set_lost(&e, d->lost, "connection", "the node's connection to the manager was full");
	d->lost = 0;
	md_json_write(&w, &dp_event_schema, &e);
	send_record(d->s, d->stream, &w);
	sch_clear(&dp_event_schema, &e);
}

void serve_drain(struct serve *s)
{
	s->full = false;
	MAP_FOREACH(&s->calls, e)
		tell_lost(e->value);
}

/* "from=10.0.0.1:80", "to=...", "protocol=tcp", "drops", "packets" */
static int read_filter(const struct str_list *args, struct dp_filter *f, struct mesh_err *err)
{
	for (size_t i = 0; i < args->n; i++) {
		const char *a = args->v[i], *eq = strchr(a, '=');
		struct dp_place p;
		int protocol = eq ? sch_enum_parse(&dp_protocol_names, eq + 1) : -1;
		if (streq(a, "drops"))
			f->drops = true;
		else if (streq(a, "packets"))
			f->packets = true;
		else if (strncmp(a, "protocol=", 9) == 0 && protocol > 0)
			f->protocol = protocol;
		else if (strncmp(a, "from=", 5) == 0 && dp_place_parse(a + 5, &p) == 0)
			vec_push(&f->from, p);
		else if (strncmp(a, "to=", 3) == 0 && dp_place_parse(a + 3, &p) == 0)
			vec_push(&f->to, p);
		else
			return mesh_fail(err, MESH_E_INVALID, "filter \"%.64s\" is not known here", a);
	}
	return 0;
}

static void serve_seen(struct serve *s, uint32_t stream, const struct str_list *args)
{
	struct mesh_err err = { 0 };
	struct dp_filter f = { 0 };
	struct jw w = { 0 };
	char key[16];
	int rc = read_filter(args, &f, &err);
	if (rc) {
		dp_filter_fini(&f);
		send_end(s, stream, rc, &err);
		return;
	}
	struct served *d = XNEW(struct served);
	*d = (struct served){ .s = s, .stream = stream };
	d->watcher = network_watch(s->m->network, &f, on_seen, d, &err);
	if (d->watcher < 0) {
		send_end(s, stream, d->watcher, &err);
		free(d);
		return;
	}
	stream_key(stream, key);
	map_put(&s->calls, key, d);
	/* Says that the watch is on: what is sent now will be seen. */
	jw_raw(&w, "{}");
	send_record(s, stream, &w);
}

/* ---- the doctor ---- */

static void send_report(struct serve *s, uint32_t stream, const struct doctor_report *r)
{
	struct jw w = { 0 };
	md_json_write(&w, &doctor_report_schema, r);
	send_record(s, stream, &w);
}

static void on_checked(void *arg, const struct doctor_report *r)
{
	struct served *d = arg;
	d->doctor = NULL;
	send_report(d->s, d->stream, r);
	send_end(d->s, d->stream, 0, NULL);
	served_free(d);
}

/* The time first, at once: the manager compares clocks. */
static void serve_check(struct serve *s, uint32_t stream, const struct str_list *args)
{
	struct served *d = XNEW(struct served);
	struct doctor_report now = { .time = clock_wall_ns() };
	char key[16];
	*d = (struct served){ .s = s, .stream = stream, .watcher = -1 };
	stream_key(stream, key);
	map_put(&s->calls, key, d);
	send_report(s, stream, &now);
	d->doctor = doctor_run(s->m, args, on_checked, d);
}

void serve_end(struct serve *s, uint32_t stream)
{
	char key[16];
	stream_key(stream, key);
	struct served *d = map_get(&s->calls, key);
	if (d)
		served_free(d);
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
	if (streq(call->what, "seen")) {
		serve_seen(s, stream, &call->args);
		return true;
	}
	if (streq(call->what, "check")) {
		serve_check(s, stream, &call->args);
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
	while (s->calls.count)
		MAP_FOREACH(&s->calls, e) {
			served_free(e->value);
			break;
		}
	map_fini(&s->calls);
	free(s);
}
