// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Balance and disruption of the load balancing tables: ours beside the paper's (prime size 65537, as Katran has it),
 * beside what Cilium takes by default (16381), and beside rendezvous hashing on our size. "for nothing": percent of the
 * table that changed hands although its owner stayed; the lower bound of that is 0.
 *
 *   bench/maglev [-o file.json]
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/id.h"
#include "base/mem.h"
#include "dataplane/ebpf/maglev.h"

#define N_MAX 1001
#define SIZE_MAX_ 65537
#define TRIES 5

struct scheme {
	const char *name;
	uint32_t (*size)(size_t n);
	void (*build)(uint32_t *out, uint32_t size, const struct maglev_backend *b, size_t n);
};

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static uint32_t our_size(size_t n)
{
	return 1u << maglev_bits(n);
}

static void our_build(uint32_t *out, uint32_t size, const struct maglev_backend *b, size_t n)
{
	unsigned bits = 0;

	while (1u << bits < size)
		bits++;
	maglev_build(out, bits, b, n);
}

static uint32_t paper_size(size_t n)
{
	(void)n;
	return 65537;
}

static uint32_t cilium_size(size_t n)
{
	(void)n;
	return 16381;
}

/* The paper's pseudocode; weights take turns by a cumulative share. */
static void paper_build(uint32_t *out, uint32_t size, const struct maglev_backend *b, size_t n)
{
	CLEAN_FREE uint32_t *next = xcalloc(n, sizeof(*next));
	CLEAN_FREE double *due = xcalloc(n, sizeof(*due));
	uint32_t left = size, most = 0;

	memset(out, 0, size * sizeof(*out));
	for (size_t i = 0; i < n; i++) {
		next[i] = (uint32_t)(mix(b[i].id) % size);
		most = b[i].weight > most ? b[i].weight : most;
	}
	while (left)
		for (size_t i = 0; i < n && left; i++) {
			due[i] += most ? (double)b[i].weight / most : 1;
			if (due[i] < 1)
				continue;
			due[i] -= 1;
			uint32_t skip = (uint32_t)(mix(b[i].id ^ 0x5851f42d4c957f2dULL) % (size - 1)) + 1;
			while (out[next[i]])
				next[i] = (next[i] + skip) % size;
			out[next[i]] = b[i].value;
			left--;
		}
}

static void rendezvous_build(uint32_t *out, uint32_t size, const struct maglev_backend *b, size_t n)
{
	for (uint32_t s = 0; s < size; s++) {
		uint64_t best = 0;
		for (size_t i = 0; i < n; i++) {
			uint64_t h = mix(b[i].id ^ mix(s * 0x9e3779b97f4a7c15ULL + 1));
			if (h >= best) {
				best = h;
				out[s] = b[i].value;
			}
		}
	}
}

static const struct scheme schemes[] = {
	{ "ours", our_size, our_build },
	{ "paper, 65537", paper_size, paper_build },
	{ "paper, 16381", cilium_size, paper_build },
	{ "rendezvous", our_size, rendezvous_build },
};

static struct maglev_backend all[N_MAX], some[N_MAX];
static uint32_t before[SIZE_MAX_], after[SIZE_MAX_];
static bool gone[N_MAX + 1];

static void make_all(size_t n, bool weighted)
{
	struct mesh_rng r;

	mesh_rng_seed(&r, 7);
	for (size_t i = 0; i < n; i++)
		all[i] = (struct maglev_backend){ .id = mesh_rng_next(&r),
			                          .value = (uint32_t)(i + 1),
			                          .weight = weighted ? (uint32_t)(1 + i % 5) : 1 };
}

/* The largest share in units of the fair one, minus 1, in percent. */
static double imbalance(uint32_t size, size_t n)
{
	CLEAN_FREE uint32_t *count = xcalloc(n + 1, sizeof(*count));
	double total = 0, worst = 0;

	for (uint32_t i = 0; i < size; i++)
		count[before[i]]++;
	for (size_t i = 0; i < n; i++)
		total += all[i].weight;
	for (size_t i = 0; i < n; i++) {
		double x = count[i + 1] * total / ((double)size * all[i].weight);
		worst = x > worst ? x : worst;
	}
	return (worst - 1) * 100;
}

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* Percent of the table that moved for nothing when k of n leave. */
static double leave(const struct scheme *s, uint32_t size, size_t n, size_t k)
{
	double sum = 0;

	for (size_t t = 0; t < TRIES; t++) {
		size_t left = 0, moved = 0;
		memset(gone, 0, sizeof(gone));
		for (size_t i = 0; i < k; i++)
			gone[1 + (t * n / TRIES + i * (n / k)) % n] = true;
		for (size_t i = 0; i < n; i++)
			if (!gone[i + 1])
				some[left++] = all[i];
		s->build(after, size, some, left);
		for (uint32_t i = 0; i < size; i++)
			moved += !gone[before[i]] && after[i] != before[i];
		sum += (double)moved * 100 / size;
	}
	return sum / TRIES;
}

static void row(const struct scheme *s, size_t n, bool weighted, FILE *json, bool first)
{
	uint32_t size = s->size(n);

	make_all(n, weighted);
	double t0 = cpu_ms();
	s->build(before, size, all, n);
	double ms = cpu_ms() - t0, one = leave(s, size, n, 1);
	double hundredth = n >= 100 ? leave(s, size, n, n / 100) : -1, tenth = n >= 10 ? leave(s, size, n, n / 10) : -1;
	printf("%-14s %5zu%s %6u %8.2f %8.2f", s->name, n, weighted ? "w" : " ", size, imbalance(size, n), one);
	printf(hundredth < 0 ? "        -" : " %8.2f", hundredth);
	printf(tenth < 0 ? "        -" : " %8.2f", tenth);
	printf(" %8.2f\n", ms);
	if (json)
		fprintf(json,
		        "%s\n  {\"scheme\": \"%s\", \"n\": %zu, \"weighted\": %s, \"slots\": %u, \"imbalance\": %.3f, "
		        "\"one_leaves\": %.3f, \"hundredth_leaves\": %.3f, \"tenth_leaves\": %.3f, \"build_ms\": %.3f}",
		        first ? "" : ",", s->name, n, weighted ? "true" : "false", size, imbalance(size, n), one,
		        hundredth, tenth, ms);
}

int main(int argc, char **argv)
{
	static const size_t sizes[] = { 3, 10, 30, 40, 100, 300, 1000 };
	FILE *json = NULL;
	bool first = true;

	if (getopt(argc, argv, "o:") == 'o')
		json = fopen(optarg, "we");
	if (json)
		fprintf(json, "[");
	printf("percent; w: weights 1 to 5\n%-14s %5s  %6s %8s %8s %8s %8s %8s\n", "scheme", "N", "slots", "max/avg-1",
	       "1 gone", "1 % gone", "10% gone", "build ms");
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (size_t s = 0; s < ARRAY_SIZE(schemes); s++) {
			row(&schemes[s], sizes[i], false, json, first);
			first = false;
		}
	row(&schemes[0], 40, true, json, false);
	row(&schemes[1], 40, true, json, false);
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
	return 0;
}
