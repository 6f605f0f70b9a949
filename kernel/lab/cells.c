/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's table: every scheme against every hazard, one line a cell.
 *
 * Most cells need one CPU. It updates the site; in the midst of the poke, with the int3
 * in place, it goes through the site itself, as one that is hit there would. The event
 * and what its handler does are the hazard's (events.c).
 */
#include "hazards.h"

#include "../cet.h"
#include "../machine_check.h"

extern const struct lab_scheme *const __start_lab_schemes[], *const __stop_lab_schemes[];

static const struct lab_hazard hazards[] = {
	{.id = "irqs-on", .where = AT_TRAP, .event = EVENT_IRQ},
	{.id = "irqs-off", .event = EVENT_IRQ, .irqs_off = true},
	{.id = "registers", .registers = true},
	{.id = "lockdep", .lockdep = true},
	{.id = "cost", .where = AT_PATH, .cost = true},
	{.id = "sti-irq", .where = AT_TRAP, .event = EVENT_IRQ, .action = ACT_CALL},
	{.id = "sti-nmi", .where = AT_STI, .event = EVENT_NMI, .action = ACT_CALL},
	{.id = "sti-db", .where = AT_SHADOW, .event = EVENT_DB, .action = ACT_CALL},
	{.id = "sti-mc", .where = AT_SHADOW, .event = EVENT_MC, .action = ACT_CALL},
	{.id = "irq-stub", .where = AT_STUB, .event = EVENT_IRQ, .action = ACT_CALL},
	{.id = "nmi-call",
	 .where = AT_STUB,
	 .event = EVENT_NMI,
	 .action = ACT_CALL,
	 .no_irq_behind = true},
	{.id = "mc-call",
	 .where = AT_STUB,
	 .event = EVENT_MC,
	 .action = ACT_CALL,
	 .no_irq_behind = true},
	{.id = "reuse", .where = AT_STUB, .event = EVENT_IRQ, .action = ACT_PREEMPT},
	{.id = "reuse-nmi", .where = AT_STI, .event = EVENT_NMI, .action = ACT_PREEMPT},
	{.id = "reuse-db", .where = AT_SHADOW, .event = EVENT_DB, .action = ACT_PREEMPT},
	{.id = "reuse-mc", .where = AT_SHADOW, .event = EVENT_MC, .action = ACT_PREEMPT},
	{.id = "again",
	 .where = AT_STUB,
	 .event = EVENT_IRQ,
	 .action = ACT_PREEMPT,
	 .again = true,
	 .place = LAB_LINE},
	{.id = "path-irq", .where = AT_PATH, .event = EVENT_IRQ, .action = ACT_CALL},
	{.id = "path-nmi",
	 .where = AT_PATH,
	 .event = EVENT_NMI,
	 .action = ACT_CALL,
	 .no_irq_behind = true},
	{.id = "path-nmi-irq", .where = AT_PATH, .event = EVENT_NMI, .action = ACT_CALL},
	{.id = "path-mc",
	 .where = AT_PATH,
	 .event = EVENT_MC,
	 .action = ACT_CALL,
	 .no_irq_behind = true},
	{.id = "line", .smp = true, .place = LAB_LINE},
	{.id = "page", .smp = true, .place = LAB_PAGE},
	{.id = "storm", .smp = true, .storm = true, .place = LAB_LINE},
	{.id = "shadow-storm", .smp = true, .storm = true, .cet = true, .place = LAB_LINE},
	{.id = "shadow-stack", .cet = true},
	{.id = "shadow-irq", .where = AT_TRAP, .event = EVENT_IRQ, .action = ACT_CALL, .cet = true},
};

/* ------------------------------------------------------------- cells on one CPU */

/* The second thread (threads.c): the call that it is on, whatever comes in between. */
static bool caller_done;
static struct lab_result caller_result;

static void caller(void)
{
	for (;;) {
		caller_result = lab_go(lab_cell.site);
		lab_call_ends();
		caller_done = true;
		lab_preempt();
	}
}

/* The update that goes on: its number, and whether its site has been gone through. */
static uint64_t turn;
static bool gone;

/* What site and other call before and behind an update. */
static unsigned old_target(void)
{
	return turn % 2;
}

static unsigned new_target(void)
{
	return (turn + 1) % 2;
}

static struct lab_change change(struct lab_site *site, unsigned target)
{
	return (struct lab_change){site, lab_targets[target]};
}

static void go_once(void)
{
	const struct lab_hazard *h = lab_cell.hazard;
	bool off = h->irqs_off || ((h->cet || h->lockdep) && turn & 1);
	struct lab_result result;

	if (off)
		irq_disable();
	lab_call_begins(turn);
	result = lab_go(lab_cell.site);
	lab_call_ends();
	if (off)
		irq_enable();
	lab_count(&result, old_target(), new_target());
}

/* Behind the first sync in two turns, behind the second in the next two. */
static void go_in_poke(unsigned sync)
{
	if (gone || sync != 1 + turn / 2 % 2)
		return;
	gone = true;
	if (lab_cell.hazard->action == ACT_PREEMPT) {
		caller_done = false;
		lab_call_begins(turn);
		lab_thread_run();
	} else {
		go_once();
	}
}

/* The second poke, with a thread of its own that traps. */
static void go_through_other(unsigned sync)
{
	struct lab_result result;

	if (sync != 1)
		return;
	result = lab_go(lab_cell.other);
	lab_count_other(&result);
}

/* A second poke of the same site, and the thread goes on when that is written in part. */
static void go_on_between_bytes(unsigned sync)
{
	if ((sync == 0 || sync == 2) && !caller_done)
		lab_thread_run();
}

static void poke_again(void)
{
	struct lab_change c = change(lab_cell.site, 2 + new_target());
	struct lab_change back = change(lab_cell.site, new_target());

	lab_stepwise = true;
	lab_on_step = go_on_between_bytes;
	lab_scheme->update(&c, 1);
	lab_stepwise = false;
	lab_on_step = NULL;
	lab_scheme->update(&back, 1);
	/* The target of the second poke is as good as any. */
	if (caller_result.target == (int32_t)(2 + new_target()))
		caller_result.target = (int32_t)new_target();
}

static void poke_other(void)
{
	struct lab_change c = change(lab_cell.other, 2 + new_target());

	lab_on_step = go_through_other;
	lab_scheme->update(&c, 1);
}

static void second_poke(void)
{
	if (lab_cell.hazard->again)
		poke_again();
	else
		poke_other();
	if (!caller_done)
		lab_thread_run();
	lab_count(&caller_result, old_target(), new_target());
}

static void one_turn(void)
{
	struct lab_change both[] = {change(lab_cell.site, new_target()),
				    change(lab_cell.other, 2 + new_target())};
	bool preempt = lab_cell.hazard->action == ACT_PREEMPT;
	struct lab_result behind;

	gone = false;
	lab_on_step = go_in_poke;
	lab_scheme->update(both, preempt ? 1 : 2);
	if (gone && preempt)
		second_poke();
	lab_on_step = NULL;
	/* And behind it: the new one and no other. */
	behind = lab_go(lab_cell.site);
	lab_count(&behind, new_target(), new_target());
}

/* Bad calls, of which more would prove no more: they may have left anything behind. */
#define ENOUGH 8

/* @n turns, and more where the event has not been at each instruction of the way. */
static void run_local(uint64_t n)
{
	struct lab_change start[] = {change(lab_cell.site, 0), change(lab_cell.other, 2)};

	lab_thread_init(caller);
	lab_on_step = NULL;
	lab_scheme->update(start, 2);
	for (turn = 0; (turn < n || !lab_path_is_covered()) && lab_cell.bad < ENOUGH; turn++)
		one_turn();
}

/* ------------------------------------------------------------------------ results */

static void print_head(const char *word)
{
	print("# lab %s %s %s: ", lab_scheme->id, lab_cell.hazard->id, word);
}

static void print_hits(uint64_t traps)
{
	const struct lab_cell *c = &lab_cell;

	print("%lu hits", c->hits);
	if (c->in_stub)
		print(", %lu in the stub", c->in_stub);
	if (c->in_shadow)
		print(", %lu in the shadow", c->in_shadow);
	if (c->held)
		print(", %lu held back from the shadow", c->held);
	if (c->before_shadow + c->behind_shadow)
		print(", %lu before it, %lu behind it", c->before_shadow, c->behind_shadow);
	if (c->at_target)
		print(", %lu at the target", c->at_target);
	if (c->elsewhere)
		print(", %lu aimed elsewhere", c->elsewhere);
	if (c->torn)
		print(", %lu between two parts of a write", c->torn);
	if (c->way)
		print(", %s%lu instructions from the trap to the target",
		      lab_path_is_covered() ? "each of " : "", c->way);
	print(", %lu traps, %lu calls\n", traps, c->calls);
}

static void print_failure(uint64_t traps)
{
	const struct lab_cell *c = &lab_cell;

	print_head("fails");
	if (c->bad)
		print("%s, %lu of %lu calls, first in call %lu", lab_result_name(&c->how), c->bad,
		      c->calls, c->first_bad);
	if (c->bad_other)
		print("%sin the handler's own call: %s, %lu times", c->bad ? "; " : "",
		      lab_result_name(&c->how_other), c->bad_other);
	if (c->early)
		print("%s%lu interrupts while they were off", c->bad || c->bad_other ? "; " : "",
		      c->early);
	print("; ");
	print_hits(traps);
}

/* All calls were right: what does that say? */
static const char *verdict(void)
{
	const struct lab_cell *c = &lab_cell;

	if (!lab_scheme->entry && !c->hazard->smp)
		return "n/a";
	if (c->hits)
		return "survives";
	if (c->held)
		return "held";
	if (c->elsewhere)
		return "no-window";
	if (!lab_scheme->entry && c->calls)
		return "no-window"; /* one store: there is nothing between two parts of it */
	return lab_timed_nmi_there() ? "missed" : "unseen";
}

static void print_result(uint64_t traps)
{
	if (lab_cell.bad || lab_cell.bad_other || lab_cell.early) {
		print_failure(traps);
		return;
	}
	print_head(verdict());
	print_hits(traps);
}

/* Each turn is one update and one call that traps; and there is one update more. */
static void print_cost(uint64_t n, uint64_t traps, uint64_t syncs)
{
	static const char built_by[] = KERNEL_BUILT_BY;

	print("# lab cost %s: %lu traps a call, %lu instructions, %lu outside of handlers, %lu "
	      "syncs, built by %s\n",
	      lab_scheme->id, traps / n, lab_cell.way, lab_cell.behind, syncs / (n + 1), built_by);
}

static void run_cell(const struct lab_scheme *scheme, const struct lab_hazard *hazard, uint64_t n)
{
	uint64_t traps = lab_traps, all_traps = lab_all_traps, syncs = core_syncs();

	lab_scheme = scheme;
	memset(&lab_cell, 0, sizeof(lab_cell));
	lab_cell.hazard = hazard;
	lab_path_restart();
	if (hazard->event == EVENT_MC && !mce_available()) {
		print_head("cannot");
		print("nothing here raises a machine check\n");
		return;
	}
	if (hazard->storm && scheme->no_storm) {
		print_head("cannot");
		print("the kernel would not come back from it\n");
		return;
	}
	lab_cell.site = &lab_sites[scheme->form][hazard->place];
	lab_cell.other = &lab_sites[scheme->form][LAB_OTHER];
	lab_nmi_stub = hazard->where == AT_STI && !lab_timed_nmi_there() && !lab_no_events;
	if (scheme->entry)
		idt_set(VEC_BP, scheme->entry, 0);
	print("# lab begin %s %s\n", scheme->id, hazard->id);
	if (hazard->storm)
		lab_run_storm(n);
	else if (hazard->smp)
		lab_run_smp(n);
	else
		run_local(n);
	traps = lab_traps - traps;
	/* Where the trap itself is the hazard. */
	if (hazard->where == AT_NOWHERE && hazard->event == EVENT_NONE && !hazard->smp)
		lab_cell.hits = traps;
	if (hazard->cost)
		print_cost(n, lab_all_traps - all_traps, core_syncs() - syncs);
	else
		print_result(traps);
}

/* -------------------------------------------------------------------------- test */

/* name=ID,ID,... or name=all */
static bool wanted(const char *name, const char *id)
{
	return cmdline_lists(name, id) || cmdline_is(name, "all");
}

/* As at boot: another scheme may have changed them. */
static void reset_sites(enum lab_form form)
{
	for (unsigned place = 0; place < LAB_PLACES; place++) {
		uint8_t *insn = lab_sites[form][place].insn, bytes[6] = {0x2e};
		bool prefix = form == LAB_PREFIX;

		if (form == LAB_INDIRECT) {
			*(uintptr_t *)lab_sites[form][place].trampoline = lab_targets[0];
			continue;
		}

		if (lab_is_switch(form))
			lab_encode(bytes, 0xa9, insn, lab_targets[1]);
		else
			lab_encode(bytes + prefix, form == LAB_TRAMPOLINE ? 0xe9 : 0xe8,
				   insn + prefix, lab_targets[0]);
		port_write_text(insn, bytes, 5 + prefix);
	}
	core_sync();
}

static unsigned run_scheme(const struct lab_scheme *scheme, uint64_t n)
{
	unsigned cells = 0;

	lab_scheme = scheme;
	reset_sites(scheme->form);
	if (scheme->prepare)
		scheme->prepare();
	for (unsigned i = 0; i < ARRAY_SIZE(hazards); i++)
		if (wanted("hazard", hazards[i].id) && hazards[i].cet == !!read_ssp()) {
			run_cell(scheme, &hazards[i], n);
			cells++;
		}
	return cells;
}

static void test_lab(void)
{
	struct gate gate = idt_get(VEC_BP);
	uint64_t n = cmdline_number("n", 100);
	unsigned cells = 0;

	lab_no_events = cmdline_is("control", "no-event");
	lab_probe_init();
	lab_events_init();
	if (cmdline_has("timed-nmi"))
		lab_timed_nmi_init();
	for (const struct lab_scheme *const *s = __start_lab_schemes; s < __stop_lab_schemes; s++)
		if (wanted("scheme", (*s)->id))
			cells += run_scheme(*s, n);
	idt_restore(VEC_BP, gate);
	ok(cells, "lab: %u cells", cells);
}

KERNEL_TEST("lab", test_lab);
