/* SPDX-License-Identifier: GPL-2.0-or-later */
/* service inspect: the objects themselves, or a text that people read. */
#include <stdio.h>

#include "cli/api.h"
#include "cli/service.h"
#include "cli/show.h"
#include "cli/units.h"

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

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "pretty", 0, F_BOOL, NULL, NULL, "Print the information in a human friendly format" },
};
const struct command service_inspect_command = {
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
