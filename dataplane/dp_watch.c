/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/clock.h"
#include "base/log.h"
#include "dataplane/dp_int.h"

#define POLL_MIN_NS (10 * NS_PER_MS)
#define POLL_MAX_NS (200 * NS_PER_MS)
/* Data or an end may still have to reach the peer. Not FIN_WAIT2, TIME_WAIT: all was said and acknowledged. */
#define OPEN_STATES                                                                                                    \
	(1u << TCP_ESTABLISHED | 1u << TCP_SYN_RECV | 1u << TCP_FIN_WAIT1 | 1u << TCP_CLOSE_WAIT |                     \
	 1u << TCP_LAST_ACK | 1u << TCP_CLOSING)

static void start_polling(struct dp_task *t, int64_t now)
{
	t->poll_every = POLL_MIN_NS;
	t->poll_at = now;
}

void dp_do_watch_listen(struct dp *d, struct cmd *c, int64_t now)
{
	struct dp_task *t = map_get(&d->tasks, c->task.s);
	if (!t)
		return; /* its namespace is gone or not there yet: nobody listens in it */
	t->listen.len = 0;
	for (size_t i = 0; i < c->n_ports; i++)
		vec_push(&t->listen, c->ports[i]);
	t->watch_listen = true;
	start_polling(t, now);
}

void dp_do_watch_flows(struct dp *d, const task_id *task, int64_t now)
{
	struct dp_task *t = map_get(&d->tasks, task->s);
	if (!t) {
		dp_report_task(d, DP_FLOWS_ENDED, task, 0, "");
		return;
	}
	t->watch_flows = true;
	start_polling(t, now);
}

static bool reachable(const struct dp_task *t, const struct sd_sock *s, uint16_t port)
{
	for (size_t i = 0; i < t->nets.n; i++)
		if (sd_accepts(s, &t->nets.v[i].wire.ip, port))
			return true;
	return false;
}

static bool is_listened(const struct dp_task *t, const struct sd_socks *socks, const struct dp_port *p)
{
	/* What sock_diag cannot tell is not waited for. */
	if (p->protocol != IPPROTO_TCP && p->protocol != IPPROTO_UDP)
		return true;
	for (size_t i = 0; i < socks->len; i++)
		if (socks->data[i].protocol == p->protocol && reachable(t, &socks->data[i], (uint16_t)p->target))
			return true;
	return false;
}

static bool all_listened(const struct dp_task *t)
{
	struct sd_socks socks = { 0 };
	int rc = sd_listening(t->sd, &socks);
	bool all = !rc;
	for (size_t i = 0; i < t->listen.len && all; i++)
		all = is_listened(t, &socks, &t->listen.data[i]);
	vec_fini(&socks);
	return all;
}

/* ---- open connections ---------------------------------------------------------------------------- */

static bool is_loopback(const struct dp_ip *ip)
{
	static const struct dp_ip one = { { [15] = 1 } };
	return (dp_ip_is_v4(ip) && ip->b[12] == 127) || memcmp(ip, &one, sizeof(one)) == 0;
}

/* Does the task serve that port: is it listened on now, or was it to be? */
static bool serves(const struct dp_task *t, const struct sd_socks *listening, uint16_t port)
{
	for (size_t i = 0; i < listening->len; i++)
		if (listening->data[i].port == port)
			return true;
	for (size_t i = 0; i < t->listen.len; i++)
		if (t->listen.data[i].target == port)
			return true;
	for (size_t i = 0; i < t->host_ports.n; i++)
		if (t->host_ports.v[i].target == port)
			return true;
	return false;
}

static size_t open_connections(const struct dp_task *t)
{
	struct sd_socks listening = { 0 }, socks = { 0 };
	size_t n = 0;
	int rc = sd_dump(t->sd, IPPROTO_TCP, 1u << TCP_LISTEN, &listening);
	if (!rc)
		rc = sd_dump(t->sd, IPPROTO_TCP, OPEN_STATES, &socks);
	if (rc)
		log_debug("sock_diag task=%s error=%s", t->id.s, mesh_code_text(rc));
	for (size_t i = 0; i < socks.len; i++)
		n += !is_loopback(&socks.data[i].local) && serves(t, &listening, socks.data[i].port);
	vec_fini(&listening);
	vec_fini(&socks);
	return rc ? 1 : n;
}

static void poll_task(struct dp *d, struct dp_task *t)
{
	if (t->watch_listen && all_listened(t)) {
		t->watch_listen = false;
		dp_report_task(d, DP_LISTENING, &t->id, 0, "");
	}
	if (t->watch_flows && open_connections(t) == 0) {
		t->watch_flows = false;
		dp_report_task(d, DP_FLOWS_ENDED, &t->id, 0, "");
	}
}

void dp_poll_tasks(struct dp *d, int64_t now)
{
	MAP_FOREACH(&d->tasks, e) {
		struct dp_task *t = e->value;
		if ((!t->watch_listen && !t->watch_flows) || now < t->poll_at)
			continue;
		poll_task(d, t);
		/* It is noticed late by at most an eighth of the time it took. */
		t->poll_every += t->poll_every / 8;
		if (t->poll_every > POLL_MAX_NS)
			t->poll_every = POLL_MAX_NS;
		t->poll_at = now + t->poll_every;
	}
}
