/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Packets on show, with the names of this node's state. */
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "dataplane/dp_int.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

/* ---- names --------------------------------------------------------------------------------------- */

static const char *of_endpoint(const struct dp *d, const struct dp_ip *ip)
{
	char text[DP_IP_TEXT_MAX];
	dp_ip_format(ip, text);
	MAP_FOREACH(&d->desired.endpoints, e) {
		const struct dp_endpoint *p = e->value;
		if (p->addr && streq(p->addr, text))
			return p->names.n ? p->names.v[0] : p->task.s;
	}
	return NULL;
}

static const char *of_service(const struct dp *d, const struct dp_ip *ip)
{
	char text[DP_IP_TEXT_MAX];
	dp_ip_format(ip, text);
	MAP_FOREACH(&d->desired.services, e) {
		const struct dp_service *s = e->value;
		if (s->vip && streq(s->vip, text))
			return s->name;
	}
	return NULL;
}

static const char *of_node(const struct dp *d, const struct dp_ip *ip)
{
	char text[DP_IP_TEXT_MAX];
	dp_ip_format(ip, text);
	MAP_FOREACH(&d->desired.nodes, e) {
		const struct dp_node *n = e->value;
		if (n->addr && streq(n->addr, text))
			return n->hostname;
	}
	return NULL;
}

static bool is_none(const struct dp_ip *ip)
{
	static const struct dp_ip none;
	return memcmp(ip, &none, sizeof(none)) == 0;
}

/* "web.1" of "web.1.<task id>". */
static char *short_name(const char *name)
{
	size_t n = name ? strlen(name) : 0;
	if (n > MESH_ID_LEN + 1 && name[n - MESH_ID_LEN - 1] == '.')
		n -= MESH_ID_LEN + 1;
	return name ? xstrndup(name, n) : NULL;
}

static char *name_of(const struct dp *d, const struct dp_ip *ip)
{
	const char *name;
	if (is_none(ip))
		return NULL;
	name = of_endpoint(d, ip);
	if (!name)
		name = of_service(d, ip);
	return short_name(name ? name : of_node(d, ip));
}

static uint64_t cookie_of(const struct dp_task *t)
{
	uint64_t cookie = 0;
	socklen_t len = sizeof(cookie);
	return t->sd >= 0 && getsockopt(t->sd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0 ? cookie : 0;
}

static const struct dp_task *task_of_netns(const struct dp *d, uint64_t netns)
{
	MAP_FOREACH(&d->tasks, e)
		if (netns && cookie_of(e->value) == netns)
			return e->value;
	return NULL;
}

static char *place_text(const struct dp_place *p)
{
	char ip[DP_IP_TEXT_MAX];
	if (is_none(&p->ip))
		return xstrdup("");
	dp_ip_format(&p->ip, ip);
	return p->port ? xasprintf("%s:%u", ip, p->port) : xstrdup(ip);
}

static char *protocol_text(const struct dp_seen *s)
{
	switch (s->ethertype) {
	case 0x0806:
		return xstrdup("arp");
	case 0x86dd:
		return xstrdup("ipv6");
	case 0x0800:
		break;
	default:
		return xasprintf("0x%04x", s->ethertype);
	}
	return s->protocol == IPPROTO_TCP    ? xstrdup("tcp")
	       : s->protocol == IPPROTO_UDP  ? xstrdup("udp")
	       : s->protocol == IPPROTO_ICMP ? xstrdup("icmp")
	                                     : xasprintf("ip %u", s->protocol);
}

static char *flags_text(uint8_t tcp)
{
	static const char *const names[] = { "FIN", "SYN", "RST", "PSH", "ACK", "URG" };
	struct buf b = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (tcp & 1u << i)
			buf_printf(&b, "%s%s", b.len ? " " : "", names[i]);
	return buf_take_str(&b);
}

static char *device_text(uint32_t ifindex)
{
	char name[IF_NAMESIZE];
	return !ifindex ? NULL : if_indextoname(ifindex, name) ? xstrdup(name) : xasprintf("%u", ifindex);
}

static const char *network_of(const struct dp *d, uint32_t vni)
{
	MAP_FOREACH(&d->desired.networks, e) {
		const struct dp_network *n = e->value;
		if (vni && n->vni == vni)
			return n->name;
	}
	return NULL;
}

static void set_names(const struct dp *d, struct dp_event *e, const struct dp_seen *s)
{
	const struct dp_task *t = task_of_netns(d, s->netns);
	const char *network = network_of(d, s->vni);
	e->from_name = t && t->nets.n ? name_of(d, &t->nets.v[0].wire.ip) : name_of(d, &s->from.ip);
	if (t && !e->from_name)
		e->from_name = xstrdup(t->id.s);
	e->to_name = name_of(d, &s->to.ip);
	e->target = name_of(d, is_none(&s->target) && s->netns ? &s->new_to.ip : &s->target);
	e->network = network ? xstrdup(network) : NULL;
	if (!is_none(&s->node)) {
		char ip[DP_IP_TEXT_MAX];
		const char *node = of_node(d, &s->node);
		e->peer = xstrdup(node ? node : dp_ip_format(&s->node, ip));
	}
}

static void set_event(const struct dp *d, struct dp_event *e, const struct dp_seen *s, int64_t offset)
{
	*e = (struct dp_event){ .time = (int64_t)s->mono_ns + offset,
		                .hook = xstrdup(s->hook),
		                .verdict = xstrdup(s->verdict),
		                .reason = xstrdup(s->reason),
		                .text = xstrdup(s->text),
		                .protocol = protocol_text(s),
		                .flags = flags_text(s->tcp),
		                .from = place_text(&s->from),
		                .to = place_text(&s->to),
		                .new_from = place_text(&s->new_from),
		                .new_to = place_text(&s->new_to),
		                .device = device_text(s->ifindex),
		                .out_device = device_text(s->out_ifindex),
		                .vni = s->vni,
		                .length = s->length,
		                .ttl = s->ttl,
		                .watchers = s->watchers,
		                .mono_ns = s->mono_ns,
		                .token = s->netns };
	if (streq(e->new_from, e->from))
		str_set(&e->new_from, "");
	if (streq(e->new_to, e->to))
		str_set(&e->new_to, "");
	for (size_t i = 0; i < s->n_notes; i++)
		strs_add(&e->notes, s->notes[i]);
	set_names(d, e, s);
}

/* ---- watching ------------------------------------------------------------------------------------ */

/* Of from's tasks on this node. */
static void add_netns(const struct dp *d, struct dp_filter *f)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		bool is_from = false;
		for (size_t i = 0; i < t->nets.n; i++)
			for (size_t k = 0; k < f->from.len; k++)
				is_from |=
					memcmp(&t->nets.v[i].wire.ip, &f->from.data[k].ip, sizeof(struct dp_ip)) == 0;
		uint64_t cookie = is_from ? cookie_of(t) : 0;
		if (cookie)
			vec_push(&f->netns, cookie);
	}
}

void dp_do_watch(struct dp *d, unsigned watcher, struct dp_filter *f)
{
	struct mesh_err err = { 0 };
	struct dp_report r = { .kind = DP_SEEN, .version = watcher };
	int rc;
	add_netns(d, f);
	if (d->drv->watch)
		rc = d->drv->watch(d, watcher, f, &err);
	else
		rc = mesh_fail(&err, MESH_E_UNSUPPORTED,
		               "the %s driver cannot show packets (nft monitor trace on the node can)", d->drv->name);
	if (!rc) {
		d->watchers |= 1u << watcher;
		return;
	}
	r.code = rc;
	snprintf(r.text, sizeof(r.text), "%s", mesh_err_text(&err, rc));
	d->report(d->arg, &r);
}

void dp_do_unwatch(struct dp *d, unsigned watcher)
{
	if (d->watchers & 1u << watcher)
		d->drv->unwatch(d, watcher);
	d->watchers &= ~(1u << watcher);
}

struct reading {
	struct dp *d;
	struct dp_events *events;
	int64_t offset; /* of the wall clock to the monotonic one */
	uint64_t skipped[DP_WATCHERS_MAX];
};

/* More than a person reads, and little enough to leave the thread its other work. */
#define EVENTS_MAX 500

static void on_seen(void *arg, const struct dp_seen *s)
{
	struct reading *r = arg;
	if (r->events && r->events->list.n >= EVENTS_MAX) {
		for (unsigned k = 0; k < DP_WATCHERS_MAX; k++)
			r->skipped[k] += s->watchers >> k & 1;
		return;
	}
	if (!r->events)
		r->events = XNEW(struct dp_events);
	set_event(r->d, LIST_ADD(&r->events->list), s, r->offset);
}

static void add_lost(struct reading *r, unsigned watchers, uint64_t n, const char *reason, const char *text)
{
	struct dp_event e = { .watchers = watchers };
	if (!n)
		return;
	if (!r->events)
		r->events = XNEW(struct dp_events);
	dp_event_set_lost(&e, n, reason, text);
	*LIST_ADD(&r->events->list) = e;
}

void dp_read_seen(struct dp *d)
{
	struct reading r = { .d = d, .offset = clock_wall_ns() - clock_mono_ns() };
	uint64_t unseen = d->drv->watch_read(d, on_seen, &r);
	add_lost(&r, d->watchers, unseen, "ring", "the programs' ring was full: more packets than this node can show");
	for (unsigned k = 0; k < DP_WATCHERS_MAX; k++)
		add_lost(&r, 1u << k, r.skipped[k], "rate", "more than a node shows of all traces together");
	if (!r.events)
		return;
	struct dp_report rep = { .kind = DP_SEEN, .events = r.events };
	d->report(d->arg, &rep);
}
