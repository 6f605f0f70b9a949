/* SPDX-License-Identifier: MIT */
#ifndef SHUNT_TESTS_BIND_H
#define SHUNT_TESTS_BIND_H

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#define PUBLIC __attribute__((visibility("default")))
#define KEPT   __attribute__((noinline, used))

/* A call that is no tail call. */
#define CALL(function)                               \
	__extension__({                              \
		int result = (function)();           \
		__asm__ volatile("" : "+r"(result)); \
		result;                              \
	})

#ifndef NUMBER
#define NUMBER 0
#endif
/* The functions of a library, of which several may be in one scope: key100_run. */
#define NAME(what) __SHUNT_PASTE(__SHUNT_PASTE(KEY, _), what)
#ifndef KEY
#define KEY key
#endif

#endif
