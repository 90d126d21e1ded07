/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

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
		return mesh_fail(err, MESH_E_INVALID, "scale can only be used with replicated or replicated-job mode");
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
			return mesh_fail(err, MESH_E_INVALID, "%.*s: invalid replicas value %s: not a whole number",
			                 (int)(eq - c->args[i]), c->args[i], eq + 1);
	}
	for (int i = 0; i < c->nargs; i++) {
		const char *eq = strchr(c->args[i], '=');
		CLEAN_FREE char *name = xstrndup(c->args[i], (size_t)(eq - c->args[i]));
		struct mesh_err why = { 0 };
		if (scale_one(c, name, atoll(eq + 1), &why) < 0) {
			fprintf(stderr, "%s: %s\n", name, why.msg);
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

static const struct command *const subs[] = { &service_create_command,
	                                      &service_inspect_command,
	                                      &service_logs_command,
	                                      &sub_ls,
	                                      &sub_ps,
	                                      &service_rebalance_command,
	                                      &sub_rm,
	                                      &sub_rollback,
	                                      &sub_scale,
	                                      &service_split_command,
	                                      &service_update_command,
	                                      NULL };
const struct command cmd_service = {
	.name = "service",
	.summary = "Manage services",
	.subs = subs,
};
