/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/ca/identity.h"

#include "base/mem.h"
#include "control/ca/crypto.h"
#include "control/ca/x509.h"

struct net_identity {
	unsigned refs;
	struct bytes root, cert, key;
	struct net_peer self;
	struct x509_trust *trust; /* NULL: trusts nobody yet */
	WOLFSSL_CTX *ctx[2];      /* client, server */
};

/* Owned parts only; refs stay. */
static void identity_clear(struct net_identity *id)
{
	for (int i = 0; i < 2; i++)
		if (id->ctx[i])
			wolfSSL_CTX_free(id->ctx[i]);
	x509_trust_free(id->trust);
	free(id->root.p);
	free(id->cert.p);
	crypto_secret_clear(&id->key);
	*id = (struct net_identity){ .refs = id->refs };
}

static int check_key(const struct bytes *cert, const struct bytes *key, struct mesh_err *err)
{
	struct x509_info info;
	struct crypto_key k;
	int rc = x509_parse(cert->p, cert->n, &info, err);
	if (rc)
		return rc;
	rc = crypto_key_load(&k, key, err);
	if (!rc && !crypto_key_matches(&k, info.spki.p, info.spki.n))
		rc = mesh_fail(err, MESH_E_TLS, "the private key does not belong to the certificate");
	crypto_key_fini(&k);
	return rc;
}

static int identity_fill(struct net_identity *id, const struct bytes *root, const struct bytes *cert,
                         const struct bytes *key, struct mesh_err *err)
{
	bytes_set(&id->root, root->p, root->n);
	bytes_set(&id->cert, cert->p, cert->n);
	bytes_set(&id->key, key->p, key->n);
	int rc = x509_trust_new(&id->root, &id->trust, err);
	if (!rc)
		rc = x509_check_own(id->trust, id->cert.p, id->cert.n, &id->self, err);
	if (!rc)
		rc = check_key(&id->cert, &id->key, err);
	crypto_trim();
	return rc ? mesh_wrap(err, rc, "node certificate") : 0;
}

static struct net_identity *identity_alloc(void)
{
	crypto_init();
	struct net_identity *id = XNEW(struct net_identity);
	id->refs = 1;
	return id;
}

int net_identity_new(const struct bytes *root_cert, const struct bytes *cert, const struct bytes *key,
                     struct net_identity **out, struct mesh_err *err)
{
	struct net_identity *id = identity_alloc();
	int rc = identity_fill(id, root_cert, cert, key, err);
	if (rc) {
		net_identity_free(id);
		return rc;
	}
	*out = id;
	return 0;
}

struct net_identity *net_identity_anonymous(void)
{
	struct net_identity *id = identity_alloc();
	id->self.anonymous = true;
	return id;
}

int net_identity_pinned(const struct bytes *root_cert, struct net_identity **out, struct mesh_err *err)
{
	struct net_identity *id = net_identity_anonymous();
	bytes_set(&id->root, root_cert->p, root_cert->n);
	int rc = x509_trust_new(&id->root, &id->trust, err);
	if (rc) {
		net_identity_free(id);
		return rc;
	}
	*out = id;
	return 0;
}

struct net_identity *net_identity_unchecked(const struct bytes *root_cert, const struct bytes *cert,
                                            const struct bytes *key)
{
	struct net_identity *id = identity_alloc();
	(void)identity_fill(id, root_cert, cert, key, NULL); /* its verdict is what the caller goes without */
	return id;
}

struct net_identity *net_identity_ref(struct net_identity *id)
{
	id->refs++;
	return id;
}

void net_identity_free(struct net_identity *id)
{
	if (!id || --id->refs)
		return;
	identity_clear(id);
	free(id);
}

int net_identity_replace(struct net_identity *id, const struct bytes *root_cert, const struct bytes *cert,
                         const struct bytes *key, struct mesh_err *err)
{
	struct net_identity fresh = { .refs = id->refs };
	int rc = identity_fill(&fresh, root_cert, cert, key, err);
	if (rc) {
		identity_clear(&fresh);
		return rc;
	}
	identity_clear(id);
	*id = fresh;
	return 0;
}

const struct net_peer *net_identity_self(const struct net_identity *id)
{
	return &id->self;
}

const struct bytes *net_identity_root(const struct net_identity *id)
{
	return &id->root;
}

const struct bytes *net_identity_cert(const struct net_identity *id)
{
	return &id->cert;
}

const struct bytes *net_identity_key(const struct net_identity *id)
{
	return &id->key;
}

/* ---- TLS contexts ------------------------------------------------------------------------------ */

/*
 * Lets every certificate through the handshake. An alert cannot say "expired at ...", so the verdict is
 * net_identity_check's, right after the handshake has proven that the other end holds the key, and before
 * anything it sends is used.
 */
static int verify_later(int ok, WOLFSSL_X509_STORE_CTX *store)
{
	(void)ok;
	(void)store;
	return 1;
}

static bool ctx_set(WOLFSSL_CTX *ctx, const struct net_identity *id)
{
	int groups[] = { WOLFSSL_ECC_X25519, WOLFSSL_ECC_SECP256R1 };
	wolfSSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, verify_later);
	wolfSSL_CTX_set_session_cache_mode(ctx, WOLFSSL_SESS_CACHE_OFF);
	if (wolfSSL_CTX_set_cipher_list(ctx, "TLS13-CHACHA20-POLY1305-SHA256:TLS13-AES128-GCM-SHA256") !=
	            WOLFSSL_SUCCESS ||
	    wolfSSL_CTX_set_groups(ctx, groups, ARRAY_SIZE(groups)) != WOLFSSL_SUCCESS)
		return false;
	if (!id->cert.n)
		return true;
	return wolfSSL_CTX_use_certificate_buffer(ctx, id->cert.p, (long)id->cert.n, WOLFSSL_FILETYPE_ASN1) ==
	               WOLFSSL_SUCCESS &&
	       wolfSSL_CTX_use_PrivateKey_buffer(ctx, id->key.p, (long)id->key.n, WOLFSSL_FILETYPE_ASN1) ==
	               WOLFSSL_SUCCESS;
}

struct WOLFSSL_CTX *net_identity_ctx(struct net_identity *id, bool server)
{
	if (id->ctx[server])
		return id->ctx[server];
	WOLFSSL_CTX *ctx = wolfSSL_CTX_new(server ? wolfTLSv1_3_server_method() : wolfTLSv1_3_client_method());
	if (!ctx)
		return NULL;
	if (server)
		(void)wolfSSL_CTX_no_ticket_TLSv13(ctx); /* fails only for other versions */
	if (!ctx_set(ctx, id)) {
		wolfSSL_CTX_free(ctx);
		return NULL;
	}
	id->ctx[server] = ctx;
	return ctx;
}

int net_identity_check(const struct net_identity *id, const void *der, size_t n, int64_t now_ns, struct net_peer *out,
                       struct mesh_err *err)
{
	if (!id->trust) {
		out->anonymous = true;
		return 0;
	}
	return x509_check_node(id->trust, der, n, id->self.cluster.s, now_ns, out, err);
}
