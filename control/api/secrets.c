/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets and configs: the same calls over two kinds of object. */
#include <ctype.h>

#include "base/mem.h"
#include "control/api/filters.h"
#include "control/api/http.h"
#include "control/model/tmpl.h"

#define SECRET_MAX (500u << 10)
#define CONFIG_MAX (1000u << 10)

static bool is_secret(enum store_kind k)
{
	return k == STORE_SECRET;
}

static const char *kind_text(enum store_kind k)
{
	return is_secret(k) ? "secret" : "config";
}

static const struct schema *spec_schema(enum store_kind k)
{
	return is_secret(k) ? &md_secret_spec_schema : &md_config_spec_schema;
}

/* Both specs begin with name, labels, data. */
_Static_assert(offsetof(struct md_secret_spec, name) == offsetof(struct md_config_spec, name) &&
                       offsetof(struct md_secret_spec, labels) == offsetof(struct md_config_spec, labels) &&
                       offsetof(struct md_secret_spec, data) == offsetof(struct md_config_spec, data) &&
                       offsetof(struct md_secret, spec) == offsetof(struct md_config, spec),
               "a config is seen as a secret below");

static bool matches(const struct filters *f, const struct md_secret *s)
{
	return filters_prefix(f, "id", s->meta.id) && filters_prefix(f, "name", s->spec.name) &&
	       filters_exact(f, "names", s->spec.name) && filters_labels(f, "label", &s->spec.labels);
}

static void list(struct req *r, enum store_kind k)
{
	static const char *const allowed[] = { "id", "label", "name", "names", NULL };
	struct filters f = { 0 };
	struct jw w = { 0 };
	if (req_filters(r, allowed, &f))
		return;
	struct store_list all = store_all(r->store, k);
	jw_open(&w, '[');
	for (size_t i = 0; i < all.n; i++)
		if (matches(&f, all.v[i]))
			md_json_write(&w, store_kind_schema(k), all.v[i]);
	jw_close(&w, ']');
	filters_clear(&f);
	req_reply_json(r, 200, &w);
}

static void inspect(struct req *r, enum store_kind k)
{
	struct mesh_err err = { 0 };
	const void *o;
	struct jw w = { 0 };
	int rc = api_find(r, k, &o, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	md_json_write(&w, store_kind_schema(k), o);
	req_reply_json(r, 200, &w);
}

/* What a handler keeps between building and answering. */
struct pending {
	enum store_kind kind;
	char id[MESH_ID_LEN + 1];
	struct md_secret_spec *spec; /* of the kind's schema */
};

static void pending_free(void *data)
{
	struct pending *p = data;
	sch_free(spec_schema(p->kind), p->spec);
	free(p);
}

static struct pending *pending_new(struct req *r, enum store_kind k)
{
	struct pending *p = XNEW(struct pending);
	p->kind = k;
	p->spec = sch_new(spec_schema(k));
	req_keep(r, p, pending_free);
	return p;
}

static bool name_valid(const char *s)
{
	size_t n = s ? strlen(s) : 0;
	if (!n || n > 64 || !isalnum((unsigned char)s[0]) || !isalnum((unsigned char)s[n - 1]))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
			return false;
	return true;
}

static int check_spec(const struct pending *p, struct mesh_err *err)
{
	const struct md_secret_spec *s = p->spec;
	size_t max = is_secret(p->kind) ? SECRET_MAX : CONFIG_MAX;
	if (!name_valid(s->name))
		return api_rpc_fail(err, MESH_E_INVALID, "InvalidArgument",
		                    "invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end "
		                    "character must be [a-zA-Z0-9]");
	if (s->data.n > max || (!s->data.n && !(is_secret(p->kind) && s->driver)))
		return api_rpc_fail(err, MESH_E_INVALID, "InvalidArgument",
		                    "%s data must be larger than 0 and less than %zu bytes", kind_text(p->kind), max);
	if (is_secret(p->kind) && s->driver)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "secret drivers are not supported");
	const struct md_driver *d =
		is_secret(p->kind) ? s->templating : ((const struct md_config_spec *)(const void *)s)->templating;
	int rc = tmpl_check(d ? d->name : NULL, &s->data, err);
	return rc ? mesh_wrap(err, rc, "%s %s", kind_text(p->kind), s->name) : 0;
}

static int build_create(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	struct pending *p = r->data;
	if (store_by_name(r->store, p->kind, p->spec->name))
		return api_rpc_fail(err, MESH_E_CONFLICT, "AlreadyExists", "%s %s already exists", kind_text(p->kind),
		                    p->spec->name);
	api_new_id(r->api, p->id);
	struct md_secret *o = store_tx_create(tx, p->kind, p->id);
	sch_copy(spec_schema(p->kind), &o->spec, p->spec);
	return 0;
}

static void reply_created(struct req *r)
{
	req_reply_id(r, 201, "ID", ((struct pending *)r->data)->id);
}

static void create(struct req *r, enum store_kind k)
{
	struct mesh_err err = { 0 };
	struct pending *p = pending_new(r, k);
	if (req_decode(r, spec_schema(k), p->spec))
		return;
	int rc = check_spec(p, &err);
	if (rc)
		req_fail(r, rc, &err);
	else
		req_change(r, build_create, reply_created);
}

/* Only labels may change, as in the engine: tasks have been given the data already. */
static int build_update(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	const struct pending *p = r->data;
	const struct md_secret_spec *spec = p->spec;
	const void *found;
	int rc = api_find(r, p->kind, &found, err);
	if (rc)
		return rc;
	const struct md_secret *old = found;
	rc = api_check_version(r, &old->meta, err);
	if (rc)
		return rc;
	bool same_data = !spec->data.n || (spec->data.n == old->spec.data.n &&
	                                   memcmp(spec->data.p, old->spec.data.p, spec->data.n) == 0);
	if ((spec->name && !streq(spec->name, old->spec.name)) || !same_data)
		return api_rpc_fail(err, MESH_E_INVALID, "InvalidArgument", "only updates to Labels are allowed");
	struct md_secret *o = store_tx_edit(tx, p->kind, old->meta.id);
	smap_clear(&o->spec.labels);
	for (size_t i = 0; i < spec->labels.n; i++)
		smap_set(&o->spec.labels, spec->labels.v[i].key, spec->labels.v[i].value);
	store_tx_touch_version(tx, o);
	return 0;
}

static void reply_ok(struct req *r)
{
	req_reply_empty(r, 200);
}

static void update(struct req *r, enum store_kind k)
{
	struct pending *p = pending_new(r, k);
	if (!req_decode(r, spec_schema(k), p->spec))
		req_change(r, build_update, reply_ok);
}

static bool service_uses(const struct md_service *sv, enum store_kind k, const char *id)
{
	const struct md_container_spec *c = sv->spec.task.container;
	for (size_t i = 0; c && is_secret(k) && i < c->secrets.n; i++)
		if (streq(c->secrets.v[i].secret.s, id))
			return true;
	for (size_t i = 0; c && !is_secret(k) && i < c->configs.n; i++)
		if (streq(c->configs.v[i].config.s, id))
			return true;
	return false;
}

static int check_unused(const struct store *s, enum store_kind k, const struct md_secret *o, struct mesh_err *err)
{
	struct buf names = { 0 };
	size_t n = 0;
	STORE_EACH(s, STORE_SERVICE, struct md_service, sv)
		if (service_uses(sv, k, o->meta.id) && n++ < 20)
			buf_printf(&names, "%s%s", names.len ? ", " : "", sv->spec.name);
	int rc = 0;
	if (n)
		rc = api_rpc_fail(err, MESH_E_IN_USE, "InvalidArgument",
		                  "%s '%s' is in use by the following service%s: %s", kind_text(k), o->spec.name,
		                  n > 1 ? "s" : "", buf_str(&names));
	buf_fini(&names);
	return rc;
}

static int remove_object(struct req *r, struct store_tx *tx, enum store_kind k, struct mesh_err *err)
{
	const void *found;
	int rc = api_find(r, k, &found, err);
	if (!rc)
		rc = check_unused(r->store, k, found, err);
	if (!rc)
		store_tx_delete(tx, k, ((const struct md_meta *)found)->id);
	return rc;
}

static int build_secret_remove(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	return remove_object(r, tx, STORE_SECRET, err);
}

static int build_config_remove(struct req *r, struct store_tx *tx, struct mesh_err *err)
{
	return remove_object(r, tx, STORE_CONFIG, err);
}

static void reply_gone(struct req *r)
{
	req_reply_empty(r, 204);
}

void api_secret_list(struct req *r)
{
	list(r, STORE_SECRET);
}

void api_secret_inspect(struct req *r)
{
	inspect(r, STORE_SECRET);
}

void api_secret_create(struct req *r)
{
	create(r, STORE_SECRET);
}

void api_secret_update(struct req *r)
{
	update(r, STORE_SECRET);
}

void api_secret_remove(struct req *r)
{
	req_change(r, build_secret_remove, reply_gone);
}

void api_config_list(struct req *r)
{
	list(r, STORE_CONFIG);
}

void api_config_inspect(struct req *r)
{
	inspect(r, STORE_CONFIG);
}

void api_config_create(struct req *r)
{
	create(r, STORE_CONFIG);
}

void api_config_update(struct req *r)
{
	update(r, STORE_CONFIG);
}

void api_config_remove(struct req *r)
{
	req_change(r, build_config_remove, reply_gone);
}
