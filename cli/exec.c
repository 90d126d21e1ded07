/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/exec.h"
#include "cli/show.h"
#include "cli/spec.h"

static struct termios saved_terminal;
static bool terminal_raw;

static void terminal_restore(void)
{
	if (terminal_raw)
		tcsetattr(0, TCSADRAIN, &saved_terminal);
	terminal_raw = false;
}

static void terminal_make_raw(void)
{
	struct termios t;

	if (tcgetattr(0, &saved_terminal) < 0)
		return;
	t = saved_terminal;
	cfmakeraw(&t);
	terminal_raw = tcsetattr(0, TCSADRAIN, &t) == 0;
	atexit(terminal_restore);
}

static int write_all(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t w = write(fd, at, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		at += w;
		n -= (size_t)w;
	}
	return 0;
}

static void to_stdio(void *arg, int stream, const uint8_t *p, size_t n)
{
	int *failed = arg;

	if (write_all(stream == 2 ? 2 : 1, p, n) < 0)
		*failed = 1;
}

static int out_bytes(struct frames *f, bool tty, const uint8_t *p, size_t n, int *failed, struct mesh_err *err)
{
	if (!tty)
		return frames_feed(f, p, n, to_stdio, failed, err);
	to_stdio(failed, 1, p, n);
	return 0;
}

int attach_pump(int sock, const uint8_t *early, size_t early_len, bool tty, bool use_stdin, struct mesh_err *err)
{
	struct frames frames = { 0 };
	uint8_t chunk[32768];
	int failed = 0, rc = out_bytes(&frames, tty, early, early_len, &failed, err);
	bool input = use_stdin;

	while (!rc && !failed) {
		struct pollfd p[2] = { { .fd = sock, .events = POLLIN }, { .fd = input ? 0 : -1, .events = POLLIN } };
		if (poll(p, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return mesh_fail(err, -errno, "poll");
		}
		if (p[1].revents) {
			ssize_t n = read(0, chunk, sizeof(chunk));
			if (n <= 0) {
				input = false;
				(void)shutdown(sock, SHUT_WR); /* the command sees the end of its input */
			} else if (write_all(sock, chunk, (size_t)n) < 0) {
				input = false; /* it reads no more: what it still says is worth printing */
			}
		}
		if (p[0].revents) {
			ssize_t n = read(sock, chunk, sizeof(chunk));
			if (n < 0 && errno != ECONNRESET && errno != EINTR)
				return mesh_fail(err, -errno, "reading from the container");
			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return 0;
			rc = out_bytes(&frames, tty, chunk, (size_t)n, &failed, err);
		}
	}
	return rc;
}

/* The window as it is now; later changes are sent from the signal's flag between reads. */
static void send_size(struct cli *c, const char *kind, const char *id)
{
	struct winsize ws;
	struct cli side = { .host = c->host };

	if (ioctl(0, TIOCGWINSZ, &ws) < 0)
		return;
	/* a size that cannot be set is no reason not to run */
	(void)(api_post(&side, NULL, NULL, NULL, "/%s/%s/resize?h=%d&w=%d", kind, id, ws.ws_row, ws.ws_col) < 0);
	http_free(side.http);
}

static struct cli *resize_cli;
static const char *resize_id, *resize_kind;
static pid_t resize_child;

/* A helper process follows the window, so that the pump stays a plain loop. */
static void follow_size(struct cli *c, const char *kind, const char *id)
{
	sigset_t set;
	int sig;

	resize_cli = c;
	resize_id = id;
	resize_kind = kind;
	send_size(c, kind, id);
	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	resize_child = fork();
	if (resize_child)
		return;
	while (sigwait(&set, &sig) == 0)
		send_size(resize_cli, resize_kind, resize_id);
	_exit(0);
}

int attach_terminal(struct cli *c, const char *kind, const char *id, int sock, const uint8_t *early, size_t early_len,
                    bool tty, bool use_stdin, struct mesh_err *err)
{
	if (tty && isatty(0)) {
		terminal_make_raw();
		follow_size(c, kind, id);
	}
	int rc = attach_pump(sock, early, early_len, tty, use_stdin, err);
	terminal_restore();
	if (resize_child > 0)
		kill(resize_child, SIGKILL);
	return rc;
}

static int start(struct cli *c, const char *id, bool tty, bool input, struct mesh_err *err)
{
	CLEAN_FREE char *path = xasprintf("/exec/%s/start", id);
	CLEAN_FREE char *body = xasprintf("{\"Detach\":false,\"Tty\":%s}", tty ? "true" : "false");
	struct http_request req = {
		.method = "POST", .path = path, .body = body, .body_len = strlen(body), .upgrade = true
	};
	struct cli raw = { .host = c->host, .debug = c->debug };
	struct buf early = { 0 };
	int rc = api_stream(&raw, &req, err);

	if (rc < 0) {
		http_free(raw.http);
		return rc;
	}
	buf_put(&early, raw.http->ready.data, raw.http->ready.len);
	CLEAN_CLOSE int sock = http_take(raw.http, &early);
	http_free(raw.http);
	rc = attach_terminal(c, "exec", id, sock, early.data, early.len, tty, input, err);
	buf_fini(&early);
	return rc;
}

static int exec_body(struct cli *c, json_t **out, struct mesh_err *err)
{
	bool detach = flag_bool(c, "detach"), tty = flag_bool(c, "tty");
	json_t *env, *cmd = json_array();
	int rc = spec_env(flag_list(c, "env-file"), flag_list(c, "env"), &env, err);

	if (rc < 0) {
		json_decref(cmd);
		return rc;
	}
	for (int i = 1; i < c->nargs; i++)
		if (i > 1 || strcmp(c->args[i], "--"))
			json_array_append_new(cmd, json_string(c->args[i]));
	*out = json_pack("{s:s,s:b,s:b,s:b,s:b,s:b,s:s,s:s,s:o}", "User", flag_str(c, "user"), "Privileged",
	                 flag_bool(c, "privileged"), "Tty", tty, "AttachStdin", flag_bool(c, "interactive") && !detach,
	                 "AttachStderr", !detach, "AttachStdout", !detach, "DetachKeys", flag_str(c, "detach-keys"),
	                 "WorkingDir", flag_str(c, "workdir"), "Cmd", cmd);
	if (json_array_size(env))
		json_object_set(*out, "Env", env);
	json_decref(env);
	return 0;
}

static int run_exec(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN body = NULL;
	JSON_CLEAN created = NULL;
	JSON_CLEAN done = NULL;
	CLEAN_FREE char *name = url_dup(c->args[0]);
	bool tty = flag_bool(c, "tty"), input = flag_bool(c, "interactive");
	int rc = 0;

	if (tty && input && !flag_bool(c, "detach") && !isatty(0))
		return mesh_fail(err, MESH_E_INVALID, "the input device is not a TTY");
	rc = exec_body(c, &body, err);
	if (!rc)
		rc = api_post(c, body, &created, err, "/containers/%s/exec", name);
	if (rc < 0)
		return rc;
	const char *id = js(created, "Id");
	if (!*id)
		return mesh_fail(err, MESH_E_PROTOCOL, "exec ID empty");
	if (flag_bool(c, "detach")) {
		JSON_CLEAN how = json_pack("{s:b,s:b}", "Detach", 1, "Tty", tty);
		return api_post(c, how, NULL, err, "/exec/%s/start", id);
	}
	rc = start(c, id, tty, input, err);
	if (!rc)
		rc = api_get(c, &done, err, "/exec/%s/json", id);
	return rc < 0 ? rc : (int)ji(done, "ExitCode");
}

static const struct flag exec_flags[] = {
	{ "detach", 'd', F_BOOL, NULL, NULL, "Detached mode: run command in the background" },
	{ "detach-keys", 0, F_STR, NULL, NULL, "Override the key sequence for detaching a container" },
	{ "env", 'e', F_LIST, NULL, NULL, "Set environment variables" },
	{ "env-file", 0, F_LIST, NULL, NULL, "Read in a file of environment variables" },
	{ "interactive", 'i', F_BOOL, NULL, NULL, "Keep STDIN open even if not attached" },
	{ "privileged", 0, F_BOOL, NULL, NULL, "Give extended privileges to the command" },
	{ "tty", 't', F_BOOL, NULL, NULL, "Allocate a pseudo-TTY" },
	{ "user", 'u', F_STR, NULL, NULL, "Username or UID (format: \"<name|uid>[:<group|gid>]\")" },
	{ "workdir", 'w', F_STR, NULL, NULL, "Working directory inside the container" },
};

const struct command cmd_exec = {
	.name = "exec",
	.usage = "CONTAINER COMMAND [ARG...]",
	.summary = "Execute a command in a running container",
	FLAGS(exec_flags),
	.run = run_exec,
	.min = 2,
	.max = -1,
	.verbatim = true,
	.comp = "container",
	.example = "  meshctl exec -it web.1 sh",
};
