/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the formats' side of the log that its files' side (wal.c) uses. Nobody else includes this. */
#ifndef CONTROL_RAFT_WAL_IMPL_H
#define CONTROL_RAFT_WAL_IMPL_H

#include <endian.h>
#include <string.h>

#include "control/raft/wal.h"

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static inline void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

/* Layout 1: payloads in clear. */
#define WAL_CLEAR_VERSION 1
#define WAL_CLEAR_HEADER_BYTES 32

/* What is sealed into a segment: its header, the seed of its checksums, key and nonces. */
struct wal_sealer {
	uint8_t header[WAL_HEADER_BYTES];
	uint32_t seed;
	const struct seal_key *key;
	struct seal_nonce *nonce;
};
/* batch: the last one before it. */
void wal_header_encode(struct wal_sealer *s, uint64_t cluster, uint32_t number, uint32_t batch);
/* Goes on with a segment that begins with header. */
void wal_header_resume(struct wal_sealer *s, const uint8_t header[WAL_HEADER_BYTES]);
/*
 * Appends to out, which will stand at offset at of the segment, the n bytes of a batch's records; last: offset of the
 * one that ends it.
 */
void wal_batch_seal(struct wal_sealer *s, const uint8_t *p, size_t n, size_t last, uint32_t batch, size_t at,
                    struct buf *out);
/* The good part of a segment in clear, sealed: header and records. Only key and nonce of s are given. */
void wal_segment_seal(struct wal_sealer *s, const uint8_t *p, size_t good, struct buf *out);
/* The ways in which a file is refused: each fills err and returns its code. */
int wal_damaged(struct mesh_err *err, const char *name, size_t off, const char *what);
int wal_other_version(struct mesh_err *err, const struct wal_file *f, uint32_t version);
int wal_other_key(struct mesh_err *err, const struct wal_file *f, const uint8_t *id);
int wal_does_not_open(struct mesh_err *err, const struct wal_file *f, size_t off);
int wal_in_clear(struct mesh_err *err, const struct wal_file *f);
bool wal_tail_is_zero(const uint8_t *p, size_t n, size_t keep);
/* The layout a segment or snapshot says it has; 0: not one. */
uint32_t wal_file_version(const uint8_t *p, size_t n);

/* A sealed snapshot is this header, a box of its members, boxes of WAL_PIECE_BYTES of data, the last one shorter. */
#define WAL_SNAP_MAGIC "MSHSNAP"
#define WAL_SNAP_HEADER_BYTES 64
#define WAL_PIECE_BYTES 65536
struct wal_snap_layout {
	uint8_t header[WAL_SNAP_HEADER_BYTES]; /* without its checksum: what every box is bound to */
	uint64_t conf_n, data_n;
};
int wal_snap_layout(const uint8_t *p, size_t n, struct wal_snap_layout *out) MESH_MUST_CHECK;
/* Where piece i (of data) is in the file, and its size there. */
uint64_t wal_snap_piece(const struct wal_snap_layout *l, uint64_t i, size_t *size);
/* Opens piece i; out has room for size - SEAL_BYTES. */
bool wal_snap_open(const struct wal_snap_layout *l, const struct seal_key *key, uint64_t i, const uint8_t *box,
                   size_t size, uint8_t *out);

#endif
