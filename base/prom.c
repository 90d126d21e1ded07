/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/prom.h"

#include <stdarg.h>
#include <string.h>

/* Bytes of the UTF-8 sequence at s, 0 when there is none. */
static size_t utf8_len(const unsigned char *s)
{
	size_t n = *s < 0x80                 ? 1
	           : *s >= 0xc2 && *s < 0xe0 ? 2
	           : *s >= 0xe0 && *s < 0xf0 ? 3
	           : *s >= 0xf0 && *s < 0xf5 ? 4
	                                     : 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

static void put_escaped(struct buf *b, const char *text, bool quotes)
{
	const unsigned char *s = (const unsigned char *)text;
	while (*s) {
		size_t n = utf8_len(s);
		if (*s == '\\' || *s == '\n' || (quotes && *s == '"'))
			buf_puts(b, *s == '\n' ? "\\n" : *s == '"' ? "\\\"" : "\\\\");
		else if (n)
			buf_put(b, s, n);
		else
			buf_puts(b, "\xef\xbf\xbd");
		s += n ? n : 1;
	}
}

void prom_family(struct buf *b, const char *name, const char *type, const char *help)
{
	buf_printf(b, "# HELP %s ", name);
	put_escaped(b, help, false);
	buf_printf(b, "\n# TYPE %s %s\n", name, type);
}

static void put_labels(struct buf *b, va_list ap)
{
	char open = '{';
	for (const char *k; (k = va_arg(ap, const char *)); open = ',') {
		const char *v = va_arg(ap, const char *);
		buf_printf(b, "%c%s=\"", open, k);
		put_escaped(b, v ? v : "", true);
		buf_put_u8(b, '"');
	}
	if (open == ',')
		buf_put_u8(b, '}');
}

void prom_u64(struct buf *b, const char *name, uint64_t v, ...)
{
	va_list ap;
	buf_puts(b, name);
	va_start(ap, v);
	put_labels(b, ap);
	va_end(ap);
	buf_printf(b, " %llu\n", (unsigned long long)v);
}

void prom_f64(struct buf *b, const char *name, double v, ...)
{
	va_list ap;
	buf_puts(b, name);
	va_start(ap, v);
	put_labels(b, ap);
	va_end(ap);
	buf_printf(b, " %.9g\n", v);
}
