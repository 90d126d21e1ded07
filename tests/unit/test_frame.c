/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "control/net/frame.h"
#include "control/net/net.h"

static void feed(struct frame_rd *r, const uint8_t *p, size_t n)
{
	memcpy(frame_rd_reserve(r, n), p, n);
	frame_rd_commit(r, n);
}

static void test_layout(void **state)
{
	(void)state;
	struct buf b = { 0 };
	frame_put(&b, 0x0102, 0x03040506, "ab", 2);
	const uint8_t want[] = { 2, 0, 0, 0, 2, 1, 0, 0, 6, 5, 4, 3, 'a', 'b' };
	assert_int_equal(b.len, sizeof(want));
	assert_memory_equal(b.data, want, sizeof(want));
	buf_fini(&b);
}

/* However the bytes arrive, the frames are the same. */
static void test_every_split(void **state)
{
	(void)state;
	struct buf b = { 0 };
	frame_put(&b, 1, 7, "", 0);
	frame_put(&b, 2, 8, "hello", 5);
	frame_put(&b, 3, 9, "x", 1);
	for (size_t step = 1; step <= b.len; step++) {
		struct frame_rd r;
		struct frame f;
		struct mesh_err err = { 0 };
		unsigned got = 0;
		frame_rd_init(&r, 100);
		for (size_t off = 0; off < b.len; off += step) {
			feed(&r, b.data + off, b.len - off < step ? b.len - off : step);
			while (frame_rd_next(&r, &f, &err) == 1) {
				got++;
				assert_int_equal(f.type, got);
				assert_int_equal(f.stream, got + 6);
				assert_int_equal(f.n, got == 1 ? 0 : got == 2 ? 5 : 1);
				if (got == 2)
					assert_memory_equal(f.p, "hello", 5);
			}
		}
		assert_int_equal(got, 3);
		assert_false(frame_rd_partial(&r));
		frame_rd_fini(&r);
	}
	buf_fini(&b);
}

static void test_limit(void **state)
{
	(void)state;
	struct frame_rd r;
	struct frame f;
	struct mesh_err err = { 0 };
	struct buf b = { 0 };
	uint8_t body[64] = { 0 };
	frame_put(&b, 1, 0, body, 64);
	frame_rd_init(&r, 64);
	feed(&r, b.data, b.len);
	assert_int_equal(frame_rd_next(&r, &f, &err), 1);
	frame_rd_fini(&r);
	frame_rd_init(&r, 63);
	feed(&r, b.data, FRAME_HEADER_BYTES); /* the header is enough to know */
	assert_int_equal(frame_rd_next(&r, &f, &err), MESH_E_PROTOCOL);
	assert_string_equal(err.msg, "frame of 64 bytes is above the limit of 63");
	frame_rd_fini(&r);
	buf_fini(&b);
}

/* A header alone must not make us allocate what it promises; a large frame's memory is given back. */
static void test_memory(void **state)
{
	(void)state;
	struct frame_rd r;
	struct frame f;
	struct mesh_err err;
	struct buf b = { 0 };
	uint8_t *body = xcalloc(1, 8 << 20);
	frame_put(&b, 1, 0, body, 8 << 20);
	frame_rd_init(&r, NET_FRAME_MAX);
	feed(&r, b.data, 100);
	assert_int_equal(frame_rd_next(&r, &f, &err), 0);
	assert_true(r.buf.cap < 4096);
	assert_true(frame_rd_partial(&r));
	feed(&r, b.data + 100, b.len - 100);
	assert_int_equal(frame_rd_next(&r, &f, &err), 1);
	assert_int_equal(f.n, 8 << 20);
	assert_int_equal(frame_rd_next(&r, &f, &err), 0);
	assert_int_equal(r.buf.cap, 0);
	frame_rd_fini(&r);
	buf_fini(&b);
	free(body);
}

static void test_error_body(void **state)
{
	(void)state;
	struct mesh_err in = { 0 }, out;
	struct buf b = { 0 };
	(void)mesh_fail(&in, MESH_E_NOT_FOUND, "no such thing");
	net_error_encode(&b, &in);
	net_error_decode(b.data, b.len, &out);
	assert_int_equal(out.code, MESH_E_NOT_FOUND);
	assert_string_equal(out.msg, "no such thing");
	net_error_decode(b.data, 4, &out);
	assert_string_equal(out.msg, "not found");
	net_error_decode(b.data, 2, &out);
	assert_int_equal(out.code, MESH_E_PROTOCOL);
	assert_string_equal(out.msg, "no reason given");
	/* Codes that would read as success, and terminal tricks, are not taken over. */
	net_error_decode((const uint8_t *)"\0\0\0\0a\x1b[2Jb\n", 11, &out);
	assert_int_equal(out.code, MESH_E_PROTOCOL);
	assert_string_equal(out.msg, "a [2Jb ");
	uint8_t *big = xcalloc(1, 5000);
	memset(big, 'x', 5000);
	net_error_decode(big, 5000, &out);
	assert_int_equal(strlen(out.msg), sizeof(out.msg) - 1);
	free(big);
	buf_fini(&b);
}

static void test_addresses(void **state)
{
	(void)state;
	static const struct {
		const char *in, *host;
		int port;
	} cases[] = {
		{ "10.0.0.1:2378", "10.0.0.1", 2378 },
		{ "10.0.0.1", "10.0.0.1", 2377 },
		{ "node-1.example:80", "node-1.example", 80 },
		{ "[::1]:9", "::1", 9 },
		{ "[::1]", "::1", 2377 },
		{ "fe80::1", "fe80::1", 2377 },
		{ "", NULL, 0 },
		{ ":2377", NULL, 0 },
		{ "a:", NULL, 0 },
		{ "a:65536", NULL, 0 },
		{ "a:-1", NULL, 0 },
		{ "a:1x", NULL, 0 },
		{ "[::1", NULL, 0 },
		{ "[::1]x", NULL, 0 },
		{ "[]:1", NULL, 0 },
		{ "waytoolongname", NULL, 0 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char host[16];
		uint16_t port;
		struct mesh_err err = { 0 };
		size_t size = cases[i].host ? sizeof(host) : 14;
		int rc = net_addr_parse(cases[i].in, 2377, host, size, &port, &err);
		if (!cases[i].host) {
			if (rc != MESH_E_INVALID)
				fail_msg("'%s' was taken", cases[i].in);
			continue;
		}
		if (rc)
			fail_msg("'%s': %s", cases[i].in, err.msg);
		assert_string_equal(host, cases[i].host);
		assert_int_equal(port, cases[i].port);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_layout), cmocka_unit_test(test_every_split), cmocka_unit_test(test_limit),
		cmocka_unit_test(test_memory), cmocka_unit_test(test_error_body),  cmocka_unit_test(test_addresses),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
