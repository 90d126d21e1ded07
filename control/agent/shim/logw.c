/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/shim/shim.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

void logw_open(struct logw *w, long max, int files)
{
	w->fd = open(LOGW_PATH, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	w->max = max;
	w->files = files < 1 ? 1 : files;
	w->size = 0;
	w->out_len = w->part[0].len = w->part[1].len = 0;
	struct stat st;
	if (w->fd >= 0 && !fstat(w->fd, &st))
		w->size = st.st_size;
}

/* log -> log.1 -> ... ; a reader that holds an old file finds it again by its inode. */
static void rotate(struct logw *w)
{
	char from[32], to[32];
	close(w->fd);
	for (int i = w->files - 1; i > 0; i--) {
		snprintf(to, sizeof(to), LOGW_PATH ".%d", i);
		snprintf(from, sizeof(from), i > 1 ? LOGW_PATH ".%d" : LOGW_PATH, i - 1);
		(void)rename(from, to); /* a gap in the history is fine */
	}
	if (w->files == 1)
		unlink(LOGW_PATH);
	w->fd = open(LOGW_PATH, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	w->size = 0;
}

void logw_flush(struct logw *w)
{
	for (size_t done = 0; done < w->out_len;) {
		ssize_t n = write(w->fd, w->out + done, w->out_len - done);
		if (n <= 0)
			break; /* disk full: the task goes on, its lines are lost */
		done += (size_t)n;
		w->size += n;
	}
	w->out_len = 0;
}

static size_t stamp(char *out, size_t cap, int64_t ns)
{
	time_t s = (time_t)(ns / 1000000000);
	struct tm tm;
	gmtime_r(&s, &tm);
	return (size_t)snprintf(out, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ", tm.tm_year + 1900, tm.tm_mon + 1,
	                        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (long)(ns % 1000000000));
}

/* One record: "TIME stdout F text"; P marks a line that goes on in the next record of its stream. */
static void record(struct logw *w, int stream, bool full, const char *p, size_t n, int64_t ns)
{
	if (w->out_len + n + 64 > sizeof(w->out))
		logw_flush(w);
	if (w->max && w->size + (long)w->out_len + (long)n + 40 > w->max && w->size + (long)w->out_len > 0) {
		logw_flush(w);
		rotate(w);
	}
	char *o = w->out + w->out_len;
	size_t k = stamp(o, 40, ns);
	k += (size_t)snprintf(o + k, 16, " %s %c ", stream ? "stderr" : "stdout", full ? 'F' : 'P');
	memcpy(o + k, p, n);
	o[k + n] = '\n';
	w->out_len += k + n + 1;
}

void logw_put(struct logw *w, int stream, const char *p, size_t n, int64_t now_ns)
{
	char *part = w->part[stream].buf;
	size_t *len = &w->part[stream].len;
	while (n) {
		const char *nl = memchr(p, '\n', n);
		size_t take = nl ? (size_t)(nl - p) : n, room = LOGW_LINE - *len;
		if (take > room) {
			take = room;
			nl = NULL;
		}
		memcpy(part + *len, p, take);
		*len += take;
		p += take + (nl ? 1 : 0);
		n -= take + (nl ? 1 : 0);
		if (nl || *len == LOGW_LINE) {
			record(w, stream, nl != NULL, part, *len, now_ns);
			*len = 0;
		}
	}
}

void logw_end(struct logw *w, int64_t now_ns)
{
	for (int s = 0; s < 2; s++) {
		if (w->part[s].len)
			record(w, s, true, w->part[s].buf, w->part[s].len, now_ns);
		w->part[s].len = 0;
	}
	logw_flush(w);
}
