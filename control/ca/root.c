/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/crypto.h"
#include "control/ca/x509.h"

#define CERT_DER_MAX 4096
#define ROOT_YEARS 20
#define SECONDS_PER_YEAR 31557600LL

static int fill_root(Cert *c, struct crypto_key *k, int64_t now_ns, struct mesh_err *err)
{
	int rc = wc_InitCert(c);
	if (rc)
		return crypto_fail(err, rc, "root certificate");
	c->sigType = CTC_SHA256wECDSA;
	c->isCA = 1;
	c->pathLen = 0;
	c->pathLenSet = 1;
	snprintf(c->subject.commonName, sizeof(c->subject.commonName), "swarm-ca");
	/* One hour back, so that a node whose clock lags a little can join. */
	crypto_set_dates(c, now_ns - 3600 * NS_PER_SEC, now_ns + ROOT_YEARS * SECONDS_PER_YEAR * NS_PER_SEC);
	rc = wc_SetSubjectKeyIdFromPublicKey_ex(c, ECC_TYPE, &k->ecc);
	if (!rc)
		rc = wc_SetKeyUsage(c, "keyCertSign,cRLSign");
	return rc ? crypto_fail(err, rc, "root certificate") : 0;
}

static int make_root(struct crypto_key *k, int64_t now_ns, struct bytes *cert, struct mesh_err *err)
{
	CLEAN_FREE Cert *c = XNEW(Cert);
	CLEAN_FREE uint8_t *der = xcalloc(1, CERT_DER_MAX);
	int rc = fill_root(c, k, now_ns, err);
	if (rc)
		return rc;
	rc = wc_MakeCert_ex(c, der, CERT_DER_MAX, ECC_TYPE, &k->ecc, &k->rng);
	if (rc < 0)
		return crypto_fail(err, rc, "root certificate");
	return crypto_sign(c, der, CERT_DER_MAX, k, cert, err);
}

int ca_root_make(int64_t now_ns, struct bytes *cert, struct bytes *key, struct mesh_err *err)
{
	struct crypto_key k;
	int rc = crypto_key_make(&k, err);
	if (!rc)
		rc = make_root(&k, now_ns, cert, err);
	if (!rc)
		rc = crypto_key_save(&k, key, err);
	crypto_key_fini(&k);
	crypto_trim();
	return rc;
}

char *ca_pem_of(const struct bytes *der)
{
	size_t cap = der->n * 2 + 128;
	char *pem = xcalloc(1, cap);
	int n = wc_DerToPem(der->p, (word32)der->n, (byte *)pem, (word32)cap - 1, CERT_TYPE);
	pem[n > 0 ? n : 0] = '\0';
	return pem;
}

int ca_tls_info(const struct bytes *cert, struct bytes *subject, struct bytes *public_key)
{
	struct x509_info info;
	int rc = x509_parse(cert->p, cert->n, &info, NULL);
	if (rc)
		return rc;
	bytes_set(subject, info.subject.p, info.subject.n);
	bytes_set(public_key, info.spki.p, info.spki.n);
	return 0;
}
