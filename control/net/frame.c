/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/net/frame.h"

#include <stdio.h>
#include <string.h>

#include "control/net/net.h"

/* What an empty reader may keep, so that small frames do not allocate each time. */
#define KEEP_BYTES (32u << 10)

void frame_put(struct buf *out, uint16_t type, uint32_t stream, const void *p, size_t n)
{
	buf_put_u32(out, (uint32_t)n);
	buf_put_u16(out, type);
	buf_put_u16(out, 0);
	buf_put_u32(out, stream);
	if (n)
		buf_put(out, p, n);
}

void frame_rd_init(struct frame_rd *r, size_t limit)
{
	*r = (struct frame_rd){ .limit = limit };
}

void frame_rd_fini(struct frame_rd *r)
{
	buf_fini(&r->buf);
	r->off = 0;
}

static void compact(struct frame_rd *r)
{
	if (!r->off)
		return;
	buf_consume(&r->buf, r->off);
	r->off = 0;
	if (!r->buf.len && r->buf.cap > KEEP_BYTES)
		buf_fini(&r->buf);
}

uint8_t *frame_rd_reserve(struct frame_rd *r, size_t n)
{
	compact(r);
	return buf_reserve(&r->buf, n);
}

void frame_rd_commit(struct frame_rd *r, size_t n)
{
	r->buf.len += n;
}

int frame_rd_next(struct frame_rd *r, struct frame *out, struct mesh_err *err)
{
	size_t left = r->buf.len - r->off;
	if (left < FRAME_HEADER_BYTES) {
		compact(r);
		return 0;
	}
	struct rd h = rd_of(r->buf.data + r->off, FRAME_HEADER_BYTES);
	size_t n = rd_u32(&h);
	if (n > r->limit)
		return mesh_fail(err, MESH_E_PROTOCOL, "frame of %zu bytes is above the limit of %zu", n, r->limit);
	if (left - FRAME_HEADER_BYTES < n)
		return 0;
	*out = (struct frame){ .type = rd_u16(&h), .flags = rd_u16(&h) };
	out->stream = rd_u32(&h);
	out->p = r->buf.data + r->off + FRAME_HEADER_BYTES;
	out->n = n;
	r->off += FRAME_HEADER_BYTES + n;
	return 1;
}

bool frame_rd_partial(const struct frame_rd *r)
{
	return r->buf.len > r->off;
}

void net_error_encode(struct buf *out, const struct mesh_err *err)
{
	const char *text = mesh_err_text(err, err ? err->code : 0);
	buf_put_u32(out, (uint32_t)(err ? err->code : 0));
	buf_put(out, text, strlen(text));
}

void net_error_decode(const uint8_t *p, size_t n, struct mesh_err *out)
{
	struct rd r = rd_of(p, n);
	int code = (int)rd_u32(&r);
	*out = (struct mesh_err){ .code = code < 0 && code > -2000 ? code : MESH_E_PROTOCOL };
	if (r.bad || !rd_left(&r)) {
		snprintf(out->msg, sizeof(out->msg), "%s", r.bad ? "no reason given" : mesh_code_text(out->code));
		return;
	}
	size_t len = rd_left(&r) < sizeof(out->msg) - 1 ? rd_left(&r) : sizeof(out->msg) - 1;
	memcpy(out->msg, r.p, len);
	out->msg[len] = '\0';
	for (size_t i = 0; i < len; i++)
		if ((uint8_t)out->msg[i] < 0x20 || (uint8_t)out->msg[i] == 0x7f)
			out->msg[i] = ' ';
}

static int parse_port(const char *s, uint16_t *out)
{
	unsigned long v = 0;
	if (!*s)
		return MESH_E_INVALID;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return MESH_E_INVALID;
		v = v * 10 + (unsigned long)(*s - '0');
		if (v > 65535)
			return MESH_E_INVALID;
	}
	*out = (uint16_t)v;
	return 0;
}

int net_addr_parse(const char *addr, uint16_t default_port, char *host, size_t host_size, uint16_t *port,
                   struct mesh_err *err)
{
	const char *end = NULL, *start = addr, *colon = strrchr(addr, ':');
	if (*addr == '[') {
		start = addr + 1;
		end = strchr(addr, ']');
		if (!end || (end[1] && end[1] != ':'))
			return mesh_fail(err, MESH_E_INVALID, "invalid address '%.255s': bad brackets", addr);
		colon = end[1] ? end + 1 : NULL;
	} else if (colon && strchr(addr, ':') != colon) {
		colon = NULL; /* a bare IPv6 address */
	}
	if (!end)
		end = colon ? colon : addr + strlen(addr);
	*port = default_port;
	if (colon && parse_port(colon + 1, port))
		return mesh_fail(err, MESH_E_INVALID, "invalid address '%.255s': bad port", addr);
	if (end == start || (size_t)(end - start) >= host_size)
		return mesh_fail(err, MESH_E_INVALID, "invalid address '%.255s': %s", addr,
		                 end == start ? "no host" : "host too long");
	memcpy(host, start, (size_t)(end - start));
	host[end - start] = '\0';
	return 0;
}
