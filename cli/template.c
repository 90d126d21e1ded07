/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Go's text/template over JSON: parsed into a tree once, then run. Depth is bounded both times. */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/api.h"
#include "cli/format.h"

#define DEPTH_MAX 32
#define NODES_MAX 4096
#define OUTPUT_MAX (64u << 20)

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

/* ---- parsing ------------------------------------------------------------------------------------ */

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

static void nodes_free(struct node *n)
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

/* ---- running ------------------------------------------------------------------------------------ */

struct var {
	const char *name;
	json_t *value;
};
struct machine {
	struct var vars[64];
	size_t nvars;
	bool strict;
	int depth;
	struct buf *out;
	struct mesh_err *err;
};

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

static bool truth(const json_t *v)
{
	if (!v)
		return false;
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return json_object_size(v) > 0;
	case JSON_ARRAY:
		return json_array_size(v) > 0;
	case JSON_STRING:
		return json_string_length(v) > 0;
	case JSON_INTEGER:
	case JSON_REAL:
		return json_number_value(v) != 0;
	default:
		return json_is_true(v);
	}
}

static void print_value(struct buf *out, const json_t *v, int depth)
{
	const char *key;
	json_t *item;
	size_t i;

	if (!v || json_is_null(v)) {
		buf_puts(out, "<no value>");
	} else if (json_is_string(v)) {
		buf_put(out, json_string_value(v), json_string_length(v));
	} else if (json_is_object(v) && depth < DEPTH_MAX) {
		const char *sep = "";
		buf_puts(out, "map[");
		json_object_foreach((json_t *)v, key, item)
		{
			buf_printf(out, "%s%s:", sep, key);
			print_value(out, item, depth + 1);
			sep = " ";
		}
		buf_puts(out, "]");
	} else if (json_is_array(v) && depth < DEPTH_MAX) {
		buf_puts(out, "[");
		json_array_foreach((json_t *)v, i, item)
		{
			buf_puts(out, i ? " " : "");
			print_value(out, item, depth + 1);
		}
		buf_puts(out, "]");
	} else {
		json_put(out, v, 0, true, false);
	}
}

static json_t *text_value(struct buf *b)
{
	json_t *j = json_stringn((const char *)(b->data ? b->data : (uint8_t *)""), b->len);

	buf_fini(b);
	return j ? j : json_string("");
}

static char *plain(const json_t *v)
{
	struct buf b = { 0 };

	print_value(&b, v, 0);
	return buf_take_str(&b);
}

static int compare(const json_t *a, const json_t *b)
{
	if (json_is_number(a) && json_is_number(b)) {
		double x = json_number_value(a), y = json_number_value(b);
		return x < y ? -1 : x > y;
	}
	CLEAN_FREE char *x = plain(a);
	CLEAN_FREE char *y = plain(b);
	return strcmp(x, y);
}

static json_t *fn_index(json_t **v, size_t n)
{
	json_t *at = v[0];

	for (size_t i = 1; i < n && at; i++) {
		if (json_is_array(at))
			at = json_is_integer(v[i]) ? json_array_get(at, (size_t)json_integer_value(v[i])) : NULL;
		else
			at = json_is_string(v[i]) ? json_object_get(at, json_string_value(v[i])) : NULL;
	}
	return at ? ref(at) : json_string("");
}

static json_t *fn_join(json_t **v)
{
	struct buf b = { 0 };
	json_t *item;
	size_t i;

	json_array_foreach(v[0], i, item)
	{
		CLEAN_FREE char *text = plain(item);
		if (i)
			buf_puts(&b, json_is_string(v[1]) ? json_string_value(v[1]) : "");
		buf_puts(&b, text);
	}
	return text_value(&b);
}

static json_t *fn_split(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	CLEAN_FREE char *sep = plain(v[1]);
	json_t *out = json_array();
	char *at = text;

	for (char *hit; *sep && (hit = strstr(at, sep)); at = hit + strlen(sep))
		json_array_append_new(out, json_stringn(at, (size_t)(hit - at)));
	json_array_append_new(out, json_string(at));
	return out;
}

static json_t *fn_case(const char *name, const json_t *v)
{
	CLEAN_FREE char *text = plain(v);

	for (char *p = text; *p; p++)
		*p = (char)(name[0] == 'l' ? tolower((unsigned char)*p) : toupper((unsigned char)*p));
	if (name[0] == 't') {
		free(TAKE(text));
		text = plain(v);
		text[0] = (char)toupper((unsigned char)text[0]);
	}
	return json_string(text);
}

static json_t *fn_truncate(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	size_t n = (size_t)json_integer_value(v[1]);

	if (json_is_integer(v[1]) && json_integer_value(v[1]) >= 0 && strlen(text) > n)
		text[n] = 0;
	json_t *out = json_string(text);
	return out ? out : json_string("");
}

static json_t *fn_pad(json_t **v)
{
	CLEAN_FREE char *text = plain(v[0]);
	int64_t before = json_integer_value(v[1]), after = json_integer_value(v[2]);
	struct buf b = { 0 };

	if (*text) {
		before = before < 0 || before > 1000 ? 0 : before;
		after = after < 0 || after > 1000 ? 0 : after;
		buf_printf(&b, "%*s%s%*s", (int)before, "", text, (int)after, "");
	}
	return text_value(&b);
}

/* %s %v %d %q %%, widths and '-' passed on */
static json_t *fn_printf(json_t **v, size_t n)
{
	struct buf b = { 0 };
	size_t arg = 1;
	const char *p = json_is_string(v[0]) ? json_string_value(v[0]) : "";

	for (; *p; p++) {
		if (*p != '%') {
			buf_put(&b, p, 1);
			continue;
		}
		bool left = p[1] == '-';
		int width = (int)strtol(p + 1 + left, (char **)&p, 10);
		if (!*p)
			break;
		if (*p == '%') {
			buf_puts(&b, "%");
			continue;
		}
		CLEAN_FREE char *text = arg < n ? plain(v[arg]) : xstrdup("%!(MISSING)");
		arg++;
		width = width > 1000 ? 1000 : width;
		if (*p == 'q')
			buf_printf(&b, "\"%s\"", text);
		else
			buf_printf(&b, "%*s", left ? -width : width, text);
	}
	return text_value(&b);
}

static json_t *fn_print(json_t **v, size_t n, bool line)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < n; i++) {
		if (line && i)
			buf_puts(&b, " ");
		print_value(&b, v[i], 0);
	}
	if (line)
		buf_puts(&b, "\n");
	return text_value(&b);
}

static json_t *fn_json(const json_t *v)
{
	struct buf b = { 0 };

	if (v)
		json_put(&b, v, 0, false, true);
	else
		buf_puts(&b, "null");
	return text_value(&b);
}

static json_t *fn_len(const json_t *v)
{
	return json_integer((json_int_t)(json_is_array(v)    ? json_array_size(v)
	                                 : json_is_object(v) ? json_object_size(v)
	                                                     : json_string_length(v)));
}

static json_t *fn_compare(const char *name, json_t **v, size_t n)
{
	int c = compare(v[0], v[1]);
	bool yes;

	if (!strcmp(name, "eq")) {
		yes = false;
		for (size_t i = 1; i < n; i++)
			yes |= compare(v[0], v[i]) == 0;
	} else {
		yes = name[0] == 'n'   ? c != 0
		      : name[0] == 'l' ? (name[1] == 't' ? c < 0 : c <= 0)
		      : name[1] == 't' ? c > 0
		                       : c >= 0;
	}
	return json_boolean(yes);
}

static const struct {
	const char *name;
	size_t min, max;
	bool soft; /* absent arguments are false or empty rather than errors */
} functions[] = {
	{ "json", 1, 1, true },      { "index", 1, 9, false },    { "len", 1, 1, true },      { "join", 2, 2, true },
	{ "split", 2, 2, false },    { "upper", 1, 1, false },    { "lower", 1, 1, false },   { "title", 1, 1, false },
	{ "print", 0, 16, false },   { "println", 0, 16, false }, { "printf", 1, 16, false }, { "eq", 2, 9, true },
	{ "ne", 2, 2, true },        { "lt", 2, 2, true },        { "le", 2, 2, true },       { "gt", 2, 2, true },
	{ "ge", 2, 2, true },        { "and", 1, 16, true },      { "or", 1, 16, true },      { "not", 1, 1, true },
	{ "truncate", 2, 2, false }, { "pad", 3, 3, false },
};

static ssize_t function_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(functions); i++)
		if (!strcmp(functions[i].name, name))
			return (ssize_t)i;
	return -1;
}

static json_t *logic(const char *name, json_t **v, size_t n)
{
	size_t i = 0;

	for (; i + 1 < n; i++)
		if (truth(v[i]) == (name[0] == 'o'))
			break;
	return v[i] ? ref(v[i]) : json_false();
}

static json_t *call(const char *name, json_t **v, size_t n)
{
	if (!strcmp(name, "json"))
		return fn_json(v[0]);
	if (!strcmp(name, "index"))
		return fn_index(v, n);
	if (!strcmp(name, "len"))
		return fn_len(v[0]);
	if (!strcmp(name, "join"))
		return fn_join(v);
	if (!strcmp(name, "split"))
		return fn_split(v);
	if (!strcmp(name, "upper") || !strcmp(name, "lower") || !strcmp(name, "title"))
		return fn_case(name, v[0]);
	if (!strcmp(name, "print") || !strcmp(name, "println"))
		return fn_print(v, n, name[5] != 0);
	if (!strcmp(name, "printf"))
		return fn_printf(v, n);
	if (!strcmp(name, "and") || !strcmp(name, "or"))
		return logic(name, v, n);
	if (!strcmp(name, "not"))
		return json_boolean(!truth(v[0]));
	if (!strcmp(name, "truncate"))
		return fn_truncate(v);
	if (!strcmp(name, "pad"))
		return fn_pad(v);
	return fn_compare(name, v, n);
}

static json_t *eval_pipe(struct machine *m, const struct pipe *p, json_t *dot, bool soft, int *rc);

static json_t *eval_expr(struct machine *m, const struct expr *e, json_t *dot, bool soft, int *rc)
{
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
		if (function_find(e->name) < 0)
			*rc = mesh_fail(m->err, MESH_E_INVALID, "template parsing error: function \"%s\" not defined",
			                e->name);
		else if (functions[function_find(e->name)].min)
			*rc = mesh_fail(m->err, MESH_E_INVALID,
			                "template: :1: executing \"\": wrong number of args for %s", e->name);
		else
			base = call(e->name, NULL, 0);
		break;
	}
	return *rc < 0 ? (json_decref(base), NULL) : field(m, base, &e->chain, soft, rc);
}

#define ARGS_MAX 17
static json_t *eval_call(struct machine *m, const struct command_node *c, json_t *dot, json_t *piped, bool has_piped,
                         int *rc)
{
	const char *name = c->args[0].name;
	ssize_t f = function_find(name);
	json_t *v[ARGS_MAX] = { 0 };
	size_t n = 0;
	json_t *out = NULL;

	if (f < 0) {
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template parsing error: function \"%s\" not defined", name);
		return NULL;
	}
	size_t count = c->n - 1 + has_piped;
	if (count < functions[f].min || count > functions[f].max) {
		*rc = mesh_fail(m->err, MESH_E_INVALID, "template: :1: executing \"\": wrong number of args for %s",
		                name);
		return NULL;
	}
	for (size_t i = 1; i < c->n && *rc >= 0; i++)
		v[n++] = eval_expr(m, &c->args[i], dot, functions[f].soft, rc);
	if (has_piped && *rc >= 0)
		v[n++] = ref(piped);
	if (*rc >= 0)
		out = call(name, v, n);
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
		bool lax = soft || (i + 1 < p->n && p->cmds[i + 1].args[0].type == E_FUNC &&
		                    function_find(p->cmds[i + 1].args[0].name) >= 0 &&
		                    functions[function_find(p->cmds[i + 1].args[0].name)].soft);
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

static int run_item(struct machine *m, const struct node *n, json_t *key, json_t *item)
{
	size_t mark = m->nvars;
	int rc = 0;

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

	if (!truth(over))
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
		print_value(m->out, v, 0);
		return 0;
	}
	size_t mark = m->nvars;
	if (n->pipe->var)
		rc = push_var(m, n->pipe->var, v);
	if (!rc)
		rc = run_nodes(m, truth(v) ? n->body : n->other, n->type == N_WITH && truth(v) ? v : dot);
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
	}
	pop_vars(m, mark);
	return rc;
}

int template_run(const char *text, const json_t *value, bool strict, struct buf *out, struct mesh_err *err)
{
	struct parser ps = { .p = text, .err = err };
	struct machine m = { .strict = strict, .out = out, .err = err };
	enum stop stop;
	struct node *tree = parse_list(&ps, &stop);
	int rc = 0;

	if (!ps.bad && stop != STOP_EOF)
		(void)bad(&ps, "unexpected {{%s}}", stop == STOP_END ? "end" : "else");
	if (ps.bad)
		rc = MESH_E_INVALID;
	if (!rc)
		rc = push_var(&m, "", (json_t *)value);
	if (!rc)
		rc = run_nodes(&m, tree, (json_t *)value);
	pop_vars(&m, 0);
	nodes_free(tree);
	return rc;
}
