/* SPDX-License-Identifier: MIT */
/*
 * The production path under load. CPU 0 updates; the other CPUs call through the sites
 * of production_sites.S, and so do the handlers of timer interrupts, IPIs and NMIs,
 * which they all send each other meanwhile.
 *
 *	production updates=N [control=no-int3|no-gap|no-last-sync|no-shadow|nmi-stack|carry|
 *			no-first-sync|no-middle-sync|no-flip|flip-two|flip-always]
 *		[stepwise=0] [locked-read] calls are emulated from the site's bytes (locked.c)
 *
 * Without the first or the middle core sync nothing goes wrong on an emulator, whose CPUs fetch
 * what is in memory; models/ has what goes wrong elsewhere.
 *
 * An update is two batches: a call that is retargeted, with a branch; and what is only switched
 * on and off, of which the port must make flips. Their controls: the port is told that there are
 * none; that there are no others (so that of a new target the first byte alone is written); sites
 * whose forms differ in a second byte. A flip without its core sync does no harm on an emulator.
 *
 * Versions are counted: the target of version v is v % NR_TARGETS, and what is switched
 * is on in odd versions. A call that starts when version `done` is in force, and ends
 * when `started` is the last that was begun, must reach one of those.
 */
#include "production.h"

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "hooks.h"
#include "kernel.h"
#include "locked.h"
#include "machine_check.h"
#include "smp.h"
#include "spoil.h"
#include "trap.h"

DEFINE_STATIC_CALL(production_call, production_target_0);
DEFINE_STATIC_CALL_NULL(production_switched, production_target_switched);
DEFINE_STATIC_KEY_FALSE(production_key);
DEFINE_STATIC_KEY_FALSE(production_flip_key);

static long branch(struct expected *expected);
static long flip_branch(struct expected *expected);

static site_fn *const sites[] = {production_aligned,
				 production_line_1,
				 production_line_2,
				 production_tail,
				 production_jcc,
				 production_page,
				 production_switched_line,
				 production_switched_tail,
				 production_switched_page,
				 flip_branch,
				 branch};
/* How many of the last ones are switched. */
#define NR_SWITCHED 5
static site_fn *const targets[NR_TARGETS] = {production_target_0, production_target_1,
					     production_target_2, production_target_3};

/* What calls come from. */
enum context { THREAD, TIMER, IPI, NMI, MC, CONTEXTS };

static const char *const context_names[] = {"threads", "timer interrupts", "IPIs", "NMIs",
					    "machine checks"};

static _Atomic uint64_t started, done; /* versions */
static _Atomic bool stop;
/* How many of the sites are gone through. */
static size_t nr_sites = ARRAY_SIZE(sites);

static struct {
	_Atomic uint64_t calls[CONTEXTS];
	_Atomic uint64_t wrong_target, wrong_return, wrong_flags, stale;
	_Atomic uint64_t on, off; /* calls of what is switched */
} seen;

/* ------------------------------------------------------------------------ calls */

/* Not a call, but checked alike: 0 or 1. */
static __attribute__((noinline)) long branch(struct expected *expected)
{
	(void)expected;
	return static_branch_unlikely(&production_key) ? 1 : 0;
}

static __attribute__((noinline)) long flip_branch(struct expected *expected)
{
	(void)expected;
	return static_branch_unlikely(&production_flip_key) ? 1 : 0;
}

/* Whether @result is right in one of the versions @first to @last. */
static bool is_current(long result, bool is_switched, uint64_t first, uint64_t last)
{
	for (uint64_t v = first; v <= last; v++)
		if (result == (long)(v % (is_switched ? 2 : NR_TARGETS)))
			return true;
	return false;
}

static void call(size_t i, enum context context)
{
	size_t which = i % nr_sites;
	bool is_switched = which >= ARRAY_SIZE(sites) - NR_SWITCHED;
	uint64_t first = done, last;
	static _Atomic uint32_t number;
	struct expected expected = {.flags = production_flags(number++)};
	long result = sites[which](&expected);

	last = started;
	seen.calls[context]++;
	seen.on += is_switched && result == 1;
	seen.off += is_switched && result == 0;
	if (result == WRONG_TARGET)
		seen.wrong_target++;
	else if (result == WRONG_RETURN)
		seen.wrong_return++;
	else if (result == WRONG_FLAGS)
		seen.wrong_flags++;
	else if (!is_current(result, is_switched, first, last))
		seen.stale++;
}

/* A handler goes through each site in turn. */
static void call_from(enum context context)
{
	static _Atomic uint32_t turn;

	call(turn++, context);
}

static void on_timer(struct trapframe *frame)
{
	(void)frame;
	call_from(TIMER);
}

static void on_ipi(struct trapframe *frame)
{
	(void)frame;
	call_from(IPI);
}

/*
 * A call that traps lets the next NMI in. On a stack of their own (control nmi-stack) that one
 * writes over the frame of this one, which then comes back to anywhere, or never.
 */
static void on_nmi(struct trapframe *frame)
{
	static const struct trapframe *frames[MAX_CPUS];
	unsigned id = this_cpu()->id;
	const struct trapframe *outer = frames[id];

	if (outer == frame)
		panic("an NMI has written over another's trap frame");
	frames[id] = frame;
	call_from(NMI);
	frames[id] = outer;
}

static void on_mc(struct trapframe *frame)
{
	(void)frame;
	call_from(MC);
}

/* ------------------------------------------------------------------------ CPUs */

/*
 * Now and then, interrupt some CPU, perhaps this one; or have the next thread that runs
 * into an int3 take a machine check a little later.
 */
static void disturb(uint32_t *random)
{
	uint32_t r = xorshift(random);
	unsigned to = (r >> 8) % nr_cpus;

	if ((r & 15) == 0)
		apic_ipi(to, VEC_TEST);
	else if ((r & 15) == 1)
		apic_nmi(to);
	else if ((r & 255) == 2 && mce_available())
		mce_request((uintptr_t)trap_entry_bp, r >> 8 & 63);
}

static void caller(void *arg)
{
	uint32_t random = 2463534242u + this_cpu()->id;

	(void)arg;
	apic_timer(2000, true);
	while (!stop) {
		call(xorshift(&random), THREAD);
		disturb(&random);
		cpu_relax();
	}
	apic_timer(0, false);
}

static int add_changes(struct static_call_batch *batch, uint64_t version)
{
	int ret = static_call_batch_add(batch, production_call, targets[version % NR_TARGETS]);

	if (ret)
		return ret;
	return version % 2 ? static_branch_batch_enable(batch, &production_key)
			   : static_branch_batch_disable(batch, &production_key);
}

static int add_switches(struct static_call_batch *batch, uint64_t version)
{
	int ret = static_call_batch_add(batch, production_switched,
					version % 2 ? production_target_switched : NULL);

	/* A jmp with a torn displacement could lead anywhere. */
	if (ret || test_hooks.flip_two)
		return ret;
	return version % 2 ? static_branch_batch_enable(batch, &production_flip_key)
			   : static_branch_batch_disable(batch, &production_flip_key);
}

static int commit(int (*add)(struct static_call_batch *batch, uint64_t version), uint64_t version)
{
	struct static_call_batch batch = STATIC_CALL_BATCH_INIT;
	int ret = add(&batch, version);

	if (!ret)
		ret = static_call_batch_commit(&batch);
	static_call_batch_destroy(&batch);
	return ret;
}

/* One version further: key and branch together, and what is switched. */
static int update(uint64_t version)
{
	int ret;

	started = version;
	ret = commit(add_changes, version);
	if (!ret)
		ret = commit(add_switches, version);
	if (!ret)
		done = version;
	return ret;
}

static uint64_t update_all(uint64_t n)
{
	uint32_t random = 88675123;
	uint64_t version = 0;

	apic_timer(2000, true);
	while (version < n && !update(version + 1)) {
		version++;
		disturb(&random);
		cpu_relax();
	}
	apic_timer(0, false);
	return version;
}

/* ------------------------------------------------------------------------ test */

/*
 * In the midst of each poke, with the int3 still there: an NMI to all others, to catch
 * one of them at the beginning of its trap.
 */
static void nmi_in_poke(unsigned nr_sync)
{
	if (nr_sync == 2)
		apic_nmi_others();
}

static void set_control(void)
{
	test_hooks.on_sync = nmi_in_poke;
	test_hooks.stepwise = cmdline_number("stepwise", 1);
	test_hooks.no_int3 = cmdline_is("control", "no-int3");
	test_hooks.no_flips = cmdline_is("control", "no-flip");
	test_hooks.flips_always = cmdline_is("control", "flip-always");
	test_hooks.flip_two = cmdline_is("control", "flip-two");
	/* The branches, the last ones, may be torn to anything: a mixture of jmp and nop. */
	if (test_hooks.no_int3 || test_hooks.flip_two)
		nr_sites -= 2;
	test_hooks.no_sync = cmdline_is("control", "no-last-sync")     ? 3
			     : cmdline_is("control", "no-middle-sync") ? 2
			     : cmdline_is("control", "no-first-sync")  ? 1
								       : 0;
	if (cmdline_is("control", "no-shadow"))
		idt_set(VEC_BP, test_entry_no_shadow, 0);
	if (cmdline_is("control", "no-gap"))
		idt_set(VEC_BP, test_entry_no_gap, 0);
	if (cmdline_is("control", "carry"))
		spoil_carry();
	if (cmdline_is("control", "nmi-stack"))
		idt_set_stack(VEC_NMI, IST_TEST);
	if (cmdline_has("locked-read")) {
		idt_set(VEC_BP, test_entry_locked, 0);
		test_hooks.locked = true;
	}
}

/* What is switched goes by flip from its second change on. */
static void report_flips(uint64_t updates, uint64_t flips)
{
	ok(flips + 1 >= updates, "%lu of %lu switches by flip", flips, updates);
	ok(seen.on && seen.off, "calls of what is switched: %lu on, %lu off", seen.on, seen.off);
}

static void report(uint64_t wanted, uint64_t updates, const struct test_traps *before)
{
	struct test_traps traps = test_traps();

	traps.emulated -= before->emulated;
	traps.late -= before->late;
	traps.stray -= before->stray;
	for (unsigned i = 0; i < CONTEXTS; i++)
		print("# %lu calls from %s\n", seen.calls[i], context_names[i]);
	print("# %lu traps emulated, %lu late\n", traps.emulated, traps.late);
	if (cmdline_has("locked-read"))
		ok(locked_reads.calls, "%lu calls by a locked read, %lu of them before the key",
		   locked_reads.calls, locked_reads.ahead);
	ok(updates == wanted, "%lu of %lu updates", updates, wanted);
	ok(!seen.wrong_target, "%lu calls of a wrong target", seen.wrong_target);
	ok(!seen.wrong_return, "%lu wrong return addresses", seen.wrong_return);
	ok(!seen.wrong_flags, "%lu calls with other flags", seen.wrong_flags);
	ok(!seen.stale, "%lu calls of an old target behind the update", seen.stale);
	ok(!traps.stray, "%lu traps behind the end of their poke", traps.stray);
	ok(traps.emulated > updates / 10, "traps were taken: %lu", traps.emulated + traps.late);
	for (unsigned i = 0; i < CONTEXTS; i++)
		ok(seen.calls[i] || (i == MC && !mce_available()), "calls from %s: %lu",
		   context_names[i], seen.calls[i]);
}

static void test_production(void)
{
	uint64_t wanted = cmdline_number("updates", 1000), updates;
	uint64_t flips = test_pokes(SHUNT_WAY_FLIP);
	struct test_traps before = test_traps();

	if (!ok(nr_cpus >= 2, "production needs 2 CPUs or more: %u", nr_cpus))
		return;
	trap_set(VEC_TIMER, on_timer);
	trap_set(VEC_TEST, on_ipi);
	trap_set(VEC_NMI, on_nmi);
	mce_set(on_mc);
	set_control();
	for (unsigned i = 1; i < nr_cpus; i++)
		smp_start(i, caller, NULL);
	schedule_point();
	updates = update_all(wanted);
	stop = true;
	smp_wait();
	report(wanted, updates, &before);
	report_flips(updates, test_pokes(SHUNT_WAY_FLIP) - flips);
}

KERNEL_TEST("production", test_production);
