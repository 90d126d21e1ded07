/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dp_int.h"

/* One look at the node's namespace. */
struct look {
	struct kern_links links;
	struct kern_addrs addrs;
	struct kern_routes routes;
};
static void look_fini(struct look *l)
{
	vec_fini(&l->links);
	vec_fini(&l->addrs);
	vec_fini(&l->routes);
}
static int look_read(struct dp *d, struct look *l)
{
	int rc = kern_links(d->wire.k, &l->links);
	if (!rc)
		rc = kern_addrs(d->wire.k, &l->addrs);
	if (!rc)
		rc = kern_routes(d->wire.k, &l->routes);
	return rc;
}

static const struct kern_link *link_of(const struct look *l, int ifindex)
{
	for (size_t i = 0; i < l->links.len; i++)
		if (l->links.data[i].ifindex == ifindex)
			return &l->links.data[i];
	return NULL;
}

/* ---- the underlay -------------------------------------------------------------------------------- */

static bool is_loopback(const struct dp_ip *ip)
{
	return dp_ip_is_v4(ip) && ip->b[12] == 127;
}

/* The first address of a link, IPv4. */
static const struct kern_addr *addr_on(const struct look *l, int ifindex)
{
	for (size_t i = 0; i < l->addrs.len; i++)
		if (l->addrs.data[i].ifindex == ifindex && dp_ip_is_v4(&l->addrs.data[i].ip))
			return &l->addrs.data[i];
	return NULL;
}

/* data_path_addr may be an address or the name of a link. */
static const struct kern_addr *configured_addr(const struct look *l, const char *text)
{
	struct dp_ip ip;
	if (dp_ip_parse(text, &ip, NULL) == 0) {
		for (size_t i = 0; i < l->addrs.len; i++)
			if (memcmp(&l->addrs.data[i].ip, &ip, sizeof(ip)) == 0)
				return &l->addrs.data[i];
		return NULL;
	}
	for (size_t i = 0; i < l->links.len; i++)
		if (strcmp(l->links.data[i].name, text) == 0)
			return addr_on(l, l->links.data[i].ifindex);
	return NULL;
}

static const struct kern_addr *default_addr(const struct dp *d, const struct look *l)
{
	for (size_t i = 0; i < l->routes.len; i++) {
		const struct kern_route *r = &l->routes.data[i];
		const struct kern_addr *a = !r->prefix && dp_ip_is_v4(&r->dst) ? addr_on(l, r->ifindex) : NULL;
		if (a)
			return a;
	}
	for (size_t i = 0; i < l->addrs.len; i++) {
		const struct kern_addr *a = &l->addrs.data[i];
		const struct kern_link *link = link_of(l, a->ifindex);
		if (dp_ip_is_v4(&a->ip) && !is_loopback(&a->ip) && link && link->up &&
		    !wire_is_own(&d->wire, link->name))
			return a;
	}
	return NULL;
}

int dp_find_underlay(struct dp *d, struct mesh_err *err)
{
	struct look l = { 0 };
	int rc = look_read(d, &l);
	if (rc) {
		look_fini(&l);
		return mesh_fail(err, rc, "reading links and addresses");
	}
	bool configured = d->data_path_addr && *d->data_path_addr;
	const struct kern_addr *a = configured ? configured_addr(&l, d->data_path_addr) : default_addr(d, &l);
	const struct kern_link *link = a ? link_of(&l, a->ifindex) : NULL;
	if (a && dp_ip_is_v4(&a->ip) && link) {
		d->self = a->ip;
		d->underlay_ifindex = link->ifindex;
		d->underlay_mtu = dp_clamp_mtu(link->mtu);
	} else if (configured) {
		rc = mesh_fail(err, MESH_E_INVALID, "data path address '%s' is on no link of this machine",
		               d->data_path_addr);
	} else {
		rc = mesh_fail(err, MESH_E_UNSUPPORTED,
		               "this machine has no IPv4 address to reach other nodes by: "
		               "add one or name it with the data path address");
	}
	look_fini(&l);
	return rc;
}

/* ---- uplinks and host addresses ------------------------------------------------------------------ */

static bool has_int(const int *v, size_t n, int x)
{
	for (size_t i = 0; i < n; i++)
		if (v[i] == x)
			return true;
	return false;
}

/* Links that carry addresses of the host: clients come in there. */
static void update_uplinks(struct dp *d, const struct look *l)
{
	struct VEC(int) want = { 0 };
	for (size_t i = 0; i < l->links.len; i++) {
		const struct kern_link *k = &l->links.data[i];
		if (k->up && strcmp(k->name, "lo") != 0 && !wire_is_own(&d->wire, k->name) && addr_on(l, k->ifindex))
			vec_push(&want, k->ifindex);
	}
	for (size_t i = 0; i < d->uplinks.len; i++)
		if (!has_int(want.data, want.len, d->uplinks.data[i]))
			d->drv->detach_uplink(d, d->uplinks.data[i]);
	for (size_t i = 0; i < want.len;) {
		struct mesh_err err = { 0 };
		int rc = has_int(d->uplinks.data, d->uplinks.len, want.data[i])
		                 ? 0
		                 : d->drv->attach_uplink(d, want.data[i], &err);
		if (!rc) {
			i++;
			continue;
		}
		log_warn("cannot attach to a link, published ports do not work on it ifindex=%d error=%s", want.data[i],
		         mesh_err_text(&err, rc));
		d->observe_again = true;
		vec_remove(&want, i);
	}
	vec_fini(&d->uplinks);
	d->uplinks.data = want.data;
	d->uplinks.len = want.len;
	d->uplinks.cap = want.cap;
}

static void update_host_addrs(struct dp *d, const struct look *l)
{
	struct VEC(struct dp_ip) want = { 0 };
	for (size_t i = 0; i < l->addrs.len; i++) {
		const struct kern_addr *a = &l->addrs.data[i];
		const struct kern_link *link = link_of(l, a->ifindex);
		if (dp_ip_is_v4(&a->ip) && !is_loopback(&a->ip) && link && !wire_is_own(&d->wire, link->name))
			vec_push(&want, a->ip);
	}
	bool same = want.len == d->host_addrs.len &&
	            (!want.len || memcmp(want.data, d->host_addrs.data, want.len * sizeof(*want.data)) == 0);
	d->desired.all_dirty |= !same;
	d->dirty |= !same;
	vec_fini(&d->host_addrs);
	d->host_addrs.data = want.data;
	d->host_addrs.len = want.len;
	d->host_addrs.cap = want.cap;
}

/* ---- our own things ------------------------------------------------------------------------------ */

static bool route_stands(const struct look *l, const struct wire_iface *i)
{
	for (size_t r = 0; r < l->routes.len; r++) {
		const struct kern_route *k = &l->routes.data[r];
		if (k->ifindex == i->ifindex && k->prefix == 32 && memcmp(&k->dst, &i->ip, sizeof(i->ip)) == 0)
			return true;
	}
	return false;
}

static void repair_routes(struct dp *d, const struct look *l)
{
	MAP_FOREACH(&d->tasks, e) {
		struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++) {
			struct wire_iface *w = &t->nets.v[i].wire;
			if (!link_of(l, w->ifindex) || route_stands(l, w))
				continue;
			int rc = wire_route(&d->wire, w);
			log_warn("a task's route was gone, set again task=%s code=%d", t->id.s, rc);
		}
	}
}

static void repair_vxlan(struct dp *d, const struct look *l)
{
	struct mesh_err err = { 0 };
	if (link_of(l, d->vxlan_ifindex))
		return;
	int rc = wire_node(&d->wire, d->vxlan_port, d->underlay_mtu - OVERLAY_OVERHEAD, &err);
	if (rc < 0) {
		log_error("the vxlan device is gone and cannot be made again error=%s", mesh_err_text(&err, rc));
		d->observe_again = true;
		return;
	}
	log_warn("the vxlan device was gone, made again: other nodes are reached again after a restart of the daemon");
	d->vxlan_ifindex = rc;
	rc = d->drv->attach_vxlan(d, &err);
	d->dirty = true;
	if (rc)
		log_error("cannot attach to the vxlan device error=%s", mesh_err_text(&err, rc));
}

static void follow_mtu(struct dp *d, const struct look *l)
{
	for (size_t i = 0; i < l->addrs.len; i++) {
		const struct kern_link *link = link_of(l, l->addrs.data[i].ifindex);
		if (link && memcmp(&l->addrs.data[i].ip, &d->self, sizeof(d->self)) == 0)
			dp_follow_mtu(d, link->mtu);
	}
}

static void report_host(struct dp *d)
{
	if (d->host_reported && host_equal(d->host_reported, &d->host))
		return;
	dp_host_free(d->host_reported);
	d->host_reported = host_dup(&d->host);
	struct dp_report r = { .kind = DP_HOST, .host = host_dup(&d->host) };
	d->report(d->arg, &r);
}

void dp_observe(struct dp *d)
{
	struct look l = { 0 };
	d->observe_again = false;
	int rc = look_read(d, &l);
	if (rc) {
		d->observe_again = true; /* interrupted by a change: look again */
		look_fini(&l);
		return;
	}
	repair_vxlan(d, &l);
	follow_mtu(d, &l);
	update_uplinks(d, &l);
	update_host_addrs(d, &l);
	repair_routes(d, &l);
	if (d->drv->rerouted)
		d->drv->rerouted(d);
	host_links(&d->wire, &l.links, &l.addrs, &l.routes, &d->host);
	look_fini(&l);
	if (d->host_reported)
		report_host(d);
}

/* Somebody began or ceased to listen on a port: what is refused may change. */
static void touch_ports(struct dp *d, const struct dp_host_port *a, size_t na, const struct dp_host_port *b, size_t nb)
{
	for (size_t i = 0; i < na; i++) {
		size_t k = 0;
		while (k < nb && memcmp(&a[i], &b[k], sizeof(a[i])) != 0)
			k++;
		if (k < nb)
			continue;
		desired_touch_port(&d->desired, a[i].protocol, a[i].port);
		d->dirty = true;
	}
}

void dp_observe_ports(struct dp *d)
{
	size_t n = d->host.ports.len;
	CLEAN_FREE struct dp_host_port *before = n ? xmemdup(d->host.ports.data, n * sizeof(*before)) : NULL;
	int rc = host_ports(&d->host_watch, &d->host);
	if (rc) {
		log_debug("sock_diag error=%s", mesh_code_text(rc));
		return;
	}
	touch_ports(d, before, n, d->host.ports.data, d->host.ports.len);
	touch_ports(d, d->host.ports.data, d->host.ports.len, before, n);
	report_host(d);
}
