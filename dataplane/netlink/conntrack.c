/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/netlink/conntrack.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <netinet/in.h>

static bool ip_of(const struct nlattr *a, struct dp_ip *out)
{
	*out = (struct dp_ip){ { [10] = 0xff, 0xff } };
	return nfnl_value(a, out->b + 12, 4);
}

static bool u16_of(const struct nlattr *a, uint16_t *out)
{
	uint16_t v;
	if (!nfnl_value(a, &v, sizeof(v)))
		return false;
	*out = ntohs(v);
	return true;
}

static bool tuple_of(const struct nlattr *orig, struct ct_flow *f)
{
	const struct nlattr *ip = nfnl_in(orig, CTA_TUPLE_IP), *proto = nfnl_in(orig, CTA_TUPLE_PROTO);
	f->zoned = f->zone_of_tuple = u16_of(nfnl_in(orig, CTA_TUPLE_ZONE), &f->zone);
	return ip_of(nfnl_in(ip, CTA_IP_V4_SRC), &f->src) && ip_of(nfnl_in(ip, CTA_IP_V4_DST), &f->dst) &&
	       nfnl_value(nfnl_in(proto, CTA_PROTO_NUM), &f->protocol, 1) &&
	       (f->protocol == IPPROTO_TCP || f->protocol == IPPROTO_UDP) &&
	       u16_of(nfnl_in(proto, CTA_PROTO_SRC_PORT), &f->sport) &&
	       u16_of(nfnl_in(proto, CTA_PROTO_DST_PORT), &f->dport);
}

void ct_take(void *arg, int type, const void *p, size_t n)
{
	struct ct_flows *out = arg;
	struct ct_flow f = { .left_s = CT_UNKNOWN };
	uint32_t status = 0;
	const struct nlattr *reply = nfnl_find(p, n, CTA_TUPLE_REPLY);
	if (type != IPCTNL_MSG_CT_NEW || !tuple_of(nfnl_find(p, n, CTA_TUPLE_ORIG), &f) ||
	    !ip_of(nfnl_in(nfnl_in(reply, CTA_TUPLE_IP), CTA_IP_V4_SRC), &f.answers) ||
	    !nfnl_value(nfnl_find(p, n, CTA_ID), &f.id, sizeof(f.id)) ||
	    !nfnl_value(nfnl_find(p, n, CTA_STATUS), &status, sizeof(status)))
		return;
	if (!f.zoned)
		f.zoned = u16_of(nfnl_find(p, n, CTA_ZONE), &f.zone);
	if (nfnl_value(nfnl_find(p, n, CTA_TIMEOUT), &f.left_s, sizeof(f.left_s)))
		f.left_s = ntohl(f.left_s);
	f.answered = ntohl(status) & IPS_SEEN_REPLY;
	f.stream = ntohl(status) & IPS_ASSURED;
	if (ntohl(status) & IPS_DST_NAT)
		vec_push(out, f);
}

int ct_translated(struct nfnl *l, struct ct_flows *out)
{
	char buf[NFNL_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *h = nfnl_request(l, buf, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET, NLM_F_DUMP);
	/* Kernels that cannot select send all of them. */
	mnl_attr_put_u32(h, CTA_STATUS, htonl(IPS_DST_NAT));
	mnl_attr_put_u32(h, CTA_STATUS_MASK, htonl(IPS_DST_NAT));
	return nfnl_talk(l, h, ct_take, out);
}

static void nothing(void *arg, int type, const void *p, size_t n)
{
	(void)arg;
	(void)type;
	(void)p;
	(void)n;
}

int ct_forget(struct nfnl *l, const struct ct_flow *f)
{
	char buf[NFNL_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nlmsghdr *h = nfnl_request(l, buf, NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE, NLM_F_ACK);
	struct nlattr *tuple = mnl_attr_nest_start(h, CTA_TUPLE_ORIG);
	struct nlattr *ip = mnl_attr_nest_start(h, CTA_TUPLE_IP);
	mnl_attr_put(h, CTA_IP_V4_SRC, 4, f->src.b + 12);
	mnl_attr_put(h, CTA_IP_V4_DST, 4, f->dst.b + 12);
	mnl_attr_nest_end(h, ip);
	struct nlattr *proto = mnl_attr_nest_start(h, CTA_TUPLE_PROTO);
	mnl_attr_put_u8(h, CTA_PROTO_NUM, f->protocol);
	mnl_attr_put_u16(h, CTA_PROTO_SRC_PORT, htons(f->sport));
	mnl_attr_put_u16(h, CTA_PROTO_DST_PORT, htons(f->dport));
	mnl_attr_nest_end(h, proto);
	if (f->zone_of_tuple)
		mnl_attr_put_u16(h, CTA_TUPLE_ZONE, htons(f->zone));
	mnl_attr_nest_end(h, tuple);
	if (f->zoned && !f->zone_of_tuple)
		mnl_attr_put_u16(h, CTA_ZONE, htons(f->zone));
	mnl_attr_put_u32(h, CTA_ID, f->id);
	int rc = nfnl_talk(l, h, nothing, NULL);
	return rc == -ENOENT ? 0 : rc;
}
