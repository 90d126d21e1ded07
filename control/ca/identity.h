/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what control/net needs of an identity beyond ca.h: TLS contexts, and the check of the other end's
 *         certificate. Internal to control/ca and control/net.
 * Thread: the loop's; reference counts are plain.
 */
#ifndef CONTROL_CA_IDENTITY_H
#define CONTROL_CA_IDENTITY_H

#include "control/ca/ca.h"

struct WOLFSSL_CTX;
/* Made when first asked for, owned by the identity; NULL when wolfSSL refuses. */
struct WOLFSSL_CTX *net_identity_ctx(struct net_identity *id, bool server);
/* Fills out from the other end's certificate. Without a root of our own (anonymous) everybody passes, unverified. */
int net_identity_check(const struct net_identity *id, const void *der, size_t n, int64_t now_ns, struct net_peer *out,
                       struct mesh_err *err) MESH_MUST_CHECK;
const struct bytes *net_identity_cert(const struct net_identity *id);
const struct bytes *net_identity_key(const struct net_identity *id);
/* Test seam: a certificate with whatever key, unchecked. */
struct net_identity *net_identity_unchecked(const struct bytes *root_cert, const struct bytes *cert,
                                            const struct bytes *key);

#endif
