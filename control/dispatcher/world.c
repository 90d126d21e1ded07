/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/dispatcher/world.h"

#include <netinet/in.h>
#include <stdio.h>

#include "base/mem.h"
#include "control/model/policy.h"
#include "control/model/tmpl.h"

void world_key(char out[WORLD_KEY_MAX], char kind, const char *id, const char *network)
{
	if (network)
		snprintf(out, WORLD_KEY_MAX, "%c/%s/%s", kind, id, network);
	else
		snprintf(out, WORLD_KEY_MAX, "%c/%s", kind, id);
}

const char *world_key_network(const char *key)
{
	if (key[0] == 'N')
		return "";
	const char *slash = strchr(key + 2, '/');
	return slash ? slash + 1 : key + 2;
}

static void first_id(char dst[MESH_ID_LEN + 1], const char *key)
{
	const char *id = key + 2, *end = strchr(id, '/');
	char tmp[MESH_ID_LEN + 1] = { 0 };
	size_t n = end ? (size_t)(end - id) : strlen(id);
	memcpy(tmp, id, n < MESH_ID_LEN ? n : MESH_ID_LEN);
	mesh_id_set(dst, tmp);
}

void world_removal(const char *key, struct dp_change *out)
{
	out->del = true;
	switch (key[0]) {
	case 'N':
		out->kind = DP_NODE;
		out->node = XNEW(struct dp_node);
		first_id(out->node->id.s, key);
		break;
	case 'n':
		out->kind = DP_NETWORK;
		out->network = XNEW(struct dp_network);
		first_id(out->network->id.s, key);
		break;
	case 's':
		out->kind = DP_SERVICE;
		out->service = XNEW(struct dp_service);
		first_id(out->service->id.s, key);
		mesh_id_set(out->service->network.s, world_key_network(key));
		break;
	default:
		out->kind = DP_ENDPOINT;
		out->endpoint = XNEW(struct dp_endpoint);
		first_id(out->endpoint->task.s, key);
		mesh_id_set(out->endpoint->network.s, world_key_network(key));
		break;
	}
}

/* "10.0.1.5/24" -> "10.0.1.5" */
static char *without_prefix(const char *addr)
{
	return xstrndup(addr, strcspn(addr, "/"));
}

static bool node_object(const struct store *s, const char *id, struct dp_change *out)
{
	const struct md_node *n = store_get(s, STORE_NODE, id);
	if (!n)
		return false;
	const char *addr = n->description.data_path_addr && *n->description.data_path_addr
	                           ? n->description.data_path_addr
	                           : n->status.addr;
	if (!addr || !*addr)
		return false;
	out->kind = DP_NODE;
	out->node = XNEW(struct dp_node);
	mesh_id_set(out->node->id.s, id);
	out->node->hostname = xstrdup(n->description.hostname);
	out->node->addr = xstrdup(addr);
	return true;
}

static bool network_object(const struct store *s, const char *id, struct dp_change *out)
{
	const struct md_network *n = store_get(s, STORE_NETWORK, id);
	if (!n || !n->vni || !n->ipam.configs.n)
		return false;
	struct dp_network *o = XNEW(struct dp_network);
	mesh_id_set(o->id.s, id);
	o->name = xstrdup(n->spec.name);
	o->vni = n->vni;
	o->subnet = xstrdup(n->ipam.configs.v[0].subnet);
	o->gateway = xstrdup(n->ipam.configs.v[0].gateway);
	o->internal = n->spec.internal;
	o->ingress = n->spec.ingress;
	const char *mtu = smap_get(&n->spec.driver.options, "com.docker.network.driver.mtu");
	o->mtu = mtu ? (uint32_t)strtoul(mtu, NULL, 10) : 0;
	out->kind = DP_NETWORK;
	out->network = o;
	return true;
}

static const struct md_network_config *attachment_of(const struct md_service *svc, const char *network)
{
	for (size_t i = 0; i < svc->spec.task.networks.n; i++)
		if (streq(svc->spec.task.networks.v[i].target, network))
			return &svc->spec.task.networks.v[i];
	return NULL;
}

static int ip_protocol(int protocol)
{
	switch (protocol) {
	case MD_PROTO_UDP:
		return IPPROTO_UDP;
	case MD_PROTO_SCTP:
		return IPPROTO_SCTP;
	default:
		return IPPROTO_TCP;
	}
}

_Static_assert((int)MD_LOCAL_PREFER == DP_LOCAL_PREFER && (int)MD_LOCAL_REQUIRE == DP_LOCAL_REQUIRE, "same order");

/* Services that are not there have no tasks; when nobody is left the service serves itself. */
static void put_split(const struct store *s, const struct md_service *svc, const struct md_policy *t,
                      struct dp_service *o)
{
	uint32_t total = 0;
	for (size_t i = 0; i < t->split.n; i++) {
		const struct md_service *other = store_service_named(s, &svc->spec.labels, t->split.v[i].service);
		total += other ? t->split.v[i].weight : 0;
	}
	for (size_t i = 0; i < t->split.n && total; i++) {
		const struct md_service *other = store_service_named(s, &svc->spec.labels, t->split.v[i].service);
		if (!other)
			continue;
		struct dp_share *x = LIST_ADD(&o->split);
		mesh_id_set(x->service.s, other->meta.id);
		x->weight = t->split.v[i].weight;
	}
}

static void put_traffic(const struct store *s, const struct md_service *svc, bool publishes, struct dp_service *o)
{
	struct md_policy t;
	/* Refused when the service was made; an older manager may have let it in. */
	if (md_policy_parse(&svc->spec.labels, &t, NULL) == 0) {
		o->affinity_s = t.affinity_s;
		put_split(s, svc, &t, o);
	}
	if (publishes) {
		o->direct_return = t.direct;
		o->local = t.local;
		o->sources = t.sources;
		o->addresses = t.addresses;
		t.sources = t.addresses = (struct str_list){ 0 };
	}
	md_policy_fini(&t);
}

/* An alias without placeholders of a task or node: a name of the whole service. Caller frees; NULL: it is none. */
static char *service_alias(const struct tmpl_vars *v, const char *alias)
{
	struct tmpl_vars shared = { .service_id = v->service_id,
		                    .service_name = v->service_name,
		                    .service_labels = v->service_labels,
		                    .any_case = true };
	char *out = NULL;
	return tmpl_expand_str(&shared, alias, &out, NULL) ? NULL : out;
}

static void put_service_aliases(const struct md_service *svc, const struct str_list *aliases, struct str_list *out)
{
	const struct tmpl_vars v = { .service_id = svc->meta.id,
		                     .service_name = svc->spec.name,
		                     .service_labels = &svc->spec.labels };
	for (size_t i = 0; i < aliases->n; i++) {
		CLEAN_FREE char *alias = service_alias(&v, aliases->v[i]);
		if (alias)
			strs_add(out, alias);
	}
}

/* Aliases whose placeholders tell the tasks of a service apart name each task by itself. */
static void put_task_aliases(const struct store *s, const struct md_task *t, const char *task_name,
                             const struct str_list *aliases, struct str_list *out)
{
	const struct md_node *n = store_get(s, STORE_NODE, t->node.s);
	char slot[MESH_ID_LEN + 8];
	if (t->slot)
		snprintf(slot, sizeof(slot), "%llu", (unsigned long long)t->slot);
	else
		snprintf(slot, sizeof(slot), "%s", t->node.s);
	const struct tmpl_vars v = { .service_id = t->service.s,
		                     .service_name = t->service_name,
		                     .service_labels = &t->service_labels,
		                     .node_id = t->node.s,
		                     .node_hostname = n ? n->description.hostname : NULL,
		                     .node_os = n ? n->description.platform.os : NULL,
		                     .node_arch = n ? n->description.platform.architecture : NULL,
		                     .task_id = t->meta.id,
		                     .task_name = task_name,
		                     .task_slot = slot,
		                     .any_case = true };
	for (size_t i = 0; i < aliases->n; i++) {
		CLEAN_FREE char *shared = strstr(aliases->v[i], "{{") ? service_alias(&v, aliases->v[i]) : xstrdup("");
		CLEAN_FREE char *own = NULL;
		if (!shared && !tmpl_expand_str(&v, aliases->v[i], &own, NULL))
			strs_add(out, own);
	}
}

static bool service_object(const struct store *s, const char *id, const char *network, struct dp_change *out)
{
	const struct md_service *svc = store_get(s, STORE_SERVICE, id);
	const struct md_network *net = store_get(s, STORE_NETWORK, network);
	if (!svc || !net)
		return false;
	const char *vip = NULL;
	for (size_t i = 0; i < svc->endpoint.vips.n; i++)
		if (streq(svc->endpoint.vips.v[i].network.s, network))
			vip = svc->endpoint.vips.v[i].addr;
	const struct md_network_config *att = attachment_of(svc, network);
	bool publishes = net->spec.ingress && md_endpoint_has_ingress(svc->spec.endpoint);
	if (!vip && !att && !publishes)
		return false;
	struct dp_service *o = XNEW(struct dp_service);
	mesh_id_set(o->id.s, id);
	mesh_id_set(o->network.s, network);
	o->name = xstrdup(svc->spec.name);
	o->vip = vip ? without_prefix(vip) : NULL;
	if (att)
		put_service_aliases(svc, &att->aliases, &o->aliases);
	for (size_t i = 0; publishes && i < svc->endpoint.ports.n; i++) {
		const struct md_port *p = &svc->endpoint.ports.v[i];
		if (p->mode == MD_PUBLISH_HOST || !p->published)
			continue;
		struct dp_port *port = LIST_ADD(&o->ports);
		*port = (struct dp_port){ .protocol = ip_protocol(p->protocol),
			                  .published = p->published,
			                  .target = p->target };
	}
	put_traffic(s, svc, publishes, o);
	out->kind = DP_SERVICE;
	out->service = o;
	return true;
}

int world_backend_state(const struct md_task *t, enum world_node node_state)
{
	if (ID_EMPTY(t->node) || md_task_ended(t) || node_state == WORLD_NODE_DOWN)
		return -1;
	bool serving = t->status.state == MD_TASK_RUNNING && t->status.traffic == MD_TRAFFIC_SERVING;
	if (t->desired_state > MD_TASK_RUNNING || (serving && node_state == WORLD_NODE_SUSPECT))
		return DP_DRAINING;
	return serving ? DP_SERVING : DP_STARTING;
}

bool world_task_holds_networks(const struct md_task *t)
{
	return !ID_EMPTY(t->node) && !md_task_ended(t);
}

static bool endpoint_object(const struct store *s, const char *id, const char *network, enum world_node node_state,
                            struct dp_change *out)
{
	const struct md_task *t = store_get(s, STORE_TASK, id);
	int state = t ? world_backend_state(t, node_state) : -1;
	const struct md_attachment *att = NULL;
	for (size_t i = 0; state >= 0 && i < t->attachments.n; i++)
		if (streq(t->attachments.v[i].network.s, network))
			att = &t->attachments.v[i];
	if (!att || !att->addresses.n)
		return false;
	struct dp_endpoint *o = XNEW(struct dp_endpoint);
	mesh_id_set(o->task.s, id);
	mesh_id_set(o->network.s, network);
	o->service = t->service;
	o->node = t->node;
	o->addr = without_prefix(att->addresses.v[0]);
	o->state = state;
	CLEAN_FREE char *name = md_task_container_name(t);
	strs_add(&o->names, name);
	if (t->status.container && t->status.container->container_id &&
	    strlen(t->status.container->container_id) >= 12) {
		char short_id[13];
		snprintf(short_id, sizeof(short_id), "%.12s", t->status.container->container_id);
		strs_add(&o->names, short_id);
	}
	if (ID_EMPTY(t->service))
		for (size_t i = 0; i < att->aliases.n; i++)
			strs_add(&o->names, att->aliases.v[i]);
	else
		put_task_aliases(s, t, name, &att->aliases, &o->names);
	out->kind = DP_ENDPOINT;
	out->endpoint = o;
	return true;
}

bool world_object(const struct store *s, const char *key, enum world_node node_state, struct dp_change *out)
{
	char id[MESH_ID_LEN + 1];
	first_id(id, key);
	switch (key[0]) {
	case 'N':
		return node_object(s, id, out);
	case 'n':
		return network_object(s, id, out);
	case 's':
		return service_object(s, id, world_key_network(key), out);
	default:
		return endpoint_object(s, id, world_key_network(key), node_state, out);
	}
}
