/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Role: is this Prometheus text, version 0.0.4, and by the conventions? NULL, or what is wrong with which line. Stricter
 *       than a scraper: HELP and TYPE once and before the samples of a family, samples of a family together, no series
 *       twice, label values escaped, names in base units and counters ending in _total.
 */
#ifndef TESTS_PROM_CHECK_H
#define TESTS_PROM_CHECK_H

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/map.h"

struct prom_state {
	char family[128], type[16];
	bool helped;
	size_t samples;
	struct map families, series;
	char wrong[400];
};

static bool prom_is_name(const char *s, size_t n, bool colon)
{
	for (size_t i = 0; i < n; i++)
		if (!(isalpha((unsigned char)s[i]) || s[i] == '_' || (colon && s[i] == ':') ||
		      (i && isdigit((unsigned char)s[i]))))
			return false;
	return n > 0;
}

static bool prom_ends(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);
	return n >= m && strcmp(s + n - m, end) == 0;
}

/* Escapes as the format has them; returns the end of the value (the closing quote) or NULL. */
static const char *prom_value_end(const char *p)
{
	for (; *p && *p != '"'; p++)
		if (*p == '\\' && !strchr("\\\"n", *++p))
			return NULL;
	return *p == '"' ? p : NULL;
}

static const char *prom_labels_end(const char *p)
{
	char seen[16][64];
	size_t n = 0;
	while (*p != '}') {
		const char *eq = strchr(p, '=');
		if (!eq || !prom_is_name(p, (size_t)(eq - p), false) || eq[1] != '"' || strncmp(p, "__", 2) == 0 ||
		    n == 16)
			return NULL;
		snprintf(seen[n], sizeof(seen[n]), "%.*s", (int)(eq - p), p);
		for (size_t i = 0; i < n; i++)
			if (strcmp(seen[i], seen[n]) == 0)
				return NULL;
		n++;
		p = prom_value_end(eq + 2);
		if (!p++)
			return NULL;
		if (*p == ',' && p[1] != '}')
			p++;
		else if (*p != '}')
			return NULL;
	}
	return p + 1;
}

static const char *prom_sample(struct prom_state *s, const char *line)
{
	size_t n = strcspn(line, "{ ");
	char name[128], *end;
	snprintf(name, sizeof(name), "%.*s", (int)n, line);
	if (!prom_is_name(name, strlen(name), true))
		return "bad metric name";
	bool summary =
		strcmp(s->type, "summary") == 0 && strncmp(name, s->family, strlen(s->family)) == 0 &&
		(strcmp(name + strlen(s->family), "_sum") == 0 || strcmp(name + strlen(s->family), "_count") == 0);
	if (strcmp(name, s->family) != 0 && !summary)
		return "sample outside of its family";
	const char *p = line + n;
	if (*p == '{' && !(p = prom_labels_end(p + 1)))
		return "bad labels";
	char *series = strndup(line, (size_t)(p - line));
	bool twice = map_has(&s->series, series);
	map_put(&s->series, series, s);
	free(series);
	if (twice)
		return "series twice";
	if (*p++ != ' ')
		return "no value";
	double v = strtod(p, &end);
	if (end == p || *end)
		return "bad value";
	s->samples++;
	return strcmp(s->type, "counter") == 0 && !(v >= 0) ? "counter below zero" : NULL;
}

static const char *prom_type(struct prom_state *s, const char *rest)
{
	static const char *const types[] = { "counter", "gauge", "summary", "histogram", "untyped" };
	char name[128] = "", type[16] = "";
	if (sscanf(rest, "%127s %15s", name, type) != 2 || strcmp(name, s->family) != 0 || !s->helped)
		return "TYPE does not follow its HELP";
	snprintf(s->type, sizeof(s->type), "%s", type);
	bool known = false;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		known |= strcmp(type, types[i]) == 0;
	if (!known)
		return "unknown type";
	if ((strcmp(type, "counter") == 0) != prom_ends(name, "_total"))
		return "_total is for counters, and for all of them";
	static const char *const units[] = { "_ms", "_milliseconds", "_us", "_ns", "_kb", "_kilobytes", "_mb" };
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strstr(name, units[i]) && (prom_ends(name, units[i]) || strstr(name, "_total")))
			if (prom_ends(name, units[i]))
				return "not a base unit";
	return NULL;
}

static const char *prom_help(struct prom_state *s, const char *rest)
{
	size_t n = strcspn(rest, " ");
	snprintf(s->family, sizeof(s->family), "%.*s", (int)n, rest);
	s->helped = true;
	s->type[0] = '\0';
	if (!prom_is_name(s->family, strlen(s->family), true) || strncmp(s->family, "mesh_", 5) != 0)
		return "bad family name";
	if (rest[n] != ' ' || !rest[n + 1])
		return "help without text";
	if (map_has(&s->families, s->family))
		return "family twice";
	map_put(&s->families, s->family, s);
	return NULL;
}

static const char *prom_line(struct prom_state *s, const char *line)
{
	for (const char *c = line; *c; c++)
		if ((unsigned char)*c < 0x20 && *c != '\t')
			return "control character";
	if (strncmp(line, "# HELP ", 7) == 0)
		return prom_help(s, line + 7);
	if (strncmp(line, "# TYPE ", 7) == 0)
		return prom_type(s, line + 7);
	return *line == '#' || !*line ? "comment or empty line"
	       : !s->type[0]          ? "sample before TYPE"
	                              : prom_sample(s, line);
}

static inline const char *prom_wrong(const char *text)
{
	static char out[512];
	struct prom_state s = { 0 };
	const char *wrong = NULL;
	size_t n = strlen(text), at = 0;
	out[0] = '\0';
	if (!n || text[n - 1] != '\n')
		wrong = "no newline at the end";
	for (const char *p = text; *p && !wrong; p += strcspn(p, "\n") + 1) {
		char *line = strndup(p, strcspn(p, "\n"));
		at++;
		wrong = prom_line(&s, line);
		snprintf(out, sizeof(out), "line %zu: %s: %s", at, wrong ? wrong : "", line);
		free(line);
	}
	map_fini(&s.families);
	map_fini(&s.series);
	return wrong ? (out[0] ? out : wrong) : NULL;
}

#endif
