/* SPDX-License-Identifier: MIT */
/*
 * Stacks of the interrupt stack table, and under them the trap path.
 *
 *	ist [control=no-token|no-table|bp-stack]
 *
 * An NMI, an IPI and a #DB are taken on a stack of their own in turn, and a double fault,
 * which always is. Each handler goes through a site that has an int3; so the frame of #BP
 * lies on that stack, and an emulated call pushes its return address there. With the word
 * `cet` the CPU changes to another shadow stack too, which it finds in the interrupt SSP
 * table (cet.c): it checks the token on top, marks it busy, and makes it free in the iretq.
 *
 * The controls: no token; no entry in the table; #BP on such a stack too, where the second
 * #BP begins at the top again, over the frame of the first.
 */
#include "cet.h"
#include "hooks.h"
#include "kernel.h"
#include "production.h"
#include "smp.h"
#include "trap.h"

/* What a handler found. */
static struct {
	unsigned ist;
	unsigned taken;
	unsigned elsewhere; /* not on the stack that it should be on */
	unsigned not_busy;  /* its shadow stack's token */
	unsigned wrong;     /* calls */
	uintptr_t resume;   /* where to go on; 0: where it was */
} seen;

static void go_through(site_fn *site)
{
	seen.wrong += !production_reaches_0_or_1(site);
}

static bool is_on_stack(const void *p)
{
	uintptr_t bottom = (uintptr_t)this_cpu()->ist[seen.ist - 1];

	return (uintptr_t)p - bottom < sizeof(this_cpu()->ist[0]);
}

static void on_event(struct trapframe *frame)
{
	seen.taken++;
	seen.elsewhere += !is_on_stack(frame);
	if (read_ssp())
		seen.not_busy += cet_ist_token(seen.ist) != CET_BUSY;
	go_through(production_line_1);
	if (!seen.resume)
		return;
	frame->rip = seen.resume;
	if (read_ssp())
		cet_ist_resume(seen.ist, seen.resume);
}

/* ------------------------------------------------------------------------- events */

static void send_nmi(void)
{
	apic_nmi(this_cpu()->id);
}

static void send_ipi(void)
{
	apic_ipi(this_cpu()->id, VEC_TEST);
}

/* A trap behind one instruction. */
static void single_step(void)
{
	__asm__ volatile("pushfq\n\t"
			 "orq	%0, (%%rsp)\n\t"
			 "popfq\n\t"
			 "nop\n\t"
			 :
			 : "i"(RFLAGS_TF)
			 : "memory", "cc");
}

static void on_db(struct trapframe *frame)
{
	frame->rflags &= ~RFLAGS_TF;
	on_event(frame);
}

/* A general protection fault that finds no gate. */
static void double_fault(void)
{
	struct gate gate = idt_get(VEC_GP);

	idt_restore(VEC_GP, (struct gate){{0}});
	__asm__ volatile("leaq	1f(%%rip), %%rax\n\t"
			 "movq	%%rax, %0\n\t"
			 "movq	%1, %%rax\n\t"
			 "movq	(%%rax), %%rax\n"
			 "1:"
			 : "=m"(seen.resume)
			 : "i"(1ul << 63)
			 : "rax", "memory");
	idt_restore(VEC_GP, gate);
}

static const struct event {
	const char *name;
	uint8_t vector;
	unsigned ist; /* the stack that the gate gets for the test */
	void (*raise)(void);
	trap_handler_t handler;
} events[] = {
	{"an NMI", VEC_NMI, IST_TEST, send_nmi, on_event},
	{"an IPI", VEC_TEST, IST_TEST, send_ipi, on_event},
	{"#DB", VEC_DB, IST_TEST, single_step, on_db},
	{"#DF", VEC_DF, IST_DF, double_fault, on_event},
};

/* --------------------------------------------------------------------------- test */

static const struct event *current;

/* Behind the first and the second core sync of a poke: the int3 is there. */
static void in_poke(unsigned nr_sync)
{
	if (nr_sync == 3)
		return;
	seen.resume = 0;
	current->raise();
	go_through(production_aligned);
}

static void run_event(const struct event *event, unsigned n)
{
	trap_handler_t before = trap_set(event->vector, event->handler);
	struct gate gate = idt_get(event->vector);
	unsigned not_free = 0;

	memset(&seen, 0, sizeof(seen));
	seen.ist = event->ist;
	current = event;
	idt_set_stack(event->vector, event->ist);
	for (unsigned i = 0; i < n; i++) {
		if (static_call_update(production_call,
				       i % 2 ? production_target_0 : production_target_1))
			seen.wrong++;
		not_free += read_ssp() && cet_ist_token(event->ist) != CET_FREE;
	}
	idt_restore(event->vector, gate);
	trap_set(event->vector, before);
	ok(seen.taken == 2 * n && !seen.elsewhere && !seen.wrong,
	   "%s: %u of %u on a stack of its own, %u elsewhere, %u wrong calls", event->name,
	   seen.taken, 2 * n, seen.elsewhere, seen.wrong);
	if (read_ssp())
		ok(!seen.not_busy && !not_free,
		   "%s: the shadow stack's token: %u not busy in the handler, %u not free behind "
		   "it",
		   event->name, seen.not_busy, not_free);
}

static void set_control(void)
{
	if (cmdline_is("control", "bp-stack"))
		idt_set_stack(VEC_BP, IST_TEST);
	if (cmdline_is("control", "no-token"))
		cet_ist_break(IST_TEST, false);
	if (cmdline_is("control", "no-table"))
		cet_ist_break(IST_TEST, true);
}

static void test_ist(void)
{
	set_control();
	test_hooks.on_sync = in_poke;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		run_event(&events[i], 100);
	test_hooks.on_sync = NULL;
}

KERNEL_TEST("ist", test_ist);
