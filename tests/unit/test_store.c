/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/store/store.h"

static uint64_t g_index;

static int setup(void **state)
{
	*state = store_new();
	g_index = 0;
	return 0;
}

static int teardown(void **state)
{
	store_free(*state);
	return 0;
}

static int apply(struct store *s, struct store_tx *tx, struct mesh_err *err)
{
	struct buf b = { 0 };
	store_tx_encode(tx, &b);
	int rc = store_apply(s, ++g_index, b.data, b.len, err);
	buf_fini(&b);
	store_tx_free(tx);
	return rc;
}

static void commit(struct store *s, struct store_tx *tx)
{
	struct mesh_err err = { 0 };
	int rc = apply(s, tx, &err);
	if (rc)
		fail_msg("%d: %s", rc, err.msg);
}

static void add_service(struct store *s, const char *id, const char *name)
{
	struct store_tx *tx = store_tx_new(s, 1000);
	struct md_service *v = store_tx_create(tx, STORE_SERVICE, id);
	v->spec.name = xstrdup(name);
	commit(s, tx);
}

static void put_task(struct store_tx *tx, const char *id, const char *service, const char *node)
{
	struct md_task *t = store_tx_create(tx, STORE_TASK, id);
	mesh_id_set(t->service.s, service);
	mesh_id_set(t->node.s, node);
}

static void test_overlay(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	struct store_tx *tx = store_tx_new(s, 2000);
	assert_ptr_equal(store_tx_get(tx, STORE_SERVICE, "a"), store_get(s, STORE_SERVICE, "a"));
	struct md_service *e = store_tx_edit(tx, STORE_SERVICE, "a");
	assert_ptr_not_equal(e, store_get(s, STORE_SERVICE, "a"));
	assert_ptr_equal(store_tx_edit(tx, STORE_SERVICE, "a"), e);
	assert_ptr_equal(store_tx_get(tx, STORE_SERVICE, "a"), e);
	assert_int_equal(store_tx_changes(tx), 0);
	str_set(&e->spec.name, "api");
	assert_int_equal(store_tx_changes(tx), 1);
	assert_string_equal(((const struct md_service *)store_get(s, STORE_SERVICE, "a"))->spec.name, "web");

	struct md_service *n = store_tx_create(tx, STORE_SERVICE, "b");
	assert_int_equal(n->meta.created_at, 2000);
	assert_int_equal(store_tx_changes(tx), 2);
	const void *const *touched;
	assert_int_equal(store_tx_touched(tx, STORE_SERVICE, &touched), 2);
	assert_ptr_equal(touched[0], e);
	assert_ptr_equal(touched[1], n);
	store_tx_delete(tx, STORE_SERVICE, "b");
	assert_null(store_tx_get(tx, STORE_SERVICE, "b"));
	assert_int_equal(store_tx_changes(tx), 1);
	store_tx_delete(tx, STORE_SERVICE, "a");
	assert_null(store_tx_get(tx, STORE_SERVICE, "a"));
	assert_null(store_tx_edit(tx, STORE_SERVICE, "a"));
	assert_int_equal(store_tx_touched(tx, STORE_SERVICE, &touched), 0);
	assert_int_equal(store_tx_changes(tx), 1);
	store_tx_delete(tx, STORE_SERVICE, "nothing");
	assert_int_equal(store_tx_changes(tx), 1);
	assert_int_equal(store_count(s, STORE_SERVICE), 1);
	commit(s, tx);
	assert_int_equal(store_count(s, STORE_SERVICE), 0);
}

static void test_unchanged_edit_is_no_command(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	struct store_tx *tx = store_tx_new(s, 2000);
	assert_non_null(store_tx_edit(tx, STORE_SERVICE, "a"));
	commit(s, tx);
	const struct md_service *v = store_get(s, STORE_SERVICE, "a");
	assert_int_equal(v->meta.rev, 1);
	assert_int_equal(store_index(s), 2);
}

static void test_versions(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	const struct md_service *v = store_get(s, STORE_SERVICE, "a");
	assert_int_equal(v->meta.version.index, 1);
	assert_int_equal(v->meta.rev, 1);

	struct store_tx *tx = store_tx_new(s, 2000);
	struct md_service *e = store_tx_edit(tx, STORE_SERVICE, "a");
	e->endpoint.spec.mode = MD_ENDPOINT_VIP;
	e->meta.version.index = 77; /* not the transaction's to give */
	commit(s, tx);
	v = store_get(s, STORE_SERVICE, "a");
	assert_int_equal(v->meta.version.index, 1);
	assert_int_equal(v->meta.rev, 2);
	assert_int_equal(v->meta.updated_at, 1000);

	tx = store_tx_new(s, 3000);
	store_tx_touch_version(tx, store_tx_edit(tx, STORE_SERVICE, "a"));
	assert_int_equal(store_tx_changes(tx), 1);
	commit(s, tx);
	v = store_get(s, STORE_SERVICE, "a");
	assert_int_equal(v->meta.version.index, 3);
	assert_int_equal(v->meta.updated_at, 3000);
	assert_int_equal(v->meta.created_at, 1000);

	tx = store_tx_new(s, 4000);
	put_task(tx, "t", "a", "");
	commit(s, tx);
	tx = store_tx_new(s, 5000);
	((struct md_task *)store_tx_edit(tx, STORE_TASK, "t"))->status.state = MD_TASK_RUNNING;
	commit(s, tx);
	const struct md_task *t = store_get(s, STORE_TASK, "t");
	assert_int_equal(t->meta.version.index, 5);
	assert_int_equal(t->meta.rev, 5);
	assert_int_equal(t->meta.updated_at, 5000);
}

static void test_out_of_sequence(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	struct store_tx *one = store_tx_new(s, 1), *two = store_tx_new(s, 2), *three = store_tx_new(s, 3);
	((struct md_service *)store_tx_edit(one, STORE_SERVICE, "a"))->endpoint.spec.mode = MD_ENDPOINT_VIP;
	((struct md_service *)store_tx_edit(two, STORE_SERVICE, "a"))->endpoint.spec.mode = MD_ENDPOINT_DNSRR;
	put_task(two, "t", "a", "n");
	store_tx_delete(three, STORE_SERVICE, "a");
	commit(s, one);

	struct mesh_err err = { 0 };
	assert_int_equal(apply(s, two, &err), MESH_E_OUT_OF_SEQUENCE);
	assert_string_equal(err.msg, "update out of sequence: service a has changed");
	assert_int_equal(apply(s, three, NULL), MESH_E_OUT_OF_SEQUENCE);
	const struct md_service *v = store_get(s, STORE_SERVICE, "a");
	assert_int_equal(v->endpoint.spec.mode, MD_ENDPOINT_VIP);
	assert_null(store_get(s, STORE_TASK, "t"));
	assert_int_equal(store_tasks_of_node(s, "n").n, 0);
	assert_int_equal(store_index(s), 4);

	struct store_tx *late = store_tx_new(s, 5), *gone = store_tx_new(s, 5);
	((struct md_service *)store_tx_edit(late, STORE_SERVICE, "a"))->endpoint.spec.mode = MD_ENDPOINT_DNSRR;
	store_tx_delete(gone, STORE_SERVICE, "a");
	commit(s, gone);
	assert_int_equal(store_tx_changes(late), 1);
	assert_int_equal(apply(s, late, &err), MESH_E_OUT_OF_SEQUENCE);

	struct store_tx *c1 = store_tx_new(s, 6), *c2 = store_tx_new(s, 6);
	put_task(c1, "t", "", "");
	put_task(c2, "t", "", "");
	commit(s, c1);
	assert_int_equal(apply(s, c2, NULL), MESH_E_OUT_OF_SEQUENCE);
}

static void test_names(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	struct mesh_err err = { 0 };
	struct store_tx *tx = store_tx_new(s, 1);
	((struct md_service *)store_tx_create(tx, STORE_SERVICE, "b"))->spec.name = xstrdup("web");
	assert_int_equal(apply(s, tx, &err), MESH_E_CONFLICT);
	assert_string_equal(err.msg, "name conflicts with an existing object: service web already exists");
	assert_null(store_get(s, STORE_SERVICE, "b"));

	/* Two of the same name in one command. */
	tx = store_tx_new(s, 1);
	((struct md_service *)store_tx_create(tx, STORE_SERVICE, "b"))->spec.name = xstrdup("x");
	((struct md_service *)store_tx_create(tx, STORE_SERVICE, "c"))->spec.name = xstrdup("x");
	assert_int_equal(apply(s, tx, &err), MESH_E_CONFLICT);

	/* A name that this command frees may be taken by it, whichever comes first. */
	tx = store_tx_new(s, 1);
	((struct md_service *)store_tx_create(tx, STORE_SERVICE, "b"))->spec.name = xstrdup("web");
	str_set(&((struct md_service *)store_tx_edit(tx, STORE_SERVICE, "a"))->spec.name, "old");
	commit(s, tx);
	assert_ptr_equal(store_by_name(s, STORE_SERVICE, "web"), store_get(s, STORE_SERVICE, "b"));
	assert_ptr_equal(store_by_name(s, STORE_SERVICE, "old"), store_get(s, STORE_SERVICE, "a"));

	/* What is being deleted has given its name up. */
	tx = store_tx_new(s, 1);
	((struct md_service *)store_tx_edit(tx, STORE_SERVICE, "b"))->pending_delete = true;
	commit(s, tx);
	assert_null(store_by_name(s, STORE_SERVICE, "web"));
	add_service(s, "c", "web");

	/* The same name in another kind is no conflict. */
	tx = store_tx_new(s, 1);
	((struct md_network *)store_tx_create(tx, STORE_NETWORK, "n"))->spec.name = xstrdup("web");
	commit(s, tx);

	tx = store_tx_new(s, 1);
	store_tx_delete(tx, STORE_SERVICE, "c");
	commit(s, tx);
	assert_null(store_by_name(s, STORE_SERVICE, "web"));
}

static void add_node(struct store *s, const char *id, const char *hostname)
{
	struct store_tx *tx = store_tx_new(s, 1);
	((struct md_node *)store_tx_create(tx, STORE_NODE, id))->description.hostname = xstrdup(hostname);
	commit(s, tx);
}

static void test_find(void **state)
{
	struct store *s = *state;
	struct mesh_err err = { 0 };
	const void *out;
	add_node(s, "abc1", "twin");
	add_node(s, "abd2", "twin");
	add_node(s, "xyz3", "abc1"); /* a name equal to another's id */
	assert_int_equal(store_find(s, STORE_NODE, "abc1", &out, &err), 0);
	assert_ptr_equal(out, store_get(s, STORE_NODE, "abc1"));
	assert_int_equal(store_find(s, STORE_NODE, "x", &out, &err), 0);
	assert_ptr_equal(out, store_get(s, STORE_NODE, "xyz3"));
	assert_int_equal(store_find(s, STORE_NODE, "ab", &out, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "node ab is ambiguous (2 matches found)");
	assert_int_equal(store_find(s, STORE_NODE, "twin", &out, &err), MESH_E_INVALID);
	assert_null(store_by_name(s, STORE_NODE, "twin"));
	assert_int_equal(store_find(s, STORE_NODE, "nope", &out, &err), MESH_E_NOT_FOUND);
	assert_string_equal(err.msg, "node nope not found");
	assert_int_equal(store_find(s, STORE_NODE, "", &out, &err), MESH_E_INVALID);

	struct store_tx *tx = store_tx_new(s, 1);
	store_tx_delete(tx, STORE_NODE, "abd2");
	commit(s, tx);
	assert_ptr_equal(store_by_name(s, STORE_NODE, "twin"), store_get(s, STORE_NODE, "abc1"));
}

static void test_task_indexes(void **state)
{
	struct store *s = *state;
	struct store_tx *tx = store_tx_new(s, 1);
	put_task(tx, "t1", "a", "");
	put_task(tx, "t2", "b", "n1");
	put_task(tx, "t3", "a", "n1");
	commit(s, tx);
	assert_int_equal(store_tasks_of_service(s, "a").n, 2);
	assert_int_equal(store_tasks_of_node(s, "n1").n, 2);
	tx = store_tx_new(s, 2);
	mesh_id_set(((struct md_task *)store_tx_edit(tx, STORE_TASK, "t1"))->node.s, "n1");
	commit(s, tx);
	struct store_list l = store_tasks_of_node(s, "n1");
	assert_int_equal(l.n, 3);
	assert_string_equal(((const struct md_meta *)l.v[0])->id, "t1");
	assert_string_equal(((const struct md_meta *)l.v[1])->id, "t2");
	tx = store_tx_new(s, 3);
	store_tx_delete(tx, STORE_TASK, "t2");
	commit(s, tx);
	l = store_tasks_of_node(s, "n1");
	assert_int_equal(l.n, 2);
	assert_string_equal(((const struct md_meta *)l.v[1])->id, "t3");
	assert_int_equal(store_tasks_of_service(s, "b").n, 0);
}

struct seen {
	char log[512];
	struct store *s;
	struct seen *drop;
};

static void on_event(void *arg, const struct store_event *ev)
{
	struct seen *seen = arg;
	const struct md_meta *m = ev->new ? ev->new : ev->old;
	size_t at = strlen(seen->log);
	snprintf(seen->log + at, sizeof(seen->log) - at, "%c%s:%s:%llu>%llu ", "CUD"[ev->kind],
	         store_kind_name(ev->object), m -> id,
	         ev -> old ? (unsigned long long)((const struct md_meta *)ev->old) -> rev : 0,
	         ev -> new ? (unsigned long long)((const struct md_meta *)ev->new)->rev : 0);
	if (seen->drop)
		store_unwatch(seen->s, on_event, TAKE(seen->drop));
}

static void test_events(void **state)
{
	struct store *s = *state;
	struct seen b = { 0 }, a = { .s = s };
	store_watch(s, on_event, &a);
	store_watch(s, on_event, &b);
	add_service(s, "x", "web");
	assert_string_equal(a.log, "Cservice:x:0>1 ");
	struct store_tx *tx = store_tx_new(s, 1);
	store_tx_touch_version(tx, store_tx_edit(tx, STORE_SERVICE, "x"));
	put_task(tx, "t", "x", "");
	commit(s, tx);
	assert_string_equal(a.log, "Cservice:x:0>1 Uservice:x:1>2 Ctask:t:0>2 ");
	assert_string_equal(a.log, b.log);
	/* a unregisters b from inside a callback: b hears nothing more, not even of this command. */
	a.drop = &b;
	tx = store_tx_new(s, 1);
	store_tx_delete(tx, STORE_TASK, "t");
	commit(s, tx);
	assert_string_equal(a.log, "Cservice:x:0>1 Uservice:x:1>2 Ctask:t:0>2 Dtask:t:2>0 ");
	assert_string_equal(b.log, "Cservice:x:0>1 Uservice:x:1>2 Ctask:t:0>2 ");
	/* Refused commands are not heard of. */
	tx = store_tx_new(s, 1);
	((struct md_service *)store_tx_create(tx, STORE_SERVICE, "y"))->spec.name = xstrdup("web");
	assert_int_equal(apply(s, tx, NULL), MESH_E_CONFLICT);
	assert_string_equal(a.log, "Cservice:x:0>1 Uservice:x:1>2 Ctask:t:0>2 Dtask:t:2>0 ");
}

static void test_one_cluster(void **state)
{
	struct store *s = *state;
	assert_null(store_cluster(s));
	struct store_tx *tx = store_tx_new(s, 1);
	store_tx_create(tx, STORE_CLUSTER, "c1");
	commit(s, tx);
	assert_string_equal(store_cluster(s)->meta.id, "c1");
	tx = store_tx_new(s, 1);
	store_tx_create(tx, STORE_CLUSTER, "c2");
	assert_int_equal(apply(s, tx, NULL), MESH_E_CONFLICT);
}

static void assert_same(const struct store *a, const struct store *b)
{
	struct buf x = { 0 }, y = { 0 };
	store_snapshot_encode(a, &x);
	store_snapshot_encode(b, &y);
	assert_int_equal(x.len, y.len);
	assert_memory_equal(x.data, y.data, x.len);
	buf_fini(&x);
	buf_fini(&y);
}

/* Random commands against a naive list of ids: order of creation, counts, snapshot and a replica. */
static void test_random_history(void **state)
{
	struct store *s = *state, *twin = store_new();
	struct mesh_rng rng;
	mesh_rng_seed(&rng, 7);
	struct VEC(char *) ids = { 0 };
	for (unsigned step = 0; step < 3000; step++) {
		struct store_tx *tx = store_tx_new(s, step);
		for (unsigned n = (unsigned)mesh_rng_below(&rng, 4) + 1; n; n--) {
			uint64_t what = mesh_rng_below(&rng, 10);
			size_t pick = ids.len ? mesh_rng_below(&rng, ids.len) : 0;
			char node[8];
			snprintf(node, sizeof(node), "n%u", (unsigned)mesh_rng_below(&rng, 5));
			if (what < 5 || !ids.len) {
				char id[MESH_ID_LEN + 1];
				mesh_id_make(&rng, id);
				put_task(tx, id, "svc", node);
				vec_push(&ids, xstrdup(id));
			} else if (what < 7) {
				mesh_id_set(((struct md_task *)store_tx_edit(tx, STORE_TASK, ids.data[pick]))->node.s,
				            node);
			} else {
				store_tx_delete(tx, STORE_TASK, ids.data[pick]);
				free(ids.data[pick]);
				vec_remove(&ids, pick);
			}
		}
		struct buf cmd = { 0 };
		store_tx_encode(tx, &cmd);
		store_tx_free(tx);
		assert_int_equal(store_apply(s, step + 1, cmd.data, cmd.len, NULL), 0);
		assert_int_equal(store_apply(twin, step + 1, cmd.data, cmd.len, NULL), 0);
		buf_fini(&cmd);
		if (step % 17)
			continue;
		struct store_list l = store_all(s, STORE_TASK);
		assert_int_equal(l.n, ids.len);
		size_t on_nodes = 0;
		for (size_t i = 0; i < l.n; i++)
			assert_string_equal(((const struct md_meta *)l.v[i])->id, ids.data[i]);
		for (unsigned i = 0; i < 5; i++) {
			char node[8];
			snprintf(node, sizeof(node), "n%u", i);
			struct store_list on = store_tasks_of_node(s, node);
			on_nodes += on.n;
			for (size_t j = 0; j < on.n; j++)
				assert_string_equal(((const struct md_task *)on.v[j])->node.s, node);
		}
		assert_int_equal(on_nodes, ids.len);
		assert_int_equal(store_tasks_of_service(s, "svc").n, ids.len);
	}
	assert_same(s, twin);
	store_free(twin);
	for (size_t i = 0; i < ids.len; i++)
		free(ids.data[i]);
	vec_fini(&ids);
}

static void test_snapshot_round_trip(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	add_service(s, "b", "api");
	add_node(s, "n1", "host");
	struct store_tx *tx = store_tx_new(s, 1);
	put_task(tx, "t1", "a", "n1");
	put_task(tx, "t2", "a", "");
	commit(s, tx);
	struct buf snap = { 0 };
	store_snapshot_encode(s, &snap);
	struct store *copy = store_new();
	struct mesh_err err = { 0 };
	assert_int_equal(store_snapshot_decode(copy, snap.data, snap.len, &err), 0);
	assert_same(s, copy);
	assert_int_equal(store_index(copy), store_index(s));
	assert_non_null(store_by_name(copy, STORE_SERVICE, "api"));
	assert_int_equal(store_tasks_of_node(copy, "n1").n, 1);
	/* Every truncation is noticed. */
	for (size_t n = 0; n < snap.len; n++) {
		struct store *part = store_new();
		assert_int_equal(store_snapshot_decode(part, snap.data, n, &err), MESH_E_CORRUPT);
		store_free(part);
	}
	/* The copy goes on from where the original was. */
	g_index = store_index(copy);
	add_service(copy, "c", "more");
	assert_int_equal(store_all(copy, STORE_SERVICE).n, 3);
	store_free(copy);
	buf_fini(&snap);
}

static void test_snapshot_restore_in_use(void **state)
{
	struct store *s = *state, *ahead = store_new();
	add_service(s, "a", "web");
	add_service(s, "b", "api");
	add_service(s, "c", "same");
	struct buf snap = { 0 };
	store_snapshot_encode(s, &snap);
	assert_int_equal(store_snapshot_decode(ahead, snap.data, snap.len, NULL), 0);
	struct store_tx *tx = store_tx_new(ahead, 9);
	store_tx_delete(tx, STORE_SERVICE, "a");
	store_tx_touch_version(tx, store_tx_edit(tx, STORE_SERVICE, "b"));
	put_task(tx, "t", "b", "");
	commit(ahead, tx);
	buf_clear(&snap);
	store_snapshot_encode(ahead, &snap);

	struct seen seen = { 0 };
	store_watch(s, on_event, &seen);
	struct mesh_err err = { 0 };
	assert_int_equal(store_snapshot_restore(s, snap.data, snap.len - 1, &err), MESH_E_CORRUPT);
	assert_int_equal(store_count(s, STORE_SERVICE), 3);
	assert_int_equal(store_snapshot_restore(s, snap.data, snap.len, &err), 0);
	assert_string_equal(seen.log, "Dservice:a:1>0 Uservice:b:2>4 Ctask:t:0>4 ");
	assert_same(s, ahead);
	store_unwatch(s, on_event, &seen);
	store_free(ahead);
	buf_fini(&snap);
}

static void test_bad_commands(void **state)
{
	struct store *s = *state;
	add_service(s, "a", "web");
	struct store_tx *tx = store_tx_new(s, 1);
	store_tx_touch_version(tx, store_tx_edit(tx, STORE_SERVICE, "a"));
	put_task(tx, "t", "a", "n");
	struct buf cmd = { 0 };
	store_tx_encode(tx, &cmd);
	store_tx_free(tx);
	for (size_t n = 0; n < cmd.len; n++)
		assert_int_equal(store_apply(s, 9, cmd.data, n, NULL), MESH_E_CORRUPT);
	cmd.data[0] = 9;
	assert_int_equal(store_apply(s, 9, cmd.data, cmd.len, NULL), MESH_E_VERSION);
	assert_int_equal(store_count(s, STORE_TASK), 0);
	buf_fini(&cmd);
	/* The same object twice in one command: no transaction makes that. */
	static const uint8_t twice[] = { 1, 2, 3, 3, 0, 1, 1, 't', 3, 3, 0, 1, 1, 't' };
	assert_int_equal(store_apply(s, 9, twice, sizeof(twice), NULL), MESH_E_CORRUPT);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_overlay),
		T(test_unchanged_edit_is_no_command),
		T(test_versions),
		T(test_out_of_sequence),
		T(test_names),
		T(test_find),
		T(test_task_indexes),
		T(test_events),
		T(test_one_cluster),
		T(test_random_history),
		T(test_snapshot_round_trip),
		T(test_snapshot_restore_in_use),
		T(test_bad_commands),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
