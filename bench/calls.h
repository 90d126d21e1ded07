/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what a benchmark of the data plane begins with: calls that must succeed, addresses from text. */
#ifndef BENCH_CALLS_H
#define BENCH_CALLS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "dataplane/dp.h"

/* call may name err, a struct mesh_err of its own. */
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc) {                                                                                             \
			fprintf(stderr, "bench-%s: %s: %s\n", program_invocation_short_name, #call,                    \
			        mesh_err_text(&err, _rc));                                                             \
			exit(1);                                                                                       \
		}                                                                                                      \
	} while (0)

static inline struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	OK(dp_ip_parse(text, &ip, NULL));
	return ip;
}

#endif
