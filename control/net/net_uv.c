/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection. Its life: resolving → connecting → handshake → hello → open → draining → closed, only forward.
 * Whatever ends it sets err first, then either drains (tells the other end why, waits until that is out and the
 * other end has hung up) or closes at once. Callbacks run from the loop only, never from inside a call.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/net/conn_uv.h"
#include "control/net/frame.h"
#include "control/net/tls.h"

#define CONNECT_MS 10000
#define DRAIN_MS 5000
#define ANONYMOUS_MS 30000
/* Handshakes come in bursts (a manager restarts); after this long without one, memory counts more than speed. */
#define SETTLE_MS 2000
#define SEND_HIGH_BYTES (4u << 20)
#define SEND_LOW_BYTES (1u << 20)
/* Beyond this the sender ignores that the queue is full, or the other end is gone in all but name. */
#define SEND_MAX_BYTES (64u << 20)
/* Encrypted and not yet taken by the kernel. */
#define CIPHER_MAX_BYTES (256u << 10)
#define RECORD_BYTES (16u << 10)
#define READ_BYTES (64u << 10)
/* Who is not known yet does not get 16 MB of our memory. */
#define ANONYMOUS_FRAME_MAX (64u << 10)
#define ADDRS_MAX 4
#define HELLO_MIN 1
#define HELLO_MAX 1

enum conn_state {
	CONN_RESOLVING,
	CONN_CONNECTING,
	CONN_HANDSHAKE,
	CONN_HELLO,
	CONN_OPEN,
	CONN_DRAINING,
	CONN_CLOSED,
};

struct net_conn {
	uv_loop_t *loop;
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_idle_t kick; /* runs advance and flush on the next turn of the loop */
	uv_getaddrinfo_t gai;
	uv_connect_t connect;
	uv_write_t write;
	uv_shutdown_t shut;
	unsigned busy; /* handles and requests that still hold this memory */
	unsigned refs;

	enum conn_state state;
	bool server, paused, full, writing, shutting, hello_in, notified, tcp_open;
	struct net_identity *id;
	struct tls tls;
	struct buf plain; /* frames not yet encrypted, from plain_off */
	size_t plain_off;
	struct buf flight; /* what uv_write holds */
	struct frame_rd frames;
	struct sockaddr_storage addrs[ADDRS_MAX];
	unsigned addrs_n, addr_next;
	uint16_t port;
	char expect[MESH_ID_LEN + 1];
	char target[280]; /* what was asked for, for messages */
	struct net_peer peer;
	struct mesh_err err;
	struct net_listener *listener; /* until accepted */
	const struct conn_owner_ops *owner;
	const struct net_conn_ops *ops;
	void *arg;
};

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out);
static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b);
static void advance(struct net_conn *c);
static void flush(struct net_conn *c);
static void try_next_addr(struct net_conn *c);

static const char *who(const struct net_conn *c)
{
	return c->peer.addr[0] ? c->peer.addr : c->target;
}

/* ---- the end ----------------------------------------------------------------------------------- */

static void conn_free(struct net_conn *c)
{
	tls_fini(&c->tls);
	frame_rd_fini(&c->frames);
	buf_fini(&c->plain);
	buf_fini(&c->flight);
	net_identity_free(c->id);
	c->id = NULL;
}

static void release(struct net_conn *c)
{
	if (--c->busy)
		return;
	conn_free(c);
	if (c->ops)
		c->ops->on_close(c->arg, c, &c->err);
	else if (c->listener)
		c->owner->gone(c->listener, c, &c->err);
	net_unref(c);
}

static void on_handle_closed(uv_handle_t *h)
{
	release(h->data);
}

static void destroy(struct net_conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	if (c->gai.data)
		(void)uv_cancel((uv_req_t *)&c->gai); /* when it runs already, its callback still comes */
	if (c->tcp_open)
		uv_close((uv_handle_t *)&c->tcp, on_handle_closed);
	uv_close((uv_handle_t *)&c->timer, on_handle_closed);
	uv_close((uv_handle_t *)&c->kick, on_handle_closed);
}

static void on_timer(uv_timer_t *t)
{
	struct net_conn *c = t->data;
	static const char *const doing[] = { "resolving the name", "connecting", "the TLS handshake",
		                             "the hello after TLS" };
	if (c->state < CONN_OPEN)
		(void)mesh_fail(&c->err, MESH_E_TIMEOUT, "%s: timed out after %d s (%s)", who(c), CONNECT_MS / 1000,
		                doing[c->state]);
	else if (c->state == CONN_OPEN && !(c->server && c->peer.anonymous)) {
		tls_settle();
		return;
	} else if (c->state == CONN_OPEN)
		(void)mesh_fail(&c->err, MESH_E_TIMEOUT, "%s: nothing joined over this connection for %d s", who(c),
		                ANONYMOUS_MS / 1000);
	destroy(c);
}

static void on_kick(uv_idle_t *h)
{
	struct net_conn *c = h->data;
	uv_idle_stop(h);
	advance(c);
	flush(c);
}

static void kick(struct net_conn *c)
{
	if (c->state != CONN_CLOSED)
		uv_idle_start(&c->kick, on_kick);
}

static void drain(struct net_conn *c)
{
	c->state = CONN_DRAINING;
	/* Read on, to see the other end hang up; when that fails the timer ends it. */
	if (c->paused)
		(void)uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
	uv_timer_start(&c->timer, on_timer, DRAIN_MS, 0);
	kick(c);
}

static void put_error(struct net_conn *c, const struct mesh_err *why)
{
	struct buf body = { 0 };
	net_error_encode(&body, why);
	frame_put(&c->plain, NET_ERROR, 0, body.data, body.len);
	buf_fini(&body);
}

/* We end it, because of why: the other end hears the same words. */
static void refuse(struct net_conn *c, const struct mesh_err *why)
{
	if (c->state >= CONN_DRAINING)
		return;
	if (!c->err.code) {
		c->err = *why;
		(void)mesh_wrap(&c->err, why->code, "%s", who(c));
	}
	if (c->state == CONN_HELLO || c->state == CONN_OPEN)
		put_error(c, why);
	drain(c);
}

/* The other end or the network ended it. An earlier reason stays. */
static void lost(struct net_conn *c, const struct mesh_err *why)
{
	if (!c->err.code && c->state < CONN_DRAINING) {
		c->err = *why;
		(void)mesh_wrap(&c->err, why->code, "%s", who(c));
	}
	destroy(c);
}

static void lost_uv(struct net_conn *c, int status)
{
	struct mesh_err e = { 0 };
	if (status == UV_EOF)
		(void)mesh_fail(&e, MESH_E_CLOSED,
		                c->state < CONN_OPEN ? "the other end hung up during the TLS handshake"
		                                     : "the other end closed the connection");
	else
		(void)mesh_fail(&e, status, "connection lost");
	lost(c, &e);
}

/* ---- writing ----------------------------------------------------------------------------------- */

static size_t queued(const struct net_conn *c)
{
	return c->plain.len - c->plain_off + c->tls.out.len + c->flight.len;
}

static void trim(struct buf *b)
{
	if (b->cap > RECORD_BYTES)
		buf_fini(b);
	else
		buf_clear(b);
}

static void encrypt_some(struct net_conn *c)
{
	struct mesh_err e = { 0 };
	while (c->plain_off < c->plain.len && c->tls.out.len < CIPHER_MAX_BYTES) {
		size_t n = c->plain.len - c->plain_off;
		if (n > RECORD_BYTES)
			n = RECORD_BYTES;
		if (tls_write(&c->tls, c->plain.data + c->plain_off, n, &e)) {
			lost(c, &e);
			return;
		}
		c->plain_off += n;
	}
	if (c->plain_off == c->plain.len) {
		c->plain_off = 0;
		trim(&c->plain);
	} else if (c->plain_off > c->plain.len / 2) {
		buf_consume(&c->plain, c->plain_off);
		c->plain_off = 0;
	}
}

static void on_shutdown(uv_shutdown_t *r, int status)
{
	struct net_conn *c = r->data;
	(void)status; /* the reader sees what became of the connection */
	release(c);
}

/* All is out: say goodbye, then wait for the other end to hang up, so that no reset overtakes the last words. */
static void finish_drain(struct net_conn *c)
{
	if (!c->notified) {
		c->notified = true;
		if (c->tls.ssl)
			tls_shutdown(&c->tls);
		if (c->tls.out.len)
			return;
	}
	if (c->shutting)
		return;
	c->shutting = true;
	c->shut.data = c;
	if (uv_shutdown(&c->shut, (uv_stream_t *)&c->tcp, on_shutdown)) {
		destroy(c);
		return;
	}
	c->busy++;
}

static void on_written(uv_write_t *w, int status)
{
	struct net_conn *c = w->data;
	c->writing = false;
	trim(&c->flight);
	if (c->state != CONN_CLOSED) {
		if (status)
			lost_uv(c, status);
		else
			flush(c);
	}
	release(c);
}

static void start_write(struct net_conn *c)
{
	struct buf empty = c->flight;
	c->flight = c->tls.out;
	c->tls.out = empty;
	uv_buf_t b = uv_buf_init((char *)c->flight.data, (unsigned)c->flight.len);
	c->write.data = c;
	int rc = uv_write(&c->write, (uv_stream_t *)&c->tcp, &b, 1, on_written);
	if (rc) {
		lost_uv(c, rc);
		return;
	}
	c->writing = true;
	c->busy++;
}

static void flush(struct net_conn *c)
{
	if (c->state < CONN_HANDSHAKE || c->state == CONN_CLOSED)
		return;
	if (c->state >= CONN_HELLO && c->tls.ssl)
		encrypt_some(c);
	if (c->writing || c->state == CONN_CLOSED)
		return;
	if (!c->tls.out.len && c->state == CONN_DRAINING && c->plain_off == c->plain.len)
		finish_drain(c);
	if (c->tls.out.len && c->state != CONN_CLOSED)
		start_write(c);
	if (c->full && queued(c) < SEND_LOW_BYTES && c->state == CONN_OPEN) {
		c->full = false;
		if (c->ops->on_drain)
			c->ops->on_drain(c->arg, c);
	}
}

bool net_send(struct net_conn *c, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	struct mesh_err e = { 0 };
	if (c->state != CONN_OPEN)
		return false;
	if (n > NET_FRAME_MAX) {
		(void)mesh_fail(&e, MESH_E_PROTOCOL, "this node would send a frame of %zu bytes, %u are allowed", n,
		                NET_FRAME_MAX);
		refuse(c, &e);
		return false;
	}
	if (queued(c) + n > SEND_MAX_BYTES) {
		(void)mesh_fail(&e, MESH_E_EXHAUSTED, "the other end does not read: %zu bytes wait for it", queued(c));
		lost(c, &e);
		return false;
	}
	frame_put(&c->plain, type, stream, p, n);
	kick(c);
	if (queued(c) > SEND_HIGH_BYTES)
		c->full = true;
	return !c->full;
}

/* ---- reading ----------------------------------------------------------------------------------- */

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *out)
{
	/* Copied out before the next read: one a thread is enough. */
	static _Thread_local char block[READ_BYTES];
	(void)h;
	(void)hint;
	*out = uv_buf_init(block, sizeof(block));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct net_conn *c = s->data;
	if (c->state == CONN_CLOSED || n == 0)
		return;
	if (n < 0) {
		lost_uv(c, (int)n);
		return;
	}
	if (c->state == CONN_DRAINING)
		return;
	buf_put(&c->tls.in, b->base, (size_t)n);
	advance(c);
	flush(c);
}

static void verify(struct net_conn *c)
{
	struct bytes der = { 0 };
	struct mesh_err e = { 0 };
	int rc = 0;
	c->state = CONN_HELLO;
	tls_peer_cert(&c->tls, &der);
	if (der.n)
		rc = net_identity_check(c->id, der.p, der.n, clock_wall_ns(), &c->peer, &e);
	else if (c->server)
		c->peer.anonymous = true;
	else
		rc = mesh_fail(&e, MESH_E_TLS, "the other end presented no certificate");
	free(der.p);
	if (!rc && !strcmp(c->expect, NET_EXPECT_MANAGER) && !c->peer.manager)
		rc = mesh_fail(&e, MESH_E_TLS, "node %s is not a manager", c->peer.node.s);
	else if (!rc && c->expect[0] && strcmp(c->expect, NET_EXPECT_MANAGER) && strcmp(c->expect, c->peer.node.s))
		rc = mesh_fail(&e, MESH_E_TLS, "node %s answers where node %s was expected", c->peer.node.s, c->expect);
	if (!rc && c->listener) {
		rc = c->owner->accept(c->listener, &c->peer, &c->ops, &c->arg);
		if (rc)
			(void)mesh_fail(&e, rc, "connection refused by node");
		else
			c->listener = NULL;
	}
	if (rc) {
		refuse(c, &e);
		return;
	}
	frame_rd_init(&c->frames, c->peer.anonymous ? ANONYMOUS_FRAME_MAX : NET_FRAME_MAX);
	uint8_t hello[4] = { HELLO_MIN, 0, HELLO_MAX, 0 };
	frame_put(&c->plain, NET_HELLO, 0, hello, sizeof(hello));
}

static void got_error(struct net_conn *c, const struct frame *f)
{
	struct mesh_err e;
	net_error_decode(f->p, f->n, &e);
	struct mesh_err out = e;
	if (c->state == CONN_HELLO)
		(void)mesh_wrap(&out, e.code, "refused this node");
	lost(c, &out);
}

static void got_hello(struct net_conn *c, const struct frame *f)
{
	struct rd r = rd_of(f->p, f->n);
	struct mesh_err e = { 0 };
	unsigned min = rd_u16(&r), max = rd_u16(&r);
	if (r.bad || min > max)
		(void)mesh_fail(&e, MESH_E_PROTOCOL, "malformed hello");
	else if (min > HELLO_MAX || max < HELLO_MIN)
		(void)mesh_fail(&e, MESH_E_VERSION, "protocol versions %u to %u, this node speaks %d to %d", min, max,
		                HELLO_MIN, HELLO_MAX);
	if (e.code) {
		refuse(c, &e);
		return;
	}
	c->state = CONN_OPEN;
	if (c->server && c->peer.anonymous)
		uv_timer_start(&c->timer, on_timer, ANONYMOUS_MS, 0);
	else
		uv_timer_start(&c->timer, on_timer, SETTLE_MS, 0);
	c->ops->on_open(c->arg, c, &c->peer);
}

static bool may_join_only(const struct frame *f)
{
	return (f->type >= NET_JOIN_ROOT && f->type <= NET_JOIN_CERT) || f->type == NET_ERROR;
}

static void got_frame(struct net_conn *c, const struct frame *f)
{
	struct mesh_err e = { 0 };
	if (f->type == NET_ERROR && f->stream == 0)
		got_error(c, f);
	else if (c->state == CONN_HELLO && f->type == NET_HELLO)
		got_hello(c, f);
	else if (c->state == CONN_HELLO || f->type == NET_HELLO)
		(void)mesh_fail(&e, MESH_E_PROTOCOL, "frame of type %u out of place", f->type);
	else if (c->peer.anonymous && !may_join_only(f))
		(void)mesh_fail(&e, MESH_E_UNAUTHORIZED,
		                "without a certificate only joining is allowed (frame type %u)", f->type);
	else
		c->ops->on_frame(c->arg, c, f->type, f->stream, f->p, f->n);
	if (e.code)
		refuse(c, &e);
}

static bool reading(const struct net_conn *c)
{
	return !c->paused && (c->state == CONN_HELLO || c->state == CONN_OPEN);
}

static void read_frames(struct net_conn *c)
{
	struct mesh_err e = { 0 };
	struct frame f;
	while (reading(c)) {
		int rc = frame_rd_next(&c->frames, &f, &e);
		if (rc < 0) {
			refuse(c, &e);
			return;
		}
		if (rc > 0) {
			got_frame(c, &f);
			continue;
		}
		rc = tls_read(&c->tls, frame_rd_reserve(&c->frames, RECORD_BYTES), RECORD_BYTES, &e);
		if (rc == 0)
			return;
		if (rc == MESH_E_CLOSED)
			lost(c, &e);
		else if (rc < 0)
			refuse(c, &e);
		else
			frame_rd_commit(&c->frames, (size_t)rc);
	}
}

static void advance(struct net_conn *c)
{
	if (c->state == CONN_HANDSHAKE) {
		struct mesh_err e = { 0 };
		int rc = tls_handshake(&c->tls, &e);
		if (rc < 0)
			refuse(c, &e);
		else if (rc > 0)
			verify(c);
	}
	read_frames(c);
}

void net_pause(struct net_conn *c)
{
	if (c->paused || c->state >= CONN_DRAINING)
		return;
	c->paused = true;
	uv_read_stop((uv_stream_t *)&c->tcp);
}

void net_resume(struct net_conn *c)
{
	if (!c->paused || c->state >= CONN_DRAINING)
		return;
	c->paused = false;
	int rc = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
	if (rc)
		lost_uv(c, rc);
	/* What was read before the pause waits in our buffers. */
	kick(c);
}

/* ---- the beginning ----------------------------------------------------------------------------- */

/* libuv writes without MSG_NOSIGNAL. A handler that somebody installed is left alone. */
static void ignore_sigpipe(void)
{
	struct sigaction old;
	if (!sigaction(SIGPIPE, NULL, &old) && old.sa_handler == SIG_DFL)
		(void)signal(SIGPIPE, SIG_IGN); /* fails only for a bad number */
}

static struct net_conn *conn_new(uv_loop_t *loop, struct net_identity *id)
{
	struct net_conn *c = XNEW(struct net_conn);
	ignore_sigpipe();
	c->loop = loop;
	c->id = net_identity_ref(id);
	c->refs = 1;
	/* These only fill in the structs. */
	(void)uv_timer_init(loop, &c->timer);
	(void)uv_idle_init(loop, &c->kick);
	c->timer.data = c->kick.data = c;
	c->busy = 2;
	uv_timer_start(&c->timer, on_timer, CONNECT_MS, 0);
	return c;
}

static void tcp_init(struct net_conn *c)
{
	(void)uv_tcp_init(c->loop, &c->tcp); /* without a domain it opens nothing that could fail */
	c->tcp.data = c;
	c->tcp_open = true;
	c->busy++;
}

static void format_addr(const struct sockaddr *sa, char out[64])
{
	char host[INET6_ADDRSTRLEN + 1] = "?";
	unsigned port = 0;
	if (sa->sa_family == AF_INET) {
		(void)uv_ip4_name((const struct sockaddr_in *)sa, host, sizeof(host)); /* "?" stays */
		port = ntohs(((const struct sockaddr_in *)sa)->sin_port);
		snprintf(out, 64, "%s:%u", host, port);
	} else {
		(void)uv_ip6_name((const struct sockaddr_in6 *)sa, host, sizeof(host));
		port = ntohs(((const struct sockaddr_in6 *)sa)->sin6_port);
		snprintf(out, 64, "[%s]:%u", host, port);
	}
}

/* Best effort: a connection without these is worse at noticing a dead peer, not wrong. */
static void tune(struct net_conn *c)
{
	int fd, idle = 15, interval = 5, count = 3;
	unsigned dead_ms = 30000;
	(void)uv_tcp_nodelay(&c->tcp, 1);
	(void)uv_tcp_keepalive(&c->tcp, 1, (unsigned)idle);
	if (uv_fileno((uv_handle_t *)&c->tcp, &fd))
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
}

static void start_tls(struct net_conn *c)
{
	struct sockaddr_storage ss = { 0 };
	struct mesh_err e = { 0 };
	int len = sizeof(ss);
	tune(c);
	if (!uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&ss, &len))
		format_addr((struct sockaddr *)&ss, c->peer.addr);
	c->state = CONN_HANDSHAKE;
	int rc = tls_init(&c->tls, c->id, c->server, &e);
	if (rc) {
		lost(c, &e);
		return;
	}
	rc = uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read);
	if (rc) {
		lost_uv(c, rc);
		return;
	}
	kick(c);
}

static void on_connected(uv_connect_t *r, int status)
{
	struct net_conn *c = r->data;
	if (c->state == CONN_CONNECTING) {
		if (!status)
			start_tls(c);
		else if (c->addr_next < c->addrs_n)
			try_next_addr(c);
		else {
			struct mesh_err e = { 0 };
			(void)mesh_fail(&e, status, "cannot connect");
			lost(c, &e);
		}
	}
	release(c);
}

static void connect_now(struct net_conn *c)
{
	const struct sockaddr *sa = (const struct sockaddr *)&c->addrs[c->addr_next++];
	c->state = CONN_CONNECTING;
	c->connect.data = c;
	tcp_init(c);
	int rc = uv_tcp_connect(&c->connect, &c->tcp, sa, on_connected);
	if (rc) {
		struct mesh_err e = { 0 };
		(void)mesh_fail(&e, rc, "cannot connect");
		lost(c, &e);
		return;
	}
	c->busy++;
}

static void on_old_tcp_closed(uv_handle_t *h)
{
	struct net_conn *c = h->data;
	if (c->state == CONN_CONNECTING)
		connect_now(c);
	release(c);
}

static void try_next_addr(struct net_conn *c)
{
	c->tcp_open = false;
	uv_close((uv_handle_t *)&c->tcp, on_old_tcp_closed);
}

static void on_resolved(uv_getaddrinfo_t *r, int status, struct addrinfo *list)
{
	struct net_conn *c = r->data;
	r->data = NULL;
	if (c->state == CONN_RESOLVING && !status) {
		for (struct addrinfo *a = list; a && c->addrs_n < ADDRS_MAX; a = a->ai_next)
			if (a->ai_addrlen <= sizeof(c->addrs[0]))
				memcpy(&c->addrs[c->addrs_n++], a->ai_addr, a->ai_addrlen);
		connect_now(c);
	} else if (c->state == CONN_RESOLVING) {
		struct mesh_err e = { 0 };
		(void)mesh_fail(&e, MESH_E_NOT_FOUND, "cannot find the address: %s", uv_strerror(status));
		lost(c, &e);
	}
	uv_freeaddrinfo(list);
	release(c);
}

static int resolve(struct net_conn *c, const char *host, uint16_t port, struct mesh_err *err)
{
	char service[8];
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
	c->addrs_n = 1;
	if (!uv_ip4_addr(host, port, (struct sockaddr_in *)&c->addrs[0]) ||
	    !uv_ip6_addr(host, port, (struct sockaddr_in6 *)&c->addrs[0])) {
		connect_now(c);
		return 0;
	}
	c->addrs_n = 0;
	snprintf(service, sizeof(service), "%u", port);
	c->gai.data = c;
	int rc = uv_getaddrinfo(c->loop, &c->gai, on_resolved, host, service, &hints);
	if (rc) {
		c->gai.data = NULL;
		return mesh_fail(err, MESH_E_INVALID, "%s: %s", c->target, uv_strerror(rc));
	}
	c->busy++;
	return 0;
}

int net_connect(uv_loop_t *loop, struct net_identity *id, const char *host, uint16_t port, const char *expect,
                const struct net_conn_ops *ops, void *arg, struct net_conn **out, struct mesh_err *err)
{
	if (!host || !*host || strlen(host) > 255 || !port)
		return mesh_fail(err, MESH_E_INVALID, "no address to connect to");
	struct net_conn *c = conn_new(loop, id);
	snprintf(c->target, sizeof(c->target), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host, port);
	mesh_id_set(c->expect, expect ? expect : "");
	int rc = resolve(c, host, port, err);
	if (rc) {
		destroy(c);
		return rc;
	}
	c->ops = ops;
	c->arg = arg;
	*out = c;
	return 0;
}

int conn_accept(uv_loop_t *loop, uv_stream_t *server, struct net_identity *id, struct net_listener *l,
                const struct conn_owner_ops *owner, struct net_conn **out)
{
	struct net_conn *c = conn_new(loop, id);
	c->server = true;
	tcp_init(c);
	int rc = uv_accept(server, (uv_stream_t *)&c->tcp);
	if (rc) {
		destroy(c);
		return rc;
	}
	c->listener = l;
	c->owner = owner;
	start_tls(c);
	*out = c;
	return 0;
}

void conn_abort(struct net_conn *c)
{
	destroy(c);
}

/* ---- the rest of the interface ----------------------------------------------------------------- */

void net_close(struct net_conn *c, const struct mesh_err *reason)
{
	if (c->state >= CONN_DRAINING)
		return;
	c->err = (struct mesh_err){ 0 };
	if (reason)
		snprintf(c->err.msg, sizeof(c->err.msg), "%s", mesh_err_text(reason, reason->code));
	if (c->state < CONN_HELLO) {
		destroy(c);
		return;
	}
	if (reason)
		put_error(c, reason);
	drain(c);
}

const struct net_peer *net_peer_of(const struct net_conn *c)
{
	return &c->peer;
}

void *net_arg(const struct net_conn *c)
{
	return c->arg;
}

void net_set_arg(struct net_conn *c, void *arg)
{
	c->arg = arg;
}

struct net_conn *net_ref(struct net_conn *c)
{
	c->refs++;
	return c;
}

void net_unref(struct net_conn *c)
{
	if (--c->refs == 0)
		free(c);
}
