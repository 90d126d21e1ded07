/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cluster: init, join, leave, update, keys. */
#include <stdio.h>

#include "base/mem.h"
#include "control/api/http.h"
#include "control/api/view.h"

#define T struct api_init_request
static const struct sch_field init_fields[] = {
	SF(1, STR, "ListenAddr", listen_addr, 0),
	SF(2, STR, "AdvertiseAddr", advertise_addr, 0),
	SF(3, STR, "DataPathAddr", data_path_addr, 0),
	SF(4, U32, "DataPathPort", data_path_port, 0),
	SF(5, U32, "SubnetSize", subnet_size, 0),
	SF(6, STRS, "DefaultAddrPool", default_addr_pool, 0),
	SF(7, BOOL, "ForceNewCluster", force_new_cluster, 0),
	SF(8, BOOL, "AutoLockManagers", autolock, 0),
	SF_ENUM(9, "Availability", availability, &md_availability_names, 0),
	SF_OBJ(10, "Spec", spec, &md_cluster_spec_schema, 0),
};
static SCHEMA(init_schema, api_init_request, init_fields);
#undef T
#define T struct api_join_request
static const struct sch_field join_fields[] = {
	SF(1, STR, "ListenAddr", listen_addr, 0),
	SF(2, STR, "AdvertiseAddr", advertise_addr, 0),
	SF(3, STR, "DataPathAddr", data_path_addr, 0),
	SF(4, STR, "JoinToken", token, 0),
	SF(5, STRS, "RemoteAddrs", remote_addrs, 0),
	SF_ENUM(6, "Availability", availability, &md_availability_names, 0),
};
static SCHEMA(join_schema, api_join_request, join_fields);
#undef T

void api_swarm_inspect(struct req *r)
{
	struct jw w = { 0 };
	view_cluster(&w, store_cluster(r->store), true);
	req_reply_json(r, 200, &w);
}

/* Ends a request whose operation answers with nothing, or with a text that is the answer. */
static void on_done(void *arg, int code, const char *text, const struct mesh_err *err)
{
	struct req *r = arg;
	if (req_live(r)) {
		if (code) {
			req_fail(r, code, err);
		} else if (text) {
			struct jw w = { 0 };
			jw_str(&w, text);
			req_reply_json(r, 200, &w);
		} else {
			req_reply_empty(r, 200);
		}
	}
	req_unref(r);
}

static void on_done_quiet(void *arg, int code, const char *text, const struct mesh_err *err)
{
	(void)text;
	on_done(arg, code, NULL, err);
}

static bool refuse_member(struct req *r)
{
	struct api_local_state l;
	api_local(r->api, &l);
	if (streq(l.state, "inactive") || streq(l.state, "error"))
		return false;
	req_error(r, 503,
	          "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and "
	          "join another one.");
	return true;
}

void api_swarm_init(struct req *r)
{
	struct api_init_request q = { 0 };
	struct api_local_state l;
	api_local(r->api, &l);
	if (!req_decode(r, &init_schema, &q)) {
		bool forced = q.force_new_cluster && l.manager;
		q.spec.encryption.autolock = q.spec.encryption.autolock || q.autolock;
		if (forced || !refuse_member(r))
			r->api->ops->swarm_init(r->api->arg, &q, on_done, req_ref(r));
	}
	sch_clear(&init_schema, &q);
}

void api_swarm_join(struct req *r)
{
	struct api_join_request q = { 0 };
	if (!req_decode(r, &join_schema, &q)) {
		if (refuse_member(r))
			;
		else if (!q.remote_addrs.n)
			req_error(r, 400, "at least 1 RemoteAddr is required to join");
		else if (!q.token || !*q.token)
			req_error(r, 400, "a join token is required: see \"docker swarm join-token\"");
		else
			r->api->ops->swarm_join(r->api->arg, &q, on_done_quiet, req_ref(r));
	}
	sch_clear(&join_schema, &q);
}

/* Why a manager should not simply leave, in the engine's words; NULL when it may. */
static const char *leave_warning(struct store *s, char *out, size_t n)
{
	size_t reachable = 0, all = 0;
	const char *head = "You are attempting to leave the swarm on a node that is participating as a manager. ";
	STORE_EACH(s, STORE_NODE, struct md_node, node) {
		if (!node->manager)
			continue;
		all++;
		reachable += node->manager->reachability == MD_REACH_REACHABLE;
	}
	if (reachable <= 1 && all <= 1) {
		snprintf(out, n,
		         "%sRemoving the last manager erases all current state of the swarm. Use `--force` to ignore "
		         "this message. ",
		         head);
		return out;
	}
	size_t used = (size_t)snprintf(out, n, "%s", head);
	if (reachable && reachable - 1 <= (all - 1) / 2)
		used += (size_t)snprintf(out + used, n - used,
		                         "Removing this node leaves %zu managers out of %zu. Without a Raft quorum "
		                         "your swarm will be inaccessible. ",
		                         reachable - 1, all);
	snprintf(out + used, n - used,
	         "The only way to restore a swarm that has lost consensus is to reinitialize it with "
	         "`--force-new-cluster`. Use `--force` to suppress this message.");
	return out;
}

void api_swarm_leave(struct req *r)
{
	struct api *a = r->api;
	struct api_local_state l;
	char text[600];
	bool force = req_flag(r, "force");
	struct store *s = a->ops->store(a->arg);
	api_local(a, &l);
	if (streq(l.state, "inactive"))
		req_error(r, 503, "This node is not part of a swarm");
	else if (l.manager && s && !force)
		req_error(r, 503, "%s", leave_warning(s, text, sizeof(text)));
	else
		a->ops->swarm_leave(a->arg, force, on_done_quiet, req_ref(r));
}

void api_swarm_update(struct req *r)
{
	struct api_swarm_update u = { 0 };
	struct mesh_err err = { 0 };
	const struct md_cluster *c = store_cluster(r->store);
	if (!req_decode(r, &md_cluster_spec_schema, &u.spec)) {
		int rc = api_check_version(r, &c->meta, &err);
		u.version = c->meta.version.index;
		u.rotate_worker_token = req_flag(r, "rotateWorkerToken");
		u.rotate_manager_token = req_flag(r, "rotateManagerToken");
		u.rotate_unlock_key = req_flag(r, "rotateManagerUnlockKey");
		if (!rc && u.spec.name && !streq(u.spec.name, "default"))
			rc = api_rpc_fail(&err, MESH_E_INVALID, "InvalidArgument",
			                  "swarm spec must be named \"default\"");
		if (rc)
			req_fail(r, rc, &err);
		else
			r->api->ops->swarm_update(r->api->arg, &u, on_done_quiet, req_ref(r));
	}
	sch_clear(&md_cluster_spec_schema, &u.spec);
}

void api_swarm_unlockkey(struct req *r)
{
	const struct md_cluster *c = store_cluster(r->store);
	struct buf key = { 0 };
	if (c->spec.encryption.autolock && c->unlock_key.n) {
		buf_puts(&key, "SWMKEY-1-");
		md_base64_encode(&key, c->unlock_key.p, c->unlock_key.n);
		while (key.len && key.data[key.len - 1] == '=')
			key.len--;
	}
	req_reply_id(r, 200, "UnlockKey", buf_str(&key));
	mesh_wipe(key.data, key.len);
	buf_fini(&key);
}

void api_swarm_unlock(struct req *r)
{
	struct api *a = r->api;
	struct api_local_state l;
	json_t *j = req_json(r);
	if (!j)
		return;
	const char *key = json_string_value(json_object_get(j, "UnlockKey"));
	api_local(a, &l);
	if (!streq(l.state, "locked"))
		req_error(r, 409, "swarm is not locked");
	else if (!key || strncmp(key, "SWMKEY-1-", 9) != 0)
		req_error(r, 400, "invalid unlock key: expected SWMKEY-1-...");
	else if (!a->ops->swarm_unlock)
		req_error(r, 501, "unlocking is not supported by this daemon");
	else
		a->ops->swarm_unlock(a->arg, key, on_done_quiet, req_ref(r));
	json_decref(j);
}
