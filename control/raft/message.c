/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Format: u8 version, u8 type, u8 flags, u64 cluster, from, to, term, index, log term, then by type (varints):
 *   append          commit, round, count, and of each entry: u8 type, varint term, length, bytes
 *                   (its index follows from its place)
 *   append reply    hint, round
 *   snapshot        round, offset, total, length and members, length and bytes
 *   snapshot reply  round, offset
 */
#include "control/raft/raft.h"

#include "base/mem.h"

#define MSG_VERSION 1
#define ENTRIES_MAX 65536
#define SNAPSHOT_TOTAL_MAX (1ull << 32)
enum { FLAG_OK = 1 << 0, FLAG_TRANSFER = 1 << 1 };

static void encode_body(const struct raft_msg *m, struct buf *out)
{
	switch (m->type) {
	case RAFT_MSG_APPEND:
		buf_put_varint(out, m->commit);
		buf_put_varint(out, m->round);
		buf_put_varint(out, m->n_entries);
		for (size_t i = 0; i < m->n_entries; i++) {
			buf_put_u8(out, m->entries[i]->type);
			buf_put_varint(out, m->entries[i]->term);
			buf_put_varint(out, m->entries[i]->n);
			buf_put(out, m->entries[i]->p, m->entries[i]->n);
		}
		break;
	case RAFT_MSG_APPEND_REPLY:
		buf_put_varint(out, m->hint);
		buf_put_varint(out, m->round);
		break;
	case RAFT_MSG_SNAPSHOT: {
		struct buf conf = { 0 };
		raft_conf_encode(&m->conf, &conf);
		buf_put_varint(out, m->round);
		buf_put_varint(out, m->offset);
		buf_put_varint(out, m->total);
		buf_put_varint(out, conf.len);
		buf_put(out, conf.data, conf.len);
		buf_put_varint(out, m->n_data);
		buf_put(out, m->data, m->n_data);
		buf_fini(&conf);
		break;
	}
	case RAFT_MSG_SNAPSHOT_REPLY:
		buf_put_varint(out, m->round);
		buf_put_varint(out, m->offset);
		break;
	default:
		break;
	}
}

void raft_msg_encode(const struct raft_msg *m, uint64_t cluster, struct buf *out)
{
	buf_put_u8(out, MSG_VERSION);
	buf_put_u8(out, (uint8_t)m->type);
	buf_put_u8(out, (uint8_t)((m->ok ? FLAG_OK : 0) | (m->transfer ? FLAG_TRANSFER : 0)));
	buf_put_u64(out, cluster);
	buf_put_u64(out, m->from);
	buf_put_u64(out, m->to);
	buf_put_u64(out, m->term);
	buf_put_u64(out, m->index);
	buf_put_u64(out, m->log_term);
	encode_body(m, out);
}

static int decode_entries(struct raft_msg *m, struct rd *r)
{
	uint64_t n = rd_varint(r);
	/* Three bytes is the least an entry takes. */
	if (r->bad || n > ENTRIES_MAX || n > rd_left(r) / 3)
		return MESH_E_CORRUPT;
	m->entries = n ? xcalloc(n, sizeof(*m->entries)) : NULL;
	for (uint64_t i = 0; i < n; i++) {
		unsigned type = rd_u8(r);
		uint64_t term = rd_varint(r), len = rd_varint(r);
		const uint8_t *p = rd_bytes(r, len);
		struct raft_conf conf;
		if (!p || !term || type < RAFT_NOOP || type >= RAFT_ENTRY_MAX || len > RAFT_ENTRY_BYTES_MAX)
			return MESH_E_CORRUPT;
		if (type == RAFT_CONFIG && raft_conf_decode(&conf, p, len))
			return MESH_E_CORRUPT;
		m->entries[m->n_entries++] = raft_entry_new(m->index + i + 1, term, (enum raft_entry_type)type, p, len);
	}
	return 0;
}

static int decode_snapshot(struct raft_msg *m, struct rd *r)
{
	m->round = rd_varint(r);
	m->offset = rd_varint(r);
	m->total = rd_varint(r);
	uint64_t n = rd_varint(r);
	const uint8_t *conf = rd_bytes(r, n);
	if (!conf || raft_conf_decode(&m->conf, conf, n))
		return MESH_E_CORRUPT;
	m->n_data = rd_varint(r);
	m->data = rd_bytes(r, m->n_data);
	if (!m->data || m->total > SNAPSHOT_TOTAL_MAX || m->n_data > m->total || m->offset > m->total - m->n_data)
		return MESH_E_CORRUPT;
	return 0;
}

static int decode_body(struct raft_msg *m, struct rd *r)
{
	switch (m->type) {
	case RAFT_MSG_APPEND:
		m->commit = rd_varint(r);
		m->round = rd_varint(r);
		return decode_entries(m, r);
	case RAFT_MSG_APPEND_REPLY:
		m->hint = rd_varint(r);
		m->round = rd_varint(r);
		return 0;
	case RAFT_MSG_SNAPSHOT:
		return decode_snapshot(m, r);
	case RAFT_MSG_SNAPSHOT_REPLY:
		m->round = rd_varint(r);
		m->offset = rd_varint(r);
		return 0;
	default:
		return 0;
	}
}

int raft_msg_decode(struct raft_msg *m, uint64_t *cluster, const void *p, size_t n)
{
	struct rd r = rd_of(p, n);
	*m = (struct raft_msg){ 0 };
	unsigned version = rd_u8(&r), type = rd_u8(&r), flags = rd_u8(&r);
	*cluster = rd_u64(&r);
	m->from = rd_u64(&r);
	m->to = rd_u64(&r);
	m->term = rd_u64(&r);
	m->index = rd_u64(&r);
	m->log_term = rd_u64(&r);
	if (r.bad)
		return MESH_E_CORRUPT;
	if (version != MSG_VERSION)
		return MESH_E_VERSION;
	/* Indexes and terms count events; near the end of their range they are nonsense and would wrap. */
	uint64_t top = m->term | m->index | m->log_term;
	if (!type || type >= RAFT_MSG_MAX || (flags & ~(unsigned)(FLAG_OK | FLAG_TRANSFER)) || top >> 62)
		return MESH_E_CORRUPT;
	m->type = (enum raft_msg_type)type;
	m->ok = flags & FLAG_OK;
	m->transfer = flags & FLAG_TRANSFER;
	int rc = decode_body(m, &r);
	if (!rc && (r.bad || rd_left(&r) || (m->commit | m->hint | m->round | m->offset) >> 62))
		rc = MESH_E_CORRUPT;
	if (rc)
		raft_msg_fini(m);
	return rc;
}

void raft_msg_fini(struct raft_msg *m)
{
	for (size_t i = 0; i < m->n_entries; i++)
		raft_entry_unref(m->entries[i]);
	free(m->entries);
	m->entries = NULL;
	m->n_entries = 0;
}
