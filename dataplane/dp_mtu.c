/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/log.h"
#include "dataplane/dp_int.h"
#include "dataplane/netlink/netns.h"

#define MTU_MIN 626  /* 576 inside: less no IPv4 network has */
#define MTU_MAX 9216 /* lo's 65536 would make no wire's packets */

uint32_t dp_clamp_mtu(uint32_t link_mtu)
{
	return link_mtu > MTU_MAX ? MTU_MAX : link_mtu < MTU_MIN ? MTU_MIN : link_mtu;
}

static uint32_t mtu_of(const struct dp *d, const struct dp_tnet *n)
{
	const struct dp_network *net = ID_EMPTY(n->network) ? NULL : map_get(&d->desired.networks, n->network.s);
	if (ID_EMPTY(n->network))
		return d->underlay_mtu;
	return net && net->mtu ? n->wire.mtu : d->underlay_mtu - OVERLAY_OVERHEAD;
}

static void follow_task(struct dp *d, struct dp_task *t)
{
	struct mesh_err err = { 0 };
	CLEAN_CLOSE int ns = netns_open(t->pid, &err);
	for (size_t i = 0; i < t->nets.n; i++) {
		struct wire_iface *w = &t->nets.v[i].wire;
		uint32_t mtu = mtu_of(d, &t->nets.v[i]);
		if (ns < 0 || mtu == w->mtu)
			continue;
		w->mtu = mtu;
		int rc = wire_set_mtu(&d->wire, ns, w, &err);
		if (rc)
			log_warn("a task's interface keeps its old MTU task=%s interface=%s error=%s", t->id.s, w->name,
			         mesh_err_text(&err, rc));
	}
}

void dp_follow_mtu(struct dp *d, uint32_t link_mtu)
{
	uint32_t mtu = dp_clamp_mtu(link_mtu);
	if (mtu == d->underlay_mtu)
		return;
	log_info("the underlay has another MTU, networks follow was=%u now=%u overlay=%u", d->underlay_mtu, mtu,
	         mtu - OVERLAY_OVERHEAD);
	d->underlay_mtu = mtu;
	int rc = kern_link_up(d->wire.k, d->vxlan_ifindex, mtu - OVERLAY_OVERHEAD);
	if (rc)
		log_warn("the vxlan device keeps its old MTU error=%s", mesh_code_text(rc));
	if (d->drv->tunnel_mtu)
		d->drv->tunnel_mtu(d, mtu - OVERLAY_OVERHEAD);
	MAP_FOREACH(&d->tasks, e)
		follow_task(d, e->value);
}
