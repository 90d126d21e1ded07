/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the frames of net.h as bytes: writing a header, and splitting a byte stream into frames. Pure.
 * Owner:  struct frame_rd owns its buffer (frame_rd_fini).
 * Errors: a length above the limit is MESH_E_PROTOCOL; the stream cannot be continued after it.
 * Memory: grows with what arrived, never with what a header claims, and shrinks when a large frame is done.
 */
#ifndef CONTROL_NET_FRAME_H
#define CONTROL_NET_FRAME_H

#include "base/buf.h"
#include "base/err.h"

#define FRAME_HEADER_BYTES 12

struct frame {
	uint16_t type, flags;
	uint32_t stream;
	const uint8_t *p; /* borrowed until the next call on the reader */
	size_t n;
};
struct frame_rd {
	struct buf buf;
	size_t off;   /* consumed bytes at the front */
	size_t limit; /* largest body accepted */
};

void frame_put(struct buf *out, uint16_t type, uint32_t stream, const void *p, size_t n);
void frame_rd_init(struct frame_rd *r, size_t limit);
void frame_rd_fini(struct frame_rd *r);
/* Room for n bytes of the stream; the caller says with frame_rd_commit how many came. */
uint8_t *frame_rd_reserve(struct frame_rd *r, size_t n);
void frame_rd_commit(struct frame_rd *r, size_t n);
/* 1: *out is the next frame. 0: more bytes are needed. MESH_E_PROTOCOL: bad framing. */
int frame_rd_next(struct frame_rd *r, struct frame *out, struct mesh_err *err) MESH_MUST_CHECK;
/* Is a frame begun but not complete? */
bool frame_rd_partial(const struct frame_rd *r);

#endif
