/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/meshd/options.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

static const char usage[] =
	"Usage: meshd [OPTIONS]\n"
	"\n"
	"The daemon of one node of a mesh cluster. It serves the Docker Engine API on a unix socket; `meshctl` or\n"
	"`docker -H unix://SOCKET` drives it. It runs in the foreground and logs to stderr. Tasks and their traffic\n"
	"go on while it is stopped or restarted.\n"
	"\n"
	"Options:\n"
	"      --state DIR            what must survive a reboot (default /var/lib/mesh)\n"
	"      --run DIR              what must not (default /run/mesh)\n"
	"      --socket PATH          API socket (default RUN/mesh.sock)\n"
	"      --hostname NAME        this node's name in the cluster (default: the machine's)\n"
	"      --advertise-addr ADDR  address other nodes reach this one at (default: found from the default route)\n"
	"      --data-plane DRIVER    auto, ebpf or nft (default auto)\n"
	"      --xdp MODE             on: links whose driver can take published ports in by XDP; off (default off)\n"
	"      --flows N              connections a node remembers, in each of its tables (default 65536)\n"
	"      --runtime PROGRAM      OCI runtime (default crun)\n"
	"      --name NAME            mark in names of cgroups and devices (default mesh)\n"
	"      --log-level LEVEL      debug, info, warn or error (default info)\n"
	"      --label KEY=VALUE      what engine.labels.KEY is on this node, for placement; may be repeated\n"
	"      --node-generic-resource KIND=N or KIND=NAME\n"
	"                             N of a kind, or one of that name, for --generic-resource; may be repeated\n"
	"      --metrics-addr ADDR:PORT  /metrics, /health and /health/PORT there too, for anybody (default off)\n"
	"      --shim PATH            the task shim (default: beside meshd, or its libexec directory)\n"
	"  -v, --version              print the version\n"
	"  -h, --help                 print this\n"
	"\n"
	"Then, on the first machine:  meshctl swarm init\n";

/* build/meshd -> build/mesh-shim; PREFIX/bin/meshd -> PREFIX/libexec/mesh/mesh-shim */
static const char *find_shim(void)
{
	static char path[PATH_MAX];
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n <= 0)
		return "mesh-shim";
	self[n] = '\0';
	char *slash = strrchr(self, '/');
	*slash = '\0';
	snprintf(path, sizeof(path), "%s/mesh-shim", self);
	if (access(path, X_OK) == 0)
		return path;
	snprintf(path, sizeof(path), "%s/../libexec/mesh/mesh-shim", self);
	return path;
}

static const char *default_socket(const char *run)
{
	static char path[PATH_MAX];
	snprintf(path, sizeof(path), "%s/mesh.sock", run);
	return path;
}

/* Below, an LRU's lists of each CPU would be most of it; above, it takes gigabytes. */
#define FLOWS_MIN 1024u
#define FLOWS_MAX 16777216u

static int parse_flows(const char *text, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n < FLOWS_MIN || n > FLOWS_MAX)
		return MESH_E_INVALID;
	*out = (uint32_t)n;
	return 0;
}

void options_describe(const struct options *o, struct md_node_description *d)
{
	str_set(&d->hostname, o->hostname);
	for (size_t i = 0; i < o->labels.n; i++)
		smap_set(&d->engine.labels, o->labels.v[i].key, o->labels.v[i].value);
	for (size_t i = 0; i < o->offers.generic.n; i++)
		sch_copy(&md_generic_schema, LIST_ADD(&d->resources.generic), &o->offers.generic.v[i]);
}

static int parse_label(struct options *o, const char *text, struct mesh_err *err)
{
	const char *eq = strchr(text, '=');
	CLEAN_FREE char *key = eq ? xasprintf("%.*s", (int)(eq - text), text) : NULL;
	if (!eq || eq == text)
		return mesh_fail(err, MESH_E_USAGE, "--label '%s': must be KEY=VALUE", text);
	smap_set(&o->labels, key, eq + 1);
	return 0;
}

/* "ssd=3": three of them; "gpu=UUID": this one. */
static int parse_generic(struct options *o, const char *text, struct mesh_err *err)
{
	char *end;
	const char *eq = strchr(text, '=');
	errno = 0;
	long long n = eq ? strtoll(eq + 1, &end, 10) : 0;
	if (!eq || eq == text || !eq[1] || n < 0 || (!*end && errno))
		return mesh_fail(err, MESH_E_USAGE, "--node-generic-resource '%s': must be KIND=NUMBER or KIND=NAME",
		                 text);
	char *kind = xasprintf("%.*s", (int)(eq - text), text);
	struct md_generic *g = LIST_ADD(&o->offers.generic);
	if (*end) {
		g->named = XNEW(struct md_named_resource);
		*g->named = (struct md_named_resource){ kind, xstrdup(eq + 1) };
	} else {
		g->discrete = XNEW(struct md_discrete_resource);
		*g->discrete = (struct md_discrete_resource){ kind, n };
	}
	return 0;
}

int options_parse(struct options *o, int argc, char **argv, struct mesh_err *err)
{
	static char hostname[HOST_NAME_MAX + 1];
	enum {
		OPT_STATE = 256,
		OPT_RUN,
		OPT_SOCKET,
		OPT_HOSTNAME,
		OPT_ADVERTISE,
		OPT_DP,
		OPT_XDP,
		OPT_FLOWS,
		OPT_RUNTIME,
		OPT_NAME,
		OPT_LEVEL,
		OPT_SHIM,
		OPT_METRICS,
		OPT_LABEL,
		OPT_GENERIC
	};
	static const struct option longs[] = {
		{ "state", required_argument, NULL, OPT_STATE },
		{ "run", required_argument, NULL, OPT_RUN },
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "hostname", required_argument, NULL, OPT_HOSTNAME },
		{ "advertise-addr", required_argument, NULL, OPT_ADVERTISE },
		{ "data-plane", required_argument, NULL, OPT_DP },
		{ "xdp", required_argument, NULL, OPT_XDP },
		{ "flows", required_argument, NULL, OPT_FLOWS },
		{ "runtime", required_argument, NULL, OPT_RUNTIME },
		{ "name", required_argument, NULL, OPT_NAME },
		{ "log-level", required_argument, NULL, OPT_LEVEL },
		{ "shim", required_argument, NULL, OPT_SHIM },
		{ "metrics-addr", required_argument, NULL, OPT_METRICS },
		{ "label", required_argument, NULL, OPT_LABEL },
		{ "node-generic-resource", required_argument, NULL, OPT_GENERIC },
		{ "version", no_argument, NULL, 'v' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	*o = (struct options){ .name = "mesh",
		               .state = "/var/lib/mesh",
		               .run = "/run/mesh",
		               .data_plane = "auto",
		               .runtime = "crun",
		               .log_level = LOG_INFO_ };
	opterr = 0;
	int rc = 0;
	for (int c; !rc && (c = getopt_long(argc, argv, "vh", longs, NULL)) != -1;) {
		switch (c) {
		case OPT_STATE:
			o->state = optarg;
			break;
		case OPT_RUN:
			o->run = optarg;
			break;
		case OPT_SOCKET:
			o->socket = optarg;
			break;
		case OPT_HOSTNAME:
			o->hostname = optarg;
			break;
		case OPT_ADVERTISE:
			o->advertise_addr = optarg;
			break;
		case OPT_DP:
			o->data_plane = optarg;
			break;
		case OPT_XDP:
			if (strcmp(optarg, "on") && strcmp(optarg, "off"))
				return mesh_fail(err, MESH_E_USAGE, "--xdp '%s': must be on or off", optarg);
			o->xdp = strcmp(optarg, "on") == 0;
			break;
		case OPT_FLOWS:
			if (parse_flows(optarg, &o->flows))
				return mesh_fail(err, MESH_E_USAGE, "--flows '%s': must be %u to %u", optarg, FLOWS_MIN,
				                 FLOWS_MAX);
			break;
		case OPT_RUNTIME:
			o->runtime = optarg;
			break;
		case OPT_NAME:
			o->name = optarg;
			break;
		case OPT_SHIM:
			o->shim = optarg;
			break;
		case OPT_METRICS:
			o->metrics_addr = optarg;
			break;
		case OPT_LABEL:
			rc = parse_label(o, optarg, err);
			break;
		case OPT_GENERIC:
			rc = parse_generic(o, optarg, err);
			break;
		case OPT_LEVEL:
			if (log_level_parse(optarg, &o->log_level))
				return mesh_fail(err, MESH_E_USAGE,
				                 "--log-level '%s': must be debug, info, warn or error", optarg);
			break;
		case 'v':
			printf("meshd version %s\n", MESH_VERSION);
			return 1;
		case 'h':
			fputs(usage, stdout);
			return 1;
		default:
			return mesh_fail(err, MESH_E_USAGE, "unknown option or missing value: %s (see meshd --help)",
			                 argv[optind - 1]);
		}
	}
	if (rc)
		return rc;
	if (optind < argc)
		return mesh_fail(err, MESH_E_USAGE, "unexpected argument '%s' (see meshd --help)", argv[optind]);
	if (strcmp(o->data_plane, "auto") && strcmp(o->data_plane, "ebpf") && strcmp(o->data_plane, "nft"))
		return mesh_fail(err, MESH_E_USAGE, "--data-plane '%s': must be auto, ebpf or nft", o->data_plane);
	if (!o->hostname) {
		if (gethostname(hostname, sizeof(hostname)))
			strcpy(hostname, "localhost");
		o->hostname = hostname;
	}
	if (!o->socket)
		o->socket = default_socket(o->run);
	if (!o->shim)
		o->shim = find_shim();
	return 0;
}
