/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/nfnl.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <sys/socket.h>

#include "base/mem.h"

#define ANSWER_MAX 65536 /* a kernel's dump comes in datagrams of 32 kB at most */
#define HEAD (NLMSG_HDRLEN + NLMSG_ALIGN(sizeof(struct nfgenmsg)))

struct nfnl {
	struct mnl_socket *nl;
	uint32_t seq;
	char *buf;
};

int nfnl_open(struct nfnl **out, struct mesh_err *err)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct timeval tv = { .tv_sec = 2 };
	if (!nl)
		return mesh_fail(err, -errno, "netfilter socket");
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0) {
		int code = -errno;
		mnl_socket_close(nl);
		return mesh_fail(err, code, "netfilter socket");
	}
	*out = XNEW(struct nfnl);
	(*out)->nl = nl;
	(*out)->buf = xcalloc(1, ANSWER_MAX);
	return 0;
}

void nfnl_close(struct nfnl *l)
{
	if (!l)
		return;
	mnl_socket_close(l->nl);
	free(l->buf);
	free(l);
}

struct nlmsghdr *nfnl_request(struct nfnl *l, void *buf, int subsystem, int type, int flags)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	h->nlmsg_type = (uint16_t)(subsystem << 8 | type);
	h->nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	h->nlmsg_seq = ++l->seq;
	struct nfgenmsg *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));
	*g = (struct nfgenmsg){ .nfgen_family = AF_INET, .version = NFNETLINK_V0 };
	return h;
}

int nfnl_talk(struct nfnl *l, const struct nlmsghdr *h, nfnl_fn fn, void *arg)
{
	struct nfnl_answer a = { .subsystem = h->nlmsg_type >> 8, .seq = l->seq, .fn = fn, .arg = arg };
	int rc = mnl_socket_sendto(l->nl, h, h->nlmsg_len) < 0 ? -errno : 1;
	while (rc == 1) {
		ssize_t n = mnl_socket_recvfrom(l->nl, l->buf, ANSWER_MAX);
		if (n < 0 && errno == EINTR)
			continue;
		rc = n > 0 ? nfnl_decode(l->buf, (size_t)n, &a) : n ? -errno : MESH_E_CLOSED;
	}
	return !rc && a.torn ? -EINTR : rc;
}

int nfnl_decode(const void *p, size_t n, struct nfnl_answer *a)
{
	int left = (int)n;
	for (const struct nlmsghdr *h = p; nfnl_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_seq != a->seq)
			continue;
		a->torn |= (h->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
		if (h->nlmsg_type == NLMSG_DONE)
			return 0;
		if (h->nlmsg_type == NLMSG_ERROR) {
			if (h->nlmsg_len < NLMSG_LENGTH(sizeof(int)))
				return MESH_E_PROTOCOL;
			int code = ((const struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
			return code > 0 ? MESH_E_PROTOCOL : code;
		}
		if (h->nlmsg_type >> 8 == a->subsystem && h->nlmsg_len >= HEAD)
			a->fn(a->arg, h->nlmsg_type & 0xff, (const uint8_t *)h + HEAD, h->nlmsg_len - HEAD);
	}
	return 1;
}

/* ---- attributes ---------------------------------------------------------------------------------- */

const struct nlattr *nfnl_find(const void *p, size_t n, uint16_t type)
{
	const struct nlattr *a = p;
	for (int left = (int)n; mnl_attr_ok(a, left); left -= (int)MNL_ALIGN(a->nla_len), a = mnl_attr_next(a))
		if (mnl_attr_get_type(a) == type)
			return a;
	return NULL;
}

const struct nlattr *nfnl_in(const struct nlattr *a, uint16_t type)
{
	return a ? nfnl_find(mnl_attr_get_payload(a), mnl_attr_get_payload_len(a), type) : NULL;
}

const char *nfnl_text(const struct nlattr *a)
{
	return a && memchr(mnl_attr_get_payload(a), '\0', mnl_attr_get_payload_len(a)) ? mnl_attr_get_str(a) : NULL;
}

bool nfnl_value(const struct nlattr *a, void *out, size_t n)
{
	if (!a || mnl_attr_get_payload_len(a) != n)
		return false;
	memcpy(out, mnl_attr_get_payload(a), n);
	return true;
}
