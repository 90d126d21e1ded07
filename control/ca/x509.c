/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/ca/x509.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum { DER_UTC_TIME = 0x17, DER_GENERAL_TIME = 0x18, DER_SEQUENCE = 0x30, DER_SET = 0x31, DER_OID = 0x06 };
#define DER_INTEGER 0x02
#define DER_VERSION 0xa0

struct tlv {
	uint8_t tag;
	struct x509_span all, body;
};

/* One element; definite lengths up to four bytes, one-byte tags: all that DER certificates use. */
static bool der_next(struct rd *r, struct tlv *out)
{
	const uint8_t *start = r->p;
	uint8_t tag = rd_u8(r), first = rd_u8(r);
	size_t n = first;
	if ((tag & 0x1f) == 0x1f)
		r->bad = true;
	if (first & 0x80) {
		unsigned len_bytes = first & 0x7f;
		if (len_bytes == 0 || len_bytes > 4)
			r->bad = true;
		n = 0;
		for (unsigned i = 0; i < len_bytes && !r->bad; i++)
			n = n << 8 | rd_u8(r);
	}
	const uint8_t *body = r->bad ? NULL : rd_bytes(r, n);
	if (!body || r->bad)
		return false;
	*out = (struct tlv){ .tag = tag, .all = { start, (size_t)(body + n - start) }, .body = { body, n } };
	return true;
}

static bool der_expect(struct rd *r, uint8_t tag, struct tlv *out)
{
	return der_next(r, out) && out->tag == tag;
}

static struct rd rd_in(struct x509_span s)
{
	return rd_of(s.p, s.n);
}

static bool digits(const uint8_t *p, size_t n, int *out)
{
	*out = 0;
	for (size_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		*out = *out * 10 + (p[i] - '0');
	}
	return true;
}

static bool der_time(struct rd *r, int64_t *out)
{
	struct tlv t;
	if (!der_next(r, &t) || (t.tag != DER_UTC_TIME && t.tag != DER_GENERAL_TIME))
		return false;
	size_t year_digits = t.tag == DER_UTC_TIME ? 2 : 4;
	if (t.body.n != year_digits + 11 || t.body.p[t.body.n - 1] != 'Z')
		return false;
	int f[6];
	const uint8_t *p = t.body.p;
	for (int i = 0; i < 6; i++) {
		size_t w = i ? 2 : year_digits;
		if (!digits(p, w, &f[i]))
			return false;
		p += w;
	}
	if (year_digits == 2)
		f[0] += f[0] < 50 ? 2000 : 1900;
	if (f[0] < 1900 || f[0] > 2200 || f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > 31 || f[3] > 23 || f[4] > 59 ||
	    f[5] > 60)
		return false;
	struct tm tm = { .tm_year = f[0] - 1900,
		         .tm_mon = f[1] - 1,
		         .tm_mday = f[2],
		         .tm_hour = f[3],
		         .tm_min = f[4],
		         .tm_sec = f[5] };
	*out = (int64_t)timegm(&tm) * NS_PER_SEC;
	return true;
}

/* A second attribute of the same kind would leave open which one counts. */
static bool take_attr(char out[65], struct x509_span v)
{
	if (out[0] || v.n == 0 || v.n > 64)
		return false;
	for (size_t i = 0; i < v.n; i++)
		if (v.p[i] < 0x20 || v.p[i] > 0x7e)
			return false;
	memcpy(out, v.p, v.n);
	out[v.n] = '\0';
	return true;
}

static bool parse_attr(struct x509_span attr, struct x509_info *out)
{
	struct rd r = rd_in(attr);
	struct tlv oid, value;
	if (!der_expect(&r, DER_OID, &oid) || !der_next(&r, &value) || rd_left(&r))
		return false;
	if (oid.body.n != 3 || oid.body.p[0] != 0x55 || oid.body.p[1] != 0x04)
		return true;
	switch (oid.body.p[2]) {
	case 3:
		return take_attr(out->cn, value.body);
	case 10:
		return take_attr(out->o, value.body);
	case 11:
		return take_attr(out->ou, value.body);
	}
	return true;
}

static bool parse_subject(struct x509_span name, struct x509_info *out)
{
	struct rd r = rd_in(name);
	struct tlv set, attr;
	while (rd_left(&r)) {
		if (!der_expect(&r, DER_SET, &set))
			return false;
		struct rd in = rd_in(set.body);
		while (rd_left(&in))
			if (!der_expect(&in, DER_SEQUENCE, &attr) || !parse_attr(attr.body, out))
				return false;
	}
	return true;
}

static bool parse_tbs(struct x509_span tbs, struct x509_info *out)
{
	struct rd r = rd_in(tbs);
	struct tlv t;
	if (!der_next(&r, &t))
		return false;
	if (t.tag == DER_VERSION && !der_next(&r, &t))
		return false;
	if (t.tag != DER_INTEGER || !der_expect(&r, DER_SEQUENCE, &t))
		return false;
	if (!der_expect(&r, DER_SEQUENCE, &t))
		return false;
	out->issuer = t.all;
	if (!der_expect(&r, DER_SEQUENCE, &t))
		return false;
	struct rd dates = rd_in(t.body);
	if (!der_time(&dates, &out->not_before) || !der_time(&dates, &out->not_after))
		return false;
	if (!der_expect(&r, DER_SEQUENCE, &t))
		return false;
	out->subject = t.all;
	if (!parse_subject(t.body, out) || !der_expect(&r, DER_SEQUENCE, &t))
		return false;
	out->spki = t.all;
	return true;
}

int x509_parse(const void *der, size_t n, struct x509_info *out, struct mesh_err *err)
{
	struct rd r = rd_of(der, n);
	struct tlv cert, tbs;
	*out = (struct x509_info){ 0 };
	if (n > X509_MAX_BYTES)
		return mesh_fail(err, MESH_E_CORRUPT, "certificate of %zu bytes is above the limit of %d", n,
		                 X509_MAX_BYTES);
	if (!n || !der_expect(&r, DER_SEQUENCE, &cert) || rd_left(&r))
		return mesh_fail(err, MESH_E_CORRUPT, "not a DER certificate");
	struct rd in = rd_in(cert.body);
	if (!der_expect(&in, DER_SEQUENCE, &tbs) || !parse_tbs(tbs.body, out))
		return mesh_fail(err, MESH_E_CORRUPT, "certificate is malformed");
	return 0;
}

size_t x509_first(const void *p, size_t n)
{
	struct rd r = rd_of(p, n);
	struct tlv t;
	return n && der_next(&r, &t) ? t.all.n : 0;
}

static int check_subject(const struct x509_info *info, const char *cluster, struct net_peer *out, struct mesh_err *err)
{
	bool manager = !strcmp(info->ou, "swarm-manager");
	if (!manager && strcmp(info->ou, "swarm-worker"))
		return mesh_fail(err, MESH_E_TLS, "certificate carries no role of a node (OU '%s')", info->ou);
	if (!mesh_id_valid(info->cn) || !mesh_id_valid(info->o))
		return mesh_fail(err, MESH_E_TLS, "certificate carries no node and cluster (CN '%s', O '%s')", info->cn,
		                 info->o);
	if (cluster[0] && strcmp(cluster, info->o))
		return mesh_fail(err, MESH_E_TLS, "certificate was issued by another cluster (%s, this is %s)", info->o,
		                 cluster);
	mesh_id_set(out->cluster.s, info->o);
	mesh_id_set(out->node.s, info->cn);
	out->manager = manager;
	out->not_after = info->not_after;
	return 0;
}

static int foreign(const struct x509_info *info, const char *cluster, struct mesh_err *err)
{
	if (!cluster[0])
		return mesh_fail(err, MESH_E_TLS, "certificate was not issued by the CA that the join token names");
	if (mesh_id_valid(info->o) && strcmp(info->o, cluster))
		return mesh_fail(err, MESH_E_TLS, "certificate was issued by another cluster (%s, this is %s)", info->o,
		                 cluster);
	return mesh_fail(err, MESH_E_TLS, "certificate was not issued by this cluster's CA");
}

int x509_check_node(const struct x509_trust *t, const void *der, size_t n, const char *cluster, int64_t now_ns,
                    struct net_peer *out, struct mesh_err *err)
{
	struct x509_info info;
	char when[CLOCK_TEXT_MAX], now[CLOCK_TEXT_MAX];
	int rc = x509_parse(der, n, &info, err);
	if (rc)
		return rc;
	enum x509_verdict v = x509_trust_check(t, der, n);
	if (v == X509_FOREIGN)
		return foreign(&info, cluster, err);
	if (v == X509_EXPIRED || now_ns > info.not_after)
		return mesh_fail(err, MESH_E_TLS,
		                 "certificate expired at %s (the clock here says %s); its node must leave the swarm "
		                 "and join again",
		                 clock_format(info.not_after, when),
		                 clock_format(now_ns / NS_PER_SEC * NS_PER_SEC, now));
	if (v == X509_EARLY || now_ns < info.not_before)
		return mesh_fail(err, MESH_E_TLS, "certificate is not valid before %s (the clock here says %s)",
		                 clock_format(info.not_before, when),
		                 clock_format(now_ns / NS_PER_SEC * NS_PER_SEC, now));
	return check_subject(&info, cluster, out, err);
}

int x509_check_own(const struct x509_trust *t, const void *der, size_t n, struct net_peer *out, struct mesh_err *err)
{
	struct x509_info info;
	int rc = x509_parse(der, n, &info, err);
	if (rc)
		return rc;
	if (x509_trust_check(t, der, n) == X509_FOREIGN)
		return mesh_fail(err, MESH_E_TLS, "certificate was not issued by the root beside it");
	return check_subject(&info, "", out, err);
}
