// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * N nodes in one process, for a real manager: each joins with the token, keeps its own session over mutual TLS, says
 * that what it is given runs, and acknowledges every version the moment it has read it. No containers, no kernel.
 *
 *   bench/agents ADDRESS TOKEN N
 *   stdin   fail         one of the running tasks fails
 *   stdout  ready        all N have been welcomed
 *           said TASK failed|serving NS       what a node told the manager, CLOCK_MONOTONIC
 *           all TASK starting|serving|draining|gone NS     the last of the N has read that of the task's endpoint
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/dispatcher/wire.h"

enum { JOINS_AT_ONCE = 8, LINE_MAX_BYTES = 64 };

struct agent {
	unsigned number;
	struct net_identity *identity;
	struct net_conn *conn;
	uv_timer_t beat;
};
static struct agent *agents;
static unsigned n_agents, next_join, n_welcomed;
static const char *address, *token;
static uv_loop_t loop;
static struct map running; /* task id -> struct agent */
static struct map seen;    /* "task state" -> count of nodes */

static void fail(const char *what, const struct mesh_err *err, int rc)
{
	fprintf(stderr, "agents: %s: %s\n", what, mesh_err_text(err, rc));
	exit(1);
}

static void send_message(struct agent *a, enum wire_kind kind, const void *obj)
{
	struct buf b = { 0 };

	wire_encode(kind, wire_schema(kind), obj, &b);
	(void)net_send(a->conn, NET_SESSION, 0, b.data, b.len);
	buf_fini(&b);
}

static void say(struct agent *a, const char *task, int state)
{
	struct wire_status s = { 0 };
	struct wire_task_status *t = LIST_ADD(&s.tasks);

	mesh_id_set(t->task.s, task);
	t->status.timestamp = clock_wall_ns();
	t->status.state = state;
	t->status.traffic = state == MD_TASK_RUNNING ? MD_TRAFFIC_SERVING : MD_TRAFFIC_NONE;
	if (state == MD_TASK_RUNNING || state == MD_TASK_FAILED)
		printf("said %s %s %lld\n", task, state == MD_TASK_RUNNING ? "serving" : "failed",
		       (long long)clock_mono_ns());
	send_message(a, WIRE_STATUS, &s);
	sch_clear(&wire_status_schema, &s);
}

/* ---- what the manager says ---- */

static void count(const struct dp_change *c)
{
	char key[96];

	if (c->kind != DP_ENDPOINT || !c->endpoint)
		return;
	const char *state = c->del ? "gone" : dp_backend_state_names.names[c->endpoint->state];
	snprintf(key, sizeof(key), "%s %s", c->endpoint->task.s, state);
	size_t n = (size_t)(uintptr_t)map_get(&seen, key) + 1;
	if (n < n_agents) {
		map_put(&seen, key, (void *)(uintptr_t)n);
		return;
	}
	map_del(&seen, key);
	printf("all %s %lld\n", key, (long long)clock_mono_ns());
}

static void on_task(struct agent *a, const struct md_task *t)
{
	const char *id = t->meta.id;

	if (t->desired_state <= MD_TASK_RUNNING) {
		if (t->desired_state == MD_TASK_RUNNING && t->status.state < MD_TASK_RUNNING &&
		    !map_put(&running, id, a))
			say(a, id, MD_TASK_RUNNING);
	} else if (t->drained && map_del(&running, id)) {
		say(a, id, MD_TASK_SHUTDOWN);
	}
}

static void on_assign(struct agent *a, const struct wire_assign *w)
{
	for (size_t i = 0; i < w->net.changes.n && !w->snapshot; i++)
		count(&w->net.changes.v[i]);
	if (!w->more)
		send_message(a, WIRE_ACK, &(struct wire_ack){ w->version });
	for (size_t i = 0; i < w->tasks.n; i++)
		on_task(a, &w->tasks.v[i].task);
	for (size_t i = 0; i < w->removed.n; i++)
		map_del(&running, w->removed.v[i]);
}

static void on_beat(uv_timer_t *t)
{
	send_message(t->data, WIRE_HEARTBEAT, NULL);
}

static void on_frame(void *arg, struct net_conn *c, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	struct agent *a = arg;
	union {
		struct wire_welcome welcome;
		struct wire_assign assign;
	} m = { 0 };

	(void)c, (void)stream;
	if (type != NET_SESSION || !n || (p[0] != WIRE_WELCOME && p[0] != WIRE_ASSIGN))
		return;
	if (sch_decode(wire_schema(p[0]), &m, p + 1, n - 1))
		fail("a message that cannot be read", NULL, MESH_E_PROTOCOL);
	if (p[0] == WIRE_ASSIGN) {
		on_assign(a, &m.assign);
	} else {
		uint64_t ms = (uint64_t)(m.welcome.heartbeat_ns / NS_PER_MS);
		uv_timer_start(&a->beat, on_beat, ms, ms);
		if (++n_welcomed == n_agents)
			printf("ready\n");
	}
	sch_clear(wire_schema(p[0]), &m);
}

static void on_open(void *arg, struct net_conn *c, const struct net_peer *peer)
{
	struct agent *a = arg;
	char name[32], addr[32], version[] = MESH_VERSION, arch[] = "x86_64", os[] = "linux";
	struct wire_hello h = { .meshd_version = version };

	(void)c, (void)peer;
	snprintf(name, sizeof(name), "sim-%u", a->number);
	snprintf(addr, sizeof(addr), "10.250.%u.%u", a->number >> 8, a->number & 255);
	h.description.hostname = name;
	h.description.data_path_addr = addr;
	h.description.platform.architecture = arch;
	h.description.platform.os = os;
	h.description.resources.nano_cpus = 4 * NS_PER_SEC;
	h.description.resources.memory_bytes = 8LL << 30;
	send_message(a, WIRE_HELLO, &h);
}

static void on_close(void *arg, struct net_conn *c, const struct mesh_err *err)
{
	(void)arg, (void)c;
	fail("lost the manager", err, MESH_E_CLOSED);
}

/* ---- joining ---- */

static void join_next(void);

static void on_joined(void *arg, int code, const struct ca_joined *j, const struct mesh_err *why)
{
	static const struct net_conn_ops ops = { on_open, on_frame, NULL, on_close };
	struct agent *a = arg;
	struct mesh_err err = { 0 };
	char host[256];
	uint16_t port;

	if (code)
		fail("join", why, code);
	a->identity = j->identity;
	int rc = net_addr_parse(address, 2377, host, sizeof(host), &port, &err);
	if (!rc)
		rc = net_connect(&loop, a->identity, host, port, NET_EXPECT_MANAGER, &ops, a, &a->conn, &err);
	if (rc)
		fail("connect", &err, rc);
	join_next();
}

static void join_next(void)
{
	if (next_join == n_agents)
		return;
	struct agent *a = &agents[next_join];
	a->number = next_join++;
	uv_timer_init(&loop, &a->beat);
	a->beat.data = a;
	ca_join(&loop, address, token, "", on_joined, a);
}

/* ---- commands ---- */

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *b)
{
	static char text[LINE_MAX_BYTES];

	(void)h, (void)size;
	*b = uv_buf_init(text, sizeof(text));
}

static void fail_one(void)
{
	MAP_FOREACH(&running, e) {
		CLEAN_FREE char *task = xstrdup(e->key);
		say(map_del(&running, task), task, MD_TASK_FAILED);
		return;
	}
}

/* Each line is a wish for a failure; the end of input is the end. */
static void on_input(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	(void)s;
	if (n < 0)
		exit(0);
	for (ssize_t i = 0; i < n; i++)
		if (b->base[i] == '\n')
			fail_one();
}

int main(int argc, char **argv)
{
	uv_pipe_t in;

	if (argc != 4 || atoi(argv[3]) < 1)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	address = argv[1];
	token = argv[2];
	n_agents = (unsigned)atoi(argv[3]);
	agents = xcalloc(n_agents, sizeof(*agents));
	uv_loop_init(&loop);
	for (unsigned i = 0; i < JOINS_AT_ONCE && i < n_agents; i++)
		join_next();
	uv_pipe_init(&loop, &in, 0);
	if (uv_pipe_open(&in, 0) || uv_read_start((uv_stream_t *)&in, on_alloc, on_input))
		return 1;
	uv_run(&loop, UV_RUN_DEFAULT);
	return 0;
}
