/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/doctor.h"

#define CLOCK_WARN_NS (500 * NS_PER_MS)
#define CLOCK_BAD_NS (5 * NS_PER_SEC)

#define T struct doctor_peer
static const struct sch_field peer_fields[] = {
	SF(1, ID, "NodeID", node, SCH_ALWAYS),           SF(2, STR, "Control", control, SCH_ALWAYS),
	SF(3, STR, "Tunnel", tunnel, SCH_ALWAYS),        SF(4, U32, "SizeMax", size_max, SCH_ALWAYS),
	SF(5, U32, "SizeTried", size_tried, SCH_ALWAYS), SF(6, U64, "RTTNanoseconds", rtt_ns, SCH_ALWAYS),
};
static SCHEMA(doctor_peer_schema, doctor_peer, peer_fields);
#undef T
#define T struct doctor_rule
static const struct sch_field rule_fields[] = {
	SF(1, STR, "What", what, SCH_ALWAYS),
	SF(2, STR, "Where", where, SCH_ALWAYS),
	SF(3, STR, "Text", text, SCH_ALWAYS),
	SF(4, BOOL, "Maybe", maybe, SCH_ALWAYS),
};
static SCHEMA(doctor_rule_schema, doctor_rule, rule_fields);
#undef T
#define T struct doctor_report
static const struct sch_field report_fields[] = {
	SF(1, TIME, "Time", time, SCH_ALWAYS),
	SF(2, STR, "Version", version, SCH_ALWAYS),
	SF(3, STR, "Kernel", kernel, SCH_ALWAYS),
	SF(4, STR, "Driver", driver, SCH_ALWAYS),
	SF(5, STR, "Cgroup", cgroup, SCH_ALWAYS),
	SF(6, STR, "Device", device, SCH_ALWAYS),
	SF(7, U32, "MTU", mtu, SCH_ALWAYS),
	SF(8, STRS, "Leftovers", leftovers, SCH_ALWAYS),
	SF_LIST(9, "Peers", peers, &doctor_peer_schema, SCH_ALWAYS),
	SF_LIST(10, "Rules", rules, &doctor_rule_schema, SCH_ALWAYS),
};
SCHEMA(doctor_report_schema, doctor_report, report_fields);
#undef T
static const char *const severity_text[] = { "ok", "info", "warning", "error" };
static const struct sch_enum severity_names = { severity_text, DOCTOR_SEVERITY_MAX };
#define T struct doctor_finding
static const struct sch_field finding_fields[] = {
	SF_ENUM(1, "Severity", severity, &severity_names, SCH_ALWAYS),
	SF(2, STR, "Check", check, SCH_ALWAYS),
	SF(3, STR, "Node", node, SCH_ALWAYS),
	SF(4, STR, "Peer", peer, SCH_ALWAYS),
	SF(5, STR, "Text", text, SCH_ALWAYS),
	SF(6, STR, "Mend", mend, SCH_ALWAYS),
};
static SCHEMA(doctor_finding_schema, doctor_finding, finding_fields);
#undef T
#define T struct doctor_findings
static const struct sch_field findings_fields[] = {
	SF_LIST(1, "Findings", list, &doctor_finding_schema, SCH_ALWAYS),
};
SCHEMA(doctor_findings_schema, doctor_findings, findings_fields);
#undef T

struct judge {
	const struct doctor_node *v;
	size_t n;
	uint32_t port;
	struct doctor_findings *out;
};

/* The finding's text comes from fmt; mend may be NULL. */
static struct doctor_finding *add(struct judge *j, int severity, const char *check, const struct doctor_node *node,
                                  const char *mend, const char *fmt, ...) MESH_PRINTF(6, 7);
static struct doctor_finding *add(struct judge *j, int severity, const char *check, const struct doctor_node *node,
                                  const char *mend, const char *fmt, ...)
{
	struct doctor_finding *f = LIST_ADD(&j->out->list);
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	*f = (struct doctor_finding){ .severity = severity,
		                      .check = xstrdup(check),
		                      .node = xstrdup(node->hostname),
		                      .text = xstrdup(text),
		                      .mend = xstrdup(mend ? mend : "") };
	return f;
}

/* ---- one node ------------------------------------------------------------------------------------ */

static void clock_of(struct judge *j, const struct doctor_node *d)
{
	int64_t off = d->offset_ns < 0 ? -d->offset_ns : d->offset_ns;
	const char *way = d->offset_ns < 0 ? "behind" : "ahead of";
	/* What the measurement's own error can explain is no finding. */
	if (off - d->error_ns <= CLOCK_WARN_NS)
		return;
	add(j, off - d->error_ns > CLOCK_BAD_NS ? DOCTOR_ERROR : DOCTOR_WARNING, "clock", d,
	    "let chrony, systemd-timesyncd or ntpd set the clock: certificates and the order of logs depend on it",
	    "its clock is %.1f s %s the manager's", (double)off / 1e9, way);
}

/* What to do follows from why it runs, which its text says (dataplane/dp_choose.c). */
static const char *mend_of_nft(const char *driver)
{
	static const char *const all[][2] = {
		{ "nft: as configured", "if it is not meant to: meshd --data-plane auto" },
		{ "nft: eBPF does not start",
		  "the kernel refuses the programs: see that no security module or lockdown "
		  "forbids bpf() to meshd, else try another kernel; meshd tries "
		  "again when it is restarted" },
		{ "nft: no eBPF (eBPF needs CAP", "start meshd as root, or with these capabilities" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (strncmp(driver, all[i][0], strlen(all[i][0])) == 0)
			return all[i][1];
	return "a kernel that has it (Debian 12's 6.1 does)";
}

static void itself(struct judge *j, const struct doctor_node *d)
{
	const struct doctor_report *r = &d->report;
	if (!streq(r->version, j->v[0].report.version) && j->v[0].report.version)
		add(j, DOCTOR_WARNING, "version", d, "upgrade the older one; versions mix while you do",
		    "meshd %s, the manager runs %s", r->version, j->v[0].report.version);
	clock_of(j, d);
	if (r->driver && strncmp(r->driver, "nft", 3) == 0)
		add(j, DOCTOR_WARNING, "driver", d, mend_of_nft(r->driver),
		    "the fallback driver runs, on kernel %s: %s", r->kernel, r->driver);
	else if (!r->driver || !*r->driver)
		add(j, DOCTOR_WARNING, "driver", d,
		    "ask again in some seconds; if it stays, see the log of meshd there", "its data plane is starting");
	else if (strncmp(r->driver, "ebpf", 4) != 0)
		add(j, DOCTOR_ERROR, "driver", d, "see the log of meshd there", "no data plane: %s", r->driver);
	for (size_t i = 0; i < r->leftovers.n; i++)
		add(j, DOCTOR_WARNING, "leftover", d, NULL, "%s", r->leftovers.v[i]);
	for (size_t i = 0; i < d->shadowed.n; i++)
		add(j, DOCTOR_WARNING, "port", d, "stop that process, or publish another port",
		    "published port %s: this node's own addresses do not take it", d->shadowed.v[i]);
}

/* ---- two nodes ----------------------------------------------------------------------------------- */

static const struct doctor_node *node_of(const struct judge *j, const node_id *id)
{
	for (size_t i = 0; i < j->n; i++)
		if (ID_EQ(j->v[i].id, *id))
			return &j->v[i];
	return NULL;
}

/* The rules of d that eat what. */
static void blame(struct buf *b, const struct doctor_node *d, const char *what)
{
	for (size_t i = 0; i < d->report.rules.n; i++) {
		const struct doctor_rule *r = &d->report.rules.v[i];
		if (strncmp(r->what, what, strlen(what)) == 0)
			buf_printf(b, "; on %s %s %s: %s (%s)", d->hostname, r->where,
			           r->maybe ? "may drop it" : "drops it", r->text, r->what);
	}
}

static void control_way(struct judge *j, const struct doctor_node *d, const struct doctor_node *to,
                        const struct doctor_peer *p)
{
	struct buf b = { 0 };
	if (!p->control || !*p->control || streq(p->control, "ok"))
		return;
	blame(&b, d, "TCP");
	blame(&b, to, "TCP");
	struct doctor_finding *f =
		add(j, DOCTOR_ERROR, "control", d, "open the port (2377/tcp unless chosen otherwise) between all nodes",
	            "cannot reach the manager's control port: %s%s", p->control, buf_str(&b));
	str_set(&f->peer, to->hostname);
	buf_fini(&b);
}

static const struct doctor_peer *way_back(const struct doctor_node *d, const struct doctor_node *to)
{
	for (size_t i = 0; i < to->report.peers.n; i++)
		if (ID_EQ(to->report.peers.v[i].node, d->id))
			return &to->report.peers.v[i];
	return NULL;
}

/* A probe goes there and back: that one gets lost says nothing of the direction, so a pair is told once. */
static void tunnel_way(struct judge *j, const struct doctor_node *d, const struct doctor_node *to)
{
	const struct doctor_peer *back = way_back(d, to);
	struct buf b = { 0 };
	char mend[160];
	if (back && !back->size_max && streq(back->tunnel, "no answer") && d > to)
		return;
	blame(&b, d, "UDP");
	blame(&b, to, "UDP");
	snprintf(mend, sizeof(mend), "let UDP port %u pass between the two, both ways%s", j->port,
	         b.len ? "" : "; no rule that drops it was found on either: look at what is between them");
	struct doctor_finding *f = add(j, DOCTOR_ERROR, "tunnel", d, mend,
	                               "no packet to UDP port %u gets there and back: tasks of the two cannot talk%s",
	                               j->port, buf_str(&b));
	str_set(&f->peer, to->hostname);
	buf_fini(&b);
}

static void mtu_way(struct judge *j, const struct doctor_node *d, const struct doctor_node *to,
                    const struct doctor_peer *p)
{
	char mend[200];
	if (p->size_max >= p->size_tried)
		return;
	snprintf(mend, sizeof(mend),
	         "ip link set dev %s mtu %u on %s (networks follow), or let the link between them carry %u",
	         d->report.device && *d->report.device ? d->report.device : "DEV", p->size_max, d->hostname,
	         p->size_tried);
	struct doctor_finding *f =
		add(j, DOCTOR_ERROR, "mtu", d, mend,
	            "a black hole: its link says %u bytes, but packets of more than %u do not arrive, "
	            "and nobody says so",
	            p->size_tried, p->size_max);
	str_set(&f->peer, to->hostname);
}

static void ways(struct judge *j, const struct doctor_node *d)
{
	for (size_t i = 0; i < d->report.peers.n; i++) {
		const struct doctor_peer *p = &d->report.peers.v[i];
		const struct doctor_node *to = node_of(j, &p->node);
		if (!to || to->down)
			continue;
		control_way(j, d, to, p);
		if (streq(p->tunnel, "no answer"))
			tunnel_way(j, d, to);
		else if (streq(p->tunnel, "ok"))
			mtu_way(j, d, to, p);
		else if (p->tunnel && *p->tunnel) {
			struct doctor_finding *f = add(j, DOCTOR_INFO, "tunnel", d, NULL, "%s", p->tunnel);
			str_set(&f->peer, to->hostname);
		}
	}
}

void doctor_judge(const struct doctor_node *nodes, size_t n, uint32_t port, struct doctor_findings *out)
{
	struct judge j = { nodes, n, port, out };
	for (size_t i = 0; i < n; i++) {
		size_t before = out->list.n;
		if (nodes[i].error) {
			add(&j, DOCTOR_ERROR, "node", &nodes[i],
			    "see that meshd runs there and reaches a manager (its log)", "did not answer: %s",
			    nodes[i].error);
			continue;
		}
		itself(&j, &nodes[i]);
		ways(&j, &nodes[i]);
		if (out->list.n == before)
			add(&j, DOCTOR_OK, "node", &nodes[i], NULL,
			    "meshd %s, kernel %s, %s, cgroup %s, %s mtu %u; ways to %zu other nodes",
			    nodes[i].report.version, nodes[i].report.kernel, nodes[i].report.driver,
			    nodes[i].report.cgroup,
			    nodes[i].report.device && *nodes[i].report.device ? nodes[i].report.device : "underlay",
			    nodes[i].report.mtu, nodes[i].report.peers.n);
	}
}
