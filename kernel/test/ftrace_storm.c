/* SPDX-License-Identifier: MIT */
/*
 * The function tracer under load. CPU 0 registers and unregisters ops and changes their
 * filters; the other CPUs call traced functions, and so do the handlers of timer
 * interrupts, IPIs and NMIs, which are traced themselves.
 *
 *	ftrace turns=N [int3=regs-caller]
 *		[control=skip|no-guard|one-guard|no-wait|twice|carry|no-flip]
 *
 * Ops A stay registered all the time, B and C come and go, so that entries change
 * between off, a call of A's stub or of another's, and a call of the list. D trace one function
 * now and then: where nobody else does, its entry is switched by flip. Each call
 * takes a record along, in which the callbacks leave a mark: A must have left exactly
 * one, the others one or none, as in a version that was in force during the call.
 *
 * With int3=regs-caller every int3 calls the list, whatever the entry was or will be [L4]. No call
 * is lost by that; but one that neither state traces comes back with other flags, an effect that
 * neither the old instruction has nor the new one. (There are no flips then, which have no int3.)
 *
 * The control `skip` takes every int3 for a nop, as ftrace did when [L3] was written;
 * `twice` has two ops leave A's mark; `carry` sets CF in every trap; `no-flip` has the port told
 * that there are no flips.
 */
#include "ftrace_storm.h"

#include "ftrace.h"
#include "ftrace_int3.h"
#include "ftrace_unregister.h"
#include "hooks.h"
#include "kernel.h"
#include "production.h"
#include "smp.h"
#include "spoil.h"

enum { A, B, C, D, OPS };

struct call {
	_Atomic unsigned marks[OPS];
	bool from_callback;
};

static void work_plain(struct call *call);
static void work_nested(struct call *call);
static void switched(struct call *call);
FTRACE_FUNCTION(work_plain);
FTRACE_FUNCTION(work_nested);
FTRACE_FUNCTION(work_line);
FTRACE_FUNCTION(work_page);
FTRACE_FUNCTION(work_bare);
FTRACE_FUNCTION(switched);

static work_fn *const works[] = {work_plain, work_nested, work_line,
				 work_page,  work_bare,   switched};
#define WORKS     0x1f /* named work_* */
#define SWITCHED  0x20
#define ALL_WORKS 0x3f

/*
 * Which works each ops trace, by bits: what holds behind change() to version v, here
 * [v % VERSIONS]. A leave work_bare out, whose entry so is off now and then.
 */
#define VERSIONS 6
static const unsigned wanted[VERSIONS][OPS] = {
	{0x0f, 0x00, 0x00, 0},      {0x0f, WORKS, 0x00, SWITCHED},
	{0x0f, 0x14, 0x00, 0},      {0x0f, 0x14, ALL_WORKS, SWITCHED},
	{0x0f, 0x00, ALL_WORKS, 0}, {0x0f, 0x00, 0x09, SWITCHED},
};

static _Atomic uint64_t started, done; /* versions */
static _Atomic bool stop;

static struct {
	_Atomic uint64_t calls, marks;
	_Atomic uint64_t lost, doubled, untimely, recursions, wrong_flags;
	/* Runs of traced interrupt handlers, and A's callbacks for them. */
	_Atomic uint64_t handlers, handler_marks;
	_Atomic uint64_t taken[3];
} seen;

/* ------------------------------------------------------------------------ calls */

/* Whether ops @which trace the work @i in one of the versions @first to @last, or do not. */
static bool is_current(bool traced, unsigned which, size_t i, uint64_t first, uint64_t last)
{
	for (uint64_t v = first; v <= last; v++)
		if (traced == (wanted[v % VERSIONS][which] >> i & 1))
			return true;
	return false;
}

static void check(const struct call *call, size_t i, uint64_t first, uint64_t last)
{
	for (unsigned which = 0; which < OPS; which++) {
		unsigned marks = call->marks[which];

		if (marks > 1)
			seen.doubled++;
		else if (which == A && !marks && is_current(true, A, i, first, last))
			seen.lost++;
		else if (!is_current(marks, which, i, first, last))
			seen.untimely++;
	}
	seen.calls++;
	seen.marks += call->marks[A];
}

/* The flags behind the off form of a call of the stub in @slot, at the entry of work_bare(). */
static uint64_t flags_behind_test(uint64_t flags, unsigned slot)
{
	uintptr_t behind = (uintptr_t)work_bare + FTRACE_INSN_SIZE;
	uint32_t distance = (uint32_t)(ftrace_stub(slot) - behind);
	uint32_t value = (uint32_t)(uintptr_t)work_bare & distance; /* storm_call() has it in rax */

	flags &= ~(RFLAGS_ARITH & ~RFLAGS_AF);
	return flags | (value ? 0 : RFLAGS_ZF) | (value >> 31 ? RFLAGS_SF : 0) |
	       (__builtin_popcount(value & 0xff) % 2 ? 0 : RFLAGS_PF);
}

/*
 * Behind an entry that is off, by a trap or not: no flag changes, or those of a test do. (AF is
 * undefined behind that.)
 */
static bool is_off_form(uint64_t flags, uint64_t behind)
{
	if (behind == flags)
		return true;
	for (unsigned slot = 0; slot <= FTRACE_SLOTS; slot++)
		if (!((flags_behind_test(flags, slot) ^ behind) & ~RFLAGS_AF))
			return true;
	return false;
}

/* Where nobody traces it, its entry is off. */
static void call_bare(struct call *record)
{
	static _Atomic uint32_t number;
	uint64_t flags = production_flags(number++);
	uint64_t behind = storm_call(work_bare, record, flags);

	for (unsigned which = 0; which < OPS; which++)
		if (record->marks[which])
			return;
	seen.wrong_flags += !is_off_form(flags, behind);
}

static void call(size_t i)
{
	struct call record = {0};
	uint64_t first = done;

	if (works[i] == work_bare)
		call_bare(&record);
	else
		works[i](&record);
	check(&record, i, first, started);
}

static void work_plain(struct call *record)
{
	__asm__ volatile("" : : "r"(record) : "memory");
}

static void switched(struct call *record)
{
	__asm__ volatile("" : : "r"(record) : "memory");
}

/* Traced functions call traced functions. */
static void work_nested(struct call *record)
{
	__asm__ volatile("" : : "r"(record) : "memory");
	call(0);
}

/* -------------------------------------------------------------------- callbacks */

/* Numbers in no order: Knuth's multiplicative hash of a count. */
static uint32_t next_random(_Atomic uint32_t *turn)
{
	return (*turn)++ * 2654435761u >> 8;
}

/* Interrupt some CPU now and then, this one too, whatever it is doing. */
static void disturb(uint32_t random, uint32_t mask)
{
	unsigned to = (random >> 8) % nr_cpus;

	if ((random & mask) == 0)
		apic_ipi(to, VEC_TEST);
	else if ((random & mask) == 1)
		apic_nmi(to);
}

static bool is_work(uintptr_t ip)
{
	for (size_t i = 0; i < ARRAY_SIZE(works); i++)
		if (ip == (uintptr_t)works[i])
			return true;
	return false;
}

static bool is_handler(uintptr_t ip);

/* What all of them do: leave a mark in the record, which is the first argument. */
static void leave_mark(uintptr_t ip, const struct ftrace_regs *regs, unsigned which)
{
	struct call *record = (struct call *)regs->rdi;

	if (!is_work(ip))
		return;
	record->marks[which]++;
	if (record->from_callback)
		seen.recursions++;
}

/* It calls a traceable function itself. */
static void callback_a(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		       struct ftrace_regs *regs)
{
	static _Atomic uint32_t turn;
	struct call record = {.from_callback = true};

	(void)parent_ip;
	(void)ops;
	leave_mark(ip, regs, A);
	if (is_handler(ip))
		seen.handler_marks++;
	work_bare(&record);
	disturb(next_random(&turn), 63);
}

static void callback_b(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		       struct ftrace_regs *regs)
{
	(void)parent_ip;
	(void)ops;
	leave_mark(ip, regs, B);
}

static void callback_c(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		       struct ftrace_regs *regs)
{
	(void)parent_ip;
	(void)ops;
	leave_mark(ip, regs, C);
}

static void callback_d(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		       struct ftrace_regs *regs)
{
	(void)parent_ip;
	(void)ops;
	leave_mark(ip, regs, D);
}

static struct ftrace_ops ops_a = FTRACE_OPS(callback_a), ops_b = FTRACE_OPS(callback_b),
			 ops_c = FTRACE_OPS(callback_c), ops_d = FTRACE_OPS(callback_d),
			 ops_twice = FTRACE_OPS(callback_a);

/* --------------------------------------------------------------------- handlers */

static void storm_timer(struct trapframe *frame);
static void storm_ipi(struct trapframe *frame);
static void storm_nmi(struct trapframe *frame);
FTRACE_FUNCTION(storm_timer);
FTRACE_FUNCTION(storm_ipi);
FTRACE_FUNCTION(storm_nmi);

static bool is_handler(uintptr_t ip)
{
	return ip == (uintptr_t)storm_timer || ip == (uintptr_t)storm_ipi ||
	       ip == (uintptr_t)storm_nmi;
}

/* Each calls each of the works in turn. */
static void on_interrupt(unsigned which)
{
	static _Atomic uint32_t turn;

	seen.handlers++;
	seen.taken[which]++;
	call(turn++ % ARRAY_SIZE(works));
}

static void storm_timer(struct trapframe *frame)
{
	(void)frame;
	on_interrupt(0);
}

static void storm_ipi(struct trapframe *frame)
{
	(void)frame;
	on_interrupt(1);
}

static void storm_nmi(struct trapframe *frame)
{
	(void)frame;
	on_interrupt(2);
}

/* ------------------------------------------------------------------------ storm */

static void caller(void *arg)
{
	_Atomic uint32_t turn = this_cpu()->id * 1000;

	(void)arg;
	apic_timer(2000, true);
	while (!stop) {
		uint32_t r = next_random(&turn);

		call((r >> 12) % ARRAY_SIZE(works));
		disturb(r, 15);
		cpu_relax();
	}
	apic_timer(0, false);
}

/* To version @v from the one before, but for D. */
static int change_b_and_c(uint64_t v)
{
	int ret;

	switch (v % VERSIONS) {
	case 1:
		ret = ftrace_set_filter(&ops_b, "work_*", 0, 1);
		return ret ? ret : register_ftrace_function(&ops_b);
	case 2:
		return ftrace_set_filter(&ops_b, "work_[lb]*", 0, 1);
	case 3:
		ret = ftrace_set_filter(&ops_c, "*", 0, 1);
		return ret ? ret : register_ftrace_function(&ops_c);
	case 4:
		return unregister_ftrace_function(&ops_b);
	case 5:
		return ftrace_set_filter(&ops_c, "wor?_p*", 0, 1);
	default:
		return unregister_ftrace_function(&ops_c);
	}
}

/* D's filter: the one function, or that one taken out again. */
static int trace_switched(bool on)
{
	return ftrace_set_filter_ip(&ops_d, (uintptr_t)switched, !on, on);
}

static int change(uint64_t v)
{
	int ret = change_b_and_c(v);

	return ret ? ret : trace_switched(v % 2);
}

static uint64_t change_all(uint64_t turns)
{
	uint64_t version = 0;

	apic_timer(2000, true);
	while (version < turns * VERSIONS) {
		started = version + 1;
		if (change(version + 1))
			break;
		done = ++version;
		/* In force for certain, here. */
		for (size_t i = 0; i < ARRAY_SIZE(works); i++)
			call(i);
		cpu_relax();
	}
	apic_timer(0, false);
	return version;
}

/* In the midst of each poke, with the int3 still there: an NMI to all. */
static void nmi_in_poke(unsigned nr_sync)
{
	for (unsigned i = 0; nr_sync < 3 && i < nr_cpus; i++)
		apic_nmi(i);
}

/*
 * D change in every version; in three of six nobody else has traced the function since, and so
 * again a call of their stub comes and goes.
 */
static void report_flips(uint64_t versions, uint64_t flips)
{
	ok(flips + 1 >= versions / 2, "%lu of %lu switches of an entry by flip", flips,
	   versions / 2);
}

static void report(uint64_t turns, uint64_t versions, uint64_t traps)
{
	uint64_t by_list = ftrace_int3_list_calls();

	print("# %lu calls of %lu functions, %lu traced by A; %lu timer interrupts, %lu IPIs, "
	      "%lu NMIs\n",
	      seen.calls, ARRAY_SIZE(works), seen.marks, seen.taken[0], seen.taken[1],
	      seen.taken[2]);
	ok(versions == turns * VERSIONS, "%lu changes of ops and filters", versions);
	ok(!seen.lost, "%lu calls lost to A", seen.lost);
	ok(!seen.doubled, "%lu calls traced twice", seen.doubled);
	ok(!seen.untimely, "%lu calls neither by the old nor by the new state", seen.untimely);
	ok(seen.handlers == seen.handler_marks, "%lu interrupts, of which A has traced %lu",
	   seen.handlers, seen.handler_marks);
	ok(!seen.wrong_flags, "%lu calls of an untraced function with other flags",
	   seen.wrong_flags);
	ok(!seen.recursions, "%lu callbacks within a callback", seen.recursions);
	ok(traps + by_list > versions, "traps were taken: %lu", traps + by_list);
	for (unsigned i = 0; i < ARRAY_SIZE(seen.taken); i++)
		ok(seen.taken[i], "interrupts of kind %u: %lu", i, seen.taken[i]);
}

static int register_a(struct ftrace_ops *ops)
{
	const uintptr_t ips[] = {(uintptr_t)work_plain,  (uintptr_t)work_nested,
				 (uintptr_t)work_line,   (uintptr_t)work_page,
				 (uintptr_t)storm_timer, (uintptr_t)storm_ipi,
				 (uintptr_t)storm_nmi};
	int ret = 0;

	for (size_t i = 0; i < ARRAY_SIZE(ips) && !ret; i++)
		ret = ftrace_set_filter_ip(ops, ips[i], 0, !i);
	return ret ? ret : register_ftrace_function(ops);
}

static int register_d(void)
{
	int ret = trace_switched(true);

	if (!ret)
		ret = trace_switched(false);
	return ret ? ret : register_ftrace_function(&ops_d);
}

static void storm(uint64_t turns)
{
	uint64_t traps = test_traps().emulated, flips, versions;

	trap_set(VEC_TIMER, storm_timer);
	trap_set(VEC_TEST, storm_ipi);
	trap_set(VEC_NMI, storm_nmi);
	if (!ok(!register_a(&ops_a) && !register_d(), "ftrace: A and D are registered"))
		return;
	if (cmdline_is("control", "twice") && register_a(&ops_twice))
		return;
	test_hooks.stepwise = true;
	test_hooks.on_sync = nmi_in_poke;
	for (unsigned i = 1; i < nr_cpus; i++)
		smp_start(i, caller, NULL);
	flips = test_pokes(SHUNT_WAY_FLIP);
	schedule_point();
	versions = change_all(turns);
	stop = true;
	smp_wait();
	test_hooks.on_sync = NULL;
	test_hooks.stepwise = false;
	report(turns, versions, test_traps().emulated - traps);
	if (!cmdline_is("int3", "regs-caller"))
		report_flips(versions, test_pokes(SHUNT_WAY_FLIP) - flips);
	ok(!unregister_ftrace_function(&ops_a) && !unregister_ftrace_function(&ops_d),
	   "ftrace: A and D are unregistered");
}

static void test_ftrace(void)
{
	uint64_t turns = cmdline_number("turns", 100);

	if (!ok(nr_cpus >= 2, "ftrace needs 2 CPUs or more: %u", nr_cpus))
		return;
	print("# %lu traceable functions\n", ftrace_nr_entries());
	if (cmdline_is("control", "carry"))
		spoil_carry();
	if (cmdline_is("control", "skip"))
		idt_set(VEC_BP, ftrace_int3_skip_entry, 0);
	if (cmdline_is("int3", "regs-caller"))
		idt_set(VEC_BP, ftrace_int3_regs_caller_entry, 0);
	test_hooks.no_flips = cmdline_is("control", "no-flip") || cmdline_is("int3", "regs-caller");
	ftrace_test.no_guard = cmdline_is("control", "no-guard");
	test_hooks.one_guard = cmdline_is("control", "one-guard");
	ftrace_test.no_wait = cmdline_is("control", "no-wait");
	ftrace_unregister_test();
	storm(turns);
}

KERNEL_TEST("ftrace", test_ftrace);
