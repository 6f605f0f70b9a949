/* SPDX-License-Identifier: MIT */
/*
 * Who updates again and again has the update lock before one that it has woken runs: that one gets
 * it all the same, by static_call_update() as by dlopen(). Here each that is woken is too late by
 * a wrapper: it goes on when the other is in its next update. It may be killed while the others
 * let it go first: they wait for a moment then, once.
 *
 * Control (SHUNT_CONTROL=unfair): nobody is told that it has come too late.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/thread_state.h"
#include "linux/base/base.h"

#define UPDATES 300    /* of which the other one waits for some ten */
#define TURNS   100000 /* then a wait is given up */

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __real_shunt_block_signals(uint64_t *mask);
int __wrap_shunt_block_signals(uint64_t *mask);

KEEP static int one(void)
{
	return 1;
}

KEEP static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(first, one);
DEFINE_STATIC_CALL(second, one);

static const char *plugin;
static bool is_unfair;

static struct {
	_Atomic pid_t updater, other; /* 0: there is none */
	_Atomic bool inside, is_done;
	_Atomic unsigned late, given_up;
} run;

static __thread pid_t self;

/* Of the other one, with the lock. */
static bool sleeps(_Atomic pid_t *tid)
{
	return *tid && thread_sleeps(*tid);
}

/* The lock is held: until the other one sleeps on it. */
int __wrap_shunt_port_core_sync(void)
{
	unsigned turns = 0;

	if (self && self == run.updater) {
		run.inside = true;
		while (!run.is_done && !sleeps(&run.other) && ++turns < TURNS)
			(void)sched_yield();
		run.given_up += turns == TURNS;
		run.inside = false;
	}
	return __real_shunt_port_core_sync();
}

/* What one does that is woken: until the lock is held again, or its owner lets this one go first.
 */
int __wrap_shunt_block_signals(uint64_t *mask)
{
	unsigned turns = 0;

	if (self && self == run.other) {
		if (is_unfair)
			shunt_process()->starving = 0;
		while (run.updater && !run.inside && (is_unfair || !sleeps(&run.updater)) &&
		       ++turns < TURNS)
			(void)sched_yield();
		run.given_up += turns == TURNS;
		run.late++;
	}
	return __real_shunt_block_signals(mask);
}

/* ------------------------------------------------------------------ the other one */

static int update_second(void)
{
	return static_call_update(second, two);
}

static int open_library(void)
{
	return dlopen(plugin, RTLD_NOW) ? 0 : -1;
}

static void *be_other(void *arg)
{
	int (*const *act)(void) = arg;
	int ret;

	self = (pid_t)syscall(SYS_gettid);
	run.other = self;
	ret = (*act)();
	run.is_done = true;
	return (void *)(intptr_t)ret;
}

static void test_gets_it(const char *name, int (*act)(void))
{
	unsigned n = 0;
	bool got;
	pthread_t thread;
	void *ret;

	run.updater = self;
	run.is_done = run.inside = false;
	run.late = run.given_up = 0;
	if (pthread_create(&thread, NULL, be_other, &act))
		abort();
	while (!run.other)
		(void)sched_yield();
	for (; n < UPDATES && !run.is_done; n++)
		if (static_call_update(first, n % 2 ? one : two))
			abort();
	got = run.is_done;
	run.updater = 0; /* it goes on */
	(void)pthread_join(thread, &ret);
	run.other = 0;
	ok(got && !ret && run.late > 4 && !run.given_up,
	   "%s beside updates back to back (%u updates, woken too late %u times, %u waits given "
	   "up)",
	   name, n, run.late, run.given_up);
}

/* ------------------------------------------------------------------- one that has gone */

static void test_gone(void)
{
	struct timespec begin, end;
	long waited = 0;

	shunt_process()->starving = 1; /* by one that has been killed since */
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < 2; i++)
		waited += static_call_update(first, i ? one : two);
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	ok(!waited && !shunt_process()->starving && end.tv_sec - begin.tv_sec < 10,
	   "one that was to go first has been killed: who comes waits for a moment, once");
}

int main(int argc, char **argv)
{
	const char *control = getenv("SHUNT_CONTROL");

	plugin = argc > 1 ? argv[1] : "";
	is_unfair = control && !strcmp(control, "unfair");
	shunt_set_log(NULL, NULL);
	self = (pid_t)syscall(SYS_gettid);
	if (static_call(first)() + static_call(second)() != 2)
		abort();
	test_gets_it("an update", update_second);
	test_gets_it("dlopen()", open_library);
	test_gone();
	return tap_done();
}
