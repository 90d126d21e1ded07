/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/mem.h"
#include "control/raft/crc32c.h"
#include "control/raft/wal_impl.h"

#define SNAPSHOT_BYTES_MAX (UINT64_C(1) << 40)
#define SNAP_CLEAR_HEADER_BYTES 56

static void bind_piece(const struct wal_snap_layout *l, uint64_t i, uint8_t out[WAL_SNAP_HEADER_BYTES + 8])
{
	memcpy(out, l->header, WAL_SNAP_HEADER_BYTES);
	put64(out + WAL_SNAP_HEADER_BYTES, i);
}

static void put_box(struct buf *out, const struct wal_snap_layout *l, const struct seal_key *key,
                    struct seal_nonce *nonce, uint64_t i, const uint8_t *p, size_t n)
{
	uint8_t ad[WAL_SNAP_HEADER_BYTES + 8];
	bind_piece(l, i, ad);
	seal_close(key, nonce, ad, sizeof(ad), p, n, buf_reserve(out, n + SEAL_BYTES));
	out->len += n + SEAL_BYTES;
}

#define CONF_PIECE UINT64_MAX /* the number that the box of the members is bound to */

void wal_snapshot_encode(const struct wal_snapshot *s, uint64_t cluster, const struct seal_key *key, struct buf *out)
{
	size_t at = out->len;
	struct buf conf = { 0 };
	struct seal_nonce nonce;
	seal_nonce_init(&nonce);
	raft_conf_encode(&s->conf, &conf);
	buf_put(out, WAL_SNAP_MAGIC, 8);
	buf_put_u32(out, WAL_VERSION);
	buf_put_u32(out, 0);
	buf_put_u64(out, cluster);
	buf_put_u64(out, s->index);
	buf_put_u64(out, s->term);
	buf_put_u32(out, (uint32_t)conf.len);
	buf_put_u32(out, 0);
	buf_put_u64(out, s->data.len);
	buf_put(out, seal_key_id(key), SEAL_ID_BYTES);
	struct wal_snap_layout l = { 0 };
	memcpy(l.header, out->data + at, WAL_SNAP_HEADER_BYTES);
	put_box(out, &l, key, &nonce, CONF_PIECE, conf.data, conf.len);
	for (size_t off = 0; off < s->data.len; off += WAL_PIECE_BYTES) {
		size_t n = s->data.len - off < WAL_PIECE_BYTES ? s->data.len - off : WAL_PIECE_BYTES;
		put_box(out, &l, key, &nonce, off / WAL_PIECE_BYTES, s->data.data + off, n);
	}
	buf_fini(&conf);
	put32(out->data + at + 12, crc32c(0, out->data + at + 16, out->len - at - 16));
}

int wal_snap_layout(const uint8_t *p, size_t n, struct wal_snap_layout *out)
{
	if (n < WAL_SNAP_HEADER_BYTES || memcmp(p, WAL_SNAP_MAGIC, 8) != 0 || get32(p + 8) != WAL_VERSION)
		return MESH_E_CORRUPT;
	memcpy(out->header, p, WAL_SNAP_HEADER_BYTES);
	put32(out->header + 12, 0);
	out->conf_n = get32(p + 40);
	out->data_n = get64(p + 48);
	return out->data_n > SNAPSHOT_BYTES_MAX ? MESH_E_CORRUPT : 0;
}

uint64_t wal_snap_piece(const struct wal_snap_layout *l, uint64_t i, size_t *size)
{
	uint64_t off = i * WAL_PIECE_BYTES, left = off < l->data_n ? l->data_n - off : 0;
	*size = (left < WAL_PIECE_BYTES ? left : WAL_PIECE_BYTES) + SEAL_BYTES;
	return WAL_SNAP_HEADER_BYTES + l->conf_n + SEAL_BYTES + i * (WAL_PIECE_BYTES + SEAL_BYTES);
}

bool wal_snap_open(const struct wal_snap_layout *l, const struct seal_key *key, uint64_t i, const uint8_t *box,
                   size_t size, uint8_t *out)
{
	uint8_t ad[WAL_SNAP_HEADER_BYTES + 8];
	bind_piece(l, i, ad);
	return seal_open(key, ad, sizeof(ad), box, size, out);
}

/* Does the file end where its header says, with no doubt about sums? */
static bool snapshot_size_right(const struct wal_snap_layout *l, size_t n)
{
	uint64_t pieces = (l->data_n + WAL_PIECE_BYTES - 1) / WAL_PIECE_BYTES;
	return n == WAL_SNAP_HEADER_BYTES + l->conf_n + l->data_n + (pieces + 1) * SEAL_BYTES;
}

static int open_snapshot(const struct wal_file *f, struct wal_snapshot *s, struct mesh_err *err)
{
	struct wal_snap_layout l;
	struct buf conf = { 0 };
	size_t size;
	if (wal_snap_layout(f->p, f->n, &l) || !snapshot_size_right(&l, f->n))
		return wal_damaged(err, f->name, 16, "snapshot header");
	if (memcmp(f->p + 56, seal_key_id(f->key), SEAL_ID_BYTES) != 0)
		return wal_other_key(err, f, f->p + 56);
	size_t off = WAL_SNAP_HEADER_BYTES;
	bool ok = wal_snap_open(&l, f->key, CONF_PIECE, f->p + off, l.conf_n + SEAL_BYTES,
	                        buf_reserve(&conf, l.conf_n + 1));
	int rc = ok && !raft_conf_decode(&s->conf, conf.data, l.conf_n) ? 0 : wal_does_not_open(err, f, off);
	for (uint64_t i = 0; !rc && s->data.len < l.data_n; i++) {
		off = wal_snap_piece(&l, i, &size);
		if (!wal_snap_open(&l, f->key, i, f->p + off, size, buf_reserve(&s->data, size)))
			rc = wal_does_not_open(err, f, off);
		else
			s->data.len += size - SEAL_BYTES;
	}
	buf_fini(&conf);
	return rc;
}

static int read_clear_snapshot(const struct wal_file *f, struct wal_snapshot *s, struct mesh_err *err)
{
	if (seal_key_settled(f->key))
		return wal_in_clear(err, f);
	uint64_t conf = get32(f->p + 40), data = get64(f->p + 48), left = f->n - SNAP_CLEAR_HEADER_BYTES;
	if (conf > left || data != left - conf || raft_conf_decode(&s->conf, f->p + SNAP_CLEAR_HEADER_BYTES, conf))
		return wal_damaged(err, f->name, 16, "snapshot header");
	buf_put(&s->data, f->p + SNAP_CLEAR_HEADER_BYTES + conf, data);
	return 0;
}

int wal_snapshot_decode(const struct wal_file *f, struct wal_snapshot *s, struct mesh_err *err)
{
	const uint8_t *p = f->p;
	*s = (struct wal_snapshot){ 0 };
	if (f->n < SNAP_CLEAR_HEADER_BYTES || memcmp(p, WAL_SNAP_MAGIC, 8) != 0)
		return wal_damaged(err, f->name, 0, "not a snapshot");
	uint32_t version = get32(p + 8);
	if (version != WAL_VERSION && version != WAL_CLEAR_VERSION)
		return wal_other_version(err, f, version);
	if (get32(p + 12) != crc32c(0, p + 16, f->n - 16))
		return wal_damaged(err, f->name, 12, "checksum");
	if (get64(p + 16) != f->cluster)
		return mesh_fail(err, MESH_E_INVALID, "%s: belongs to another cluster", f->name);
	s->index = get64(p + 24);
	s->term = get64(p + 32);
	if (!s->index || !s->term)
		return wal_damaged(err, f->name, 16, "snapshot header");
	int rc = version == WAL_VERSION ? open_snapshot(f, s, err) : read_clear_snapshot(f, s, err);
	if (rc)
		buf_fini(&s->data);
	return rc;
}
