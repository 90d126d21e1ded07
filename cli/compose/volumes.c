/* SPDX-License-Identifier: GPL-2.0-or-later */
/* volumes, tmpfs and shm_size of a service -> mounts of the API. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/api.h"
#include "cli/compose/schema.h"
#include "cli/units.h"

struct mnt {
	struct plan *p;
	const char *service;
	struct mesh_err *err;
};

#define MOUNT_FAIL(m, v, fmt, ...) cv_fail(v, (m)->err, "service %.80s: " fmt, (m)->service, ##__VA_ARGS__)

static json_t *mount_of(const struct cv *v, const char *type)
{
	json_t *m = json_pack("{s:s,s:s}", "Type", type, "Target", cv_at(v, "target"));

	if (cv_true(cv_get(v, "read_only")))
		json_object_set_new(m, "ReadOnly", json_true());
	if (*cv_at(v, "consistency"))
		json_object_set_new(m, "Consistency", json_string(cv_at(v, "consistency")));
	return m;
}

static int only(struct mnt *m, const struct cv *v, const char *type)
{
	static const char *const kinds[] = { "bind", "volume", "tmpfs" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kinds[i], type) && cv_get(v, kinds[i]))
			return MOUNT_FAIL(m, v, "%s options are incompatible with type %s", kinds[i], type);
	return 0;
}

static int volume_mount(struct mnt *m, const struct cv *v, json_t *out)
{
	const char *source = cv_at(v, "source");
	const struct cv *options = cv_get(v, "volume"), *volumes = cv_get(m->p->c->root, "volumes"), *known = NULL;
	bool found = false;

	if (!*source)
		return 0;
	CV_EACH(volumes, it)
	if (!strcmp(it->key, source)) {
		found = true;
		known = it->v;
	}
	if (!found)
		return MOUNT_FAIL(m, v, "undefined volume \"%.100s\"", source);
	json_object_set_new(out, "Source", json_string(plan_name(m->p, "volumes", source)));
	json_object_set_new(out, "VolumeOptions", json_object());
	if (cv_true(cv_get(options, "nocopy")))
		jset(out, "VolumeOptions.NoCopy", json_true());
	if (*cv_at(options, "subpath"))
		jset(out, "VolumeOptions.Subpath", json_string(cv_at(options, "subpath")));
	if (cv_true(cv_get(known, "external")))
		return 0;
	jset(out, "VolumeOptions.Labels", plan_labels(m->p, cv_get(known, "labels")));
	CV_EACH(cv_get(options, "labels"), it)
	json_object_set_new(jo(out, "VolumeOptions.Labels"), it->key, json_string(cv_text(it->v)));
	if (*cv_at(known, "driver") || cv_get(known, "driver_opts"))
		jset(out, "VolumeOptions.DriverConfig", json_object());
	if (*cv_at(known, "driver"))
		jset(out, "VolumeOptions.DriverConfig.Name", json_string(cv_at(known, "driver")));
	if (cv_get(known, "driver_opts"))
		jset(out, "VolumeOptions.DriverConfig.Options", json_dict(cv_get(known, "driver_opts")));
	return 0;
}

static int bind_mount(struct mnt *m, const struct cv *v, json_t *out)
{
	const struct cv *create = cv_get(cv_get(v, "bind"), "create_host_path");

	if (!*cv_at(v, "source"))
		return MOUNT_FAIL(m, v, "invalid bind source, source cannot be empty");
	json_object_set_new(out, "Source", json_string(cv_at(v, "source")));
	if (*cv_at(cv_get(v, "bind"), "propagation"))
		jset(out, "BindOptions.Propagation", json_string(cv_at(cv_get(v, "bind"), "propagation")));
	if (cv_true(create))
		jset(out, "BindOptions.CreateMountpoint", json_true());
	return 0;
}

static int tmpfs_mount(struct mnt *m, const struct cv *v, json_t *out)
{
	const struct cv *t = cv_get(v, "tmpfs");
	int64_t size = 0;

	if (*cv_at(v, "source"))
		return MOUNT_FAIL(m, v, "invalid tmpfs source, source must be empty");
	if (cv_get(t, "size") && parse_bytes(cv_at(t, "size"), &size, NULL) == 0 && size)
		jset(out, "TmpfsOptions.SizeBytes", json_integer(size));
	if (cv_is(cv_get(t, "mode"), CV_INT))
		jset(out, "TmpfsOptions.Mode", json_integer(cv_get(t, "mode")->i));
	return 0;
}

static int one_mount(struct mnt *m, const struct cv *v, json_t *list)
{
	const char *type = cv_at(v, "type");
	json_t *out = mount_of(v, type);
	int rc = only(m, v, type);

	json_array_append_new(list, out);
	if (!*cv_at(v, "target"))
		return MOUNT_FAIL(m, v, "invalid mount: target is required");
	if (rc < 0)
		return rc;
	if (!strcmp(type, "volume"))
		return volume_mount(m, v, out);
	if (!strcmp(type, "bind"))
		return bind_mount(m, v, out);
	if (!strcmp(type, "tmpfs"))
		return tmpfs_mount(m, v, out);
	return MOUNT_FAIL(m, v, "volume type \"%s\" is not supported: it must be volume, bind or tmpfs", type);
}

/* "/run:size=64m,mode=1777": what the API has no field for is named. */
static int short_tmpfs(struct mnt *m, const struct cv *v, json_t *list)
{
	struct check ck = { m->p->c, &m->p->c->arena };
	const char *colon = strchr(v->s, ':');
	json_t *out =
		json_pack("{s:s,s:s%}", "Type", "tmpfs", "Target", v->s, colon ? (size_t)(colon - v->s) : strlen(v->s));

	json_array_append_new(list, out);
	for (const char *o = colon ? colon + 1 : ""; *o; o += strcspn(o, ",") + (o[strcspn(o, ",")] == ',')) {
		CLEAN_FREE char *opt = xstrndup(o, strcspn(o, ","));
		char *eq = strchr(opt, '='), *end;
		int64_t size;
		if (eq)
			*eq++ = 0;
		if (!strcmp(opt, "size") && eq && parse_bytes(eq, &size, NULL) == 0) {
			jset(out, "TmpfsOptions.SizeBytes", json_integer(size));
		} else if (!strcmp(opt, "mode") && eq) {
			long mode = strtol(eq, &end, 8);
			if (*end || end == eq)
				return MOUNT_FAIL(m, v, "invalid tmpfs mode \"%.40s\"", eq);
			jset(out, "TmpfsOptions.Mode", json_integer(mode));
		} else if (!strcmp(opt, "ro")) {
			json_object_set_new(out, "ReadOnly", json_true());
		} else if (strcmp(opt, "rw")) {
			warn_at(&ck, v, "services.%s.tmpfs: option \"%.40s\" is not supported, ignored", m->service,
			        opt);
		}
	}
	return 0;
}

int service_mounts(struct plan *p, const char *name, const struct cv *s, json_t **out, struct mesh_err *err)
{
	struct mnt m = { p, name, err };
	int64_t size = 0;
	int rc = 0;

	*out = json_array();
	CV_EACH(cv_get(s, "volumes"), it)
	if (!rc)
		rc = one_mount(&m, it->v, *out);
	CV_EACH(cv_get(s, "tmpfs"), it)
	if (!rc)
		rc = short_tmpfs(&m, it->v, *out);
	if (!rc && cv_get(s, "shm_size") && parse_bytes(cv_at(s, "shm_size"), &size, NULL) == 0 && size)
		json_array_append_new(*out, json_pack("{s:s,s:s,s:{s:I,s:i}}", "Type", "tmpfs", "Target", "/dev/shm",
		                                      "TmpfsOptions", "SizeBytes", (json_int_t)size, "Mode", 01777));
	return rc;
}
