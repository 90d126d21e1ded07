/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stack deploy: a plan made of compose files -> objects of the cluster. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"
#include "cli/api.h"
#include "cli/progress.h"
#include "cli/service.h"
#include "cli/show.h"
#include "cli/stack.h"
#include "cli/stack_files.h"

#define POLL_MS 150
/* A dependency that only has to be started is waited for this long, then deploying goes on. */
#define STARTED_WAIT_MS 30000
#define UPDATE_TRIES 5
#define VERSION_LABEL "mesh.stack.version-of"

/* ---- networks ------------------------------------------------------------------------------------ */

struct deploy {
	struct cli *c;
	const char *stack;
	json_t *plan;
	json_t *services;        /* of the stack, as they were */
	struct map current;      /* secret and config names of the plan -> name of the current version (owned) */
	struct map networks;     /* names -> ids (owned) */
	struct str_list touched; /* ids of services made or changed */
	struct str_list unused;  /* "secrets/<id>" of versions no longer wanted */
};

static int check_external(struct deploy *d, const char *name, struct mesh_err *err)
{
	CLEAN_FREE char *arg = url_dup(name);
	JSON_CLEAN net = NULL;
	int rc;

	if (!strcmp(name, "host") || !strcmp(name, "none") || !strcmp(name, "bridge"))
		return 0;
	rc = api_get(d->c, &net, err, "/networks/%s", arg);
	/* What starts an id by chance is not what the file means. */
	if (!rc && strcmp(js(net, "Name"), name) && strcmp(js(net, "Id"), name))
		rc = MESH_E_NOT_FOUND;
	if (rc == MESH_E_NOT_FOUND)
		return mesh_fail(err, rc,
		                 "network \"%s\" is declared as external, but could not be found. You need to create a "
		                 "swarm-scoped network before the stack is deployed",
		                 name);
	if (!rc && strcmp(js(net, "Scope"), "swarm"))
		return mesh_fail(
			err, MESH_E_INVALID,
			"network \"%s\" is declared as external, but it is not in the right scope: \"%s\" instead of "
			"\"swarm\"",
			name, js(net, "Scope"));
	return rc;
}

static json_t *by_name(json_t *list, const char *path, const char *name)
{
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		if (!strcmp(js(o, path), name))
			return o;
	}
	return NULL;
}

/* A network cannot be changed while it exists; better said than silently kept. */
static void compare_network(const json_t *want, const json_t *have)
{
	static const char *const flags[] = { "Internal", "Attachable", "EnableIPv6" };
	const char *subnet = js(json_array_get(jo(want, "IPAM.Config"), 0), "Subnet");
	bool same = !strcmp(js(want, "Driver"), js(have, "Driver")) &&
	            (!*subnet || !strcmp(subnet, js(json_array_get(jo(have, "IPAM.Config"), 0), "Subnet")));

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		same = same && jb(want, flags[i]) == jb(have, flags[i]);
	if (!same)
		fprintf(stderr,
		        "warning: network %s exists with other settings, which stay as they are until it is removed\n",
		        js(want, "Name"));
}

/* What the daemon says against a part of the stack, behind where that stands: "stack.yml:12: services.web: ...". */
static int placed(const struct deploy *d, const char *section, const json_t *one, int rc, struct mesh_err *err)
{
	CLEAN_FREE char *key = xasprintf("%s.%s", section, js(one, "key"));
	const char *place = json_string_value(json_object_get(jo(d->plan, "places"), key));

	return rc < 0 && place ? mesh_wrap(err, rc, "%s: %s", place, key) : rc;
}

static int deploy_networks(struct deploy *d, struct mesh_err *err)
{
	JSON_CLEAN have = NULL;
	json_t *n;
	size_t i;
	int rc = stack_objects(d->c, "networks", d->stack, &have, err);

	json_array_foreach(jo(d->plan, "networks"), i, n)
	{
		JSON_CLEAN answer = NULL;
		json_t *body = jo(n, "body"), *old = by_name(have, "Name", js(n, "name"));
		if (rc < 0 || jb(n, "external"))
			continue;
		if (old) {
			compare_network(body, old);
			continue;
		}
		printf("Creating network %s\n", js(n, "name"));
		fflush(stdout);
		rc = api_post(d->c, body, &answer, err, "/networks/create");
		if (rc < 0)
			return placed(d, "networks", n,
			              mesh_wrap(err, rc, "failed to create network %s", js(n, "name")), err);
		if (*js(answer, "Warning"))
			fprintf(stderr, "warning: network %s: %s\n", js(n, "name"), js(answer, "Warning"));
	}
	return rc;
}

/* ---- secrets and configs -------------------------------------------------------------------------- */

/* Their contents never change under a name. New contents make a new version, "name.2" and so on, and the services
 * that use it roll to it; the version before stays, so that a service can be rolled back. */
struct kind {
	const char *path, *noun;
};
static const struct kind kinds[] = { { "secrets", "secret" }, { "configs", "config" } };

static long version_of(const json_t *o, const char *name)
{
	const char *have = js(o, "Spec.Name"),
		   *base = json_string_value(json_object_get(jo(o, "Spec.Labels"), VERSION_LABEL));
	size_t n = strlen(name);

	if (!strcmp(have, name))
		return 1;
	return base && !strcmp(base, name) && !strncmp(have, name, n) && have[n] == '.' ? strtol(have + n + 1, NULL, 10)
	                                                                                : 0;
}

static json_t *newest(json_t *all, const char *name, long *version)
{
	json_t *o, *best = NULL;
	size_t i;

	*version = 0;
	json_array_foreach(all, i, o)
	{
		long v = version_of(o, name);
		if (v > *version) {
			*version = v;
			best = o;
		}
	}
	return best;
}

/* The daemon compares the contents: it is the only one who may see a secret's. */
static int keep_version(struct deploy *d, const struct kind *k, const json_t *old, const json_t *body, bool *changed,
                        struct mesh_err *err)
{
	JSON_CLEAN spec = json_copy((json_t *)body);
	JSON_CLEAN labels = json_copy(jo(body, "Labels"));
	const char *version_label = json_string_value(json_object_get(jo(old, "Spec.Labels"), VERSION_LABEL));

	*changed = false;
	json_object_set_new(spec, "Name", json_string(js(old, "Spec.Name")));
	if (version_label)
		json_object_set_new(labels, VERSION_LABEL, json_string(version_label));
	json_object_set(spec, "Labels", labels);
	int rc = api_post(d->c, spec, NULL, err, "/%s/%s/update?version=%lld", k->path, js(old, "ID"),
	                  (long long)ji(old, "Version.Index"));
	if (rc < 0 && err && strstr(err->msg, "only updates to Labels are allowed")) {
		*changed = true;
		return 0;
	}
	return rc < 0 ? mesh_wrap(err, rc, "failed to update %s %s", k->noun, js(old, "Spec.Name")) : 0;
}

static int create_version(struct deploy *d, const struct kind *k, const json_t *body, const char *base, long version,
                          char **name, struct mesh_err *err)
{
	JSON_CLEAN spec = json_copy((json_t *)body);
	JSON_CLEAN labels = json_copy(jo(body, "Labels"));

	*name = version > 1 ? xasprintf("%s.%ld", base, version) : xstrdup(base);
	if (version > 1)
		json_object_set_new(labels, VERSION_LABEL, json_string(base));
	json_object_set_new(spec, "Name", json_string(*name));
	json_object_set(spec, "Labels", labels);
	printf("Creating %s %s\n", k->noun, *name);
	fflush(stdout);
	int rc = api_post(d->c, spec, NULL, err, "/%s/create", k->path);
	return rc < 0 ? mesh_wrap(err, rc, "failed to create %s %s", k->noun, *name) : 0;
}

/* All but the current version and the one before it. */
static void note_unused(struct deploy *d, const struct kind *k, json_t *all, const char *name, long current)
{
	json_t *o;
	size_t i;

	json_array_foreach(all, i, o)
	{
		long v = version_of(o, name);
		if (v > 0 && v < current - 1) {
			CLEAN_FREE char *path = xasprintf("%s/%s", k->path, js(o, "ID"));
			strs_add(&d->unused, path);
		}
	}
}

static int deploy_object(struct deploy *d, const struct kind *k, json_t *all, const json_t *one, struct mesh_err *err)
{
	const char *name = js(one, "name");
	long version;
	json_t *old = newest(all, name, &version), *foreign = NULL;
	bool changed = true;
	char *current = NULL;
	int rc = 0;

	if (!old) {
		/* Made by hand under that name: docker takes it over, and so do we. */
		CLEAN_FREE char *arg = url_dup(name);
		rc = api_get(d->c, &foreign, err, "/%s/%s", k->path, arg);
		old = foreign;
		version = old ? 1 : 0;
		rc = rc == MESH_E_NOT_FOUND ? 0 : rc;
	}
	if (!rc && old)
		rc = keep_version(d, k, old, jo(one, "body"), &changed, err);
	if (!rc && changed)
		rc = create_version(d, k, jo(one, "body"), name, ++version, &current, err);
	else if (!rc)
		current = xstrdup(js(old, "Spec.Name"));
	if (!rc)
		note_unused(d, k, all, name, version);
	CLEAN_FREE char *key = xasprintf("%s/%s", k->path, name);
	free(map_put(&d->current, key, current));
	json_decref(foreign);
	return rc;
}

static int deploy_objects(struct deploy *d, const struct kind *k, struct mesh_err *err)
{
	JSON_CLEAN all = NULL;
	json_t *one;
	size_t i;
	int rc = json_array_size(jo(d->plan, k->path)) ? stack_objects(d->c, k->path, d->stack, &all, err) : 0;

	json_array_foreach(jo(d->plan, k->path), i, one)
	{
		if (!rc && !jb(one, "external"))
			rc = placed(d, k->path, one, deploy_object(d, k, all, one, err), err);
	}
	return rc;
}

/* Names of the plan -> names of the current versions. */
static void current_names(struct deploy *d, json_t *body)
{
	static const char *const fields[][2] = { { "Secrets", "SecretName" }, { "Configs", "ConfigName" } };
	json_t *ref;
	size_t i;

	for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
		json_array_foreach(json_object_get(jo(body, "TaskTemplate.ContainerSpec"), fields[k][0]), i, ref)
		{
			CLEAN_FREE char *key = xasprintf("%s/%s", kinds[k].path, js(ref, fields[k][1]));
			const char *now = map_get(&d->current, key);
			if (now)
				json_object_set_new(ref, fields[k][1], json_string(now));
		}
}

static int credential_config(struct deploy *d, json_t *body, struct mesh_err *err)
{
	const char *path = "TaskTemplate.ContainerSpec.Privileges.CredentialSpec.Config", *name = js(body, path);
	CLEAN_FREE char *key = xasprintf("configs/%s", name);
	const char *now = map_get(&d->current, key);
	CLEAN_FREE char *arg = url_dup(now ? now : name);
	JSON_CLEAN config = NULL;

	if (!*name)
		return 0;
	int rc = api_get(d->c, &config, err, "/configs/%s", arg);
	if (!rc)
		jset(body, path, json_string(js(config, "ID")));
	return rc;
}

/* Networks by id, in the order of their names: another order would be another spec. */
static int network_ids(struct deploy *d, json_t *nets, struct mesh_err *err)
{
	json_t *n;
	size_t i;

	json_array_foreach(nets, i, n)
	{
		const char *name = js(n, "Target"), *id = map_get(&d->networks, name);
		if (!id) {
			CLEAN_FREE char *arg = url_dup(name);
			JSON_CLEAN net = NULL;
			int rc = api_get(d->c, &net, err, "/networks/%s", arg);
			if (rc < 0)
				return rc;
			map_put(&d->networks, name, xstrdup(js(net, "Id")));
			id = map_get(&d->networks, name);
		}
		json_object_set_new(n, "Target", json_string(id));
	}
	return 0;
}

static int resolve(struct deploy *d, json_t *spec, struct mesh_err *err)
{
	JSON_CLEAN nets = json_incref(jo(spec, "TaskTemplate.Networks"));
	int rc = network_ids(d, nets, err);

	current_names(d, spec);
	jdel(spec, "TaskTemplate.Networks");
	if (!rc)
		rc = service_references(d->c, spec, err);
	jset(spec, "TaskTemplate.Networks", json_incref(nets));
	return rc < 0 ? rc : credential_config(d, spec, err);
}

/* ---- what a service waits for --------------------------------------------------------------------- */

struct status {
	int64_t running, desired, completed, total;
	bool job;
};

static int status_of(struct deploy *d, const char *name, struct status *st, struct mesh_err *err)
{
	CLEAN_FREE char *filter = api_filter1("name", name);
	JSON_CLEAN list = NULL;
	int rc = api_get(d->c, &list, err, "/services?status=true&filters=%s", filter);
	const json_t *s = by_name(list, "Spec.Name", name);

	*st = (struct status){ 0 };
	if (rc < 0)
		return rc;
	if (!s)
		return mesh_fail(err, MESH_E_NOT_FOUND, "service %s is gone", name);
	st->running = ji(s, "ServiceStatus.RunningTasks");
	st->desired = ji(s, "ServiceStatus.DesiredTasks");
	st->completed = ji(s, "ServiceStatus.CompletedTasks");
	st->job = jo(s, "Spec.Mode.ReplicatedJob") || jo(s, "Spec.Mode.GlobalJob");
	st->total = jo(s, "Spec.Mode.ReplicatedJob.TotalCompletions")
	                    ? ji(s, "Spec.Mode.ReplicatedJob.TotalCompletions")
	            : jo(s, "Spec.Mode.GlobalJob") ? st->desired + st->completed
	                                           : 1;
	return 0;
}

static bool satisfied(const struct status *st, const char *condition)
{
	if (!strcmp(condition, "service_completed_successfully"))
		return st->completed >= st->total && st->total > 0;
	if (!strcmp(condition, "service_healthy"))
		return st->running >= st->desired && (st->desired || st->job);
	return st->running > 0 || st->completed > 0 || (!st->desired && !st->job);
}

static int wait_for(struct deploy *d, const char *service, const json_t *dep, struct mesh_err *err)
{
	const char *condition = js(dep, "condition");
	CLEAN_FREE char *name = xasprintf("%s_%s", d->stack, js(dep, "service"));
	bool started = !strcmp(condition, "service_started"), said = false;
	int64_t begin = mono_ms(), limit = started ? STARTED_WAIT_MS : flag_int(d->c, "wait-timeout") / 1000000;
	struct status st;

	for (;; pause_ms(POLL_MS)) {
		int rc = status_of(d, name, &st, err);
		if (rc < 0)
			return mesh_wrap(err, rc, "service %s: depends_on", service);
		if (satisfied(&st, condition))
			return 0;
		if (!strcmp(condition, "service_completed_successfully") && !st.job)
			return mesh_fail(err, MESH_E_INVALID,
			                 "service %s: depends_on %s: it never completes: its deploy.mode must be "
			                 "replicated-job or "
			                 "global-job",
			                 service, js(dep, "service"));
		if (!said && mono_ms() - begin > 2000) {
			printf("Waiting for service %s (%s)\n", name, condition + strlen("service_"));
			fflush(stdout);
			said = true;
		}
		if (mono_ms() - begin > limit)
			break;
	}
	if (started || !jb(dep, "required")) {
		fprintf(stderr, "warning: service %s has no running task yet, going on without it\n", name);
		return 0;
	}
	return mesh_fail(err, MESH_E_TIMEOUT, "service %s: depends_on %s: not %s after %lld s (%lld of %lld tasks)",
	                 service, js(dep, "service"), condition + strlen("service_"), (long long)(limit / 1000),
	                 (long long)(st.job ? st.completed : st.running), (long long)(st.job ? st.total : st.desired));
}

/* ---- services ------------------------------------------------------------------------------------ */

static void print_answer(const json_t *answer)
{
	json_t *w;
	size_t i;

	if (*js(answer, "Warning"))
		fprintf(stderr, "%s\n", js(answer, "Warning"));
	json_array_foreach(jo(answer, "Warnings"), i, w)
	{
		fprintf(stderr, "%s\n", json_string_value(w) ? json_string_value(w) : "");
	}
}

static int post_spec(struct deploy *d, const char *path, json_t *spec, const char *headers, json_t **answer,
                     struct mesh_err *err)
{
	CLEAN_FREE char *text = json_line(spec);
	struct http_request req = {
		.method = "POST", .path = path, .body = text, .body_len = strlen(text), .headers = headers
	};

	return api_call(d->c, &req, answer, err);
}

static int create_service(struct deploy *d, const char *name, json_t *spec, const char *headers, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;

	printf("Creating service %s\n", name);
	fflush(stdout);
	if (strcmp(flag_str(d->c, "resolve-image"), "never"))
		service_pin_image(d->c, spec, headers);
	int rc = post_spec(d, "/services/create", spec, headers, &answer, err);
	if (rc < 0)
		return mesh_wrap(err, rc, "failed to create service %s", name);
	print_answer(answer);
	strs_add(&d->touched, js(answer, "ID"));
	return 0;
}

/* Which image to ask for: that of the file, or what an earlier deploy made of it. */
static void image_of_update(struct deploy *d, json_t *spec, const json_t *old, const char *headers)
{
	const char *mode = flag_str(d->c, "resolve-image"), *image = js(spec, "TaskTemplate.ContainerSpec.Image");
	const char *before = json_string_value(json_object_get(jo(old, "Spec.Labels"), STACK_IMAGE_LABEL));
	bool changed = !before || strcmp(image, before);

	if (!strcmp(mode, "always") || (!strcmp(mode, "changed") && changed)) {
		service_pin_image(d->c, spec, headers);
	} else if (!changed) {
		jset(spec, "TaskTemplate.ContainerSpec.Image",
		     json_string(js(old, "Spec.TaskTemplate.ContainerSpec.Image")));
		if (jo(old, "Spec.TaskTemplate.Placement.Platforms") && !jo(spec, "TaskTemplate.Placement.Platforms"))
			jset(spec, "TaskTemplate.Placement.Platforms",
			     json_incref(jo(old, "Spec.TaskTemplate.Placement.Platforms")));
	}
}

/* Posting the same again starts a paused update anew; else it would only forget what to roll back to. */
static bool up_to_date(const json_t *spec, const json_t *old)
{
	return !strstr(js(old, "UpdateStatus.State"), "paused") && stack_same_spec(spec, jo(old, "Spec"));
}

static int post_update(struct deploy *d, json_t *spec, const json_t *old, const char *headers, struct mesh_err *err)
{
	JSON_CLEAN answer = NULL;
	JSON_CLEAN now = NULL;
	int64_t version = ji(old, "Version.Index");
	int rc;

	/* The service may have changed since it was read: an update of it that still goes on writes its progress. */
	for (int attempt = 0;; attempt++) {
		CLEAN_FREE char *path = xasprintf("/services/%s/update?%sversion=%lld", js(old, "ID"),
		                                  headers ? "" : "registryAuthFrom=spec&", (long long)version);
		rc = post_spec(d, path, spec, headers, &answer, err);
		if (rc >= 0 || attempt == UPDATE_TRIES || !err || !strstr(err->msg, "out of sequence"))
			break;
		json_decref(now);
		now = NULL;
		rc = api_get(d->c, &now, err, "/services/%s?insertDefaults=false", js(old, "ID"));
		if (rc < 0)
			break;
		version = ji(now, "Version.Index");
	}
	if (rc >= 0)
		print_answer(answer);
	return rc;
}

static int update_service(struct deploy *d, const char *name, json_t *spec, const json_t *old, const char *headers,
                          struct mesh_err *err)
{
	image_of_update(d, spec, old, headers);
	jset(spec, "TaskTemplate.ForceUpdate", json_integer(ji(old, "Spec.TaskTemplate.ForceUpdate")));
	if (!headers && up_to_date(spec, old)) {
		printf("Service %s is up to date (id: %s)\n", name, js(old, "ID"));
		fflush(stdout);
		return 0;
	}
	printf("Updating service %s (id: %s)\n", name, js(old, "ID"));
	fflush(stdout);
	int rc = post_update(d, spec, old, headers, err);
	if (rc < 0)
		return mesh_wrap(err, rc, "failed to update service %s", name);
	strs_add(&d->touched, js(old, "ID"));
	return 0;
}

static int deploy_service(struct deploy *d, const json_t *one, struct mesh_err *err)
{
	json_t *spec = jo(one, "body"), *old, *dep;
	const char *name = js(spec, "Name");
	CLEAN_FREE char *headers = NULL;
	size_t i;
	int rc = 0;

	json_array_foreach(jo(one, "after"), i, dep)
	{
		if (!rc)
			rc = wait_for(d, js(one, "key"), dep, err);
	}
	if (rc < 0)
		return rc;
	rc = resolve(d, spec, err);
	if (rc < 0)
		return rc;
	rc = service_credentials(d->c, js(spec, "TaskTemplate.ContainerSpec.Image"), &headers, err);
	if (rc < 0)
		return rc;
	old = by_name(d->services, "Spec.Name", name);
	return old ? update_service(d, name, spec, old, headers, err) : create_service(d, name, spec, headers, err);
}

/* ---- deploy -------------------------------------------------------------------------------------- */

static void prune(struct deploy *d)
{
	JSON_CLEAN gone = json_array();
	json_t *s, *one;
	size_t i, k;

	json_array_foreach(d->services, i, s)
	{
		bool wanted = false;
		json_array_foreach(jo(d->plan, "services"), k, one)
		{
			wanted = wanted || !strcmp(js(one, "body.Name"), js(s, "Spec.Name"));
		}
		if (!wanted)
			json_array_append(gone, s);
	}
	(void)stack_remove(d->c, "services", "service", gone);
}

static int check_manager(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN info = NULL;
	int rc = api_get(c, &info, err, "/info");

	if (!rc && !jb(info, "Swarm.ControlAvailable"))
		return mesh_fail(err, MESH_E_NOT_MANAGER,
		                 "this node is not a swarm manager. Use \"meshctl swarm init\" or \"meshctl swarm "
		                 "join\" to connect "
		                 "this node to swarm and try again");
	return rc;
}

static int deploy_all(struct deploy *d, struct mesh_err *err)
{
	json_t *one;
	size_t i;
	int rc = stack_objects(d->c, "services", d->stack, &d->services, err);

	json_array_foreach(jo(d->plan, "networks"), i, one)
	{
		if (!rc && jb(one, "external"))
			rc = placed(d, "networks", one, check_external(d, js(one, "name"), err), err);
	}
	if (!rc && flag_bool(d->c, "prune"))
		prune(d);
	if (!rc)
		rc = deploy_networks(d, err);
	for (size_t k = 0; k < ARRAY_SIZE(kinds) && !rc; k++)
		rc = deploy_objects(d, &kinds[k], err);
	json_array_foreach(jo(d->plan, "services"), i, one)
	{
		if (!rc)
			rc = placed(d, "services", one, deploy_service(d, one, err), err);
	}
	/* Old versions that something still uses are refused and stay; the next deploy asks again. */
	for (size_t k = 0; k < d->unused.n && !rc; k++)
		if (api_delete(d->c, NULL, NULL, "/%s", d->unused.v[k]) < 0)
			continue;
	return rc;
}

static int wait_converged(struct deploy *d, struct mesh_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < d->touched.n && !rc; i++)
		rc = progress_service(d->c, d->touched.v[i], flag_bool(d->c, "quiet"), err);
	return rc;
}

static int resolve_mode(struct cli *c, struct mesh_err *err)
{
	const char *mode = flag_str(c, "resolve-image");

	if (strcmp(mode, "always") && strcmp(mode, "changed") && strcmp(mode, "never"))
		return mesh_fail(err, MESH_E_INVALID, "Invalid option %s for flag --resolve-image", mode);
	return 0;
}

static int run_deploy(struct cli *c, struct mesh_err *err)
{
	struct deploy d = { .c = c, .stack = c->args[0] };
	struct stack_files in = { 0 };
	int rc = stack_name_check(d.stack, err);

	if (!rc)
		rc = resolve_mode(c, err);
	if (!rc)
		rc = stack_files_load(c, &in, false, err);
	if (!rc)
		rc = compose_plan(&in.compose, d.stack, &d.plan, err);
	if (!rc || in.compose.root)
		stack_print_warnings(&in.compose);
	if (!rc)
		rc = check_manager(c, err);
	if (!rc)
		rc = deploy_all(&d, err);
	if (!rc && !flag_bool(c, "detach"))
		rc = wait_converged(&d, err);
	MAP_FOREACH(&d.current, e)
		free(e->value);
	map_fini(&d.current);
	MAP_FOREACH(&d.networks, e)
		free(e->value);
	map_fini(&d.networks);
	strs_clear(&d.touched);
	strs_clear(&d.unused);
	json_decref(d.plan);
	json_decref(d.services);
	stack_files_fini(&in);
	return rc;
}

static const struct flag deploy_flags[] = {
	{ "compose-file", 'c', F_LIST, "strings", NULL, "Path to a Compose file, or \"-\" to read from stdin" },
	{ "detach", 'd', F_BOOL, NULL, "true",
	  "Exit immediately instead of waiting for the stack services to converge" },
	{ "prune", 0, F_BOOL, NULL, NULL, "Prune services that are no longer referenced" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress progress output" },
	{ "resolve-image", 0, F_STR, NULL, "always",
	  "Query the registry to resolve image digest and supported platforms", "always changed never" },
	{ "wait-timeout", 0, F_DURATION, NULL, "5m", "How long to wait for a service that another depends on" },
	{ "with-registry-auth", 0, F_BOOL, NULL, NULL, "Send registry authentication details to Swarm agents" },
};

const struct command stack_deploy_command = {
	.name = "deploy",
	.alias = "up",
	.usage = "STACK",
	.summary = "Deploy a new stack or update an existing stack",
	.more = "Changes only what changed. New contents of a config or secret make a new version of it (name.2), to "
		"which\n"
		"its services roll. Services are made in the order of depends_on, and wait for what it says.",
	FLAGS(deploy_flags),
	.run = run_deploy,
	.min = 1,
	.max = 1,
	.comp = "stack",
	.example = "  meshctl stack deploy -c shop.yml shop\n"
		   "  meshctl stack deploy -c shop.yml -c production.yml --prune shop",
};
