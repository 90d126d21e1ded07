/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/model/model.h"

#include "base/mem.h"

#define NAMES(var, ...)                                                                                                \
	static const char *const var##_text[] = { __VA_ARGS__ };                                                       \
	const struct sch_enum var = { var##_text, ARRAY_SIZE(var##_text) }

NAMES(md_task_state_names, "new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting",
      "running", "complete", "shutdown", "failed", "rejected", "remove", "orphaned");
NAMES(md_node_role_names, "worker", "manager");
NAMES(md_availability_names, "active", "pause", "drain");
NAMES(md_node_state_names, "unknown", "down", "ready", "disconnected");
NAMES(md_reachability_names, "unknown", "unreachable", "reachable");
NAMES(md_restart_condition_names, "", "none", "on-failure", "any");
NAMES(md_failure_action_names, "", "pause", "continue", "rollback");
NAMES(md_update_order_names, "", "stop-first", "start-first");
NAMES(md_update_state_names, "", "updating", "paused", "completed", "rollback_started", "rollback_paused",
      "rollback_completed");
NAMES(md_endpoint_mode_names, "", "vip", "dnsrr");
NAMES(md_protocol_names, "", "tcp", "udp", "sctp");
NAMES(md_publish_mode_names, "", "ingress", "host");
NAMES(md_mount_type_names, "", "bind", "volume", "tmpfs", "npipe", "cluster", "image");
NAMES(md_traffic_names, "", "starting", "serving");
_Static_assert(ARRAY_SIZE(md_task_state_names_text) == MD_TASK_STATE_MAX, "one text a task state");
_Static_assert(ARRAY_SIZE(md_update_state_names_text) == MD_UPDATE_STATE_MAX, "one text an update state");
_Static_assert(ARRAY_SIZE(md_mount_type_names_text) == MD_MOUNT_TYPE_MAX, "one text a mount type");

#define FIELDS(type) static const struct sch_field type##_fields[] =
#define DONE(type) SCHEMA(type##_schema, type, type##_fields)
#define LOCAL_SCHEMA(type) static SCHEMA(type##_schema, type, type##_fields)

/* ---- common ---- */

#define T struct md_version
FIELDS(md_version){ SF(1, U64, "Index", index, 0) };
LOCAL_SCHEMA(md_version);
#undef T

#define T struct md_meta
FIELDS(md_meta){
	SF(1, ID, "ID", id, SCH_ALWAYS),
	SF_OBJ(2, "Version", version, &md_version_schema, SCH_ALWAYS),
	SF(3, TIME, "CreatedAt", created_at, SCH_ALWAYS),
	SF(4, TIME, "UpdatedAt", updated_at, SCH_ALWAYS),
	SF(5, U64, "rev", rev, SCH_INTERNAL),
};
DONE(md_meta);
#undef T

#define T struct md_driver
FIELDS(md_driver){ SF(1, STR, "Name", name, 0), SF(2, MAP, "Options", options, 0) };
DONE(md_driver);
#undef T

#define T struct md_named_resource
FIELDS(md_named_resource){ SF(1, STR, "Kind", kind, 0), SF(2, STR, "Value", value, 0) };
LOCAL_SCHEMA(md_named_resource);
#undef T
#define T struct md_discrete_resource
FIELDS(md_discrete_resource){ SF(1, STR, "Kind", kind, 0), SF(2, I64, "Value", value, 0) };
LOCAL_SCHEMA(md_discrete_resource);
#undef T
#define T struct md_generic
FIELDS(md_generic){
	SF_PTR(1, "NamedResourceSpec", named, &md_named_resource_schema, 0),
	SF_PTR(2, "DiscreteResourceSpec", discrete, &md_discrete_resource_schema, 0),
};
DONE(md_generic);
#undef T

#define T struct md_empty
FIELDS(md_empty){ SF(1, STR, "unused", unused, SCH_INTERNAL) };
LOCAL_SCHEMA(md_empty);
#undef T

/* ---- node ---- */

#define T struct md_platform
FIELDS(md_platform){ SF(1, STR, "Architecture", architecture, 0), SF(2, STR, "OS", os, 0) };
LOCAL_SCHEMA(md_platform);
#undef T
#define T struct md_resources
FIELDS(md_resources){
	SF(1, I64, "NanoCPUs", nano_cpus, 0),
	SF(2, I64, "MemoryBytes", memory_bytes, 0),
	SF_LIST(3, "GenericResources", generic, &md_generic_schema, 0),
};
LOCAL_SCHEMA(md_resources);
#undef T
#define T struct md_plugin
FIELDS(md_plugin){ SF(1, STR, "Type", type, 0), SF(2, STR, "Name", name, 0) };
LOCAL_SCHEMA(md_plugin);
#undef T
#define T struct md_engine
FIELDS(md_engine){
	SF(1, STR, "EngineVersion", engine_version, 0),
	SF(2, MAP, "Labels", labels, 0),
	SF_LIST(3, "Plugins", plugins, &md_plugin_schema, 0),
};
LOCAL_SCHEMA(md_engine);
#undef T
#define T struct md_tls_info
FIELDS(md_tls_info){
	SF(1, STR, "TrustRoot", trust_root, 0),
	SF(2, BYTES, "CertIssuerSubject", issuer_subject, 0),
	SF(3, BYTES, "CertIssuerPublicKey", issuer_public_key, 0),
};
DONE(md_tls_info);
#undef T
#define T struct md_host_port
FIELDS(md_host_port){
	SF(1, U16, "Port", port, 0),
	SF_ENUM(2, "Protocol", protocol, &md_protocol_names, 0),
	SF(3, STR, "Process", process, 0),
};
DONE(md_host_port);
#undef T
#define T struct md_node_description
FIELDS(md_node_description){
	SF(1, STR, "Hostname", hostname, 0),
	SF_OBJ(2, "Platform", platform, &md_platform_schema, SCH_ALWAYS),
	SF_OBJ(3, "Resources", resources, &md_resources_schema, SCH_ALWAYS),
	SF_OBJ(4, "Engine", engine, &md_engine_schema, SCH_ALWAYS),
	SF_OBJ(5, "TLSInfo", tls, &md_tls_info_schema, SCH_ALWAYS),
	SF(6, STR, "data_plane", data_plane, SCH_INTERNAL),
	SF(7, STR, "data_path_addr", data_path_addr, SCH_INTERNAL),
	SF(8, STRS, "host_addrs", host_addrs, SCH_INTERNAL),
	SF_LIST(9, "host_ports", host_ports, &md_host_port_schema, SCH_INTERNAL),
	SF(10, STRS, "underlay", underlay, SCH_INTERNAL),
};
DONE(md_node_description);
#undef T
#define T struct md_node_spec
FIELDS(md_node_spec){
	SF(1, STR, "Name", name, 0),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF_ENUM(3, "Role", role, &md_node_role_names, SCH_ALWAYS),
	SF_ENUM(4, "Availability", availability, &md_availability_names, SCH_ALWAYS),
};
DONE(md_node_spec);
#undef T
#define T struct md_node_status
FIELDS(md_node_status){
	SF_ENUM(1, "State", state, &md_node_state_names, SCH_ALWAYS),
	SF(2, STR, "Message", message, 0),
	SF(3, STR, "Addr", addr, 0),
};
DONE(md_node_status);
#undef T
#define T struct md_manager_status
FIELDS(md_manager_status){
	SF(1, BOOL, "Leader", leader, 0),
	SF_ENUM(2, "Reachability", reachability, &md_reachability_names, SCH_ALWAYS),
	SF(3, STR, "Addr", addr, 0),
	SF(4, U64, "raft_id", raft_id, SCH_INTERNAL),
};
LOCAL_SCHEMA(md_manager_status);
#undef T
#define T struct md_node
FIELDS(md_node){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_node_spec_schema, SCH_ALWAYS),
	SF_OBJ(3, "Description", description, &md_node_description_schema, SCH_ALWAYS),
	SF_OBJ(4, "Status", status, &md_node_status_schema, SCH_ALWAYS),
	SF_PTR(5, "ManagerStatus", manager, &md_manager_status_schema, 0),
};
DONE(md_node);
#undef T

/* ---- network ---- */

#define T struct md_ipam_config
FIELDS(md_ipam_config){
	SF(1, STR, "Subnet", subnet, 0),
	SF(2, STR, "IPRange", ip_range, 0),
	SF(3, STR, "Gateway", gateway, 0),
};
DONE(md_ipam_config);
#undef T
#define T struct md_ipam_options
FIELDS(md_ipam_options){
	SF_OBJ(1, "Driver", driver, &md_driver_schema, SCH_ALWAYS),
	SF_LIST(2, "Configs", configs, &md_ipam_config_schema, 0),
};
DONE(md_ipam_options);
#undef T
#define T struct md_network_spec
FIELDS(md_network_spec){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF_OBJ(3, "DriverConfiguration", driver, &md_driver_schema, SCH_ALWAYS),
	SF(4, BOOL, "IPv6Enabled", ipv6_enabled, 0),
	SF(5, BOOL, "Internal", internal, 0),
	SF(6, BOOL, "Attachable", attachable, 0),
	SF(7, BOOL, "Ingress", ingress, 0),
	SF_PTR(8, "IPAMOptions", ipam, &md_ipam_options_schema, 0),
	SF(9, STR, "Scope", scope, 0),
};
DONE(md_network_spec);
#undef T
#define T struct md_network
FIELDS(md_network){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_network_spec_schema, SCH_ALWAYS),
	SF(3, U32, "vni", vni, SCH_INTERNAL),
	SF_OBJ(4, "IPAMOptions", ipam, &md_ipam_options_schema, SCH_ALWAYS),
	SF(5, BOOL, "pending_delete", pending_delete, SCH_INTERNAL),
};
DONE(md_network);
#undef T

/* ---- service ---- */

#define T struct md_bind_options
FIELDS(md_bind_options){
	SF(1, STR, "Propagation", propagation, 0),
	SF(2, BOOL, "NonRecursive", non_recursive, 0),
	SF(3, BOOL, "CreateMountpoint", create_mountpoint, 0),
	SF(4, BOOL, "ReadOnlyNonRecursive", read_only_non_recursive, 0),
	SF(5, BOOL, "ReadOnlyForceRecursive", read_only_force_recursive, 0),
};
LOCAL_SCHEMA(md_bind_options);
#undef T
#define T struct md_volume_options
FIELDS(md_volume_options){
	SF(1, BOOL, "NoCopy", no_copy, 0),
	SF(2, MAP, "Labels", labels, 0),
	SF(3, STR, "Subpath", subpath, 0),
	SF_PTR(4, "DriverConfig", driver, &md_driver_schema, 0),
};
LOCAL_SCHEMA(md_volume_options);
#undef T
#define T struct md_tmpfs_options
FIELDS(md_tmpfs_options){ SF(1, I64, "SizeBytes", size_bytes, 0), SF(2, U32, "Mode", mode, 0) };
LOCAL_SCHEMA(md_tmpfs_options);
#undef T
#define T struct md_mount
FIELDS(md_mount){
	SF_ENUM(1, "Type", type, &md_mount_type_names, 0),
	SF(2, STR, "Source", source, 0),
	SF(3, STR, "Target", target, 0),
	SF(4, BOOL, "ReadOnly", read_only, 0),
	SF(5, STR, "Consistency", consistency, 0),
	SF_PTR(6, "BindOptions", bind, &md_bind_options_schema, 0),
	SF_PTR(7, "VolumeOptions", volume, &md_volume_options_schema, 0),
	SF_PTR(8, "TmpfsOptions", tmpfs, &md_tmpfs_options_schema, 0),
};
DONE(md_mount);
#undef T
#define T struct md_credential_spec
FIELDS(md_credential_spec){
	SF(1, STR, "Config", config, 0),
	SF(2, STR, "File", file, 0),
	SF(3, STR, "Registry", registry, 0),
};
LOCAL_SCHEMA(md_credential_spec);
#undef T
#define T struct md_selinux
FIELDS(md_selinux){
	SF(1, BOOL, "Disable", disable, 0), SF(2, STR, "User", user, 0),   SF(3, STR, "Role", role, 0),
	SF(4, STR, "Type", type, 0),        SF(5, STR, "Level", level, 0),
};
LOCAL_SCHEMA(md_selinux);
#undef T
#define T struct md_seccomp
FIELDS(md_seccomp){ SF(1, STR, "Mode", mode, 0), SF(2, BYTES, "Profile", profile, 0) };
LOCAL_SCHEMA(md_seccomp);
#undef T
#define T struct md_apparmor
FIELDS(md_apparmor){ SF(1, STR, "Mode", mode, 0) };
LOCAL_SCHEMA(md_apparmor);
#undef T
#define T struct md_privileges
FIELDS(md_privileges){
	SF_PTR(1, "CredentialSpec", credential_spec, &md_credential_spec_schema, 0),
	SF_PTR(2, "SELinuxContext", selinux, &md_selinux_schema, 0),
	SF_PTR(3, "Seccomp", seccomp, &md_seccomp_schema, 0),
	SF_PTR(4, "AppArmor", apparmor, &md_apparmor_schema, 0),
	SF(5, BOOL, "NoNewPrivileges", no_new_privileges, 0),
};
LOCAL_SCHEMA(md_privileges);
#undef T
#define T struct md_health
FIELDS(md_health){
	SF(1, STRS, "Test", test, 0),
	SF(2, I64, "Interval", interval, 0),
	SF(3, I64, "Timeout", timeout, 0),
	SF(4, I64, "StartPeriod", start_period, 0),
	SF(5, I64, "StartInterval", start_interval, 0),
	SF(6, I64, "Retries", retries, 0),
};
DONE(md_health);
#undef T
#define T struct md_dns_config
FIELDS(md_dns_config){
	SF(1, STRS, "Nameservers", nameservers, 0),
	SF(2, STRS, "Search", search, 0),
	SF(3, STRS, "Options", options, 0),
};
LOCAL_SCHEMA(md_dns_config);
#undef T
#define T struct md_file_target
FIELDS(md_file_target){
	SF(1, STR, "Name", name, 0),
	SF(2, STR, "UID", uid, 0),
	SF(3, STR, "GID", gid, 0),
	SF(4, U32, "Mode", mode, SCH_ALWAYS),
};
LOCAL_SCHEMA(md_file_target);
#undef T
#define T struct md_secret_ref
FIELDS(md_secret_ref){
	SF_PTR(1, "File", file, &md_file_target_schema, 0),
	SF(2, ID, "SecretID", secret, 0),
	SF(3, STR, "SecretName", secret_name, 0),
};
LOCAL_SCHEMA(md_secret_ref);
#undef T
#define T struct md_config_ref
FIELDS(md_config_ref){
	SF_PTR(1, "File", file, &md_file_target_schema, 0),
	SF_PTR(2, "Runtime", runtime, &md_empty_schema, 0),
	SF(3, ID, "ConfigID", config, 0),
	SF(4, STR, "ConfigName", config_name, 0),
};
LOCAL_SCHEMA(md_config_ref);
#undef T
#define T struct md_ulimit
FIELDS(md_ulimit){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, I64, "Soft", soft, SCH_ALWAYS),
	SF(3, I64, "Hard", hard, SCH_ALWAYS),
};
LOCAL_SCHEMA(md_ulimit);
#undef T
#define T struct md_container_spec
FIELDS(md_container_spec){
	SF(1, STR, "Image", image, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, 0),
	SF(3, STRS, "Command", command, 0),
	SF(4, STRS, "Args", args, 0),
	SF(5, STR, "Hostname", hostname, 0),
	SF(6, STRS, "Env", env, 0),
	SF(7, STR, "Dir", dir, 0),
	SF(8, STR, "User", user, 0),
	SF(9, STRS, "Groups", groups, 0),
	SF_PTR(10, "Privileges", privileges, &md_privileges_schema, 0),
	SF(23, OPT_BOOL, "Init", init, 0),
	SF(11, STR, "StopSignal", stop_signal, 0),
	SF(12, BOOL, "TTY", tty, 0),
	SF(13, BOOL, "OpenStdin", open_stdin, 0),
	SF(14, BOOL, "ReadOnly", read_only, 0),
	SF_LIST(15, "Mounts", mounts, &md_mount_schema, 0),
	SF(16, OPT_I64, "StopGracePeriod", stop_grace_period, 0),
	SF_PTR(17, "Healthcheck", health, &md_health_schema, 0),
	SF(18, STRS, "Hosts", hosts, 0),
	SF_PTR(19, "DNSConfig", dns, &md_dns_config_schema, 0),
	SF_LIST(20, "Secrets", secrets, &md_secret_ref_schema, 0),
	SF_LIST(21, "Configs", configs, &md_config_ref_schema, 0),
	SF(22, STR, "Isolation", isolation, 0),
	SF(24, MAP, "Sysctls", sysctls, 0),
	SF(25, STRS, "CapabilityAdd", cap_add, 0),
	SF(26, STRS, "CapabilityDrop", cap_drop, 0),
	SF_LIST(27, "Ulimits", ulimits, &md_ulimit_schema, 0),
	SF(28, I64, "OomScoreAdj", oom_score_adj, 0),
	SF(29, STR, "pull_auth", pull_auth, SCH_INTERNAL),
};
DONE(md_container_spec);
#undef T
#define T struct md_limit
FIELDS(md_limit){
	SF(1, I64, "NanoCPUs", nano_cpus, 0),
	SF(2, I64, "MemoryBytes", memory_bytes, 0),
	SF(3, I64, "Pids", pids, 0),
};
LOCAL_SCHEMA(md_limit);
#undef T
#define T struct md_resource_requirements
FIELDS(md_resource_requirements){
	SF_PTR(1, "Limits", limits, &md_limit_schema, 0),
	SF_PTR(2, "Reservations", reservations, &md_resources_schema, 0),
};
DONE(md_resource_requirements);
#undef T
#define T struct md_restart_policy
FIELDS(md_restart_policy){
	SF_ENUM(1, "Condition", condition, &md_restart_condition_names, 0),
	SF(2, OPT_I64, "Delay", delay, 0),
	SF(3, OPT_U64, "MaxAttempts", max_attempts, 0),
	SF(4, OPT_I64, "Window", window, 0),
};
DONE(md_restart_policy);
#undef T
#define T struct md_spread
FIELDS(md_spread){ SF(1, STR, "SpreadDescriptor", descriptor, 0) };
LOCAL_SCHEMA(md_spread);
#undef T
#define T struct md_preference
FIELDS(md_preference){ SF_PTR(1, "Spread", spread, &md_spread_schema, 0) };
LOCAL_SCHEMA(md_preference);
#undef T
#define T struct md_placement
FIELDS(md_placement){
	SF(1, STRS, "Constraints", constraints, 0),
	SF_LIST(2, "Preferences", preferences, &md_preference_schema, 0),
	SF(3, U64, "MaxReplicas", max_replicas, 0),
	SF_LIST(4, "Platforms", platforms, &md_platform_schema, 0),
};
DONE(md_placement);
#undef T
#define T struct md_network_config
FIELDS(md_network_config){
	SF(1, STR, "Target", target, 0),
	SF(2, STRS, "Aliases", aliases, 0),
	SF(3, MAP, "DriverOpts", driver_opts, 0),
};
DONE(md_network_config);
#undef T
#define T struct md_attachment_spec
FIELDS(md_attachment_spec){
	SF(1, STR, "ContainerID", container_id, 0),           SF(2, STR, "Name", name, SCH_INTERNAL),
	SF(3, BOOL, "AutoRemove", auto_remove, SCH_INTERNAL), SF(4, BOOL, "StdinOnce", stdin_once, SCH_INTERNAL),
	SF(5, BOOL, "NoNetwork", no_network, SCH_INTERNAL),   SF(6, STR, "Previous", previous, SCH_INTERNAL),
};
LOCAL_SCHEMA(md_attachment_spec);
#undef T
#define T struct md_task_spec
FIELDS(md_task_spec){
	SF_PTR(1, "ContainerSpec", container, &md_container_spec_schema, 0),
	SF_PTR(2, "NetworkAttachmentSpec", attachment, &md_attachment_spec_schema, 0),
	SF_PTR(3, "Resources", resources, &md_resource_requirements_schema, 0),
	SF_PTR(4, "RestartPolicy", restart, &md_restart_policy_schema, 0),
	SF_PTR(5, "Placement", placement, &md_placement_schema, 0),
	SF_LIST(6, "Networks", networks, &md_network_config_schema, 0),
	SF_PTR(7, "LogDriver", log_driver, &md_driver_schema, 0),
	SF(8, U64, "ForceUpdate", force_update, SCH_ALWAYS),
	SF(9, STR, "Runtime", runtime, 0),
};
DONE(md_task_spec);
#undef T
#define T struct md_replicated
FIELDS(md_replicated){ SF(1, OPT_U64, "Replicas", replicas, 0) };
LOCAL_SCHEMA(md_replicated);
#undef T
#define T struct md_replicated_job
FIELDS(md_replicated_job){
	SF(1, OPT_U64, "MaxConcurrent", max_concurrent, 0),
	SF(2, OPT_U64, "TotalCompletions", total_completions, 0),
};
LOCAL_SCHEMA(md_replicated_job);
#undef T
#define T struct md_mode
FIELDS(md_mode){
	SF_PTR(1, "Replicated", replicated, &md_replicated_schema, 0),
	SF_PTR(2, "Global", global, &md_empty_schema, 0),
	SF_PTR(3, "ReplicatedJob", replicated_job, &md_replicated_job_schema, 0),
	SF_PTR(4, "GlobalJob", global_job, &md_empty_schema, 0),
};
LOCAL_SCHEMA(md_mode);
#undef T
#define T struct md_update_config
FIELDS(md_update_config){
	SF(1, U64, "Parallelism", parallelism, SCH_ALWAYS),
	SF(2, I64, "Delay", delay, 0),
	SF_ENUM(3, "FailureAction", failure_action, &md_failure_action_names, 0),
	SF(4, I64, "Monitor", monitor, 0),
	SF(5, F64, "MaxFailureRatio", max_failure_ratio, SCH_ALWAYS),
	SF_ENUM(6, "Order", order, &md_update_order_names, SCH_ALWAYS),
};
DONE(md_update_config);
#undef T
#define T struct md_port
FIELDS(md_port){
	SF(1, STR, "Name", name, 0),
	SF_ENUM(2, "Protocol", protocol, &md_protocol_names, 0),
	SF(3, U32, "TargetPort", target, 0),
	SF(4, U32, "PublishedPort", published, 0),
	SF_ENUM(5, "PublishMode", mode, &md_publish_mode_names, 0),
};
DONE(md_port);
#undef T
#define T struct md_endpoint_spec
FIELDS(md_endpoint_spec){
	SF_ENUM(1, "Mode", mode, &md_endpoint_mode_names, 0),
	SF_LIST(2, "Ports", ports, &md_port_schema, 0),
};
DONE(md_endpoint_spec);
#undef T
#define T struct md_service_spec
FIELDS(md_service_spec){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF_OBJ(3, "TaskTemplate", task, &md_task_spec_schema, SCH_ALWAYS),
	SF_OBJ(4, "Mode", mode, &md_mode_schema, SCH_ALWAYS),
	SF_PTR(5, "UpdateConfig", update, &md_update_config_schema, 0),
	SF_PTR(6, "RollbackConfig", rollback, &md_update_config_schema, 0),
	SF_LIST(7, "Networks", networks, &md_network_config_schema, 0),
	SF_PTR(8, "EndpointSpec", endpoint, &md_endpoint_spec_schema, 0),
};
DONE(md_service_spec);
#undef T
#define T struct md_vip
FIELDS(md_vip){ SF(1, ID, "NetworkID", network, 0), SF(2, STR, "Addr", addr, 0) };
LOCAL_SCHEMA(md_vip);
#undef T
#define T struct md_endpoint
FIELDS(md_endpoint){
	SF_OBJ(1, "Spec", spec, &md_endpoint_spec_schema, SCH_ALWAYS),
	SF_LIST(2, "Ports", ports, &md_port_schema, 0),
	SF_LIST(3, "VirtualIPs", vips, &md_vip_schema, 0),
};
DONE(md_endpoint);
#undef T
#define T struct md_update_status
FIELDS(md_update_status){
	SF_ENUM(1, "State", state, &md_update_state_names, 0),
	SF(2, TIME, "StartedAt", started_at, 0),
	SF(3, TIME, "CompletedAt", completed_at, 0),
	SF(4, STR, "Message", message, 0),
};
LOCAL_SCHEMA(md_update_status);
#undef T
#define T struct md_job_status
FIELDS(md_job_status){
	SF_OBJ(1, "JobIteration", iteration, &md_version_schema, SCH_ALWAYS),
	SF(2, TIME, "LastExecution", last_execution, 0),
};
LOCAL_SCHEMA(md_job_status);
#undef T
#define T struct md_service
FIELDS(md_service){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_service_spec_schema, SCH_ALWAYS),
	SF_PTR(3, "PreviousSpec", previous_spec, &md_service_spec_schema, 0),
	SF_OBJ(4, "Endpoint", endpoint, &md_endpoint_schema, SCH_ALWAYS),
	SF_PTR(5, "UpdateStatus", update_status, &md_update_status_schema, 0),
	SF_PTR(6, "JobStatus", job_status, &md_job_status_schema, 0),
	SF_OBJ(7, "spec_version", spec_version, &md_version_schema, SCH_INTERNAL),
	SF_PTR(8, "previous_spec_version", previous_spec_version, &md_version_schema, SCH_INTERNAL),
	SF(9, BOOL, "pending_delete", pending_delete, SCH_INTERNAL),
	SF(10, U64, "rebalance", rebalance, SCH_INTERNAL),
};
DONE(md_service);
#undef T

/* ---- task ---- */

#define T struct md_container_status
FIELDS(md_container_status){
	SF(1, STR, "ContainerID", container_id, SCH_ALWAYS),
	SF(2, I64, "PID", pid, SCH_ALWAYS),
	SF(3, I64, "ExitCode", exit_code, SCH_ALWAYS),
};
LOCAL_SCHEMA(md_container_status);
#undef T
#define T struct md_port_status
FIELDS(md_port_status){ SF_LIST(1, "Ports", ports, &md_port_schema, 0) };
LOCAL_SCHEMA(md_port_status);
#undef T
#define T struct md_task_status
FIELDS(md_task_status){
	SF(1, TIME, "Timestamp", timestamp, SCH_ALWAYS),
	SF_ENUM(2, "State", state, &md_task_state_names, SCH_ALWAYS),
	SF(3, STR, "Message", message, 0),
	SF(4, STR, "Err", err, 0),
	SF_PTR(5, "ContainerStatus", container, &md_container_status_schema, 0),
	SF_OBJ(6, "PortStatus", ports, &md_port_status_schema, SCH_ALWAYS),
	SF_ENUM(7, "traffic", traffic, &md_traffic_names, SCH_INTERNAL),
};
DONE(md_task_status);
#undef T
#define T struct md_attachment
FIELDS(md_attachment){
	SF(1, ID, "NetworkID", network, 0),
	SF(2, STRS, "Addresses", addresses, 0),
	SF(3, STRS, "Aliases", aliases, 0),
};
DONE(md_attachment);
#undef T
#define T struct md_task
FIELDS(md_task){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF(2, STR, "Name", name, 0),
	SF(3, MAP, "Labels", labels, SCH_ALWAYS),
	SF_OBJ(4, "Spec", spec, &md_task_spec_schema, SCH_ALWAYS),
	SF(5, ID, "ServiceID", service, 0),
	SF(6, U64, "Slot", slot, 0),
	SF(7, ID, "NodeID", node, 0),
	SF_OBJ(8, "Status", status, &md_task_status_schema, SCH_ALWAYS),
	SF_ENUM(9, "DesiredState", desired_state, &md_task_state_names, SCH_ALWAYS),
	/* JSON shows the network itself inside each attachment: the API writes NetworksAttachments. */
	SF_LIST(10, "attachments", attachments, &md_attachment_schema, SCH_INTERNAL),
	SF_LIST(11, "GenericResources", generic, &md_generic_schema, 0),
	SF_PTR(12, "JobIteration", job_iteration, &md_version_schema, 0),
	SF(13, STR, "service_name", service_name, SCH_INTERNAL),
	SF(14, MAP, "service_labels", service_labels, SCH_INTERNAL),
	SF_OBJ(15, "endpoint", endpoint, &md_endpoint_spec_schema, SCH_INTERNAL),
	SF_OBJ(16, "spec_version", spec_version, &md_version_schema, SCH_INTERNAL),
	SF(17, BOOL, "drained", drained, SCH_INTERNAL),
	SF(19, BOOL, "moving", moving, SCH_INTERNAL),
	SF(18, BOOL, "known", known, SCH_INTERNAL),
};
DONE(md_task);
#undef T

/* ---- secret, config ---- */

#define T struct md_secret_spec
FIELDS(md_secret_spec){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF(3, BYTES, "Data", data, SCH_SECRET),
	SF_PTR(4, "Driver", driver, &md_driver_schema, 0),
	SF_PTR(5, "Templating", templating, &md_driver_schema, 0),
};
DONE(md_secret_spec);
#undef T
#define T struct md_secret
FIELDS(md_secret){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_secret_spec_schema, SCH_ALWAYS),
};
DONE(md_secret);
#undef T
#define T struct md_config_spec
FIELDS(md_config_spec){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF(3, BYTES, "Data", data, 0),
	SF_PTR(4, "Templating", templating, &md_driver_schema, 0),
};
DONE(md_config_spec);
#undef T
#define T struct md_config
FIELDS(md_config){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_config_spec_schema, SCH_ALWAYS),
};
DONE(md_config);
#undef T

/* ---- cluster ---- */

#define T struct md_orchestration
FIELDS(md_orchestration){ SF(1, OPT_I64, "TaskHistoryRetentionLimit", task_history, 0) };
LOCAL_SCHEMA(md_orchestration);
#undef T
#define T struct md_raft_config
FIELDS(md_raft_config){
	SF(1, U64, "SnapshotInterval", snapshot_interval, 0),
	SF(2, OPT_U64, "KeepOldSnapshots", keep_old_snapshots, 0),
	SF(3, U64, "LogEntriesForSlowFollowers", log_entries_for_slow_followers, 0),
	SF(4, I64, "ElectionTick", election_tick, SCH_ALWAYS),
	SF(5, I64, "HeartbeatTick", heartbeat_tick, SCH_ALWAYS),
};
LOCAL_SCHEMA(md_raft_config);
#undef T
#define T struct md_dispatcher_config
FIELDS(md_dispatcher_config){ SF(1, I64, "HeartbeatPeriod", heartbeat_period, 0) };
LOCAL_SCHEMA(md_dispatcher_config);
#undef T
#define T struct md_external_ca
FIELDS(md_external_ca){
	SF(1, STR, "Protocol", protocol, 0),
	SF(2, STR, "URL", url, 0),
	SF(3, MAP, "Options", options, 0),
	SF(4, STR, "CACert", ca_cert, 0),
};
LOCAL_SCHEMA(md_external_ca);
#undef T
#define T struct md_ca_config
FIELDS(md_ca_config){
	SF(1, I64, "NodeCertExpiry", node_cert_expiry, 0),
	SF_LIST(2, "ExternalCAs", external_cas, &md_external_ca_schema, 0),
	SF(3, STR, "SigningCACert", signing_ca_cert, 0),
	SF(4, STR, "SigningCAKey", signing_ca_key, SCH_SECRET),
	SF(5, U64, "ForceRotate", force_rotate, 0),
};
LOCAL_SCHEMA(md_ca_config);
#undef T
#define T struct md_task_defaults
FIELDS(md_task_defaults){ SF_PTR(1, "LogDriver", log_driver, &md_driver_schema, 0) };
LOCAL_SCHEMA(md_task_defaults);
#undef T
#define T struct md_encryption_config
FIELDS(md_encryption_config){ SF(1, BOOL, "AutoLockManagers", autolock, SCH_ALWAYS) };
LOCAL_SCHEMA(md_encryption_config);
#undef T
#define T struct md_cluster_spec
FIELDS(md_cluster_spec){
	SF(1, STR, "Name", name, SCH_ALWAYS),
	SF(2, MAP, "Labels", labels, SCH_ALWAYS),
	SF_OBJ(3, "Orchestration", orchestration, &md_orchestration_schema, SCH_ALWAYS),
	SF_OBJ(4, "Raft", raft, &md_raft_config_schema, SCH_ALWAYS),
	SF_OBJ(5, "Dispatcher", dispatcher, &md_dispatcher_config_schema, SCH_ALWAYS),
	SF_OBJ(6, "CAConfig", ca, &md_ca_config_schema, SCH_ALWAYS),
	SF_OBJ(7, "TaskDefaults", task_defaults, &md_task_defaults_schema, SCH_ALWAYS),
	SF_OBJ(8, "EncryptionConfig", encryption, &md_encryption_config_schema, SCH_ALWAYS),
};
DONE(md_cluster_spec);
#undef T
#define T struct md_join_tokens
FIELDS(md_join_tokens){ SF(1, STR, "Worker", worker, SCH_ALWAYS), SF(2, STR, "Manager", manager, SCH_ALWAYS) };
DONE(md_join_tokens);
#undef T
#define T struct md_cluster
FIELDS(md_cluster){
	SF_OBJ(1, "", meta, &md_meta_schema, SCH_INLINE | SCH_READONLY),
	SF_OBJ(2, "Spec", spec, &md_cluster_spec_schema, SCH_ALWAYS),
	SF_OBJ(3, "TLSInfo", tls, &md_tls_info_schema, SCH_ALWAYS),
	SF(4, BOOL, "RootRotationInProgress", root_rotation_in_progress, SCH_ALWAYS),
	SF(5, STRS, "DefaultAddrPool", default_addr_pool, SCH_NULL),
	SF(6, U32, "SubnetSize", subnet_size, SCH_ALWAYS),
	SF(7, U32, "DataPathPort", data_path_port, SCH_ALWAYS),
	/* JSON: JoinTokens only in GET /swarm, which writes them by itself. */
	SF_OBJ(8, "JoinTokens", tokens, &md_join_tokens_schema, SCH_INTERNAL),
	SF(9, BYTES, "root_cert", root_cert, SCH_INTERNAL),
	SF(10, BYTES, "root_key", root_key, SCH_INTERNAL),
	SF(11, BYTES, "unlock_key", unlock_key, SCH_INTERNAL),
};
DONE(md_cluster);
#undef T

/* ---- questions ---- */

enum md_service_mode md_service_mode_of(const struct md_service_spec *s)
{
	if (s->mode.global)
		return MD_MODE_GLOBAL;
	if (s->mode.replicated_job)
		return MD_MODE_REPLICATED_JOB;
	if (s->mode.global_job)
		return MD_MODE_GLOBAL_JOB;
	return MD_MODE_REPLICATED;
}

uint64_t md_service_replicas(const struct md_service_spec *s)
{
	if (md_service_mode_of(s) != MD_MODE_REPLICATED)
		return 0;
	return s->mode.replicated && s->mode.replicated->replicas.set ? s->mode.replicated->replicas.v : 1;
}

bool md_endpoint_has_ingress(const struct md_endpoint_spec *e)
{
	for (size_t i = 0; e && i < e->ports.n; i++)
		if (e->ports.v[i].mode != MD_PUBLISH_HOST)
			return true;
	return false;
}

char *md_task_container_name(const struct md_task *t)
{
	const char *service = t->service_name ? t->service_name : t->service.s;
	if (md_task_standalone(t) && t->spec.attachment->name)
		return xstrdup(t->spec.attachment->name);
	if (t->slot)
		return xasprintf("%s.%llu.%s", service, (unsigned long long)t->slot, t->meta.id);
	return xasprintf("%s.%s.%s", service, t->node.s, t->meta.id);
}
