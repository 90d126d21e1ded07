/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands and snapshots of the store. The first byte chooses; what was read must be written the same. */
#include "control/store/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static void same_again(const struct store *s)
{
	struct buf a = { 0 }, b = { 0 };
	struct store *copy = store_new();
	store_snapshot_encode(s, &a);
	if (store_snapshot_decode(copy, a.data, a.len, NULL))
		abort();
	store_snapshot_encode(copy, &b);
	if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
		abort();
	store_free(copy);
	buf_fini(&a);
	buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct mesh_err err = { 0 };
	if (!n)
		return 0;
	struct store *s = store_new();
	if (p[0] & 1) {
		if (store_snapshot_decode(s, p + 1, n - 1, &err) == 0)
			same_again(s);
	} else if (store_apply(s, 1, p + 1, n - 1, &err) == 0) {
		same_again(s);
		/* A second time nothing may be created again. */
		int rc = store_apply(s, 2, p + 1, n - 1, &err);
		(void)rc;
		same_again(s);
	}
	store_free(s);
	return 0;
}
