/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A kernel that knows all that eBPF needs and whose verifier takes none of our tc programs: preloaded, it refuses to load
 * those that are longer than what a probe loads.
 */
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <dlfcn.h>
#include <sys/syscall.h>

#define PROBE_MAX 64

long syscall(long nr, ...)
{
	static long (*real)(long nr, ...);
	long a[6];
	va_list ap;
	va_start(ap, nr);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	const union bpf_attr *attr = (const void *)a[1];
	if (nr == SYS_bpf && a[0] == BPF_PROG_LOAD && attr->prog_type == BPF_PROG_TYPE_SCHED_CLS &&
	    attr->insn_cnt > PROBE_MAX) {
		errno = EACCES;
		return -1;
	}
	if (!real)
		real = dlsym(RTLD_NEXT, "syscall");
	return real(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}
