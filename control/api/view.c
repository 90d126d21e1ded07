/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/api/view.h"

#include <stdio.h>

#include "base/mem.h"

/* ---- services --------------------------------------------------------------------------------- */

static void count_task(const struct md_service *sv, enum md_service_mode mode, const struct md_task *t,
                       struct view_counts *c)
{
	bool running = t->status.state == MD_TASK_RUNNING;
	if (mode == MD_MODE_REPLICATED || mode == MD_MODE_GLOBAL) {
		c->running += running && t->desired_state == MD_TASK_RUNNING;
		c->desired += mode == MD_MODE_GLOBAL && t->desired_state == MD_TASK_RUNNING && !md_task_ended(t);
		return;
	}
	uint64_t now = sv->job_status ? sv->job_status->iteration.index : 0;
	if ((t->job_iteration ? t->job_iteration->index : 0) != now)
		return;
	c->running += running;
	c->completed += t->status.state == MD_TASK_COMPLETE;
	c->desired += mode == MD_MODE_GLOBAL_JOB && t->desired_state <= MD_TASK_COMPLETE && !md_task_ended(t);
}

struct view_counts view_service_counts(const struct store *s, const struct md_service *sv)
{
	enum md_service_mode mode = md_service_mode_of(&sv->spec);
	struct view_counts c = { 0 };
	struct store_list l = store_tasks_of_service(s, sv->meta.id);
	for (size_t i = 0; i < l.n; i++)
		count_task(sv, mode, l.v[i], &c);
	if (mode == MD_MODE_REPLICATED)
		c.desired = md_service_replicas(&sv->spec);
	if (mode == MD_MODE_REPLICATED_JOB) {
		const struct md_replicated_job *job = sv->spec.mode.replicated_job;
		uint64_t total = job->total_completions.set ? job->total_completions.v : 1;
		c.desired = job->max_concurrent.set ? job->max_concurrent.v : 1;
		if (job->max_concurrent.set && !job->max_concurrent.v)
			c.desired = total;
	}
	return c;
}

static void write_status(struct jw *w, const struct store *s, const struct md_service *sv)
{
	struct view_counts c = view_service_counts(s, sv);
	jw_key(w, "ServiceStatus");
	jw_open(w, '{');
	jw_kint(w, "RunningTasks", (int64_t)c.running);
	jw_kint(w, "DesiredTasks", (int64_t)c.desired);
	jw_kint(w, "CompletedTasks", (int64_t)c.completed);
	jw_close(w, '}');
}

void view_service(struct jw *w, const struct store *s, const struct md_service *sv, bool status, bool defaults)
{
	const struct schema *sch = &md_service_schema;
	struct md_service *full = NULL;
	if (defaults) {
		sv = full = sch_dup(sch, sv);
		md_service_spec_defaults(&full->spec);
	}
	size_t job = md_json_field(sch, "JobStatus");
	jw_open(w, '{');
	md_json_members(w, sch, sv, 0, job);
	if (status)
		write_status(w, s, sv);
	md_json_members(w, sch, sv, job, sch->n);
	jw_close(w, '}');
	sch_free(sch, full);
}

/* ---- tasks ------------------------------------------------------------------------------------ */

static void write_driver_state(struct jw *w, const struct md_network *n)
{
	char vni[16];
	snprintf(vni, sizeof(vni), "%u", n->vni);
	jw_open(w, '{');
	jw_kstr(w, "Name", n->spec.driver.name ? n->spec.driver.name : "overlay");
	if (n->vni) {
		jw_key(w, "Options");
		jw_open(w, '{');
		jw_kstr(w, VXLAN_ID_OPTION, vni);
		jw_close(w, '}');
	}
	jw_close(w, '}');
}

static void write_network_object(struct jw *w, const struct store *s, const char *id)
{
	const struct schema *sch = &md_network_schema;
	const struct md_network *n = s ? store_get(s, STORE_NETWORK, id) : NULL;
	size_t ipam = md_json_field(sch, "IPAMOptions");
	jw_open(w, '{');
	if (n) {
		md_json_members(w, sch, n, 0, ipam);
		jw_key(w, "DriverState");
		write_driver_state(w, n);
		md_json_members(w, sch, n, ipam, sch->n);
	} else {
		jw_kstr(w, "ID", id);
	}
	jw_close(w, '}');
}

static void write_attachments(struct jw *w, const struct store *s, const struct md_task *t)
{
	jw_key(w, "NetworksAttachments");
	jw_open(w, '[');
	for (size_t i = 0; i < t->attachments.n; i++) {
		const struct md_attachment *a = &t->attachments.v[i];
		jw_open(w, '{');
		jw_key(w, "Network");
		write_network_object(w, s, a->network.s);
		jw_key(w, "Addresses");
		jw_strs(w, &a->addresses);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

void view_task(struct jw *w, const struct store *s, const struct md_task *task)
{
	const struct schema *sch = &md_task_schema;
	size_t at = md_json_field(sch, "attachments");
	struct md_task shown = *task, *t = &shown;

	/* The engine counts the slots of a job from 0, and its client waits for exactly those. */
	if (t->job_iteration && t->slot)
		t->slot--;
	jw_open(w, '{');
	md_json_members(w, sch, t, 0, at);
	if (t->attachments.n)
		write_attachments(w, s, t);
	md_json_members(w, sch, t, at + 1, sch->n);
	jw_close(w, '}');
}

/* ---- cluster ---------------------------------------------------------------------------------- */

void view_cluster(struct jw *w, const struct md_cluster *c, bool tokens)
{
	jw_open(w, '{');
	md_json_members(w, &md_cluster_schema, c, 0, md_cluster_schema.n);
	if (tokens) {
		jw_key(w, "JoinTokens");
		md_json_write(w, &md_join_tokens_schema, &c->tokens);
	}
	jw_close(w, '}');
}

/* ---- networks --------------------------------------------------------------------------------- */

static void write_ipam(struct jw *w, const struct md_network *n)
{
	const struct md_ipam_options *o = n->ipam.configs.n || !n->spec.ipam ? &n->ipam : n->spec.ipam;
	jw_key(w, "IPAM");
	jw_open(w, '{');
	jw_kstr(w, "Driver", o->driver.name ? o->driver.name : "default");
	jw_kraw(w, "Options", "null");
	jw_key(w, "Config");
	jw_open(w, '[');
	for (size_t i = 0; i < o->configs.n; i++)
		md_json_write(w, &md_ipam_config_schema, &o->configs.v[i]);
	jw_close(w, ']');
	jw_close(w, '}');
}

static void write_options(struct jw *w, const struct md_network *n)
{
	struct str_map all = { 0 };
	char vni[16];
	snprintf(vni, sizeof(vni), "%u", n->vni);
	for (size_t i = 0; i < n->spec.driver.options.n; i++)
		smap_set(&all, n->spec.driver.options.v[i].key, n->spec.driver.options.v[i].value);
	if (n->vni)
		smap_set(&all, VXLAN_ID_OPTION, vni);
	jw_key(w, "Options");
	jw_map(w, &all);
	smap_clear(&all);
}

static const struct md_attachment *attachment_on(const struct md_task *t, const char *network)
{
	for (size_t i = 0; i < t->attachments.n; i++)
		if (streq(t->attachments.v[i].network.s, network))
			return &t->attachments.v[i];
	return NULL;
}

static void write_container(struct jw *w, const struct md_task *t, const struct md_attachment *a)
{
	const char *v4 = "", *v6 = "";
	for (size_t i = 0; i < a->addresses.n; i++) {
		if (strchr(a->addresses.v[i], ':'))
			v6 = a->addresses.v[i];
		else
			v4 = a->addresses.v[i];
	}
	char *name = md_task_container_name(t);
	jw_key(w, t->status.container->container_id);
	jw_open(w, '{');
	jw_kstr(w, "Name", name);
	jw_kstr(w, "EndpointID", t->meta.id);
	jw_kstr(w, "MacAddress", "");
	jw_kstr(w, "IPv4Address", v4);
	jw_kstr(w, "IPv6Address", v6);
	jw_close(w, '}');
	free(name);
}

static void write_containers(struct jw *w, const struct store *s, const char *network, const char *node)
{
	struct store_list l = store_tasks_of_node(s, node);
	bool any = false;
	for (size_t i = 0; i < l.n; i++) {
		const struct md_task *t = l.v[i];
		const struct md_attachment *a = attachment_on(t, network);
		if (!a || md_task_ended(t) || !t->status.container || !t->status.container->container_id)
			continue;
		if (!any)
			jw_open(w, '{');
		any = true;
		write_container(w, t, a);
	}
	if (any)
		jw_close(w, '}');
	else
		jw_null(w);
}

static bool node_is_on(const struct store *s, const char *node, const char *network)
{
	struct store_list l = store_tasks_of_node(s, node);
	for (size_t i = 0; i < l.n; i++)
		if (!md_task_ended(l.v[i]) && attachment_on(l.v[i], network))
			return true;
	return false;
}

static void write_peers(struct jw *w, const struct store *s, const char *network)
{
	bool any = false;
	STORE_EACH(s, STORE_NODE, struct md_node, n) {
		if (!node_is_on(s, n->meta.id, network))
			continue;
		if (!any) {
			jw_key(w, "Peers");
			jw_open(w, '[');
		}
		any = true;
		jw_open(w, '{');
		jw_kstr(w, "Name", n->description.hostname);
		jw_kstr(w, "IP", n->status.addr);
		jw_close(w, '}');
	}
	if (any)
		jw_close(w, ']');
}

void view_network(struct jw *w, const struct store *s, const struct md_network *n, const char *node)
{
	const struct md_network_spec *sp = &n->spec;
	jw_open(w, '{');
	jw_kstr(w, "Name", sp->name);
	jw_kstr(w, "Id", n->meta.id);
	jw_ktime(w, "Created", n->meta.created_at);
	jw_kstr(w, "Scope", "swarm");
	jw_kstr(w, "Driver", sp->driver.name ? sp->driver.name : "overlay");
	jw_kbool(w, "EnableIPv6", sp->ipv6_enabled);
	write_ipam(w, n);
	jw_kbool(w, "Internal", sp->internal);
	jw_kbool(w, "Attachable", sp->attachable);
	jw_kbool(w, "Ingress", sp->ingress);
	jw_kraw(w, "ConfigFrom", "{\"Network\":\"\"}");
	jw_kbool(w, "ConfigOnly", false);
	jw_key(w, "Containers");
	if (node && *node)
		write_containers(w, s, n->meta.id, node);
	else
		jw_null(w);
	write_options(w, n);
	jw_key(w, "Labels");
	if (sp->labels.n)
		jw_map(w, &sp->labels);
	else
		jw_null(w);
	if (node && *node)
		write_peers(w, s, n->meta.id);
	jw_close(w, '}');
}
