/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/oci_user.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/mem.h"

#define FIELDS_MAX 7

struct row {
	const char *f[FIELDS_MAX];
	size_t len[FIELDS_MAX], n;
};

/* The next line of a colon separated file; false at its end. */
static bool next_row(const char **p, struct row *r)
{
	if (!*p || !**p)
		return false;
	const char *end = strchrnul(*p, '\n'), *at = *p;
	r->n = 0;
	while (r->n < FIELDS_MAX) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		const char *stop = colon ? colon : end;
		r->f[r->n] = at;
		r->len[r->n++] = (size_t)(stop - at);
		if (!colon)
			break;
		at = colon + 1;
	}
	*p = *end ? end + 1 : end;
	return true;
}

static bool number(const char *s, size_t n, uint32_t *out)
{
	uint64_t v = 0;
	if (!n || n > 10)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(s[i] - '0');
	}
	*out = (uint32_t)v;
	return v < UINT32_MAX;
}

static bool is(const struct row *r, size_t i, const char *s, size_t n)
{
	return i < r->n && r->len[i] == n && !memcmp(r->f[i], s, n);
}

static void add_group(struct oci_user *u, uint32_t gid)
{
	for (size_t i = 0; i < u->n; i++)
		if (u->groups[i] == gid)
			return;
	if (u->n < OCI_GROUPS_MAX)
		u->groups[u->n++] = gid;
}

static int find_user(const char *name, size_t n, const char *passwd, struct oci_user *u, struct row *out,
                     struct mesh_err *err)
{
	uint32_t uid = 0, v;
	bool numeric = number(name, n, &uid);
	out->n = 0;
	for (struct row r; next_row(&passwd, &r);) {
		if (r.n < 4 || !number(r.f[2], r.len[2], &v) || !(is(&r, 0, name, n) || (numeric && v == uid)))
			continue;
		u->uid = v;
		if (!number(r.f[3], r.len[3], &u->gid))
			u->gid = 0;
		if (r.n > 5 && r.len[5] && r.len[5] < sizeof(u->home)) {
			memcpy(u->home, r.f[5], r.len[5]);
			u->home[r.len[5]] = 0;
		}
		*out = r;
		return 0;
	}
	if (!numeric)
		return mesh_fail(err, MESH_E_INVALID, "unable to find user %.*s: no matching entries in passwd file",
		                 (int)(n < 100 ? n : 100), name);
	u->uid = uid;
	return 0;
}

static int find_group(const char *name, size_t n, const char *group, uint32_t *gid, struct mesh_err *err)
{
	if (number(name, n, gid))
		return 0;
	for (struct row r; next_row(&group, &r);)
		if (r.n >= 3 && is(&r, 0, name, n) && number(r.f[2], r.len[2], gid))
			return 0;
	return mesh_fail(err, MESH_E_INVALID, "unable to find group %.*s: no matching entries in group file",
	                 (int)(n < 100 ? n : 100), name);
}

/* Is name one of the comma separated members? */
static bool member(const struct row *r, const char *name, size_t n)
{
	if (r->n < 4 || !n)
		return false;
	const char *p = r->f[3], *end = p + r->len[3];
	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *stop = comma ? comma : end;
		if ((size_t)(stop - p) == n && !memcmp(p, name, n))
			return true;
		p = stop + 1;
	}
	return false;
}

int oci_user_resolve(const char *user, const struct str_list *extra, const char *passwd, const char *group,
                     struct oci_user *u, struct mesh_err *err)
{
	*u = (struct oci_user){ .home = "/" };
	user = user && *user ? user : "0";
	const char *colon = strchr(user, ':');
	struct row row = { 0 };
	int rc = find_user(user, colon ? (size_t)(colon - user) : strlen(user), passwd, u, &row, err);
	if (rc)
		return rc;
	if (colon && colon[1]) {
		rc = find_group(colon + 1, strlen(colon + 1), group, &u->gid, err);
		if (rc)
			return rc;
	} else if (row.n) {
		const char *g = group;
		uint32_t gid;
		for (struct row r; next_row(&g, &r);)
			if (r.n >= 3 && number(r.f[2], r.len[2], &gid) && member(&r, row.f[0], row.len[0]))
				add_group(u, gid);
	}
	for (size_t i = 0; extra && i < extra->n; i++) {
		uint32_t gid;
		rc = find_group(extra->v[i], strlen(extra->v[i]), group, &gid, err);
		if (rc)
			return rc;
		add_group(u, gid);
	}
	return 0;
}

char *oci_read_in_root(const char *root, const char *path)
{
	CLEAN_CLOSE int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return NULL;
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_IN_ROOT };
	CLEAN_CLOSE int fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
	struct stat st;
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > (1 << 20))
		return NULL;
	char *text = xcalloc(1, (size_t)st.st_size + 1);
	ssize_t n = read(fd, text, (size_t)st.st_size);
	text[n > 0 ? n : 0] = 0;
	return text;
}
