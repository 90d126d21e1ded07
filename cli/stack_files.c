/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The compose files of a command: read, merged, and shown by stack config. */
#include "cli/stack_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/stack.h"

static const char *env_get(void *arg, const char *name)
{
	(void)arg;
	return getenv(name);
}

static int read_fd(int fd, size_t max, struct buf *out)
{
	ssize_t n;

	while ((n = read(fd, buf_reserve(out, 65536), 65536)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		out->len += (size_t)n;
		if (out->len > max)
			return -EFBIG;
	}
	return 0;
}

static int read_path(void *arg, const char *path, size_t max, struct buf *out, struct mesh_err *err)
{
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	(void)arg;
	if (fd < 0)
		return mesh_fail(err, -errno, "open %.300s", path);
	if (fstat(fd, &st) == 0 && !S_ISREG(st.st_mode))
		return mesh_fail(err, MESH_E_INVALID, "open %.300s: not a regular file", path);
	int rc = read_fd(fd, max, out);
	if (rc == -EFBIG)
		return mesh_fail(err, MESH_E_INVALID, "open %.300s: larger than %zu KiB", path, max / 1024);
	return rc < 0 ? mesh_fail(err, rc, "read %.300s", path) : 0;
}

void stack_files_fini(struct stack_files *in)
{
	for (size_t i = 0; i < in->files.len; i++) {
		free((char *)in->files.data[i].name);
		free((char *)in->files.data[i].text);
	}
	vec_fini(&in->files);
	compose_fini(&in->compose);
}

static int add(struct stack_files *in, const char *name, struct mesh_err *err)
{
	struct buf text = { 0 };
	int rc;

	if (!strcmp(name, "-"))
		rc = read_fd(0, COMPOSE_MAX_FILE, &text);
	else
		rc = read_path(NULL, name, COMPOSE_MAX_FILE, &text, err);
	if (rc == -EFBIG)
		rc = mesh_fail(err, MESH_E_INVALID, "the stack file is larger than %u MiB", COMPOSE_MAX_FILE >> 20);
	else if (rc < 0 && !strcmp(name, "-"))
		rc = mesh_fail(err, rc, "standard input");
	if (rc < 0) {
		buf_fini(&text);
		return rc;
	}
	struct compose_file f = { .name = xstrdup(strcmp(name, "-") ? name : "stdin"), .len = text.len };
	f.text = buf_take_str(&text);
	vec_push(&in->files, f);
	return 0;
}

static int find_workdir(struct stack_files *in, const char *first, struct mesh_err *err)
{
	CLEAN_FREE char *dir = strcmp(first, "-") && strrchr(first, '/')
	                               ? xstrndup(first, (size_t)(strrchr(first, '/') - first + 1))
	                               : xstrdup(".");

	if (!realpath(dir, in->workdir))
		return mesh_fail(err, -errno, "%.300s", dir);
	return 0;
}

/* -c a.yml -c b.yml, or -c a.yml,b.yml */
int stack_files_load(struct cli *c, struct stack_files *in, bool raw, struct mesh_err *err)
{
	const struct str_list *given = flag_list(c, "compose-file");
	int rc = given->n ? 0 : mesh_fail(err, MESH_E_INVALID, "specify a Compose file (with --compose-file)");

	for (size_t i = 0; i < given->n && !rc; i++) {
		CLEAN_FREE char *names = xstrdup(given->v[i]);
		char *save = NULL;
		for (char *name = strtok_r(names, ",", &save); name && !rc; name = strtok_r(NULL, ",", &save)) {
			if (!in->files.len)
				rc = find_workdir(in, name, err);
			if (!rc)
				rc = add(in, name, err);
		}
	}
	in->opts = (struct compose_opts){
		.env = { env_get, NULL }, .read = read_path, .workdir = in->workdir, .home = getenv("HOME"), .raw = raw
	};
	return rc < 0 ? rc : compose_load(&in->compose, in->files.data, in->files.len, &in->opts, err);
}

void stack_print_warnings(struct compose *compose)
{
	for (size_t i = 0; i < compose->warnings.n; i++)
		fprintf(stderr, "warning: %s\n", compose->warnings.v[i]);
	strs_clear(&compose->warnings);
	fflush(stderr);
}

static int run_config(struct cli *c, struct mesh_err *err)
{
	struct stack_files in = { 0 };
	struct buf out = { 0 };
	int rc = stack_files_load(c, &in, flag_bool(c, "skip-interpolation"), err);

	if (!rc) {
		stack_print_warnings(&in.compose);
		compose_emit(&in.compose, &out);
		fwrite(out.data, 1, out.len, stdout);
	}
	buf_fini(&out);
	stack_files_fini(&in);
	return rc;
}

static const struct flag config_flags[] = {
	{ "compose-file", 'c', F_LIST, "strings", NULL, "Path to a Compose file, or \"-\" to read from stdin" },
	{ "skip-interpolation", 0, F_BOOL, NULL, NULL, "Skip interpolation and output only merged config" },
};

const struct command stack_config_command = {
	.name = "config",
	.summary = "Outputs the final config file, after doing merges and interpolations",
	FLAGS(config_flags),
	.run = run_config,
	.local = true,
	.example = "  meshctl stack config -c shop.yml -c production.yml",
};
