/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the driver's tables should hold, and the ordered operations from what they hold to that. Pure.
 * Order:  make before break: sets in the order of the kinds (what is referred to first), then removals in the
 *         opposite order. What keeps its key is replaced in place, so nothing can collide.
 * Scope:  everything, or the claims (dataplane/desired.h) that changed: what that costs does not depend on how much
 *         there is. Both come from the same code, claim by claim.
 * Owner:  a table owns its items.
 */
#ifndef DATAPLANE_PLAN_H
#define DATAPLANE_PLAN_H

#include "dataplane/desired.h"
#include "dataplane/ebpf/ebpf.h"

enum item_kind {
	ITEM_HOST_ADDR,
	ITEM_NODE,
	ITEM_NETWORK,
	ITEM_ENDPOINT,
	ITEM_SERVICE,
	ITEM_VIP,
	ITEM_PORT,
	ITEM_KIND_MAX
};

struct item {
	enum item_kind kind;
	struct dp_ip addr; /* HOST_ADDR, NODE, VIP */
	uint64_t service;  /* VIP */
	union {
		struct ebpf_network network;
		struct ebpf_endpoint endpoint;
		struct ebpf_port port;
		struct {
			struct ebpf_service svc; /* .backends points to backends.data, .ranges to ranges.data */
			struct VEC(struct ebpf_backend) backends;
			struct VEC(struct ebpf_range) ranges;
		};
	};
};
struct item *item_new(enum item_kind kind);
void item_free(struct item *i);
struct item *item_dup(const struct item *i);
bool item_equal(const struct item *a, const struct item *b);
/* Text of what it is, for messages: "port 8080/tcp". */
const char *item_format(const struct item *i, char out[96]);

/* What tells an item from all others in a table. */
#define PLAN_KEY_MAX 96
const char *plan_key(const struct item *i, char out[PLAN_KEY_MAX]);
const char *plan_proto_text(uint8_t proto);

/* key text -> struct item */
struct plan_table {
	struct map items;
};
void plan_table_fini(struct plan_table *t);
/* Takes i. The first of two with the same key wins; false: i was the second and is gone. */
bool plan_table_add(struct plan_table *t, struct item *i);
/* Records that i (taken) is in force. */
void plan_table_put(struct plan_table *t, struct item *i);
void plan_table_del(struct plan_table *t, const struct item *i);
const struct item *plan_table_get(const struct plan_table *t, const struct item *like);

/* A task's interface as this node knows it, beside what the manager says. */
struct plan_iface {
	task_id task;
	network_id network; /* empty: the local network */
	uint32_t vni;
	struct dp_ip ip;
};
struct plan_host_port {
	struct dp_port port;
	uint32_t vni;
	struct dp_ip ip;
};
struct plan_in {
	const struct desired *desired;
	bool all; /* look at everything, not only at desired->dirty */
	struct dp_ip self;
	const struct dp_ip *host_addrs;
	size_t n_host_addrs;
	const struct plan_iface *ifaces; /* of the attached tasks */
	size_t n_ifaces;
	const struct plan_host_port *host_ports; /* of the attached tasks */
	size_t n_host_ports;
	const struct map *down; /* task ids that ended here: no backends any more, whatever the manager knows yet */
	struct ebpf_network local;
	/* Who listens there on the host itself: a process, "" when that is unknown; NULL: nobody. */
	const char *(*taken)(void *arg, uint8_t proto, uint16_t port);
	void *arg;
	const struct plan_table *have; /* a published port that is in force stays so when the host listens later */
};
struct plan {
	struct plan_table want;
	bool all;            /* everything was looked at */
	struct map examined; /* else: key text of an item whose place was -> the claim's key */
};
void plan_fini(struct plan *p);
/*
 * problems: claim key -> what an operator must hear (ports refused, ports published twice, bad addresses), kept from
 * pass to pass: those of the claims looked at are replaced. The maps own the text.
 */
void plan_want(const struct plan_in *in, struct plan *out, struct map *problems);

struct plan_op {
	bool del;
	uint32_t lost_vni;       /* of an endpoint that goes */
	const struct item *item; /* of want, or of have when del; borrowed */
	const char *claim;       /* whose this is; NULL when all were looked at */
};
struct plan_ops VEC(struct plan_op);
void plan_diff(const struct plan_table *have, const struct plan *plan, struct plan_ops *out);

/*
 * plan_services.c: a service with its backends. Which of them take new flows here, and with which weight, follows
 * from the split and from whether traffic may leave the node.
 */
struct wanting;
struct item *plan_service_item(struct wanting *w, const struct plan_in *in, const struct dp_service *s, uint32_t vni);
/* Where an endpoint is. False when it has no place a packet could go to. */
struct plan_place {
	const struct dp_network *net;
	struct dp_ip ip, node;
	bool local;
};
bool plan_place_of(const struct plan_in *in, const struct dp_endpoint *e, struct plan_place *out);
/* About the claim that is looked at. */
void plan_problem(struct wanting *w, const char *fmt, ...) MESH_PRINTF(2, 3);

/* 64-bit name of a service on a network for the driver; never 0. */
uint64_t plan_service_key(const service_id *s, const network_id *n);

#endif
