/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"

static char dir[64];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/mesh-fs-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int drop_dir(void **state)
{
	(void)state;
	fs_remove_tree(dir);
	return access(dir, F_OK) ? 0 : -1;
}

static void a_file_is_replaced_whole(void **state)
{
	(void)state;
	CLEAN_FREE char *path = xasprintf("%s/f", dir);
	CLEAN_FREE char *tmp = xasprintf("%s/f.tmp", dir);
	struct buf b = { 0 };
	struct stat st;
	assert_int_equal(fs_write(path, "older and longer", 16, 0644, FS_CACHED, NULL), 0);
	assert_int_equal(fs_write(path, "new", 3, 0600, FS_SYNC, NULL), 0);
	assert_int_equal(fs_read(path, 100, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "new");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(access(tmp, F_OK), -1);
	buf_fini(&b);
}

static void a_lock_waits_for_what_a_dead_process_forked(void **state)
{
	(void)state;
	CLEAN_FREE char *path = xasprintf("%s/lock", dir);
	CLEAN_CLOSE int one = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CLEAN_CLOSE int two = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(fs_lock(one), 0);
	assert_int_equal(fs_lock(two), -EBUSY);
	pid_t child = fork();
	if (!child) {
		usleep(50000);
		_exit(0);
	}
	close(TAKE_FD(one));
	assert_int_equal(fs_lock(two), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_failed_write_leaves_the_old_file(void **state)
{
	(void)state;
	CLEAN_FREE char *path = xasprintf("%s/f", dir);
	CLEAN_FREE char *tmp = xasprintf("%s/f.tmp", dir);
	struct mesh_err err = { 0 };
	struct buf b = { 0 };
	assert_int_equal(fs_write(path, "old", 3, 0600, FS_CACHED, NULL), 0);
	assert_int_equal(mkdir(tmp, 0700), 0); /* in the way */
	assert_true(fs_write(path, "new", 3, 0600, FS_CACHED, &err) < 0);
	assert_non_null(strstr(err.msg, tmp));
	assert_int_equal(fs_read(path, 100, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "old");
	buf_fini(&b);
}

static void reading_is_bounded_and_says_what_is_missing(void **state)
{
	(void)state;
	CLEAN_FREE char *path = xasprintf("%s/f", dir);
	struct mesh_err err = { 0 };
	struct buf b = { 0 };
	assert_int_equal(fs_read(path, 10, &b, &err), -ENOENT);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(fs_write(path, "0123456789a", 11, 0600, FS_CACHED, NULL), 0);
	assert_int_equal(fs_read(path, 10, &b, NULL), -EFBIG);
	buf_clear(&b);
	assert_int_equal(fs_read(path, 11, &b, NULL), 0);
	assert_int_equal(b.len, 11);
	buf_fini(&b);
}

static void trees_are_made_measured_and_removed(void **state)
{
	(void)state;
	CLEAN_FREE char *deep = xasprintf("%s/a/b/c", dir);
	CLEAN_FREE char *file = xasprintf("%s/a/b/c/f", dir);
	CLEAN_FREE char *top = xasprintf("%s/a", dir);
	struct stat st;
	assert_int_equal(fs_make_dirs(deep, 0700, NULL), 0);
	assert_int_equal(fs_make_dirs(deep, 0700, NULL), 0);
	assert_int_equal(stat(deep, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(fs_write(file, "12345", 5, 0600, FS_CACHED, NULL), 0);
	assert_int_equal(fs_tree_bytes(top), 5);
	fs_remove_tree(top);
	assert_int_equal(access(top, F_OK), -1);
	assert_true(fs_make_dirs("/proc/mesh/x", 0700, NULL) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_file_is_replaced_whole, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(a_lock_waits_for_what_a_dead_process_forked, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(a_failed_write_leaves_the_old_file, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(reading_is_bounded_and_says_what_is_missing, make_dir, drop_dir),
		cmocka_unit_test_setup_teardown(trees_are_made_measured_and_removed, make_dir, drop_dir),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
