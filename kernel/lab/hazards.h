/* SPDX-License-Identifier: MIT */
/* A cell of the table: one scheme in one hazard (cells.c), and what a hazard is. */
#ifndef KERNEL_LAB_HAZARDS_H
#define KERNEL_LAB_HAZARDS_H

#include "internal.h"

/* Where the event is made to happen. */
enum lab_where {
	AT_NOWHERE,
	AT_TRAP,   /* in the #BP handler: what interrupts off hold back waits till they are on */
	AT_STUB,   /* at instructions of the stub, by execution breakpoints */
	AT_SHADOW, /* at the one in the shadow of sti, by an execution breakpoint */
	AT_STI,  /* in the shadow, by the stub itself in front of its sti, or by CPU 1 (timed_nmi.c)
		  */
	AT_PATH, /* at each instruction from the entry of #BP to the target, in turn */
};

/* What happens there. NMI_IRQ: an NMI, and an interrupt right behind it. */
enum lab_event { EVENT_NONE, EVENT_IRQ, EVENT_NMI, EVENT_DB, EVENT_MC };

/* What the handler (for an NMI, a #DB or a #MC: the interrupt right behind it) does. */
enum lab_action {
	ACT_NOTHING,
	ACT_CALL,    /* go through a second site that has an int3 */
	ACT_PREEMPT, /* switch to another thread, which ends the poke and makes a second */
};

struct lab_hazard {
	const char *id;
	enum lab_where where;
	enum lab_event event;
	enum lab_action action;
	bool irqs_off;        /* at the site */
	bool registers;       /* none may change, not even those that the scheme clobbers */
	bool lockdep;         /* the software's idea of IF counts */
	bool cost;            /* not a hazard: the instructions are counted */
	bool no_irq_behind;   /* the NMI's handler acts itself */
	bool again;           /* the second poke is one of the same site */
	bool cet;             /* runs with shadow stacks, and only then */
	bool smp;             /* another CPU updates the site */
	bool storm;           /* in no order, from all contexts; smp too */
	enum lab_place place; /* of the site; of no matter to most */
};

struct lab_cell {
	const struct lab_hazard *hazard;
	struct lab_site *site, *other;
	uint64_t calls, hits, bad, bad_other, first_bad;
	struct lab_result how, how_other; /* the first bad results */
	/* Where the event found the thread. */
	uint64_t in_stub, in_shadow, at_target;
	uint64_t elsewhere; /* aimed elsewhere: the scheme has no such place */
	uint64_t early;     /* interrupts while they were off */
	uint64_t held;      /* sent into the shadow, and came in behind it */
	/* NMIs of timed_nmi.c that came in elsewhere. */
	uint64_t before_shadow, behind_shadow;
	uint64_t torn;   /* calls between two parts of a write (smp) */
	uint64_t behind; /* those of them that no handler executes */
	uint64_t way;    /* instructions from the entry of #BP to the target (AT_PATH) */
};
extern struct lab_cell lab_cell;

/* What is wrong with a result that must be one of the targets @a and @b (numbers); 0: nothing. */
uint32_t lab_wrong(const struct lab_result *result, unsigned a, unsigned b);
/* Count a call, and keep the first that was wrong. */
void lab_count(const struct lab_result *result, unsigned a, unsigned b);
/* The same for the call of a handler, or of the second poke's thread. */
void lab_count_other(const struct lab_result *result);

/* events.c: the event of a call through lab_cell.site that begins now; and none more. */
void lab_events_init(void);
void lab_call_begins(uint64_t number);
void lab_call_ends(void);
/* AT_PATH: from the first instruction on again; whether there was a call for each of them. */
void lab_path_restart(void);
bool lab_path_is_covered(void);
/* threads.c: @body, which does not return, is the second thread; the first goes on with it; */
void lab_thread_init(void (*body)(void));
void lab_thread_run(void);
/* and the second, or an interrupt in it (ACT_PREEMPT), with the first. */
void lab_preempt(void);

/* With the word "control=no-event": nothing is sent, so no cell of an event may have a hit. */
extern bool lab_no_events;

/*
 * timed_nmi.c: CPU 1 sends CPU 0 an NMI so that it arrives in the shadow of a sti, in Bochs with
 * all CPUs in lockstep (word "timed-nmi").
 */
void lab_timed_nmi_init(void);
bool lab_timed_nmi_there(void);
/* The NMI of this call is to come in at @shadow. */
void lab_timed_nmi_aim(uintptr_t shadow);
/* In the NMI's handler, which has interrupted @rip: where the NMI was. */
enum lab_landing { LANDED_BEFORE, LANDED_IN_SHADOW, LANDED_HELD /* there */, LANDED_BEHIND };
enum lab_landing lab_timed_nmi_landed(uintptr_t rip, uintptr_t target);
/* Wait for an NMI that has not come yet. */
void lab_timed_nmi_wait(void);

/* crossing.c: the cells with another CPU. */
void lab_run_smp(uint64_t n);

/* storm.c: those where everything comes at once. */
void lab_run_storm(uint64_t n);

#endif
