/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/dispatcher/dispatcher.h"

#include "base/clock.h"
#include "base/mem.h"
#include "control/dispatcher/world.h"
#include "control/model/policy.h"

#define PART_CHANGES 2000 /* changes in one message: well below a frame */
#define PART_TASKS 64

/* An object of the data plane as all nodes that see it should have it. */
struct item {
	struct dp_change change;
	uint64_t sig; /* hash of its encoding */
	bool served;  /* an endpoint that was SERVING at some time */
};

/* What a node was last told about a key. */
struct told {
	uint64_t sig;
	uint64_t version; /* of the message that said so */
};

struct session { /* one for every node of the store, connected or not */
	node_id node;
	bool connected, closed, fresh;
	enum world_node state;
	int64_t last_seen; /* beat, ack or status; or when the connection ended */
	uint64_t version, acked;
	struct map told;  /* key -> struct told */
	struct map dirty; /* keys to compare again */
	struct map tasks; /* task id -> sig as pointer */
	struct map dirty_tasks;
	struct map nets; /* network id -> number of tasks here that use it */
	char *addr;      /* news for the store: */
	struct md_node_description *desc;
	bool news_in_flight; /* addr and desc are in the transaction that is out */
};

struct pending_status {
	node_id node;
	task_id task;
	struct md_task_status status;
};

struct disp {
	struct store *store;
	struct disp_config config;
	struct map sessions; /* node id -> struct session */
	struct map items;    /* key -> struct item */
	struct map net_keys; /* network id ("" = for all) -> struct map of keys */
	struct map dirty;    /* keys whose item must be made again */
	struct map draining; /* task ids that must stop and are not drained yet */
	struct map rising;   /* task ids that serve and are not known yet */
	struct map splits;   /* services whose label names others */
	struct VEC(struct pending_status) statuses;
	size_t in_flight; /* statuses in the transaction being settled */
	bool stepping;    /* a transaction is out */
	bool wake;        /* look again although nothing is queued */
	uint64_t version;
};

/* ---- small things ---- */

struct disp_config disp_config_of(int64_t p)
{
	return (struct disp_config){ .suspect_ns = p * 3 / 10, .down_ns = p * 7 / 10, .closed_ns = p * 2 };
}

int64_t disp_beat_ns(int64_t p)
{
	return p / 10;
}

static struct session *session_of(const struct disp *d, const char *node)
{
	return map_get(&d->sessions, node);
}

static void map_free_values(struct map *m)
{
	MAP_FOREACH(m, e)
		free(e->value);
	map_fini(m);
}

static void item_free(struct item *i)
{
	if (!i)
		return;
	sch_clear(&dp_change_schema, &i->change);
	free(i);
}

static void forget_told(struct session *s)
{
	map_free_values(&s->told);
	map_fini(&s->dirty);
	map_fini(&s->tasks);
	map_fini(&s->dirty_tasks);
}

static void session_free(struct session *s)
{
	if (!s)
		return;
	forget_told(s);
	map_fini(&s->nets);
	free(s->addr);
	sch_free(&md_node_description_schema, s->desc);
	free(s);
}

/* ---- what is known of the world ---- */

static struct map *keys_of_network(struct disp *d, const char *net)
{
	struct map *keys = map_get(&d->net_keys, net);
	if (!keys) {
		keys = XNEW(struct map);
		map_put(&d->net_keys, net, keys);
	}
	return keys;
}

static bool session_sees(const struct disp *d, const struct session *s, const char *key)
{
	const char *net = world_key_network(key);
	if (!*net || map_has(&s->nets, net))
		return true;
	const struct md_network *n = store_get(d->store, STORE_NETWORK, net);
	return n && n->spec.ingress;
}

static void touch_session_key(struct session *s, const char *key)
{
	if (s->connected && !s->fresh)
		map_put(&s->dirty, key, s);
}

static void mark(struct disp *d, char kind, const char *id, const char *net)
{
	char key[WORLD_KEY_MAX];
	world_key(key, kind, id, net);
	map_put(&d->dirty, key, d);
}

static void mark_task(struct disp *d, const struct md_task *t)
{
	for (size_t i = 0; i < t->attachments.n; i++)
		mark(d, 'e', t->meta.id, t->attachments.v[i].network.s);
}

static void mark_tasks_of_node(struct disp *d, const char *node)
{
	struct store_list l = store_tasks_of_node(d->store, node);
	for (size_t i = 0; i < l.n; i++)
		mark_task(d, l.v[i]);
}

static void mark_service(struct disp *d, const struct md_service *svc)
{
	for (size_t i = 0; i < svc->endpoint.vips.n; i++)
		mark(d, 's', svc->meta.id, svc->endpoint.vips.v[i].network.s);
	for (size_t i = 0; i < svc->spec.task.networks.n; i++)
		if (svc->spec.task.networks.v[i].target)
			mark(d, 's', svc->meta.id, svc->spec.task.networks.v[i].target);
	STORE_EACH(d->store, STORE_NETWORK, struct md_network, n)
		if (n->spec.ingress)
			mark(d, 's', svc->meta.id, n->meta.id);
}

/* A node starts or stops to need a network: everything on it is compared again for that node. */
static void interest(struct disp *d, const struct md_task *t, int delta)
{
	struct session *s = session_of(d, t->node.s);
	for (size_t i = 0; s && i < t->attachments.n; i++) {
		const char *net = t->attachments.v[i].network.s;
		uintptr_t n = (uintptr_t)map_get(&s->nets, net), now = n + (uintptr_t)delta;
		if (now)
			map_put(&s->nets, net, (void *)now);
		else
			map_del(&s->nets, net);
		if (n && now)
			continue;
		struct map *keys = keys_of_network(d, net);
		MAP_FOREACH(keys, e)
			touch_session_key(s, e->key);
	}
}

static bool must_drain(const struct md_task *t)
{
	return t->desired_state > MD_TASK_RUNNING && !t->drained && !ID_EMPTY(t->node) && !md_task_ended(t);
}

static bool must_be_known(const struct md_task *t)
{
	return !t->known && t->desired_state <= MD_TASK_RUNNING && t->status.state == MD_TASK_RUNNING &&
	       t->status.traffic == MD_TRAFFIC_SERVING;
}

static void task_event(struct disp *d, const struct md_task *old, const struct md_task *new)
{
	if (new &&world_task_holds_networks(new))
		interest(d, new, 1);
	if (old && world_task_holds_networks(old))
		interest(d, old, -1);
	const struct md_task *t = new ? new : old;
	if (old)
		mark_task(d, old);
	if (new)
		mark_task(d, new);
	if (new &&must_drain(new))
		map_put(&d->draining, t->meta.id, d);
	else
		map_del(&d->draining, t->meta.id);
	if (new &&must_be_known(new))
		map_put(&d->rising, t->meta.id, d);
	else
		map_del(&d->rising, t->meta.id);
	struct session *now = new ? session_of(d, new->node.s) : NULL,
		       *before = old ? session_of(d, old->node.s) : NULL;
	if (now)
		map_put(&now->dirty_tasks, t->meta.id, d);
	if (before && before != now)
		map_put(&before->dirty_tasks, t->meta.id, d);
}

static struct session *session_add(struct disp *d, const struct md_node *n, int64_t now)
{
	struct session *s = XNEW(struct session);
	mesh_id_set(s->node.s, n->meta.id);
	s->closed = true;
	s->last_seen = now;
	s->state = n->status.state == MD_NODE_DOWN ? WORLD_NODE_DOWN : WORLD_NODE_UP;
	map_put(&d->sessions, n->meta.id, s);
	return s;
}

static void node_event(struct disp *d, const struct md_node *old, const struct md_node *new)
{
	const struct md_node *n = new ? new : old;
	if (!new)
		session_free(map_del(&d->sessions, n->meta.id));
	else if (!session_of(d, n->meta.id))
		session_add(d, n, INT64_MAX);
	mark(d, 'N', n->meta.id, NULL);
}

/* A split names services: it is made again when one comes or goes. */
static void split_event(struct disp *d, const struct md_service *old, const struct md_service *new)
{
	if (new &&smap_get(&new->spec.labels, MD_LABEL_SPLIT))
		map_put(&d->splits, new->meta.id, d);
	else
		map_del(&d->splits, (new ? new : old)->meta.id);
	if (old && new)
		return;
	MAP_FOREACH(&d->splits, e) {
		const struct md_service *svc = store_get(d->store, STORE_SERVICE, e->key);
		if (svc)
			mark_service(d, svc);
	}
}

static void on_store(void *arg, const struct store_event *ev)
{
	struct disp *d = arg;
	const void *o = ev->new ? ev->new : ev->old;
	switch (ev->object) {
	case STORE_NODE:
		node_event(d, ev->old, ev->new);
		break;
	case STORE_TASK:
		task_event(d, ev->old, ev->new);
		break;
	case STORE_SERVICE:
		if (ev->old)
			mark_service(d, ev->old);
		mark_service(d, o);
		split_event(d, ev->old, ev->new);
		break;
	case STORE_NETWORK:
		mark(d, 'n', ((const struct md_meta *)o)->id, NULL);
		break;
	default:
		break;
	}
}

void disp_configure(struct disp *d, const struct disp_config *c, int64_t now)
{
	d->config = *c;
	MAP_FOREACH(&d->sessions, e) {
		struct session *s = e->value;
		if (s->connected && s->last_seen != INT64_MAX)
			s->last_seen = now;
	}
	d->wake = true;
}

struct disp *disp_new(struct store *store, const struct disp_config *c, int64_t now)
{
	struct disp *d = XNEW(struct disp);
	d->store = store;
	d->config = *c;
	STORE_EACH(store, STORE_NODE, struct md_node, n) {
		session_add(d, n, now);
		mark(d, 'N', n->meta.id, NULL);
	}
	STORE_EACH(store, STORE_NETWORK, struct md_network, n)
		mark(d, 'n', n->meta.id, NULL);
	STORE_EACH(store, STORE_SERVICE, struct md_service, s) {
		mark_service(d, s);
		if (smap_get(&s->spec.labels, MD_LABEL_SPLIT))
			map_put(&d->splits, s->meta.id, d);
	}
	STORE_EACH(store, STORE_TASK, struct md_task, t)
		task_event(d, NULL, t);
	store_watch(store, on_store, d);
	return d;
}

void disp_free(struct disp *d)
{
	if (!d)
		return;
	store_unwatch(d->store, on_store, d);
	MAP_FOREACH(&d->sessions, e)
		session_free(e->value);
	map_fini(&d->sessions);
	MAP_FOREACH(&d->items, e)
		item_free(e->value);
	map_fini(&d->items);
	MAP_FOREACH(&d->net_keys, e) {
		map_fini(e->value);
		free(e->value);
	}
	map_fini(&d->net_keys);
	map_fini(&d->dirty);
	map_fini(&d->draining);
	map_fini(&d->rising);
	map_fini(&d->splits);
	for (size_t i = 0; i < d->statuses.len; i++)
		sch_clear(&md_task_status_schema, &d->statuses.data[i].status);
	vec_fini(&d->statuses);
	free(d);
}

static enum world_node node_state_for(const struct disp *d, const char *key)
{
	if (key[0] != 'e')
		return WORLD_NODE_UP;
	char id[MESH_ID_LEN + 1] = { 0 };
	memcpy(id, key + 2, strcspn(key + 2, "/"));
	const struct md_task *t = store_get(d->store, STORE_TASK, id);
	const struct session *s = t ? session_of(d, t->node.s) : NULL;
	return s ? s->state : WORLD_NODE_DOWN;
}

/* Makes one item again and tells the sessions that may see it. */
static void refresh_item(struct disp *d, const char *key)
{
	struct item *old = map_get(&d->items, key), *new = XNEW(struct item);
	if (!world_object(d->store, key, node_state_for(d, key), &new->change)) {
		item_free(new);
		new = NULL;
	} else {
		struct buf b = { 0 };
		sch_encode(&dp_change_schema, &new->change, &b);
		new->sig = hash64(b.data, b.len);
		buf_fini(&b);
		new->served =
			(old && old->served) || (new->change.endpoint &&new->change.endpoint->state == DP_SERVING);
	}
	bool same = old && new && old->sig == new->sig;
	if (new)
		map_put(&d->items, key, new);
	else
		map_del(&d->items, key);
	item_free(old);
	struct map *keys = keys_of_network(d, world_key_network(key));
	if (new)
		map_put(keys, key, d);
	if (!same && (old || new))
		MAP_FOREACH(&d->sessions, e)
			touch_session_key(e->value, key);
	if (!new)
		map_del(keys, key);
}

static void refresh(struct disp *d)
{
	while (d->dirty.count) {
		struct map todo = d->dirty;
		d->dirty = (struct map){ 0 };
		MAP_FOREACH(&todo, e)
			refresh_item(d, e->key);
		map_fini(&todo);
	}
}

/* ---- sessions ---- */

static void set_state(struct disp *d, struct session *s, enum world_node state)
{
	if (s->state == state)
		return;
	s->state = state;
	mark_tasks_of_node(d, s->node.s);
	d->wake = true;
}

static void seen(struct disp *d, struct session *s, int64_t now)
{
	s->last_seen = now;
	if (s->connected)
		set_state(d, s, WORLD_NODE_UP);
}

void disp_connect(struct disp *d, const char *node, const char *addr, const struct md_node_description *desc,
                  int64_t now)
{
	struct session *s = session_of(d, node);
	if (!s)
		return;
	forget_told(s);
	s->connected = s->fresh = true;
	s->closed = false;
	s->acked = 0;
	str_set(&s->addr, addr);
	disp_describe(d, node, desc);
	seen(d, s, now);
	d->wake = true;
}

void disp_disconnect(struct disp *d, const char *node, bool closed, int64_t now)
{
	struct session *s = session_of(d, node);
	if (!s || !s->connected)
		return;
	s->connected = false;
	s->closed = closed;
	if (closed)
		s->last_seen = now;
	forget_told(s);
	d->wake = true;
}

void disp_leave(struct disp *d, const char *node, int64_t now)
{
	disp_disconnect(d, node, true, now - d->config.closed_ns);
}

void disp_beat(struct disp *d, const char *node, int64_t now)
{
	struct session *s = session_of(d, node);
	if (s)
		seen(d, s, now);
}

void disp_describe(struct disp *d, const char *node, const struct md_node_description *desc)
{
	struct session *s = session_of(d, node);
	if (!s)
		return;
	sch_free(&md_node_description_schema, s->desc);
	s->desc = sch_dup(&md_node_description_schema, desc);
	s->news_in_flight = false;
	d->wake = true;
}

void disp_ack(struct disp *d, const char *node, uint64_t version, int64_t now)
{
	struct session *s = session_of(d, node);
	if (!s || !s->connected)
		return;
	seen(d, s, now);
	if (version > s->acked && version <= s->version) {
		s->acked = version;
		d->wake |= d->draining.count || d->rising.count;
	}
}

void disp_status(struct disp *d, const char *node, const struct wire_status *st)
{
	for (size_t i = 0; i < st->tasks.n; i++) {
		struct pending_status p = { .task = st->tasks.v[i].task };
		mesh_id_set(p.node.s, node);
		sch_copy(&md_task_status_schema, &p.status, &st->tasks.v[i].status);
		vec_push(&d->statuses, p);
	}
}

size_t disp_sessions(const struct disp *d)
{
	size_t n = 0;
	MAP_FOREACH(&d->sessions, e)
		n += ((const struct session *)e->value)->connected;
	return n;
}

/* ---- writing what nodes said ---- */

/* Silence or a closed connection, turned into a state; returns when to look again. */
static int64_t liveness(struct disp *d, struct session *s, int64_t now)
{
	if (s->last_seen == INT64_MAX)
		return INT64_MAX; /* joined, never connected: stays as created */
	if (s->closed && !s->connected) {
		if (now - s->last_seen < d->config.closed_ns)
			return s->last_seen + d->config.closed_ns;
		set_state(d, s, WORLD_NODE_DOWN);
		return INT64_MAX;
	}
	int64_t silent = now - s->last_seen;
	if (silent >= d->config.down_ns) {
		set_state(d, s, WORLD_NODE_DOWN);
		return INT64_MAX;
	}
	if (silent >= d->config.suspect_ns) {
		set_state(d, s, WORLD_NODE_SUSPECT);
		return s->last_seen + d->config.down_ns;
	}
	return s->last_seen + d->config.suspect_ns;
}

static void write_node(struct session *s, struct store_tx *tx)
{
	const struct md_node *n = store_tx_get(tx, STORE_NODE, s->node.s);
	if (!n)
		return;
	s->news_in_flight = true;
	int want = s->state == WORLD_NODE_DOWN ? MD_NODE_DOWN : MD_NODE_READY;
	if (s->last_seen == INT64_MAX)
		want = n->status.state;
	/* A manager's word on roles and TLS stays; everything else is the node's own. */
	bool news = want != n->status.state || (s->addr && !streq(s->addr, n->status.addr)) ||
	            (s->desc && !sch_equal(&md_node_description_schema, s->desc, &n->description));
	if (!news)
		return;
	struct md_node *e = store_tx_edit(tx, STORE_NODE, s->node.s);
	if (want != e->status.state)
		str_set(&e->status.message, want == MD_NODE_DOWN ? "heartbeat failure" : "");
	e->status.state = want;
	if (s->addr)
		str_set(&e->status.addr, s->addr);
	if (s->desc) {
		sch_clear(&md_node_description_schema, &e->description);
		sch_copy(&md_node_description_schema, &e->description, s->desc);
	}
	if (e->manager)
		e->manager->reachability = want == MD_NODE_DOWN ? MD_REACH_UNREACHABLE : MD_REACH_REACHABLE;
}

/* Host-mode ports stand in the status of a running task. */
static void fill_host_ports(struct md_task *t)
{
	if (t->status.state != MD_TASK_RUNNING || t->status.ports.ports.n)
		return;
	for (size_t i = 0; i < t->endpoint.ports.n; i++)
		if (t->endpoint.ports.v[i].mode == MD_PUBLISH_HOST)
			sch_copy(&md_port_schema, LIST_ADD(&t->status.ports.ports), &t->endpoint.ports.v[i]);
}

static void write_status(const struct pending_status *p, struct store_tx *tx)
{
	const struct md_task *t = store_tx_get(tx, STORE_TASK, p->task.s);
	/* A status of another node, or one that would turn time back, is old news. */
	if (!t || !ID_EQ(t->node, p->node) || p->status.state < t->status.state || md_task_ended(t))
		return;
	struct md_task *e = store_tx_edit(tx, STORE_TASK, p->task.s);
	sch_clear(&md_task_status_schema, &e->status);
	sch_copy(&md_task_status_schema, &e->status, &p->status);
	fill_host_ports(e);
	e->meta.updated_at = store_tx_now(tx);
}

/* Has every live node that may route to this endpoint acknowledged its last word on it? */
static bool acknowledged(const struct disp *d, const char *key)
{
	MAP_FOREACH(&d->sessions, e) {
		const struct session *s = e->value;
		if (s->state == WORLD_NODE_DOWN || s->last_seen == INT64_MAX || !session_sees(d, s, key))
			continue;
		if (!s->connected || s->fresh || map_has(&s->dirty, key))
			return false;
		const struct told *t = map_get(&s->told, key);
		if (t && s->acked < t->version)
			return false;
	}
	return true;
}

static bool is_drained(const struct disp *d, const struct md_task *t)
{
	for (size_t i = 0; i < t->attachments.n; i++) {
		char key[WORLD_KEY_MAX];
		world_key(key, 'e', t->meta.id, t->attachments.v[i].network.s);
		const struct item *item = map_get(&d->items, key);
		bool served = item ? item->served : false;
		if ((served || t->status.traffic == MD_TRAFFIC_SERVING) && !acknowledged(d, key))
			return false;
	}
	return true;
}

static bool is_known(const struct disp *d, const struct md_task *t)
{
	for (size_t i = 0; i < t->attachments.n; i++) {
		char key[WORLD_KEY_MAX];
		world_key(key, 'e', t->meta.id, t->attachments.v[i].network.s);
		const struct item *item = map_get(&d->items, key);
		if (!item || item->change.endpoint->state != DP_SERVING || !acknowledged(d, key))
			return false;
	}
	return true;
}

bool disp_pending(const struct disp *d)
{
	return !d->stepping && (d->wake || d->statuses.len || d->dirty.count);
}

int64_t disp_step(struct disp *d, struct store_tx *tx, int64_t now)
{
	int64_t next = INT64_MAX;
	d->wake = false;
	d->stepping = true;
	MAP_FOREACH(&d->sessions, e) {
		int64_t at = liveness(d, e->value, now);
		next = at < next ? at : next;
		write_node(e->value, tx);
	}
	d->in_flight = d->statuses.len;
	for (size_t i = 0; i < d->in_flight; i++)
		write_status(&d->statuses.data[i], tx);
	refresh(d);
	MAP_FOREACH(&d->draining, e) {
		const struct md_task *t = store_get(d->store, STORE_TASK, e->key);
		if (!t || !is_drained(d, t))
			continue;
		struct md_task *edit = store_tx_edit(tx, STORE_TASK, e->key);
		if (edit)
			edit->drained = true;
	}
	MAP_FOREACH(&d->rising, e) {
		const struct md_task *t = store_get(d->store, STORE_TASK, e->key);
		struct md_task *edit = t && is_known(d, t) ? store_tx_edit(tx, STORE_TASK, e->key) : NULL;
		if (edit)
			edit->known = true;
	}
	return next;
}

void disp_settled(struct disp *d, bool applied)
{
	d->stepping = false;
	if (!applied) {
		d->wake = true;
		return;
	}
	MAP_FOREACH(&d->sessions, e) {
		struct session *s = e->value;
		if (!s->news_in_flight)
			continue;
		str_set(&s->addr, NULL);
		sch_free(&md_node_description_schema, TAKE(s->desc));
	}
	for (size_t i = 0; i < d->in_flight; i++)
		sch_clear(&md_task_status_schema, &d->statuses.data[i].status);
	if (d->in_flight)
		memmove(d->statuses.data, d->statuses.data + d->in_flight,
		        (d->statuses.len - d->in_flight) * sizeof(*d->statuses.data));
	d->statuses.len -= d->in_flight;
	d->in_flight = 0;
}

/* ---- what goes out ---- */

static void tell_change(struct disp *d, struct session *s, const char *key, struct wire_assign *out)
{
	const struct item *item = map_get(&d->items, key);
	bool want = item && session_sees(d, s, key);
	struct told *t = map_get(&s->told, key);
	if (want ? (t && t->sig == item->sig) : !t)
		return;
	struct dp_change *c = LIST_ADD(&out->net.changes);
	if (!want) {
		world_removal(key, c);
		free(map_del(&s->told, key));
		return;
	}
	sch_copy(&dp_change_schema, c, &item->change);
	if (!t) {
		t = XNEW(struct told);
		map_put(&s->told, key, t);
	}
	*t = (struct told){ .sig = item->sig, .version = out->version };
}

static void add_deps(struct disp *d, struct wire_task *w)
{
	const struct md_container_spec *c = w->task.spec.container;
	for (size_t i = 0; c && i < c->secrets.n; i++) {
		const struct md_secret *s = store_get(d->store, STORE_SECRET, c->secrets.v[i].secret.s);
		if (s)
			sch_copy(&md_secret_schema, LIST_ADD(&w->secrets), s);
	}
	for (size_t i = 0; c && i < c->configs.n; i++) {
		const struct md_config *s = store_get(d->store, STORE_CONFIG, c->configs.v[i].config.s);
		if (s)
			sch_copy(&md_config_schema, LIST_ADD(&w->configs), s);
	}
}

static void tell_task(struct disp *d, struct session *s, const char *id, struct wire_assign *out)
{
	const struct md_task *t = store_get(d->store, STORE_TASK, id);
	bool want = t && ID_EQ(t->node, s->node) && t->status.state >= MD_TASK_ASSIGNED;
	uintptr_t told = (uintptr_t)map_get(&s->tasks, id);
	if (!want) {
		if (told)
			strs_add(&out->removed, id);
		map_del(&s->tasks, id);
		return;
	}
	/* Of a task that exists only these two move at the manager; the rest is the agent's own news. */
	uintptr_t sig = 1 + (uintptr_t)t->desired_state * 2 + t->drained;
	if (told == sig)
		return;
	struct wire_task *w = LIST_ADD(&out->tasks);
	sch_copy(&md_task_schema, &w->task, t);
	if (!told)
		add_deps(d, w);
	map_put(&s->tasks, id, (void *)sig);
}

/* A snapshot is every key and task of the node, told as if nothing had been told before. */
static void begin_snapshot(struct disp *d, struct session *s)
{
	s->fresh = false;
	MAP_FOREACH(&d->items, e)
		if (session_sees(d, s, e->key))
			map_put(&s->dirty, e->key, s);
	struct store_list l = store_tasks_of_node(d->store, s->node.s);
	for (size_t i = 0; i < l.n; i++)
		map_put(&s->dirty_tasks, ((const struct md_meta *)l.v[i])->id, d);
}

bool disp_next(struct disp *d, node_id *node, struct wire_assign *out)
{
	refresh(d);
	MAP_FOREACH(&d->sessions, e) {
		struct session *s = e->value;
		if (!s->connected || (!s->fresh && !s->dirty.count && !s->dirty_tasks.count))
			continue;
		*out = (struct wire_assign){ .version = ++d->version, .snapshot = s->fresh };
		if (s->fresh)
			begin_snapshot(d, s);
		MAP_FOREACH(&s->dirty, k) {
			if (out->net.changes.n >= PART_CHANGES)
				break;
			tell_change(d, s, k->key, out);
			map_del(&s->dirty, k->key);
		}
		MAP_FOREACH(&s->dirty_tasks, k) {
			if (out->tasks.n >= PART_TASKS)
				break;
			tell_task(d, s, k->key, out);
			map_del(&s->dirty_tasks, k->key);
		}
		out->more = s->dirty.count || s->dirty_tasks.count;
		if (!out->snapshot && !out->more && !out->net.changes.n && !out->tasks.n && !out->removed.n) {
			sch_clear(&wire_assign_schema, out);
			continue;
		}
		out->net.self = s->node;
		s->version = out->version;
		*node = s->node;
		return true;
	}
	return false;
}

void disp_each_session(const struct disp *d,
                       void (*fn)(void *arg, const char *node, bool connected, uint64_t sent, uint64_t acked),
                       void *arg)
{
	MAP_FOREACH(&d->sessions, e) {
		const struct session *s = e->value;
		fn(arg, s->node.s, s->connected, s->version, s->acked);
	}
}
