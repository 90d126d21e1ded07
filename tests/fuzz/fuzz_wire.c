/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages between agent and manager: the first byte chooses the message, the rest is decoded and encoded again. */
#include <stdint.h>
#include <stdlib.h>

#include "base/mem.h"
#include "control/dispatcher/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	const struct schema *calls[] = { &wire_call_schema, &wire_log_line_schema, &wire_end_schema, &dp_delta_schema,
		                         &md_service_schema };
	if (!n)
		return 0;
	const struct schema *s = p[0] < 64 ? wire_schema(p[0]) : calls[p[0] % ARRAY_SIZE(calls)];
	if (!s || !s->n)
		return 0;
	void *obj = sch_new(s), *again = sch_new(s);
	if (sch_decode(s, obj, p + 1, n - 1) == 0) {
		struct buf b = { 0 };
		sch_encode(s, obj, &b);
		if (sch_decode(s, again, b.data, b.len))
			abort(); /* what we write we must read */
		void *copy = sch_dup(s, obj);
		if (!sch_equal(s, obj, copy))
			abort();
		sch_free(s, copy);
		buf_fini(&b);
	}
	sch_free(s, obj);
	sch_free(s, again);
	return 0;
}
