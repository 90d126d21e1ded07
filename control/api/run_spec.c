/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two shapes of a container: what docker run sends becomes the JSON of a TaskSpec, which its schema reads. */
#include "control/api/run_spec.h"

#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/api/run_refuse.h"
#include "control/api/service_spec.h"
#include "control/model/json.h"

#define AUTO __attribute__((cleanup(json_drop))) json_t *
static void json_drop(json_t **j)
{
	json_decref(*j);
}

#define UNSUPPORTED(err, ...) mesh_fail(err, MESH_E_UNSUPPORTED, __VA_ARGS__)

int run_name_check(const char *name, struct mesh_err *err)
{
	bool ok = isalnum((unsigned char)name[0]) && name[1] && strlen(name) < 200;
	for (const char *p = name; *p && ok; p++)
		ok = isalnum((unsigned char)*p) || strchr("_.-", *p);
	return ok ? 0
	          : mesh_fail(err, MESH_E_INVALID,
	                      "Invalid container name (%.200s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name);
}

static void copy(json_t *to, const char *key, const json_t *from, const char *name)
{
	json_t *v = json_object_get(from, name);
	if (run_given(v))
		(void)json_object_set(to, key, v);
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

/* ---- parts ---- */

/* Entrypoint [""] means none at all. */
static void put_argv(json_t *spec, const json_t *cfg)
{
	const json_t *entry = json_object_get(cfg, "Entrypoint"), *cmd = json_object_get(cfg, "Cmd");
	const char *first = json_string_value(json_array_get(entry, 0));
	bool reset = json_array_size(entry) == 1 && first && !*first;
	if (reset) {
		copy(spec, "Command", cfg, "Cmd");
	} else {
		copy(spec, "Command", cfg, "Entrypoint");
		if (run_given(cmd))
			copy(spec, "Args", cfg, "Cmd");
	}
}

static json_t *new_mount(const char *type, const char *source, const char *target)
{
	json_t *m = json_object();
	(void)json_object_set_new(m, "Type", json_string(type));
	(void)json_object_set_new(m, "Target", json_string(target));
	if (source && *source)
		(void)json_object_set_new(m, "Source", json_string(source));
	return m;
}

static int mode_word(json_t *m, const char *word, struct mesh_err *err)
{
	static const char *const propagation[] = { "private", "rprivate", "shared", "rshared", "slave", "rslave" };
	if (streq(word, "ro")) {
		(void)json_object_set_new(m, "ReadOnly", json_true());
		return 0;
	}
	if (streq(word, "rw") || streq(word, "z") || streq(word, "Z") || streq(word, "consistent") ||
	    streq(word, "cached") || streq(word, "delegated"))
		return 0;
	if (streq(word, "nocopy")) {
		(void)json_object_set_new(m, "VolumeOptions", json_pack("{s:b}", "NoCopy", 1));
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(propagation); i++)
		if (streq(word, propagation[i])) {
			(void)json_object_set_new(m, "BindOptions",
			                          json_pack("{s:s,s:b}", "Propagation", word, "CreateMountpoint", 1));
			return 0;
		}
	return mesh_fail(err, MESH_E_INVALID, "invalid mode: %.60s", word);
}

/* "source:target[:modes]"; a source that is a path is bound, made when it is not there; else it is a volume. */
static int put_bind(json_t *mounts, const char *bind, struct mesh_err *err)
{
	CLEAN_FREE char *s = xstrdup(bind);
	char *target = strchr(s, ':'), *modes = NULL, *save = NULL;
	int rc = 0;
	if (target) {
		*target++ = '\0';
		modes = strchr(target, ':');
	}
	if (modes)
		*modes++ = '\0';
	if (!target)
		return mesh_fail(err, MESH_E_INVALID, "invalid volume specification: '%.200s'", bind);
	bool path = s[0] == '/';
	json_t *m = new_mount(path ? "bind" : "volume", s, target);
	if (path)
		(void)json_object_set_new(m, "BindOptions", json_pack("{s:b}", "CreateMountpoint", 1));
	for (char *w = modes ? strtok_r(modes, ",", &save) : NULL; w && !rc; w = strtok_r(NULL, ",", &save))
		rc = mode_word(m, w, err);
	(void)json_array_append_new(mounts, m);
	return rc;
}

/* "64m"; -1 when it is none. */
static json_int_t size_of(const char *s)
{
	static const char units[] = "bkmg";
	char *end;
	long long n = strtoll(s, &end, 10);
	const char *unit = *end ? strchr(units, tolower((unsigned char)*end)) : units;
	if (end == s || n < 0 || n > 1LL << 40 || !unit || (*end && end[1]))
		return -1;
	return (json_int_t)n << 10 * (unit - units);
}

/* One of --tmpfs DIR:size=64m,mode=1770,ro. What is always so may be said. */
static int tmpfs_word(json_t *m, json_t *options, const char *word, struct mesh_err *err)
{
	unsigned mode;
	if (strncmp(word, "size=", 5) == 0 && size_of(word + 5) > 0)
		(void)json_object_set_new(options, "SizeBytes", json_integer(size_of(word + 5)));
	else if (sscanf(word, "mode=%o", &mode) == 1 && mode < 010000)
		(void)json_object_set_new(options, "Mode", json_integer(mode));
	else if (streq(word, "ro"))
		(void)json_object_set_new(m, "ReadOnly", json_true());
	else if (!streq(word, "rw") && !streq(word, "noexec") && !streq(word, "nosuid") && !streq(word, "nodev"))
		return UNSUPPORTED(err, "tmpfs %.100s: option \"%.60s\" is not supported", text(m, "Target"), word);
	return 0;
}

static int put_tmpfs(json_t *mounts, const char *target, const char *words, struct mesh_err *err)
{
	json_t *m = new_mount("tmpfs", NULL, target), *options = json_object();
	CLEAN_FREE char *copy_ = xstrdup(words);
	char *save = NULL;
	int rc = 0;
	for (char *w = strtok_r(copy_, ",", &save); w && !rc; w = strtok_r(NULL, ",", &save))
		rc = tmpfs_word(m, options, w, err);
	if (json_object_size(options))
		(void)json_object_set(m, "TmpfsOptions", options);
	json_decref(options);
	(void)json_array_append_new(mounts, m);
	return rc;
}

static int put_mounts(json_t *spec, const json_t *cfg, const json_t *host, struct mesh_err *err)
{
	json_t *mounts = json_array(), *v;
	json_int_t shm = json_integer_value(json_object_get(host, "ShmSize"));
	const char *key;
	size_t i;
	int rc = 0;
	(void)json_object_set_new(spec, "Mounts", mounts);
	json_array_foreach(json_object_get(host, "Binds"), i, v)
	{
		if (!rc)
			rc = json_is_string(v) ? put_bind(mounts, json_string_value(v), err)
			                       : mesh_fail(err, MESH_E_INVALID, "HostConfig.Binds: not a string");
	}
	json_array_foreach(json_object_get(host, "Mounts"), i, v)(void) json_array_append(mounts, v);
	json_object_foreach(json_object_get(host, "Tmpfs"), key, v)
	{
		if (!rc)
			rc = put_tmpfs(mounts, key, json_is_string(v) ? json_string_value(v) : "", err);
	}
	if (shm > 0)
		(void)json_array_append_new(mounts,
		                            json_pack("{s:s,s:s,s:{s:I,s:i}}", "Type", "tmpfs", "Target", "/dev/shm",
		                                      "TmpfsOptions", "SizeBytes", shm, "Mode", 01777));
	json_object_foreach(json_object_get(cfg, "Volumes"), key, v)
	{
		bool there = false;
		json_t *m;
		json_array_foreach(mounts, i, m) there = there || streq(text(m, "Target"), key);
		if (!there)
			(void)json_array_append_new(mounts, new_mount("volume", NULL, key));
	}
	return rc;
}

static int put_hosts(json_t *spec, const json_t *host, struct mesh_err *err)
{
	json_t *hosts = json_array(), *v;
	size_t i;
	(void)json_object_set_new(spec, "Hosts", hosts);
	json_array_foreach(json_object_get(host, "ExtraHosts"), i, v)
	{
		const char *s = json_string_value(v), *colon = s ? strchr(s, ':') : NULL;
		if (!colon || colon == s || !colon[1])
			return mesh_fail(err, MESH_E_INVALID, "bad format for add-host: \"%.200s\"", s ? s : "");
		CLEAN_FREE char *line = xasprintf("%s %.*s", colon + 1, (int)(colon - s), s);
		(void)json_array_append_new(hosts, json_string(line));
	}
	return 0;
}

static void put_dns(json_t *spec, const json_t *host)
{
	json_t *dns = json_object();
	copy(dns, "Nameservers", host, "Dns");
	copy(dns, "Search", host, "DnsSearch");
	copy(dns, "Options", host, "DnsOptions");
	if (json_object_size(dns))
		(void)json_object_set(spec, "DNSConfig", dns);
	json_decref(dns);
}

static int put_security(json_t *spec, const json_t *host, struct mesh_err *err)
{
	AUTO privileges = json_object();
	json_t *v;
	size_t i;
	json_array_foreach(json_object_get(host, "SecurityOpt"), i, v)
	{
		const char *s = json_string_value(v);
		CLEAN_FREE char *o = xstrdup(s ? s : "");
		char *sep = strchr(o, ':');
		if (sep)
			*sep = '=';
		if (streq(o, "no-new-privileges") || streq(o, "no-new-privileges=true"))
			(void)json_object_set_new(privileges, "NoNewPrivileges", json_true());
		else if (streq(o, "seccomp=unconfined"))
			(void)json_object_set_new(privileges, "Seccomp", json_pack("{s:s}", "Mode", "unconfined"));
		else if (streq(o, "apparmor=unconfined"))
			(void)json_object_set_new(privileges, "AppArmor", json_pack("{s:s}", "Mode", "disabled"));
		else if (!streq(o, "no-new-privileges=false"))
			return UNSUPPORTED(err, "security option \"%.100s\" is not supported", s ? s : "");
	}
	if (json_object_size(privileges))
		(void)json_object_set(spec, "Privileges", privileges);
	return 0;
}

static json_t *limits(const json_t *host)
{
	json_int_t cpus = json_integer_value(json_object_get(host, "NanoCpus"));
	json_int_t quota = json_integer_value(json_object_get(host, "CpuQuota"));
	json_int_t period = json_integer_value(json_object_get(host, "CpuPeriod"));
	json_int_t pids = json_integer_value(json_object_get(host, "PidsLimit"));
	if (!cpus && quota > 0 && quota < (json_int_t)1 << 40)
		cpus = quota * 1000000000 / (period > 0 ? period : 100000);
	return json_pack("{s:I,s:I,s:I}", "NanoCPUs", cpus, "MemoryBytes",
	                 json_integer_value(json_object_get(host, "Memory")), "Pids", pids > 0 ? pids : 0);
}

static int container(json_t *spec, const json_t *cfg, const json_t *host, struct mesh_err *err)
{
	static const struct {
		const char *to, *from;
		bool of_host;
	} same[] = {
		{ "Image", "Image", false },
		{ "Hostname", "Hostname", false },
		{ "Env", "Env", false },
		{ "Dir", "WorkingDir", false },
		{ "User", "User", false },
		{ "Labels", "Labels", false },
		{ "TTY", "Tty", false },
		{ "OpenStdin", "OpenStdin", false },
		{ "StopSignal", "StopSignal", false },
		{ "Healthcheck", "Healthcheck", false },
		{ "Groups", "GroupAdd", true },
		{ "ReadOnly", "ReadonlyRootfs", true },
		{ "CapabilityAdd", "CapAdd", true },
		{ "CapabilityDrop", "CapDrop", true },
		{ "Sysctls", "Sysctls", true },
		{ "Ulimits", "Ulimits", true },
		{ "OomScoreAdj", "OomScoreAdj", true },
	};
	for (size_t i = 0; i < ARRAY_SIZE(same); i++)
		copy(spec, same[i].to, same[i].of_host ? host : cfg, same[i].from);
	if (json_is_boolean(json_object_get(host, "Init")))
		(void)json_object_set(spec, "Init", json_object_get(host, "Init"));
	json_int_t stop = json_integer_value(json_object_get(cfg, "StopTimeout"));
	if (json_is_integer(json_object_get(cfg, "StopTimeout")) && stop >= 0 && stop < 1000000000)
		(void)json_object_set_new(spec, "StopGracePeriod", json_integer(stop * 1000000000));
	put_argv(spec, cfg);
	put_dns(spec, host);
	int rc = put_mounts(spec, cfg, host, err);
	if (!rc)
		rc = put_hosts(spec, host, err);
	return rc ? rc : put_security(spec, host, err);
}

/* ---- networks and ports ---- */

static void add_network(struct md_task *t, const char *name, const json_t *ep)
{
	json_t *v;
	size_t i;
	for (i = 0; i < t->spec.networks.n; i++)
		if (streq(t->spec.networks.v[i].target, name))
			return;
	struct md_network_config *c = LIST_ADD(&t->spec.networks);
	c->target = xstrdup(name);
	json_array_foreach(json_object_get(ep, "Aliases"), i, v) if (json_is_string(v))
		strs_add(&c->aliases, json_string_value(v));
}

static int networks(struct md_task *t, const json_t *body, const json_t *host, struct mesh_err *err)
{
	const char *mode = text(host, "NetworkMode"), *key;
	json_t *eps = json_object_get(json_object_get(body, "NetworkingConfig"), "EndpointsConfig"), *v;
	const char *local = local_network_name(*mode && !streq(mode, "default") ? mode : "bridge");
	if (strncmp(mode, "container:", 10) == 0)
		return UNSUPPORTED(err, "network mode \"%.100s\" is not supported", mode);
	if (local && streq(local, "host"))
		add_network(t, "host", NULL);
	else if (local && streq(local, "none"))
		t->spec.attachment->no_network = true;
	else if (!local)
		add_network(t, mode, json_object_get(eps, mode));
	if (json_is_true(json_object_get(body, "NetworkDisabled")))
		t->spec.attachment->no_network = true;
	json_object_foreach(eps, key, v)
	{
		if (!streq(key, "default") && !local_network_name(key))
			add_network(t, key, v);
	}
	if (t->spec.networks.n && t->spec.attachment->no_network)
		return mesh_fail(err, MESH_E_INVALID, "conflicting options: network none and other networks");
	return 0;
}

static int add_port(struct md_task *t, const char *key, const json_t *binding, struct mesh_err *err)
{
	unsigned target = 0, published = 0;
	char proto[8] = "tcp", tail = 0;
	const char *ip = text(binding, "HostIp"), *port = text(binding, "HostPort");
	int n = sscanf(key, "%5u/%7[a-z]%c", &target, proto, &tail);
	if (n < 1 || n > 2 || !target || target > 65535 ||
	    (!streq(proto, "tcp") && !streq(proto, "udp") && !streq(proto, "sctp")))
		return mesh_fail(err, MESH_E_INVALID, "invalid port specification: \"%.60s\"", key);
	if (*port && (sscanf(port, "%5u%c", &published, &tail) != 1 || !published || published > 65535))
		return mesh_fail(err, MESH_E_INVALID, "invalid port specification: \"%.60s\"", port);
	if (*ip && !streq(ip, "0.0.0.0") && !streq(ip, "::"))
		return UNSUPPORTED(err, "port %s: publishing on one address (%.60s) is not supported", key, ip);
	struct md_port *p = LIST_ADD(&t->endpoint.ports);
	p->protocol = streq(proto, "udp") ? MD_PROTO_UDP : streq(proto, "sctp") ? MD_PROTO_SCTP : MD_PROTO_TCP;
	p->mode = MD_PUBLISH_HOST;
	p->target = target;
	p->published = published;
	return 0;
}

static int ports(struct md_task *t, const json_t *host, struct mesh_err *err)
{
	const char *key;
	json_t *list, *b;
	size_t i;
	int rc = 0;
	json_object_foreach(json_object_get(host, "PortBindings"), key, list)
	{
		if (!rc && !json_array_size(list))
			rc = add_port(t, key, NULL, err);
		json_array_foreach(list, i, b) if (!rc) rc = add_port(t, key, b, err);
	}
	if (!rc && t->endpoint.ports.n && t->spec.attachment->no_network)
		rc = mesh_fail(err, MESH_E_INVALID, "conflicting options: port publishing and network none");
	for (i = 0; i < t->spec.networks.n && !rc; i++)
		if (t->endpoint.ports.n && streq(t->spec.networks.v[i].target, "host"))
			rc = mesh_fail(err, MESH_E_INVALID,
			               "conflicting options: port publishing and the host's network: the container's "
			               "ports are the host's");
	return rc;
}

int run_spec_read(const json_t *body, struct md_task *out, struct str_list *warnings, struct mesh_err *err)
{
	const json_t *host = json_object_get(body, "HostConfig");
	AUTO spec = json_object();
	AUTO task = json_object();
	size_t i;
	int rc = run_refuse(body, warnings, err);
	if (rc)
		return rc;
	rc = container(spec, body, host, err);
	if (rc)
		return rc;
	(void)json_object_set(task, "ContainerSpec", spec);
	(void)json_object_set_new(task, "Resources", json_pack("{s:o}", "Limits", limits(host)));
	const json_t *log = json_object_get(host, "LogConfig");
	if (*text(log, "Type")) {
		json_t *driver = json_pack("{s:s}", "Name", text(log, "Type"));
		copy(driver, "Options", log, "Config");
		(void)json_object_set_new(task, "LogDriver", driver);
	}
	struct str_list unknown = { 0 };
	rc = md_json_read(&md_task_spec_schema, &out->spec, task, "", &unknown, err);
	for (i = 0; i < unknown.n; i++) {
		CLEAN_FREE char *w = xasprintf("%s is not supported and was ignored", unknown.v[i]);
		strs_add(warnings, w);
	}
	strs_clear(&unknown);
	if (rc)
		return rc;
	if (!out->spec.container || !out->spec.container->image || !*out->spec.container->image)
		return mesh_fail(err, MESH_E_INVALID, "No image specified");
	if (!out->spec.attachment)
		out->spec.attachment = XNEW(struct md_attachment_spec);
	out->spec.attachment->auto_remove = json_is_true(json_object_get(host, "AutoRemove"));
	out->spec.attachment->stdin_once = json_is_true(json_object_get(body, "StdinOnce"));
	rc = networks(out, body, host, err);
	return rc ? rc : ports(out, host, err);
}
