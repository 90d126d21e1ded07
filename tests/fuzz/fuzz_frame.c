/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame splitter: whatever arrives, and however it is cut, the frames are the same, within the limit and
 * within what arrived. First byte: how the stream is cut. Also the body of NET_ERROR and addresses.
 */
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "base/mem.h"
#include "control/net/frame.h"
#include "control/net/net.h"

#define LIMIT 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A digest of all frames, and how the stream ended. */
static uint64_t split(const uint8_t *p, size_t n, size_t step)
{
	struct frame_rd r;
	struct frame f;
	uint64_t sum = 14695981039346656037u;
	size_t bodies = 0;
	int rc = 0;
	frame_rd_init(&r, LIMIT);
	for (size_t off = 0; off < n && rc >= 0; off += step) {
		size_t part = n - off < step ? n - off : step;
		memcpy(frame_rd_reserve(&r, part), p + off, part);
		frame_rd_commit(&r, part);
		while ((rc = frame_rd_next(&r, &f, NULL)) > 0) {
			bodies += f.n;
			if (f.n > LIMIT || bodies > n)
				abort();
			sum = (sum ^ hash64(f.p, f.n)) * 1099511628211u + f.type + ((uint64_t)f.stream << 16);
		}
	}
	if (rc > 0 || (rc < 0 && rc != MESH_E_PROTOCOL))
		abort();
	frame_rd_fini(&r);
	return sum + (rc < 0);
}

static void addresses(const uint8_t *p, size_t n)
{
	char text[64] = { 0 }, host[32];
	uint16_t port;
	memcpy(text, p, n < sizeof(text) ? n : sizeof(text) - 1);
	if (net_addr_parse(text, 1, host, sizeof(host), &port, NULL) == 0 && (!*host || strlen(host) >= sizeof(host)))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct mesh_err err;
	if (!size)
		return 0;
	if (split(data + 1, size - 1, 1 + data[0]) != split(data + 1, size - 1, size))
		abort();
	net_error_decode(data, size, &err);
	if (err.code >= 0 || !err.msg[0] || strchr(err.msg, '\n'))
		abort();
	addresses(data, size);
	return 0;
}
