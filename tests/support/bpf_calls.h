/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what every test of the BPF programs begins with: addresses from text, calls that must succeed. */
#ifndef TESTS_SUPPORT_BPF_CALLS_H
#define TESTS_SUPPORT_BPF_CALLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "dataplane/ebpf/ebpf.h"

static inline struct dp_ip ip_of(const char *text)
{
	struct dp_ip ip;

	assert_int_equal(dp_ip_parse(text, &ip, NULL), 0);
	return ip;
}

/* call may name err, a struct mesh_err of its own. */
#define OK(call)                                                                                                       \
	do {                                                                                                           \
		struct mesh_err err = {};                                                                              \
		int _rc = (call);                                                                                      \
		if (_rc)                                                                                               \
			fail_msg("%s: %d %s", #call, _rc, mesh_err_text(&err, _rc));                                   \
	} while (0)

#endif
