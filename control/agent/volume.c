/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

/* state_dir/volumes/<name>/{_data, meta}; meta is the encoded struct agent_volume. */

#define T struct agent_volume
static const struct sch_field agent_volume_fields[] = {
	SF(1, STR, "Name", name, 0),
	SF(2, STR, "Driver", driver, 0),
	SF(3, MAP, "Labels", labels, 0),
	SF(4, MAP, "Options", options, 0),
	SF(5, TIME, "CreatedAt", created_at, 0),
	SF(6, STR, "Mountpoint", mountpoint, SCH_READONLY),
};
#undef T
SCHEMA(agent_volume_schema, agent_volume, agent_volume_fields);

static bool name_ok(const char *name)
{
	if (!name || !isalnum((unsigned char)name[0]) || strlen(name) > 200)
		return false;
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("_.-", *p))
			return false;
	return true;
}

static int load(struct agent *a, const char *name, struct agent_volume *v)
{
	CLEAN_FREE char *path = xasprintf("%s/%s/meta", a->volumes_dir, name);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t text[16384];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : -1;
	if (n < 0)
		return MESH_E_NOT_FOUND;
	*v = (struct agent_volume){ 0 };
	if (sch_decode(&agent_volume_schema, v, text, (size_t)n) || !streq(v->name, name)) {
		sch_clear(&agent_volume_schema, v);
		return MESH_E_CORRUPT;
	}
	free(v->mountpoint);
	v->mountpoint = xasprintf("%s/%s/_data", a->volumes_dir, name);
	return 0;
}

static int by_name(const void *pa, const void *pb)
{
	return strcmp(*(char *const *)pa, *(char *const *)pb);
}

void agent_each_volume(struct agent *a, bool (*fn)(void *arg, const struct agent_volume *v), void *arg)
{
	struct str_list names = { 0 };
	DIR *d = opendir(a->volumes_dir);
	for (struct dirent *e; d && (e = readdir(d));)
		if (name_ok(e->d_name))
			strs_add(&names, e->d_name);
	if (d)
		closedir(d);
	if (names.n)
		qsort(names.v, names.n, sizeof(*names.v), by_name);
	bool more = true;
	for (size_t i = 0; i < names.n && more; i++) {
		struct agent_volume v;
		if (load(a, names.v[i], &v))
			continue;
		more = fn(arg, &v);
		sch_clear(&agent_volume_schema, &v);
	}
	strs_clear(&names);
}

int agent_volume_get(struct agent *a, const char *name, struct agent_volume *out, struct mesh_err *err)
{
	if (name_ok(name) && !load(a, name, out))
		return 0;
	return mesh_fail(err, MESH_E_NOT_FOUND, "get %s: no such volume", name ? name : "");
}

static void emit(struct agent *a, const char *action, const struct agent_volume *v)
{
	struct str_map m = { 0 };
	if (!a->ops->on_event)
		return;
	smap_set(&m, "driver", v->driver);
	a->ops->on_event(a->arg, "volume", action, v->name, &m);
	smap_clear(&m);
}

int agent_volume_create(struct agent *a, const struct agent_volume *spec, struct agent_volume *out,
                        struct mesh_err *err)
{
	struct agent_volume v;
	char name[65];
	const char *driver = spec->driver && *spec->driver ? spec->driver : "local";
	if (spec->name && *spec->name)
		snprintf(name, sizeof(name), "%.64s", spec->name);
	else
		for (int i = 0; i < 4; i++)
			snprintf(name + 16 * i, 17, "%016llx", (unsigned long long)mesh_rng_next(&a->rng));
	if (!name_ok(name) || (spec->name && strlen(spec->name) > 64))
		return mesh_fail(err, MESH_E_INVALID,
		                 "create %.64s: \"%.64s\" includes invalid characters for a local volume name, only "
		                 "\"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed",
		                 name, name);
	if (strcmp(driver, "local"))
		return mesh_fail(err, MESH_E_NOT_FOUND,
		                 "create %s: error looking up volume plugin %s: plugin \"%s\" not found", name, driver,
		                 driver);
	if (!load(a, name, &v)) { /* as docker: making it twice is fine */
		if (out)
			*out = v;
		else
			sch_clear(&agent_volume_schema, &v);
		return 0;
	}
	CLEAN_FREE char *data = xasprintf("%s/%s/_data", a->volumes_dir, name);
	CLEAN_FREE char *meta = xasprintf("%s/%s/meta", a->volumes_dir, name);
	int rc = fs_make_dirs(data, 0755, err);
	if (rc)
		return rc;
	sch_copy(&agent_volume_schema, &v, spec);
	str_set(&v.name, name);
	str_set(&v.driver, driver);
	str_set(&v.mountpoint, NULL);
	v.created_at = clock_wall_ns();
	struct buf b = { 0 };
	sch_encode(&agent_volume_schema, &v, &b);
	rc = fs_write(meta, b.data, b.len, 0600, FS_CACHED, err);
	buf_fini(&b);
	str_set(&v.mountpoint, data);
	if (!rc)
		emit(a, "create", &v);
	if (!rc && out)
		*out = v;
	else
		sch_clear(&agent_volume_schema, &v);
	return rc;
}

static bool uses(const struct atask *t, const char *name)
{
	const struct md_container_spec *c = t->rec.task.spec.container;
	if (t->rec.removed || t->forget)
		return false;
	for (size_t i = 0; c && i < c->mounts.n; i++) {
		const struct md_mount *m = &c->mounts.v[i];
		if ((m->type == MD_MOUNT_VOLUME || m->type == MD_MOUNT_UNSET) && streq(m->source, name))
			return true;
	}
	return false;
}

bool agent_volume_in_use(struct agent *a, const char *name)
{
	MAP_FOREACH(&a->tasks, e)
		if (uses(e->value, name))
			return true;
	return false;
}

int agent_volume_remove(struct agent *a, const char *name, bool force, struct mesh_err *err)
{
	struct agent_volume v;
	int rc = agent_volume_get(a, name, &v, err);
	if (rc)
		return force ? 0 : rc;
	MAP_FOREACH(&a->tasks, e) {
		const struct atask *t = e->value;
		if (!uses(t, name))
			continue;
		sch_clear(&agent_volume_schema, &v);
		return mesh_fail(err, MESH_E_CONFLICT, "remove %s: volume is in use - [%s]", name, t->rec.container_id);
	}
	CLEAN_FREE char *dir = xasprintf("%s/%s", a->volumes_dir, name);
	fs_remove_tree(dir);
	emit(a, "destroy", &v);
	sch_clear(&agent_volume_schema, &v);
	return 0;
}

/* A mount of a named volume: made when it is not there. Options type/device/o are mounted by the runtime. */
int volume_resolve(struct agent *a, const struct md_mount *m, struct oci_volume *out, struct mesh_err *err)
{
	const struct md_volume_options *o = m->volume;
	struct agent_volume spec = { .name = m->source }, v = { 0 };
	if (o) {
		spec.labels = o->labels;
		spec.driver = o->driver ? o->driver->name : NULL;
		spec.options = o->driver ? o->driver->options : (struct str_map){ 0 };
	}
	int rc = agent_volume_create(a, &spec, &v, err);
	if (rc)
		return rc;
	const char *type = smap_get(&v.options, "type"), *device = smap_get(&v.options, "device");
	const char *opts = smap_get(&v.options, "o");
	if (device || type) {
		bool bind = opts && strstr(opts, "bind");
		snprintf(out->type, sizeof(out->type), "%s", bind ? "bind" : type ? type : "none");
		snprintf(out->path, sizeof(out->path), "%s", device ? device : "none");
		snprintf(out->options, sizeof(out->options), "%s", opts ? opts : "");
	} else {
		snprintf(out->path, sizeof(out->path), "%s", v.mountpoint);
	}
	sch_clear(&agent_volume_schema, &v);
	return 0;
}
