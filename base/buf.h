/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   a growable byte buffer, and a bounded reader over bytes that came from elsewhere.
 * Owner:  struct buf owns data (buf_fini); struct rd borrows.
 * Errors: writing cannot fail. Reading past the end sets rd.bad and gives zeros from then on, so a
 *         decoder may read a whole record and check once.
 * Units:  all integers little endian on the wire.
 */
#ifndef MESH_BASE_BUF_H
#define MESH_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct buf {
	uint8_t *data;
	size_t len, cap;
};

void buf_fini(struct buf *b);
void buf_clear(struct buf *b);
/* Makes room for n more bytes and returns where they go; the caller adds to len. */
uint8_t *buf_reserve(struct buf *b, size_t n);
void buf_put(struct buf *b, const void *p, size_t n);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_varint(struct buf *b, uint64_t v);
void buf_puts(struct buf *b, const char *s);
void buf_printf(struct buf *b, const char *fmt, ...) MESH_PRINTF(2, 3);
/* Drops n bytes from the front. */
void buf_consume(struct buf *b, size_t n);
/* NUL-terminates (not counted in len) and borrows as a string. */
const char *buf_str(struct buf *b);
/* Transfers the bytes, NUL-terminated, to the caller; b is empty after. */
char *buf_take_str(struct buf *b);

struct rd {
	const uint8_t *p, *end;
	bool bad;
};

static inline struct rd rd_of(const void *p, size_t n)
{
	return (struct rd){ .p = p, .end = (const uint8_t *)p + n };
}
static inline size_t rd_left(const struct rd *r)
{
	return (size_t)(r->end - r->p);
}
/* Borrows n bytes, or NULL and bad. */
const uint8_t *rd_bytes(struct rd *r, size_t n);
uint8_t rd_u8(struct rd *r);
uint16_t rd_u16(struct rd *r);
uint32_t rd_u32(struct rd *r);
uint64_t rd_u64(struct rd *r);
uint64_t rd_varint(struct rd *r);

#endif
