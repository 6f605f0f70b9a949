/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's events: an interrupt, an NMI, a #DB or a #MC at a chosen instruction of
 * a thread that has trapped at a site.
 *
 * An execution breakpoint hits an instruction for sure, also where interrupts are off;
 * its handler sends the interrupt, which the CPU takes there or later by its own rules. A
 * machine check is the debugger's to inject, at the very instruction (machine_check.h).
 *
 * AT_PATH goes through the whole way from the first instruction of the #BP entry to that of
 * the target: a breakpoint there, then single steps, a number that grows from call to call.
 */
#include "../machine_check.h"
#include "hazards.h"

bool lab_no_events;

static struct {
	bool calling; /* a call is on its way */
	bool acted;   /* and the handler has done its part */
	bool irqs;    /* at the site */
	bool pending; /* an interrupt that waits for the end of the call */
	bool mce;     /* a machine check has been asked for, and has not come */
	uintptr_t mce_at;
	uint64_t number;
	struct lab_points points;
} now;

/* AT_PATH: how far the thread is stepped from the entry of #BP on. */
static struct {
	uint64_t goal, steps;
	uint64_t first; /* the goal that this round began with */
	unsigned rounds;
	uintptr_t at; /* the goal is this instruction */
	uint64_t behind;
	bool stepping, in_handler;
} path;

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
	struct lab_result result;

	if (now.acted)
		return;
	now.acted = true;
	if (lab_cell.hazard->action == ACT_PREEMPT) {
		apic_eoi();
		lab_preempt();
	} else if (lab_cell.hazard->action == ACT_CALL) {
		result = lab_go(lab_cell.other);
		lab_count_other(&result);
	}
}

static void look_where(uintptr_t rip)
{
	lab_cell.in_shadow += rip == now.points.shadow;
	lab_cell.at_target += rip == lab_cell.site->target;
	for (unsigned i = 0; i < ARRAY_SIZE(now.points.insn); i++)
		lab_cell.in_stub += rip == now.points.insn[i];
}

/* Whether the scheme has a place of the kind that the hazard is aimed at. */
static bool has_window(void)
{
	const struct lab_points *p = &now.points;

	switch (lab_cell.hazard->where) {
	case AT_STUB:
		return p->insn[0] || p->shadow;
	case AT_SHADOW:
	case AT_STI:
		return p->shadow;
	default:
		return true;
	}
}

/* An event that is a hit if it is where it was meant to be. */
static void hit(bool there)
{
	if (!has_window())
		lab_cell.elsewhere++;
	else if (there)
		lab_cell.hits++;
}

static void on_irq(struct trapframe *frame)
{
	const struct lab_hazard *hazard = lab_cell.hazard;

	if (!now.calling) {
		lab_cell.hits += now.pending;
		now.pending = false;
		return;
	}
	if (!now.irqs)
		lab_cell.early++;
	if (hazard->event == EVENT_IRQ) {
		if (!now.acted)
			hit(true);
		look_where(frame->rip);
	}
	act();
}

static void send(enum lab_event event)
{
	if (lab_no_events || event == EVENT_NONE)
		return;
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

/* ------------------------------------------------------------- from int3 to target */

/*
 * Two calls in four are for the instructions of the stub, or the target's first; the others
 * for the way, in strides of a prime, so that a few calls look at all of it, and many at each
 * instruction: a round begins one instruction further on than the last.
 */
#define PATH_STRIDE 11

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

/* The debugger stops the machine where mce_request() is called: that comes last. */
static void request_machine_check(uintptr_t at)
{
	now.mce = true;
	now.mce_at = at;
	mce_request(at, 0);
}

static void find_points(void)
{
	now.points = (struct lab_points){0};
	if (lab_scheme->points)
		lab_scheme->points(lab_cell.site, now.irqs, &now.points);
}

void lab_path_restart(void)
{
	memset(&path, 0, sizeof(path));
}

bool lab_path_is_covered(void)
{
	const struct lab_hazard *h = lab_cell.hazard;

	return h->where != AT_PATH || h->cost || !lab_scheme->entry || lab_no_events ||
	       path.rounds >= PATH_STRIDE;
}

static void path_begins(void)
{
	find_points();
	path.steps = path.behind = 0;
	path.at = now.number & 2 && !lab_cell.hazard->cost
			  ? choose(&now.points, lab_cell.site->target)
			  : 0;
	if (lab_cell.hazard->event == EVENT_MC && path.at) {
		request_machine_check(path.at);
		return;
	}
	path.stepping = true;
	set_breakpoint(0, path.at ? path.at : (uintptr_t)lab_scheme->entry);
	enable_breakpoints(1);
}

/* The goal lay behind the end of the way, or was the end. */
static void path_ends(void)
{
	if (path.at)
		return;
	if (path.steps > lab_cell.way)
		lab_cell.way = path.steps;
	lab_cell.behind = path.behind;
	path.first = (path.first + 1) % PATH_STRIDE;
	path.goal = path.first;
	path.rounds++;
}

/*
 * At an instruction of the way: the event, or one further. A step that ends in the shadow of a
 * sti ends the shadow; an interrupt would prove nothing there.
 */
static void step(struct trapframe *frame)
{
	static const uint8_t iretq[] = {0x48, 0xcf};
	bool at_end = frame->rip == lab_cell.site->target ||
		      (lab_cell.hazard->event == EVENT_IRQ && frame->rip == now.points.shadow);

	frame->rflags |= RFLAGS_RF;
	if (lab_cell.hazard->cost)
		path.goal = path.steps + 1;
	if (frame->rip == (uintptr_t)lab_scheme->entry)
		path.in_handler = true;
	path.behind += !at_end && !path.in_handler;
	if (!memcmp((const void *)frame->rip, iretq, sizeof(iretq)))
		path.in_handler = false;
	if (!at_end && !path.at && path.steps++ < path.goal) {
		frame->rflags |= RFLAGS_TF;
		enable_breakpoints(1); /* for a second trap: its gate clears TF */
		return;
	}
	frame->rflags &= ~RFLAGS_TF;
	path.stepping = false;
	enable_breakpoints(0);
	if (at_end)
		path_ends();
	else if (!path.at)
		path.goal += PATH_STRIDE;
	if (frame->rip == now.points.shadow && lab_cell.hazard->event == EVENT_IRQ)
		return;
	look_where(frame->rip);
	/* The #DB itself is an event in the shadow. */
	if (lab_scheme->nmi)
		lab_scheme->nmi(frame);
	if (lab_cell.hazard->event == EVENT_MC)
		request_machine_check(frame->rip);
	else
		send(lab_cell.hazard->event);
}

/* --------------------------------------------------------------------- handlers */

/* Where the NMI of another CPU has come in; a hit is one in the shadow. */
static bool has_landed_in_shadow(uintptr_t rip)
{
	enum lab_landing landing = lab_timed_nmi_landed(rip, lab_cell.site->target);

	lab_cell.held += landing == LANDED_HELD;
	lab_cell.before_shadow += landing == LANDED_BEFORE;
	lab_cell.behind_shadow += landing == LANDED_BEHIND;
	return landing == LANDED_IN_SHADOW;
}

static void on_nmi(struct trapframe *frame)
{
	bool there = frame->rip == now.points.shadow;

	if (lab_timed_nmi_there() && now.points.shadow)
		there = has_landed_in_shadow(frame->rip);
	if (!now.calling || now.acted) {
		if (lab_scheme->nmi)
			lab_scheme->nmi(frame);
		return;
	}
	lab_nmis[this_cpu()->id]++;
	hit(there || lab_cell.hazard->where != AT_STI);
	nonmaskable(frame);
	lab_nmis[this_cpu()->id]--;
}

static void on_mc(struct trapframe *frame)
{
	now.mce = false;
	hit(frame->rip == now.mce_at);
	nonmaskable(frame);
}

static void on_db(struct trapframe *frame)
{
	take_breakpoint();
	if (path.stepping) {
		step(frame);
		return;
	}
	frame->rflags |= RFLAGS_RF;
	frame->rflags &= ~RFLAGS_TF;
	if (!now.calling || lab_cell.hazard->where == AT_PATH)
		return;
	if (lab_cell.hazard->event == EVENT_DB) {
		hit(true);
		nonmaskable(frame);
		return;
	}
	if (lab_cell.hazard->event == EVENT_NMI)
		look_where(frame->rip);
	send(lab_cell.hazard->event);
}

/* --------------------------------------------------------------------- where it is */

static void set_up(const struct lab_site *site)
{
	const struct lab_hazard *h = lab_cell.hazard;
	const struct lab_points *p = &now.points;
	uintptr_t at;

	if (lab_no_events)
		return;
	if (h->where == AT_STI && p->shadow && lab_timed_nmi_there()) {
		lab_timed_nmi_aim(p->shadow);
		return;
	}
	if (h->where == AT_STUB || (h->where == AT_STI && !p->shadow))
		at = choose(p, site->target);
	else if (h->where == AT_SHADOW)
		at = p->shadow ? p->shadow : choose(p, site->target);
	else
		return;
	if (h->event == EVENT_MC) {
		request_machine_check(at);
		return;
	}
	set_breakpoint(0, at);
	enable_breakpoints(1);
}

/* In the handler of #BP, before and behind the scheme's own part. */
static void on_trap(struct trapframe *frame, const struct lab_site *site, bool behind)
{
	const struct lab_hazard *h = lab_cell.hazard;

	if (site != lab_cell.site || !now.calling || now.acted || h->where == AT_PATH)
		return;
	if (!behind) {
		now.irqs = frame->rflags & RFLAGS_IF;
		if (h->where == AT_TRAP)
			send(h->event);
		return;
	}
	find_points();
	set_up(site);
}

void lab_call_begins(uint64_t number)
{
	now.number = number;
	now.irqs = irqs_on();
	now.acted = false;
	now.calling = true;
	now.points = (struct lab_points){0};
	if (lab_cell.hazard->irqs_off) {
		now.pending = !lab_no_events;
		send(EVENT_IRQ);
	}
	if (lab_cell.hazard->where == AT_PATH && lab_scheme->entry && !lab_no_events)
		path_begins();
}

void lab_call_ends(void)
{
	if (lab_timed_nmi_there())
		lab_timed_nmi_wait();
	now.calling = false;
	path.stepping = false;
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
