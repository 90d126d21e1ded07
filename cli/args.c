/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/command.h"
#include "cli/units.h"

const struct flag global_flags[] = {
	{ "host", 'H', F_STR, "string", NULL, "Daemon socket to talk to: unix:///path or tcp://host:port" },
	{ "debug", 'D', F_BOOL, NULL, NULL, "Show the requests that are made" },
};
const size_t global_nflags = ARRAY_SIZE(global_flags);

static bool name_matches(const struct command *cmd, const char *name)
{
	return !strcmp(cmd->name, name) || (cmd->alias && !strcmp(cmd->alias, name));
}

const struct command *command_find(const struct command *in, const char *name)
{
	for (const struct command *const *s = in->subs; s && *s; s++)
		if (name_matches(*s, name))
			return *s;
	return NULL;
}

static int usage_fail(struct cli *c, struct mesh_err *err, const char *fmt, ...) MESH_PRINTF(3, 4);
static int usage_fail(struct cli *c, struct mesh_err *err, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return mesh_fail(err, MESH_E_USAGE, "%s\nSee '%s --help'.", text, c->path);
}

static int unknown_command(struct cli *c, const struct command *at, const char *word, struct mesh_err *err)
{
	const char *names[96];
	size_t n = 0;

	for (const struct command *const *s = at->subs; *s && n < ARRAY_SIZE(names); s++)
		if (!(*s)->hidden)
			names[n++] = (*s)->name;
	const char *near = suggest(word, names, n);
	if (near)
		(void)usage_fail(c, err, "'%s' is not a %s command. Did you mean '%s'?", word, c->path, near);
	else
		(void)usage_fail(c, err, "'%s' is not a %s command.", word, c->path);
	err->code = MESH_E_INVALID; /* docker: 1 for a wrong command, 125 for a wrong flag */
	return MESH_E_INVALID;
}

static ssize_t flag_index(const struct command *cmd, const char *name, size_t len)
{
	for (size_t i = 0; i < cmd->nflags; i++)
		if (strlen(cmd->flags[i].name) == len && !strncmp(cmd->flags[i].name, name, len))
			return (ssize_t)i;
	return -1;
}

static ssize_t flag_short_index(const struct command *cmd, char sh)
{
	for (size_t i = 0; i < cmd->nflags; i++)
		if (cmd->flags[i].sh == sh)
			return (ssize_t)i;
	return -1;
}

/* Says what is wrong with a value before anything is done with it. */
static int value_check(const struct flag *f, const char *text, struct mesh_err *err)
{
	int64_t v;
	double d;
	char *end;

	switch (f->type) {
	case F_BOOL:
		return parse_bool(text) < 0 ? mesh_fail(err, MESH_E_INVALID, "not true or false") : 0;
	case F_INT:
	case F_UINT:
		errno = 0;
		v = strtoll(text, &end, 0);
		if (end == text || *end || errno)
			return mesh_fail(err, MESH_E_INVALID, "not a whole number");
		if (f->type == F_UINT && v < 0)
			return mesh_fail(err, MESH_E_INVALID, "must not be negative");
		return 0;
	case F_FLOAT:
		d = strtod(text, &end);
		(void)d;
		return end == text || *end ? mesh_fail(err, MESH_E_INVALID, "not a number") : 0;
	case F_DURATION:
		return parse_duration(text, &v, err);
	case F_BYTES:
		return parse_bytes(text, &v, err);
	case F_CPUS:
		return parse_nano_cpus(text, &v, err);
	default:
		return 0;
	}
}

static int flag_store(struct cli *c, const struct flag *f, struct flag_value *val, const char *text, const char *typed,
                      struct mesh_err *err)
{
	struct mesh_err why = { 0 };

	if (value_check(f, text, &why) < 0)
		return usage_fail(c, err, "invalid argument \"%s\" for \"%s\" flag: %s", text, typed, why.msg);
	val->set = true;
	strs_add(&val->text, text);
	return 0;
}

struct cursor {
	int i, argc;
	char **argv;
};

static int global_set(struct cli *c, const struct flag *f, const char *text)
{
	if (f->sh == 'H') {
		free(c->host);
		c->host = xstrdup(text);
	} else {
		c->debug = parse_bool(text) > 0;
	}
	return 0;
}

static int long_flag(struct cli *c, struct cursor *cur, struct mesh_err *err)
{
	const char *word = cur->argv[cur->i] + 2;
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	ssize_t at = c->cmd ? flag_index(c->cmd, word, len) : -1;
	const struct flag *f = at >= 0 ? &c->cmd->flags[at] : NULL;
	char typed[80];

	for (size_t i = 0; !f && i < global_nflags; i++)
		if (strlen(global_flags[i].name) == len && !strncmp(global_flags[i].name, word, len))
			f = &global_flags[i];
	snprintf(typed, sizeof(typed), "--%.*s", (int)len, word);
	if (!f)
		return usage_fail(c, err, "unknown flag: %s", typed);
	const char *text = eq ? eq + 1 : "true";
	if (!eq && f->type != F_BOOL) {
		if (++cur->i >= cur->argc)
			return usage_fail(c, err, "flag needs an argument: %s", typed);
		text = cur->argv[cur->i];
	}
	return at < 0 ? global_set(c, f, text) : flag_store(c, f, &c->vals[at], text, typed, err);
}

/* -itv, -n5, -n 5, -n=5 */
static int short_flags(struct cli *c, struct cursor *cur, bool *help, struct mesh_err *err)
{
	const char *p = cur->argv[cur->i] + 1;

	for (; *p; p++) {
		ssize_t at = flag_short_index(c->cmd, *p);
		const struct flag *f = at >= 0 ? &c->cmd->flags[at] : NULL;
		char typed[96];
		int rc;

		for (size_t i = 0; !f && i < global_nflags; i++)
			if (global_flags[i].sh == *p)
				f = &global_flags[i];
		if (!f && *p == 'h') {
			*help = true;
			continue;
		}
		if (!f)
			return usage_fail(c, err, "unknown shorthand flag: '%c' in -%s", *p, cur->argv[cur->i] + 1);
		if (f->sh && at >= 0)
			snprintf(typed, sizeof(typed), "-%c, --%s", *p, f->name);
		else
			snprintf(typed, sizeof(typed), "-%c", *p);
		const char *text = "true";
		bool rest = false;
		if (f->type != F_BOOL) {
			rest = true;
			if (p[1])
				text = p[1] == '=' ? p + 2 : p + 1;
			else if (++cur->i < cur->argc)
				text = cur->argv[cur->i];
			else
				return usage_fail(c, err, "flag needs an argument: '%c' in -%c", *p, *p);
		} else if (p[1] == '=') {
			rest = true;
			text = p + 2;
		}
		rc = at < 0 ? global_set(c, f, text) : flag_store(c, f, &c->vals[at], text, typed, err);
		if (rc < 0 || rest)
			return rc;
	}
	return 0;
}

static int arity_check(struct cli *c, struct mesh_err *err)
{
	const struct command *cmd = c->cmd;
	const char *how = NULL;
	int n = cmd->min;

	if (cmd->min == cmd->max && c->nargs != cmd->min) {
		if (!cmd->min)
			return usage_fail(c, err, "'%s' accepts no arguments", c->path);
		how = "requires exactly";
	} else if (c->nargs < cmd->min) {
		how = "requires at least";
	} else if (cmd->max >= 0 && c->nargs > cmd->max) {
		how = "accepts at most";
		n = cmd->max;
	}
	if (!how)
		return 0;
	int rc = mesh_fail(err, MESH_E_USAGE, "'%s' %s %d argument%s\nUsage: %s %s\nSee '%s --help'.", c->path, how, n,
	                   n == 1 ? "" : "s", c->path, cmd->usage ? cmd->usage : "", c->path);
	/* docker: wrong arity is 1, wrong flags are 125 */
	err->code = MESH_E_INVALID;
	(void)rc;
	return MESH_E_INVALID;
}

int args_parse(struct cli *c, int argc, char **argv, bool *help, struct mesh_err *err)
{
	struct cursor cur = { .i = 1, .argc = argc, .argv = argv };
	bool only_args = false;

	*help = false;
	c->cmd = &cmd_root;
	snprintf(c->path, sizeof(c->path), "%s", cmd_root.name);
	c->args = xcalloc((size_t)argc + 1, sizeof(*c->args));
	c->vals = xcalloc(c->cmd->nflags + 1, sizeof(*c->vals));
	for (; cur.i < argc; cur.i++) {
		char *word = argv[cur.i];
		int rc = 0;

		if (!only_args && !strcmp(word, "--")) {
			only_args = true;
			/* exec-like commands keep everything after their first argument */
			if (c->cmd->verbatim && c->nargs > 0)
				c->args[c->nargs++] = word;
		} else if (!only_args && !strcmp(word, "--help")) {
			*help = true;
		} else if (!only_args && !strncmp(word, "--", 2)) {
			rc = long_flag(c, &cur, err);
		} else if (!only_args && word[0] == '-' && word[1]) {
			rc = short_flags(c, &cur, help, err);
		} else if (c->cmd->subs) {
			const struct command *sub = command_find(c->cmd, word);
			if (!sub)
				return *help ? 0 : unknown_command(c, c->cmd, word, err);
			args_clear(c);
			c->cmd = sub;
			c->vals = xcalloc(sub->nflags + 1, sizeof(*c->vals));
			c->args = xcalloc((size_t)argc + 1, sizeof(*c->args));
			snprintf(c->path + strlen(c->path), sizeof(c->path) - strlen(c->path), " %s", sub->name);
		} else {
			c->args[c->nargs++] = word;
			only_args |= c->cmd->verbatim;
		}
		if (rc < 0)
			return rc;
	}
	if (*help)
		return 0;
	return c->cmd->subs ? 0 : arity_check(c, err);
}

void args_clear(struct cli *c)
{
	for (size_t i = 0; c->vals && i < c->cmd->nflags; i++)
		strs_clear(&c->vals[i].text);
	free(c->vals);
	free(c->args);
	c->vals = NULL;
	c->args = NULL;
	c->nargs = 0;
}

bool flag_known(const struct cli *c, const char *name)
{
	return flag_index(c->cmd, name, strlen(name)) >= 0;
}

static const struct flag_value *value_of(const struct cli *c, const char *name, const struct flag **f)
{
	ssize_t at = flag_index(c->cmd, name, strlen(name));

	assert(at >= 0);
	*f = &c->cmd->flags[at];
	return &c->vals[at];
}

bool flag_given(const struct cli *c, const char *name)
{
	const struct flag *f;

	return flag_known(c, name) && value_of(c, name, &f)->set;
}

const char *flag_str(const struct cli *c, const char *name)
{
	const struct flag *f;
	const struct flag_value *v = value_of(c, name, &f);

	if (v->set)
		return v->text.v[v->text.n - 1];
	return f->def ? f->def : "";
}

const struct str_list *flag_list(const struct cli *c, const char *name)
{
	static const struct str_list none;
	const struct flag *f;

	return flag_known(c, name) ? &value_of(c, name, &f)->text : &none;
}

bool flag_bool(const struct cli *c, const char *name)
{
	return parse_bool(flag_str(c, name)) > 0;
}

int64_t flag_int(const struct cli *c, const char *name)
{
	const struct flag *f;
	int64_t v = 0;
	const char *text = flag_str(c, name);

	(void)value_of(c, name, &f);
	if (!*text)
		return 0;
	/* Values were checked when they were parsed; defaults come from our own tables. */
	if (f->type == F_DURATION)
		(void)(parse_duration(text, &v, NULL) < 0);
	else if (f->type == F_BYTES)
		(void)(parse_bytes(text, &v, NULL) < 0);
	else if (f->type == F_CPUS)
		(void)(parse_nano_cpus(text, &v, NULL) < 0);
	else
		v = strtoll(text, NULL, 0);
	return v;
}

double flag_float(const struct cli *c, const char *name)
{
	return strtod(flag_str(c, name), NULL);
}
