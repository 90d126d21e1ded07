/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/compose/schema.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/units.h"

/* ---- the language, keys in the order docker prints them ------------------------------------------ */

#define END                                                                                                            \
	{                                                                                                              \
		NULL                                                                                                   \
	}

static const struct key credential_spec_keys[] = {
	{ "config", SH_STR }, { "file", SH_STR }, { "registry", SH_STR }, END
};

static const struct key update_config_keys[] = {
	{ "parallelism", SH_INT },
	{ "delay", SH_DURATION },
	{ "failure_action", SH_STR, .words = "continue pause rollback" },
	{ "monitor", SH_DURATION },
	{ "max_failure_ratio", SH_NUM },
	{ "order", SH_STR, .words = "start-first stop-first" },
	END,
};
static const struct key limits_keys[] = { { "cpus", SH_CPUS }, { "memory", SH_SIZE }, { "pids", SH_INT }, END };
static const struct key discrete_keys[] = { { "kind", SH_STR }, { "value", SH_INT }, END };
static const struct key generic_keys[] = { { "discrete_resource_spec", SH_OBJ, .sub = discrete_keys }, END };
static const struct key reservations_keys[] = {
	{ "cpus", SH_CPUS },
	{ "memory", SH_SIZE },
	{ "generic_resources", SH_LIST, .sub = generic_keys },
	{ "devices", SH_ANY, K_IGNORED },
	END,
};
static const struct key resources_keys[] = {
	{ "limits", SH_OBJ, K_NULL, limits_keys },
	{ "reservations", SH_OBJ, K_NULL, reservations_keys },
	END,
};
static const struct key restart_policy_keys[] = {
	{ "condition", SH_STR, .words = "none on-failure any" },
	{ "delay", SH_DURATION },
	{ "max_attempts", SH_INT },
	{ "window", SH_DURATION },
	END,
};
static const struct key preference_keys[] = { { "spread", SH_STR }, END };
static const struct key placement_keys[] = {
	{ "constraints", SH_STRS },
	{ "preferences", SH_LIST, .sub = preference_keys },
	{ "max_replicas_per_node", SH_INT },
	END,
};
static const struct key deploy_keys[] = {
	{ "mode", SH_STR },
	{ "replicas", SH_INT },
	{ "labels", SH_DICT },
	{ "update_config", SH_OBJ, K_NULL, update_config_keys },
	{ "rollback_config", SH_OBJ, K_NULL, update_config_keys },
	{ "resources", SH_OBJ, K_NULL, resources_keys },
	{ "restart_policy", SH_OBJ, K_NULL, restart_policy_keys },
	{ "placement", SH_OBJ, K_NULL, placement_keys },
	{ "endpoint_mode", SH_STR },
	END,
};
static const struct key dependency_keys[] = {
	{ "condition", SH_STR, .words = "service_started service_healthy service_completed_successfully" },
	{ "restart", SH_BOOL, K_IGNORED },
	{ "required", SH_BOOL },
	END,
};
static const struct key healthcheck_keys[] = {
	{ "test", SH_STRS, K_REPLACE, .norm = norm_health_test },
	{ "timeout", SH_DURATION },
	{ "interval", SH_DURATION },
	{ "retries", SH_INT },
	{ "start_period", SH_DURATION },
	{ "start_interval", SH_DURATION },
	{ "disable", SH_BOOL },
	END,
};
static const struct key logging_keys[] = { { "driver", SH_STR }, { "options", SH_DICT, K_NULL }, END };
static const struct key file_ref_keys[] = {
	{ "source", SH_STR }, { "target", SH_STR }, { "uid", SH_TEXT }, { "gid", SH_TEXT }, { "mode", SH_INT }, END,
};
static const struct key service_network_keys[] = {
	{ "aliases", SH_STRS },
	{ "driver_opts", SH_DICT },
	{ "ipv4_address", SH_STR, K_IGNORED, .note = "tasks get their addresses from the network's pool" },
	{ "ipv6_address", SH_STR, K_IGNORED, .note = "tasks get their addresses from the network's pool" },
	{ "link_local_ips", SH_STRS, K_IGNORED },
	{ "mac_address", SH_STR, K_IGNORED },
	{ "interface_name", SH_STR, K_IGNORED },
	{ "priority", SH_NUM, K_IGNORED },
	{ "gw_priority", SH_NUM, K_IGNORED },
	END,
};
static const struct key port_keys[] = {
	{ "mode", SH_STR, .words = "ingress host" },
	{ "target", SH_INT },
	{ "published", SH_INT },
	{ "protocol", SH_STR, .words = "tcp udp sctp" },
	{ "host_ip", SH_STR },
	{ "name", SH_STR },
	{ "app_protocol", SH_STR, K_IGNORED },
	END,
};
static const struct key ulimit_keys[] = { { "single", SH_INT }, { "soft", SH_INT }, { "hard", SH_INT }, END };
static const struct key mount_bind_keys[] = {
	{ "propagation", SH_STR, .words = "rprivate private rshared shared rslave slave" },
	{ "create_host_path", SH_BOOL },
	{ "selinux", SH_STR, K_IGNORED },
	{ "recursive", SH_STR, K_IGNORED },
	END,
};
static const struct key mount_volume_keys[] = {
	{ "nocopy", SH_BOOL }, { "subpath", SH_STR }, { "labels", SH_DICT }, END
};
static const struct key mount_tmpfs_keys[] = { { "size", SH_SIZE }, { "mode", SH_INT }, END };
static const struct key mount_keys[] = {
	{ "type", SH_STR, .words = "bind volume tmpfs npipe cluster image" },
	{ "source", SH_STR },
	{ "target", SH_STR },
	{ "read_only", SH_BOOL },
	{ "consistency", SH_STR },
	{ "bind", SH_OBJ, .sub = mount_bind_keys },
	{ "volume", SH_OBJ, .sub = mount_volume_keys },
	{ "tmpfs", SH_OBJ, .sub = mount_tmpfs_keys },
	{ "cluster", SH_ANY, K_IGNORED },
	END,
};

#define USE_DEPLOY "Set resource limits using deploy.resources"
static const struct key service_keys[] = {
	{ "build", SH_ANY, K_IGNORED },
	{ "cap_add", SH_STRS },
	{ "cap_drop", SH_STRS },
	{ "cgroupns_mode", SH_STR, K_IGNORED },
	{ "cgroup_parent", SH_STR, K_IGNORED },
	{ "command", SH_STRS, K_REPLACE, .norm = norm_command },
	{ "configs", SH_LIST, K_BY_SOURCE, file_ref_keys, norm_refs },
	{ "container_name", SH_STR, K_DEPRECATED, .note = "Setting the container name is not supported." },
	{ "credential_spec", SH_OBJ, .sub = credential_spec_keys },
	{ "depends_on", SH_MAP, 0, dependency_keys, norm_depends_on },
	{ "deploy", SH_OBJ, K_NULL, deploy_keys },
	{ "devices", SH_ANY, K_IGNORED },
	{ "dns", SH_STR_OR_LIST },
	{ "dns_search", SH_STR_OR_LIST },
	{ "dns_opt", SH_STRS },
	{ "domainname", SH_STR, K_IGNORED },
	{ "entrypoint", SH_STRS, K_REPLACE, .norm = norm_command },
	{ "environment", SH_ENV },
	{ "env_file", SH_ANY, 0, .norm = norm_env_file },
	{ "expose", SH_ANY, K_DEPRECATED,
	  .note = "Exposing ports is unnecessary - services on the same network can access each other's containers on "
	          "any "
	          "port." },
	{ "external_links", SH_STRS, K_IGNORED },
	{ "extra_hosts", SH_STRS, 0, .norm = norm_extra_hosts },
	{ "group_add", SH_ANY },
	{ "hostname", SH_STR },
	{ "healthcheck", SH_OBJ, K_NULL, healthcheck_keys },
	{ "image", SH_STR },
	{ "init", SH_BOOL },
	{ "ipc", SH_STR, K_IGNORED },
	{ "isolation", SH_STR },
	{ "labels", SH_DICT },
	{ "links", SH_STRS, K_IGNORED },
	{ "logging", SH_OBJ, K_NULL, logging_keys },
	{ "mac_address", SH_STR, K_IGNORED },
	{ "network_mode", SH_STR, K_IGNORED },
	{ "networks", SH_MAP, K_NULL, service_network_keys, norm_networks },
	{ "oom_score_adj", SH_INT },
	{ "pid", SH_STR, K_IGNORED | K_NULL },
	{ "platform", SH_STR },
	{ "ports", SH_LIST, K_BY_PORT, port_keys, norm_ports },
	{ "privileged", SH_BOOL, K_IGNORED },
	{ "profiles", SH_STRS },
	{ "read_only", SH_BOOL },
	{ "restart", SH_STR },
	{ "scale", SH_INT },
	{ "secrets", SH_LIST, K_BY_SOURCE, file_ref_keys, norm_refs },
	{ "security_opt", SH_STRS },
	{ "shm_size", SH_SIZE },
	{ "stdin_open", SH_BOOL },
	{ "stop_grace_period", SH_DURATION },
	{ "stop_signal", SH_STR },
	{ "sysctls", SH_DICT },
	{ "tmpfs", SH_STR_OR_LIST },
	{ "tty", SH_BOOL },
	{ "ulimits", SH_MAP, 0, ulimit_keys, norm_ulimits },
	{ "user", SH_STR },
	{ "userns_mode", SH_STR, K_IGNORED },
	{ "volumes", SH_LIST, K_BY_TARGET, mount_keys, norm_volumes },
	{ "working_dir", SH_STR },
	/* what the compose specification has and the cluster can do */
	{ "cpus", SH_CPUS },
	{ "mem_reservation", SH_SIZE },
	{ "pids_limit", SH_INT },
	/* what it has and the cluster cannot do */
	{ "annotations", SH_ANY, K_IGNORED },
	{ "attach", SH_ANY, K_IGNORED },
	{ "blkio_config", SH_ANY, K_IGNORED },
	{ "cgroup", SH_ANY, K_IGNORED },
	{ "cpu_count", SH_ANY, K_IGNORED },
	{ "cpu_percent", SH_ANY, K_IGNORED },
	{ "cpu_period", SH_ANY, K_IGNORED },
	{ "cpu_rt_period", SH_ANY, K_IGNORED },
	{ "cpu_rt_runtime", SH_ANY, K_IGNORED },
	{ "develop", SH_ANY, K_IGNORED },
	{ "device_cgroup_rules", SH_ANY, K_IGNORED },
	{ "gpus", SH_ANY, K_IGNORED },
	{ "label_file", SH_ANY, K_IGNORED },
	{ "mem_swappiness", SH_ANY, K_IGNORED },
	{ "models", SH_ANY, K_IGNORED },
	{ "oom_kill_disable", SH_ANY, K_IGNORED },
	{ "post_start", SH_ANY, K_IGNORED },
	{ "pre_stop", SH_ANY, K_IGNORED },
	{ "provider", SH_ANY, K_IGNORED },
	{ "pull_policy", SH_ANY, K_IGNORED, .note = "nodes pull what they do not have" },
	{ "runtime", SH_ANY, K_IGNORED },
	{ "storage_opt", SH_ANY, K_IGNORED },
	{ "use_api_socket", SH_ANY, K_IGNORED },
	{ "uts", SH_ANY, K_IGNORED },
	/* docker's refusals */
	{ "cpu_quota", SH_ANY, K_FORBIDDEN, .note = USE_DEPLOY },
	{ "cpu_shares", SH_ANY, K_FORBIDDEN, .note = USE_DEPLOY },
	{ "cpuset", SH_ANY, K_FORBIDDEN, .note = USE_DEPLOY },
	{ "extends", SH_ANY, K_FORBIDDEN, .note = "Support for `extends` is not implemented yet." },
	{ "mem_limit", SH_ANY, K_FORBIDDEN, .note = USE_DEPLOY },
	{ "memswap_limit", SH_ANY, K_FORBIDDEN, .note = USE_DEPLOY },
	{ "volume_driver", SH_ANY, K_FORBIDDEN,
	  .note = "Instead of setting the volume driver on the service, define a volume using the top-level `volumes` "
	          "option "
	          "and specify the driver there." },
	{ "volumes_from", SH_ANY, K_FORBIDDEN,
	  .note = "To share a volume between services, define it using the top-level `volumes` option and reference it "
	          "from "
	          "each service that shares it using the service-level `volumes` option." },
	END,
};

static const struct key ipam_config_keys[] = {
	{ "subnet", SH_STR }, { "gateway", SH_STR }, { "ip_range", SH_STR }, { "aux_addresses", SH_DICT }, END,
};
static const struct key ipam_keys[] = {
	{ "driver", SH_STR },
	{ "config", SH_LIST, K_REPLACE, ipam_config_keys },
	{ "options", SH_DICT },
	END,
};
static const struct key network_keys[] = {
	{ "name", SH_STR },
	{ "driver", SH_STR },
	{ "driver_opts", SH_DICT },
	{ "ipam", SH_OBJ, K_NULL, ipam_keys },
	{ "external", SH_ANY, 0, .norm = norm_external },
	{ "internal", SH_BOOL },
	{ "attachable", SH_BOOL },
	{ "enable_ipv4", SH_BOOL },
	{ "enable_ipv6", SH_BOOL },
	{ "labels", SH_DICT },
	END,
};
static const struct key volume_keys[] = {
	{ "name", SH_STR },
	{ "driver", SH_STR },
	{ "driver_opts", SH_DICT },
	{ "external", SH_ANY, 0, .norm = norm_external },
	{ "labels", SH_DICT },
	{ "x-cluster-spec", SH_ANY, K_IGNORED, .note = "cluster volumes need a CSI plugin" },
	END,
};
static const struct key secret_keys[] = {
	{ "name", SH_STR },
	{ "file", SH_STR },
	{ "environment", SH_STR },
	{ "content", SH_STR },
	{ "external", SH_ANY, 0, .norm = norm_external },
	{ "labels", SH_DICT },
	{ "driver", SH_STR },
	{ "driver_opts", SH_DICT },
	{ "template_driver", SH_STR },
	END,
};
const struct key compose_root[] = {
	{ "version", SH_STR },
	{ "name", SH_STR },
	{ "services", SH_MAP, 0, service_keys },
	{ "networks", SH_MAP, K_NULL, network_keys },
	{ "volumes", SH_MAP, K_NULL, volume_keys },
	{ "secrets", SH_MAP, K_NULL, secret_keys },
	{ "configs", SH_MAP, K_NULL, secret_keys },
	{ "include", SH_ANY, K_FORBIDDEN, .note = "Name the files after one another with -c; they are merged." },
	{ "models", SH_ANY, K_IGNORED },
	END,
};

/* ---- checking ------------------------------------------------------------------------------------ */

const struct key *key_find(const struct key *table, const char *name)
{
	for (; table->name; table++)
		if (!strcmp(table->name, name))
			return table;
	return NULL;
}

void warn_at(struct check *ck, const struct cv *v, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	CLEAN_FREE char *line = xasprintf("%s:%d: %s", v->file ? v->file : "", v->line, text);
	if (!strs_has(&ck->c->warnings, line))
		strs_add(&ck->c->warnings, line);
}

bool cv_unresolved(const struct check *ck, const struct cv *v)
{
	return ck->c->opts->raw && v->kind == CV_STR && strchr(v->s, '$');
}

int must_be(struct check *ck, const struct cv *v, const struct cv_path *at, const char *what, struct mesh_err *err)
{
	return cv_fail(v, err, "%.250s must be a %s", cv_path_str(ck->a, at), what);
}

static int cast_failed(struct check *ck, const struct cv *v, const struct cv_path *at, const char *why,
                       struct mesh_err *err)
{
	return cv_fail(v, err, "error while interpolating %.250s: failed to cast to expected type: %s",
	               cv_path_str(ck->a, at), why);
}

static int check_bool(struct check *ck, struct cv *v, const struct cv_path *at, struct mesh_err *err)
{
	static const char *const yes[] = { "1", "t", "true", "y", "yes", "on" }, *const no[] = { "0", "f",  "false",
		                                                                                 "n", "no", "off" };
	char why[120];

	if (v->kind == CV_BOOL)
		return 0;
	if (v->kind != CV_STR)
		return must_be(ck, v, at, "boolean", err);
	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!strcasecmp(v->s, yes[i]) || !strcasecmp(v->s, no[i])) {
			v->kind = CV_BOOL;
			v->i = !strcasecmp(v->s, yes[i]);
			v->s = v->i ? "true" : "false";
			return 0;
		}
	snprintf(why, sizeof(why), "invalid boolean: %.80s", v->s);
	return cast_failed(ck, v, at, why, err);
}

static int check_int(struct check *ck, struct cv *v, const struct cv_path *at, struct mesh_err *err)
{
	char why[160], *end;

	if (v->kind == CV_FLOAT && v->f == floor(v->f) && fabs(v->f) < 1e15) {
		v->kind = CV_INT;
		v->i = (int64_t)v->f;
	}
	if (v->kind == CV_STR) {
		errno = 0;
		v->i = strtoll(v->s, &end, 10);
		if (end == v->s || *end || errno || isspace((unsigned char)v->s[0])) {
			snprintf(why, sizeof(why), "strconv.Atoi: parsing \"%.80s\": invalid syntax", v->s);
			return cast_failed(ck, v, at, why, err);
		}
		v->kind = CV_INT;
	}
	if (v->kind != CV_INT)
		return must_be(ck, v, at, "integer", err);
	v->s = arena_printf(ck->a, "%lld", (long long)v->i);
	return 0;
}

static int check_num(struct check *ck, struct cv *v, const struct cv_path *at, struct mesh_err *err)
{
	char why[160], *end;

	if (v->kind == CV_INT)
		v->f = (double)v->i;
	else if (v->kind == CV_STR) {
		v->f = strtod(v->s, &end);
		if (end == v->s || *end) {
			snprintf(why, sizeof(why), "strconv.ParseFloat: parsing \"%.80s\": invalid syntax", v->s);
			return cast_failed(ck, v, at, why, err);
		}
	} else if (v->kind != CV_FLOAT) {
		return must_be(ck, v, at, "number", err);
	}
	if (!isfinite(v->f))
		return must_be(ck, v, at, "finite number", err);
	v->kind = CV_FLOAT;
	return 0;
}

/* A number as Go prints it. */
static void as_text(struct check *ck, struct cv *v)
{
	char text[40];

	if (v->kind == CV_INT)
		v->s = arena_printf(ck->a, "%lld", (long long)v->i);
	if (v->kind == CV_FLOAT) {
		int digits = 1;
		do
			snprintf(text, sizeof(text), "%.*g", digits, v->f);
		while (strtod(text, NULL) != v->f && ++digits <= 17);
		if (fabs(v->f) < 1e21 && v->f == floor(v->f))
			snprintf(text, sizeof(text), "%.0f", v->f);
		v->s = arena_str(ck->a, text, strlen(text));
	}
	v->kind = CV_STR;
}

static int check_text(struct check *ck, struct cv *v, const struct cv_path *at, struct mesh_err *err)
{
	if (v->kind != CV_STR && v->kind != CV_INT && v->kind != CV_FLOAT)
		return must_be(ck, v, at, "string or number", err);
	as_text(ck, v);
	return 0;
}

static int check_amount(struct check *ck, struct cv *v, const struct cv_path *at, enum shape shape,
                        struct mesh_err *err)
{
	struct mesh_err why = { 0 };
	int64_t n;

	if (shape == SH_DURATION && v->kind != CV_STR)
		return must_be(ck, v, at, "string", err);
	int rc = check_text(ck, v, at, err);
	if (rc < 0)
		return rc;
	if (shape == SH_DURATION) {
		rc = parse_duration(v->s, &n, &why);
		return rc < 0 ? cv_fail(v, err, "%.250s Does not match format 'duration'", cv_path_str(ck->a, at)) : 0;
	}
	rc = shape == SH_SIZE ? parse_bytes(v->s, &n, &why) : parse_nano_cpus(v->s, &n, &why);
	return rc < 0 ? cv_fail(v, err, "error decoding '%.250s': %s", cv_path_str(ck->a, at), why.msg) : 0;
}

static int check_words(struct check *ck, const struct key *k, const struct cv *v, const struct cv_path *at,
                       struct mesh_err *err)
{
	struct buf list = { 0 };
	size_t n = strlen(v->s);

	for (const char *p = k->words; p; p = strchr(p, ' ')) {
		p += *p == ' ';
		size_t len = strcspn(p, " ");
		if (len == n && !strncmp(p, v->s, n))
			goto found;
		buf_printf(&list, "%s\"%.*s\"", list.len ? ", " : "", (int)len, p);
	}
	const char *where = cv_path_str(ck->a, at);
	int rc = cv_fail(v, err, "%.120s %.120s must be one of the following: %.200s", where, where, buf_str(&list));
	buf_fini(&list);
	return rc;
found:
	buf_fini(&list);
	return 0;
}

static int check_strs(struct check *ck, struct cv **v, const struct cv_path *at, bool one, struct mesh_err *err)
{
	uint32_t i = 0;

	if (one && (*v)->kind == CV_STR) {
		struct cv *list = cv_new(ck->a, CV_LIST, *v);
		cv_add(ck->a, list, *v);
		*v = list;
	}
	if ((*v)->kind != CV_LIST)
		return must_be(ck, *v, at, one ? "string or list" : "list", err);
	CV_EACH(*v, it)
	{
		struct cv_path here = { at, NULL, i++ };
		if (it->v->kind != CV_STR)
			return must_be(ck, it->v, &here, "string", err);
	}
	return 0;
}

static int dict_value(struct check *ck, struct cv *v, const struct cv_path *at, bool env, struct mesh_err *err)
{
	if (v->kind == CV_LIST || v->kind == CV_MAP)
		return must_be(ck, v, at, "string, number or null", err);
	if (v->kind == CV_NULL && env)
		return 0;
	if (v->kind == CV_NULL)
		v->s = "";
	as_text(ck, v);
	return 0;
}

static int check_dict(struct check *ck, struct cv **v, const struct cv_path *at, bool env, struct mesh_err *err)
{
	struct cv *map = *v;
	uint32_t i = 0;

	if (map->kind == CV_LIST) {
		if (map->n > COMPOSE_MAX_KEYS)
			return must_be(ck, map, at, "shorter list", err);
		map = cv_new(ck->a, CV_MAP, *v);
		map->flags = (*v)->flags;
		CV_EACH(*v, it)
		{
			struct cv_path here = { at, NULL, i++ };
			if (it->v->kind != CV_STR)
				return must_be(ck, it->v, &here, "string", err);
			const char *eq = strchr(it->v->s, '=');
			CLEAN_FREE char *key = eq ? xstrndup(it->v->s, (size_t)(eq - it->v->s)) : xstrdup(it->v->s);
			cv_set(ck->a, map, key, eq ? cv_str(ck->a, eq + 1, it->v) : cv_new(ck->a, CV_NULL, it->v));
		}
		*v = map;
	}
	if (map->kind != CV_MAP)
		return must_be(ck, map, at, "mapping", err);
	CV_EACH(map, it)
	{
		struct cv_path here = { at, it->key, 0 };
		int rc = dict_value(ck, it->v, &here, env, err);
		if (rc < 0)
			return rc;
		const struct compose_env *e = &ck->c->opts->env;
		if (it->v->kind == CV_NULL && env && e->get(e->arg, it->key) && utf8_ok(e->get(e->arg, it->key)))
			it->v = cv_str(ck->a, e->get(e->arg, it->key), it->v);
	}
	return 0;
}

static int check_key(struct check *ck, const struct key *k, struct cv **v, const struct cv_path *at,
                     struct mesh_err *err);

static bool name_ok(const char *s)
{
	if (!*s)
		return false;
	for (; *s; s++)
		if (!isalnum((unsigned char)*s) && !strchr("._-", *s))
			return false;
	return true;
}

static int unknown(struct check *ck, const struct cv *v, const struct cv_path *at, const char *key,
                   struct mesh_err *err)
{
	return cv_fail(v, err, "%.250s Additional property %.80s is not allowed",
	               at ? cv_path_str(ck->a, at) : "(root)", key);
}

static int check_object(struct check *ck, const struct key *table, struct cv *v, const struct cv_path *at,
                        struct mesh_err *err)
{
	if (cv_unresolved(ck, v))
		return 0;
	if (v->kind != CV_MAP)
		return at ? must_be(ck, v, at, "mapping", err) : cv_fail(v, err, "top-level object must be a mapping");
	for (uint32_t i = 0; i < v->n; i++) {
		struct cv_path here = { at, v->items[i].key, 0 };
		const struct key *k = key_find(table, v->items[i].key);
		if (!k && !strncmp(v->items[i].key, "x-", 2))
			continue;
		if (!k)
			return unknown(ck, v->items[i].v, at, v->items[i].key, err);
		int rc = check_key(ck, k, &v->items[i].v, &here, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int check_many(struct check *ck, const struct key *k, struct cv *v, const struct cv_path *at,
                      struct mesh_err *err)
{
	uint32_t i = 0;

	if (v->kind != (k->shape == SH_MAP ? CV_MAP : CV_LIST))
		return must_be(ck, v, at, k->shape == SH_MAP ? "mapping" : "list", err);
	CV_EACH(v, it)
	{
		struct cv_path here = { at, it->key, i++ };
		if (it->key && !at->up && !strncmp(it->key, "x-", 2))
			continue;
		if (it->key && !name_ok(it->key))
			return unknown(ck, it->v, at, it->key, err);
		if (it->v->kind == CV_NULL && (k->flags & K_NULL))
			continue;
		int rc = check_object(ck, k->sub, it->v, &here, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void say_ignored(struct check *ck, const struct key *k, const struct cv *v, const struct cv_path *at)
{
	/* privileged: false and the like ask for nothing. */
	if (v->kind == CV_NULL || (v->kind == CV_BOOL && !v->i) || (v->kind >= CV_LIST && !v->n))
		return;
	warn_at(ck, v, "%.250s is %s, ignored%s%s", cv_path_str(ck->a, at),
	        k->flags & K_DEPRECATED ? "deprecated" : "not supported", k->note ? ": " : "", k->note ? k->note : "");
}

static int check_shape(struct check *ck, const struct key *k, struct cv **v, const struct cv_path *at,
                       struct mesh_err *err)
{
	int rc;

	if (cv_unresolved(ck, *v))
		return 0;
	switch (k->shape) {
	case SH_STR:
		rc = (*v)->kind == CV_STR ? 0 : must_be(ck, *v, at, "string", err);
		return rc < 0 || !k->words ? rc : check_words(ck, k, *v, at, err);
	case SH_TEXT:
		return check_text(ck, *v, at, err);
	case SH_BOOL:
		return check_bool(ck, *v, at, err);
	case SH_INT:
		return check_int(ck, *v, at, err);
	case SH_NUM:
		return check_num(ck, *v, at, err);
	case SH_DURATION:
	case SH_SIZE:
	case SH_CPUS:
		return check_amount(ck, *v, at, k->shape, err);
	case SH_STRS:
		return check_strs(ck, v, at, false, err);
	case SH_STR_OR_LIST:
		return check_strs(ck, v, at, true, err);
	case SH_DICT:
	case SH_ENV:
		return check_dict(ck, v, at, k->shape == SH_ENV, err);
	case SH_OBJ:
		return check_object(ck, k->sub, *v, at, err);
	case SH_MAP:
	case SH_LIST:
		return check_many(ck, k, *v, at, err);
	default:
		return 0;
	}
}

static int check_key(struct check *ck, const struct key *k, struct cv **v, const struct cv_path *at,
                     struct mesh_err *err)
{
	int rc = 0;

	if ((*v)->flags & CV_RESET)
		return 0;
	if (k->flags & K_FORBIDDEN)
		return cv_fail(*v, err, "Compose file contains unsupported options: %.250s: %s", cv_path_str(ck->a, at),
		               k->note);
	if ((*v)->kind == CV_NULL && (k->flags & K_NULL))
		return 0;
	if (k->norm)
		rc = k->norm(ck, v, at, err);
	if (!rc)
		rc = check_shape(ck, k, v, at, err);
	if (!rc && (k->flags & (K_IGNORED | K_DEPRECATED)))
		say_ignored(ck, k, *v, at);
	return rc;
}

static int check_version(struct cv *root, struct mesh_err *err)
{
	const struct cv *v = cv_get(root, "version");
	char *end;

	if (!v)
		return 0;
	if (v->kind != CV_STR)
		return cv_fail(v, err, "version must be a string");
	if (!strcmp(v->s, "3"))
		return 0;
	long minor = strncmp(v->s, "3.", 2) ? -1 : strtol(v->s + 2, &end, 10);
	if (minor < 0 || minor > 13 || !isdigit((unsigned char)v->s[2]) || *end)
		return cv_fail(v, err, "unsupported Compose file version: %.40s", v->s);
	return 0;
}

int schema_check(struct check *ck, struct cv *root, struct mesh_err *err)
{
	if (!root || root->kind != CV_MAP)
		return cv_fail(root, err, "top-level object must be a mapping");
	int rc = check_version(root, err);
	return rc < 0 ? rc : check_object(ck, compose_root, root, NULL, err);
}
