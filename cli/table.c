/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "base/mem.h"
#include "cli/table.h"

#define COLS_MAX 64
#define CELL_MIN 10
#define CELL_PAD 3

size_t text_width(const char *s, size_t n)
{
	size_t w = 0;

	for (size_t i = 0; i < n; i++)
		w += ((unsigned char)s[i] & 0xc0) != 0x80;
	return w;
}

/* The last cell of a line belongs to no column: it is neither measured nor padded. */
static void measure(const char *text, size_t *width)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n"), col = 0;
		const char *cell = line, *end = line + len;
		const char *tab;
		while (col < COLS_MAX && (tab = memchr(cell, '\t', (size_t)(end - cell)))) {
			size_t w = text_width(cell, (size_t)(tab - cell)) + CELL_PAD;
			if (w > width[col])
				width[col] = w;
			cell = tab + 1;
			col++;
		}
		line = end + (*end == '\n');
	}
}

void table_format(const char *text, struct buf *out)
{
	table_format_min(text, CELL_MIN, out);
}

void table_format_min(const char *text, size_t min, struct buf *out)
{
	size_t width[COLS_MAX];

	for (size_t i = 0; i < COLS_MAX; i++)
		width[i] = min;
	measure(text, width);
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n"), col = 0;
		const char *cell = line, *end = line + len;
		const char *tab;
		while (col < COLS_MAX && (tab = memchr(cell, '\t', (size_t)(end - cell)))) {
			size_t n = (size_t)(tab - cell);
			buf_put(out, cell, n);
			for (size_t pad = text_width(cell, n); pad < width[col]; pad++)
				buf_puts(out, " ");
			cell = tab + 1;
			col++;
		}
		buf_put(out, cell, (size_t)(end - cell));
		buf_puts(out, "\n");
		line = end + (*end == '\n');
	}
}
