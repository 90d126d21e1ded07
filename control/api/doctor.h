/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   "meshctl doctor": what each node reports of itself and of its ways to the others, and what a manager makes of
 *         all reports together. doctor_judge is pure: reports in, findings out.
 * Owner:  everything is owned by the schemas' objects (sch_clear).
 */
#ifndef CONTROL_API_DOCTOR_H
#define CONTROL_API_DOCTOR_H

#include "control/model/model.h"

/* A node's way to another. */
struct doctor_peer {
	node_id node;
	char *control;       /* TCP to its control port: "" not asked, "ok", or why not */
	char *tunnel;        /* probes through its tunnel port: "ok", "no answer", or why not asked */
	uint32_t size_max;   /* largest IPv4 packet that got there; 0 = none */
	uint32_t size_tried; /* our link's MTU */
	uint64_t rtt_ns;     /* best */
};
/* A firewall rule of the node that would drop our traffic. */
struct doctor_rule {
	char *what;  /* "UDP port 4789 in" */
	char *where; /* "table inet filter, chain input" */
	char *text;  /* "udp dport 4789 drop", "policy drop" */
	bool maybe;  /* it also asks for what is not known here */
};
struct doctor_report {
	int64_t time; /* ns since 1970, when the question came */
	char *version, *kernel, *driver, *cgroup;
	char *device; /* of the data path */
	uint32_t mtu;
	struct str_list leftovers;
	SCH_LIST(struct doctor_peer) peers;
	SCH_LIST(struct doctor_rule) rules;
};
extern const struct schema doctor_report_schema;

/* What a manager knows of one node, its report included. */
struct doctor_node {
	node_id id;
	const char *hostname;
	bool manager, down;
	const char *error; /* why there is no report; NULL: there is */
	int64_t offset_ns; /* its clock beside ours */
	int64_t error_ns;  /* at most that wrong: half of the round trip */
	struct doctor_report report;
	struct str_list shadowed; /* "8080/tcp of service web, by nginx" */
};

enum doctor_severity { DOCTOR_OK, DOCTOR_INFO, DOCTOR_WARNING, DOCTOR_ERROR, DOCTOR_SEVERITY_MAX };
struct doctor_finding {
	int severity;
	char *check; /* "tunnel", "mtu", ... */
	char *node, *peer;
	char *text, *mend;
};
struct doctor_findings {
	SCH_LIST(struct doctor_finding) list;
};
extern const struct schema doctor_findings_schema;

/* nodes[0] is the manager that asks: versions are compared with its own. port: of the tunnel. */
void doctor_judge(const struct doctor_node *nodes, size_t n, uint32_t port, struct doctor_findings *out);

#endif
