/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Replays a corpus directory, and mutations of it from a fixed seed, through a fuzz target. */
#ifndef TESTS_FUZZ_REPLAY_H
#define TESTS_FUZZ_REPLAY_H

#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static inline size_t replay_file(const char *path, unsigned mutations)
{
	static uint32_t seed = 1;
	FILE *f = fopen(path, "rb");
	if (!f)
		return 0;
	uint8_t *bytes = malloc(1 << 20);
	size_t n = fread(bytes, 1, 1 << 20, f);
	fclose(f);
	for (unsigned i = 0; i <= mutations; i++) {
		size_t len = n;
		uint8_t *copy = malloc(n ? n : 1); /* exact size, so that a sanitizer sees a read past the end */
		memcpy(copy, bytes, n);
		for (unsigned k = 0; i && n && k < 1 + i % 4; k++) {
			seed = seed * 1664525u + 1013904223u;
			copy[(seed >> 8) % n] = (uint8_t)(seed >> 24);
		}
		if (i % 5 == 4 && n) {
			len = (seed >> 4) % n;
			uint8_t *cut = malloc(len ? len : 1);
			memcpy(cut, copy, len);
			free(copy);
			copy = cut;
		}
		LLVMFuzzerTestOneInput(copy, len);
		free(copy);
	}
	free(bytes);
	return 1;
}

/* Number of files replayed; the directory is relative to the top of the tree. */
static inline size_t replay_corpus(const char *dir, unsigned mutations)
{
	size_t files = 0;
	DIR *d = opendir(dir);
	if (!d)
		return 0;
	for (struct dirent *e; (e = readdir(d));) {
		char path[512];
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		files += replay_file(path, mutations);
	}
	closedir(d);
	return files;
}

#endif
