/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   a cluster on one machine: network namespaces for nodes, a switch and a client outside, real
 *         daemons in them (DESIGN: the lab's fixed contract).
 * Owner:  everything a lab makes carries its name: namespaces mesh-<name>-*, /run/mesh/<name>,
 *         /var/lib/mesh/<name>, cgroups mesh-<name>-nK. lab_sweep removes exactly that.
 * Thread: one; blocks. Needs root.
 * Errors: mesh_err, with what to look at.
 */
#ifndef MESH_CLI_LAB_LAB_H
#define MESH_CLI_LAB_LAB_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/schema.h"

#define LAB_RUN "/run/mesh"
#define LAB_STATE "/var/lib/mesh"
#define LAB_NODES_MAX 64
#define LAB_NAME_MAX 32
#define LAB_PLANE_MAX 255

/* What /run/mesh/<name>/lab.json keeps. */
struct lab {
	char name[LAB_NAME_MAX + 1];
	int index; /* third octet of 172.31.<index>.0/24 */
	int nodes, managers;
	bool ready; /* lab up came to its end */
	bool init;
	bool xdp;                           /* meshd --xdp on, and links it can work on */
	char data_plane[LAB_PLANE_MAX + 1]; /* "nft", or "n2=nft,n3=ebpf"; empty: as the daemon likes */
};

/* Paths and names; out has room for 128 bytes. */
#define LAB_STR 128
void lab_netns(const struct lab *l, int node, char *out);   /* mesh-<name>-nK; 0 = client, -1 = switch */
void lab_cgroup(const struct lab *l, int node, char *out);  /* mesh-<name>-nK */
void lab_address(const struct lab *l, int node, char *out); /* 172.31.<i>.<10+K>; 0 = client */
void lab_run_dir(const struct lab *l, int node, char *out); /* node 0: the lab's own */
void lab_state_dir(const struct lab *l, int node, char *out);
void lab_socket(const struct lab *l, int node, char *out);

bool lab_name_valid(const char *name);
/* The driver of a node for --data-plane: "auto", "ebpf", "nft"; NULL when the text is wrong. */
const char *lab_data_plane(const char *text, int node);
int lab_load(const char *name, struct lab *l, struct mesh_err *err) MESH_MUST_CHECK;
int lab_save(const struct lab *l, struct mesh_err *err) MESH_MUST_CHECK;
/* Names of the labs there are. */
void lab_names(struct str_list *out);
/* Held while a lab is made or removed, so that two never choose one subnet. Closes on exit. */
int lab_lock(struct mesh_err *err) MESH_MUST_CHECK;
/* A third octet no lab and no route of the host uses. */
int lab_choose_index(struct mesh_err *err) MESH_MUST_CHECK;

/* Namespaces, switch, links, addresses, bpffs. */
int lab_net_up(const struct lab *l, struct mesh_err *err) MESH_MUST_CHECK;
/* "ip netns add" leaves a mount at /run/netns: the last lab takes it away if a lab brought it. */
void lab_netns_dir_note(void);
void lab_netns_dir_restore(void);
int lab_link_set(const struct lab *l, int node, bool up, struct mesh_err *err) MESH_MUST_CHECK;
/* 1 up, 0 down, -1 unknown. */
int lab_link_get(const struct lab *l, int node);

/* The daemon of a node; lab_daemon_pid is -1 when it does not run. */
pid_t lab_daemon_pid(const struct lab *l, int node);
int lab_daemon_start(const struct lab *l, int node, struct mesh_err *err) MESH_MUST_CHECK;
/* SIGTERM and wait, then SIGKILL; hard: SIGKILL at once. */
int lab_daemon_stop(const struct lab *l, int node, bool hard, struct mesh_err *err) MESH_MUST_CHECK;
/* Waits for the API socket to answer; says the end of the log when the daemon dies instead. */
int lab_daemon_wait(const struct lab *l, int node, int timeout_ms, struct mesh_err *err) MESH_MUST_CHECK;
/* Makes this process one of the node's namespaces (0 = client): its network, private mounts. */
int lab_enter(const struct lab *l, int node, struct mesh_err *err) MESH_MUST_CHECK;

/* Removes every trace of a lab, whatever state it is in. */
int lab_sweep(const char *name, struct mesh_err *err) MESH_MUST_CHECK;

/* Runs a program, its input from text (may be NULL); its stderr becomes the error. */
int lab_run(const char *const *argv, const char *text, struct mesh_err *err) MESH_MUST_CHECK;
int lab_mkdirs(const char *path, struct mesh_err *err) MESH_MUST_CHECK;

#endif
