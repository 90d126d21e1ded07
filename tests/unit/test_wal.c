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
#include "control/raft/wal_impl.h"
#include "tests/support/wal_clear.h"

#define CLUSTER 42
#define BOX(n) (((n) + SEAL_BYTES + 7) / 8 * 8) /* what a payload of n bytes takes */

struct fix {
	char dir[64];
	struct wal *w;
	struct wal_content c;
	struct seal_key *key;
};

static int setup(void **state)
{
	struct fix *f = XNEW(struct fix);
	log_set_level((enum log_level)(LOG_ERROR_ + 1));
	snprintf(f->dir, sizeof(f->dir), "/tmp/mesh-wal-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->key = seal_key_of(1);
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
	seal_key_free(f->key);
	free(f);
	return 0;
}

static int try_open(struct fix *f, struct mesh_err *err)
{
	shut(f);
	return wal_open(f->dir, CLUSTER, f->key, &f->w, &f->c, err);
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
	bounds[0] = WAL_HEADER_BYTES + 2 * (WAL_RECORD_BYTES + BOX(0));
	put(f, 1, 1, "first");
	bounds[1] = bounds[0] + WAL_RECORD_BYTES + BOX(5);
	struct wal_batch b = { 0 };
	add(&b, 2, 1, "second");
	add(&b, 3, 1, "2b");
	write_batch(f, &b);
	bounds[2] = bounds[1] + 2 * (WAL_RECORD_BYTES + BOX(6));
	add(&b, 4, 1, "third");
	add(&b, 5, 1, "3b");
	add(&b, 6, 1, "3c");
	write_batch(f, &b);
	bounds[3] = bounds[2] + 3 * (WAL_RECORD_BYTES + BOX(5));
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
	b.data[8] = 3;
	spit(name, b.data, b.len);
	assert_int_equal(try_open(f, &err), MESH_E_VERSION);
	b.data[8] = WAL_VERSION;
	spit(name, b.data, b.len);
	assert_int_equal(wal_open(f->dir, CLUSTER + 1, f->key, &f->w, &f->c, &err), MESH_E_INVALID);
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
	assert_int_equal(wal_open(f->dir, CLUSTER, f->key, &w, &c, &err), -EBUSY);
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

static const struct wal_file *file_of(struct fix *f, const struct buf *b, size_t n)
{
	static struct wal_file file;
	file = (struct wal_file){ "s", b->data, n, CLUSTER, f->key };
	return &file;
}

static void test_damaged_snapshot(void **state)
{
	struct fix *f = *state;
	struct wal_snapshot s = snap_of(9, 2, "hello"), back;
	struct buf b = { 0 };
	struct mesh_err err = { 0 };
	wal_snapshot_encode(&s, CLUSTER, f->key, &b);
	assert_int_equal(wal_snapshot_decode(file_of(f, &b, b.len), &back, &err), 0);
	assert_string_equal(buf_str(&back.data), "hello");
	buf_fini(&back.data);
	for (size_t i = 0; i < b.len; i++) {
		assert_int_not_equal(wal_snapshot_decode(file_of(f, &b, i), &back, &err), 0);
		b.data[i] ^= 0x10;
		assert_int_not_equal(wal_snapshot_decode(file_of(f, &b, b.len), &back, &err), 0);
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
	for (int64_t space = 0; space < 2 * (WAL_RECORD_BYTES + BOX(2)); space++) {
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

/* ---- sealed ---- */

static void assert_refused(struct fix *f, const char *why)
{
	struct mesh_err err = { 0 };
	assert_int_equal(try_open(f, &err), MESH_E_CORRUPT);
	if (!strstr(err.msg, why) || !strstr(err.msg, f->dir))
		fail_msg("%s", err.msg);
}

/* Makes a record's checksum right again: what somebody would do who alters one on purpose. */
static void resum(struct buf *b, size_t at)
{
	uint8_t *r = b->data + at;
	uint32_t n = (get32(r) + 7) & ~7u;
	put32(r + 4, crc32c(crc32c(crc32c(0, b->data, WAL_HEADER_BYTES), r, 4), r + 8, WAL_RECORD_BYTES - 8 + n));
}

static void test_nothing_in_clear(void **state)
{
	struct fix *f = *state;
	static const char text[] = "a secret nobody should read";
	char name[128];
	reopen(f);
	state_put(f, 1, 0);
	put(f, 1, 1, text);
	snap_put(f, 1, 1, text);
	assert_true(wal_sealed(f->dir));
	file_name(f, 1, name);
	struct buf log = slurp(name);
	snprintf(name, sizeof(name), "%s/snap-%016x.snap", f->dir, 1);
	struct buf snap = slurp(name);
	assert_null(memmem(log.data, log.len, text, 6));
	assert_null(memmem(snap.data, snap.len, text, 6));
	buf_fini(&log);
	buf_fini(&snap);
}

/* Every byte of a record altered, its sum made right: it is not taken for a torn write, nor for anything else. */
static void test_altered_records(void **state)
{
	struct fix *f = *state;
	size_t bounds[4];
	char name[128];
	struct buf b = four_batches(f, bounds);
	file_name(f, 1, name);
	for (size_t at = 8; at < WAL_RECORD_BYTES + 5 + SEAL_BYTES; at++) {
		if (at >= 24 && at < 29)
			continue; /* batch and kind are asked for before the box is opened */
		b.data[bounds[0] + at] ^= 0x20;
		resum(&b, bounds[0]);
		spit(name, b.data, b.len);
		assert_refused(f, at == 30 ? "" : "sealed elsewhere or altered");
		b.data[bounds[0] + at] ^= 0x20;
		resum(&b, bounds[0]);
	}
	spit(name, b.data, b.len);
	reopen(f);
	assert_int_equal(f->c.entries.len, 6);
	buf_fini(&b);
}

/* Two records of a batch that differ only in what they say, exchanged; one put where another segment had it. */
static void test_moved_records(void **state)
{
	struct fix *f = *state;
	char name[128];
	size_t size = WAL_RECORD_BYTES + BOX(2), at = WAL_HEADER_BYTES + WAL_RECORD_BYTES + BOX(0);
	reopen(f);
	struct wal_batch batch = { 0 };
	add(&batch, 1, 1, "ab");
	add(&batch, 1, 1, "cd");
	add(&batch, 1, 1, "ef");
	write_batch(f, &batch);
	shut(f);
	file_name(f, 1, name);
	struct buf b = slurp(name), other = { 0 };
	buf_put(&other, b.data, b.len);
	memcpy(b.data + at, other.data + at + size, size);
	memcpy(b.data + at + size, other.data + at, size);
	spit(name, b.data, b.len);
	assert_refused(f, "sealed elsewhere or altered");
	/* The same place and sums of a segment with another number. */
	struct wal_sealer s = { .key = f->key };
	wal_header_encode(&s, CLUSTER, 2, 0);
	memcpy(other.data, s.header, WAL_HEADER_BYTES);
	for (size_t off = WAL_HEADER_BYTES; off < at + 3 * size;
	     off += WAL_RECORD_BYTES + BOX(get32(other.data + off) - SEAL_BYTES))
		resum(&other, off);
	spit(name, other.data, other.len);
	assert_refused(f, "sealed elsewhere or altered");
	buf_fini(&b);
	buf_fini(&other);
}

static void test_another_key(void **state)
{
	struct fix *f = *state;
	reopen(f);
	state_put(f, 1, 0);
	put(f, 1, 1, "a");
	shut(f);
	seal_key_free(f->key);
	f->key = seal_key_of(2);
	assert_refused(f, "sealed with data key 0100000000000000, but identity/data.key is 0200000000000000");
	seal_key_free(f->key);
	f->key = seal_key_of(1);
	reopen(f);
	snap_put(f, 1, 1, "s");
	shut(f);
	seal_key_free(f->key);
	f->key = seal_key_of(2);
	assert_refused(f, ".snap: sealed with data key 01");
}

/* The same bytes again, after a crash took them: never the same nonce. */
static void test_rewritten_tail(void **state)
{
	struct fix *f = *state;
	char name[128];
	uint8_t seen[40][SEAL_NONCE_BYTES];
	size_t at = WAL_HEADER_BYTES + WAL_RECORD_BYTES + BOX(0);
	file_name(f, 1, name);
	for (size_t i = 0; i < ARRAY_SIZE(seen); i++) {
		reopen(f);
		put(f, 1, 1, "ab");
		struct buf b = slurp(name);
		memcpy(seen[i], b.data + at + WAL_RECORD_BYTES, SEAL_NONCE_BYTES);
		for (size_t k = 0; k < i; k++)
			assert_memory_not_equal(seen[k], seen[i], SEAL_NONCE_BYTES);
		shut(f);
		spit(name, b.data, i % 2 ? at : 0); /* without its end, the batch is cut off */
		buf_fini(&b);
	}
}

/* More than one piece, read from anywhere, and a piece put in another's place. */
static void test_snapshot_in_pieces(void **state)
{
	struct fix *f = *state;
	struct mesh_err err = { 0 };
	struct wal_snapshot s = snap_of(3, 1, "");
	size_t sizes[] = { 1, WAL_PIECE_BYTES - 1, WAL_PIECE_BYTES, WAL_PIECE_BYTES + 1, 3 * WAL_PIECE_BYTES + 777 };
	reopen(f);
	state_put(f, 1, 0);
	for (size_t k = 0; k < ARRAY_SIZE(sizes); k++) {
		while (s.data.len < sizes[k])
			buf_put_u32(&s.data, (uint32_t)s.data.len * 2654435761u);
		s.data.len = sizes[k];
		assert_int_equal(wal_snapshot_write(f->w, &s, &err), 0);
		reopen(f);
		assert_int_equal(f->c.snap.data.len, sizes[k]);
		assert_memory_equal(f->c.snap.data.data, s.data.data, sizes[k]);
		for (size_t off = 0; off <= sizes[k]; off += 30001) {
			static uint8_t part[100000];
			size_t n = sizeof(part);
			uint64_t total;
			assert_int_equal(wal_snapshot_read(f->w, 3, off, part, &n, &total), 0);
			assert_int_equal(total, sizes[k]);
			assert_int_equal(n, sizes[k] - off < sizeof(part) ? sizes[k] - off : sizeof(part));
			assert_memory_equal(part, s.data.data + off, n);
		}
	}
	struct buf b = { 0 };
	struct wal_snap_layout l;
	size_t size;
	wal_snapshot_encode(&s, CLUSTER, f->key, &b);
	assert_int_equal(wal_snap_layout(b.data, b.len, &l), 0);
	uint64_t first = wal_snap_piece(&l, 0, &size), second = wal_snap_piece(&l, 1, &size);
	memcpy(b.data + first, b.data + second, WAL_PIECE_BYTES + SEAL_BYTES);
	put32(b.data + 12, crc32c(0, b.data + 16, b.len - 16));
	struct wal_snapshot back;
	assert_int_equal(wal_snapshot_decode(file_of(f, &b, b.len), &back, &err), MESH_E_CORRUPT);
	assert_non_null(strstr(err.msg, "sealed elsewhere or altered"));
	buf_fini(&b);
	buf_fini(&s.data);
}

/* ---- what former versions left ---- */

static void clear_log(struct fix *f, struct buf *one, struct buf *two)
{
	(void)f;
	clear_header(one, CLUSTER, 1, 0);
	clear_record(one, 0, WAL_STATE, 0, 3, 9, 1, false, NULL, 0);
	clear_record(one, 0, WAL_ENTRY, RAFT_COMMAND, 1, 1, 1, true, "clear one", 9);
	clear_record(one, 0, WAL_ENTRY, RAFT_COMMAND, 1, 2, 2, true, "clear two", 9);
	clear_header(two, CLUSTER, 2, 2);
	clear_record(two, 0, WAL_STATE, 0, 4, 7, 3, false, NULL, 0);
	clear_record(two, 0, WAL_ENTRY, RAFT_COMMAND, 4, 3, 3, true, "clear three", 11);
	clear_record(two, 0, WAL_ENTRY, RAFT_COMMAND, 4, 4, 4, true, "clear four", 10);
}

static void spit_log(struct fix *f, const struct buf *one, const struct buf *two, size_t n)
{
	char name[128];
	file_name(f, 1, name);
	spit(name, one->data, one->len);
	file_name(f, 2, name);
	spit(name, two->data, n);
}

static void assert_no_clear(struct fix *f)
{
	char name[256];
	DIR *d = opendir(f->dir);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(name, sizeof(name), "%s/%s", f->dir, e->d_name);
		struct buf b = slurp(name);
		assert_null(b.len ? memmem(b.data, b.len, "clear", 5) : NULL);
		buf_fini(&b);
	}
	closedir(d);
}

/* Whatever its last segment was cut to: what the former version would have read is there, sealed, and goes on. */
static void test_clear_log_is_sealed(void **state)
{
	struct fix *f = *state;
	struct buf one = { 0 }, two = { 0 };
	clear_log(f, &one, &two);
	size_t third = WAL_CLEAR_HEADER_BYTES + 2 * WAL_RECORD_BYTES + 16;
	for (size_t n = 0; n <= two.len; n += n + 8 < two.len ? 8 : 1) {
		spit_log(f, &one, &two, n);
		for (int again = 0; again < 2; again++) {
			reopen(f);
			assert_string_equal(text_of(&f->c),
			                    n == two.len ? "1.1:clear one 2.1:clear two 3.4:clear three 4.4:clear four"
			                    : n >= third ? "1.1:clear one 2.1:clear two 3.4:clear three"
			                                 : "1.1:clear one 2.1:clear two");
			assert_int_equal(f->c.term, n >= third ? 4 : 3);
			assert_int_equal(f->c.vote, n >= third ? 7 : 9);
			assert_no_clear(f);
		}
		uint64_t next = f->c.entries.len + 1;
		put(f, next, 4, "more");
		state_put(f, 5, 1);
		reopen(f);
		assert_int_equal(f->c.entries.len, next);
		assert_int_equal(f->c.term, 5);
		shut(f);
	}
	buf_fini(&one);
	buf_fini(&two);
}

/* A crash, or a full disk, between two files: the next start goes on from there. */
static void test_sealing_is_interrupted(void **state)
{
	struct fix *f = *state;
	struct buf one = { 0 }, two = { 0 }, snap = { 0 };
	char name[128];
	clear_log(f, &one, &two);
	struct wal_snapshot s = snap_of(2, 1, "clear state");
	clear_snapshot(&snap, &s, CLUSTER);
	snprintf(name, sizeof(name), "%s/snap-%016x.snap", f->dir, 2);
	spit_log(f, &one, &two, two.len);
	spit(name, snap.data, snap.len);
	int64_t space = 0;
	for (int rc = -1; rc; space += 24) {
		struct mesh_err err = { 0 };
		wal_test_space = space;
		rc = try_open(f, &err);
		wal_test_space = -1;
		if (rc)
			assert_int_equal(rc, -ENOSPC);
		assert_int_equal(count_files(f, ".tmp"), 0);
		assert_true(space < 2000);
	}
	assert_no_clear(f);
	assert_string_equal(buf_str(&f->c.snap.data), "clear state");
	assert_string_equal(text_of(&f->c), "3.4:clear three 4.4:clear four");
	buf_fini(&one);
	buf_fini(&two);
	buf_fini(&snap);
	buf_fini(&s.data);
}

/* Once all is sealed, a file in clear is none of ours, however right its sums are. */
static void test_clear_among_sealed(void **state)
{
	struct fix *f = *state;
	struct buf one = { 0 }, two = { 0 };
	struct mesh_err err = { 0 };
	clear_log(f, &one, &two);
	spit_log(f, &one, &two, two.len);
	reopen(f);
	assert_int_equal(seal_key_settle(f->key, f->dir, &err), 0);
	reopen(f);
	shut(f);
	spit_log(f, &one, &two, two.len);
	assert_refused(f, "in clear");
	buf_fini(&one);
	buf_fini(&two);
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
		T(test_nothing_in_clear),
		T(test_altered_records),
		T(test_moved_records),
		T(test_another_key),
		T(test_rewritten_tail),
		T(test_snapshot_in_pieces),
		T(test_clear_log_is_sealed),
		T(test_sealing_is_interrupted),
		T(test_clear_among_sealed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
