/* SPDX-License-Identifier: MIT */
/*
 * A machine check at each instruction of the trap path, one after the other, from the first
 * of the #BP entry to the first of the target. Its handler, on a stack of its own, goes
 * through a site that has an int3 as well, and every second time sends an interrupt that
 * comes in as soon as it may, whose handler does the same.
 *
 *	mce-sweep [stride=N] [control=bp-stack]
 *		N: at each Nth; bp-stack, a negative control: #BP on a stack of its own too
 *
 * Each site is swept by updates; in the midst of one, with the int3 in place, CPU 0 goes
 * through it itself. Needs the word `mce` (machine_check.h).
 */
#include "hooks.h"
#include "kernel.h"
#include "machine_check.h"
#include "production.h"
#include "smp.h"

static const struct {
	const char *name;
	site_fn *go;
} sites[] = {
	{"call", production_aligned},
	{"call across a cache line", production_line_2},
	{"jmp, a tail call", production_tail},
	{"jcc", production_jcc},
};

static struct {
	site_fn *site;
	unsigned steps; /* from the entry's first instruction to the machine check */
	unsigned turn;
	bool trapping;          /* the call that is swept has begun, and not ended */
	bool at_end;            /* the machine check found the thread behind the iretq */
	uint64_t begun, ended;  /* machine checks */
	uint64_t in_irq, wrong; /* interrupts behind them; calls */
} sweep;

/* Both targets are right: an update is going on. */
static void go_through(site_fn *site)
{
	sweep.wrong += !production_reaches_0_or_1(site);
}

static void on_irq(struct trapframe *frame)
{
	(void)frame;
	sweep.in_irq++;
	go_through(production_aligned);
}

/* The sites and targets lie on three pages of their own. */
static bool is_production_text(uintptr_t rip)
{
	return (rip - ((uintptr_t)production_aligned & -(uintptr_t)PAGE)) / PAGE < 3;
}

static void on_mc(struct trapframe *frame)
{
	sweep.begun++;
	sweep.at_end = !sweep.trapping || is_production_text(frame->rip);
	if (sweep.turn % 2)
		apic_ipi(this_cpu()->id, VEC_TEST);
	go_through(production_line_2);
	if (++sweep.ended > sweep.begun)
		panic("a trap has come back to another's frame");
}

/* Behind the first and the second core sync in turn: the int3 is there. */
static void in_poke(unsigned nr_sync)
{
	if (nr_sync != 1 + sweep.turn / 2 % 2)
		return;
	mce_request((uintptr_t)trap_entry_bp, sweep.steps);
	sweep.trapping = true;
	go_through(sweep.site);
	sweep.trapping = false;
}

static int update(unsigned turn)
{
	return static_call_update(production_call,
				  turn % 2 ? production_target_0 : production_target_1);
}

/* One machine check further on with each update. Returns whether the target was reached. */
static bool sweep_site(site_fn *site, unsigned stride)
{
	sweep.site = site;
	sweep.at_end = false;
	for (sweep.steps = 0; !sweep.at_end; sweep.steps += stride) {
		uint64_t before = sweep.begun;

		if (update(sweep.turn++) || sweep.begun != before + 1)
			return false;
	}
	return true;
}

static void set_control(void)
{
	if (cmdline_is("control", "bp-stack"))
		idt_set_stack(VEC_BP, IST_TEST);
}

static void test_mce_sweep(void)
{
	unsigned stride = (unsigned)cmdline_number("stride", 1);

	if (!ok(mce_available(), "somebody injects machine checks"))
		return;
	trap_set(VEC_TEST, on_irq);
	mce_set(on_mc);
	set_control();
	test_hooks.on_sync = in_poke;
	for (size_t i = 0; i < ARRAY_SIZE(sites); i++) {
		uint64_t before = sweep.begun;
		bool reached = sweep_site(sites[i].go, stride);

		ok(reached && !sweep.wrong,
		   "%s: %lu machine checks from the int3 to the target, %lu wrong calls",
		   sites[i].name, sweep.begun - before, sweep.wrong);
	}
	test_hooks.on_sync = NULL;
	ok(sweep.in_irq, "%lu interrupts behind a machine check", sweep.in_irq);
}

KERNEL_TEST("mce-sweep", test_mce_sweep);
