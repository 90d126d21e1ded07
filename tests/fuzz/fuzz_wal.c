/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Log segments and snapshot files. The first byte chooses: a segment as it is, one whose sums are made right first
 * (so that what lies behind them is reached), or a snapshot.
 */
#include "base/mem.h"
#include "control/raft/wal_impl.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void segment(const uint8_t *p, size_t n, bool last)
{
	struct wal_content c = { 0 };
	uint64_t max = 0;
	size_t keep = 0;
	uint32_t batch = 0;
	struct mesh_err err = { 0 };
	if (wal_segment_decode("fuzz", p, n, 42, last, &batch, &c, &max, &keep, &err) == 0) {
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

/* As many records as the lengths in the input allow, each input byte in its place but for the sums. */
static void sealed(const uint8_t *p, size_t n)
{
	struct buf b = { 0 };
	uint8_t header[WAL_HEADER_BYTES];
	uint32_t seed = wal_header_encode(header, 42, 1, 0);
	buf_put(&b, header, sizeof(header));
	size_t off = 0, last = 0;
	while (n - off >= WAL_RECORD_BYTES) {
		size_t len = p[off] | (size_t)p[off + 1] << 8, size = WAL_RECORD_BYTES + ((len + 7) & ~(size_t)7);
		if (size > n - off || p[off + 2] || p[off + 3])
			break;
		last = off;
		off += size;
	}
	buf_put(&b, p, off);
	if (off)
		wal_batch_seal(b.data + WAL_HEADER_BYTES, off, last, 1, seed);
	buf_put(&b, p + off, n - off);
	segment(b.data, b.len, true);
	segment(b.data, b.len, false);
	buf_fini(&b);
}

static void snapshot(const uint8_t *p, size_t n)
{
	struct wal_snapshot s;
	struct mesh_err err = { 0 };
	if (wal_snapshot_decode("fuzz", p, n, 42, &s, &err) == 0)
		buf_fini(&s.data);
	uint64_t at, len;
	int rc = wal_snapshot_layout(p, n, &at, &len);
	(void)rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (!n)
		return 0;
	if (p[0] % 3 == 0)
		segment(p + 1, n - 1, p[0] & 1);
	else if (p[0] % 3 == 1)
		sealed(p + 1, n - 1);
	else
		snapshot(p + 1, n - 1);
	return 0;
}
