/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   the objects of a cluster as plain structs: the Docker Engine API's Node, Service, Task, Network,
 *         Secret, Config and Swarm, with its names, defaults and enums. A schema table per struct
 *         (base/schema.h) drives JSON, the binary encoding, copies and comparison.
 * Owner:  an object owns what it points to; sch_clear(&md_x_schema, &x) frees it.
 * Units:  times int64 ns since 1970, durations int64 ns, sizes bytes, CPUs in 1e-9 (NanoCPUs).
 * Source: Docker Engine API 1.41 to 1.47. Fields marked "internal" are ours and never leave through JSON.
 */
#ifndef CONTROL_MODEL_MODEL_H
#define CONTROL_MODEL_MODEL_H

#include "base/id.h"
#include "base/schema.h"

/* ---- enums: value, then the API's text (tables in model.c, md_*_names) ------------------------ */

/* A task only ever moves forward in this order (control/model/task_state.h). */
enum md_task_state {
	MD_TASK_NEW,
	MD_TASK_ALLOCATED, /* shown as "allocated"; resources of the cluster are bound */
	MD_TASK_PENDING,
	MD_TASK_ASSIGNED,
	MD_TASK_ACCEPTED,
	MD_TASK_PREPARING,
	MD_TASK_READY,
	MD_TASK_STARTING,
	MD_TASK_RUNNING,
	MD_TASK_COMPLETE,
	MD_TASK_SHUTDOWN,
	MD_TASK_FAILED,
	MD_TASK_REJECTED,
	MD_TASK_REMOVE,
	MD_TASK_ORPHANED,
	MD_TASK_STATE_MAX
};
enum md_node_role { MD_ROLE_WORKER, MD_ROLE_MANAGER, MD_ROLE_MAX };
enum md_availability { MD_AVAIL_ACTIVE, MD_AVAIL_PAUSE, MD_AVAIL_DRAIN, MD_AVAIL_MAX };
enum md_node_state { MD_NODE_UNKNOWN, MD_NODE_DOWN, MD_NODE_READY, MD_NODE_DISCONNECTED, MD_NODE_STATE_MAX };
enum md_reachability { MD_REACH_UNKNOWN, MD_REACH_UNREACHABLE, MD_REACH_REACHABLE, MD_REACH_MAX };
enum md_restart_condition { MD_RESTART_UNSET, MD_RESTART_NONE, MD_RESTART_ON_FAILURE, MD_RESTART_ANY, MD_RESTART_MAX };
enum md_failure_action { MD_FAILURE_UNSET, MD_FAILURE_PAUSE, MD_FAILURE_CONTINUE, MD_FAILURE_ROLLBACK, MD_FAILURE_MAX };
enum md_update_order { MD_ORDER_UNSET, MD_ORDER_STOP_FIRST, MD_ORDER_START_FIRST, MD_ORDER_MAX };
enum md_update_state {
	MD_UPDATE_NONE,
	MD_UPDATE_UPDATING,
	MD_UPDATE_PAUSED,
	MD_UPDATE_COMPLETED,
	MD_UPDATE_ROLLBACK_STARTED,
	MD_UPDATE_ROLLBACK_PAUSED,
	MD_UPDATE_ROLLBACK_COMPLETED,
	MD_UPDATE_STATE_MAX
};
enum md_endpoint_mode { MD_ENDPOINT_UNSET, MD_ENDPOINT_VIP, MD_ENDPOINT_DNSRR, MD_ENDPOINT_MODE_MAX };
enum md_protocol { MD_PROTO_UNSET, MD_PROTO_TCP, MD_PROTO_UDP, MD_PROTO_SCTP, MD_PROTO_MAX };
enum md_publish_mode { MD_PUBLISH_UNSET, MD_PUBLISH_INGRESS, MD_PUBLISH_HOST, MD_PUBLISH_MAX };
enum md_mount_type {
	MD_MOUNT_UNSET,
	MD_MOUNT_BIND,
	MD_MOUNT_VOLUME,
	MD_MOUNT_TMPFS,
	MD_MOUNT_NPIPE,
	MD_MOUNT_CLUSTER,
	MD_MOUNT_IMAGE,
	MD_MOUNT_TYPE_MAX
};
enum md_service_mode { MD_MODE_REPLICATED, MD_MODE_GLOBAL, MD_MODE_REPLICATED_JOB, MD_MODE_GLOBAL_JOB, MD_MODE_MAX };
/* internal: whether a task's node sends and takes traffic for it (docs/architecture.md, "Drain"). */
enum md_traffic { MD_TRAFFIC_NONE, MD_TRAFFIC_STARTING, MD_TRAFFIC_SERVING, MD_TRAFFIC_MAX };

extern const struct sch_enum md_task_state_names, md_node_role_names, md_availability_names, md_node_state_names,
	md_reachability_names, md_restart_condition_names, md_failure_action_names, md_update_order_names,
	md_update_state_names, md_endpoint_mode_names, md_protocol_names, md_publish_mode_names, md_mount_type_names,
	md_traffic_names;

/* ---- common ----------------------------------------------------------------------------------- */

struct md_version {
	uint64_t index;
};
/*
 * First member of every stored object.
 * version: what clients pass back as ?version=N; moves only when the spec is written.
 * rev:     internal; the log index of the last change of any kind, set by the store.
 */
struct md_meta {
	char id[MESH_ID_LEN + 1];
	struct md_version version;
	int64_t created_at, updated_at;
	uint64_t rev;
};
struct md_driver {
	char *name;
	struct str_map options;
};
struct md_named_resource { /* the API's two shapes of a generic resource */
	char *kind, *value;
};
struct md_discrete_resource {
	char *kind;
	int64_t value;
};
struct md_generic {
	struct md_named_resource *named;
	struct md_discrete_resource *discrete;
};

/* ---- node ------------------------------------------------------------------------------------- */

struct md_platform {
	char *architecture, *os;
};
struct md_resources {
	int64_t nano_cpus, memory_bytes;
	SCH_LIST(struct md_generic) generic;
};
struct md_plugin {
	char *type, *name;
};
struct md_engine {
	char *engine_version;
	struct str_map labels;
	SCH_LIST(struct md_plugin) plugins;
};
struct md_tls_info {
	char *trust_root;               /* PEM */
	struct bytes issuer_subject;    /* DER */
	struct bytes issuer_public_key; /* DER */
};
/* internal: a port the host itself listens on; published ports must not shadow it. */
struct md_host_port {
	uint16_t port;
	int protocol;  /* enum md_protocol */
	char *process; /* best effort, may be NULL */
};
struct md_node_description {
	char *hostname;
	struct md_platform platform;
	struct md_resources resources;
	struct md_engine engine;
	struct md_tls_info tls;
	char *data_plane;                         /* internal: driver in use and why, "ebpf" / "nft: <reason>" */
	char *data_path_addr;                     /* internal: where VXLAN packets for this node go */
	struct str_list host_addrs;               /* internal: all addresses of the host, for published ports */
	SCH_LIST(struct md_host_port) host_ports; /* internal */
	struct str_list underlay;                 /* internal: subnets of the host's links, "172.31.0.0/24" */
};
struct md_node_spec {
	char *name;
	struct str_map labels;
	int role;         /* enum md_node_role */
	int availability; /* enum md_availability */
};
struct md_node_status {
	int state; /* enum md_node_state */
	char *message;
	char *addr;
};
struct md_manager_status {
	bool leader;
	int reachability; /* enum md_reachability */
	char *addr;       /* host:port */
	uint64_t raft_id; /* internal */
};
struct md_node {
	struct md_meta meta;
	struct md_node_spec spec;
	struct md_node_description description;
	struct md_node_status status;
	struct md_manager_status *manager; /* managers only */
};

/* ---- network ---------------------------------------------------------------------------------- */

struct md_ipam_config {
	char *subnet, *ip_range, *gateway;
};
struct md_ipam_options {
	struct md_driver driver;
	SCH_LIST(struct md_ipam_config) configs;
};
struct md_network_spec {
	char *name;
	struct str_map labels;
	struct md_driver driver;
	bool ipv6_enabled, internal, attachable, ingress;
	struct md_ipam_options *ipam;
	char *scope; /* "swarm" */
};
struct md_network {
	struct md_meta meta;
	struct md_network_spec spec;
	/* Set by the allocator: what the spec left open. */
	uint32_t vni;                /* internal; shown as an option of DriverState */
	struct md_ipam_options ipam; /* effective subnet and gateway */
	bool pending_delete;         /* internal */
};

/* ---- service ---------------------------------------------------------------------------------- */

struct md_bind_options {
	char *propagation;
	bool non_recursive, create_mountpoint, read_only_non_recursive, read_only_force_recursive;
};
struct md_volume_options {
	bool no_copy;
	struct str_map labels;
	char *subpath;
	struct md_driver *driver;
};
struct md_tmpfs_options {
	int64_t size_bytes;
	uint32_t mode;
};
struct md_mount {
	int type; /* enum md_mount_type */
	char *source, *target;
	bool read_only;
	char *consistency;
	struct md_bind_options *bind;
	struct md_volume_options *volume;
	struct md_tmpfs_options *tmpfs;
};
struct md_credential_spec {
	char *config, *file, *registry;
};
struct md_selinux {
	bool disable;
	char *user, *role, *type, *level;
};
struct md_seccomp {
	char *mode;
	struct bytes profile;
};
struct md_apparmor {
	char *mode;
};
struct md_privileges {
	struct md_credential_spec *credential_spec;
	struct md_selinux *selinux;
	struct md_seccomp *seccomp;
	struct md_apparmor *apparmor;
	bool no_new_privileges;
};
struct md_health {
	struct str_list test;
	int64_t interval, timeout, start_period, start_interval;
	int64_t retries;
};
struct md_dns_config {
	struct str_list nameservers, search, options;
};
struct md_file_target {
	char *name, *uid, *gid;
	uint32_t mode;
};
struct md_empty {
	char *unused;
};
struct md_secret_ref {
	struct md_file_target *file;
	secret_id secret;
	char *secret_name;
};
struct md_config_ref {
	struct md_file_target *file;
	struct md_empty *runtime;
	config_id config;
	char *config_name;
};
struct md_ulimit {
	char *name;
	int64_t soft, hard;
};
struct md_container_spec {
	char *image;
	struct str_map labels;
	struct str_list command, args; /* command replaces the image's entrypoint, args its cmd */
	char *hostname;
	struct str_list env;
	char *dir, *user;
	struct str_list groups;
	struct md_privileges *privileges;
	char *stop_signal;
	bool tty, open_stdin, read_only;
	SCH_LIST(struct md_mount) mounts;
	struct opt_i64 stop_grace_period;
	struct md_health *health;
	struct str_list hosts; /* "1.2.3.4 name" */
	struct md_dns_config *dns;
	SCH_LIST(struct md_secret_ref) secrets;
	SCH_LIST(struct md_config_ref) configs;
	char *isolation;
	struct opt_bool init;
	struct str_map sysctls;
	struct str_list cap_add, cap_drop;
	SCH_LIST(struct md_ulimit) ulimits;
	int64_t oom_score_adj;
	char *pull_auth; /* internal: X-Registry-Auth given at create, for the node's pull */
};
struct md_limit {
	int64_t nano_cpus, memory_bytes, pids;
};
struct md_resource_requirements {
	struct md_limit *limits;
	struct md_resources *reservations;
};
struct md_restart_policy {
	int condition; /* enum md_restart_condition */
	struct opt_i64 delay;
	struct opt_u64 max_attempts;
	struct opt_i64 window;
};
struct md_spread {
	char *descriptor;
};
struct md_preference {
	struct md_spread *spread;
};
struct md_placement {
	struct str_list constraints;
	SCH_LIST(struct md_preference) preferences;
	uint64_t max_replicas;
	SCH_LIST(struct md_platform) platforms;
};
struct md_network_config { /* how a service or task attaches to a network */
	char *target;      /* network id (or name, before the API resolved it) */
	struct str_list aliases;
	struct str_map driver_opts;
};
/* A standalone container (docker run): a task without a service, on the node that was asked for it. */
struct md_attachment_spec {
	char *container_id;
	char *name;       /* internal, unique on its node; shown as the container's name */
	bool auto_remove; /* internal: the task is deleted when it has ended */
	bool stdin_once;  /* internal: its input ends with that of the first client */
	bool no_network;  /* internal: nothing but loopback */
	char *previous;   /* internal: the task of the same container's last run, whose files it takes over */
};
struct md_task_spec {
	struct md_container_spec *container;
	struct md_attachment_spec *attachment;
	struct md_resource_requirements *resources;
	struct md_restart_policy *restart;
	struct md_placement *placement;
	SCH_LIST(struct md_network_config) networks;
	struct md_driver *log_driver;
	uint64_t force_update;
	char *runtime;
};
struct md_replicated {
	struct opt_u64 replicas;
};
struct md_replicated_job {
	struct opt_u64 max_concurrent, total_completions;
};
struct md_mode { /* exactly one is set; all NULL means replicated, 1 */
	struct md_replicated *replicated;
	struct md_empty *global;
	struct md_replicated_job *replicated_job;
	struct md_empty *global_job;
};
struct md_update_config {
	uint64_t parallelism;
	int64_t delay;
	int failure_action; /* enum md_failure_action */
	int64_t monitor;
	double max_failure_ratio;
	int order; /* enum md_update_order */
};
struct md_port {
	char *name;
	int protocol; /* enum md_protocol */
	uint32_t target, published;
	int mode; /* enum md_publish_mode */
};
struct md_endpoint_spec {
	int mode; /* enum md_endpoint_mode */
	SCH_LIST(struct md_port) ports;
};
struct md_service_spec {
	char *name;
	struct str_map labels;
	struct md_task_spec task;
	struct md_mode mode;
	struct md_update_config *update, *rollback;
	SCH_LIST(struct md_network_config) networks; /* the API's old place; merged into task.networks */
	struct md_endpoint_spec *endpoint;
};
struct md_vip {
	network_id network;
	char *addr; /* "10.0.2.2/24" */
};
struct md_endpoint { /* what the allocator gave */
	struct md_endpoint_spec spec;
	SCH_LIST(struct md_port) ports; /* published ports filled in */
	SCH_LIST(struct md_vip) vips;
};
struct md_update_status {
	int state; /* enum md_update_state */
	int64_t started_at, completed_at;
	char *message;
};
struct md_job_status {
	struct md_version iteration;
	int64_t last_execution;
};
struct md_service {
	struct md_meta meta;
	struct md_service_spec spec;
	struct md_service_spec *previous_spec;
	struct md_endpoint endpoint;
	struct md_update_status *update_status;
	struct md_job_status *job_status;
	struct md_version spec_version;           /* internal: moves when spec.task or endpoint changed */
	struct md_version *previous_spec_version; /* internal */
	bool pending_delete;                      /* internal: tasks are being drained, then it goes */
	uint64_t rebalance;                       /* internal: how many tasks may still be moved to even out */
};

/* ---- task ------------------------------------------------------------------------------------- */

struct md_container_status {
	char *container_id;
	int64_t pid;
	int64_t exit_code;
};
struct md_port_status {
	SCH_LIST(struct md_port) ports;
};
struct md_task_status {
	int64_t timestamp;
	int state; /* enum md_task_state */
	char *message, *err;
	struct md_container_status *container;
	struct md_port_status ports;
	int traffic; /* internal, enum md_traffic: what its node can say of its readiness */
};
struct md_attachment { /* a task's place on one network, from the allocator */
	network_id network;
	struct str_list addresses; /* "10.0.2.19/24" */
	struct str_list aliases;
};
struct md_task {
	struct md_meta meta;
	char *name; /* "web.1.<id>", filled for display */
	struct str_map labels;
	struct md_task_spec spec;
	service_id service;
	uint64_t slot; /* 0 for global services */
	node_id node;
	struct md_task_status status;
	int desired_state; /* enum md_task_state */
	SCH_LIST(struct md_attachment) attachments;
	SCH_LIST(struct md_generic) generic; /* assigned generic resources */
	struct md_version *job_iteration;
	/* internal: what the node needs to know of the service, frozen at creation */
	char *service_name;
	struct str_map service_labels;
	struct md_endpoint_spec endpoint;
	struct md_version spec_version;
	bool moving;  /* its slot starts another elsewhere, which replaces it once it is up */
	bool drained; /* every live node has acknowledged that no new connection goes to it */
	bool known;   /* every live node has acknowledged that it serves */
};

/* ---- secret, config --------------------------------------------------------------------------- */

struct md_secret_spec {
	char *name;
	struct str_map labels;
	struct bytes data; /* never written to JSON */
	struct md_driver *driver, *templating;
};
struct md_secret {
	struct md_meta meta;
	struct md_secret_spec spec;
};
struct md_config_spec {
	char *name;
	struct str_map labels;
	struct bytes data;
	struct md_driver *templating;
};
struct md_config {
	struct md_meta meta;
	struct md_config_spec spec;
};

/* ---- cluster ("swarm") ------------------------------------------------------------------------ */

struct md_orchestration {
	struct opt_i64 task_history;
};
struct md_raft_config {
	uint64_t snapshot_interval;
	struct opt_u64 keep_old_snapshots;
	uint64_t log_entries_for_slow_followers;
	int64_t election_tick, heartbeat_tick;
};
struct md_dispatcher_config {
	int64_t heartbeat_period;
};
struct md_external_ca {
	char *protocol, *url, *ca_cert;
	struct str_map options;
};
struct md_ca_config {
	int64_t node_cert_expiry;
	SCH_LIST(struct md_external_ca) external_cas;
	char *signing_ca_cert, *signing_ca_key;
	uint64_t force_rotate;
};
struct md_task_defaults {
	struct md_driver *log_driver;
};
struct md_encryption_config {
	bool autolock;
};
struct md_cluster_spec {
	char *name;
	struct str_map labels;
	struct md_orchestration orchestration;
	struct md_raft_config raft;
	struct md_dispatcher_config dispatcher;
	struct md_ca_config ca;
	struct md_task_defaults task_defaults;
	struct md_encryption_config encryption;
};
struct md_join_tokens {
	char *worker, *manager;
};
struct md_cluster {
	struct md_meta meta;
	struct md_cluster_spec spec;
	struct md_tls_info tls;
	bool root_rotation_in_progress;
	struct str_list default_addr_pool;
	uint32_t subnet_size;
	uint32_t data_path_port;
	struct md_join_tokens tokens;
	/* internal */
	struct bytes root_cert; /* DER */
	struct bytes root_key;  /* DER, SEC1 */
	struct bytes unlock_key;
};

/* ---- schemas ---------------------------------------------------------------------------------- */

extern const struct schema md_meta_schema, md_driver_schema, md_generic_schema, md_node_schema, md_node_spec_schema,
	md_node_description_schema, md_node_status_schema, md_network_schema, md_network_spec_schema,
	md_ipam_options_schema, md_ipam_config_schema, md_service_schema, md_service_spec_schema, md_task_spec_schema,
	md_container_spec_schema, md_endpoint_spec_schema, md_endpoint_schema, md_port_schema, md_task_schema,
	md_task_status_schema, md_attachment_schema, md_secret_schema, md_secret_spec_schema, md_config_schema,
	md_config_spec_schema, md_cluster_schema, md_cluster_spec_schema, md_tls_info_schema, md_host_port_schema,
	md_mount_schema, md_health_schema, md_update_config_schema, md_restart_policy_schema, md_placement_schema,
	md_resource_requirements_schema, md_network_config_schema, md_join_tokens_schema;

/* ---- small questions asked everywhere --------------------------------------------------------- */

enum md_service_mode md_service_mode_of(const struct md_service_spec *s);
/* Replicas asked for; 0 for the other modes. */
uint64_t md_service_replicas(const struct md_service_spec *s);
/* Does any port use the routing mesh? */
bool md_endpoint_has_ingress(const struct md_endpoint_spec *e);
/* Has the task ended (COMPLETE or later)? */
static inline bool md_task_ended(const struct md_task *t)
{
	return t->status.state > MD_TASK_RUNNING;
}
/* Is it meant to run and not ended? */
static inline bool md_task_wanted(const struct md_task *t)
{
	return t->desired_state <= MD_TASK_RUNNING && !md_task_ended(t);
}
/* A container somebody ran by hand. */
static inline bool md_task_standalone(const struct md_task *t)
{
	return ID_EMPTY(t->service) && t->spec.attachment != NULL;
}
/* "web.1.<task id>" or "web.<node id>.<task id>" for global ones; caller frees. The engine's name. */
char *md_task_container_name(const struct md_task *t);

/* Defaults the engine applies to a spec that leaves fields unset (insertDefaults=true). */
void md_service_spec_defaults(struct md_service_spec *s);
void md_cluster_spec_defaults(struct md_cluster_spec *s);

#endif
