/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/api/filters.h"

static const char *const allowed[] = { "name", "label", "id", "flag", NULL };

static struct filters parse(const char *text)
{
	struct filters f = { 0 };
	struct mesh_err err = { 0 };
	if (filters_parse(text, allowed, &f, &err))
		fail_msg("%s: %s", text, err.msg);
	return f;
}

static void refuse(const char *text, const char *want)
{
	struct filters f = { 0 };
	struct mesh_err err = { 0 };
	assert_int_equal(filters_parse(text, allowed, &f, &err), MESH_E_INVALID);
	if (!strstr(err.msg, want))
		fail_msg("%s: want %s, got %s", text, want, err.msg);
	filters_clear(&f);
}

static void both_encodings(void **state)
{
	static const char *const texts[] = { "{\"name\":{\"web\":true,\"db\":true,\"no\":false}}",
		                             "{\"name\":[\"web\",\"db\"]}" };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct filters f = parse(texts[i]);
		assert_true(filters_exact(&f, "name", "web"));
		assert_true(filters_exact(&f, "name", "db"));
		assert_false(filters_exact(&f, "name", "no"));
		assert_false(filters_exact(&f, "name", NULL));
		assert_true(filters_exact(&f, "id", "anything"));
		filters_clear(&f);
	}
}

static void ways_to_match(void **state)
{
	struct filters f = parse("{\"name\":[\"we\"],\"flag\":[true]}");
	(void)state;
	assert_true(filters_prefix(&f, "name", "web"));
	assert_false(filters_prefix(&f, "name", "sweb"));
	assert_false(filters_prefix(&f, "name", NULL));
	assert_true(filters_contains(&f, "name", "sweb"));
	assert_false(filters_contains(&f, "name", "wob"));
	assert_true(filters_bool(&f, "flag", false));
	assert_true(filters_bool(&f, "id", true));
	filters_clear(&f);
	f = parse("{\"flag\":{\"0\":true}}");
	assert_false(filters_bool(&f, "flag", true));
	filters_clear(&f);
}

static void labels_must_all_hold(void **state)
{
	struct str_map labels = { 0 };
	struct filters f = parse("{\"label\":[\"a\",\"b=2\"]}");
	(void)state;
	smap_set(&labels, "a", "x");
	assert_false(filters_labels(&f, "label", &labels));
	smap_set(&labels, "b", "1");
	assert_false(filters_labels(&f, "label", &labels));
	smap_set(&labels, "b", "2");
	assert_true(filters_labels(&f, "label", &labels));
	filters_clear(&f);
	f = parse("{\"label\":[\"aa\"]}");
	assert_false(filters_labels(&f, "label", &labels));
	filters_clear(&f);
	smap_clear(&labels);
}

static void nothing_is_no_filter(void **state)
{
	struct filters f = { 0 };
	(void)state;
	assert_int_equal(filters_parse(NULL, allowed, &f, NULL), 0);
	assert_int_equal(filters_parse("", allowed, &f, NULL), 0);
	assert_int_equal(filters_parse("{}", allowed, &f, NULL), 0);
	assert_int_equal(filters_parse("{\"name\":{}}", allowed, &f, NULL), 0);
	assert_true(filters_exact(&f, "name", "x"));
	filters_clear(&f);
}

static void nonsense_is_refused(void **state)
{
	(void)state;
	refuse("{\"nix\":[\"a\"]}", "invalid filter 'nix'");
	refuse("[]", "expected an object");
	refuse("{", "invalid JSON");
	refuse("{\"name\":5}", "invalid filter 'name'");
	refuse("{\"name\":[5]}", "expected strings");
	refuse("{\"name\":{\"a\":\"b\"}}", "expected {value: true}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(both_encodings),       cmocka_unit_test(ways_to_match),
		cmocka_unit_test(labels_must_all_hold), cmocka_unit_test(nothing_is_no_filter),
		cmocka_unit_test(nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
