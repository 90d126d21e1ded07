/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>

#include "base/id.h"
#include "tests/fuzz/fuzz_agent.c"

#define CORPUS "tests/fuzz/corpus/agent"

static void mutate(const uint8_t *seed, size_t n, struct mesh_rng *rng)
{
	for (int i = 0; i < 300; i++) {
		/* An exact allocation, so that a sanitizer sees every byte too far. */
		size_t len = n ? n - mesh_rng_below(rng, n < 8 ? n : 8) : 0;
		uint8_t *p = xcalloc(1, len ? len : 1);
		memcpy(p, seed, len);
		for (uint64_t k = mesh_rng_below(rng, 6); k > 0 && len; k--)
			p[mesh_rng_below(rng, len)] = (uint8_t)mesh_rng_next(rng);
		assert_int_equal(LLVMFuzzerTestOneInput(p, len), 0);
		free(p);
	}
}

static void test_corpus(void **state)
{
	struct mesh_rng rng;
	int files = 0;
	(void)state;
	mesh_rng_seed(&rng, 1);
	DIR *d = opendir(CORPUS);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char path[512];
		uint8_t data[8192];
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), CORPUS "/%s", e->d_name);
		FILE *f = fopen(path, "re");
		assert_non_null(f);
		size_t n = fread(data, 1, sizeof(data), f);
		fclose(f);
		assert_int_equal(LLVMFuzzerTestOneInput(data, n), 0);
		mutate(data, n, &rng);
		files++;
	}
	closedir(d);
	assert_true(files >= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_corpus) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
