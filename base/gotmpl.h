/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   Go's text/template over JSON values, for what people write into --format, host names and configs:
 *         {{.A.B}}, {{if}} {{else}} {{end}}, {{with}}, {{range}}, variables, pipes, comments, trimming, and Go's
 *         print, printf, println, len, index, eq ne lt le gt ge, and or not. The caller may bring more functions.
 *         What nobody knows is an error.
 * Pure.   Depth, size of the tree and of the output are bounded.
 * Errors: MESH_E_INVALID, with Go's "template parsing error: " or "template: : executing" wording.
 */
#ifndef MESH_BASE_GOTMPL_H
#define MESH_BASE_GOTMPL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/gojson.h"

struct gotmpl_function {
	const char *name;
	size_t min, max; /* arguments */
	bool soft;       /* absent arguments are false or empty rather than errors */
};
struct gotmpl_functions {
	const struct gotmpl_function *list;
	size_t n;
	/* The arguments are within the function's bounds, absent ones NULL; a new reference, or NULL with *err set. */
	json_t *(*call)(void *arg, const char *name, json_t **v, size_t n, struct mesh_err *err);
	void *arg;
};
/* Appends to out. strict: a field that is absent is an error, else "<no value>". more (may be NULL) goes before Go's own. */
int gotmpl_run(const char *text, const json_t *value, bool strict, const struct gotmpl_functions *more, struct buf *out,
               struct mesh_err *err) MESH_MUST_CHECK;
/* Could it be run at all? What it names is not looked at. */
int gotmpl_check(const char *text, struct mesh_err *err) MESH_MUST_CHECK;

/* ---- for functions of the caller's ---- */
bool gotmpl_truth(const json_t *v);
/* As {{.}} writes it. */
void gotmpl_print(struct buf *out, const json_t *v, int depth);
char *gotmpl_text(const json_t *v);
/* A string of any bytes; b is empty after. */
json_t *gotmpl_take(struct buf *b);

#endif
