/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Log segments and snapshots as former versions wrote them: layout 1, payloads in clear. */
#ifndef TESTS_SUPPORT_WAL_CLEAR_H
#define TESTS_SUPPORT_WAL_CLEAR_H

#include "control/raft/crc32c.h"
#include "control/raft/wal_impl.h"

static inline void clear_header(struct buf *b, uint64_t cluster, uint32_t number, uint32_t batch)
{
	size_t at = b->len;
	buf_put(b, "MSHWAL\0", 8);
	buf_put_u32(b, 1);
	buf_put_u32(b, 0);
	buf_put_u64(b, cluster);
	buf_put_u32(b, number);
	buf_put_u32(b, batch);
	uint8_t *p = b->data + at;
	put32(p + 12, crc32c(crc32c(0, p, 12), p + 16, 16));
}

/* head: where its segment begins in b. end: the last of its batch. */
static inline void clear_record(struct buf *b, size_t head, uint8_t kind, uint8_t type, uint64_t term, uint64_t index,
                                uint32_t batch, bool end, const void *p, size_t n)
{
	size_t at = b->len, size = WAL_RECORD_BYTES + ((n + 7) & ~(size_t)7);
	memset(buf_reserve(b, size), 0, size);
	b->len += size;
	uint8_t *r = b->data + at;
	put32(r, (uint32_t)n);
	put64(r + 8, term);
	put64(r + 16, index);
	put32(r + 24, batch);
	r[28] = kind;
	r[29] = type;
	r[30] = end;
	if (n)
		memcpy(r + WAL_RECORD_BYTES, p, n);
	uint32_t seed = crc32c(0, b->data + head, WAL_CLEAR_HEADER_BYTES);
	put32(r + 4, crc32c(crc32c(seed, r, 4), r + 8, size - 8));
}

static inline void clear_snapshot(struct buf *b, const struct wal_snapshot *s, uint64_t cluster)
{
	struct buf conf = { 0 };
	size_t at = b->len;
	raft_conf_encode(&s->conf, &conf);
	buf_put(b, "MSHSNAP", 8);
	buf_put_u32(b, 1);
	buf_put_u32(b, 0);
	buf_put_u64(b, cluster);
	buf_put_u64(b, s->index);
	buf_put_u64(b, s->term);
	buf_put_u32(b, (uint32_t)conf.len);
	buf_put_u32(b, 0);
	buf_put_u64(b, s->data.len);
	buf_put(b, conf.data, conf.len);
	buf_put(b, s->data.data, s->data.len);
	buf_fini(&conf);
	put32(b->data + at + 12, crc32c(0, b->data + at + 16, b->len - at - 16));
}

#endif
