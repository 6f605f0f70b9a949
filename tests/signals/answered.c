/* SPDX-License-Identifier: MIT */
/*
 * Filters that refuse rt_sigaction, or answer 0 in the kernel's place: for every call, or for those
 * that set something; from before the program started, or later. Then sigaction() for SIGTRAP fails
 * with EPERM, and what was there before is still there, and is what is reported.
 *
 * Control: without the library the answer is believed: the call returns 0, and the handler that was
 * set is not the one that is called.
 *
 *	answered with|plain
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../api/tap.h"
#include "first_second.h"

/* rt_sigaction gets @action; @sets: only where it is to set something. */
static void filter(unsigned action, bool sets)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigaction, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, sets ? 1 : 0, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(f) / sizeof(f[0]), f};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		_exit(90);
}

enum { REFUSED, BELIEVED = 20 };

static bool is_refused(void (*handler)(int), int flags)
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = flags};

	errno = 0;
	return sigaction(SIGTRAP, &act, NULL) == -1 && errno == EPERM;
}

/* Under the filter; @before is what was set. */
static int try_setting(void (*before)(int))
{
	struct sigaction now;

	if (!is_refused(on_second, 0) || !is_refused(SIG_IGN, 0))
		return BELIEVED;
	if (sigaction(SIGTRAP, NULL, &now) || now.sa_handler != before)
		return 2;
	if (before != on_first)
		return REFUSED;
	(void)raise(SIGTRAP);
	__asm__ volatile("int3");
	return first == 2 && !second ? REFUSED : 3;
}

static int run(unsigned action, bool sets, bool from_start, const char *mode)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid && from_start) {
		filter(action, sets);
		execl("/proc/self/exe", "answered", mode, "started", NULL);
		_exit(91);
	}
	if (!pid) {
		if (signal(SIGTRAP, on_first) == SIG_ERR)
			_exit(92);
		filter(action, sets);
		_exit(try_setting(on_first));
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
									       : 1000 + status;
}

int main(int argc, char **argv)
{
	bool with = argc > 1 && !strcmp(argv[1], "with");

	if (argc > 2)
		return try_setting(SIG_DFL);
	for (unsigned error = 0; error <= (with ? EPERM : 0); error++)
		for (int sets = 0; sets < 2; sets++)
			for (int start = 0; start < 2; start++) {
				int status = run(error, sets, start, with ? "with" : "plain");

				ok(status == (with ? REFUSED : BELIEVED), "%s%s is %s, %s: %d",
				   with ? "" : "control: ",
				   sets ? "setting an action" : "rt_sigaction",
				   error ? "refused" : "answered by 0",
				   start ? "from the start" : "later", status);
			}
	return tap_done();
}
