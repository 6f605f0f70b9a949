/* SPDX-License-Identifier: MIT */
#include "quantity.h"

#include <stdlib.h>
#include <string.h>

#define QUANTITY_MAX 9e18 /* what the cast below takes */

struct unit {
	const char *name; /* NULL: behind the last */
	double factor;
};

static bool read_quantity(const char *text, const struct unit *units, unsigned long long *value)
{
	char *end;
	double number = strtod(text, &end);

	if (end == text || !(number >= 0) || number > 1e15)
		return false;
	for (; units->name; units++)
		if (!strcmp(end, units->name)) {
			number *= units->factor;
			*value = number < QUANTITY_MAX ? (unsigned long long)number : 0;
			return number < QUANTITY_MAX;
		}
	return false;
}

bool tool_read_time(const char *text, unsigned long long *ns)
{
	static const struct unit units[] = {
		{"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {NULL, 0}};

	return read_quantity(text, units, ns);
}

bool tool_read_seconds(const char *text, unsigned long long *ns)
{
	static const struct unit seconds[] = {{"", 1e9}, {NULL, 0}};

	return tool_read_time(text, ns) || read_quantity(text, seconds, ns);
}

bool tool_read_size(const char *text, unsigned long long *bytes)
{
	static const struct unit units[] = {
		{"", 1},          {"K", 1024},       {"KiB", 1024},       {"M", 1048576},
		{"MiB", 1048576}, {"G", 1073741824}, {"GiB", 1073741824}, {NULL, 0}};

	return read_quantity(text, units, bytes);
}
