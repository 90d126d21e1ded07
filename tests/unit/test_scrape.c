// SPDX-License-Identifier: GPL-2.0-or-later
/* The listener of --metrics-addr: what it cannot accept costs that connection, and no later one. */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/meshd/scrape.h"

/* ---- in the place of libuv's: this many fail ---- */

static int failing, failed;

int uv_accept(uv_stream_t *server, uv_stream_t *client)
{
	int (*real)(uv_stream_t *, uv_stream_t *);

	*(void **)&real = dlsym(RTLD_NEXT, "uv_accept");
	int rc = real(server, client);
	if (rc || !failing)
		return rc;
	failing--;
	failed++;
	return UV_ENOMEM;
}

/* ---- a listener, and clients of it on the same thread ---- */

static uv_loop_t loop;
static struct scrape *scrape;
static struct sockaddr_in at = { .sin_family = AF_INET };

static void metrics(void *arg, struct buf *out)
{
	(void)arg;
	buf_puts(out, "mesh_up 1\n");
}

static bool health(void *arg, unsigned port, struct buf *out)
{
	(void)arg, (void)port, (void)out;
	return true;
}

static int setup(void **state)
{
	static const struct scrape_ops ops = { metrics, health };
	int rc = -1;

	(void)state;
	assert_int_equal(uv_loop_init(&loop), 0);
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	for (unsigned port = 20000; rc && port < 20100; port++) {
		CLEAN_FREE char *addr = xasprintf("127.0.0.1:%u", port);
		at.sin_port = htons((uint16_t)port);
		rc = scrape_open(&loop, addr, &ops, NULL, &scrape, NULL);
		if (rc)
			uv_run(&loop, UV_RUN_NOWAIT); /* its handle closes */
	}
	return rc;
}

static int teardown(void **state)
{
	(void)state;
	scrape_close(scrape);
	uv_run(&loop, UV_RUN_DEFAULT);
	return uv_loop_close(&loop);
}

static int dial(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	return fd;
}

/* The answer's first line; "" when the connection was ended without one. */
static void ask(int fd, char *line, size_t size)
{
	static const char request[] = "GET /metrics HTTP/1.1\r\n\r\n";
	ssize_t n;

	assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	(void)!send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL); /* may be ended already */
	while ((n = recv(fd, line, size - 1, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
		uv_run(&loop, UV_RUN_ONCE);
	line[n > 0 ? n : 0] = '\0';
	line[strcspn(line, "\r")] = '\0';
	close(fd);
}

static void served(void)
{
	char line[256];

	ask(dial(), line, sizeof(line));
	assert_string_equal(line, "HTTP/1.1 200 OK");
}

static void after_a_failed_accept(void **state)
{
	char line[256];

	(void)state;
	served();
	failing = 2;
	for (int i = 0; i < 2; i++) {
		ask(dial(), line, sizeof(line));
		assert_string_equal(line, "");
	}
	assert_int_equal(failed, 2);
	for (int i = 0; i < 80; i++) /* more than may be open at a time */
		served();
}

/* No descriptor is left for the connection, as in a daemon at its limit. */
static void after_too_many_files(void **state)
{
	struct rlimit before, none;
	int fd = dial(), probe = dup(fd);
	char line[256];

	(void)state;
	assert_true(probe >= 0);
	close(probe);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = (struct rlimit){ (rlim_t)probe, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(socket(AF_INET, SOCK_STREAM, 0), -1);
	ask(fd, line, sizeof(line));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_string_equal(line, "");
	for (int i = 0; i < 40; i++)
		served();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(after_a_failed_accept),
		cmocka_unit_test(after_too_many_files),
	};

	return cmocka_run_group_tests_name("scrape", tests, setup, teardown);
}
