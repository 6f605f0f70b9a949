/* SPDX-License-Identifier: MIT */
/*
 * Each two of the conditions of the table that can meet in one program: beside a thread in the
 * sites, updates by auto of a call, and of a branch by flip, work or are an error that says why,
 * and each call is right and the process alive. A pair is a process of its own.
 *
 * Controls: a thread that blocks all signals dies of an int3 (by that policy; and by auto without
 * remap where it is not looked at). And, where nothing traps, text that is not written is noticed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/cpu.h"
#include "../common/one_two.h"
#include "linux/base/tasks.h"
#include <shunt/port.h>

#include "../api/tap.h"
#include "forbid.h"

#define PAGE 4096ul

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(switched);

/* Alone on its pages. */
__attribute__((aligned(4096), section("pair_text"))) KEEP static int site(void)
{
	return static_call(call)() + 0;
}

/* What goes by a flip. */
__attribute__((aligned(64), section("pair_text"))) KEEP static int branch(void)
{
	return static_branch_unlikely(&switched) ? 2 : 1;
}

__attribute__((aligned(4096), section("pair_text"))) KEEP static int behind(void)
{
	return 0;
}

enum task_wrap { AS_IT_IS, NOT_SEEN };
static enum task_wrap looks;
static bool writes_nothing;

enum shunt_task __real_shunt_task_look(int32_t tid, int sig);
enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig);

enum shunt_task __wrap_shunt_task_look(int32_t tid, int sig)
{
	return looks == NOT_SEEN ? SHUNT_TASK_OPEN : __real_shunt_task_look(tid, sig);
}

/* ------------------------------------------------------------------- conditions */

static bool blocks_all, is_copy;

/* NULL, or why it cannot be had here. */
static const char *block_signals(void)
{
	blocks_all = true;
	return NULL;
}

static const char *in_copy(void)
{
	is_copy = true;
	return NULL;
}

static const char *close_descriptors(void)
{
	return close_range(3, ~0u, 0) ? "close_range()" : NULL;
}

static const char *write_text(void)
{
	int ret = mprotect((void *)site, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);

	return ret ? "text cannot be made writable" : NULL;
}

static const char *key_text(void)
{
	int key = pkey_alloc(0, PKEY_DISABLE_WRITE);

	if (key < 0 || pkey_mprotect((void *)site, PAGE, PROT_READ | PROT_EXEC, key))
		return "no protection keys";
	return NULL;
}

static const char *move_text(void)
{
	char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return "no memory";
	memcpy(p, (void *)site, PAGE);
	if (mprotect(p, PAGE, PROT_READ | PROT_EXEC) ||
	    mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)site) != (void *)site)
		return "text cannot be moved";
	return NULL;
}

static const char *seal_text(void)
{
	return syscall(462, (void *)site, PAGE, 0) ? "no mseal()" : NULL;
}

static void ignore(int sig)
{
	(void)sig;
}

static const char *handle_traps(void)
{
	return signal(SIGTRAP, ignore) == SIG_ERR ? "signal()" : NULL;
}

/* In the order in which they are met: what forbids system calls comes last. */
static const struct condition {
	const char *name;
	const char *(*begin)(void);
	unsigned forbidden;
} conditions[] = {
	{"blocks all signals", block_signals, 0},
	{"updates in a child", in_copy, 0},
	{"has a SIGTRAP handler", handle_traps, 0},
	{"has moved its text", move_text, 0},
	{"has writable text", write_text, 0},
	{"has text with a key", key_text, 0},
	{"has sealed text", seal_text, 0},
	{"closes all descriptors", close_descriptors, 0},
	{"sets PR_SET_MDWE", NULL, FORBID_MDWE},
	{"is in an empty chroot", NULL, FORBID_ROOT},
	{"has lost /proc", NULL, FORBID_PROC},
	{"is nobody", NULL, FORBID_USER},
	{"forbids membarrier()", NULL, FORBID_MEMBARRIER},
	{"forbids mprotect()", NULL, FORBID_PROTECT},
	{"forbids open()", NULL, FORBID_OPEN},
	{"forbids pwrite()", NULL, FORBID_PWRITE},
	{"forbids mremap()", NULL, FORBID_REMAP},
	{"forbids signals", NULL, FORBID_SIGNALS},
	{"has no memory", NULL, FORBID_MAP},
};
#define CONDITIONS (sizeof(conditions) / sizeof(conditions[0]))

/* --------------------------------------------------------------------- a process */

static _Atomic unsigned calls;
static _Atomic bool wrong;

static void *run_site(void *arg)
{
	uint64_t all = ~(uint64_t)0;

	if (blocks_all)
		(void)syscall(SYS_rt_sigprocmask, SIG_BLOCK, &all, NULL, sizeof(all));
	for (;;) {
		int got = site(), at_branch = branch();

		if ((got != 1 && got != 2) || (at_branch != 1 && at_branch != 2))
			wrong = true;
		calls++;
	}
	return arg;
}

static void start_thread(void)
{
	pthread_t thread;

	calls = 0;
	if (pthread_create(&thread, NULL, run_site, NULL))
		_exit(20);
	while (!calls)
		(void)sched_yield();
}

#define SKIPPED 77

/* 0, or what is wrong. */
static int switch_branch(int *errors)
{
	int was = static_key_count(&switched);
	int ret = was ? static_branch_disable(&switched) : static_branch_enable(&switched);

	*errors += ret != 0;
	if (ret && !shunt_last_error()[0])
		return 11;
	if (static_key_count(&switched) != (ret ? was : !was) || branch() != 1 + (ret ? was : !was))
		return 12;
	return 0;
}

/* The same. */
static int update(unsigned times)
{
	int errors = 0, branch_errors = 0;

	for (unsigned i = 0; i < times && errors < 2; i++) {
		int (*was)(void) = static_call_query(call);
		int (*to)(void) = was == one ? two : one;
		int ret = static_call_update(call, to);
		unsigned then = calls;
		int at_branch;

		errors += ret != 0;
		if (ret && !shunt_last_error()[0])
			return 1;
		if (static_call_query(call) != (ret ? was : to) || site() != (ret ? was : to)())
			return 2;
		at_branch = branch_errors < 2 ? switch_branch(&branch_errors) : 0;
		if (at_branch)
			return at_branch;
		while (calls < then + 2) /* it is alive, too */
			(void)sched_yield();
		if (wrong)
			return 3;
	}
	return 0;
}

static int be_pair(const struct condition *a, const struct condition *b)
{
	unsigned to_forbid = a->forbidden | b->forbidden;
	int status = -1;
	pid_t pid;

	(void)alarm(120);
	if ((a->begin && a->begin()) || (b->begin && b->begin()))
		return SKIPPED;
	/* The C library changes the user of each thread by a signal, which must be open. */
	if (forbid(to_forbid & FORBID_USER))
		return SKIPPED;
	to_forbid &= ~(unsigned)FORBID_USER;
	if (!is_copy)
		start_thread();
	if (forbid(is_copy ? to_forbid & ~(unsigned)FORBID_MAP : to_forbid))
		return SKIPPED;
	if (!is_copy)
		return update(20);
	pid = fork();
	if (!pid) { /* whose thread takes memory */
		start_thread();
		_exit(forbid(to_forbid & FORBID_MAP) ? SKIPPED : update(20));
	}
	if (waitpid(pid, &status, 0) != pid)
		return 21;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static int wait_for(pid_t pid)
{
	int status = -1;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 100 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void try_pair(const struct condition *a, const struct condition *b)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(be_pair(a, b));
	status = wait_for(pid);
	if (status == SKIPPED)
		skip(a->name, b->name);
	else
		ok(status == 0, "%s and %s: %d", a->name, b->name, status);
}

/* ---------------------------------------------------------------------- controls */

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	return writes_nothing ? 0 : __real_shunt_port_text_write(writes, n);
}

/* Behind each step of an update the thread comes round: also to the int3, on a busy machine, too.
 */
int __wrap_shunt_port_core_sync(void)
{
	int ret = __real_shunt_port_core_sync();
	unsigned then = calls;

	while (looks == NOT_SEEN && calls < then + 2)
		(void)sched_yield();
	return ret;
}

static void control_writes(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		writes_nothing = true;
		start_thread();
		_exit(update(2));
	}
	status = wait_for(pid);
	ok(status == 2 || status == 12, "control: nothing is written: %d",
	   status); /* call, branch */
}

static void control(const char *what, enum shunt_poke_policy policy, unsigned to_forbid)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		(void)alarm(20);
		looks = NOT_SEEN;
		blocks_all = true;
		if (shunt_set_poke(policy) || forbid(to_forbid))
			_exit(SKIPPED);
		start_thread();
		_exit(update(100000));
	}
	status = wait_for(pid);
	ok(status == 100 + SIGTRAP, "control: %s: %d", what, status);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	for (size_t a = 0; a < CONDITIONS; a++)
		for (size_t b = a + 1; b < CONDITIONS; b++)
			try_pair(&conditions[a], &conditions[b]);
	control_writes();
	if (!CPU_HAS_TRAPS)
		return behind() ? 1 : tap_done();
	control("blocked signals, by int3", SHUNT_POKE_INT3, 0);
	control("blocked signals that are not looked at", SHUNT_POKE_AUTO, FORBID_REMAP);
	return behind() ? 1 : tap_done();
}
