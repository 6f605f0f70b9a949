/* SPDX-License-Identifier: MIT */
/*
 * The boot self-test: "a test case, exercised regularly (every boot if configured,
 * perhaps) that actually runs this code" (Lutomirski, LKML 2019-04-29 [L3]).
 *
 * Each kind of site is changed to and fro, and behind every core sync of the poke every CPU
 * goes through the site: in the first two it runs into the int3 and must come out of the trap
 * with the old effect, behind the third it must get the new one without a trap. With
 * interrupts on and off, with flags in several patterns (for conditions: all), it must find
 * every register, every flag, the stack pointer and the return address as a CPU that did not
 * trap would. What is only switched on and off is changed once more by flip: behind its one core
 * sync every CPU must get the new effect, and none may trap. Then a trap that comes when its poke
 * is over.
 *
 * The controls (spoil.c) are trap paths with one thing wrong: each must fail here.
 */
#include "selftest.h"

#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <stdatomic.h>

#include "core_sync.h"
#include "ftrace.h"
#include "hooks.h"
#include "kernel.h"
#include "selftest_linked.h"
#include "smp.h"
#include "spoil.h"

struct selftest_state {
	uint64_t flags, site, stack;
	uint64_t target, ret, sp, seen, behind;
	uint64_t regs[14];
};
_Static_assert(offsetof(struct selftest_state, regs) == STATE_REGS, "selftest.h");

/* selftest_sites.S */
void selftest_go(const void *site, struct selftest_state *state);
extern uint8_t selftest_go_ret[];
extern uint8_t selftest_call[], selftest_call_ret[], selftest_call_insn[];
extern uint8_t selftest_got_call[], selftest_got_call_ret[];
extern uint8_t selftest_ret0_call[], selftest_ret0_call_ret[];
extern uint8_t selftest_null_call[], selftest_null_call_ret[];
extern uint8_t selftest_tail[], selftest_got_tail[], selftest_ret0_tail[], selftest_null_tail[];
extern uint8_t selftest_slot_call[], selftest_slot_call_ret[], selftest_slot_call_insn[];
extern uint8_t selftest_slot_tail[];
extern uintptr_t selftest_slot; /* has the address of the trampoline */
extern uint8_t selftest_branch[], selftest_branch_jmp[], selftest_branch_short[];
extern uint8_t selftest_late[], selftest_late_int3[];
extern uint8_t selftest_jcc[16][16], selftest_condition[16][16];
long selftest_one(void);
long selftest_two(void);
void selftest_set_two(void);

DEFINE_STATIC_CALL(selftest_key, selftest_one);
DEFINE_STATIC_CALL(selftest_ret0, selftest_two);
DEFINE_STATIC_CALL_NULL(selftest_null, selftest_set_two);
DEFINE_STATIC_KEY_FALSE(selftest_switch);

static __attribute__((noinline)) long run_branch(void)
{
	return static_branch_unlikely(&selftest_switch) ? 2 : 1;
}

static __attribute__((noinline)) long run_likely_branch(void)
{
	return static_branch_likely(&selftest_switch) ? 2 : 1;
}

static int set_key(bool on)
{
	return static_call_update(selftest_key, on ? selftest_two : selftest_one);
}

static int set_ret0(bool on)
{
	return on ? static_call_update(selftest_ret0, STATIC_CALL_RET0)
		  : static_call_update(selftest_ret0, selftest_two);
}

static int set_null(bool on)
{
	return on ? static_call_update(selftest_null, selftest_set_two)
		  : static_call_update(selftest_null, (void (*)(void))NULL);
}

static int set_switch(bool on)
{
	return on ? static_branch_enable(&selftest_switch)
		  : static_branch_disable(&selftest_switch);
}

static int set_linked(uint8_t *insn, bool on)
{
	return on ? selftest_link(insn, &STATIC_CALL_KEY(selftest_key),
				  (uintptr_t)&STATIC_CALL_TRAMP(selftest_key),
				  (uintptr_t)&selftest_slot)
		  : selftest_unlink(insn);
}

static int set_slot_call(bool on)
{
	return set_linked(selftest_slot_call_insn, on);
}

static int set_slot_tail(bool on)
{
	return set_linked(selftest_slot_tail, on);
}

/* By CPU; 2: the callback was called, 1: it was not. */
static long traced[MAX_CPUS];

static void callback(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
	traced[this_cpu()->id] = 2;
}

long selftest_traced(void);
FTRACE_FUNCTION(selftest_traced);

long selftest_traced(void)
{
	return *(volatile long *)&traced[this_cpu()->id];
}

static long run_traced(void)
{
	traced[this_cpu()->id] = 1;
	return selftest_traced();
}

static int set_traced(bool on)
{
	static struct ftrace_ops ops = FTRACE_OPS(callback);
	int ret = ftrace_set_filter(&ops, "selftest_traced", 0, 1);

	if (ret)
		return ret;
	return on ? register_ftrace_function(&ops) : unregister_ftrace_function(&ops);
}

/* ------------------------------------------------------------------------- forms */

/* A site in assembly (@site), or in C (@run, which returns the number of a target). */
struct form {
	const char *name;
	const uint8_t *site, *ret; /* ret: where its call returns to; NULL: a tail call */
	long (*run)(void);
	int (*set)(bool on);
	/* Switching it on is the one poke: what the linker left becomes direct. */
	bool linked;
	uint8_t target[2]; /* while off, while on; 0: none */
	bool ret0;         /* while on: rax becomes 0 */
	bool flips;        /* in a batch with others its first byte alone changes: no int3 */
	int condition;     /* of a jcc; else -1 */
};

#define CALL(what, label, ...)                                                                \
	{                                                                                     \
		.name = what, .site = label, .ret = label##_ret, .condition = -1, __VA_ARGS__ \
	}
#define TAIL(what, label, ...)                                            \
	{                                                                 \
		.name = what, .site = label, .condition = -1, __VA_ARGS__ \
	}
#define RUN(what, function, ...)                                            \
	{                                                                   \
		.name = what, .run = function, .condition = -1, __VA_ARGS__ \
	}

static const struct form forms[] = {
	CALL("call", selftest_call, .set = set_key, .target = {1, 2}),
	CALL("call through the GOT", selftest_got_call, .set = set_key, .target = {1, 2}),
	TAIL("jmp, a tail call", selftest_tail, .set = set_key, .target = {1, 2}),
	TAIL("jmp through the GOT", selftest_got_tail, .set = set_key, .target = {1, 2}),
	CALL("call of RET0", selftest_ret0_call, .set = set_ret0, .target = {2, 0}, .ret0 = true),
	TAIL("tail call of RET0", selftest_ret0_tail, .set = set_ret0, .target = {2, 0},
	     .ret0 = true),
	CALL("call of NULL", selftest_null_call, .set = set_null, .target = {0, 2}),
	TAIL("tail call of NULL, a ret", selftest_null_tail, .set = set_null, .target = {0, 2}),
	CALL("call through a slot, not relaxed", selftest_slot_call, .set = set_slot_call,
	     .linked = true, .target = {1, 1}),
	TAIL("jmp through a slot, not relaxed", selftest_slot_tail, .set = set_slot_tail,
	     .linked = true, .target = {1, 1}),
	TAIL("static branch, a nop at first, in assembly", selftest_branch, .set = set_switch,
	     .target = {1, 2}),
	TAIL("static branch, a jmp at first, in assembly", selftest_branch_jmp, .set = set_switch,
	     .target = {1, 2}),
	TAIL("static branch of 2 bytes", selftest_branch_short, .set = set_switch,
	     .target = {1, 2}),
	RUN("static branch, off at first", run_branch, .set = set_switch, .target = {1, 2},
	    .flips = true),
	RUN("static branch, a jmp at first", run_likely_branch, .set = set_switch, .target = {1, 2},
	    .flips = true),
	RUN("function entry, traced", run_traced, .set = set_traced, .target = {1, 2}),
};

static const char *const conditions[] = {"jo", "jno", "jb", "jae", "je", "jne", "jbe", "ja",
					 "js", "jns", "jp", "jnp", "jl", "jge", "jle", "jg"};

static struct form jcc_form(int condition)
{
	return (struct form){.name = conditions[condition],
			     .site = selftest_jcc[condition],
			     .set = set_key,
			     .target = {1, 2},
			     .condition = condition};
}

/* ------------------------------------------------------------------------- calls */

static struct {
	const struct form *form;
	bool on;       /* what the site does now */
	bool all;      /* with all patterns of flags */
	unsigned sync; /* 0: no poke */
	_Atomic uint64_t calls, wrong, all_calls;
} now;

/* One of 64 patterns of the six flags of arithmetic. */
static uint64_t flags_of(unsigned pattern)
{
	return (pattern & 1 ? RFLAGS_CF : 0) | (pattern & 2 ? RFLAGS_PF : 0) |
	       (pattern & 4 ? RFLAGS_AF : 0) | (pattern & 8 ? RFLAGS_ZF : 0) |
	       (pattern & 16 ? RFLAGS_SF : 0) | (pattern & 32 ? RFLAGS_OF : 0);
}

/* What the CPU itself says. */
static bool holds(int condition, uint64_t flags)
{
	uint64_t (*ask)(uint64_t flags, uint64_t behind) =
		(uint64_t(*)(uint64_t, uint64_t))(uintptr_t)selftest_condition[condition];

	return ask(flags & ~RFLAGS_IF, irqs_on() ? RFLAGS_ONE | RFLAGS_IF : RFLAGS_ONE);
}

static unsigned expected_target(uint64_t flags)
{
	const struct form *form = now.form;

	if (form->condition >= 0 && !holds(form->condition, flags))
		return 0;
	return form->target[now.on];
}

static const char *wrong_registers(const struct selftest_state *state)
{
	for (unsigned i = 0; i < ARRAY_SIZE(state->regs); i++) {
		uint64_t value = i == 0 && now.form->ret0 && now.on ? 0 : 0x2200 + i;

		if (state->regs[i] != value)
			return i ? "a register" : "rax";
	}
	return NULL;
}

/* What is wrong with a call; NULL: nothing. */
static const char *wrong(const struct selftest_state *state)
{
	const struct form *form = now.form;
	unsigned target = expected_target(state->flags);
	/* What makes 0 of rax changes flags of arithmetic, and may; so may a call that is off. */
	bool is_off = form->ret && form->condition < 0 && !form->target[now.on];
	uint64_t may_change = is_off || (form->ret0 && now.on) ? RFLAGS_ARITH : 0;

	if (state->target != target)
		return "the target";
	if ((state->behind ^ state->flags) & ~may_change)
		return "the flags";
	if (target && state->ret != (uintptr_t)(form->ret ? form->ret : selftest_go_ret))
		return "the return address";
	if (target && state->sp != state->stack - (form->ret ? 16 : 0))
		return "the stack pointer";
	if (target && state->seen != state->flags)
		return "the flags at the target";
	return wrong_registers(state);
}

static void report(const char *what, uint64_t flags)
{
	if (now.wrong++)
		return;
	print("# %s, CPU %u, %s, sync %u: %s, with flags %lx\n", now.form->name, this_cpu()->id,
	      now.on ? "on" : "off", now.sync, what, flags);
}

static void go(uint64_t flags)
{
	struct selftest_state state = {.flags = flags | RFLAGS_ONE};
	const char *what;

	now.calls++;
	selftest_go(now.form->site, &state);
	what = wrong(&state);
	if (what)
		report(what, state.flags);
}

static void run(bool irqs)
{
	now.calls++;
	if (now.form->run() != now.form->target[now.on])
		report("the way", 0);
	if (irqs_on() != irqs)
		report("interrupts are not as before", 0);
}

/* On each CPU: with interrupts on, and off. */
static void look_here(void *arg)
{
	unsigned step = now.all ? 1 : 21; /* 21: none, some, others, all of the flags */

	(void)arg;
	if (now.form->run) {
		run(true);
		irq_disable();
		run(false);
		irq_enable();
		return;
	}
	for (unsigned pattern = 0; pattern < 64; pattern += step) {
		go(flags_of(pattern) | RFLAGS_IF);
		irq_disable();
		go(flags_of(pattern));
		irq_enable();
	}
}

static void look_everywhere(bool traps)
{
	uint64_t before = test_traps().emulated, taken;

	now.calls = 0;
	smp_run(look_here, NULL);
	now.all_calls += now.calls;
	taken = test_traps().emulated - before;
	if (taken != (traps ? now.calls : 0))
		report("the number of traps", taken);
}

/* --------------------------------------------------------------------------- turns */

/* How often each CPU had been asked to serialise, and had been interrupted for it. */
static uint64_t syncs_before, interrupts_before[MAX_CPUS];

static void remember_syncs(void)
{
	syncs_before = core_syncs();
	for (unsigned i = 0; i < nr_cpus; i++)
		interrupts_before[i] = cpus[i].taken[VEC_SYNC];
}

/* Every other CPU has been interrupted, and has answered. */
static void check_sync(unsigned nr)
{
	if (core_syncs() < syncs_before + nr)
		report("a core sync that was none", 0);
	for (unsigned i = 0; i < nr_cpus; i++)
		if (&cpus[i] != this_cpu() && (cpus[i].synced < syncs_before + nr ||
					       cpus[i].taken[VEC_SYNC] < interrupts_before[i] + nr))
			report("a CPU that has not answered a core sync", i);
}

/* Core syncs in a poke: by int3, without one behind the tails where no tail changes. */
static unsigned syncs_of_poke(void)
{
	if (test_hooks.way == SHUNT_WAY_FLIP)
		return 1;
	return test_hooks.flips ? 2 : 3;
}

/* In a poke, behind core sync @nr. */
static void look(unsigned nr)
{
	bool last = nr == syncs_of_poke();

	now.sync = nr;
	check_sync(nr);
	now.on ^= last;
	look_everywhere(!last && !now.form->flips);
}

/* Switch the form, and look on. */
static void turn(const struct form *form, bool on)
{
	int ret;

	now.form = form;
	now.on = !on;
	now.all = form->condition >= 0 && on;
	now.sync = 0;
	remember_syncs();
	test_hooks.on_sync = look;
	ret = form->set(on);
	test_hooks.on_sync = NULL;
	if (ret)
		report("an error of the update", (uint64_t)-ret);
	if (now.sync != syncs_of_poke())
		report("the number of core syncs", now.sync);
	now.sync = 0;
	look_everywhere(false);
}

/* A trap of selftest_call whose handler runs when the poke is over: it must go back to the site. */
static void late_trap(void)
{
	static const struct form late = {.name = "a late trap",
					 .site = selftest_late,
					 .ret = selftest_call_ret,
					 .target = {1, 2},
					 .condition = -1};
	uint64_t before = test_traps().late;

	now.form = &late;
	now.on = false;
	test_hooks.late_from = (uintptr_t)selftest_late_int3;
	test_hooks.late_to = (uintptr_t)selftest_call_insn + 1;
	go(RFLAGS_IF | RFLAGS_CF | RFLAGS_ZF);
	test_hooks.late_from = 0;
	if (test_traps().late != before + 1)
		report("the number of late traps", test_traps().late - before);
}

static void check(const char *name, uint64_t before, bool quiet)
{
	bool good = now.wrong == before;

	if (!good || !quiet)
		ok(good, "selftest: %s", name);
}

/* What is only switched on and off. */
static void turn_by_flip(const struct form *form)
{
	uint64_t flips = test_pokes(SHUNT_WAY_FLIP);

	turn(form, true);
	turn(form, false);
	if (test_pokes(SHUNT_WAY_FLIP) != flips + 2)
		report("a change that was no flip", test_hooks.way);
}

static void test_form(const struct form *form, bool quiet)
{
	uint64_t before = now.wrong;

	test_hooks.no_flips = true;
	turn(form, true);
	if (form->linked)
		form->set(false);
	else
		turn(form, false);
	test_hooks.no_flips = false;
	if (test_hooks.flips && !form->linked)
		turn_by_flip(form);
	check(form->name, before, quiet);
	now.wrong = 0;
}

void selftest(bool quiet)
{
	spoil_by_name();
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++)
		test_form(&forms[i], quiet);
	for (int condition = 0; condition < 16; condition++) {
		struct form form = jcc_form(condition);

		test_form(&form, quiet);
	}
	late_trap();
	check("a late trap", 0, quiet);
	print("# selftest: %lu calls through %lu sites on %u CPUs\n", now.all_calls,
	      ARRAY_SIZE(forms) + 16, nr_cpus);
}
