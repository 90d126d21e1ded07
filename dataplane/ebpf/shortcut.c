// SPDX-License-Identifier: GPL-2.0-or-later
/* Tables that every packet would be looked up in, and what programs look at instead: docs/decisions/0018. */
#include <netinet/in.h>
#include <string.h>

#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"

/* ---- published ports ---- */

static uint32_t place_of(const struct abi_port_key *k)
{
	return (k->proto == IPPROTO_UDP ? ABI_PUBLISHED / 2 : 0) + __builtin_bswap16(k->port);
}

static uint64_t word_of(const struct abi_port *v)
{
	struct abi_published p = { .service = v->service, .target = v->target, .kind = v->kind, .flags = v->flags };
	uint64_t word;

	_Static_assert(sizeof(p) == sizeof(word), "a word");
	memcpy(&word, &p, sizeof(word));
	return word;
}

static void publish(struct ebpf *e, uint32_t place, uint64_t word)
{
	if (e->published[place] != word)
		__atomic_store_n(&e->published[place], word, __ATOMIC_RELEASE);
}

static struct abi_port_key port_key(uint8_t proto, uint16_t port)
{
	return (struct abi_port_key){ .proto = proto, .port = __builtin_bswap16(port) };
}
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "port_key swaps");

int ebpf_set_port(struct ebpf *e, const struct ebpf_port *p, struct mesh_err *err)
{
	struct abi_port_key k = port_key(p->proto, p->published);
	struct abi_port v = {
		.target = __builtin_bswap16(p->target),
		.kind = p->host_mode ? PORT_HOST : PORT_MESH,
		.flags = p->closed_here ? PORT_CLOSED_HERE : 0,
	};

	if (p->host_mode) {
		v.vni = p->vni;
		v.ip = ebpf_addr(&p->ip);
	} else {
		v.service = lb_service_index(e, p->service);
		if (!v.service)
			return mesh_fail(err, MESH_E_NOT_FOUND, "service of published port %u", p->published);
	}
	int rc = table_set(&e->ports, &k, &v, e->pass, "ports", err);
	if (!rc)
		publish(e, place_of(&k), word_of(&v));
	return rc;
}

void ebpf_del_port(struct ebpf *e, uint8_t proto, uint16_t published)
{
	struct abi_port_key k = port_key(proto, published);

	publish(e, place_of(&k), 0);
	table_del(&e->ports, &k);
}

static void on_port_gone(void *arg, const void *key, const void *value)
{
	(void)value;
	publish(arg, place_of(key), 0);
}

void ports_sweep(struct ebpf *e)
{
	table_sweep(&e->ports, e->pass, on_port_gone, e);
}

static void fill_ports(struct ebpf *e)
{
	CLEAN_FREE uint64_t *want = xcalloc(ABI_PUBLISHED, sizeof(*want));
	struct abi_port_key key, next;
	struct abi_port v;
	bool first = true;

	for (; bpf_map_get_next_key(e->ports.fd, first ? NULL : &key, &next) == 0; key = next, first = false)
		if (bpf_map_lookup_elem(e->ports.fd, &next, &v) == 0)
			want[place_of(&next)] = word_of(&v);
	for (uint32_t i = 0; i < ABI_PUBLISHED; i++)
		publish(e, i, want[i]);
}

/* ---- addresses of the host ---- */

static __be32 *own_of(struct ebpf *e, __be32 a)
{
	for (size_t i = 0; i < ABI_OWN; i++)
		if (e->runtime->own[i] == a)
			return &e->runtime->own[i];
	return NULL;
}

/* False: there is no room, whoever wants to know has to ask the table. */
static bool know_addr(struct ebpf *e, const struct abi_addr *a)
{
	__be32 *at = own_of(e, a->w[3]);

	if (at)
		return true;
	at = own_of(e, 0);
	if (at)
		__atomic_store_n(at, a->w[3], __ATOMIC_RELEASE);
	else
		e->runtime->own_more = 1;
	return at != NULL;
}

static void forget_addr(struct ebpf *e, const struct abi_addr *a)
{
	__be32 *at = own_of(e, a->w[3]);

	if (at)
		__atomic_store_n(at, 0, __ATOMIC_RELEASE);
}

int ebpf_set_host_addr(struct ebpf *e, const struct dp_ip *addr, struct mesh_err *err)
{
	uint32_t one = 1;
	int rc = table_set(&e->host_addrs, addr->b, &one, e->pass, "host_addrs", err);
	struct abi_addr a = ebpf_addr(addr);

	if (!rc)
		(void)know_addr(e, &a);
	return rc;
}

void ebpf_del_host_addr(struct ebpf *e, const struct dp_ip *addr)
{
	struct abi_addr a = ebpf_addr(addr);

	forget_addr(e, &a);
	table_del(&e->host_addrs, addr->b);
}

static void on_addr_gone(void *arg, const void *key, const void *value)
{
	(void)value;
	forget_addr(arg, key);
}

/* Programs run on it meanwhile: what they are to ask for stays so until all that need not be asked is there. */
static void fill_addrs(struct ebpf *e)
{
	struct abi_addr key, next;
	bool first = true, all = true;

	for (size_t i = 0; i < ABI_OWN; i++) {
		struct abi_addr a = { .w = { 0, 0, __builtin_bswap32(0xffff), e->runtime->own[i] } };
		uint32_t one;
		if (bpf_map_lookup_elem(e->host_addrs.fd, &a, &one))
			forget_addr(e, &a);
	}
	for (; bpf_map_get_next_key(e->host_addrs.fd, first ? NULL : &key, &next) == 0; key = next, first = false)
		all &= know_addr(e, &next);
	if (all)
		__atomic_store_n(&e->runtime->own_more, 0, __ATOMIC_RELEASE);
}

/* ---- nodes and links ---- */

static void forget_ways(struct ebpf *e)
{
	__atomic_add_fetch(&e->runtime->ways, 1, __ATOMIC_RELEASE);
}

/* Nobody's while it is written. */
static void write_near(struct abi_node *at, const struct abi_node *v)
{
	__atomic_store_n(&at->addr, 0, __ATOMIC_SEQ_CST);
	at->ifindex = v->ifindex;
	at->next_hop = v->next_hop;
	at->mtu = v->mtu;
	__atomic_store_n(&at->addr, v->addr, __ATOMIC_SEQ_CST);
}

static void know_node(struct ebpf *e, __be32 addr, const struct abi_node *v)
{
	struct abi_node *at = &e->near[ABI_NEAR_SLOT(addr)];

	if (!v && at->addr == addr)
		__atomic_store_n(&at->addr, 0, __ATOMIC_SEQ_CST);
	if (v && (!at->addr || at->addr == addr) && memcmp(at, v, sizeof(*v)) != 0)
		write_near(at, v);
	forget_ways(e);
}

int ebpf_set_node(struct ebpf *e, const struct dp_ip *addr, const struct ebpf_way *way, struct mesh_err *err)
{
	struct abi_node n = { .ifindex = way->ifindex, .mtu = way->mtu, .addr = ebpf_addr(addr).w[3] };

	memcpy(&n.next_hop, way->next_hop.b + 12, sizeof(n.next_hop));
	int rc = table_set(&e->nodes, addr->b, &n, e->pass, "nodes", err);
	if (!rc)
		know_node(e, n.addr, &n);
	return rc;
}

void ebpf_del_node(struct ebpf *e, const struct dp_ip *addr)
{
	table_del(&e->nodes, addr->b);
	know_node(e, ebpf_addr(addr).w[3], NULL);
}

static void on_node_gone(void *arg, const void *key, const void *value)
{
	const struct abi_addr *a = key;

	(void)value;
	know_node(arg, a->w[3], NULL);
}

static void fill_nodes(struct ebpf *e)
{
	struct abi_addr key, next;
	struct abi_node v;
	bool first = true;

	for (size_t i = 0; i < ABI_NEAR; i++) {
		struct abi_addr a = { .w = { 0, 0, __builtin_bswap32(0xffff), e->near[i].addr } };
		if (bpf_map_lookup_elem(e->nodes.fd, &a, &v))
			e->near[i].addr = 0;
	}
	for (; bpf_map_get_next_key(e->nodes.fd, first ? NULL : &key, &next) == 0; key = next, first = false) {
		if (bpf_map_lookup_elem(e->nodes.fd, &next, &v))
			continue;
		v.addr = next.w[3]; /* of another layout it has none */
		know_node(e, next.w[3], &v);
	}
}

void shortcut_link(struct ebpf *e, uint32_t ifindex, const struct abi_link *l)
{
	struct abi_runtime *rt = e->runtime;

	if (!l && rt->link_ifindex == ifindex)
		__atomic_store_n(&rt->link_ifindex, 0, __ATOMIC_RELEASE);
	if (l && (!rt->link_ifindex || rt->link_ifindex == ifindex)) {
		uint64_t word;
		memcpy(&word, l, sizeof(word));
		__atomic_store_n((uint64_t *)(void *)&rt->link, word, __ATOMIC_RELEASE);
		__atomic_store_n(&rt->link_ifindex, ifindex, __ATOMIC_RELEASE);
	}
	forget_ways(e);
}

static void fill_link(struct ebpf *e)
{
	uint32_t ifindex = e->runtime->link_ifindex;
	struct abi_link l;

	if (ifindex)
		shortcut_link(e, ifindex, bpf_map_lookup_elem(e->links.fd, &ifindex, &l) ? NULL : &l);
}

static void on_link_gone(void *arg, const void *key, const void *value)
{
	uint32_t ifindex;

	(void)value;
	memcpy(&ifindex, key, sizeof(ifindex));
	shortcut_link(arg, ifindex, NULL);
}

void places_sweep(struct ebpf *e)
{
	table_sweep(&e->nodes, e->pass, on_node_gone, e);
	table_sweep(&e->links, e->pass, on_link_gone, e);
	forget_ways(e);
	table_sweep(&e->host_addrs, e->pass, on_addr_gone, e);
}

void shortcuts_fill(struct ebpf *e)
{
	fill_ports(e);
	fill_addrs(e);
	fill_nodes(e);
	fill_link(e);
}
