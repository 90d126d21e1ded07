/* SPDX-License-Identifier: GPL-2.0-or-later */
/* service rebalance: asks for it and says what moves. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/service.h"
#include "cli/show.h"

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
const struct command service_rebalance_command = {
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
