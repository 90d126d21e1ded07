/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "meshctl top": from two answers of the daemon to rows of rates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "cli/api.c"
#include "cli/args.c"
#include "cli/help.c"
#include "cli/format.c"
#include "cli/http.c"
#include "cli/table.c"
#include "cli/template.c"
#include "cli/units.c"
/* Their statics share names with those above. */
#define columns top_columns
#define view top_view
#include "cli/top.c"

static json_t *answer(int second, int conns_n1, int conns_n2, int refused, int spoof)
{
	char *text = xasprintf(
		"{\"Nodes\":[{\"ID\":\"a\",\"Hostname\":\"n1\",\"Stats\":{\"Time\":\"2026-01-01T00:00:%02dZ\","
		"\"Services\":["
		"{\"Name\":\"web\",\"Network\":\"ingress\",\"Refused\":%d,\"Backends\":[{\"TaskID\":\"t1\",\"Task\":"
		"\"web.1.t1\",\"NodeID\":\"a\",\"State\":\"serving\",\"Connections\":%d,\"BytesIn\":1000,"
		"\"NetworkBytesIn\":5,"
		"\"Opened\":%d,\"OpenNanoseconds\":%d000000}]}],\"Drops\":[{\"ID\":\"spoof\",\"Count\":%d}]}},"
		"{\"ID\":\"b\",\"Hostname\":\"n2\",\"Stats\":{\"Time\":\"2026-01-01T00:00:%02dZ\",\"Services\":["
		"{\"Name\":\"web\",\"Network\":\"ingress\",\"Backends\":[{\"TaskID\":\"t1\",\"Task\":\"web.1.t1\","
		"\"NodeID\":"
		"\"a\",\"Connections\":%d}]}]}},{\"ID\":\"c\",\"Hostname\":\"n3\",\"Error\":\"gone\"}]}",
		second, refused, conns_n1, conns_n1, 2 * conns_n1, spoof, second, conns_n2);
	json_t *j = json_loads(text, 0, NULL);
	free(text);
	assert_non_null(j);
	return j;
}

const struct command cmd_root = { .name = "meshctl" };

static void rates(void **state)
{
	JSON_CLEAN before = answer(10, 100, 7, 1, 5);
	JSON_CLEAN after = answer(12, 120, 9, 5, 8);
	JSON_CLEAN rows = top_rows(before, after, false);
	const json_t *service = json_array_get(rows, 0), *task = json_array_get(rows, 1),
		     *drop = json_array_get(rows, 2);
	(void)state;
	assert_int_equal(json_array_size(rows), 3);
	assert_string_equal(js(service, "Kind"), "service");
	assert_string_equal(js(service, "Connections"), "11");
	assert_string_equal(js(service, "Errors"), "2.0");
	assert_string_equal(js(task, "Task"), "web.1");
	assert_string_equal(js(task, "Node"), "n1");
	assert_string_equal(js(task, "Connections"), "11");
	assert_string_equal(js(task, "Connect"), "2.0ms");
	assert_string_equal(js(task, "Errors"), "0");
	assert_string_equal(js(drop, "Reason"), "spoof");
	assert_string_equal(js(drop, "Drops"), "1.5");
	assert_string_equal(js(drop, "Node"), "n1");
}

/* A task that restarted counts from zero; a node that answered only once has no rates yet. */
static void beginnings(void **state)
{
	JSON_CLEAN before = answer(10, 100, 7, 0, 5);
	JSON_CLEAN after = answer(11, 4, 7, 0, 5);
	JSON_CLEAN none = json_object();
	JSON_CLEAN rows = top_rows(before, after, true);
	JSON_CLEAN first = top_rows(none, after, false);
	JSON_CLEAN same = top_rows(after, after, false);
	(void)state;
	assert_int_equal(json_array_size(rows), 1);
	assert_string_equal(js(json_array_get(rows, 0), "Connections"), "4.0");
	assert_string_equal(js(json_array_get(first, 0), "Connections"), "0");
	assert_string_equal(js(json_array_get(same, 0), "Connections"), "0");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(rates), cmocka_unit_test(beginnings) };
	return cmocka_run_group_tests_name("top", tests, NULL, NULL);
}
