/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/id.h"

#include <stdlib.h>
#include <sys/random.h>

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void mesh_rng_seed(struct mesh_rng *r, uint64_t seed)
{
	/* splitmix64 spreads one number over the state. */
	for (int i = 0; i < 4; i++) {
		uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
		r->s[i] = z ^ (z >> 31);
	}
}

void mesh_rng_seed_random(struct mesh_rng *r)
{
	if (getrandom(r->s, sizeof(r->s), 0) != (ssize_t)sizeof(r->s))
		abort();
	r->s[0] |= 1; /* the all-zero state never leaves zero */
}

uint64_t mesh_rng_next(struct mesh_rng *r)
{
	uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

uint64_t mesh_rng_below(struct mesh_rng *r, uint64_t n)
{
	uint64_t limit = UINT64_MAX - UINT64_MAX % n, v;
	do {
		v = mesh_rng_next(r);
	} while (v >= limit);
	return v % n;
}

void mesh_base36_make(struct mesh_rng *r, char *out, size_t n)
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	for (size_t i = 0; i < n; i++)
		out[i] = digits[mesh_rng_below(r, 36)];
	out[n] = '\0';
}

void mesh_id_make(struct mesh_rng *r, char out[MESH_ID_LEN + 1])
{
	mesh_base36_make(r, out, MESH_ID_LEN);
}

bool mesh_id_valid(const char *s)
{
	size_t n = 0;
	for (; s[n]; n++)
		if (!((s[n] >= '0' && s[n] <= '9') || (s[n] >= 'a' && s[n] <= 'z')))
			return false;
	return n == MESH_ID_LEN;
}

void mesh_id_set(char dst[MESH_ID_LEN + 1], const char *src)
{
	memset(dst, 0, MESH_ID_LEN + 1);
	if (src)
		memcpy(dst, src, strnlen(src, MESH_ID_LEN));
}
