/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/lab/lab.h"

void lab_netns(const struct lab *l, int node, char *out)
{
	if (node > 0)
		snprintf(out, LAB_STR, "mesh-%s-n%d", l->name, node);
	else
		snprintf(out, LAB_STR, "mesh-%s-%s", l->name, node ? "sw" : "client");
}

void lab_cgroup(const struct lab *l, int node, char *out)
{
	snprintf(out, LAB_STR, "mesh-%s-n%d", l->name, node);
}

void lab_address(const struct lab *l, int node, char *out)
{
	snprintf(out, LAB_STR, "172.31.%d.%d", l->index, 10 + node);
}

void lab_run_dir(const struct lab *l, int node, char *out)
{
	if (node)
		snprintf(out, LAB_STR, LAB_RUN "/%s/n%d", l->name, node);
	else
		snprintf(out, LAB_STR, LAB_RUN "/%s", l->name);
}

void lab_state_dir(const struct lab *l, int node, char *out)
{
	if (node)
		snprintf(out, LAB_STR, LAB_STATE "/%s/n%d", l->name, node);
	else
		snprintf(out, LAB_STR, LAB_STATE "/%s", l->name);
}

void lab_socket(const struct lab *l, int node, char *out)
{
	snprintf(out, LAB_STR, LAB_RUN "/%s/n%d.sock", l->name, node);
}

bool lab_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (!n || n > LAB_NAME_MAX || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!islower((unsigned char)name[i]) && !isdigit((unsigned char)name[i]) && name[i] != '-')
			return false;
	return true;
}

const char *lab_data_plane(const char *text, int node)
{
	static const char *const drivers[] = { "auto", "ebpf", "nft" };
	char name[16];
	const char *found = NULL, *p = text, *all = "auto";

	/* "nft" for all, "n2=nft" for one; the last that fits wins. */
	while (*p) {
		size_t n = strcspn(p, ","), k = strcspn(p, "=,");
		bool one = k < n;
		const char *d = one ? p + k + 1 : p;
		found = NULL;
		for (size_t i = 0; i < sizeof(drivers) / sizeof(*drivers); i++)
			if (strlen(drivers[i]) == (size_t)(p + n - d) && !strncmp(drivers[i], d, (size_t)(p + n - d)))
				found = drivers[i];
		snprintf(name, sizeof(name), "n%d", node);
		if (!found || (one && (p[0] != 'n' || strspn(p + 1, "0123456789") != k - 1 || k < 2)))
			return NULL;
		if (!one || (strlen(name) == k && !strncmp(name, p, k)))
			all = found;
		p += n + (p[n] == ',');
	}
	return all;
}

static void config_path(const char *name, char *out)
{
	snprintf(out, LAB_STR, LAB_RUN "/%s/lab.json", name);
}

int lab_load(const char *name, struct lab *l, struct mesh_err *err)
{
	char path[LAB_STR];
	json_error_t je;

	if (!lab_name_valid(name))
		return mesh_fail(err, MESH_E_INVALID, "'%s' cannot name a lab: use a-z, 0-9 and -, at most %d", name,
		                 LAB_NAME_MAX);
	config_path(name, path);
	json_t *j = json_load_file(path, 0, &je);
	const char *plane = "";
	int ready, init, xdp = 0;
	*l = (struct lab){ 0 };
	snprintf(l->name, sizeof(l->name), "%s", name);
	if (!j && access(path, F_OK) < 0)
		return mesh_fail(err, MESH_E_NOT_FOUND, "there is no lab '%s': make it with 'meshctl lab up --name %s'",
		                 name, name);
	if (!j ||
	    json_unpack(j, "{s:i,s:i,s:i,s:b,s:b,s?b,s?s}", "index", &l->index, "nodes", &l->nodes, "managers",
	                &l->managers, "ready", &ready, "init", &init, "xdp", &xdp, "data_plane", &plane) < 0 ||
	    l->nodes < 0 || l->nodes > LAB_NODES_MAX) {
		json_decref(j);
		return mesh_fail(err, MESH_E_CORRUPT, "%s is damaged: 'meshctl lab down --name %s' removes the lab",
		                 path, name);
	}
	l->ready = ready;
	l->init = init;
	l->xdp = xdp;
	snprintf(l->data_plane, sizeof(l->data_plane), "%s", plane);
	json_decref(j);
	return 0;
}

int lab_save(const struct lab *l, struct mesh_err *err)
{
	char path[LAB_STR], tmp[LAB_STR + 8];
	json_t *j =
		json_pack("{s:i,s:i,s:i,s:b,s:b,s:b,s:s}", "index", l->index, "nodes", l->nodes, "managers",
	                  l->managers, "ready", l->ready, "init", l->init, "xdp", l->xdp, "data_plane", l->data_plane);

	config_path(l->name, path);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	int rc = json_dump_file(j, tmp, 0) < 0 || rename(tmp, path) < 0 ? -errno : 0;
	json_decref(j);
	return rc < 0 ? mesh_fail(err, rc, "%s", path) : 0;
}

void lab_names(struct str_list *out)
{
	DIR *d = opendir(LAB_RUN);

	for (struct dirent *e; d && (e = readdir(d));) {
		char path[LAB_STR];
		if (!lab_name_valid(e->d_name))
			continue;
		config_path(e->d_name, path);
		if (access(path, F_OK) == 0)
			strs_add(out, e->d_name);
	}
	if (d)
		closedir(d);
}

int lab_mkdirs(const char *path, struct mesh_err *err)
{
	CLEAN_FREE char *p = xstrdup(path);

	for (char *at = p + 1;; at++) {
		if (*at && *at != '/')
			continue;
		char was = *at;
		*at = 0;
		if (mkdir(p, 0755) < 0 && errno != EEXIST)
			return mesh_fail(err, -errno, "making %s", p);
		*at = was;
		if (!was)
			return 0;
	}
}

int lab_lock(struct mesh_err *err)
{
	for (;;) {
		struct stat held, now;
		int rc = lab_mkdirs(LAB_RUN, err);
		if (rc < 0)
			return rc;
		/* The directory itself is the lock, so that no lock file is left behind. */
		CLEAN_CLOSE int fd = open(LAB_RUN, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 && errno == ENOENT)
			continue;
		if (fd < 0)
			return mesh_fail(err, -errno, "%s", LAB_RUN);
		if (flock(fd, LOCK_EX) < 0)
			return mesh_fail(err, -errno, "locking %s", LAB_RUN);
		/* It may have been removed and made again while we waited. */
		if (!fstat(fd, &held) && !stat(LAB_RUN, &now) && held.st_ino == now.st_ino && held.st_dev == now.st_dev)
			return TAKE_FD(fd);
	}
}

/* Marks every 172.31.x.0/24 that a route of the host reaches other than by its default route. */
static void mark_routes(bool *used)
{
	FILE *f = fopen("/proc/net/route", "re");
	char line[256];
	unsigned dst, mask;

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %x %*x %*x %*d %*d %*d %x", &dst, &mask) != 2 || !mask)
			continue;
		dst = ntohl(dst);
		mask = ntohl(mask);
		for (unsigned i = 0; i < 256; i++) {
			unsigned net = 172u << 24 | 31u << 16 | i << 8;
			unsigned common = mask & 0xffffff00u;
			if ((net & common) == (dst & common))
				used[i] = true;
		}
	}
	if (f)
		fclose(f);
}

int lab_choose_index(struct mesh_err *err)
{
	bool used[256] = { 0 };
	struct str_list names = { 0 };

	mark_routes(used);
	lab_names(&names);
	for (size_t i = 0; i < names.n; i++) {
		struct lab other;
		if (lab_load(names.v[i], &other, NULL) == 0 && other.index >= 0 && other.index < 256)
			used[other.index] = true;
	}
	strs_clear(&names);
	for (int i = 0; i < 256; i++)
		if (!used[i])
			return i;
	return mesh_fail(err, MESH_E_EXHAUSTED, "no free subnet in 172.31.0.0/16: take a lab down first");
}
