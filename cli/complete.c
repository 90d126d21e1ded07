/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Completion: the scripts only hand the words over to "meshctl __complete"; what fits comes from the same
 * table that parses them, and names of objects from the daemon.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/command.h"

static void offer(const char *word, const char *prefix, const char *text)
{
	if (!strncmp(word, prefix, strlen(prefix)))
		printf(text ? "%s\t%s\n" : "%s\n", word, text);
}

/* Where the names of a kind are asked for; at most a second, and silence when nobody answers. */
static const struct {
	const char *kind, *path, *name;
} kinds[] = {
	{ "service", "/services", "Spec.Name" },   { "node", "/nodes", "Description.Hostname" },
	{ "network", "/networks", "Name" },        { "secret", "/secrets", "Spec.Name" },
	{ "config", "/configs", "Spec.Name" },     { "volume", "/volumes", "Name" },
	{ "container", "/containers/json", NULL }, { "image", "/images/json", NULL },
};

static void offer_list(const json_t *list, const char *prefix)
{
	json_t *v;
	size_t i;

	json_array_foreach((json_t *)list, i, v)
	{
		const char *s = json_string_value(v);
		if (s)
			offer(*s == '/' ? s + 1 : s, prefix, NULL);
	}
}

static void offer_objects(struct cli *c, const char *kind, const char *prefix)
{
	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++) {
		JSON_CLEAN list = NULL;
		json_t *o;
		size_t i;
		if (strcmp(kinds[k].kind, kind))
			continue;
		c->http = http_new(c->host);
		c->api_minor = 44;
		struct http_request req = { .method = "GET", .path = kinds[k].path, .timeout_ms = 1000 };
		if (api_call(c, &req, &list, NULL) < 0)
			return;
		json_t *items = json_is_object(list) ? jo(list, "Volumes") : list;
		json_array_foreach(items, i, o)
		{
			if (kinds[k].name)
				offer(js(o, kinds[k].name), prefix, NULL);
			else
				offer_list(jo(o, kind[0] == 'c' ? "Names" : "RepoTags"), prefix);
		}
	}
}

static void offer_kind(struct cli *c, const char *comp, const char *prefix)
{
	char word[64];

	if (!strchr(comp, ' ')) {
		offer_objects(c, comp, prefix);
		return;
	}
	for (const char *p = comp; *p;) {
		size_t n = strcspn(p, " ");
		snprintf(word, sizeof(word), "%.*s", (int)n, p);
		offer(word, prefix, NULL);
		p += n + (p[n] == ' ');
	}
}

static const struct flag *flag_of(const struct command *cmd, const char *word)
{
	for (size_t i = 0; i < cmd->nflags; i++) {
		const struct flag *f = &cmd->flags[i];
		if ((!strncmp(word, "--", 2) && !strcmp(word + 2, f->name)) ||
		    (word[0] == '-' && word[1] && !word[2] && word[1] == f->sh))
			return f;
	}
	for (size_t i = 0; i < global_nflags; i++)
		if ((word[0] == '-' && word[1] == global_flags[i].sh && !word[2]) ||
		    (!strncmp(word, "--", 2) && !strcmp(word + 2, global_flags[i].name)))
			return &global_flags[i];
	return NULL;
}

static void offer_flags(const struct command *cmd, const char *prefix)
{
	char word[80];

	for (size_t i = 0; i < cmd->nflags; i++) {
		snprintf(word, sizeof(word), "--%s", cmd->flags[i].name);
		offer(word, prefix, cmd->flags[i].help);
	}
	offer("--help", prefix, "Show help");
}

/* argv: the words after "meshctl", the last one being typed. */
int complete_words(struct cli *c, int argc, char **argv)
{
	const struct command *cmd = &cmd_root;
	const char *last = argc ? argv[argc - 1] : "";
	const struct flag *want = NULL;

	c->cmd = &cmd_root;
	for (int i = 0; i + 1 < argc; i++) {
		if (want) {
			if (want == &global_flags[0]) {
				free(c->host);
				c->host = xstrdup(argv[i]);
			}
			want = NULL;
			continue;
		}
		if (argv[i][0] == '-') {
			const struct flag *f = strchr(argv[i], '=') ? NULL : flag_of(cmd, argv[i]);
			want = f && f->type != F_BOOL ? f : NULL;
		} else if (cmd->subs) {
			const struct command *sub = command_find(cmd, argv[i]);
			if (!sub)
				return 0;
			cmd = sub;
		} else if (cmd->verbatim) {
			return 0;
		}
	}
	if (want) {
		if (want->comp)
			offer_kind(c, want->comp, last);
	} else if (last[0] == '-') {
		offer_flags(cmd, last);
	} else if (cmd->subs) {
		for (const struct command *const *s = cmd->subs; *s; s++)
			if (!(*s)->hidden)
				offer((*s)->name, last, (*s)->summary);
	} else if (cmd->comp) {
		offer_kind(c, cmd->comp, last);
	}
	return 0;
}

const char *complete_script(const char *shell)
{
	if (!strcmp(shell, "bash"))
		return "# bash completion for meshctl\n"
		       "_meshctl() {\n"
		       "	local IFS=$'\\n' cur=${COMP_WORDS[COMP_CWORD]}\n"
		       "	COMPREPLY=($(meshctl __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null | cut "
		       "-f1))\n"
		       "	[[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- \"$cur\"))\n"
		       "}\n"
		       "complete -F _meshctl meshctl\n";
	if (!strcmp(shell, "zsh"))
		return "#compdef meshctl\n"
		       "_meshctl() {\n"
		       "	local -a found\n"
		       "	found=(${(f)\"$(meshctl __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null | sed "
		       "'s/:/\\\\:/g;s/\\t/:/')\"})\n"
		       "	if (( ${#found} )); then _describe meshctl found; else _files; fi\n"
		       "}\n"
		       "compdef _meshctl meshctl\n";
	if (!strcmp(shell, "fish"))
		return "# fish completion for meshctl\n"
		       "function __meshctl_complete\n"
		       "	set -l words (commandline -opc)\n"
		       "	meshctl __complete $words[2..-1] (commandline -ct) 2>/dev/null\n"
		       "end\n"
		       "complete -c meshctl -f -a '(__meshctl_complete)'\n";
	return NULL;
}
