/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The resolver's pure parts: messages (cross-checked with ldns), zones, cache, nameserver lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <ldns/ldns.h>

#include "dataplane/dns/cache.h"
#include "dataplane/dns/dns.h"
#include "dataplane/dns/upstream.h"

/* ---- helpers ------------------------------------------------------------------------------------- */

struct ask {
	const char *name;
	ldns_rr_type type;
	uint16_t edns; /* UDP size, 0 = none */
};

static size_t query_bytes(const struct ask *a, uint8_t **out)
{
	ldns_rdf *name = ldns_dname_new_frm_str(a->name);
	ldns_pkt *p = ldns_pkt_query_new(name, a->type, LDNS_RR_CLASS_IN, LDNS_RD);
	ldns_pkt_set_id(p, 0xbeef);
	if (a->edns)
		ldns_pkt_set_edns_udp_size(p, a->edns);
	size_t n;
	assert_int_equal(ldns_pkt2wire(out, p, &n), LDNS_STATUS_OK);
	ldns_pkt_free(p);
	return n;
}

/* Builds an answer the way the server does and has ldns read it. */
static ldns_pkt *answer(const struct ask *a, const struct dns_found *f, int rcode, size_t limit, unsigned rot)
{
	uint8_t *q, out[DNS_TCP_MAX];
	struct dns_query dq;
	size_t n = query_bytes(a, &q);
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_NOERROR);
	n = dns_build(q, &dq, rcode, f, rot, limit, out);
	assert_true(n <= limit);
	ldns_pkt *p;
	assert_int_equal(ldns_wire2pkt(&p, out, n), LDNS_STATUS_OK);
	assert_int_equal(ldns_pkt_id(p), 0xbeef);
	assert_true(ldns_pkt_qr(p) && ldns_pkt_ra(p) && ldns_pkt_rd(p));
	free(q);
	return p;
}

static struct dp_ip ip(const char *text)
{
	struct dp_ip out;
	assert_int_equal(dp_ip_parse(text, &out, NULL), 0);
	return out;
}

static char *rdata_text(const ldns_pkt *p, size_t i)
{
	return ldns_rdf2str(ldns_rr_rdf(ldns_rr_list_rr(ldns_pkt_answer(p), i), 0));
}

/* ---- queries ------------------------------------------------------------------------------------- */

static void test_query_fields(void **state)
{
	(void)state;
	uint8_t *q;
	struct dns_query dq;
	struct ask a = { "WeB.Blue.", LDNS_RR_TYPE_AAAA, 1400 };
	size_t n = query_bytes(&a, &q);
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_NOERROR);
	assert_string_equal(dq.name, "web.blue");
	assert_int_equal(dq.type, DNS_AAAA);
	assert_int_equal(dq.class, 1);
	assert_true(dq.edns);
	assert_int_equal(dq.udp_size, 1400);
	assert_int_equal(dq.id, 0xbeef);
	/* Every shorter message is malformed or dropped, never believed. */
	for (size_t cut = 0; cut < n; cut++) {
		int rc = dns_query_parse(q, cut, &dq);
		assert_int_equal(rc, cut < 12 ? DNS_DROP : DNS_FORMERR);
	}
	q[2] |= 0x80;
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_DROP);
	q[2] = 0x28; /* UPDATE */
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_NOTIMP);
	free(q);
}

static void test_query_odd_names(void **state)
{
	(void)state;
	struct dns_query dq;
	/* A compression pointer in a question, a label of 64, two questions, a dot inside a label, the root. */
	static const uint8_t head[12] = { 0, 1, 1, 0, 0, 1 };
	uint8_t m[300] = { 0 };
	memcpy(m, head, 12);
	memcpy(m + 12, "\xc0\x0c\0\1\0\1", 6);
	assert_int_equal(dns_query_parse(m, 18, &dq), DNS_FORMERR);
	m[12] = 64;
	assert_int_equal(dns_query_parse(m, 200, &dq), DNS_FORMERR);
	memcpy(m + 12, "\1a\0\0\1\0\1", 7);
	m[5] = 2;
	assert_int_equal(dns_query_parse(m, 19, &dq), DNS_FORMERR);
	m[5] = 1;
	memcpy(m + 12, "\3a.b\0\0\1\0\1", 9);
	assert_int_equal(dns_query_parse(m, 21, &dq), DNS_NOERROR);
	assert_string_equal(dq.name, "");
	memcpy(m + 12, "\0\0\1\0\1", 5);
	assert_int_equal(dns_query_parse(m, 17, &dq), DNS_NOERROR);
	assert_string_equal(dq.name, "");
	/* Names longer than 255 bytes. */
	for (size_t i = 0; i < 280; i++)
		m[12 + i] = i % 2 ? 'a' : 1;
	assert_int_equal(dns_query_parse(m, sizeof(m), &dq), DNS_FORMERR);
}

static void test_query_bad_edns(void **state)
{
	(void)state;
	uint8_t *q, out[512];
	struct dns_query dq;
	struct ask a = { "a.", LDNS_RR_TYPE_A, 100 };
	size_t n = query_bytes(&a, &q);
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_NOERROR);
	assert_int_equal(dq.udp_size, DNS_UDP_MIN);
	q[n - 5] = 1; /* EDNS version 1 */
	assert_int_equal(dns_query_parse(q, n, &dq), DNS_BADVERS);
	n = dns_build(q, &dq, DNS_BADVERS, NULL, 0, 512, out);
	ldns_pkt *p;
	assert_int_equal(ldns_wire2pkt(&p, out, n), LDNS_STATUS_OK);
	assert_int_equal(ldns_pkt_get_rcode(p), 0);
	assert_int_equal(ldns_pkt_edns_extended_rcode(p), 1);
	ldns_pkt_free(p);
	free(q);
}

/* ---- answers ------------------------------------------------------------------------------------- */

static void test_answer_addresses(void **state)
{
	(void)state;
	struct dp_ip ips[3] = { ip("10.0.1.5"), ip("10.0.1.6"), ip("fd00::7") };
	struct dns_found f = { .ips = ips, .n = 3 };
	struct ask a = { "WEB.", LDNS_RR_TYPE_A, 0 };
	ldns_pkt *p = answer(&a, &f, 0, 512, 0);
	assert_int_equal(ldns_pkt_ancount(p), 2);
	char *owner = ldns_rdf2str(ldns_rr_owner(ldns_rr_list_rr(ldns_pkt_answer(p), 0)));
	assert_string_equal(owner, "WEB."); /* the question's own spelling */
	free(owner);
	char *t = rdata_text(p, 0);
	assert_string_equal(t, "10.0.1.5");
	free(t);
	ldns_pkt_free(p);
	p = answer(&a, &f, 0, 512, 1); /* rotated */
	t = rdata_text(p, 0);
	assert_string_equal(t, "10.0.1.6");
	free(t);
	ldns_pkt_free(p);
	a.type = LDNS_RR_TYPE_AAAA;
	p = answer(&a, &f, 0, 512, 0);
	assert_int_equal(ldns_pkt_ancount(p), 1);
	t = rdata_text(p, 0);
	assert_string_equal(t, "fd00::7");
	free(t);
	ldns_pkt_free(p);
	a.type = LDNS_RR_TYPE_MX; /* known, but no such record */
	p = answer(&a, &f, 0, 512, 0);
	assert_int_equal(ldns_pkt_ancount(p), 0);
	assert_int_equal(ldns_pkt_get_rcode(p), 0);
	ldns_pkt_free(p);
}

static void test_answer_ptr_and_edns(void **state)
{
	(void)state;
	struct dns_found f = { .ptr = "web.1.abc.blue" };
	struct ask a = { "5.1.0.10.in-addr.arpa.", LDNS_RR_TYPE_PTR, 1232 };
	ldns_pkt *p = answer(&a, &f, 0, 1232, 0);
	char *t = rdata_text(p, 0);
	assert_string_equal(t, "web.1.abc.blue.");
	free(t);
	assert_true(ldns_pkt_edns(p));
	ldns_pkt_free(p);
}

static void test_answer_truncates(void **state)
{
	(void)state;
	struct dp_ip ips[200];
	for (unsigned i = 0; i < 200; i++) {
		ips[i] = ip("10.0.0.0");
		ips[i].b[15] = (uint8_t)i;
	}
	struct dns_found f = { .ips = ips, .n = 200 };
	for (uint16_t edns = 0; edns <= 1232; edns += 1232) {
		struct ask a = { "web.", LDNS_RR_TYPE_A, edns };
		size_t limit = edns ? edns : 512;
		ldns_pkt *p = answer(&a, &f, 0, limit, 0);
		assert_true(ldns_pkt_tc(p));
		assert_int_equal(ldns_pkt_ancount(p), (limit - 12 - 9 - (edns ? 11 : 0)) / 16);
		ldns_pkt_free(p);
		p = answer(&a, &f, 0, DNS_TCP_MAX, 0);
		assert_false(ldns_pkt_tc(p));
		assert_int_equal(ldns_pkt_ancount(p), 200);
		ldns_pkt_free(p);
	}
}

static void test_reverse_names(void **state)
{
	(void)state;
	struct dp_ip got, want = ip("10.0.1.5");
	assert_true(dns_reverse_parse("5.1.0.10.in-addr.arpa", &got));
	assert_memory_equal(&got, &want, sizeof(want));
	want = ip("2001:db8::567:89ab");
	assert_true(
		dns_reverse_parse("b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", &got));
	assert_memory_equal(&got, &want, sizeof(want));
	static const char *const bad[] = { "in-addr.arpa",
		                           "1.0.10.in-addr.arpa",
		                           "256.1.0.10.in-addr.arpa",
		                           "1.2.3.4.5.in-addr.arpa",
		                           "a.1.0.10.in-addr.arpa",
		                           "5.1.0.10.in-addr.arpa.x",
		                           "1..0.10.in-addr.arpa",
		                           "0.ip6.arpa",
		                           "" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(dns_reverse_parse(bad[i], &got));
}

/* ---- answers of others --------------------------------------------------------------------------- */

/* An answer with these records in presentation form, answers first, authority after NULL. */
static size_t response_bytes(const struct ask *a, const char *const *answers, const char *soa, int rcode, uint8_t **out)
{
	ldns_pkt *p = ldns_pkt_query_new(ldns_dname_new_frm_str(a->name), a->type, LDNS_RR_CLASS_IN, LDNS_RD);
	ldns_rr *rr;
	ldns_pkt_set_id(p, 0x1111);
	ldns_pkt_set_qr(p, true);
	ldns_pkt_set_rcode(p, (uint8_t)rcode);
	for (; answers && *answers; answers++) {
		assert_int_equal(ldns_rr_new_frm_str(&rr, *answers, 0, NULL, NULL), LDNS_STATUS_OK);
		ldns_pkt_push_rr(p, LDNS_SECTION_ANSWER, rr);
	}
	if (soa) {
		assert_int_equal(ldns_rr_new_frm_str(&rr, soa, 0, NULL, NULL), LDNS_STATUS_OK);
		ldns_pkt_push_rr(p, LDNS_SECTION_AUTHORITY, rr);
	}
	size_t n;
	assert_int_equal(ldns_pkt2wire(out, p, &n), LDNS_STATUS_OK);
	ldns_pkt_free(p);
	return n;
}

static void parse_ask(const struct ask *a, struct dns_query *q)
{
	uint8_t *bytes;
	size_t n = query_bytes(a, &bytes);
	assert_int_equal(dns_query_parse(bytes, n, q), 0);
	free(bytes);
}

static void test_response(void **state)
{
	(void)state;
	struct ask a = { "www.example.org.", LDNS_RR_TYPE_A, 0 };
	static const char *const rrs[] = { "www.example.org. 300 IN CNAME web.example.org.",
		                           "web.example.org. 60 IN A 192.0.2.1", NULL };
	uint8_t *m;
	struct dns_query q;
	struct dns_response r;
	parse_ask(&a, &q);
	size_t n = response_bytes(&a, rrs, NULL, 0, &m);
	assert_int_equal(dns_response_parse(m, n, &q, &r), 0);
	assert_int_equal(r.id, 0x1111);
	assert_int_equal(r.ttl, 60);
	assert_int_equal(r.n_ttls, 2);
	assert_true(r.cacheable);
	for (size_t cut = 0; cut < n; cut++)
		assert_int_not_equal(dns_response_parse(m, cut, &q, &r), 0);
	m[14] ^= 1; /* another question */
	assert_int_not_equal(dns_response_parse(m, n, &q, &r), 0);
	free(m);
	static const char soa[] = "example.org. 3600 IN SOA ns.example.org. a.example.org. 1 2 3 4 20";
	n = response_bytes(&a, NULL, soa, DNS_NXDOMAIN, &m);
	assert_int_equal(dns_response_parse(m, n, &q, &r), 0);
	assert_true(r.cacheable);
	assert_int_equal(r.ttl, 20);
	free(m);
	n = response_bytes(&a, NULL, NULL, DNS_NXDOMAIN, &m); /* nobody says for how long */
	assert_int_equal(dns_response_parse(m, n, &q, &r), 0);
	assert_false(r.cacheable);
	free(m);
	n = response_bytes(&a, NULL, NULL, DNS_SERVFAIL, &m);
	assert_int_equal(dns_response_parse(m, n, &q, &r), 0);
	assert_false(r.cacheable);
	free(m);
}

static void test_cache(void **state)
{
	(void)state;
	struct dns_cache *c = dns_cache_new();
	struct ask a = { "www.example.org.", LDNS_RR_TYPE_A, 0 };
	static const char *const rrs[] = { "www.example.org. 60 IN A 192.0.2.1", NULL };
	uint8_t *m, out[DNS_UDP_MAX];
	struct dns_query q, other;
	struct dns_response r;
	parse_ask(&a, &q);
	size_t n = response_bytes(&a, rrs, NULL, 0, &m);
	assert_int_equal(dns_response_parse(m, n, &q, &r), 0);
	assert_int_equal(dns_cache_get(c, &q, 1, 100, out), 0);
	dns_cache_put(c, &q, 1, m, n, &r, 100);
	assert_int_equal(dns_cache_get(c, &q, 1, 140, out), n);
	assert_int_equal(dns_get16(out), 0xbeef);
	assert_int_equal(dns_get32(out + r.ttl_offs[0]), 20);
	assert_int_equal(dns_cache_get(c, &q, 2, 140, out), 0); /* other resolvers */
	a.edns = 1232;
	parse_ask(&a, &other);
	assert_int_equal(dns_cache_get(c, &other, 1, 140, out), 0);
	assert_int_equal(dns_cache_get(c, &q, 1, 160, out), 0); /* over */
	free(m);
	/* Bounded: ten thousand names, memory for four thousand. */
	size_t kept = 0;
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < 10000; i++) {
			char name[32];
			snprintf(name, sizeof(name), "n%u.example.", i);
			struct ask b = { name, LDNS_RR_TYPE_A, 0 };
			parse_ask(&b, &other);
			if (pass) {
				kept += dns_cache_get(c, &other, 1, 200, out) > 0;
				continue;
			}
			char text[64];
			snprintf(text, sizeof(text), "%s 600 IN A 192.0.2.1", name);
			const char *one[] = { text, NULL };
			n = response_bytes(&b, one, NULL, 0, &m);
			assert_int_equal(dns_response_parse(m, n, &other, &r), 0);
			dns_cache_put(c, &other, 1, m, n, &r, 200);
			free(m);
		}
	}
	assert_in_range(kept, 3000, 4096);
	dns_cache_free(c);
}

/* ---- zones --------------------------------------------------------------------------------------- */

static struct dp_endpoint endpoint(const char *service, const char *addr, int state, char **names, size_t n)
{
	struct dp_endpoint e = { .addr = (char *)addr, .state = state, .names = { names, n } };
	mesh_id_set(e.service.s, service);
	return e;
}

static struct dns_zone *blue_zone(void)
{
	static char *aliases[] = { (char *)"www" }, *n1[] = { (char *)"web.1.aaa", (char *)"Alias" },
		    *n2[] = { (char *)"web.2.bbb" }, *n3[] = { (char *)"db.1.ccc", (char *)"alias" };
	struct dp_network net = { .name = (char *)"Blue", .subnet = (char *)"10.0.1.0/24" };
	struct dp_service web = { .name = (char *)"Web", .vip = (char *)"10.0.1.2", .aliases = { aliases, 1 } };
	struct dp_service db = { .name = (char *)"db" };
	mesh_id_set(web.id.s, "web");
	mesh_id_set(db.id.s, "db");
	struct dp_endpoint e1 = endpoint("web", "10.0.1.5", DP_SERVING, n1, 2);
	struct dp_endpoint e2 = endpoint("web", "10.0.1.6", DP_STARTING, n2, 1);
	struct dp_endpoint e3 = endpoint("db", "10.0.1.7", DP_SERVING, n3, 2);
	struct dp_endpoint e4 = endpoint("db", "10.0.1.8", DP_DRAINING, NULL, 0);
	const struct dp_service *s[] = { &web, &db };
	const struct dp_endpoint *e[] = { &e1, &e2, &e3, &e4 };
	return dns_zone_new(&net, s, 2, e, 4);
}

static void expect(struct dns_zone *z, const char *name, const char *want)
{
	struct dns_found f;
	char got[200] = "", text[DP_IP_TEXT_MAX];
	enum dns_outcome o = dns_lookup(&z, 1, name, &f);
	for (size_t i = 0; i < f.n; i++)
		snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", i ? " " : "",
		         dp_ip_format(&f.ips[i], text));
	assert_int_equal(o, want ? DNS_FOUND : DNS_UNKNOWN);
	assert_string_equal(got, want ? want : "");
}

static void test_zone(void **state)
{
	(void)state;
	struct dns_zone *z = blue_zone();
	expect(z, "web", "10.0.1.2");
	expect(z, "www", "10.0.1.2");
	expect(z, "web.blue", "10.0.1.2");
	expect(z, "tasks.web", "10.0.1.5"); /* the starting one is not there */
	expect(z, "tasks.www", "10.0.1.5");
	expect(z, "tasks.web.blue", "10.0.1.5");
	expect(z, "db", "10.0.1.7"); /* dnsrr; the draining one is not there */
	expect(z, "tasks.db", "10.0.1.7");
	expect(z, "web.2.bbb", "10.0.1.6"); /* its own name always */
	expect(z, "alias", "10.0.1.5 10.0.1.7");
	expect(z, "nobody", NULL);
	expect(z, "nobody.blue", NULL);
	expect(z, ".blue", NULL);
	expect(z, "", NULL);
	struct dns_found f;
	struct dp_ip a = ip("10.0.1.6");
	assert_int_equal(dns_lookup_ptr(&z, 1, &a, &f), DNS_FOUND);
	assert_string_equal(f.ptr, "web.2.bbb.blue");
	a = ip("10.0.1.2");
	assert_int_equal(dns_lookup_ptr(&z, 1, &a, &f), DNS_FOUND);
	assert_string_equal(f.ptr, "Web.blue");
	a = ip("10.0.1.99");
	assert_int_equal(dns_lookup_ptr(&z, 1, &a, &f), DNS_ABSENT);
	a = ip("10.0.2.6");
	assert_int_equal(dns_lookup_ptr(&z, 1, &a, &f), DNS_UNKNOWN);
	dns_zone_free(z);
}

/* ---- nameservers --------------------------------------------------------------------------------- */

static void test_resolv_conf(void **state)
{
	(void)state;
	struct dns_upstreams u;
	dns_resolv_conf_parse("# comment\nsearch a b\nnameserver 10.1.1.1\nnameserver\tfd00::1 \nnameserver bad\n"
	                      "nameserverx 1.1.1.1\nnameserver 10.1.1.2\r\nnameserver 10.1.1.3",
	                      &u);
	assert_int_equal(u.n, 3);
	char text[DP_IP_TEXT_MAX];
	assert_string_equal(dp_ip_format(&u.v[0].ip, text), "10.1.1.1");
	assert_string_equal(dp_ip_format(&u.v[1].ip, text), "fd00::1");
	assert_string_equal(dp_ip_format(&u.v[2].ip, text), "10.1.1.2");
	assert_int_equal(u.v[0].port, 53);
	struct dns_upstream one;
	assert_int_equal(dns_upstream_parse("10.1.1.1#5353", &one), 0);
	assert_int_equal(one.port, 5353);
	static const char *const bad[] = { "",     "#53",       "10.1.1.1#", "10.1.1.1#70000", "fe80::1%eth0",
		                           "host", "10.1.1.1/8" };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_not_equal(dns_upstream_parse(bad[i], &one), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query_fields),
		cmocka_unit_test(test_query_odd_names),
		cmocka_unit_test(test_query_bad_edns),
		cmocka_unit_test(test_answer_addresses),
		cmocka_unit_test(test_answer_ptr_and_edns),
		cmocka_unit_test(test_answer_truncates),
		cmocka_unit_test(test_reverse_names),
		cmocka_unit_test(test_response),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_zone),
		cmocka_unit_test(test_resolv_conf),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
