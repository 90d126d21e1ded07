/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what machine a benchmark ran on, for its table and its JSON. */
#ifndef BENCH_MACHINE_H
#define BENCH_MACHINE_H

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct machine {
	char cpu[128], kernel[70];
	long cpus;
};

static inline struct machine machine_of(void)
{
	struct machine m = { .cpu = "unknown", .cpus = sysconf(_SC_NPROCESSORS_ONLN) };
	struct utsname u;
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	if (uname(&u) == 0)
		snprintf(m.kernel, sizeof(m.kernel), "%s", u.release);
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "model name : %127[^\n]", m.cpu) == 1)
			break;
	if (f)
		fclose(f);
	return m;
}

static inline void machine_json(FILE *json, const struct machine *m)
{
	fprintf(json, "\"machine\": {\"cpu\": \"%s\", \"cpus\": %ld, \"kernel\": \"%s\"}", m->cpu, m->cpus, m->kernel);
}

#endif
