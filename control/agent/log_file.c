/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/log_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define HISTORY_MAX 1000
#define CHUNK (64u << 10)
#define STAMP 30 /* "2026-11-20T20:50:19.555513123Z" */
#define TAG (STAMP + 8)
#define HEAD (TAG + 2)

bool log_rec_parse(const char *line, size_t n, struct log_rec *out)
{
	char stamp[STAMP + 1];
	if (n < HEAD || line[STAMP - 1] != 'Z' || line[STAMP] != ' ' || line[TAG - 1] != ' ' || line[TAG + 1] != ' ')
		return false;
	memcpy(stamp, line, STAMP);
	stamp[STAMP] = 0;
	if (clock_parse(stamp, &out->time_ns))
		return false;
	if (!memcmp(line + STAMP + 1, "stdout", 6))
		out->stream = 1;
	else if (!memcmp(line + STAMP + 1, "stderr", 6))
		out->stream = 2;
	else
		return false;
	if (line[TAG] != 'F' && line[TAG] != 'P')
		return false;
	out->full = line[TAG] == 'F';
	out->text = line + HEAD;
	out->n = n - HEAD;
	return true;
}

/* "log" for 0, "log.3" for 3. */
static void path_of(const struct log_reader *r, int index, char *out, size_t n)
{
	if (index)
		snprintf(out, n, "%s/log.%d", r->dir, index);
	else
		snprintf(out, n, "%s/log", r->dir);
}

static bool ino_of(const struct log_reader *r, int index, ino_t *ino)
{
	char path[4200];
	struct stat st;
	path_of(r, index, path, sizeof(path));
	if (stat(path, &st))
		return false;
	*ino = st.st_ino;
	return true;
}

static bool open_index(struct log_reader *r, int index, off_t at)
{
	char path[4200];
	struct stat st;
	path_of(r, index, path, sizeof(path));
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (r->fd >= 0)
		close(r->fd);
	r->fd = fd;
	r->ino = fstat(fd, &st) ? 0 : st.st_ino;
	lseek(fd, at, SEEK_SET);
	buf_clear(&r->raw);
	r->pos = 0;
	return true;
}

static int oldest(const struct log_reader *r)
{
	ino_t ino;
	int i = 0;
	while (i < HISTORY_MAX && ino_of(r, i + 1, &ino))
		i++;
	return i;
}

/* Counts whole lines backwards; true with *at when the tail starts in this file. */
static bool tail_in(struct log_reader *r, int index, int64_t *left, off_t *at)
{
	char path[4200];
	struct stat st;
	path_of(r, index, path, sizeof(path));
	CLEAN_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) || st.st_size == 0)
		return false;
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return false;
	const char *end = p + st.st_size;
	bool found = false;
	*at = 0;
	while (end > p) {
		const char *stop = end[-1] == '\n' ? end - 1 : end;
		const char *nl = stop > p ? memrchr(p, '\n', (size_t)(stop - p)) : NULL;
		const char *line = nl ? nl + 1 : p;
		if (stop - line > TAG && line[TAG] == 'F' && (*left)-- == 0) {
			*at = end - p;
			found = true;
			break;
		}
		end = line;
	}
	munmap(p, (size_t)st.st_size);
	return found;
}

void log_reader_open(struct log_reader *r, const char *dir, int64_t tail)
{
	*r = (struct log_reader){ .dir = xstrdup(dir), .fd = -1 };
	int last = oldest(r), index = last;
	off_t at = 0;
	if (tail >= 0)
		for (index = 0; index <= last && !tail_in(r, index, &tail, &at); index++)
			at = 0;
	(void)open_index(r, index > last ? last : index, at);
}

void log_reader_close(struct log_reader *r)
{
	if (r->fd >= 0)
		close(r->fd);
	buf_fini(&r->raw);
	buf_fini(&r->join[0]);
	buf_fini(&r->join[1]);
	free(r->dir);
	*r = (struct log_reader){ .fd = -1 };
}

static bool fill(struct log_reader *r)
{
	if (r->fd < 0)
		return false;
	if (r->pos) {
		buf_consume(&r->raw, r->pos);
		r->pos = 0;
	}
	ssize_t n = read(r->fd, buf_reserve(&r->raw, CHUNK), CHUNK);
	if (n <= 0)
		return false;
	r->raw.len += (size_t)n;
	return true;
}

/* The file at its end may have been rotated away: goes on with the next newer one. */
static bool next_file(struct log_reader *r)
{
	ino_t ino;
	if (r->fd < 0)
		return open_index(r, oldest(r), 0);
	if (!ino_of(r, 0, &ino) || ino == r->ino)
		return false;
	if (fill(r)) /* written between our last read and the rotation */
		return true;
	int last = oldest(r);
	for (int i = 1; i <= last; i++)
		if (ino_of(r, i, &ino) && ino == r->ino)
			return open_index(r, i - 1, 0);
	return open_index(r, last, 0);
}

/* Joins pieces; true when rec is a whole line (or too long to wait for). */
static bool joined(struct log_reader *r, struct log_rec *rec)
{
	struct buf *j = &r->join[rec->stream - 1];
	bool *dirty = &r->dirty[rec->stream - 1];
	if (*dirty) {
		buf_clear(j);
		*dirty = false;
	}
	if (rec->full && !j->len)
		return true;
	buf_put(j, rec->text, rec->n);
	if (!rec->full && j->len < LOG_JOIN_MAX)
		return false;
	rec->text = (const char *)j->data;
	rec->n = j->len;
	rec->full = true;
	*dirty = true;
	return true;
}

int log_reader_next(struct log_reader *r, struct log_rec *out)
{
	for (;;) {
		const uint8_t *from = r->raw.data + r->pos;
		const uint8_t *nl = r->raw.len > r->pos ? memchr(from, '\n', r->raw.len - r->pos) : NULL;
		if (nl) {
			r->pos += (size_t)(nl - from) + 1;
			if (log_rec_parse((const char *)from, (size_t)(nl - from), out) && joined(r, out))
				return 1;
			continue;
		}
		if (r->raw.len - r->pos > (1u << 20)) {
			r->pos = r->raw.len; /* no record is that long */
			continue;
		}
		if (!fill(r) && !next_file(r))
			return 0;
	}
}
