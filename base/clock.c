/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/clock.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int64_t read_clock(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

int64_t clock_wall_ns(void)
{
	return read_clock(CLOCK_REALTIME);
}

int64_t clock_mono_ns(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

const char *clock_format(int64_t ns, char out[CLOCK_TEXT_MAX])
{
	if (ns == 0) {
		strcpy(out, "0001-01-01T00:00:00Z");
		return out;
	}
	time_t sec = (time_t)(ns / NS_PER_SEC);
	long frac = (long)(ns % NS_PER_SEC);
	if (frac < 0) {
		frac += NS_PER_SEC;
		sec--;
	}
	struct tm tm;
	gmtime_r(&sec, &tm);
	size_t n = strftime(out, CLOCK_TEXT_MAX, "%Y-%m-%dT%H:%M:%S", &tm);
	if (frac) {
		n += (size_t)snprintf(out + n, CLOCK_TEXT_MAX - n, ".%09ld", frac);
		while (out[n - 1] == '0')
			n--;
	}
	strcpy(out + n, "Z");
	return out;
}

static int parse_fraction(const char **s, long *ns)
{
	long scale = 100000000;
	*ns = 0;
	if (**s != '.')
		return 0;
	(*s)++;
	if (**s < '0' || **s > '9')
		return MESH_E_INVALID;
	for (; **s >= '0' && **s <= '9'; (*s)++, scale /= 10)
		*ns += (**s - '0') * scale;
	return 0;
}

int clock_parse(const char *s, int64_t *out)
{
	struct tm tm = { 0 };
	long frac = 0;
	char *end = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	if (end) {
		const char *p = end;
		long offset = 0;
		if (parse_fraction(&p, &frac))
			return MESH_E_INVALID;
		if (*p == 'Z' || *p == 'z') {
			p++;
		} else {
			int hh, mm, used = 0;
			char sign;
			if (sscanf(p, "%c%2d:%2d%n", &sign, &hh, &mm, &used) != 3 || used != 6 ||
			    (sign != '+' && sign != '-'))
				return MESH_E_INVALID;
			offset = (hh * 60L + mm) * 60 * (sign == '-' ? -1 : 1);
			p += 6;
		}
		if (*p)
			return MESH_E_INVALID;
		time_t sec = timegm(&tm) - offset;
		if (sec > INT64_MAX / NS_PER_SEC - 1)
			return MESH_E_INVALID;
		/* Go's zero time and everything before 1970 means "not set" in this API. */
		*out = sec <= 0 ? 0 : sec * NS_PER_SEC + frac;
		return 0;
	}
	char *stop;
	long long sec = strtoll(s, &stop, 10);
	const char *p = stop;
	if (stop == s || sec < 0 || sec > INT64_MAX / NS_PER_SEC - 1 || parse_fraction(&p, &frac) || *p)
		return MESH_E_INVALID;
	*out = sec * NS_PER_SEC + frac;
	return 0;
}

const char *duration_format(int64_t ns, char out[CLOCK_TEXT_MAX])
{
	if (ns == 0) {
		strcpy(out, "0s");
		return out;
	}
	size_t n = 0;
	uint64_t v = (uint64_t)ns;
	if (ns < 0) {
		out[n++] = '-';
		v = 0 - v;
	}
	if (v < 1000) {
		snprintf(out + n, CLOCK_TEXT_MAX - n, "%lluns", (unsigned long long)v);
		return out;
	}
	double part = (double)v;
	const char *unit = "s";
	if (v < 1000000) {
		part /= 1e3;
		unit = "\xc2\xb5s";
	} else if (v < (uint64_t)NS_PER_SEC) {
		part /= 1e6;
		unit = "ms";
	} else {
		uint64_t h = v / (3600ULL * NS_PER_SEC), m = v / (60ULL * NS_PER_SEC) % 60;
		if (h)
			n += (size_t)snprintf(out + n, CLOCK_TEXT_MAX - n, "%lluh", (unsigned long long)h);
		if (h || m)
			n += (size_t)snprintf(out + n, CLOCK_TEXT_MAX - n, "%llum", (unsigned long long)m);
		part = (double)(v % (60ULL * NS_PER_SEC)) / 1e9;
	}
	snprintf(out + n, CLOCK_TEXT_MAX - n, "%.12g%s", part, unit);
	return out;
}

int duration_parse(const char *s, int64_t *out)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = { { "ns", 1 },  { "us", 1e3 }, { "\xc2\xb5s", 1e3 }, { "ms", 1e6 },
		      { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 } };
	double total = 0;
	bool negative = *s == '-';
	if (*s == '-' || *s == '+')
		s++;
	if (strcmp(s, "0") == 0) {
		*out = 0;
		return 0;
	}
	if (!*s)
		return MESH_E_INVALID;
	while (*s) {
		if (!((*s >= '0' && *s <= '9') || *s == '.'))
			return MESH_E_INVALID;
		char *end;
		double v = strtod(s, &end);
		size_t len = strcspn(end, "0123456789.");
		size_t i = 0;
		while (i < sizeof(units) / sizeof(units[0]) &&
		       (strlen(units[i].name) != len || strncmp(units[i].name, end, len)))
			i++;
		if (end == s || i == sizeof(units) / sizeof(units[0]) || !isfinite(v))
			return MESH_E_INVALID;
		total += v * units[i].ns;
		s = end + len;
	}
	if (total > 9.2e18)
		return MESH_E_INVALID;
	*out = (int64_t)(total + 0.5) * (negative ? -1 : 1);
	return 0;
}
