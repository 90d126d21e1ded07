// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Hook: sockets of all tasks (cgroup). A service address becomes a backend's once, at connect() or at the first
 * datagram, so that established traffic pays nothing. Programs for AF_INET6 sockets see v4-mapped addresses.
 */
#include "bpf/lb.h"

#ifndef SOCK_PROTO_UDP
#define SOCK_PROTO_UDP 17
#endif
#define REFUSED 111 /* ECONNREFUSED */

static __always_inline struct abi_addr addr_of4(struct bpf_sock_addr *ctx)
{
	return addr4(ctx->user_ip4);
}

static __always_inline struct abi_addr addr_of6(struct bpf_sock_addr *ctx)
{
	return (struct abi_addr){ .w = { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
}

static __always_inline bool is_mapped(const struct abi_addr *a)
{
	return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == bpf_htonl(0xffff);
}

static __always_inline struct abi_sock_key key_of(struct bpf_sock_addr *ctx, enum abi_sock_kind kind,
                                                  const struct abi_addr *addr, __be16 port)
{
	return (struct abi_sock_key){ .cookie = bpf_get_socket_cookie(ctx), .addr = *addr, .port = port, .kind = kind };
}

static __always_inline __u32 pick(struct bpf_sock_addr *ctx, struct abi_service *s)
{
	__u64 ns;

	if (!(s->flags & SERVICE_AFFINITY))
		return slot_of(*(volatile __u64 *)&s->cur, bpf_get_prandom_u32());
	ns = bpf_get_netns_cookie(ctx);
	return affine(s, ns | AFFINITY_NETNS,
	              slot_of(*(volatile __u64 *)&s->cur, (__u32)((ns * 0x9e3779b97f4a7c15ULL) >> 32)));
}

static __always_inline void count_conn(__u32 backend)
{
	struct abi_stats *s = stats_of(backend);

	if (s)
		s->conns++;
	event(CONNECT);
}

/* Remembers what backend b stands for, so that the task sees answers from what it dialled. */
static __always_inline void remember_reverse(struct bpf_sock_addr *ctx, enum abi_sock_kind kind,
                                             const struct abi_addr *vip, __u32 i, const struct abi_backend *b,
                                             __be16 port)
{
	struct abi_sock_key k = key_of(ctx, kind, &b->ip, port);
	struct abi_sock v = { .addr = *vip, .backend = i, .uid = b->uid };

	insert(&socks, TABLE_SOCKS, &k, &v);
}

/* A socket has no source address yet: its namespace says whose it is. */
static __noinline int seen_socket(struct bpf_sock_addr *ctx, const struct abi_addr *dialled, const struct abi_addr *to,
                                  __u32 verdict)
{
	struct abi_seen *s = seeing_of();
	struct abi_runtime *rt = runtime_of();

	if (!s || !rt || !dialled || !to)
		return 0;
	__builtin_memset(s, 0, sizeof(*s));
	s->hook = HOOK_SOCKET;
	s->netns = bpf_get_netns_cookie(ctx);
	s->ethertype = bpf_htons(ETH_P_IP);
	s->proto = (__u8)ctx->protocol;
	s->daddr = dialled->w[3];
	s->new_daddr = to->w[3];
	s->dport = s->new_dport = (__be16)ctx->user_port;
	struct abi_watch a = { .from = rt->from_any }, b = roles_of(rt, s->daddr, s->dport);
	add_roles(&a, WATCH_NETNS | s->netns, 0);
	s->watchers = a.from & b.to & of_protocol(rt, s->proto);
	if (verdict == VERDICT_REFUSE) {
		s->reason = DROP_NO_BACKEND;
		s->watchers |= rt->drops;
	}
	if (s->watchers)
		send_seen(s, (__u8)verdict);
	return 0;
}

/*
 * Rewrites *a when it is a service's. 1 = go on, 0 = refuse. Unconnected datagram sockets keep the backend of
 * their first datagram as long as it serves.
 */
static __noinline int to_backend(struct bpf_sock_addr *ctx, struct abi_addr *a, bool connect)
{
	struct abi_vip *vip = bpf_map_lookup_elem(&vips, a);
	__be16 port = (__be16)ctx->user_port;
	struct abi_addr dialled = *a;
	struct abi_service *s;
	struct abi_backend *b;
	__u32 i;

	if (!vip)
		return 1;
	if (!connect) {
		struct abi_sock_key k = key_of(ctx, SOCK_FORWARD, a, port);
		struct abi_sock *known = bpf_map_lookup_elem(&socks, &k);
		if (known) {
			b = backend_of(known->backend);
			if (b && b->uid == known->uid && keeps(b, IPPROTO_UDP)) {
				*a = known->addr;
				return 1;
			}
		}
	}
	s = service_of(vip->service);
	i = s ? pick(ctx, s) : 0;
	b = backend_of(i);
	if (!b) {
		if (s)
			__sync_fetch_and_add(&s->refused, 1);
		event(REFUSED);
		if (is_seen())
			seen_socket(ctx, &dialled, a, VERDICT_REFUSE);
		return 0;
	}
	*a = b->ip;
	if (!connect) {
		struct abi_sock_key k = key_of(ctx, SOCK_FORWARD, &dialled, port);
		struct abi_sock v = { .addr = b->ip, .backend = i, .uid = b->uid };
		insert(&socks, TABLE_SOCKS, &k, &v);
	}
	if (connect)
		remember_reverse(ctx, SOCK_PEER, &dialled, i, b, port);
	if (ctx->protocol == SOCK_PROTO_UDP)
		remember_reverse(ctx, SOCK_REVERSE, &dialled, i, b, port);
	count_conn(i);
	if (is_seen())
		seen_socket(ctx, &dialled, a, VERDICT_CONNECT);
	return 1;
}

static __always_inline bool to_dialled(struct bpf_sock_addr *ctx, struct abi_addr *a, enum abi_sock_kind kind)
{
	struct abi_sock_key k = key_of(ctx, kind, a, (__be16)ctx->user_port);
	struct abi_sock *s = bpf_map_lookup_elem(&socks, &k);

	if (!s)
		return false;
	*a = s->addr;
	return true;
}

static __always_inline int forward4(struct bpf_sock_addr *ctx, bool connect)
{
	struct abi_addr a = addr_of4(ctx);

	if (!to_backend(ctx, &a, connect)) {
		bpf_set_retval(-REFUSED);
		return 0;
	}
	if (a.w[3] != ctx->user_ip4)
		ctx->user_ip4 = a.w[3];
	return 1;
}

static __always_inline int forward6(struct bpf_sock_addr *ctx, bool connect)
{
	struct abi_addr a = addr_of6(ctx);

	if (!to_backend(ctx, &a, connect)) {
		bpf_set_retval(-REFUSED);
		return 0;
	}
	ctx->user_ip6[0] = a.w[0];
	ctx->user_ip6[1] = a.w[1];
	ctx->user_ip6[2] = a.w[2];
	ctx->user_ip6[3] = a.w[3];
	return 1;
}

static __always_inline int back4(struct bpf_sock_addr *ctx, enum abi_sock_kind kind)
{
	struct abi_addr a = addr_of4(ctx);

	if (to_dialled(ctx, &a, kind))
		ctx->user_ip4 = a.w[3];
	return 1;
}

static __always_inline int back6(struct bpf_sock_addr *ctx, enum abi_sock_kind kind)
{
	struct abi_addr a = addr_of6(ctx);

	if (!is_mapped(&a) || !to_dialled(ctx, &a, kind))
		return 1;
	ctx->user_ip6[0] = a.w[0];
	ctx->user_ip6[1] = a.w[1];
	ctx->user_ip6[2] = a.w[2];
	ctx->user_ip6[3] = a.w[3];
	return 1;
}

SEC("cgroup/connect4")
int sock_connect4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, true);
}

SEC("cgroup/sendmsg4")
int sock_sendmsg4(struct bpf_sock_addr *ctx)
{
	return forward4(ctx, false);
}

SEC("cgroup/recvmsg4")
int sock_recvmsg4(struct bpf_sock_addr *ctx)
{
	return back4(ctx, SOCK_REVERSE);
}

SEC("cgroup/getpeername4")
int sock_getpeername4(struct bpf_sock_addr *ctx)
{
	return back4(ctx, SOCK_PEER);
}

SEC("cgroup/connect6")
int sock_connect6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, true);
}

SEC("cgroup/sendmsg6")
int sock_sendmsg6(struct bpf_sock_addr *ctx)
{
	return forward6(ctx, false);
}

SEC("cgroup/recvmsg6")
int sock_recvmsg6(struct bpf_sock_addr *ctx)
{
	return back6(ctx, SOCK_REVERSE);
}

SEC("cgroup/getpeername6")
int sock_getpeername6(struct bpf_sock_addr *ctx)
{
	return back6(ctx, SOCK_PEER);
}

char LICENSE[] SEC("license") = "GPL";
