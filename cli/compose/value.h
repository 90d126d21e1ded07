/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what a stack file says, as a tree that remembers where each value stands.
 * Owner:  everything lives in one arena and goes with it (arena_fini); nothing is freed by itself.
 * Errors: cv_fail gives "stack.yml:12: <message>".
 * Limits: an arena counts what is put into it; readers of foreign text stop at COMPOSE_MAX_*.
 */
#ifndef MESH_CLI_COMPOSE_VALUE_H
#define MESH_CLI_COMPOSE_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define COMPOSE_MAX_FILE (2u << 20)  /* bytes of one file */
#define COMPOSE_MAX_NODES 100000u    /* values of one file, aliases counted as often as they are used */
#define COMPOSE_MAX_KEYS 5000u       /* keys of one mapping */
#define COMPOSE_MAX_DEPTH 64u        /* nesting */
#define COMPOSE_MAX_TEXT (16u << 20) /* bytes of all texts, copies of aliases and variables included */

struct arena_chunk;
struct arena {
	struct arena_chunk *chunks;
	size_t text;  /* bytes of strings handed out */
	size_t nodes; /* values made */
};
void arena_fini(struct arena *a);
/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t n);
char *arena_str(struct arena *a, const char *s, size_t n);
char *arena_printf(struct arena *a, const char *fmt, ...) MESH_PRINTF(2, 3);

enum cv_kind { CV_NULL, CV_BOOL, CV_INT, CV_FLOAT, CV_STR, CV_LIST, CV_MAP };
enum cv_flag {
	CV_RESET = 1,    /* !reset: forget what earlier files said */
	CV_OVERRIDE = 2, /* !override: replace instead of merging */
	CV_OPEN = 4,     /* its end has not been read yet */
};

struct cv;
struct cv_item {
	const char *key; /* NULL in lists */
	struct cv *v;
};
struct cv {
	uint8_t kind, flags;
	int line;
	const char *file;
	const char *s; /* scalars: the text */
	int64_t i;     /* CV_INT, CV_BOOL */
	double f;      /* CV_FLOAT */
	struct cv_item *items;
	uint32_t n, cap;
};

/* New values stand where at stands. */
struct cv *cv_new(struct arena *a, enum cv_kind kind, const struct cv *at);
struct cv *cv_str(struct arena *a, const char *s, const struct cv *at);
struct cv *cv_int(struct arena *a, int64_t i, const struct cv *at);
struct cv *cv_bool(struct arena *a, bool b, const struct cv *at);
void cv_add(struct arena *a, struct cv *list, struct cv *v);
/* Replaces what is there. */
void cv_set(struct arena *a, struct cv *map, const char *key, struct cv *v);
void cv_del(struct cv *map, const char *key);
/* NULL when absent or when v is NULL or no mapping. */
struct cv *cv_get(const struct cv *map, const char *key);
/* The text of a scalar; "" when v is NULL, null or no scalar. */
const char *cv_text(const struct cv *v);
/* cv_text(cv_get(map, key)) */
const char *cv_at(const struct cv *map, const char *key);
bool cv_true(const struct cv *v);
bool utf8_ok(const char *s);
bool cv_equal(const struct cv *a, const struct cv *b);
static inline bool cv_is(const struct cv *v, enum cv_kind kind)
{
	return v && v->kind == kind;
}

#define CV_EACH(map, it)                                                                                               \
	for (struct cv_item *it = (map) ? (map)->items : NULL, *it##_end = it ? it + (map)->n : NULL; it < it##_end;   \
	     it++)

/* Where one is in the file, for messages: services.web.ports.0 */
struct cv_path {
	const struct cv_path *up;
	const char *key; /* NULL: index */
	uint32_t index;
};
/* On the arena. */
const char *cv_path_str(struct arena *a, const struct cv_path *p);

int cv_fail(const struct cv *v, struct mesh_err *err, const char *fmt, ...) MESH_PRINTF(3, 4);

/* The first document of a YAML file. Plain scalars are typed as docker's reader types them (core schema, and octal
 * with a leading 0); a mapping key twice, an unknown or circular alias, or too much of anything is an error. */
int yaml_read(struct arena *a, const char *file, const char *text, size_t len, struct cv **out,
              struct mesh_err *err) MESH_MUST_CHECK;
/* Types a plain scalar: sets kind, i, f. */
void yaml_resolve(struct cv *v);

#endif
