/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the names of one network, built from the state; what a task sees is the zones of its networks.
 * Owner:  a zone is built, then never changed. It is shared by the tasks on its network and replaced as a
 *         whole; whoever swaps it frees it (dns_zone_free) once nobody reads it.
 * Names:  service and its aliases -> VIP, or the serving tasks for dnsrr; tasks.<those> -> the serving tasks;
 *         a task's own names -> its address, whatever its state. All of them also with ".<network name>".
 */
#ifndef DATAPLANE_DNS_ZONE_H
#define DATAPLANE_DNS_ZONE_H

#include "base/map.h"
#include "dataplane/state.h"

struct dns_zone;

/* Copies what it needs. The services and endpoints are those of this network. */
struct dns_zone *dns_zone_new(const struct dp_network *net, const struct dp_service *const *services, size_t n_services,
                              const struct dp_endpoint *const *endpoints, size_t n_endpoints);
void dns_zone_free(struct dns_zone *z);

/* What a name is; borrowed from the zone. Neither ips nor ptr: the name is known and has no such record. */
struct dns_found {
	const struct dp_ip *ips;
	size_t n;
	const char *ptr;
};
enum dns_outcome {
	DNS_UNKNOWN, /* not a name of these networks: ask somebody else */
	DNS_FOUND,
	DNS_ABSENT, /* certainly nobody: an address of these networks that no task has */
};
/* name in lower case. Zones in the order of the task's interfaces: the first that knows the name answers. */
enum dns_outcome dns_lookup(struct dns_zone *const *zones, size_t n, const char *name, struct dns_found *out);
enum dns_outcome dns_lookup_ptr(struct dns_zone *const *zones, size_t n, const struct dp_ip *ip, struct dns_found *out);
bool dns_zone_internal(const struct dns_zone *z);

#endif
