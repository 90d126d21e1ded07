/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/nft/nft.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <libmnl/libmnl.h>
#include <libnftnl/chain.h>
#include <libnftnl/common.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
#include <libnftnl/table.h>

#include "base/mem.h"
#include "dataplane/netlink/nfnl.h"

#define SET_NAME "tasks"
#define SET_ID 1
#define TYPE_IPV4 7 /* how nft(8) prints the set */
#define ELEMS_PER_MESSAGE 500
#define PRIO_SRCNAT 100
#define PRIO_BEFORE_FILTER (-1)

/* One transaction being written. */
struct batch {
	struct mnl_nlmsg_batch *b;
	const char *mark;
	uint32_t seq;
};

static struct nlmsghdr *message(struct batch *b, int type, int flags)
{
	return nftnl_nlmsg_build_hdr(mnl_nlmsg_batch_current(b->b), (uint16_t)type, NFPROTO_IPV4,
	                             (uint16_t)(flags | NLM_F_ACK), ++b->seq);
}

static void put_table(struct batch *b, int type)
{
	struct nftnl_table *t = nftnl_table_alloc();
	if (!t)
		abort();
	nftnl_table_set_str(t, NFTNL_TABLE_NAME, b->mark);
	nftnl_table_nlmsg_build_payload(message(b, type, type == NFT_MSG_NEWTABLE ? NLM_F_CREATE : 0), t);
	nftnl_table_free(t);
	mnl_nlmsg_batch_next(b->b);
}

static void put_chain(struct batch *b, const char *name, const char *type, uint32_t hook, int32_t prio)
{
	struct nftnl_chain *c = nftnl_chain_alloc();
	if (!c)
		abort();
	nftnl_chain_set_str(c, NFTNL_CHAIN_TABLE, b->mark);
	nftnl_chain_set_str(c, NFTNL_CHAIN_NAME, name);
	nftnl_chain_set_str(c, NFTNL_CHAIN_TYPE, type);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_HOOKNUM, hook);
	nftnl_chain_set_s32(c, NFTNL_CHAIN_PRIO, prio);
	nftnl_chain_set_u32(c, NFTNL_CHAIN_POLICY, NF_ACCEPT);
	nftnl_chain_nlmsg_build_payload(message(b, NFT_MSG_NEWCHAIN, NLM_F_CREATE), c);
	nftnl_chain_free(c);
	mnl_nlmsg_batch_next(b->b);
}

static struct nftnl_set *set_alloc(struct batch *b)
{
	struct nftnl_set *s = nftnl_set_alloc();
	if (!s)
		abort();
	nftnl_set_set_str(s, NFTNL_SET_TABLE, b->mark);
	nftnl_set_set_str(s, NFTNL_SET_NAME, SET_NAME);
	nftnl_set_set_u32(s, NFTNL_SET_ID, SET_ID);
	return s;
}

static void put_set(struct batch *b)
{
	struct nftnl_set *s = set_alloc(b);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_TYPE, TYPE_IPV4);
	nftnl_set_set_u32(s, NFTNL_SET_KEY_LEN, 4);
	nftnl_set_nlmsg_build_payload(message(b, NFT_MSG_NEWSET, NLM_F_CREATE), s);
	nftnl_set_free(s);
	mnl_nlmsg_batch_next(b->b);
}

static void put_some_elems(struct batch *b, int type, const struct dp_ip *ips, size_t n)
{
	struct nftnl_set *s = set_alloc(b);
	size_t added = 0;
	for (size_t i = 0; i < n; i++) {
		struct nftnl_set_elem *e = dp_ip_is_v4(&ips[i]) ? nftnl_set_elem_alloc() : NULL;
		if (!e)
			continue;
		nftnl_set_elem_set(e, NFTNL_SET_ELEM_KEY, ips[i].b + 12, 4);
		nftnl_set_elem_add(s, e);
		added++;
	}
	if (added) {
		nftnl_set_elems_nlmsg_build_payload(message(b, type, type == NFT_MSG_NEWSETELEM ? NLM_F_CREATE : 0), s);
		mnl_nlmsg_batch_next(b->b);
	}
	nftnl_set_free(s);
}

static void put_elems(struct batch *b, int type, const struct dp_ip *ips, size_t n)
{
	for (size_t i = 0; i < n; i += ELEMS_PER_MESSAGE)
		put_some_elems(b, type, ips + i, n - i < ELEMS_PER_MESSAGE ? n - i : ELEMS_PER_MESSAGE);
}

/* ---- expressions --------------------------------------------------------------------------------- */

static struct nftnl_expr *expr(struct nftnl_rule *r, const char *name)
{
	struct nftnl_expr *e = nftnl_expr_alloc(name);
	if (!e)
		abort();
	nftnl_rule_add_expr(r, e);
	return e;
}

/* ip saddr/daddr (not) @tasks */
static void match_set(struct nftnl_rule *r, uint32_t offset, bool negate)
{
	struct nftnl_expr *e = expr(r, "payload");
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_BASE, NFT_PAYLOAD_NETWORK_HEADER);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_OFFSET, offset);
	nftnl_expr_set_u32(e, NFTNL_EXPR_PAYLOAD_LEN, 4);
	e = expr(r, "lookup");
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SREG, NFT_REG_1);
	nftnl_expr_set_str(e, NFTNL_EXPR_LOOKUP_SET, SET_NAME);
	nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_SET_ID, SET_ID);
	if (negate)
		nftnl_expr_set_u32(e, NFTNL_EXPR_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
}

static void match_oif_not_lo(struct nftnl_rule *r)
{
	char name[16] = "lo";
	struct nftnl_expr *e = expr(r, "meta");
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_KEY, NFT_META_OIFNAME);
	nftnl_expr_set_u32(e, NFTNL_EXPR_META_DREG, NFT_REG_1);
	e = expr(r, "cmp");
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_NEQ);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, name, sizeof(name));
}

/* Neither of a connection we know nor related to one. */
static void match_ct_new(struct nftnl_rule *r)
{
	uint32_t mask = NF_CT_STATE_BIT(IP_CT_ESTABLISHED) | NF_CT_STATE_BIT(IP_CT_RELATED), zero = 0;
	struct nftnl_expr *e = expr(r, "ct");
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_KEY, NFT_CT_STATE);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CT_DREG, NFT_REG_1);
	e = expr(r, "bitwise");
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_DREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_BITWISE_LEN, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_MASK, &mask, 4);
	nftnl_expr_set(e, NFTNL_EXPR_BITWISE_XOR, &zero, 4);
	e = expr(r, "cmp");
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_SREG, NFT_REG_1);
	nftnl_expr_set_u32(e, NFTNL_EXPR_CMP_OP, NFT_CMP_EQ);
	nftnl_expr_set(e, NFTNL_EXPR_CMP_DATA, &zero, 4);
}

static struct nftnl_rule *rule_new(struct batch *b, const char *chain)
{
	struct nftnl_rule *r = nftnl_rule_alloc();
	if (!r)
		abort();
	nftnl_rule_set_str(r, NFTNL_RULE_TABLE, b->mark);
	nftnl_rule_set_str(r, NFTNL_RULE_CHAIN, chain);
	return r;
}

static void put_rule(struct batch *b, struct nftnl_rule *r)
{
	nftnl_rule_nlmsg_build_payload(message(b, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND), r);
	nftnl_rule_free(r);
	mnl_nlmsg_batch_next(b->b);
}

#define SADDR offsetof(struct iphdr, saddr)
#define DADDR offsetof(struct iphdr, daddr)

/* ip saddr @tasks ip daddr != @tasks oifname != "lo" masquerade */
static void put_masquerade(struct batch *b)
{
	struct nftnl_rule *r = rule_new(b, "postrouting");
	match_set(r, SADDR, false);
	match_set(r, DADDR, true);
	match_oif_not_lo(r);
	(void)expr(r, "masq");
	put_rule(b, r);
}

/* ip daddr @tasks ip saddr != @tasks ct state != established,related counter drop */
static void put_shield(struct batch *b)
{
	struct nftnl_rule *r = rule_new(b, "forward");
	match_set(r, DADDR, false);
	match_set(r, SADDR, true);
	match_ct_new(r);
	(void)expr(r, "counter");
	struct nftnl_expr *e = expr(r, "immediate");
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
	nftnl_expr_set_u32(e, NFTNL_EXPR_IMM_VERDICT, NF_DROP);
	put_rule(b, r);
}

/* ---- the transaction ----------------------------------------------------------------------------- */

int nft_acks_decode(const void *p, size_t n, uint32_t first, uint32_t last)
{
	int left = (int)n;
	for (const struct nlmsghdr *h = p; nfnl_ok(h, left); h = mnl_nlmsg_next(h, &left)) {
		if (h->nlmsg_type != NLMSG_ERROR || h->nlmsg_len < NLMSG_LENGTH(sizeof(int)) || h->nlmsg_seq <= first ||
		    h->nlmsg_seq > last + 1)
			continue;
		int code = ((const struct nlmsgerr *)mnl_nlmsg_get_payload(h))->error;
		if (code)
			return code > 0 ? MESH_E_PROTOCOL : code;
		if (h->nlmsg_seq == last)
			return 0;
	}
	return 1;
}

/* Reads acknowledgements until that of the last message, or the first error. */
static int read_acks(struct mnl_socket *nl, uint32_t first, uint32_t last)
{
	char buf[16384] __attribute__((aligned(8)));
	int rc = 1;
	while (rc == 1) {
		ssize_t n = mnl_socket_recvfrom(nl, buf, sizeof(buf));
		if (n <= 0)
			return n == 0 ? MESH_E_CLOSED : errno == EAGAIN ? -ETIMEDOUT : -errno;
		rc = nft_acks_decode(buf, (size_t)n, first, last);
	}
	return rc;
}

struct nft {
	char *mark;
	struct mnl_socket *nl;
};

int nft_open(const char *mark, struct nft **out, struct mesh_err *err)
{
	struct mnl_socket *nl = mnl_socket_open2(NETLINK_NETFILTER, SOCK_CLOEXEC);
	struct timeval tv = { .tv_sec = 5 };
	if (!nl)
		return mesh_fail(err, -errno, "nftables socket");
	if (mnl_socket_bind(nl, 0, MNL_SOCKET_AUTOPID) < 0 ||
	    setsockopt(mnl_socket_get_fd(nl), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) < 0) {
		int code = -errno;
		mnl_socket_close(nl);
		return mesh_fail(err, code, "nftables socket");
	}
	*out = XNEW(struct nft);
	(*out)->mark = xstrdup(mark);
	(*out)->nl = nl;
	return 0;
}

void nft_close(struct nft *n)
{
	if (!n)
		return;
	mnl_socket_close(n->nl);
	free(n->mark);
	free(n);
}

/* What a transaction is about. */
struct change {
	const struct dp_ip *add, *del;
	size_t n_add, n_del;
};
typedef void (*fill_fn)(struct batch *b, const struct change *c);

static int transact(struct nft *n, fill_fn fill, const struct change *c)
{
	static uint32_t seq; /* never used twice on a socket, so that late answers of a timed out one are told apart */
	/* mnl's batch wants room for one message beyond the limit. */
	size_t limit = 16384 + (c->n_add + c->n_del) * 64;
	CLEAN_FREE char *buf = xcalloc(2, limit);
	struct batch b = { .mark = n->mark, .b = mnl_nlmsg_batch_start(buf, limit), .seq = seq };
	if (!b.b)
		return -ENOMEM;
	nftnl_batch_begin(mnl_nlmsg_batch_current(b.b), ++b.seq);
	mnl_nlmsg_batch_next(b.b);
	fill(&b, c);
	uint32_t first = seq, last = b.seq;
	nftnl_batch_end(mnl_nlmsg_batch_current(b.b), ++b.seq);
	mnl_nlmsg_batch_next(b.b);
	seq = b.seq;
	int rc = 0, room = (int)mnl_nlmsg_batch_size(b.b) + (1 << 16);
	/* Forced, as the default does for few tasks only. */
	(void)setsockopt(mnl_socket_get_fd(n->nl), SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	if (mnl_socket_sendto(n->nl, mnl_nlmsg_batch_head(b.b), mnl_nlmsg_batch_size(b.b)) < 0)
		rc = -errno;
	if (!rc && last > first + 1)
		rc = read_acks(n->nl, first, last);
	mnl_nlmsg_batch_stop(b.b);
	return rc;
}

static void fill_table(struct batch *b, const struct change *c)
{
	/* Deleting what may not exist fails, so it is made to exist first. */
	put_table(b, NFT_MSG_NEWTABLE);
	put_table(b, NFT_MSG_DELTABLE);
	put_table(b, NFT_MSG_NEWTABLE);
	put_set(b);
	put_chain(b, "postrouting", "nat", NF_INET_POST_ROUTING, PRIO_SRCNAT);
	put_chain(b, "forward", "filter", NF_INET_FORWARD, PRIO_BEFORE_FILTER);
	put_elems(b, NFT_MSG_NEWSETELEM, c->add, c->n_add);
	put_masquerade(b);
	put_shield(b);
}

static void fill_update(struct batch *b, const struct change *c)
{
	put_elems(b, NFT_MSG_DELSETELEM, c->del, c->n_del);
	put_elems(b, NFT_MSG_NEWSETELEM, c->add, c->n_add);
}

static void fill_remove(struct batch *b, const struct change *c)
{
	(void)c;
	put_table(b, NFT_MSG_NEWTABLE);
	put_table(b, NFT_MSG_DELTABLE);
}

static int run(struct nft *n, fill_fn fill, const struct change *c, struct mesh_err *err)
{
	int rc = transact(n, fill, c);
	return rc ? mesh_fail(err, rc, "nftables table ip %s", n->mark) : 0;
}

int nft_apply(struct nft *n, const struct dp_ip *tasks, size_t count, struct mesh_err *err)
{
	return run(n, fill_table, &(struct change){ .add = tasks, .n_add = count }, err);
}

int nft_update(struct nft *n, const struct dp_ip *add, size_t n_add, const struct dp_ip *del, size_t n_del,
               struct mesh_err *err)
{
	return run(n, fill_update, &(struct change){ .add = add, .n_add = n_add, .del = del, .n_del = n_del }, err);
}

int nft_remove(struct nft *n, struct mesh_err *err)
{
	return run(n, fill_remove, &(struct change){ 0 }, err);
}
