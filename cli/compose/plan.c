/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The canonical form -> what to ask a daemon for, in the order to ask it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/api.h"
#include "cli/compose/schema.h"

#define FILE_MAX (1u << 20)

static void set_bool(json_t *body, const char *field, const struct cv *v, bool when)
{
	if (cv_is(v, CV_BOOL) && !!v->i == when)
		json_object_set_new(body, field, json_boolean(when));
}

static json_t *ipam_of(const struct cv *v)
{
	static const char *const fields[][2] = { { "subnet", "Subnet" },
		                                 { "gateway", "Gateway" },
		                                 { "ip_range", "IPRange" } };
	const struct cv *config = cv_get(v, "config");
	json_t *out = json_object(), *list = json_array();

	if (*cv_at(v, "driver"))
		json_object_set_new(out, "Driver", json_string(cv_at(v, "driver")));
	if (cv_get(v, "options") && cv_get(v, "options")->n)
		json_object_set_new(out, "Options", json_dict(cv_get(v, "options")));
	CV_EACH(config, it)
	{
		json_t *one = json_object();
		for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
			if (*cv_at(it->v, fields[i][0]))
				json_object_set_new(one, fields[i][1], json_string(cv_at(it->v, fields[i][0])));
		if (cv_get(it->v, "aux_addresses"))
			json_object_set_new(one, "AuxiliaryAddresses", json_dict(cv_get(it->v, "aux_addresses")));
		json_array_append_new(list, one);
	}
	if (json_array_size(list))
		json_object_set(out, "Config", list);
	json_decref(list);
	return out;
}

static json_t *network_body(struct plan *p, const char *key, const struct cv *v)
{
	json_t *body = json_pack("{s:s,s:s,s:o}", "Name", plan_name(p, "networks", key), "Driver",
	                         *cv_at(v, "driver") ? cv_at(v, "driver") : "overlay", "Labels",
	                         plan_labels(p, cv_get(v, "labels")));

	if (cv_get(v, "driver_opts") && cv_get(v, "driver_opts")->n)
		json_object_set_new(body, "Options", json_dict(cv_get(v, "driver_opts")));
	set_bool(body, "Internal", cv_get(v, "internal"), true);
	set_bool(body, "Attachable", cv_get(v, "attachable"), true);
	set_bool(body, "EnableIPv6", cv_get(v, "enable_ipv6"), true);
	set_bool(body, "EnableIPv4", cv_get(v, "enable_ipv4"), false);
	if (cv_is(cv_get(v, "ipam"), CV_MAP) && cv_get(v, "ipam")->n)
		json_object_set_new(body, "IPAM", ipam_of(cv_get(v, "ipam")));
	return body;
}

static void network_add(struct plan *p, json_t *list, const char *key)
{
	const struct cv *v = cv_get(cv_get(p->c->root, "networks"), key);
	bool external = cv_true(cv_get(v, "external"));
	json_t *one =
		json_pack("{s:s,s:s,s:b}", "key", key, "name", plan_name(p, "networks", key), "external", external);

	if (!external)
		json_object_set_new(one, "body", network_body(p, key, v));
	json_array_append_new(list, one);
}

/* Only networks that a service uses, in the order they are first named. */
static json_t *plan_networks(struct plan *p)
{
	const struct cv *services = cv_get(p->c->root, "services");
	struct map seen = { 0 };
	json_t *list = json_array();

	CV_EACH(services, s)
	{
		const struct cv *nets = cv_get(s->v, "networks");
		if (!cv_is(nets, CV_MAP) || !nets->n) {
			if (!map_put(&seen, "default", p))
				network_add(p, list, "default");
			continue;
		}
		CV_EACH(nets, n)
		if (!map_put(&seen, n->key, p))
			network_add(p, list, n->key);
	}
	map_fini(&seen);
	return list;
}

static char *encoded(const struct buf *data)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = xcalloc(data->len / 3 + 1, 4 + 1), *out = text;

	for (size_t i = 0; i < data->len; i += 3) {
		size_t n = data->len - i < 3 ? data->len - i : 3;
		uint32_t v = (uint32_t)data->data[i] << 16 | (n > 1 ? (uint32_t)data->data[i + 1] << 8 : 0) |
		             (n > 2 ? data->data[i + 2] : 0u);
		for (size_t k = 0; k < 4; k++)
			*out++ = k > n ? '=' : digits[v >> (18 - 6 * k) & 63];
	}
	return text;
}

static int contents(struct plan *p, const char *kind, const char *key, const struct cv *v, struct buf *data,
                    struct mesh_err *err)
{
	const struct compose_opts *o = p->c->opts;
	const char *file = cv_at(v, "file"), *variable = cv_at(v, "environment"), *value;
	const struct cv *content = cv_get(v, "content");
	int sources = !!*file + !!*variable + !!content;

	if (sources != 1)
		return cv_fail(v ? v : p->c->root, err, "%s %.80s: %s", kind, key,
		               sources ? "only one of file, environment and content can be given"
		                       : "one of file, environment, content and external must be given");
	if (content) {
		buf_puts(data, cv_text(content));
		return 0;
	}
	if (*variable) {
		value = o->env.get(o->env.arg, variable);
		if (!value)
			return cv_fail(v, err, "%s %.80s: the environment variable \"%.80s\" is not set", kind, key,
			               variable);
		buf_puts(data, value);
		return 0;
	}
	struct mesh_err why = { 0 };
	int rc = o->read(o->arg, file, FILE_MAX, data, &why);
	return rc < 0 ? cv_fail(v, err, "%s %.80s: %s", kind, key, why.msg) : 0;
}

static int object_body(struct plan *p, const char *kind, const char *key, const struct cv *v, const char *name,
                       json_t **out, struct mesh_err *err)
{
	struct buf data = { 0 };
	json_t *body = json_pack("{s:s,s:o}", "Name", name, "Labels", plan_labels(p, cv_get(v, "labels")));
	int rc = 0;

	*out = body;
	if (*cv_at(v, "template_driver"))
		jset(body, "Templating.Name", json_string(cv_at(v, "template_driver")));
	if (*cv_at(v, "driver")) {
		jset(body, "Driver.Name", json_string(cv_at(v, "driver")));
		if (cv_get(v, "driver_opts"))
			jset(body, "Driver.Options", json_dict(cv_get(v, "driver_opts")));
		return 0;
	}
	rc = contents(p, kind, key, v, &data, err);
	if (!rc) {
		CLEAN_FREE char *text = encoded(&data);
		json_object_set_new(body, "Data", json_string(text));
		mesh_wipe(text, strlen(text));
	}
	if (data.data)
		mesh_wipe(data.data, data.len);
	buf_fini(&data);
	return rc;
}

static int plan_objects(struct plan *p, const char *section, const char *kind, json_t **out, struct mesh_err *err)
{
	int rc = 0;

	*out = json_array();
	CV_EACH(cv_get(p->c->root, section), it)
	{
		const char *name = plan_name(p, section, it->key);
		bool external = cv_true(cv_get(it->v, "external"));
		json_t *body = NULL, *one;
		if (!strncmp(it->key, "x-", 2))
			continue;
		one = json_pack("{s:s,s:s,s:b}", "key", it->key, "name", name, "external", external);
		json_array_append_new(*out, one);
		if (!external)
			rc = object_body(p, kind, it->key, it->v, name, &body, err);
		if (body)
			json_object_set_new(one, "body", body);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- services, those that others wait for first -------------------------------------------------- */

enum mark { NEW, OPEN, DONE };
struct order {
	struct plan *p;
	const struct cv *services;
	uint8_t *marks;
	struct map index; /* name -> number + 1 */
	json_t *out;
	struct mesh_err *err;
	struct str_list trail;
	unsigned depth;
};

static int visit(struct order *o, uint32_t at);

static int cycle(struct order *o, const struct cv *v, const char *name)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < o->trail.n && b.len < 300; i++)
		buf_printf(&b, "%s -> ", o->trail.v[i]);
	int rc = cv_fail(v, o->err, "depends_on goes in a circle: %s%.80s", buf_str(&b), name);
	buf_fini(&b);
	return rc;
}

static int visit_needed(struct order *o, const char *name, const struct cv *s, json_t *after)
{
	int rc = 0;

	CV_EACH(cv_get(s, "depends_on"), it)
	{
		size_t at = (size_t)map_get(&o->index, it->key);
		const struct cv *required = cv_get(it->v, "required");
		bool must = !cv_is(required, CV_BOOL) || required->i;
		if (!at && must)
			return cv_fail(it->v, o->err, "service %.80s depends on undefined service %.80s", name,
			               it->key);
		if (!at)
			continue;
		if (o->marks[at - 1] == OPEN)
			return cycle(o, it->v, it->key);
		rc = visit(o, (uint32_t)at - 1);
		if (rc < 0)
			return rc;
		const char *condition = cv_at(it->v, "condition");
		json_array_append_new(after, json_pack("{s:s,s:s,s:b}", "service", it->key, "condition",
		                                       *condition ? condition : "service_started", "required", must));
	}
	return 0;
}

static int visit(struct order *o, uint32_t at)
{
	const char *name = o->services->items[at].key;
	const struct cv *s = o->services->items[at].v;
	json_t *body = NULL;

	if (o->marks[at] == DONE)
		return 0;
	if (o->depth > 200)
		return cv_fail(s, o->err, "depends_on is more than 200 services deep");
	o->marks[at] = OPEN;
	o->depth++;
	strs_add(&o->trail, name);
	JSON_CLEAN after = json_array();
	int rc = visit_needed(o, name, s, after);
	free(o->trail.v[--o->trail.n]);
	o->depth--;
	o->marks[at] = DONE;
	if (rc < 0)
		return rc;
	if (!*cv_at(s, "image"))
		return cv_fail(s, o->err, "service %.80s: an image is required: the cluster does not build", name);
	rc = service_body(o->p, name, s, &body, o->err);
	if (body)
		json_array_append_new(o->out, json_pack("{s:s,s:o,s:O}", "key", name, "body", body, "after", after));
	return rc;
}

static int plan_services(struct plan *p, json_t **out, struct mesh_err *err)
{
	struct order o = { .p = p, .services = cv_get(p->c->root, "services"), .out = json_array(), .err = err };
	uint32_t n = o.services ? o.services->n : 0;
	int rc = 0;

	*out = o.out;
	o.marks = xcalloc(n + 1, 1);
	for (uint32_t i = 0; i < n; i++)
		if (strncmp(o.services->items[i].key, "x-", 2))
			map_put(&o.index, o.services->items[i].key, (void *)(size_t)(i + 1));
		else
			o.marks[i] = DONE;
	for (uint32_t i = 0; i < n && !rc; i++)
		rc = visit(&o, i);
	free(o.marks);
	map_fini(&o.index);
	strs_clear(&o.trail);
	return rc;
}

/* Where each part of the plan stands: {"services.web":"stack.yml:12"} */
static json_t *places(const struct compose *c)
{
	static const char *const sections[] = { "networks", "secrets", "configs", "services" };
	json_t *out = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		CV_EACH(cv_get(c->root, sections[i]), it)
		{
			CLEAN_FREE char *key = xasprintf("%s.%s", sections[i], it->key);
			CLEAN_FREE char *place = xasprintf("%s:%d", it->v->file ? it->v->file : "", it->v->line);
			json_object_set_new(out, key, json_string(place));
		}
	return out;
}

int compose_plan(struct compose *c, const char *stack, json_t **out, struct mesh_err *err)
{
	struct plan p = { c, stack };
	json_t *secrets = NULL, *configs = NULL, *services = NULL;
	int rc = plan_objects(&p, "secrets", "secret", &secrets, err);

	*out = json_object();
	json_object_set_new(*out, "places", places(c));
	json_object_set_new(*out, "networks", plan_networks(&p));
	if (!rc)
		rc = plan_objects(&p, "configs", "config", &configs, err);
	if (!rc)
		rc = plan_services(&p, &services, err);
	json_object_set_new(*out, "secrets", secrets);
	json_object_set_new(*out, "configs", configs ? configs : json_array());
	json_object_set_new(*out, "services", services ? services : json_array());
	return rc;
}
