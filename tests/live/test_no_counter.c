/* SPDX-License-Identifier: MIT */
/*
 * A thread may forbid itself to read the time stamp counter (PR_SET_TSC, as sandboxes do for what
 * they run): rdtsc raises SIGSEGV then. No update reads it. A process is stepped through its
 * updates, instruction by instruction, for not every virtual machine lets rdtsc trap; where it
 * does, one that has forbidden it updates. By each policy, in a child of vfork(), and where auto
 * comes to int3 and looks for such children first.
 *
 * Usage: test_no_counter [all]. Without "all": with two threads, by auto and where that comes to
 * int3.
 *
 * Control: the same with a read beside an update is seen.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/branch_site.h"
#include "../common/call_site.h"
#include "../common/child.h"
#include "../common/idle_thread.h"

#include "../api/tap.h"

/* One right behind the other. */
static bool updates(void)
{
	return !static_call_update(call, two) && site() == 2 && !static_call_update(call, one) &&
	       site() == 1 && !static_branch_enable(&key) && branch() &&
	       !static_branch_disable(&key) && !branch();
}

static bool updates_in_vfork(void)
{
	static volatile bool good;
	pid_t pid;

	good = false;
	pid = vfork();
	if (!pid) {
		good = updates();
		_exit(0);
	}
	return child_status(pid) == 0 && good;
}

/* The text becomes writable, so auto goes by int3; and there is a child to be looked at first. */
static bool updates_by_int3(void)
{
	uintptr_t start = (uintptr_t)site & -4096ul;
	pid_t pid = fork();
	bool good;

	if (!pid)
		_exit(pause());
	good = pid > 0 && !mprotect((void *)start, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) &&
	       updates();
	return !kill(pid, SIGKILL) && child_status(pid) == 1000 + SIGKILL && good;
}

static bool reads_counter(void)
{
	return __builtin_ia32_rdtsc() && !static_branch_enable(&key);
}

static bool reads_id_of_cpu(void)
{
	unsigned cpu;

	return __builtin_ia32_rdtscp(&cpu) != 0;
}

static bool nothing(void)
{
	return true;
}

/* ------------------------------------------------------------------------------ stepping */

static bool is_read(long word)
{
	return (word & 0xffff) == 0x310f || (word & 0xffffff) == 0xf9010f; /* rdtsc, rdtscp */
}

/*
 * How often the counter is read by the stopped child @first, and its children of vfork(), until it
 * ends; -1: it ends badly.
 */
static long step(pid_t first)
{
	long reads = 0;

	for (;;) {
		struct user_regs_struct regs;
		int status, sig;
		pid_t pid = waitpid(-1, &status, __WALL);

		if (pid < 0)
			return -1;
		if (!WIFSTOPPED(status)) {
			if (pid == first)
				return WIFEXITED(status) && !WEXITSTATUS(status) ? reads : -1;
			continue;
		}
		sig = WSTOPSIG(status);
		if (sig == SIGSTOP)
			(void)ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACEVFORK);
		if (sig == SIGTRAP && !ptrace(PTRACE_GETREGS, pid, NULL, &regs))
			reads += is_read(ptrace(PTRACE_PEEKTEXT, pid, regs.rip, NULL));
		if (sig == SIGSTOP || sig == SIGTRAP)
			sig = 0;
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, sig) && errno != ESRCH)
			return -1;
	}
}

static long reads_in(bool (*fn)(void), enum shunt_poke_policy policy, bool with_thread)
{
	pid_t pid = fork();
	pthread_t thread;

	if (!pid) {
		if (shunt_set_poke(policy))
			_exit(4);
		if (with_thread && pthread_create(&thread, NULL, idle, NULL))
			_exit(2);
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
			_exit(3);
		_exit(!fn());
	}
	return pid < 0 ? -1 : step(pid);
}

/* ------------------------------------------------------------------------------ forbidden */

static int forbidden_updates(void)
{
	return prctl(PR_SET_TSC, PR_TSC_SIGSEGV) || !updates();
}

static int forbidden_read(void)
{
	return prctl(PR_SET_TSC, PR_TSC_SIGSEGV) || !__builtin_ia32_rdtsc();
}

int main(int argc, char **argv)
{
	const bool all = argc > 1 && !strcmp(argv[1], "all");

	ok(reads_in(nothing, SHUNT_POKE_AUTO, false) == 0, "a process without an update");
	ok(reads_in(reads_counter, SHUNT_POKE_AUTO, true) == 1, "control: rdtsc is seen");
	ok(reads_in(reads_id_of_cpu, SHUNT_POKE_AUTO, true) == 1, "control: rdtscp is seen");
	ok(!reads_in(updates, SHUNT_POKE_AUTO, true), "two threads, auto");
	ok(!reads_in(updates_by_int3, SHUNT_POKE_AUTO, true), "auto, by int3");
	if (all) {
		ok(!reads_in(updates, SHUNT_POKE_AUTO, false), "one thread");
		ok(!reads_in(updates, SHUNT_POKE_INT3, true), "two threads, int3");
		ok(!reads_in(updates, SHUNT_POKE_ATOMIC, true), "two threads, atomic");
		ok(!reads_in(updates_in_vfork, SHUNT_POKE_AUTO, true), "in a child of vfork()");
	}
	if (in_child(forbidden_read) == 1000 + SIGSEGV)
		ok(!in_child(forbidden_updates), "updates where rdtsc is forbidden");
	else
		ok(true, "updates where rdtsc is forbidden # SKIP it does not trap here");
	return tap_done();
}
