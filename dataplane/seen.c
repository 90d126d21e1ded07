/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/seen.h"

#include "base/clock.h"
#include "base/mem.h"
#include "base/prom.h"

#define T struct dp_counters
static const struct sch_field counters_fields[] = {
	SF(1, U64, "PacketsIn", packets_in, SCH_ALWAYS),
	SF(2, U64, "BytesIn", bytes_in, SCH_ALWAYS),
	SF(3, U64, "PacketsOut", packets_out, SCH_ALWAYS),
	SF(4, U64, "BytesOut", bytes_out, SCH_ALWAYS),
	SF(5, U64, "NetworkPacketsIn", net_packets_in, SCH_ALWAYS),
	SF(6, U64, "NetworkBytesIn", net_bytes_in, SCH_ALWAYS),
	SF(7, U64, "NetworkPacketsOut", net_packets_out, SCH_ALWAYS),
	SF(8, U64, "NetworkBytesOut", net_bytes_out, SCH_ALWAYS),
	SF(9, U64, "Connections", conns, SCH_ALWAYS),
	SF(10, U64, "Failed", failed, SCH_ALWAYS),
	SF(11, U64, "Opened", opened, SCH_ALWAYS),
	SF(12, U64, "OpenNanoseconds", open_ns, SCH_ALWAYS),
	SF(13, U64, "ResetsByTask", resets_task, SCH_ALWAYS),
	SF(14, U64, "ResetsByPeer", resets_peer, SCH_ALWAYS),
};
static SCHEMA(dp_counters_schema, dp_counters, counters_fields);
#undef T
#define T struct dp_backend_stats
static const struct sch_field backend_fields[] = {
	SF(1, ID, "TaskID", task, 0),
	SF(2, STR, "Task", name, 0),
	SF(3, STR, "Addr", addr, 0),
	SF(4, ID, "NodeID", node, 0),
	SF(5, BOOL, "Local", local, SCH_ALWAYS),
	SF_ENUM(6, "State", state, &dp_backend_state_names, SCH_ALWAYS),
	SF_OBJ(7, "Counters", counters, &dp_counters_schema, SCH_INLINE),
};
static SCHEMA(dp_backend_stats_schema, dp_backend_stats, backend_fields);
#undef T
#define T struct dp_service_stats
static const struct sch_field service_fields[] = {
	SF(1, ID, "ID", id, 0),
	SF(2, STR, "Name", name, 0),
	SF(3, STR, "Network", network, 0),
	SF(4, U64, "Refused", refused, SCH_ALWAYS),
	SF_LIST(5, "Backends", backends, &dp_backend_stats_schema, SCH_ALWAYS),
};
static SCHEMA(dp_service_stats_schema, dp_service_stats, service_fields);
#undef T
#define T struct dp_count
static const struct sch_field count_fields[] = {
	SF(1, STR, "ID", id, 0),
	SF(2, STR, "Text", text, 0),
	SF(3, U64, "Count", n, SCH_ALWAYS),
};
static SCHEMA(dp_count_schema, dp_count, count_fields);
#undef T
#define T struct dp_table_stats
static const struct sch_field table_fields[] = {
	SF(1, STR, "Name", name, 0),
	SF(2, U64, "Used", used, SCH_ALWAYS),
	SF(3, U64, "Max", max, SCH_ALWAYS),
	SF(4, U64, "Evicted", evicted, SCH_ALWAYS),
};
static SCHEMA(dp_table_stats_schema, dp_table_stats, table_fields);
#undef T
#define T struct dp_port_stats
static const struct sch_field port_fields[] = {
	SF(1, U32, "Port", port, SCH_ALWAYS),
	SF_ENUM(2, "Protocol", protocol, &dp_protocol_names, SCH_ALWAYS),
	SF(3, U64, "Serving", serving, SCH_ALWAYS),
};
static SCHEMA(dp_port_stats_schema, dp_port_stats, port_fields);
#undef T
#define T struct dp_stats
static const struct sch_field stats_fields[] = {
	SF(1, TIME, "Time", time, SCH_ALWAYS),
	SF(2, STR, "Driver", driver, SCH_ALWAYS),
	SF(16, BOOL, "Handshakes", handshakes, SCH_ALWAYS),
	SF(4, U64, "Version", version, SCH_ALWAYS),
	SF(5, U64, "Tasks", tasks, SCH_ALWAYS),
	SF(6, U64, "Passes", passes, SCH_ALWAYS),
	SF(7, U64, "Operations", ops, SCH_ALWAYS),
	SF(8, U64, "Failures", failures, SCH_ALWAYS),
	SF(15, U64, "SocketsClosed", sockets_closed, SCH_ALWAYS),
	SF_LIST(9, "Services", services, &dp_service_stats_schema, SCH_ALWAYS),
	SF_LIST(10, "Drops", drops, &dp_count_schema, SCH_ALWAYS),
	SF_LIST(11, "Events", events, &dp_count_schema, SCH_ALWAYS),
	SF_LIST(12, "DNS", dns, &dp_count_schema, SCH_ALWAYS),
	SF_LIST(14, "Ports", ports, &dp_port_stats_schema, SCH_ALWAYS),
	SF_LIST(13, "Tables", tables, &dp_table_stats_schema, SCH_ALWAYS),
};
SCHEMA(dp_stats_schema, dp_stats, stats_fields);
#undef T

#define T struct dp_event
static const struct sch_field event_fields[] = {
	SF(1, TIME, "Time", time, SCH_ALWAYS),
	SF(2, STR, "Hook", hook, SCH_ALWAYS),
	SF(3, STR, "Verdict", verdict, SCH_ALWAYS),
	SF(4, STR, "Reason", reason, 0),
	SF(5, STR, "ReasonText", text, 0),
	SF(6, STR, "Protocol", protocol, SCH_ALWAYS),
	SF(7, STR, "Flags", flags, 0),
	SF(8, STR, "From", from, SCH_ALWAYS),
	SF(9, STR, "To", to, SCH_ALWAYS),
	SF(10, STR, "NewFrom", new_from, 0),
	SF(11, STR, "NewTo", new_to, 0),
	SF(12, STR, "FromName", from_name, 0),
	SF(13, STR, "ToName", to_name, 0),
	SF(14, STR, "Target", target, 0),
	SF(15, STR, "Peer", peer, 0),
	SF(16, STR, "Device", device, 0),
	SF(17, STR, "OutDevice", out_device, 0),
	SF(18, STR, "Network", network, 0),
	SF(19, U32, "VNI", vni, 0),
	SF(20, U32, "Length", length, SCH_ALWAYS),
	SF(21, U32, "TTL", ttl, 0),
	SF(22, STRS, "Notes", notes, 0),
	SF(23, U32, "Watchers", watchers, SCH_INTERNAL),
	SF(24, U64, "Lost", lost, 0),
};
SCHEMA(dp_event_schema, dp_event, event_fields);
#undef T
#define T struct dp_events
static const struct sch_field events_fields[] = { SF_LIST(1, "Events", list, &dp_event_schema, SCH_ALWAYS) };
SCHEMA(dp_events_schema, dp_events, events_fields);
#undef T

void dp_event_set_lost(struct dp_event *e, uint64_t n, const char *reason, const char *text)
{
	e->time = clock_wall_ns();
	e->lost = n;
	str_set(&e->hook, "");
	str_set(&e->protocol, "");
	str_set(&e->from, "");
	str_set(&e->to, "");
	str_set(&e->verdict, "lost");
	str_set(&e->reason, reason);
	str_set(&e->text, text);
}

void dp_filter_fini(struct dp_filter *f)
{
	vec_fini(&f->from);
	vec_fini(&f->to);
	vec_fini(&f->netns);
}

int dp_place_parse(const char *text, struct dp_place *out)
{
	char host[DP_IP_TEXT_MAX];
	const char *colon = strchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	char *end;
	if (n >= sizeof(host))
		return MESH_E_INVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;
	if (colon && (!colon[1] || *end || !port || port > 65535))
		return MESH_E_INVALID;
	out->port = (uint16_t)port;
	int rc = dp_ip_parse(host, &out->ip, NULL);
	return rc || strchr(host, '/') || !dp_ip_is_v4(&out->ip) ? MESH_E_INVALID : 0;
}

/* ---- Prometheus ---------------------------------------------------------------------------------- */

static void single(struct buf *b, const char *name, const char *type, const char *help, uint64_t v)
{
	prom_family(b, name, type, help);
	prom_u64(b, name, v, PROM_END);
}

typedef void (*backend_fn)(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k);

static void each_backend(struct buf *b, const struct dp_stats *s, backend_fn fn)
{
	for (size_t i = 0; i < s->services.n; i++)
		for (size_t k = 0; k < s->services.v[i].backends.n; k++)
			fn(b, &s->services.v[i], &s->services.v[i].backends.v[k]);
}

#define OF_BACKEND(s, k) "service", (s)->name, "network", (s)->network, "task", (k)->name

static void four(struct buf *b, const char *name, const struct dp_service_stats *s, const struct dp_backend_stats *k,
                 const uint64_t v[4])
{
	static const char *const paths[] = { "published", "published", "network", "network" };
	static const char *const ways[] = { "in", "out", "in", "out" };
	for (int i = 0; i < 4; i++)
		prom_u64(b, name, v[i], OF_BACKEND(s, k), "path", paths[i], "direction", ways[i], PROM_END);
}

static void on_packets(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	const struct dp_counters *c = &k->counters;
	const uint64_t v[] = { c->packets_in, c->packets_out, c->net_packets_in, c->net_packets_out };
	four(b, "mesh_backend_packets_total", s, k, v);
}

static void on_bytes(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	const struct dp_counters *c = &k->counters;
	const uint64_t v[] = { c->bytes_in, c->bytes_out, c->net_bytes_in, c->net_bytes_out };
	four(b, "mesh_backend_bytes_total", s, k, v);
}

static void on_conns(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	prom_u64(b, "mesh_backend_connections_total", k->counters.conns, OF_BACKEND(s, k), PROM_END);
}

static void on_failed(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	prom_u64(b, "mesh_backend_connections_failed_total", k->counters.failed, OF_BACKEND(s, k), PROM_END);
}

static void on_resets(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	prom_u64(b, "mesh_backend_resets_total", k->counters.resets_task, OF_BACKEND(s, k), "by", "task", PROM_END);
	prom_u64(b, "mesh_backend_resets_total", k->counters.resets_peer, OF_BACKEND(s, k), "by", "peer", PROM_END);
}

static void on_connect(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	prom_f64(b, "mesh_backend_connect_seconds_sum", (double)k->counters.open_ns / 1e9, OF_BACKEND(s, k), PROM_END);
	prom_u64(b, "mesh_backend_connect_seconds_count", k->counters.opened, OF_BACKEND(s, k), PROM_END);
}

static void on_state(struct buf *b, const struct dp_service_stats *s, const struct dp_backend_stats *k)
{
	const char *state =
		k->state >= 0 && k->state < DP_BACKEND_STATE_MAX ? dp_backend_state_names.names[k->state] : "unknown";
	prom_u64(b, "mesh_backend_state", 1, OF_BACKEND(s, k), "node", k->node.s, "state", state, PROM_END);
}

static void handshakes(struct buf *b, const struct dp_stats *s)
{
	prom_family(b, "mesh_backend_connections_failed_total", "counter",
	            "Connections through published ports that were reset before they were open.");
	each_backend(b, s, on_failed);
	prom_family(b, "mesh_backend_connect_seconds", "summary",
	            "From the first SYN at the task's node to the end of the handshake; single values are rounded to "
	            "the kernel's tick, their mean is not.");
	each_backend(b, s, on_connect);
}

static void services(struct buf *b, const struct dp_stats *s)
{
	prom_family(b, "mesh_backend_state", "gauge", "Tasks this node may send to, with what they take; always 1.");
	each_backend(b, s, on_state);
	prom_family(b, "mesh_backend_connections_total", "counter",
	            "Connections begun: from outside at the task's node, to service addresses at the client's.");
	each_backend(b, s, on_conns);
	prom_family(b, "mesh_backend_packets_total", "counter",
	            "Packets to (in) and from (out) a task: through published ports, and all else on its network.");
	each_backend(b, s, on_packets);
	prom_family(b, "mesh_backend_bytes_total", "counter",
	            "Bytes of the same packets, frames as the task sees them.");
	each_backend(b, s, on_bytes);
	prom_family(b, "mesh_backend_resets_total", "counter", "TCP resets sent by a task, or by its peers to it.");
	each_backend(b, s, on_resets);
	if (s->handshakes)
		handshakes(b, s);
	prom_family(b, "mesh_service_refused_total", "counter",
	            "Packets and sockets that found no serving task of the service.");
	for (size_t i = 0; i < s->services.n; i++)
		prom_u64(b, "mesh_service_refused_total", s->services.v[i].refused, "service", s->services.v[i].name,
		         "network", s->services.v[i].network, PROM_END);
}

static void tables(struct buf *b, const struct dp_stats *s)
{
	prom_family(b, "mesh_table_entries", "gauge", "Entries of a table in the kernel.");
	for (size_t i = 0; i < s->tables.n; i++)
		prom_u64(b, "mesh_table_entries", s->tables.v[i].used, "table", s->tables.v[i].name, PROM_END);
	prom_family(b, "mesh_table_max_entries", "gauge",
	            "What the table has room for; flow tables forget the oldest.");
	for (size_t i = 0; i < s->tables.n; i++)
		prom_u64(b, "mesh_table_max_entries", s->tables.v[i].max, "table", s->tables.v[i].name, PROM_END);
	prom_family(b, "mesh_table_evicted_total", "counter",
	            "Entries forgotten to make room: flow tables too small, or a flood.");
	for (size_t i = 0; i < s->tables.n; i++)
		prom_u64(b, "mesh_table_evicted_total", s->tables.v[i].evicted, "table", s->tables.v[i].name, PROM_END);
}

void dp_stats_prom(const struct dp_stats *s, struct buf *out)
{
	CLEAN_FREE char *driver = xstrndup(s->driver ? s->driver : "", strcspn(s->driver ? s->driver : "", ":"));
	prom_family(out, "mesh_dataplane_info", "gauge", "The driver that runs; always 1.");
	prom_u64(out, "mesh_dataplane_info", 1, "driver", driver, PROM_END);
	single(out, "mesh_dataplane_version", "gauge", "State of the manager that is in force.", s->version);
	single(out, "mesh_dataplane_tasks", "gauge", "Tasks wired on this node.", s->tasks);
	single(out, "mesh_dataplane_passes_total", "counter", "Passes over the desired state.", s->passes);
	single(out, "mesh_dataplane_operations_total", "counter", "Changes made to the kernel's tables.", s->ops);
	single(out, "mesh_dataplane_failures_total", "counter", "Changes the kernel refused.", s->failures);
	single(out, "mesh_closed_sockets_total", "counter", "Sockets of tasks closed because their peer is gone.",
	       s->sockets_closed);
	for (size_t i = 0; i < s->dns.n; i++) {
		CLEAN_FREE char *name = xasprintf("mesh_dns_%s_total", s->dns.v[i].id);
		single(out, name, "counter", s->dns.v[i].text, s->dns.v[i].n);
	}
	services(out, s);
	if (s->drops.n)
		prom_family(out, "mesh_dropped_packets_total", "counter", "Packets dropped by the data plane.");
	for (size_t i = 0; i < s->drops.n; i++)
		prom_u64(out, "mesh_dropped_packets_total", s->drops.v[i].n, "reason", s->drops.v[i].id, PROM_END);
	if (s->events.n)
		prom_family(out, "mesh_dataplane_events_total", "counter", "What the data plane did, by kind.");
	for (size_t i = 0; i < s->events.n; i++)
		prom_u64(out, "mesh_dataplane_events_total", s->events.v[i].n, "event", s->events.v[i].id, PROM_END);
	if (s->tables.n)
		tables(out, s);
}
