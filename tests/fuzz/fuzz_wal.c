/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log segments and snapshot files. The first byte chooses: a segment as it is, a sealed one whose boxes and sums are made
 * right first (so that what lies behind them is reached), one in clear whose sums are, or a snapshot.
 */
#include "base/mem.h"
#include "control/raft/wal_impl.h"
#include "tests/support/wal_clear.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct seal_key *key(void)
{
	static struct seal_key *k;
	return k ? k : (k = seal_key_of(1));
}

static void segment(const uint8_t *p, size_t n, bool last)
{
	struct wal_content c = { 0 };
	uint64_t max = 0;
	size_t keep = 0;
	uint32_t batch = 0;
	struct mesh_err err = { 0 };
	struct wal_file f = { "fuzz", p, n, 42, key() };
	if (wal_segment_decode(&f, last, &batch, &c, &max, &keep, &err) == 0) {
		if (keep > n)
			abort();
		for (size_t i = 0; i < c.entries.len; i++)
			if (c.entries.data[i]->index != c.base + 1 + i)
				abort();
	} else if (!err.msg[0]) {
		abort();
	}
	wal_content_fini(&c);
}

/* The size of the record at off, as its length says, or 0: no more of them. */
static size_t record_size(const uint8_t *p, size_t n, size_t off)
{
	if (n - off < WAL_RECORD_BYTES || p[off + 2] || p[off + 3])
		return 0;
	size_t len = p[off] | (size_t)p[off + 1] << 8, size = WAL_RECORD_BYTES + ((len + 7) & ~(size_t)7);
	return size > n - off ? 0 : size;
}

/* As many records as the lengths in the input allow, and what is left behind them. */
static void sealed(const uint8_t *p, size_t n)
{
	struct buf b = { 0 };
	struct seal_nonce nonce;
	struct wal_sealer s = { .key = key(), .nonce = &nonce };
	size_t off = 0, last = 0;
	seal_nonce_init(&nonce);
	wal_header_encode(&s, 42, 1, 0);
	buf_put(&b, s.header, sizeof(s.header));
	for (size_t size; (size = record_size(p, n, off)); off += size)
		last = off;
	wal_batch_seal(&s, p, off, last, 1, b.len, &b);
	buf_put(&b, p + off, n - off);
	segment(b.data, b.len, true);
	segment(b.data, b.len, false);
	buf_fini(&b);
}

/* What is read in clear is read the same when it was sealed. */
static void clear(const uint8_t *p, size_t n)
{
	struct buf b = { 0 };
	size_t off = 0;
	clear_header(&b, 42, 1, 0);
	for (size_t size; (size = record_size(p, n, off)); off += size)
		clear_record(&b, 0, p[off + 28], p[off + 29], get64(p + off + 8), get64(p + off + 16), 1,
		             !record_size(p, n, off + size), p + off + WAL_RECORD_BYTES,
		             p[off] | (size_t)p[off + 1] << 8);
	struct wal_content c[2] = { 0 };
	uint64_t max[2] = { 0 };
	size_t keep = 0, again = 0;
	uint32_t batch = 0;
	struct mesh_err err = { 0 };
	struct wal_file f = { "fuzz", b.data, b.len, 42, key() };
	if (wal_segment_decode(&f, true, &batch, &c[0], &max[0], &keep, &err) == 0 && keep) {
		struct seal_nonce nonce;
		struct wal_sealer s = { .key = key(), .nonce = &nonce };
		struct buf to = { 0 };
		seal_nonce_init(&nonce);
		wal_segment_seal(&s, b.data, keep, &to);
		f = (struct wal_file){ "fuzz", to.data, to.len, 42, key() };
		batch = 0;
		if (wal_segment_decode(&f, false, &batch, &c[1], &max[1], &again, &err) || again != to.len ||
		    max[0] != max[1] || c[0].entries.len != c[1].entries.len || c[0].term != c[1].term)
			abort();
		buf_fini(&to);
	}
	wal_content_fini(&c[0]);
	wal_content_fini(&c[1]);
	buf_fini(&b);
}

static void snapshot(const uint8_t *p, size_t n)
{
	struct wal_snapshot s;
	struct mesh_err err = { 0 };
	struct wal_file f = { "fuzz", p, n, 42, key() };
	if (wal_snapshot_decode(&f, &s, &err) == 0)
		buf_fini(&s.data);
	else if (!err.msg[0])
		abort();
	struct wal_snap_layout l;
	int rc = wal_snap_layout(p, n, &l);
	(void)rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (!n)
		return 0;
	if (p[0] % 3 == 0) {
		segment(p + 1, n - 1, p[0] & 1);
	} else if (p[0] % 3 == 1) {
		sealed(p + 1, n - 1);
		clear(p + 1, n - 1);
	} else {
		snapshot(p + 1, n - 1);
	}
	return 0;
}
