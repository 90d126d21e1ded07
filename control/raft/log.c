/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/raft/raft_impl.h"

#include <assert.h>

#include "base/mem.h"

struct raft_entry *raft_entry_new(uint64_t index, uint64_t term, enum raft_entry_type type, const void *p, size_t n)
{
	assert(n <= RAFT_ENTRY_BYTES_MAX);
	struct raft_entry *e = xrealloc(NULL, sizeof(*e) + n);
	*e = (struct raft_entry){ .index = index, .term = term, .refs = 1, .n = (uint32_t)n, .type = (uint8_t)type };
	if (n)
		memcpy(e->p, p, n);
	return e;
}

struct raft_entry *raft_entry_ref(struct raft_entry *e)
{
	e->refs++;
	return e;
}

void raft_entry_unref(struct raft_entry *e)
{
	if (e && --e->refs == 0)
		free(e);
}

uint64_t raft_last_index(const struct raft *r)
{
	return r->base + r->log.len;
}

uint64_t raft_term_at(const struct raft *r, uint64_t index)
{
	if (index == r->base)
		return r->base_term;
	const struct raft_entry *e = raft_entry_at(r, index);
	return e ? e->term : 0;
}

const struct raft_entry *raft_entry_at(const struct raft *r, uint64_t index)
{
	if (index <= r->base || index > raft_last_index(r))
		return NULL;
	return r->log.data[index - r->base - 1];
}

void raft_log_append(struct raft *r, struct raft_entry *e)
{
	assert(e->index == raft_last_index(r) + 1);
	vec_push(&r->log, e);
	struct raft_fx *fx = raft_emit(r, RAFT_FX_APPEND);
	fx->seq = raft_write_add(r, e->index);
	fx->entry = raft_entry_ref(e);
	if (e->type == RAFT_CONFIG)
		raft_conf_appended(r, e);
}

void raft_log_truncate(struct raft *r, uint64_t from)
{
	assert(from > r->commit);
	bool conf = false;
	while (raft_last_index(r) >= from) {
		struct raft_entry *e = r->log.data[--r->log.len];
		conf |= e->type == RAFT_CONFIG;
		raft_entry_unref(e);
	}
	/* Writes on their way make nothing after the cut durable. */
	if (r->durable >= from)
		r->durable = from - 1;
	for (size_t i = 0; i < r->writes.len; i++)
		if (r->writes.data[i].last >= from)
			r->writes.data[i].last = from - 1;
	if (conf)
		raft_conf_rescan(r);
}

void raft_log_reset(struct raft *r, uint64_t index, uint64_t term)
{
	for (size_t i = 0; i < r->log.len; i++)
		raft_entry_unref(r->log.data[i]);
	r->log.len = 0;
	r->base = r->snap_index = index;
	r->base_term = r->snap_term = term;
	r->durable = 0;
	for (size_t i = 0; i < r->writes.len; i++)
		r->writes.data[i].last = 0;
}

void raft_log_drop_to(struct raft *r, uint64_t index)
{
	if (index <= r->base)
		return;
	uint64_t term = raft_term_at(r, index);
	size_t n = index - r->base;
	for (size_t i = 0; i < n; i++)
		raft_entry_unref(r->log.data[i]);
	memmove(r->log.data, r->log.data + n, (r->log.len - n) * sizeof(*r->log.data));
	r->log.len -= n;
	r->base = index;
	r->base_term = term;
}
