/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "control/raft/crc32c.h"
#include "control/raft/wal.h"

#define CLUSTER 42

struct fix {
	char dir[64];
	struct wal *w;
	struct wal_content c;
};

static int setup(void **state)
{
	struct fix *f = XNEW(struct fix);
	log_set_level((enum log_level)(LOG_ERROR_ + 1));
	snprintf(f->dir, sizeof(f->dir), "/tmp/mesh-wal-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static void shut(struct fix *f)
{
	wal_close(f->w);
	f->w = NULL;
	wal_content_fini(&f->c);
	f->c = (struct wal_content){ 0 };
}

static int rm(const char *path, const struct stat *st, int flag, struct FTW *w)
{
	(void)st, (void)flag, (void)w;
	return remove(path);
}

static int teardown(void **state)
{
	struct fix *f = *state;
	wal_test_space = -1;
	shut(f);
	nftw(f->dir, rm, 8, FTW_DEPTH | FTW_PHYS);
	free(f);
	return 0;
}

static int try_open(struct fix *f, struct mesh_err *err)
{
	shut(f);
	return wal_open(f->dir, CLUSTER, &f->w, &f->c, err);
}

static void reopen(struct fix *f)
{
	struct mesh_err err = { 0 };
	if (try_open(f, &err))
		fail_msg("%s", err.msg);
}

static void add(struct wal_batch *b, uint64_t index, uint64_t term, const char *text)
{
	struct raft_entry *e = raft_entry_new(index, term, RAFT_COMMAND, text, strlen(text));
	wal_batch_entry(b, e);
	raft_entry_unref(e);
}

static void write_batch(struct fix *f, struct wal_batch *b)
{
	struct mesh_err err = { 0 };
	int rc = wal_write(f->w, b, &err);
	wal_batch_fini(b);
	if (rc)
		fail_msg("%s", err.msg);
}

static void put(struct fix *f, uint64_t index, uint64_t term, const char *text)
{
	struct wal_batch b = { 0 };
	add(&b, index, term, text);
	write_batch(f, &b);
}

static void state_put(struct fix *f, uint64_t term, uint64_t vote)
{
	struct wal_batch b = { 0 };
	wal_batch_state(&b, term, vote);
	write_batch(f, &b);
}

/* "1.1:a 2.1:b" */
static const char *text_of(const struct wal_content *c)
{
	static char out[4096];
	size_t at = 0;
	out[0] = 0;
	for (size_t i = 0; i < c->entries.len; i++) {
		const struct raft_entry *e = c->entries.data[i];
		at += (size_t)snprintf(out + at, sizeof(out) - at, "%s%llu.%llu:%.*s", i ? " " : "",
		                       (unsigned long long)e->index, (unsigned long long)e->term, (int)e->n, e->p);
	}
	return out;
}

static void file_name(struct fix *f, unsigned number, char out[128])
{
	snprintf(out, 128, "%s/wal-%016x.log", f->dir, number);
}

static struct buf slurp(const char *path)
{
	struct buf b = { 0 };
	FILE *in = fopen(path, "re");
	assert_non_null(in);
	for (size_t n; (n = fread(buf_reserve(&b, 65536), 1, 65536, in)) > 0;)
		b.len += n;
	fclose(in);
	return b;
}

static void spit(const char *path, const void *p, size_t n)
{
	FILE *out = fopen(path, "we");
	assert_non_null(out);
	assert_int_equal(fwrite(p, 1, n, out), n);
	assert_int_equal(fclose(out), 0);
}

static unsigned count_files(struct fix *f, const char *suffix)
{
	DIR *d = opendir(f->dir);
	unsigned n = 0;
	for (struct dirent *e; (e = readdir(d));)
		n += strlen(e->d_name) > strlen(suffix) &&
		     strcmp(e->d_name + strlen(e->d_name) - strlen(suffix), suffix) == 0;
	closedir(d);
	return n;
}

static void test_crc(void **state)
{
	(void)state;
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283u);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
	uint8_t zeros[32] = { 0 };
	assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aau);
}

static void test_round_trip(void **state)
{
	struct fix *f = *state;
	assert_false(wal_exists(f->dir));
	reopen(f);
	assert_true(f->c.empty);
	state_put(f, 3, 9);
	put(f, 1, 1, "a");
	struct wal_batch b = { 0 };
	add(&b, 2, 1, "b");
	add(&b, 3, 2, "c");
	write_batch(f, &b);
	assert_true(wal_exists(f->dir));
	reopen(f);
	assert_false(f->c.empty);
	assert_int_equal(f->c.term, 3);
	assert_int_equal(f->c.vote, 9);
	assert_string_equal(text_of(&f->c), "1.1:a 2.1:b 3.2:c");
	/* An entry replaces everything from its index on. */
	put(f, 2, 3, "B");
	reopen(f);
	assert_string_equal(text_of(&f->c), "1.1:a 2.3:B");
	put(f, 3, 3, "d");
	reopen(f);
	assert_string_equal(text_of(&f->c), "1.1:a 2.3:B 3.3:d");
}

/* The bytes of a log of four batches, without the unused end of the file; bounds: where each ends. */
static struct buf four_batches(struct fix *f, size_t bounds[4])
{
	char name[128];
	reopen(f);
	state_put(f, 5, 1);
	bounds[0] = WAL_HEADER_BYTES + 2 * WAL_RECORD_BYTES;
	put(f, 1, 1, "first");
	bounds[1] = bounds[0] + WAL_RECORD_BYTES + 8;
	struct wal_batch b = { 0 };
	add(&b, 2, 1, "second");
	add(&b, 3, 1, "2b");
	write_batch(f, &b);
	bounds[2] = bounds[1] + 2 * (WAL_RECORD_BYTES + 8);
	add(&b, 4, 1, "third");
	add(&b, 5, 1, "3b");
	add(&b, 6, 1, "3c");
	write_batch(f, &b);
	bounds[3] = bounds[2] + 3 * (WAL_RECORD_BYTES + 8);
	shut(f);
	file_name(f, 1, name);
	return slurp(name);
}

/* Power loss: the file ends anywhere. Whole batches stay, a part of one goes, and writing goes on. */
static void test_cut_anywhere(void **state)
{
	struct fix *f = *state;
	static const char *const left[] = { "", "1.1:first", "1.1:first 2.1:second 3.1:2b",
		                            "1.1:first 2.1:second 3.1:2b 4.1:third 5.1:3b 6.1:3c" };
	size_t bounds[4];
	char name[128];
	struct buf b = four_batches(f, bounds);
	file_name(f, 1, name);
	for (size_t n = 0; n <= bounds[3]; n++) {
		spit(name, b.data, n);
		reopen(f);
		int whole = -1;
		for (int i = 0; i < 4; i++)
			if (n >= bounds[i])
				whole = i;
		assert_string_equal(text_of(&f->c), whole < 0 ? "" : left[whole]);
		assert_int_equal(f->c.term, whole < 0 ? 0 : 5);
		if (whole < 0)
			state_put(f, 6, 0);
		uint64_t next = f->c.entries.len + 1;
		put(f, next, 5, "more");
		reopen(f);
		assert_int_equal(f->c.entries.len, next);
	}
	buf_fini(&b);
}

/* A write of several pages of which any part made it is cut off, whatever stands behind the hole. */
static void test_holes_in_the_last_batch(void **state)
{
	struct fix *f = *state;
	size_t bounds[4];
	char name[128];
	struct buf b = four_batches(f, bounds);
	file_name(f, 1, name);
	for (size_t from = bounds[2]; from < bounds[3]; from += 8) {
		struct buf copy = { 0 };
		buf_put(&copy, b.data, b.len);
		memset(copy.data + from, 0, 8);
		bool same = memcmp(copy.data, b.data, b.len) == 0;
		spit(name, copy.data, copy.len);
		reopen(f);
		assert_int_equal(f->c.entries.len, same ? 6 : 3);
		/* What was behind the hole is not found again after what is written now. */
		put(f, f->c.entries.len + 1, 5, "x");
		reopen(f);
		assert_int_equal(f->c.entries.len, same ? 7 : 4);
		buf_fini(&copy);
	}
	buf_fini(&b);
}

/* Any flipped bit before the last batch is refused, with file and offset; nothing acknowledged is dropped silently. */
static void test_damage_is_refused(void **state)
{
	struct fix *f = *state;
	size_t bounds[4];
	char name[128];
	struct buf b = four_batches(f, bounds);
	file_name(f, 1, name);
	for (size_t at = 0; at < bounds[2]; at++) {
		struct mesh_err err = { 0 };
		b.data[at] ^= 1u << (at % 8);
		spit(name, b.data, b.len);
		int rc = try_open(f, &err);
		if (rc != MESH_E_CORRUPT && rc != MESH_E_VERSION)
			fail_msg("byte %zu: %d %s", at, rc, err.msg);
		assert_non_null(strstr(err.msg, "wal-0000000000000001.log"));
		if (rc == MESH_E_CORRUPT && at >= WAL_HEADER_BYTES)
			assert_non_null(strstr(err.msg, "damaged at offset"));
		b.data[at] ^= 1u << (at % 8);
	}
	/* The newest batch cannot be told from one that was never acknowledged. */
	b.data[bounds[2] + 9] ^= 4;
	spit(name, b.data, b.len);
	reopen(f);
	assert_int_equal(f->c.entries.len, 3);
	buf_fini(&b);
}

static void test_other_layouts_and_clusters(void **state)
{
	struct fix *f = *state;
	struct mesh_err err = { 0 };
	size_t bounds[4];
	char name[128];
	struct buf b = four_batches(f, bounds);
	file_name(f, 1, name);
	b.data[8] = 2;
	spit(name, b.data, b.len);
	assert_int_equal(try_open(f, &err), MESH_E_VERSION);
	b.data[8] = 1;
	spit(name, b.data, b.len);
	assert_int_equal(wal_open(f->dir, CLUSTER + 1, &f->w, &f->c, &err), MESH_E_INVALID);
	assert_non_null(strstr(err.msg, "another cluster"));
	buf_fini(&b);
}

static void test_lock(void **state)
{
	struct fix *f = *state;
	struct wal *w = NULL;
	struct wal_content c = { 0 };
	struct mesh_err err = { 0 };
	reopen(f);
	assert_int_equal(wal_open(f->dir, CLUSTER, &w, &c, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another meshd uses this state directory"));
}

static void fill(struct fix *f, uint64_t from, uint64_t to)
{
	char *big = xcalloc(1, 200001);
	memset(big, 'x', 200000);
	for (uint64_t i = from; i <= to; i++)
		put(f, i, 1, big);
	free(big);
}

static struct wal_snapshot snap_of(uint64_t index, uint64_t term, const char *text)
{
	struct wal_snapshot s = { .index = index, .term = term, .conf = { .n = 1, .m = { { 7, true } } } };
	buf_puts(&s.data, text);
	return s;
}

static void snap_put(struct fix *f, uint64_t index, uint64_t term, const char *text)
{
	struct mesh_err err = { 0 };
	struct wal_snapshot s = snap_of(index, term, text);
	if (wal_snapshot_write(f->w, &s, &err))
		fail_msg("%s", err.msg);
	buf_fini(&s.data);
}

static void test_segments_and_snapshots(void **state)
{
	struct fix *f = *state;
	reopen(f);
	state_put(f, 4, 2);
	fill(f, 1, 70);
	assert_int_equal(count_files(f, ".log"), 4);
	reopen(f);
	assert_int_equal(f->c.entries.len, 70);
	snap_put(f, 30, 1, "old");
	snap_put(f, 45, 1, "state");
	assert_int_equal(count_files(f, ".snap"), 1);
	wal_compact(f->w, 45);
	assert_int_equal(count_files(f, ".log"), 2);
	reopen(f);
	assert_int_equal(f->c.snap.index, 45);
	assert_int_equal(f->c.snap.conf.m[0].id, 7);
	assert_string_equal(buf_str(&f->c.snap.data), "state");
	assert_int_equal(f->c.entries.len, 25);
	assert_int_equal(f->c.entries.data[0]->index, 46);
	/* The state stands in every segment. */
	assert_int_equal(f->c.term, 4);
	assert_int_equal(f->c.vote, 2);
	char part[8];
	size_t n = 3;
	uint64_t total;
	assert_int_equal(wal_snapshot_read(f->w, 45, 2, part, &n, &total), 0);
	assert_int_equal(total, 5);
	assert_int_equal(n, 3);
	assert_memory_equal(part, "ate", 3);
	assert_int_equal(wal_snapshot_read(f->w, 44, 0, part, &n, &total), -ESTALE);
}

static void test_missing_segment(void **state)
{
	struct fix *f = *state;
	struct mesh_err err = { 0 };
	char name[128];
	reopen(f);
	state_put(f, 1, 0);
	fill(f, 1, 70);
	shut(f);
	file_name(f, 2, name);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(try_open(f, &err), MESH_E_CORRUPT);
	assert_non_null(strstr(err.msg, "missing"));
	/* The first one gone, without a snapshot that covers it. */
	file_name(f, 1, name);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(try_open(f, &err), MESH_E_CORRUPT);
	assert_non_null(strstr(err.msg, "the log begins after"));
}

static void test_snapshot_replaces_the_log(void **state)
{
	struct fix *f = *state;
	reopen(f);
	state_put(f, 5, 0);
	put(f, 1, 1, "a");
	put(f, 2, 1, "b");
	put(f, 3, 1, "c");
	/* A crash between the snapshot and the record of it: entry 2 is of another term, so what follows is void. */
	snap_put(f, 2, 4, "s");
	reopen(f);
	assert_int_equal(f->c.entries.len, 0);
	struct wal_batch b = { 0 };
	wal_batch_reset(&b, 9, 5);
	add(&b, 10, 5, "x");
	snap_put(f, 9, 5, "t");
	write_batch(f, &b);
	reopen(f);
	assert_int_equal(f->c.snap.index, 9);
	assert_string_equal(text_of(&f->c), "10.5:x");
}

static void test_damaged_snapshot(void **state)
{
	struct fix *f = *state;
	struct wal_snapshot s = snap_of(9, 2, "hello"), back;
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	(void)f;
	wal_snapshot_encode(&s, CLUSTER, &b);
	assert_int_equal(wal_snapshot_decode("s", b.data, b.len, CLUSTER, &back, &err), 0);
	assert_string_equal(buf_str(&back.data), "hello");
	buf_fini(&back.data);
	for (size_t i = 0; i < b.len; i++) {
		assert_int_not_equal(wal_snapshot_decode("s", b.data, i, CLUSTER, &back, &err), 0);
		b.data[i] ^= 0x10;
		assert_int_not_equal(wal_snapshot_decode("s", b.data, b.len, CLUSTER, &back, &err), 0);
		b.data[i] ^= 0x10;
	}
	buf_fini(&s.data);
	buf_fini(&b);
}

/* Space runs out at every byte of a batch and of a new segment: nothing of it stays, and the next one fits. */
static void test_no_space(void **state)
{
	struct fix *f = *state;
	struct mesh_err err = { 0 };
	wal_test_space = 10;
	reopen(f);
	struct wal_batch b = { 0 };
	wal_batch_state(&b, 1, 0);
	assert_int_equal(wal_write(f->w, &b, &err), -ENOSPC);
	assert_int_equal(count_files(f, ".log"), 0);
	wal_batch_fini(&b);
	wal_test_space = -1;
	state_put(f, 1, 0);
	uint64_t index = 0;
	for (int64_t space = 0; space < 2 * (WAL_RECORD_BYTES + 8); space++) {
		add(&b, index + 1, 1, "ab");
		add(&b, index + 2, 1, "cd");
		wal_test_space = space;
		assert_int_equal(wal_write(f->w, &b, &err), -ENOSPC);
		assert_non_null(strstr(err.msg, f->dir));
		wal_test_space = -1;
		if (space % 3 == 0) {
			write_batch(f, &b);
			index += 2;
		}
		wal_batch_fini(&b);
		reopen(f);
		assert_int_equal(f->c.entries.len, index);
	}
	fill(f, index + 1, index + 20);
	index += 20;
	for (int64_t space = 0; space < 200040; space += 20000) {
		char *big = xcalloc(1, 200001);
		memset(big, 'y', 200000);
		add(&b, index + 1, 1, big);
		free(big);
		wal_test_space = space;
		assert_int_equal(wal_write(f->w, &b, &err), -ENOSPC);
		wal_test_space = -1;
		wal_batch_fini(&b);
		reopen(f);
		assert_int_equal(f->c.entries.len, index);
	}
	struct wal_snapshot s = snap_of(3, 1, "text");
	wal_test_space = 20;
	assert_int_equal(wal_snapshot_write(f->w, &s, &err), -ENOSPC);
	wal_test_space = -1;
	assert_int_equal(count_files(f, ".snap") + count_files(f, ".tmp"), 0);
	buf_fini(&s.data);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_crc),
		T(test_round_trip),
		T(test_cut_anywhere),
		T(test_holes_in_the_last_batch),
		T(test_damage_is_refused),
		T(test_other_layouts_and_clusters),
		T(test_lock),
		T(test_segments_and_snapshots),
		T(test_missing_segment),
		T(test_snapshot_replaces_the_log),
		T(test_damaged_snapshot),
		T(test_no_space),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
