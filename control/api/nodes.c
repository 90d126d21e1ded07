/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"

static bool node_matches(const struct filters *f, const struct md_node *n)
{
	return filters_prefix(f, "id", n->meta.id) && filters_prefix(f, "name", n->description.hostname) &&
	       filters_exact(f, "role", md_node_role_names.names[n->spec.role]) &&
	       filters_exact(f, "membership", "accepted") && filters_labels(f, "node.label", &n->spec.labels) &&
	       filters_labels(f, "label", &n->description.engine.labels);
}

void api_node_list(struct req *r)
{
	static const char *const allowed[] = { "id", "label", "node.label", "membership", "name", "role", NULL };
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	jw_open(&w, '[');
	STORE_EACH(r->store, STORE_NODE, struct md_node, n)
		if (node_matches(&f, n))
			md_json_write(&w, &md_node_schema, n);
	jw_close(&w, ']');
	filters_clear(&f);
	req_reply_json(r, 200, &w);
}

void api_node_inspect(struct req *r)
{
	struct mesh_err err = { 0 };
	const void *n;
	struct jw w = { 0 };
	int rc = api_find(r, STORE_NODE, &n, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	md_json_write(&w, &md_node_schema, n);
	req_reply_json(r, 200, &w);
}

static void free_spec(void *spec)
{
	sch_free(&md_node_spec_schema, spec);
}

static size_t managers(const struct store *s)
{
	size_t n = 0;
	STORE_EACH(s, STORE_NODE, struct md_node, node)
		n += node->spec.role == MD_ROLE_MANAGER;
	return n;
}

static int build_update(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const struct md_node_spec *spec = r->data;
	const void *found;
	int rc = api_find(r, STORE_NODE, &found, err);
	if (rc)
		return rc;
	const struct md_node *old = found;
	rc = api_check_version(r, &old->meta, err);
	if (rc)
		return rc;
	if (old->spec.role == MD_ROLE_MANAGER && spec->role == MD_ROLE_WORKER && managers(r->store) <= 1)
		return api_rpc_fail(err, MESH_E_IN_USE, "FailedPrecondition",
		                    "attempting to demote the last manager of the swarm");
	if (old->spec.role == MD_ROLE_WORKER && spec->role == MD_ROLE_MANAGER)
		return mesh_fail(err, MESH_E_UNSUPPORTED,
		                 "this version runs a swarm with one manager: node %s stays a worker",
		                 old->description.hostname ? old->description.hostname : old->meta.id);
	struct md_node *n = store_tx_edit(tx, STORE_NODE, old->meta.id);
	sch_clear(&md_node_spec_schema, &n->spec);
	sch_copy(&md_node_spec_schema, &n->spec, spec);
	store_tx_touch_version(tx, n);
	return 0;
}

static void reply_ok(struct req *r)
{
	req_reply_empty(r, 200);
}

void api_node_update(struct req *r)
{
	struct md_node_spec *spec = sch_new(&md_node_spec_schema);
	req_keep(r, spec, free_spec);
	if (!req_decode(r, &md_node_spec_schema, spec))
		req_change(r, build_update, reply_ok);
}

static int build_remove(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const void *found;
	int rc = api_find(r, STORE_NODE, &found, err);
	if (rc)
		return rc;
	const struct md_node *n = found;
	if (n->manager)
		return api_rpc_fail(err, MESH_E_IN_USE, "FailedPrecondition",
		                    "node %s is a cluster manager and is a member of the raft cluster. It must be "
		                    "demoted to worker before removal",
		                    n->meta.id);
	if (n->status.state == MD_NODE_READY && !req_flag(r, "force"))
		return api_rpc_fail(err, MESH_E_IN_USE, "FailedPrecondition",
		                    "node %s is not down and can't be removed", n->meta.id);
	store_tx_delete(tx, STORE_NODE, n->meta.id);
	return 0;
}

void api_node_remove(struct req *r)
{
	req_change(r, build_remove, reply_ok);
}
