/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the declarative table of commands and flags. It drives parsing, help, completion and the
 *         manual pages; a command's function sees only parsed values.
 * Owner:  tables are static data; struct cli owns what was parsed and the connection, for one run.
 * Thread: one; may block (this is a command line tool).
 * Errors: a command returns 0, a positive exit status of its own, or a negative code with err filled;
 *         main prints err once.
 */
#ifndef MESH_CLI_COMMAND_H
#define MESH_CLI_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/schema.h"

enum flag_type {
	F_BOOL,
	F_STR,
	F_LIST, /* may be repeated */
	F_INT,
	F_UINT,
	F_FLOAT,
	F_DURATION, /* Go's: 1m30s; value in ns */
	F_BYTES,    /* 64m; value in bytes */
	F_CPUS,     /* 0.5; value in billionths */
};

struct flag {
	const char *name;
	char sh; /* one letter, 0 = none */
	enum flag_type type;
	const char *arg;  /* what help calls the value; NULL = by type */
	const char *def;  /* default in help and for flag_str; NULL = none */
	const char *help; /* one line */
	const char *comp; /* completion: an object kind ("node") or words ("active pause drain") */
};

struct cli;
struct command {
	const char *name;
	const char *alias;   /* one other name, or NULL */
	const char *usage;   /* arguments as help shows them */
	const char *summary; /* one line */
	const char *more;    /* further paragraphs, or NULL */
	const char *example; /* lines of the example section, or NULL */
	const struct flag *flags;
	size_t nflags;
	const struct command *const *subs; /* NULL-terminated, or NULL for a command that runs */
	int (*run)(struct cli *c, struct mesh_err *err);
	int min, max;     /* positional arguments; max < 0: any number */
	const char *comp; /* completion of the arguments, as in struct flag */
	bool verbatim;    /* flags end at the first argument (exec, service create) */
	bool local;       /* needs no daemon */
	bool hidden;
};
#define FLAGS(table) .flags = (table), .nflags = ARRAY_SIZE(table)

struct flag_value {
	bool set;
	struct str_list text; /* as given, one per occurrence */
};

struct http;
struct cli {
	const struct command *cmd;
	char path[96];           /* "meshctl service create" */
	struct flag_value *vals; /* parallel to cmd->flags */
	char **args;
	int nargs;
	char *host; /* unix:///run/mesh/mesh.sock */
	struct http *http;
	int api_minor; /* of the version agreed on */
	bool debug;
};

extern const struct command cmd_root;
extern const struct flag global_flags[];
extern const size_t global_nflags;

/* Finds the command argv names and parses its flags. *help is set when --help was asked for.
 * On failure the message ends with where to find help. */
int args_parse(struct cli *c, int argc, char **argv, bool *help, struct mesh_err *err) MESH_MUST_CHECK;
void args_clear(struct cli *c);

/* Value access; asking for a flag the command does not declare is a programmer error. */
bool flag_given(const struct cli *c, const char *name);
bool flag_bool(const struct cli *c, const char *name);
const char *flag_str(const struct cli *c, const char *name); /* last given, else default, else "" */
const struct str_list *flag_list(const struct cli *c, const char *name);
int64_t flag_int(const struct cli *c, const char *name); /* also DURATION, BYTES, CPUS in their units */
double flag_float(const struct cli *c, const char *name);
/* Does the command declare it at all? (code shared by create and update) */
bool flag_known(const struct cli *c, const char *name);

void help_print(const struct command *cmd, const char *path);
/* Nearest name to a mistyped one, or NULL. */
const char *suggest(const char *word, const char *const *names, size_t n);
int complete_words(struct cli *c, int argc, char **argv);
const char *complete_script(const char *shell);
const struct command *command_find(const struct command *in, const char *name);

#endif
