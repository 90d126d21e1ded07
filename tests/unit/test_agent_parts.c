/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's pure and file parts: placeholders, users, health counting, the log's writer and reader, signals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/agent/health.h"
#include "control/agent/log_file.h"
#include "control/agent/oci_spec.h"
/* The shim stands alone; its writer is compiled in here to be read back. */
#include "control/agent/shim/logw.c"

/* ---- placeholders ---- */

static void test_template(void **state)
{
	struct str_map labels = { 0 };
	smap_set(&labels, "tier", "gold");
	const struct tmpl_vars v = { .service_id = "sid",
		                     .service_name = "web",
		                     .service_labels = &labels,
		                     .node_id = "nid",
		                     .node_hostname = "h1",
		                     .node_os = "linux",
		                     .node_arch = "x86_64",
		                     .task_id = "tid",
		                     .task_name = "web.1.tid",
		                     .task_slot = "1" };
	static const struct {
		const char *in, *out;
	} table[] = {
		{ "", "" },
		{ "plain", "plain" },
		{ "{{.Service.Name}}-{{.Task.Slot}}", "web-1" },
		{ "{{ .Node.Hostname }}", "h1" },
		{ "{{.Service.Labels.tier}}|{{index .Service.Labels \"none\"}}", "gold|" },
		{ "{{range $k, $v := .Service.Labels}}{{$k}}={{$v}},{{end}}", "tier=gold," },
		{ "{{if eq .Task.Slot \"1\"}}first{{else}}other{{end}}", "first" },
		{ "{{join \"-\" .Service.Name .Task.Slot}} {{printf \"%03s\" .Task.Slot}}", "web-1   1" },
		{ "{{.Service.Labels.none}}", NULL },
		{ "{{env \"A\"}}", NULL },
		{ "{{secret \"pw\"}}", NULL },
		{ "{{index .Service.Labels \"tier\"}}", "gold" },
		{ "{{.Node.ID}}{{.Service.ID}}{{.Task.ID}}", "nidsidtid" },
		{ "{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64" },
		{ "{x} }} {", "{x} }} {" },
		{ "{{.Nope}}", NULL },
		{ "{{.Service.Name", NULL },
		{ "{{}}", NULL },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		char *out = NULL;
		struct mesh_err err = { 0 };
		int rc = tmpl_expand_str(&v, table[i].in, &out, &err);
		assert_int_equal(rc, table[i].out ? 0 : MESH_E_INVALID);
		if (!rc)
			assert_string_equal(out, table[i].out);
		free(out);
	}
	smap_clear(&labels);
}

static bool find_three(void *arg, enum tmpl_what what, const char *name, struct bytes *out)
{
	static const struct {
		enum tmpl_what what;
		const char *name, *value;
	} there[] = { { TMPL_ENV, "A", "1" }, { TMPL_SECRET, "pw", "\xff{{x}}" }, { TMPL_CONFIG, "/c", "text" } };
	(void)arg;
	for (size_t i = 0; i < ARRAY_SIZE(there); i++)
		if (there[i].what == what && !strcmp(there[i].name, name)) {
			*out = (struct bytes){ (uint8_t *)there[i].value, strlen(there[i].value) };
			return true;
		}
	return false;
}

/* What configs and secrets may quote besides; the words are the engine's. */
static void test_template_of_a_file(void **state)
{
	static const struct {
		const char *in, *out, *error;
	} table[] = {
		{ "{{env \"A\"}}|{{env \"B\"}}", "1|", NULL },
		{ "p={{secret \"pw\"}}", "p=\xff{{x}}", NULL },
		{ "{{config \"/c\"}}{{.Service.Name}}", "textweb", NULL },
		{ "{{with secret \"pw\"}}{{len .}}{{end}}", "6", NULL },
		{ "{{secret \"no\"}}", NULL, "secret target no not found" },
		{ "{{config \"no\"}}", NULL, "config target no not found" },
		{ "{{secret 3}}", NULL, "wants the name as text" },
		{ "{{secret}}", NULL, "wrong number of args" },
	};
	const struct tmpl_vars v = { .service_name = "web" };
	const struct tmpl_sources sources = { find_three, NULL };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct buf out = { 0 };
		struct mesh_err err = { 0 };
		int rc = tmpl_expand(&v, &sources, table[i].in, strlen(table[i].in), &out, &err);
		assert_int_equal(rc, table[i].out ? 0 : MESH_E_INVALID);
		if (table[i].out)
			assert_string_equal(buf_str(&out), table[i].out);
		else
			assert_non_null(strstr(err.msg, table[i].error));
		buf_fini(&out);
	}
	struct buf out = { 0 };
	assert_int_equal(tmpl_expand(&v, &sources, "a\0{{x}}", 7, &out, NULL), MESH_E_INVALID);
	assert_int_equal(tmpl_expand(&v, &sources, "a\0b", 3, &out, NULL), 0); /* nothing to fill in: any bytes */
	assert_int_equal(out.len, 3);
	buf_fini(&out);
	char *entry = NULL;
	assert_int_equal(tmpl_expand_env(&v, "{{.Odd}}=x-{{.Service.Name}}", &entry, NULL), 0);
	assert_string_equal(entry, "{{.Odd}}=x-web");
	free(entry);
}

/* ---- users ---- */

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\nbob:x:1000:100::/home/bob:/bin/sh\nshort:x\n";
static const char group[] = "root:x:0:\nusers:x:100:\naudio:x:29:alice,bob\nvideo:x:44:bob\n";

static void test_users(void **state)
{
	static const struct {
		const char *user;
		int rc;
		uint32_t uid, gid;
		size_t groups;
		const char *home;
	} table[] = {
		{ NULL, 0, 0, 0, 0, "/root" },
		{ "", 0, 0, 0, 0, "/root" },
		{ "bob", 0, 1000, 100, 2, "/home/bob" },
		{ "1000", 0, 1000, 100, 2, "/home/bob" },
		{ "bob:audio", 0, 1000, 29, 0, "/home/bob" },
		{ "5555", 0, 5555, 0, 0, "/" },
		{ "5555:6666", 0, 5555, 6666, 0, "/" },
		{ "nobody", MESH_E_INVALID, 0, 0, 0, NULL },
		{ "bob:nope", MESH_E_INVALID, 0, 0, 0, NULL },
		{ "short", MESH_E_INVALID, 0, 0, 0, NULL },
		{ "99999999999", MESH_E_INVALID, 0, 0, 0, NULL },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct oci_user u;
		struct mesh_err err = { 0 };
		int rc = oci_user_resolve(table[i].user, NULL, passwd, group, &u, &err);
		assert_int_equal(rc, table[i].rc);
		if (rc)
			continue;
		assert_int_equal(u.uid, table[i].uid);
		assert_int_equal(u.gid, table[i].gid);
		assert_int_equal(u.n, table[i].groups);
		assert_string_equal(u.home, table[i].home);
	}
	struct mesh_err err = { 0 };
	struct oci_user u;
	assert_int_equal(oci_user_resolve("eve", NULL, NULL, NULL, &u, &err), MESH_E_INVALID);
	assert_string_equal(err.msg, "unable to find user eve: no matching entries in passwd file");
}

static void test_signals(void **state)
{
	(void)state;
	assert_int_equal(oci_signal_parse("SIGTERM"), 15);
	assert_int_equal(oci_signal_parse("quit"), 3);
	assert_int_equal(oci_signal_parse("9"), 9);
	assert_int_equal(oci_signal_parse("SIGRTMIN+3"), 37);
	assert_int_equal(oci_signal_parse("RTMAX-1"), 63);
	assert_int_equal(oci_signal_parse("RTMAX99999999999999999999"), 0);
	assert_int_equal(oci_signal_parse("0"), 0);
	assert_int_equal(oci_signal_parse("99"), 0);
	assert_int_equal(oci_signal_parse("SIGNOPE"), 0);
	assert_int_equal(oci_signal_parse(NULL), 0);
}

/* ---- health ---- */

#define S NS_PER_SEC

static void test_health_counting(void **state)
{
	(void)state;
	const struct md_health h = { .interval = 30 * S, .start_interval = 5 * S, .retries = 3 };
	struct health_count c;
	health_begin(&c, &h, 1000 * S);
	/* early looks, ever further apart, then the interval */
	static const int64_t waits_ms[] = { 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000 };
	for (size_t i = 0; i < ARRAY_SIZE(waits_ms); i++)
		assert_int_equal(health_wait(&c, 1000 * S), waits_ms[i] * NS_PER_MS);
	/* failures before the first interval do not count */
	for (int i = 0; i < 9; i++)
		health_result(&c, false, 1029 * S);
	assert_int_equal(c.verdict, HEALTH_STARTING);
	health_result(&c, false, 1030 * S);
	health_result(&c, false, 1060 * S);
	assert_int_equal(c.verdict, HEALTH_STARTING);
	health_result(&c, false, 1090 * S);
	assert_int_equal(c.verdict, HEALTH_UNHEALTHY);

	health_begin(&c, &h, 0);
	health_result(&c, true, 1 * S);
	assert_int_equal(c.verdict, HEALTH_HEALTHY);
	health_result(&c, false, 2 * S);
	health_result(&c, false, 3 * S);
	health_result(&c, true, 4 * S); /* in a row, or not at all */
	health_result(&c, false, 5 * S);
	health_result(&c, false, 6 * S);
	assert_int_equal(c.verdict, HEALTH_HEALTHY);
	health_result(&c, false, 7 * S);
	assert_int_equal(c.verdict, HEALTH_UNHEALTHY);
}

static void test_health_inherits(void **state)
{
	char *image_test[] = { (char *)"CMD", (char *)"true" }, *none[] = { (char *)"NONE" };
	const struct md_health image = { .test = { image_test, 2 }, .interval = 7 * S };
	const struct md_health off = { .test = { none, 1 } }, slower = { .timeout = 2 * S };
	struct md_health out;
	(void)state;
	assert_false(oci_health(NULL, NULL, &out));
	assert_false(oci_health(&off, &image, &out));
	assert_false(oci_health(&slower, NULL, &out));
	assert_true(oci_health(&slower, &image, &out));
	assert_int_equal(out.timeout, 2 * S);
	assert_int_equal(out.interval, 7 * S);
	assert_int_equal(out.retries, 3);
	struct str_list argv;
	health_command(&out, &argv);
	assert_int_equal(argv.n, 1);
	assert_string_equal(argv.v[0], "true");
	strs_clear(&argv);
}

/* ---- log ---- */

static char dir[64];

static int log_setup(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/mesh-log-XXXXXX");
	return !mkdtemp(dir) || chdir(dir);
}

static int log_teardown(void **state)
{
	char cmd[128];
	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return chdir("/") || system(cmd);
}

static struct logw w; /* too large for a stack */

static size_t drain(struct log_reader *r, struct buf *out)
{
	struct log_rec rec;
	size_t n = 0;
	for (; log_reader_next(r, &rec); n++)
		if (out)
			buf_printf(out, "%d:%.*s\n", rec.stream, (int)rec.n, rec.text);
	return n;
}

static void test_log_partial_and_long(void **state)
{
	struct log_reader r;
	struct buf b = { 0 };
	(void)state;
	logw_open(&w, 0, 1);
	logw_put(&w, 0, "hel", 3, 1700000000123456789LL);
	logw_put(&w, 1, "oops\n", 5, 1700000000123456789LL);
	logw_put(&w, 0, "lo\n\nend", 7, 1700000000123456789LL);
	logw_flush(&w);
	log_reader_open(&r, dir, -1);
	assert_int_equal(drain(&r, &b), 3);
	assert_string_equal(buf_str(&b), "2:oops\n1:hello\n1:\n");
	logw_end(&w, 1700000000123456789LL);
	buf_clear(&b);
	drain(&r, &b);
	assert_string_equal(buf_str(&b), "1:end\n");
	/* a line of 40000 characters is written in pieces and comes back whole */
	char *x = xcalloc(1, 40001);
	memset(x, 'x', 40000);
	x[40000] = '\n';
	logw_put(&w, 0, x, 40001, 1);
	logw_flush(&w);
	struct log_rec rec;
	assert_int_equal(log_reader_next(&r, &rec), 1);
	assert_int_equal(rec.n, 40000);
	assert_memory_equal(rec.text, x, 40000);
	free(x);
	log_reader_close(&r);
	buf_fini(&b);
	close(w.fd);
}

static void write_lines(int from, int to)
{
	char line[64];
	for (int i = from; i < to; i++)
		logw_put(&w, 0, line, (size_t)snprintf(line, sizeof(line), "line %d\n", i), 1700000000000000000LL + i);
	logw_flush(&w);
}

/* The reader is behind by several rotations and still misses nothing that is kept. */
static void test_log_follow_over_rotation(void **state)
{
	struct log_reader r;
	struct log_rec rec;
	(void)state;
	logw_open(&w, 2000, 50);
	write_lines(0, 10);
	log_reader_open(&r, dir, -1);
	int n = 0;
	char want[32];
	for (int round = 1; round <= 20; round++) {
		write_lines(round * 100 - 90, round * 100 + 10);
		while (log_reader_next(&r, &rec)) {
			int k = snprintf(want, sizeof(want), "line %d", n++);
			assert_int_equal(rec.n, k);
			assert_memory_equal(rec.text, want, (size_t)k);
			assert_int_equal(rec.time_ns, 1700000000000000000LL + n - 1);
		}
	}
	assert_int_equal(n, 2010);
	struct stat st;
	assert_int_equal(stat("log.3", &st), 0);
	assert_true(st.st_size <= 2000);
	log_reader_close(&r);
	close(w.fd);
}

static void test_log_history_is_bounded(void **state)
{
	struct log_reader r;
	(void)state;
	logw_open(&w, 1000, 3);
	write_lines(0, 1000);
	assert_int_equal(access("log.2", F_OK), 0);
	assert_int_not_equal(access("log.3", F_OK), 0);
	log_reader_open(&r, dir, -1);
	size_t n = drain(&r, NULL);
	assert_true(n > 20 && n < 80);
	log_reader_close(&r);
	close(w.fd);
}

static void test_log_tail(void **state)
{
	static const struct {
		int64_t tail;
		size_t lines;
	} table[] = { { 0, 0 }, { 1, 1 }, { 5, 5 }, { 77, 77 }, { 500, 500 }, { 501, 500 }, { -1, 500 } };
	(void)state;
	logw_open(&w, 2000, 100);
	write_lines(0, 500);
	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		struct log_reader r;
		struct buf b = { 0 };
		log_reader_open(&r, dir, table[i].tail);
		assert_int_equal(drain(&r, &b), table[i].lines);
		if (table[i].lines)
			assert_non_null(strstr(buf_str(&b), "1:line 499\n"));
		log_reader_close(&r);
		buf_fini(&b);
	}
	close(w.fd);
}

static void test_log_none_yet(void **state)
{
	struct log_reader r;
	struct log_rec rec;
	(void)state;
	log_reader_open(&r, dir, 10);
	assert_int_equal(log_reader_next(&r, &rec), 0);
	logw_open(&w, 0, 1);
	write_lines(0, 1);
	assert_int_equal(log_reader_next(&r, &rec), 1);
	log_reader_close(&r);
	close(w.fd);
}

#define LOG(name) cmocka_unit_test_setup_teardown(name, log_setup, log_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_template),
		cmocka_unit_test(test_template_of_a_file),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_health_counting),
		cmocka_unit_test(test_health_inherits),
		LOG(test_log_partial_and_long),
		LOG(test_log_follow_over_rotation),
		LOG(test_log_history_is_bounded),
		LOG(test_log_tail),
		LOG(test_log_none_yet),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
