/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/agent_int.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

extern char **environ;

int run_quiet(const char *const *argv)
{
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	for (int fd = 0; fd < 3; fd++)
		posix_spawn_file_actions_addopen(&fa, fd, "/dev/null", O_RDWR, 0);
	pid_t pid;
	int rc = posix_spawnp(&pid, argv[0], &fa, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (rc)
		return -rc;
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool lock_held(const char *dir)
{
	CLEAN_FREE char *path = xasprintf("%s/lock", dir);
	CLEAN_CLOSE int fd = open(path, O_RDWR | O_CLOEXEC);
	return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK;
}

void orphan_clean(const struct agent *a, const char *dir, const char *cg, const char *id)
{
	(void)dir;
	if (cgroup_kill_wait(&a->cg, cg, 10000))
		log_warn("cgroup of a dead supervisor does not empty cgroup=%s", cg);
	int rc = run_quiet((const char *[]){ a->runtime, "--root", a->crun_root, "delete", "-f", id, NULL });
	if (rc)
		log_debug("runtime delete failed container=%s rc=%d", id, rc);
	cgroup_remove(&a->cg, cg);
}

static bool dir_empty(const char *path)
{
	DIR *d = opendir(path);
	int n = 0;
	while (d && n < 3 && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n < 3;
}

/* A volume that is empty starts with what the image has there, as docker does. */
static int copy_up(const struct prep *p, const struct oci_copy *c, struct mesh_err *err)
{
	if (!dir_empty(c->path))
		return 0;
	CLEAN_CLOSE int root = open(p->lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
	CLEAN_CLOSE int fd = root < 0 ? -1 : (int)syscall(SYS_openat2, root, c->target, &how, sizeof(how));
	struct stat st;
	if (fd < 0 || fstat(fd, &st))
		return 0; /* the image has nothing there */
	CLEAN_FREE char *from = xasprintf("/proc/%d/fd/%d/.", getpid(), fd);
	if (chown(c->path, st.st_uid, st.st_gid) || chmod(c->path, st.st_mode & 07777))
		return mesh_fail(err, -errno, "%s", c->path);
	int rc = run_quiet((const char *[]){ "cp", "-a", "--", from, c->path, NULL });
	return rc ? mesh_fail(err, MESH_E_RUNTIME, "volume %s: copy from the image failed (cp: %d)", c->path, rc) : 0;
}

static int small_files(const struct prep *p, struct mesh_err *err)
{
	const struct oci_out *o = &p->out;
	CLEAN_FREE char *name = xasprintf("%s\n", o->hostname);
	const struct {
		const char *file, *text;
		unsigned mode;
	} files[] = {
		{ "config.json", o->json, 0600 },
		{ "hosts", o->hosts, 0644 },
		{ "resolv.conf", o->resolv, 0644 },
		{ "hostname", name, 0644 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		CLEAN_FREE char *path = xasprintf("%s/%s", p->dir, files[i].file);
		int rc = fs_write(path, files[i].text, strlen(files[i].text), files[i].mode, FS_CACHED, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int dirs(const struct prep *p, struct mesh_err *err)
{
	static const char *const subs[] = { "upper", "work", "rootfs", "files" };
	struct stat st;
	if (stat(p->lower, &st))
		return mesh_fail(err, -errno, "image %s", p->lower);
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		CLEAN_FREE char *path = xasprintf("%s/%s", p->dir, subs[i]);
		if (mkdir(path, 0755) && errno != EEXIST)
			return mesh_fail(err, -errno, "%s", path);
		/* The container's "/" is the upper directory. */
		if (i == 0 && (chown(path, st.st_uid, st.st_gid) || chmod(path, st.st_mode & 07777)))
			return mesh_fail(err, -errno, "%s", path);
	}
	for (size_t i = 0; i < p->out.mkdirs.n; i++) {
		int rc = fs_make_dirs(p->out.mkdirs.v[i], 0755, err);
		if (rc)
			return rc;
	}
	for (size_t i = 0; i < p->out.sources.n; i++)
		if (stat(p->out.sources.v[i], &st))
			return mesh_fail(err, MESH_E_INVALID,
			                 "invalid mount config for type \"bind\": bind source path does not exist: %s",
			                 p->out.sources.v[i]);
	return 0;
}

void prep_run(struct prep *p)
{
	p->rc = dirs(p, &p->err);
	if (!p->rc)
		p->rc = small_files(p, &p->err);
	for (size_t i = 0; i < p->out.copies.n && !p->rc; i++)
		p->rc = copy_up(p, &p->out.copies.v[i], &p->err);
	/* A cgroup with somebody in it would give the container two inits. */
	int one;
	if (!p->rc && cgroup_pids(p->host, p->cg, &one, 1) && cgroup_kill_wait(p->host, p->cg, 10000))
		p->rc = mesh_fail(&p->err, -EBUSY, "cgroup %s", p->cg);
}

char *text_read(const char *dir, const char *file)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", dir, file);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[1024];
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
	return n > 0 ? xstrndup(text, (size_t)n) : NULL;
}
