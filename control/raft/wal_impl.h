/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: the formats' side of the log that its files' side (wal.c) uses. Nobody else includes this. */
#ifndef CONTROL_RAFT_WAL_IMPL_H
#define CONTROL_RAFT_WAL_IMPL_H

#include "control/raft/wal.h"

/* batch: the last one before it. Returns the seed of the segment's checksums. */
uint32_t wal_header_encode(uint8_t out[WAL_HEADER_BYTES], uint64_t cluster, uint32_t number, uint32_t batch);
/* Numbers and sums n bytes of records; last: offset of the one that ends the batch. */
void wal_batch_seal(uint8_t *p, size_t n, size_t last, uint32_t batch, uint32_t seed);
bool wal_tail_is_zero(const uint8_t *p, size_t n, size_t keep);
/* Where the data lies in a snapshot file, from its first 56 bytes. */
#define WAL_SNAP_HEADER_BYTES 56
int wal_snapshot_layout(const uint8_t *p, size_t n, uint64_t *data_at, uint64_t *data_n) MESH_MUST_CHECK;

#endif
