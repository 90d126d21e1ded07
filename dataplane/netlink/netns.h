/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   stepping into another network namespace for a moment, and the sysctls found there.
 * Thread: setns moves the calling thread only; enter and leave on the same thread, with nothing between
 *         that could start another thread.
 * Owner:  an open namespace fd keeps the namespace alive: hold it no longer than the visit.
 */
#ifndef DATAPLANE_NETLINK_NETNS_H
#define DATAPLANE_NETLINK_NETNS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* The namespace pid lives in; an fd or -errno. */
int netns_open(pid_t pid, struct mesh_err *err) MESH_MUST_CHECK;
/* Moves the thread into ns and returns an fd of the namespace it came from, or -errno. */
int netns_enter(int ns, struct mesh_err *err) MESH_MUST_CHECK;
/* Back again; closes prev. Aborts when that fails: the thread would go on in a stranger's network. */
void netns_leave(int prev);
/* Is ns the namespace the thread is in? */
bool netns_is_current(int ns);

/* "net/ipv4/ip_forward" of the namespace the thread is in. Writes only when the value differs. */
int sysctl_set(const char *path, const char *value) MESH_MUST_CHECK;
/* Trims the newline. */
int sysctl_get(const char *path, char *out, size_t n) MESH_MUST_CHECK;

#endif
