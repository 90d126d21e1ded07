/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stacks as they run: ls, ps, services, logs, rm. Deploying is in stack_deploy.c. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/map.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/compose/compose.h"
#include "cli/stack.h"

#define POLL_MS 150

void pause_ms(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

int64_t mono_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int stack_name_check(const char *name, struct mesh_err *err)
{
	if (!*name || strpbrk(name, " \t\r\n'\"") || strlen(name) > 50)
		return mesh_fail(err, MESH_E_INVALID, "invalid stack name: \"%.80s\"", name);
	return 0;
}

int stack_objects(struct cli *c, const char *kind, const char *stack, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *label = xasprintf(STACK_LABEL "=%s", stack);
	CLEAN_FREE char *filters = api_filter1("label", label);
	int rc = api_get(c, out, err, "/%s?filters=%s", kind, filters);

	if (!rc && *out)
		sort_rows(*out, strcmp(kind, "networks") ? "Spec.Name" : "Name");
	return rc;
}

/* ---- ls ------------------------------------------------------------------------------------------ */

static const struct column ls_columns[] = { { "Name", "NAME" }, { "Services", "SERVICES" } };
static const struct list_view ls_view = { ls_columns, ARRAY_SIZE(ls_columns), "table {{.Name}}\t{{.Services}}",
	                                  "Name" };

static int run_ls(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *filters = api_filter1("label", STACK_LABEL);
	JSON_CLEAN services = NULL;
	JSON_CLEAN rows = json_array();
	struct map counts = { 0 };
	json_t *s;
	size_t i;
	int rc = api_get(c, &services, err, "/services?filters=%s", filters);

	if (rc < 0)
		return rc;
	json_array_foreach(services, i, s)
	{
		const char *stack = json_string_value(json_object_get(jo(s, "Spec.Labels"), STACK_LABEL));
		if (stack)
			map_put(&counts, stack, (char *)map_get(&counts, stack) + 1);
	}
	MAP_FOREACH(&counts, e) {
		char n[24];
		snprintf(n, sizeof(n), "%zu", (size_t)e->value);
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s}", "Name", e->key, "Services", n,
		                                      "Orchestrator", "Swarm", "Namespace", ""));
	}
	map_fini(&counts);
	sort_rows(rows, "Name");
	return list_print(&ls_view, rows, flag_str(c, "format"), false, err);
}

/* ---- ps, services -------------------------------------------------------------------------------- */

static void stack_filters(struct cli *c, const char *stack, struct str_list *out)
{
	CLEAN_FREE char *own = xasprintf("label=" STACK_LABEL "=%s", stack);

	for (size_t i = 0; i < flag_list(c, "filter")->n; i++)
		strs_add(out, flag_list(c, "filter")->v[i]);
	strs_add(out, own);
}

static int run_ps(struct cli *c, struct mesh_err *err)
{
	struct str_list filters = { 0 };
	JSON_CLEAN tasks = NULL;
	int rc = stack_name_check(c->args[0], err);

	if (rc < 0)
		return rc;
	stack_filters(c, c->args[0], &filters);
	CLEAN_FREE char *query = api_filters(&filters, err);
	strs_clear(&filters);
	if (!query)
		return MESH_E_USAGE;
	rc = api_get(c, &tasks, err, "/tasks?%s", query);
	if (rc < 0)
		return rc;
	if (!json_array_size(tasks))
		return mesh_fail(err, MESH_E_NOT_FOUND, "nothing found in stack: %s", c->args[0]);
	return tasks_print(c, tasks, err);
}

/* Runs another command as if it had been typed. */
static int run_as(struct cli *c, int argc, const char **argv, struct mesh_err *err)
{
	struct cli other = { .host = xstrdup(c->host), .http = c->http, .api_minor = c->api_minor, .debug = c->debug };
	bool help;
	int rc = args_parse(&other, argc, (char **)argv, &help, err);

	if (!rc)
		rc = other.cmd->run(&other, err);
	args_clear(&other);
	free(other.host);
	c->http = other.http;
	c->api_minor = other.api_minor;
	return rc;
}

static int run_services(struct cli *c, struct mesh_err *err)
{
	struct str_list filters = { 0 };
	struct str_list words = { 0 };
	JSON_CLEAN services = NULL;
	int rc = stack_name_check(c->args[0], err);

	if (!rc)
		rc = stack_objects(c, "services", c->args[0], &services, err);
	if (rc < 0)
		return rc;
	if (!json_array_size(services)) {
		fprintf(stderr, "Nothing found in stack: %s\n", c->args[0]);
		return 0;
	}
	stack_filters(c, c->args[0], &filters);
	strs_add(&words, "meshctl");
	strs_add(&words, "service");
	strs_add(&words, "ls");
	for (size_t i = 0; i < filters.n; i++) {
		strs_add(&words, "--filter");
		strs_add(&words, filters.v[i]);
	}
	if (flag_given(c, "format")) {
		strs_add(&words, "--format");
		strs_add(&words, flag_str(c, "format"));
	}
	if (flag_bool(c, "quiet"))
		strs_add(&words, "-q");
	rc = run_as(c, (int)words.n, (const char **)words.v, err);
	strs_clear(&filters);
	strs_clear(&words);
	return rc;
}

/* ---- logs: one process for each service, their lines brought together ------------------------------ */

struct source {
	pid_t pid;
	int fd;
	struct buf pending;
};
struct sources {
	struct VEC(struct source) all;
	struct str_list lines; /* not following: all of them, to be sorted by time */
	bool follow, timestamps;
};

static int log_child(struct cli *c, const char *id, int fd)
{
	const char *argv[16] = { "meshctl", "service", "logs", "--timestamps" };
	struct mesh_err err = { 0 };
	CLEAN_FREE char *since = xasprintf("--since=%s", flag_str(c, "since"));
	CLEAN_FREE char *tail = xasprintf("--tail=%s", flag_str(c, "tail"));
	int n = 4;

	if (flag_bool(c, "follow"))
		argv[n++] = "--follow";
	if (flag_given(c, "since"))
		argv[n++] = since;
	if (flag_bool(c, "no-trunc"))
		argv[n++] = "--no-trunc";
	if (flag_bool(c, "no-task-ids"))
		argv[n++] = "--no-task-ids";
	if (flag_bool(c, "no-resolve"))
		argv[n++] = "--no-resolve";
	argv[n++] = tail;
	argv[n++] = id;
	dup2(fd, 1);
	c->http = NULL; /* a connection of its own */
	int rc = run_as(c, n, argv, &err);
	if (rc < 0)
		fprintf(stderr, "%s\n", mesh_err_text(&err, rc));
	fflush(stdout);
	return rc ? 1 : 0;
}

static int log_spawn(struct cli *c, struct sources *s, const char *id, struct mesh_err *err)
{
	int ends[2];
	struct source one = { 0 };

	if (pipe2(ends, O_CLOEXEC) < 0)
		return mesh_fail(err, -errno, "pipe");
	fflush(stdout);
	one.fd = ends[0];
	one.pid = fork();
	if (!one.pid)
		_exit(log_child(c, id, ends[1]));
	close(ends[1]);
	if (one.pid < 0) {
		close(ends[0]);
		return mesh_fail(err, -errno, "fork");
	}
	vec_push(&s->all, one);
	return 0;
}

static void log_line(struct sources *s, const char *line)
{
	const char *text = line;

	if (!s->follow) {
		strs_add(&s->lines, line);
		return;
	}
	if (!s->timestamps)
		text += strcspn(text, " ") + (text[strcspn(text, " ")] == ' ');
	printf("%s\n", text);
	fflush(stdout);
}

static void log_split(struct sources *s, struct source *one)
{
	uint8_t *nl;

	while (one->pending.len && (nl = memchr(one->pending.data, '\n', one->pending.len))) {
		size_t n = (size_t)(nl - one->pending.data);
		CLEAN_FREE char *line = xstrndup((char *)one->pending.data, n);
		buf_consume(&one->pending, n + 1);
		log_line(s, line);
	}
}

static bool log_read(struct sources *s, struct source *one)
{
	ssize_t n = read(one->fd, buf_reserve(&one->pending, 65536), 65536);

	if (n > 0) {
		one->pending.len += (size_t)n;
		log_split(s, one);
		return true;
	}
	if (n < 0 && errno == EINTR)
		return true;
	close(one->fd);
	one->fd = -1;
	return false;
}

static void log_collect(struct sources *s)
{
	size_t open = s->all.len;
	struct pollfd *fds = xcalloc(s->all.len + 1, sizeof(*fds));

	while (open) {
		for (size_t i = 0; i < s->all.len; i++)
			fds[i] = (struct pollfd){ .fd = s->all.data[i].fd, .events = POLLIN };
		if (poll(fds, s->all.len, -1) < 0 && errno != EINTR)
			break;
		for (size_t i = 0; i < s->all.len; i++)
			if (fds[i].fd >= 0 && fds[i].revents)
				open -= !log_read(s, &s->all.data[i]);
	}
	free(fds);
}

static int cmp_line(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int log_finish(struct sources *s)
{
	int status, worst = 0;

	if (s->lines.n)
		qsort(s->lines.v, s->lines.n, sizeof(*s->lines.v), cmp_line);
	s->follow = true; /* from here on a line is printed */
	for (size_t i = 0; i < s->lines.n; i++)
		log_line(s, s->lines.v[i]);
	for (size_t i = 0; i < s->all.len; i++) {
		if (s->all.data[i].fd >= 0)
			close(s->all.data[i].fd);
		while (waitpid(s->all.data[i].pid, &status, 0) < 0 && errno == EINTR)
			;
		worst |= WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		buf_fini(&s->all.data[i].pending);
	}
	strs_clear(&s->lines);
	vec_fini(&s->all);
	return worst;
}

static int run_logs(struct cli *c, struct mesh_err *err)
{
	struct sources s = { .follow = flag_bool(c, "follow"), .timestamps = flag_bool(c, "timestamps") };
	JSON_CLEAN services = NULL;
	json_t *one;
	size_t i;
	int rc = stack_name_check(c->args[0], err);

	if (!rc)
		rc = stack_objects(c, "services", c->args[0], &services, err);
	if (rc < 0)
		return rc;
	if (!json_array_size(services))
		return mesh_fail(err, MESH_E_NOT_FOUND, "nothing found in stack: %s", c->args[0]);
	json_array_foreach(services, i, one)
	{
		if (!rc)
			rc = log_spawn(c, &s, js(one, "ID"), err);
	}
	log_collect(&s);
	int worst = log_finish(&s);
	return rc < 0 ? rc : worst;
}

/* ---- rm ------------------------------------------------------------------------------------------ */

int stack_remove(struct cli *c, const char *kind, const char *noun, json_t *objects)
{
	int failed = 0;
	json_t *o;
	size_t i;

	json_array_foreach(objects, i, o)
	{
		struct mesh_err why = { 0 };
		bool net = !strcmp(kind, "networks");
		const char *id = js(o, net ? "Id" : "ID"), *name = js(o, net ? "Name" : "Spec.Name");
		printf("Removing %s %s\n", noun, name);
		fflush(stdout);
		int rc = api_delete(c, NULL, &why, "/%s/%s", kind, id);
		if (rc < 0 && rc != MESH_E_NOT_FOUND) {
			fprintf(stderr, "failed to remove %s %s: %s\n", noun, name, why.msg);
			failed++;
		}
	}
	return failed;
}

static bool ended(const char *state)
{
	static const char *const states[] = { "complete", "shutdown", "failed", "rejected", "remove", "orphaned" };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (!strcmp(state, states[i]))
			return true;
	return false;
}

/* The services' tasks, not yet ended; the label is that of the service, so it is asked by id. */
static int tasks_left(struct cli *c, const json_t *ids, size_t *left, struct mesh_err *err)
{
	JSON_CLEAN tasks = NULL;
	json_t *t;
	size_t i;
	int rc = api_get(c, &tasks, err, "/tasks");

	*left = 0;
	if (rc < 0)
		return rc;
	json_array_foreach(tasks, i, t)
	{
		*left += json_object_get(ids, js(t, "ServiceID")) && !ended(js(t, "Status.State"));
	}
	return 0;
}

static int wait_tasks(struct cli *c, json_t *services, int64_t deadline, struct mesh_err *err)
{
	JSON_CLEAN ids = json_object();
	size_t i, left = 1;
	json_t *s;

	json_array_foreach(services, i, s)
	{
		json_object_set_new(ids, js(s, "ID"), json_true());
	}
	while (left) {
		int rc = tasks_left(c, ids, &left, err);
		if (rc < 0)
			return rc;
		if (left && mono_ms() > deadline)
			return mesh_fail(err, MESH_E_TIMEOUT,
			                 "%zu task%s still running after the services were removed", left,
			                 left == 1 ? " is" : "s are");
		if (left)
			pause_ms(POLL_MS);
	}
	return 0;
}

/* A network can be removed once the last task has left it, on every node. */
static int remove_networks(struct cli *c, json_t *nets, int64_t deadline)
{
	int failed = 0;
	json_t *n;
	size_t i;

	json_array_foreach(nets, i, n)
	{
		struct mesh_err why = { 0 };
		int rc;
		printf("Removing network %s\n", js(n, "Name"));
		fflush(stdout);
		while ((rc = api_delete(c, NULL, &why, "/networks/%s", js(n, "Id"))) < 0 && rc != MESH_E_NOT_FOUND &&
		       mono_ms() < deadline)
			pause_ms(POLL_MS);
		if (rc < 0 && rc != MESH_E_NOT_FOUND) {
			fprintf(stderr, "failed to remove network %s: %s\n", js(n, "Name"), why.msg);
			failed++;
		}
	}
	return failed;
}

static int rm_one(struct cli *c, const char *stack, struct mesh_err *err)
{
	JSON_CLEAN services = NULL;
	JSON_CLEAN secrets = NULL;
	JSON_CLEAN configs = NULL;
	JSON_CLEAN nets = NULL;
	bool detach = flag_bool(c, "detach");
	int64_t deadline = mono_ms() + flag_int(c, "wait-timeout") / 1000000;
	int failed = 0, rc = stack_objects(c, "services", stack, &services, err);

	if (!rc)
		rc = stack_objects(c, "secrets", stack, &secrets, err);
	if (!rc)
		rc = stack_objects(c, "configs", stack, &configs, err);
	if (!rc)
		rc = stack_objects(c, "networks", stack, &nets, err);
	if (rc < 0)
		return rc;
	if (!json_array_size(services) && !json_array_size(secrets) && !json_array_size(configs) &&
	    !json_array_size(nets)) {
		fprintf(stderr, "Nothing found in stack: %s\n", stack);
		return 0;
	}
	failed = stack_remove(c, "services", "service", services);
	if (!detach && !failed)
		rc = wait_tasks(c, services, deadline, err);
	failed += stack_remove(c, "secrets", "secret", secrets);
	failed += stack_remove(c, "configs", "config", configs);
	failed += remove_networks(c, nets, detach ? 0 : deadline);
	if (rc < 0)
		return rc;
	return failed ? mesh_fail(err, MESH_E_RUNTIME, "failed to remove some resources from stack: %s", stack) : 0;
}

static int run_rm(struct cli *c, struct mesh_err *err)
{
	int status = 0;

	for (int i = 0; i < c->nargs; i++) {
		int rc = stack_name_check(c->args[i], err);
		if (rc < 0)
			return rc;
	}
	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		if (rm_one(c, c->args[i], &why) < 0) {
			fprintf(stderr, "%s\n", why.msg);
			status = 1;
		}
	}
	return status;
}

/* ---- tables -------------------------------------------------------------------------------------- */

static const struct flag ls_flags[] = { FORMAT_LIST_FLAG };

static const struct flag ps_flags[] = {
	FILTER_FLAG("desired-state=running"),
	FORMAT_LIST_FLAG,
	{ "no-resolve", 0, F_BOOL, NULL, NULL, "Do not map IDs to Names" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display task IDs" },
};

static const struct flag services_flags[] = { FILTER_FLAG("mode=global"), FORMAT_LIST_FLAG, QUIET_IDS_FLAG };

static const struct flag logs_flags[] = {
	{ "follow", 'f', F_BOOL, NULL, NULL, "Follow log output" },
	{ "no-resolve", 0, F_BOOL, NULL, NULL, "Do not map IDs to Names in output" },
	{ "no-task-ids", 0, F_BOOL, NULL, NULL, "Do not include task IDs in output" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate output" },
	{ "since", 0, F_STR, NULL, NULL, "Show logs since a time, or \"42m\" for 42 minutes" },
	{ "tail", 'n', F_STR, NULL, "all", "Number of lines to show from the end of each task's logs" },
	{ "timestamps", 't', F_BOOL, NULL, NULL, "Show timestamps" },
};

static const struct flag rm_flags[] = {
	{ "detach", 'd', F_BOOL, NULL, NULL, "Do not wait until the tasks have ended" },
	{ "wait-timeout", 0, F_DURATION, NULL, "2m", "How long to wait for that" },
};

static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List stacks",
	FLAGS(ls_flags),
	.run = run_ls,
	.example = "  meshctl stack ls",
};
static const struct command sub_ps = {
	.name = "ps",
	.usage = "STACK",
	.summary = "List the tasks in the stack",
	FLAGS(ps_flags),
	.run = run_ps,
	.min = 1,
	.max = 1,
	.comp = "stack",
	.example = "  meshctl stack ps --filter desired-state=running shop",
};
static const struct command sub_services = {
	.name = "services",
	.usage = "STACK",
	.summary = "List the services in the stack",
	FLAGS(services_flags),
	.run = run_services,
	.min = 1,
	.max = 1,
	.comp = "stack",
	.example = "  meshctl stack services shop",
};
static const struct command sub_logs = {
	.name = "logs",
	.usage = "STACK",
	.summary = "Fetch the logs of all services in the stack, in the order of time",
	FLAGS(logs_flags),
	.run = run_logs,
	.min = 1,
	.max = 1,
	.comp = "stack",
	.example = "  meshctl stack logs -f --tail 10 shop",
};
static const struct command sub_rm = {
	.name = "rm",
	.alias = "down",
	.usage = "STACK [STACK...]",
	.summary = "Remove one or more stacks, and wait until they are gone",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "stack",
	.example = "  meshctl stack rm shop",
};

static const struct command *const subs[] = {
	&stack_config_command, &stack_deploy_command, &sub_logs, &sub_ls, &sub_ps, &sub_rm, &sub_services, NULL
};
const struct command cmd_stack = {
	.name = "stack",
	.summary = "Manage stacks of services that compose files describe",
	.subs = subs,
};
