/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/map.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "cli/show.h"
#include "cli/units.h"

/* ---- ls ------------------------------------------------------------------------------------------ */

static const struct column ls_columns[] = {
	{ "ID", "ID" },       { "Name", "NAME" },   { "Mode", "MODE" }, { "Replicas", "REPLICAS" },
	{ "Image", "IMAGE" }, { "Ports", "PORTS" },
};
static const struct list_view ls_view = { ls_columns, ARRAY_SIZE(ls_columns),
	                                  "table {{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}",
	                                  "ID" };

static const char *mode_of(const json_t *s)
{
	return jo(s, "Spec.Mode.Global")          ? "global"
	       : jo(s, "Spec.Mode.GlobalJob")     ? "global job"
	       : jo(s, "Spec.Mode.ReplicatedJob") ? "replicated job"
	                                          : "replicated";
}

static char *replicas_of(const json_t *s)
{
	long long running = ji(s, "ServiceStatus.RunningTasks"), desired = ji(s, "ServiceStatus.DesiredTasks");
	long long max = ji(s, "Spec.TaskTemplate.Placement.MaxReplicas");

	if (jo(s, "Spec.Mode.GlobalJob") || jo(s, "Spec.Mode.ReplicatedJob")) {
		long long complete = ji(s, "ServiceStatus.CompletedTasks");
		long long total = jo(s, "Spec.Mode.ReplicatedJob") ? ji(s, "Spec.Mode.ReplicatedJob.TotalCompletions")
		                                                   : desired + complete;
		return xasprintf("%lld/%lld (%lld/%lld completed)", running, desired, complete, total);
	}
	if (max)
		return xasprintf("%lld/%lld (max %lld per node)", running, desired, max);
	return xasprintf("%lld/%lld", running, desired);
}

static int run_ls(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN services = NULL;
	JSON_CLEAN rows = json_array();
	bool quiet = flag_bool(c, "quiet");
	json_t *s;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	int rc = api_get(c, &services, err, "/services?status=true%s%s", *filters ? "&" : "", filters);
	if (rc < 0)
		return rc;
	sort_rows(services, "Spec.Name");
	json_array_foreach(services, i, s)
	{
		CLEAN_FREE char *id = short_id(js(s, "ID"), false);
		CLEAN_FREE char *replicas = replicas_of(s);
		CLEAN_FREE char *image = image_shown(js(s, "Spec.TaskTemplate.ContainerSpec.Image"));
		CLEAN_FREE char *ports = ports_shown(jo(s, "Endpoint.Ports"), "ingress");
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "ID", id, "Name", js(s, "Spec.Name"),
		                                      "Mode", mode_of(s), "Replicas", replicas, "Image", image, "Ports",
		                                      ports));
	}
	return list_print(&ls_view, rows, flag_str(c, "format"), quiet, err);
}

/* ---- ps ------------------------------------------------------------------------------------------ */

static int run_ps(struct cli *c, struct mesh_err *err)
{
	struct str_list filters = { 0 };
	JSON_CLEAN tasks = NULL;
	int missing = 0, rc = 0;

	for (size_t i = 0; i < flag_list(c, "filter")->n; i++)
		strs_add(&filters, flag_list(c, "filter")->v[i]);
	size_t before = filters.n;
	for (int i = 0; i < c->nargs && !rc; i++) {
		JSON_CLEAN s = NULL;
		CLEAN_FREE char *arg = url_dup(c->args[i]);
		rc = api_get(c, &s, err, "/services/%s", arg);
		if (rc == MESH_E_NOT_FOUND) {
			missing++;
			rc = 0;
			fprintf(stderr, "no such service: %s\n", c->args[i]);
		} else if (!rc) {
			CLEAN_FREE char *f = xasprintf("service=%s", js(s, "ID"));
			strs_add(&filters, f);
		}
	}
	if (!rc && filters.n > before) {
		CLEAN_FREE char *query = api_filters(&filters, err);
		rc = query ? api_get(c, &tasks, err, "/tasks?%s", query) : MESH_E_USAGE;
		if (!rc)
			rc = tasks_print(c, tasks, err);
	}
	strs_clear(&filters);
	return rc < 0 ? rc : missing ? 1 : rc;
}

/* ---- inspect ------------------------------------------------------------------------------------- */

static void print_update_config(const json_t *u, const char *title, const char *order)
{
	char text[64];

	if (!u)
		return;
	printf("%s:\n Parallelism:\t%lld\n", title, (long long)ji(u, "Parallelism"));
	if (ji(u, "Delay")) {
		format_duration(ji(u, "Delay"), text, sizeof(text));
		printf(" Delay:\t\t%s\n", text);
	}
	printf(" On failure:\t%s\n", js(u, "FailureAction"));
	if (ji(u, "Monitor")) {
		format_duration(ji(u, "Monitor"), text, sizeof(text));
		printf(" Monitoring Period: %s\n", text);
	}
	printf(" Max failure ratio: %g\n %s order:%*s%s\n", jf(u, "MaxFailureRatio"), order, *order == 'U' ? 6 : 4, "",
	       js(u, "Order"));
}

static void print_list(const char *title, const json_t *list)
{
	json_t *v;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("%s", title);
	json_array_foreach((json_t *)list, i, v) printf("%s ", json_string_value(v));
	printf("\n");
}

static void print_commas(const char *title, const json_t *list)
{
	json_t *v;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("%s", title);
	json_array_foreach((json_t *)list, i, v) printf("%s%s", i ? ", " : "", json_string_value(v) ?: "");
	printf("\n");
}

static void print_mode(const json_t *s)
{
	char text[64];

	if (jo(s, "Spec.Mode.Global")) {
		printf("Service Mode:\tGlobal\n");
	} else if (jo(s, "Spec.Mode.GlobalJob")) {
		printf("Service Mode:\tGlobalJob\n");
	} else if (jo(s, "Spec.Mode.ReplicatedJob")) {
		printf("Service Mode:\tReplicatedJob\n Max Concurrent:\t%lld\n Total Completions:\t%lld\n",
		       (long long)ji(s, "Spec.Mode.ReplicatedJob.MaxConcurrent"),
		       (long long)ji(s, "Spec.Mode.ReplicatedJob.TotalCompletions"));
	} else {
		printf("Service Mode:\tReplicated\n");
		if (jo(s, "Spec.Mode.Replicated.Replicas"))
			printf(" Replicas:\t%lld\n", (long long)ji(s, "Spec.Mode.Replicated.Replicas"));
	}
	if (*js(s, "UpdateStatus.State")) {
		CLEAN_FREE char *started = age_of(js(s, "UpdateStatus.StartedAt"));
		CLEAN_FREE char *done = age_of(js(s, "UpdateStatus.CompletedAt"));
		snprintf(text, sizeof(text), "%s", js(s, "UpdateStatus.State"));
		printf("UpdateStatus:\n State:\t\t%s\n", text);
		if (*started)
			printf(" Started:\t%s ago\n", started);
		if (*done && !strcmp(text, "completed"))
			printf(" Completed:\t%s ago\n", done);
		printf(" Message:\t%s\n", js(s, "UpdateStatus.Message"));
	}
}

static void print_placement(const json_t *p)
{
	json_t *v;
	size_t i;

	printf("Placement:\n");
	if (json_array_size(jo(p, "Constraints"))) {
		printf(" Constraints:\t[");
		json_array_foreach(jo(p, "Constraints"), i, v) printf("%s%s", i ? " " : "", json_string_value(v));
		printf("]\n");
	}
	if (json_array_size(jo(p, "Preferences"))) {
		printf(" Preferences:   [");
		json_array_foreach(jo(p, "Preferences"), i, v)
			printf("%sspread=%s", i ? " " : "", js(v, "Spread.SpreadDescriptor"));
		printf("]\n");
	}
	if (ji(p, "MaxReplicas"))
		printf(" Max Replicas Per Node:   %lld\n", (long long)ji(p, "MaxReplicas"));
}

static void print_container(const json_t *cs)
{
	json_t *v;
	const char *key;
	size_t i;

	printf("ContainerSpec:\n Image:\t\t%s\n", js(cs, "Image"));
	print_list(" Args:\t\t", jo(cs, "Args"));
	print_list(" Command:\t", jo(cs, "Command"));
	print_list(" Env:\t\t", jo(cs, "Env"));
	if (*js(cs, "Dir"))
		printf(" Dir:\t\t%s\n", js(cs, "Dir"));
	if (jo(cs, "Init"))
		printf(" Init:\t\t%s\n", jb(cs, "Init") ? "true" : "false");
	if (*js(cs, "User"))
		printf(" User: %s\n", js(cs, "User"));
	if (json_array_size(jo(cs, "CapabilityAdd")) || json_array_size(jo(cs, "CapabilityDrop"))) {
		printf("Capabilities:\n");
		print_commas(" Add: ", jo(cs, "CapabilityAdd"));
		print_commas(" Drop: ", jo(cs, "CapabilityDrop"));
	}
	if (jo(cs, "Sysctls") && json_object_size(jo(cs, "Sysctls"))) {
		printf("SysCtls:\n");
		json_object_foreach(jo(cs, "Sysctls"), key, v) printf(" %s: %s\n", key, json_string_value(v));
	}
	if (json_array_size(jo(cs, "Ulimits")))
		printf("Ulimits:\n");
	json_array_foreach(jo(cs, "Ulimits"), i, v)
		printf(" %s: %lld:%lld\n", js(v, "Name"), (long long)ji(v, "Soft"), (long long)ji(v, "Hard"));
	if (json_array_size(jo(cs, "Mounts")))
		printf("Mounts:\n");
	json_array_foreach(jo(cs, "Mounts"), i, v)
		printf(" Target:\t%s\n  Source:\t%s\n  ReadOnly:\t%s\n  Type:\t\t%s\n", js(v, "Target"),
	               js(v, "Source"), jb(v, "ReadOnly") ? "true" : "false", js(v, "Type"));
	if (json_array_size(jo(cs, "Configs")))
		printf("Configs:\n");
	json_array_foreach(jo(cs, "Configs"), i, v)
		printf(" Target:\t%s\n  Source:\t%s\n", js(v, "File.Name"), js(v, "ConfigName"));
	if (json_array_size(jo(cs, "Secrets")))
		printf("Secrets:\n");
	json_array_foreach(jo(cs, "Secrets"), i, v)
		printf(" Target:\t%s\n  Source:\t%s\n", js(v, "File.Name"), js(v, "SecretName"));
}

static void print_amounts(const json_t *r, const char *title)
{
	char text[32];

	if (!ji(r, "NanoCPUs") && !ji(r, "MemoryBytes") && !ji(r, "Pids"))
		return;
	printf(" %s:\n", title);
	if (ji(r, "NanoCPUs"))
		printf("  CPU:\t\t%.12g\n", (double)ji(r, "NanoCPUs") / 1e9);
	if (ji(r, "MemoryBytes")) {
		format_bytes((double)ji(r, "MemoryBytes"), text, sizeof(text));
		printf("  Memory:\t%s\n", text);
	}
	if (ji(r, "Pids"))
		printf("  PIDs:\t\t%lld\n", (long long)ji(r, "Pids"));
}

static void print_networks(struct cli *c, const json_t *s)
{
	json_t *nets = jo(s, "Spec.TaskTemplate.Networks") ?: jo(s, "Spec.Networks"), *n;
	size_t i;

	if (!json_array_size(nets))
		return;
	printf("Networks:");
	json_array_foreach(nets, i, n)
	{
		JSON_CLEAN net = NULL;
		CLEAN_FREE char *id = url_dup(js(n, "Target"));
		bool known = api_get(c, &net, NULL, "/networks/%s?scope=swarm", id) == 0;
		printf(" %s", known ? js(net, "Name") : js(n, "Target"));
	}
	printf(" \n");
}

static void print_health(const json_t *h)
{
	char text[64];
	json_t *v;
	size_t i;

	if (!h)
		return;
	format_duration(ji(h, "Interval"), text, sizeof(text));
	printf(" Healthcheck:\n  Interval = %s\n  Retries = %lld\n", text, (long long)ji(h, "Retries"));
	format_duration(ji(h, "StartPeriod"), text, sizeof(text));
	printf("  StartPeriod =\t%s\n", text);
	format_duration(ji(h, "Timeout"), text, sizeof(text));
	printf("  Timeout =\t%s\n", text);
	if (json_array_size(jo(h, "Test")))
		printf("  Tests:\n");
	json_array_foreach(jo(h, "Test"), i, v)
		printf("\t Test = %s%s\n", json_string_value(v), i + 1 == json_array_size(jo(h, "Test")) ? " " : "");
}

static int pretty(struct cli *c, json_t *s, struct mesh_err *err)
{
	json_t *v;
	const char *key;
	size_t i;

	(void)err;
	printf("\nID:\t\t%s\nName:\t\t%s\n", js(s, "ID"), js(s, "Spec.Name"));
	if (json_object_size(jo(s, "Spec.Labels"))) {
		printf("Labels:\n");
		json_object_foreach(jo(s, "Spec.Labels"), key, v)
			printf(" %s%s%s\n", key, *json_string_value(v) ? "=" : "", json_string_value(v));
	}
	print_mode(s);
	print_placement(jo(s, "Spec.TaskTemplate.Placement"));
	print_update_config(jo(s, "Spec.UpdateConfig"), "UpdateConfig", "Update");
	print_update_config(jo(s, "Spec.RollbackConfig"), "RollbackConfig", "Rollback");
	print_container(jo(s, "Spec.TaskTemplate.ContainerSpec"));
	if (*js(s, "Spec.TaskTemplate.LogDriver.Name")) {
		printf("Log Driver:\n Name:\t\t%s\n", js(s, "Spec.TaskTemplate.LogDriver.Name"));
		if (json_object_size(jo(s, "Spec.TaskTemplate.LogDriver.Options")))
			printf(" LogOpts:\n");
		json_object_foreach(jo(s, "Spec.TaskTemplate.LogDriver.Options"), key, v)
			printf("  %s:       %s\n", key, json_string_value(v));
		printf("\n");
	}
	if (jo(s, "Spec.TaskTemplate.Resources"))
		printf("Resources:\n");
	print_amounts(jo(s, "Spec.TaskTemplate.Resources.Reservations"), "Reservations");
	print_amounts(jo(s, "Spec.TaskTemplate.Resources.Limits"), "Limits");
	print_networks(c, s);
	printf("Endpoint Mode:\t%s\n", js(s, "Spec.EndpointSpec.Mode"));
	if (json_array_size(jo(s, "Endpoint.Ports")))
		printf("Ports:\n");
	json_array_foreach(jo(s, "Endpoint.Ports"), i, v)
		printf(" PublishedPort = %lld\n  Protocol = %s\n  TargetPort = %lld\n  PublishMode = %s%s\n",
	               (long long)ji(v, "PublishedPort"), js(v, "Protocol"), (long long)ji(v, "TargetPort"),
	               js(v, "PublishMode"), i + 1 == json_array_size(jo(s, "Endpoint.Ports")) ? " " : "");
	if (json_object_get(jo(s, "Spec.Labels"), "mesh.split"))
		printf("Split:\n");
	service_split_print(c, s);
	print_health(jo(s, "Spec.TaskTemplate.ContainerSpec.Healthcheck"));
	printf("\n");
	return 0;
}

static int run_inspect(struct cli *c, struct mesh_err *err)
{
	if (flag_bool(c, "pretty") && flag_given(c, "format"))
		return mesh_fail(err, MESH_E_INVALID, "--format is incompatible with human friendly format");
	return inspect_each(c, "/services", "?insertDefaults=true", flag_bool(c, "pretty") ? pretty : NULL, err);
}

/* ---- scale, rm, rollback ------------------------------------------------------------------------- */

static int scale_one(struct cli *c, const char *name, long long n, struct mesh_err *err)
{
	JSON_CLEAN s = NULL;
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_get(c, &s, err, "/services/%s?insertDefaults=false", arg);

	if (rc < 0)
		return rc;
	json_t *spec = jo(s, "Spec");
	if (jo(spec, "Mode.Replicated"))
		jset(spec, "Mode.Replicated.Replicas", json_integer(n));
	else if (jo(spec, "Mode.ReplicatedJob"))
		jset(spec, "Mode.ReplicatedJob.TotalCompletions", json_integer(n));
	else
		return mesh_fail(err, MESH_E_INVALID,
		                 "%s: scale can only be used with replicated or replicated-job mode", name);
	rc = api_post(c, spec, &answer, err, "/services/%s/update?version=%lld", js(s, "ID"),
	              (long long)ji(s, "Version.Index"));
	if (rc < 0)
		return rc;
	printf("%s scaled to %lld\n", name, n);
	fflush(stdout);
	return 0;
}

static int run_scale(struct cli *c, struct mesh_err *err)
{
	struct str_list done = { 0 };
	int rc = 0, status = 0;

	for (int i = 0; i < c->nargs; i++) {
		const char *eq = strchr(c->args[i], '=');
		char *end = NULL;
		if (!eq || eq == c->args[i])
			return mesh_fail(err, MESH_E_INVALID, "invalid scale specifier '%s'\nSee '%s --help'.",
			                 c->args[i], c->path);
		long long n = strtoll(eq + 1, &end, 10);
		if (end == eq + 1 || *end || n < 0)
			return mesh_fail(err, MESH_E_INVALID, "invalid replicas value %s: not a whole number", eq + 1);
	}
	for (int i = 0; i < c->nargs; i++) {
		const char *eq = strchr(c->args[i], '=');
		CLEAN_FREE char *name = xstrndup(c->args[i], (size_t)(eq - c->args[i]));
		struct mesh_err why = { 0 };
		if (scale_one(c, name, atoll(eq + 1), &why) < 0) {
			fprintf(stderr, "%s\n", why.msg);
			status = 1;
		} else {
			strs_add(&done, name);
		}
	}
	for (size_t i = 0; !rc && i < done.n && !flag_bool(c, "detach"); i++)
		rc = progress_service(c, done.v[i], false, err);
	strs_clear(&done);
	return rc ? rc : status;
}

static int run_rm(struct cli *c, struct mesh_err *err)
{
	return remove_each(c, "/services", "", err);
}

/* ---- rebalance ----------------------------------------------------------------------------------- */

/* Where each slot's running task is: slot -> node. */
static int places_of(struct cli *c, const char *id, json_t **out, struct mesh_err *err)
{
	JSON_CLEAN tasks = NULL;
	JSON_CLEAN newest = json_object();
	CLEAN_FREE char *filter = api_filter1("service", id);
	json_t *t;
	size_t i;
	int rc = api_get(c, &tasks, err, "/tasks?filters=%s", filter);

	if (rc < 0)
		return rc;
	*out = json_object();
	json_array_foreach(tasks, i, t)
	{
		char slot[24];
		snprintf(slot, sizeof(slot), "%lld", (long long)ji(t, "Slot"));
		if (strcmp(js(t, "DesiredState"), "running") || strcmp(js(t, "Status.State"), "running"))
			continue;
		/* While a task moves there are two; the newer one is what will stay. */
		if (strcmp(js(newest, slot), js(t, "CreatedAt")) > 0)
			continue;
		json_object_set_new(newest, slot, json_string(js(t, "CreatedAt")));
		json_object_set_new(*out, slot, json_string(js(t, "NodeID")));
	}
	return 0;
}

static const char *node_name(const json_t *nodes, const char *id)
{
	json_t *n;
	size_t i;

	json_array_foreach((json_t *)nodes, i, n) if (!strcmp(js(n, "ID"), id)) return js(n, "Description.Hostname");
	return id;
}

static void print_moves(const char *service, const json_t *nodes, json_t *was, const json_t *is, int *moves)
{
	const char *slot;
	json_t *node;

	json_object_foreach((json_t *)is, slot, node)
	{
		const char *before = js(was, slot), *now = json_string_value(node);
		if (!*before || !strcmp(before, now))
			continue;
		printf("%s.%s: %s -> %s\n", service, slot, node_name(nodes, before), node_name(nodes, now));
		fflush(stdout);
		json_object_set_new(was, slot, json_string(now));
		(*moves)++;
	}
}

static int rebalance_watch(struct cli *c, const char *name, const char *id, json_t *was, struct mesh_err *err)
{
	JSON_CLEAN nodes = NULL;
	int moves = 0, rc = api_get(c, &nodes, err, "/nodes");

	for (bool more = true; more && !rc;) {
		JSON_CLEAN state = NULL;
		JSON_CLEAN is = NULL;
		rc = api_get(c, &state, err, "/_mesh/services/%s", id);
		more = !rc && ji(state, "Rebalance");
		if (!rc)
			rc = places_of(c, id, &is, err);
		if (rc)
			break;
		print_moves(name, nodes, was, is, &moves);
		if (more)
			usleep(100000);
	}
	if (!rc)
		printf(moves ? "%s: %d task%s moved\n" : "%s: even already\n", name, moves, moves == 1 ? "" : "s");
	return rc;
}

static int rebalance_one(struct cli *c, const char *name, struct mesh_err *err)
{
	JSON_CLEAN s = NULL;
	JSON_CLEAN was = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_get(c, &s, err, "/services/%s", arg);

	if (!rc)
		rc = places_of(c, js(s, "ID"), &was, err);
	if (!rc)
		rc = api_post(c, NULL, NULL, err, "/_mesh/services/%s/rebalance", js(s, "ID"));
	if (rc || flag_bool(c, "detach"))
		return rc;
	return rebalance_watch(c, js(s, "Spec.Name"), js(s, "ID"), was, err);
}

static int run_rebalance(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN services = NULL;
	json_t *s;
	size_t i;
	int rc = 0;

	if (c->nargs)
		return each_arg(c, rebalance_one, err);
	rc = api_get(c, &services, err, "/services");
	json_array_foreach(services, i, s)
	{
		const char *strategy = json_string_value(json_object_get(jo(s, "Spec.Labels"), "mesh.strategy"));
		if (!rc && jo(s, "Spec.Mode.Replicated") && (!strategy || !strcmp(strategy, "spread")))
			rc = rebalance_one(c, js(s, "Spec.Name"), err);
	}
	return rc;
}

static const struct flag rebalance_flags[] = {
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting until the tasks have moved" },
};
static const struct command sub_rebalance = {
	.name = "rebalance",
	.usage = "[SERVICE...]",
	.summary = "Move tasks to even out the nodes, one after the other and without dropping anything",
	.more = "A task is moved by starting another on an emptier node; it goes once that one serves. Without "
		"arguments: "
		"all replicated services. Services whose label mesh.strategy is binpack or random are left as they "
		"are.",
	FLAGS(rebalance_flags),
	.run = run_rebalance,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service rebalance web",
};

int service_rollback(struct cli *c, const char *name, const char *query, bool detach, bool quiet, struct mesh_err *err)
{
	JSON_CLEAN s = NULL;
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_get(c, &s, err, "/services/%s?insertDefaults=false", arg);

	if (!rc)
		rc = api_post(c, jo(s, "Spec"), &answer, err, "/services/%s/update?%srollback=previous&version=%lld",
		              js(s, "ID"), query, (long long)ji(s, "Version.Index"));
	if (rc < 0)
		return rc;
	printf("%s\n", name);
	fflush(stdout);
	return detach ? 0 : progress_service(c, name, quiet, err);
}

static int run_rollback(struct cli *c, struct mesh_err *err)
{
	return service_rollback(c, c->args[0], "", flag_bool(c, "detach"), flag_bool(c, "quiet"), err);
}

/* ---- logs ---------------------------------------------------------------------------------------- */

struct logs {
	struct cli *c;
	struct cli side; /* names are asked for beside the stream */
	json_t *services, *nodes, *tasks;
	struct buf lines[4]; /* partial lines of each stream */
	bool raw, details, timestamps, no_ids, no_resolve, no_trunc;
	int digits;
};

static const json_t *lookup(struct logs *l, json_t **list, const char *path, const char *id)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		json_t *o;
		size_t i;
		json_array_foreach(*list, i, o) if (!strcmp(js(o, "ID"), id)) return o;
		json_t *fresh;
		if (attempt || api_get(&l->side, &fresh, NULL, "%s", path) < 0)
			break;
		json_decref(*list);
		*list = fresh;
	}
	return NULL;
}

/* Takes k from "a=1,b=2"; what is left stays in details. */
static char *take_detail(char *details, const char *key)
{
	size_t n = strlen(key);

	for (char *p = details; *p;) {
		size_t len = strcspn(p, ",");
		if (len > n && !strncmp(p, key, n) && p[n] == '=') {
			char *v = xstrndup(p + n + 1, len - n - 1);
			memmove(p, p + len + (p[len] == ','), strlen(p + len + (p[len] == ',')) + 1);
			size_t rest = strlen(details);
			if (rest && details[rest - 1] == ',')
				details[rest - 1] = 0;
			return v;
		}
		p += len + (p[len] == ',');
	}
	return xstrdup("");
}

static void print_source(struct logs *l, FILE *out, const char *task_id, const char *node_id, const char *service_id)
{
	const json_t *task = lookup(l, &l->tasks, "/tasks", task_id);
	const json_t *service = l->no_resolve ? NULL : lookup(l, &l->services, "/services", service_id);
	const json_t *node = l->no_resolve ? NULL : lookup(l, &l->nodes, "/nodes", node_id);
	CLEAN_FREE char *id = short_id(task_id, l->no_trunc);
	long long slot = ji(task, "Slot");
	char number[32];

	fprintf(out, "%s.", service ? js(service, "Spec.Name") : service_id);
	if (slot)
		snprintf(number, sizeof(number), "%lld", slot);
	else
		snprintf(number, sizeof(number), "%s", node_id);
	fprintf(out, "%s", number);
	if (!l->no_ids)
		fprintf(out, ".%s", id);
	int pad = slot ? l->digits - (int)strlen(number) : 0;
	fprintf(out, "@%s%*s    | ", node ? js(node, "Description.Hostname") : node_id, pad > 0 ? pad : 0, "");
}

/* "[time ]details message\n" */
static void log_line_out(struct logs *l, int stream, char *line)
{
	FILE *out = stream == 2 ? stderr : stdout;
	char *time = NULL, *at = line;

	if (l->timestamps) {
		time = at;
		at += strcspn(at, " ");
		if (*at)
			*at++ = 0;
	}
	if (l->raw) {
		if (time)
			fprintf(out, "%s ", time);
		fprintf(out, "%s\n", at);
		return;
	}
	char *details = at;
	at += strcspn(at, " ");
	if (*at)
		*at++ = 0;
	CLEAN_FREE char *node = take_detail(details, "com.docker.swarm.node.id");
	CLEAN_FREE char *service = take_detail(details, "com.docker.swarm.service.id");
	CLEAN_FREE char *task = take_detail(details, "com.docker.swarm.task.id");
	if (time)
		fprintf(out, "%s ", time);
	print_source(l, out, task, node, service);
	if (l->details)
		fprintf(out, "%s ", details);
	fprintf(out, "%s\n", at);
}

static void on_log(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct logs *l = arg;
	struct buf *b = &l->lines[stream & 3];

	while (n) {
		const uint8_t *nl = memchr(p, '\n', n);
		size_t take = nl ? (size_t)(nl - p) : n;
		buf_put(b, p, take);
		if (!nl)
			return;
		CLEAN_FREE char *line = buf_take_str(b);
		log_line_out(l, stream, line);
		p += take + 1;
		n -= take + 1;
	}
}

static int read_logs(struct logs *l, const char *path, bool tty, struct mesh_err *err)
{
	struct http_request req = { .method = "GET", .path = path };
	struct frames frames = { 0 };
	struct buf body = { 0 };
	int rc = api_stream(l->c, &req, err);

	while (!rc && (rc = http_read(l->c->http, &body, err)) > 0) {
		rc = 0;
		if (tty)
			on_log(l, 1, body.data, body.len);
		else
			rc = frames_feed(&frames, body.data, body.len, on_log, l, err);
		buf_clear(&body);
		fflush(stdout);
	}
	for (int i = 0; i < 4; i++)
		if (l->lines[i].len)
			on_log(l, i, (const uint8_t *)"\n", 1);
	buf_fini(&body);
	return rc;
}

static int digits_of(long long n)
{
	int d = 1;

	for (; n >= 10; n /= 10)
		d++;
	return d;
}

/* A service by name, or one task by id. */
static int log_target(struct cli *c, char **base, int *digits, bool *tty, struct mesh_err *err)
{
	JSON_CLEAN o = NULL;
	CLEAN_FREE char *arg = url_dup(c->args[0]);
	int rc = api_get(c, &o, err, "/services/%s", arg);

	if (!rc) {
		*digits = digits_of(ji(o, "Spec.Mode.Replicated.Replicas"));
		*tty = jb(o, "Spec.TaskTemplate.ContainerSpec.TTY");
		*base = xasprintf("/services/%s/logs", js(o, "ID"));
		return 0;
	}
	if (rc != MESH_E_NOT_FOUND)
		return rc;
	rc = api_get(c, &o, NULL, "/tasks/%s", arg);
	if (rc == MESH_E_NOT_FOUND)
		return mesh_fail(err, rc, "no such task or service: %s", c->args[0]);
	if (rc < 0)
		return mesh_fail(err, rc, "asking for task %s failed", c->args[0]);
	*digits = digits_of(ji(o, "Slot"));
	*tty = jb(o, "Spec.ContainerSpec.TTY");
	*base = xasprintf("/tasks/%s/logs", js(o, "ID"));
	return 0;
}

static int run_logs(struct cli *c, struct mesh_err *err)
{
	struct logs l = { .c = c,
		          .side = { .host = c->host },
		          .raw = flag_bool(c, "raw"),
		          .details = flag_bool(c, "details"),
		          .timestamps = flag_bool(c, "timestamps"),
		          .no_ids = flag_bool(c, "no-task-ids"),
		          .no_resolve = flag_bool(c, "no-resolve"),
		          .no_trunc = flag_bool(c, "no-trunc") };
	CLEAN_FREE char *base = NULL;
	CLEAN_FREE char *path = NULL;
	char since[64] = "";
	bool tty = false;
	int rc = log_target(c, &base, &l.digits, &tty, err);

	if (!rc && flag_given(c, "since"))
		rc = since_param(flag_str(c, "since"), since, sizeof(since), err);
	if (rc < 0)
		return rc;
	CLEAN_FREE char *tail = url_dup(flag_str(c, "tail"));
	path = xasprintf("%s?stdout=1&stderr=1&tail=%s%s%s%s%s%s", base, tail, l.raw && !l.details ? "" : "&details=1",
	                 flag_bool(c, "follow") ? "&follow=1" : "", l.timestamps ? "&timestamps=1" : "",
	                 *since ? "&since=" : "", since);
	rc = read_logs(&l, path, tty, err);
	http_free(l.side.http);
	json_decref(l.services);
	json_decref(l.nodes);
	json_decref(l.tasks);
	return rc;
}

static const struct flag ls_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display IDs" },
};

static const struct flag ps_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'json' or a Go template" },
	{ "no-resolve", 0, F_BOOL, NULL, NULL, "Do not map IDs to Names" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display task IDs" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "pretty", 0, F_BOOL, NULL, NULL, "Print the information in a human friendly format" },
};

static const struct flag logs_flags[] = {
	{ "details", 0, F_BOOL, NULL, NULL, "Show extra details provided to logs" },
	{ "follow", 'f', F_BOOL, NULL, NULL, "Follow log output" },
	{ "no-resolve", 0, F_BOOL, NULL, NULL, "Do not map IDs to Names in output" },
	{ "no-task-ids", 0, F_BOOL, NULL, NULL, "Do not include task IDs in output" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
	{ "raw", 0, F_BOOL, NULL, NULL, "Do not neatly format logs" },
	{ "since", 0, F_STR, NULL, NULL,
	  "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)" },
	{ "tail", 'n', F_STR, NULL, "all", "Number of lines to show from the end of the logs" },
	{ "timestamps", 't', F_BOOL, NULL, NULL, "Show timestamps" },
};

static const struct flag scale_flags[] = {
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting for the service to converge" },
};

static const struct flag rollback_flags[] = {
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting for the service to converge" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress progress output" },
};

static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List services",
	FLAGS(ls_flags),
	.run = run_ls,
	.example = "  meshctl service ls --filter label=tier=front",
};
static const struct command sub_ps = {
	.name = "ps",
	.usage = "SERVICE [SERVICE...]",
	.summary = "List the tasks of one or more services",
	FLAGS(ps_flags),
	.run = run_ps,
	.min = 1,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service ps --filter desired-state=running web",
};
static const struct command sub_inspect = {
	.name = "inspect",
	.usage = "SERVICE [SERVICE...]",
	.summary = "Display detailed information on one or more services",
	FLAGS(inspect_flags),
	.run = run_inspect,
	.min = 1,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service inspect --pretty web",
};
static const struct command sub_logs = {
	.name = "logs",
	.usage = "SERVICE|TASK",
	.summary = "Fetch the logs of a service or task",
	FLAGS(logs_flags),
	.run = run_logs,
	.min = 1,
	.max = 1,
	.comp = "service",
	.example = "  meshctl service logs -f --tail 10 web",
};
static const struct command sub_scale = {
	.name = "scale",
	.usage = "SERVICE=REPLICAS [SERVICE=REPLICAS...]",
	.summary = "Scale one or multiple replicated services",
	FLAGS(scale_flags),
	.run = run_scale,
	.min = 1,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service scale web=5 worker=2",
};
static const struct command sub_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "SERVICE [SERVICE...]",
	.summary = "Remove one or more services",
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service rm web",
};
static const struct command sub_rollback = {
	.name = "rollback",
	.usage = "SERVICE",
	.summary = "Revert changes to a service's configuration",
	FLAGS(rollback_flags),
	.run = run_rollback,
	.min = 1,
	.max = 1,
	.comp = "service",
	.example = "  meshctl service rollback web",
};

static const struct command *const subs[] = {
	&service_create_command, &sub_inspect, &sub_logs,     &sub_ls,    &sub_ps,
	&sub_rebalance,          &sub_rm,      &sub_rollback, &sub_scale, &service_split_command,
	&service_update_command, NULL
};
const struct command cmd_service = {
	.name = "service",
	.summary = "Manage services",
	.subs = subs,
};
