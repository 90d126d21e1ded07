/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   object ids as the Docker Engine API writes them: 25 characters, base 36, random (120 bits).
 *         One struct per kind, so that a node id cannot be passed as a task id. The empty string is
 *         "no id". All are laid out alike; .s is a NUL-terminated string.
 * Source: randomness is a parameter (struct mesh_rng), so that decisions can be replayed from a seed.
 */
#ifndef MESH_BASE_ID_H
#define MESH_BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MESH_ID_LEN 25

#define MESH_ID_TYPE(name)                                                                                             \
	typedef struct {                                                                                               \
		char s[MESH_ID_LEN + 1];                                                                               \
	} name
MESH_ID_TYPE(node_id);
MESH_ID_TYPE(task_id);
MESH_ID_TYPE(service_id);
MESH_ID_TYPE(network_id);
MESH_ID_TYPE(secret_id);
MESH_ID_TYPE(config_id);
MESH_ID_TYPE(cluster_id);

#define ID_EQ(a, b) (strcmp((a).s, (b).s) == 0)
#define ID_EMPTY(a) ((a).s[0] == '\0')

/* xoshiro256**; seeded from getrandom by the shell, from a number in tests. */
struct mesh_rng {
	uint64_t s[4];
};
void mesh_rng_seed(struct mesh_rng *r, uint64_t seed);
/* Seeds from the kernel; aborts when it gives nothing. */
void mesh_rng_seed_random(struct mesh_rng *r);
uint64_t mesh_rng_next(struct mesh_rng *r);
/* Uniform in [0, n); n > 0. */
uint64_t mesh_rng_below(struct mesh_rng *r, uint64_t n);

/* Writes an id of MESH_ID_LEN characters and a NUL. */
void mesh_id_make(struct mesh_rng *r, char out[MESH_ID_LEN + 1]);
/* n random base-36 digits and a NUL. */
void mesh_base36_make(struct mesh_rng *r, char *out, size_t n);
/* Exactly 25 of [0-9a-z]. */
bool mesh_id_valid(const char *s);
/* Copies at most MESH_ID_LEN characters; the rest of dst is zero. */
void mesh_id_set(char dst[MESH_ID_LEN + 1], const char *src);

#endif
