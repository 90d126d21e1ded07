/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The whole of cli/compose in one translation unit: the command line tool is no library. */
#ifndef TESTS_SUPPORT_COMPOSE_H
#define TESTS_SUPPORT_COMPOSE_H

#include "cli/api.c"
#include "cli/http.c"
#include "cli/spec.c"
#include "cli/units.c"

#include "cli/compose/value.c"
#include "cli/compose/yaml.c"
#include "cli/compose/interpolate.c"
#include "cli/compose/norm.c"
#include "cli/compose/schema.c"
#include "cli/compose/merge.c"
#include "cli/compose/load.c"
#include "cli/compose/volumes.c"
#include "cli/compose/addresses.c"
#include "cli/compose/service.c"
#include "cli/compose/plan.c"
#include "cli/compose/emit.c"

#endif
