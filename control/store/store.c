/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/store/store_impl.h"

#include <stdio.h>

#include "base/mem.h"

static const struct {
	const char *name;
	const struct schema *schema;
} kinds[STORE_KIND_MAX] = {
	[STORE_CLUSTER] = { "cluster", &md_cluster_schema }, [STORE_NODE] = { "node", &md_node_schema },
	[STORE_SERVICE] = { "service", &md_service_schema }, [STORE_TASK] = { "task", &md_task_schema },
	[STORE_NETWORK] = { "network", &md_network_schema }, [STORE_SECRET] = { "secret", &md_secret_schema },
	[STORE_CONFIG] = { "config", &md_config_schema },
};

const char *store_kind_name(enum store_kind k)
{
	return kinds[k].name;
}

const struct schema *store_kind_schema(enum store_kind k)
{
	return kinds[k].schema;
}

/* ---- ordered lists ---- */

static void olist_fini(struct store_olist *l)
{
	free(l->v);
	free(l->seq);
	*l = (struct store_olist){ 0 };
}

static void olist_compact(struct store_olist *l)
{
	if (l->live == l->n)
		return;
	size_t out = 0;
	for (size_t i = 0; i < l->n; i++) {
		if (!l->v[i])
			continue;
		l->v[out] = l->v[i];
		l->seq[out++] = l->seq[i];
	}
	l->n = out;
}

static void olist_grow(struct store_olist *l)
{
	if (l->n < l->cap)
		return;
	if (l->live * 2 < l->n) {
		olist_compact(l);
		return;
	}
	l->cap = l->cap ? l->cap * 2 : 4;
	l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
	l->seq = xrealloc(l->seq, l->cap * sizeof(*l->seq));
}

/* The first slot whose sequence number is at least seq. */
static size_t olist_at(const struct store_olist *l, uint64_t seq)
{
	size_t lo = 0, hi = l->n;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		if (l->seq[mid] < seq)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void olist_put(struct store_olist *l, uint64_t seq, const void *obj)
{
	size_t i = olist_at(l, seq);
	if (i < l->n && l->seq[i] == seq) {
		l->live += !l->v[i];
		l->v[i] = obj;
		return;
	}
	olist_grow(l);
	i = olist_at(l, seq);
	memmove(&l->v[i + 1], &l->v[i], (l->n - i) * sizeof(*l->v));
	memmove(&l->seq[i + 1], &l->seq[i], (l->n - i) * sizeof(*l->seq));
	l->v[i] = obj;
	l->seq[i] = seq;
	l->n++;
	l->live++;
}

static void olist_del(struct store_olist *l, uint64_t seq)
{
	size_t i = olist_at(l, seq);
	if (i == l->n || l->seq[i] != seq || !l->v[i])
		return;
	l->v[i] = NULL;
	l->live--;
	while (l->n && !l->v[l->n - 1])
		l->n--;
}

/* Closing holes changes no answer, so readers of a const store may do it. */
static struct store_list olist_view(const struct store_olist *l)
{
	if (!l)
		return (struct store_list){ 0 };
	olist_compact((struct store_olist *)l);
	return (struct store_list){ .v = l->v, .n = l->n };
}

/* ---- indexes: key -> list ---- */

static void index_fini(struct map *m)
{
	MAP_FOREACH(m, e) {
		olist_fini(e->value);
		free(e->value);
	}
	map_fini(m);
}

static void index_del(struct map *m, const char *key, uint64_t seq)
{
	struct store_olist *l = map_get(m, key);
	if (!l)
		return;
	olist_del(l, seq);
	if (l->live)
		return;
	map_del(m, key);
	olist_fini(l);
	free(l);
}

static void index_put(struct map *m, const char *key, uint64_t seq, const void *obj)
{
	struct store_olist *l = map_get(m, key);
	if (!l) {
		l = XNEW(struct store_olist);
		map_put(m, key, l);
	}
	olist_put(l, seq, obj);
}

/* Moves an object from its old key to its new one; NULL or "" is no key. */
static void index_move(struct map *m, const char *old_key, const char *new_key, uint64_t seq, const void *obj)
{
	bool had = old_key && *old_key, has = new_key && *new_key;
	if (had && (!has || strcmp(old_key, new_key) != 0))
		index_del(m, old_key, seq);
	if (has)
		index_put(m, new_key, seq, obj);
}

const char *store_name_of(enum store_kind k, const void *obj)
{
	switch (k) {
	case STORE_CLUSTER:
		return ((const struct md_cluster *)obj)->spec.name;
	case STORE_NODE:
		return ((const struct md_node *)obj)->description.hostname;
	case STORE_SERVICE: {
		const struct md_service *s = obj;
		return s->pending_delete ? NULL : s->spec.name;
	}
	case STORE_NETWORK: {
		const struct md_network *n = obj;
		return n->pending_delete ? NULL : n->spec.name;
	}
	case STORE_SECRET:
		return ((const struct md_secret *)obj)->spec.name;
	case STORE_CONFIG:
		return ((const struct md_config *)obj)->spec.name;
	default:
		return NULL;
	}
}

bool store_names_unique(enum store_kind k)
{
	return k != STORE_NODE && k != STORE_TASK;
}

static void reindex(struct store *s, enum store_kind k, const void *old, const void *new, uint64_t seq)
{
	index_move(&s->tables[k].names, old ? store_name_of(k, old) : NULL, new ? store_name_of(k, new) : NULL, seq,
	           new);
	if (k != STORE_TASK)
		return;
	const struct md_task *a = old, *b = new;
	index_move(&s->tasks_of_service, a ? a->service.s : NULL, b ? b->service.s : NULL, seq, b);
	index_move(&s->tasks_of_node, a ? a->node.s : NULL, b ? b->node.s : NULL, seq, b);
}

/* ---- rows ---- */

struct md_meta *store_meta(void *obj)
{
	return obj;
}

struct store_row *store_row(const struct store *s, enum store_kind k, const char *id)
{
	return map_get(&s->tables[k].rows, id);
}

void *store_put(struct store *s, enum store_kind k, void *obj)
{
	struct store_table *t = &s->tables[k];
	struct store_row *row = store_row(s, k, store_meta(obj)->id);
	if (!row) {
		row = XNEW(struct store_row);
		row->seq = ++s->next_seq;
		map_put(&t->rows, store_meta(obj)->id, row);
	}
	void *old = row->obj;
	row->obj = obj;
	olist_put(&t->all, row->seq, obj);
	reindex(s, k, old, obj, row->seq);
	return old;
}

void *store_remove(struct store *s, enum store_kind k, const char *id)
{
	struct store_table *t = &s->tables[k];
	struct store_row *row = map_del(&t->rows, id);
	void *old = row->obj;
	olist_del(&t->all, row->seq);
	reindex(s, k, old, NULL, row->seq);
	free(row);
	return old;
}

struct store *store_new(void)
{
	return XNEW(struct store);
}

void store_free(struct store *s)
{
	if (!s)
		return;
	for (int k = 0; k < STORE_KIND_MAX; k++) {
		struct store_table *t = &s->tables[k];
		MAP_FOREACH(&t->rows, e) {
			struct store_row *row = e->value;
			sch_free(kinds[k].schema, row->obj);
			free(row);
		}
		map_fini(&t->rows);
		index_fini(&t->names);
		olist_fini(&t->all);
	}
	index_fini(&s->tasks_of_service);
	index_fini(&s->tasks_of_node);
	vec_fini(&s->watchers);
	free(s);
}

/* ---- reading ---- */

const void *store_get(const struct store *s, enum store_kind k, const char *id)
{
	struct store_row *row = id ? store_row(s, k, id) : NULL;
	return row ? row->obj : NULL;
}

const struct store_olist *store_name_holders(const struct store *s, enum store_kind k, const char *name)
{
	return map_get(&s->tables[k].names, name);
}

const void *store_by_name(const struct store *s, enum store_kind k, const char *name)
{
	struct store_list l = olist_view(name ? store_name_holders(s, k, name) : NULL);
	return l.n == 1 ? l.v[0] : NULL;
}

const struct md_service *store_service_named(const struct store *s, const struct str_map *labels, const char *name)
{
	const struct md_service *svc = store_by_name(s, STORE_SERVICE, name);
	const char *stack = smap_get(labels, "com.docker.stack.namespace");
	if (svc || !stack)
		return svc;
	CLEAN_FREE char *full = xasprintf("%s_%s", stack, name);
	return store_by_name(s, STORE_SERVICE, full);
}

static int ambiguous(enum store_kind k, const char *ref, size_t n, struct mesh_err *err)
{
	return mesh_fail(err, MESH_E_INVALID, "%s %s is ambiguous (%zu matches found)", kinds[k].name, ref, n);
}

int store_find(const struct store *s, enum store_kind k, const char *ref, const void **out, struct mesh_err *err)
{
	*out = NULL;
	if (!ref || !*ref)
		return mesh_fail(err, MESH_E_INVALID, "%s: empty name or id", kinds[k].name);
	*out = store_get(s, k, ref);
	if (*out)
		return 0;
	struct store_list named = olist_view(store_name_holders(s, k, ref));
	if (named.n > 1)
		return ambiguous(k, ref, named.n, err);
	if (named.n == 1) {
		*out = named.v[0];
		return 0;
	}
	struct store_list all = store_all(s, k);
	size_t len = strlen(ref), hits = 0;
	const void *hit = NULL;
	for (size_t i = 0; i < all.n; i++) {
		const struct md_meta *m = all.v[i];
		if (strncmp(m->id, ref, len) == 0) {
			hit = m;
			hits++;
		}
	}
	if (hits > 1)
		return ambiguous(k, ref, hits, err);
	if (!hits)
		return mesh_fail(err, MESH_E_NOT_FOUND, "%s %s not found", kinds[k].name, ref);
	*out = hit;
	return 0;
}

size_t store_count(const struct store *s, enum store_kind k)
{
	return s->tables[k].all.live;
}

struct store_list store_all(const struct store *s, enum store_kind k)
{
	return olist_view(&s->tables[k].all);
}

struct store_list store_tasks_of_service(const struct store *s, const char *service)
{
	return olist_view(map_get(&s->tasks_of_service, service));
}

struct store_list store_tasks_of_node(const struct store *s, const char *node)
{
	return olist_view(map_get(&s->tasks_of_node, node));
}

const struct md_cluster *store_cluster(const struct store *s)
{
	struct store_list l = store_all(s, STORE_CLUSTER);
	return l.n ? l.v[0] : NULL;
}

uint64_t store_index(const struct store *s)
{
	return s->index;
}
