/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/xdp_link.h"

#include <libmnl/libmnl.h>
#include <linux/ethtool.h>
#include <linux/genetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/mem.h"

/* linux/netdev.h of Linux 6.3; our headers may be older than our kernel. */
enum { DEV_GET = 1 };
enum { DEV_A_IFINDEX = 1, DEV_A_XDP_FEATURES = 3 };
enum { ACT_BASIC = 1, ACT_NDO_XMIT = 4 };

struct attr_at {
	uint64_t value;
	bool found;
};

/* The attribute of this type and size in one message. (mnl_cb_run takes lengths above 2 GB for good ones.) */
static struct attr_at decode(const void *reply, size_t n, uint16_t type, uint16_t size)
{
	const struct nlmsghdr *h = reply;
	const struct nlattr *a;

	if (n < MNL_NLMSG_HDRLEN + sizeof(struct genlmsghdr) || h->nlmsg_len > n ||
	    h->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(struct genlmsghdr) || h->nlmsg_type < NLMSG_MIN_TYPE)
		return (struct attr_at){ 0 };
	mnl_attr_for_each(a, h, sizeof(struct genlmsghdr))
	{
		if (mnl_attr_get_type(a) == type && mnl_attr_get_payload_len(a) == size)
			return (struct attr_at){ size == 2 ? mnl_attr_get_u16(a) : mnl_attr_get_u64(a), true };
	}
	return (struct attr_at){ 0 };
}

int64_t xdp_features_decode(const void *reply, size_t n)
{
	struct attr_at w = decode(reply, n, DEV_A_XDP_FEATURES, 8);

	return w.found ? (int64_t)(w.value & INT64_MAX) : -1;
}

static ssize_t ask(struct mnl_socket *s, struct nlmsghdr *h, void *in, size_t size)
{
	h->nlmsg_flags = NLM_F_REQUEST;
	return mnl_socket_sendto(s, h, h->nlmsg_len) < 0 ? -1 : mnl_socket_recvfrom(s, in, size);
}

static struct nlmsghdr *genl_header(char *buf, uint16_t family, uint8_t cmd)
{
	struct nlmsghdr *h = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *g = mnl_nlmsg_put_extra_header(h, sizeof(*g));

	h->nlmsg_type = family;
	*g = (struct genlmsghdr){ .cmd = cmd, .version = 1 };
	return h;
}

/* -1: this kernel cannot say (before 6.3). */
static int64_t features_of(unsigned ifindex)
{
	char out[256] __attribute__((aligned(NLMSG_ALIGNTO))), in[8192] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct mnl_socket *s = mnl_socket_open2(NETLINK_GENERIC, SOCK_CLOEXEC);
	int64_t features = -1;

	if (!s)
		return -1;
	struct nlmsghdr *h = genl_header(out, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	mnl_attr_put_strz(h, CTRL_ATTR_FAMILY_NAME, "netdev");
	ssize_t n = mnl_socket_bind(s, 0, MNL_SOCKET_AUTOPID) < 0 ? -1 : ask(s, h, in, sizeof(in));
	struct attr_at family = n < 0 ? (struct attr_at){ 0 } : decode(in, (size_t)n, CTRL_ATTR_FAMILY_ID, 2);
	if (family.found) {
		h = genl_header(out, (uint16_t)family.value, DEV_GET);
		mnl_attr_put_u32(h, DEV_A_IFINDEX, ifindex);
		n = ask(s, h, in, sizeof(in));
		features = n < 0 ? -1 : xdp_features_decode(in, (size_t)n);
	}
	mnl_socket_close(s);
	return features;
}

static bool is_veth(int fd, struct ifreq *r)
{
	struct ethtool_drvinfo info = { .cmd = ETHTOOL_GDRVINFO };

	r->ifr_data = (void *)&info;
	return ioctl(fd, SIOCETHTOOL, r) == 0 && strcmp(info.driver, "veth") == 0;
}

/*
 * The two ends of a veth are each other's wire. An end takes frames while it has NAPI, which GRO or a program there turns
 * on. XDP_TX alone would not wake it (veth_xdp_flush of Linux 6.18 asks for a program), redirecting does.
 */
static const char *veth_refuses(int64_t features)
{
	if (features < 0)
		return "this kernel does not say whether its other end takes frames (Linux 6.3)";
	return features & ACT_NDO_XMIT ? NULL
	                               : "its other end takes no frames, which needs GRO to be on there (ethtool -K)";
}

const char *xdp_link_get(unsigned ifindex, struct xdp_link *out)
{
	CLEAN_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_ifindex = (int)ifindex };

	if (fd < 0 || ioctl(fd, SIOCGIFNAME, &r) < 0 || ioctl(fd, SIOCGIFHWADDR, &r) < 0)
		return "the link is gone";
	if (r.ifr_hwaddr.sa_family != ARPHRD_ETHER)
		return "it is no Ethernet link";
	memcpy(out->mac, r.ifr_hwaddr.sa_data, 6);
	int64_t features = features_of(ifindex);
	bool veth = is_veth(fd, &r);
	out->turns = !veth;
	out->sends = features >= 0 && (features & ACT_NDO_XMIT);
	if (features >= 0 && !(features & ACT_BASIC))
		return "its driver runs no XDP programs";
	return veth ? veth_refuses(features) : NULL;
}
