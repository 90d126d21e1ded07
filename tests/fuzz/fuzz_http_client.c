/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes of a daemon's answer, whole and cut in two: both ways must give the same, and never more than came. */
#include <assert.h>
#include <stdint.h>

#include "cli/http.c"

static int feed_all(struct http_parser *p, const uint8_t *data, size_t size, size_t cut, struct buf *body)
{
	size_t used = 0, at = 0;

	while (at < size) {
		size_t n = at < cut ? cut - at : size - at;
		int rc = http_parser_feed(p, data + at, n, &used, body, NULL);
		assert(used <= n);
		at += used;
		if (rc < 0 || used < n)
			return rc;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_parser one = { 0 }, two = { 0 };
	struct buf a = { 0 }, b = { 0 };

	if (!size || size > 65536)
		return 0;
	bool head = data[0] & 1;
	http_parser_init(&one, head);
	http_parser_init(&two, head);
	int ra = feed_all(&one, data + 1, size - 1, size - 1, &a);
	int rb = feed_all(&two, data + 1, size - 1, size > 2 ? (size_t)data[0] % (size - 1) : 0, &b);
	assert((ra < 0) == (rb < 0));
	assert(a.len <= size);
	if (!ra) {
		assert(one.state == two.state && one.status == two.status);
		assert(a.len == b.len && (!a.len || !memcmp(a.data, b.data, a.len)));
		(void)(http_parser_eof(&one, NULL) < 0);
	}
	http_parser_fini(&one);
	http_parser_fini(&two);
	buf_fini(&a);
	buf_fini(&b);
	return 0;
}
