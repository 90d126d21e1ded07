/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the real engine answered, read into our objects and written again, must be the same text: names, order,
 * what is left out. And what the real client sends must be known to the last field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/view.h"
#include "control/model/json.h"

#define DIR_NAME "tests/golden/api_json"

static json_t *load(const char *name)
{
	char path[300];
	json_error_t e;
	snprintf(path, sizeof(path), "%s/%s", DIR_NAME, name);
	json_t *j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s: %s at line %d", path, e.text, e.line);
	return j;
}

/* What clients may not write, and so the reader skips. */
static void take_meta(struct md_meta *m, const json_t *j)
{
	mesh_id_set(m->id, json_string_value(json_object_get(j, "ID")));
	m->version.index = (uint64_t)json_integer_value(json_object_get(json_object_get(j, "Version"), "Index"));
	assert_int_equal(clock_parse(json_string_value(json_object_get(j, "CreatedAt")), &m->created_at), 0);
	assert_int_equal(clock_parse(json_string_value(json_object_get(j, "UpdatedAt")), &m->updated_at), 0);
}

static void *read_object(const struct schema *s, const json_t *j, struct str_list *unknown)
{
	struct mesh_err err = { 0 };
	void *o = sch_new(s);
	if (md_json_read(s, o, j, "", unknown, &err))
		fail_msg("%s", err.msg);
	take_meta(o, j);
	return o;
}

static void same_text(const char *name, const json_t *want, struct jw *w)
{
	char *text = json_dumps(want, JSON_COMPACT);
	const char *got = buf_str(&w->b);
	size_t at = 0;
	while (text[at] && text[at] == got[at])
		at++;
	size_t from = at > 60 ? at - 60 : 0;
	if (text[at] || got[at])
		fail_msg("%s, at %zu\n want ...%.200s\n got  ...%.200s", name, at, text + from, got + from);
	free(text);
	buf_fini(&w->b);
}

static void round_trip(const char *name, const struct schema *s)
{
	struct str_list unknown = { 0 };
	struct jw w = { 0 };
	json_t *j = load(name);
	void *o = read_object(s, j, &unknown);
	for (size_t i = 0; i < unknown.n; i++)
		fail_msg("%s: %s is not known", name, unknown.v[i]);
	md_json_write(&w, s, o);
	same_text(name, j, &w);
	sch_free(s, o);
	json_decref(j);
}

static void services(void **state)
{
	static const char *const names[] = { "service_web.json",           "service_updated.json",
		                             "service_published.json",     "service_global.json",
		                             "service_replicatedjob.json", "service_globaljob.json" };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		round_trip(names[i], &md_service_schema);
}

static void nodes(void **state)
{
	(void)state;
	round_trip("node_manager.json", &md_node_schema);
	round_trip("node_worker.json", &md_node_schema);
}

static void secrets_and_configs(void **state)
{
	(void)state;
	round_trip("secret.json", &md_secret_schema);
	round_trip("config.json", &md_config_schema);
}

static void the_cluster(void **state)
{
	struct jw w = { 0 };
	json_t *j = load("cluster.json");
	struct md_cluster *c = read_object(&md_cluster_schema, j, NULL);
	(void)state;
	const json_t *tokens = json_object_get(j, "JoinTokens");
	str_set(&c->tokens.worker, json_string_value(json_object_get(tokens, "Worker")));
	str_set(&c->tokens.manager, json_string_value(json_object_get(tokens, "Manager")));
	view_cluster(&w, c, true);
	same_text("cluster.json", j, &w);
	sch_free(&md_cluster_schema, c);
	json_decref(j);
}

/* A store that holds the recorded network, so that a task can show it. */
static struct store *store_with_network(void)
{
	json_t *j = load("network_object.json");
	struct store *s = store_new();
	struct store_tx *tx = store_tx_new(s, 1);
	struct buf cmd = { 0 };
	struct md_network *from = read_object(&md_network_schema, j, NULL);
	struct md_network *n = store_tx_create(tx, STORE_NETWORK, from->meta.id);
	n->meta = from->meta;
	sch_copy(&md_network_spec_schema, &n->spec, &from->spec);
	sch_copy(&md_ipam_options_schema, &n->ipam, &from->ipam);
	n->vni = 4098;
	store_tx_encode(tx, &cmd);
	assert_int_equal(store_apply(s, 1, cmd.data, cmd.len, NULL), 0);
	store_tx_free(tx);
	buf_fini(&cmd);
	sch_free(&md_network_schema, from);
	json_decref(j);
	return s;
}

static void take_attachments(struct md_task *t, const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *a = json_array_get(list, i), *addr = json_object_get(a, "Addresses");
		struct md_attachment *to = LIST_ADD(&t->attachments);
		mesh_id_set(to->network.s, json_string_value(json_object_get(json_object_get(a, "Network"), "ID")));
		for (size_t k = 0; k < json_array_size(addr); k++)
			strs_add(&to->addresses, json_string_value(json_array_get(addr, k)));
	}
}

/* Version and times of the network are the store's, not the recording's. */
static void forget_network_meta(json_t *task)
{
	json_t *list = json_object_get(task, "NetworksAttachments");
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *n = json_object_get(json_array_get(list, i), "Network");
		(void)json_object_set_new(n, "Version", json_null());
		(void)json_object_set_new(n, "CreatedAt", json_null());
		(void)json_object_set_new(n, "UpdatedAt", json_null());
	}
}

static void tasks(void **state)
{
	static const char *const names[] = { "task_web.json", "task_rejected.json", "task_job.json" };
	struct store *s = store_with_network();
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct jw w = { 0 };
		json_t *j = load(names[i]), *got;
		struct md_task *t = read_object(&md_task_schema, j, NULL);
		take_attachments(t, json_object_get(j, "NetworksAttachments"));
		t->slot += t->job_iteration != NULL; /* the store counts a job's slots from 1 */
		view_task(&w, s, t);
		assert_int_equal(md_json_parse(w.b.data, w.b.len, &got, NULL), 0);
		forget_network_meta(j);
		forget_network_meta(got);
		char *text = json_dumps(got, JSON_COMPACT);
		buf_clear(&w.b);
		buf_puts(&w.b, text);
		same_text(names[i], j, &w);
		free(text);
		json_decref(got);
		json_decref(j);
		sch_free(&md_task_schema, t);
	}
	store_free(s);
}

static const json_t *get_any_case(const json_t *j, const char *want)
{
	const char *key;
	json_t *item;
	json_object_foreach((json_t *)j, key, item)
	{
		if (strcasecmp(key, want) == 0)
			return item;
	}
	return NULL;
}

/* Is everything of want that says something also in got? */
static void contains(const char *name, const char *at, const json_t *want, const json_t *got)
{
	char path[400];
	const char *key;
	json_t *item;
	if (json_is_object(want)) {
		json_object_foreach((json_t *)want, key, item)
		{
			bool empty = json_is_null(item) || json_is_false(item) ||
			             (json_is_string(item) && !json_string_length(item)) ||
			             (json_is_array(item) && !json_array_size(item)) ||
			             (json_is_integer(item) && !json_integer_value(item)) ||
			             (json_is_object(item) && !json_object_size(item));
			snprintf(path, sizeof(path), "%s.%s", at, key);
			if (!empty)
				contains(name, path, item, get_any_case(got, key));
		}
	} else if (json_is_array(want)) {
		if (json_array_size(want) != json_array_size(got))
			fail_msg("%s: %s has another length", name, at);
		for (size_t i = 0; i < json_array_size(want); i++)
			contains(name, at, json_array_get(want, i), json_array_get(got, i));
	} else if (!json_equal(want, got)) {
		fail_msg("%s: %s is lost", name, at);
	}
}

static const struct schema *schema_of(const char *file)
{
	static const struct {
		const char *prefix;
		const struct schema *s;
	} kinds[] = {
		{ "service_spec.", &md_service_spec_schema }, { "cluster_spec.", &md_cluster_spec_schema },
		{ "node_spec.", &md_node_spec_schema },       { "secret_spec.", &md_secret_spec_schema },
		{ "config_spec.", &md_config_spec_schema },
	};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strncmp(file, kinds[i].prefix, strlen(kinds[i].prefix)) == 0)
			return kinds[i].s;
	return NULL;
}

static void check_request(const char *file)
{
	char path[300];
	struct str_list unknown = { 0 };
	struct mesh_err err = { 0 };
	struct jw w = { 0 };
	const struct schema *s = schema_of(file);
	snprintf(path, sizeof(path), "requests/%s", file);
	json_t *j = load(path), *got;
	void *o = sch_new(s), *again = sch_new(s);
	if (md_json_read(s, o, j, "", &unknown, &err))
		fail_msg("%s: %s", file, err.msg);
	/* dockerode repeats its query in the body. */
	for (size_t i = 0; i < unknown.n; i++)
		if (!streq(unknown.v[i], "version"))
			fail_msg("%s: %s is not known", file, unknown.v[i]);
	strs_clear(&unknown);
	(void)json_object_del(j, "version");
	md_json_write(&w, s, o);
	assert_int_equal(md_json_parse(w.b.data, w.b.len, &got, NULL), 0);
	if (s == &md_secret_spec_schema) {
		assert_null(json_object_get(got, "Data")); /* a secret never comes back */
		(void)json_object_del(j, "Data");
	}
	contains(file, "", j, got);
	if (s != &md_secret_spec_schema) {
		assert_int_equal(md_json_read(s, again, got, "", NULL, NULL), 0);
		assert_true(sch_equal(s, o, again));
	}
	sch_free(s, o);
	sch_free(s, again);
	buf_fini(&w.b);
	json_decref(j);
	json_decref(got);
}

static void requests(void **state)
{
	DIR *d = opendir(DIR_NAME "/requests");
	int n = 0;
	(void)state;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		if (!schema_of(e->d_name))
			continue;
		check_request(e->d_name);
		n++;
	}
	closedir(d);
	assert_true(n >= 40);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(services),    cmocka_unit_test(nodes), cmocka_unit_test(secrets_and_configs),
		cmocka_unit_test(the_cluster), cmocka_unit_test(tasks), cmocka_unit_test(requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
