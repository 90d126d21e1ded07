/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/plan.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- want ---------------------------------------------------------------------------------------- */

static uint64_t key_of_text(const char *text)
{
	uint64_t h = hash64(text, strlen(text));
	return h ? h : 1;
}

uint64_t plan_service_key(const service_id *s, const network_id *n)
{
	char text[2 * (MESH_ID_LEN + 1)];
	snprintf(text, sizeof(text), "%s/%s", s->s, n->s);
	return key_of_text(text);
}

/* What a claim wants of the tables goes into plan; what stands against it into problems. */
struct wanting {
	const struct plan_in *in;
	struct plan *plan;
	struct map *problems;
	struct map ifaces; /* of in->ifaces: item key -> the iface */
	const char *claim; /* looked at now */
};

void plan_problem(struct wanting *w, const char *fmt, ...)
{
	char text[200];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	char *before = map_get(w->problems, w->claim);
	map_put(w->problems, w->claim, before ? xasprintf("%s; %s", before, text) : xstrdup(text));
	free(before);
}

/* Whatever comes of it, the place of this item is one the claim is about. */
static void examine(struct wanting *w, const struct item *like)
{
	char key[PLAN_KEY_MAX];
	if (!w->in->all)
		free(map_put(&w->plan->examined, plan_key(like, key), xstrdup(w->claim)));
}

/* Takes i. */
static bool want(struct wanting *w, struct item *i)
{
	examine(w, i);
	return plan_table_add(&w->plan->want, i);
}

static void want_addrs(const struct plan_in *in, struct plan_table *out)
{
	for (size_t i = 0; i < in->n_host_addrs; i++) {
		struct item *it = item_new(ITEM_HOST_ADDR);
		it->addr = in->host_addrs[i];
		plan_table_add(out, it);
	}
	MAP_FOREACH(&in->desired->nodes, e) {
		const struct dp_node *n = e->value;
		struct item *it = item_new(ITEM_NODE);
		if (dp_ip_parse(n->addr, &it->addr, NULL) == 0)
			plan_table_add(out, it);
		else
			item_free(it);
	}
}

static void want_networks(struct wanting *w)
{
	struct item *local = item_new(ITEM_NETWORK);
	char claim[DESIRED_CLAIM_MAX];
	local->network = w->in->local;
	plan_table_add(&w->plan->want, local);
	MAP_FOREACH(&w->in->desired->networks, e) {
		const struct dp_network *n = e->value;
		struct item *it = item_new(ITEM_NETWORK);
		it->network = (struct ebpf_network){ .vni = n->vni, .internal = n->internal, .ingress = n->ingress };
		if (dp_ip_parse(n->subnet, &it->network.subnet, &it->network.prefix) != 0 ||
		    dp_ip_parse(n->gateway, &it->network.gateway, NULL) != 0 || !n->vni) {
			snprintf(claim, sizeof(claim), "n %s", e->key);
			w->claim = claim;
			plan_problem(w, "network '%s': bad subnet or gateway", n->name ? n->name : n->id.s);
			item_free(it);
			continue;
		}
		plan_table_add(&w->plan->want, it);
	}
}

bool plan_place_of(const struct plan_in *in, const struct dp_endpoint *e, struct plan_place *out)
{
	const struct dp_node *node = map_get(&in->desired->nodes, e->node.s);
	out->net = map_get(&in->desired->networks, e->network.s);
	out->local = ID_EQ(e->node, in->desired->self);
	out->node = in->self;
	if (!out->net || !out->net->vni || dp_ip_parse(e->addr, &out->ip, NULL) != 0)
		return false;
	if (out->local)
		return !map_has(in->down, e->task.s);
	return node && dp_ip_parse(node->addr, &out->node, NULL) == 0;
}

static struct item *iface_item(const struct plan_in *in, const struct plan_iface *f)
{
	struct item *it = item_new(ITEM_ENDPOINT);
	it->endpoint = (struct ebpf_endpoint){ .vni = f->vni, .ip = f->ip, .node = in->self, .local = true };
	return it;
}

/* "e NETWORK ADDRESS": an interface here first, then the oldest endpoint that has a place. */
static void want_endpoint(struct wanting *w)
{
	const struct claim *c = desired_claim(w->in->desired, w->claim);
	const struct dp_network *net;
	struct item like = { .kind = ITEM_ENDPOINT };
	const char *addr = strrchr(w->claim, ' ') + 1;
	char id[DESIRED_CLAIM_MAX], key[PLAN_KEY_MAX];
	struct plan_place p;
	snprintf(id, sizeof(id), "%.*s", (int)(addr - w->claim - 3), w->claim + 2);
	net = map_get(&w->in->desired->networks, id);
	if ((*id && (!net || !net->vni)) || dp_ip_parse(addr, &like.endpoint.ip, NULL) != 0)
		return;
	like.endpoint.vni = net ? net->vni : 0;
	examine(w, &like);
	const struct plan_iface *f = map_get(&w->ifaces, plan_key(&like, key));
	if (f)
		(void)want(w, iface_item(w->in, f));
	for (size_t i = 0; c && i < c->n; i++) {
		if (!plan_place_of(w->in, c->by[i], &p))
			continue;
		struct item *it = item_new(ITEM_ENDPOINT);
		it->endpoint =
			(struct ebpf_endpoint){ .vni = p.net->vni, .ip = p.ip, .node = p.node, .local = p.local };
		(void)want(w, it);
	}
}

/* "s SERVICE/NETWORK" */
static void want_service(struct wanting *w)
{
	const struct dp_service *s = map_get(&w->in->desired->services, w->claim + 2);
	const struct dp_network *net = s ? map_get(&w->in->desired->networks, s->network.s) : NULL;
	struct item like = { .kind = ITEM_SERVICE, .svc.key = key_of_text(w->claim + 2) };
	examine(w, &like);
	if (net && net->vni)
		(void)want(w, plan_service_item(w, w->in, s, net->vni));
}

/* "v ADDRESS": of the oldest service that has it. */
static void want_vip(struct wanting *w)
{
	const struct claim *c = desired_claim(w->in->desired, w->claim);
	struct item like = { .kind = ITEM_VIP };
	if (dp_ip_parse(w->claim + 2, &like.addr, NULL) != 0)
		return;
	examine(w, &like);
	for (size_t i = 0; c && i < c->n; i++) {
		const struct dp_service *s = c->by[i];
		const struct dp_network *net = map_get(&w->in->desired->networks, s->network.s);
		if (!net || !net->vni)
			continue;
		like.service = plan_service_key(&s->id, &s->network);
		(void)want(w, item_dup(&like));
	}
}

/* Does it stand open already? Then it came before whoever listens there now. */
static bool in_force(const struct plan_in *in, const struct item *it)
{
	const struct item *have = in->have ? plan_table_get(in->have, it) : NULL;
	return have && !have->port.closed_here;
}

/* Takes it. */
static void want_port(struct wanting *w, struct item *it, const char *who)
{
	struct ebpf_port *p = &it->port;
	unsigned published = p->published;
	const char *proto = plan_proto_text(p->proto);
	const char *process = w->in->taken ? w->in->taken(w->in->arg, p->proto, p->published) : NULL;
	if (process) {
		if (!*process)
			process = "the host";
		p->closed_here = !in_force(w->in, it);
		if (p->closed_here)
			plan_problem(w, "port %u/%s of %s: %s listens on it already: not published on this node",
			             published, proto, who, process);
		else
			plan_problem(w, "port %u/%s of %s: %s began to listen on it, but it is published and keeps it",
			             published, proto, who, process);
	}
	/* The one who holds it would be refused too, and its tasks need the entry for what other nodes take in. */
	if (!want(w, it))
		plan_problem(w, "port %u/%s of %s: published twice, the first keeps it", published, proto, who);
}

static bool port_valid(const struct dp_port *p)
{
	return (p->protocol == IPPROTO_TCP || p->protocol == IPPROTO_UDP) && p->published && p->published <= 65535 &&
	       p->target && p->target <= 65535;
}

static void want_service_port(struct wanting *w, const struct dp_service *s, const struct dp_port *p)
{
	const struct dp_network *net = map_get(&w->in->desired->networks, s->network.s);
	const char *name = s->name ? s->name : s->id.s;
	if (!net || !net->vni)
		return;
	if (!port_valid(p)) {
		plan_problem(w, "port %u of service '%s': only TCP and UDP are balanced", p->published, name);
		return;
	}
	struct item *it = item_new(ITEM_PORT);
	it->port = (struct ebpf_port){ .proto = (uint8_t)p->protocol,
		                       .published = (uint16_t)p->published,
		                       .target = (uint16_t)p->target,
		                       .service = plan_service_key(&s->id, &s->network) };
	want_port(w, it, name);
}

static void want_host_port(struct wanting *w, const struct plan_host_port *hp)
{
	if (!port_valid(&hp->port)) {
		plan_problem(w, "port %u: only TCP and UDP can be published", hp->port.published);
		return;
	}
	struct item *it = item_new(ITEM_PORT);
	it->port = (struct ebpf_port){ .proto = (uint8_t)hp->port.protocol,
		                       .published = (uint16_t)hp->port.published,
		                       .target = (uint16_t)hp->port.target,
		                       .host_mode = true,
		                       .vni = hp->vni,
		                       .ip = hp->ip };
	want_port(w, it, "a task");
}

/* "p PROTOCOL PORT": the oldest service first, then tasks of this node. */
static void want_ports(struct wanting *w)
{
	const struct plan_in *in = w->in;
	const struct claim *c = desired_claim(in->desired, w->claim);
	struct item like = { .kind = ITEM_PORT };
	const struct dp_service *last = NULL;
	int proto = 0;
	unsigned published = 0;
	if (sscanf(w->claim, "p %d %u", &proto, &published) != 2)
		return;
	like.port.proto = (uint8_t)proto;
	like.port.published = (uint16_t)published;
	if (published <= 65535)
		examine(w, &like);
	for (size_t i = 0; c && i < c->n; i++) {
		const struct dp_service *s = c->by[i];
		for (size_t k = 0; s != last && k < s->ports.n; k++)
			if (s->ports.v[k].protocol == proto && s->ports.v[k].published == published)
				want_service_port(w, s, &s->ports.v[k]);
		last = s;
	}
	for (size_t i = 0; i < in->n_host_ports; i++)
		if (in->host_ports[i].port.protocol == proto && in->host_ports[i].port.published == published)
			want_host_port(w, &in->host_ports[i]);
}

static void want_claim(struct wanting *w, const char *claim)
{
	w->claim = claim;
	switch (*claim) {
	case 'e':
		want_endpoint(w);
		break;
	case 's':
		want_service(w);
		break;
	case 'v':
		want_vip(w);
		break;
	case 'p':
		want_ports(w);
		break;
	default: /* no place of its own */
		break;
	}
}

/* What is wanted whoever claims it: interfaces and host ports of the tasks here. */
static void want_own(struct wanting *w)
{
	char claim[DESIRED_CLAIM_MAX];
	for (size_t i = 0; i < w->in->n_ifaces; i++)
		(void)plan_table_add(&w->plan->want, iface_item(w->in, &w->in->ifaces[i]));
	for (size_t i = 0; i < w->in->n_host_ports; i++) {
		const struct dp_port *p = &w->in->host_ports[i].port;
		struct item like = { .kind = ITEM_PORT };
		like.port.proto = (uint8_t)p->protocol;
		like.port.published = (uint16_t)p->published;
		snprintf(claim, sizeof(claim), "p %d %u", p->protocol, p->published);
		/* Not those that stand beside a service's, or were looked at with another task's. */
		if (!desired_claim(w->in->desired, claim) && !map_has(w->problems, claim) &&
		    !plan_table_get(&w->plan->want, &like))
			want_claim(w, claim);
	}
}

static void want_all(struct wanting *w)
{
	char claim[DESIRED_CLAIM_MAX];
	MAP_FOREACH(w->problems, e)
		free(e->value);
	map_fini(w->problems);
	want_addrs(w->in, &w->plan->want);
	want_networks(w);
	MAP_FOREACH(&w->in->desired->claims, e)
		if (*e->key != 's')
			want_claim(w, e->key);
	MAP_FOREACH(&w->in->desired->services, e) {
		snprintf(claim, sizeof(claim), "s %s", e->key);
		want_claim(w, claim);
	}
	want_own(w);
}

void plan_want(const struct plan_in *in, struct plan *out, struct map *problems)
{
	struct wanting w = { .in = in, .plan = out, .problems = problems };
	char key[PLAN_KEY_MAX];
	for (size_t i = 0; i < in->n_ifaces; i++) {
		struct item like = { .kind = ITEM_ENDPOINT };
		like.endpoint.vni = in->ifaces[i].vni;
		like.endpoint.ip = in->ifaces[i].ip;
		map_put(&w.ifaces, plan_key(&like, key), (void *)&in->ifaces[i]);
	}
	out->all = in->all;
	if (in->all)
		want_all(&w);
	else
		MAP_FOREACH(&in->desired->dirty, e) {
			free(map_del(problems, e->key));
			want_claim(&w, e->key);
		}
	map_fini(&w.ifaces);
}

void plan_fini(struct plan *p)
{
	plan_table_fini(&p->want);
	MAP_FOREACH(&p->examined, e)
		free(e->value);
	map_fini(&p->examined);
}

/* ---- difference ---------------------------------------------------------------------------------- */

static struct plan_op removal(const struct item *h)
{
	return (struct plan_op){ .del = true, .item = h, .lost_vni = h->kind == ITEM_ENDPOINT ? h->endpoint.vni : 0 };
}

static void diff_all(const struct plan_table *have, const struct plan_table *want, struct plan_ops *out)
{
	for (int k = 0; k < ITEM_KIND_MAX; k++) {
		MAP_FOREACH(&want->items, e) {
			const struct item *w = e->value, *h;
			if ((int)w->kind != k)
				continue;
			h = map_get(&have->items, e->key);
			if (!h || !item_equal(h, w))
				vec_push(out, ((struct plan_op){ .item = w }));
		}
	}
	for (int k = ITEM_KIND_MAX - 1; k >= 0; k--) {
		MAP_FOREACH(&have->items, e) {
			const struct item *h = e->value;
			if ((int)h->kind == k && !map_has(&want->items, e->key))
				vec_push(out, removal(h));
		}
	}
}

static void diff_examined(const struct plan_table *have, const struct plan *plan, bool del, int kind,
                          struct plan_ops *out)
{
	MAP_FOREACH(&plan->examined, e) {
		const struct item *w = map_get(&plan->want.items, e->key), *h = map_get(&have->items, e->key);
		const struct item *i = del ? h : w;
		if (!i || (int)i->kind != kind || (del ? w != NULL : h && item_equal(h, w)))
			continue;
		struct plan_op op = del ? removal(i) : (struct plan_op){ .item = i };
		op.claim = e->value;
		vec_push(out, op);
	}
}

void plan_diff(const struct plan_table *have, const struct plan *plan, struct plan_ops *out)
{
	if (plan->all) {
		diff_all(have, &plan->want, out);
		return;
	}
	for (int k = 0; k < ITEM_KIND_MAX; k++)
		diff_examined(have, plan, false, k, out);
	for (int k = ITEM_KIND_MAX - 1; k >= 0; k--)
		diff_examined(have, plan, true, k, out);
}
