/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/kern.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_arp.h>
#include <linux/lwtunnel.h>
#include <linux/rtnetlink.h>
#include <netlink/addr.h>
#include <netlink/attr.h>
#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/route/link.h>
#include <netlink/route/link/veth.h>
#include <netlink/route/link/vxlan.h>
#include <netlink/route/neighbour.h>
#include <netlink/route/nexthop.h>
#include <netlink/route/route.h>
#include <netlink/socket.h>
#include <sys/socket.h>

#include "base/mem.h"

/* A link group nothing else uses; links in it live only until the next message. */
#define DOOMED_GROUP 0x6d657368u

struct kern {
	struct nl_sock *sk;
};

static int errno_of(int nle)
{
	switch (nle < 0 ? -nle : nle) {
	case 0:
		return 0;
	case NLE_INTR:
	case NLE_DUMP_INTR:
		return -EINTR;
	case NLE_AGAIN:
		return -EAGAIN;
	case NLE_EXIST:
		return -EEXIST;
	case NLE_NOADDR:
		return -EADDRNOTAVAIL;
	case NLE_OBJ_NOTFOUND:
		return -ENOENT;
	case NLE_NODEV:
		return -ENODEV;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_INVAL:
		return -EINVAL;
	case NLE_RANGE:
		return -ERANGE;
	case NLE_MSGSIZE:
		return -EMSGSIZE;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	case NLE_AF_NOSUPPORT:
		return -EAFNOSUPPORT;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_BUSY:
		return -EBUSY;
	default:
		return -EIO;
	}
}

int kern_open(struct kern **out, struct mesh_err *err)
{
	struct nl_sock *sk = nl_socket_alloc();
	if (!sk)
		return mesh_fail(err, -ENOMEM, "netlink socket");
	int nle = nl_connect(sk, NETLINK_ROUTE);
	if (nle < 0) {
		nl_socket_free(sk);
		return mesh_fail(err, errno_of(nle), "netlink socket");
	}
	(void)fcntl(nl_socket_get_fd(sk), F_SETFD, FD_CLOEXEC);
	(void)nl_socket_set_buffer_size(sk, 1 << 20, 1 << 18); /* best effort: the default works for small dumps */
	*out = XNEW(struct kern);
	(*out)->sk = sk;
	return 0;
}

void kern_close(struct kern *k)
{
	if (!k)
		return;
	nl_socket_free(k->sk);
	free(k);
}

/* ---- conversions --------------------------------------------------------------------------------- */

static bool ip_of(const struct nl_addr *a, struct dp_ip *out)
{
	memset(out, 0, sizeof(*out));
	if (!a)
		return false;
	unsigned len = nl_addr_get_len(a);
	const void *b = nl_addr_get_binary_addr(a);
	switch (nl_addr_get_family(a)) {
	case AF_INET:
		out->b[10] = out->b[11] = 0xff;
		if (len == 4)
			memcpy(out->b + 12, b, 4);
		return len == 4 || len == 0;
	case AF_INET6:
		if (len == 16)
			memcpy(out->b, b, 16);
		return len == 16 || len == 0;
	default:
		return false;
	}
}

static struct nl_addr *nl_of(const struct dp_ip *ip, int prefix)
{
	bool v4 = dp_ip_is_v4(ip);
	struct nl_addr *a = v4 ? nl_addr_build(AF_INET, ip->b + 12, 4) : nl_addr_build(AF_INET6, ip->b, 16);
	if (!a)
		abort();
	if (prefix >= 0)
		nl_addr_set_prefixlen(a, prefix);
	return a;
}

static void link_of(struct rtnl_link *l, struct kern_link *out)
{
	*out = (struct kern_link){ .ifindex = rtnl_link_get_ifindex(l),
		                   .peer = rtnl_link_get_link(l),
		                   .mtu = rtnl_link_get_mtu(l),
		                   .up = rtnl_link_get_flags(l) & IFF_UP };
	const char *name = rtnl_link_get_name(l), *kind = rtnl_link_get_type(l);
	snprintf(out->name, sizeof(out->name), "%s", name ? name : "");
	snprintf(out->kind, sizeof(out->kind), "%s", kind ? kind : "");
	struct nl_addr *mac = rtnl_link_get_addr(l);
	if (mac && nl_addr_get_len(mac) == 6)
		memcpy(out->mac, nl_addr_get_binary_addr(mac), 6);
}

/* ---- dumps --------------------------------------------------------------------------------------- */

int kern_links(struct kern *k, struct kern_links *out)
{
	struct nl_cache *c;
	int nle = rtnl_link_alloc_cache(k->sk, AF_UNSPEC, &c);
	if (nle < 0)
		return errno_of(nle);
	for (struct nl_object *o = nl_cache_get_first(c); o; o = nl_cache_get_next(o)) {
		struct kern_link l;
		link_of((struct rtnl_link *)o, &l);
		vec_push(out, l);
	}
	nl_cache_free(c);
	return 0;
}

int kern_addrs(struct kern *k, struct kern_addrs *out)
{
	struct nl_cache *c;
	int nle = rtnl_addr_alloc_cache(k->sk, &c);
	if (nle < 0)
		return errno_of(nle);
	for (struct nl_object *o = nl_cache_get_first(c); o; o = nl_cache_get_next(o)) {
		struct rtnl_addr *ra = (struct rtnl_addr *)o;
		struct kern_addr a = { .ifindex = rtnl_addr_get_ifindex(ra),
			               .prefix = (unsigned)rtnl_addr_get_prefixlen(ra) };
		if (ip_of(rtnl_addr_get_local(ra), &a.ip))
			vec_push(out, a);
	}
	nl_cache_free(c);
	return 0;
}

static bool attr_ip(const struct nlattr *a, int family, struct dp_ip *out)
{
	int len = family == AF_INET ? 4 : 16;
	memset(out, 0, sizeof(*out));
	if (family == AF_INET)
		out->b[10] = out->b[11] = 0xff;
	if (!a || nla_len(a) != len)
		return false;
	memcpy(out->b + 16 - len, nla_data(a), (size_t)len);
	return true;
}

/* The first next hop of several. */
static bool multipath_of(struct nlattr *multipath, int *ifindex, const struct nlattr **via)
{
	struct rtnexthop *nh = multipath && nla_len(multipath) >= (int)sizeof(*nh) ? nla_data(multipath) : NULL;
	if (!nh || !RTNH_OK(nh, nla_len(multipath)))
		return false;
	int left = nh->rtnh_len - (int)sizeof(*nh);
	*ifindex = nh->rtnh_ifindex;
	*via = left > 0 ? nla_find((struct nlattr *)RTNH_DATA(nh), left, RTA_GATEWAY) : NULL;
	return true;
}

/* By hand: libnl 3.7 takes a tunnel's route for a failure of the whole dump. */
bool kern_route_decode(const struct nlmsghdr *msg, struct kern_route *out)
{
	struct nlmsghdr *h = (struct nlmsghdr *)(uintptr_t)msg; /* libnl's functions do not change it */
	const struct rtmsg *rt = nlmsg_data(h);
	struct nlattr *tb[RTA_MAX + 1];
	*out = (struct kern_route){ 0 };
	if (h->nlmsg_type != RTM_NEWROUTE || !nlmsg_valid_hdr(h, sizeof(*rt)) ||
	    (rt->rtm_family != AF_INET && rt->rtm_family != AF_INET6) || rt->rtm_flags & RTM_F_CLONED ||
	    nlmsg_parse(h, sizeof(*rt), tb, RTA_MAX, NULL) < 0)
		return false;
	if ((tb[RTA_TABLE] && nla_len(tb[RTA_TABLE]) == 4 ? nla_get_u32(tb[RTA_TABLE]) : rt->rtm_table) !=
	    RT_TABLE_MAIN)
		return false;
	const struct nlattr *oif = tb[RTA_OIF], *via = tb[RTA_GATEWAY];
	if (oif && nla_len(oif) == 4)
		out->ifindex = (int)nla_get_u32((struct nlattr *)oif);
	else if (!multipath_of(tb[RTA_MULTIPATH], &out->ifindex, &via))
		return false;
	(void)attr_ip(tb[RTA_DST], rt->rtm_family, &out->dst); /* none: the default route */
	out->prefix = rt->rtm_dst_len;
	out->protocol = rt->rtm_protocol;
	out->has_via = attr_ip(via, rt->rtm_family, &out->via);
	if (!out->has_via)
		memset(&out->via, 0, sizeof(out->via));
	return true;
}

static int on_route(struct nl_msg *m, void *arg)
{
	struct kern_routes *out = arg;
	struct kern_route r;
	if (!kern_route_decode(nlmsg_hdr(m), &r))
		return NL_SKIP;
	vec_push(out, r);
	return NL_OK;
}

int kern_routes(struct kern *k, struct kern_routes *out)
{
	struct rtmsg ask = { .rtm_family = AF_UNSPEC };
	struct nl_cb *of_socket = nl_socket_get_cb(k->sk), *cb = nl_cb_clone(of_socket);
	nl_cb_put(of_socket);
	if (!cb)
		return -ENOMEM;
	(void)nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, on_route, out); /* fails on an unknown kind only */
	int nle = nl_send_simple(k->sk, RTM_GETROUTE, NLM_F_DUMP, &ask, sizeof(ask));
	if (nle >= 0)
		nle = nl_recvmsgs(k->sk, cb);
	nl_cb_put(cb);
	return nle < 0 ? errno_of(nle) : 0;
}

int kern_neighs(struct kern *k, struct kern_neighs *out)
{
	struct nl_cache *c;
	int nle = rtnl_neigh_alloc_cache(k->sk, &c);
	if (nle < 0)
		return errno_of(nle);
	for (struct nl_object *o = nl_cache_get_first(c); o; o = nl_cache_get_next(o)) {
		struct rtnl_neigh *rn = (struct rtnl_neigh *)o;
		struct kern_neigh n = { .ifindex = rtnl_neigh_get_ifindex(rn) };
		struct nl_addr *mac = rtnl_neigh_get_lladdr(rn);
		if (!(rtnl_neigh_get_state(rn) & NUD_PERMANENT) || !mac || nl_addr_get_len(mac) != 6)
			continue;
		memcpy(n.mac, nl_addr_get_binary_addr(mac), 6);
		if (ip_of(rtnl_neigh_get_dst(rn), &n.ip))
			vec_push(out, n);
	}
	nl_cache_free(c);
	return 0;
}

int kern_link_get(struct kern *k, const char *name, struct kern_link *out)
{
	struct rtnl_link *l;
	int nle = rtnl_link_get_kernel(k->sk, 0, name, &l);
	if (nle < 0)
		return nle == -NLE_OBJ_NOTFOUND ? -ENODEV : errno_of(nle);
	link_of(l, out);
	rtnl_link_put(l);
	return 0;
}

/* ---- links --------------------------------------------------------------------------------------- */

static void set_mac(struct rtnl_link *l, const uint8_t mac[6])
{
	struct nl_addr *a = nl_addr_build(AF_LLC, mac, 6);
	if (!a)
		abort();
	rtnl_link_set_addr(l, a);
	nl_addr_put(a);
}

int kern_veth_add(struct kern *k, const struct kern_veth *v)
{
	struct rtnl_link *l = rtnl_link_veth_alloc();
	if (!l)
		return -ENOMEM;
	struct rtnl_link *peer = rtnl_link_veth_get_peer(l); /* takes a reference, returned below */
	rtnl_link_set_name(l, v->name);
	rtnl_link_set_mtu(l, v->mtu);
	set_mac(l, v->mac);
	rtnl_link_set_name(peer, v->peer_name);
	rtnl_link_set_mtu(peer, v->mtu);
	set_mac(peer, v->peer_mac);
	rtnl_link_set_ns_fd(peer, v->peer_ns);
	int nle = rtnl_link_add(k->sk, l, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_link_put(peer);
	rtnl_link_put(l);
	return errno_of(nle);
}

int kern_vxlan_add(struct kern *k, const char *name, uint16_t port)
{
	struct rtnl_link *l = rtnl_link_vxlan_alloc();
	if (!l)
		return -ENOMEM;
	rtnl_link_set_name(l, name);
	int nle = rtnl_link_vxlan_set_port(l, port);
	if (nle >= 0)
		nle = rtnl_link_vxlan_set_collect_metadata(l, 1);
	if (nle >= 0)
		nle = rtnl_link_add(k->sk, l, NLM_F_CREATE | NLM_F_EXCL);
	rtnl_link_put(l);
	return errno_of(nle);
}

/* RTM_NEWLINK for one ifindex with whatever attributes the caller adds. */
static struct nl_msg *link_msg(int type, int ifindex, unsigned flags, unsigned change)
{
	struct nl_msg *m = nlmsg_alloc_simple(type, 0);
	struct ifinfomsg ifi = {
		.ifi_family = AF_UNSPEC, .ifi_index = ifindex, .ifi_flags = flags, .ifi_change = change
	};
	if (!m || nlmsg_append(m, &ifi, sizeof(ifi), NLMSG_ALIGNTO) < 0)
		abort();
	return m;
}

int kern_link_up(struct kern *k, int ifindex, uint32_t mtu)
{
	struct nl_msg *m = link_msg(RTM_NEWLINK, ifindex, IFF_UP, IFF_UP);
	if (mtu && nla_put_u32(m, IFLA_MTU, mtu) < 0)
		abort();
	return errno_of(nl_send_sync(k->sk, m)); /* frees m */
}

int kern_links_del(struct kern *k, const int *ifindex, size_t n)
{
	size_t doomed = 0;
	for (size_t i = 0; i < n; i++) {
		struct nl_msg *m = link_msg(RTM_NEWLINK, ifindex[i], 0, 0);
		if (nla_put_u32(m, IFLA_GROUP, DOOMED_GROUP) < 0)
			abort();
		int rc = errno_of(nl_send_sync(k->sk, m));
		if (rc && rc != -ENODEV && rc != -ENOENT)
			return rc;
		doomed += !rc;
	}
	if (!doomed)
		return 0;
	struct nl_msg *m = link_msg(RTM_DELLINK, 0, 0, 0);
	if (nla_put_u32(m, IFLA_GROUP, DOOMED_GROUP) < 0)
		abort();
	int rc = errno_of(nl_send_sync(k->sk, m));
	return rc == -ENODEV || rc == -ENOENT ? 0 : rc;
}

/* ---- addresses, routes, neighbours --------------------------------------------------------------- */

int kern_addr_set(struct kern *k, int ifindex, const struct dp_ip *ip, unsigned prefix)
{
	struct rtnl_addr *a = rtnl_addr_alloc();
	if (!a)
		return -ENOMEM;
	struct nl_addr *local = nl_of(ip, (int)prefix);
	rtnl_addr_set_ifindex(a, ifindex);
	int nle = rtnl_addr_set_local(a, local);
	if (nle >= 0)
		nle = rtnl_addr_add(k->sk, a, NLM_F_REPLACE);
	nl_addr_put(local);
	rtnl_addr_put(a);
	return nle == -NLE_EXIST ? 0 : errno_of(nle);
}

static struct rtnl_route *route_of(const struct kern_route *r)
{
	struct rtnl_route *rr = rtnl_route_alloc();
	struct rtnl_nexthop *nh = rtnl_route_nh_alloc();
	if (!rr || !nh)
		abort();
	struct nl_addr *dst = nl_of(&r->dst, (int)r->prefix);
	rtnl_route_set_family(rr, dp_ip_is_v4(&r->dst) ? AF_INET : AF_INET6);
	rtnl_route_set_table(rr, RT_TABLE_MAIN);
	rtnl_route_set_protocol(rr, r->protocol);
	rtnl_route_set_scope(rr, r->has_via ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK);
	(void)rtnl_route_set_dst(rr, dst); /* fails only on a family mismatch, and we set the family */
	nl_addr_put(dst);
	rtnl_route_nh_set_ifindex(nh, r->ifindex);
	if (r->has_via) {
		struct nl_addr *via = nl_of(&r->via, -1);
		rtnl_route_nh_set_gateway(nh, via);
		nl_addr_put(via);
	}
	rtnl_route_add_nexthop(rr, nh);
	return rr;
}

int kern_route_set(struct kern *k, const struct kern_route *r)
{
	struct rtnl_route *rr = route_of(r);
	int nle = rtnl_route_add(k->sk, rr, NLM_F_CREATE | NLM_F_REPLACE);
	rtnl_route_put(rr);
	return errno_of(nle);
}

int kern_route_del(struct kern *k, const struct kern_route *r)
{
	struct rtnl_route *rr = route_of(r);
	int nle = rtnl_route_delete(k->sk, rr, 0);
	rtnl_route_put(rr);
	int rc = errno_of(nle);
	return rc == -ENOENT || rc == -ENODEV || rc == -ESRCH ? 0 : rc;
}

int kern_route_tunnel_set(struct kern *k, const struct kern_route *r, uint32_t vni, const struct dp_ip *from,
                          const struct dp_ip *to)
{
	struct nl_msg *m = nlmsg_alloc_simple(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
	struct rtmsg rt = { .rtm_family = AF_INET,
		            .rtm_dst_len = (unsigned char)r->prefix,
		            .rtm_table = RT_TABLE_MAIN,
		            .rtm_protocol = r->protocol,
		            .rtm_scope = RT_SCOPE_UNIVERSE,
		            .rtm_type = RTN_UNICAST,
		            .rtm_flags = RTNH_F_ONLINK };
	uint64_t id = __builtin_bswap64(vni);
	if (!m || nlmsg_append(m, &rt, sizeof(rt), NLMSG_ALIGNTO) < 0 || nla_put(m, RTA_DST, 4, r->dst.b + 12) < 0 ||
	    nla_put_u32(m, RTA_OIF, (uint32_t)r->ifindex) < 0 || nla_put(m, RTA_GATEWAY, 4, r->via.b + 12) < 0 ||
	    nla_put_u16(m, RTA_ENCAP_TYPE, LWTUNNEL_ENCAP_IP) < 0)
		abort();
	struct nlattr *encap = nla_nest_start(m, RTA_ENCAP);
	if (!encap || nla_put(m, LWTUNNEL_IP_ID, 8, &id) < 0 || nla_put(m, LWTUNNEL_IP_DST, 4, to->b + 12) < 0 ||
	    nla_put(m, LWTUNNEL_IP_SRC, 4, from->b + 12) < 0)
		abort();
	nla_nest_end(m, encap);
	return errno_of(nl_send_sync(k->sk, m)); /* frees m */
}

int kern_link_mac(struct kern *k, int ifindex, const uint8_t mac[6])
{
	struct nl_msg *m = link_msg(RTM_NEWLINK, ifindex, 0, 0);
	if (nla_put(m, IFLA_ADDRESS, 6, mac) < 0)
		abort();
	return errno_of(nl_send_sync(k->sk, m));
}

static struct rtnl_neigh *neigh_of(const struct kern_neigh *n)
{
	struct rtnl_neigh *rn = rtnl_neigh_alloc();
	struct nl_addr *dst = nl_of(&n->ip, -1), *mac = nl_addr_build(AF_LLC, n->mac, 6);
	if (!rn || !mac)
		abort();
	rtnl_neigh_set_ifindex(rn, n->ifindex);
	(void)rtnl_neigh_set_dst(rn, dst); /* fails only on a family mismatch, and none is set yet */
	rtnl_neigh_set_lladdr(rn, mac);
	rtnl_neigh_set_state(rn, NUD_PERMANENT);
	nl_addr_put(dst);
	nl_addr_put(mac);
	return rn;
}

int kern_neigh_set(struct kern *k, const struct kern_neigh *n)
{
	struct rtnl_neigh *rn = neigh_of(n);
	int nle = rtnl_neigh_add(k->sk, rn, NLM_F_CREATE | NLM_F_REPLACE);
	rtnl_neigh_put(rn);
	return errno_of(nle);
}

int kern_neigh_del(struct kern *k, const struct kern_neigh *n)
{
	struct rtnl_neigh *rn = neigh_of(n);
	int rc = errno_of(rtnl_neigh_delete(k->sk, rn, 0));
	rtnl_neigh_put(rn);
	return rc == -ENOENT || rc == -ENODEV ? 0 : rc;
}

/* ---- monitor ------------------------------------------------------------------------------------- */

int kern_monitor_open(struct mesh_err *err)
{
	CLEAN_CLOSE int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	if (fd < 0)
		return mesh_fail(err, -errno, "netlink monitor");
	struct sockaddr_nl sa = { .nl_family = AF_NETLINK,
		                  .nl_groups =
		                          RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE };
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return mesh_fail(err, -errno, "netlink monitor");
	return TAKE_FD(fd);
}

static bool link_matters(const struct nlmsghdr *h, const char *mark, const char *keep)
{
	const struct ifinfomsg *ifi = NLMSG_DATA(h);
	int left = (int)h->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*ifi));
	for (const struct rtattr *a = IFLA_RTA(ifi); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type != IFLA_IFNAME)
			continue;
		const char *name = RTA_DATA(a);
		size_t n = strnlen(name, RTA_PAYLOAD(a));
		if (h->nlmsg_type == RTM_DELLINK && n == strlen(keep) && memcmp(name, keep, n) == 0)
			return true;
		return n < strlen(mark) || memcmp(name, mark, strlen(mark)) != 0;
	}
	return true;
}

static bool msg_matters(const struct nlmsghdr *h, const char *mark, const char *keep, uint8_t own_protocol)
{
	switch (h->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(struct ifinfomsg)) && link_matters(h, mark, keep);
	case RTM_NEWADDR:
	case RTM_DELADDR:
		return true;
	case RTM_NEWROUTE:
	case RTM_DELROUTE: {
		const struct rtmsg *r = NLMSG_DATA(h);
		return h->nlmsg_len >= NLMSG_LENGTH(sizeof(*r)) && r->rtm_protocol != own_protocol &&
		       !(r->rtm_flags & RTM_F_CLONED);
	}
	default:
		return false;
	}
}

bool kern_monitor_drain(int fd, const char *mark, const char *keep, uint8_t own_protocol)
{
	bool changed = false;
	char buf[16384] __attribute__((aligned(NLMSG_ALIGNTO)));
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		if (n < 0 && errno == ENOBUFS) {
			changed = true;
			continue;
		}
		if (n <= 0)
			return changed;
		int left = (int)n;
		for (struct nlmsghdr *h = (struct nlmsghdr *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left))
			changed |= msg_matters(h, mark, keep, own_protocol);
	}
}
