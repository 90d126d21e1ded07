/* SPDX-License-Identifier: GPL-2.0-or-later */
/* config.json as text, one file a case; GOLDEN_UPDATE=1 writes what the code says now. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/agent/oci_spec.h"

#define DIR "tests/golden/oci"

static uint64_t no_limit(int resource)
{
	(void)resource;
	return 20000;
}

/* A machine of its own, so that the files do not depend on where they were made. */
static const struct oci_host machine = { .caps = 0x1fffeffffff, /* all but SYS_RESOURCE */
	                                 .cap_last = 40,
	                                 .memory = true,
	                                 .swap = true,
	                                 .cpu = true,
	                                 .pids = true,
	                                 .net_sysctls = true,
	                                 .rlimit_hard = no_limit };

static int volume(void *arg, const struct md_mount *m, struct oci_volume *out, struct mesh_err *err)
{
	(void)arg;
	(void)err;
	if (!strcmp(m->source, "nfs")) {
		strcpy(out->type, "nfs");
		strcpy(out->path, ":/export");
		strcpy(out->options, "addr=10.0.0.1,rw");
	} else {
		snprintf(out->path, sizeof(out->path), "/state/volumes/%s/_data", m->source);
	}
	return 0;
}

struct gold {
	struct md_task *task;
	struct image_config image;
	struct tmpl_vars vars;
	struct oci_in in;
};

static void begin(struct gold *g)
{
	*g = (struct gold){ .task = sch_new(&md_task_schema) };
	strcpy(g->task->meta.id, "0123456789abcdefghijklmno");
	struct md_container_spec *c = g->task->spec.container = XNEW(struct md_container_spec);
	struct md_privileges *p = c->privileges = XNEW(struct md_privileges);
	p->seccomp = XNEW(struct md_seccomp); /* the host's profile is not part of the golden text */
	p->seccomp->mode = xstrdup("unconfined");
	strs_add(&g->image.entrypoint, "/entry");
	strs_add(&g->image.cmd, "serve");
	strs_add(&g->image.env, "PATH=/bin");
	g->vars = (struct tmpl_vars){
		.service_name = "web", .task_id = "t", .task_slot = "2", .node_id = "n", .node_hostname = "h1"
	};
	g->in = (struct oci_in){ .task = g->task,
		                 .image = &g->image,
		                 .vars = &g->vars,
		                 .host = &machine,
		                 .container_id = "c0ffee0123456789c0ffee0123456789c0ffee0123456789c0ffee0123456789",
		                 .dir = "/state/tasks/T",
		                 .cgroup = "/mesh/T",
		                 .shim = "/usr/libexec/mesh/mesh-shim",
		                 .passwd = "root:x:0:0::/root:/bin/sh\nbob:x:1000:100::/home/bob:/bin/sh\n",
		                 .group = "audio:x:29:bob\n",
		                 .volume = volume };
}

static void done(struct gold *g)
{
	sch_free(&md_task_schema, g->task);
	strs_clear(&g->image.entrypoint);
	strs_clear(&g->image.cmd);
	strs_clear(&g->image.env);
	strs_clear(&g->image.volumes);
}

static char *slurp(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = xcalloc(1, 1 << 18);
	if (f) {
		(void)!fread(text, 1, (1 << 18) - 1, f);
		fclose(f);
	}
	return text;
}

static void expect(struct gold *g, const char *name)
{
	char path[256];
	struct oci_out out;
	struct mesh_err err = { 0 };
	struct buf b = { 0 };
	if (oci_spec_make(&g->in, &out, &err))
		fail_msg("%s", err.msg);
	json_t *j = json_loads(out.json, 0, NULL);
	assert_non_null(j);
	char *pretty = json_dumps(j, JSON_INDENT(1));
	json_decref(j);
	buf_printf(&b, "%s\n--- hosts\n%s--- resolv.conf\n%s", pretty, out.hosts, out.resolv);
	for (size_t i = 0; i < out.mkdirs.n; i++)
		buf_printf(&b, "mkdir %s\n", out.mkdirs.v[i]);
	for (size_t i = 0; i < out.sources.n; i++)
		buf_printf(&b, "source %s\n", out.sources.v[i]);
	for (size_t i = 0; i < out.copies.n; i++)
		buf_printf(&b, "copy %s %s\n", out.copies.v[i].target, out.copies.v[i].path);
	free(pretty);
	oci_out_fini(&out);
	snprintf(path, sizeof(path), DIR "/%s.ok", name);
	if (getenv("GOLDEN_UPDATE")) {
		FILE *f = fopen(path, "we");
		assert_non_null(f);
		fwrite(b.data, 1, b.len, f);
		fclose(f);
	}
	char *want = slurp(path);
	assert_string_equal(buf_str(&b), want);
	free(want);
	buf_fini(&b);
}

static void test_plain(void **state)
{
	struct gold g;
	(void)state;
	begin(&g);
	expect(&g, "plain");
	done(&g);
}

static void test_everything(void **state)
{
	struct gold g;
	(void)state;
	begin(&g);
	struct md_container_spec *c = g.task->spec.container;
	strs_add(&c->command, "/bin/app");
	strs_add(&c->args, "--fast");
	c->hostname = xstrdup("{{.Service.Name}}-{{.Task.Slot}}");
	strs_add(&c->env, "NODE={{.Node.Hostname}}");
	strs_add(&c->env, "PATH=/usr/bin");
	c->user = xstrdup("bob");
	c->dir = xstrdup("/srv");
	c->tty = c->read_only = true;
	c->init = (struct opt_bool){ true, true };
	c->privileges->no_new_privileges = true;
	c->oom_score_adj = 100;
	strs_add(&c->cap_add, "CAP_NET_ADMIN");
	strs_add(&c->cap_drop, "mknod");
	smap_set(&c->sysctls, "net.core.somaxconn", "1024");
	struct md_ulimit *u = LIST_ADD(&c->ulimits);
	*u = (struct md_ulimit){ xstrdup("nofile"), 1024, 1000000 };
	strs_add(&c->hosts, "10.1.1.1 db");
	c->dns = XNEW(struct md_dns_config);
	strs_add(&c->dns->search, "corp.example");
	strs_add(&c->dns->options, "timeout:2");
	struct md_mount *m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){
		.type = MD_MOUNT_BIND, .source = xstrdup("/srv/www"), .target = xstrdup("/data/www"), .read_only = true
	};
	m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_VOLUME,
		                .source = xstrdup("{{.Service.Name}}-data"),
		                .target = xstrdup("/data") };
	m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_VOLUME, .source = xstrdup("nfs"), .target = xstrdup("/nfs") };
	m = LIST_ADD(&c->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_TMPFS, .target = xstrdup("/tmp") };
	m->tmpfs = XNEW(struct md_tmpfs_options);
	*m->tmpfs = (struct md_tmpfs_options){ 1 << 20, 01777 };
	strs_add(&g.image.volumes, "/var/lib/app");
	struct md_secret_ref *s = LIST_ADD(&c->secrets);
	s->secret_name = xstrdup("pw");
	struct md_config_ref *k = LIST_ADD(&c->configs);
	k->config_name = xstrdup("conf");
	k->file = XNEW(struct md_file_target);
	k->file->name = xstrdup("/etc/app.conf");
	struct md_resource_requirements *r = g.task->spec.resources = XNEW(struct md_resource_requirements);
	r->limits = XNEW(struct md_limit);
	*r->limits = (struct md_limit){ 500000000, 64 << 20, 100 };
	r->reservations = XNEW(struct md_resources);
	r->reservations->memory_bytes = 32 << 20;
	struct md_attachment *a = LIST_ADD(&g.task->attachments);
	strs_add(&a->addresses, "10.0.2.7/24");
	expect(&g, "everything");
	done(&g);
}

static void test_host_network(void **state)
{
	struct gold g;
	(void)state;
	begin(&g);
	g.in.host_network = true;
	expect(&g, "host_network");
	done(&g);
}

static void refuse(struct gold *g, const char *words)
{
	struct oci_out out;
	struct mesh_err err = { 0 };
	assert_true(oci_spec_make(&g->in, &out, &err) < 0);
	assert_string_equal(err.msg, words);
	done(g);
}

static void test_refusals(void **state)
{
	struct gold g;
	(void)state;
	begin(&g);
	strs_clear(&g.image.entrypoint);
	strs_clear(&g.image.cmd);
	refuse(&g, "no command specified");
	begin(&g);
	strs_add(&g.task->spec.container->cap_add, "SYS_RESOURCE");
	refuse(&g, "capability CAP_SYS_RESOURCE is not available on this node");
	begin(&g);
	strs_add(&g.task->spec.container->cap_add, "FLY");
	refuse(&g, "unknown capability: \"FLY\"");
	begin(&g);
	g.task->spec.container->user = xstrdup("eve");
	refuse(&g, "unable to find user eve: no matching entries in passwd file");
	begin(&g);
	g.task->spec.container->dir = xstrdup("rel");
	refuse(&g, "the working directory 'rel' is invalid, it needs to be an absolute path");
	begin(&g);
	g.task->spec.log_driver = XNEW(struct md_driver);
	g.task->spec.log_driver->name = xstrdup("gelf");
	refuse(&g, "logger: no log driver named 'gelf' is registered");
	begin(&g);
	strs_add(&g.task->spec.container->env, "A={{.Bad}}");
	refuse(&g, "template: :1: executing \"\" at <.Bad>: there is no field \"Bad\"");
	begin(&g);
	strs_add(&g.task->spec.container->env, "A=\xff\xfe");
	refuse(&g, "a value of the spec or the image is not UTF-8");
	begin(&g);
	struct md_mount *m = LIST_ADD(&g.task->spec.container->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_BIND, .source = xstrdup("rel"), .target = xstrdup("/x") };
	refuse(&g, "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute");
	begin(&g);
	m = LIST_ADD(&g.task->spec.container->mounts);
	*m = (struct md_mount){ .type = MD_MOUNT_NPIPE, .source = xstrdup("/x"), .target = xstrdup("/x") };
	refuse(&g, "mounts of type \"npipe\" are not supported on this node");
}

static void test_seccomp(void **state)
{
	static const char profile[] =
		"{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":["
		"{\"names\":[\"read\"],\"action\":\"SCMP_ACT_ALLOW\"},"
		"{\"names\":[\"mount\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"clone\"],\"action\":\"SCMP_ACT_ALLOW\",\"excludes\":{\"caps\":[\"CAP_SYS_ADMIN\"]}},"
		"{\"names\":[\"odd\"],\"action\":\"SCMP_ACT_ALLOW\",\"includes\":{\"arches\":[\"vax\"]}}]}";
	(void)state;
	for (int admin = 0; admin < 2; admin++) {
		json_t *in = json_loads(profile, 0, NULL);
		json_t *out = oci_seccomp_convert(in, admin ? 1ull << oci_cap_parse("SYS_ADMIN") : 0, NULL);
		json_t *calls = json_object_get(out, "syscalls");
		assert_int_equal(json_array_size(calls), 2);
		json_t *names = json_object_get(json_array_get(calls, 1), "names");
		assert_string_equal(json_string_value(json_array_get(names, 0)), admin ? "mount" : "clone");
		assert_int_equal(json_array_size(json_object_get(out, "architectures")), 1);
		json_decref(in);
		json_decref(out);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),    cmocka_unit_test(test_everything), cmocka_unit_test(test_host_network),
		cmocka_unit_test(test_refusals), cmocka_unit_test(test_seccomp),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
