/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ebpf driver behind struct dp_driver. */
#include <netinet/in.h>
#include <stdio.h>

#include "base/log.h"
#include "dataplane/dp_int.h"

/* What this kernel has and lacks; known once something has been attached. */
static void say_how(struct dp *d)
{
	const char *why = ebpf_device_reason(d->ebpf);
	size_t n = strlen(d->driver);
	n += (size_t)snprintf(d->driver + n, sizeof(d->driver) - n, "; attached by %s",
	                      ebpf_has_tcx(d->ebpf) ? "tcx links" : "clsact filters, for want of tcx (Linux 6.6)");
	if (n >= sizeof(d->driver))
		return;
	n += (size_t)snprintf(d->driver + n, sizeof(d->driver) - n, "; tunnels by %s%s",
	                      why ? "the VXLAN device: " : "its own programs", why ? why : "");
	if (n < sizeof(d->driver))
		(void)dp_xdp_format(d, d->driver + n, sizeof(d->driver) - n);
}

static int ebpf_drv_open(struct dp *d, struct mesh_err *err)
{
	struct ebpf_config ec = {
		.pin_dir = d->pin_dir,
		.cgroup = d->cgroup,
		.self = d->self,
		.vxlan_ifindex = (unsigned)d->vxlan_ifindex,
		.flows_max = d->flows_max,
		.xdp = d->xdp,
		.tunnel_port = d->vxlan_port,
	};
	struct steer *old = NULL;
	int rc = ways_open(&d->ways, err);
	if (!rc)
		rc = ebpf_open(&ec, &d->ebpf, err);
	if (!rc)
		rc = ebpf_attach(d->ebpf, EBPF_VXLAN, (unsigned)d->vxlan_ifindex, err);
	if (!rc)
		rc = ebpf_attach(d->ebpf, EBPF_LO, 1, err);
	/* Of an earlier run with the nft driver. */
	if (!rc && steer_open(d->wire.k, d->name, &old, NULL) == 0)
		steer_remove(old, d->vxlan_ifindex);
	steer_close(old);
	if (!rc) {
		/* The link of the underlay is the one to say something about; others come later, and into the log. */
		dp_xdp_attach(d, d->underlay_ifindex);
		say_how(d);
	}
	return rc;
}

static void ebpf_drv_close(struct dp *d)
{
	ways_close(d->ways);
	vec_fini(&d->xdp_uplinks);
	ebpf_close(d->ebpf);
	d->ways = NULL;
	d->ebpf = NULL;
}

static void ebpf_drv_destroy(struct dp *d)
{
	ways_close(d->ways);
	vec_fini(&d->xdp_uplinks);
	ebpf_destroy(d->ebpf);
}

static int attach_vxlan(struct dp *d, struct mesh_err *err)
{
	return ebpf_attach(d->ebpf, EBPF_VXLAN, (unsigned)d->vxlan_ifindex, err);
}

static int attach_uplink(struct dp *d, int ifindex, struct mesh_err *err)
{
	int rc = ebpf_attach(d->ebpf, EBPF_UPLINK, (unsigned)ifindex, err);
	if (!rc)
		dp_xdp_attach(d, ifindex);
	return rc;
}

static void detach_uplink(struct dp *d, int ifindex)
{
	dp_xdp_detach(d, ifindex);
	ebpf_detach(d->ebpf, (unsigned)ifindex);
}

static int attach_task(struct dp *d, const struct dp_task *t, const struct dp_tnet *n, struct mesh_err *err)
{
	struct ebpf_iface f = { .ifindex = (unsigned)n->wire.ifindex,
		                .vni = n->vni,
		                .ip = n->wire.ip,
		                .task = t->number,
		                .internal = n->internal || n->ingress };
	memcpy(f.host_mac, n->wire.host_mac, 6);
	return ebpf_attach_task(d->ebpf, &f, err);
}

static void detach_task(struct dp *d, int ifindex)
{
	ebpf_detach_task(d->ebpf, (unsigned)ifindex);
}

static void tunnel_mtu(struct dp *d, uint32_t mtu)
{
	ebpf_set_tunnel_mtu(d->ebpf, mtu);
}

static int set_node(struct dp *d, const struct dp_ip *addr, struct mesh_err *err)
{
	struct way w = ways_to(d->ways, addr, &d->self);
	struct ebpf_way way = { .ifindex = (unsigned)w.ifindex, .next_hop = w.next_hop, .mtu = w.mtu };
	return ebpf_set_node(d->ebpf, addr, &way, err);
}

static void check_ipsec(struct dp *d)
{
	bool ipsec = ways_have_ipsec(d->ways);
	if (ipsec != d->ipsec)
		log_info(ipsec ? "IPsec policies found, tunnels go through the VXLAN device and the stack"
		               : "no IPsec policies any more, tunnels are written by our own programs again");
	d->ipsec = ipsec;
	ebpf_via_device(d->ebpf, ipsec);
}

static void poll_kernel(struct dp *d)
{
	check_ipsec(d);
	dp_xdp_check(d, false);
}

static void rerouted(struct dp *d)
{
	struct mesh_err err = { 0 };
	check_ipsec(d);
	dp_xdp_check(d, true);
	MAP_FOREACH(&d->have.items, e) {
		const struct item *i = e->value;
		int rc = i->kind == ITEM_NODE ? set_node(d, &i->addr, &err) : 0;
		if (rc)
			log_warn("cannot change the way to a node error=%s", mesh_err_text(&err, rc));
	}
}

static int set_item(struct dp *d, const struct item *i, struct mesh_err *err)
{
	switch (i->kind) {
	case ITEM_HOST_ADDR:
		return ebpf_set_host_addr(d->ebpf, &i->addr, err);
	case ITEM_NODE:
		return set_node(d, &i->addr, err);
	case ITEM_NETWORK:
		return ebpf_set_network(d->ebpf, &i->network, err);
	case ITEM_ENDPOINT:
		return ebpf_set_endpoint(d->ebpf, &i->endpoint, err);
	case ITEM_SERVICE:
		return ebpf_set_service(d->ebpf, &i->svc, err);
	case ITEM_VIP:
		return ebpf_set_vip(d->ebpf, &i->addr, i->service, err);
	case ITEM_PORT:
		return ebpf_set_port(d->ebpf, &i->port, err);
	default:
		return MESH_E_INVALID;
	}
}

static void del_item(struct dp *d, const struct item *i)
{
	switch (i->kind) {
	case ITEM_HOST_ADDR:
		ebpf_del_host_addr(d->ebpf, &i->addr);
		break;
	case ITEM_NODE:
		ebpf_del_node(d->ebpf, &i->addr);
		break;
	case ITEM_NETWORK:
		ebpf_del_network(d->ebpf, i->network.vni);
		break;
	case ITEM_ENDPOINT:
		ebpf_del_endpoint(d->ebpf, i->endpoint.vni, &i->endpoint.ip);
		break;
	case ITEM_SERVICE:
		ebpf_del_service(d->ebpf, i->svc.key);
		break;
	case ITEM_VIP:
		ebpf_del_vip(d->ebpf, &i->addr);
		break;
	case ITEM_PORT:
		ebpf_del_port(d->ebpf, i->port.proto, i->port.published);
		break;
	default:
		break;
	}
}

static void sweep(struct dp *d)
{
	ebpf_sweep(d->ebpf);
}

static bool backend_stats(struct dp *d, uint64_t service, const struct dp_ip *ip, struct dp_counters *out)
{
	return ebpf_service_stats(d->ebpf, service, ip, out) == 0;
}

static uint64_t refused(struct dp *d, uint64_t service)
{
	return ebpf_refused(d->ebpf, service);
}

static void stats(struct dp *d, struct dp_stats *out)
{
	ebpf_stats(d->ebpf, out);
}

static int watch(struct dp *d, unsigned watcher, const struct dp_filter *f, struct mesh_err *err)
{
	return ebpf_watch(d->ebpf, watcher, f, err);
}

static void unwatch(struct dp *d, unsigned watcher)
{
	ebpf_unwatch(d->ebpf, watcher);
}

static uint64_t watch_read(struct dp *d, void (*fn)(void *arg, const struct dp_seen *s), void *arg)
{
	return ebpf_watch_read(d->ebpf, fn, arg);
}

static bool detour(struct dp *d, const struct dp_task *t, uint32_t vni, const struct sd_sock *s, bool syn)
{
	struct ebpf_conn c = {
		.vni = vni, .cookie = sd_cookie(s), .peer = s->peer, .port = s->port, .peer_port = s->peer_port
	};
	for (size_t i = 0; i < t->nets.n; i++)
		if (t->nets.v[i].vni == vni)
			c.ip = t->nets.v[i].wire.ip;
	return s->protocol == IPPROTO_TCP && (ebpf_is_detoured(d->ebpf, &c) || (syn && ebpf_detour(d->ebpf, &c)));
}

const struct dp_driver dp_driver_ebpf = {
	.name = "ebpf",
	.open = ebpf_drv_open,
	.close = ebpf_drv_close,
	.destroy = ebpf_drv_destroy,
	.attach_vxlan = attach_vxlan,
	.attach_uplink = attach_uplink,
	.detach_uplink = detach_uplink,
	.rerouted = rerouted,
	.poll = poll_kernel,
	.attach_task = attach_task,
	.detach_task = detach_task,
	.tunnel_mtu = tunnel_mtu,
	.set = set_item,
	.del = del_item,
	.sweep = sweep,
	.sees_handshakes = true,
	.backend_stats = backend_stats,
	.refused = refused,
	.detour = detour,
	.stats = stats,
	.watch = watch,
	.unwatch = unwatch,
	.watch_read = watch_read,
};
