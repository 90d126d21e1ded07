/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * /_mesh/trace: packets on their way through the hooks of all nodes, one JSON object a line, merged by time. Lines of
 * a node begin with {"Node", "Hostname", "Watching": true}; one that cannot watch, or stops, says {"Error"}. What was
 * lost on the way is an event too: its verdict is "lost", "Lost" says how many.
 */
#include <arpa/inet.h>
#include <ctype.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/http.h"

/* Events wait so long for older ones of slower nodes. */
#define MERGE_MS 200
#define EVERY_MS 50
#define HELD_MAX 20000

/* ---- who is meant -------------------------------------------------------------------------------- */

static void add_place(struct str_list *out, const char *role, const char *addr, const char *port)
{
	if (strchr(addr, ':'))
		return; /* IPv6: no hook shows it */
	CLEAN_FREE char *text = xasprintf("%s=%.*s%s%s", role, (int)strcspn(addr, "/"), addr, *port ? ":" : "", port);
	if (!strs_has(out, text))
		strs_add(out, text);
}

static void add_node(struct str_list *out, const char *role, const struct md_node *n, const char *port)
{
	for (size_t i = 0; i < n->description.host_addrs.n; i++)
		add_place(out, role, n->description.host_addrs.v[i], port);
}

static void add_task(struct str_list *out, const char *role, const struct md_task *t, const char *port)
{
	for (size_t i = 0; i < t->attachments.n; i++)
		if (t->attachments.v[i].addresses.n)
			add_place(out, role, t->attachments.v[i].addresses.v[0], port);
}

static void add_tasks(struct store *s, struct str_list *out, const char *role, const char *service)
{
	struct store_list l = store_tasks_of_service(s, service);
	for (size_t i = 0; i < l.n; i++)
		if (md_task_wanted(l.v[i]))
			add_task(out, role, l.v[i], "");
}

/* Its addresses, its published ports on every node, and its tasks, which answer. */
static void add_service(struct store *s, struct str_list *out, const char *role, const struct md_service *v,
                        const char *port)
{
	for (size_t i = 0; i < v->endpoint.vips.n; i++)
		if (v->endpoint.vips.v[i].addr)
			add_place(out, role, v->endpoint.vips.v[i].addr, port);
	for (size_t i = 0; i < v->endpoint.ports.n; i++) {
		char text[16];
		snprintf(text, sizeof(text), "%u", v->endpoint.ports.v[i].published);
		if (*port && !streq(port, text))
			continue;
		add_place(out, role, "127.0.0.1", text);
		STORE_EACH(s, STORE_NODE, struct md_node, n)
			add_node(out, role, n, text);
	}
	add_tasks(s, out, role, v->meta.id);
}

/* Who serves this published port answers from an address of its own. */
static void add_publisher(struct store *s, struct str_list *out, const char *role, const char *port)
{
	STORE_EACH(s, STORE_SERVICE, struct md_service, v)
		for (size_t i = 0; *port && i < v->endpoint.ports.n; i++)
			if (v->endpoint.ports.v[i].published == (uint32_t)atoi(port))
				add_tasks(s, out, role, v->meta.id);
}

/* "web.1", or an id. */
static const struct md_task *find_task(struct store *s, const char *word)
{
	STORE_EACH(s, STORE_TASK, struct md_task, t) {
		const struct md_service *v = store_get(s, STORE_SERVICE, t->service.s);
		CLEAN_FREE char *name = v ? xasprintf("%s.%llu", v->spec.name, (unsigned long long)t->slot) : NULL;
		if (strncmp(t->meta.id, word, strlen(word)) == 0 && strlen(word) >= 8)
			return t;
		if (name && streq(name, word) && md_task_wanted(t))
			return t;
	}
	return NULL;
}

static const struct md_node *find_node(struct store *s, const char *word)
{
	STORE_EACH(s, STORE_NODE, struct md_node, n)
		if (streq(n->meta.id, word) || streq(n->description.hostname, word))
			return n;
	return NULL;
}

static const struct md_service *find_service(struct store *s, const char *word)
{
	STORE_EACH(s, STORE_SERVICE, struct md_service, v)
		if (streq(v->meta.id, word) || streq(v->spec.name, word))
			return v;
	return NULL;
}

/* word: ADDR, node, service or task, each with :PORT or without. */
static int add_side(struct store *s, struct str_list *out, const char *role, const char *word, struct mesh_err *err)
{
	const char *colon = strrchr(word, ':'), *port = colon ? colon + 1 : "";
	CLEAN_FREE char *name = colon ? xstrndup(word, (size_t)(colon - word)) : xstrdup(word);
	char *end = NULL;
	unsigned long number = colon ? strtoul(port, &end, 10) : 1;
	struct in_addr in;
	const void *found;
	if (colon && (!isdigit((unsigned char)*port) || *end || !number || number > 65535))
		return mesh_fail(err, MESH_E_INVALID, "%s: \"%s\" is no port", role, port);
	if (inet_pton(AF_INET, name, &in) == 1) {
		add_place(out, role, name, port);
		add_publisher(s, out, role, port);
	} else if ((found = find_service(s, name))) {
		add_service(s, out, role, found, port);
	} else if ((found = find_node(s, name))) {
		add_node(out, role, found, port);
		add_publisher(s, out, role, port);
	} else if ((found = find_task(s, name))) {
		add_task(out, role, found, port);
	} else {
		return mesh_fail(err, MESH_E_NOT_FOUND,
		                 "%s: \"%.64s\" is no address, service, node or task (like web.1)", role, name);
	}
	return 0;
}

static int read_query(struct req *r, struct str_list *args, struct mesh_err *err)
{
	const char *from = req_query(r, "from"), *to = req_query(r, "to"), *protocol = req_query(r, "protocol");
	bool drops = req_flag(r, "drops");
	int rc = from && *from ? add_side(r->store, args, "from", from, err) : 0;
	if (!rc && to && *to)
		rc = add_side(r->store, args, "to", to, err);
	if (!rc && protocol && *protocol) {
		CLEAN_FREE char *text = xasprintf("protocol=%s", protocol);
		if (!streq(protocol, "tcp") && !streq(protocol, "udp"))
			return mesh_fail(err, MESH_E_INVALID, "protocol \"%.16s\": must be tcp or udp", protocol);
		strs_add(args, text);
	}
	if (drops)
		strs_add(args, "drops");
	if (!drops || (from && *from) || (to && *to))
		strs_add(args, "packets");
	return rc;
}

/* ---- merging ------------------------------------------------------------------------------------- */

struct held {
	int64_t came_ms; /* here */
	int64_t time;    /* there, ns */
	uint64_t events; /* that are lost with it */
	char *line;
};
struct trace {
	struct api *api;
	struct stream *stream; /* NULL once closed */
	struct api_ask *ask;   /* NULL once ended */
	uv_timer_t timer;
	struct VEC(struct held) held;
	uint64_t late;   /* events that found no room in held */
	uint64_t unread; /* events, while the client does not read */
	bool full;       /* it does not: stream_write said so */
	bool ticking;
};

static int by_time(const void *a, const void *b)
{
	const struct held *x = a, *y = b;
	return x->time < y->time ? -1 : x->time > y->time;
}

/* Of the manager itself: no node's. Nothing is written twice, for what a full stream was given is kept. */
static void write_lost(struct trace *t, uint64_t *n, const char *reason, const char *text)
{
	struct dp_event e = { 0 };
	struct jw w = { 0 };
	if (!*n || !t->stream || t->full)
		return;
	dp_event_set_lost(&e, *n, reason, text);
	*n = 0;
	jw_open(&w, '{');
	jw_kstr(&w, "Node", "");
	jw_kstr(&w, "Hostname", "");
	jw_key(&w, "Event");
	md_json_write(&w, &dp_event_schema, &e);
	jw_close(&w, '}');
	buf_put_u8(&w.b, '\n');
	t->full = !stream_write(t->stream, w.b.data, w.b.len);
	buf_fini(&w.b);
	sch_clear(&dp_event_schema, &e);
}

static void flush(struct trace *t, bool all)
{
	int64_t now = clock_mono_ns() / NS_PER_MS;
	size_t n = 0;
	if (!t->held.len)
		return;
	qsort(t->held.data, t->held.len, sizeof(*t->held.data), by_time);
	/* In order: one that has to wait holds up those after it. */
	while (n < t->held.len && (all || now - t->held.data[n].came_ms >= MERGE_MS)) {
		if (t->stream && !t->full)
			t->full = !stream_write(t->stream, t->held.data[n].line, strlen(t->held.data[n].line));
		else
			t->unread += t->held.data[n].events;
		free(t->held.data[n].line);
		n++;
	}
	memmove(t->held.data, t->held.data + n, (t->held.len - n) * sizeof(*t->held.data));
	t->held.len -= n;
}

static void on_tick_closed(uv_handle_t *h)
{
	struct trace *t = CONTAINER_OF((uv_timer_t *)h, struct trace, timer);
	struct api *a = t->api;
	for (size_t i = 0; i < t->held.len; i++)
		free(t->held.data[i].line);
	vec_fini(&t->held);
	free(t);
	api_handle_closed(a);
}

/* Gone when neither the client nor the nodes have anything to do with it. */
static void trace_end(struct trace *t)
{
	if (t->stream || t->ask || !t->ticking)
		return;
	t->ticking = false;
	uv_close((uv_handle_t *)&t->timer, on_tick_closed);
}

static void on_tick(uv_timer_t *h)
{
	struct trace *t = CONTAINER_OF(h, struct trace, timer);
	flush(t, !t->ask);
	write_lost(t, &t->late, "merge", "more events of all nodes at a time than a manager merges");
	write_lost(t, &t->unread, "client", "whoever asked reads too slowly");
	if (!t->ask && t->stream)
		stream_end(t->stream);
}

static void hold(struct trace *t, struct jw *w, int64_t time, uint64_t events)
{
	struct held h = { clock_mono_ns() / NS_PER_MS, time, events, NULL };
	jw_close(w, '}');
	buf_put_u8(&w->b, '\n');
	h.line = buf_take_str(&w->b);
	if (t->held.len < HELD_MAX) {
		vec_push(&t->held, h);
		return;
	}
	t->late += events;
	free(h.line);
}

static void begin_line(struct trace *t, struct jw *w, const char *node)
{
	struct store *s = t->api->ops->store(t->api->arg);
	const struct md_node *n = s ? store_get(s, STORE_NODE, node) : NULL;
	jw_open(w, '{');
	jw_kstr(w, "Node", node);
	jw_kstr(w, "Hostname", n ? n->description.hostname : "");
}

static void on_record(void *arg, const char *node, const char *json, size_t n)
{
	struct trace *t = arg;
	struct jw w = { 0 };
	json_t *j = NULL;
	int64_t time = clock_wall_ns();
	uint64_t events = 0;
	if (md_json_parse(json, n, &j, NULL))
		return;
	begin_line(t, &w, node);
	if (json_object_size(j)) {
		char *text = json_dumps(j, JSON_COMPACT);
		if (clock_parse(json_string_value(json_object_get(j, "Time")) ?: "", &time))
			time = clock_wall_ns();
		events = (uint64_t)json_integer_value(json_object_get(j, "Lost")) ?: 1;
		jw_kraw(&w, "Event", text ? text : "null");
		free(text);
	} else {
		jw_kbool(&w, "Watching", true);
		time = 0;
	}
	json_decref(j);
	hold(t, &w, time, events);
}

static void on_node_end(void *arg, const char *node, int code, const struct mesh_err *err)
{
	struct trace *t = arg;
	struct jw w = { 0 };
	begin_line(t, &w, node);
	jw_kstr(&w, "Error", code ? mesh_err_text(err, code) : "stopped watching");
	hold(t, &w, 0, 0);
}

static void on_ask_end(void *arg)
{
	struct trace *t = arg;
	t->ask = NULL;
	trace_end(t);
}

static void on_drained(void *arg)
{
	((struct trace *)arg)->full = false;
}

static void on_closed(void *arg)
{
	struct trace *t = arg;
	t->stream = NULL;
	if (t->ask)
		t->api->ops->ask_close(TAKE(t->ask));
	trace_end(t);
}

void api_mesh_trace(struct req *r)
{
	static const struct api_ask_ops ops = { on_record, on_node_end, on_ask_end };
	static const struct stream_ops stream_ops = { .drained = on_drained, .closed = on_closed };
	struct mesh_err err = { 0 };
	struct str_list args = { 0 };
	int rc = r->api->ops->ask_open ? read_query(r, &args, &err)
	                               : mesh_fail(&err, MESH_E_UNSUPPORTED, "this daemon cannot ask other nodes");
	if (rc) {
		strs_clear(&args);
		req_fail(r, rc, &err);
		return;
	}
	struct trace *t = XNEW(struct trace);
	*t = (struct trace){ .api = r->api, .ticking = true };
	(void)uv_timer_init(t->api->loop, &t->timer); /* cannot fail */
	api_handle_opened(t->api);
	(void)uv_timer_start(&t->timer, on_tick, EVERY_MS, EVERY_MS);
	t->ask = t->api->ops->ask_open(t->api->arg, "seen", &args, &ops, t);
	t->stream = req_stream(r, 200, "application/x-ndjson", &stream_ops, t);
	strs_clear(&args);
}
