/* SPDX-License-Identifier: MIT */
/*
 * The Test Anything Protocol (tap.h).
 */
#include <stdarg.h>
#include <stdio.h>

#include "tap.h"

/* A case that fails in each of 100,000 runs shall not say so 100,000 times. */
#define MAX_MESSAGES 8

static unsigned cases, bad_cases, bad_checks;

bool tap_check(bool ok, const char *format, ...)
{
	va_list args;

	if (ok)
		return true;
	if (bad_checks++ < MAX_MESSAGES) {
		va_start(args, format);
		printf("# ");
		vprintf(format, args);
		printf("\n");
		va_end(args);
	}
	return false;
}

void tap_case(const char *format, ...)
{
	va_list args;

	printf("%s %u - ", bad_checks ? "not ok" : "ok", ++cases);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	if (bad_checks)
		printf(" (%u failed checks)", bad_checks);
	printf("\n");
	(void)fflush(stdout);
	bad_cases += bad_checks != 0;
	bad_checks = 0;
}

void tap_skip(const char *name, const char *why)
{
	printf("ok %u - %s # SKIP %s\n", ++cases, name, why);
}

int tap_done(void)
{
	printf("1..%u\n", cases);
	return bad_cases ? 1 : 0;
}
