// SPDX-License-Identifier: GPL-2.0-or-later
/* Maglev tables: balance, weights, determinism, and how little they move. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/id.h"
#include "base/mem.h"
#include "dataplane/ebpf/maglev.h"

#define MAX 1000
#define SLOTS (1u << MAGLEV_BITS_MAX)

static struct maglev_backend set[MAX];
static uint16_t a[SLOTS], b[SLOTS];
static uint32_t counts[UINT16_MAX + 1];

static void make_set(size_t n)
{
	struct mesh_rng r;

	mesh_rng_seed(&r, 7);
	for (size_t i = 0; i < n; i++)
		set[i] = (struct maglev_backend){ .id = mesh_rng_next(&r), .value = (uint16_t)(i + 1) };
}

static void count(const uint16_t *t, unsigned bits)
{
	memset(counts, 0, sizeof(counts));
	for (uint32_t i = 0; i < 1u << bits; i++)
		counts[t[i]]++;
}

/* A table is right when it is full and everyone has the share of its weight, give or take one slot. */
static void check_shares(const uint16_t *t, unsigned bits, const struct maglev_backend *s, size_t n)
{
	uint64_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += s[i].weight ? s[i].weight : 1;
	count(t, bits);
	assert_int_equal(counts[0], 0);
	for (size_t i = 0; i < n; i++) {
		double want = (double)(1u << bits) * (s[i].weight ? s[i].weight : 1) / (double)total;
		assert_true(counts[s[i].value] >= (uint32_t)want && counts[s[i].value] <= (uint32_t)want + 1);
	}
}

static void balance(void **state)
{
	(void)state;
	static const size_t sizes[] = { 1, 2, 3, 7, 100, 1000 };
	make_set(MAX);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		unsigned bits = maglev_bits(sizes[i]);
		assert_true(bits >= MAGLEV_BITS_MIN && bits <= MAGLEV_BITS_MAX);
		maglev_build(a, bits, NULL, 0, set, sizes[i]);
		check_shares(a, bits, set, sizes[i]);
	}
}

static void order_of_the_set_does_not_matter(void **state)
{
	struct maglev_backend other[50];

	(void)state;
	make_set(50);
	for (int i = 0; i < 50; i++)
		other[i] = set[(i * 7 + 3) % 50];
	maglev_build(a, 13, NULL, 0, set, 50);
	maglev_build(b, 13, NULL, 0, other, 50);
	assert_memory_equal(a, b, sizeof(uint16_t) << 13);
}

static void weights(void **state)
{
	(void)state;
	make_set(4);
	set[0].weight = 90;
	set[1].weight = 10;
	set[2].weight = 1;
	set[3].weight = 0;
	maglev_build(a, 12, NULL, 0, set, 4);
	check_shares(a, 12, set, 4);
}

/* Even a weight far below one slot's worth gets one. */
static void nobody_goes_empty(void **state)
{
	(void)state;
	make_set(3);
	set[0].weight = 1000000;
	set[1].weight = 1;
	set[2].weight = 1;
	maglev_build(a, 8, NULL, 0, set, 3);
	count(a, 8);
	assert_int_equal(counts[1], 254);
	assert_int_equal(counts[2], 1);
	assert_int_equal(counts[3], 1);
}

static void removal_moves_only_what_it_must(void **state)
{
	(void)state;
	make_set(100);
	unsigned bits = maglev_bits(100);
	maglev_build(a, bits, NULL, 0, set, 100);
	for (size_t gone = 0; gone < 100; gone += 9) {
		struct maglev_backend rest[99];
		size_t n = 0, moved = 0;
		for (size_t i = 0; i < 100; i++)
			if (i != gone)
				rest[n++] = set[i];
		maglev_build(b, bits, a, bits, rest, n);
		check_shares(b, bits, rest, n);
		for (uint32_t i = 0; i < 1u << bits; i++) {
			if (a[i] == set[gone].value)
				assert_int_not_equal(b[i], a[i]);
			else
				moved += a[i] != b[i];
		}
		assert_int_equal(moved, 0);
	}
}

static void addition_moves_one_share(void **state)
{
	(void)state;
	make_set(101);
	unsigned bits = maglev_bits(101);
	size_t moved = 0;
	maglev_build(a, bits, NULL, 0, set, 100);
	maglev_build(b, bits, a, bits, set, 101);
	check_shares(b, bits, set, 101);
	for (uint32_t i = 0; i < 1u << bits; i++)
		if (a[i] != b[i]) {
			moved++;
			assert_int_equal(b[i], 101);
		}
	assert_true(moved <= (1u << bits) / 101 + 1);
}

static void no_change_moves_nothing(void **state)
{
	(void)state;
	make_set(37);
	set[5].weight = 4;
	maglev_build(a, 12, NULL, 0, set, 37);
	maglev_build(b, 12, a, 12, set, 37);
	assert_memory_equal(a, b, sizeof(uint16_t) << 12);
}

static void growing_keeps_flows(void **state)
{
	(void)state;
	make_set(8);
	size_t moved = 0;
	maglev_build(a, 8, NULL, 0, set, 7);
	maglev_build(b, 10, a, 8, set, 8);
	check_shares(b, 10, set, 8);
	for (uint32_t i = 0; i < 1u << 10; i++)
		moved += b[i] != a[i & 255] && b[i] != 8;
	/* Rounding at the old size: a slot each at most, four times as large now. */
	assert_true(moved <= 8 * 4);
}

/* A long life against a naive check: always full, always fair, never a value of somebody who left. */
static void random_life(void **state)
{
	struct mesh_rng r;
	struct maglev_backend now[64];
	bool in[64] = {};
	uint16_t *old = a, *fresh = b;

	(void)state;
	make_set(64);
	mesh_rng_seed(&r, 3);
	memset(a, 0, sizeof(a));
	for (int step = 0; step < 500; step++) {
		size_t n = 0, k = mesh_rng_below(&r, 64);
		in[k] = !in[k];
		set[k].weight = (uint32_t)mesh_rng_below(&r, 5);
		for (size_t i = 0; i < 64; i++)
			if (in[i])
				now[n++] = set[i];
		maglev_build(fresh, 13, old, 13, now, n);
		if (n)
			check_shares(fresh, 13, now, n);
		else
			count(fresh, 13);
		for (size_t i = 0; i < 64; i++)
			if (!in[i])
				assert_int_equal(counts[i + 1], 0);
		uint16_t *t = old;
		old = fresh;
		fresh = t;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balance),
		cmocka_unit_test(order_of_the_set_does_not_matter),
		cmocka_unit_test(weights),
		cmocka_unit_test(nobody_goes_empty),
		cmocka_unit_test(removal_moves_only_what_it_must),
		cmocka_unit_test(addition_moves_one_share),
		cmocka_unit_test(no_change_moves_nothing),
		cmocka_unit_test(growing_keeps_flows),
		cmocka_unit_test(random_life),
	};

	return cmocka_run_group_tests_name("maglev", tests, NULL, NULL);
}
