/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/api.h"
#include "cli/format.h"
#include "cli/table.h"

/* Shells hand over \t and \n as two characters. */
static char *unescape(const char *text)
{
	struct buf b = { 0 };

	for (; *text; text++) {
		if (text[0] == '\\' && (text[1] == 't' || text[1] == 'n')) {
			buf_puts(&b, text[1] == 't' ? "\t" : "\n");
			text++;
		} else {
			buf_put(&b, text, 1);
		}
	}
	return buf_take_str(&b);
}

static void flush_out(struct buf *b)
{
	if (b->len)
		fwrite(b->data, 1, b->len, stdout);
	buf_fini(b);
}

static int print_table(const struct list_view *view, const json_t *rows, const char *fields, struct mesh_err *err)
{
	struct buf cells = { 0 }, aligned = { 0 };
	JSON_CLEAN headers = json_object();
	json_t *row;
	size_t i;

	while (*fields == ' ')
		fields++;
	CLEAN_FREE char *line = unescape(fields);
	for (i = 0; i < view->n; i++)
		json_object_set_new(headers, view->columns[i].field, json_string(view->columns[i].header));
	json_object_set_new(headers, "Label", json_object());
	int rc = template_run(line, headers, true, &cells, err);
	if (rc >= 0)
		buf_puts(&cells, "\n");
	json_array_foreach((json_t *)rows, i, row)
	{
		if (rc < 0)
			break;
		rc = template_run(line, row, true, &cells, err);
		buf_puts(&cells, "\n");
	}
	if (rc >= 0)
		table_format(buf_str(&cells), &aligned);
	buf_fini(&cells);
	flush_out(&aligned);
	return rc;
}

static void print_json_row(const struct list_view *view, const json_t *row)
{
	struct buf b = { 0 };
	JSON_CLEAN shown = json_object();

	for (size_t i = 0; i < view->n; i++) {
		json_t *v = json_object_get(row, view->columns[i].field);
		if (v)
			json_object_set(shown, view->columns[i].field, v);
	}
	json_put(&b, shown, 0, true, true);
	buf_puts(&b, "\n");
	flush_out(&b);
}

int list_print(const struct list_view *view, const json_t *rows, const char *format, bool quiet, struct mesh_err *err)
{
	struct buf out = { 0 };
	json_t *row;
	size_t i;
	int rc = 0;

	if (quiet && !*format) {
		json_array_foreach((json_t *)rows, i, row) printf("%s\n", js(row, view->quiet));
		return 0;
	}
	if (!strcmp(format, "json")) {
		json_array_foreach((json_t *)rows, i, row) print_json_row(view, row);
		return 0;
	}
	if (!*format || !strcmp(format, "table"))
		return print_table(view, rows, view->table + 6, err);
	if (!strncmp(format, "table ", 6))
		return print_table(view, rows, format + 6, err);
	CLEAN_FREE char *line = unescape(format);
	json_array_foreach((json_t *)rows, i, row)
	{
		rc = template_run(line, row, true, &out, err);
		if (rc < 0)
			break;
		buf_puts(&out, "\n");
	}
	flush_out(&out);
	return rc;
}

int inspect_print(const json_t *items, const char *format, struct mesh_err *err)
{
	struct buf out = { 0 };
	json_t *item;
	size_t i;
	int rc = 0;

	if (!*format) {
		json_put(&out, items, 4, false, false);
		buf_puts(&out, "\n");
	} else {
		json_array_foreach((json_t *)items, i, item)
		{
			if (!strcmp(format, "json"))
				json_put(&out, item, 0, false, true);
			else
				rc = template_run(format, item, true, &out, err);
			if (rc < 0)
				break;
			buf_puts(&out, "\n");
		}
	}
	flush_out(&out);
	return rc;
}
