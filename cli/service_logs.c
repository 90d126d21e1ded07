/* SPDX-License-Identifier: GPL-2.0-or-later */
/* service logs: the lines of all tasks, each with where it is from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/service.h"
#include "cli/show.h"
#include "cli/units.h"

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
const struct command service_logs_command = {
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
