/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the flag tables of "service create" and "service update", and the shells around the two.
 *         What a flag means is in service_spec.c.
 */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "cli/units.h"

static const struct flag create_flags[] = {
	{ "cap-add", 0, F_LIST, NULL, NULL, "Add Linux capabilities" },
	{ "cap-drop", 0, F_LIST, NULL, NULL, "Drop Linux capabilities" },
	{ "config", 0, F_LIST, "config", NULL, "Specify configurations to expose to the service", "config" },
	{ "constraint", 0, F_LIST, NULL, NULL, "Placement constraints" },
	{ "container-label", 0, F_LIST, NULL, NULL, "Container labels" },
	{ "credential-spec", 0, F_STR, "credential-spec", NULL,
	  "Credential spec for managed service account (Windows only)" },
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting for the service to converge" },
	{ "dns", 0, F_LIST, NULL, NULL, "Set custom DNS servers" },
	{ "dns-option", 0, F_LIST, NULL, NULL, "Set DNS options" },
	{ "dns-search", 0, F_LIST, NULL, NULL, "Set custom DNS search domains" },
	{ "endpoint-mode", 0, F_STR, NULL, "vip", "Endpoint mode (vip or dnsrr)", "vip dnsrr" },
	{ "entrypoint", 0, F_STR, "command", NULL, "Overwrite the default ENTRYPOINT of the image" },
	{ "env", 'e', F_LIST, NULL, NULL, "Set environment variables" },
	{ "env-file", 0, F_LIST, NULL, NULL, "Read in a file of environment variables" },
	{ "generic-resource", 0, F_LIST, NULL, NULL, "User defined resources" },
	{ "group", 0, F_LIST, NULL, NULL, "Set one or more supplementary user groups for the container" },
	{ "health-cmd", 0, F_STR, NULL, NULL, "Command to run to check health" },
	{ "health-interval", 0, F_DURATION, NULL, NULL, "Time between running the check (ms|s|m|h)" },
	{ "health-retries", 0, F_INT, NULL, NULL, "Consecutive failures needed to report unhealthy" },
	{ "health-start-interval", 0, F_DURATION, NULL, NULL,
	  "Time between running the check during the start period (ms|s|m|h)" },
	{ "health-start-period", 0, F_DURATION, NULL, NULL,
	  "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)" },
	{ "health-timeout", 0, F_DURATION, NULL, NULL, "Maximum time to allow one check to run (ms|s|m|h)" },
	{ "host", 0, F_LIST, NULL, NULL, "Set one or more custom host-to-IP mappings (host:ip)" },
	{ "hostname", 0, F_STR, NULL, NULL, "Container hostname" },
	{ "init", 0, F_BOOL, NULL, NULL,
	  "Use an init inside each service container to forward signals and reap processes" },
	{ "isolation", 0, F_STR, NULL, NULL, "Service container isolation mode" },
	{ "label", 'l', F_LIST, NULL, NULL, "Service labels" },
	{ "limit-cpu", 0, F_CPUS, NULL, NULL, "Limit CPUs" },
	{ "limit-memory", 0, F_BYTES, NULL, NULL, "Limit Memory" },
	{ "limit-pids", 0, F_INT, NULL, NULL, "Limit maximum number of processes (default 0 = unlimited)" },
	{ "log-driver", 0, F_STR, NULL, NULL, "Logging driver for service" },
	{ "log-opt", 0, F_LIST, NULL, NULL, "Logging driver options" },
	{ "max-concurrent", 0, F_UINT, NULL, NULL,
	  "Number of job tasks to run concurrently (default equal to --replicas)" },
	{ "mode", 0, F_STR, NULL, "replicated",
	  "Service mode (\"replicated\", \"global\", \"replicated-job\", \"global-job\")",
	  "replicated global replicated-job global-job" },
	{ "mount", 0, F_LIST, "mount", NULL, "Attach a filesystem mount to the service" },
	{ "name", 0, F_STR, NULL, NULL, "Service name" },
	{ "network", 0, F_LIST, "network", NULL, "Network attachments", "network" },
	{ "no-healthcheck", 0, F_BOOL, NULL, NULL, "Disable any container-specified HEALTHCHECK" },
	{ "no-resolve-image", 0, F_BOOL, NULL, NULL,
	  "Do not query the registry to resolve image digest and supported platforms" },
	{ "oom-score-adj", 0, F_INT, NULL, NULL, "Tune host's OOM preferences (-1000 to 1000)" },
	{ "placement-pref", 0, F_LIST, "pref", NULL, "Add a placement preference" },
	{ "publish", 'p', F_LIST, "port", NULL, "Publish a port as a node port" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress progress output" },
	{ "read-only", 0, F_BOOL, NULL, NULL, "Mount the container's root filesystem as read only" },
	{ "replicas", 0, F_UINT, NULL, NULL, "Number of tasks" },
	{ "replicas-max-per-node", 0, F_UINT, NULL, NULL, "Maximum number of tasks per node (default 0 = unlimited)" },
	{ "reserve-cpu", 0, F_CPUS, NULL, NULL, "Reserve CPUs" },
	{ "reserve-memory", 0, F_BYTES, NULL, NULL, "Reserve Memory" },
	{ "restart-condition", 0, F_STR, NULL, "any",
	  "Restart when condition is met (\"none\", \"on-failure\", \"any\")", "none on-failure any" },
	{ "restart-delay", 0, F_DURATION, NULL, "5s", "Delay between restart attempts (ns|us|ms|s|m|h)" },
	{ "restart-max-attempts", 0, F_UINT, NULL, NULL, "Maximum number of restarts before giving up" },
	{ "restart-window", 0, F_DURATION, NULL, NULL, "Window used to evaluate the restart policy (ns|us|ms|s|m|h)" },
	{ "rollback-delay", 0, F_DURATION, NULL, "0s", "Delay between task rollbacks (ns|us|ms|s|m|h)" },
	{ "rollback-failure-action", 0, F_STR, NULL, "pause", "Action on rollback failure (\"pause\", \"continue\")",
	  "pause continue" },
	{ "rollback-max-failure-ratio", 0, F_FLOAT, NULL, "0", "Failure rate to tolerate during a rollback" },
	{ "rollback-monitor", 0, F_DURATION, NULL, "5s",
	  "Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h)" },
	{ "rollback-order", 0, F_STR, NULL, "stop-first", "Rollback order (\"start-first\", \"stop-first\")",
	  "start-first stop-first" },
	{ "rollback-parallelism", 0, F_UINT, NULL, "1",
	  "Maximum number of tasks rolled back simultaneously (0 to roll back all at once)" },
	{ "secret", 0, F_LIST, "secret", NULL, "Specify secrets to expose to the service", "secret" },
	{ "stop-grace-period", 0, F_DURATION, NULL, "10s",
	  "Time to wait before force killing a container (ns|us|ms|s|m|h)" },
	{ "stop-signal", 0, F_STR, NULL, NULL, "Signal to stop the container" },
	{ "sysctl", 0, F_LIST, NULL, NULL, "Sysctl options" },
	{ "tty", 't', F_BOOL, NULL, NULL, "Allocate a pseudo-TTY" },
	{ "ulimit", 0, F_LIST, "ulimit", NULL, "Ulimit options" },
	{ "update-delay", 0, F_DURATION, NULL, "0s", "Delay between updates (ns|us|ms|s|m|h)" },
	{ "update-failure-action", 0, F_STR, NULL, "pause",
	  "Action on update failure (\"pause\", \"continue\", \"rollback\")", "pause continue rollback" },
	{ "update-max-failure-ratio", 0, F_FLOAT, NULL, "0", "Failure rate to tolerate during an update" },
	{ "update-monitor", 0, F_DURATION, NULL, "5s",
	  "Duration after each task update to monitor for failure (ns|us|ms|s|m|h)" },
	{ "update-order", 0, F_STR, NULL, "stop-first", "Update order (\"start-first\", \"stop-first\")",
	  "start-first stop-first" },
	{ "update-parallelism", 0, F_UINT, NULL, "1",
	  "Maximum number of tasks updated simultaneously (0 to update all at once)" },
	{ "user", 'u', F_STR, NULL, NULL, "Username or UID (format: <name|uid>[:<group|gid>])" },
	{ "with-registry-auth", 0, F_BOOL, NULL, NULL, "Send registry authentication details to swarm agents" },
	{ "workdir", 'w', F_STR, NULL, NULL, "Working directory inside the container" },
};

static const struct flag update_flags[] = {
	{ "args", 0, F_STR, "command", NULL, "Service command args" },
	{ "cap-add", 0, F_LIST, NULL, NULL, "Add Linux capabilities" },
	{ "cap-drop", 0, F_LIST, NULL, NULL, "Drop Linux capabilities" },
	{ "config-add", 0, F_LIST, "config", NULL, "Add or update a config file on a service", "config" },
	{ "config-rm", 0, F_LIST, NULL, NULL, "Remove a configuration file", "config" },
	{ "constraint-add", 0, F_LIST, NULL, NULL, "Add or update a placement constraint" },
	{ "constraint-rm", 0, F_LIST, NULL, NULL, "Remove a constraint" },
	{ "container-label-add", 0, F_LIST, NULL, NULL, "Add or update a container label" },
	{ "container-label-rm", 0, F_LIST, NULL, NULL, "Remove a container label by its key" },
	{ "credential-spec", 0, F_STR, "credential-spec", NULL,
	  "Credential spec for managed service account (Windows only)" },
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting for the service to converge" },
	{ "dns-add", 0, F_LIST, NULL, NULL, "Add or update a custom DNS server" },
	{ "dns-option-add", 0, F_LIST, NULL, NULL, "Add or update a DNS option" },
	{ "dns-option-rm", 0, F_LIST, NULL, NULL, "Remove a DNS option" },
	{ "dns-rm", 0, F_LIST, NULL, NULL, "Remove a custom DNS server" },
	{ "dns-search-add", 0, F_LIST, NULL, NULL, "Add or update a custom DNS search domain" },
	{ "dns-search-rm", 0, F_LIST, NULL, NULL, "Remove a DNS search domain" },
	{ "endpoint-mode", 0, F_STR, NULL, NULL, "Endpoint mode (vip or dnsrr)", "vip dnsrr" },
	{ "entrypoint", 0, F_STR, "command", NULL, "Overwrite the default ENTRYPOINT of the image" },
	{ "env-add", 0, F_LIST, NULL, NULL, "Add or update an environment variable" },
	{ "env-rm", 0, F_LIST, NULL, NULL, "Remove an environment variable" },
	{ "force", 0, F_BOOL, NULL, NULL, "Force update even if no changes require it" },
	{ "generic-resource-add", 0, F_LIST, NULL, NULL, "Add a Generic resource" },
	{ "generic-resource-rm", 0, F_LIST, NULL, NULL, "Remove a Generic resource" },
	{ "group-add", 0, F_LIST, NULL, NULL, "Add an additional supplementary user group to the container" },
	{ "group-rm", 0, F_LIST, NULL, NULL, "Remove a previously added supplementary user group from the container" },
	{ "health-cmd", 0, F_STR, NULL, NULL, "Command to run to check health" },
	{ "health-interval", 0, F_DURATION, NULL, NULL, "Time between running the check (ms|s|m|h)" },
	{ "health-retries", 0, F_INT, NULL, NULL, "Consecutive failures needed to report unhealthy" },
	{ "health-start-interval", 0, F_DURATION, NULL, NULL,
	  "Time between running the check during the start period (ms|s|m|h)" },
	{ "health-start-period", 0, F_DURATION, NULL, NULL,
	  "Start period for the container to initialize before counting retries towards unstable (ms|s|m|h)" },
	{ "health-timeout", 0, F_DURATION, NULL, NULL, "Maximum time to allow one check to run (ms|s|m|h)" },
	{ "host-add", 0, F_LIST, NULL, NULL, "Add a custom host-to-IP mapping (\"host:ip\")" },
	{ "host-rm", 0, F_LIST, NULL, NULL, "Remove a custom host-to-IP mapping (\"host:ip\")" },
	{ "hostname", 0, F_STR, NULL, NULL, "Container hostname" },
	{ "image", 0, F_STR, NULL, NULL, "Service image tag", "image" },
	{ "init", 0, F_BOOL, NULL, NULL,
	  "Use an init inside each service container to forward signals and reap processes" },
	{ "isolation", 0, F_STR, NULL, NULL, "Service container isolation mode" },
	{ "label-add", 0, F_LIST, NULL, NULL, "Add or update a service label" },
	{ "label-rm", 0, F_LIST, NULL, NULL, "Remove a label by its key" },
	{ "limit-cpu", 0, F_CPUS, NULL, NULL, "Limit CPUs" },
	{ "limit-memory", 0, F_BYTES, NULL, NULL, "Limit Memory" },
	{ "limit-pids", 0, F_INT, NULL, NULL, "Limit maximum number of processes (default 0 = unlimited)" },
	{ "log-driver", 0, F_STR, NULL, NULL, "Logging driver for service" },
	{ "log-opt", 0, F_LIST, NULL, NULL, "Logging driver options" },
	{ "max-concurrent", 0, F_UINT, NULL, NULL,
	  "Number of job tasks to run concurrently (default equal to --replicas)" },
	{ "mount-add", 0, F_LIST, "mount", NULL, "Add or update a mount on a service" },
	{ "mount-rm", 0, F_LIST, NULL, NULL, "Remove a mount by its target path" },
	{ "network-add", 0, F_LIST, "network", NULL, "Add a network", "network" },
	{ "network-rm", 0, F_LIST, NULL, NULL, "Remove a network", "network" },
	{ "no-healthcheck", 0, F_BOOL, NULL, NULL, "Disable any container-specified HEALTHCHECK" },
	{ "no-resolve-image", 0, F_BOOL, NULL, NULL,
	  "Do not query the registry to resolve image digest and supported platforms" },
	{ "oom-score-adj", 0, F_INT, NULL, NULL, "Tune host's OOM preferences (-1000 to 1000)" },
	{ "placement-pref-add", 0, F_LIST, "pref", NULL, "Add a placement preference" },
	{ "placement-pref-rm", 0, F_LIST, "pref", NULL, "Remove a placement preference" },
	{ "publish-add", 0, F_LIST, "port", NULL, "Add or update a published port" },
	{ "publish-rm", 0, F_LIST, "port", NULL, "Remove a published port by its target port" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress progress output" },
	{ "read-only", 0, F_BOOL, NULL, NULL, "Mount the container's root filesystem as read only" },
	{ "replicas", 0, F_UINT, NULL, NULL, "Number of tasks" },
	{ "replicas-max-per-node", 0, F_UINT, NULL, NULL, "Maximum number of tasks per node (default 0 = unlimited)" },
	{ "reserve-cpu", 0, F_CPUS, NULL, NULL, "Reserve CPUs" },
	{ "reserve-memory", 0, F_BYTES, NULL, NULL, "Reserve Memory" },
	{ "restart-condition", 0, F_STR, NULL, NULL,
	  "Restart when condition is met (\"none\", \"on-failure\", \"any\")", "none on-failure any" },
	{ "restart-delay", 0, F_DURATION, NULL, NULL, "Delay between restart attempts (ns|us|ms|s|m|h)" },
	{ "restart-max-attempts", 0, F_UINT, NULL, NULL, "Maximum number of restarts before giving up" },
	{ "restart-window", 0, F_DURATION, NULL, NULL, "Window used to evaluate the restart policy (ns|us|ms|s|m|h)" },
	{ "rollback", 0, F_BOOL, NULL, NULL, "Rollback to previous specification" },
	{ "rollback-delay", 0, F_DURATION, NULL, NULL, "Delay between task rollbacks (ns|us|ms|s|m|h)" },
	{ "rollback-failure-action", 0, F_STR, NULL, NULL, "Action on rollback failure (\"pause\", \"continue\")",
	  "pause continue" },
	{ "rollback-max-failure-ratio", 0, F_FLOAT, NULL, NULL, "Failure rate to tolerate during a rollback" },
	{ "rollback-monitor", 0, F_DURATION, NULL, NULL,
	  "Duration after each task rollback to monitor for failure (ns|us|ms|s|m|h)" },
	{ "rollback-order", 0, F_STR, NULL, NULL, "Rollback order (\"start-first\", \"stop-first\")",
	  "start-first stop-first" },
	{ "rollback-parallelism", 0, F_UINT, NULL, NULL,
	  "Maximum number of tasks rolled back simultaneously (0 to roll back all at once)" },
	{ "secret-add", 0, F_LIST, "secret", NULL, "Add or update a secret on a service", "secret" },
	{ "secret-rm", 0, F_LIST, NULL, NULL, "Remove a secret", "secret" },
	{ "stop-grace-period", 0, F_DURATION, NULL, NULL,
	  "Time to wait before force killing a container (ns|us|ms|s|m|h)" },
	{ "stop-signal", 0, F_STR, NULL, NULL, "Signal to stop the container" },
	{ "sysctl-add", 0, F_LIST, NULL, NULL, "Add or update a Sysctl option" },
	{ "sysctl-rm", 0, F_LIST, NULL, NULL, "Remove a Sysctl option" },
	{ "tty", 't', F_BOOL, NULL, NULL, "Allocate a pseudo-TTY" },
	{ "ulimit-add", 0, F_LIST, "ulimit", NULL, "Add or update a ulimit option" },
	{ "ulimit-rm", 0, F_LIST, NULL, NULL, "Remove a ulimit option" },
	{ "update-delay", 0, F_DURATION, NULL, NULL, "Delay between updates (ns|us|ms|s|m|h)" },
	{ "update-failure-action", 0, F_STR, NULL, NULL,
	  "Action on update failure (\"pause\", \"continue\", \"rollback\")", "pause continue rollback" },
	{ "update-max-failure-ratio", 0, F_FLOAT, NULL, NULL, "Failure rate to tolerate during an update" },
	{ "update-monitor", 0, F_DURATION, NULL, NULL,
	  "Duration after each task update to monitor for failure (ns|us|ms|s|m|h)" },
	{ "update-order", 0, F_STR, NULL, NULL, "Update order (\"start-first\", \"stop-first\")",
	  "start-first stop-first" },
	{ "update-parallelism", 0, F_UINT, NULL, NULL,
	  "Maximum number of tasks updated simultaneously (0 to update all at once)" },
	{ "user", 'u', F_STR, NULL, NULL, "Username or UID (format: <name|uid>[:<group|gid>])" },
	{ "with-registry-auth", 0, F_BOOL, NULL, NULL, "Send registry authentication details to swarm agents" },
	{ "workdir", 'w', F_STR, NULL, NULL, "Working directory inside the container" },
};

static void print_warnings(const json_t *answer, const char *unpinned)
{
	json_t *w;
	size_t i;

	json_array_foreach(jo(answer, "Warnings"), i, w)
	{
		fprintf(stderr, "%s\n", json_string_value(w));
	}
	if (unpinned)
		fprintf(stderr,
		        "image %s could not be accessed on a registry to record\nits digest. Each node will access %s "
		        "independently,\npossibly leading to different nodes running different\nversions of the "
		        "image.\n\n",
		        unpinned, unpinned);
}

static int run_create(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN spec = NULL;
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *headers = NULL;
	int rc = service_spec_create(c, &spec, err);

	if (!rc)
		rc = service_references(c, spec, err);
	if (!rc)
		rc = service_credentials(c, js(spec, "TaskTemplate.ContainerSpec.Image"), &headers, err);
	if (rc < 0)
		return rc;
	bool pinned = flag_bool(c, "no-resolve-image") ? service_tag_image(spec) : service_pin_image(c, spec, headers);
	CLEAN_FREE char *text = json_line(spec);
	struct http_request req = {
		.method = "POST", .path = "/services/create", .body = text, .body_len = strlen(text), .headers = headers
	};
	rc = api_call(c, &req, &answer, err);
	if (rc < 0)
		return rc;
	print_warnings(answer, pinned ? NULL : js(spec, "TaskTemplate.ContainerSpec.Image"));
	const char *id = js(answer, "ID");
	printf("%s\n", id);
	fflush(stdout);
	if (flag_bool(c, "detach"))
		return 0;
	return progress_service(c, id, flag_bool(c, "quiet"), err);
}

/* Everything but -d and -q would be thrown away by a rollback. */
static int rollback_alone(struct cli *c, struct mesh_err *err)
{
	for (size_t i = 0; i < c->cmd->nflags; i++) {
		const char *name = c->cmd->flags[i].name;
		if (c->vals[i].set && strcmp(name, "rollback") && strcmp(name, "detach") && strcmp(name, "quiet"))
			return mesh_fail(err, MESH_E_INVALID, "other flags may not be combined with --rollback");
	}
	return 0;
}

static int run_update(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN service = NULL;
	JSON_CLEAN answer = NULL;
	CLEAN_FREE char *headers = NULL;
	CLEAN_FREE char *path = NULL;
	CLEAN_FREE char *arg = url_dup(c->args[0]);
	int rc;

	if (flag_bool(c, "rollback")) {
		rc = rollback_alone(c, err);
		return rc < 0 ? rc
		              : service_rollback(c, c->args[0], "registryAuthFrom=spec&", flag_bool(c, "detach"),
		                                 flag_bool(c, "quiet"), err);
	}
	rc = api_get(c, &service, err, "/services/%s?insertDefaults=false", arg);
	if (rc < 0)
		return rc;
	json_t *spec = jo(service, "Spec");
	if (!spec)
		return mesh_fail(err, MESH_E_PROTOCOL, "the daemon's answer has no Spec");
	rc = service_spec_update(c, spec, err);
	if (!rc)
		rc = service_credentials(c, js(spec, "TaskTemplate.ContainerSpec.Image"), &headers, err);
	if (rc < 0)
		return rc;
	bool pinned = true;
	if (flag_given(c, "image"))
		pinned = flag_bool(c, "no-resolve-image") ? service_tag_image(spec)
		                                          : service_pin_image(c, spec, headers);
	CLEAN_FREE char *text = json_line(spec);
	path = xasprintf("/services/%s/update?%sversion=%lld", js(service, "ID"),
	                 headers ? "" : "registryAuthFrom=spec&", (long long)ji(service, "Version.Index"));
	struct http_request req = {
		.method = "POST", .path = path, .body = text, .body_len = strlen(text), .headers = headers
	};
	rc = api_call(c, &req, &answer, err);
	if (rc < 0)
		return rc;
	print_warnings(answer, pinned ? NULL : js(spec, "TaskTemplate.ContainerSpec.Image"));
	printf("%s\n", c->args[0]);
	fflush(stdout);
	if (flag_bool(c, "detach"))
		return 0;
	return progress_service(c, c->args[0], flag_bool(c, "quiet"), err);
}

#define LABEL_HELP                                                                                                     \
	"Labels (--label, in stack files deploy.labels) say what the flags have no word for:\n"                        \
	"  mesh.publish.return=tunnel|direct          answers go back through the node that was dialled, or "          \
	"straight\n"                                                                                                   \
	"                                             from the task's node (the network must let that pass)\n"         \
	"  mesh.publish.local=off|prefer|require      a published port is served by tasks of the node that was "       \
	"dialled\n"                                                                                                    \
	"  mesh.publish.sources=CIDR[,CIDR...]        who may dial the published ports; others are dropped\n"          \
	"  mesh.publish.addresses=CIDR[,CIDR...]      at which of the nodes' addresses they are published\n"           \
	"  mesh.affinity=none|client                  a client's new connections go to the task it had before,\n"      \
	"  mesh.affinity.timeout=3h                   for so long after the last one\n"                                \
	"  mesh.split=SERVICE=WEIGHT[,...]            see meshctl service split\n"                                     \
	"  mesh.strategy=spread|binpack|random        how nodes are chosen for tasks"

const struct command service_create_command = {
	.name = "create",
	.usage = "IMAGE [COMMAND] [ARG...]",
	.summary = "Create a new service",
	.more = LABEL_HELP,
	FLAGS(create_flags),
	.run = run_create,
	.min = 1,
	.max = -1,
	.verbatim = true,
	.comp = "image",
	.example = "  meshctl service create --name web --replicas 3 --publish 8080:80 \\\n"
		   "      --update-order start-first --update-failure-action rollback nginx\n"
		   "  meshctl service create --name agent --mode global --mount type=bind,src=/,dst=/host,ro agent:2",
};

const struct command service_update_command = {
	.name = "update",
	.usage = "SERVICE",
	.summary = "Update a service",
	.more = LABEL_HELP,
	FLAGS(update_flags),
	.run = run_update,
	.min = 1,
	.max = 1,
	.comp = "service",
	.example = "  meshctl service update --image web:2 --update-parallelism 2 web\n"
		   "  meshctl service update --env-add LOG=debug --publish-add 9090:90 web\n"
		   "  meshctl service update --force web       # move and restart tasks as if something had changed",
};
