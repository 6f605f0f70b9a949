/* SPDX-License-Identifier: MIT */
/* The boot self-test (selftest.c). */
#ifndef KERNEL_SELFTEST_H
#define KERNEL_SELFTEST_H

/* Where the words of struct selftest_state are. */
#define STATE_FLAGS  0  /* at the site */
#define STATE_SITE   8  /* what is called */
#define STATE_STACK  16 /* the stack pointer at a tail call */
#define STATE_TARGET 24 /* which target was reached: 1, 2, or 0 for none */
#define STATE_RET    32 /* there: the word on top of the stack */
#define STATE_SP     40 /* there: the stack pointer */
#define STATE_SEEN   48 /* there: the flags */
#define STATE_BEHIND 56 /* the flags behind the site's return */
#define STATE_REGS   64 /* 14 registers behind it */

#ifndef __ASSEMBLER__
#include <stdbool.h>

/*
 * Run the trap path of every kind of site, on every CPU. Reports by ok(). @quiet: failures
 * alone, and one line that is no check.
 */
void selftest(bool quiet);
#endif

#endif
