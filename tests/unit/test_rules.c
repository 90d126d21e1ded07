/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "dataplane/nft/rules.h"

static struct dp_ip ip(const char *text)
{
	struct dp_ip out;
	assert_int_equal(dp_ip_parse(text, &out, NULL), 0);
	return out;
}

static void add(struct plan_table *t, struct item i)
{
	plan_table_add(t, xmemdup(&i, sizeof(i)));
}

/* One service with n backends, the first of them here, published at 8080. */
static struct plan_table table(unsigned n)
{
	struct plan_table t = { 0 };
	struct item svc = { .kind = ITEM_SERVICE, .svc = { .key = 7, .vni = 4096 } };
	for (unsigned i = 0; i < n; i++) {
		char text[32];
		snprintf(text, sizeof(text), "10.0.0.%u", 5 + i);
		struct ebpf_backend b = {
			.ip = ip(text), .node = ip("192.0.2.2"), .local = !i, .weight = 1, .state = DP_SERVING
		};
		vec_push(&svc.backends, b);
	}
	add(&t, (struct item){ .kind = ITEM_HOST_ADDR, .addr = ip("192.0.2.1") });
	add(&t, (struct item){ .kind = ITEM_NODE, .addr = ip("192.0.2.1") });
	add(&t, (struct item){ .kind = ITEM_NODE, .addr = ip("192.0.2.2") });
	add(&t, (struct item){ .kind = ITEM_NETWORK,
	                       .network = { .vni = 4096,
	                                    .subnet = ip("10.0.0.0"),
	                                    .gateway = ip("10.0.0.1"),
	                                    .prefix = 24,
	                                    .ingress = true } });
	for (unsigned i = 1; i < n; i++)
		add(&t, (struct item){
				.kind = ITEM_ENDPOINT,
				.endpoint = { .vni = 4096, .ip = svc.backends.data[i].ip, .node = ip("192.0.2.2") } });
	add(&t, svc);
	add(&t, (struct item){ .kind = ITEM_PORT,
	                       .port = { .proto = IPPROTO_TCP, .published = 8080, .target = 80, .service = 7 } });
	return t;
}

static struct rules build(const struct plan_table *t, struct rules_in *in)
{
	static struct rules_iface f;
	struct rules out = { 0 };
	f = (struct rules_iface){ .host_name = "mesh1", .vni = 4096, .ip = ip("10.0.0.5"), .answer = ip("10.0.1.5") };
	*in = (struct rules_in){ .mark = "mesh",
		                 .vxlan = "meshvx",
		                 .vxlan_port = 4789,
		                 .self = ip("192.0.2.1"),
		                 .have = t,
		                 .ifaces = &f,
		                 .n_ifaces = 1 };
	rules_build(in, &out);
	return out;
}

/* The rules behind a chain that only goes on to them. */
static const char *behind(const struct rules *r, const char *name)
{
	const char *text = map_get(&r->chains, name);
	assert_non_null(text);
	assert_int_equal(strncmp(text, "goto ", 5), 0);
	return map_get(&r->chains, text + 5);
}

static void test_elements(void **state)
{
	(void)state;
	struct plan_table t = table(2);
	struct rules_in in;
	struct rules r = build(&t, &in);
	assert_string_equal(map_get(&r.elems, "published\ntcp . 8080"), "goto p_0000000000000007");
	/* Frames of other nodes for our task, whose default route is on another network. */
	assert_string_equal(map_get(&r.elems, "tunnelled\n02:42:0a:00:00:05 . tcp . 8080"), "10.0.1.5 . 80");
	assert_string_equal(map_get(&r.elems, "here\n0x6d000005 . tcp . 8080"), "10.0.1.5 . 80");
	assert_string_equal(map_get(&r.elems, "origins\n02:4c:c0:00:02:02"), "0x40000202");
	assert_string_equal(map_get(&r.elems, "origins\n02:4e:c0:00:02:02"), "0xc0000202");
	assert_string_equal(map_get(&r.elems, "ways_back\n0x40000202"), "240.0.2.2");
	assert_null(map_get(&r.elems, "origins\n02:4c:c0:00:02:01"));
	assert_string_equal(map_get(&r.chains, "l_0a000005"),
	                    "meta mark set 0x6d000005\nmeta l4proto udp ip hdrlength 5 update @datagrams { @nh,96,32 . "
	                    "@nh,160,16 . @nh,128,32 . @nh,176,16 timeout 3m : meta mark }\naccept");
	assert_string_equal(map_get(&r.elems, "live\n0x6d000005"), "goto l_0a000005");
	assert_string_equal(
		map_get(&r.chains, "r_0a000006"),
		"meta iif 0 accept\nmeta mark set 0x6d000006\njump hold\ndup to 10.0.0.6 device \"meshvx\" drop");
	assert_string_equal(map_get(&r.elems, "ifaddrs\n\"mesh1\" . 10.0.0.5 . 02:42:0a:00:00:05"), "");
	assert_string_equal(map_get(&r.elems, "net_in\n10.0.0.5"), "");
	const struct rules_route *way = map_get(&r.routes, "240.0.2.2/32"), *task = map_get(&r.routes, "10.0.0.6/32");
	assert_non_null(way);
	assert_non_null(task);
	assert_int_equal(way->mac[1], 0x50);
	assert_int_equal(task->vni, 4096);
	assert_null(map_get(&r.routes, "10.0.0.5/32"));
	rules_fini(&r);
	plan_table_fini(&t);
}

static void test_ranges(void **state)
{
	(void)state;
	struct plan_table t = table(1);
	struct item like = { .kind = ITEM_SERVICE, .svc.key = 7 };
	struct item *svc = (struct item *)(uintptr_t)plan_table_get(&t, &like);
	struct ebpf_range r[] = { { ip("198.51.100.0"), 24, false },
		                  { ip("192.0.2.1"), 32, true },
		                  { ip("10.9.0.0"), 16, false } };
	struct rules_in in;
	for (size_t i = 0; i < ARRAY_SIZE(r); i++)
		vec_push(&svc->ranges, r[i]);
	struct rules out = build(&t, &in);
	const char *published = behind(&out, "p_0000000000000007"), *lo = behind(&out, "o_0000000000000007");
	static const char want[] = "ip daddr != { 192.0.2.1/32 } return\n"
				   "ct original ip saddr != 127.0.0.0/8 ip saddr != { 198.51.100.0/24, 10.9.0.0/16 } "
				   "counter name \"drop_source\" drop\njump recall\n";
	assert_int_equal(strncmp(published, want, sizeof(want) - 1), 0);
	assert_null(strstr(lo, "saddr"));
	assert_non_null(strstr(lo, "ip daddr != { 192.0.2.1/32 } return\n"));
	rules_fini(&out);
	plan_table_fini(&t);
}

/* Which backend each of the 128 slots goes to. */
static void slots_of(const struct rules *r, unsigned out[128])
{
	const char *p = strchr(strstr(behind(r, "p_0000000000000007"), "jhash"), '{');
	for (unsigned from, to, n, host; sscanf(p, "%*[{, ]%u%n", &from, &n) == 1;) {
		p += n;
		to = from;
		if (sscanf(p, "-%u%n", &to, &n) == 1)
			p += n;
		char kind;
		assert_int_equal(sscanf(p, " : goto %c_%8x%n", &kind, &host, &n), 2);
		p += n;
		for (unsigned i = from; i <= to; i++)
			out[i] = host;
	}
}

static void test_few_slots_move(void **state)
{
	(void)state;
	unsigned four[128] = { 0 }, five[128] = { 0 }, moved = 0;
	for (unsigned n = 4; n <= 5; n++) {
		struct plan_table t = table(n);
		struct rules_in in;
		struct rules r = build(&t, &in);
		slots_of(&r, n == 4 ? four : five);
		rules_fini(&r);
		plan_table_fini(&t);
	}
	for (unsigned i = 0; i < 128; i++) {
		assert_true(four[i] && five[i]);
		/* Only to the new one, never between the old ones. */
		if (four[i] != five[i])
			assert_int_equal(five[i], 0x0a000009);
		moved += four[i] != five[i];
	}
	assert_in_range(moved, 10, 45);
}

/* Both transactions of a change. */
static void change_text(const struct rules *a, const struct rules *b, struct buf *out)
{
	rules_prepare_text("mesh", a, b, out);
	rules_change_text("mesh", a, b, out);
}

static void test_change_is_small(void **state)
{
	(void)state;
	struct plan_table a = table(2), b = table(3);
	struct rules_in in;
	struct rules ra = build(&a, &in), rb = build(&b, &in);
	struct buf text = { 0 };
	change_text(&ra, &ra, &text);
	assert_int_equal(text.len, 0);
	change_text(&ra, &rb, &text);
	assert_non_null(strstr(buf_str(&text), "add chain ip mesh_lb r_0a000007\n"));
	assert_non_null(strstr(buf_str(&text), "flush chain ip mesh_lb p_0000000000000007\n"));
	/* Of elements only that whoever goes there stays there. */
	assert_non_null(strstr(buf_str(&text), "add element ip mesh_lb live { 0x6d000007 : goto r_0a000007 }\n"));
	assert_non_null(strstr(buf_str(&text), "add element ip mesh_lb live_at { 0x6d000007 : 10.0.0.7 }\n"));
	assert_non_null(strstr(buf_str(&text), "add element ip mesh_lb serving { 0x6d000007 : goto r_0a000007 }\n"));
	unsigned elements = 0;
	for (const char *e = buf_str(&text); (e = strstr(e, "element")); e++)
		elements += strncmp(e, "element ip mesh_lb standing", 27) != 0;
	assert_int_equal(elements, 3);
	buf_fini(&text);
	rules_fini(&ra);
	rules_fini(&rb);
	plan_table_fini(&a);
	plan_table_fini(&b);
}

static bool says(struct buf *text, const char *what, const char *chain)
{
	CLEAN_FREE char *line = xasprintf("%s chain ip mesh_lb %s\n", what, chain);
	return strstr(buf_str(text), line) != NULL;
}

/* From *at to the rules of a set of n: what is made before, and the switch. */
static void change_to(struct rules *at, unsigned n, struct buf *before, struct buf *text)
{
	struct plan_table t = table(n);
	struct rules_in in;
	struct rules to = build(&t, &in);
	buf_clear(before);
	buf_clear(text);
	rules_prepare_text("mesh", at, &to, before);
	rules_change_text("mesh", at, &to, text);
	rules_changed(at, &to);
	rules_fini(at);
	*at = to;
	plan_table_fini(&t);
}

/* What packets come to is made before, and stands until the next change; the switch is one rule without a map. */
static void test_a_change_leaves_what_packets_are_in(void **state)
{
	(void)state;
	static const char entry[] = "p_0000000000000007";
	struct rules r = { 0 };
	struct buf before = { 0 }, text = { 0 };
	change_to(&r, 3, &before, &text);
	CLEAN_FREE char *three = xstrdup((char *)map_get(&r.chains, entry) + 5);
	assert_true(says(&before, "add", three) && says(&before, "add", entry));
	change_to(&r, 2, &before, &text);
	CLEAN_FREE char *two = xstrdup((char *)map_get(&r.chains, entry) + 5);
	CLEAN_FREE char *rule =
		xasprintf("flush chain ip mesh_lb %s\nadd rule ip mesh_lb %s goto %s\n", entry, entry, two);
	assert_string_not_equal(two, three);
	assert_true(says(&before, "add", two) && !strstr(buf_str(&before), "element"));
	assert_non_null(strstr(buf_str(&text), rule));
	assert_null(strstr(buf_str(&text), "map"));
	assert_null(strstr(buf_str(&before), "flush"));
	assert_null(strstr(buf_str(&text), "delete chain"));
	assert_false(says(&text, "flush", three) || says(&text, "flush", "r_0a000007"));
	/* Wanted again, it still stands; the other is what goes next, with all that only it named. */
	change_to(&r, 3, &before, &text);
	assert_int_equal(before.len, 0);
	change_to(&r, 4, &before, &text);
	assert_true(says(&before, "flush", two) && says(&before, "delete", two));
	change_to(&r, 4, &before, &text);
	assert_true(says(&before, "delete", three) && text.len == 0);
	change_to(&r, 4, &before, &text);
	assert_true(before.len == 0 && text.len == 0);
	buf_fini(&before);
	buf_fini(&text);
	rules_fini(&r);
}

static struct ebpf_backend *backend(struct plan_table *t, size_t i)
{
	struct item like = { .kind = ITEM_SERVICE, .svc.key = 7 };
	struct item *svc = (struct item *)(uintptr_t)plan_table_get(t, &like);
	return &svc->backends.data[i];
}

/* Who takes nothing new keeps what it has, also when nobody serves any more. */
static void test_old_flows_keep_their_task(void **state)
{
	(void)state;
	struct plan_table t = table(3);
	struct rules_in in;
	backend(&t, 1)->state = DP_DRAINING;
	backend(&t, 2)->spare = true;
	struct rules r = build(&t, &in);
	const char *chain = behind(&r, "p_0000000000000007");
	assert_null(strstr(chain, "r_0a0000"));
	assert_int_equal(strncmp(chain, "jump recall\n", 12), 0);
	assert_string_equal(map_get(&r.elems, "live\n0x6d000006"), "goto r_0a000006");
	assert_string_equal(map_get(&r.elems, "live\n0x6d000007"), "goto r_0a000007");
	assert_string_equal(map_get(&r.elems, "live\n0x6d000005"), "goto l_0a000005");
	/* Datagrams go elsewhere once it drains. */
	assert_false(map_has(&r.elems, "serving\n0x6d000006"));
	assert_string_equal(map_get(&r.elems, "serving\n0x6d000007"), "goto r_0a000007");
	assert_string_equal(map_get(&r.elems, "serving\n0x6d000005"), "goto l_0a000005");
	rules_fini(&r);
	backend(&t, 0)->state = DP_DRAINING;
	r = build(&t, &in);
	assert_string_equal(
		behind(&r, "p_0000000000000007"),
		"jump recall\ncounter name \"drop_no_backend\" counter name \"refused_0000000000000007\" drop");
	assert_true(map_has(&r.counters, "refused_0000000000000007"));
	rules_fini(&r);
	plan_table_fini(&t);
}

/* What was asked and answered moves when its task stops serving; who waits, streams or holds a connection does not. */
static void test_datagrams_that_rest_move(void **state)
{
	(void)state;
	struct plan_table t = table(2);
	struct rules_in in;
	struct rules a = build(&t, &in);
	struct ct_flow f = { .protocol = IPPROTO_UDP, .answers = ip("10.0.1.5"), .answered = true };
	struct ct_flow tcp = f, other = f, waits = f;
	tcp.protocol = IPPROTO_TCP;
	other.answers = ip("10.0.0.99");
	waits.answered = false;
	backend(&t, 0)->state = DP_DRAINING;
	struct rules b = build(&t, &in);
	assert_false(rules_moves(&a, &a, &f, 9) || rules_moves(&b, &b, &f, 9) || rules_moves(&b, &a, &f, 9));
	assert_true(rules_moves(&a, &b, &f, 2));
	assert_false(rules_moves(&a, &b, &f, 1));
	assert_false(rules_moves(&a, &b, &tcp, 9) || rules_moves(&a, &b, &other, 9) || rules_moves(&a, &b, &waits, 9));
	rules_fini(&a);
	rules_fini(&b);
	plan_table_fini(&t);
}

/* A client goes where it was given, while that one takes new flows, at a port and at a virtual address; else by its address. */
static void test_affinity(void **state)
{
	(void)state;
	static const char *const chains[] = { "p_0000000000000007", "v_0000000000000007" };
	static const char *const parts[][4] = {
		{ "meta mark set ip saddr . meta mark map @affine update @affine { ip saddr . 0x",
		  " timeout 600s : meta mark }\nmeta mark vmap { 0x6d000005 : goto l_0a000005, 0x6d000007 : goto "
		  "r_0a000007 }\n",
		  "meta mark set jhash ip saddr mod 128 seed 0x1 map { 0",
		  " : meta mark }\njhash ip saddr mod 128 seed 0x1 vmap { 0" },
		{ "meta mark set ip saddr . meta mark map @affine update @affine { ip saddr . 0x",
		  " timeout 600s : meta mark }\nmeta l4proto { tcp, udp } dnat to meta mark map { 0x6d000005 : "
		  "10.0.0.5, "
		  "0x6d000007 : 10.0.0.7 }\n",
		  "meta mark set jhash ip saddr mod 128 seed 0x1 map { 0",
		  " : meta mark }\nmeta l4proto { tcp, udp } dnat to jhash ip saddr mod 128 seed 0x1 map { 0" },
	};
	struct plan_table t = table(3);
	struct rules_in in;
	struct item like = { .kind = ITEM_SERVICE, .svc.key = 7 };
	((struct item *)(uintptr_t)plan_table_get(&t, &like))->svc.affinity_s = 600;
	add(&t, (struct item){ .kind = ITEM_VIP, .addr = ip("10.0.0.2"), .service = 7 });
	backend(&t, 1)->state = DP_DRAINING;
	struct rules r = build(&t, &in);
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
		const char *at = behind(&r, chains[i]);
		for (size_t k = 0; k < 4; k++) {
			at = strstr(at, parts[i][k]);
			assert_non_null(at);
		}
	}
	rules_fini(&r);
	plan_table_fini(&t);
}

/* A restart keeps what was remembered and counted, and removes what nobody wants any more. */
static void test_adoption(void **state)
{
	(void)state;
	struct plan_table t = table(2);
	struct rules_in in;
	struct rules r = build(&t, &in);
	struct nft_found found = { 0 };
	struct buf text = { 0 };
	static const char *const chains[] = { "choose", "r_0a000006", "r_0a0000ff", "published_in" };
	for (size_t i = 0; i < ARRAY_SIZE(chains); i++)
		map_put(&found.chains, chains[i], &found);
	map_put(&found.counters, "refused_00000000000000aa", XNEW(struct nft_count));
	map_put(&found.counters, "drop_spoof", XNEW(struct nft_count));
	map_put(&found.elems, "net_in\n10.0.0.5", XNEW(struct nft_count));
	map_put(&found.elems, "net_in\n10.0.0.77", XNEW(struct nft_count));
	rules_adopt_text(&in, &r, &found, &text);
	const char *s = buf_str(&text);
	assert_null(strstr(s, "delete table ip "));
	assert_non_null(strstr(s, "flush table ip mesh_lb\n"));
	assert_non_null(strstr(s, "flush set ip mesh_lb addrs\n"));
	assert_non_null(strstr(s, "flush map ip mesh_lb live\n"));
	static const char *const kept[] = { "flows", "syns", "ended", "datagrams", "net_in", "pub_conns", "vip_conns" };
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		char flush[64];
		snprintf(flush, sizeof(flush), "ip mesh_lb %s\n", kept[i]);
		assert_null(strstr(s, flush));
	}
	assert_non_null(strstr(s, "delete chain ip mesh_lb r_0a0000ff\n"));
	assert_null(strstr(s, "delete chain ip mesh_lb r_0a000006\n"));
	assert_null(strstr(s, "delete chain ip mesh_lb p"));
	assert_non_null(strstr(s, "delete counter ip mesh_lb refused_00000000000000aa\n"));
	assert_null(strstr(s, "delete counter ip mesh_lb drop_spoof"));
	assert_non_null(strstr(s, "delete element ip mesh_lb net_in { 10.0.0.77 }\n"));
	assert_null(strstr(s, "delete element ip mesh_lb net_in { 10.0.0.5 }"));
	buf_clear(&text);
	rules_load_text(&in, &r, &text);
	assert_non_null(strstr(buf_str(&text), "delete table ip mesh_lb\n"));
	buf_fini(&text);
	nft_found_fini(&found);
	rules_fini(&r);
	plan_table_fini(&t);
}

static void test_listed(void **state)
{
	(void)state;
	static const char map[] =
		"table ip mesh_lb {\n\tmap here {\n\t\ttype mark : ipv4_addr\n"
		"\t\telements = { 0x6d000005 . tcp . 80 : 10.0.1.5 . 80, 0x6d000006 . udp . 53 : 10.0.1.6 . 53,\n"
		"\t\t\t     0x6d000007 . tcp . 81 : goto p_1 }\n\t}\n}\n";
	static const char *const odd[] = { "", "elements = {", "elements = { }", "elements = { ,,, }",
		                           "elements = { , : , }" };
	struct map m = { 0 };
	rules_take_listed("here", map, &m);
	rules_take_listed("macs", "elements = { 02:42:0a:00:00:05 . tcp . 80 }", &m);
	assert_int_equal(m.count, 4);
	assert_string_equal(map_get(&m, "here\n0x6d000005 . tcp . 80"), "10.0.1.5 . 80");
	assert_string_equal(map_get(&m, "here\n0x6d000006 . udp . 53"), "10.0.1.6 . 53");
	assert_string_equal(map_get(&m, "here\n0x6d000007 . tcp . 81"), "goto p_1");
	assert_string_equal(map_get(&m, "macs\n02:42:0a:00:00:05 . tcp . 80"), "");
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		rules_take_listed("odd", odd[i], &m);
	MAP_FOREACH(&m, e)
		free(e->value);
	map_fini(&m);
}

/* What the kernel would show of r. */
static struct nft_found found_of(const struct rules *r)
{
	struct nft_found f = { 0 };
	struct buf text = { 0 };
	struct rules none = { 0 };
	struct plan_table t = { 0 };
	struct rules_in in;
	struct rules built = build(&t, &in);
	rules_load_text(&in, &none, &text);
	char *chain = NULL;
	for (const char *p = strstr(buf_str(&text), "table ip mesh_lb {"); *p; p += strcspn(p, "\n") + 1) {
		if (strncmp(p, "chain ", 6) == 0) {
			free(chain);
			chain = xstrndup(p + 6, strcspn(p + 6, " "));
			map_put(&f.chains, chain, &f);
			map_put(&f.rules, chain, XNEW(size_t));
		} else if (*p == ' ' && strncmp(p, " type ", 6) != 0) {
			++*(size_t *)map_get(&f.rules, chain);
		}
	}
	free(chain);
	MAP_FOREACH(&r->chains, e) {
		size_t n = 1;
		for (const char *p = e->value; (p = strchr(p, '\n')); p++)
			n += p[1] != '\0';
		map_put(&f.chains, e->key, &f);
		map_put(&f.rules, e->key, xmemdup(&n, sizeof(n)));
	}
	MAP_FOREACH(&r->counters, e)
		map_put(&f.counters, e->key, XNEW(struct nft_count));
	rules_fini(&built);
	buf_fini(&text);
	return f;
}

static void change_of(const struct rules_in *in, const struct rules *want, const struct nft_found *f,
                      const struct rules *had, bool whole, struct buf *text)
{
	struct rules left = { 0 };
	buf_clear(text);
	assert_int_equal(rules_left(in, want, f, &had->elems, &left), whole);
	if (whole)
		change_text(&left, want, text);
	rules_fini(&left);
}

/* A daemon that starts changes what differs: nothing, one chain that somebody emptied, or all where rules of ours are gone. */
static void test_what_is_left_stays(void **state)
{
	(void)state;
	struct plan_table a = table(2), b = table(3);
	struct rules_in in;
	struct rules ra = build(&a, &in), rb = build(&b, &in);
	struct nft_found f = found_of(&ra);
	struct buf text = { 0 };
	change_of(&in, &ra, &f, &ra, true, &text);
	assert_string_equal(buf_str(&text), "");
	change_of(&in, &rb, &f, &ra, true, &text);
	assert_non_null(strstr(buf_str(&text), "flush chain ip mesh_lb p_0000000000000007\n"));
	assert_null(strstr(buf_str(&text), "flush chain ip mesh_lb r_0a000006\n"));
	size_t *n = map_get(&f.rules, "r_0a000006"), was = *n;
	*n = 0;
	change_of(&in, &ra, &f, &ra, true, &text);
	assert_non_null(strstr(buf_str(&text), "flush chain ip mesh_lb r_0a000006\nadd rule"));
	*n = was;
	n = map_get(&f.rules, "translate");
	--*n;
	change_of(&in, &ra, &f, &ra, false, &text);
	buf_fini(&text);
	nft_found_fini(&f);
	rules_fini(&ra);
	rules_fini(&rb);
	plan_table_fini(&a);
	plan_table_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_elements),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_few_slots_move),
		cmocka_unit_test(test_change_is_small),
		cmocka_unit_test(test_a_change_leaves_what_packets_are_in),
		cmocka_unit_test(test_old_flows_keep_their_task),
		cmocka_unit_test(test_datagrams_that_rest_move),
		cmocka_unit_test(test_affinity),
		cmocka_unit_test(test_adoption),
		cmocka_unit_test(test_listed),
		cmocka_unit_test(test_what_is_left_stays),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
