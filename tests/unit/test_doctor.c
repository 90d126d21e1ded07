/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "meshctl doctor": what reports add up to, which sizes are tried, and whether a ruleset drops a packet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/doctor.h"
#include "control/api/firewall.h"
#include "control/meshd/mtu.h"

/* ---- the verdict ---- */

static struct doctor_node nodes[3];

static struct doctor_peer *way(size_t from, size_t to)
{
	struct doctor_report *r = &nodes[from].report;
	for (size_t i = 0; i < r->peers.n; i++)
		if (ID_EQ(r->peers.v[i].node, nodes[to].id))
			return &r->peers.v[i];
	return NULL;
}

static int setup(void **state)
{
	static const char *const names[] = { "n1", "n2", "n3" };
	(void)state;
	memset(nodes, 0, sizeof(nodes));
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		struct doctor_report *r = &nodes[i].report;
		memset(nodes[i].id.s, 'a' + (int)i, MESH_ID_LEN);
		nodes[i].hostname = names[i];
		nodes[i].error_ns = NS_PER_MS;
		r->version = xstrdup("1.0");
		r->kernel = xstrdup("6.1");
		r->driver = xstrdup("ebpf: all is there");
		r->cgroup = xstrdup("v2");
		r->device = xstrdup("eth0");
		r->mtu = 1500;
	}
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++)
		for (size_t k = 0; k < ARRAY_SIZE(nodes); k++) {
			if (i == k)
				continue;
			struct doctor_peer *p = LIST_ADD(&nodes[i].report.peers);
			*p = (struct doctor_peer){ .node = nodes[k].id, .size_max = 1500, .size_tried = 1500 };
			str_set(&p->tunnel, "ok");
			str_set(&p->control, k ? "" : "ok");
		}
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		sch_clear(&doctor_report_schema, &nodes[i].report);
		strs_clear(&nodes[i].shadowed);
	}
	return 0;
}

/* Findings that are worse than "ok", as "severity check node peer" lines; all text behind them goes to all. */
static char *judged(char **all)
{
	struct doctor_findings f = { 0 };
	struct buf b = { 0 }, text = { 0 };
	doctor_judge(nodes, ARRAY_SIZE(nodes), 4789, &f);
	for (size_t i = 0; i < f.list.n; i++) {
		const struct doctor_finding *x = &f.list.v[i];
		static const char *const names[] = { "ok", "info", "warning", "error" };
		if (x->severity != DOCTOR_OK)
			buf_printf(&b, "%s %s %s %s\n", names[x->severity], x->check, x->node, x->peer ? x->peer : "-");
		buf_printf(&text, "%s | %s\n", x->text, x->mend);
	}
	sch_clear(&doctor_findings_schema, &f);
	if (all)
		*all = buf_take_str(&text);
	buf_fini(&text);
	return buf_take_str(&b);
}

#define EXPECT(want)                                                                                                   \
	do {                                                                                                           \
		CLEAN_FREE char *got_ = judged(NULL);                                                                  \
		assert_string_equal(got_, want);                                                                       \
	} while (0)

static void all_is_well(void **state)
{
	(void)state;
	EXPECT("");
}

static void clocks(void **state)
{
	(void)state;
	nodes[1].offset_ns = 400 * NS_PER_MS;
	EXPECT("");
	nodes[1].offset_ns = -700 * NS_PER_MS;
	EXPECT("warning clock n2 -\n");
	/* What a slow answer explains is no finding. */
	nodes[1].error_ns = 300 * NS_PER_MS;
	EXPECT("");
	nodes[1].offset_ns = 3600 * NS_PER_SEC;
	CLEAN_FREE char *all = NULL;
	CLEAN_FREE char *got = judged(&all);
	assert_string_equal(got, "error clock n2 -\n");
	assert_non_null(strstr(all, "its clock is 3600.0 s ahead of the manager's"));
}

static void versions_and_drivers(void **state)
{
	(void)state;
	str_set(&nodes[2].report.version, "1.1");
	str_set(&nodes[1].report.driver, "nft: this kernel lacks bpf_redirect_peer");
	str_set(&way(0, 1)->tunnel, "the tunnel was not tried");
	strs_add(&nodes[0].shadowed, "80/tcp of service web is listened on by nginx");
	EXPECT("warning port n1 -\ninfo tunnel n1 n2\nwarning driver n2 -\nwarning version n3 -\n");
	nodes[2].error = "the node is not connected";
	str_set(&nodes[1].report.driver, "");
	EXPECT("warning port n1 -\ninfo tunnel n1 n2\nwarning driver n2 -\nerror node n3 -\n"); /* it is starting */
	str_set(&nodes[1].report.driver, "none: no permission");
	EXPECT("warning port n1 -\ninfo tunnel n1 n2\nerror driver n2 -\nerror node n3 -\n");
}

/* How to mend it follows from why the fallback runs. */
static void mends_of_nft(void **state)
{
	static const char *const all[][2] = {
		{ "nft: as configured; cannot", "meshd --data-plane auto" },
		{ "nft: eBPF does not start (loading: Permission denied); cannot", "the kernel refuses the programs" },
		{ "nft: no eBPF (eBPF needs CAP_BPF, ...); cannot", "start meshd as root" },
		{ "nft: no eBPF (this kernel lacks bpf_redirect_peer); cannot", "a kernel that has it" },
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		CLEAN_FREE char *text = NULL;
		str_set(&nodes[1].report.driver, all[i][0]);
		CLEAN_FREE char *got = judged(&text);
		assert_string_equal(got, "warning driver n2 -\n");
		assert_non_null(strstr(text, all[i][1]));
	}
}

static void lost(size_t a, size_t b)
{
	str_set(&way(a, b)->tunnel, "no answer");
	way(a, b)->size_max = 0;
}

/* A pair is told once, whoever noticed; the rule that eats it is named. */
static void firewalls(void **state)
{
	(void)state;
	lost(0, 1);
	EXPECT("error tunnel n1 n2\n");
	lost(1, 0);
	EXPECT("error tunnel n1 n2\n");
	lost(2, 1);
	struct doctor_rule *r = LIST_ADD(&nodes[1].report.rules);
	*r = (struct doctor_rule){ xstrdup("UDP port 4789 in"), xstrdup("table inet filter, chain input"),
		                   xstrdup("udp dport 4789 drop"), false };
	CLEAN_FREE char *all = NULL;
	CLEAN_FREE char *got = judged(&all);
	assert_string_equal(got, "error tunnel n1 n2\nerror tunnel n3 n2\n");
	assert_non_null(strstr(all, "on n2 table inet filter, chain input drops it: udp dport 4789 drop"));
	assert_null(strstr(all, "no rule that drops it was found"));
	/* A machine that is down has no ways. */
	nodes[1].down = true;
	nodes[1].error = "not connected";
	EXPECT("error node n2 -\n");
	str_set(&way(2, 0)->control, "connection refused");
	EXPECT("error node n2 -\nerror control n3 n1\n");
}

static void black_hole(void **state)
{
	CLEAN_FREE char *all = NULL;
	(void)state;
	way(0, 2)->size_max = 1404;
	CLEAN_FREE char *got = judged(&all);
	assert_string_equal(got, "error mtu n1 n3\n");
	assert_non_null(strstr(all, "says 1500 bytes, but packets of more than 1404 do not arrive"));
	assert_non_null(strstr(all, "ip link set dev eth0 mtu 1404 on n1"));
}

/* ---- sizes ---- */

/* A link that lets sizes up to real pass: what is found, in how many tries. */
static unsigned search(unsigned most, unsigned real, unsigned *tries)
{
	struct mtu_search s;
	mtu_begin(&s, 128, most);
	for (*tries = 0; mtu_next(&s); ++*tries) {
		assert_in_range(mtu_next(&s), 128, most);
		assert_true(*tries < 60);
		mtu_result(&s, mtu_next(&s) <= real);
	}
	return s.passed;
}

static void sizes(void **state)
{
	unsigned tries;
	(void)state;
	assert_int_equal(search(1500, 1500, &tries), 1500);
	assert_int_equal(tries, 2);
	assert_int_equal(search(1500, 0, &tries), 0);
	assert_int_equal(tries, MTU_FIRST_TRIES);
	assert_int_equal(search(128, 9000, &tries), 128);
	for (unsigned real = 128; real < 9000; real += 7)
		assert_int_equal(search(9000, real, &tries), real);
	/* One lost by chance is tried again. */
	struct mtu_search s;
	mtu_begin(&s, 128, 1500);
	mtu_result(&s, false);
	assert_int_equal(mtu_next(&s), 128);
	mtu_result(&s, true);
	mtu_result(&s, false);
	assert_int_equal(mtu_next(&s), 1500);
	mtu_result(&s, true);
	assert_int_equal(mtu_next(&s), 0);
	assert_int_equal(s.passed, 1500);
}

/* ---- rulesets, as nft -j prints them ---- */

#define CHAIN(table, name, more)                                                                                       \
	"{\"chain\":{\"family\":\"inet\",\"table\":\"" table "\",\"name\":\"" name "\"" more "}},"
#define INPUT CHAIN("filter", "input", ",\"hook\":\"input\",\"prio\":0,\"policy\":\"accept\"")
#define RULE(chain, exprs)                                                                                             \
	"{\"rule\":{\"family\":\"inet\",\"table\":\"filter\",\"chain\":\"" chain "\",\"expr\":[" exprs "]}},"
#define MATCH(left, op, right) "{\"match\":{\"op\":\"" op "\",\"left\":{" left "},\"right\":" right "}}"
#define DPORT(right) MATCH("\"payload\":{\"protocol\":\"udp\",\"field\":\"dport\"}", "==", right)
#define SADDR(right) MATCH("\"payload\":{\"protocol\":\"ip\",\"field\":\"saddr\"}", "==", right)
#define IIF(right) MATCH("\"meta\":{\"key\":\"iifname\"}", "==", right)
#define DROP ",{\"drop\":null}"

static void rulesets(void **state)
{
	static const struct {
		const char *rules;
		int drops; /* 2: maybe */
		const char *text;
	} all[] = {
		{ "", 0, NULL },
		{ INPUT RULE("input", DPORT("4789") DROP), 1, "udp dport 4789 drop" },
		{ INPUT RULE("input", DPORT("4789") ",{\"counter\":{\"packets\":1}}" DROP), 1, "counter drop" },
		{ INPUT RULE("input", DPORT("4790") DROP), 0, NULL },
		{ INPUT RULE("input", DPORT("{\"set\":[53,4789]}") DROP), 1, NULL },
		{ INPUT RULE("input", DPORT("{\"set\":[53,{\"range\":[4000,5000]}]}") DROP), 1, NULL },
		{ INPUT RULE("input", DPORT("{\"range\":[1,1000]}") DROP), 0, NULL },
		{ INPUT RULE("input", DPORT("\"@ports\"") DROP), 2, NULL },
		{ INPUT RULE("input", IIF("\"eth9\"") DROP), 2, NULL },
		{ INPUT RULE("input", SADDR("{\"prefix\":{\"addr\":\"10.0.0.0\",\"len\":8}}") DROP), 1, NULL },
		{ INPUT RULE("input", SADDR("{\"prefix\":{\"addr\":\"11.0.0.0\",\"len\":8}}") DROP), 0, NULL },
		{ INPUT RULE("input", SADDR("\"10.0.0.2\"") ",{\"reject\":{}}"), 1, NULL },
		{ INPUT RULE("input", MATCH("\"payload\":{\"protocol\":\"tcp\",\"field\":\"flags\"}", "==", "2") DROP),
		  0, NULL },
		{ INPUT RULE("input", DPORT("4789") ",{\"accept\":null}") RULE("input", DPORT("4789") DROP), 0, NULL },
		{ INPUT RULE("input", IIF("\"x\"") ",{\"accept\":null}") RULE("input", DPORT("4789") DROP), 2, NULL },
		{ CHAIN("filter", "input", ",\"hook\":\"input\",\"policy\":\"drop\""), 1, "policy drop" },
		{ CHAIN("filter", "input", ",\"hook\":\"input\",\"policy\":\"drop\"")
		          RULE("input", DPORT("4789") ",{\"accept\":null}"),
		  0, NULL },
		{ CHAIN("filter", "output", ",\"hook\":\"output\",\"policy\":\"drop\""), 0, NULL },
		{ INPUT CHAIN("filter", "sub", "") RULE("input", "{\"jump\":{\"target\":\"sub\"}}")
		          RULE("sub", DPORT("4789") DROP),
		  1, NULL },
		{ INPUT CHAIN("filter", "sub", "") RULE("input", "{\"jump\":{\"target\":\"sub\"}}")
		          RULE("sub", "{\"return\":null}") RULE("sub", DPORT("4789") DROP),
		  0, NULL },
		{ INPUT CHAIN("filter", "a", "") RULE("input", "{\"jump\":{\"target\":\"a\"}}")
		          RULE("a", "{\"jump\":{\"target\":\"a\"}}"),
		  0, NULL },
		{ CHAIN("mesh_lb", "input", ",\"hook\":\"input\",\"policy\":\"drop\""), 0, NULL }, /* ours */
	};
	const struct fw_packet p = { "input", "udp", 4789, "10.0.0.2", "10.0.0.1" };
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		CLEAN_FREE char *text = xasprintf("{\"nftables\":[%s{\"metainfo\":{}}]}", all[i].rules);
		json_t *j = json_loads(text, 0, NULL);
		struct fw_finding f = { 0 };
		assert_non_null(j);
		bool drops = firewall_drops(j, &p, "mesh", &f);
		if (drops != (all[i].drops != 0) || (drops && f.maybe != (all[i].drops == 2)))
			fail_msg("%s: drops %d maybe %d (%s)", text, drops, f.maybe, f.text);
		if (all[i].text && !strstr(f.text, all[i].text))
			fail_msg("\"%s\" is not in \"%s\"", all[i].text, f.text);
		json_decref(j);
	}
}

int main(void)
{
#define JUDGE(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		JUDGE(all_is_well), JUDGE(clocks),     JUDGE(versions_and_drivers), JUDGE(mends_of_nft),
		JUDGE(firewalls),   JUDGE(black_hole), cmocka_unit_test(sizes),     cmocka_unit_test(rulesets),
	};
	return cmocka_run_group_tests_name("doctor", tests, NULL, NULL);
}
