/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <string.h>
#include <arpa/inet.h>
#include <stdlib.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/spec.h"
#include "cli/units.h"

/* Is an address or network inside a subnet? Both IPv4 or both IPv6. */
static bool subnet_holds(const char *subnet, const char *addr)
{
	unsigned char net[16] = { 0 }, ip[16] = { 0 };
	CLEAN_FREE char *n = xstrdup(subnet);
	CLEAN_FREE char *a = xstrdup(addr);
	char *slash = strchr(n, '/');
	int bits = slash ? atoi(slash + 1) : -1, family = strchr(subnet, ':') ? AF_INET6 : AF_INET;

	if (slash)
		*slash = 0;
	a[strcspn(a, "/")] = 0;
	if (bits < 0 || bits > (family == AF_INET ? 32 : 128) || inet_pton(family, n, net) != 1 ||
	    inet_pton(family, a, ip) != 1)
		return false;
	for (int i = 0; i < bits; i++)
		if ((net[i / 8] ^ ip[i / 8]) & (0x80 >> i % 8))
			return false;
	return true;
}

static json_t *config_for(json_t *configs, const char *addr)
{
	json_t *cfg;
	size_t i;

	json_array_foreach(configs, i, cfg) if (subnet_holds(js(cfg, "Subnet"), addr)) return cfg;
	return NULL;
}

static int attach_to_subnet(struct cli *c, const char *flag, const char *key, json_t *configs, struct mesh_err *err)
{
	const struct str_list *l = flag_list(c, flag);

	for (size_t i = 0; i < l->n; i++) {
		json_t *cfg = config_for(configs, l->v[i]);
		if (!cfg)
			return mesh_fail(err, MESH_E_INVALID, "no matching subnet for %s %s", flag, l->v[i]);
		if (jo(cfg, key))
			return mesh_fail(err, MESH_E_INVALID, "cannot configure multiple %ss on the same subnet (%s)",
			                 flag, js(cfg, "Subnet"));
		json_object_set_new(cfg, key, json_string(l->v[i]));
	}
	return 0;
}

static int ipam(struct cli *c, json_t *out, struct mesh_err *err)
{
	const struct str_list *subnets = flag_list(c, "subnet"), *aux = flag_list(c, "aux-address");
	json_t *configs = json_array();

	json_object_set_new(out, "Config", configs);
	if (!subnets->n && (flag_given(c, "gateway") || flag_given(c, "ip-range") || aux->n))
		return mesh_fail(err, MESH_E_INVALID, "every ip-range or gateway must have a corresponding subnet");
	for (size_t i = 0; i < subnets->n; i++) {
		json_t *cfg;
		size_t k;
		json_array_foreach(
			configs, k,
			cfg) if (subnet_holds(js(cfg, "Subnet"), subnets->v[i]) ||
		                 subnet_holds(subnets->v[i],
		                              js(cfg, "Subnet"))) return mesh_fail(err, MESH_E_INVALID,
		                                                                   "multiple overlapping subnet "
		                                                                   "configuration is not supported");
		json_array_append_new(configs, json_pack("{s:s}", "Subnet", subnets->v[i]));
	}
	int rc = attach_to_subnet(c, "ip-range", "IPRange", configs, err);
	if (!rc)
		rc = attach_to_subnet(c, "gateway", "Gateway", configs, err);
	for (size_t i = 0; !rc && i < aux->n; i++) {
		const char *eq = strchr(aux->v[i], '=');
		json_t *cfg = eq ? config_for(configs, eq + 1) : NULL;
		if (!cfg)
			return mesh_fail(err, MESH_E_INVALID, "no matching subnet for aux-address %s", aux->v[i]);
		CLEAN_FREE char *name = xstrndup(aux->v[i], (size_t)(eq - aux->v[i]));
		if (!jo(cfg, "AuxiliaryAddresses"))
			jset(cfg, "AuxiliaryAddresses", json_object());
		json_object_set_new(jo(cfg, "AuxiliaryAddresses"), name, json_string(eq + 1));
	}
	return rc;
}

static int run_create(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	JSON_CLEAN config_from =
		*flag_str(c, "config-from") ? json_pack("{s:s}", "Network", flag_str(c, "config-from")) : json_null();
	JSON_CLEAN options = spec_labels(flag_list(c, "opt"));
	JSON_CLEAN ipam_options = spec_labels(flag_list(c, "ipam-opt"));
	JSON_CLEAN labels = spec_labels(flag_list(c, "label"));
	JSON_CLEAN body = json_pack("{s:s,s:s,s:s,s:{s:s,s:O,s:[]},s:b,s:b,s:b,s:b,s:O,s:O,s:O}", "Name", c->args[0],
	                            "Driver", flag_str(c, "driver"), "Scope", flag_str(c, "scope"), "IPAM", "Driver",
	                            flag_str(c, "ipam-driver"), "Options", ipam_options, "Config", "Internal",
	                            flag_bool(c, "internal"), "Attachable", flag_bool(c, "attachable"), "Ingress",
	                            flag_bool(c, "ingress"), "ConfigOnly", flag_bool(c, "config-only"), "ConfigFrom",
	                            config_from, "Options", options, "Labels", labels);
	int rc = ipam(c, jo(body, "IPAM"), err);

	if (rc < 0)
		return rc;
	if (flag_given(c, "ipv6"))
		jset(body, "EnableIPv6", json_boolean(flag_bool(c, "ipv6")));
	if (flag_given(c, "ipv4"))
		jset(body, "EnableIPv4", json_boolean(flag_bool(c, "ipv4")));
	rc = api_post(c, body, &answer, err, "/networks/create");
	if (rc < 0)
		return rc;
	if (*js(answer, "Warning"))
		fprintf(stderr, "WARNING: %s\n", js(answer, "Warning"));
	printf("%s\n", js(answer, "Id"));
	return 0;
}

static const struct column ls_columns[] = {
	{ "ID", "NETWORK ID" }, { "Name", "NAME" },         { "Driver", "DRIVER" }, { "Scope", "SCOPE" },
	{ "IPv6", "IPV6" },     { "Internal", "INTERNAL" }, { "Labels", "LABELS" }, { "CreatedAt", "CREATED AT" },
};
static const struct list_view ls_view = { ls_columns, ARRAY_SIZE(ls_columns),
	                                  "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", "ID" };

static char *labels_text(const json_t *labels)
{
	struct buf b = { 0 };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)labels, key, v)
		buf_printf(&b, "%s%s=%s", b.len ? "," : "", key, json_string_value(v) ?: "");
	return buf_take_str(&b);
}

static int run_ls(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN nets = NULL;
	JSON_CLEAN rows = json_array();
	json_t *n;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	int rc = api_get(c, &nets, err, "/networks%s%s", *filters ? "?" : "", filters);
	if (rc < 0)
		return rc;
	sort_rows(nets, "Name");
	json_array_foreach(nets, i, n)
	{
		CLEAN_FREE char *id = short_id(js(n, "Id"), flag_bool(c, "no-trunc"));
		CLEAN_FREE char *labels = labels_text(jo(n, "Labels"));
		JSON_CLEAN none = json_object();
		json_array_append_new(rows, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:s,s:O}", "ID", id, "Name",
		                                      js(n, "Name"), "Driver", js(n, "Driver"), "Scope", js(n, "Scope"),
		                                      "IPv6", jb(n, "EnableIPv6") ? "true" : "false", "Internal",
		                                      jb(n, "Internal") ? "true" : "false", "Labels", labels,
		                                      "CreatedAt", js(n, "Created"), "Label", jo(n, "Labels") ?: none));
	}
	return list_print(&ls_view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

static int run_inspect(struct cli *c, struct mesh_err *err)
{
	return inspect_each(c, "/networks", flag_bool(c, "verbose") ? "?verbose=true" : "", NULL, err);
}

/* Every published port of the cluster stands on that one. */
static bool ingress_may_stay(struct cli *c, const char *arg)
{
	JSON_CLEAN n = NULL;

	return !api_get(c, &n, NULL, "/networks/%s", arg) && jb(n, "Ingress") &&
	       !confirm("WARNING! Without the routing-mesh network no port is published in mode ingress, until another "
	                "is made "
	                "(network create -d overlay --ingress).\nAre you sure you want to continue?");
}

static int run_rm(struct cli *c, struct mesh_err *err)
{
	int status = 0;

	(void)err;
	for (int i = 0; i < c->nargs; i++) {
		struct mesh_err why = { 0 };
		CLEAN_FREE char *arg = url_dup(c->args[i]);
		if (ingress_may_stay(c, arg))
			continue;
		int rc = api_delete(c, NULL, &why, "/networks/%s", arg);
		if (!rc) {
			printf("%s\n", c->args[i]);
		} else if (rc != MESH_E_NOT_FOUND || !flag_bool(c, "force")) {
			fprintf(stderr, "%s\n", why.msg);
			status = 1;
		}
	}
	if (status)
		fprintf(stderr, "exit status 1\n");
	return status;
}

static int run_prune(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	json_t *v;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	if (!flag_bool(c, "force") && !confirm("WARNING! This will remove all custom networks not used by at least one "
	                                       "container.\nAre you sure you want to continue?"))
		return 0;
	int rc = api_post(c, NULL, &answer, err, "/networks/prune%s%s", *filters ? "?" : "", filters);
	if (rc < 0)
		return rc;
	if (json_array_size(jo(answer, "NetworksDeleted")))
		printf("Deleted Networks:\n");
	json_array_foreach(jo(answer, "NetworksDeleted"), i, v) printf("%s\n", json_string_value(v));
	if (json_array_size(jo(answer, "NetworksDeleted")))
		printf("\n");
	return 0;
}

static int run_connect(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *net = url_dup(c->args[0]);
	JSON_CLEAN body = json_pack("{s:s,s:{}}", "Container", c->args[1], "EndpointConfig");
	const struct str_list *aliases = flag_list(c, "alias");

	if (aliases->n)
		jset(body, "EndpointConfig.Aliases", json_array());
	for (size_t i = 0; i < aliases->n; i++)
		json_array_append_new(jo(body, "EndpointConfig.Aliases"), json_string(aliases->v[i]));
	if (flag_given(c, "ip"))
		jset(body, "EndpointConfig.IPAMConfig.IPv4Address", json_string(flag_str(c, "ip")));
	if (flag_given(c, "ip6"))
		jset(body, "EndpointConfig.IPAMConfig.IPv6Address", json_string(flag_str(c, "ip6")));
	return api_post(c, body, NULL, err, "/networks/%s/connect", net);
}

static int run_disconnect(struct cli *c, struct mesh_err *err)
{
	CLEAN_FREE char *net = url_dup(c->args[0]);
	JSON_CLEAN body = json_pack("{s:s,s:b}", "Container", c->args[1], "Force", flag_bool(c, "force"));

	return api_post(c, body, NULL, err, "/networks/%s/disconnect", net);
}

static const struct flag create_flags[] = {
	{ "attachable", 0, F_BOOL, NULL, NULL, "Enable manual container attachment" },
	{ "aux-address", 0, F_LIST, "map", NULL, "Auxiliary IPv4 or IPv6 addresses used by Network driver" },
	{ "config-from", 0, F_STR, NULL, NULL, "The network from which to copy the configuration" },
	{ "config-only", 0, F_BOOL, NULL, NULL, "Create a configuration only network" },
	{ "driver", 'd', F_STR, NULL, "overlay", "Driver to manage the Network" },
	{ "gateway", 0, F_LIST, "strings", NULL, "IPv4 or IPv6 Gateway for the master subnet" },
	{ "ingress", 0, F_BOOL, NULL, NULL, "Create swarm routing-mesh network" },
	{ "internal", 0, F_BOOL, NULL, NULL, "Restrict external access to the network" },
	{ "ip-range", 0, F_LIST, "strings", NULL, "Allocate container ip from a sub-range" },
	{ "ipam-driver", 0, F_STR, NULL, "default", "IP Address Management Driver" },
	{ "ipam-opt", 0, F_LIST, "map", NULL, "Set IPAM driver specific options" },
	{ "ipv4", 0, F_BOOL, NULL, "true", "Enable or disable IPv4 address assignment" },
	{ "ipv6", 0, F_BOOL, NULL, NULL, "Enable or disable IPv6 address assignment" },
	{ "label", 0, F_LIST, NULL, NULL, "Set metadata on a network" },
	{ "opt", 'o', F_LIST, "map", NULL, "Set driver specific options" },
	{ "scope", 0, F_STR, NULL, NULL, "Control the network's scope" },
	{ "subnet", 0, F_LIST, "strings", NULL, "Subnet in CIDR format that represents a network segment" },
};

static const struct flag ls_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Provide filter values (e.g. \"driver=bridge\")" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "no-trunc", 0, F_BOOL, NULL, NULL, "Do not truncate the output" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display network IDs" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "verbose", 'v', F_BOOL, NULL, NULL, "Verbose output for diagnostics" },
};

static const struct flag rm_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Do not error if the network does not exist" },
};

static const struct flag prune_flags[] = {
	{ "filter", 0, F_LIST, "filter", NULL, "Provide filter values (e.g. \"until=<timestamp>\")" },
	{ "force", 'f', F_BOOL, NULL, NULL, "Do not prompt for confirmation" },
};

static const struct flag disconnect_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Force the container to disconnect from a network" },
};

static const struct flag connect_flags[] = {
	{ "alias", 0, F_LIST, NULL, NULL, "Add network-scoped alias for the container" },
	{ "ip", 0, F_STR, NULL, NULL, "IPv4 address (e.g., \"172.30.100.104\")" },
	{ "ip6", 0, F_STR, NULL, NULL, "IPv6 address (e.g., \"2001:db8::33\")" },
};
static const struct command sub_create = {
	.name = "create",
	.usage = "NETWORK",
	.summary = "Create a network",
	FLAGS(create_flags),
	.run = run_create,
	.min = 1,
	.max = 1,
	.example = "  meshctl network create -d overlay --subnet 10.77.0.0/24 backend",
};
static const struct command sub_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List networks",
	FLAGS(ls_flags),
	.run = run_ls,
	.example = "  meshctl network ls --filter driver=overlay",
};
static const struct command sub_inspect = {
	.name = "inspect",
	.usage = "NETWORK [NETWORK...]",
	.summary = "Display detailed information on one or more networks",
	FLAGS(inspect_flags),
	.run = run_inspect,
	.min = 1,
	.max = -1,
	.comp = "network",
	.example = "  meshctl network inspect --format '{{json .IPAM.Config}}' backend",
};
static const struct command sub_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "NETWORK [NETWORK...]",
	.summary = "Remove one or more networks",
	FLAGS(rm_flags),
	.run = run_rm,
	.min = 1,
	.max = -1,
	.comp = "network",
	.example = "  meshctl network rm backend",
};
static const struct command sub_prune = {
	.name = "prune",
	.summary = "Remove all unused networks",
	FLAGS(prune_flags),
	.run = run_prune,
	.example = "  meshctl network prune -f",
};
static const struct command sub_connect = {
	.name = "connect",
	.usage = "NETWORK CONTAINER",
	.summary = "Connect a container to a network",
	FLAGS(connect_flags),
	.run = run_connect,
	.min = 2,
	.max = 2,
	.comp = "network",
	.example = "  meshctl network connect backend 0ae439a8ed7d",
};
static const struct command sub_disconnect = {
	.name = "disconnect",
	.usage = "NETWORK CONTAINER",
	.summary = "Disconnect a container from a network",
	FLAGS(disconnect_flags),
	.run = run_disconnect,
	.min = 2,
	.max = 2,
	.comp = "network",
	.example = "  meshctl network disconnect backend 0ae439a8ed7d",
};

static const struct command *const subs[] = { &sub_connect, &sub_create, &sub_disconnect, &sub_inspect,
	                                      &sub_ls,      &sub_prune,  &sub_rm,         NULL };
const struct command cmd_network = {
	.name = "network",
	.summary = "Manage networks",
	.subs = subs,
};
