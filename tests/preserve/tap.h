/* SPDX-License-Identifier: MIT */
/*
 * The Test Anything Protocol, as far as these tests need it. A check may be made
 * in the middle of an update, with the update lock held: it notes a failure and
 * goes on, it never jumps.
 */
#ifndef TESTS_PRESERVE_TAP_H
#define TESTS_PRESERVE_TAP_H

#include <stdbool.h>

/* Note what goes wrong in the case at hand. Returns @ok. Any thread, one at a time. */
bool tap_check(bool ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The case at hand is over: print its line. */
void tap_case(const char *format, ...) __attribute__((format(printf, 1, 2)));
void tap_skip(const char *name, const char *why);

/* Print the plan. Returns what main() is to return. */
int tap_done(void);

#endif
