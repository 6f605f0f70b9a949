/* SPDX-License-Identifier: MIT */
/*
 * A thread executes another program with the signal of a round pending: it blocks the signal, or
 * stands at the start of execve(), held by a tracer. The new program has no handler for it: it must
 * neither be killed by it nor find it pending.
 *
 * Control: sent as by sigqueue(3) it kills.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/reg.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "linux/sync/sync_handler.h"
#include "sync.h"

static bool is_control, is_queued;

void __real_shunt_sync_fill(siginfo_t *info, struct shunt_sync_slot *slot);
void __wrap_shunt_sync_fill(siginfo_t *info, struct shunt_sync_slot *slot);
void __wrap_shunt_sync_fill(siginfo_t *info, struct shunt_sync_slot *slot)
{
	__real_shunt_sync_fill(info, slot);
	if (is_queued)
		info->si_code = SI_QUEUE;
}

/* ------------------------------------------------------------------------ the child */

static int orders[2], results[2]; /* to the updating thread, and from it */

static void *update_when_told(void *arg)
{
	int index;

	while (read(orders[0], &index, sizeof(index)) == sizeof(index)) {
		int ret;

		is_queued = is_control && index == 2;
		ret = update_to((unsigned)index);
		if (write(results[1], &ret, sizeof(ret)) != sizeof(ret))
			_exit(2);
	}
	return arg;
}

static int order_update(int index)
{
	int ret = 1;

	if (write(orders[1], &index, sizeof(index)) != sizeof(index) ||
	    read(results[0], &ret, sizeof(ret)) != sizeof(ret))
		_exit(2);
	return ret;
}

/* The first update chooses the signal, and finds that this thread answers. */
static void run_child(bool blocks)
{
	pthread_t thread;
	char text[16];

	if (pthread_create(&thread, NULL, update_when_told, NULL) || order_update(1) ||
	    ptrace(PTRACE_TRACEME, 0, 0, 0))
		_exit(2);
	(void)snprintf(text, sizeof(text), "%d", chosen_signal());
	if (blocks) {
		sigset_t all;

		(void)sigfillset(&all);
		(void)sigprocmask(SIG_BLOCK, &all, NULL);
	}
	(void)raise(SIGSTOP);
	(void)execl("/proc/self/exe", "sync", "executed_image", text, (char *)NULL);
	_exit(2);
}

int executed_image(int sig)
{
	sigset_t pending;

	(void)sigpending(&pending);
	unblock_signals();
	return sigismember(&pending, sig) == 1;
}

/* ------------------------------------------------------------------------ the tracer */

static unsigned long pending_signals(pid_t pid)
{
	unsigned long set = 0;
	char path[64], line[256];
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "SigPnd:", 7))
			set = strtoul(line + 7, NULL, 16);
	if (f)
		(void)fclose(f);
	return set;
}

/* Stopped where execve() begins. */
static bool reach_execve(pid_t pid)
{
	int status = 0;

	do {
		if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			return false;
		if (WSTOPSIG(status) == (SIGTRAP | 0x80) &&
		    ptrace(PTRACE_PEEKUSER, pid, 8 * ORIG_RAX, 0) == SYS_execve)
			return true;
		(void)ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	} while (!ptrace(PTRACE_SYSCALL, pid, 0, 0));
	return false;
}

/* The status of the new program. */
static int execute_with_pending(bool blocks, int *ret, bool *was_pending)
{
	int status = -1;
	pid_t pid;

	if (pipe(orders) || pipe(results))
		abort();
	pid = fork();
	if (!pid)
		run_child(blocks);
	if (!reach_execve(pid))
		abort();
	*ret = order_update(2);
	*was_pending = pending_signals(pid) >> 63; /* signal 64 */
	(void)ptrace(PTRACE_DETACH, pid, 0, 0);
	(void)waitpid(pid, &status, 0);
	for (int i = 0; i < 2; i++) {
		(void)close(orders[i]);
		(void)close(results[i]);
	}
	return status;
}

int test_executed(void)
{
	for (int control = 0; control < 2; control++)
		for (int blocks = 0; blocks < 2; blocks++) {
			const char *how = blocks ? "blocked by the thread"
						 : "not blocked, the thread is held";
			bool was_pending = false;
			int ret = 1, status;

			is_control = control;
			status = execute_with_pending(blocks, &ret, &was_pending);
			ok(was_pending && ret == (blocks ? -EAGAIN : 0),
			   "signal 64 is pending at execve(), %s: the update returns %d", how, ret);
			if (control)
				ok(WIFSIGNALED(status) && WTERMSIG(status) == 64,
				   "control: as by sigqueue(3): the program ends with %#x",
				   (unsigned)status);
			else
				ok(!status, "the program does not see it: it ends with %#x",
				   (unsigned)status);
		}
	return tap_done();
}
