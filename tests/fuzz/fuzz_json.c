/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bodies of requests: the first byte chooses what is read; what was read must survive writing and reading. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "control/model/json.h"
#include "control/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct schema *specs[] = { &md_service_spec_schema, &md_node_spec_schema,    &md_cluster_spec_schema,
		                         &md_config_spec_schema,  &md_network_spec_schema, &md_task_schema,
		                         &md_service_schema,      &md_secret_spec_schema };
	struct str_list unknown = { 0 };
	struct mesh_err err = { 0 };
	if (!n)
		return 0;
	const struct schema *s = specs[p[0] % ARRAY_SIZE(specs)];
	void *obj = sch_new(s), *again = sch_new(s);
	int rc = md_json_decode(s, obj, p + 1, n - 1, &unknown, &err);
	if (rc && !err.msg[0])
		abort(); /* every refusal says why */
	struct jw w = { 0 };
	md_json_write(&w, s, obj);
	json_t *j;
	if (md_json_parse(w.b.data, w.b.len, &j, NULL))
		abort(); /* what we write is JSON, also after a failed read */
	json_decref(j);
	if (!rc && s != &md_secret_spec_schema && md_json_decode(s, again, w.b.data, w.b.len, NULL, NULL))
		abort();
	buf_fini(&w.b);
	strs_clear(&unknown);
	sch_free(s, obj);
	sch_free(s, again);
	return 0;
}
