/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This node's containers: they are tasks' instances; a call that would make one by hand says so. */
#include <ctype.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "control/api/containers.h"
#include "control/api/filters.h"
#include "control/api/logs.h"

bool req_container(struct req *r, struct agent_container *out)
{
	struct agent *agent = api_agent(r->api);
	struct mesh_err err = { 0 };
	memset(out, 0, sizeof(*out));
	int rc = agent ? agent_find_container(agent, r->arg[0], out, &err) : MESH_E_NOT_FOUND;
	if (!rc)
		return true;
	if (rc == MESH_E_NOT_FOUND)
		(void)mesh_fail(&err, rc, "No such container: %.300s", r->arg[0]);
	req_fail(r, rc, &err);
	return false;
}

/* ---- words ------------------------------------------------------------------------------------ */

void human_duration(int64_t ns, char out[48])
{
	int64_t s = ns / NS_PER_SEC, m = s / 60, h = (m + 30) / 60;
	if (s < 1)
		strcpy(out, "Less than a second");
	else if (s == 1)
		strcpy(out, "1 second");
	else if (s < 60)
		snprintf(out, 48, "%lld seconds", (long long)s);
	else if (m == 1)
		strcpy(out, "About a minute");
	else if (m < 60)
		snprintf(out, 48, "%lld minutes", (long long)m);
	else if (h == 1)
		strcpy(out, "About an hour");
	else if (h < 48)
		snprintf(out, 48, "%lld hours", (long long)h);
	else if (h < 24 * 7 * 2)
		snprintf(out, 48, "%lld days", (long long)(h / 24));
	else if (h < 24 * 30 * 2)
		snprintf(out, 48, "%lld weeks", (long long)(h / 24 / 7));
	else if (h < 24 * 365 * 2)
		snprintf(out, 48, "%lld months", (long long)(h / 24 / 30));
	else
		snprintf(out, 48, "%lld years", (long long)(h / 24 / 365));
}

static const char *state_text(const struct agent_container *c)
{
	return c->pid > 0 ? "running" : c->state > MD_TASK_RUNNING || c->finished_at ? "exited" : "created";
}

void container_status(const struct agent_container *c, int64_t now, char out[96])
{
	char span[48];
	const char *state = state_text(c);
	if (streq(state, "running")) {
		human_duration(now - c->started_at, span);
		bool health = c->health && *c->health;
		snprintf(out, 96, "Up %s%s%s%s", span, health ? " (" : "",
		         !health                        ? ""
		         : streq(c->health, "starting") ? "health: starting"
		                                        : c->health,
		         health ? ")" : "");
	} else if (streq(state, "exited")) {
		human_duration(now - c->finished_at, span);
		snprintf(out, 96, "Exited (%d) %s ago", c->exit_code, span);
	} else {
		strcpy(out, "Created");
	}
}

void container_labels(const struct agent_container *c, struct str_map *out)
{
	const struct md_task *t = c->task;
	for (size_t i = 0; t->spec.container && i < t->spec.container->labels.n; i++)
		smap_set(out, t->spec.container->labels.v[i].key, t->spec.container->labels.v[i].value);
	if (ID_EMPTY(t->service))
		return;
	smap_set(out, "com.docker.swarm.node.id", t->node.s);
	smap_set(out, "com.docker.swarm.service.id", t->service.s);
	smap_set(out, "com.docker.swarm.service.name", t->service_name ? t->service_name : "");
	smap_set(out, "com.docker.swarm.task", "");
	smap_set(out, "com.docker.swarm.task.id", t->meta.id);
	smap_set(out, "com.docker.swarm.task.name", c->name);
}

static void write_labels(struct jw *w, const struct agent_container *c)
{
	struct str_map labels = { 0 };
	container_labels(c, &labels);
	jw_key(w, "Labels");
	jw_map(w, &labels);
	smap_clear(&labels);
}

/* What it was started with: the spec's words, else the image's. */
static void argv_of(struct api *a, const struct agent_container *c, struct str_list *out)
{
	const struct md_container_spec *sp = c->task->spec.container;
	struct agent *agent = api_agent(a);
	const struct image *im = agent && c->image_id ? images_find(agent_images(agent), c->image_id) : NULL;
	const struct str_list *entry = sp && sp->command.n ? &sp->command : im ? &im->config.entrypoint : NULL;
	bool own_cmd = sp && (sp->args.n || sp->command.n);
	const struct str_list *cmd = own_cmd ? &sp->args : im ? &im->config.cmd : NULL;
	for (size_t i = 0; entry && i < entry->n; i++)
		strs_add(out, entry->v[i]);
	for (size_t i = 0; cmd && i < cmd->n; i++)
		strs_add(out, cmd->v[i]);
}

static const char *image_of(const struct agent_container *c)
{
	const struct md_container_spec *sp = c->task->spec.container;
	return sp && sp->image ? sp->image : "";
}

/* ---- networks and ports ----------------------------------------------------------------------- */

static void write_endpoint(struct jw *w, const char *network, const struct str_list *addresses,
                           const struct str_list *aliases)
{
	char addr[64] = "", addr6[64] = "";
	int bits = 0, bits6 = 0;
	for (size_t i = 0; addresses && i < addresses->n; i++) {
		const char *slash = strchr(addresses->v[i], '/');
		bool six = strchr(addresses->v[i], ':') != NULL;
		snprintf(six ? addr6 : addr, 64, "%.*s",
		         (int)(slash ? (size_t)(slash - addresses->v[i]) : strlen(addresses->v[i])), addresses->v[i]);
		*(six ? &bits6 : &bits) = slash ? atoi(slash + 1) : 0;
	}
	jw_open(w, '{');
	jw_kraw(w, "IPAMConfig", "null");
	jw_kraw(w, "Links", "null");
	jw_key(w, "Aliases");
	if (aliases && aliases->n)
		jw_strs(w, aliases);
	else
		jw_null(w);
	jw_kstr(w, "NetworkID", network);
	jw_kstr(w, "EndpointID", "");
	jw_kstr(w, "Gateway", "");
	jw_kstr(w, "IPAddress", addr);
	jw_kint(w, "IPPrefixLen", bits);
	jw_kstr(w, "IPv6Gateway", "");
	jw_kstr(w, "GlobalIPv6Address", addr6);
	jw_kint(w, "GlobalIPv6PrefixLen", bits6);
	jw_kstr(w, "MacAddress", "");
	jw_kraw(w, "DriverOpts", "null");
	jw_close(w, '}');
}

static void write_networks(struct jw *w, struct api *a, const struct agent_container *c)
{
	struct store *s = a->ops->store(a->arg);
	const struct md_task *t = c->task;
	jw_key(w, "Networks");
	jw_open(w, '{');
	for (size_t i = 0; i < t->attachments.n; i++) {
		const struct md_attachment *at = &t->attachments.v[i];
		const struct md_network *n = s ? store_get(s, STORE_NETWORK, at->network.s) : NULL;
		jw_key(w, n ? n->spec.name : at->network.s);
		write_endpoint(w, at->network.s, &at->addresses, &at->aliases);
	}
	if (!t->attachments.n) {
		jw_key(w, "bridge");
		write_endpoint(w, "", NULL, NULL);
	}
	jw_close(w, '}');
}

static void write_ports(struct jw *w, const struct md_task *t)
{
	jw_key(w, "Ports");
	jw_open(w, '[');
	for (size_t i = 0; i < t->status.ports.ports.n; i++) {
		const struct md_port *p = &t->status.ports.ports.v[i];
		jw_open(w, '{');
		jw_kstr(w, "IP", "0.0.0.0");
		jw_kint(w, "PrivatePort", p->target);
		jw_kint(w, "PublicPort", p->published);
		jw_kstr(w, "Type", p->protocol ? md_protocol_names.names[p->protocol] : "tcp");
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

static void write_mounts(struct jw *w, const struct md_task *t)
{
	const struct md_container_spec *sp = t->spec.container;
	jw_key(w, "Mounts");
	jw_open(w, '[');
	for (size_t i = 0; sp && i < sp->mounts.n; i++) {
		const struct md_mount *m = &sp->mounts.v[i];
		bool volume = m->type == MD_MOUNT_VOLUME;
		jw_open(w, '{');
		jw_kstr(w, "Type", md_mount_type_names.names[m->type]);
		if (volume) {
			jw_kstr(w, "Name", m->source);
			jw_kstr(w, "Driver", "local");
		}
		jw_kstr(w, "Source", m->source);
		jw_kstr(w, "Destination", m->target);
		jw_kstr(w, "Mode", m->read_only ? "ro" : "");
		jw_kbool(w, "RW", !m->read_only);
		jw_kstr(w, "Propagation", m->bind && m->bind->propagation ? m->bind->propagation : "");
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

/* ---- list ------------------------------------------------------------------------------------- */

void view_container_summary(struct jw *w, struct api *a, const struct agent_container *c, int64_t now)
{
	char status[96];
	struct str_list argv = { 0 };
	struct buf cmd = { 0 };
	char *name = xasprintf("/%s", c->name);
	argv_of(a, c, &argv);
	for (size_t i = 0; i < argv.n; i++)
		buf_printf(&cmd, "%s%s", i ? " " : "", argv.v[i]);
	container_status(c, now, status);
	jw_open(w, '{');
	jw_kstr(w, "Id", c->id);
	jw_key(w, "Names");
	jw_open(w, '[');
	jw_str(w, name);
	jw_close(w, ']');
	jw_kstr(w, "Image", image_of(c));
	jw_kstr(w, "ImageID", c->image_id);
	jw_kstr(w, "Command", buf_str(&cmd));
	jw_kint(w, "Created", c->created_at / NS_PER_SEC);
	write_ports(w, c->task);
	write_labels(w, c);
	jw_kstr(w, "State", state_text(c));
	jw_kstr(w, "Status", status);
	jw_kraw(w, "HostConfig", "{\"NetworkMode\":\"default\"}");
	jw_key(w, "NetworkSettings");
	jw_open(w, '{');
	write_networks(w, a, c);
	jw_close(w, '}');
	write_mounts(w, c->task);
	jw_close(w, '}');
	strs_clear(&argv);
	buf_fini(&cmd);
	free(name);
}

struct listing {
	struct api *api;
	struct jw w;
	struct filters f;
	int64_t now, limit;
	struct VEC(struct agent_container) found;
};

static bool name_matches(const struct filters *f, const char *name)
{
	const struct str_list *l = filters_get(f, "name");
	for (size_t i = 0; l && i < l->n; i++) {
		const char *want = l->v[i];
		bool anchored = want[0] == '^';
		want += anchored;
		want += want[0] == '/';
		if (anchored ? strncmp(name, want, strlen(want)) == 0 : strstr(name, want) != NULL)
			return true;
	}
	return !l;
}

static bool network_matches(struct listing *ls, const struct md_task *t)
{
	const struct str_list *l = filters_get(&ls->f, "network");
	struct store *s = ls->api->ops->store(ls->api->arg);
	for (size_t i = 0; l && i < t->attachments.n; i++) {
		const struct md_network *n = s ? store_get(s, STORE_NETWORK, t->attachments.v[i].network.s) : NULL;
		if (strs_has(l, t->attachments.v[i].network.s) || (n && strs_has(l, n->spec.name)))
			return true;
	}
	return !l;
}

static bool container_matches(struct listing *ls, const struct agent_container *c)
{
	char code[16];
	struct str_map labels = { 0 };
	const struct filters *f = &ls->f;
	container_labels(c, &labels);
	snprintf(code, sizeof(code), "%d", c->exit_code);
	bool exited = streq(state_text(c), "exited");
	bool ok = filters_prefix(f, "id", c->id) && name_matches(f, c->name) && filters_labels(f, "label", &labels) &&
	          filters_exact(f, "status", state_text(c)) && network_matches(ls, c->task) &&
	          (!filters_get(f, "ancestor") || filters_prefix(f, "ancestor", c->image_id) ||
	           filters_exact(f, "ancestor", image_of(c))) &&
	          filters_exact(f, "health", c->health && *c->health ? c->health : "none") &&
	          (!filters_get(f, "exited") || (exited && filters_exact(f, "exited", code))) &&
	          (!filters_get(f, "is-task") || filters_bool(f, "is-task", false) != md_task_standalone(c->task));
	smap_clear(&labels);
	return ok;
}

static bool take_container(void *arg, const struct agent_container *c)
{
	struct listing *ls = arg;
	if (container_matches(ls, c))
		vec_push(&ls->found, *c);
	return true;
}

void api_container_list(struct req *r)
{
	static const char *const allowed[] = { "ancestor", "before",  "exited", "expose", "health",
		                               "id",       "is-task", "label",  "name",   "network",
		                               "publish",  "since",   "status", "volume", NULL };
	struct listing ls = { .api = r->api, .now = clock_wall_ns() };
	struct mesh_err err = { 0 };
	struct agent *agent = api_agent(r->api);
	if (req_filters(r, allowed, &ls.f))
		return;
	int rc = req_number(r, "limit", -1, &ls.limit, &err);
	if (rc) {
		req_fail(r, rc, &err);
		filters_clear(&ls.f);
		return;
	}
	bool all = req_flag(r, "all") || ls.limit > 0 || filters_get(&ls.f, "status") || filters_get(&ls.f, "exited");
	if (agent)
		agent_each_container(agent, all, take_container, &ls);
	/* Newest first, as the engine lists them. */
	size_t n = ls.found.len, stop = ls.limit > 0 && (size_t)ls.limit < n ? n - (size_t)ls.limit : 0;
	jw_open(&ls.w, '[');
	for (size_t i = n; i-- > stop;)
		view_container_summary(&ls.w, r->api, &ls.found.data[i], ls.now);
	jw_close(&ls.w, ']');
	vec_fini(&ls.found);
	filters_clear(&ls.f);
	req_reply_json(r, 200, &ls.w);
}

/* ---- inspect ---------------------------------------------------------------------------------- */

static void write_state(struct jw *w, const struct agent_container *c)
{
	jw_key(w, "State");
	jw_open(w, '{');
	jw_kstr(w, "Status", state_text(c));
	jw_kbool(w, "Running", c->pid > 0);
	jw_kbool(w, "Paused", false);
	jw_kbool(w, "Restarting", false);
	jw_kbool(w, "OOMKilled", c->oom_killed);
	jw_kbool(w, "Dead", false);
	jw_kint(w, "Pid", c->pid);
	jw_kint(w, "ExitCode", c->exit_code);
	jw_kstr(w, "Error", c->task->status.err);
	jw_ktime(w, "StartedAt", c->started_at);
	jw_ktime(w, "FinishedAt", c->finished_at);
	if (c->health && *c->health) {
		jw_key(w, "Health");
		jw_open(w, '{');
		jw_kstr(w, "Status", c->health);
		jw_kint(w, "FailingStreak", 0);
		jw_kraw(w, "Log", "[]");
		jw_close(w, '}');
	}
	jw_close(w, '}');
}

/* {"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"8080"}]} of the ports published on this node. */
static void write_bindings(struct jw *w, const char *key, const struct md_endpoint_spec *e)
{
	jw_key(w, key);
	jw_open(w, '{');
	for (size_t i = 0; i < e->ports.n; i++) {
		const struct md_port *p = &e->ports.v[i];
		bool said = p->mode != MD_PUBLISH_HOST;
		for (size_t k = 0; k < i; k++)
			said = said || (e->ports.v[k].target == p->target && e->ports.v[k].protocol == p->protocol);
		if (said)
			continue;
		char port[32];
		snprintf(port, sizeof(port), "%u/%s", p->target,
		         p->protocol ? md_protocol_names.names[p->protocol] : "tcp");
		jw_key(w, port);
		jw_open(w, '[');
		for (size_t k = i; k < e->ports.n; k++) {
			const struct md_port *q = &e->ports.v[k];
			if (q->target != p->target || q->protocol != p->protocol || q->mode != MD_PUBLISH_HOST)
				continue;
			snprintf(port, sizeof(port), "%u", q->published ? q->published : q->target);
			jw_open(w, '{');
			jw_kstr(w, "HostIp", "0.0.0.0");
			jw_kstr(w, "HostPort", port);
			jw_close(w, '}');
		}
		jw_close(w, ']');
	}
	jw_close(w, '}');
}

static void write_host_config(struct jw *w, const struct agent_container *c)
{
	const struct md_task_spec *t = &c->task->spec;
	static const struct md_limit none;
	const struct md_limit *l = t->resources && t->resources->limits ? t->resources->limits : &none;
	const struct md_container_spec *sp = t->container;
	jw_key(w, "HostConfig");
	jw_open(w, '{');
	jw_kraw(w, "Binds", "null");
	jw_kraw(w, "LogConfig", "{\"Type\":\"json-file\",\"Config\":{}}");
	const struct md_attachment_spec *at = t->attachment;
	jw_kstr(w, "NetworkMode", at && at->no_network ? "none" : t->networks.n ? t->networks.v[0].target : "default");
	write_bindings(w, "PortBindings", &c->task->endpoint);
	jw_kraw(w, "RestartPolicy", "{\"Name\":\"\",\"MaximumRetryCount\":0}");
	jw_kbool(w, "AutoRemove", at && at->auto_remove);
	jw_key(w, "CapAdd");
	if (sp && sp->cap_add.n)
		jw_strs(w, &sp->cap_add);
	else
		jw_null(w);
	jw_key(w, "CapDrop");
	if (sp && sp->cap_drop.n)
		jw_strs(w, &sp->cap_drop);
	else
		jw_null(w);
	jw_kint(w, "OomScoreAdj", sp ? sp->oom_score_adj : 0);
	jw_kbool(w, "Privileged", false);
	jw_kbool(w, "ReadonlyRootfs", sp && sp->read_only);
	jw_kstr(w, "Runtime", "crun");
	jw_kraw(w, "ConsoleSize", "[0,0]");
	jw_kstr(w, "Isolation", "default");
	jw_kint(w, "Memory", l->memory_bytes);
	jw_kint(w, "NanoCpus", l->nano_cpus);
	jw_key(w, "PidsLimit");
	if (l->pids)
		jw_int(w, l->pids);
	else
		jw_null(w);
	jw_close(w, '}');
}

static void write_list_or_null(struct jw *w, const char *key, const struct str_list *l)
{
	jw_key(w, key);
	if (l && l->n)
		jw_strs(w, l);
	else
		jw_null(w);
}

static void write_config(struct jw *w, const struct agent_container *c, const struct str_list *argv)
{
	const struct md_container_spec *sp = c->task->spec.container;
	char short_id[13];
	snprintf(short_id, sizeof(short_id), "%.12s", c->id);
	jw_key(w, "Config");
	jw_open(w, '{');
	jw_kstr(w, "Hostname", sp && sp->hostname ? sp->hostname : short_id);
	jw_kstr(w, "Domainname", "");
	jw_kstr(w, "User", sp ? sp->user : "");
	jw_kbool(w, "AttachStdin", false);
	jw_kbool(w, "AttachStdout", false);
	jw_kbool(w, "AttachStderr", false);
	jw_kbool(w, "Tty", sp && sp->tty);
	jw_kbool(w, "OpenStdin", sp && sp->open_stdin);
	jw_kbool(w, "StdinOnce", c->task->spec.attachment && c->task->spec.attachment->stdin_once);
	write_list_or_null(w, "Env", sp ? &sp->env : NULL);
	write_list_or_null(w, "Cmd", argv);
	jw_kstr(w, "Image", image_of(c));
	jw_kraw(w, "Volumes", "null");
	jw_kstr(w, "WorkingDir", sp ? sp->dir : "");
	write_list_or_null(w, "Entrypoint", sp ? &sp->command : NULL);
	jw_kraw(w, "OnBuild", "null");
	write_labels(w, c);
	jw_close(w, '}');
}

void api_container_inspect(struct req *r)
{
	struct agent_container c;
	struct str_list argv = { 0 };
	struct jw w = { 0 };
	if (!req_container(r, &c))
		return;
	char *name = xasprintf("/%s", c.name);
	argv_of(r->api, &c, &argv);
	jw_open(&w, '{');
	jw_kstr(&w, "Id", c.id);
	jw_ktime(&w, "Created", c.created_at);
	jw_kstr(&w, "Path", argv.n ? argv.v[0] : "");
	jw_key(&w, "Args");
	jw_open(&w, '[');
	for (size_t i = 1; i < argv.n; i++)
		jw_str(&w, argv.v[i]);
	jw_close(&w, ']');
	write_state(&w, &c);
	jw_kstr(&w, "Image", c.image_id);
	jw_kstr(&w, "ResolvConfPath", "");
	jw_kstr(&w, "HostnamePath", "");
	jw_kstr(&w, "HostsPath", "");
	jw_kstr(&w, "LogPath", c.log_path);
	jw_kstr(&w, "Name", name);
	jw_kint(&w, "RestartCount", 0);
	jw_kstr(&w, "Driver", "overlay2");
	jw_kstr(&w, "Platform", "linux");
	jw_kstr(&w, "MountLabel", "");
	jw_kstr(&w, "ProcessLabel", "");
	jw_kstr(&w, "AppArmorProfile", "");
	jw_kraw(&w, "ExecIDs", "null");
	write_host_config(&w, &c);
	jw_kraw(&w, "GraphDriver", "{\"Data\":null,\"Name\":\"overlay2\"}");
	write_mounts(&w, c.task);
	write_config(&w, &c, &argv);
	jw_key(&w, "NetworkSettings");
	jw_open(&w, '{');
	jw_kstr(&w, "Bridge", "");
	write_bindings(&w, "Ports", &c.task->endpoint);
	write_networks(&w, r->api, &c);
	jw_close(&w, '}');
	jw_close(&w, '}');
	strs_clear(&argv);
	free(name);
	req_reply_json(r, 200, &w);
}

void api_container_logs(struct req *r)
{
	struct agent_container c;
	struct log_request q;
	struct mesh_err err = { 0 };
	if (!req_container(r, &c))
		return;
	int rc = log_request_parse(r, &q, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	q.tty = c.task->spec.container && c.task->spec.container->tty;
	logs_of_container(r, &q, &c);
}

void api_container_top(struct req *r)
{
	struct agent_container c;
	struct jw w = { 0 };
	if (!req_container(r, &c))
		return;
	if (c.pid <= 0) {
		req_error(r, 409, "Container %s is not running", c.id);
		return;
	}
	view_top(&w, c.pid);
	req_reply_json(r, 200, &w);
}

/* ---- stats and wait: a look every so often ---------------------------------------------------- */

/* A stream that looks at one container on a timer; ends when it says so. */
struct looker {
	struct api *api;
	struct stream *stream; /* NULL once closed */
	uv_timer_t timer;
	bool timed;
	char id[65];
	bool (*look)(struct looker *l, const struct agent_container *c); /* c NULL: it is gone; false: done */
	struct proc_stats before;
	bool forever, removed;
	char ended_task[MESH_ID_LEN + 1]; /* next-exit: the run that had ended already */
};

static void looker_free(struct looker *l)
{
	if (!l->stream && !l->timed)
		free(l);
}

static void on_looker_closed(uv_handle_t *h)
{
	struct looker *l = CONTAINER_OF((uv_timer_t *)h, struct looker, timer);
	struct api *a = l->api;
	l->timed = false;
	looker_free(l);
	api_handle_closed(a);
}

static void looker_stop(struct looker *l)
{
	if (l->timed && !uv_is_closing((uv_handle_t *)&l->timer))
		uv_close((uv_handle_t *)&l->timer, on_looker_closed);
}

static void on_looker_stream_closed(void *arg)
{
	struct looker *l = arg;
	l->stream = NULL;
	looker_stop(l);
	looker_free(l);
}

static void on_look(uv_timer_t *t)
{
	struct looker *l = CONTAINER_OF(t, struct looker, timer);
	struct agent_container c = { .pid = 0 };
	struct agent *agent = api_agent(l->api);
	bool there = agent && agent_find_container(agent, l->id, &c, NULL) == 0;
	if (!l->stream || l->look(l, there ? &c : NULL))
		return;
	stream_end(l->stream);
	looker_stop(l);
}

static void looker_start(struct req *r, struct looker *l, const struct agent_container *c, uint64_t every_ms)
{
	static const struct stream_ops ops = { .closed = on_looker_stream_closed };
	l->api = r->api;
	strcpy(l->id, c->id);
	l->stream = req_stream(r, 200, "application/json", &ops, l);
	if (uv_timer_init(l->api->loop, &l->timer)) {
		stream_end(l->stream);
		return;
	}
	l->timed = true;
	api_handle_opened(l->api);
	(void)uv_timer_start(&l->timer, on_look, every_ms, every_ms);
}

static bool look_stats(struct looker *l, const struct agent_container *c)
{
	struct proc_stats now;
	struct jw w = { 0 };
	if (!c || proc_stats_read(c->pid, &now))
		return false;
	view_stats(&w, c, &now, &l->before);
	buf_put_u8(&w.b, '\n');
	(void)stream_write(l->stream, w.b.data, w.b.len);
	buf_fini(&w.b);
	l->before = now;
	return l->forever;
}

void api_container_stats(struct req *r)
{
	struct agent_container c;
	struct proc_stats first;
	if (!req_container(r, &c))
		return;
	const char *stream = req_query(r, "stream");
	bool forever = !stream || req_flag(r, "stream");
	if (proc_stats_read(c.pid, &first)) {
		/* The engine's answer for what does not run: zeroes. */
		struct proc_stats none = { 0 };
		struct jw w = { 0 };
		view_stats(&w, &c, &none, &none);
		req_reply_json(r, 200, &w);
	} else if (!forever && req_flag(r, "one-shot")) {
		struct proc_stats none = { 0 };
		struct jw w = { 0 };
		view_stats(&w, &c, &first, &none);
		req_reply_json(r, 200, &w);
	} else {
		struct looker *l = XNEW(struct looker);
		*l = (struct looker){ .look = look_stats, .before = first, .forever = forever };
		looker_start(r, l, &c, 1000);
	}
}

static bool look_wait(struct looker *l, const struct agent_container *c)
{
	struct jw w = { 0 };
	int code = 0;
	/* A run that had ended before is not the exit that is waited for. */
	bool old = c && *l->ended_task && streq(l->ended_task, c->task->meta.id);
	bool over = !c || (!l->removed && !old && c->pid <= 0 && (c->finished_at || c->state > MD_TASK_RUNNING));
	if (!over)
		return true;
	if (c)
		code = c->exit_code;
	else if (api_agent(l->api))
		(void)agent_gone_exit(api_agent(l->api), l->id, &code, NULL);
	jw_open(&w, '{');
	jw_kint(&w, "StatusCode", code);
	jw_close(&w, '}');
	buf_put_u8(&w.b, '\n');
	(void)stream_write(l->stream, w.b.data, w.b.len);
	buf_fini(&w.b);
	return false;
}

void api_container_wait(struct req *r)
{
	struct agent_container c;
	if (!req_container(r, &c))
		return;
	struct looker *l = XNEW(struct looker);
	const char *condition = req_query(r, "condition");
	*l = (struct looker){ .look = look_wait, .removed = streq(condition, "removed") };
	if (streq(condition, "next-exit") && c.pid <= 0 && c.state > MD_TASK_RUNNING)
		mesh_id_set(l->ended_task, c.task->meta.id);
	looker_start(r, l, &c, 50);
}

/* ---- acting ----------------------------------------------------------------------------------- */

static void on_acted(void *arg, int code, const struct mesh_err *err)
{
	struct req *r = arg;
	if (req_live(r)) {
		if (code)
			req_fail(r, code, err);
		else
			req_reply_empty(r, 204);
	}
	req_unref(r);
}

void api_container_kill(struct req *r)
{
	struct agent_container c;
	struct mesh_err err = { 0 };
	const char *sig = req_query(r, "signal");
	if (!req_container(r, &c))
		return;
	if (c.pid <= 0) {
		req_error(r, 409, "Cannot kill container: %.128s: Container %s is not running", r->arg[0], c.id);
		return;
	}
	int rc = agent_kill_container(api_agent(r->api), c.id, sig && *sig ? sig : "SIGKILL", &err);
	if (rc)
		req_fail(r, rc, &err);
	else
		req_reply_empty(r, 204);
}

static void stop(struct req *r)
{
	struct agent_container c;
	struct mesh_err err = { 0 };
	int64_t timeout;
	if (!req_container(r, &c))
		return;
	const struct md_container_spec *sp = c.task->spec.container;
	int64_t grace = sp && sp->stop_grace_period.set ? sp->stop_grace_period.v / NS_PER_SEC : 10;
	int rc = req_number(r, "t", grace, &timeout, &err);
	if (rc)
		req_fail(r, rc, &err);
	else if (c.pid <= 0)
		req_reply_empty(r, 304);
	else
		agent_stop_container(api_agent(r->api), c.id, (int)(timeout < 0 ? INT32_MAX : timeout), on_acted,
		                     req_ref(r));
}

void api_container_stop(struct req *r)
{
	stop(r);
}

void api_container_remove(struct req *r)
{
	struct agent_container c;
	bool force = req_flag(r, "force");
	if (!req_container(r, &c))
		return;
	if (c.pid > 0 && !force)
		req_error(
			r, 409,
			"cannot remove container \"/%s\": container is running: stop the container before removing or "
			"force remove",
			c.name);
	else if (md_task_standalone(c.task))
		run_remove(r, &c);
	else
		agent_rm_container(api_agent(r->api), c.id, force, on_acted, req_ref(r));
}

struct pruning {
	struct req *r;
	struct str_list ids, done;
	size_t at;
};

static bool take_ended(void *arg, const struct agent_container *c)
{
	struct pruning *p = arg;
	if (c->pid <= 0 && c->finished_at)
		strs_add(&p->ids, c->id);
	return true;
}

static void prune_next(void *arg, int code, const struct mesh_err *err)
{
	struct pruning *p = arg;
	(void)err;
	if (p->at && !code)
		strs_add(&p->done, p->ids.v[p->at - 1]);
	struct agent *agent = req_live(p->r) ? api_agent(p->r->api) : NULL;
	if (agent && p->at < p->ids.n) {
		agent_rm_container(agent, p->ids.v[p->at++], false, prune_next, p);
		return;
	}
	if (req_live(p->r)) {
		struct jw w = { 0 };
		jw_open(&w, '{');
		jw_key(&w, "ContainersDeleted");
		if (p->done.n)
			jw_strs(&w, &p->done);
		else
			jw_null(&w);
		jw_kint(&w, "SpaceReclaimed", 0);
		jw_close(&w, '}');
		req_reply_json(p->r, 200, &w);
	}
	req_unref(p->r);
	strs_clear(&p->ids);
	strs_clear(&p->done);
	free(p);
}

void api_container_prune(struct req *r)
{
	struct pruning *p = XNEW(struct pruning);
	p->r = req_ref(r);
	if (api_agent(r->api))
		agent_each_container(api_agent(r->api), true, take_ended, p);
	prune_next(p, 0, NULL);
}

void api_container_unsupported(struct req *r)
{
	const char *what = strrchr(r->path, '/');
	struct agent_container c;
	if (req_container(r, &c))
		req_error(r, 501, "%.64s is not supported for containers of services", what ? what + 1 : "this");
}
