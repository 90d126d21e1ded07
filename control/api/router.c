/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>

#include "base/mem.h"
#include "control/api/http.h"

/* Longest match is not needed: no path fits two patterns of one method but the ones ordered here. */
static const struct route routes[] = {
	{ "GET", "/_ping", api_ping, 0 },
	{ "GET", "/version", api_version, 0 },
	{ "GET", "/info", api_info, 0 },
	{ "GET", "/system/df", api_df, 0 },
	{ "POST", "/auth", api_auth, 0 },
	{ "GET", "/events", api_events, 0 },
	{ "GET", "/metrics", api_metrics, 0 },
	{ "GET", "/_mesh/node", api_mesh_node, 0 },
	{ "GET", "/_mesh/stats", api_mesh_stats, R_MANAGER },
	{ "GET", "/_mesh/trace", api_mesh_trace, R_MANAGER },
	{ "GET", "/_mesh/doctor", api_mesh_doctor, R_MANAGER },
	{ "GET", "/_mesh/nodes/{}", api_mesh_node_inspect, R_MANAGER },
	{ "GET", "/_mesh/services/{}", api_mesh_service_inspect, R_MANAGER },
	{ "POST", "/_mesh/services/{}/rebalance", api_mesh_service_rebalance, R_MANAGER },

	{ "GET", "/swarm", api_swarm_inspect, R_MANAGER },
	{ "POST", "/swarm/init", api_swarm_init, 0 },
	{ "POST", "/swarm/join", api_swarm_join, 0 },
	{ "POST", "/swarm/leave", api_swarm_leave, 0 },
	{ "POST", "/swarm/update", api_swarm_update, R_MANAGER },
	{ "GET", "/swarm/unlockkey", api_swarm_unlockkey, R_MANAGER },
	{ "POST", "/swarm/unlock", api_swarm_unlock, 0 },

	{ "GET", "/nodes", api_node_list, R_MANAGER },
	{ "GET", "/nodes/{}", api_node_inspect, R_MANAGER },
	{ "DELETE", "/nodes/{}", api_node_remove, R_MANAGER },
	{ "POST", "/nodes/{}/update", api_node_update, R_MANAGER },

	{ "GET", "/services", api_service_list, R_MANAGER },
	{ "POST", "/services/create", api_service_create, R_MANAGER },
	{ "GET", "/services/{}", api_service_inspect, R_MANAGER },
	{ "DELETE", "/services/{}", api_service_remove, R_MANAGER },
	{ "POST", "/services/{}/update", api_service_update, R_MANAGER },
	{ "GET", "/services/{}/logs", api_service_logs, R_MANAGER },

	{ "GET", "/tasks", api_task_list, R_MANAGER },
	{ "GET", "/tasks/{}", api_task_inspect, R_MANAGER },
	{ "GET", "/tasks/{}/logs", api_task_logs, R_MANAGER },

	{ "GET", "/networks", api_network_list, 0 },
	{ "POST", "/networks/create", api_network_create, 0 },
	{ "POST", "/networks/prune", api_network_prune, 0 },
	{ "GET", "/networks/{}", api_network_inspect, 0 },
	{ "DELETE", "/networks/{}", api_network_remove, 0 },
	{ "POST", "/networks/{}/connect", api_network_connect, 0 },
	{ "POST", "/networks/{}/disconnect", api_network_connect, 0 },

	{ "GET", "/secrets", api_secret_list, R_MANAGER },
	{ "POST", "/secrets/create", api_secret_create, R_MANAGER },
	{ "GET", "/secrets/{}", api_secret_inspect, R_MANAGER },
	{ "DELETE", "/secrets/{}", api_secret_remove, R_MANAGER },
	{ "POST", "/secrets/{}/update", api_secret_update, R_MANAGER },
	{ "GET", "/configs", api_config_list, R_MANAGER },
	{ "POST", "/configs/create", api_config_create, R_MANAGER },
	{ "GET", "/configs/{}", api_config_inspect, R_MANAGER },
	{ "DELETE", "/configs/{}", api_config_remove, R_MANAGER },
	{ "POST", "/configs/{}/update", api_config_update, R_MANAGER },

	{ "GET", "/containers/json", api_container_list, 0 },
	{ "POST", "/containers/create", api_container_create, 0 },
	{ "POST", "/containers/prune", api_container_prune, 0 },
	{ "GET", "/containers/{}/json", api_container_inspect, 0 },
	{ "GET", "/containers/{}/logs", api_container_logs, 0 },
	{ "GET", "/containers/{}/top", api_container_top, 0 },
	{ "GET", "/containers/{}/stats", api_container_stats, 0 },
	{ "POST", "/containers/{}/kill", api_container_kill, 0 },
	{ "POST", "/containers/{}/stop", api_container_stop, 0 },
	{ "POST", "/containers/{}/start", api_container_start, 0 },
	{ "POST", "/containers/{}/restart", api_container_restart, 0 },
	{ "POST", "/containers/{}/wait", api_container_wait, 0 },
	{ "POST", "/containers/{}/attach", api_container_attach, 0 },
	{ "POST", "/containers/{}/exec", api_exec_create, 0 },
	{ "POST", "/containers/{}/resize", api_container_resize, 0 },
	{ "POST", "/containers/{}/pause", api_container_unsupported, 0 },
	{ "POST", "/containers/{}/unpause", api_container_unsupported, 0 },
	{ "POST", "/containers/{}/rename", api_container_rename, 0 },
	{ "POST", "/containers/{}/update", api_container_unsupported, 0 },
	{ "GET", "/containers/{}/changes", api_container_unsupported, 0 },
	{ "GET", "/containers/{}/export", api_container_unsupported, 0 },
	{ "GET", "/containers/{}/archive", api_container_unsupported, 0 },
	{ "PUT", "/containers/{}/archive", api_container_unsupported, 0 },
	{ "DELETE", "/containers/{}", api_container_remove, 0 },
	{ "POST", "/exec/{}/start", api_exec_start, 0 },
	{ "POST", "/exec/{}/resize", api_exec_resize, 0 },
	{ "GET", "/exec/{}/json", api_exec_inspect, 0 },

	{ "GET", "/images/json", api_image_list, 0 },
	{ "POST", "/images/create", api_image_create, 0 },
	{ "POST", "/images/load", api_image_load, R_UPLOAD },
	{ "POST", "/images/prune", api_image_prune, 0 },
	{ "GET", "/images/search", api_image_unsupported, 0 },
	{ "GET", "/images/get", api_image_unsupported, 0 },
	{ "GET", "/images/{*}/json", api_image_inspect, 0 },
	{ "GET", "/images/{*}/history", api_image_history, 0 },
	{ "GET", "/images/{*}/get", api_image_unsupported, 0 },
	{ "POST", "/images/{*}/tag", api_image_tag, 0 },
	{ "POST", "/images/{*}/push", api_image_unsupported, 0 },
	{ "DELETE", "/images/{*}", api_image_remove, 0 },
	{ "POST", "/build", api_image_unsupported, 0 },
	{ "POST", "/commit", api_image_unsupported, 0 },
	{ "GET", "/distribution/{*}/json", api_distribution_inspect, 0 },

	{ "GET", "/volumes", api_volume_list, 0 },
	{ "POST", "/volumes/create", api_volume_create, 0 },
	{ "POST", "/volumes/prune", api_volume_prune, 0 },
	{ "GET", "/volumes/{}", api_volume_inspect, 0 },
	{ "DELETE", "/volumes/{}", api_volume_remove, 0 },
};

int api_path_split(const char *url, int *minor, const char **path, struct mesh_err *err)
{
	*minor = 0;
	*path = url;
	if (strncmp(url, "/v1.", 4) != 0 || !isdigit((unsigned char)url[4]))
		return 0;
	char *end;
	unsigned long n = strtoul(url + 4, &end, 10);
	if (*end != '/' && *end)
		return 0;
	if (n < API_MIN_MINOR || n > 9999)
		return mesh_fail(err, MESH_E_INVALID,
		                 "client version 1.%lu is too old. Minimum supported API version is " API_MIN_VERSION
		                 ", please upgrade your client to a newer version",
		                 n);
	*minor = (int)n;
	*path = end;
	return 0;
}

/* Matches one pattern; start and length of what each {} stands for go to from and len. */
static bool match(const char *pattern, const char *path, const char *from[REQ_ARGS], size_t len[REQ_ARGS])
{
	size_t n = 0;
	for (; *pattern; pattern++) {
		if (*pattern != '{') {
			if (*pattern != *path++)
				return false;
			continue;
		}
		bool several = pattern[1] == '*';
		pattern = strchr(pattern, '}');
		size_t tail = strlen(pattern + 1), left = strlen(path);
		size_t take = several ? (left > tail ? left - tail : 0) : strcspn(path, "/");
		if (!take || n == REQ_ARGS)
			return false;
		from[n] = path;
		len[n++] = take;
		path += take;
	}
	return !*path;
}

const struct route *api_route_find(const char *method, const char *path, char *arg[REQ_ARGS], bool *known)
{
	if (strcmp(method, "HEAD") == 0)
		method = "GET";
	*known = false;
	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		const char *from[REQ_ARGS] = { NULL };
		size_t len[REQ_ARGS] = { 0 };
		if (!match(routes[i].pattern, path, from, len))
			continue;
		*known = true;
		if (strcmp(routes[i].method, method) != 0)
			continue;
		for (size_t k = 0; k < REQ_ARGS; k++)
			arg[k] = from[k] ? xstrndup(from[k], len[k]) : NULL;
		return &routes[i];
	}
	return NULL;
}

void api_route(struct req *r, const char *method, const char *url)
{
	struct mesh_err err = { 0 };
	const char *path;
	bool known = false;
	size_t n = strlen(url);
	if (api_path_split(url, &r->minor, &path, &err)) {
		req_fail(r, err.code, &err);
		return;
	}
	r->path = xstrdup(path);
	n = strlen(r->path);
	while (n > 1 && r->path[n - 1] == '/')
		r->path[--n] = 0;
	r->route = api_route_find(method, r->path, r->arg, &known);
	if (!r->route)
		req_error(r, known ? 405 : 404, known ? "method %s not allowed for %.200s" : "page not found", method,
		          r->path);
}

void api_dispatch(struct req *r)
{
	struct api *a = r->api;
	if (r->too_large) {
		req_error(r, 413, "request body is larger than %u bytes", API_BODY_MAX);
		return;
	}
	if (r->route->flags & R_MANAGER) {
		r->store = a->ops->store(a->arg);
		if (!r->store || !store_cluster(r->store)) {
			struct mesh_err err = { 0 };
			req_fail(r, api_not_manager(a, &err), &err);
			return;
		}
	}
	r->route->fn(r);
	r->store = NULL;
}
