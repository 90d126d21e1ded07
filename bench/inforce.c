// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Watches the services' tables in the kernels of several nodes, through the maps that their programs read: says which
 * node switched which service's table, and when.
 *
 *   bench/inforce PIN...     a pinned map "services" for each node
 *   stdout  ready
 *           node NUMBER SERVICE NS     CLOCK_MONOTONIC; seen at most POLL_US after it happened, and a wakeup
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "bpf/abi.h"

enum { SERVICES = 64, NODES_MAX = 16, POLL_US = 100 };

struct watched {
	const volatile struct abi_service *services;
	__u64 was[SERVICES];
};

static int open_map(const char *path, struct watched *w)
{
	int fd = bpf_obj_get(path);
	void *p = fd < 0 ? MAP_FAILED : mmap(NULL, SERVICES * sizeof(*w->services), PROT_READ, MAP_SHARED, fd, 0);

	if (p == MAP_FAILED) {
		fprintf(stderr, "inforce: %s: %s\n", path, strerror(errno));
		return -1;
	}
	w->services = p;
	for (unsigned i = 0; i < SERVICES; i++)
		w->was[i] = w->services[i].cur;
	return 0;
}

static void look(struct watched *w, unsigned node)
{
	for (unsigned i = 0; i < SERVICES; i++) {
		__u64 now = w->services[i].cur;
		if (now == w->was[i])
			continue;
		w->was[i] = now;
		printf("node %u %u %lld\n", node, i, (long long)clock_mono_ns());
	}
}

int main(int argc, char **argv)
{
	static struct watched w[NODES_MAX];
	unsigned n = (unsigned)argc - 1;

	if (argc < 2 || n > NODES_MAX)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < n; i++)
		if (open_map(argv[i + 1], &w[i]))
			return 1;
	printf("ready\n");
	for (;;) {
		for (unsigned i = 0; i < n; i++)
			look(&w[i], i);
		usleep(POLL_US);
	}
}
