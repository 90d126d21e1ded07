/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: "service split": what comes to a service is shared by weight between its tasks and those of others. The
 *       weights are the first service's label mesh.split; one update puts them into force on all nodes.
 */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/service.h"

#define LABEL "mesh.split"

static const char *split_of(const json_t *service)
{
	const char *s = json_string_value(json_object_get(jo(service, "Spec.Labels"), LABEL));

	return s ? s : "";
}

/* Running tasks of a service by its name, or its name within stack; -1 when there is no such service. */
static int tasks_of(struct cli *c, const char *name, const char *stack)
{
	CLEAN_FREE char *full = xasprintf("%s_%s", stack, name);
	const char *names[] = { name, full };

	for (int i = 0; i < (*stack ? 2 : 1); i++) {
		JSON_CLEAN list = NULL;
		json_t *s;
		size_t k;
		CLEAN_FREE char *filter = xasprintf("{\"name\":{\"%s\":true}}", names[i]);
		CLEAN_FREE char *arg = url_dup(filter);
		if (api_get(c, &list, NULL, "/services?status=true&filters=%s", arg) < 0)
			return -1;
		json_array_foreach(list, k, s)
		{
			if (!strcmp(js(s, "Spec.Name"), names[i]))
				return (int)ji(s, "ServiceStatus.RunningTasks");
		}
	}
	return -1;
}

struct share {
	char *name;
	double weight;
};

/* The label's parts; the daemon has checked it. Returns how many; at most max. */
static size_t shares_of(const char *text, struct share *out, size_t max)
{
	size_t n = 0;

	for (const char *p = text + strspn(text, ", "); *p && n < max; p += strspn(p, ", ")) {
		size_t len = strcspn(p, ", "), name = strcspn(p, "=");
		if (name < len)
			out[n++] = (struct share){ xstrndup(p, name), strtod(p + name + 1, NULL) };
		p += len;
	}
	return n;
}

static void print_share(struct cli *c, const struct share *s, double total, const char *stack)
{
	int tasks = tasks_of(c, s->name, stack);

	if (tasks < 0)
		printf(" %-20s %g (no such service: its part goes to the others)\n", s->name, s->weight);
	else
		printf(" %-20s %-6g %5.1f %% over %d task%s\n", s->name, s->weight,
		       100 * s->weight / (total > 0 ? total : 1), tasks, tasks == 1 ? "" : "s");
}

void service_split_print(struct cli *c, const json_t *service)
{
	const char *stack =
		json_string_value(json_object_get(jo(service, "Spec.Labels"), "com.docker.stack.namespace"));
	struct share shares[64];
	size_t n = shares_of(split_of(service), shares, ARRAY_SIZE(shares));
	double total = 0;

	for (size_t i = 0; i < n; i++)
		total += shares[i].weight;
	for (size_t i = 0; i < n; i++) {
		print_share(c, &shares[i], total, stack ? stack : "");
		free(shares[i].name);
	}
}

/* "web=90 web-canary=10" as the label has it; the daemon checks it. Services must exist: a typo would take nothing. */
static int label_of(struct cli *c, char **out, struct mesh_err *err)
{
	struct buf b = { 0 };

	for (int i = 0; i < c->nargs; i++) {
		const char *eq = strchr(c->args[i], '=');
		JSON_CLEAN s = NULL;
		if (!eq || eq == c->args[i]) {
			buf_fini(&b);
			return mesh_fail(err, MESH_E_INVALID, "'%s' is not SERVICE=WEIGHT", c->args[i]);
		}
		CLEAN_FREE char *name = xstrndup(c->args[i], (size_t)(eq - c->args[i]));
		CLEAN_FREE char *arg = url_dup(name);
		int rc = api_get(c, &s, err, "/services/%s", arg);
		if (rc < 0) {
			buf_fini(&b);
			return rc;
		}
		buf_printf(&b, "%s%s%s", i ? "," : "", js(s, "Spec.Name"), eq);
	}
	*out = buf_take_str(&b);
	return 0;
}

/* Sets the label, or removes it when value is NULL. */
static int set_label(struct cli *c, const char *name, const char *value, struct mesh_err *err)
{
	JSON_CLEAN s = NULL;
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_get(c, &s, err, "/services/%s?insertDefaults=false", arg);

	if (rc < 0)
		return rc;
	json_t *spec = jo(s, "Spec"), *labels = json_object_get(spec, "Labels");
	if (!spec)
		return mesh_fail(err, MESH_E_PROTOCOL, "the daemon's answer has no Spec");
	if (!json_is_object(labels)) {
		json_object_set_new(spec, "Labels", json_object());
		labels = json_object_get(spec, "Labels");
	}
	if (value)
		json_object_set_new(labels, LABEL, json_string(value));
	else
		json_object_del(labels, LABEL);
	return api_post(c, spec, &answer, err, "/services/%s/update?registryAuthFrom=spec&version=%lld", js(s, "ID"),
	                (long long)ji(s, "Version.Index"));
}

static int show(struct cli *c, const char *name, struct mesh_err *err)
{
	JSON_CLEAN s = NULL;
	CLEAN_FREE char *arg = url_dup(name);
	int rc = api_get(c, &s, err, "/services/%s", arg);

	if (rc < 0)
		return rc;
	if (!*split_of(s)) {
		printf("%s: no split, its own tasks take all\n", js(s, "Spec.Name"));
		return 0;
	}
	printf("%s:\n", js(s, "Spec.Name"));
	service_split_print(c, s);
	return 0;
}

static int run_split(struct cli *c, struct mesh_err *err)
{
	const char *eq = strchr(c->args[0], '=');
	CLEAN_FREE char *label = NULL;
	int rc;

	if (flag_bool(c, "rm") && (eq || c->nargs > 1))
		return mesh_fail(err, MESH_E_INVALID, "--rm takes the one service whose split shall end");
	if (flag_bool(c, "rm"))
		return set_label(c, c->args[0], NULL, err);
	if (!eq && c->nargs == 1)
		return show(c, c->args[0], err);
	rc = label_of(c, &label, err);
	if (rc < 0)
		return rc;
	CLEAN_FREE char *name = xstrndup(c->args[0], strcspn(c->args[0], "="));
	rc = set_label(c, name, label, err);
	return rc < 0 ? rc : show(c, name, err);
}

static const struct flag split_flags[] = {
	{ "rm", 0, F_BOOL, NULL, NULL, "End the split: the service's own tasks take all again" },
};
const struct command service_split_command = {
	.name = "split",
	.usage = "SERVICE | SERVICE=WEIGHT [SERVICE=WEIGHT...]",
	.summary = "Share what comes to a service between its tasks and those of other services",
	.more = "What is sent to the virtual IP and the published ports of the first service goes to the tasks of all\n"
		"that are named, by weight. The change is one step on each node; connections that are open stay where\n"
		"they are. Each of them must be on all networks of the first, and on the ingress network when that "
		"one\n"
		"publishes ports. With a service alone the weights in force are shown.",
	FLAGS(split_flags),
	.run = run_split,
	.min = 1,
	.max = -1,
	.comp = "service",
	.example = "  meshctl service split web=90 web-canary=10\n"
		   "  meshctl service split web=0 web-green=100     # all at once\n"
		   "  meshctl service split web                     # show\n"
		   "  meshctl service split --rm web",
};
