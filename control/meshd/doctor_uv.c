/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "meshctl doctor" on one node: looks at itself, and tries the ways to the others: TCP to managers' control ports, and
 * packets of growing size through the tunnel port, which the other node's program answers (dataplane/probe.c).
 */
#include <errno.h>
#include <dirent.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/firewall.h"
#include "control/meshd/doctor.h"
#include "control/meshd/meshd.h"
#include "control/meshd/mtu.h"
#include "control/model/json.h"

#define TICK_MS 25
/*
 * A size that is to be found lost is followed by a probe of one that passed: once that one is answered and the other is
 * not, it is lost, however busy the two machines are. Where nothing is answered, patience doubles with each try.
 */
#define AFTER_NS (100 * NS_PER_MS)
#define SILENT_NS (200 * NS_PER_MS)
#define CONNECT_NS (3 * NS_PER_SEC)
#define DEADLINE_NS (15 * NS_PER_SEC)

/* The way to one other node. */
struct way {
	struct doctor *d;
	size_t peer; /* in the report */
	struct sockaddr_in tunnel;
	struct mtu_search search;
	uint64_t token, second;     /* of the probe, and of the one sent after it; 0 = none */
	int64_t sent_at, second_at; /* second_at: when it was answered, 0 = not yet */
	bool connecting;
	uv_tcp_t tcp;
	uv_connect_t connect;
};
struct doctor {
	struct meshd *m;
	struct doctor_report report;
	struct VEC(struct way *) ways;
	uv_timer_t timer;
	int fd, watcher;
	int64_t began;
	int handles;
	bool over;
	doctor_done done;
	void *arg;
};

static struct doctor_peer *peer_of(const struct way *w)
{
	return &w->d->report.peers.v[w->peer];
}

/* ---- the end ------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct doctor *d = h->type == UV_TIMER ? h->data : ((struct way *)h->data)->d;
	if (--d->handles)
		return;
	for (size_t i = 0; i < d->ways.len; i++)
		free(d->ways.data[i]);
	vec_fini(&d->ways);
	sch_clear(&doctor_report_schema, &d->report);
	free(d);
}

static void stop(struct doctor *d)
{
	if (d->over)
		return;
	d->over = true;
	if (d->watcher >= 0)
		network_unwatch(d->m->network, d->watcher);
	if (d->fd >= 0)
		close(d->fd);
	uv_close((uv_handle_t *)&d->timer, on_closed);
	for (size_t i = 0; i < d->ways.len; i++)
		if (d->ways.data[i]->tcp.data && !uv_is_closing((uv_handle_t *)&d->ways.data[i]->tcp))
			uv_close((uv_handle_t *)&d->ways.data[i]->tcp, on_closed);
}

void doctor_cancel(struct doctor *d)
{
	stop(d);
}

static bool is_busy(const struct doctor *d)
{
	for (size_t i = 0; i < d->ways.len; i++)
		if (d->ways.data[i]->connecting || mtu_next(&d->ways.data[i]->search))
			return true;
	return false;
}

static void finish_way(struct way *w)
{
	struct doctor_peer *p = peer_of(w);
	if (!w->search.most)
		return;
	/* Out of time: what was not found out is nobody's fault. */
	p->size_tried = w->search.done || !w->search.passed ? w->search.most : w->search.passed;
	p->size_max = w->search.passed;
	str_set(&p->tunnel, p->size_max ? "ok" : "no answer");
}

/* ---- the tunnel ---------------------------------------------------------------------------------- */

static void result(struct way *w, bool passed)
{
	w->token = w->second = 0;
	w->second_at = 0;
	mtu_result(&w->search, passed);
}

/* Its token; 0: larger than a link or a route of ours says. A rule of ours may refuse it at once (EPERM): silence. */
static uint64_t put_probe(struct way *w, unsigned size)
{
	uint64_t token = mesh_rng_next(&w->d->m->rng) | 1;
	struct buf b = { 0 };
	dp_probe_put(&b, size, token);
	ssize_t n = sendto(w->d->fd, b.data, b.len, 0, (struct sockaddr *)&w->tunnel, sizeof(w->tunnel));
	buf_fini(&b);
	return n < 0 && errno == EMSGSIZE ? 0 : token;
}

static void send_probe(struct way *w)
{
	w->sent_at = clock_mono_ns();
	w->token = put_probe(w, mtu_next(&w->search));
	if (!w->token)
		result(w, false);
	else if (w->search.passed)
		w->second = put_probe(w, w->search.least);
}

static bool is_lost(const struct way *w, int64_t now)
{
	int64_t patience = (w->second ? 5 * SILENT_NS : SILENT_NS) << w->search.tries;
	return w->second_at ? now - w->second_at > AFTER_NS : now - w->sent_at > patience;
}

static void on_seen(void *arg, const struct dp_event *e, const struct mesh_err *err)
{
	struct doctor *d = arg;
	for (size_t i = 0; !err && i < d->ways.len; i++) {
		struct way *w = d->ways.data[i];
		if (!w->token || !streq(e->verdict, "probe"))
			continue;
		if (w->second == e->token && !w->second_at)
			w->second_at = clock_mono_ns();
		if (w->token != e->token)
			continue;
		uint64_t rtt = e->mono_ns > (uint64_t)w->sent_at ? e->mono_ns - (uint64_t)w->sent_at : 0;
		struct doctor_peer *p = peer_of(w);
		p->rtt_ns = p->rtt_ns && p->rtt_ns < rtt ? p->rtt_ns : rtt;
		result(w, true);
	}
}

/* ---- the control port ---------------------------------------------------------------------------- */

static void on_connect(uv_connect_t *c, int status)
{
	struct way *w = c->data;
	if (!w->connecting)
		return;
	w->connecting = false;
	str_set(&peer_of(w)->control, status == 0 ? "ok" : uv_strerror(status));
	if (!uv_is_closing((uv_handle_t *)&w->tcp))
		uv_close((uv_handle_t *)&w->tcp, on_closed);
}

static void try_control(struct way *w, const char *addr)
{
	struct sockaddr_storage sa;
	char host[256];
	uint16_t port;
	if (net_addr_parse(addr, MESH_PORT, host, sizeof(host), &port, NULL) ||
	    uv_ip4_addr(host, port, (struct sockaddr_in *)&sa))
		return;                            /* not an IPv4 address: not asked */
	(void)uv_tcp_init(w->d->m->loop, &w->tcp); /* cannot fail */
	w->tcp.data = w->connect.data = w;
	w->d->handles++;
	w->connecting = true;
	int rc = uv_tcp_connect(&w->connect, &w->tcp, (struct sockaddr *)&sa, on_connect);
	if (rc)
		on_connect(&w->connect, rc);
}

/* ---- rounds -------------------------------------------------------------------------------------- */

static void tick_way(struct way *w, int64_t now)
{
	if (w->connecting && now - w->d->began > CONNECT_NS)
		on_connect(&w->connect, UV_ETIMEDOUT);
	if (w->token && is_lost(w, now))
		result(w, false);
	if (!w->token && mtu_next(&w->search))
		send_probe(w);
}

static void on_tick(uv_timer_t *t)
{
	struct doctor *d = t->data;
	int64_t now = clock_mono_ns();
	for (size_t i = 0; i < d->ways.len; i++)
		tick_way(d->ways.data[i], now);
	if (is_busy(d) && now - d->began < DEADLINE_NS)
		return;
	for (size_t i = 0; i < d->ways.len; i++)
		finish_way(d->ways.data[i]);
	d->done(d->arg, &d->report);
	stop(d);
}

/* ---- this machine -------------------------------------------------------------------------------- */

static void find_device(struct doctor_report *r, const struct in_addr *want)
{
	struct ifaddrs *all = NULL;
	struct ifreq q = { 0 };
	if (getifaddrs(&all))
		return;
	for (struct ifaddrs *a = all; a; a = a->ifa_next)
		if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET &&
		    ((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr.s_addr == want->s_addr)
			str_set(&r->device, a->ifa_name);
	freeifaddrs(all);
	CLEAN_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(q.ifr_name, sizeof(q.ifr_name), "%s", r->device ? r->device : "");
	if (fd >= 0 && ioctl(fd, SIOCGIFMTU, &q) == 0)
		r->mtu = (uint32_t)q.ifr_mtu;
}

static void find_leftovers(struct doctor *d)
{
	CLEAN_FREE char *dir = xasprintf("%s/bpf", d->m->opt->run);
	DIR *p = opendir(dir);
	unsigned maps = 0;
	for (struct dirent *e; p && (e = readdir(p));)
		maps += strncmp(e->d_name, "maps", 4) == 0 && e->d_name[4] >= '0' && e->d_name[4] <= '9';
	if (p)
		closedir(p);
	if (maps > 1) {
		CLEAN_FREE char *text =
			xasprintf("%u sets of BPF maps in %s, one is in use: the rest is of other builds", maps, dir);
		strs_add(&d->report.leftovers, text);
	}
}

static void add_rule(struct doctor *d, const json_t *ruleset, const struct fw_packet *p, const char *way)
{
	struct fw_finding f = { 0 };
	CLEAN_FREE char *what = xasprintf("%s port %u %s", streq(p->protocol, "udp") ? "UDP" : "TCP", p->dport, way);
	if (!firewall_drops(ruleset, p, d->m->opt->name, &f))
		return;
	for (size_t i = 0; i < d->report.rules.n; i++)
		if (streq(d->report.rules.v[i].what, what) && streq(d->report.rules.v[i].text, f.text))
			return; /* for another peer */
	struct doctor_rule *r = LIST_ADD(&d->report.rules);
	*r = (struct doctor_rule){ xstrdup(what), xstrdup(f.where), xstrdup(f.text), f.maybe };
}

static void find_rules(struct doctor *d, const char *self)
{
	unsigned port = d->m->st.data_path_port ? d->m->st.data_path_port : MESH_VXLAN_PORT;
	struct buf text = { 0 };
	json_t *j = NULL;
	/* Without it the ways are tried all the same. */
	if (dp_ruleset_json(&text, NULL) || md_json_parse(text.data, text.len, &j, NULL))
		j = NULL;
	buf_fini(&text);
	for (size_t i = 0; j && i < d->ways.len; i++) {
		char peer[INET_ADDRSTRLEN];
		uv_ip4_name(&d->ways.data[i]->tunnel, peer, sizeof(peer));
		const struct fw_packet in[] = { { "input", "udp", port, peer, self },
			                        { "prerouting", "udp", port, peer, self },
			                        { "ingress", "udp", port, peer, self },
			                        { "input", "tcp", MESH_PORT, peer, self } };
		const struct fw_packet out[] = { { "output", "udp", port, self, peer },
			                         { "postrouting", "udp", port, self, peer },
			                         { "egress", "udp", port, self, peer },
			                         { "output", "tcp", MESH_PORT, self, peer } };
		for (size_t k = 0; k < ARRAY_SIZE(in); k++) {
			add_rule(d, j, &in[k], "in");
			add_rule(d, j, &out[k], "out");
		}
	}
	json_decref(j);
}

static void look_at_self(struct doctor *d, const char *self, const struct in_addr *addr)
{
	struct doctor_report *r = &d->report;
	struct utsname u = { 0 };
	(void)uname(&u); /* cannot fail with a valid buffer */
	r->time = clock_wall_ns();
	r->version = xstrdup(MESH_VERSION);
	r->kernel = xstrdup(u.release);
	r->driver = xstrdup(network_driver(d->m->network));
	r->cgroup = xstrdup(access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "v2" : "hybrid");
	find_device(r, addr);
	find_leftovers(d);
	find_rules(d, self);
}

/* ---- the question -------------------------------------------------------------------------------- */

static bool talks_to(const struct meshd *m, const char *node)
{
	const char *manager = m->session ? session_manager(m->session) : NULL;
	return manager && streq(manager, node);
}

static void add_way(struct doctor *d, const char *arg, bool can_probe)
{
	char id[MESH_ID_LEN + 1], addr[64], driver[16], manager[80];
	struct way *w = XNEW(struct way);
	w->d = d;
	if (sscanf(arg, "peer=%25s %63s %15s %79s", id, addr, driver, manager) != 4 || streq(id, d->m->st.node.s) ||
	    uv_ip4_addr(addr, d->m->st.data_path_port ? d->m->st.data_path_port : MESH_VXLAN_PORT, &w->tunnel)) {
		free(w);
		return;
	}
	struct doctor_peer *p = LIST_ADD(&d->report.peers);
	mesh_id_set(p->node.s, id);
	w->peer = d->report.peers.n - 1;
	vec_push(&d->ways, w);
	w->search.done = true;
	if (!can_probe || !streq(driver, "ebpf"))
		str_set(&p->tunnel, "the tunnel was not tried: both nodes must run the ebpf driver to answer probes");
	else
		w->search.done = false;
	if (talks_to(d->m, id))
		str_set(&p->control, "ok"); /* over it came the question */
	else if (!streq(manager, "-"))
		try_control(w, manager);
}

static int open_probes(struct doctor *d, const struct in_addr *self)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = *self };
	struct dp_filter none = { 0 };
	int probe = IP_PMTUDISC_PROBE;
	d->watcher = network_watch(d->m->network, &none, on_seen, d, NULL);
	d->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return d->watcher < 0 || d->fd < 0 || setsockopt(d->fd, IPPROTO_IP, IP_MTU_DISCOVER, &probe, sizeof(probe)) ||
	       bind(d->fd, (struct sockaddr *)&sa, sizeof(sa));
}

struct doctor *doctor_run(struct meshd *m, const struct str_list *args, doctor_done done, void *arg)
{
	struct doctor *d = XNEW(struct doctor);
	const char *self = m->st.data_path_addr && *m->st.data_path_addr ? m->st.data_path_addr : m->st.advertise_addr;
	struct sockaddr_in sa = { 0 };
	*d = (struct doctor){ .m = m, .fd = -1, .watcher = -1, .began = clock_mono_ns(), .done = done, .arg = arg };
	d->handles = 1;
	(void)uv_timer_init(m->loop, &d->timer); /* cannot fail */
	d->timer.data = d;
	(void)uv_ip4_addr(self ? self : "", 0, &sa); /* IPv6 or none: nothing is probed */
	bool can_probe = sa.sin_addr.s_addr && strncmp(network_driver(m->network), "ebpf", 4) == 0 &&
	                 open_probes(d, &sa.sin_addr) == 0;
	for (size_t i = 0; i < args->n; i++)
		add_way(d, args->v[i], can_probe);
	look_at_self(d, self ? self : "", &sa.sin_addr);
	for (size_t i = 0; i < d->ways.len; i++)
		if (!d->ways.data[i]->search.done)
			mtu_begin(&d->ways.data[i]->search, DP_PROBE_MIN,
			          d->report.mtu > DP_PROBE_MAX ? DP_PROBE_MAX : d->report.mtu);
	(void)uv_timer_start(&d->timer, on_tick, TICK_MS, TICK_MS);
	return d;
}
