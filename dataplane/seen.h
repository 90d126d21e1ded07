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
#include "base/map.h"
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
	uint64_t evicted; /* forgotten to make room, of tables that do that */
};
struct dp_stats {
	int64_t time;    /* ns since 1970 */
	char *driver;    /* "ebpf", "nft: why" */
	bool handshakes; /* false: this driver sees neither how a handshake ends nor how long it takes */
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

/* ---- packets on show ---- */

#define DP_WATCHERS_MAX 16
#define DP_NOTES_MAX 32
struct dp_place {
	struct dp_ip ip;
	uint16_t port; /* 0 = any, or none */
};
/* What somebody watches: packets between the two sides, either way; an empty side is anybody. */
struct dp_filter {
	struct VEC(struct dp_place) from, to;
	struct VEC(uint64_t) netns; /* of from's tasks here: a socket that connects has no address yet */
	int protocol;               /* IPPROTO_*, 0 = any */
	bool packets;               /* what passes the filter */
	bool drops;                 /* and whatever is dropped, of anybody */
};
void dp_filter_fini(struct dp_filter *f);

/* A probe as an event shows its answer: verdict "probe", its token, its size as length. */
#define DP_PROBE_MIN 128
#define DP_PROBE_MAX 9216
/* What to send to a node's tunnel port, as UDP: size is that of the whole IPv4 packet. Appends size - 28 bytes. */
void dp_probe_put(struct buf *out, unsigned size, uint64_t token);
/* "10.0.0.1", "10.0.0.1:80". MESH_E_INVALID. */
int dp_place_parse(const char *text, struct dp_place *out) MESH_MUST_CHECK;

/* One packet at one hook. Texts are static. */
struct dp_seen {
	uint64_t mono_ns, netns;
	uint16_t watchers;
	const char *hook, *verdict, *reason, *text;
	struct dp_place from, to, new_from, new_to; /* as it came, as it went */
	struct dp_ip node, target;                  /* other end of the tunnel; the task its frame is for */
	uint32_t vni, ifindex, out_ifindex, length;
	uint16_t ethertype;
	uint8_t protocol, tcp, ttl;
	const char *notes[DP_NOTES_MAX];
	size_t n_notes;
};
/* The same with names, for people. */
struct dp_event {
	int64_t time;
	char *hook, *verdict, *reason, *text;
	char *protocol, *flags;              /* "tcp", "SYN ACK" */
	char *from, *to, *new_from, *new_to; /* "10.0.0.1:80"; new ones empty when nothing was rewritten */
	char *from_name, *to_name;           /* task or service behind the address as it came */
	char *target;                        /* task that is to get it */
	char *peer;                          /* node at the other end of the tunnel */
	char *device, *out_device, *network;
	uint32_t vni, length, ttl;
	uint64_t lost; /* verdict "lost": events that nobody will see, reason says where */
	struct str_list notes;
	uint32_t watchers; /* not in JSON, as are these: */
	uint64_t mono_ns, token;
};
struct dp_events {
	SCH_LIST(struct dp_event) list;
};
extern const struct schema dp_event_schema, dp_events_schema;
/* e, which is empty, says that n events were lost here and now, and why: reason is a word, text a sentence. */
void dp_event_set_lost(struct dp_event *e, uint64_t n, const char *reason, const char *text);

/* Prometheus text of s, appended. */
void dp_stats_prom(const struct dp_stats *s, struct buf *out);

#endif
