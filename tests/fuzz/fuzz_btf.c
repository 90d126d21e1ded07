/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Values of maps of another layout, by what their BTF says: the input is BTF (its length first, 16 bits) and a value. Every
 * struct of it is converted to every other.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "dataplane/ebpf/convert.h"

#define SIZE_MAX_TRIED 4096
#define TYPES_MAX 24

static int silent(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	(void)level;
	(void)fmt;
	(void)ap;
	return 0;
}

static void try(struct btype from, struct btype to, const uint8_t *value, size_t n)
{
	long in = btype_size(from), out = btype_size(to);
	if (in < 0 || out < 0 || in > SIZE_MAX_TRIED || out > SIZE_MAX_TRIED)
		return;
	/* Of exactly the size, so that a sanitizer sees more. */
	uint8_t *a = calloc(1, (size_t)in + !in), *b = calloc(1, (size_t)out + !out);
	if (n > (size_t)in)
		n = (size_t)in;
	if (n)
		memcpy(a, value, n);
	if (btf_convert(from, a, to, b) == 0 && from.id == to.id && btf_convert(from, b, to, a))
		abort(); /* what was converted can be again */
	free(a);
	free(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (n < 2 || n > 65536)
		return 0;
	size_t len = (size_t)(p[0] | p[1] << 8);
	if (len > n - 2)
		len = n - 2;
	libbpf_set_print(silent);
	struct btf *btf = btf__new(p + 2, (uint32_t)len);
	if (!btf)
		return 0;
	uint32_t types = btf__type_cnt(btf);
	for (uint32_t i = 1; i < types && i < TYPES_MAX; i++) {
		uint32_t offset, size;
		struct btype from = { btf, i };
		(void)btype_array(from, &size);
		(void)btype_member(from, "a", &offset);
		for (uint32_t k = 1; k < types && k < TYPES_MAX; k++)
			try(from, (struct btype){ btf, k }, p + 2 + len, n - 2 - len);
	}
	btf__free(btf);
	return 0;
}
