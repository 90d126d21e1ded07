/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What containers run by hand cannot have is refused, what has no effect here is named: nothing is left out silently. */
#include "control/api/run_refuse.h"

#include "base/mem.h"

#define UNSUPPORTED(err, ...) mesh_fail(err, MESH_E_UNSUPPORTED, __VA_ARGS__)

bool run_given(const json_t *j)
{
	if (!j || json_is_null(j) || json_is_false(j))
		return false;
	if (json_is_string(j))
		return json_string_length(j) > 0;
	if (json_is_array(j))
		return json_array_size(j) > 0;
	if (json_is_object(j))
		return json_object_size(j) > 0;
	return !json_is_integer(j) || json_integer_value(j) != 0;
}

static const char *text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

/* ---- keys ---- */

/* What has an effect, or means nothing but to the client (ConsoleSize) or to -P, which is refused (ExposedPorts). */
static const char *const known_config[] = { "Hostname",
	                                    "User",
	                                    "AttachStdin",
	                                    "AttachStdout",
	                                    "AttachStderr",
	                                    "ExposedPorts",
	                                    "Tty",
	                                    "OpenStdin",
	                                    "StdinOnce",
	                                    "Env",
	                                    "Cmd",
	                                    "Healthcheck",
	                                    "Image",
	                                    "Volumes",
	                                    "WorkingDir",
	                                    "Entrypoint",
	                                    "Labels",
	                                    "StopSignal",
	                                    "HostConfig",
	                                    "StopTimeout",
	                                    "NetworkDisabled",
	                                    "NetworkingConfig",
	                                    NULL };
static const char *const known_host[] = { "Binds",
	                                  "ContainerIDFile",
	                                  "LogConfig",
	                                  "NetworkMode",
	                                  "PortBindings",
	                                  "RestartPolicy",
	                                  "AutoRemove",
	                                  "ConsoleSize",
	                                  "CapAdd",
	                                  "CapDrop",
	                                  "Dns",
	                                  "DnsOptions",
	                                  "DnsSearch",
	                                  "ExtraHosts",
	                                  "GroupAdd",
	                                  "OomScoreAdj",
	                                  "ReadonlyRootfs",
	                                  "SecurityOpt",
	                                  "Tmpfs",
	                                  "ShmSize",
	                                  "Sysctls",
	                                  "Memory",
	                                  "NanoCpus",
	                                  "CpuPeriod",
	                                  "CpuQuota",
	                                  "PidsLimit",
	                                  "Ulimits",
	                                  "Mounts",
	                                  "Init",
	                                  "PidMode",
	                                  "IpcMode",
	                                  "UTSMode",
	                                  "UsernsMode",
	                                  "CgroupnsMode",
	                                  "Runtime",
	                                  "Isolation",
	                                  NULL };
static const char *const known_endpoint[] = { "Aliases", "IPAMConfig", "NetworkID", NULL };

/* Would make a container another one than was asked for. */
static const char *const never_config[] = { "Domainname", "MacAddress", NULL };
static const char *const never_host[] = {
	"Privileged", "Devices",      "DeviceRequests",  "VolumesFrom",       "Links", "CgroupParent",
	"StorageOpt", "VolumeDriver", "PublishAllPorts", "DeviceCgroupRules", NULL
};
static const char *const never_endpoint[] = { "Links", "MacAddress", NULL };

static bool is_in(const char *const *list, const char *key)
{
	for (; *list; list++)
		if (streq(*list, key))
			return true;
	return false;
}

/* at: "HostConfig." */
static int keys(const json_t *o, const char *at, const char *const *known, const char *const *never,
                struct str_list *warnings, struct mesh_err *err)
{
	const char *key;
	json_t *v;
	json_object_foreach((json_t *)o, key, v)
	{
		/* -1: docker's client asks for nothing */
		if (!run_given(v) || is_in(known, key) ||
		    (streq(key, "MemorySwappiness") && json_integer_value(v) == -1))
			continue;
		if (is_in(never, key))
			return UNSUPPORTED(err, "%s%s is not supported", at, key);
		CLEAN_FREE char *w = xasprintf("%s%.100s is not supported and was ignored", at, key);
		strs_add(warnings, w);
	}
	return 0;
}

/* ---- values ---- */

static int spaces(const json_t *host, struct mesh_err *err)
{
	static const char *const names[] = { "PidMode", "IpcMode", "UTSMode", "UsernsMode", "CgroupnsMode" };
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *mode = text(host, names[i]);
		if (*mode && !streq(mode, "private") && !(i == 1 && streq(mode, "shareable")))
			return UNSUPPORTED(err, "HostConfig.%s \"%.60s\" is not supported", names[i], mode);
	}
	return 0;
}

static int words(const json_t *host, struct mesh_err *err)
{
	const char *restart = text(json_object_get(host, "RestartPolicy"), "Name");
	const char *runtime = text(host, "Runtime"), *isolation = text(host, "Isolation");
	if (*restart && !streq(restart, "no"))
		return UNSUPPORTED(err,
		                   "restart policy \"%.40s\": a container run by hand is not restarted; declare a "
		                   "service (docker service create) for what should stay up",
		                   restart);
	if (*runtime)
		return UNSUPPORTED(err,
		                   "runtime \"%.60s\": which runtime is used is the daemon's choice (meshd --runtime)",
		                   runtime);
	if (*isolation && !streq(isolation, "default"))
		return mesh_fail(err, MESH_E_INVALID, "invalid isolation \"%.60s\" on linux", isolation);
	return 0;
}

static int endpoints(const json_t *cfg, struct str_list *warnings, struct mesh_err *err)
{
	const char *name;
	json_t *ep;
	json_object_foreach(json_object_get(json_object_get(cfg, "NetworkingConfig"), "EndpointsConfig"), name, ep)
	{
		const json_t *ipam = json_object_get(ep, "IPAMConfig");
		CLEAN_FREE char *at = xasprintf("network %.100s: ", name);
		if (*text(ipam, "IPv4Address") || *text(ipam, "IPv6Address") ||
		    run_given(json_object_get(ipam, "LinkLocalIPs")))
			return UNSUPPORTED(err, "%sa fixed address is not supported", at);
		int rc = keys(ep, at, known_endpoint, never_endpoint, warnings, err);
		if (rc)
			return rc;
	}
	return 0;
}

int run_refuse(const json_t *cfg, struct str_list *warnings, struct mesh_err *err)
{
	const json_t *host = json_object_get(cfg, "HostConfig");
	int rc = keys(cfg, "", known_config, never_config, warnings, err);
	if (!rc)
		rc = keys(host, "HostConfig.", known_host, never_host, warnings, err);
	if (!rc)
		rc = spaces(host, err);
	if (!rc)
		rc = words(host, err);
	return rc ? rc : endpoints(cfg, warnings, err);
}
