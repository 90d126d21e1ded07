/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the write-ahead log and the snapshots of one Raft member, as files in one directory.
 * Files:   lock; wal-<16 hex digits, counting>.log; snap-<16 hex digits, index>.snap; *.tmp is rubbish of a crash.
 * Segment: a header, then records, each 8-byte aligned:
 *            header: "MSHWAL\0\0", u32 version, u32 crc of the header, u64 cluster, u32 number,
 *                    u32 number of the last batch before it, 8 bytes id of the data key
 *            record: u32 payload length, u32 crc of the rest, u64 term, u64 index, u32 batch, u8 kind, u8 entry
 *                    type, u8 flags, u8 0, payload, padding
 *          A batch is what one fdatasync makes durable; its last record carries a flag, so that damage can be told
 *          from a write that power loss cut short (docs/decisions/0007).
 * Sealed:  every payload, and a snapshot in pieces, is a box (control/ca/seal.h) that nothing but its own header, place
 *          and file opens (docs/decisions/0016). Files of layout 1 have payloads in clear and no id of a key: they are
 *          read, and replaced by sealed ones when the log is opened.
 * Blocks:  everything here. Nothing here is thread-safe, but snapshots and batches may be written at once.
 * Errors:  name the file, the offset and the way out.
 */
#ifndef CONTROL_RAFT_WAL_H
#define CONTROL_RAFT_WAL_H

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "control/ca/seal.h"
#include "control/raft/raft.h"

#define WAL_VERSION 2
#define WAL_HEADER_BYTES 40
#define WAL_RECORD_BYTES 32
#define WAL_SEGMENT_BYTES (4u << 20)

enum wal_kind {
	WAL_ENTRY = 1, /* replaces what came before from its index on */
	WAL_STATE,     /* term, and vote in the index field */
	WAL_RESET,     /* the log is empty and goes on after index, of that term */
	WAL_KIND_MAX
};

struct wal_snapshot {
	uint64_t index, term;
	struct raft_conf conf;
	struct buf data;
};
/* What the directory holds. Entries follow the snapshot without a gap. */
struct wal_content {
	uint64_t term, vote;
	struct wal_snapshot snap; /* index 0: none */
	struct VEC(struct raft_entry *) entries;
	uint64_t base; /* the entry before the first of entries, once known */
	bool base_known;
	bool empty; /* nothing was ever written */
};
void wal_content_fini(struct wal_content *c);

struct wal;
/* Is there a log in dir? */
bool wal_exists(const char *dir);
/* Is any of it sealed, so that it cannot be read without its data key? */
bool wal_sealed(const char *dir);
/*
 * Makes dir when absent, locks it, reads everything, cuts a torn tail. What is in clear is sealed, unless the key is
 * settled: then there may be no such file. key is borrowed until wal_close. -EBUSY, MESH_E_CORRUPT, MESH_E_VERSION,
 * -errno.
 */
int wal_open(const char *dir, uint64_t cluster, const struct seal_key *key, struct wal **out,
             struct wal_content *content, struct mesh_err *err) MESH_MUST_CHECK;
void wal_close(struct wal *w);

/* ---- batches: filled anywhere, written in one go ---- */

struct wal_batch {
	struct buf b;
	size_t last; /* offset of the last record in b */
	uint64_t max_index;
	bool full_log; /* holds a reset */
};
void wal_batch_fini(struct wal_batch *b);
bool wal_batch_empty(const struct wal_batch *b);
void wal_batch_state(struct wal_batch *b, uint64_t term, uint64_t vote);
void wal_batch_entry(struct wal_batch *b, const struct raft_entry *e);
void wal_batch_reset(struct wal_batch *b, uint64_t index, uint64_t term);
/*
 * Durable when it returns 0. -ENOSPC (-EDQUOT, -EFBIG): nothing of it is in the log, the same or another batch may be
 * written later. Any other error: the log must not be used any more.
 */
int wal_write(struct wal *w, struct wal_batch *b, struct mesh_err *err) MESH_MUST_CHECK;
/* Durable when it returns 0; the older snapshots are gone then. On error there is no trace of it. */
int wal_snapshot_write(struct wal *w, const struct wal_snapshot *s, struct mesh_err *err) MESH_MUST_CHECK;
/* Removes segments that hold nothing after index. Between writes only. */
void wal_compact(struct wal *w, uint64_t index);
/* Bytes of the newest snapshot's data from offset; *total is its size. 0, -errno, MESH_E_CORRUPT; -ESTALE: not of index. */
int wal_snapshot_read(struct wal *w, uint64_t index, uint64_t offset, void *p, size_t *n, uint64_t *total);

/* ---- the formats, for tests and fuzzing ---- */

/* A whole file, as it was read; name is for messages. */
struct wal_file {
	const char *name;
	const uint8_t *p;
	size_t n;
	uint64_t cluster;
	const struct seal_key *key;
};
/*
 * Reads one segment. last: no other follows it, so its tail may be torn: *keep is where the good part ends.
 * batch: number of the last batch before it, 0: take the segment's word; updated.
 */
int wal_segment_decode(const struct wal_file *f, bool last, uint32_t *batch, struct wal_content *c, uint64_t *max_index,
                       size_t *keep, struct mesh_err *err) MESH_MUST_CHECK;
void wal_snapshot_encode(const struct wal_snapshot *s, uint64_t cluster, const struct seal_key *key, struct buf *out);
int wal_snapshot_decode(const struct wal_file *f, struct wal_snapshot *s, struct mesh_err *err) MESH_MUST_CHECK;

/* Tests make writing fail: bytes that may still be written before -ENOSPC; negative: no limit. */
extern int64_t wal_test_space;

#endif
