/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What never changes: the sets, the chains with hooks and what they jump to, the counters that always stand. */
#include "dataplane/nft/rules_int.h"

enum set_kind {
	WANTED,     /* its elements are rules_build's */
	COUNTING,   /* the same; they count */
	REMEMBERED, /* its elements are made by rules */
};
static const struct {
	const char *name, *type;
	enum set_kind kind;
} sets[] = {
	{ "set standing", "type mark . mark" },
	{ "set addrs", "type ipv4_addr" },
	{ "set nodes", "type ipv4_addr" },
	{ "set tasks", "type ipv4_addr" },
	{ "set pings", "type ipv4_addr" },
	{ "set ifaddrs", "type ifname . ipv4_addr . ether_addr" },
	{ "set direct", "type inet_proto . inet_service" },
	{ "set overlay", "type ipv4_addr; flags interval" },
	{ "set samenet", "type ipv4_addr . ipv4_addr; flags interval" },
	{ "set net_in", "type ipv4_addr; counter", COUNTING },
	{ "set net_out", "type ipv4_addr; counter", COUNTING },
	{ "set pub_in", "type ipv4_addr; counter", COUNTING },
	{ "set pub_out", "type ipv4_addr; counter", COUNTING },
	{ "set net_rst_in", "type ipv4_addr; counter", COUNTING },
	{ "set net_rst_out", "type ipv4_addr; counter", COUNTING },
	{ "set pub_rst_in", "type ipv4_addr; counter", COUNTING },
	{ "set pub_rst_out", "type ipv4_addr; counter", COUNTING },
	{ "set pub_conns", "type ipv4_addr; counter", COUNTING },
	{ "set vip_conns", "type ipv4_addr; counter", COUNTING },
	{ "map vips", "type ipv4_addr : verdict" },
	{ "map published", "type inet_proto . inet_service : verdict" },
	{ "map published_lo", "type inet_proto . inet_service : verdict" },
	{ "map live", "type mark : verdict" },
	{ "map live_at", "type mark : ipv4_addr" },
	{ "map serving", "type mark : verdict" },
	{ "map hostports", "type inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map here", "type mark . inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map tunnelled", "type ether_addr . inet_proto . inet_service : ipv4_addr . inet_service" },
	{ "map origins", "type ether_addr : mark" },
	{ "map ways_back", "type mark : ipv4_addr" },
	{ "map masq_as", "type mark : ipv4_addr" },
	{ "map hairpins", "type ipv4_addr . ipv4_addr : ipv4_addr" },
	{ "map flows", "typeof " RULES_FLOW " : meta mark; flags dynamic,timeout", REMEMBERED },
	{ "map syns", "typeof " RULES_FLOW " : meta mark; flags dynamic,timeout", REMEMBERED },
	{ "map ended", "typeof " RULES_FLOW " : meta mark; flags dynamic,timeout", REMEMBERED },
	{ "map datagrams", "typeof " RULES_FLOW " : meta mark; flags dynamic,timeout", REMEMBERED },
	{ "map affine", "typeof ip saddr . meta mark : meta mark; flags dynamic,timeout", REMEMBERED },
};
const char *const rules_counting[RULES_COUNTING_MAX] = {
	[COUNT_NET_IN] = "net_in",         [COUNT_NET_OUT] = "net_out",         [COUNT_PUB_IN] = "pub_in",
	[COUNT_PUB_OUT] = "pub_out",       [COUNT_NET_RST_IN] = "net_rst_in",   [COUNT_NET_RST_OUT] = "net_rst_out",
	[COUNT_PUB_RST_IN] = "pub_rst_in", [COUNT_PUB_RST_OUT] = "pub_rst_out", [COUNT_PUB_CONNS] = "pub_conns",
	[COUNT_VIP_CONNS] = "vip_conns",
};

static const char *const fixed[][2] = {
	{ RULES_DROP "spoof", "a task sent with an address that is not its own" },
	{ RULES_DROP "isolated", "address of another network" },
	{ RULES_DROP "internal", "an internal network has no way out" },
	{ RULES_DROP "no_backend", "the service has no serving task" },
	{ RULES_DROP "unknown_node", "tunnelled by a machine that is not of the cluster" },
	{ RULES_DROP "unknown_src", "tunnelled with a source its sender does not run" },
	{ RULES_DROP "no_port", "tunnelled for a port that nothing publishes" },
	{ RULES_DROP "source", "a published port that this client's address may not dial" },
	{ RULES_DROP "tunnel_port", "a task sent to the port of the tunnels, outside" },
	{ RULES_EVENT "flow_new", "flows begun with a task of this node" },
	{ RULES_EVENT "echo", "echo requests answered for service addresses and gateways" },
	{ RULES_EVENT "vip", "flows to a service address pointed to a task" },
	{ RULES_EVENT "passed_on", "packets to published ports passed on to another node" },
	{ RULES_EVENT "unheld", "those whose flow there was no room to remember" },
};

const char *rules_fixed_counter(size_t i, const char **text)
{
	if (i >= ARRAY_SIZE(fixed))
		return NULL;
	*text = fixed[i][1];
	return fixed[i][0];
}

/*
 * @V the tunnel device, @M every device of ours, @S this node's address, @P the tunnel's port, @K the key of a flow,
 * @Q of the flow an error is about, @D and @E followed by an id in parentheses: drop or event, counted.
 */
static const char base[] =
	"chain untrack {\n"
	" type filter hook prerouting priority raw; policy accept;\n"
	" iifname \"@V\" ether daddr 02:50:00:00:00:01 fib daddr type != local notrack\n"
	/* This machine's own connection to another node has the same addresses when that node sends it back here. */
	" iifname \"@V\" ether daddr != 02:50:00:00:00:01 ip daddr != @overlay ct original zone set 1\n"
	"}\n"
	"chain from_task {\n"
	" iifname . ip saddr . ether saddr @ifaddrs goto from_itself\n"
	" @D(spoof)\n"
	"}\n"
	"chain from_itself {\n"
	" ct direction reply ct original ip daddr != @overlay goto published_out\n"
	" ip saddr @net_out\n"
	" tcp flags rst ip saddr @net_rst_out\n"
	" ct state established,related return\n"
	" ip daddr 127.0.0.0/8 @D(isolated)\n"
	/* As packets of this node's other nodes would believe them. */
	" ip daddr != @overlay udp dport @P @D(tunnel_port)\n"
	" ip daddr @overlay ip saddr . ip daddr != @samenet @D(isolated)\n"
	"}\n"
	"chain published_out {\n"
	" ip saddr @pub_out\n"
	" tcp flags rst ip saddr @pub_rst_out\n"
	"}\n"
	"chain choose {\n"
	" type filter hook prerouting priority mangle; policy accept;\n"
	" iifname \"@V\" return\n"
	" iifname \"@M*\" jump from_task\n"
	" iifname != \"lo\" ct status dnat return\n"
	" ip daddr @addrs meta l4proto . th dport vmap @published\n"
	/* Connection tracking knows nothing of what was passed on. */
	" ct state invalid ip daddr @addrs icmp type { 3, 11, 12 } ip hdrlength 5 goto pass_error\n"
	"}\n"
	/* It quotes what went to the client: without options, and what it was. */
	"chain pass_error {\n"
	" @nh,224,8 != 0x45 return\n"
	" @nh,296,8 17 meta mark set @Q map @datagrams goto send_error\n"
	" @nh,296,8 != 6 return\n"
	" meta mark set @Q map @flows goto send_error\n"
	" meta mark set @Q map @ended goto send_error\n"
	" meta mark set @Q map @syns goto send_error\n"
	"}\n"
	"chain send_error {\n"
	" dup to meta mark map @live_at device \"@V\" @E(passed_on) drop\n"
	"}\n"
	"chain choose_here {\n"
	" type filter hook output priority mangle; policy accept;\n"
	" oifname \"@M*\" return\n"
	" ct status dnat return\n"
	" ip daddr 127.0.0.0/8 meta l4proto . th dport vmap @published_lo\n"
	" ip daddr @addrs meta l4proto . th dport vmap @published\n"
	"}\n"
	/*
	 * Where an older flow went, if that task is still there. A SYN begins a new one, also at the port of an old one. What
	 * has ended is remembered apart, or its last acknowledgements would keep it among those that live for hours.
	 */
	"chain anew {\n"
	" delete @syns { @K : meta mark }\n"
	" delete @flows { @K : meta mark }\n"
	" delete @ended { @K : meta mark }\n"
	"}\n"
	"chain pass_on {\n"
	" meta iif 0 meta mark vmap @live\n"
	" dup to meta mark map @live_at device \"@V\" @E(passed_on) drop\n"
	" goto anew\n"
	"}\n"
	"chain recall_ended {\n"
	" update @ended { @K timeout 60s : meta mark }\n"
	" goto pass_on\n"
	"}\n"
	"chain recall_flow {\n"
	" tcp flags fin,rst delete @flows { @K : meta mark } goto recall_ended\n"
	/* Of a connection that says anything once a minute, the time does not run out by this. */
	" numgen random mod 8 0 update @flows { @K timeout 3h : meta mark }\n"
	" goto pass_on\n"
	"}\n"
	"chain recall_datagram {\n"
	" meta mark set @K map @datagrams\n"
	" meta mark vmap @serving\n"
	" delete @datagrams { @K : meta mark }\n"
	"}\n"
	"chain recall {\n"
	" ip hdrlength != 5 return\n"
	" meta l4proto udp goto recall_datagram\n"
	" tcp flags & (fin | syn | rst | ack) == syn goto anew\n"
	" meta mark set @K map @flows goto recall_flow\n"
	" meta mark set @K map @ended goto recall_ended\n"
	" meta mark set @K map @syns\n"
	" meta mark vmap @live\n"
	" goto anew\n"
	"}\n"
	/* What was chosen, the mark, is remembered: a first packet's for a minute, so that a flood of them pushes nobody out. */
	"chain hold {\n"
	" @E(passed_on)\n"
	" ip hdrlength != 5 return\n"
	" meta l4proto udp " RULES_HOLD_DATAGRAM " return\n"
	" tcp flags & (fin | syn | rst | ack) == syn update @syns { @K timeout 60s : meta mark } return\n"
	" tcp flags & (fin | rst) != 0 update @ended { @K timeout 60s : meta mark } return\n"
	" tcp flags & (fin | syn | rst) == 0 update @flows { @K timeout 3h : meta mark } return\n"
	" @E(unheld)\n"
	"}\n"
	"chain from_node {\n"
	" meta l4proto . th dport != @direct ct mark set ether saddr map @origins\n"
	" dnat ip to ether daddr . meta l4proto . th dport map @tunnelled\n"
	" @D(no_port)\n"
	"}\n"
	"chain translate {\n"
	" type nat hook prerouting priority dstnat; policy accept;\n"
	" iifname \"@V\" ether daddr != 02:50:00:00:00:01 ip daddr != @overlay goto from_node\n"
	" iifname \"@M*\" ip daddr @pings icmp type echo-request @E(echo) dnat to @S\n"
	" iifname \"@M*\" ip daddr vmap @vips\n"
	" dnat ip to meta mark . meta l4proto . th dport map @here\n"
	" ip daddr @addrs dnat ip to meta l4proto . th dport map @hostports\n"
	"}\n"
	"chain unmark {\n"
	" type filter hook prerouting priority -99; policy accept;\n"
	" meta mark & 0xff000000 == 0x6d000000 meta mark set 0x0\n"
	"}\n"
	"chain translate_here {\n"
	" type nat hook output priority -100; policy accept;\n"
	" dnat ip to meta mark . meta l4proto . th dport map @here\n"
	" ip daddr @addrs dnat ip to meta l4proto . th dport map @hostports\n"
	" ip daddr 127.0.0.0/8 dnat ip to meta l4proto . th dport map @hostports\n"
	"}\n"
	"chain shield {\n"
	" type filter hook forward priority -1; policy accept;\n"
	" ct state established,related accept\n"
	" ct status dnat accept\n"
	" iifname \"@V\" ip saddr . ip daddr @samenet accept\n"
	" iifname \"@V\" ct state untracked accept\n"
	" iifname \"@V\" @D(unknown_src)\n"
	" iifname \"@M*\" ip daddr @overlay accept\n"
	" iifname \"@M*\" ip saddr @tasks accept\n"
	" iifname \"@M*\" @D(internal)\n"
	" ip daddr @overlay @D(isolated)\n"
	"}\n"
	"chain nodes_only {\n"
	" type filter hook input priority -1; policy accept;\n"
	" ip daddr @S udp dport @P ip saddr != @nodes @D(unknown_node)\n"
	"}\n"
	/* Of a connection only the first packet comes here. */
	"chain leave {\n"
	" type nat hook postrouting priority srcnat; policy accept;\n"
	" ct status dnat ct original ip daddr @overlay ip daddr @vip_conns @E(vip)\n"
	" ct status dnat ct original ip daddr != @overlay ip daddr @pub_conns @E(flow_new)\n"
	" snat to ip saddr . ip daddr map @hairpins\n"
	" snat to ct mark map @masq_as\n"
	" oifname \"@M*\" ip saddr 127.0.0.0/8 snat to @S\n"
	" oifname \"lo\" ip saddr 127.0.0.0/8 ct status dnat snat to @S\n"
	" oifname { \"@M*\", \"lo\" } return\n"
	" ip saddr @tasks masquerade\n"
	"}\n"
	"chain answer {\n"
	" type filter hook postrouting priority 300; policy accept;\n"
	" ct direction reply dup to ct mark map @ways_back device \"@V\" drop\n"
	"}\n"
	/* To an address of ours, as 127.0.0.1 of the node that took it in: once translated back. */
	"chain answer_here {\n"
	" type filter hook input priority 300; policy accept;\n"
	" ct direction reply dup to ct mark map @ways_back device \"@V\" drop\n"
	"}\n"
	"chain published_in {\n"
	" ip daddr @pub_in\n"
	" tcp flags rst ip daddr @pub_rst_in\n"
	"}\n"
	"chain to_task {\n"
	" type filter hook postrouting priority 301; policy accept;\n"
	" oifname != \"@M*\" return\n"
	" ct direction original ct original ip daddr != @overlay goto published_in\n"
	" ip daddr @net_in\n"
	" tcp flags rst ip daddr @net_rst_in\n"
	"}\n";

static void put_word(struct buf *out, const struct rules_in *in, char word)
{
	if (word == 'V')
		buf_puts(out, in->vxlan);
	else if (word == 'M')
		buf_puts(out, in->mark);
	else if (word == 'S')
		buf_puts(out, IP(&in->self));
	else if (word == 'K')
		buf_puts(out, RULES_FLOW);
	else if (word == 'Q')
		buf_puts(out, RULES_FLOW_QUOTED);
	else
		buf_printf(out, "%u", in->vxlan_port);
}

/* "(id)" at p: the end of it. */
static const char *put_counted(struct buf *out, char word, const char *p)
{
	int n = (int)strcspn(p + 1, ")");
	buf_printf(out, "counter name \"%s%.*s\"%s", word == 'D' ? RULES_DROP : RULES_EVENT, n, p + 1,
	           word == 'D' ? " drop" : "");
	return p + 1 + n;
}

static void put_base(struct buf *out, const struct rules_in *in)
{
	for (const char *p = base; *p; p++) {
		char word = *p == '@' ? p[1] : '\0';
		if (word && strchr("VMSPKQ", word)) {
			put_word(out, in, word);
			p++;
		} else if (word && strchr("DE", word)) {
			p = put_counted(out, word, p + 2);
		} else {
			buf_put(out, p, 1);
		}
	}
}

static void put_sets(struct buf *out, const struct rules_in *in)
{
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		buf_printf(out, "%s { %s; ", sets[i].name, sets[i].type);
		if (sets[i].kind == REMEMBERED)
			buf_printf(out, "size %u; ", in->flows_max ? in->flows_max : RULES_FLOWS_MAX);
		buf_puts(out, "}\n");
	}
}

void rules_base_text(const struct rules_in *in, struct buf *out)
{
	const char *text;
	buf_printf(out, "table ip %s_lb {\n", in->mark);
	put_sets(out, in);
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		buf_printf(out, "counter %s { }\n", rules_fixed_counter(i, &text));
	put_base(out, in);
	buf_puts(out, "}\n");
}

const char *rules_listed(size_t i)
{
	for (size_t k = 0; k < ARRAY_SIZE(sets); k++)
		if (sets[k].kind == WANTED && i-- == 0)
			return sets[k].name;
	return NULL;
}

size_t rules_found_in(const struct nft_found *found, const char *chain)
{
	const size_t *n = map_get(&found->rules, chain);
	return n ? *n : 0;
}

/* Has every chain with a hook, and what they jump to, as many rules as it should? Somebody may have removed some. */
bool rules_base_is_whole(const struct nft_found *found)
{
	size_t n = 0;
	CLEAN_FREE char *chain = NULL;
	for (const char *p = base; *p; p += strcspn(p, "\n") + 1) {
		if (strncmp(p, "chain ", 6) == 0) {
			free(chain);
			chain = xstrndup(p + 6, strcspn(p + 6, " "));
			n = 0;
		} else if (*p == '}') {
			if (!map_has(&found->chains, chain) || rules_found_in(found, chain) != n)
				return false;
		} else {
			n += strncmp(p, " type ", 6) != 0;
		}
	}
	return true;
}
