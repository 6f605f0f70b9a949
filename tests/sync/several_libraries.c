/* SPDX-License-Identifier: MIT */
/*
 * Two libshunts in one process that update at the same time, each by membarrier or by signals: a
 * thread in an update of one blocks the other's signal, and may be waiting for an answer of the
 * thread that waits for its own.
 *
 *	test_sync_copies PLUGIN PLUGIN DEAF
 *
 * Control: copies that do not answer each other while they wait; all of theirs fail, or some.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "../common/emulated.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_handler.h"
#include "linux/sync/sync_signal.h"
#include "linux/sync/sync_slots.h"

static bool deaf;

void __real_shunt_answer_others(void);
void __wrap_shunt_answer_others(void);
void __wrap_shunt_answer_others(void)
{
	if (!deaf)
		__real_shunt_answer_others();
}

static int old_function(void)
{
	return 1;
}

static int new_function(void)
{
	return 2;
}

DEFINE_STATIC_CALL(copies_key, old_function);

KEEP static int own_call(void)
{
	return static_call(copies_key)() + 0;
}

static int own_set(int new)
{
	return static_call_update(copies_key, new ? new_function : old_function);
}

static int own_policy(int policy)
{
	return shunt_set_poke((enum shunt_poke_policy)policy);
}

struct copy {
	int (*call)(void), (*set)(int), (*policy)(int);
};

static void find(void *handle, const char *name, void *function)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		_exit(100);
	memcpy(function, &symbol, sizeof(symbol));
}

static struct copy load(const char *path)
{
	struct copy copy = {0};
	void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!handle)
		_exit(101);
	find(handle, "plugin_call", &copy.call);
	find(handle, "plugin_set", &copy.set);
	find(handle, "plugin_policy", &copy.policy);
	return copy;
}

/* ---------------------------------------------------------------------- the updaters */

static int rounds(void)
{
	return is_emulated() ? 40 : 150;
}

static struct copy copies[2];
static pthread_barrier_t barrier;
static _Atomic bool over;
static _Atomic int failures;

static void *update(void *arg)
{
	const struct copy *copy = arg;

	(void)pthread_barrier_wait(&barrier);
	for (int i = 0; i < rounds(); i++) {
		if (!copy->set(i % 2))
			continue;
		failures++;
		if (deaf)
			break;
	}
	return NULL;
}

static void *call(void *arg)
{
	while (!over)
		for (int i = 0; i < 2; i++) {
			int value = copies[i].call();

			failures += value != 1 && value != 2;
		}
	return arg;
}

static int run(void)
{
	pthread_t callers, updaters[4];

	(void)pthread_barrier_init(&barrier, NULL, 4);
	if (pthread_create(&callers, NULL, call, NULL))
		return 102;
	for (int i = 0; i < 4; i++) /* two of each: they have one lock */
		if (pthread_create(&updaters[i], NULL, update, &copies[i % 2]))
			return 103;
	for (int i = 0; i < 4; i++)
		(void)pthread_join(updaters[i], NULL);
	over = true;
	(void)pthread_join(callers, NULL);
	return failures > 99 ? 99 : failures;
}

/* How a copy synchronises is read from the environment when its module registers. */
static struct copy begin(const char *path, const char *sync, int policy)
{
	struct copy copy = {own_call, own_set, own_policy};

	(void)setenv("SHUNT_SYNC", sync, 1);
	if (*path)
		copy = load(path);
	if (copy.policy(policy) || copy.set(1) || copy.set(0))
		_exit(104);
	return copy;
}

/* FIRST SECOND SYNC SYNC POLICY DEAF: the program that combine() starts. */
static int run_program(char **argv)
{
	deaf = atoi(argv[5]);
	(void)alarm(deaf ? 5 : 100); /* the control waits long */
	shunt_set_log(NULL, NULL);
	for (int i = 0; i < 2; i++)
		copies[i] = begin(argv[i], argv[2 + i], atoi(argv[4]));
	return run();
}

/* @first "": the program's own. */
static int combine(const char *first, const char *second, const char *const syncs[2],
		   const char *policy)
{
	pid_t pid = fork();

	if (!pid) {
		(void)setenv("SHUNT_SYNC", syncs[0], 1);
		execl("/proc/self/exe", "copies", "run", first, second, syncs[0], syncs[1], policy,
		      deaf ? "1" : "0", NULL);
		_exit(105);
	}
	return child_status(pid);
}

static void combine_all(const char *first, const char *second)
{
	static const char *const names[2] = {"membarrier", "signal"};
	static const char *const policies[2] = {"1", "0"};

	_Static_assert(SHUNT_POKE_AUTO == 0 && SHUNT_POKE_INT3 == 1, "as written");

	for (int i = 0; i < 8; i++) {
		const char *syncs[2] = {names[i & 1], names[i >> 1 & 1]};
		int status = combine(first, second, syncs, policies[i >> 2]);

		ok(status == 0, "%s by %s, a plugin by %s, %s: %d",
		   *first ? "a plugin" : "the program", syncs[0], syncs[1], i & 4 ? "auto" : "int3",
		   status);
	}
}

/* ------------------------------------------------------------------------- leaving */

static _Atomic int trap; /* 1: a thread is in a handler; 2: it may leave; 3: it is about to */

static void on_trap(int sig)
{
	(void)sig;
	trap = 1;
	while (trap != 2)
		(void)sched_yield();
	trap = 3;
}

static void *run_into_trap(void *arg)
{
	__asm__ volatile("int3");
	return arg;
}

static void *release(void *arg)
{
	for (int i = 0; i < 3; i++)
		(void)sched_yield();
	trap = 2;
	return arg;
}

/* A libshunt that is unloaded waits for threads that are in a handler of SIGTRAP. */
static void drain(void)
{
	struct sigaction action = {.sa_handler = on_trap};
	pthread_t trapped, releaser;

	(void)sigfillset(&action.sa_mask);
	(void)sigaction(SIGTRAP, &action, NULL);
	(void)pthread_create(&trapped, NULL, run_into_trap, NULL);
	while (!trap)
		(void)sched_yield();
	ok(trap == 1, "control: a thread is in a handler");
	(void)pthread_create(&releaser, NULL, release, NULL);
	if (!shunt_port_lock()) {
		shunt_signal_drain();
		ok(trap == 3, "and has left it");
		shunt_port_unlock();
	}
	(void)pthread_join(trapped, NULL);
	(void)pthread_join(releaser, NULL);
}

int main(int argc, char **argv)
{
	static const char *const signals[2] = {"signal", "signal"};
	int status;

	if (argc > 7)
		return run_program(argv + 2);
	if (argc < 4)
		return 2;
	(void)setenv("SHUNT_LOG", "0", 1);
	combine_all("", argv[1]);
	combine_all(argv[1], argv[2]);
	drain();
	deaf = true;
	status = combine("", argv[3], signals, "1");
	ok((status > 0 && status < 100) || status == 1000 + SIGALRM,
	   "control: they do not answer each other: %d", status);
	return tap_done();
}
