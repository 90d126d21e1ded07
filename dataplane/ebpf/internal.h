/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: what the files of this folder share. Nobody else includes it; libbpf's types stop here. */
#ifndef DATAPLANE_EBPF_INTERNAL_H
#define DATAPLANE_EBPF_INTERNAL_H

#include <linux/bpf.h>

#include "base/hset.h"
#include "base/map.h"
#include "bpf/abi.h"
#include "dataplane/ebpf/ebpf.h"
#include "dataplane/ebpf/maglev.h"

#define TABLE_KEY_MAX sizeof(struct abi_range_key)

/* One BPF hash map and a copy of it: a set that changes nothing costs no system call. */
struct table_entry {
	uint64_t pass; /* last mark-and-sweep pass that set it */
	uint8_t key[TABLE_KEY_MAX];
	uint8_t value[]; /* value_size */
};
struct table {
	int fd;
	uint32_t key_size, value_size, max;
	struct hset entries; /* of struct table_entry, by key */
};

/* An array that grows: a map of segments (bpf/abi.h). Segments are added in order and stay. */
struct segments {
	int fd; /* of the map of segments */
	enum bpf_map_type type;
	uint32_t flags, value_size, per, max, n;
	void **memory; /* mmapable ones, as mapped here */
	int *fds;      /* others */
};

/* Numbers of elements nobody uses, and where fresh ones begin. */
struct numbers {
	struct VEC(uint32_t) free;
	uint32_t next;
};

struct service;
/* A backend of a service. */
struct member {
	struct abi_endpoint_key at;
	uint32_t backend;
	bool wanted; /* by the set that is being applied */
	struct service *service;
	struct member *same; /* of another service, at the same place */
};
struct service {
	uint64_t key, pass;
	uint32_t index;
	struct VEC(struct member *) members;
	uint32_t *
		others; /* per slot of the previous table: who else had it since and may live; OTHERS_MANY. NULL: nobody */
	unsigned others_bits;
	bool others_unknown;                     /* after a restart: a slot with SLOT_LOOKUP had many */
	struct VEC(struct abi_range_key) ranges; /* its entries in the table, but for those of before a restart */
};
#define OTHERS_MANY UINT32_MAX
/* Freed, but a program may still be reading. */
struct limbo {
	uint64_t at_ms;
	uint64_t table;   /* as in abi_service, or 0 */
	uint32_t backend; /* or 0 */
};

/* A program that an earlier daemon loaded. */
struct kept_program {
	const char *name; /* of the object that would have loaded it */
	int fd;
};

enum ebpf_prog { PROG_UPLINK, PROG_LO, PROG_VXLAN, PROG_TASK, PROG_XDP, PROG_MAX };
struct attachment {
	uint64_t pass;
	unsigned ifindex;
	enum ebpf_prog prog;
};

struct ebpf {
	char *pin_dir, *map_dir, *link_dir;
	struct dp_ip self;
	bool use_tcx;
	const char *device_reason; /* NULL: outer headers are ours */
	char xdp_reason[160];
	uint64_t pass;

	struct from_uplink_bpf *uplink;
	struct from_lo_bpf *lo;
	struct from_vxlan_bpf *vxlan;
	struct from_task_bpf *task;
	struct sock_bpf *sock;
	struct from_xdp_bpf *xdp;                   /* NULL: not asked for, or xdp_reason */
	int prog_fd[PROG_MAX], before_fd[PROG_MAX]; /* before: only of the programs of a hand-over */
	bool handover;
	struct VEC(struct kept_program) kept; /* programs.c */
	struct VEC(uint64_t) stamps;          /* what those that run were made of */
	struct VEC(struct attachment) attached;

	struct table ifaces, endpoints, vips, ports, host_addrs, nodes, links, subnets, ranges;
	struct map networks;     /* decimal vni -> struct ebpf_network */
	int table_fd[TABLE_MAX]; /* those that forget */
	int drops_fd, events_fd, inserted_fd;
	uint32_t flows_max;

	/* shared memory with the kernel */
	struct abi_runtime *runtime;
	uint64_t *published; /* words of struct abi_published */
	struct abi_node *near;
	struct abi_service *services;
	uint32_t n_services;
	struct segments backends, stats, slots;

	struct hset by_key;   /* of struct service */
	struct hset by_place; /* of struct member: the first of those at one place */
	struct numbers free_services, free_backends, free_segments;
	struct VEC(uint32_t) free_tables[MAGLEV_BITS_MAX + 1]; /* first chunks, by log2 of the slots */
	uint32_t tables_used;
	uint32_t next_uid;
	struct VEC(struct limbo) limbo;
	size_t limbo_first; /* those before are released */

	/* watch.c */
	struct ring_buffer *ring;
	struct reading *reading; /* while it runs */
	unsigned watchers;
	uint64_t unseen; /* EVENT_UNSEEN at the last reading */
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
int table_open(struct table *t, int fd, uint32_t key_size, uint32_t value_size, uint32_t max) MESH_MUST_CHECK;
void table_fini(struct table *t);
/* NULL when absent. */
const void *table_get(const struct table *t, const void *key);
int table_set(struct table *t, const void *key, const void *value, uint64_t pass, const char *what,
              struct mesh_err *err) MESH_MUST_CHECK;
void table_del(struct table *t, const void *key);
/* Removes what pass did not set; gone (nullable) hears of each before. */
void table_sweep(struct table *t, uint64_t pass, void (*gone)(void *arg, const void *key, const void *value),
                 void *arg);

/* shortcut.c: ports, the host's addresses, nodes and links: tables, and what programs read in the place of a lookup. */
void ports_sweep(struct ebpf *e);
/* All but ports. */
void places_sweep(struct ebpf *e);
/* l (NULL: none any more) is what the table says. */
void shortcut_link(struct ebpf *e, uint32_t ifindex, const struct abi_link *l);
/* As the kernel's tables say, whoever wrote those. */
void shortcuts_fill(struct ebpf *e);

/* segments.c. What is there already is adopted; -errno. */
int segments_open(struct segments *s) MESH_MUST_CHECK;
void segments_fini(struct segments *s);
/* A quarter more, at least one. MESH_E_EXHAUSTED when there are max. */
int segments_grow(struct segments *s) MESH_MUST_CHECK;
static inline uint32_t segments_size(const struct segments *s)
{
	return s->n * s->per;
}
/* i < segments_size(s), of mmapable ones. */
static inline void *segments_at(const struct segments *s, uint32_t i)
{
	return (char *)s->memory[i / s->per] + (size_t)(i % s->per) * s->value_size;
}

/* load.c */
/* What libbpf says goes to our log, not to standard error: before the first use of it that may fail. */
void ebpf_hear_libbpf(void);
int ebpf_load(struct ebpf *e, const struct ebpf_config *c, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_unload(struct ebpf *e);

/* programs.c */
struct bpf_object_skeleton;
struct bpf_program;
/* Loads what s was opened for, made with c, or takes what an earlier daemon loaded of the same. -errno. */
int programs_load(struct ebpf *e, struct bpf_object_skeleton *s, const struct abi_config *c) MESH_MUST_CHECK;
/* Borrowed; negative when it was not to be loaded. */
int programs_fd(const struct ebpf *e, const struct bpf_program *p);
/* Pins of other builds and configurations. What runs stays until it is replaced at its hook. */
void programs_sweep(struct ebpf *e);
void programs_fini(struct ebpf *e);

/* attach.c */
int ebpf_attach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_detach_prog(struct ebpf *e, enum ebpf_prog p, unsigned ifindex);
int ebpf_attach_socks(struct ebpf *e, const char *cgroup, struct mesh_err *err) MESH_MUST_CHECK;
void ebpf_sweep_attached(struct ebpf *e);
void ebpf_detach_all(struct ebpf *e);
/*
 * Puts h's programs of a hand-over at every hook that has a program of ours, each with the one before behind it. False:
 * the kernel does not let them hold on to those.
 */
bool ebpf_swap_hooks(struct ebpf *h);
void ebpf_remove_dir(const char *dir);

/* handover.c: what maps of another layout know becomes ours, and they go. What fails was logged. */
void ebpf_hand_over(const struct ebpf_config *c, const char *own);
/* ebpf.c: where maps are pinned, named by their layout: the structs', and the size of flow tables. The caller frees. */
char *ebpf_map_dir(const struct ebpf_config *c);
/* As ebpf_open, with the maps in map_dir and without socket hooks; handover: with those programs. */
int ebpf_open_in(const struct ebpf_config *c, const char *map_dir, bool handover, struct ebpf **out,
                 struct mesh_err *err) MESH_MUST_CHECK;

/* lb.c */
void lb_adopt(struct ebpf *e);
void lb_fini(struct ebpf *e);
void lb_sweep(struct ebpf *e);
static inline struct abi_backend *backend_at(const struct ebpf *e, uint32_t i)
{
	return (struct abi_backend *)e->backends.memory[i / ABI_SEGMENT_BACKENDS] + i % ABI_SEGMENT_BACKENDS;
}
/* 0 when it is no backend (of any service). */
uint32_t lb_backend_index(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip);
/* NULL when unknown. */
struct service *lb_service(const struct ebpf *e, uint64_t key);
/* 0 when unknown. */
uint32_t lb_service_index(const struct ebpf *e, uint64_t key);
/* The interface behind a local backend came or went. */
void lb_set_ifindex(struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t ifindex);

/* lb_tables.c */
uint64_t lb_now_ns(void);
/* Slots of a table; NULL for 0. */
uint32_t *lb_table(const struct ebpf *e, uint64_t table);
/* 0 when there is no room. */
uint64_t lb_table_alloc(struct ebpf *e, unsigned bits);
uint32_t lb_backend_alloc(struct ebpf *e);
/* Used again once no program can be reading it any more. */
void lb_table_free(struct ebpf *e, uint64_t table);
void lb_backend_free(struct ebpf *e, uint32_t backend);
void lb_limbo_release(struct ebpf *e, bool all);
/* 0 when all below end are taken. fresh: nobody ever had it. */
uint32_t lb_number_take(struct numbers *n, uint32_t end, bool *fresh);
struct lb_adoption {
	uint8_t *used, *bits; /* by first chunk: a table begins here; by segment: the size of its tables */
};
struct lb_adoption *lb_adoption_new(const struct ebpf *e);
/* False: no table a program may be let look at. */
bool lb_adopt_table(struct ebpf *e, struct lb_adoption *a, uint64_t table);
/* What nobody adopted is free. */
void lb_adoption_end(struct ebpf *e, struct lb_adoption *a);
void lb_tables_fini(struct ebpf *e);

/*
 * The service is about to choose by the other hash. What it remembers becomes a previous table of the hash it chose by
 * until now; true when it needs SERVICE_PREV_OTHER.
 */
bool lb_other_hash(struct ebpf *e, struct service *s);
static inline bool lb_prev_is_other(const struct abi_service *a)
{
	return a->prev && (a->flags & SERVICE_PREV_OTHER);
}

/* ranges.c: what the service's flags say of its ports, and the address ranges they ask for. */
int lb_set_policy(struct ebpf *e, struct service *s, const struct ebpf_service *w,
                  struct mesh_err *err) MESH_MUST_CHECK;
void lb_ranges_fini(struct ebpf *e, struct service *s);

/* ebpf.c: the first n bits of an address; the prefix of an IPv4 one counts from its mapping. */
uint32_t mapped_prefix(const struct dp_ip *ip, unsigned prefix);
struct abi_addr addr_masked(const struct abi_addr *a, uint32_t prefix);

/* forget.c: the tables that forget. */
void forget_stats(struct ebpf *e, struct dp_stats *out);

/* stats.c: the sum over all CPUs. */
uint64_t stats_counter(int fd, uint32_t i);
uint64_t stats_event(const struct ebpf *e, enum abi_event i);
/* A backend slot gets a new owner. */
void stats_clear(struct ebpf *e, uint32_t backend);

/* watch.c */
int watch_open(struct ebpf *e, struct mesh_err *err) MESH_MUST_CHECK;
void watch_close(struct ebpf *e);

/* ebpf.c: an endpoint's backend or interface changed. */
void endpoint_refresh(struct ebpf *e, uint32_t vni, const struct abi_addr *ip);
/* 0 when no interface has this address. */
uint32_t iface_of(const struct ebpf *e, uint32_t vni, const struct abi_addr *ip, uint32_t *task);

#endif
