/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the compose reader by themselves; whole files are in tests/golden/test_compose.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>

#include "tests/support/compose.h"

static void arena_keeps_what_it_gave(void **state)
{
	struct arena a = { 0 };
	char *all[3000];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		all[i] = arena_printf(&a, "%zu %0*d", i, (int)(i % 700), 0);
		assert_int_equal((uintptr_t)all[i] % 16, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_int_equal(strtoul(all[i], NULL, 10), i);
	char *big = arena_alloc(&a, 1 << 20);
	for (size_t i = 0; i < 1 << 20; i++)
		assert_int_equal(big[i], 0);
	arena_fini(&a);
	assert_null(a.chunks);
}

static void mappings_keep_order_and_replace(void **state)
{
	struct arena a = { 0 };
	struct cv *m = cv_new(&a, CV_MAP, NULL), *n = cv_new(&a, CV_MAP, NULL);

	(void)state;
	for (int i = 0; i < 20; i++)
		cv_set(&a, m, arena_printf(&a, "k%d", i), cv_int(&a, i, NULL));
	cv_set(&a, m, "k3", cv_str(&a, "three", NULL));
	assert_int_equal(m->n, 20);
	assert_string_equal(m->items[3].key, "k3");
	assert_string_equal(cv_at(m, "k3"), "three");
	cv_del(m, "k0");
	cv_del(m, "none");
	assert_int_equal(m->n, 19);
	assert_string_equal(m->items[0].key, "k1");
	assert_null(cv_get(m, "k0"));
	assert_null(cv_get(NULL, "k0"));
	/* Equality does not mind the order of keys. */
	for (uint32_t i = m->n; i-- > 0;)
		cv_set(&a, n, m->items[i].key, m->items[i].v);
	assert_true(cv_equal(m, n));
	cv_set(&a, n, "k5", cv_int(&a, 6, NULL));
	assert_false(cv_equal(m, n));
	arena_fini(&a);
}

static void utf8(void **state)
{
	static const char *const good[] = {
		"", "a", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"
	};
	static const char *const bad[] = { "\x80",     "\xc0\x80",     "\xc3",
		                           "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80",
		                           "\xff",     "\xe0\x9f\xbf", "a\xc3" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(utf8_ok(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (utf8_ok(bad[i]))
			fail_msg("bad[%zu] was taken for UTF-8", i);
}

static void plain_scalars(void **state)
{
	static const struct {
		const char *text;
		enum cv_kind kind;
		double value;
	} rows[] = {
		{ "", CV_NULL, 0 },
		{ "~", CV_NULL, 0 },
		{ "null", CV_NULL, 0 },
		{ "nULL", CV_STR, 0 },
		{ "true", CV_BOOL, 1 },
		{ "False", CV_BOOL, 0 },
		{ "tRUE", CV_STR, 0 },
		{ "yes", CV_STR, 0 },
		{ "off", CV_STR, 0 },
		{ "0", CV_INT, 0 },
		{ "10", CV_INT, 10 },
		{ "-10", CV_INT, -10 },
		{ "+3", CV_INT, 3 },
		{ "0440", CV_INT, 288 },
		{ "0o440", CV_INT, 288 },
		{ "0x1F", CV_INT, 31 },
		{ "0b101", CV_INT, 5 },
		{ "1_000", CV_INT, 1000 },
		{ "089", CV_FLOAT, 89 },
		{ "0x", CV_STR, 0 },
		{ "1.5", CV_FLOAT, 1.5 },
		{ ".5", CV_FLOAT, .5 },
		{ "1e3", CV_FLOAT, 1e3 },
		{ "-1.", CV_FLOAT, -1 },
		{ "1.2.3", CV_STR, 0 },
		{ "1-2", CV_STR, 0 },
		{ "12:30", CV_STR, 0 },
		{ "2026-11-20", CV_STR, 0 },
		{ "9223372036854775807", CV_INT, 9223372036854775807.0 },
		{ "9223372036854775808", CV_FLOAT, 9223372036854775808.0 },
		{ ".inf", CV_FLOAT, INFINITY },
		{ "-.INF", CV_FLOAT, -INFINITY },
		{ "nan", CV_STR, 0 },
		{ "-", CV_STR, 0 },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cv v = { .s = rows[i].text };
		yaml_resolve(&v);
		if (v.kind != rows[i].kind)
			fail_msg("'%s' is of kind %d, not %d", rows[i].text, v.kind, rows[i].kind);
		double got = v.kind == CV_FLOAT ? v.f : (double)v.i;
		if (v.kind != CV_STR && v.kind != CV_NULL && got != rows[i].value)
			fail_msg("'%s' is %g, not %g", rows[i].text, got, rows[i].value);
	}
}

static void values_know_their_lines(void **state)
{
	static const char text[] =
		"a: 1\nb:\n  c: [x,\n      y]\n  d:\n    - e: 5\n      f: 6\n\n'g': |\n  text\n  more\nh: {i: j}\n";
	struct arena a = { 0 };
	struct mesh_err err = { 0 };
	struct cv *root;

	(void)state;
	assert_int_equal(yaml_read(&a, "f.yml", text, strlen(text), &root, &err), 0);
	struct cv *b = cv_get(root, "b"), *d = cv_get(b, "d");
	assert_int_equal(cv_get(root, "a")->line, 1);
	assert_int_equal(b->line, 2); /* its key's line */
	assert_int_equal(cv_get(b, "c")->items[1].v->line, 4);
	assert_int_equal(d->items[0].v->line, 6);
	assert_int_equal(cv_get(d->items[0].v, "f")->line, 7);
	assert_int_equal(cv_get(root, "g")->line, 9);
	assert_string_equal(cv_at(root, "g"), "text\nmore\n");
	assert_int_equal(cv_get(cv_get(root, "h"), "i")->line, 12);
	assert_string_equal(root->file, "f.yml");
	arena_fini(&a);
}

static const char *one_variable(void *arg, const char *name)
{
	(void)arg;
	return !strcmp(name, "SET") ? "value" : !strcmp(name, "EMPTY") ? "" : NULL;
}

static void variables(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: malformed */
	} rows[] = {
		{ "plain", "plain" },
		{ "$SET", "value" },
		{ "${SET}", "value" },
		{ "x${SET}y$SET.z", "xvaluey"
		                    "value.z" },
		{ "$SETx", "" },
		{ "${UNSET}", "" },
		{ "$$", "$" },
		{ "$$SET", "$SET" },
		{ "$$$SET", "$value" },
		{ "${SET:-d}${EMPTY:-d}${UNSET:-d}", "valuedd" },
		{ "${SET-d}${EMPTY-d}${UNSET-d}", "valued" },
		{ "${SET:+r}${EMPTY:+r}${UNSET:+r}", "r" },
		{ "${SET+r}${EMPTY+r}${UNSET+r}", "rr" },
		{ "${SET:?no}${EMPTY?no}", "value" },
		{ "${UNSET:-${EMPTY:-${SET}}}", "value" },
		{ "${UNSET:-a:b-c?d+e}", "a:b-c?d+e" },
		{ "${UNSET:-$$x}", "$x" },
		{ "${UNSET:-}}", "}" },
		{ "${UNSET-}", "" },
		{ "a$", NULL },
		{ "$1", NULL },
		{ "${", NULL },
		{ "${}", NULL },
		{ "${SET", NULL },
		{ "${SET:-", NULL },
		{ "${SET:}", NULL },
		{ "${SET:x}", NULL },
		{ "${SET!}", NULL },
		{ "${S ET}", NULL },
		{ "$-", NULL },
	};
	const struct compose_env env = { one_variable, NULL };
	struct arena a = { 0 };
	const char *out, *need;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct str_list unset = { 0 };
		int rc = interpolate_text(&a, rows[i].in, &env, &unset, &out, &need);
		if (rc != (rows[i].out ? 0 : -1))
			fail_msg("%s: %d", rows[i].in, rc);
		if (rows[i].out && strcmp(out, rows[i].out))
			fail_msg("%s: \"%s\", not \"%s\"", rows[i].in, out, rows[i].out);
		strs_clear(&unset);
	}
	struct str_list unset = { 0 };
	assert_int_equal(interpolate_text(&a, "${UNSET:?give me $SET}", &env, &unset, &out, &need), -2);
	assert_string_equal(need, "required variable UNSET is missing a value: give me value");
	assert_int_equal(interpolate_text(&a, "$ONE ${TWO} ${ONE} ${THREE:-}", &env, &unset, &out, &need), 0);
	assert_int_equal(unset.n, 2);
	assert_string_equal(unset.v[0], "ONE");
	assert_string_equal(unset.v[1], "TWO");
	strs_clear(&unset);
	arena_fini(&a);
}

/* Whatever a text holds, it is printed so that it reads back as the same text. */
static void printed_texts_read_back(void **state)
{
	static const char *const texts[] = { "",
		                             " ",
		                             "a",
		                             "a b",
		                             "-",
		                             "--",
		                             "- a",
		                             "-a",
		                             "-:",
		                             "a:",
		                             "a: b",
		                             "a:b",
		                             "#",
		                             "a#b",
		                             "a #b",
		                             "'",
		                             "''",
		                             "\"",
		                             "a\"b'c",
		                             "\\",
		                             "\\n",
		                             "\n",
		                             "a\nb\n",
		                             "\t",
		                             "\x01",
		                             "\x7f",
		                             "[",
		                             "]",
		                             "{a}",
		                             "*a",
		                             "&a",
		                             "!a",
		                             "|",
		                             ">",
		                             "%",
		                             "@",
		                             "`",
		                             "?",
		                             "? a",
		                             "null",
		                             "~",
		                             "yes",
		                             "No",
		                             "true",
		                             "1",
		                             "1.5",
		                             "1e3",
		                             "0x1",
		                             "0o7",
		                             ".5",
		                             "1_0",
		                             "12:30",
		                             "=",
		                             "<<",
		                             "\xc3\xa9",
		                             "\xe2\x82\xac uro",
		                             "a\xc2\x85"
		                             "b",
		                             "\xe2\x80\xa8",
		                             "\xef\xbb\xbf",
		                             "\xc2\x80",
		                             "\xef\xbf\xbf",
		                             "a,b",
		                             ", ",
		                             "trailing ",
		                             " leading",
		                             "2026-11-20",
		                             "---",
		                             "...",
		                             "--- a",
		                             ".inf",
		                             "+1" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct arena a = { 0 };
		struct mesh_err err = { 0 };
		struct buf b = { 0 };
		struct cv *root;
		buf_puts(&b, "top:\n  ");
		emit_text(&b, texts[i]);
		buf_puts(&b, ":\n    - ");
		emit_text(&b, texts[i]);
		buf_puts(&b, "\n");
		if (yaml_read(&a, "t", buf_str(&b), b.len, &root, &err) < 0)
			fail_msg("\"%s\" is printed as\n%s%s", texts[i], buf_str(&b), err.msg);
		struct cv *m = cv_get(root, "top");
		const struct cv *v = m->n == 1 && m->items[0].v->n == 1 ? m->items[0].v->items[0].v : NULL;
		if (!v || v->kind != CV_STR || strcmp(v->s, texts[i]) || strcmp(m->items[0].key, texts[i]))
			fail_msg("\"%s\" is printed as\n%s", texts[i], buf_str(&b));
		buf_fini(&b);
		arena_fini(&a);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_keeps_what_it_gave),
		cmocka_unit_test(mappings_keep_order_and_replace),
		cmocka_unit_test(utf8),
		cmocka_unit_test(plain_scalars),
		cmocka_unit_test(values_know_their_lines),
		cmocka_unit_test(variables),
		cmocka_unit_test(printed_texts_read_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
