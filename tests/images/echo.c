/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The program inside the demo image: a small HTTP/1.1 server that says who it is and who it thinks asks, and a UDP
 * echo on the same port. One thread, epoll, keep-alive.
 *
 *   GET /            host, version, client address as seen, own address
 *   GET /health      ok
 *   GET /slow?ms=N   the same, N milliseconds later
 *   GET /back        also asks http://$BACK/ and includes its answer
 *
 * Environment: PORT (8000), VERSION, BACK (host[:port]), LISTEN_DELAY_MS (listen only after), ON_TERM (exit: at once;
 * drain: stop accepting, finish what was accepted, exit), EXIT_AFTER_MS and EXIT_CODE (end by itself).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONN 65536
#define REQUEST_MAX 4096

struct conn {
	int fd;
	size_t len;
	bool close_after;
	int64_t due_ms; /* an answer that waits for its time, 0: none */
	char target[256];
	char in[REQUEST_MAX];
};

static struct conn *conns[MAX_CONN];
static int listener = -1, udp = -1, epfd, open_conns, delayed;
static bool draining;

static int64_t now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static const char *env(const char *name, const char *def)
{
	const char *v = getenv(name);
	return v && *v ? v : def;
}

static void address(const struct sockaddr_in *a, char *out, size_t n)
{
	char ip[INET_ADDRSTRLEN];
	inet_ntop(AF_INET, &a->sin_addr, ip, sizeof(ip));
	snprintf(out, n, "%s:%u", ip, ntohs(a->sin_port));
}

static void drop(struct conn *c)
{
	if (c->due_ms)
		delayed--;
	conns[c->fd] = NULL;
	close(c->fd);
	free(c);
	open_conns--;
}

/* One blocking request to the back service, with a bound; its body or a reason. */
static void ask_back(char *out, size_t n)
{
	char host[128], req[256], buf[4096];
	const char *back = env("BACK", ""), *colon = strchr(back, ':');
	struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM }, *ai;
	snprintf(host, sizeof(host), "%.*s", (int)(colon ? colon - back : (long)strlen(back)), back);
	if (!*host) {
		snprintf(out, n, "BACK is not set");
		return;
	}
	int rc = getaddrinfo(host, colon ? colon + 1 : "8000", &hints, &ai);
	if (rc) {
		snprintf(out, n, "%s: %s", host, gai_strerror(rc));
		return;
	}
	struct timeval tv = { .tv_sec = 5 };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	size_t len = 0;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen)) {
		snprintf(out, n, "%s: %s", host, strerror(errno));
	} else {
		int m = snprintf(req, sizeof(req), "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host);
		ssize_t r = send(fd, req, (size_t)m, MSG_NOSIGNAL);
		while (r > 0 && len < sizeof(buf) - 1 && (r = recv(fd, buf + len, sizeof(buf) - 1 - len, 0)) > 0)
			len += (size_t)r;
		buf[len] = '\0';
		char *body = strstr(buf, "\r\n\r\n");
		snprintf(out, n, "%s", body ? body + 4 : "no answer");
		out[strcspn(out, "\n")] = '\0';
	}
	close(fd);
	freeaddrinfo(ai);
}

static void answer(struct conn *c)
{
	struct sockaddr_in peer = { 0 }, self = { 0 };
	socklen_t len = sizeof(peer);
	char client[64], own[64], host[128], body[2048], head[256], back[1024] = "";
	getpeername(c->fd, (struct sockaddr *)&peer, &len);
	len = sizeof(self);
	getsockname(c->fd, (struct sockaddr *)&self, &len);
	address(&peer, client, sizeof(client));
	address(&self, own, sizeof(own));
	gethostname(host, sizeof(host));
	if (strcmp(c->target, "/health") == 0) {
		snprintf(body, sizeof(body), "ok\n");
	} else if (strncmp(c->target, "/back", 5) == 0) {
		ask_back(back, sizeof(back));
		snprintf(body, sizeof(body), "host=%s version=%s client=%s self=%s path=%s back=[%s]\n", host,
		         env("VERSION", "0"), client, own, c->target, back);
	} else {
		snprintf(body, sizeof(body), "host=%s version=%s client=%s self=%s path=%s\n", host,
		         env("VERSION", "0"), client, own, c->target);
	}
	bool last = c->close_after || draining;
	int n = snprintf(head, sizeof(head),
	                 "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n%s\r\n", strlen(body),
	                 last ? "Connection: close\r\n" : "");
	char all[2560];
	memcpy(all, head, (size_t)n);
	memcpy(all + n, body, strlen(body));
	/* Answers are far smaller than a socket buffer; what does not fit is a client that does not read. */
	ssize_t w = send(c->fd, all, (size_t)n + strlen(body), MSG_NOSIGNAL);
	printf("%s %s\n", client, c->target);
	if (w < 0 || last)
		drop(c);
}

static void handle(struct conn *c)
{
	while (!c->due_ms) {
		char *end = memmem(c->in, c->len, "\r\n\r\n", 4);
		if (!end) {
			if (c->len == sizeof(c->in))
				drop(c);
			return;
		}
		*end = '\0';
		char method[16] = "", version[16] = "";
		sscanf(c->in, "%15s %255s %15s", method, c->target, version);
		c->close_after = strcmp(version, "HTTP/1.0") == 0 || strcasestr(c->in, "\nconnection: close") != NULL;
		size_t used = (size_t)(end - c->in) + 4;
		memmove(c->in, c->in + used, c->len - used);
		c->len -= used;
		char *ms = strncmp(c->target, "/slow", 5) == 0 ? strstr(c->target, "ms=") : NULL;
		if (ms) {
			c->due_ms = now_ms() + atol(ms + 3);
			delayed++;
			return;
		}
		int fd = c->fd;
		answer(c);
		if (conns[fd] != c)
			return;
	}
}

static void on_readable(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, 0);
	if (n <= 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		drop(c);
		return;
	}
	c->len += (size_t)n;
	handle(c);
}

static void on_accept(void)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd < 0)
			return;
		if (fd >= MAX_CONN) {
			close(fd);
			continue;
		}
		struct conn *c = calloc(1, sizeof(*c));
		c->fd = fd;
		conns[fd] = c;
		open_conns++;
		struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
		epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
	}
}

static void on_datagram(void)
{
	char in[1500], out[2048], client[64], host[128];
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	ssize_t n = recvfrom(udp, in, sizeof(in) - 1, MSG_DONTWAIT, (struct sockaddr *)&peer, &len);
	if (n < 0)
		return;
	in[n] = '\0';
	address(&peer, client, sizeof(client));
	gethostname(host, sizeof(host));
	int m = snprintf(out, sizeof(out), "host=%s version=%s client=%s said=%s", host, env("VERSION", "0"), client,
	                 in);
	sendto(udp, out, (size_t)m, MSG_DONTWAIT, (struct sockaddr *)&peer, len);
}

static void watch(int fd)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };
	epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev);
}

static int start_listening(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(env("PORT", "8000"))) };
	int one = 1;
	listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) || listen(listener, 4096) ||
	    bind(udp, (struct sockaddr *)&a, sizeof(a))) {
		perror("echo: bind");
		return 1;
	}
	watch(listener);
	watch(udp);
	printf("listening on port %u version=%s\n", ntohs(a.sin_port), env("VERSION", "0"));
	return 0;
}

static void run_due(int64_t now)
{
	for (int fd = 0; delayed && fd < MAX_CONN; fd++) {
		struct conn *c = conns[fd];
		if (!c || !c->due_ms || c->due_ms > now)
			continue;
		c->due_ms = 0;
		delayed--;
		answer(c);
		if (conns[fd] == c)
			handle(c);
	}
}

int main(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	epfd = epoll_create1(EPOLL_CLOEXEC);
	int sfd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	watch(sfd);
	int64_t start = now_ms(), listen_at = start + atol(env("LISTEN_DELAY_MS", "0"));
	int64_t exit_at = *env("EXIT_AFTER_MS", "") ? start + atol(getenv("EXIT_AFTER_MS")) : INT64_MAX;
	for (;;) {
		int64_t now = now_ms();
		if (listener < 0 && !draining && now >= listen_at && start_listening())
			return 1;
		if (now >= exit_at)
			return atoi(env("EXIT_CODE", "0"));
		if (draining && !open_conns)
			return 0;
		run_due(now);
		struct epoll_event ev[256];
		int wait = delayed ? 2 : listener < 0 ? 5 : exit_at != INT64_MAX ? 10 : -1;
		int n = epoll_wait(epfd, ev, 256, wait);
		for (int i = 0; i < n; i++) {
			int fd = ev[i].data.fd;
			struct signalfd_siginfo si;
			if (fd == listener)
				on_accept();
			else if (fd == udp)
				on_datagram();
			else if (fd == sfd && read(sfd, &si, sizeof(si)) == sizeof(si)) {
				if (strcmp(env("ON_TERM", "exit"), "drain") != 0)
					return 0;
				draining = true;
				close(listener);
				/* Idle keep-alive connections have nothing left to finish. */
				for (int k = 0; k < MAX_CONN; k++)
					if (conns[k] && !conns[k]->due_ms && !conns[k]->len)
						drop(conns[k]);
			} else if (fd < MAX_CONN && conns[fd])
				on_readable(conns[fd]);
		}
	}
}
