/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/spec.h"
#include "cli/units.h"

int csv_split(const char *text, struct str_list *out, struct mesh_err *err)
{
	const char *p = text;

	for (;;) {
		struct buf b = { 0 };
		if (*p == '"') {
			for (p++; *p && !(p[0] == '"' && p[1] != '"'); p++) {
				if (*p == '"')
					p++; /* "" stands for one */
				buf_put(&b, p, 1);
			}
			if (*p++ != '"' || (*p && *p != ',')) {
				buf_fini(&b);
				return mesh_fail(err, MESH_E_INVALID, "malformed quotes in '%s'", text);
			}
		} else {
			size_t n = strcspn(p, ",");
			buf_put(&b, p, n);
			p += n;
		}
		strs_add(out, buf_str(&b));
		buf_fini(&b);
		if (*p != ',')
			return 0;
		p++;
	}
}

static bool shell_word(const char **at, struct buf *b, struct mesh_err *err, const char *text, int *rc)
{
	const char *p = *at;
	char quote = 0;

	while (isspace((unsigned char)*p))
		p++;
	if (!*p || *p == '#')
		return false;
	for (; *p && (quote || !isspace((unsigned char)*p)); p++) {
		if (quote != '\'' && *p == '\\' && p[1]) {
			p++;
			buf_put(b, p, 1);
		} else if (quote ? *p == quote : *p == '\'' || *p == '"') {
			quote = quote ? 0 : *p;
		} else {
			buf_put(b, p, 1);
		}
	}
	if (quote)
		*rc = mesh_fail(err, MESH_E_INVALID, "unterminated quote in '%s'", text);
	*at = p;
	return true;
}

int shell_split(const char *text, json_t **out, struct mesh_err *err)
{
	const char *p = text;
	int rc = 0;

	*out = json_array();
	for (;;) {
		struct buf b = { 0 };
		bool more = shell_word(&p, &b, err, text, &rc);
		if (more && !rc)
			json_array_append_new(*out, json_string(buf_str(&b)));
		buf_fini(&b);
		if (!more || rc)
			break;
	}
	if (rc) {
		json_decref(*out);
		*out = NULL;
	}
	return rc;
}

static int octal_mode(const char *v, json_int_t *out)
{
	char *end;
	unsigned long mode = strtoul(v, &end, 0);

	if (end == v || *end || mode > 0177777)
		return MESH_E_INVALID;
	*out = (json_int_t)mode;
	return 0;
}

static int field_bool(const char *v, const char *key, bool *out, struct mesh_err *err)
{
	int b = v ? (*v ? parse_bool(v) : -1) : 1;

	if (b < 0)
		return mesh_fail(err, MESH_E_INVALID, "invalid value for %s: %s", key, v);
	*out = b;
	return 0;
}

static void add_pair(json_t *o, const char *path, const char *pair)
{
	const char *eq = strchr(pair, '=');
	CLEAN_FREE char *key = eq ? xstrndup(pair, (size_t)(eq - pair)) : xstrdup(pair);

	if (*path && !jo(o, path))
		jset(o, path, json_object());
	json_object_set_new(jo(o, path), key, json_string(eq ? eq + 1 : ""));
}

static bool one_of(const char *v, const char *const *list)
{
	for (; *list; list++)
		if (!strcmp(v, *list))
			return true;
	return false;
}

static int bind_recursive(json_t *m, const char *v, struct mesh_err *err)
{
	if (!strcmp(v, "enabled"))
		return 0;
	if (!strcmp(v, "disabled"))
		jset(m, "BindOptions.NonRecursive", json_true());
	else if (!strcmp(v, "writable"))
		jset(m, "BindOptions.ReadOnlyNonRecursive", json_true());
	else if (!strcmp(v, "readonly"))
		jset(m, "BindOptions.ReadOnlyForceRecursive", json_true());
	else
		return mesh_fail(
			err, MESH_E_INVALID,
			"invalid value for bind-recursive: %s (must be \"enabled\", \"disabled\", \"writable\", or "
			"\"readonly\")",
			v);
	return 0;
}

/* v is NULL where the field has no "=". */
static int mount_field(json_t *m, const char *key, const char *v, const char *field, struct mesh_err *err)
{
	bool b = false;
	int64_t size;
	json_int_t mode;

	if (!strcmp(key, "readonly") || !strcmp(key, "ro")) {
		int rc = field_bool(v, key, &b, err);
		if (!rc && b)
			json_object_set_new(m, "ReadOnly", json_true());
		return rc;
	}
	if (!strcmp(key, "volume-nocopy") || !strcmp(key, "bind-nonrecursive")) {
		int rc = field_bool(v, key, &b, err);
		if (!rc)
			jset(m, key[0] == 'v' ? "VolumeOptions.NoCopy" : "BindOptions.NonRecursive", json_boolean(b));
		return rc;
	}
	if (!v)
		return mesh_fail(err, MESH_E_INVALID, "invalid field '%s' must be a key=value pair", field);
	if (!strcmp(key, "type")) {
		CLEAN_FREE char *low = xstrdup(v);
		for (char *p = low; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		json_object_set_new(m, "Type", json_string(low));
	} else if (!strcmp(key, "source") || !strcmp(key, "src")) {
		json_object_set_new(m, "Source", json_string(v));
	} else if (!strcmp(key, "target") || !strcmp(key, "dst") || !strcmp(key, "destination")) {
		json_object_set_new(m, "Target", json_string(v));
	} else if (!strcmp(key, "consistency")) {
		json_object_set_new(m, "Consistency", json_string(v));
	} else if (!strcmp(key, "bind-propagation")) {
		jset(m, "BindOptions.Propagation", json_string(v));
	} else if (!strcmp(key, "bind-recursive")) {
		return bind_recursive(m, v, err);
	} else if (!strcmp(key, "volume-label")) {
		add_pair(m, "VolumeOptions.Labels", v);
	} else if (!strcmp(key, "volume-driver")) {
		jset(m, "VolumeOptions.DriverConfig.Name", json_string(v));
	} else if (!strcmp(key, "volume-opt")) {
		add_pair(m, "VolumeOptions.DriverConfig.Options", v);
	} else if (!strcmp(key, "volume-subpath")) {
		jset(m, "VolumeOptions.Subpath", json_string(v));
	} else if (!strcmp(key, "image-subpath")) {
		jset(m, "ImageOptions.Subpath", json_string(v));
	} else if (!strcmp(key, "tmpfs-size")) {
		if (parse_bytes(v, &size, NULL) < 0)
			return mesh_fail(err, MESH_E_INVALID, "invalid value for %s: %s", key, v);
		jset(m, "TmpfsOptions.SizeBytes", json_integer(size));
	} else if (!strcmp(key, "tmpfs-mode")) {
		char *end;
		mode = (json_int_t)strtoul(v, &end, 8);
		if (end == v || *end)
			return mesh_fail(err, MESH_E_INVALID, "invalid value for %s: %s", key, v);
		jset(m, "TmpfsOptions.Mode", json_integer(mode));
	} else {
		return mesh_fail(err, MESH_E_INVALID, "unexpected key '%s' in '%s'", key, field);
	}
	return 0;
}

static int mount_check(json_t *m, struct mesh_err *err)
{
	static const char *const types[] = { "bind", "volume", "tmpfs", "npipe", "cluster", "image", NULL };
	static const struct {
		const char *options, *type, *prefix;
	} only[] = { { "BindOptions", "bind", "bind" },
		     { "VolumeOptions", "volume", "volume" },
		     { "TmpfsOptions", "tmpfs", "tmpfs" },
		     { "ImageOptions", "image", "image" } };
	const char *type = js(m, "Type");

	if (!*type)
		return mesh_fail(err, MESH_E_INVALID, "type is required");
	if (!one_of(type, types))
		return mesh_fail(err, MESH_E_INVALID, "invalid mount type '%s'", type);
	/* docker writes an empty driver beside any volume option */
	if (jo(m, "VolumeOptions") && !jo(m, "VolumeOptions.DriverConfig"))
		jset(m, "VolumeOptions.DriverConfig", json_object());
	if (!*js(m, "Target"))
		return mesh_fail(err, MESH_E_INVALID, "target is required");
	for (size_t i = 0; i < ARRAY_SIZE(only); i++)
		if (jo(m, only[i].options) && strcmp(type, only[i].type))
			return mesh_fail(err, MESH_E_INVALID, "cannot mix '%s-*' options with mount type '%s'",
			                 only[i].prefix, type);
	return 0;
}

/* Calls fn for each key=value (value NULL without "=") of a comma-separated record. */
static int each_field(const char *text, json_t *into,
                      int (*fn)(json_t *, const char *, const char *, const char *, struct mesh_err *),
                      struct mesh_err *err)
{
	struct str_list fields = { 0 };
	int rc = csv_split(text, &fields, err);

	for (size_t i = 0; !rc && i < fields.n; i++) {
		const char *eq = strchr(fields.v[i], '=');
		CLEAN_FREE char *key = eq ? xstrndup(fields.v[i], (size_t)(eq - fields.v[i])) : xstrdup(fields.v[i]);
		for (char *p = key; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		rc = fn(into, key, eq ? eq + 1 : NULL, fields.v[i], err);
	}
	strs_clear(&fields);
	return rc;
}

int spec_mount(const char *text, json_t **out, struct mesh_err *err)
{
	json_t *m = json_pack("{s:s}", "Type", "volume");
	int rc = each_field(text, m, mount_field, err);

	if (!rc)
		rc = mount_check(m, err);
	if (rc < 0) {
		json_decref(m);
		return mesh_wrap(err, rc, "invalid argument \"%s\" for \"--mount\" flag", text);
	}
	*out = m;
	return 0;
}

static int port_number(const char *text, size_t n, unsigned *out)
{
	char digits[8], *end;

	if (!n || n >= sizeof(digits))
		return MESH_E_INVALID;
	memcpy(digits, text, n);
	digits[n] = 0;
	if (!isdigit((unsigned char)digits[0]))
		return MESH_E_INVALID;
	unsigned long v = strtoul(digits, &end, 10);
	if (*end || v > 65535)
		return MESH_E_INVALID;
	*out = (unsigned)v;
	return 0;
}

/* "80" or "80-90" */
static int port_range(const char *text, unsigned *from, unsigned *to)
{
	const char *dash = strchr(text, '-');

	if (!dash) {
		int rc = port_number(text, strlen(text), from);
		*to = *from;
		return rc;
	}
	if (port_number(text, (size_t)(dash - text), from) < 0 || port_number(dash + 1, strlen(dash + 1), to) < 0)
		return MESH_E_INVALID;
	return *to < *from ? MESH_E_INVALID : 0;
}

static const char *const protocols[] = { "tcp", "udp", "sctp", NULL };

static void add_port(json_t *ports, const char *proto, unsigned target, unsigned published, const char *mode,
                     const char *ip)
{
	json_t *p = json_pack("{s:s,s:i}", "Protocol", proto, "TargetPort", (int)target);

	if (published)
		json_object_set_new(p, "PublishedPort", json_integer(published));
	json_object_set_new(p, "PublishMode", json_string(mode));
	if (ip && *ip)
		json_object_set_new(p, "HostIP", json_string(ip));
	json_array_append_new(ports, p);
}

static int long_port_field(json_t *p, const char *key, const char *v, const char *field, struct mesh_err *err)
{
	unsigned from, to;

	if (!v || !*v)
		return mesh_fail(err, MESH_E_INVALID, "invalid field: %s", field);
	if (!strcmp(key, "protocol")) {
		if (!one_of(v, protocols))
			return mesh_fail(err, MESH_E_INVALID, "invalid protocol value '%s'", v);
		json_object_set_new(p, "Protocol", json_string(v));
	} else if (!strcmp(key, "mode")) {
		if (strcmp(v, "ingress") && strcmp(v, "host"))
			return mesh_fail(err, MESH_E_INVALID,
			                 "invalid publish mode value (%s): must be either 'ingress' or 'host'", v);
		json_object_set_new(p, "PublishMode", json_string(v));
	} else if (!strcmp(key, "target") || !strcmp(key, "published")) {
		if (port_range(v, &from, &to) < 0)
			return mesh_fail(err, MESH_E_INVALID, "invalid %s port (%s): value must be an integer", key, v);
		json_object_set_new(p, key[0] == 't' ? "t0" : "p0", json_integer(from));
		json_object_set_new(p, key[0] == 't' ? "t1" : "p1", json_integer(to));
	} else if (!strcmp(key, "host_ip") || !strcmp(key, "host-ip")) {
		json_object_set_new(p, "HostIP", json_string(v));
	} else {
		return mesh_fail(err, MESH_E_INVALID, "invalid field key: %s", key);
	}
	return 0;
}

static int add_range(json_t *ports, const char *proto, const unsigned *target, const unsigned *published,
                     const char *mode, const char *ip, struct mesh_err *err)
{
	unsigned n = target[1] - target[0];

	if (published && published[1] - published[0] != n) {
		if (n)
			return mesh_fail(err, MESH_E_INVALID,
			                 "Invalid ranges specified for container and host Ports: %u-%u and "
			                 "%u-%u",
			                 target[0], target[1], published[0], published[1]);
		return mesh_fail(err, MESH_E_INVALID,
		                 "a range of published ports needs a range of target ports of its size");
	}
	for (unsigned i = 0; i <= n; i++)
		add_port(ports, proto, target[0] + i, published ? published[0] + i : 0, mode, ip);
	return 0;
}

static int publish_long(const char *text, json_t *ports, struct mesh_err *err)
{
	JSON_CLEAN p = json_pack("{s:s,s:s}", "Protocol", "tcp", "PublishMode", "ingress");
	int rc = each_field(text, p, long_port_field, err);

	if (rc < 0)
		return rc;
	if (!jo(p, "t0"))
		return mesh_fail(err, MESH_E_INVALID, "missing mandatory field \"target\"");
	unsigned target[2] = { (unsigned)ji(p, "t0"), (unsigned)ji(p, "t1") };
	unsigned published[2] = { (unsigned)ji(p, "p0"), (unsigned)ji(p, "p1") };
	return add_range(ports, js(p, "Protocol"), target, jo(p, "p0") ? published : NULL, js(p, "PublishMode"),
	                 js(p, "HostIP"), err);
}

/* [ip:][published:]target[/protocol] */
static int publish_short(const char *text, json_t *ports, struct mesh_err *err)
{
	CLEAN_FREE char *copy = xstrdup(text);
	char *slash = strchr(copy, '/'), *host = NULL, *ip = NULL;
	unsigned target[2], published[2];
	const char *proto = "tcp";

	if (slash) {
		*slash = 0;
		proto = slash + 1;
		for (char *p = slash + 1; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		if (!one_of(proto, protocols))
			return mesh_fail(err, MESH_E_INVALID, "Invalid proto: %s", proto);
	}
	char *container = strrchr(copy, ':');
	if (container) {
		*container++ = 0;
		host = strrchr(copy, ':');
		if (host) {
			*host++ = 0;
			ip = copy;
			size_t n = strlen(ip);
			if (ip[0] == '[' && n > 1 && ip[n - 1] == ']') {
				ip[n - 1] = 0;
				ip++;
			}
		} else {
			host = copy;
		}
	} else {
		container = copy;
	}
	if (port_range(container, &target[0], &target[1]) < 0)
		return mesh_fail(err, MESH_E_INVALID, "Invalid containerPort: %s", container);
	if (host && *host && port_range(host, &published[0], &published[1]) < 0)
		return mesh_fail(err, MESH_E_INVALID, "Invalid hostPort: %s", host);
	unsigned char address[16];
	if (ip && *ip && inet_pton(AF_INET, ip, address) != 1 && inet_pton(AF_INET6, ip, address) != 1)
		return mesh_fail(err, MESH_E_INVALID, "Invalid ip address: %s", ip);
	return add_range(ports, proto, target, host && *host ? published : NULL, "ingress", ip, err);
}

int spec_publish(const char *text, json_t *ports, struct mesh_err *err)
{
	int rc = strchr(text, '=') ? publish_long(text, ports, err) : publish_short(text, ports, err);

	return rc < 0 ? mesh_wrap(err, rc, "invalid argument \"%s\" for \"-p, --publish\" flag", text) : 0;
}

static int file_ref_field(json_t *f, const char *key, const char *v, const char *field, struct mesh_err *err)
{
	json_int_t mode;

	if (!v)
		return mesh_fail(err, MESH_E_INVALID, "invalid field '%s' must be a key=value pair", field);
	if (!strcmp(key, "source") || !strcmp(key, "src")) {
		json_object_set_new(f, "source", json_string(v));
	} else if (!strcmp(key, "target")) {
		json_object_set_new(f, "Name", json_string(v));
	} else if (!strcmp(key, "uid")) {
		json_object_set_new(f, "UID", json_string(v));
	} else if (!strcmp(key, "gid")) {
		json_object_set_new(f, "GID", json_string(v));
	} else if (!strcmp(key, "mode")) {
		if (octal_mode(v, &mode) < 0)
			return mesh_fail(err, MESH_E_INVALID, "invalid mode specified: %s", v);
		json_object_set_new(f, "Mode", json_integer(mode));
	} else {
		return mesh_fail(err, MESH_E_INVALID, "invalid field in request: %s", key);
	}
	return 0;
}

int spec_file_ref(const char *text, const char *kind, json_t **out, struct mesh_err *err)
{
	JSON_CLEAN f = json_pack("{s:s,s:s,s:s,s:i}", "Name", "", "UID", "0", "GID", "0", "Mode", 0444);
	bool simple = !strchr(text, '=') && !strchr(text, ',');
	int rc =
		simple ? json_object_set_new(f, "source", json_string(text)) : each_field(text, f, file_ref_field, err);

	if (!rc && !*js(f, "source"))
		rc = mesh_fail(err, MESH_E_INVALID, "source is required");
	if (rc < 0)
		return mesh_wrap(err, rc, "invalid argument \"%s\"", text);
	if (!*js(f, "Name"))
		json_object_set(f, "Name", json_object_get(f, "source"));
	char name[32];
	snprintf(name, sizeof(name), "%sName", kind);
	JSON_CLEAN source = json_incref(json_object_get(f, "source"));
	json_object_del(f, "source");
	*out = json_pack("{s:O,s:O}", "File", f, name, source);
	return 0;
}

static int network_field(json_t *n, const char *key, const char *v, const char *field, struct mesh_err *err)
{
	if (!v)
		return mesh_fail(err, MESH_E_INVALID, "invalid field: %s", field);
	if (!strcmp(key, "name")) {
		json_object_set_new(n, "Target", json_string(v));
	} else if (!strcmp(key, "alias")) {
		if (!jo(n, "Aliases"))
			jset(n, "Aliases", json_array());
		json_array_append_new(jo(n, "Aliases"), json_string(v));
	} else if (!strcmp(key, "driver-opt")) {
		if (!strchr(v, '='))
			return mesh_fail(err, MESH_E_INVALID, "invalid key value pair format in driver options");
		add_pair(n, "DriverOpts", v);
	} else {
		return mesh_fail(err, MESH_E_INVALID, "invalid field key %s", key);
	}
	return 0;
}

int spec_network(const char *text, json_t **out, struct mesh_err *err)
{
	json_t *n = json_object();
	int rc = strchr(text, '=') ? each_field(text, n, network_field, err)
	                           : json_object_set_new(n, "Target", json_string(text));

	if (!rc && !*js(n, "Target"))
		rc = mesh_fail(err, MESH_E_INVALID, "network name/id is not specified");
	if (rc < 0) {
		json_decref(n);
		return mesh_wrap(err, rc, "invalid argument \"%s\" for \"--network\" flag", text);
	}
	*out = n;
	return 0;
}

int spec_ulimit(const char *text, json_t **out, struct mesh_err *err)
{
	static const char *const names[] = { "core",     "cpu",        "data",   "fsize", "locks", "memlock",
		                             "msgqueue", "nice",       "nofile", "nproc", "rss",   "rtprio",
		                             "rttime",   "sigpending", "stack",  NULL };
	const char *eq = strchr(text, '=');
	CLEAN_FREE char *name = xstrndup(text, eq ? (size_t)(eq - text) : strlen(text));
	char *end;

	if (!eq)
		return mesh_fail(err, MESH_E_INVALID, "invalid ulimit argument: %s", text);
	if (!one_of(name, names))
		return mesh_fail(err, MESH_E_INVALID, "invalid ulimit type: %s", name);
	long long soft = strtoll(eq + 1, &end, 10), hard = soft;
	if (end == eq + 1 || (*end && *end != ':'))
		return mesh_fail(err, MESH_E_INVALID, "invalid ulimit value in '%s'", text);
	if (*end == ':') {
		const char *from = end + 1;
		hard = strtoll(from, &end, 10);
		if (end == from || *end)
			return mesh_fail(err, MESH_E_INVALID, "invalid ulimit value in '%s'", text);
	}
	if (hard != -1 && (soft > hard || soft == -1))
		return mesh_fail(err, MESH_E_INVALID,
		                 "ulimit soft limit must be less than or equal to hard limit: %lld > %lld", soft, hard);
	*out = json_pack("{s:s,s:I,s:I}", "Name", name, "Hard", (json_int_t)hard, "Soft", (json_int_t)soft);
	return 0;
}

int spec_preference(const char *text, json_t **out, struct mesh_err *err)
{
	const char *eq = strchr(text, '=');

	if (!eq)
		return mesh_fail(err, MESH_E_INVALID,
		                 "placement preference must be of the format \"<strategy>=<arg>\", not '%s'", text);
	if (strncmp(text, "spread=", 7))
		return mesh_fail(err, MESH_E_INVALID,
		                 "unsupported placement preference %.*s (only spread is supported)", (int)(eq - text),
		                 text);
	*out = json_pack("{s:{s:s}}", "Spread", "SpreadDescriptor", eq + 1);
	return 0;
}

int spec_generic_resource(const char *text, json_t **out, struct mesh_err *err)
{
	const char *eq = strchr(text, '=');
	char *end = NULL;
	long long v = eq ? strtoll(eq + 1, &end, 10) : 0;

	if (!eq || eq == text || !eq[1])
		return mesh_fail(err, MESH_E_INVALID, "invalid generic-resource format `%s` expected `name=value`",
		                 text);
	if (*end || v < 0)
		return mesh_fail(
			err, MESH_E_INVALID,
			"invalid generic-resource request `%s`, Named Generic Resources is not supported for service "
			"create or update",
			text);
	*out = json_pack("{s:{s:s%,s:I}}", "DiscreteResourceSpec", "Kind", text, (size_t)(eq - text), "Value",
	                 (json_int_t)v);
	return 0;
}

int spec_host(const char *text, char **out, struct mesh_err *err)
{
	size_t n = strcspn(text, ":=");
	unsigned char address[16];

	if (!text[n] || !n)
		return mesh_fail(err, MESH_E_INVALID, "bad format for add-host: \"%s\"", text);
	const char *ip = text + n + 1;
	CLEAN_FREE char *bare = *ip == '[' && strlen(ip) > 2 ? xstrndup(ip + 1, strlen(ip) - 2) : xstrdup(ip);
	if (strcmp(bare, "host-gateway") && inet_pton(AF_INET, bare, address) != 1 &&
	    inet_pton(AF_INET6, bare, address) != 1)
		return mesh_fail(err, MESH_E_INVALID, "invalid IP address in add-host: \"%s\"", ip);
	*out = xasprintf("%s %.*s", bare, (int)n, text);
	return 0;
}

int spec_credential(const char *text, json_t **out, struct mesh_err *err)
{
	if (!strncmp(text, "config://", 9))
		*out = json_pack("{s:s,s:s,s:s}", "Config", text + 9, "File", "", "Registry", "");
	else if (!strncmp(text, "file://", 7))
		*out = json_pack("{s:s,s:s,s:s}", "Config", "", "File", text + 7, "Registry", "");
	else if (!strncmp(text, "registry://", 11))
		*out = json_pack("{s:s,s:s,s:s}", "Config", "", "File", "", "Registry", text + 11);
	else
		return mesh_fail(err, MESH_E_INVALID,
		                 "invalid credential spec: value must be prefixed with 'config://', 'file://', or "
		                 "'registry://'");
	return 0;
}

json_t *spec_labels(const struct str_list *pairs)
{
	json_t *o = json_object();

	for (size_t i = 0; i < pairs->n; i++)
		add_pair(o, "", pairs->v[i]);
	return o;
}

static void env_put(json_t *list, const char *var)
{
	size_t n = strcspn(var, "="), i;
	json_t *old;

	json_array_foreach(list, i, old)
	{
		const char *s = json_string_value(old);
		if (!strncmp(s, var, n) && (s[n] == '=' || !s[n])) {
			json_array_remove(list, i);
			break;
		}
	}
	json_array_append_new(list, json_string(var));
}

/* A name alone means "as it is here"; keep: a flag's name stays although it has no value here. */
static int env_add(json_t *list, const char *var, bool keep, struct mesh_err *err)
{
	if (!*var || *var == '=' || !json_text_ok(var))
		return mesh_fail(err, MESH_E_INVALID, "invalid environment variable: %s", var);
	if (strchr(var, '=')) {
		env_put(list, var);
		return 0;
	}
	const char *here = getenv(var);
	if (here && !json_text_ok(here))
		return mesh_fail(err, MESH_E_INVALID, "the value of %s here is not UTF-8", var);
	if (here) {
		CLEAN_FREE char *full = xasprintf("%s=%s", var, here);
		env_put(list, full);
	} else if (keep) {
		env_put(list, var);
	}
	return 0;
}

static int env_file(json_t *list, const char *path, struct mesh_err *err)
{
	FILE *f = fopen(path, "re");
	CLEAN_FREE char *line = NULL;
	size_t cap = 0;
	int rc = 0;

	if (!f)
		return mesh_fail(err, -errno, "open %s", path);
	while (!rc && getline(&line, &cap, f) >= 0) {
		line[strcspn(line, "\r\n")] = 0;
		char *p = line + strspn(line, " \t");
		if (!*p || *p == '#')
			continue;
		size_t n = strcspn(p, "=");
		if (strcspn(p, " \t") < n)
			rc = mesh_fail(err, MESH_E_INVALID,
			               "invalid env file (%s): variable '%.*s' contains whitespaces", path, (int)n, p);
		else
			rc = env_add(list, p, false, err);
	}
	fclose(f);
	return rc;
}

int spec_env(const struct str_list *files, const struct str_list *vars, json_t **out, struct mesh_err *err)
{
	json_t *list = json_array();
	int rc = 0;

	for (size_t i = 0; !rc && i < files->n; i++)
		rc = env_file(list, files->v[i], err);
	for (size_t i = 0; !rc && i < vars->n; i++)
		rc = env_add(list, vars->v[i], true, err);
	if (rc < 0) {
		json_decref(list);
		return rc;
	}
	*out = list;
	return 0;
}

char *spec_capability(const char *text)
{
	char *out = !strncasecmp(text, "CAP_", 4) || !strcasecmp(text, "ALL") || !strcasecmp(text, "RESET")
	                    ? xstrdup(text)
	                    : xasprintf("CAP_%s", text);

	for (char *p = out; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	return out;
}
