// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a packet costs in each program, under BPF_PROG_TEST_RUN: ns and, where the machine counts them,
 * instructions. Rounds are interleaved and medians taken; the wrapper's own cost, measured in each round, is taken
 * off. The ratio of a row is to the peer's row of the same kind, measured in the same round; medians of those.
 *
 *   bench/packet [-r rounds] [-n packets] [-o file.json] [-c part of a case's name]
 */
#include <assert.h>
#include <linux/perf_event.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <bpf/bpf.h>

#include "bench/machine.h"
#include "bench/packet/packet.h"
#include "wrap.skel.h"

#define ROUNDS_MAX 99
#define CASES_MAX 99
enum { ONCE = 2000 };

struct figure {
	double ns[ROUNDS_MAX], insn[ROUNDS_MAX], ratio[ROUNDS_MAX];
};
static struct figure figures[CASES_MAX];
static struct ebpf *e;
static struct wrap_bpf *w;
static int insn_fd = -1, peer_fd;
static const char *part; /* of the names of cases */

void must(int rc, const char *what)
{
	if (!rc)
		return;
	fprintf(stderr, "bench-packet: %s: %s\n", what, strerror(rc < 0 ? -rc : errno));
	exit(1);
}

static uint64_t instructions(void)
{
	uint64_t n = 0;

	return insn_fd >= 0 && read(insn_fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

struct cost {
	double ns, insn;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[n / 2];
}

/* What a test run takes. */
struct wire {
	uint8_t in[FRAME_MAX];
	uint32_t len, ctx_size;
	union {
		struct __sk_buff skb;
		struct xdp_md md;
	} ctx;
};

static struct wire wire_of(const struct packet_of *p)
{
	struct wire x = {};
	uint32_t dev = if_nametoindex(p->dev);

	x.len = (uint32_t)packet_of(p, x.in);
	if (p->prog == PROG_XDP) {
		x.ctx_size = sizeof(x.ctx.md);
		x.ctx.md = (struct xdp_md){ .data_end = x.len, .ingress_ifindex = dev };
	} else {
		x.ctx_size = sizeof(x.ctx.skb);
		x.ctx.skb = (struct __sk_buff){ .ifindex = dev, .mark = p->vni };
		if (p->prog == PROG_VXLAN)
			x.ctx.skb.priority = 172u << 24 | 31 << 16 | 9 << 8 | 12;
	}
	return x;
}

static struct cost test_run(int prog, struct wire *x, uint32_t n, int verdict)
{
	uint8_t out[256];
	LIBBPF_OPTS(bpf_test_run_opts, o, .data_in = x->in, .data_size_in = x->len, .data_out = out,
	            .data_size_out = sizeof(out), .ctx_in = &x->ctx, .ctx_size_in = x->ctx_size, .repeat = (int)n);
	uint64_t before = instructions();

	must(bpf_prog_test_run_opts(prog, &o), "test run");
	if ((int)o.retval != verdict) {
		fprintf(stderr, "bench-packet: verdict %d instead of %d\n", (int)o.retval, verdict);
		exit(1);
	}
	return (struct cost){ o.duration, (double)(instructions() - before) / n };
}

static struct cost run(int target, const struct packet_of *p, uint32_t n, int verdict)
{
	bool xdp = p->prog == PROG_XDP;
	struct wire x = wire_of(p);
	uint32_t zero = 0;

	memcpy(w->bss->wrap.frame, x.in, sizeof(x.in));
	w->bss->wrap.len = x.len;
	w->bss->wrap.at = p->outer ? OUTER : 0;
	must(bpf_map_update_elem(bpf_map__fd(xdp ? w->maps.next_xdp : w->maps.next), &zero, &target, BPF_ANY),
	     "tail call");
	return test_run(bpf_program__fd(xdp ? w->progs.again_xdp : w->progs.again), &x, n, verdict);
}

/* One packet at a time: caches as a system call leaves them. */
static double run_once(int target, const struct packet_of *p, int verdict)
{
	struct wire x = wire_of(p);
	double ns[ONCE];

	for (int i = 0; i < ONCE; i++)
		ns[i] = test_run(target, &x, 1, verdict).ns;
	return median(ns, ONCE);
}

static int prog_of(const struct bench_case *c)
{
	switch (c->subject) {
	case PEER:
		return peer_fd;
	case TABLE:
		return bpf_program__fd(w->progs.table);
	default:
		return e->prog_fd[c->p.prog];
	}
}

static struct cost run_case(const struct bench_case *c, uint32_t n)
{
	struct wrap *k = &w->bss->wrap;

	ebpf_via_device(e, c->device);
	k->flow_mask = c->flows ? c->flows - 1 : 0;
	k->vary = !c->flows ? WRAP_NOTHING : c->p.vary ? c->p.vary : WRAP_SRC;
	k->ports = c->ports;
	k->first_port = MANY_PORT;
	return run(prog_of(c), &c->p, n, c->verdict);
}

/* What the harness itself costs. */
struct harness {
	struct cost tc, xdp, outer_tc, outer_xdp; /* the wrapper and an empty program */
	double room;                              /* tc: making room for outer headers, or taking it away */
	double once_tc, once_xdp;                 /* one run alone of an empty program */
};

static struct harness run_harness(uint32_t n)
{
	int tc = bpf_program__fd(w->progs.nothing), xdp = bpf_program__fd(w->progs.nothing_xdp);
	struct harness h = {};

	w->bss->wrap.flow_mask = 64 * K - 1;
	w->bss->wrap.ports = 0;
	w->bss->wrap.vary = WRAP_SRC;
	h.tc = run(tc, &plain_tc, n, TC_ACT_UNSPEC);
	h.xdp = run(xdp, &plain_xdp, n, XDP_PASS);
	w->bss->wrap.vary = WRAP_DST;
	h.outer_tc = run(tc, &back_tc, n, TC_ACT_UNSPEC);
	h.outer_xdp = run(xdp, &back_xdp, n, XDP_PASS);
	h.room = (run(bpf_program__fd(w->progs.shrink), &back_tc, n, TC_ACT_UNSPEC).ns - h.outer_tc.ns) / 2;
	h.once_tc = run_once(tc, &plain_tc, TC_ACT_UNSPEC);
	h.once_xdp = run_once(xdp, &plain_xdp, XDP_PASS);
	return h;
}

static struct cost net_cost(const struct bench_case *c, uint32_t n, const struct harness *h)
{
	bool xdp = c->p.prog == PROG_XDP;

	if (c->once) {
		double ns = run_once(e->prog_fd[c->p.prog], &c->p, c->verdict);
		return (struct cost){ .ns = ns - (xdp ? h->once_xdp : h->once_tc) };
	}
	struct cost x = run_case(c, n);
	const struct cost *own = c->p.outer ? (xdp ? &h->outer_xdp : &h->outer_tc) : xdp ? &h->xdp : &h->tc;
	x.ns -= own->ns + (!xdp && (c->p.outer || c->grows) ? h->room : 0);
	x.insn -= own->insn;
	return x;
}

/* ---- figures ---- */

/* A flow's packets come to one CPU, whose table knows it. */
static void stay_here(void)
{
	cpu_set_t here;

	CPU_ZERO(&here);
	CPU_SET(sched_getcpu(), &here);
	must(sched_setaffinity(0, sizeof(here), &here) ? -errno : 0, "sched_setaffinity");
}

static void open_counter(void)
{
	struct perf_event_attr a = {
		.type = PERF_TYPE_HARDWARE, .size = sizeof(a), .config = PERF_COUNT_HW_INSTRUCTIONS, .exclude_user = 1
	};

	insn_fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1, 0UL);
}

/* Whether a case takes part: chosen, or the peer of one that is. */
static bool takes_part(const struct bench_case *c)
{
	if (!part || strstr(c->name, part))
		return true;
	for (size_t i = 0; i < n_cases && c->subject == PEER; i++)
		if (cases[i].peer == c->peer && strstr(cases[i].name, part))
			return true;
	return false;
}

static void print_row(FILE *json, size_t i, int rounds)
{
	char ratio[16] = "-", aim[24] = "-", count[16] = "-", katran[16] = "-";
	double ns = median(figures[i].ns, rounds), insn = median(figures[i].insn, rounds);
	double r = median(figures[i].ratio, rounds);
	const struct bench_case *c = &cases[i];
	double want = c->aim > 0 ? c->aim : AIM;

	if (c->katran)
		snprintf(katran, sizeof(katran), "%d", c->katran);
	if (c->peer && c->subject != PEER) {
		snprintf(ratio, sizeof(ratio), "%.2f", r);
		snprintf(aim, sizeof(aim), "%.2f %s", want, r <= want ? "met" : "missed");
	}
	if (insn_fd >= 0)
		snprintf(count, sizeof(count), "%.0f", insn);
	printf("%-44s %8.1f %8s %8s %7s  %s\n", c->name, ns, count, katran, ratio, aim);
	if (json)
		fprintf(json,
		        ",\n    {\"case\": \"%s\", \"ns\": %.1f, \"instructions\": %.0f, \"of_peer\": %.2f, "
		        "\"katran_published_ns\": %d}",
		        c->name, ns, insn, r, c->katran);
}

static void report(const char *path, struct figure *null, int rounds, uint32_t n)
{
	FILE *json = path ? fopen(path, "we") : NULL;
	struct machine m = machine_of();
	double zero = median(null->ns, rounds);

	printf("%s, %ld CPUs, Linux %s; %d rounds of %u packets; wrapper %.1f ns, taken off\n", m.cpu, m.cpus, m.kernel,
	       rounds, n, zero);
	printf("%-44s %8s %8s %8s %7s  %s\n", "case", "ns", "insns", "katran*", "of peer", "aim");
	if (json) {
		fprintf(json, "{\n  ");
		machine_json(json, &m);
		fprintf(json, ",\n  \"rounds\": %d,\n  \"cases\": [\n    {\"case\": \"wrapper\", \"ns\": %.1f}", rounds,
		        zero);
	}
	for (size_t i = 0; i < n_cases; i++)
		if (takes_part(&cases[i]))
			print_row(json, i, rounds);
	printf("* published, of another machine (docs/performance.md); ratios are to the peer of this run\n");
	if (json) {
		fprintf(json, "\n  ]\n}\n");
		fclose(json);
	}
}

/* What the flow table of the peer did not know would be a figure of something else. */
static struct cost of_known(const struct bench_case *c, uint32_t n, const struct harness *h, bool warm)
{
	uint64_t misses = peer_misses();
	struct cost x = net_cost(c, n, h);

	misses = peer_misses() - misses;
	if (warm && misses > n / 1000) {
		fprintf(stderr, "bench-packet: %s: %llu of %u packets were of flows it did not know\n", c->name,
		        (unsigned long long)misses, n);
		exit(1);
	}
	return x;
}

/* One before the first (r < 0) sees every flow once. */
static void run_round(int r, uint32_t n, struct figure *null)
{
	struct harness h = run_harness(n);
	double peer[PEER_ROWS] = {};

	for (size_t i = 0; i < n_cases; i++) {
		const struct bench_case *c = &cases[i];
		if (!takes_part(c))
			continue;
		struct cost x = of_known(c, r < 0 && c->flows > n ? c->flows : n, &h, r >= 0);
		if (c->subject == PEER)
			peer[c->peer] = x.ns;
		if (r < 0)
			continue;
		figures[i].ns[r] = x.ns;
		figures[i].insn[r] = x.insn;
		figures[i].ratio[r] = peer[c->peer] > 0 ? x.ns / peer[c->peer] : 0;
	}
	if (r >= 0)
		null->ns[r] = h.tc.ns;
}

static bool wants_many(void)
{
	for (size_t i = 0; i < n_cases; i++)
		if (cases[i].ports && takes_part(&cases[i]))
			return true;
	return false;
}

int main(int argc, char **argv)
{
	static struct figure null;
	const char *out = NULL;
	char bpffs[] = "/tmp/mesh-bench-XXXXXX", pin[64];
	uint32_t n = 300000;
	int rounds = 7, o;

	while ((o = getopt(argc, argv, "r:n:o:c:")) != -1) {
		if (o == 'r')
			rounds = atoi(optarg);
		else if (o == 'n')
			n = (uint32_t)atoi(optarg);
		else if (o == 'o')
			out = optarg;
		else if (o == 'c')
			part = optarg;
		else
			return 2;
	}
	assert(n_cases <= CASES_MAX);
	if (rounds < 1 || rounds > ROUNDS_MAX || n < 1) {
		fprintf(stderr, "bench-packet: 1 to %d rounds, at least one packet\n", ROUNDS_MAX);
		return 2;
	}
	make_devices();
	must(mkdtemp(bpffs) ? 0 : -1, "mkdtemp");
	must(mount("bpf", bpffs, "bpf", 0, NULL), "bpffs");
	snprintf(pin, sizeof(pin), "%s/n1", bpffs);
	w = wrap_bpf__open_and_load();
	must(w ? 0 : -1, "wrapper");
	peer_fd = peer_open();
	e = make_node(pin, wants_many());
	open_counter();
	stay_here();
	for (int r = -1; r < rounds; r++)
		run_round(r, n, &null);
	report(out, &null, rounds, n);
	ebpf_destroy(e);
	peer_close();
	wrap_bpf__destroy(w);
	umount2(bpffs, MNT_DETACH);
	rmdir(bpffs);
	return 0;
}
