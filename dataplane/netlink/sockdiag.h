/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   which sockets a network namespace has, asked of the kernel (sock_diag), TCP and UDP, both families.
 * Owner:  the fd is a netlink socket of the namespace it was opened in, and keeps that alive.
 * Thread: one at a time a fd. A dump blocks for a kernel round trip.
 */
#ifndef DATAPLANE_NETLINK_SOCKDIAG_H
#define DATAPLANE_NETLINK_SOCKDIAG_H

#include "base/map.h"
#include "dataplane/state.h"

struct sd_sock {
	uint8_t protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	uint8_t state;    /* TCP_* of netinet/tcp.h; an unconnected UDP socket is TCP_CLOSE */
	bool v6only;
	uint16_t port, peer_port;
	struct dp_ip local, peer; /* a v6 wildcard is all zero, a v4 one ::ffff:0.0.0.0 */
	uint32_t inode;           /* 0: the kernel's own */
	uint8_t family;
	uint8_t id[48]; /* struct inet_diag_sockid: names it to the kernel */
};
struct sd_socks VEC(struct sd_sock);

/* In the namespace of the calling thread; fd or -errno. */
int sd_open(struct mesh_err *err) MESH_MUST_CHECK;
/* Appends every socket of protocol whose state is in states (bits 1 << TCP_*). */
int sd_dump(int fd, uint8_t protocol, uint32_t states, struct sd_socks *out) MESH_MUST_CHECK;
/* Listening TCP sockets and bound, unconnected UDP ones. */
int sd_listening(int fd, struct sd_socks *out) MESH_MUST_CHECK;
/*
 * Aborts a socket of the namespace: its owner gets ECONNABORTED. MESH_E_UNSUPPORTED on a kernel without
 * CONFIG_INET_DIAG_DESTROY; -ENOENT when it is gone already.
 */
int sd_destroy(int fd, const struct sd_sock *s) MESH_MUST_CHECK;
/* The kernel's own number of a socket, as programs see it (bpf_get_socket_cookie). */
uint64_t sd_cookie(const struct sd_sock *s);
/* Does a packet to ip:port reach this listening socket? */
bool sd_accepts(const struct sd_sock *s, const struct dp_ip *ip, uint16_t port);

#endif
