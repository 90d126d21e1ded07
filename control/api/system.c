/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon itself: ping, version, info, disk use, counters, and what the Engine API has no words for. */
#include <stdio.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/prom.h"
#include "control/api/http.h"
#include "control/api/view.h"

/* What does not change while we run. */
static const struct host {
	struct utsname uts;
	char os_name[128], os_version[32];
	long cpus;
	int64_t memory;
} * host(void)
{
	static struct host h;
	if (h.cpus)
		return &h;
	(void)uname(&h.uts); /* cannot fail with a valid buffer */
	h.cpus = sysconf(_SC_NPROCESSORS_ONLN);
	h.memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
	FILE *f = fopen("/etc/os-release", "re");
	char line[256];
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "PRETTY_NAME=\"%127[^\"]", h.os_name) != 1)
			(void)sscanf(line, "VERSION_ID=\"%31[^\"]", h.os_version);
	}
	if (f)
		fclose(f);
	if (!h.os_name[0])
		strcpy(h.os_name, "Linux");
	return &h;
}

static const char *go_arch(const char *machine)
{
	return streq(machine, "x86_64") ? "amd64" : streq(machine, "aarch64") ? "arm64" : machine;
}

void api_ping(struct req *r)
{
	struct api_local_state l;
	char swarm[64];
	api_local(r->api, &l);
	bool active = streq(l.state, "active");
	snprintf(swarm, sizeof(swarm), "%s%s", l.state, !active ? "" : l.manager ? "/manager" : "/worker");
	struct MHD_Response *response = MHD_create_response_from_buffer(2, (void *)"OK", MHD_RESPMEM_PERSISTENT);
	api_response_headers(response, "text/plain; charset=utf-8");
	(void)MHD_add_response_header(response, "Cache-Control", "no-cache, no-store, must-revalidate");
	(void)MHD_add_response_header(response, "Pragma", "no-cache");
	(void)MHD_add_response_header(response, "Swarm", swarm);
	req_answer(r, 200, response);
}

void api_version(struct req *r)
{
	const struct host *h = host();
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_key(&w, "Platform");
	jw_open(&w, '{');
	jw_kstr(&w, "Name", "meshd");
	jw_close(&w, '}');
	jw_key(&w, "Components");
	jw_open(&w, '[');
	jw_open(&w, '{');
	jw_kstr(&w, "Name", "Engine");
	jw_kstr(&w, "Version", MESH_VERSION);
	jw_key(&w, "Details");
	jw_open(&w, '{');
	jw_kstr(&w, "ApiVersion", API_VERSION);
	jw_kstr(&w, "Arch", go_arch(h->uts.machine));
	jw_kstr(&w, "Experimental", "false");
	jw_kstr(&w, "KernelVersion", h->uts.release);
	jw_kstr(&w, "MinAPIVersion", API_MIN_VERSION);
	jw_kstr(&w, "Os", "linux");
	jw_close(&w, '}');
	jw_close(&w, '}');
	jw_close(&w, ']');
	jw_kstr(&w, "Version", MESH_VERSION);
	jw_kstr(&w, "ApiVersion", API_VERSION);
	jw_kstr(&w, "MinAPIVersion", API_MIN_VERSION);
	jw_kstr(&w, "GitCommit", "");
	jw_kstr(&w, "GoVersion", "");
	jw_kstr(&w, "Os", "linux");
	jw_kstr(&w, "Arch", go_arch(h->uts.machine));
	jw_kstr(&w, "KernelVersion", h->uts.release);
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

struct tally {
	int64_t all, running;
};

static bool count_container(void *arg, const struct agent_container *c)
{
	struct tally *t = arg;
	t->all++;
	t->running += c->pid > 0;
	return true;
}

static void write_counts(struct jw *w, struct api *a)
{
	struct agent *agent = api_agent(a);
	const struct image *const *images;
	struct tally t = { 0 };
	if (agent)
		agent_each_container(agent, true, count_container, &t);
	jw_kint(w, "Containers", t.all);
	jw_kint(w, "ContainersRunning", t.running);
	jw_kint(w, "ContainersPaused", 0);
	jw_kint(w, "ContainersStopped", t.all - t.running);
	jw_kint(w, "Images", agent ? (int64_t)images_list(agent_images(agent), &images) : 0);
}

static void write_remote_managers(struct jw *w, const struct api_local_state *l)
{
	jw_key(w, "RemoteManagers");
	if (!l->managers.n) {
		jw_null(w);
		return;
	}
	jw_open(w, '[');
	for (size_t i = 0; i < l->managers.n; i++) {
		jw_open(w, '{');
		jw_kstr(w, "NodeID", l->managers.v[i].node_id);
		jw_kstr(w, "Addr", l->managers.v[i].addr);
		jw_close(w, '}');
	}
	jw_close(w, ']');
}

static void write_swarm(struct jw *w, struct api *a, const struct api_local_state *l)
{
	struct store *s = a->ops->store(a->arg);
	const struct md_cluster *c = s ? store_cluster(s) : NULL;
	jw_key(w, "Swarm");
	jw_open(w, '{');
	jw_kstr(w, "NodeID", l->node_id);
	jw_kstr(w, "NodeAddr", l->node_addr);
	jw_kstr(w, "LocalNodeState", l->state);
	jw_kbool(w, "ControlAvailable", l->manager);
	jw_kstr(w, "Error", l->error);
	write_remote_managers(w, l);
	if (c) {
		int64_t managers = 0;
		STORE_EACH(s, STORE_NODE, struct md_node, n)
			managers += n->spec.role == MD_ROLE_MANAGER;
		jw_kint(w, "Nodes", (int64_t)store_count(s, STORE_NODE));
		jw_kint(w, "Managers", managers);
		jw_key(w, "Cluster");
		view_cluster(w, c, false);
	}
	jw_close(w, '}');
}

static void write_labels(struct jw *w, const struct str_map *labels)
{
	jw_key(w, "Labels");
	jw_open(w, '[');
	for (size_t i = 0; labels && i < labels->n; i++) {
		CLEAN_FREE char *text = xasprintf("%s=%s", labels->v[i].key, labels->v[i].value);
		jw_str(w, text);
	}
	jw_close(w, ']');
}

static void write_offers(struct jw *w, const struct md_resources *offers)
{
	jw_key(w, "GenericResources");
	if (!offers || !offers->generic.n) {
		jw_null(w);
		return;
	}
	jw_open(w, '[');
	for (size_t i = 0; i < offers->generic.n; i++)
		md_json_write(w, &md_generic_schema, &offers->generic.v[i]);
	jw_close(w, ']');
}

static void write_host(struct jw *w)
{
	static const char limits[] = "MemoryLimit\0SwapLimit\0CpuCfsPeriod\0CpuCfsQuota\0CPUShares\0CPUSet\0PidsLimit\0"
				     "IPv4Forwarding\0OomKillDisable\0";
	const struct host *h = host();
	for (const char *p = limits; *p; p += strlen(p) + 1)
		jw_kbool(w, p, strcmp(p, "OomKillDisable") != 0);
	jw_kbool(w, "Debug", false);
	jw_ktime(w, "SystemTime", clock_wall_ns());
	jw_kstr(w, "LoggingDriver", "json-file");
	jw_kstr(w, "CgroupDriver", "cgroupfs");
	jw_kstr(w, "CgroupVersion", access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0 ? "2" : "1");
	jw_kint(w, "NEventsListener", 0);
	jw_kstr(w, "KernelVersion", h->uts.release);
	jw_kstr(w, "OperatingSystem", h->os_name);
	jw_kstr(w, "OSVersion", h->os_version);
	jw_kstr(w, "OSType", "linux");
	jw_kstr(w, "Architecture", h->uts.machine);
	jw_kint(w, "NCPU", h->cpus);
	jw_kint(w, "MemTotal", h->memory);
}

void api_info(struct req *r)
{
	struct api_local_state l;
	struct jw w = { 0 };
	api_local(r->api, &l);
	jw_open(&w, '{');
	jw_kstr(&w, "ID", l.node_id && *l.node_id ? l.node_id : l.hostname);
	write_counts(&w, r->api);
	jw_kstr(&w, "Driver", "overlay2");
	jw_key(&w, "DriverStatus");
	jw_open(&w, '[');
	if (l.data_plane && *l.data_plane) {
		jw_open(&w, '[');
		jw_str(&w, "Data plane");
		jw_str(&w, l.data_plane);
		jw_close(&w, ']');
	}
	jw_close(&w, ']');
	jw_kraw(&w, "Plugins",
	        "{\"Volume\":[\"local\"],\"Network\":[\"overlay\"],\"Authorization\":null,\"Log\":[\"json-file\"]}");
	write_host(&w);
	jw_kstr(&w, "IndexServerAddress", "https://index.docker.io/v1/");
	jw_kraw(&w, "RegistryConfig",
	        "{\"AllowNondistributableArtifactsCIDRs\":[],\"AllowNondistributableArtifactsHostnames\":[],"
	        "\"InsecureRegistryCIDRs\":[\"127.0.0.0/8\"],\"IndexConfigs\":{\"docker.io\":{\"Name\":\"docker.io\","
	        "\"Mirrors\":[],\"Secure\":true,\"Official\":true}},\"Mirrors\":[]}");
	write_offers(&w, l.offers);
	jw_kstr(&w, "DockerRootDir", "");
	jw_kstr(&w, "HttpProxy", "");
	jw_kstr(&w, "HttpsProxy", "");
	jw_kstr(&w, "NoProxy", "");
	jw_kstr(&w, "Name", l.hostname);
	write_labels(&w, l.labels);
	jw_kbool(&w, "ExperimentalBuild", false);
	jw_kstr(&w, "ServerVersion", MESH_VERSION);
	jw_kraw(&w, "Runtimes", "{\"crun\":{\"path\":\"crun\"}}");
	jw_kstr(&w, "DefaultRuntime", "crun");
	write_swarm(&w, r->api, &l);
	jw_kbool(&w, "LiveRestoreEnabled", true); /* tasks outlive the daemon */
	jw_kstr(&w, "Isolation", "");
	jw_kraw(&w, "SecurityOptions", "[\"name=seccomp,profile=default\"]");
	jw_kraw(&w, "Warnings", "null");
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

void api_metrics(struct req *r)
{
	struct buf out = { 0 };
	if (r->api->ops->metrics)
		r->api->ops->metrics(r->api->arg, &out);
	prom_family(&out, "mesh_api_requests_total", "counter", "Answers of the HTTP API.");
	prom_u64(&out, "mesh_api_requests_total", r->api->requests, PROM_END);
	req_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &out);
}

/* ---- beyond the Engine API -------------------------------------------------------------------- */

void api_mesh_node(struct req *r)
{
	struct api_local_state l;
	struct jw w = { 0 };
	api_local(r->api, &l);
	jw_open(&w, '{');
	jw_kstr(&w, "NodeID", l.node_id);
	jw_kstr(&w, "Hostname", l.hostname);
	jw_kstr(&w, "NodeAddr", l.node_addr);
	jw_kstr(&w, "State", l.state);
	jw_kstr(&w, "Error", l.error);
	jw_kbool(&w, "Manager", l.manager);
	jw_kstr(&w, "DataPlane", l.data_plane);
	jw_kstr(&w, "Version", MESH_VERSION);
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

void api_mesh_node_inspect(struct req *r)
{
	struct mesh_err err = { 0 };
	const void *found;
	int rc = api_find(r, STORE_NODE, &found, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	const struct md_node *n = found;
	const struct md_node_description *d = &n->description;
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_kstr(&w, "ID", n->meta.id);
	jw_kstr(&w, "Hostname", d->hostname);
	jw_kstr(&w, "DataPlane", d->data_plane);
	jw_kstr(&w, "DataPathAddr", d->data_path_addr);
	jw_key(&w, "HostAddrs");
	jw_strs(&w, &d->host_addrs);
	jw_key(&w, "Underlay");
	jw_strs(&w, &d->underlay);
	jw_key(&w, "HostPorts");
	jw_open(&w, '[');
	for (size_t i = 0; i < d->host_ports.n; i++)
		md_json_write(&w, &md_host_port_schema, &d->host_ports.v[i]);
	jw_close(&w, ']');
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}

static void write_task_traffic(struct jw *w, const struct md_task *t)
{
	int traffic = t->status.traffic;
	jw_open(w, '{');
	jw_kstr(w, "ID", t->meta.id);
	jw_kstr(w, "NodeID", t->node.s);
	jw_kint(w, "Slot", (int64_t)t->slot);
	jw_kstr(w, "State", md_task_state_names.names[t->status.state]);
	jw_kstr(w, "DesiredState", md_task_state_names.names[t->desired_state]);
	jw_kstr(w, "Traffic", traffic == MD_TRAFFIC_NONE ? "none" : md_traffic_names.names[traffic]);
	jw_kbool(w, "Known", t->known);
	jw_kbool(w, "Drained", t->drained);
	jw_kint(w, "SpecVersion", (int64_t)t->spec_version.index);
	jw_close(w, '}');
}

void api_mesh_service_inspect(struct req *r)
{
	struct mesh_err err = { 0 };
	const void *found;
	int rc = api_find(r, STORE_SERVICE, &found, &err);
	if (rc) {
		req_fail(r, rc, &err);
		return;
	}
	const struct md_service *sv = found;
	struct store_list l = store_tasks_of_service(r->store, sv->meta.id);
	struct jw w = { 0 };
	jw_open(&w, '{');
	jw_kstr(&w, "ID", sv->meta.id);
	jw_kstr(&w, "Name", sv->spec.name);
	jw_kint(&w, "SpecVersion", (int64_t)sv->spec_version.index);
	/* What may still be moved, and what is on its way. */
	int64_t left = (int64_t)sv->rebalance;
	for (size_t i = 0; i < l.n; i++)
		left += md_task_wanted(l.v[i]) && ((const struct md_task *)l.v[i])->moving;
	jw_kint(&w, "Rebalance", left);
	jw_key(&w, "Tasks");
	jw_open(&w, '[');
	for (size_t i = 0; i < l.n; i++)
		write_task_traffic(&w, l.v[i]);
	jw_close(&w, ']');
	jw_close(&w, '}');
	req_reply_json(r, 200, &w);
}
