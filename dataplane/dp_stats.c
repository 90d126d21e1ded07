/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this node has counted, with names. */
#include <stdio.h>

#include "base/clock.h"
#include "dataplane/dp_int.h"

static void add_dns(struct dp *d, struct dp_stats *out)
{
	struct dns_stats s;
	dns_server_stats(d->dns, &s);
	const struct {
		const char *id, *text;
		uint64_t n;
	} all[] = {
		{ "queries", "Questions of tasks to their resolver.", s.queries },
		{ "answered", "Answered from the names of networks.", s.answered },
		{ "forwarded", "Passed on to other resolvers.", s.forwarded },
		{ "cached", "Answered from earlier answers of other resolvers.", s.cached },
		{ "timeouts", "Tries other resolvers did not answer.", s.timeouts },
		{ "failed", "Questions nobody answered.", s.failed },
		{ "dropped", "Messages that were no questions, or could not be sent.", s.dropped },
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct dp_count *c = LIST_ADD(&out->dns);
		*c = (struct dp_count){ xstrdup(all[i].id), xstrdup(all[i].text), all[i].n };
	}
}

static bool is_local(const struct dp *d, const struct dp_endpoint *e)
{
	return ID_EQ(e->node, d->desired.self);
}

static void add_backend(struct dp *d, struct dp_service_stats *s, const struct dp_endpoint *e)
{
	struct dp_counters c = { 0 };
	struct dp_ip ip;
	if (dp_ip_parse(e->addr, &ip, NULL))
		return;
	(void)d->drv->backend_stats(d, plan_service_key(&e->service, &e->network), &ip, &c); /* none yet: zero */
	struct dp_backend_stats *b = LIST_ADD(&s->backends);
	*b = (struct dp_backend_stats){ .task = e->task,
		                        .name = xstrdup(e->names.n ? e->names.v[0] : e->task.s),
		                        .addr = xstrdup(e->addr),
		                        .node = e->node,
		                        .local = is_local(d, e),
		                        .state = e->state,
		                        .counters = c };
}

static void add_service(struct dp *d, struct dp_stats *out, const struct dp_service *s)
{
	const struct dp_network *n = map_get(&d->desired.networks, s->network.s);
	struct dp_service_stats *t = LIST_ADD(&out->services);
	*t = (struct dp_service_stats){ .id = s->id,
		                        .name = xstrdup(s->name ? s->name : s->id.s),
		                        .network = xstrdup(n && n->name ? n->name : s->network.s) };
	t->refused = d->drv->refused(d, plan_service_key(&s->id, &s->network));
}

static void add_ports(struct dp_stats *out, const struct dp_service *s, const struct dp_service_stats *t)
{
	uint64_t serving = 0;
	for (size_t i = 0; i < t->backends.n; i++)
		serving += t->backends.v[i].state == DP_SERVING;
	for (size_t i = 0; i < s->ports.n; i++) {
		struct dp_port_stats *p = LIST_ADD(&out->ports);
		*p = (struct dp_port_stats){ s->ports.v[i].published, s->ports.v[i].protocol, serving };
	}
}

/* One pass over services, one over endpoints, whatever their number. */
static void add_services(struct dp *d, struct dp_stats *out)
{
	struct map at = { 0 }; /* "service/network" -> place in out, from 1 */
	MAP_FOREACH(&d->desired.services, e) {
		add_service(d, out, e->value);
		map_put(&at, e->key, (void *)(uintptr_t)out->services.n);
	}
	MAP_FOREACH(&d->desired.endpoints, e) {
		const struct dp_endpoint *p = e->value;
		char key[2 * MESH_ID_LEN + 2];
		snprintf(key, sizeof(key), "%s/%s", p->service.s, p->network.s);
		uintptr_t i = (uintptr_t)map_get(&at, key);
		if (i)
			add_backend(d, &out->services.v[i - 1], p);
	}
	MAP_FOREACH(&d->desired.services, e)
		add_ports(out, e->value, &out->services.v[(uintptr_t)map_get(&at, e->key) - 1]);
	map_fini(&at);
}

void dp_do_stats(struct dp *d)
{
	struct dp_stats s = { .time = clock_wall_ns(),
		              .driver = xstrdup(d->driver),
		              .handshakes = d->drv->sees_handshakes,
		              .version = d->applied,
		              .tasks = d->tasks.count,
		              .passes = d->passes,
		              .ops = d->ops,
		              .failures = d->op_failures,
		              .sockets_closed = d->sockets_closed };
	add_dns(d, &s);
	d->drv->stats(d, &s);
	add_services(d, &s);
	pthread_mutex_lock(&d->lock);
	sch_clear(&dp_stats_schema, &d->stats);
	d->stats = s;
	d->stats_round++;
	pthread_cond_broadcast(&d->stats_ready);
	pthread_mutex_unlock(&d->lock);
}
