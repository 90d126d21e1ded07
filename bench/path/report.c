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

static void cpu_model(char *out, size_t size)
{
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	snprintf(out, size, "unknown");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "model name", 10))
			continue;
		line[strcspn(line, "\n")] = '\0';
		snprintf(out, size, "%s", strchr(line, ':') + 2);
		break;
	}
	if (f)
		fclose(f);
}

static double cost(const struct bed *b, enum op op, int rounds)
{
	return median(b->cpu[op], rounds);
}

static void print_op(enum op op, int rounds)
{
	printf("\nper %s\n%-46s %8s %8s %8s %8s  %s\n", op_names[op], "path", "CPU us", "a second", "p50 us", "p99 us",
	       "CPU, times the peer's");
	for (size_t i = 0; i < n_beds; i++) {
		const struct bed *b = &beds[i], *p = bed_of(b->kind->peer);
		if (cost(b, op, rounds) <= 0)
			continue;
		printf("%-46s %8.2f %8.0f %8.2f %8.2f", b->kind->name, cost(b, op, rounds), median(b->rate[op], rounds),
		       median(b->wall[op], rounds), median(b->p99[op], rounds));
		if (p) {
			double x = ratio(b, p, op, rounds);
			printf("  %.2f of %s", x, p->kind->name);
			if (b->kind->aim > 0 && op <= RR)
				printf(", aim %.2f %s", b->kind->aim, x <= b->kind->aim ? "met" : "missed");
		}
		printf("\n");
	}
}

/* Each path of ours beside each of the others. */
static void print_matrix(enum op op, int rounds)
{
	unsigned n = 0;

	printf("\nper %s, ours times theirs:", op_names[op]);
	for (size_t i = 0; i < n_beds; i++)
		if (!(beds[i].kind->on & OURS))
			printf("%s [%u] %s", n ? "," : "", n + 1, beds[i].kind->name), n++;
	printf("\n%-46s", "path");
	for (unsigned i = 1; i <= n; i++)
		printf("    [%2u]", i);
	for (size_t i = 0; i < n_beds; i++) {
		if (!(beds[i].kind->on & OURS))
			continue;
		printf("\n%-46s", beds[i].kind->name);
		for (size_t k = 0; k < n_beds; k++)
			if (!(beds[k].kind->on & OURS))
				printf(" %7.2f", ratio(&beds[i], &beds[k], op, rounds));
	}
	printf("\n");
}

/* Thousands of instructions, beside direct and beside the bed's own peer. */
static void print_guest(int rounds)
{
	const struct bed *base = &beds[0];

	printf("\nthousands of instructions\n%-44s %9s %7s %7s %9s %7s  %s\n", "path", "a conn.", "/direct", "/peer",
	       "a request", "/direct", "aim a conn.");
	for (size_t i = 0; i < n_beds; i++) {
		const struct bed *b = &beds[i], *p = bed_of(b->kind->peer);
		double c = cost(b, CRR, rounds), r = cost(b, RR, rounds);
		printf("%-44s %9.1f %7.3f %7.3f %9.1f %7.3f", b->kind->name, c, c / cost(base, CRR, rounds),
		       p ? c / cost(p, CRR, rounds) : 1, r, r / cost(base, RR, rounds));
		if (b->kind->aim_k)
			printf("  %u %s", b->kind->aim_k, c <= b->kind->aim_k ? "met" : "missed");
		printf("\n");
	}
}

static void json_op(FILE *f, const struct bed *b, enum op op, int rounds)
{
	const char *sep = "";

	fprintf(f, "   \"%s\": {\"%s\": %.3f, \"per_s\": %.1f, \"p50_us\": %.3f, \"p99_us\": %.3f, \"ratios\": {",
	        op_names[op], guest ? "k_instructions" : "cpu_us", cost(b, op, rounds), median(b->rate[op], rounds),
	        median(b->wall[op], rounds), median(b->p99[op], rounds));
	for (size_t k = 0; k < n_beds; k++)
		if (!(beds[k].kind->on & OURS) && &beds[k] != b && cost(&beds[k], op, rounds) > 0) {
			fprintf(f, "%s\"%s\": %.4f", sep, beds[k].kind->name, ratio(b, &beds[k], op, rounds));
			sep = ", ";
		}
	fprintf(f, "}}");
}

static void write_json(const char *path, const char *cpu, const struct utsname *u, int rounds)
{
	FILE *f = fopen(path, "we");

	need(f != NULL, path);
	fprintf(f, "{\"machine\": {\"cpu\": \"%s\", \"cpus\": %ld, \"kernel\": \"%s\"}, \"rounds\": %d, \"paths\": [",
	        cpu, sysconf(_SC_NPROCESSORS_ONLN), u->release, rounds);
	for (size_t i = 0; i < n_beds; i++) {
		const struct kind *k = beds[i].kind;
		fprintf(f, "%s\n {\"path\": \"%s\", \"ours\": %s, \"peer\": \"%s\", \"aim_ratio\": %.2f, \"aim_k\": %u",
		        i ? "," : "", k->name, k->on & OURS ? "true" : "false", k->peer, k->aim, k->aim_k);
		for (enum op op = 0; op < OP_MAX; op++) {
			if (cost(&beds[i], op, rounds) <= 0)
				continue;
			fprintf(f, ",\n");
			json_op(f, &beds[i], op, rounds);
		}
		fprintf(f, "}");
	}
	fprintf(f, "\n]}\n");
	fclose(f);
}

void report(int rounds, const char *json_path)
{
	char cpu[128];
	struct utsname u;

	uname(&u);
	cpu_model(cpu, sizeof(cpu));
	printf("%s, %ld CPUs, Linux %s; %d interleaved rounds\n", cpu, sysconf(_SC_NPROCESSORS_ONLN), u.release,
	       rounds);
	if (guest)
		print_guest(rounds);
	for (enum op op = 0; !guest && op < OP_MAX; op++)
		print_op(op, rounds);
	print_matrix(CRR, rounds);
	print_matrix(RR, rounds);
	if (json_path)
		write_json(json_path, cpu, &u, rounds);
}
