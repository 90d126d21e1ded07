/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The answering side of joining and renewing. Questions about the token's form and the signing request are
 * answered here; whether the token is the cluster's, who the node becomes and with which certificate is the
 * decision of whoever plugged in ca_server_ops.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/join_msg.h"
#include "control/ca/x509.h"

struct ca_server {
	unsigned refs; /* owner, connections, open questions */
	bool closed;
	const struct ca_server_ops *ops;
	void *arg;
};

struct ca_session { /* one anonymous connection */
	struct ca_server *server;
	bool asked; /* one request a connection */
};

struct ca_join_pending {
	struct ca_server *server;
	struct net_conn *conn; /* a reference */
	uint32_t stream;
	bool renew;
};

static void server_unref(struct ca_server *s)
{
	if (--s->refs == 0)
		free(s);
}

struct ca_server *ca_server_new(const struct ca_server_ops *ops, void *arg)
{
	struct ca_server *s = XNEW(struct ca_server);
	s->refs = 1;
	s->ops = ops;
	s->arg = arg;
	return s;
}

void ca_server_free(struct ca_server *s)
{
	if (!s)
		return;
	s->closed = true;
	server_unref(s);
}

/* The boundary of joining: what an operator of the manager needs to hear is said here, once. */
static void send_refusal(struct net_conn *c, uint32_t stream, bool renew, const struct mesh_err *err)
{
	struct buf b = { 0 };
	log_warn("%s refused peer=%s reason=\"%s\"", renew ? "certificate renewal" : "join", net_peer_of(c)->addr,
	         mesh_err_text(err, err->code));
	net_error_encode(&b, err);
	(void)net_send(c, NET_ERROR, stream, b.data, b.len); /* a short last word: the queue's state does not matter */
	buf_fini(&b);
}

static void reply(struct ca_join_pending *p, const struct ca_issue *what, const struct bytes *cert)
{
	struct ca_cert_msg m = {
		.node = what->node, .cluster = what->cluster, .manager = what->manager, .cert = *cert
	};
	struct buf b = { 0 };
	p->server->ops->root(p->server->arg, &m.root);
	sch_encode(&ca_cert_msg_schema, &m, &b);
	(void)net_send(p->conn, NET_JOIN_CERT, p->stream, b.data, b.len);
	buf_fini(&b);
	free(m.root.p);
}

void ca_join_answer(struct ca_join_pending *p, int code, const struct ca_issue *what, const struct bytes *cert,
                    const struct mesh_err *err)
{
	struct mesh_err e = { .code = code };
	if (!code && p->server->closed)
		code = mesh_fail(&e, MESH_E_CLOSED, "the manager is shutting down");
	else if (code)
		snprintf(e.msg, sizeof(e.msg), "%s", mesh_err_text(err, code));
	if (code)
		send_refusal(p->conn, p->stream, p->renew, &e);
	else if (what)
		reply(p, what, cert);
	net_unref(p->conn);
	server_unref(p->server);
	free(p);
}

static void ask(struct ca_server *s, struct net_conn *c, uint32_t stream, const struct ca_csr_msg *m, bool renew)
{
	struct ca_join_pending *p = XNEW(struct ca_join_pending);
	p->server = s;
	s->refs++;
	p->conn = net_ref(c);
	p->stream = stream;
	p->renew = renew;
	struct ca_join_request r = {
		.token = renew ? NULL : m->token,
		.peer = renew ? net_peer_of(c) : NULL,
		.remote_addr = net_peer_of(c)->addr,
		.advertise_addr = m->advertise_addr ? m->advertise_addr : "",
		.csr = &m->csr,
	};
	s->ops->decide(s->arg, &r, p);
}

static int check_token(struct ca_server *s, const char *token, struct mesh_err *err)
{
	struct bytes root = { 0 };
	int rc = ca_token_check_form(token, err);
	if (rc)
		return rc;
	s->ops->root(s->arg, &root);
	if (!ca_token_pins(token, &root))
		rc = mesh_fail(err, MESH_E_INVALID, "the join token belongs to another cluster");
	free(root.p);
	return rc;
}

static void on_csr(struct ca_server *s, struct net_conn *c, uint32_t stream, const uint8_t *p, size_t n, bool renew)
{
	struct ca_csr_msg m;
	struct mesh_err e = { 0 };
	int rc = ca_csr_msg_decode(&m, p, n, renew, &e);
	if (!rc && s->closed)
		rc = mesh_fail(&e, MESH_E_CLOSED, "the manager is shutting down");
	if (!rc && !renew)
		rc = check_token(s, m.token, &e);
	if (rc)
		send_refusal(c, stream, renew, &e);
	else
		ask(s, c, stream, &m, renew);
	if (m.token)
		mesh_wipe(m.token, strlen(m.token));
	sch_clear(&ca_csr_msg_schema, &m);
}

static void send_root(struct ca_server *s, struct net_conn *c, uint32_t stream)
{
	struct bytes root = { 0 };
	s->ops->root(s->arg, &root);
	(void)net_send(c, NET_JOIN_ROOT_REPLY, stream, root.p, x509_first(root.p, root.n)); /* small: never too full */
	free(root.p);
}

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	(void)arg;
	(void)c;
	(void)peer;
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct ca_session *session = arg;
	struct mesh_err e = { 0 };
	if (type == NET_JOIN_ROOT) {
		send_root(session->server, c, stream);
	} else if (type == NET_JOIN_CSR && !session->asked) {
		session->asked = true;
		on_csr(session->server, c, stream, p, n, false);
	} else {
		(void)mesh_fail(&e, MESH_E_PROTOCOL, "unexpected frame of type %u while joining", type);
		net_close(c, &e);
	}
}

static void on_close(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	struct ca_session *session = arg;
	(void)c;
	/* A joining node that goes away without a word has what it came for. */
	if (err->code && err->code != MESH_E_CLOSED)
		log_warn("joining connection ended reason=\"%s\"", err->msg);
	server_unref(session->server);
	free(session);
}

static const struct net_conn_ops session_ops = { .on_open = on_open, .on_frame = on_frame, .on_close = on_close };

const struct net_conn_ops *ca_server_conn_ops(struct ca_server *s, void **conn_arg)
{
	struct ca_session *session = XNEW(struct ca_session);
	session->server = s;
	s->refs++;
	*conn_arg = session;
	return &session_ops;
}

void ca_server_renew_frame(struct ca_server *s, struct net_conn *c, uint32_t stream, const uint8_t *p, size_t n)
{
	on_csr(s, c, stream, p, n, true);
}
