/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Containers run by hand: tasks without a service, that only their node asks for. */
#include "control/orchestrator/brain_impl.h"

static int check_network(const struct store *s, struct md_network_config *c, struct mesh_err *err)
{
	const void *found;
	const char *name = c->target ? c->target : "";
	if (streq(name, "host"))
		return 0;
	int rc = store_find(s, STORE_NETWORK, name, &found, err);
	if (rc) /* to docker, 404 to a create means the image */
		return rc == MESH_E_NOT_FOUND ? mesh_fail(err, MESH_E_INVALID, "network %.200s not found", name) : rc;
	const struct md_network *n = found;
	if (!n->spec.attachable || n->spec.ingress || n->pending_delete)
		return mesh_fail(
			err, MESH_E_FORBIDDEN,
			"Could not attach to network %.200s: rpc error: code = PermissionDenied desc = network "
			"%.200s not manually attachable",
			name, name);
	str_set(&c->target, n->meta.id);
	return 0;
}

static int create(struct store_tx *tx, const char *node, const struct md_task *want, struct mesh_err *err)
{
	const struct store *s = store_tx_base(tx);
	if (!mesh_id_valid(want->meta.id) || !want->spec.container || !want->spec.attachment ||
	    !want->spec.attachment->container_id || strlen(want->spec.attachment->container_id) != 64)
		return mesh_fail(err, MESH_E_PROTOCOL, "a container without an id or a spec");
	if (store_get(s, STORE_TASK, want->meta.id))
		return mesh_fail(err, MESH_E_CONFLICT, "task %s exists", want->meta.id);
	struct md_task *t = store_tx_create(tx, STORE_TASK, want->meta.id);
	sch_copy(&md_task_spec_schema, &t->spec, &want->spec);
	sch_copy(&md_endpoint_spec_schema, &t->endpoint, &want->endpoint);
	mesh_id_set(t->node.s, node);
	t->desired_state = want->desired_state == MD_TASK_RUNNING ? MD_TASK_RUNNING : MD_TASK_READY;
	t->status.state = MD_TASK_NEW;
	t->status.timestamp = store_tx_now(tx);
	str_set(&t->status.message, "created");
	int rc = 0;
	for (size_t i = 0; i < t->endpoint.ports.n; i++)
		t->endpoint.ports.v[i].mode = MD_PUBLISH_HOST;
	for (size_t i = 0; i < t->spec.networks.n && !rc; i++)
		rc = check_network(s, &t->spec.networks.v[i], err);
	return rc;
}

int brain_run(struct store_tx *tx, enum brain_run_op op, const char *node, const struct md_task *want,
              struct mesh_err *err)
{
	if (op == BRAIN_RUN_CREATE)
		return create(tx, node, want, err);
	const struct md_task *t = store_get(store_tx_base(tx), STORE_TASK, want->meta.id);
	if (t && (!md_task_standalone(t) || !streq(t->node.s, node)))
		return mesh_fail(err, MESH_E_FORBIDDEN, "task %s is not a container of this node", want->meta.id);
	if (!t) /* removing twice is fine */
		return op == BRAIN_RUN_REMOVE ? 0 : mesh_fail(err, MESH_E_NOT_FOUND, "the container was removed");
	struct md_task *e;
	switch (op) {
	case BRAIN_RUN_START:
		if (t->desired_state > MD_TASK_RUNNING || md_task_ended(t))
			return mesh_fail(err, MESH_E_CONFLICT, "the container has ended");
		e = store_tx_edit(tx, STORE_TASK, want->meta.id);
		e->desired_state = MD_TASK_RUNNING;
		return 0;
	case BRAIN_RUN_RENAME:
		if (!want->spec.attachment || !want->spec.attachment->name)
			return mesh_fail(err, MESH_E_PROTOCOL, "a new name that is none");
		e = store_tx_edit(tx, STORE_TASK, want->meta.id);
		str_set(&e->spec.attachment->name, want->spec.attachment->name);
		return 0;
	case BRAIN_RUN_REMOVE:
		store_tx_delete(tx, STORE_TASK, want->meta.id);
		return 0;
	default:
		return mesh_fail(err, MESH_E_UNSUPPORTED, "unknown request %d", (int)op);
	}
}

/* Ended and not to be kept, or its node is no member any more. */
static bool must_go(const struct brain *b, const struct md_task *t)
{
	if (!md_task_standalone(t))
		return false;
	return (md_task_ended(t) && t->spec.attachment->auto_remove) || !store_tx_get(b->tx, STORE_NODE, t->node.s);
}

void brain_standalone(struct brain *b)
{
	struct map loose = b->loose;
	b->loose = (struct map){ 0 };
	MAP_FOREACH(&loose, e) {
		const struct md_task *t = store_tx_get(b->tx, STORE_TASK, e->key);
		if (t && must_go(b, t))
			brain_delete_task(b, e->key);
	}
	map_fini(&loose);
}
