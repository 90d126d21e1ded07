/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Containers as the node we talk to sees them: ps, logs, rm, stop, kill, inspect, top, stats. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/show.h"
#include "cli/top.h"
#include "cli/table.h"
#include "cli/units.h"

/* ---- ps ------------------------------------------------------------------------------------------ */

static const struct column ps_columns[] = {
	{ "ID", "CONTAINER ID" },    { "Image", "IMAGE" },          { "Command", "COMMAND" },
	{ "RunningFor", "CREATED" }, { "CreatedAt", "CREATED AT" }, { "Status", "STATUS" },
	{ "State", "STATE" },        { "Ports", "PORTS" },          { "Names", "NAMES" },
	{ "Labels", "LABELS" },      { "Mounts", "MOUNTS" },        { "Networks", "NETWORKS" },
	{ "Size", "SIZE" },
};
static const struct list_view ps_view = {
	ps_columns, ARRAY_SIZE(ps_columns),
	"table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}", "ID"
};

static char *container_ports(const json_t *ports)
{
	struct buf b = { 0 };
	json_t *p;
	size_t i;

	json_array_foreach((json_t *)ports, i, p)
	{
		buf_puts(&b, i ? ", " : "");
		if (ji(p, "PublicPort"))
			buf_printf(&b, "%s:%lld->", *js(p, "IP") ? js(p, "IP") : "0.0.0.0",
			           (long long)ji(p, "PublicPort"));
		buf_printf(&b, "%lld/%s", (long long)ji(p, "PrivatePort"), js(p, "Type"));
	}
	return buf_take_str(&b);
}

static char *joined(const json_t *list, bool strip_slash)
{
	struct buf b = { 0 };
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		const char *s = json_string_value(v) ?: "";
		buf_printf(&b, "%s%s", i ? "," : "", strip_slash && *s == '/' ? s + 1 : s);
	}
	return buf_take_str(&b);
}

static char *pairs(const json_t *o, bool keys_only)
{
	struct buf b = { 0 };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)o, key, v)
		buf_printf(&b, "%s%s%s%s", b.len ? "," : "", key, keys_only ? "" : "=", keys_only ? "" : json_string_value(v) ?: "");
	return buf_take_str(&b);
}

static json_t *ps_row(const json_t *o, bool no_trunc)
{
	CLEAN_FREE char *id = short_id(js(o, "Id"), no_trunc);
	CLEAN_FREE char *command = no_trunc ? xstrdup(js(o, "Command")) : ellipsis(js(o, "Command"), 20);
	CLEAN_FREE char *quoted = xasprintf("\"%s\"", command);
	CLEAN_FREE char *ports = container_ports(jo(o, "Ports"));
	CLEAN_FREE char *names = joined(jo(o, "Names"), true);
	CLEAN_FREE char *labels = pairs(jo(o, "Labels"), false);
	CLEAN_FREE char *networks = pairs(jo(o, "NetworkSettings.Networks"), true);
	CLEAN_FREE char *image = no_trunc ? xstrdup(js(o, "Image")) : image_shown(js(o, "Image"));
	struct buf mounts = { 0 };
	char since[64], created[64], size[32], image_size[32];
	json_t *m;
	size_t i;
	int64_t at = ji(o, "Created");
	struct tm tm;
	time_t t = (time_t)at;

	format_human_duration(now_ns() - at * NS_PER_S, since, sizeof(since));
	localtime_r(&t, &tm);
	strftime(created, sizeof(created), "%Y-%m-%d %H:%M:%S %z %Z", &tm);
	format_size((double)ji(o, "SizeRw"), 3, size, sizeof(size));
	format_size((double)ji(o, "SizeRootFs"), 3, image_size, sizeof(image_size));
	json_array_foreach(jo(o, "Mounts"), i, m)
		buf_printf(&mounts, "%s%s", i ? "," : "", *js(m, "Name") ? js(m, "Name") : js(m, "Source"));
	CLEAN_FREE char *ago = xasprintf("%s ago", since);
	CLEAN_FREE char *sizes = ji(o, "SizeRootFs") ? xasprintf("%s (virtual %s)", size, image_size) : xstrdup(size);
	json_t *row = json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "ID", id, "Image", image,
	                        "Command", quoted, "RunningFor", ago, "CreatedAt", created, "Status", js(o, "Status"),
	                        "State", js(o, "State"), "Ports", ports, "Names", names, "Labels", labels, "Mounts",
	                        buf_str(&mounts), "Networks", networks, "Size", sizes);
	json_object_set_new(row, "Label", jo(o, "Labels") ? json_incref(jo(o, "Labels")) : json_object());
	buf_fini(&mounts);
	return row;
}

static int run_ps(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN list = NULL;
	JSON_CLEAN rows = json_array();
	bool all = flag_bool(c, "all") || flag_given(c, "last") || flag_bool(c, "latest");
	int64_t last = flag_bool(c, "latest") ? 1 : flag_int(c, "last");
	json_t *o;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	CLEAN_FREE char *limit = last > 0 ? xasprintf("&limit=%lld", (long long)last) : xstrdup("");
	int rc = api_get(c, &list, err, "/containers/json?all=%d%s%s%s%s", all, flag_bool(c, "size") ? "&size=1" : "",
	                 limit, *filters ? "&" : "", filters);
	if (rc < 0)
		return rc;
	json_array_foreach(list, i, o) json_array_append_new(rows, ps_row(o, flag_bool(c, "no-trunc")));
	struct list_view view = ps_view;
	if (flag_bool(c, "size"))
		view.table = "table "
			     "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}\t"
			     "{{.Size}}";
	return list_print(&view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

/* ---- logs ---------------------------------------------------------------------------------------- */

static void put_stream(void *arg, int stream, const uint8_t *p, size_t n)
{
	FILE *out = stream == 2 ? stderr : stdout;

	(void)arg;
	fwrite(p, 1, n, out);
	fflush(out);
}

static int run_logs(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN info = NULL;
	CLEAN_FREE char *name = url_dup(c->args[0]);
	CLEAN_FREE char *tail = url_dup(flag_str(c, "tail"));
	char since[64] = "", until[64] = "";
	struct frames frames = { 0 };
	struct buf body = { 0 };
	int rc = api_get(c, &info, err, "/containers/%s/json", name);

	if (!rc && flag_given(c, "since"))
		rc = since_param(flag_str(c, "since"), since, sizeof(since), err);
	if (!rc && flag_given(c, "until"))
		rc = since_param(flag_str(c, "until"), until, sizeof(until), err);
	if (rc < 0)
		return rc;
	CLEAN_FREE char *path =
		xasprintf("/containers/%s/logs?stdout=1&stderr=1&tail=%s%s%s%s%s%s%s%s", name, tail,
	                  flag_bool(c, "follow") ? "&follow=1" : "", flag_bool(c, "timestamps") ? "&timestamps=1" : "",
	                  flag_bool(c, "details") ? "&details=1" : "", *since ? "&since=" : "", since,
	                  *until ? "&until=" : "", until);
	struct http_request req = { .method = "GET", .path = path };
	rc = api_stream(c, &req, err);
	while (!rc && (rc = http_read(c->http, &body, err)) > 0) {
		rc = 0;
		if (jb(info, "Config.Tty"))
			put_stream(NULL, 1, body.data, body.len);
		else
			rc = frames_feed(&frames, body.data, body.len, put_stream, NULL, err);
		buf_clear(&body);
	}
	buf_fini(&body);
	return rc;
}

/* ---- verbs over each ------------------------------------------------------------------------------ */

static int run_rm(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *query = xasprintf("?force=%d&v=%d&link=%d", flag_bool(c, "force"), flag_bool(c, "volumes"),
	                                   flag_bool(c, "link"));

	return remove_each(c, "/containers", query, err);
}

static int post_echo(struct cli *c, const char *name, const char *verb, const char *query, struct mesh_err *err)
{
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_post(c, NULL, NULL, err, "/containers/%s/%s%s", arg, verb, query);

	if (!rc)
		printf("%s\n", name);
	return rc;
}

static char *stop_query(struct cli *c)
{
	struct buf b = { 0 };

	if (flag_given(c, "signal"))
		buf_printf(&b, "?signal=%s", flag_str(c, "signal"));
	if (flag_given(c, "timeout"))
		buf_printf(&b, "%st=%lld", b.len ? "&" : "?", (long long)flag_int(c, "timeout"));
	return buf_take_str(&b);
}

static int stop_one(struct cli *c, const char *name, struct mesh_err *err)
{
	CLEAN_FREE char *query = stop_query(c);

	return post_echo(c, name, "stop", query, err);
}

static int restart_one(struct cli *c, const char *name, struct mesh_err *err)
{
	CLEAN_FREE char *query = stop_query(c);

	return post_echo(c, name, "restart", query, err);
}

static int kill_one(struct cli *c, const char *name, struct mesh_err *err)
{
	CLEAN_FREE char *query = flag_given(c, "signal") ? xasprintf("?signal=%s", flag_str(c, "signal")) : xstrdup("");

	return post_echo(c, name, "kill", query, err);
}

static int run_stop(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, stop_one, err);
}

static int run_restart(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, restart_one, err);
}

static int run_kill(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, kill_one, err);
}

static int wait_one(struct cli *c, const char *name, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_post(c, NULL, &answer, err, "/containers/%s/wait", arg);

	if (!rc)
		printf("%lld\n", (long long)ji(answer, "StatusCode"));
	return rc;
}

static int run_wait(struct cli *c, struct mesh_err *err)
{
	return each_arg(c, wait_one, err);
}

/* Each kind is asked until one knows the name. */
static int run_inspect(struct cli *c, struct mesh_err *err)
{
	static const struct {
		const char *type, *path;
	} kinds[] = {
		{ "container", "/containers/%s/json" },
		{ "image", "/images/%s/json" },
		{ "network", "/networks/%s" },
		{ "volume", "/volumes/%s" },
		{ "service", "/services/%s" },
		{ "task", "/tasks/%s" },
		{ "node", "/nodes/%s" },
		{ "secret", "/secrets/%s" },
		{ "config", "/configs/%s" },
	};
	JSON_CLEAN found = json_array();
	const char *type = flag_str(c, "type");
	int missing = 0;
	struct buf complaints = { 0 };

	for (int i = 0; i < c->nargs; i++) {
		CLEAN_FREE char *arg = url_dup(c->args[i]);
		bool known = false, asked = false;
		for (size_t k = 0; k < ARRAY_SIZE(kinds) && !known; k++) {
			if (*type && strcmp(type, kinds[k].type))
				continue;
			asked = true;
			char path[512];
			json_t *o;
			struct mesh_err why = { 0 };
			snprintf(path, sizeof(path), "%.*s%s%s", (int)(strchr(kinds[k].path, '%') - kinds[k].path),
			         kinds[k].path, arg, strchr(kinds[k].path, '%') + 2);
			int rc = api_get(c, &o, &why, "%s", path);
			known = !rc;
			if (known)
				json_array_append_new(found, o);
			else if (rc == -ENOENT || rc == -ECONNREFUSED || rc == -EACCES)
				return mesh_fail(err, rc, "%s", why.msg);
		}
		if (!asked)
			return mesh_fail(err, MESH_E_INVALID, "\"%s\" is not a valid value for --type", type);
		if (!known) {
			buf_printf(&complaints, "Error: No such %s: %s\n", *type ? type : "object", c->args[i]);
			missing = 1;
		}
	}
	int rc = !*flag_str(c, "format") || json_array_size(found) ? inspect_print(found, flag_str(c, "format"), err)
	                                                           : 0;
	fflush(stdout);
	if (missing)
		fputs(buf_str(&complaints), stderr);
	buf_fini(&complaints);
	return rc < 0 ? rc : missing;
}

static int run_top(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN top = NULL;
	if (!c->nargs)
		return top_traffic(c, err);
	CLEAN_FREE char *arg = url_dup(c->args[0]);
	struct buf cells = { 0 }, args = { 0 };
	json_t *row, *v;
	size_t i, k;

	for (int a = 1; a < c->nargs; a++)
		buf_printf(&args, "%s%s", a > 1 ? " " : "", c->args[a]);
	CLEAN_FREE char *ps_args = url_dup(buf_str(&args));
	buf_fini(&args);
	int rc = api_get(c, &top, err, "/containers/%s/top%s%s", arg, *ps_args ? "?ps_args=" : "", ps_args);
	if (rc < 0)
		return rc;
	json_array_foreach(jo(top, "Titles"), k, v) buf_printf(&cells, "%s%s", k ? "\t" : "", json_string_value(v));
	buf_puts(&cells, "\n");
	json_array_foreach(jo(top, "Processes"), i, row)
	{
		json_array_foreach(row, k, v) buf_printf(&cells, "%s%s", k ? "\t" : "", json_string_value(v) ?: "");
		buf_puts(&cells, "\n");
	}
	struct buf out = { 0 };
	table_format_min(buf_str(&cells), 20, &out);
	fwrite(out.data, 1, out.len, stdout);
	buf_fini(&out);
	buf_fini(&cells);
	return 0;
}

/* ---- stats --------------------------------------------------------------------------------------- */

static const struct column stats_columns[] = {
	{ "Container", "CONTAINER" },
	{ "ID", "CONTAINER ID" },
	{ "Name", "NAME" },
	{ "CPUPerc", "CPU %" },
	{ "MemUsage", "MEM USAGE / LIMIT" },
	{ "MemPerc", "MEM %" },
	{ "NetIO", "NET I/O" },
	{ "BlockIO", "BLOCK I/O" },
	{ "PIDs", "PIDS" },
};
static const struct list_view stats_view = {
	stats_columns, ARRAY_SIZE(stats_columns),
	"table {{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}", "ID"
};

static double cpu_percent(const json_t *s)
{
	double cpu = jf(s, "cpu_stats.cpu_usage.total_usage") - jf(s, "precpu_stats.cpu_usage.total_usage");
	double system = jf(s, "cpu_stats.system_cpu_usage") - jf(s, "precpu_stats.system_cpu_usage");
	double cpus = jf(s, "cpu_stats.online_cpus");

	if (!cpus)
		cpus = (double)json_array_size(jo(s, "cpu_stats.cpu_usage.percpu_usage"));
	return cpu > 0 && system > 0 ? cpu / system * cpus * 100 : 0;
}

static void in_out(double in, double out, char *text, size_t cap)
{
	char a[32], b[32];

	format_size(in, 3, a, sizeof(a));
	format_size(out, 3, b, sizeof(b));
	snprintf(text, cap, "%s / %s", a, b);
}

static json_t *stats_row(const json_t *s, const char *asked, bool no_trunc)
{
	double used = jf(s, "memory_stats.usage"), limit = jf(s, "memory_stats.limit"), rx = 0, tx = 0, rd = 0, wr = 0;
	double cache = jf(s, "memory_stats.stats.total_inactive_file");
	char cpu[32], mem[80], mem_perc[32], net[80], block[80], pids[32], a[32], b[32];
	const char *key;
	json_t *v;
	size_t i;

	if (!cache)
		cache = jf(s, "memory_stats.stats.inactive_file");
	used -= cache < used ? cache : 0;
	json_object_foreach(jo(s, "networks"), key, v)
	{
		rx += jf(v, "rx_bytes");
		tx += jf(v, "tx_bytes");
	}
	json_array_foreach(jo(s, "blkio_stats.io_service_bytes_recursive"), i, v)
	{
		char op = (char)tolower((unsigned char)*js(v, "op"));
		rd += op == 'r' ? jf(v, "value") : 0;
		wr += op == 'w' ? jf(v, "value") : 0;
	}
	snprintf(cpu, sizeof(cpu), "%.2f%%", cpu_percent(s));
	format_bytes(used, a, sizeof(a));
	format_bytes(limit, b, sizeof(b));
	snprintf(mem, sizeof(mem), "%s / %s", a, b);
	snprintf(mem_perc, sizeof(mem_perc), "%.2f%%", limit > 0 ? used / limit * 100 : 0);
	in_out(rx, tx, net, sizeof(net));
	in_out(rd, wr, block, sizeof(block));
	snprintf(pids, sizeof(pids), "%lld", (long long)ji(s, "pids_stats.current"));
	const char *name = js(s, "name");
	CLEAN_FREE char *id = short_id(js(s, "id"), no_trunc);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "Container", asked, "ID", id, "Name",
	                 *name == '/' ? name + 1 : name, "CPUPerc", cpu, "MemUsage", mem, "MemPerc", mem_perc, "NetIO",
	                 net, "BlockIO", block, "PIDs", pids);
}

static int stats_once(struct cli *c, bool clear, struct mesh_err *err)
{
	JSON_CLEAN rows = json_array();
	JSON_CLEAN list = NULL;
	struct str_list names = { 0 };
	json_t *o;
	size_t i;
	int rc = 0;

	for (int a = 0; a < c->nargs; a++)
		strs_add(&names, c->args[a]);
	if (!c->nargs) {
		rc = api_get(c, &list, err, "/containers/json?all=%d", flag_bool(c, "all"));
		json_array_foreach(list, i, o) strs_add(&names, js(o, "Id"));
	}
	for (i = 0; !rc && i < names.n; i++) {
		JSON_CLEAN s = NULL;
		CLEAN_FREE char *arg = url_dup(names.v[i]);
		rc = api_get(c, &s, err, "/containers/%s/stats?stream=0", arg);
		if (rc == MESH_E_NOT_FOUND && !c->nargs) {
			rc = 0; /* it ended since it was listed */
			continue;
		}
		if (!rc)
			json_array_append_new(rows, stats_row(s, names.v[i], flag_bool(c, "no-trunc")));
	}
	strs_clear(&names);
	if (rc < 0)
		return rc;
	if (clear)
		printf("\033[H\033[2J");
	rc = list_print(&stats_view, rows, flag_str(c, "format"), false, err);
	fflush(stdout);
	return rc;
}

static int run_stats(struct cli *c, struct mesh_err *err)
{
	bool stream = !flag_bool(c, "no-stream");
	int rc;

	do {
		rc = stats_once(c, stream && isatty(1), err);
		if (stream && !rc)
			sleep(1);
	} while (stream && !rc);
	return rc;
}

static const struct flag ps_flags[] = {
	{ "all", 'a', F_BOOL, NULL, "shows just running", "Show all containers" },
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "last", 'n', F_INT, NULL, NULL, "Show n last created containers (includes all states)" },
	{ "latest", 'l', F_BOOL, NULL, NULL, "Show the latest created container (includes all states)" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Don't truncate output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display container IDs" },
	{ "size", 's', F_BOOL, NULL, NULL, "Display total file sizes" },
};

static const struct flag logs_flags[] = {
	{ "details", 0, F_BOOL, NULL, NULL, "Show extra details provided to logs" },
	{ "follow", 'f', F_BOOL, NULL, NULL, "Follow log output" },
	{ "since", 0, F_STR, NULL, NULL,
	  "Show logs since timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)" },
	{ "tail", 'n', F_STR, NULL, "all", "Number of lines to show from the end of the logs" },
	{ "timestamps", 't', F_BOOL, NULL, NULL, "Show timestamps" },
	{ "until", 0, F_STR, NULL, NULL,
	  "Show logs before a timestamp (e.g. \"2013-01-02T13:23:37Z\") or relative (e.g. \"42m\" for 42 minutes)" },
};

static const struct flag rm_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Force the removal of a running container (uses SIGKILL)" },
	{ "link", 'l', F_BOOL, NULL, NULL, "Remove the specified link" },
	{ "volumes", 'v', F_BOOL, NULL, NULL, "Remove anonymous volumes associated with the container" },
};

static const struct flag stop_flags[] = {
	{ "signal", 's', F_STR, NULL, NULL, "Signal to send to the container" },
	{ "timeout", 't', F_INT, NULL, NULL, "Seconds to wait before killing the container" },
};

static const struct flag kill_flags[] = {
	{ "signal", 's', F_STR, NULL, NULL, "Signal to send to the container" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "size", 's', F_BOOL, NULL, NULL, "Display total file sizes if the type is container" },
	{ "type", 0, F_STR, NULL, NULL, "Only inspect objects of the given type" },
};

static const struct flag stats_flags[] = {
	{ "all", 'a', F_BOOL, NULL, "shows just running", "Show all containers" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "no-stream", 0, F_BOOL, NULL, NULL, "Disable streaming stats and only pull the first result" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
};

const struct command cmd_ps = {
	.name = "ps",
	.summary = "List the containers of this node",
	FLAGS(ps_flags),
	.run = run_ps,
	.example = "  meshctl ps --filter label=com.docker.swarm.service.name=web",
};
const struct command cmd_logs = {
	.name = "logs",
	.usage = "CONTAINER",
	.summary = "Fetch the logs of a container",
	FLAGS(logs_flags),
	.run = run_logs,
	.min = 1,
	.max = 1,
	.comp = "container",
	.example = "  meshctl logs -f --tail 20 web.1",
};
const struct command cmd_rm = {
	.name = "rm",
	.usage = "CONTAINER [CONTAINER...]",
	.summary = "Remove one or more containers",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl rm -f 0ae439a8ed7d",
};
const struct command cmd_stop = {
	.name = "stop",
	.usage = "CONTAINER [CONTAINER...]",
	.summary = "Stop one or more running containers",
	FLAGS(stop_flags),
	.run = run_stop,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl stop -t 5 0ae439a8ed7d",
};
const struct command cmd_restart = {
	.name = "restart",
	.usage = "CONTAINER [CONTAINER...]",
	.summary = "Restart one or more containers",
	FLAGS(stop_flags),
	.run = run_restart,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl restart 0ae439a8ed7d",
};
const struct command cmd_kill = {
	.name = "kill",
	.usage = "CONTAINER [CONTAINER...]",
	.summary = "Kill one or more running containers",
	FLAGS(kill_flags),
	.run = run_kill,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl kill -s HUP 0ae439a8ed7d",
};
const struct command cmd_wait = {
	.name = "wait",
	.usage = "CONTAINER [CONTAINER...]",
	.summary = "Block until containers stop, then print their exit codes",
	.run = run_wait,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl wait 0ae439a8ed7d",
};
const struct command cmd_inspect = {
	.name = "inspect",
	.usage = "NAME|ID [NAME|ID...]",
	.summary = "Return low-level information on any object",
	FLAGS(inspect_flags),
	.run = run_inspect,
	.min = 1,
	.max = -1,
	.comp = "container",
	.example = "  meshctl inspect --format '{{.State.Pid}}' 0ae439a8ed7d",
};
const struct command cmd_top = {
	.name = "top",
	.usage = "[OPTIONS] [CONTAINER [ps OPTIONS]]",
	.summary = "Display the traffic of the cluster's services, or the running processes of a container",
	.more = "Without a container: connections, packets and bytes a second of every service and of each of its "
		"tasks, over\n"
		"all nodes, and what was dropped, until interrupted. Packets and bytes are those of published ports "
		"and of\n"
		"the tasks' own networks; resets are TCP's, sent by a task or to it; errors are connections that were "
		"reset\n"
		"before they were open and those that found no task; CONNECT is the mean time of a handshake.\n"
		"Ask a manager. The same counters are on GET /metrics of every node.",
	FLAGS(top_flags),
	.run = run_top,
	.max = -1,
	.comp = "container",
	.verbatim = true,
	.example = "  meshctl top\n"
		   "  meshctl top --no-stream --interval 5s --services\n"
		   "  meshctl top --no-stream --format '{{.Kind}} {{.Service}} {{.Task}} {{.Connections}}'\n"
		   "  meshctl top 0ae439a8ed7d",
};
const struct command cmd_stats = {
	.name = "stats",
	.usage = "[CONTAINER...]",
	.summary = "Display resource usage of containers",
	FLAGS(stats_flags),
	.run = run_stats,
	.max = -1,
	.comp = "container",
	.example = "  meshctl stats --no-stream",
};

static const struct command *const subs[] = { &cmd_exec, &cmd_inspect, &cmd_kill, &cmd_logs, &cmd_ps,   &cmd_restart,
	                                      &cmd_rm,   &cmd_stats,   &cmd_stop, &cmd_top,  &cmd_wait, NULL };
const struct command cmd_container = {
	.name = "container",
	.summary = "Manage the containers of this node (the same verbs stand at the top)",
	.subs = subs,
};
