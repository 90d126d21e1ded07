/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The nft driver behind struct dp_driver. Setting and deleting are only noted by the pass in d->have: commit makes
 * the whole of it one transaction.
 */
#include <dirent.h>
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

/* Is anything pinned in a directory there? The kernel itself puts files beside them. */
static bool has_pins(const char *path, bool top)
{
	DIR *dir = opendir(path);
	const struct dirent *e;
	bool found = false;
	while (dir && !found && (e = readdir(dir))) {
		CLEAN_FREE char *below = xasprintf("%s/%s", path, e->d_name);
		if (e->d_name[0] != '.')
			found = e->d_type == DT_DIR ? top && has_pins(below, false) : !top;
	}
	if (dir)
		closedir(dir);
	return found;
}

/* Programs of an earlier run, or of one that did not start, would go on beside us. */
static void no_ebpf(struct dp *d)
{
	struct statfs st;
	if (statfs(d->pin_dir, &st) == 0 && (unsigned long)st.f_type == BPF_FS_MAGIC && has_pins(d->pin_dir, true))
		ebpf_remove(d->pin_dir);
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
		               .n_masquerade = n,
		               .flows_max = d->flows_max };
	int rc = steer_commit(d->steer, &in, d->vxlan_ifindex, err);
	vec_fini(&ifaces);
	return rc;
}

static void sweep(struct dp *d)
{
	steer_sweep(d->steer, d->vxlan_ifindex);
}

/* ---- what was counted ---------------------------------------------------------------------------- */

#define ETHERNET 14 /* what netfilter does not count of a frame */

static void add_count(void *list, const char *id, const char *text, uint64_t n)
{
	struct dp_count *c = sch_list_add(list, sizeof(*c));
	*c = (struct dp_count){ xstrdup(id), xstrdup(text), n };
}

static bool starts(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

static uint64_t number_at(const char *path)
{
	char text[32];
	return sysctl_get(path, text, sizeof(text)) ? 0 : strtoull(text, NULL, 10);
}

static void stats(struct dp *d, struct dp_stats *out)
{
	const char *name, *text;
	int rc = steer_count(d->steer);
	if (rc)
		log_warn("cannot read the counters of our nftables tables error=%s", mesh_code_text(rc));
	for (size_t i = 0; (name = rules_fixed_counter(i, &text)); i++) {
		bool drop = starts(name, RULES_DROP);
		add_count(drop ? (void *)&out->drops : (void *)&out->events,
		          name + strlen(drop ? RULES_DROP : RULES_EVENT), text, steer_counter(d->steer, name).packets);
	}
	struct dp_table_stats *t = LIST_ADD(&out->tables);
	*t = (struct dp_table_stats){ .name = xstrdup("conntrack"),
		                      .used = number_at("net/netfilter/nf_conntrack_count"),
		                      .max = number_at("net/netfilter/nf_conntrack_max") };
}

/* The address where strangers reach the task that has this one; NULL: it is not here. */
static const struct dp_ip *answer_of(const struct dp *d, uint32_t vni, const struct dp_ip *ip)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++) {
			const struct dp_tnet *n = &t->nets.v[i];
			if (n->vni == vni && memcmp(&n->wire.ip, ip, sizeof(*ip)) == 0)
				return t->way_out < t->nets.n ? &t->nets.v[t->way_out].wire.ip : &n->wire.ip;
		}
	}
	return NULL;
}

static uint64_t frames(struct nft_count c)
{
	return c.bytes + ETHERNET * c.packets;
}

static void published_stats(const struct steer *s, const struct dp_ip *ip, struct dp_counters *out)
{
	struct nft_count in = steer_counted(s, COUNT_PUB_IN, ip), to = steer_counted(s, COUNT_PUB_OUT, ip);
	*out = (struct dp_counters){ .packets_in = in.packets,
		                     .bytes_in = frames(in),
		                     .packets_out = to.packets,
		                     .bytes_out = frames(to),
		                     .conns = steer_counted(s, COUNT_PUB_CONNS, ip).packets,
		                     .resets_task = steer_counted(s, COUNT_PUB_RST_OUT, ip).packets,
		                     .resets_peer = steer_counted(s, COUNT_PUB_RST_IN, ip).packets };
}

static void network_stats(const struct steer *s, const struct dp_ip *ip, struct dp_counters *out)
{
	struct nft_count in = steer_counted(s, COUNT_NET_IN, ip), to = steer_counted(s, COUNT_NET_OUT, ip);
	*out = (struct dp_counters){ .net_packets_in = in.packets,
		                     .net_bytes_in = frames(in),
		                     .net_packets_out = to.packets,
		                     .net_bytes_out = frames(to),
		                     .conns = steer_counted(s, COUNT_VIP_CONNS, ip).packets,
		                     .resets_task = steer_counted(s, COUNT_NET_RST_OUT, ip).packets,
		                     .resets_peer = steer_counted(s, COUNT_NET_RST_IN, ip).packets };
}

static bool backend_stats(struct dp *d, uint64_t service, const struct dp_ip *ip, struct dp_counters *out)
{
	struct item like = { .kind = ITEM_SERVICE, .svc.key = service };
	const struct item *svc = plan_table_get(&d->have, &like);
	if (!svc)
		return false;
	like = (struct item){ .kind = ITEM_NETWORK, .network.vni = svc->svc.vni };
	const struct item *net = plan_table_get(&d->have, &like);
	const struct dp_ip *answer = answer_of(d, svc->svc.vni, ip);
	if (net && net->network.ingress) {
		if (answer)
			published_stats(d->steer, answer, out);
		return answer != NULL;
	}
	network_stats(d->steer, ip, out);
	return true;
}

static uint64_t refused(struct dp *d, uint64_t service)
{
	char name[32];
	snprintf(name, sizeof(name), RULES_REFUSED "%016llx", (unsigned long long)service);
	return steer_counter(d->steer, name).packets;
}

/* ---- tasks that are gone ------------------------------------------------------------------------- */

static void forget_flow(struct dp *d, const struct ct_flow *f)
{
	struct dp_place local = { f->src, f->sport }, peer = { f->dst, f->dport };
	int rc = steer_forget(d->steer, f);
	if (rc)
		log_debug("cannot forget a connection whose task is gone error=%s", mesh_code_text(rc));
	dp_close_socket(d, f->protocol, &local, &peer);
}

static void forget(struct dp *d)
{
	struct ct_flows flows = { 0 };
	struct dp_nets nets = { 0 };
	int rc = steer_translated(d->steer, &flows);
	if (rc)
		log_warn("cannot list the connections of tasks that are gone, they end by themselves error=%s",
		         mesh_code_text(rc));
	dp_nets(d, &nets);
	for (size_t i = 0; i < flows.len; i++)
		if (dp_nobody_has(d, &nets, &flows.data[i].answers))
			forget_flow(d, &flows.data[i]);
	vec_fini(&nets);
	vec_fini(&flows);
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
	.forget = forget,
	.stats = stats,
	.backend_stats = backend_stats,
	.refused = refused,
};
