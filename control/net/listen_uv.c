/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/map.h"
#include "control/ca/ca.h"
#include "control/net/conn_uv.h"

#define BACKLOG 128
/* Handshakes in progress; more wait in the kernel's queue and are then closed unheard. */
#define PENDING_MAX 256

struct net_listener {
	uv_tcp_t tcp;
	uv_loop_t *loop;
	struct net_identity *id;
	net_accept_fn on_accept;
	void (*on_refused)(void *arg, const struct net_peer *peer, const struct mesh_err *err);
	void *arg;
	struct VEC(struct net_conn *) pending;
	bool closing, tcp_closed;
	void (*close_cb)(void *arg);
	void *close_arg;
};

static void finish_close(struct net_listener *l)
{
	if (!l->tcp_closed || l->pending.len)
		return;
	void (*cb)(void *arg) = l->close_cb;
	void *arg = l->close_arg;
	vec_fini(&l->pending);
	net_identity_free(l->id);
	free(l);
	if (cb)
		cb(arg);
}

static void forget(struct net_listener *l, const struct net_conn *c)
{
	for (size_t i = 0; i < l->pending.len; i++) {
		if (l->pending.data[i] == c) {
			vec_remove(&l->pending, i);
			return;
		}
	}
}

static int on_verified(struct net_listener *l, const struct net_peer *peer, const struct net_conn_ops **ops, void **arg)
{
	if (l->closing)
		return MESH_E_CLOSED;
	int rc = l->on_accept(l->arg, peer, ops, arg);
	if (rc)
		return rc;
	for (size_t i = 0; i < l->pending.len; i++) {
		if (net_peer_of(l->pending.data[i]) == peer) {
			vec_remove(&l->pending, i);
			break;
		}
	}
	return 0;
}

static void on_gone(struct net_listener *l, struct net_conn *c, const struct mesh_err *err)
{
	forget(l, c);
	if (err->code && !l->closing) {
		if (l->on_refused)
			l->on_refused(l->arg, net_peer_of(c), err);
		else
			log_warn("connection refused reason=\"%s\"", err->msg);
	}
	if (l->closing)
		finish_close(l);
}

static const struct conn_owner_ops owner_ops = { .accept = on_verified, .gone = on_gone };

static void on_connection(uv_stream_t *s, int status)
{
	struct net_listener *l = s->data;
	struct net_conn *c;
	if (status || l->closing)
		return;
	int rc = conn_accept(l->loop, s, l->id, l, &owner_ops, &c);
	if (rc) {
		log_debug("accept failed error=%s", uv_strerror(rc));
		return;
	}
	vec_push(&l->pending, c);
	if (l->pending.len > PENDING_MAX)
		conn_abort(c);
}

static void on_listener_closed(uv_handle_t *h)
{
	struct net_listener *l = h->data;
	l->tcp_closed = true;
	finish_close(l);
}

static int bind_and_listen(struct net_listener *l, const char *addr, struct mesh_err *err)
{
	struct sockaddr_storage ss = { 0 };
	char host[256];
	uint16_t port;
	int rc = net_addr_parse(addr, 2377, host, sizeof(host), &port, err);
	if (rc)
		return rc;
	if (uv_ip4_addr(host, port, (struct sockaddr_in *)&ss) && uv_ip6_addr(host, port, (struct sockaddr_in6 *)&ss))
		return mesh_fail(err, MESH_E_INVALID, "listen on %s: '%s' is not an IP address", addr, host);
	rc = uv_tcp_bind(&l->tcp, (struct sockaddr *)&ss, 0);
	if (!rc)
		rc = uv_listen((uv_stream_t *)&l->tcp, BACKLOG, on_connection);
	return rc ? mesh_fail(err, rc, "listen on %s", addr) : 0;
}

int net_listen(uv_loop_t *loop, struct net_identity *id, const char *addr, net_accept_fn on_accept, void *arg,
               struct net_listener **out, struct mesh_err *err)
{
	if (net_identity_self(id)->anonymous)
		return mesh_fail(err, MESH_E_INVALID, "listen on %s: this node has no certificate", addr);
	struct net_listener *l = XNEW(struct net_listener);
	l->loop = loop;
	l->id = net_identity_ref(id);
	l->on_accept = on_accept;
	l->arg = arg;
	(void)uv_tcp_init(loop, &l->tcp); /* without a domain it opens nothing that could fail */
	l->tcp.data = l;
	int rc = bind_and_listen(l, addr, err);
	if (rc) {
		net_listener_close(l, NULL, NULL);
		return rc;
	}
	*out = l;
	return 0;
}

uint16_t net_listener_port(const struct net_listener *l)
{
	struct sockaddr_storage ss = { 0 };
	int len = sizeof(ss);
	if (uv_tcp_getsockname(&l->tcp, (struct sockaddr *)&ss, &len))
		return 0;
	return ntohs(ss.ss_family == AF_INET ? ((struct sockaddr_in *)&ss)->sin_port
	                                     : ((struct sockaddr_in6 *)&ss)->sin6_port);
}

void net_listener_on_refused(struct net_listener *l,
                             void (*fn)(void *arg, const struct net_peer *peer, const struct mesh_err *err))
{
	l->on_refused = fn;
}

void net_listener_close(struct net_listener *l, void (*cb)(void *arg), void *arg)
{
	if (l->closing)
		return;
	l->closing = true;
	l->close_cb = cb;
	l->close_arg = arg;
	for (size_t i = 0; i < l->pending.len; i++)
		conn_abort(l->pending.data[i]);
	uv_close((uv_handle_t *)&l->tcp, on_listener_closed);
}
