/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dns/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dns/cache.h"
#include "dataplane/dns/upstream.h"

#define BATCH 32
#define QUERY_MAX 4096         /* over UDP; a longer one is cut by the kernel and then malformed */
#define FORWARDS_MAX 4096      /* waiting for upstream resolvers, all tasks together */
#define TASK_FORWARDS_MAX 1024 /* of one task, so that one cannot starve the others */
#define CONNS_MAX 64           /* TCP clients of one task */
#define QUEUE_BYTES (4 << 20)  /* of a task's questions; the kernel doubles it and takes 768 for a small one */
#define CONN_IDLE_NS (10 * NS_PER_SEC)
#define TRY_NS (2 * NS_PER_SEC)
#define CONF_CHECK_NS (1 * NS_PER_SEC)

/* What an epoll event is about: every source starts with its kind. */
enum src_kind { SRC_WAKE, SRC_UDP, SRC_LISTEN, SRC_CONN, SRC_FWD };
struct src {
	enum src_kind kind;
	int fd;
};

struct task {
	struct src udp, tcp; /* fd -1: closed */
	char *id;
	struct dns_upstreams own;
	struct dns_zone **zones;
	size_t n_zones;
	size_t n_conns, n_forwards;
	bool dead; /* sockets closed by the other thread; freed by ours */
	struct task *next;
};

struct conn {
	struct src src;
	struct task *task;
	int64_t deadline;
	struct buf in, out;
	bool closing; /* freed after this round of events */
	struct conn *prev, *next;
};

/* One question that an upstream resolver is asked. */
struct fwd {
	struct src src;
	struct task *task;
	struct conn *conn;         /* NULL: the client asked over UDP */
	struct sockaddr_in client; /* then its address */
	struct dns_query q;
	uint8_t *msg; /* the client's message */
	size_t len;
	struct dns_upstreams servers;
	unsigned tries;
	uint16_t id; /* of this try */
	int64_t deadline;
	size_t sent;   /* over TCP, of 2 + len */
	struct buf in; /* over TCP */
	bool closing;
	struct fwd *prev, *next;
};

struct dns_server {
	pthread_t thread;
	pthread_mutex_t lock; /* tasks, and everything a batch of queries touches */
	int epfd;
	struct src wake;
	atomic_bool stop;
	struct map tasks;    /* id -> struct task */
	struct task *graves; /* dead, to be freed by our thread */
	/* Our thread's alone: */
	struct conn *conns;
	struct fwd *fwd_head, *fwd_tail; /* in the order of their deadlines: all tries last equally long */
	size_t n_forwards;
	struct dns_cache *cache;
	struct mesh_rng rng;
	char *resolv_conf;
	struct dns_upstreams host;
	struct timespec conf_mtime;
	int64_t conf_checked;
	unsigned rot;
	atomic_uint_fast64_t n_queries, n_answered, n_forwarded, n_cached, n_timeouts, n_failed, n_dropped;
};

static void count(atomic_uint_fast64_t *c)
{
	atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

static void watch(struct dns_server *s, struct src *src, uint32_t events, int op)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };
	if (epoll_ctl(s->epfd, op, src->fd, &ev) < 0)
		log_debug("dns: epoll_ctl error=%s", strerror(errno));
}

static void src_close(struct src *src)
{
	if (src->fd >= 0)
		close(src->fd); /* leaves the epoll set: we hold the only descriptor, or the shim keeps its own */
	src->fd = -1;
}

/* A socket shared with the shim stays in the epoll set when we close our descriptor: take it out first. */
static void src_drop(struct dns_server *s, struct src *src)
{
	if (src->fd >= 0)
		(void)epoll_ctl(s->epfd, EPOLL_CTL_DEL, src->fd, NULL); /* may not be in it */
	src_close(src);
}

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

static const struct dns_upstreams *upstreams_of(struct dns_server *s, const struct task *t, int64_t now)
{
	if (t->own.n)
		return &t->own;
	read_conf(s, now);
	return &s->host;
}

static uint64_t cache_scope(const struct dns_upstreams *u)
{
	uint64_t h = 0;
	for (size_t i = 0; i < u->n; i++)
		h = h * 31 + hash64(u->v[i].ip.b, 16) + u->v[i].port;
	return h;
}

static bool only_internal(const struct task *t)
{
	for (size_t i = 0; i < t->n_zones; i++)
		if (!dns_zone_internal(t->zones[i]))
			return false;
	return t->n_zones > 0;
}

/* ---- sending answers ----------------------------------------------------------------------------- */

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
	watch(s, &c->src, in | (c->out.len ? EPOLLOUT : 0), EPOLL_CTL_MOD);
}

static void conn_send(struct dns_server *s, struct conn *c, const uint8_t *msg, size_t n)
{
	uint8_t head[2];
	dns_put16(head, (unsigned)n);
	buf_put(&c->out, head, 2);
	buf_put(&c->out, msg, n);
	conn_flush(s, c);
}

/* The answer of an upstream resolver or the cache to a client that asked over UDP: cut when it is too long. */
static size_t fit_udp(const struct dns_query *q, const uint8_t *client_msg, const uint8_t **msg, size_t n, uint8_t *tmp)
{
	if (n <= q->udp_size)
		return n;
	size_t len = dns_build(client_msg, q, dns_get16(*msg + 2) & 15, NULL, 0, q->udp_size, tmp);
	tmp[2] |= 0x02; /* TC: ask again over TCP */
	*msg = tmp;
	return len;
}

static void fwd_answer(struct dns_server *s, struct fwd *f, const uint8_t *msg, size_t n)
{
	uint8_t tmp[DNS_UDP_MAX];
	if (f->task->dead)
		return;
	if (f->conn) {
		if (!f->conn->closing)
			conn_send(s, f->conn, msg, n);
		return;
	}
	n = fit_udp(&f->q, f->msg, &msg, n, tmp);
	if (sendto(f->task->udp.fd, msg, n, MSG_DONTWAIT, (struct sockaddr *)&f->client, sizeof(f->client)) < 0)
		count(&s->n_dropped);
}

/* ---- forwarding ---------------------------------------------------------------------------------- */

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
	src_close(&f->src);
	f->closing = true;
}

static void fwd_fail(struct dns_server *s, struct fwd *f)
{
	uint8_t out[DNS_UDP_MIN];
	size_t n = dns_build(f->msg, &f->q, DNS_SERVFAIL, NULL, 0, sizeof(out), out);
	count(&s->n_failed);
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
	src_close(&f->src);
	int type = f->conn ? SOCK_STREAM : SOCK_DGRAM;
	f->src.fd = socket(ss.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (f->src.fd < 0)
		return false;
	if (connect(f->src.fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS)
		return false;
	dns_put16(f->msg, f->id);
	if (!f->conn && send(f->src.fd, f->msg, f->len, 0) < 0)
		return false;
	watch(s, &f->src, f->conn ? EPOLLOUT : EPOLLIN, EPOLL_CTL_ADD);
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

static void fwd_start(struct dns_server *s, struct task *t, struct conn *c, const struct sockaddr_in *client,
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
	f->servers = *upstreams_of(s, t, now);
	t->n_forwards++;
	s->n_forwards++;
	fwd_append(s, f);
	count(&s->n_forwarded);
	fwd_next(s, f, now);
}

/* True when msg is the answer; then it has been sent on. */
static bool fwd_take(struct dns_server *s, struct fwd *f, uint8_t *msg, size_t n, int64_t now)
{
	struct dns_response r;
	if (dns_response_parse(msg, n, &f->q, &r) != 0 || r.id != f->id)
		return false;
	dns_put16(msg, f->q.id);
	dns_cache_put(s->cache, &f->q, cache_scope(&f->servers), msg, n, &r, now / NS_PER_SEC);
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
	watch(s, &f->src, EPOLLIN, EPOLL_CTL_MOD);
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

static void on_fwd(struct dns_server *s, struct fwd *f, uint32_t events, int64_t now)
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

/* ---- queries ------------------------------------------------------------------------------------- */

enum verdict { V_DROP, V_ANSWER, V_FORWARD };

static enum dns_outcome look_up(const struct task *t, const struct dns_query *q, struct dns_found *found)
{
	struct dp_ip ip;
	*found = (struct dns_found){ 0 };
	if (q->class != 1 && q->class != 255)
		return DNS_UNKNOWN;
	if (q->type == DNS_PTR && dns_reverse_parse(q->name, &ip))
		return dns_lookup_ptr(t->zones, t->n_zones, &ip, found);
	return dns_lookup(t->zones, t->n_zones, q->name, found);
}

/*
 * Answers into out (limit bytes) or says that somebody else must be asked. A task on nothing but internal
 * networks cannot ask anybody: what it does not find does not exist (a refusal would make musl wait for its
 * whole timeout).
 */
static enum verdict handle(struct dns_server *s, struct task *t, const uint8_t *msg, size_t n, struct dns_query *q,
                           size_t limit, bool tcp, uint8_t *out, size_t *out_len, int64_t now)
{
	struct dns_found found = { 0 };
	count(&s->n_queries);
	int rcode = dns_query_parse(msg, n, q);
	if (rcode == DNS_DROP) {
		count(&s->n_dropped);
		return V_DROP;
	}
	if (!tcp)
		limit = q->udp_size;
	if (rcode == DNS_NOERROR) {
		enum dns_outcome o = look_up(t, q, &found);
		const struct dns_upstreams *up = NULL;
		if (o == DNS_UNKNOWN && only_internal(t))
			o = DNS_ABSENT;
		if (o == DNS_UNKNOWN) {
			up = upstreams_of(s, t, now);
			*out_len = dns_cache_get(s->cache, q, cache_scope(up), now / NS_PER_SEC, out);
			if (*out_len) {
				uint8_t tmp[DNS_UDP_MAX];
				const uint8_t *p = out;
				count(&s->n_cached);
				if (!tcp)
					*out_len = fit_udp(q, msg, &p, *out_len, tmp);
				if (p != out)
					memcpy(out, p, *out_len);
				return V_ANSWER;
			}
			if (up->n && s->n_forwards < FORWARDS_MAX && t->n_forwards < TASK_FORWARDS_MAX)
				return V_FORWARD;
			count(&s->n_failed);
			rcode = DNS_SERVFAIL;
		}
		if (o == DNS_ABSENT)
			rcode = DNS_NXDOMAIN;
	}
	count(&s->n_answered);
	*out_len = dns_build(msg, q, rcode, &found, s->rot++, limit, out);
	return V_ANSWER;
}

static void on_udp(struct dns_server *s, struct task *t, int64_t now)
{
	static uint8_t in[BATCH][QUERY_MAX], out[BATCH][DNS_UDP_MAX]; /* our thread's alone, too big for its stack */
	struct sockaddr_in from[BATCH];
	struct iovec iov_in[BATCH], iov_out[BATCH];
	struct mmsghdr mi[BATCH], mo[BATCH];
	for (int i = 0; i < BATCH; i++) {
		iov_in[i] = (struct iovec){ in[i], QUERY_MAX };
		mi[i].msg_hdr = (struct msghdr){
			.msg_name = &from[i], .msg_namelen = sizeof(from[i]), .msg_iov = &iov_in[i], .msg_iovlen = 1
		};
	}
	int n = recvmmsg(t->udp.fd, mi, BATCH, MSG_DONTWAIT, NULL), n_out = 0;
	for (int i = 0; i < n; i++) {
		struct dns_query q;
		size_t len = 0;
		enum verdict v = handle(s, t, in[i], mi[i].msg_len, &q, 0, false, out[n_out], &len, now);
		if (v == V_FORWARD)
			fwd_start(s, t, NULL, &from[i], in[i], mi[i].msg_len, &q, now);
		if (v != V_ANSWER)
			continue;
		iov_out[n_out] = (struct iovec){ out[n_out], len };
		mo[n_out].msg_hdr = (struct msghdr){ .msg_name = &from[i],
			                             .msg_namelen = sizeof(from[i]),
			                             .msg_iov = &iov_out[n_out],
			                             .msg_iovlen = 1 };
		n_out++;
	}
	/* A client whose socket is full or gone loses its answer, the others do not. */
	for (int sent = 0; sent < n_out;) {
		int rc = sendmmsg(t->udp.fd, mo + sent, (unsigned)(n_out - sent), MSG_DONTWAIT);
		if (rc <= 0)
			count(&s->n_dropped);
		sent += rc > 0 ? rc : 1;
	}
}

static void conn_query(struct dns_server *s, struct conn *c, const uint8_t *msg, size_t n, int64_t now)
{
	static uint8_t out[DNS_TCP_MAX];
	struct dns_query q;
	size_t len = 0;
	switch (handle(s, c->task, msg, n, &q, sizeof(out), true, out, &len, now)) {
	case V_ANSWER:
		conn_send(s, c, out, len);
		return;
	case V_FORWARD:
		fwd_start(s, c->task, c, NULL, msg, n, &q, now);
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

static void on_conn(struct dns_server *s, struct conn *c, uint32_t events, int64_t now)
{
	if (c->closing || c->task->dead)
		return;
	if (events & EPOLLOUT)
		conn_flush(s, c);
	if (!c->closing && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		conn_read(s, c, now);
}

static void on_accept(struct dns_server *s, struct task *t, int64_t now)
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
	watch(s, &c->src, EPOLLIN, EPOLL_CTL_ADD);
}

/* ---- the loop ------------------------------------------------------------------------------------ */

static struct task *task_of_udp(struct src *src)
{
	return CONTAINER_OF(src, struct task, udp);
}
static struct task *task_of_tcp(struct src *src)
{
	return CONTAINER_OF(src, struct task, tcp);
}

static void on_event(struct dns_server *s, struct src *src, uint32_t events, int64_t now)
{
	uint64_t n;
	switch (src->kind) {
	case SRC_WAKE:
		(void)!read(src->fd, &n, sizeof(n)); /* only empties it */
		return;
	case SRC_UDP:
		if (!task_of_udp(src)->dead)
			on_udp(s, task_of_udp(src), now);
		return;
	case SRC_LISTEN:
		if (!task_of_tcp(src)->dead)
			on_accept(s, task_of_tcp(src), now);
		return;
	case SRC_CONN:
		on_conn(s, CONTAINER_OF(src, struct conn, src), events, now);
		return;
	case SRC_FWD:
		on_fwd(s, CONTAINER_OF(src, struct fwd, src), events, now);
		return;
	}
}

static void fwd_free(struct dns_server *s, struct fwd *f)
{
	fwd_unlink(s, f);
	src_close(&f->src);
	f->task->n_forwards--;
	s->n_forwards--;
	buf_fini(&f->in);
	free(f->msg);
	free(f);
}

static void conn_free(struct dns_server *s, struct conn *c)
{
	*(c->prev ? &c->prev->next : &s->conns) = c->next;
	if (c->next)
		c->next->prev = c->prev;
	src_close(&c->src);
	c->task->n_conns--;
	buf_fini(&c->in);
	buf_fini(&c->out);
	free(c);
}

static void task_free(struct task *t)
{
	src_close(&t->udp);
	src_close(&t->tcp);
	free(t->id);
	free(t->zones);
	free(t);
}

/* What ended in this round goes: no event of the round can point at it any more. */
static void reap(struct dns_server *s, int64_t now)
{
	for (struct conn *c = s->conns; c; c = c->next)
		if (c->task->dead || now >= c->deadline)
			c->closing = true;
	for (struct fwd *f = s->fwd_head, *next; f; f = next) {
		next = f->next;
		if (f->closing || f->task->dead || (f->conn && f->conn->closing))
			fwd_free(s, f);
	}
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->closing)
			conn_free(s, c);
	}
	while (s->graves) {
		struct task *t = s->graves;
		s->graves = t->next;
		task_free(t);
	}
}

static void expire(struct dns_server *s, int64_t now)
{
	/* A new try goes to the end of the list with a later deadline, so this ends. */
	while (s->fwd_head && now >= s->fwd_head->deadline) {
		struct fwd *f = s->fwd_head;
		if (!f->closing && !f->task->dead) {
			count(&s->n_timeouts);
			fwd_next(s, f, now);
		}
		if (f->closing || f->task->dead)
			fwd_free(s, f);
	}
}

static int timeout_ms(struct dns_server *s, int64_t now)
{
	int64_t at = s->fwd_head ? s->fwd_head->deadline : INT64_MAX;
	for (struct conn *c = s->conns; c; c = c->next)
		at = c->deadline < at ? c->deadline : at;
	if (at == INT64_MAX)
		return -1;
	return at <= now ? 0 : (int)((at - now + NS_PER_MS - 1) / NS_PER_MS);
}

static void *run(void *arg)
{
	struct dns_server *s = arg;
	struct epoll_event ev[64];
	int timeout = -1;
	while (!atomic_load(&s->stop)) {
		int n = epoll_wait(s->epfd, ev, (int)ARRAY_SIZE(ev), timeout);
		int64_t now = clock_mono_ns();
		pthread_mutex_lock(&s->lock);
		for (int i = 0; i < n; i++)
			on_event(s, ev[i].data.ptr, ev[i].events, now);
		expire(s, now);
		/* Nothing waits and nobody died: the common round of plain answers has nothing to clean. */
		if (s->conns || s->fwd_head || s->graves)
			reap(s, now);
		timeout = timeout_ms(s, now);
		pthread_mutex_unlock(&s->lock);
	}
	return NULL;
}

/* ---- for the other thread ------------------------------------------------------------------------ */

static void wake(struct dns_server *s)
{
	uint64_t one = 1;
	(void)!write(s->wake.fd, &one, sizeof(one)); /* a full counter wakes as well */
}

int dns_server_start(const char *resolv_conf, struct dns_server **out, struct mesh_err *err)
{
	CLEAN_CLOSE int epfd = epoll_create1(EPOLL_CLOEXEC);
	CLEAN_CLOSE int wfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epfd < 0 || wfd < 0)
		return mesh_fail(err, -errno, "dns: event loop");
	struct dns_server *s = XNEW(struct dns_server);
	s->epfd = epfd;
	s->wake = (struct src){ SRC_WAKE, wfd };
	s->resolv_conf = xstrdup(resolv_conf);
	s->cache = dns_cache_new();
	mesh_rng_seed_random(&s->rng);
	s->rot = (unsigned)mesh_rng_next(&s->rng);
	pthread_mutex_init(&s->lock, NULL);
	watch(s, &s->wake, EPOLLIN, EPOLL_CTL_ADD);
	int rc = pthread_create(&s->thread, NULL, run, s);
	if (rc) {
		dns_cache_free(s->cache);
		free(s->resolv_conf);
		free(s);
		return mesh_fail(err, -rc, "dns: thread");
	}
	(void)TAKE_FD(epfd);
	(void)TAKE_FD(wfd);
	*out = s;
	return 0;
}

void dns_server_stop(struct dns_server *s)
{
	if (!s)
		return;
	atomic_store(&s->stop, true);
	wake(s);
	pthread_join(s->thread, NULL);
	MAP_FOREACH(&s->tasks, e) {
		struct task *t = e->value;
		t->dead = true;
		t->next = s->graves;
		s->graves = t;
	}
	reap(s, 0);
	map_fini(&s->tasks);
	dns_cache_free(s->cache);
	close(s->epfd);
	close(s->wake.fd);
	pthread_mutex_destroy(&s->lock);
	free(s->resolv_conf);
	free(s);
}

static struct sockaddr_in own_addr(void)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
		                     .sin_port = htons(DNS_PORT),
		                     .sin_addr.s_addr = htonl(0x7f00000b) };
}

int dns_sockets_open(int *udp, int *tcp, struct mesh_err *err)
{
	struct sockaddr_in sa = own_addr();
	CLEAN_CLOSE int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	CLEAN_CLOSE int t = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;
	if (u < 0 || t < 0 || setsockopt(t, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(u, (struct sockaddr *)&sa, sizeof(sa)) < 0 || bind(t, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
	    listen(t, 64) < 0)
		return mesh_fail(err, -errno, "resolver at 127.0.0.11:53");
	*udp = TAKE_FD(u);
	*tcp = TAKE_FD(t);
	return 0;
}

bool dns_socket_valid(int fd, int type)
{
	struct sockaddr_in sa = { 0 }, want = own_addr();
	socklen_t len = sizeof(sa), tlen = sizeof(int);
	int got = 0, listening = 0;
	if (getsockname(fd, (struct sockaddr *)&sa, &len) < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &got, &tlen) < 0)
		return false;
	if (type == SOCK_STREAM && (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &tlen) < 0 || !listening))
		return false;
	return got == type && sa.sin_family == AF_INET && sa.sin_port == want.sin_port &&
	       sa.sin_addr.s_addr == want.sin_addr.s_addr;
}

static void replace_fd(struct dns_server *s, struct src *src, int fd)
{
	if (fd < 0)
		return;
	src_drop(s, src);
	src->fd = fd;
	(void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); /* a blocking one still works: we ask MSG_DONTWAIT */
	watch(s, src, EPOLLIN, EPOLL_CTL_ADD);
}

static void set_zones(struct task *t, struct dns_zone *const *zones, size_t n_zones)
{
	free(t->zones);
	t->zones = xcalloc(n_zones ? n_zones : 1, sizeof(*zones));
	t->n_zones = 0;
	for (size_t i = 0; i < n_zones; i++)
		if (zones[i])
			t->zones[t->n_zones++] = zones[i];
}

/* Questions may come in thousands before the thread next runs: none of 10 000 is lost for want of room. */
static void widen(int fd)
{
	int size = QUEUE_BYTES;

	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)))
		log_debug("cannot widen the queue of a resolver error=\"%s\"", strerror(errno));
}

void dns_server_add(struct dns_server *s, const char *task, int udp, int tcp, const struct str_list *nameservers,
                    struct dns_zone *const *zones, size_t n_zones)
{
	pthread_mutex_lock(&s->lock);
	struct task *t = map_get(&s->tasks, task);
	if (!t) {
		t = XNEW(struct task);
		t->id = xstrdup(task);
		t->udp = (struct src){ SRC_UDP, -1 };
		t->tcp = (struct src){ SRC_LISTEN, -1 };
		map_put(&s->tasks, task, t);
	}
	t->own.n = 0;
	for (size_t i = 0; nameservers && i < nameservers->n; i++)
		dns_upstreams_add(&t->own, nameservers->v[i]);
	set_zones(t, zones, n_zones);
	widen(udp);
	replace_fd(s, &t->udp, udp);
	replace_fd(s, &t->tcp, tcp);
	pthread_mutex_unlock(&s->lock);
}

void dns_server_rescope(struct dns_server *s, const char *task, struct dns_zone *const *zones, size_t n_zones)
{
	pthread_mutex_lock(&s->lock);
	struct task *t = map_get(&s->tasks, task);
	if (t)
		set_zones(t, zones, n_zones);
	pthread_mutex_unlock(&s->lock);
}

bool dns_server_has(struct dns_server *s, const char *task)
{
	pthread_mutex_lock(&s->lock);
	bool has = map_has(&s->tasks, task);
	pthread_mutex_unlock(&s->lock);
	return has;
}

static void swap_one(struct task *t, const struct dns_zone *old, struct dns_zone *new)
{
	size_t w = 0;
	for (size_t i = 0; i < t->n_zones; i++) {
		struct dns_zone *z = t->zones[i] == old ? new : t->zones[i];
		if (z)
			t->zones[w++] = z;
	}
	t->n_zones = w;
}

void dns_server_swap(struct dns_server *s, struct dns_zone *const *old, struct dns_zone *const *new, size_t n)
{
	pthread_mutex_lock(&s->lock);
	MAP_FOREACH(&s->tasks, e)
		for (size_t i = 0; i < n; i++)
			swap_one(e->value, old[i], new[i]);
	pthread_mutex_unlock(&s->lock);
}

void dns_server_del(struct dns_server *s, const char *task)
{
	pthread_mutex_lock(&s->lock);
	struct task *t = map_del(&s->tasks, task);
	if (t) {
		t->dead = true;
		src_drop(s, &t->udp);
		src_drop(s, &t->tcp);
		t->next = s->graves;
		s->graves = t;
		t->n_zones = 0;
	}
	pthread_mutex_unlock(&s->lock);
	if (t)
		wake(s);
}

void dns_server_stats(struct dns_server *s, struct dns_stats *out)
{
	*out = (struct dns_stats){ .queries = atomic_load(&s->n_queries),
		                   .answered = atomic_load(&s->n_answered),
		                   .forwarded = atomic_load(&s->n_forwarded),
		                   .cached = atomic_load(&s->n_cached),
		                   .timeouts = atomic_load(&s->n_timeouts),
		                   .failed = atomic_load(&s->n_failed),
		                   .dropped = atomic_load(&s->n_dropped) };
}
