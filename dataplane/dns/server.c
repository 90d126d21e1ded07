/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/log.h"
#include "dataplane/dns/server_int.h"

#define BATCH 32
#define QUERY_MAX 4096         /* over UDP; a longer one is cut by the kernel and then malformed */
#define FORWARDS_MAX 4096      /* waiting for upstream resolvers, all tasks together */
#define TASK_FORWARDS_MAX 1024 /* of one task, so that one cannot starve the others */
#define QUEUE_BYTES (4 << 20)  /* of a task's questions; the kernel doubles it and takes 768 for a small one */

void dns_watch(struct dns_server *s, struct src *src, uint32_t events, int op)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };
	if (epoll_ctl(s->epfd, op, src->fd, &ev) < 0)
		log_debug("dns: epoll_ctl error=%s", strerror(errno));
}

void dns_src_close(struct src *src)
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
	dns_src_close(src);
}

/* ---- questions ------------------------------------------------------------------------------------ */

static bool only_internal(const struct task *t)
{
	for (size_t i = 0; i < t->n_zones; i++)
		if (!dns_zone_internal(t->zones[i]))
			return false;
	return t->n_zones > 0;
}

size_t dns_fit_udp(const struct dns_query *q, const uint8_t *client_msg, const uint8_t **msg, size_t n, uint8_t *tmp)
{
	if (n <= q->udp_size)
		return n;
	size_t len = dns_build(client_msg, q, dns_get16(*msg + 2) & 15, NULL, 0, q->udp_size, tmp);
	tmp[2] |= 0x02; /* TC: ask again over TCP */
	*msg = tmp;
	return len;
}

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
enum dns_verdict dns_handle(struct dns_server *s, struct task *t, const uint8_t *msg, size_t n, struct dns_query *q,
                            size_t limit, bool tcp, uint8_t *out, size_t *out_len, int64_t now)
{
	struct dns_found found = { 0 };
	dns_count(&s->n_queries);
	int rcode = dns_query_parse(msg, n, q);
	if (rcode == DNS_DROP) {
		dns_count(&s->n_dropped);
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
			up = dns_upstreams_of(s, t, now);
			*out_len = dns_cache_get(s->cache, q, dns_cache_scope(up), now / NS_PER_SEC, out);
			if (*out_len) {
				uint8_t tmp[DNS_UDP_MAX];
				const uint8_t *p = out;
				dns_count(&s->n_cached);
				if (!tcp)
					*out_len = dns_fit_udp(q, msg, &p, *out_len, tmp);
				if (p != out)
					memcpy(out, p, *out_len);
				return V_ANSWER;
			}
			if (up->n && s->n_forwards < FORWARDS_MAX && t->n_forwards < TASK_FORWARDS_MAX)
				return V_FORWARD;
			dns_count(&s->n_failed);
			rcode = DNS_SERVFAIL;
		}
		if (o == DNS_ABSENT)
			rcode = DNS_NXDOMAIN;
	}
	dns_count(&s->n_answered);
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
		enum dns_verdict v = dns_handle(s, t, in[i], mi[i].msg_len, &q, 0, false, out[n_out], &len, now);
		if (v == V_FORWARD)
			dns_fwd_start(s, t, NULL, &from[i], in[i], mi[i].msg_len, &q, now);
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
			dns_count(&s->n_dropped);
		sent += rc > 0 ? rc : 1;
	}
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
			dns_conn_accept(s, task_of_tcp(src), now);
		return;
	case SRC_CONN:
		dns_conn_on_event(s, CONTAINER_OF(src, struct conn, src), events, now);
		return;
	case SRC_FWD:
		dns_fwd_on_event(s, CONTAINER_OF(src, struct fwd, src), events, now);
		return;
	}
}

static void task_free(struct task *t)
{
	dns_src_close(&t->udp);
	dns_src_close(&t->tcp);
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
			dns_fwd_free(s, f);
	}
	for (struct conn *c = s->conns, *next; c; c = next) {
		next = c->next;
		if (c->closing)
			dns_conn_free(s, c);
	}
	while (s->graves) {
		struct task *t = s->graves;
		s->graves = t->next;
		task_free(t);
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
		dns_fwd_expire(s, now);
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
	dns_watch(s, &s->wake, EPOLLIN, EPOLL_CTL_ADD);
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
	dns_watch(s, src, EPOLLIN, EPOLL_CTL_ADD);
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
