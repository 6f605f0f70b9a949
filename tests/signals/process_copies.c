/* SPDX-License-Identifier: MIT */
/*
 * Copies of a process that no handler of pthread_atfork() is told of, where the kernel cannot
 * clear a page in them (before Linux 4.14, or a filter): they have an action of their own for
 * SIGTRAP. Children of vfork() have not. Control: no page can be left out of a copy either; then
 * the call fails, and says so.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "first_second.h"

/* 0, what is wrong, or 20 where the call is refused. */
static int run_copy(void)
{
	struct sigaction now, new = {.sa_handler = on_second};

	if (sigaction(SIGTRAP, &new, NULL))
		return errno == EPERM ? 20 : 1;
	if (sigaction(SIGTRAP, NULL, &now) || now.sa_handler != on_second)
		return 2;
	(void)raise(SIGTRAP);
	__asm__ volatile("int3");
	return second == 2 && !first ? 0 : 3;
}

static int status_of(pid_t pid)
{

	return child_status(pid);
}

/* In a copy, and in a copy of that, which has nothing from its grandparent. */
static int run_raw_clones(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	int ret;

	if (pid)
		return status_of(pid);
	ret = run_copy();
	if (ret)
		_exit(ret);
	first = second = 0;
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (!pid)
		_exit(run_copy());
	_exit(status_of(pid));
}

static bool vfork_leaves_it(void)
{
	struct sigaction now;
	pid_t pid = vfork();

	if (!pid) {
		struct sigaction none = {.sa_handler = SIG_DFL};

		(void)sigaction(SIGTRAP, &none, NULL);
		_exit(0);
	}
	return !status_of(pid) && !sigaction(SIGTRAP, NULL, &now) && now.sa_handler == on_first;
}

/* madvise() fails for @advice, or for all. */
static void refuse_and_execute(int advice, const char *how)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)advice, 0, advice ? 1 : 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	if (!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	    !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		execl("/proc/self/exe", "copies", how, NULL);
	_exit(90);
}

static int run_program(bool is_control)
{
	int ret;

	if (signal(SIGTRAP, on_first) == SIG_ERR)
		return 91;
	ret = run_raw_clones();
	if (ret != (is_control ? 20 : 0))
		return 30 + (ret > 50 ? 50 : ret);
	return vfork_leaves_it() ? 0 : 92;
}

static int run(int advice, const char *how)
{
	pid_t pid = fork();

	if (!pid)
		refuse_and_execute(advice, how);
	return status_of(pid);
}

int main(int argc, char **argv)
{
	int status;

	if (argc > 1)
		return run_program(!strcmp(argv[1], "control"));
	status = run(MADV_HUGEPAGE, "run"); /* nothing that matters */
	ok(status == 0, "a page is cleared in copies: %d", status);
	status = run(MADV_WIPEONFORK, "run");
	ok(status == 0, "a page is left out of them: %d", status);
	status = run(0, "control");
	ok(status == 0, "control: neither: the call is refused: %d", status);
	return tap_done();
}
