/* SPDX-License-Identifier: MIT */
/* The lines of the self-test. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "selftest_parts.h"

void report_line(struct report *r, const char *verdict, const char *what, const char *format, ...)
{
	char details[400], line[REPORT_LINE];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(details, sizeof(details), format, args);
	va_end(args);
	(void)snprintf(line, sizeof(line), "%-8s %-24s %s", verdict, what, details);
	if (!strcmp(verdict, "MISSING"))
		r->missing++;
	r->say(line, r->arg);
}
