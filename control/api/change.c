/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Changes to the store, and small questions of all handlers. */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/http.h"

/* The brain may touch the same object between our reading and the commit: then we build the change again. */
#define CHANGE_TRIES 32

struct change {
	struct req *r;
	change_fn build;
	void (*finish)(struct req *r);
	int tries;
};

static void change_end(struct change *c)
{
	req_unref(c->r);
	free(c);
}

static void change_go(struct change *c);

static void on_committed(void *arg, int code, const char *text, const struct mesh_err *err)
{
	struct change *c = arg;
	(void)text;
	if (!req_live(c->r)) {
		change_end(c);
		return;
	}
	if (code == MESH_E_OUT_OF_SEQUENCE && c->tries < CHANGE_TRIES) {
		change_go(c);
		return;
	}
	if (code == MESH_E_OUT_OF_SEQUENCE) {
		struct mesh_err e = { 0 };
		code = api_rpc_fail(&e, code, "Unknown", "update out of sequence");
		req_fail(c->r, code, &e);
	} else if (code == MESH_E_CONFLICT) {
		struct mesh_err e = { 0 };
		code = api_rpc_fail(&e, code, "AlreadyExists", "name conflicts with an existing object: %s",
		                    mesh_err_text(err, code));
		req_fail(c->r, code, &e);
	} else if (code) {
		req_fail(c->r, code, err);
	} else {
		c->finish(c->r);
	}
	change_end(c);
}

static void change_go(struct change *c)
{
	struct api *a = c->r->api;
	struct mesh_err err = { 0 };
	struct store *s = a->ops->store(a->arg);
	if (!s) {
		req_fail(c->r, api_not_manager(a, &err), &err);
		change_end(c);
		return;
	}
	c->tries++;
	c->r->store = s;
	struct store_tx *tx = store_tx_new(s, clock_wall_ns());
	int rc = c->build(c->r, tx, &err);
	c->r->store = NULL;
	if (rc) {
		store_tx_free(tx);
		req_fail(c->r, rc, &err);
		change_end(c);
	} else if (!store_tx_changes(tx)) {
		store_tx_free(tx);
		c->finish(c->r);
		change_end(c);
	} else {
		a->ops->commit(a->arg, tx, on_committed, c);
	}
}

void req_change(struct req *r, change_fn build, void (*finish)(struct req *r))
{
	struct change *c = XNEW(struct change);
	*c = (struct change){ .r = req_ref(r), .build = build, .finish = finish };
	change_go(c);
}

int api_rpc_fail(struct mesh_err *err, int code, const char *grpc, const char *fmt, ...)
{
	char text[600];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return mesh_fail(err, code, "rpc error: code = %s desc = %s", grpc, text);
}

int api_check_version(struct req *r, const struct md_meta *meta, struct mesh_err *err)
{
	const char *text = req_query(r, "version");
	int64_t version;
	if (!text || !*text)
		return mesh_fail(err, MESH_E_INVALID, "invalid version '%s': expected ?version=N", text ? text : "");
	int rc = req_number(r, "version", 0, &version, err);
	if (rc)
		return rc;
	if (version < 0 || (uint64_t)version != meta->version.index)
		return api_rpc_fail(err, MESH_E_OUT_OF_SEQUENCE, "Unknown", "update out of sequence");
	return 0;
}

int api_find(struct req *r, enum store_kind k, const void **out, struct mesh_err *err)
{
	return store_find(r->store, k, r->arg[0], out, err);
}

int api_not_manager(struct api *a, struct mesh_err *err)
{
	struct api_local_state l;
	api_local(a, &l);
	if (streq(l.state, "locked"))
		return mesh_fail(err, MESH_E_LOCKED,
		                 "Swarm is encrypted and needs to be unlocked before it can be used. "
		                 "Please use \"docker swarm unlock\" to unlock it.");
	if (streq(l.state, "pending") || streq(l.state, "error"))
		return mesh_fail(err, MESH_E_NOT_MANAGER, "The swarm is not ready on this node (%s)%s%s", l.state,
		                 l.error && *l.error ? ": " : "", l.error ? l.error : "");
	if (l.node_id && *l.node_id)
		return mesh_fail(err, MESH_E_NOT_MANAGER,
		                 "This node is not a swarm manager. Worker nodes can't be used to view or modify "
		                 "cluster state. Please run this command on a manager node or promote the current "
		                 "node to a manager.");
	return mesh_fail(err, MESH_E_NOT_MANAGER,
	                 "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to "
	                 "connect this node to swarm and try again.");
}

void api_new_id(struct api *a, char out[MESH_ID_LEN + 1])
{
	mesh_id_make(a->ops->rng(a->arg), out);
}

void api_new_hex(struct api *a, char out[65])
{
	struct mesh_rng *rng = a->ops->rng(a->arg);
	for (int i = 0; i < 4; i++)
		snprintf(out + 16 * i, 17, "%016llx", (unsigned long long)mesh_rng_next(rng));
}

void api_local(struct api *a, struct api_local_state *out)
{
	memset(out, 0, sizeof(*out));
	a->ops->local(a->arg, out);
	if (!out->state)
		out->state = "inactive";
}

struct agent *api_agent(struct api *a)
{
	return a->ops->agent ? a->ops->agent(a->arg) : NULL;
}
