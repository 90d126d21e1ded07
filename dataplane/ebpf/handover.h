/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   from the maps and programs of another layout to ours, while packets flow (bpf/handover.h has the phases).
 *         What the old maps know is converted field by field; services and backends get new numbers, and who refers to
 *         one (flows, choices, sockets, tables) is renumbered. Counters of drops and events begin at zero.
 * Owner:  while it works, our maps are pinned as MAP_DIR_new, which become MAP_DIR when the hooks change over. A crash
 *         before leaves the old programs in charge, one after it ours; the next start does the rest either way.
 * Files:  layout_maps.c (one map), handover.c (all of them, and the programs).
 */
#ifndef DATAPLANE_EBPF_HANDOVER_H
#define DATAPLANE_EBPF_HANDOVER_H

#include "dataplane/ebpf/convert.h"
#include "dataplane/ebpf/internal.h"

/* A pinned map. An array may be one of arrays (segments); then elements are those of the segments, in order. */
struct lmap {
	int fd, segment_fd;
	uint32_t type, key_size, value_size, max; /* of the elements */
	uint32_t per, segment;                    /* elements a segment, 0 = not segmented; the one that is open */
	struct btf *btf;
	struct btype key, value;
};
/* value_struct: the name of the value's type, for segments, of which the kernel does not know it. */
int lmap_open(struct lmap *m, const char *dir, const char *name, const char *value_struct) MESH_MUST_CHECK;
void lmap_close(struct lmap *m);
/* Bytes a value takes in user space: per-CPU ones are many. */
size_t lmap_value_bytes(const struct lmap *m);
int lmap_get(struct lmap *m, uint32_t i, void *value) MESH_MUST_CHECK;
int lmap_set(struct lmap *m, uint32_t i, const void *value) MESH_MUST_CHECK;
/* Every entry of a hash map, also while it changes. */
int lmap_each(struct lmap *m, int (*fn)(void *arg, const void *key, const void *value), void *arg) MESH_MUST_CHECK;

/* Numbers of before -> numbers of now; 0 = gone. */
struct renumber {
	uint32_t *backend, *service;
	uint32_t n_backends, n_services;
};

#endif
