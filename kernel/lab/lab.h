/* SPDX-License-Identifier: MIT */
/*
 * The laboratory: every scheme of the mailing-list debate by which a thread gets past
 * the int3 of a call that is being changed, behind one interface, put through the same
 * hazards (cells.c, events.c).
 *
 *	lab scheme=ID,...|all hazard=ID,...|all n=COUNT [control=no-event]
 *
 * One line for each cell: "# lab SCHEME HAZARD VERDICT: details", the verdict one of
 *
 *	survives	the hazard was there, and each call was right
 *	fails		a call was wrong: what of it, how often, the first
 *	no-window	no instruction of the scheme lies where the event is aimed at
 *	n/a		the scheme never traps
 *	held		the emulator holds the event back until it is behind the place
 *	missed		the event came in before or behind the place, by chance
 *	cannot		nothing here raises the event
 *	unseen		the event was never there: the cell shows nothing
 */
#ifndef KERNEL_LAB_H
#define KERNEL_LAB_H

#include "lab.inc"

#ifndef __ASSEMBLER__

#include "../kernel.h"
#include "../port.h"
#include "../smp.h"
#include "../trap.h"

/* What a scheme wants to stand at a site. */
enum lab_form {
	LAB_CALL,       /* insn: e8 rel32 */
	LAB_PREFIX,     /* insn: 2e e8 rel32 */
	LAB_TRAMPOLINE, /* the site calls insn, which is e9 rel32 */
	LAB_INDIRECT,   /* the site calls insn, which is jmp *word; trampoline: the word */
	LAB_SWITCH, /* the site calls insn: on, a jmp to target 1; off, it goes on to target 0 */
	LAB_SWITCH_CALL, /* insn: on, a call of target 1; off, what is behind calls target 0 */
	LAB_FORMS
};

/* Where: all of the instruction in one cache line; across two; across two pages. */
enum lab_place { LAB_PLAIN, LAB_LINE, LAB_PAGE, LAB_OTHER /* plain, a second site */, LAB_PLACES };

struct lab_site {
	uint8_t *insn;       /* the instruction that is changed */
	uintptr_t ret;       /* where the call of the site returns to */
	uint8_t *code;       /* what is called to go through the site */
	uint8_t *trampoline; /* e9 rel32, in one line, for those who want one; or the word */
	_Atomic uintptr_t
		target;     /* what it calls; in a poke, from the first int3 on: the new one */
	_Atomic bool armed; /* an int3 stands at insn, or may still be seen there */
};

/* One site of an update. */
struct lab_change {
	struct lab_site *site;
	uintptr_t target;
};

/*
 * Where a thread can be caught on its way from the trap to the target, in the stub that
 * a trap at @site leads to now; 0 for none. @insn: instructions that an interrupt may
 * hit by the scheme's own rules or that it holds interrupts off for. @shadow: the one in
 * the shadow of `sti`.
 */
struct lab_points {
	uintptr_t insn[3];
	uintptr_t shadow;
};

struct lab_scheme {
	const char *id;
	enum lab_form form;

	/* Change the sites; lab_poke() for those who poke in three phases. */
	void (*update)(const struct lab_change *changes, unsigned n);

	/*
	 * A #BP. @site: whose int3 it was; NULL: none's, perhaps the scheme's own. @ssp: for
	 * lab_shadow_push() and _rip(); 0 without shadow stacks. Change @frame and return
	 * true; false: an unknown int3. Interrupts are off.
	 */
	bool (*trap)(struct trapframe *frame, const struct lab_site *site, uint64_t ssp);

	/*
	 * The gate of #BP: lab_entry_plain, lab_entry_gap (a word's room below the
	 * interrupted stack, and one on the shadow stack), or the scheme's own, which calls
	 * lab_trap(). NULL: the scheme never traps.
	 */
	void (*entry)(void);

	/* What NMIs, machine checks and #DB do first. NULL: nothing. */
	void (*nmi)(struct trapframe *frame);

	/* Where threads can be caught; NULL: nowhere, the trap resumes at the target. */
	void (*points)(const struct lab_site *site, bool irqs, struct lab_points *points);

	/* Once before the first cell; NULL: nothing to do. */
	void (*prepare)(void);

	/* In a storm: an NMI that comes in in an NMI's handler does nothing. */
	bool flat;

	/* A control that leaves stacks behind which no handler comes back from: not in a storm. */
	bool no_storm;

	/* Registers that a trap changes by the scheme's own rules: LAB_R10 and so on. */
	uint32_t clobbers;

	/* Flags that a call changes by the scheme's own rules. */
	uint64_t flags;
};

/* Bits of clobbers (struct lab_record has the order). */
#define LAB_R10 (1u << 9)
#define LAB_R11 (1u << 10)

/* A file adds its scheme by LAB_SCHEME(percpu); the symbol is lab_scheme_percpu. */
#define LAB_SCHEME(name)                              \
	const struct lab_scheme *const lab_ref_##name \
		__attribute__((used, section(".lab_schemes"), aligned(8))) = &lab_scheme_##name

/* ------------------------------------------------------------- what schemes use */

void lab_entry_plain(void);
void lab_entry_gap(void);

/* Whether this CPU is in an NMI's handler. */
bool lab_in_nmi(void);

/*
 * What an entry calls in C, with the frame as entry.inc makes it. @ssp: 0, or the address
 * of a word on the shadow stack above which the CPU's shadow frame lies: the interrupted
 * SSP at ssp[1], rip at ssp[2], cs at ssp[3].
 */
void lab_trap(struct trapframe *frame, uint64_t ssp);

/*
 * A software's idea of whether interrupts are on, as lockdep has one: kept by what announces a
 * change, which the entry and the exit of a trap do, and a stub does not. At each entry and at
 * the target it must be what the CPU has. Of this CPU; lab_trap() does both.
 */
void lab_soft_set(bool irqs);
void lab_soft_trap_begins(const struct trapframe *frame);
void lab_soft_trap_ends(const struct trapframe *frame);

/*
 * The poke in three phases: targets published and int3s; sync; tails; sync; first bytes;
 * sync. Writes `opcode rel32` of the site's form, the int3 on the first byte (LAB_PREFIX:
 * on the prefix). Calls lab_step() behind each sync.
 */
void lab_poke(const struct lab_change *changes, unsigned n);

/*
 * Write @len bytes of text byte by byte, letting other CPUs run in between: what a store
 * that is not atomic to instruction fetch may look like.
 */
void lab_write(uint8_t *at, const uint8_t *bytes, size_t len);

/* Make `opcode rel32` at @at (5 bytes into @out). */
void lab_encode(uint8_t *out, uint8_t opcode, const uint8_t *at, uintptr_t target);

/*
 * Every update() calls this behind each of its syncs, and, with 0, between two parts of a
 * write that others may see half; 1: int3s are in place (a scheme
 * without any: never). Hazards act in it, and may take their time.
 */
void lab_step(unsigned sync);

/* Push @value on the interrupted shadow stack, with lab_entry_gap, and do lab_shadow_rip(). */
void lab_shadow_push(uint64_t ssp, uint64_t value, uint64_t rip);

/* Let iretq, which compares, find @rip in the shadow frame; pushes nothing. */
void lab_shadow_rip(uint64_t ssp, uint64_t rip);

/* Resume at @rip: in @frame, and where there is a shadow stack, there too. True. */
bool lab_resume(struct trapframe *frame, uintptr_t rip, uint64_t ssp);

/* The stub with lab_self_nmi in it is wanted (schemes with `sti`). */
extern bool lab_nmi_stub;

/* A page of text for generated stubs; write with port_write_text(). */
extern uint8_t lab_stubs[4096];

#endif
#endif
