/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:    the leader's side of every agent session: who is alive, what each node must run and route to, which
 *          version each node holds. It turns the store into one ordered stream a node, and what nodes say
 *          into store changes.
 * Pure:    no sockets, no clock. The shell feeds it sessions, heartbeats, acknowledgements and statuses with the
 *          time, calls disp_step with a transaction, and sends what disp_next gives.
 * Drain:   a task that must stop is first DRAINING on every node that may route to it. Only when all live ones have
 *          acknowledged that version does the task become `drained`, and only then may its agent stop it.
 * Serve:   a task that serves becomes `known` when all live nodes have acknowledged that they send it traffic; only
 *          then does start-first take another away for it.
 * Liveness: silence for disp_config.suspect_ns takes a node's tasks out of traffic, for down_ns makes it DOWN. A
 *          connection that was closed (its daemon died or restarts, the machine lives) leaves traffic
 *          alone and makes it DOWN after closed_ns. Times: monotonic ns.
 */
#ifndef CONTROL_DISPATCHER_DISPATCHER_H
#define CONTROL_DISPATCHER_DISPATCHER_H

#include "control/dispatcher/wire.h"
#include "control/store/store.h"

struct disp;

struct disp_config {
	int64_t suspect_ns, down_ns, closed_ns;
};
/* What follows from a cluster's heartbeat period. */
struct disp_config disp_config_of(int64_t heartbeat_period_ns);
/* How often agents beat. */
int64_t disp_beat_ns(int64_t heartbeat_period_ns);

/* Watches s from now on. Nodes the store calls READY have closed_ns to come back. */
struct disp *disp_new(struct store *s, const struct disp_config *c, int64_t mono_ns);
void disp_free(struct disp *d);

/* Another heartbeat period: whoever is connected was heard of just now, and is to be told how often to beat from here on. */
void disp_configure(struct disp *d, const struct disp_config *c, int64_t mono_ns);

/* A session opened (replacing an older one of that node); its whole state goes out with the next disp_next. */
void disp_connect(struct disp *d, const char *node, const char *addr, const struct md_node_description *desc,
                  int64_t mono_ns);
/* closed: the connection ended by itself; false: it went silent or broke. */
void disp_disconnect(struct disp *d, const char *node, bool closed, int64_t mono_ns);
/* The node leaves the swarm by its own will: DOWN at once. */
void disp_leave(struct disp *d, const char *node, int64_t mono_ns);
void disp_beat(struct disp *d, const char *node, int64_t mono_ns);
void disp_describe(struct disp *d, const char *node, const struct md_node_description *desc);
void disp_ack(struct disp *d, const char *node, uint64_t version, int64_t mono_ns);
void disp_status(struct disp *d, const char *node, const struct wire_status *st);

/* Is there something to write or to send? */
bool disp_pending(const struct disp *d);
/*
 * Puts what nodes reported into tx (statuses, node states, drained). Returns the next deadline on the monotonic
 * clock, INT64_MAX for none. Until the transaction is settled, disp_settled must be called with its fate.
 */
int64_t disp_step(struct disp *d, struct store_tx *tx, int64_t mono_ns);
/* The last step's transaction was applied, or refused: then it is put together again. */
void disp_settled(struct disp *d, bool applied);

/* The next message for a node, or false. The caller sends and clears it (sch_clear). */
bool disp_next(struct disp *d, node_id *node, struct wire_assign *out);

/* For /metrics and inspection. */
size_t disp_sessions(const struct disp *d);
void disp_each_session(const struct disp *d,
                       void (*fn)(void *arg, const char *node, bool connected, uint64_t sent, uint64_t acked),
                       void *arg);

#endif
