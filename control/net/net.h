/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    connections between nodes: framed messages over mutual TLS 1.3 (wolfSSL) over TCP on a libuv
 *          loop. One port (2377) carries everything between nodes.
 * Frame:   u32 length of what follows the 12-byte header, u16 type, u16 flags, u32 stream; little endian.
 *          At most NET_FRAME_MAX bytes; a larger one, or bad framing, closes the connection with a reason.
 * Trust:   both ends present a certificate of the cluster's CA that carries cluster, node and role. A server
 *          also accepts a client without one, which may then only send join frames (net_peer.anonymous).
 * Hello:   TLS alone cannot tell the other end why its certificate is refused, so each end verifies the other's
 *          certificate when TLS is up, before any byte of it is used, and answers with NET_HELLO or NET_ERROR.
 *          on_open comes after both said hello.
 * Process: SIGPIPE is set to be ignored when it still has its default action (libuv's writes raise it).
 * Loop:    all callbacks on the loop's thread; a conn or listener is gone only after its close callback.
 */
#ifndef CONTROL_NET_NET_H
#define CONTROL_NET_NET_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

#define NET_FRAME_MAX (16u << 20)

enum net_type {                      /* u16 on the wire; a registry so that no two meanings share a number */
	        NET_JOIN_ROOT = 1,   /* client -> server, empty: give me the root certificate */
	        NET_JOIN_ROOT_REPLY, /* root certificate, DER */
	        NET_JOIN_CSR,        /* token, CSR, requested node description */
	        NET_JOIN_CERT,       /* node id, certificate chain, cluster facts */
	        NET_ERROR,           /* u32 code, text: the reason before a close, or the end of a stream */
	        NET_RENEW_CSR,       /* as JOIN_CSR, authenticated by the current certificate */
	        NET_HELLO,        /* both ways, once, before all else: I have verified you; u16 min, u16 max version */
	        NET_SESSION = 32, /* agent <-> dispatcher: control/wire.h */
	        NET_RAFT = 48,    /* manager <-> manager */
	        NET_CALL = 64,    /* a request on its own stream: logs, exec, forwarded API calls */
	        NET_DATA,         /* bytes of a stream */
	        NET_END,          /* end of a stream: empty, or u32 code and text */
	        NET_WINDOW,       /* u32 bytes the receiver has consumed (back-pressure per stream) */
};

struct net_conn;
struct net_listener;

/* Who the other end is, from its certificate. */
struct net_peer {
	bool anonymous; /* no certificate: only join frames */
	cluster_id cluster;
	node_id node;
	bool manager;
	char addr[64];     /* "172.31.1.12:41876" */
	int64_t not_after; /* ns */
};

/* This node's own identity; replaced when a certificate is renewed (new handshakes use it). */
struct net_identity; /* control/ca/ca.h makes one */

struct net_conn_ops {
	/* TLS is up and the peer is who it must be. */
	void (*on_open)(void *arg, struct net_conn *c, const struct net_peer *peer);
	/* One frame; bytes are borrowed. Only after on_open. */
	void (*on_frame)(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n);
	/* The send queue fell below the low mark after net_send said it was full. May be NULL. */
	void (*on_drain)(void *arg, struct net_conn *c);
	/* Exactly once, also when it never opened; c is gone after. err says why (code 0: closed by us). */
	void (*on_close)(void *arg, struct net_conn *c, const struct mesh_err *err);
};

/* For net_connect's expect: any manager of the cluster, and no worker. */
#define NET_EXPECT_MANAGER "manager"
/*
 * host may be a name or an address. expect (nullable) is the node id the other end must have. Reasons reach
 * on_close: refused, timed out (10 s), "certificate expired", "certificate of another cluster", ...
 */
int net_connect(uv_loop_t *loop, struct net_identity *id, const char *host, uint16_t port, const char *expect,
                const struct net_conn_ops *ops, void *arg, struct net_conn **out, struct mesh_err *err) MESH_MUST_CHECK;

/* on_accept gives the ops and arg of each new connection; returning non-zero refuses it. */
typedef int (*net_accept_fn)(void *arg, const struct net_peer *peer, const struct net_conn_ops **ops, void **conn_arg);
/* addr "0.0.0.0:2377". -EADDRINUSE names the address. */
int net_listen(uv_loop_t *loop, struct net_identity *id, const char *addr, net_accept_fn on_accept, void *arg,
               struct net_listener **out, struct mesh_err *err) MESH_MUST_CHECK;
/* The bound port: for port 0. */
uint16_t net_listener_port(const struct net_listener *l);
/* Connections that were refused before on_accept saw them; without it they are logged as warnings. */
void net_listener_on_refused(struct net_listener *l,
                             void (*fn)(void *arg, const struct net_peer *peer, const struct mesh_err *err));
/* Ends what on_accept has not seen yet; connections it accepted live on. cb (may be NULL) once, then l is gone. */
void net_listener_close(struct net_listener *l, void (*cb)(void *arg), void *arg);

/* Copies the bytes into the send queue; n at most NET_FRAME_MAX. false: the queue is above its high mark; stop until on_drain. */
bool net_send(struct net_conn *c, uint16_t type, uint32_t stream, const void *p, size_t n);
/* Stop and start reading frames (back-pressure). */
void net_pause(struct net_conn *c);
void net_resume(struct net_conn *c);
/*
 * Sends what is queued (at most 5 s), then closes; no more frames arrive. reason (nullable) goes out as NET_ERROR
 * on stream 0 first, and reaches the other end's on_close; our own on_close gets code 0 and its text.
 */
void net_close(struct net_conn *c, const struct mesh_err *reason);
const struct net_peer *net_peer_of(const struct net_conn *c);
void *net_arg(const struct net_conn *c);
void net_set_arg(struct net_conn *c, void *arg);
/* Keeps the memory of c beyond on_close, for an answer that comes later: sends to a closed conn go nowhere. */
struct net_conn *net_ref(struct net_conn *c);
void net_unref(struct net_conn *c);

/* The body of NET_ERROR (and of a NET_END that failed): u32 code, text. Decoding never fails: foreign codes and
 * control characters become harmless, an empty body says so. */
void net_error_encode(struct buf *out, const struct mesh_err *err);
void net_error_decode(const uint8_t *p, size_t n, struct mesh_err *out);
/* "host:port", "[::1]:2377" or a host alone. host: at least 256 bytes. */
int net_addr_parse(const char *addr, uint16_t default_port, char *host, size_t host_size, uint16_t *port,
                   struct mesh_err *err) MESH_MUST_CHECK;

#endif
