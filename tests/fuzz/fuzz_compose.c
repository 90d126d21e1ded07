/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stack files: one, or two that a line "--- over" divides. What is accepted is also printed, and must read back. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>

#include "tests/support/compose.h"

static const char *fuzz_variable(void *arg, const char *name)
{
	(void)arg;
	return !strcmp(name, "A")   ? "1"
	       : !strcmp(name, "E") ? ""
	       : !strcmp(name, "L") ? "a long value: with, [signs]"
	                            : NULL;
}

/* Every file says its own name. */
static int fuzz_read(void *arg, const char *path, size_t max, struct buf *out, struct mesh_err *err)
{
	(void)arg;
	if (strstr(path, "gone"))
		return mesh_fail(err, -ENOENT, "open %.100s", path);
	if (strlen(path) < max)
		buf_printf(out, "A=%s\nB\nC=x\n", path);
	return 0;
}

static const struct compose_opts fuzz_opts = {
	.env = { fuzz_variable, NULL }, .read = fuzz_read, .workdir = "/w", .home = "/h"
};

static void read_back(struct compose *c)
{
	struct compose_opts raw = fuzz_opts;
	struct compose again = { 0 };
	struct mesh_err err = { 0 };
	struct buf text = { 0 };

	raw.raw = true;
	compose_emit(c, &text);
	struct compose_file f = { "emitted", buf_str(&text), text.len };
	if (text.len <= COMPOSE_MAX_FILE && compose_load(&again, &f, 1, &raw, &err) < 0) {
		fprintf(stderr, "%s\n%s\n", err.msg, buf_str(&text));
		abort();
	}
	compose_fini(&again);
	buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *mark = memmem(data, size, "--- over\n", 9);
	struct compose_file files[2] = { { "a.yml", (const char *)data,
		                           mark ? (size_t)(mark - (const char *)data) : size } };
	struct mesh_err err = { 0 };
	struct compose c = { 0 };
	json_t *plan = NULL;

	if (mark)
		files[1] = (struct compose_file){ "b.yml", mark + 9, size - files[0].len - 9 };
	int rc = compose_load(&c, files, mark ? 2 : 1, &fuzz_opts, &err);
	if (rc < 0)
		assert(err.code < 0 && err.msg[0]);
	else
		read_back(&c);
	if (!rc && compose_plan(&c, "st", &plan, &err) < 0)
		assert(err.code < 0 && err.msg[0]);
	json_decref(plan);
	compose_fini(&c);
	return 0;
}
