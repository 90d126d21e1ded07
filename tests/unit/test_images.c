/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The image store against the real skopeo and umoci, archives made by tests/images/build.sh, and a real registry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/agent/image_config.h"
#include "control/agent/images.h"

struct fixture {
	uv_loop_t loop;
	struct images *im;
	char dir[64], archive[128];
	bool done;
	int code;
	struct mesh_err err;
	char id[72];
	pid_t registry;
	int port;
};

static int shell(const char *fmt, ...) MESH_PRINTF(1, 2);
static int shell(const char *fmt, ...)
{
	char cmd[2048];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	return system(cmd);
}

static void open_store(struct fixture *f)
{
	struct mesh_err err = { 0 };
	char path[128];
	snprintf(path, sizeof(path), "%s/images", f->dir);
	assert_int_equal(images_open(&f->loop, path, &f->im, &err), 0);
}

static void close_store(struct fixture *f)
{
	images_close(f->im, NULL, NULL);
	uv_run(&f->loop, UV_RUN_DEFAULT);
	f->im = NULL;
}

static int setup(void **state)
{
	struct fixture *f = XNEW(struct fixture);
	strcpy(f->dir, "/tmp/mesh-images-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->archive, sizeof(f->archive), "%s/demo.tar", f->dir);
	assert_int_equal(shell("tests/images/build.sh %s >/dev/null 2>&1", f->archive), 0);
	uv_loop_init(&f->loop);
	open_store(f);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->registry > 0) {
		kill(f->registry, SIGKILL);
		waitpid(f->registry, NULL, 0);
	}
	if (f->im)
		close_store(f);
	uv_loop_close(&f->loop);
	(void)shell("rm -rf %s", f->dir);
	free(f);
	return 0;
}

static void on_done(void *arg, int code, const struct image *image, const struct mesh_err *err)
{
	struct fixture *f = arg;
	f->done = true;
	f->code = code;
	f->err = err ? *err : (struct mesh_err){ 0 };
	snprintf(f->id, sizeof(f->id), "%s", image ? image->id : "");
}

static void wait_done(struct fixture *f)
{
	while (!f->done)
		uv_run(&f->loop, UV_RUN_ONCE);
	f->done = false;
}

static void load(struct fixture *f, const char *path)
{
	images_load(f->im, path, NULL, on_done, f);
	wait_done(f);
}

static void an_archive_with_two_names_gives_two_images(void **state)
{
	struct fixture *f = *state;
	const struct image *const *all;
	load(f, f->archive);
	assert_int_equal(f->code, 0);
	assert_int_equal(images_list(f->im, &all), 2);
	const struct image *one = images_find(f->im, "mesh-demo:1"),
			   *two = images_find(f->im, "docker.io/library/mesh-demo:2");
	assert_non_null(one);
	assert_non_null(two);
	assert_string_not_equal(one->id, two->id);
	assert_ptr_equal(images_find(f->im, one->id), one);
	char prefix[20];
	snprintf(prefix, sizeof(prefix), "%.12s", one->id + 7);
	assert_ptr_equal(images_find(f->im, prefix), one);
	assert_null(images_find(f->im, "mesh-demo"));
	assert_string_equal(one->tags.v[0], "mesh-demo:1");
	assert_string_equal(one->config.cmd.v[0], "/bin/echo-server");
	assert_string_equal(one->config.exposed.v[0], "8000/tcp");
	assert_true(one->size_bytes > 1000000);
	struct stat st;
	char path[256];
	snprintf(path, sizeof(path), "%s/bin/echo-server", one->rootfs);
	assert_int_equal(stat(path, &st), 0);
	/* What was loaded is there after a restart. */
	close_store(f);
	open_store(f);
	assert_non_null(images_find(f->im, "mesh-demo:2"));
}

static void oci_archives_and_layouts_load_too(void **state)
{
	struct fixture *f = *state;
	char path[160];
	assert_int_equal(shell("cd %s && skopeo copy -q docker-archive:demo.tar:mesh-demo:1 oci:box:v1 && "
	                       "skopeo copy -q oci:box:v1 oci-archive:app.tar:v7 && gzip -k app.tar",
	                       f->dir),
	                 0);
	snprintf(path, sizeof(path), "%s/box", f->dir);
	load(f, path);
	assert_int_equal(f->code, 0);
	assert_non_null(images_find(f->im, "box:v1"));
	snprintf(path, sizeof(path), "%s/app.tar.gz", f->dir);
	load(f, path);
	assert_int_equal(f->code, 0);
	assert_non_null(images_find(f->im, "app:v7"));
}

static void what_is_no_archive_is_refused_and_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	const struct image *const *all;
	char path[160];
	snprintf(path, sizeof(path), "%s/garbage.tar", f->dir);
	assert_int_equal(shell("head -c 100000 /dev/urandom > %s", path), 0);
	load(f, path);
	assert_int_equal(f->code, MESH_E_INVALID);
	assert_non_null(strstr(f->err.msg, "neither a docker archive"));
	/* An archive that is cut off in the middle of its layer. */
	assert_int_equal(shell("head -c 900000 %s > %s/cut.tar", f->archive, f->dir), 0);
	snprintf(path, sizeof(path), "%s/cut.tar", f->dir);
	load(f, path);
	assert_int_not_equal(f->code, 0);
	load(f, "/nonexistent.tar");
	assert_int_equal(f->code, -ENOENT);
	assert_int_equal(images_list(f->im, &all), 0);
	assert_int_not_equal(shell("ls -d %s/images/.tmp-* >/dev/null 2>&1", f->dir), 0);
}

static void leftovers_of_a_crash_go_at_open(void **state)
{
	struct fixture *f = *state;
	load(f, f->archive);
	close_store(f);
	assert_int_equal(shell("mkdir -p %s/images/.tmp-abc/img %s/images/0123", f->dir, f->dir), 0);
	open_store(f);
	assert_int_not_equal(shell("ls -d %s/images/.tmp-abc >/dev/null 2>&1", f->dir), 0);
	assert_int_not_equal(shell("ls -d %s/images/0123 >/dev/null 2>&1", f->dir), 0);
	assert_non_null(images_find(f->im, "mesh-demo:1"));
}

static bool used(void *arg, const char *id)
{
	(void)arg, (void)id;
	return true;
}

static void names_come_and_go(void **state)
{
	struct fixture *f = *state;
	struct mesh_err err = { 0 };
	load(f, f->archive);
	assert_int_equal(images_tag(f->im, "mesh-demo:1", "other/name:x", &err), 0);
	assert_ptr_equal(images_find(f->im, "other/name:x"), images_find(f->im, "mesh-demo:1"));
	assert_int_equal(images_tag(f->im, "nosuch", "a:b", &err), MESH_E_NOT_FOUND);
	/* One of two names goes, the image stays, used or not. */
	images_remove(f->im, "other/name:x", false, used, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, 0);
	assert_null(images_find(f->im, "other/name:x"));
}

static void remove_respects_use(void **state)
{
	struct fixture *f = *state;
	load(f, f->archive);
	images_remove(f->im, "mesh-demo:1", false, used, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, MESH_E_CONFLICT);
	assert_non_null(images_find(f->im, "mesh-demo:1"));
	images_remove(f->im, "mesh-demo:1", true, used, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, 0);
	assert_null(images_find(f->im, "mesh-demo:1"));
	images_remove(f->im, "mesh-demo:1", false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, MESH_E_NOT_FOUND);
}

/* A port nobody listens on, so far. */
static int free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
	getsockname(fd, (struct sockaddr *)&a, &len);
	close(fd);
	return ntohs(a.sin_port);
}

static bool answers(int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
		                 .sin_port = htons((uint16_t)port),
		                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	bool ok = connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
	close(fd);
	return ok;
}

static bool start_registry(struct fixture *f)
{
	char config[128];
	if (shell("command -v docker-registry htpasswd >/dev/null 2>&1"))
		return false;
	f->port = free_port();
	assert_int_equal(
		shell("htpasswd -Bbn alice s3cret > %s/htpasswd && printf 'version: 0.1\\nlog: {level: error}\\n"
	              "storage: {filesystem: {rootdirectory: %s/registry}}\\nhttp: {addr: 127.0.0.1:%d}\\n"
	              "auth: {htpasswd: {realm: test, path: %s/htpasswd}}\\n' > %s/config.yml",
	              f->dir, f->dir, f->port, f->dir, f->dir),
		0);
	snprintf(config, sizeof(config), "%s/config.yml", f->dir);
	f->registry = fork();
	if (f->registry == 0) {
		(void)!freopen("/dev/null", "w", stdout);
		(void)!freopen("/dev/null", "w", stderr);
		execlp("docker-registry", "docker-registry", "serve", config, NULL);
		_exit(127);
	}
	int64_t until = clock_mono_ns() + 20 * NS_PER_SEC;
	while (!answers(f->port) && clock_mono_ns() < until)
		(void)poll(NULL, 0, 10);
	assert_int_equal(
		shell("skopeo copy -q --dest-tls-verify=false --dest-creds alice:s3cret docker-archive:%s:mesh-demo:1 "
	              "docker://127.0.0.1:%d/demo/app:1",
	              f->archive, f->port),
		0);
	return true;
}

static void a_registry_gives_images_to_those_who_may(void **state)
{
	struct fixture *f = *state;
	/* {"username":"alice","password":"s3cret"} and a wrong one */
	static const char good[] = "eyJ1c2VybmFtZSI6ImFsaWNlIiwicGFzc3dvcmQiOiJzM2NyZXQifQ==";
	static const char bad[] = "eyJ1c2VybmFtZSI6ImFsaWNlIiwicGFzc3dvcmQiOiJ3cm9uZyJ9";
	char ref[64], none[64];
	if (!start_registry(f))
		skip();
	snprintf(ref, sizeof(ref), "127.0.0.1:%d/demo/app:1", f->port);
	snprintf(none, sizeof(none), "127.0.0.1:%d/demo/app:9", f->port);
	images_pull(f->im, ref, bad, false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, MESH_E_UNAUTHORIZED);
	images_pull(f->im, none, good, false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, MESH_E_NOT_FOUND);
	assert_non_null(strstr(f->err.msg, "No such image: 127.0.0.1"));
	images_pull(f->im, ref, good, false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, 0);
	const struct image *img = images_find(f->im, ref);
	assert_non_null(img);
	assert_int_equal(img->digests.n, 1);
	/* By its digest, and by name with digest, without asking anybody: the registry is stopped first. */
	char pinned[256];
	snprintf(pinned, sizeof(pinned), "%s%s", ref, strchr(img->digests.v[0], '@'));
	kill(f->registry, SIGKILL);
	waitpid(f->registry, NULL, 0);
	f->registry = 0;
	assert_ptr_equal(images_find(f->im, pinned), img);
	images_pull(f->im, pinned, NULL, false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, 0);
	images_pull(f->im, none, good, false, NULL, on_done, f);
	wait_done(f);
	assert_int_equal(f->code, MESH_E_NOT_FOUND);
	assert_non_null(strstr(f->err.msg, "connection refused"));
}

static void references_read_as_docker_reads_them(void **state)
{
	static const struct {
		const char *ref, *full; /* full NULL: refused */
	} cases[] = {
		{ "nginx", "docker.io/library/nginx:latest" },
		{ "nginx:1.19", "docker.io/library/nginx:1.19" },
		{ "voyager/app", "docker.io/voyager/app:latest" },
		{ "localhost/x", "localhost/x:latest" },
		{ "localhost:5000/x:2", "localhost:5000/x:2" },
		{ "reg.example.com/a/b/c", "reg.example.com/a/b/c:latest" },
		{ "a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
		  "docker.io/a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" },
		{ "Nginx", NULL },
		{ "", NULL },
		{ "a b", NULL },
		{ "x:", NULL },
		{ "x:bad tag", NULL },
		{ "x@sha256:12", NULL },
		{ "-x", NULL },
		{ "a//b", NULL },
		{ "../etc", NULL },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char out[512];
		int rc = image_ref_normalize(cases[i].ref, out, NULL);
		if (cases[i].full)
			assert_string_equal(rc ? "refused" : out, cases[i].full);
		else
			assert_int_equal(rc, MESH_E_INVALID);
	}
	char familiar[512];
	image_ref_familiar("docker.io/library/nginx:1", familiar);
	assert_string_equal(familiar, "nginx:1");
}

static void a_config_is_read_whole(void **state)
{
	(void)state;
	static const char json[] =
		"{\"created\":\"2024-01-01T00:00:00Z\",\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{"
		"\"Entrypoint\":[\"/a\"],\"Cmd\":[\"b\"],\"Env\":[\"X=1\"],\"User\":\"u\",\"WorkingDir\":\"/w\","
		"\"StopSignal\":\"SIGQUIT\",\"Labels\":{\"l\":\"1\"},\"Volumes\":{\"/data\":{}},\"Healthcheck\":{"
		"\"Test\":[\"CMD\",\"true\"],\"Interval\":2000000000,\"Retries\":3}}}";
	struct image_config c = { 0 };
	assert_int_equal(image_config_parse(json, sizeof(json) - 1, &c, NULL), 0);
	assert_string_equal(c.entrypoint.v[0], "/a");
	assert_string_equal(c.volumes.v[0], "/data");
	assert_int_equal(c.health->retries, 3);
	assert_string_equal(smap_get(&c.labels, "l"), "1");
	image_config_clear(&c);
	for (size_t n = 0; n < sizeof(json) - 1; n++) {
		assert_int_not_equal(image_config_parse(json, n, &c, NULL), 0);
		image_config_clear(&c);
	}
	static const char odd[] = "{\"config\":{\"Env\":\"not a list\",\"Cmd\":[1]}}";
	assert_int_not_equal(image_config_parse(odd, sizeof(odd) - 1, &c, NULL), 0);
	image_config_clear(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
		cmocka_unit_test(references_read_as_docker_reads_them),
		cmocka_unit_test(a_config_is_read_whole),
		T(an_archive_with_two_names_gives_two_images),
		T(oci_archives_and_layouts_load_too),
		T(what_is_no_archive_is_refused_and_leaves_nothing),
		T(leftovers_of_a_crash_go_at_open),
		T(names_come_and_go),
		T(remove_respects_use),
		T(a_registry_gives_images_to_those_who_may),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
