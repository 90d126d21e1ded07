/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  what one node keeps on disk beside the Raft log, images and tasks.
 * Files: STATE/format ("meshd state 1"), STATE/lock (held while running), STATE/swarm (struct node_state),
 *        STATE/identity/ (certificates), STATE/raft/ (managers); STATE/dataplane.state is the data plane's own.
 *        Written to a temporary name, synced, renamed.
 */
#ifndef CONTROL_MESHD_STATE_H
#define CONTROL_MESHD_STATE_H

#include "control/dispatcher/wire.h"

struct node_state {
	node_id node;
	cluster_id cluster;
	bool manager;
	char *advertise_addr, *listen_addr, *data_path_addr; /* addr, addr:port, addr */
	uint32_t data_path_port;
	SCH_LIST(struct wire_manager) managers; /* known ones, most recent word */
	int availability;                       /* asked for at join */
};
extern const struct schema node_state_schema;

/*
 * Makes DIR (0700), checks the format, takes the lock (kept by the process). -EBUSY: "another meshd (pid N) uses
 * DIR"; MESH_E_VERSION: written by another version.
 */
int state_open(const char *dir, struct mesh_err *err) MESH_MUST_CHECK;
/* MESH_E_NOT_FOUND when the node is in no swarm. out zeroed. */
int state_load(const char *dir, struct node_state *out, struct mesh_err *err) MESH_MUST_CHECK;
int state_save(const char *dir, const struct node_state *st, struct mesh_err *err) MESH_MUST_CHECK;
/* Removes everything that belongs to the swarm: swarm, identity, net, raft. */
void state_forget(const char *dir);
/* Any bytes under STATE/name. */
int state_write(const char *dir, const char *name, const void *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;
int state_read(const char *dir, const char *name, struct buf *out, struct mesh_err *err) MESH_MUST_CHECK;

#endif
