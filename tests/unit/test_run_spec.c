/* SPDX-License-Identifier: GPL-2.0-or-later */
/* docker run's body as a task. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "control/api/run_spec.h"

static int read_text(const char *text, struct md_task *t, struct mesh_err *err)
{
	struct str_list warnings = { 0 };
	json_t *j = json_loads(text, 0, NULL);
	assert_non_null(j);
	int rc = run_spec_read(j, t, &warnings, err);
	json_decref(j);
	strs_clear(&warnings);
	return rc;
}

static void everything(void **state)
{
	(void)state;
	struct md_task t = { 0 };
	struct mesh_err err = { 0 };
	int rc = read_text(
		"{\"Image\":\"i:1\",\"Entrypoint\":[\"\"],\"Cmd\":[\"a\",\"b\"],\"OpenStdin\":true,\"StdinOnce\":true,"
		"\"StopTimeout\":3,\"Volumes\":{\"/anon\":{}},\"HostConfig\":{\"AutoRemove\":true,"
		"\"Binds\":[\"/h:/c:ro\",\"vol:/"
		"v\"],\"NetworkMode\":\"blue\",\"CpuQuota\":50000,\"ExtraHosts\":[\"n:1.2.3.4\"],"
		"\"PortBindings\":{\"53/udp\":[{\"HostPort\":\"5353\"},{\"HostPort\":\"\"}]}},"
		"\"NetworkingConfig\":{\"EndpointsConfig\":{\"blue\":{\"Aliases\":[\"x\"]},\"green\":null}}}",
		&t, &err);
	assert_int_equal(rc, 0);
	const struct md_container_spec *c = t.spec.container;
	assert_int_equal(c->command.n, 2);
	assert_int_equal(c->args.n, 0);
	assert_true(t.spec.attachment->auto_remove && t.spec.attachment->stdin_once);
	assert_int_equal(c->stop_grace_period.v, 3000000000);
	assert_int_equal(c->mounts.n, 3);
	assert_int_equal(c->mounts.v[0].type, MD_MOUNT_BIND);
	assert_true(c->mounts.v[0].read_only && c->mounts.v[0].bind->create_mountpoint);
	assert_int_equal(c->mounts.v[1].type, MD_MOUNT_VOLUME);
	assert_string_equal(c->mounts.v[2].target, "/anon");
	assert_int_equal(t.spec.networks.n, 2);
	assert_string_equal(t.spec.networks.v[0].target, "blue");
	assert_string_equal(t.spec.networks.v[0].aliases.v[0], "x");
	assert_int_equal(t.spec.resources->limits->nano_cpus, 500000000);
	assert_string_equal(c->hosts.v[0], "1.2.3.4 n");
	assert_int_equal(t.endpoint.ports.n, 2);
	assert_int_equal(t.endpoint.ports.v[0].published, 5353);
	assert_int_equal(t.endpoint.ports.v[1].published, 0);
	assert_int_equal(t.endpoint.ports.v[1].protocol, MD_PROTO_UDP);
	sch_clear(&md_task_schema, &t);
}

static void refusals(void **state)
{
	(void)state;
	static const struct {
		const char *body, *text;
		int code;
	} cases[] = {
		{ "{}", "No image specified", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"Privileged\":true}}", "Privileged", MESH_E_UNSUPPORTED },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"PidMode\":\"host\"}}", "PidMode", MESH_E_UNSUPPORTED },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"Binds\":[\"x\"]}}", "invalid volume", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"Binds\":[7]}}", "not a string", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"PortBindings\":{\"70000/tcp\":null}}}", "invalid port",
		  MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"PortBindings\":{\"80/tcp\":[{\"HostPort\":\"8x\"}]}}}",
		  "invalid port", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"NetworkMode\":\"none\",\"PortBindings\":{\"80/tcp\":null}}}",
		  "conflicting options", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"ExtraHosts\":[\"nocolon\"]}}", "bad format", MESH_E_INVALID },
		{ "{\"Image\":\"i\",\"HostConfig\":{\"SecurityOpt\":[\"label=x\"]}}", "security option",
		  MESH_E_UNSUPPORTED },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct md_task t = { 0 };
		struct mesh_err err = { 0 };
		int rc = read_text(cases[i].body, &t, &err);
		if (rc != cases[i].code || !strstr(err.msg, cases[i].text))
			fail_msg("%s: %d %s", cases[i].body, rc, err.msg);
		sch_clear(&md_task_schema, &t);
	}
}

static void names(void **state)
{
	(void)state;
	struct mesh_err err = { 0 };
	assert_int_equal(run_name_check("web_1.a-b", &err), 0);
	assert_int_not_equal(run_name_check("-x", &err), 0);
	assert_int_not_equal(run_name_check("x", &err), 0);
	assert_int_not_equal(run_name_check("a b", &err), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything),
		cmocka_unit_test(refusals),
		cmocka_unit_test(names),
	};
	return cmocka_run_group_tests_name("run_spec", tests, NULL, NULL);
}
