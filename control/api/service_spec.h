/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what must hold for a service spec before anything else looks at it, worded as the engine words it, and
 *         names in it turned into ids. Pure.
 */
#ifndef CONTROL_API_SERVICE_SPEC_H
#define CONTROL_API_SERVICE_SPEC_H

#include "control/store/store.h"

/* Fills in what the engine always shows, and checks every field by itself. MESH_E_INVALID, MESH_E_UNSUPPORTED. */
int service_spec_check(struct md_service_spec *s, struct mesh_err *err) MESH_MUST_CHECK;
/* Names in warnings what the engine takes and has no effect here. */
void service_spec_warn(const struct md_service_spec *s, struct str_list *warnings);
/* Networks to ids (the old place merged into the task's), secrets and configs must exist. */
int service_spec_resolve(const struct store *s, struct md_service_spec *spec, struct mesh_err *err) MESH_MUST_CHECK;
/* A name that no service has, as "brave_heron". */
void service_spec_name(struct md_service_spec *spec, const struct store *s, struct mesh_rng *rng);
/* Does old (may be NULL) publish this port through the routing mesh? */
bool service_spec_publishes(const struct md_service_spec *old, const struct md_port *p);
/* networks.c: "host", "bridge", "none" for one of these names or its id, else NULL. */
const char *local_network_name(const char *ref);

#endif
