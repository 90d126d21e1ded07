/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what a certificate says (a small bounded DER walk, pure) and whether this cluster's CA said it
 *         (wolfSSL). Internal to control/ca and control/net.
 * Owner:  struct x509_info borrows from the DER bytes.
 * Errors: MESH_E_CORRUPT for bytes that are no certificate; MESH_E_TLS for one that is refused, in words an
 *         operator understands.
 * Units:  times ns since 1970.
 */
#ifndef CONTROL_CA_X509_H
#define CONTROL_CA_X509_H

#include "base/err.h"
#include "base/schema.h"
#include "control/net/net.h"

#define X509_MAX_BYTES 8192

struct x509_span {
	const uint8_t *p;
	size_t n;
};
struct x509_info {
	struct x509_span issuer, subject, spki; /* each with its DER header */
	char cn[65], o[65], ou[65];             /* of the subject; empty when absent */
	int64_t not_before, not_after;
};

/* Extra bytes after the certificate are an error. */
int x509_parse(const void *der, size_t n, struct x509_info *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Length of the first DER element, 0 when it is not whole. */
size_t x509_first(const void *p, size_t n);

/* The roots a node trusts. root: one certificate, or several one after the other while the root is rotated. */
struct x509_trust;
int x509_trust_new(const struct bytes *root, struct x509_trust **out, struct mesh_err *err) MESH_MUST_CHECK;
void x509_trust_free(struct x509_trust *t);
enum x509_verdict { X509_TRUSTED, X509_EXPIRED, X509_EARLY, X509_FOREIGN };
/* The signature is checked whatever the dates say. */
enum x509_verdict x509_trust_check(const struct x509_trust *t, const void *der, size_t n);

/*
 * Is this the certificate of a node of our cluster, valid now? Fills out->cluster, node, manager, not_after.
 * cluster: ours; empty while joining, when only the root is known.
 */
int x509_check_node(const struct x509_trust *t, const void *der, size_t n, const char *cluster, int64_t now_ns,
                    struct net_peer *out, struct mesh_err *err) MESH_MUST_CHECK;
/* The same without asking whether it is valid now: our own, from disk. */
int x509_check_own(const struct x509_trust *t, const void *der, size_t n, struct net_peer *out,
                   struct mesh_err *err) MESH_MUST_CHECK;

#endif
