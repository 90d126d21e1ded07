// SPDX-License-Identifier: GPL-2.0-or-later
/* Tables and JSON. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/path/path.h"

static const char *const op_names[] = { "connection", "request", "MB", "datagram" };

static double median(const double *v, int n)
{
	double s[ROUNDS_MAX];

	memcpy(s, v, (size_t)n * sizeof(*v));
	qsort(s, (size_t)n, sizeof(*s), by_value);
	return s[n / 2];
}

static const struct bed *bed_of(const char *name)
{
	for (size_t i = 0; i < n_beds; i++)
		if (!strcmp(beds[i].kind->name, name))
			return &beds[i];
	return NULL;
}

/* The median of the rounds' own ratios: what disturbs a round disturbs both. */
static double ratio(const struct bed *b, const struct bed *p, enum op op, int rounds)
{
	double v[ROUNDS_MAX];

	for (int r = 0; r < rounds; r++)
		v[r] = p->cpu[op][r] > 0 ? b->cpu[op][r] / p->cpu[op][r] : 0;
	return median(v, rounds);
}

static void print_machine(int rounds)
{
	struct utsname u;
	char line[256], cpu[128] = "unknown";
	FILE *f = fopen("/proc/cpuinfo", "re");

	uname(&u);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "model name : %127[^\n]", cpu) == 1)
			break;
	if (f)
		fclose(f);
	printf("%s, %ld CPUs, Linux %s; %d interleaved rounds\n", cpu, sysconf(_SC_NPROCESSORS_ONLN), u.release,
	       rounds);
}

static void print_op(enum op op, int rounds, FILE *json)
{
	printf("\nper %s\n%-46s %8s %8s %8s  %s\n", op_names[op], "path", "CPU us", "wall p50", "p99",
	       "CPU, times the peer's");
	for (size_t i = 0; i < n_beds; i++) {
		const struct bed *b = &beds[i], *p = bed_of(b->kind->peer);
		double cpu = median(b->cpu[op], rounds), wall = median(b->wall[op], rounds),
		       p99 = median(b->p99[op], rounds);
		if (cpu <= 0)
			continue;
		printf("%-46s %8.2f %8.2f %8.2f", b->kind->name, cpu, wall, p99);
		if (p) {
			double x = ratio(b, p, op, rounds);
			printf("  %.2f of %s", x, p->kind->name);
			if (b->kind->aim > 0 && op <= RR)
				printf(", aim %.2f %s", b->kind->aim, x <= b->kind->aim ? "met" : "missed");
		}
		printf("\n");
		if (json)
			fprintf(json,
			        "%s\n  {\"path\": \"%s\", \"per\": \"%s\", \"cpu_us\": %.3f, \"p50_us\": %.3f, "
			        "\"p99_us\": %.3f, "
			        "\"peer\": \"%s\", \"ratio\": %.3f}",
			        op || i ? "," : "", b->kind->name, op_names[op], cpu, wall, p99, p ? p->kind->name : "",
			        p ? ratio(b, p, op, rounds) : 1.0);
	}
}

static double cost(const struct bed *b, enum op op, int rounds)
{
	return median(b->cpu[op], rounds);
}

/* Thousands of instructions, beside direct and beside the bed's own peer. */
static void print_guest(int rounds, FILE *json)
{
	const struct bed *base = &beds[0];

	printf("\nthousands of instructions\n%-42s %9s %7s %7s %9s %7s  %s\n", "path", "a conn.", "/direct", "/peer",
	       "a request", "/direct", "aim a conn.");
	for (size_t i = 0; i < n_beds; i++) {
		const struct bed *b = &beds[i], *p = bed_of(b->kind->peer);
		double c = cost(b, CRR, rounds), r = cost(b, RR, rounds);
		double over = p ? c / cost(p, CRR, rounds) : 1;
		printf("%-42s %9.1f %7.3f %7.3f %9.1f %7.3f", b->kind->name, c, c / cost(base, CRR, rounds), over, r,
		       r / cost(base, RR, rounds));
		if (b->kind->aim_k)
			printf("  %u %s", b->kind->aim_k, c <= b->kind->aim_k ? "met" : "missed");
		printf("\n");
		if (json)
			fprintf(json,
			        "%s\n  {\"path\": \"%s\", \"k_instructions\": {\"connection\": %.2f, \"request\": "
			        "%.2f}, "
			        "\"peer\": \"%s\", \"ratio\": %.4f, \"aim\": %u}",
			        i ? "," : "", b->kind->name, c, r, p ? p->kind->name : "", over, b->kind->aim_k);
	}
}

void report(int rounds, const char *json_path)
{
	FILE *json = json_path ? fopen(json_path, "we") : NULL;

	print_machine(rounds);
	if (json)
		fprintf(json, "[");
	if (guest)
		print_guest(rounds, json);
	for (enum op op = 0; !guest && op < OP_MAX; op++)
		print_op(op, rounds, json);
	if (json) {
		fprintf(json, "\n]\n");
		fclose(json);
	}
}
