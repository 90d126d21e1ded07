/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the resolver at 127.0.0.11 of every task on this node, on one thread of its own.
 * Thread: the functions below are for one other thread (the data plane's). They take a lock that the
 *         resolver holds for one batch of queries (microseconds), so that what they changed is in force
 *         when they return: an answer sent later follows the new names.
 * Owner:  zones belong to the caller and must stay until no task has them; dns_server_swap replaces them.
 * Files:  nameservers of the machine come from resolv_conf, read again when it changes.
 */
#ifndef DATAPLANE_DNS_SERVER_H
#define DATAPLANE_DNS_SERVER_H

#include "dataplane/dns/dns.h"

struct dns_server;

/* Upstream sockets are made in the network namespace of the calling thread. */
int dns_server_start(const char *resolv_conf, struct dns_server **out, struct mesh_err *err) MESH_MUST_CHECK;
void dns_server_stop(struct dns_server *s);

/* Opens UDP and TCP sockets at 127.0.0.11:53 in the namespace of the calling thread. */
int dns_sockets_open(int *udp, int *tcp, struct mesh_err *err) MESH_MUST_CHECK;
/* Is fd a socket of that type (SOCK_DGRAM, SOCK_STREAM) bound to 127.0.0.11:53? */
bool dns_socket_valid(int fd, int type);

/*
 * Serves a task; takes the fds. nameservers ("10.1.1.1", "10.1.1.1#5353") instead of the machine's, may be
 * empty. A task that is served already gets the new scope and nameservers, and fds that differ replace the old.
 */
void dns_server_add(struct dns_server *s, const char *task, int udp, int tcp, const struct str_list *nameservers,
                    struct dns_zone *const *zones, size_t n_zones);
/* Another set of zones for a task that is served; nothing for one that is not. */
void dns_server_rescope(struct dns_server *s, const char *task, struct dns_zone *const *zones, size_t n_zones);
bool dns_server_has(struct dns_server *s, const char *task);
/* Replaces every task's zone old by new (NULL: drops it); after that nobody reads old. */
void dns_server_swap(struct dns_server *s, struct dns_zone *const *old, struct dns_zone *const *new, size_t n);
/* Closes the sockets before it returns. */
void dns_server_del(struct dns_server *s, const char *task);

struct dns_stats {
	uint64_t queries, answered, forwarded, cached, timeouts, failed, dropped;
};
/* Any thread. */
void dns_server_stats(struct dns_server *s, struct dns_stats *out);

#endif
