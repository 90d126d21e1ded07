/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Taking a lab down must work from any half-made or half-broken state, and leave nothing. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/map.h"
#include "base/mem.h"
#include "cli/lab/lab.h"
#include "cli/units.h"

#define STOP_WAIT_S 5
#define CGROOT "/sys/fs/cgroup"

static void pause_ms(long ms)
{
	const struct timespec ts = { .tv_nsec = ms * 1000000 };

	nanosleep(&ts, NULL);
}

/* mesh-<name>-nK, -sw or -client: does entry belong to this lab and no other? */
static bool ours(const char *entry, const char *name)
{
	size_t n = strlen(name);

	if (strncmp(entry, "mesh-", 5) || strncmp(entry + 5, name, n) || entry[5 + n] != '-')
		return false;
	const char *rest = entry + 6 + n;
	if (!strcmp(rest, "sw") || !strcmp(rest, "client"))
		return true;
	return rest[0] == 'n' && rest[1] && strspn(rest + 1, "0123456789") == strlen(rest + 1);
}

static void list_ours(const char *dir, const char *name, struct str_list *out)
{
	DIR *d = opendir(dir);

	for (struct dirent *e; d && (e = readdir(d));) {
		if (!ours(e->d_name, name))
			continue;
		CLEAN_FREE char *path = xasprintf("%s/%s", dir, e->d_name);
		strs_add(out, path);
	}
	if (d)
		closedir(d);
}

/* The lab's directories in every hierarchy: pure v2 has one, hybrid machines a dozen. */
static void list_cgroups(const char *name, struct str_list *out)
{
	DIR *d = opendir(CGROOT);

	list_ours(CGROOT, name, out);
	for (struct dirent *e; d && (e = readdir(d));) {
		if (e->d_name[0] == '.' || e->d_type != DT_DIR)
			continue;
		CLEAN_FREE char *path = xasprintf(CGROOT "/%s", e->d_name);
		list_ours(path, name, out);
	}
	if (d)
		closedir(d);
}

struct pids VEC(pid_t);

static void read_procs(const char *path, struct pids *out)
{
	CLEAN_FREE char *file = xasprintf("%s/cgroup.procs", path);
	FILE *f = fopen(file, "re");
	int pid;

	while (f && fscanf(f, "%d", &pid) == 1)
		if (pid > 0)
			vec_push(out, pid);
	if (f)
		fclose(f);
}

static struct pids *walk_pids;
static int walk_visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_D)
		read_procs(path, walk_pids);
	return 0;
}

/* Every process of every cgroup of the lab, threads of the tree included. */
static void cgroup_pids(const struct str_list *groups, struct pids *out)
{
	walk_pids = out;
	for (size_t i = 0; i < groups->n; i++)
		(void)nftw(groups->v[i], walk_visit, 16, FTW_PHYS); /* a directory that went is what we want */
}

static bool ns_of(const char *pid, const char *ns, struct stat *st)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%.20s/ns/%s", pid, ns);
	return stat(path, st) == 0;
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev;
}

static bool cmdline_mentions(const char *pid, const char *const *needles)
{
	char path[64], text[8192];

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	for (ssize_t i = 0; i < n; i++)
		if (!text[i])
			text[i] = ' ';
	if (n <= 0)
		return false;
	text[n] = 0;
	for (; *needles; needles++)
		if (strstr(text, *needles))
			return true;
	return false;
}

/*
 * Processes a cgroup does not show: those in the lab's network namespaces, and helpers of a node (task
 * shims), known by the node's directories on their command line and by mounts that are not ours. The
 * second condition spares somebody's "tail -f" of the log.
 */
static void other_pids(const char *name, const struct str_list *netns, struct pids *out)
{
	CLEAN_FREE char *run = xasprintf(LAB_RUN "/%s/", name);
	CLEAN_FREE char *state = xasprintf(LAB_STATE "/%s/", name);
	const char *const needles[] = { run, state, NULL };
	struct stat *spaces = xcalloc(netns->n + 1, sizeof(*spaces));
	struct stat my_mnt, st;
	DIR *d = opendir("/proc");

	for (size_t i = 0; i < netns->n; i++)
		if (stat(netns->v[i], &spaces[i]) < 0)
			spaces[i].st_ino = 0;
	if (stat("/proc/self/ns/mnt", &my_mnt) < 0)
		memset(&my_mnt, 0, sizeof(my_mnt));
	for (struct dirent *e; d && (e = readdir(d));) {
		if (!isdigit((unsigned char)e->d_name[0]) || atoi(e->d_name) == getpid())
			continue;
		bool in_net = false;
		if (ns_of(e->d_name, "net", &st))
			for (size_t i = 0; i < netns->n; i++)
				in_net |= spaces[i].st_ino && same_inode(&st, &spaces[i]);
		if (in_net ||
		    (ns_of(e->d_name, "mnt", &st) && !same_inode(&st, &my_mnt) && cmdline_mentions(e->d_name, needles)))
			vec_push(out, atoi(e->d_name));
	}
	if (d)
		closedir(d);
	free(spaces);
}

static bool still_ours(pid_t pid, const struct pids *before)
{
	for (size_t i = 0; i < before->len; i++)
		if (before->data[i] == pid)
			return true;
	return false;
}

static void collect(const char *name, const struct str_list *groups, const struct str_list *netns, struct pids *out)
{
	cgroup_pids(groups, out);
	other_pids(name, netns, out);
}

static void kill_groups(const struct str_list *groups)
{
	for (size_t i = 0; i < groups->n; i++) {
		CLEAN_FREE char *file = xasprintf("%s/cgroup.kill", groups->v[i]);
		CLEAN_CLOSE int fd = open(file, O_WRONLY | O_CLOEXEC);
		if (fd >= 0 && write(fd, "1", 1) < 0)
			fprintf(stderr, "%s: %s\n", file, strerror(errno));
	}
}

/* Kills one round; returns how many there were. */
static size_t kill_round(const char *name, const struct str_list *groups, const struct str_list *netns)
{
	struct pids found = { 0 }, again = { 0 };
	int fds[256];
	size_t n = 0;

	kill_groups(groups);
	collect(name, groups, netns, &found);
	for (size_t i = 0; i < found.len && n < ARRAY_SIZE(fds); i++) {
		int fd = (int)syscall(SYS_pidfd_open, found.data[i], 0);
		if (fd >= 0)
			fds[n++] = fd;
		else
			found.data[i] = -1;
	}
	/* With the processes held, look again: only those that are still the lab's are killed. */
	collect(name, groups, netns, &again);
	size_t at = 0;
	for (size_t i = 0; i < found.len && at < n; i++) {
		if (found.data[i] < 0)
			continue;
		if (still_ours(found.data[i], &again))
			(void)syscall(SYS_pidfd_send_signal, fds[at], SIGKILL, NULL, 0);
		at++;
	}
	for (size_t i = 0; i < n; i++) {
		struct pollfd p = { .fd = fds[i], .events = POLLIN };
		(void)poll(&p, 1, 2000);
		close(fds[i]);
	}
	size_t count = again.len;
	vec_fini(&found);
	vec_fini(&again);
	return count;
}

static int kill_all(const char *name, const struct str_list *groups, const struct str_list *netns, struct mesh_err *err)
{
	for (int round = 0; round < 200; round++) {
		if (!kill_round(name, groups, netns))
			return 0;
		pause_ms(round < 20 ? 5 : 50);
	}
	return mesh_fail(err, MESH_E_TIMEOUT, "processes of lab '%s' do not die", name);
}

/* The mount points below a directory, deepest last as mountinfo lists them; \040 stays as it is. */
static void list_mounts(const char *below, struct str_list *out)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[4096], at[2048];
	size_t n = strlen(below);

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%*d %*d %*s %*s %2047s", at) == 1 && !strncmp(at, below, n) &&
		    (at[n] == '/' || !at[n]))
			strs_add(out, at);
	if (f)
		fclose(f);
}

static int unmount_below(const char *dir, struct mesh_err *err)
{
	struct str_list mounts = { 0 };
	int rc = 0;

	list_mounts(dir, &mounts);
	for (size_t i = mounts.n; i-- > 0 && !rc;)
		if (umount2(mounts.v[i], 0) < 0 && umount2(mounts.v[i], MNT_DETACH) < 0 && errno != EINVAL)
			rc = mesh_fail(err, -errno, "unmounting %s", mounts.v[i]);
	strs_clear(&mounts);
	return rc;
}

static int remove_visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	int rc = type == FTW_DP || type == FTW_D || type == FTW_DNR ? rmdir(path) : unlink(path);

	return rc < 0 && errno != ENOENT ? errno : 0;
}

static int remove_tree(const char *path, struct mesh_err *err)
{
	if (access(path, F_OK) < 0)
		return 0;
	/* FTW_MOUNT: never step into something mounted that would not go away. */
	int rc = nftw(path, remove_visit, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (rc > 0)
		return mesh_fail(err, -rc, "removing %s", path);
	return rc < 0 && errno != ENOENT ? mesh_fail(err, -errno, "removing %s", path) : 0;
}

static int rmdir_visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_DP)
		(void)rmdir(path); /* busy ones are tried again by the caller */
	return 0;
}

static int remove_cgroups(const char *name, const struct str_list *groups, struct mesh_err *err)
{
	const char *left = NULL;

	/* A group stays busy a moment after its last process went. */
	for (int round = 0; round < 400; round++) {
		left = NULL;
		for (size_t i = 0; i < groups->n; i++) {
			(void)nftw(groups->v[i], rmdir_visit, 16, FTW_DEPTH | FTW_PHYS);
			if (access(groups->v[i], F_OK) == 0)
				left = groups->v[i];
		}
		if (!left)
			return 0;
		pause_ms(10);
	}
	return mesh_fail(err, -EBUSY, "lab '%s': removing %s", name, left);
}

static int remove_netns(const struct str_list *netns, struct mesh_err *err)
{
	for (size_t i = 0; i < netns->n; i++) {
		(void)umount2(netns->v[i], MNT_DETACH); /* a leftover file is no mount: unlinked below */
		if (unlink(netns->v[i]) < 0 && errno != ENOENT)
			return mesh_fail(err, -errno, "removing %s", netns->v[i]);
	}
	return 0;
}

static void first_error(int *rc, struct mesh_err *err, int now, const struct mesh_err *why)
{
	if (now < 0 && !*rc) {
		*rc = now;
		if (err)
			*err = *why;
	}
}

/* All at once; what has not gone after a few seconds is killed with the rest. */
static void stop_daemons(const struct lab *l)
{
	struct pollfd fds[LAB_NODES_MAX];
	int64_t deadline = now_ns() + STOP_WAIT_S * NS_PER_S;
	size_t n = 0;

	for (int k = 1; k <= LAB_NODES_MAX; k++) {
		pid_t pid = lab_daemon_pid(l, k);
		int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
		if (fd < 0)
			continue;
		/* Held now: is it still the one the pid file meant? */
		if (lab_daemon_pid(l, k) == pid)
			(void)syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0);
		fds[n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
	}
	for (size_t i = 0; i < n; i++) {
		int64_t left = (deadline - now_ns()) / 1000000;
		(void)poll(&fds[i], 1, left > 0 ? (int)left : 0);
		close(fds[i].fd);
	}
}

int lab_sweep(const char *name, struct mesh_err *err)
{
	struct str_list groups = { 0 }, netns = { 0 };
	struct lab l = { 0 };
	struct mesh_err why = { 0 };
	char run[LAB_STR], state[LAB_STR];
	int rc = 0;

	snprintf(l.name, sizeof(l.name), "%s", name);
	lab_run_dir(&l, 0, run);
	lab_state_dir(&l, 0, state);
	stop_daemons(&l);
	list_cgroups(name, &groups);
	list_ours("/run/netns", name, &netns);
	/* Every step is tried whatever became of the one before; the first failure is told. */
	first_error(&rc, err, kill_all(name, &groups, &netns, &why), &why);
	first_error(&rc, err, unmount_below(run, &why), &why);
	first_error(&rc, err, unmount_below(state, &why), &why);
	first_error(&rc, err, remove_netns(&netns, &why), &why);
	first_error(&rc, err, remove_cgroups(name, &groups, &why), &why);
	first_error(&rc, err, remove_tree(state, &why), &why);
	if (!rc) /* last, so that an interrupted "down" can be repeated */
		first_error(&rc, err, remove_tree(run, &why), &why);
	lab_netns_dir_restore();
	(void)rmdir(LAB_STATE); /* only when nothing else is there */
	(void)rmdir(LAB_RUN);
	strs_clear(&groups);
	strs_clear(&netns);
	return rc;
}
