/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flags of services that both "create" and "update" have. */
#include "cli/service_spec.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/spec.h"
#include "cli/units.h"

void spec_set_str(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (!flag_given(c, flag))
		return;
	if (*flag_str(c, flag))
		jset(spec, path, json_string(flag_str(c, flag)));
	else
		jdel(spec, path);
}

void spec_set_int(struct cli *c, const char *flag, json_t *spec, const char *path)
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

json_t *spec_strings(const struct str_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

void spec_set_list(struct cli *c, const char *flag, json_t *spec, const char *path)
{
	if (flag_list(c, flag)->n)
		jset(spec, path, spec_strings(flag_list(c, flag)));
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
void spec_sort(json_t *array, const char *key)
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

int spec_check_words(struct cli *c, struct mesh_err *err)
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
	spec_set_str(c, "restart-condition", spec, TASK "RestartPolicy.Condition");
	spec_set_int(c, "restart-delay", spec, TASK "RestartPolicy.Delay");
	spec_set_int(c, "restart-max-attempts", spec, TASK "RestartPolicy.MaxAttempts");
	spec_set_int(c, "restart-window", spec, TASK "RestartPolicy.Window");
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
	spec_set_int(c, flag, u, "Parallelism");
	snprintf(flag, sizeof(flag), "%s-delay", prefix);
	set_nonzero(c, flag, u, "Delay");
	snprintf(flag, sizeof(flag), "%s-monitor", prefix);
	set_nonzero(c, flag, u, "Monitor");
	snprintf(flag, sizeof(flag), "%s-failure-action", prefix);
	spec_set_str(c, flag, u, "FailureAction");
	snprintf(flag, sizeof(flag), "%s-order", prefix);
	spec_set_str(c, flag, u, "Order");
	snprintf(flag, sizeof(flag), "%s-max-failure-ratio", prefix);
	if (flag_given(c, flag))
		json_object_set_new(u, "MaxFailureRatio", json_real(flag_float(c, flag)));
}

int spec_set_health(struct cli *c, json_t *spec, struct mesh_err *err)
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

int spec_set_words(struct cli *c, const char *flag, json_t *spec, const char *path, struct mesh_err *err)
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

int spec_set_credential(struct cli *c, json_t *spec, struct mesh_err *err)
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

void spec_set_common(struct cli *c, json_t *spec)
{
	spec_set_str(c, "hostname", spec, CSPEC "Hostname");
	spec_set_str(c, "workdir", spec, CSPEC "Dir");
	spec_set_str(c, "user", spec, CSPEC "User");
	set_true(c, "tty", spec, CSPEC "TTY");
	set_true(c, "read-only", spec, CSPEC "ReadOnly");
	spec_set_int(c, "stop-grace-period", spec, CSPEC "StopGracePeriod");
	spec_set_str(c, "stop-signal", spec, CSPEC "StopSignal");
	spec_set_str(c, "isolation", spec, CSPEC "Isolation");
	set_nonzero(c, "oom-score-adj", spec, CSPEC "OomScoreAdj");
	set_log_driver(c, spec);
	set_resources(c, spec);
	set_restart(c, spec);
	set_nonzero(c, "replicas-max-per-node", spec, TASK "Placement.MaxReplicas");
	set_update(c, spec, "update", "UpdateConfig");
	set_update(c, spec, "rollback", "RollbackConfig");
}

/* Parses every value of a list flag with fn into an array. */
int spec_parse_each(struct cli *c, const char *flag, int (*fn)(const char *, json_t **, struct mesh_err *),
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

int spec_secret_ref(const char *text, json_t **out, struct mesh_err *err)
{
	return spec_file_ref(text, "Secret", out, err);
}

int spec_config_ref(const char *text, json_t **out, struct mesh_err *err)
{
	return spec_file_ref(text, "Config", out, err);
}

int spec_host_json(const char *text, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *host = NULL;
	int rc = spec_host(text, &host, err);

	if (!rc)
		*out = json_string(host);
	return rc;
}

int spec_capability_json(const char *text, json_t **out, struct mesh_err *err)
{
	CLEAN_FREE char *cap = spec_capability(text);

	(void)err;
	*out = json_string(cap);
	return 0;
}
