/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/net_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "control/ca/x509.h"

static struct cluster blue, red;

static int setup(void **state)
{
	(void)state;
	cluster_make(&blue, 1);
	cluster_make(&red, 2);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	cluster_fini(&blue);
	cluster_fini(&red);
	return 0;
}

static void issue(struct cluster *c, const struct ca_issue *what, struct bytes *key, struct bytes *cert)
{
	struct bytes csr = { 0 };
	struct mesh_err err = { 0 };
	if (ca_csr_make(key, &csr, &err) || ca_issue(&c->cert, &c->key, &csr, what, cert, &err))
		fail_msg("%s", err.msg);
	free(csr.p);
}

static int check(struct cluster *root, const struct bytes *cert, const char *cluster, int64_t now, struct net_peer *out,
                 struct mesh_err *err)
{
	struct x509_trust *t;
	assert_int_equal(x509_trust_new(&root->cert, &t, err), 0);
	int rc = x509_check_node(t, cert->p, cert->n, cluster, now, out, err);
	x509_trust_free(t);
	return rc;
}

static void test_root(void **state)
{
	(void)state;
	struct x509_info info;
	assert_int_equal(x509_parse(blue.cert.p, blue.cert.n, &info, NULL), 0);
	assert_string_equal(info.cn, "swarm-ca");
	assert_int_equal(info.subject.n, info.issuer.n);
	assert_memory_equal(info.subject.p, info.issuer.p, info.subject.n);
	assert_true(info.not_before <= clock_wall_ns());
	assert_true(info.not_after > clock_wall_ns() + 19LL * 365 * 24 * HOUR);
	assert_int_equal(x509_first(blue.cert.p, blue.cert.n), blue.cert.n);
	char *pem = ca_pem_of(&blue.cert);
	assert_memory_equal(pem, "-----BEGIN CERTIFICATE-----\n", 28);
	assert_non_null(strstr(pem, "-----END CERTIFICATE-----"));
	free(pem);
}

static void test_tls_info(void **state)
{
	(void)state;
	struct bytes subject = { 0 }, key = { 0 };
	assert_int_equal(ca_tls_info(&blue.cert, &subject, &key), 0);
	assert_int_equal(subject.p[0], 0x30);
	assert_int_equal(subject.n, (size_t)subject.p[1] + 2);
	assert_int_equal(key.n, 91); /* SubjectPublicKeyInfo of P-256 */
	assert_int_equal(key.p[26], 0x04);
	free(subject.p);
	free(key.p);
	struct bytes junk = { (uint8_t *)"junk", 4 };
	assert_int_equal(ca_tls_info(&junk, &subject, &key), MESH_E_CORRUPT);
}

static void test_node_certificate(void **state)
{
	(void)state;
	struct bytes key = { 0 }, cert = { 0 };
	struct net_peer peer = { 0 };
	struct mesh_err err = { 0 };
	struct ca_issue what = issue_for(&blue, true);
	issue(&blue, &what, &key, &cert);
	assert_int_equal(check(&blue, &cert, blue.id.s, clock_wall_ns(), &peer, &err), 0);
	assert_string_equal(peer.node.s, what.node.s);
	assert_string_equal(peer.cluster.s, blue.id.s);
	assert_true(peer.manager);
	assert_int_equal(peer.not_after / NS_PER_SEC, what.not_after / NS_PER_SEC);
	assert_false(peer.anonymous);
	free(key.p);
	free(cert.p);
}

static void test_refusals(void **state)
{
	(void)state;
	int64_t now = clock_wall_ns();
	struct ca_issue good = issue_for(&blue, false), old = good, early = good, mixed = good;
	old.not_before = now - 2 * HOUR;
	old.not_after = now - HOUR;
	early.not_before = now + HOUR;
	early.not_after = now + 2 * HOUR;
	mixed.cluster = red.id;
	struct {
		const struct ca_issue *what;
		struct cluster *ca;
		int64_t now;
		const char *text;
	} cases[] = {
		{ &good, &blue, now, NULL },
		{ &old, &blue, now, "certificate expired at " },
		{ &good, &blue, now + 3 * HOUR, "certificate expired at " },
		{ &early, &blue, now, "certificate is not valid before " },
		{ &good, &blue, now - 3 * HOUR, "certificate is not valid before " },
		{ &good, &red, now, "certificate was not issued by this cluster's CA" },
		{ &old, &red, now, "certificate was not issued by this cluster's CA" },
		{ &mixed, &red, now, "certificate was issued by another cluster (" },
		{ &mixed, &blue, now, "certificate was issued by another cluster (" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct bytes key = { 0 }, cert = { 0 };
		struct net_peer peer = { 0 };
		struct mesh_err err = { 0 };
		issue(cases[i].ca, cases[i].what, &key, &cert);
		int rc = check(&blue, &cert, blue.id.s, cases[i].now, &peer, &err);
		if (cases[i].text) {
			assert_int_equal(rc, MESH_E_TLS);
			if (strncmp(err.msg, cases[i].text, strlen(cases[i].text)))
				fail_msg("case %zu: %s", i, err.msg);
		} else {
			assert_int_equal(rc, 0);
		}
		free(key.p);
		free(cert.p);
	}
}

/* Neither an expired certificate's signature nor the root itself may slip through. */
static void test_forged(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&blue, true);
	what.not_before -= 10 * HOUR;
	what.not_after -= 5 * HOUR;
	struct bytes key = { 0 }, cert = { 0 };
	struct x509_trust *t;
	assert_int_equal(x509_trust_new(&blue.cert, &t, NULL), 0);
	issue(&blue, &what, &key, &cert);
	assert_int_equal(x509_trust_check(t, cert.p, cert.n), X509_EXPIRED);
	cert.p[cert.n - 1] ^= 1;
	assert_int_equal(x509_trust_check(t, cert.p, cert.n), X509_FOREIGN);
	struct net_peer peer;
	struct mesh_err err;
	assert_int_equal(check(&blue, &blue.cert, blue.id.s, clock_wall_ns(), &peer, &err), MESH_E_TLS);
	assert_non_null(strstr(err.msg, "no role"));
	x509_trust_free(t);
	free(key.p);
	free(cert.p);
}

static void test_every_flipped_bit(void **state)
{
	(void)state;
	struct ca_issue what = issue_for(&blue, true);
	struct bytes key = { 0 }, cert = { 0 };
	struct x509_trust *t;
	struct net_peer peer;
	assert_int_equal(x509_trust_new(&blue.cert, &t, NULL), 0);
	issue(&blue, &what, &key, &cert);
	for (size_t i = 0; i < cert.n; i += 3) {
		cert.p[i] ^= 0x10;
		if (!x509_check_node(t, cert.p, cert.n, blue.id.s, clock_wall_ns(), &peer, NULL))
			fail_msg("accepted with byte %zu changed", i);
		cert.p[i] ^= 0x10;
	}
	assert_int_equal(x509_check_node(t, cert.p, cert.n, blue.id.s, clock_wall_ns(), &peer, NULL), 0);
	x509_trust_free(t);
	free(key.p);
	free(cert.p);
}

static void test_csr_proves_possession(void **state)
{
	(void)state;
	struct bytes key = { 0 }, csr = { 0 }, cert = { 0 };
	struct mesh_err err = { 0 };
	struct ca_issue what = issue_for(&blue, false);
	assert_int_equal(ca_csr_make(&key, &csr, &err), 0);
	csr.p[csr.n - 2] ^= 1;
	assert_int_equal(ca_issue(&blue.cert, &blue.key, &csr, &what, &cert, &err), MESH_E_INVALID);
	assert_memory_equal(err.msg, "signing request: ", 17);
	csr.p[csr.n - 2] ^= 1;
	assert_int_equal(ca_issue(&blue.cert, &red.key, &csr, &what, &cert, &err), MESH_E_TLS);
	assert_string_equal(err.msg, "the root's key does not belong to the root certificate");
	what.addr = "not-an-address";
	assert_int_equal(ca_issue(&blue.cert, &blue.key, &csr, &what, &cert, &err), MESH_E_INVALID);
	what.addr = NULL;
	assert_int_equal(ca_issue(&blue.cert, &blue.key, &csr, &what, &cert, &err), 0);
	what.node.s[0] = '\0';
	assert_int_equal(ca_issue(&blue.cert, &blue.key, &csr, &what, &cert, &err), MESH_E_INVALID);
	free(key.p);
	free(csr.p);
	free(cert.p);
}

static void test_token(void **state)
{
	(void)state;
	char a[128], b[128], other[128];
	struct mesh_err err;
	ca_token_make(&blue.cert, &blue.rng, a);
	ca_token_make(&blue.cert, &blue.rng, b);
	ca_token_make(&red.cert, &red.rng, other);
	assert_int_equal(strlen(a), 85);
	assert_memory_equal(a, b, 59); /* SWMTKN-1- and the digest */
	assert_int_equal(ca_token_check_form(a, &err), 0);
	assert_true(ca_token_pins(a, &blue.cert));
	assert_false(ca_token_pins(a, &red.cert));
	assert_false(ca_token_pins(other, &blue.cert));
	assert_true(ca_token_equal(a, a));
	assert_false(ca_token_equal(a, b));
	assert_false(ca_token_equal("", ""));
	/* The digest is the one swarmkit would print: sha256 of "", most significant digit first. */
	struct bytes both = { xcalloc(1, blue.cert.n + red.cert.n), blue.cert.n + red.cert.n };
	memcpy(both.p, blue.cert.p, blue.cert.n);
	memcpy(both.p + blue.cert.n, red.cert.p, red.cert.n);
	assert_true(ca_token_pins(a, &both));
	assert_false(ca_token_pins(other, &both));
	free(both.p);
}

static void test_token_forms(void **state)
{
	(void)state;
	char good[128], bad[160];
	struct mesh_err err;
	ca_token_make(&blue.cert, &blue.rng, good);
	const char *const texts[] = { "it is empty", "does not begin with",  "only version 1",      "too short",
		                      "too long",    "50 and 25 characters", "50 and 25 characters" };
	for (int i = 0; i < 7; i++) {
		snprintf(bad, sizeof(bad), "%s", good);
		switch (i) {
		case 0:
			bad[0] = '\0';
			break;
		case 1:
			bad[0] = 's';
			break;
		case 2:
			bad[7] = '2';
			break;
		case 3:
			bad[84] = '\0';
			break;
		case 4:
			strcat(bad, "x");
			break;
		case 5:
			bad[20] = 'Z';
			break;
		case 6:
			bad[59] = 'a';
			break;
		}
		assert_int_equal(ca_token_check_form(bad, &err), MESH_E_INVALID);
		assert_memory_equal(err.msg, "invalid join token: ", 20);
		if (!strstr(err.msg, texts[i]))
			fail_msg("form %d: %s", i, err.msg);
	}
	assert_int_equal(ca_token_check_form(NULL, &err), MESH_E_INVALID);
}

static void test_identity(void **state)
{
	(void)state;
	struct bytes key = { 0 }, cert = { 0 }, key2 = { 0 }, cert2 = { 0 };
	struct net_identity *id = NULL;
	struct mesh_err err;
	struct ca_issue what = issue_for(&blue, false), promoted = what;
	promoted.manager = true;
	issue(&blue, &what, &key, &cert);
	issue(&blue, &promoted, &key2, &cert2);
	assert_int_equal(net_identity_new(&blue.cert, &cert, &key2, &id, &err), MESH_E_TLS);
	assert_string_equal(err.msg, "node certificate: the private key does not belong to the certificate");
	assert_int_equal(net_identity_new(&red.cert, &cert, &key, &id, &err), MESH_E_TLS);
	assert_int_equal(net_identity_new(&blue.cert, &cert, &key, &id, &err), 0);
	assert_false(net_identity_self(id)->manager);
	assert_int_equal(net_identity_replace(id, &blue.cert, &cert2, &key, &err), MESH_E_TLS);
	assert_false(net_identity_self(id)->manager);
	assert_int_equal(net_identity_replace(id, &blue.cert, &cert2, &key2, &err), 0);
	assert_true(net_identity_self(id)->manager);
	assert_string_equal(net_identity_self(id)->node.s, what.node.s);
	net_identity_free(id);
	free(key.p);
	free(cert.p);
	free(key2.p);
	free(cert2.p);
}

static void remove_dir(const char *dir)
{
	const char *const names[] = { "node.key", "node.crt", "root.crt" };
	for (size_t i = 0; i < 3; i++) {
		char *path = xasprintf("%s/%s", dir, names[i]);
		unlink(path);
		free(path);
	}
	rmdir(dir);
}

static void test_disk(void **state)
{
	(void)state;
	char dir[] = "/tmp/mesh-test-ca-XXXXXX";
	struct mesh_err err = { 0 };
	struct stat st;
	struct net_identity *back = NULL, *id = node_of(&blue, true);
	assert_non_null(mkdtemp(dir));
	int absent = net_identity_load(dir, &back, &err);
	int saved = net_identity_save(id, dir, &err), again = net_identity_save(id, dir, &err);
	int loaded = net_identity_load(dir, &back, &err);
	char *path = xasprintf("%s/node.key", dir);
	int mode = stat(path, &st) ? -1 : (int)(st.st_mode & 0777);
	/* A truncated file is damage, not a crash. */
	int cut = truncate(path, st.st_size / 2);
	struct net_identity *none = NULL;
	int damaged = net_identity_load(dir, &none, &err);
	remove_dir(dir);
	free(path);
	assert_int_equal(absent, -ENOENT);
	assert_int_equal(saved, 0);
	assert_int_equal(again, 0);
	assert_int_equal(loaded, 0);
	assert_int_equal(mode, 0600);
	assert_int_equal(cut, 0);
	assert_true(damaged == MESH_E_CORRUPT || damaged == MESH_E_TLS);
	assert_non_null(strstr(err.msg, "node.key: "));
	assert_string_equal(net_identity_self(back)->node.s, net_identity_self(id)->node.s);
	assert_int_equal(net_identity_root(back)->n, blue.cert.n);
	assert_memory_equal(net_identity_root(back)->p, blue.cert.p, blue.cert.n);
	assert_int_equal(net_identity_key(back)->n, net_identity_key(id)->n);
	net_identity_free(back);
	net_identity_free(id);
}

static void test_two_roots(void **state)
{
	(void)state;
	struct bytes both = { xcalloc(1, blue.cert.n + red.cert.n), blue.cert.n + red.cert.n };
	struct bytes key = { 0 }, old = { 0 }, fresh = { 0 }, csr = { 0 };
	struct x509_trust *t;
	memcpy(both.p, red.cert.p, red.cert.n);
	memcpy(both.p + red.cert.n, blue.cert.p, blue.cert.n);
	struct ca_issue what = issue_for(&blue, false);
	issue(&blue, &what, &key, &old);
	assert_int_equal(ca_csr_make(&key, &csr, NULL), 0);
	assert_int_equal(ca_issue(&both, &red.key, &csr, &what, &fresh, NULL), 0);
	assert_int_equal(x509_trust_new(&both, &t, NULL), 0);
	assert_int_equal(x509_trust_check(t, old.p, old.n), X509_TRUSTED);
	assert_int_equal(x509_trust_check(t, fresh.p, fresh.n), X509_TRUSTED);
	x509_trust_free(t);
	free(both.p);
	free(key.p);
	free(csr.p);
	free(old.p);
	free(fresh.p);
}

/* ---- another implementation's opinion ---------------------------------------------------------- */

static int run_quiet(const char *const argv[])
{
	pid_t pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0);
		dup2(null, 1);
		dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_openssl_agrees(void **state)
{
	(void)state;
	const char *version[] = { "openssl", "version", NULL };
	if (run_quiet(version)) {
		print_message("openssl is not installed\n");
		skip();
	}
	char dir[] = "/tmp/mesh-test-ssl-XXXXXX";
	assert_non_null(mkdtemp(dir));
	struct net_identity *id = node_of(&blue, false);
	struct mesh_err err = { 0 };
	int saved = net_identity_save(id, dir, &err);
	char *root = xasprintf("%s/root.crt", dir), *crt = xasprintf("%s/node.crt", dir);
	char *key = xasprintf("%s/node.key", dir);
	const char *good[] = { "openssl",   "verify",     "-CAfile",   root, "-purpose",
		               "sslserver", "-verify_ip", "127.0.0.1", crt,  NULL };
	const char *client[] = { "openssl", "verify", "-CAfile", root, "-purpose", "sslclient", crt, NULL };
	const char *other[] = { "openssl", "verify", "-CAfile", root, "-verify_ip", "127.0.0.2", crt, NULL };
	const char *ec[] = { "openssl", "ec", "-in", key, "-check", "-noout", NULL };
	int r[4] = { run_quiet(good), run_quiet(client), run_quiet(other), run_quiet(ec) };
	remove_dir(dir);
	free(root);
	free(crt);
	free(key);
	net_identity_free(id);
	assert_int_equal(saved, 0);
	assert_int_equal(r[0], 0);
	assert_int_equal(r[1], 0);
	assert_int_not_equal(r[2], 0);
	assert_int_equal(r[3], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_root),
		cmocka_unit_test(test_tls_info),
		cmocka_unit_test(test_node_certificate),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_forged),
		cmocka_unit_test(test_every_flipped_bit),
		cmocka_unit_test(test_csr_proves_possession),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_token_forms),
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_two_roots),
		cmocka_unit_test(test_openssl_agrees),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
