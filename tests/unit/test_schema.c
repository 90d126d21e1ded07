/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/model/model.h"

/* A service with something of every field type. */
static struct md_service *sample(void)
{
	struct md_service *s = sch_new(&md_service_schema);
	mesh_id_set(s->meta.id, "0123456789abcdefghijklmno");
	s->meta.version.index = 7;
	s->meta.created_at = 1795180389123456789;
	str_set(&s->spec.name, "web");
	smap_set(&s->spec.labels, "tier", "front");
	smap_set(&s->spec.labels, "empty", "");
	s->spec.task.container = sch_new(&md_container_spec_schema);
	struct md_container_spec *c = s->spec.task.container;
	str_set(&c->image, "bb:1");
	strs_add(&c->env, "A=1");
	strs_add(&c->env, "");
	c->stop_grace_period = (struct opt_i64){ true, 0 }; /* set, and zero */
	c->init = (struct opt_bool){ true, false };
	struct md_mount *m = LIST_ADD(&c->mounts);
	m->type = MD_MOUNT_VOLUME;
	str_set(&m->target, "/data");
	s->spec.mode.replicated = XNEW(struct md_replicated);
	s->spec.mode.replicated->replicas = (struct opt_u64){ true, 0 };
	s->spec.update = sch_new(&md_update_config_schema);
	s->spec.update->max_failure_ratio = 0.25;
	s->spec.update->delay = -1;
	return s;
}

static void encoding_gives_back_what_went_in(void **state)
{
	(void)state;
	struct md_service *a = sample(), *b = sch_new(&md_service_schema);
	struct buf buf = { 0 };
	sch_encode(&md_service_schema, a, &buf);
	assert_int_equal(sch_decode(&md_service_schema, b, buf.data, buf.len), 0);
	assert_true(sch_equal(&md_service_schema, a, b));
	assert_true(b->spec.task.container->stop_grace_period.set);
	assert_int_equal(b->spec.task.container->env.n, 2);
	assert_string_equal(b->spec.task.container->env.v[1], "");
	assert_int_equal(b->spec.update->delay, -1);
	buf_fini(&buf);
	sch_free(&md_service_schema, a);
	sch_free(&md_service_schema, b);
}

static void copies_are_deep_and_differences_are_seen(void **state)
{
	(void)state;
	struct md_service *a = sample(), *b = sch_dup(&md_service_schema, a);
	assert_true(sch_equal(&md_service_schema, a, b));
	strs_add(&b->spec.task.container->env, "C=3");
	assert_int_equal(a->spec.task.container->env.n, 2);
	assert_false(sch_equal(&md_service_schema, a, b));
	/* Appending to a copied list of structs must not write past it. */
	for (int i = 0; i < 5; i++)
		LIST_ADD(&b->spec.task.container->mounts)->type = MD_MOUNT_BIND;
	assert_int_equal(b->spec.task.container->mounts.n, 6);
	sch_free(&md_service_schema, b);
	b = sch_dup(&md_service_schema, a);
	b->spec.task.container->init.set = false;
	assert_false(sch_equal(&md_service_schema, a, b));
	sch_free(&md_service_schema, a);
	sch_free(&md_service_schema, b);
}

static void label_order_means_nothing(void **state)
{
	(void)state;
	struct md_service *a = sch_new(&md_service_schema), *b = sch_new(&md_service_schema);
	smap_set(&a->spec.labels, "x", "1");
	smap_set(&a->spec.labels, "y", "2");
	smap_set(&b->spec.labels, "y", "2");
	smap_set(&b->spec.labels, "x", "1");
	assert_true(sch_equal(&md_service_schema, a, b));
	smap_set(&b->spec.labels, "x", "3");
	assert_false(sch_equal(&md_service_schema, a, b));
	sch_free(&md_service_schema, a);
	sch_free(&md_service_schema, b);
}

static void every_truncation_is_refused_or_harmless(void **state)
{
	(void)state;
	struct md_service *a = sample();
	struct buf buf = { 0 };
	sch_encode(&md_service_schema, a, &buf);
	size_t refused = 0;
	for (size_t n = 0; n < buf.len; n++) {
		struct md_service *b = sch_new(&md_service_schema);
		uint8_t *exact = xmemdup(buf.data, n); /* so that a sanitizer sees a read past the end */
		refused += sch_decode(&md_service_schema, b, exact, n) == MESH_E_CORRUPT;
		free(exact);
		sch_free(&md_service_schema, b);
	}
	assert_true(refused > buf.len / 2);
	buf_fini(&buf);
	sch_free(&md_service_schema, a);
}

static void unknown_tags_are_skipped(void **state)
{
	(void)state;
	struct buf buf = { 0 };
	buf_put_varint(&buf, 9999 << 3 | 2);
	buf_put_varint(&buf, 3);
	buf_put(&buf, "abc", 3);
	buf_put_varint(&buf, 9998 << 3 | 0);
	buf_put_varint(&buf, 5);
	struct md_driver d = { 0 };
	str_set(&d.name, "overlay");
	sch_encode(&md_driver_schema, &d, &buf);
	struct md_driver e = { 0 };
	assert_int_equal(sch_decode(&md_driver_schema, &e, buf.data, buf.len), 0);
	assert_string_equal(e.name, "overlay");
	sch_clear(&md_driver_schema, &d);
	sch_clear(&md_driver_schema, &e);
	buf_fini(&buf);
}

/* A tag used twice in one schema would read one field as another. */
static void check_tags(const struct schema *s)
{
	for (size_t i = 0; i < s->n; i++) {
		for (size_t j = i + 1; j < s->n; j++)
			assert_int_not_equal(s->fields[i].tag, s->fields[j].tag);
		if (s->fields[i].sub)
			check_tags(s->fields[i].sub);
	}
}

static void tags_are_unique(void **state)
{
	(void)state;
	const struct schema *all[] = { &md_node_schema,   &md_service_schema, &md_task_schema,   &md_network_schema,
		                       &md_secret_schema, &md_config_schema,  &md_cluster_schema };
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		check_tags(all[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(encoding_gives_back_what_went_in),
		cmocka_unit_test(copies_are_deep_and_differences_are_seen),
		cmocka_unit_test(label_order_means_nothing),
		cmocka_unit_test(every_truncation_is_refused_or_harmless),
		cmocka_unit_test(unknown_tags_are_skipped),
		cmocka_unit_test(tags_are_unique),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
