/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of rules.h share. Private to dataplane/nft/rules*.c. */
#ifndef DATAPLANE_NFT_RULES_INT_H
#define DATAPLANE_NFT_RULES_INT_H

#include "dataplane/nft/rules.h"

#define MARK_SELF 0x6dffffffu
#define SERVICE "%016llx"
/*
 * Client, its port, dialled address and port: of a packet without options, and of the one that an ICMP error quotes. By
 * offsets, of one type: nft 1.0.6 finds no other for the latter, nor looks that up in a map of addresses and ports.
 */
#define RULES_FLOW "@nh,96,32 . @nh,160,16 . @nh,128,32 . @nh,176,16"
#define RULES_FLOW_QUOTED "@nh,352,32 . @nh,400,16 . @nh,320,32 . @nh,384,16"
#define RULES_HOLD_DATAGRAM "update @datagrams { " RULES_FLOW " timeout 3m : meta mark }"

/* Text of an address for one call. */
struct rules_ip_text {
	char s[DP_IP_TEXT_MAX];
};
struct rules_ip_text rules_ip_text(const struct dp_ip *ip);
#define IP(x) (rules_ip_text(x).s)

uint32_t rules_v4(const struct dp_ip *ip);
/* Of packets and connections that chose this task. */
uint32_t rules_task_mark(const struct dp_ip *ip);

/* key: "set\nkey" as nft prints it. */
void rules_elem(struct rules *r, const char *data, const char *fmt, ...) MESH_PRINTF(3, 4);
/* b's address, as connections to it are translated. */
void rules_takes(struct rules *r, const struct ebpf_backend *b, const struct dp_ip *ip);
/* Takes what body holds. */
void rules_chain(struct rules *r, const char *name, struct buf *body);
/* The same for a chain that changes under traffic: rules.h, "Change". */
void rules_switch(struct rules *r, const char *name, struct buf *body);
/* A counter that packets without a serving task of the service go to; its name. */
const char *rules_refused(struct rules *r, uint64_t service, char out[32]);

const struct item *rules_service(const struct rules_in *in, uint64_t key);

/* rules_base.c: the table without what changes; does all of it stand? Somebody may have removed some; rules of a chain. */
void rules_base_text(const struct rules_in *in, struct buf *out);
bool rules_base_is_whole(const struct nft_found *found);
size_t rules_found_in(const struct nft_found *found, const char *chain);
/* rules_text.c: the elements of "standing". */
void rules_standing(struct rules *r, const struct rules_in *in);
/* rules_services.c: the chains of a virtual address, and of a service behind a published port. */
void rules_vip(struct rules *r, const struct rules_in *in, const struct item *vip);
void rules_published(struct rules *r, const struct rules_in *in, const struct item *svc);

#endif
