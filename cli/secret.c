/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Secrets and configs: the same verbs over two kinds of object. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/api.h"
#include "cli/commands.h"
#include "cli/show.h"
#include "cli/spec.h"
#include "cli/units.h"

#define SECRET_MAX (500 * 1024)
#define CONFIG_MAX (1000 * 1024)

static int create(struct cli *c, const char *path, size_t max, struct mesh_err *err)
{
	struct bytes data = { 0 };
	JSON_CLEAN answer = NULL;
	JSON_CLEAN labels = spec_labels(flag_list(c, "label"));
	JSON_CLEAN body = json_pack("{s:s,s:O}", "Name", c->args[0], "Labels", labels);
	bool driver = flag_known(c, "driver") && *flag_str(c, "driver");

	if (driver && c->nargs > 1)
		return mesh_fail(err, MESH_E_INVALID, "when using secret driver secret data must be empty");
	if (!driver) {
		if (c->nargs < 2 && flag_known(c, "driver"))
			return mesh_fail(err, MESH_E_INVALID,
			                 "this command needs the data: a file, or - for standard input");
		int rc = read_input(c->args[1], max, &data, err);
		if (rc < 0)
			return mesh_wrap(err, rc, "error reading content from \"%s\"", c->args[1]);
		CLEAN_FREE char *text = base64(data.p, data.n, false);
		json_object_set_new(body, "Data", json_string(text));
		mesh_wipe(text, strlen(text));
		if (data.p)
			mesh_wipe(data.p, data.n);
		free(data.p);
	} else {
		jset(body, "Driver.Name", json_string(flag_str(c, "driver")));
	}
	if (*flag_str(c, "template-driver"))
		jset(body, "Templating.Name", json_string(flag_str(c, "template-driver")));
	int rc = api_post(c, body, &answer, err, "/%s/create", path);
	if (!rc)
		printf("%s\n", js(answer, "ID"));
	return rc;
}

static const struct column columns[] = {
	{ "ID", "ID" },
	{ "Name", "NAME" },
	{ "Driver", "DRIVER" },
	{ "CreatedAt", "CREATED" },
	{ "UpdatedAt", "UPDATED" },
	{ "Labels", "LABELS" },
};
static const struct list_view secret_view = { columns, ARRAY_SIZE(columns),
	                                      "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}",
	                                      "ID" };
static const struct list_view config_view = { columns, ARRAY_SIZE(columns),
	                                      "table {{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}", "ID" };

static int list(struct cli *c, const char *path, const struct list_view *view, struct mesh_err *err)
{
	JSON_CLEAN all = NULL;
	JSON_CLEAN rows = json_array();
	json_t *o;
	size_t i;

	CLEAN_FREE char *filters = api_filters(flag_list(c, "filter"), err);
	if (!filters)
		return MESH_E_USAGE;
	int rc = api_get(c, &all, err, "/%s%s%s", path, *filters ? "?" : "", filters);
	if (rc < 0)
		return rc;
	sort_rows(all, "Spec.Name");
	json_array_foreach(all, i, o)
	{
		CLEAN_FREE char *created = age_of(js(o, "CreatedAt"));
		CLEAN_FREE char *updated = age_of(js(o, "UpdatedAt"));
		CLEAN_FREE char *c_ago = xasprintf("%s ago", created);
		CLEAN_FREE char *u_ago = xasprintf("%s ago", updated);
		struct buf labels = { 0 };
		const char *key;
		json_t *v, *row;
		json_object_foreach(jo(o, "Spec.Labels"), key, v)
			buf_printf(&labels, "%s%s=%s", labels.len ? "," : "", key, json_string_value(v) ?: "");
		row = json_pack("{s:s,s:s,s:s,s:s,s:s}", "ID", js(o, "ID"), "Name", js(o, "Spec.Name"), "CreatedAt",
		                c_ago, "UpdatedAt", u_ago, "Labels", buf_str(&labels));
		if (view == &secret_view)
			json_object_set_new(row, "Driver", json_string(js(o, "Spec.Driver.Name")));
		json_object_set_new(row, "Label",
		                    jo(o, "Spec.Labels") ? json_incref(jo(o, "Spec.Labels")) : json_object());
		json_array_append_new(rows, row);
		buf_fini(&labels);
	}
	return list_print(view, rows, flag_str(c, "format"), flag_bool(c, "quiet"), err);
}

static void print_labels(const json_t *labels)
{
	const char *key;
	json_t *v;

	if (!json_object_size(labels))
		return;
	printf("Labels:\n");
	json_object_foreach((json_t *)labels, key, v)
		printf(" - %s%s%s\n", key, *json_string_value(v) ? "=" : "", json_string_value(v));
}

static void times(const json_t *o, char *created, char *updated, size_t cap)
{
	int64_t ns;

	*created = *updated = 0;
	if (parse_time(js(o, "CreatedAt"), &ns) == 0)
		format_time(ns, created, cap);
	if (parse_time(js(o, "UpdatedAt"), &ns) == 0)
		format_time(ns, updated, cap);
}

static int secret_pretty(struct cli *c, json_t *o, struct mesh_err *err)
{
	char created[64], updated[64];

	(void)c;
	(void)err;
	times(o, created, updated, sizeof(created));
	printf("ID:              %s\nName:              %s\n", js(o, "ID"), js(o, "Spec.Name"));
	print_labels(jo(o, "Spec.Labels"));
	printf("Driver:            %s\nCreated at:        %s\nUpdated at:        %s\n", js(o, "Spec.Driver.Name"),
	       created, updated);
	return 0;
}

static int config_pretty(struct cli *c, json_t *o, struct mesh_err *err)
{
	char created[64], updated[64];
	CLEAN_FREE uint8_t *data = xcalloc(strlen(js(o, "Spec.Data")) + 1, 1);
	size_t n = base64_decode(js(o, "Spec.Data"), data);

	(void)c;
	(void)err;
	times(o, created, updated, sizeof(created));
	printf("ID:\t\t\t%s\nName:\t\t\t%s\n", js(o, "ID"), js(o, "Spec.Name"));
	print_labels(jo(o, "Spec.Labels"));
	printf("Created at:            \t%s\nUpdated at:            \t%s\nData:\n", created, updated);
	fwrite(data, 1, n, stdout);
	printf("\n");
	return 0;
}

static int secret_create(struct cli *c, struct mesh_err *err)
{
	return create(c, "secrets", SECRET_MAX, err);
}

static int config_create(struct cli *c, struct mesh_err *err)
{
	return create(c, "configs", CONFIG_MAX, err);
}

static int secret_ls(struct cli *c, struct mesh_err *err)
{
	return list(c, "secrets", &secret_view, err);
}

static int config_ls(struct cli *c, struct mesh_err *err)
{
	return list(c, "configs", &config_view, err);
}

static int secret_inspect(struct cli *c, struct mesh_err *err)
{
	return inspect_each(c, "/secrets", "", flag_bool(c, "pretty") ? secret_pretty : NULL, err);
}

static int config_inspect(struct cli *c, struct mesh_err *err)
{
	return inspect_each(c, "/configs", "", flag_bool(c, "pretty") ? config_pretty : NULL, err);
}

static int secret_rm(struct cli *c, struct mesh_err *err)
{
	return remove_each(c, "/secrets", "", err);
}

static int config_rm(struct cli *c, struct mesh_err *err)
{
	return remove_each(c, "/configs", "", err);
}

static const struct flag secret_create_flags[] = {
	{ "driver", 'd', F_STR, NULL, NULL, "Secret driver" },
	{ "label", 'l', F_LIST, NULL, NULL, "Secret labels" },
	{ "template-driver", 0, F_STR, NULL, NULL, "Template driver" },
};

static const struct flag config_create_flags[] = {
	{ "label", 'l', F_LIST, NULL, NULL, "Config labels" },
	{ "template-driver", 0, F_STR, NULL, NULL, "Template driver" },
};

static const struct flag ls_flags[] = {
	{ "filter", 'f', F_LIST, "filter", NULL, "Filter output based on conditions provided" },
	{ "format", 0, F_STR, NULL, NULL, "'table', 'table TEMPLATE', 'json' or a Go template" },
	{ "quiet", 'q', F_BOOL, NULL, NULL, "Only display IDs" },
};

static const struct flag inspect_flags[] = {
	{ "format", 'f', F_STR, NULL, NULL, "'json' or a Go template" },
	{ "pretty", 0, F_BOOL, NULL, NULL, "Print the information in a human friendly format" },
};

static const struct command sub_secret_create = {
	.name = "create",
	.usage = "SECRET [file|-]",
	.summary = "Create a secret from a file or standard input",
	FLAGS(secret_create_flags),
	.run = secret_create,
	.min = 1,
	.max = 2,
	.example = "  meshctl secret create --label env=prod app.secret ./app.secret",
};
static const struct command sub_secret_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List secrets",
	FLAGS(ls_flags),
	.run = secret_ls,
	.example = "  meshctl secret ls --filter name=app",
};
static const struct command sub_secret_inspect = {
	.name = "inspect",
	.usage = "SECRET [SECRET...]",
	.summary = "Display detailed information on one or more secrets",
	FLAGS(inspect_flags),
	.run = secret_inspect,
	.min = 1,
	.max = -1,
	.comp = "secret",
	.example = "  meshctl secret inspect --pretty app",
};
static const struct command sub_secret_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "SECRET [SECRET...]",
	.summary = "Remove one or more secrets",
	.run = secret_rm,
	.min = 1,
	.max = -1,
	.comp = "secret",
	.example = "  meshctl secret rm app",
};
static const struct command *const secret_subs[] = { &sub_secret_create, &sub_secret_inspect, &sub_secret_ls,
	                                             &sub_secret_rm, NULL };
const struct command cmd_secret = {
	.name = "secret",
	.summary = "Manage secrets",
	.subs = secret_subs,
};
static const struct command sub_config_create = {
	.name = "create",
	.usage = "CONFIG file|-",
	.summary = "Create a config from a file or standard input",
	FLAGS(config_create_flags),
	.run = config_create,
	.min = 2,
	.max = 2,
	.example = "  meshctl config create --label env=prod app.config ./app.config",
};
static const struct command sub_config_ls = {
	.name = "ls",
	.alias = "list",
	.summary = "List configs",
	FLAGS(ls_flags),
	.run = config_ls,
	.example = "  meshctl config ls --filter name=app",
};
static const struct command sub_config_inspect = {
	.name = "inspect",
	.usage = "CONFIG [CONFIG...]",
	.summary = "Display detailed information on one or more configs",
	FLAGS(inspect_flags),
	.run = config_inspect,
	.min = 1,
	.max = -1,
	.comp = "config",
	.example = "  meshctl config inspect --pretty app",
};
static const struct command sub_config_rm = {
	.name = "rm",
	.alias = "remove",
	.usage = "CONFIG [CONFIG...]",
	.summary = "Remove one or more configs",
	.run = config_rm,
	.min = 1,
	.max = -1,
	.comp = "config",
	.example = "  meshctl config rm app",
};
static const struct command *const config_subs[] = { &sub_config_create, &sub_config_inspect, &sub_config_ls,
	                                             &sub_config_rm, NULL };
const struct command cmd_config = {
	.name = "config",
	.summary = "Manage configs",
	.subs = config_subs,
};
