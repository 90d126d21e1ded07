/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "dataplane/dns/server_int.h"

#define CONNS_MAX 64 /* TCP clients of one task */
#define CONN_IDLE_NS (10 * NS_PER_SEC)

static void conn_close(struct conn *c)
{
	c->closing = true;
}

static void conn_flush(struct dns_server *s, struct conn *c)
{
	while (c->out.len) {
		ssize_t n = send(c->src.fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			conn_close(c);
			return;
		}
		if (n < 0)
			break;
		buf_consume(&c->out, (size_t)n);
	}
	/* A client that does not read its answers is not read from either. */
	uint32_t in = c->out.len > DNS_TCP_MAX ? 0 : EPOLLIN;
	dns_watch(s, &c->src, in | (c->out.len ? EPOLLOUT : 0), EPOLL_CTL_MOD);
}

void dns_conn_send(struct dns_server *s, struct conn *c, const uint8_t *msg, size_t n)
{
	uint8_t head[2];
	dns_put16(head, (unsigned)n);
	buf_put(&c->out, head, 2);
	buf_put(&c->out, msg, n);
	conn_flush(s, c);
}

static void conn_query(struct dns_server *s, struct conn *c, const uint8_t *msg, size_t n, int64_t now)
{
	static uint8_t out[DNS_TCP_MAX];
	struct dns_query q;
	size_t len = 0;
	switch (dns_handle(s, c->task, msg, n, &q, sizeof(out), true, out, &len, now)) {
	case V_ANSWER:
		dns_conn_send(s, c, out, len);
		return;
	case V_FORWARD:
		dns_fwd_start(s, c->task, c, NULL, msg, n, &q, now);
		return;
	case V_DROP:
		conn_close(c);
		return;
	}
}

static void conn_read(struct dns_server *s, struct conn *c, int64_t now)
{
	uint8_t *p = buf_reserve(&c->in, 4096);
	ssize_t n = recv(c->src.fd, p, 4096, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	c->in.len += (size_t)n;
	c->deadline = now + CONN_IDLE_NS;
	size_t at = 0;
	while (!c->closing && c->in.len - at >= 2) {
		size_t want = dns_get16(c->in.data + at);
		if (c->in.len - at < want + 2)
			break;
		conn_query(s, c, c->in.data + at + 2, want, now);
		at += want + 2;
	}
	buf_consume(&c->in, at);
}

void dns_conn_on_event(struct dns_server *s, struct conn *c, uint32_t events, int64_t now)
{
	if (c->closing || c->task->dead)
		return;
	if (events & EPOLLOUT)
		conn_flush(s, c);
	if (!c->closing && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		conn_read(s, c, now);
}

void dns_conn_accept(struct dns_server *s, struct task *t, int64_t now)
{
	int fd = accept4(t->tcp.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (t->n_conns >= CONNS_MAX) {
		close(fd);
		return;
	}
	struct conn *c = XNEW(struct conn);
	c->src = (struct src){ SRC_CONN, fd };
	c->task = t;
	c->deadline = now + CONN_IDLE_NS;
	c->next = s->conns;
	if (s->conns)
		s->conns->prev = c;
	s->conns = c;
	t->n_conns++;
	dns_watch(s, &c->src, EPOLLIN, EPOLL_CTL_ADD);
}

void dns_conn_free(struct dns_server *s, struct conn *c)
{
	*(c->prev ? &c->prev->next : &s->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	dns_src_close(&c->src);
	c->task->n_conns--;
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}
