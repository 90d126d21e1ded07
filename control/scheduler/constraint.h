/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   placement constraints ("node.labels.disk==ssd"): parsed once, matched against nodes many times.
 * Words:  node.id, node.hostname, node.ip (an address or a subnet), node.role, node.platform.os,
 *         node.platform.arch, node.labels.X, engine.labels.X; operators == and !=. Values compare without case.
 *         A node without the label does not equal any value, so != holds for it.
 * Owner:  struct constraint owns its strings (constraint_fini).
 */
#ifndef CONTROL_SCHEDULER_CONSTRAINT_H
#define CONTROL_SCHEDULER_CONSTRAINT_H

#include "control/model/model.h"

enum constraint_key {
	CONSTRAINT_ID,
	CONSTRAINT_HOSTNAME,
	CONSTRAINT_IP,
	CONSTRAINT_ROLE,
	CONSTRAINT_OS,
	CONSTRAINT_ARCH,
	CONSTRAINT_LABEL,
	CONSTRAINT_ENGINE_LABEL,
	CONSTRAINT_KEY_MAX
};
struct constraint {
	enum constraint_key key;
	bool negate;
	char *label; /* the two label kinds only */
	char *value;
};
struct constraints {
	struct constraint *v;
	size_t n;
};

/* MESH_E_INVALID names the expression and what is wrong with it; out is empty then. */
int constraints_parse(const struct str_list *list, struct constraints *out, struct mesh_err *err) MESH_MUST_CHECK;
void constraints_fini(struct constraints *c);
/* The index of the first one that does not hold, or -1. */
int constraints_unmet(const struct constraints *c, const struct md_node *node);

/* amd64 and x86_64 are one word, arm64 and aarch64 too. Never NULL. */
const char *platform_arch(const char *arch);
/* The value a word of the left side has on a node ("node.labels.zone"); NULL when it has none. */
const char *node_attribute(const struct md_node *node, const char *word);

#endif
