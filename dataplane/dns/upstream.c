/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dataplane/dns/upstream.h"

#include "dataplane/dns/dns.h"

int dns_upstream_parse(const char *text, struct dns_upstream *out)
{
	char host[DP_IP_TEXT_MAX];
	size_t n = strcspn(text, "#%/ \t");
	if (n >= sizeof(host))
		return MESH_E_INVALID;
	memcpy(host, text, n);
	host[n] = '\0';
	out->port = DNS_PORT;
	if (text[n] == '#') {
		char *end;
		unsigned long port = strtoul(text + n + 1, &end, 10);
		if (end == text + n + 1 || *end || !port || port > 65535)
			return MESH_E_INVALID;
		out->port = (uint16_t)port;
	} else if (text[n]) {
		return MESH_E_INVALID; /* a scoped link-local address, or no address at all */
	}
	return dp_ip_parse(host, &out->ip, NULL);
}

void dns_upstreams_add(struct dns_upstreams *u, const char *text)
{
	if (u->n < DNS_UPSTREAMS_MAX && dns_upstream_parse(text, &u->v[u->n]) == 0)
		u->n++;
}

static void parse_line(const char *line, size_t n, struct dns_upstreams *out)
{
	static const char word[] = "nameserver";
	char text[64];
	size_t at = sizeof(word) - 1;
	if (n <= at || memcmp(line, word, at) != 0 || (line[at] != ' ' && line[at] != '\t'))
		return;
	while (at < n && (line[at] == ' ' || line[at] == '\t'))
		at++;
	size_t len = 0;
	while (at + len < n && line[at + len] != ' ' && line[at + len] != '\t' && line[at + len] != '\r')
		len++;
	if (!len || len >= sizeof(text))
		return;
	memcpy(text, line + at, len);
	text[len] = '\0';
	dns_upstreams_add(out, text);
}

void dns_resolv_conf_parse(const char *text, struct dns_upstreams *out)
{
	out->n = 0;
	while (*text) {
		size_t n = strcspn(text, "\n");
		parse_line(text, n, out);
		text += n + (text[n] == '\n');
	}
}
