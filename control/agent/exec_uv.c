/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

#define DRAIN_MS 1000 /* after the process ended, for output somebody else still holds open */
#define KILL_EVERY_MS 20
#define HELD_MAX 4096

#define T struct agent_exec_spec
static const struct sch_field agent_exec_spec_fields[] = {
	SF(1, STRS, "Cmd", cmd, 0),
	SF(2, STRS, "Env", env, 0),
	SF(3, STR, "User", user, 0),
	SF(4, STR, "WorkingDir", dir, 0),
	SF(5, BOOL, "Tty", tty, 0),
	SF(6, BOOL, "AttachStdin", stdin_, 0),
	SF(7, BOOL, "AttachStdout", stdout_, 0),
	SF(8, BOOL, "AttachStderr", stderr_, 0),
	SF(9, BOOL, "Privileged", privileged, 0),
	SF(10, U16, "rows", rows, SCH_INTERNAL),
	SF(11, U16, "cols", cols, SCH_INTERNAL),
};
#undef T
SCHEMA(agent_exec_spec_schema, agent_exec_spec, agent_exec_spec_fields);

enum { IN, OUT, ERR, N_STREAM };

struct agent_exec {
	struct agent *a;
	const struct agent_exec_ops *ops; /* NULL: dropped */
	void *arg;
	char *dir, *cg;
	bool tty;
	uint16_t rows, cols;
	uv_process_t proc;
	uv_timer_t timer; /* kill again, or drain */
	uv_poll_t console;
	uv_pipe_t stream[N_STREAM]; /* tty: OUT is both ways */
	bool proc_on, timer_on, console_on, stream_on[N_STREAM];
	int console_fd;
	int root; /* pid and session of what was started, once known */
	unsigned handles, writes;
	bool exited, killing, finished, eof;
	int64_t status;
	int sig;
	struct buf held; /* stderr before the process exists: the runtime's own words */
};

static void exec_unhandle(struct agent_exec *e)
{
	struct agent *a = e->a;
	if (--e->handles)
		return;
	if (e->console_fd >= 0)
		close(e->console_fd);
	buf_fini(&e->held);
	free(e->dir);
	free(e->cg);
	free(e);
	agent_unpend(a);
}

static void on_closed(uv_handle_t *h)
{
	exec_unhandle(h->data);
}

static void shut(void *h, bool *on)
{
	if (!*on)
		return;
	*on = false;
	uv_close(h, on_closed);
}

static void shut_all(struct agent_exec *e)
{
	shut(&e->proc, &e->proc_on);
	shut(&e->timer, &e->timer_on);
	shut(&e->console, &e->console_on);
	for (int i = 0; i < N_STREAM; i++)
		shut(&e->stream[i], &e->stream_on[i]);
}

static bool read_small(const struct agent_exec *e, const char *file, char *out, size_t n)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", e->dir, file);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd >= 0 ? read(fd, out, n - 1) : 0;
	out[got > 0 ? got : 0] = 0;
	return got > 0;
}

int agent_exec_pid(const struct agent_exec *e)
{
	char text[32];
	return read_small(e, "pid", text, sizeof(text)) ? atoi(text) : 0;
}

/* ---- the end ---- */

/* crun gives 255 for what docker gives 126 and 127 for; its log says which. */
static int exit_code(const struct agent_exec *e, struct mesh_err *err)
{
	char text[1024];
	if (e->sig)
		return 128 + e->sig;
	if (!read_small(e, "log", text, sizeof(text)) || (e->status != 255 && e->status != 1 && e->status != 127))
		return (int)e->status;
	text[strcspn(text, "\n")] = 0;
	bool absent = strstr(text, "not found") || strstr(text, "No such file");
	bool denied = strstr(text, "ermission denied") || strstr(text, "not permitted");
	char *tick = strchr(text, '`'), *end = tick ? strchr(tick + 1, '`') : NULL;
	if (absent && end) {
		(void)mesh_fail(err, MESH_E_RUNTIME,
		                "OCI runtime exec failed: exec failed: unable to start container process: exec: "
		                "\"%.*s\": executable file not found in $PATH: unknown",
		                (int)(end - tick - 1), tick + 1);
		return 127;
	}
	(void)mesh_fail(err, MESH_E_RUNTIME, "OCI runtime exec failed: exec failed: %s", text);
	return absent ? 127 : denied ? 126 : (int)e->status;
}

static void finish(struct agent_exec *e)
{
	struct mesh_err err = { 0 };
	if (e->finished)
		return;
	e->finished = true;
	int code = exit_code(e, &err);
	if (e->ops && e->held.len && !err.code)
		e->ops->on_data(e->arg, 2, e->held.data, e->held.len);
	fs_remove_tree(e->dir);
	for (size_t i = 0; i < e->a->execs.len; i++)
		if (e->a->execs.data[i] == e) {
			vec_remove(&e->a->execs, i);
			break;
		}
	const struct agent_exec_ops *ops = TAKE(e->ops);
	shut_all(e);
	if (ops)
		ops->on_exit(e->arg, code, &err);
}

static void maybe_finish(struct agent_exec *e)
{
	if (e->exited && !e->stream_on[OUT] && !e->stream_on[ERR])
		finish(e);
}

/* ---- data ---- */

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	static char chunk[64 << 10]; /* handed out before the next read */
	(void)h;
	(void)want;
	*b = uv_buf_init(chunk, sizeof(chunk));
}

static void give(struct agent_exec *e, int stream, const char *p, size_t n)
{
	if (stream == ERR && e->held.len + n < HELD_MAX && !agent_exec_pid(e)) {
		buf_put(&e->held, p, n);
		return;
	}
	if (stream == ERR && e->held.len && e->ops) {
		e->ops->on_data(e->arg, 2, e->held.data, e->held.len);
		buf_clear(&e->held);
	}
	if (e->ops)
		e->ops->on_data(e->arg, stream, (const uint8_t *)p, n);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct agent_exec *e = s->data;
	int which = s == (uv_stream_t *)&e->stream[ERR] ? ERR : OUT;
	if (n > 0) {
		give(e, which, b->base, (size_t)n);
	} else if (n < 0) {
		shut(&e->stream[which], &e->stream_on[which]);
		maybe_finish(e);
	}
}

struct exec_write {
	uv_write_t req;
	struct agent_exec *e;
	char data[];
};

static void on_written(uv_write_t *req, int status)
{
	struct exec_write *w = CONTAINER_OF(req, struct exec_write, req);
	struct agent_exec *e = w->e;
	(void)status; /* a process that reads no more says so by exiting */
	free(w);
	if (!--e->writes && e->eof)
		shut(&e->stream[IN], &e->stream_on[IN]);
}

void agent_exec_write(struct agent_exec *e, const void *p, size_t n)
{
	int to = e->tty ? OUT : IN;
	if (!e->stream_on[to] || e->eof)
		return;
	if (!n) {
		e->eof = !e->tty;
		if (e->eof && !e->writes)
			shut(&e->stream[IN], &e->stream_on[IN]);
		return;
	}
	struct exec_write *w = xcalloc(1, sizeof(*w) + n);
	w->e = e;
	memcpy(w->data, p, n);
	uv_buf_t b = uv_buf_init(w->data, (unsigned)n);
	e->writes++;
	if (uv_write(&w->req, (uv_stream_t *)&e->stream[to], &b, 1, on_written)) {
		e->writes--;
		free(w);
	}
}

/* ---- tty ---- */

void agent_exec_resize(struct agent_exec *e, uint16_t rows, uint16_t cols)
{
	uv_os_fd_t fd;
	struct winsize ws = { .ws_row = rows, .ws_col = cols };
	e->rows = rows;
	e->cols = cols;
	if (e->tty && e->stream_on[OUT] && !uv_fileno((uv_handle_t *)&e->stream[OUT], &fd))
		(void)ioctl(fd, TIOCSWINSZ, &ws);
}

static void stream_open(struct agent_exec *e, int i, int fd)
{
	uv_pipe_init(e->a->loop, &e->stream[i], 0);
	e->stream[i].data = e;
	e->stream_on[i] = true;
	e->handles++;
	if (uv_pipe_open(&e->stream[i], fd)) {
		close(fd);
		shut(&e->stream[i], &e->stream_on[i]);
		return;
	}
	if (i != IN)
		uv_read_start((uv_stream_t *)&e->stream[i], on_alloc, on_read);
}

static int take_fd(int conn)
{
	int fd = -1;
	char byte[64], ctl[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { byte, sizeof(byte) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl) };
	if (recvmsg(conn, &m, MSG_CMSG_CLOEXEC) < 0)
		return -1;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	return fd;
}

static void on_console(uv_poll_t *p, int status, int events)
{
	struct agent_exec *e = p->data;
	(void)status;
	(void)events;
	CLEAN_CLOSE int conn = accept4(e->console_fd, NULL, NULL, SOCK_CLOEXEC);
	if (conn < 0)
		return;
	int fd = take_fd(conn); /* the runtime sends it as soon as it has connected */
	shut(&e->console, &e->console_on);
	if (fd < 0)
		return;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	stream_open(e, OUT, fd);
	if (e->rows && e->cols)
		agent_exec_resize(e, e->rows, e->cols);
}

static int console_open(struct agent_exec *e, struct mesh_err *err)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	CLEAN_CLOSE int dir = open(e->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/console", dir);
	e->console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (dir < 0 || e->console_fd < 0 || bind(e->console_fd, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(e->console_fd, 1))
		return mesh_fail(err, -errno, "console socket");
	uv_poll_init(e->a->loop, &e->console, e->console_fd);
	e->console.data = e;
	e->console_on = true;
	e->handles++;
	uv_poll_start(&e->console, UV_READABLE, on_console);
	return 0;
}

/* ---- kill ---- */

/* Parent and session of a process; false when it is gone. */
static bool stat_of(int pid, int *ppid, int *session)
{
	char path[64], text[512];
	int pgrp;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	text[n > 0 ? n : 0] = 0;
	char *close_paren = strrchr(text, ')');
	return close_paren && sscanf(close_paren + 2, "%*c %d %d %d", ppid, &pgrp, session) == 3;
}

#define TREE_MAX 4096
#define TREE_LOOKS 16

/* Marks, of the processes in the container's cgroup, what was started, its session and all descendants. */
static size_t mark_tree(const struct agent_exec *e, int pids[TREE_MAX], bool marked[TREE_MAX])
{
	int ppid[TREE_MAX], session[TREE_MAX];
	bool more = true;
	size_t n = cgroup_pids(&e->a->cg, e->cg, pids, TREE_MAX);
	memset(marked, 0, TREE_MAX * sizeof(*marked));
	for (size_t i = 0; i < n; i++)
		if (!stat_of(pids[i], &ppid[i], &session[i]))
			ppid[i] = session[i] = 0;
	while (more) {
		more = false;
		for (size_t i = 0; i < n; i++) {
			bool hit = session[i] == e->root || (pids[i] == e->root && !e->exited);
			for (size_t k = 0; k < n && !hit; k++)
				hit = marked[k] && pids[k] == ppid[i];
			more |= hit && !marked[i];
			marked[i] |= hit;
		}
	}
	return n;
}

/*
 * Kills the whole tree; how many there still were. All are stopped first, again until none is new: a child forked
 * while we look would otherwise lose its parent, and with it what tells whose it is.
 */
static size_t kill_tree(struct agent_exec *e)
{
	int pids[TREE_MAX];
	bool marked[TREE_MAX];
	size_t n = 0, found = SIZE_MAX, before = 0;
	e->root = e->root ? e->root : agent_exec_pid(e);
	if (!e->root)
		return 0;
	for (int look = 0; look < TREE_LOOKS && found != before; look++) {
		before = found;
		found = 0;
		n = mark_tree(e, pids, marked);
		for (size_t i = 0; i < n; i++)
			found += marked[i] && !kill(pids[i], SIGSTOP);
	}
	size_t killed = 0;
	for (size_t i = 0; i < n; i++)
		killed += marked[i] && !kill(pids[i], SIGKILL);
	return killed;
}

/* ---- the process ends ---- */

static void on_drained(uv_timer_t *timer)
{
	finish(timer->data);
}

static void drain(struct agent_exec *e)
{
	uv_timer_stop(&e->timer);
	uv_timer_start(&e->timer, on_drained, DRAIN_MS, 0);
	maybe_finish(e);
}

static void kill_tick(uv_timer_t *timer)
{
	struct agent_exec *e = timer->data;
	if (!kill_tree(e) && e->exited)
		drain(e);
}

static void on_exited(uv_process_t *p, int64_t status, int sig)
{
	struct agent_exec *e = p->data;
	e->exited = true;
	e->status = status;
	e->sig = sig;
	shut(&e->proc, &e->proc_on);
	shut(&e->stream[IN], &e->stream_on[IN]);
	if (e->console_on) /* a short command may end before its terminal was taken, with all it said in there */
		on_console(&e->console, 0, UV_READABLE);
	shut(&e->console, &e->console_on);
	if (e->finished || (e->killing && kill_tree(e)))
		return; /* kill_tick goes on until nothing is left */
	drain(e);
}

/* The runtime's exec does not pass SIGKILL on: what it started is killed, and it then ends by itself. */
void agent_exec_kill(struct agent_exec *e)
{
	if (e->exited || e->killing)
		return;
	e->killing = true;
	(void)kill_tree(e);
	uv_timer_start(&e->timer, kill_tick, KILL_EVERY_MS, KILL_EVERY_MS);
}

void agent_exec_drop(struct agent_exec *e)
{
	if (!kill_tree(e) && e->proc_on)
		uv_process_kill(&e->proc, SIGTERM);
	e->ops = NULL;
	finish(e);
}

/* ---- start ---- */

static int write_process(struct agent_exec *e, struct atask *t, const struct agent_exec_spec *spec,
                         struct mesh_err *err)
{
	const struct image *im = t->rec.image_id ? images_find(t->a->images, t->rec.image_id) : NULL;
	struct oci_ctx c;
	CLEAN_FREE char *root = xasprintf("/proc/%d/root", (int)t->rec.pid);
	CLEAN_FREE char *json = NULL;
	CLEAN_FREE char *path = xasprintf("%s/process.json", e->dir);
	oci_ctx_init(&c, t, im, root);
	int rc = oci_exec_make(&c.in, spec, &json, err);
	oci_ctx_fini(&c);
	return rc ? rc : fs_write(path, json, strlen(json), 0600, FS_CACHED, err);
}

static int pipes_open(int fds[N_STREAM][2], struct mesh_err *err)
{
	for (int i = 0; i < N_STREAM; i++)
		if (pipe2(fds[i], O_CLOEXEC))
			return mesh_fail(err, -errno, "pipe");
	return 0;
}

static void pipes_close(int fds[N_STREAM][2])
{
	for (int i = 0; i < N_STREAM; i++)
		for (int k = 0; k < 2; k++)
			if (fds[i][k] >= 0)
				close(fds[i][k]);
}

static int spawn(struct agent_exec *e, const char *id, bool want_stdin, struct mesh_err *err)
{
	int fds[N_STREAM][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	const char *args[16] = { e->a->runtime, "--root", e->a->crun_root, "--log", "log" };
	int n = 5;
	const char *more[] = { "exec", "--process", "process.json", "--pid-file", "pid" };
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		args[n++] = more[i];
	if (e->tty) {
		args[n++] = "--console-socket";
		args[n++] = "console";
	}
	args[n] = id;
	int rc = e->tty ? 0 : pipes_open(fds, err);
	uv_stdio_container_t io[N_STREAM] = { 0 };
	for (int i = 0; i < N_STREAM && !e->tty; i++) {
		if (i == IN && !want_stdin)
			continue;
		io[i].flags = UV_INHERIT_FD;
		io[i].data.fd = fds[i][i == IN ? 0 : 1];
	}
	uv_process_options_t o = { .file = e->a->runtime,
		                   .args = (char **)args,
		                   .cwd = e->dir,
		                   .stdio_count = N_STREAM,
		                   .stdio = io,
		                   .exit_cb = on_exited };
	if (!rc) {
		rc = uv_spawn(e->a->loop, &e->proc, &o);
		e->proc.data = e;
		e->proc_on = true;
		e->handles++;
		if (rc)
			(void)mesh_fail(err, rc, "%s", e->a->runtime);
	}
	for (int i = 0; i < N_STREAM && !rc && !e->tty; i++) {
		int k = i == IN ? 1 : 0;
		if (i != IN || want_stdin) {
			stream_open(e, i, fds[i][k]);
			fds[i][k] = -1;
		}
	}
	pipes_close(fds);
	return rc;
}

int agent_exec_start(struct agent *a, const char *container, const struct agent_exec_spec *spec,
                     const struct agent_exec_ops *ops, void *arg, struct agent_exec **out, struct mesh_err *err)
{
	struct mesh_err local = { 0 };
	err = err ? err : &local;
	struct atask *t = agent_task_of(a, container, err);
	if (!t)
		return err->code;
	if (!tk_running(&t->sm) || !t->rec.pid)
		return mesh_fail(err, MESH_E_CONFLICT, "container %s is not running", t->rec.container_id);
	struct agent_exec *e = XNEW(struct agent_exec);
	e->a = a;
	e->arg = arg;
	e->tty = spec->tty;
	e->rows = spec->rows;
	e->cols = spec->cols;
	e->console_fd = -1;
	e->dir = xasprintf("%s/exec/%llu", a->run_dir, (unsigned long long)++a->exec_seq);
	e->cg = xstrdup(t->cg);
	a->pending++;
	uv_timer_init(a->loop, &e->timer);
	e->timer.data = e;
	e->timer_on = true;
	e->handles = 1;
	vec_push(&a->execs, e);
	int rc = fs_make_dirs(e->dir, 0700, err);
	if (!rc)
		rc = write_process(e, t, spec, err);
	if (!rc && e->tty)
		rc = console_open(e, err);
	if (!rc)
		rc = spawn(e, t->rec.container_id, spec->stdin_, err);
	if (rc) {
		finish(e); /* no owner yet: only cleans up */
		return rc;
	}
	e->ops = ops;
	*out = e;
	return 0;
}
