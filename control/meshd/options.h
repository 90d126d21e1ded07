/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Role: meshd's command line. Strings are borrowed from argv or static; lists live as long as the process. */
#ifndef CONTROL_MESHD_OPTIONS_H
#define CONTROL_MESHD_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/log.h"
#include "control/model/model.h"

struct options {
	const char *name;        /* mark in kernel-visible names and cgroups */
	const char *state, *run; /* directories */
	const char *socket;      /* API */
	const char *hostname;
	const char *advertise_addr; /* NULL: the address of the default route's link */
	const char *data_plane;     /* "auto", "ebpf", "nft" */
	bool xdp;                   /* the ebpf driver also on links' drivers */
	uint32_t flows;             /* entries of each flow table, 0 = default */
	const char *runtime;
	const char *shim;
	const char *metrics_addr; /* NULL: off */
	enum log_level log_level;
	struct str_map labels;      /* engine.labels */
	struct md_resources offers; /* generic resources of this machine */
};

/* 0: go on. 1: --help or --version was answered. Negative: err says what is wrong. */
int options_parse(struct options *o, int argc, char **argv, struct mesh_err *err) MESH_MUST_CHECK;

/* Into d what the command line says of the machine: its name, labels and generic resources. */
void options_describe(const struct options *o, struct md_node_description *d);

#endif
