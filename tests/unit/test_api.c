/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The API as a client sees it, over a cluster in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <errno.h>

#include "control/model/json.h"
#include "tests/support/api_server.h"
#include "tests/support/http_client.h"

static struct server server;
static struct http client;

/* ---- a client that says what it expects ---- */

static const char *body(void)
{
	return buf_str(&client.body);
}

static void expect(int want, const char *method, const char *path, const char *text)
{
	int got = http_do(&client, method, path, "", text);
	if (got != want)
		fail_msg("%s %s: want %d, got %d %s", method, path, want, got, body());
}

static void expect_message(int want, const char *method, const char *path, const char *text, const char *message)
{
	expect(want, method, path, text);
	if (!strstr(body(), message))
		fail_msg("%s %s: want \"%s\", got %s", method, path, message, body());
}

static json_t *get(const char *path)
{
	json_t *j = NULL;
	expect(200, "GET", path, NULL);
	assert_int_equal(md_json_parse(client.body.data, client.body.len, &j, NULL), 0);
	return j;
}

/* "Spec.TaskTemplate" from an object; borrowed. */
static const json_t *at(const json_t *j, const char *path)
{
	char part[64];
	while (*path) {
		size_t n = strcspn(path, ".");
		snprintf(part, sizeof(part), "%.*s", (int)n, path);
		j = json_is_array(j) ? json_array_get(j, strtoul(part, NULL, 10)) : json_object_get(j, part);
		path += n + (path[n] == '.');
	}
	return j;
}

static const char *text_at(const json_t *j, const char *path)
{
	const char *s = json_string_value(at(j, path));
	return s ? s : "";
}

static char *created_id(const char *key)
{
	json_t *j;
	assert_int_equal(md_json_parse(client.body.data, client.body.len, &j, NULL), 0);
	char *id = xstrdup(text_at(j, key));
	json_decref(j);
	return id;
}

/* Until the JSON at path holds want at key. */
static void wait_for(const char *path, const char *key, const char *want)
{
	for (int i = 0; i < 2000; i++) {
		json_t *j = get(path);
		const json_t *v = at(j, key);
		char number[32];
		snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(v));
		bool ok = json_is_integer(v) ? streq(number, want) : streq(json_string_value(v), want);
		json_decref(j);
		if (ok)
			return;
		usleep(2000); /* between looks, not for a result */
	}
	fail_msg("%s: %s never became %s: %s", path, key, want, body());
}

/* ---- set up ---- */

static int start(void **state)
{
	char path[100];
	struct mesh_err err = { 0 };
	(void)state;
	snprintf(path, sizeof(path), "/tmp/mesh-test-api-%d.sock", getpid());
	if (server_open(&server, path, &err))
		return -1;
	server_start(&server);
	return http_open(&client, path);
}

static int stop(void **state)
{
	(void)state;
	http_close(&client);
	server_stop(&server);
	return 0;
}

static int start_swarm(void **state)
{
	return start(state) ||
	       http_do(&client, "POST", "/v1.47/swarm/init", "", "{\"ListenAddr\":\"0.0.0.0:2377\"}") != 200;
}

/* ---- tests ---- */

static void ping_and_versions(void **state)
{
	(void)state;
	expect(200, "HEAD", "/_ping", NULL);
	assert_string_equal(http_header(&client, "Api-Version"), "1.47");
	assert_string_equal(http_header(&client, "Swarm"), "inactive");
	assert_string_equal(http_header(&client, "Ostype"), "linux");
	expect(200, "GET", "/v1.30/_ping", NULL);
	assert_string_equal(body(), "OK");
	expect(200, "GET", "/v1.99/version", NULL);
	expect_message(400, "GET", "/v1.12/version", NULL, "client version 1.12 is too old");
	expect_message(404, "GET", "/nix", NULL, "page not found");
	expect_message(405, "PUT", "/info", NULL, "not allowed");
	expect(200, "GET", "/info/", NULL);
	json_t *j = get("/version");
	assert_string_equal(text_at(j, "ApiVersion"), "1.47");
	json_decref(j);
	expect(200, "GET", "/metrics", NULL);
	assert_non_null(strstr(body(), "mesh_test 1\n"));
}

static void outside_a_swarm(void **state)
{
	static const char *const paths[] = { "/nodes",  "/services?status=true", "/tasks", "/swarm", "/secrets",
		                             "/configs" };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		expect_message(503, "GET", paths[i], NULL,
		               "This node is not a swarm manager. Use \\\"docker swarm init\\\"");
	expect_message(503, "POST", "/swarm/leave", NULL, "This node is not part of a swarm");
	expect_message(400, "POST", "/swarm/join", "{\"JoinToken\":\"x\"}", "RemoteAddr");
	expect_message(400, "POST", "/swarm/init", "{\"SubnetSize\":\"24\"}",
	               "SubnetSize: expected a number, got a string");
	expect_message(400, "POST", "/swarm/init", "{", "invalid JSON at line 1");
	json_t *j = get("/networks");
	assert_int_equal(json_array_size(j), 3); /* the node's own */
	json_decref(j);
	j = get("/info");
	assert_string_equal(text_at(j, "Swarm.LocalNodeState"), "inactive");
	assert_true(json_is_null(at(j, "Swarm.RemoteManagers")));
	json_decref(j);
}

static void the_swarm(void **state)
{
	(void)state;
	expect_message(503, "POST", "/swarm/init", "{}", "already part of a swarm");
	json_t *j = get("/swarm");
	assert_true(strncmp(text_at(j, "JoinTokens.Worker"), "SWMTKN-1-", 9) == 0);
	long long version = json_integer_value(at(j, "Version.Index"));
	char path[200];
	json_decref(j);
	j = get("/info");
	assert_null(at(j, "Swarm.Cluster.JoinTokens"));
	assert_int_equal(json_integer_value(at(j, "Swarm.Managers")), 1);
	json_decref(j);
	snprintf(path, sizeof(path), "/swarm/update?version=%lld&rotateWorkerToken=true", version);
	expect(200, "POST", path, "{\"Orchestration\":{\"TaskHistoryRetentionLimit\":3}}");
	j = get("/swarm");
	assert_string_equal(text_at(j, "JoinTokens.Worker"), "SWMTKN-1-rotated");
	assert_int_equal(json_integer_value(at(j, "Spec.Orchestration.TaskHistoryRetentionLimit")), 3);
	json_decref(j);
	expect_message(500, "POST", path, "{}", "rpc error: code = Unknown desc = update out of sequence");
	expect_message(400, "POST", "/swarm/update?version=x", "{}", "invalid version");
	expect_message(200, "GET", "/swarm/unlockkey", NULL, "\"UnlockKey\":\"\"");
	expect_message(409, "POST", "/swarm/unlock", "{\"UnlockKey\":\"SWMKEY-1-x\"}", "swarm is not locked");
	expect_message(503, "POST", "/swarm/leave", NULL, "Removing the last manager erases all current state");
	expect(200, "POST", "/swarm/leave?force=1", NULL);
	expect(503, "GET", "/swarm", NULL);
}

#define WEB                                                                                                            \
	"{\"Name\":\"web\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"bb:1\"},"                                  \
	"\"Networks\":[{\"Target\":\"mynet\"}]},\"Mode\":{\"Replicated\":{\"Replicas\":3}},"                           \
	"\"EndpointSpec\":{\"Mode\":\"vip\",\"Ports\":[{\"TargetPort\":80,\"PublishedPort\":8080}]}}"

static void a_service_lives(void **state)
{
	(void)state;
	expect(201, "POST", "/networks/create", "{\"Name\":\"mynet\",\"Driver\":\"overlay\",\"Attachable\":true}");
	char *net = created_id("Id");
	expect(201, "POST", "/services/create", WEB);
	char *id = created_id("ID");
	assert_true(mesh_id_valid(id));
	wait_for("/services?status=true", "0.ServiceStatus.RunningTasks", "3");

	json_t *j = get("/services/web");
	assert_string_equal(text_at(j, "ID"), id);
	assert_string_equal(text_at(j, "Spec.TaskTemplate.Networks.0.Target"), net);
	assert_string_equal(text_at(j, "Spec.TaskTemplate.Runtime"), "container");
	assert_string_equal(text_at(j, "Endpoint.Ports.0.PublishMode"), "ingress");
	assert_non_null(strchr(text_at(j, "Endpoint.VirtualIPs.0.Addr"), '/'));
	assert_null(at(j, "Spec.UpdateConfig"));
	json_decref(j);
	j = get("/services/web?insertDefaults=true");
	assert_string_equal(text_at(j, "Spec.UpdateConfig.FailureAction"), "pause");
	json_decref(j);

	char path[200];
	snprintf(path, sizeof(path), "/services/%.10s", id);
	json_decref(get(path)); /* by a prefix of its id */
	expect_message(404, "GET", "/services/nope", NULL, "service nope not found");
	expect_message(409, "POST", "/services/create", WEB,
	               "name conflicts with an existing object: service web already exists");
	snprintf(path, sizeof(path), "network %s is in use by service %s", net, id);
	expect_message(400, "DELETE", "/networks/mynet", NULL, path);

	j = get("/tasks?filters=%7B%22service%22%3A%5B%22web%22%5D%2C%22desired-state%22%3A%5B%22running%22%5D%7D");
	assert_int_equal(json_array_size(j), 3);
	assert_string_equal(text_at(j, "0.NetworksAttachments.0.Network.Spec.Name"), "ingress");
	assert_string_equal(text_at(j, "0.Status.State"), "running");
	snprintf(path, sizeof(path), "/tasks/%s", text_at(j, "0.ID"));
	json_decref(j);
	json_decref(get(path));
	expect_message(404, "GET", "/tasks?filters=%7B%22service%22%3A%5B%22nope%22%5D%7D", NULL,
	               "service nope not found");
	expect_message(400, "GET", "/tasks?filters=%7B%22nix%22%3A%5B%22a%22%5D%7D", NULL, "invalid filter 'nix'");

	expect(200, "DELETE", "/services/web", NULL);
	expect(404, "DELETE", "/services/web", NULL);
	for (int i = 0; i < 2000; i++) {
		j = get("/tasks");
		size_t n = json_array_size(j);
		json_decref(j);
		if (!n)
			break;
		assert_true(i < 1999);
		usleep(2000);
	}
	expect(204, "DELETE", "/networks/mynet", NULL);
	free(id);
	free(net);
}

static long long version_of(const char *path)
{
	json_t *j = get(path);
	long long v = json_integer_value(at(j, "Version.Index"));
	json_decref(j);
	return v;
}

#define SPEC(image, n)                                                                                                 \
	"{\"Name\":\"up\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"" image "\"}},"                             \
	"\"Mode\":{\"Replicated\":{\"Replicas\":" #n "}},\"UpdateConfig\":{\"Parallelism\":0,\"Monitor\":1000000},"    \
	"\"RollbackConfig\":{\"Parallelism\":0,\"Monitor\":1000000}}"

static void updates_and_rollback(void **state)
{
	char path[200];
	json_t *j;
	(void)state;
	expect(201, "POST", "/services/create", SPEC("bb:1", 2));
	wait_for("/services?status=true", "0.ServiceStatus.RunningTasks", "2");
	snprintf(path, sizeof(path), "/services/up/update?version=%lld", version_of("/services/up"));
	expect_message(200, "POST", path, SPEC("bb:2", 2), "{\"Warnings\":null}");
	expect_message(500, "POST", path, SPEC("bb:3", 2), "rpc error: code = Unknown desc = update out of sequence");
	wait_for("/services/up", "UpdateStatus.State", "completed");
	j = get("/services/up");
	assert_string_equal(text_at(j, "PreviousSpec.TaskTemplate.ContainerSpec.Image"), "bb:1");
	json_decref(j);

	/* The same again leaves what there is to go back to. */
	snprintf(path, sizeof(path), "/services/up/update?version=%lld", version_of("/services/up"));
	expect(200, "POST", path, SPEC("bb:2", 2));
	j = get("/services/up");
	assert_string_equal(text_at(j, "PreviousSpec.TaskTemplate.ContainerSpec.Image"), "bb:1");
	json_decref(j);

	/* Scaling is no update of tasks: those that run go on, and no old "completed" is left to be seen. */
	j = get("/tasks?filters=%7B%22service%22%3A%7B%22up%22%3Atrue%7D%2C%22_up-to-date%22%3A%7B%22true%22%3Atrue%7D%"
	        "7D");
	assert_int_equal(json_array_size(j), 2);
	char *task = xstrdup(text_at(j, "0.ID"));
	json_decref(j);
	snprintf(path, sizeof(path), "/services/up/update?version=%lld", version_of("/services/up"));
	expect(200, "POST", path, SPEC("bb:2", 4));
	wait_for("/services?status=true", "0.ServiceStatus.RunningTasks", "4");
	snprintf(path, sizeof(path), "/tasks/%s", task);
	j = get(path);
	assert_string_equal(text_at(j, "DesiredState"), "running");
	json_decref(j);
	free(task);
	j = get("/services/up");
	assert_null(at(j, "UpdateStatus"));
	json_decref(j);

	snprintf(path, sizeof(path), "/services/up/update?version=%lld", version_of("/services/up"));
	expect(200, "POST", path, SPEC("bb:5", 4));
	wait_for("/services/up", "UpdateStatus.State", "completed");
	snprintf(path, sizeof(path), "/services/up/update?rollback=previous&version=%lld", version_of("/services/up"));
	expect(200, "POST", path, SPEC("bb:5", 4));
	wait_for("/services/up", "UpdateStatus.State", "rollback_completed");
	j = get("/services/up");
	assert_string_equal(text_at(j, "Spec.TaskTemplate.ContainerSpec.Image"), "bb:2");
	json_decref(j);

	snprintf(path, sizeof(path), "/services/up/update?version=%lld", version_of("/services/up"));
	expect_message(501, "POST", path,
	               "{\"Name\":\"other\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"bb:1\"}}}",
	               "renaming services is not supported");
	expect_message(
		501, "POST", path,
		"{\"Name\":\"up\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"bb:1\"}},\"Mode\":{\"Global\":{}}}",
		"service mode change is not allowed");
	expect_message(400, "POST", "/services/up/update", SPEC("bb:1", 1), "invalid version");
	expect_message(400, "POST", "/services/up/update?rollback=next&version=1", "{}",
	               "unrecognized Rollback option");
}

static void no_rollback_without_a_past(void **state)
{
	char path[200];
	(void)state;
	expect(201, "POST", "/services/create", SPEC("bb:1", 1));
	snprintf(path, sizeof(path), "/services/up/update?rollback=previous&version=%lld", version_of("/services/up"));
	expect_message(400, "POST", path, "{}", "does not have a previous spec");
}

static void bad_specs(void **state)
{
	static const struct {
		int status;
		const char *spec, *message;
	} t[] = {
		{ 400, "{\"Name\":\"a\"}", "TaskSpec: ContainerSpec is missing" },
		{ 400, "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{}}}", "image reference must be provided" },
		{ 400, "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"A::b\"}}}",
		  "is not a valid repository/tag" },
		{ 400, "{\"Name\":\"-a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"}}}",
		  "name must be valid as a DNS name component" },
		{ 404,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"},"
		  "\"Networks\":[{\"Target\":\"nope\"}]}}",
		  "network nope not found" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"},"
		  "\"Networks\":[{\"Target\":\"ingress\"}]}}",
		  "cannot be explicitly attached to the ingress network" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\","
		  "\"Secrets\":[{\"SecretName\":\"nope\"}]}}}",
		  "secret not found: nope" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"},"
		  "\"Placement\":{\"Constraints\":[\"node.nix==1\"]}}}",
		  "node.nix" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Hostname\":\"{{.Nope}}\"}}}",
		  "expanding hostname failed: template: :1: executing" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Env\":[\"A={{.Task.Slot\"]}}"
		  "}",
		  "expanding env failed: template parsing error: unclosed action" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Mounts\":[{\"Type\":"
		  "\"volume\","
		  "\"Source\":\"v\",\"Target\":\"/v\",\"VolumeOptions\":{\"DriverConfig\":{\"Options\":"
		  "{\"device\":\"{{env \\\"X\\\"}}\"}}}}]}}}",
		  "expanding volume driver options failed" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"},"
		  "\"Resources\":{\"Limits\":{\"MemoryBytes\":5}}}}",
		  "Must be at least 4MiB" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"},\"Resources\":"
		  "{\"Limits\":{\"MemoryBytes\":8388608},\"Reservations\":{\"MemoryBytes\":8388609}}}}",
		  "Minimum memory limit can not be less than memory reservation limit" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"}},"
		  "\"UpdateConfig\":{\"MaxFailureRatio\":2}}",
		  "maxfailureratio cannot be less than 0 or bigger than 1" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"}},"
		  "\"EndpointSpec\":{\"Ports\":[{\"TargetPort\":22,\"PublishedPort\":22}]}}",
		  "port 22/tcp is already in use on node n0 by sshd" },
		{ 400, "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":5}}}",
		  "TaskTemplate.ContainerSpec.Image: expected a string, got a number" },
		{ 400,
		  "{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"}},"
		  "\"Mode\":{\"Replicated\":{},\"Global\":{}}}",
		  "must specify only one service mode" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(t); i++)
		expect_message(t[i].status, "POST", "/services/create", t[i].spec, t[i].message);
	json_t *j = get("/services");
	assert_int_equal(json_array_size(j), 0);
	json_decref(j);
}

static void unknown_fields_are_said(void **state)
{
	(void)state;
	expect_message(
		201, "POST", "/services/create",
		"{\"Name\":\"a\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Devices\":[\"/dev/x\"]}}}",
		"\"Warnings\":[\"TaskTemplate.ContainerSpec.Devices: not supported, ignored\"]");
	expect_message(201, "POST", "/services/create", "{\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\"}}}",
	               "\"ID\"");
	json_t *j = get("/services");
	assert_non_null(strchr(text_at(j, "1.Spec.Name"), '_')); /* one was made up */
	json_decref(j);
}

#define JOB(force)                                                                                                     \
	"{\"Name\":\"job\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Args\":[\"exit\",\"0\"]},"           \
	"\"ForceUpdate\":" #force ",\"RestartPolicy\":{\"Condition\":\"none\"}},"                                      \
	"\"Mode\":{\"ReplicatedJob\":{\"MaxConcurrent\":2,\"TotalCompletions\":5}}}"

static long long runs_of_job(const char *spec)
{
	char path[200];
	snprintf(path, sizeof(path), "/services/job/update?version=%lld", version_of("/services/job"));
	expect(200, "POST", path, spec);
	json_t *j = get("/services/job");
	long long n = json_integer_value(at(j, "JobStatus.JobIteration.Index"));
	json_decref(j);
	return n;
}

static void jobs_count(void **state)
{
	(void)state;
	expect(201, "POST", "/services/create", JOB(0));
	wait_for("/services?status=true", "0.ServiceStatus.CompletedTasks", "5");
	json_t *j = get("/services?status=true");
	assert_int_equal(json_integer_value(at(j, "0.ServiceStatus.DesiredTasks")), 2);
	assert_int_equal(json_integer_value(at(j, "0.ServiceStatus.RunningTasks")), 0);
	assert_non_null(at(j, "0.JobStatus.LastExecution"));
	json_decref(j);
	/* The same again is no other run, --force is. */
	assert_int_equal(runs_of_job(JOB(0)), 0);
	assert_int_equal(runs_of_job(JOB(1)), 1);
	wait_for("/services?status=true", "0.ServiceStatus.CompletedTasks", "5");
}

static void secrets_and_configs(void **state)
{
	char path[200];
	(void)state;
	expect(201, "POST", "/secrets/create", "{\"Name\":\"s1\",\"Labels\":{\"a\":\"b\"},\"Data\":\"czNj\"}");
	char *id = created_id("ID");
	expect_message(409, "POST", "/secrets/create", "{\"Name\":\"s1\",\"Data\":\"czNj\"}",
	               "secret s1 already exists");
	expect_message(400, "POST", "/secrets/create", "{\"Name\":\"s 1\",\"Data\":\"czNj\"}", "invalid name");
	expect_message(400, "POST", "/secrets/create", "{\"Name\":\"s2\"}", "larger than 0");
	expect(200, "GET", "/secrets/s1", NULL);
	assert_null(strstr(body(), "czNj"));
	assert_null(strstr(body(), "Data"));
	expect_message(501, "POST", "/configs/create",
	               "{\"Name\":\"c2\",\"Data\":\"az12Cg==\",\"Templating\":{\"Name\":\"odd\"}}",
	               "config c2: unsupported template driver odd");
	expect_message(400, "POST", "/secrets/create", /* "{{.Bad" */
	               "{\"Name\":\"s2\",\"Data\":\"e3suQmFk\",\"Templating\":{\"Name\":\"golang\"}}",
	               "secret s2: template parsing error: unclosed action");
	expect(201, "POST", "/configs/create", "{\"Name\":\"c1\",\"Data\":\"az12Cg==\"}");
	expect_message(200, "GET", "/configs/c1", NULL, "\"Data\":\"az12Cg==\"");
	snprintf(path, sizeof(path), "/secrets/%s/update?version=%lld", id, version_of("/secrets/s1"));
	expect_message(400, "POST", path, "{\"Name\":\"s1\",\"Data\":\"eHh4\"}", "only updates to Labels are allowed");
	expect(200, "POST", path, "{\"Name\":\"s1\",\"Labels\":{\"x\":\"y\"}}");
	expect_message(200, "GET", "/secrets?filters=%7B%22label%22%3A%7B%22x%3Dy%22%3Atrue%7D%7D", NULL, "s1");
	expect(201, "POST", "/services/create",
	       "{\"Name\":\"sc\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"b\",\"Secrets\":[{\"SecretName\":"
	       "\"s1\","
	       "\"File\":{\"Name\":\"s1\",\"UID\":\"0\",\"GID\":\"0\",\"Mode\":292}}]}}}");
	expect_message(400, "DELETE", "/secrets/s1", NULL, "secret 's1' is in use by the following service: sc");
	expect(200, "DELETE", "/services/sc", NULL);
	expect(204, "DELETE", "/secrets/s1", NULL);
	expect_message(404, "DELETE", "/secrets/s1", NULL, "secret s1 not found");
	expect(204, "DELETE", "/configs/c1", NULL);
	free(id);
}

static void networks_refused(void **state)
{
	(void)state;
	expect_message(501, "POST", "/networks/create", "{\"Name\":\"a\",\"Driver\":\"bridge\"}", "--driver overlay");
	expect_message(403, "POST", "/networks/create", "{\"Name\":\"host\",\"Driver\":\"overlay\"}",
	               "predefined host network");
	expect_message(403, "DELETE", "/networks/bridge", NULL, "pre-defined network");
	expect_message(404, "GET", "/networks/nope", NULL, "network nope not found");
	expect_message(501, "POST", "/networks/create",
	               "{\"Name\":\"a\",\"Driver\":\"overlay\",\"Options\":{\"encrypted\":\"\"}}", "encrypted");
	expect(201, "POST", "/networks/create",
	       "{\"Name\":\"a\",\"Driver\":\"overlay\",\"IPAM\":{\"Config\":[{\"Subnet\":\"10.77.0.0/24\"}]}}");
	expect_message(409, "POST", "/networks/create", "{\"Name\":\"a\",\"Driver\":\"overlay\"}",
	               "network with name a already exists");
	wait_for("/networks/a", "IPAM.Config.0.Gateway", "10.77.0.1"); /* the allocator has it */
	assert_int_not_equal(http_do(&client, "POST", "/networks/create", "",
	                             "{\"Name\":\"b\",\"Driver\":\"overlay\","
	                             "\"IPAM\":{\"Config\":[{\"Subnet\":\"10.77.0.0/25\"}]}}"),
	                     201);
	assert_non_null(strstr(body(), "10.77.0.0"));
	expect_message(200, "POST", "/networks/prune", NULL, "\"NetworksDeleted\":[\"a\"]");
}

static void nodes(void **state)
{
	char path[200];
	(void)state;
	json_t *j = get("/nodes");
	char *id = xstrdup(text_at(j, "0.ID"));
	json_decref(j);
	snprintf(path, sizeof(path), "/nodes/%s/update?version=%lld", id, version_of("/nodes/n0"));
	expect_message(400, "POST", path, "{\"Role\":\"worker\",\"Availability\":\"active\"}",
	               "attempting to demote the last manager of the swarm");
	expect(200, "POST", path, "{\"Role\":\"manager\",\"Availability\":\"drain\",\"Labels\":{\"disk\":\"ssd\"}}");
	expect_message(200, "GET", "/nodes?filters=%7B%22node.label%22%3A%7B%22disk%3Dssd%22%3Atrue%7D%7D", NULL,
	               "drain");
	expect_message(400, "DELETE", "/nodes/n0", NULL, "It must be demoted to worker before removal");
	expect_message(200, "GET", "/_mesh/nodes/n0", NULL, "\"DataPlane\":\"ebpf\"");
	free(id);
}

static void others_may_be_faster(void **state)
{
	(void)state;
	server.refuse = 5;
	expect(201, "POST", "/services/create", SPEC("bb:1", 1));
	server.refuse = 1000;
	expect_message(500, "DELETE", "/services/up", NULL, "update out of sequence");
	server.refuse = 0;
	expect(200, "DELETE", "/services/up", NULL);
}

static void logs_are_framed(void **state)
{
	char want[400];
	(void)state;
	expect(201, "POST", "/services/create", SPEC("bb:1", 1));
	wait_for("/services?status=true", "0.ServiceStatus.RunningTasks", "1");
	json_t *j = get("/tasks");
	snprintf(want, sizeof(want),
	         "2026-11-20T13:01:32.949178442Z com.docker.swarm.node.id=%s,com.docker.swarm.service.id=%s,"
	         "com.docker.swarm.task.id=%s oops\n",
	         text_at(j, "0.NodeID"), text_at(j, "0.ServiceID"), text_at(j, "0.ID"));
	json_decref(j);
	expect(200, "GET", "/services/up/logs?stderr=1&details=1&timestamps=1&tail=all", NULL);
	assert_string_equal(http_header(&client, "Content-Type"), "application/vnd.docker.multiplexed-stream");
	const uint8_t head[8] = { 2, 0, 0, 0, 0, 0, 0, (uint8_t)strlen(want) };
	assert_int_equal(client.body.len, 8 + strlen(want));
	assert_memory_equal(client.body.data, head, 8);
	assert_memory_equal(client.body.data + 8, want, strlen(want));
	expect(200, "GET", "/services/up/logs?stdout=True&stderr=False&follow=False", NULL);
	assert_int_equal(client.body.len, 2 * (8 + 7));
	expect_message(400, "GET", "/services/up/logs?stdout=0", NULL, "you must choose at least one stream");
	expect_message(400, "GET", "/services/up/logs?stdout=1&since=yesterday", NULL,
	               "invalid value for \\\"since\\\"");
}

/* A reader that leaves in the middle takes its stream along: closing the server would find it otherwise. */
static void readers_may_leave(void **state)
{
	(void)state;
	expect(201, "POST", "/services/create", SPEC("bb:1", 1));
	wait_for("/services?status=true", "0.ServiceStatus.RunningTasks", "1");
	struct http h;
	assert_int_equal(http_open(&h, server.path), 0);
	const char *ask = "GET /services/up/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n";
	http_send(&h, ask, strlen(ask));
	assert_int_equal(http_head(&h), 200);
	assert_true(http_chunk(&h));
	http_close(&h);
	expect(200, "GET", "/_ping", NULL);
}

static void events_arrive(void **state)
{
	struct http h;
	const char *ask =
		"GET /events?filters=%7B%22type%22%3A%7B%22service%22%3Atrue%7D%7D HTTP/1.1\r\nHost: d\r\n\r\n";
	(void)state;
	assert_int_equal(http_open(&h, server.path), 0);
	http_send(&h, ask, strlen(ask));
	assert_int_equal(http_head(&h), 200);
	expect(201, "POST", "/secrets/create", "{\"Name\":\"s1\",\"Data\":\"czNj\"}"); /* filtered out */
	expect(201, "POST", "/services/create", SPEC("bb:1", 1));
	assert_true(http_chunk(&h));
	const char *text = buf_str(&h.body);
	assert_non_null(strstr(text, "{\"Type\":\"service\",\"Action\":\"create\",\"Actor\":{\"ID\":\""));
	assert_non_null(strstr(text, "\"Attributes\":{\"name\":\"up\"}},\"scope\":\"swarm\",\"time\":"));
	assert_null(strstr(text, "secret"));
	http_close(&h);
	/* History ends by itself. */
	expect(200, "GET", "/events?since=1&until=1795180392", NULL);
}

static void hostile_requests(void **state)
{
	(void)state;
	char *big = xcalloc(1, (17u << 20) + 1);
	memset(big, ' ', 17u << 20);
	expect_message(413, "POST", "/services/create", big, "request body is larger");
	free(big);
	char *deep = xcalloc(1, 100001);
	memset(deep, '[', 100000);
	expect(400, "POST", "/services/create", deep);
	free(deep);
	/* A long query is fine: dockerode sends whole specs there. */
	struct buf path = { 0 };
	buf_puts(&path, "/services?x=");
	for (int i = 0; i < 100000; i++)
		buf_put_u8(&path, 'a');
	expect(200, "GET", buf_str(&path), NULL);
	buf_fini(&path);
	expect(404, "GET", "/services/%2e%2e%2f%00x", NULL);
	expect(400, "GET", "/nodes?filters=%ff", NULL);
	struct http h;
	assert_int_equal(http_open(&h, server.path), 0);
	http_send(&h, "\0\1\2 nonsense\r\n\r\n", 17);
	(void)http_answer(&h, false);
	http_close(&h);
	expect(200, "GET", "/_ping", NULL);
}

static void local_calls_without_an_agent(void **state)
{
	(void)state;
	expect_message(200, "GET", "/containers/json?all=1", NULL, "[]");
	expect_message(404, "GET", "/containers/web/json", NULL, "No such container: web");
	expect_message(404, "GET", "/images/web/json", NULL, "no such image: web: No such image: web:latest");
	expect_message(200, "GET", "/images/json", NULL, "[]");
	expect_message(404, "GET", "/volumes/web", NULL, "get web: no such volume");
	expect_message(200, "GET", "/volumes", NULL, "{\"Volumes\":[],\"Warnings\":null}");
	expect_message(501, "POST", "/containers/create", "{}", "this daemon runs no containers");
	expect_message(404, "POST", "/exec/abc/start", "{}", "No such exec instance: abc");
	expect_message(400, "POST", "/images/create", NULL, "fromImage is required");
	expect_message(400, "POST", "/images/load", NULL, "no archive");
	expect_message(503, "POST", "/images/load", "archive", "no image store");
	expect(200, "GET", "/system/df", NULL);
}

static void a_second_daemon_is_refused(void **state)
{
	struct mesh_err err = { 0 };
	struct api *second;
	(void)state;
	assert_int_equal(api_open(&server.loop, server.path, &srv_ops, &server, &second, &err), -EADDRINUSE);
	assert_non_null(strstr(err.msg, "a daemon answers there"));
	expect(200, "GET", "/_ping", NULL);
}

static void workers_say_so(void **state)
{
	(void)state;
	server.worker = true;
	expect_message(503, "GET", "/nodes", NULL, "Worker nodes can't be used to view or modify cluster state");
	expect_message(503, "POST", "/networks/create", "{\"Name\":\"a\",\"Driver\":\"overlay\"}",
	               "Worker nodes can't");
	expect(200, "HEAD", "/_ping", NULL);
	assert_string_equal(http_header(&client, "Swarm"), "active/worker");
	server.worker = false;
}

#define ALONE(t) cmocka_unit_test_setup_teardown(t, start, stop)
#define SWARM(t) cmocka_unit_test_setup_teardown(t, start_swarm, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(ping_and_versions),
		ALONE(outside_a_swarm),
		ALONE(local_calls_without_an_agent),
		ALONE(a_second_daemon_is_refused),
		SWARM(the_swarm),
		SWARM(workers_say_so),
		SWARM(a_service_lives),
		SWARM(updates_and_rollback),
		SWARM(no_rollback_without_a_past),
		SWARM(bad_specs),
		SWARM(unknown_fields_are_said),
		SWARM(jobs_count),
		SWARM(secrets_and_configs),
		SWARM(networks_refused),
		SWARM(nodes),
		SWARM(others_may_be_faster),
		SWARM(logs_are_framed),
		SWARM(readers_may_leave),
		SWARM(events_arrive),
		SWARM(hostile_requests),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
