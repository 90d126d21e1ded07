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
static uint32_t a[SLOTS], b[SLOTS];
static uint32_t counts[UINT16_MAX + 1];

static void make_set(size_t n)
{
	struct mesh_rng r;

	mesh_rng_seed(&r, 7);
	for (size_t i = 0; i < n; i++)
		set[i] = (struct maglev_backend){ .id = mesh_rng_next(&r), .value = (uint32_t)(i + 1) };
}

static void count(const uint32_t *t, unsigned bits)
{
	memset(counts, 0, sizeof(counts));
	for (uint32_t i = 0; i < 1u << bits; i++)
		counts[t[i]]++;
}

/* A table is right when it is full and everyone has the share of its weight, give or take one slot. */
static void check_shares(const uint32_t *t, unsigned bits, const struct maglev_backend *s, size_t n)
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
		maglev_build(a, bits, set, sizes[i]);
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
	maglev_build(a, 13, set, 50);
	maglev_build(b, 13, other, 50);
	assert_memory_equal(a, b, sizeof(uint32_t) << 13);
}

static void weights(void **state)
{
	(void)state;
	make_set(4);
	set[0].weight = 90;
	set[1].weight = 10;
	set[2].weight = 1;
	set[3].weight = 0;
	maglev_build(a, 12, set, 4);
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
	maglev_build(a, 8, set, 3);
	count(a, 8);
	assert_int_equal(counts[1], 254);
	assert_int_equal(counts[2], 1);
	assert_int_equal(counts[3], 1);
}

/* Slots whose owner is in both sets and changed all the same, of a thousand. */
static size_t moved_for_nothing(unsigned bits, uint32_t gone, uint32_t came)
{
	size_t moved = 0;

	for (uint32_t i = 0; i < 1u << bits; i++)
		moved += a[i] != b[i] && a[i] != gone && b[i] != came;
	return moved * 1000 >> bits;
}

static void check_removals(size_t n, size_t step, size_t limit)
{
	static struct maglev_backend rest[MAX];
	unsigned bits = maglev_bits(n);

	make_set(n);
	maglev_build(a, bits, set, n);
	for (size_t gone = 0; gone < n; gone += step) {
		size_t k = 0;
		for (size_t i = 0; i < n; i++)
			if (i != gone)
				rest[k++] = set[i];
		assert_int_equal(maglev_bits(k), bits);
		maglev_build(b, bits, rest, k);
		check_shares(b, bits, rest, k);
		assert_true(moved_for_nothing(bits, set[gone].value, 0) < limit);
	}
}

static void removal_moves_little(void **state)
{
	(void)state;
	check_removals(10, 1, 45);
	check_removals(40, 3, 40);
	check_removals(100, 9, 25);
}

static void addition_moves_little(void **state)
{
	(void)state;
	make_set(11);
	unsigned bits = maglev_bits(10);
	maglev_build(a, bits, set, 10);
	maglev_build(b, bits, set, 11);
	check_shares(b, bits, set, 11);
	assert_true(moved_for_nothing(bits, 0, 11) < 45);
}

/* Small sets have small tables; a hundred slots each as long as there are that many. */
static void sizes_follow_the_set(void **state)
{
	(void)state;
	static const struct {
		size_t n;
		unsigned bits;
	} rows[] = { { 0, 4 },   { 1, 4 },   { 2, 10 },   { 10, 10 },  { 11, 12 },
		     { 40, 12 }, { 41, 14 }, { 163, 14 }, { 164, 16 }, { 100000, 16 } };
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(maglev_bits(rows[i].n), rows[i].bits);
}

/* What a slot holds is local to a node; whose slot it is, is not. */
static void values_do_not_matter(void **state)
{
	struct maglev_backend other[20];

	(void)state;
	make_set(20);
	for (size_t i = 0; i < 20; i++) {
		other[i] = set[i];
		other[i].value = (uint32_t)(1000 - i);
	}
	maglev_build(a, 11, set, 20);
	maglev_build(b, 11, other, 20);
	for (uint32_t i = 0; i < 1u << 11; i++)
		assert_int_equal(b[i], 1001 - a[i]);
}

/* A long life against a naive check: always full, always fair, never a value of somebody who left. */
static void random_life(void **state)
{
	struct mesh_rng r;
	struct maglev_backend now[64];
	bool in[64] = {};

	(void)state;
	make_set(64);
	mesh_rng_seed(&r, 3);
	for (int step = 0; step < 500; step++) {
		size_t n = 0, k = mesh_rng_below(&r, 64);
		in[k] = !in[k];
		set[k].weight = (uint32_t)mesh_rng_below(&r, 5);
		for (size_t i = 0; i < 64; i++)
			if (in[i])
				now[n++] = set[i];
		maglev_build(a, 13, now, n);
		if (n)
			check_shares(a, 13, now, n);
		else
			count(a, 13);
		for (size_t i = 0; i < 64; i++)
			if (!in[i])
				assert_int_equal(counts[i + 1], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(balance),
		cmocka_unit_test(order_of_the_set_does_not_matter),
		cmocka_unit_test(weights),
		cmocka_unit_test(nobody_goes_empty),
		cmocka_unit_test(removal_moves_little),
		cmocka_unit_test(addition_moves_little),
		cmocka_unit_test(sizes_follow_the_set),
		cmocka_unit_test(values_do_not_matter),
		cmocka_unit_test(random_life),
	};

	return cmocka_run_group_tests_name("maglev", tests, NULL, NULL);
}
