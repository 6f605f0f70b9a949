/* SPDX-License-Identifier: MIT */
/* What the files of the laboratory share, and schemes do not need. */
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

/* Whether sites of @form are only switched, between target 1 and target 0. */
static inline bool lab_is_switch(enum lab_form form)
{
	return form == LAB_SWITCH || form == LAB_SWITCH_CALL;
}

/* ----------------------------------------------------------------------- lab.c */

/* The scheme that is tried. */
extern const struct lab_scheme *lab_scheme;

/* Have each write of lab_poke() made byte by byte. */
extern bool lab_stepwise;

/* Called by lab_step(). */
extern void (*lab_on_step)(unsigned sync);

/* ---------------------------------------------------------------------- trap.c */

/* Called by lab_trap() before and behind the scheme's own part. */
extern void (*lab_on_trap)(struct trapframe *frame, const struct lab_site *site, bool behind);

/* Traps at sites; and all that lab_trap() has seen. */
extern _Atomic uint64_t lab_traps, lab_all_traps;

/* ------------------------------------------------------------------- context.c */

/* NMIs that are being handled, by CPU: their handler keeps count. */
extern uint32_t lab_nmis[MAX_CPUS];

/* --------------------------------------------------------------------- probe.c */

/* What was wrong with a call through a site; each by itself. */
enum lab_wrong {
	LAB_FAULT = 1 << 0, /* it ended in an exception */
	LAB_UNKNOWN_INT3 = 1 << 1,
	LAB_WRONG_TARGET = 1 << 2,
	LAB_WRONG_RETURN = 1 << 3, /* the return address on the stack is another's */
	LAB_WRONG_STACK = 1 << 4,  /* the stack pointer at the target */
	LAB_WRONG_IF = 1 << 5,     /* interrupts are on where they were off, or off */
	LAB_WRONG_FLAGS = 1 << 6,  /* another flag than at the call */
	LAB_REGISTERS = 1 << 7,    /* other registers than at the call */
	LAB_WRONG_SOFT = 1 << 8,   /* what the software believes of IF (lab.h) */
};

/* What a call came to. */
struct lab_result {
	uint32_t wrong;     /* enum lab_wrong, but LAB_WRONG_TARGET: the caller knows which it is */
	uint32_t vector;    /* LAB_FAULT: of which */
	int32_t target;     /* the number of the one that it reached, or -1 */
	uint32_t registers; /* LAB_REGISTERS: bit n for register n of LAB_REGISTER_NAMES */
	uint64_t flags;     /* LAB_WRONG_FLAGS: the bits that have changed */
};

/* @result in words. The text is good until the next call. */
const char *lab_result_name(const struct lab_result *result);

/* Go through @site once, with flags that change from call to call. */
struct lab_result lab_go(const struct lab_site *site);

/* The probe that runs on this CPU ends with @wrong (LAB_FAULT: of @vector). */
void lab_bad(uint32_t wrong, uint32_t vector) __attribute__((noreturn));

/* Whether the innermost probe of this CPU has been at a target. */
bool lab_probe_reached(void);

/* Catch faults from now on. */
void lab_probe_init(void);

/* What the target writes down (RECORD_*, lab.inc). */
struct lab_record {
	uint64_t want_sp, want_ret; /* what it must find */
	uint64_t flags;             /* at the call */
	uint64_t target;
	uint64_t sp, ret, seen; /* what it has found; seen: the flags */
	uint64_t soft;
	uint64_t regs[14];
};

/* probe.S */
struct lab_catch {
	uint64_t words[9];
};
int lab_catch(struct lab_catch *catch) __attribute__((returns_twice));
void lab_throw(struct lab_catch *catch, unsigned result) __attribute__((noreturn));
void lab_probe(const uint8_t *code, struct lab_record *record);
void lab_switch(uint64_t *save, uint64_t load);
void lab_entry_iretq(void);

#endif
