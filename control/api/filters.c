/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/api/filters.h"

#include "base/mem.h"

#define VALUES_MAX 4096

static int take_values(const char *key, const json_t *j, struct filter *f, struct mesh_err *err)
{
	const char *value;
	json_t *item;
	f->key = xstrdup(key);
	if (json_is_object(j) && json_object_size(j) <= VALUES_MAX) {
		json_object_foreach((json_t *)j, value, item)
		{
			if (!json_is_boolean(item))
				return mesh_fail(err, MESH_E_INVALID, "invalid filter '%.64s': expected {value: true}",
				                 key);
			if (json_is_true(item))
				strs_add(&f->values, value);
		}
		return 0;
	}
	if (json_is_array(j) && json_array_size(j) <= VALUES_MAX) {
		for (size_t i = 0; i < json_array_size(j); i++) {
			item = json_array_get(j, i);
			if (json_is_boolean(item))
				strs_add(&f->values, json_is_true(item) ? "true" : "false");
			else if (json_is_string(item))
				strs_add(&f->values, json_string_value(item));
			else
				return mesh_fail(err, MESH_E_INVALID, "invalid filter '%.64s': expected strings", key);
		}
		return 0;
	}
	return mesh_fail(err, MESH_E_INVALID, "invalid filter '%.64s': expected a list of at most %d values", key,
	                 VALUES_MAX);
}

static bool is_allowed(const char *key, const char *const *allowed)
{
	for (; *allowed; allowed++)
		if (strcmp(key, *allowed) == 0)
			return true;
	return false;
}

int filters_parse(const char *text, const char *const *allowed, struct filters *out, struct mesh_err *err)
{
	struct mesh_err e = { 0 };
	json_t *j;
	if (!text || !*text)
		return 0;
	if (md_json_parse(text, strlen(text), &j, &e))
		return mesh_fail(err, MESH_E_INVALID, "invalid filters: %s", e.msg);
	int rc = 0;
	const char *key;
	json_t *item;
	if (!json_is_object(j))
		rc = mesh_fail(err, MESH_E_INVALID, "invalid filters: expected an object");
	json_object_foreach(j, key, item)
	{
		if (!is_allowed(key, allowed)) {
			rc = mesh_fail(err, MESH_E_INVALID, "invalid filter '%.64s'", key);
			break;
		}
		struct filter *f = LIST_ADD(&out->all);
		rc = take_values(key, item, f, err);
		if (rc)
			break;
	}
	json_decref(j);
	return rc;
}

void filters_clear(struct filters *f)
{
	for (size_t i = 0; i < f->all.n; i++) {
		free(f->all.v[i].key);
		strs_clear(&f->all.v[i].values);
	}
	free(f->all.v);
	*f = (struct filters){ 0 };
}

int req_filters(struct req *r, const char *const *allowed, struct filters *out)
{
	struct mesh_err err = { 0 };
	int rc = filters_parse(req_query(r, "filters"), allowed, out, &err);
	if (rc) {
		filters_clear(out);
		req_fail(r, rc, &err);
	}
	return rc;
}

const struct str_list *filters_get(const struct filters *f, const char *key)
{
	for (size_t i = 0; i < f->all.n; i++)
		if (strcmp(f->all.v[i].key, key) == 0 && f->all.v[i].values.n)
			return &f->all.v[i].values;
	return NULL;
}

bool filters_exact(const struct filters *f, const char *key, const char *value)
{
	const struct str_list *l = filters_get(f, key);
	return !l || strs_has(l, value ? value : "");
}

bool filters_prefix(const struct filters *f, const char *key, const char *value)
{
	const struct str_list *l = filters_get(f, key);
	if (!l)
		return true;
	for (size_t i = 0; value && i < l->n; i++)
		if (strncmp(value, l->v[i], strlen(l->v[i])) == 0)
			return true;
	return false;
}

bool filters_contains(const struct filters *f, const char *key, const char *value)
{
	const struct str_list *l = filters_get(f, key);
	if (!l)
		return true;
	for (size_t i = 0; value && i < l->n; i++)
		if (strstr(value, l->v[i]))
			return true;
	return false;
}

static bool has_label(const struct str_map *labels, const char *want)
{
	const char *eq = strchr(want, '=');
	size_t n = eq ? (size_t)(eq - want) : strlen(want);
	for (size_t i = 0; i < labels->n; i++)
		if (strncmp(labels->v[i].key, want, n) == 0 && !labels->v[i].key[n])
			return !eq || streq(labels->v[i].value, eq + 1);
	return false;
}

bool filters_labels(const struct filters *f, const char *key, const struct str_map *labels)
{
	const struct str_list *l = filters_get(f, key);
	for (size_t i = 0; l && i < l->n; i++)
		if (!has_label(labels, l->v[i]))
			return false;
	return true;
}

bool filters_bool(const struct filters *f, const char *key, bool def)
{
	const struct str_list *l = filters_get(f, key);
	if (!l)
		return def;
	return strcasecmp(l->v[0], "true") == 0 || streq(l->v[0], "1");
}
