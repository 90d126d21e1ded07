/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the API asks before it accepts a spec, and the objects a new cluster begins with. */
#include <stdio.h>

#include "control/allocator/allocator.h"
#include "control/model/policy.h"
#include "control/orchestrator/brain.h"
#include "control/scheduler/constraint.h"

int brain_check_constraints(const struct str_list *constraints, struct mesh_err *err)
{
	struct constraints c;
	int rc = constraints_parse(constraints, &c, err);
	constraints_fini(&c);
	return rc;
}

static int proto(const struct md_port *p)
{
	return p->protocol ? p->protocol : MD_PROTO_TCP;
}

static bool host_mode(const struct md_port *p)
{
	return p->mode == MD_PUBLISH_HOST;
}

/* Ports within one spec. */
static int check_own_ports(const struct md_endpoint_spec *e, struct mesh_err *err)
{
	for (size_t i = 0; i < e->ports.n; i++) {
		const struct md_port *p = &e->ports.v[i];
		if (!p->target || p->target > 65535 || p->published > 65535)
			return mesh_fail(err, MESH_E_INVALID, "EndpointSpec: invalid port %u:%u", p->published,
			                 p->target);
		if (proto(p) == MD_PROTO_SCTP)
			return mesh_fail(err, MESH_E_INVALID,
			                 "EndpointSpec: port %u:%u/sctp: only TCP and UDP ports can be published",
			                 p->published, p->target);
		if (!host_mode(p) && e->mode == MD_ENDPOINT_DNSRR)
			return mesh_fail(
				err, MESH_E_INVALID,
				"EndpointSpec: port published with ingress mode can't be used with dnsrr mode");
		for (size_t j = 0; j < i; j++) {
			const struct md_port *o = &e->ports.v[j];
			if (p->published && o->published == p->published && proto(o) == proto(p))
				return mesh_fail(err, MESH_E_INVALID,
				                 "EndpointSpec: duplicate published ports provided");
		}
	}
	return 0;
}

/* The ports a service has: given ones when it has been given any, else what it asks for. */
static const struct md_port *ports_of(const struct md_service *s, size_t *n)
{
	*n = s->endpoint.ports.n;
	if (*n)
		return s->endpoint.ports.v;
	*n = s->spec.endpoint ? s->spec.endpoint->ports.n : 0;
	return s->spec.endpoint ? s->spec.endpoint->ports.v : NULL;
}

static int check_against(const struct md_service *other, const struct md_endpoint_spec *e, struct mesh_err *err)
{
	size_t n;
	const struct md_port *theirs = ports_of(other, &n);
	for (size_t i = 0; i < e->ports.n; i++)
		for (size_t j = 0; j < n; j++) {
			const struct md_port *p = &e->ports.v[i], *o = &theirs[j];
			if (!p->published || p->published != o->published || proto(p) != proto(o))
				continue;
			/* Two host-mode ones may live on different nodes: the scheduler sees to that. */
			if (host_mode(p) && host_mode(o))
				continue;
			return mesh_fail(err, MESH_E_INVALID, "port '%u' is already in use by service '%s' (%s) as %s",
			                 p->published, other->spec.name ? other->spec.name : "", other->meta.id,
			                 host_mode(o) ? "a host-published port" : "an ingress port");
		}
	return 0;
}

static int check_update(const struct md_update_config *u, const char *what, struct mesh_err *err)
{
	if (!u)
		return 0;
	if (u->delay < 0)
		return mesh_fail(err, MESH_E_INVALID, "%s: delay cannot be negative", what);
	if (u->monitor < 0)
		return mesh_fail(err, MESH_E_INVALID, "%s: monitor cannot be negative", what);
	if (!(u->max_failure_ratio >= 0 && u->max_failure_ratio <= 1))
		return mesh_fail(err, MESH_E_INVALID, "%s: max failure ratio cannot be less than 0 or bigger than 1",
		                 what);
	return 0;
}

static int check_task(const struct md_task_spec *t, struct mesh_err *err)
{
	const struct md_restart_policy *r = t->restart;
	if (r && ((r->delay.set && r->delay.v < 0) || (r->window.set && r->window.v < 0)))
		return mesh_fail(err, MESH_E_INVALID, "TaskSpec: restart delay and window cannot be negative");
	const struct md_placement *p = t->placement;
	if (!p)
		return 0;
	for (size_t i = 0; i < p->preferences.n; i++) {
		const struct md_spread *s = p->preferences.v[i].spread;
		const char *d = s ? s->descriptor : NULL;
		if (!d || (strncmp(d, "node.", 5) && strncmp(d, "engine.labels.", 14)))
			return mesh_fail(err, MESH_E_INVALID, "Placement: invalid spread preference '%s'", d ? d : "");
	}
	return brain_check_constraints(&p->constraints, err);
}

/* Whoever is to get a part of what comes to a service must be where that comes to. */
static int check_share(const struct md_service_spec *spec, const struct md_service *other, const struct store *s,
                       struct mesh_err *err)
{
	const char *name = other->spec.name;
	if (spec->name && strcmp(spec->name, name) == 0)
		return 0;
	for (size_t i = 0; i < spec->task.networks.n; i++) {
		const char *id = spec->task.networks.v[i].target;
		const struct md_network *n = store_get(s, STORE_NETWORK, id);
		bool there = false;
		for (size_t j = 0; j < other->spec.task.networks.n; j++)
			there |= streq(other->spec.task.networks.v[j].target, id);
		if (!there)
			return mesh_fail(err, MESH_E_INVALID,
			                 "label %s: service '%s' is not on network '%s', where '%s' has its virtual IP",
			                 MD_LABEL_SPLIT, name, n ? n->spec.name : id, spec->name ? spec->name : "it");
	}
	if (md_endpoint_has_ingress(spec->endpoint) && !md_endpoint_has_ingress(other->spec.endpoint))
		return mesh_fail(
			err, MESH_E_INVALID,
			"label %s: '%s' has published ports, and the tasks of '%s' are not on the ingress network: "
			"give it a port of its own (--publish-add TARGET lets one be chosen)",
			MD_LABEL_SPLIT, spec->name ? spec->name : "the service", name);
	return 0;
}

static int check_split(const struct store *s, const struct md_service_spec *spec, const struct md_policy *t,
                       struct mesh_err *err)
{
	int rc = 0;
	if (t->split.n && spec->endpoint && spec->endpoint->mode == MD_ENDPOINT_DNSRR)
		return mesh_fail(err, MESH_E_INVALID, "label %s: needs a virtual IP, the endpoint mode is dnsrr",
		                 MD_LABEL_SPLIT);
	/* One that is not there yet is fine: a stack's services come one after the other. */
	for (size_t i = 0; i < t->split.n && !rc; i++) {
		const struct md_service *other = store_service_named(s, &spec->labels, t->split.v[i].service);
		rc = other ? check_share(spec, other, s, err) : 0;
	}
	return rc;
}

static int check_traffic(const struct store *s, const struct md_service_spec *spec, struct mesh_err *err)
{
	struct md_policy t;
	int rc = md_policy_parse(&spec->labels, &t, err);
	for (size_t i = 0; spec->endpoint && i < spec->endpoint->ports.n && !rc; i++)
		if (host_mode(&spec->endpoint->ports.v[i]) && (t.sources.n || t.addresses.n))
			rc = mesh_fail(
				err, MESH_E_INVALID,
				"label mesh.publish.%s: port %u is published in host mode, which it does not limit",
				t.sources.n ? "sources" : "addresses", spec->endpoint->ports.v[i].published);
	if (!rc)
		rc = check_split(s, spec, &t, err);
	md_policy_fini(&t);
	return rc;
}

int brain_check_service(const struct store *s, const struct md_service_spec *spec, const char *self,
                        struct mesh_err *err)
{
	const struct md_endpoint_spec *e = spec->endpoint;
	int rc = check_task(&spec->task, err);
	if (!rc)
		rc = check_update(spec->update, "UpdateConfig", err);
	if (!rc)
		rc = check_update(spec->rollback, "RollbackConfig", err);
	if (!rc)
		rc = check_traffic(s, spec, err);
	if (rc || !e || !e->ports.n)
		return rc;
	rc = check_own_ports(e, err);
	STORE_EACH(s, STORE_SERVICE, struct md_service, other)
		if (!rc && strcmp(other->meta.id, self))
			rc = check_against(other, e, err);
	return rc;
}

int brain_check_network(const struct store *s, const struct md_network_spec *spec, struct mesh_err *err)
{
	struct alloc *a = alloc_new();
	STORE_EACH(s, STORE_NODE, struct md_node, n)
		alloc_node_put(a, n);
	STORE_EACH(s, STORE_NETWORK, struct md_network, n)
		alloc_network_put(a, n);
	int rc = alloc_check_network(a, spec, err);
	alloc_free(a);
	return rc;
}

int brain_rollback(struct md_service *s, struct mesh_err *err)
{
	if (!s->previous_spec)
		return mesh_fail(err, MESH_E_INVALID, "service %s does not have a previous spec",
		                 s->spec.name ? s->spec.name : s->meta.id);
	struct md_service_spec now = s->spec;
	s->spec = *s->previous_spec;
	*s->previous_spec = now;
	struct md_version version = s->spec_version;
	if (!s->previous_spec_version) {
		s->previous_spec_version = XNEW(struct md_version);
		s->previous_spec_version->index = version.index + 1;
	}
	s->spec_version = *s->previous_spec_version;
	*s->previous_spec_version = version;
	if (!s->update_status)
		s->update_status = XNEW(struct md_update_status);
	/* started_at 0: the updater fills it in when it begins. */
	s->update_status->state = MD_UPDATE_ROLLBACK_STARTED;
	s->update_status->started_at = s->update_status->completed_at = 0;
	str_set(&s->update_status->message, "manually requested rollback");
	return 0;
}

/* Copies all but what the store gives (id, versions, times). */
static void *create(struct store_tx *tx, enum store_kind kind, const char *id, const void *from)
{
	struct md_meta *o = store_tx_create(tx, kind, id), meta = *o;
	if (from)
		sch_copy(store_kind_schema(kind), o, from);
	*o = meta;
	return o;
}

void brain_bootstrap(struct store_tx *tx, const struct md_cluster *cluster, const struct md_node *first,
                     struct mesh_rng *rng)
{
	char id[MESH_ID_LEN + 1];
	mesh_id_make(rng, id);
	struct md_cluster *c = create(tx, STORE_CLUSTER, cluster->meta.id[0] ? cluster->meta.id : id, cluster);
	md_cluster_spec_defaults(&c->spec);
	if (!c->default_addr_pool.n)
		strs_add(&c->default_addr_pool, "10.0.0.0/8");
	if (!c->subnet_size)
		c->subnet_size = 24;
	if (!c->data_path_port)
		c->data_path_port = 4789;
	mesh_id_make(rng, id);
	struct md_node *n = create(tx, STORE_NODE, first->meta.id[0] ? first->meta.id : id, first);

	mesh_id_make(rng, id);
	struct md_network *net = create(tx, STORE_NETWORK, id, NULL);
	net->spec.name = xstrdup("ingress");
	net->spec.driver.name = xstrdup("overlay");
	net->spec.scope = xstrdup("swarm");
	net->spec.ingress = true;
	struct alloc *a = alloc_new();
	alloc_cluster_put(a, c);
	alloc_node_put(a, n);
	/* A pool that has no room leaves it without a subnet; the brain tries again when nodes change. */
	(void)!alloc_network(a, net, NULL);
	alloc_free(a);
}
