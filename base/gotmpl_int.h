/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the parts of Go's text/template over JSON share: the tree, its parser, the functions. Private to base/gotmpl*.c. */
#ifndef MESH_BASE_GOTMPL_INT_H
#define MESH_BASE_GOTMPL_INT_H

#include "base/gotmpl.h"
#include "base/schema.h"

#define DEPTH_MAX 32

enum expr_type { E_DOT, E_FIELD, E_VAR, E_VALUE, E_FUNC, E_PAREN };
struct pipe;
struct expr {
	enum expr_type type;
	char *name;            /* variable or function */
	json_t *value;         /* literal */
	struct pipe *pipe;     /* parenthesised */
	struct str_list chain; /* .A.B behind it */
};
struct command_node {
	struct expr *args;
	size_t n;
};
struct pipe {
	char *var, *var2; /* $x := …, $i, $x := … */
	struct command_node *cmds;
	size_t n;
};
enum node_type { N_TEXT, N_PIPE, N_IF, N_WITH, N_RANGE };
struct node {
	enum node_type type;
	char *text;
	struct pipe *pipe;
	struct node *body, *other, *next;
};

/* The tree of text, to be freed with nodes_free also on error; NULL for an empty one. */
int gotmpl_parse(const char *text, struct node **out, struct mesh_err *err) MESH_MUST_CHECK;
void nodes_free(struct node *n);

#define ARGS_MAX 17
/* Go's own functions, found by name; NULL: there is none. */
extern const struct gotmpl_functions gotmpl_builtin;

#endif
