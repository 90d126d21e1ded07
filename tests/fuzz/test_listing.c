/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "tests/fuzz/fuzz_listing.c"
#include "tests/fuzz/replay.h"

static void corpus_is_survived(void **state)
{
	(void)state;
	assert_true(replay_corpus("tests/fuzz/corpus/listing", 5000) >= 6);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(corpus_is_survived) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
