/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Following the store: every object's holdings, released and taken again whenever it is put. */
#include "control/allocator/books.h"

#include <stdio.h>

struct alloc *alloc_new(void)
{
	struct alloc *a = XNEW(struct alloc);
	a->subnet_bits = 24;
	a->vni_cursor = ALLOC_VNI_FIRST + 1;
	a->port_cursor = ALLOC_PORT_FIRST;
	return a;
}

static void holder_free(struct aholder *h)
{
	vec_fini(&h->places);
	vec_fini(&h->ports);
	free(h->name);
	free(h);
}

static void net_free(struct anet *n)
{
	free(n->name);
	free(n->holders);
	free(n);
}

static void node_free(struct anode *n)
{
	free(n->hostname);
	vec_fini(&n->taken);
	vec_fini(&n->listening);
	free(n);
}

void alloc_free(struct alloc *a)
{
	if (!a)
		return;
	MAP_FOREACH(&a->nets, e)
		net_free(e->value);
	MAP_FOREACH(&a->services, e)
		holder_free(e->value);
	MAP_FOREACH(&a->tasks, e)
		holder_free(e->value);
	MAP_FOREACH(&a->nodes, e)
		node_free(e->value);
	MAP_FOREACH(&a->ports, e)
		free(e->value);
	map_fini(&a->nets);
	map_fini(&a->by_name);
	map_fini(&a->services);
	map_fini(&a->tasks);
	map_fini(&a->nodes);
	map_fini(&a->ports);
	vec_fini(&a->pools);
	free(a);
}

/* ---- addresses of a network ---- */

struct anet *anet_of(const struct alloc *a, const char *target)
{
	struct anet *n = map_get(&a->nets, target);
	return n ? n : map_get(&a->by_name, target);
}

static uint32_t pool_size(const struct anet *n)
{
	uint64_t size = n->subnet.bits ? cidr_size(n->range) : 0;
	return size > POOL_MAX ? POOL_MAX : (uint32_t)size;
}

/* Network address, broadcast and gateway are nobody's. */
static bool reserved(const struct anet *n, uint32_t addr)
{
	return addr == n->subnet.base || addr == n->gateway ||
	       addr == (uint32_t)(n->subnet.base + cidr_size(n->subnet) - 1);
}

size_t anet_total(const struct anet *n)
{
	uint32_t size = pool_size(n), total = size;
	uint32_t last = (uint32_t)(n->subnet.base + cidr_size(n->subnet) - 1);
	const uint32_t out[] = { n->subnet.base, n->gateway, last };
	for (size_t i = 0; i < ARRAY_SIZE(out); i++)
		total -= out[i] >= n->range.base && out[i] - n->range.base < size;
	return total;
}

bool anet_held(const struct anet *n, uint32_t addr)
{
	uint32_t size = pool_size(n);
	if (addr < n->range.base || addr - n->range.base >= size || reserved(n, addr))
		return true;
	return n->holders[addr - n->range.base];
}

static bool rests(const struct anet *n, uint32_t addr)
{
	uint32_t have = n->n_resting < RESTING_MAX ? n->n_resting : RESTING_MAX;
	for (uint32_t i = 0; i < have; i++)
		if (n->resting[i] == addr)
			return true;
	return false;
}

bool anet_next(struct anet *n, uint32_t *addr)
{
	uint32_t size = pool_size(n);
	for (int tired = 0; tired < 2; tired++)
		for (uint32_t step = 0; step < size; step++) {
			uint32_t i = (n->cursor + step) % size;
			if (n->holders[i] || reserved(n, n->range.base + i) || (!tired && rests(n, n->range.base + i)))
				continue;
			n->cursor = (i + 1) % size;
			*addr = n->range.base + i;
			return true;
		}
	return false;
}

void holder_take(struct aholder *h, struct anet *n, uint32_t addr)
{
	uint32_t size = pool_size(n), i = addr - n->range.base;
	struct aplace p = { n, addr };
	vec_push(&h->places, p);
	n->users++;
	if (addr < n->range.base || i >= size)
		return;
	if (n->holders[i] < UINT8_MAX && n->holders[i]++ == 0)
		n->used++;
}

static void place_release(struct aplace p)
{
	struct anet *n = p.net;
	uint32_t size = pool_size(n), i = p.addr - n->range.base;
	n->users--;
	if (p.addr < n->range.base || i >= size || !n->holders[i])
		return;
	if (--n->holders[i] == 0)
		n->used--;
}

/* ---- ports ---- */

static const char *port_text(uint32_t key, char out[16])
{
	snprintf(out, 16, "%u/%u", key >> 16, key & 0xffff);
	return out;
}

const char *port_owner(const struct alloc *a, uint32_t key)
{
	char text[16];
	return map_get(&a->ports, port_text(key, text));
}

void port_take(struct alloc *a, struct aholder *h, const char *service, uint32_t key)
{
	char text[16];
	if (map_has(&a->ports, port_text(key, text)))
		return;
	map_put(&a->ports, text, xstrdup(service));
	vec_push(&h->ports, key);
}

void holder_release(struct alloc *a, struct aholder *h)
{
	char text[16];
	for (size_t i = 0; i < h->places.len; i++)
		place_release(h->places.data[i]);
	for (size_t i = 0; i < h->ports.len; i++)
		free(map_del(&a->ports, port_text(h->ports.data[i], text)));
	h->places.len = 0;
	h->ports.len = 0;
}

static struct aholder *holder_of(struct alloc *a, struct map *m, const char *id)
{
	struct aholder *h = map_get(m, id);
	if (h) {
		holder_release(a, h);
	} else {
		h = XNEW(struct aholder);
		map_put(m, id, h);
	}
	return h;
}

static void holder_del(struct alloc *a, struct map *m, const char *id)
{
	struct aholder *h = map_del(m, id);
	if (!h)
		return;
	for (size_t i = 0; i < h->places.len; i++) {
		struct anet *n = h->places.data[i].net;
		n->resting[n->n_resting++ % RESTING_MAX] = h->places.data[i].addr;
	}
	holder_release(a, h);
	holder_free(h);
}

/* ---- objects ---- */

void alloc_cluster_put(struct alloc *a, const struct md_cluster *c)
{
	a->pools.len = 0;
	for (size_t i = 0; i < c->default_addr_pool.n; i++) {
		struct cidr p;
		if (!cidr_parse(c->default_addr_pool.v[i], &p))
			vec_push(&a->pools, p);
	}
	if (!a->pools.len) {
		struct cidr ten = { 10u << 24, 8 };
		vec_push(&a->pools, ten);
	}
	a->subnet_bits = c->subnet_size ? c->subnet_size : 24;
}

void alloc_node_put(struct alloc *a, const struct md_node *node)
{
	alloc_node_del(a, node->meta.id);
	struct anode *n = XNEW(struct anode);
	const struct md_node_description *d = &node->description;
	n->hostname = xstrdup(d->hostname ? d->hostname : node->meta.id);
	struct cidr c;
	for (size_t i = 0; i < d->underlay.n; i++)
		if (!cidr_parse(d->underlay.v[i], &c))
			vec_push(&n->taken, c);
	for (size_t i = 0; i < d->host_addrs.n; i++) {
		uint32_t addr;
		if (cidr_parse_addr(d->host_addrs.v[i], &addr))
			continue;
		c = (struct cidr){ addr, 32 };
		vec_push(&n->taken, c);
	}
	for (size_t i = 0; i < d->host_ports.n; i++) {
		uint32_t key = PORT_KEY(d->host_ports.v[i].protocol, d->host_ports.v[i].port);
		vec_push(&n->listening, key);
	}
	map_put(&a->nodes, node->meta.id, n);
}

void alloc_node_del(struct alloc *a, const char *id)
{
	struct anode *n = map_del(&a->nodes, id);
	if (n)
		node_free(n);
}

static void net_shape(struct anet *n, const struct md_network *o)
{
	const struct md_ipam_config *c = o->ipam.configs.n ? &o->ipam.configs.v[0] : NULL;
	struct cidr subnet = { 0 }, range;
	if (!c || cidr_parse(c->subnet, &subnet) || !subnet.bits)
		return;
	if (!c->ip_range || cidr_parse(c->ip_range, &range) || !cidr_overlap(subnet, range))
		range = subnet;
	uint32_t gateway = subnet.base + 1;
	if (c->gateway && cidr_parse_addr(c->gateway, &gateway))
		gateway = subnet.base + 1;
	if (n->holders && n->subnet.base == subnet.base && n->subnet.bits == subnet.bits)
		return; /* a network keeps its subnet for life */
	n->subnet = subnet;
	n->range = range;
	n->gateway = gateway;
	free(n->holders);
	n->holders = xcalloc(pool_size(n), 1);
	n->used = 0;
	n->cursor = 0;
}

void alloc_network_put(struct alloc *a, const struct md_network *o)
{
	if (!alloc_network_ours(&o->spec))
		return;
	struct anet *n = map_get(&a->nets, o->meta.id);
	if (!n) {
		n = XNEW(struct anet);
		mesh_id_set(n->id, o->meta.id);
		n->name = xstrdup(o->spec.name ? o->spec.name : o->meta.id);
		map_put(&a->nets, n->id, n);
		map_put(&a->by_name, n->name, n);
	}
	n->vni = o->vni;
	n->ingress = o->spec.ingress;
	if (n->ingress)
		a->ingress = n;
	net_shape(n, o);
	if (n->subnet.bits && n->subnet.base + cidr_size(n->subnet) > a->subnet_cursor && !o->spec.ipam)
		a->subnet_cursor = n->subnet.base + cidr_size(n->subnet);
	if (n->vni >= a->vni_cursor)
		a->vni_cursor = n->vni + 1;
}

static void forget_net(struct map *holders, const struct anet *n)
{
	MAP_FOREACH(holders, e) {
		struct aholder *h = e->value;
		for (size_t i = h->places.len; i-- > 0;)
			if (h->places.data[i].net == n)
				vec_remove(&h->places, i);
	}
}

void alloc_network_del(struct alloc *a, const char *id)
{
	struct anet *n = map_del(&a->nets, id);
	if (!n)
		return;
	if (map_get(&a->by_name, n->name) == n)
		map_del(&a->by_name, n->name);
	if (a->ingress == n)
		a->ingress = NULL;
	if (n->users) { /* somebody still names it; nothing may point here afterwards */
		forget_net(&a->services, n);
		forget_net(&a->tasks, n);
	}
	net_free(n);
}

/* Next-fit goes on behind what the newest object got; those of one command were made at the same time. */
static void resume_behind(struct anet *n, uint32_t addr, int64_t created_at)
{
	if (addr < n->range.base || addr - n->range.base >= pool_size(n))
		return;
	uint32_t cursor = (addr - n->range.base + 1) % pool_size(n);
	if (created_at > n->resumed || (created_at == n->resumed && cursor > n->cursor))
		n->cursor = cursor;
	if (created_at > n->resumed)
		n->resumed = created_at;
}

static void take_text(const struct alloc *a, struct aholder *h, struct anet *n, const char *text, int64_t created_at)
{
	uint32_t addr;
	if (!n || !n->subnet.bits || cidr_parse_addr(text, &addr))
		return;
	if (h)
		holder_take(h, n, addr);
	if (a->resuming)
		resume_behind(n, addr, created_at);
}

void alloc_resume(struct alloc *a, bool on)
{
	a->resuming = on;
}

void alloc_service_put(struct alloc *a, const struct md_service *s)
{
	struct aholder *h = holder_of(a, &a->services, s->meta.id);
	str_set(&h->name, s->spec.name);
	for (size_t i = 0; i < s->endpoint.vips.n; i++)
		take_text(a, h, map_get(&a->nets, s->endpoint.vips.v[i].network.s), s->endpoint.vips.v[i].addr,
		          s->meta.created_at);
	for (size_t i = 0; i < s->endpoint.ports.n; i++) {
		const struct md_port *p = &s->endpoint.ports.v[i];
		if (p->mode != MD_PUBLISH_HOST && p->published)
			port_take(a, h, s->meta.id, PORT_KEY(p->protocol, p->published));
	}
}

void alloc_service_del(struct alloc *a, const char *id)
{
	holder_del(a, &a->services, id);
}

static void take_attachments(struct alloc *a, struct aholder *h, const struct md_task *t)
{
	for (size_t i = 0; i < t->attachments.n; i++) {
		const struct md_attachment *at = &t->attachments.v[i];
		struct anet *n = map_get(&a->nets, at->network.s);
		for (size_t j = 0; j < at->addresses.n; j++)
			take_text(a, h, n, at->addresses.v[j], t->meta.created_at);
	}
}

void alloc_task_put(struct alloc *a, const struct md_task *t)
{
	/* What has ended holds nothing; its text stays for the history. */
	if (md_task_ended(t) || !t->attachments.n) {
		alloc_task_del(a, t->meta.id);
		if (a->resuming)
			take_attachments(a, NULL, t);
		return;
	}
	take_attachments(a, holder_of(a, &a->tasks, t->meta.id), t);
}

void alloc_task_del(struct alloc *a, const char *id)
{
	holder_del(a, &a->tasks, id);
}

size_t alloc_network_users(const struct alloc *a, const char *id)
{
	const struct anet *n = map_get(&a->nets, id);
	return n ? n->users : 0;
}

bool alloc_network_usage(const struct alloc *a, const char *id, size_t *used, size_t *total)
{
	const struct anet *n = map_get(&a->nets, id);
	if (!n)
		return false;
	*used = n->used;
	*total = n->subnet.bits ? anet_total(n) : 0;
	return true;
}
