// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"

static struct table_entry *entry_of(const struct table *t, const void *key)
{
	return hset_get(&t->entries, key);
}

static void entry_put(struct table *t, const void *key, const void *value, uint64_t pass)
{
	struct table_entry *en = entry_of(t, key);

	if (!en) {
		en = xcalloc(1, sizeof(*en) + t->value_size);
		memcpy(en->key, key, t->key_size);
		(void)hset_put(&t->entries, en);
	}
	memcpy(en->value, value, t->value_size);
	en->pass = pass;
}

int table_open(struct table *t, int fd, uint32_t key_size, uint32_t value_size, uint32_t max)
{
	uint8_t key[TABLE_KEY_MAX], next[sizeof(key)];
	CLEAN_FREE uint8_t *value = xcalloc(1, value_size);
	bool first = true;

	*t = (struct table){ .fd = fd, .key_size = key_size, .value_size = value_size, .max = max };
	t->entries = HSET(struct table_entry, key);
	t->entries.key_size = key_size;
	while (bpf_map_get_next_key(fd, first ? NULL : key, next) == 0) {
		if (bpf_map_lookup_elem(fd, next, value) == 0)
			entry_put(t, next, value, 0);
		memcpy(key, next, key_size);
		first = false;
	}
	return errno == ENOENT ? 0 : -errno;
}

void table_fini(struct table *t)
{
	HSET_FOREACH(&t->entries, struct table_entry, en)
	free(en);
	hset_fini(&t->entries);
}

const void *table_get(const struct table *t, const void *key)
{
	struct table_entry *en = entry_of(t, key);

	return en ? en->value : NULL;
}

int table_set(struct table *t, const void *key, const void *value, uint64_t pass, const char *what,
              struct mesh_err *err)
{
	struct table_entry *en = entry_of(t, key);

	if (en && memcmp(en->value, value, t->value_size) == 0) {
		en->pass = pass;
		return 0;
	}
	if (bpf_map_update_elem(t->fd, key, value, BPF_ANY)) {
		int rc = errno == E2BIG || errno == ENOSPC ? MESH_E_EXHAUSTED : -errno;
		if (rc == MESH_E_EXHAUSTED)
			return mesh_fail(err, rc, "map '%s' is full: a node holds %u", what, t->max);
		return mesh_fail(err, rc, "map '%s': cannot write", what);
	}
	entry_put(t, key, value, pass);
	return 0;
}

void table_del(struct table *t, const void *key)
{
	/* Absent is what is wanted. */
	(void)bpf_map_delete_elem(t->fd, key);
	free(hset_del(&t->entries, key));
}

void table_sweep(struct table *t, uint64_t pass, void (*gone)(void *arg, const void *key, const void *value), void *arg)
{
	struct VEC(struct table_entry *) old = {};

	HSET_FOREACH(&t->entries, struct table_entry, en)
	if (en->pass != pass)
		vec_push(&old, en);
	for (size_t i = 0; i < old.len; i++) {
		if (gone)
			gone(arg, old.data[i]->key, old.data[i]->value);
		table_del(t, old.data[i]->key);
	}
	vec_fini(&old);
}
