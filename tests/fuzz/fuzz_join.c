/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bodies of the join frames: what decodes is within its bounds and decodes to itself again; and tokens. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/ca/ca.h"
#include "control/ca/join_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const struct schema *s, void *first, size_t size)
{
	struct buf b = { 0 };
	void *second = xcalloc(1, size);
	sch_encode(s, first, &b);
	if (sch_decode(s, second, b.data, b.len) || !sch_equal(s, first, second))
		abort();
	sch_clear(s, second);
	free(second);
	buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ca_csr_msg csr;
	struct ca_cert_msg cert;
	char token[128] = { 0 };
	for (int renew = 0; renew < 2; renew++) {
		if (ca_csr_msg_decode(&csr, data, size, renew, NULL) == 0) {
			if (!csr.csr.n || csr.csr.n > 2048 || (renew && csr.token))
				abort();
			again(&ca_csr_msg_schema, &csr, sizeof(csr));
		}
		sch_clear(&ca_csr_msg_schema, &csr);
	}
	if (ca_cert_msg_decode(&cert, data, size, NULL) == 0) {
		if (!mesh_id_valid(cert.node.s) || !cert.cert.n || !cert.root.n)
			abort();
		again(&ca_cert_msg_schema, &cert, sizeof(cert));
	}
	sch_clear(&ca_cert_msg_schema, &cert);
	memcpy(token, data, size < sizeof(token) ? size : sizeof(token) - 1);
	if (ca_token_check_form(token, NULL) == 0 && strlen(token) != 85)
		abort();
	return 0;
}
