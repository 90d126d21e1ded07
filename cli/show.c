/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/show.h"
#include "cli/units.h"

char *short_id(const char *id, bool no_trunc)
{
	if (no_trunc)
		return xstrdup(id);
	if (!strncmp(id, "sha256:", 7))
		id += 7;
	return xstrndup(id, strlen(id) > 12 ? 12 : strlen(id));
}

char *age_of(const char *time)
{
	int64_t ns;
	char text[64];

	if (parse_time(time, &ns) < 0)
		return xstrdup("");
	format_human_duration(now_ns() - ns, text, sizeof(text));
	return xstrdup(text);
}

char *ellipsis(const char *text, size_t n)
{
	size_t chars = 0, cut = 0;

	for (const char *p = text; *p; p++) {
		if (((unsigned char)*p & 0xc0) == 0x80)
			continue;
		if (chars++ == n - 1)
			cut = (size_t)(p - text);
	}
	return chars > n ? xasprintf("%.*s\xe2\x80\xa6", (int)cut, text) : xstrdup(text);
}

char *capitalised(const char *text)
{
	char *s = xstrdup(text);

	*s = (char)toupper((unsigned char)*s);
	return s;
}

char *image_shown(const char *image)
{
	const char *at = strchr(image, '@');

	if (!at || at == image)
		return xstrdup(image);
	return xstrndup(image, (size_t)(at - image));
}

struct port_run {
	int64_t from, to, tfrom, tto;
	const char *proto;
	const char *ip;
};

static void put_run(struct buf *b, const struct port_run *r)
{
	buf_printf(b, "%s%s:%lld", b->len ? ", " : "", *r->ip ? r->ip : "*", (long long)r->from);
	if (r->to != r->from)
		buf_printf(b, "-%lld", (long long)r->to);
	buf_printf(b, "->%lld", (long long)r->tfrom);
	if (r->tto != r->tfrom)
		buf_printf(b, "-%lld", (long long)r->tto);
	buf_printf(b, "/%s", r->proto);
}

static int cmp_port(const void *a, const void *b)
{
	const struct port_run *x = a, *y = b;
	int proto = strcmp(x->proto, y->proto);

	if (x->from != y->from)
		return x->from < y->from ? -1 : 1;
	return proto ? proto : (x->tfrom > y->tfrom) - (x->tfrom < y->tfrom);
}

char *ports_shown(const json_t *ports, const char *mode)
{
	size_t n = json_array_size(ports), used = 0;
	struct port_run *runs = xcalloc(n + 1, sizeof(*runs));
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++) {
		const json_t *p = json_array_get(ports, i);
		int64_t pub = ji(p, "PublishedPort"), target = ji(p, "TargetPort");
		if (!pub || (mode && strcmp(js(p, "PublishMode"), mode)))
			continue;
		runs[used++] = (struct port_run){ pub, pub, target, target, js(p, "Protocol"), js(p, "HostIP") };
	}
	qsort(runs, used, sizeof(*runs), cmp_port);
	for (size_t i = 0; i < used; i++) {
		struct port_run r = runs[i];
		while (i + 1 < used && runs[i + 1].from == r.to + 1 && runs[i + 1].tfrom == r.tto + 1 &&
		       !strcmp(runs[i + 1].proto, r.proto) && !strcmp(runs[i + 1].ip, r.ip)) {
			r.to++;
			r.tto++;
			i++;
		}
		put_run(&b, &r);
	}
	free(runs);
	return buf_take_str(&b);
}

/* Runs of digits compare as numbers: web.2 before web.10. */
int natural_cmp(const char *a, const char *b)
{
	while (*a && *b) {
		if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
			while (*a == '0' && isdigit((unsigned char)a[1]))
				a++;
			while (*b == '0' && isdigit((unsigned char)b[1]))
				b++;
			size_t n = strspn(a, "0123456789"), m = strspn(b, "0123456789");
			int d = n != m ? (n < m ? -1 : 1) : strncmp(a, b, n);
			if (d)
				return d;
			a += n;
			b += m;
		} else if (*a != *b) {
			return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
		} else {
			a++;
			b++;
		}
	}
	return *a ? 1 : *b ? -1 : 0;
}

static const char *sort_path;
static int cmp_row(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
	int d = natural_cmp(js(x, sort_path), js(y, sort_path));

	/* Tasks of one name: the newest first. */
	return d ? d : strcmp(js(y, "CreatedAt"), js(x, "CreatedAt"));
}

void sort_rows(json_t *rows, const char *path)
{
	size_t n = json_array_size(rows);
	json_t **v = xcalloc(n + 1, sizeof(*v));

	for (size_t i = 0; i < n; i++)
		v[i] = json_incref(json_array_get(rows, i));
	sort_path = path;
	qsort(v, n, sizeof(*v), cmp_row);
	json_array_clear(rows);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(rows, v[i]);
	free(v);
}

/* ---- the task table ------------------------------------------------------------------------------ */

static const json_t *by_id(const json_t *list, const char *id)
{
	json_t *o;
	size_t i;

	json_array_foreach((json_t *)list, i, o) if (!strcmp(js(o, "ID"), id)) return o;
	return NULL;
}

static char *task_name(const json_t *task, const json_t *services)
{
	const json_t *s = by_id(services, js(task, "ServiceID"));
	const char *name = s ? js(s, "Spec.Name") : js(task, "ServiceID");

	if (ji(task, "Slot"))
		return xasprintf("%s.%lld", name, (long long)ji(task, "Slot"));
	return xasprintf("%s.%s", name, js(task, "NodeID"));
}

static char *node_name(const char *id, const json_t *nodes)
{
	const json_t *n = by_id(nodes, id);
	const char *name = n && *js(n, "Spec.Name") ? js(n, "Spec.Name") : n ? js(n, "Description.Hostname") : "";

	return xstrdup(*name ? name : id);
}

static json_t *task_row(const json_t *t, const json_t *nodes, const char *name, bool child, bool no_trunc)
{
	CLEAN_FREE char *id = short_id(js(t, "ID"), no_trunc);
	CLEAN_FREE char *image =
		no_trunc ? xstrdup(js(t, "Spec.ContainerSpec.Image")) : image_shown(js(t, "Spec.ContainerSpec.Image"));
	CLEAN_FREE char *node = node_name(js(t, "NodeID"), nodes);
	CLEAN_FREE char *desired = capitalised(js(t, "DesiredState"));
	CLEAN_FREE char *state = capitalised(js(t, "Status.State"));
	CLEAN_FREE char *age = age_of(js(t, "Status.Timestamp"));
	CLEAN_FREE char *ports = ports_shown(jo(t, "Status.PortStatus.Ports"), NULL);
	CLEAN_FREE char *why = no_trunc ? xstrdup(js(t, "Status.Err")) : ellipsis(js(t, "Status.Err"), 30);
	CLEAN_FREE char *error = *why ? xasprintf("\"%s\"", why) : xstrdup("");

	for (char *p = age; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	CLEAN_FREE char *current = xasprintf("%s %s ago", state, age);
	CLEAN_FREE char *shown = xasprintf("%s%s", child ? " \\_ " : "", name);
	return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "ID", id, "Name", shown, "Image", image, "Node", node,
	                 "DesiredState", desired, "CurrentState", current, "Error", error, "Ports", ports);
}

static const struct column task_columns[] = {
	{ "ID", "ID" },
	{ "Name", "NAME" },
	{ "Image", "IMAGE" },
	{ "Node", "NODE" },
	{ "DesiredState", "DESIRED STATE" },
	{ "CurrentState", "CURRENT STATE" },
	{ "Error", "ERROR" },
	{ "Ports", "PORTS" },
};
static const struct list_view task_view = {
	task_columns, ARRAY_SIZE(task_columns),
	"table {{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}",
	"ID"
};

int tasks_print(struct cli *c, json_t *tasks, struct mesh_err *err)
{
	JSON_CLEAN rows = json_array();
	JSON_CLEAN nodes = NULL;
	JSON_CLEAN services = NULL;
	bool no_trunc = flag_bool(c, "no-trunc");
	const char *format = flag_str(c, "format");
	json_t *t;
	size_t i;
	int rc = 0;

	if (!flag_bool(c, "no-resolve") && json_array_size(tasks)) {
		rc = api_get(c, &nodes, err, "/nodes");
		if (!rc)
			rc = api_get(c, &services, err, "/services");
	}
	if (rc < 0)
		return rc;
	json_array_foreach(tasks, i, t)
	{
		CLEAN_FREE char *name = task_name(t, services);
		json_object_set_new(t, "_name", json_string(name));
	}
	sort_rows(tasks, "_name");
	const char *before = "";
	json_array_foreach(tasks, i, t)
	{
		const char *name = js(t, "_name");
		/* -q prints whole ids; templates and JSON get no tree. */
		bool child = !strcmp(name, before) && (!*format || !strncmp(format, "table", 5));
		json_array_append_new(rows, task_row(t, nodes, name, child, no_trunc || flag_bool(c, "quiet")));
		before = name;
	}
	return list_print(&task_view, rows, format, flag_bool(c, "quiet"), err);
}

/* ---- arguments ----------------------------------------------------------------------------------- */

int each_arg(struct cli *c, int (*fn)(struct cli *, const char *, struct mesh_err *), struct mesh_err *err)
{
	int status = 0;

	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		int rc = fn(c, c->args[i], &why);
		if (rc >= 0)
			continue;
		/* The last one is left to main, so that a single argument needs no special case. */
		if (i == c->nargs - 1) {
			*err = why;
			return rc;
		}
		fprintf(stderr, "%s\n", mesh_err_text(&why, rc));
		status = 1;
	}
	return status;
}

int remove_each(struct cli *c, const char *path, const char *query, struct mesh_err *err)
{
	int status = 0;

	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		CLEAN_FREE char *arg = url_dup(c->args[i]);
		int rc = api_delete(c, NULL, &why, "%s/%s%s", path, arg, query);
		if (!rc) {
			printf("%s\n", c->args[i]);
			continue;
		}
		fprintf(stderr, "%s\n", why.msg);
		status = 1;
	}
	(void)err;
	return status;
}

int inspect_each(struct cli *c, const char *path, const char *query,
                 int (*pretty)(struct cli *, json_t *, struct mesh_err *), struct mesh_err *err)
{
	JSON_CLEAN found = json_array();
	struct str_list failures = { 0 };
	int rc = 0;
	json_t *o;
	size_t k;

	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		CLEAN_FREE char *arg = url_dup(c->args[i]);
		json_t *one;
		if (api_get(c, &one, &why, "%s/%s%s", path, arg, query) < 0)
			strs_add(&failures, why.msg);
		else
			json_array_append_new(found, one);
	}
	if (pretty) {
		json_array_foreach(found, k, o) if (!rc) rc = pretty(c, o, err);
	} else {
		const char *format = flag_str(c, "format");
		if (!*format || json_array_size(found))
			rc = inspect_print(found, format, err);
	}
	fflush(stdout);
	for (size_t i = 0; i < failures.n; i++)
		fprintf(stderr, "%s\n", failures.v[i]);
	if (!rc && failures.n)
		rc = 1;
	strs_clear(&failures);
	return rc;
}

bool confirm(const char *question)
{
	char answer[16];

	fprintf(stderr, "%s [y/N] ", question);
	return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

int read_input(const char *path, size_t max, struct bytes *out, struct mesh_err *err)
{
	bool input = !strcmp(path, "-");
	CLEAN_CLOSE int own = input ? -1 : open(path, O_RDONLY | O_CLOEXEC);
	struct buf b = { 0 };
	ssize_t n = 0;

	if (!input && own < 0)
		return mesh_fail(err, -errno, "open %s", path);
	do {
		n = read(input ? 0 : own, buf_reserve(&b, 65536), 65536);
		if (n > 0)
			b.len += (size_t)n;
	} while ((n > 0 && b.len <= max) || (n < 0 && errno == EINTR));
	int rc = n < 0         ? mesh_fail(err, -errno, "reading %s", path)
	         : b.len > max ? mesh_fail(err, MESH_E_INVALID, "%s is larger than %zu bytes", path, max)
	                       : 0;
	if (!rc)
		bytes_set(out, b.data, b.len);
	buf_fini(&b);
	return rc;
}

char *base64(const void *p, size_t n, bool url)
{
	const char *abc = url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	                      : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *b = p;
	char *out = xcalloc((n + 2) / 3 * 4 + 1, 1), *at = out;

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v =
			(uint32_t)b[i] << 16 | (i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0) | (i + 2 < n ? b[i + 2] : 0);
		*at++ = abc[v >> 18];
		*at++ = abc[v >> 12 & 63];
		*at++ = i + 1 < n ? abc[v >> 6 & 63] : '=';
		*at++ = i + 2 < n ? abc[v & 63] : '=';
	}
	return out;
}

size_t base64_decode(const char *in, uint8_t *out)
{
	static const char abc[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	uint32_t v = 0;
	size_t n = 0;
	int bits = 0;

	for (; *in && *in != '='; in++) {
		const char *at = strchr(abc, *in == '-' ? '+' : *in == '_' ? '/' : *in);
		if (!at)
			continue;
		v = v << 6 | (uint32_t)(at - abc);
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			out[n++] = (uint8_t)(v >> bits);
		}
	}
	return n;
}

int since_param(const char *text, char *out, size_t cap, struct mesh_err *err)
{
	int64_t ns;
	char *end;
	double seconds = strtod(text, &end);

	if (*text && !*end) {
		snprintf(out, cap, "%s", text);
		return 0;
	}
	(void)seconds;
	if (parse_duration(text, &ns, NULL) == 0) {
		ns = now_ns() - ns;
	} else if (parse_time(text, &ns) < 0) {
		/* A day alone is its midnight. */
		CLEAN_FREE char *day = xasprintf("%sT00:00:00Z", text);
		if (parse_time(day, &ns) < 0)
			return mesh_fail(err, MESH_E_INVALID, "'%s' is neither a time nor a duration", text);
	}
	snprintf(out, cap, "%lld.%09lld", (long long)(ns / NS_PER_S), (long long)(ns % NS_PER_S));
	return 0;
}

int frames_feed(struct frames *f, const uint8_t *p, size_t n, frame_fn fn, void *arg, struct mesh_err *err)
{
	while (n) {
		if (!f->left) {
			f->head[f->have++] = *p++;
			n--;
			if (f->have < 8)
				continue;
			f->have = 0;
			if (f->head[0] > 3 || f->head[1] || f->head[2] || f->head[3])
				return mesh_fail(err, MESH_E_PROTOCOL,
				                 "the daemon's stream is not framed as it should be");
			f->left = (uint32_t)f->head[4] << 24 | (uint32_t)f->head[5] << 16 | (uint32_t)f->head[6] << 8 |
			          f->head[7];
			continue;
		}
		size_t take = n < f->left ? n : f->left;
		fn(arg, f->head[0], p, take);
		f->left -= (uint32_t)take;
		p += take;
		n -= take;
	}
	return 0;
}
