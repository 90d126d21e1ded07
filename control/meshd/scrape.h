/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   "--metrics-addr": GET /metrics, and health for balancers in front of the cluster, over plain HTTP without
 *         any authentication. Off unless asked for. GET /health: 200 while this node forwards; GET /health/PORT: 200
 *         while a task serves that published port, else 503.
 * Loop:   libuv; one answer a connection, then it is closed. A request has 4 KiB and 10 s.
 */
#ifndef CONTROL_MESHD_SCRAPE_H
#define CONTROL_MESHD_SCRAPE_H

#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

enum scrape_what { SCRAPE_BAD, SCRAPE_UNKNOWN, SCRAPE_METRICS, SCRAPE_HEALTH, SCRAPE_PORT };
struct scrape_request {
	enum scrape_what what;
	bool head;     /* HEAD: no body in the answer */
	unsigned port; /* SCRAPE_PORT */
};
/* 1: whole. 0: more bytes are needed. The request line decides; headers are skipped. Pure. */
int scrape_parse(const char *p, size_t n, struct scrape_request *out);

struct scrape;
struct scrape_ops {
	void (*metrics)(void *arg, struct buf *out);
	/* port 0: of this node. Appends one line of text; is it well? */
	bool (*health)(void *arg, unsigned port, struct buf *out);
};
/* addr: "127.0.0.1:9323", "[::1]:9323". */
int scrape_open(uv_loop_t *loop, const char *addr, const struct scrape_ops *ops, void *arg, struct scrape **out,
                struct mesh_err *err) MESH_MUST_CHECK;
/* NULL is fine. Memory goes with the loop's last turn. */
void scrape_close(struct scrape *s);

#endif
