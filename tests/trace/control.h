/* SPDX-License-Identifier: MIT */
/*
 * Which protection is taken out: the environment variable SHUNT_CONTROL (controls.py). Read once,
 * before main(): what asks may run in a callback, where no vector register may be changed.
 */
#ifndef TESTS_TRACE_CONTROL_H
#define TESTS_TRACE_CONTROL_H

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define QUIET_HOOK __attribute__((no_instrument_function, patchable_function_entry(0)))

/* A variable that says whether it is @name. */
#define DEFINE_CONTROL(variable, name)                                              \
	static bool variable;                                                       \
	QUIET_HOOK __attribute__((constructor)) static void variable##_is_set(void) \
	{                                                                           \
		const char *control = getenv("SHUNT_CONTROL");                      \
                                                                                    \
		variable = control && !strcmp(control, name);                       \
	}                                                                           \
	static_assert(sizeof(name) > 1, "a name")

#endif
