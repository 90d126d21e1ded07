/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/crypto.h"
#include "control/ca/x509.h"
#include <wolfssl/wolfcrypt/asn.h>

#define CERT_DER_MAX 4096
#define CSR_MAX_BYTES 2048

static int make_csr(struct crypto_key *k, struct bytes *csr, struct mesh_err *err)
{
	CLEAN_FREE Cert *c = XNEW(Cert);
	CLEAN_FREE uint8_t *der = xcalloc(1, CSR_MAX_BYTES);
	int rc = wc_InitCert(c);
	if (rc)
		return crypto_fail(err, rc, "signing request");
	c->sigType = CTC_SHA256wECDSA;
	/* The CA decides the names; some name must stand here. */
	snprintf(c->subject.commonName, sizeof(c->subject.commonName), "mesh-node");
	rc = wc_MakeCertReq_ex(c, der, CSR_MAX_BYTES, ECC_TYPE, &k->ecc);
	if (rc < 0)
		return crypto_fail(err, rc, "signing request");
	return crypto_sign(c, der, CSR_MAX_BYTES, k, csr, err);
}

int ca_csr_make(struct bytes *key, struct bytes *csr, struct mesh_err *err)
{
	struct crypto_key k;
	int rc = crypto_key_make(&k, err);
	if (!rc)
		rc = make_csr(&k, csr, err);
	if (!rc)
		rc = crypto_key_save(&k, key, err);
	crypto_key_fini(&k);
	crypto_trim();
	return rc;
}

/* Verifies that the sender holds the key, and takes its public half. pub must be initialised. */
static int csr_public_key(const struct bytes *csr, ecc_key *pub, struct mesh_err *err)
{
	if (!csr->n || csr->n > CSR_MAX_BYTES)
		return mesh_fail(err, MESH_E_INVALID, "signing request of %zu bytes", csr->n);
	CLEAN_FREE DecodedCert *dc = XNEW(DecodedCert);
	wc_InitDecodedCert(dc, csr->p, (word32)csr->n, NULL);
	int rc = wc_ParseCert(dc, CERTREQ_TYPE, VERIFY, NULL);
	if (rc)
		rc = mesh_fail(err, MESH_E_INVALID, "signing request: %s", wc_GetErrorString(rc));
	else if (dc->keyOID != ECDSAk)
		rc = mesh_fail(err, MESH_E_INVALID, "signing request: its key is not of the curve P-256");
	else
		rc = crypto_public_load(pub, dc->publicKey, dc->pubKeySize, err);
	wc_FreeDecodedCert(dc);
	return rc;
}

static size_t put_name(byte *out, uint8_t tag, const void *p, size_t n)
{
	out[0] = tag;
	out[1] = (byte)n;
	memcpy(out + 2, p, n);
	return n + 2;
}

/* GeneralNames by hand: the node id and the role as DNS names, and the address. All are shorter than 128 bytes. */
static int put_alt_names(Cert *c, const struct ca_issue *what, struct mesh_err *err)
{
	const char *role = what->manager ? "swarm-manager" : "swarm-worker";
	uint8_t ip[16];
	size_t ip_n = 0;
	if (what->addr && *what->addr) {
		if (inet_pton(AF_INET, what->addr, ip) == 1)
			ip_n = 4;
		else if (inet_pton(AF_INET6, what->addr, ip) == 1)
			ip_n = 16;
		else
			return mesh_fail(err, MESH_E_INVALID, "'%.64s' is not an IP address", what->addr);
	}
	byte *names = c->altNames + 2;
	size_t n = put_name(names, 0x82, what->node.s, strlen(what->node.s));
	n += put_name(names + n, 0x82, role, strlen(role));
	if (ip_n)
		n += put_name(names + n, 0x87, ip, ip_n);
	c->altNames[0] = 0x30;
	c->altNames[1] = (byte)n;
	c->altNamesSz = (int)n + 2;
	return 0;
}

static int fill_node(Cert *c, const struct bytes *root_cert, ecc_key *pub, const struct ca_issue *what,
                     struct mesh_err *err)
{
	int rc = wc_InitCert(c);
	if (rc)
		return crypto_fail(err, rc, "certificate");
	c->sigType = CTC_SHA256wECDSA;
	snprintf(c->subject.org, sizeof(c->subject.org), "%s", what->cluster.s);
	snprintf(c->subject.unit, sizeof(c->subject.unit), "%s", what->manager ? "swarm-manager" : "swarm-worker");
	snprintf(c->subject.commonName, sizeof(c->subject.commonName), "%s", what->node.s);
	crypto_set_dates(c, what->not_before, what->not_after);
	rc = put_alt_names(c, what, err);
	if (rc)
		return rc;
	if ((rc = wc_SetIssuerBuffer(c, root_cert->p, (int)root_cert->n)) ||
	    (rc = wc_SetAuthKeyIdFromCert(c, root_cert->p, (int)root_cert->n)) ||
	    (rc = wc_SetSubjectKeyIdFromPublicKey_ex(c, ECC_TYPE, pub)) ||
	    (rc = wc_SetKeyUsage(c, "digitalSignature")) || (rc = wc_SetExtKeyUsage(c, "serverAuth,clientAuth")))
		return crypto_fail(err, rc, "certificate");
	return 0;
}

static int sign_node(const struct bytes *root_cert, struct crypto_key *ca, ecc_key *pub, const struct ca_issue *what,
                     struct bytes *cert, struct mesh_err *err)
{
	CLEAN_FREE Cert *c = XNEW(Cert);
	CLEAN_FREE uint8_t *der = xcalloc(1, CERT_DER_MAX);
	int rc = fill_node(c, root_cert, pub, what, err);
	if (rc)
		return rc;
	rc = wc_MakeCert_ex(c, der, CERT_DER_MAX, ECC_TYPE, pub, &ca->rng);
	if (rc < 0)
		return crypto_fail(err, rc, "certificate");
	return crypto_sign(c, der, CERT_DER_MAX, ca, cert, err);
}

static int check_issue(const struct ca_issue *what, struct mesh_err *err)
{
	if (!mesh_id_valid(what->cluster.s) || !mesh_id_valid(what->node.s))
		return mesh_fail(err, MESH_E_INVALID, "a certificate needs the ids of cluster and node");
	if (what->not_after <= what->not_before)
		return mesh_fail(err, MESH_E_INVALID, "a certificate must end after it begins");
	return 0;
}

int ca_issue(const struct bytes *root_cert, const struct bytes *root_key, const struct bytes *csr,
             const struct ca_issue *what, struct bytes *cert, struct mesh_err *err)
{
	struct crypto_key ca;
	struct x509_info root;
	ecc_key pub;
	int rc = check_issue(what, err);
	if (rc)
		return rc;
	/* While the root is rotated the newest stands first. */
	struct bytes first = { root_cert->p, x509_first(root_cert->p, root_cert->n) };
	rc = x509_parse(first.p, first.n, &root, err);
	if (rc)
		return mesh_wrap(err, rc, "root");
	rc = crypto_key_load(&ca, root_key, err);
	if (!rc && !crypto_key_matches(&ca, root.spki.p, root.spki.n))
		rc = mesh_fail(err, MESH_E_TLS, "the root's key does not belong to the root certificate");
	if (rc)
		goto undo_key;
	rc = wc_ecc_init(&pub);
	if (rc) {
		rc = crypto_fail(err, rc, "public key");
		goto undo_key;
	}
	rc = csr_public_key(csr, &pub, err);
	if (!rc)
		rc = sign_node(&first, &ca, &pub, what, cert, err);
	wc_ecc_free(&pub);
undo_key:
	crypto_key_fini(&ca);
	crypto_trim();
	return rc;
}
