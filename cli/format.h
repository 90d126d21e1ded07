/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what --format does: "json", "table TEMPLATE", Go templates over JSON values.
 *         Templates are base/gotmpl.h's, with the functions of docker's client: json, join, split, upper, lower,
 *         title, truncate, pad.
 * Errors: MESH_E_INVALID, with docker's "template parsing error: " or "template: : executing" wording.
 */
#ifndef MESH_CLI_FORMAT_H
#define MESH_CLI_FORMAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Runs a template over a value. strict: a field that is absent is an error, else "<no value>". */
int template_run(const char *text, const json_t *value, bool strict, struct buf *out,
                 struct mesh_err *err) MESH_MUST_CHECK;

struct column {
	const char *field, *header;
};
struct list_view {
	const struct column *columns;
	size_t n;
	const char *table; /* "table {{.ID}}\t..." */
	const char *quiet; /* the field -q prints */
};
/* Prints rows (an array of objects of strings) as --format and -q ask. format "" = the view's table. */
int list_print(const struct list_view *view, const json_t *rows, const char *format, bool quiet,
               struct mesh_err *err) MESH_MUST_CHECK;
/* Prints what inspect commands do: an indented array, or the template for each. */
int inspect_print(const json_t *items, const char *format, struct mesh_err *err) MESH_MUST_CHECK;

#endif
