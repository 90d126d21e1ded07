/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Foreign text the agent reads: an image's passwd and group, seccomp profiles, placeholders, lines of a log. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "control/agent/log_file.h"
#include "control/agent/oci_spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void users(const char *text)
{
	/* First line the user, up to an empty line passwd, the rest group. */
	CLEAN_FREE char *user = xstrndup(text, strcspn(text, "\n"));
	const char *passwd = text + strcspn(text, "\n"), *group = strstr(passwd, "\n\n");
	struct oci_user u;
	struct mesh_err err = { 0 };
	if (!oci_user_resolve(user, NULL, passwd, group ? group : "", &u, &err) && u.n > OCI_GROUPS_MAX)
		abort();
}

static void seccomp(const uint8_t *data, size_t n)
{
	json_error_t e;
	json_t *in = json_loadb((const char *)data, n, 0, &e);
	json_t *out = in ? oci_seccomp_convert(in, 0xff, NULL) : NULL;
	json_decref(in);
	json_decref(out);
}

static bool quote(void *arg, enum tmpl_what what, const char *name, struct bytes *out)
{
	*out = *(const struct bytes *)arg;
	return what != TMPL_CONFIG && *name;
}

static void template(const uint8_t *data, size_t n)
{
	struct bytes self = { (uint8_t *)data, n };
	const struct tmpl_sources sources = { quote, &self };
	const struct tmpl_vars v = { .service_name = "web", .node_id = "n" };
	struct buf out = { 0 };
	struct mesh_err err = { 0 };
	(void)!tmpl_expand(&v, n % 2 ? &sources : NULL, data, n, &out, &err);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct log_rec rec;
	CLEAN_FREE char *text = xstrndup((const char *)data, n);
	if (log_rec_parse((const char *)data, n, &rec) && (rec.n > n || rec.stream < 1 || rec.stream > 2))
		abort();
	users(text);
	seccomp(data, n);
	template(data, n);
	(void)oci_signal_parse(text);
	return 0;
}
