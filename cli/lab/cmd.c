/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdarg.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/command.h"
#include "cli/format.h"
#include "cli/lab/lab.h"
#include "cli/units.h"

#define READY_TIMEOUT_S 90

static bool steps_shown = true;
static void step(const char *fmt, ...) MESH_PRINTF(1, 2);
static void step(const char *fmt, ...)
{
	va_list ap;

	if (!steps_shown)
		return;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static int need_root(struct mesh_err *err)
{
	return geteuid() ? mesh_fail(err, -EPERM, "the lab makes namespaces and mounts: run it as root") : 0;
}

/* An API session with one node. */
static struct cli session(const struct lab *l, int node)
{
	char sock[LAB_STR];

	lab_socket(l, node, sock);
	return (struct cli){ .host = xasprintf("unix://%s", sock) };
}

static void session_end(struct cli *s)
{
	http_free(s->http);
	free(s->host);
}

struct tokens {
	char worker[128], manager[128];
};

static int init_swarm(const struct lab *l, struct tokens *t, struct mesh_err *err)
{
	char addr[LAB_STR];
	struct cli s = session(l, 1);
	JSON_CLEAN id = NULL;
	JSON_CLEAN swarm = NULL;

	lab_address(l, 1, addr);
	JSON_CLEAN body =
		json_pack("{s:s,s:s,s:s}", "ListenAddr", "0.0.0.0:2377", "AdvertiseAddr", addr, "DataPathAddr", addr);
	int rc = api_post(&s, body, &id, err, "/swarm/init");
	if (!rc)
		rc = api_get(&s, &swarm, err, "/swarm");
	session_end(&s);
	if (rc < 0)
		return mesh_wrap(err, rc, "n1: swarm init");
	snprintf(t->worker, sizeof(t->worker), "%s", js(swarm, "JoinTokens.Worker"));
	snprintf(t->manager, sizeof(t->manager), "%s", js(swarm, "JoinTokens.Manager"));
	return 0;
}

static int join_swarm(const struct lab *l, int node, const char *token, struct mesh_err *err)
{
	char addr[LAB_STR], first[LAB_STR];
	struct cli s = session(l, node);

	lab_address(l, node, addr);
	lab_address(l, 1, first);
	CLEAN_FREE char *remote = xasprintf("%s:2377", first);
	JSON_CLEAN body = json_pack("{s:s,s:s,s:s,s:[s],s:s}", "ListenAddr", "0.0.0.0:2377", "AdvertiseAddr", addr,
	                            "DataPathAddr", addr, "RemoteAddrs", remote, "JoinToken", token);
	int rc = api_post(&s, body, NULL, err, "/swarm/join");
	session_end(&s);
	return rc < 0 ? mesh_wrap(err, rc, "n%d: swarm join", node) : 0;
}

/* How many nodes are ready, and how many managers take part. */
static int count_ready(struct cli *s, int *ready, int *managers, struct mesh_err *err)
{
	JSON_CLEAN nodes = NULL;
	json_t *n;
	size_t i;
	int rc = api_get(s, &nodes, err, "/nodes");

	*ready = *managers = 0;
	json_array_foreach(nodes, i, n)
	{
		*ready += !strcmp(js(n, "Status.State"), "ready");
		*managers += !strcmp(js(n, "ManagerStatus.Reachability"), "reachable");
	}
	return rc;
}

static int wait_ready(const struct lab *l, struct mesh_err *err)
{
	const struct timespec pause = { .tv_nsec = 50 * 1000000 };
	int64_t deadline = now_ns() + READY_TIMEOUT_S * NS_PER_S;
	struct cli s = session(l, 1);
	int ready = 0, managers = 0, rc;

	for (;;) {
		rc = count_ready(&s, &ready, &managers, err);
		if (!rc && ready == l->nodes && managers == l->managers)
			break;
		if (now_ns() > deadline) {
			if (!rc)
				rc = mesh_fail(err, MESH_E_TIMEOUT,
				               "%d of %d nodes are ready, %d of %d managers reachable", ready, l->nodes,
				               managers, l->managers);
			break;
		}
		nanosleep(&pause, NULL);
	}
	session_end(&s);
	return rc;
}

static int make_cluster(const struct lab *l, struct mesh_err *err)
{
	struct tokens t = { 0 };
	int rc = init_swarm(l, &t, err);

	for (int k = 2; !rc && k <= l->nodes; k++) {
		step("n%d joins as a %s", k, k <= l->managers ? "manager" : "worker");
		rc = join_swarm(l, k, k <= l->managers ? t.manager : t.worker, err);
	}
	if (!rc)
		rc = wait_ready(l, err);
	mesh_wipe(&t, sizeof(t));
	return rc;
}

static int start_all(const struct lab *l, struct mesh_err *err)
{
	int rc = 0;

	for (int k = 1; !rc && k <= l->nodes; k++)
		rc = lab_daemon_start(l, k, err);
	for (int k = 1; !rc && k <= l->nodes; k++)
		rc = lab_daemon_wait(l, k, 30000, err);
	return rc;
}

/* "manager", "worker" or "none", as the node itself says. */
static const char *role_of(const struct lab *l, int node)
{
	struct cli s = session(l, node);
	JSON_CLEAN info = NULL;
	const char *role = "none";

	if (lab_daemon_pid(l, node) > 0) {
		s.http = http_new(s.host);
		struct http_request req = { .method = "GET", .path = "/info", .timeout_ms = 3000 };
		s.api_minor = 44;
		if (api_call(&s, &req, &info, NULL) == 0 && !strcmp(js(info, "Swarm.LocalNodeState"), "active"))
			role = jb(info, "Swarm.ControlAvailable") ? "manager" : "worker";
	}
	session_end(&s);
	return role;
}

static void add_rows(const struct lab *l, json_t *rows)
{
	char name[16], addr[LAB_STR], sock[LAB_STR], netns[LAB_STR];

	for (int k = 1; k <= l->nodes; k++) {
		snprintf(name, sizeof(name), "n%d", k);
		lab_address(l, k, addr);
		lab_socket(l, k, sock);
		lab_netns(l, k, netns);
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s}", "lab", l->name, "name", name,
		                                      "address", addr, "socket", sock, "netns", netns, "state",
		                                      lab_daemon_pid(l, k) > 0 ? "running" : "stopped", "role",
		                                      role_of(l, k), "link", lab_link_get(l, k) == 0 ? "cut" : "up"));
	}
}

static const struct column lab_columns[] = {
	{ "lab", "LAB" },   { "name", "NODE" }, { "address", "ADDRESS" }, { "state", "STATE" },
	{ "role", "ROLE" }, { "link", "LINK" }, { "socket", "SOCKET" },   { "netns", "NETNS" },
};
static const struct list_view lab_view = {
	lab_columns, ARRAY_SIZE(lab_columns),
	"table {{.lab}}\t{{.name}}\t{{.address}}\t{{.state}}\t{{.role}}\t{{.link}}\t{{.socket}}", "name"
};

static int show_lab(const struct lab *l, struct mesh_err *err)
{
	JSON_CLEAN rows = json_array();

	add_rows(l, rows);
	return list_print(&lab_view, rows, "", false, err);
}

static void next_steps(const struct lab *l)
{
	char sock[LAB_STR], addr[LAB_STR];
	const char *name = strcmp(l->name, "lab") ? l->name : NULL;

	lab_socket(l, 1, sock);
	lab_address(l, 1, addr);
	printf("\nTry it:\n  export MESH_HOST=unix://%s\n", sock);
	if (l->init)
		printf("  meshctl node ls\n"
		       "  meshctl service create --name web --replicas 3 --publish 8080:80 IMAGE\n"
		       "  meshctl lab client%s%s -- curl http://%s:8080/\n",
		       name ? " --name " : "", name ? name : "", addr);
	else
		printf("  meshctl swarm init --advertise-addr %s\n", addr);
	printf("  meshctl lab down%s%s\n", name ? " --name " : "", name ? name : "");
}

static int bring_up(struct lab *l, struct mesh_err *err)
{
	char dir[LAB_STR];
	CLEAN_CLOSE int lock = lab_lock(err);
	if (lock < 0)
		return lock;

	lab_netns_dir_note();
	int rc = l->index = lab_choose_index(err);
	if (rc < 0)
		return rc;
	lab_run_dir(l, 0, dir);
	rc = lab_mkdirs(dir, err);
	if (!rc)
		rc = lab_save(l, err);
	if (rc < 0)
		return rc;
	step("lab '%s': %d nodes on 172.31.%d.0/24", l->name, l->nodes, l->index);
	rc = lab_net_up(l, err);
	/* The subnet is ours now: others need not wait for our daemons. */
	return rc;
}

static int lab_up(struct cli *c, struct mesh_err *err)
{
	struct lab l = { .nodes = (int)flag_int(c, "nodes"), .managers = (int)flag_int(c, "managers") };
	const char *name = flag_str(c, "name");
	struct lab old;
	int rc = need_root(err);

	if (rc < 0)
		return rc;
	if (!lab_name_valid(name))
		return mesh_fail(err, MESH_E_INVALID, "'%s' cannot name a lab: use a-z, 0-9 and -, at most %d", name,
		                 LAB_NAME_MAX);
	if (l.nodes < 1 || l.nodes > LAB_NODES_MAX)
		return mesh_fail(err, MESH_E_INVALID, "--nodes must be 1 to %d", LAB_NODES_MAX);
	if (l.managers < 1 || l.managers > l.nodes)
		return mesh_fail(err, MESH_E_INVALID, "--managers must be 1 to the number of nodes");
	const char *plane = flag_str(c, "data-plane");
	if (plane && (strlen(plane) > LAB_PLANE_MAX || !lab_data_plane(plane, 1)))
		return mesh_fail(err, MESH_E_INVALID,
		                 "--data-plane '%s': auto, ebpf or nft, for single nodes n2=nft,n3=ebpf", plane);
	snprintf(l.data_plane, sizeof(l.data_plane), "%s", plane ? plane : "");
	steps_shown = !flag_bool(c, "quiet");
	snprintf(l.name, sizeof(l.name), "%s", name);
	l.init = !flag_bool(c, "no-init");
	l.xdp = flag_bool(c, "xdp");
	rc = lab_load(name, &old, NULL);
	if (!rc && old.ready) {
		step("lab '%s' is already up", name);
		return show_lab(&old, err);
	}
	if (rc != MESH_E_NOT_FOUND)
		step("lab '%s' is half there: removing what is left", name);
	/* Also without a lab.json: namespaces of the name may be left by a crash. */
	rc = lab_sweep(name, err);
	if (!rc)
		rc = bring_up(&l, err);
	if (!rc) {
		step("starting %d daemons", l.nodes);
		rc = start_all(&l, err);
	}
	if (!rc && l.init) {
		step("n1 makes the cluster");
		rc = make_cluster(&l, err);
	}
	if (rc < 0) {
		fprintf(stderr, "what is there stays for you to look at; 'meshctl lab down --name %s' removes it\n",
		        name);
		return rc;
	}
	l.ready = true;
	rc = lab_save(&l, err);
	if (!rc)
		rc = show_lab(&l, err);
	if (!rc && steps_shown)
		next_steps(&l);
	return rc;
}

static int lab_down(struct cli *c, struct mesh_err *err)
{
	const char *name = flag_str(c, "name");
	int rc = need_root(err);

	if (rc < 0)
		return rc;
	if (!lab_name_valid(name))
		return mesh_fail(err, MESH_E_INVALID, "'%s' cannot name a lab", name);
	CLEAN_CLOSE int lock = lab_lock(err);
	if (lock < 0)
		return lock;
	rc = lab_sweep(name, err);
	if (!rc)
		step("lab '%s' is gone", name);
	return rc;
}

/* "n2" of the lab that --name means. */
static int node_arg(struct cli *c, const char *word, struct lab *l, int *node, struct mesh_err *err)
{
	char *end;
	int rc = lab_load(flag_str(c, "name"), l, err);

	if (rc < 0)
		return rc;
	*node = word[0] == 'n' ? (int)strtol(word + 1, &end, 10) : 0;
	if (word[0] != 'n' || end == word + 1 || *end || *node < 1 || *node > l->nodes)
		return mesh_fail(err, MESH_E_NOT_FOUND, "lab '%s' has no node '%s' (it has n1 to n%d)", l->name, word,
		                 l->nodes);
	return 0;
}

static int each_node(struct cli *c, int (*act)(const struct lab *, int, struct mesh_err *), struct mesh_err *err)
{
	int rc = need_root(err);

	for (int i = 0; !rc && i < c->nargs; i++) {
		struct lab l;
		int node;
		rc = node_arg(c, c->args[i], &l, &node, err);
		if (!rc)
			rc = act(&l, node, err);
		if (!rc)
			printf("%s\n", c->args[i]);
	}
	return rc;
}

static int act_stop(const struct lab *l, int node, struct mesh_err *err)
{
	return lab_daemon_stop(l, node, false, err);
}

static int act_kill(const struct lab *l, int node, struct mesh_err *err)
{
	return lab_daemon_stop(l, node, true, err);
}

static int act_start(const struct lab *l, int node, struct mesh_err *err)
{
	int rc = lab_daemon_start(l, node, err);

	return rc < 0 ? rc : lab_daemon_wait(l, node, 30000, err);
}

static int act_cut(const struct lab *l, int node, struct mesh_err *err)
{
	return lab_link_set(l, node, false, err);
}

static int act_heal(const struct lab *l, int node, struct mesh_err *err)
{
	return lab_link_set(l, node, true, err);
}

static int lab_stop(struct cli *c, struct mesh_err *err)
{
	return each_node(c, act_stop, err);
}

static int lab_start(struct cli *c, struct mesh_err *err)
{
	return each_node(c, act_start, err);
}

static int lab_kill(struct cli *c, struct mesh_err *err)
{
	return each_node(c, act_kill, err);
}

static int lab_cut(struct cli *c, struct mesh_err *err)
{
	return each_node(c, act_cut, err);
}

static int lab_heal(struct cli *c, struct mesh_err *err)
{
	return each_node(c, act_heal, err);
}

static int exec_in(const struct lab *l, int node, char **argv, struct mesh_err *err)
{
	char sock[LAB_STR];
	int rc = lab_enter(l, node, err);

	if (rc < 0)
		return rc;
	if (node) {
		lab_socket(l, node, sock);
		CLEAN_FREE char *host = xasprintf("unix://%s", sock);
		setenv("MESH_HOST", host, 1);
		setenv("DOCKER_HOST", host, 1);
	}
	fflush(NULL);
	execvp(argv[0], argv);
	int saved = errno;
	fprintf(stderr, "%s: %s\n", argv[0], strerror(saved));
	return saved == ENOENT ? 127 : 126;
}

static char **after_dashes(char **args)
{
	return args[0] && !strcmp(args[0], "--") ? args + 1 : args;
}

static int lab_exec(struct cli *c, struct mesh_err *err)
{
	struct lab l;
	int node, rc = need_root(err);

	if (!rc)
		rc = node_arg(c, c->args[0], &l, &node, err);
	if (rc < 0)
		return rc;
	char **argv = after_dashes(c->args + 1);
	if (!argv[0])
		return mesh_fail(err, MESH_E_USAGE, "what to run is missing: meshctl lab exec %s -- CMD", c->args[0]);
	return exec_in(&l, node, argv, err);
}

static int lab_client(struct cli *c, struct mesh_err *err)
{
	struct lab l;
	int rc = need_root(err);

	if (!rc)
		rc = lab_load(flag_str(c, "name"), &l, err);
	if (rc < 0)
		return rc;
	return exec_in(&l, 0, after_dashes(c->args), err);
}

static int lab_ls(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN rows = json_array();
	struct str_list names = { 0 };
	int rc = 0;

	if (flag_given(c, "name"))
		strs_add(&names, flag_str(c, "name"));
	else
		lab_names(&names);
	for (size_t i = 0; !rc && i < names.n; i++) {
		struct lab l;
		rc = lab_load(names.v[i], &l, err);
		if (!rc)
			add_rows(&l, rows);
	}
	strs_clear(&names);
	return rc < 0 ? rc : list_print(&lab_view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

static int lab_logs(struct cli *c, struct mesh_err *err)
{
	struct lab l;
	char dir[LAB_STR];
	int node, rc = node_arg(c, c->args[0], &l, &node, err);

	if (rc < 0)
		return rc;
	lab_state_dir(&l, node, dir);
	CLEAN_FREE char *path = xasprintf("%s/meshd.log", dir);
	if (flag_bool(c, "follow"))
		execlp("tail", "tail", "-n", flag_str(c, "tail"), "-F", path, (char *)NULL);
	else
		execlp("tail", "tail", "-n", flag_str(c, "tail"), path, (char *)NULL);
	return mesh_fail(err, -errno, "tail");
}

#define NAME_FLAG                                                                                                      \
	{                                                                                                              \
		"name", 0, F_STR, "string", "lab", "Which lab", "lab"                                                  \
	}
static const struct flag up_flags[] = {
	NAME_FLAG,
	{ "nodes", 0, F_UINT, NULL, "3", "How many nodes" },
	{ "managers", 0, F_UINT, NULL, "1", "How many of them are managers" },
	{ "data-plane", 0, F_STR, "string", NULL, "Driver of all nodes (auto, ebpf, nft) or of some (n2=nft,n3=ebpf)" },
	{ "xdp", 0, F_BOOL, NULL, NULL, "Published ports by XDP, on links that finish transport sums and take frames" },
	{ "no-init", 0, F_BOOL, NULL, NULL, "Start the daemons, make no cluster" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Print no progress" },
};
static const struct flag name_flags[] = { NAME_FLAG };
static const struct flag ls_flags[] = {
	{ "name", 0, F_STR, "string", NULL, "Only this lab", "lab" },
	{ "format", 0, F_STR, "string", NULL, "'json', 'table TEMPLATE' or a Go template" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only names" },
};
static const struct flag logs_flags[] = {
	NAME_FLAG,
	{ "follow", 'f', F_BOOL, NULL, NULL, "Follow the log" },
	{ "tail", 'n', F_STR, "string", "100", "Lines from the end" },
};

static const struct command sub_up = {
	.name = "up",
	.summary = "Make a cluster on this machine, out of network namespaces",
	.more = "Real daemons, real kernel paths, an underlay switch, and a client outside the cluster. A lab\n"
		"that is up is left as it is; what an interrupted run left behind is cleaned first.",
	FLAGS(up_flags),
	.run = lab_up,
	.local = true,
	.example = "  meshctl lab up --nodes 5 --managers 3",
};
static const struct command sub_down = {
	.name = "down",
	.summary = "Remove every trace of a lab",
	FLAGS(name_flags),
	.run = lab_down,
	.local = true,
	.example = "  meshctl lab down --name test",
};
static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List the nodes of labs",
	FLAGS(ls_flags),
	.run = lab_ls,
	.local = true,
	.example = "  meshctl lab ls --format json",
};
static const struct command sub_exec = {
	.name = "exec",
	.usage = "NODE -- CMD...",
	.summary = "Run a program in a node's network namespace",
	FLAGS(name_flags),
	.run = lab_exec,
	.min = 1,
	.max = -1,
	.verbatim = true,
	.local = true,
	.comp = "labnode",
	.example = "  meshctl lab exec n2 -- ip route",
};
static const struct command sub_client = {
	.name = "client",
	.usage = "-- CMD...",
	.summary = "Run a program outside the cluster, on the underlay",
	FLAGS(name_flags),
	.run = lab_client,
	.min = 1,
	.max = -1,
	.verbatim = true,
	.local = true,
	.example = "  meshctl lab client -- curl http://172.31.0.11:8080/",
};
#define NODE_VERB(var_, name_, run_, summary_)                                                                         \
	static const struct command var_ = { .name = (name_),                                                          \
		                             .usage = "NODE [NODE...]",                                                \
		                             .summary = (summary_),                                                    \
		                             FLAGS(name_flags),                                                        \
		                             .run = (run_),                                                            \
		                             .min = 1,                                                                 \
		                             .max = -1,                                                                \
		                             .comp = "labnode",                                                        \
		                             .local = true,                                                            \
		                             .example = "  meshctl lab " name_ " n2" }
NODE_VERB(sub_stop, "stop", lab_stop, "Stop a node's daemon (its tasks stay)");
NODE_VERB(sub_start, "start", lab_start, "Start a node's daemon again");
NODE_VERB(sub_kill, "kill", lab_kill, "Kill a node's daemon without warning (its tasks stay)");
NODE_VERB(sub_cut, "cut", lab_cut, "Take a node's underlay link down");
NODE_VERB(sub_heal, "heal", lab_heal, "Take a node's underlay link up again");
static const struct command sub_logs = {
	.name = "logs",
	.usage = "NODE",
	.summary = "Print the log of a node's daemon",
	FLAGS(logs_flags),
	.run = lab_logs,
	.min = 1,
	.max = 1,
	.local = true,
	.comp = "labnode",
	.example = "  meshctl lab logs -f n1",
};

static const struct command *const lab_subs[] = { &sub_up,    &sub_down, &sub_ls,  &sub_exec, &sub_client, &sub_stop,
	                                          &sub_start, &sub_kill, &sub_cut, &sub_heal, &sub_logs,   NULL };
const struct command cmd_lab = {
	.name = "lab",
	.summary = "A cluster on this machine, to try and to test",
	.subs = lab_subs,
};
