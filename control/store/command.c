/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/store/store_impl.h"

#include "base/mem.h"

void store_change_encode(const struct store_change *c, struct buf *out)
{
	buf_put_u8(out, (uint8_t)c->op);
	buf_put_u8(out, (uint8_t)c->kind);
	buf_put_u8(out, c->touch ? STORE_FLAG_TOUCH : 0);
	if (c->op != STORE_OP_CREATE)
		buf_put_varint(out, c->base);
	if (c->op == STORE_OP_DELETE) {
		buf_put_varint(out, strlen(c->id));
		buf_puts(out, c->id);
		return;
	}
	struct buf body = { 0 };
	sch_encode(store_kind_schema(c->kind), c->obj, &body);
	buf_put_varint(out, body.len);
	buf_put(out, body.data, body.len);
	mesh_wipe(body.data, body.len);
	buf_fini(&body);
}

/* What is wrong with the bytes of one change, or NULL. */
static const char *change_decode(struct rd *r, struct store_change *c)
{
	unsigned op = rd_u8(r), kind = rd_u8(r), flags = rd_u8(r);
	c->base = op == STORE_OP_CREATE ? 0 : rd_varint(r);
	uint64_t n = rd_varint(r);
	const uint8_t *p = rd_bytes(r, n);
	if (!p)
		return "cut short";
	if (op < STORE_OP_CREATE || op > STORE_OP_DELETE)
		return "unknown operation";
	if (kind >= STORE_KIND_MAX)
		return "unknown kind of object";
	if (flags & ~(unsigned)STORE_FLAG_TOUCH)
		return "unknown flag";
	c->op = (enum store_op)op;
	c->kind = (enum store_kind)kind;
	c->touch = flags & STORE_FLAG_TOUCH;
	if (op == STORE_OP_DELETE) {
		if (!n || n > MESH_ID_LEN || memchr(p, 0, n))
			return "bad id";
		memcpy(c->id, p, n);
		return NULL;
	}
	const struct schema *schema = store_kind_schema(c->kind);
	c->obj = sch_new(schema);
	if (sch_decode(schema, c->obj, p, n))
		return "bad object";
	memcpy(c->id, store_meta(c->obj)->id, sizeof(c->id));
	return c->id[0] ? NULL : "object without an id";
}

int store_command_decode(const void *p, size_t n, struct store_command *cmd, struct mesh_err *err)
{
	struct rd r = rd_of(p, n);
	*cmd = (struct store_command){ 0 };
	unsigned version = rd_u8(&r);
	uint64_t count = rd_varint(&r);
	if (r.bad)
		return mesh_fail(err, MESH_E_CORRUPT, "store command: cut short");
	if (version != STORE_COMMAND_VERSION)
		return mesh_fail(err, MESH_E_VERSION, "store command: version %u, this program knows %d", version,
		                 STORE_COMMAND_VERSION);
	for (uint64_t i = 0; i < count; i++) {
		struct store_change c = { 0 };
		const char *wrong = change_decode(&r, &c);
		vec_push(cmd, c);
		if (wrong) {
			store_command_fini(cmd);
			return mesh_fail(err, MESH_E_CORRUPT, "store command: change %llu: %s", (unsigned long long)i,
			                 wrong);
		}
	}
	if (rd_left(&r)) {
		store_command_fini(cmd);
		return mesh_fail(err, MESH_E_CORRUPT, "store command: bytes after the last change");
	}
	return 0;
}

void store_command_fini(struct store_command *cmd)
{
	for (size_t i = 0; i < cmd->len; i++)
		sch_free(store_kind_schema(cmd->data[i].kind), cmd->data[i].obj);
	vec_fini(cmd);
}
