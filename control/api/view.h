/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: objects as the Engine API shows them, where that is more than their schema says. Pure: store in, text out. */
#ifndef CONTROL_API_VIEW_H
#define CONTROL_API_VIEW_H

#include "control/model/json.h"
#include "control/store/store.h"

#define VXLAN_ID_OPTION "com.docker.network.driver.overlay.vxlanid_list"

/* status: with ServiceStatus; defaults: with what the engine would fill in. */
void view_service(struct jw *w, const struct store *s, const struct md_service *sv, bool status, bool defaults);
struct view_counts {
	uint64_t running, desired, completed;
};
struct view_counts view_service_counts(const struct store *s, const struct md_service *sv);
void view_task(struct jw *w, const struct store *s, const struct md_task *t);
void view_cluster(struct jw *w, const struct md_cluster *c, bool tokens);
/* The shape of /networks; containers: those of this node ("" = none), and the peers. */
void view_network(struct jw *w, const struct store *s, const struct md_network *n, const char *node);

#endif
