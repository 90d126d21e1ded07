/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   columns of text as Go's tabwriter sets them for docker (cells at least 10 wide, 3 apart).
 * Owner:  struct table owns its text. Pure but for table_print, which writes to stdout.
 */
#ifndef MESH_CLI_TABLE_H
#define MESH_CLI_TABLE_H

#include "base/buf.h"

/* Lines of tab-separated cells in, aligned lines out. */
void table_format(const char *text, struct buf *out);
/* The same with another least width of cells (docker top has 20). */
void table_format_min(const char *text, size_t min, struct buf *out);
/* How many columns a terminal needs for it. */
size_t text_width(const char *s, size_t n);

#endif
