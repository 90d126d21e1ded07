/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dp.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dp_int.h"
#include "dataplane/netlink/netns.h"

#define HOST_EVERY_NS (1 * NS_PER_SEC)
#define OBSERVE_RETRY_NS (100 * NS_PER_MS)
#define SEEN_EVERY_NS (50 * NS_PER_MS)
#define STATS_WAIT_NS (500 * NS_PER_MS)
#define MARK_MAX 8
#define DETACH_BATCH 64
/* ---- reports ------------------------------------------------------------------------------------- */

void dp_report_task(struct dp *d, enum dp_report_kind kind, const task_id *task, int code, const char *text)
{
	struct dp_report r = { .kind = kind, .task = *task, .code = code };
	snprintf(r.text, sizeof(r.text), "%s", text);
	d->report(d->arg, &r);
}

/* ---- the queue ----------------------------------------------------------------------------------- */

static void push(struct dp *d, struct cmd c)
{
	struct cmd *p = xmemdup(&c, sizeof(c));
	uint64_t one = 1;
	pthread_mutex_lock(&d->lock);
	*(d->tail ? &d->tail->next : &d->head) = p;
	d->tail = p;
	pthread_mutex_unlock(&d->lock);
	(void)!write(d->wakefd, &one, sizeof(one)); /* a full counter wakes as well */
}

static struct cmd *pop(struct dp *d, bool *stop)
{
	pthread_mutex_lock(&d->lock);
	struct cmd *c = d->head;
	if (c) {
		d->head = c->next;
		if (!d->head)
			d->tail = NULL;
	}
	*stop = d->stop;
	pthread_mutex_unlock(&d->lock);
	return c;
}

/* The detaches that stand at the front, so that their devices go together. */
static size_t pop_detaches(struct dp *d, task_id *out, size_t n)
{
	size_t got = 0;
	pthread_mutex_lock(&d->lock);
	while (got < n && d->head && d->head->kind == CMD_DETACH) {
		struct cmd *c = d->head;
		out[got++] = c->task;
		d->head = c->next;
		if (!d->head)
			d->tail = NULL;
		free(c);
	}
	pthread_mutex_unlock(&d->lock);
	return got;
}

static void cmd_free(struct cmd *c)
{
	if (c->delta)
		dp_delta_free(c->delta);
	dp_attach_free(c->attach);
	dp_filter_fini(&c->filter);
	free(c->ports);
	free(c);
}

void dp_submit(struct dp *d, struct dp_delta *delta)
{
	push(d, (struct cmd){ .kind = CMD_DELTA, .delta = delta });
}
void dp_attach_task(struct dp *d, struct dp_attach *a)
{
	push(d, (struct cmd){ .kind = CMD_ATTACH, .attach = a });
}
void dp_detach_task(struct dp *d, task_id task)
{
	push(d, (struct cmd){ .kind = CMD_DETACH, .task = task });
}
void dp_attach_done(struct dp *d)
{
	push(d, (struct cmd){ .kind = CMD_ATTACH_DONE });
}
void dp_watch_listen(struct dp *d, task_id task, const struct dp_port *ports, size_t n)
{
	struct cmd c = { .kind = CMD_WATCH_LISTEN, .task = task, .n_ports = n };
	c.ports = n ? xmemdup(ports, n * sizeof(*ports)) : NULL;
	push(d, c);
}
void dp_watch_flows(struct dp *d, task_id task)
{
	push(d, (struct cmd){ .kind = CMD_WATCH_FLOWS, .task = task });
}

void dp_watch(struct dp *d, unsigned watcher, struct dp_filter *f)
{
	push(d, (struct cmd){ .kind = CMD_WATCH, .watcher = watcher, .filter = *f });
	*f = (struct dp_filter){ 0 };
}
void dp_unwatch(struct dp *d, unsigned watcher)
{
	push(d, (struct cmd){ .kind = CMD_UNWATCH, .watcher = watcher });
}

/* ---- statistics ---------------------------------------------------------------------------------- */

void dp_stats_get(struct dp *d, struct dp_stats *out)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += STATS_WAIT_NS;
	until.tv_sec += until.tv_nsec / NS_PER_SEC;
	until.tv_nsec %= NS_PER_SEC;
	pthread_mutex_lock(&d->lock);
	unsigned round = d->stats_round;
	pthread_mutex_unlock(&d->lock);
	push(d, (struct cmd){ .kind = CMD_STATS });
	pthread_mutex_lock(&d->lock);
	/* A busy thread gives the figures of last time rather than none. */
	while (d->stats_round == round && pthread_cond_timedwait(&d->stats_ready, &d->lock, &until) == 0)
		;
	sch_copy(&dp_stats_schema, out, &d->stats);
	pthread_mutex_unlock(&d->lock);
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static void do_delta(struct dp *d, struct dp_delta *delta)
{
	/* A port is refused to a service when the host listens on it: as of now, not of the last look. */
	bool ports = false;
	for (size_t i = 0; i < delta->changes.n; i++)
		ports |= delta->changes.v[i].kind == DP_SERVICE;
	if (ports)
		dp_observe_ports(d);
	dp_state_apply(d, delta);
	d->dirty = d->version_due = true;
}

static void run_cmd(struct dp *d, struct cmd *c)
{
	task_id ids[DETACH_BATCH];
	size_t n = 0;
	int64_t now = clock_mono_ns();
	switch (c->kind) {
	case CMD_DELTA:
		do_delta(d, TAKE(c->delta));
		break;
	case CMD_ATTACH:
		dp_do_attach(d, TAKE(c->attach), now);
		break;
	case CMD_DETACH:
		ids[n++] = c->task;
		n += pop_detaches(d, ids + n, DETACH_BATCH - n);
		dp_do_detach(d, ids, n);
		break;
	case CMD_ATTACH_DONE:
		dp_do_attach_done(d);
		break;
	case CMD_WATCH_LISTEN:
		dp_do_watch_listen(d, c, now);
		break;
	case CMD_WATCH_FLOWS:
		dp_do_watch_flows(d, &c->task, now);
		break;
	case CMD_WATCH:
		dp_do_watch(d, c->watcher, &c->filter);
		break;
	case CMD_UNWATCH:
		dp_do_unwatch(d, c->watcher);
		break;
	case CMD_STATS:
		dp_do_stats(d);
		break;
	}
	cmd_free(c);
}

static int64_t earliest(int64_t a, int64_t b)
{
	return !b ? a : b < a ? b : a;
}

static int timeout_ms(const struct dp *d, int64_t now)
{
	int64_t at = earliest(d->host_at, d->retry_at);
	if (d->watchers)
		at = earliest(at, now + SEEN_EVERY_NS);
	if (d->observe_again)
		at = earliest(at, now + OBSERVE_RETRY_NS);
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		if (t->watch_listen || t->watch_flows)
			at = earliest(at, t->poll_at);
	}
	for (size_t i = 0; i < d->waiting.len; i++)
		at = earliest(at, d->waiting.data[i].deadline);
	return at <= now ? 0 : (int)((at - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void run_timers(struct dp *d, int64_t now)
{
	if (d->observe_again)
		dp_observe(d);
	if (now >= d->host_at) {
		dp_observe_ports(d);
		if (d->drv->poll)
			d->drv->poll(d);
		d->host_at = now + HOST_EVERY_NS;
	}
	if (d->retry_at && now >= d->retry_at)
		d->dirty = true;
	dp_poll_tasks(d, now);
}

static void *run(void *arg)
{
	struct dp *d = arg;
	struct epoll_event ev[4];
	bool stop = false;
	dp_observe(d);
	dp_observe_ports(d);
	d->host_at = clock_mono_ns() + HOST_EVERY_NS;
	if (d->desired.whole) /* else the kernel, as a daemon before left it, knows better */
		dp_pass(d);
	while (!stop) {
		for (struct cmd *c; (c = pop(d, &stop)) && !stop;)
			run_cmd(d, c);
		if (stop)
			break;
		dp_retry_waiting(d, clock_mono_ns());
		if (d->dirty)
			dp_pass(d);
		int n = epoll_wait(d->epfd, ev, ARRAY_SIZE(ev), timeout_ms(d, clock_mono_ns()));
		for (int i = 0; i < n; i++) {
			uint64_t count;
			if (ev[i].data.fd == d->wakefd)
				(void)!read(d->wakefd, &count, sizeof(count)); /* only empties it */
			else if (kern_monitor_drain(d->monitor, d->name, d->wire.vxlan_name, WIRE_PROTOCOL))
				dp_observe(d);
		}
		run_timers(d, clock_mono_ns());
		if (d->watchers)
			dp_read_seen(d);
	}
	return NULL;
}

/* ---- life ---------------------------------------------------------------------------------------- */

static int make_dirs(const char *path, struct mesh_err *err)
{
	char p[512];
	snprintf(p, sizeof(p), "%s", path);
	for (char *c = p + 1;; c++) {
		if (*c && *c != '/')
			continue;
		char keep = *c;
		*c = '\0';
		if (mkdir(p, 0700) < 0 && errno != EEXIST)
			return mesh_fail(err, -errno, "mkdir %s", p);
		*c = keep;
		if (!keep)
			return 0;
	}
}

static int mount_bpffs(const char *path, struct mesh_err *err)
{
	struct statfs st;
	int rc = make_dirs(path, err);
	if (rc)
		return rc;
	if (statfs(path, &st) < 0)
		return mesh_fail(err, -errno, "%s", path);
	if ((unsigned long)st.f_type == BPF_FS_MAGIC)
		return 0;
	if (mount("bpf", path, "bpf", 0, "mode=0700") < 0)
		return mesh_fail(err, -errno, "mount bpffs at %s", path);
	return 0;
}

static int parse_local(struct dp *d, const char *subnet, struct mesh_err *err)
{
	struct ebpf_network *n = &d->local;
	if (dp_ip_parse(subnet ? subnet : "172.18.0.0/16", &n->subnet, &n->prefix) != 0 || !dp_ip_is_v4(&n->subnet) ||
	    n->prefix < 8 || n->prefix > 29)
		return mesh_fail(err, MESH_E_INVALID, "local subnet '%s': an IPv4 subnet of /8 to /29 is needed",
		                 subnet ? subnet : "");
	uint32_t ip;
	memcpy(&ip, n->subnet.b + 12, 4);
	ip = __builtin_bswap32((__builtin_bswap32(ip) & ~0u << (32 - n->prefix)));
	memcpy(n->subnet.b + 12, &ip, 4);
	ip = __builtin_bswap32(__builtin_bswap32(ip) + 1);
	n->gateway = n->subnet;
	memcpy(n->gateway.b + 12, &ip, 4);
	return 0;
}

/* What a node configured for another driver has no need to know is not asked. */
static int choose_driver(struct dp *d, const char *want, struct mesh_err *err)
{
	struct utsname u;
	struct mesh_err why = { 0 };
	struct dp_probed probed = { 0 };
	struct dp_choice choice = { 0 };
	uname(&u);
	probed.kernel = u.release;
	if (!want || strcmp(want, "nft") != 0)
		probed.code = ebpf_probe(&why);
	if (!probed.code && (!want || strcmp(want, "nft") != 0))
		probed.code = mount_bpffs(d->pin_dir, &why);
	probed.why = mesh_err_text(&why, probed.code);
	int rc = dp_choose(want, &probed, &choice, err);
	if (rc)
		return rc;
	d->drv = choice.drv;
	memcpy(d->driver, choice.text, sizeof(d->driver));
	return 0;
}

/* The driver that was chosen does not start: another one, if what is wanted leaves the choice. */
static int choose_again(struct dp *d, const char *want, int code, struct mesh_err *err)
{
	struct mesh_err why = *err;
	struct dp_probed probed = { .code = code, .tried = true, .why = mesh_err_text(&why, code) };
	struct dp_choice choice = { 0 };
	int rc = dp_choose(want, &probed, &choice, err);
	if (rc)
		return rc;
	log_warn("the ebpf driver does not start, the nft driver takes its place reason=\"%s\"", probed.why);
	d->drv->close(d);
	d->drv = choice.drv;
	memcpy(d->driver, choice.text, sizeof(d->driver));
	*err = (struct mesh_err){ 0 };
	return 0;
}

/* What belongs to the process alone. */
static void release(struct dp *d)
{
	dns_server_stop(d->dns);
	MAP_FOREACH(&d->tasks, e)
		dp_task_free(d, e->value);
	map_fini(&d->tasks);
	map_fini(&d->down);
	for (struct cmd *c = d->head, *next; c; c = next) {
		next = c->next;
		cmd_free(c);
	}
	for (size_t i = 0; i < d->waiting.len; i++)
		dp_attach_free(d->waiting.data[i].attach);
	vec_fini(&d->waiting);
	vec_fini(&d->attached);
	nft_close(d->nft);
	dp_zones_fini(d);
	plan_table_fini(&d->have);
	MAP_FOREACH(&d->problems, e)
		free(e->value);
	map_fini(&d->problems);
	desired_fini(&d->desired);
	host_watch_fini(&d->host_watch);
	dp_host_free(d->host_reported);
	vec_fini(&d->host.ports);
	strs_clear(&d->host.addrs);
	strs_clear(&d->host.subnets);
	vec_fini(&d->host_addrs);
	vec_fini(&d->uplinks);
	vec_fini(&d->reserved);
	vec_fini(&d->masqueraded);
	sch_clear(&dp_stats_schema, &d->stats);
	kern_close(d->wire.k);
	int fds[] = { d->monitor, d->wakefd, d->epfd, d->journal };
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->stats_ready);
	free(d->name);
	free(d->state_dir);
	free(d->run_dir);
	free(d->cgroup);
	free(d->data_path_addr);
	free(d->pin_dir);
	free(d);
}

static struct dp *dp_new(const struct dp_config *c)
{
	struct dp *d = XNEW(struct dp);
	pthread_condattr_t attr;
	d->name = xstrdup(c->name);
	d->state_dir = xstrdup(c->state_dir);
	d->run_dir = xstrdup(c->run_dir);
	d->cgroup = xstrdup(c->cgroup);
	d->data_path_addr = xstrdup(c->data_path_addr);
	d->pin_dir = xasprintf("%s/bpf", c->run_dir);
	d->vxlan_port = c->vxlan_port ? c->vxlan_port : 4789;
	d->flows_max = c->flows_max;
	d->xdp = c->xdp;
	d->report = c->report;
	d->arg = c->arg;
	d->monitor = d->wakefd = d->epfd = d->host_watch.sd = d->journal = -1;
	d->host_watch.vxlan_port = d->vxlan_port;
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->stats_ready, &attr);
	pthread_condattr_destroy(&attr);
	return d;
}

static int open_fds(struct dp *d, struct mesh_err *err)
{
	int rc = kern_open(&d->wire.k, err);
	if (rc)
		return rc;
	d->monitor = kern_monitor_open(err);
	if (d->monitor < 0)
		return d->monitor;
	d->host_watch.sd = sd_open(err);
	if (d->host_watch.sd < 0)
		return d->host_watch.sd;
	d->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->epfd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event wake = { .events = EPOLLIN, .data.fd = d->wakefd };
	struct epoll_event monitor = { .events = EPOLLIN, .data.fd = d->monitor };
	if (d->wakefd < 0 || d->epfd < 0 || epoll_ctl(d->epfd, EPOLL_CTL_ADD, d->wakefd, &wake) < 0 ||
	    epoll_ctl(d->epfd, EPOLL_CTL_ADD, d->monitor, &monitor) < 0)
		return mesh_fail(err, -errno, "event loop");
	return 0;
}

static int open_driver(struct dp *d, const char *want, struct mesh_err *err)
{
	struct mesh_err story = { 0 };
	int rc = d->cgroup ? make_dirs(d->cgroup, err) : 0;
	if (rc)
		return rc;
	rc = d->drv->open(d, &story);
	if (rc && d->drv == &dp_driver_ebpf) {
		rc = choose_again(d, want, rc, &story);
		rc = rc ? rc : d->drv->open(d, &story);
	}
	if (rc && err)
		*err = story;
	return rc;
}

static int open_all(struct dp *d, const struct dp_config *c, struct mesh_err *err)
{
	int rc = parse_local(d, c->local_subnet, err);
	if (!rc)
		rc = choose_driver(d, c->driver, err);
	if (!rc)
		rc = make_dirs(d->state_dir, err);
	if (!rc)
		rc = open_fds(d, err);
	if (rc)
		return rc;
	rc = nft_open(d->name, &d->nft, err);
	if (rc)
		return rc;
	d->wire.mark = d->name;
	snprintf(d->wire.vxlan_name, sizeof(d->wire.vxlan_name), "%svx", d->name);
	rc = dp_find_underlay(d, err);
	if (rc)
		return rc;
	rc = wire_node(&d->wire, d->vxlan_port, d->underlay_mtu - OVERLAY_OVERHEAD, err);
	if (rc < 0)
		return rc;
	d->vxlan_ifindex = rc;
	rc = open_driver(d, c->driver, err);
	if (!rc && d->drv->tunnel_mtu)
		d->drv->tunnel_mtu(d, d->underlay_mtu - OVERLAY_OVERHEAD);
	if (!rc)
		rc = dp_read_reserved(d);
	if (!rc)
		rc = dns_server_start("/etc/resolv.conf", &d->dns, err);
	return rc;
}

int dp_open(const struct dp_config *c, struct dp **out, struct mesh_err *err)
{
	if (!c->name || !*c->name || strlen(c->name) > MARK_MAX)
		return mesh_fail(err, MESH_E_INVALID, "name '%s': 1 to %d characters", c->name ? c->name : "",
		                 MARK_MAX);
	struct dp *d = dp_new(c);
	int rc = open_all(d, c, err);
	if (!rc) {
		dp_state_load(d);
		rc = -pthread_create(&d->thread, NULL, run, d);
		if (rc)
			mesh_fail(err, rc, "thread");
	}
	if (rc) {
		if (d->drv)
			d->drv->close(d);
		release(d);
		return mesh_wrap(err, rc, "data plane");
	}
	*out = d;
	return 0;
}

static void stop(struct dp *d)
{
	uint64_t one = 1;
	pthread_mutex_lock(&d->lock);
	d->stop = true;
	pthread_mutex_unlock(&d->lock);
	(void)!write(d->wakefd, &one, sizeof(one)); /* a full counter wakes as well */
	pthread_join(d->thread, NULL);
}

void dp_close(struct dp *d)
{
	if (!d)
		return;
	stop(d);
	d->drv->close(d);
	release(d);
}

static void remove_devices(struct dp *d)
{
	struct kern_links links = { 0 };
	struct VEC(int) doomed = { 0 };
	int rc = kern_links(d->wire.k, &links);
	for (size_t i = 0; i < links.len && !rc; i++)
		if (wire_is_veth(&d->wire, &links.data[i]) || strcmp(links.data[i].name, d->wire.vxlan_name) == 0)
			vec_push(&doomed, links.data[i].ifindex);
	if (!rc)
		rc = kern_links_del(d->wire.k, doomed.data, doomed.len);
	if (rc)
		log_warn("cannot remove our devices error=%s", mesh_code_text(rc));
	vec_fini(&links);
	vec_fini(&doomed);
}

void dp_destroy(struct dp *d)
{
	struct mesh_err err = { 0 };
	char path[512];
	if (!d)
		return;
	stop(d);
	d->drv->destroy(d);
	remove_devices(d);
	struct port_set none = { 0 };
	int rc = reserve_apply(&d->reserved_ports, &none);
	if (rc)
		log_warn("cannot give reserved ports back error=%s", mesh_code_text(rc));
	rc = nft_remove(d->nft, &err);
	if (rc)
		log_warn("cannot remove our nftables table error=%s", mesh_err_text(&err, rc));
	if (umount2(d->pin_dir, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		log_warn("cannot unmount path=%s error=%s", d->pin_dir, strerror(errno));
	(void)rmdir(d->pin_dir); /* stays when somebody put something there */
	snprintf(path, sizeof(path), "%s/dataplane.state", d->state_dir);
	(void)unlink(path); /* may not be there */
	release(d);
}

const char *dp_driver(const struct dp *d)
{
	return d->driver;
}
