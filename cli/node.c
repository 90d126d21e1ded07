/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/units.h"

/* "self" is the node we talk to. The caller frees. */
static int node_ref(struct cli *c, const char *name, char **out, struct mesh_err *err)
{
	JSON_CLEAN info = NULL;

	if (strcmp(name, "self")) {
		*out = url_dup(name);
		return 0;
	}
	int rc = api_get(c, &info, err, "/info");
	if (rc < 0)
		return rc;
	if (!*js(info, "Swarm.NodeID")) {
		JSON_CLEAN nodes = NULL; /* the daemon words why there is no self */
		rc = api_get(c, &nodes, err, "/nodes");
		return rc < 0 ? rc : mesh_fail(err, MESH_E_NOT_FOUND, "this node has no id in a swarm");
	}
	*out = url_dup(js(info, "Swarm.NodeID"));
	return 0;
}

static const struct column ls_columns[] = {
	{ "ID", "ID" },
	{ "Hostname", "HOSTNAME" },
	{ "Status", "STATUS" },
	{ "Availability", "AVAILABILITY" },
	{ "ManagerStatus", "MANAGER STATUS" },
	{ "EngineVersion", "ENGINE VERSION" },
	{ "Self", "SELF" },
	{ "TLSStatus", "TLS STATUS" },
};
static const struct list_view ls_view = {
	ls_columns, ARRAY_SIZE(ls_columns),
	"table {{.ID}}{{if eq .Self \"true\"}} *{{else if eq .Self \"false\"}}  {{end}}\t{{.Hostname}}\t{{.Status}}\t"
	"{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}",
	"ID"
};

static const char *manager_status(const json_t *n)
{
	const char *r = js(n, "ManagerStatus.Reachability");

	if (!jo(n, "ManagerStatus"))
		return "";
	return jb(n, "ManagerStatus.Leader") ? "Leader"
	       : !strcmp(r, "reachable")     ? "Reachable"
	       : !strcmp(r, "unreachable")   ? "Unreachable"
	                                     : "Unknown";
}

static int run_ls(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN nodes = NULL;
	JSON_CLEAN info = NULL;
	JSON_CLEAN rows = json_array();
	json_t *n;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	int rc = api_get(c, &nodes, err, "/nodes%s%s", *filters ? "?" : "", filters);
	if (!rc && !flag_bool(c, "quiet"))
		rc = api_get(c, &info, err, "/info");
	if (rc < 0)
		return rc;
	sort_rows(nodes, "Description.Hostname");
	json_array_foreach(nodes, i, n)
	{
		CLEAN_FREE char *state = capitalised(js(n, "Status.State"));
		CLEAN_FREE char *availability = capitalised(js(n, "Spec.Availability"));
		const char *root = js(info, "Swarm.Cluster.TLSInfo.TrustRoot"),
			   *own = js(n, "Description.TLSInfo.TrustRoot");
		json_array_append_new(rows,
		                      json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:b,s:s}", "ID", js(n, "ID"), "Hostname",
		                                js(n, "Description.Hostname"), "Status", state, "Availability",
		                                availability, "ManagerStatus", manager_status(n), "EngineVersion",
		                                js(n, "Description.Engine.EngineVersion"), "Self",
		                                !strcmp(js(n, "ID"), js(info, "Swarm.NodeID")), "TLSStatus",
		                                !*root || !*own     ? "Unknown"
		                                : strcmp(root, own) ? "Needs Rotation"
		                                                    : "Ready"));
	}
	return list_print(&ls_view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

static void print_plugins(const json_t *plugins)
{
	static const char *const types[] = { "Log", "Network", "Volume" };
	json_t *p;
	size_t i;

	if (!json_array_size(plugins))
		return;
	printf("Plugins:\n");
	for (size_t t = 0; t < ARRAY_SIZE(types); t++) {
		const char *sep = "";
		json_array_foreach((json_t *)plugins, i, p)
		{
			if (strcmp(js(p, "Type"), types[t]))
				continue;
			if (!*sep)
				printf(" %s:\t\t", types[t]);
			printf("%s%s", sep, js(p, "Name"));
			sep = ", ";
		}
		if (*sep)
			printf("\n");
	}
}

/* What the engine's API has no field for; an engine that is asked instead of meshd does not know the question. */
static void print_data_plane(struct cli *c, const json_t *n)
{
	JSON_CLEAN more = NULL;
	struct mesh_err err = { 0 };

	if (api_get(c, &more, &err, "/_mesh/nodes/%s", js(n, "ID")) >= 0 && *js(more, "DataPlane"))
		printf("Data Plane:\t\t%s\n", js(more, "DataPlane"));
}

static int pretty(struct cli *c, json_t *n, struct mesh_err *err)
{
	char text[64] = "";
	int64_t ns;
	json_t *v;
	const char *key;

	(void)err;
	CLEAN_FREE char *state = capitalised(js(n, "Status.State"));
	CLEAN_FREE char *availability = capitalised(js(n, "Spec.Availability"));
	printf("ID:\t\t\t%s\n", js(n, "ID"));
	if (*js(n, "Spec.Name"))
		printf("Name:\t\t\t%s\n", js(n, "Spec.Name"));
	if (json_object_size(jo(n, "Spec.Labels"))) {
		printf("Labels:\n");
		json_object_foreach(jo(n, "Spec.Labels"), key, v)
			printf(" - %s%s%s\n", key, *json_string_value(v) ? "=" : "", json_string_value(v));
	}
	if (parse_time(js(n, "CreatedAt"), &ns) == 0)
		format_time(ns, text, sizeof(text));
	printf("Hostname:              \t%s\nJoined at:             \t%s\nStatus:\n State:\t\t\t%s\n",
	       js(n, "Description.Hostname"), text, state);
	if (*js(n, "Status.Message")) {
		CLEAN_FREE char *message = capitalised(js(n, "Status.Message"));
		printf(" Message:              \t%s\n", message);
	}
	printf(" Availability:         \t%s\n", availability);
	if (*js(n, "Status.Addr"))
		printf(" Address:\t\t%s\n", js(n, "Status.Addr"));
	if (jo(n, "ManagerStatus")) {
		CLEAN_FREE char *raft = capitalised(js(n, "ManagerStatus.Reachability"));
		printf("Manager Status:\n Address:\t\t%s\n Raft Status:\t\t%s\n Leader:\t\t%s\n",
		       js(n, "ManagerStatus.Addr"), raft, jb(n, "ManagerStatus.Leader") ? "Yes" : "No");
	}
	format_bytes((double)ji(n, "Description.Resources.MemoryBytes"), text, sizeof(text));
	printf("Platform:\n Operating System:\t%s\n Architecture:\t\t%s\nResources:\n CPUs:\t\t\t%.12g\n "
	       "Memory:\t\t%s\n",
	       js(n, "Description.Platform.OS"), js(n, "Description.Platform.Architecture"),
	       (double)ji(n, "Description.Resources.NanoCPUs") / 1e9, text);
	print_plugins(jo(n, "Description.Engine.Plugins"));
	printf("Engine Version:\t\t%s\n", js(n, "Description.Engine.EngineVersion"));
	print_data_plane(c, n);
	if (json_object_size(jo(n, "Description.Engine.Labels"))) {
		printf("Engine Labels:\n");
		json_object_foreach(jo(n, "Description.Engine.Labels"), key, v)
			printf(" - %s%s%s\n", key, *json_string_value(v) ? "=" : "", json_string_value(v));
	}
	if (*js(n, "Description.TLSInfo.TrustRoot"))
		printf("TLS Info:\n TrustRoot:\n%s\n Issuer Subject:\t%s\n Issuer Public Key:\t%s\n",
		       js(n, "Description.TLSInfo.TrustRoot"), js(n, "Description.TLSInfo.CertIssuerSubject"),
		       js(n, "Description.TLSInfo.CertIssuerPublicKey"));
	return 0;
}

static int run_inspect(struct cli *c, struct mesh_err *err)
{
	static char self[64]; /* args are borrowed for the rest of the run */

	for (int i = 0; i < c->nargs; i++) {
		JSON_CLEAN info = NULL;
		if (strcmp(c->args[i], "self"))
			continue;
		int rc = api_get(c, &info, err, "/info");
		if (rc < 0)
			return rc;
		snprintf(self, sizeof(self), "%s", js(info, "Swarm.NodeID"));
		if (*self)
			c->args[i] = self;
	}
	return inspect_each(c, "/nodes", "", flag_bool(c, "pretty") ? pretty : NULL, err);
}

static int run_ps(struct cli *c, struct mesh_err *err)
{
	static char self[] = "self";
	char *only_self[] = { self };
	char **names = c->nargs ? c->args : only_self;
	int n = c->nargs ? c->nargs : 1, missing = 0, rc = 0;
	JSON_CLEAN all = json_array();

	for (int i = 0; i < n && !rc; i++) {
		JSON_CLEAN node = NULL;
		JSON_CLEAN tasks = NULL;
		CLEAN_FREE char *ref = NULL;
		struct str_list filters = { 0 };
		rc = node_ref(c, names[i], &ref, err);
		if (!rc)
			rc = api_get(c, &node, err, "/nodes/%s", ref);
		if (rc == MESH_E_NOT_FOUND && n > 1) {
			fprintf(stderr, "%s\n", err->msg);
			missing = 1;
			rc = 0;
			continue;
		}
		if (rc < 0)
			break;
		for (size_t k = 0; k < flag_list(c, "filter")->n; k++)
			strs_add(&filters, flag_list(c, "filter")->v[k]);
		CLEAN_FREE char *mine = xasprintf("node=%s", js(node, "ID"));
		strs_add(&filters, mine);
		CLEAN_FREE char *query = api_filters(&filters, err);
		strs_clear(&filters);
		rc = query ? api_get(c, &tasks, err, "/tasks?%s", query) : MESH_E_USAGE;
		if (!rc)
			json_array_extend(all, tasks);
	}
	if (!rc)
		rc = tasks_print(c, all, err);
	return rc ? rc : missing;
}

static int node_change(struct cli *c, const char *name, int (*change)(struct cli *, json_t *, struct mesh_err *),
                       struct mesh_err *err)
{
	JSON_CLEAN n = NULL;
	CLEAN_FREE char *ref = NULL;
	int rc = node_ref(c, name, &ref, err);

	if (!rc)
		rc = api_get(c, &n, err, "/nodes/%s", ref);
	if (!rc)
		rc = change(c, jo(n, "Spec"), err);
	if (rc)
		return rc;
	return api_post(c, jo(n, "Spec"), NULL, err, "/nodes/%s/update?version=%lld", js(n, "ID"),
	                (long long)ji(n, "Version.Index"));
}

static int change_flags(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const struct str_list *rm = flag_list(c, "label-rm");
	JSON_CLEAN labels = json_object();
	const char *key;
	json_t *v;

	if (flag_given(c, "role"))
		json_object_set_new(spec, "Role", json_string(flag_str(c, "role")));
	if (flag_given(c, "availability"))
		json_object_set_new(spec, "Availability", json_string(flag_str(c, "availability")));
	if (!json_is_object(json_object_get(spec, "Labels")))
		json_object_set_new(spec, "Labels", json_object());
	for (size_t i = 0; i < rm->n; i++)
		if (json_object_del(jo(spec, "Labels"), rm->v[i]) < 0)
			return mesh_fail(err, MESH_E_NOT_FOUND, "key %s doesn't exist in node's labels", rm->v[i]);
	for (size_t i = 0; i < flag_list(c, "label-add")->n; i++) {
		const char *pair = flag_list(c, "label-add")->v[i], *eq = strchr(pair, '=');
		CLEAN_FREE char *name = eq ? xstrndup(pair, (size_t)(eq - pair)) : xstrdup(pair);
		json_object_set_new(labels, name, json_string(eq ? eq + 1 : ""));
	}
	json_object_foreach(labels, key, v) json_object_set(jo(spec, "Labels"), key, v);
	return 0;
}

static int run_update(struct cli *c, struct mesh_err *err)
{
	int rc = node_change(c, c->args[0], change_flags, err);

	if (!rc)
		printf("%s\n", c->args[0]);
	return rc;
}

/* 1 = it already has the role: nothing to send. */
static int change_role(json_t *spec, const char *role)
{
	if (!strcmp(js(spec, "Role"), role))
		return 1;
	json_object_set_new(spec, "Role", json_string(role));
	return 0;
}

static int change_promote(struct cli *c, json_t *spec, struct mesh_err *err)
{
	(void)c;
	(void)err;
	return change_role(spec, "manager");
}

static int change_demote(struct cli *c, json_t *spec, struct mesh_err *err)
{
	(void)c;
	(void)err;
	return change_role(spec, "worker");
}

static int promote_one(struct cli *c, const char *name, struct mesh_err *err)
{
	int rc = node_change(c, name, change_promote, err);

	if (rc >= 0)
		printf(rc ? "Node %s is already a manager.\n" : "Node %s promoted to a manager in the swarm.\n", name);
	return rc < 0 ? rc : 0;
}

static int demote_one(struct cli *c, const char *name, struct mesh_err *err)
{
	int rc = node_change(c, name, change_demote, err);

	if (rc >= 0)
		printf(rc ? "Node %s is already a worker.\n" : "Manager %s demoted in the swarm.\n", name);
	return rc < 0 ? rc : 0;
}

static int run_promote(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, promote_one, err);
}

static int run_demote(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, demote_one, err);
}

static int run_rm(struct cli *c, struct mesh_err *err)
{
	return remove_each(c, "/nodes", flag_bool(c, "force") ? "?force=1" : "", err);
}

static const struct flag ls_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display IDs" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "pretty", 0, F_BOOL, NULL, NULL, "Print the information in a human friendly format" },
};

static const struct flag ps_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'json' or a Go template" },
	{ "no-resolve", 0, F_BOOL, NULL, NULL, "Do not map IDs to Names" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display task IDs" },
};

static const struct flag update_flags[] = {
	{ "availability", 0, F_STR, NULL, NULL, "Availability of the node (\"active\", \"pause\", \"drain\")",
	  "active pause drain" },
	{ "label-add", 0, F_LIST, NULL, NULL, "Add or update a node label (\"key=value\")" },
	{ "label-rm", 0, F_LIST, NULL, NULL, "Remove a node label if exists" },
	{ "role", 0, F_STR, NULL, NULL, "Role of the node (\"worker\", \"manager\")", "worker manager" },
};

static const struct flag rm_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Force remove a node from the swarm" },
};

static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List nodes in the swarm",
	FLAGS(ls_flags),
	.run = run_ls,
	.example = "  meshctl node ls --filter role=manager",
};
static const struct command sub_inspect = {
	.name = "inspect",
	.usage = "self|NODE [NODE...]",
	.summary = "Display detailed information on one or more nodes",
	FLAGS(inspect_flags),
	.run = run_inspect,
	.min = 1,
	.max = -1,
	.comp = "node",
	.example = "  meshctl node inspect --pretty self",
};
static const struct command sub_ps = {
	.name = "ps",
	.usage = "[NODE...]",
	.summary = "List tasks running on one or more nodes, defaults to current node",
	FLAGS(ps_flags),
	.run = run_ps,
	.max = -1,
	.comp = "node",
	.example = "  meshctl node ps n2",
};
static const struct command sub_update = {
	.name = "update",
	.usage = "NODE",
	.summary = "Update a node",
	FLAGS(update_flags),
	.run = run_update,
	.min = 1,
	.max = 1,
	.comp = "node",
	.example = "  meshctl node update --availability drain n2",
};
static const struct command sub_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "NODE [NODE...]",
	.summary = "Remove one or more nodes from the swarm",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "node",
	.example = "  meshctl node rm --force n3",
};
static const struct command sub_promote = {
	.name = "promote",
	.usage = "NODE [NODE...]",
	.summary = "Promote one or more nodes to manager in the swarm",
	.run = run_promote,
	.min = 1,
	.max = -1,
	.comp = "node",
	.example = "  meshctl node promote n2 n3",
};
static const struct command sub_demote = {
	.name = "demote",
	.usage = "NODE [NODE...]",
	.summary = "Demote one or more nodes from manager in the swarm",
	.run = run_demote,
	.min = 1,
	.max = -1,
	.comp = "node",
	.example = "  meshctl node demote n2",
};

static const struct command *const subs[] = { &sub_demote, &sub_inspect, &sub_ls,     &sub_promote,
	                                      &sub_ps,     &sub_rm,      &sub_update, NULL };
const struct command cmd_node = {
	.name = "node",
	.summary = "Manage the machines of the swarm",
	.subs = subs,
};
