/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stack files in, service specs or error and warning texts out. compose/NAME.in holds cases:
 *
 *   ### title [VARIABLE=value ...]
 *   a stack file
 *   --- over
 *   another one, merged over it
 *
 * compose/NAME.ok says what came of each: warnings, then the error, or what the plan has that the first case's has not
 * ("+ path = value") and the other way round ("- path"). A title that begins with "config:" prints the merged file
 * instead. GOLDEN_UPDATE=1 rewrites the answers. compose/seeds/ are whole files that people wrote.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "tests/support/compose.h"

#define DIR_NAME "tests/golden/compose"

/* ---- the outside world: variables of the case, files of compose/files ----------------------------- */

static json_t *variables;

static const char *get_variable(void *arg, const char *name)
{
	(void)arg;
	return json_string_value(json_object_get(variables, name));
}

static bool slurp(const char *path, struct buf *out)
{
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f)
		return false;
	while ((n = fread(buf_reserve(out, 65536), 1, 65536, f)) > 0)
		out->len += n;
	fclose(f);
	return true;
}

static int read_file(void *arg, const char *path, size_t max, struct buf *out, struct mesh_err *err)
{
	char real[400];

	(void)arg;
	assert_true(max > 0);
	assert_true(strncmp(path, "/dir/", 5) == 0);
	snprintf(real, sizeof(real), DIR_NAME "/files/%s", path + 5);
	return slurp(real, out) ? 0 : mesh_fail(err, -ENOENT, "open %s", path);
}

static const struct compose_opts opts = {
	.env = { get_variable, NULL }, .read = read_file, .workdir = "/dir", .home = "/home/me"
};

/* ---- plans as lines ------------------------------------------------------------------------------- */

static void flatten(const json_t *v, const char *path, json_t *out)
{
	const char *key;
	json_t *item;
	size_t i;

	json_object_foreach((json_t *)v, key, item)
	{
		CLEAN_FREE char *at = xasprintf("%s%s%s", path, *path ? "." : "", key);
		flatten(item, at, out);
	}
	if (json_is_array(v))
		json_array_foreach(v, i, item)
		{
			const char *name = json_is_object(item) ? js(item, *js(item, "key") ? "key" : "service") : "";
			CLEAN_FREE char *at = *name ? xasprintf("%s.%s", path, name) : xasprintf("%s[%zu]", path, i);
			flatten(item, at, out);
		}
	if ((!json_is_object(v) && !json_is_array(v)) || !(json_object_size(v) + json_array_size(v)))
		json_object_set(out, path, (json_t *)v);
}

static void put_difference(struct buf *out, const json_t *base, const json_t *flat)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)flat, key, v)
	{
		if (base && json_object_get(base, key) && json_equal(json_object_get(base, key), v))
			continue;
		buf_printf(out, "+ %s = ", key);
		json_put(out, v, 0, true, false);
		buf_puts(out, "\n");
	}
	json_object_foreach((json_t *)base, key, v) if (!json_object_get(flat, key)) buf_printf(out, "- %s\n", key);
}

/* ---- cases ---------------------------------------------------------------------------------------- */

struct golden {
	struct buf out;
	json_t *base;
};

static void put_result(struct golden *g, struct compose *c, int rc, bool config, const struct mesh_err *err,
                       json_t *plan)
{
	JSON_CLEAN flat = json_object();

	for (size_t i = 0; i < c->warnings.n; i++)
		buf_printf(&g->out, "warning: %s\n", c->warnings.v[i]);
	if (rc < 0) {
		buf_printf(&g->out, "error: %s\n", err->msg);
		return;
	}
	if (config) {
		compose_emit(c, &g->out);
		return;
	}
	flatten(plan, "", flat);
	put_difference(&g->out, g->base, flat);
	if (!g->base)
		g->base = json_incref(flat);
}

/* What is printed reads back as the same plan. */
static void check_emitted(struct compose *c, const json_t *plan)
{
	struct compose again = { 0 };
	struct mesh_err err = { 0 };
	struct buf text = { 0 };
	json_t *second = NULL;
	struct compose_opts plain = opts;

	compose_emit(c, &text);
	struct compose_file f = { "emitted", buf_str(&text), text.len };
	plain.raw = true; /* "$" is text now */
	if (compose_load(&again, &f, 1, &plain, &err) < 0 || compose_plan(&again, "st", &second, &err) < 0)
		fail_msg("printed and read again: %s\n%s", err.msg, buf_str(&text));
	json_object_del(second, "places");
	JSON_CLEAN a = json_object();
	JSON_CLEAN b = json_object();
	flatten(plan, "", a);
	flatten(second, "", b);
	if (!json_equal(a, b)) {
		struct buf diff = { 0 };
		put_difference(&diff, a, b);
		fail_msg("printed and read again gives another plan\n%s\n%s", buf_str(&text), buf_str(&diff));
	}
	json_decref(second);
	compose_fini(&again);
	buf_fini(&text);
}

static void run_case(struct golden *g, const char *title, char **texts, size_t n)
{
	struct compose_file files[4];
	struct compose c = { 0 };
	struct mesh_err err = { 0 };
	json_t *plan = NULL;
	bool config = !strncmp(title, "config:", 7);

	for (size_t i = 0; i < n; i++)
		files[i] = (struct compose_file){ i ? "over.yml" : "stack.yml", texts[i], strlen(texts[i]) };
	int rc = compose_load(&c, files, n, &opts, &err);
	if (!rc && !config)
		rc = compose_plan(&c, "st", &plan, &err);
	json_object_del(plan, "places");
	if (!rc && !config)
		check_emitted(&c, plan);
	buf_printf(&g->out, "### %s\n", title);
	put_result(g, &c, rc, config, &err, plan);
	buf_puts(&g->out, "\n");
	json_decref(plan);
	compose_fini(&c);
}

/* "[A=1 B=two]" at the end of a title */
static void take_variables(char *title)
{
	char *open = strchr(title, '['), *save = NULL;

	json_decref(variables);
	variables = json_object();
	json_object_set_new(variables, "HOME", json_string("/home/me"));
	if (!open)
		return;
	CLEAN_FREE char *list = xstrdup(open + 1);
	for (char *w = strtok_r(list, " ]", &save); w; w = strtok_r(NULL, " ]", &save)) {
		char *eq = strchr(w, '=');
		assert_non_null(eq);
		*eq = 0;
		json_object_set_new(variables, w, json_string(eq + 1));
	}
}

static void run_cases(struct golden *g, char *text)
{
	for (char *p = strstr(text, "### "), *next; p; p = next) {
		char *title = p + 4, *texts[4], *body;
		size_t n = 0;
		next = strstr(title, "\n### ");
		if (next)
			*next++ = 0;
		title[strcspn(title, "\n")] = 0;
		body = title + strlen(title) + 1;
		while (body && n < ARRAY_SIZE(texts)) {
			texts[n++] = body;
			body = strstr(body, "--- over\n");
			if (body) {
				*body = 0;
				body += strlen("--- over\n");
			}
		}
		take_variables(title);
		run_case(g, title, texts, n);
	}
}

/* The first line that differs says more than the whole. */
static void same_lines(const char *name, const char *want, const char *got)
{
	const char *title = got;

	while (*want && *want == *got) {
		if (!strncmp(got, "### ", 4))
			title = got;
		want++;
		got++;
	}
	if (!*want && !*got)
		return;
	while (got > title && got[-1] != '\n') {
		got--;
		want--;
	}
	fail_msg("%s: %.*s\n want: %.*s\n got:  %.*s", name, (int)strcspn(title, "\n"), title, (int)strcspn(want, "\n"),
	         want, (int)strcspn(got, "\n"), got);
}

static void golden(const char *name)
{
	struct golden g = { 0 };
	struct buf in = { 0 }, want = { 0 };
	CLEAN_FREE char *in_path = xasprintf(DIR_NAME "/%s.in", name);
	CLEAN_FREE char *ok_path = xasprintf(DIR_NAME "/%s.ok", name);

	if (!slurp(in_path, &in))
		fail_msg("%s is missing", in_path);
	run_cases(&g, (char *)buf_str(&in));
	if (getenv("GOLDEN_UPDATE")) {
		FILE *f = fopen(ok_path, "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(g.out.data, 1, g.out.len, f), g.out.len);
		fclose(f);
	} else {
		if (!slurp(ok_path, &want))
			fail_msg("%s is missing", ok_path);
		same_lines(name, buf_str(&want), buf_str(&g.out));
	}
	buf_fini(&in);
	buf_fini(&want);
	buf_fini(&g.out);
	json_decref(g.base);
}

static void keys(void **state)
{
	(void)state;
	golden("keys");
}

static void language(void **state)
{
	(void)state;
	golden("language");
}

static void merging(void **state)
{
	(void)state;
	golden("merge");
}

static void beyond(void **state)
{
	(void)state;
	golden("beyond");
}

static void errors(void **state)
{
	(void)state;
	golden("errors");
}

static void seeds(void **state)
{
	static const char *const names[] = { "prod", "coupon", "front", "web", "api", "dailylog" };
	struct golden g = { 0 };
	struct buf want = { 0 };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct buf text = { 0 };
		CLEAN_FREE char *path = xasprintf(DIR_NAME "/seeds/%s.yml", names[i]);
		assert_true(slurp(path, &text));
		char *body = (char *)buf_str(&text), title[] = "";
		take_variables(title);
		json_decref(g.base);
		g.base = json_object();
		run_case(&g, names[i], &body, 1);
		buf_fini(&text);
	}
	if (getenv("GOLDEN_UPDATE")) {
		FILE *f = fopen(DIR_NAME "/seeds.ok", "wb");
		assert_non_null(f);
		assert_int_equal(fwrite(g.out.data, 1, g.out.len, f), g.out.len);
		fclose(f);
	} else {
		assert_true(slurp(DIR_NAME "/seeds.ok", &want));
		same_lines("seeds", buf_str(&want), buf_str(&g.out));
	}
	buf_fini(&want);
	buf_fini(&g.out);
	json_decref(g.base);
}

/* ---- hostile files: an error, soon, in bounded memory ---------------------------------------------- */

static void repeat(struct buf *b, const char *s, size_t n)
{
	while (n--)
		buf_puts(b, s);
}

static void expect_refused(const char *what, struct buf *text, const char *words)
{
	struct compose c = { 0 };
	struct mesh_err err = { 0 };
	struct timespec a, b;
	json_t *plan = NULL;
	struct compose_file f = { "h.yml", buf_str(text), text->len };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
	int rc = compose_load(&c, &f, 1, &opts, &err);
	if (!rc)
		rc = compose_plan(&c, "st", &plan, &err);
	json_object_del(plan, "places");
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
	double s = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
	if (rc >= 0 || !strstr(err.msg, words))
		fail_msg("%s: %d \"%s\", not \"%s\"", what, rc, err.msg, words);
	if (s > 1)
		fail_msg("%s: took %.2f s", what, s);
	assert_true(c.arena.text < 2 * COMPOSE_MAX_TEXT);
	assert_true(c.arena.nodes < 2 * COMPOSE_MAX_NODES);
	json_decref(plan);
	compose_fini(&c);
	buf_clear(text);
}

static void hostile(void **state)
{
	struct buf t = { 0 };

	(void)state;
	take_variables((char[]){ "" });
	buf_puts(&t, "x-a: &a [1,1,1,1,1,1,1,1,1]\n");
	for (char k = 'b'; k <= 'k'; k++)
		buf_printf(&t, "x-%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", k, k, k - 1, k - 1, k - 1, k - 1,
		           k - 1, k - 1, k - 1, k - 1, k - 1);
	expect_refused("alias bomb", &t, "more than 100000 values");
	buf_puts(&t, "x-a: &a \"");
	repeat(&t, "0123456789", 10000);
	buf_puts(&t, "\"\nx-b: [");
	repeat(&t, "*a,", 5000);
	buf_puts(&t, "]\n");
	expect_refused("text bomb", &t, "more than 16 MiB of text");
	buf_puts(&t, "services: &a {s: *a}\n");
	expect_refused("cycle", &t, "h.yml:1: yaml: anchor 'a' value contains itself");
	buf_puts(&t, "services: &a\n  <<: *a\n");
	expect_refused("cycle through a merge", &t, "h.yml:2: yaml: anchor 'a' value contains itself");
	repeat(&t, "[", 100000);
	expect_refused("deep flow", &t, "nested deeper than 64 levels");
	for (int i = 0; i < 900; i++) {
		repeat(&t, " ", (size_t)i);
		buf_puts(&t, "a:\n");
	}
	expect_refused("deep block", &t, "nested deeper than 64 levels");
	repeat(&t, "a: b\n", 2 << 20);
	expect_refused("10 MB", &t, "larger than 2 MiB");
	for (int i = 0; i < 100000; i++)
		buf_printf(&t, "k%d: 1\n", i);
	expect_refused("many keys", &t, "more than 5000 keys in one mapping");
	repeat(&t, "- a\n", 500000);
	expect_refused("many values", &t, "more than 100000 values");
	buf_puts(&t, "services: {s: {image: \"");
	repeat(&t, "${A:-", 30000);
	buf_puts(&t, "\"}}\n");
	expect_refused("nested variables", &t, "invalid interpolation format");
	buf_puts(&t, "services: {s: {image: \"");
	repeat(&t, "${A:-", 1000);
	repeat(&t, "}", 1000);
	buf_puts(&t, "\"}}\n");
	expect_refused("well nested variables", &t, "invalid interpolation format");
	buf_puts(&t, "services:\n");
	for (int i = 0; i < 4000; i++)
		buf_printf(&t, "  s%d: {image: a, depends_on: [s%d]}\n", i, i + 1);
	expect_refused("a long chain", &t, "more than 200 services deep");
	buf_puts(&t, "services: {s: {image: a, ports: [");
	repeat(&t, "\"1-65535:1-65535\",", 5000);
	buf_puts(&t, "]}}\n");
	expect_refused("port ranges", &t, "Does not match format 'ports'");
	buf_puts(&t, "services: {s: {image: a, ports: [");
	repeat(&t, "\"1-1000:1-1000\",", 20000);
	buf_puts(&t, "]}}\n");
	expect_refused("many port ranges", &t, "ports");
	buf_puts(&t, "services: {s: {image: \"a\\0b\"}}\n");
	expect_refused("NUL", &t, "a NUL character");
	buf_puts(&t, "services: {s: {image: \"a\xff\"}}\n");
	expect_refused("not UTF-8", &t, "invalid leading UTF-8 octet");
	buf_puts(&t, "? [a]\n: b\n");
	expect_refused("a list as key", &t, "a mapping key must be a text");
	buf_puts(&t, "services: {s: !!python/object {image: a}}\n");
	expect_refused("a tag", &t, "unknown tag");
	buf_fini(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(keys),    cmocka_unit_test(language), cmocka_unit_test(merging),
		cmocka_unit_test(beyond),  cmocka_unit_test(errors),   cmocka_unit_test(seeds),
		cmocka_unit_test(hostile),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);

	json_decref(variables);
	return rc;
}
