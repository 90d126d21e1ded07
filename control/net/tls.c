/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/net/tls.h"

#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/error-ssl.h>
#include <wolfssl/wolfcrypt/error-crypt.h>

#include "base/mem.h"
#include "control/ca/crypto.h"

/* Above this an empty buffer's memory is given back. */
#define KEEP_BYTES (4u << 10)

static void trim(struct buf *b)
{
	if (b->cap > KEEP_BYTES)
		buf_fini(b);
	else
		buf_clear(b);
}

static int on_recv(WOLFSSL *ssl, char *out, int size, void *arg)
{
	struct tls *t = arg;
	size_t n = tls_unread(t);
	(void)ssl;
	if (!n)
		return WOLFSSL_CBIO_ERR_WANT_READ;
	if (n > (size_t)size)
		n = (size_t)size;
	memcpy(out, t->in.data + t->in_off, n);
	t->in_off += n;
	if (t->in_off == t->in.len) {
		t->in_off = 0;
		trim(&t->in);
	}
	return (int)n;
}

static int on_send(WOLFSSL *ssl, char *p, int n, void *arg)
{
	struct tls *t = arg;
	(void)ssl;
	buf_put(&t->out, p, (size_t)n);
	return n;
}

int tls_init(struct tls *t, struct net_identity *id, bool server, struct mesh_err *err)
{
	*t = (struct tls){ 0 };
	WOLFSSL_CTX *ctx = net_identity_ctx(id, server);
	if (!ctx)
		return mesh_fail(err, MESH_E_TLS, "TLS cannot use this node's certificate and key");
	t->ssl = wolfSSL_new(ctx);
	if (!t->ssl)
		return mesh_fail(err, MESH_E_TLS, "a TLS session cannot be made");
	wolfSSL_SSLSetIORecv(t->ssl, on_recv);
	wolfSSL_SSLSetIOSend(t->ssl, on_send);
	wolfSSL_SetIOReadCtx(t->ssl, t);
	wolfSSL_SetIOWriteCtx(t->ssl, t);
	/* The key share offered at once; otherwise the library guesses P-256, twice as slow. */
	if (!server)
		(void)wolfSSL_UseKeyShare(t->ssl, WOLFSSL_ECC_X25519);
	return 0;
}

void tls_fini(struct tls *t)
{
	if (t->ssl)
		wolfSSL_free(t->ssl);
	buf_fini(&t->in);
	buf_fini(&t->out);
	*t = (struct tls){ 0 };
}

static const char *alert_text(int alert)
{
	switch (alert) {
	case 20:
	case 51:
		return "it could not verify our messages";
	case 40:
	case 47:
	case 71:
		return "it found no common parameters";
	case 42:
	case 43:
	case 44:
	case 46:
	case 48:
		return "it does not accept this node's certificate";
	case 45:
		return "it says that this node's certificate expired";
	case 70:
		return "it does not speak TLS 1.3";
	case 116:
		return "it wants a certificate";
	}
	return NULL;
}

static int tls_fail(struct tls *t, int code, const char *doing, struct mesh_err *err)
{
	WOLFSSL_ALERT_HISTORY h = { 0 };
	(void)wolfSSL_get_alert_history(t->ssl, &h); /* only fails for NULL */
	if (h.last_rx.level == alert_fatal && h.last_rx.code >= 0) {
		const char *text = alert_text(h.last_rx.code);
		if (text)
			return mesh_fail(err, MESH_E_TLS, "the other end ended TLS: %s", text);
		return mesh_fail(err, MESH_E_TLS, "the other end ended TLS with alert %d", h.last_rx.code);
	}
	switch (code) {
	case VERSION_ERROR:
	case UNSUPPORTED_SUITE:
	case MATCH_SUITE_ERROR:
		return mesh_fail(err, MESH_E_TLS, "the other end does not speak TLS 1.3 as meshd does");
	case UNKNOWN_RECORD_TYPE:
	case PARSE_ERROR:
		return mesh_fail(err, MESH_E_TLS, "the other end does not speak TLS");
	case VERIFY_CERT_ERROR:
	case SIG_VERIFY_E:
	case VERIFY_SIGN_ERROR:
		return mesh_fail(err, MESH_E_TLS, "the other end does not hold the key of its certificate");
	}
	return mesh_fail(err, MESH_E_TLS, "TLS %s: %s", doing, wolfSSL_ERR_reason_error_string((unsigned long)code));
}

int tls_handshake(struct tls *t, struct mesh_err *err)
{
	int rc = wolfSSL_negotiate(t->ssl);
	if (rc == WOLFSSL_SUCCESS)
		return 1;
	int code = wolfSSL_get_error(t->ssl, rc);
	if (code == WOLFSSL_ERROR_WANT_READ || code == WOLFSSL_ERROR_WANT_WRITE)
		return 0;
	return tls_fail(t, code, "handshake", err);
}

void tls_peer_cert(struct tls *t, struct bytes *out)
{
	int n = 0;
	WOLFSSL_X509 *x = wolfSSL_get_peer_certificate(t->ssl);
	const unsigned char *der = x ? wolfSSL_X509_get_der(x, &n) : NULL;
	bytes_set(out, der, der && n > 0 ? (size_t)n : 0);
	if (x)
		wolfSSL_X509_free(x);
}

int tls_read(struct tls *t, uint8_t *p, size_t n, struct mesh_err *err)
{
	int rc = wolfSSL_read(t->ssl, p, (int)n);
	if (rc > 0)
		return rc;
	int code = wolfSSL_get_error(t->ssl, rc);
	if (code == WOLFSSL_ERROR_WANT_READ || code == WOLFSSL_ERROR_WANT_WRITE)
		return 0;
	if (code == WOLFSSL_ERROR_ZERO_RETURN)
		return mesh_fail(err, MESH_E_CLOSED, "the other end closed the connection");
	return tls_fail(t, code, "read", err);
}

int tls_write(struct tls *t, const uint8_t *p, size_t n, struct mesh_err *err)
{
	while (n) {
		int part = n > (1u << 20) ? 1 << 20 : (int)n;
		int rc = wolfSSL_write(t->ssl, p, part);
		if (rc <= 0)
			return tls_fail(t, wolfSSL_get_error(t->ssl, rc), "write", err);
		p += rc;
		n -= (size_t)rc;
	}
	return 0;
}

void tls_shutdown(struct tls *t)
{
	(void)wolfSSL_shutdown(t->ssl); /* reports only that the other end's alert is still to come */
}

void tls_settle(void)
{
	crypto_trim();
}

size_t tls_unread(const struct tls *t)
{
	return t->in.len - t->in_off;
}
