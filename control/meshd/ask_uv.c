/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One question to every node of the cluster, from a manager: records of JSON come back until each node has said all.
 * The agents' side is serve_uv.c.
 */
#include <stdio.h>

#include "base/mem.h"
#include "control/meshd/meshd.h"

struct ask_part {
	struct api_ask *ask;
	node_id node;
	uint32_t stream;
	bool ended, told;
	struct mesh_err err; /* why it ended */
};
struct api_ask {
	struct manager *mgr; /* NULL once the role ended */
	const struct api_ask_ops *ops;
	void *arg;
	struct VEC(struct ask_part *) parts;
	uv_timer_t tell; /* ends are told from the loop, never from within a call */
	bool closing;
};

static void stream_key(uint32_t stream, char out[16])
{
	snprintf(out, 16, "%u", stream);
}

static void on_tell_closed(uv_handle_t *h)
{
	free(CONTAINER_OF((uv_timer_t *)h, struct api_ask, tell));
}

static void release(struct api_ask *a)
{
	char key[16];
	a->closing = true;
	for (size_t i = 0; i < a->parts.len; i++) {
		stream_key(a->parts.data[i]->stream, key);
		if (a->mgr)
			map_del(manager_asks(a->mgr), key);
		free(a->parts.data[i]);
	}
	vec_fini(&a->parts);
	uv_close((uv_handle_t *)&a->tell, on_tell_closed);
}

static void on_tell(uv_timer_t *t)
{
	struct api_ask *a = CONTAINER_OF(t, struct api_ask, tell);
	size_t left = 0;
	for (size_t i = 0; i < a->parts.len && !a->closing; i++) {
		struct ask_part *p = a->parts.data[i];
		left += !p->ended;
		if (!p->ended || p->told)
			continue;
		p->told = true;
		a->ops->on_node_end(a->arg, p->node.s, p->err.code, &p->err);
	}
	if (a->closing || left)
		return;
	a->ops->on_end(a->arg);
	release(a);
}

static void end_part(struct ask_part *p)
{
	p->ended = true;
	(void)uv_timer_start(&p->ask->tell, on_tell, 0, 0);
}

static void open_part(struct api_ask *a, const struct md_node *n, const struct wire_call *call)
{
	struct ask_part *p = XNEW(struct ask_part);
	struct buf b = { 0 };
	char key[16];
	p->ask = a;
	mesh_id_set(p->node.s, n->meta.id);
	p->stream = manager_new_stream(a->mgr);
	stream_key(p->stream, key);
	map_put(manager_asks(a->mgr), key, p);
	vec_push(&a->parts, p);
	sch_encode(&wire_call_schema, call, &b);
	if (!manager_send(a->mgr, p->node.s, NET_CALL, p->stream, &b)) {
		(void)mesh_fail(&p->err, MESH_E_CLOSED, "the node is not connected to this manager");
		end_part(p);
	}
	buf_fini(&b);
}

struct api_ask *ask_open(struct manager *mgr, const char *what, const struct str_list *args,
                         const struct api_ask_ops *ops, void *arg)
{
	struct wire_call call = { .what = (char *)(uintptr_t)what, .args = *args };
	struct api_ask *a = XNEW(struct api_ask);
	*a = (struct api_ask){ .mgr = mgr, .ops = ops, .arg = arg };
	(void)uv_timer_init(manager_loop(mgr), &a->tell); /* cannot fail */
	STORE_EACH(manager_store(mgr), STORE_NODE, struct md_node, n)
		open_part(a, n, &call);
	(void)uv_timer_start(&a->tell, on_tell, 0, 0);
	return a;
}

void ask_close(struct api_ask *a)
{
	struct buf none = { 0 };
	for (size_t i = 0; i < a->parts.len; i++)
		if (a->mgr && !a->parts.data[i]->ended)
			(void)manager_send(a->mgr, a->parts.data[i]->node.s, NET_END, a->parts.data[i]->stream, &none);
	release(a);
}

bool ask_frame(struct manager *mgr, const char *node, uint16_t type, uint32_t stream, const uint8_t *p, size_t n)
{
	char key[16];
	stream_key(stream, key);
	struct ask_part *part = map_get(manager_asks(mgr), key);
	if (!part)
		return false;
	if (part->ended || !streq(part->node.s, node))
		return true;
	if (type == NET_DATA) {
		part->ask->ops->on_record(part->ask->arg, node, (const char *)p, n);
		return true;
	}
	struct wire_end end = { 0 };
	if (sch_decode(&wire_end_schema, &end, p, n) == 0 && end.code)
		(void)mesh_fail(&part->err, end.code < 0 && end.code > INT32_MIN ? (int)end.code : MESH_E_PROTOCOL,
		                "%s", end.text ? end.text : "");
	sch_clear(&wire_end_schema, &end);
	end_part(part);
	return true;
}

static void gone(struct ask_part *p, const char *why)
{
	if (p->ended)
		return;
	(void)mesh_fail(&p->err, MESH_E_CLOSED, "%s", why);
	end_part(p);
}

void asks_node_gone(struct manager *mgr, const char *node)
{
	MAP_FOREACH(manager_asks(mgr), e) {
		struct ask_part *p = e->value;
		if (streq(p->node.s, node))
			gone(p, "the node's connection ended");
	}
}

void asks_manager_gone(struct manager *mgr)
{
	MAP_FOREACH(manager_asks(mgr), e) {
		struct ask_part *p = e->value;
		gone(p, "this node is no manager any more");
		p->ask->mgr = NULL;
	}
}
