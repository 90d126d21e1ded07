/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One service of the canonical form -> the API's ServiceSpec, field by field as docker's client builds it. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "cli/api.h"
#include "cli/compose/schema.h"
#include "cli/spec.h"
#include "cli/units.h"

struct ctx {
	struct plan *p;
	const char *name; /* of the service, in the file */
	const struct cv *s, *deploy;
	json_t *spec, *container; /* container borrowed from spec */
	struct mesh_err *err;
};

struct texts {
	const char **data;
	size_t len, cap;
};

#define SERVICE_FAIL(x, v, fmt, ...) cv_fail(v, (x)->err, "service %.80s: " fmt, (x)->name, ##__VA_ARGS__)

json_t *json_dict(const struct cv *dict)
{
	json_t *o = json_object();

	CV_EACH(dict, it)
	json_object_set_new(o, it->key, json_string(cv_text(it->v)));
	return o;
}

json_t *json_list(const struct cv *list)
{
	json_t *a = json_array();

	CV_EACH(list, it)
	json_array_append_new(a, json_string(cv_text(it->v)));
	return a;
}

int64_t duration_of(const struct cv *v)
{
	int64_t ns = 0;

	return v && parse_duration(cv_text(v), &ns, NULL) == 0 ? ns : 0;
}

static int64_t bytes_of(const struct cv *v)
{
	int64_t n = 0;

	return v && parse_bytes(cv_text(v), &n, NULL) == 0 ? n : 0;
}

static int64_t cpus_of(const struct cv *v)
{
	int64_t n = 0;

	return v && parse_nano_cpus(cv_text(v), &n, NULL) == 0 ? n : 0;
}

static int64_t int_of(const struct cv *v)
{
	return cv_is(v, CV_INT) ? v->i : 0;
}

json_t *plan_labels(const struct plan *p, const struct cv *labels)
{
	json_t *o = json_dict(labels);

	json_object_set_new(o, STACK_LABEL, json_string(p->stack));
	return o;
}

const char *plan_name(struct plan *p, const char *section, const char *key)
{
	const char *own = cv_at(cv_get(cv_get(p->c->root, section), key), "name");

	if (*own)
		return own;
	if (cv_true(cv_get(cv_get(cv_get(p->c->root, section), key), "external")))
		return key;
	return arena_printf(&p->c->arena, "%s_%s", p->stack, key);
}

/* ---- texts, lists and mappings that only change their name ---------------------------------------- */

static void put_simple(struct ctx *x)
{
	static const struct {
		const char *key, *field;
	} fields[] = {
		{ "image", "Image" },
		{ "hostname", "Hostname" },
		{ "user", "User" },
		{ "working_dir", "Dir" },
		{ "stop_signal", "StopSignal" },
		{ "isolation", "Isolation" },
		{ "entrypoint", "Command" },
		{ "command", "Args" },
		{ "init", "Init" },
		{ "tty", "TTY" },
		{ "stdin_open", "OpenStdin" },
		{ "read_only", "ReadOnly" },
		{ "sysctls", "Sysctls" },
		{ "oom_score_adj", "OomScoreAdj" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct cv *v = cv_get(x->s, fields[i].key);
		json_t *j = NULL;
		if (cv_is(v, CV_STR) && *v->s)
			j = json_string(v->s);
		else if (cv_is(v, CV_BOOL) && (v->i || !strcmp(fields[i].key, "init")))
			j = json_boolean(v->i);
		else if (cv_is(v, CV_INT) && v->i)
			j = json_integer(v->i);
		else if (cv_is(v, CV_LIST) && v->n)
			j = json_list(v);
		else if (cv_is(v, CV_MAP) && v->n)
			j = json_dict(v);
		if (j)
			json_object_set_new(x->container, fields[i].field, j);
	}
	json_object_set_new(x->container, "Labels", plan_labels(x->p, cv_get(x->s, "labels")));
	if (cv_get(x->s, "stop_grace_period"))
		json_object_set_new(x->container, "StopGracePeriod",
		                    json_integer(duration_of(cv_get(x->s, "stop_grace_period"))));
}

static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted_strings(const char **v, size_t n)
{
	json_t *a = json_array();

	qsort(v, n, sizeof(*v), cmp_text);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, json_string(v[i]));
	return a;
}

static void put_env(struct ctx *x)
{
	const struct cv *env = cv_get(x->s, "environment");
	struct texts list = { 0 };

	CV_EACH(env, it)
	vec_push(&list,
	         it->v->kind == CV_NULL ? it->key : arena_printf(&x->p->c->arena, "%s=%s", it->key, cv_text(it->v)));
	if (list.len)
		json_object_set_new(x->container, "Env", sorted_strings(list.data, list.len));
	vec_fini(&list);
}

static void put_hosts(struct ctx *x)
{
	const struct cv *hosts = cv_get(x->s, "extra_hosts");
	json_t *a = json_array();

	CV_EACH(hosts, it)
	{
		const char *colon = strchr(it->v->s, ':');
		CLEAN_FREE char *one =
			colon ? xasprintf("%s %.*s", colon + 1, (int)(colon - it->v->s), it->v->s) : xstrdup(it->v->s);
		json_array_append_new(a, json_string(one));
	}
	if (json_array_size(a))
		json_object_set(x->container, "Hosts", a);
	json_decref(a);
}

static void put_dns(struct ctx *x)
{
	static const char *const keys[][2] = { { "dns", "Nameservers" },
		                               { "dns_search", "Search" },
		                               { "dns_opt", "Options" } };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (cv_get(x->s, keys[i][0])) {
			CLEAN_FREE char *path = xasprintf("DNSConfig.%s", keys[i][1]);
			jset(x->container, path, json_list(cv_get(x->s, keys[i][0])));
		}
}

static bool strs_in(const char **v, size_t n, const char *s)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(v[i], s))
			return true;
	return false;
}

/* Adding wins over dropping; ALL stands for all others. */
static void put_capabilities(struct ctx *x)
{
	static const char *const keys[2] = { "cap_add", "cap_drop" }, *const fields[2] = { "CapabilityAdd",
		                                                                           "CapabilityDrop" };
	struct texts lists[2] = { { 0 } };

	for (int i = 0; i < 2; i++) {
		const struct cv *list = cv_get(x->s, keys[i]);
		bool all = false;
		CV_EACH(list, it)
		all = all || !strcasecmp(it->v->s, "ALL") || !strcasecmp(it->v->s, "CAP_ALL");
		CV_EACH(list, it)
		{
			CLEAN_FREE char *cap = spec_capability(it->v->s);
			const char *c = all ? "ALL" : arena_str(&x->p->c->arena, cap, strlen(cap));
			if (!strs_in(lists[i].data, lists[i].len, c) &&
			    (i == 0 || !strs_in(lists[0].data, lists[0].len, c)))
				vec_push(&lists[i], c);
		}
	}
	for (int i = 0; i < 2; i++) {
		if (lists[i].len)
			json_object_set_new(x->container, fields[i], sorted_strings(lists[i].data, lists[i].len));
		vec_fini(&lists[i]);
	}
}

static int put_groups(struct ctx *x)
{
	const struct cv *groups = cv_get(x->s, "group_add");
	json_t *a = NULL;

	if (groups && groups->kind != CV_LIST)
		return SERVICE_FAIL(x, groups, "group_add must be a list");
	CV_EACH(groups, it)
	{
		if (it->v->kind != CV_STR && it->v->kind != CV_INT) {
			json_decref(a);
			return SERVICE_FAIL(x, it->v, "group_add must be a list of names or numbers");
		}
		a = a ? a : json_array();
		json_array_append_new(a, json_string(it->v->s));
	}
	if (a)
		json_object_set_new(x->container, "Groups", a);
	return 0;
}

/* ---- members with a shape of their own ------------------------------------------------------------ */

static int put_health(struct ctx *x)
{
	static const char *const times[][2] = { { "interval", "Interval" },
		                                { "timeout", "Timeout" },
		                                { "start_period", "StartPeriod" },
		                                { "start_interval", "StartInterval" } };
	const struct cv *h = cv_get(x->s, "healthcheck"), *test = cv_get(h, "test");
	json_t *out;

	if (!cv_is(h, CV_MAP))
		return 0;
	if (cv_true(cv_get(h, "disable"))) {
		if (test && test->n)
			return SERVICE_FAIL(x, test, "test and disable can't be set at the same time");
		json_object_set_new(x->container, "Healthcheck", json_pack("{s:[s]}", "Test", "NONE"));
		return 0;
	}
	if (test && test->n && strcmp(test->items[0].v->s, "CMD") && strcmp(test->items[0].v->s, "CMD-SHELL") &&
	    strcmp(test->items[0].v->s, "NONE"))
		return SERVICE_FAIL(x, test, "healthcheck.test must begin with \"CMD\", \"CMD-SHELL\" or \"NONE\"");
	out = json_object();
	json_object_set_new(x->container, "Healthcheck", out);
	if (test && test->n)
		json_object_set_new(out, "Test", json_list(test));
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		if (duration_of(cv_get(h, times[i][0])))
			json_object_set_new(out, times[i][1], json_integer(duration_of(cv_get(h, times[i][0]))));
	if (int_of(cv_get(h, "retries")))
		json_object_set_new(out, "Retries", json_integer(int_of(cv_get(h, "retries"))));
	return 0;
}

static void put_ulimits(struct ctx *x)
{
	const struct cv *limits = cv_get(x->s, "ulimits");
	struct texts names = { 0 };

	CV_EACH(limits, it)
	vec_push(&names, it->key);
	if (!names.len)
		return;
	json_t *out = json_array();
	qsort(names.data, names.len, sizeof(*names.data), cmp_text);
	for (size_t i = 0; i < names.len; i++) {
		const struct cv *v = cv_get(limits, names.data[i]), *one = cv_get(v, "single");
		json_array_append_new(out, json_pack("{s:s,s:I,s:I}", "Name", names.data[i], "Hard",
		                                     (json_int_t)int_of(one ? one : cv_get(v, "hard")), "Soft",
		                                     (json_int_t)int_of(one ? one : cv_get(v, "soft"))));
	}
	vec_fini(&names);
	json_object_set_new(x->container, "Ulimits", out);
}

/* "no-new-privileges", "seccomp:unconfined" … what the API has a field for; the rest is named. */
static void put_security(struct ctx *x, json_t *privileges)
{
	struct check ck = { x->p->c, &x->p->c->arena };
	const struct cv *opts = cv_get(x->s, "security_opt");

	CV_EACH(opts, it)
	{
		char o[64];
		snprintf(o, sizeof(o), "%s", it->v->s);
		for (char *p = o; *p; p++)
			*p = *p == '=' ? ':' : *p;
		if (!strcmp(o, "no-new-privileges") || !strcmp(o, "no-new-privileges:true"))
			json_object_set_new(privileges, "NoNewPrivileges", json_true());
		else if (!strcmp(o, "seccomp:unconfined"))
			jset(privileges, "Seccomp.Mode", json_string("unconfined"));
		else if (!strcmp(o, "apparmor:unconfined"))
			jset(privileges, "AppArmor.Mode", json_string("disabled"));
		else if (strcmp(o, "no-new-privileges:false"))
			warn_at(&ck, it->v, "services.%s.security_opt: \"%.60s\" is not supported, ignored", x->name,
			        it->v->s);
	}
}

static int put_privileges(struct ctx *x)
{
	const struct cv *cs = cv_get(x->s, "credential_spec");
	json_t *privileges = json_pack("{s:n,s:n,s:b}", "CredentialSpec", "SELinuxContext", "NoNewPrivileges", 0);
	int given = 0;

	json_object_set_new(x->container, "Privileges", privileges);
	put_security(x, privileges);
	if (!cv_is(cs, CV_MAP))
		return 0;
	const char *config = cv_at(cs, "config"), *file = cv_at(cs, "file"), *registry = cv_at(cs, "registry");
	given = !!*config + !!*file + !!*registry;
	if (given > 1)
		return SERVICE_FAIL(x, cs,
		                    "invalid credential spec: cannot specify more than one of \"config\", \"file\" and "
		                    "\"registry\"");
	if (*config && !cv_get(cv_get(x->p->c->root, "configs"), config))
		return SERVICE_FAIL(
			x, cs, "invalid credential spec: spec specifies config %s, but no such config can be found",
			config);
	if (given)
		json_object_set_new(privileges, "CredentialSpec",
		                    json_pack("{s:s,s:s,s:s}", "Config",
		                              *config ? plan_name(x->p, "configs", config) : "", "File", file,
		                              "Registry", registry));
	return 0;
}

static int cmp_ref(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	const char *kind = json_object_get(x, "SecretName") ? "SecretName" : "ConfigName";

	return strcmp(js(x, kind), js(y, kind));
}

/* Secrets and configs by name; who deploys fills in their ids. */
static int put_refs(struct ctx *x, const char *section, const char *field, const char *kind)
{
	const struct cv *refs = cv_get(x->s, section), *known = cv_get(x->p->c->root, section);
	struct VEC(json_t *) list = { 0 };
	CLEAN_FREE char *id = xasprintf("%sID", kind);
	CLEAN_FREE char *name = xasprintf("%sName", kind);
	int rc = 0;

	CV_EACH(refs, it)
	{
		const char *source = cv_at(it->v, "source"), *target = cv_at(it->v, "target");
		const struct cv *mode = cv_get(it->v, "mode");
		if (!cv_get(known, source)) {
			rc = SERVICE_FAIL(x, it->v, "undefined %.*s \"%.80s\"", (int)strlen(section) - 1, section,
			                  source);
			break;
		}
		vec_push(&list, json_pack("{s:{s:s,s:s,s:s,s:I},s:s,s:s}", "File", "Name", *target ? target : source,
		                          "UID", *cv_at(it->v, "uid") ? cv_at(it->v, "uid") : "0", "GID",
		                          *cv_at(it->v, "gid") ? cv_at(it->v, "gid") : "0", "Mode",
		                          (json_int_t)(mode ? int_of(mode) : 0444), id, "", name,
		                          plan_name(x->p, section, source)));
	}
	/* A stable order, or deploying again would look like a change. */
	if (list.len)
		qsort(list.data, list.len, sizeof(*list.data), cmp_ref);
	json_t *out = json_array();
	for (size_t i = 0; i < list.len; i++)
		json_array_append_new(out, list.data[i]);
	if (list.len)
		json_object_set(x->container, field, out);
	json_decref(out);
	vec_fini(&list);
	return rc;
}

static json_t *amounts(const struct cv *v, bool limits)
{
	json_t *o = json_object();

	if (cpus_of(cv_get(v, "cpus")))
		json_object_set_new(o, "NanoCPUs", json_integer(cpus_of(cv_get(v, "cpus"))));
	if (bytes_of(cv_get(v, "memory")))
		json_object_set_new(o, "MemoryBytes", json_integer(bytes_of(cv_get(v, "memory"))));
	if (limits && int_of(cv_get(v, "pids")))
		json_object_set_new(o, "Pids", json_integer(int_of(cv_get(v, "pids"))));
	return o;
}

static void put_resources(struct ctx *x, json_t *task)
{
	const struct cv *r = cv_get(x->deploy, "resources"), *limits = cv_get(r, "limits"),
			*res = cv_get(r, "reservations");
	json_t *out = json_object(), *generic = json_array();

	json_object_set_new(task, "Resources", out);
	if (cv_is(limits, CV_MAP))
		json_object_set_new(out, "Limits", amounts(limits, true));
	if (cv_is(res, CV_MAP))
		json_object_set_new(out, "Reservations", amounts(res, false));
	CV_EACH(cv_get(res, "generic_resources"), it)
	{
		const struct cv *d = cv_get(it->v, "discrete_resource_spec");
		json_array_append_new(generic,
		                      json_pack("{s:{s:s,s:I}}", "DiscreteResourceSpec", "Kind", cv_at(d, "kind"),
		                                "Value", (json_int_t)int_of(cv_get(d, "value"))));
	}
	if (json_array_size(generic))
		jset(out, "Reservations.GenericResources", json_incref(generic));
	json_decref(generic);
	/* The compose specification's short ones; deploy.resources wins. */
	if (cv_get(x->s, "cpus") && !jo(out, "Limits.NanoCPUs"))
		jset(out, "Limits.NanoCPUs", json_integer(cpus_of(cv_get(x->s, "cpus"))));
	if (cv_get(x->s, "pids_limit") && int_of(cv_get(x->s, "pids_limit")) > 0 && !jo(out, "Limits.Pids"))
		jset(out, "Limits.Pids", json_integer(int_of(cv_get(x->s, "pids_limit"))));
	if (cv_get(x->s, "mem_reservation") && !jo(out, "Reservations.MemoryBytes"))
		jset(out, "Reservations.MemoryBytes", json_integer(bytes_of(cv_get(x->s, "mem_reservation"))));
}

/* restart: of a plain compose file; deploy.restart_policy wins. */
static int put_restart_word(struct ctx *x, json_t *task, const struct cv *v)
{
	const char *text = cv_text(v), *colon = strchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	char *end = NULL;
	long attempts = colon ? strtol(colon + 1, &end, 10) : 0;

	if (colon && (end == colon + 1 || *end || attempts < 0))
		return SERVICE_FAIL(x, v, "invalid restart policy format: maximum retry count must be an integer");
	if (!strcmp(text, "") || !strcmp(text, "no"))
		return 0;
	if (!strcmp(text, "always") || !strcmp(text, "unless-stopped"))
		json_object_set_new(task, "RestartPolicy", json_pack("{s:s}", "Condition", "any"));
	else if (n == 10 && !strncmp(text, "on-failure", n))
		json_object_set_new(
			task, "RestartPolicy",
			json_pack("{s:s,s:I}", "Condition", "on-failure", "MaxAttempts", (json_int_t)attempts));
	else
		return SERVICE_FAIL(x, v, "unknown restart policy: %.80s", text);
	return 0;
}

static int put_restart(struct ctx *x, json_t *task)
{
	const struct cv *r = cv_get(x->deploy, "restart_policy");
	json_t *out;

	if (!cv_is(r, CV_MAP))
		return cv_get(x->s, "restart") ? put_restart_word(x, task, cv_get(x->s, "restart")) : 0;
	out = json_object();
	json_object_set_new(task, "RestartPolicy", out);
	if (*cv_at(r, "condition"))
		json_object_set_new(out, "Condition", json_string(cv_at(r, "condition")));
	if (cv_get(r, "delay"))
		json_object_set_new(out, "Delay", json_integer(duration_of(cv_get(r, "delay"))));
	if (cv_get(r, "max_attempts"))
		json_object_set_new(out, "MaxAttempts", json_integer(int_of(cv_get(r, "max_attempts"))));
	if (cv_get(r, "window"))
		json_object_set_new(out, "Window", json_integer(duration_of(cv_get(r, "window"))));
	return 0;
}

static int put_placement(struct ctx *x, json_t *task)
{
	const struct cv *p = cv_get(x->deploy, "placement"), *platform = cv_get(x->s, "platform");
	json_t *out = json_object(), *prefs;

	json_object_set_new(task, "Placement", out);
	if (cv_get(p, "constraints") && cv_get(p, "constraints")->n)
		json_object_set_new(out, "Constraints", json_list(cv_get(p, "constraints")));
	if (cv_get(p, "preferences") && cv_get(p, "preferences")->n) {
		prefs = json_array();
		CV_EACH(cv_get(p, "preferences"), it)
		json_array_append_new(prefs,
		                      json_pack("{s:{s:s}}", "Spread", "SpreadDescriptor", cv_at(it->v, "spread")));
		json_object_set_new(out, "Preferences", prefs);
	}
	if (int_of(cv_get(p, "max_replicas_per_node")))
		json_object_set_new(out, "MaxReplicas", json_integer(int_of(cv_get(p, "max_replicas_per_node"))));
	if (platform) {
		const char *slash = strchr(platform->s, '/');
		if (!slash)
			return SERVICE_FAIL(x, platform, "platform must be os/architecture: \"%.60s\"", platform->s);
		json_object_set_new(out, "Platforms",
		                    json_pack("[{s:s,s:s%}]", "Architecture", slash + 1, "OS", platform->s,
		                              (size_t)(slash - platform->s)));
	}
	return 0;
}

static void put_logging(struct ctx *x, json_t *task)
{
	const struct cv *l = cv_get(x->s, "logging");

	if (!cv_is(l, CV_MAP))
		return;
	json_t *out = json_pack("{s:s}", "Name", cv_at(l, "driver"));
	if (cv_get(l, "options") && cv_get(l, "options")->n)
		json_object_set_new(out, "Options", json_dict(cv_get(l, "options")));
	json_object_set_new(task, "LogDriver", out);
}

/* ---- networks ------------------------------------------------------------------------------------- */

static int put_network(struct ctx *x, json_t *list, const char *name, const struct cv *v)
{
	const char *target = plan_name(x->p, "networks", name);
	bool special = !strcmp(target, "host") || !strcmp(target, "none") || !strcmp(target, "bridge");
	json_t *aliases, *one;

	if (strcmp(name, "default") && !cv_get(cv_get(x->p->c->root, "networks"), name))
		return SERVICE_FAIL(x, v ? v : x->s, "undefined network \"%.80s\"", name);
	aliases = json_list(cv_get(v, "aliases"));
	if (!special)
		json_array_append_new(aliases, json_string(x->name));
	one = json_pack("{s:s}", "Target", target);
	if (json_array_size(aliases))
		json_object_set(one, "Aliases", aliases);
	json_decref(aliases);
	if (cv_get(v, "driver_opts") && cv_get(v, "driver_opts")->n)
		json_object_set_new(one, "DriverOpts", json_dict(cv_get(v, "driver_opts")));
	json_array_append_new(list, one);
	return 0;
}

static int cmp_target(const void *a, const void *b)
{
	return strcmp(js(*(json_t *const *)a, "Target"), js(*(json_t *const *)b, "Target"));
}

static void sort_array(json_t *a, int (*cmp)(const void *, const void *))
{
	size_t n = json_array_size(a);
	json_t **v = xcalloc(n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = json_incref(json_array_get(a, i));
	qsort(v, n, sizeof(*v), cmp);
	json_array_clear(a);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, v[i]);
	free(v);
}

static int put_networks(struct ctx *x, json_t *task)
{
	const struct cv *nets = cv_get(x->s, "networks");
	json_t *list = json_array();
	int rc = 0;

	json_object_set_new(task, "Networks", list);
	if (!cv_is(nets, CV_MAP) || !nets->n)
		return put_network(x, list, "default", NULL);
	CV_EACH(nets, it)
	if (!rc)
		rc = put_network(x, list, it->key, it->v);
	sort_array(list, cmp_target);
	return rc;
}

/* ---- the service around its tasks ----------------------------------------------------------------- */

static int put_mode(struct ctx *x)
{
	const char *mode = cv_at(x->deploy, "mode");
	const struct cv *replicas = cv_get(x->deploy, "replicas");
	json_t *out = json_object();

	if (!replicas)
		replicas = cv_get(x->s, "scale");
	json_object_set_new(x->spec, "Mode", out);
	if (replicas && replicas->i < 0)
		return SERVICE_FAIL(x, replicas, "cannot parse 'Deploy.Replicas', %lld overflows uint",
		                    (long long)replicas->i);
	if (!strcmp(mode, "global") || !strcmp(mode, "global-job")) {
		if (replicas)
			return SERVICE_FAIL(x, replicas,
			                    "replicas can only be used with replicated or replicated-job mode");
		json_object_set_new(out, mode[6] ? "GlobalJob" : "Global", json_object());
	} else if (!strcmp(mode, "replicated-job")) {
		json_t *job = json_object();
		json_object_set_new(out, "ReplicatedJob", job);
		if (replicas) {
			json_object_set_new(job, "MaxConcurrent", json_integer(replicas->i));
			json_object_set_new(job, "TotalCompletions", json_integer(replicas->i));
		}
	} else if (!*mode || !strcmp(mode, "replicated")) {
		json_object_set_new(out, "Replicated", json_object());
		if (replicas)
			jset(out, "Replicated.Replicas", json_integer(replicas->i));
	} else {
		return SERVICE_FAIL(x, cv_get(x->deploy, "mode"), "Unknown mode: %.80s", mode);
	}
	return 0;
}

static void put_update(struct ctx *x, const char *key, const char *field)
{
	const struct cv *u = cv_get(x->deploy, key), *ratio = cv_get(u, "max_failure_ratio");
	json_t *out;

	if (!cv_is(u, CV_MAP))
		return;
	out = json_pack("{s:I,s:f}", "Parallelism",
	                (json_int_t)(cv_get(u, "parallelism") ? int_of(cv_get(u, "parallelism")) : 1),
	                "MaxFailureRatio", ratio ? ratio->f : 0.0);
	if (duration_of(cv_get(u, "delay")))
		json_object_set_new(out, "Delay", json_integer(duration_of(cv_get(u, "delay"))));
	if (duration_of(cv_get(u, "monitor")))
		json_object_set_new(out, "Monitor", json_integer(duration_of(cv_get(u, "monitor"))));
	if (*cv_at(u, "failure_action"))
		json_object_set_new(out, "FailureAction", json_string(cv_at(u, "failure_action")));
	if (*cv_at(u, "order"))
		json_object_set_new(out, "Order", json_string(cv_at(u, "order")));
	json_object_set_new(x->spec, field, out);
}

static int cmp_port(const void *a, const void *b)
{
	int64_t x = ji(*(json_t *const *)a, "PublishedPort"), y = ji(*(json_t *const *)b, "PublishedPort");

	if (x == y) {
		x = ji(*(json_t *const *)a, "TargetPort");
		y = ji(*(json_t *const *)b, "TargetPort");
	}
	return x == y  ? strcmp(js(*(json_t *const *)a, "Protocol"), js(*(json_t *const *)b, "Protocol"))
	       : x < y ? -1
	               : 1;
}

static int put_endpoint(struct ctx *x)
{
	char mode[16];
	json_t *out = json_object(), *ports = json_array();
	int rc = 0;

	json_object_set_new(x->spec, "EndpointSpec", out);
	snprintf(mode, sizeof(mode), "%s", cv_at(x->deploy, "endpoint_mode"));
	for (char *p = mode; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (*mode)
		json_object_set_new(out, "Mode", json_string(mode));
	CV_EACH(cv_get(x->s, "ports"), it)
	{
		int64_t target = int_of(cv_get(it->v, "target")), published = int_of(cv_get(it->v, "published"));
		if (target < 1 || target > 65535 || published < 0 || published > 65535)
			rc = SERVICE_FAIL(x, it->v, "ports are from 1 to 65535");
		json_t *one =
			json_pack("{s:s,s:I}", "Protocol", cv_at(it->v, "protocol"), "TargetPort", (json_int_t)target);
		if (published)
			json_object_set_new(one, "PublishedPort", json_integer(published));
		if (*cv_at(it->v, "name"))
			json_object_set_new(one, "Name", json_string(cv_at(it->v, "name")));
		json_object_set_new(one, "PublishMode", json_string(cv_at(it->v, "mode")));
		json_array_append_new(ports, one);
	}
	sort_array(ports, cmp_port);
	if (json_array_size(ports))
		json_object_set(out, "Ports", ports);
	json_decref(ports);
	return rc;
}

static int put_container(struct ctx *x)
{
	json_t *mounts = NULL;
	int rc;

	put_simple(x);
	put_env(x);
	put_hosts(x);
	put_dns(x);
	put_capabilities(x);
	put_ulimits(x);
	rc = put_groups(x);
	if (!rc)
		rc = put_privileges(x);
	if (!rc)
		rc = put_health(x);
	if (!rc)
		rc = put_refs(x, "secrets", "Secrets", "Secret");
	if (!rc)
		rc = put_refs(x, "configs", "Configs", "Config");
	if (!rc)
		rc = service_mounts(x->p, x->name, x->s, &mounts, x->err);
	if (mounts && json_array_size(mounts))
		json_object_set(x->container, "Mounts", mounts);
	json_decref(mounts);
	return rc;
}

int service_body(struct plan *p, const char *name, const struct cv *s, json_t **out, struct mesh_err *err)
{
	struct ctx x = { p, name, s, cv_get(s, "deploy"), json_object(), NULL, err };
	json_t *task = json_object();
	CLEAN_FREE char *scoped = xasprintf("%s_%s", p->stack, name);
	json_t *labels = plan_labels(p, cv_get(x.deploy, "labels"));
	int rc;

	*out = x.spec;
	json_object_set_new(x.spec, "Name", json_string(scoped));
	json_object_set_new(labels, STACK_IMAGE_LABEL, json_string(cv_at(s, "image")));
	service_addresses(p, name, s, labels);
	json_object_set_new(x.spec, "Labels", labels);
	json_object_set_new(x.spec, "TaskTemplate", task);
	x.container = json_object();
	json_object_set_new(task, "ContainerSpec", x.container);
	rc = put_container(&x);
	put_resources(&x, task);
	put_logging(&x, task);
	if (!rc)
		rc = put_restart(&x, task);
	if (!rc)
		rc = put_placement(&x, task);
	if (!rc)
		rc = put_networks(&x, task);
	json_object_set_new(task, "ForceUpdate", json_integer(0));
	if (!rc)
		rc = put_mode(&x);
	put_update(&x, "update_config", "UpdateConfig");
	put_update(&x, "rollback_config", "RollbackConfig");
	return rc < 0 ? rc : put_endpoint(&x);
}
