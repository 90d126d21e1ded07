/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.json: the process: arguments, environment, user, capabilities, limits; and that of an exec. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "control/agent/oci_parts.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *const default_caps[] = {
	"CHOWN",  "DAC_OVERRIDE", "FSETID",  "FOWNER",           "MKNOD",      "NET_RAW", "SETGID",
	"SETUID", "SETFCAP",      "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",    "AUDIT_WRITE",
};

int oci_caps_of(const struct oci_in *in, uint64_t *out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	uint64_t caps = 0;
	for (size_t i = 0; i < ARRAY_SIZE(default_caps); i++)
		caps |= 1ull << oci_cap_parse(default_caps[i]);
	for (size_t i = 0; i < c->cap_drop.n; i++)
		if (!strcasecmp(c->cap_drop.v[i], "ALL"))
			caps = 0;
	for (size_t i = 0; i < c->cap_add.n; i++) {
		int cap = oci_cap_parse(c->cap_add.v[i]);
		if (!strcasecmp(c->cap_add.v[i], "ALL"))
			caps |= in->host->caps;
		else if (cap < 0)
			return mesh_fail(err, MESH_E_INVALID, "unknown capability: \"%s\"", c->cap_add.v[i]);
		else if (cap > in->host->cap_last || !(in->host->caps >> cap & 1))
			return mesh_fail(err, MESH_E_UNSUPPORTED, "capability %s is not available on this node",
			                 oci_cap_name(cap));
		else
			caps |= 1ull << cap;
	}
	for (size_t i = 0; i < c->cap_drop.n; i++) {
		int cap = oci_cap_parse(c->cap_drop.v[i]);
		if (cap >= 0)
			caps &= ~(1ull << cap);
		else if (strcasecmp(c->cap_drop.v[i], "ALL"))
			return mesh_fail(err, MESH_E_INVALID, "unknown capability: \"%s\"", c->cap_drop.v[i]);
	}
	*out = caps & in->host->caps;
	return 0;
}

static json_t *cap_list(uint64_t caps)
{
	json_t *a = json_array();
	for (int i = 0; oci_cap_name(i); i++)
		if (caps >> i & 1)
			json_array_append_new(a, jstr(oci_cap_name(i)));
	return a;
}

/* A process that is not root starts with none of them, and may only regain them through setuid files. */
static json_t *caps_json(uint64_t caps, bool root)
{
	json_t *o = json_object();
	json_object_set_new(o, "bounding", cap_list(caps));
	json_object_set_new(o, "effective", cap_list(root ? caps : 0));
	json_object_set_new(o, "permitted", cap_list(root ? caps : 0));
	json_object_set_new(o, "inheritable", json_array());
	return o;
}

static json_t *user_json(const struct oci_user *u)
{
	json_t *o = json_pack("{s:I,s:I}", "uid", (json_int_t)u->uid, "gid", (json_int_t)u->gid);
	json_t *groups = json_array();
	for (size_t i = 0; i < u->n; i++)
		json_array_append_new(groups, json_integer(u->groups[i]));
	if (u->n)
		json_object_set_new(o, "additionalGids", groups);
	else
		json_decref(groups);
	return o;
}

static bool same_key(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");
	return n == strcspn(b, "=") && !strncmp(a, b, n);
}

static void env_put(struct str_list *l, const char *entry)
{
	for (size_t i = 0; i < l->n; i++)
		if (same_key(l->v[i], entry)) {
			if (strchr(entry, '='))
				str_set(&l->v[i], entry);
			else
				str_set(&l->v[i], ""); /* "NAME" alone takes it out */
			return;
		}
	if (strchr(entry, '='))
		strs_add(l, entry);
}

static bool env_has(const struct str_list *l, const char *key)
{
	for (size_t i = 0; i < l->n; i++)
		if (same_key(l->v[i], key))
			return true;
	return false;
}

/* "DOCKER_RESOURCE_GPU=uuid-1,uuid-2": which generic resources the task was given, as the engine says it. */
static void put_resources(struct str_list *l, const struct md_task *t)
{
	for (size_t i = 0; i < t->generic.n; i++) {
		const struct md_generic *g = &t->generic.v[i];
		const char *kind = g->named ? g->named->kind : g->discrete ? g->discrete->kind : NULL;
		if (!kind)
			continue;
		char *key = xasprintf("DOCKER_RESOURCE_%s=", kind), *entry;
		for (char *p = key; *p; p++)
			*p = (char)toupper((unsigned char)*p);
		size_t at = 0;
		while (at < l->n && !same_key(l->v[at], key))
			at++;
		if (g->named && at < l->n)
			entry = xasprintf("%s,%s", l->v[at], g->named->value);
		else if (g->named)
			entry = xasprintf("%s%s", key, g->named->value);
		else
			entry = xasprintf("%s%lld", key, (long long)g->discrete->value);
		env_put(l, entry);
		free(entry);
		free(key);
	}
}

/* Image, then spec (with placeholders), then extra; what is missing of PATH, HOSTNAME, TERM, HOME is added. */
static int env_make(const struct oci_in *in, const char *hostname, const char *home, bool tty,
                    const struct str_list *extra, json_t **out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct str_list l = { 0 };
	int rc = 0;
	strs_add(&l, DEFAULT_PATH);
	CLEAN_FREE char *host_entry = xasprintf("HOSTNAME=%s", hostname);
	strs_add(&l, host_entry);
	if (tty)
		strs_add(&l, "TERM=xterm");
	for (size_t i = 0; in->image && i < in->image->env.n; i++)
		env_put(&l, in->image->env.v[i]);
	for (size_t i = 0; i < c->env.n && !rc; i++) {
		char *text = NULL;
		rc = tmpl_expand_env(in->vars, c->env.v[i], &text, err);
		if (!rc)
			env_put(&l, text);
		free(text);
	}
	put_resources(&l, in->task);
	for (size_t i = 0; extra && i < extra->n; i++)
		env_put(&l, extra->v[i]);
	if (!env_has(&l, "HOME=")) {
		CLEAN_FREE char *entry = xasprintf("HOME=%s", home);
		strs_add(&l, entry);
	}
	json_t *a = json_array();
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i][0])
			json_array_append_new(a, jstr(l.v[i]));
	strs_clear(&l);
	if (rc)
		json_decref(a);
	else
		*out = a;
	return rc;
}

static int args_make(const struct oci_in *in, json_t **out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	const struct str_list none = { 0 };
	const struct str_list *entry = c->command.n ? &c->command : in->image ? &in->image->entrypoint : &none;
	const struct str_list *cmd = c->args.n || c->command.n ? &c->args : in->image ? &in->image->cmd : &none;
	if (!entry->n && !cmd->n)
		return mesh_fail(err, MESH_E_INVALID, "no command specified");
	json_t *a = json_array();
	if (c->init.set && c->init.v) {
		json_array_append_new(a, jstr("/sbin/docker-init"));
		json_array_append_new(a, jstr("--"));
	}
	json_t *e = jlist(entry), *m = jlist(cmd);
	json_array_extend(a, e);
	json_array_extend(a, m);
	json_decref(e);
	json_decref(m);
	*out = a;
	return 0;
}

static json_t *rlimits_json(const struct oci_in *in)
{
	static const struct {
		const char *name;
		int resource;
	} table[] = {
		{ "CORE", RLIMIT_CORE },         { "CPU", RLIMIT_CPU },
		{ "DATA", RLIMIT_DATA },         { "FSIZE", RLIMIT_FSIZE },
		{ "LOCKS", RLIMIT_LOCKS },       { "MEMLOCK", RLIMIT_MEMLOCK },
		{ "MSGQUEUE", RLIMIT_MSGQUEUE }, { "NICE", RLIMIT_NICE },
		{ "NOFILE", RLIMIT_NOFILE },     { "NPROC", RLIMIT_NPROC },
		{ "RSS", RLIMIT_RSS },           { "RTPRIO", RLIMIT_RTPRIO },
		{ "RTTIME", RLIMIT_RTTIME },     { "SIGPENDING", RLIMIT_SIGPENDING },
		{ "STACK", RLIMIT_STACK },
	};
	const struct md_container_spec *c = in->task->spec.container;
	bool may_raise = in->host->caps >> oci_cap_parse("SYS_RESOURCE") & 1;
	json_t *a = json_array();
	for (size_t i = 0; i < c->ulimits.n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(table); k++) {
			const struct md_ulimit *u = &c->ulimits.v[i];
			if (!u->name || strcasecmp(u->name, table[k].name))
				continue;
			uint64_t hard = u->hard < 0 ? UINT64_MAX : (uint64_t)u->hard, top = UINT64_MAX;
			uint64_t soft = u->soft < 0 ? UINT64_MAX : (uint64_t)u->soft;
			if (!may_raise)
				top = in->host->rlimit_hard(table[k].resource);
			hard = hard < top ? hard : top;
			soft = soft < hard ? soft : hard;
			char name[32];
			snprintf(name, sizeof(name), "RLIMIT_%s", table[k].name);
			/* JSON has no unsigned 64 bits in jansson: infinity is what a signed one can hold. */
			json_int_t h = hard > INT64_MAX ? INT64_MAX : (json_int_t)hard;
			json_int_t s = soft > INT64_MAX ? INT64_MAX : (json_int_t)soft;
			json_array_append_new(a, json_pack("{s:s,s:I,s:I}", "type", name, "hard", h, "soft", s));
		}
	return a;
}

static const char *dir_of(const struct oci_in *in)
{
	const struct md_container_spec *c = in->task->spec.container;
	if (c->dir && *c->dir)
		return c->dir;
	return in->image && in->image->dir && *in->image->dir ? in->image->dir : "/";
}

static const char *user_of(const struct oci_in *in)
{
	const struct md_container_spec *c = in->task->spec.container;
	if (c->user && *c->user)
		return c->user;
	return in->image ? in->image->user : NULL;
}

static bool no_new_privs(const struct oci_in *in)
{
	const struct md_privileges *p = in->task->spec.container->privileges;
	return p && p->no_new_privileges;
}

int oci_process_make(const struct oci_in *in, const char *hostname, uint64_t caps, json_t **out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct oci_user u;
	json_t *args = NULL, *env = NULL;
	int rc = oci_user_resolve(user_of(in), &c->groups, in->passwd, in->group, &u, err);
	if (!rc)
		rc = args_make(in, &args, err);
	if (!rc)
		rc = env_make(in, hostname, u.home, c->tty, NULL, &env, err);
	if (rc) {
		json_decref(args);
		return rc;
	}
	json_t *p = json_object();
	json_object_set_new(p, "terminal", json_boolean(c->tty));
	json_object_set_new(p, "user", user_json(&u));
	json_object_set_new(p, "args", args);
	json_object_set_new(p, "env", env);
	json_object_set_new(p, "cwd", jstr(dir_of(in)));
	json_object_set_new(p, "capabilities", caps_json(caps, u.uid == 0));
	json_object_set_new(p, "rlimits", rlimits_json(in));
	json_object_set_new(p, "noNewPrivileges", json_boolean(no_new_privs(in)));
	if (c->oom_score_adj)
		json_object_set_new(p, "oomScoreAdj", json_integer(c->oom_score_adj));
	*out = p;
	return 0;
}

int oci_exec_make(const struct oci_in *in, const struct agent_exec_spec *spec, char **json, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct oci_user u;
	uint64_t caps;
	json_t *env = NULL;
	const char *user = spec->user && *spec->user ? spec->user : user_of(in);
	if (!spec->cmd.n)
		return mesh_fail(err, MESH_E_INVALID, "No exec command specified");
	int rc = oci_user_resolve(user, &c->groups, in->passwd, in->group, &u, err);
	if (!rc)
		rc = oci_caps_of(in, &caps, err);
	CLEAN_FREE char *hostname = NULL;
	if (!rc)
		rc = tmpl_expand_str(in->vars, c->hostname, &hostname, err);
	CLEAN_FREE char *short_id = xstrndup(in->container_id, 12);
	if (!rc)
		rc = env_make(in, *hostname ? hostname : short_id, u.home, spec->tty, &spec->env, &env, err);
	if (rc)
		return rc;
	if (spec->privileged)
		caps = in->host->caps;
	json_t *p = json_object();
	json_object_set_new(p, "terminal", json_boolean(spec->tty));
	json_object_set_new(p, "user", user_json(&u));
	json_object_set_new(p, "args", jlist(&spec->cmd));
	json_object_set_new(p, "env", env);
	json_object_set_new(p, "cwd", jstr(spec->dir && *spec->dir ? spec->dir : dir_of(in)));
	json_object_set_new(p, "capabilities", caps_json(caps, u.uid == 0));
	json_object_set_new(p, "rlimits", rlimits_json(in));
	json_object_set_new(p, "noNewPrivileges", json_boolean(no_new_privs(in)));
	if (spec->tty && spec->rows && spec->cols)
		json_object_set_new(p, "consoleSize",
		                    json_pack("{s:i,s:i}", "height", spec->rows, "width", spec->cols));
	return oci_dump(p, json, err);
}
