/* SPDX-License-Identifier: MIT */
/* What lab.c, probe.c, cells.c and events.c share, and schemes do not need. */
#ifndef KERNEL_LAB_INTERNAL_H
#define KERNEL_LAB_INTERNAL_H

#include "lab.h"

#define LAB_TARGETS 4

/* sites.S: by form and place. */
extern struct lab_site lab_sites[LAB_FORMS][LAB_PLACES];
void lab_target_0(void);
void lab_target_1(void);
void lab_target_2(void);
void lab_target_3(void);
extern const uintptr_t lab_targets[LAB_TARGETS];

/* ----------------------------------------------------------------------- lab.c */

/* The scheme that is tried. */
extern const struct lab_scheme *lab_scheme;

/* Have each write of lab_poke() made byte by byte. */
extern bool lab_stepwise;

/* Called by lab_step(); by lab_trap() before and behind the scheme's own part. */
extern void (*lab_on_step)(unsigned sync);
extern void (*lab_on_trap)(struct trapframe *frame, const struct lab_site *site, bool behind);

extern _Atomic uint64_t lab_traps;

/* --------------------------------------------------------------------- probe.c */

/* How a call through a site went wrong; LAB_GOOD + n: it reached target n. */
enum lab_result {
	LAB_BAD_RETURN, /* the return address on the stack is another's */
	LAB_BAD_STACK,  /* the stack pointer at the target is wrong */
	LAB_BAD_INT3,   /* an int3 that nobody knows */
	LAB_WRONG_TARGET,
	LAB_BAD_FLAGS, /* IF is not what it was */
	LAB_REGISTERS, /* the right target, but more registers than rax have changed */
	LAB_FAULT,     /* + vector, up to 31 */
	LAB_GOOD = LAB_FAULT + 32,
};

/* What @result is, in words. */
const char *lab_result_name(unsigned result);

/* Go through @site once. Returns an enum lab_result. */
unsigned lab_go(const struct lab_site *site);

/* The probe that runs on this CPU ends with @result, a bad one. */
void lab_bad(unsigned result) __attribute__((noreturn));

/* Catch faults from now on. */
void lab_probe_init(void);

/* entry.S */
struct lab_catch {
	uint64_t words[9];
};
struct lab_regs {
	uint64_t rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, flags;
};
int lab_catch(struct lab_catch *catch) __attribute__((returns_twice));
void lab_throw(struct lab_catch *catch, unsigned result) __attribute__((noreturn));
void lab_probe(const uint8_t *code, uintptr_t ret, struct lab_regs *regs);
void lab_switch(uint64_t *save, uint64_t load);
void lab_entry_iretq(void);

#endif
