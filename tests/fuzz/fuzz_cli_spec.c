/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The small languages of service flags, and what people type as durations and sizes. */
#include <assert.h>
#include <stdint.h>

#include "cli/api.c"
#include "cli/http.c"
#include "cli/spec.c"
#include "cli/units.c"

typedef int (*parse_fn)(const char *, json_t **, struct mesh_err *);

static int secret_ref(const char *text, json_t **out, struct mesh_err *err)
{
	return spec_file_ref(text, "Secret", out, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const parse_fn parsers[] = { spec_mount,      secret_ref,      spec_network,
		                            spec_ulimit,     spec_preference, spec_generic_resource,
		                            spec_credential, shell_split };
	struct mesh_err err = { 0 };
	char text[64];
	char *host = NULL;
	int64_t v;

	if (size < 2 || size > 2000)
		return 0;
	CLEAN_FREE char *in = xstrndup((const char *)data + 1, size - 1);
	if (!json_text_ok(in)) /* main refuses those */
		return 0;
	json_t *out = NULL;
	if (parsers[data[0] % ARRAY_SIZE(parsers)](in, &out, &err) < 0)
		assert(!out && err.code < 0 && err.msg[0]);
	else
		assert(out);
	json_decref(out);
	JSON_CLEAN ports = json_array();
	(void)(spec_publish(in, ports, NULL) < 0);
	if (spec_host(in, &host, NULL) == 0)
		assert(strchr(host, ' '));
	free(host);
	/* What a duration prints as reads back as the same. */
	if (parse_duration(in, &v, NULL) == 0) {
		int64_t again;
		format_duration(v, text, sizeof(text));
		assert(parse_duration(text, &again, NULL) == 0);
		assert(llabs(again - v) <= llabs(v) / 1000000000 + 1);
	}
	if (parse_bytes(in, &v, NULL) == 0)
		format_bytes((double)v, text, sizeof(text));
	(void)(parse_nano_cpus(in, &v, NULL) < 0);
	(void)(parse_time(in, &v) < 0);
	return 0;
}
