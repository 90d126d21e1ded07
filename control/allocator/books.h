/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside of the allocator: who holds what. Private to control/allocator. */
#ifndef CONTROL_ALLOCATOR_BOOKS_H
#define CONTROL_ALLOCATOR_BOOKS_H

#include "base/map.h"
#include "control/allocator/allocator.h"

#define POOL_MAX 65536u
#define RESTING_MAX 64u

/* One network's addresses. */
struct anet {
	char id[MESH_ID_LEN + 1];
	char *name;
	uint32_t vni;
	bool ingress;
	struct cidr subnet; /* bits 0: not given yet */
	struct cidr range;  /* where addresses are given out: the subnet or its ip_range */
	uint32_t gateway;
	uint8_t *holders; /* per address of range: how many objects hold it */
	size_t used;      /* addresses with a holder, gateway not counted */
	uint32_t cursor;  /* next-fit, index into range */
	int64_t resumed;  /* creation of the newest object seen while resuming */
	/* Freed last: passed over while there are others, also right after a change of leader. */
	uint32_t resting[RESTING_MAX];
	uint32_t n_resting;
	size_t users; /* objects holding one */
};
struct aplace {
	struct anet *net;
	uint32_t addr;
};
/* What a service or task holds. */
struct aholder {
	struct VEC(struct aplace) places;
	struct VEC(uint32_t) ports; /* protocol << 16 | published */
	char *name;                 /* services */
};
struct anode {
	char *hostname;
	struct VEC(struct cidr) taken;  /* underlay and addresses */
	struct VEC(uint32_t) listening; /* protocol << 16 | port */
};
struct alloc {
	struct map nets;     /* id -> struct anet */
	struct map by_name;  /* name -> struct anet */
	struct map services; /* id -> struct aholder */
	struct map tasks;    /* id -> struct aholder */
	struct map nodes;    /* id -> struct anode */
	struct map ports;    /* "tcp/8080" style key -> service id string owned by holder's map key */
	struct anet *ingress;
	struct VEC(struct cidr) pools;
	unsigned subnet_bits;
	uint64_t subnet_cursor; /* address after the last subnet given */
	uint32_t vni_cursor, port_cursor;
	bool resuming;
};

struct anet *anet_of(const struct alloc *a, const char *target);
/* Total of addresses that can be given to tasks and VIPs. */
size_t anet_total(const struct anet *n);
/* The next free address; false when there is none. */
bool anet_next(struct anet *n, uint32_t *addr);
/* Is addr in use? Outside of the range counts as used. */
bool anet_held(const struct anet *n, uint32_t addr);
void holder_take(struct aholder *h, struct anet *n, uint32_t addr);
void holder_release(struct alloc *a, struct aholder *h);
#define PORT_KEY(proto, port) ((uint32_t)((proto) ? (proto) : MD_PROTO_TCP) << 16 | (port))
const char *port_owner(const struct alloc *a, uint32_t key);
void port_take(struct alloc *a, struct aholder *h, const char *service, uint32_t key);

#endif
