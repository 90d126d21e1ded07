/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role:   allocation and scope-owned cleanup.
 * Errors: the x* allocators never return NULL: when memory ends the process says so and aborts. Tasks,
 *         maps and programs outlive meshd, and its supervisor starts it again (docs/decisions/0002).
 */
#ifndef MESH_BASE_MEM_H
#define MESH_BASE_MEM_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"

void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
/* NULL in, NULL out. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) MESH_PRINTF(1, 2);
/* Overwrites in a way the compiler keeps, for keys and tokens. */
void mesh_wipe(void *p, size_t n);

#define XNEW(type) ((type *)xcalloc(1, sizeof(type)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define CONTAINER_OF(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

/* Scope-owned: CLEAN(free) char *s = ...; escape with TAKE(s), TAKE_FD(fd). */
static inline void mesh_clean_free(void *pp)
{
	free(*(void **)pp);
}
static inline void mesh_clean_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define CLEAN_FREE __attribute__((cleanup(mesh_clean_free)))
#define CLEAN_CLOSE __attribute__((cleanup(mesh_clean_close)))
#define TAKE(p)                                                                                                        \
	({                                                                                                             \
		__typeof__(p) _taken = (p);                                                                            \
		(p) = NULL;                                                                                            \
		_taken;                                                                                                \
	})
#define TAKE_FD(fd)                                                                                                    \
	({                                                                                                             \
		int _taken = (fd);                                                                                     \
		(fd) = -1;                                                                                             \
		_taken;                                                                                                \
	})

static inline int streq(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

#endif
