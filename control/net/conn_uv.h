/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what net_uv.c (connections) and listen_uv.c (listeners) share. Internal to control/net.
 */
#ifndef CONTROL_NET_CONN_UV_H
#define CONTROL_NET_CONN_UV_H

#include "control/net/net.h"

/* Called when an accepted connection's certificate is verified: fills ops and arg, or refuses with a code. */
typedef int (*conn_accept_fn)(struct net_listener *l, const struct net_peer *peer, const struct net_conn_ops **ops,
                              void **arg);
struct conn_owner_ops {
	conn_accept_fn accept;
	/* A connection that accept has not taken ended; err->code is 0 when the listener ended it. */
	void (*gone)(struct net_listener *l, struct net_conn *c, const struct mesh_err *err);
};

/* Takes one connection waiting at the listening socket. */
int conn_accept(uv_loop_t *loop, uv_stream_t *server, struct net_identity *id, struct net_listener *l,
                const struct conn_owner_ops *owner, struct net_conn **out) MESH_MUST_CHECK;
/* At once, without a word to the other end. */
void conn_abort(struct net_conn *c);

#endif
