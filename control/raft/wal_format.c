/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/wal.h"

#include <endian.h>

#include "base/mem.h"
#include "control/raft/crc32c.h"
#include "control/raft/wal_impl.h"

#define WAY_OUT "restore the directory from a backup, or remove it and let this node join again"

enum { REC_END = 1 << 0 }; /* the last record of its batch */

static const uint8_t segment_magic[8] = "MSHWAL\0";
static const uint8_t snapshot_magic[8] = "MSHSNAP";

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static uint64_t get64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static size_t padded(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

void wal_content_fini(struct wal_content *c)
{
	for (size_t i = 0; i < c->entries.len; i++)
		raft_entry_unref(c->entries.data[i]);
	vec_fini(&c->entries);
	buf_fini(&c->snap.data);
}

/* ---- batches ---- */

void wal_batch_fini(struct wal_batch *b)
{
	buf_fini(&b->b);
	*b = (struct wal_batch){ 0 };
}

bool wal_batch_empty(const struct wal_batch *b)
{
	return b->b.len == 0;
}

static void put_record(struct wal_batch *b, enum wal_kind kind, uint8_t type, uint64_t term, uint64_t index,
                       const void *p, size_t n)
{
	b->last = b->b.len;
	uint8_t *at = buf_reserve(&b->b, WAL_RECORD_BYTES + padded(n));
	memset(at, 0, WAL_RECORD_BYTES);
	put32(at, (uint32_t)n);
	put64(at + 8, term);
	put64(at + 16, index);
	at[28] = (uint8_t)kind;
	at[29] = type;
	if (n)
		memcpy(at + WAL_RECORD_BYTES, p, n);
	memset(at + WAL_RECORD_BYTES + n, 0, padded(n) - n);
	b->b.len += WAL_RECORD_BYTES + padded(n);
}

void wal_batch_state(struct wal_batch *b, uint64_t term, uint64_t vote)
{
	put_record(b, WAL_STATE, 0, term, vote, NULL, 0);
}

void wal_batch_entry(struct wal_batch *b, const struct raft_entry *e)
{
	put_record(b, WAL_ENTRY, e->type, e->term, e->index, e->p, e->n);
	if (e->index > b->max_index)
		b->max_index = e->index;
}

void wal_batch_reset(struct wal_batch *b, uint64_t index, uint64_t term)
{
	put_record(b, WAL_RESET, 0, term, index, NULL, 0);
	b->full_log = true;
	if (index > b->max_index)
		b->max_index = index;
}

static uint32_t record_crc(const uint8_t *at, uint32_t seed)
{
	uint32_t n = get32(at);
	uint32_t crc = crc32c(seed, at, 4);
	return crc32c(crc, at + 8, WAL_RECORD_BYTES - 8 + padded(n));
}

void wal_batch_seal(uint8_t *p, size_t n, size_t last, uint32_t batch, uint32_t seed)
{
	for (size_t off = 0; off < n; off += WAL_RECORD_BYTES + padded(get32(p + off))) {
		put32(p + off + 24, batch);
		p[off + 30] = off == last ? REC_END : 0;
		put32(p + off + 4, record_crc(p + off, seed));
	}
}

/* ---- segments ---- */

uint32_t wal_header_encode(uint8_t out[WAL_HEADER_BYTES], uint64_t cluster, uint32_t number, uint32_t batch)
{
	memcpy(out, segment_magic, 8);
	put32(out + 8, WAL_VERSION);
	put64(out + 16, cluster);
	put32(out + 24, number);
	put32(out + 28, batch);
	put32(out + 12, crc32c(crc32c(0, out, 12), out + 16, 16));
	return crc32c(0, out, WAL_HEADER_BYTES);
}

struct record {
	enum wal_kind kind;
	uint8_t type, flags;
	uint32_t n, batch;
	uint64_t term, index;
	const uint8_t *p;
	size_t size; /* with header and padding */
};

/* Is there a whole, unharmed record at off? */
static bool record_at(const uint8_t *p, size_t n, size_t off, uint32_t seed, struct record *out)
{
	if (n - off < WAL_RECORD_BYTES)
		return false;
	const uint8_t *at = p + off;
	uint32_t len = get32(at);
	uint8_t kind = at[28];
	if (!kind || kind >= WAL_KIND_MAX || len > RAFT_ENTRY_BYTES_MAX)
		return false;
	if (padded(len) > n - off - WAL_RECORD_BYTES || get32(at + 4) != record_crc(at, seed))
		return false;
	*out = (struct record){ .kind = (enum wal_kind)kind,
		                .type = at[29],
		                .flags = at[30],
		                .n = len,
		                .batch = get32(at + 24),
		                .term = get64(at + 8),
		                .index = get64(at + 16),
		                .p = at + WAL_RECORD_BYTES,
		                .size = WAL_RECORD_BYTES + padded(len) };
	return true;
}

static bool all_zero(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

/* The highest batch number among the records after off; false when there is none. */
static bool later_records(const uint8_t *p, size_t n, size_t off, uint32_t seed, uint32_t *batch)
{
	bool found = false;
	struct record r;
	for (off = padded(off); n >= WAL_RECORD_BYTES && off <= n - WAL_RECORD_BYTES; off += 8) {
		if (!get64(p + off) || !record_at(p, n, off, seed, &r))
			continue;
		if (!found || (int32_t)(r.batch - *batch) > 0)
			*batch = r.batch;
		found = true;
		off += r.size - 8;
	}
	return found;
}

static int damaged(struct mesh_err *err, const char *name, size_t off, const char *what)
{
	return mesh_fail(err, MESH_E_CORRUPT, "%s: damaged at offset %zu (%s): " WAY_OUT, name, off, what);
}

static int check_header(const char *name, const uint8_t *p, uint64_t cluster, struct mesh_err *err)
{
	if (memcmp(p, segment_magic, 8) != 0)
		return damaged(err, name, 0, "not a log segment");
	if (get32(p + 8) != WAL_VERSION)
		return mesh_fail(err, MESH_E_VERSION,
		                 "%s: layout %u, this program knows %d: use the meshd that wrote it", name,
		                 get32(p + 8), WAL_VERSION);
	if (get32(p + 12) != crc32c(crc32c(0, p, 12), p + 16, 16))
		return damaged(err, name, 0, "header");
	if (get64(p + 16) != cluster)
		return mesh_fail(err, MESH_E_INVALID, "%s: belongs to another cluster", name);
	return 0;
}

/* Where the whole batches end, and why it goes no further. */
struct extent {
	size_t good;      /* end of the last whole batch */
	size_t stop;      /* where no record could be read */
	uint32_t batch;   /* of the last record read */
	bool ended;       /* that record ended its batch */
	bool out_of_turn; /* the record at stop is whole, but belongs to a batch that cannot come here */
};

static struct extent measure(const uint8_t *p, size_t n, uint32_t seed, uint32_t batch)
{
	struct extent x = { .good = WAL_HEADER_BYTES, .stop = WAL_HEADER_BYTES, .batch = batch, .ended = true };
	struct record r;
	while (x.stop < n && record_at(p, n, x.stop, seed, &r)) {
		uint32_t want = x.ended ? x.batch + 1 : x.batch;
		if (r.batch != want) {
			x.out_of_turn = true;
			break;
		}
		x.batch = r.batch;
		x.stop += r.size;
		x.ended = r.flags & REC_END;
		if (x.ended)
			x.good = x.stop;
	}
	return x;
}

static const char *take_entry(struct wal_content *c, const struct record *r)
{
	uint64_t first = c->base + 1, last = c->base + c->entries.len;
	struct raft_conf conf;
	if (r->type < RAFT_NOOP || r->type >= RAFT_ENTRY_MAX || !r->index || !r->term)
		return "bad entry";
	if (r->type == RAFT_CONFIG && raft_conf_decode(&conf, r->p, r->n))
		return "bad list of members";
	if (c->base_known && (r->index < first || r->index > last + 1))
		return "entries are missing";
	if (!c->base_known) {
		c->base = r->index - 1;
		c->base_known = true;
	}
	while (c->base + c->entries.len >= r->index)
		raft_entry_unref(c->entries.data[--c->entries.len]);
	vec_push(&c->entries, raft_entry_new(r->index, r->term, (enum raft_entry_type)r->type, r->p, r->n));
	return NULL;
}

/* What is wrong with a record that is whole, or NULL. */
static const char *take_record(struct wal_content *c, const struct record *r, uint64_t *max_index)
{
	if (r->kind == WAL_STATE) {
		c->term = r->term;
		c->vote = r->index;
		return NULL;
	}
	if (r->index > *max_index)
		*max_index = r->index;
	if (r->kind == WAL_ENTRY)
		return take_entry(c, r);
	for (size_t i = 0; i < c->entries.len; i++)
		raft_entry_unref(c->entries.data[i]);
	c->entries.len = 0;
	c->base = r->index;
	c->base_known = true;
	return NULL;
}

static int take_records(const char *name, const uint8_t *p, size_t n, size_t good, uint32_t seed, struct wal_content *c,
                        uint64_t *max_index, struct mesh_err *err)
{
	struct record r;
	for (size_t off = WAL_HEADER_BYTES; off < good; off += r.size) {
		if (!record_at(p, n, off, seed, &r))
			return damaged(err, name, off, "record");
		const char *wrong = take_record(c, &r, max_index);
		if (wrong)
			return damaged(err, name, off, wrong);
	}
	return 0;
}

int wal_segment_decode(const char *name, const uint8_t *p, size_t n, uint64_t cluster, bool last, uint32_t *batch,
                       struct wal_content *c, uint64_t *max_index, size_t *keep, struct mesh_err *err)
{
	*keep = 0;
	/* The header is made durable before any record, so without one there was nothing. */
	if (last && (n < WAL_HEADER_BYTES || (all_zero(p, n))))
		return 0;
	if (n < WAL_HEADER_BYTES)
		return damaged(err, name, 0, "cut short");
	int rc = check_header(name, p, cluster, err);
	if (rc)
		return rc;
	uint32_t seed = crc32c(0, p, WAL_HEADER_BYTES), after = 0;
	uint32_t before = get32(p + 28);
	if (*batch && *batch != before)
		return damaged(err, name, 28, "segments before this are missing or cut");
	struct extent x = measure(p, n, seed, before);
	if (x.out_of_turn)
		return damaged(err, name, x.stop, "records before this are missing");
	bool clean = x.ended && all_zero(p + x.stop, n - x.stop);
	if (!clean && !last)
		return damaged(err, name, x.stop, "record");
	/* Only the newest batch can have been torn: a later one began after it was durable. */
	uint32_t torn = x.ended ? x.batch + 1 : x.batch;
	if (!clean && later_records(p, n, x.stop, seed, &after) && (int32_t)(after - torn) > 0)
		return damaged(err, name, x.stop, "record");
	rc = take_records(name, p, n, x.good, seed, c, max_index, err);
	if (rc)
		return rc;
	*batch = x.ended ? x.batch : x.batch - 1;
	*keep = x.good;
	return 0;
}

bool wal_tail_is_zero(const uint8_t *p, size_t n, size_t keep)
{
	return all_zero(p + keep, n - keep);
}

/* ---- snapshots ---- */

#define SNAP_HEADER_BYTES 56

void wal_snapshot_encode(const struct wal_snapshot *s, uint64_t cluster, struct buf *out)
{
	size_t at = out->len;
	struct buf conf = { 0 };
	raft_conf_encode(&s->conf, &conf);
	buf_put(out, snapshot_magic, 8);
	buf_put_u32(out, WAL_VERSION);
	buf_put_u32(out, 0);
	buf_put_u64(out, cluster);
	buf_put_u64(out, s->index);
	buf_put_u64(out, s->term);
	buf_put_u32(out, (uint32_t)conf.len);
	buf_put_u32(out, 0);
	buf_put_u64(out, s->data.len);
	buf_put(out, conf.data, conf.len);
	buf_put(out, s->data.data, s->data.len);
	buf_fini(&conf);
	put32(out->data + at + 12, crc32c(0, out->data + at + 16, out->len - at - 16));
}

int wal_snapshot_decode(const char *name, const uint8_t *p, size_t n, uint64_t cluster, struct wal_snapshot *s,
                        struct mesh_err *err)
{
	*s = (struct wal_snapshot){ 0 };
	if (n < SNAP_HEADER_BYTES || memcmp(p, snapshot_magic, 8) != 0)
		return damaged(err, name, 0, "not a snapshot");
	if (get32(p + 8) != WAL_VERSION)
		return mesh_fail(err, MESH_E_VERSION,
		                 "%s: layout %u, this program knows %d: use the meshd that wrote it", name,
		                 get32(p + 8), WAL_VERSION);
	if (get32(p + 12) != crc32c(0, p + 16, n - 16))
		return damaged(err, name, 12, "checksum");
	if (get64(p + 16) != cluster)
		return mesh_fail(err, MESH_E_INVALID, "%s: belongs to another cluster", name);
	uint64_t conf = get32(p + 40), data = get64(p + 48), left = n - SNAP_HEADER_BYTES;
	s->index = get64(p + 24);
	s->term = get64(p + 32);
	if (!s->index || !s->term || conf > left || data != left - conf ||
	    raft_conf_decode(&s->conf, p + SNAP_HEADER_BYTES, conf))
		return damaged(err, name, 16, "snapshot header");
	buf_put(&s->data, p + SNAP_HEADER_BYTES + conf, data);
	return 0;
}

int wal_snapshot_layout(const uint8_t *p, size_t n, uint64_t *data_at, uint64_t *data_n)
{
	if (n < SNAP_HEADER_BYTES || memcmp(p, snapshot_magic, 8) != 0)
		return MESH_E_CORRUPT;
	*data_at = SNAP_HEADER_BYTES + get32(p + 40);
	*data_n = get64(p + 48);
	return 0;
}
