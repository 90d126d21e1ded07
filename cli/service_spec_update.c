/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each flag of "service update" changes. */
#include "cli/service_spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/spec.h"
#include "cli/units.h"

static json_t *array_at(json_t *spec, const char *path)
{
	if (!json_is_array(jo(spec, path)))
		jset(spec, path, json_array());
	return jo(spec, path);
}

static void drop_if_empty(json_t *spec, const char *path)
{
	if (jo(spec, path) && !json_array_size(jo(spec, path)))
		jdel(spec, path);
}

static bool list_has(const struct str_list *l, const char *s, size_t n)
{
	for (size_t i = 0; i < l->n; i++)
		if (strlen(l->v[i]) == n && !strncmp(l->v[i], s, n))
			return true;
	return false;
}

/* Lists of strings; an entry's key is its text up to sep ('\0': all of it). */
static void update_strings(struct cli *c, json_t *spec, const char *path, const char *add, const char *rm, char sep,
                           bool sorted)
{
	const struct str_list *adds = flag_list(c, add), *rms = flag_list(c, rm);
	json_t *item;
	size_t i;

	if (!adds->n && !rms->n)
		return;
	json_t *list = array_at(spec, path);
	for (i = json_array_size(list); i-- > 0;) {
		const char *s = json_string_value(json_array_get(list, i)) ?: "";
		size_t n = sep ? strcspn(s, (char[]){ sep, 0 }) : strlen(s);
		if (list_has(rms, s, n))
			json_array_remove(list, i);
	}
	for (size_t k = 0; k < adds->n; k++) {
		const char *s = adds->v[k];
		size_t n = sep ? strcspn(s, (char[]){ sep, 0 }) : strlen(s);
		bool done = false;
		json_array_foreach(list, i, item)
		{
			const char *old = json_string_value(item) ?: "";
			size_t on = sep ? strcspn(old, (char[]){ sep, 0 }) : strlen(old);
			if (on == n && !strncmp(old, s, n)) {
				json_array_set_new(list, i, json_string(s));
				done = true;
				break;
			}
		}
		if (!done)
			json_array_append_new(list, json_string(s));
	}
	if (sorted)
		spec_sort(list, NULL);
	drop_if_empty(spec, path);
}

static void update_map(struct cli *c, json_t *spec, const char *path, const char *add, const char *rm)
{
	const struct str_list *adds = flag_list(c, add), *rms = flag_list(c, rm);
	const char *key;
	json_t *v;

	if (!adds->n && !rms->n)
		return;
	if (!jo(spec, path))
		jset(spec, path, json_object());
	json_t *map = jo(spec, path);
	for (size_t i = 0; i < rms->n; i++)
		json_object_del(map, rms->v[i]);
	JSON_CLEAN new = spec_labels(adds);
	json_object_foreach(new, key, v) json_object_set(map, key, v);
}

/* Lists of objects told apart by one field. */
static int update_objects(struct cli *c, json_t *spec, const char *path, const char *add, const char *rm,
                          const char *key, int (*parse)(const char *, json_t **, struct mesh_err *),
                          struct mesh_err *err)
{
	const struct str_list *rms = flag_list(c, rm);
	json_t *adds, *a;
	size_t i, k;
	int rc = spec_parse_each(c, add, parse, &adds, err);

	if (rc < 0)
		return rc;
	if (rms->n || json_array_size(adds)) {
		json_t *list = array_at(spec, path);
		for (i = json_array_size(list); i-- > 0;) {
			const char *name = js(json_array_get(list, i), key);
			if (list_has(rms, name, strlen(name)))
				json_array_remove(list, i);
		}
		json_array_foreach(adds, k, a)
		{
			for (i = json_array_size(list); i-- > 0;)
				if (!strcmp(js(json_array_get(list, i), key), js(a, key)))
					json_array_remove(list, i);
			json_array_append(list, a);
		}
		drop_if_empty(spec, path);
	}
	json_decref(adds);
	return 0;
}

/* --publish-rm [published:]target[/protocol]: by the target, as docker does. */
static bool port_matches(const json_t *p, const char *rm)
{
	const char *colon = strrchr(rm, ':');
	const char *target = colon ? colon + 1 : rm;
	const char *slash = strchr(target, '/');

	return ji(p, "TargetPort") == atoi(target) && !strcmp(js(p, "Protocol"), slash ? slash + 1 : "tcp");
}

static bool same_port(const json_t *a, const json_t *b)
{
	return ji(a, "PublishedPort") == ji(b, "PublishedPort") && ji(a, "TargetPort") == ji(b, "TargetPort") &&
	       !strcmp(js(a, "Protocol"), js(b, "Protocol")) && !strcmp(js(a, "PublishMode"), js(b, "PublishMode"));
}

static int update_ports(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const struct str_list *adds = flag_list(c, "publish-add"), *rms = flag_list(c, "publish-rm");
	JSON_CLEAN fresh = json_array();
	json_t *p;
	size_t i;

	if (!adds->n && !rms->n)
		return 0;
	for (i = 0; i < adds->n; i++) {
		int rc = spec_publish(adds->v[i], fresh, err);
		if (rc < 0)
			return rc;
	}
	json_t *ports = array_at(spec, "EndpointSpec.Ports");
	for (size_t k = 0; k < rms->n; k++)
		for (i = json_array_size(ports); i-- > 0;)
			if (port_matches(json_array_get(ports, i), rms->v[k]))
				json_array_remove(ports, i);
	for (size_t k = 0; k < json_array_size(fresh); k++) {
		json_t *new = json_array_get(fresh, k);
		bool have = false;
		json_array_foreach(ports, i, p) have |= same_port(p, new);
		if (!have)
			json_array_append(ports, new);
	}
	spec_sort(ports, "PublishedPort");
	drop_if_empty(spec, "EndpointSpec.Ports");
	return 0;
}

static int update_networks(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const struct str_list *adds = flag_list(c, "network-add"), *rms = flag_list(c, "network-rm");
	size_t i;

	if (!adds->n && !rms->n)
		return 0;
	/* Specs of old daemons carry the networks at the top. */
	json_t *old = jo(spec, "Networks");
	if (old && !jo(spec, TASK "Networks"))
		jset(spec, TASK "Networks", json_incref(old));
	json_object_del(spec, "Networks");
	json_t *nets = array_at(spec, TASK "Networks");
	for (size_t k = 0; k < rms->n; k++) {
		JSON_CLEAN n = json_pack("{s:s}", "Target", rms->v[k]);
		int rc = spec_network_id(c, n, err);
		if (rc < 0)
			return rc;
		for (i = json_array_size(nets); i-- > 0;)
			if (!strcmp(js(json_array_get(nets, i), "Target"), js(n, "Target")))
				json_array_remove(nets, i);
	}
	for (size_t k = 0; k < adds->n; k++) {
		json_t *n;
		int rc = spec_network(adds->v[k], &n, err);
		if (!rc)
			rc = spec_network_id(c, n, err);
		if (rc < 0)
			return rc;
		for (i = 0; i < json_array_size(nets); i++)
			if (!strcmp(js(json_array_get(nets, i), "Target"), js(n, "Target")))
				return mesh_fail(err, MESH_E_CONFLICT, "service is already attached to network %s",
				                 adds->v[k]);
		json_array_append_new(nets, n);
	}
	spec_sort(nets, "Target");
	drop_if_empty(spec, TASK "Networks");
	return 0;
}

static int update_preferences(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const char *path = TASK "Placement.Preferences";
	JSON_CLEAN adds = NULL;
	JSON_CLEAN rms = NULL;
	json_t *p;
	size_t i, k;
	int rc = spec_parse_each(c, "placement-pref-add", spec_preference, &adds, err);

	if (!rc)
		rc = spec_parse_each(c, "placement-pref-rm", spec_preference, &rms, err);
	if (rc < 0 || (!json_array_size(adds) && !json_array_size(rms)))
		return rc;
	json_t *list = array_at(spec, path);
	json_array_foreach(rms, k, p) for (i = json_array_size(list);
	                                   i-- > 0;) if (json_equal(json_array_get(list, i), p))
		json_array_remove(list, i);
	json_array_foreach(adds, k, p) json_array_append(list, p);
	drop_if_empty(spec, path);
	return 0;
}

static int update_generic(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const char *path = TASK "Resources.Reservations.GenericResources";
	const struct str_list *rms = flag_list(c, "generic-resource-rm");
	JSON_CLEAN adds = NULL;
	json_t *g;
	size_t i, k;
	int rc = spec_parse_each(c, "generic-resource-add", spec_generic_resource, &adds, err);

	if (rc < 0 || (!json_array_size(adds) && !rms->n))
		return rc;
	json_t *list = array_at(spec, path);
	for (i = json_array_size(list); i-- > 0;) {
		const char *kind = js(json_array_get(list, i), "DiscreteResourceSpec.Kind");
		bool gone = list_has(rms, kind, strlen(kind));
		json_array_foreach(adds, k, g) gone |= !strcmp(kind, js(g, "DiscreteResourceSpec.Kind"));
		if (gone)
			json_array_remove(list, i);
	}
	json_array_extend(list, adds);
	drop_if_empty(spec, path);
	return 0;
}

static int update_hosts(struct cli *c, json_t *spec, struct mesh_err *err)
{
	const struct str_list *rms = flag_list(c, "host-rm");
	JSON_CLEAN adds = NULL;
	size_t i;
	int rc = spec_parse_each(c, "host-add", spec_host_json, &adds, err);

	if (rc < 0 || (!json_array_size(adds) && !rms->n))
		return rc;
	json_t *list = array_at(spec, CSPEC "Hosts");
	for (size_t k = 0; k < rms->n; k++) {
		/* "host" takes every address of it away, "host:ip" one. */
		size_t n = strcspn(rms->v[k], ":=");
		const char *ip = rms->v[k][n] ? rms->v[k] + n + 1 : NULL;
		for (i = json_array_size(list); i-- > 0;) {
			const char *s = json_string_value(json_array_get(list, i)) ?: "";
			const char *sp = strchr(s, ' ');
			if (sp && strlen(sp + 1) == n && !strncmp(sp + 1, rms->v[k], n) &&
			    (!ip || (!strncmp(s, ip, (size_t)(sp - s)) && !ip[sp - s])))
				json_array_remove(list, i);
		}
	}
	json_array_extend(list, adds);
	drop_if_empty(spec, CSPEC "Hosts");
	return 0;
}

static int update_mode(struct cli *c, json_t *spec, struct mesh_err *err)
{
	if (flag_given(c, "replicas")) {
		if (jo(spec, "Mode.Replicated"))
			jset(spec, "Mode.Replicated.Replicas", json_integer(flag_int(c, "replicas")));
		else if (jo(spec, "Mode.ReplicatedJob"))
			jset(spec, "Mode.ReplicatedJob.TotalCompletions", json_integer(flag_int(c, "replicas")));
		else
			return mesh_fail(err, MESH_E_INVALID, "replicas can only be used with replicated mode");
	}
	if (flag_given(c, "max-concurrent")) {
		if (!jo(spec, "Mode.ReplicatedJob"))
			return mesh_fail(err, MESH_E_INVALID,
			                 "max-concurrent can only be used with replicated-job mode");
		jset(spec, "Mode.ReplicatedJob.MaxConcurrent", json_integer(flag_int(c, "max-concurrent")));
	}
	return 0;
}

static int update_capabilities(struct cli *c, json_t *spec)
{
	static const struct {
		const char *flag, *path, *other;
	} sides[] = { { "cap-add", CSPEC "CapabilityAdd", CSPEC "CapabilityDrop" },
		      { "cap-drop", CSPEC "CapabilityDrop", CSPEC "CapabilityAdd" } };

	for (size_t s = 0; s < 2; s++) {
		const struct str_list *l = flag_list(c, sides[s].flag);
		for (size_t i = 0; i < l->n; i++) {
			CLEAN_FREE char *cap = spec_capability(l->v[i]);
			json_t *mine = array_at(spec, sides[s].path), *other = jo(spec, sides[s].other);
			bool undone = false;
			/* Adding what was dropped only takes the drop back, and the other way round. */
			for (size_t k = json_array_size(other); k-- > 0;)
				if (!strcmp(json_string_value(json_array_get(other, k)) ?: "", cap)) {
					json_array_remove(other, k);
					undone = true;
				}
			for (size_t k = json_array_size(mine); k-- > 0;)
				if (!strcmp(json_string_value(json_array_get(mine, k)) ?: "", cap))
					json_array_remove(mine, k);
			if (!undone)
				json_array_append_new(mine, json_string(cap));
			spec_sort(mine, NULL);
		}
	}
	drop_if_empty(spec, CSPEC "CapabilityAdd");
	drop_if_empty(spec, CSPEC "CapabilityDrop");
	return 0;
}

static int update_container(struct cli *c, json_t *spec, struct mesh_err *err)
{
	spec_set_str(c, "image", spec, CSPEC "Image");
	int rc = spec_set_words(c, "args", spec, CSPEC "Args", err);
	if (!rc)
		rc = spec_set_words(c, "entrypoint", spec, CSPEC "Command", err);
	if (rc < 0)
		return rc;
	update_map(c, spec, CSPEC "Labels", "container-label-add", "container-label-rm");
	update_map(c, spec, CSPEC "Sysctls", "sysctl-add", "sysctl-rm");
	update_strings(c, spec, CSPEC "Env", "env-add", "env-rm", '=', false);
	update_strings(c, spec, CSPEC "Groups", "group-add", "group-rm", 0, true);
	update_strings(c, spec, CSPEC "DNSConfig.Nameservers", "dns-add", "dns-rm", 0, true);
	update_strings(c, spec, CSPEC "DNSConfig.Options", "dns-option-add", "dns-option-rm", 0, true);
	update_strings(c, spec, CSPEC "DNSConfig.Search", "dns-search-add", "dns-search-rm", 0, true);
	if (flag_given(c, "init"))
		jset(spec, CSPEC "Init", json_boolean(flag_bool(c, "init")));
	rc = update_objects(c, spec, CSPEC "Mounts", "mount-add", "mount-rm", "Target", spec_mount, err);
	if (!rc && (flag_given(c, "mount-add") || flag_given(c, "mount-rm")) && jo(spec, CSPEC "Mounts"))
		spec_sort(jo(spec, CSPEC "Mounts"), "Source");
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Ulimits", "ulimit-add", "ulimit-rm", "Name", spec_ulimit, err);
	if (!rc && jo(spec, CSPEC "Ulimits") && flag_given(c, "ulimit-add"))
		spec_sort(jo(spec, CSPEC "Ulimits"), "Name");
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Secrets", "secret-add", "secret-rm", "SecretName", spec_secret_ref,
		                    err);
	if (!rc)
		rc = spec_file_ids(c, jo(spec, CSPEC "Secrets"), "Secret", err);
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Configs", "config-add", "config-rm", "ConfigName", spec_config_ref,
		                    err);
	if (!rc)
		rc = spec_file_ids(c, jo(spec, CSPEC "Configs"), "Config", err);
	if (!rc)
		rc = update_hosts(c, spec, err);
	if (!rc)
		rc = update_capabilities(c, spec);
	if (!rc)
		rc = spec_set_health(c, spec, err);
	return rc < 0 ? rc : spec_set_credential(c, spec, err);
}

int service_spec_update(struct cli *c, json_t *spec, struct mesh_err *err)
{
	int rc = spec_check_words(c, err);

	if (!rc)
		rc = update_container(c, spec, err);
	if (rc < 0)
		return rc;
	update_map(c, spec, "Labels", "label-add", "label-rm");
	update_strings(c, spec, TASK "Placement.Constraints", "constraint-add", "constraint-rm", 0, true);
	spec_set_common(c, spec);
	spec_set_str(c, "endpoint-mode", spec, "EndpointSpec.Mode");
	rc = update_mode(c, spec, err);
	if (!rc)
		rc = update_preferences(c, spec, err);
	if (!rc)
		rc = update_generic(c, spec, err);
	if (!rc)
		rc = update_networks(c, spec, err);
	if (!rc)
		rc = update_ports(c, spec, err);
	if (!rc && flag_bool(c, "force"))
		jset(spec, TASK "ForceUpdate", json_integer(ji(spec, TASK "ForceUpdate") + 1));
	return rc;
}
