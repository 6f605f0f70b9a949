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
	AT_STI,    /* by the stub itself, in front of its sti */
};

/* What happens there. */
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
	bool registers;       /* changed registers count */
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
	unsigned how, how_other;                /* the first bad results */
	uint64_t in_stub, in_shadow, at_target; /* where the event found the thread */
	uint64_t early;                         /* interrupts while they were off */
};
extern struct lab_cell lab_cell;

/* Count a result that is not one of the targets @a and @b (numbers). */
void lab_count(unsigned result, unsigned a, unsigned b);
/* Whether @result is neither. */
bool lab_is_bad(unsigned result, unsigned a, unsigned b);

/* events.c: the event of a call through lab_cell.site that begins now; and none more. */
void lab_events_init(void);
void lab_call_begins(uint64_t number);
void lab_call_ends(void);
/* The action ACT_PREEMPT: called by the interrupt. */
void lab_preempt(void);

/* crossing.c: the cells with another CPU. */
void lab_run_smp(uint64_t n);

/* storm.c: those where everything comes at once. */
void lab_run_storm(uint64_t n);

#endif
