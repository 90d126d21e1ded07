/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Joining and renewing over loopback, against a manager that decides as the real one would. */
#include "tests/unit/net_fixture.h"

#include <errno.h>

#include "control/ca/join_msg.h"
#include "control/ca/x509.h"

struct fix {
	uv_loop_t loop;
	struct cluster blue, red;
	struct net_identity *manager;
	struct net_listener *l;
	struct ca_server *ca;
	char token[128], manager_token[128], rotated[128], addr[32];
	/* The joining side's outcome. */
	bool answered;
	unsigned answers;
	int code;
	struct ca_joined joined;
	struct mesh_err err;
	/* What the manager saw. */
	unsigned asked;
	char *seen_token, *seen_advertise, *seen_remote, *renewing;
	struct net_conn *agent; /* the authenticated connection of a renewing node */
	bool wrong_node, hold;
	struct ca_join_pending *held;
};
static struct fix f;

static void answer_yes(struct ca_join_pending *p, const struct ca_join_request *r, bool manager)
{
	struct ca_issue what = issue_for(&f.blue, manager);
	struct bytes cert = { 0 };
	struct mesh_err err = { 0 };
	if (r->peer)
		what.node = r->peer->node;
	if (f.wrong_node && r->peer)
		what.node.s[0] = what.node.s[0] == 'a' ? 'b' : 'a';
	int rc = ca_issue(&f.blue.cert, &f.blue.key, r->csr, &what, &cert, &err);
	ca_join_answer(p, rc, &what, &cert, &err);
	free(cert.p);
}

static void decide(void *arg, const struct ca_join_request *r, struct ca_join_pending *p)
{
	struct mesh_err err = { 0 };
	assert_true(arg == &f);
	f.asked++;
	str_set(&f.seen_token, r->token);
	str_set(&f.seen_advertise, r->advertise_addr);
	str_set(&f.seen_remote, r->remote_addr);
	str_set(&f.renewing, r->peer ? r->peer->node.s : NULL);
	if (f.hold) {
		f.held = p;
		return;
	}
	if (r->peer || ca_token_equal(r->token, f.token) || ca_token_equal(r->token, f.manager_token)) {
		answer_yes(p, r, r->token && ca_token_equal(r->token, f.manager_token));
		return;
	}
	(void)mesh_fail(&err, MESH_E_UNAUTHORIZED, "the join token was rotated; ask a manager for the new one");
	ca_join_answer(p, err.code, NULL, NULL, &err);
}

static void give_root(void *arg, struct bytes *out)
{
	(void)arg;
	bytes_set(out, f.blue.cert.p, f.blue.cert.n);
}

static const struct ca_server_ops server_ops = { .root = give_root, .decide = decide };

static void agent_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	(void)arg;
	(void)peer;
	f.agent = c;
}
static void agent_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	(void)arg;
	assert_int_equal(type, NET_RENEW_CSR);
	ca_server_renew_frame(f.ca, c, stream, p, n);
}
static void agent_close(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	(void)arg;
	(void)c;
	(void)err;
	f.agent = NULL;
}
static const struct net_conn_ops agent_ops = { .on_open = agent_open,
	                                       .on_frame = agent_frame,
	                                       .on_close = agent_close };

static int on_accept(void *arg, const struct net_peer *peer, const struct net_conn_ops **ops, void **conn_arg)
{
	(void)arg;
	if (peer->anonymous)
		*ops = ca_server_conn_ops(f.ca, conn_arg);
	else
		*ops = &agent_ops;
	return 0;
}

static void start(struct net_identity *id)
{
	struct mesh_err err = { 0 };
	if (net_listen(&f.loop, id, "127.0.0.1:0", on_accept, NULL, &f.l, &err))
		fail_msg("%s", err.msg);
	snprintf(f.addr, sizeof(f.addr), "127.0.0.1:%u", net_listener_port(f.l));
}

static int setup(void **state)
{
	(void)state;
	memset(&f, 0, sizeof(f));
	uv_loop_init(&f.loop);
	cluster_make(&f.blue, 21);
	cluster_make(&f.red, 22);
	f.manager = node_of(&f.blue, true);
	ca_token_make(&f.blue.cert, &f.blue.rng, f.token);
	ca_token_make(&f.blue.cert, &f.blue.rng, f.manager_token);
	ca_token_make(&f.blue.cert, &f.blue.rng, f.rotated);
	f.ca = ca_server_new(&server_ops, &f);
	start(f.manager);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	net_listener_close(f.l, NULL, NULL);
	ca_server_free(f.ca);
	uv_run(&f.loop, UV_RUN_DEFAULT);
	int left = uv_loop_close(&f.loop);
	net_identity_free(f.joined.identity);
	net_identity_free(f.manager);
	cluster_fini(&f.blue);
	cluster_fini(&f.red);
	free(f.seen_token);
	free(f.seen_advertise);
	free(f.seen_remote);
	free(f.renewing);
	return left; /* a handle left behind is a leak */
}

static void on_joined(void *arg, int code, const struct ca_joined *joined, const struct mesh_err *err)
{
	assert_true(arg == &f);
	f.answered = true;
	f.answers++;
	f.code = code;
	if (joined)
		f.joined = *joined;
	if (err)
		f.err = *err;
	assert_int_equal(joined == NULL, code != 0);
}

static bool answered(void *arg)
{
	(void)arg;
	return f.answered;
}

static void join(const char *token)
{
	f.answered = false;
	ca_join(&f.loop, f.addr, token, "10.1.2.3", on_joined, &f);
	assert_false(f.answered);
	run_until(&f.loop, answered, NULL);
	assert_int_equal(f.answers, 1);
}

static void refused(const char *token, int code, const char *text)
{
	join(token);
	assert_int_equal(f.code, code);
	if (!strstr(f.err.msg, text))
		fail_msg("'%s' does not contain '%s'", f.err.msg, text);
	assert_null(f.joined.identity);
}

static void test_worker(void **state)
{
	(void)state;
	join(f.token);
	if (f.code)
		fail_msg("%s", f.err.msg);
	assert_int_equal(f.asked, 1);
	assert_string_equal(f.seen_token, f.token);
	assert_string_equal(f.seen_advertise, "10.1.2.3");
	assert_memory_equal(f.seen_remote, "127.0.0.1:", 10);
	assert_false(f.joined.manager);
	assert_string_equal(f.joined.cluster.s, f.blue.id.s);
	assert_true(mesh_id_valid(f.joined.node.s));
	assert_string_equal(net_identity_self(f.joined.identity)->node.s, f.joined.node.s);
	assert_int_equal(net_identity_root(f.joined.identity)->n, f.blue.cert.n);
	assert_memory_equal(net_identity_root(f.joined.identity)->p, f.blue.cert.p, f.blue.cert.n);
}

static void test_manager(void **state)
{
	(void)state;
	join(f.manager_token);
	assert_int_equal(f.code, 0);
	assert_true(f.joined.manager);
}

static void test_malformed_token(void **state)
{
	(void)state;
	refused("SWMTKN-1-abc", MESH_E_INVALID, "invalid join token: it is too short");
	assert_int_equal(f.asked, 0);
}

static void test_no_token(void **state)
{
	(void)state;
	refused(NULL, MESH_E_INVALID, "invalid join token: it is empty");
}

/* The secret must not leave this node: the manager is never asked. */
static void test_token_of_another_cluster(void **state)
{
	(void)state;
	char token[128];
	ca_token_make(&f.red.cert, &f.red.rng, token);
	refused(token, MESH_E_INVALID, "the join token belongs to another cluster");
	assert_int_equal(f.asked, 0);
}

static void test_rotated_token(void **state)
{
	(void)state;
	refused(f.rotated, MESH_E_UNAUTHORIZED, "the join token was rotated; ask a manager for the new one");
	assert_string_equal(f.err.msg, "the join token was rotated; ask a manager for the new one");
	assert_int_equal(f.asked, 1);
}

/* Somebody who shows the right root without a certificate of it does not get the token. */
static void test_impostor(void **state)
{
	(void)state;
	struct net_identity *impostor = node_of(&f.red, true);
	net_listener_close(f.l, NULL, NULL);
	start(impostor);
	refused(f.token, MESH_E_TLS, "certificate was not issued by the CA that the join token names");
	assert_int_equal(f.asked, 0);
	net_identity_free(impostor);
}

/* A worker of the same cluster may not play manager for joining nodes. */
static void test_worker_impostor(void **state)
{
	(void)state;
	struct net_identity *impostor = node_of(&f.blue, false);
	net_listener_close(f.l, NULL, NULL);
	start(impostor);
	refused(f.token, MESH_E_TLS, "is not a manager");
	assert_int_equal(f.asked, 0);
	net_identity_free(impostor);
}

static void test_expired_manager(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&f.blue, true);
	what.not_before -= 10 * HOUR;
	what.not_after -= 5 * HOUR;
	struct net_identity *old = identity_of(&f.blue, &what);
	net_listener_close(f.l, NULL, NULL);
	start(old);
	refused(f.token, MESH_E_TLS, "certificate expired at 2");
	net_identity_free(old);
}

static void test_nobody_there(void **state)
{
	(void)state;
	snprintf(f.addr, sizeof(f.addr), "127.0.0.1:1");
	refused(f.token, -ECONNREFUSED, "127.0.0.1:1: cannot connect");
}

static void test_bad_address(void **state)
{
	(void)state;
	snprintf(f.addr, sizeof(f.addr), "127.0.0.1:x");
	refused(f.token, MESH_E_INVALID, "bad port");
}

static bool has_held(void *arg)
{
	(void)arg;
	return f.held != NULL;
}

/* The answer may come after the node, and the CA, are gone. */
static void test_late_answer(void **state)
{
	(void)state;
	struct mesh_err err = { 0 };
	f.hold = true;
	ca_join(&f.loop, f.addr, f.token, NULL, on_joined, &f);
	run_until(&f.loop, has_held, NULL);
	assert_string_equal(f.seen_advertise, "");
	ca_server_free(f.ca);
	f.ca = NULL;
	struct ca_issue what = issue_for(&f.blue, false);
	ca_join_answer(f.held, 0, &what, &f.blue.cert, &err);
	run_until(&f.loop, answered, NULL);
	assert_int_equal(f.code, MESH_E_CLOSED);
	assert_string_equal(f.err.msg, "the manager is shutting down");
}

/* A joining node that gets somebody else's certificate refuses it. */
static void test_certificate_for_another_key(void **state)
{
	(void)state;
	struct bytes key = { 0 }, csr = { 0 }, cert = { 0 };
	struct mesh_err err = { 0 };
	struct ca_issue what = issue_for(&f.blue, false);
	f.hold = true;
	ca_join(&f.loop, f.addr, f.token, NULL, on_joined, &f);
	run_until(&f.loop, has_held, NULL);
	assert_int_equal(ca_csr_make(&key, &csr, &err), 0);
	assert_int_equal(ca_issue(&f.blue.cert, &f.blue.key, &csr, &what, &cert, &err), 0);
	ca_join_answer(f.held, 0, &what, &cert, NULL);
	run_until(&f.loop, answered, NULL);
	free(key.p);
	free(csr.p);
	free(cert.p);
	assert_int_equal(f.code, MESH_E_TLS);
	assert_string_equal(f.err.msg, "node certificate: the private key does not belong to the certificate");
}

static void renew(struct net_identity *id)
{
	ca_renew(&f.loop, id, f.addr, on_joined, &f);
	run_until(&f.loop, answered, NULL);
	assert_int_equal(f.answers, 1);
}

static void test_renew(void **state)
{
	(void)state;
	struct net_identity *id = node_of(&f.blue, false);
	struct bytes old = { 0 };
	node_id node = net_identity_self(id)->node;
	bytes_set(&old, net_identity_cert(id)->p, net_identity_cert(id)->n);
	renew(id);
	if (f.code)
		fail_msg("%s", f.err.msg);
	assert_string_equal(f.renewing, node.s);
	assert_null(f.seen_token);
	assert_true(f.joined.identity == id);
	assert_string_equal(f.joined.node.s, node.s);
	assert_false(net_identity_cert(id)->n == old.n && !memcmp(net_identity_cert(id)->p, old.p, old.n));
	free(old.p);
	net_identity_free(id);
}

static void test_renew_for_another_node(void **state)
{
	(void)state;
	struct net_identity *id = node_of(&f.blue, false);
	node_id node = net_identity_self(id)->node;
	f.wrong_node = true;
	renew(id);
	assert_int_equal(f.code, MESH_E_PROTOCOL);
	assert_string_equal(net_identity_self(id)->node.s, node.s);
	net_identity_free(id);
}

static void test_renew_expired(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&f.blue, false);
	what.not_before -= 10 * HOUR;
	what.not_after -= 5 * HOUR;
	struct net_identity *id = identity_of(&f.blue, &what);
	renew(id);
	assert_int_equal(f.code, MESH_E_TLS);
	if (!strstr(f.err.msg, "refused this node: certificate expired at 2"))
		fail_msg("%s", f.err.msg);
	assert_int_equal(f.asked, 0);
	net_identity_free(id);
}

/* ---- the decoders ------------------------------------------------------------------------------- */

static void test_messages(void **state)
{
	(void)state;
	struct ca_csr_msg in = { .token = f.token, .csr = { (uint8_t *)"csr", 3 }, .advertise_addr = (char *)f.addr },
			  out;
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	sch_encode(&ca_csr_msg_schema, &in, &b);
	assert_int_equal(ca_csr_msg_decode(&out, b.data, b.len, false, &err), 0);
	assert_true(sch_equal(&ca_csr_msg_schema, &in, &out));
	sch_clear(&ca_csr_msg_schema, &out);
	assert_int_equal(ca_csr_msg_decode(&out, b.data, b.len, true, &err), MESH_E_PROTOCOL);
	assert_string_equal(err.msg, "malformed join request: a token where none belongs");
	assert_null(out.token);
	for (size_t n = 0; n < b.len; n++)
		if (!ca_csr_msg_decode(&out, b.data, n, false, &err))
			sch_clear(&ca_csr_msg_schema, &out);
	assert_int_equal(ca_csr_msg_decode(&out, NULL, 0, false, &err), MESH_E_PROTOCOL);
	buf_clear(&b);
	uint8_t big[2049] = { 0 };
	in.csr = (struct bytes){ big, sizeof(big) };
	sch_encode(&ca_csr_msg_schema, &in, &b);
	assert_int_equal(ca_csr_msg_decode(&out, b.data, b.len, false, &err), MESH_E_PROTOCOL);
	buf_clear(&b);
	struct ca_cert_msg cert = { .root = f.blue.cert, .cert = f.blue.cert, .manager = true }, back;
	sch_encode(&ca_cert_msg_schema, &cert, &b);
	assert_int_equal(ca_cert_msg_decode(&back, b.data, b.len, &err), MESH_E_PROTOCOL);
	assert_string_equal(err.msg, "malformed answer to the join request: ids missing");
	buf_clear(&b);
	cert.cluster = f.blue.id;
	mesh_id_make(&f.blue.rng, cert.node.s);
	sch_encode(&ca_cert_msg_schema, &cert, &b);
	assert_int_equal(ca_cert_msg_decode(&back, b.data, b.len, &err), 0);
	assert_true(sch_equal(&ca_cert_msg_schema, &cert, &back));
	sch_clear(&ca_cert_msg_schema, &back);
	buf_fini(&b);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_worker),
		T(test_manager),
		T(test_malformed_token),
		T(test_no_token),
		T(test_token_of_another_cluster),
		T(test_rotated_token),
		T(test_impostor),
		T(test_worker_impostor),
		T(test_expired_manager),
		T(test_nobody_there),
		T(test_bad_address),
		T(test_late_answer),
		T(test_certificate_for_another_key),
		T(test_renew),
		T(test_renew_for_another_node),
		T(test_renew_expired),
		T(test_messages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
