/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   one TLS 1.3 session between two byte buffers; no sockets. Bytes from the wire go into in, bytes for
 *         the wire appear in out.
 * Owner:  the session owns both buffers.
 * Errors: MESH_E_TLS in words; alerts of the other end are translated.
 */
#ifndef CONTROL_NET_TLS_H
#define CONTROL_NET_TLS_H

#include "control/ca/identity.h"

struct WOLFSSL;
struct tls {
	struct WOLFSSL *ssl;
	struct buf in, out;
	size_t in_off; /* consumed bytes of in */
};

int tls_init(struct tls *t, struct net_identity *id, bool server, struct mesh_err *err) MESH_MUST_CHECK;
void tls_fini(struct tls *t);
/* 1: done. 0: needs more bytes. */
int tls_handshake(struct tls *t, struct mesh_err *err) MESH_MUST_CHECK;
/* The other end's certificate, DER; empty when it presented none. */
void tls_peer_cert(struct tls *t, struct bytes *out);
/* Bytes read; 0: needs more; MESH_E_CLOSED: the other end ended the session in good order. */
int tls_read(struct tls *t, uint8_t *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
/* Encrypts all of it into out. */
int tls_write(struct tls *t, const uint8_t *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
/* Puts the closing alert into out. */
void tls_shutdown(struct tls *t);
/* Gives back the memory that made the last handshakes faster: a few MB, for when no more are expected soon. */
void tls_settle(void);
/* Bytes in in that are not consumed. */
size_t tls_unread(const struct tls *t);

#endif
