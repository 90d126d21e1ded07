/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/ca/join_msg.h"

#include <string.h>

#include "control/ca/x509.h"

#define MSG_MAX_BYTES (48u << 10)
#define TOKEN_MAX 256
#define CSR_MAX_BYTES 2048
#define ADDR_MAX 255
#define ROOTS_MAX_BYTES (4 * X509_MAX_BYTES)

#define T struct ca_csr_msg
static const struct sch_field csr_fields[] = {
	SF(1, STR, "Token", token, SCH_SECRET),
	SF(2, BYTES, "CSR", csr, 0),
	SF(3, STR, "AdvertiseAddr", advertise_addr, 0),
};
#undef T
SCHEMA(ca_csr_msg_schema, ca_csr_msg, csr_fields);

#define T struct ca_cert_msg
static const struct sch_field cert_fields[] = {
	SF(1, ID, "NodeID", node, 0),  SF(2, ID, "ClusterID", cluster, 0),   SF(3, BOOL, "Manager", manager, 0),
	SF(4, BYTES, "Root", root, 0), SF(5, BYTES, "Certificate", cert, 0),
};
#undef T
SCHEMA(ca_cert_msg_schema, ca_cert_msg, cert_fields);

static bool too_long(const char *s, size_t max)
{
	return s && strnlen(s, max + 1) > max;
}

static const char *csr_fault(const struct ca_csr_msg *m, bool renew)
{
	if (!m->csr.n || m->csr.n > CSR_MAX_BYTES)
		return "signing request missing or too long";
	if (too_long(m->token, TOKEN_MAX))
		return "token too long";
	if (renew && m->token)
		return "a token where none belongs";
	if (too_long(m->advertise_addr, ADDR_MAX))
		return "address too long";
	return NULL;
}

static const char *cert_fault(const struct ca_cert_msg *m)
{
	if (!mesh_id_valid(m->node.s) || !mesh_id_valid(m->cluster.s))
		return "ids missing";
	if (!m->cert.n || m->cert.n > X509_MAX_BYTES)
		return "certificate missing or too long";
	if (!m->root.n || m->root.n > ROOTS_MAX_BYTES)
		return "root certificate missing or too long";
	return NULL;
}

static int finish(const struct schema *s, void *m, const char *fault, const char *what, struct mesh_err *err)
{
	if (!fault)
		return 0;
	sch_clear(s, m);
	return mesh_fail(err, MESH_E_PROTOCOL, "malformed %s: %s", what, fault);
}

int ca_csr_msg_decode(struct ca_csr_msg *m, const uint8_t *p, size_t n, bool renew, struct mesh_err *err)
{
	*m = (struct ca_csr_msg){ 0 };
	const char *fault = n > MSG_MAX_BYTES ? "too long" : NULL;
	if (!fault)
		fault = sch_decode(&ca_csr_msg_schema, m, p, n) ? "not decodable" : csr_fault(m, renew);
	return finish(&ca_csr_msg_schema, m, fault, "join request", err);
}

int ca_cert_msg_decode(struct ca_cert_msg *m, const uint8_t *p, size_t n, struct mesh_err *err)
{
	*m = (struct ca_cert_msg){ 0 };
	const char *fault = n > MSG_MAX_BYTES ? "too long" : NULL;
	if (!fault)
		fault = sch_decode(&ca_cert_msg_schema, m, p, n) ? "not decodable" : cert_fault(m);
	return finish(&ca_cert_msg_schema, m, fault, "answer to the join request", err);
}
