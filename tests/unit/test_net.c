/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two ends of a connection in one process, over loopback. */
#include "tests/unit/net_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "control/net/frame.h"
#include "control/net/tls.h"

struct end {
	struct net_conn *c;
	bool opened, closed, drained, echo, pause_first, close_on_frame;
	unsigned opens, closes, frames;
	struct net_peer peer;
	struct mesh_err err;
	struct buf got; /* bodies, one after the other */
	uint16_t last_type;
	uint32_t last_stream;
};

struct fix {
	uv_loop_t loop;
	struct cluster blue, red;
	struct net_identity *manager, *worker;
	struct net_listener *l;
	uint16_t port;
	struct end client, server;
	struct end *accept_as; /* NULL: refuse */
	bool refused, listener_closed, watched;
	struct mesh_err refusal;
};
static struct fix f;

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	struct end *e = arg;
	e->c = c;
	e->opened = true;
	e->opens++;
	e->peer = *peer;
	if (e->pause_first)
		net_pause(c);
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct end *e = arg;
	e->frames++;
	e->last_type = type;
	e->last_stream = stream;
	buf_put(&e->got, p, n);
	if (e->echo)
		(void)net_send(c, type, stream, p, n);
	if (e->close_on_frame)
		net_close(c, NULL);
}

static void on_drain(void *arg, struct net_conn *c)
{
	(void)c;
	((struct end *)arg)->drained = true;
}

static void on_close(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	struct end *e = arg;
	(void)c;
	e->c = NULL;
	e->closed = true;
	e->closes++;
	e->err = *err;
}

static const struct net_conn_ops ops = {
	.on_open = on_open, .on_frame = on_frame, .on_drain = on_drain, .on_close = on_close
};

static int on_accept(void *arg, const struct net_peer *peer, const struct net_conn_ops **o, void **conn_arg)
{
	(void)arg;
	(void)peer;
	if (!f.accept_as)
		return MESH_E_FORBIDDEN;
	*o = &ops;
	*conn_arg = f.accept_as;
	return 0;
}

static void on_refused(void *arg, const struct net_peer *peer, const struct mesh_err *err)
{
	(void)arg;
	(void)peer;
	f.refused = true;
	f.refusal = *err;
}

static void start(struct net_identity *server)
{
	struct mesh_err err = { 0 };
	if (net_listen(&f.loop, server, "127.0.0.1:0", on_accept, NULL, &f.l, &err))
		fail_msg("%s", err.msg);
	net_listener_on_refused(f.l, on_refused);
	f.port = net_listener_port(f.l);
}

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	uv_loop_init(&f.loop);
	cluster_make(&f.blue, 11);
	cluster_make(&f.red, 12);
	f.manager = node_of(&f.blue, true);
	f.worker = node_of(&f.blue, false);
	f.accept_as = &f.server;
	start(f.manager);
	return 0;
}

static void on_listener_closed(void *arg)
{
	(void)arg;
	f.listener_closed = true;
}

static bool all_closed(void *arg)
{
	(void)arg;
	return f.listener_closed && !f.client.c && !f.server.c;
}

static int teardown(void **state)
{
	(void)state;
	if (f.client.c)
		net_close(f.client.c, NULL);
	if (f.server.c)
		net_close(f.server.c, NULL);
	net_listener_close(f.l, on_listener_closed, NULL);
	run_until(&f.loop, all_closed, NULL);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	int left = uv_loop_close(&f.loop);
	net_identity_free(f.manager);
	net_identity_free(f.worker);
	cluster_fini(&f.blue);
	cluster_fini(&f.red);
	buf_fini(&f.client.got);
	buf_fini(&f.server.got);
	return left; /* a handle left behind is a leak */
}

static void dial(struct net_identity *id, const char *expect)
{
	struct mesh_err err = { 0 };
	if (net_connect(&f.loop, id, "127.0.0.1", f.port, expect, &ops, &f.client, &f.client.c, &err))
		fail_msg("%s", err.msg);
}

static bool is_set(void *arg)
{
	return *(bool *)arg;
}
static void wait_for(bool *flag)
{
	run_until(&f.loop, is_set, flag);
}
static bool both_open(void *arg)
{
	(void)arg;
	return f.client.opened && f.server.opened;
}
static void open_both(struct net_identity *id)
{
	dial(id, NULL);
	run_until(&f.loop, both_open, NULL);
}
static bool enough(void *arg)
{
	struct end *e = arg;
	return e->frames >= 1;
}
static void contains(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("'%s' does not contain '%s'", text, part);
}

static void test_handshake(void **state)
{
	(void)state;
	open_both(f.worker);
	assert_string_equal(f.client.peer.node.s, net_identity_self(f.manager)->node.s);
	assert_string_equal(f.server.peer.node.s, net_identity_self(f.worker)->node.s);
	assert_string_equal(f.server.peer.cluster.s, f.blue.id.s);
	assert_true(f.client.peer.manager);
	assert_false(f.server.peer.manager);
	assert_false(f.server.peer.anonymous);
	assert_memory_equal(f.server.peer.addr, "127.0.0.1:", 10);
	assert_true(net_arg(f.client.c) == &f.client);
	net_close(f.client.c, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	assert_int_equal(f.client.err.code, 0);
	assert_int_equal(f.server.err.code, MESH_E_CLOSED);
	contains(f.server.err.msg, "closed the connection");
}

static void test_frames_both_ways(void **state)
{
	(void)state;
	f.server.echo = true;
	open_both(f.worker);
	assert_true(net_send(f.client.c, NET_SESSION, 7, "hello", 5));
	run_until(&f.loop, enough, &f.client);
	assert_int_equal(f.client.last_type, NET_SESSION);
	assert_int_equal(f.client.last_stream, 7);
	assert_memory_equal(f.client.got.data, "hello", 5);
	buf_clear(&f.client.got);
	f.client.frames = 0;
	assert_true(net_send(f.client.c, NET_RAFT, 1, NULL, 0));
	run_until(&f.loop, enough, &f.client);
	assert_int_equal(f.client.got.len, 0);
}

static bool got_all(void *arg)
{
	return f.server.got.len >= *(size_t *)arg;
}

/* 10 MB to a receiver that pauses: the sender is told to stop and to go on, and nothing is lost or reordered. */
static void test_back_pressure(void **state)
{
	(void)state;
	size_t total = 0, want = 10 << 20;
	uint32_t chunk[25000];
	bool full = false;
	f.server.pause_first = true;
	open_both(f.worker);
	for (uint32_t i = 0; total < want; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(chunk); k++)
			chunk[k] = i * 100000 + (uint32_t)k;
		if (!net_send(f.client.c, NET_DATA, 1, chunk, sizeof(chunk)))
			full = true;
		total += sizeof(chunk);
	}
	assert_true(full);
	assert_false(f.client.drained);
	for (int i = 0; i < 50; i++)
		uv_run(&f.loop, UV_RUN_NOWAIT);
	assert_int_equal(f.server.frames, 0);
	net_resume(f.server.c);
	run_until(&f.loop, got_all, &total);
	assert_true(f.client.drained);
	assert_int_equal(f.server.got.len, total);
	const uint32_t *v = (const uint32_t *)f.server.got.data;
	for (size_t i = 0; i < total / sizeof(chunk); i++)
		for (size_t k = 0; k < ARRAY_SIZE(chunk); k += 997)
			assert_int_equal(v[i * ARRAY_SIZE(chunk) + k], (uint32_t)(i * 100000 + k));
}

static void test_largest_frame(void **state)
{
	(void)state;
	size_t n = NET_FRAME_MAX;
	uint8_t *p = xcalloc(1, n);
	p[n - 1] = 42;
	open_both(f.worker);
	(void)net_send(f.client.c, NET_DATA, 1, p, n);
	run_until(&f.loop, got_all, &n);
	assert_int_equal(f.server.frames, 1);
	assert_int_equal(f.server.got.data[n - 1], 42);
	assert_false(net_send(f.client.c, NET_DATA, 1, p, n + 1));
	free(p);
	wait_for(&f.client.closed);
	assert_int_equal(f.client.err.code, MESH_E_PROTOCOL);
}

static void test_reason_reaches_the_other_end(void **state)
{
	(void)state;
	struct mesh_err why = { 0 };
	(void)mesh_fail(&why, MESH_E_CONFLICT, "this node was removed from the cluster");
	open_both(f.worker);
	(void)net_send(f.server.c, NET_DATA, 1, "last", 4);
	net_close(f.server.c, &why);
	assert_false(net_send(f.server.c, NET_DATA, 1, "late", 4));
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	assert_int_equal(f.client.err.code, MESH_E_CONFLICT);
	contains(f.client.err.msg, "this node was removed from the cluster");
	assert_memory_equal(f.client.got.data, "last", 4);
	assert_int_equal(f.server.err.code, 0);
	assert_int_equal(f.client.closes, 1);
	assert_int_equal(f.server.closes, 1);
}

static void test_close_inside_on_frame(void **state)
{
	(void)state;
	f.server.close_on_frame = true;
	open_both(f.worker);
	(void)net_send(f.client.c, NET_DATA, 1, "a", 1);
	(void)net_send(f.client.c, NET_DATA, 1, "b", 1);
	wait_for(&f.server.closed);
	wait_for(&f.client.closed);
	assert_int_equal(f.server.frames, 1);
}

/* ---- who is refused, and what both sides hear --------------------------------------------------- */

static void refused_client(struct net_identity *id, const char *reason)
{
	dial(id, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.refused);
	assert_false(f.client.opened);
	assert_false(f.server.opened);
	assert_int_equal(f.client.err.code, MESH_E_TLS);
	assert_int_equal(f.refusal.code, MESH_E_TLS);
	contains(f.client.err.msg, "refused this node: ");
	contains(f.client.err.msg, reason);
	contains(f.refusal.msg, reason);
	contains(f.refusal.msg, "127.0.0.1:");
	net_identity_free(id);
}

static void test_expired(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&f.blue, false);
	what.not_before -= 10 * HOUR;
	what.not_after -= 5 * HOUR;
	refused_client(identity_of(&f.blue, &what), "certificate expired at 2");
}

static void test_not_yet_valid(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&f.blue, false);
	what.not_before += 10 * HOUR;
	what.not_after += 20 * HOUR;
	refused_client(identity_of(&f.blue, &what), "certificate is not valid before 2");
}

/* Both refuse each other; each hears of the other cluster, whoever speaks first. */
static void test_other_cluster(void **state)
{
	(void)state;
	struct net_identity *id = node_of(&f.red, false);
	dial(id, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.refused);
	assert_false(f.client.opened);
	contains(f.client.err.msg, "certificate was issued by another cluster");
	contains(f.refusal.msg, "certificate was issued by another cluster");
	net_identity_free(id);
}

/* The server is refused by the client: the words travel the other way. */
static void test_expired_server(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&f.blue, true);
	what.not_before -= 10 * HOUR;
	what.not_after -= 5 * HOUR;
	struct net_identity *old = identity_of(&f.blue, &what);
	net_listener_close(f.l, NULL, NULL);
	start(old);
	dial(f.worker, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	assert_false(f.client.opened);
	assert_false(f.server.opened);
	contains(f.client.err.msg, "certificate expired at 2");
	contains(f.server.err.msg, "refused this node: certificate expired at 2");
	net_identity_free(old);
}

static void test_unexpected_node(void **state)
{
	(void)state;
	dial(f.worker, "aaaaaaaaaaaaaaaaaaaaaaaaa");
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	assert_false(f.client.opened);
	contains(f.client.err.msg, "where node aaaaaaaaaaaaaaaaaaaaaaaaa was expected");
	contains(f.server.err.msg, "was expected");
}

static void test_expected_manager(void **state)
{
	(void)state;
	dial(f.worker, NET_EXPECT_MANAGER);
	run_until(&f.loop, both_open, NULL);
	net_close(f.client.c, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	memset(&f.client, 0, sizeof(f.client));
	memset(&f.server, 0, sizeof(f.server));
	net_listener_close(f.l, NULL, NULL);
	start(f.worker);
	dial(f.manager, NET_EXPECT_MANAGER);
	wait_for(&f.client.closed);
	assert_false(f.client.opened);
	contains(f.client.err.msg, "is not a manager");
}

static void test_accept_refuses(void **state)
{
	(void)state;
	f.accept_as = NULL;
	dial(f.worker, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.refused);
	assert_int_equal(f.client.err.code, MESH_E_FORBIDDEN);
	assert_false(f.client.opened);
}

/* A certificate without its key is worth nothing, at either end. */
static void test_stolen_certificate(void **state)
{
	(void)state;
	struct net_identity *thief =
		net_identity_unchecked(&f.blue.cert, net_identity_cert(f.worker), net_identity_key(f.manager));
	dial(thief, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.refused);
	assert_false(f.client.opened);
	assert_false(f.server.opened);
	contains(f.refusal.msg, "does not hold the key of its certificate");
	net_identity_free(thief);
}

static void test_stolen_certificate_server(void **state)
{
	(void)state;
	struct net_identity *thief =
		net_identity_unchecked(&f.blue.cert, net_identity_cert(f.manager), net_identity_key(f.worker));
	net_listener_close(f.l, NULL, NULL);
	start(thief);
	dial(f.worker, NULL);
	wait_for(&f.client.closed);
	assert_false(f.client.opened);
	assert_false(f.server.opened);
	contains(f.client.err.msg, "does not hold the key of its certificate");
	net_identity_free(thief);
}

static void test_anonymous_may_only_join(void **state)
{
	(void)state;
	struct net_identity *nobody = net_identity_anonymous();
	open_both(nobody);
	assert_true(f.server.peer.anonymous);
	assert_string_equal(f.server.peer.node.s, "");
	assert_false(f.server.peer.manager);
	(void)net_send(f.client.c, NET_JOIN_ROOT, 1, NULL, 0);
	run_until(&f.loop, enough, &f.server);
	(void)net_send(f.client.c, NET_SESSION, 1, "x", 1);
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	assert_int_equal(f.server.frames, 1);
	assert_int_equal(f.server.err.code, MESH_E_UNAUTHORIZED);
	contains(f.client.err.msg, "without a certificate only joining is allowed");
	net_identity_free(nobody);
}

static void test_anonymous_gets_no_memory(void **state)
{
	(void)state;
	struct net_identity *nobody = net_identity_anonymous();
	uint8_t *big = xcalloc(1, 1 << 20);
	open_both(nobody);
	(void)net_send(f.client.c, NET_JOIN_CSR, 1, big, 1 << 20);
	free(big);
	wait_for(&f.server.closed);
	wait_for(&f.client.closed);
	assert_int_equal(f.server.frames, 0);
	contains(f.server.err.msg, "above the limit of 65536");
	net_identity_free(nobody);
}

static void test_anonymous_cannot_listen(void **state)
{
	(void)state;
	struct net_identity *nobody = net_identity_anonymous();
	struct net_listener *l;
	struct mesh_err err;
	assert_int_equal(net_listen(&f.loop, nobody, "127.0.0.1:0", on_accept, NULL, &l, &err), MESH_E_INVALID);
	net_identity_free(nobody);
}

/* ---- a peer that speaks TLS by hand ------------------------------------------------------------- */

struct raw {
	int fd;
	struct tls tls;
	uv_poll_t poll; /* wakes the loop when bytes come */
	bool ended;
	uint8_t answer[1024];
	size_t answer_n, want;
	bool poll_closed;
};

static void on_raw_readable(uv_poll_t *poll, int status, int events)
{
	uint8_t in[4096];
	struct raw *r = poll->data;
	(void)status;
	(void)events;
	ssize_t n = recv(r->fd, in, sizeof(in), MSG_DONTWAIT);
	if (n > 0)
		buf_put(&r->tls.in, in, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		r->ended = true;
	if (r->ended)
		uv_poll_stop(poll);
}

static void raw_open(struct raw *r, struct net_identity *id)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons(f.port) };
	inet_pton(AF_INET, "127.0.0.1", &sa.sin_addr);
	memset(r, 0, sizeof(*r));
	r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(r->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	uv_poll_init(&f.loop, &r->poll, r->fd);
	r->poll.data = r;
	uv_poll_start(&r->poll, UV_READABLE, on_raw_readable);
	if (id)
		assert_int_equal(tls_init(&r->tls, id, false, NULL), 0);
}

static void raw_flush(struct raw *r)
{
	if (r->tls.out.len)
		assert_int_equal(send(r->fd, r->tls.out.data, r->tls.out.len, MSG_NOSIGNAL), r->tls.out.len);
	buf_clear(&r->tls.out);
}

static bool raw_up(void *arg)
{
	struct raw *r = arg;
	int rc = tls_handshake(&r->tls, NULL);
	raw_flush(r);
	return rc == 1;
}

static bool raw_answered(void *arg)
{
	struct raw *r = arg;
	int rc = tls_read(&r->tls, r->answer + r->answer_n, sizeof(r->answer) - r->answer_n, NULL);
	if (rc > 0)
		r->answer_n += (size_t)rc;
	return r->answer_n >= r->want;
}

static void on_raw_closed(uv_handle_t *h)
{
	((struct raw *)h->data)->poll_closed = true;
}

static void raw_close(struct raw *r)
{
	uv_close((uv_handle_t *)&r->poll, on_raw_closed);
	wait_for(&r->poll_closed);
	close(r->fd);
	tls_fini(&r->tls);
}

static void raw_send(struct raw *r, const void *p, size_t n)
{
	assert_int_equal(tls_write(&r->tls, p, n, NULL), 0);
	raw_flush(r);
}

static void test_oversize_frame(void **state)
{
	(void)state;
	struct raw r;
	struct buf b = { 0 };
	raw_open(&r, f.worker);
	run_until(&f.loop, raw_up, &r);
	frame_put(&b, NET_HELLO, 0, "\1\0\1\0", 4);
	raw_send(&r, b.data, b.len);
	buf_fini(&b);
	wait_for(&f.server.opened);
	const uint8_t header[12] = { 1, 0, 0, 1, NET_DATA };
	raw_send(&r, header, sizeof(header));
	r.want = 16 + 12 + 4 + 30; /* its hello, and the reason */
	run_until(&f.loop, raw_answered, &r);
	raw_close(&r);
	wait_for(&f.server.closed);
	assert_int_equal(f.server.err.code, MESH_E_PROTOCOL);
	contains(f.server.err.msg, "frame of 16777217 bytes is above the limit of 16777216");
	assert_memory_equal(r.answer + 32, "frame of 16777217 bytes", 23);
}

static void raw_first_frame(uint16_t type, const void *p, size_t n, const char *reason)
{
	struct raw r;
	struct buf b = { 0 };
	raw_open(&r, f.worker);
	run_until(&f.loop, raw_up, &r);
	frame_put(&b, type, 0, p, n);
	raw_send(&r, b.data, b.len);
	buf_fini(&b);
	r.want = 16 + 12 + 4 + strlen(reason);
	run_until(&f.loop, raw_answered, &r);
	assert_memory_equal(r.answer + 32, reason, strlen(reason));
	/* The server waits for us to hang up, so that its reason is not lost. */
	assert_false(f.server.closed);
	wait_for(&r.ended);
	assert_false(f.server.closed);
	raw_close(&r);
	wait_for(&f.server.closed);
	assert_false(f.server.opened);
	contains(f.server.err.msg, reason);
}

static void test_frame_before_hello(void **state)
{
	(void)state;
	raw_first_frame(NET_SESSION, "x", 1, "frame of type 32 out of place");
}

static void test_future_version(void **state)
{
	(void)state;
	raw_first_frame(NET_HELLO, "\2\0\3\0", 4, "protocol versions 2 to 3, this node speaks 1 to 1");
}

static void test_malformed_hello(void **state)
{
	(void)state;
	raw_first_frame(NET_HELLO, "\1", 1, "malformed hello");
}

static void test_not_tls(void **state)
{
	(void)state;
	struct raw r;
	raw_open(&r, NULL);
	const char *http = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
	assert_int_equal(send(r.fd, http, strlen(http), MSG_NOSIGNAL), strlen(http));
	wait_for(&r.ended);
	raw_close(&r);
	wait_for(&f.refused);
	assert_int_equal(f.refusal.code, MESH_E_TLS);
	contains(f.refusal.msg, "does not speak TLS");
	assert_false(f.server.closed);
}

static void test_hang_up_in_handshake(void **state)
{
	(void)state;
	struct raw r;
	raw_open(&r, NULL);
	raw_close(&r);
	wait_for(&f.refused);
	contains(f.refusal.msg, "hung up during the TLS handshake");
}

static bool both_timed_out(void *arg)
{
	(void)arg;
	return f.client.closed && f.refused;
}

/* Ends that say nothing, in both directions at once: 10 s each. */
static void test_mute(void **state)
{
	(void)state;
	struct raw r;
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	inet_pton(AF_INET, "127.0.0.1", &sa.sin_addr);
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	raw_open(&r, NULL);
	f.port = ntohs(sa.sin_port);
	dial(f.worker, NULL);
	run_until(&f.loop, both_timed_out, NULL);
	close(fd);
	raw_close(&r);
	assert_int_equal(f.client.err.code, MESH_E_TIMEOUT);
	assert_int_equal(f.refusal.code, MESH_E_TIMEOUT);
	contains(f.client.err.msg, "timed out after 10 s (the TLS handshake)");
	contains(f.refusal.msg, "timed out after 10 s (the TLS handshake)");
}

/* ---- the rest ----------------------------------------------------------------------------------- */

static void test_refused_port(void **state)
{
	(void)state;
	struct sockaddr_in sa = { .sin_family = AF_INET };
	socklen_t len = sizeof(sa);
	inet_pton(AF_INET, "127.0.0.1", &sa.sin_addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* bound, not listening: nobody else takes the port */
	assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
	f.port = ntohs(sa.sin_port);
	dial(f.worker, NULL);
	wait_for(&f.client.closed);
	close(fd);
	assert_int_equal(f.client.err.code, -ECONNREFUSED);
	contains(f.client.err.msg, "cannot connect: Connection refused");
}

static void test_name(void **state)
{
	(void)state;
	struct mesh_err err = { 0 };
	assert_int_equal(net_connect(&f.loop, f.worker, "localhost", f.port, NULL, &ops, &f.client, &f.client.c, &err),
	                 0);
	run_until(&f.loop, both_open, NULL);
}

static void test_unknown_name(void **state)
{
	(void)state;
	struct mesh_err err = { 0 };
	assert_int_equal(
		net_connect(&f.loop, f.worker, "no such name", f.port, NULL, &ops, &f.client, &f.client.c, &err), 0);
	wait_for(&f.client.closed);
	assert_int_equal(f.client.err.code, MESH_E_NOT_FOUND);
	contains(f.client.err.msg, "no such name:");
}

static void test_address_in_use(void **state)
{
	(void)state;
	struct net_listener *l;
	struct mesh_err err;
	char addr[32];
	snprintf(addr, sizeof(addr), "127.0.0.1:%u", f.port);
	assert_int_equal(net_listen(&f.loop, f.manager, addr, on_accept, NULL, &l, &err), -EADDRINUSE);
	contains(err.msg, addr);
	assert_int_equal(net_listen(&f.loop, f.manager, "nonsense:1", on_accept, NULL, &l, &err), MESH_E_INVALID);
	assert_int_equal(net_connect(&f.loop, f.worker, "", 1, NULL, &ops, &f.client, &f.client.c, &err),
	                 MESH_E_INVALID);
}

static void test_close_at_every_moment(void **state)
{
	(void)state;
	/* After so many turns of the loop the connection is resolving, connecting, shaking hands, open. */
	for (int turns = 0; turns < 12; turns++) {
		memset(&f.client, 0, sizeof(f.client));
		dial(f.worker, NULL);
		for (int i = 0; i < turns; i++)
			uv_run(&f.loop, UV_RUN_NOWAIT);
		assert_int_equal(f.client.closes, 0);
		net_close(f.client.c, NULL);
		net_close(f.client.c, NULL);
		wait_for(&f.client.closed);
		assert_int_equal(f.client.closes, 1);
		assert_int_equal(f.client.err.code, 0);
	}
}

static void test_listener_close_with_handshakes(void **state)
{
	(void)state;
	struct raw r;
	raw_open(&r, NULL);
	/* A whole connection after it: by then the listener has taken the first one too. */
	open_both(f.worker);
	net_listener_close(f.l, on_listener_closed, NULL);
	wait_for(&f.listener_closed);
	wait_for(&r.ended);
	assert_false(f.refused);
	f.listener_closed = false;
	raw_close(&r);
	start(f.manager);
}

static void test_ref_outlives_close(void **state)
{
	(void)state;
	open_both(f.worker);
	struct net_conn *kept = net_ref(f.server.c);
	net_close(f.client.c, NULL);
	wait_for(&f.server.closed);
	assert_false(net_send(kept, NET_DATA, 1, "x", 1));
	net_pause(kept);
	net_resume(kept);
	net_close(kept, NULL);
	assert_memory_equal(net_peer_of(kept)->addr, "127.0.0.1:", 10);
	net_unref(kept);
}

/* A renewed certificate serves new connections; old ones go on. */
static void test_replace_under_way(void **state)
{
	(void)state;
	struct bytes key = { 0 }, csr = { 0 }, cert = { 0 };
	struct ca_issue what = issue_for(&f.blue, true);
	open_both(f.worker);
	assert_int_equal(ca_csr_make(&key, &csr, NULL), 0);
	assert_int_equal(ca_issue(&f.blue.cert, &f.blue.key, &csr, &what, &cert, NULL), 0);
	assert_int_equal(net_identity_replace(f.manager, &f.blue.cert, &cert, &key, NULL), 0);
	free(key.p);
	free(csr.p);
	free(cert.p);
	f.server.echo = true;
	assert_true(net_send(f.client.c, NET_DATA, 1, "x", 1));
	run_until(&f.loop, enough, &f.client);
	net_close(f.client.c, NULL);
	wait_for(&f.client.closed);
	wait_for(&f.server.closed);
	f.client.opened = f.server.opened = false;
	open_both(f.worker);
	assert_string_equal(f.client.peer.node.s, what.node.s);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_handshake),
		T(test_frames_both_ways),
		T(test_back_pressure),
		T(test_largest_frame),
		T(test_reason_reaches_the_other_end),
		T(test_close_inside_on_frame),
		T(test_expired),
		T(test_not_yet_valid),
		T(test_other_cluster),
		T(test_expired_server),
		T(test_unexpected_node),
		T(test_expected_manager),
		T(test_accept_refuses),
		T(test_stolen_certificate),
		T(test_stolen_certificate_server),
		T(test_anonymous_may_only_join),
		T(test_anonymous_gets_no_memory),
		T(test_anonymous_cannot_listen),
		T(test_oversize_frame),
		T(test_frame_before_hello),
		T(test_future_version),
		T(test_malformed_hello),
		T(test_not_tls),
		T(test_hang_up_in_handshake),
		T(test_mute),
		T(test_refused_port),
		T(test_name),
		T(test_unknown_name),
		T(test_address_in_use),
		T(test_close_at_every_moment),
		T(test_listener_close_with_handshakes),
		T(test_ref_outlives_close),
		T(test_replace_under_way),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
