/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/state.h"

#include <arpa/inet.h>
#include <stdio.h>

#include "base/map.h"

static const char *const state_text[] = { "starting", "serving", "draining" };
const struct sch_enum dp_backend_state_names = { state_text, DP_BACKEND_STATE_MAX };
static const char *const kind_text[] = { "node", "network", "service", "endpoint" };
static const struct sch_enum kind_names = { kind_text, DP_KIND_MAX };

#define T struct dp_node
static const struct sch_field node_fields[] = {
	SF(1, ID, "id", id, 0),
	SF(2, STR, "hostname", hostname, 0),
	SF(3, STR, "addr", addr, 0),
};
SCHEMA(dp_node_schema, dp_node, node_fields);
#undef T
#define T struct dp_network
static const struct sch_field network_fields[] = {
	SF(1, ID, "id", id, 0),
	SF(2, STR, "name", name, 0),
	SF(3, U32, "vni", vni, 0),
	SF(4, STR, "subnet", subnet, 0),
	SF(5, STR, "gateway", gateway, 0),
	SF(6, BOOL, "internal", internal, 0),
	SF(7, BOOL, "ingress", ingress, 0),
	SF(8, U32, "mtu", mtu, 0),
};
SCHEMA(dp_network_schema, dp_network, network_fields);
#undef T
#define T struct dp_endpoint
static const struct sch_field endpoint_fields[] = {
	SF(1, ID, "task", task, 0),       SF(2, ID, "network", network, 0),
	SF(3, ID, "service", service, 0), SF(4, ID, "node", node, 0),
	SF(5, STR, "addr", addr, 0),      SF_ENUM(6, "state", state, &dp_backend_state_names, 0),
	SF(7, U32, "weight", weight, 0),  SF(8, STRS, "names", names, 0),
};
SCHEMA(dp_endpoint_schema, dp_endpoint, endpoint_fields);
#undef T
static const char *const proto_text[IPPROTO_SCTP + 1] = {
	[0] = "", [IPPROTO_TCP] = "tcp", [IPPROTO_UDP] = "udp", [IPPROTO_SCTP] = "sctp"
};
const struct sch_enum dp_protocol_names = { proto_text, IPPROTO_SCTP + 1 };
#define T struct dp_port
static const struct sch_field dp_port_fields[] = {
	SF(1, U32, "published", published, 0),
	SF(2, U32, "target", target, 0),
	SF_ENUM(3, "protocol", protocol, &dp_protocol_names, 0),
};
static SCHEMA(dp_port_schema, dp_port, dp_port_fields);
#undef T
static const char *const local_text[] = { "off", "prefer", "require" };
const struct sch_enum dp_local_names = { local_text, DP_LOCAL_MAX };
#define T struct dp_share
static const struct sch_field share_fields[] = {
	SF(1, ID, "service", service, 0),
	SF(2, U32, "weight", weight, 0),
};
static SCHEMA(dp_share_schema, dp_share, share_fields);
#undef T
#define T struct dp_service
static const struct sch_field service_fields[] = {
	SF(1, ID, "id", id, 0),
	SF(2, ID, "network", network, 0),
	SF(3, STR, "name", name, 0),
	SF(4, STRS, "aliases", aliases, 0),
	SF(5, STR, "vip", vip, 0),
	SF_LIST(6, "ports", ports, &dp_port_schema, 0),
	SF(7, BOOL, "direct_return", direct_return, 0),
	SF(8, U32, "affinity_s", affinity_s, 0),
	SF_ENUM(9, "local", local, &dp_local_names, 0),
	SF(10, STRS, "sources", sources, 0),
	SF(11, STRS, "addresses", addresses, 0),
	SF_LIST(12, "split", split, &dp_share_schema, 0),
};
SCHEMA(dp_service_schema, dp_service, service_fields);
#undef T
#define T struct dp_change
static const struct sch_field change_fields[] = {
	SF_ENUM(1, "kind", kind, &kind_names, 0),
	SF(2, BOOL, "del", del, 0),
	SF_PTR(3, "node", node, &dp_node_schema, 0),
	SF_PTR(4, "network", network, &dp_network_schema, 0),
	SF_PTR(5, "service", service, &dp_service_schema, 0),
	SF_PTR(6, "endpoint", endpoint, &dp_endpoint_schema, 0),
};
SCHEMA(dp_change_schema, dp_change, change_fields);
#undef T
#define T struct dp_delta
static const struct sch_field delta_fields[] = {
	SF(1, U64, "version", version, 0),
	SF(2, BOOL, "snapshot", snapshot, 0),
	SF(3, ID, "self", self, 0),
	SF_LIST(4, "changes", changes, &dp_change_schema, 0),
};
SCHEMA(dp_delta_schema, dp_delta, delta_fields);
#undef T

int dp_ip_parse(const char *text, struct dp_ip *out, unsigned *prefix)
{
	char host[64];
	const char *slash = text ? strchr(text, '/') : NULL;
	size_t n = slash ? (size_t)(slash - text) : (text ? strlen(text) : 0);
	if (!n || n >= sizeof(host))
		return MESH_E_INVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	unsigned bits;
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, host, out->b + 12) == 1) {
		out->b[10] = out->b[11] = 0xff;
		bits = 32;
	} else if (inet_pton(AF_INET6, host, out->b) == 1) {
		bits = 128;
	} else {
		return MESH_E_INVALID;
	}
	if (slash) {
		char *end;
		unsigned long v = strtoul(slash + 1, &end, 10);
		if (!slash[1] || *end || v > bits)
			return MESH_E_INVALID;
		bits = (unsigned)v;
	}
	if (prefix)
		*prefix = bits;
	return 0;
}

const char *dp_ip_format(const struct dp_ip *ip, char out[DP_IP_TEXT_MAX])
{
	if (dp_ip_is_v4(ip))
		inet_ntop(AF_INET, ip->b + 12, out, DP_IP_TEXT_MAX);
	else
		inet_ntop(AF_INET6, ip->b, out, DP_IP_TEXT_MAX);
	return out;
}

void dp_mac_of(const struct dp_ip *ip, uint8_t mac[6])
{
	mac[0] = 0x02;
	mac[1] = 0x42;
	if (dp_ip_is_v4(ip)) {
		memcpy(mac + 2, ip->b + 12, 4);
		return;
	}
	uint32_t h = hash32(ip->b, 16);
	mac[1] = 0x46;
	memcpy(mac + 2, &h, 4);
}
