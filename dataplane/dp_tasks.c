/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dp_int.h"
#include "dataplane/netlink/netns.h"

#define WAIT_NS (10 * NS_PER_SEC) /* for a network to come with a delta */
#define NETS_MAX 64
#define ATTACH_BATCH 8 /* wired before one pass: wiring one takes the kernel some milliseconds */

void dp_attach_free(struct dp_attach *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->nets.n; i++)
		free(a->nets.v[i].addr);
	free(a->nets.v);
	free(a->host_ports.v);
	strs_clear(&a->nameservers);
	free(a);
}

void dp_task_free(struct dp *d, struct dp_task *t)
{
	(void)d;
	if (!t)
		return;
	if (t->sd >= 0)
		close(t->sd);
	vec_fini(&t->listen);
	free(t->nets.v);
	free(t->host_ports.v);
	free(t);
}

/* ---- local addresses ----------------------------------------------------------------------------- */

static bool in_local(const struct dp *d, const struct dp_ip *ip)
{
	if (!dp_ip_is_v4(ip))
		return false;
	uint32_t mask = d->local.prefix ? ~0u << (32 - d->local.prefix) : 0;
	const uint8_t *a = ip->b + 12, *b = d->local.subnet.b + 12;
	uint32_t x = (uint32_t)a[0] << 24 | a[1] << 16 | a[2] << 8 | a[3];
	uint32_t y = (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
	return ((x ^ y) & mask) == 0;
}

/* Interfaces of tasks of before a restart hold their addresses until those are attached again or swept. */
int dp_read_reserved(struct dp *d)
{
	struct kern_routes routes = { 0 };
	int rc = kern_routes(d->wire.k, &routes);
	d->reserved.len = 0;
	for (size_t i = 0; i < routes.len && !rc; i++)
		if (routes.data[i].protocol == WIRE_PROTOCOL && in_local(d, &routes.data[i].dst))
			vec_push(&d->reserved, routes.data[i].dst);
	vec_fini(&routes);
	return rc;
}

static bool local_used(const struct dp *d, const struct dp_ip *ip)
{
	for (size_t i = 0; i < d->reserved.len; i++)
		if (memcmp(&d->reserved.data[i], ip, sizeof(*ip)) == 0)
			return true;
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++)
			if (!t->nets.v[i].vni && memcmp(&t->nets.v[i].wire.ip, ip, sizeof(*ip)) == 0)
				return true;
	}
	return memcmp(&d->local.gateway, ip, sizeof(*ip)) == 0;
}

/* The next free one after the last given out, so that an address rests before it is used again. */
static int local_addr(struct dp *d, struct dp_ip *out, struct mesh_err *err)
{
	uint32_t hosts = d->local.prefix >= 31 ? 0 : (1u << (32 - d->local.prefix)) - 2, base, at;
	memcpy(&base, d->local.subnet.b + 12, 4);
	memcpy(&at, d->last_local.b + 12, 4);
	base = __builtin_bswap32(base) & (d->local.prefix ? ~0u << (32 - d->local.prefix) : 0);
	at = __builtin_bswap32(at);
	uint32_t next = at > base && at - base < hosts ? at - base : 0; /* 0-based number of a host address */
	for (uint32_t i = 0; i < hosts; i++) {
		uint32_t ip = __builtin_bswap32(base + 1 + (next + i) % hosts);
		*out = d->local.subnet;
		memcpy(out->b + 12, &ip, 4);
		if (!local_used(d, out)) {
			d->last_local = *out;
			return 0;
		}
	}
	return mesh_fail(err, MESH_E_EXHAUSTED, "no free address in the local network");
}

/* ---- from a wish to a task ----------------------------------------------------------------------- */

static uint32_t task_number(const struct dp *d, const task_id *id)
{
	uint32_t n = hash32(id->s, strlen(id->s));
	for (;; n++) {
		bool taken = !n;
		MAP_FOREACH(&d->tasks, e)
			taken |= ((const struct dp_task *)e->value)->number == n;
		if (!taken)
			return n;
	}
}

static bool networks_known(const struct dp *d, const struct dp_attach *a)
{
	for (size_t i = 0; i < a->nets.n; i++)
		if (!ID_EMPTY(a->nets.v[i].network) && !map_has(&d->desired.networks, a->nets.v[i].network.s))
			return false;
	return true;
}

static int resolve_overlay(struct dp *d, const struct dp_attach_net *n, struct dp_tnet *out, struct mesh_err *err)
{
	const struct dp_network *net = map_get(&d->desired.networks, n->network.s);
	unsigned prefix;
	struct dp_ip subnet;
	if (!net)
		return mesh_fail(err, MESH_E_NOT_FOUND, "network '%s': not known on this node", n->network.s);
	if (dp_ip_parse(n->addr, &out->wire.ip, &out->wire.prefix) != 0 || !dp_ip_is_v4(&out->wire.ip))
		return mesh_fail(err, MESH_E_INVALID, "network '%s': bad address '%s'", net->name ? net->name : "",
		                 n->addr ? n->addr : "");
	if (dp_ip_parse(net->gateway, &out->wire.gateway, NULL) != 0 || dp_ip_parse(net->subnet, &subnet, &prefix) != 0)
		return mesh_fail(err, MESH_E_INVALID, "network '%s': bad subnet or gateway",
		                 net->name ? net->name : "");
	if (!strchr(n->addr, '/'))
		out->wire.prefix = prefix;
	out->vni = net->vni;
	out->internal = net->internal;
	out->ingress = net->ingress;
	out->wire.mtu = net->mtu ? net->mtu : d->underlay_mtu - OVERLAY_OVERHEAD;
	return 0;
}

static int resolve_local(struct dp *d, int ns, struct dp_tnet *out, struct mesh_err *err)
{
	out->wire.gateway = d->local.gateway;
	out->wire.prefix = d->local.prefix;
	out->wire.mtu = d->underlay_mtu;
	if (wire_adopt_addr(&d->wire, ns, out->wire.host_name, out->wire.name, &out->wire.ip))
		return 0;
	return local_addr(d, &out->wire.ip, err);
}

static int resolve_nets(struct dp *d, int ns, const struct dp_attach *a, struct dp_task *t, struct mesh_err *err)
{
	if (a->nets.n > NETS_MAX)
		return mesh_fail(err, MESH_E_INVALID, "more than %d networks", NETS_MAX);
	for (size_t i = 0; i < a->nets.n; i++) {
		const struct dp_attach_net *n = &a->nets.v[i];
		struct dp_tnet *out = LIST_ADD(&t->nets);
		out->network = n->network;
		snprintf(out->wire.name, sizeof(out->wire.name), "eth%u", (unsigned)(i % NETS_MAX));
		wire_host_name(&d->wire, t->id.s, n->network.s, out->wire.host_name);
		int rc = ID_EMPTY(n->network) ? resolve_local(d, ns, out, err) : resolve_overlay(d, n, out, err);
		if (rc)
			return rc;
	}
	/* The way out: the first network that has one; else the ingress network's, for answers to clients only. */
	t->way_out = t->nets.n;
	for (size_t i = t->nets.n; i-- > 0;)
		if (t->nets.v[i].ingress)
			t->way_out = i;
	for (size_t i = t->nets.n; i-- > 0;)
		if (!t->nets.v[i].internal && !t->nets.v[i].ingress)
			t->way_out = i;
	if (t->way_out < t->nets.n)
		t->nets.v[t->way_out].wire.default_route = true;
	return 0;
}

/* The driver's side of the interfaces; the devices stand. */
static int attach_driver(struct dp *d, struct dp_task *t, struct mesh_err *err)
{
	for (size_t i = 0; i < t->nets.n; i++) {
		const struct dp_tnet *n = &t->nets.v[i];
		int rc = d->drv->attach_task(d, t, n, err);
		if (rc)
			return mesh_wrap(err, rc, "%s", n->wire.name);
	}
	return 0;
}

/* ---- the resolver's sockets ---------------------------------------------------------------------- */

/* A descriptor of another process, when it is the socket we expect; -1 otherwise. */
static int borrow_fd(pid_t pid, int fd, int type)
{
	if (fd < 0)
		return -1;
	CLEAN_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CLEAN_CLOSE int got = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	if (got < 0 || !dns_socket_valid(got, type))
		return -1;
	return TAKE_FD(got);
}

static int resolver_sockets(const struct dp_attach *a, int ns, int *udp, int *tcp, struct mesh_err *err)
{
	*udp = borrow_fd(a->pid, a->dns_udp_fd, SOCK_DGRAM);
	*tcp = borrow_fd(a->pid, a->dns_tcp_fd, SOCK_STREAM);
	if (*udp >= 0 && *tcp >= 0)
		return 0;
	if (*udp >= 0)
		close(*udp);
	if (*tcp >= 0)
		close(*tcp);
	*udp = *tcp = -1;
	int prev = netns_enter(ns, err);
	if (prev < 0)
		return prev;
	int rc = dns_sockets_open(udp, tcp, err);
	netns_leave(prev);
	return rc;
}

static int attach_resolver(struct dp *d, const struct dp_attach *a, const struct dp_task *t, int ns,
                           struct mesh_err *err)
{
	struct dns_zone *zones[NETS_MAX];
	int udp, tcp, rc = resolver_sockets(a, ns, &udp, &tcp, err);
	if (rc)
		return rc;
	dns_server_add(d->dns, t->id.s, udp, tcp, &a->nameservers, zones, dp_task_zones(d, t, zones, NETS_MAX));
	return 0;
}

/* ---- attach -------------------------------------------------------------------------------------- */

static int open_diag(int ns, struct mesh_err *err)
{
	int prev = netns_enter(ns, err);
	if (prev < 0)
		return prev;
	int fd = sd_open(err);
	netns_leave(prev);
	return fd;
}

static void unwire(struct dp *d, const struct dp_task *t)
{
	struct VEC(int) links = { 0 };
	for (size_t i = 0; i < t->nets.n; i++) {
		if (!t->nets.v[i].wire.ifindex)
			continue;
		vec_push(&links, t->nets.v[i].wire.ifindex);
	}
	int rc = kern_links_del(d->wire.k, links.data, links.len);
	for (size_t i = 0; i < links.len; i++)
		d->drv->detach_task(d, links.data[i]);
	if (rc)
		log_warn("cannot delete a task's interfaces task=%s error=%s", t->id.s, mesh_code_text(rc));
	vec_fini(&links);
}

static int wire_up(struct dp *d, const struct dp_attach *a, struct dp_task *t, struct mesh_err *err)
{
	CLEAN_CLOSE int ns = netns_open(a->pid, err);
	if (ns < 0)
		return ns;
	if (netns_is_current(ns))
		return mesh_fail(err, MESH_E_INVALID, "process %d is in the host's own network namespace", (int)a->pid);
	int rc = resolve_nets(d, ns, a, t, err);
	struct wire_iface ifaces[NETS_MAX];
	for (size_t i = 0; i < t->nets.n && !rc; i++)
		ifaces[i] = t->nets.v[i].wire;
	if (!rc)
		rc = wire_task(&d->wire, ns, ifaces, t->nets.n, err);
	for (size_t i = 0; i < t->nets.n && !rc; i++)
		t->nets.v[i].wire = ifaces[i];
	if (!rc)
		rc = attach_driver(d, t, err);
	if (!rc) {
		t->sd = open_diag(ns, err);
		rc = t->sd < 0 ? t->sd : 0;
	}
	if (!rc)
		rc = attach_resolver(d, a, t, ns, err);
	if (rc)
		unwire(d, t);
	return rc;
}

static struct dp_task *task_new(struct dp *d, const struct dp_attach *a)
{
	struct dp_task *t = XNEW(struct dp_task);
	t->id = a->task;
	t->pid = a->pid;
	t->sd = -1;
	t->number = task_number(d, &a->task);
	t->host_ports.n = a->host_ports.n;
	if (a->host_ports.n)
		t->host_ports.v = xmemdup(a->host_ports.v, a->host_ports.n * sizeof(*a->host_ports.v));
	return t;
}

/* Without the task that already holds a local address under its own name, a reservation is just used. */
static void unreserve(struct dp *d, const struct dp_task *t)
{
	for (size_t i = 0; i < t->nets.n; i++)
		for (size_t r = d->reserved.len; r-- > 0;)
			if (memcmp(&d->reserved.data[r], &t->nets.v[i].wire.ip, sizeof(struct dp_ip)) == 0)
				vec_remove(&d->reserved, r);
}

/* Its places in the driver's tables: what the next pass looks at. */
static void touch_wired(struct dp *d, const struct dp_task *t)
{
	for (size_t i = 0; i < t->nets.n; i++)
		desired_touch_endpoint(&d->desired, &t->nets.v[i].network, &t->nets.v[i].wire.ip);
	for (size_t i = 0; i < t->host_ports.n; i++)
		desired_touch_port(&d->desired, t->host_ports.v[i].protocol, t->host_ports.v[i].published);
}

/* What the manager says of it counts no more, or counts again. */
static void touch_named(struct dp *d, const task_id *task)
{
	MAP_FOREACH(&d->desired.networks, e)
		desired_touch_task(&d->desired, task, &((const struct dp_network *)e->value)->id);
}

static void attach_now(struct dp *d, struct dp_attach *a)
{
	struct mesh_err err = { 0 };
	struct dp_task *t = map_get(&d->tasks, a->task.s);
	if (t && t->pid == a->pid) {
		dp_report_task(d, DP_ATTACHED, &a->task, 0, "");
		return;
	}
	if (t) /* a new process under the old name: the old one is over */
		dp_do_detach(d, &a->task, 1);
	/* The driver must know the networks before their interfaces. */
	if (d->version_due)
		dp_pass(d);
	t = task_new(d, a);
	int rc = wire_up(d, a, t, &err);
	if (rc) {
		dp_task_free(d, t);
		dp_report_task(d, DP_ATTACHED, &a->task, rc, mesh_err_text(&err, rc));
		return;
	}
	map_put(&d->tasks, t->id.s, t);
	unreserve(d, t);
	touch_wired(d, t);
	if (map_has(&d->down, t->id.s)) {
		map_del(&d->down, t->id.s);
		touch_named(d, &t->id);
		for (size_t i = 0; i < t->nets.n; i++)
			map_put(&d->desired.dirty_nets, t->nets.v[i].network.s, d);
	}
	vec_push(&d->attached, t->id);
	d->dirty = true;
	if (d->attached.len >= ATTACH_BATCH)
		dp_pass(d);
}

void dp_do_attach(struct dp *d, struct dp_attach *a, int64_t now)
{
	if (!networks_known(d, a)) {
		struct dp_waiting w = { .attach = a, .deadline = d->desired.whole ? now + WAIT_NS : 0 };
		vec_push(&d->waiting, w);
		return;
	}
	attach_now(d, a);
	dp_attach_free(a);
}

void dp_retry_waiting(struct dp *d, int64_t now)
{
	for (size_t i = 0; i < d->waiting.len;) {
		struct dp_waiting *w = &d->waiting.data[i];
		struct dp_attach *a = w->attach;
		bool known = networks_known(d, a);
		if (!w->deadline && d->desired.whole)
			w->deadline = now + WAIT_NS;
		if (!known && (!w->deadline || now < w->deadline)) {
			i++;
			continue;
		}
		vec_remove(&d->waiting, i);
		if (known)
			attach_now(d, a);
		else
			dp_report_task(d, DP_ATTACHED, &a->task, MESH_E_NOT_FOUND,
			               "a network of the task is not known on this node");
		dp_attach_free(a);
	}
}

/* ---- detach -------------------------------------------------------------------------------------- */

static void drop_waiting(struct dp *d, const task_id *task)
{
	for (size_t i = d->waiting.len; i-- > 0;) {
		if (!ID_EQ(d->waiting.data[i].attach->task, *task))
			continue;
		dp_attach_free(d->waiting.data[i].attach);
		vec_remove(&d->waiting, i);
	}
}

/* Out of the tables and the names first, so that peers answer from now on; then the devices, all in one go. */
void dp_do_detach(struct dp *d, const task_id *tasks, size_t n)
{
	struct VEC(struct dp_task *) gone = { 0 };
	struct VEC(int) links = { 0 };
	for (size_t i = 0; i < n; i++) {
		drop_waiting(d, &tasks[i]);
		struct dp_task *t = map_del(&d->tasks, tasks[i].s);
		map_put(&d->down, tasks[i].s, d);
		touch_named(d, &tasks[i]);
		if (!t)
			continue;
		touch_wired(d, t);
		for (size_t k = 0; k < t->nets.n; k++)
			map_put(&d->desired.dirty_nets, t->nets.v[k].network.s, d);
		dns_server_del(d->dns, t->id.s);
		vec_push(&gone, t);
	}
	dp_pass(d);
	for (size_t i = 0; i < gone.len; i++)
		for (size_t k = 0; k < gone.data[i]->nets.n; k++)
			vec_push(&links, gone.data[i]->nets.v[k].wire.ifindex);
	/* The devices take their programs with them: detaching those first would wait for the kernel once for each. */
	int rc = kern_links_del(d->wire.k, links.data, links.len);
	for (size_t i = 0; i < links.len; i++)
		d->drv->detach_task(d, links.data[i]);
	for (size_t i = 0; i < gone.len; i++)
		dp_task_free(d, gone.data[i]);
	for (size_t i = 0; i < n; i++)
		dp_report_task(d, DP_DETACHED, &tasks[i], rc, rc ? "interfaces cannot be deleted" : "");
	vec_fini(&gone);
	vec_fini(&links);
}

static bool is_wired(const struct dp *d, int ifindex)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++)
			if (t->nets.v[i].wire.ifindex == ifindex)
				return true;
	}
	return false;
}

static bool is_waited_for(const struct dp *d, const char *host_name)
{
	char name[IFNAMSIZ];
	for (size_t i = 0; i < d->waiting.len; i++) {
		const struct dp_attach *a = d->waiting.data[i].attach;
		for (size_t k = 0; k < a->nets.n; k++) {
			wire_host_name(&d->wire, a->task.s, a->nets.v[k].network.s, name);
			if (strcmp(name, host_name) == 0)
				return true;
		}
	}
	return false;
}

bool dp_tasks_missing(struct dp *d)
{
	struct kern_links links = { 0 };
	bool missing = false;
	if (d->attach_done || kern_links(d->wire.k, &links))
		return false;
	for (size_t i = 0; i < links.len; i++)
		missing |= wire_is_veth(&d->wire, &links.data[i]) && !is_wired(d, links.data[i].ifindex);
	vec_fini(&links);
	return missing;
}

void dp_do_attach_done(struct dp *d)
{
	struct kern_links links = { 0 };
	struct VEC(int) doomed = { 0 };
	d->attach_done = true;
	d->reserved.len = 0;
	int rc = kern_links(d->wire.k, &links);
	for (size_t i = 0; i < links.len && !rc; i++) {
		const struct kern_link *l = &links.data[i];
		if (!wire_is_veth(&d->wire, l) || is_wired(d, l->ifindex) || is_waited_for(d, l->name))
			continue;
		vec_push(&doomed, l->ifindex);
	}
	if (!rc)
		rc = kern_links_del(d->wire.k, doomed.data, doomed.len);
	for (size_t i = 0; i < doomed.len; i++)
		d->drv->detach_task(d, doomed.data[i]);
	if (rc)
		log_warn("cannot remove interfaces of tasks that are gone error=%s", mesh_code_text(rc));
	vec_fini(&links);
	vec_fini(&doomed);
	d->dirty = true;
}
