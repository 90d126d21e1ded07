/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/nft/rules_int.h"

#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

#define MARK_TASK 0x6d000000u
#define MARK_MASQ 0x80000000u

static const uint8_t reply_mac[6] = { 0x02, 0x50, 0, 0, 0, 1 }; /* bpf/ingress.h */
enum { MAC_MARK = 0x4c, MAC_MASQ = 2, MAC_VARIANTS = 4 };

uint32_t rules_v4(const struct dp_ip *ip)
{
	return (uint32_t)ip->b[12] << 24 | (uint32_t)ip->b[13] << 16 | (uint32_t)ip->b[14] << 8 | ip->b[15];
}

static struct dp_ip ip_of(uint32_t a)
{
	return (struct dp_ip){
		{ [10] = 0xff, 0xff, (uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8), (uint8_t)a }
	};
}

struct rules_ip_text rules_ip_text(const struct dp_ip *ip)
{
	struct rules_ip_text t = { 0 };
	dp_ip_format(ip, t.s);
	return t;
}

static struct rules_ip_text mac_text(const uint8_t *m)
{
	struct rules_ip_text t = { 0 };
	snprintf(t.s, sizeof(t.s), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return t;
}
#define MAC(x) (mac_text(x).s)

static const char *proto_of(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : "udp";
}

/* ---- what there is ------------------------------------------------------------------------------- */

static void put(struct map *m, const char *key, char *value)
{
	free(map_put(m, key, value));
}

void rules_elem(struct rules *r, const char *data, const char *fmt, ...)
{
	char key[160];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	put(&r->elems, key, xstrdup(data));
}

void rules_takes(struct rules *r, const struct ebpf_backend *b, const struct dp_ip *ip)
{
	if (b->state == DP_SERVING)
		put(&r->takes, IP(ip), xstrdup(""));
}

void rules_chain(struct rules *r, const char *name, struct buf *body)
{
	put(&r->chains, name, buf_take_str(body));
}

void rules_switch(struct rules *r, const char *name, struct buf *body)
{
	const char *text = buf_str(body);
	CLEAN_FREE char *at = xasprintf("%s_%016llx", name, (unsigned long long)hash64(text, strlen(text)));
	rules_chain(r, at, body);
	buf_printf(body, "goto %s", at);
	rules_chain(r, name, body);
}

const char *rules_refused(struct rules *r, uint64_t service, char out[32])
{
	snprintf(out, 32, RULES_REFUSED SERVICE, (unsigned long long)service);
	put(&r->counters, out, xstrdup(""));
	return out;
}

const struct item *rules_service(const struct rules_in *in, uint64_t key)
{
	struct item like = { .kind = ITEM_SERVICE, .svc.key = key };
	return plan_table_get(in->have, &like);
}

static const struct item *network_of(const struct rules_in *in, uint32_t vni)
{
	struct item like = { .kind = ITEM_NETWORK, .network.vni = vni };
	return plan_table_get(in->have, &like);
}

static const struct rules_iface *iface_of(const struct rules_in *in, uint32_t vni, const struct dp_ip *ip)
{
	for (size_t i = 0; i < in->n_ifaces; i++)
		if (in->ifaces[i].vni == vni && memcmp(&in->ifaces[i].ip, ip, sizeof(*ip)) == 0)
			return &in->ifaces[i];
	return NULL;
}

uint32_t rules_task_mark(const struct dp_ip *ip)
{
	return MARK_TASK | (rules_v4(ip) & 0xffffff);
}

/* Never on a wire: class E, routed over the tunnel device, so that "dup" can name another node. */
struct dp_ip rules_way_to(const struct dp_ip *node)
{
	return ip_of(0xf0000000u | (rules_v4(node) & 0x0fffffff));
}

/* ---- elements ------------------------------------------------------------------------------------ */

static void mesh_port(struct rules *r, const struct rules_in *in, const struct ebpf_port *p)
{
	const struct item *svc = rules_service(in, p->service);
	const char *proto = proto_of(p->proto);
	char name[48];
	if (!svc)
		return;
	if (!p->closed_here) {
		snprintf(name, sizeof(name), "goto p_" SERVICE, (unsigned long long)p->service);
		rules_elem(r, name, "published\n%s . %u", proto, p->published);
		snprintf(name, sizeof(name), "goto o_" SERVICE, (unsigned long long)p->service);
		rules_elem(r, name, "published_lo\n%s . %u", proto, p->published);
		CLEAN_FREE char *self = xasprintf("%s . %u", IP(&in->self), p->published);
		rules_elem(r, self, "here\n0x%08x . %s . %u", MARK_SELF, proto, p->published);
	}
	if (svc->svc.direct_return)
		rules_elem(r, "", "direct\n%s . %u", proto, p->published);
	for (size_t i = 0; i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		const struct rules_iface *f = b->local ? iface_of(in, svc->svc.vni, &b->ip) : NULL;
		uint8_t mac[6];
		if (!f)
			continue;
		rules_takes(r, b, &f->answer);
		CLEAN_FREE char *to = xasprintf("%s . %u", IP(&f->answer), p->target);
		dp_mac_of(&b->ip, mac);
		rules_elem(r, to, "here\n0x%08x . %s . %u", rules_task_mark(&b->ip), proto, p->published);
		rules_elem(r, to, "tunnelled\n%s . %s . %u", MAC(mac), proto, p->published);
	}
}

static void port(struct rules *r, const struct rules_in *in, const struct ebpf_port *p)
{
	if (!p->host_mode) {
		mesh_port(r, in, p);
	} else if (!p->closed_here) {
		CLEAN_FREE char *to = xasprintf("%s . %u", IP(&p->ip), p->target);
		rules_elem(r, to, "hostports\n%s . %u", proto_of(p->proto), p->published);
	}
}

static void network(struct rules *r, const struct ebpf_network *n)
{
	CLEAN_FREE char *subnet = xasprintf("%s/%u", IP(&n->subnet), n->prefix);
	rules_elem(r, "", "overlay\n%s", subnet);
	rules_elem(r, "", "samenet\n%s . %s", subnet, subnet);
	rules_elem(r, "", "pings\n%s", IP(&n->gateway));
}

static void node(struct rules *r, const struct rules_in *in, const struct dp_ip *addr)
{
	struct dp_ip way = rules_way_to(addr);
	rules_elem(r, "", "nodes\n%s", IP(addr));
	if (memcmp(addr, &in->self, sizeof(*addr)) == 0)
		return;
	for (unsigned v = 0; v < MAC_VARIANTS; v++) {
		uint8_t mac[6] = { 0x02, (uint8_t)(MAC_MARK | v) };
		memcpy(mac + 2, addr->b + 12, 4);
		uint32_t mark = (rules_v4(addr) & ~MARK_MASQ) | (v & MAC_MASQ ? MARK_MASQ : 0);
		char text[16];
		snprintf(text, sizeof(text), "0x%08x", mark);
		rules_elem(r, text, "origins\n%s", MAC(mac));
		rules_elem(r, IP(&way), "ways_back\n%s", text);
		if (mark & MARK_MASQ)
			rules_elem(r, IP(addr), "masq_as\n%s", text);
	}
}

static void ifaces(struct rules *r, const struct rules_in *in)
{
	for (size_t i = 0; i < in->n_ifaces; i++) {
		const struct rules_iface *f = &in->ifaces[i];
		const struct item *net = network_of(in, f->vni);
		uint8_t mac[6];
		dp_mac_of(&f->ip, mac);
		rules_elem(r, "", "ifaddrs\n\"%s\" . %s . %s", f->host_name, IP(&f->ip), MAC(mac));
		for (size_t k = 0; k < COUNT_VIP_CONNS; k++)
			rules_elem(r, "", "%s\n%s", rules_counting[k], IP(&f->ip));
		if (net)
			rules_elem(r, IP(&net->network.gateway), "hairpins\n%s . %s", IP(&f->ip), IP(&f->ip));
	}
	for (size_t i = 0; i < in->n_masquerade; i++)
		if (dp_ip_is_v4(&in->masquerade[i]))
			rules_elem(r, "", "tasks\n%s", IP(&in->masquerade[i]));
}

/* ---- routes -------------------------------------------------------------------------------------- */

static void route(struct rules *r, const struct rules_route *x)
{
	char key[64];
	snprintf(key, sizeof(key), "%s/%u", IP(&x->dst), x->prefix);
	put(&r->routes, key, xmemdup(x, sizeof(*x)));
}

static void routes(struct rules *r, const struct rules_in *in)
{
	uint32_t ingress = 0;
	MAP_FOREACH(&in->have->items, e) {
		const struct item *i = e->value;
		if (i->kind != ITEM_NETWORK || !i->network.vni || !dp_ip_is_v4(&i->network.subnet))
			continue;
		if (i->network.ingress)
			ingress = i->network.vni;
		route(r, &(struct rules_route){ .dst = i->network.subnet, .prefix = i->network.prefix });
	}
	MAP_FOREACH(&in->have->items, e) {
		const struct item *i = e->value;
		struct rules_route x = { .prefix = 32 };
		if (i->kind == ITEM_ENDPOINT && !i->endpoint.local && dp_ip_is_v4(&i->endpoint.ip)) {
			x.dst = i->endpoint.ip;
			x.node = i->endpoint.node;
			x.vni = i->endpoint.vni;
			dp_mac_of(&x.dst, x.mac);
			route(r, &x);
		} else if (i->kind == ITEM_NODE && ingress && memcmp(&i->addr, &in->self, sizeof(i->addr)) != 0) {
			x.dst = rules_way_to(&i->addr);
			x.node = i->addr;
			x.vni = ingress;
			memcpy(x.mac, reply_mac, 6);
			route(r, &x);
		}
	}
}

bool rules_route_equal(const struct rules_route *a, const struct rules_route *b)
{
	return memcmp(&a->dst, &b->dst, sizeof(a->dst)) == 0 && memcmp(&a->node, &b->node, sizeof(a->node)) == 0 &&
	       a->prefix == b->prefix && a->vni == b->vni && memcmp(a->mac, b->mac, 6) == 0;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

void rules_build(const struct rules_in *in, struct rules *out)
{
	struct map used = { 0 }; /* services behind a published port */
	MAP_FOREACH(&in->have->items, e) {
		const struct item *i = e->value;
		char key[24];
		switch (i->kind) {
		case ITEM_HOST_ADDR:
			if (dp_ip_is_v4(&i->addr))
				rules_elem(out, "", "addrs\n%s", IP(&i->addr));
			break;
		case ITEM_NODE:
			if (dp_ip_is_v4(&i->addr))
				node(out, in, &i->addr);
			break;
		case ITEM_NETWORK:
			if (dp_ip_is_v4(&i->network.subnet))
				network(out, &i->network);
			break;
		case ITEM_VIP:
			if (dp_ip_is_v4(&i->addr))
				rules_vip(out, in, i);
			break;
		case ITEM_PORT:
			port(out, in, &i->port);
			snprintf(key, sizeof(key), "%llx", (unsigned long long)i->port.service);
			if (i->port.host_mode || map_has(&used, key) || !rules_service(in, i->port.service))
				break;
			map_put(&used, key, out);
			rules_published(out, in, rules_service(in, i->port.service));
			break;
		default:
			break;
		}
	}
	map_fini(&used);
	ifaces(out, in);
	routes(out, in);
	rules_standing(out, in);
}

/* Who asked once has its answer. A stream, or who waits for an answer, keeps its task. */
#define RESTS_S 2

bool rules_moves(const struct rules *a, const struct rules *b, const struct ct_flow *f, uint32_t quiet_s)
{
	return f->protocol == IPPROTO_UDP && f->answered && quiet_s >= RESTS_S && map_has(&a->takes, IP(&f->answers)) &&
	       !map_has(&b->takes, IP(&f->answers));
}

void rules_fini(struct rules *r)
{
	struct map *maps[] = { &r->elems, &r->chains,       &r->counters,      &r->routes,
		               &r->takes, &r->stale_chains, &r->stale_counters };
	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		MAP_FOREACH(maps[i], e)
			free(e->value);
		map_fini(maps[i]);
	}
}
