/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cli/units.c"

static void durations_are_read_as_go_reads_them(void **state)
{
	static const struct {
		const char *text;
		int64_t ns;
	} good[] = { { "0", 0 },
		     { "5s", 5 * NS_PER_S },
		     { "1m30s", 90 * NS_PER_S },
		     { "1.5h", 5400 * NS_PER_S },
		     { "500ms", NS_PER_S / 2 },
		     { "10us", 10000 },
		     { "7ns", 7 },
		     { "-2s", -2 * NS_PER_S },
		     { ".5s", NS_PER_S / 2 } };
	static const char *const bad[] = { "", "5", "s", "5x", "1m5", "1 s", "5ss", "9999999999h", "-", "nan", "1e3" };
	int64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_duration(good[i].text, &v, NULL), 0);
		assert_int_equal(v, good[i].ns);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse_duration(bad[i], &v, NULL) == 0)
			fail_msg("'%s' was taken for a duration", bad[i]);
}

static void durations_are_written_as_go_writes_them(void **state)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = { { 0, "0s" },
		      { 1, "1ns" },
		      { 1500, "1.5\xc2\xb5s" },
		      { 500000000, "500ms" },
		      { 1500000000, "1.5s" },
		      { 90 * NS_PER_S, "1m30s" },
		      { 7776000 * NS_PER_S, "2160h0m0s" },
		      { -90 * NS_PER_S, "-1m30s" } };
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		format_duration(cases[i].ns, out, sizeof(out));
		assert_string_equal(out, cases[i].text);
	}
}

static void ages_are_rounded_as_docker_rounds_them(void **state)
{
	static const struct {
		int64_t s;
		const char *text;
	} cases[] = { { 0, "Less than a second" }, { 1, "1 second" },          { 59, "59 seconds" },
		      { 60, "About a minute" },    { 119, "About a minute" },  { 120, "2 minutes" },
		      { 3599, "59 minutes" },      { 3600, "About an hour" },  { 5399, "About an hour" },
		      { 5400, "2 hours" },         { 47 * 3600, "47 hours" },  { 48 * 3600, "2 days" },
		      { 14 * 86400, "2 weeks" },   { 60 * 86400, "2 months" }, { 800 * 86400, "2 years" } };
	char out[64];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		format_human_duration(cases[i].s * NS_PER_S, out, sizeof(out));
		assert_string_equal(out, cases[i].text);
	}
}

static void sizes(void **state)
{
	static const struct {
		const char *text;
		int64_t bytes;
	} good[] = { { "0", 0 },  { "64M", 67108864 }, { "64m", 67108864 }, { "1g", 1 << 30 }, { "1.5GiB", 1610612736 },
		     { "5b", 5 }, { "10 kb", 10240 } };
	static const char *const bad[] = { "", "m", "5q", "-1m", "5mm", "99999p" };
	char out[32];
	int64_t v;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(parse_bytes(good[i].text, &v, NULL), 0);
		assert_int_equal(v, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (parse_bytes(bad[i], &v, NULL) == 0)
			fail_msg("'%s' was taken for a size", bad[i]);
	format_bytes(25276514304.0, out, sizeof(out));
	assert_string_equal(out, "23.54GiB");
	format_size(1984321, 3, out, sizeof(out));
	assert_string_equal(out, "1.98MB");
	format_size(0, 3, out, sizeof(out));
	assert_string_equal(out, "0B");
}

static void cpus(void **state)
{
	int64_t v;

	(void)state;
	assert_int_equal(parse_nano_cpus("0.1", &v, NULL), 0);
	assert_int_equal(v, 100000000);
	assert_int_equal(parse_nano_cpus("2", &v, NULL), 0);
	assert_int_equal(v, 2000000000);
	assert_int_not_equal(parse_nano_cpus("abc", &v, NULL), 0);
	assert_int_not_equal(parse_nano_cpus("-1", &v, NULL), 0);
	assert_int_not_equal(parse_nano_cpus("0.0000000001", &v, NULL), 0);
}

static void times(void **state)
{
	char out[64];
	int64_t a, b;

	(void)state;
	assert_int_equal(parse_time("2026-11-20T12:58:08.381821786Z", &a), 0);
	format_time(a, out, sizeof(out));
	assert_string_equal(out, "2026-11-20 12:58:08.381821786 +0000 utc");
	assert_int_equal(parse_time("2026-11-20T14:28:08.381821786+01:30", &b), 0);
	assert_int_equal(a, b);
	assert_int_not_equal(parse_time("0001-01-01T00:00:00Z", &a), 0);
	assert_int_not_equal(parse_time("yesterday", &a), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(durations_are_read_as_go_reads_them),
		cmocka_unit_test(durations_are_written_as_go_writes_them),
		cmocka_unit_test(ages_are_rounded_as_docker_rounds_them),
		cmocka_unit_test(sizes),
		cmocka_unit_test(cpus),
		cmocka_unit_test(times),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
