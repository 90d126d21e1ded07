/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the bodies of the join frames. Pure. NET_JOIN_ROOT is empty, NET_JOIN_ROOT_REPLY is one certificate
 *         (DER), a refusal is NET_ERROR on the request's stream, the others are the structs below
 *         (base/schema.h).
 * Errors: MESH_E_PROTOCOL, naming what is wrong; a struct that failed to decode is empty.
 */
#ifndef CONTROL_CA_JOIN_MSG_H
#define CONTROL_CA_JOIN_MSG_H

#include "base/id.h"
#include "base/schema.h"

struct ca_csr_msg { /* NET_JOIN_CSR; NET_RENEW_CSR without a token */
	char *token;
	struct bytes csr;
	char *advertise_addr; /* may be NULL */
};
struct ca_cert_msg { /* NET_JOIN_CERT */
	node_id node;
	cluster_id cluster;
	bool manager;
	struct bytes root; /* all roots to trust from now on */
	struct bytes cert;
};
extern const struct schema ca_csr_msg_schema, ca_cert_msg_schema;

int ca_csr_msg_decode(struct ca_csr_msg *m, const uint8_t *p, size_t n, bool renew,
                      struct mesh_err *err) MESH_MUST_CHECK;
int ca_cert_msg_decode(struct ca_cert_msg *m, const uint8_t *p, size_t n, struct mesh_err *err) MESH_MUST_CHECK;

#endif
