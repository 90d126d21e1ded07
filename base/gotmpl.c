/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Go's text/template over JSON: a parsed tree is run. Depth and output are bounded. */
#include "base/gotmpl_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define OUTPUT_MAX (64u << 20)
#define VALUE_MAX (4u << 20) /* of a string that a function makes: variables that double it end here */
#define STEPS_MAX 1000000    /* what nested ranges may come to */

struct var {
	const char *name;
	json_t *value;
};
struct machine {
	const struct gotmpl_functions *more;
	struct var vars[64];
	size_t nvars;
	bool strict;
	int depth, steps;
	struct buf *out;
	struct mesh_err *err;
};

/* A function, and where it is from. */
struct known {
	const struct gotmpl_function *fn;
	const struct gotmpl_functions *of;
};

static struct known function(const struct machine *m, const char *name)
{
	const struct gotmpl_functions *sets[] = { m->more, &gotmpl_builtin };

	for (size_t s = 0; s < ARRAY_SIZE(sets); s++)
		for (size_t i = 0; sets[s] && i < sets[s]->n; i++)
			if (!strcmp(sets[s]->list[i].name, name))
				return (struct known){ &sets[s]->list[i], sets[s] };
	return (struct known){ 0 };
}

static json_t *call(struct machine *m, struct known k, json_t **v, size_t n, int *rc)
{
	json_t *out = k.of->call(k.of->arg, k.fn->name, v, n, m->err);

	if (!out)
		*rc = m->err && m->err->code ? m->err->code
		                             : mesh_fail(m->err, MESH_E_INVALID,
		                                         "template: :1: executing \"\": %s failed", k.fn->name);
	else if (json_is_string(out) && json_string_length(out) > VALUE_MAX)
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template writes too much");
	return out;
}

static json_t *ref(const json_t *j)
{
	return json_incref((json_t *)j);
}

/* A missing value is NULL; *rc < 0 stops everything. */
static json_t *field(struct machine *m, json_t *of, const struct str_list *chain, bool soft, int *rc)
{
	json_t *at = of;

	for (size_t i = 0; i < chain->n; i++) {
		json_t *next = json_is_object(at) ? json_object_get(at, chain->v[i]) : NULL;
		if (!next && m->strict && !soft) {
			*rc = mesh_fail(m->err, MESH_E_INVALID,
			                "template: :1: executing \"\" at <.%s>: there is no field \"%s\"", chain->v[i],
			                chain->v[i]);
			json_decref(of);
			return NULL;
		}
		at = next;
		if (!at)
			break;
	}
	ref(at);
	json_decref(of);
	return at;
}

static json_t *eval_pipe(struct machine *m, const struct pipe *p, json_t *dot, bool soft, int *rc);

static json_t *eval_expr(struct machine *m, const struct expr *e, json_t *dot, bool soft, int *rc)
{
	struct known k;
	json_t *base = NULL;

	switch (e->type) {
	case E_DOT:
	case E_FIELD:
		base = ref(dot);
		break;
	case E_VALUE:
		base = ref(e->value);
		break;
	case E_PAREN:
		base = eval_pipe(m, e->pipe, dot, soft, rc);
		break;
	case E_VAR:
		for (size_t i = m->nvars; i-- > 0;)
			if (!strcmp(m->vars[i].name, e->name)) {
				base = ref(m->vars[i].value);
				return field(m, base, &e->chain, soft, rc);
			}
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template parsing error: undefined variable \"$%s\"", e->name);
		return NULL;
	case E_FUNC:
		k = function(m, e->name);
		if (!k.fn)
			*rc = mesh_fail(m->err, MESH_E_INVALID, "template parsing error: function \"%s\" not defined",
			                e->name);
		else if (k.fn->min)
			*rc = mesh_fail(m->err, MESH_E_INVALID,
			                "template: :1: executing \"\": wrong number of args for %s", e->name);
		else
			base = call(m, k, NULL, 0, rc);
		break;
	}
	return *rc < 0 ? (json_decref(base), NULL) : field(m, base, &e->chain, soft, rc);
}

static json_t *eval_call(struct machine *m, const struct command_node *c, json_t *dot, json_t *piped, bool has_piped,
                         int *rc)
{
	const char *name = c->args[0].name;
	struct known k = function(m, name);
	json_t *v[ARGS_MAX] = { 0 };
	size_t n = 0;
	json_t *out = NULL;

	if (!k.fn) {
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template parsing error: function \"%s\" not defined", name);
		return NULL;
	}
	size_t count = c->n - 1 + has_piped;
	if (count < k.fn->min || count > k.fn->max) {
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template: :1: executing \"\": wrong number of args for %s",
		                name);
		return NULL;
	}
	for (size_t i = 1; i < c->n && *rc >= 0; i++)
		v[n++] = eval_expr(m, &c->args[i], dot, k.fn->soft, rc);
	if (has_piped && *rc >= 0)
		v[n++] = ref(piped);
	if (*rc >= 0)
		out = call(m, k, v, n, rc);
	for (size_t i = 0; i < ARGS_MAX; i++)
		json_decref(v[i]);
	return out;
}

static json_t *eval_command(struct machine *m, const struct command_node *c, json_t *dot, json_t *piped, bool has_piped,
                            bool soft, int *rc)
{
	if (c->args[0].type == E_FUNC)
		return eval_call(m, c, dot, piped, has_piped, rc);
	json_t *v = eval_expr(m, &c->args[0], dot, soft, rc);
	if (*rc < 0 || (c->n == 1 && !has_piped))
		return v;
	/* A method with an argument ({{.Label "x"}}) is a map of ours. */
	json_t *key = has_piped ? ref(piped) : eval_expr(m, &c->args[1], dot, soft, rc);
	json_t *out = NULL;
	if (*rc >= 0 && json_is_object(v) && json_is_string(key)) {
		out = json_object_get(v, json_string_value(key));
		out = out ? ref(out) : json_string("");
	} else if (*rc >= 0) {
		*rc = mesh_fail(m->err, MESH_E_INVALID,
		                "template: :1: executing \"\": can't give argument to non-function");
	}
	json_decref(v);
	json_decref(key);
	return out;
}

static json_t *eval_pipe(struct machine *m, const struct pipe *p, json_t *dot, bool soft, int *rc)
{
	json_t *v = NULL;

	if (++m->depth > DEPTH_MAX * 2) {
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template is nested too deeply");
		return NULL;
	}
	for (size_t i = 0; i < p->n && *rc >= 0; i++) {
		/* what is only handed on to a tolerant function is looked up tolerantly too */
		const struct expr *to = i + 1 < p->n ? &p->cmds[i + 1].args[0] : NULL;
		const struct gotmpl_function *fn = to && to->type == E_FUNC ? function(m, to->name).fn : NULL;
		bool lax = soft || (fn && fn->soft);
		json_t *next = eval_command(m, &p->cmds[i], dot, v, i > 0, lax, rc);
		json_decref(v);
		v = next;
	}
	m->depth--;
	return v;
}

static int push_var(struct machine *m, const char *name, json_t *value)
{
	if (m->nvars == ARRAY_SIZE(m->vars))
		return mesh_fail(m->err, MESH_E_INVALID, "template has too many variables");
	m->vars[m->nvars++] = (struct var){ name, ref(value) };
	return 0;
}

static void pop_vars(struct machine *m, size_t to)
{
	while (m->nvars > to)
		json_decref(m->vars[--m->nvars].value);
}

static int run_nodes(struct machine *m, const struct node *n, json_t *dot);

static int step(struct machine *m)
{
	return ++m->steps > STEPS_MAX ? mesh_fail(m->err, MESH_E_INVALID, "template takes too long") : 0;
}

static int run_item(struct machine *m, const struct node *n, json_t *key, json_t *item)
{
	size_t mark = m->nvars;
	int rc = step(m);

	if (rc)
		return rc;
	if (n->pipe->var2) {
		rc = push_var(m, n->pipe->var, key);
		if (!rc)
			rc = push_var(m, n->pipe->var2, item);
	} else if (n->pipe->var) {
		rc = push_var(m, n->pipe->var, item);
	}
	if (!rc)
		rc = run_nodes(m, n->body, item);
	pop_vars(m, mark);
	return rc;
}

static int run_range(struct machine *m, const struct node *n, json_t *over, json_t *dot)
{
	json_t *item;
	size_t i;
	int rc = 0;

	if (!gotmpl_truth(over))
		return run_nodes(m, n->other, dot);
	if (json_is_array(over)) {
		json_array_foreach(over, i, item)
		{
			JSON_CLEAN key = json_integer((json_int_t)i);
			if ((rc = run_item(m, n, key, item)) < 0)
				return rc;
		}
		return 0;
	}
	if (!json_is_object(over))
		return mesh_fail(m->err, MESH_E_INVALID, "template: :1: executing \"\": range can't iterate over it");
	/* Go ranges over maps in the order of their keys. */
	struct buf sorted = { 0 };
	json_put(&sorted, over, 0, true, false);
	JSON_CLEAN copy = json_loadb((char *)sorted.data, sorted.len, 0, NULL);
	buf_fini(&sorted);
	const char *key;
	json_object_foreach(copy, key, item)
	{
		JSON_CLEAN k = json_string(key);
		if ((rc = run_item(m, n, k, item)) < 0)
			return rc;
	}
	return 0;
}

static int run_node(struct machine *m, const struct node *n, json_t *dot)
{
	int rc = 0;

	if (n->type == N_TEXT) {
		buf_puts(m->out, n->text);
		return 0;
	}
	JSON_CLEAN v = eval_pipe(m, n->pipe, dot, n->type != N_PIPE, &rc);
	if (rc < 0)
		return rc;
	if (n->type == N_RANGE)
		return run_range(m, n, v, dot);
	if (n->type == N_PIPE) {
		if (n->pipe->var)
			return push_var(m, n->pipe->var, v);
		gotmpl_print(m->out, v, 0);
		return 0;
	}
	size_t mark = m->nvars;
	if (n->pipe->var)
		rc = push_var(m, n->pipe->var, v);
	if (!rc)
		rc = run_nodes(m, gotmpl_truth(v) ? n->body : n->other, n->type == N_WITH && gotmpl_truth(v) ? v : dot);
	pop_vars(m, mark);
	return rc;
}

static int run_nodes(struct machine *m, const struct node *n, json_t *dot)
{
	size_t mark = m->nvars;
	int rc = 0;

	for (; n && !rc; n = n->next) {
		rc = run_node(m, n, dot);
		if (!rc && m->out->len > OUTPUT_MAX)
			rc = mesh_fail(m->err, MESH_E_INVALID, "template writes too much");
		rc = rc ? rc : step(m);
	}
	pop_vars(m, mark);
	return rc;
}

int gotmpl_run(const char *text, const json_t *value, bool strict, const struct gotmpl_functions *more, struct buf *out,
               struct mesh_err *err)
{
	struct machine m = { .more = more, .strict = strict, .out = out, .err = err };
	struct node *tree;
	int rc = gotmpl_parse(text, &tree, err);

	if (!rc)
		rc = push_var(&m, "", (json_t *)value);
	if (!rc)
		rc = run_nodes(&m, tree, (json_t *)value);
	pop_vars(&m, 0);
	nodes_free(tree);
	return rc;
}

int gotmpl_check(const char *text, struct mesh_err *err)
{
	struct node *tree;
	int rc = gotmpl_parse(text, &tree, err);

	nodes_free(tree);
	return rc;
}
