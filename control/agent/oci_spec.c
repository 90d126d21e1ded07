/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/oci_spec.h"

#include <ctype.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/mem.h"

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* ---- names ---- */

static const char *const cap_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};
static const char *const default_caps[] = {
	"CHOWN",  "DAC_OVERRIDE", "FSETID",  "FOWNER",           "MKNOD",      "NET_RAW", "SETGID",
	"SETUID", "SETFCAP",      "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL",    "AUDIT_WRITE",
};

int oci_cap_parse(const char *name)
{
	if (!name)
		return -1;
	if (!strncasecmp(name, "CAP_", 4))
		name += 4;
	for (size_t i = 0; i < ARRAY_SIZE(cap_names); i++)
		if (!strcasecmp(name, cap_names[i] + 4))
			return (int)i;
	return -1;
}

const char *oci_cap_name(int cap)
{
	return cap >= 0 && (size_t)cap < ARRAY_SIZE(cap_names) ? cap_names[cap] : NULL;
}

int oci_signal_parse(const char *s)
{
	char *end;
	if (!s || !*s)
		return 0;
	long v = strtol(s, &end, 10);
	if (!*end)
		return v > 0 && v < 65 ? (int)v : 0;
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	if (!strncasecmp(s, "RTMIN", 5) || !strncasecmp(s, "RTMAX", 5)) {
		/* Docker counts real-time signals from the kernel's 34 and 64. */
		int base = toupper((unsigned char)s[3]) == 'I' ? 34 : 64;
		v = s[5] ? strtol(s + 5, &end, 10) : 0;
		if ((s[5] && *end) || v < -64 || v > 64)
			return 0;
		return base + v >= 34 && base + v < 65 ? (int)(base + v) : 0;
	}
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && !strcasecmp(s, sigabbrev_np(i)))
			return i;
	return 0;
}

/* ---- the machine ---- */

static uint64_t rlimit_hard(int resource)
{
	struct rlimit r;
	return getrlimit((__rlimit_resource_t)resource, &r) ? 0 : r.rlim_max;
}

void oci_host_probe(struct oci_host *h)
{
	*h = (struct oci_host){ .rlimit_hard = rlimit_hard, .cap_last = -1 };
	for (int cap = 0; cap < (int)ARRAY_SIZE(cap_names); cap++) {
		int have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (have < 0)
			break;
		h->cap_last = cap;
		h->caps |= (uint64_t)have << cap;
	}
}

/* ---- json ---- */

static json_t *jstr(const char *s)
{
	return json_string_nocheck(s ? s : ""); /* bad UTF-8 fails the dump, with a story */
}

static json_t *jstrs(const char *const *v, size_t n)
{
	json_t *a = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, jstr(v[i]));
	return a;
}

static json_t *jlist(const struct str_list *l)
{
	return jstrs((const char *const *)l->v, l->n);
}

static int dump(json_t *root, char **out, struct mesh_err *err)
{
	*out = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return *out ? 0 : mesh_fail(err, MESH_E_INVALID, "a value of the spec or the image is not UTF-8");
}

/* ---- process ---- */

static int caps_of(const struct oci_in *in, uint64_t *out, struct mesh_err *err)
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
			                 cap_names[cap]);
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
	for (size_t i = 0; i < ARRAY_SIZE(cap_names); i++)
		if (caps >> i & 1)
			json_array_append_new(a, jstr(cap_names[i]));
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

static int process_make(const struct oci_in *in, const char *hostname, uint64_t caps, json_t **out,
                        struct mesh_err *err)
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

/* ---- mounts ---- */

struct mounts {
	json_t *list;
	const struct oci_in *in;
	struct oci_out *out;
};

static json_t *add_mount(json_t *list, const char *type, const char *source, const char *target, const char *options)
{
	json_t *o = json_array(), *m = json_object();
	CLEAN_FREE char *copy = xstrdup(options);
	char *save = NULL;
	for (char *s = strtok_r(copy, ",", &save); s; s = strtok_r(NULL, ",", &save))
		json_array_append_new(o, jstr(s));
	json_object_set_new(m, "destination", jstr(target));
	json_object_set_new(m, "type", jstr(type));
	json_object_set_new(m, "source", jstr(source));
	json_object_set_new(m, "options", o);
	json_array_append_new(list, m);
	return m;
}

static bool has_mount(const json_t *list, const char *target)
{
	size_t i;
	json_t *m;
	json_array_foreach(list, i,
	                   m) if (streq(json_string_value(json_object_get(m, "destination")), target)) return true;
	return false;
}

static int mount_bind(struct mounts *ms, const struct md_mount *m, const char *source, const char *target,
                      struct mesh_err *err)
{
	const struct md_bind_options *b = m->bind;
	const char *prop = b && b->propagation && *b->propagation ? b->propagation : "rprivate";
	char options[128];
	if (source[0] != '/')
		return mesh_fail(
			err, MESH_E_INVALID,
			"invalid mount config for type \"bind\": invalid mount path: '%s' mount path must be absolute",
			source);
	snprintf(options, sizeof(options), "%s,%.32s,%s", b && b->non_recursive ? "bind" : "rbind", prop,
	         !m->read_only                       ? "rw"
	         : b && b->read_only_force_recursive ? "rro"
	                                             : "ro");
	add_mount(ms->list, "bind", source, target, options);
	strs_add(b && b->create_mountpoint ? &ms->out->mkdirs : &ms->out->sources, source);
	return 0;
}

static int expand_map(const struct tmpl_vars *vars, const struct str_map *in, struct str_map *out, struct mesh_err *err)
{
	int rc = 0;
	for (size_t i = 0; i < in->n && !rc; i++) {
		CLEAN_FREE char *value = NULL;
		rc = tmpl_expand_str(vars, in->v[i].value, &value, err);
		if (!rc)
			smap_set(out, in->v[i].key, value);
	}
	return rc;
}

/* Where it is on this node, made when there is none yet; placeholders also in its labels and options. */
static int named_volume(struct mounts *ms, const struct md_mount *m, const char *source, const char *target,
                        struct oci_volume *v, struct mesh_err *err)
{
	struct md_mount named = *m;
	struct md_volume_options o = m->volume ? *m->volume : (struct md_volume_options){ 0 };
	struct md_driver driver = o.driver ? *o.driver : (struct md_driver){ 0 };
	struct str_map labels = { 0 }, options = { 0 };
	int rc = expand_map(ms->in->vars, &o.labels, &labels, err);
	if (!rc)
		rc = expand_map(ms->in->vars, &driver.options, &options, err);
	o.labels = labels;
	driver.options = options;
	o.driver = o.driver ? &driver : NULL;
	named.source = (char *)source;
	named.target = (char *)target;
	named.volume = m->volume ? &o : NULL;
	if (!rc)
		rc = ms->in->volume(ms->in->arg, &named, v, err);
	smap_clear(&labels);
	smap_clear(&options);
	return rc;
}

static int mount_volume(struct mounts *ms, const struct md_mount *m, const char *source, const char *target,
                        struct mesh_err *err)
{
	struct oci_volume v = { 0 };
	if (*source) {
		int rc = named_volume(ms, m, source, target, &v, err);
		if (rc)
			return rc;
	} else {
		/* Anonymous: lives and goes with the task. */
		snprintf(v.path, sizeof(v.path), "%s/anon/%zu", ms->in->dir, ms->out->mkdirs.n);
		strs_add(&ms->out->mkdirs, v.path);
	}
	if (v.type[0]) {
		char options[600];
		snprintf(options, sizeof(options), "%s%s%s", v.options, v.options[0] ? "," : "",
		         m->read_only ? "ro" : "rw");
		add_mount(ms->list, v.type, v.path, target, options);
		return 0;
	}
	CLEAN_FREE char *path = m->volume && m->volume->subpath && *m->volume->subpath
	                                ? xasprintf("%s/%s", v.path, m->volume->subpath)
	                                : xstrdup(v.path);
	if (m->volume && m->volume->subpath && strstr(m->volume->subpath, ".."))
		return mesh_fail(err, MESH_E_INVALID, "volume subpath '%s' must not contain '..'", m->volume->subpath);
	add_mount(ms->list, "bind", path, target, m->read_only ? "rbind,rprivate,ro" : "rbind,rprivate,rw");
	if (path && m->volume && m->volume->subpath && *m->volume->subpath)
		strs_add(&ms->out->sources, path);
	else if (!(m->volume && m->volume->no_copy)) {
		struct oci_copy *copy = LIST_ADD(&ms->out->copies);
		copy->path = xstrdup(v.path);
		copy->target = xstrdup(target);
	}
	return 0;
}

static void mount_tmpfs(struct mounts *ms, const struct md_mount *m, const char *target)
{
	char options[160];
	int n = snprintf(options, sizeof(options), "nosuid,nodev,noexec");
	if (m->read_only)
		n += snprintf(options + n, sizeof(options) - (size_t)n, ",ro");
	if (m->tmpfs && m->tmpfs->size_bytes)
		n += snprintf(options + n, sizeof(options) - (size_t)n, ",size=%lld", (long long)m->tmpfs->size_bytes);
	if (m->tmpfs && m->tmpfs->mode)
		snprintf(options + n, sizeof(options) - (size_t)n, ",mode=%o", m->tmpfs->mode);
	add_mount(ms->list, "tmpfs", "tmpfs", target, options);
}

static int mount_one(struct mounts *ms, const struct md_mount *m, struct mesh_err *err)
{
	CLEAN_FREE char *source = NULL;
	CLEAN_FREE char *target = NULL;
	int rc = tmpl_expand_str(ms->in->vars, m->source, &source, err);
	if (!rc)
		rc = tmpl_expand_str(ms->in->vars, m->target, &target, err);
	if (rc)
		return rc;
	if (target[0] != '/')
		return mesh_fail(
			err, MESH_E_INVALID,
			"invalid mount config for type \"%s\": invalid mount path: '%s' mount path must be absolute",
			md_mount_type_names.names[m->type], target);
	switch (m->type) {
	case MD_MOUNT_UNSET:
	case MD_MOUNT_VOLUME:
		return mount_volume(ms, m, source, target, err);
	case MD_MOUNT_BIND:
		return mount_bind(ms, m, source, target, err);
	case MD_MOUNT_TMPFS:
		mount_tmpfs(ms, m, target);
		return 0;
	default:
		return mesh_fail(err, MESH_E_UNSUPPORTED, "mounts of type \"%s\" are not supported on this node",
		                 md_mount_type_names.names[m->type]);
	}
}

char *oci_file_path(const struct md_file_target *f, const char *name, const char *dir)
{
	const char *path = f && f->name && *f->name ? f->name : name ? name : "";
	return path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", dir, path);
}

/* Files 0..n of TASK/files, secrets first: the order in which agent_uv.c hands them to the shim. */
static void mount_files(struct mounts *ms)
{
	const struct md_container_spec *c = ms->in->task->spec.container;
	size_t n = 0;
	for (size_t i = 0; i < c->secrets.n; i++, n++) {
		const struct md_secret_ref *r = &c->secrets.v[i];
		CLEAN_FREE char *target = oci_file_path(r->file, r->secret_name, "/run/secrets");
		CLEAN_FREE char *source = xasprintf("%s/files/%zu", ms->in->dir, n);
		add_mount(ms->list, "bind", source, target, "bind,rprivate,ro,nosuid,nodev,noexec");
	}
	for (size_t i = 0; i < c->configs.n; i++, n++) {
		const struct md_config_ref *r = &c->configs.v[i];
		if (r->runtime)
			continue;
		CLEAN_FREE char *target = oci_file_path(r->file, r->config_name, "");
		CLEAN_FREE char *source = xasprintf("%s/files/%zu", ms->in->dir, n);
		add_mount(ms->list, "bind", source, target, "bind,rprivate,ro,nosuid,nodev");
	}
}

static int depth_of(const char *path)
{
	int n = 0;
	for (; *path; path++)
		n += *path == '/' && path[1];
	return n;
}

/* Parents before children; the order given otherwise. */
static json_t *sort_mounts(json_t *list)
{
	json_t *out = json_array();
	for (int depth = 0, left = (int)json_array_size(list); left > 0 && depth < 256; depth++) {
		size_t i;
		json_t *m;
		json_array_foreach(list, i, m)
		{
			if (depth_of(json_string_value(json_object_get(m, "destination"))) != depth)
				continue;
			json_array_append(out, m);
			left--;
		}
	}
	json_decref(list);
	return out;
}

static void base_mounts(json_t *l)
{
	add_mount(l, "proc", "proc", "/proc", "nosuid,noexec,nodev");
	add_mount(l, "tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=65536k");
	add_mount(l, "devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5");
	add_mount(l, "sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro");
	add_mount(l, "cgroup", "cgroup", "/sys/fs/cgroup", "ro,nosuid,noexec,nodev");
	add_mount(l, "mqueue", "mqueue", "/dev/mqueue", "nosuid,noexec,nodev");
	add_mount(l, "tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777,size=65536k");
}

static void own_file(struct mounts *ms, const char *name, const char *target)
{
	CLEAN_FREE char *source = xasprintf("%s/%s", ms->in->dir, name);
	if (!has_mount(ms->list, target))
		add_mount(ms->list, "bind", source, target, "rbind,rprivate,rw");
}

static int mounts_make(const struct oci_in *in, struct oci_out *out, json_t **list, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct mounts ms = { json_array(), in, out };
	int rc = 0;
	for (size_t i = 0; i < c->mounts.n && !rc; i++)
		rc = mount_one(&ms, &c->mounts.v[i], err);
	if (rc) {
		json_decref(ms.list);
		return rc;
	}
	for (size_t i = 0; in->image && i < in->image->volumes.n; i++) {
		struct md_mount m = { .type = MD_MOUNT_VOLUME };
		if (!has_mount(ms.list, in->image->volumes.v[i]) && in->image->volumes.v[i][0] == '/')
			rc = mount_volume(&ms, &m, "", in->image->volumes.v[i], err);
	}
	own_file(&ms, "hostname", "/etc/hostname");
	own_file(&ms, "hosts", "/etc/hosts");
	if (!in->host_network)
		own_file(&ms, "resolv.conf", "/etc/resolv.conf");
	else if (!has_mount(ms.list, "/etc/resolv.conf")) /* nobody answers at 127.0.0.11 there */
		add_mount(ms.list, "bind", "/etc/resolv.conf", "/etc/resolv.conf", "rbind,rprivate,ro");
	if (c->init.set && c->init.v)
		add_mount(ms.list, "bind", in->shim, "/sbin/docker-init", "bind,rprivate,ro");
	mount_files(&ms);
	json_t *all = json_array();
	base_mounts(all);
	/* A user's mount at one of the base paths replaces it. */
	for (size_t i = json_array_size(all); i-- > 0;)
		if (has_mount(ms.list, json_string_value(json_object_get(json_array_get(all, i), "destination"))))
			json_array_remove(all, i);
	json_array_extend(all, ms.list);
	json_decref(ms.list);
	*list = sort_mounts(all);
	return rc;
}

/* ---- linux ---- */

static json_t *devices_json(void)
{
	static const struct {
		const char *type;
		int major, minor;
		const char *access;
	} allow[] = {
		{ "c", -1, -1, "m" }, { "b", -1, -1, "m" }, { "c", 1, 3, "rwm" },    { "c", 1, 5, "rwm" },
		{ "c", 1, 7, "rwm" }, { "c", 1, 8, "rwm" }, { "c", 1, 9, "rwm" },    { "c", 5, 0, "rwm" },
		{ "c", 5, 1, "rwm" }, { "c", 5, 2, "rwm" }, { "c", 136, -1, "rwm" },
	};
	json_t *a = json_pack("[{s:b,s:s}]", "allow", 0, "access", "rwm");
	for (size_t i = 0; i < ARRAY_SIZE(allow); i++) {
		json_t *d = json_pack("{s:b,s:s,s:s}", "allow", 1, "type", allow[i].type, "access", allow[i].access);
		if (allow[i].major >= 0)
			json_object_set_new(d, "major", json_integer(allow[i].major));
		if (allow[i].minor >= 0)
			json_object_set_new(d, "minor", json_integer(allow[i].minor));
		json_array_append_new(a, d);
	}
	return a;
}

static json_t *resources_json(const struct oci_in *in)
{
	const struct md_resource_requirements *r = in->task->spec.resources;
	const struct md_limit *lim = r ? r->limits : NULL;
	json_t *o = json_object(), *memory = json_object();
	json_object_set_new(o, "devices", devices_json());
	if (lim && lim->memory_bytes && in->host->memory) {
		json_object_set_new(memory, "limit", json_integer(lim->memory_bytes));
		if (in->host->swap)
			json_object_set_new(memory, "swap", json_integer(lim->memory_bytes));
	}
	if (r && r->reservations && r->reservations->memory_bytes && in->host->memory)
		json_object_set_new(memory, "reservation", json_integer(r->reservations->memory_bytes));
	if (json_object_size(memory))
		json_object_set(o, "memory", memory);
	json_decref(memory);
	if (lim && lim->nano_cpus && in->host->cpu) {
		json_int_t quota = lim->nano_cpus / 10000;
		json_object_set_new(
			o, "cpu",
			json_pack("{s:I,s:i}", "quota", quota < 1000 ? (json_int_t)1000 : quota, "period", 100000));
	}
	if (lim && lim->pids > 0 && in->host->pids)
		json_object_set_new(o, "pids", json_pack("{s:I}", "limit", (json_int_t)lim->pids));
	return o;
}

static json_t *sysctls_json(const struct oci_in *in)
{
	const struct str_map *m = &in->task->spec.container->sysctls;
	json_t *o = json_object();
	if (!in->host_network && in->host->net_sysctls) {
		json_object_set_new(o, "net.ipv4.ip_unprivileged_port_start", jstr("0"));
		json_object_set_new(o, "net.ipv4.ping_group_range", jstr("0 2147483647"));
	}
	for (size_t i = 0; i < m->n; i++)
		json_object_set_new_nocheck(o, m->v[i].key, jstr(m->v[i].value));
	return o;
}

static int seccomp_make(const struct oci_in *in, uint64_t caps, json_t **out, struct mesh_err *err)
{
	const struct md_privileges *p = in->task->spec.container->privileges;
	const struct md_seccomp *s = p ? p->seccomp : NULL;
	*out = NULL;
	if (s && streq(s->mode, "unconfined"))
		return 0;
	if (s && streq(s->mode, "custom")) {
		json_error_t e;
		json_t *profile = json_loadb((const char *)s->profile.p, s->profile.n, 0, &e);
		if (!profile)
			return mesh_fail(err, MESH_E_INVALID, "seccomp profile: %s", e.text);
		*out = oci_seccomp_convert(profile, caps, err);
		json_decref(profile);
		return *out ? 0 : MESH_E_INVALID;
	}
	*out = oci_seccomp_default(caps);
	return 0;
}

static json_t *namespaces_json(const struct oci_in *in)
{
	json_t *a = json_pack("[{s:s},{s:s},{s:s},{s:s},{s:s}]", "type", "pid", "type", "ipc", "type", "uts", "type",
	                      "mount", "type", "cgroup");
	if (!in->host_network)
		json_array_append_new(a, json_pack("{s:s,s:s}", "type", "network", "path", "/proc/self/ns/net"));
	return a;
}

static int linux_make(const struct oci_in *in, uint64_t caps, json_t **out, struct mesh_err *err)
{
	static const char *const masked[] = {
		"/proc/acpi",        "/proc/asound",        "/proc/interrupts", "/proc/kcore",
		"/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
	};
	static const char *const readonly[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
		                                "/proc/sysrq-trigger" };
	json_t *seccomp;
	int rc = seccomp_make(in, caps, &seccomp, err);
	if (rc)
		return rc;
	json_t *l = json_object();
	json_object_set_new(l, "sysctl", sysctls_json(in));
	json_object_set_new(l, "cgroupsPath", jstr(in->cgroup));
	json_object_set_new(l, "namespaces", namespaces_json(in));
	json_object_set_new(l, "resources", resources_json(in));
	json_object_set_new(l, "maskedPaths", jstrs(masked, ARRAY_SIZE(masked)));
	json_object_set_new(l, "readonlyPaths", jstrs(readonly, ARRAY_SIZE(readonly)));
	if (seccomp)
		json_object_set_new(l, "seccomp", seccomp);
	*out = l;
	return 0;
}

/* ---- small files ---- */

static char *hosts_text(const struct oci_in *in, const char *hostname)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct buf b = { 0 };
	buf_puts(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
	             "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
	for (size_t i = 0; i < c->hosts.n; i++) {
		/* "1.2.3.4 name" as the API has it. */
		const char *h = c->hosts.v[i];
		size_t n = strcspn(h, " \t");
		buf_printf(&b, "%.*s\t%s\n", (int)n, h, h[n] ? h + n + 1 : "");
	}
	for (size_t i = 0; i < in->task->attachments.n; i++)
		for (size_t k = 0; k < in->task->attachments.v[i].addresses.n; k++) {
			const char *addr = in->task->attachments.v[i].addresses.v[k];
			buf_printf(&b, "%.*s\t%s\n", (int)strcspn(addr, "/"), addr, hostname);
		}
	return buf_take_str(&b);
}

static char *resolv_text(const struct oci_in *in)
{
	const struct md_dns_config *d = in->task->spec.container->dns;
	bool ndots = false;
	struct buf b = { 0 };
	if (d && d->search.n) {
		buf_puts(&b, "search");
		for (size_t i = 0; i < d->search.n; i++)
			buf_printf(&b, " %s", d->search.v[i]);
		buf_puts(&b, "\n");
	}
	buf_puts(&b, "nameserver 127.0.0.11\noptions");
	for (size_t i = 0; d && i < d->options.n; i++) {
		buf_printf(&b, " %s", d->options.v[i]);
		ndots |= !strncmp(d->options.v[i], "ndots:", 6);
	}
	buf_puts(&b, ndots ? "\n" : " ndots:0\n");
	return buf_take_str(&b);
}

/* ---- the whole ---- */

void oci_out_fini(struct oci_out *o)
{
	free(o->json);
	free(o->hostname);
	free(o->hosts);
	free(o->resolv);
	strs_clear(&o->mkdirs);
	strs_clear(&o->sources);
	for (size_t i = 0; i < o->copies.n; i++) {
		free(o->copies.v[i].path);
		free(o->copies.v[i].target);
	}
	free(o->copies.v);
	*o = (struct oci_out){ 0 };
}

static int refuse_unsupported(const struct oci_in *in, struct mesh_err *err)
{
	const struct md_privileges *p = in->task->spec.container->privileges;
	const struct md_driver *d = in->task->spec.log_driver;
	const char *stop = in->task->spec.container->stop_signal;
	if (p && p->credential_spec)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "credential specs are for Windows containers");
	if (stop && *stop && !oci_signal_parse(stop))
		return mesh_fail(err, MESH_E_INVALID, "invalid stop signal: %.60s", stop);
	if (d && d->name && *d->name && strcmp(d->name, "json-file") && strcmp(d->name, "local") &&
	    strcmp(d->name, "none"))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "logger: no log driver named '%s' is registered", d->name);
	return 0;
}

int oci_spec_make(const struct oci_in *in, struct oci_out *out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	json_t *process = NULL, *mounts = NULL, *lin = NULL;
	uint64_t caps;
	*out = (struct oci_out){ 0 };
	int rc = refuse_unsupported(in, err);
	if (!rc)
		rc = tmpl_expand_str(in->vars, c->hostname, &out->hostname, err);
	if (!rc && !*out->hostname) {
		free(out->hostname);
		out->hostname = xstrndup(in->container_id, 12);
	}
	if (!rc)
		rc = caps_of(in, &caps, err);
	if (!rc)
		rc = process_make(in, out->hostname, caps, &process, err);
	if (!rc)
		rc = mounts_make(in, out, &mounts, err);
	if (!rc)
		rc = linux_make(in, caps, &lin, err);
	if (rc) {
		json_decref(process);
		json_decref(mounts);
		oci_out_fini(out);
		return rc;
	}
	out->hosts = hosts_text(in, out->hostname);
	out->resolv = resolv_text(in);
	json_t *root = json_object();
	json_object_set_new(root, "ociVersion", jstr("1.0.2"));
	json_object_set_new(root, "process", process);
	json_object_set_new(root, "root", json_pack("{s:s,s:b}", "path", "rootfs", "readonly", c->read_only));
	json_object_set_new(root, "hostname", jstr(out->hostname));
	json_object_set_new(root, "mounts", mounts);
	json_object_set_new(root, "linux", lin);
	rc = dump(root, &out->json, err);
	if (rc)
		oci_out_fini(out);
	return rc;
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
		rc = caps_of(in, &caps, err);
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
	return dump(p, json, err);
}

bool oci_health(const struct md_health *spec, const struct md_health *image, struct md_health *h)
{
	const struct md_health *base = spec && spec->test.n ? spec : image;
	if (!base || !base->test.n || !strcmp(base->test.v[0], "NONE"))
		return false;
	*h = *base;
	if (spec && spec != base) {
		h->interval = spec->interval ? spec->interval : h->interval;
		h->timeout = spec->timeout ? spec->timeout : h->timeout;
		h->start_period = spec->start_period ? spec->start_period : h->start_period;
		h->start_interval = spec->start_interval ? spec->start_interval : h->start_interval;
		h->retries = spec->retries ? spec->retries : h->retries;
	}
	const int64_t s = 1000000000LL;
	h->interval = h->interval ? h->interval : 30 * s;
	h->timeout = h->timeout ? h->timeout : 30 * s;
	h->start_interval = h->start_interval ? h->start_interval : 5 * s;
	h->retries = h->retries ? h->retries : 3;
	return true;
}
