/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the language: one table of keys that drives checking, the canonical form, merging of files and
 *         printing. Shared by the files of this folder only.
 */
#ifndef MESH_CLI_COMPOSE_SCHEMA_H
#define MESH_CLI_COMPOSE_SCHEMA_H

#include "cli/compose/compose.h"

enum shape {
	SH_ANY,
	SH_STR,
	SH_TEXT, /* a text, or a number read as one */
	SH_BOOL,
	SH_INT,
	SH_NUM,
	SH_DURATION,
	SH_SIZE, /* bytes: 64M, or a number */
	SH_CPUS,
	SH_STRS, /* list of texts */
	SH_STR_OR_LIST,
	SH_DICT, /* key: value, or a list of key=value; without a value: "" */
	SH_ENV,  /* the same; without a value: taken from the environment, or null */
	SH_OBJ,
	SH_MAP,  /* names -> objects */
	SH_LIST, /* of objects */
};

enum key_flag {
	K_NULL = 1,       /* may stand there without a value */
	K_IGNORED = 2,    /* legal, not honoured: warned about */
	K_DEPRECATED = 4, /* the same, with docker's reason */
	K_FORBIDDEN = 8,  /* an error, with docker's reason */
	K_REPLACE = 16,   /* a later file's list replaces instead of adding */
	K_BY_SOURCE = 32, /* lists merged by a member */
	K_BY_TARGET = 64,
	K_BY_PORT = 128,
};

struct check;
struct key {
	const char *name;
	enum shape shape;
	unsigned flags;
	const struct key *sub; /* ends with a key without name */
	/* Turns short forms into the long one; runs before the shape is checked. */
	int (*norm)(struct check *ck, struct cv **v, const struct cv_path *at, struct mesh_err *err);
	const char *words; /* allowed texts, separated by spaces */
	const char *note;
};

struct check {
	struct compose *c;
	struct arena *a;
};

extern const struct key compose_root[];
const struct key *key_find(const struct key *table, const char *name);
/* Checks one file's tree and brings it into canonical form, in place. */
int schema_check(struct check *ck, struct cv *root, struct mesh_err *err) MESH_MUST_CHECK;
/* "file:line: path must be a <what>" */
int must_be(struct check *ck, const struct cv *v, const struct cv_path *at, const char *what, struct mesh_err *err);
/* A variable that is left alone (compose_opts.raw): its type is not known yet. */
bool cv_unresolved(const struct check *ck, const struct cv *v);
void warn_at(struct check *ck, const struct cv *v, const char *fmt, ...) MESH_PRINTF(3, 4);

/* norm.c */
int norm_command(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_depends_on(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_env_file(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_external(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_extra_hosts(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_health_test(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_networks(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_ports(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_refs(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_ulimits(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);
int norm_volumes(struct check *, struct cv **, const struct cv_path *, struct mesh_err *);

/* merge.c: what over says goes into base. */
void merge_trees(struct check *ck, struct cv *base, struct cv *over);

/* service.c */
struct plan {
	struct compose *c;
	const char *stack;
};
/* "stack_name", or the name the section gives it. */
const char *plan_name(struct plan *p, const char *section, const char *key);
int service_body(struct plan *p, const char *name, const struct cv *s, json_t **out,
                 struct mesh_err *err) MESH_MUST_CHECK;
/* volumes.c */
/* addresses.c: adds the label that says at which addresses the published ports open, when the file chooses any. */
void service_addresses(struct plan *p, const char *name, const struct cv *s, json_t *labels);
int service_mounts(struct plan *p, const char *name, const struct cv *s, json_t **out,
                   struct mesh_err *err) MESH_MUST_CHECK;
/* {"com.docker.stack.namespace": stack} and what the file says. */
json_t *plan_labels(const struct plan *p, const struct cv *labels);
json_t *json_dict(const struct cv *dict);
json_t *json_list(const struct cv *list);
int64_t duration_of(const struct cv *v);

#endif
