/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   gives out what must be unique in the cluster: VNIs, subnets, addresses, virtual IPs, published ports.
 * Truth:  the objects of the store. alloc_*_put says what an object holds NOW (idempotent, for events and for
 *         decisions not committed yet), alloc_*_del that it holds nothing; the books here only follow. So a new
 *         leader that puts every object has the same books.
 * Reuse:  everything is given out next-fit: what was freed comes back only after the rest of its pool, so that a
 *         stale flow does not meet a new owner.
 * Limits: IPv4. Of a subnet wider than /16 the first 65 536 addresses are used.
 * Pure:   no clock, no randomness.
 */
#ifndef CONTROL_ALLOCATOR_ALLOCATOR_H
#define CONTROL_ALLOCATOR_ALLOCATOR_H

#include "control/allocator/cidr.h"
#include "control/model/model.h"

#define ALLOC_VNI_FIRST 4096u
#define ALLOC_VNI_LAST 0xffffffu
#define ALLOC_PORT_FIRST 30000u
#define ALLOC_PORT_LAST 32767u
#define ALLOC_INGRESS_BITS 20u

struct alloc;
struct alloc *alloc_new(void);
void alloc_free(struct alloc *a);

/* ---- following the store ---- */

/* While on, every address put moves its network's next-fit behind it: a new leader goes on where the old one was. */
void alloc_resume(struct alloc *a, bool on);
void alloc_cluster_put(struct alloc *a, const struct md_cluster *c);
void alloc_node_put(struct alloc *a, const struct md_node *n);
void alloc_node_del(struct alloc *a, const char *id);
void alloc_network_put(struct alloc *a, const struct md_network *n);
void alloc_network_del(struct alloc *a, const char *id);
void alloc_service_put(struct alloc *a, const struct md_service *s);
void alloc_service_del(struct alloc *a, const char *id);
void alloc_task_put(struct alloc *a, const struct md_task *t);
void alloc_task_del(struct alloc *a, const char *id);

/* ---- giving out; each counts what it gave at once ---- */

/* Is n one of ours (overlay)? Others are left alone. */
bool alloc_network_ours(const struct md_network_spec *spec);
/* Fills vni and ipam (subnet, gateway). MESH_E_EXHAUSTED, MESH_E_CONFLICT, MESH_E_INVALID. */
int alloc_network(struct alloc *a, struct md_network *n, struct mesh_err *err) MESH_MUST_CHECK;
/* Is there anything to do for alloc_service? Cheap. */
bool alloc_service_done(const struct alloc *a, const struct md_service *s);
/* Makes endpoint agree with the spec: ports and VIPs are kept where they still fit, freed and added otherwise. */
int alloc_service(struct alloc *a, struct md_service *s, struct mesh_err *err) MESH_MUST_CHECK;
/* An address on each network of its spec, and on the ingress network when it publishes ports there. */
int alloc_task(struct alloc *a, struct md_task *t, struct mesh_err *err) MESH_MUST_CHECK;

/* ---- questions ---- */

/* A port somebody else publishes; MESH_E_CONFLICT names the service. */
int alloc_check_ports(const struct alloc *a, const struct md_endpoint_spec *e, const char *self,
                      struct mesh_err *err) MESH_MUST_CHECK;
int alloc_check_network(const struct alloc *a, const struct md_network_spec *spec,
                        struct mesh_err *err) MESH_MUST_CHECK;
/* How many objects (services' VIPs, tasks) hold an address of the network. */
size_t alloc_network_users(const struct alloc *a, const char *id);
/* Addresses in use and in all; false for unknown networks. */
bool alloc_network_usage(const struct alloc *a, const char *id, size_t *used, size_t *total);

#endif
