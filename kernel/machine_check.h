/* SPDX-License-Identifier: MIT */
/*
 * Machine checks (#MC; Intel SDM volume 3, chapter on the machine-check architecture):
 * the CPU reports a hardware error. Like an NMI it is not masked, and it comes in behind
 * any instruction, the one in the shadow of `sti` too. Unlike an NMI it has a stack of its
 * own here (IST_MC), as a second one cannot come before the handler has cleared
 * MCG_STATUS.MCIP.
 *
 * QEMU can inject one, but only from outside. So with the word `mce` a debugger at the
 * emulator (run.py --mce) stops the machine where the kernel asks for it, and injects it
 * there. Bochs has no machine checks.
 */
#ifndef KERNEL_MACHINE_CHECK_H
#define KERNEL_MACHINE_CHECK_H

#include <stdbool.h>

#include "trap.h"

/* Allow them on this CPU. */
void mce_cpu_init(void);

/* With the word `mce`: wait for the debugger. Before other CPUs start. */
void mce_init(void);

/* Whether a machine check can be asked for. */
bool mce_available(void);

/*
 * The next thread that comes to @at has a machine check @steps instructions further on,
 * in front of the one that it stands at then; unless it comes there in the handler of
 * another. @at = 0: nobody has, any more. The last request counts.
 */
void mce_request(uintptr_t at, unsigned steps);

/*
 * Install what a machine check that can be recovered from does; returns the one before
 * (NULL: a panic).
 */
trap_handler_t mce_set(trap_handler_t handler);

#endif
