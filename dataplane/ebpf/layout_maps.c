// SPDX-License-Identifier: GPL-2.0-or-later
/* One map of any layout, read by what the kernel and BTF say of it. */
#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "dataplane/ebpf/handover.h"

#define BATCH 1024

static int info_of(int fd, struct bpf_map_info *info)
{
	uint32_t len = sizeof(*info);

	memset(info, 0, sizeof(*info));
	return bpf_obj_get_info_by_fd(fd, info, &len) ? -errno : 0;
}

static int segment_open(struct lmap *m, uint32_t at)
{
	uint32_t id;

	if (m->segment_fd >= 0 && m->segment == at)
		return 0;
	if (bpf_map_lookup_elem(m->fd, &at, &id))
		return -errno;
	int fd = bpf_map_get_fd_by_id(id);
	if (fd < 0)
		return -errno;
	if (m->segment_fd >= 0)
		close(m->segment_fd);
	m->segment_fd = fd;
	m->segment = at;
	return 0;
}

static int open_segments(struct lmap *m, uint32_t n)
{
	struct bpf_map_info info;
	int rc = segment_open(m, 0);

	rc = rc ? rc : info_of(m->segment_fd, &info);
	if (rc)
		return rc;
	m->type = info.type;
	m->value_size = info.value_size;
	m->per = info.max_entries;
	for (m->max = m->per; m->max / m->per < n && !segment_open(m, m->max / m->per); m->max += m->per)
		;
	return m->per ? 0 : MESH_E_UNSUPPORTED;
}

/* Of the map, or of "services" beside it: every map of a layout comes from the same source. */
static struct btf *btf_of(const char *dir, const struct bpf_map_info *info)
{
	CLEAN_FREE char *path = xasprintf("%s/services", dir);
	struct bpf_map_info other;

	if (info->btf_id)
		return btf__load_from_kernel_by_id(info->btf_id);
	CLEAN_CLOSE int fd = bpf_obj_get(path);
	return fd >= 0 && !info_of(fd, &other) && other.btf_id ? btf__load_from_kernel_by_id(other.btf_id) : NULL;
}

int lmap_open(struct lmap *m, const char *dir, const char *name, const char *value_struct)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, name);
	struct bpf_map_info info;
	int rc;

	*m = (struct lmap){ .fd = bpf_obj_get(path), .segment_fd = -1 };
	if (m->fd < 0)
		return -errno;
	rc = info_of(m->fd, &info);
	if (rc)
		return rc;
	m->type = info.type;
	m->key_size = info.key_size;
	m->value_size = info.value_size;
	m->max = info.max_entries;
	m->btf = btf_of(dir, &info);
	if (!m->btf)
		return MESH_E_UNSUPPORTED;
	m->key = (struct btype){ m->btf, info.btf_key_type_id };
	m->value = value_struct ? btype_named(m->btf, value_struct) : (struct btype){ m->btf, info.btf_value_type_id };
	if (info.type == BPF_MAP_TYPE_ARRAY_OF_MAPS)
		rc = open_segments(m, info.max_entries);
	return rc ? rc : btype_size(m->value) == (long)m->value_size ? 0 : MESH_E_UNSUPPORTED;
}

void lmap_close(struct lmap *m)
{
	btf__free(m->btf);
	if (m->segment_fd >= 0)
		close(m->segment_fd);
	if (m->fd >= 0)
		close(m->fd);
	*m = (struct lmap){ .fd = -1, .segment_fd = -1 };
}

size_t lmap_value_bytes(const struct lmap *m)
{
	size_t one = (m->value_size + 7u) & ~7u;
	int cpus = libbpf_num_possible_cpus();

	return m->type == BPF_MAP_TYPE_PERCPU_ARRAY ? one * (size_t)(cpus > 0 ? cpus : 1) : one;
}

static int element(struct lmap *m, uint32_t *i, int *fd)
{
	int rc = m->per ? segment_open(m, *i / m->per) : 0;

	*fd = m->per ? m->segment_fd : m->fd;
	*i = m->per ? *i % m->per : *i;
	return rc;
}

int lmap_get(struct lmap *m, uint32_t i, void *value)
{
	int fd, rc = element(m, &i, &fd);

	return rc ? rc : bpf_map_lookup_elem(fd, &i, value) ? -errno : 0;
}

int lmap_set(struct lmap *m, uint32_t i, const void *value)
{
	int fd, rc = element(m, &i, &fd);

	return rc ? rc : bpf_map_update_elem(fd, &i, value, BPF_ANY) ? -errno : 0;
}

/* Userspace's own tables: nobody else changes them. */
static int each_by_key(struct lmap *m, int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	CLEAN_FREE uint8_t *key = xcalloc(1, m->key_size), *next = xcalloc(1, m->key_size);
	CLEAN_FREE uint8_t *value = xcalloc(1, lmap_value_bytes(m));
	bool first = true;

	while (bpf_map_get_next_key(m->fd, first ? NULL : key, next) == 0) {
		int rc = bpf_map_lookup_elem(m->fd, next, value) ? 0 : fn(arg, next, value);
		if (rc)
			return rc;
		memcpy(key, next, m->key_size);
		first = false;
	}
	return errno == ENOENT ? 0 : -errno;
}

int lmap_each(struct lmap *m, int (*fn)(void *arg, const void *key, const void *value), void *arg)
{
	uint32_t batch = BATCH, n, cursor, next = 0;
	CLEAN_FREE uint8_t *keys = NULL, *values = NULL;
	bool first = true, grow = true;
	int rc = 0, last = 0;

	if (m->type != BPF_MAP_TYPE_LRU_HASH)
		return each_by_key(m, fn, arg);
	while (!last && !rc) {
		if (grow) {
			keys = xrealloc(keys, (size_t)batch * m->key_size);
			values = xrealloc(values, (size_t)batch * m->value_size);
		}
		cursor = next;
		n = batch;
		last = bpf_map_lookup_batch(m->fd, first ? NULL : &cursor, &next, keys, values, &n, NULL) ? errno : 0;
		grow = last == ENOSPC; /* one bucket holds more than the batch */
		if (grow) {
			batch *= 4;
			last = 0;
			continue;
		}
		if (last && last != ENOENT)
			return -last;
		for (uint32_t i = 0; i < n && !rc; i++)
			rc = fn(arg, keys + (size_t)i * m->key_size, values + (size_t)i * m->value_size);
		first = false;
	}
	return rc;
}
