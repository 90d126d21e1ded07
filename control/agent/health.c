/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/health.h"

#include "base/clock.h"

#define EARLY_FIRST (500 * NS_PER_MS)

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

void health_begin(struct health_count *c, const struct md_health *h, int64_t now)
{
	*c = (struct health_count){ .interval = h->interval,
		                    .start_period = h->start_period,
		                    .start_interval = h->start_interval,
		                    .retries = h->retries,
		                    .started_at = now,
		                    .early = EARLY_FIRST };
}

int64_t health_wait(struct health_count *c, int64_t now)
{
	int64_t regular = c->interval;
	if (c->verdict == HEALTH_STARTING && now < c->started_at + c->start_period)
		regular = least(c->start_interval, c->interval);
	if (c->verdict != HEALTH_STARTING || !c->early)
		return regular;
	int64_t wait = c->early;
	c->early = wait * 2 >= regular ? 0 : wait * 2;
	return least(wait, regular);
}

void health_result(struct health_count *c, bool ok, int64_t began)
{
	if (ok) {
		c->fails = 0;
		c->verdict = HEALTH_HEALTHY;
		return;
	}
	int64_t grace = c->start_period > c->interval ? c->start_period : c->interval;
	if (c->verdict == HEALTH_STARTING && began < c->started_at + grace)
		return;
	if (++c->fails >= c->retries)
		c->verdict = HEALTH_UNHEALTHY;
}

void health_command(const struct md_health *h, struct str_list *argv)
{
	*argv = (struct str_list){ 0 };
	size_t i = 0;
	if (h->test.n && !strcmp(h->test.v[0], "CMD-SHELL")) {
		strs_add(argv, "/bin/sh");
		strs_add(argv, "-c");
		i = 1;
	} else if (h->test.n && !strcmp(h->test.v[0], "CMD")) {
		i = 1;
	}
	for (; i < h->test.n; i++)
		strs_add(argv, h->test.v[i]);
}
