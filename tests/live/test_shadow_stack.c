/* SPDX-License-Identifier: MIT */
/*
 * Threads with a user shadow stack, as far as that can be seen on a machine without: the
 * trap handler is made to believe that there is one (ld --wrap). Sites are left on an int3
 * by a poke that can go neither forward nor back, and every kind of site must work all the
 * same: branches as ever, calls by a real call and returns by a real return. Half of the stubs are
 * spared for these: a call in the middle of an update takes none of them. Controls: all
 * stubs are in use, and a call repeats its trap for ever; and without the belief, the call
 * is seen to be emulated.
 */
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "../common/left_on_int3.h"
#include "linux/trap/sigtrap.h"

#define STUBS 64

extern _Atomic uintptr_t shunt_shadow_slots[STUBS][2]; /* next, target */
extern const char shunt_shadow_stubs[];

/* -------------------------------------------------------------- taken for real */

static bool believes = true;

bool __wrap_shunt_has_shadow_stack(void);
bool __wrap_shunt_has_shadow_stack(void)
{
	return believes;
}

/* ------------------------------------------------------------------- the sites */

static __thread uintptr_t returns_to; /* where the last call of a function came from */
static size_t depth;

KEEP static long from_stack(long a, long b, long c, long d, long e, long f, long g, long h)
{
	returns_to = (uintptr_t)__builtin_return_address(0);
	return a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g + 8 * h;
}

KEEP static long other(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return from_stack(a, b, c, d, e, f, g, h) + 1;
}

DEFINE_STATIC_CALL(shadow_call, from_stack);

KEEP static long call_site(long x)
{
	return static_call(shadow_call)(x, 1, 1, 1, 1, 1, 1, 2) - 43;
}

KEEP static long tail_target(long x)
{
	return x + 1;
}

KEEP static long tail_other(long x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(shadow_tail, tail_target);

KEEP static long tail_site(long x)
{
	return static_call(shadow_tail)(x);
}

KEEP static void note(int *x)
{
	++*x;
}

DEFINE_STATIC_CALL_NULL(shadow_null, note);

/* With NULL a site in a tail position is a ret. */
KEEP static void null_site(int *x)
{
	static_call_cond(shadow_null)(x);
}

DEFINE_STATIC_CALL_RET0(shadow_zero, tail_target);

/* With something else in the register of the result. */
KEEP static long zero_site(long x)
{
	__asm__ volatile("" : : "a"(0x5a5a5a5al));
	return static_call(shadow_zero)(x) + 1;
}

DEFINE_STATIC_KEY_FALSE(shadow_key);

KEEP static int branch_site(void)
{
	return static_branch_unlikely(&shadow_key) ? 1 : 0;
}

/* Through the site again and again, each within the one before. */
KEEP static long descend(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return ++depth % 100 ? call_site(a + 1) : from_stack(a, b, c, d, e, f, g, h);
}

KEEP static long descend_other(long a, long b, long c, long d, long e, long f, long g, long h)
{
	return descend(a, b, c, d, e, f, g, h) + 0 * a;
}

static void *names[32];
static int nr_names;

KEEP static long look_back(long a, long b, long c, long d, long e, long f, long g, long h)
{
	nr_names = backtrace(names, 32);
	return from_stack(a, b, c, d, e, f, g, h);
}

/* Whether the last backtrace has an address in the first bytes of @function. */
static bool has_frame(long (*function)(long))
{
	for (int i = 0; i < nr_names; i++)
		if ((uintptr_t)names[i] - (uintptr_t)function < 96)
			return true;
	return false;
}

/* ------------------------------------------------------------------------ tests */

static bool is_in_stub(uintptr_t addr)
{
	return addr - (uintptr_t)shunt_shadow_stubs < (size_t)STUBS * 32;
}

/* An update to @ret's caller that can go neither forward nor back. */
static bool is_left(int ret)
{
	return ret == -EIO && strstr(shunt_last_error(), "left on a breakpoint");
}

static uint64_t traps(void)
{
	uint64_t emulated, late, foreign;

	shunt_trap_counts(&emulated, &late, &foreign);
	return emulated;
}

static void test_call(void)
{
	uint64_t before = traps();

	fails = true;
	ok(is_left(static_call_update(shadow_call, other)), "a call is left on an int3");
	ok(call_site(5) == 5 && traps() == before + 1, "it does the old call, by one trap");
	ok(is_in_stub(returns_to), "which is a real one");
	for (int i = 0; i < 1000; i++)
		if (call_site(i) != i)
			return (void)ok(false, "a thousand times");
	ok(traps() == before + 1001 && !shunt_shadow_slots[1][0], "a thousand times, by one stub");
	believes = false;
	ok(call_site(5) == 5 && !is_in_stub(returns_to), "control: else it is emulated");
	believes = true;
	fails = false;
	ok(static_call_update(shadow_call, other) == 0 && call_site(5) == 6, "it is mended");
	ok(!is_in_stub(returns_to) && traps() == before + 1002, "and traps no more");
}

static void test_within(void)
{
	ok(!static_call_update(shadow_call, descend), "a function that goes through the site");
	fails = true;
	ok(is_left(static_call_update(shadow_call, descend_other)), "is left on an int3");
	depth = 0;
	ok(call_site(0) == 99 - 43 * 99 && depth == 100, "a hundred calls, one within the other");
	fails = false;
	ok(!static_call_update(shadow_call, look_back), "a function that looks back");
	fails = true;
	ok(is_left(static_call_update(shadow_call, other)), "is left on an int3");
	ok(call_site(5) == 5 && has_frame(call_site), "it is unwound through the stub: %d frames",
	   nr_names);
	fails = false;
	ok(!static_call_update(shadow_call, from_stack) && call_site(5) == 5, "it is mended");
}

static void test_others(void)
{
	uint64_t before = traps();
	int x = 0;

	fails = true;
	ok(is_left(static_call_update(shadow_tail, tail_other)) && tail_site(1) == 2 &&
		   traps() == before + 1,
	   "a jmp works");
	ok(is_left(static_branch_enable(&shadow_key)) && !branch_site() && traps() == before + 2,
	   "a branch works");
	fails = false;
	ok(!static_call_update(shadow_tail, tail_target) && !static_branch_enable(&shadow_key) &&
		   branch_site(),
	   "they are mended");
	ok(!static_call_update(shadow_null, note) && (null_site(&x), x == 1) &&
		   !static_call_update(shadow_null, NULL),
	   "a site that is a ret");
	fails = true;
	ok(is_left(static_call_update(shadow_null, note)), "is left on an int3");
	before = traps();
	null_site(&x);
	ok(x == 1 && traps() == before + 1, "and returns");
	fails = false;
	ok(!static_call_update(shadow_null, note), "it is mended");
}

static void test_zero(void)
{
	uint64_t before = traps();

	ok(zero_site(7) == 1, "a call of RET0");
	fails = true;
	ok(is_left(static_call_update(shadow_zero, tail_target)), "is left on an int3");
	ok(zero_site(7) == 1 && traps() == before + 1, "and returns 0, by one trap");
	fails = false;
	ok(!static_call_update(shadow_zero, tail_target) && zero_site(7) == 9, "it is mended");
}

static _Atomic bool over;
static _Atomic long wrong, calls;

static void *hammer(void *arg)
{
	while (!atomic_load(&over)) {
		long x = call_site(5);

		if (x != 5 && x != 6)
			atomic_fetch_add(&wrong, 1);
		atomic_fetch_add(&calls, 1);
	}
	return arg;
}

/* Two threads, at the same stubs at the same time, while updates fail and work. */
static void test_threads(void)
{
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, hammer, NULL))
			abort();
	for (int i = 0; i < 400; i++) {
		long before = atomic_load(&calls);

		fails = i % 2;
		if (static_call_update(shadow_call, i / 2 % 2 ? from_stack : other) && !fails)
			atomic_fetch_add(&wrong, 1);
		while (atomic_load(&calls) < before + 10)
			(void)sched_yield();
	}
	fails = false;
	atomic_store(&over, true);
	for (int i = 0; i < 2; i++)
		(void)pthread_join(threads[i], NULL);
	ok(!wrong, "two threads, 400 updates, half of them fail: %ld calls, %ld wrong", (long)calls,
	   (long)wrong);
	ok(!static_call_update(shadow_call, from_stack), "it is mended");
}

static _Atomic bool may_call;
static _Atomic long called;

static void *call_within(void *arg)
{
	while (!atomic_load(&may_call))
		(void)sched_yield();
	atomic_store(&called, call_site(5));
	return arg;
}

/* Until the other thread has come to the site again and again, or has come through. */
static void let_it_call(void)
{
	uint64_t before = traps();

	behind_int3 = NULL;
	atomic_store(&may_call, true);
	for (long turns = 0; traps() < before + 10 && !atomic_load(&called) && turns < 10000000;
	     turns++)
		(void)sched_yield();
}

static size_t spares_in_use(void)
{
	size_t n = 0;

	for (int i = STUBS / 2; i < STUBS; i++)
		n += shunt_shadow_slots[i][0] != 0;
	return n;
}

/* In a child: the other half is in use. 0, or what is wrong. */
static int use_half(void)
{
	pthread_t thread;

	for (int i = 0; i < STUBS / 2; i++)
		shunt_shadow_slots[i][0] = 1;
	if (pthread_create(&thread, NULL, call_within, NULL))
		return 1;
	behind_int3 = let_it_call;
	if (static_call_update(shadow_call, other) || pthread_join(thread, NULL))
		return 2;
	if (behind_int3 || (called != 5 && called != 6) || spares_in_use())
		return 3;
	fails = true;
	if (!is_left(static_call_update(shadow_call, from_stack)) || call_site(5) != 6)
		return 4;
	return spares_in_use() == 1 ? 0 : 5;
}

__attribute__((unused)) static void test_spared(void)
{
	int status = -1;
	pid_t child;

	(void)fflush(stdout);
	child = fork();
	if (!child) {
		(void)alarm(30);
		_exit(use_half());
	}
	(void)waitpid(child, &status, 0);
	ok(!status, "half of the stubs are for what is left for good: %x", (unsigned)status);
}

/* In a child: all stubs are in use. */
__attribute__((unused)) static void test_control(void)
{
	int status = 0;
	pid_t child;

	(void)fflush(stdout);
	child = fork();
	if (!child) {
		for (int i = 0; i < STUBS; i++)
			shunt_shadow_slots[i][0] = 1;
		fails = true;
		if (!is_left(static_call_update(shadow_call, other)) || tail_site(1) != 2)
			_exit(1);
		(void)alarm(1);
		(void)call_site(5);
		_exit(0);
	}
	(void)waitpid(child, &status, 0);
	ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM,
	   "control: without a stub it repeats its trap for ever");
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	(void)backtrace(names, 32); /* which loads the unwinder */
	test_call();
	test_within();
	test_others();
	test_zero();
	test_threads();
#ifdef SUITE_TSAN
	skip("control", "its child of fork() does not come through ThreadSanitizer's runtime");
#else
	test_spared();
	test_control();
#endif
	return tap_done();
}
