/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/spec.h"
#include "cli/units.h"

/* ---- version ------------------------------------------------------------------------------------- */

static int run_version(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN server = NULL;
	const char *format = flag_str(c, "format");
	int rc = api_get(c, &server, err, "/version");
	char api[32];

	snprintf(api, sizeof(api), "1.%d", c->api_minor);
	if (*format) {
		JSON_CLEAN all =
			json_pack("[{s:{s:s,s:s,s:s,s:s},s:O?}]", "Client", "Version", MESH_VERSION, "ApiVersion", api,
		                  "Os", "linux", "DefaultAPIVersion", "1.47", "Server", server);
		int printed = inspect_print(all, format, rc < 0 ? NULL : err);
		return rc < 0 ? rc : printed;
	}
	printf("Client:\n Version:           " MESH_VERSION "\n");
	if (rc < 0)
		return rc;
	printf(" API version:       %s\n\nServer:\n Engine:\n  Version:          %s\n  API version:      %s (minimum "
	       "version %s)\n",
	       api, js(server, "Version"), js(server, "ApiVersion"), js(server, "MinAPIVersion"));
	if (*js(server, "GitCommit"))
		printf("  Git commit:       %s\n", js(server, "GitCommit"));
	printf("  OS/Arch:          %s/%s\n", js(server, "Os"), js(server, "Arch"));
	if (*js(server, "KernelVersion"))
		printf("  Kernel:           %s\n", js(server, "KernelVersion"));
	json_t *part;
	size_t i;
	json_array_foreach(jo(server, "Components"), i, part) if (strcmp(js(part, "Name"), "Engine"))
		printf(" %s:\n  Version:          %s\n", js(part, "Name"), js(part, "Version"));
	return 0;
}

/* ---- info ---------------------------------------------------------------------------------------- */

static void print_names(const char *title, const json_t *list)
{
	json_t *v;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("  %s:", title);
	json_array_foreach((json_t *)list, i, v) printf(" %s", json_string_value(v) ?: "");
	printf("\n");
}

/* An hour or a quarter in words, as "3 months". */
static void duration_words(const char *title, int64_t ns)
{
	char text[64];

	format_human_duration(ns, text, sizeof(text));
	printf("%s%s\n", title, text);
}

static void print_managers(const json_t *s)
{
	const json_t *spec = jo(s, "Cluster.Spec");
	json_t *v;
	size_t i;

	printf("  ClusterID: %s\n  Managers: %lld\n  Nodes: %lld\n", js(s, "Cluster.ID"), (long long)ji(s, "Managers"),
	       (long long)ji(s, "Nodes"));
	if (json_array_size(jo(s, "Cluster.DefaultAddrPool"))) {
		printf("  Default Address Pool:");
		json_array_foreach(jo(s, "Cluster.DefaultAddrPool"), i, v) printf(" %s ", json_string_value(v) ?: "");
		printf("\n  SubnetSize: %lld\n", (long long)ji(s, "Cluster.SubnetSize"));
	}
	if (ji(s, "Cluster.DataPathPort"))
		printf("  Data Path Port: %lld\n", (long long)ji(s, "Cluster.DataPathPort"));
	printf("  Orchestration:\n   Task History Retention Limit: %lld\n",
	       (long long)ji(spec, "Orchestration.TaskHistoryRetentionLimit"));
	printf("  Raft:\n   Snapshot Interval: %lld\n   Number of Old Snapshots to Retain: %lld\n   Heartbeat Tick: "
	       "%lld\n"
	       "   Election Tick: %lld\n",
	       (long long)ji(spec, "Raft.SnapshotInterval"), (long long)ji(spec, "Raft.KeepOldSnapshots"),
	       (long long)ji(spec, "Raft.HeartbeatTick"), (long long)ji(spec, "Raft.ElectionTick"));
	duration_words("  Dispatcher:\n   Heartbeat Period: ", ji(spec, "Dispatcher.HeartbeatPeriod"));
	duration_words("  CA Configuration:\n   Expiry Duration: ", ji(spec, "CAConfig.NodeCertExpiry"));
	printf("   Force Rotate: %lld\n", (long long)ji(spec, "CAConfig.ForceRotate"));
	printf("  Autolock Managers: %s\n  Root Rotation In Progress: %s\n",
	       jb(spec, "EncryptionConfig.AutoLockManagers") ? "true" : "false",
	       jb(s, "Cluster.RootRotationInProgress") ? "true" : "false");
}

static int cmp_addr(const void *a, const void *b)
{
	return natural_cmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_swarm(const json_t *s)
{
	const char *state = js(s, "LocalNodeState");
	size_t n = json_array_size(jo(s, "RemoteManagers"));
	const char **addrs = xcalloc(n + 1, sizeof(*addrs));

	printf(" Swarm: %s\n", state);
	if (*state && strcmp(state, "inactive") && strcmp(state, "locked")) {
		printf("  NodeID: %s\n", js(s, "NodeID"));
		if (*js(s, "Error"))
			printf("  Error: %s\n", js(s, "Error"));
		printf("  Is Manager: %s\n", jb(s, "ControlAvailable") ? "true" : "false");
		if (jo(s, "Cluster") && jb(s, "ControlAvailable") && strcmp(state, "error"))
			print_managers(s);
		printf("  Node Address: %s\n", js(s, "NodeAddr"));
		for (size_t i = 0; i < n; i++)
			addrs[i] = js(json_array_get(jo(s, "RemoteManagers"), i), "Addr");
		qsort(addrs, n, sizeof(*addrs), cmp_addr);
		if (n)
			printf("  Manager Addresses:\n");
		for (size_t i = 0; i < n; i++)
			printf("   %s\n", addrs[i]);
	}
	free(addrs);
}

static int run_info(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN info = NULL;
	char text[32];
	json_t *v;
	size_t i;
	int rc = api_get(c, &info, err, "/info");

	if (rc < 0)
		return rc;
	if (*flag_str(c, "format")) {
		JSON_CLEAN one = json_pack("[O]", info);
		return inspect_print(one, flag_str(c, "format"), err);
	}
	printf("Client:\n Version:    " MESH_VERSION
	       "\n Debug Mode: %s\n\nServer:\n Containers: %lld\n  Running: %lld\n"
	       "  Paused: %lld\n  Stopped: %lld\n Images: %lld\n Server Version: %s\n Storage Driver: %s\n",
	       c->debug ? "true" : "false", (long long)ji(info, "Containers"), (long long)ji(info, "ContainersRunning"),
	       (long long)ji(info, "ContainersPaused"), (long long)ji(info, "ContainersStopped"),
	       (long long)ji(info, "Images"), js(info, "ServerVersion"), js(info, "Driver"));
	json_array_foreach(jo(info, "DriverStatus"), i, v)
		printf("  %s: %s\n", json_string_value(json_array_get(v, 0)) ?: "",
	               json_string_value(json_array_get(v, 1)) ?: "");
	printf(" Logging Driver: %s\n Cgroup Driver: %s\n Cgroup Version: %s\n Plugins:\n", js(info, "LoggingDriver"),
	       js(info, "CgroupDriver"), js(info, "CgroupVersion"));
	print_names("Volume", jo(info, "Plugins.Volume"));
	print_names("Network", jo(info, "Plugins.Network"));
	print_names("Log", jo(info, "Plugins.Log"));
	print_swarm(jo(info, "Swarm"));
	format_bytes((double)ji(info, "MemTotal"), text, sizeof(text));
	printf(" Default Runtime: %s\n Kernel Version: %s\n Operating System: %s\n OSType: %s\n Architecture: %s\n "
	       "CPUs: %lld\n"
	       " Total Memory: %s\n Name: %s\n ID: %s\n Docker Root Dir: %s\n Debug Mode: %s\n Live Restore Enabled: "
	       "%s\n\n",
	       js(info, "DefaultRuntime"), js(info, "KernelVersion"), js(info, "OperatingSystem"), js(info, "OSType"),
	       js(info, "Architecture"), (long long)ji(info, "NCPU"), text, js(info, "Name"), js(info, "ID"),
	       js(info, "DockerRootDir"), jb(info, "Debug") ? "true" : "false",
	       jb(info, "LiveRestoreEnabled") ? "true" : "false");
	fflush(stdout);
	json_array_foreach(jo(info, "Warnings"), i, v) fprintf(stderr, "%s\n", json_string_value(v) ?: "");
	return 0;
}

/* ---- events -------------------------------------------------------------------------------------- */

static int cmp_key(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void print_event(const json_t *e)
{
	int64_t ns = ji(e, "timeNano");
	time_t s = (time_t)(ns ? ns / NS_PER_S : ji(e, "time"));
	json_t *attributes = jo(e, "Actor.Attributes"), *v;
	size_t n = json_object_size(attributes), i = 0;
	const char **keys = xcalloc(n + 1, sizeof(*keys)), *key;
	struct tm tm;
	char day[32], zone[8];

	localtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	strftime(zone, sizeof(zone), "%z", &tm);
	printf("%s.%09lld", day, (long long)(ns % NS_PER_S));
	if (strcmp(zone, "+0000"))
		printf("%.3s:%s", zone, zone + 3);
	else
		printf("Z");
	printf(" %s %s %s", js(e, "Type"), js(e, "Action"), js(e, "Actor.ID"));
	json_object_foreach(attributes, key, v) keys[i++] = key;
	qsort(keys, n, sizeof(*keys), cmp_key);
	for (i = 0; i < n; i++)
		printf("%s%s=%s", i ? ", " : " (", keys[i],
		       json_string_value(json_object_get(attributes, keys[i])) ?: "");
	printf(n ? ")\n" : "\n");
	free(keys);
}

static int one_event(struct cli *c, const json_t *e, struct mesh_err *err)
{
	const char *format = flag_str(c, "format");
	int rc = 0;

	if (*format) {
		JSON_CLEAN one = json_pack("[O]", e);
		rc = inspect_print(one, format, err);
	} else {
		print_event(e);
	}
	fflush(stdout);
	return rc;
}

static int run_events(struct cli *c, struct mesh_err *err)
{
	char since[64] = "", until[64] = "";
	struct buf body = { 0 };
	int rc = 0, more = 1;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	if (flag_given(c, "since"))
		rc = since_param(flag_str(c, "since"), since, sizeof(since), err);
	if (!rc && flag_given(c, "until"))
		rc = since_param(flag_str(c, "until"), until, sizeof(until), err);
	if (rc < 0)
		return rc;
	CLEAN_FREE char *path = xasprintf("/events?%s%s%s%s%s%s%s", *since ? "since=" : "", since, *since ? "&" : "",
	                                  *until ? "until=" : "", until, *until ? "&" : "", filters);
	size_t n = strlen(path);
	if (path[n - 1] == '?' || path[n - 1] == '&')
		path[n - 1] = 0;
	struct http_request req = { .method = "GET", .path = path };
	rc = api_stream(c, &req, err);
	while (!rc && more > 0) {
		more = http_read(c->http, &body, err);
		rc = more < 0 ? more : 0;
		for (;;) {
			json_error_t je;
			json_t *e = body.len && !rc
			                    ? json_loadb((char *)body.data, body.len, JSON_DISABLE_EOF_CHECK, &je)
			                    : NULL;
			if (!e)
				break;
			rc = one_event(c, e, err);
			json_decref(e);
			buf_consume(&body, (size_t)je.position);
		}
		if (!rc && body.len > 1u << 20)
			rc = mesh_fail(err, MESH_E_PROTOCOL, "an event of the daemon is too long");
	}
	buf_fini(&body);
	return rc;
}

/* ---- df ------------------------------------------------------------------------------------------ */

static const struct column df_columns[] = {
	{ "Type", "TYPE" }, { "TotalCount", "TOTAL" },        { "Active", "ACTIVE" },
	{ "Size", "SIZE" }, { "Reclaimable", "RECLAIMABLE" },
};
static const struct list_view df_view = { df_columns, ARRAY_SIZE(df_columns),
	                                  "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
	                                  "Type" };

static void df_row(json_t *rows, const char *type, size_t total, size_t active, double size, double reclaimable)
{
	char count[24], act[24], sz[32], rec[32];

	snprintf(count, sizeof(count), "%zu", total);
	snprintf(act, sizeof(act), "%zu", active);
	format_size(size, 4, sz, sizeof(sz));
	format_size(reclaimable, 4, rec, sizeof(rec));
	CLEAN_FREE char *shown = size > 0 ? xasprintf("%s (%d%%)", rec, (int)(reclaimable * 100 / size)) : xstrdup(rec);
	json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s}", "Type", type, "TotalCount", count, "Active", act,
	                                      "Size", sz, "Reclaimable", shown));
}

static int run_df(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN df = NULL;
	JSON_CLEAN rows = json_array();
	double size = 0, used = 0;
	size_t i, active = 0;
	json_t *o;
	int rc = api_get(c, &df, err, "/system/df");

	if (rc < 0)
		return rc;
	json_array_foreach(jo(df, "Images"), i, o) if (ji(o, "Containers") > 0)
	{
		active++;
		used += jf(o, "Size") - jf(o, "SharedSize") * (jf(o, "SharedSize") > 0);
	}
	size = jf(df, "LayersSize");
	df_row(rows, "Images", json_array_size(jo(df, "Images")), active, size, size > used ? size - used : 0);
	size = used = 0;
	active = 0;
	json_array_foreach(jo(df, "Containers"), i, o)
	{
		bool runs = !strcmp(js(o, "State"), "running");
		active += runs;
		size += jf(o, "SizeRw");
		used += runs ? jf(o, "SizeRw") : 0;
	}
	df_row(rows, "Containers", json_array_size(jo(df, "Containers")), active, size, size - used);
	size = used = 0;
	active = 0;
	json_array_foreach(jo(df, "Volumes"), i, o)
	{
		bool in_use = ji(o, "UsageData.RefCount") > 0;
		double s = jf(o, "UsageData.Size");
		active += in_use;
		size += s > 0 ? s : 0;
		used += in_use && s > 0 ? s : 0;
	}
	df_row(rows, "Local Volumes", json_array_size(jo(df, "Volumes")), active, size, size - used);
	df_row(rows, "Build Cache", json_array_size(jo(df, "BuildCache")), 0, 0, 0);
	return list_print(&df_view, rows, flag_str(c, "format"), false, err);
}

/* ---- volumes ------------------------------------------------------------------------------------- */

static const struct column volume_columns[] = {
	{ "Driver", "DRIVER" },
	{ "Name", "VOLUME NAME" },
	{ "Scope", "SCOPE" },
	{ "Mountpoint", "MOUNTPOINT" },
};
static const struct list_view volume_view = { volume_columns, ARRAY_SIZE(volume_columns),
	                                      "table {{.Driver}}\t{{.Name}}", "Name" };

static int volume_ls(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	JSON_CLEAN rows = json_array();
	json_t *v;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	int rc = api_get(c, &answer, err, "/volumes%s%s", *filters ? "?" : "", filters);
	if (rc < 0)
		return rc;
	if (jo(answer, "Volumes"))
		sort_rows(jo(answer, "Volumes"), "Name");
	json_array_foreach(jo(answer, "Volumes"), i, v) json_array_append_new(
		rows, json_pack("{s:s,s:s,s:s,s:s}", "Driver", js(v, "Driver"), "Name", js(v, "Name"), "Scope",
	                        js(v, "Scope"), "Mountpoint", js(v, "Mountpoint")));
	return list_print(&volume_view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

static int volume_create(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	JSON_CLEAN labels = spec_labels(flag_list(c, "label"));
	JSON_CLEAN options = spec_labels(flag_list(c, "opt"));
	JSON_CLEAN body =
		json_pack("{s:s,s:O,s:O}", "Driver", flag_str(c, "driver"), "DriverOpts", options, "Labels", labels);

	if (c->nargs)
		json_object_set_new(body, "Name", json_string(c->args[0]));
	int rc = api_post(c, body, &answer, err, "/volumes/create");
	if (!rc)
		printf("%s\n", js(answer, "Name"));
	return rc;
}

static int volume_rm(struct cli *c, struct mesh_err *err)
{
	return remove_each(c, "/volumes", flag_bool(c, "force") ? "?force=1" : "", err);
}

static int volume_inspect(struct cli *c, struct mesh_err *err)
{
	return inspect_each(c, "/volumes", "", NULL, err);
}

/* ---- completion ---------------------------------------------------------------------------------- */

static int run_completion(struct cli *c, struct mesh_err *err)
{
	const char *script = complete_script(c->args[0]);

	if (!script)
		return mesh_fail(err, MESH_E_INVALID, "no completion for '%s': bash, zsh or fish", c->args[0]);
	fputs(script, stdout);
	return 0;
}

static int volume_prune(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	struct str_list filters = { 0 };
	json_t *v;
	size_t i;

	for (i = 0; i < flag_list(c, "filter")->n; i++)
		strs_add(&filters, flag_list(c, "filter")->v[i]);
	if (flag_bool(c, "all"))
		strs_add(&filters, "all=1");
	CLEAN_FREE char *query = api_filters(&filters, err);
	strs_clear(&filters);
	if (!query)
		return MESH_E_USAGE;
	CLEAN_FREE char *question =
		xasprintf("WARNING! This will remove %s volumes not used by at least one container.\nAre you sure you "
	                  "want to continue?",
	                  flag_bool(c, "all") ? "all" : "anonymous local");
	if (!flag_bool(c, "force") && !confirm(question))
		return 0;
	int rc = api_post(c, NULL, &answer, err, "/volumes/prune%s%s", *query ? "?" : "", query);
	if (rc < 0)
		return rc;
	if (json_array_size(jo(answer, "VolumesDeleted")))
		printf("Deleted Volumes:\n");
	json_array_foreach(jo(answer, "VolumesDeleted"), i, v) printf("%s\n", json_string_value(v));
	if (json_array_size(jo(answer, "VolumesDeleted")))
		printf("\n");
	char space[32];
	format_size((double)ji(answer, "SpaceReclaimed"), 4, space, sizeof(space));
	printf("Total reclaimed space: %s\n", space);
	return 0;
}

static const struct flag volume_prune_flags[] = {
	{ "all", 'a', F_BOOL, NULL, NULL, "Remove all unused volumes, not just anonymous ones" },
	{ "filter", 0, F_LIST, "filter", NULL, "Provide filter values (e.g. \"label=<label>\")" },
	{ "force", 'f', F_BOOL, NULL, NULL, "Do not prompt for confirmation" },
};
static const struct flag volume_ls_flags[] = {
	FILTER_FLAG("dangling=true"),
	FORMAT_LIST_FLAG,
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display volume names" },
};
static const struct flag volume_create_flags[] = {
	{ "driver", 'd', F_STR, NULL, "local", "Specify volume driver name" },
	{ "label", 0, F_LIST, NULL, NULL, "Set metadata for a volume" },
	{ "opt", 'o', F_LIST, "map", NULL, "Set driver specific options" },
};
static const struct flag volume_rm_flags[] = { { "force", 'f', F_BOOL, NULL, NULL,
	                                         "Force the removal of one or more volumes" } };
static const struct flag format_flags[] = { FORMAT_ITEM_FLAG };
static const struct flag events_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'json' or a Go template" },
	{ "since", 0, F_STR, NULL, NULL, "Show all events created since timestamp" },
	{ "until", 0, F_STR, NULL, NULL, "Stream events until this timestamp" },
};

static const struct flag df_flags[] = {
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
};

const struct command cmd_version = {
	.name = "version",
	.summary = "Show the version of client and daemon",
	FLAGS(format_flags),
	.run = run_version,
	.example = "  meshctl version --format '{{.Server.Version}}'",
};
const struct command cmd_info = {
	.name = "info",
	.summary = "Display system-wide information",
	FLAGS(format_flags),
	.run = run_info,
	.example = "  meshctl info --format '{{.Swarm.NodeID}}'",
};
const struct command cmd_events = {
	.name = "events",
	.summary = "Get real time events from the daemon",
	FLAGS(events_flags),
	.run = run_events,
	.example = "  meshctl events --since 10m --filter type=service",
};
const struct command cmd_completion = {
	.name = "completion",
	.usage = "bash|zsh|fish",
	.summary = "Print a completion script for a shell",
	.run = run_completion,
	.min = 1,
	.max = 1,
	.comp = "bash zsh fish",
	.local = true,
	.example = "  meshctl completion bash > /etc/bash_completion.d/meshctl",
};
static const struct command sub_df = {
	.name = "df",
	.summary = "Show disk usage",
	FLAGS(df_flags),
	.run = run_df,
	.example = "  meshctl system df",
};
static const struct command sub_vls = {
	.name = "ls",
	.alias = "list",
	.summary = "List volumes",
	FLAGS(volume_ls_flags),
	.run = volume_ls,
	.example = "  meshctl volume ls",
};
static const struct command sub_vcreate = {
	.name = "create",
	.usage = "[VOLUME]",
	.summary = "Create a volume",
	FLAGS(volume_create_flags),
	.run = volume_create,
	.max = 1,
	.example = "  meshctl volume create data",
};
static const struct command sub_vrm = {
	.name = "rm",
	.alias = "remove",
	.usage = "VOLUME [VOLUME...]",
	.summary = "Remove one or more volumes",
	FLAGS(volume_rm_flags),
	.run = volume_rm,
	.min = 1,
	.max = -1,
	.comp = "volume",
	.example = "  meshctl volume rm data",
};
static const struct command sub_vprune = {
	.name = "prune",
	.summary = "Remove unused local volumes",
	FLAGS(volume_prune_flags),
	.run = volume_prune,
	.example = "  meshctl volume prune -a -f",
};
static const struct command sub_vinspect = {
	.name = "inspect",
	.usage = "VOLUME [VOLUME...]",
	.summary = "Display detailed information on one or more volumes",
	FLAGS(format_flags),
	.run = volume_inspect,
	.min = 1,
	.max = -1,
	.comp = "volume",
	.example = "  meshctl volume inspect data",
};

static const struct command *const system_subs[] = { &sub_df, &cmd_events, &cmd_info, NULL };
const struct command cmd_system = {
	.name = "system",
	.summary = "Disk usage, events, information",
	.subs = system_subs,
};
static const struct command *const volume_subs[] = {
	&sub_vcreate, &sub_vinspect, &sub_vls, &sub_vprune, &sub_vrm, NULL
};
const struct command cmd_volume = {
	.name = "volume",
	.summary = "Manage volumes",
	.subs = volume_subs,
};
