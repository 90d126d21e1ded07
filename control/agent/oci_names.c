/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities and signals by name, and which of them this machine has. */
#include <ctype.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/mem.h"
#include "control/agent/oci_spec.h"

static const char *const cap_names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

int oci_cap_parse(const char *name)
{
	if (!name)
		return -1;
	if (!strncasecmp(name, "CAP_", 4))
		name += 4;
	for (size_t i = 0; i < ARRAY_SIZE(cap_names); i++)
		if (!strcasecmp(name, cap_names[i] + 4))
			return (int)i;
	return -1;
}

const char *oci_cap_name(int cap)
{
	return cap >= 0 && (size_t)cap < ARRAY_SIZE(cap_names) ? cap_names[cap] : NULL;
}

int oci_signal_parse(const char *s)
{
	char *end;
	if (!s || !*s)
		return 0;
	long v = strtol(s, &end, 10);
	if (!*end)
		return v > 0 && v < 65 ? (int)v : 0;
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	if (!strncasecmp(s, "RTMIN", 5) || !strncasecmp(s, "RTMAX", 5)) {
		/* Docker counts real-time signals from the kernel's 34 and 64. */
		int base = toupper((unsigned char)s[3]) == 'I' ? 34 : 64;
		v = s[5] ? strtol(s + 5, &end, 10) : 0;
		if ((s[5] && *end) || v < -64 || v > 64)
			return 0;
		return base + v >= 34 && base + v < 65 ? (int)(base + v) : 0;
	}
	for (int i = 1; i < 32; i++)
		if (sigabbrev_np(i) && !strcasecmp(s, sigabbrev_np(i)))
			return i;
	return 0;
}

static uint64_t rlimit_hard(int resource)
{
	struct rlimit r;
	return getrlimit((__rlimit_resource_t)resource, &r) ? 0 : r.rlim_max;
}

void oci_host_probe(struct oci_host *h)
{
	*h = (struct oci_host){ .rlimit_hard = rlimit_hard, .cap_last = -1 };
	for (int cap = 0; cap < (int)ARRAY_SIZE(cap_names); cap++) {
		int have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (have < 0)
			break;
		h->cap_last = cap;
		h->caps |= (uint64_t)have << cap;
	}
}
