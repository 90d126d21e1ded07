// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Programs outlive the daemon beside their maps, under names that say what they were made of: their bytes and their
 * configuration. A daemon that starts again finds its own there and loads nothing; the verifier takes seconds.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"

/* "p", the 16 hex digits of what it was made of, "_", its name. */
#define STAMP_CHARS 18

static char *pin_of(const struct ebpf *e, uint64_t made_of, const char *name)
{
	return xasprintf("%s/p%016" PRIx64 "_%s", e->map_dir, made_of, name);
}

static uint64_t stamp(const struct bpf_object_skeleton *s, const struct abi_config *c)
{
	uint64_t both[2] = { hash64(s->data, s->data_sz), hash64(c, sizeof(*c)) };

	return hash64(both, sizeof(both));
}

static bool is_bss(const struct bpf_map *m)
{
	return bpf_map__is_internal(m) && strstr(bpf_map__name(m), ".bss");
}

/* The variables that userspace writes go with the programs that read them. */
static int pin_bss(const struct ebpf *e, struct bpf_object *o, uint64_t made_of)
{
	struct bpf_map *m;

	bpf_object__for_each_map(m, o)
	{
		CLEAN_FREE char *name = xasprintf("%s_bss", bpf_object__name(o));
		CLEAN_FREE char *path = pin_of(e, made_of, name);
		int rc = is_bss(m) ? bpf_map__set_pin_path(m, path) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- are they whole, and do they run on our maps? ---- */

static uint32_t map_id(int fd, char name[BPF_OBJ_NAME_LEN])
{
	struct bpf_map_info info = {};
	uint32_t len = sizeof(info);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return 0;
	memcpy(name, info.name, BPF_OBJ_NAME_LEN);
	return info.id;
}

/* What the kernel calls a map is the start of its name. */
static struct bpf_map *map_called(struct bpf_object *o, const char *name)
{
	struct bpf_map *m;

	bpf_object__for_each_map(m, o)
	{
		if (!bpf_map__is_internal(m) && strncmp(bpf_map__name(m), name, BPF_OBJ_NAME_LEN - 1) == 0)
			return m;
		if (is_bss(m) && strstr(name, ".bss"))
			return m;
	}
	return NULL;
}

static bool is_our_map(struct bpf_object *o, uint32_t id)
{
	char name[BPF_OBJ_NAME_LEN], unused[BPF_OBJ_NAME_LEN];
	CLEAN_CLOSE int theirs = bpf_map_get_fd_by_id(id);

	if (map_id(theirs, name) != id)
		return false;
	if (strstr(name, ".rodata"))
		return true; /* its configuration is in the stamp */
	struct bpf_map *m = map_called(o, name);
	const char *pin = m ? bpf_map__pin_path(m) : NULL;
	CLEAN_CLOSE int ours = pin ? bpf_obj_get(pin) : -1;
	return map_id(ours, unused) == id;
}

static bool runs_on_our_maps(struct bpf_object *o, int prog)
{
	uint32_t ids[64], len = sizeof(struct bpf_prog_info);
	struct bpf_prog_info info = { .map_ids = (uint64_t)(uintptr_t)ids, .nr_map_ids = ARRAY_SIZE(ids) };

	if (bpf_obj_get_info_by_fd(prog, &info, &len) || info.nr_map_ids > ARRAY_SIZE(ids))
		return false;
	for (uint32_t i = 0; i < info.nr_map_ids; i++)
		if (!is_our_map(o, ids[i]))
			return false;
	return true;
}

static void drop_kept(struct ebpf *e, size_t first)
{
	for (size_t i = first; i < e->kept.len; i++)
		close(e->kept.data[i].fd);
	e->kept.len = first;
}

/* All that are wanted, or none. */
static bool find_kept(struct ebpf *e, struct bpf_object *o, uint64_t made_of)
{
	size_t first = e->kept.len;
	struct bpf_program *p;

	bpf_object__for_each_program(p, o)
	{
		if (!bpf_program__autoload(p))
			continue;
		CLEAN_FREE char *path = pin_of(e, made_of, bpf_program__name(p));
		struct kept_program k = { .name = bpf_program__name(p), .fd = bpf_obj_get(path) };
		if (k.fd < 0) {
			drop_kept(e, first);
			return false;
		}
		vec_push(&e->kept, k);
		if (!runs_on_our_maps(o, k.fd)) {
			drop_kept(e, first);
			return false;
		}
	}
	return true;
}

/* ---- loading ---- */

static int pin_loaded(struct ebpf *e, struct bpf_object *o, uint64_t made_of)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, o)
	{
		CLEAN_FREE char *path = pin_of(e, made_of, bpf_program__name(p));
		if (!bpf_program__autoload(p))
			continue;
		(void)unlink(path); /* of maps that are gone */
		if (bpf_obj_pin(bpf_program__fd(p), path))
			return -errno;
	}
	return 0;
}

int programs_load(struct ebpf *e, struct bpf_object_skeleton *s, const struct abi_config *c)
{
	struct bpf_object *o = *s->obj;
	uint64_t made_of = stamp(s, c);
	size_t first = e->kept.len;
	struct bpf_program *p;

	if (e->handover) /* they run for a moment */
		return bpf_object__load_skeleton(s);
	int rc = pin_bss(e, o, made_of);
	bool kept = !rc && find_kept(e, o, made_of);
	bpf_object__for_each_program(p, o)
	{
		if (kept)
			bpf_program__set_autoload(p, false);
	}
	rc = rc ? rc : bpf_object__load_skeleton(s);
	if (rc) /* their names are the object's, which goes */
		drop_kept(e, first);
	/* Without pins all runs as well, and the next start takes longer. */
	if (!rc && !kept && pin_loaded(e, o, made_of))
		log_debug("BPF programs cannot be pinned object=%s", bpf_object__name(o));
	vec_push(&e->stamps, made_of);
	return rc;
}

int programs_fd(const struct ebpf *e, const struct bpf_program *p)
{
	int fd = bpf_program__fd(p);

	for (size_t i = 0; fd < 0 && i < e->kept.len; i++)
		if (streq(e->kept.data[i].name, bpf_program__name(p)))
			fd = e->kept.data[i].fd;
	return fd;
}

static bool is_current(const struct ebpf *e, const char *pin)
{
	char text[STAMP_CHARS + 1];

	for (size_t i = 0; i < e->stamps.len; i++) {
		snprintf(text, sizeof(text), "p%016" PRIx64 "_", e->stamps.data[i]);
		if (strncmp(pin, text, STAMP_CHARS) == 0)
			return true;
	}
	return false;
}

void programs_sweep(struct ebpf *e)
{
	DIR *d = opendir(e->map_dir);

	for (struct dirent *de; d && (de = readdir(d));)
		if (de->d_name[0] == 'p' && strlen(de->d_name) > STAMP_CHARS && de->d_name[STAMP_CHARS - 1] == '_' &&
		    strspn(de->d_name + 1, "0123456789abcdef") == STAMP_CHARS - 2 && !is_current(e, de->d_name))
			unlinkat(dirfd(d), de->d_name, 0);
	if (d)
		closedir(d);
}

void programs_fini(struct ebpf *e)
{
	drop_kept(e, 0);
	vec_fini(&e->kept);
	vec_fini(&e->stamps);
}
