/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the files of this folder share. Nobody else includes it; libbpf's types stop here. */
#ifndef DATAPLANE_EBPF_INTERNAL_H
#define DATAPLANE_EBPF_INTERNAL_H

#include "base/map.h"
#include "bpf/abi.h"
#include "dataplane/ebpf/ebpf.h"

#define TABLE_KEY_MAX sizeof(struct abi_endpoint_key)

/* One BPF hash map and a copy of it: a set that changes nothing costs no system call. */
struct table_entry {
	uint64_t pass; /* last mark-and-sweep pass that set it */
	uint8_t key[TABLE_KEY_MAX];
	uint8_t value[]; /* value_size */
};
struct table {
	int fd;
	uint32_t key_size, value_size;
	struct map entries; /* hex of the key -> struct table_entry */
};

struct member {
	struct abi_addr ip;
	uint16_t backend;
};
struct service {
	uint64_t key, pass;
	uint32_t index;
	struct VEC(struct member) members;
	uint16_t *others; /* per slot of the previous table: who else had it since and may live; OTHERS_MANY */
	unsigned others_bits;
};
#define OTHERS_MANY 0xffff
/* Freed, but a program may still be reading. */
struct limbo {
	uint64_t at_ms;
	uint32_t first, count; /* chunks; count 0: first is a backend */
};

enum ebpf_prog { PROG_UPLINK, PROG_LO, PROG_VXLAN, PROG_TASK, PROG_MAX };
struct attachment {
	uint64_t pass;
	unsigned ifindex;
	enum ebpf_prog prog;
};

struct ebpf {
	char *pin_dir, *map_dir, *link_dir;
	struct dp_ip self;
	bool use_tcx;
	uint64_t pass;

	struct from_uplink_bpf *uplink;
	struct from_lo_bpf *lo;
	struct from_vxlan_bpf *vxlan;
	struct from_task_bpf *task;
	struct sock_bpf *sock;
	int prog_fd[PROG_MAX];
	struct VEC(struct attachment) attached;

	struct table ifaces, endpoints, vips, ports, host_addrs, nodes, subnets;
	struct map networks; /* decimal vni -> struct ebpf_network */
	int flows_fd, vip_flows_fd, choices_fd, socks_fd, drops_fd, events_fd, stats_fd;
	uint32_t flows_max;

	/* shared memory with the kernel */
	struct abi_runtime *runtime;
	struct abi_service *services;
	struct abi_backend *backends;
	struct abi_chunk *slots;
	uint32_t n_services, n_backends, n_chunks;

	struct VEC(struct service *) service_list;
	uint8_t *chunk_used;
	uint32_t next_uid;
	struct VEC(struct limbo) limbo;
};

static inline struct abi_addr ebpf_addr(const struct dp_ip *ip)
{
	struct abi_addr a;

	memcpy(&a, ip->b, sizeof(a));
	return a;
}
static inline struct dp_ip ebpf_ip(const struct abi_addr *a)
{
	struct dp_ip ip;

	memcpy(ip.b, a, sizeof(ip.b));
	return ip;
}

/* table.c. A table starts with what the kernel's map holds, of pass 0. */
int table_open(struct table *t, int fd, uint32_t key_size, uint32_t value_size) MESH_MUST_CHECK;
void table_fini(struct table *t);
/* NULL when absent. */
const void *table_get(const struct table *t, const void *key);
int table_set(struct table *t, const void *key, const void *value, uint64_t pass, const char *what,
              struct mesh_err *err) MESH_MUST_CHECK;
void table_del(struct table *t, const void *key);
/* Removes what pass did not set; gone (nullable) hears of each before. */
void table_sweep(struct table *t, uint64_t pass, void (*gone)(void *arg, const void *key, const void *value),
                 void *arg);

/* load.c */
int ebpf_load(struct ebpf *e, const struct ebpf_config *c, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_unload(struct ebpf *e);

/* attach.c */
int ebpf_attach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_detach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex);
int ebpf_attach_socks(struct ebpf *e, const char *cgroup, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_sweep_attached(struct ebpf *e);
void ebpf_detach_all(struct ebpf *e);

/* lb.c */
void lb_adopt(struct ebpf *e);
void lb_fini(struct ebpf *e);
void lb_sweep(struct ebpf *e);
/* 0 when it is no backend (of any service). */
uint32_t lb_backend_index(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip);
/* 0 when unknown. */
uint32_t lb_service_index(const struct ebpf *e, uint64_t key);
/* The interface behind a local backend came or went. */
void lb_set_ifindex(struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t ifindex);

/* stats.c: a backend slot gets a new owner. */
void stats_clear(struct ebpf *e, uint32_t backend);

/* ebpf.c: an endpoint's backend or interface changed. */
void endpoint_refresh(struct ebpf *e, uint32_t vni, const struct abi_addr *ip);
/* 0 when no interface has this address. */
uint32_t iface_of(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t *task);

#endif
