/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/child_uv.h"

#include <string.h>

#include "base/mem.h"

struct child {
	uv_process_t process;
	uv_pipe_t out, err;
	uv_timer_t failed; /* reports a start that failed from the loop */
	struct buf outbuf, errbuf;
	size_t line_from; /* start of the line that is not complete */
	int handles, code;
	child_line line;
	child_done done;
	void *arg;
};

static void on_closed(uv_handle_t *h)
{
	struct child *c = h->data;
	if (--c->handles)
		return;
	c->done(c->arg, c->code, &c->outbuf, &c->errbuf);
	buf_fini(&c->outbuf);
	buf_fini(&c->errbuf);
	free(c);
}

static void on_alloc(uv_handle_t *h, size_t hint, uv_buf_t *b)
{
	struct child *c = h->data;
	struct buf *to = h == (uv_handle_t *)&c->out ? &c->outbuf : &c->errbuf;
	(void)hint;
	/* What is beyond the bound is read and dropped, so that the child does not block. */
	if (to->len >= CHILD_OUT_MAX)
		to->len = CHILD_OUT_MAX / 2;
	b->base = (char *)buf_reserve(to, 4096);
	b->len = 4096;
}

static void tell_lines(struct child *c)
{
	for (size_t i = c->line_from; c->line && i < c->errbuf.len; i++) {
		if (c->errbuf.data[i] != '\n')
			continue;
		char *text = xstrndup((char *)c->errbuf.data + c->line_from, i - c->line_from);
		c->line(c->arg, text);
		free(text);
		c->line_from = i + 1;
	}
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct child *c = s->data;
	(void)b;
	if (n < 0) {
		uv_close((uv_handle_t *)s, on_closed);
		return;
	}
	if (s == (uv_stream_t *)&c->out) {
		c->outbuf.len += (size_t)n;
		return;
	}
	c->errbuf.len += (size_t)n;
	tell_lines(c);
}

static void on_child_exit(uv_process_t *p, int64_t status, int sig)
{
	struct child *c = p->data;
	c->code = sig ? 128 + sig : (int)status;
	uv_close((uv_handle_t *)p, on_closed);
}

static void on_start_failed(uv_timer_t *t)
{
	struct child *c = t->data;
	uv_close((uv_handle_t *)&c->process, on_closed);
	uv_close((uv_handle_t *)&c->out, on_closed);
	uv_close((uv_handle_t *)&c->err, on_closed);
	uv_close((uv_handle_t *)t, on_closed);
}

/*
 * Tools see nothing of the home of whoever runs meshd: skopeo 1.9 looks for credentials there whatever --authfile says. Unset,
 * HOME would be looked up.
 */
static char **tool_env(void)
{
	static const char *const drop[] = { "HOME=", "DOCKER_CONFIG=", "REGISTRY_AUTH_FILE=", "XDG_CONFIG_HOME=",
		                            "XDG_RUNTIME_DIR=" };
	size_t n = 0, kept = 0;
	while (environ[n])
		n++;
	char **env = xcalloc(n + 2, sizeof(*env));
	for (size_t i = 0; i < n; i++) {
		bool keep = true;
		for (size_t k = 0; k < ARRAY_SIZE(drop); k++)
			keep = keep && strncmp(environ[i], drop[k], strlen(drop[k]));
		if (keep)
			env[kept++] = environ[i];
	}
	env[kept] = (char *)(uintptr_t) "HOME=/nonexistent";
	return env;
}

void child_run(uv_loop_t *loop, const char *const *argv, child_line line, child_done done, void *arg)
{
	struct child *c = XNEW(struct child);
	uv_stdio_container_t stdio[3];
	*c = (struct child){ .line = line, .done = done, .arg = arg, .handles = 3 };
	uv_pipe_init(loop, &c->out, 0);
	uv_pipe_init(loop, &c->err, 0);
	c->process.data = c->out.data = c->err.data = c;
	stdio[0].flags = UV_IGNORE;
	stdio[1].flags = stdio[2].flags = (uv_stdio_flags)(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
	stdio[1].data.stream = (uv_stream_t *)&c->out;
	stdio[2].data.stream = (uv_stream_t *)&c->err;
	char **env = tool_env();
	uv_process_options_t o = { .exit_cb = on_child_exit,
		                   .file = argv[0],
		                   .args = (char **)(uintptr_t)argv,
		                   .env = env,
		                   .stdio = stdio,
		                   .stdio_count = 3 };
	int rc = uv_spawn(loop, &c->process, &o);
	free(env);
	if (rc) {
		c->code = rc;
		buf_printf(&c->errbuf, "%s: %s", argv[0], rc == UV_ENOENT ? "not found; install it" : uv_strerror(rc));
		c->handles = 4;
		c->failed.data = c;
		uv_timer_init(loop, &c->failed);
		uv_timer_start(&c->failed, on_start_failed, 0, 0);
		return;
	}
	uv_read_start((uv_stream_t *)&c->out, on_alloc, on_read);
	uv_read_start((uv_stream_t *)&c->err, on_alloc, on_read);
}

const char *child_complaint(struct buf *errout)
{
	while (errout->len && (errout->data[errout->len - 1] == '\n' || errout->data[errout->len - 1] == ' '))
		errout->len--;
	char *text = (char *)(uintptr_t)buf_str(errout), *last = strrchr(text, '\n');
	last = last ? last + 1 : text;
	char *msg = strstr(text, "level=fatal msg=\"");
	if (!msg)
		msg = strstr(text, "level=error msg=\"");
	if (!msg)
		return last;
	msg = strchr(msg, '"') + 1;
	char *w = msg;
	for (char *r = msg; *r && *r != '"'; r++) {
		char c = *r;
		if (c == '\\' && r[1]) {
			c = *++r;
			if (c == 'n' || c == 't')
				c = ' ';
		}
		*w++ = c;
	}
	*w = '\0';
	return msg;
}
