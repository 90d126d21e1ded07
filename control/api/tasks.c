/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"
#include "control/api/view.h"

static bool up_to_date(const struct store *s, const struct md_task *t)
{
	const struct md_service *sv = store_get(s, STORE_SERVICE, t->service.s);
	return sv && sv->spec_version.index == t->spec_version.index;
}

/* The engine matches the beginning of "web.1.<id>"; the name is not kept, so it is made when asked for. */
static bool name_matches(const struct filters *f, const struct md_task *t)
{
	if (!filters_get(f, "name"))
		return true;
	char *name = md_task_container_name(t);
	bool yes = filters_prefix(f, "name", name);
	free(name);
	return yes;
}

static bool task_matches(const struct filters *f, const struct store *s, const struct md_task *t)
{
	/* Containers run by hand are their nodes' own: listed by docker ps there. */
	return !md_task_standalone(t) && filters_prefix(f, "id", t->meta.id) &&
	       filters_exact(f, "service", t->service.s) && filters_exact(f, "node", t->node.s) &&
	       filters_exact(f, "desired-state", md_task_state_names.names[t->desired_state]) &&
	       filters_labels(f, "label", &t->service_labels) && name_matches(f, t) &&
	       filters_exact(f, "runtime", "container") && (!filters_bool(f, "_up-to-date", false) || up_to_date(s, t));
}

/* Names and prefixes in a filter become ids; who is not there is an error. */
static int resolve(const struct store *s, struct filters *f, const char *key, enum store_kind k, struct mesh_err *err)
{
	struct str_list *l = (struct str_list *)filters_get(f, key);
	for (size_t i = 0; l && i < l->n; i++) {
		const void *found;
		int rc = store_find(s, k, l->v[i], &found, err);
		if (rc)
			return rc;
		str_set(&l->v[i], ((const struct md_meta *)found)->id);
	}
	return 0;
}

static int check_states(const struct filters *f, struct mesh_err *err)
{
	const struct str_list *l = filters_get(f, "desired-state");
	for (size_t i = 0; l && i < l->n; i++)
		if (sch_enum_parse(&md_task_state_names, l->v[i]) < 0)
			return mesh_fail(err, MESH_E_INVALID, "invalid filter 'desired-state=%.64s'", l->v[i]);
	return 0;
}

/* The shortest list that holds all matches. */
static void write_tasks(struct jw *w, const struct store *s, const struct filters *f)
{
	const struct str_list *services = filters_get(f, "service"), *nodes = filters_get(f, "node");
	struct store_list all = store_all(s, STORE_TASK);
	if (services && services->n == 1)
		all = store_tasks_of_service(s, services->v[0]);
	else if (nodes && nodes->n == 1)
		all = store_tasks_of_node(s, nodes->v[0]);
	jw_open(w, '[');
	for (size_t i = 0; i < all.n; i++)
		if (task_matches(f, s, all.v[i]))
			view_task(w, s, all.v[i]);
	jw_close(w, ']');
}

void api_task_list(struct req *r)
{
	static const char *const allowed[] = { "desired-state", "id",      "label",       "name", "node",
		                               "service",       "runtime", "_up-to-date", NULL };
	struct mesh_err err = { 0 };
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	int rc = resolve(r->store, &f, "service", STORE_SERVICE, &err);
	if (!rc)
		rc = resolve(r->store, &f, "node", STORE_NODE, &err);
	if (!rc)
		rc = check_states(&f, &err);
	if (rc) {
		req_fail(r, rc, &err);
	} else {
		write_tasks(&w, r->store, &f);
		req_reply_json(r, 200, &w);
	}
	filters_clear(&f);
}

void api_task_inspect(struct req *r)
{
	struct mesh_err err = { 0 };
	const void *t;
	struct jw w = { 0 };
	int rc = api_find(r, STORE_TASK, &t, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	view_task(&w, r->store, t);
	req_reply_json(r, 200, &w);
}
