/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: which size of packet to try next on a way between two nodes, and what the tries say. Pure. First the least, to
 *       see whether anything passes; then the link's MTU; then by halves. A size is lost when every try of it is.
 */
#ifndef CONTROL_MESHD_MTU_H
#define CONTROL_MESHD_MTU_H

#include <stdbool.h>

#define MTU_FIRST_TRIES 4
#define MTU_TRIES 2

struct mtu_search {
	unsigned least, most; /* what makes sense to try: the least there is, the link's MTU */
	unsigned passed;      /* largest that passed, 0 = none */
	unsigned lost;        /* smallest that did not, 0 = none */
	unsigned tries;       /* of the size in hand that were lost */
	bool done;
};

void mtu_begin(struct mtu_search *s, unsigned least, unsigned most);
/* Size of the next try; 0 when all is known. */
unsigned mtu_next(const struct mtu_search *s);
void mtu_result(struct mtu_search *s, bool passed);

#endif
