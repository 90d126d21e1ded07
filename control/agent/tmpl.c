/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/tmpl.h"

#include <ctype.h>
#include <string.h>

#include "base/mem.h"

/* The value of ".Service.Name" and its like, NULL when there is no such field. */
static const char *field(const struct tmpl_vars *v, const char *path)
{
	const struct {
		const char *path, *value;
	} fields[] = {
		{ ".Service.ID", v->service_id },    { ".Service.Name", v->service_name },
		{ ".Node.ID", v->node_id },          { ".Node.Hostname", v->node_hostname },
		{ ".Node.Platform.OS", v->node_os }, { ".Node.Platform.Architecture", v->node_arch },
		{ ".Task.ID", v->task_id },          { ".Task.Name", v->task_name },
		{ ".Task.Slot", v->task_slot },
	};
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++)
		if (!strcmp(path, fields[i].path))
			return fields[i].value ? fields[i].value : "";
	static const char labels[] = ".Service.Labels.";
	if (!strncmp(path, labels, strlen(labels))) {
		const char *value = v->service_labels ? smap_get(v->service_labels, path + strlen(labels)) : NULL;
		return value ? value : ""; /* as Go's templates: a missing key is empty */
	}
	return NULL;
}

/* index .Service.Labels "key" -> .Service.Labels.key */
static void plain_index(char *expr)
{
	static const char verb[] = "index", labels[] = ".Service.Labels";
	if (strncmp(expr, verb, 5) || !isspace((unsigned char)expr[5]))
		return;
	char *p = expr + 5;
	while (isspace((unsigned char)*p))
		p++;
	if (strncmp(p, labels, strlen(labels)))
		return;
	char *open = strchr(p, '"'), *close = open ? strchr(open + 1, '"') : NULL;
	if (!close || close[1])
		return;
	*close = 0;
	char *key = xstrdup(open + 1);
	strcpy(expr, labels);
	strcat(expr, ".");
	strcat(expr, key);
	free(key);
}

int tmpl_expand(const struct tmpl_vars *v, const char *in, size_t n, struct buf *out, struct mesh_err *err)
{
	const char *end = in + n;
	while (in < end) {
		const char *open = memmem(in, (size_t)(end - in), "{{", 2);
		if (!open) {
			buf_put(out, in, (size_t)(end - in));
			return 0;
		}
		buf_put(out, in, (size_t)(open - in));
		const char *from = open + 2, *to = memmem(from, (size_t)(end - from), "}}", 2);
		if (!to)
			return mesh_fail(err, MESH_E_INVALID, "template: unclosed action");
		in = to + 2;
		while (from < to && isspace((unsigned char)*from))
			from++;
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
		CLEAN_FREE char *expr = xstrndup(from, (size_t)(to - from));
		plain_index(expr);
		const char *value = field(v, expr);
		if (!value)
			return mesh_fail(err, MESH_E_INVALID, "template: cannot expand {{%.100s}}", expr);
		buf_puts(out, value);
	}
	return 0;
}

int tmpl_expand_str(const struct tmpl_vars *v, const char *in, char **out, struct mesh_err *err)
{
	struct buf b = { 0 };
	int rc = tmpl_expand(v, in ? in : "", in ? strlen(in) : 0, &b, err);
	if (rc)
		buf_fini(&b);
	else
		*out = buf_take_str(&b);
	return rc;
}
