/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making tasks from services, and telling whether a task is what its service says now. */
#include "control/orchestrator/brain_impl.h"

static void copy_networks(struct md_task_spec *dst, const struct md_service_spec *src)
{
	if (dst->networks.n)
		return;
	for (size_t i = 0; i < src->networks.n; i++) {
		struct md_network_config *c = LIST_ADD(&dst->networks);
		sch_copy(&md_network_config_schema, c, &src->networks.v[i]);
	}
}

struct md_task *brain_new_task(struct brain *b, const struct md_service *svc, uint64_t slot, const char *node,
                               int desired)
{
	char id[MESH_ID_LEN + 1];
	mesh_id_make(b->rng, id);
	struct md_task *t = store_tx_create(b->tx, STORE_TASK, id);
	brain_touch(b, STORE_TASK, id, svc->meta.id);
	sch_copy(&md_task_spec_schema, &t->spec, &svc->spec.task);
	copy_networks(&t->spec, &svc->spec);
	mesh_id_set(t->service.s, svc->meta.id);
	mesh_id_set(t->node.s, node);
	t->slot = slot;
	t->service_name = xstrdup(svc->spec.name);
	for (size_t i = 0; i < svc->spec.labels.n; i++)
		smap_set(&t->service_labels, svc->spec.labels.v[i].key, svc->spec.labels.v[i].value);
	if (svc->spec.endpoint)
		sch_copy(&md_endpoint_spec_schema, &t->endpoint, svc->spec.endpoint);
	t->spec_version = svc->spec_version;
	t->desired_state = desired;
	t->status.state = MD_TASK_NEW;
	t->status.timestamp = b->now;
	t->status.message = xstrdup("created");
	if (svc->job_status) {
		t->job_iteration = XNEW(struct md_version);
		*t->job_iteration = svc->job_status->iteration;
	}
	static char present;
	map_put(&b->fresh, id, &present);
	return t;
}

/* Equal but for where it may run. */
static bool same_but_placement(const struct md_task_spec *a, const struct md_task_spec *b)
{
	struct md_task_spec x = *a;
	x.placement = b->placement;
	return sch_equal(&md_task_spec_schema, &x, b);
}

bool brain_task_current(const struct brain *b, const struct md_service *svc, const struct md_task *t)
{
	static const struct md_endpoint_spec none;
	if (svc->spec_version.index && t->spec_version.index == svc->spec_version.index)
		return true;
	if (!sch_equal(&md_endpoint_spec_schema, svc->spec.endpoint ? svc->spec.endpoint : &none, &t->endpoint))
		return false;
	/* Borrowed view of the wanted template with the networks where tasks have them. */
	struct md_task_spec want = svc->spec.task;
	if (!want.networks.n) {
		want.networks.v = svc->spec.networks.v;
		want.networks.n = svc->spec.networks.n;
	}
	/* Credentials are for the pull: a task that has its image has no use for new ones. */
	struct md_container_spec c;
	if (want.container && t->spec.container && t->status.state >= MD_TASK_READY) {
		c = *want.container;
		c.pull_auth = t->spec.container->pull_auth;
		want.container = &c;
	}
	if (sch_equal(&md_task_spec_schema, &want, &t->spec))
		return true;
	if (!same_but_placement(&want, &t->spec))
		return false;
	const struct md_node *n = sched_node(b->sched, t->node.s);
	return n && sched_node_matches(&want, n);
}
