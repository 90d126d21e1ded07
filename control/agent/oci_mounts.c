/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.json: mounts: what every container has, the image's volumes, the spec's mounts, secrets and configs. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/agent/oci_parts.h"

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

int oci_mounts_make(const struct oci_in *in, struct oci_out *out, json_t **list, struct mesh_err *err)
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
