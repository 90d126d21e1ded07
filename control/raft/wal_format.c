/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/wal.h"

#include <stdio.h>

#include "base/mem.h"
#include "control/raft/crc32c.h"
#include "control/raft/wal_impl.h"

#define WAY_OUT "restore the directory from a backup, or remove it and let this node join again"

enum { REC_END = 1 << 0 }; /* the last record of its batch */

static const uint8_t segment_magic[8] = "MSHWAL\0";

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

/* ---- sealing ---- */

#define BOUND_BYTES (WAL_HEADER_BYTES + 8 + WAL_RECORD_BYTES)

/* What a record's box is bound to: its segment, its place there, and all its header says. */
static void bind_record(const uint8_t *header, uint64_t at, const uint8_t *rec, uint8_t out[BOUND_BYTES])
{
	memcpy(out, header, WAL_HEADER_BYTES);
	put64(out + WAL_HEADER_BYTES, at);
	memcpy(out + WAL_HEADER_BYTES + 8, rec, WAL_RECORD_BYTES);
	put32(out + WAL_HEADER_BYTES + 8 + 4, 0); /* the checksum comes after the box */
}

/* rec: a whole record with its payload in clear. at: where it will stand. */
static void seal_record(struct wal_sealer *s, const uint8_t *rec, uint32_t batch, uint8_t flags, size_t at,
                        struct buf *out)
{
	uint8_t bound[BOUND_BYTES];
	uint32_t n = get32(rec), sealed = n + SEAL_BYTES;
	uint8_t *to = buf_reserve(out, WAL_RECORD_BYTES + padded(sealed));
	memcpy(to, rec, WAL_RECORD_BYTES);
	put32(to, sealed);
	put32(to + 24, batch);
	to[30] = flags;
	bind_record(s->header, at, to, bound);
	seal_close(s->key, s->nonce, bound, sizeof(bound), rec + WAL_RECORD_BYTES, n, to + WAL_RECORD_BYTES);
	memset(to + WAL_RECORD_BYTES + sealed, 0, padded(sealed) - sealed);
	put32(to + 4, record_crc(to, s->seed));
	out->len += WAL_RECORD_BYTES + padded(sealed);
}

void wal_batch_seal(struct wal_sealer *s, const uint8_t *p, size_t n, size_t last, uint32_t batch, size_t at,
                    struct buf *out)
{
	at -= out->len;
	for (size_t off = 0; off < n; off += WAL_RECORD_BYTES + padded(get32(p + off)))
		seal_record(s, p + off, batch, off == last ? REC_END : 0, at + out->len, out);
}

void wal_segment_seal(struct wal_sealer *s, const uint8_t *p, size_t good, struct buf *out)
{
	wal_header_encode(s, get64(p + 16), get32(p + 24), get32(p + 28));
	buf_put(out, s->header, WAL_HEADER_BYTES);
	for (size_t off = WAL_CLEAR_HEADER_BYTES; off < good; off += WAL_RECORD_BYTES + padded(get32(p + off)))
		seal_record(s, p + off, get32(p + off + 24), p[off + 30], out->len, out);
}

/* ---- segments ---- */

/* The checksum leaves itself out. */
static uint32_t header_crc(const uint8_t *p, size_t n)
{
	return crc32c(crc32c(0, p, 12), p + 16, n - 16);
}

void wal_header_resume(struct wal_sealer *s, const uint8_t header[WAL_HEADER_BYTES])
{
	memcpy(s->header, header, WAL_HEADER_BYTES);
	s->seed = crc32c(0, header, WAL_HEADER_BYTES);
}

void wal_header_encode(struct wal_sealer *s, uint64_t cluster, uint32_t number, uint32_t batch)
{
	uint8_t out[WAL_HEADER_BYTES];
	memcpy(out, segment_magic, 8);
	put32(out + 8, WAL_VERSION);
	put64(out + 16, cluster);
	put32(out + 24, number);
	put32(out + 28, batch);
	memcpy(out + 32, seal_key_id(s->key), SEAL_ID_BYTES);
	put32(out + 12, header_crc(out, WAL_HEADER_BYTES));
	wal_header_resume(s, out);
}

uint32_t wal_file_version(const uint8_t *p, size_t n)
{
	bool ours = n >= 12 && (memcmp(p, segment_magic, 8) == 0 || memcmp(p, WAL_SNAP_MAGIC, 8) == 0);
	return ours ? get32(p + 8) : 0;
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
	if (!kind || kind >= WAL_KIND_MAX || len > RAFT_ENTRY_BYTES_MAX + SEAL_BYTES)
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

int wal_damaged(struct mesh_err *err, const char *name, size_t off, const char *what)
{
	return mesh_fail(err, MESH_E_CORRUPT, "%s: damaged at offset %zu (%s): " WAY_OUT, name, off, what);
}

int wal_other_version(struct mesh_err *err, const struct wal_file *f, uint32_t version)
{
	return mesh_fail(err, MESH_E_VERSION, "%s: layout %u, this program knows %d: use the meshd that wrote it",
	                 f->name, version, WAL_VERSION);
}

static const char *id_text(const uint8_t *id, char out[2 * SEAL_ID_BYTES + 1])
{
	for (size_t i = 0; i < SEAL_ID_BYTES; i++)
		snprintf(out + 2 * i, 3, "%02x", id[i]);
	return out;
}

int wal_other_key(struct mesh_err *err, const struct wal_file *f, const uint8_t *id)
{
	char theirs[2 * SEAL_ID_BYTES + 1], ours[2 * SEAL_ID_BYTES + 1];
	return mesh_fail(
		err, MESH_E_CORRUPT,
		"%s: sealed with data key %s, but identity/data.key is %s: put back the key file that belongs to "
		"it, or " WAY_OUT,
		f->name, id_text(id, theirs), id_text(seal_key_id(f->key), ours));
}

int wal_does_not_open(struct mesh_err *err, const struct wal_file *f, size_t off)
{
	return mesh_fail(
		err, MESH_E_CORRUPT,
		"%s: what is at offset %zu was sealed elsewhere or altered since, or identity/data.key was: " WAY_OUT,
		f->name, off);
}

int wal_in_clear(struct mesh_err *err, const struct wal_file *f)
{
	return mesh_fail(err, MESH_E_CORRUPT,
	                 "%s: in clear, but all of this node's was sealed: it came from elsewhere: " WAY_OUT, f->name);
}

static int check_header(const struct wal_file *f, uint32_t version, size_t size, struct mesh_err *err)
{
	const uint8_t *p = f->p;
	if (memcmp(p, segment_magic, 8) != 0)
		return wal_damaged(err, f->name, 0, "not a log segment");
	if (version != WAL_VERSION && version != WAL_CLEAR_VERSION)
		return wal_other_version(err, f, version);
	if (get32(p + 12) != header_crc(p, size))
		return wal_damaged(err, f->name, 0, "header");
	if (get64(p + 16) != f->cluster)
		return mesh_fail(err, MESH_E_INVALID, "%s: belongs to another cluster", f->name);
	if (version == WAL_CLEAR_VERSION)
		return seal_key_settled(f->key) ? wal_in_clear(err, f) : 0;
	return memcmp(p + 32, seal_key_id(f->key), SEAL_ID_BYTES) == 0 ? 0 : wal_other_key(err, f, p + 32);
}

/* Where the whole batches end, and why it goes no further. */
struct extent {
	size_t good;      /* end of the last whole batch */
	size_t stop;      /* where no record could be read */
	uint32_t batch;   /* of the last record read */
	bool ended;       /* that record ended its batch */
	bool out_of_turn; /* the record at stop is whole, but belongs to a batch that cannot come here */
};

/* from: where records begin. */
static struct extent measure(const uint8_t *p, size_t n, size_t from, uint32_t seed, uint32_t batch)
{
	struct extent x = { .good = from, .stop = from, .batch = batch, .ended = true };
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

/* Points r to its payload in clear, in scratch. */
static bool open_record(const struct wal_file *f, size_t off, struct record *r, struct buf *scratch)
{
	uint8_t bound[BOUND_BYTES];
	if (r->n < SEAL_BYTES)
		return false;
	bind_record(f->p, off, f->p + off, bound);
	buf_clear(scratch);
	uint8_t *p = buf_reserve(scratch, r->n);
	if (!seal_open(f->key, bound, sizeof(bound), r->p, r->n, p))
		return false;
	r->p = p;
	r->n -= SEAL_BYTES;
	return true;
}

static int take_records(const struct wal_file *f, size_t from, size_t good, struct wal_content *c, uint64_t *max_index,
                        struct mesh_err *err)
{
	uint32_t seed = crc32c(0, f->p, from);
	struct buf scratch = { 0 };
	struct record r;
	int rc = 0;
	for (size_t off = from; !rc && off < good; off += r.size) {
		const char *wrong = NULL;
		if (!record_at(f->p, f->n, off, seed, &r))
			wrong = "record";
		else if (from == WAL_HEADER_BYTES && !open_record(f, off, &r, &scratch))
			rc = wal_does_not_open(err, f, off);
		else
			wrong = take_record(c, &r, max_index);
		if (wrong)
			rc = wal_damaged(err, f->name, off, wrong);
	}
	buf_fini(&scratch);
	return rc;
}

int wal_segment_decode(const struct wal_file *f, bool last, uint32_t *batch, struct wal_content *c, uint64_t *max_index,
                       size_t *keep, struct mesh_err *err)
{
	const char *name = f->name;
	const uint8_t *p = f->p;
	size_t n = f->n;
	uint32_t version = wal_file_version(p, n);
	size_t head = version == WAL_CLEAR_VERSION ? WAL_CLEAR_HEADER_BYTES : WAL_HEADER_BYTES;
	*keep = 0;
	/* The header is made durable before any record, so without one there was nothing. */
	if (last && (n < head || (all_zero(p, n))))
		return 0;
	if (n < head)
		return wal_damaged(err, name, 0, "cut short");
	int rc = check_header(f, version, head, err);
	if (rc)
		return rc;
	uint32_t seed = crc32c(0, p, head), after = 0;
	uint32_t before = get32(p + 28);
	if (*batch && *batch != before)
		return wal_damaged(err, name, 28, "segments before this are missing or cut");
	struct extent x = measure(p, n, head, seed, before);
	if (x.out_of_turn)
		return wal_damaged(err, name, x.stop, "records before this are missing");
	bool clean = x.ended && all_zero(p + x.stop, n - x.stop);
	if (!clean && !last)
		return wal_damaged(err, name, x.stop, "record");
	/* Only the newest batch can have been torn: a later one began after it was durable. */
	uint32_t torn = x.ended ? x.batch + 1 : x.batch;
	if (!clean && later_records(p, n, x.stop, seed, &after) && (int32_t)(after - torn) > 0)
		return wal_damaged(err, name, x.stop, "record");
	rc = take_records(f, head, x.good, c, max_index, err);
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
