/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define N_CONN 4
#define DRAIN_MS 1000

enum phase { CREATING, CREATED, RUNNING, EXITED };

static struct {
	struct conf c;
	enum phase phase;
	pid_t pid;
	int listen_fd, sig_fd, lock_fd, tty_fd;
	int conn[N_CONN];
	char in[N_CONN][128];
	size_t in_len[N_CONN];
	int out[2];          /* read ends of stdout, stderr; the pty's master is out[0] */
	int child_out[2];    /* write ends until create */
	int child_in, in_fd; /* its input: the reading end until create, the writing end */
	int exit_code;
	int64_t start_ns, end_ns;
	char last[SHIM_LINE_MAX + 64]; /* newest line said */
} g;
static struct logw logw;

static int64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/* ---- talking ---- */

static void drop(int i)
{
	close(g.conn[i]);
	g.conn[i] = -1;
}

static void say(const char *line)
{
	snprintf(g.last, sizeof(g.last), "%s\n", line);
	for (int i = 0; i < N_CONN; i++)
		if (g.conn[i] >= 0 && send(g.conn[i], g.last, strlen(g.last), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			drop(i);
}

static void accept_one(void)
{
	int fd = accept4(g.listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	for (int i = 0; i < N_CONN; i++) {
		if (g.conn[i] >= 0)
			continue;
		g.conn[i] = fd;
		g.in_len[i] = 0;
		if (*g.last)
			(void)send(fd, g.last, strlen(g.last), MSG_NOSIGNAL | MSG_DONTWAIT);
		return;
	}
	close(fd);
}

static int sock_open(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "sock" };
	unlink("sock");
	g.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return g.listen_fd < 0 || bind(g.listen_fd, (struct sockaddr *)&a, sizeof(a)) || listen(g.listen_fd, 4);
}

/* ---- the exit, said and written ---- */

static long oom_kills(void)
{
	char text[4096], *p;
	int fd = *g.c.oom ? open(g.c.oom, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	p = strstr(text, "oom_kill ");
	return p ? atol(p + 9) : 0;
}

static void write_exit(const char *text)
{
	char line[SHIM_LINE_MAX + 128];
	int n = snprintf(line, sizeof(line), "exit %d %ld %lld %lld %.*s", g.exit_code, oom_kills(),
	                 (long long)g.start_ns, (long long)g.end_ns, SHIM_LINE_MAX - 120, text);
	for (int i = 0; i < n; i++)
		if (line[i] == '\n')
			line[i] = ' ';
	char said[SHIM_LINE_MAX + 1];
	snprintf(said, sizeof(said), "%s", line);
	g.phase = EXITED;
	say(said); /* first: until the data plane hears of it, others are sent here */
	int fd = open("exit.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd >= 0) {
		(void)!write(fd, line, (size_t)n);
		fsync(fd);
		close(fd);
		rename("exit.tmp", "exit");
	}
}

static _Noreturn void give_up(const char *text)
{
	g.exit_code = -1;
	g.end_ns = now_ns();
	write_exit(text);
	exit(1);
}

/* ---- the runtime ---- */

static void child_setup(int in, int out, int err)
{
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
}

/* Runs the runtime to its end. Its exit status, 127 when there is no such program. */
static int runtime(const char *const *args, int in, int out, int err)
{
	const char *argv[16] = { g.c.runtime, "--root", g.c.root, "--log", "runtime.log" };
	int n = 5;
	if (strstr(g.c.runtime, "crun"))
		argv[n++] = "--cgroup-manager=cgroupfs";
	while (*args && n < 15)
		argv[n++] = *args++;
	argv[n] = NULL;
	pid_t p = fork();
	if (p < 0)
		return 126;
	if (!p) {
		child_setup(in, out, err);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	int status;
	while (waitpid(p, &status, 0) < 0)
		if (errno != EINTR)
			return 126;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int null_fd(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static void runtime_delete(void)
{
	int n = null_fd();
	runtime((const char *[]){ "delete", "-f", g.c.id, NULL }, n, n, n);
	close(n);
}

/* The runtime's own last words. */
static void last_words(int rc, const char *doing, char why[SHIM_LINE_MAX])
{
	char text[2048];
	if (rc == 127) {
		snprintf(why, SHIM_LINE_MAX, "%s: not found; install the package %s", g.c.runtime, g.c.runtime);
		return;
	}
	int fd = open("runtime.log", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	if (fd >= 0)
		close(fd);
	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n > 0 ? n : 0] = 0;
	char *line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	snprintf(why, SHIM_LINE_MAX, "OCI runtime %s failed: %.380s", doing, *line ? line : "no reason given");
}

static int console_listen(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX, .sun_path = "console" };
	unlink("console");
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 1))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int console_take(int listen_fd)
{
	int fd = -1, conn = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	close(listen_fd);
	unlink("console");
	if (conn < 0)
		return -1;
	char byte[64], ctl[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { byte, sizeof(byte) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl) };
	if (recvmsg(conn, &m, MSG_CMSG_CLOEXEC) >= 0) {
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		if (h && h->cmsg_type == SCM_RIGHTS)
			memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	}
	close(conn);
	return fd;
}

static int stdio_open(void)
{
	int p[2];
	for (int i = 0; i < 2; i++) {
		if (pipe2(p, O_CLOEXEC))
			return -1;
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		g.out[i] = p[0];
		g.child_out[i] = p[1];
	}
	g.child_in = null_fd();
	/* Open stdin: a pipe whose other end stays here, so that the task sees no end of it that nobody gave. */
	if (g.c.stdin_open && !g.c.tty && !pipe2(p, O_CLOEXEC)) {
		close(g.child_in);
		g.child_in = p[0];
		g.in_fd = p[1];
	}
	return g.child_in < 0 ? -1 : 0;
}

static void stdio_close_child(void)
{
	close(g.child_in);
	close(g.child_out[0]);
	close(g.child_out[1]);
}

static int read_pid(void)
{
	char text[32];
	int fd = open("pid", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	return atoi(text);
}

static void create(void)
{
	char why[SHIM_LINE_MAX];
	const char *args[10] = { "create", "--bundle", ".", "--pid-file", "pid" };
	int n = 5, console = -1;
	if (g.c.tty) {
		console = console_listen();
		args[n++] = "--console-socket";
		args[n++] = "console";
	}
	args[n++] = g.c.id;
	if (stdio_open())
		give_up("pipes for stdio");
	int rc = runtime(args, g.child_in, g.child_out[0], g.child_out[1]);
	stdio_close_child();
	g.pid = rc ? 0 : read_pid();
	if (rc || g.pid <= 0) {
		last_words(rc, "create", why);
		runtime_delete();
		give_up(why);
	}
	if (g.c.tty) {
		close(g.out[0]);
		g.out[0] = g.tty_fd = console_take(console);
		if (g.tty_fd >= 0)
			fcntl(g.tty_fd, F_SETFL, O_NONBLOCK);
		g.in_fd = g.c.stdin_open && g.tty_fd >= 0 ? fcntl(g.tty_fd, F_DUPFD_CLOEXEC, 3) : -1;
	}
	attach_input(g.in_fd, g.c.stdin_once && !g.c.tty);
	g.phase = CREATED;
	snprintf(why, sizeof(why), "created %d", g.pid);
	say(why);
}

static void start(void)
{
	char why[SHIM_LINE_MAX];
	int n = null_fd();
	g.start_ns = now_ns();
	int rc = runtime((const char *[]){ "start", g.c.id, NULL }, n, n, n);
	close(n);
	if (rc) {
		last_words(rc, "start", why);
		runtime_delete();
		give_up(why);
	}
	g.phase = RUNNING;
	snprintf(why, sizeof(why), "running %d %lld", g.pid, (long long)g.start_ns);
	say(why);
}

/* ---- orders ---- */

static void kill_all(void)
{
	kill(g.pid, SIGKILL);
	int fd = *g.c.kill ? open(g.c.kill, O_WRONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		(void)!write(fd, "1", 1);
		close(fd);
	}
}

static void order(char *line)
{
	int a, b;
	if (!strcmp(line, "go") && g.phase == CREATED) {
		start();
	} else if (!strcmp(line, "abort") && g.phase == CREATED) {
		runtime_delete();
		give_up("stopped before it started");
	} else if (sscanf(line, "sig %d", &a) == 1 && g.phase == RUNNING && a > 0 && a < 65) {
		if (a == SIGKILL)
			kill_all();
		else
			kill(g.pid, a);
	} else if (sscanf(line, "resize %d %d", &a, &b) == 2 && g.tty_fd >= 0) {
		struct winsize ws = { .ws_row = (unsigned short)a, .ws_col = (unsigned short)b };
		ioctl(g.tty_fd, TIOCSWINSZ, &ws);
	}
}

static void conn_read(int i)
{
	size_t room = sizeof(g.in[i]) - 1 - g.in_len[i];
	ssize_t n = read(g.conn[i], g.in[i] + g.in_len[i], room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop(i);
		return;
	}
	g.in_len[i] += (size_t)n;
	g.in[i][g.in_len[i]] = 0;
	for (char *nl; (nl = strchr(g.in[i], '\n'));) {
		char line[128];
		*nl = 0;
		strcpy(line, g.in[i]);
		g.in_len[i] -= (size_t)(nl + 1 - g.in[i]);
		memmove(g.in[i], nl + 1, g.in_len[i] + 1);
		order(line);
	}
	if (g.in_len[i] == sizeof(g.in[i]) - 1)
		drop(i); /* no order is that long */
}

/* ---- the loop ---- */

/* false: this stream has ended. */
static bool pump(int stream)
{
	static char chunk[LOGW_LINE];
	for (int round = 0; round < 16; round++) {
		ssize_t n = read(g.out[stream], chunk, sizeof(chunk));
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n <= 0) {
			close(g.out[stream]);
			g.out[stream] = -1;
			return false;
		}
		if (g.c.log)
			logw_put(&logw, stream, chunk, (size_t)n, now_ns());
		attach_put(stream, chunk, (size_t)n);
	}
	if (g.c.log)
		logw_flush(&logw);
	return true;
}

static void reap(void)
{
	struct signalfd_siginfo si;
	while (read(g.sig_fd, &si, sizeof(si)) == sizeof(si))
		;
	int status;
	for (pid_t p; (p = waitpid(-1, &status, WNOHANG)) > 0;) {
		if (p != g.pid)
			continue;
		g.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
		g.end_ns = now_ns();
		g.phase = EXITED;
	}
}

static void wait_events(int timeout_ms)
{
	struct pollfd f[4 + N_CONN + 2 + N_ATTACH] = { { g.sig_fd, POLLIN, 0 }, { g.listen_fd, POLLIN, 0 } };
	for (int i = 0; i < 2; i++)
		f[2 + i] = (struct pollfd){ g.out[i], POLLIN, 0 };
	for (int i = 0; i < N_CONN; i++)
		f[4 + i] = (struct pollfd){ g.conn[i], POLLIN, 0 };
	int clients = attach_poll(f + 4 + N_CONN);
	if (poll(f, (nfds_t)(4 + N_CONN + clients), timeout_ms) < 0)
		return;
	attach_polled(f + 4 + N_CONN); /* before orders: who attached before "go" sees all of it */
	for (int i = 0; i < 2; i++)
		if (f[2 + i].revents && g.out[i] >= 0)
			pump(i);
	if (f[0].revents)
		reap();
	if (f[1].revents)
		accept_one();
	for (int i = 0; i < N_CONN; i++)
		if (f[4 + i].revents && g.conn[i] == f[4 + i].fd && g.conn[i] >= 0)
			conn_read(i);
}

/* Everything in the container is dead with its init, so the pipes end at once; a held one costs a second. */
static void drain(void)
{
	int64_t until = now_ns() + DRAIN_MS * 1000000LL;
	while ((g.out[0] >= 0 || g.out[1] >= 0) && now_ns() < until) {
		struct pollfd f[2] = { { g.out[0], POLLIN, 0 }, { g.out[1], POLLIN, 0 } };
		if (poll(f, 2, 100) < 0 && errno != EINTR)
			break;
		for (int i = 0; i < 2; i++)
			if (f[i].revents && g.out[i] >= 0)
				pump(i);
	}
	if (g.c.log)
		logw_end(&logw, g.end_ns);
}

static void begin(void)
{
	char why[SHIM_LINE_MAX];
	sigset_t chld;
	g.listen_fd = g.sig_fd = g.tty_fd = g.in_fd = g.out[0] = g.out[1] = -1;
	for (int i = 0; i < N_CONN; i++)
		g.conn[i] = -1;
	g.conn[0] = SHIM_SOCK_FD;
	fcntl(SHIM_SOCK_FD, F_SETFD, FD_CLOEXEC);
	fcntl(SHIM_SOCK_FD, F_SETFL, O_NONBLOCK);
	fcntl(SHIM_CONF_FD, F_SETFD, FD_CLOEXEC);
	if (conf_read(SHIM_CONF_FD, &g.c) || chdir(g.c.dir))
		exit(2);
	umask(022);
	g.lock_fd = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (g.lock_fd < 0 || flock(g.lock_fd, LOCK_EX | LOCK_NB))
		exit(3);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	g.sig_fd = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "mesh-shim");
	if (g.sig_fd < 0 || sock_open() || attach_open(g.c.tty))
		give_up("control socket");
	if (setup_all(&g.c, why))
		give_up(why);
	close(SHIM_CONF_FD);
	if (g.c.log)
		logw_open(&logw, g.c.log_max, g.c.log_files);
}

int main(int argc, char **argv)
{
	const char *base = strrchr(argv[0], '/');
	base = base ? base + 1 : argv[0];
	if (argc > 1 && !strcmp(base, "docker-init"))
		return init_main(argv + 1);
	begin();
	create();
	while (g.phase != EXITED)
		wait_events(-1);
	drain();
	attach_close();
	write_exit("");
	runtime_delete();
	return 0;
}
