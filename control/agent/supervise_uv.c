/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the shim of a task: starting it, what it says, orders to it, and its end. */
#include "control/agent/agent_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

void shim_order(struct atask *t, const char *fmt, ...)
{
	char line[128];
	if (!t->sock_on)
		return;
	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	uv_buf_t b = uv_buf_init(line, (unsigned)n);
	int rc = uv_try_write((uv_stream_t *)&t->sock, &b, 1);
	if (rc != n)
		log_warn("order to a shim failed task=%s order=%.*s", t->rec.task.meta.id, n - 1, line);
}

static void on_shim_exit(uv_process_t *p, int64_t status, int sig)
{
	struct atask *t = p->data;
	log_debug("shim ended task=%s status=%lld signal=%d", t->rec.task.meta.id, (long long)status, sig);
	atask_close_handle(t, &t->proc, &t->proc_on);
}

static void next_spawn(struct agent *a);

static void creating_over(struct atask *t)
{
	if (!t->creating)
		return;
	t->creating = false;
	t->a->creating--;
	next_spawn(t->a);
}

/* "exit CODE OOM START END TEXT", from the socket or TASK/exit. */
static void shim_exit(struct atask *t, const char *line)
{
	int code, used = 0;
	long oom;
	long long start, end;
	if (t->exit_seen || sscanf(line, "exit %d %ld %lld %lld %n", &code, &oom, &start, &end, &used) < 4 || !used)
		return;
	t->exit_seen = true;
	t->rec.exit_code = code;
	t->rec.oom = oom > 0;
	t->rec.finished_at = end;
	if (start)
		t->rec.started_at = start;
	t->rec.pid = 0;
	t->rec.ended = true;
	creating_over(t);
	char exit_text[16];
	snprintf(exit_text, sizeof(exit_text), "%d", code);
	if (oom > 0)
		agent_emit(t, "oom", NULL, NULL);
	agent_emit(t, "die", "exitCode", exit_text);
	atask_event(t, &(struct tk_event){ .kind = TK_EXIT, .code = code, .oom = oom > 0, .text = line + used });
}

static void shim_line(struct atask *t, const char *line)
{
	int pid;
	long long start = 0;
	if (sscanf(line, "created %d", &pid) == 1) {
		t->rec.pid = pid;
		creating_over(t);
		if (t->rows || t->cols)
			shim_order(t, "resize %u %u\n", t->rows, t->cols);
		agent_attaches_connect(t);
		atask_event(t, &(struct tk_event){ .kind = TK_CREATED });
	} else if (sscanf(line, "running %d %lld", &pid, &start) >= 1) {
		t->rec.pid = pid;
		t->rec.started_at = start;
		creating_over(t);
		if (t->sm.phase != TK_RUN)
			agent_emit(t, "start", NULL, NULL);
		atask_event(t, &(struct tk_event){ .kind = TK_STARTED });
	} else if (!strncmp(line, "exit ", 5)) {
		shim_exit(t, line);
	}
}

struct orphan_work {
	struct agent_work w;
	struct atask *t;
	char *dir, *cg, *id;
};

static void orphan_run(struct agent_work *w)
{
	struct orphan_work *o = CONTAINER_OF(w, struct orphan_work, w);
	orphan_clean(w->a, o->dir, o->cg, o->id);
}

static void orphan_done(struct agent_work *w)
{
	struct orphan_work *o = CONTAINER_OF(w, struct orphan_work, w);
	struct atask *t = o->t;
	char line[128];
	bool rebooted = t->rec.boot_id && strcmp(t->rec.boot_id, w->a->boot_id);
	snprintf(line, sizeof(line), "exit -1 0 %lld %lld %s", (long long)t->rec.started_at, (long long)clock_wall_ns(),
	         rebooted ? "the node was restarted" : "supervisor died");
	shim_exit(t, line);
	t->works--;
	atask_maybe_gone(t);
	free(o->dir);
	free(o->cg);
	free(o->id);
	free(o);
}

/* The shim is gone. With an exit file all is well; without one it was killed, and its container is an orphan. */
void shim_gone(struct atask *t)
{
	CLEAN_FREE char *line = t->exit_seen ? NULL : text_read(t->dir, "exit");
	t->works++; /* stays alive while its end is told */
	if (line)
		shim_exit(t, line);
	if (!t->exit_seen && t->rec.spawned && !t->a->closing) {
		struct orphan_work *o = XNEW(struct orphan_work);
		o->t = t;
		o->dir = xstrdup(t->dir);
		o->cg = xstrdup(t->cg);
		o->id = xstrdup(t->rec.container_id);
		o->w.run = orphan_run;
		o->w.done = orphan_done;
		t->works++;
		agent_work_start(t->a, &o->w);
	}
	t->works--;
	next_spawn(t->a); /* the container's next run may have waited for it */
	atask_maybe_gone(t);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	(void)want;
	struct atask *t = h->data;
	*b = uv_buf_init(t->in + t->in_len, (unsigned)(sizeof(t->in) - 1 - t->in_len));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	(void)b;
	struct atask *t = s->data;
	if (n < 0) {
		atask_close_handle(t, &t->sock, &t->sock_on);
		shim_gone(t);
		return;
	}
	t->in_len += (size_t)n;
	t->in[t->in_len] = 0;
	for (char *nl; (nl = strchr(t->in, '\n'));) {
		char line[sizeof(t->in)];
		*nl = 0;
		memcpy(line, t->in, (size_t)(nl - t->in) + 1);
		t->in_len -= (size_t)(nl + 1 - t->in);
		memmove(t->in, nl + 1, t->in_len + 1);
		shim_line(t, line);
		if (!t->sock_on)
			return;
	}
	if (t->in_len == sizeof(t->in) - 1)
		t->in_len = 0; /* nothing the shim says is that long */
}

void shim_connect(struct atask *t, int fd)
{
	uv_pipe_init(t->a->loop, &t->sock, 0);
	t->sock.data = t;
	t->sock_on = true;
	t->in_len = 0;
	if (uv_pipe_open(&t->sock, fd)) {
		close(fd);
		atask_close_handle(t, &t->sock, &t->sock_on);
		return;
	}
	uv_read_start((uv_stream_t *)&t->sock, on_alloc, on_read);
}

static void put_key(struct buf *b, const char *key, const char *fmt, ...) MESH_PRINTF(3, 4);
static void put_key(struct buf *b, const char *key, const char *fmt, ...)
{
	char value[4096];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	buf_put(b, key, strlen(key) + 1);
	buf_put(b, value, strlen(value) + 1);
}

/* "10m", "1g", "-1" */
static int64_t size_of(const char *s, int64_t dflt)
{
	char *end;
	if (!s || !*s)
		return dflt;
	double v = strtod(s, &end);
	switch (*end) {
	case 'k':
	case 'K':
		v *= 1 << 10;
		break;
	case 'm':
	case 'M':
		v *= 1 << 20;
		break;
	case 'g':
	case 'G':
		v *= 1 << 30;
		break;
	default:
		break;
	}
	return v <= 0 || v > 1e15 ? 0 : (int64_t)v;
}

static void put_log_conf(struct buf *b, const struct md_driver *d)
{
	bool none = d && streq(d->name, "none");
	const char *files = d ? smap_get(&d->options, "max-file") : NULL;
	put_key(b, "log", "%d", none ? 0 : 1);
	put_key(b, "log_max", "%lld", (long long)size_of(d ? smap_get(&d->options, "max-size") : NULL, 10 << 20));
	put_key(b, "log_files", "%d", files && atoi(files) > 0 ? atoi(files) : 5);
}

static int conf_fd(struct atask *t, const struct image *im)
{
	const struct agent *a = t->a;
	const struct md_container_spec *c = t->rec.task.spec.container;
	char oom[512], kill_path[512];
	struct buf b = { 0 };
	cgroup_oom_path(&a->cg, t->cg, oom, sizeof(oom));
	cgroup_kill_path(&a->cg, t->cg, kill_path, sizeof(kill_path));
	put_key(&b, "dir", "%s", t->dir);
	put_key(&b, "id", "%s", t->rec.container_id);
	put_key(&b, "runtime", "%s", a->runtime);
	put_key(&b, "root", "%s", a->crun_root);
	put_key(&b, "lower", "%s", im->rootfs);
	if (a->cg.mask)
		put_key(&b, "mask", "%s/cgroup.controllers", a->cg.unified);
	put_key(&b, "oom", "%s", oom);
	put_key(&b, "kill", "%s", kill_path);
	put_key(&b, "netns", "%d", !t->rec.host_network);
	put_key(&b, "dns", "%d", !t->rec.host_network);
	put_key(&b, "tty", "%d", c->tty);
	put_key(&b, "stdin", "%d", c->open_stdin);
	if (md_task_standalone(&t->rec.task))
		put_key(&b, "stdin_once", "%d", t->rec.task.spec.attachment->stdin_once);
	put_log_conf(&b, t->rec.task.spec.log_driver);
	buf_put_u8(&b, 0);
	buf_put(&b, t->files.data, t->files.len);
	int fd = memfd_create("mesh-task", MFD_CLOEXEC);
	if (fd >= 0 && write(fd, b.data, b.len) != (ssize_t)b.len) {
		close(fd);
		fd = -1;
	}
	mesh_wipe(b.data, b.cap);
	buf_fini(&b);
	mesh_wipe(t->files.data, t->files.cap);
	buf_fini(&t->files);
	return fd;
}

static int spawn_shim(struct atask *t, struct mesh_err *err)
{
	const struct image *im = atask_image(t);
	int sv[2];
	if (!im)
		return mesh_fail(err, MESH_E_NOT_FOUND, "the image was removed meanwhile");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return mesh_fail(err, -errno, "socketpair");
	CLEAN_CLOSE int conf = conf_fd(t, im);
	char *args[] = { t->a->shim, t->rec.task.meta.id, NULL };
	uv_stdio_container_t io[5] = {
		[3] = { .flags = UV_INHERIT_FD, .data.fd = sv[1] }, [4] = { .flags = UV_INHERIT_FD, .data.fd = conf }
	};
	uv_process_options_t o = {
		.file = t->a->shim,
		.args = args,
		.flags = UV_PROCESS_DETACHED,
		.stdio_count = 5,
		.stdio = io,
		.exit_cb = on_shim_exit,
	};
	t->rec.spawned = true;
	atask_save(t);
	int rc = conf < 0 ? -EIO : uv_spawn(t->a->loop, &t->proc, &o);
	t->proc.data = t;
	t->proc_on = true;
	close(sv[1]);
	if (rc) {
		close(sv[0]);
		atask_close_handle(t, &t->proc, &t->proc_on);
		return mesh_fail(err, rc, "%s", t->a->shim);
	}
	t->shim_pid = t->proc.pid;
	shim_connect(t, sv[0]);
	return 0;
}

static void spawn_now(struct atask *t)
{
	struct mesh_err err = { 0 };
	t->creating = true;
	t->a->creating++;
	if (!spawn_shim(t, &err))
		return;
	char line[1024];
	long long now = clock_wall_ns();
	snprintf(line, sizeof(line), "exit -1 0 0 %lld %s", now, err.msg);
	shim_exit(t, line);
}

/* Not while the shim of the container's last run still deletes what the runtime knows under the same id. */
static bool may_spawn(const struct atask *t)
{
	const struct md_attachment_spec *at = t->rec.task.spec.attachment;
	const struct atask *old = at && at->previous ? map_get(&t->a->tasks, at->previous) : NULL;
	return t->a->creating < AGENT_CREATES_MAX && (!old || !old->sock_on);
}

static void next_spawn(struct agent *a)
{
	for (size_t i = 0; i < a->spawn_queue.len && !a->closing;) {
		struct atask *t = a->spawn_queue.data[i];
		if (!may_spawn(t)) {
			i++;
			continue;
		}
		vec_remove(&a->spawn_queue, i);
		t->queued = false;
		spawn_now(t);
		i = 0; /* what it did may have changed the queue */
	}
}

void shim_spawn(struct atask *t)
{
	if (may_spawn(t)) {
		spawn_now(t);
		return;
	}
	t->queued = true;
	vec_push(&t->a->spawn_queue, t);
}

void shim_kill(struct atask *t)
{
	if (t->queued) { /* never spawned */
		for (size_t i = t->a->spawn_queue.len; i-- > 0;)
			if (t->a->spawn_queue.data[i] == t)
				vec_remove(&t->a->spawn_queue, i);
		t->queued = false;
		char line[128];
		snprintf(line, sizeof(line), "exit -1 0 0 %lld stopped before it started", (long long)clock_wall_ns());
		shim_exit(t, line);
		return;
	}
	shim_order(t, "abort\nsig 9\n");
	if (t->sm.timed_out && t->shim_pid > 0)
		kill(-t->shim_pid, SIGKILL); /* it leads its own session: the runtime dies with it */
	char path[512];
	cgroup_kill_path(&t->a->cg, t->cg, path, sizeof(path));
	CLEAN_CLOSE int fd = path[0] ? open(path, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0)
		(void)!write(fd, "1", 1);
}
