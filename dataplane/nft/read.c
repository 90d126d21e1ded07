/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/nft/read.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <libmnl/libmnl.h>
#include <stdio.h>

#include "base/mem.h"

#define TRIES 4 /* of a dump during which the table changed */

void nft_found_fini(struct nft_found *f)
{
	MAP_FOREACH(&f->counters, e)
		free(e->value);
	MAP_FOREACH(&f->elems, e)
		free(e->value);
	MAP_FOREACH(&f->rules, e)
		free(e->value);
	map_fini(&f->chains);
	map_fini(&f->rules);
	map_fini(&f->counters);
	map_fini(&f->elems);
}

static uint64_t u64_of(const struct nlattr *a)
{
	uint64_t v;
	return nfnl_value(a, &v, sizeof(v)) ? be64toh(v) : 0;
}

static struct nft_count *count_of(const struct nlattr *a)
{
	struct nft_count c = { .packets = u64_of(nfnl_in(a, NFTA_COUNTER_PACKETS)),
		               .bytes = u64_of(nfnl_in(a, NFTA_COUNTER_BYTES)) };
	return xmemdup(&c, sizeof(c));
}

/* ---- messages ------------------------------------------------------------------------------------ */

static void take_chain(const void *p, size_t n, struct nft_found *out)
{
	const char *name = nfnl_text(nfnl_find(p, n, NFTA_CHAIN_NAME));
	if (name)
		map_put(&out->chains, name, out);
}

static void take_rule(const void *p, size_t n, struct nft_found *out)
{
	const char *chain = nfnl_text(nfnl_find(p, n, NFTA_RULE_CHAIN));
	if (!chain)
		return;
	size_t *count = map_get(&out->rules, chain);
	if (!count)
		map_put(&out->rules, chain, count = XNEW(size_t));
	(*count)++;
}

static void take_counter(const void *p, size_t n, struct nft_found *out)
{
	const char *name = nfnl_text(nfnl_find(p, n, NFTA_OBJ_NAME));
	uint32_t type;
	if (name && nfnl_value(nfnl_find(p, n, NFTA_OBJ_TYPE), &type, sizeof(type)) &&
	    ntohl(type) == NFT_OBJECT_COUNTER)
		free(map_put(&out->counters, name, count_of(nfnl_find(p, n, NFTA_OBJ_DATA))));
}

static void take_elem(const char *set, const struct nlattr *e, struct nft_found *out)
{
	const struct nlattr *key = nfnl_in(nfnl_in(e, NFTA_SET_ELEM_KEY), NFTA_DATA_VALUE);
	const struct nlattr *expr = nfnl_in(e, NFTA_SET_ELEM_EXPR);
	const char *kind = nfnl_text(nfnl_in(expr, NFTA_EXPR_NAME));
	char ip[INET_ADDRSTRLEN], name[NFT_SET_MAXNAMELEN + INET_ADDRSTRLEN + 1];
	struct in_addr addr;
	if (!nfnl_value(key, &addr, sizeof(addr)) || !kind || strcmp(kind, "counter") != 0)
		return;
	inet_ntop(AF_INET, &addr, ip, sizeof(ip));
	snprintf(name, sizeof(name), "%s\n%s", set, ip);
	free(map_put(&out->elems, name, count_of(nfnl_in(expr, NFTA_EXPR_DATA))));
}

static void take_elems(const void *p, size_t n, struct nft_found *out)
{
	const char *set = nfnl_text(nfnl_find(p, n, NFTA_SET_ELEM_LIST_SET));
	const struct nlattr *list = nfnl_find(p, n, NFTA_SET_ELEM_LIST_ELEMENTS);
	if (!set || !list)
		return;
	const struct nlattr *a = mnl_attr_get_payload(list);
	for (int left = mnl_attr_get_payload_len(list); mnl_attr_ok(a, left);
	     left -= (int)MNL_ALIGN(a->nla_len), a = mnl_attr_next(a))
		take_elem(set, a, out);
}

void nft_found_take(void *arg, int type, const void *p, size_t n)
{
	const struct nft_reading *r = arg;
	const char *table = nfnl_text(nfnl_find(p, n, 1)); /* in all of them */
	if (!table || strcmp(table, r->table) != 0)
		return;
	if (type == NFT_MSG_NEWCHAIN)
		take_chain(p, n, r->out);
	else if (type == NFT_MSG_NEWRULE)
		take_rule(p, n, r->out);
	else if (type == NFT_MSG_NEWOBJ)
		take_counter(p, n, r->out);
	else if (type == NFT_MSG_NEWSETELEM)
		take_elems(p, n, r->out);
}

/* ---- dumps --------------------------------------------------------------------------------------- */

static int dump(struct nfnl *l, int type, const char *table, const char *set, struct nft_found *out)
{
	char buf[NFNL_REQUEST_MAX] __attribute__((aligned(NLMSG_ALIGNTO)));
	struct nft_reading r = { table, out };
	int rc = -EINTR;
	for (int i = 0; i < TRIES && rc == -EINTR; i++) {
		struct nlmsghdr *h = nfnl_request(l, buf, NFNL_SUBSYS_NFTABLES, type, NLM_F_DUMP);
		mnl_attr_put_strz(h, 1, table);
		if (set)
			mnl_attr_put_strz(h, NFTA_SET_ELEM_LIST_SET, set);
		rc = nfnl_talk(l, h, nft_found_take, &r);
	}
	return rc == -ENOENT ? 0 : rc;
}

int nft_read_chains(struct nfnl *l, const char *table, struct nft_found *out)
{
	return dump(l, NFT_MSG_GETCHAIN, table, NULL, out);
}

int nft_read_rules(struct nfnl *l, const char *table, struct nft_found *out)
{
	return dump(l, NFT_MSG_GETRULE, table, NULL, out);
}

int nft_read_counters(struct nfnl *l, const char *table, struct nft_found *out)
{
	return dump(l, NFT_MSG_GETOBJ, table, NULL, out);
}

int nft_read_elems(struct nfnl *l, const char *table, const char *set, struct nft_found *out)
{
	return dump(l, NFT_MSG_GETSETELEM, table, set, out);
}
