/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   what the results of a health check mean, as docker counts them: retries failures in a row make a
 *         container unhealthy, failures within the start period count only once it has been healthy.
 * More:   until the first success it is asked early and ever less often (0.5 s, 1 s, 2 s ... up to the interval);
 *         failures before the first interval has passed do not count. Readiness is then seen when it comes.
 * Pure.   Times are ns on one clock.
 */
#ifndef CONTROL_AGENT_HEALTH_H
#define CONTROL_AGENT_HEALTH_H

#include "control/model/model.h"

enum health_verdict { HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };
struct health_count {
	int64_t interval, start_period, start_interval, retries; /* none zero but start_period */
	int64_t started_at;
	int64_t early; /* next early wait, 0 when over */
	int64_t fails; /* in a row, that count */
	enum health_verdict verdict;
};
void health_begin(struct health_count *c, const struct md_health *h, int64_t now);
/* How long until the next probe. */
int64_t health_wait(struct health_count *c, int64_t now);
/* A probe that began at began has ended. */
void health_result(struct health_count *c, bool ok, int64_t began);
/* The command of a test: argv borrowed from h ("/bin/sh -c ..." for CMD-SHELL). Caller frees with strs_clear. */
void health_command(const struct md_health *h, struct str_list *argv);

#endif
