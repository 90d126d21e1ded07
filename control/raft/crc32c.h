/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: CRC-32C (Castagnoli), as iSCSI and ext4 use it. Pure. crc32c("123456789") is 0xe3069283. */
#ifndef CONTROL_RAFT_CRC32C_H
#define CONTROL_RAFT_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc is 0 to start, or what an earlier call returned, to go on. */
uint32_t crc32c(uint32_t crc, const void *p, size_t n);

#endif
