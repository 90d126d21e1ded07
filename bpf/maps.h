/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: the maps all programs share. Userspace pins them by name below one directory a layout version;
 *       sizes here are defaults, the loader sets what it wants before the first load.
 */
#ifndef BPF_MAPS_H
#define BPF_MAPS_H

#include <stdbool.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_endian.h>

#include "bpf/abi.h"

/*
 * A function that the verifier goes through once, whoever calls it: for what is large and rarely taken. Where static ones
 * were taken apart again for every state of a caller, a node's programs took three times as long to load. It knows
 * nothing of its arguments, hence asks whether pointers are there; after it the caller knows nothing of what they point to.
 */
#define ONCE __attribute__((noinline))

#define HASH_MAP(name_, k, v, n)                                                                                       \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(max_entries, n);                                                                                \
		__uint(map_flags, BPF_F_NO_PREALLOC);                                                                  \
		__type(key, k);                                                                                        \
		__type(value, v);                                                                                      \
	} name_ SEC(".maps")
#define LRU_MAP(name_, k, v, n)                                                                                        \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                                                   \
		__uint(max_entries, n);                                                                                \
		__type(key, k);                                                                                        \
		__type(value, v);                                                                                      \
	} name_ SEC(".maps")
#define SHARED_ARRAY(name_, v, n)                                                                                      \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                                      \
		__uint(max_entries, n);                                                                                \
		__uint(map_flags, BPF_F_MMAPABLE);                                                                     \
		__type(key, __u32);                                                                                    \
		__type(value, v);                                                                                      \
	} name_ SEC(".maps")
/* Segments: see bpf/abi.h. n of them at most, of per elements each. Sizes: clang leaves inner types incomplete. */
#define SEGMENTS(name_, type_, flags_, v, per, n)                                                                      \
	struct name_##_segment {                                                                                       \
		__uint(type, type_);                                                                                   \
		__uint(max_entries, per);                                                                              \
		__uint(map_flags, flags_);                                                                             \
		__uint(key_size, 4);                                                                                   \
		__uint(value_size, sizeof(v));                                                                         \
	};                                                                                                             \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                                              \
		__uint(max_entries, n);                                                                                \
		__type(key, __u32);                                                                                    \
		__array(values, struct name_##_segment);                                                               \
	} name_ SEC(".maps")
#define PERCPU_COUNTERS(name_, v, n)                                                                                   \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                                               \
		__uint(max_entries, n);                                                                                \
		__type(key, __u32);                                                                                    \
		__type(value, v);                                                                                      \
	} name_ SEC(".maps")

SHARED_ARRAY(runtime, struct abi_runtime, 1);
SHARED_ARRAY(services, struct abi_service, 65536);
SEGMENTS(backends, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct abi_backend, ABI_SEGMENT_BACKENDS, 256);
SEGMENTS(backend_stats, BPF_MAP_TYPE_PERCPU_ARRAY, 0, struct abi_stats, ABI_SEGMENT_BACKENDS, 256);
SEGMENTS(slots, BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE, struct abi_chunk, ABI_SEGMENT_CHUNKS, 4096);
HASH_MAP(ifaces, __u32, struct abi_iface, 4096);
HASH_MAP(endpoints, struct abi_endpoint_key, struct abi_endpoint, 524288);
HASH_MAP(vips, struct abi_addr, struct abi_vip, 65536);
HASH_MAP(ports, struct abi_port_key, struct abi_port, 131072);
SHARED_ARRAY(published, __u64, ABI_PUBLISHED);
HASH_MAP(host_addrs, struct abi_addr, __u32, 1024);
HASH_MAP(nodes, struct abi_addr, struct abi_node, 4096);
SHARED_ARRAY(near, struct abi_node, ABI_NEAR);
HASH_MAP(links, __u32, struct abi_link, 1024);
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct abi_subnet_key);
	__type(value, __u32);
} subnets SEC(".maps");
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 65536);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct abi_range_key);
	__type(value, __u32);
} ranges SEC(".maps");
LRU_MAP(flows, struct abi_flow_key, struct abi_flow, 65536);
LRU_MAP(syns, struct abi_flow_key, struct abi_flow, 16384);
LRU_MAP(vip_flows, struct abi_flow_key, struct abi_flow, 16384);
LRU_MAP(choices, struct abi_choice_key, struct abi_choice, 65536);
LRU_MAP(syn_choices, struct abi_choice_key, struct abi_choice, 16384);
LRU_MAP(fragments, struct abi_fragment_key, struct abi_fragment, 65536);
LRU_MAP(affinity, struct abi_affinity_key, struct abi_affinity, 65536);
LRU_MAP(socks, struct abi_sock_key, struct abi_sock, 65536);
PERCPU_COUNTERS(drops, __u64, DROP_MAX);
PERCPU_COUNTERS(events, struct abi_events, 1);
PERCPU_COUNTERS(inserted, __u64, TABLE_MAX);
PERCPU_COUNTERS(seeing, struct abi_seen, 1);
PERCPU_COUNTERS(ways, struct abi_way, ABI_WAYS);
HASH_MAP(watched, struct abi_watch_key, struct abi_watch, 4096);
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 262144);
} seen SEC(".maps");
/* Of each object its own, not pinned: the program that ran at this hook before. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} before SEC(".maps");

const volatile struct abi_config config = {};

/* What is in segments, for whoever reads them by BTF: the kernel knows no types of inner maps. */
const volatile struct {
	struct abi_backend backend;
	struct abi_stats stats;
	struct abi_chunk chunk;
} abi_types = {};

static __always_inline struct abi_addr addr4(__be32 v4)
{
	return (struct abi_addr){ .w = { 0, 0, bpf_htonl(0xffff), v4 } };
}

static __always_inline void count(void *map, __u32 i)
{
	__u64 *n = bpf_map_lookup_elem(map, &i);

	if (n)
		*n += 1;
}

/* Into a table that forgets: counted when it takes the room of another. */
static __always_inline long insert(void *map, enum abi_table table, const void *key, const void *value)
{
	if (bpf_map_update_elem(map, key, value, BPF_NOEXIST) == 0) {
		count(&inserted, table);
		return 0;
	}
	return bpf_map_update_elem(map, key, value, BPF_ANY);
}

static __always_inline bool forget(void *map, enum abi_table table, const void *key)
{
	__u32 zero = 0;
	struct abi_runtime *rt = bpf_map_lookup_elem(&runtime, &zero);

	if (bpf_map_delete_elem(map, key))
		return false;
	if (rt)
		__sync_fetch_and_add(&rt->removed[table], 1);
	return true;
}

/* Element i of a map of segments. */
#define SEGMENT_ELEM(map, per, i)                                                                                      \
	({                                                                                                             \
		__u32 _segment = (i) / (per), _in = (i) % (per);                                                       \
		void *_map = bpf_map_lookup_elem(map, &_segment);                                                      \
		_map ? bpf_map_lookup_elem(_map, &_in) : 0;                                                            \
	})

static __always_inline struct abi_stats *stats_of(__u32 backend)
{
	return SEGMENT_ELEM(&backend_stats, ABI_SEGMENT_BACKENDS, backend);
}

static __always_inline struct abi_runtime *runtime_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&runtime, &zero);
}

/* Does anybody watch? Written by userspace. */
volatile __u32 seen_on;

static __always_inline bool is_seen(void)
{
	return __builtin_expect(seen_on, 0);
}

static __noinline int note(__u32 i)
{
	__u32 zero = 0;
	struct abi_seen *s = bpf_map_lookup_elem(&seeing, &zero);

	if (s)
		s->notes |= 1U << (i & 31);
	return 0;
}

static __always_inline struct abi_events *events_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&events, &zero);
}

static __always_inline void event_add(__u32 i)
{
	struct abi_events *ev = events_of();

	if (ev && i < EVENT_MAX)
		ev->n[i]++;
}

static __always_inline void event_count(__u32 i)
{
	event_add(i);
	/* What every packet of a published port has needs no note. */
	if (i != EVENT_INGRESS && is_seen())
		note(i);
}

#define event(name) event_count(EVENT_##name)

#endif
