/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dns/zone.h"

#include <stdio.h>

struct name {
	struct VEC(struct dp_ip) ips;
};

struct dns_zone {
	char *suffix; /* ".<network name>", lower case */
	struct dp_ip subnet;
	unsigned prefix; /* of 128 */
	bool internal;
	struct map names; /* lower case -> struct name */
	struct map ptrs;  /* address text -> name text */
};

#define NAME_MAX_LEN 255

/* Lower-cased into a caller's buffer; empty when it is too long to be asked for. */
static const char *lowered(char out[NAME_MAX_LEN + 1], const char *prefix, const char *name)
{
	int n = snprintf(out, NAME_MAX_LEN + 1, "%s%s", prefix, name);
	if (n < 0 || n > NAME_MAX_LEN)
		return "";
	for (char *c = out; *c; c++)
		if (*c >= 'A' && *c <= 'Z')
			*c += 32;
	return out;
}

/* The entry of a name, made when it is new; NULL for a name that cannot be asked for. */
static struct name *name_of(struct dns_zone *z, const char *prefix, const char *name)
{
	char buf[NAME_MAX_LEN + 1];
	const char *key = lowered(buf, prefix, name ? name : "");
	if (!*key)
		return NULL;
	struct name *n = map_get(&z->names, key);
	if (!n) {
		n = XNEW(struct name);
		map_put(&z->names, key, n);
	}
	return n;
}

static void add_ip(struct name *n, const struct dp_ip *ip)
{
	for (size_t i = 0; n && i < n->ips.len; i++)
		if (memcmp(&n->ips.data[i], ip, sizeof(*ip)) == 0)
			return;
	if (n)
		vec_push(&n->ips, *ip);
}

/* name and tasks.name; ip NULL only makes the names known. */
static void add_service_name(struct dns_zone *z, const char *name, const struct dp_ip *vip)
{
	struct name *n = name_of(z, "", name);
	if (vip)
		add_ip(n, vip);
	(void)name_of(z, "tasks.", name);
}

static void add_service(struct dns_zone *z, const struct dp_service *s)
{
	struct dp_ip vip;
	bool has_vip = s->vip && *s->vip && dp_ip_parse(s->vip, &vip, NULL) == 0;
	if (s->name && *s->name)
		add_service_name(z, s->name, has_vip ? &vip : NULL);
	for (size_t i = 0; i < s->aliases.n; i++)
		add_service_name(z, s->aliases.v[i], has_vip ? &vip : NULL);
}

static void add_backend(struct dns_zone *z, const struct dp_service *s, const char *name, const struct dp_ip *ip)
{
	if (!s->vip || !*s->vip)
		add_ip(name_of(z, "", name), ip);
	add_ip(name_of(z, "tasks.", name), ip);
}

static void add_endpoint(struct dns_zone *z, const struct map *services, const struct dp_endpoint *e)
{
	struct dp_ip ip;
	if (dp_ip_parse(e->addr, &ip, NULL) != 0)
		return;
	const struct dp_service *s = ID_EMPTY(e->service) ? NULL : map_get(services, e->service.s);
	if (s && e->state == DP_SERVING) {
		if (s->name && *s->name)
			add_backend(z, s, s->name, &ip);
		for (size_t i = 0; i < s->aliases.n; i++)
			add_backend(z, s, s->aliases.v[i], &ip);
	}
	for (size_t i = 0; i < e->names.n; i++)
		add_ip(name_of(z, "", e->names.v[i]), &ip);
	char text[DP_IP_TEXT_MAX];
	if (e->names.n && e->names.v[0])
		free(map_put(&z->ptrs, dp_ip_format(&ip, text), xasprintf("%s%s", e->names.v[0], z->suffix)));
}

struct dns_zone *dns_zone_new(const struct dp_network *net, const struct dp_service *const *services, size_t n_services,
                              const struct dp_endpoint *const *endpoints, size_t n_endpoints)
{
	struct dns_zone *z = XNEW(struct dns_zone);
	char buf[NAME_MAX_LEN + 1];
	z->suffix = xstrdup(lowered(buf, ".", net->name ? net->name : ""));
	z->internal = net->internal;
	if (dp_ip_parse(net->subnet, &z->subnet, &z->prefix) != 0)
		z->prefix = 129; /* matches nothing */
	else if (dp_ip_is_v4(&z->subnet))
		z->prefix += 96;
	struct map by_id = { 0 };
	for (size_t i = 0; i < n_services; i++) {
		add_service(z, services[i]);
		map_put(&by_id, services[i]->id.s, (void *)services[i]);
	}
	for (size_t i = 0; i < n_endpoints; i++)
		add_endpoint(z, &by_id, endpoints[i]);
	/* Services' VIPs have names too. */
	for (size_t i = 0; i < n_services; i++) {
		const struct dp_service *s = services[i];
		struct dp_ip vip;
		char text[DP_IP_TEXT_MAX];
		if (s->name && *s->name && s->vip && dp_ip_parse(s->vip, &vip, NULL) == 0)
			free(map_put(&z->ptrs, dp_ip_format(&vip, text), xasprintf("%s%s", s->name, z->suffix)));
	}
	map_fini(&by_id);
	return z;
}

void dns_zone_free(struct dns_zone *z)
{
	if (!z)
		return;
	MAP_FOREACH(&z->names, e) {
		struct name *n = e->value;
		vec_fini(&n->ips);
		free(n);
	}
	MAP_FOREACH(&z->ptrs, e)
		free(e->value);
	map_fini(&z->names);
	map_fini(&z->ptrs);
	free(z->suffix);
	free(z);
}

bool dns_zone_internal(const struct dns_zone *z)
{
	return z->internal;
}

static bool find(const struct dns_zone *z, const char *name, struct dns_found *out)
{
	const struct name *n = map_get(&z->names, name);
	if (!n)
		return false;
	*out = (struct dns_found){ .ips = n->ips.data, .n = n->ips.len };
	return true;
}

/* "web.blue" on the network blue: the part before the suffix. */
static bool find_scoped(const struct dns_zone *z, const char *name, struct dns_found *out)
{
	size_t n = strlen(name), s = strlen(z->suffix);
	char head[NAME_MAX_LEN + 1];
	if (s < 2 || n <= s || n > NAME_MAX_LEN || strcmp(name + n - s, z->suffix) != 0)
		return false;
	memcpy(head, name, n - s);
	head[n - s] = '\0';
	return find(z, head, out);
}

enum dns_outcome dns_lookup(struct dns_zone *const *zones, size_t n, const char *name, struct dns_found *out)
{
	*out = (struct dns_found){ 0 };
	if (!*name)
		return DNS_UNKNOWN;
	for (size_t i = 0; i < n; i++)
		if (find(zones[i], name, out))
			return DNS_FOUND;
	for (size_t i = 0; i < n; i++)
		if (find_scoped(zones[i], name, out))
			return DNS_FOUND;
	return DNS_UNKNOWN;
}

static bool in_subnet(const struct dns_zone *z, const struct dp_ip *ip)
{
	if (z->prefix > 128)
		return false;
	unsigned bytes = z->prefix / 8, bits = z->prefix % 8;
	if (memcmp(z->subnet.b, ip->b, bytes) != 0)
		return false;
	return !bits || ((z->subnet.b[bytes] ^ ip->b[bytes]) & (0xff00 >> bits) & 0xff) == 0;
}

enum dns_outcome dns_lookup_ptr(struct dns_zone *const *zones, size_t n, const struct dp_ip *ip, struct dns_found *out)
{
	char text[DP_IP_TEXT_MAX];
	*out = (struct dns_found){ 0 };
	dp_ip_format(ip, text);
	bool ours = false;
	for (size_t i = 0; i < n; i++) {
		out->ptr = map_get(&zones[i]->ptrs, text);
		if (out->ptr)
			return DNS_FOUND;
		ours |= in_subnet(zones[i], ip);
	}
	return ours ? DNS_ABSENT : DNS_UNKNOWN;
}
