/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /events: the last few in memory, and everybody who listens. */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"

#define KEPT 256

struct event {
	int64_t time_ns;
	char *scope, *type, *action, *id;
	struct str_map attrs;
};
struct listener {
	struct events *events;
	struct listener *next, *prev;
	struct stream *stream; /* NULL once closed */
	struct filters filters;
	uv_timer_t until;
	bool timed;
};
struct events {
	struct api *api;
	struct event ring[KEPT];
	size_t next, count;
	struct listener *listeners;
};

struct events *events_new(struct api *a)
{
	struct events *e = XNEW(struct events);
	e->api = a;
	return e;
}

static void event_fini(struct event *ev)
{
	free(ev->scope);
	free(ev->type);
	free(ev->action);
	free(ev->id);
	smap_clear(&ev->attrs);
	memset(ev, 0, sizeof(*ev));
}

void events_free(struct events *e)
{
	for (size_t i = 0; i < KEPT; i++)
		event_fini(&e->ring[i]);
	free(e);
}

static void event_write(struct buf *out, const struct event *ev)
{
	struct jw w = { .b = *out };
	const char *image = smap_get(&ev->attrs, "image");
	jw_open(&w, '{');
	/* The old form, which some clients still read. */
	if (streq(ev->type, "container") || streq(ev->type, "image")) {
		jw_kstr(&w, "status", ev->action);
		jw_kstr(&w, "id", ev->id);
		if (image)
			jw_kstr(&w, "from", image);
	}
	jw_kstr(&w, "Type", ev->type);
	jw_kstr(&w, "Action", ev->action);
	jw_key(&w, "Actor");
	jw_open(&w, '{');
	jw_kstr(&w, "ID", ev->id);
	jw_key(&w, "Attributes");
	jw_map(&w, &ev->attrs);
	jw_close(&w, '}');
	jw_kstr(&w, "scope", ev->scope);
	jw_kint(&w, "time", ev->time_ns / NS_PER_SEC);
	jw_kint(&w, "timeNano", ev->time_ns);
	jw_close(&w, '}');
	buf_put_u8(&w.b, '\n');
	*out = w.b;
}

static const char *const allowed[] = { "config",  "container", "daemon", "event",  "id",    "image",
	                               "label",   "network",   "node",   "plugin", "scope", "secret",
	                               "service", "type",      "volume", NULL };

static bool matches(const struct filters *f, const struct event *ev)
{
	static const char *const objects[] = {
		"config", "container", "network", "node", "secret", "service", "volume"
	};
	if (!filters_exact(f, "type", ev->type) || !filters_exact(f, "scope", ev->scope) ||
	    !filters_prefix(f, "event", ev->action) || !filters_prefix(f, "id", ev->id) ||
	    !filters_labels(f, "label", &ev->attrs))
		return false;
	const char *name = smap_get(&ev->attrs, "name"), *image = smap_get(&ev->attrs, "image");
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		bool mine = streq(ev->type, objects[i]);
		if (filters_get(f, objects[i]) &&
		    (!mine || (!filters_prefix(f, objects[i], ev->id) && !filters_prefix(f, objects[i], name))))
			return false;
	}
	return !filters_get(f, "image") || filters_prefix(f, "image", image ? image : ev->id);
}

static void give(struct listener *l, const struct event *ev)
{
	struct buf out = { 0 };
	if (!l->stream || !matches(&l->filters, ev))
		return;
	event_write(&out, ev);
	(void)stream_write(l->stream, out.data, out.len); /* events are few; a reader that sleeps keeps them */
	buf_fini(&out);
}

void api_event(struct api *a, const char *scope, const char *type, const char *action, const char *id,
               const struct str_map *attrs)
{
	struct events *e = a->events;
	struct event *ev = &e->ring[e->next];
	event_fini(ev);
	*ev = (struct event){ .time_ns = clock_wall_ns(),
		              .scope = xstrdup(scope),
		              .type = xstrdup(type),
		              .action = xstrdup(action),
		              .id = xstrdup(id) };
	for (size_t i = 0; attrs && i < attrs->n; i++)
		smap_set(&ev->attrs, attrs->v[i].key, attrs->v[i].value);
	e->next = (e->next + 1) % KEPT;
	e->count += e->count < KEPT;
	for (struct listener *l = e->listeners; l; l = l->next)
		give(l, ev);
}

/* ---- listening -------------------------------------------------------------------------------- */

static void listener_free(struct listener *l)
{
	if (l->stream || l->timed)
		return;
	if (l->prev)
		l->prev->next = l->next;
	else
		l->events->listeners = l->next;
	if (l->next)
		l->next->prev = l->prev;
	filters_clear(&l->filters);
	free(l);
}

static void on_until_closed(uv_handle_t *h)
{
	struct listener *l = CONTAINER_OF((uv_timer_t *)h, struct listener, until);
	struct api *a = l->events->api;
	l->timed = false;
	listener_free(l);
	api_handle_closed(a);
}

static void on_stream_closed(void *arg)
{
	struct listener *l = arg;
	l->stream = NULL;
	if (l->timed && !uv_is_closing((uv_handle_t *)&l->until))
		uv_close((uv_handle_t *)&l->until, on_until_closed);
	listener_free(l);
}

static void on_until(uv_timer_t *t)
{
	struct listener *l = CONTAINER_OF(t, struct listener, until);
	if (l->stream)
		stream_end(l->stream);
}

static int event_time(struct req *r, const char *key, int64_t *out, struct mesh_err *err)
{
	const char *v = req_query(r, key);
	*out = 0;
	if (!v || !*v)
		return 0;
	return clock_parse(v, out) ? mesh_fail(err, MESH_E_INVALID, "invalid value for \"%s\": %.64s", key, v) : 0;
}

static void replay(struct listener *l, int64_t since, int64_t until)
{
	struct events *e = l->events;
	for (size_t i = 0; i < e->count; i++) {
		const struct event *ev = &e->ring[(e->next + KEPT - e->count + i) % KEPT];
		if (ev->time_ns >= since && (!until || ev->time_ns <= until))
			give(l, ev);
	}
}

void api_events(struct req *r)
{
	static const struct stream_ops ops = { .closed = on_stream_closed };
	struct api *a = r->api;
	struct mesh_err err = { 0 };
	struct filters f = { 0 };
	int64_t since, until, now = clock_wall_ns();
	int rc = event_time(r, "since", &since, &err);
	if (!rc)
		rc = event_time(r, "until", &until, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	if (req_filters(r, allowed, &f))
		return;
	struct listener *l = XNEW(struct listener);
	*l = (struct listener){ .events = a->events, .filters = f, .next = a->events->listeners };
	if (l->next)
		l->next->prev = l;
	a->events->listeners = l;
	l->stream = req_stream(r, 200, "application/json", &ops, l);
	if (since)
		replay(l, since, until);
	if (until && until <= now) {
		stream_end(l->stream);
	} else if (until && !uv_timer_init(a->loop, &l->until)) {
		l->timed = true;
		api_handle_opened(a);
		(void)uv_timer_start(&l->until, on_until, (uint64_t)((until - now) / NS_PER_MS + 1), 0);
	}
}

/* ---- what happens in the store ---------------------------------------------------------------- */

static void note_change(struct str_map *attrs, const char *what, const char *old, const char *new)
{
	char key[64];
	if (streq(old, new))
		return;
	snprintf(key, sizeof(key), "%s.new", what);
	smap_set(attrs, key, new ? new : "");
	if (!old || !*old)
		return;
	snprintf(key, sizeof(key), "%s.old", what);
	smap_set(attrs, key, old);
}

static const char *image_of(const struct md_service *s)
{
	return s->spec.task.container ? s->spec.task.container->image : NULL;
}

static void service_changes(struct str_map *attrs, const struct md_service *old, const struct md_service *new)
{
	char a[24], b[24];
	snprintf(a, sizeof(a), "%llu", (unsigned long long)md_service_replicas(&old->spec));
	snprintf(b, sizeof(b), "%llu", (unsigned long long)md_service_replicas(&new->spec));
	note_change(attrs, "replicas", a, b);
	note_change(attrs, "image", image_of(old), image_of(new));
	int x = old->update_status ? old->update_status->state : 0,
	    y = new->update_status ? new->update_status->state : 0;
	note_change(attrs, "updatestate", md_update_state_names.names[x], md_update_state_names.names[y]);
}

static void node_changes(struct str_map *attrs, const struct md_node *old, const struct md_node *new)
{
	note_change(attrs, "state", md_node_state_names.names[old->status.state],
	            md_node_state_names.names[new->status.state]);
	note_change(attrs, "availability", md_availability_names.names[old->spec.availability],
	            md_availability_names.names[new->spec.availability]);
	note_change(attrs, "role", md_node_role_names.names[old->spec.role], md_node_role_names.names[new->spec.role]);
}

static const char *name_of(enum store_kind k, const void *o)
{
	switch (k) {
	case STORE_NODE:
		return ((const struct md_node *)o)->description.hostname;
	case STORE_SERVICE:
		return ((const struct md_service *)o)->spec.name;
	case STORE_NETWORK:
		return ((const struct md_network *)o)->spec.name;
	case STORE_SECRET:
		return ((const struct md_secret *)o)->spec.name;
	case STORE_CONFIG:
		return ((const struct md_config *)o)->spec.name;
	default:
		return NULL;
	}
}

/* A task waits for another reason than before: one event for all tasks of a service that begin to wait for it. */
static void on_waiting(struct api *a, const struct md_task *old, const struct md_task *t)
{
	const struct events *e = a->events;
	const struct event *last = e->count ? &e->ring[(e->next + KEPT - 1) % KEPT] : NULL;
	const char *why = t && t->status.state == MD_TASK_PENDING ? t->status.err : NULL;
	if (!why || !*why || ID_EMPTY(t->service) || (old && streq(old->status.err, why)))
		return;
	if (last && streq(last->action, "waiting") && streq(last->id, t->service.s) &&
	    streq(smap_get(&last->attrs, "reason"), why))
		return;
	struct str_map attrs = { 0 };
	smap_set(&attrs, "name", t->service_name);
	smap_set(&attrs, "reason", why);
	smap_set(&attrs, "task", t->meta.id);
	api_event(a, "swarm", "service", "waiting", t->service.s, &attrs);
	smap_clear(&attrs);
}

void api_on_store_event(void *api, const struct store_event *ev)
{
	static const char *const actions[] = { "create", "update", "remove" };
	const struct md_meta *o = ev->new ? ev->new : ev->old, *was = ev->old;
	if (ev->object == STORE_TASK)
		on_waiting(api, ev->old, ev->new);
	if (ev->object == STORE_CLUSTER || ev->object == STORE_TASK)
		return;
	struct str_map attrs = { 0 };
	smap_set(&attrs, "name", name_of(ev->object, o));
	if (ev->kind == STORE_UPDATED && ev->object == STORE_SERVICE)
		service_changes(&attrs, ev->old, ev->new);
	if (ev->kind == STORE_UPDATED && ev->object == STORE_NODE)
		node_changes(&attrs, ev->old, ev->new);
	/* Bookkeeping of the allocator and heartbeats are no events. */
	if (ev->kind != STORE_UPDATED || attrs.n > 1 || was->version.index != o->version.index)
		api_event(api, "swarm", store_kind_name(ev->object), actions[ev->kind], o->id, &attrs);
	smap_clear(&attrs);
}
