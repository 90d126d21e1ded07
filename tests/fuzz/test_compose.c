/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/fuzz/fuzz_compose.c"
#include "tests/fuzz/replay.h"

static void corpus_is_survived(void **state)
{
	(void)state;
	assert_true(replay_corpus("tests/fuzz/corpus/compose", 300) >= 20);
}

static void peoples_files_are_survived(void **state)
{
	(void)state;
	assert_true(replay_corpus("tests/golden/compose/seeds", 300) >= 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(corpus_is_survived),
		                            cmocka_unit_test(peoples_files_are_survived) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
