/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Short forms -> the long one. What is neither is left as it is: the shape check that follows says so. */
#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/compose/schema.h"
#include "cli/spec.h"

#define MAX_RANGE 1024 /* ports of one entry */
#define MAX_PORTS 4096 /* of one service */

int norm_command(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	struct mesh_err why = { 0 };
	json_t *words = NULL, *w;
	size_t i;

	if ((*v)->kind == CV_NULL)
		*v = cv_new(ck->a, CV_LIST, *v);
	if ((*v)->kind != CV_STR || cv_unresolved(ck, *v))
		return 0;
	int rc = shell_split((*v)->s, &words, &why);
	if (rc < 0)
		return cv_fail(*v, err, "%.250s: %s", cv_path_str(ck->a, at), why.msg);
	struct cv *list = cv_new(ck->a, CV_LIST, *v);
	json_array_foreach(words, i, w)
	{
		cv_add(ck->a, list, cv_str(ck->a, json_string_value(w), *v));
	}
	json_decref(words);
	*v = list;
	return 0;
}

int norm_health_test(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	(void)at;
	(void)err;
	if ((*v)->kind != CV_STR || cv_unresolved(ck, *v))
		return 0;
	struct cv *list = cv_new(ck->a, CV_LIST, *v);
	cv_add(ck->a, list, cv_str(ck->a, "CMD-SHELL", *v));
	cv_add(ck->a, list, *v);
	*v = list;
	return 0;
}

static struct cv *named(struct check *ck, struct cv *list, struct cv *(*value)(struct check *, const struct cv *))
{
	struct cv *map = cv_new(ck->a, CV_MAP, list);

	map->flags = list->flags;
	CV_EACH(list, it)
	cv_set(ck->a, map, it->v->s, value(ck, it->v));
	return map;
}

static bool all_texts(const struct cv *list)
{
	bool ok = list->kind == CV_LIST && list->n <= COMPOSE_MAX_KEYS;

	for (uint32_t i = 0; ok && i < list->n; i++)
		ok = list->items[i].v->kind == CV_STR;
	return ok;
}

static struct cv *started(struct check *ck, const struct cv *at)
{
	struct cv *m = cv_new(ck->a, CV_MAP, at);

	cv_set(ck->a, m, "condition", cv_str(ck->a, "service_started", at));
	return m;
}

int norm_depends_on(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	(void)at;
	(void)err;
	if (all_texts(*v))
		*v = named(ck, *v, started);
	return 0;
}

static struct cv *nothing(struct check *ck, const struct cv *at)
{
	return cv_new(ck->a, CV_NULL, at);
}

int norm_networks(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	(void)at;
	(void)err;
	if (all_texts(*v))
		*v = named(ck, *v, nothing);
	return 0;
}

int norm_env_file(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	static const struct key entry[] = {
		{ "path", SH_STR }, { "required", SH_BOOL }, { "format", SH_STR, .words = "raw" }, { NULL }
	};
	struct cv *list = *v;
	uint32_t i = 0;

	if (list->kind == CV_STR) {
		list = cv_new(ck->a, CV_LIST, *v);
		cv_add(ck->a, list, *v);
	}
	if (list->kind != CV_LIST)
		return must_be(ck, list, at, "string or list", err);
	CV_EACH(list, it)
	{
		struct cv_path here = { at, NULL, i++ };
		if (it->v->kind == CV_STR) {
			struct cv *m = cv_new(ck->a, CV_MAP, it->v);
			cv_set(ck->a, m, "path", it->v);
			it->v = m;
		}
		if (it->v->kind != CV_MAP || !cv_is(cv_get(it->v, "path"), CV_STR))
			return must_be(ck, it->v, &here, "string", err);
		CV_EACH(it->v, member)
		{
			struct cv_path inner = { &here, member->key, 0 };
			if (!key_find(entry, member->key))
				return cv_fail(member->v, err, "%.250s Additional property %.80s is not allowed",
				               cv_path_str(ck->a, &here), member->key);
			if (!strcmp(member->key, "required") && member->v->kind != CV_BOOL)
				return must_be(ck, member->v, &inner, "boolean", err);
		}
	}
	*v = list;
	return 0;
}

/* true, false, or the old {name: x}; what it names is moved beside it once all is checked. */
int norm_external(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	struct cv *e = *v;

	if (e->kind == CV_BOOL || cv_unresolved(ck, e))
		return 0;
	if (e->kind == CV_STR && (!strcmp(e->s, "true") || !strcmp(e->s, "false"))) {
		*v = cv_bool(ck->a, e->s[0] == 't', e);
		return 0;
	}
	if (e->kind != CV_MAP)
		return must_be(ck, e, at, "boolean or mapping", err);
	CV_EACH(e, it)
	{
		struct cv_path here = { at, it->key, 0 };
		if (strcmp(it->key, "name"))
			return cv_fail(it->v, err, "%.250s Additional property %.80s is not allowed",
			               cv_path_str(ck->a, at), it->key);
		if (it->v->kind != CV_STR)
			return must_be(ck, it->v, &here, "string", err);
	}
	return 0;
}

int norm_extra_hosts(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	struct cv *list = cv_new(ck->a, CV_LIST, *v);

	list->flags = (*v)->flags;
	if ((*v)->kind == CV_MAP) {
		CV_EACH(*v, it)
		{
			struct cv_path here = { at, it->key, 0 };
			if (it->v->kind != CV_STR)
				return must_be(ck, it->v, &here, "string", err);
			cv_add(ck->a, list, cv_str(ck->a, arena_printf(ck->a, "%s:%s", it->key, it->v->s), it->v));
		}
		*v = list;
	} else if (all_texts(*v)) {
		CV_EACH(*v, it)
		{
			char *s = arena_str(ck->a, it->v->s, strlen(it->v->s));
			char *sep = strpbrk(s, ":=");
			if (!sep && !cv_unresolved(ck, it->v))
				return cv_fail(it->v, err, "%.250s: bad format for add-host: \"%.100s\"",
				               cv_path_str(ck->a, at), s);
			if (sep)
				*sep = ':';
			it->v->s = s;
		}
	}
	return 0;
}

int norm_ulimits(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	(void)at;
	(void)err;
	if ((*v)->kind != CV_MAP)
		return 0;
	CV_EACH(*v, it)
	if (it->v->kind == CV_INT || it->v->kind == CV_STR) {
		struct cv *m = cv_new(ck->a, CV_MAP, it->v);
		cv_set(ck->a, m, "single", it->v);
		it->v = m;
	}
	return 0;
}

int norm_refs(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	(void)at;
	(void)err;
	if ((*v)->kind != CV_LIST)
		return 0;
	CV_EACH(*v, it)
	if (it->v->kind == CV_STR) {
		struct cv *m = cv_new(ck->a, CV_MAP, it->v);
		cv_set(ck->a, m, "source", it->v);
		it->v = m;
	}
	return 0;
}

/* ---- ports: [ip:][published[-last]:]target[-last][/protocol] ------------------------------------- */

struct range {
	long first, last;
};

static bool short_range(const char *p, size_t n, struct range *r)
{
	char text[16], *end;

	if (!n || n >= sizeof(text) || !isdigit((unsigned char)*p))
		return false;
	memcpy(text, p, n);
	text[n] = 0;
	r->first = r->last = strtol(text, &end, 10);
	if (*end == '-' && isdigit((unsigned char)end[1]))
		r->last = strtol(end + 1, &end, 10);
	return !*end && r->first >= 0 && r->last <= 65535 && r->first <= r->last;
}

static void port_add(struct check *ck, struct cv *list, const struct cv *at, long target, long published,
                     const char *protocol, const char *ip)
{
	struct cv *p = cv_new(ck->a, CV_MAP, at);

	cv_set(ck->a, p, "mode", cv_str(ck->a, "ingress", at));
	cv_set(ck->a, p, "target", cv_int(ck->a, target, at));
	if (published)
		cv_set(ck->a, p, "published", cv_int(ck->a, published, at));
	cv_set(ck->a, p, "protocol", cv_str(ck->a, protocol, at));
	if (*ip)
		cv_set(ck->a, p, "host_ip", cv_str(ck->a, ip, at));
	cv_add(ck->a, list, p);
}

static bool port_short(struct check *ck, struct cv *list, const struct cv *v)
{
	char *text = arena_str(ck->a, v->s, strlen(v->s)), *slash = strrchr(text, '/');
	char tcp[] = "tcp", *protocol = tcp;
	struct range target, published = { 0, 0 };

	if (slash) {
		*slash = 0;
		protocol = slash + 1;
		for (char *p = protocol; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		if (strcmp(protocol, "tcp") && strcmp(protocol, "udp") && strcmp(protocol, "sctp"))
			return false;
	}
	char *last = strrchr(text, ':');
	if (!short_range(last ? last + 1 : text, strlen(last ? last + 1 : text), &target) || !target.first)
		return false;
	const char *ip = "";
	if (last) {
		*last = 0;
		char *colon = strrchr(text, ':');
		const char *middle = colon ? colon + 1 : text;
		if (colon) {
			*colon = 0;
			ip = text;
		}
		if (*middle && !short_range(middle, strlen(middle), &published))
			return false;
		if (!*middle && !*ip)
			return false;
	}
	long n = target.last - target.first, m = published.last - published.first;
	if ((published.first && n && n != m) || n >= MAX_RANGE || m >= MAX_RANGE)
		return false;
	for (long i = 0; i <= (n > m ? n : m); i++)
		port_add(ck, list, v, target.first + (n ? i : 0), published.first ? published.first + i : 0, protocol,
		         ip);
	return true;
}

static void port_defaults(struct check *ck, struct cv *v)
{
	struct cv *p = cv_new(ck->a, CV_MAP, v);

	cv_set(ck->a, p, "mode", cv_str(ck->a, "ingress", v));
	CV_EACH(v, it)
	cv_set(ck->a, p, it->key, it->v);
	if (!cv_get(p, "protocol"))
		cv_set(ck->a, p, "protocol", cv_str(ck->a, "tcp", v));
	*v = *p;
}

int norm_ports(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	struct cv *list = cv_new(ck->a, CV_LIST, *v);
	uint32_t i = 0;

	if ((*v)->kind != CV_LIST)
		return 0;
	list->flags = (*v)->flags;
	CV_EACH(*v, it)
	{
		struct cv_path here = { at, NULL, i++ };
		struct cv *p = it->v;
		if (p->kind == CV_MAP && !cv_get(p, "target"))
			return cv_fail(p, err, "%.250s target is required", cv_path_str(ck->a, &here));
		if (p->kind == CV_MAP)
			port_defaults(ck, p);
		if (p->kind == CV_MAP || cv_unresolved(ck, p))
			cv_add(ck->a, list, p);
		else if (p->kind == CV_FLOAT || p->kind >= CV_LIST || p->kind < CV_INT)
			return must_be(ck, p, &here, "string, number or mapping", err);
		else if (!port_short(ck, list, p))
			return cv_fail(p, err, "%.250s Does not match format 'ports'", cv_path_str(ck->a, &here));
		if (list->n > MAX_PORTS)
			return cv_fail(p, err, "%.250s: more than %u ports", cv_path_str(ck->a, at), MAX_PORTS);
	}
	*v = list;
	return 0;
}

/* ---- volumes: [source:]target[:options] ---------------------------------------------------------- */

static struct cv *member(struct check *ck, struct cv *m, const char *name)
{
	struct cv *sub = cv_get(m, name);

	if (!sub) {
		sub = cv_new(ck->a, CV_MAP, m);
		cv_set(ck->a, m, name, sub);
	}
	return sub;
}

static void volume_option(struct check *ck, struct cv *m, const char *opt, size_t n)
{
	static const char *const propagations[] = { "rprivate", "private", "rshared", "shared", "rslave", "slave" };
	static const char *const consistencies[] = { "cached", "consistent", "delegated" };
	const char *o = arena_str(ck->a, opt, n);

	if (!strcmp(o, "ro"))
		cv_set(ck->a, m, "read_only", cv_bool(ck->a, true, m));
	else if (!strcmp(o, "nocopy"))
		cv_set(ck->a, member(ck, m, "volume"), "nocopy", cv_bool(ck->a, true, m));
	for (size_t i = 0; i < ARRAY_SIZE(propagations); i++)
		if (!strcmp(o, propagations[i]))
			cv_set(ck->a, member(ck, m, "bind"), "propagation", cv_str(ck->a, o, m));
	for (size_t i = 0; i < ARRAY_SIZE(consistencies); i++)
		if (!strcmp(o, consistencies[i]))
			cv_set(ck->a, m, "consistency", cv_str(ck->a, o, m));
}

/* Relative paths start where the first stack file is. */
static const char *host_path(struct check *ck, const char *s)
{
	const struct compose_opts *o = ck->c->opts;

	if (s[0] == '~' && (!s[1] || s[1] == '/'))
		return arena_printf(ck->a, "%s%s", o->home ? o->home : "/root", s + 1);
	if (s[0] != '.')
		return s;
	if (!strncmp(s, "./", 2))
		s += 2;
	char *p = arena_printf(ck->a, "%s/%s", o->workdir ? o->workdir : "", strcmp(s, ".") ? s : "");
	/* "." and ".." inside, by text as Go's filepath.Join */
	char *out = p, *seg = p;
	while (*seg) {
		seg += *seg == '/';
		size_t n = strcspn(seg, "/");
		if (n == 2 && !strncmp(seg, "..", 2)) {
			while (out > p && *--out != '/')
				;
		} else if (n && !(n == 1 && *seg == '.')) {
			*out++ = '/';
			memmove(out, seg, n);
			out += n;
		}
		seg += n;
	}
	*out = 0;
	return *p ? p : "/";
}

static int volume_short(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	const char *spec = (*v)->s, *part[3] = { NULL };
	size_t len[3] = { 0 }, n = 0;

	for (const char *p = spec;; p += strcspn(p, ":") + 1) {
		if (n == 3)
			return cv_fail(*v, err, "%.250s: invalid spec: %.100s: too many colons", cv_path_str(ck->a, at),
			               spec);
		part[n] = p;
		len[n] = strcspn(p, ":");
		if (!len[n++])
			return cv_fail(*v, err, "%.250s: invalid %s: %.100s", cv_path_str(ck->a, at),
			               *spec ? "spec (empty section between colons)" : "empty volume spec", spec);
		if (!p[strcspn(p, ":")])
			break;
	}
	struct cv *m = cv_new(ck->a, CV_MAP, *v);
	const char *source = n > 1 ? arena_str(ck->a, part[0], len[0]) : NULL;
	const char *target = arena_str(ck->a, part[n > 1], len[n > 1]);
	bool bind = source && strchr("/.~", *source);
	cv_set(ck->a, m, "type", cv_str(ck->a, bind ? "bind" : "volume", *v));
	if (source)
		cv_set(ck->a, m, "source", cv_str(ck->a, source, *v));
	cv_set(ck->a, m, "target", cv_str(ck->a, target, *v));
	for (const char *o = n > 2 ? part[2] : ""; *o; o += strcspn(o, ",") + (o[strcspn(o, ",")] == ','))
		volume_option(ck, m, o, strcspn(o, ","));
	*v = m;
	return 0;
}

int norm_volumes(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err)
{
	uint32_t i = 0;

	if ((*v)->kind != CV_LIST)
		return 0;
	CV_EACH(*v, it)
	{
		struct cv_path here = { at, NULL, i++ };
		if (cv_unresolved(ck, it->v))
			continue;
		if (it->v->kind == CV_STR) {
			int rc = volume_short(ck, &it->v, &here, err);
			if (rc < 0)
				return rc;
		}
		if (it->v->kind == CV_MAP && !cv_get(it->v, "type"))
			return cv_fail(it->v, err, "%.250s type is required", cv_path_str(ck->a, &here));
		struct cv *source = cv_get(it->v, "source");
		if (cv_is(source, CV_STR) && !strcmp(cv_at(it->v, "type"), "bind"))
			source->s = host_path(ck, source->s);
	}
	return 0;
}
