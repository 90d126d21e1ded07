/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Go's text/template: from text to a tree. Depth and size are bounded. */
#include "base/gotmpl_int.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define NODES_MAX 4096

struct parser {
	const char *p;      /* template text left */
	const char *a, *ae; /* inside an action */
	bool trim_next;
	int depth, nodes;
	struct mesh_err *err;
	bool bad;
};

static void *bad(struct parser *ps, const char *fmt, ...) MESH_PRINTF(2, 3);
static void *bad(struct parser *ps, const char *fmt, ...)
{
	char text[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (!ps->bad)
		(void)mesh_fail(ps->err, MESH_E_INVALID, "template parsing error: %s", text);
	ps->bad = true;
	return NULL;
}

static void pipe_free(struct pipe *p);

static void expr_clear(struct expr *e)
{
	free(e->name);
	json_decref(e->value);
	pipe_free(e->pipe);
	strs_clear(&e->chain);
}

static void pipe_free(struct pipe *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->n; i++) {
		for (size_t k = 0; k < p->cmds[i].n; k++)
			expr_clear(&p->cmds[i].args[k]);
		free(p->cmds[i].args);
	}
	free(p->cmds);
	free(p->var);
	free(p->var2);
	free(p);
}

void nodes_free(struct node *n)
{
	while (n) {
		struct node *next = n->next;
		free(n->text);
		pipe_free(n->pipe);
		nodes_free(n->body);
		nodes_free(n->other);
		free(n);
		n = next;
	}
}

static void skip_space(struct parser *ps)
{
	while (ps->a < ps->ae && isspace((unsigned char)*ps->a))
		ps->a++;
}

static bool name_char(char ch)
{
	return isalnum((unsigned char)ch) || ch == '_';
}

static char *take_name(struct parser *ps)
{
	const char *from = ps->a;

	while (ps->a < ps->ae && name_char(*ps->a))
		ps->a++;
	return xstrndup(from, (size_t)(ps->a - from));
}

static json_t *quoted(struct parser *ps)
{
	char quote = *ps->a++;
	struct buf b = { 0 };

	for (; ps->a < ps->ae && *ps->a != quote; ps->a++) {
		char ch = *ps->a;
		if (ch == '\\' && quote == '"' && ps->a + 1 < ps->ae) {
			ch = *++ps->a;
			ch = ch == 'n' ? '\n' : ch == 't' ? '\t' : ch == 'r' ? '\r' : ch;
		}
		buf_put(&b, &ch, 1);
	}
	if (ps->a >= ps->ae) {
		buf_fini(&b);
		return bad(ps, "unterminated quoted string");
	}
	ps->a++;
	json_t *s = json_stringn((const char *)(b.data ? b.data : (uint8_t *)""), b.len);
	buf_fini(&b);
	return s ? s : bad(ps, "string is not UTF-8");
}

static json_t *number(struct parser *ps)
{
	char text[48];
	size_t n = 0;

	while (ps->a < ps->ae && n < sizeof(text) - 1 && (name_char(*ps->a) || strchr("+-.", *ps->a)))
		text[n++] = *ps->a++;
	text[n] = 0;
	char *end;
	long long i = strtoll(text, &end, 0);
	if (!*end)
		return json_integer(i);
	double d = strtod(text, &end);
	if (*end || !(d > -1e300 && d < 1e300))
		return bad(ps, "bad number syntax: \"%s\"", text);
	return json_real(d);
}

static struct pipe *parse_pipe(struct parser *ps, bool nested);

static void parse_chain(struct parser *ps, struct expr *e)
{
	while (ps->a + 1 < ps->ae && *ps->a == '.' && name_char(ps->a[1])) {
		ps->a++;
		CLEAN_FREE char *name = take_name(ps);
		strs_add(&e->chain, name);
	}
}

static bool parse_word(struct parser *ps, struct expr *e)
{
	e->name = take_name(ps);
	e->type = E_VALUE;
	if (!strcmp(e->name, "true") || !strcmp(e->name, "false"))
		e->value = json_boolean(e->name[0] == 't');
	else if (!strcmp(e->name, "nil"))
		e->value = json_null();
	else
		e->type = E_FUNC;
	return true;
}

/* One operand; false at the end of the command. */
static bool parse_expr(struct parser *ps, struct expr *e)
{
	skip_space(ps);
	if (ps->a >= ps->ae || *ps->a == '|' || *ps->a == ')' || ps->bad)
		return false;
	if (++ps->nodes > NODES_MAX)
		return bad(ps, "template is too large");
	char ch = *ps->a;
	if (ch == '.') {
		e->type = ps->a + 1 < ps->ae && name_char(ps->a[1]) ? E_FIELD : E_DOT;
		if (e->type == E_DOT)
			ps->a++;
	} else if (ch == '$') {
		ps->a++;
		e->type = E_VAR;
		e->name = take_name(ps);
	} else if (ch == '"' || ch == '`') {
		e->type = E_VALUE;
		e->value = quoted(ps);
	} else if (isdigit((unsigned char)ch) || ch == '-' || ch == '+') {
		e->type = E_VALUE;
		e->value = number(ps);
	} else if (ch == '(') {
		ps->a++;
		e->type = E_PAREN;
		e->pipe = parse_pipe(ps, true);
		skip_space(ps);
		if (ps->bad)
			return false;
		if (ps->a >= ps->ae || *ps->a != ')')
			return bad(ps, "unclosed left paren");
		ps->a++;
	} else if (name_char(ch)) {
		(void)parse_word(ps, e);
	} else {
		return bad(ps, "unexpected \"%c\" in operand", ch);
	}
	parse_chain(ps, e);
	return !ps->bad;
}

static bool parse_command(struct parser *ps, struct command_node *c)
{
	for (;;) {
		struct expr e = { 0 };
		if (!parse_expr(ps, &e)) {
			expr_clear(&e);
			break;
		}
		c->args = xrealloc(c->args, (c->n + 1) * sizeof(*c->args));
		c->args[c->n++] = e;
	}
	if (!c->n && !ps->bad)
		(void)bad(ps, "missing value for command");
	return !ps->bad;
}

/* $x := or $i, $x := in front of a pipe */
static void parse_decl(struct parser *ps, struct pipe *p)
{
	const char *save = ps->a;
	char *names[2] = { NULL, NULL };
	int n = 0;

	skip_space(ps);
	while (n < 2 && ps->a < ps->ae && *ps->a == '$') {
		ps->a++;
		names[n++] = take_name(ps);
		skip_space(ps);
		if (ps->a < ps->ae && *ps->a == ',') {
			ps->a++;
			skip_space(ps);
		}
	}
	size_t left = (size_t)(ps->ae - ps->a);
	size_t op = left >= 2 && !strncmp(ps->a, ":=", 2) ? 2 : left >= 1 && *ps->a == '=' ? 1 : 0;
	if (n && op) {
		ps->a += op;
		p->var = names[0];
		p->var2 = names[1];
		return;
	}
	free(names[0]);
	free(names[1]);
	ps->a = save;
}

static struct pipe *parse_pipe(struct parser *ps, bool nested)
{
	struct pipe *p = XNEW(struct pipe);

	if (++ps->depth > DEPTH_MAX) {
		(void)bad(ps, "template is nested too deeply");
	} else {
		parse_decl(ps, p);
		for (;;) {
			struct command_node c = { 0 };
			bool ok = parse_command(ps, &c);
			p->cmds = xrealloc(p->cmds, (p->n + 1) * sizeof(*p->cmds));
			p->cmds[p->n++] = c;
			skip_space(ps);
			if (!ok || ps->a >= ps->ae || *ps->a != '|')
				break;
			ps->a++;
		}
		if (!ps->bad && !nested && ps->a < ps->ae)
			(void)bad(ps, "unexpected \"%c\" in command", *ps->a);
	}
	ps->depth--;
	if (!ps->bad)
		return p;
	pipe_free(p);
	return NULL;
}

/* Where the action ends, quotes respected. */
static const char *action_end(const char *p)
{
	for (char quote = 0; *p; p++) {
		if (quote) {
			if (*p == '\\' && quote == '"' && p[1])
				p++;
			else if (*p == quote)
				quote = 0;
		} else if (*p == '"' || *p == '`') {
			quote = *p;
		} else if (p[0] == '}' && p[1] == '}') {
			return p;
		}
	}
	return NULL;
}

static struct node *text_node(struct parser *ps, const char *from, const char *to, bool trim_end)
{
	if (ps->trim_next)
		while (from < to && isspace((unsigned char)*from))
			from++;
	if (trim_end)
		while (to > from && isspace((unsigned char)to[-1]))
			to--;
	if (from == to)
		return NULL;
	struct node *n = XNEW(struct node);
	n->text = xstrndup(from, (size_t)(to - from));
	return n;
}

static bool keyword(struct parser *ps, const char *word)
{
	size_t n = strlen(word);

	skip_space(ps);
	if ((size_t)(ps->ae - ps->a) < n || strncmp(ps->a, word, n) || (ps->a + n < ps->ae && name_char(ps->a[n])))
		return false;
	ps->a += n;
	return true;
}

/* Moves into the next action; *text is what stands before it. False at the end of the template. */
static bool next_action(struct parser *ps, struct node **text)
{
	const char *open = strstr(ps->p, "{{");

	if (!open) {
		*text = text_node(ps, ps->p, ps->p + strlen(ps->p), false);
		ps->p += strlen(ps->p);
		return false;
	}
	bool trim = open[2] == '-' && isspace((unsigned char)open[3]);
	*text = text_node(ps, ps->p, open, trim);
	const char *end = action_end(open + 2);
	if (!end) {
		(void)bad(ps, "unclosed action");
		return false;
	}
	ps->a = open + (trim ? 3 : 2);
	ps->ae = end;
	ps->trim_next = end > ps->a + 1 && end[-1] == '-' && isspace((unsigned char)end[-2]);
	if (ps->trim_next)
		ps->ae--;
	ps->p = end + 2;
	return true;
}

enum stop { STOP_EOF, STOP_END, STOP_ELSE };
static struct node *parse_list(struct parser *ps, enum stop *stop);

static void parse_block(struct parser *ps, struct node *n)
{
	enum stop stop;

	n->pipe = parse_pipe(ps, false);
	if (ps->bad)
		return;
	n->body = parse_list(ps, &stop);
	if (!ps->bad && stop == STOP_ELSE) {
		if (keyword(ps, "if")) { /* else if: a nested if that shares our end */
			n->other = XNEW(struct node);
			n->other->type = N_IF;
			parse_block(ps, n->other);
			return;
		}
		n->other = parse_list(ps, &stop);
	}
	if (!ps->bad && stop != STOP_END)
		(void)bad(ps, "unexpected EOF");
}

static struct node *parse_list(struct parser *ps, enum stop *stop)
{
	struct node *head = NULL, **tail = &head;

	*stop = STOP_EOF;
	if (++ps->depth > DEPTH_MAX)
		(void)bad(ps, "template is nested too deeply");
	while (!ps->bad) {
		bool action = next_action(ps, tail);
		if (*tail)
			tail = &(*tail)->next;
		if (!action || ++ps->nodes > NODES_MAX)
			break;
		if (keyword(ps, "end")) {
			*stop = STOP_END;
			break;
		}
		if (keyword(ps, "else")) {
			*stop = STOP_ELSE;
			break;
		}
		skip_space(ps);
		if (ps->ae - ps->a >= 2 && !strncmp(ps->a, "/*", 2))
			continue;
		struct node *n = *tail = XNEW(struct node);
		tail = &n->next;
		n->type = keyword(ps, "if")      ? N_IF
		          : keyword(ps, "range") ? N_RANGE
		          : keyword(ps, "with")  ? N_WITH
		                                 : N_PIPE;
		if (n->type == N_PIPE)
			n->pipe = parse_pipe(ps, false);
		else
			parse_block(ps, n);
	}
	if (ps->nodes > NODES_MAX)
		(void)bad(ps, "template is too large");
	ps->depth--;
	return head;
}

int gotmpl_parse(const char *text, struct node **out, struct mesh_err *err)
{
	struct parser ps = { .p = text, .err = err };
	enum stop stop;

	*out = parse_list(&ps, &stop);
	if (!ps.bad && stop != STOP_EOF)
		(void)bad(&ps, "unexpected {{%s}}", stop == STOP_END ? "end" : "else");
	return ps.bad ? MESH_E_INVALID : 0;
}
