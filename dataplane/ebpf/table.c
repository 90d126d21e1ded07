// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>

#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"

#define HEX_MAX (2 * TABLE_KEY_MAX + 1)

static void hex_of(char out[HEX_MAX], const void *key, uint32_t n)
{
	static const char digit[] = "0123456789abcdef";
	const uint8_t *k = key;

	for (uint32_t i = 0; i < n; i++) {
		out[2 * i] = digit[k[i] >> 4];
		out[2 * i + 1] = digit[k[i] & 15];
	}
	out[2 * n] = '\0';
}

static struct table_entry *entry_of(const struct table *t, const void *key)
{
	char hex[HEX_MAX];

	hex_of(hex, key, t->key_size);
	return map_get(&t->entries, hex);
}

static void entry_put(struct table *t, const void *key, const void *value, uint64_t pass)
{
	struct table_entry *en = entry_of(t, key);
	char hex[HEX_MAX];

	if (!en) {
		en = xcalloc(1, sizeof(*en) + t->value_size);
		memcpy(en->key, key, t->key_size);
		hex_of(hex, key, t->key_size);
		map_put(&t->entries, hex, en);
	}
	memcpy(en->value, value, t->value_size);
	en->pass = pass;
}

int table_open(struct table *t, int fd, uint32_t key_size, uint32_t value_size)
{
	uint8_t key[TABLE_KEY_MAX], next[sizeof(key)];
	CLEAN_FREE uint8_t *value = xcalloc(1, value_size);
	bool first = true;

	memset(t, 0, sizeof(*t));
	t->fd = fd;
	t->key_size = key_size;
	t->value_size = value_size;
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
	MAP_FOREACH(&t->entries, en)
		free(en->value);
	map_fini(&t->entries);
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
		return mesh_fail(err, rc, "map '%s': cannot write%s", what, rc == MESH_E_EXHAUSTED ? ": full" : "");
	}
	entry_put(t, key, value, pass);
	return 0;
}

void table_del(struct table *t, const void *key)
{
	char hex[HEX_MAX];

	hex_of(hex, key, t->key_size);
	/* Absent is what is wanted. */
	(void)bpf_map_delete_elem(t->fd, key);
	free(map_del(&t->entries, hex));
}

void table_sweep(struct table *t, uint64_t pass, void (*gone)(void *arg, const void *key, const void *value), void *arg)
{
	MAP_FOREACH(&t->entries, m) {
		struct table_entry *en = m->value;
		if (en->pass == pass)
			continue;
		if (gone)
			gone(arg, en->key, en->value);
		(void)bpf_map_delete_elem(t->fd, en->key);
		free(map_del(&t->entries, m->key));
	}
}
