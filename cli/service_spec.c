/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each flag of "service create" and "service update" does to a ServiceSpec. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/service.h"
#include "cli/spec.h"
#include "cli/units.h"

#define TASK "TaskTemplate."
#define CSPEC "TaskTemplate.ContainerSpec."

static void set_str(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (!flag_given(c, flag))
		return;
	if (*flag_str(c, flag))
		jset(spec, path, json_string(flag_str(c, flag)));
	else
		jdel(spec, path);
}

static void set_int(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (flag_given(c, flag))
		jset(spec, path, json_integer(flag_int(c, flag)));
}

/* Where Go leaves an empty value out. */
static void set_nonzero(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (!flag_given(c, flag))
		return;
	if (flag_int(c, flag))
		jset(spec, path, json_integer(flag_int(c, flag)));
	else
		jdel(spec, path);
}

static void set_true(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (!flag_given(c, flag))
		return;
	if (flag_bool(c, flag))
		jset(spec, path, json_true());
	else
		jdel(spec, path);
}

static json_t *strings(const struct str_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

static void set_list(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (flag_list(c, flag)->n)
		jset(spec, path, strings(flag_list(c, flag)));
}

static int cmp_json_text(const void *a, const void *b)
{
	CLEAN_FREE char *x = json_line(*(json_t *const *)a);
	CLEAN_FREE char *y = json_line(*(json_t *const *)b);

	return strcmp(x, y);
}

static const char *sort_key;
static int cmp_by_key(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;

	if (json_is_integer(jo(x, sort_key)) || json_is_integer(jo(y, sort_key))) {
		int64_t d = ji(x, sort_key) - ji(y, sort_key);
		return d < 0 ? -1 : d > 0;
	}
	return strcmp(js(x, sort_key), js(y, sort_key));
}

/* By a field of its objects, or by text where key is NULL. */
static void json_sort(json_t *array, const char *key)
{
	size_t n = json_array_size(array);
	json_t **items = xcalloc(n + 1, sizeof(*items));

	for (size_t i = 0; i < n; i++)
		items[i] = json_incref(json_array_get(array, i));
	sort_key = key;
	if (n)
		qsort(items, n, sizeof(*items), key ? cmp_by_key : cmp_json_text);
	json_array_clear(array);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(array, items[i]);
	free(items);
}

/* ---- parts both commands share ------------------------------------------------------------------- */

static int word_check(struct cli *c, const char *flag, const char *words, struct mesh_err *err)
{
	const char *v = flag_known(c, flag) && flag_given(c, flag) ? flag_str(c, flag) : NULL;
	size_t n = v ? strlen(v) : 0;

	if (!v)
		return 0;
	for (const char *p = words; *p;) {
		size_t len = strcspn(p, " ");
		if (len == n && !strncmp(p, v, n))
			return 0;
		p += len + (p[len] == ' ');
	}
	return mesh_fail(err, MESH_E_INVALID, "invalid argument \"%s\" for \"--%s\" flag: must be one of: %s", v, flag,
	                 words);
}

static int check_words(struct cli *c, struct mesh_err *err)
{
	static const struct {
		const char *flag, *words;
	} checks[] = {
		{ "endpoint-mode", "vip dnsrr" },
		{ "mode", "replicated global replicated-job global-job" },
		{ "restart-condition", "none on-failure any" },
		{ "update-order", "start-first stop-first" },
		{ "rollback-order", "start-first stop-first" },
		{ "update-failure-action", "pause continue rollback" },
		{ "rollback-failure-action", "pause continue" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		int rc = word_check(c, checks[i].flag, checks[i].words, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static bool any_given(struct cli *c, const char *const *flags)
{
	for (; *flags; flags++)
		if (flag_given(c, *flags))
			return true;
	return false;
}

static void set_resources(struct cli *c, json_t *spec)
{
	static const char *const flags[] = { "limit-cpu",   "limit-memory",   "limit-pids",
		                             "reserve-cpu", "reserve-memory", NULL };

	if (any_given(c, flags)) {
		if (!jo(spec, TASK "Resources.Limits"))
			jset(spec, TASK "Resources.Limits", json_object());
		if (!jo(spec, TASK "Resources.Reservations"))
			jset(spec, TASK "Resources.Reservations", json_object());
	}
	set_nonzero(c, "limit-cpu", spec, TASK "Resources.Limits.NanoCPUs");
	set_nonzero(c, "limit-memory", spec, TASK "Resources.Limits.MemoryBytes");
	set_nonzero(c, "limit-pids", spec, TASK "Resources.Limits.Pids");
	set_nonzero(c, "reserve-cpu", spec, TASK "Resources.Reservations.NanoCPUs");
	set_nonzero(c, "reserve-memory", spec, TASK "Resources.Reservations.MemoryBytes");
}

static void set_restart(struct cli *c, json_t *spec)
{
	static const char *const flags[] = { "restart-condition", "restart-delay", "restart-max-attempts",
		                             "restart-window", NULL };

	if (!any_given(c, flags))
		return;
	if (!jo(spec, TASK "RestartPolicy"))
		jset(spec, TASK "RestartPolicy",
		     json_pack("{s:s,s:I,s:i}", "Condition", "any", "Delay", (json_int_t)(5 * NS_PER_S), "MaxAttempts",
		               0));
	set_str(c, "restart-condition", spec, TASK "RestartPolicy.Condition");
	set_int(c, "restart-delay", spec, TASK "RestartPolicy.Delay");
	set_int(c, "restart-max-attempts", spec, TASK "RestartPolicy.MaxAttempts");
	set_int(c, "restart-window", spec, TASK "RestartPolicy.Window");
}

/* Once one flag of a group is given the whole group is written, as docker does. */
static void set_update(struct cli *c, json_t *spec, const char *prefix, const char *object)
{
	static const char *const parts[] = { "parallelism",       "delay", "monitor", "failure-action",
		                             "max-failure-ratio", "order" };
	char flag[64];
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		snprintf(flag, sizeof(flag), "%s-%s", prefix, parts[i]);
		any |= flag_given(c, flag);
	}
	if (!any)
		return;
	json_t *u = json_object_get(spec, object);
	if (!u) {
		u = json_pack("{s:i,s:s,s:I,s:i,s:s}", "Parallelism", 1, "FailureAction", "pause", "Monitor",
		              (json_int_t)(5 * NS_PER_S), "MaxFailureRatio", 0, "Order", "stop-first");
		json_object_set_new(spec, object, u);
	}
	snprintf(flag, sizeof(flag), "%s-parallelism", prefix);
	set_int(c, flag, u, "Parallelism");
	snprintf(flag, sizeof(flag), "%s-delay", prefix);
	set_nonzero(c, flag, u, "Delay");
	snprintf(flag, sizeof(flag), "%s-monitor", prefix);
	set_nonzero(c, flag, u, "Monitor");
	snprintf(flag, sizeof(flag), "%s-failure-action", prefix);
	set_str(c, flag, u, "FailureAction");
	snprintf(flag, sizeof(flag), "%s-order", prefix);
	set_str(c, flag, u, "Order");
	snprintf(flag, sizeof(flag), "%s-max-failure-ratio", prefix);
	if (flag_given(c, flag))
		json_object_set_new(u, "MaxFailureRatio", json_real(flag_float(c, flag)));
}

static int set_health(struct cli *c, json_t *spec, struct mesh_err *err)
{
	static const char *const flags[] = { "health-cmd",
		                             "health-interval",
		                             "health-timeout",
		                             "health-retries",
		                             "health-start-period",
		                             "health-start-interval",
		                             NULL };
	const char *at = CSPEC "Healthcheck";

	if (flag_bool(c, "no-healthcheck")) {
		if (any_given(c, flags))
			return mesh_fail(err, MESH_E_INVALID, "--no-healthcheck conflicts with --health-* options");
		jset(spec, at, json_pack("{s:[s]}", "Test", "NONE"));
		return 0;
	}
	if (!any_given(c, flags))
		return 0;
	if (!strcmp(json_string_value(json_array_get(jo(spec, CSPEC "Healthcheck.Test"), 0)) ?: "", "NONE"))
		jdel(spec, CSPEC "Healthcheck.Test");
	if (!jo(spec, at))
		jset(spec, at, json_object());
	if (flag_given(c, "health-cmd")) {
		if (*flag_str(c, "health-cmd"))
			jset(spec, CSPEC "Healthcheck.Test",
			     json_pack("[s,s]", "CMD-SHELL", flag_str(c, "health-cmd")));
		else
			jdel(spec, CSPEC "Healthcheck.Test");
	}
	set_nonzero(c, "health-interval", spec, CSPEC "Healthcheck.Interval");
	set_nonzero(c, "health-timeout", spec, CSPEC "Healthcheck.Timeout");
	set_nonzero(c, "health-start-period", spec, CSPEC "Healthcheck.StartPeriod");
	set_nonzero(c, "health-start-interval", spec, CSPEC "Healthcheck.StartInterval");
	set_nonzero(c, "health-retries", spec, CSPEC "Healthcheck.Retries");
	return 0;
}

static int set_command_words(struct cli *c, const char *flag, json_t *spec, const char *path, struct mesh_err *err)
{
	json_t *words;

	if (!flag_given(c, flag))
		return 0;
	int rc = shell_split(flag_str(c, flag), &words, err);
	if (rc < 0)
		return rc;
	if (json_array_size(words)) {
		jset(spec, path, words);
	} else {
		json_decref(words);
		jdel(spec, path);
	}
	return 0;
}

static int set_credential(struct cli *c, json_t *spec, struct mesh_err *err)
{
	json_t *cred;

	if (!flag_given(c, "credential-spec") || !*flag_str(c, "credential-spec"))
		return 0;
	int rc = spec_credential(flag_str(c, "credential-spec"), &cred, err);
	if (!rc)
		jset(spec, CSPEC "Privileges", json_pack("{s:o,s:b}", "CredentialSpec", cred, "NoNewPrivileges", 0));
	return rc;
}

static void set_log_driver(struct cli *c, json_t *spec)
{
	if (!flag_given(c, "log-driver") && !flag_given(c, "log-opt"))
		return;
	json_t *d = json_object();
	if (*flag_str(c, "log-driver"))
		json_object_set_new(d, "Name", json_string(flag_str(c, "log-driver")));
	if (flag_list(c, "log-opt")->n)
		json_object_set_new(d, "Options", spec_labels(flag_list(c, "log-opt")));
	if (json_object_size(d))
		jset(spec, TASK "LogDriver", d);
	else
		json_decref(d);
}

static void set_common(struct cli *c, json_t *spec)
{
	set_str(c, "hostname", spec, CSPEC "Hostname");
	set_str(c, "workdir", spec, CSPEC "Dir");
	set_str(c, "user", spec, CSPEC "User");
	set_true(c, "tty", spec, CSPEC "TTY");
	set_true(c, "read-only", spec, CSPEC "ReadOnly");
	set_int(c, "stop-grace-period", spec, CSPEC "StopGracePeriod");
	set_str(c, "stop-signal", spec, CSPEC "StopSignal");
	set_str(c, "isolation", spec, CSPEC "Isolation");
	set_nonzero(c, "oom-score-adj", spec, CSPEC "OomScoreAdj");
	set_log_driver(c, spec);
	set_resources(c, spec);
	set_restart(c, spec);
	set_nonzero(c, "replicas-max-per-node", spec, TASK "Placement.MaxReplicas");
	set_update(c, spec, "update", "UpdateConfig");
	set_update(c, spec, "rollback", "RollbackConfig");
}

/* Parses every value of a list flag with fn into an array. */
static int parse_each(struct cli *c, const char *flag, int (*fn)(const char *, json_t **, struct mesh_err *),
                      json_t **out, struct mesh_err *err)
{
	const struct str_list *l = flag_list(c, flag);
	json_t *a = json_array(), *item;
	int rc = 0;

	for (size_t i = 0; !rc && i < l->n; i++) {
		rc = fn(l->v[i], &item, err);
		if (!rc)
			json_array_append_new(a, item);
	}
	if (rc < 0) {
		json_decref(a);
		a = NULL;
	}
	*out = a;
	return rc;
}

static int spec_secret_ref(const char *text, json_t **out, struct mesh_err *err)
{
	return spec_file_ref(text, "Secret", out, err);
}

static int spec_config_ref(const char *text, json_t **out, struct mesh_err *err)
{
	return spec_file_ref(text, "Config", out, err);
}

static int spec_host_json(const char *text, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *host = NULL;
	int rc = spec_host(text, &host, err);

	if (!rc)
		*out = json_string(host);
	return rc;
}

static int spec_capability_json(const char *text, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *cap = spec_capability(text);

	(void)err;
	*out = json_string(cap);
	return 0;
}

/* ---- create -------------------------------------------------------------------------------------- */

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
		set_int(c, "replicas", spec, "Mode.Replicated.Replicas");
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
	set_int(c, flag_given(c, "max-concurrent") ? "max-concurrent" : "replicas", spec,
	        "Mode.ReplicatedJob.MaxConcurrent");
	set_int(c, "replicas", spec, "Mode.ReplicatedJob.TotalCompletions");
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
		int rc = parse_each(c, lists[i].flag, lists[i].parse, &a, err);
		if (rc < 0)
			return rc;
		if (lists[i].sort)
			json_sort(a, *lists[i].sort ? lists[i].sort : NULL);
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
	int rc = check_words(c, err);

	if (rc < 0)
		return rc;
	set_str(c, "name", spec, "Name");
	jset(spec, "Labels", spec_labels(flag_list(c, "label")));
	jset(spec, CSPEC "Image", json_string(c->args[0]));
	if (flag_list(c, "container-label")->n)
		jset(spec, CSPEC "Labels", spec_labels(flag_list(c, "container-label")));
	rc = set_command_words(c, "entrypoint", spec, CSPEC "Command", err);
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
	set_list(c, "group", spec, CSPEC "Groups");
	jset(spec, CSPEC "Init", json_boolean(flag_bool(c, "init")));
	jset(spec, CSPEC "DNSConfig", json_object());
	set_list(c, "dns", spec, CSPEC "DNSConfig.Nameservers");
	set_list(c, "dns-search", spec, CSPEC "DNSConfig.Search");
	set_list(c, "dns-option", spec, CSPEC "DNSConfig.Options");
	if (flag_list(c, "sysctl")->n)
		jset(spec, CSPEC "Sysctls", spec_labels(flag_list(c, "sysctl")));
	jset(spec, TASK "Resources", json_pack("{s:{},s:{}}", "Limits", "Reservations"));
	jset(spec, TASK "Placement", json_object());
	set_list(c, "constraint", spec, TASK "Placement.Constraints");
	set_common(c, spec);
	jset(spec, TASK "ForceUpdate", json_integer(0));
	rc = set_health(c, spec, err);
	if (!rc)
		rc = set_credential(c, spec, err);
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

/* ---- names to ids -------------------------------------------------------------------------------- */

static int network_id(struct cli *c, json_t *n, struct mesh_err *err)
{
	JSON_CLEAN net = NULL;
	CLEAN_FREE char *name = url_dup(js(n, "Target"));
	int rc = api_get(c, &net, err, "/networks/%s?scope=swarm", name);

	if (!rc)
		json_object_set_new(n, "Target", json_string(js(net, "Id")));
	return rc;
}

static const json_t *by_name(const json_t *list, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach((json_t *)list, i, o) if (!strcmp(js(o, "Spec.Name"), name)) return o;
	return NULL;
}

/* kind: "Secret" or "Config" */
static int file_ids(struct cli *c, json_t *refs, const char *kind, struct mesh_err *err)
{
	JSON_CLEAN filter = json_pack("{s:{}}", "name");
	JSON_CLEAN found = NULL;
	char name_key[16], id_key[16];
	json_t *r;
	size_t i, k;

	snprintf(name_key, sizeof(name_key), "%sName", kind);
	snprintf(id_key, sizeof(id_key), "%sID", kind);
	json_array_foreach(refs, i, r) if (!*js(r, id_key))
		json_object_set_new(jo(filter, "name"), js(r, name_key), json_true());
	if (!json_object_size(jo(filter, "name")))
		return 0;
	for (i = 0; i < json_array_size(refs); i++)
		for (k = 0; k < i; k++) {
			json_t *a = json_array_get(refs, i), *b = json_array_get(refs, k);
			if (*js(a, "File.Name") && !strcmp(js(a, "File.Name"), js(b, "File.Name")))
				return mesh_fail(err, MESH_E_INVALID, "duplicate %s target for %s not allowed",
				                 kind[0] == 'S' ? "secret" : "config", js(a, name_key));
		}
	CLEAN_FREE char *text = json_line(filter);
	CLEAN_FREE char *escaped = url_dup(text);
	int rc = api_get(c, &found, err, "/%s?filters=%s", kind[0] == 'S' ? "secrets" : "configs", escaped);
	if (rc < 0)
		return rc;
	json_array_foreach(refs, i, r)
	{
		if (*js(r, id_key))
			continue;
		const json_t *o = by_name(found, js(r, name_key));
		if (!o)
			return mesh_fail(err, MESH_E_NOT_FOUND, "%s not found: %s",
			                 kind[0] == 'S' ? "secret" : "config", js(r, name_key));
		json_object_set_new(r, id_key, json_string(js(o, "ID")));
	}
	return 0;
}

int service_references(struct cli *c, json_t *spec, struct mesh_err *err)
{
	json_t *n, *nets = jo(spec, TASK "Networks");
	size_t i;
	int rc = 0;

	json_array_foreach(nets, i, n) if (!rc) rc = network_id(c, n, err);
	if (!rc && nets)
		json_sort(nets, "Target");
	if (!rc)
		rc = file_ids(c, jo(spec, CSPEC "Secrets"), "Secret", err);
	if (!rc)
		rc = file_ids(c, jo(spec, CSPEC "Configs"), "Config", err);
	return rc;
}

int service_credentials(struct cli *c, const char *image, char **headers, struct mesh_err *err)
{
	(void)err;
	*headers = NULL;
	if (!flag_bool(c, "with-registry-auth"))
		return 0;
	CLEAN_FREE char *auth = registry_auth(image);
	*headers = xasprintf("X-Registry-Auth: %s\r\n", auth ? auth : "e30=");
	return 0;
}

char *image_with_tag(const char *image)
{
	const char *slash = strrchr(image, '/');
	const char *last = slash ? slash : image;

	return strchr(last, ':') || strchr(image, '@') ? xstrdup(image) : xasprintf("%s:latest", image);
}

bool service_tag_image(json_t *spec)
{
	CLEAN_FREE char *image = image_with_tag(js(spec, CSPEC "Image"));

	jset(spec, CSPEC "Image", json_string(image));
	return true;
}

bool service_pin_image(struct cli *c, json_t *spec, const char *headers)
{
	CLEAN_FREE char *image = image_with_tag(js(spec, CSPEC "Image"));
	CLEAN_FREE char *escaped = NULL;
	JSON_CLEAN info = NULL;
	struct buf path = { 0 };

	if (strchr(image, '@'))
		return true;
	/* Slashes stay: they are part of the route. */
	buf_puts(&path, "/distribution/");
	for (const char *p = image; *p; p++)
		if (*p == '/' || *p == ':') {
			buf_put(&path, p, 1);
		} else {
			char one[2] = { *p, 0 };
			url_escape(&path, one);
		}
	buf_puts(&path, "/json");
	CLEAN_FREE char *at = buf_take_str(&path);
	struct http_request req = { .method = "GET", .path = at, .headers = headers };
	jset(spec, CSPEC "Image", json_string(image));
	if (api_call(c, &req, &info, NULL) < 0 || !*js(info, "Descriptor.digest")) {
		return false;
	}
	CLEAN_FREE char *pinned = xasprintf("%s@%s", image, js(info, "Descriptor.digest"));
	jset(spec, CSPEC "Image", json_string(pinned));
	json_t *platforms = json_array(), *p;
	size_t i;
	json_array_foreach(jo(info, "Platforms"), i, p)
	{
		json_t *one = json_object();
		if (*js(p, "architecture"))
			json_object_set_new(one, "Architecture", json_string(js(p, "architecture")));
		if (*js(p, "os"))
			json_object_set_new(one, "OS", json_string(js(p, "os")));
		json_array_append_new(platforms, one);
	}
	if (json_array_size(platforms))
		jset(spec, TASK "Placement.Platforms", platforms);
	else
		json_decref(platforms);
	return true;
}

/* ---- update -------------------------------------------------------------------------------------- */

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
		json_sort(list, NULL);
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
	int rc = parse_each(c, add, parse, &adds, err);

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
	json_sort(ports, "PublishedPort");
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
		int rc = network_id(c, n, err);
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
			rc = network_id(c, n, err);
		if (rc < 0)
			return rc;
		for (i = 0; i < json_array_size(nets); i++)
			if (!strcmp(js(json_array_get(nets, i), "Target"), js(n, "Target")))
				return mesh_fail(err, MESH_E_CONFLICT, "service is already attached to network %s",
				                 adds->v[k]);
		json_array_append_new(nets, n);
	}
	json_sort(nets, "Target");
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
	int rc = parse_each(c, "placement-pref-add", spec_preference, &adds, err);

	if (!rc)
		rc = parse_each(c, "placement-pref-rm", spec_preference, &rms, err);
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
	int rc = parse_each(c, "generic-resource-add", spec_generic_resource, &adds, err);

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
	int rc = parse_each(c, "host-add", spec_host_json, &adds, err);

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
			json_sort(mine, NULL);
		}
	}
	drop_if_empty(spec, CSPEC "CapabilityAdd");
	drop_if_empty(spec, CSPEC "CapabilityDrop");
	return 0;
}

static int update_container(struct cli *c, json_t *spec, struct mesh_err *err)
{
	set_str(c, "image", spec, CSPEC "Image");
	int rc = set_command_words(c, "args", spec, CSPEC "Args", err);
	if (!rc)
		rc = set_command_words(c, "entrypoint", spec, CSPEC "Command", err);
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
		json_sort(jo(spec, CSPEC "Mounts"), "Source");
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Ulimits", "ulimit-add", "ulimit-rm", "Name", spec_ulimit, err);
	if (!rc && jo(spec, CSPEC "Ulimits") && flag_given(c, "ulimit-add"))
		json_sort(jo(spec, CSPEC "Ulimits"), "Name");
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Secrets", "secret-add", "secret-rm", "SecretName", spec_secret_ref,
		                    err);
	if (!rc)
		rc = file_ids(c, jo(spec, CSPEC "Secrets"), "Secret", err);
	if (!rc)
		rc = update_objects(c, spec, CSPEC "Configs", "config-add", "config-rm", "ConfigName", spec_config_ref,
		                    err);
	if (!rc)
		rc = file_ids(c, jo(spec, CSPEC "Configs"), "Config", err);
	if (!rc)
		rc = update_hosts(c, spec, err);
	if (!rc)
		rc = update_capabilities(c, spec);
	if (!rc)
		rc = set_health(c, spec, err);
	return rc < 0 ? rc : set_credential(c, spec, err);
}

int service_spec_update(struct cli *c, json_t *spec, struct mesh_err *err)
{
	int rc = check_words(c, err);

	if (!rc)
		rc = update_container(c, spec, err);
	if (rc < 0)
		return rc;
	update_map(c, spec, "Labels", "label-add", "label-rm");
	update_strings(c, spec, TASK "Placement.Constraints", "constraint-add", "constraint-rm", 0, true);
	set_common(c, spec);
	set_str(c, "endpoint-mode", spec, "EndpointSpec.Mode");
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
