/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the few wolfCrypt things that more than one file of control/ca needs. Internal to control/ca and
 *         control/net.
 * Errors: wolfSSL's codes stop here: MESH_E_TLS with its text.
 */
#ifndef CONTROL_CA_CRYPTO_H
#define CONTROL_CA_CRYPTO_H

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/random.h>

#include "base/err.h"
#include "base/schema.h"

/* Once a process; idempotent. */
void crypto_init(void);
/* "what: <wolfSSL's text>", MESH_E_TLS. */
int crypto_fail(struct mesh_err *err, int wolf_code, const char *what);
/* Wipes and frees. */
void crypto_secret_clear(struct bytes *b);

/* A P-256 key with the generator that signing and making keys need. */
struct crypto_key {
	WC_RNG rng;
	ecc_key ecc;
	bool rng_ready, ecc_ready;
};
int crypto_key_make(struct crypto_key *k, struct mesh_err *err) MESH_MUST_CHECK;
/* SEC1 DER; anything but P-256 is refused. */
int crypto_key_load(struct crypto_key *k, const struct bytes *der, struct mesh_err *err) MESH_MUST_CHECK;
int crypto_key_save(struct crypto_key *k, struct bytes *der, struct mesh_err *err) MESH_MUST_CHECK;
void crypto_key_fini(struct crypto_key *k);
/* Is this the private half of the key in a SubjectPublicKeyInfo? */
bool crypto_key_matches(struct crypto_key *k, const uint8_t *spki, size_t n);
/* Also P-256 only. */
int crypto_public_load(ecc_key *key, const uint8_t *spki, size_t n, struct mesh_err *err) MESH_MUST_CHECK;

/* Validity as DER UTCTime or GeneralizedTime (after 2049), whole seconds. */
void crypto_set_dates(Cert *c, int64_t not_before, int64_t not_after);
/* Signs what wc_MakeCert_ex or wc_MakeCertReq_ex left in der[0..body). Takes the result into out. */
int crypto_sign(Cert *c, uint8_t *der, size_t cap, struct crypto_key *k, struct bytes *out,
                struct mesh_err *err) MESH_MUST_CHECK;
/*
 * wolfSSL remembers tables for keys it saw twice, several hundred KB each; a daemon that shakes hands rarely
 * is better off without.
 */
void crypto_trim(void);

#endif
