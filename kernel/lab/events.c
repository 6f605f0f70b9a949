/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's events: an interrupt, an NMI, a #DB or a #MC at a chosen instruction of
 * a thread that has trapped at a site.
 *
 * An execution breakpoint hits an instruction for sure, also where interrupts are off;
 * its handler sends the interrupt, which the CPU takes there or later by its own rules. A
 * machine check is the debugger's to inject, at the very instruction.
 */
#include "../machine_check.h"
#include "hazards.h"

#define RFLAGS_RF (1ul << 16)

static struct {
	bool calling; /* a call is on its way */
	bool acted;   /* and the handler has done its part */
	bool irqs;    /* at the site */
	bool mce;     /* a machine check has been asked for, and has not come */
	uint64_t number;
	struct lab_points points;
} now;

static void set_breakpoint(unsigned n, uintptr_t at)
{
	switch (n) {
	case 0:
		__asm__ volatile("movq %0, %%db0" : : "r"(at));
		break;
	case 1:
		__asm__ volatile("movq %0, %%db1" : : "r"(at));
		break;
	default:
		__asm__ volatile("movq %0, %%db2" : : "r"(at));
	}
}

/* @mask: bit n for breakpoint n. */
static void enable_breakpoints(unsigned mask)
{
	uint64_t dr7 = 0x400;

	for (unsigned n = 0; n < 4; n++)
		if (mask & 1u << n)
			dr7 |= 2ul << 2 * n;
	__asm__ volatile("movq %0, %%db7" : : "r"(dr7));
}

static unsigned enabled_breakpoints(void)
{
	uint64_t dr7;
	unsigned mask = 0;

	__asm__ volatile("movq %%db7, %0" : "=r"(dr7));
	for (unsigned n = 0; n < 4; n++)
		if (dr7 & 3ul << 2 * n)
			mask |= 1u << n;
	return mask;
}

/* Which breakpoint it was, and forget it. */
static unsigned take_breakpoint(void)
{
	uint64_t dr6;
	unsigned hit;

	__asm__ volatile("movq %%db6, %0" : "=r"(dr6));
	hit = (unsigned)dr6 & enabled_breakpoints();
	__asm__ volatile("movq %0, %%db6" : : "r"(0xffff0ff0ul));
	enable_breakpoints(enabled_breakpoints() & ~hit);
	return hit;
}

/* ------------------------------------------------------------------ what happens */

static void act(void)
{
	struct lab_cell *cell = &lab_cell;
	unsigned result;

	if (now.acted)
		return;
	now.acted = true;
	if (cell->hazard->action == ACT_PREEMPT) {
		apic_eoi();
		lab_preempt();
	} else if (cell->hazard->action == ACT_CALL) {
		result = lab_go(cell->other);
		if (lab_is_bad(result, 2, 3) && !cell->bad_other++)
			cell->how_other = result;
	}
}

static void look_where(uintptr_t rip)
{
	lab_cell.in_shadow += rip == now.points.shadow;
	lab_cell.at_target += rip == lab_cell.site->target;
	for (unsigned i = 0; i < ARRAY_SIZE(now.points.insn); i++)
		lab_cell.in_stub += rip == now.points.insn[i];
}

static void on_irq(struct trapframe *frame)
{
	const struct lab_hazard *hazard = lab_cell.hazard;

	if (!now.calling)
		return;
	if (!now.irqs)
		lab_cell.early++;
	if (hazard->event == EVENT_IRQ) {
		lab_cell.hits += !now.acted;
		look_where(frame->rip);
	}
	act();
}

static void send(enum lab_event event)
{
	if (event == EVENT_NMI)
		apic_nmi(this_cpu()->id);
	else
		apic_ipi(this_cpu()->id, VEC_TEST);
}

/* An NMI, or what stands in for one. */
static void nonmaskable(struct trapframe *frame)
{
	look_where(frame->rip);
	if (lab_scheme->nmi)
		lab_scheme->nmi(frame);
	if (lab_cell.hazard->no_irq_behind)
		act();
	else
		apic_ipi(this_cpu()->id, VEC_TEST);
}

static void on_nmi(struct trapframe *frame)
{
	if (!now.calling || now.acted) {
		if (lab_scheme->nmi)
			lab_scheme->nmi(frame);
		return;
	}
	lab_cell.hits += !now.points.shadow || frame->rip == now.points.shadow ||
			 lab_cell.hazard->no_irq_behind;
	nonmaskable(frame);
}

/* Where it was asked for, and so always a hit. */
static void on_mc(struct trapframe *frame)
{
	now.mce = false;
	lab_cell.hits++;
	nonmaskable(frame);
}

static void on_db(struct trapframe *frame)
{
	take_breakpoint();
	frame->rflags |= RFLAGS_RF;
	if (!now.calling)
		return;
	if (lab_cell.hazard->event == EVENT_DB) {
		lab_cell.hits++;
		nonmaskable(frame);
		return;
	}
	if (lab_cell.hazard->event == EVENT_NMI)
		look_where(frame->rip);
	send(lab_cell.hazard->event);
}

/* --------------------------------------------------------------------- where it is */

/* One instruction of those that the thread can be caught at, another with each call. */
static uintptr_t choose(const struct lab_points *p, uintptr_t target)
{
	uintptr_t of[5];
	unsigned n = 0;

	for (unsigned i = 0; i < ARRAY_SIZE(p->insn); i++)
		if (p->insn[i])
			of[n++] = p->insn[i];
	/* Not for interrupts: the breakpoint would end the shadow. */
	if (p->shadow && lab_cell.hazard->event != EVENT_IRQ)
		of[n++] = p->shadow;
	if (!n)
		of[n++] = target;
	return of[now.number % n];
}

static void set_up(const struct lab_site *site)
{
	const struct lab_hazard *h = lab_cell.hazard;
	const struct lab_points *p = &now.points;
	uintptr_t at;

	if (h->where == AT_STUB || (h->where == AT_STI && !p->shadow))
		at = choose(p, site->target);
	else if (h->where == AT_SHADOW)
		at = p->shadow ? p->shadow : choose(p, site->target);
	else
		return;
	if (h->event == EVENT_MC) {
		now.mce = true;
		mce_request(at, 0);
		return;
	}
	set_breakpoint(0, at);
	enable_breakpoints(1);
}

/* In the handler of #BP, before and behind the scheme's own part. */
static void on_trap(struct trapframe *frame, const struct lab_site *site, bool behind)
{
	const struct lab_hazard *h = lab_cell.hazard;

	if (site != lab_cell.site || !now.calling || now.acted)
		return;
	if (!behind) {
		now.irqs = frame->rflags & RFLAGS_IF;
		if (h->where == AT_TRAP)
			send(h->event);
		return;
	}
	now.points = (struct lab_points){0};
	if (lab_scheme->points)
		lab_scheme->points(site, now.irqs, &now.points);
	set_up(site);
}

void lab_call_begins(uint64_t number)
{
	now.number = number;
	now.irqs = irqs_on();
	now.acted = false;
	now.calling = true;
	if (lab_cell.hazard->irqs_off)
		send(EVENT_IRQ);
}

void lab_call_ends(void)
{
	now.calling = false;
	enable_breakpoints(0);
	if (now.mce)
		mce_request(0, 0);
	now.mce = false;
}

void lab_events_init(void)
{
	trap_set(VEC_TEST, on_irq);
	trap_set(VEC_NMI, on_nmi);
	trap_set(VEC_DB, on_db);
	mce_set(on_mc);
	lab_on_trap = on_trap;
}
