/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <cmocka.h>

#include "base/fs.h"
#include "base/mem.h"
#include "control/ca/seal.h"

static int setup(void **state)
{
	char *dir = xstrdup("/tmp/mesh-seal-XXXXXX");
	assert_non_null(mkdtemp(dir));
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	fs_remove_tree(*state);
	free(*state);
	return 0;
}

static void test_boxes(void **state)
{
	(void)state;
	struct seal_key *k = seal_key_of(1), *other = seal_key_of(2);
	struct seal_nonce nonce;
	uint8_t box[5 + SEAL_BYTES], copy[sizeof(box)], empty[SEAL_BYTES], p[8];
	seal_nonce_init(&nonce);
	seal_close(k, &nonce, "ad", 2, "hello", 5, box);
	assert_true(seal_open(k, "ad", 2, box, sizeof(box), p));
	assert_memory_equal(p, "hello", 5);
	assert_false(seal_open(k, "aD", 2, box, sizeof(box), p));
	assert_false(seal_open(k, "ad", 1, box, sizeof(box), p));
	assert_false(seal_open(other, "ad", 2, box, sizeof(box), p));
	for (size_t i = 0; i < sizeof(box); i++) {
		assert_false(seal_open(k, "ad", 2, box, i, p));
		memcpy(copy, box, sizeof(box));
		copy[i] ^= 1;
		assert_false(seal_open(k, "ad", 2, copy, sizeof(copy), p));
	}
	seal_close(k, &nonce, "ad", 2, "hello", 5, copy);
	assert_memory_not_equal(copy, box, SEAL_NONCE_BYTES);
	seal_close(k, &nonce, "ad", 2, NULL, 0, empty);
	assert_true(seal_open(k, "ad", 2, empty, sizeof(empty), p));
	empty[30] ^= 1;
	assert_false(seal_open(k, "ad", 2, empty, sizeof(empty), p));
	seal_key_free(k);
	seal_key_free(other);
}

/* A box that another implementation made (XChaCha20-Poly1305 by the RFCs and the XChaCha draft). */
static void test_another_implementation(void **state)
{
	(void)state;
	static const uint8_t box[] = { 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b,
		                       0x4c, 0x4d, 0x4e, 0x4f, 0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57,
		                       0x16, 0x51, 0xf0, 0x36, 0x29, 0xe4, 0x76, 0x49, 0x47, 0x3f, 0x65, 0xd9,
		                       0x88, 0x73, 0xdc, 0x4a, 0xaa, 0x16, 0x94, 0x62, 0x96 };
	uint8_t p[sizeof(box)];
	struct seal_key *k = seal_key_of(1);
	assert_true(seal_open(k, "bound", 5, box, sizeof(box), p));
	assert_memory_equal(p, "meshd", 5);
	seal_key_free(k);
}

static void test_key_file(void **state)
{
	const char *dir = *state;
	struct mesh_err err = { 0 };
	struct seal_key *k = NULL, *back = NULL;
	struct stat st;
	CLEAN_FREE char *path = xasprintf("%s/data.key", dir);
	assert_int_equal(seal_key_load(dir, &k, &err), -ENOENT);
	assert_non_null(strstr(err.msg, path));
	assert_int_equal(seal_key_make(dir, &k, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_false(seal_key_settled(k));
	assert_int_equal(seal_key_settle(k, dir, &err), 0);
	assert_int_equal(seal_key_load(dir, &back, &err), 0);
	assert_true(seal_key_settled(back));
	assert_memory_equal(seal_key_id(k), seal_key_id(back), SEAL_ID_BYTES);
	struct seal_nonce nonce;
	uint8_t box[SEAL_BYTES + 1], p;
	seal_nonce_init(&nonce);
	seal_close(k, &nonce, "", 0, "x", 1, box);
	assert_true(seal_open(back, "", 0, box, sizeof(box), &p));
	seal_key_free(k);
	seal_key_free(back);
	/* Cut anywhere, and locked by a later version. */
	struct buf b = { 0 };
	assert_int_equal(fs_read(path, 4096, &b, &err), 0);
	for (size_t n = 0; n < b.len; n++) {
		int rc;
		assert_int_equal(fs_write(path, b.data, n, 0600, FS_CACHED, &err), 0);
		rc = seal_key_load(dir, &k, &err);
		if (!rc) {
			seal_key_free(k); /* only the mark that all is sealed was cut off */
			assert_true(n + 2 >= b.len);
			continue;
		}
		assert_int_equal(rc, MESH_E_CORRUPT);
		assert_non_null(strstr(err.msg, path));
	}
	buf_put(&b, "\x18\x01", 2); /* wrap: 1 */
	assert_int_equal(fs_write(path, b.data, b.len, 0600, FS_CACHED, &err), 0);
	assert_int_equal(seal_key_load(dir, &k, &err), MESH_E_LOCKED);
	assert_non_null(strstr(err.msg, "use the meshd that wrote it"));
	buf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boxes),
		cmocka_unit_test(test_another_implementation),
		cmocka_unit_test_setup_teardown(test_key_file, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
