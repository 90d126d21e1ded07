/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/nft/steer.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>

#include "base/log.h"
#include "dataplane/netlink/netns.h"
#include "dataplane/wire.h"

struct steer {
	struct kern *k;
	struct nft_ctx *ctx;
	struct nfnl *nfnl;
	char *mark, *table;
	struct rules now; /* in force, as far as we know */
	bool stands;
	struct nft_found counted; /* as of the last steer_count */
};

/* The first line of what the library says. */
static int run(struct steer *l, const char *text, struct mesh_err *err)
{
	if (nft_run_cmd_from_buffer(l->ctx, text) == 0) {
		(void)nft_ctx_get_error_buffer(l->ctx); /* empties it */
		return 0;
	}
	const char *said = nft_ctx_get_error_buffer(l->ctx);
	return mesh_fail(err, -EIO, "nftables: %.*s", (int)strcspn(said ? said : "", "\n"), said ? said : "");
}

int steer_open(struct kern *k, const char *mark, struct steer **out, struct mesh_err *err)
{
	struct steer *l = XNEW(struct steer);
	l->k = k;
	l->mark = xstrdup(mark);
	l->table = xasprintf("%s_lb", mark);
	int rc = nfnl_open(&l->nfnl, err);
	if (rc) {
		steer_close(l);
		return rc;
	}
	l->ctx = nft_ctx_new(NFT_CTX_DEFAULT);
	if (!l->ctx || nft_ctx_buffer_error(l->ctx) || nft_ctx_buffer_output(l->ctx)) {
		steer_close(l);
		return mesh_fail(err, -ENOMEM, "libnftables");
	}
	*out = l;
	return 0;
}

void steer_close(struct steer *l)
{
	if (!l)
		return;
	if (l->ctx)
		nft_ctx_free(l->ctx);
	nfnl_close(l->nfnl);
	nft_found_fini(&l->counted);
	rules_fini(&l->now);
	free(l->mark);
	free(l->table);
	free(l);
}

int steer_probe(struct steer *l, const char *vxlan, const struct dp_ip *self, struct mesh_err *err)
{
	struct plan_table none = { 0 };
	struct rules empty = { 0 };
	struct buf text = { 0 };
	CLEAN_FREE char *mark = xasprintf("%s_try", l->mark);
	struct rules_in in = { .mark = mark, .vxlan = vxlan, .vxlan_port = 4789, .self = *self, .have = &none };
	rules_load_text(&in, &empty, &text);
	buf_printf(&text, "delete table ip %s_lb\ndelete table netdev %s_lb\n", mark, mark);
	int rc = run(l, buf_str(&text), err);
	buf_fini(&text);
	return rc;
}

void steer_reload(struct steer *l)
{
	l->stands = false;
}

/* ---- routes -------------------------------------------------------------------------------------- */

static struct kern_route route_of(const struct rules_route *r, int ifindex)
{
	return (struct kern_route){ .ifindex = ifindex,
		                    .dst = r->dst,
		                    .prefix = r->prefix,
		                    .protocol = WIRE_PROTOCOL,
		                    .has_via = r->vni != 0,
		                    .via = r->dst };
}

static int set_route(struct steer *l, const struct rules_route *r, const struct dp_ip *self, int ifindex)
{
	struct kern_route k = route_of(r, ifindex);
	struct kern_neigh n = { .ifindex = ifindex, .ip = r->dst };
	if (!r->vni)
		return kern_route_set(l->k, &k);
	memcpy(n.mac, r->mac, 6);
	int rc = kern_neigh_set(l->k, &n);
	return rc ? rc : kern_route_tunnel_set(l->k, &k, r->vni, self, &r->node);
}

static void del_route(struct steer *l, const struct rules_route *r, int ifindex)
{
	struct kern_route k = route_of(r, ifindex);
	struct kern_neigh n = { .ifindex = ifindex, .ip = r->dst };
	memcpy(n.mac, r->mac, 6);
	int rc = kern_route_del(l->k, &k);
	if (!rc && r->vni)
		rc = kern_neigh_del(l->k, &n);
	if (rc)
		log_debug("route not removed error=%s", mesh_code_text(rc));
}

/* Those that are new; a failure is told and the rest done all the same. */
static int set_routes(struct steer *l, const struct rules_in *in, struct rules *want, int ifindex, struct mesh_err *err)
{
	int first = 0;
	MAP_FOREACH(&want->routes, e) {
		const struct rules_route *was = l->stands ? map_get(&l->now.routes, e->key) : NULL;
		int rc = was && rules_route_equal(was, e->value) ? 0 : set_route(l, e->value, &in->self, ifindex);
		if (rc && !first)
			first = mesh_fail(err, rc, "route to %s", e->key);
	}
	return first;
}

static void del_routes(struct steer *l, const struct rules *want, int ifindex)
{
	MAP_FOREACH(&l->now.routes, e)
		if (!map_has(&want->routes, e->key))
			del_route(l, e->value, ifindex);
}

/* ---- the commit ---------------------------------------------------------------------------------- */

static int read_all(struct steer *l, struct nft_found *out)
{
	int rc = nft_read_counters(l->nfnl, l->table, out);
	for (size_t i = 0; i < RULES_COUNTING_MAX && !rc; i++)
		rc = nft_read_elems(l->nfnl, l->table, rules_counting[i], out);
	return rc;
}

/* What nft prints for a command; "" when it cannot. Good until the next. */
static const char *printed(struct steer *l, const char *command)
{
	struct mesh_err err = { 0 };
	if (run(l, command, &err))
		return "";
	const char *text = nft_ctx_get_output_buffer(l->ctx);
	return text ? text : "";
}

/* From what stands to what is wanted; the packets between see one or the other (rules.h). */
static int change(struct steer *l, const struct rules *from, struct rules *want, struct mesh_err *err)
{
	struct buf text = { 0 };
	rules_prepare_text(l->mark, from, want, &text);
	int rc = text.len ? run(l, buf_str(&text), err) : 0;
	buf_clear(&text);
	rules_change_text(l->mark, from, want, &text);
	if (!rc && text.len)
		rc = run(l, buf_str(&text), err);
	if (!rc)
		rules_changed(from, want);
	buf_fini(&text);
	return rc;
}

static int frames(struct steer *l, const struct rules_in *in, struct mesh_err *err)
{
	struct buf text = { 0 };
	CLEAN_FREE char *list = xasprintf("list table netdev %s\n", l->table);
	if (!rules_frames_stand(in, printed(l, list)))
		rules_frames_text(in, &text);
	int rc = text.len ? run(l, buf_str(&text), err) : 0;
	buf_fini(&text);
	return rc;
}

/* Where what an earlier run left is ours but for its elements and services' chains: only what differs changes. */
static bool change_left(struct steer *l, const struct rules_in *in, struct rules *want, const struct nft_found *found)
{
	struct map listed = { 0 };
	struct rules left = { 0 };
	struct mesh_err err = { 0 };
	const char *set;
	for (size_t i = 0; (set = rules_listed(i)); i++) {
		CLEAN_FREE char *list = xasprintf("list %.3s ip %s %s\n", set, l->table, set + 4);
		rules_take_listed(set + 4, printed(l, list), &listed);
	}
	bool ok = rules_left(in, want, found, &listed, &left);
	if (ok) {
		ok = frames(l, in, &err) == 0 && change(l, &left, want, &err) == 0;
		if (!ok)
			log_warn("our nftables tables cannot be taken over as they are error=\"%s\"", err.msg);
	}
	MAP_FOREACH(&listed, e)
		free(e->value);
	map_fini(&listed);
	rules_fini(&left);
	return ok;
}

/* Around what an earlier run counted and remembers; if that cannot be (its tables were others), without. */
static int load_all(struct steer *l, const struct rules_in *in, struct rules *want, struct mesh_err *err)
{
	struct nft_found found = { 0 };
	struct buf text = { 0 };
	int rc = nft_read_chains(l->nfnl, l->table, &found);
	if (!rc)
		rc = nft_read_rules(l->nfnl, l->table, &found);
	if (!rc)
		rc = read_all(l, &found);
	if (!rc && !(found.chains.count && change_left(l, in, want, &found))) {
		rules_adopt_text(in, want, &found, &text);
		rc = run(l, buf_str(&text), err);
	}
	if (rc) {
		log_warn(
			"our nftables tables cannot be taken over, made anew: connections passed on to other nodes are "
			"chosen again error=\"%s\"",
			mesh_err_text(err, rc));
		buf_clear(&text);
		rules_load_text(in, want, &text);
		rc = run(l, buf_str(&text), err);
	}
	buf_fini(&text);
	nft_found_fini(&found);
	return rc;
}

static int load(struct steer *l, const struct rules_in *in, struct rules *want, struct mesh_err *err)
{
	if (!l->stands)
		return load_all(l, in, want, err);
	int rc = change(l, &l->now, want, err);
	if (!rc)
		return 0;
	/* Somebody may have flushed the ruleset: what cannot be changed is made anew. */
	log_warn("a change of our nftables tables failed, made anew error=\"%s\"", mesh_err_text(err, rc));
	return load_all(l, in, want, err);
}

/* How long a flow of datagrams is remembered; a stream of them. */
static uint32_t life_s(bool stream)
{
	char text[16];
	int rc = sysctl_get(stream ? "net/netfilter/nf_conntrack_udp_timeout_stream"
	                           : "net/netfilter/nf_conntrack_udp_timeout",
	                    text, sizeof(text));
	return rc ? 0 : (uint32_t)strtoul(text, NULL, 10);
}

/* Whose task stops taking anything new: what rests there, a later datagram from the same port would go on with. */
static void forget_resting(struct steer *l, const struct rules *want)
{
	struct ct_flows flows = { 0 };
	bool any = false;
	MAP_FOREACH(&l->now.takes, e)
		any |= !map_has(&want->takes, e->key);
	if (!any)
		return;
	uint32_t life[] = { life_s(false), life_s(true) };
	int rc = ct_translated(l->nfnl, &flows);
	for (size_t i = 0; i < flows.len; i++) {
		const struct ct_flow *f = &flows.data[i];
		uint32_t quiet = life[f->stream] > f->left_s ? life[f->stream] - f->left_s : 0;
		int failed = rules_moves(&l->now, want, f, quiet) ? ct_forget(l->nfnl, f) : 0;
		rc = rc ? rc : failed;
	}
	if (rc)
		log_debug("flows of datagrams at a task that ends are not forgotten error=%s", mesh_code_text(rc));
	vec_fini(&flows);
}

int steer_commit(struct steer *l, const struct rules_in *in, int vxlan_ifindex, struct mesh_err *err)
{
	struct rules want = { 0 };
	rules_build(in, &want);
	int rc = set_routes(l, in, &want, vxlan_ifindex, err);
	if (!rc)
		rc = load(l, in, &want, err);
	if (!rc)
		del_routes(l, &want, vxlan_ifindex);
	if (!rc)
		forget_resting(l, &want);
	l->stands = !rc;
	rules_fini(rc ? &want : &l->now);
	if (!rc)
		l->now = want;
	return rc;
}

/* ---- counters ------------------------------------------------------------------------------------ */

int steer_count(struct steer *l)
{
	nft_found_fini(&l->counted);
	return read_all(l, &l->counted);
}

struct nft_count steer_counter(const struct steer *l, const char *name)
{
	const struct nft_count *c = map_get(&l->counted.counters, name);
	return c ? *c : (struct nft_count){ 0 };
}

struct nft_count steer_counted(const struct steer *l, enum rules_counting what, const struct dp_ip *ip)
{
	char key[96], text[DP_IP_TEXT_MAX];
	snprintf(key, sizeof(key), "%s\n%s", rules_counting[what], dp_ip_format(ip, text));
	const struct nft_count *c = map_get(&l->counted.elems, key);
	return c ? *c : (struct nft_count){ 0 };
}

/* ---- connections --------------------------------------------------------------------------------- */

int steer_translated(struct steer *l, struct ct_flows *out)
{
	return ct_translated(l->nfnl, out);
}

int steer_forget(struct steer *l, const struct ct_flow *f)
{
	return ct_forget(l->nfnl, f);
}

/* ---- what is left -------------------------------------------------------------------------------- */

static void sweep_routes(struct steer *l, int ifindex)
{
	struct kern_routes all = { 0 };
	int rc = kern_routes(l->k, &all);
	for (size_t i = 0; i < all.len && !rc; i++) {
		const struct kern_route *r = &all.data[i];
		char key[64], ip[DP_IP_TEXT_MAX];
		snprintf(key, sizeof(key), "%s/%u", dp_ip_format(&r->dst, ip), r->prefix);
		if (r->ifindex != ifindex || r->protocol != WIRE_PROTOCOL || map_has(&l->now.routes, key))
			continue;
		struct rules_route gone = { .dst = r->dst, .prefix = r->prefix, .vni = r->has_via };
		dp_mac_of(&r->dst, gone.mac);
		del_route(l, &gone, ifindex);
	}
	vec_fini(&all);
}

void steer_sweep(struct steer *l, int vxlan_ifindex)
{
	sweep_routes(l, vxlan_ifindex);
}

void steer_remove(struct steer *l, int vxlan_ifindex)
{
	struct mesh_err err = { 0 };
	CLEAN_FREE char *text = xasprintf("add table ip %s_lb\ndelete table ip %s_lb\n"
	                                  "add table netdev %s_lb\ndelete table netdev %s_lb\n",
	                                  l->mark, l->mark, l->mark, l->mark);
	int rc = run(l, text, &err);
	if (rc)
		log_warn("cannot remove our nftables tables error=%s", mesh_err_text(&err, rc));
	rules_fini(&l->now);
	l->stands = false;
	sweep_routes(l, vxlan_ifindex);
}
