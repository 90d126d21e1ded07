/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Prometheus text: the writer, the statistics of a node, and the checker that judges both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "base/prom.h"
#include "control/meshd/scrape.h"
#include "dataplane/seen.h"
#include "tests/support/prom_check.h"

#define OK_TEXT(t) assert_null(prom_wrong(t))

/* A checker that finds nothing wrong checks nothing. */
static void checker_finds(void **state)
{
	static const char *const bad[] = {
		"",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a 1",
		"mesh_a 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_b gauge\nmesh_b 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_b 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a counter\nmesh_a 1\n",
		"# HELP mesh_a_total A.\n# TYPE mesh_a_total gauge\nmesh_a_total 1\n",
		"# HELP mesh_a_total A.\n# TYPE mesh_a_total counter\nmesh_a_total -1\n",
		"# HELP mesh_a_ms A.\n# TYPE mesh_a_ms gauge\nmesh_a_ms 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{b=\"c} 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{b=\"\\x\"} 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{b=\"1\",b=\"2\"} 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{b=\"1\"} 1\nmesh_a{b=\"1\"} 2\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{1b=\"1\"} 1\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a one\n",
		"# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a 1\n# HELP mesh_a A.\n# TYPE mesh_a gauge\n",
	};
	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!prom_wrong(bad[i]))
			fail_msg("not found wrong: %s", bad[i]);
	OK_TEXT("# HELP mesh_a A.\n# TYPE mesh_a gauge\nmesh_a{b=\"1\"} 1\nmesh_a{b=\"2\"} 2.5\n");
}

static void labels_are_escaped(void **state)
{
	struct buf b = { 0 };
	(void)state;
	prom_family(&b, "mesh_a", "gauge", "One\nline, \\.");
	prom_u64(&b, "mesh_a", 1, "name", "say \"hi\"\\\n", "other", NULL, PROM_END);
	prom_f64(&b, "mesh_a", 0.25, "name", "caf\xc3\xa9 \xff", PROM_END);
	assert_string_equal(buf_str(&b), "# HELP mesh_a One\\nline, \\\\.\n# TYPE mesh_a gauge\n"
	                                 "mesh_a{name=\"say \\\"hi\\\"\\\\\\n\",other=\"\"} 1\n"
	                                 "mesh_a{name=\"caf\xc3\xa9 \xef\xbf\xbd\"} 0.25\n");
	OK_TEXT(buf_str(&b));
	buf_fini(&b);
}

static void fill(struct dp_stats *s, bool handshakes)
{
	s->driver = xstrdup(handshakes ? "ebpf" : "nft: no BPF");
	s->handshakes = handshakes;
	for (int i = 0; i < 2; i++) {
		struct dp_service_stats *v = LIST_ADD(&s->services);
		v->name = xstrdup("web");
		v->network = xstrdup(i ? "ingress" : "blue");
		v->refused = 3;
		for (int k = 0; k < 2; k++) {
			struct dp_backend_stats *b = LIST_ADD(&v->backends);
			b->name = xasprintf("web.%d.\"x\"", k);
			b->state = DP_SERVING;
			b->counters = (struct dp_counters){
				.packets_in = 5, .bytes_in = 500, .opened = 2, .open_ns = 3000000
			};
		}
	}
	struct dp_count *c = LIST_ADD(&s->drops);
	*c = (struct dp_count){ xstrdup("spoof"), xstrdup("text"), 7 };
	c = LIST_ADD(&s->events);
	*c = (struct dp_count){ xstrdup("flow_new"), xstrdup("text"), 8 };
	c = LIST_ADD(&s->dns);
	*c = (struct dp_count){ xstrdup("queries"), xstrdup("Questions."), 9 };
	struct dp_table_stats *t = LIST_ADD(&s->tables);
	*t = (struct dp_table_stats){ xstrdup("flows"), 1, 65536 };
}

static void statistics_of_a_node(void **state)
{
	(void)state;
	for (int handshakes = 0; handshakes < 2; handshakes++) {
		struct dp_stats s = { 0 };
		struct buf b = { 0 };
		fill(&s, handshakes);
		dp_stats_prom(&s, &b);
		OK_TEXT(buf_str(&b));
		assert_non_null(strstr(buf_str(&b), "mesh_dropped_packets_total{reason=\"spoof\"} 7\n"));
		assert_non_null(strstr(buf_str(&b), "mesh_backend_packets_total{service=\"web\",network=\"blue\",task="
		                                    "\"web.0.\\\"x\\\"\",path=\"published\",direction=\"in\"} 5\n"));
		assert_int_equal(handshakes,
		                 strstr(buf_str(&b), "mesh_backend_connect_seconds_sum{service=\"web\",network="
		                                     "\"ingress\",task=\"web.1.\\\"x\\\"\"} 0.003\n") != NULL);
		buf_fini(&b);
		sch_clear(&dp_stats_schema, &s);
	}
}

static void scrape_requests(void **state)
{
	static const struct {
		const char *text;
		int whole;
		enum scrape_what what;
		unsigned port;
	} all[] = {
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 1, SCRAPE_METRICS, 0 },
		{ "GET /metrics?x=1 HTTP/1.1\r\n\r\n", 1, SCRAPE_METRICS, 0 },
		{ "GET /metrics HTTP/1.1\r\nHost: x\r\n", 0, SCRAPE_BAD, 0 },
		{ "HEAD /health HTTP/1.0\n\n", 1, SCRAPE_HEALTH, 0 },
		{ "GET /health/8080 HTTP/1.1\r\n\r\n", 1, SCRAPE_PORT, 8080 },
		{ "GET /health/0 HTTP/1.1\r\n\r\n", 1, SCRAPE_UNKNOWN, 0 },
		{ "GET /health/65536 HTTP/1.1\r\n\r\n", 1, SCRAPE_UNKNOWN, 0 },
		{ "GET /health/80a HTTP/1.1\r\n\r\n", 1, SCRAPE_UNKNOWN, 0 },
		{ "GET /metricsx HTTP/1.1\r\n\r\n", 1, SCRAPE_UNKNOWN, 0 },
		{ "POST /metrics HTTP/1.1\r\n\r\n", 1, SCRAPE_BAD, 0 },
		{ "GET /metrics\r\n\r\n", 1, SCRAPE_BAD, 0 },
		{ "\r\n\r\n", 1, SCRAPE_BAD, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct scrape_request r;
		/* Exactly as long as it is, so that a look beyond the end is found. */
		char *copy = xmemdup(all[i].text, strlen(all[i].text));
		assert_int_equal(scrape_parse(copy, strlen(all[i].text), &r), all[i].whole);
		assert_int_equal(r.what, all[i].what);
		if (all[i].what == SCRAPE_PORT)
			assert_int_equal(r.port, all[i].port);
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(checker_finds),
		cmocka_unit_test(labels_are_escaped),
		cmocka_unit_test(statistics_of_a_node),
		cmocka_unit_test(scrape_requests),
	};
	return cmocka_run_group_tests_name("prom", tests, NULL, NULL);
}
