/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The joining side. Steps: ask for the root over a connection that proves nothing; check it against the
 * token; connect again, now to somebody who proves to be a manager of that root; send token and request.
 * The token is never sent before that proof. Renewal is the last step alone, with the certificate at hand.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/identity.h"
#include "control/ca/join_msg.h"
#include "control/ca/x509.h"

#define JOIN_MS 20000
#define DEFAULT_PORT 2377
#define STREAM 1

enum step { STEP_ROOT, STEP_CSR, STEP_DONE };

struct join {
	uv_loop_t *loop;
	uv_timer_t timer;
	enum step step;
	char host[256];
	uint16_t port;
	char *token, *advertise_addr; /* token NULL: renewing */
	struct net_identity *id;      /* what the connection is made with */
	struct net_conn *conn;
	struct bytes root, key, csr;
	ca_join_cb cb;
	void *arg;
	/* The outcome, told when connection and timer are closed. */
	struct mesh_err err;
	struct ca_joined joined;
	bool timer_closed;
};

static const struct net_conn_ops ops;

static void maybe_finish(struct join *j)
{
	if (j->step != STEP_DONE || j->conn || !j->timer_closed)
		return;
	struct join copy = *j;
	if (j->token)
		mesh_wipe(j->token, strlen(j->token));
	mesh_wipe(j->key.p, j->key.n);
	free(j->token);
	free(j->advertise_addr);
	free(j->root.p);
	free(j->key.p);
	free(j->csr.p);
	net_identity_free(j->id);
	free(j);
	if (copy.err.code)
		copy.cb(copy.arg, copy.err.code, NULL, &copy.err);
	else
		copy.cb(copy.arg, 0, &copy.joined, NULL);
}

static void on_timer_closed(uv_handle_t *h)
{
	struct join *j = h->data;
	j->timer_closed = true;
	maybe_finish(j);
}

/* tell: the other end hears err too. */
static void done(struct join *j, bool tell)
{
	if (j->step == STEP_DONE)
		return;
	j->step = STEP_DONE;
	uv_close((uv_handle_t *)&j->timer, on_timer_closed);
	if (j->conn)
		net_close(j->conn, tell && j->err.code ? &j->err : NULL);
}

static void connect_step(struct join *j)
{
	const char *expect = j->step == STEP_CSR ? NET_EXPECT_MANAGER : NULL;
	if (net_connect(j->loop, j->id, j->host, j->port, expect, &ops, j, &j->conn, &j->err))
		done(j, false);
}

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	struct join *j = arg;
	(void)peer;
	if (j->step == STEP_ROOT) {
		(void)net_send(c, NET_JOIN_ROOT, STREAM, NULL, 0); /* one small frame: never too full */
		return;
	}
	struct ca_csr_msg m = { .token = j->token, .csr = j->csr, .advertise_addr = j->advertise_addr };
	struct buf b = { 0 };
	sch_encode(&ca_csr_msg_schema, &m, &b);
	(void)net_send(c, j->token ? NET_JOIN_CSR : NET_RENEW_CSR, STREAM, b.data, b.len);
	mesh_wipe(b.data, b.len);
	buf_fini(&b);
}

static int take_root(struct join *j, const uint8_t *p, size_t n)
{
	struct bytes root = { (uint8_t *)p, n };
	struct x509_info info;
	struct net_identity *pinned;
	int rc = x509_parse(p, n, &info, &j->err);
	if (rc)
		return mesh_wrap(&j->err, rc, "root certificate of the other end");
	if (!ca_token_pins(j->token, &root))
		return mesh_fail(&j->err, MESH_E_INVALID,
		                 "the join token belongs to another cluster (it does not match the root certificate of "
		                 "%s)",
		                 net_peer_of(j->conn)->addr);
	rc = net_identity_pinned(&root, &pinned, &j->err);
	if (rc)
		return rc;
	bytes_set(&j->root, p, n);
	net_identity_free(j->id);
	j->id = pinned;
	return 0;
}

static int take_cert(struct join *j, const uint8_t *p, size_t n)
{
	struct ca_cert_msg m;
	const struct net_peer *peer = net_peer_of(j->conn);
	int rc = ca_cert_msg_decode(&m, p, n, &j->err);
	if (rc)
		return rc;
	if (!j->token) {
		if (!ID_EQ(m.node, net_identity_self(j->id)->node))
			rc = mesh_fail(&j->err, MESH_E_PROTOCOL, "the renewed certificate is for node %s", m.node.s);
		else
			rc = net_identity_replace(j->id, &m.root, &m.cert, &j->key, &j->err);
		if (!rc)
			j->joined.identity = net_identity_ref(j->id);
	} else {
		rc = net_identity_new(&m.root, &m.cert, &j->key, &j->joined.identity, &j->err);
	}
	if (!rc) {
		const struct net_peer *self = net_identity_self(j->joined.identity);
		j->joined.node = self->node;
		j->joined.cluster = self->cluster;
		j->joined.manager = self->manager;
		if (!ID_EQ(self->cluster, peer->cluster) || !ID_EQ(self->node, m.node))
			rc = mesh_fail(&j->err, MESH_E_PROTOCOL, "the certificate received is not the one announced");
	}
	sch_clear(&ca_cert_msg_schema, &m);
	if (rc && j->joined.identity) {
		net_identity_free(j->joined.identity);
		j->joined.identity = NULL;
	}
	return rc;
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct join *j = arg;
	(void)stream;
	if (type == NET_ERROR) {
		net_error_decode(p, n, &j->err);
		done(j, false);
	} else if (j->step == STEP_ROOT && type == NET_JOIN_ROOT_REPLY) {
		if (take_root(j, p, n)) {
			done(j, true);
			return;
		}
		j->step = STEP_CSR;
		net_close(c, NULL);
	} else if (j->step == STEP_CSR && type == NET_JOIN_CERT) {
		done(j, take_cert(j, p, n) != 0);
	} else {
		(void)mesh_fail(&j->err, MESH_E_PROTOCOL, "unexpected frame of type %u while joining", type);
		done(j, true);
	}
}

static void on_close(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	struct join *j = arg;
	(void)c;
	j->conn = NULL;
	if (j->step == STEP_CSR && !err->code && j->root.n) {
		/* The first connection ended as planned. */
		bytes_set(&j->root, NULL, 0);
		connect_step(j);
		return;
	}
	if (j->step != STEP_DONE) {
		j->err = *err;
		if (!j->err.code)
			(void)mesh_fail(&j->err, MESH_E_CLOSED, "%s: the connection ended before the answer", j->host);
		done(j, false);
	}
	maybe_finish(j);
}

static const struct net_conn_ops ops = { .on_open = on_open, .on_frame = on_frame, .on_close = on_close };

static void on_timeout(uv_timer_t *t)
{
	struct join *j = t->data;
	(void)mesh_fail(&j->err, MESH_E_TIMEOUT, "%s:%u: no answer to the %s request within %d s", j->host, j->port,
	                j->token ? "join" : "renewal", JOIN_MS / 1000);
	done(j, true);
}

static void on_start(uv_timer_t *t)
{
	struct join *j = t->data;
	uv_timer_start(&j->timer, on_timeout, JOIN_MS, 0);
	int rc = j->token ? ca_token_check_form(j->token, &j->err) : 0;
	if (!rc)
		rc = ca_csr_make(&j->key, &j->csr, &j->err);
	if (rc)
		done(j, false);
	else
		connect_step(j);
}

static void on_bad_addr(uv_timer_t *t)
{
	done(t->data, false);
}

static struct join *join_new(uv_loop_t *loop, const char *addr, ca_join_cb cb, void *arg)
{
	struct join *j = XNEW(struct join);
	j->loop = loop;
	j->cb = cb;
	j->arg = arg;
	(void)uv_timer_init(loop, &j->timer); /* only fills in the struct */
	j->timer.data = j;
	int rc = net_addr_parse(addr ? addr : "", DEFAULT_PORT, j->host, sizeof(j->host), &j->port, &j->err);
	uv_timer_start(&j->timer, rc ? on_bad_addr : on_start, 0, 0);
	return j;
}

void ca_join(uv_loop_t *loop, const char *addr, const char *token, const char *advertise_addr, ca_join_cb cb, void *arg)
{
	struct join *j = join_new(loop, addr, cb, arg);
	j->step = STEP_ROOT;
	j->token = xstrdup(token ? token : "");
	j->advertise_addr = xstrdup(advertise_addr);
	j->id = net_identity_anonymous();
}

void ca_renew(uv_loop_t *loop, struct net_identity *id, const char *addr, ca_join_cb cb, void *arg)
{
	struct join *j = join_new(loop, addr, cb, arg);
	j->step = STEP_CSR;
	j->id = net_identity_ref(id);
}
