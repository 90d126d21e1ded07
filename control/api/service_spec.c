/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/api/service_spec.h"

#include <ctype.h>
#include <inttypes.h>

#include "base/mem.h"
#include "control/api/http.h"
#include "control/model/tmpl.h"

#define MIN_NANO_CPUS 1000000
#define MIN_MEMORY (4 << 20)

#define INVALID(err, ...) api_rpc_fail(err, MESH_E_INVALID, "InvalidArgument", __VA_ARGS__)

static int check_name(const char *name, struct mesh_err *err)
{
	size_t n = name ? strlen(name) : 0;
	if (!n)
		return INVALID(err, "meta: name must be provided");
	if (n > 63)
		return INVALID(err, "name must be 63 characters or fewer");
	bool ok = isalnum((unsigned char)name[0]) && isalnum((unsigned char)name[n - 1]);
	for (size_t i = 0; i < n; i++)
		ok = ok && (isalnum((unsigned char)name[i]) || name[i] == '-' || name[i] == '_');
	return ok ? 0 : INVALID(err, "name must be valid as a DNS name component");
}

static int check_amounts(const char *what, int64_t cpus, int64_t memory, struct mesh_err *err)
{
	if (cpus && cpus < MIN_NANO_CPUS)
		return INVALID(err, "%s: invalid cpu value %g: Must be at least 0.001", what, (double)cpus / 1e9);
	if (memory && memory < MIN_MEMORY)
		return INVALID(err, "%s: invalid memory value %" PRId64 ": Must be at least 4MiB", what, memory);
	return 0;
}

static int check_resources(const struct md_resource_requirements *r, struct mesh_err *err)
{
	int rc = 0;
	if (r && r->limits)
		rc = check_amounts("limits", r->limits->nano_cpus, r->limits->memory_bytes, err);
	if (!rc && r && r->reservations)
		rc = check_amounts("reservations", r->reservations->nano_cpus, r->reservations->memory_bytes, err);
	if (!rc && r && r->limits && r->reservations && r->limits->memory_bytes &&
	    r->limits->memory_bytes < r->reservations->memory_bytes)
		rc = INVALID(err, "Minimum memory limit can not be less than memory reservation limit");
	return rc;
}

static int check_restart(const struct md_restart_policy *p, struct mesh_err *err)
{
	if (p && p->delay.set && p->delay.v < 0)
		return INVALID(err, "TaskSpec: restart-delay cannot be negative");
	if (p && p->window.set && p->window.v < 0)
		return INVALID(err, "TaskSpec: restart-window cannot be negative");
	return 0;
}

static int check_update(const char *what, const struct md_update_config *u, bool rollback, struct mesh_err *err)
{
	if (!u)
		return 0;
	if (u->delay < 0)
		return INVALID(err, "%s: delay cannot be negative", what);
	if (u->monitor < 0)
		return INVALID(err, "%s: monitor cannot be negative", what);
	if (!(u->max_failure_ratio >= 0 && u->max_failure_ratio <= 1))
		return INVALID(err, "%s: maxfailureratio cannot be less than 0 or bigger than 1", what);
	if (rollback && u->failure_action == MD_FAILURE_ROLLBACK)
		return INVALID(err, "%s: failure action cannot be rollback", what);
	return 0;
}

static int check_mount(const struct md_mount *m, struct mesh_err *err)
{
	const char *type = md_mount_type_names.names[m->type];
	if (!m->target || m->target[0] != '/')
		return INVALID(err, "ContainerSpec: mount target must be an absolute path, got \"%.200s\"",
		               m->target ? m->target : "");
	if (m->type == MD_MOUNT_BIND && (!m->source || m->source[0] != '/'))
		return INVALID(err, "ContainerSpec: bind source must be an absolute path, got \"%.200s\"",
		               m->source ? m->source : "");
	if (m->type == MD_MOUNT_TMPFS && m->source && *m->source)
		return INVALID(err, "ContainerSpec: source must not be specified for tmpfs mount");
	if (m->type != MD_MOUNT_BIND && m->type != MD_MOUNT_TMPFS && m->type != MD_MOUNT_VOLUME)
		return mesh_fail(err, MESH_E_UNSUPPORTED, "mount %s: type \"%s\" is not supported", m->target, type);
	return 0;
}

static int check_health(const struct md_health *h, struct mesh_err *err)
{
	const struct {
		const char *name;
		int64_t ns;
	} times[] = { { "Interval", h->interval },
		      { "Timeout", h->timeout },
		      { "StartPeriod", h->start_period },
		      { "StartInterval", h->start_interval } };
	for (size_t i = 0; i < ARRAY_SIZE(times); i++)
		if (times[i].ns && times[i].ns < 1000000)
			return INVALID(err, "ContainerSpec: %s in HealthCheck cannot be less than 1ms", times[i].name);
	return h->retries < 0 ? INVALID(err, "ContainerSpec: Retries in HealthCheck cannot be less than 0") : 0;
}

static int check_container(const struct md_container_spec *c, struct mesh_err *err)
{
	char normal[512];
	struct mesh_err inner = { 0 };
	if (!c->image || !*c->image)
		return INVALID(err, "ContainerSpec: image reference must be provided");
	if (image_ref_normalize(c->image, normal, &inner))
		return INVALID(err, "ContainerSpec: \"%.200s\" is not a valid repository/tag", c->image);
	if (c->stop_grace_period.set && c->stop_grace_period.v < 0)
		return INVALID(err, "ContainerSpec: stop-grace-period cannot be negative");
	for (size_t i = 0; i < c->mounts.n; i++) {
		int rc = check_mount(&c->mounts.v[i], err);
		if (rc)
			return rc;
		for (size_t k = 0; k < i; k++)
			if (streq(c->mounts.v[k].target, c->mounts.v[i].target))
				return INVALID(err, "ContainerSpec: duplicate mount point: %s", c->mounts.v[i].target);
	}
	int rc = c->health ? check_health(c->health, err) : 0;
	if (rc)
		return rc;
	if (c->isolation && *c->isolation && !streq(c->isolation, "default"))
		return INVALID(err, "ContainerSpec: isolation \"%.60s\" is for Windows containers", c->isolation);
	for (size_t i = 0; i < c->env.n; i++)
		if (!c->env.v[i][0] || c->env.v[i][0] == '=')
			return INVALID(err, "ContainerSpec: invalid environment variable: %.100s", c->env.v[i]);
	return 0;
}

static int check_ports(struct md_endpoint_spec *e, struct mesh_err *err)
{
	for (size_t i = 0; e && i < e->ports.n; i++) {
		struct md_port *p = &e->ports.v[i];
		if (!p->protocol)
			p->protocol = MD_PROTO_TCP;
		if (!p->mode)
			p->mode = MD_PUBLISH_INGRESS;
		if (!p->target || p->target > 65535 || p->published > 65535)
			return INVALID(err, "EndpointSpec: port %u:%u: ports are from 1 to 65535", p->published,
			               p->target);
		for (size_t k = 0; k < i; k++) {
			const struct md_port *q = &e->ports.v[k];
			if (p->published && q->published == p->published && q->protocol == p->protocol)
				return INVALID(err, "EndpointSpec: duplicate published ports provided");
		}
	}
	return 0;
}

static int check_mode(struct md_service_spec *s, struct mesh_err *err)
{
	struct md_mode *m = &s->mode;
	int given = !!m->replicated + !!m->global + !!m->replicated_job + !!m->global_job;
	if (given > 1)
		return mesh_fail(err, MESH_E_INVALID, "must specify only one service mode");
	if (!given)
		m->replicated = XNEW(struct md_replicated);
	if (m->replicated && !m->replicated->replicas.set)
		m->replicated->replicas = (struct opt_u64){ true, 1 };
	if (m->replicated_job) {
		struct md_replicated_job *j = m->replicated_job;
		if (!j->max_concurrent.set)
			j->max_concurrent = (struct opt_u64){ true, 1 };
		if (!j->total_completions.set)
			j->total_completions = (struct opt_u64){ true, j->max_concurrent.v };
	}
	bool job = m->replicated_job || m->global_job;
	if (job && s->task.restart && s->task.restart->condition == MD_RESTART_ANY)
		return INVALID(err, "restart condition \"any\" cannot be used with jobs");
	return 0;
}

static int check_template(const struct tmpl_vars *v, const char *what, const char *text, struct mesh_err *err)
{
	struct mesh_err why = { 0 };
	CLEAN_FREE char *out = NULL;
	return tmpl_expand_str(v, text, &out, &why) ? INVALID(err, "expanding %s failed: %s", what, why.msg) : 0;
}

static int check_templates_of(const struct tmpl_vars *v, const char *what, const struct str_map *m,
                              struct mesh_err *err)
{
	int rc = 0;
	for (size_t i = 0; i < m->n && !rc; i++)
		rc = check_template(v, what, m->v[i].value, err);
	return rc;
}

static int check_mount_templates(const struct tmpl_vars *v, const struct md_mount *m, struct mesh_err *err)
{
	int rc = check_template(v, "mounts", m->source, err);
	if (!rc)
		rc = check_template(v, "mounts", m->target, err);
	if (!rc && m->volume)
		rc = check_templates_of(v, "volume labels", &m->volume->labels, err);
	if (!rc && m->volume && m->volume->driver)
		rc = check_templates_of(v, "volume driver options", &m->volume->driver->options, err);
	return rc;
}

/* Placeholders are filled in on the node; what cannot be is said here, of a task made up. */
static int check_templates(const struct md_service_spec *s, struct mesh_err *err)
{
	const struct md_container_spec *c = s->task.container;
	struct tmpl_vars v = { .service_id = "serviceid",
		               .service_name = s->name,
		               .service_labels = &s->labels,
		               .node_id = "nodeid",
		               .task_id = "taskid",
		               .task_name = "taskname",
		               .task_slot = "1" };
	int rc = check_template(&v, "hostname", c->hostname, err);
	for (size_t i = 0; i < c->env.n && !rc; i++) {
		const char *value = strchr(c->env.v[i], '=');
		rc = value ? check_template(&v, "env", value + 1, err) : 0;
	}
	for (size_t i = 0; i < c->mounts.n && !rc; i++)
		rc = check_mount_templates(&v, &c->mounts.v[i], err);
	v.any_case = true;
	for (size_t i = 0; i < s->task.networks.n && !rc; i++)
		for (size_t k = 0; k < s->task.networks.v[i].aliases.n && !rc; k++)
			rc = check_template(&v, "alias", s->task.networks.v[i].aliases.v[k], err);
	return rc;
}

int service_spec_check(struct md_service_spec *s, struct mesh_err *err)
{
	int rc = check_name(s->name, err);
	if (rc)
		return rc;
	if (s->task.attachment || (s->task.runtime && *s->task.runtime && !streq(s->task.runtime, "container")))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "runtime \"%.40s\" is not supported",
		                 s->task.attachment ? "attachment" : s->task.runtime);
	if (!s->task.container)
		return INVALID(err, "TaskSpec: ContainerSpec is missing");
	if (!s->task.runtime || !*s->task.runtime)
		str_set(&s->task.runtime, "container");
	if (!s->task.container->isolation || !*s->task.container->isolation)
		str_set(&s->task.container->isolation, "default");
	rc = check_mode(s, err);
	if (!rc)
		rc = check_container(s->task.container, err);
	if (!rc)
		rc = check_templates(s, err);
	if (!rc)
		rc = check_resources(s->task.resources, err);
	if (!rc)
		rc = check_restart(s->task.restart, err);
	if (!rc)
		rc = check_update("UpdateConfig", s->update, false, err);
	if (!rc)
		rc = check_update("RollbackConfig", s->rollback, true, err);
	return rc ? rc : check_ports(s->endpoint, err);
}

static void warn(struct str_list *warnings, const char *at, const char *key)
{
	CLEAN_FREE char *w = xasprintf("%s%.100s: not supported, ignored", at, key);
	strs_add(warnings, w);
}

void service_spec_warn(const struct md_service_spec *s, struct str_list *warnings)
{
	const struct md_driver *log = s->task.log_driver;
	for (size_t i = 0; log && i < log->options.n; i++)
		if (!streq(log->options.v[i].key, "max-size") && !streq(log->options.v[i].key, "max-file"))
			warn(warnings, "TaskTemplate.LogDriver.Options.", log->options.v[i].key);
	for (size_t i = 0; i < s->task.networks.n; i++)
		for (size_t k = 0; k < s->task.networks.v[i].driver_opts.n; k++)
			warn(warnings, "TaskTemplate.Networks.DriverOpts.", s->task.networks.v[i].driver_opts.v[k].key);
}

/* ---- names to ids ----------------------------------------------------------------------------- */

static int resolve_network(const struct store *s, struct md_network_config *c, struct mesh_err *err)
{
	const void *found;
	const char *name = c->target ? c->target : "";
	const char *local = local_network_name(name);
	if (local && streq(local, "none"))
		return mesh_fail(err, MESH_E_UNSUPPORTED,
		                 "network none: a service without any network is not supported");
	if (local) {
		str_set(&c->target, local);
		return 0;
	}
	int rc = store_find(s, STORE_NETWORK, name, &found, err);
	if (rc)
		return rc == MESH_E_NOT_FOUND ? mesh_fail(err, rc, "network %.200s not found", name) : rc;
	const struct md_network *n = found;
	if (n->spec.ingress)
		return INVALID(err, "Service cannot be explicitly attached to the ingress network \"%s\"",
		               n->spec.name);
	str_set(&c->target, n->meta.id);
	return 0;
}

static bool is_attached(const struct md_task_spec *t, size_t upto, const char *id)
{
	for (size_t i = 0; i < upto; i++)
		if (streq(t->networks.v[i].target, id))
			return true;
	return false;
}

static int resolve_networks(const struct store *s, struct md_service_spec *spec, struct mesh_err *err)
{
	struct md_task_spec *t = &spec->task;
	if (!t->networks.n) {
		t->networks.v = spec->networks.v;
		t->networks.n = spec->networks.n;
		spec->networks.v = NULL;
		spec->networks.n = 0;
	}
	for (size_t i = 0; i < t->networks.n; i++) {
		int rc = resolve_network(s, &t->networks.v[i], err);
		if (rc)
			return rc;
		if (is_attached(t, i, t->networks.v[i].target))
			return INVALID(err, "network %s is given twice", t->networks.v[i].target);
	}
	/* Given in both places: the task's wins, as in the engine; the old place is not kept. */
	for (size_t i = 0; i < spec->networks.n; i++)
		sch_clear(&md_network_config_schema, &spec->networks.v[i]);
	free(spec->networks.v);
	spec->networks.v = NULL;
	spec->networks.n = 0;
	return 0;
}

/* id may be empty when name is given. */
static int resolve_ref(const struct store *s, enum store_kind k, char id[MESH_ID_LEN + 1], char **name,
                       struct mesh_err *err)
{
	const void *found = *id ? store_get(s, k, id) : *name ? store_by_name(s, k, *name) : NULL;
	if (!found)
		return INVALID(err, "%s not found: %.200s", store_kind_name(k), *name && **name ? *name : id);
	const struct md_secret *o = found; /* a config begins alike */
	mesh_id_set(id, o->meta.id);
	if (!*name || !**name)
		str_set(name, o->spec.name);
	return 0;
}

int service_spec_resolve(const struct store *s, struct md_service_spec *spec, struct mesh_err *err)
{
	struct md_container_spec *c = spec->task.container;
	int rc = resolve_networks(s, spec, err);
	for (size_t i = 0; !rc && i < c->secrets.n; i++)
		rc = resolve_ref(s, STORE_SECRET, c->secrets.v[i].secret.s, &c->secrets.v[i].secret_name, err);
	for (size_t i = 0; !rc && i < c->configs.n; i++)
		rc = resolve_ref(s, STORE_CONFIG, c->configs.v[i].config.s, &c->configs.v[i].config_name, err);
	return rc;
}

void service_spec_name(struct md_service_spec *spec, const struct store *s, struct mesh_rng *rng)
{
	static const char *const left[] = { "brave", "bright", "calm",  "clever", "eager", "gentle", "happy", "keen",
		                            "kind",  "lively", "lucid", "merry",  "quick", "quiet",  "sharp", "steady",
		                            "sunny", "swift",  "vivid", "warm",   "wise",  "witty",  "bold",  "fair" };
	static const char *const right[] = { "badger",  "beaver", "crane", "dolphin", "falcon", "finch",
		                             "fox",     "gecko",  "hare",  "heron",   "ibex",   "jay",
		                             "kestrel", "lark",   "lynx",  "marten",  "otter",  "owl",
		                             "raven",   "robin",  "seal",  "stork",   "swan",   "wren" };
	for (unsigned i = 0;; i++) {
		const char *a = left[mesh_rng_below(rng, ARRAY_SIZE(left))];
		const char *b = right[mesh_rng_below(rng, ARRAY_SIZE(right))];
		char *name = i < 8 ? xasprintf("%s_%s", a, b)
		                   : xasprintf("%s_%s%u", a, b, (unsigned)mesh_rng_below(rng, 1000000));
		bool taken = store_by_name(s, STORE_SERVICE, name) != NULL;
		if (!taken)
			str_set(&spec->name, name);
		free(name);
		if (!taken)
			return;
	}
}

bool service_spec_publishes(const struct md_service_spec *old, const struct md_port *p)
{
	for (size_t i = 0; old && old->endpoint && i < old->endpoint->ports.n; i++) {
		const struct md_port *q = &old->endpoint->ports.v[i];
		if (q->mode != MD_PUBLISH_HOST && q->published == p->published && q->protocol == p->protocol)
			return true;
	}
	return false;
}
