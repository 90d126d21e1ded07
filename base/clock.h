/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   points in time and durations as int64 nanoseconds, and their texts.
 *         Wall time: ns since 1970 UTC, 0 = not set. Durations: ns, Go syntax ("1m30s", "300ms").
 */
#ifndef MESH_BASE_CLOCK_H
#define MESH_BASE_CLOCK_H

#include <stdint.h>

#include "base/err.h"

#define NS_PER_US 1000LL
#define NS_PER_MS 1000000LL
#define NS_PER_SEC 1000000000LL

/* Effects: only shells call these two. */
int64_t clock_wall_ns(void);
int64_t clock_mono_ns(void);

#define CLOCK_TEXT_MAX 40
/* RFC 3339 with nanoseconds, trailing zeros cut, "Z". 0 gives "0001-01-01T00:00:00Z" as Go does. */
const char *clock_format(int64_t ns, char out[CLOCK_TEXT_MAX]);
/* Any RFC 3339 offset; also unix seconds with a fraction ("1795180389.5"). */
int clock_parse(const char *s, int64_t *out) MESH_MUST_CHECK;
/* "1h2m3.5s"; "0s" for zero. */
const char *duration_format(int64_t ns, char out[CLOCK_TEXT_MAX]);
/* Go's time.ParseDuration; a bare "0" is allowed, other bare numbers are not. */
int duration_parse(const char *s, int64_t *out) MESH_MUST_CHECK;

#endif
