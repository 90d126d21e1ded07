/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The certificate walk: what it returns lies inside the input, and names are printable. */
#include <stdlib.h>
#include <string.h>

#include "control/ca/x509.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void inside(struct x509_span s, const uint8_t *p, size_t n)
{
	if (s.p < p || s.n > n || s.p + s.n > p + n || s.n < 2)
		abort();
}

static void printable(const char *s)
{
	if (strlen(s) > 64)
		abort();
	for (; *s; s++)
		if (*s < 0x20 || *s > 0x7e)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct x509_info info;
	if (x509_first(data, size) > size)
		abort();
	if (x509_parse(data, size, &info, NULL))
		return 0;
	inside(info.issuer, data, size);
	inside(info.subject, data, size);
	inside(info.spki, data, size);
	printable(info.cn);
	printable(info.o);
	printable(info.ou);
	return 0;
}
