/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "control/model/json.h"
#include "control/model/model.h"

static void bad(const struct schema *s, const char *text, const char *want)
{
	struct mesh_err err = { 0 };
	void *o = sch_new(s);
	assert_int_equal(md_json_decode(s, o, text, strlen(text), NULL, &err), MESH_E_INVALID);
	if (!strstr(err.msg, want))
		fail_msg("%s\n want %s\n got  %s", text, want, err.msg);
	sch_free(s, o);
}

static void errors_name_the_path(void **state)
{
	const struct schema *s = &md_service_schema, *sp = &md_service_spec_schema;
	(void)state;
	bad(s, "{\"Spec\":{\"TaskTemplate\":{\"Resources\":{\"Limits\":{\"NanoCPUs\":\"1\"}}}}}",
	    "Spec.TaskTemplate.Resources.Limits.NanoCPUs: expected a number, got a string");
	bad(sp, "{\"TaskTemplate\":{\"Networks\":[{\"Target\":\"a\"},{\"Target\":5}]}}",
	    "TaskTemplate.Networks[1].Target: expected a string, got a number");
	bad(sp, "{\"Labels\":{\"a\":true}}", "Labels.a: expected a string, got a boolean");
	bad(sp, "{\"Mode\":[]}", "Mode: expected an object, got a list");
	bad(sp, "{\"EndpointSpec\":{\"Ports\":[{\"TargetPort\":4294967296}]}}",
	    "EndpointSpec.Ports[0].TargetPort: expected a number from 0 to 4294967295, got 4294967296");
	bad(sp, "{\"TaskTemplate\":{\"ForceUpdate\":-1}}", "TaskTemplate.ForceUpdate: expected a number from 0");
	bad(sp, "{\"TaskTemplate\":{\"ForceUpdate\":1.5}}", "expected a whole number, got 1.5");
	bad(sp, "{\"EndpointSpec\":{\"Mode\":\"ring\"}}", "EndpointSpec.Mode: \"ring\" is not one of: vip, dnsrr");
	bad(&md_config_spec_schema, "{\"Data\":\"a\"}", "Data: not base64");
	bad(sp, "{\"TaskTemplate\":{\"ContainerSpec\":{\"Secrets\":[{\"SecretID\":\"abcdefghijklmnopqrstuvwxyz\"}]}}}",
	    "Secrets[0].SecretID: \"abcdefghijklmnopqrstuvwxyz\" is not an id");
	bad(sp, "[]", "expected an object, got a list");
	bad(sp, "{\"Name\":\"a\",\n \"Name\":\"b\"}", "line 2");
	bad(sp, "{\"Name\":", "invalid JSON at line 1 column 8");
	bad(sp, "{} x", "invalid JSON");
	bad(sp, "", "invalid JSON");
}

static void unknown_is_collected(void **state)
{
	static const char text[] =
		"{\"Name\":\"w\",\"Nix\":1,\"Empty\":{},\"Zero\":0,\"Null\":null,"
		"\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"i\",\"Mounts\":[{\"Typ\":\"x\"}]}}}";
	struct md_service_spec s = { 0 };
	struct str_list unknown = { 0 };
	(void)state;
	assert_int_equal(md_json_decode(&md_service_spec_schema, &s, text, sizeof(text) - 1, &unknown, NULL), 0);
	assert_int_equal(unknown.n, 2);
	assert_string_equal(unknown.v[0], "Nix");
	assert_string_equal(unknown.v[1], "TaskTemplate.ContainerSpec.Mounts[0].Typ");
	strs_clear(&unknown);
	sch_clear(&md_service_spec_schema, &s);
}

static void keys_match_as_in_go(void **state)
{
	static const char text[] = "{\"name\":\"w\",\"LABELS\":{\"b\":\"2\",\"a\":\"1\"},\"tasktemplate\":null}";
	struct md_service_spec s = { 0 };
	(void)state;
	assert_int_equal(md_json_decode(&md_service_spec_schema, &s, text, sizeof(text) - 1, NULL, NULL), 0);
	assert_string_equal(s.name, "w");
	assert_string_equal(smap_get(&s.labels, "a"), "1");
	assert_null(s.task.container);
	sch_clear(&md_service_spec_schema, &s);
}

static void read_only_and_secret(void **state)
{
	static const char text[] =
		"{\"ID\":\"x\",\"Version\":{\"Index\":7},\"Spec\":{\"Name\":\"s\",\"Data\":\"czNj\"}}";
	struct md_secret s = { 0 };
	struct str_list unknown = { 0 };
	struct jw w = { 0 };
	(void)state;
	assert_int_equal(md_json_decode(&md_secret_schema, &s, text, sizeof(text) - 1, &unknown, NULL), 0);
	assert_int_equal(unknown.n, 0); /* known, and not the client's to say */
	assert_string_equal(s.meta.id, "");
	assert_int_equal(s.spec.data.n, 3);
	assert_memory_equal(s.spec.data.p, "s3c", 3);
	md_json_write(&w, &md_secret_schema, &s);
	assert_string_equal(buf_str(&w.b),
	                    "{\"ID\":\"\",\"Version\":{},\"CreatedAt\":\"0001-01-01T00:00:00Z\","
	                    "\"UpdatedAt\":\"0001-01-01T00:00:00Z\",\"Spec\":{\"Name\":\"s\",\"Labels\":{}}}");
	sch_clear(&md_secret_schema, &s);
	buf_fini(&w.b);
}

static void optional_is_not_zero(void **state)
{
	static const char text[] = "{\"Replicated\":{\"Replicas\":0}}";
	static const char spec[] = "{\"Name\":\"\",\"Labels\":{},\"TaskTemplate\":{\"ForceUpdate\":0},"
				   "\"Mode\":{\"Replicated\":{\"Replicas\":0}}}";
	struct md_service_spec s = { 0 };
	struct jw w = { 0 };
	json_t *j;
	(void)state;
	assert_int_equal(md_json_parse(text, sizeof(text) - 1, &j, NULL), 0);
	json_t *root = json_pack("{s:o}", "Mode", j);
	assert_int_equal(md_json_read(&md_service_spec_schema, &s, root, "", NULL, NULL), 0);
	assert_true(s.mode.replicated->replicas.set);
	md_json_write(&w, &md_service_spec_schema, &s);
	assert_string_equal(buf_str(&w.b), spec);
	sch_clear(&md_service_spec_schema, &s);
	json_decref(root);
	buf_fini(&w.b);
}

static void text_is_escaped_and_mended(void **state)
{
	struct jw w = { 0 };
	(void)state;
	jw_str(&w, "a\"b\\c\n\t\x01<&>\xc3\xa4\xff\xc0\xaf\xed\xa0\x80\xf0\x9f\x98\x80");
	assert_string_equal(buf_str(&w.b), "\"a\\\"b\\\\c\\n\\t\\u0001<&>\xc3\xa4"
	                                   "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
	                                   "\xf0\x9f\x98\x80\"");
	buf_fini(&w.b);
}

static void numbers(void **state)
{
	struct jw w = { 0 };
	(void)state;
	jw_open(&w, '[');
	jw_f64(&w, 0);
	jw_f64(&w, 0.3);
	jw_f64(&w, 1.0 / 3);
	jw_int(&w, INT64_MIN);
	jw_uint(&w, UINT64_MAX);
	jw_close(&w, ']');
	assert_string_equal(buf_str(&w.b), "[0,0.3,0.3333333333333333,-9223372036854775808,18446744073709551615]");
	buf_fini(&w.b);
}

static void base64(void **state)
{
	static const char *const wrong[] = { "a", "ab", "abc", "ab=c", "ab==c", "a===", "ab\n=", "ab-_", "====" };
	static const char plain[] = "\x00\x01\xfe\xff mesh";
	(void)state;
	for (size_t n = 0; n < sizeof(plain); n++) {
		struct buf text = { 0 };
		struct bytes back = { 0 };
		md_base64_encode(&text, plain, n);
		assert_int_equal(md_base64_decode(buf_str(&text), &back), 0);
		assert_int_equal(back.n, n);
		if (n)
			assert_memory_equal(back.p, plain, n);
		bytes_set(&back, NULL, 0);
		buf_fini(&text);
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		struct bytes b;
		assert_int_equal(md_base64_decode(wrong[i], &b), MESH_E_INVALID);
		assert_null(b.p);
	}
	struct bytes url = { 0 };
	assert_int_equal(md_base64url_decode("-_8", &url), 0);
	assert_int_equal(url.n, 2);
	assert_memory_equal(url.p, "\xfb\xff", 2);
	bytes_set(&url, NULL, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_name_the_path),       cmocka_unit_test(unknown_is_collected),
		cmocka_unit_test(keys_match_as_in_go),        cmocka_unit_test(read_only_and_secret),
		cmocka_unit_test(optional_is_not_zero),       cmocka_unit_test(numbers),
		cmocka_unit_test(text_is_escaped_and_mended), cmocka_unit_test(base64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
