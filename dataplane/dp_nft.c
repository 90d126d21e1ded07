/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nft driver behind struct dp_driver. Setting and deleting are only noted by the pass in d->have: commit makes
 * the whole of it one transaction.
 */
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "dataplane/dp_int.h"
#include "dataplane/netlink/netns.h"

static void conf(const char *what, const char *dev, const char *key, const char *value)
{
	char path[128];
	snprintf(path, sizeof(path), "net/ipv4/%s/%s/%s", what, dev, key);
	int rc = sysctl_set(path, value);
	if (rc)
		log_debug("sysctl path=%s value=%s error=%s", path, value, mesh_code_text(rc));
}

/* Setting a MAC, also the same, makes the kernel forget every neighbour on the device: those of running tasks. */
static int set_mac(struct dp *d, const uint8_t mac[6])
{
	struct kern_links links = { 0 };
	int rc = kern_links(d->wire.k, &links);
	bool same = false;
	for (size_t i = 0; i < links.len && !rc; i++)
		same |= links.data[i].ifindex == d->vxlan_ifindex && memcmp(links.data[i].mac, mac, 6) == 0;
	vec_fini(&links);
	return rc || same ? rc : kern_link_mac(d->wire.k, d->vxlan_ifindex, mac);
}

/* Its own MAC says which node a published port's packet came in at (bpf/ingress.h). */
static int attach_vxlan(struct dp *d, struct mesh_err *err)
{
	uint8_t mac[6] = { 0x02, 0x4c };
	memcpy(mac + 2, d->self.b + 12, 4);
	/* Answers that leave through us carry an address of ours, and come in there. */
	conf("conf", d->wire.vxlan_name, "accept_local", "1");
	conf("conf", d->wire.vxlan_name, "route_localnet", "1"); /* those to our own 127.0.0.1, once translated back */
	/* Clients come in where the way to them does not go out; without an address even the loose filter minds. */
	conf("conf", d->wire.vxlan_name, "rp_filter", "0");
	steer_reload(d->steer);
	struct dp_ip own = rules_way_to(&d->self);
	int rc = set_mac(d, mac);
	if (!rc)
		rc = kern_addr_set(d->wire.k, d->vxlan_ifindex, &own, 32);
	return rc ? mesh_fail(err, rc, "address of %s", d->wire.vxlan_name) : 0;
}

static void no_ebpf(struct dp *d)
{
	struct ebpf_config ec = {
		.pin_dir = d->pin_dir, .cgroup = d->cgroup, .self = d->self, .vxlan_ifindex = (unsigned)d->vxlan_ifindex
	};
	struct ebpf *e = NULL;
	struct statfs st;
	if (statfs(d->pin_dir, &st) < 0 || (unsigned long)st.f_type != BPF_FS_MAGIC)
		return;
	/* Programs of an earlier run would go on beside us. Where they cannot be opened there are none. */
	if (ebpf_open(&ec, &e, NULL) == 0)
		ebpf_destroy(e);
}

static int nft_drv_open(struct dp *d, struct mesh_err *err)
{
	int rc = steer_open(d->wire.k, d->name, &d->steer, err);
	if (!rc)
		rc = steer_probe(d->steer, d->wire.vxlan_name, &d->self, err);
	if (!rc)
		rc = attach_vxlan(d, err);
	if (rc)
		return rc;
	no_ebpf(d);
	return nft_remove(d->nft, err); /* masquerading is in our own tables */
}

static void nft_drv_close(struct dp *d)
{
	steer_close(d->steer);
}

static void nft_drv_destroy(struct dp *d)
{
	steer_remove(d->steer, d->vxlan_ifindex);
	steer_close(d->steer);
}

static int attach_uplink(struct dp *d, int ifindex, struct mesh_err *err)
{
	(void)d;
	(void)ifindex;
	(void)err;
	return 0;
}

static void detach_link(struct dp *d, int ifindex)
{
	(void)d;
	(void)ifindex;
}

/* The host answers ARP for everybody on the task's networks: all it sends is routed here. */
static int attach_task(struct dp *d, const struct dp_task *t, const struct dp_tnet *n, struct mesh_err *err)
{
	(void)d;
	(void)t;
	(void)err;
	conf("neigh", n->wire.host_name, "proxy_delay", "0");
	conf("conf", n->wire.host_name, "proxy_arp", "1");
	conf("conf", n->wire.host_name, "route_localnet", "1");
	return 0;
}

static int set_item(struct dp *d, const struct item *i, struct mesh_err *err)
{
	(void)d;
	if (i->kind == ITEM_ENDPOINT && !dp_ip_is_v4(&i->endpoint.ip))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "the nft driver knows IPv4 only");
	return 0;
}

static void del_item(struct dp *d, const struct item *i)
{
	(void)d;
	(void)i;
}

static int commit(struct dp *d, const struct dp_ip *masquerade, size_t n, struct mesh_err *err)
{
	struct VEC(struct rules_iface) ifaces = { 0 };
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++) {
			const struct dp_tnet *net = &t->nets.v[i];
			const struct dp_tnet *out = t->way_out < t->nets.n ? &t->nets.v[t->way_out] : net;
			struct rules_iface f = { .host_name = net->wire.host_name,
				                 .vni = net->vni,
				                 .ip = net->wire.ip,
				                 .answer = out->wire.ip };
			vec_push(&ifaces, f);
		}
	}
	struct rules_in in = { .mark = d->name,
		               .vxlan = d->wire.vxlan_name,
		               .vxlan_port = d->vxlan_port,
		               .self = d->self,
		               .have = &d->have,
		               .ifaces = ifaces.data,
		               .n_ifaces = ifaces.len,
		               .masquerade = masquerade,
		               .n_masquerade = n };
	int rc = steer_commit(d->steer, &in, d->vxlan_ifindex, err);
	vec_fini(&ifaces);
	return rc;
}

static void sweep(struct dp *d)
{
	steer_sweep(d->steer, d->vxlan_ifindex);
}

const struct dp_driver dp_driver_nft = {
	.name = "nft",
	.open = nft_drv_open,
	.close = nft_drv_close,
	.destroy = nft_drv_destroy,
	.attach_vxlan = attach_vxlan,
	.attach_uplink = attach_uplink,
	.detach_uplink = detach_link,
	.attach_task = attach_task,
	.detach_task = detach_link,
	.set = set_item,
	.del = del_item,
	.commit = commit,
	.sweep = sweep,
};
