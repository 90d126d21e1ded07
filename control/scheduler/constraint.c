/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/scheduler/constraint.h"

#include <ctype.h>
#include <strings.h>

#include "base/mem.h"
#include "dataplane/state.h"

static const struct {
	const char *word;
	bool prefix;
} words[CONSTRAINT_KEY_MAX] = {
	[CONSTRAINT_ID] = { "node.id", false },          [CONSTRAINT_HOSTNAME] = { "node.hostname", false },
	[CONSTRAINT_IP] = { "node.ip", false },          [CONSTRAINT_ROLE] = { "node.role", false },
	[CONSTRAINT_OS] = { "node.platform.os", false }, [CONSTRAINT_ARCH] = { "node.platform.arch", false },
	[CONSTRAINT_LABEL] = { "node.labels.", true },   [CONSTRAINT_ENGINE_LABEL] = { "engine.labels.", true },
};

/* The kind of a left side, and where its label starts; -1 when unknown. */
static int key_of(const char *word, const char **label)
{
	for (int k = 0; k < CONSTRAINT_KEY_MAX; k++) {
		size_t n = strlen(words[k].word);
		if (words[k].prefix ? strncasecmp(word, words[k].word, n) == 0 && word[n]
		                    : strcasecmp(word, words[k].word) == 0) {
			*label = words[k].prefix ? word + n : NULL;
			return k;
		}
	}
	return -1;
}

static char *trimmed(const char *p, size_t n)
{
	while (n && isspace((unsigned char)*p))
		p++, n--;
	while (n && isspace((unsigned char)p[n - 1]))
		n--;
	return xstrndup(p, n);
}

static bool value_ok(const char *v)
{
	for (const char *p = v; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr(":-_ .*()?+[]\\^$|/", *p))
			return false;
	return *v;
}

static int parse_one(const char *expr, struct constraint *c, struct mesh_err *err)
{
	const char *op = strstr(expr, "==");
	const char *ne = strstr(expr, "!=");
	if (!op || (ne && ne < op))
		op = ne;
	if (!op)
		return mesh_fail(err, MESH_E_INVALID,
		                 "invalid constraint '%s': constraint expected one operator from ==, !=", expr);
	CLEAN_FREE char *left = trimmed(expr, (size_t)(op - expr));
	CLEAN_FREE char *right = trimmed(op + 2, strlen(op + 2));
	const char *label = NULL;
	int key = key_of(left, &label);
	if (key < 0)
		return mesh_fail(err, MESH_E_INVALID, "invalid constraint '%s': unknown key '%s'", expr, left);
	if (!value_ok(right))
		return mesh_fail(err, MESH_E_INVALID, "invalid constraint '%s': value '%s' is invalid", expr, right);
	struct dp_ip ip;
	unsigned prefix;
	if (key == CONSTRAINT_IP && dp_ip_parse(right, &ip, &prefix))
		return mesh_fail(err, MESH_E_INVALID, "invalid constraint '%s': '%s' is not an address or subnet", expr,
		                 right);
	*c = (struct constraint){
		.key = (enum constraint_key)key, .negate = op == ne, .label = xstrdup(label), .value = TAKE(right)
	};
	return 0;
}

int constraints_parse(const struct str_list *list, struct constraints *out, struct mesh_err *err)
{
	*out = (struct constraints){ 0 };
	if (!list || !list->n)
		return 0;
	out->v = xcalloc(list->n, sizeof(*out->v));
	for (size_t i = 0; i < list->n; i++) {
		int rc = parse_one(list->v[i] ? list->v[i] : "", &out->v[out->n], err);
		if (rc) {
			constraints_fini(out);
			return rc;
		}
		out->n++;
	}
	return 0;
}

void constraints_fini(struct constraints *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free(c->v[i].label);
		free(c->v[i].value);
	}
	free(c->v);
	*c = (struct constraints){ 0 };
}

const char *platform_arch(const char *arch)
{
	if (!arch)
		return "";
	if (!strcasecmp(arch, "x86_64"))
		return "amd64";
	if (!strcasecmp(arch, "aarch64"))
		return "arm64";
	return arch;
}

static const char *attribute(const struct md_node *n, enum constraint_key key, const char *label)
{
	switch (key) {
	case CONSTRAINT_ID:
		return n->meta.id;
	case CONSTRAINT_HOSTNAME:
		return n->description.hostname;
	case CONSTRAINT_IP:
		return n->status.addr;
	case CONSTRAINT_ROLE:
		return n->spec.role == MD_ROLE_MANAGER ? "manager" : "worker";
	case CONSTRAINT_OS:
		return n->description.platform.os;
	case CONSTRAINT_ARCH:
		return platform_arch(n->description.platform.architecture);
	case CONSTRAINT_LABEL:
		return smap_get(&n->spec.labels, label);
	case CONSTRAINT_ENGINE_LABEL:
		return smap_get(&n->description.engine.labels, label);
	case CONSTRAINT_KEY_MAX:
		break;
	}
	return NULL;
}

const char *node_attribute(const struct md_node *node, const char *word)
{
	const char *label;
	int key = key_of(word, &label);
	return key < 0 ? NULL : attribute(node, (enum constraint_key)key, label);
}

static bool ip_within(const char *addr, const char *want)
{
	struct dp_ip a, w;
	unsigned bits = 128;
	if (!addr || dp_ip_parse(addr, &a, NULL) || dp_ip_parse(want, &w, &bits))
		return false;
	if (dp_ip_is_v4(&a) != dp_ip_is_v4(&w))
		return false;
	if (dp_ip_is_v4(&w) && bits <= 32)
		bits += 96;
	for (unsigned i = 0; i < bits; i++)
		if ((a.b[i / 8] ^ w.b[i / 8]) & (0x80 >> (i % 8)))
			return false;
	return true;
}

static bool holds(const struct constraint *c, const struct md_node *node)
{
	const char *have = attribute(node, c->key, c->label);
	bool equal;
	if (c->key == CONSTRAINT_IP)
		equal = ip_within(have, c->value);
	else if (c->key == CONSTRAINT_ARCH)
		equal = have && !strcasecmp(have, platform_arch(c->value));
	else
		equal = have && !strcasecmp(have, c->value);
	return equal != c->negate;
}

int constraints_unmet(const struct constraints *c, const struct md_node *node)
{
	for (size_t i = 0; i < c->n; i++)
		if (!holds(&c->v[i], node))
			return (int)i;
	return -1;
}
