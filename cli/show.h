/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what several listings share: short ids, ages, image names, published ports, the task table,
 *         natural order, and "do this to each argument".
 * Owner:  char * results are the caller's.
 */
#ifndef MESH_CLI_SHOW_H
#define MESH_CLI_SHOW_H

#include <jansson.h>

#include "cli/command.h"
#include "cli/format.h"

/* Twelve characters, or all of it; "sha256:" goes first. */
char *short_id(const char *id, bool no_trunc);
/* "3 hours" since an RFC 3339 time; "" when it is none. */
char *age_of(const char *time);
/* At most n characters, the last an ellipsis. */
char *ellipsis(const char *text, size_t n);
/* "running" -> "Running" */
char *capitalised(const char *text);
/* Without the digest behind a tag. */
char *image_shown(const char *image);
/* "*:8080->80/tcp, *:9000-9002->9000-9002/udp" of an array of PortConfig; mode NULL = all. */
char *ports_shown(const json_t *ports, const char *mode);
int natural_cmp(const char *a, const char *b);
/* Sorts an array of objects by a text field, naturally. */
void sort_rows(json_t *rows, const char *path);
/* The table of "service ps", "node ps" and "stack ps". Asks for nodes and services unless --no-resolve. */
int tasks_print(struct cli *c, json_t *tasks, struct mesh_err *err) MESH_MUST_CHECK;

/* Runs fn for each argument; errors are printed as they come and the first is returned as status 1. */
int each_arg(struct cli *c, int (*fn)(struct cli *, const char *, struct mesh_err *),
             struct mesh_err *err) MESH_MUST_CHECK;
/* DELETE path/<arg> for each argument, echoing it. */
int remove_each(struct cli *c, const char *path, const char *query, struct mesh_err *err) MESH_MUST_CHECK;
/* inspect of each argument: objects found are printed, then what was not found is said. */
int inspect_each(struct cli *c, const char *path, const char *query,
                 int (*pretty)(struct cli *, json_t *, struct mesh_err *), struct mesh_err *err) MESH_MUST_CHECK;
/* Asks on stderr; true for "y". */
bool confirm(const char *question);
/* A whole file, or standard input for "-". At most max bytes. */
int read_input(const char *path, size_t max, struct bytes *out, struct mesh_err *err) MESH_MUST_CHECK;
char *base64(const void *p, size_t n, bool url);
/* Either alphabet; out has room for strlen(in) bytes. Returns how many there are. */
size_t base64_decode(const char *in, uint8_t *out);

/* "--since 10m" or a time -> the daemon's "1795180248.000000000" in out. */
int since_param(const char *text, char *out, size_t cap, struct mesh_err *err) MESH_MUST_CHECK;

/* The 8-byte framed stream of logs and exec: frames in, bytes to stdout and stderr out. Pure state. */
struct frames {
	uint8_t head[8];
	size_t have;   /* bytes of head */
	uint32_t left; /* bytes of the frame's payload */
};
typedef void (*frame_fn)(void *arg, int stream, const uint8_t *p, size_t n);
int frames_feed(struct frames *f, const uint8_t *p, size_t n, frame_fn fn, void *arg,
                struct mesh_err *err) MESH_MUST_CHECK;

#define FORMAT_LIST_FLAG                                                                                               \
	{                                                                                                              \
		"format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template"                   \
	}
#define FORMAT_ITEM_FLAG                                                                                               \
	{                                                                                                              \
		"format", 'f', F_STR, NULL, NULL, "'json' or a Go template"                                            \
	}
#define FILTER_FLAG(example)                                                                                           \
	{                                                                                                              \
		"filter", 'f', F_LIST, "filter", NULL, "Only what matches (" example ")"                               \
	}
#define QUIET_IDS_FLAG                                                                                                 \
	{                                                                                                              \
		"quiet", 'q', F_BOOL, NULL, NULL, "Only display IDs"                                                   \
	}

#endif
