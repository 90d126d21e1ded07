/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dp_int.h"

#define RETRY_NS (1 * NS_PER_SEC)
#define JOURNAL_MIN (256 * 1024) /* bytes of deltas, beside as many as the whole takes, before it is written anew */
#define STATE_MAX (256u << 20)

/* ---- the driver's tables ------------------------------------------------------------------------- */

static bool is_open(const struct dp *d, uint8_t proto, uint16_t port)
{
	struct item like = { .kind = ITEM_PORT };
	like.port.proto = proto;
	like.port.published = port;
	const struct item *have = plan_table_get(&d->have, &like);
	return have && !have->port.closed_here;
}

/* i (NULL: none any more) is in force now at the place of like. */
static void note(struct dp *d, const struct item *like, const struct item *i)
{
	struct ebpf_port port = like->port;
	bool is_port = like->kind == ITEM_PORT;
	if (i)
		plan_table_put(&d->have, item_dup(i));
	else
		plan_table_del(&d->have, like);
	if (is_port)
		port_set_put(&d->published, port.published,
		             is_open(d, IPPROTO_TCP, port.published) || is_open(d, IPPROTO_UDP, port.published));
}

/* Sets or removals, as del says. Returns the first failure; what failed is tried again by the next pass. */
static int apply_ops(struct dp *d, const struct plan_ops *ops, bool del, struct str_list *problems)
{
	int first = 0;
	for (size_t i = 0; i < ops->len; i++) {
		const struct plan_op *op = &ops->data[i];
		struct mesh_err err = { 0 };
		char what[96], text[300];
		if (op->del != del)
			continue;
		d->ops++;
		if (del) {
			d->drv->del(d, op->item);
			note(d, op->item, NULL);
			continue;
		}
		int rc = d->drv->set(d, op->item, &err);
		if (!rc) {
			note(d, op->item, op->item);
			continue;
		}
		d->op_failures++;
		first = first ? first : rc;
		if (op->claim)
			map_put(&d->desired.dirty, op->claim, d);
		else
			d->desired.all_dirty = true;
		snprintf(text, sizeof(text), "%s: %s", item_format(op->item, what), mesh_err_text(&err, rc));
		strs_add(problems, text);
	}
	return first;
}

/* ---- names --------------------------------------------------------------------------------------- */

size_t dp_task_zones(struct dp *d, const struct dp_task *t, struct dns_zone **out, size_t n)
{
	size_t len = 0;
	for (size_t i = 0; i < t->nets.n && len < n; i++) {
		/* Tasks of strangers share the ingress network: nobody's names are seen there. */
		struct dns_zone *z = t->nets.v[i].ingress ? NULL : map_get(&d->zones, t->nets.v[i].network.s);
		if (z)
			out[len++] = z;
	}
	return len;
}

static struct dns_zone *build_zone(const struct dp *d, const struct dp_network *net)
{
	struct VEC(const struct dp_service *) services = { 0 };
	struct VEC(const struct dp_endpoint *) endpoints = { 0 };
	const struct desired_net *on = map_get(&d->desired.by_network, net->id.s);
	if (on) {
		HSET_FOREACH(&on->services, struct dp_service, s)
		vec_push(&services, s);
		HSET_FOREACH(&on->endpoints, struct dp_endpoint, ep)
		{
			bool gone = ID_EQ(ep->node, d->desired.self) && map_has(&d->down, ep->task.s);
			if (!gone)
				vec_push(&endpoints, ep);
		}
	}
	struct dns_zone *z = dns_zone_new(net, services.data, services.len, endpoints.data, endpoints.len);
	vec_fini(&services);
	vec_fini(&endpoints);
	return z;
}

/* Nobody sees the names of the ingress network, and it is the largest. */
static void drop_unseen(struct dp *d)
{
	MAP_FOREACH(&d->desired.dirty_nets, e) {
		const struct dp_network *net = map_get(&d->desired.networks, e->key);
		if (net && net->ingress)
			map_del(&d->desired.dirty_nets, e->key);
	}
}

/* Builds the zones of the networks that changed, and swaps them under the resolver. */
static void apply_names(struct dp *d)
{
	drop_unseen(d);
	size_t n = 0, max = d->desired.dirty_nets.count;
	if (!max)
		return;
	CLEAN_FREE struct dns_zone **old = xcalloc(max, sizeof(*old)), **new = xcalloc(max, sizeof(*new));
	MAP_FOREACH(&d->desired.dirty_nets, e) {
		const struct dp_network *net = map_get(&d->desired.networks, e->key);
		new[n] = net ? build_zone(d, net) : NULL;
		old[n] = new[n] ? map_put(&d->zones, e->key, new[n]) : map_del(&d->zones, e->key);
		n++;
	}
	dns_server_swap(d->dns, old, new, n);
	/* A network that is new to the resolver: tasks that were attached before it came. */
	MAP_FOREACH(&d->tasks, e) {
		struct dp_task *t = e->value;
		struct dns_zone *zones[64];
		bool touched = false;
		for (size_t i = 0; i < t->nets.n; i++)
			touched |= map_has(&d->desired.dirty_nets, t->nets.v[i].network.s);
		if (touched)
			dns_server_rescope(d->dns, t->id.s, zones, dp_task_zones(d, t, zones, ARRAY_SIZE(zones)));
	}
	for (size_t i = 0; i < n; i++)
		dns_zone_free(old[i]);
	map_fini(&d->desired.dirty_nets);
}

void dp_zones_fini(struct dp *d)
{
	MAP_FOREACH(&d->zones, e)
		dns_zone_free(e->value);
	map_fini(&d->zones);
}

/* ---- netfilter ----------------------------------------------------------------------------------- */

struct ips VEC(struct dp_ip);

static bool ips_have(const struct dp_ip *v, size_t n, const struct dp_ip *ip)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&v[i], ip, sizeof(*ip)) == 0)
			return true;
	return false;
}

static void ips_minus(const struct dp_ip *a, size_t na, const struct dp_ip *b, size_t nb, struct ips *out)
{
	for (size_t i = 0; i < na; i++)
		if (!ips_have(b, nb, &a[i]))
			vec_push(out, a[i]);
}

static int nft_change(struct dp *d, const struct ips *want, struct mesh_err *err)
{
	struct ips add = { 0 }, del = { 0 };
	int rc = 0;
	ips_minus(want->data, want->len, d->masqueraded.data, d->masqueraded.len, &add);
	ips_minus(d->masqueraded.data, d->masqueraded.len, want->data, want->len, &del);
	if (add.len || del.len)
		rc = nft_update(d->nft, add.data, add.len, del.data, del.len, err);
	vec_fini(&add);
	vec_fini(&del);
	return rc;
}

static void want_masquerade(const struct dp *d, struct ips *want)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		if (t->way_out < t->nets.n && !t->nets.v[t->way_out].ingress)
			vec_push(want, t->nets.v[t->way_out].wire.ip);
	}
}

static void apply_nft(struct dp *d, struct str_list *problems)
{
	struct ips want = { 0 };
	struct mesh_err err = { 0 };
	if (d->drv->commit) /* it has it all in its own tables */
		return;
	want_masquerade(d, &want);
	/* Somebody may have flushed the ruleset: what cannot be changed is made anew. */
	int rc = d->nft_stands ? nft_change(d, &want, &err) : -ENOENT;
	if (rc)
		rc = nft_apply(d->nft, want.data, want.len, &err);
	d->nft_stands = !rc;
	if (rc) {
		strs_add(problems, mesh_err_text(&err, rc));
		want.len = 0;
	}
	vec_fini(&d->masqueraded);
	d->masqueraded.data = want.data;
	d->masqueraded.len = want.len;
	d->masqueraded.cap = want.cap;
}

/* For a driver that puts all changes into force in one go. */
static int commit(struct dp *d, struct str_list *problems)
{
	struct ips want = { 0 };
	struct mesh_err err = { 0 };
	if (!d->drv->commit)
		return 0;
	want_masquerade(d, &want);
	int rc = d->drv->commit(d, want.data, want.len, &err);
	vec_fini(&want);
	d->nft_stands = !rc;
	if (rc)
		strs_add(problems, mesh_err_text(&err, rc));
	return rc;
}

/* ---- the host's own connections ------------------------------------------------------------------ */

static void apply_reserved(struct dp *d)
{
	int rc = reserve_apply(&d->reserved_ports, &d->published);
	if (rc)
		log_debug("cannot reserve published ports error=%s", mesh_code_text(rc));
}

/* Other nodes take tunnelled packets from the address the manager told them, and from no other. */
static void check_self(const struct dp *d, struct str_list *problems)
{
	const struct dp_node *n = map_get(&d->desired.nodes, d->desired.self.s);
	struct dp_ip ip;
	char text[160], own[DP_IP_TEXT_MAX];
	if (!n || dp_ip_parse(n->addr, &ip, NULL) != 0 || memcmp(&ip, &d->self, sizeof(ip)) == 0)
		return;
	snprintf(text, sizeof(text), "the cluster knows this node as %s, it sends from %s: set the data path address",
	         n->addr, dp_ip_format(&d->self, own));
	strs_add(problems, text);
}

/* ---- the pass ------------------------------------------------------------------------------------ */

static const char *host_takes(void *arg, uint8_t proto, uint16_t port)
{
	struct dp *d = arg;
	const struct dp_host_port *p = host_listens(&d->host, proto, port);
	return p ? p->process : NULL;
}

struct inputs {
	struct VEC(struct plan_iface) ifaces;
	struct VEC(struct plan_host_port) ports;
};
static void gather(struct dp *d, struct inputs *in)
{
	MAP_FOREACH(&d->tasks, e) {
		const struct dp_task *t = e->value;
		for (size_t i = 0; i < t->nets.n; i++) {
			const struct dp_tnet *n = &t->nets.v[i];
			vec_push(&in->ifaces, ((struct plan_iface){ t->id, n->network, n->vni, n->wire.ip }));
		}
		const struct dp_tnet *out = t->way_out < t->nets.n ? &t->nets.v[t->way_out]
		                            : t->nets.n            ? t->nets.v
		                                                   : NULL;
		for (size_t i = 0; out && i < t->host_ports.n; i++) {
			const struct dp_host_publish *p = &t->host_ports.v[i];
			struct plan_host_port hp = { .port = { p->protocol, p->published, p->target },
				                     .vni = out->vni,
				                     .ip = out->wire.ip };
			vec_push(&in->ports, hp);
		}
	}
}

static bool is_named(const struct dp *d, const char *task)
{
	char key[2 * (MESH_ID_LEN + 1)];
	MAP_FOREACH(&d->desired.networks, n) {
		snprintf(key, sizeof(key), "%s/%s", task, n->key);
		const struct dp_endpoint *e = map_get(&d->desired.endpoints, key);
		if (e && ID_EQ(e->node, d->desired.self))
			return true;
	}
	return false;
}

/* Tasks that ended here are remembered only until the manager stops naming them. */
static void forget_down(struct dp *d)
{
	MAP_FOREACH(&d->down, e)
		if (!is_named(d, e->key))
			map_del(&d->down, e->key);
}

static void report_degraded(struct dp *d, const struct str_list *problems)
{
	char text[sizeof(d->degraded)] = "";
	size_t len = 0, shown = 0;
	for (; shown < problems->n && len + strlen(problems->v[shown]) + 24 < sizeof(text); shown++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", len ? "; " : "", problems->v[shown]);
	if (shown < problems->n && len)
		snprintf(text + len, sizeof(text) - len, "; and %zu more", problems->n - shown);
	else if (shown < problems->n)
		snprintf(text, sizeof(text), "%s", problems->v[0]);
	if (strcmp(text, d->degraded) == 0)
		return;
	memcpy(d->degraded, text, sizeof(text));
	struct dp_report r = { .kind = DP_DEGRADED, .code = problems->n ? MESH_E_CONFLICT : 0 };
	memcpy(r.text, text, sizeof(r.text));
	d->report(d->arg, &r);
}

static void report_applied(struct dp *d, int code, const struct str_list *problems)
{
	if (!d->version_due)
		return;
	d->version_due = false;
	d->applied = d->desired.version;
	struct dp_report r = { .kind = DP_APPLIED, .version = d->applied, .code = code };
	if (code && problems->n)
		snprintf(r.text, sizeof(r.text), "%s", problems->v[problems->n - 1]);
	d->report(d->arg, &r);
}

/* Once for each network that lost an endpoint; ops names them until the tables forget. */
static void close_stuck(struct dp *d, const struct plan_ops *ops, bool swept)
{
	struct VEC(uint32_t) done = { 0 };
	bool lost = swept; /* before a restart of ours nobody watched */
	if (swept)
		dp_close_stuck(d, 0);
	for (size_t i = 0; i < ops->len && !lost; i++)
		lost = ops->data[i].lost_vni != 0;
	if (lost && d->drv->forget)
		d->drv->forget(d);
	for (size_t i = 0; i < ops->len && !swept; i++) {
		const struct plan_op *op = &ops->data[i];
		bool again = !op->lost_vni;
		for (size_t k = 0; k < done.len && !again; k++)
			again = done.data[k] == op->lost_vni;
		if (again)
			continue;
		vec_push(&done, op->lost_vni);
		dp_close_stuck(d, op->lost_vni);
	}
	vec_fini(&done);
}

/* What was said of claims, beside what this pass met. */
static void add_problems(const struct dp *d, struct str_list *problems)
{
	MAP_FOREACH(&d->problems, e)
		strs_add(problems, e->value);
}

static void plan_pass(struct dp *d, const struct inputs *in, struct plan *plan, struct plan_ops *ops)
{
	struct plan_in pi = { .desired = &d->desired,
		              .all = d->desired.all_dirty,
		              .self = d->self,
		              .host_addrs = d->host_addrs.data,
		              .n_host_addrs = d->host_addrs.len,
		              .ifaces = in->ifaces.data,
		              .n_ifaces = in->ifaces.len,
		              .host_ports = in->ports.data,
		              .n_host_ports = in->ports.len,
		              .down = &d->down,
		              .local = d->local,
		              .taken = host_takes,
		              .arg = d,
		              .have = &d->have };
	plan_want(&pi, plan, &d->problems);
	plan_diff(&d->have, plan, ops);
	map_fini(&d->desired.dirty);
	d->desired.all_dirty = false;
}

void dp_pass(struct dp *d)
{
	struct inputs in = { 0 };
	struct plan plan = { 0 };
	struct plan_ops ops = { 0 };
	struct str_list problems = { 0 };
	d->dirty = false;
	d->passes++;
	forget_down(d);
	gather(d, &in);
	plan_pass(d, &in, &plan, &ops);
	/* What makes all of it anew would leave them out: what stands from before serves them. */
	bool held = d->drv->commit && dp_tasks_missing(d);
	int rc = apply_ops(d, &ops, false, &problems), committed = held ? 0 : commit(d, &problems);
	apply_names(d);
	(void)apply_ops(d, &ops, true, &problems); /* removals cannot fail */
	if (!committed && !held)
		committed = commit(d, &problems);
	rc = rc ? rc : committed;
	apply_nft(d, &problems);
	apply_reserved(d);
	check_self(d, &problems);
	bool sweeps = !d->swept && d->attach_done && d->desired.whole;
	if (sweeps) {
		d->drv->sweep(d);
		d->swept = true;
		log_info("taken over from before tasks=%zu", d->tasks.count);
	}
	d->retry_at = rc || (!d->nft_stands && !held) ? clock_mono_ns() + RETRY_NS : 0;
	if (!held)
		report_applied(d, rc, &problems);
	for (size_t i = 0; i < d->attached.len; i++)
		dp_report_task(d, DP_ATTACHED, &d->attached.data[i], 0, "");
	d->attached.len = 0;
	close_stuck(d, &ops, sweeps);
	add_problems(d, &problems);
	report_degraded(d, &problems);
	vec_fini(&in.ifaces);
	vec_fini(&in.ports);
	vec_fini(&ops);
	plan_fini(&plan);
	strs_clear(&problems);
}

/* ---- what the node knows without a manager ------------------------------------------------------- */

/*
 * STATE/dataplane.state: the whole state, then every delta since, each behind its length. A delta is on file before it
 * is in the kernel: a daemon that starts again, killed at whatever moment, never takes the kernel back. No fsync:
 * after a power loss there are no tasks whose paths it could describe.
 */
static void state_path(const struct dp *d, const char *suffix, char out[512])
{
	snprintf(out, 512, "%s/dataplane%s", d->state_dir, suffix);
}

static void put_framed(struct buf *b, const struct dp_delta *delta)
{
	struct buf body = { 0 };
	sch_encode(&dp_delta_schema, delta, &body);
	buf_put_u32(b, (uint32_t)body.len);
	buf_put(b, body.data, body.len);
	buf_fini(&body);
}

/* False at the end, also of what a full disk or a kill cut short. */
static bool load_one(struct dp *d, struct rd *r)
{
	size_t n = rd_u32(r);
	const uint8_t *p = rd_left(r) >= n && n ? rd_bytes(r, n) : NULL;
	struct dp_delta *delta = sch_new(&dp_delta_schema);
	if (!p || sch_decode(&dp_delta_schema, delta, p, n) || (!d->desired.whole && !delta->snapshot)) {
		dp_delta_free(delta);
		return false;
	}
	desired_apply(&d->desired, delta);
	return true;
}

void dp_state_load(struct dp *d)
{
	char path[512];
	struct stat st;
	state_path(d, ".state", path);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > (off_t)STATE_MAX)
		return;
	CLEAN_FREE uint8_t *p = xcalloc(1, (size_t)st.st_size);
	struct rd r = rd_of(p, (size_t)st.st_size);
	bool complete = read(fd, p, (size_t)st.st_size) == st.st_size;
	while (complete && rd_left(&r))
		complete = load_one(d, &r);
	if (!complete)
		log_warn("the saved network state is damaged, waiting for a manager path=%s", path);
}

static void state_save(struct dp *d)
{
	char path[512], tmp[512];
	struct buf b = { 0 };
	if (!d->desired.whole)
		return;
	struct dp_delta *snapshot = desired_snapshot(&d->desired);
	put_framed(&b, snapshot);
	dp_delta_free(snapshot);
	state_path(d, ".state", path);
	state_path(d, ".state.tmp", tmp);
	if (d->journal >= 0)
		close(d->journal);
	d->journal = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0600);
	if (d->journal < 0 || write(d->journal, b.data, b.len) != (ssize_t)b.len || rename(tmp, path) < 0) {
		log_warn("cannot save the network state path=%s error=%s", path, strerror(errno));
		if (d->journal >= 0)
			close(d->journal);
		d->journal = -1;
		(void)unlink(path); /* none is better than one the kernel is ahead of */
	}
	d->journal_left = b.len + JOURNAL_MIN;
	buf_fini(&b);
}

void dp_state_apply(struct dp *d, struct dp_delta *delta)
{
	struct buf b = { 0 };
	bool append = !delta->snapshot && d->journal >= 0;
	if (append)
		put_framed(&b, delta);
	desired_apply(&d->desired, delta);
	append = append && b.len < d->journal_left && write(d->journal, b.data, b.len) == (ssize_t)b.len;
	d->journal_left -= append ? b.len : 0;
	if (!append)
		state_save(d);
	buf_fini(&b);
}
