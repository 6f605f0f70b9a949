/* SPDX-License-Identifier: MIT */
/*
 * The self-test: functions of each kind of entry that this program was compiled with are traced,
 * and each call is counted; while a second thread calls them, they are switched on and off.
 */
#include "selftest_parts.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>

#include <shunt/ftrace.h>

#include "shunt.h"

long selftest_traced_patchable(long x);
long selftest_traced_fentry(long x);
long selftest_traced_xray(long x);
long selftest_traced_instrument(long x);

const struct traced traced[] = {
#ifdef SELFTEST_PATCHABLE
	{"trace-patchable", "selftest_traced_patchable", selftest_traced_patchable},
#endif
#ifdef SELFTEST_FENTRY
	{"trace-fentry", "selftest_traced_fentry", selftest_traced_fentry},
#endif
#ifdef SELFTEST_XRAY
	{"trace-xray", "selftest_traced_xray", selftest_traced_xray},
#endif
#ifdef SELFTEST_INSTRUMENT
	{"trace-instrument", "selftest_traced_instrument", selftest_traced_instrument},
#endif
	{NULL, NULL, NULL},
};

enum { CALLS = 1000, SWITCHES = 50 };

/* Of one thread each: how often it was called back. */
static __thread unsigned long counted __attribute__((tls_model("initial-exec")));

static SHUNT_GENERAL_REGS void count(unsigned long ip, unsigned long parent_ip,
				     struct ftrace_ops *ops, struct ftrace_regs *fregs)
{
	(void)ip;
	(void)parent_ip;
	(void)ops;
	(void)fregs;
	counted++;
}

static struct ftrace_ops ops = {.func = count, .flags = SHUNT_FTRACE_GENERAL_REGS},
			 stays = {.func = count, .flags = SHUNT_FTRACE_GENERAL_REGS};

/* Calls that came back wrong; how many there were. */
static unsigned long wrong_calls(const struct traced *t, unsigned long n)
{
	unsigned long wrong = 0;

	for (unsigned long i = 0; i < n; i++)
		wrong += t->run(X) != X + 1;
	return wrong;
}

/* ------------------------------------------------------------- the second thread */

static struct {
	const struct traced *traced;
	_Atomic bool stop;
	_Atomic unsigned long calls;
	unsigned long wrong, missed; /* missed: not seen by the ops that stay */
} caller;

static void *call_all_the_time(void *unused)
{
	while (!atomic_load(&caller.stop)) {
		unsigned long before = counted;

		caller.wrong += wrong_calls(caller.traced, 1);
		caller.missed += counted - before < 1;
		caller.calls++;
	}
	return unused;
}

static int switch_beside(void)
{
	pthread_t thread;
	int ret = -pthread_create(&thread, NULL, call_all_the_time, NULL);

	if (ret)
		return ret;
	while (!atomic_load(&caller.calls))
		(void)sched_yield();
	for (int i = 0; i < SWITCHES && !ret; i++) {
		ret = register_ftrace_function(&ops);
		if (!ret)
			ret = unregister_ftrace_function(&ops);
	}
	atomic_store(&caller.stop, true);
	(void)pthread_join(thread, NULL);
	return ret;
}

/* ------------------------------------------------------------------- one function */

/* Switched on, called, and off: NULL, or what is wrong. */
static const char *try_alone(const struct traced *t)
{
	if (ftrace_set_filter(&ops, t->function, 0, 1) || register_ftrace_function(&ops))
		return shunt_last_error();
	if (wrong_calls(t, CALLS))
		return "wrong result while it is traced";
	if (counted != CALLS)
		return counted < CALLS ? "calls were not traced"
				       : "calls were traced more than once";
	if (unregister_ftrace_function(&ops))
		return shunt_last_error();
	if (wrong_calls(t, CALLS))
		return "wrong result behind it";
	return counted == CALLS ? NULL : "calls were traced behind unregister";
}

static const char *try_beside(const struct traced *t)
{
	caller.traced = t;
	if (ftrace_set_filter(&stays, t->function, 0, 1) || register_ftrace_function(&stays) ||
	    switch_beside() || unregister_ftrace_function(&stays))
		return shunt_last_error();
	return caller.wrong    ? "wrong result while others come and go"
	       : caller.missed ? "calls were skipped while others come and go"
			       : NULL;
}

void try_traced(struct report *r, const struct attempt *a)
{
	const struct traced *t = a->what;
	const char *why = try_alone(t);

	if (!why)
		why = try_beside(t);
	if (why)
		report_line(r, "MISSING", t->name, "%s", *why ? why : "no reason is known");
	else
		report_line(
			r, "ok", t->name,
			"%d calls, each traced once; %d switches under %lu call%s, none skipped",
			CALLS, 2 * SWITCHES, caller.calls, tool_plural(caller.calls));
}
