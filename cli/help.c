/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/command.h"

static const char *arg_name(const struct flag *f)
{
	static const char *const by_type[] = { "",      "string",   "list",  "int",    "uint",
		                               "float", "duration", "bytes", "decimal" };

	return f->arg ? f->arg : by_type[f->type];
}

static void print_flags(const struct flag *flags, size_t n, const char *title)
{
	int width = 0;

	for (size_t i = 0; i < n; i++) {
		int w = (int)(strlen(flags[i].name) + strlen(arg_name(&flags[i])) + 1);
		if (w > width)
			width = w;
	}
	printf("\n%s:\n", title);
	for (size_t i = 0; i < n; i++) {
		const struct flag *f = &flags[i];
		char left[96];
		snprintf(left, sizeof(left), "%s %s", f->name, arg_name(f));
		if (f->sh)
			printf("  -%c, --%-*s   %s", f->sh, width, left, f->help);
		else
			printf("      --%-*s   %s", width, left, f->help);
		if (f->def && *f->def)
			printf(f->type == F_STR ? " (default \"%s\")" : " (default %s)", f->def);
		printf("\n");
	}
}

static void print_subs(const struct command *cmd)
{
	int width = 0;

	for (const struct command *const *s = cmd->subs; *s; s++)
		if (!(*s)->hidden && (int)strlen((*s)->name) > width)
			width = (int)strlen((*s)->name);
	/* At the top, groups of objects and plain verbs are listed apart. */
	for (int groups = 1; groups >= 0; groups--) {
		bool any = false;
		for (const struct command *const *s = cmd->subs; *s; s++) {
			if ((*s)->hidden || ((*s)->subs != NULL) != groups)
				continue;
			if (!any)
				printf("\n%s:\n", groups ? "Management commands" : "Commands");
			any = true;
			printf("  %-*s   %s\n", width, (*s)->name, (*s)->summary);
		}
	}
}

void help_print(const struct command *cmd, const char *path)
{
	if (cmd->subs)
		printf("Usage:  %s COMMAND\n", path);
	else
		printf("Usage:  %s%s%s%s\n", path, cmd->nflags ? " [OPTIONS]" : "", cmd->usage ? " " : "",
		       cmd->usage ? cmd->usage : "");
	printf("\n%s\n", cmd->summary);
	if (cmd->more)
		printf("\n%s\n", cmd->more);
	if (cmd->alias) {
		const char *last = strrchr(path, ' ');
		printf("\nAliases:\n  %s, %.*s %s\n", path, last ? (int)(last - path) : 0, path, cmd->alias);
	}
	if (cmd->subs)
		print_subs(cmd);
	if (cmd->nflags)
		print_flags(cmd->flags, cmd->nflags, "Options");
	if (cmd == &cmd_root)
		print_flags(global_flags, global_nflags, "Global options");
	if (cmd->example)
		printf("\nExample:\n%s\n", cmd->example);
	if (cmd->subs)
		printf("\nRun '%s COMMAND --help' for more about a command.\n", path);
}

/* Damerau-Levenshtein (one row would do without transpositions; words are short). */
static int distance(const char *a, const char *b)
{
	enum { N = 40 };
	int d[N + 1][N + 1];
	int n = (int)strlen(a), m = (int)strlen(b);

	if (n > N || m > N)
		return N;
	for (int i = 0; i <= n; i++)
		d[i][0] = i;
	for (int j = 0; j <= m; j++)
		d[0][j] = j;
	for (int i = 1; i <= n; i++)
		for (int j = 1; j <= m; j++) {
			int v = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			if (d[i - 1][j] + 1 < v)
				v = d[i - 1][j] + 1;
			if (d[i][j - 1] + 1 < v)
				v = d[i][j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < v)
				v = d[i - 2][j - 2] + 1;
			d[i][j] = v;
		}
	return d[n][m];
}

const char *suggest(const char *word, const char *const *names, size_t n)
{
	const char *best = NULL;
	int best_d = 3;

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(word);
		int d = distance(word, names[i]);
		if (len >= 2 && !strncmp(word, names[i], len))
			d = 1;
		if (d < best_d && d < (int)strlen(names[i])) {
			best = names[i];
			best_d = d;
		}
	}
	return best;
}
