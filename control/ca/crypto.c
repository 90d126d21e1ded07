/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/ca/crypto.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/ca/x509.h"

#define KEY_DER_MAX 256

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init_library(void)
{
	if (wolfSSL_Init() != WOLFSSL_SUCCESS) {
		log_error("wolfSSL cannot start");
		abort();
	}
}

void crypto_init(void)
{
	(void)pthread_once(&once, init_library); /* fails only for a bad control block */
}

int crypto_fail(struct mesh_err *err, int wolf_code, const char *what)
{
	return mesh_fail(err, MESH_E_TLS, "%s: %s", what, wc_GetErrorString(wolf_code));
}

void crypto_secret_clear(struct bytes *b)
{
	if (b->p)
		mesh_wipe(b->p, b->n);
	free(b->p);
	*b = (struct bytes){ 0 };
}

static int key_init(struct crypto_key *k, struct mesh_err *err)
{
	crypto_init();
	memset(k, 0, sizeof(*k));
	int rc = wc_InitRng(&k->rng);
	if (rc)
		return crypto_fail(err, rc, "random numbers");
	k->rng_ready = true;
	rc = wc_ecc_init(&k->ecc);
	if (rc)
		return crypto_fail(err, rc, "key");
	k->ecc_ready = true;
	wc_ecc_set_rng(&k->ecc, &k->rng);
	return 0;
}

void crypto_key_fini(struct crypto_key *k)
{
	if (k->ecc_ready)
		wc_ecc_free(&k->ecc);
	if (k->rng_ready)
		wc_FreeRng(&k->rng);
	mesh_wipe(k, sizeof(*k));
}

int crypto_key_make(struct crypto_key *k, struct mesh_err *err)
{
	int rc = key_init(k, err);
	if (rc)
		return rc;
	rc = wc_ecc_make_key_ex(&k->rng, 32, &k->ecc, ECC_SECP256R1);
	return rc ? crypto_fail(err, rc, "making a key") : 0;
}

int crypto_key_load(struct crypto_key *k, const struct bytes *der, struct mesh_err *err)
{
	word32 at = 0;
	int rc = key_init(k, err);
	if (rc)
		return rc;
	rc = der->n ? wc_EccPrivateKeyDecode(der->p, &at, &k->ecc, (word32)der->n) : ASN_PARSE_E;
	if (rc)
		return crypto_fail(err, rc, "private key");
	if (wc_ecc_get_curve_id(k->ecc.idx) != ECC_SECP256R1)
		return mesh_fail(err, MESH_E_TLS, "private key is not of the curve P-256");
	return 0;
}

int crypto_key_save(struct crypto_key *k, struct bytes *der, struct mesh_err *err)
{
	uint8_t tmp[KEY_DER_MAX];
	int n = wc_EccKeyToDer(&k->ecc, tmp, sizeof(tmp));
	if (n > 0)
		bytes_set(der, tmp, (size_t)n);
	mesh_wipe(tmp, sizeof(tmp));
	return n > 0 ? 0 : crypto_fail(err, n, "private key");
}

int crypto_public_load(ecc_key *key, const uint8_t *spki, size_t n, struct mesh_err *err)
{
	word32 at = 0;
	int rc = wc_EccPublicKeyDecode(spki, &at, key, (word32)n);
	if (rc)
		return crypto_fail(err, rc, "public key");
	if (wc_ecc_get_curve_id(key->idx) != ECC_SECP256R1)
		return mesh_fail(err, MESH_E_TLS, "public key is not of the curve P-256");
	return 0;
}

bool crypto_key_matches(struct crypto_key *k, const uint8_t *spki, size_t n)
{
	ecc_key pub;
	uint8_t a[80], b[80];
	word32 na = sizeof(a), nb = sizeof(b);
	if (wc_ecc_init(&pub))
		return false;
	/* A key may come without its public half. */
	bool ok = (k->ecc.type != ECC_PRIVATEKEY_ONLY || wc_ecc_make_pub(&k->ecc, NULL) == 0) &&
	          crypto_public_load(&pub, spki, n, NULL) == 0 && wc_ecc_export_x963(&k->ecc, a, &na) == 0 &&
	          wc_ecc_export_x963(&pub, b, &nb) == 0 && na == nb && memcmp(a, b, na) == 0;
	wc_ecc_free(&pub);
	return ok;
}

static int put_date(byte *out, int64_t ns)
{
	time_t t = (time_t)(ns / NS_PER_SEC);
	struct tm tm;
	char text[20];
	gmtime_r(&t, &tm);
	bool utc = tm.tm_year + 1900 < 2050 && tm.tm_year + 1900 >= 1950;
	size_t n = strftime(text, sizeof(text), utc ? "%y%m%d%H%M%SZ" : "%Y%m%d%H%M%SZ", &tm);
	out[0] = utc ? 0x17 : 0x18;
	out[1] = (byte)n;
	memcpy(out + 2, text, n);
	return (int)n + 2;
}

void crypto_set_dates(Cert *c, int64_t not_before, int64_t not_after)
{
	c->beforeDateSz = put_date(c->beforeDate, not_before);
	c->afterDateSz = put_date(c->afterDate, not_after);
}

int crypto_sign(Cert *c, uint8_t *der, size_t cap, struct crypto_key *k, struct bytes *out, struct mesh_err *err)
{
	int n = wc_SignCert_ex(c->bodySz, c->sigType, der, (word32)cap, ECC_TYPE, &k->ecc, &k->rng);
	if (n <= 0)
		return crypto_fail(err, n, "signing");
	bytes_set(out, der, (size_t)n);
	return 0;
}

void crypto_trim(void)
{
#ifdef FP_ECC
	wc_ecc_fp_free();
#endif
}

/* ---- trust ------------------------------------------------------------------------------------- */

struct x509_trust {
	WOLFSSL_CERT_MANAGER *cm;
};

int x509_trust_new(const struct bytes *root, struct x509_trust **out, struct mesh_err *err)
{
	crypto_init();
	struct x509_trust *t = XNEW(struct x509_trust);
	t->cm = wolfSSL_CertManagerNew();
	int rc = t->cm && root->n ? 0 : mesh_fail(err, MESH_E_TLS, "no root certificate");
	for (size_t off = 0; !rc && off < root->n;) {
		struct x509_info info;
		size_t n = x509_first(root->p + off, root->n - off);
		rc = x509_parse(root->p + off, n, &info, err);
		if (!rc && wolfSSL_CertManagerLoadCABuffer(t->cm, root->p + off, (long)n, WOLFSSL_FILETYPE_ASN1) !=
		                   WOLFSSL_SUCCESS)
			rc = mesh_fail(err, MESH_E_TLS, "root certificate is not one of a certificate authority");
		off += n;
	}
	if (rc) {
		x509_trust_free(t);
		return mesh_wrap(err, rc, "root");
	}
	*out = t;
	return 0;
}

void x509_trust_free(struct x509_trust *t)
{
	if (!t)
		return;
	if (t->cm)
		wolfSSL_CertManagerFree(t->cm);
	free(t);
}

enum x509_verdict x509_trust_check(const struct x509_trust *t, const void *der, size_t n)
{
	switch (wolfSSL_CertManagerVerifyBuffer(t->cm, der, (long)n, WOLFSSL_FILETYPE_ASN1)) {
	case WOLFSSL_SUCCESS:
		return X509_TRUSTED;
	case ASN_AFTER_DATE_E:
		return X509_EXPIRED;
	case ASN_BEFORE_DATE_E:
		return X509_EARLY;
	}
	return X509_FOREIGN;
}
