/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the parts of the resolver share: server.c (questions, the loop, what the other thread calls), forward.c
 *         (questions that upstream resolvers are asked), conn.c (clients that ask over TCP).
 * Thread: the server's own, with its lock held, unless a field says otherwise.
 */
#ifndef DATAPLANE_DNS_SERVER_INT_H
#define DATAPLANE_DNS_SERVER_INT_H

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/map.h"
#include "dataplane/dns/cache.h"
#include "dataplane/dns/server.h"
#include "dataplane/dns/upstream.h"

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

static inline void dns_count(atomic_uint_fast64_t *c)
{
	atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

/* epoll_ctl; what fails is logged. */
void dns_watch(struct dns_server *s, struct src *src, uint32_t events, int op);
void dns_src_close(struct src *src);
/* Writes the answer to out (limit bytes, over UDP the client's), or says that others must be asked, or nobody. */
enum dns_verdict { V_DROP, V_ANSWER, V_FORWARD };
enum dns_verdict dns_handle(struct dns_server *s, struct task *t, const uint8_t *msg, size_t n, struct dns_query *q,
                            size_t limit, bool tcp, uint8_t *out, size_t *out_len, int64_t now);
/* The answer of an upstream resolver or the cache to a client that asked over UDP: cut, in tmp, when it is too long. */
size_t dns_fit_udp(const struct dns_query *q, const uint8_t *client_msg, const uint8_t **msg, size_t n, uint8_t *tmp);

/* ---- forward.c */

/* A task's own resolvers, or the host's as they are now. */
const struct dns_upstreams *dns_upstreams_of(struct dns_server *s, const struct task *t, int64_t now);
/* Answers of others are kept apart by whom they came from. */
uint64_t dns_cache_scope(const struct dns_upstreams *u);
/* c or client: who asked; the message is copied. */
void dns_fwd_start(struct dns_server *s, struct task *t, struct conn *c, const struct sockaddr_in *client,
                   const uint8_t *msg, size_t n, const struct dns_query *q, int64_t now);
void dns_fwd_on_event(struct dns_server *s, struct fwd *f, uint32_t events, int64_t now);
/* The next resolver for those that waited long enough. */
void dns_fwd_expire(struct dns_server *s, int64_t now);
void dns_fwd_free(struct dns_server *s, struct fwd *f);

/* ---- conn.c */

void dns_conn_accept(struct dns_server *s, struct task *t, int64_t now);
void dns_conn_on_event(struct dns_server *s, struct conn *c, uint32_t events, int64_t now);
void dns_conn_send(struct dns_server *s, struct conn *c, const uint8_t *msg, size_t n);
void dns_conn_free(struct dns_server *s, struct conn *c);

#endif
