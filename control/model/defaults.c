/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the engine fills in where a spec is silent. */
#include "base/clock.h"
#include "base/mem.h"
#include "control/model/model.h"

static struct opt_i64 or_i64(struct opt_i64 o, int64_t v)
{
	return o.set ? o : (struct opt_i64){ true, v };
}

static void update_defaults(struct md_update_config **slot)
{
	if (!*slot) {
		*slot = sch_new(&md_update_config_schema);
		(*slot)->parallelism = 1;
	}
	struct md_update_config *u = *slot;
	if (!u->failure_action)
		u->failure_action = MD_FAILURE_PAUSE;
	if (!u->monitor)
		u->monitor = 5 * NS_PER_SEC;
	if (!u->order)
		u->order = MD_ORDER_STOP_FIRST;
}

static void container_defaults(struct md_container_spec *c)
{
	c->stop_grace_period = or_i64(c->stop_grace_period, 10 * NS_PER_SEC);
	if (!c->dns)
		c->dns = XNEW(struct md_dns_config);
	if (!c->isolation)
		c->isolation = xstrdup("default");
}

void md_service_spec_defaults(struct md_service_spec *s)
{
	struct md_task_spec *t = &s->task;
	if (t->container)
		container_defaults(t->container);
	if (!t->resources)
		t->resources = sch_new(&md_resource_requirements_schema);
	if (!t->resources->limits)
		t->resources->limits = XNEW(struct md_limit);
	if (!t->resources->reservations)
		t->resources->reservations = XNEW(struct md_resources);
	if (!t->restart)
		t->restart = XNEW(struct md_restart_policy);
	if (!t->restart->condition)
		t->restart->condition = MD_RESTART_ANY;
	t->restart->delay = or_i64(t->restart->delay, 5 * NS_PER_SEC);
	if (!t->restart->max_attempts.set)
		t->restart->max_attempts = (struct opt_u64){ true, 0 };
	if (!t->placement)
		t->placement = sch_new(&md_placement_schema);
	if (!t->runtime)
		t->runtime = xstrdup("container");
	if (md_service_mode_of(s) == MD_MODE_REPLICATED) {
		if (!s->mode.replicated)
			s->mode.replicated = XNEW(struct md_replicated);
		if (!s->mode.replicated->replicas.set)
			s->mode.replicated->replicas = (struct opt_u64){ true, 1 };
	}
	update_defaults(&s->update);
	update_defaults(&s->rollback);
	if (!s->endpoint)
		s->endpoint = sch_new(&md_endpoint_spec_schema);
	if (!s->endpoint->mode)
		s->endpoint->mode = MD_ENDPOINT_VIP;
}

void md_cluster_spec_defaults(struct md_cluster_spec *s)
{
	if (!s->name)
		s->name = xstrdup("default");
	s->orchestration.task_history = or_i64(s->orchestration.task_history, 5);
	if (!s->raft.snapshot_interval)
		s->raft.snapshot_interval = 10000;
	if (!s->raft.keep_old_snapshots.set)
		s->raft.keep_old_snapshots = (struct opt_u64){ true, 0 };
	if (!s->raft.log_entries_for_slow_followers)
		s->raft.log_entries_for_slow_followers = 500;
	if (!s->raft.election_tick)
		s->raft.election_tick = 10;
	if (!s->raft.heartbeat_tick)
		s->raft.heartbeat_tick = 1;
	if (!s->dispatcher.heartbeat_period)
		s->dispatcher.heartbeat_period = 5 * NS_PER_SEC;
	if (!s->ca.node_cert_expiry)
		s->ca.node_cert_expiry = 7776000LL * NS_PER_SEC;
}
