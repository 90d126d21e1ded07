/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/top.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/api.h"
#include "cli/format.h"
#include "cli/units.h"

const struct flag top_flags[TOP_FLAG_COUNT] = {
	{ "no-stream", 0, F_BOOL, NULL, NULL, "Print once, measured over one interval" },
	{ "interval", 0, F_DURATION, NULL, "1s", "Time to measure over", NULL },
	{ "services", 0, F_BOOL, NULL, NULL, "Only whole services, not each of their tasks" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
};

static const struct column columns[] = {
	{ "Kind", "KIND" },          { "Service", "SERVICE" },    { "Network", "NETWORK" },
	{ "Task", "TASK" },          { "Node", "NODE" },          { "State", "STATE" },
	{ "Connections", "CONN/S" }, { "PacketsIn", "PKT/S IN" }, { "PacketsOut", "PKT/S OUT" },
	{ "BytesIn", "B/S IN" },     { "BytesOut", "B/S OUT" },   { "Resets", "RESET/S" },
	{ "Errors", "ERROR/S" },     { "Connect", "CONNECT" },    { "Reason", "REASON" },
	{ "Drops", "DROP/S" },
};
static const struct list_view view = {
	columns, ARRAY_SIZE(columns),
	"table {{.Service}}\t{{.Network}}\t{{.Task}}\t{{.Node}}\t{{.Connections}}\t{{.PacketsIn}}\t{{.PacketsOut}}\t"
	"{{.BytesIn}}\t{{.BytesOut}}\t{{.Resets}}\t{{.Errors}}\t{{.Connect}}",
	"Task"
};
static const struct list_view drops_view = { columns, ARRAY_SIZE(columns), "table {{.Reason}}\t{{.Node}}\t{{.Drops}}",
	                                     "Reason" };

enum figure { CONNS, PKT_IN, PKT_OUT, B_IN, B_OUT, RESETS, ERRORS, OPENED, OPEN_NS, FIGURES };
static const char *const sources[FIGURES][2] = {
	[CONNS] = { "Connections" },
	[PKT_IN] = { "PacketsIn", "NetworkPacketsIn" },
	[PKT_OUT] = { "PacketsOut", "NetworkPacketsOut" },
	[B_IN] = { "BytesIn", "NetworkBytesIn" },
	[B_OUT] = { "BytesOut", "NetworkBytesOut" },
	[RESETS] = { "ResetsByTask", "ResetsByPeer" },
	[ERRORS] = { "Failed" },
	[OPENED] = { "Opened" },
	[OPEN_NS] = { "OpenNanoseconds" },
};

/* What happened in one place between two looks. */
struct traffic {
	double v[FIGURES];
};

static double grown(int64_t was, int64_t is)
{
	return is >= was ? (double)(is - was) : (double)is;
}

static json_t *named(const json_t *list, const char *a, const char *va, const char *b, const char *vb)
{
	json_t *o;
	size_t i;
	json_array_foreach(list, i, o) if (streq(js(o, a), va) && (!b || streq(js(o, b), vb))) return o;
	return NULL;
}

static double seconds(const json_t *before, const json_t *after)
{
	int64_t a = 0, b = 0;
	if (parse_time(js(before, "Stats.Time"), &a) || parse_time(js(after, "Stats.Time"), &b) || b <= a)
		return 0;
	return (double)(b - a) / 1e9;
}

static void add(struct traffic *t, const json_t *was, const json_t *is, double s)
{
	for (int f = 0; f < FIGURES; f++)
		for (int k = 0; k < 2 && sources[f][k]; k++)
			t->v[f] += grown(ji(was, sources[f][k]), ji(is, sources[f][k])) / s;
}

static void set_rate(json_t *row, const char *key, double v)
{
	char text[32];
	if (strncmp(key, "Bytes", 5) == 0)
		format_size(v, 3, text, sizeof(text));
	else
		snprintf(text, sizeof(text), v > 0 && v < 9.95 ? "%.1f" : "%.0f", v);
	json_object_set_new(row, key, json_string(text));
}

static void set_traffic(json_t *row, const struct traffic *t)
{
	static const char *const keys[] = { "Connections", "PacketsIn", "PacketsOut", "BytesIn",
		                            "BytesOut",    "Resets",    "Errors" };
	char text[32] = "";
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		set_rate(row, keys[i], t->v[CONNS + (int)i]);
	if (t->v[OPENED] > 0)
		snprintf(text, sizeof(text), "%.1fms", t->v[OPEN_NS] / t->v[OPENED] / 1e6);
	json_object_set_new(row, "Connect", json_string(text));
}

static json_t *row_new(json_t *rows, const char *kind)
{
	json_t *row = json_object();
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		json_object_set_new(row, columns[i].field, json_string(""));
	json_object_set_new(row, "Kind", json_string(kind));
	json_array_append_new(rows, row);
	return row;
}

/* "web.1" of "web.1.<task id>". */
static char *task_name(const json_t *b)
{
	const char *name = js(b, "Task"), *id = js(b, "TaskID"), *at = *id ? strstr(name, id) : NULL;
	return at > name + 1 ? xstrndup(name, (size_t)(at - name - 1)) : xstrdup(name);
}

struct look {
	const json_t *before, *after; /* arrays of nodes */
	const char *service, *network;
};

/* The task's figures of all nodes; its place in the answer of each may differ. */
static struct traffic task_traffic(const struct look *l, const char *task)
{
	struct traffic t = { 0 };
	const json_t *n;
	size_t i;
	json_array_foreach(l->after, i, n)
	{
		const json_t *was = named(l->before, "ID", js(n, "ID"), NULL, NULL);
		double s = seconds(was, n);
		const json_t *sv = named(jo(n, "Stats.Services"), "Name", l->service, "Network", l->network);
		const json_t *sv_was = named(jo(was, "Stats.Services"), "Name", l->service, "Network", l->network);
		const json_t *b = named(jo(sv, "Backends"), "TaskID", task, NULL, NULL);
		if (s > 0 && b)
			add(&t, named(jo(sv_was, "Backends"), "TaskID", task, NULL, NULL), b, s);
	}
	return t;
}

static double refusals(const struct look *l)
{
	const json_t *n;
	double v = 0;
	size_t i;
	json_array_foreach(l->after, i, n)
	{
		const json_t *was = named(l->before, "ID", js(n, "ID"), NULL, NULL);
		double s = seconds(was, n);
		if (s > 0)
			v += grown(ji(named(jo(was, "Stats.Services"), "Name", l->service, "Network", l->network),
			              "Refused"),
			           ji(named(jo(n, "Stats.Services"), "Name", l->service, "Network", l->network),
			              "Refused")) /
			     s;
	}
	return v;
}

static void place(json_t *row, const struct look *l)
{
	json_object_set_new(row, "Service", json_string(l->service));
	json_object_set_new(row, "Network", json_string(l->network));
}

/* backends: every task of the service that some node knows, once. */
static void service_rows(json_t *rows, const struct look *l, const json_t *backends, bool services_only)
{
	struct traffic sum = { 0 };
	json_t *head = row_new(rows, "service");
	const json_t *b;
	size_t i;
	place(head, l);
	json_array_foreach(backends, i, b)
	{
		struct traffic t = task_traffic(l, js(b, "TaskID"));
		for (int f = 0; f < FIGURES; f++)
			sum.v[f] += t.v[f];
		if (services_only)
			continue;
		json_t *row = row_new(rows, "task");
		CLEAN_FREE char *name = task_name(b);
		place(row, l);
		json_object_set_new(row, "Task", json_string(name));
		json_object_set_new(row, "State", json_string(js(b, "State")));
		json_object_set_new(row, "Node",
		                    json_string(js(named(l->after, "ID", js(b, "NodeID"), NULL, NULL), "Hostname")));
		set_traffic(row, &t);
	}
	sum.v[ERRORS] += refusals(l);
	set_traffic(head, &sum);
}

static void add_new(json_t *to, const json_t *from, const char *a, const char *b)
{
	json_t *o;
	size_t i;
	json_array_foreach(from, i, o) if (!named(to, a, js(o, a), b, b ? js(o, b) : NULL)) json_array_append(to, o);
}

static json_t *backends_of(const json_t *nodes, const char *service, const char *network)
{
	json_t *all = json_array();
	const json_t *n;
	size_t i;
	json_array_foreach(nodes, i, n)
		add_new(all, jo(named(jo(n, "Stats.Services"), "Name", service, "Network", network), "Backends"),
	                "TaskID", NULL);
	return all;
}

static void drop_rows(json_t *rows, const json_t *before, const json_t *after)
{
	const json_t *n, *d;
	size_t i, k;
	json_array_foreach(after, i, n)
	{
		const json_t *was = named(before, "ID", js(n, "ID"), NULL, NULL);
		double s = seconds(was, n);
		if (s <= 0)
			continue;
		json_array_foreach(jo(n, "Stats.Drops"), k, d)
		{
			double v = grown(ji(named(jo(was, "Stats.Drops"), "ID", js(d, "ID"), NULL, NULL), "Count"),
			                 ji(d, "Count"));
			if (v <= 0)
				continue;
			json_t *row = row_new(rows, "drop");
			json_object_set_new(row, "Reason", json_string(js(d, "ID")));
			json_object_set_new(row, "Node", json_string(js(n, "Hostname")));
			set_rate(row, "Drops", v / s);
		}
	}
}

static int by_name(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int c = strcmp(js(x, "Name"), js(y, "Name"));
	return c ? c : strcmp(js(x, "Network"), js(y, "Network"));
}

json_t *top_rows(const json_t *before, const json_t *after, bool services_only)
{
	const json_t *was = jo(before, "Nodes"), *is = jo(after, "Nodes"), *n;
	json_t *rows = json_array(), *services = json_array();
	size_t i;
	json_array_foreach(is, i, n) add_new(services, jo(n, "Stats.Services"), "Name", "Network");
	size_t count = json_array_size(services);
	json_t **sorted = xcalloc(count + 1, sizeof(*sorted));
	for (i = 0; i < count; i++)
		sorted[i] = json_array_get(services, i);
	qsort(sorted, count, sizeof(*sorted), by_name);
	for (i = 0; i < count; i++) {
		struct look l = { was, is, js(sorted[i], "Name"), js(sorted[i], "Network") };
		JSON_CLEAN backends = backends_of(is, l.service, l.network);
		service_rows(rows, &l, backends, services_only);
	}
	drop_rows(rows, was, is);
	free(sorted);
	json_decref(services);
	return rows;
}

/* ---- the screen ---------------------------------------------------------------------------------- */

static void say_silent(const json_t *stats)
{
	const json_t *n;
	size_t i;
	json_array_foreach(jo(stats, "Nodes"), i, n)
	{
		if (*js(n, "Error"))
			fprintf(stderr, "node %s: %s\n", js(n, "Hostname"), js(n, "Error"));
		else if (jo(n, "Stats.Driver") && !jb(n, "Stats.Handshakes"))
			fprintf(stderr,
			        "node %s: the nft driver does not see handshakes: no CONNECT, no failed ones in "
			        "ERROR/S\n",
			        js(n, "Hostname"));
	}
}

static json_t *only(const json_t *rows, bool drops)
{
	json_t *out = json_array(), *r;
	size_t i;
	json_array_foreach(rows, i, r) if (streq(js(r, "Kind"), "drop") == drops) json_array_append(out, r);
	return out;
}

static int print_rows(const json_t *rows, const char *format, struct mesh_err *err)
{
	if (*format && strncmp(format, "table", 5) != 0)
		return list_print(&view, rows, format, false, err);
	JSON_CLEAN traffic = only(rows, false);
	JSON_CLEAN drops = only(rows, true);
	int rc = list_print(&view, traffic, format, false, err);
	if (!rc && json_array_size(drops)) {
		printf("\n");
		rc = list_print(&drops_view, drops, "", false, err);
	}
	return rc;
}

int top_traffic(struct cli *c, struct mesh_err *err)
{
	int64_t ns = flag_int(c, "interval");
	bool once = flag_bool(c, "no-stream");
	JSON_CLEAN before = NULL;
	if (ns < NS_PER_S / 10)
		return mesh_fail(err, MESH_E_USAGE, "--interval: at least 100ms");
	int rc = api_get(c, &before, err, "/_mesh/stats");
	while (rc >= 0) {
		const struct timespec t = { ns / NS_PER_S, ns % NS_PER_S };
		json_t *after = NULL;
		nanosleep(&t, NULL);
		rc = api_get(c, &after, err, "/_mesh/stats");
		if (rc < 0)
			break;
		JSON_CLEAN rows = top_rows(before, after, flag_bool(c, "services"));
		if (!once && isatty(STDOUT_FILENO))
			fputs("\033[H\033[2J", stdout);
		rc = print_rows(rows, flag_str(c, "format"), err);
		say_silent(after);
		fflush(stdout);
		json_decref(before);
		before = after;
		if (once)
			break;
	}
	return rc < 0 ? rc : 0;
}
