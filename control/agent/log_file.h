/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   reads a task's log as the shim writes it: TASK/log and its rotated TASK/log.1, log.2 ... A record is
 *         "TIME stdout|stderr F|P text"; P marks a line that goes on in the next record of its stream.
 * Blocks: on local files only. Lines that are no records are skipped.
 */
#ifndef CONTROL_AGENT_LOG_FILE_H
#define CONTROL_AGENT_LOG_FILE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/buf.h"

#define LOG_JOIN_MAX (256u << 10) /* a longer line comes in pieces */

struct log_rec {
	int64_t time_ns;
	int stream; /* 1 stdout, 2 stderr */
	bool full;
	const char *text; /* borrowed until the next call */
	size_t n;
};
/* One line without its newline; false when it is no record. Pure. */
bool log_rec_parse(const char *line, size_t n, struct log_rec *out);

struct log_reader {
	char *dir;
	int fd; /* -1: no file yet */
	ino_t ino;
	struct buf raw;
	size_t pos;
	struct buf join[2];
	bool dirty[2];
};
/* tail: start at the last n lines, -1 at the oldest. */
void log_reader_open(struct log_reader *r, const char *dir, int64_t tail);
void log_reader_close(struct log_reader *r);
/* The next whole line: 1, or 0 when there is none now. */
int log_reader_next(struct log_reader *r, struct log_rec *out);

#endif
