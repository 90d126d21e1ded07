/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which nodes can take a task, and in words why the others cannot. */
#include <stdio.h>
#include <strings.h>

#include "control/scheduler/nodes.h"

void ask_init(struct ask *a, struct sched *s, const struct md_task *like)
{
	const struct md_placement *p = like->spec.placement;
	const struct md_resources *r = like->spec.resources ? like->spec.resources->reservations : NULL;
	*a = (struct ask){ .like = like,
		           .cpu = r ? r->nano_cpus : 0,
		           .memory = r ? r->memory_bytes : 0,
		           .max_replicas = p ? p->max_replicas : 0,
		           .rare = like->endpoint.ports.n || (r && r->generic.n),
		           .fit = fit_ref(s, p),
		           .service = sched_service(s, like->service.s) };
}

void ask_fini(struct ask *a)
{
	fit_unref(a->fit);
}

bool platform_ok(const struct md_placement *p, const struct md_node *node)
{
	if (!p || !p->platforms.n)
		return true;
	const struct md_platform *have = &node->description.platform;
	for (size_t i = 0; i < p->platforms.n; i++) {
		const struct md_platform *want = &p->platforms.v[i];
		if (want->os && *want->os && strcasecmp(want->os, have->os ? have->os : ""))
			continue;
		if (!want->architecture || !*want->architecture ||
		    !strcasecmp(platform_arch(want->architecture), platform_arch(have->architecture)))
			return true;
	}
	return false;
}

enum sched_filter ask_static(const struct ask *a, const struct snode *n)
{
	if (!n->node || !n->ready)
		return SCHED_NOT_READY;
	if (constraints_unmet(&a->fit->constraints, n->node) >= 0)
		return SCHED_CONSTRAINT;
	if (!platform_ok(a->fit->placement, n->node))
		return SCHED_PLATFORM;
	return SCHED_OK;
}

/* ---- generic resources ---- */

static int64_t generic_taken(const struct snode *n, const char *kind, const char *value)
{
	int64_t sum = 0;
	for (size_t i = 0; i < n->generic.len; i++) {
		const struct md_generic *g = n->generic.data[i];
		if (value && g->named && streq(g->named->kind, kind) && streq(g->named->value, value))
			sum++;
		if (!value && g->discrete && streq(g->discrete->kind, kind))
			sum += g->discrete->value;
	}
	return sum;
}

/* Free units of a kind: a number, or the count of named ones nobody has. */
static int64_t generic_free(const struct snode *n, const char *kind)
{
	int64_t sum = 0;
	const struct md_resources *have = &n->node->description.resources;
	for (size_t i = 0; i < have->generic.n; i++) {
		const struct md_generic *g = &have->generic.v[i];
		if (g->named && streq(g->named->kind, kind))
			sum += generic_taken(n, kind, g->named->value) == 0;
		if (g->discrete && streq(g->discrete->kind, kind))
			sum += g->discrete->value - generic_taken(n, kind, NULL);
	}
	return sum;
}

static bool named_free(const struct snode *n, const char *kind, const char *value)
{
	const struct md_resources *have = &n->node->description.resources;
	for (size_t i = 0; i < have->generic.n; i++) {
		const struct md_generic *g = &have->generic.v[i];
		if (g->named && streq(g->named->kind, kind) && streq(g->named->value, value))
			return generic_taken(n, kind, value) == 0;
	}
	return false;
}

static bool generic_ok(const struct md_task *t, const struct snode *n)
{
	const struct md_resources *want = t->spec.resources ? t->spec.resources->reservations : NULL;
	for (size_t i = 0; want && i < want->generic.n; i++) {
		const struct md_generic *g = &want->generic.v[i];
		if (g->discrete && generic_free(n, g->discrete->kind) < g->discrete->value)
			return false;
		if (g->named && !named_free(n, g->named->kind, g->named->value))
			return false;
	}
	return true;
}

static void give_named(struct md_task *t, const char *kind, const char *value)
{
	struct md_generic *g = LIST_ADD(&t->generic);
	g->named = XNEW(struct md_named_resource);
	g->named->kind = xstrdup(kind);
	g->named->value = xstrdup(value);
}

static void give(const struct snode *n, struct md_task *t, const char *kind, int64_t units)
{
	const struct md_resources *have = &n->node->description.resources;
	for (size_t i = 0; i < have->generic.n && units > 0; i++) {
		const struct md_generic *g = &have->generic.v[i];
		if (g->named && streq(g->named->kind, kind) && !generic_taken(n, kind, g->named->value)) {
			give_named(t, kind, g->named->value);
			units--;
		}
		if (g->discrete && streq(g->discrete->kind, kind)) {
			struct md_generic *got = LIST_ADD(&t->generic);
			got->discrete = XNEW(struct md_discrete_resource);
			got->discrete->kind = xstrdup(kind);
			got->discrete->value = units;
			units = 0;
		}
	}
}

void ask_take_generic(const struct ask *a, const struct snode *n, struct md_task *t)
{
	const struct md_resources *want = a->like->spec.resources ? a->like->spec.resources->reservations : NULL;
	if (t->generic.n)
		return;
	for (size_t i = 0; want && i < want->generic.n; i++) {
		const struct md_generic *g = &want->generic.v[i];
		if (g->discrete)
			give(n, t, g->discrete->kind, g->discrete->value);
		if (g->named)
			give_named(t, g->named->kind, g->named->value);
	}
}

/* ---- what changes while tasks are placed ---- */

static bool ports_ok(const struct md_task *t, const struct snode *n)
{
	for (size_t i = 0; i < t->endpoint.ports.n; i++) {
		const struct md_port *p = &t->endpoint.ports.v[i];
		if (p->mode != MD_PUBLISH_HOST || !p->published)
			continue;
		uint32_t key = (uint32_t)(p->protocol ? p->protocol : MD_PROTO_TCP) << 16 | p->published;
		for (size_t j = 0; j < n->ports.len; j++)
			if (n->ports.data[j] == key)
				return false;
	}
	return true;
}

enum sched_filter ask_dynamic(const struct ask *a, const struct snode *n, uint32_t of_service)
{
	if (a->cpu && n->cpu_used + a->cpu > n->cpu)
		return SCHED_RESOURCES;
	if (a->memory && n->memory_used + a->memory > n->memory)
		return SCHED_RESOURCES;
	if (a->rare && !generic_ok(a->like, n))
		return SCHED_RESOURCES;
	if (a->rare && !ports_ok(a->like, n))
		return SCHED_HOST_PORT;
	if (a->max_replicas && of_service >= a->max_replicas)
		return SCHED_MAX_REPLICAS;
	return SCHED_OK;
}

struct sched_matcher {
	const struct md_task_spec *spec;
	struct constraints constraints;
	bool all, none;
};

struct sched_matcher *sched_matcher_new(const struct md_task_spec *spec)
{
	struct sched_matcher *m = XNEW(struct sched_matcher);
	const struct md_placement *p = spec->placement;
	m->spec = spec;
	m->all = !p || (!p->constraints.n && !p->platforms.n);
	m->none = p && constraints_parse(&p->constraints, &m->constraints, NULL);
	return m;
}

void sched_matcher_free(struct sched_matcher *m)
{
	if (!m)
		return;
	constraints_fini(&m->constraints);
	free(m);
}

bool sched_matcher_ok(const struct sched_matcher *m, const struct md_node *node)
{
	if (m->all || m->none)
		return m->all;
	return constraints_unmet(&m->constraints, node) < 0 && platform_ok(m->spec->placement, node);
}

bool sched_node_matches(const struct md_task_spec *spec, const struct md_node *node)
{
	struct sched_matcher *m = sched_matcher_new(spec);
	bool ok = sched_matcher_ok(m, node);
	sched_matcher_free(m);
	return ok;
}

/* ---- in words ---- */

static enum sched_filter verdict(const struct ask *a, const struct snode *n, uint32_t index)
{
	enum sched_filter f = ask_static(a, n);
	/* The engine looks at resources before constraints; the order only matters to what it says. */
	if (f == SCHED_NOT_READY)
		return f;
	enum sched_filter dynamic = ask_dynamic(a, n, counts_get(&a->service->on, index));
	if (dynamic == SCHED_RESOURCES || f == SCHED_OK)
		return dynamic;
	return f;
}

static void phrase(enum sched_filter f, size_t n, char out[96])
{
	static const char *const text[SCHED_FILTER_MAX] = {
		[SCHED_RESOURCES] = "insufficient resources on",
		[SCHED_CONSTRAINT] = "scheduling constraints not satisfied on",
		[SCHED_PLATFORM] = "unsupported platform on",
		[SCHED_HOST_PORT] = "host-mode port already in use on",
	};
	const char *s = n == 1 ? "" : "s";
	if (f == SCHED_NOT_READY)
		snprintf(out, 96, "%zu node%s not available for new tasks", n, s);
	else if (f == SCHED_MAX_REPLICAS)
		snprintf(out, 96, "max replicas per node limit exceed");
	else
		snprintf(out, 96, "%s %zu node%s", text[f], n, s);
}

/* Which constraint, and what is short of what: the first of each kind that a node failed. */
static void add_detail(const struct ask *a, const struct snode *n, enum sched_filter f, char *out)
{
	size_t len = strlen(out);
	const char *sep = len ? "; " : "";
	const struct md_resources *have = &n->node->description.resources;
	if (f == SCHED_CONSTRAINT) {
		int i = constraints_unmet(&a->fit->constraints, n->node);
		const struct md_placement *p = a->like->spec.placement;
		snprintf(out + len, SCHED_TEXT_MAX - len, "%sconstraint %s", sep,
		         p && (size_t)i < p->constraints.n ? p->constraints.v[i] : "");
	} else if (f == SCHED_RESOURCES && a->cpu && n->cpu_used + a->cpu > have->nano_cpus) {
		snprintf(out + len, SCHED_TEXT_MAX - len, "%scpu: %.2f wanted, %.2f of %.2f free on %s", sep,
		         (double)a->cpu / 1e9, (double)(have->nano_cpus - n->cpu_used) / 1e9,
		         (double)have->nano_cpus / 1e9, n->node->description.hostname);
	} else if (f == SCHED_RESOURCES && a->memory && n->memory_used + a->memory > have->memory_bytes) {
		snprintf(out + len, SCHED_TEXT_MAX - len, "%smemory: %lld MiB wanted, %lld of %lld MiB free on %s", sep,
		         (long long)a->memory >> 20, (long long)(have->memory_bytes - n->memory_used) >> 20,
		         (long long)have->memory_bytes >> 20, n->node->description.hostname);
	}
}

void sched_explain(struct sched *s, const struct md_task *t, char text[SCHED_TEXT_MAX], char detail[SCHED_TEXT_MAX])
{
	size_t by[SCHED_FILTER_MAX] = { 0 };
	struct ask a;
	ask_init(&a, s, t);
	detail[0] = '\0';
	for (uint32_t i = 0; i < s->nodes.len; i++) {
		const struct snode *n = &s->nodes.data[i];
		if (!n->node || (!ID_EMPTY(t->node) && strcmp(t->node.s, n->node->meta.id)))
			continue;
		enum sched_filter f = verdict(&a, n, i);
		if (by[f]++ == 0)
			add_detail(&a, n, f, detail);
	}
	ask_fini(&a);
	size_t len = (size_t)snprintf(text, SCHED_TEXT_MAX, "no suitable node");
	bool first = true;
	for (;;) { /* most frequent first, as the engine lists them */
		enum sched_filter best = SCHED_OK;
		for (enum sched_filter f = SCHED_OK + 1; f < SCHED_FILTER_MAX; f++)
			if (by[f] && (best == SCHED_OK || by[f] > by[best]))
				best = f;
		if (best == SCHED_OK)
			break;
		char part[96];
		phrase(best, by[best], part);
		by[best] = 0;
		if (len < SCHED_TEXT_MAX)
			len += (size_t)snprintf(text + len, SCHED_TEXT_MAX - len, "%s%s", first ? " (" : "; ", part);
		first = false;
	}
	if (!first && len < SCHED_TEXT_MAX - 1)
		snprintf(text + len, SCHED_TEXT_MAX - len, ")");
}
