/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/ca/seal.h"

#include <assert.h>
#include <errno.h>
#include <sys/random.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/ca/crypto.h"

#include <wolfssl/wolfcrypt/chacha20_poly1305.h>

#define KEY_BYTES CHACHA20_POLY1305_AEAD_KEYSIZE
#define TAG_BYTES CHACHA20_POLY1305_AEAD_AUTHTAG_SIZE
#define FILE_MAX_BYTES 4096
#define WAY_OUT                                                                                                        \
	"put back the one that was there, restore the state directory from a backup, or leave the swarm "              \
	"(swarm leave --force) and join again"

static_assert(SEAL_BYTES == SEAL_NONCE_BYTES + TAG_BYTES, "a box is nonce, bytes, tag");

static const char magic[8] = "MSHDKEY\n";

struct seal_key {
	struct bytes id, key;
	uint32_t wrap; /* 0: the key is as it is */
	bool settled;
};
#define T struct seal_key
static const struct sch_field seal_key_fields[] = {
	SF(1, BYTES, "id", id, 0),
	SF(2, BYTES, "key", key, SCH_SECRET),
	SF(3, U32, "wrap", wrap, 0),
	SF(4, BOOL, "settled", settled, 0),
};
#undef T
static SCHEMA(seal_key_schema, seal_key, seal_key_fields);

static void random_bytes(void *p, size_t n)
{
	ssize_t got;
	do
		got = getrandom(p, n, 0); /* whole at once, unless a signal comes while it waits after boot */
	while (got < 0 && errno == EINTR);
	if (got == (ssize_t)n)
		return;
	log_error("the kernel gives no random numbers");
	abort();
}

/* ---- the key's file ---- */

static int save(const struct seal_key *k, const char *dir, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/data.key", dir);
	struct buf b = { 0 };
	(void)buf_reserve(&b, 256); /* the key is not left in old copies */
	buf_put(&b, magic, sizeof(magic));
	sch_encode(&seal_key_schema, k, &b);
	int rc = fs_write(path, b.data, b.len, 0600, FS_SYNC, err);
	mesh_wipe(b.data, b.len);
	buf_fini(&b);
	return rc;
}

static int decode(const char *path, const struct buf *b, struct seal_key *k, struct mesh_err *err)
{
	if (b->len < sizeof(magic) || memcmp(b->data, magic, sizeof(magic)) != 0 ||
	    sch_decode(&seal_key_schema, k, b->data + sizeof(magic), b->len - sizeof(magic)) ||
	    k->id.n != SEAL_ID_BYTES)
		return mesh_fail(err, MESH_E_CORRUPT, "%s: not a data key: " WAY_OUT, path);
	if (k->wrap)
		return mesh_fail(err, MESH_E_LOCKED,
		                 "%s: the key is locked in a way (%u) that this version cannot open: use the meshd "
		                 "that wrote it",
		                 path, k->wrap);
	return k->key.n == KEY_BYTES ? 0 : mesh_fail(err, MESH_E_CORRUPT, "%s: not a data key: " WAY_OUT, path);
}

int seal_key_load(const char *dir, struct seal_key **out, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("%s/data.key", dir);
	struct buf b = { 0 };
	struct seal_key *k = XNEW(struct seal_key);
	int rc = fs_read(path, FILE_MAX_BYTES, &b, err);
	if (!rc)
		rc = decode(path, &b, k, err);
	if (b.data)
		mesh_wipe(b.data, b.len);
	buf_fini(&b);
	if (rc) {
		seal_key_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

static struct seal_key *key_of(const uint8_t id[SEAL_ID_BYTES], const uint8_t key[KEY_BYTES])
{
	struct seal_key *k = XNEW(struct seal_key);
	bytes_set(&k->id, id, SEAL_ID_BYTES);
	bytes_set(&k->key, key, KEY_BYTES);
	return k;
}

int seal_key_make(const char *dir, struct seal_key **out, struct mesh_err *err)
{
	uint8_t raw[SEAL_ID_BYTES + KEY_BYTES];
	random_bytes(raw, sizeof(raw));
	struct seal_key *k = key_of(raw, raw + SEAL_ID_BYTES);
	mesh_wipe(raw, sizeof(raw));
	int rc = save(k, dir, err);
	if (rc) {
		seal_key_free(k);
		return rc;
	}
	*out = k;
	return 0;
}

struct seal_key *seal_key_of(uint64_t seed)
{
	uint8_t raw[KEY_BYTES] = { 0 };
	memcpy(raw, &seed, sizeof(seed));
	return key_of(raw, raw);
}

void seal_key_free(struct seal_key *k)
{
	if (!k)
		return;
	sch_clear(&seal_key_schema, k); /* wipes */
	free(k);
}

const uint8_t *seal_key_id(const struct seal_key *k)
{
	return k->id.p;
}

bool seal_key_settled(const struct seal_key *k)
{
	return k->settled;
}

int seal_key_settle(struct seal_key *k, const char *dir, struct mesh_err *err)
{
	if (k->settled)
		return 0;
	k->settled = true;
	int rc = save(k, dir, err);
	k->settled = !rc;
	return rc;
}

/* ---- boxes ---- */

void seal_nonce_init(struct seal_nonce *n)
{
	random_bytes(n->random, sizeof(n->random));
	n->next = 0;
}

void seal_close(const struct seal_key *k, struct seal_nonce *nonce, const void *ad, size_t n_ad, const void *p,
                size_t n, uint8_t *box)
{
	memcpy(box, nonce->random, sizeof(nonce->random));
	for (size_t i = 0; i < 8; i++)
		box[16 + i] = (uint8_t)(nonce->next >> 8 * i);
	nonce->next++;
	int rc = wc_XChaCha20Poly1305_Encrypt(box + SEAL_NONCE_BYTES, n + TAG_BYTES, p ? p : ad, n, ad, n_ad, box,
	                                      SEAL_NONCE_BYTES, k->key.p, k->key.n);
	if (!rc)
		return;
	/* Only when memory ends, or for arguments that cannot be: nothing must be written in its place. */
	log_error("cannot encipher error=%s", wc_GetErrorString(rc));
	abort();
}

bool seal_open(const struct seal_key *k, const void *ad, size_t n_ad, const uint8_t *box, size_t n, uint8_t *p)
{
	uint8_t none;
	if (n < SEAL_BYTES)
		return false;
	return wc_XChaCha20Poly1305_Decrypt(n > SEAL_BYTES ? p : &none, n > SEAL_BYTES ? n - SEAL_BYTES : 1,
	                                    box + SEAL_NONCE_BYTES, n - SEAL_NONCE_BYTES, ad, n_ad, box,
	                                    SEAL_NONCE_BYTES, k->key.p, k->key.n) == 0;
}
