/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A --format template over a fixed value: bounded, and an error or output, never both ways of nothing. */
#include <assert.h>
#include <stdint.h>

#include "cli/api.c"
#include "cli/http.c"
#include "cli/template.c"

static const char value_text[] =
	"{\"Name\":\"web\",\"N\":3,\"Ok\":true,\"F\":0.5,\"None\":null,\"L\":[\"a\",\"b\",{\"x\":1}],"
	"\"M\":{\"k\":\"v\",\"deep\":{\"er\":[[1]]}}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf out = { 0 };
	struct mesh_err err = { 0 };

	if (size > 2000)
		return 0;
	CLEAN_FREE char *text = xstrndup((const char *)data, size);
	JSON_CLEAN value = json_loads(value_text, 0, NULL);
	assert(value);
	int rc = template_run(text, value, size & 1, &out, &err);
	assert((rc < 0) == (err.code < 0));
	assert(rc >= 0 || err.msg[0]);
	buf_fini(&out);
	return 0;
}
