/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/wire.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "dataplane/netlink/netns.h"

#define HASH_DIGITS 7

void wire_host_name(const struct wire *w, const char *task, const char *network, char out[IFNAMSIZ])
{
	char text[2 * (MESH_ID_LEN + 1)], digits[HASH_DIGITS + 1];
	int n = snprintf(text, sizeof(text), "%s/%s", task, network);
	uint64_t h = hash64(text, (size_t)n);
	h ^= h >> 32;
	for (int i = 0; i < HASH_DIGITS; i++, h /= 36)
		digits[i] = "0123456789abcdefghijklmnopqrstuvwxyz"[h % 36];
	digits[HASH_DIGITS] = '\0';
	snprintf(out, IFNAMSIZ, "%s%s", w->mark, digits);
}

static bool is_veth_name(const struct wire *w, const char *name)
{
	size_t n = strlen(w->mark);
	return strncmp(name, w->mark, n) == 0 && strlen(name) == n + HASH_DIGITS &&
	       strspn(name + n, "0123456789abcdefghijklmnopqrstuvwxyz") == HASH_DIGITS;
}

bool wire_is_veth(const struct wire *w, const struct kern_link *l)
{
	return strcmp(l->kind, "veth") == 0 && is_veth_name(w, l->name);
}

bool wire_is_own(const struct wire *w, const char *name)
{
	return strcmp(name, w->vxlan_name) == 0 || is_veth_name(w, name);
}

/* One sysctl of one device, of the namespace the thread is in. */
static void conf(const char *family, const char *dev, const char *key, const char *value)
{
	char path[128];
	snprintf(path, sizeof(path), "net/%s/conf/%s/%s", family, dev, key);
	int rc = sysctl_set(path, value);
	if (rc && rc != -ENOENT) /* no such file: a kernel without IPv6 */
		log_debug("sysctl path=%s value=%s error=%s", path, value, mesh_code_text(rc));
}

/* ---- the node ------------------------------------------------------------------------------------ */

static int vxlan(struct wire *w, uint16_t port, uint32_t mtu, struct mesh_err *err)
{
	struct kern_link l;
	int rc = kern_link_get(w->k, w->vxlan_name, &l);
	if (rc == -ENODEV) {
		rc = kern_vxlan_add(w->k, w->vxlan_name, port);
		if (rc)
			return mesh_fail(err, rc, "vxlan device %s at port %u", w->vxlan_name, port);
		rc = kern_link_get(w->k, w->vxlan_name, &l);
	}
	if (rc)
		return mesh_fail(err, rc, "vxlan device %s", w->vxlan_name);
	if (strcmp(l.kind, "vxlan") != 0)
		return mesh_fail(err, MESH_E_CONFLICT, "link %s exists and is no vxlan device", w->vxlan_name);
	conf("ipv6", w->vxlan_name, "disable_ipv6", "1");
	conf("ipv4", w->vxlan_name, "rp_filter", "2");
	rc = kern_link_up(w->k, l.ifindex, mtu);
	if (rc)
		return mesh_fail(err, rc, "vxlan device %s: up", w->vxlan_name);
	return l.ifindex;
}

int wire_node(struct wire *w, uint16_t port, uint32_t mtu, struct mesh_err *err)
{
	snprintf(w->vxlan_name, sizeof(w->vxlan_name), "%svx", w->mark);
	int rc = sysctl_set("net/ipv4/ip_forward", "1");
	if (rc)
		return mesh_fail(err, rc, "sysctl net.ipv4.ip_forward");
	/* Replies of tasks to this host come in through lo, with addresses of this host on both ends. */
	conf("ipv4", "lo", "accept_local", "1");
	conf("ipv4", "lo", "route_localnet", "1");
	conf("ipv4", "lo", "rp_filter", "2");
	struct kern_link lo;
	rc = kern_link_get(w->k, "lo", &lo);
	if (!rc && !lo.up)
		rc = kern_link_up(w->k, lo.ifindex, 0);
	if (rc)
		return mesh_fail(err, rc, "link lo");
	return vxlan(w, port, mtu, err);
}

/* ---- tasks --------------------------------------------------------------------------------------- */

static int make_veth(struct wire *w, int ns, struct wire_iface *i, struct kern_link *host, struct mesh_err *err)
{
	struct kern_veth v = { .name = i->host_name, .peer_name = i->name, .mtu = i->mtu, .peer_ns = ns };
	/* The gateway's own name: the task's neighbour entry for it never has to change. */
	dp_mac_of(&i->gateway, v.mac);
	dp_mac_of(&i->ip, v.peer_mac);
	int rc = kern_veth_add(w->k, &v);
	if (rc)
		return mesh_fail(err, rc, "veth %s to %s", i->host_name, i->name);
	rc = kern_link_get(w->k, i->host_name, host);
	if (rc)
		return mesh_fail(err, rc, "veth %s", i->host_name);
	conf("ipv6", i->host_name, "disable_ipv6", "1");
	conf("ipv4", i->host_name, "rp_filter", "2");
	conf("ipv4", i->host_name, "accept_local", "1");
	conf("ipv4", i->host_name, "send_redirects", "0");
	rc = kern_link_up(w->k, host->ifindex, i->mtu);
	return rc ? mesh_fail(err, rc, "veth %s: up", i->host_name) : 0;
}

/* Inside the task. */
static int set_inside(struct kern *k, const struct wire_iface *i, int ifindex, struct mesh_err *err)
{
	struct kern_neigh gw = { .ifindex = ifindex, .ip = i->gateway };
	memcpy(gw.mac, i->host_mac, 6);
	conf("ipv6", i->name, "disable_ipv6", "1");
	/* Published ports come in where the default route does not go out. */
	conf("ipv4", i->name, "rp_filter", "2");
	int rc = kern_addr_set(k, ifindex, &i->ip, i->prefix);
	if (!rc)
		rc = kern_link_up(k, ifindex, i->mtu);
	if (!rc)
		rc = kern_neigh_set(k, &gw);
	if (rc)
		return mesh_fail(err, rc, "%s: address", i->name);
	if (!i->default_route)
		return 0;
	struct kern_route r = { .ifindex = ifindex, .protocol = WIRE_PROTOCOL, .has_via = true, .via = i->gateway };
	r.dst.b[10] = r.dst.b[11] = 0xff;
	rc = kern_route_set(k, &r);
	return rc ? mesh_fail(err, rc, "%s: default route", i->name) : 0;
}

/* Is the host end's other end the device of that name in there? */
static bool paired(struct kern *inside, const struct kern_link *host, const char *name, int *ifindex)
{
	struct kern_link l;
	if (kern_link_get(inside, name, &l) != 0 || strcmp(l.kind, "veth") != 0)
		return false;
	*ifindex = l.ifindex;
	return l.peer == host->ifindex && host->peer == l.ifindex;
}

struct inside {
	struct kern *k;
	int prev;
};
/* The thread is in the task's namespace from here to leave_task. */
static int enter_task(int ns, struct inside *in, struct mesh_err *err)
{
	in->prev = netns_enter(ns, err);
	if (in->prev < 0)
		return in->prev;
	int rc = kern_open(&in->k, err);
	if (rc)
		netns_leave(in->prev);
	return rc;
}
static void leave_task(struct inside *in)
{
	kern_close(in->k);
	netns_leave(in->prev);
}

static int wire_inside(int ns, struct wire_iface *ifaces, size_t n, struct mesh_err *err)
{
	struct inside in;
	struct kern_link lo;
	int rc = enter_task(ns, &in, err);
	if (rc)
		return rc;
	rc = kern_link_get(in.k, "lo", &lo);
	if (!rc && !lo.up)
		rc = kern_link_up(in.k, lo.ifindex, 0);
	if (rc)
		rc = mesh_fail(err, rc, "lo");
	for (size_t i = 0; i < n && !rc; i++) {
		struct kern_link l;
		rc = kern_link_get(in.k, ifaces[i].name, &l);
		rc = rc ? mesh_fail(err, rc, "%s", ifaces[i].name) : set_inside(in.k, &ifaces[i], l.ifindex, err);
	}
	leave_task(&in);
	return rc;
}

/* The host end of one interface: the one that stands, or a new one. *made tells which. */
static int host_end(struct wire *w, int ns, struct wire_iface *i, bool *made, struct mesh_err *err)
{
	struct kern_link host;
	struct inside in;
	int peer, rc = kern_link_get(w->k, i->host_name, &host);
	*made = false;
	if (!rc) {
		rc = enter_task(ns, &in, err);
		if (rc)
			return rc;
		bool ok = paired(in.k, &host, i->name, &peer);
		leave_task(&in);
		if (!ok) {
			/* Of an earlier task of that name whose namespace still dies, or half made. */
			rc = kern_links_del(w->k, &host.ifindex, 1);
			if (rc)
				return mesh_fail(err, rc, "stale veth %s", i->host_name);
			rc = -ENODEV;
		}
	}
	if (rc == -ENODEV) {
		*made = true;
		rc = make_veth(w, ns, i, &host, err);
		if (rc)
			return rc;
	} else if (!rc && host.mtu != i->mtu) { /* the underlay's changed while we were away */
		rc = kern_link_up(w->k, host.ifindex, i->mtu);
	}
	if (rc)
		return mesh_fail(err, rc, "veth %s", i->host_name);
	i->ifindex = host.ifindex;
	memcpy(i->host_mac, host.mac, 6);
	return 0;
}

int wire_set_mtu(struct wire *w, int ns, const struct wire_iface *i, struct mesh_err *err)
{
	struct inside in;
	struct kern_link l;
	int rc = enter_task(ns, &in, err);
	if (rc)
		return rc;
	rc = kern_link_get(in.k, i->name, &l);
	if (!rc)
		rc = kern_link_up(in.k, l.ifindex, i->mtu);
	leave_task(&in);
	if (!rc)
		rc = kern_link_up(w->k, i->ifindex, i->mtu);
	return rc ? mesh_fail(err, rc, "MTU %u of %s", i->mtu, i->name) : 0;
}

int wire_route(struct wire *w, const struct wire_iface *i)
{
	struct kern_route r = { .ifindex = i->ifindex, .dst = i->ip, .prefix = 32, .protocol = WIRE_PROTOCOL };
	struct kern_neigh n = { .ifindex = i->ifindex, .ip = i->ip };
	dp_mac_of(&i->ip, n.mac);
	int rc = kern_neigh_set(w->k, &n);
	return rc ? rc : kern_route_set(w->k, &r);
}

int wire_task(struct wire *w, int ns, struct wire_iface *ifaces, size_t n, struct mesh_err *err)
{
	struct VEC(int) made = { 0 };
	int rc = 0;
	for (size_t i = 0; i < n && !rc; i++) {
		bool is_new = false;
		struct kern_link l;
		rc = host_end(w, ns, &ifaces[i], &is_new, err);
		if (is_new && kern_link_get(w->k, ifaces[i].host_name, &l) == 0)
			vec_push(&made, l.ifindex);
	}
	if (!rc)
		rc = wire_inside(ns, ifaces, n, err);
	for (size_t i = 0; i < n && !rc; i++) {
		rc = wire_route(w, &ifaces[i]);
		if (rc)
			rc = mesh_fail(err, rc, "route to %s", ifaces[i].host_name);
	}
	if (rc && kern_links_del(w->k, made.data, made.len) != 0)
		log_warn("half made interfaces are left behind first=%s", ifaces[0].host_name);
	vec_fini(&made);
	return rc;
}

bool wire_adopt_addr(struct wire *w, int ns, const char *host_name, const char *name, struct dp_ip *ip)
{
	struct kern_link host;
	struct inside in;
	struct kern_addrs addrs = { 0 };
	int ifindex;
	bool found = false;
	if (kern_link_get(w->k, host_name, &host) != 0 || enter_task(ns, &in, NULL) != 0)
		return false;
	if (paired(in.k, &host, name, &ifindex) && kern_addrs(in.k, &addrs) == 0) {
		for (size_t i = 0; i < addrs.len && !found; i++) {
			found = addrs.data[i].ifindex == ifindex && dp_ip_is_v4(&addrs.data[i].ip);
			*ip = addrs.data[i].ip;
		}
	}
	vec_fini(&addrs);
	leave_task(&in);
	return found;
}
