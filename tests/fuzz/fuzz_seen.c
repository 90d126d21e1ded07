/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the kernel's ring holds, what a scraper asks, the places of a filter, and rulesets: the first byte chooses. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/api/firewall.h"
#include "control/meshd/scrape.h"
#include "dataplane/ebpf/ebpf.h"

static void event(const uint8_t *p, size_t n)
{
	struct dp_seen s;
	if (ebpf_seen_decode(p, n, &s))
		return;
	if (!s.hook || !s.verdict || !s.reason || !s.text || s.n_notes > DP_NOTES_MAX)
		abort();
	for (size_t i = 0; i < s.n_notes; i++)
		if (!strlen(s.notes[i]))
			abort();
}

static void request(const uint8_t *p, size_t n)
{
	struct scrape_request r;
	/* No more bytes can make a whole request another one. */
	for (size_t i = 0; i <= n; i++)
		if (scrape_parse((const char *)p, i, &r) == 1 && r.what == SCRAPE_PORT && (!r.port || r.port > 65535))
			abort();
}

static void place(const uint8_t *p, size_t n)
{
	char *text = xstrndup((const char *)p, n);
	struct dp_place at;
	if (dp_place_parse(text, &at) == 0 && !dp_ip_is_v4(&at.ip))
		abort();
	free(text);
}

static void ruleset(const uint8_t *p, size_t n)
{
	const struct fw_packet packet = { "input", "udp", 4789, "10.0.0.2", "10.0.0.1" };
	struct fw_finding f = { 0 };
	json_t *j = json_loadb((const char *)p, n, 0, NULL);
	if (j && firewall_drops(j, &packet, "mesh", &f) && !f.where[0])
		abort();
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	if (!n)
		return 0;
	(p[0] % 4 == 0 ? event : p[0] % 4 == 1 ? request : p[0] % 4 == 2 ? place : ruleset)(p + 1, n - 1);
	return 0;
}
