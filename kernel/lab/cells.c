/* SPDX-License-Identifier: MIT */
/*
 * The laboratory's table: every scheme against every hazard, one line a cell.
 *
 * Most cells need one CPU. It updates the site; in the midst of the poke, with the int3
 * in place, it goes through the site itself, as one that is hit there would. The event
 * and what its handler does are the hazard's (events.c). Two threads, each with a stack,
 * stand for a scheduler: "preempted" means that the one lies in an interrupt while the
 * other goes on.
 */
#include "hazards.h"

#include "../cet.h"
#include "../machine_check.h"

extern const struct lab_scheme *const __start_lab_schemes[], *const __stop_lab_schemes[];

static const struct lab_hazard hazards[] = {
	{.id = "irqs-on", .where = AT_TRAP, .event = EVENT_IRQ},
	{.id = "irqs-off", .irqs_off = true},
	{.id = "registers", .registers = true},
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
	{.id = "line", .smp = true, .place = LAB_LINE},
	{.id = "page", .smp = true, .place = LAB_PAGE},
	{.id = "storm", .smp = true, .storm = true, .place = LAB_LINE},
	{.id = "shadow-storm", .smp = true, .storm = true, .cet = true, .place = LAB_LINE},
	{.id = "shadow-stack", .cet = true},
	{.id = "shadow-irq", .where = AT_TRAP, .event = EVENT_IRQ, .action = ACT_CALL, .cet = true},
};

struct lab_cell lab_cell;

bool lab_is_bad(unsigned result, unsigned a, unsigned b)
{
	if (result == LAB_REGISTERS)
		return lab_cell.hazard->registers;
	return result != LAB_GOOD + a && result != LAB_GOOD + b;
}

void lab_count(unsigned result, unsigned a, unsigned b)
{
	lab_cell.calls++;
	if (!lab_is_bad(result, a, b))
		return;
	if (!lab_cell.bad++) {
		lab_cell.how = result >= LAB_GOOD ? LAB_WRONG_TARGET : result;
		lab_cell.first_bad = lab_cell.calls;
	}
}

/* ------------------------------------------------------------------- two threads */

static uint8_t caller_stack[32768] __attribute__((aligned(16)));
static uint64_t caller_sp, main_sp;
static bool caller_done;
static unsigned caller_result;

static void caller(void)
{
	for (;;) {
		caller_result = lab_go(lab_cell.site);
		lab_call_ends();
		caller_done = true;
		lab_switch(&caller_sp, main_sp);
	}
}

static void caller_init(void)
{
	uint64_t *sp = (uint64_t *)(caller_stack + sizeof(caller_stack)) - 1;

	*--sp = (uintptr_t)caller;
	for (unsigned i = 0; i < 6; i++)
		*--sp = 0;
	*--sp = 0x202; /* rflags: interrupts on */
	caller_sp = (uintptr_t)sp;
}

void lab_preempt(void)
{
	lab_switch(&caller_sp, main_sp);
}

static void run_caller(void)
{
	lab_switch(&main_sp, caller_sp);
}

/* ------------------------------------------------------------- cells on one CPU */

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
	bool off = lab_cell.hazard->irqs_off || (lab_cell.hazard->cet && turn & 1);
	unsigned result;

	if (off)
		irq_disable();
	lab_call_begins(turn);
	result = lab_go(lab_cell.site);
	lab_call_ends();
	if (off)
		irq_enable();
	lab_count(result, old_target(), new_target());
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
		run_caller();
	} else {
		go_once();
	}
}

/* The second poke, with a thread of its own that traps. */
static void go_through_other(unsigned sync)
{
	unsigned result;

	if (sync != 1)
		return;
	result = lab_go(lab_cell.other);
	if (lab_is_bad(result, 2, 3) && !lab_cell.bad_other++)
		lab_cell.how_other = result;
}

/* A second poke of the same site, and the thread goes on when that is written in part. */
static void go_on_between_bytes(unsigned sync)
{
	if ((sync == 0 || sync == 2) && !caller_done)
		run_caller();
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
	if (caller_result == LAB_GOOD + 2 + new_target())
		caller_result = LAB_GOOD + new_target();
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
		run_caller();
	lab_count(caller_result, old_target(), new_target());
}

static void one_turn(void)
{
	struct lab_change both[] = {change(lab_cell.site, new_target()),
				    change(lab_cell.other, 2 + new_target())};
	bool preempt = lab_cell.hazard->action == ACT_PREEMPT;

	gone = false;
	lab_on_step = go_in_poke;
	lab_scheme->update(both, preempt ? 1 : 2);
	if (gone && preempt)
		second_poke();
	lab_on_step = NULL;
	/* And behind it: the new one and no other. */
	lab_count(lab_go(lab_cell.site), new_target(), new_target());
}

static void run_local(uint64_t n)
{
	struct lab_change start[] = {change(lab_cell.site, 0), change(lab_cell.other, 2)};

	caller_init();
	lab_on_step = NULL;
	lab_scheme->update(start, 2);
	for (turn = 0; turn < n; turn++)
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
	if (c->in_shadow)
		print(", %lu in the shadow", c->in_shadow);
	if (c->in_stub)
		print(", %lu in the stub", c->in_stub);
	if (c->at_target)
		print(", %lu at the target", c->at_target);
	print(", %lu traps\n", traps);
}

static void print_failure(uint64_t traps)
{
	const struct lab_cell *c = &lab_cell;

	print("# lab %s %s fails: ", lab_scheme->id, c->hazard->id);
	if (c->bad)
		print("%s, %lu of %lu calls, first in call %lu", lab_result_name(c->how), c->bad,
		      c->calls, c->first_bad);
	if (c->bad_other)
		print("%sin the handler's own call: %s, %lu times", c->bad ? "; " : "",
		      lab_result_name(c->how_other), c->bad_other);
	if (c->early)
		print("%s%lu interrupts while they were off", c->bad || c->bad_other ? "; " : "",
		      c->early);
	print("; ");
	print_hits(traps);
}

static void print_result(uint64_t traps)
{
	const struct lab_cell *c = &lab_cell;

	if (c->bad || c->bad_other || c->early) {
		print_failure(traps);
	} else if (!lab_scheme->entry && !c->hazard->smp) {
		print_head("survives");
		print("it never traps, %lu calls\n", c->calls);
	} else if (!c->hits && c->hazard->event == EVENT_NMI) {
		print_head("cannot");
		print("the emulator holds back an NMI in the shadow of sti, %lu traps\n", traps);
	} else if (!c->hits) {
		print_head("unseen");
		print("the hazard was never hit in %lu traps\n", traps);
	} else {
		print_head("survives");
		print_hits(traps);
	}
}

static void run_cell(const struct lab_scheme *scheme, const struct lab_hazard *hazard, uint64_t n)
{
	uint64_t traps = lab_traps;

	lab_scheme = scheme;
	memset(&lab_cell, 0, sizeof(lab_cell));
	lab_cell.hazard = hazard;
	if (hazard->event == EVENT_MC && !mce_available()) {
		print_head("cannot");
		print("nothing here raises a machine check, 0 traps\n");
		return;
	}
	lab_cell.site = &lab_sites[scheme->form][hazard->place];
	lab_cell.other = &lab_sites[scheme->form][LAB_OTHER];
	lab_nmi_stub = hazard->where == AT_STI;
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
	if (hazard->where == AT_NOWHERE && !hazard->smp)
		lab_cell.hits = traps;
	print_result(traps);
}

/* -------------------------------------------------------------------------- test */

/* name=ID, as often as you like, or name=all. */
static bool wanted(const char *name, const char *id)
{
	return cmdline_is(name, id) || cmdline_is(name, "all");
}

/* As at boot: another scheme may have changed them. */
static void reset_sites(enum lab_form form)
{
	for (unsigned place = 0; place < LAB_PLACES; place++) {
		uint8_t *insn = lab_sites[form][place].insn, bytes[6] = {0x2e};
		bool prefix = form == LAB_PREFIX;

		lab_encode(bytes + prefix, form == LAB_TRAMPOLINE ? 0xe9 : 0xe8, insn + prefix,
			   lab_targets[0]);
		port_write_text(insn, bytes, 5 + prefix);
	}
	port_sync_cores();
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

	lab_probe_init();
	lab_events_init();
	for (const struct lab_scheme *const *s = __start_lab_schemes; s < __stop_lab_schemes; s++)
		if (wanted("scheme", (*s)->id))
			cells += run_scheme(*s, n);
	idt_restore(VEC_BP, gate);
	ok(cells, "lab: %u cells", cells);
}

KERNEL_TEST("lab", test_lab);
