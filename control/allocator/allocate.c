/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Giving out. */
#include <stdio.h>

#include "control/allocator/books.h"

static const char *proto_text(int protocol)
{
	return md_protocol_names.names[protocol ? protocol : MD_PROTO_TCP];
}

bool alloc_network_ours(const struct md_network_spec *spec)
{
	const char *driver = spec->driver.name;
	return !driver || !*driver || !strcmp(driver, "overlay");
}

/* ---- networks ---- */

static const struct anet *net_in_the_way(const struct alloc *a, struct cidr c)
{
	MAP_FOREACH(&a->nets, e) {
		const struct anet *n = e->value;
		if (n->subnet.bits && cidr_overlap(n->subnet, c))
			return n;
	}
	return NULL;
}

static const struct anode *node_in_the_way(const struct alloc *a, struct cidr c, struct cidr *what)
{
	MAP_FOREACH(&a->nodes, e) {
		const struct anode *n = e->value;
		for (size_t i = 0; i < n->taken.len; i++)
			if (cidr_overlap(n->taken.data[i], c)) {
				*what = n->taken.data[i];
				return n;
			}
	}
	return NULL;
}

/* The end of whatever c overlaps, or 0 when it is free. */
static uint64_t blocked_until(const struct alloc *a, struct cidr c)
{
	struct cidr what;
	const struct anet *n = net_in_the_way(a, c);
	if (n)
		return n->subnet.base + cidr_size(n->subnet);
	return node_in_the_way(a, c, &what) ? what.base + cidr_size(what) : 0;
}

/* First free subnet at or after from, inside of pool. */
static bool search_pool(const struct alloc *a, struct cidr pool, unsigned bits, uint64_t from, struct cidr *out)
{
	uint64_t end = pool.base + cidr_size(pool), size = 1ULL << (32 - bits);
	uint64_t at = from > pool.base ? from : pool.base;
	while ((at = (at + size - 1) / size * size) + size <= end) {
		struct cidr c = { (uint32_t)at, bits };
		uint64_t next = blocked_until(a, c);
		if (!next) {
			*out = c;
			return true;
		}
		at = next > at ? next : at + size;
	}
	return false;
}

static int pick_subnet(struct alloc *a, bool ingress, struct cidr *out, struct mesh_err *err)
{
	unsigned bits = a->subnet_bits;
	if (ingress && bits > ALLOC_INGRESS_BITS)
		bits = ALLOC_INGRESS_BITS;
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < a->pools.len; i++) {
			struct cidr pool = a->pools.data[i];
			unsigned b = bits < pool.bits ? pool.bits : bits;
			/* First what lies behind the last one given, then anything. */
			uint64_t from = round == 0 ? a->subnet_cursor : 0;
			if (round == 0 && from && (from < pool.base || from >= pool.base + cidr_size(pool)))
				continue;
			if (search_pool(a, pool, b, from, out)) {
				a->subnet_cursor = out->base + cidr_size(*out);
				return 0;
			}
		}
	return mesh_fail(err, MESH_E_EXHAUSTED, "no free /%u subnet in the default address pool", bits);
}

static bool vni_used(const struct alloc *a, uint32_t vni, const char *self)
{
	MAP_FOREACH(&a->nets, e) {
		const struct anet *n = e->value;
		if (n->vni == vni && strcmp(n->id, self))
			return true;
	}
	return false;
}

static int pick_vni(struct alloc *a, const struct md_network *n, uint32_t *out, struct mesh_err *err)
{
	if (n->spec.ingress && !vni_used(a, ALLOC_VNI_FIRST, n->meta.id)) {
		*out = ALLOC_VNI_FIRST;
		return 0;
	}
	for (uint32_t step = 0; step < ALLOC_VNI_LAST - ALLOC_VNI_FIRST; step++) {
		if (a->vni_cursor > ALLOC_VNI_LAST)
			a->vni_cursor = ALLOC_VNI_FIRST + 1;
		uint32_t vni = a->vni_cursor++;
		if (!vni_used(a, vni, n->meta.id)) {
			*out = vni;
			return 0;
		}
	}
	return mesh_fail(err, MESH_E_EXHAUSTED, "no free VNI");
}

static int check_config(const struct alloc *a, const struct md_ipam_config *c, const char *name, const char *self,
                        struct cidr *subnet, struct mesh_err *err)
{
	char text[CIDR_TEXT_MAX], other[CIDR_TEXT_MAX];
	int rc = cidr_parse(c->subnet, subnet);
	if (rc == MESH_E_UNSUPPORTED)
		return mesh_fail(err, rc, "network '%s': IPv6 subnet %s is not supported", name, c->subnet);
	if (rc || !strchr(c->subnet, '/') || subnet->bits < 8 || subnet->bits > 29)
		return mesh_fail(err, MESH_E_INVALID,
		                 "network '%s': invalid subnet '%s': want an IPv4 subnet from /8 to /29", name,
		                 c->subnet);
	uint32_t gateway;
	if (c->gateway && *c->gateway && (cidr_parse_addr(c->gateway, &gateway) || !cidr_has(*subnet, gateway)))
		return mesh_fail(err, MESH_E_INVALID, "network '%s': gateway '%s' is not in subnet %s", name,
		                 c->gateway, c->subnet);
	struct cidr range;
	if (c->ip_range && *c->ip_range &&
	    (cidr_parse(c->ip_range, &range) || !cidr_has(*subnet, range.base) || range.bits < subnet->bits))
		return mesh_fail(err, MESH_E_INVALID, "network '%s': address range '%s' is not in subnet %s", name,
		                 c->ip_range, c->subnet);
	const struct anet *n = net_in_the_way(a, *subnet);
	if (n && strcmp(n->id, self))
		return mesh_fail(err, MESH_E_CONFLICT, "network '%s': subnet %s overlaps %s of network '%s'", name,
		                 cidr_format(*subnet, text), cidr_format(n->subnet, other), n->name);
	struct cidr what;
	const struct anode *node = node_in_the_way(a, *subnet, &what);
	if (node)
		return mesh_fail(err, MESH_E_CONFLICT, "network '%s': subnet %s overlaps %s of node '%s'", name,
		                 cidr_format(*subnet, text), cidr_format(what, other), node->hostname);
	return 0;
}

static const struct md_ipam_config *asked_config(const struct md_network_spec *spec)
{
	if (!spec->ipam)
		return NULL;
	for (size_t i = 0; i < spec->ipam->configs.n; i++)
		if (spec->ipam->configs.v[i].subnet && *spec->ipam->configs.v[i].subnet)
			return &spec->ipam->configs.v[i];
	return NULL;
}

int alloc_check_network(const struct alloc *a, const struct md_network_spec *spec, struct mesh_err *err)
{
	const struct md_ipam_config *c = asked_config(spec);
	const char *name = spec->name ? spec->name : "";
	struct cidr subnet;
	if (!alloc_network_ours(spec))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "network '%s': driver '%s' is not supported, use overlay",
		                 name, spec->driver.name);
	if (spec->ipv6_enabled)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "network '%s': IPv6 is not supported", name);
	if (spec->ingress && a->ingress)
		return mesh_fail(err, MESH_E_CONFLICT, "ingress network (%s) is already present", a->ingress->name);
	return c ? check_config(a, c, name, "", &subnet, err) : 0;
}

int alloc_network(struct alloc *a, struct md_network *n, struct mesh_err *err)
{
	const struct md_ipam_config *asked = asked_config(&n->spec);
	struct cidr subnet;
	char text[CIDR_TEXT_MAX];
	uint32_t vni = n->vni;
	int rc = 0;
	if (!a->pools.len)
		alloc_cluster_put(a, &(struct md_cluster){ 0 });
	const char *name = n->spec.name ? n->spec.name : n->meta.id;
	if (asked)
		rc = check_config(a, asked, name, n->meta.id, &subnet, err);
	if (rc)
		return rc;
	if (!vni)
		rc = pick_vni(a, n, &vni, err);
	if (!rc && !asked)
		rc = pick_subnet(a, n->spec.ingress, &subnet, err);
	if (rc)
		return mesh_wrap(err, rc, "network '%s'", name);
	n->vni = vni;
	if (!n->ipam.driver.name)
		str_set(&n->ipam.driver.name, "default");
	if (!n->ipam.configs.n)
		(void)sch_list_add(&n->ipam.configs, sizeof(struct md_ipam_config));
	struct md_ipam_config *c = &n->ipam.configs.v[0];
	str_set(&c->subnet, cidr_format(subnet, text));
	str_set(&c->ip_range, asked ? asked->ip_range : NULL);
	if (asked && asked->gateway && *asked->gateway)
		str_set(&c->gateway, asked->gateway);
	else
		str_set(&c->gateway, cidr_format_addr(subnet.base + 1, text));
	alloc_network_put(a, n);
	return 0;
}

/* ---- services ---- */

/* Networks a spec attaches to: the task's list, or the API's old place. */
static const struct md_network_config *nets_of(const struct md_service_spec *s, size_t *n)
{
	*n = s->task.networks.n ? s->task.networks.n : s->networks.n;
	return s->task.networks.n ? s->task.networks.v : s->networks.v;
}

static bool local_network(const char *target)
{
	return !strcmp(target, "host") || !strcmp(target, "bridge") || !strcmp(target, "none");
}

static int find_net(const struct alloc *a, const char *target, struct anet **out, struct mesh_err *err)
{
	*out = anet_of(a, target);
	if (!*out)
		return mesh_fail(err, MESH_E_NOT_FOUND, "network '%s': not found", target);
	if (!(*out)->subnet.bits)
		return mesh_fail(err, MESH_E_EXHAUSTED, "network '%s': has no subnet yet", (*out)->name);
	return 0;
}

/* The networks a service needs a VIP on, ingress first; at most max. */
static int vip_nets(const struct alloc *a, const struct md_service *s, struct anet **out, size_t max, size_t *n_out,
                    struct mesh_err *err)
{
	size_t n, have = 0;
	const struct md_network_config *nets = nets_of(&s->spec, &n);
	*n_out = 0;
	if (s->spec.endpoint && s->spec.endpoint->mode == MD_ENDPOINT_DNSRR)
		return 0;
	if (md_endpoint_has_ingress(s->spec.endpoint)) {
		if (!a->ingress || !a->ingress->subnet.bits)
			return mesh_fail(err, MESH_E_NOT_FOUND, "no ingress network");
		out[have++] = a->ingress;
	}
	for (size_t i = 0; i < n && have < max; i++) {
		struct anet *net;
		if (!nets[i].target || local_network(nets[i].target))
			continue;
		int rc = find_net(a, nets[i].target, &net, err);
		if (rc)
			return rc;
		if (net != a->ingress || !have)
			out[have++] = net;
	}
	*n_out = have;
	return 0;
}

#define MAX_NETS 64

static const struct md_vip *vip_on(const struct md_endpoint *e, const char *net)
{
	for (size_t i = 0; i < e->vips.n; i++)
		if (!strcmp(e->vips.v[i].network.s, net))
			return &e->vips.v[i];
	return NULL;
}

static bool same_port(const struct md_port *a, const struct md_port *b)
{
	return (a->protocol ? a->protocol : MD_PROTO_TCP) == (b->protocol ? b->protocol : MD_PROTO_TCP) &&
	       a->target == b->target && (a->mode == MD_PUBLISH_HOST) == (b->mode == MD_PUBLISH_HOST);
}

/* The port given before to this entry of the spec; ports of a range of the same target keep their order. */
static const struct md_port *given_port(const struct md_endpoint *e, const struct md_endpoint_spec *spec, size_t which)
{
	size_t nth = 0;
	for (size_t i = 0; i < which; i++)
		nth += same_port(&spec->ports.v[i], &spec->ports.v[which]) && !spec->ports.v[i].published;
	for (size_t i = 0; i < e->ports.n; i++)
		if (i < e->spec.ports.n && same_port(&e->ports.v[i], &spec->ports.v[which]) &&
		    !e->spec.ports.v[i].published && nth-- == 0)
			return &e->ports.v[i];
	return NULL;
}

bool alloc_service_done(const struct alloc *a, const struct md_service *s)
{
	struct anet *nets[MAX_NETS];
	size_t n;
	if (vip_nets(a, s, nets, MAX_NETS, &n, NULL))
		return false;
	if (n != s->endpoint.vips.n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!vip_on(&s->endpoint, nets[i]->id))
			return false;
	const struct md_endpoint_spec *e = s->spec.endpoint;
	bool needs = n || (e && e->ports.n);
	if (!needs)
		return sch_empty(&md_endpoint_schema, &s->endpoint);
	static const struct md_endpoint_spec none;
	if (!sch_equal(&md_endpoint_spec_schema, e ? e : &none, &s->endpoint.spec) ||
	    s->endpoint.ports.n != s->endpoint.spec.ports.n)
		return false;
	for (size_t i = 0; i < s->endpoint.ports.n; i++)
		if (!s->endpoint.ports.v[i].published && s->endpoint.ports.v[i].mode != MD_PUBLISH_HOST)
			return false;
	return true;
}

static bool host_listens(const struct alloc *a, uint32_t key)
{
	MAP_FOREACH(&a->nodes, e) {
		const struct anode *n = e->value;
		for (size_t i = 0; i < n->listening.len; i++)
			if (n->listening.data[i] == key)
				return true;
	}
	return false;
}

static int pick_port(struct alloc *a, int protocol, uint32_t *out, struct mesh_err *err)
{
	for (uint32_t step = 0; step <= ALLOC_PORT_LAST - ALLOC_PORT_FIRST; step++) {
		uint32_t port = a->port_cursor++;
		if (a->port_cursor > ALLOC_PORT_LAST)
			a->port_cursor = ALLOC_PORT_FIRST;
		uint32_t key = PORT_KEY(protocol, port);
		if (!port_owner(a, key) && !host_listens(a, key)) {
			*out = port;
			return 0;
		}
	}
	return mesh_fail(err, MESH_E_EXHAUSTED, "no free %s port from %u to %u", proto_text(protocol), ALLOC_PORT_FIRST,
	                 ALLOC_PORT_LAST);
}

static int give_ports(struct alloc *a, const struct md_service *s, struct aholder *h, struct md_endpoint *e,
                      struct mesh_err *err)
{
	const struct md_endpoint_spec *spec = s->spec.endpoint;
	/* Numbers that were asked for first, so that an automatic one does not take them. */
	for (size_t i = 0; spec && i < spec->ports.n; i++) {
		const struct md_port *p = &spec->ports.v[i];
		if (p->mode == MD_PUBLISH_HOST || !p->published)
			continue;
		uint32_t key = PORT_KEY(p->protocol, p->published);
		const char *owner = port_owner(a, key);
		if (owner && strcmp(owner, s->meta.id)) {
			const struct aholder *o = map_get(&a->services, owner);
			return mesh_fail(err, MESH_E_CONFLICT, "port %u/%s is already published by service '%s'",
			                 p->published, proto_text(p->protocol), o && o->name ? o->name : owner);
		}
		port_take(a, h, s->meta.id, key);
	}
	for (size_t i = 0; spec && i < spec->ports.n; i++) {
		struct md_port *got = LIST_ADD(&e->ports);
		sch_copy(&md_port_schema, got, &spec->ports.v[i]);
		if (got->mode == MD_PUBLISH_HOST || got->published)
			continue;
		const struct md_port *before = given_port(&s->endpoint, spec, i);
		uint32_t key = before ? PORT_KEY(before->protocol, before->published) : 0;
		if (before && before->published && !port_owner(a, key)) {
			got->published = before->published;
		} else {
			int rc = pick_port(a, got->protocol, &got->published, err);
			if (rc)
				return rc;
			key = PORT_KEY(got->protocol, got->published);
		}
		port_take(a, h, s->meta.id, key);
	}
	return 0;
}

static int give_addr(struct anet *n, struct aholder *h, char text[CIDR_TEXT_MAX + 4], struct mesh_err *err)
{
	uint32_t addr;
	char subnet[CIDR_TEXT_MAX], a[CIDR_TEXT_MAX];
	if (!anet_next(n, &addr))
		return mesh_fail(err, MESH_E_EXHAUSTED, "network '%s': no free address in %s (%zu in use)", n->name,
		                 cidr_format(n->range, subnet), n->used);
	holder_take(h, n, addr);
	snprintf(text, CIDR_TEXT_MAX + 4, "%s/%u", cidr_format_addr(addr, a), n->subnet.bits);
	return 0;
}

static int give_vips(struct alloc *a, const struct md_service *s, struct aholder *h, struct md_endpoint *e,
                     struct mesh_err *err)
{
	struct anet *nets[MAX_NETS];
	size_t n;
	int rc = vip_nets(a, s, nets, MAX_NETS, &n, err);
	for (size_t i = 0; i < n && !rc; i++) {
		const struct md_vip *before = vip_on(&s->endpoint, nets[i]->id);
		uint32_t addr;
		char text[CIDR_TEXT_MAX + 4];
		if (before && !cidr_parse_addr(before->addr, &addr) && !anet_held(nets[i], addr)) {
			holder_take(h, nets[i], addr);
			snprintf(text, sizeof(text), "%s", before->addr);
		} else {
			rc = give_addr(nets[i], h, text, err);
			if (rc)
				break;
		}
		struct md_vip *v = LIST_ADD(&e->vips);
		mesh_id_set(v->network.s, nets[i]->id);
		v->addr = xstrdup(text);
	}
	return rc;
}

int alloc_service(struct alloc *a, struct md_service *s, struct mesh_err *err)
{
	struct md_endpoint e = { 0 };
	alloc_service_put(a, s);
	struct aholder *h = map_get(&a->services, s->meta.id);
	holder_release(a, h);
	int rc = give_ports(a, s, h, &e, err);
	if (!rc)
		rc = give_vips(a, s, h, &e, err);
	if (!rc && (e.vips.n || e.ports.n) && s->spec.endpoint)
		sch_copy(&md_endpoint_spec_schema, &e.spec, s->spec.endpoint);
	if (rc) {
		sch_clear(&md_endpoint_schema, &e);
	} else {
		sch_clear(&md_endpoint_schema, &s->endpoint);
		s->endpoint = e;
	}
	alloc_service_put(a, s);
	return rc;
}

int alloc_check_ports(const struct alloc *a, const struct md_endpoint_spec *e, const char *self, struct mesh_err *err)
{
	for (size_t i = 0; e && i < e->ports.n; i++) {
		const struct md_port *p = &e->ports.v[i];
		if (p->mode == MD_PUBLISH_HOST || !p->published)
			continue;
		const char *owner = port_owner(a, PORT_KEY(p->protocol, p->published));
		if (!owner || !strcmp(owner, self))
			continue;
		const struct aholder *h = map_get(&a->services, owner);
		return mesh_fail(err, MESH_E_CONFLICT,
		                 "port '%u' is already in use by service '%s' (%s) as an ingress port", p->published,
		                 h && h->name ? h->name : "", owner);
	}
	return 0;
}

/* ---- tasks ---- */

static int attach(struct md_task *t, struct anet *n, const struct str_list *aliases, struct aholder *h,
                  struct mesh_err *err)
{
	char text[CIDR_TEXT_MAX + 4];
	int rc = give_addr(n, h, text, err);
	if (rc)
		return rc;
	struct md_attachment *at = LIST_ADD(&t->attachments);
	mesh_id_set(at->network.s, n->id);
	strs_add(&at->addresses, text);
	for (size_t i = 0; aliases && i < aliases->n; i++)
		strs_add(&at->aliases, aliases->v[i]);
	return 0;
}

static void detach_all(struct md_task *t)
{
	for (size_t i = 0; i < t->attachments.n; i++)
		sch_clear(&md_attachment_schema, &t->attachments.v[i]);
	free(t->attachments.v);
	t->attachments.v = NULL;
	t->attachments.n = 0;
}

static int attach_all(struct alloc *a, struct md_task *t, struct aholder *h, struct mesh_err *err)
{
	int rc = 0;
	struct anet *n;
	if (md_endpoint_has_ingress(&t->endpoint)) {
		if (!a->ingress || !a->ingress->subnet.bits)
			return mesh_fail(err, MESH_E_NOT_FOUND, "no ingress network");
		rc = attach(t, a->ingress, NULL, h, err);
	}
	for (size_t i = 0; i < t->spec.networks.n && !rc; i++) {
		const struct md_network_config *c = &t->spec.networks.v[i];
		if (!c->target || local_network(c->target))
			continue;
		rc = find_net(a, c->target, &n, err);
		if (!rc && !(n == a->ingress && t->attachments.n))
			rc = attach(t, n, &c->aliases, h, err);
	}
	return rc;
}

int alloc_task(struct alloc *a, struct md_task *t, struct mesh_err *err)
{
	if (t->attachments.n) {
		alloc_task_put(a, t);
		return 0;
	}
	struct aholder *h = XNEW(struct aholder);
	struct aholder *old = map_put(&a->tasks, t->meta.id, h);
	if (old) {
		holder_release(a, old);
		free(old->places.data);
		free(old->ports.data);
		free(old->name);
		free(old);
	}
	int rc = attach_all(a, t, h, err);
	if (rc)
		detach_all(t);
	if (rc || !t->attachments.n)
		alloc_task_del(a, t->meta.id);
	return rc;
}
