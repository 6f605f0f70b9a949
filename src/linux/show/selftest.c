/* SPDX-License-Identifier: MIT */
/*
 * The self-test: a test case, exercised regularly, that actually runs the trap path
 * (asked for by Lutomirski, LKML 2019-04-29 [L3]). Sites of our own are poked in each
 * way that the policy may come to. By int3 they are run at the one moment when all their
 * int3 stand: in the commit, before and after what they emulate changes. So it traps
 * with certainty, in one thread.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/port.h>

#include "arch/arch.h"
#include "core/key.h"
#include "core/poke.h"
#include "core/site_table.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/show/selftest.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"

int shunt_selftest_1(void), shunt_selftest_2(void);
int shunt_selftest_call(void), shunt_selftest_jmp(void);
int shunt_selftest_jcc(void), shunt_selftest_nop(void), shunt_selftest_test(void);
extern uint8_t shunt_selftest_call_site[], shunt_selftest_jmp_site[];
extern uint8_t shunt_selftest_jcc_site[], shunt_selftest_nop_site[], shunt_selftest_test_site[];

struct form {
	const char *name;
	int (*run)(void);
	uint8_t *site;
	struct shunt_insn insn[2]; /* target left open */
};

#include "arch/selftest.h"

#define FORMS (sizeof(forms) / sizeof(forms[0]))

/* All guarded by the update lock, but that the handler reads value and table. */
static struct {
	struct shunt_table table;
	struct shunt_site sites[FORMS];
	_Atomic int value;      /* what the sites return: 1 or 2 */
	int from;               /* what they return while one way is tried, until its commit */
	bool traps;             /* this way does */
	bool flips;             /* or it is for what is switched by one byte alone */
	const char *wrong;      /* the form that did not, or did not trap */
	unsigned tried, worked; /* a bit for each of the ways below */
} test;

/* What all come to; and in the order in which a policy falls from one to the next. */
static const struct {
	enum shunt_way way;
	const char *name;
	const char *key; /* for the message */
} ways[] = {
	{SHUNT_WAY_FLIP, "flip", "(self-test, flip)"},
	{SHUNT_WAY_ALONE, "plain writes", "(self-test, plain writes)"},
	{SHUNT_WAY_REMAP, "remap", "(self-test, remap)"},
	{SHUNT_WAY_ATOMIC, "atomic", "(self-test, atomic)"},
	{SHUNT_WAY_INT3, "int3", "(self-test, int3)"},
};

#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void insn_for(size_t form, int value, struct shunt_insn *out)
{
	*out = forms[form].insn[value - 1];
	out->target = value == 1 && out->op != SHUNT_OP_TEST ? (uintptr_t)shunt_selftest_1
							     : (uintptr_t)shunt_selftest_2;
}

/* shunt_table.insn */
static bool current_insn(const struct shunt_table *table, const struct shunt_site *site,
			 struct shunt_insn *out)
{
	(void)table;
	insn_for(site->owner, atomic_load_explicit(&test.value, memory_order_acquire), out);
	return true;
}

/* Whether the form goes by the way that is tried: no other traps where it could be switched. */
static bool is_tried(size_t form)
{
	return !SHUNT_HAS_TRAPS || test.flips == (forms[form].insn[0].op == SHUNT_OP_TEST);
}

/* Run all sites; each must return the value, and with @trapping not without a trap. */
static void run_all(int value, bool trapping)
{
	for (size_t i = 0; i < FORMS; i++) {
		uint64_t before, after, late, foreign;

		if (!is_tried(i))
			continue;
		shunt_trap_counts(&before, &late, &foreign);
		if (forms[i].run() != value)
			test.wrong = forms[i].name;
		shunt_trap_counts(&after, &late, &foreign);
		if (trapping && after == before)
			test.wrong = forms[i].name;
	}
}

static int other(int value)
{
	return 3 - value;
}

static void commit(struct shunt_change *change)
{
	(void)change;
	if (test.traps)
		run_all(test.from, true);
	atomic_store_explicit(&test.value, other(test.from), memory_order_release);
	if (test.traps)
		run_all(other(test.from), true);
}

static void revert(struct shunt_change *change)
{
	(void)change;
	atomic_store_explicit(&test.value, test.from, memory_order_release);
}

static void encode(size_t form, int value, uint8_t bytes[SHUNT_SITE_MAX])
{
	uint8_t buf[SHUNT_INSN_MAX];
	struct shunt_insn insn;

	insn_for(form, value, &insn);
	if (shunt_insn_encode(&insn, (uintptr_t)forms[form].site, buf) > 0)
		memcpy(bytes, buf, insn.len);
}

static int by_address(const void *a, const void *b)
{
	const struct shunt_site *x = a, *y = b;

	return (x->off > y->off) - (x->off < y->off);
}

static void publish(void)
{
	uintptr_t base = (uintptr_t)forms[0].site & -0x100000ul;

	if (test.table.insn)
		return;
	for (size_t i = 0; i < FORMS; i++) {
		test.sites[i].off = (uint32_t)((uintptr_t)forms[i].site - base);
		test.sites[i].owner = (uint32_t)i;
	}
	qsort(test.sites, FORMS, sizeof(test.sites[0]), by_address);
	test.table.insn = current_insn;
	atomic_store(&test.value, 1);
	shunt_table_publish(&test.table, base, test.sites, FORMS);
}

/* One poke of all forms from the value they have to the other one. */
static int poke_all_forms(struct shunt_report *report)
{
	struct shunt_change change = {.commit = commit, .revert = revert};
	struct shunt_poke pokes[FORMS] = {0};
	int old = atomic_load(&test.value);
	size_t n = 0;

	test.from = old;
	for (size_t i = 0; i < FORMS; i++) {
		struct shunt_site *site = &test.sites[i];

		if (!is_tried(site->owner))
			continue;
		pokes[n].addr = forms[site->owner].site;
		pokes[n].site = site;
		pokes[n].len = forms[site->owner].insn[0].len;
		encode(site->owner, old, pokes[n].old);
		encode(site->owner, other(old), pokes[n].new);
		n++;
	}
	run_all(old, false);
	return shunt_poke_batch(pokes, n, &change, report);
}

/* To the other value, and back. */
static int try_way(enum shunt_way way, struct shunt_report *report)
{
	int ret;

	test.traps = way == SHUNT_WAY_INT3;
	test.flips = way == SHUNT_WAY_FLIP;
	shunt_force_way((int)way);
	ret = poke_all_forms(report);
	if (!ret)
		ret = poke_all_forms(report);
	shunt_force_way(SHUNT_ANY_WAY);
	if (!ret)
		run_all(1, false);
	if (!test.wrong)
		return ret;
	*report = (struct shunt_report){.key = report->key, .what = test.wrong};
	return -EIO;
}

static bool is_sigtrap_blocked(void)
{
	uint64_t mask = 0;

	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	return mask >> (SIGTRAP - 1) & 1;
}

/*
 * Each way that the policy may take; it works if one of them does, but not by flips alone, where
 * these are not for every change.
 */
static int try_all_ways(struct shunt_report *report)
{
	struct shunt_report failed = {0};
	const char *call = NULL; /* that failed in it */
	bool had_traps = shunt_traps_reach_us(), works = false;
	int ret = -ENOSYS;

	test.tried = test.worked = 0;
	for (size_t i = 0; i < WAYS; i++) {
		struct shunt_report this = {.key = ways[i].key};

		if (!shunt_way_is_allowed(ways[i].way))
			continue;
		ret = -EPERM;
		test.tried |= 1u << i;
		shunt_failed_call = NULL;
		this.what = "SIGTRAP is blocked in this thread";
		if (ways[i].way != SHUNT_WAY_INT3 || !is_sigtrap_blocked())
			ret = try_way(ways[i].way, &this);
		if (ret) {
			failed = this;
			call = shunt_failed_call;
		} else {
			test.worked |= 1u << i;
			works = works || ways[i].way != SHUNT_WAY_FLIP || !SHUNT_HAS_TRAPS;
		}
		if (ret == -EIO && test.wrong)
			break; /* it went wrong, which is worse than not at all */
	}
	if (!had_traps)
		(void)shunt_remove_handler();
	*report = failed;
	shunt_failed_call = call;
	return works && !test.wrong ? 0 : ret;
}

int shunt_selftest(void)
{
	struct shunt_report report = {.key = "(self-test)"};
	int ret = shunt_port_lock();

	if (ret) {
		report.what = ret == -EDEADLK ? "self-test within an update of the same thread"
					      : "take the update lock";
		return shunt_report_result(&report, ret);
	}
	publish();
	test.wrong = NULL;
	ret = try_all_ways(&report);
	shunt_port_unlock();
	return shunt_report_result(&report, ret);
}

/* Whether int3 is one of @which. */
static bool has_int3(unsigned which)
{
	for (size_t i = 0; i < WAYS; i++)
		if (ways[i].way == SHUNT_WAY_INT3)
			return which >> i & 1;
	return false;
}

static void add_ways(struct shunt_line *line, const char *what, unsigned which)
{
	const char *between = what;

	for (size_t i = 0; i < WAYS; i++)
		if (which >> i & 1) {
			shunt_append(line, "%s%s", between, ways[i].name);
			between = ", ";
		}
}

/* What int3 alone has is the trap path; other policies leave it out. */
static void tell_what_was_tried(int ret)
{
	char text[SHUNT_MESSAGE_MAX] = "";
	struct shunt_line line = {text, text + sizeof(text), 0};
	unsigned failed = test.tried & ~test.worked;

	if (!ret)
		shunt_append(&line, "self-test: ok%s",
			     has_int3(test.worked) ? ", the trap path works" : "");
	else
		shunt_append(&line, "self-test: %s",
			     has_int3(failed) ? "the trap path does not work here" : "failed");
	add_ways(&line, "; works: ", test.worked);
	add_ways(&line, "; does not work: ", failed);
	if (ret)
		shunt_message("%s", text);
	else
		shunt_note(text);
}

void shunt_selftest_at_start(void)
{
	static _Atomic bool done;

	if (shunt_environment_value(SHUNT_ENV_SELFTEST) != 1 || atomic_exchange(&done, true))
		return;
	tell_what_was_tried(shunt_selftest());
}
