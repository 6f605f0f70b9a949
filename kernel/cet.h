/* SPDX-License-Identifier: MIT */
/*
 * Supervisor shadow stacks (CET; Intel SDM volume 1, chapter 17): a second stack of
 * return addresses, which only calls, interrupts and wrss write, and against which each
 * ret and iret is checked. With the word `cet`; of the two emulators Bochs has it.
 */
#ifndef KERNEL_CET_H
#define KERNEL_CET_H

#include "cpus.h"
#include "kernel.h"

/* Whether the command line asks for it. Ends the run with a skip where the CPU has none. */
bool cet_wanted(void);

/* Make ready the shadow stacks of @cpu, which runs this. */
void cet_prepare(struct cpu *cpu);

/*
 * For tests: the token on the shadow stack of this CPU that goes with stack @ist; the
 * address at which the handler that runs there resumes; make the token, or the table's
 * entry, one that the CPU does not take.
 */
enum cet_token { CET_FREE, CET_BUSY, CET_NO_TOKEN };
enum cet_token cet_ist_token(unsigned ist);
void cet_ist_resume(unsigned ist, uint64_t rip);
void cet_ist_break(unsigned ist, bool table);

/*
 * Turn it on. The new shadow stack is empty: whoever has inlined this must never return.
 */
static inline __attribute__((always_inline)) void cet_enable(void)
{
	write_cr4(read_cr4() | CR4_CET);
	wrmsr(MSR_S_CET, S_CET_SHSTK_EN | S_CET_WR_SHSTK_EN);
	__asm__ volatile("setssbsy" : : : "memory");
}

#endif
