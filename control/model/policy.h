/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:  what the Engine API has no field for: how a service's traffic is to be treated, said in its mesh.* labels.
 *        One table knows every label, its values and its help; nobody else reads their text.
 * Owner: md_policy_fini frees what md_policy_parse filled, also after a failure.
 * Pure.  Errors: MESH_E_INVALID; err names the label, the value and what is allowed.
 */
#ifndef CONTROL_MODEL_POLICY_H
#define CONTROL_MODEL_POLICY_H

#include "base/err.h"
#include "base/schema.h"

#define MD_LABEL_SPLIT "mesh.split"
#define MD_AFFINITY_DEFAULT_S (3 * 3600)
#define MD_SHARE_MAX 10000

enum md_local { MD_LOCAL_OFF, MD_LOCAL_PREFER, MD_LOCAL_REQUIRE };

struct md_share {
	char *service; /* a name */
	uint32_t weight;
};
struct md_policy {
	bool direct;         /* answers go to the client without the node it dialled */
	int local;           /* enum md_local: may a published port leave the node it was dialled at? */
	uint32_t affinity_s; /* a client comes back to its task for so long; 0 = no affinity */
	struct str_list sources,
		addresses; /* CIDR texts: who may dial, and at which of the nodes' addresses; none = all */
	SCH_LIST(struct md_share) split; /* none: the service's own tasks take all */
};

/* Checks every mesh.* label; unknown ones are refused. */
int md_policy_parse(const struct str_map *labels, struct md_policy *out, struct mesh_err *err) MESH_MUST_CHECK;
void md_policy_fini(struct md_policy *t);

#endif
