/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   Prometheus text exposition, version 0.0.4: families and samples, with names and labels as they must be.
 *         A family's samples follow its head at once; a family appears once.
 * Labels: pairs of name and value, ended by PROM_END; a NULL value is "". Values are escaped, text that is not UTF-8 mended.
 */
#ifndef MESH_BASE_PROM_H
#define MESH_BASE_PROM_H

#include "base/buf.h"

#define PROM_END ((const char *)NULL)

/* type: "counter", "gauge", "summary". */
void prom_family(struct buf *b, const char *name, const char *type, const char *help);
void prom_u64(struct buf *b, const char *name, uint64_t v, ... /* label, value, ..., PROM_END */);
void prom_f64(struct buf *b, const char *name, double v, ... /* label, value, ..., PROM_END */);

#endif
