/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HTTP API over a store in memory, with the brain deciding and nodes that do at once what they are told: what a
 * client sees of a cluster, without machines. Runs a loop of its own on a thread, or in the foreground.
 */
#ifndef TESTS_SUPPORT_API_SERVER_H
#define TESTS_SUPPORT_API_SERVER_H

#include <pthread.h>
#include <uv.h>

#include "control/api/api.h"
#include "tests/support/brain_world.h"

#define TICK_MS 5

struct server {
	uv_loop_t loop;
	struct world w; /* w.s NULL: not in a swarm */
	struct api *api;
	uv_timer_t tick;
	uv_async_t stop;
	struct mesh_rng rng;
	bool worker; /* says it is one */
	int refuse;  /* commits still to be answered OUT_OF_SEQUENCE */
	pthread_t thread;
	char path[100];
};

static struct store *srv_store(void *arg)
{
	struct server *s = arg;
	return s->worker ? NULL : s->w.s;
}

static void srv_local(void *arg, struct api_local_state *out)
{
	struct server *s = arg;
	const struct md_node *self = s->w.s ? world_node(&s->w, "n0") : NULL;
	*out = (struct api_local_state){ .state = s->w.s ? "active" : "inactive",
		                         .manager = s->w.s && !s->worker,
		                         .node_id = self ? self->meta.id : "",
		                         .node_addr = self ? self->status.addr : "",
		                         .hostname = "n0",
		                         .data_plane = "ebpf" };
	if (self) {
		out->managers.v[0].node_id = self->meta.id;
		out->managers.v[0].addr = "172.31.0.1:2377";
		out->managers.n = 1;
	}
}

static struct agent *srv_agent(void *arg)
{
	(void)arg;
	return NULL;
}

static struct mesh_rng *srv_rng(void *arg)
{
	return &((struct server *)arg)->rng;
}

static void srv_commit(void *arg, struct store_tx *tx, api_done done, void *done_arg)
{
	struct server *s = arg;
	struct mesh_err err = { 0 };
	struct buf cmd = { 0 };
	if (s->refuse) {
		s->refuse--;
		store_tx_free(tx);
		done(done_arg, MESH_E_OUT_OF_SEQUENCE, NULL, NULL);
		return;
	}
	store_tx_encode(tx, &cmd);
	store_tx_free(tx);
	int rc = store_apply(s->w.s, ++s->w.index, cmd.data, cmd.len, &err);
	buf_fini(&cmd);
	done(done_arg, rc, NULL, &err);
}

/* Tasks whose command is "exit N" end at once: jobs complete, and what crashes crashes. */
WORLD_UNUSED static void srv_end_tasks(struct server *s)
{
	STORE_EACH(s->w.s, STORE_TASK, struct md_task, t) {
		const struct md_container_spec *c = t->spec.container;
		if (t->status.state != MD_TASK_RUNNING || !c || c->args.n != 2 || !streq(c->args.v[0], "exit"))
			continue;
		world_status(&s->w, t->meta.id, streq(c->args.v[1], "0") ? MD_TASK_COMPLETE : MD_TASK_FAILED, 0);
		return; /* the list has changed */
	}
}

static void srv_tick(uv_timer_t *t)
{
	struct server *s = CONTAINER_OF(t, struct server, tick);
	if (!s->w.s)
		return;
	s->w.now = clock_wall_ns();
	world_settle(&s->w);
	(void)world_obey(&s->w);
	srv_end_tasks(s);
	world_settle(&s->w);
}

static void srv_init(void *arg, const struct api_init_request *r, api_done done, void *done_arg)
{
	struct server *s = arg;
	struct mesh_rng rng = s->rng;
	world_open(&s->w, mesh_rng_next(&rng));
	store_watch(s->w.s, api_on_store_event, s->api);
	struct store_tx *tx = store_tx_new(s->w.s, clock_wall_ns());
	struct md_cluster *c = store_tx_edit(tx, STORE_CLUSTER, store_cluster(s->w.s)->meta.id);
	str_set(&c->tokens.worker,
	        "SWMTKN-1-0bv05frcc530cd7tm99demg3vmik6cl3u80hg7dwrmksdbuj9h-5ugh5rirafx0y3uyvtj64fat6");
	str_set(&c->tokens.manager,
	        "SWMTKN-1-0bv05frcc530cd7tm99demg3vmik6cl3u80hg7dwrmksdbuj9h-b1bv47dw7dccsxfjc3dmnrpyu");
	c->spec.encryption.autolock = r->spec.encryption.autolock;
	struct md_node *n = store_tx_edit(tx, STORE_NODE, world_node(&s->w, "n0")->meta.id);
	n->manager = sch_new(md_node_schema.fields[md_node_schema.n - 1].sub);
	n->manager->leader = true;
	n->manager->reachability = MD_REACH_REACHABLE;
	n->manager->addr = xstrdup("172.31.0.1:2377");
	str_set(&n->description.data_plane, "ebpf");
	(void)!world_commit(&s->w, tx);
	done(done_arg, 0, world_node(&s->w, "n0")->meta.id, NULL);
}

static void srv_join(void *arg, const struct api_join_request *r, api_done done, void *done_arg)
{
	struct mesh_err err = { 0 };
	(void)arg;
	(void)r;
	done(done_arg, mesh_fail(&err, MESH_E_INVALID, "invalid join token"), NULL, &err);
}

static void srv_leave(void *arg, bool force, api_done done, void *done_arg)
{
	struct server *s = arg;
	(void)force;
	world_close(&s->w);
	s->w = (struct world){ 0 };
	done(done_arg, 0, NULL, NULL);
}

static void srv_update(void *arg, const struct api_swarm_update *r, api_done done, void *done_arg)
{
	struct server *s = arg;
	struct store_tx *tx = store_tx_new(s->w.s, clock_wall_ns());
	struct md_cluster *c = store_tx_edit(tx, STORE_CLUSTER, store_cluster(s->w.s)->meta.id);
	sch_clear(&md_cluster_spec_schema, &c->spec);
	sch_copy(&md_cluster_spec_schema, &c->spec, &r->spec);
	md_cluster_spec_defaults(&c->spec);
	if (r->rotate_worker_token)
		str_set(&c->tokens.worker, "SWMTKN-1-rotated");
	store_tx_touch_version(tx, c);
	srv_commit(arg, tx, done, done_arg);
}

/* Each task has said two lines on stdout and one on stderr. */
struct api_logs {
	uv_timer_t timer;
	const struct api_logs_ops *ops;
	void *arg;
	struct server *s;
	struct str_list tasks;
	struct agent_log_opts o;
	size_t next;
	bool paused;
};

static void srv_logs_free(uv_handle_t *h)
{
	struct api_logs *l = CONTAINER_OF((uv_timer_t *)h, struct api_logs, timer);
	strs_clear(&l->tasks);
	free(l);
}

static void srv_logs_go(uv_timer_t *t)
{
	struct api_logs *l = CONTAINER_OF(t, struct api_logs, timer);
	static const char *const text[] = { "line 1", "line 2", "oops" };
	while (!l->paused && l->next < 3 * l->tasks.n) {
		const struct md_task *task = store_get(l->s->w.s, STORE_TASK, l->tasks.v[l->next / 3]);
		size_t k = l->next++ % 3;
		struct api_log_line line = { .stream = k == 2 ? 2 : 1,
			                     .time_ns = 1795179692949178440 + (int64_t)k,
			                     .node = task ? task->node.s : "",
			                     .service = task ? task->service.s : "",
			                     .task = l->tasks.v[(l->next - 1) / 3],
			                     .text = text[k],
			                     .n = strlen(text[k]) };
		if (k == 2 ? l->o.err : l->o.out)
			l->paused = !l->ops->on_line(l->arg, &line);
	}
	if (l->next < 3 * l->tasks.n || l->o.follow)
		return;
	l->ops->on_end(l->arg, 0, NULL);
	uv_close((uv_handle_t *)&l->timer, srv_logs_free);
}

static struct api_logs *srv_logs_open(void *arg, const char *const *tasks, size_t n, const struct agent_log_opts *o,
                                      const struct api_logs_ops *ops, void *ops_arg)
{
	struct api_logs *l = XNEW(struct api_logs);
	*l = (struct api_logs){ .ops = ops, .arg = ops_arg, .s = arg, .o = *o };
	for (size_t i = 0; i < n; i++)
		strs_add(&l->tasks, tasks[i]);
	uv_timer_init(&l->s->loop, &l->timer);
	uv_timer_start(&l->timer, srv_logs_go, 0, 0);
	return l;
}

static void srv_logs_resume(struct api_logs *l)
{
	l->paused = false;
	uv_timer_start(&l->timer, srv_logs_go, 0, 0);
}

static void srv_logs_close(struct api_logs *l)
{
	uv_close((uv_handle_t *)&l->timer, srv_logs_free);
}

static int srv_check_published(void *arg, const struct md_port *p, struct mesh_err *err)
{
	(void)arg;
	if (p->published == 22)
		return mesh_fail(err, MESH_E_IN_USE, "port 22/tcp is already in use on node n0 by sshd");
	return 0;
}

static void srv_metrics(void *arg, struct buf *out)
{
	(void)arg;
	buf_puts(out, "mesh_test 1\n");
}

static const struct api_ops srv_ops = {
	.store = srv_store,
	.local = srv_local,
	.agent = srv_agent,
	.rng = srv_rng,
	.commit = srv_commit,
	.swarm_init = srv_init,
	.swarm_join = srv_join,
	.swarm_leave = srv_leave,
	.swarm_update = srv_update,
	.logs_open = srv_logs_open,
	.logs_resume = srv_logs_resume,
	.logs_close = srv_logs_close,
	.check_published = srv_check_published,
	.metrics = srv_metrics,
};

static void srv_on_stop(uv_async_t *h)
{
	struct server *s = CONTAINER_OF(h, struct server, stop);
	api_close(s->api, NULL, NULL);
	uv_close((uv_handle_t *)&s->tick, NULL);
	uv_close((uv_handle_t *)&s->stop, NULL);
}

/* Opened on the caller's thread, so that it listens when this returns. */
WORLD_UNUSED static int server_open(struct server *s, const char *path, struct mesh_err *err)
{
	*s = (struct server){ .worker = false };
	snprintf(s->path, sizeof(s->path), "%s", path);
	mesh_rng_seed_random(&s->rng);
	uv_loop_init(&s->loop);
	uv_timer_init(&s->loop, &s->tick);
	uv_async_init(&s->loop, &s->stop, srv_on_stop);
	uv_timer_start(&s->tick, srv_tick, TICK_MS, TICK_MS);
	return api_open(&s->loop, path, &srv_ops, s, &s->api, err);
}

/* Until server_stop; then nothing of it is left. */
WORLD_UNUSED static void server_run(struct server *s)
{
	uv_run(&s->loop, UV_RUN_DEFAULT);
	if (uv_loop_close(&s->loop))
		abort(); /* a handle was left open */
	if (s->w.s)
		world_close(&s->w);
}

static void *srv_thread(void *arg)
{
	server_run(arg);
	return NULL;
}

WORLD_UNUSED static void server_start(struct server *s)
{
	pthread_create(&s->thread, NULL, srv_thread, s);
}

WORLD_UNUSED static void server_stop(struct server *s)
{
	uv_async_send(&s->stop);
	pthread_join(s->thread, NULL);
}

#endif
