/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/meshd/scrape.h"
#include "control/net/net.h"

#define REQUEST_MAX 4096
#define TIMEOUT_MS 10000
#define CONNS_MAX 64

struct scrape {
	uv_tcp_t listener;
	const struct scrape_ops *ops;
	void *arg;
	struct scrape_conn *conns;
	size_t n;
};
struct scrape_conn {
	struct scrape *s; /* NULL once the listener is gone */
	struct scrape_conn *next;
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_write_t write;
	int handles;
	struct buf answer;
	size_t have;
	char in[REQUEST_MAX];
};

static void on_conn_closed(uv_handle_t *h)
{
	struct scrape_conn *c = h->data;
	if (--c->handles)
		return;
	buf_fini(&c->answer);
	free(c);
}

static void conn_close(struct scrape_conn *c)
{
	if (uv_is_closing((uv_handle_t *)&c->tcp))
		return;
	for (struct scrape_conn **p = c->s ? &c->s->conns : NULL; p && *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			c->s->n--;
			break;
		}
	uv_close((uv_handle_t *)&c->tcp, on_conn_closed);
	uv_close((uv_handle_t *)&c->timer, on_conn_closed);
}

static void on_written(uv_write_t *w, int status)
{
	(void)status;
	conn_close(w->data);
}

static void answer(struct scrape_conn *c, unsigned status, struct buf *body, bool head)
{
	const char *text = status == 200   ? "OK"
	                   : status == 404 ? "Not Found"
	                   : status == 503 ? "Service Unavailable"
	                                   : "Bad Request";
	buf_printf(&c->answer,
	           "HTTP/1.1 %u %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %zu\r\n"
	           "Connection: close\r\n\r\n",
	           status, text, body->len);
	if (!head)
		buf_put(&c->answer, body->data, body->len);
	uv_buf_t out = uv_buf_init((char *)c->answer.data, (unsigned)c->answer.len);
	c->write.data = c;
	uv_read_stop((uv_stream_t *)&c->tcp);
	if (uv_write(&c->write, (uv_stream_t *)&c->tcp, &out, 1, on_written))
		conn_close(c);
}

static void serve(struct scrape_conn *c, const struct scrape_request *r)
{
	struct buf body = { 0 };
	unsigned status = 200;
	switch (r->what) {
	case SCRAPE_METRICS:
		c->s->ops->metrics(c->s->arg, &body);
		break;
	case SCRAPE_HEALTH:
	case SCRAPE_PORT:
		status = c->s->ops->health(c->s->arg, r->port, &body) ? 200 : 503;
		break;
	case SCRAPE_UNKNOWN:
		status = 404;
		buf_puts(&body, "only /metrics, /health and /health/PORT are here\n");
		break;
	case SCRAPE_BAD:
		status = 400;
		buf_puts(&body, "GET only\n");
	}
	answer(c, status, &body, r->head);
	buf_fini(&body);
}

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *out)
{
	struct scrape_conn *c = h->data;
	(void)n;
	*out = uv_buf_init(c->in + c->have, (unsigned)(sizeof(c->in) - c->have));
}

static void on_read(uv_stream_t *h, ssize_t n, const uv_buf_t *b)
{
	struct scrape_conn *c = h->data;
	struct scrape_request r;
	(void)b;
	if (n < 0) {
		conn_close(c);
		return;
	}
	c->have += (size_t)n;
	if (scrape_parse(c->in, c->have, &r) || c->have == sizeof(c->in))
		serve(c, &r);
}

static void on_timeout(uv_timer_t *t)
{
	conn_close(t->data);
}

static void on_connection(uv_stream_t *h, int status)
{
	struct scrape *s = h->data;
	if (status)
		return;
	struct scrape_conn *c = XNEW(struct scrape_conn);
	c->s = s;
	c->tcp.data = c->timer.data = c;
	c->handles = 2;
	(void)uv_tcp_init(h->loop, &c->tcp); /* these two cannot fail */
	(void)uv_timer_init(h->loop, &c->timer);
	c->next = s->conns;
	s->conns = c;
	s->n++; /* conn_close takes it off again */
	bool ok = uv_accept(h, (uv_stream_t *)&c->tcp) == 0 && s->n <= CONNS_MAX;
	if (!ok || uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read))
		conn_close(c);
	else
		(void)uv_timer_start(&c->timer, on_timeout, TIMEOUT_MS, 0);
}

static void on_listener_closed(uv_handle_t *h)
{
	free(h->data);
}

int scrape_open(uv_loop_t *loop, const char *addr, const struct scrape_ops *ops, void *arg, struct scrape **out,
                struct mesh_err *err)
{
	struct sockaddr_storage sa = { 0 };
	char host[256];
	uint16_t port;
	int rc = net_addr_parse(addr, 9323, host, sizeof(host), &port, err);
	if (rc)
		return rc;
	if (uv_ip4_addr(host, port, (struct sockaddr_in *)&sa) && uv_ip6_addr(host, port, (struct sockaddr_in6 *)&sa))
		return mesh_fail(err, MESH_E_INVALID, "--metrics-addr %s: must be an address and a port", addr);
	struct scrape *s = XNEW(struct scrape);
	*s = (struct scrape){ .ops = ops, .arg = arg };
	s->listener.data = s;
	(void)uv_tcp_init(loop, &s->listener); /* cannot fail */
	rc = uv_tcp_bind(&s->listener, (struct sockaddr *)&sa, 0);
	if (!rc)
		rc = uv_listen((uv_stream_t *)&s->listener, 64, on_connection);
	if (rc) {
		uv_close((uv_handle_t *)&s->listener, on_listener_closed);
		return mesh_fail(err, rc, "--metrics-addr %s", addr);
	}
	*out = s;
	return 0;
}

void scrape_close(struct scrape *s)
{
	if (!s)
		return;
	while (s->conns) {
		struct scrape_conn *c = s->conns;
		conn_close(c);
		c->s = NULL;
	}
	uv_close((uv_handle_t *)&s->listener, on_listener_closed);
}
