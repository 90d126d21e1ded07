// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The load under an instruction clock: a client and a server process with epoll on the guest's only CPU, eight
 * connections at a time. The clock counts all that both of them and the kernel between them execute.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bench/path/path.h"

enum { AT_ONCE = 8, WARM = 64, CRR_N = 320, RR_N = 1600 };

struct client {
	int ep;
	const struct ends *e;
	int to_start, to_finish;
	bool keep; /* ask again on the same connection */
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void watch(int ep, int how, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	need(epoll_ctl(ep, how, fd, &ev) == 0, "epoll_ctl");
}

static void take_all(int ep, int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		watch(ep, EPOLL_CTL_ADD, fd, EPOLLIN);
}

/* Until killed. */
static _Noreturn void serve(int listener)
{
	struct epoll_event ev[AT_ONCE];
	int ep = epoll_create1(EPOLL_CLOEXEC);
	char x;

	/* Also when the client fails, for it exits. */
	need(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && fcntl(listener, F_SETFL, O_NONBLOCK) == 0, "listener");
	watch(ep, EPOLL_CTL_ADD, listener, EPOLLIN);
	for (;;) {
		int n = epoll_wait(ep, ev, AT_ONCE, -1);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			if (fd == listener)
				take_all(ep, listener);
			else if (read(fd, &x, 1) == 1)
				need(write(fd, &x, 1) == 1, "answer");
			else
				close(fd);
		}
	}
}

static void dial(struct client *c)
{
	if (!c->to_start)
		return;
	c->to_start--;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (const struct sockaddr *)&c->e->to, sizeof(c->e->to));
	need(fd >= 0 && (rc == 0 || errno == EINPROGRESS), "connect");
	watch(c->ep, EPOLL_CTL_ADD, fd, EPOLLOUT);
}

static void on_event(struct client *c, int fd, uint32_t events)
{
	char x = 'x';

	if (events & EPOLLOUT) {
		need(write(fd, &x, 1) == 1, "request");
		watch(c->ep, EPOLL_CTL_MOD, fd, EPOLLIN);
		return;
	}
	need(read(fd, &x, 1) == 1, "answer");
	c->to_finish--;
	if (c->keep && c->to_finish >= AT_ONCE) {
		need(write(fd, &x, 1) == 1, "request");
		return;
	}
	close(fd);
	if (!c->keep)
		dial(c);
}

static void turn(struct client *c, int until)
{
	struct epoll_event ev[AT_ONCE];

	while (c->to_finish > until) {
		int n = epoll_wait(c->ep, ev, AT_ONCE, 5000);
		errno = ETIMEDOUT;
		need(n > 0, "answer");
		for (int i = 0; i < n; i++)
			on_event(c, ev[i].data.fd, ev[i].events);
	}
}

static double instructions_k(const struct ends *e, bool keep, int n)
{
	struct client c = { .ep = epoll_create1(EPOLL_CLOEXEC), .e = e, .keep = keep };

	c.to_start = keep ? AT_ONCE : n + WARM;
	c.to_finish = n + WARM;
	for (int i = 0; i < AT_ONCE; i++)
		dial(&c);
	turn(&c, n);
	double t = now_us();
	int from = c.to_finish;
	turn(&c, AT_ONCE);
	t = (now_us() - t) / (from - c.to_finish);
	turn(&c, 0);
	close(c.ep);
	return t;
}

void load_guest(const struct bed *b, const struct ends *e, struct figure f[OP_MAX])
{
	(void)b;
	pid_t pid = fork();

	need(pid >= 0, "fork");
	if (!pid)
		serve(e->listener);
	f[CRR].cpu_us = instructions_k(e, false, CRR_N);
	f[RR].cpu_us = instructions_k(e, true, RR_N);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}
