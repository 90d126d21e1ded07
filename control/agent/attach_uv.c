/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clients of a container's stdio, connected to its shim's socket; one who comes before the shim waits for it. */
#include "control/agent/agent_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct agent_attach {
	struct agent *a;
	char task[MESH_ID_LEN + 1];
	const struct agent_attach_ops *ops; /* NULL: the owner has let go */
	void *arg;
	uint8_t wants;
	uv_pipe_t pipe;
	bool on, over;
	bool half_closed; /* the input has ended */
	struct buf early; /* input before there was a shim */
	unsigned writes;
	uint8_t chunk[16384];
};

struct out {
	uv_write_t req;
	struct agent_attach *at;
	char data[];
};

static void free_it(struct agent_attach *at)
{
	struct agent *a = at->a;
	for (size_t i = 0; i < a->attaches.len; i++)
		if (a->attaches.data[i] == at) {
			vec_remove(&a->attaches, i);
			break;
		}
	buf_fini(&at->early);
	free(at);
	agent_unpend(a);
}

static void on_closed(uv_handle_t *h)
{
	free_it(h->data);
}

static void finish(struct agent_attach *at)
{
	if (at->over)
		return;
	at->over = true;
	const struct agent_attach_ops *ops = TAKE(at->ops);
	if (ops)
		ops->on_end(at->arg);
	if (at->on)
		uv_close((uv_handle_t *)&at->pipe, on_closed);
	else
		free_it(at);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	struct agent_attach *at = h->data;
	(void)want;
	*b = uv_buf_init((char *)at->chunk, sizeof(at->chunk));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct agent_attach *at = s->data;
	(void)b;
	if (n < 0)
		finish(at);
	else if (n > 0 && at->ops)
		at->ops->on_data(at->arg, at->chunk, (size_t)n);
}

static void on_written(uv_write_t *req, int status)
{
	(void)status;
	free(CONTAINER_OF(req, struct out, req));
}

static void put(struct agent_attach *at, const void *p, size_t n)
{
	struct out *o = xcalloc(1, sizeof(*o) + n);
	memcpy(o->data, p, n);
	uv_buf_t b = uv_buf_init(o->data, (unsigned)n);
	if (uv_write(&o->req, (uv_stream_t *)&at->pipe, &b, 1, on_written))
		free(o);
}

static void on_shut(uv_shutdown_t *req, int status)
{
	(void)status;
	free(req);
}

static void half_close(struct agent_attach *at)
{
	uv_shutdown_t *req = XNEW(uv_shutdown_t);
	if (uv_shutdown(req, (uv_stream_t *)&at->pipe, on_shut))
		free(req);
}

/* A blocking connect to a local socket that listens succeeds at once. */
static int dial(const char *dir)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	CLEAN_CLOSE int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/attach", at);
	if (at < 0 || fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static void connect_it(struct agent_attach *at, const char *dir)
{
	int fd = dial(dir);
	if (fd < 0 || write(fd, &at->wants, 1) != 1) {
		if (fd >= 0)
			close(fd);
		finish(at);
		return;
	}
	uv_pipe_init(at->a->loop, &at->pipe, 0);
	at->pipe.data = at;
	at->on = true;
	if (uv_pipe_open(&at->pipe, fd)) {
		close(fd);
		finish(at);
		return;
	}
	uv_read_start((uv_stream_t *)&at->pipe, on_alloc, on_read);
	if (at->early.len)
		put(at, at->early.data, at->early.len);
	buf_clear(&at->early);
	if (at->half_closed)
		half_close(at);
}

void agent_attaches_connect(struct atask *t)
{
	struct agent *a = t->a;
	for (size_t i = a->attaches.len; i-- > 0;) {
		struct agent_attach *at = a->attaches.data[i];
		if (!at->on && !at->over && streq(at->task, t->rec.task.meta.id))
			connect_it(at, t->dir);
	}
}

void agent_attaches_end(struct atask *t)
{
	struct agent *a = t->a;
	for (size_t i = a->attaches.len; i-- > 0;) {
		struct agent_attach *at = a->attaches.data[i];
		if (!at->on && !at->over && streq(at->task, t->rec.task.meta.id))
			finish(at);
	}
}

void agent_attaches_drop(struct agent *a)
{
	for (size_t i = a->attaches.len; i-- > 0;)
		finish(a->attaches.data[i]);
}

int agent_attach_open(struct agent *a, const char *container, bool in, bool out, bool errs,
                      const struct agent_attach_ops *ops, void *arg, struct agent_attach **res, struct mesh_err *err)
{
	struct mesh_err local = { 0 };
	err = err ? err : &local;
	struct atask *t = agent_task_of(a, container, err);
	if (!t)
		return err->code;
	if (t->sm.phase == TK_END && !md_task_standalone(&t->rec.task))
		return mesh_fail(err, MESH_E_CONFLICT, "Container %s is not running", t->rec.container_id);
	struct agent_attach *at = XNEW(struct agent_attach);
	at->a = a;
	at->ops = ops;
	at->arg = arg;
	at->wants = (uint8_t)(in | out << 1 | errs << 2);
	mesh_id_set(at->task, t->rec.task.meta.id);
	a->pending++;
	vec_push(&a->attaches, at);
	*res = at;
	if (tk_has_shim(&t->sm) && t->sm.phase > TK_CREATE)
		connect_it(at, t->dir);
	return 0;
}

void agent_attach_write(struct agent_attach *at, const void *p, size_t n)
{
	if (at->over || at->half_closed)
		return;
	if (!n)
		at->half_closed = true;
	if (!at->on)
		buf_put(&at->early, p, n);
	else if (n)
		put(at, p, n);
	else
		half_close(at);
}

void agent_attach_close(struct agent_attach *at)
{
	at->ops = NULL;
	finish(at);
}
