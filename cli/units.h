/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the quantities people type and read, as Go and docker write them. Pure.
 * Units:  durations in ns, sizes in bytes, cpus in billionths, times in ns since 1970.
 */
#ifndef MESH_CLI_UNITS_H
#define MESH_CLI_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NS_PER_S 1000000000LL

/* 1, 0, or -1 when it is neither; Go's list of words. */
int parse_bool(const char *text);
/* "1h2m3.5s", "0"; Go's time.ParseDuration. */
int parse_duration(const char *text, int64_t *ns, struct mesh_err *err) MESH_MUST_CHECK;
/* "64m", "1.5GiB", "100": powers of 1024. */
int parse_bytes(const char *text, int64_t *bytes, struct mesh_err *err) MESH_MUST_CHECK;
int parse_nano_cpus(const char *text, int64_t *nano, struct mesh_err *err) MESH_MUST_CHECK;
/* RFC 3339 with up to nine digits of fraction. */
int parse_time(const char *text, int64_t *ns) MESH_MUST_CHECK;

/* Go's Duration.String: "1m30s", "1.5s", "2160h0m0s". */
void format_duration(int64_t ns, char *out, size_t cap);
/* "About a minute", "3 hours"; units.HumanDuration. */
void format_human_duration(int64_t ns, char *out, size_t cap);
/* 23.54GiB: powers of 1024, four digits. */
void format_bytes(double bytes, char *out, size_t cap);
/* 4.27MB: powers of 1000; digits significant. */
void format_size(double bytes, int digits, char *out, size_t cap);
/* Go's time.String in UTC: "2026-11-20 12:58:08.381821786 +0000 utc". */
void format_time(int64_t ns, char *out, size_t cap);
int64_t now_ns(void);

#endif
