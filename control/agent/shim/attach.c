/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/shim/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { WANT_IN = 1, WANT_OUT = 2, WANT_ERR = 4 };

struct client {
	int fd;
	unsigned wants; /* 0 until it has said so */
	bool eof;       /* gives no more input */
};
static struct {
	int listen_fd, in;
	bool tty, once;
	struct client c[N_ATTACH];
	char buf[16384]; /* input the container has not taken */
	size_t off, len;
	bool in_ends; /* once buf is taken */
} a = { .listen_fd = -1, .in = -1 };

int attach_open(bool tty)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "attach" };
	a.tty = tty;
	for (int i = 0; i < N_ATTACH; i++)
		a.c[i].fd = -1;
	unlink("attach");
	a.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	return a.listen_fd < 0 || bind(a.listen_fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	       listen(a.listen_fd, N_ATTACH);
}

void attach_input(int in, bool once)
{
	a.in = in;
	a.once = once;
	if (in >= 0)
		fcntl(in, F_SETFL, O_NONBLOCK);
}

static void drop(struct client *c)
{
	close(c->fd);
	*c = (struct client){ .fd = -1 };
}

static void end_input(void)
{
	if (a.in >= 0)
		close(a.in);
	a.in = -1;
	a.len = a.off = 0;
}

/* The client's first byte comes with the connection: it was sent before the order to go on. */
static void accept_all(void)
{
	struct timeval patience = { .tv_sec = ATTACH_PATIENCE };
	int fd;
	while ((fd = accept4(a.listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct client *c = NULL;
		unsigned char wants = 0;
		for (int i = 0; i < N_ATTACH && !c; i++)
			c = a.c[i].fd < 0 ? &a.c[i] : NULL;
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		if (!c || recv(fd, &wants, 1, 0) != 1) {
			close(fd);
			continue;
		}
		*c = (struct client){ .fd = fd, .wants = wants, .eof = !(wants & WANT_IN) };
	}
}

int attach_poll(struct pollfd *f)
{
	f[0] = (struct pollfd){ a.listen_fd, POLLIN, 0 };
	f[1] = (struct pollfd){ a.len ? a.in : -1, POLLOUT, 0 };
	for (int i = 0; i < N_ATTACH; i++) {
		/* Its hanging up is told whatever is asked for. */
		bool read = a.c[i].fd >= 0 && !a.c[i].eof && !a.len && a.in >= 0;
		f[2 + i] = (struct pollfd){ a.c[i].fd, read ? POLLIN : 0, 0 };
	}
	return 2 + N_ATTACH;
}

static void give_input(void)
{
	while (a.len && a.in >= 0) {
		ssize_t n = write(a.in, a.buf + a.off, a.len);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			end_input(); /* it reads no more */
			return;
		}
		a.off += (size_t)n;
		a.len -= (size_t)n;
	}
	if (a.in_ends)
		end_input();
}

static void take_input(struct client *c)
{
	ssize_t n = recv(c->fd, a.buf, sizeof(a.buf), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		drop(c);
		return;
	}
	a.off = 0;
	a.len = (size_t)n;
	if (n == 0) {
		c->eof = true;
		a.in_ends = a.once;
	}
	give_input();
}

void attach_polled(const struct pollfd *f)
{
	if (f[1].revents)
		give_input();
	for (int i = 0; i < N_ATTACH; i++) {
		if (a.c[i].fd < 0 || f[2 + i].fd != a.c[i].fd)
			continue;
		if (f[2 + i].revents & POLLIN)
			take_input(&a.c[i]);
		else if (f[2 + i].revents & (POLLHUP | POLLERR)) {
			bool gave = a.once && !a.c[i].eof;
			drop(&a.c[i]);
			a.in_ends |= gave;
			if (gave && !a.len)
				end_input();
		}
	}
	if (f[0].revents)
		accept_all();
}

static bool send_all(int fd, const void *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t k = send(fd, (const char *)p + done, n - done, MSG_NOSIGNAL);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		done += (size_t)k;
	}
	return true;
}

void attach_put(int stream, const char *p, size_t n)
{
	unsigned char h[8] = { (unsigned char)(stream + 1),
		               0,
		               0,
		               0,
		               (unsigned char)(n >> 24),
		               (unsigned char)(n >> 16),
		               (unsigned char)(n >> 8),
		               (unsigned char)n };
	accept_all();
	for (int i = 0; i < N_ATTACH; i++) {
		struct client *c = &a.c[i];
		if (c->fd < 0 || !(c->wants & (stream ? WANT_ERR : WANT_OUT)))
			continue;
		if ((!a.tty && !send_all(c->fd, h, sizeof(h))) || !send_all(c->fd, p, n))
			drop(c);
	}
}

void attach_close(void)
{
	for (int i = 0; i < N_ATTACH; i++)
		if (a.c[i].fd >= 0)
			drop(&a.c[i]);
	close(a.listen_fd);
	end_input();
}
