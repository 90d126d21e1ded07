/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    what lies on a manager's disk sealed: the node's data key, and boxes closed with it
 *          (docs/decisions/0016).
 * Cipher:  XChaCha20-Poly1305. A box is nonce (24), the bytes enciphered, tag (16).
 * Nonces:  16 random bytes drawn whenever a struct seal_nonce is made, and a counter. Two of 2^48 such structs have
 *          the same 16 bytes with a probability of 2^-33; nothing on disk is asked what was used before.
 * File:    dir/data.key, 0600: "MSHDKEY\n", then the schema's encoding of id, key, how it is wrapped (0: it is not;
 *          the place for a key that unlocks it), and whether everything it seals has been sealed.
 * Thread:  a key may be used by several at once, a nonce by one.
 * Secrets: the key is wiped when freed and never logged; its id is not secret.
 */
#ifndef CONTROL_CA_SEAL_H
#define CONTROL_CA_SEAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SEAL_ID_BYTES 8
#define SEAL_NONCE_BYTES 24
#define SEAL_BYTES 40 /* what a box is longer than its content */

struct seal_key;
/* -ENOENT, MESH_E_CORRUPT, MESH_E_LOCKED: wrapped in a way that this version cannot open. */
int seal_key_load(const char *dir, struct seal_key **out, struct mesh_err *err) MESH_MUST_CHECK;
/* A new key, durable when it returns 0. dir exists. */
int seal_key_make(const char *dir, struct seal_key **out, struct mesh_err *err) MESH_MUST_CHECK;
void seal_key_free(struct seal_key *k);
const uint8_t *seal_key_id(const struct seal_key *k);
/* Is everything sealed? Until then there may be files of a former version, in clear; from then on there may not. */
bool seal_key_settled(const struct seal_key *k);
int seal_key_settle(struct seal_key *k, const char *dir, struct mesh_err *err) MESH_MUST_CHECK;
/* For tests: a key made of a number. */
struct seal_key *seal_key_of(uint64_t seed);

struct seal_nonce {
	uint8_t random[16];
	uint64_t next;
};
/* Aborts when the kernel gives no random numbers. */
void seal_nonce_init(struct seal_nonce *n);
/* Writes n + SEAL_BYTES to box. ad is bound to it and not stored; p may be NULL when n is 0. */
void seal_close(const struct seal_key *k, struct seal_nonce *nonce, const void *ad, size_t n_ad, const void *p,
                size_t n, uint8_t *box);
/* Writes n - SEAL_BYTES to p. False: not a box of this key and ad; p is void then. */
bool seal_open(const struct seal_key *k, const void *ad, size_t n_ad, const uint8_t *box, size_t n, uint8_t *p);

#endif
