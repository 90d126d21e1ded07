/* SPDX-License-Identifier: GPL-2.0-or-later */
/* run: a container by hand, on the node that is asked. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/exec.h"
#include "cli/show.h"
#include "cli/spec.h"

static json_t *list_of(const struct str_list *l)
{
	json_t *a = json_array();

	for (size_t i = 0; i < l->n; i++)
		json_array_append_new(a, json_string(l->v[i]));
	return a;
}

static int bindings(struct cli *c, json_t **out, struct mesh_err *err)
{
	const struct str_list *l = flag_list(c, "publish");
	JSON_CLEAN ports = json_array();
	json_t *p, *b = json_object();
	size_t i;
	int rc = 0;

	*out = b;
	for (i = 0; i < l->n && !rc; i++)
		rc = spec_publish(l->v[i], ports, err);
	json_array_foreach(ports, i, p)
	{
		const char *proto = js(p, "Protocol");
		CLEAN_FREE char *key = xasprintf("%lld/%s", (long long)ji(p, "TargetPort"), *proto ? proto : "tcp");
		char port[24] = "";
		if (ji(p, "PublishedPort"))
			snprintf(port, sizeof(port), "%lld", (long long)ji(p, "PublishedPort"));
		if (!json_object_get(b, key))
			json_object_set_new(b, key, json_array());
		json_array_append_new(json_object_get(b, key), json_pack("{s:s,s:s}", "HostIp", "", "HostPort", port));
	}
	return rc;
}

static int host_config(struct cli *c, json_t *host, struct mesh_err *err)
{
	static const struct {
		const char *flag, *key;
	} lists[] = { { "cap-add", "CapAdd" },       { "cap-drop", "CapDrop" },      { "dns", "Dns" },
		      { "dns-search", "DnsSearch" }, { "dns-option", "DnsOptions" }, { "add-host", "ExtraHosts" },
		      { "group-add", "GroupAdd" },   { "volume", "Binds" } };
	const struct str_list *networks = flag_list(c, "network"), *mounts = flag_list(c, "mount");
	json_t *ports = NULL, *sysctls = spec_labels(flag_list(c, "sysctl"));
	int rc = bindings(c, &ports, err);

	json_object_set_new(host, "PortBindings", ports);
	json_object_set_new(host, "Sysctls", sysctls);
	json_object_set_new(host, "NetworkMode", json_string(networks->n ? networks->v[0] : "default"));
	json_object_set_new(host, "AutoRemove", json_boolean(flag_bool(c, "rm")));
	json_object_set_new(host, "ReadonlyRootfs", json_boolean(flag_bool(c, "read-only")));
	if (flag_given(c, "init"))
		json_object_set_new(host, "Init", json_boolean(flag_bool(c, "init")));
	json_object_set_new(host, "Memory", json_integer(flag_int(c, "memory")));
	json_object_set_new(host, "NanoCpus", json_integer(flag_int(c, "cpus")));
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		json_object_set_new(host, lists[i].key, list_of(flag_list(c, lists[i].flag)));
	json_object_set_new(host, "Mounts", json_array());
	for (size_t i = 0; i < mounts->n && !rc; i++) {
		json_t *m = NULL;
		rc = spec_mount(mounts->v[i], &m, err);
		if (!rc)
			json_array_append_new(jo(host, "Mounts"), m);
	}
	return rc;
}

static int body_of(struct cli *c, json_t **out, struct mesh_err *err)
{
	const struct str_list *networks = flag_list(c, "network");
	bool detach = flag_bool(c, "detach"), input = flag_bool(c, "interactive");
	json_t *env = NULL, *cmd = json_array(), *host = json_object(), *eps = json_object();
	int rc = spec_env(flag_list(c, "env-file"), flag_list(c, "env"), &env, err);

	for (int i = 1; i < c->nargs; i++)
		json_array_append_new(cmd, json_string(c->args[i]));
	for (size_t i = 0; i < networks->n; i++)
		json_object_set_new(eps, networks->v[i],
		                    i ? json_object()
		                      : json_pack("{s:o}", "Aliases", list_of(flag_list(c, "network-alias"))));
	*out = json_pack(
		"{s:s,s:s,s:s,s:s,s:b,s:b,s:b,s:b,s:b,s:b,s:o,s:o,s:o,s:o,s:{s:o}}", "Image", c->args[0], "Hostname",
		flag_str(c, "hostname"), "User", flag_str(c, "user"), "WorkingDir", flag_str(c, "workdir"), "Tty",
		flag_bool(c, "tty"), "OpenStdin", input, "StdinOnce", input && !detach, "AttachStdin", input && !detach,
		"AttachStdout", !detach, "AttachStderr", !detach, "Env", env ? env : json_array(), "Cmd", cmd, "Labels",
		spec_labels(flag_list(c, "label")), "HostConfig", host, "NetworkingConfig", "EndpointsConfig", eps);
	if (*flag_str(c, "entrypoint"))
		jset(*out, "Entrypoint", json_pack("[s]", flag_str(c, "entrypoint")));
	if (*flag_str(c, "stop-signal"))
		jset(*out, "StopSignal", json_string(flag_str(c, "stop-signal")));
	if (flag_given(c, "stop-timeout"))
		jset(*out, "StopTimeout", json_integer(flag_int(c, "stop-timeout")));
	return rc ? rc : host_config(c, host, err);
}

static int pull(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *image = url_dup(c->args[0]);
	struct cli side = { .host = c->host };
	const char *slash = strrchr(c->args[0], '/');
	bool tagged = strchr(slash ? slash : c->args[0], ':') != NULL;

	fprintf(stderr, "Unable to find image '%s' locally\n", c->args[0]);
	struct http_request req = { .method = "POST" };
	CLEAN_FREE char *path = xasprintf("/images/create?fromImage=%s%s", image, tagged ? "" : "&tag=latest");
	req.path = path;
	int rc = api_stream(&side, &req, err);
	struct buf said = { 0 };
	while (!rc && (rc = http_read(side.http, &said, err)) > 0)
		rc = 0; /* what went wrong shows when the container is made again */
	http_free(side.http);
	buf_fini(&said);
	return rc;
}

static int create(struct cli *c, json_t *body, json_t **made, struct mesh_err *err)
{
	CLEAN_FREE char *name = url_dup(flag_str(c, "name"));
	int rc = 0;

	for (int tries = 0; tries < 2; tries++) {
		rc = api_post(c, body, made, err, "/containers/create%s%s", *name ? "?name=" : "", name);
		if (rc != MESH_E_NOT_FOUND || tries || pull(c, err))
			break;
	}
	json_t *w;
	size_t i;
	json_array_foreach(jo(*made, "Warnings"), i, w) fprintf(stderr, "WARNING: %s\n", json_string_value(w));
	return rc;
}

/* Attached before it starts, so that nothing it says is lost. */
static int run_attached(struct cli *c, const char *id, struct mesh_err *err)
{
	bool tty = flag_bool(c, "tty"), input = flag_bool(c, "interactive");
	CLEAN_FREE char *path =
		xasprintf("/containers/%s/attach?stream=1&stdout=1&stderr=1&stdin=%d", id, input ? 1 : 0);
	CLEAN_FREE char *wait =
		xasprintf("/containers/%s/wait?condition=%s", id, flag_bool(c, "rm") ? "removed" : "next-exit");
	struct http_request req = { .method = "POST", .path = path, .upgrade = true };
	struct http_request wreq = { .method = "POST", .path = wait };
	struct cli raw = { .host = c->host, .debug = c->debug }, waiter = { .host = c->host };
	struct buf early = { 0 }, answer = { 0 };
	int rc = api_stream(&raw, &req, err);

	if (!rc)
		rc = api_stream(&waiter, &wreq, err);
	if (rc < 0) {
		http_free(raw.http);
		http_free(waiter.http);
		return rc;
	}
	buf_put(&early, raw.http->ready.data, raw.http->ready.len);
	CLEAN_CLOSE int sock = http_take(raw.http, &early);
	http_free(raw.http);
	rc = api_post(c, NULL, NULL, err, "/containers/%s/start", id);
	if (!rc)
		rc = attach_terminal(c, "containers", id, sock, early.data, early.len, tty, input, err);
	while (!rc && (rc = http_read(waiter.http, &answer, err)) > 0)
		rc = 0;
	http_free(waiter.http);
	JSON_CLEAN over = rc ? NULL : json_loads(buf_str(&answer), JSON_DISABLE_EOF_CHECK, NULL);
	buf_fini(&early);
	buf_fini(&answer);
	return rc < 0 ? rc : (int)ji(over, "StatusCode");
}

static int run_run(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN body = NULL;
	JSON_CLEAN made = NULL;
	bool detach = flag_bool(c, "detach");

	if (flag_bool(c, "tty") && flag_bool(c, "interactive") && !detach && !isatty(0))
		return mesh_fail(err, MESH_E_INVALID, "the input device is not a TTY");
	int rc = body_of(c, &body, err);
	if (!rc)
		rc = create(c, body, &made, err);
	const char *id = js(made, "Id");
	if (!rc && detach)
		rc = api_post(c, NULL, NULL, err, "/containers/%s/start", id);
	else if (!rc)
		return run_attached(c, id, err);
	if (!rc)
		printf("%s\n", id);
	return rc;
}

static const struct flag flags[] = {
	{ "add-host", 0, F_LIST, NULL, NULL, "Add a custom host-to-IP mapping (host:ip)" },
	{ "cap-add", 0, F_LIST, NULL, NULL, "Add Linux capabilities" },
	{ "cap-drop", 0, F_LIST, NULL, NULL, "Drop Linux capabilities" },
	{ "cpus", 0, F_CPUS, NULL, NULL, "Number of CPUs" },
	{ "detach", 'd', F_BOOL, NULL, NULL, "Run container in background and print container ID" },
	{ "dns", 0, F_LIST, NULL, NULL, "Set custom DNS servers" },
	{ "dns-option", 0, F_LIST, NULL, NULL, "Set DNS options" },
	{ "dns-search", 0, F_LIST, NULL, NULL, "Set custom DNS search domains" },
	{ "entrypoint", 0, F_STR, NULL, NULL, "Overwrite the default ENTRYPOINT of the image" },
	{ "env", 'e', F_LIST, NULL, NULL, "Set environment variables" },
	{ "env-file", 0, F_LIST, NULL, NULL, "Read in a file of environment variables" },
	{ "group-add", 0, F_LIST, NULL, NULL, "Add additional groups to join" },
	{ "hostname", 0, F_STR, NULL, NULL, "Container host name" },
	{ "init", 0, F_BOOL, NULL, NULL, "Run an init inside the container that forwards signals and reaps processes" },
	{ "interactive", 'i', F_BOOL, NULL, NULL, "Keep STDIN open even if not attached" },
	{ "label", 'l', F_LIST, NULL, NULL, "Set meta data on a container" },
	{ "memory", 'm', F_BYTES, NULL, NULL, "Memory limit" },
	{ "mount", 0, F_LIST, "mount", NULL, "Attach a filesystem mount to the container" },
	{ "name", 0, F_STR, NULL, NULL, "Assign a name to the container" },
	{ "network", 0, F_LIST, "network", NULL, "Connect a container to an attachable network", "network" },
	{ "network-alias", 0, F_LIST, NULL, NULL, "Add network-scoped alias for the container" },
	{ "publish", 'p', F_LIST, NULL, NULL, "Publish a container's port(s) on this node" },
	{ "read-only", 0, F_BOOL, NULL, NULL, "Mount the container's root filesystem as read only" },
	{ "rm", 0, F_BOOL, NULL, NULL, "Automatically remove the container when it exits" },
	{ "stop-signal", 0, F_STR, NULL, NULL, "Signal to stop the container" },
	{ "stop-timeout", 0, F_INT, NULL, NULL, "Timeout (in seconds) to stop a container" },
	{ "sysctl", 0, F_LIST, "map", NULL, "Sysctl options" },
	{ "tty", 't', F_BOOL, NULL, NULL, "Allocate a pseudo-TTY" },
	{ "user", 'u', F_STR, NULL, NULL, "Username or UID (format: <name|uid>[:<group|gid>])" },
	{ "volume", 'v', F_LIST, NULL, NULL, "Bind mount a volume" },
	{ "workdir", 'w', F_STR, NULL, NULL, "Working directory inside the container" },
};

const struct command cmd_run = {
	.name = "run",
	.usage = "IMAGE [COMMAND] [ARG...]",
	.summary = "Create and run a container on this node",
	.more = "The container stays on the node that was asked. It can join networks made with --attachable.",
	FLAGS(flags),
	.run = run_run,
	.min = 1,
	.max = -1,
	.verbatim = true,
	.comp = "image",
	.example = "  meshctl run -it --rm --network backend mesh-demo:1 sh",
};
