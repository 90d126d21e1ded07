/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the flags of "service create" make. */
#include "cli/service_spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/spec.h"
#include "cli/units.h"

static int create_mode(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const char *mode = flag_str(c, "mode");
	bool job = strstr(mode, "-job") != NULL, replicated = !strncmp(mode, "replicated", 10);

	if (!replicated && flag_given(c, "replicas"))
		return mesh_fail(err, MESH_E_INVALID,
		                 "replicas can only be used with replicated or replicated-job mode");
	if (!replicated && flag_given(c, "replicas-max-per-node"))
		return mesh_fail(err, MESH_E_INVALID,
		                 "replicas-max-per-node can only be used with replicated or replicated-job mode");
	if (strcmp(mode, "replicated-job") && flag_given(c, "max-concurrent"))
		return mesh_fail(err, MESH_E_INVALID, "max-concurrent can only be used with replicated-job mode");
	if (!job) {
		jset(spec, replicated ? "Mode.Replicated" : "Mode.Global", json_object());
		spec_set_int(c, "replicas", spec, "Mode.Replicated.Replicas");
		return 0;
	}
	for (size_t i = 0; i < c->cmd->nflags; i++) {
		const char *name = c->cmd->flags[i].name;
		if (c->vals[i].set && (!strncmp(name, "update-", 7) || !strncmp(name, "rollback-", 9)))
			return mesh_fail(err, MESH_E_INVALID,
			                 "update and rollback configuration is not supported for jobs");
	}
	if (!replicated) {
		jset(spec, "Mode.GlobalJob", json_object());
		return 0;
	}
	jset(spec, "Mode.ReplicatedJob", json_object());
	spec_set_int(c, flag_given(c, "max-concurrent") ? "max-concurrent" : "replicas", spec,
	             "Mode.ReplicatedJob.MaxConcurrent");
	spec_set_int(c, "replicas", spec, "Mode.ReplicatedJob.TotalCompletions");
	return 0;
}

static int create_lists(struct cli *c, json_t *spec, struct mesh_err *err)
{
	static const struct {
		const char *flag, *path, *sort;
		int (*parse)(const char *, json_t **, struct mesh_err *);
	} lists[] = {
		{ "mount", CSPEC "Mounts", NULL, spec_mount },
		{ "host", CSPEC "Hosts", NULL, spec_host_json },
		{ "secret", CSPEC "Secrets", NULL, spec_secret_ref },
		{ "config", CSPEC "Configs", NULL, spec_config_ref },
		{ "ulimit", CSPEC "Ulimits", "Name", spec_ulimit },
		{ "network", TASK "Networks", NULL, spec_network },
		{ "placement-pref", TASK "Placement.Preferences", NULL, spec_preference },
		{ "generic-resource", TASK "Resources.Reservations.GenericResources", NULL, spec_generic_resource },
		{ "cap-add", CSPEC "CapabilityAdd", "", spec_capability_json },
		{ "cap-drop", CSPEC "CapabilityDrop", "", spec_capability_json },
	};
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		json_t *a;
		int rc = spec_parse_each(c, lists[i].flag, lists[i].parse, &a, err);
		if (rc < 0)
			return rc;
		if (lists[i].sort)
			spec_sort(a, *lists[i].sort ? lists[i].sort : NULL);
		if (json_array_size(a))
			jset(spec, lists[i].path, a);
		else
			json_decref(a);
	}
	return 0;
}

static int create_ports(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const struct str_list *l = flag_list(c, "publish");
	JSON_CLEAN ports = json_array();

	for (size_t i = 0; i < l->n; i++) {
		int rc = spec_publish(l->v[i], ports, err);
		if (rc < 0)
			return rc;
	}
	jset(spec, "EndpointSpec.Mode", json_string(flag_str(c, "endpoint-mode")));
	if (l->n)
		jset(spec, "EndpointSpec.Ports", json_incref(ports));
	return 0;
}

int service_spec_create(struct cli *c, json_t **out, struct mesh_err *err)
{
	JSON_CLEAN spec = json_object();
	json_t *env;
	int rc = spec_check_words(c, err);

	if (rc < 0)
		return rc;
	spec_set_str(c, "name", spec, "Name");
	jset(spec, "Labels", spec_labels(flag_list(c, "label")));
	jset(spec, CSPEC "Image", json_string(c->args[0]));
	if (flag_list(c, "container-label")->n)
		jset(spec, CSPEC "Labels", spec_labels(flag_list(c, "container-label")));
	rc = spec_set_words(c, "entrypoint", spec, CSPEC "Command", err);
	if (rc < 0)
		return rc;
	if (c->nargs > 1) {
		jset(spec, CSPEC "Args", json_array());
		for (int i = 1; i < c->nargs; i++)
			json_array_append_new(jo(spec, CSPEC "Args"), json_string(c->args[i]));
	}
	rc = spec_env(flag_list(c, "env-file"), flag_list(c, "env"), &env, err);
	if (rc < 0)
		return rc;
	if (json_array_size(env))
		jset(spec, CSPEC "Env", env);
	else
		json_decref(env);
	spec_set_list(c, "group", spec, CSPEC "Groups");
	jset(spec, CSPEC "Init", json_boolean(flag_bool(c, "init")));
	jset(spec, CSPEC "DNSConfig", json_object());
	spec_set_list(c, "dns", spec, CSPEC "DNSConfig.Nameservers");
	spec_set_list(c, "dns-search", spec, CSPEC "DNSConfig.Search");
	spec_set_list(c, "dns-option", spec, CSPEC "DNSConfig.Options");
	if (flag_list(c, "sysctl")->n)
		jset(spec, CSPEC "Sysctls", spec_labels(flag_list(c, "sysctl")));
	jset(spec, TASK "Resources", json_pack("{s:{},s:{}}", "Limits", "Reservations"));
	jset(spec, TASK "Placement", json_object());
	spec_set_list(c, "constraint", spec, TASK "Placement.Constraints");
	spec_set_common(c, spec);
	jset(spec, TASK "ForceUpdate", json_integer(0));
	rc = spec_set_health(c, spec, err);
	if (!rc)
		rc = spec_set_credential(c, spec, err);
	if (!rc)
		rc = create_lists(c, spec, err);
	if (!rc)
		rc = create_mode(c, spec, err);
	if (!rc)
		rc = create_ports(c, spec, err);
	if (!rc)
		*out = json_incref(spec);
	return rc;
}
