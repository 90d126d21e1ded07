/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "dataplane/dns/server_int.h"

#define TRY_NS (2 * NS_PER_SEC)
#define CONF_CHECK_NS (1 * NS_PER_SEC)

/* ---- which resolvers ----------------------------------------------------------------------------- */

static void read_conf(struct dns_server *s, int64_t now)
{
	if (s->conf_checked && now - s->conf_checked < CONF_CHECK_NS)
		return;
	s->conf_checked = now;
	struct stat st;
	if (stat(s->resolv_conf, &st) < 0) {
		s->host.n = 0;
		s->conf_mtime = (struct timespec){ 0 };
		return;
	}
	if (st.st_mtim.tv_sec == s->conf_mtime.tv_sec && st.st_mtim.tv_nsec == s->conf_mtime.tv_nsec)
		return;
	char text[8192];
	CLEAN_CLOSE int fd = open(s->resolv_conf, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return;
	text[n] = '\0';
	dns_resolv_conf_parse(text, &s->host);
	s->conf_mtime = st.st_mtim;
}

const struct dns_upstreams *dns_upstreams_of(struct dns_server *s, const struct task *t, int64_t now)
{
	if (t->own.n)
		return &t->own;
	read_conf(s, now);
	return &s->host;
}

uint64_t dns_cache_scope(const struct dns_upstreams *u)
{
	uint64_t h = 0;
	for (size_t i = 0; i < u->n; i++)
		h = h * 31 + hash64(u->v[i].ip.b, 16) + u->v[i].port;
	return h;
}

/* ---- one question --------------------------------------------------------------------------------- */

static void fwd_answer(struct dns_server *s, struct fwd *f, const uint8_t *msg, size_t n)
{
	uint8_t tmp[DNS_UDP_MAX];
	if (f->task->dead)
		return;
	if (f->conn) {
		if (!f->conn->closing)
			dns_conn_send(s, f->conn, msg, n);
		return;
	}
	n = dns_fit_udp(&f->q, f->msg, &msg, n, tmp);
	if (sendto(f->task->udp.fd, msg, n, MSG_DONTWAIT, (struct sockaddr *)&f->client, sizeof(f->client)) < 0)
		dns_count(&s->n_dropped);
}

static void fwd_unlink(struct dns_server *s, struct fwd *f)
{
	*(f->prev ? &f->prev->next : &s->fwd_head) = f->next;
	*(f->next ? &f->next->prev : &s->fwd_tail) = f->prev;
	f->prev = f->next = NULL;
}

static void fwd_append(struct dns_server *s, struct fwd *f)
{
	f->prev = s->fwd_tail;
	f->next = NULL;
	*(s->fwd_tail ? &s->fwd_tail->next : &s->fwd_head) = f;
	s->fwd_tail = f;
}

static void fwd_finish(struct fwd *f)
{
	dns_src_close(&f->src);
	f->closing = true;
}

static void fwd_fail(struct dns_server *s, struct fwd *f)
{
	uint8_t out[DNS_UDP_MIN];
	size_t n = dns_build(f->msg, &f->q, DNS_SERVFAIL, NULL, 0, sizeof(out), out);
	dns_count(&s->n_failed);
	fwd_answer(s, f, out, n);
	fwd_finish(f);
}

static socklen_t sockaddr_of(const struct dns_upstream *u, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof(*ss));
	if (dp_ip_is_v4(&u->ip)) {
		struct sockaddr_in *in = (struct sockaddr_in *)ss;
		in->sin_family = AF_INET;
		in->sin_port = htons(u->port);
		memcpy(&in->sin_addr, u->ip.b + 12, 4);
		return sizeof(*in);
	}
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;
	in6->sin6_family = AF_INET6;
	in6->sin6_port = htons(u->port);
	memcpy(&in6->sin6_addr, u->ip.b, 16);
	return sizeof(*in6);
}

/* A socket of its own for every try: the kernel picks the source port at random and checks the sender. */
static bool fwd_try(struct dns_server *s, struct fwd *f)
{
	struct sockaddr_storage ss;
	socklen_t len = sockaddr_of(&f->servers.v[f->tries % f->servers.n], &ss);
	f->tries++;
	f->id = (uint16_t)mesh_rng_next(&s->rng);
	f->sent = 0;
	buf_clear(&f->in);
	dns_src_close(&f->src);
	int type = f->conn ? SOCK_STREAM : SOCK_DGRAM;
	f->src.fd = socket(ss.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->src.fd < 0)
		return false;
	if (connect(f->src.fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS)
		return false;
	dns_put16(f->msg, f->id);
	if (!f->conn && send(f->src.fd, f->msg, f->len, 0) < 0)
		return false;
	dns_watch(s, &f->src, f->conn ? EPOLLOUT : EPOLLIN, EPOLL_CTL_ADD);
	return true;
}

/* The next try, or SERVFAIL when there have been enough. Keeps the list in the order of deadlines. */
static void fwd_next(struct dns_server *s, struct fwd *f, int64_t now)
{
	unsigned max = f->servers.n > 2 ? (unsigned)f->servers.n : 2;
	while (f->tries < max) {
		if (!fwd_try(s, f))
			continue;
		fwd_unlink(s, f);
		f->deadline = now + TRY_NS;
		fwd_append(s, f);
		return;
	}
	fwd_fail(s, f);
}

void dns_fwd_start(struct dns_server *s, struct task *t, struct conn *c, const struct sockaddr_in *client,
                   const uint8_t *msg, size_t n, const struct dns_query *q, int64_t now)
{
	struct fwd *f = XNEW(struct fwd);
	f->src = (struct src){ SRC_FWD, -1 };
	f->task = t;
	f->conn = c;
	if (client)
		f->client = *client;
	f->q = *q;
	f->msg = xmemdup(msg, n);
	f->len = n;
	f->servers = *dns_upstreams_of(s, t, now);
	t->n_forwards++;
	s->n_forwards++;
	fwd_append(s, f);
	dns_count(&s->n_forwarded);
	fwd_next(s, f, now);
}

/* True when msg is the answer; then it has been sent on. */
static bool fwd_take(struct dns_server *s, struct fwd *f, uint8_t *msg, size_t n, int64_t now)
{
	struct dns_response r;
	if (dns_response_parse(msg, n, &f->q, &r) != 0 || r.id != f->id)
		return false;
	dns_put16(msg, f->q.id);
	dns_cache_put(s->cache, &f->q, dns_cache_scope(&f->servers), msg, n, &r, now / NS_PER_SEC);
	fwd_answer(s, f, msg, n);
	fwd_finish(f);
	return true;
}

static void on_fwd_udp(struct dns_server *s, struct fwd *f, int64_t now)
{
	uint8_t msg[DNS_UDP_MAX];
	for (;;) {
		ssize_t n = recv(f->src.fd, msg, sizeof(msg), MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return; /* a forged or broken message is ignored: the right one may still come */
		if (n < 0) {
			fwd_next(s, f, now);
			return;
		}
		if (fwd_take(s, f, msg, (size_t)n, now))
			return;
	}
}

/* False when the connection is of no more use. */
static bool fwd_tcp_write(struct dns_server *s, struct fwd *f)
{
	uint8_t head[2];
	dns_put16(head, (unsigned)f->len);
	while (f->sent < f->len + 2) {
		bool in_head = f->sent < 2;
		const uint8_t *p = in_head ? head + f->sent : f->msg + f->sent - 2;
		size_t left = in_head ? 2 - f->sent : f->len + 2 - f->sent;
		ssize_t n = send(f->src.fd, p, left, MSG_NOSIGNAL | MSG_DONTWAIT | (in_head ? MSG_MORE : 0));
		if (n < 0)
			return errno == EAGAIN;
		f->sent += (size_t)n;
	}
	dns_watch(s, &f->src, EPOLLIN, EPOLL_CTL_MOD);
	return true;
}

static bool fwd_tcp_read(struct dns_server *s, struct fwd *f, int64_t now)
{
	for (;;) {
		uint8_t *p = buf_reserve(&f->in, 4096);
		ssize_t n = recv(f->src.fd, p, 4096, MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		f->in.len += (size_t)n;
		if (f->in.len < 2)
			continue;
		size_t want = dns_get16(f->in.data);
		if (f->in.len >= want + 2)
			return fwd_take(s, f, f->in.data + 2, want, now);
	}
}

void dns_fwd_on_event(struct dns_server *s, struct fwd *f, uint32_t events, int64_t now)
{
	if (f->closing)
		return;
	if (!f->conn) {
		on_fwd_udp(s, f, now);
		return;
	}
	bool ok = true;
	if (events & EPOLLOUT)
		ok = fwd_tcp_write(s, f);
	if (ok && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		ok = fwd_tcp_read(s, f, now);
	if (!ok && !f->closing)
		fwd_next(s, f, now);
}

void dns_fwd_expire(struct dns_server *s, int64_t now)
{
	/* A new try goes to the end of the list with a later deadline, so this ends. */
	while (s->fwd_head && now >= s->fwd_head->deadline) {
		struct fwd *f = s->fwd_head;
		if (!f->closing && !f->task->dead) {
			dns_count(&s->n_timeouts);
			fwd_next(s, f, now);
		}
		if (f->closing || f->task->dead)
			dns_fwd_free(s, f);
	}
}

void dns_fwd_free(struct dns_server *s, struct fwd *f)
{
	fwd_unlink(s, f);
	dns_src_close(&f->src);
	f->task->n_forwards--;
	s->n_forwards--;
	buf_fini(&f->in);
	free(f->msg);
	free(f);
}
