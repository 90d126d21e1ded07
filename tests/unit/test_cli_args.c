/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cli/args.c"
#include "cli/help.c"
#include "cli/units.c"

static int nothing(struct cli *c, struct mesh_err *err)
{
	(void)c;
	(void)err;
	return 0;
}

static const struct flag make_flags[] = {
	{ "name", 'n', F_STR, NULL, "none", "" },   { "quiet", 'q', F_BOOL, NULL, NULL, "" },
	{ "verbose", 'v', F_BOOL, NULL, NULL, "" }, { "env", 'e', F_LIST, NULL, NULL, "" },
	{ "count", 0, F_UINT, NULL, "3", "" },      { "delay", 0, F_DURATION, NULL, NULL, "" },
	{ "memory", 0, F_BYTES, NULL, NULL, "" },   { "cpu", 0, F_CPUS, NULL, NULL, "" },
	{ "ratio", 0, F_FLOAT, NULL, NULL, "" },
};
static const struct command make = { .name = "make", .alias = "create", FLAGS(make_flags), .run = nothing, .max = -1 };
static const struct command run_in = {
	.name = "run", FLAGS(make_flags), .run = nothing, .min = 1, .max = -1, .verbatim = true
};
static const struct command two = { .name = "two", .run = nothing, .min = 2, .max = 2 };
static const struct command *const thing_subs[] = { &make, &run_in, &two, NULL };
static const struct command thing = { .name = "thing", .subs = thing_subs };
static const struct command *const root_subs[] = { &thing, NULL };
const struct command cmd_root = { .name = "meshctl", .subs = root_subs };

struct parsed {
	struct cli c;
	struct mesh_err err;
	bool help;
	int rc;
};

/* Words are split at spaces; '_' stands for an empty word. */
static struct parsed parse(const char *line)
{
	static char copy[512];
	static char *argv[32];
	struct parsed p = { 0 };
	int argc = 0;
	char *save = NULL;

	snprintf(copy, sizeof(copy), "meshctl %s", line);
	for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		if (!strcmp(w, "_"))
			*w = 0;
		argv[argc++] = w;
	}
	argv[argc] = NULL;
	p.rc = args_parse(&p.c, argc, argv, &p.help, &p.err);
	return p;
}

static void done(struct parsed *p)
{
	args_clear(&p->c);
	free(p->c.host);
}

static void flags_in_all_their_forms(void **state)
{
	(void)state;
	struct parsed p =
		parse("thing make -qv -n a --name=b -nc -e 1 --env 2 -e=3 --count 7 --delay 1m --memory 1k --cpu .5 "
	              "--ratio 0.25 x --quiet=false y -H unix:///s");
	assert_int_equal(p.rc, 0);
	assert_string_equal(p.c.path, "meshctl thing make");
	assert_string_equal(flag_str(&p.c, "name"), "c");
	assert_false(flag_bool(&p.c, "quiet"));
	assert_true(flag_bool(&p.c, "verbose"));
	assert_int_equal(flag_list(&p.c, "env")->n, 3);
	assert_string_equal(flag_list(&p.c, "env")->v[2], "3");
	assert_int_equal(flag_int(&p.c, "count"), 7);
	assert_int_equal(flag_int(&p.c, "delay"), 60 * NS_PER_S);
	assert_int_equal(flag_int(&p.c, "memory"), 1024);
	assert_int_equal(flag_int(&p.c, "cpu"), 500000000);
	assert_true(flag_float(&p.c, "ratio") == 0.25);
	assert_int_equal(p.c.nargs, 2);
	assert_string_equal(p.c.args[1], "y");
	assert_string_equal(p.c.host, "unix:///s");
	done(&p);
}

static void defaults_and_what_was_given(void **state)
{
	(void)state;
	struct parsed p = parse("thing create --env _");
	assert_int_equal(p.rc, 0);
	assert_string_equal(flag_str(&p.c, "name"), "none");
	assert_int_equal(flag_int(&p.c, "count"), 3);
	assert_false(flag_given(&p.c, "count"));
	assert_true(flag_given(&p.c, "env"));
	assert_false(flag_known(&p.c, "nope"));
	done(&p);
}

static void verbatim_keeps_what_follows(void **state)
{
	(void)state;
	struct parsed p = parse("thing run -q c sh -c --name -- x");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.c.nargs, 6);
	assert_string_equal(p.c.args[3], "--name");
	assert_string_equal(p.c.args[4], "--");
	done(&p);
	p = parse("thing make -- -q --nope");
	assert_int_equal(p.rc, 0);
	assert_int_equal(p.c.nargs, 2);
	assert_false(flag_given(&p.c, "quiet"));
	done(&p);
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *line, *says;
		int code;
	} cases[] = {
		{ "thing make --nope", "unknown flag: --nope\nSee 'meshctl thing make --help'.", MESH_E_USAGE },
		{ "thing make -z", "unknown shorthand flag: 'z' in -z", MESH_E_USAGE },
		{ "thing make --name", "flag needs an argument: --name", MESH_E_USAGE },
		{ "thing make -e", "flag needs an argument: 'e' in -e", MESH_E_USAGE },
		{ "thing make --count x", "invalid argument \"x\" for \"--count\" flag", MESH_E_USAGE },
		{ "thing make --count -1", "must not be negative", MESH_E_USAGE },
		{ "thing make --delay 5", "missing unit", MESH_E_USAGE },
		{ "thing make --quiet=maybe", "not true or false", MESH_E_USAGE },
		{ "thing mkae", "Did you mean 'make'?", MESH_E_INVALID },
		{ "thnig", "Did you mean 'thing'?", MESH_E_INVALID },
		{ "thing zzzzzz", "'zzzzzz' is not a meshctl thing command.", MESH_E_INVALID },
		{ "thing two a", "requires exactly 2 arguments", MESH_E_INVALID },
		{ "thing run", "requires at least 1 argument\n", MESH_E_INVALID },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct parsed p = parse(cases[i].line);
		assert_int_equal(p.rc, cases[i].code);
		if (!strstr(p.err.msg, cases[i].says))
			fail_msg("'%s': \"%s\" does not say \"%s\"", cases[i].line, p.err.msg, cases[i].says);
		done(&p);
	}
}

static void help_is_found_anywhere(void **state)
{
	static const char *const lines[] = { "--help",          "-h thing",        "thing --help", "thing make --help",
		                             "thing make x -h", "thing two --help" };

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		struct parsed p = parse(lines[i]);
		assert_int_equal(p.rc, 0);
		assert_true(p.help);
		done(&p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(flags_in_all_their_forms),    cmocka_unit_test(defaults_and_what_was_given),
		cmocka_unit_test(verbatim_keeps_what_follows), cmocka_unit_test(mistakes_are_named),
		cmocka_unit_test(help_is_found_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
