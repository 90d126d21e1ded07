// SPDX-License-Identifier: GPL-2.0-or-later
/* XDP on uplinks whose driver does it: what a driver does may change, and is asked again. */
#include <stdio.h>

#include "base/log.h"
#include "dataplane/dp_int.h"
#include "dataplane/netlink/xdp_link.h"

static struct xdp_uplink *uplink_of(struct dp *d, int ifindex)
{
	for (size_t i = 0; i < d->xdp_uplinks.len; i++)
		if (d->xdp_uplinks.data[i].ifindex == ifindex)
			return &d->xdp_uplinks.data[i];
	struct xdp_uplink u = { .ifindex = ifindex, .why_not = "not asked yet" };
	if (!if_indextoname((unsigned)ifindex, u.name))
		snprintf(u.name, sizeof(u.name), "%d", ifindex);
	vec_push(&d->xdp_uplinks, u);
	return &d->xdp_uplinks.data[d->xdp_uplinks.len - 1];
}

/* NULL, or why not: static, or in err. */
static const char *attach(struct dp *d, int ifindex, struct mesh_err *err)
{
	struct xdp_link l = { 0 };
	const char *why = xdp_link_get((unsigned)ifindex, &l);
	if (why)
		return why;
	int rc = ebpf_attach_xdp(d->ebpf, (unsigned)ifindex, err);
	/* Again: what it sends may have come with the program. */
	why = rc ? NULL : xdp_link_get((unsigned)ifindex, &l);
	if (why)
		return why;
	struct ebpf_link link = { .turns = l.turns, .sends = l.sends };
	memcpy(link.mac, l.mac, sizeof(link.mac));
	rc = rc ? rc : ebpf_set_link(d->ebpf, (unsigned)ifindex, &link, err);
	return rc ? mesh_err_text(err, rc) : NULL;
}

static void set(struct dp *d, struct xdp_uplink *u)
{
	struct mesh_err err = { 0 };
	char before[sizeof(u->why_not)];
	const char *why = attach(d, u->ifindex, &err);
	snprintf(before, sizeof(before), "%s", u->why_not);
	snprintf(u->why_not, sizeof(u->why_not), "%s", why ? why : "");
	if (why)
		ebpf_detach_xdp(d->ebpf, (unsigned)u->ifindex);
	if (strcmp(before, u->why_not) == 0)
		return;
	if (why)
		log_warn("no XDP on a link, tc does all of it link=%s reason=\"%s\"", u->name, why);
	else
		log_info("XDP on a link link=%s", u->name);
}

void dp_xdp_attach(struct dp *d, int ifindex)
{
	if (d->xdp)
		set(d, uplink_of(d, ifindex));
}

void dp_xdp_detach(struct dp *d, int ifindex)
{
	for (size_t i = d->xdp_uplinks.len; i-- > 0;)
		if (d->xdp_uplinks.data[i].ifindex == ifindex)
			vec_remove(&d->xdp_uplinks, i);
}

void dp_xdp_check(struct dp *d, bool all)
{
	for (size_t i = 0; i < d->xdp_uplinks.len; i++)
		if (all || !d->xdp_uplinks.data[i].why_not[0])
			set(d, &d->xdp_uplinks.data[i]);
}

size_t dp_xdp_format(const struct dp *d, char *out, size_t size)
{
	size_t n = 0;
	for (size_t i = 0; i < d->xdp_uplinks.len && n < size; i++) {
		const struct xdp_uplink *u = &d->xdp_uplinks.data[i];
		n += (size_t)snprintf(out + n, size - n, "; %sXDP on %s%s%s", u->why_not[0] ? "no " : "", u->name,
		                      u->why_not[0] ? ": " : "", u->why_not);
	}
	return n;
}
