/* SPDX-License-Identifier: MIT */
/* Whether the test runs on an emulated machine, where counts are lower. */
#ifndef SHUNT_TESTS_EMULATED_H
#define SHUNT_TESTS_EMULATED_H

#include <stdbool.h>
#include <stdlib.h>

/* machine/run.py sets the variable. No CPU tells: the emulator is there for x86-64 as well. */
static inline bool is_emulated(void)
{
	return getenv("EMULATED_MACHINE") != NULL;
}

#endif
