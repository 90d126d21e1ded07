// SPDX-License-Identifier: GPL-2.0-or-later
/* XDP on uplinks: the program, and what it may ask of a link. */
#include <errno.h>

#include "dataplane/ebpf/internal.h"

int ebpf_attach_xdp(struct ebpf *e, unsigned ifindex, struct mesh_err *err)
{
	if (!e->xdp)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "%s", e->xdp_reason);
	int rc = ebpf_attach_prog(e, PROG_XDP, ifindex, err);
	if (rc == -EBUSY || rc == -EEXIST)
		return mesh_fail(err, rc, "another XDP program is on it, which stays");
	return rc == -EOPNOTSUPP ? mesh_fail(err, rc, "its driver runs no XDP programs") : rc;
}

int ebpf_set_link(struct ebpf *e, unsigned ifindex, const struct ebpf_link *l, struct mesh_err *err)
{
	struct abi_link v = { .flags = (uint8_t)((l->turns ? LINK_TURNS : 0) | (l->sends ? LINK_SENDS : 0)) };
	uint32_t key = ifindex;

	memcpy(v.mac, l->mac, sizeof(v.mac));
	int rc = table_set(&e->links, &key, &v, e->pass, "links", err);
	if (!rc)
		shortcut_link(e, ifindex, &v);
	return rc;
}

void ebpf_detach_xdp(struct ebpf *e, unsigned ifindex)
{
	uint32_t key = ifindex;

	shortcut_link(e, ifindex, NULL);
	table_del(&e->links, &key);
	ebpf_detach_prog(e, PROG_XDP, ifindex);
}
