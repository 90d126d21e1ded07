/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/oci_spec.h"

#include <jansson.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

#define PROFILE "/usr/share/containers/seccomp.json"
#define CACHE_MAX 16

#if defined(__x86_64__)
#define ARCH_OCI "SCMP_ARCH_X86_64"
#define ARCH_SHORT "amd64"
#elif defined(__aarch64__)
#define ARCH_OCI "SCMP_ARCH_AARCH64"
#define ARCH_SHORT "arm64"
#elif defined(__riscv)
#define ARCH_OCI "SCMP_ARCH_RISCV64"
#define ARCH_SHORT "riscv64"
#elif defined(__powerpc64__)
#define ARCH_OCI "SCMP_ARCH_PPC64LE"
#define ARCH_SHORT "ppc64le"
#elif defined(__s390x__)
#define ARCH_OCI "SCMP_ARCH_S390X"
#define ARCH_SHORT "s390x"
#else
#error "which seccomp architecture is this?"
#endif

static bool has_arch(const json_t *list)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		const char *s = json_string_value(v);
		if (s && (!strcmp(s, ARCH_SHORT) || !strcmp(s, ARCH_OCI)))
			return true;
	}
	return false;
}

static bool has_cap(const json_t *list, uint64_t caps, bool all)
{
	size_t i;
	json_t *v;
	json_array_foreach(list, i, v)
	{
		int cap = oci_cap_parse(json_string_value(v));
		bool have = cap >= 0 && caps >> cap & 1;
		if (have != all)
			return !all;
	}
	return all;
}

/* Docker: includes must all hold, any exclude removes the rule. */
static bool applies(const json_t *rule, uint64_t caps)
{
	const json_t *in = json_object_get(rule, "includes"), *ex = json_object_get(rule, "excludes");
	const json_t *arches = json_object_get(in, "arches"), *want = json_object_get(in, "caps");
	if (json_array_size(arches) && !has_arch(arches))
		return false;
	if (json_array_size(want) && !has_cap(want, caps, true))
		return false;
	arches = json_object_get(ex, "arches");
	want = json_object_get(ex, "caps");
	if (json_array_size(arches) && has_arch(arches))
		return false;
	return !(json_array_size(want) && has_cap(want, caps, false));
}

static void copy_key(json_t *to, const json_t *from, const char *key)
{
	json_t *v = json_object_get(from, key);
	if (v && !json_is_null(v))
		json_object_set(to, key, v);
}

json_t *oci_seccomp_convert(json_t *docker, uint64_t caps, struct mesh_err *err)
{
	const json_t *rules = json_object_get(docker, "syscalls");
	if (!json_is_string(json_object_get(docker, "defaultAction")) || (rules && !json_is_array(rules))) {
		(void)mesh_fail(err, MESH_E_INVALID, "seccomp profile: defaultAction or syscalls missing");
		return NULL;
	}
	json_t *out = json_object(), *list = json_array();
	copy_key(out, docker, "defaultAction");
	copy_key(out, docker, "defaultErrnoRet");
	json_object_set_new(out, "architectures", json_pack("[s]", ARCH_OCI));
	size_t i;
	json_t *rule;
	json_array_foreach(rules, i, rule)
	{
		if (!applies(rule, caps))
			continue;
		json_t *r = json_object(), *name = json_object_get(rule, "name");
		copy_key(r, rule, "names");
		if (name && !json_object_get(r, "names"))
			json_object_set_new(r, "names", json_pack("[O]", name));
		copy_key(r, rule, "action");
		copy_key(r, rule, "args");
		copy_key(r, rule, "errnoRet");
		json_array_append_new(list, r);
	}
	json_object_set_new(out, "syscalls", list);
	return out;
}

json_t *oci_seccomp_default(uint64_t caps)
{
	static json_t *profile;
	static bool looked;
	static struct {
		uint64_t caps;
		json_t *oci;
	} cache[CACHE_MAX];
	static size_t n;
	if (!looked) {
		json_error_t e;
		looked = true;
		profile = json_load_file(PROFILE, 0, &e);
		if (!profile)
			log_warn("no seccomp profile: tasks run without a system call filter file=%s reason=%s",
			         PROFILE, e.text);
	}
	if (!profile)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (cache[i].caps == caps)
			return json_incref(cache[i].oci);
	json_t *oci = oci_seccomp_convert(profile, caps, NULL);
	if (oci && n < CACHE_MAX) {
		cache[n].caps = caps;
		cache[n++].oci = json_incref(oci);
	}
	return oci;
}
