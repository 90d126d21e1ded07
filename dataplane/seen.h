/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the data plane of a node has counted, as plain objects with schemas: they go between nodes, into JSON
 *         and into Prometheus text. Pure.
 * Owner:  a struct dp_stats owns what it holds (sch_clear with dp_stats_schema).
 * Counts: since the programs were first loaded; a backend's since it got its place. They survive a restart of meshd.
 */
#ifndef DATAPLANE_SEEN_H
#define DATAPLANE_SEEN_H

#include "base/buf.h"
#include "dataplane/state.h"

/* Of one backend, on this node. As struct abi_stats, bpf/abi.h. */
struct dp_counters {
	uint64_t packets_in, bytes_in, packets_out, bytes_out;                 /* published ports; in: to the task */
	uint64_t net_packets_in, net_bytes_in, net_packets_out, net_bytes_out; /* the rest on its network */
	uint64_t conns, failed;
	uint64_t opened, open_ns; /* handshakes that ended well, and how long they took together */
	uint64_t resets_task, resets_peer;
};

struct dp_backend_stats {
	task_id task;
	char *name; /* "web.1.<task id>" or the id */
	char *addr;
	node_id node;
	bool local; /* the task runs here */
	int state;  /* enum dp_backend_state */
	struct dp_counters counters;
};
/* A published port and how many tasks serve it, anywhere. */
struct dp_port_stats {
	uint32_t port;
	int protocol;
	uint64_t serving;
};
struct dp_service_stats {
	service_id id;
	char *name, *network;
	uint64_t refused; /* packets and sockets that found no serving task */
	SCH_LIST(struct dp_backend_stats) backends;
};
/* A counter of a family that differs by one label: a drop reason, an event. */
struct dp_count {
	char *id, *text;
	uint64_t n;
};
struct dp_table_stats {
	char *name;
	uint64_t used, max;
};
struct dp_stats {
	int64_t time;     /* ns since 1970 */
	char *driver;     /* "ebpf", "nft: why" */
	bool per_backend; /* false: this driver counts connections only */
	uint64_t version, tasks, passes, ops, failures;
	uint64_t sockets_closed; /* of tasks, because their peer is gone */
	SCH_LIST(struct dp_service_stats) services;
	SCH_LIST(struct dp_port_stats) ports;
	SCH_LIST(struct dp_count) drops;
	SCH_LIST(struct dp_count) events;
	SCH_LIST(struct dp_count) dns;
	SCH_LIST(struct dp_table_stats) tables;
};
extern const struct schema dp_stats_schema;

/* Prometheus text of s, appended. */
void dp_stats_prom(const struct dp_stats *s, struct buf *out);

#endif
