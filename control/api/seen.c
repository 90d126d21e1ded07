/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the nodes of the cluster see, asked of all of them at once: statistics. */
#include "base/mem.h"
#include "control/api/http.h"

/* A node that takes longer is named without its figures. */
#define COLLECT_MS 2000

/* One answer of each node, on the way to one document. Lives until the ask has ended and the timer is closed. */
struct collect {
	struct req *r;
	struct api *api;
	struct api_ask *ask; /* NULL once it ended */
	uv_timer_t timer;
	struct map records; /* node id -> JSON text */
	struct map errors;  /* node id -> text */
};

static void on_timer_closed(uv_handle_t *h)
{
	struct collect *c = CONTAINER_OF((uv_timer_t *)h, struct collect, timer);
	struct api *a = c->api;
	MAP_FOREACH(&c->records, e)
		free(e->value);
	MAP_FOREACH(&c->errors, e)
		free(e->value);
	map_fini(&c->records);
	map_fini(&c->errors);
	req_unref(c->r);
	free(c);
	api_handle_closed(a);
}

static void write_node(struct jw *w, const struct collect *c, const struct md_node *n)
{
	const char *record = map_get(&c->records, n->meta.id), *error = map_get(&c->errors, n->meta.id);
	jw_open(w, '{');
	jw_kstr(w, "ID", n->meta.id);
	jw_kstr(w, "Hostname", n->description.hostname);
	if (record)
		jw_kraw(w, "Stats", record);
	else
		jw_kstr(w, "Error", error ? error : "no answer in time");
	jw_close(w, '}');
}

static void finish(struct collect *c)
{
	struct store *s = req_live(c->r) ? c->api->ops->store(c->api->arg) : NULL;
	struct jw w = { 0 };
	if (uv_is_closing((uv_handle_t *)&c->timer))
		return;
	uv_close((uv_handle_t *)&c->timer, on_timer_closed);
	if (!req_live(c->r))
		return;
	jw_open(&w, '{');
	jw_key(&w, "Nodes");
	jw_open(&w, '[');
	if (s)
		STORE_EACH(s, STORE_NODE, struct md_node, n)
			write_node(&w, c, n);
	jw_close(&w, ']');
	jw_close(&w, '}');
	req_reply_json(c->r, 200, &w);
}

/* Written anew, so that nothing but JSON gets through. */
static void on_record(void *arg, const char *node, const char *json, size_t n)
{
	struct collect *c = arg;
	struct mesh_err err = { 0 };
	json_t *j = NULL;
	if (md_json_parse(json, n, &j, &err)) {
		free(map_put(&c->errors, node, xstrdup("its answer is no JSON")));
		return;
	}
	char *text = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	if (text)
		free(map_put(&c->records, node, text));
}

static void on_node_end(void *arg, const char *node, int code, const struct mesh_err *err)
{
	struct collect *c = arg;
	if (code)
		free(map_put(&c->errors, node, xstrdup(mesh_err_text(err, code))));
}

static void on_end(void *arg)
{
	struct collect *c = arg;
	c->ask = NULL;
	finish(c);
}

static void on_timeout(uv_timer_t *t)
{
	struct collect *c = CONTAINER_OF(t, struct collect, timer);
	if (c->ask)
		c->api->ops->ask_close(TAKE(c->ask));
	finish(c);
}

static void collect(struct req *r, const char *what, const struct str_list *args, uint64_t ms)
{
	static const struct api_ask_ops ops = { on_record, on_node_end, on_end };
	struct api *a = r->api;
	if (!a->ops->ask_open) {
		req_error(r, 501, "this daemon cannot ask other nodes");
		return;
	}
	struct collect *c = XNEW(struct collect);
	c->r = req_ref(r);
	c->api = a;
	(void)uv_timer_init(a->loop, &c->timer); /* cannot fail */
	api_handle_opened(a);
	(void)uv_timer_start(&c->timer, on_timeout, ms, 0);
	c->ask = a->ops->ask_open(a->arg, what, args, &ops, c);
}

void api_mesh_stats(struct req *r)
{
	const struct str_list none = { 0 };
	collect(r, "stats", &none, COLLECT_MS);
}
