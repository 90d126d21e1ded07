/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "cli/units.h"

int parse_bool(const char *text)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True" };
	static const char *const no[] = { "", "0", "f", "F", "false", "FALSE", "False" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		if (!strcmp(text, yes[i]))
			return 1;
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		if (!strcmp(text, no[i]))
			return 0;
	return -1;
}

static int64_t duration_unit(const char **p)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = { { "ns", 1 },       { "us", 1000 },         { "\xc2\xb5s", 1000 },   { "ms", 1000000 },
		      { "s", NS_PER_S }, { "m", 60 * NS_PER_S }, { "h", 3600 * NS_PER_S } };

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		size_t n = strlen(units[i].name);
		if (!strncmp(*p, units[i].name, n) && !isalpha((unsigned char)(*p)[n])) {
			*p += n;
			return units[i].ns;
		}
	}
	return 0;
}

int parse_duration(const char *text, int64_t *ns, struct mesh_err *err)
{
	const char *p = text;
	bool neg = false;
	double total = 0;

	if (*p == '-' || *p == '+')
		neg = *p++ == '-';
	if (!strcmp(p, "0")) {
		*ns = 0;
		return 0;
	}
	if (!*p)
		return mesh_fail(err, MESH_E_INVALID, "invalid duration \"%s\"", text);
	while (*p) {
		char *end;
		if (!isdigit((unsigned char)*p) && *p != '.')
			return mesh_fail(err, MESH_E_INVALID, "invalid duration \"%s\"", text);
		double v = strtod(p, &end);
		if (end == p)
			return mesh_fail(err, MESH_E_INVALID, "invalid duration \"%s\"", text);
		p = end;
		if (!*p)
			return mesh_fail(err, MESH_E_INVALID, "missing unit in duration \"%s\"", text);
		int64_t unit = duration_unit(&p);
		if (!unit)
			return mesh_fail(err, MESH_E_INVALID, "unknown unit in duration \"%s\"", text);
		total += v * (double)unit;
	}
	if (!(total < 9.2e18))
		return mesh_fail(err, MESH_E_INVALID, "duration \"%s\" is too large", text);
	*ns = (int64_t)llround(neg ? -total : total);
	return 0;
}

int parse_bytes(const char *text, int64_t *bytes, struct mesh_err *err)
{
	static const char letters[] = "bkmgtp";
	char *end;
	double v = strtod(text, &end);
	int power = 0;

	if (end == text || v < 0 || !isdigit((unsigned char)text[0]))
		return mesh_fail(err, MESH_E_INVALID, "invalid size: '%s'", text);
	while (*end == ' ')
		end++;
	if (*end) {
		const char *at = strchr(letters, tolower((unsigned char)*end));
		if (!at)
			return mesh_fail(err, MESH_E_INVALID, "invalid suffix: '%s'", end);
		power = (int)(at - letters);
		end++;
		if (power && !strcasecmp(end, "ib"))
			end += 2;
		else if (power && !strcasecmp(end, "b"))
			end += 1;
		if (*end)
			return mesh_fail(err, MESH_E_INVALID, "invalid suffix in size '%s'", text);
	}
	v *= pow(1024, power);
	if (!(v < 9.2e18))
		return mesh_fail(err, MESH_E_INVALID, "size '%s' is too large", text);
	*bytes = (int64_t)v;
	return 0;
}

int parse_nano_cpus(const char *text, int64_t *nano, struct mesh_err *err)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end || !(v >= 0) || v > 1e6)
		return mesh_fail(err, MESH_E_INVALID, "failed to parse %s as a rational number", text);
	const char *dot = strchr(text, '.');
	if (dot && strlen(dot + 1) > 9)
		return mesh_fail(err, MESH_E_INVALID, "value is too precise");
	*nano = llround(v * 1e9);
	return 0;
}

int parse_time(const char *text, int64_t *ns)
{
	struct tm tm = { 0 };
	int n = 0, offset = 0;
	int64_t frac = 0, scale = NS_PER_S;

	if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
	           &tm.tm_sec, &n) != 6)
		return MESH_E_INVALID;
	const char *p = text + n;
	if (*p == '.')
		for (p++; isdigit((unsigned char)*p); p++) {
			scale /= 10;
			frac += (*p - '0') * scale;
		}
	if (*p == '+' || *p == '-') {
		int h, m;
		if (sscanf(p + 1, "%2d:%2d", &h, &m) != 2)
			return MESH_E_INVALID;
		offset = (*p == '-' ? -1 : 1) * (h * 3600 + m * 60);
	}
	/* what fits into 64 bits of ns; Go's zero time does not, and is no time */
	if (tm.tm_year < 1678 || tm.tm_year > 2261)
		return MESH_E_INVALID;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	*ns = ((int64_t)timegm(&tm) - offset) * NS_PER_S + frac;
	return 0;
}

/* A fraction without trailing zeros, as Go prints it. */
static int frac_digits(char *out, size_t cap, int64_t whole, int64_t frac, int width)
{
	char digits[32];

	if (!frac)
		return snprintf(out, cap, "%lld", (long long)whole);
	int n = snprintf(digits, sizeof(digits), "%0*lld", width, (long long)frac);
	while (n > 0 && digits[n - 1] == '0')
		digits[--n] = 0;
	return snprintf(out, cap, "%lld.%s", (long long)whole, digits);
}

void format_duration(int64_t ns, char *out, size_t cap)
{
	char num[48];
	const char *sign = ns < 0 ? "-" : "";

	if (ns < 0)
		ns = -ns;
	if (!ns) {
		snprintf(out, cap, "0s");
	} else if (ns < NS_PER_S) {
		int64_t unit = ns < 1000 ? 1 : ns < 1000000 ? 1000 : 1000000;
		frac_digits(num, sizeof(num), ns / unit, ns % unit, unit == 1 ? 1 : unit == 1000 ? 3 : 6);
		snprintf(out, cap, "%s%s%s", sign, num, unit == 1 ? "ns" : unit == 1000 ? "\xc2\xb5s" : "ms");
	} else {
		int64_t s = ns / NS_PER_S, h = s / 3600, m = s % 3600 / 60;
		frac_digits(num, sizeof(num), s % 60, ns % NS_PER_S, 9);
		if (h)
			snprintf(out, cap, "%s%lldh%lldm%ss", sign, (long long)h, (long long)m, num);
		else if (m)
			snprintf(out, cap, "%s%lldm%ss", sign, (long long)m, num);
		else
			snprintf(out, cap, "%s%ss", sign, num);
	}
}

void format_human_duration(int64_t ns, char *out, size_t cap)
{
	long long s = ns / NS_PER_S, m = s / 60, h = (s + 1800) / 3600;

	if (s < 1)
		snprintf(out, cap, "Less than a second");
	else if (s == 1)
		snprintf(out, cap, "1 second");
	else if (s < 60)
		snprintf(out, cap, "%lld seconds", s);
	else if (m == 1)
		snprintf(out, cap, "About a minute");
	else if (m < 60)
		snprintf(out, cap, "%lld minutes", m);
	else if (h == 1)
		snprintf(out, cap, "About an hour");
	else if (h < 48)
		snprintf(out, cap, "%lld hours", h);
	else if (h < 24 * 7 * 2)
		snprintf(out, cap, "%lld days", h / 24);
	else if (h < 24 * 30 * 2)
		snprintf(out, cap, "%lld weeks", h / 24 / 7);
	else if (h < 24 * 365 * 2)
		snprintf(out, cap, "%lld months", h / 24 / 30);
	else
		snprintf(out, cap, "%lld years", s / 3600 / 24 / 365);
}

static void format_units(double v, double base, int digits, const char *const *units, size_t n, char *out, size_t cap)
{
	size_t i = 0;

	while (v >= base && i + 1 < n) {
		v /= base;
		i++;
	}
	snprintf(out, cap, "%.*g%s", digits, v, units[i]);
}

void format_bytes(double bytes, char *out, size_t cap)
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };

	format_units(bytes, 1024, 4, units, ARRAY_SIZE(units), out, cap);
}

void format_size(double bytes, int digits, char *out, size_t cap)
{
	static const char *const units[] = { "B", "kB", "MB", "GB", "TB", "PB", "EB" };

	format_units(bytes, 1000, digits, units, ARRAY_SIZE(units), out, cap);
}

void format_time(int64_t ns, char *out, size_t cap)
{
	time_t s = (time_t)(ns / NS_PER_S);
	struct tm tm;
	char day[32], num[48];

	gmtime_r(&s, &tm);
	strftime(day, sizeof(day), "%Y-%m-%d %H:%M:", &tm);
	frac_digits(num, sizeof(num), 0, ns % NS_PER_S, 9);
	snprintf(out, cap, "%s%02d%s +0000 utc", day, tm.tm_sec, num + 1);
}

int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}
