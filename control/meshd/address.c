/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "control/meshd/meshd.h"

/* The first IPv4 address of a link (any link but loopback when name is NULL); false when there is none. */
static bool address_of_link(const char *name, char addr[64])
{
	struct ifaddrs *list;
	bool found = false;
	if (getifaddrs(&list))
		return false;
	for (struct ifaddrs *i = list; i && !found; i = i->ifa_next) {
		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET)
			continue;
		if (name ? strcmp(i->ifa_name, name) != 0 : (i->ifa_flags & IFF_LOOPBACK) || !(i->ifa_flags & IFF_UP))
			continue;
		struct sockaddr_in *sin = (struct sockaddr_in *)(void *)i->ifa_addr;
		found = inet_ntop(AF_INET, &sin->sin_addr, addr, 64) != NULL;
	}
	freeifaddrs(list);
	return found;
}

static bool is_local(const char *addr)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	if (inet_pton(AF_INET, addr, &sin.sin_addr) != 1)
		return false;
	CLEAN_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0;
}

int address_resolve(const char *text, uint16_t def, bool local, char addr[64], uint16_t *port, struct mesh_err *err)
{
	char host[128];
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : strlen(text);
	if (port)
		*port = def;
	if (colon) {
		char *end;
		unsigned long v = strtoul(colon + 1, &end, 10);
		if (*end || !colon[1] || v < 1 || v > 65535)
			return mesh_fail(err, MESH_E_INVALID, "address '%s': the port must be 1 to 65535", text);
		if (port)
			*port = (uint16_t)v;
	}
	if (!n || n >= sizeof(host))
		return mesh_fail(err, MESH_E_INVALID, "address '%s': no host", text);
	memcpy(host, text, n);
	host[n] = '\0';
	struct in_addr in;
	if (inet_pton(AF_INET, host, &in) == 1) {
		snprintf(addr, 64, "%s", host);
	} else if (if_nametoindex(host)) {
		if (!address_of_link(host, addr))
			return mesh_fail(err, MESH_E_INVALID, "interface '%s' has no IPv4 address", host);
	} else if (local) {
		return mesh_fail(err, MESH_E_INVALID,
		                 "'%s' is neither an IPv4 address nor an interface of this machine", host);
	} else {
		snprintf(addr, 64, "%.63s", host);
		return 0;
	}
	if (local && in.s_addr != INADDR_ANY && !is_local(addr))
		return mesh_fail(err, MESH_E_INVALID, "address '%s' is not one of this machine's", addr);
	return 0;
}

int address_default(char addr[64], struct mesh_err *err)
{
	/* Connecting a datagram socket asks the routing table and sends nothing. */
	struct sockaddr_in far = { .sin_family = AF_INET, .sin_port = htons(9) }, self;
	socklen_t len = sizeof(self);
	inet_pton(AF_INET, "192.0.2.1", &far.sin_addr);
	CLEAN_CLOSE int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&far, sizeof(far)) == 0 &&
	    getsockname(fd, (struct sockaddr *)&self, &len) == 0 && inet_ntop(AF_INET, &self.sin_addr, addr, 64))
		return 0;
	if (address_of_link(NULL, addr))
		return 0;
	return mesh_fail(
		err, MESH_E_INVALID,
		"could not choose an IP address to advertise since this system has none; give --advertise-addr");
}
