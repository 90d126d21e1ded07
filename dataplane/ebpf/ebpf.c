// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include <bpf/bpf.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"

uint32_t mapped_prefix(const struct dp_ip *ip, unsigned prefix)
{
	return dp_ip_is_v4(ip) ? prefix + 96 : prefix;
}

static struct abi_addr mask_of(uint32_t prefix)
{
	struct dp_ip m = {};

	for (uint32_t i = 0; i < prefix && i < 128; i++)
		m.b[i / 8] |= (uint8_t)(0x80 >> (i % 8));
	return ebpf_addr(&m);
}

static struct abi_addr masked(const struct abi_addr *a, const struct abi_addr *mask)
{
	struct abi_addr r;

	for (int i = 0; i < 4; i++)
		r.w[i] = a->w[i] & mask->w[i];
	return r;
}

struct abi_addr addr_masked(const struct abi_addr *a, uint32_t prefix)
{
	struct abi_addr mask = mask_of(prefix);

	return masked(a, &mask);
}

static struct ebpf_network *network_of(const struct ebpf *e, uint32_t vni)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", vni);
	return map_get(&e->networks, name);
}

static void network_forget(struct ebpf *e, uint32_t vni)
{
	char name[16];

	if (e->runtime->ingress_vni == vni)
		e->runtime->ingress_vni = 0;
	snprintf(name, sizeof(name), "%u", vni);
	free(map_del(&e->networks, name));
}

/* ---- life ---- */

static void ebpf_free(struct ebpf *e)
{
	watch_close(e);
	lb_fini(e);
	ebpf_unload(e);
	MAP_FOREACH(&e->networks, n)
		free(n->value);
	map_fini(&e->networks);
	vec_fini(&e->attached);
	free(e->pin_dir);
	free(e->map_dir);
	free(e->link_dir);
	free(e);
}

static uint32_t flows_max(const struct ebpf_config *c)
{
	return c->flows_max ? c->flows_max : 65536;
}

char *ebpf_map_dir(const struct ebpf_config *c)
{
	return xasprintf("%s/maps%d_%u", c->pin_dir, ABI_LAYOUT, flows_max(c));
}

int ebpf_open_in(const struct ebpf_config *c, const char *map_dir, bool handover, struct ebpf **out,
                 struct mesh_err *err)
{
	struct ebpf *e = XNEW(struct ebpf);
	int rc;

	e->pin_dir = xstrdup(c->pin_dir);
	e->map_dir = xstrdup(map_dir);
	e->handover = handover;
	e->link_dir = xasprintf("%s/links", c->pin_dir);
	e->self = c->self;
	e->use_tcx = !c->no_tcx;
	e->flows_max = flows_max(c);
	e->pass = 1;
	rc = ebpf_load(e, c, err);
	if (rc) {
		ebpf_free(e);
		return rc;
	}
	lb_adopt(e);
	*out = e;
	return 0;
}

int ebpf_open(const struct ebpf_config *c, struct ebpf **out, struct mesh_err *err)
{
	CLEAN_FREE char *map_dir = ebpf_map_dir(c);
	struct ebpf *e;
	int rc;

	ebpf_hand_over(c, map_dir);
	rc = ebpf_open_in(c, map_dir, false, &e, err);
	if (rc)
		return rc;
	rc = watch_open(e, err);
	if (!rc && c->cgroup)
		rc = ebpf_attach_socks(e, c->cgroup, err);
	if (rc) {
		ebpf_free(e);
		return rc;
	}
	*out = e;
	return 0;
}

void ebpf_close(struct ebpf *e)
{
	if (e)
		ebpf_free(e);
}

void ebpf_destroy(struct ebpf *e)
{
	if (!e)
		return;
	ebpf_detach_all(e);
	ebpf_free(e);
}

void ebpf_remove(const char *pin_dir)
{
	CLEAN_FREE char *links = xasprintf("%s/links", pin_dir), *dir = xstrdup(pin_dir);
	struct ebpf left = { .pin_dir = dir, .link_dir = links };

	ebpf_hear_libbpf();
	ebpf_detach_all(&left);
}

void ebpf_set_tunnel_mtu(struct ebpf *e, uint32_t mtu)
{
	e->runtime->tunnel_mtu = mtu;
}

void ebpf_mark(struct ebpf *e)
{
	e->pass++;
}

static void on_endpoint_gone(void *arg, const void *key, const void *value)
{
	const struct abi_endpoint_key *k = key;
	const struct abi_endpoint *ep = value;
	struct dp_ip ip = ebpf_ip(&k->ip);

	if (!ep->node.w[3])
		ebpf_flow_purge(arg, &ip);
}

static void on_subnet_gone(void *arg, const void *key, const void *value)
{
	uint32_t vni;

	(void)key;
	memcpy(&vni, value, sizeof(vni));
	network_forget(arg, vni);
}

void ebpf_sweep(struct ebpf *e)
{
	ports_sweep(e);
	table_sweep(&e->vips, e->pass, NULL, NULL);
	lb_sweep(e);
	table_sweep(&e->ranges, e->pass, NULL, NULL);
	table_sweep(&e->endpoints, e->pass, on_endpoint_gone, e);
	table_sweep(&e->ifaces, e->pass, NULL, NULL);
	table_sweep(&e->subnets, e->pass, on_subnet_gone, e);
	places_sweep(e);
	ebpf_sweep_attached(e);
}

/* ---- devices ---- */

int ebpf_attach(struct ebpf *e, enum ebpf_hook hook, unsigned ifindex, struct mesh_err *err)
{
	static const enum ebpf_prog progs[] = {
		[EBPF_UPLINK] = PROG_UPLINK,
		[EBPF_LO] = PROG_LO,
		[EBPF_VXLAN] = PROG_VXLAN,
	};

	return ebpf_attach_prog(e, progs[hook], ifindex, err);
}

void ebpf_detach(struct ebpf *e, unsigned ifindex)
{
	ebpf_detach_xdp(e, ifindex);
	for (int p = 0; p < PROG_MAX; p++)
		if (p != PROG_TASK)
			ebpf_detach_prog(e, p, ifindex);
}

uint32_t iface_of(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t *task)
{
	HSET_FOREACH(&e->ifaces.entries, struct table_entry, en)
	{
		struct abi_iface *i = (struct abi_iface *)en->value;
		uint32_t ifindex;
		if (i->vni != vni || memcmp(&i->ip, ip, sizeof(*ip)) != 0)
			continue;
		if (task)
			*task = i->task;
		memcpy(&ifindex, en->key, sizeof(ifindex));
		return ifindex;
	}
	return 0;
}

/* Every interface of a task knows the address its published ports have, in whichever order they come. */
static int share_published(struct ebpf *e, uint32_t task, struct mesh_err *err)
{
	struct abi_addr published = {};

	if (!e->runtime->ingress_vni)
		return 0;
	HSET_FOREACH(&e->ifaces.entries, struct table_entry, en)
	{
		const struct abi_iface *i = (const void *)en->value;
		if (i->task == task && i->vni == e->runtime->ingress_vni)
			published = i->ip;
	}
	HSET_FOREACH(&e->ifaces.entries, struct table_entry, en)
	{
		struct abi_iface i;
		memcpy(&i, en->value, sizeof(i));
		if (i.task != task)
			continue;
		i.published = i.vni == e->runtime->ingress_vni ? (struct abi_addr){} : published;
		int rc = table_set(&e->ifaces, en->key, &i, en->pass, "ifaces", err);
		if (rc)
			return rc;
	}
	return 0;
}

int ebpf_attach_task(struct ebpf *e, const struct ebpf_iface *w, struct mesh_err *err)
{
	struct ebpf_network *n = network_of(e, w->vni);
	struct abi_iface i = { .ip = ebpf_addr(&w->ip), .vni = w->vni, .task = w->task };
	uint32_t ifindex = w->ifindex;
	const struct abi_iface *known = table_get(&e->ifaces, &ifindex);
	int rc;

	if (known && known->task == w->task) {
		i.published = known->published;
		i.backend = known->backend;
	}
	if (!n)
		return mesh_fail(err, MESH_E_NOT_FOUND, "network with VNI %u", w->vni);
	i.gateway = ebpf_addr(&n->gateway);
	i.mask = mask_of(mapped_prefix(&n->subnet, n->prefix));
	i.net = ebpf_addr(&n->subnet);
	i.net = masked(&i.net, &i.mask);
	i.flags = n->internal || w->internal ? IFACE_INTERNAL : 0;
	dp_mac_of(&w->ip, i.mac);
	memcpy(i.host_mac, w->host_mac, sizeof(i.host_mac));
	rc = table_set(&e->ifaces, &ifindex, &i, e->pass, "ifaces", err);
	rc = rc ? rc : share_published(e, i.task, err);
	rc = rc ? rc : ebpf_attach_prog(e, PROG_TASK, w->ifindex, err);
	if (rc)
		return rc;
	lb_set_ifindex(e, w->vni, &i.ip, ifindex);
	endpoint_refresh(e, w->vni, &i.ip);
	return 0;
}

void ebpf_detach_task(struct ebpf *e, unsigned ifindex)
{
	uint32_t key = ifindex;
	const struct abi_iface *known = table_get(&e->ifaces, &key);
	struct abi_iface i;

	ebpf_detach_prog(e, PROG_TASK, ifindex);
	if (!known)
		return;
	i = *known;
	table_del(&e->ifaces, &key);
	/* Shrinking cannot fail: it overwrites entries that are there. */
	(void)share_published(e, i.task, NULL);
	lb_set_ifindex(e, i.vni, &i.ip, 0);
	endpoint_refresh(e, i.vni, &i.ip);
}

/* ---- addresses and networks ---- */

const char *ebpf_device_reason(const struct ebpf *e)
{
	return e->device_reason;
}

void ebpf_via_device(struct ebpf *e, bool device)
{
	e->runtime->via_device = device || e->device_reason;
}

static struct abi_subnet_key subnet_key(const struct ebpf_network *n)
{
	struct abi_subnet_key k = { .prefix = mapped_prefix(&n->subnet, n->prefix) };
	struct abi_addr mask = mask_of(k.prefix), net = ebpf_addr(&n->subnet);

	k.net = masked(&net, &mask);
	return k;
}

int ebpf_set_network(struct ebpf *e, const struct ebpf_network *n, struct mesh_err *err)
{
	struct abi_subnet_key k = subnet_key(n);
	char name[16];
	int rc;

	rc = table_set(&e->subnets, &k, &n->vni, e->pass, "subnets", err);
	if (rc)
		return rc;
	snprintf(name, sizeof(name), "%u", n->vni);
	free(map_put(&e->networks, name, xmemdup(n, sizeof(*n))));
	if (n->ingress)
		e->runtime->ingress_vni = n->vni;
	return 0;
}

void ebpf_del_network(struct ebpf *e, uint32_t vni)
{
	struct ebpf_network *n = network_of(e, vni);
	struct abi_subnet_key k;

	if (!n)
		return;
	k = subnet_key(n);
	table_del(&e->subnets, &k);
	network_forget(e, vni);
}

/* ---- endpoints ---- */

static struct abi_endpoint_key endpoint_key(uint32_t vni, const struct abi_addr *ip)
{
	return (struct abi_endpoint_key){ .vni = vni, .ip = *ip };
}

/* What its task sends is counted for this backend. */
static int iface_set_backend(struct ebpf *e, uint32_t ifindex, uint32_t backend, struct mesh_err *err)
{
	const struct abi_iface *known = table_get(&e->ifaces, &ifindex);
	struct abi_iface i;

	if (!known || known->backend == backend)
		return 0;
	i = *known;
	i.backend = backend;
	return table_set(&e->ifaces, &ifindex, &i, CONTAINER_OF(known, struct table_entry, value)->pass, "ifaces", err);
}

static int endpoint_write(struct ebpf *e, const struct abi_endpoint_key *k, struct abi_endpoint *ep, uint64_t pass,
                          struct mesh_err *err)
{
	const struct abi_endpoint *known = table_get(&e->endpoints, k);
	struct abi_endpoint now;

	ep->backend = lb_backend_index(e, k->vni, &k->ip);
	ep->ifindex = ep->task = 0;
	if (!ep->node.w[3])
		ep->ifindex = iface_of(e, k->vni, &k->ip, &ep->task);
	int rc = ep->ifindex ? iface_set_backend(e, ep->ifindex, ep->backend, err) : 0;
	if (rc)
		return rc;
	/* The programs raise this one flag, of tasks of this node; it must survive our write. */
	ep->flags = known ? known->flags : 0;
	if (known && !ep->node.w[3] && memcmp(known, ep, sizeof(*ep)) != 0 &&
	    !bpf_map_lookup_elem(e->endpoints.fd, k, &now))
		ep->flags = now.flags;
	return table_set(&e->endpoints, k, ep, pass, "endpoints", err);
}

void endpoint_refresh(struct ebpf *e, uint32_t vni, const struct abi_addr *ip)
{
	struct abi_endpoint_key k = endpoint_key(vni, ip);
	const struct abi_endpoint *known = table_get(&e->endpoints, &k);
	struct abi_endpoint ep;
	struct mesh_err err = {};

	if (!known)
		return;
	ep = *known;
	if (endpoint_write(e, &k, &ep, CONTAINER_OF(known, struct table_entry, value)->pass, &err))
		log_warn("endpoint not refreshed error=\"%s\"", err.msg);
}

int ebpf_set_endpoint(struct ebpf *e, const struct ebpf_endpoint *w, struct mesh_err *err)
{
	struct abi_addr ip = ebpf_addr(&w->ip);
	struct abi_endpoint_key k = endpoint_key(w->vni, &ip);
	struct abi_endpoint ep = {};

	if (!w->local)
		ep.node = ebpf_addr(&w->node);
	dp_mac_of(&w->ip, ep.mac);
	return endpoint_write(e, &k, &ep, e->pass, err);
}

void ebpf_del_endpoint(struct ebpf *e, uint32_t vni, const struct dp_ip *ip)
{
	struct abi_addr a = ebpf_addr(ip);
	struct abi_endpoint_key k = endpoint_key(vni, &a);
	const struct abi_endpoint *ep = table_get(&e->endpoints, &k);
	bool local = ep && !ep->node.w[3];

	table_del(&e->endpoints, &k);
	if (local)
		ebpf_flow_purge(e, ip);
}

/* ---- services' addresses ---- */

int ebpf_set_vip(struct ebpf *e, const struct dp_ip *vip, uint64_t service, struct mesh_err *err)
{
	struct abi_vip v = { .service = lb_service_index(e, service) };

	if (!v.service)
		return mesh_fail(err, MESH_E_NOT_FOUND, "service of a virtual address");
	v.vni = e->services[v.service].vni;
	return table_set(&e->vips, vip->b, &v, e->pass, "vips", err);
}

void ebpf_del_vip(struct ebpf *e, const struct dp_ip *vip)
{
	table_del(&e->vips, vip->b);
}
