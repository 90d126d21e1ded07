/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/api.h"
#include "cli/command.h"
#include "cli/commands.h"

static const struct command *const roots[] = {
	CLI_COMMANDS,
	NULL,
};

const struct command cmd_root = {
	.name = "meshctl",
	.summary = "Run containers on several machines as on one",
	.more = "Talks to meshd, or to any Docker Engine in Swarm mode, at -H, $MESH_HOST, $DOCKER_HOST\n"
		"or unix:///run/mesh/mesh.sock.",
	.subs = roots,
	.example = "  meshctl swarm init\n"
		   "  meshctl service create --name web --replicas 3 --publish 8080:80 nginx\n"
		   "  meshctl service ps web\n"
		   "  meshctl lab up          # try it: a three-node cluster on this machine",
};

static int print_version(void)
{
	printf("meshctl version " MESH_VERSION "\n");
	return 0;
}

static const char *default_host(void)
{
	const char *env = getenv("MESH_HOST");

	if (!env || !*env)
		env = getenv("DOCKER_HOST");
	return env && *env ? env : "unix:///run/mesh/mesh.sock";
}

static int run(struct cli *c, int argc, char **argv, struct mesh_err *err)
{
	bool help;
	int rc = args_parse(c, argc, argv, &help, err);

	if (rc < 0)
		return rc;
	if (help || c->cmd->subs) {
		help_print(c->cmd, c->path);
		return 0;
	}
	/* What is sent is JSON; what the lab runs is whatever the shell said. */
	for (int i = 1; i < argc && !c->cmd->local; i++)
		if (!json_text_ok(argv[i]))
			return mesh_fail(err, MESH_E_INVALID, "argument %d is not UTF-8", i);
	return c->cmd->run(c, err);
}

int main(int argc, char **argv)
{
	struct mesh_err err = { 0 };
	struct cli c = { .host = xstrdup(default_host()) };
	int rc;

	signal(SIGPIPE, SIG_DFL);
	if (argc == 2 && (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-v"))) {
		free(c.host);
		return print_version();
	}
	if (argc >= 2 && !strcmp(argv[1], "__complete"))
		rc = complete_words(&c, argc - 2, argv + 2);
	else
		rc = run(&c, argc, argv, &err);
	fflush(stdout);
	if (rc < 0) {
		fprintf(stderr, "%s\n", mesh_err_text(&err, rc));
		rc = rc == MESH_E_USAGE ? 125 : 1;
	}
	args_clear(&c);
	http_free(c.http);
	free(c.host);
	return rc;
}
