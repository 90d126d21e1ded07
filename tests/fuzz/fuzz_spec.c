/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What users write and the brain reads: constraints, subnets, whole service and network specs. */
#include "control/allocator/cidr.h"
#include "control/orchestrator/brain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void as_text(const uint8_t *data, size_t n, struct store *s)
{
	CLEAN_FREE char *text = xstrndup((const char *)data, n);
	struct str_list l = { .v = &text, .n = 1 };
	struct mesh_err err;
	struct cidr c;
	char out[CIDR_TEXT_MAX];
	(void)!brain_check_constraints(&l, &err);
	if (!cidr_parse(text, &c)) {
		struct cidr again;
		if (cidr_parse(cidr_format(c, out), &again) || again.base != c.base || again.bits != c.bits)
			abort();
	}
	struct md_network_spec net = { .name = text };
	net.ipam = sch_new(&md_ipam_options_schema);
	LIST_ADD(&net.ipam->configs)->subnet = xstrdup(text);
	(void)!brain_check_network(s, &net, &err);
	sch_free(&md_ipam_options_schema, net.ipam);
}

static void as_specs(const uint8_t *data, size_t n, struct store *s)
{
	struct md_service_spec spec = { 0 };
	struct md_network_spec net = { 0 };
	struct mesh_err err;
	if (!sch_decode(&md_service_spec_schema, &spec, data, n))
		(void)!brain_check_service(s, &spec, "", &err);
	sch_clear(&md_service_spec_schema, &spec);
	if (!sch_decode(&md_network_spec_schema, &net, data, n))
		(void)!brain_check_network(s, &net, &err);
	sch_clear(&md_network_spec_schema, &net);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct store *s = store_new();
	as_text(data, n, s);
	as_specs(data, n, s);
	store_free(s);
	return 0;
}
