/* SPDX-License-Identifier: MIT */
/*
 * The boot self-test: "a test case, exercised regularly (every boot if configured,
 * perhaps) that actually runs this code" (Lutomirski, LKML 2019-04-29 [L3]). Each kind of site
 * is changed to and fro, and behind every core sync of the poke this CPU goes through the site:
 * in the first two it runs into the int3 and must come out of the trap with the old effect,
 * behind the third it must get the new one without a trap.
 */
#include "selftest.h"

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "ftrace.h"
#include "kernel.h"
#include "port.h"

/* selftest_sites.S; each returns what the function that it reaches returns. */
long selftest_call(void);
long selftest_tail(void);
long selftest_jcc(void);
long selftest_jcc_not_taken(void);
long selftest_ret0_call(void);
long selftest_ret0_tail(void);
long selftest_null_call(void);
long selftest_null_tail(void);
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

/* 2: the callback was called, 1: it was not. */
static long traced;

static void callback(uintptr_t ip, uintptr_t parent_ip, struct ftrace_ops *ops,
		     struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)regs;
	traced = 2;
}

long selftest_traced(void);
FTRACE_FUNCTION(selftest_traced);

long selftest_traced(void)
{
	return *(volatile long *)&traced;
}

static long run_traced(void)
{
	traced = 1;
	return selftest_traced();
}

static int set_traced(bool on)
{
	static struct ftrace_ops ops = {.func = callback};
	int ret = ftrace_set_filter(&ops, "selftest_traced");

	if (ret)
		return ret;
	return on ? ftrace_register(&ops) : ftrace_unregister(&ops);
}

struct form {
	const char *name;
	long (*run)(void);
	int (*set)(bool on);
	long result[2]; /* while off, while on */
};

/* (7 is what the caller of a NULL key has in rax.) */
static const struct form forms[] = {
	{"call", selftest_call, set_key, {1, 2}},
	{"jmp, a tail call", selftest_tail, set_key, {1, 2}},
	{"jcc, taken", selftest_jcc, set_key, {1, 2}},
	{"jcc, not taken", selftest_jcc_not_taken, set_key, {7, 7}},
	{"call of RET0", selftest_ret0_call, set_ret0, {2, 0}},
	{"tail call of RET0", selftest_ret0_tail, set_ret0, {2, 0}},
	{"call of NULL, a nop", selftest_null_call, set_null, {7, 2}},
	{"tail call of NULL, a ret", selftest_null_tail, set_null, {7, 2}},
	{"static branch, a nop at first", run_branch, set_switch, {1, 2}},
	{"static branch, a jmp at first", run_likely_branch, set_switch, {1, 2}},
	{"function entry, traced", run_traced, set_traced, {1, 2}},
};

/* What was seen behind each core sync. */
static struct {
	const struct form *form;
	unsigned syncs;
	struct {
		long result;
		uint64_t traps;
	} at[3];
} seen;

static void look(unsigned nr)
{
	uint64_t before = port_traps().emulated;

	seen.syncs = nr;
	if (nr > ARRAY_SIZE(seen.at))
		return;
	seen.at[nr - 1].result = seen.form->run();
	seen.at[nr - 1].traps = port_traps().emulated - before;
}

/* Switch the form, and say whether every step was right. */
static bool turn(const struct form *form, bool on)
{
	long from = form->result[!on], to = form->result[on];
	bool good;
	int ret;

	seen.form = form;
	seen.syncs = 0;
	port_test.on_sync = look;
	ret = form->set(on);
	port_test.on_sync = NULL;
	good = !ret && seen.syncs == 3 && form->run() == to;
	for (unsigned i = 0; i < 3; i++)
		good = good && seen.at[i].result == (i < 2 ? from : to) &&
		       seen.at[i].traps == (i < 2);
	if (!good)
		for (unsigned i = 0; i < 3; i++)
			print("# %s %s: error %d, sync %u of %u: result %ld, %lu traps\n",
			      form->name, on ? "on" : "off", ret, i + 1, seen.syncs,
			      seen.at[i].result, seen.at[i].traps);
	return good;
}

void selftest(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		bool good = forms[i].run() == forms[i].result[0];

		good = turn(&forms[i], true) && good;
		good = turn(&forms[i], false) && good;
		ok(good, "selftest: %s", forms[i].name);
	}
}
