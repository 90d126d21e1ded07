/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What cppcheck must know of headers it does not read: cppcheck --include=tests/cppcheck.h */
#define json_array_foreach(a, i, v) for (i = 0; i < json_array_size(a) && (v = json_array_get(a, i)); i++)
#define json_object_foreach(o, k, v) for (k = first_key(o, &v); more_keys(o); k = next_key(o, &v))
#define LIBBPF_OPTS(type, name, ...) struct type name = { .sz = sizeof(name), __VA_ARGS__ }
