/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/model/policy.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "dataplane/state.h"

#define AFFINITY_MAX_S (30 * 24 * 3600)
#define LIST_MAX 64

typedef int (*label_fn)(const char *label, const char *value, struct md_policy *t, struct mesh_err *err);

static int none_of(const char *label, const char *value, const char *allowed, struct mesh_err *err)
{
	return mesh_fail(err, MESH_E_INVALID, "label %s: '%s' is none of %s", label, value, allowed);
}

static int on_strategy(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	(void)t;
	if (streq(value, "spread") || streq(value, "binpack") || streq(value, "random"))
		return 0;
	return none_of(label, value, "spread, binpack, random", err);
}

static int on_return(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	t->direct = streq(value, "direct");
	return t->direct || streq(value, "tunnel") ? 0 : none_of(label, value, "tunnel, direct", err);
}

static int on_local(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	t->local = streq(value, "prefer") ? MD_LOCAL_PREFER : streq(value, "require") ? MD_LOCAL_REQUIRE : MD_LOCAL_OFF;
	return t->local || streq(value, "off") ? 0 : none_of(label, value, "prefer, require, off", err);
}

static int on_affinity(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	bool client = streq(value, "client");
	if (client && !t->affinity_s)
		t->affinity_s = MD_AFFINITY_DEFAULT_S;
	return client || streq(value, "none") ? 0 : none_of(label, value, "client, none", err);
}

static int on_timeout(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	int64_t ns;
	if (duration_parse(value, &ns) || ns < INT64_C(1000000000) || ns / INT64_C(1000000000) > AFFINITY_MAX_S)
		return mesh_fail(err, MESH_E_INVALID,
		                 "label %s: '%s' is not a duration of 1s to 720h, such as 3h or 90s", label, value);
	t->affinity_s = (uint32_t)(ns / INT64_C(1000000000));
	return 0;
}

/* Every part of "a,b c" of at most LIST_MAX to fn. */
static int each_part(const char *label, const char *value, struct md_policy *t, label_fn fn, struct mesh_err *err)
{
	int rc = 0, n = 0;
	for (const char *p = value + strspn(value, ", "); *p && !rc; p += strspn(p, ", ")) {
		size_t len = strcspn(p, ", ");
		CLEAN_FREE char *part = xstrndup(p, len);
		if (++n > LIST_MAX)
			return mesh_fail(err, MESH_E_INVALID, "label %s: more than %d parts", label, LIST_MAX);
		rc = fn(label, part, t, err);
		p += len;
	}
	if (!rc && !n)
		rc = mesh_fail(err, MESH_E_INVALID, "label %s: empty: remove it instead", label);
	return rc;
}

static int range_into(struct str_list *l, const char *label, const char *part, struct mesh_err *err)
{
	struct dp_ip ip;
	if (dp_ip_parse(part, &ip, NULL) || !dp_ip_is_v4(&ip))
		return mesh_fail(err, MESH_E_INVALID,
		                 "label %s: '%s' is no IPv4 address or range, such as 192.0.2.0/24 or 192.0.2.7", label,
		                 part);
	strs_add(l, part);
	return 0;
}

static int on_source(const char *label, const char *part, struct md_policy *t, struct mesh_err *err)
{
	return range_into(&t->sources, label, part, err);
}
static int on_sources(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	return each_part(label, value, t, on_source, err);
}

static int on_address(const char *label, const char *part, struct md_policy *t, struct mesh_err *err)
{
	return range_into(&t->addresses, label, part, err);
}
static int on_addresses(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	return each_part(label, value, t, on_address, err);
}

static int on_share(const char *label, const char *part, struct md_policy *t, struct mesh_err *err)
{
	const char *eq = strchr(part, '=');
	char *end = NULL;
	unsigned long weight = eq && eq[1] >= '0' && eq[1] <= '9' ? strtoul(eq + 1, &end, 10) : 0;
	if (!end || *end || eq == part || weight > MD_SHARE_MAX)
		return mesh_fail(err, MESH_E_INVALID, "label %s: '%s' is not SERVICE=WEIGHT with a weight of 0 to %d",
		                 label, part, MD_SHARE_MAX);
	CLEAN_FREE char *name = xstrndup(part, (size_t)(eq - part));
	for (size_t i = 0; i < t->split.n; i++)
		if (streq(t->split.v[i].service, name))
			return mesh_fail(err, MESH_E_INVALID, "label %s: service '%s' is named twice", label, name);
	struct md_share *s = LIST_ADD(&t->split);
	s->service = xstrdup(name);
	s->weight = (uint32_t)weight;
	return 0;
}
static int on_split(const char *label, const char *value, struct md_policy *t, struct mesh_err *err)
{
	uint32_t total = 0;
	int rc = each_part(label, value, t, on_share, err);
	for (size_t i = 0; i < t->split.n; i++)
		total += t->split.v[i].weight;
	if (!rc && !total)
		rc = mesh_fail(err, MESH_E_INVALID, "label %s: '%s' leaves nobody with a weight above 0", label, value);
	return rc;
}

/* The timeout after the affinity: it replaces the default. */
static const struct {
	const char *label;
	label_fn parse;
} known[] = {
	{ "mesh.strategy", on_strategy },           { "mesh.publish.return", on_return },
	{ "mesh.publish.local", on_local },         { "mesh.publish.sources", on_sources },
	{ "mesh.publish.addresses", on_addresses }, { "mesh.affinity", on_affinity },
	{ "mesh.affinity.timeout", on_timeout },    { MD_LABEL_SPLIT, on_split },
};

static int refuse_unknown(const struct str_map *labels, struct mesh_err *err)
{
	for (size_t i = 0; i < labels->n; i++) {
		const char *key = labels->v[i].key;
		char all[256] = "";
		size_t k = 0, len = 0;
		while (k < ARRAY_SIZE(known) && !streq(known[k].label, key))
			k++;
		if (strncmp(key, "mesh.", 5) != 0 || k < ARRAY_SIZE(known))
			continue;
		for (k = 0; k < ARRAY_SIZE(known); k++)
			len += (size_t)snprintf(all + len, sizeof(all) - len, "%s%s", k ? ", " : "", known[k].label);
		return mesh_fail(err, MESH_E_INVALID, "label %s: unknown; labels that begin with mesh. are %s", key,
		                 all);
	}
	return 0;
}

int md_policy_parse(const struct str_map *labels, struct md_policy *out, struct mesh_err *err)
{
	int rc = refuse_unknown(labels, err);
	*out = (struct md_policy){ 0 };
	for (size_t i = 0; i < ARRAY_SIZE(known) && !rc; i++) {
		const char *value = smap_get(labels, known[i].label);
		if (value)
			rc = known[i].parse(known[i].label, value, out, err);
	}
	const char *affinity = smap_get(labels, "mesh.affinity");
	if (!rc && smap_get(labels, "mesh.affinity.timeout") && (!affinity || !streq(affinity, "client")))
		rc = mesh_fail(err, MESH_E_INVALID,
		               "label mesh.affinity.timeout: means nothing without mesh.affinity=client");
	return rc;
}

void md_policy_fini(struct md_policy *t)
{
	strs_clear(&t->sources);
	strs_clear(&t->addresses);
	for (size_t i = 0; i < t->split.n; i++)
		free(t->split.v[i].service);
	free(t->split.v);
	*t = (struct md_policy){ 0 };
}
