/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/oci_spec.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "control/agent/oci_parts.h"

/* ---- json ---- */

json_t *jstr(const char *s)
{
	return json_string_nocheck(s ? s : ""); /* bad UTF-8 fails the dump, with a story */
}

json_t *jstrs(const char *const *v, size_t n)
{
	json_t *a = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(a, jstr(v[i]));
	return a;
}

json_t *jlist(const struct str_list *l)
{
	return jstrs((const char *const *)l->v, l->n);
}

int oci_dump(json_t *root, char **out, struct mesh_err *err)
{
	*out = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return *out ? 0 : mesh_fail(err, MESH_E_INVALID, "a value of the spec or the image is not UTF-8");
}

/* ---- linux ---- */

static json_t *devices_json(void)
{
	static const struct {
		const char *type;
		int major, minor;
		const char *access;
	} allow[] = {
		{ "c", -1, -1, "m" }, { "b", -1, -1, "m" }, { "c", 1, 3, "rwm" },    { "c", 1, 5, "rwm" },
		{ "c", 1, 7, "rwm" }, { "c", 1, 8, "rwm" }, { "c", 1, 9, "rwm" },    { "c", 5, 0, "rwm" },
		{ "c", 5, 1, "rwm" }, { "c", 5, 2, "rwm" }, { "c", 136, -1, "rwm" },
	};
	json_t *a = json_pack("[{s:b,s:s}]", "allow", 0, "access", "rwm");
	for (size_t i = 0; i < ARRAY_SIZE(allow); i++) {
		json_t *d = json_pack("{s:b,s:s,s:s}", "allow", 1, "type", allow[i].type, "access", allow[i].access);
		if (allow[i].major >= 0)
			json_object_set_new(d, "major", json_integer(allow[i].major));
		if (allow[i].minor >= 0)
			json_object_set_new(d, "minor", json_integer(allow[i].minor));
		json_array_append_new(a, d);
	}
	return a;
}

static json_t *resources_json(const struct oci_in *in)
{
	const struct md_resource_requirements *r = in->task->spec.resources;
	const struct md_limit *lim = r ? r->limits : NULL;
	json_t *o = json_object(), *memory = json_object();
	json_object_set_new(o, "devices", devices_json());
	if (lim && lim->memory_bytes && in->host->memory) {
		json_object_set_new(memory, "limit", json_integer(lim->memory_bytes));
		if (in->host->swap)
			json_object_set_new(memory, "swap", json_integer(lim->memory_bytes));
	}
	if (r && r->reservations && r->reservations->memory_bytes && in->host->memory)
		json_object_set_new(memory, "reservation", json_integer(r->reservations->memory_bytes));
	if (json_object_size(memory))
		json_object_set(o, "memory", memory);
	json_decref(memory);
	if (lim && lim->nano_cpus && in->host->cpu) {
		json_int_t quota = lim->nano_cpus / 10000;
		json_object_set_new(
			o, "cpu",
			json_pack("{s:I,s:i}", "quota", quota < 1000 ? (json_int_t)1000 : quota, "period", 100000));
	}
	if (lim && lim->pids > 0 && in->host->pids)
		json_object_set_new(o, "pids", json_pack("{s:I}", "limit", (json_int_t)lim->pids));
	return o;
}

static json_t *sysctls_json(const struct oci_in *in)
{
	const struct str_map *m = &in->task->spec.container->sysctls;
	json_t *o = json_object();
	if (!in->host_network && in->host->net_sysctls) {
		json_object_set_new(o, "net.ipv4.ip_unprivileged_port_start", jstr("0"));
		json_object_set_new(o, "net.ipv4.ping_group_range", jstr("0 2147483647"));
	}
	for (size_t i = 0; i < m->n; i++)
		json_object_set_new_nocheck(o, m->v[i].key, jstr(m->v[i].value));
	return o;
}

static int seccomp_make(const struct oci_in *in, uint64_t caps, json_t **out, struct mesh_err *err)
{
	const struct md_privileges *p = in->task->spec.container->privileges;
	const struct md_seccomp *s = p ? p->seccomp : NULL;
	*out = NULL;
	if (s && streq(s->mode, "unconfined"))
		return 0;
	if (s && streq(s->mode, "custom")) {
		json_error_t e;
		json_t *profile = json_loadb((const char *)s->profile.p, s->profile.n, 0, &e);
		if (!profile)
			return mesh_fail(err, MESH_E_INVALID, "seccomp profile: %s", e.text);
		*out = oci_seccomp_convert(profile, caps, err);
		json_decref(profile);
		return *out ? 0 : MESH_E_INVALID;
	}
	*out = oci_seccomp_default(caps);
	return 0;
}

static json_t *namespaces_json(const struct oci_in *in)
{
	json_t *a = json_pack("[{s:s},{s:s},{s:s},{s:s},{s:s}]", "type", "pid", "type", "ipc", "type", "uts", "type",
	                      "mount", "type", "cgroup");
	if (!in->host_network)
		json_array_append_new(a, json_pack("{s:s,s:s}", "type", "network", "path", "/proc/self/ns/net"));
	return a;
}

static int linux_make(const struct oci_in *in, uint64_t caps, json_t **out, struct mesh_err *err)
{
	static const char *const masked[] = {
		"/proc/acpi",        "/proc/asound",        "/proc/interrupts", "/proc/kcore",
		"/proc/keys",        "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
		"/proc/sched_debug", "/proc/scsi",          "/sys/firmware",    "/sys/devices/virtual/powercap",
	};
	static const char *const readonly[] = { "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
		                                "/proc/sysrq-trigger" };
	json_t *seccomp;
	int rc = seccomp_make(in, caps, &seccomp, err);
	if (rc)
		return rc;
	json_t *l = json_object();
	json_object_set_new(l, "sysctl", sysctls_json(in));
	json_object_set_new(l, "cgroupsPath", jstr(in->cgroup));
	json_object_set_new(l, "namespaces", namespaces_json(in));
	json_object_set_new(l, "resources", resources_json(in));
	json_object_set_new(l, "maskedPaths", jstrs(masked, ARRAY_SIZE(masked)));
	json_object_set_new(l, "readonlyPaths", jstrs(readonly, ARRAY_SIZE(readonly)));
	if (seccomp)
		json_object_set_new(l, "seccomp", seccomp);
	*out = l;
	return 0;
}

/* ---- small files ---- */

static char *hosts_text(const struct oci_in *in, const char *hostname)
{
	const struct md_container_spec *c = in->task->spec.container;
	struct buf b = { 0 };
	buf_puts(&b, "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
	             "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n");
	for (size_t i = 0; i < c->hosts.n; i++) {
		/* "1.2.3.4 name" as the API has it. */
		const char *h = c->hosts.v[i];
		size_t n = strcspn(h, " \t");
		buf_printf(&b, "%.*s\t%s\n", (int)n, h, h[n] ? h + n + 1 : "");
	}
	for (size_t i = 0; i < in->task->attachments.n; i++)
		for (size_t k = 0; k < in->task->attachments.v[i].addresses.n; k++) {
			const char *addr = in->task->attachments.v[i].addresses.v[k];
			buf_printf(&b, "%.*s\t%s\n", (int)strcspn(addr, "/"), addr, hostname);
		}
	return buf_take_str(&b);
}

static char *resolv_text(const struct oci_in *in)
{
	const struct md_dns_config *d = in->task->spec.container->dns;
	bool ndots = false;
	struct buf b = { 0 };
	if (d && d->search.n) {
		buf_puts(&b, "search");
		for (size_t i = 0; i < d->search.n; i++)
			buf_printf(&b, " %s", d->search.v[i]);
		buf_puts(&b, "\n");
	}
	buf_puts(&b, "nameserver 127.0.0.11\noptions");
	for (size_t i = 0; d && i < d->options.n; i++) {
		buf_printf(&b, " %s", d->options.v[i]);
		ndots |= !strncmp(d->options.v[i], "ndots:", 6);
	}
	buf_puts(&b, ndots ? "\n" : " ndots:0\n");
	return buf_take_str(&b);
}

/* ---- the whole ---- */

void oci_out_fini(struct oci_out *o)
{
	free(o->json);
	free(o->hostname);
	free(o->hosts);
	free(o->resolv);
	strs_clear(&o->mkdirs);
	strs_clear(&o->sources);
	for (size_t i = 0; i < o->copies.n; i++) {
		free(o->copies.v[i].path);
		free(o->copies.v[i].target);
	}
	free(o->copies.v);
	*o = (struct oci_out){ 0 };
}

static int refuse_unsupported(const struct oci_in *in, struct mesh_err *err)
{
	const struct md_privileges *p = in->task->spec.container->privileges;
	const struct md_driver *d = in->task->spec.log_driver;
	const char *stop = in->task->spec.container->stop_signal, *dir = in->task->spec.container->dir;
	if (p && p->credential_spec)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "credential specs are for Windows containers");
	if (stop && *stop && !oci_signal_parse(stop))
		return mesh_fail(err, MESH_E_INVALID, "invalid stop signal: %.60s", stop);
	if (dir && *dir && *dir != '/')
		return mesh_fail(err, MESH_E_INVALID,
		                 "the working directory '%.200s' is invalid, it needs to be an absolute path", dir);
	if (d && d->name && *d->name && strcmp(d->name, "json-file") && strcmp(d->name, "local") &&
	    strcmp(d->name, "none"))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "logger: no log driver named '%s' is registered", d->name);
	return 0;
}

int oci_spec_make(const struct oci_in *in, struct oci_out *out, struct mesh_err *err)
{
	const struct md_container_spec *c = in->task->spec.container;
	json_t *process = NULL, *mounts = NULL, *lin = NULL;
	uint64_t caps;
	*out = (struct oci_out){ 0 };
	int rc = refuse_unsupported(in, err);
	if (!rc)
		rc = tmpl_expand_str(in->vars, c->hostname, &out->hostname, err);
	if (!rc && !*out->hostname) {
		free(out->hostname);
		out->hostname = xstrndup(in->container_id, 12);
	}
	if (!rc)
		rc = oci_caps_of(in, &caps, err);
	if (!rc)
		rc = oci_process_make(in, out->hostname, caps, &process, err);
	if (!rc)
		rc = oci_mounts_make(in, out, &mounts, err);
	if (!rc)
		rc = linux_make(in, caps, &lin, err);
	if (rc) {
		json_decref(process);
		json_decref(mounts);
		oci_out_fini(out);
		return rc;
	}
	out->hosts = hosts_text(in, out->hostname);
	out->resolv = resolv_text(in);
	json_t *root = json_object();
	json_object_set_new(root, "ociVersion", jstr("1.0.2"));
	json_object_set_new(root, "process", process);
	json_object_set_new(root, "root", json_pack("{s:s,s:b}", "path", "rootfs", "readonly", c->read_only));
	json_object_set_new(root, "hostname", jstr(out->hostname));
	json_object_set_new(root, "mounts", mounts);
	json_object_set_new(root, "linux", lin);
	rc = oci_dump(root, &out->json, err);
	if (rc)
		oci_out_fini(out);
	return rc;
}

bool oci_health(const struct md_health *spec, const struct md_health *image, struct md_health *h)
{
	const struct md_health *base = spec && spec->test.n ? spec : image;
	if (!base || !base->test.n || !strcmp(base->test.v[0], "NONE"))
		return false;
	*h = *base;
	if (spec && spec != base) {
		h->interval = spec->interval ? spec->interval : h->interval;
		h->timeout = spec->timeout ? spec->timeout : h->timeout;
		h->start_period = spec->start_period ? spec->start_period : h->start_period;
		h->start_interval = spec->start_interval ? spec->start_interval : h->start_interval;
		h->retries = spec->retries ? spec->retries : h->retries;
	}
	const int64_t s = 1000000000LL;
	h->interval = h->interval ? h->interval : 30 * s;
	h->timeout = h->timeout ? h->timeout : 30 * s;
	h->start_interval = h->start_interval ? h->start_interval : 5 * s;
	h->retries = h->retries ? h->retries : 3;
	return true;
}
