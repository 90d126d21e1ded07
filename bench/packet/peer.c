// SPDX-License-Identifier: GPL-2.0-or-later
#include <arpa/inet.h>
#include <stdio.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "bench/bpf/peer.h"
#include "bench/packet/packet.h"
#include "peer.skel.h"

#define SERVICES 4

static struct peer_bpf *peer;

static void set(struct bpf_map *m, const void *key, const void *value)
{
	must(bpf_map_update_elem(bpf_map__fd(m), key, value, BPF_ANY), "the peer's maps");
}

static void set_service(uint32_t number, uint16_t port, uint8_t proto)
{
	struct peer_vip_key k = { .port = htons(port), .proto = proto };
	struct peer_vip v = { .number = number };

	inet_pton(AF_INET, "172.31.9.11", k.addr);
	set(peer->maps.vips, &k, &v);
	for (uint32_t i = 0; i < PEER_RING; i++) {
		uint32_t at = number * PEER_RING + i, real = 1 + i % BACKENDS;
		set(peer->maps.rings, &at, &real);
	}
}

static void set_reals(void)
{
	for (uint32_t i = 1; i <= BACKENDS; i++) {
		struct peer_real r = { .addr = { htonl(0x0a00000a + i) } };
		set(peer->maps.reals, &i, &r);
	}
}

/* One on each CPU, which packets of a flow always come to. */
static void set_lrus(void)
{
	int cpus = libbpf_num_possible_cpus();

	for (uint32_t i = 0; i < (uint32_t)cpus && i < PEER_CPUS; i++) {
		int fd = bpf_map_create(BPF_MAP_TYPE_LRU_HASH, "lru", sizeof(struct peer_flow_key),
		                        sizeof(struct peer_flow), PEER_FLOWS, NULL);
		must(fd < 0 ? fd : 0, "the peer's flow table");
		set(peer->maps.lrus, &i, &fd);
		close(fd);
	}
}

int peer_open(void)
{
	uint8_t router[8] = {};
	uint32_t zero = 0;

	peer = peer_bpf__open_and_load();
	must(peer ? 0 : -1, "the peer");
	set_service(0, 8082, TCP);
	set_service(1, 8082, UDP);
	set_service(2, 8081, TCP);
	set_service(3, 8081, UDP);
	set_reals();
	set_lrus();
	mac_of(ROUTER_MAC, router);
	set(peer->maps.control, &zero, router);
	return bpf_program__fd(peer->progs.peer);
}

void peer_close(void)
{
	peer_bpf__destroy(peer);
}

uint64_t peer_misses(void)
{
	int cpus = libbpf_num_possible_cpus();
	struct peer_count *c = calloc((size_t)cpus, sizeof(*c));
	uint32_t i = PEER_MISSES;
	uint64_t n = 0;

	must(c && !bpf_map_lookup_elem(bpf_map__fd(peer->maps.counts), &i, c) ? 0 : -1, "the peer's counts");
	for (int cpu = 0; cpu < cpus; cpu++)
		n += c[cpu].packets;
	free(c);
	return n;
}
