/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Overlay networks from the store, and the three names every engine has of itself: bridge, host, none. */
#include <stdio.h>

#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"
#include "control/api/service_spec.h"
#include "control/api/view.h"
#include "control/orchestrator/brain.h"

/* ---- the node's own --------------------------------------------------------------------------- */

static const struct local_network {
	const char *name, *driver;
} locals[] = { { "bridge", "bridge" }, { "host", "host" }, { "none", "null" } };

/* The same everywhere and always, 64 digits as the engine's: a service may name "host" by it. */
static void local_id(const char *name, char out[65])
{
	char seed[32];
	for (int i = 0; i < 4; i++) {
		snprintf(seed, sizeof(seed), "mesh/%s/%d", name, i);
		snprintf(out + 16 * i, 17, "%016llx", (unsigned long long)hash64(seed, strlen(seed)));
	}
}

const char *local_network_name(const char *ref)
{
	char id[65];
	for (size_t i = 0; i < ARRAY_SIZE(locals); i++) {
		local_id(locals[i].name, id);
		if (streq(ref, locals[i].name) || streq(ref, id))
			return locals[i].name;
	}
	return NULL;
}

static void write_local(struct jw *w, const struct local_network *n, const char *scope)
{
	char id[65];
	local_id(n->name, id);
	jw_open(w, '{');
	jw_kstr(w, "Name", n->name);
	jw_kstr(w, "Id", id);
	jw_ktime(w, "Created", 0);
	jw_kstr(w, "Scope", scope);
	jw_kstr(w, "Driver", n->driver);
	jw_kbool(w, "EnableIPv6", false);
	jw_kraw(w, "IPAM", "{\"Driver\":\"default\",\"Options\":null,\"Config\":[]}");
	jw_kbool(w, "Internal", false);
	jw_kbool(w, "Attachable", false);
	jw_kbool(w, "Ingress", false);
	jw_kraw(w, "ConfigFrom", "{\"Network\":\"\"}");
	jw_kbool(w, "ConfigOnly", false);
	jw_kraw(w, "Containers", "{}");
	jw_kraw(w, "Options", "{}");
	jw_kraw(w, "Labels", "{}");
	jw_close(w, '}');
}

static const struct local_network *find_local(const char *ref, bool prefix)
{
	char id[65];
	for (size_t i = 0; i < ARRAY_SIZE(locals); i++) {
		local_id(locals[i].name, id);
		bool same = streq(ref, locals[i].name) || streq(ref, id);
		if (same || (prefix && strlen(ref) >= 4 && strncmp(ref, id, strlen(ref)) == 0))
			return &locals[i];
	}
	return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct net_view {
	const char *id, *name, *driver, *scope, *type;
	const struct str_map *labels;
};

static bool net_matches(const struct filters *f, const struct net_view *n)
{
	return filters_contains(f, "id", n->id) && filters_contains(f, "name", n->name) &&
	       filters_exact(f, "driver", n->driver) && filters_exact(f, "scope", n->scope) &&
	       filters_exact(f, "type", n->type) && filters_labels(f, "label", n->labels);
}

static bool network_used(const struct store *s, const char *id, char service[MESH_ID_LEN + 1]);

static void list_swarm(struct jw *w, const struct store *s, const struct filters *f)
{
	bool asked = filters_get(f, "dangling") != NULL, dangling = filters_bool(f, "dangling", false);
	STORE_EACH(s, STORE_NETWORK, struct md_network, n) {
		struct net_view v = { n->meta.id, n->spec.name, n->spec.driver.name ? n->spec.driver.name : "overlay",
			              "swarm",    "custom",     &n->spec.labels };
		char user[MESH_ID_LEN + 1];
		if (net_matches(f, &v) && (!asked || dangling != network_used(s, n->meta.id, user)))
			view_network(w, s, n, NULL);
	}
}

void api_network_list(struct req *r)
{
	static const char *const allowed[] = { "dangling", "driver", "id", "label", "name", "scope", "type", NULL };
	static const struct str_map no_labels;
	struct api *a = r->api;
	struct store *s = a->ops->store(a->arg);
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	jw_open(&w, '[');
	if (s)
		list_swarm(&w, s, &f);
	for (size_t i = 0; i < ARRAY_SIZE(locals); i++) {
		char id[65];
		local_id(locals[i].name, id);
		struct net_view v = { id, locals[i].name, locals[i].driver, "local", "builtin", &no_labels };
		if (net_matches(&f, &v) && !filters_bool(&f, "dangling", false))
			write_local(&w, &locals[i], "local");
	}
	jw_close(&w, ']');
	filters_clear(&f);
	req_reply_json(r, 200, &w);
}

void api_network_inspect(struct req *r)
{
	struct api *a = r->api;
	struct store *s = a->ops->store(a->arg);
	const char *scope = req_query(r, "scope");
	bool swarm_only = streq(scope, "swarm"), local_only = streq(scope, "local");
	/* A client that puts a service on "host" asks for it in swarm scope. */
	const struct local_network *l = find_local(r->arg[0], false);
	struct mesh_err err = { 0 };
	const void *n = NULL;
	struct jw w = { 0 };
	int rc = l || !s || local_only ? MESH_E_NOT_FOUND : store_find(s, STORE_NETWORK, r->arg[0], &n, &err);
	if (rc && !l && !swarm_only && rc == MESH_E_NOT_FOUND)
		l = find_local(r->arg[0], true);
	if (l) {
		write_local(&w, l, swarm_only ? "swarm" : "local");
	} else if (rc) {
		if (rc == MESH_E_NOT_FOUND)
			(void)mesh_fail(&err, rc, "network %.300s not found", r->arg[0]);
		req_fail(r, rc, &err);
		return;
	} else {
		struct api_local_state state;
		api_local(a, &state);
		view_network(&w, s, n, state.node_id);
	}
	req_reply_json(r, 200, &w);
}

/* ---- creating --------------------------------------------------------------------------------- */

struct net_ipam_config {
	char *subnet, *ip_range, *gateway;
	struct str_map aux;
};
struct net_ipam {
	char *driver;
	SCH_LIST(struct net_ipam_config) config;
};
struct net_config_from {
	char *network;
};
struct net_create {
	char *name, *driver, *scope;
	bool check_duplicate, internal, attachable, ingress, config_only, ipv6;
	struct opt_bool ipv4;
	struct net_config_from *config_from;
	struct net_ipam *ipam;
	struct str_map options, labels;
	char id[MESH_ID_LEN + 1];
};
#define T struct net_ipam_config
static const struct sch_field ipam_config_fields[] = {
	SF(1, STR, "Subnet", subnet, 0),
	SF(2, STR, "IPRange", ip_range, 0),
	SF(3, STR, "Gateway", gateway, 0),
	SF(4, MAP, "AuxiliaryAddresses", aux, 0),
};
static SCHEMA(ipam_config_schema, net_ipam_config, ipam_config_fields);
#undef T
#define T struct net_ipam
static const struct sch_field ipam_fields[] = {
	SF(1, STR, "Driver", driver, 0),
	SF_LIST(3, "Config", config, &ipam_config_schema, 0),
};
static SCHEMA(ipam_schema, net_ipam, ipam_fields);
#undef T
#define T struct net_config_from
static const struct sch_field config_from_fields[] = { SF(1, STR, "Network", network, 0) };
static SCHEMA(config_from_schema, net_config_from, config_from_fields);
#undef T
#define T struct net_create
static const struct sch_field create_fields[] = {
	SF(1, STR, "Name", name, 0),
	SF(2, BOOL, "CheckDuplicate", check_duplicate, 0),
	SF(3, STR, "Driver", driver, 0),
	SF(4, STR, "Scope", scope, 0),
	SF(5, BOOL, "EnableIPv6", ipv6, 0),
	SF_PTR(6, "IPAM", ipam, &ipam_schema, 0),
	SF(7, BOOL, "Internal", internal, 0),
	SF(8, BOOL, "Attachable", attachable, 0),
	SF(9, BOOL, "Ingress", ingress, 0),
	SF(10, BOOL, "ConfigOnly", config_only, 0),
	SF_PTR(11, "ConfigFrom", config_from, &config_from_schema, 0),
	SF(12, MAP, "Options", options, 0),
	SF(13, MAP, "Labels", labels, 0),
	SF(14, OPT_BOOL, "EnableIPv4", ipv4, 0),
};
static SCHEMA(create_schema, net_create, create_fields);
#undef T

static void free_create(void *q)
{
	sch_free(&create_schema, q);
}

static int check_create(const struct net_create *q, struct mesh_err *err)
{
	if (!q->name || !*q->name)
		return mesh_fail(err, MESH_E_INVALID, "network name is required");
	for (size_t i = 0; i < ARRAY_SIZE(locals); i++)
		if (streq(q->name, locals[i].name))
			return mesh_fail(err, MESH_E_FORBIDDEN, "operation is not permitted on predefined %s network",
			                 q->name);
	if (!streq(q->driver, "overlay"))
		return mesh_fail(err, MESH_E_UNSUPPORTED,
		                 "network driver \"%.64s\" is not supported: create it with --driver overlay",
		                 q->driver && *q->driver ? q->driver : "bridge");
	if (streq(q->scope, "local"))
		return mesh_fail(err, MESH_E_INVALID, "an overlay network has swarm scope, not local");
	if (q->config_only || (q->config_from && q->config_from->network && *q->config_from->network))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "config-only networks are not supported");
	if (q->ipv4.set && !q->ipv4.v)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "networks without IPv4 are not supported");
	if (q->ipam && q->ipam->driver && !streq(q->ipam->driver, "default") && *q->ipam->driver)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "IPAM driver \"%.64s\" is not supported", q->ipam->driver);
	for (size_t i = 0; q->ipam && i < q->ipam->config.n; i++)
		if (q->ipam->config.v[i].aux.n)
			return mesh_fail(err, MESH_E_UNSUPPORTED, "auxiliary addresses are not supported");
	const char *enc = smap_get(&q->options, "encrypted");
	if (enc && !streq(enc, "false"))
		return mesh_fail(err, MESH_E_UNSUPPORTED,
		                 "encrypted overlay networks are not supported: neither ESP nor WireGuard is driven "
		                 "by this data plane");
	return 0;
}

/* The engine hands any option to its driver; what ours does not look at is named. */
static void warn_create(const struct net_create *q, struct str_list *warnings)
{
	for (size_t i = 0; i < q->options.n; i++) {
		const char *key = q->options.v[i].key;
		if (streq(key, "encrypted") || streq(key, "com.docker.network.driver.mtu"))
			continue;
		CLEAN_FREE char *w = xasprintf("Options.%.100s: not supported, ignored", key);
		strs_add(warnings, w);
	}
}

static void copy_pairs(struct str_map *to, const struct str_map *from)
{
	for (size_t i = 0; i < from->n; i++)
		smap_set(to, from->v[i].key, from->v[i].value);
}

static void fill_spec(struct md_network_spec *s, const struct net_create *q)
{
	str_set(&s->name, q->name);
	copy_pairs(&s->labels, &q->labels);
	str_set(&s->driver.name, "overlay");
	copy_pairs(&s->driver.options, &q->options);
	s->ipv6_enabled = q->ipv6;
	s->internal = q->internal;
	s->attachable = q->attachable;
	s->ingress = q->ingress;
	str_set(&s->scope, "swarm");
	s->ipam = sch_new(&md_ipam_options_schema);
	str_set(&s->ipam->driver.name, "default");
	for (size_t i = 0; q->ipam && i < q->ipam->config.n; i++) {
		const struct net_ipam_config *c = &q->ipam->config.v[i];
		struct md_ipam_config *to = LIST_ADD(&s->ipam->configs);
		str_set(&to->subnet, c->subnet);
		str_set(&to->ip_range, c->ip_range);
		str_set(&to->gateway, c->gateway);
	}
}

static int build_create(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	struct net_create *q = r->data;
	if (store_by_name(r->store, STORE_NETWORK, q->name))
		return mesh_fail(err, MESH_E_CONFLICT, "network with name %s already exists", q->name);
	if (q->ingress) {
		STORE_EACH(r->store, STORE_NETWORK, struct md_network, n)
			if (n->spec.ingress)
				return api_rpc_fail(err, MESH_E_CONFLICT, "AlreadyExists",
				                    "ingress network (%s) is already present", n->meta.id);
	}
	struct md_network_spec spec = { 0 };
	fill_spec(&spec, q);
	int rc = brain_check_network(r->store, &spec, err);
	if (rc) {
		sch_clear(&md_network_spec_schema, &spec);
		return rc;
	}
	api_new_id(r->api, q->id);
	struct md_network *n = store_tx_create(tx, STORE_NETWORK, q->id);
	n->spec = spec;
	return 0;
}

static void reply_created(struct req *r)
{
	struct buf warning = { 0 };
	struct jw w = { 0 };
	for (size_t i = 0; i < r->warnings.n; i++)
		buf_printf(&warning, "%s%s", i ? "; " : "", r->warnings.v[i]);
	jw_open(&w, '{');
	jw_kstr(&w, "Id", ((struct net_create *)r->data)->id);
	jw_kstr(&w, "Warning", buf_str(&warning));
	jw_close(&w, '}');
	buf_fini(&warning);
	req_reply_json(r, 201, &w);
}

static bool need_manager(struct req *r)
{
	struct mesh_err err = { 0 };
	struct store *s = r->api->ops->store(r->api->arg);
	if (s && store_cluster(s))
		return true;
	req_fail(r, api_not_manager(r->api, &err), &err);
	return false;
}

void api_network_create(struct req *r)
{
	struct mesh_err err = { 0 };
	struct net_create *q = sch_new(&create_schema);
	req_keep(r, q, free_create);
	if (req_decode(r, &create_schema, q))
		return;
	warn_create(q, &r->warnings);
	int rc = check_create(q, &err);
	if (rc)
		req_fail(r, rc, &err);
	else if (need_manager(r))
		req_change(r, build_create, reply_created);
}

/* ---- removing --------------------------------------------------------------------------------- */

static bool attaches(const struct md_network_config *v, size_t n, const char *id)
{
	for (size_t i = 0; i < n; i++)
		if (streq(v[i].target, id))
			return true;
	return false;
}

/* service: who uses it. */
static bool network_used(const struct store *s, const char *id, char service[MESH_ID_LEN + 1])
{
	const struct md_network *net = store_get(s, STORE_NETWORK, id);
	STORE_EACH(s, STORE_SERVICE, struct md_service, sv) {
		bool ingress = net && net->spec.ingress && md_endpoint_has_ingress(sv->spec.endpoint);
		if (ingress || attaches(sv->spec.task.networks.v, sv->spec.task.networks.n, id) ||
		    attaches(sv->spec.networks.v, sv->spec.networks.n, id)) {
			mesh_id_set(service, sv->meta.id);
			return true;
		}
	}
	return false;
}

static int build_remove(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const void *found;
	char user[MESH_ID_LEN + 1];
	int rc = store_find(r->store, STORE_NETWORK, r->arg[0], &found, err);
	if (rc)
		return rc == MESH_E_NOT_FOUND ? mesh_fail(err, rc, "network %.300s not found", r->arg[0]) : rc;
	const struct md_network *n = found;
	if (network_used(r->store, n->meta.id, user))
		return api_rpc_fail(err, MESH_E_IN_USE, "FailedPrecondition", "network %s is in use by service %s",
		                    n->meta.id, user);
	STORE_EACH(r->store, STORE_TASK, struct md_task, t)
		if (md_task_standalone(t) && !md_task_ended(t) &&
		    attaches(t->spec.networks.v, t->spec.networks.n, n->meta.id))
			return mesh_fail(err, MESH_E_FORBIDDEN,
			                 "error while removing network: network %s has active endpoints (name:\"%s\")",
			                 n->spec.name, t->spec.attachment->name ? t->spec.attachment->name : "");
	store_tx_delete(tx, STORE_NETWORK, n->meta.id);
	return 0;
}

static void reply_gone(struct req *r)
{
	req_reply_empty(r, 204);
}

void api_network_remove(struct req *r)
{
	const struct local_network *l = find_local(r->arg[0], false);
	if (l)
		req_error(r, 403, "%s is a pre-defined network and cannot be removed", l->name);
	else if (need_manager(r))
		req_change(r, build_remove, reply_gone);
}

static void free_names(void *names)
{
	strs_clear(names);
	free(names);
}

static int build_prune(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	static const char *const allowed[] = { "label", "until", NULL };
	struct str_list *names = r->data;
	struct filters f = { 0 };
	int rc = filters_parse(req_query(r, "filters"), allowed, &f, err);
	strs_clear(names);
	STORE_EACH(r->store, STORE_NETWORK, struct md_network, n) {
		char user[MESH_ID_LEN + 1];
		if (rc || n->spec.ingress || network_used(r->store, n->meta.id, user) ||
		    !filters_labels(&f, "label", &n->spec.labels))
			continue;
		strs_add(names, n->spec.name);
		store_tx_delete(tx, STORE_NETWORK, n->meta.id);
	}
	filters_clear(&f);
	return rc;
}

static void reply_pruned(struct req *r)
{
	const struct str_list *names = r->data;
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_key(&w, "NetworksDeleted");
	if (names->n)
		jw_strs(&w, names);
	else
		jw_null(&w);
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

void api_network_prune(struct req *r)
{
	req_keep(r, XNEW(struct str_list), free_names);
	if (!r->api->ops->store(r->api->arg))
		reply_pruned(r);
	else
		req_change(r, build_prune, reply_pruned);
}

void api_network_connect(struct req *r)
{
	req_error(r, 501,
	          "the networks of a container are chosen when it is made: docker run --network, or for services "
	          "docker service update --network-add / --network-rm");
}
