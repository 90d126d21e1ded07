// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <sys/mman.h>

#include <bpf/bpf.h>

#include "dataplane/ebpf/internal.h"

static size_t bytes_of(const struct segments *s)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (size_t)s->value_size * s->per;

	return (size + page - 1) & ~(page - 1);
}

/* Takes fd. */
static int add(struct segments *s, int fd)
{
	void *p = NULL;

	if (s->flags & BPF_F_MMAPABLE) {
		p = mmap(NULL, bytes_of(s), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		int rc = p == MAP_FAILED ? -errno : 0;
		close(fd);
		if (rc)
			return rc;
		fd = -1;
	}
	s->memory = xrealloc(s->memory, (s->n + 1) * sizeof(*s->memory));
	s->fds = xrealloc(s->fds, (s->n + 1) * sizeof(*s->fds));
	s->memory[s->n] = p;
	s->fds[s->n++] = fd;
	return 0;
}

int segments_open(struct segments *s)
{
	for (uint32_t id; s->n < s->max && !bpf_map_lookup_elem(s->fd, &s->n, &id);) {
		int fd = bpf_map_get_fd_by_id(id), rc = fd < 0 ? -errno : add(s, fd);
		if (rc)
			return rc;
	}
	return 0;
}

/* Under the numbers from s->n on. One call for all: each waits for every reader of before. */
static int put(struct segments *s, int *fds, uint32_t n)
{
	CLEAN_FREE uint32_t *keys = xcalloc(n, sizeof(*keys));
	uint32_t done = n;

	for (uint32_t i = 0; i < n; i++)
		keys[i] = s->n + i;
	if (!bpf_map_update_batch(s->fd, keys, fds, &done, NULL))
		return 0;
	/* Kernels before 5.17 have no batches for maps of maps. */
	for (uint32_t i = 0; i < n; i++)
		if (bpf_map_update_elem(s->fd, &keys[i], &fds[i], BPF_ANY))
			return -errno;
	return 0;
}

int segments_grow(struct segments *s)
{
	LIBBPF_OPTS(bpf_map_create_opts, o, .map_flags = s->flags);
	uint32_t want = 1 + s->n / 4, n = want < s->max - s->n ? want : s->max - s->n, made = 0;
	CLEAN_FREE int *fds = xcalloc(n + 1, sizeof(*fds));
	int rc = n ? 0 : MESH_E_EXHAUSTED;

	for (; made < n; made++) {
		fds[made] = bpf_map_create(s->type, NULL, sizeof(uint32_t), s->value_size, s->per, &o);
		if (fds[made] < 0)
			break;
	}
	if (n && !made)
		rc = -errno;
	rc = rc ? rc : put(s, fds, made);
	for (uint32_t i = 0; i < made; i++) {
		if (!rc)
			rc = add(s, fds[i]);
		else
			close(fds[i]);
	}
	return rc;
}

void segments_fini(struct segments *s)
{
	for (uint32_t i = 0; i < s->n; i++) {
		if (s->memory[i])
			munmap(s->memory[i], bytes_of(s));
		if (s->fds[i] >= 0)
			close(s->fds[i]);
	}
	free(s->memory);
	free(s->fds);
	*s = (struct segments){ .fd = -1 };
}
