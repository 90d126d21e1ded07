/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/units.h"

/* "type=cfssl,url=https://…" -> {"Protocol","URL","CACert","Options"} */
static int external_ca(const char *text, json_t *list, struct mesh_err *err)
{
	CLEAN_FREE char *copy = xstrdup(text);
	json_t *ca = json_object();
	char *save = NULL;

	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		char *eq = strchr(p, '=');
		if (!eq) {
			json_decref(ca);
			return mesh_fail(err, MESH_E_INVALID, "invalid field '%s' must be a key=value pair", p);
		}
		*eq = 0;
		if (!strcmp(p, "protocol")) {
			json_object_set_new(ca, "Protocol", json_string(eq + 1));
		} else if (!strcmp(p, "url")) {
			json_object_set_new(ca, "URL", json_string(eq + 1));
		} else if (!strcmp(p, "cacert")) {
			struct bytes pem = { 0 };
			int rc = read_input(eq + 1, 1 << 20, &pem, err);
			if (rc < 0) {
				json_decref(ca);
				return mesh_wrap(err, rc, "unable to load CA cert for external CA");
			}
			json_object_set_new(ca, "CACert", json_stringn((char *)pem.p, pem.n));
			free(pem.p);
		} else {
			jset(ca, "Options", jo(ca, "Options") ? json_incref(jo(ca, "Options")) : json_object());
			json_object_set_new(jo(ca, "Options"), p, json_string(eq + 1));
		}
	}
	if (!*js(ca, "Protocol"))
		json_object_set_new(ca, "Protocol", json_string("cfssl"));
	json_array_append_new(list, ca);
	return 0;
}

/* Flags shared by init and update; what is not given is the daemon's to choose. */
static int spec_flags(struct cli *c, json_t *spec, struct mesh_err *err)
{
	if (flag_given(c, "task-history-limit"))
		jset(spec, "Orchestration.TaskHistoryRetentionLimit", json_integer(flag_int(c, "task-history-limit")));
	if (flag_given(c, "dispatcher-heartbeat"))
		jset(spec, "Dispatcher.HeartbeatPeriod", json_integer(flag_int(c, "dispatcher-heartbeat")));
	if (flag_given(c, "cert-expiry"))
		jset(spec, "CAConfig.NodeCertExpiry", json_integer(flag_int(c, "cert-expiry")));
	if (flag_given(c, "external-ca")) {
		json_t *list = json_array();
		jset(spec, "CAConfig.ExternalCAs", list);
		for (size_t i = 0; i < flag_list(c, "external-ca")->n; i++) {
			int rc = external_ca(flag_list(c, "external-ca")->v[i], list, err);
			if (rc < 0)
				return rc;
		}
	}
	if (flag_given(c, "max-snapshots"))
		jset(spec, "Raft.KeepOldSnapshots", json_integer(flag_int(c, "max-snapshots")));
	if (flag_given(c, "snapshot-interval"))
		jset(spec, "Raft.SnapshotInterval", json_integer(flag_int(c, "snapshot-interval")));
	if (flag_given(c, "autolock"))
		jset(spec, "EncryptionConfig.AutoLockManagers", json_boolean(flag_bool(c, "autolock")));
	return 0;
}

static void print_unlock_key(const char *key)
{
	printf("To unlock a swarm manager after it restarts, run the `meshctl swarm unlock`\n"
	       "command and provide the following key:\n\n    %s\n\n"
	       "Remember to store this key in a password manager, since without it you\n"
	       "will not be able to restart the manager.\n",
	       key);
}

static int show_unlock_key(struct cli *c, bool quiet, struct mesh_err *err)
{
	JSON_CLEAN key = NULL;
	int rc = api_get(c, &key, err, "/swarm/unlockkey");

	if (rc < 0)
		return rc;
	if (!*js(key, "UnlockKey"))
		return mesh_fail(err, MESH_E_NOT_FOUND, "no unlock key is set");
	if (quiet)
		printf("%s\n", js(key, "UnlockKey"));
	else
		print_unlock_key(js(key, "UnlockKey"));
	return 0;
}

/* The command that joins, with the address of the node we talk to. */
static int print_join(struct cli *c, const char *node, const char *role, struct mesh_err *err)
{
	JSON_CLEAN n = NULL;
	JSON_CLEAN swarm = NULL;
	int rc = api_get(c, &n, err, "/nodes/%s", node);

	if (!rc)
		rc = api_get(c, &swarm, err, "/swarm");
	if (rc < 0)
		return rc;
	if (!jo(n, "ManagerStatus"))
		return 0;
	printf("To add a %s to this swarm, run the following command:\n\n    meshctl swarm join --token %s %s\n\n",
	       role, js(swarm, !strcmp(role, "worker") ? "JoinTokens.Worker" : "JoinTokens.Manager"),
	       js(n, "ManagerStatus.Addr"));
	return 0;
}

static int run_init(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN id = NULL;
	JSON_CLEAN body = json_pack(
		"{s:s,s:s,s:s,s:I,s:[],s:b,s:{s:{},s:{s:i,s:i},s:{},s:{},s:{}},s:b,s:s,s:I}", "ListenAddr",
		flag_str(c, "listen-addr"), "AdvertiseAddr", flag_str(c, "advertise-addr"), "DataPathAddr",
		flag_str(c, "data-path-addr"), "DataPathPort", (json_int_t)flag_int(c, "data-path-port"),
		"DefaultAddrPool", "ForceNewCluster", flag_bool(c, "force-new-cluster"), "Spec", "Orchestration",
		"Raft", "ElectionTick", 0, "HeartbeatTick", 0, "Dispatcher", "CAConfig", "TaskDefaults",
		"AutoLockManagers", flag_bool(c, "autolock"), "Availability", flag_str(c, "availability"), "SubnetSize",
		(json_int_t)flag_int(c, "default-addr-pool-mask-length"));
	const struct str_list *pools = flag_list(c, "default-addr-pool");

	for (size_t i = 0; i < pools->n; i++)
		json_array_append_new(jo(body, "DefaultAddrPool"), json_string(pools->v[i]));
	if (!flag_given(c, "availability"))
		jset(body, "Availability", json_string(""));
	json_t *spec = jo(body, "Spec");
	jset(spec, "EncryptionConfig.AutoLockManagers", json_boolean(flag_bool(c, "autolock")));
	int rc = spec_flags(c, spec, err);
	if (!rc)
		rc = api_post(c, body, &id, err, "/swarm/init");
	if (rc < 0)
		return rc;
	const char *node = json_string_value(id) ?: "";
	printf("Swarm initialized: current node (%s) is now a manager.\n\n", node);
	rc = print_join(c, node, "worker", err);
	if (rc < 0)
		return rc;
	printf("To add a manager to this swarm, run 'meshctl swarm join-token manager' and follow the instructions.\n");
	if (flag_bool(c, "autolock")) {
		printf("\n");
		rc = show_unlock_key(c, false, err);
	}
	return rc;
}

static int run_join(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN info = NULL;
	JSON_CLEAN body =
		json_pack("{s:s,s:s,s:s,s:[s],s:s,s:s}", "ListenAddr", flag_str(c, "listen-addr"), "AdvertiseAddr",
	                  flag_str(c, "advertise-addr"), "DataPathAddr", flag_str(c, "data-path-addr"), "RemoteAddrs",
	                  c->args[0], "JoinToken", flag_str(c, "token"), "Availability",
	                  flag_given(c, "availability") ? flag_str(c, "availability") : "");
	int rc = api_post(c, body, NULL, err, "/swarm/join");

	if (!rc)
		rc = api_get(c, &info, err, "/info");
	if (!rc)
		printf("This node joined a swarm as a %s.\n",
		       jb(info, "Swarm.ControlAvailable") ? "manager" : "worker");
	return rc;
}

static int swarm_update(struct cli *c, json_t *swarm, const char *rotate, struct mesh_err *err)
{
	return api_post(
		c, jo(swarm, "Spec"), NULL, err,
		"/swarm/update?rotateManagerToken=%s&rotateManagerUnlockKey=%s&rotateWorkerToken=%s&version=%lld",
		!strcmp(rotate, "manager") ? "true" : "false", !strcmp(rotate, "key") ? "true" : "false",
		!strcmp(rotate, "worker") ? "true" : "false", (long long)ji(swarm, "Version.Index"));
}

static int run_join_token(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN swarm = NULL;
	JSON_CLEAN info = NULL;
	const char *role = c->args[0];
	bool quiet = flag_bool(c, "quiet");

	if (strcmp(role, "worker") && strcmp(role, "manager"))
		return mesh_fail(err, MESH_E_INVALID, "unknown role %s", role);
	int rc = api_get(c, &swarm, err, "/swarm");
	if (!rc && flag_bool(c, "rotate")) {
		rc = swarm_update(c, swarm, role, err);
		if (!rc && !quiet)
			printf("Successfully rotated %s join token.\n\n", role);
		json_decref(TAKE(swarm));
		if (!rc)
			rc = api_get(c, &swarm, err, "/swarm");
	}
	if (rc < 0)
		return rc;
	if (quiet) {
		printf("%s\n", js(swarm, !strcmp(role, "worker") ? "JoinTokens.Worker" : "JoinTokens.Manager"));
		return 0;
	}
	rc = api_get(c, &info, err, "/info");
	return rc < 0 ? rc : print_join(c, js(info, "Swarm.NodeID"), role, err);
}

static int run_leave(struct cli *c, struct mesh_err *err)
{
	int rc = api_post(c, NULL, NULL, err, "/swarm/leave%s", flag_bool(c, "force") ? "?force=1" : "");

	if (!rc)
		printf("Node left the swarm.\n");
	return rc;
}

static int run_update(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN swarm = NULL;
	int rc = api_get(c, &swarm, err, "/swarm");

	if (rc < 0)
		return rc;
	bool was = jb(swarm, "Spec.EncryptionConfig.AutoLockManagers");
	rc = spec_flags(c, jo(swarm, "Spec"), err);
	bool now = jb(swarm, "Spec.EncryptionConfig.AutoLockManagers");
	if (!rc)
		rc = swarm_update(c, swarm, "", err);
	if (rc < 0)
		return rc;
	printf("Swarm updated.\n");
	return now && !was ? show_unlock_key(c, false, err) : 0;
}

static int run_unlock_key(struct cli *c, struct mesh_err *err)
{
	bool quiet = flag_bool(c, "quiet");

	if (flag_bool(c, "rotate")) {
		JSON_CLEAN swarm = NULL;
		int rc = api_get(c, &swarm, err, "/swarm");
		if (rc < 0)
			return rc;
		if (!jb(swarm, "Spec.EncryptionConfig.AutoLockManagers"))
			return mesh_fail(err, MESH_E_INVALID, "cannot rotate because autolock is not turned on");
		rc = swarm_update(c, swarm, "key", err);
		if (rc < 0)
			return rc;
		if (!quiet)
			printf("Successfully rotated manager unlock key.\n\n");
	}
	return show_unlock_key(c, quiet, err);
}

static int run_unlock(struct cli *c, struct mesh_err *err)
{
	char key[256] = "";

	if (isatty(0))
		fprintf(stderr, "Please enter unlock key: ");
	if (!fgets(key, sizeof(key), stdin))
		return mesh_fail(err, MESH_E_INVALID, "no key was given");
	key[strcspn(key, "\r\n")] = 0;
	JSON_CLEAN body = json_pack("{s:s}", "UnlockKey", key);
	mesh_wipe(key, sizeof(key));
	return api_post(c, body, NULL, err, "/swarm/unlock");
}

static int pem_flag(struct cli *c, const char *flag, json_t *spec, const char *path, struct mesh_err *err)
{
	struct bytes pem = { 0 };

	if (!flag_given(c, flag))
		return 0;
	int rc = read_input(flag_str(c, flag), 1 << 20, &pem, err);
	if (!rc)
		jset(spec, path, json_stringn((char *)pem.p, pem.n));
	if (pem.p)
		mesh_wipe(pem.p, pem.n);
	free(pem.p);
	return rc;
}

static int wait_rotation(struct cli *c, json_t **swarm, struct mesh_err *err)
{
	for (;;) {
		json_t *fresh;
		int rc = api_get(c, &fresh, err, "/swarm");
		if (rc < 0)
			return rc;
		json_decref(*swarm);
		*swarm = fresh;
		if (!jb(fresh, "RootRotationInProgress"))
			return 0;
		usleep(200000);
	}
}

static void print_pem(const char *pem)
{
	size_t n = strlen(pem);

	printf(n && pem[n - 1] == '\n' ? "%s" : "%s\n", pem);
}

static int run_ca(struct cli *c, struct mesh_err *err)
{
	JSON_CLEAN swarm = NULL;
	int rc = api_get(c, &swarm, err, "/swarm");

	if (rc < 0)
		return rc;
	if (!flag_bool(c, "rotate")) {
		static const char *const only[] = { "cert-expiry", "external-ca", "ca-cert", "ca-key", "detach" };
		for (size_t i = 0; i < ARRAY_SIZE(only); i++)
			if (flag_given(c, only[i]))
				return mesh_fail(err, MESH_E_INVALID,
				                 "`--%s` flag requires the `--rotate` flag to update the CA", only[i]);
		if (!*js(swarm, "TLSInfo.TrustRoot"))
			return mesh_fail(err, MESH_E_NOT_FOUND, "No CA information available");
		print_pem(js(swarm, "TLSInfo.TrustRoot"));
		return 0;
	}
	json_t *spec = jo(swarm, "Spec");
	if (flag_given(c, "cert-expiry"))
		jset(spec, "CAConfig.NodeCertExpiry", json_integer(flag_int(c, "cert-expiry")));
	if (flag_given(c, "external-ca"))
		return mesh_fail(err, MESH_E_UNSUPPORTED, "external certificate authorities are not supported");
	rc = pem_flag(c, "ca-cert", spec, "CAConfig.SigningCACert", err);
	if (!rc)
		rc = pem_flag(c, "ca-key", spec, "CAConfig.SigningCAKey", err);
	jset(spec, "CAConfig.ForceRotate", json_integer(ji(spec, "CAConfig.ForceRotate") + 1));
	if (!rc)
		rc = swarm_update(c, swarm, "", err);
	if (rc < 0 || flag_bool(c, "detach"))
		return rc;
	rc = wait_rotation(c, &swarm, err);
	if (!rc && !flag_bool(c, "quiet"))
		print_pem(js(swarm, "TLSInfo.TrustRoot"));
	return rc;
}

static const struct flag init_flags[] = {
	{ "advertise-addr", 0, F_STR, NULL, NULL, "Advertised address (format: \"<ip|interface>[:port]\")" },
	{ "autolock", 0, F_BOOL, NULL, NULL,
	  "Enable manager autolocking (requiring an unlock key to start a stopped manager)" },
	{ "availability", 0, F_STR, NULL, "active", "Availability of the node (\"active\", \"pause\", \"drain\")",
	  "active pause drain" },
	{ "cert-expiry", 0, F_DURATION, NULL, "2160h0m0s", "Validity period for node certificates (ns|us|ms|s|m|h)" },
	{ "data-path-addr", 0, F_STR, NULL, NULL,
	  "Address or interface to use for data path traffic (format: \"<ip|interface>\")" },
	{ "data-path-port", 0, F_UINT, "uint32", NULL,
	  "Port number to use for data path traffic (1024 - 49151). If no value is set or is set to 0, the default "
	  "port (4789) is used." },
	{ "default-addr-pool", 0, F_LIST, "ipNetSlice", NULL, "default address pool in CIDR format" },
	{ "default-addr-pool-mask-length", 0, F_UINT, "uint32", "24", "default address pool subnet mask length" },
	{ "dispatcher-heartbeat", 0, F_DURATION, NULL, "5s", "Dispatcher heartbeat period (ns|us|ms|s|m|h)" },
	{ "external-ca", 0, F_LIST, "external-ca", NULL,
	  "Specifications of one or more certificate signing endpoints" },
	{ "force-new-cluster", 0, F_BOOL, NULL, NULL, "Force create a new cluster from current state" },
	{ "listen-addr", 0, F_STR, "node-addr", "0.0.0.0:2377", "Listen address (format: \"<ip|interface>[:port]\")" },
	{ "max-snapshots", 0, F_UINT, NULL, NULL, "Number of additional Raft snapshots to retain" },
	{ "snapshot-interval", 0, F_UINT, NULL, "10000", "Number of log entries between Raft snapshots" },
	{ "task-history-limit", 0, F_INT, NULL, "5", "Task history retention limit" },
};

static const struct flag join_flags[] = {
	{ "advertise-addr", 0, F_STR, NULL, NULL, "Advertised address (format: \"<ip|interface>[:port]\")" },
	{ "availability", 0, F_STR, NULL, "active", "Availability of the node (\"active\", \"pause\", \"drain\")",
	  "active pause drain" },
	{ "data-path-addr", 0, F_STR, NULL, NULL,
	  "Address or interface to use for data path traffic (format: \"<ip|interface>\")" },
	{ "listen-addr", 0, F_STR, "node-addr", "0.0.0.0:2377", "Listen address (format: \"<ip|interface>[:port]\")" },
	{ "token", 0, F_STR, NULL, NULL, "Token for entry into the swarm" },
};

static const struct flag token_flags[] = {
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display token" },
	{ "rotate", 0, F_BOOL, NULL, NULL, "Rotate join token" },
};

static const struct flag leave_flags[] = {
	{ "force", 'f', F_BOOL, NULL, NULL, "Force this node to leave the swarm, ignoring warnings" },
};

static const struct flag update_flags[] = {
	{ "autolock", 0, F_BOOL, NULL, NULL, "Change manager autolocking setting (true|false)" },
	{ "cert-expiry", 0, F_DURATION, NULL, "2160h0m0s", "Validity period for node certificates (ns|us|ms|s|m|h)" },
	{ "dispatcher-heartbeat", 0, F_DURATION, NULL, "5s", "Dispatcher heartbeat period (ns|us|ms|s|m|h)" },
	{ "external-ca", 0, F_LIST, "external-ca", NULL,
	  "Specifications of one or more certificate signing endpoints" },
	{ "max-snapshots", 0, F_UINT, NULL, NULL, "Number of additional Raft snapshots to retain" },
	{ "snapshot-interval", 0, F_UINT, NULL, "10000", "Number of log entries between Raft snapshots" },
	{ "task-history-limit", 0, F_INT, NULL, "5", "Task history retention limit" },
};

static const struct flag key_flags[] = {
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display token" },
	{ "rotate", 0, F_BOOL, NULL, NULL, "Rotate unlock key" },
};

static const struct flag ca_flags[] = {
	{ "ca-cert", 0, F_STR, "pem-file", NULL,
	  "Path to the PEM-formatted root CA certificate to use for the new cluster" },
	{ "ca-key", 0, F_STR, "pem-file", NULL, "Path to the PEM-formatted root CA key to use for the new cluster" },
	{ "cert-expiry", 0, F_DURATION, NULL, "2160h0m0s", "Validity period for node certificates (ns|us|ms|s|m|h)" },
	{ "detach", 'd', F_BOOL, NULL, NULL, "Exit immediately instead of waiting for the root rotation to converge" },
	{ "external-ca", 0, F_LIST, "external-ca", NULL,
	  "Specifications of one or more certificate signing endpoints" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Suppress progress output" },
	{ "rotate", 0, F_BOOL, NULL, NULL,
	  "Rotate the swarm CA - if no certificate or key are provided, new ones will be generated" },
};

static const struct command sub_init = {
	.name = "init",
	.summary = "Initialize a swarm",
	FLAGS(init_flags),
	.run = run_init,
	.example = "  meshctl swarm init --advertise-addr 192.0.2.1",
};
static const struct command sub_join = {
	.name = "join",
	.usage = "HOST:PORT",
	.summary = "Join a swarm as a node and/or manager",
	FLAGS(join_flags),
	.run = run_join,
	.min = 1,
	.max = 1,
	.example = "  meshctl swarm join --token SWMTKN-1-... 192.0.2.1:2377",
};
static const struct command sub_token = {
	.name = "join-token",
	.usage = "(worker|manager)",
	.summary = "Manage join tokens",
	FLAGS(token_flags),
	.run = run_join_token,
	.min = 1,
	.max = 1,
	.comp = "worker manager",
	.example = "  meshctl swarm join-token --rotate worker",
};
static const struct command sub_leave = {
	.name = "leave",
	.summary = "Leave the swarm",
	FLAGS(leave_flags),
	.run = run_leave,
	.example = "  meshctl swarm leave",
};
static const struct command sub_update = {
	.name = "update",
	.summary = "Update the swarm",
	FLAGS(update_flags),
	.run = run_update,
	.example = "  meshctl swarm update --task-history-limit 3",
};
static const struct command sub_key = {
	.name = "unlock-key",
	.summary = "Manage the unlock key",
	FLAGS(key_flags),
	.run = run_unlock_key,
	.example = "  meshctl swarm unlock-key -q",
};
static const struct command sub_unlock = {
	.name = "unlock",
	.summary = "Unlock a manager after its restart; the key is read from standard input",
	.run = run_unlock,
	.example = "  meshctl swarm unlock < key",
};
static const struct command sub_ca = {
	.name = "ca",
	.summary = "Display and rotate the root CA",
	FLAGS(ca_flags),
	.run = run_ca,
	.example = "  meshctl swarm ca --rotate",
};

static const struct command *const subs[] = { &sub_ca,     &sub_init, &sub_join,   &sub_token, &sub_leave,
	                                      &sub_unlock, &sub_key,  &sub_update, NULL };
const struct command cmd_swarm = {
	.name = "swarm",
	.summary = "Make, join and leave a swarm",
	.subs = subs,
};
