# What bpf/abi.h could look like one day: another layout, and every struct that outlives a daemon is another.
s/^#define ABI_LAYOUT .*/#define ABI_LAYOUT 9999/
/^_Static_assert(sizeof(struct abi_\(flow\|flow_key\|sock_key\|backend\|service\|endpoint\|port\|iface\))/d
/^struct abi_flow_key {/a\	__u32 next;
/^struct abi_flow {/a\	__u64 next;
/^struct abi_choice {/a\	__u64 next;
/^struct abi_choice_key {/a\	__u32 next;
/^struct abi_sock {/a\	__u64 next;
/^struct abi_endpoint {/a\	__u32 next;
/^struct abi_port {/a\	__u32 next;
/^struct abi_iface {/a\	__u64 next;
/^struct abi_vip {/a\	__u32 next;
/^struct abi_service {/a\	__u64 next[8];
/^struct abi_backend {/a\	__u64 next[8];
