/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the ?filters= of list calls, in both encodings clients use: {"name":{"web":true}} and {"name":["web"]}.
 *         Values of one key are alternatives, keys must all hold; labels must all hold too.
 * Errors: MESH_E_INVALID: not JSON, another shape, a key the call does not know.
 */
#ifndef CONTROL_API_FILTERS_H
#define CONTROL_API_FILTERS_H

#include "base/schema.h"
#include "control/api/http.h"

struct filter {
	char *key;
	struct str_list values;
};
struct filters {
	SCH_LIST(struct filter) all;
};

/* text may be NULL or empty: no filters. allowed ends with NULL. out must be zeroed; clear it also on error. */
int filters_parse(const char *text, const char *const *allowed, struct filters *out,
                  struct mesh_err *err) MESH_MUST_CHECK;
void filters_clear(struct filters *f);
/* From the request; answers 400 itself when nonzero. */
int req_filters(struct req *r, const char *const *allowed, struct filters *out) MESH_MUST_CHECK;

/* NULL when the key is not given. */
const struct str_list *filters_get(const struct filters *f, const char *key);
/* Without the key everything matches. value NULL counts as "". */
bool filters_exact(const struct filters *f, const char *key, const char *value);
bool filters_prefix(const struct filters *f, const char *key, const char *value);
bool filters_contains(const struct filters *f, const char *key, const char *value);
/* "k" or "k=v", each of them. */
bool filters_labels(const struct filters *f, const char *key, const struct str_map *labels);
/* true, 1 / false, 0; def without the key. */
bool filters_bool(const struct filters *f, const char *key, bool def);

#endif
