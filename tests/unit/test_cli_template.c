/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cli/api.c"
#include "cli/http.c"
#include "cli/template.c"

static const char value_text[] =
	"{\"Name\":\"web\",\"N\":3,\"Big\":5000000000,\"Ok\":true,\"F\":0.5,\"None\":null,"
	"\"L\":[\"a\",\"b\"],\"M\":{\"z\":\"1\",\"a\":\"<2>\"},\"E\":[],\"D\":{\"e\":{\"f\":\"g\"}}}";

static void what_templates_give(void **state)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{ "plain", "plain" },
		{ "{{.Name}}-{{.N}}-{{.Big}}-{{.F}}-{{.Ok}}", "web-3-5000000000-0.5-true" },
		{ "{{.D.e.f}} {{.D}} {{.L}}", "g map[e:map[f:g]] [a b]" },
		{ "{{json .M}} {{json .Name}} {{json .L}}",
		  "{\"z\":\"1\",\"a\":\"\\u003c2\\u003e\"} \"web\" [\"a\",\"b\"]" },
		{ "{{index .M \"z\"}}{{index .L 1}}", "1b" },
		{ "{{range .L}}<{{.}}>{{end}}", "<a><b>" },
		{ "{{range $i, $x := .L}}{{$i}}{{$x}}{{$.Name}} {{end}}", "0aweb 1bweb " },
		{ "{{range $k, $v := .M}}{{$k}}={{$v}};{{end}}", "a=<2>;z=1;" },
		{ "{{range .E}}x{{else}}none{{end}}", "none" },
		{ "{{if .Ok}}y{{else}}n{{end}}{{if .None}}y{{else}}n{{end}}{{if .Nope}}y{{else}}n{{end}}", "ynn" },
		{ "{{if eq .N 4}}a{{else if eq .N 3}}b{{else}}c{{end}}", "b" },
		{ "{{if and .Ok (not .None)}}both{{end}}{{or .None .Name}}", "bothweb" },
		{ "{{with .D}}{{.e.f}}{{end}}{{with .None}}x{{end}}", "g" },
		{ "{{.Name | upper}} {{lower \"ABC\"}} {{title .Name}}", "WEB abc Web" },
		{ "{{len .L}}{{len .Name}}{{len .M}}{{len .Nope}}", "2320" },
		{ "{{join .L \"+\"}} {{split \"a:b\" \":\"}} {{truncate .Name 2}}|{{pad .Name 1 2}}|",
		  "a+b [a b] we| web  |" },
		{ "{{printf \"%-5s|%3v|%q|%%\" .Name .N .Name}}", "web  |  3|\"web\"|%" },
		{ "{{println .Name .N}}{{print \"a\" 1}}", "web 3\na1" },
		{ "a {{- .Name -}} b", "awebb" },
		{ "{{/* nothing */}}x", "x" },
		{ "{{$x := .Name}}{{$x}}{{`r\\aw`}}{{\"q\\\"t\\t\"}}", "webr\\awq\"t\t" },
		{ "{{lt .N 4}}{{ge .N 4}}{{ne .Name \"web\"}}", "truefalsefalse" },
	};

	(void)state;
	JSON_CLEAN v = json_loads(value_text, 0, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out = { 0 };
		struct mesh_err err = { 0 };
		if (template_run(cases[i].in, v, true, &out, &err) < 0)
			fail_msg("%s: %s", cases[i].in, err.msg);
		assert_string_equal(buf_str(&out), cases[i].out);
		buf_fini(&out);
	}
}

static void what_is_wrong_is_said(void **state)
{
	static const struct {
		const char *in, *word;
	} cases[] = {
		{ "{{.Nope}}", "Nope" },   { "{{.D.nope.x}}", "nope" },   { "{{nope .Name}}", "nope" },
		{ "{{.Name", "unclosed" }, { "{{if .Ok}}x", "EOF" },      { "{{end}}", "end" },
		{ "{{else}}", "else" },    { "{{\"x}}", "unclosed" },     { "{{.Name)}}", "unexpected" },
		{ "{{(.Name}}", "paren" }, { "{{$nope}}", "nope" },       { "{{json}}", "args" },
		{ "{{}}", "missing" },     { "{{.Name | }}", "missing" }, { "{{print json}}", "args" },
		{ "{{index}}", "args" },
	};

	(void)state;
	JSON_CLEAN v = json_loads(value_text, 0, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf out = { 0 };
		struct mesh_err err = { 0 };
		if (template_run(cases[i].in, v, true, &out, &err) == 0)
			fail_msg("%s was taken", cases[i].in);
		if (!strstr(err.msg, cases[i].word))
			fail_msg("%s: '%s' does not say '%s'", cases[i].in, err.msg, cases[i].word);
		buf_fini(&out);
	}
}

static void nesting_is_bounded(void **state)
{
	struct buf text = { 0 }, out = { 0 };

	(void)state;
	JSON_CLEAN v = json_loads(value_text, 0, NULL);
	for (int i = 0; i < 500; i++)
		buf_puts(&text, "{{if .Ok}}");
	for (int i = 0; i < 500; i++)
		buf_puts(&text, "{{end}}");
	assert_int_not_equal(template_run(buf_str(&text), v, true, &out, NULL), 0);
	buf_clear(&text);
	buf_puts(&text, "{{");
	for (int i = 0; i < 500; i++)
		buf_puts(&text, "(");
	buf_puts(&text, ".Name}}");
	assert_int_not_equal(template_run(buf_str(&text), v, true, &out, NULL), 0);
	buf_fini(&text);
	buf_fini(&out);
}

static void loops_are_bounded(void **state)
{
	static const char nested[] = "{{range $.V}}{{range $.V}}{{range $.V}}{{range $.V}}{{end}}{{end}}{{end}}{{end}}";
	struct buf out = { 0 };
	struct mesh_err err = { 0 };

	(void)state;
	JSON_CLEAN v = json_object();
	json_t *list = json_array();
	for (int i = 0; i < 200; i++)
		json_array_append_new(list, json_integer(i));
	json_object_set_new(v, "V", list);
	assert_int_equal(template_run(nested, v, true, &out, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "template takes too long");
	buf_fini(&out);
}

static void strings_that_double_are_bounded(void **state)
{
	struct buf text = { 0 }, out = { 0 };
	struct mesh_err err = { 0 };

	(void)state;
	JSON_CLEAN v = json_object();
	buf_puts(&text, "{{$a := \"a string of some length\"}}");
	for (int i = 0; i < 60; i++)
		buf_puts(&text, "{{$a := print $a $a}}");
	assert_int_equal(template_run(buf_str(&text), v, true, &out, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "template writes too much");
	buf_fini(&text);
	buf_fini(&out);
}

static void json_is_written_as_go_writes_it(void **state)
{
	static const char text[] =
		"{\"b\":[1,2.5,0.1,100.0],\"a\":{\"x\":null,\"y\":\"<&>\\n\\u0001\"},\"e\":{},\"l\":[]}";
	struct buf b = { 0 };

	(void)state;
	JSON_CLEAN v = json_loads(text, 0, NULL);
	json_put(&b, v, 0, true, true);
	assert_string_equal(buf_str(&b),
	                    "{\"a\":{\"x\":null,\"y\":\"\\u003c\\u0026\\u003e\\n\\u0001\"},\"b\":[1,2.5,0.1,100],"
	                    "\"e\":{},\"l\":[]}");
	buf_clear(&b);
	json_put(&b, jo(v, "b"), 4, false, false);
	assert_string_equal(buf_str(&b), "[\n    1,\n    2.5,\n    0.1,\n    100\n]");
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_templates_give),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(nesting_is_bounded),
		cmocka_unit_test(loops_are_bounded),
		cmocka_unit_test(strings_that_double_are_bounded),
		cmocka_unit_test(json_is_written_as_go_writes_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
