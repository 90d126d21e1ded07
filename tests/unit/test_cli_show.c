/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cli/api.c"
#include "cli/args.c"
#include "cli/help.c"
#include "cli/format.c"
#include "cli/http.c"
#include "cli/table.c"
#include "cli/template.c"
#include "cli/units.c"
#define sort_path show_sort_path
#define cmp_key show_cmp_key
#include "cli/show.c"

const struct command cmd_root = { .name = "meshctl" };

static void tables_are_set_as_docker_sets_them(void **state)
{
	struct buf out = { 0 };

	(void)state;
	table_format("ID\tNAME\tIMAGE\tPORTS\nabcdefghijkl\tw\xc3\xa9"
	             "b\tbb:1\t\n",
	             &out);
	assert_string_equal(buf_str(&out), "ID             NAME      IMAGE     PORTS\n"
	                                   "abcdefghijkl   w\xc3\xa9"
	                                   "b       bb:1      \n");
	buf_fini(&out);
}

static void names_sort_as_people_count(void **state)
{
	static const char *const sorted[] = { "", "a", "a1", "a2", "a10", "a10b", "b", "web.1", "web.2", "web.10" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(sorted); i++)
		for (size_t k = 0; k < ARRAY_SIZE(sorted); k++) {
			int d = natural_cmp(sorted[i], sorted[k]);
			assert_int_equal((d > 0) - (d < 0), (i > k) - (i < k));
		}
}

static void ports_of_a_row_become_a_range(void **state)
{
	(void)state;
	JSON_CLEAN ports = json_loads(
		"[{\"Protocol\":\"tcp\",\"TargetPort\":91,\"PublishedPort\":9001,\"PublishMode\":\"ingress\"},"
		"{\"Protocol\":\"tcp\",\"TargetPort\":90,\"PublishedPort\":9000,\"PublishMode\":\"ingress\"},"
		"{\"Protocol\":\"udp\",\"TargetPort\":53,\"PublishedPort\":53,\"PublishMode\":\"ingress\"},"
		"{\"Protocol\":\"tcp\",\"TargetPort\":1,\"PublishedPort\":7,\"PublishMode\":\"host\"},"
		"{\"Protocol\":\"tcp\",\"TargetPort\":5,\"PublishMode\":\"ingress\"}]",
		0, NULL);
	CLEAN_FREE char *ingress = ports_shown(ports, "ingress");
	CLEAN_FREE char *all = ports_shown(ports, NULL);
	assert_string_equal(ingress, "*:53->53/udp, *:9000-9001->90-91/tcp");
	assert_string_equal(all, "*:7->1/tcp, *:53->53/udp, *:9000-9001->90-91/tcp");
}

struct seen {
	char text[2][64];
};

static void on_frame(void *arg, int stream, const uint8_t *p, size_t n)
{
	struct seen *s = arg;

	strncat(s->text[stream - 1], (const char *)p, n);
}

static void frames_survive_any_cut(void **state)
{
	static const uint8_t stream[] = { 1, 0, 0, 0, 0, 0, 0, 3,   'o', 'n', 'e', 2, 0, 0, 0, 0, 0, 0, 0,  2,
		                          0, 0, 0, 0, 0, 0, 3, 't', 'w', 'o', 1,   0, 0, 0, 0, 0, 0, 1, '!' };

	(void)state;
	for (size_t step = 1; step <= sizeof(stream); step++) {
		struct frames f = { 0 };
		struct seen s = { 0 };
		for (size_t at = 0; at < sizeof(stream); at += step) {
			size_t n = sizeof(stream) - at < step ? sizeof(stream) - at : step;
			assert_int_equal(frames_feed(&f, stream + at, n, on_frame, &s, NULL), 0);
		}
		assert_string_equal(s.text[0], "one!");
		assert_string_equal(s.text[1], "two");
	}
	struct frames f = { 0 };
	struct seen s = { 0 };
	assert_int_not_equal(frames_feed(&f, (const uint8_t *)"GARBAGE!", 8, on_frame, &s, NULL), 0);
}

static void base64_both_ways(void **state)
{
	static const char *const cases[][2] = { { "", "" },        { "f", "Zg==" },   { "fo", "Zm8=" },
		                                { "foo", "Zm9v" }, { "k=v", "az12" }, { "\xfb\xff", "+/8=" } };
	uint8_t out[16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = strlen(cases[i][0]);
		CLEAN_FREE char *text = base64(cases[i][0], n, false);
		assert_string_equal(text, cases[i][1]);
		assert_int_equal(base64_decode(text, out), n);
		assert_memory_equal(out, cases[i][0], n);
	}
	CLEAN_FREE char *url = base64("\xfb\xff", 2, true);
	assert_string_equal(url, "-_8=");
	assert_int_equal(base64_decode(url, out), 2);
	assert_memory_equal(out, "\xfb\xff", 2);
}

static void short_texts(void **state)
{
	static const struct {
		const char *in;
		size_t n;
		const char *out;
	} cases[] = { { "abc", 3, "abc" },
		      { "abcd", 3, "ab\xe2\x80\xa6" },
		      { "\xc3\xa9\xc3\xa9\xc3\xa9", 2, "\xc3\xa9\xe2\x80\xa6" } };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		CLEAN_FREE char *e = ellipsis(cases[i].in, cases[i].n);
		assert_string_equal(e, cases[i].out);
	}
	CLEAN_FREE char *image = image_shown("bb:1@sha256:abc");
	CLEAN_FREE char *id = short_id("sha256:0123456789abcdef", false);
	assert_string_equal(image, "bb:1");
	assert_string_equal(id, "0123456789ab");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_are_set_as_docker_sets_them),
		cmocka_unit_test(names_sort_as_people_count),
		cmocka_unit_test(ports_of_a_row_become_a_range),
		cmocka_unit_test(frames_survive_any_cut),
		cmocka_unit_test(base64_both_ways),
		cmocka_unit_test(short_texts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
