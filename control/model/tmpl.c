/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/model/tmpl.h"

#include <ctype.h>
#include <string.h>

#include "base/gotmpl.h"
#include "base/mem.h"

/* Steals value; any_case: found in lower case too. */
static void set(const struct tmpl_vars *v, json_t *o, const char *key, json_t *value)
{
	char lower[32];
	size_t n = 0;
	for (; n < sizeof(lower) - 1 && key[n]; n++)
		lower[n] = (char)tolower((unsigned char)key[n]);
	lower[n] = 0;
	if (v->any_case)
		json_object_set_nocheck(o, lower, value);
	json_object_set_new_nocheck(o, key, value);
}

static void put(const struct tmpl_vars *v, json_t *o, const char *key, const char *value)
{
	set(v, o, key, json_string_nocheck(value ? value : ""));
}

static json_t *service_of(const struct tmpl_vars *v)
{
	json_t *o = json_object(), *labels = json_object();
	put(v, o, "ID", v->service_id);
	put(v, o, "Name", v->service_name);
	for (size_t i = 0; v->service_labels && i < v->service_labels->n; i++)
		json_object_set_new_nocheck(labels, v->service_labels->v[i].key,
		                            json_string_nocheck(v->service_labels->v[i].value));
	set(v, o, "Labels", labels);
	return o;
}

static json_t *node_of(const struct tmpl_vars *v)
{
	json_t *o = json_object(), *platform = json_object();
	put(v, o, "ID", v->node_id);
	put(v, o, "Hostname", v->node_hostname);
	put(v, platform, "OS", v->node_os);
	put(v, platform, "Architecture", v->node_arch);
	set(v, o, "Platform", platform);
	return o;
}

static json_t *task_of(const struct tmpl_vars *v)
{
	json_t *o = json_object();
	put(v, o, "ID", v->task_id);
	put(v, o, "Name", v->task_name);
	put(v, o, "Slot", v->task_slot);
	return o;
}

static const struct gotmpl_function functions[] = {
	{ "join", 1, 16, false },
	{ "env", 1, 1, false }, /* from here on in secrets and configs only */
	{ "secret", 1, 1, false },
	{ "config", 1, 1, false },
};

static json_t *join(json_t **v, size_t n)
{
	struct buf b = { 0 };
	for (size_t i = 1; i < n; i++) {
		if (i > 1)
			gotmpl_print(&b, v[0], 0);
		gotmpl_print(&b, v[i], 0);
	}
	return gotmpl_take(&b);
}

static json_t *call(void *arg, const char *name, json_t **v, size_t n, struct mesh_err *err)
{
	const struct tmpl_sources *s = arg;
	struct bytes found = { 0 };
	if (!strcmp(name, "join"))
		return join(v, n);
	if (!json_is_string(v[0])) {
		(void)mesh_fail(err, MESH_E_INVALID, "template: %s wants the name as text", name);
		return NULL;
	}
	const char *wanted = json_string_value(v[0]);
	enum tmpl_what what = name[0] == 'e' ? TMPL_ENV : name[0] == 's' ? TMPL_SECRET : TMPL_CONFIG;
	if (!s->find(s->arg, what, wanted, &found) && what != TMPL_ENV) {
		(void)mesh_fail(err, MESH_E_INVALID, "template: error calling %s: %s target %s not found", name, name,
		                wanted);
		return NULL;
	}
	return json_stringn_nocheck(found.p ? (const char *)found.p : "", found.n);
}

/* *text: to be run, NULL when there is nothing to fill in. */
static int text_of(const void *in, size_t n, char **text, struct mesh_err *err)
{
	*text = NULL;
	if (!n || !memmem(in, n, "{{", 2))
		return 0;
	if (memchr(in, 0, n))
		return mesh_fail(err, MESH_E_INVALID, "template: holds a NUL byte: not a text");
	*text = xstrndup(in, n);
	return 0;
}

int tmpl_check(const char *driver, const struct bytes *data, struct mesh_err *err)
{
	CLEAN_FREE char *text = NULL;
	if (!driver || !*driver)
		return 0;
	if (strcmp(driver, "golang"))
		return mesh_fail(err, MESH_E_UNSUPPORTED,
		                 "unsupported template driver %.60s: golang is the one there is", driver);
	int rc = text_of(data->p, data->n, &text, err);
	return rc || !text ? rc : gotmpl_check(text, err);
}

int tmpl_expand(const struct tmpl_vars *v, const struct tmpl_sources *sources, const void *in, size_t n,
                struct buf *out, struct mesh_err *err)
{
	CLEAN_FREE char *text = NULL;
	int rc = text_of(in, n, &text, err);
	if (rc || !text) {
		buf_put(out, in, rc ? 0 : n);
		return rc;
	}
	JSON_CLEAN vars = json_object();
	set(v, vars, "Service", service_of(v));
	if (v->node_id)
		set(v, vars, "Node", node_of(v));
	if (v->task_id)
		set(v, vars, "Task", task_of(v));
	const struct gotmpl_functions more = { functions, sources ? ARRAY_SIZE(functions) : 1, call, (void *)sources };
	return gotmpl_run(text, vars, true, &more, out, err);
}

int tmpl_expand_str(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err)
{
	struct buf b = { 0 };
	int rc = tmpl_expand(v, NULL, in ? in : "", in ? strlen(in) : 0, &b, err);
	if (rc)
		buf_fini(&b);
	else
		*out = buf_take_str(&b);
	return rc;
}

int tmpl_expand_env(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err)
{
	const char *value = strchr(in, '=');
	CLEAN_FREE char *expanded = NULL;
	if (!value) {
		*out = xstrdup(in);
		return 0;
	}
	int rc = tmpl_expand_str(v, value + 1, &expanded, err);
	if (!rc)
		*out = xasprintf("%.*s=%s", (int)(value - in), in, expanded);
	return rc;
}
