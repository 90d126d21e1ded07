/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "control/agent/shim/shim.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void set(struct conf *c, const char *key, const char *value)
{
	const struct {
		const char *key;
		const char **text;
		bool *flag;
	} keys[] = {
		{ "dir", &c->dir, NULL },         { "id", &c->id, NULL },
		{ "runtime", &c->runtime, NULL }, { "root", &c->root, NULL },
		{ "lower", &c->lower, NULL },     { "mask", &c->mask, NULL },
		{ "oom", &c->oom, NULL },         { "kill", &c->kill, NULL },
		{ "netns", NULL, &c->netns },     { "dns", NULL, &c->dns },
		{ "tty", NULL, &c->tty },         { "stdin", NULL, &c->stdin_open },
		{ "log", NULL, &c->log },         { "stdin_once", NULL, &c->stdin_once },
	};
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		if (strcmp(key, keys[i].key))
			continue;
		if (keys[i].text)
			*keys[i].text = value;
		else
			*keys[i].flag = value[0] == '1';
	}
	if (!strcmp(key, "log_max"))
		c->log_max = atol(value);
	if (!strcmp(key, "log_files"))
		c->log_files = atoi(value);
}

/* "key\0value\0" pairs until an empty key, then the files. */
int conf_read(int fd, struct conf *c)
{
	struct stat st;
	if (fstat(fd, &st) || st.st_size < 1 || st.st_size > (64 << 20))
		return -1;
	char *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	*c = (struct conf){
		.dir = "", .id = "", .runtime = "", .root = "", .lower = "", .mask = "", .oom = "", .kill = ""
	};
	char *end = p + st.st_size;
	while (p < end && *p) {
		char *key = p, *nul = memchr(p, 0, (size_t)(end - p));
		char *value = nul ? nul + 1 : end;
		nul = value < end ? memchr(value, 0, (size_t)(end - value)) : NULL;
		if (!nul)
			return -1;
		set(c, key, value);
		p = nul + 1;
	}
	if (p >= end || !*c->dir || !*c->id || !*c->runtime || !*c->root)
		return -1;
	c->files = (const uint8_t *)p + 1;
	c->files_len = (size_t)(end - p - 1);
	return 0;
}
