/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/hset.h"
#include "base/id.h"
#include "base/map.h"

static void an_error_tells_its_story_from_the_outside_in(void **state)
{
	(void)state;
	struct mesh_err err = { 0 };
	int rc = mesh_fail(&err, MESH_E_NOT_FOUND, "not found");
	rc = mesh_wrap(&err, rc, "network '%s'", "blue");
	rc = mesh_wrap(&err, rc, "service '%s'", "web");
	assert_int_equal(rc, MESH_E_NOT_FOUND);
	assert_string_equal(err.msg, "service 'web': network 'blue': not found");
	struct mesh_err sys = { 0 };
	mesh_fail(&sys, -ENOENT, "cannot open '%s'", "/x");
	assert_string_equal(sys.msg, "cannot open '/x': No such file or directory");
	assert_int_equal(mesh_code_http(MESH_E_CONFLICT), 409);
	assert_int_equal(mesh_fail(NULL, -EIO, "unheard"), -EIO);
}

static void a_map_keeps_what_it_is_told(void **state)
{
	(void)state;
	struct map m = { 0 };
	char key[16];
	for (intptr_t i = 1; i <= 5000; i++) {
		snprintf(key, sizeof(key), "k%ld", (long)i);
		assert_null(map_put(&m, key, (void *)i));
	}
	for (intptr_t i = 1; i <= 5000; i += 2) {
		snprintf(key, sizeof(key), "k%ld", (long)i);
		assert_ptr_equal(map_del(&m, key), (void *)i);
		assert_null(map_del(&m, key));
	}
	assert_int_equal(m.count, 2500);
	intptr_t last = 0;
	size_t seen = 0;
	MAP_FOREACH(&m, e) {
		assert_true((intptr_t)e->value > last); /* insertion order */
		last = (intptr_t)e->value;
		seen++;
	}
	assert_int_equal(seen, 2500);
	assert_ptr_equal(map_put(&m, "k2", (void *)9), (void *)2);
	assert_ptr_equal(map_get(&m, "k2"), (void *)9);
	/* Emptying while iterating, and filling again. */
	MAP_FOREACH(&m, e)
		map_del(&m, e->key);
	assert_int_equal(m.count, 0);
	map_put(&m, "again", &m);
	assert_ptr_equal(map_get(&m, "again"), &m);
	map_fini(&m);
}

struct thing {
	int other;
	uint8_t key[5];
};

static void *toggle(struct hset *h, struct thing *t, bool *in)
{
	*in = !*in;
	return *in ? hset_put(h, t) : hset_del(h, t->key);
}

/* Against an array that says who is in. */
static void a_set_finds_what_is_in_it(void **state)
{
	(void)state;
	static struct thing things[3000];
	static bool in[ARRAY_SIZE(things)];
	struct hset h = HSET(struct thing, key);
	struct mesh_rng r;
	size_t count = 0, seen = 0;
	mesh_rng_seed(&r, 11);
	for (uint16_t i = 0; i < ARRAY_SIZE(things); i++)
		memcpy(things[i].key + 1, &i, sizeof(i));
	assert_null(hset_get(&h, things[0].key));
	assert_null(hset_del(&h, things[0].key));
	for (int step = 0; step < 40000; step++) {
		size_t i = mesh_rng_below(&r, ARRAY_SIZE(things));
		assert_ptr_equal(hset_get(&h, things[i].key), in[i] ? &things[i] : NULL);
		void *had = in[i] ? &things[i] : NULL;
		bool again = in[i] && mesh_rng_below(&r, 2);
		assert_ptr_equal(again ? hset_put(&h, &things[i]) : toggle(&h, &things[i], &in[i]), had);
	}
	for (size_t i = 0; i < ARRAY_SIZE(things); i++) {
		assert_ptr_equal(hset_get(&h, things[i].key), in[i] ? &things[i] : NULL);
		count += in[i];
	}
	HSET_FOREACH(&h, struct thing, t)
	seen += in[t - things];
	assert_int_equal(seen, count);
	assert_int_equal(h.count, count);
	hset_fini(&h);
}

static void durations_are_gos(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t ns;
		const char *canonical;
	} good[] = {
		{ "10s", 10 * NS_PER_SEC, "10s" },
		{ "1m30s", 90 * NS_PER_SEC, "1m30s" },
		{ "1.5s", 1500 * NS_PER_MS, "1.5s" },
		{ "300ms", 300 * NS_PER_MS, "300ms" },
		{ "2h", 7200 * NS_PER_SEC, "2h0m0s" },
		{ "0", 0, "0s" },
		{ "-5s", -5 * NS_PER_SEC, "-5s" },
		{ "2160h0m0s", 7776000LL * NS_PER_SEC, "2160h0m0s" },
		{ "100ns", 100, "100ns" },
	};
	static const char *const bad[] = { "", "5", "s", "5x", "1.s.2", "9999999999h", "5 s" };
	char out[CLOCK_TEXT_MAX];
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		int64_t ns;
		assert_int_equal(duration_parse(good[i].text, &ns), 0);
		assert_int_equal(ns, good[i].ns);
		assert_string_equal(duration_format(ns, out), good[i].canonical);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		int64_t ns;
		assert_int_equal(duration_parse(bad[i], &ns), MESH_E_INVALID);
	}
}

static void times_are_rfc3339(void **state)
{
	(void)state;
	char out[CLOCK_TEXT_MAX];
	int64_t ns;
	assert_int_equal(clock_parse("2026-11-20T12:59:03.437110845Z", &ns), 0);
	assert_string_equal(clock_format(ns, out), "2026-11-20T12:59:03.437110845Z");
	assert_int_equal(clock_parse("2026-11-20T13:59:03.5+01:00", &ns), 0);
	assert_string_equal(clock_format(ns, out), "2026-11-20T12:59:03.5Z");
	assert_int_equal(clock_parse("0001-01-01T00:00:00Z", &ns), 0);
	assert_int_equal(ns, 0);
	assert_string_equal(clock_format(0, out), "0001-01-01T00:00:00Z");
	assert_int_equal(clock_parse("1795180389.25", &ns), 0);
	assert_int_equal(ns, 1795180389250000000LL);
	assert_int_equal(clock_parse("yesterday", &ns), MESH_E_INVALID);
	assert_int_equal(clock_parse("2026-11-20T12:59:03", &ns), MESH_E_INVALID);
}

static void ids_look_like_the_engines(void **state)
{
	(void)state;
	struct mesh_rng a, b;
	char x[MESH_ID_LEN + 1], y[MESH_ID_LEN + 1];
	mesh_rng_seed(&a, 42);
	mesh_rng_seed(&b, 42);
	mesh_id_make(&a, x);
	mesh_id_make(&b, y);
	assert_true(mesh_id_valid(x));
	assert_string_equal(x, y); /* from a seed: the same again */
	mesh_id_make(&a, x);
	assert_string_not_equal(x, y);
	assert_false(mesh_id_valid("short"));
	assert_false(mesh_id_valid("0123456789ABCDEFGHIJKLMNO"));
}

static void reading_past_the_end_is_noticed_once(void **state)
{
	(void)state;
	struct buf b = { 0 };
	buf_put_u16(&b, 0x1234);
	buf_put_varint(&b, 300);
	buf_put_varint(&b, UINT64_MAX);
	struct rd r = rd_of(b.data, b.len);
	assert_int_equal(rd_u16(&r), 0x1234);
	assert_int_equal(rd_varint(&r), 300);
	assert_true(rd_varint(&r) == UINT64_MAX);
	assert_false(r.bad);
	assert_int_equal(rd_u32(&r), 0);
	assert_true(r.bad);
	assert_null(rd_bytes(&r, 0));
	static const uint8_t endless[12] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01 };
	r = rd_of(endless, sizeof(endless));
	(void)rd_varint(&r);
	assert_true(r.bad);
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_error_tells_its_story_from_the_outside_in),
		cmocka_unit_test(a_map_keeps_what_it_is_told),
		cmocka_unit_test(a_set_finds_what_is_in_it),
		cmocka_unit_test(durations_are_gos),
		cmocka_unit_test(times_are_rfc3339),
		cmocka_unit_test(ids_look_like_the_engines),
		cmocka_unit_test(reading_past_the_end_is_noticed_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
