/* SPDX-License-Identifier: GPL-2.0-or-later */
/* At which addresses of the nodes the ports of a service open: "127.0.0.1:80:80". */
#include <stdio.h>
#include <string.h>

#include "cli/api.h"
#include "cli/compose/schema.h"

#define ADDRESSES_LABEL "mesh.publish.addresses"

static bool everywhere(const char *ip)
{
	return !*ip || !strcmp(ip, "0.0.0.0");
}

/* Adds it to "a,b" unless it is in there; false when there is no room. */
static bool add_once(char list[512], const char *ip)
{
	size_t len = strlen(list), n = strlen(ip);

	for (const char *p = list; *p; p += strcspn(p, ",") + (p[strcspn(p, ",")] != 0))
		if (strcspn(p, ",") == n && !strncmp(p, ip, n))
			return true;
	return snprintf(list + len, 512 - len, "%s%s", len ? "," : "", ip) < (int)(512 - len);
}

/*
 * The label says it of all ports of a service: with several addresses each port opens at all of them,
 * and where one port is open everywhere all are. Whatever is not as written is said.
 */
void service_addresses(struct plan *p, const char *name, const struct cv *s, json_t *labels)
{
	struct check ck = { p->c, &p->c->arena };
	const struct cv *given = NULL;
	char list[512] = "";
	size_t bound = 0, open = 0;

	CV_EACH(cv_get(s, "ports"), it)
	{
		const char *ip = cv_at(it->v, "host_ip");
		bool host = !strcmp(cv_at(it->v, "mode"), "host");
		open += !host && everywhere(ip);
		if (everywhere(ip))
			continue;
		given = it->v;
		if (host || strchr(ip, ':') || !add_once(list, ip)) {
			warn_at(&ck, it->v,
			        "services.%.100s.ports: the address %.60s is ignored, the port opens at every address: "
			        "%s",
			        name, ip, host ? "its mode is host" : "only IPv4 addresses can be chosen");
			open += !host;
		} else {
			bound++;
		}
	}
	if (!bound || json_object_get(labels, ADDRESSES_LABEL))
		return;
	if (open) {
		warn_at(&ck, given,
		        "services.%.100s.ports: the addresses %.200s are ignored, the ports open at every address: "
		        "another port of the service does; see the label " ADDRESSES_LABEL,
		        name, list);
		return;
	}
	if (strchr(list, ','))
		warn_at(&ck, given, "services.%.100s.ports: each of its ports opens at all of %.200s", name, list);
	json_object_set_new(labels, ADDRESSES_LABEL, json_string(list));
}
