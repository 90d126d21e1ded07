/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    what a node must be able to route to, as plain objects. The manager sends these as one snapshot
 *          and then numbered deltas (docs/architecture.md); the data plane makes the kernel match them.
 * Owner:   a struct dp_delta owns its objects; dp_delta_free frees all. dp_submit takes it.
 * Scope:   a node gets the objects of the networks its own tasks are on, and of the ingress network.
 *          The backends of a service on a network are the endpoints there that name the service, or those of the
 *          services its split names.
 * Order:   dp_ip holds network byte order; ports are host order here and network order in BPF maps.
 */
#ifndef DATAPLANE_STATE_H
#define DATAPLANE_STATE_H

#include "base/id.h"
#include "base/schema.h"

/* An IPv6 address; IPv4 as ::ffff:a.b.c.d. All zero: none. */
struct dp_ip {
	uint8_t b[16];
};

enum dp_backend_state {
	DP_STARTING, /* has its place and name, gets no new traffic */
	DP_SERVING,
	DP_DRAINING, /* old flows only; out of names */
	DP_BACKEND_STATE_MAX
};
extern const struct sch_enum dp_backend_state_names; /* "starting", "serving", "draining" */

/* A machine of the cluster: where tunnelled packets for its tasks go. */
struct dp_node {
	node_id id;
	char *hostname;
	char *addr; /* underlay address text */
};

struct dp_network {
	network_id id;
	char *name;
	uint32_t vni;  /* 24 bits; 0 = local to the node, never tunnelled */
	char *subnet;  /* "10.0.1.0/24" */
	char *gateway; /* "10.0.1.1": ours on every node, the way out */
	bool internal; /* no way out */
	bool ingress;  /* carries published ports */
	uint32_t mtu;  /* 0 = derived from the underlay */
};

/* A task's place on a network. Key: task + network. */
struct dp_endpoint {
	task_id task;
	network_id network;
	service_id service; /* empty for standalone containers */
	node_id node;
	char *addr;            /* "10.0.1.5", no prefix */
	int state;             /* enum dp_backend_state */
	uint32_t weight;       /* 0 = 1 */
	struct str_list names; /* names of this task alone: "web.1.<id>", container id, its own aliases */
};

extern const struct sch_enum dp_protocol_names; /* "tcp" at IPPROTO_TCP, ... */
struct dp_port {
	int protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	uint32_t published, target;
};

/* May a published port's traffic leave the node it came in at? */
enum dp_local { DP_LOCAL_OFF, DP_LOCAL_PREFER, DP_LOCAL_REQUIRE, DP_LOCAL_MAX };
extern const struct sch_enum dp_local_names; /* "off", "prefer", "require" */

struct dp_share {
	service_id service;
	uint32_t weight; /* of all its tasks together; 0: old flows only */
};

/* A service on one network. Key: service + network. */
struct dp_service {
	service_id id;
	network_id network;
	char *name;
	struct str_list aliases;        /* resolve like the name */
	char *vip;                      /* "10.0.1.2"; empty for dnsrr: names give the backends */
	SCH_LIST(struct dp_port) ports; /* routing mesh; only on the ingress network */
	bool direct_return;
	uint32_t affinity_s;                /* client affinity timeout, 0 = none */
	int local;                          /* enum dp_local */
	struct str_list sources, addresses; /* CIDR texts: who may dial its ports, and where; none = all */
	SCH_LIST(struct dp_share) split;    /* whose tasks serve it, by weight; none = its own alone */
};

enum dp_kind { DP_NODE, DP_NETWORK, DP_SERVICE, DP_ENDPOINT, DP_KIND_MAX };

/* One change. For a removal only the key fields of the object are set. */
struct dp_change {
	int kind; /* enum dp_kind */
	bool del;
	struct dp_node *node; /* the one that kind names, others NULL */
	struct dp_network *network;
	struct dp_service *service;
	struct dp_endpoint *endpoint;
};

struct dp_delta {
	uint64_t version; /* of the state after this; acknowledged with the same number */
	bool snapshot;    /* the whole state: whatever it does not name goes */
	node_id self;     /* which dp_node is this machine */
	SCH_LIST(struct dp_change) changes;
};

extern const struct schema dp_node_schema, dp_network_schema, dp_service_schema, dp_endpoint_schema, dp_change_schema,
	dp_delta_schema;

static inline void dp_delta_free(struct dp_delta *d)
{
	sch_free(&dp_delta_schema, d);
}

/* Text to address; MESH_E_INVALID. "10.0.1.5/24" sets *prefix (nullable; 32/128 without one). */
int dp_ip_parse(const char *text, struct dp_ip *out, unsigned *prefix) MESH_MUST_CHECK;
#define DP_IP_TEXT_MAX 46
const char *dp_ip_format(const struct dp_ip *ip, char out[DP_IP_TEXT_MAX]);
static inline bool dp_ip_is_v4(const struct dp_ip *ip)
{
	static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
	return memcmp(ip->b, prefix, 12) == 0;
}
/* 02:42 and the four address bytes, so that a frame's MAC names its task (v6: a hash). */
void dp_mac_of(const struct dp_ip *ip, uint8_t mac[6]);

#endif
