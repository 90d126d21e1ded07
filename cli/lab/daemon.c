/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/mem.h"
#include "cli/http.h"
#include "cli/lab/lab.h"

static void pid_path(const struct lab *l, int node, char *out)
{
	char dir[LAB_STR];

	lab_run_dir(l, node, dir);
	snprintf(out, LAB_STR + 16, "%s/meshd.pid", dir);
}

/*
 * The command line of a process, its strings ended by NUL. While a process is exec'ing it has none for a moment, though
 * it lives; a kernel thread never has one. -> its length, 0 when there is none.
 */
static size_t command_line(pid_t pid, char *text, size_t cap)
{
	char path[64];

	CLEAN_CLOSE int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };
	for (int left = 100; left > 0; left--) {
		CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, text, cap - 1);
		if (n > 0) {
			text[n] = 0;
			return (size_t)n;
		}
		if (n < 0 || poll(&ended, 1, 1) != 0)
			break;
	}
	return 0;
}

/* A pid alone proves nothing after a reboot or a wrap: the command line must name this node. */
static bool is_our_daemon(pid_t pid, const char *name)
{
	char text[4096];
	size_t n = command_line(pid, text, sizeof(text));
	bool after_name = false;
	for (char *p = text; p < text + n; p += strlen(p) + 1) {
		if (after_name && !strcmp(p, name))
			return true;
		after_name = !strcmp(p, "--name");
	}
	return false;
}

pid_t lab_daemon_pid(const struct lab *l, int node)
{
	char path[LAB_STR + 16], name[LAB_STR];
	int pid = -1;

	pid_path(l, node, path);
	lab_cgroup(l, node, name);
	FILE *f = fopen(path, "re");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &pid) != 1)
		pid = -1;
	fclose(f);
	return pid > 0 && is_our_daemon(pid, name) ? pid : -1;
}

static char *find_meshd(struct mesh_err *err)
{
	const char *env = getenv("MESHD");
	char self[4096];

	if (env && *env)
		return xstrdup(env);
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 8);
	if (n > 0) {
		self[n] = 0;
		char *slash = strrchr(self, '/');
		strcpy(slash + 1, "meshd");
		if (access(self, X_OK) == 0)
			return xstrdup(self);
	}
	if (access("/usr/local/bin/meshd", X_OK) == 0)
		return xstrdup("/usr/local/bin/meshd");
	if (access("/usr/bin/meshd", X_OK) == 0)
		return xstrdup("/usr/bin/meshd");
	(void)mesh_fail(err, MESH_E_NOT_FOUND,
	                "meshd was not found beside meshctl: build it, or set MESHD=/path/to/meshd");
	return NULL;
}

/* told: closed by the exec, or says why there was none. */
static _Noreturn void daemon_exec(const struct lab *l, int node, const char *meshd, int log, int told)
{
	char name[LAB_STR], state[LAB_STR], run[LAB_STR], sock[LAB_STR], host[16], addr[LAB_STR];
	struct mesh_err err = { 0 };

	lab_cgroup(l, node, name);
	lab_state_dir(l, node, state);
	lab_run_dir(l, node, run);
	lab_socket(l, node, sock);
	lab_address(l, node, addr);
	snprintf(host, sizeof(host), "n%d", node);
	setsid();
	CLEAN_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	dup2(null, 0);
	dup2(log, 1);
	dup2(log, 2);
	signal(SIGPIPE, SIG_DFL);
	if (lab_enter(l, node, &err) < 0 || chdir("/") < 0) {
		dprintf(told, "%s", err.msg);
		_exit(126);
	}
	const char *level = getenv("MESH_LOG_LEVEL"), *plane = lab_data_plane(l->data_plane, node);
	execl(meshd, "meshd", "--name", name, "--state", state, "--run", run, "--socket", sock, "--hostname", host,
	      "--advertise-addr", addr, "--data-plane", plane ? plane : "auto", "--xdp", l->xdp ? "on" : "off",
	      "--log-level", level && *level ? level : "info", (char *)NULL);
	dprintf(told, "%s: %s", meshd, strerror(errno));
	_exit(127);
}

int lab_daemon_start(const struct lab *l, int node, struct mesh_err *err)
{
	char state[LAB_STR], run[LAB_STR], log_path[LAB_STR + 16], path[LAB_STR + 16];

	if (lab_daemon_pid(l, node) > 0)
		return 0;
	CLEAN_FREE char *meshd = find_meshd(err);
	if (!meshd)
		return MESH_E_NOT_FOUND;
	lab_state_dir(l, node, state);
	lab_run_dir(l, node, run);
	int rc = lab_mkdirs(state, err);
	if (!rc)
		rc = lab_mkdirs(run, err);
	if (rc < 0)
		return rc;
	snprintf(log_path, sizeof(log_path), "%s/meshd.log", state);
	CLEAN_CLOSE int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (log < 0)
		return mesh_fail(err, -errno, "%s", log_path);
	int told[2];
	if (pipe2(told, O_CLOEXEC) < 0)
		return mesh_fail(err, -errno, "pipe");
	pid_t pid = fork();
	if (pid == 0)
		daemon_exec(l, node, meshd, log, told[1]);
	int saved = errno;
	close(told[1]);
	char why[512];
	ssize_t n = pid < 0 ? -1 : read(told[0], why, sizeof(why) - 1);
	close(told[0]);
	if (pid < 0)
		return mesh_fail(err, -saved, "fork");
	if (n > 0) {
		(void)waitpid(pid, NULL, 0);
		return mesh_fail(err, MESH_E_RUNTIME, "starting n%d: %.*s", node, (int)n, why);
	}
	pid_path(l, node, path);
	FILE *f = fopen(path, "we");
	if (!f || fprintf(f, "%d\n", (int)pid) < 0)
		rc = mesh_fail(err, -errno, "%s", path);
	if (f && fclose(f) && !rc)
		rc = mesh_fail(err, -errno, "%s", path);
	return rc;
}

/* Both the fork until it is exec'ed, and a zombie of ours, are to be told from a running daemon. */
static bool exited(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == pid;
}

int lab_daemon_stop(const struct lab *l, int node, bool hard, struct mesh_err *err)
{
	pid_t pid = lab_daemon_pid(l, node);
	char path[LAB_STR + 16];

	pid_path(l, node, path);
	if (pid < 0)
		return 0;
	CLEAN_CLOSE int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? 0 : mesh_fail(err, -errno, "pidfd of %d", (int)pid);
	/* Between reading the pid and holding it, the number could have changed hands. */
	if (lab_daemon_pid(l, node) != pid)
		return 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	if (!hard) {
		if (syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) < 0 && errno != ESRCH)
			return mesh_fail(err, -errno, "stopping n%d", node);
		if (poll(&p, 1, 20000) > 0)
			goto gone;
		fprintf(stderr, "n%d did not stop within 20 s: killing it\n", node);
	}
	if (syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return mesh_fail(err, -errno, "killing n%d", node);
	if (poll(&p, 1, 20000) <= 0)
		return mesh_fail(err, MESH_E_TIMEOUT, "n%d (pid %d) does not die", node, (int)pid);
gone:
	(void)exited(pid);
	(void)unlink(path); /* gone already is as good */
	return 0;
}

static void log_tail(const struct lab *l, int node, char *out, size_t cap)
{
	char state[LAB_STR], path[LAB_STR + 16];

	lab_state_dir(l, node, state);
	snprintf(path, sizeof(path), "%s/meshd.log", state);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	out[0] = 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	off_t from = st.st_size > (off_t)cap - 1 ? st.st_size - (off_t)cap + 1 : 0;
	ssize_t n = pread(fd, out, cap - 1, from);
	out[n > 0 ? n : 0] = 0;
}

int lab_daemon_wait(const struct lab *l, int node, int timeout_ms, struct mesh_err *err)
{
	char sock[LAB_STR], tail[500];
	const struct timespec pause = { .tv_nsec = 20 * 1000000 };
	struct timespec t0, t;

	lab_socket(l, node, sock);
	CLEAN_FREE char *host = xasprintf("unix://%s", sock);
	clock_gettime(CLOCK_MONOTONIC, &t0);
	for (;;) {
		struct http *h = http_new(host);
		struct http_request req = { .method = "GET", .path = "/_ping", .timeout_ms = 2000 };
		struct buf body = { 0 };
		int status = 0, rc = http_call(h, &req, &status, &body, NULL);
		buf_fini(&body);
		http_free(h);
		if (!rc && status == 200)
			return 0;
		pid_t pid = lab_daemon_pid(l, node);
		clock_gettime(CLOCK_MONOTONIC, &t);
		long ms = (t.tv_sec - t0.tv_sec) * 1000 + (t.tv_nsec - t0.tv_nsec) / 1000000;
		if (pid < 0 || ms > timeout_ms) {
			log_tail(l, node, tail, sizeof(tail));
			return mesh_fail(err, MESH_E_TIMEOUT, "n%d %s; the end of its log:\n%s", node,
			                 pid < 0 ? "died" : "does not answer", tail);
		}
		nanosleep(&pause, NULL);
	}
}
