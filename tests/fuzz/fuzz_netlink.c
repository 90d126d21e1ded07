/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel tells the data plane over netlink: sock_diag dumps and acknowledgements, the link monitor, features of links.
 * The first byte chooses the decoder; the rest is one datagram, with the sequence number that is waited for.
 */
#include <linux/netlink.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "dataplane/netlink/kern.h"
#include "dataplane/netlink/sockdiag.h"
#include "dataplane/netlink/xdp_link.h"

static uint32_t seq = 1; /* of the next request */

static void put_seq(uint8_t *p, size_t n)
{
	int left = (int)n;

	for (struct nlmsghdr *h = (struct nlmsghdr *)p; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
		h->nlmsg_seq = seq;
}

static void queue_done(int fd, uint32_t s)
{
	struct nlmsghdr done = { .nlmsg_len = sizeof(done), .nlmsg_type = NLMSG_DONE, .nlmsg_seq = s };

	(void)!send(fd, &done, sizeof(done), 0);
}

/* The decoder's requests say where its numbers are. */
static void read_requests(int fd)
{
	struct nlmsghdr h;

	while (recv(fd, &h, sizeof(h), MSG_DONTWAIT) == (ssize_t)sizeof(h))
		seq = h.nlmsg_seq + 1;
}

static void decode(uint8_t which, int fd)
{
	struct sd_socks socks = { 0 };
	struct sd_sock one = { .family = AF_INET, .protocol = 6 };

	if (which == 0)
		(void)!sd_dump(fd, 6, 1u << 1, &socks);
	else if (which == 1)
		(void)!sd_destroy(fd, &one);
	else
		(void)kern_monitor_drain(fd, "mesh", "meshvx", 99);
	vec_fini(&socks);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	_Alignas(8) static uint8_t msg[16384];
	int fds[2];

	if (!n || n > sizeof(msg))
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds) < 0)
		abort();
	memcpy(msg, p + 1, n - 1);
	(void)xdp_features_decode(msg, n - 1);
	put_seq(msg, n - 1);
	if (n > 1)
		(void)!send(fds[1], msg, n - 1, 0);
	queue_done(fds[1], seq);
	queue_done(fds[1], seq + 1);
	if (n % 2) /* and then nothing any more */
		shutdown(fds[1], SHUT_WR);
	decode(p[0] % 3, fds[0]);
	read_requests(fds[1]);
	close(fds[0]);
	close(fds[1]);
	return 0;
}
