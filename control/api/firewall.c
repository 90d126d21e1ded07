/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/api/firewall.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define DEPTH_MAX 8

/* Does it match? What is not known here is neither. */
enum answer { NO, YES, UNKNOWN };
enum verdict { GO_ON, ACCEPTED, DROPPED, RETURNED };

struct walk {
	const json_t *list; /* "nftables" */
	const struct fw_packet *p;
	const char *family, *table;
	struct fw_finding *out;
	bool unsure; /* a rule that may have matched was passed */
};

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s ? s : "";
}

/* ---- one match ----------------------------------------------------------------------------------- */

static bool addr_of(const char *text, uint32_t *out)
{
	struct in_addr a;
	bool ok = text && inet_pton(AF_INET, text, &a) == 1;
	*out = ok ? ntohl(a.s_addr) : 0;
	return ok;
}

/* What the packet has in the place the rule asks about: a number or a word; false: not known here. */
static bool left_of(const json_t *left, const struct fw_packet *p, const char **word, uint32_t *number, bool *is_addr)
{
	const json_t *payload = json_object_get(left, "payload"), *meta = json_object_get(left, "meta"),
		     *ct = json_object_get(left, "ct");
	const char *protocol = text_of(payload, "protocol"), *field = text_of(payload, "field");
	*word = NULL;
	*is_addr = false;
	*number = p->dport;
	if (payload && streq(field, "dport"))
		return true;
	if (payload && streq(protocol, "ip") && (streq(field, "saddr") || streq(field, "daddr"))) {
		*is_addr = true;
		return addr_of(streq(field, "saddr") ? p->saddr : p->daddr, number);
	}
	if ((payload && streq(protocol, "ip") && streq(field, "protocol")) ||
	    (meta && streq(text_of(meta, "key"), "l4proto")))
		*word = p->protocol;
	else if (meta && (streq(text_of(meta, "key"), "nfproto") || streq(text_of(meta, "key"), "protocol")))
		*word = streq(text_of(meta, "key"), "nfproto") ? "ipv4" : "ip";
	else if (ct && streq(text_of(ct, "key"), "state"))
		*word = "new";
	return *word != NULL;
}

/* Is a payload rule about another protocol than the packet's? Then it cannot match, whatever it asks. */
static bool other_protocol(const json_t *left, const struct fw_packet *p)
{
	const char *protocol = text_of(json_object_get(left, "payload"), "protocol");
	return *protocol && !streq(protocol, "ip") && !streq(protocol, "th") && !streq(protocol, p->protocol);
}

static enum answer equals(const json_t *right, const char *word, uint32_t number, bool is_addr);

static enum answer in_list(const json_t *list, const char *word, uint32_t number, bool is_addr)
{
	enum answer best = NO;
	const json_t *v;
	size_t i;
	json_array_foreach(list, i, v)
	{
		enum answer a = equals(v, word, number, is_addr);
		best = a == YES || best == YES ? YES : a == UNKNOWN ? UNKNOWN : best;
	}
	return best;
}

static bool bound(const json_t *v, bool is_addr, uint32_t *out)
{
	if (is_addr)
		return addr_of(json_string_value(v), out);
	*out = (uint32_t)json_integer_value(v);
	return json_is_integer(v);
}

static enum answer in_range(const json_t *range, uint32_t number, bool is_addr)
{
	uint32_t lo, hi;
	if (!bound(json_array_get(range, 0), is_addr, &lo) || !bound(json_array_get(range, 1), is_addr, &hi))
		return UNKNOWN;
	return number >= lo && number <= hi ? YES : NO;
}

static enum answer in_prefix(const json_t *prefix, uint32_t number)
{
	json_int_t len = json_integer_value(json_object_get(prefix, "len"));
	uint32_t net;
	if (!addr_of(text_of(prefix, "addr"), &net) || len < 0 || len > 32)
		return UNKNOWN;
	uint32_t mask = len ? 0xffffffffu << (32 - len) : 0;
	return (number & mask) == (net & mask) ? YES : NO;
}

static enum answer equals(const json_t *right, const char *word, uint32_t number, bool is_addr)
{
	const char *text = json_string_value(right);
	uint32_t addr;
	if (json_is_array(right))
		return in_list(right, word, number, is_addr);
	if (json_object_get(right, "set"))
		return in_list(json_object_get(right, "set"), word, number, is_addr);
	if (json_object_get(right, "range"))
		return word ? UNKNOWN : in_range(json_object_get(right, "range"), number, is_addr);
	if (json_object_get(right, "prefix"))
		return is_addr ? in_prefix(json_object_get(right, "prefix"), number) : UNKNOWN;
	if (word)
		return text && text[0] != '@' ? (streq(text, word) ? YES : NO) : UNKNOWN;
	if (is_addr)
		return addr_of(text, &addr) ? (addr == number ? YES : NO) : UNKNOWN;
	return json_is_integer(right) ? ((uint32_t)json_integer_value(right) == number ? YES : NO) : UNKNOWN;
}

static enum answer match(const json_t *m, const struct fw_packet *p)
{
	const json_t *left = json_object_get(m, "left");
	const char *op = text_of(m, "op"), *word;
	uint32_t number;
	bool is_addr;
	if (other_protocol(left, p))
		return NO;
	if (!left_of(left, p, &word, &number, &is_addr))
		return UNKNOWN;
	enum answer a = equals(json_object_get(m, "right"), word, number, is_addr);
	if (streq(op, "==") || streq(op, "in"))
		return a;
	return streq(op, "!=") ? (a == UNKNOWN ? UNKNOWN : a == YES ? NO : YES) : UNKNOWN;
}

/* ---- rules and chains ---------------------------------------------------------------------------- */

static void put_value(struct buf *b, const json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
	buf_puts(b, json_is_string(v) ? json_string_value(v) : text ? text : "?");
	free(text);
}

/* Near to what nft prints. */
static void put_expr(struct buf *b, const json_t *e)
{
	const json_t *m = json_object_get(e, "match"), *left = json_object_get(m, "left");
	const json_t *payload = json_object_get(left, "payload");
	const char *kind = json_object_iter_key(json_object_iter((json_t *)(uintptr_t)e));
	buf_puts(b, b->len ? " " : "");
	if (!m) {
		buf_puts(b, kind ? kind : "?");
		return;
	}
	if (payload)
		buf_printf(b, "%s %s ", text_of(payload, "protocol"), text_of(payload, "field"));
	else
		put_value(b, left);
	if (!streq(text_of(m, "op"), "=="))
		buf_printf(b, " %s ", text_of(m, "op"));
	put_value(b, json_object_get(m, "right"));
}

static void found(struct walk *w, const char *chain, const json_t *exprs, bool maybe)
{
	struct buf b = { 0 };
	const json_t *e;
	size_t i;
	json_array_foreach(exprs, i, e) put_expr(&b, e);
	snprintf(w->out->where, sizeof(w->out->where), "table %s %s, chain %s", w->family, w->table, chain);
	snprintf(w->out->text, sizeof(w->out->text), "%s", exprs ? buf_str(&b) : "policy drop");
	w->out->maybe = maybe;
	buf_fini(&b);
}

static enum verdict walk_chain(struct walk *w, const char *chain, unsigned depth);

static enum verdict decide(struct walk *w, const json_t *e, const char *chain, const json_t *exprs, enum answer sure,
                           unsigned depth)
{
	const json_t *jump = json_object_get(e, "jump"), *go = json_object_get(e, "goto");
	if (json_object_get(e, "drop") || json_object_get(e, "reject")) {
		found(w, chain, exprs, sure == UNKNOWN || w->unsure);
		return DROPPED;
	}
	if (json_object_get(e, "accept")) {
		w->unsure |= sure == UNKNOWN;
		return sure == YES ? ACCEPTED : GO_ON;
	}
	if (json_object_get(e, "return"))
		return sure == YES ? RETURNED : GO_ON;
	if (!jump && !go)
		return GO_ON;
	bool was = w->unsure;
	w->unsure |= sure == UNKNOWN;
	enum verdict v = walk_chain(w, text_of(jump ? jump : go, "target"), depth + 1);
	w->unsure = was || (sure == UNKNOWN && v == ACCEPTED);
	if (v == RETURNED || (v == ACCEPTED && sure == UNKNOWN))
		return GO_ON;
	return v == GO_ON && go && sure == YES ? RETURNED : v;
}

static enum verdict walk_rule(struct walk *w, const json_t *rule, const char *chain, unsigned depth)
{
	const json_t *exprs = json_object_get(rule, "expr"), *e;
	enum answer sure = YES;
	size_t i;
	json_array_foreach(exprs, i, e)
	{
		const json_t *m = json_object_get(e, "match");
		enum answer a = m ? match(m, w->p) : YES;
		if (a == NO)
			return GO_ON;
		if (a == UNKNOWN || json_object_get(e, "limit") || json_object_get(e, "vmap"))
			sure = UNKNOWN;
		enum verdict v = m ? GO_ON : decide(w, e, chain, exprs, sure, depth);
		if (v != GO_ON)
			return v;
	}
	return GO_ON;
}

static enum verdict walk_chain(struct walk *w, const char *chain, unsigned depth)
{
	const json_t *o;
	size_t i;
	if (depth > DEPTH_MAX)
		return GO_ON;
	json_array_foreach(w->list, i, o)
	{
		const json_t *r = json_object_get(o, "rule");
		if (!r || !streq(text_of(r, "family"), w->family) || !streq(text_of(r, "table"), w->table) ||
		    !streq(text_of(r, "chain"), chain))
			continue;
		enum verdict v = walk_rule(w, r, chain, depth);
		if (v != GO_ON)
			return v;
	}
	return GO_ON;
}

static bool is_ours(const char *table, const char *mark)
{
	size_t n = strlen(mark);
	return strncmp(table, mark, n) == 0 && (!table[n] || table[n] == '_');
}

bool firewall_drops(const json_t *ruleset, const struct fw_packet *p, const char *mark, struct fw_finding *out)
{
	struct walk w = { .list = json_object_get(ruleset, "nftables"), .p = p, .out = out };
	struct fw_finding maybe = { 0 };
	bool some = false;
	const json_t *o;
	size_t i;
	json_array_foreach(w.list, i, o)
	{
		const json_t *c = json_object_get(o, "chain");
		const char *family = text_of(c, "family");
		if (!c || !streq(text_of(c, "hook"), p->hook) || is_ours(text_of(c, "table"), mark) ||
		    (!streq(family, "ip") && !streq(family, "inet") && !streq(family, "netdev")))
			continue;
		w.family = family;
		w.table = text_of(c, "table");
		w.unsure = false;
		enum verdict v = walk_chain(&w, text_of(c, "name"), 0);
		if (v != DROPPED && v != ACCEPTED && streq(text_of(c, "policy"), "drop")) {
			found(&w, text_of(c, "name"), NULL, w.unsure);
			v = DROPPED;
		}
		if (v != DROPPED)
			continue;
		if (!out->maybe)
			return true;
		maybe = some ? maybe : *out;
		some = true;
	}
	*out = maybe;
	return some;
}
