/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What nft prints of a set. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "dataplane/nft/rules.h"

static void take(const char *text, struct rules *out)
{
	rules_take_listed("here", text, &out->elems);
	MAP_FOREACH(&out->elems, e)
		if (strncmp(e->key, "here\n", 5) != 0 || !e->key[5] || strpbrk(e->key, ",}") || !e->value)
			abort();
}

/* Printed again they are the same. */
static void print(const struct rules *r, struct buf *out)
{
	buf_puts(out, "elements = {");
	MAP_FOREACH(&r->elems, e)
		buf_printf(out, "%s%s%s,", e->key + 5, *(char *)e->value ? " : " : "", (char *)e->value);
	buf_puts(out, "}");
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	struct rules one = { 0 }, two = { 0 };
	struct buf text = { 0 };
	CLEAN_FREE char *copy = xstrndup((const char *)p, n);
	take(copy, &one);
	print(&one, &text);
	take(buf_str(&text), &two);
	buf_clear(&text);
	rules_change_text("mesh", &one, &two, &text);
	if (text.len || one.elems.count != two.elems.count)
		abort();
	buf_fini(&text);
	rules_fini(&one);
	rules_fini(&two);
	return 0;
}
