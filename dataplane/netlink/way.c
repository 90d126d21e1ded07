/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/way.h"

#include <arpa/inet.h>
#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/rtnetlink.h>
#include <linux/xfrm.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "dataplane/netlink/nfnl.h"

struct ways {
	struct mnl_socket *route, *xfrm; /* xfrm: NULL when the kernel has none */
	unsigned seq;
};

int ways_open(struct ways **out, struct mesh_err *err)
{
	struct mnl_socket *s = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
	if (!s || mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0) {
		int rc = -errno;
		if (s)
			mnl_socket_close(s);
		return mesh_fail(err, rc, "netlink socket for routes");
	}
	struct ways *w = XNEW(struct ways);
	w->route = s;
	w->xfrm = mnl_socket_open2(NETLINK_XFRM, SOCK_CLOEXEC);
	if (w->xfrm && mnl_socket_bind(w->xfrm, 0, MNL_SOCKET_AUTOPID) < 0) {
		mnl_socket_close(w->xfrm);
		w->xfrm = NULL;
	}
	*out = w;
	return 0;
}

void ways_close(struct ways *w)
{
	if (!w)
		return;
	mnl_socket_close(w->route);
	if (w->xfrm)
		mnl_socket_close(w->xfrm);
	free(w);
}

static bool all_whole(const void *in, ssize_t n)
{
	int left = (int)n;
	const struct nlmsghdr *h = in;
	while (nfnl_ok(h, left))
		h = mnl_nlmsg_next(h, &left);
	return left <= 0;
}

/* One question, one answer; the answer's callback, or 0 when there was none. */
static int ask(struct ways *w, struct mnl_socket *s, struct nlmsghdr *h, mnl_cb_t on_answer, void *arg)
{
	char in[4096] __attribute__((aligned(NLMSG_ALIGNTO)));
	h->nlmsg_flags = NLM_F_REQUEST;
	h->nlmsg_seq = ++w->seq;
	if (mnl_socket_sendto(s, h, h->nlmsg_len) < 0)
		return -errno;
	ssize_t n = mnl_socket_recvfrom(s, in, sizeof(in));
	if (n < 0)
		return -errno;
	if (!all_whole(in, n))
		return MESH_E_PROTOCOL;
	return mnl_cb_run(in, (size_t)n, w->seq, mnl_socket_get_portid(s), on_answer, arg) < 0 ? -errno : 0;
}

static int on_attr(const struct nlattr *a, void *arg)
{
	const struct nlattr **tb = arg;
	if (mnl_attr_get_type(a) <= RTA_MAX)
		tb[mnl_attr_get_type(a)] = a;
	return MNL_CB_OK;
}

static bool has_u32(const struct nlattr *a)
{
	return a && mnl_attr_get_payload_len(a) == 4;
}

int way_on_route(const struct nlmsghdr *h, void *arg)
{
	struct way *w = arg;
	const struct rtmsg *rt = mnl_nlmsg_get_payload(h);
	const struct nlattr *tb[RTA_MAX + 1] = { 0 }, *a;
	if (h->nlmsg_type != RTM_NEWROUTE || mnl_nlmsg_get_payload_len(h) < sizeof(*rt) || rt->rtm_family != AF_INET ||
	    mnl_attr_parse(h, sizeof(*rt), on_attr, tb) < 0)
		return MNL_CB_OK;
	if (rt->rtm_type != RTN_UNICAST || !has_u32(tb[RTA_OIF]) || tb[RTA_MULTIPATH] || tb[RTA_VIA] || tb[RTA_ENCAP])
		return MNL_CB_OK;
	w->ifindex = (int)mnl_attr_get_u32(tb[RTA_OIF]);
	if (has_u32(tb[RTA_GATEWAY]))
		memcpy(w->next_hop.b + 12, mnl_attr_get_payload(tb[RTA_GATEWAY]), 4);
	if (tb[RTA_METRICS])
		mnl_attr_for_each_nested(a, tb[RTA_METRICS]) if (mnl_attr_get_type(a) == RTAX_MTU && has_u32(a))
			w->mtu = mnl_attr_get_u32(a);
	return MNL_CB_OK;
}

/* Ethernet and up; lowers the MTU to the device's. */
static bool link_takes(int fd, struct way *w)
{
	struct ifreq r = { .ifr_ifindex = w->ifindex };
	if (ioctl(fd, SIOCGIFNAME, &r) < 0 || ioctl(fd, SIOCGIFFLAGS, &r) < 0 || !(r.ifr_flags & IFF_UP) ||
	    ioctl(fd, SIOCGIFHWADDR, &r) < 0 || r.ifr_hwaddr.sa_family != ARPHRD_ETHER || ioctl(fd, SIOCGIFMTU, &r) < 0)
		return false;
	if (!w->mtu || w->mtu > (uint32_t)r.ifr_mtu)
		w->mtu = (uint32_t)r.ifr_mtu;
	return true;
}

struct way ways_to(struct ways *w, const struct dp_ip *dst, const struct dp_ip *src)
{
	char out[256] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *h = mnl_nlmsg_put_header(out);
	struct rtmsg *rt = mnl_nlmsg_put_extra_header(h, sizeof(*rt));
	struct way way = { .next_hop = *dst };
	h->nlmsg_type = RTM_GETROUTE;
	/* The table's entry rather than what one packet would do: it says when there are several hops. */
	*rt = (struct rtmsg){
		.rtm_family = AF_INET, .rtm_dst_len = 32, .rtm_src_len = 32, .rtm_flags = RTM_F_FIB_MATCH
	};
	mnl_attr_put(h, RTA_DST, 4, dst->b + 12);
	mnl_attr_put(h, RTA_SRC, 4, src->b + 12);
	CLEAN_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (ask(w, w->route, h, way_on_route, &way) || !way.ifindex || fd < 0 || !link_takes(fd, &way))
		way.ifindex = 0;
	return way;
}

int way_on_policies(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *a;
	if (h->nlmsg_type != XFRM_MSG_NEWSPDINFO)
		return MNL_CB_OK;
	mnl_attr_for_each(a, h, sizeof(uint32_t))
	{
		const struct xfrmu_spdinfo *n = mnl_attr_get_payload(a);
		if (mnl_attr_get_type(a) == XFRMA_SPD_INFO && mnl_attr_get_payload_len(a) >= sizeof(*n))
			*(bool *)arg = n->incnt || n->outcnt;
	}
	return MNL_CB_OK;
}

bool ways_have_ipsec(struct ways *w)
{
	char out[64] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *h = mnl_nlmsg_put_header(out);
	bool has = false;
	h->nlmsg_type = XFRM_MSG_GETSPDINFO;
	*(uint32_t *)mnl_nlmsg_put_extra_header(h, sizeof(uint32_t)) = ~0u;
	return w->xfrm && ask(w, w->xfrm, h, way_on_policies, &has) == 0 && has;
}
