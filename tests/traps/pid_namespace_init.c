/* SPDX-License-Identifier: MIT */
/*
 * The first process of a PID namespace, as in a container: the kernel does not kill it by
 * what it sends to itself, but by a trap of its own CPU. So must it be when SIGTRAP is
 * ours. Control: the default action by a signal to itself.
 */
#include <errno.h>
#include <sched.h>
#include <sys/syscall.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "key.h"
#include "rows.h"

static void update(void)
{
	int now = go();

	must(!static_call_update(key, now == 1 ? new_function : old_function));
	must(go() == 3 - now);
}

/* Runs @inside as number 1, and ends as it does. */
static void as_init(void (*inside)(void))
{
	int status = 0;
	pid_t child;

	if (unshare(CLONE_NEWPID) && unshare(CLONE_NEWUSER | CLONE_NEWPID))
		_exit(SKIPPED);
	child = fork();
	if (!child) {
		must(getpid() == 1);
		inside();
		_exit(0);
	}
	if (child < 0)
		_exit(SKIPPED);
	(void)waitpid(child, &status, 0);
	if (WIFSIGNALED(status)) {
		(void)signal(WTERMSIG(status), SIG_DFL);
		(void)syscall(SYS_tgkill, getpid(), getpid(), WTERMSIG(status));
	}
	_exit(WEXITSTATUS(status));
}

static void int3(void)
{
	update();
	__asm__ volatile("int3");
}

static void int_3(void)
{
	update();
	__asm__ volatile(".byte 0xcd, 3");
}

/* QEMU 7.2 takes it for no instruction. */
static bool is_icebp_a_trap(void)
{
	int status = 0;
	pid_t child = fork();

	if (!child) {
		(void)signal(SIGTRAP, SIG_DFL);
		__asm__ volatile(".byte 0xf1");
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status) &&
	       WTERMSIG(status) == SIGTRAP;
}

static void icebp(void)
{
	if (!is_icebp_a_trap())
		_exit(SKIPPED);
	update();
	__asm__ volatile(".byte 0xf1");
}

/* It is nothing to such a process, and updates go on. */
static void sent(void)
{
	update();
	(void)raise(SIGTRAP);
	(void)kill(1, SIGTRAP);
	update();
}

static struct sigaction before;

static void report(int sig, siginfo_t *info, void *context)
{
	counts->first++;
	before.sa_sigaction(sig, info, context);
}

static void reporter(void)
{
	struct sigaction act = {.sa_sigaction = report, .sa_flags = SA_SIGINFO};

	update();
	must(!sigaction(SIGTRAP, &act, &before));
	update();
	__asm__ volatile("int3");
}

static void send_to_itself(int sig)
{
	(void)signal(sig, SIG_DFL);
	(void)raise(sig);
}

static void by_signal(void)
{
	(void)signal(SIGTRAP, send_to_itself);
	__asm__ volatile("int3");
}

#define AS_INIT(name)              \
	static void name##_1(void) \
	{                          \
		as_init(name);     \
	}
AS_INIT(int3)
AS_INIT(int_3)
AS_INIT(icebp)
AS_INIT(sent)
AS_INIT(reporter)
AS_INIT(by_signal)

static const struct row rows[] = {
	{"int3 as process 1", int3_1, SIGTRAP, 0, 0, false},
	{"int $3 as process 1", int_3_1, SIGTRAP, 0, 0, false},
	{"icebp as process 1", icebp_1, SIGTRAP, 0, 0, false},
	{"SIGTRAP sent to process 1", sent_1, 0, 0, 0, false},
	{"int3 as process 1 with a handler that goes on with ours", reporter_1, SIGTRAP, 1, 0,
	 false},
	{"int3 with the default action as a signal to itself", by_signal_1, SIGTRAP, 0, 0, true},
};

int main(void)
{
	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 1;
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
