/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/wal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"
#include "control/raft/crc32c.h"
#include "control/raft/wal_impl.h"

int64_t wal_test_space = -1;

struct segment {
	uint64_t number, max_index;
	size_t clear; /* how much of it is good, in clear; 0: it is sealed */
};

struct wal {
	char *dir;
	int dir_fd, lock_fd, fd; /* fd: newest segment, -1 before the first write */
	uint64_t cluster;
	struct VEC(struct segment) segments;
	uint32_t batch;           /* last one */
	struct wal_sealer sealer; /* of the newest segment */
	struct seal_nonce nonce;
	size_t off;          /* where the next record goes in the newest segment */
	bool clear;          /* something is, and will not stay so */
	uint64_t term, vote; /* as last written */
};

#define NAME_MAX_ 64
static const char *segment_name(uint64_t number, char out[NAME_MAX_])
{
	snprintf(out, NAME_MAX_, "wal-%016" PRIx64 ".log", number);
	return out;
}

static const char *snap_name(uint64_t index, char out[NAME_MAX_])
{
	snprintf(out, NAME_MAX_, "snap-%016" PRIx64 ".snap", index);
	return out;
}

static bool no_space(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG;
}

/* ---- small file work ---- */

static int write_all(int fd, const uint8_t *p, size_t n, size_t off)
{
	while (n) {
		size_t want = n;
		if (wal_test_space >= 0) {
			if (!wal_test_space)
				return -ENOSPC;
			if ((uint64_t)wal_test_space < want)
				want = (size_t)wal_test_space;
		}
		ssize_t w = pwrite(fd, p, want, (off_t)off);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		if (wal_test_space >= 0)
			wal_test_space -= w;
		p += w;
		n -= (size_t)w;
		off += (size_t)w;
	}
	return 0;
}

static int read_file(struct wal *w, const char *name, struct buf *out, struct mesh_err *err)
{
	CLEAN_CLOSE int fd = openat(w->dir_fd, name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return mesh_fail(err, -errno, "%s/%s", w->dir, name);
	for (;;) {
		uint8_t *at = buf_reserve(out, 1 << 16);
		ssize_t n = read(fd, at, 1 << 16);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return mesh_fail(err, -errno, "%s/%s", w->dir, name);
		if (!n)
			return 0;
		out->len += (size_t)n;
	}
}

static int sync_dir(struct wal *w, struct mesh_err *err)
{
	return fsync(w->dir_fd) ? mesh_fail(err, -errno, "%s: fsync", w->dir) : 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

struct numbers VEC(uint64_t);

/* The numbers of the files called prefix-<16 hex digits>.suffix, sorted. */
static int list(const char *dir, const char *prefix, const char *suffix, struct numbers *out)
{
	DIR *d = opendir(dir);
	if (!d)
		return -errno;
	size_t pre = strlen(prefix);
	for (struct dirent *e; (e = readdir(d));) {
		char *end;
		if (strncmp(e->d_name, prefix, pre) != 0 || strlen(e->d_name) != pre + 16 + strlen(suffix))
			continue;
		uint64_t v = strtoull(e->d_name + pre, &end, 16);
		if (end == e->d_name + pre + 16 && strcmp(end, suffix) == 0)
			vec_push(out, v);
	}
	closedir(d);
	if (out->len)
		qsort(out->data, out->len, sizeof(*out->data), by_number);
	return 0;
}

static void remove_rubbish(struct wal *w)
{
	DIR *d = opendir(w->dir);
	if (!d)
		return;
	for (struct dirent *e; (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		if (n > 4 && strcmp(e->d_name + n - 4, ".tmp") == 0)
			(void)unlinkat(w->dir_fd, e->d_name, 0); /* tried again at the next start */
	}
	closedir(d);
}

/* ---- opening ---- */

bool wal_exists(const char *dir)
{
	struct numbers n = { 0 };
	(void)list(dir, "wal-", ".log", &n); /* no directory: no log */
	bool found = n.len;
	vec_fini(&n);
	return found;
}

static bool sealed_file(int dir_fd, const char *name)
{
	uint8_t head[12];
	CLEAN_CLOSE int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, head, sizeof(head));
	return n > 0 && wal_file_version(head, (size_t)n) > WAL_CLEAR_VERSION;
}

bool wal_sealed(const char *dir)
{
	DIR *d = opendir(dir);
	bool found = false;
	if (!d)
		return false;
	for (struct dirent *e; !found && (e = readdir(d));) {
		size_t n = strlen(e->d_name);
		if (n > 5 && (strcmp(e->d_name + n - 4, ".log") == 0 || strcmp(e->d_name + n - 5, ".snap") == 0))
			found = sealed_file(dirfd(d), e->d_name);
	}
	closedir(d);
	return found;
}

static int lock_dir(struct wal *w, struct mesh_err *err)
{
	if (mkdir(w->dir, 0700) && errno != EEXIST)
		return mesh_fail(err, -errno, "%s: cannot be made", w->dir);
	w->dir_fd = open(w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->dir_fd < 0)
		return mesh_fail(err, -errno, "%s", w->dir);
	w->lock_fd = openat(w->dir_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (w->lock_fd < 0)
		return mesh_fail(err, -errno, "%s/lock", w->dir);
	int rc = fs_lock(w->lock_fd);
	if (rc == -EBUSY)
		return mesh_fail(err, rc, "%s: another meshd uses this state directory", w->dir);
	return rc ? mesh_fail(err, rc, "%s/lock", w->dir) : 0;
}

static int load_snapshot(struct wal *w, struct wal_content *c, struct mesh_err *err)
{
	struct numbers n = { 0 };
	int rc = list(w->dir, "snap-", ".snap", &n);
	if (rc || !n.len) {
		vec_fini(&n);
		return rc ? mesh_fail(err, rc, "%s", w->dir) : 0;
	}
	char name[NAME_MAX_];
	struct buf b = { 0 };
	rc = read_file(w, snap_name(n.data[n.len - 1], name), &b, err);
	if (!rc)
		rc = wal_snapshot_decode(&(struct wal_file){ name, b.data, b.len, w->cluster, w->sealer.key }, &c->snap,
		                         err);
	if (rc && err)
		(void)mesh_wrap(err, rc, "%s", w->dir);
	if (!rc && wal_file_version(b.data, b.len) == WAL_CLEAR_VERSION)
		w->clear = true;
	buf_fini(&b);
	for (size_t i = 0; !rc && i + 1 < n.len; i++)
		(void)unlinkat(w->dir_fd, snap_name(n.data[i], name), 0); /* only costs space */
	vec_fini(&n);
	return rc;
}

/* The newest segment may end in a write that was cut short; it goes, so that nothing reads it again. */
static int cut_tail(struct wal *w, const char *name, const struct buf *b, size_t keep, struct mesh_err *err)
{
	if (keep == 0) {
		log_info("raft log: removed a segment that was being created file=%s/%s", w->dir, name);
		if (unlinkat(w->dir_fd, name, 0))
			return mesh_fail(err, -errno, "%s/%s", w->dir, name);
		return sync_dir(w, err);
	}
	w->fd = openat(w->dir_fd, name, O_RDWR | O_CLOEXEC);
	if (w->fd < 0)
		return mesh_fail(err, -errno, "%s/%s", w->dir, name);
	w->off = keep;
	if (wal_file_version(b->data, b->len) == WAL_VERSION)
		wal_header_resume(&w->sealer, b->data);
	if (wal_tail_is_zero(b->data, b->len, keep))
		return 0;
	log_warn("raft log: cut off a write that never finished file=%s/%s offset=%zu", w->dir, name, keep);
	if (ftruncate(w->fd, (off_t)keep) || fsync(w->fd))
		return mesh_fail(err, -errno, "%s/%s: cutting the torn tail", w->dir, name);
	return 0;
}

static int load_segment(struct wal *w, uint64_t number, bool last, struct wal_content *c, struct mesh_err *err)
{
	char name[NAME_MAX_];
	struct buf b = { 0 };
	struct segment s = { .number = number };
	size_t keep = 0;
	int rc = read_file(w, segment_name(number, name), &b, err);
	if (rc)
		goto out;
	rc = wal_segment_decode(&(struct wal_file){ name, b.data, b.len, w->cluster, w->sealer.key }, last, &w->batch,
	                        c, &s.max_index, &keep, err);
	if (rc) {
		(void)mesh_wrap(err, rc, "%s", w->dir);
		goto out;
	}
	if (keep && wal_file_version(b.data, b.len) == WAL_CLEAR_VERSION) {
		s.clear = keep;
		w->clear = true;
	}
	if (keep)
		vec_push(&w->segments, s);
	if (last)
		rc = cut_tail(w, name, &b, keep, err);
out:
	buf_fini(&b);
	return rc;
}

static void drop_entries(struct wal_content *c, size_t n)
{
	if (!n)
		return;
	for (size_t i = 0; i < n; i++)
		raft_entry_unref(c->entries.data[i]);
	memmove(c->entries.data, c->entries.data + n, (c->entries.len - n) * sizeof(*c->entries.data));
	c->entries.len -= n;
}

/* Leaves the entries that come after the snapshot. */
static int join_snapshot(struct wal *w, struct wal_content *c, struct mesh_err *err)
{
	uint64_t s = c->snap.index, last = c->base + c->entries.len;
	if (c->base_known && c->base > s)
		return mesh_fail(err, MESH_E_CORRUPT,
		                 "%s: the log begins after entry %" PRIu64 ", the newest snapshot ends at %" PRIu64
		                 ": restore the directory from a backup, or remove it and let this node join again",
		                 w->dir, c->base, s);
	if (s > c->base && s <= last && c->entries.data[s - c->base - 1]->term != c->snap.term)
		drop_entries(c, c->entries.len); /* replaced by the snapshot; the crash came before the log said so */
	else
		drop_entries(c, last < s ? c->entries.len : (size_t)(s - c->base));
	size_t n = c->entries.len;
	if (n && c->entries.data[n - 1]->term > c->term)
		return mesh_fail(err, MESH_E_CORRUPT, "%s: the log's last entry is of a later term than its state",
		                 w->dir);
	if (c->snap.term > c->term)
		c->term = c->snap.term;
	return 0;
}

static int load(struct wal *w, struct wal_content *c, struct mesh_err *err)
{
	struct numbers n = { 0 };
	int rc = load_snapshot(w, c, err);
	if (!rc && list(w->dir, "wal-", ".log", &n))
		rc = mesh_fail(err, -errno, "%s", w->dir);
	for (size_t i = 0; !rc && i < n.len; i++)
		rc = load_segment(w, n.data[i], i + 1 == n.len, c, err);
	if (!rc && !w->segments.len && c->snap.index)
		rc = mesh_fail(err, MESH_E_CORRUPT, "%s: a snapshot without a log", w->dir);
	c->empty = !w->segments.len && !c->snap.index;
	vec_fini(&n);
	if (!rc)
		rc = join_snapshot(w, c, err);
	w->term = c->term;
	w->vote = c->vote;
	return rc;
}

/* ---- what a former version wrote in clear ---- */

static int write_tmp(struct wal *w, const char *tmp, const struct buf *b);

/* Puts a sealed file in the place of one in clear, in one step. */
static int seal_segment(struct wal *w, struct segment *s, bool last, struct mesh_err *err)
{
	char name[NAME_MAX_], tmp[NAME_MAX_ + 4];
	struct buf clear = { 0 }, sealed = { 0 };
	snprintf(tmp, sizeof(tmp), "%s.tmp", segment_name(s->number, name));
	int rc = read_file(w, name, &clear, err);
	if (rc)
		goto out;
	wal_segment_seal(&w->sealer, clear.data, s->clear, &sealed);
	rc = write_tmp(w, tmp, &sealed);
	if (!rc && renameat(w->dir_fd, tmp, w->dir_fd, name))
		rc = -errno;
	if (rc) {
		(void)unlinkat(w->dir_fd, tmp, 0); /* rubbish is removed at the next start */
		rc = mesh_fail(err, rc, "%s/%s: sealing it", w->dir, name);
		goto out;
	}
	s->clear = 0;
	if (last) {
		close(w->fd);
		w->fd = openat(w->dir_fd, name, O_RDWR | O_CLOEXEC);
		w->off = sealed.len;
		rc = w->fd < 0 ? mesh_fail(err, -errno, "%s/%s", w->dir, name) : 0;
	}
out:
	buf_fini(&clear);
	buf_fini(&sealed);
	return rc;
}

/* A crash in between leaves some files sealed and some not: the next start goes on. */
static int seal_all(struct wal *w, const struct wal_snapshot *snap, struct mesh_err *err)
{
	int rc = snap->index ? wal_snapshot_write(w, snap, err) : 0;
	for (size_t i = 0; !rc && i < w->segments.len; i++)
		if (w->segments.data[i].clear)
			rc = seal_segment(w, &w->segments.data[i], i + 1 == w->segments.len, err);
	if (!rc)
		rc = sync_dir(w, err);
	if (!rc)
		log_info("raft log: sealed what a former version had written in clear dir=%s", w->dir);
	return rc;
}

int wal_open(const char *dir, uint64_t cluster, const struct seal_key *key, struct wal **out,
             struct wal_content *content, struct mesh_err *err)
{
	struct wal *w = XNEW(struct wal);
	*w = (struct wal){ .dir = xstrdup(dir), .dir_fd = -1, .lock_fd = -1, .fd = -1, .cluster = cluster };
	w->sealer = (struct wal_sealer){ .key = key, .nonce = &w->nonce };
	seal_nonce_init(&w->nonce);
	*content = (struct wal_content){ 0 };
	int rc = lock_dir(w, err);
	if (!rc) {
		remove_rubbish(w);
		rc = load(w, content, err);
	}
	if (!rc && w->clear)
		rc = seal_all(w, &content->snap, err);
	if (rc) {
		wal_content_fini(content);
		*content = (struct wal_content){ 0 };
		wal_close(w);
		return rc;
	}
	*out = w;
	return 0;
}

void wal_close(struct wal *w)
{
	if (!w)
		return;
	int fds[] = { w->fd, w->lock_fd, w->dir_fd };
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	vec_fini(&w->segments);
	free(w->dir);
	free(w);
}

/* ---- writing ---- */

static int create_segment(struct wal *w, uint64_t number, int *fd, struct wal_sealer *s, struct mesh_err *err)
{
	char name[NAME_MAX_];
	segment_name(number, name);
	*fd = openat(w->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (*fd < 0)
		return mesh_fail(err, -errno, "%s/%s", w->dir, name);
	/* Space set aside makes fdatasync cheaper and full disks show early; without it things still work. */
	if (wal_test_space < 0)
		(void)posix_fallocate(*fd, 0, WAL_SEGMENT_BYTES);
	wal_header_encode(s, w->cluster, (uint32_t)number, w->batch);
	int rc = write_all(*fd, s->header, sizeof(s->header), 0);
	if (!rc && fdatasync(*fd))
		rc = -errno;
	if (!rc && fsync(w->dir_fd))
		rc = -errno;
	if (!rc)
		return 0;
	close(*fd);
	*fd = -1;
	(void)unlinkat(w->dir_fd, name, 0); /* an empty segment left behind is removed at the next start */
	return mesh_fail(err, rc, "%s/%s", w->dir, name);
}

static int roll(struct wal *w, struct mesh_err *err)
{
	struct segment s = { .number = w->segments.len ? w->segments.data[w->segments.len - 1].number + 1 : 1 };
	int fd = -1;
	struct wal_sealer sealer = w->sealer;
	int rc = create_segment(w, s.number, &fd, &sealer, err);
	if (rc)
		return rc;
	if (w->fd >= 0) {
		(void)ftruncate(w->fd, (off_t)w->off); /* gives unused space back; zeros there are fine too */
		close(w->fd);
	}
	w->fd = fd;
	w->sealer = sealer;
	w->off = WAL_HEADER_BYTES;
	vec_push(&w->segments, s);
	return 0;
}

/* Remembers the term and vote that the records leave behind. */
static void note_state(struct wal *w, const struct buf *b)
{
	struct rd r = rd_of(b->data, b->len);
	while (rd_left(&r) >= WAL_RECORD_BYTES) {
		uint32_t n = rd_u32(&r);
		(void)rd_u32(&r);
		uint64_t term = rd_u64(&r), index = rd_u64(&r);
		(void)rd_u32(&r);
		uint8_t kind = rd_u8(&r);
		(void)rd_bytes(&r, 3 + ((n + 7u) & ~7u));
		if (kind == WAL_STATE) {
			w->term = term;
			w->vote = index;
		}
	}
}

/* A batch that could not be written whole must leave nothing behind that a reader could take for it. */
static int undo(struct wal *w, int rc, struct mesh_err *err)
{
	if (!no_space(rc))
		return mesh_fail(err, rc, "%s: writing the log", w->dir);
	if (ftruncate(w->fd, (off_t)w->off) || fdatasync(w->fd))
		return mesh_fail(err, -EIO, "%s: taking back a write for which there was no space: %s", w->dir,
		                 strerror(errno));
	return mesh_fail(err, -ENOSPC, "%s: writing the log", w->dir);
}

int wal_write(struct wal *w, struct wal_batch *b, struct mesh_err *err)
{
	struct buf clear = { 0 }, whole = { 0 };
	size_t last = b->last;
	bool first = w->fd < 0;
	if (first || (w->off > WAL_HEADER_BYTES && w->off + b->b.len > WAL_SEGMENT_BYTES)) {
		int rc = roll(w, err);
		if (rc)
			return no_space(rc) ? -ENOSPC : rc;
	}
	if (w->off == WAL_HEADER_BYTES) {
		/* Each segment begins with the state, so that the ones before it may go. */
		struct wal_batch state = { 0 };
		wal_batch_state(&state, w->term, w->vote);
		clear = state.b;
		last += clear.len;
	}
	buf_put(&clear, b->b.data, b->b.len);
	wal_batch_seal(&w->sealer, clear.data, clear.len, last, w->batch + 1, w->off, &whole);
	int rc = write_all(w->fd, whole.data, whole.len, w->off);
	if (rc) {
		rc = undo(w, rc, err);
	} else if (fdatasync(w->fd)) {
		/* What a failed fsync left in the page cache cannot be known: never try again (fsyncgate). */
		rc = errno == ENOSPC || errno == EDQUOT ? -EIO : -errno;
		(void)mesh_fail(err, rc, "%s: fdatasync of the log", w->dir);
	} else {
		struct segment *s = &w->segments.data[w->segments.len - 1];
		if (b->max_index > s->max_index)
			s->max_index = b->max_index;
		w->off += whole.len;
		w->batch++;
		note_state(w, &clear);
	}
	buf_fini(&clear);
	buf_fini(&whole);
	return rc;
}

void wal_compact(struct wal *w, uint64_t index)
{
	size_t n = 0;
	/* The newest segment must hold the state before the ones that did may go. */
	if (w->off <= WAL_HEADER_BYTES)
		return;
	while (n + 1 < w->segments.len && w->segments.data[n].max_index <= index)
		n++;
	for (size_t i = 0; i < n; i++) {
		char name[NAME_MAX_];
		/* In order, so that what is left never has a hole; what stays is removed next time. */
		if (unlinkat(w->dir_fd, segment_name(w->segments.data[i].number, name), 0)) {
			log_warn("raft log: cannot remove an old segment file=%s/%s error=%s", w->dir, name,
			         strerror(errno));
			n = i;
			break;
		}
	}
	if (!n)
		return;
	memmove(w->segments.data, w->segments.data + n, (w->segments.len - n) * sizeof(*w->segments.data));
	w->segments.len -= n;
}

/* ---- snapshots ---- */

static int write_tmp(struct wal *w, const char *tmp, const struct buf *b)
{
	CLEAN_CLOSE int fd = openat(w->dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	int rc = write_all(fd, b->data, b->len, 0);
	if (!rc && fsync(fd))
		rc = -errno;
	return rc;
}

int wal_snapshot_write(struct wal *w, const struct wal_snapshot *s, struct mesh_err *err)
{
	char name[NAME_MAX_], tmp[NAME_MAX_ + 4];
	struct buf b = { 0 };
	snap_name(s->index, name);
	snprintf(tmp, sizeof(tmp), "%s.tmp", name);
	wal_snapshot_encode(s, w->cluster, w->sealer.key, &b);
	int rc = write_tmp(w, tmp, &b);
	buf_fini(&b);
	if (!rc && renameat(w->dir_fd, tmp, w->dir_fd, name))
		rc = -errno;
	if (rc) {
		(void)unlinkat(w->dir_fd, tmp, 0); /* rubbish is removed at the next start */
		return mesh_fail(err, rc, "%s/%s", w->dir, name);
	}
	rc = sync_dir(w, err);
	if (rc)
		return rc;
	struct numbers n = { 0 };
	(void)list(w->dir, "snap-", ".snap", &n); /* old ones only cost space */
	for (size_t i = 0; i < n.len && n.data[i] < s->index; i++)
		(void)unlinkat(w->dir_fd, snap_name(n.data[i], name), 0);
	vec_fini(&n);
	return 0;
}

/* What of piece i lies from offset on: at most n bytes to p. The number of bytes, or negative. */
static ssize_t read_piece(struct wal *w, int fd, const struct wal_snap_layout *l, uint64_t offset, uint8_t *p, size_t n)
{
	uint64_t i = offset / WAL_PIECE_BYTES;
	size_t size, skip = offset % WAL_PIECE_BYTES;
	uint64_t at = wal_snap_piece(l, i, &size);
	CLEAN_FREE uint8_t *box = xrealloc(NULL, 2 * size);
	ssize_t got = pread(fd, box, size, (off_t)at);
	if (got != (ssize_t)size)
		return got < 0 ? -errno : -EIO;
	if (!wal_snap_open(l, w->sealer.key, i, box, size, box + size))
		return MESH_E_CORRUPT;
	if (n > size - SEAL_BYTES - skip)
		n = size - SEAL_BYTES - skip;
	memcpy(p, box + size + skip, n);
	return (ssize_t)n;
}

int wal_snapshot_read(struct wal *w, uint64_t index, uint64_t offset, void *p, size_t *n, uint64_t *total)
{
	char name[NAME_MAX_];
	uint8_t header[WAL_SNAP_HEADER_BYTES];
	struct wal_snap_layout l;
	CLEAN_CLOSE int fd = openat(w->dir_fd, snap_name(index, name), O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	ssize_t got = pread(fd, header, sizeof(header), 0);
	if (got < 0)
		return -errno;
	if (wal_snap_layout(header, (size_t)got, &l))
		return -EIO;
	*total = l.data_n;
	uint64_t left = offset < *total ? *total - offset : 0;
	if (*n > left)
		*n = (size_t)left;
	for (size_t done = 0; done < *n; done += (size_t)got) {
		got = read_piece(w, fd, &l, offset + done, (uint8_t *)p + done, *n - done);
		if (got < 0)
			return (int)got;
	}
	return 0;
}
