/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/meshd/options.h"

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
	"      --flows N              connections a node remembers, in each of its tables (default 65536)\n"
	"      --runtime PROGRAM      OCI runtime (default crun)\n"
	"      --name NAME            mark in names of cgroups and devices (default mesh)\n"
	"      --log-level LEVEL      debug, info, warn or error (default info)\n"
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
		OPT_FLOWS,
		OPT_RUNTIME,
		OPT_NAME,
		OPT_LEVEL,
		OPT_SHIM,
		OPT_METRICS
	};
	static const struct option longs[] = {
		{ "state", required_argument, NULL, OPT_STATE },
		{ "run", required_argument, NULL, OPT_RUN },
		{ "socket", required_argument, NULL, OPT_SOCKET },
		{ "hostname", required_argument, NULL, OPT_HOSTNAME },
		{ "advertise-addr", required_argument, NULL, OPT_ADVERTISE },
		{ "data-plane", required_argument, NULL, OPT_DP },
		{ "flows", required_argument, NULL, OPT_FLOWS },
		{ "runtime", required_argument, NULL, OPT_RUNTIME },
		{ "name", required_argument, NULL, OPT_NAME },
		{ "log-level", required_argument, NULL, OPT_LEVEL },
		{ "shim", required_argument, NULL, OPT_SHIM },
		{ "metrics-addr", required_argument, NULL, OPT_METRICS },
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
	for (int c; (c = getopt_long(argc, argv, "vh", longs, NULL)) != -1;) {
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
