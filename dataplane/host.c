/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/host.h"

#include <ctype.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>

#include "base/mem.h"
#include "dataplane/netlink/netns.h"

struct host_seen {
	char process[32];
	unsigned rounds; /* it has been there for so many looks */
	bool now;
};

void host_watch_fini(struct host_watch *w)
{
	MAP_FOREACH(&w->seen, e)
		free(e->value);
	map_fini(&w->seen);
	if (w->sd >= 0)
		close(w->sd);
	w->sd = -1;
}

void dp_host_free(struct dp_host *h)
{
	if (!h)
		return;
	vec_fini(&h->ports);
	strs_clear(&h->addrs);
	strs_clear(&h->subnets);
	free(h);
}

/* ---- whose socket it is -------------------------------------------------------------------------- */

static void read_comm(const char *pid, char out[32])
{
	char path[300];
	snprintf(path, sizeof(path), "/proc/%s/comm", pid);
	FILE *f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(out, 32, f))
		out[strcspn(out, "\n")] = '\0';
	fclose(f);
}

/* Names the unnamed sockets among seen that this process holds. */
static void scan_process(struct host_watch *w, const char *pid, size_t *unnamed)
{
	char path[300], comm[32] = "";
	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	DIR *d = opendir(path);
	if (!d)
		return;
	for (struct dirent *e; *unnamed && (e = readdir(d));) {
		char target[64], inode[24];
		ssize_t n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		if (sscanf(target, "socket:[%20[0-9]]", inode) != 1)
			continue;
		struct host_seen *s = map_get(&w->seen, inode);
		if (!s || s->process[0])
			continue;
		if (!comm[0])
			read_comm(pid, comm);
		memcpy(s->process, comm, sizeof(comm));
		(*unnamed)--;
	}
	closedir(d);
}

static void scan_processes(struct host_watch *w, size_t unnamed)
{
	DIR *d = opendir("/proc");
	if (!d)
		return;
	for (struct dirent *e; unnamed && (e = readdir(d));)
		if (isdigit((unsigned char)e->d_name[0]))
			scan_process(w, e->d_name, &unnamed);
	closedir(d);
}

/* ---- ports --------------------------------------------------------------------------------------- */

static int port_cmp(const void *a, const void *b)
{
	const struct dp_host_port *x = a, *y = b;
	return x->protocol != y->protocol ? x->protocol - y->protocol : x->port - y->port;
}

static void sort_unique(struct dp_host *h)
{
	if (h->ports.len > 1)
		qsort(h->ports.data, h->ports.len, sizeof(*h->ports.data), port_cmp);
	size_t w = 0;
	for (size_t i = 0; i < h->ports.len; i++)
		if (!w || port_cmp(&h->ports.data[w - 1], &h->ports.data[i]) != 0)
			h->ports.data[w++] = h->ports.data[i];
	h->ports.len = w;
}

static void ephemeral_range(unsigned *lo, unsigned *hi)
{
	char text[64];
	*lo = 32768;
	*hi = 60999;
	if (sysctl_get("net/ipv4/ip_local_port_range", text, sizeof(text)) == 0)
		(void)!sscanf(text, "%u %u", lo, hi); /* the kernel's defaults stay */
}

static const char *inode_key(const struct sd_sock *s, char out[24])
{
	snprintf(out, 24, "%u", s->inode);
	return out;
}

/* Marks every socket seen, remembers the new ones, forgets the closed ones. */
static void remember(struct host_watch *w, const struct sd_socks *socks)
{
	char key[24];
	size_t unnamed = 0;
	MAP_FOREACH(&w->seen, e)
		((struct host_seen *)e->value)->now = false;
	for (size_t i = 0; i < socks->len; i++) {
		if (!socks->data[i].inode)
			continue;
		struct host_seen *s = map_get(&w->seen, inode_key(&socks->data[i], key));
		if (!s) {
			s = XNEW(struct host_seen);
			map_put(&w->seen, key, s);
			unnamed++;
		}
		s->rounds += !s->now;
		s->now = true;
	}
	if (unnamed)
		scan_processes(w, unnamed);
	MAP_FOREACH(&w->seen, e)
		if (!((struct host_seen *)e->value)->now)
			free(map_del(&w->seen, e->key));
}

int host_ports(struct host_watch *w, struct dp_host *h)
{
	struct sd_socks socks = { 0 };
	char key[24];
	unsigned lo, hi;
	int rc = sd_listening(w->sd, &socks);
	if (rc) {
		vec_fini(&socks);
		return rc;
	}
	remember(w, &socks);
	ephemeral_range(&lo, &hi);
	h->ports.len = 0;
	for (size_t i = 0; i < socks.len; i++) {
		const struct sd_sock *s = &socks.data[i];
		const struct host_seen *seen = map_get(&w->seen, inode_key(s, key));
		struct dp_host_port p = { .port = s->port, .protocol = s->protocol };
		/* A client waiting for one answer is no listener: it is gone at the next look. */
		if (s->protocol == IPPROTO_UDP && s->port >= lo && s->port <= hi && (!seen || seen->rounds < 2))
			continue;
		if (seen)
			memcpy(p.process, seen->process, sizeof(p.process));
		else if (s->protocol == IPPROTO_UDP && s->port == w->vxlan_port)
			snprintf(p.process, sizeof(p.process), "vxlan");
		if (s->port)
			vec_push(&h->ports, p);
	}
	vec_fini(&socks);
	sort_unique(h);
	return 0;
}

const struct dp_host_port *host_listens(const struct dp_host *h, uint8_t proto, uint16_t port)
{
	for (size_t i = 0; i < h->ports.len; i++)
		if (h->ports.data[i].protocol == proto && h->ports.data[i].port == port)
			return &h->ports.data[i];
	return NULL;
}

/* ---- addresses and routes ------------------------------------------------------------------------ */

static const struct kern_link *link_by_index(const struct kern_links *links, int ifindex)
{
	for (size_t i = 0; i < links->len; i++)
		if (links->data[i].ifindex == ifindex)
			return &links->data[i];
	return NULL;
}

static bool is_ours(const struct wire *w, const struct kern_links *links, int ifindex)
{
	const struct kern_link *l = link_by_index(links, ifindex);
	return !l || wire_is_own(w, l->name) || strcmp(l->name, "lo") == 0;
}

void host_links(const struct wire *w, const struct kern_links *links, const struct kern_addrs *addrs,
                const struct kern_routes *routes, struct dp_host *h)
{
	char ip[DP_IP_TEXT_MAX], text[DP_IP_TEXT_MAX + 8];
	strs_clear(&h->addrs);
	strs_clear(&h->subnets);
	for (size_t i = 0; i < addrs->len; i++) {
		const struct kern_addr *a = &addrs->data[i];
		if (is_ours(w, links, a->ifindex) || (!dp_ip_is_v4(&a->ip) && a->ip.b[0] == 0xfe))
			continue;
		snprintf(text, sizeof(text), "%s/%u", dp_ip_format(&a->ip, ip), a->prefix);
		strs_add(&h->addrs, text);
	}
	for (size_t i = 0; i < routes->len; i++) {
		const struct kern_route *r = &routes->data[i];
		if (!r->prefix || r->protocol == WIRE_PROTOCOL || is_ours(w, links, r->ifindex) ||
		    (!dp_ip_is_v4(&r->dst) && r->dst.b[0] >= 0xfe))
			continue;
		snprintf(text, sizeof(text), "%s/%u", dp_ip_format(&r->dst, ip), r->prefix);
		if (!strs_has(&h->subnets, text))
			strs_add(&h->subnets, text);
	}
}

static bool strs_equal(const struct str_list *a, const struct str_list *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

bool host_equal(const struct dp_host *a, const struct dp_host *b)
{
	if (a->ports.len != b->ports.len || !strs_equal(&a->addrs, &b->addrs) || !strs_equal(&a->subnets, &b->subnets))
		return false;
	for (size_t i = 0; i < a->ports.len; i++)
		if (port_cmp(&a->ports.data[i], &b->ports.data[i]) != 0 ||
		    strcmp(a->ports.data[i].process, b->ports.data[i].process) != 0)
			return false;
	return true;
}

struct dp_host *host_dup(const struct dp_host *h)
{
	struct dp_host *out = XNEW(struct dp_host);
	for (size_t i = 0; i < h->ports.len; i++)
		vec_push(&out->ports, h->ports.data[i]);
	for (size_t i = 0; i < h->addrs.n; i++)
		strs_add(&out->addrs, h->addrs.v[i]);
	for (size_t i = 0; i < h->subnets.n; i++)
		strs_add(&out->subnets, h->subnets.v[i]);
	return out;
}
