/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Do two service specs ask for the same? */
#include <string.h>

#include "cli/api.h"
#include "cli/show.h"
#include "cli/stack.h"

/* Without what says nothing: null, "", 0, false, {}, [], and what daemons fill in. */
static json_t *essence(const json_t *v)
{
	const char *key;
	json_t *item, *out;
	size_t i;

	if (json_is_object(v)) {
		out = json_object();
		json_object_foreach((json_t *)v, key, item)
		{
			json_t *e = essence(item);
			if (e)
				json_object_set_new(out, key, e);
		}
		return json_object_size(out) ? out : (json_decref(out), NULL);
	}
	if (json_is_array(v)) {
		out = json_array();
		json_array_foreach((json_t *)v, i, item)
		{
			json_t *e = essence(item);
			json_array_append_new(out, e ? e : json_null());
		}
		return json_array_size(out) ? out : (json_decref(out), NULL);
	}
	if (json_is_real(v) && json_real_value(v) == (double)(json_int_t)json_real_value(v))
		return json_real_value(v) != 0 ? json_integer((json_int_t)json_real_value(v)) : NULL;
	bool says = !json_is_null(v) && !json_is_false(v) && !(json_is_string(v) && !json_string_length(v)) &&
	            !(json_is_integer(v) && !json_integer_value(v));
	return says ? json_incref((json_t *)v) : NULL;
}

static void drop_default(json_t *o, const char *path, const char *value)
{
	if (!strcmp(js(o, path), value))
		jdel(o, path);
}

static json_t *comparable(const json_t *spec)
{
	JSON_CLEAN copy = json_deep_copy(spec);

	/* {} says which mode it is and would vanish. */
	if (jo(copy, "Mode.Global"))
		jset(copy, "Mode.Global.is", json_true());
	if (jo(copy, "Mode.GlobalJob"))
		jset(copy, "Mode.GlobalJob.is", json_true());
	if (jo(copy, "Mode.Replicated") && !jo(copy, "Mode.Replicated.Replicas"))
		jset(copy, "Mode.Replicated.Replicas", json_integer(1));
	if (jo(copy, "Mode.Replicated"))
		jset(copy, "Mode.Replicated.is", json_true());
	drop_default(copy, "TaskTemplate.Runtime", "container");
	drop_default(copy, "TaskTemplate.ContainerSpec.Isolation", "default");
	drop_default(copy, "EndpointSpec.Mode", "vip");
	return essence(copy);
}

bool stack_same_spec(const json_t *a, const json_t *b)
{
	JSON_CLEAN x = comparable(a);
	JSON_CLEAN y = comparable(b);

	return json_equal(x, y);
}
