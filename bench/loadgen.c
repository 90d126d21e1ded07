/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open-loop load generator: requests start when their time has come, whether or not earlier ones were answered, and
 * none is tried twice. Latency counts from the time a request was due, so that a stall shows.
 *
 *   loadgen [--timeout MS] CLASS... TARGET...
 *   CLASS    new:RATE[:MS]           HTTP, every request a connection of its own; asks for an answer after MS
 *            keep:RATE:CONNS[:AGE]   HTTP keep-alive over up to CONNS connections, each closed by us after AGE ms
 *            udp:RATE                request and response, every one from a socket of its own
 *   TARGET   ADDRESS:PORT            taken in turn
 *
 * Prints "first answer" once a target answers, and at the end one JSON object. Reads commands: "more N" answers "done"
 * once N more requests were started; "stop" or the end of input ends the loop: what is open is waited for.
 *
 * A request fails as refused, reset, empty (closed before the whole answer), timeout or other. A keep-alive connection
 * that the other side closes while nothing is asked on it is no failure, it is counted as idle_closed.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000LL
#define NS_PER_SEC 1000000000LL
#define CLASSES_MAX 16
#define TARGETS_MAX 64
#define SEEN_MAX 128
#define LISTED_MAX 400
#define ANSWER_MAX 1024
/* Latency in buckets of 1/16 of a power of two microseconds. */
#define SUB 16
#define BUCKETS (32 * SUB)

enum kind { NEW, KEEP, UDP };
enum result { OK, REFUSED, RESET, EMPTY, TIMEOUT, OTHER, RESULT_MAX };
static const char *const result_names[] = { "ok", "refused", "reset", "empty", "timeout", "other" };

struct conn {
	struct conn *prev, *next; /* in class.asked, oldest first, or class.idle */
	struct class *class;
	int fd;
	unsigned target;
	bool asking, connected;
	uint16_t port;  /* our own, to find it in a trace */
	uint64_t begin; /* when the request was due */
	uint64_t born;
	size_t len;
	char in[ANSWER_MAX];
};

struct list {
	struct conn *first, *last;
	size_t n;
};

struct class
{
	const char *text;
	enum kind kind;
	double rate;
	long ms, conns, age_ms;
	uint64_t due, started, sent, count[RESULT_MAX], idle_closed;
	uint64_t buckets[BUCKETS], max_us;
	struct list asked, idle;
};

struct seen {
	char name[64];
	uint64_t n;
};

struct failure {
	struct class *class;
	enum result result;
	int err;
	unsigned target;
	uint16_t port;
	uint64_t begin, end;
};

static struct class classes[CLASSES_MAX];
static struct sockaddr_in targets[TARGETS_MAX];
static const char *target_names[TARGETS_MAX];
static unsigned n_classes, n_targets, next_target;
static struct seen hosts[SEEN_MAX], versions[SEEN_MAX];
static struct failure failures[LISTED_MAX];
static size_t n_failures;
static int epfd;
static uint64_t start_ns, total, more_at, timeout_ns = 5 * NS_PER_SEC;
static bool stopping;

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void list_add(struct list *l, struct conn *c)
{
	c->next = NULL;
	c->prev = l->last;
	*(l->last ? &l->last->next : &l->first) = c;
	l->last = c;
	l->n++;
}

static void list_del(struct list *l, struct conn *c)
{
	*(c->prev ? &c->prev->next : &l->first) = c->next;
	*(c->next ? &c->next->prev : &l->last) = c->prev;
	l->n--;
}

static unsigned bucket_of(uint64_t us)
{
	if (us < SUB)
		return (unsigned)us;
	unsigned top = 63 - (unsigned)__builtin_clzll(us), i = (top - 3) * SUB + (unsigned)(us >> (top - 4)) % SUB;
	return i < BUCKETS ? i : BUCKETS - 1;
}

/* The upper end of a bucket. */
static uint64_t bucket_us(unsigned i)
{
	if (i < SUB)
		return i;
	unsigned top = i / SUB + 3;
	return ((uint64_t)(SUB + i % SUB + 1) << (top - 4)) - 1;
}

static double percentile_ms(const struct class *c, double p)
{
	uint64_t want = (uint64_t)((double)c->count[OK] * p + 0.999999), have = 0;
	for (unsigned i = 0; c->count[OK] && i < BUCKETS; i++) {
		have += c->buckets[i];
		if (have >= want)
			return (double)(bucket_us(i) < c->max_us ? bucket_us(i) : c->max_us) / 1000;
	}
	return 0;
}

static void count_name(struct seen *table, const char *answer, const char *key)
{
	const char *at = strstr(answer, key);
	if (!at)
		return;
	char name[64];
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(at + strlen(key), " \r\n"), at + strlen(key));
	for (unsigned i = 0; i < SEEN_MAX; i++) {
		if (table[i].n && strcmp(table[i].name, name) != 0)
			continue;
		memcpy(table[i].name, name, sizeof(name));
		table[i].n++;
		return;
	}
}

static void conn_close(struct conn *c)
{
	list_del(c->asking ? &c->class->asked : &c->class->idle, c);
	close(c->fd);
	free(c);
}

/* The end of a request; a keep-alive connection that may go on becomes idle. */
static void finish(struct conn *c, enum result r, int err, bool reusable)
{
	struct class *k = c->class;
	uint64_t now = now_ns(), us = (now - c->begin) / 1000;
	k->count[r]++;
	if (r == OK) {
		k->buckets[bucket_of(us)]++;
		k->max_us = us > k->max_us ? us : k->max_us;
		count_name(hosts, c->in, "host=");
		count_name(versions, c->in, "version=");
	} else if (n_failures < LISTED_MAX) {
		failures[n_failures++] = (struct failure){ k, r, err, c->target, c->port, c->begin, now };
	}
	if (r != OK || !reusable || (k->age_ms && now - c->born > (uint64_t)k->age_ms * NS_PER_MS)) {
		conn_close(c);
		return;
	}
	list_del(&k->asked, c);
	c->asking = false;
	c->len = 0;
	list_add(&k->idle, c);
}

static void fail(struct conn *c, int err)
{
	finish(c, err == ECONNREFUSED ? REFUSED : err == ECONNRESET || err == EPIPE ? RESET : OTHER, err, false);
}

static void send_request(struct conn *c)
{
	char text[256];
	int n;
	if (c->class->kind == UDP)
		n = snprintf(text, sizeof(text), "ping-%llu", (unsigned long long)c->begin);
	else
		n = snprintf(text, sizeof(text), "GET /slow?ms=%ld HTTP/1.1\r\nHost: %s\r\n%s\r\n", c->class->ms,
		             target_names[c->target], c->class->kind == NEW ? "Connection: close\r\n" : "");
	if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		fail(c, errno);
}

static void watch(struct conn *c, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };
	epoll_ctl(epfd, op, c->fd, &ev);
}

static void conn_open(struct class *k, uint64_t begin)
{
	struct conn *c = calloc(1, sizeof(*c));
	c->class = k;
	c->asking = true;
	c->begin = begin;
	c->born = now_ns();
	c->target = next_target++ % n_targets;
	c->fd = socket(AF_INET, (k->kind == UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	list_add(&k->asked, c);
	if (c->fd < 0) {
		fail(c, errno);
		return;
	}
	struct sockaddr_in *to = &targets[c->target], own = { 0 };
	socklen_t len = sizeof(own);
	int rc = connect(c->fd, (struct sockaddr *)to, sizeof(*to));
	if (rc && errno != EINPROGRESS) {
		fail(c, errno);
		return;
	}
	getsockname(c->fd, (struct sockaddr *)&own, &len);
	c->port = ntohs(own.sin_port);
	watch(c, EPOLL_CTL_ADD, rc ? EPOLLOUT : EPOLLIN);
	c->connected = !rc;
	if (!rc)
		send_request(c);
}

static void start_one(struct class *k)
{
	struct conn *c = k->idle.first;
	uint64_t begin = k->due;
	k->sent++;
	k->due = start_ns + (uint64_t)((double)++k->started * NS_PER_SEC / k->rate);
	total++;
	/* A pool below its size grows first; then the connection that has rested longest is next. */
	if (k->kind != KEEP || !c || (long)(k->idle.n + k->asked.n) < k->conns) {
		conn_open(k, begin);
		return;
	}
	list_del(&k->idle, c);
	c->asking = true;
	c->begin = begin;
	list_add(&k->asked, c);
	send_request(c);
}

/* 0: not all here yet; 1: all here; -1: no good answer. */
static int answer_state(const struct conn *c, bool *reusable)
{
	const char *end = strstr(c->in, "\r\n\r\n"), *length = strstr(c->in, "Content-Length: ");
	if (c->class->kind == UDP)
		return strncmp(c->in, "host=", 5) == 0 ? 1 : -1;
	if (!end)
		return c->len == sizeof(c->in) - 1 ? -1 : 0;
	if (strncmp(c->in, "HTTP/1.1 200 ", 13) != 0 || !length || length > end)
		return -1;
	const char *close_text = strstr(c->in, "Connection: close");
	*reusable = c->class->kind == KEEP && (!close_text || close_text > end);
	return (size_t)(end + 4 - c->in) + strtoul(length + 16, NULL, 10) <= c->len;
}

static void on_readable(struct conn *c)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - 1 - c->len, 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (!c->asking) {
		c->class->idle_closed++;
		conn_close(c);
		return;
	}
	if (n < 0) {
		fail(c, errno);
		return;
	}
	if (n == 0) {
		finish(c, EMPTY, 0, false);
		return;
	}
	c->len += (size_t)n;
	c->in[c->len] = '\0';
	bool reusable = false;
	int state = answer_state(c, &reusable);
	if (state)
		finish(c, state > 0 ? OK : OTHER, 0, reusable);
}

static void on_event(struct conn *c)
{
	if (c->connected) {
		on_readable(c);
		return;
	}
	int err = 0;
	socklen_t len = sizeof(err);
	getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	if (err) {
		fail(c, err);
		return;
	}
	c->connected = true;
	watch(c, EPOLL_CTL_MOD, EPOLLIN);
	send_request(c);
}

static void expire(struct class *k, uint64_t now)
{
	uint64_t limit = timeout_ns + (uint64_t)k->ms * NS_PER_MS;
	while (k->asked.first && now - k->asked.first->begin > limit && now > k->asked.first->begin)
		finish(k->asked.first, TIMEOUT, 0, false);
}

static void on_command(void)
{
	static char line[256];
	static size_t len;
	ssize_t n = read(0, line + len, sizeof(line) - 1 - len);
	if (n <= 0) {
		stopping = true;
		epoll_ctl(epfd, EPOLL_CTL_DEL, 0, NULL);
		return;
	}
	len += (size_t)n;
	line[len] = '\0';
	for (char *end; (end = strchr(line, '\n'));) {
		if (strncmp(line, "more ", 5) == 0)
			more_at = total + strtoull(line + 5, NULL, 10);
		else
			stopping = true;
		len -= (size_t)(end + 1 - line);
		memmove(line, end + 1, len + 1);
	}
	if (len == sizeof(line) - 1)
		len = 0;
}

static size_t open_requests(void)
{
	size_t n = 0;
	for (unsigned i = 0; i < n_classes; i++)
		n += classes[i].asked.n;
	return n;
}

static void loop(void)
{
	while (!stopping || open_requests()) {
		uint64_t now = now_ns(), next = now + NS_PER_SEC / 10;
		for (unsigned i = 0; i < n_classes; i++) {
			struct class *k = &classes[i];
			expire(k, now);
			while (!stopping && k->due <= now)
				start_one(k);
			next = !stopping && k->due < next ? k->due : next;
		}
		if (more_at && total >= more_at) {
			more_at = 0;
			puts("done");
		}
		now = now_ns();
		uint64_t left = next > now ? next - now : 0;
		struct timespec wait = { .tv_sec = (time_t)(left / NS_PER_SEC), .tv_nsec = (long)(left % NS_PER_SEC) };
		struct epoll_event ev[256];
		int n = epoll_pwait2(epfd, ev, 256, &wait, NULL);
		for (int i = 0; i < n; i++) {
			if (ev[i].data.ptr)
				on_event(ev[i].data.ptr);
			else
				on_command();
		}
	}
}

/* Waits until somebody answers; the first target's name is enough. */
static void first_answer(void)
{
	uint64_t end = now_ns() + 20 * (uint64_t)NS_PER_SEC;
	struct timeval tv = { .tv_sec = 2 };
	struct timespec pause = { .tv_nsec = 20 * NS_PER_MS };
	for (;;) {
		char in[256];
		ssize_t n = -1;
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		static const char ask[] = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
		if (!connect(fd, (struct sockaddr *)&targets[0], sizeof(targets[0])) &&
		    send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) > 0)
			n = recv(fd, in, sizeof(in), 0);
		int err = errno;
		close(fd);
		if (n > 12 && memcmp(in, "HTTP/1.1 200", 12) == 0)
			break;
		if (now_ns() > end) {
			fprintf(stderr, "loadgen: no first answer from %s: %s\n", target_names[0], strerror(err));
			exit(1);
		}
		nanosleep(&pause, NULL);
	}
	puts("first answer");
}

static void print_names(const char *key, const struct seen *table)
{
	printf("\"%s\":{", key);
	for (unsigned i = 0; i < SEEN_MAX && table[i].n; i++)
		printf("%s\"%s\":%llu", i ? "," : "", table[i].name, (unsigned long long)table[i].n);
	printf("},");
}

static void print_class(const struct class *k)
{
	printf("{\"class\":\"%s\",\"sent\":%llu", k->text, (unsigned long long)k->sent);
	for (unsigned r = 0; r < RESULT_MAX; r++)
		printf(",\"%s\":%llu", result_names[r], (unsigned long long)k->count[r]);
	printf(",\"idle_closed\":%llu", (unsigned long long)k->idle_closed);
	printf(",\"ms\":{\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"max\":%.2f}}", percentile_ms(k, 0.5),
	       percentile_ms(k, 0.9), percentile_ms(k, 0.99), percentile_ms(k, 0.999), (double)k->max_us / 1000);
}

static void print_result(void)
{
	printf("{\"start\":%.3f,\"seconds\":%.3f,\"classes\":[", (double)start_ns / NS_PER_SEC,
	       (double)(now_ns() - start_ns) / NS_PER_SEC);
	for (unsigned i = 0; i < n_classes; i++) {
		printf("%s", i ? "," : "");
		print_class(&classes[i]);
	}
	printf("],");
	print_names("hosts", hosts);
	print_names("versions", versions);
	printf("\"failures\":[");
	for (size_t i = 0; i < n_failures; i++) {
		const struct failure *f = &failures[i];
		printf("%s{\"at\":%.3f,\"after_ms\":%.1f,\"class\":\"%s\",\"target\":\"%s\",\"port\":%u,\"why\":\"%s%s%"
		       "s\"}",
		       i ? "," : "", (double)(f->begin - start_ns) / NS_PER_SEC,
		       (double)(f->end - f->begin) / NS_PER_MS, f->class->text, target_names[f->target], f->port,
		       result_names[f->result], f->err ? ": " : "", f->err ? strerror(f->err) : "");
	}
	printf("]}\n");
}

static bool parse_class(const char *arg)
{
	static const char *const names[] = { "new:", "keep:", "udp:" };
	for (unsigned kind = 0; kind < 3; kind++) {
		size_t n = strlen(names[kind]);
		if (strncmp(arg, names[kind], n) != 0)
			continue;
		struct class *k = &classes[n_classes];
		long v[2] = { 0 };
		int got = sscanf(arg + n, "%lf:%ld:%ld", &k->rate, &v[0], &v[1]);
		if (n_classes == CLASSES_MAX || got < 1 || !(k->rate > 0) || v[0] < 0 || v[1] < 0)
			return false;
		k->text = arg;
		k->kind = kind;
		k->ms = kind == NEW ? v[0] : 0;
		k->conns = v[0] ? v[0] : 1;
		k->age_ms = v[1];
		n_classes++;
		return true;
	}
	return false;
}

static bool parse_target(const char *arg)
{
	const char *colon = strrchr(arg, ':');
	struct sockaddr_in *to = &targets[n_targets];
	char host[64];
	if (!colon || n_targets == TARGETS_MAX)
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - arg), arg);
	to->sin_family = AF_INET;
	to->sin_port = htons((uint16_t)atoi(colon + 1));
	target_names[n_targets++] = arg;
	return inet_pton(AF_INET, host, &to->sin_addr) == 1;
}

int main(int argc, char **argv)
{
	bool good = true;
	for (int i = 1; good && i < argc; i++) {
		if (strcmp(argv[i], "--timeout") == 0 && i + 1 < argc)
			timeout_ns = (uint64_t)(strtoull(argv[++i], NULL, 10) * NS_PER_MS);
		else
			good = parse_class(argv[i]) || parse_target(argv[i]);
	}
	if (!good || !n_classes || !n_targets) {
		fprintf(stderr, "usage: loadgen [--timeout MS] new:RATE[:MS] keep:RATE:CONNS[:AGE] udp:RATE ... "
		                "HOST:PORT...\n");
		return 2;
	}
	struct rlimit files;
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		(void)!setrlimit(RLIMIT_NOFILE, &files);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	first_answer();
	epfd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ev = { .events = EPOLLIN };
	epoll_ctl(epfd, EPOLL_CTL_ADD, 0, &ev);
	start_ns = now_ns();
	for (unsigned i = 0; i < n_classes; i++)
		classes[i].due = start_ns;
	loop();
	print_result();
	return 0;
}
