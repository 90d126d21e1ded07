/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Named volumes of this node, as the agent keeps them. */

#include "base/fs.h"
#include "base/mem.h"
#include "control/api/containers.h"
#include "control/api/filters.h"
#include "control/api/http.h"

static void write_map_or_null(struct jw *w, const char *key, const struct str_map *m)
{
	jw_key(w, key);
	if (m->n)
		jw_map(w, m);
	else
		jw_null(w);
}

void view_volume(struct jw *w, const struct agent_volume *v, bool usage, bool in_use)
{
	jw_open(w, '{');
	jw_ktime(w, "CreatedAt", v->created_at - v->created_at % 1000000000);
	jw_kstr(w, "Driver", v->driver && *v->driver ? v->driver : "local");
	write_map_or_null(w, "Labels", &v->labels);
	jw_kstr(w, "Mountpoint", v->mountpoint);
	jw_kstr(w, "Name", v->name);
	write_map_or_null(w, "Options", &v->options);
	jw_kstr(w, "Scope", "local");
	if (usage) {
		jw_key(w, "UsageData");
		jw_open(w, '{');
		jw_kint(w, "Size", -1);
		jw_kint(w, "RefCount", in_use);
		jw_close(w, '}');
	}
	jw_close(w, '}');
}

struct listing {
	struct agent *agent;
	struct jw w;
	struct filters f;
	struct str_list names;
	int64_t freed;
	bool all; /* an old client: prune meant named ones too */
};

static bool volume_matches(const struct listing *l, const struct agent_volume *v)
{
	bool asked = filters_get(&l->f, "dangling") != NULL;
	return filters_contains(&l->f, "name", v->name) && filters_exact(&l->f, "driver", "local") &&
	       filters_labels(&l->f, "label", &v->labels) &&
	       (!asked || filters_bool(&l->f, "dangling", false) != agent_volume_in_use(l->agent, v->name));
}

static bool list_one(void *arg, const struct agent_volume *v)
{
	struct listing *l = arg;
	if (volume_matches(l, v))
		view_volume(&l->w, v, false, false);
	return true;
}

void api_volume_list(struct req *r)
{
	static const char *const allowed[] = { "dangling", "driver", "label", "name", NULL };
	struct listing l = { .agent = api_agent(r->api) };
	if (req_filters(r, allowed, &l.f))
		return;
	jw_open(&l.w, '{');
	jw_key(&l.w, "Volumes");
	jw_open(&l.w, '[');
	if (l.agent)
		agent_each_volume(l.agent, list_one, &l);
	jw_close(&l.w, ']');
	jw_kraw(&l.w, "Warnings", "null");
	jw_close(&l.w, '}');
	filters_clear(&l.f);
	req_reply_json(r, 200, &l.w);
}

void api_volume_inspect(struct req *r)
{
	struct agent *agent = api_agent(r->api);
	struct agent_volume v = { 0 };
	struct mesh_err err = { 0 };
	int rc = agent ? agent_volume_get(agent, r->arg[0], &v, &err) : MESH_E_NOT_FOUND;
	if (rc == MESH_E_NOT_FOUND) {
		req_error(r, 404, "get %.300s: no such volume", r->arg[0]);
	} else if (rc) {
		req_fail(r, rc, &err);
	} else {
		struct jw w = { 0 };
		view_volume(&w, &v, false, false);
		req_reply_json(r, 200, &w);
	}
	sch_clear(&agent_volume_schema, &v);
}

struct cluster_volume {
	char *group;
};
struct volume_create {
	char *name, *driver;
	struct str_map options, labels;
	struct cluster_volume *cluster; /* refused, whatever it says */
};
#define T struct cluster_volume
static const struct sch_field cluster_fields[] = { SF(1, STR, "Group", group, 0) };
static SCHEMA(cluster_schema, cluster_volume, cluster_fields);
#undef T
#define T struct volume_create
static const struct sch_field create_fields[] = {
	SF(1, STR, "Name", name, 0),
	SF(2, STR, "Driver", driver, 0),
	SF(3, MAP, "DriverOpts", options, 0),
	SF(4, MAP, "Labels", labels, 0),
	SF_PTR(5, "ClusterVolumeSpec", cluster, &cluster_schema, 0),
};
static SCHEMA(create_schema, volume_create, create_fields);
#undef T

void api_volume_create(struct req *r)
{
	struct agent *agent = api_agent(r->api);
	struct volume_create q = { 0 };
	struct agent_volume v = { 0 };
	struct mesh_err err = { 0 };
	if (req_decode(r, &create_schema, &q)) {
		sch_clear(&create_schema, &q);
		return;
	}
	struct agent_volume spec = { .name = q.name, .driver = q.driver, .labels = q.labels, .options = q.options };
	int rc = MESH_E_UNSUPPORTED;
	if (!agent)
		(void)mesh_fail(&err, rc, "this node runs no containers and has no volumes");
	else if (q.cluster)
		(void)mesh_fail(&err, rc,
		                "volume %.200s: cluster volumes (--type, --scope, --sharing and the like ask for one) "
		                "are not supported: a volume belongs to one node and to the driver local",
		                q.name ? q.name : "");
	else
		rc = agent_volume_create(agent, &spec, &v, &err);
	if (rc) {
		req_fail(r, rc, &err);
	} else {
		struct jw w = { 0 };
		view_volume(&w, &v, false, false);
		req_reply_json(r, 201, &w);
	}
	sch_clear(&agent_volume_schema, &v);
	sch_clear(&create_schema, &q);
}

void api_volume_remove(struct req *r)
{
	struct agent *agent = api_agent(r->api);
	struct mesh_err err = { 0 };
	int rc = agent ? agent_volume_remove(agent, r->arg[0], req_flag(r, "force"), &err) : MESH_E_NOT_FOUND;
	if (rc == MESH_E_NOT_FOUND)
		req_error(r, 404, "get %.300s: no such volume", r->arg[0]);
	else if (rc)
		req_fail(r, rc, &err);
	else
		req_reply_empty(r, 204);
}

#define ANONYMOUS "com.docker.volume.anonymous"

/* What nobody gave a name goes; what has one only when asked for (all=1). As the engine since 23.0. */
static bool take_unused(void *arg, const struct agent_volume *v)
{
	struct listing *l = arg;
	bool all = l->all || filters_bool(&l->f, "all", false), bound = smap_get(&v->options, "device") != NULL;
	if (agent_volume_in_use(l->agent, v->name) || !filters_labels(&l->f, "label", &v->labels) ||
	    (filters_get(&l->f, "label!") && filters_labels(&l->f, "label!", &v->labels)) ||
	    (!all && !smap_get(&v->labels, ANONYMOUS)))
		return true;
	l->freed += bound ? 0 : fs_tree_bytes(v->mountpoint);
	strs_add(&l->names, v->name);
	return true;
}

void api_volume_prune(struct req *r)
{
	static const char *const allowed[] = { "all", "label", "label!", NULL };
	struct listing l = { .agent = api_agent(r->api), .all = r->minor && r->minor < 42 };
	if (req_filters(r, allowed, &l.f))
		return;
	if (l.agent)
		agent_each_volume(l.agent, take_unused, &l);
	jw_open(&l.w, '{');
	jw_key(&l.w, "VolumesDeleted");
	jw_open(&l.w, '[');
	for (size_t i = 0; i < l.names.n; i++)
		if (!agent_volume_remove(l.agent, l.names.v[i], false, NULL))
			jw_str(&l.w, l.names.v[i]);
	jw_close(&l.w, ']');
	jw_kint(&l.w, "SpaceReclaimed", l.freed);
	jw_close(&l.w, '}');
	strs_clear(&l.names);
	filters_clear(&l.f);
	req_reply_json(r, 200, &l.w);
}
