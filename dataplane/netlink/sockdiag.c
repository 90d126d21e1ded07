/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/sockdiag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/mem.h"

int sd_open(struct mesh_err *err)
{
	CLEAN_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (fd < 0)
		return mesh_fail(err, -errno, "sock_diag socket");
	/* A dump that the kernel does not answer must not hang the data plane. */
	struct timeval tv = { .tv_sec = 2 };
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return TAKE_FD(fd);
}

static void ip_from(struct dp_ip *out, int family, const __be32 raw[4])
{
	memset(out, 0, sizeof(*out));
	if (family == AF_INET6) {
		memcpy(out->b, raw, 16);
		return;
	}
	out->b[10] = out->b[11] = 0xff;
	memcpy(out->b + 12, raw, 4);
}

static void push(struct sd_socks *out, uint8_t protocol, const struct nlmsghdr *h)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);
	if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return;
	struct sd_sock s = { .protocol = protocol,
		             .state = m->idiag_state,
		             .port = ntohs(m->id.idiag_sport),
		             .peer_port = ntohs(m->id.idiag_dport),
		             .inode = m->idiag_inode,
		             .family = m->idiag_family };
	_Static_assert(sizeof(s.id) == sizeof(m->id), "sockid");
	memcpy(s.id, &m->id, sizeof(s.id));
	ip_from(&s.local, m->idiag_family, m->id.idiag_src);
	ip_from(&s.peer, m->idiag_family, m->id.idiag_dst);
	int left = (int)h->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*m));
	for (const struct rtattr *a = (const struct rtattr *)(m + 1); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == INET_DIAG_SKV6ONLY && RTA_PAYLOAD(a) >= 1)
			s.v6only = *(const uint8_t *)RTA_DATA(a);
	vec_push(out, s);
}

static __thread uint32_t seq; /* of requests; an answer to an older one is the rest of what timed out */

int sd_destroy(int fd, const struct sd_sock *s)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = { .h = { .nlmsg_len = sizeof(req),
		         .nlmsg_type = SOCK_DESTROY,
		         .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK,
		         .nlmsg_seq = ++seq },
		  .r = { .sdiag_family = s->family, .sdiag_protocol = s->protocol } };
	char buf[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
	memcpy(&req.r.id, s->id, sizeof(req.r.id));
	if (send(fd, &req, sizeof(req), 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		const struct nlmsghdr *h = (const struct nlmsghdr *)buf;
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : MESH_E_CLOSED;
		if (!NLMSG_OK(h, (size_t)n) || h->nlmsg_seq != seq || h->nlmsg_type != NLMSG_ERROR ||
		    h->nlmsg_len < NLMSG_LENGTH(sizeof(int)))
			continue;
		int rc = ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
		return rc == -EOPNOTSUPP || rc == -EINVAL ? MESH_E_UNSUPPORTED : rc;
	}
}

static int dump_family(int fd, uint8_t family, uint8_t protocol, uint32_t states, struct sd_socks *out)
{
	struct {
		struct nlmsghdr h;
		struct inet_diag_req_v2 r;
	} req = { .h = { .nlmsg_len = sizeof(req),
		         .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		         .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		         .nlmsg_seq = ++seq },
		  .r = { .sdiag_family = family, .sdiag_protocol = protocol, .idiag_states = states } };
	if (send(fd, &req, sizeof(req), 0) < 0)
		return -errno;
	char buf[32768] __attribute__((aligned(NLMSG_ALIGNTO)));
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : MESH_E_CLOSED;
		int left = (int)n;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_seq != seq)
				continue;
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return h->nlmsg_len < NLMSG_LENGTH(sizeof(int))
				               ? MESH_E_PROTOCOL
				               : ((struct nlmsgerr *)NLMSG_DATA(h))->error;
			push(out, protocol, h);
		}
	}
}

int sd_dump(int fd, uint8_t protocol, uint32_t states, struct sd_socks *out)
{
	int rc = dump_family(fd, AF_INET, protocol, states, out);
	if (rc)
		return rc;
	rc = dump_family(fd, AF_INET6, protocol, states, out);
	return rc == -ENOENT ? 0 : rc; /* a kernel without IPv6 */
}

int sd_listening(int fd, struct sd_socks *out)
{
	int rc = sd_dump(fd, IPPROTO_TCP, 1u << TCP_LISTEN, out);
	return rc ? rc : sd_dump(fd, IPPROTO_UDP, 1u << TCP_CLOSE, out);
}

bool sd_accepts(const struct sd_sock *s, const struct dp_ip *ip, uint16_t port)
{
	static const struct dp_ip any6, any4 = { { [10] = 0xff, [11] = 0xff } };
	if (s->port != port)
		return false;
	if (memcmp(&s->local, &any6, sizeof(any6)) == 0)
		return !s->v6only || !dp_ip_is_v4(ip);
	if (memcmp(&s->local, &any4, sizeof(any4)) == 0)
		return dp_ip_is_v4(ip);
	return memcmp(&s->local, ip, sizeof(*ip)) == 0;
}

uint64_t sd_cookie(const struct sd_sock *s)
{
	struct inet_diag_sockid id;
	memcpy(&id, s->id, sizeof(id));
	return (uint64_t)id.idiag_cookie[1] << 32 | id.idiag_cookie[0];
}
