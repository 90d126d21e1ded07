/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Files -> one checked tree: YAML, variables, checks, env files, merging, and what only the whole can be asked. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/compose/schema.h"

#define ENV_FILE_MAX (1u << 20)

/* ---- env files ----------------------------------------------------------------------------------- */

static const char *file_path(struct check *ck, const char *path)
{
	const struct compose_opts *o = ck->c->opts;

	if (path[0] == '~' && path[1] == '/')
		return arena_printf(ck->a, "%s%s", o->home ? o->home : "/root", path + 1);
	return path[0] == '/' ? path
	                      : arena_printf(ck->a, "%s/%s", o->workdir ? o->workdir : "",
	                                     !strncmp(path, "./", 2) ? path + 2 : path);
}

static int env_line(struct check *ck, const char *line, size_t n, struct cv *env, const struct cv *at, unsigned number,
                    const char *path, struct mesh_err *err)
{
	const struct compose_env *e = &ck->c->opts->env;
	const char *text = arena_str(ck->a, line, n), *eq;

	while (isspace((unsigned char)*text))
		text++;
	if (!*text || *text == '#')
		return 0;
	eq = strchr(text, '=');
	const char *name = eq ? arena_str(ck->a, text, (size_t)(eq - text)) : text;
	if (!*name)
		return cv_fail(at, err, "invalid env file (%.250s): no variable name on line %u", path, number);
	if (name[strcspn(name, " \t\r\n\v\f")])
		return cv_fail(at, err, "invalid env file (%.250s): variable '%.100s' contains whitespaces", path,
		               name);
	const char *value = eq ? eq + 1 : e->get(e->arg, name);
	if (!utf8_ok(name) || !utf8_ok(value ? value : ""))
		return cv_fail(at, err, "invalid env file (%.250s): env file contains invalid utf8 bytes at line %u",
		               path, number);
	if (value)
		cv_set(ck->a, env, name, cv_str(ck->a, value, at));
	return 0;
}

static int env_lines(struct check *ck, const struct buf *text, struct cv *env, const struct cv *at, const char *path,
                     struct mesh_err *err)
{
	const char *p = (const char *)text->data, *end = p + text->len;
	unsigned number = 0;

	if (text->len && memchr(p, 0, text->len))
		return cv_fail(at, err, "invalid env file (%.250s): it holds a NUL character", path);
	if (text->len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3;
	while (p && p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);
		if (n && p[n - 1] == '\r')
			n--;
		if (env->n >= COMPOSE_MAX_KEYS)
			return cv_fail(at, err, "invalid env file (%.250s): more than %u variables", path,
			               COMPOSE_MAX_KEYS);
		int rc = env_line(ck, p, n, env, at, ++number, path, err);
		if (rc < 0)
			return rc;
		p = nl ? nl + 1 : end;
	}
	return 0;
}

static int read_env_file(struct check *ck, const struct cv *entry, struct cv *env, struct mesh_err *err)
{
	const struct cv *required = cv_get(entry, "required");
	const char *path = file_path(ck, cv_at(entry, "path"));
	const struct compose_opts *o = ck->c->opts;
	struct mesh_err why = { 0 };
	struct buf text = { 0 };
	int rc = o->read(o->arg, path, ENV_FILE_MAX, &text, &why);

	if (rc == -ENOENT && cv_is(required, CV_BOOL) && !required->i)
		rc = 0;
	else if (rc < 0)
		rc = cv_fail(entry, err, "%s", why.msg);
	else
		rc = env_lines(ck, &text, env, entry, path, err);
	buf_fini(&text);
	return rc;
}

/* What environment says wins over the files; later files over earlier ones. */
static int env_files(struct check *ck, struct cv *service, struct mesh_err *err)
{
	struct cv *files = cv_get(service, "env_file"), *own = cv_get(service, "environment");

	if (!files)
		return 0;
	struct cv *env = cv_new(ck->a, CV_MAP, files);
	CV_EACH(files, it)
	{
		int rc = read_env_file(ck, it->v, env, err);
		if (rc < 0)
			return rc;
	}
	CV_EACH(own, it)
	cv_set(ck->a, env, it->key, it->v);
	cv_set(ck->a, service, "environment", env);
	cv_del(service, "env_file");
	return 0;
}

/* ---- external objects ---------------------------------------------------------------------------- */

static int external_named(struct check *ck, const char *section, const char *name, struct cv *v, struct mesh_err *err)
{
	struct cv *e = cv_get(v, "external");

	if (cv_true(e) && !cv_get(v, "name"))
		cv_set(ck->a, v, "name", cv_str(ck->a, name, e));
	if (!cv_is(e, CV_MAP))
		return 0;
	if (cv_get(e, "name")) {
		if (cv_get(v, "name"))
			return cv_fail(e, err,
			               "%.10s.external.name and %.10s.name conflict; only use %.10s.name (%.80s)",
			               section, section, section, name);
		cv_set(ck->a, v, "name", cv_get(e, "name"));
	}
	cv_set(ck->a, v, "external", cv_bool(ck->a, true, e));
	if (!cv_get(v, "name"))
		cv_set(ck->a, v, "name", cv_str(ck->a, name, e));
	return 0;
}

static int external_alone(const char *kind, const char *name, const struct cv *v, struct mesh_err *err)
{
	if (!cv_true(cv_get(v, "external")))
		return 0;
	CV_EACH(v, it)
	{
		bool said = it->v->kind == CV_BOOL ? it->v->i : it->v->kind < CV_LIST ? *it->v->s != 0 : it->v->n != 0;
		if (said && strcmp(it->key, "external") && strcmp(it->key, "name") && strncmp(it->key, "x-", 2))
			return cv_fail(it->v, err,
			               "conflicting parameters \"external\" and \"%s\" specified for %s \"%.80s\"",
			               it->key, kind, name);
	}
	return 0;
}

/* Where a secret's or config's contents are, wherever the configuration is read again. */
static void absolute_files(struct check *ck, struct cv *root)
{
	static const char *const sections[] = { "secrets", "configs" };

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		CV_EACH(cv_get(root, sections[i]), it)
		{
			struct cv *file = cv_get(it->v, "file");
			if (cv_is(file, CV_STR) && *file->s)
				file->s = file_path(ck, file->s);
		}
}

static int externals(struct check *ck, struct cv *root, struct mesh_err *err)
{
	static const struct {
		const char *section, *kind;
	} sections[] = {
		{ "networks", "network" }, { "volumes", "volume" }, { "secrets", "secret" }, { "configs", "config" }
	};

	for (size_t i = 0; i < ARRAY_SIZE(sections); i++)
		CV_EACH(cv_get(root, sections[i].section), it)
		{
			int rc = external_named(ck, sections[i].kind, it->key, it->v, err);
			if (!rc)
				rc = external_alone(sections[i].kind, it->key, it->v, err);
			if (rc < 0)
				return rc;
		}
	return 0;
}

/* ---- profiles ------------------------------------------------------------------------------------ */

static bool word_in(const char *words, const char *w)
{
	size_t n = strlen(w);

	for (; words && *words; words += strcspn(words, ",") + (words[strcspn(words, ",")] == ','))
		if (strcspn(words, ",") == n && !strncmp(words, w, n))
			return true;
	return false;
}

static void profiles(struct check *ck, struct cv *services)
{
	const struct compose_env *e = &ck->c->opts->env;
	const char *active = e->get(e->arg, "COMPOSE_PROFILES");

	for (uint32_t i = 0; services && i < services->n;) {
		const char *name = services->items[i].key;
		struct cv *wanted = cv_get(services->items[i].v, "profiles");
		bool on = !wanted || !wanted->n || word_in(active, "*");
		CV_EACH(wanted, it)
		on = on || word_in(active, it->v->s);
		if (on) {
			i++;
			continue;
		}
		warn_at(ck, wanted, "services.%.100s is left out: none of its profiles is in COMPOSE_PROFILES", name);
		cv_del(services, name);
	}
}

/* Files copied from web pages are indented with non-breaking spaces. Returns NULL when this one is not. */
static char *plain_indent(const char *text, size_t len, size_t *out_len)
{
	char *out;
	size_t n = 0;
	bool leading = true, any = false;

	if (len > COMPOSE_MAX_FILE || !memmem(text, len, "\xc2\xa0", 2))
		return NULL;
	out = xcalloc(1, len + 1);
	for (size_t i = 0; i < len; i++) {
		bool hard = leading && i + 1 < len && text[i] == '\xc2' && text[i + 1] == '\xa0';
		leading = text[i] == '\n' || (leading && (text[i] == ' ' || hard));
		out[n++] = hard ? ' ' : text[i];
		i += hard;
		any = any || hard;
	}
	*out_len = n;
	if (!any)
		free(out);
	return any ? out : NULL;
}

static int read_tree(struct check *ck, const struct compose_file *f, struct cv **root, struct mesh_err *err)
{
	size_t len = f->len;
	CLEAN_FREE char *plain = plain_indent(f->text, f->len, &len);

	if (plain) {
		CLEAN_FREE char *w =
			xasprintf("%s: indented with non-breaking spaces, which are read as spaces", f->name);
		strs_add(&ck->c->warnings, w);
	}
	return yaml_read(ck->a, f->name, plain ? plain : f->text, len, root, err);
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static int load_one(struct check *ck, const struct compose_file *f, struct cv **out, struct mesh_err *err)
{
	const struct compose_opts *o = ck->c->opts;
	struct str_list unset = { 0 };
	struct cv *root = NULL;
	int rc = read_tree(ck, f, &root, err);

	if (rc < 0)
		return rc;
	if (!root || root->kind != CV_MAP)
		return mesh_fail(err, MESH_E_INVALID, "%s: top-level object must be a mapping", f->name);
	if (!o->raw)
		rc = interpolate(ck->a, root, &o->env, &unset, err);
	for (size_t i = 0; i < unset.n; i++) {
		CLEAN_FREE char *w = xasprintf("%s: the variable \"%.100s\" is not set, an empty text takes its place",
		                               f->name, unset.v[i]);
		strs_add(&ck->c->warnings, w);
	}
	strs_clear(&unset);
	if (!rc)
		rc = schema_check(ck, root, err);
	CV_EACH(rc ? NULL : cv_get(root, "services"), it)
	if (!rc && !o->raw)
		rc = env_files(ck, it->v, err);
	if (!rc)
		rc = externals(ck, root, err);
	if (!rc)
		absolute_files(ck, root);
	*out = root;
	return rc;
}

/* What !reset had nothing to reset in. */
static void drop_resets(struct cv *v)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->n; i++) {
		if (v->items[i].v->flags & CV_RESET)
			continue;
		drop_resets(v->items[i].v);
		v->items[n++] = v->items[i];
	}
	v->n = n;
}

int compose_load(struct compose *c, const struct compose_file *files, size_t n, const struct compose_opts *opts,
                 struct mesh_err *err)
{
	struct check ck = { c, &c->arena };

	*c = (struct compose){ .opts = opts };
	for (size_t i = 0; i < n; i++) {
		struct cv *tree = NULL;
		int rc = load_one(&ck, &files[i], &tree, err);
		if (rc < 0)
			return rc;
		if (c->root)
			merge_trees(&ck, c->root, tree);
		else
			c->root = tree;
	}
	if (!c->root)
		return mesh_fail(err, MESH_E_INVALID, "specify a Compose file (with --compose-file)");
	drop_resets(c->root);
	int rc = n > 1 ? externals(&ck, c->root, err) : 0;
	if (!rc)
		profiles(&ck, cv_get(c->root, "services"));
	return rc;
}

void compose_fini(struct compose *c)
{
	strs_clear(&c->warnings);
	arena_fini(&c->arena);
	c->root = NULL;
}
