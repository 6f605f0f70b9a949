/* SPDX-License-Identifier: MIT */
/*
 * Routines of unwind_sites.S: sites that C has no words for, and single steps.
 */
#ifndef TESTS_PRESERVE_UNWIND_SITES_H
#define TESTS_PRESERVE_UNWIND_SITES_H

/* Leaves with one site of the key "unwind". */
long unwind_jmp(long arg);
long unwind_jcc(long arg);     /* taken where arg is not 0 */
long unwind_jcc_not(long arg); /* taken where arg is 0; else returns -1 */

/* A function with a frame pointer and a call site. */
long unwind_framed(long arg);

/* Return fn(arg), with a SIGTRAP behind each instruction from here to its return. */
long unwind_step(long (*fn)(long), long arg);

#endif
