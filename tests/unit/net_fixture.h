/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the tests of control/ca and control/net share: a throw-away cluster, and a loop run until a condition. */
#ifndef TESTS_UNIT_NET_FIXTURE_H
#define TESTS_UNIT_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/identity.h"

#define HOUR (3600 * NS_PER_SEC)

struct cluster {
	cluster_id id;
	struct bytes cert, key;
	struct mesh_rng rng;
};

static inline void cluster_make(struct cluster *c, uint64_t seed)
{
	struct mesh_err err = { 0 };
	memset(c, 0, sizeof(*c));
	mesh_rng_seed(&c->rng, seed);
	mesh_id_make(&c->rng, c->id.s);
	if (ca_root_make(clock_wall_ns(), &c->cert, &c->key, &err))
		fail_msg("root: %s", err.msg);
}

static inline void cluster_fini(struct cluster *c)
{
	free(c->cert.p);
	free(c->key.p);
}

static inline struct ca_issue issue_for(struct cluster *c, bool manager)
{
	int64_t now = clock_wall_ns();
	struct ca_issue what = { .cluster = c->id,
		                 .manager = manager,
		                 .addr = "127.0.0.1",
		                 .not_before = now - HOUR,
		                 .not_after = now + HOUR };
	mesh_id_make(&c->rng, what.node.s);
	return what;
}

static inline struct net_identity *identity_of(struct cluster *c, const struct ca_issue *what)
{
	struct bytes key = { 0 }, csr = { 0 }, cert = { 0 };
	struct net_identity *id = NULL;
	struct mesh_err err = { 0 };
	if (ca_csr_make(&key, &csr, &err) || ca_issue(&c->cert, &c->key, &csr, what, &cert, &err) ||
	    net_identity_new(&c->cert, &cert, &key, &id, &err))
		fail_msg("identity: %s", err.msg);
	free(key.p);
	free(csr.p);
	free(cert.p);
	return id;
}

static inline struct net_identity *node_of(struct cluster *c, bool manager)
{
	struct ca_issue what = issue_for(c, manager);
	return identity_of(c, &what);
}

static inline void on_deadline(uv_timer_t *t)
{
	(void)t;
	print_error("the condition did not come true within 15 s\n");
	abort();
}

static inline void on_deadline_closed(uv_handle_t *h)
{
	*(bool *)h->data = true;
}

/* Turns the loop until cond; a test that waits forever ends with a message. */
static inline void run_until(uv_loop_t *loop, bool (*cond)(void *arg), void *arg)
{
	uv_timer_t deadline;
	bool closed = false;
	uv_timer_init(loop, &deadline);
	deadline.data = &closed;
	uv_timer_start(&deadline, on_deadline, 15000, 0);
	while (!cond(arg))
		uv_run(loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&deadline, on_deadline_closed);
	while (!closed)
		uv_run(loop, UV_RUN_NOWAIT);
}

#endif
