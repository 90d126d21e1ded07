// SPDX-License-Identifier: GPL-2.0-or-later
/* Loading: objects that share their maps through the pin directory. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/log.h"
#include "dataplane/ebpf/internal.h"
#include "from_lo.skel.h"
#include "from_task.skel.h"
#include "from_uplink.skel.h"
#include "from_vxlan.skel.h"
#include "from_xdp.skel.h"
#include "sock.skel.h"

/* What libbpf says first of a load that fails, for the error: the rest only follows from it. One thread loads. */
static _Thread_local char first_warning[200];

static int on_libbpf_print(enum libbpf_print_level level, const char *fmt, va_list args)
{
	char line[512];

	if (level > LIBBPF_WARN)
		return 0;
	vsnprintf(line, sizeof(line), fmt, args);
	line[strcspn(line, "\n")] = '\0';
	/* A prefilter that is there already is fine. */
	if (!strstr(line, "Exclusivity flag on")) {
		if (!first_warning[0])
			snprintf(first_warning, sizeof(first_warning), "%s", line);
		log_debug("libbpf %s", line);
	}
	return 0;
}

void ebpf_hear_libbpf(void)
{
	libbpf_set_print(on_libbpf_print);
}

static const struct {
	enum bpf_prog_type type;
	enum bpf_func_id func;
	const char *what;
} needed[] = {
	{ BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_redirect_peer, "bpf_redirect_peer (Linux 5.10)" },
	{ BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_redirect_neigh, "bpf_redirect_neigh (Linux 5.10)" },
	{ BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns (Linux 5.11)" },
	{ BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_skc_lookup_tcp, "bpf_skc_lookup_tcp (CONFIG_INET)" },
	{ BPF_PROG_TYPE_SCHED_CLS, BPF_FUNC_skb_set_tunnel_key, "bpf_skb_set_tunnel_key" },
	{ BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_get_netns_cookie, "cgroup socket hooks (CONFIG_CGROUP_BPF)" },
};

int ebpf_probe(struct mesh_err *err)
{
	ebpf_hear_libbpf();
	int rc = libbpf_probe_bpf_map_type(BPF_MAP_TYPE_ARRAY, NULL);
	if (rc == -EPERM || (rc == 0 && geteuid() != 0))
		return mesh_fail(err, -EPERM, "eBPF needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN");
	if (rc <= 0)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "this kernel has no bpf() system call");
	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_SCHED_CLS, NULL) <= 0)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "this kernel lacks tc programs (CONFIG_NET_CLS_BPF)");
	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (libbpf_probe_bpf_helper(needed[i].type, needed[i].func, NULL) <= 0)
			return mesh_fail(err, MESH_E_UNSUPPORTED, "this kernel lacks %s", needed[i].what);
	return 0;
}

static int pin_maps(struct ebpf *e, struct bpf_object *o)
{
	struct bpf_map *m;

	bpf_object__for_each_map(m, o)
	{
		CLEAN_FREE char *path = xasprintf("%s/%s", e->map_dir, bpf_map__name(m));
		int rc = 0;
		if (bpf_map__is_internal(m) || bpf_map__type(m) == BPF_MAP_TYPE_PROG_ARRAY)
			continue;
		if (bpf_map__type(m) == BPF_MAP_TYPE_LRU_HASH && strncmp(bpf_map__name(m), "syn", 3) != 0)
			rc = bpf_map__set_max_entries(m, e->flows_max);
		rc = rc ? rc : bpf_map__set_pin_path(m, path);
		if (rc)
			return rc;
	}
	return 0;
}

/* Every tc and XDP program is there twice, see bpf/handover.h. */
static void choose_programs(struct bpf_object *o, bool handover)
{
	struct bpf_program *p;

	bpf_object__for_each_program(p, o)
	{
		if (bpf_program__type(p) == BPF_PROG_TYPE_SCHED_CLS || bpf_program__type(p) == BPF_PROG_TYPE_XDP)
			bpf_program__set_autoload(p, (strstr(bpf_program__name(p), "_handover") != NULL) == handover);
	}
}

static struct abi_config abi_config_of(const struct ebpf_config *c, bool handover)
{
	return (struct abi_config){
		.self = ebpf_addr(&c->self),
		.vxlan_ifindex = c->vxlan_ifindex,
		.lo_ifindex = if_nametoindex("lo"),
		.zero_csum = !c->udp_csum,
		.test_tunnel = c->test_tunnel,
		.test_room = c->test_room,
		.tunnel_port = htons(c->tunnel_port),
		.handover = handover,
	};
}

#define LOAD(e, c, field, name)                                                                                        \
	({                                                                                                             \
		int _rc = 0;                                                                                           \
		first_warning[0] = '\0';                                                                               \
		(e)->field = name##__open();                                                                           \
		if (!(e)->field) {                                                                                     \
			_rc = -errno;                                                                                  \
		} else {                                                                                               \
			struct abi_config *_config = (void *)&(e)->field->rodata->config;                              \
			*_config = abi_config_of(c, (e)->handover);                                                    \
			choose_programs((e)->field->obj, (e)->handover);                                               \
			_rc = pin_maps(e, (e)->field->obj);                                                            \
			_rc = _rc ? _rc : programs_load(e, (e)->field->skeleton, _config);                             \
		}                                                                                                      \
		_rc;                                                                                                   \
	})

static int load_all(struct ebpf *e, const struct ebpf_config *c)
{
	int rc = LOAD(e, c, task, from_task_bpf);
	rc = rc ? rc : LOAD(e, c, vxlan, from_vxlan_bpf);
	rc = rc ? rc : LOAD(e, c, uplink, from_uplink_bpf);
	rc = rc ? rc : LOAD(e, c, lo, from_lo_bpf);
	rc = rc ? rc : LOAD(e, c, sock, sock_bpf);
	return rc;
}

/* Without it everything is done by tc: a kernel that does not take it is no failure. */
static void load_xdp(struct ebpf *e, const struct ebpf_config *c)
{
	e->prog_fd[PROG_XDP] = e->before_fd[PROG_XDP] = -1;
	if (!c->xdp)
		return;
	int rc = LOAD(e, c, xdp, from_xdp_bpf);
	if (rc) {
		snprintf(e->xdp_reason, sizeof(e->xdp_reason), "the kernel does not take the program (%s, %.100s)",
		         strerror(-rc), first_warning);
		from_xdp_bpf__destroy(e->xdp);
		e->xdp = NULL;
		return;
	}
	e->prog_fd[PROG_XDP] = programs_fd(e, e->handover ? e->xdp->progs.from_xdp_handover : e->xdp->progs.from_xdp);
}

static void *map_memory(const struct bpf_map *m, uint32_t *n)
{
	size_t size = (size_t)bpf_map__value_size(m) * bpf_map__max_entries(m);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *p = mmap(NULL, (size + page - 1) & ~(page - 1), PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(m), 0);

	if (n)
		*n = bpf_map__max_entries(m);
	return p == MAP_FAILED ? NULL : p;
}

static void unmap_memory(const struct bpf_map *m, void *p)
{
	size_t size = (size_t)bpf_map__value_size(m) * bpf_map__max_entries(m);
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (p)
		munmap(p, (size + page - 1) & ~(page - 1));
}

static int open_tables(struct ebpf *e)
{
	struct {
		struct table *t;
		struct bpf_map *m;
	} all[] = {
		{ &e->ifaces, e->task->maps.ifaces },   { &e->endpoints, e->task->maps.endpoints },
		{ &e->vips, e->task->maps.vips },       { &e->ports, e->task->maps.ports },
		{ &e->nodes, e->task->maps.nodes },     { &e->host_addrs, e->task->maps.host_addrs },
		{ &e->subnets, e->task->maps.subnets }, { &e->ranges, e->task->maps.ranges },
		{ &e->links, e->task->maps.links },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int rc = table_open(all[i].t, bpf_map__fd(all[i].m), bpf_map__key_size(all[i].m),
		                    bpf_map__value_size(all[i].m), bpf_map__max_entries(all[i].m));
		if (rc)
			return rc;
	}
	return 0;
}

/* libbpf forgets what the segments of a map are once it is made: as in bpf/maps.h. */
static int open_segments(struct ebpf *e)
{
	struct {
		struct segments *s;
		struct bpf_map *m;
		struct segments is;
	} all[] = {
		{ &e->backends,
		  e->task->maps.backends,
		  { .type = BPF_MAP_TYPE_ARRAY,
		    .flags = BPF_F_MMAPABLE,
		    .value_size = sizeof(struct abi_backend),
		    .per = ABI_SEGMENT_BACKENDS } },
		{ &e->stats,
		  e->task->maps.backend_stats,
		  { .type = BPF_MAP_TYPE_PERCPU_ARRAY,
		    .value_size = sizeof(struct abi_stats),
		    .per = ABI_SEGMENT_BACKENDS } },
		{ &e->slots,
		  e->task->maps.slots,
		  { .type = BPF_MAP_TYPE_ARRAY,
		    .flags = BPF_F_MMAPABLE,
		    .value_size = sizeof(struct abi_chunk),
		    .per = ABI_SEGMENT_CHUNKS } },
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		all[i].is.fd = bpf_map__fd(all[i].m);
		all[i].is.max = bpf_map__max_entries(all[i].m);
		*all[i].s = all[i].is;
		int rc = segments_open(all[i].s);
		if (rc)
			return rc;
	}
	return 0;
}

/* Not every program knows every table. */
static int map_fd(const struct ebpf *e, const char *name)
{
	const struct bpf_object *all[] = { e->task->obj, e->sock->obj, e->uplink->obj };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		int fd = bpf_object__find_map_fd_by_name(all[i], name);
		if (fd >= 0)
			return fd;
	}
	return -1;
}

static int open_maps(struct ebpf *e)
{
#define X(id, map, key, value) e->table_fd[TABLE_##id] = map_fd(e, #map);
	ABI_TABLES(X)
#undef X
	e->inserted_fd = bpf_map__fd(e->task->maps.inserted);
	e->drops_fd = bpf_map__fd(e->task->maps.drops);
	e->events_fd = bpf_map__fd(e->task->maps.events);
	e->runtime = map_memory(e->task->maps.runtime, NULL);
	e->services = map_memory(e->task->maps.services, &e->n_services);
	e->published = map_memory(e->task->maps.published, NULL);
	e->near = map_memory(e->task->maps.near, NULL);
	if (!e->runtime || !e->services || !e->published || !e->near)
		return -ENOMEM;
	int rc = open_segments(e);
	rc = rc ? rc : open_tables(e);
	if (!rc)
		shortcuts_fill(e);
	return rc;
}

#define PROG_FD(e, p, field, name)                                                                                     \
	do {                                                                                                           \
		struct bpf_program *_now = (e)->field->progs.name, *_handover = (e)->field->progs.name##_handover;     \
		(e)->prog_fd[p] = programs_fd(e, (e)->handover ? _handover : _now);                                    \
		(e)->before_fd[p] = bpf_map__fd((e)->field->maps.before);                                              \
	} while (0)

/* Flags of helpers are not probed by loading: one packet goes through what the programs will do with theirs. */
static const char *device_reason(struct ebpf *e, const struct ebpf_config *c)
{
	uint8_t frame[128] = { [12] = 0x08, [14] = 0x45, [17] = 114, [22] = 64, [23] = IPPROTO_UDP };
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = frame, .data_size_in = sizeof(frame), .repeat = 1);

	if (c->no_own_tunnel || !c->tunnel_port)
		return "as configured";
	if (bpf_prog_test_run_opts(programs_fd(e, e->vxlan->progs.probe_tunnel), &o) || o.retval != 0)
		return "this kernel's bpf_skb_adjust_room does not know tunnelled Ethernet (Linux 5.13)";
	return NULL;
}

int ebpf_load(struct ebpf *e, const struct ebpf_config *c, struct mesh_err *err)
{
	int rc;

	ebpf_hear_libbpf();
	if ((mkdir(c->pin_dir, 0700) && errno != EEXIST) || (mkdir(e->map_dir, 0700) && errno != EEXIST) ||
	    (mkdir(e->link_dir, 0700) && errno != EEXIST))
		return mesh_fail(err, -errno, "bpf pin directory '%s'", c->pin_dir);
	rc = load_all(e, c);
	if (rc)
		return mesh_fail(err, rc, "loading the BPF programs (%s)", first_warning);
	rc = open_maps(e);
	if (rc)
		return mesh_fail(err, rc, "opening the BPF maps");
	e->device_reason = device_reason(e, c);
	ebpf_via_device(e, false);
	PROG_FD(e, PROG_UPLINK, uplink, from_uplink);
	PROG_FD(e, PROG_LO, lo, from_lo);
	PROG_FD(e, PROG_VXLAN, vxlan, from_vxlan);
	PROG_FD(e, PROG_TASK, task, from_task);
	load_xdp(e, c);
	if (!e->handover)
		programs_sweep(e);
	return 0;
}

void ebpf_unload(struct ebpf *e)
{
	struct table *tables[] = { &e->ifaces, &e->endpoints, &e->vips,   &e->ports, &e->host_addrs,
		                   &e->nodes,  &e->subnets,   &e->ranges, &e->links };

	for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
		table_fini(tables[i]);
	if (e->task) {
		unmap_memory(e->task->maps.runtime, e->runtime);
		unmap_memory(e->task->maps.services, e->services);
		unmap_memory(e->task->maps.published, e->published);
		unmap_memory(e->task->maps.near, e->near);
	}
	segments_fini(&e->backends);
	segments_fini(&e->stats);
	segments_fini(&e->slots);
	programs_fini(e);
	from_task_bpf__destroy(e->task);
	from_vxlan_bpf__destroy(e->vxlan);
	from_uplink_bpf__destroy(e->uplink);
	from_lo_bpf__destroy(e->lo);
	sock_bpf__destroy(e->sock);
	from_xdp_bpf__destroy(e->xdp);
}
