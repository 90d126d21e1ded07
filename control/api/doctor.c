/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /_mesh/doctor: asks every node to look at itself and at its ways to the others, and judges what they say. */
#include "control/api/doctor.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/http.h"

#define DOCTOR_MS 20000

struct visit {
	struct req *r;
	struct api *api;
	struct api_ask *ask; /* NULL once it ended */
	uv_timer_t timer;
	int64_t asked_mono, asked_wall;
	struct VEC(struct doctor_node) nodes;
	struct VEC(char *) texts; /* what nodes borrow */
	uint32_t port;
};

static const char *keep(struct visit *v, const char *text)
{
	char *copy = xstrdup(text ? text : "");
	vec_push(&v->texts, copy);
	return copy;
}

static void on_timer_closed(uv_handle_t *h)
{
	struct visit *v = CONTAINER_OF((uv_timer_t *)h, struct visit, timer);
	struct api *a = v->api;
	for (size_t i = 0; i < v->nodes.len; i++) {
		sch_clear(&doctor_report_schema, &v->nodes.data[i].report);
		strs_clear(&v->nodes.data[i].shadowed);
	}
	for (size_t i = 0; i < v->texts.len; i++)
		free(v->texts.data[i]);
	vec_fini(&v->nodes);
	vec_fini(&v->texts);
	req_unref(v->r);
	free(v);
	api_handle_closed(a);
}

static void finish(struct visit *v)
{
	struct doctor_findings all = { 0 };
	struct jw w = { 0 };
	bool well = true;
	if (uv_is_closing((uv_handle_t *)&v->timer))
		return;
	uv_close((uv_handle_t *)&v->timer, on_timer_closed);
	if (!req_live(v->r))
		return;
	doctor_judge(v->nodes.data, v->nodes.len, v->port, &all);
	for (size_t i = 0; i < all.list.n; i++)
		well &= all.list.v[i].severity < DOCTOR_ERROR;
	jw_open(&w, '{');
	jw_kbool(&w, "Well", well);
	md_json_members(&w, &doctor_findings_schema, &all, 0, doctor_findings_schema.n);
	jw_key(&w, "Reports");
	jw_open(&w, '[');
	for (size_t i = 0; i < v->nodes.len; i++) {
		jw_open(&w, '{');
		jw_kstr(&w, "NodeID", v->nodes.data[i].id.s);
		jw_kstr(&w, "Hostname", v->nodes.data[i].hostname);
		jw_kint(&w, "ClockOffsetNanoseconds", v->nodes.data[i].offset_ns);
		jw_kint(&w, "ClockErrorNanoseconds", v->nodes.data[i].error_ns);
		md_json_members(&w, &doctor_report_schema, &v->nodes.data[i].report, 0, doctor_report_schema.n);
		jw_close(&w, '}');
	}
	jw_close(&w, ']');
	jw_close(&w, '}');
	sch_clear(&doctor_findings_schema, &all);
	req_reply_json(v->r, 200, &w);
}

static struct doctor_node *node_of(struct visit *v, const char *id)
{
	for (size_t i = 0; i < v->nodes.len; i++)
		if (streq(v->nodes.data[i].id.s, id))
			return &v->nodes.data[i];
	return NULL;
}

/* The first record is the time there, sent at once; the second the report. */
static void on_record(void *arg, const char *node, const char *json, size_t n)
{
	struct visit *v = arg;
	struct doctor_node *d = node_of(v, node);
	struct doctor_report r = { 0 };
	struct mesh_err err = { 0 };
	if (!d)
		return;
	if (md_json_decode(&doctor_report_schema, &r, json, n, NULL, &err)) {
		d->error = keep(v, err.msg);
		sch_clear(&doctor_report_schema, &r);
		return;
	}
	if (!r.version) {
		int64_t trip = clock_mono_ns() - v->asked_mono;
		d->offset_ns = r.time - (v->asked_wall + trip / 2);
		d->error_ns = trip / 2;
	} else {
		d->error = NULL;
	}
	sch_clear(&doctor_report_schema, &d->report);
	d->report = r;
}

static void on_node_end(void *arg, const char *node, int code, const struct mesh_err *err)
{
	struct visit *v = arg;
	struct doctor_node *d = node_of(v, node);
	if (d && code)
		d->error = keep(v, mesh_err_text(err, code));
}

static void on_end(void *arg)
{
	struct visit *v = arg;
	v->ask = NULL;
	finish(v);
}

static void on_timeout(uv_timer_t *t)
{
	struct visit *v = CONTAINER_OF(t, struct visit, timer);
	if (v->ask)
		v->api->ops->ask_close(TAKE(v->ask));
	finish(v);
}

/* ---- what the store knows ------------------------------------------------------------------------ */

static void add_shadowed(struct store *s, struct doctor_node *d, const struct md_host_port *h)
{
	STORE_EACH(s, STORE_SERVICE, struct md_service, v)
		for (size_t i = 0; i < v->endpoint.ports.n; i++) {
			const struct md_port *p = &v->endpoint.ports.v[i];
			if (p->published != h->port || (p->protocol ? p->protocol : MD_PROTO_TCP) != h->protocol ||
			    p->mode == MD_PUBLISH_HOST)
				continue;
			CLEAN_FREE char *text =
				xasprintf("%u/%s of service %s is listened on by %s", h->port,
			                  md_protocol_names.names[h->protocol], v->spec.name,
			                  h->process && *h->process ? h->process : "a process of the host");
			strs_add(&d->shadowed, text);
		}
}

static void add_node(struct visit *v, struct store *s, const struct md_node *n, const char *self)
{
	struct doctor_node d = { .hostname = keep(v, n->description.hostname),
		                 .manager = n->manager != NULL,
		                 .down = n->status.state == MD_NODE_DOWN,
		                 .error = "no report in time" };
	mesh_id_set(d.id.s, n->meta.id);
	for (size_t i = 0; i < n->description.host_ports.n; i++)
		add_shadowed(s, &d, &n->description.host_ports.v[i]);
	vec_push(&v->nodes, d);
	size_t last = v->nodes.len - 1;
	if (streq(n->meta.id, self) && last) {
		d = v->nodes.data[0];
		v->nodes.data[0] = v->nodes.data[last];
		v->nodes.data[last] = d;
	}
}

/* "peer=ID ADDRESS DRIVER MANAGER", MANAGER "-" for workers; see doctor_uv.c. */
static void add_peer(struct str_list *args, const struct md_node *n)
{
	const char *driver = n->description.data_plane ? n->description.data_plane : "";
	const char *addr = n->description.data_path_addr;
	if (n->status.state == MD_NODE_DOWN || !addr || !*addr)
		return;
	CLEAN_FREE char *text =
		xasprintf("peer=%s %s %.*s %s", n->meta.id, addr, (int)strcspn(driver, ":"), *driver ? driver : "none",
	                  n->manager && n->manager->addr && *n->manager->addr ? n->manager->addr : "-");
	strs_add(args, text);
}

void api_mesh_doctor(struct req *r)
{
	static const struct api_ask_ops ops = { on_record, on_node_end, on_end };
	struct api_local_state l;
	struct str_list args = { 0 };
	struct api *a = r->api;
	if (!a->ops->ask_open) {
		req_error(r, 501, "this daemon cannot ask other nodes");
		return;
	}
	struct visit *v = XNEW(struct visit);
	const struct md_cluster *c = store_cluster(r->store);
	*v = (struct visit){ .r = req_ref(r), .api = a, .port = c->data_path_port ? c->data_path_port : 4789 };
	api_local(a, &l);
	STORE_EACH(r->store, STORE_NODE, struct md_node, n) {
		add_node(v, r->store, n, l.node_id);
		add_peer(&args, n);
	}
	(void)uv_timer_init(a->loop, &v->timer); /* cannot fail */
	api_handle_opened(a);
	(void)uv_timer_start(&v->timer, on_timeout, DOCTOR_MS, 0);
	v->asked_mono = clock_mono_ns();
	v->asked_wall = clock_wall_ns();
	v->ask = a->ops->ask_open(a->arg, "check", &args, &ops, v);
	strs_clear(&args);
}
