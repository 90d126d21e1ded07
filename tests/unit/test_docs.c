// SPDX-License-Identifier: GPL-2.0-or-later
/* docs/seeing.md lists every drop reason with the number, the word and the text that the programs have, and what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "bpf/abi.h"

static const char *const drops[][2] = {
#define X(name, id, text) { id, text },
	ABI_DROPS(X)
#undef X
};

static char *doc;

static int setup(void **state)
{
	FILE *f = fopen("docs/seeing.md", "r"); /* tests run where the source is */
	size_t n;

	(void)state;
	if (!f)
		return -1;
	doc = xcalloc(1, 1 << 20);
	n = fread(doc, 1, (1 << 20) - 1, f);
	fclose(f);
	return n ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	free(doc);
	return 0;
}

static void every_drop_is_told(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(drops); i++) {
		CLEAN_FREE char *row = xasprintf("\n| %u | `%s` | %s | ", i, drops[i][0], drops[i][1]);
		const char *at = strstr(doc, row);
		if (!at)
			fail_msg("docs/seeing.md has no row \"%s\"", row + 1);
		assert_true(strcspn(at + strlen(row), "|\n") > 5); /* what to do */
	}
}

static void no_other_is(void **state)
{
	CLEAN_FREE char *next = xasprintf("\n| %zu | `", ARRAY_SIZE(drops));

	(void)state;
	assert_null(strstr(doc, next));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_drop_is_told),
		cmocka_unit_test(no_other_is),
	};

	return cmocka_run_group_tests_name("docs", tests, setup, teardown);
}
