// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Attaching: links pinned below link_dir, of tcx where the kernel has it (6.6) and of XDP; else, and for task interfaces,
 * a direct-action filter on clsact with a handle of ours. Either way a second attach swaps the program atomically.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"
#include "sock.skel.h"

/* From linux/bpf.h 6.6; our headers may be older than our kernel. */
#define TCX_INGRESS ((enum bpf_attach_type)46)
#define TCX_EGRESS ((enum bpf_attach_type)47)
enum { FILTER_HANDLE = 0x6d65, FILTER_PRIORITY = 0x6d65 };

static const char *const prog_names[PROG_MAX] = { "uplink", "lo", "vxlan", "task", "xdp" };

static char *link_path(const struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	return xasprintf("%s/%s_%u", e->link_dir, prog_names[p], ifindex);
}

/* Device a tcx link sits on; 0 when the device is gone. xdp's ifindex is at the place of tcx's. */
static unsigned link_ifindex(int fd)
{
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	return bpf_obj_get_info_by_fd(fd, &info, &len) ? 0 : info.xdp.ifindex;
}

static int create_link(const struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	LIBBPF_OPTS(bpf_link_create_opts, native, .flags = XDP_FLAGS_DRV_MODE);

	if (p == PROG_XDP)
		return bpf_link_create(e->prog_fd[p], (int)ifindex, BPF_XDP, &native);
	return bpf_link_create(e->prog_fd[p], (int)ifindex, p == PROG_LO ? TCX_EGRESS : TCX_INGRESS, NULL);
}

static int attach_link(struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	CLEAN_FREE char *path = link_path(e, p, ifindex);
	CLEAN_CLOSE int fd = bpf_obj_get(path);

	if (fd >= 0) {
		if (link_ifindex(fd) == ifindex && bpf_link_update(fd, e->prog_fd[p], NULL) == 0)
			return 0;
		unlink(path);
		close(TAKE_FD(fd));
	}
	fd = create_link(e, p, ifindex);
	if (fd < 0)
		return -errno;
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

static struct bpf_tc_hook hook_of(enum ebpf_prog p, unsigned ifindex)
{
	return (struct bpf_tc_hook){ .sz = sizeof(struct bpf_tc_hook),
		                     .ifindex = (int)ifindex,
		                     .attach_point = p == PROG_LO ? BPF_TC_EGRESS : BPF_TC_INGRESS };
}

static int attach_clsact(struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	struct bpf_tc_hook hook = hook_of(p, ifindex);
	struct bpf_tc_opts opts = { .sz = sizeof(opts),
		                    .prog_fd = e->prog_fd[p],
		                    .flags = BPF_TC_F_REPLACE,
		                    .handle = FILTER_HANDLE,
		                    .priority = FILTER_PRIORITY };
	int rc = bpf_tc_hook_create(&hook);

	if (rc && rc != -EEXIST)
		return rc;
	return bpf_tc_attach(&hook, &opts);
}

static void detach_clsact(enum ebpf_prog p, unsigned ifindex)
{
	struct bpf_tc_hook hook = hook_of(p, ifindex);
	struct bpf_tc_opts opts = { .sz = sizeof(opts), .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY };

	/* Fails when there is none, which is what we want. */
	(void)bpf_tc_detach(&hook, &opts);
}

static struct attachment *attachment_of(struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	for (size_t i = 0; i < e->attached.len; i++)
		if (e->attached.data[i].prog == p && e->attached.data[i].ifindex == ifindex)
			return &e->attached.data[i];
	return NULL;
}

/*
 * A tcx link waits for an RCU grace period when it is made and when it goes: 15 ms each, against 1.5 ms for a filter.
 * Task interfaces come and go by the dozen and live on devices of ours, so they take the filter.
 */
static bool by_link(const struct ebpf *e, enum ebpf_prog p)
{
	return p == PROG_XDP || (e->use_tcx && p != PROG_TASK);
}

bool ebpf_has_tcx(const struct ebpf *e)
{
	return e->use_tcx;
}

int ebpf_attach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex, struct mesh_err *err)
{
	struct attachment *a = attachment_of(e, p, ifindex);
	int rc = -EINVAL;

	if (a && a->pass == e->pass)
		return 0;
	if (by_link(e, p)) {
		rc = attach_link(e, p, ifindex);
		if (rc == -EINVAL && p != PROG_XDP)
			e->use_tcx = false;
	}
	if (!by_link(e, p))
		rc = attach_clsact(e, p, ifindex);
	if (rc)
		return mesh_fail(err, rc, "attaching the %s program to device %u", prog_names[p], ifindex);
	if (a) {
		a->pass = e->pass;
	} else {
		struct attachment n = { .pass = e->pass, .ifindex = ifindex, .prog = p };
		vec_push(&e->attached, n);
	}
	return 0;
}

void ebpf_detach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex)
{
	CLEAN_FREE char *path = link_path(e, p, ifindex);
	struct attachment *a = attachment_of(e, p, ifindex);

	if (unlink(path) && !by_link(e, p))
		detach_clsact(p, ifindex);
	if (a)
		vec_remove(&e->attached, (size_t)(a - e->attached.data));
}

static int attach_sock(struct ebpf *e, int cgroup, uint64_t cgroup_id, const struct bpf_program *prog)
{
	CLEAN_FREE char *path = xasprintf("%s/%s", e->link_dir, bpf_program__name(prog));
	CLEAN_CLOSE int fd = bpf_obj_get(path);
	struct bpf_link_info info = {};
	uint32_t len = sizeof(info);

	if (fd >= 0) {
		if (!bpf_obj_get_info_by_fd(fd, &info, &len) && info.cgroup.cgroup_id == cgroup_id &&
		    !bpf_link_update(fd, programs_fd(e, prog), NULL))
			return 0;
		unlink(path);
		close(TAKE_FD(fd));
	}
	fd = bpf_link_create(programs_fd(e, prog), cgroup, bpf_program__expected_attach_type(prog), NULL);
	if (fd < 0)
		return -errno;
	return bpf_obj_pin(fd, path) ? -errno : 0;
}

int ebpf_attach_socks(struct ebpf *e, const char *cgroup, struct mesh_err *err)
{
	CLEAN_CLOSE int fd = open(cgroup, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct bpf_program *prog;
	struct stat st;

	if (fd < 0 || fstat(fd, &st))
		return mesh_fail(err, -errno, "cgroup '%s'", cgroup);
	bpf_object__for_each_program(prog, e->sock->obj)
	{
		int rc = attach_sock(e, fd, st.st_ino, prog);
		if (rc)
			return mesh_fail(err, rc, "attaching %s to cgroup '%s'", bpf_program__name(prog), cgroup);
	}
	return 0;
}

/* Pinned links of earlier runs that nobody attached again; sock_* are always ours to keep. */
static void sweep_links(struct ebpf *e)
{
	DIR *d = opendir(e->link_dir);

	if (!d)
		return;
	for (struct dirent *de; (de = readdir(d));) {
		unsigned ifindex;
		for (int p = 0; p < PROG_MAX; p++) {
			size_t n = strlen(prog_names[p]);
			if (strncmp(de->d_name, prog_names[p], n) || de->d_name[n] != '_' ||
			    sscanf(de->d_name + n + 1, "%u", &ifindex) != 1)
				continue;
			if (!attachment_of(e, p, ifindex))
				unlinkat(dirfd(d), de->d_name, 0);
		}
	}
	closedir(d);
}

/* Filters have no pins: ask every device for one with our handle. */
static void sweep_filters(struct ebpf *e)
{
	struct if_nameindex *all = if_nameindex();

	for (struct if_nameindex *i = all; i && i->if_index; i++) {
		struct bpf_tc_opts opts = { .sz = sizeof(opts), .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY };
		struct bpf_tc_hook in = hook_of(PROG_TASK, i->if_index), out = hook_of(PROG_LO, i->if_index);
		bool wanted = false;
		for (size_t a = 0; a < e->attached.len; a++)
			wanted |= e->attached.data[a].ifindex == i->if_index && !by_link(e, e->attached.data[a].prog);
		if (wanted)
			continue;
		if (bpf_tc_query(&in, &opts) == 0)
			detach_clsact(PROG_TASK, i->if_index);
		opts = (struct bpf_tc_opts){ .sz = sizeof(opts), .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY };
		if (bpf_tc_query(&out, &opts) == 0)
			detach_clsact(PROG_LO, i->if_index);
	}
	if_freenameindex(all);
}

void ebpf_remove_dir(const char *dir)
{
	DIR *d = opendir(dir);

	if (!d)
		return;
	for (struct dirent *de; (de = readdir(d));)
		if (de->d_name[0] != '.')
			unlinkat(dirfd(d), de->d_name, 0);
	closedir(d);
	rmdir(dir);
}

/* Maps of other layouts: nothing runs on them once everything is attached again. */
static void sweep_maps(struct ebpf *e, bool all)
{
	DIR *d = opendir(e->pin_dir);

	for (struct dirent *de; d && (de = readdir(d));) {
		CLEAN_FREE char *path = xasprintf("%s/%s", e->pin_dir, de->d_name);
		if (strncmp(de->d_name, "maps", 4) == 0 && (all || !streq(path, e->map_dir)))
			ebpf_remove_dir(path);
	}
	if (d)
		closedir(d);
}

void ebpf_sweep_attached(struct ebpf *e)
{
	for (size_t i = e->attached.len; i-- > 0;)
		if (e->attached.data[i].pass != e->pass)
			ebpf_detach_prog(e, e->attached.data[i].prog, e->attached.data[i].ifindex);
	sweep_links(e);
	sweep_filters(e);
	sweep_maps(e, false);
}

void ebpf_detach_all(struct ebpf *e)
{
	e->attached.len = 0;
	sweep_filters(e);
	ebpf_remove_dir(e->link_dir);
	sweep_maps(e, true);
	rmdir(e->pin_dir);
}

/* ---- every hook at once ---- */

struct hook {
	enum ebpf_prog prog;
	unsigned ifindex;
	int link_fd, prog_fd; /* link_fd -1: a filter */
};
struct hooks VEC(struct hook);

/* The kernel cuts names: "from_uplink_han". */
static enum ebpf_prog prog_kind(int fd)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len) || strncmp(info.name, "from_", 5) != 0)
		return PROG_MAX;
	for (int p = 0; p < PROG_MAX; p++)
		if (strncmp(info.name + 5, prog_names[p], strlen(prog_names[p])) == 0)
			return p;
	return PROG_MAX;
}

static void add_hook(struct hooks *all, unsigned ifindex, int link_fd, uint32_t prog_id)
{
	struct hook h = { .ifindex = ifindex, .link_fd = link_fd, .prog_fd = bpf_prog_get_fd_by_id(prog_id) };

	h.prog = h.prog_fd < 0 ? PROG_MAX : prog_kind(h.prog_fd);
	vec_push(all, h);
}

static void find_links(struct ebpf *e, struct hooks *all)
{
	DIR *d = opendir(e->link_dir);

	for (struct dirent *de; d && (de = readdir(d));) {
		CLEAN_FREE char *path = xasprintf("%s/%s", e->link_dir, de->d_name);
		struct bpf_link_info info = {};
		uint32_t len = sizeof(info);
		int fd = de->d_name[0] == '.' || strncmp(de->d_name, "sock", 4) == 0 ? -1 : bpf_obj_get(path);
		if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.xdp.ifindex)
			add_hook(all, info.xdp.ifindex, fd, info.prog_id);
		else if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
}

static void find_filters(struct hooks *all)
{
	static const enum ebpf_prog sides[] = { PROG_TASK, PROG_LO }; /* ingress, egress */
	struct if_nameindex *ifs = if_nameindex();

	for (struct if_nameindex *i = ifs; i && i->if_index; i++)
		for (size_t s = 0; s < ARRAY_SIZE(sides); s++) {
			struct bpf_tc_opts opts = { .sz = sizeof(opts),
				                    .handle = FILTER_HANDLE,
				                    .priority = FILTER_PRIORITY };
			struct bpf_tc_hook hook = hook_of(sides[s], i->if_index);
			if (bpf_tc_query(&hook, &opts) == 0)
				add_hook(all, i->if_index, -1, opts.prog_id);
		}
	if_freenameindex(ifs);
}

/* XDP passes everything from now on, to those who know the phase. */
static bool silence_xdp(const struct ebpf *h, const struct hook *k)
{
	int fd = h->prog_fd[PROG_XDP];

	return (fd >= 0 ? bpf_link_update(k->link_fd, fd, NULL) : bpf_link_detach(k->link_fd)) == 0;
}

bool ebpf_swap_hooks(struct ebpf *h)
{
	struct hooks all = { 0 };
	bool held[PROG_MAX] = { 0 }, ok = true;
	uint32_t zero = 0;

	find_links(h, &all);
	find_filters(&all);
	for (size_t i = 0; i < all.len; i++) {
		struct hook *k = &all.data[i];
		if (k->prog == PROG_XDP)
			ok = silence_xdp(h, k) && ok;
		else if (k->prog < PROG_MAX && !held[k->prog])
			held[k->prog] = !bpf_map_update_elem(h->before_fd[k->prog], &zero, &k->prog_fd, BPF_ANY);
	}
	for (size_t i = 0; i < all.len; i++) {
		struct hook *k = &all.data[i];
		if (k->prog < PROG_XDP) {
			int rc = k->link_fd >= 0 ? bpf_link_update(k->link_fd, h->prog_fd[k->prog], NULL)
			                         : attach_clsact(h, k->prog, k->ifindex);
			ok = ok && held[k->prog] && !rc;
		}
		if (k->link_fd >= 0)
			close(k->link_fd);
		if (k->prog_fd >= 0)
			close(k->prog_fd);
	}
	vec_fini(&all);
	return ok;
}
