/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: a daemon that starts again runs the programs that are there, if they are its own and run on its maps. */
#ifndef TESTS_BPF_KEPT_H
#define TESTS_BPF_KEPT_H

#include <dirent.h>

#include "tests/bpf/programs/node.h"

static uint32_t prog_id(const struct ebpf *x, enum ebpf_prog p)
{
	struct bpf_prog_info info = {};
	uint32_t len = sizeof(info);

	assert_int_equal(bpf_obj_get_info_by_fd(x->prog_fd[p], &info, &len), 0);
	return info.id;
}

struct loaded {
	uint32_t id[PROG_MAX];
};

/* A daemon's start and end; what ran. */
static struct loaded start_and_end(const struct ebpf_config *c)
{
	struct loaded l;
	struct ebpf *x;

	OK(ebpf_open(c, &x, &err));
	for (int p = 0; p < PROG_MAX; p++)
		l.id[p] = prog_id(x, p);
	ebpf_close(x);
	return l;
}

/* Removes the pins whose names end so, or counts them. */
static unsigned pins(const char *dir, const char *end, bool remove)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *de; (de = readdir(d));) {
		size_t len = strlen(de->d_name);
		if (len < strlen(end) || !streq(de->d_name + len - strlen(end), end))
			continue;
		n++;
		assert_true(!remove || !unlinkat(dirfd(d), de->d_name, 0));
	}
	closedir(d);
	return n;
}

static void programs_outlive_the_daemon(void **state)
{
	CLEAN_FREE char *pin = xasprintf("%s/kept", bpffs);
	struct ebpf_config c = config_of(pin);
	CLEAN_FREE char *maps = ebpf_map_dir(&c);

	(void)state;
	struct loaded first = start_and_end(&c), again = start_and_end(&c);
	assert_memory_equal(&first, &again, sizeof(first));

	/* Another configuration is another program, and nothing of the one before stays. */
	c.udp_csum = !c.udp_csum;
	struct loaded other = start_and_end(&c);
	for (int p = 0; p < PROG_MAX; p++)
		assert_int_not_equal(other.id[p], first.id[p]);
	assert_int_equal(pins(maps, "_from_uplink", false), 1);
	assert_int_equal(pins(maps, "_from_uplink_bpf_bss", false), 1);

	/* One is missing: its object is loaded, others go on. */
	assert_int_equal(pins(maps, "_from_task", true), 1);
	again = start_and_end(&c);
	assert_int_not_equal(again.id[PROG_TASK], other.id[PROG_TASK]);
	assert_int_equal(again.id[PROG_UPLINK], other.id[PROG_UPLINK]);

	/* A table was taken away: who runs on the old one is of no use. */
	assert_int_equal(pins(maps, "endpoints", true), 1);
	other = start_and_end(&c);
	assert_int_not_equal(other.id[PROG_TASK], again.id[PROG_TASK]);
	assert_int_not_equal(other.id[PROG_UPLINK], again.id[PROG_UPLINK]);
	again = start_and_end(&c);
	assert_memory_equal(&other, &again, sizeof(other));
	assert_int_equal(pins(maps, "_from_uplink", false), 1);

	ebpf_remove(pin);
	assert_int_equal(access(pin, F_OK), -1);
}

#endif
