/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/nft/rules.h"

#include <math.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>

#define SLOTS 128
#define MARK_TASK 0x6d000000u
#define MARK_SELF 0x6dffffffu
#define MARK_MASQ 0x80000000u
#define SERVICE "%016llx"

static const uint8_t reply_mac[6] = { 0x02, 0x50, 0, 0, 0, 1 }; /* bpf/ingress.h */
enum { MAC_MARK = 0x4c, MAC_MASQ = 2, MAC_VARIANTS = 4 };

static uint32_t v4(const struct dp_ip *ip)
{
	return (uint32_t)ip->b[12] << 24 | (uint32_t)ip->b[13] << 16 | (uint32_t)ip->b[14] << 8 | ip->b[15];
}

static struct dp_ip ip_of(uint32_t a)
{
	return (struct dp_ip){
		{ [10] = 0xff, 0xff, (uint8_t)(a >> 24), (uint8_t)(a >> 16), (uint8_t)(a >> 8), (uint8_t)a }
	};
}

/* Text of addresses for a few arguments of one call. */
struct text {
	char s[DP_IP_TEXT_MAX];
};
static struct text ip_text(const struct dp_ip *ip)
{
	struct text t = { 0 };
	dp_ip_format(ip, t.s);
	return t;
}
static struct text mac_text(const uint8_t *m)
{
	struct text t = { 0 };
	snprintf(t.s, sizeof(t.s), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5]);
	return t;
}
#define IP(x) (ip_text(x).s)
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

/* key: "set\nkey" as printed. */
static void elem(struct rules *r, const char *data, const char *fmt, ...) MESH_PRINTF(3, 4);
static void elem(struct rules *r, const char *data, const char *fmt, ...)
{
	char key[160];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(key, sizeof(key), fmt, ap);
	va_end(ap);
	put(&r->elems, key, xstrdup(data));
}

static void chain(struct rules *r, const char *name, struct buf *body)
{
	put(&r->chains, name, buf_take_str(body));
}

static const struct item *service_of(const struct rules_in *in, uint64_t key)
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

static uint32_t task_mark(const struct dp_ip *ip)
{
	return MARK_TASK | (v4(ip) & 0xffffff);
}

/* Never on a wire: class E, routed over the tunnel device, so that "dup" can name another node. */
struct dp_ip rules_way_to(const struct dp_ip *node)
{
	return ip_of(0xf0000000u | (v4(node) & 0x0fffffff));
}

/* ---- choosing a backend -------------------------------------------------------------------------- */

struct choice VEC(const struct ebpf_backend *);

static void serving(const struct item *svc, struct choice *out)
{
	for (size_t i = 0; svc && i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		if (b->state == DP_SERVING && !b->spare && dp_ip_is_v4(&b->ip))
			vec_push(out, b);
	}
}

/* The highest of a backend's scores wins the slot: a backend that comes or goes moves no slot between others. */
static const struct ebpf_backend *winner(const struct choice *c, unsigned slot)
{
	const struct ebpf_backend *best = NULL;
	double top = 0;
	for (size_t i = 0; i < c->len; i++) {
		uint32_t key[2] = { slot, v4(&c->data[i]->ip) };
		double u = ((double)(hash64(key, sizeof(key)) >> 11) + 0.5) / 9007199254740992.0;
		double score = (c->data[i]->weight ? c->data[i]->weight : 1) / -log(u);
		if (!best || score > top) {
			best = c->data[i];
			top = score;
		}
	}
	return best;
}

static const char *backend_chain(const struct ebpf_backend *b, char out[16])
{
	snprintf(out, 16, "%s_%08x", b->local ? "l" : "r", v4(&b->ip));
	return out;
}

static void backend_rules(struct rules *r, const struct rules_in *in, const struct ebpf_backend *b)
{
	struct buf body = { 0 };
	char name[16];
	if (b->local)
		buf_printf(&body, "meta mark set 0x%08x", task_mark(&b->ip));
	else /* not on the output hook, whose packets come again through lo */
		buf_printf(&body, "meta iif != 0 dup to %s device \"%s\" drop", IP(&b->ip), in->vxlan);
	chain(r, backend_chain(b, name), &body);
}

typedef void (*slot_fn)(struct buf *b, const struct ebpf_backend *backend);
static void goto_backend(struct buf *b, const struct ebpf_backend *backend)
{
	char name[16];
	buf_printf(b, "goto %s", backend_chain(backend, name));
}
static void addr_of_backend(struct buf *b, const struct ebpf_backend *backend)
{
	buf_puts(b, IP(&backend->ip));
}

static void range(struct buf *b, uint64_t from, uint64_t to)
{
	buf_printf(b, "%llu", (unsigned long long)from);
	if (to > from)
		buf_printf(b, "-%llu", (unsigned long long)to);
	buf_puts(b, " : ");
}

/* "{ 0-3 : ..., 4 : ... }" of the hash slots. */
static void slots(struct buf *b, const struct choice *c, slot_fn data)
{
	const struct ebpf_backend *at = winner(c, 0);
	unsigned from = 0;
	buf_puts(b, "{ ");
	for (unsigned i = 1; i <= SLOTS; i++) {
		const struct ebpf_backend *next = i < SLOTS ? winner(c, i) : NULL;
		if (next == at)
			continue;
		range(b, from, i - 1);
		data(b, at);
		buf_puts(b, next ? ", " : " }");
		from = i;
		at = next;
	}
}

static void vip_rules(struct rules *r, const struct rules_in *in, const struct item *vip)
{
	const struct item *svc = service_of(in, vip->service);
	struct choice c = { 0 };
	struct buf body = { 0 };
	char name[32];
	uint64_t total = 0;
	if (!svc)
		return;
	serving(svc, &c);
	for (size_t i = 0; i < c.len; i++)
		total += c.data[i]->weight ? c.data[i]->weight : 1;
	if (c.len == 1) {
		buf_printf(&body, "meta l4proto { tcp, udp } dnat to %s\n", IP(&c.data[0]->ip));
	} else if (c.len && svc->svc.affinity_s) {
		buf_printf(&body, "meta l4proto { tcp, udp } dnat to jhash ip saddr mod %d seed 0x1 map ", SLOTS);
		slots(&body, &c, addr_of_backend);
		buf_puts(&body, "\n");
	} else if (c.len) {
		uint64_t at = 0;
		buf_printf(&body, "meta l4proto { tcp, udp } dnat to numgen random mod %llu map { ",
		           (unsigned long long)total);
		for (size_t i = 0; i < c.len; i++) {
			uint64_t w = c.data[i]->weight ? c.data[i]->weight : 1;
			range(&body, at, at + w - 1);
			buf_printf(&body, "%s%s", IP(&c.data[i]->ip), i + 1 < c.len ? ", " : " }\n");
			at += w;
		}
	}
	buf_puts(&body, "drop");
	snprintf(name, sizeof(name), "v_" SERVICE, (unsigned long long)vip->service);
	chain(r, name, &body);
	CLEAN_FREE char *verdict = xasprintf("goto %s", name);
	elem(r, verdict, "vips\n%s", IP(&vip->addr));
	elem(r, "", "pings\n%s", IP(&vip->addr));
	vec_fini(&c);
}

/* Connections of this machine to 127.0.0.1: tasks elsewhere could not answer there, unless our address stands in. */
static void loopback_rules(struct buf *b, const struct choice *c)
{
	struct choice here = { 0 };
	for (size_t i = 0; i < c->len; i++)
		if (c->data[i]->local)
			vec_push(&here, c->data[i]);
	if (!here.len)
		buf_printf(b, "meta mark set 0x%08x", MARK_SELF);
	else if (here.len == 1)
		buf_printf(b, "meta mark set 0x%08x", task_mark(&here.data[0]->ip));
	else
		buf_printf(b, "meta mark set numgen random mod %zu map { ", here.len);
	for (size_t i = 0; here.len > 1 && i < here.len; i++)
		buf_printf(b, "%zu : 0x%08x%s", i, task_mark(&here.data[i]->ip), i + 1 < here.len ? ", " : " }");
	vec_fini(&here);
}

/* "ip saddr != { ... } drop": of the ranges of one kind, when there are any. */
static void range_rule(struct buf *b, const struct item *svc, bool dialled, const char *match, const char *verdict)
{
	bool any = false;
	for (size_t i = 0; i < svc->ranges.len; i++) {
		const struct ebpf_range *x = &svc->ranges.data[i];
		if (x->dialled != dialled || !dp_ip_is_v4(&x->net))
			continue;
		if (any)
			buf_puts(b, ", ");
		else
			buf_printf(b, "%s != { ", match);
		buf_printf(b, "%s/%u", IP(&x->net), x->prefix);
		any = true;
	}
	if (any)
		buf_printf(b, " } %s\n", verdict);
}

static void published_rules(struct rules *r, const struct rules_in *in, const struct item *svc)
{
	struct choice c = { 0 };
	struct buf body = { 0 }, lo = { 0 };
	char name[32];
	serving(svc, &c);
	for (size_t i = 0; i < c.len; i++)
		backend_rules(r, in, c.data[i]);
	range_rule(&body, svc, true, "ip daddr", "return");
	range_rule(&lo, svc, true, "ip daddr", "return");
	range_rule(&body, svc, false, "ip saddr", "drop");
	if (!c.len) {
		buf_puts(&body, "drop");
		buf_puts(&lo, "drop");
	} else {
		buf_printf(&body, "jhash %s mod %d seed 0x1 vmap ",
		           svc->svc.affinity_s ? "ip saddr" : "ip saddr . th sport . ip daddr . th dport", SLOTS);
		slots(&body, &c, goto_backend);
		loopback_rules(&lo, &c);
	}
	snprintf(name, sizeof(name), "p_" SERVICE, (unsigned long long)svc->svc.key);
	chain(r, name, &body);
	snprintf(name, sizeof(name), "o_" SERVICE, (unsigned long long)svc->svc.key);
	chain(r, name, &lo);
	vec_fini(&c);
}

/* ---- elements ------------------------------------------------------------------------------------ */

static void mesh_port(struct rules *r, const struct rules_in *in, const struct ebpf_port *p)
{
	const struct item *svc = service_of(in, p->service);
	const char *proto = proto_of(p->proto);
	char name[48];
	if (!svc)
		return;
	if (!p->closed_here) {
		snprintf(name, sizeof(name), "goto p_" SERVICE, (unsigned long long)p->service);
		elem(r, name, "published\n%s . %u", proto, p->published);
		snprintf(name, sizeof(name), "goto o_" SERVICE, (unsigned long long)p->service);
		elem(r, name, "published_lo\n%s . %u", proto, p->published);
		CLEAN_FREE char *self = xasprintf("%s . %u", IP(&in->self), p->published);
		elem(r, self, "here\n0x%08x . %s . %u", MARK_SELF, proto, p->published);
	}
	if (svc->svc.direct_return)
		elem(r, "", "direct\n%s . %u", proto, p->published);
	for (size_t i = 0; i < svc->backends.len; i++) {
		const struct ebpf_backend *b = &svc->backends.data[i];
		const struct rules_iface *f = b->local ? iface_of(in, svc->svc.vni, &b->ip) : NULL;
		uint8_t mac[6];
		if (!f)
			continue;
		CLEAN_FREE char *to = xasprintf("%s . %u", IP(&f->answer), p->target);
		dp_mac_of(&b->ip, mac);
		elem(r, to, "here\n0x%08x . %s . %u", task_mark(&b->ip), proto, p->published);
		elem(r, to, "tunnelled\n%s . %s . %u", MAC(mac), proto, p->published);
	}
}

static void port(struct rules *r, const struct rules_in *in, const struct ebpf_port *p)
{
	if (!p->host_mode) {
		mesh_port(r, in, p);
	} else if (!p->closed_here) {
		CLEAN_FREE char *to = xasprintf("%s . %u", IP(&p->ip), p->target);
		elem(r, to, "hostports\n%s . %u", proto_of(p->proto), p->published);
	}
}

static void network(struct rules *r, const struct ebpf_network *n)
{
	CLEAN_FREE char *subnet = xasprintf("%s/%u", IP(&n->subnet), n->prefix);
	elem(r, "", "overlay\n%s", subnet);
	elem(r, "", "samenet\n%s . %s", subnet, subnet);
	elem(r, "", "pings\n%s", IP(&n->gateway));
}

static void node(struct rules *r, const struct rules_in *in, const struct dp_ip *addr)
{
	struct dp_ip way = rules_way_to(addr);
	elem(r, "", "nodes\n%s", IP(addr));
	if (memcmp(addr, &in->self, sizeof(*addr)) == 0)
		return;
	for (unsigned v = 0; v < MAC_VARIANTS; v++) {
		uint8_t mac[6] = { 0x02, (uint8_t)(MAC_MARK | v) };
		memcpy(mac + 2, addr->b + 12, 4);
		uint32_t mark = (v4(addr) & ~MARK_MASQ) | (v & MAC_MASQ ? MARK_MASQ : 0);
		char text[16];
		snprintf(text, sizeof(text), "0x%08x", mark);
		elem(r, text, "origins\n%s", MAC(mac));
		elem(r, IP(&way), "ways_back\n%s", text);
		if (mark & MARK_MASQ)
			elem(r, IP(addr), "masq_as\n%s", text);
	}
}

static void ifaces(struct rules *r, const struct rules_in *in)
{
	for (size_t i = 0; i < in->n_ifaces; i++) {
		const struct rules_iface *f = &in->ifaces[i];
		const struct item *net = network_of(in, f->vni);
		elem(r, "", "ifaddrs\n\"%s\" . %s", f->host_name, IP(&f->ip));
		if (net)
			elem(r, IP(&net->network.gateway), "hairpins\n%s . %s", IP(&f->ip), IP(&f->ip));
	}
	for (size_t i = 0; i < in->n_masquerade; i++)
		if (dp_ip_is_v4(&in->masquerade[i]))
			elem(r, "", "tasks\n%s", IP(&in->masquerade[i]));
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
				elem(out, "", "addrs\n%s", IP(&i->addr));
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
				vip_rules(out, in, i);
			break;
		case ITEM_PORT:
			port(out, in, &i->port);
			snprintf(key, sizeof(key), "%llx", (unsigned long long)i->port.service);
			if (i->port.host_mode || map_has(&used, key) || !service_of(in, i->port.service))
				break;
			map_put(&used, key, out);
			published_rules(out, in, service_of(in, i->port.service));
			break;
		default:
			break;
		}
	}
	map_fini(&used);
	ifaces(out, in);
	routes(out, in);
}

void rules_fini(struct rules *r)
{
	struct map *maps[] = { &r->elems, &r->chains, &r->routes };
	for (size_t i = 0; i < 3; i++) {
		MAP_FOREACH(maps[i], e)
			free(e->value);
		map_fini(maps[i]);
	}
}

/* ---- text ---------------------------------------------------------------------------------------- */

static void add_chains(struct buf *out, const char *mark, const struct map *chains, const struct map *old)
{
	MAP_FOREACH(chains, e) {
		const char *was = old ? map_get(old, e->key) : NULL;
		if (!was)
			buf_printf(out, "add chain ip %s_lb %s\n", mark, e->key);
	}
	MAP_FOREACH(chains, e) {
		const char *was = old ? map_get(old, e->key) : NULL;
		if (was && strcmp(was, e->value) == 0)
			continue;
		if (was)
			buf_printf(out, "flush chain ip %s_lb %s\n", mark, e->key);
		for (const char *p = e->value; *p;) {
			size_t n = strcspn(p, "\n");
			buf_printf(out, "add rule ip %s_lb %s %.*s\n", mark, e->key, (int)n, p);
			p += n + (p[n] == '\n');
		}
	}
}

static void one_elem(struct buf *out, const char *verb, const char *mark, const char *key, const char *data)
{
	const char *nl = strchr(key, '\n');
	buf_printf(out, "%s element ip %s_lb %.*s { %s%s%s }\n", verb, mark, (int)(nl - key), key, nl + 1,
	           *data ? " : " : "", data);
}

void rules_change_text(const char *mark, const struct rules *a, const struct rules *b, struct buf *out)
{
	add_chains(out, mark, &b->chains, &a->chains);
	MAP_FOREACH(&a->elems, e) {
		const char *now = map_get(&b->elems, e->key);
		if (!now || strcmp(now, e->value) != 0)
			one_elem(out, "delete", mark, e->key, "");
	}
	MAP_FOREACH(&b->elems, e) {
		const char *was = map_get(&a->elems, e->key);
		if (!was || strcmp(was, e->value) != 0)
			one_elem(out, "add", mark, e->key, e->value);
	}
	MAP_FOREACH(&a->chains, e)
		if (!map_has(&b->chains, e->key))
			buf_printf(out, "flush chain ip %s_lb %s\n", mark, e->key);
	MAP_FOREACH(&a->chains, e)
		if (!map_has(&b->chains, e->key))
			buf_printf(out, "delete chain ip %s_lb %s\n", mark, e->key);
}

static const char *const sets[][2] = {
	{ "set addrs", "ipv4_addr" },
	{ "set nodes", "ipv4_addr" },
	{ "set tasks", "ipv4_addr" },
	{ "set pings", "ipv4_addr" },
	{ "set ifaddrs", "ifname . ipv4_addr" },
	{ "set direct", "inet_proto . inet_service" },
	{ "set overlay", "ipv4_addr; flags interval" },
	{ "set samenet", "ipv4_addr . ipv4_addr; flags interval" },
	{ "map vips", "ipv4_addr : verdict" },
	{ "map published", "inet_proto . inet_service : verdict" },
	{ "map published_lo", "inet_proto . inet_service : verdict" },
	{ "map hostports", "inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map here", "mark . inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map tunnelled", "ether_addr . inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map origins", "ether_addr : mark" },
	{ "map ways_back", "mark : ipv4_addr" },
	{ "map masq_as", "mark : ipv4_addr" },
	{ "map hairpins", "ipv4_addr . ipv4_addr : ipv4_addr" },
};

/* @V the tunnel device, @M every device of ours, @S this node's address, @P the tunnel's port. */
static const char base[] =
	"chain untrack {\n"
	" type filter hook prerouting priority raw; policy accept;\n"
	" iifname \"@V\" ether daddr 02:50:00:00:00:01 fib daddr type != local notrack\n"
	/* This machine's own connection to another node has the same addresses when that node sends it back here. */
	" iifname \"@V\" ether daddr != 02:50:00:00:00:01 ip daddr != @overlay ct original zone set 1\n"
	"}\n"
	"chain from_task {\n"
	" ct state established,related return\n"
	" iifname . ip saddr != @ifaddrs counter drop\n"
	" ip daddr 127.0.0.0/8 counter drop\n"
	/* As packets of this node's other nodes would believe them. */
	" ip daddr != @overlay udp dport @P counter drop\n"
	" ip daddr @overlay ip saddr . ip daddr != @samenet counter drop\n"
	"}\n"
	"chain choose {\n"
	" type filter hook prerouting priority mangle; policy accept;\n"
	" iifname \"@V\" return\n"
	" iifname \"@M*\" jump from_task\n"
	" iifname != \"lo\" ct status dnat return\n"
	" ip daddr @addrs meta l4proto . th dport vmap @published\n"
	"}\n"
	"chain choose_here {\n"
	" type filter hook output priority mangle; policy accept;\n"
	" oifname \"@M*\" return\n"
	" ct status dnat return\n"
	" ip daddr 127.0.0.0/8 meta l4proto . th dport vmap @published_lo\n"
	" ip daddr @addrs meta l4proto . th dport vmap @published\n"
	"}\n"
	"chain from_node {\n"
	" meta l4proto . th dport != @direct ct mark set ether saddr map @origins\n"
	" dnat ip to ether daddr . meta l4proto . th dport map @tunnelled\n"
	" counter drop\n"
	"}\n"
	"chain translate {\n"
	" type nat hook prerouting priority dstnat; policy accept;\n"
	" iifname \"@V\" ether daddr != 02:50:00:00:00:01 ip daddr != @overlay goto from_node\n"
	" iifname \"@M*\" ip daddr @pings icmp type echo-request dnat to @S\n"
	" iifname \"@M*\" ip daddr vmap @vips\n"
	" dnat ip to meta mark . meta l4proto . th dport map @here\n"
	" ip daddr @addrs dnat ip to meta l4proto . th dport map @hostports\n"
	"}\n"
	"chain unmark {\n"
	" type filter hook prerouting priority -99; policy accept;\n"
	" meta mark & 0xff000000 == 0x6d000000 meta mark set 0x0\n"
	"}\n"
	"chain translate_here {\n"
	" type nat hook output priority -100; policy accept;\n"
	" dnat ip to meta mark . meta l4proto . th dport map @here\n"
	" ip daddr @addrs dnat ip to meta l4proto . th dport map @hostports\n"
	" ip daddr 127.0.0.0/8 dnat ip to meta l4proto . th dport map @hostports\n"
	"}\n"
	"chain shield {\n"
	" type filter hook forward priority -1; policy accept;\n"
	" ct state established,related accept\n"
	" ct status dnat accept\n"
	" iifname \"@V\" ip saddr . ip daddr @samenet accept\n"
	" iifname \"@V\" ct state untracked accept\n"
	" iifname != \"@V\" iifname \"@M*\" ip daddr @overlay accept\n"
	" iifname != \"@V\" iifname \"@M*\" ip saddr @tasks accept\n"
	" iifname \"@M*\" counter drop\n"
	" ip daddr @overlay counter drop\n"
	"}\n"
	"chain nodes_only {\n"
	" type filter hook input priority -1; policy accept;\n"
	" ip daddr @S udp dport @P ip saddr != @nodes counter drop\n"
	"}\n"
	"chain leave {\n"
	" type nat hook postrouting priority srcnat; policy accept;\n"
	" snat to ip saddr . ip daddr map @hairpins\n"
	" snat to ct mark map @masq_as\n"
	" oifname \"@M*\" ip saddr 127.0.0.0/8 snat to @S\n"
	" oifname \"lo\" ip saddr 127.0.0.0/8 ct status dnat snat to @S\n"
	" oifname { \"@M*\", \"lo\" } return\n"
	" ip saddr @tasks masquerade\n"
	"}\n"
	"chain answer {\n"
	" type filter hook postrouting priority 300; policy accept;\n"
	" ct direction reply dup to ct mark map @ways_back device \"@V\" drop\n"
	"}\n";

static void put_base(struct buf *out, const struct rules_in *in)
{
	for (const char *p = base; *p; p++) {
		char next = *p == '@' ? p[1] : '\0';
		bool ours = next && strchr("VMSP", next);
		if (!ours) {
			buf_put(out, p, 1);
			continue;
		}
		p++;
		if (next == 'V')
			buf_puts(out, in->vxlan);
		else if (next == 'M')
			buf_puts(out, in->mark);
		else if (next == 'S')
			buf_puts(out, IP(&in->self));
		else
			buf_printf(out, "%u", in->vxlan_port);
	}
}

/* One command a set: the elements of intervals are checked against each other. */
static void load_set(struct buf *out, const char *mark, const char *set, const struct map *elems)
{
	size_t n = strlen(set);
	bool any = false;
	MAP_FOREACH(elems, e) {
		const char *data = e->value;
		if (strncmp(e->key, set, n) != 0 || e->key[n] != '\n')
			continue;
		if (any)
			buf_puts(out, ", ");
		else
			buf_printf(out, "add element ip %s_lb %s { ", mark, set);
		any = true;
		buf_printf(out, "%s%s%s", e->key + n + 1, *data ? " : " : "", data);
	}
	if (any)
		buf_puts(out, " }\n");
}

void rules_load_text(const struct rules_in *in, const struct rules *r, struct buf *out)
{
	const char *families[] = { "ip", "netdev" };
	for (size_t i = 0; i < 2; i++)
		buf_printf(out, "add table %s %s_lb\ndelete table %s %s_lb\n", families[i], in->mark, families[i],
		           in->mark);
	/* Frames for tasks come to a device with a MAC of its own: the stack would take them for others'. */
	buf_printf(out,
	           "table netdev %s_lb {\nchain frames {\n type filter hook ingress device \"%s\" priority 0; policy "
	           "accept;\n"
	           " meta pkttype set host\n}\n}\n",
	           in->mark, in->vxlan);
	buf_printf(out, "table ip %s_lb {\n", in->mark);
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		buf_printf(out, "%s { type %s; }\n", sets[i][0], sets[i][1]);
	put_base(out, in);
	buf_puts(out, "}\n");
	add_chains(out, in->mark, &r->chains, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++)
		load_set(out, in->mark, sets[i][0] + 4, &r->elems);
}
