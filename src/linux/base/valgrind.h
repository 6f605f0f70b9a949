/* SPDX-License-Identifier: MIT */
/*
 * Requests to valgrind, which runs translations of text: an instruction sequence that does
 * nothing to a CPU. The sequence and the numbers are those of its manual's "client request
 * mechanism".
 */
#ifndef SHUNT_LINUX_VALGRIND_H
#define SHUNT_LINUX_VALGRIND_H

#include <stdbool.h>

#define SHUNT_VALGRIND_RUNNING 0x1001 /* how deep in valgrinds: 0 is none */
#define SHUNT_VALGRIND_DISCARD 0x1002 /* address, bytes: translate this text anew */
#define SHUNT_VALGRIND_QUIET   0x1801 /* 1 more or -1: a reason not to tell this thread's errors */

/* Returns 0 outside of valgrind. */
static inline long shunt_ask_valgrind(long request, long arg1, long arg2)
{
	const long words[6] = {request, arg1, arg2};
	long ret = 0;

	__asm__ volatile("rolq $3, %%rdi\n\t"
			 "rolq $13, %%rdi\n\t"
			 "rolq $61, %%rdi\n\t"
			 "rolq $51, %%rdi\n\t"
			 "xchgq %%rbx, %%rbx"
			 : "+d"(ret)
			 : "a"(words)
			 : "cc", "memory");
	return ret;
}

/* Whether this process runs under valgrind. */
static inline bool shunt_is_translated(void)
{
	return shunt_ask_valgrind(SHUNT_VALGRIND_RUNNING, 0, 0);
}

#endif
