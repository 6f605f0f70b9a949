/* SPDX-License-Identifier: MIT */
/*
 * An update within an update of the same thread is refused and never waits for itself, be
 * the lock its alone, or be there others that sleep on it: those get it afterwards. What is
 * within is what a signal handler or a callback would be: a wrapper of the core sync. A call by
 * a site that is being poked, as where the program has put one into a function that updates
 * use, is emulated there too (control: SIGTRAP blocked, as other signals are, kills), and
 * behind an update the thread's signal mask is what it was. What a failed update tells is its own
 * failed call, whatever was refused within, and that tells none.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "../common/site_code.h"
#include "../common/thread_state.h"
#include "linux/base/base.h"

#define WAITERS 3

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

KEEP static int one(int x)
{
	return x + 1;
}

KEEP static int two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(held, one);
DEFINE_STATIC_CALL(other, one);
DEFINE_STATIC_KEY_FALSE(branch);

KEEP static int call_held(int x)
{
	return static_call(held)(x);
}

KEEP static int call_other(int x)
{
	return static_call(other)(x) + (static_branch_unlikely(&branch) ? 100 : 0);
}

/* ------------------------------------------------------------------- the others */

static struct {
	_Atomic pid_t tid[WAITERS];
	_Atomic int ret[WAITERS];
} waiter;

static void *update_other(void *arg)
{
	size_t i = (size_t)arg;

	waiter.tid[i] = (pid_t)syscall(SYS_gettid);
	waiter.ret[i] = static_call_update(other, two);
	return NULL;
}

static bool all_sleep(size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (unsigned turn = 0; !waiter.tid[i] || !thread_sleeps(waiter.tid[i]); turn++) {
			if (turn == 100000)
				return false;
			(void)sched_yield();
		}
	return true;
}

/* --------------------------------------------------------- in the middle of an update */

static struct {
	size_t waiters; /* that are to sleep on the lock */
	bool armed, asleep;
	pthread_t thread[WAITERS];
	int call, again, key, poke;
	long sleeps; /* of this thread, in those */
	int result;
	bool is_trap_blocked; /* the control */
} within;

/* The control: the thread that holds the lock gets it once more. */
int __real_shunt_port_lock(void);
int __wrap_shunt_port_lock(void);
void __real_shunt_port_unlock(void);
void __wrap_shunt_port_unlock(void);

static __thread bool is_within; /* this is the updater, in the middle of its update */

/* The thread that makes updates within its own one; 0: none does. */
static _Atomic pid_t updater;
static _Atomic bool is_watched;

/* What waits for itself does so for ever: the program ends. */
static void *watch_updater(void *arg)
{
	(void)thread_sleeps((pid_t)syscall(SYS_gettid)); /* now it has memory for that */
	is_watched = true;
	for (;;) {
		pid_t tid = updater;

		if (tid && thread_sleeps(tid) && updater) {
			ok(false, "an update within waits for its own thread");
			(void)tap_done();
			_exit(1);
		}
		(void)sched_yield();
	}
	return arg;
}

/* How often this thread has slept: what preempts it does not count. */
static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? -1 : usage.ru_nvcsw;
}

static bool is_control(void)
{
	return getenv("SHUNT_CONTROL") != NULL;
}

int __wrap_shunt_port_lock(void)
{
	return is_within && is_control() ? 0 : __real_shunt_port_lock();
}

void __wrap_shunt_port_unlock(void)
{
	if (!is_within || !is_control())
		__real_shunt_port_unlock();
}

static void block(int sig)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, sig);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Whether SIGUSR1 is blocked, and nothing else. */
static bool is_mask_kept(void)
{
	sigset_t set;

	(void)pthread_sigmask(SIG_BLOCK, NULL, &set);
	for (int sig = 1; sig < NSIG; sig++)
		if (sigismember(&set, sig) != (sig == SIGUSR1))
			return false;
	return true;
}

static _Alignas(8) uint8_t nop[SITE_LEN] = SITE_NOP;

/*
 * A system call of this update has failed, and what it was has not been told yet. What a handler is
 * refused here is told in between.
 */
static struct {
	bool armed, is_forgotten;
	int results[5];
	char messages[5][200];
} failing;

static const char failed_call[] = "the call that failed";

static void keep_result(size_t i, int ret)
{
	failing.results[i] = ret;
	(void)snprintf(failing.messages[i], sizeof(failing.messages[i]), "%s", shunt_last_error());
}

static int fail_in_the_middle(void)
{
	failing.armed = false;
	shunt_failed_call = failed_call;
	keep_result(0, static_call_update(other, two));
	keep_result(1, static_branch_enable(&branch));
	keep_result(2, text_poke_bp(nop, nop, SITE_LEN));
	keep_result(3, static_call_update(other, NULL));
	keep_result(4, static_branch_dec(&branch));
	if (failing.is_forgotten) /* as by a message that is no refusal */
		shunt_message("within");
	return -EIO;
}

int __wrap_shunt_port_core_sync(void)
{
	if (failing.armed)
		return fail_in_the_middle();
	if (within.armed) {
		within.armed = false;
		for (size_t i = 0; i < within.waiters; i++)
			if (pthread_create(&within.thread[i], NULL, update_other, (void *)i))
				abort();
		within.asleep = all_sleep(within.waiters);
		is_within = true;
		updater = (pid_t)syscall(SYS_gettid);
		within.sleeps = -sleeps();
		within.call = static_call_update(other, two);
		within.again = static_call_update(held, one);
		within.key = static_branch_enable(&branch);
		within.poke = text_poke_bp(nop, nop, SITE_LEN);
		within.sleeps += sleeps();
		updater = 0;
		is_within = false;
		if (within.is_trap_blocked)
			block(SIGTRAP);
		within.result = call_held(1);
	}
	return __real_shunt_port_core_sync();
}

static void test(size_t waiters)
{
	int ret;

	memset(&waiter, 0, sizeof(waiter));
	within.waiters = waiters;
	within.armed = true;
	within.call = within.again = within.key = within.poke = 0;
	ret = static_call_update(held, two);
	ok(!within.armed && within.asleep, "%zu threads sleep on the lock", waiters);
	ok(within.call == -EDEADLK && within.again == -EDEADLK && within.key == -EDEADLK &&
		   within.poke == -EDEADLK && !within.sleeps,
	   "an update within is refused, and does not wait (%d, %d, %d, %d, %ld sleeps)",
	   within.call, within.again, within.key, within.poke, within.sleeps);
	ok(within.result == 2 || within.result == 3, "a call within is old or new: %d",
	   within.result);
	ok(!ret && call_held(1) == 3, "the one around it goes through: %d", ret);
	ok(is_mask_kept(), "and leaves the signal mask as it was");
	for (size_t i = 0; i < waiters; i++) {
		(void)pthread_join(within.thread[i], NULL);
		ok(!waiter.ret[i], "thread %zu gets the lock: %d", i, waiter.ret[i]);
	}
	ok(call_other(1) == (waiters ? 3 : 2), "what was refused has not been done");
	ok(!static_call_update(held, one) && !static_call_update(other, one) && call_held(1) == 2 &&
		   call_other(1) == 2,
	   "and back");
}

static void test_failed_call(void)
{
	static const int wanted[] = {-EDEADLK, -EDEADLK, -EDEADLK, -EINVAL, -EDEADLK};

	for (int forget = 0; forget < 2; forget++) {
		int ret;

		failing.armed = true;
		failing.is_forgotten = forget;
		ret = static_call_update(held, two);
		ok(ret == -EIO && call_held(1) == 2 &&
			   (strstr(shunt_last_error(), failed_call) != NULL) == !forget,
		   "%sthe failed call is told behind what was refused meanwhile: %s",
		   forget ? "control: forgotten: " : "", shunt_last_error());
	}
	for (size_t i = 0; i < 5; i++)
		ok(failing.results[i] == wanted[i] && !strstr(failing.messages[i], failed_call),
		   "and is not told of what was: %d, %s", failing.results[i], failing.messages[i]);
}

static void test_trap_blocked(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		within.armed = within.is_trap_blocked = true;
		within.waiters = 0;
		_exit(static_call_update(held, two) ? 1 : 0);
	}
	(void)waitpid(pid, &status, 0);
	if (!CPU_HAS_TRAPS)
		ok(!status, "with SIGTRAP blocked a call within is as any: %x", status);
	else
		ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGTRAP,
		   "control: with SIGTRAP blocked a call within kills: %x", status);
}

int main(void)
{
	pthread_t watcher;

	block(SIGUSR1);
	(void)alarm(100);
	if (pthread_create(&watcher, NULL, watch_updater, NULL))
		abort();
	while (!is_watched)
		(void)sched_yield();
	shunt_set_log(NULL, NULL);
	for (size_t n = 0; n <= WAITERS; n++)
		test(n);
	test_failed_call();
	test_trap_blocked();
	return tap_done();
}
