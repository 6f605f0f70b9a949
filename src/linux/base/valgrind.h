/* SPDX-License-Identifier: MIT */
/*
 * Requests to valgrind, which runs translations of text: an instruction sequence that does
 * nothing to a CPU (shunt_ask_valgrind(), arch/process.h). The sequence and the numbers are those
 * of its manual's "client request mechanism".
 */
#ifndef SHUNT_LINUX_VALGRIND_H
#define SHUNT_LINUX_VALGRIND_H

#include <stdbool.h>

#include "arch/process.h"

#define SHUNT_VALGRIND_RUNNING 0x1001 /* how deep in valgrinds: 0 is none */
#define SHUNT_VALGRIND_DISCARD 0x1002 /* address, bytes: translate this text anew */
#define SHUNT_VALGRIND_QUIET   0x1801 /* 1 more or -1: a reason not to tell this thread's errors */

/* Whether this process runs under valgrind. */
static inline bool shunt_is_translated(void)
{
	return shunt_ask_valgrind(SHUNT_VALGRIND_RUNNING, 0, 0);
}

#endif
