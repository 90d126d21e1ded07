/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/meshd/mtu.h"

void mtu_begin(struct mtu_search *s, unsigned least, unsigned most)
{
	*s = (struct mtu_search){ .least = least, .most = most < least ? least : most };
}

unsigned mtu_next(const struct mtu_search *s)
{
	if (s->done)
		return 0;
	if (!s->passed)
		return s->least;
	return s->lost ? s->passed + (s->lost - s->passed) / 2 : s->most;
}

void mtu_result(struct mtu_search *s, bool passed)
{
	unsigned size = mtu_next(s);
	if (passed)
		s->passed = size;
	else if (++s->tries < (s->passed ? MTU_TRIES : MTU_FIRST_TRIES))
		return;
	else
		s->lost = size;
	s->tries = 0;
	s->done = !s->passed || s->passed == s->most || (s->lost && s->lost - s->passed <= 1);
}
