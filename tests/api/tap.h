/* SPDX-License-Identifier: MIT */
/*
 * Test results as lines of the Test Anything Protocol. Small enough to go into
 * every program of the build matrix, which links nothing but libshunt and
 * pthread; usable from C++. Only the main thread reports.
 */
#ifndef SHUNT_TESTS_TAP_H
#define SHUNT_TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#ifndef __has_feature /* clang's way to tell */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
#define SUITE_TSAN 1
#endif

/* A function whose calls and whose name the optimiser leaves as they are. */
#ifdef __clang__
#define KEEP __attribute__((noinline))
#else
#define KEEP __attribute__((noipa))
#endif

/* One count for a program of several files: weak, the linker keeps one of them. */
#ifdef __cplusplus
extern "C" {
#endif
__attribute__((weak)) int tap_count;
__attribute__((weak)) int tap_failed;
#ifdef __cplusplus
}
#endif

__attribute__((format(printf, 2, 3))) static inline bool ok(bool good, const char *format, ...)
{
	va_list args;

	tap_count++;
	tap_failed += !good;
	printf("%sok %d - ", good ? "" : "not ", tap_count);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	/* A test that dies later, or forks, must not lose or repeat lines. */
	fflush(stdout);
	return good;
}

__attribute__((format(printf, 1, 2))) static inline void diag(const char *format, ...)
{
	va_list args;

	printf("# ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
}

static inline void skip(const char *what, const char *why)
{
	tap_count++;
	printf("ok %d - %s # SKIP %s\n", tap_count, what, why);
	fflush(stdout);
}

/* The plan stands at the end, so that nobody has to count. Returns the exit status. */
static inline int tap_done(void)
{
	printf("1..%d\n", tap_count);
	fflush(stdout);
	return tap_failed != 0;
}

#endif
