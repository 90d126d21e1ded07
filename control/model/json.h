/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   JSON of the objects, driven by their schema tables (base/schema.h): a writer straight into a buffer, and
 *         a reader over jansson's tree.
 * Reads:  keys match exactly, else without regard to case, as Go's decoder does; null leaves a field alone.
 *         Whatever no table knows is collected by path, unless it is empty. SCH_READONLY is skipped,
 *         SCH_INTERNAL does not exist here, SCH_SECRET is read and never written.
 * Errors: MESH_E_INVALID names the path and what was expected:
 *         "TaskTemplate.Resources.Limits.NanoCPUs: expected a number, got a string".
 * Thread: any; no state.
 */
#ifndef CONTROL_MODEL_JSON_H
#define CONTROL_MODEL_JSON_H

#include <jansson.h>

#include "base/buf.h"
#include "base/schema.h"

/* ---- writing ---- */

/* Commas are the writer's business: jw_open, jw_key, a value, ... jw_close. Text that is not UTF-8 is mended. */
struct jw {
	struct buf b;
	bool comma;
};
void jw_open(struct jw *w, char bracket); /* '{' or '[' */
void jw_close(struct jw *w, char bracket);
void jw_key(struct jw *w, const char *key);
void jw_str(struct jw *w, const char *s); /* NULL as "" */
void jw_strn(struct jw *w, const char *s, size_t n);
void jw_int(struct jw *w, int64_t v);
void jw_uint(struct jw *w, uint64_t v);
void jw_f64(struct jw *w, double v);
void jw_bool(struct jw *w, bool v);
void jw_null(struct jw *w);
void jw_time(struct jw *w, int64_t ns);
void jw_base64(struct jw *w, const void *p, size_t n);
void jw_raw(struct jw *w, const char *json);
void jw_strs(struct jw *w, const struct str_list *l);
/* Keys in byte order, as Go prints maps. */
void jw_map(struct jw *w, const struct str_map *m);

/* key and value in one go. */
void jw_kstr(struct jw *w, const char *key, const char *v);
void jw_kint(struct jw *w, const char *key, int64_t v);
void jw_kbool(struct jw *w, const char *key, bool v);
void jw_ktime(struct jw *w, const char *key, int64_t ns);
void jw_kraw(struct jw *w, const char *key, const char *json);

/* A whole object with its braces; and only its members from field index lo up to (not including) hi. */
void md_json_write(struct jw *w, const struct schema *s, const void *obj);
void md_json_members(struct jw *w, const struct schema *s, const void *obj, size_t lo, size_t hi);
/* Index of a field by its JSON name; s->n when there is none. */
size_t md_json_field(const struct schema *s, const char *name);

/* ---- reading ---- */

/* One document: no duplicate keys, nothing after it. MESH_E_INVALID with line and column. Caller json_decrefs. */
int md_json_parse(const void *p, size_t n, json_t **out, struct mesh_err *err) MESH_MUST_CHECK;
/*
 * obj must be zeroed; on error it holds what was read and must still be cleared. at: path to start from, may be "".
 * unknown (may be NULL) collects the paths of non-empty members that s does not know.
 */
int md_json_read(const struct schema *s, void *obj, const json_t *j, const char *at, struct str_list *unknown,
                 struct mesh_err *err) MESH_MUST_CHECK;
/* Both in one: text to object. */
int md_json_decode(const struct schema *s, void *obj, const void *p, size_t n, struct str_list *unknown,
                   struct mesh_err *err) MESH_MUST_CHECK;

/* Standard base64 with padding. MESH_E_INVALID. */
int md_base64_decode(const char *text, struct bytes *out) MESH_MUST_CHECK;
/* url: RFC 4648's other alphabet, padding optional (X-Registry-Auth). */
int md_base64url_decode(const char *text, struct bytes *out) MESH_MUST_CHECK;
void md_base64_encode(struct buf *out, const void *p, size_t n);

#endif
