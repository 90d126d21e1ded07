/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"
#include "control/api/service_spec.h"
#include "control/api/view.h"
#include "control/orchestrator/brain.h"

/* ---- reading ---------------------------------------------------------------------------------- */

static const char *mode_text(const struct md_service *sv)
{
	static const char *const names[] = { "replicated", "global", "replicated-job", "global-job" };
	return names[md_service_mode_of(&sv->spec)];
}

static bool service_matches(const struct filters *f, const struct md_service *sv)
{
	return filters_prefix(f, "id", sv->meta.id) && filters_prefix(f, "name", sv->spec.name) &&
	       filters_exact(f, "mode", mode_text(sv)) && filters_labels(f, "label", &sv->spec.labels) &&
	       filters_exact(f, "runtime", "container");
}

void api_service_list(struct req *r)
{
	static const char *const allowed[] = { "id", "label", "mode", "name", "runtime", NULL };
	bool status = req_flag(r, "status"), defaults = req_flag(r, "insertDefaults");
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	jw_open(&w, '[');
	STORE_EACH(r->store, STORE_SERVICE, struct md_service, sv)
		if (service_matches(&f, sv))
			view_service(&w, r->store, sv, status, defaults);
	jw_close(&w, ']');
	filters_clear(&f);
	req_reply_json(r, 200, &w);
}

void api_service_inspect(struct req *r)
{
	struct mesh_err err = { 0 };
	const void *sv;
	struct jw w = { 0 };
	int rc = api_find(r, STORE_SERVICE, &sv, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	view_service(&w, r->store, sv, false, req_flag(r, "insertDefaults"));
	req_reply_json(r, 200, &w);
}

/* ---- creating --------------------------------------------------------------------------------- */

struct pending {
	struct md_service_spec spec;
	char id[MESH_ID_LEN + 1];
	bool unnamed;
};

static void pending_free(void *data)
{
	struct pending *p = data;
	sch_clear(&md_service_spec_schema, &p->spec);
	free(p);
}

/* The request's spec into r->data; NULL after having answered. */
static struct pending *take_spec(struct req *r)
{
	struct pending *p = XNEW(struct pending);
	req_keep(r, p, pending_free);
	if (req_decode(r, &md_service_spec_schema, &p->spec))
		return NULL;
	service_spec_warn(&p->spec, &r->warnings);
	const char *auth = req_header(r, "X-Registry-Auth");
	if (auth && *auth && p->spec.task.container)
		str_set(&p->spec.task.container->pull_auth, auth);
	return p;
}

/* Everything that must hold for the spec where the store is now. self: "" when new. */
static int check_all(struct req *r, struct md_service_spec *spec, const struct md_service_spec *old, const char *self,
                     struct mesh_err *err)
{
	struct api *a = r->api;
	int rc = service_spec_check(spec, err);
	if (!rc)
		rc = service_spec_resolve(r->store, spec, err);
	if (!rc && spec->task.placement)
		rc = brain_check_constraints(&spec->task.placement->constraints, err);
	if (!rc)
		rc = brain_check_service(r->store, spec, self, err);
	for (size_t i = 0; !rc && spec->endpoint && i < spec->endpoint->ports.n; i++) {
		const struct md_port *p = &spec->endpoint->ports.v[i];
		/* What it publishes already is its own listener by now. */
		if (p->published && p->mode != MD_PUBLISH_HOST && a->ops->check_published &&
		    !service_spec_publishes(old, p))
			rc = a->ops->check_published(a->arg, p, err);
	}
	return rc;
}

static void new_job(struct md_service *sv, int64_t now, uint64_t iteration)
{
	enum md_service_mode mode = md_service_mode_of(&sv->spec);
	if (mode != MD_MODE_REPLICATED_JOB && mode != MD_MODE_GLOBAL_JOB)
		return;
	if (!sv->job_status)
		sv->job_status = XNEW(struct md_job_status);
	sv->job_status->iteration.index = iteration;
	sv->job_status->last_execution = now;
}

static int build_create(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	struct pending *p = r->data;
	if (p->unnamed)
		service_spec_name(&p->spec, r->store, r->api->ops->rng(r->api->arg));
	if (p->spec.name && store_by_name(r->store, STORE_SERVICE, p->spec.name))
		return api_rpc_fail(err, MESH_E_CONFLICT, "AlreadyExists",
		                    "name conflicts with an existing object: service %s already exists", p->spec.name);
	int rc = check_all(r, &p->spec, NULL, "", err);
	if (rc)
		return rc;
	api_new_id(r->api, p->id);
	struct md_service *sv = store_tx_create(tx, STORE_SERVICE, p->id);
	sch_copy(&md_service_spec_schema, &sv->spec, &p->spec);
	sv->spec_version.index = 1;
	new_job(sv, store_tx_now(tx), 0);
	return 0;
}

static void reply_created(struct req *r)
{
	req_reply_id(r, 201, "ID", ((struct pending *)r->data)->id);
}

void api_service_create(struct req *r)
{
	struct pending *p = take_spec(r);
	if (!p)
		return;
	p->unnamed = !p->spec.name || !*p->spec.name;
	req_change(r, build_create, reply_created);
}

/* ---- updating --------------------------------------------------------------------------------- */

/* Credentials that are not given again stay as they were. */
static void keep_auth(struct req *r, struct md_service_spec *spec, const struct md_service *old)
{
	const struct md_service_spec *from = &old->spec;
	if (streq(req_query(r, "registryAuthFrom"), "previous-spec") && old->previous_spec)
		from = old->previous_spec;
	if (spec->task.container && !spec->task.container->pull_auth && from->task.container)
		str_set(&spec->task.container->pull_auth, from->task.container->pull_auth);
}

static bool template_changed(const struct md_service_spec *a, const struct md_service_spec *b)
{
	static const struct md_endpoint_spec none;
	const struct md_endpoint_spec *x = a->endpoint ? a->endpoint : &none, *y = b->endpoint ? b->endpoint : &none;
	return !sch_equal(&md_task_spec_schema, &a->task, &b->task) || !sch_equal(&md_endpoint_spec_schema, x, y);
}

static bool update_runs(const struct md_service *sv)
{
	int state = sv->update_status ? sv->update_status->state : MD_UPDATE_NONE;
	return state == MD_UPDATE_UPDATING || state == MD_UPDATE_ROLLBACK_STARTED;
}

/* Never one that was given before, also not after a rollback brought an old one back: the log only grows. */
static uint64_t next_spec_version(const struct store *s, const struct md_service *sv)
{
	uint64_t next = store_index(s) + 1;
	return next > sv->spec_version.index ? next : sv->spec_version.index + 1;
}

/* What rollback goes back to; the spec itself is to be overwritten. */
static void keep_previous(struct md_service *sv)
{
	sch_free(&md_service_spec_schema, sv->previous_spec);
	sv->previous_spec = xmemdup(&sv->spec, sizeof(sv->spec));
	if (!sv->previous_spec_version)
		sv->previous_spec_version = XNEW(struct md_version);
	*sv->previous_spec_version = sv->spec_version;
}

/* The same spec again (a stack file deployed twice) is no new run of a job and nothing to go back from; it resumes what paused. */
static void write_spec(const struct store *s, struct md_service *sv, const struct md_service_spec *spec, int64_t now)
{
	bool changed = template_changed(&sv->spec, spec);
	if (!sch_equal(&md_service_spec_schema, &sv->spec, spec)) {
		keep_previous(sv);
		sch_copy(&md_service_spec_schema, &sv->spec, spec);
		new_job(sv, now, sv->job_status ? sv->job_status->iteration.index + 1 : 0);
	}
	if (changed)
		sv->spec_version.index = next_spec_version(s, sv);
	/* An old "completed" would end the client's progress display at once; scaling leaves a running update alone. */
	if (sv->update_status && (changed || !update_runs(sv))) {
		free(sv->update_status->message);
		free(sv->update_status);
		sv->update_status = NULL;
	}
}

static int check_same_kind(const struct md_service *old, const struct md_service_spec *spec, struct mesh_err *err)
{
	if (!streq(old->spec.name, spec->name))
		return api_rpc_fail(err, MESH_E_UNSUPPORTED, "Unimplemented", "renaming services is not supported");
	if (md_service_mode_of(&old->spec) != md_service_mode_of(spec))
		return api_rpc_fail(err, MESH_E_UNSUPPORTED, "Unimplemented", "service mode change is not allowed");
	return 0;
}

static int find_versioned(struct req *r, const struct md_service **out, struct mesh_err *err)
{
	const void *found = NULL;
	int rc = api_find(r, STORE_SERVICE, &found, err);
	*out = found;
	return rc ? rc : api_check_version(r, &(*out)->meta, err);
}

static int build_update(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const struct pending *p = r->data;
	const struct md_service *old;
	int rc = find_versioned(r, &old, err);
	if (rc)
		return rc;
	/* A copy for every try: what keep_auth and resolving fill in depends on the store. */
	struct md_service_spec spec;
	sch_copy(&md_service_spec_schema, &spec, &p->spec);
	if (!spec.name || !*spec.name)
		str_set(&spec.name, old->spec.name);
	keep_auth(r, &spec, old);
	rc = check_all(r, &spec, &old->spec, old->meta.id, err);
	if (!rc)
		rc = check_same_kind(old, &spec, err);
	if (!rc) {
		struct md_service *sv = store_tx_edit(tx, STORE_SERVICE, old->meta.id);
		write_spec(r->store, sv, &spec, store_tx_now(tx));
		store_tx_touch_version(tx, sv);
	}
	sch_clear(&md_service_spec_schema, &spec);
	return rc;
}

static int build_rollback(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const struct md_service *old;
	int rc = find_versioned(r, &old, err);
	if (rc)
		return rc;
	if (!old->previous_spec)
		return api_rpc_fail(err, MESH_E_IN_USE, "FailedPrecondition",
		                    "service %s does not have a previous spec", old->meta.id);
	struct md_service *sv = store_tx_edit(tx, STORE_SERVICE, old->meta.id);
	rc = brain_rollback(sv, err);
	/* What it names may be gone by now, what it publishes be another's. */
	if (!rc)
		rc = check_all(r, &sv->spec, &old->spec, old->meta.id, err);
	if (rc)
		return rc;
	new_job(sv, store_tx_now(tx), old->job_status ? old->job_status->iteration.index + 1 : 0);
	store_tx_touch_version(tx, sv);
	return 0;
}

static void reply_updated(struct req *r)
{
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_key(&w, "Warnings");
	if (r->warnings.n)
		jw_strs(&w, &r->warnings);
	else
		jw_null(&w);
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

void api_service_update(struct req *r)
{
	const char *rollback = req_query(r, "rollback");
	if (rollback && streq(rollback, "previous"))
		req_change(r, build_rollback, reply_updated);
	else if (rollback && *rollback && !streq(rollback, "none"))
		req_error(r, 400, "unrecognized Rollback option %.64s", rollback);
	else if (take_spec(r))
		req_change(r, build_update, reply_updated);
}

/* ---- rebalancing ------------------------------------------------------------------------------ */

static int build_rebalance(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const void *sv;
	int rc = api_find(r, STORE_SERVICE, &sv, err);
	return rc ? rc : brain_rebalance(store_tx_edit(tx, STORE_SERVICE, ((const struct md_meta *)sv)->id), err);
}

static void reply_rebalancing(struct req *r)
{
	req_reply_empty(r, 202);
}

void api_mesh_service_rebalance(struct req *r)
{
	req_change(r, build_rebalance, reply_rebalancing);
}

/* ---- removing --------------------------------------------------------------------------------- */

/* The object goes at once, as in the engine; the orchestrator stops and reaps its tasks. */
static int build_remove(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const void *sv;
	int rc = api_find(r, STORE_SERVICE, &sv, err);
	if (!rc)
		store_tx_delete(tx, STORE_SERVICE, ((const struct md_meta *)sv)->id);
	return rc;
}

static void reply_removed(struct req *r)
{
	req_reply_empty(r, 200);
}

void api_service_remove(struct req *r)
{
	req_change(r, build_remove, reply_removed);
}
