/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The text of transactions, and what an earlier run left of them. */
#include "dataplane/nft/rules_int.h"

/* ---- changes ------------------------------------------------------------------------------------- */

static void add_rules(struct buf *out, const char *mark, const char *chain, const char *text)
{
	while (*text) {
		size_t n = strcspn(text, "\n");
		buf_printf(out, "add rule ip %s_lb %s %.*s\n", mark, chain, (int)n, text);
		text += n + (text[n] == '\n');
	}
}

static const char *chain_text(const struct rules *r, const char *name)
{
	const char *text = map_get(&r->chains, name);
	return text ? text : map_get(&r->stale_chains, name);
}

static void add_chains(struct buf *out, const char *mark, const struct map *chains, const struct rules *old)
{
	MAP_FOREACH(chains, e)
		if (!chain_text(old, e->key))
			buf_printf(out, "add chain ip %s_lb %s\n", mark, e->key);
	MAP_FOREACH(chains, e)
		if (!chain_text(old, e->key))
			add_rules(out, mark, e->key, e->value);
}

static void add_counters(struct buf *out, const char *mark, const struct map *counters, const struct rules *old)
{
	MAP_FOREACH(counters, e)
		if (!map_has(&old->counters, e->key) && !map_has(&old->stale_counters, e->key))
			buf_printf(out, "add counter ip %s_lb %s\n", mark, e->key);
}

static void one_elem(struct buf *out, const char *verb, const char *mark, const char *key, const char *data)
{
	const char *nl = strchr(key, '\n');
	buf_printf(out, "%s element ip %s_lb %.*s { %s%s%s }\n", verb, mark, (int)(nl - key), key, nl + 1,
	           *data ? " : " : "", data);
}

static void drop_stale(struct buf *out, const char *mark, const struct rules *a, const struct rules *b)
{
	MAP_FOREACH(&a->stale_chains, e)
		if (!map_has(&b->chains, e->key))
			buf_printf(out, "flush chain ip %s_lb %s\n", mark, e->key);
	MAP_FOREACH(&a->stale_chains, e)
		if (!map_has(&b->chains, e->key))
			buf_printf(out, "delete chain ip %s_lb %s\n", mark, e->key);
	MAP_FOREACH(&a->stale_counters, e)
		if (!map_has(&b->counters, e->key))
			buf_printf(out, "delete counter ip %s_lb %s\n", mark, e->key);
}

void rules_prepare_text(const char *mark, const struct rules *a, const struct rules *b, struct buf *out)
{
	drop_stale(out, mark, a, b);
	add_counters(out, mark, &b->counters, a);
	add_chains(out, mark, &b->chains, a);
}

void rules_change_text(const char *mark, const struct rules *a, const struct rules *b, struct buf *out)
{
	MAP_FOREACH(&b->chains, e) {
		const char *was = chain_text(a, e->key);
		if (!was || strcmp(was, e->value) == 0)
			continue;
		buf_printf(out, "flush chain ip %s_lb %s\n", mark, e->key);
		add_rules(out, mark, e->key, e->value);
	}
	MAP_FOREACH(&a->elems, e) {
		const char *now = map_get(&b->elems, e->key);
		if (!now || strcmp(now, e->value) != 0)
			one_elem(out, "delete", mark, e->key, "");
	}
	MAP_FOREACH(&b->elems, e) {
		const char *was = map_get(&a->elems, e->key);
		if (!was || strcmp(was, e->value) != 0)
			one_elem(out, "add", mark, e->key, e->value);
	}
}

static void keep_missing(const struct map *from, const struct map *in, struct map *to)
{
	MAP_FOREACH(from, e)
		if (!map_has(in, e->key))
			free(map_put(to, e->key, xstrdup(e->value)));
}

void rules_changed(const struct rules *a, struct rules *b)
{
	keep_missing(&a->chains, &b->chains, &b->stale_chains);
	keep_missing(&a->counters, &b->counters, &b->stale_counters);
}

/* ---- what stands --------------------------------------------------------------------------------- */

struct hash_text {
	char s[40];
};
static struct hash_text standing_of(const char *name, const char *text)
{
	CLEAN_FREE char *all = xasprintf("%s\n%s", name, text);
	uint64_t h = hash64(all, strlen(all));
	struct hash_text t;
	snprintf(t.s, sizeof(t.s), "standing\n0x%08x . 0x%08x", (uint32_t)(h >> 32), (uint32_t)h);
	return t;
}

static struct hash_text base_standing(const struct rules_in *in)
{
	struct buf text = { 0 };
	rules_base_text(in, &text);
	struct hash_text t = standing_of("", buf_str(&text));
	buf_fini(&text);
	return t;
}

void rules_standing(struct rules *r, const struct rules_in *in)
{
	MAP_FOREACH(&r->chains, e)
		rules_elem(r, "", "%s", standing_of(e->key, e->value).s);
	rules_elem(r, "", "%s", base_standing(in).s);
}

/* Lines, of which the last need not be ended. */
static size_t lines(const char *text)
{
	size_t n = 0;
	for (; *text; text += strcspn(text, "\n"), text += *text == '\n')
		n++;
	return n;
}

static bool is_space(char c)
{
	return c && strchr(" \t\n", c);
}

static char *trim(char *text)
{
	text += strspn(text, " \t\n");
	for (char *end = text + strlen(text); end > text && is_space(end[-1]);)
		*--end = '\0';
	return text;
}

/* Where the value begins: the first colon that stands alone. NULL: there is none. */
static char *lone_colon(char *text)
{
	char *colon = strchr(text, ':');
	while (colon && (colon == text || !is_space(colon[-1]) || !is_space(colon[1])))
		colon = strchr(colon + 1, ':');
	return colon;
}

void rules_take_listed(const char *set, const char *text, struct map *elems)
{
	const char *p = strstr(text, "elements = {");
	if (!p)
		return;
	p += strlen("elements = {");
	size_t left = strcspn(p, "}");
	while (left) {
		size_t n = strcspn(p, ",}");
		CLEAN_FREE char *one = xstrndup(p, n);
		p += n + (n < left);
		left -= n + (n < left);
		char *colon = lone_colon(one);
		if (colon)
			*colon = '\0';
		const char *name = trim(one), *data = colon ? trim(colon + 1) : "";
		CLEAN_FREE char *key = xasprintf("%s\n%s", set, name);
		if (*name)
			free(map_put(elems, key, xstrdup(data)));
	}
}

/* ---- all of it ----------------------------------------------------------------------------------- */

/* One command a set: the elements of intervals are checked against each other. */
static void load_set(struct buf *out, const char *mark, const char *set, const struct map *elems)
{
	size_t n = strlen(set);
	bool any = false;
	MAP_FOREACH(elems, e) {
		const char *data = e->value;
		if (strncmp(e->key, set, n) != 0 || e->key[n] != '\n')
			continue;
		if (any)
			buf_puts(out, ", ");
		else
			buf_printf(out, "add element ip %s_lb %s { ", mark, set);
		any = true;
		buf_printf(out, "%s%s%s", e->key + n + 1, *data ? " : " : "", data);
	}
	if (any)
		buf_puts(out, " }\n");
}

/* how: flush, so that the hook of before stays and no frame passes without it; or delete. */
static void load_netdev(const struct rules_in *in, const char *how, struct buf *out)
{
	buf_printf(out, "add table netdev %s_lb\n%s table netdev %s_lb\n", in->mark, how, in->mark);
	/* Frames for tasks come to a device with a MAC of its own: the stack would take them for others'. */
	buf_printf(out,
	           "table netdev %s_lb {\nchain frames {\n type filter hook ingress device \"%s\" priority 0; policy "
	           "accept;\n"
	           " meta pkttype set host\n}\n}\n",
	           in->mark, in->vxlan);
}

static bool is_of_service(const char *chain)
{
	return strchr("vporl", chain[0]) && chain[1] == '_';
}

bool rules_left(const struct rules_in *in, const struct rules *r, const struct nft_found *found,
                const struct map *listed, struct rules *out)
{
	if (!map_has(listed, base_standing(in).s) || !rules_base_is_whole(found))
		return false;
	MAP_FOREACH(&found->chains, e) {
		const char *text = is_of_service(e->key) ? map_get(&r->chains, e->key) : NULL;
		bool same = text && map_has(listed, standing_of(e->key, text).s) &&
		            rules_found_in(found, e->key) == lines(text);
		if (is_of_service(e->key))
			map_put(&out->chains, e->key, xstrdup(same ? text : ""));
	}
	MAP_FOREACH(&found->counters, e)
		if (strncmp(e->key, RULES_REFUSED, sizeof(RULES_REFUSED) - 1) == 0)
			map_put(&out->counters, e->key, xstrdup(""));
	MAP_FOREACH(&found->elems, e)
		map_put(&out->elems, e->key, xstrdup(""));
	MAP_FOREACH(listed, e)
		free(map_put(&out->elems, e->key, xstrdup(e->value)));
	return true;
}

bool rules_frames_stand(const struct rules_in *in, const char *text)
{
	CLEAN_FREE char *device = xasprintf("device \"%s\" ", in->vxlan);
	return strstr(text, device) && strstr(text, "meta pkttype set host");
}

void rules_frames_text(const struct rules_in *in, struct buf *out)
{
	load_netdev(in, "flush", out);
}

/* What nothing names any more, once the rules and maps are empty. */
static void drop_found(const char *mark, const struct rules *r, const struct nft_found *found, struct buf *out)
{
	MAP_FOREACH(&found->elems, e)
		if (!map_has(&r->elems, e->key))
			one_elem(out, "delete", mark, e->key, "");
	MAP_FOREACH(&found->chains, e)
		if (is_of_service(e->key) && !map_has(&r->chains, e->key))
			buf_printf(out, "delete chain ip %s_lb %s\n", mark, e->key);
	MAP_FOREACH(&found->counters, e)
		if (strncmp(e->key, RULES_REFUSED, sizeof(RULES_REFUSED) - 1) == 0 && !map_has(&r->counters, e->key))
			buf_printf(out, "delete counter ip %s_lb %s\n", mark, e->key);
}

static void fill(const struct rules_in *in, const struct rules *r, const struct nft_found *found, struct buf *out)
{
	static const struct rules none;
	buf_printf(out, "add table ip %s_lb\nflush table ip %s_lb\n", in->mark, in->mark);
	rules_base_text(in, out);
	const char *set;
	for (size_t i = 0; (set = rules_listed(i)); i++)
		buf_printf(out, "flush %.3s ip %s_lb %s\n", set, in->mark, set + 4);
	add_counters(out, in->mark, &r->counters, &none);
	add_chains(out, in->mark, &r->chains, &none);
	for (size_t i = 0; (set = rules_listed(i)); i++)
		load_set(out, in->mark, set + 4, &r->elems);
	for (size_t i = 0; i < RULES_COUNTING_MAX; i++)
		load_set(out, in->mark, rules_counting[i], &r->elems);
	drop_found(in->mark, r, found, out);
}

void rules_adopt_text(const struct rules_in *in, const struct rules *r, const struct nft_found *found, struct buf *out)
{
	load_netdev(in, "flush", out);
	fill(in, r, found, out);
}

void rules_load_text(const struct rules_in *in, const struct rules *r, struct buf *out)
{
	static const struct nft_found nothing;
	load_netdev(in, "delete", out);
	buf_printf(out, "add table ip %s_lb\ndelete table ip %s_lb\n", in->mark, in->mark);
	fill(in, r, &nothing, out);
}
