/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the parts of Go's text/template over JSON share: the tree, its parser, the functions. Private to cli/template*.c. */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include <jansson.h>

#include "base/buf.h"
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
int template_parse(const char *text, struct node **out, struct mesh_err *err) MESH_MUST_CHECK;
void nodes_free(struct node *n);

#define ARGS_MAX 17
struct template_function {
	const char *name;
	size_t min, max;
	bool soft; /* absent arguments are false or empty rather than errors */
};
/* NULL: there is no such function. */
const struct template_function *template_function(const char *name);
/* n is within the function's bounds; a new reference. */
json_t *template_call(const char *name, json_t **v, size_t n);
bool value_truth(const json_t *v);
/* As {{.}} writes it. */
void value_print(struct buf *out, const json_t *v, int depth);

#endif
