/* SPDX-License-Identifier: MIT */
/* What a test asks of the CPU that it is built for. */
#ifndef SHUNT_TESTS_CPU_H
#define SHUNT_TESTS_CPU_H

#include <stdint.h>
#include <ucontext.h>

#if defined(__x86_64__)

#define CPU_HAS_TRAPS 1

static inline void relax_cpu(void)
{
	__builtin_ia32_pause();
}

#ifdef REG_RIP /* _GNU_SOURCE */
static inline uintptr_t context_ip(const void *context)
{
	return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
}
#endif

#elif defined(__aarch64__)

#define CPU_HAS_TRAPS 0 /* an instruction is replaced at once, no site traps */

static inline void relax_cpu(void)
{
	__asm__ volatile("yield");
}

static inline uintptr_t context_ip(const void *context)
{
	return (uintptr_t)((const ucontext_t *)context)->uc_mcontext.pc;
}

#endif

#endif
