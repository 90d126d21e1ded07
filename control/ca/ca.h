/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the cluster's certificate authority, node identities and join tokens. The only folder, with
 *          control/net, that knows wolfSSL.
 * Names:   a node certificate carries O = cluster id, OU = "swarm-manager" | "swarm-worker", CN = node id, as
 *          swarmkit does; keys are P-256.
 * Token:   "SWMTKN-1-<50 base36: sha256 of the root certificate>-<25 base36 secret>".
 * Root:    where a root is asked for, several certificates may stand one after the other while the root is
 *          rotated: the first one signs and is what tokens pin, all are trusted.
 * Secrets: private keys are wiped when freed and never logged.
 */
#ifndef CONTROL_CA_CA_H
#define CONTROL_CA_CA_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/schema.h"
#include "control/net/net.h"

/* Makes a root: self-signed, P-256, 20 years, CN "swarm-ca". Both DER; *key SEC1. */
int ca_root_make(int64_t now_ns, struct bytes *cert, struct bytes *key, struct mesh_err *err) MESH_MUST_CHECK;
/* PEM text of a DER certificate; caller frees. */
char *ca_pem_of(const struct bytes *der);
/* Issuer subject and public key of a certificate, DER, as the API shows them in TLSInfo. */
int ca_tls_info(const struct bytes *cert, struct bytes *subject, struct bytes *public_key) MESH_MUST_CHECK;

/* Tokens. */
void ca_token_make(const struct bytes *root_cert, struct mesh_rng *rng, char out[128]);
/* MESH_E_INVALID "invalid join token: ..." names what is wrong with its form. */
int ca_token_check_form(const char *token, struct mesh_err *err) MESH_MUST_CHECK;
/* Does the token pin this root? Constant time. */
bool ca_token_pins(const char *token, const struct bytes *root_cert);
/* Are two tokens the same? Constant time. */
bool ca_token_equal(const char *a, const char *b);

/* A fresh key and a signing request for it. */
int ca_csr_make(struct bytes *key, struct bytes *csr, struct mesh_err *err) MESH_MUST_CHECK;
struct ca_issue {
	cluster_id cluster;
	node_id node;
	bool manager;
	const char *addr; /* IP for the subject alternative name, may be NULL */
	int64_t not_before, not_after;
};
/* Checks the request's proof of possession and signs. cert: DER. */
int ca_issue(const struct bytes *root_cert, const struct bytes *root_key, const struct bytes *csr,
             const struct ca_issue *what, struct bytes *cert, struct mesh_err *err) MESH_MUST_CHECK;

/* A node's identity: root, certificate, key. Used by net_listen and net_connect. Refcounted inside conns. */
int net_identity_new(const struct bytes *root_cert, const struct bytes *cert, const struct bytes *key,
                     struct net_identity **out, struct mesh_err *err) MESH_MUST_CHECK;
/* An identity that trusts nobody yet and has no certificate: joining. */
struct net_identity *net_identity_anonymous(void);
void net_identity_free(struct net_identity *id);
/* Another holder of the same identity; net_identity_free drops one. */
struct net_identity *net_identity_ref(struct net_identity *id);
/* No certificate yet, but a root that the other end must prove: the second step of joining. */
int net_identity_pinned(const struct bytes *root_cert, struct net_identity **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Renewed certificate: connections made from now on use it. On failure nothing changes. */
int net_identity_replace(struct net_identity *id, const struct bytes *root_cert, const struct bytes *cert,
                         const struct bytes *key, struct mesh_err *err) MESH_MUST_CHECK;
const struct net_peer *net_identity_self(const struct net_identity *id);
/*
 * On disk: dir/root.crt, dir/node.crt, dir/node.key (PEM, 0600), written atomically. node.key holds key,
 * certificate and root together and is what is loaded, so that a crash cannot mix two generations; the other
 * two are copies for people and tools. load: -ENOENT when there is none. An expired certificate loads.
 */
int net_identity_save(const struct net_identity *id, const char *dir, struct mesh_err *err) MESH_MUST_CHECK;
int net_identity_load(const char *dir, struct net_identity **out, struct mesh_err *err) MESH_MUST_CHECK;
/* Both DER, borrowed. */
const struct bytes *net_identity_root(const struct net_identity *id);

/* ---- joining ---- */

struct ca_joined {
	node_id node;
	cluster_id cluster;
	bool manager;
	struct net_identity *identity; /* taken by the receiver; renewal: another reference to the one given */
};
/* Exactly once, never from inside ca_join. joined is NULL when code is not 0; err then says why in the server's own words. */
typedef void (*ca_join_cb)(void *arg, int code, const struct ca_joined *joined, const struct mesh_err *err);
/*
 * Client side of joining: fetch the root over an unverified connection, compare with the token's digest,
 * reconnect trusting only that root, send token and CSR, receive the certificate. 20 s in all.
 */
void ca_join(uv_loop_t *loop, const char *addr, const char *token, const char *advertise_addr, ca_join_cb cb,
             void *arg);
/*
 * Same over an authenticated connection, for renewal: a new certificate for the same node, which id then
 * carries (its role may have changed: net_identity_self, joined->manager).
 */
void ca_renew(uv_loop_t *loop, struct net_identity *id, const char *addr, ca_join_cb cb, void *arg);

/*
 * Server side: what the manager's wiring plugs in. decide: given the token's secret (join) or the peer (renew),
 * give the new node's id and role asynchronously through done: it has to be in the store before a
 * certificate goes out.
 */
struct ca_join_request {
	const char *token;           /* NULL when renewing */
	const struct net_peer *peer; /* when renewing */
	const char *remote_addr;     /* as seen */
	const char *advertise_addr;  /* as asked for, may be empty */
	const struct bytes *csr;
};
struct ca_join_pending; /* an open question; answered exactly once */
struct ca_server_ops {
	void (*root)(void *arg, struct bytes *out); /* copy of the root certificate */
	void (*decide)(void *arg, const struct ca_join_request *r, struct ca_join_pending *p);
};
/* cert: DER from ca_issue. A refusal is code + err text, sent to the client word for word. */
void ca_join_answer(struct ca_join_pending *p, int code, const struct ca_issue *what, const struct bytes *cert,
                    const struct mesh_err *err);
/*
 * The ops to return from net_accept_fn for anonymous peers (call it once a connection: the arg is made for
 * it), and the handler for RENEW_CSR frames. Open questions may be answered after ca_server_free.
 */
struct ca_server;
struct ca_server *ca_server_new(const struct ca_server_ops *ops, void *arg);
void ca_server_free(struct ca_server *s);
const struct net_conn_ops *ca_server_conn_ops(struct ca_server *s, void **conn_arg);
void ca_server_renew_frame(struct ca_server *s, struct net_conn *c, uint32_t stream, const uint8_t *p, size_t n);

#endif
