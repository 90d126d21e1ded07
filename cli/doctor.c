/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "meshctl doctor": what is wrong in the cluster, and how to mend it. */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/commands.h"
#include "cli/format.h"
#include "cli/show.h"

static const struct column columns[] = {
	{ "Severity", "STATUS" }, { "Check", "CHECK" },  { "Node", "NODE" },
	{ "Peer", "PEER" },       { "Text", "FINDING" }, { "Mend", "HOW TO MEND" },
};
static const struct list_view view = { columns, ARRAY_SIZE(columns),
	                               "table {{.Severity}}\t{{.Check}}\t{{.Node}}\t{{.Peer}}\t{{.Text}}", "Text" };

/* One finding a block: a table of long lines would not be read. */
static void print_findings(const json_t *all)
{
	static const char *const marks[][2] = {
		{ "ok", "ok     " }, { "info", "info   " }, { "warning", "WARNING" }, { "error", "ERROR  " }
	};
	const json_t *f;
	size_t i;
	json_array_foreach(all, i, f)
	{
		const char *mark = js(f, "Severity"), *peer = js(f, "Peer"), *mend = js(f, "Mend");
		for (size_t k = 0; k < ARRAY_SIZE(marks); k++)
			if (!strcmp(marks[k][0], js(f, "Severity")))
				mark = marks[k][1];
		printf("%s  %-8s %s%s%s: %s\n", mark, js(f, "Check"), js(f, "Node"), *peer ? " and " : "", peer,
		       js(f, "Text"));
		if (*mend)
			printf("                   mend: %s\n", mend);
	}
}

static int run_doctor(struct cli *c, struct mesh_err *err)
{
	const char *format = flag_str(c, "format");
	JSON_CLEAN answer = NULL;
	int rc = api_get(c, &answer, err, "/_mesh/doctor");
	if (rc < 0)
		return rc;
	const json_t *all = jo(answer, "Findings");
	if (flag_bool(c, "full")) {
		CLEAN_FREE char *text = json_line(answer);
		puts(text);
	} else if (*format) {
		rc = list_print(&view, all, format, false, err);
	} else {
		print_findings(all);
	}
	return rc < 0 ? rc : jb(answer, "Well") ? 0 : 1;
}

static const struct flag flags[] = {
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template of a finding" },
	{ "full", 0, F_BOOL, NULL, NULL, "All findings and every node's report as one JSON object" },
};
const struct command cmd_doctor = {
	.name = "doctor",
	.usage = "[OPTIONS]",
	.summary = "Find out what is wrong between and on the nodes, and how to mend it",
	.more = "Every node looks at itself and tries its ways to all others: the managers' control port (TCP), the "
		"tunnel\n"
		"port (UDP) with packets through the data path itself, and the largest packet that really arrives, "
		"which\n"
		"finds links that swallow large ones. Beside that: clocks, versions, the driver and why it is that "
		"one,\n"
		"published ports that a process of a node shadows, what other builds left behind. Where nothing "
		"passes, the\n"
		"nftables rule that eats it is named, if it is on one of the two nodes.\n"
		"\n"
		"Takes some seconds when packets are lost. Ask a manager. Status 1 when there is an error.",
	.example = "  meshctl doctor\n  meshctl doctor --format json\n  meshctl doctor --full",
	FLAGS(flags),
	.run = run_doctor,
};
