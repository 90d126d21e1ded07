/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "meshctl trace" and "meshctl drops": packets on their way through the hooks of the cluster's nodes. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/show.h"

/* ---- one line ------------------------------------------------------------------------------------ */

/* "web.1 (10.0.1.5:80)" or the address alone. */
static void put_place(struct buf *b, const char *addr, const char *name)
{
	if (*name && *addr)
		buf_printf(b, "%s (%s)", name, addr);
	else
		buf_puts(b, *name ? name : *addr ? addr : "?");
}

static void put_decision(struct buf *b, const json_t *e)
{
	const char *v = js(e, "Verdict"), *target = js(e, "Target");
	if (!strcmp(v, "drop"))
		buf_printf(b, "DROPPED %s: %s", js(e, "Reason"), js(e, "ReasonText"));
	else if (!strcmp(v, "refuse"))
		buf_printf(b, "REFUSED %s: %s", js(e, "Reason"), js(e, "ReasonText"));
	else if (!strcmp(v, "pass"))
		buf_puts(b, "left to the node's own stack");
	else if (!strcmp(v, "task"))
		buf_printf(b, "into task %s", *target ? target : js(e, "OutDevice"));
	else if (!strcmp(v, "tunnel"))
		buf_printf(b, "through the tunnel to %s%s%s%s%s", js(e, "Peer"), *js(e, "Network") ? ", network " : "",
		           js(e, "Network"), *target ? ", for task " : "", target);
	else if (!strcmp(v, "out"))
		buf_printf(b, "out of %s", js(e, "OutDevice"));
	else if (!strcmp(v, "host"))
		buf_puts(b, "to a client on this node");
	else if (!strcmp(v, "answer"))
		buf_puts(b, "answered here");
	else
		buf_printf(b, "connects to task %s", target);
	if (*js(e, "NewFrom") || *js(e, "NewTo"))
		buf_printf(b, ", as %s > %s", *js(e, "NewFrom") ? js(e, "NewFrom") : js(e, "From"),
		           *js(e, "NewTo") ? js(e, "NewTo") : js(e, "To"));
}

static bool is_lost(const json_t *line)
{
	return !strcmp(js(line, "Event.Verdict"), "lost");
}

static void put_lost(struct buf *b, const json_t *line)
{
	const char *time = strchr(js(line, "Event.Time"), 'T');
	buf_printf(b, "%-15.15s  %-10s %lld events lost: %s\n", time ? time + 1 : "", js(line, "Hostname"),
	           (long long)ji(line, "Event.Lost"), js(line, "Event.ReasonText"));
}

static void put_event(struct buf *b, const json_t *line)
{
	const json_t *e = jo(line, "Event"), *n;
	const char *time = strchr(js(e, "Time"), 'T'), *hook = js(e, "Hook");
	size_t i;
	buf_printf(b, "%-15.15s  %-10s %-7s", time ? time + 1 : "", js(line, "Hostname"), hook);
	if (!strcmp(hook, "tunnel") && *js(e, "Peer") && strcmp(js(e, "Verdict"), "tunnel") != 0)
		buf_printf(b, " from %s", js(e, "Peer"));
	buf_printf(b, " %s ", js(e, "Protocol"));
	put_place(b, js(e, "From"), js(e, "FromName"));
	buf_puts(b, " > ");
	put_place(b, js(e, "To"), js(e, "ToName"));
	if (*js(e, "Flags"))
		buf_printf(b, " %s", js(e, "Flags"));
	if (ji(e, "Length"))
		buf_printf(b, " %lld bytes", (long long)ji(e, "Length"));
	buf_puts(b, "\n                      ");
	put_decision(b, e);
	json_array_foreach(jo(e, "Notes"), i, n) buf_printf(b, "%s%s", i ? ", " : " [", json_string_value(n));
	if (json_array_size(jo(e, "Notes")))
		buf_puts(b, "]");
	buf_puts(b, "\n");
}

static int print_line(struct cli *c, const json_t *line, struct mesh_err *err)
{
	const char *format = flag_str(c, "format");
	struct buf b = { 0 };
	int rc = 0;
	if (!strcmp(format, "json")) {
		CLEAN_FREE char *text = json_line(line);
		buf_printf(&b, "%s\n", text);
	} else if (*format && strcmp(format, "table") != 0) {
		rc = template_run(format, line, false, &b, err);
		buf_puts(&b, "\n");
	} else if (is_lost(line)) {
		put_lost(&b, line);
	} else {
		put_event(&b, line);
	}
	if (!rc)
		fwrite(b.data, 1, b.len, stdout);
	fflush(stdout);
	buf_fini(&b);
	return rc;
}

/* ---- the stream ---------------------------------------------------------------------------------- */

struct tracing {
	struct cli *c;
	int64_t left; /* packets to print, 0 = no end */
	bool json;    /* everything as it came */
	size_t watching, silent;
};

/* 1: enough. */
static int on_line(struct tracing *t, const json_t *line, struct mesh_err *err)
{
	if (*js(line, "Error")) {
		fprintf(stderr, "node %s: %s\n", js(line, "Hostname"), js(line, "Error"));
		t->silent++;
		return 0;
	}
	if (jb(line, "Watching")) {
		t->watching++;
		fprintf(stderr, "watching on %s\n", js(line, "Hostname"));
		return 0;
	}
	int rc = print_line(t->c, line, err);
	return rc ? rc : t->left && !is_lost(line) && !--t->left;
}

static int on_bytes(struct tracing *t, struct buf *in, struct mesh_err *err)
{
	size_t done = 0;
	int rc = 0;
	for (uint8_t *end; !rc && (end = memchr(in->data + done, '\n', in->len - done));) {
		JSON_CLEAN line = json_loadb((char *)in->data + done, (size_t)(end - in->data) - done, 0, NULL);
		done = (size_t)(end - in->data) + 1;
		rc = line ? on_line(t, line, err)
		          : mesh_fail(err, MESH_E_PROTOCOL, "the daemon sent a line that is no JSON");
	}
	buf_consume(in, done);
	return rc;
}

static int follow(struct cli *c, const char *path, int64_t count, struct mesh_err *err)
{
	struct http_request req = { .method = "GET", .path = path };
	struct tracing t = { .c = c, .left = count };
	struct buf in = { 0 };
	int rc = api_stream(c, &req, err);
	while (rc >= 0) {
		rc = http_read(c->http, &in, err);
		if (rc <= 0)
			break;
		if (in.len)
			rc = on_bytes(&t, &in, err);
		if (rc == 1)
			break; /* on_bytes: enough */
		if (rc < 0)
			break;
		rc = 1;
	}
	buf_fini(&in);
	return rc < 0 ? rc : 0;
}

static void put_query(struct buf *b, const char *key, const char *value)
{
	if (!*value)
		return;
	buf_printf(b, "%s%s=", strchr(buf_str(b), '?') ? "&" : "?", key);
	url_escape(b, value);
}

static int run_trace(struct cli *c, struct mesh_err *err)
{
	struct buf path = { 0 };
	buf_puts(&path, "/_mesh/trace");
	put_query(&path, "from", flag_str(c, "from"));
	put_query(&path, "to", flag_str(c, "to"));
	put_query(&path, "protocol", flag_str(c, "protocol"));
	put_query(&path, "drops", flag_bool(c, "drops") ? "1" : "");
	int rc = follow(c, buf_str(&path), flag_int(c, "count"), err);
	buf_fini(&path);
	return rc;
}

static const struct flag trace_flags[] = {
	{ "from", 0, F_STR, "PLACE", NULL, "One side: an address, node, service or task, with :PORT or without",
	  "service" },
	{ "to", 0, F_STR, "PLACE", NULL, "The other side, as in --from", "service" },
	{ "protocol", 'p', F_STR, NULL, NULL, "Only tcp, or only udp", "tcp udp" },
	{ "drops", 0, F_BOOL, NULL, NULL, "Dropped packets of everybody; alone, nothing else" },
	{ "count", 'c', F_UINT, NULL, "0", "Stop after so many packets (0: when interrupted)" },
	{ "format", 0, F_STR, NULL, NULL, "'json' or a Go template of one packet" },
};
const struct command cmd_trace = {
	.name = "trace",
	.usage = "[OPTIONS]",
	.summary = "Show packets on their way through the hooks of every node",
	.more = "Each line is one packet at one hook of one node, with what was decided there: where it went, for "
		"which task,\n"
		"what was rewritten, or why it was dropped. Both directions are shown, merged over the nodes by their "
		"clocks.\n"
		"\n"
		"Hooks: uplink (from the node's own links), host (from the node itself), tunnel (from other nodes), "
		"task (from a\n"
		"task), socket (a task connects to a service's address: translated once, there). A packet that no hook "
		"sees\n"
		"again went on by itself. Without --from and --to every packet at every hook is shown: on a busy "
		"cluster\n"
		"name at least one side.\n"
		"\n"
		"PLACE is an address, a node's or service's name, or a task's (web.1), each with :PORT or without. A "
		"service\n"
		"means its addresses, its published ports on every node, and the tasks it has when the trace begins.\n"
		"Where more pass than can be shown, a line says how many events were lost and where (JSON: verdict "
		"\"lost\",\n"
		"\"Lost\").\n"
		"While nobody traces this costs nothing. Ask a manager; nodes with the nft driver cannot show packets.",
	.example = "  meshctl trace --to web\n"
		   "  meshctl trace --from 192.0.2.7 --to n1:8080 -p tcp -c 10\n"
		   "  meshctl trace --from api.1 --to db\n"
		   "  meshctl trace --drops --format '{{.Hostname}} {{.Event.Reason}} {{.Event.From}} {{.Event.To}}'",
	FLAGS(trace_flags),
	.run = run_trace,
};

/* ---- drops --------------------------------------------------------------------------------------- */

static const struct column drop_columns[] = {
	{ "Node", "NODE" }, { "Reason", "REASON" }, { "Packets", "PACKETS" }, { "Text", "MEANS" }
};
static const struct list_view drop_view = { drop_columns, ARRAY_SIZE(drop_columns),
	                                    "table {{.Node}}\t{{.Reason}}\t{{.Packets}}\t{{.Text}}", "Reason" };

static int print_drops(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN stats = NULL;
	JSON_CLEAN rows = json_array();
	const json_t *n, *d;
	size_t i, k;
	int rc = api_get(c, &stats, err, "/_mesh/stats");
	if (rc < 0)
		return rc;
	json_array_foreach(jo(stats, "Nodes"), i, n)
	{
		if (*js(n, "Error"))
			fprintf(stderr, "node %s: %s\n", js(n, "Hostname"), js(n, "Error"));
		json_array_foreach(jo(n, "Stats.Drops"), k, d)
		{
			char count[24];
			if (!ji(d, "Count") && !flag_bool(c, "all"))
				continue;
			snprintf(count, sizeof(count), "%lld", (long long)ji(d, "Count"));
			json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s}", "Node", js(n, "Hostname"), "Reason",
			                                      js(d, "ID"), "Packets", count, "Text", js(d, "Text")));
		}
	}
	return list_print(&drop_view, rows, flag_str(c, "format"), false, err);
}

static int run_drops(struct cli *c, struct mesh_err *err)
{
	return flag_bool(c, "follow") ? follow(c, "/_mesh/trace?drops=1", 0, err) : print_drops(c, err);
}

static const struct flag drops_flags[] = {
	{ "follow", 'f', F_BOOL, NULL, NULL, "Show each packet that is dropped from now on" },
	{ "all", 'a', F_BOOL, NULL, NULL, "Reasons that never happened too" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
};
const struct command cmd_drops = {
	.name = "drops",
	.usage = "[OPTIONS]",
	.summary = "Show what the nodes dropped, and why",
	.more = "Packets since the programs were loaded, by node and reason; with -f each one as it is dropped (as\n"
		"\"meshctl trace --drops\").",
	.example = "  meshctl drops\n  meshctl drops -f",
	FLAGS(drops_flags),
	.run = run_drops,
};
