/* SPDX-License-Identifier: MIT */
/*
 * What updates ask of the kernel: this program traces itself through updates of one kind, and
 * prints the numbers of the system calls that the updating thread made. test_calls.py compares them
 * with the list in shunt(7).
 *
 *	calls POLICY[+threads][+first][+many][+message]
 *
 * POLICY is auto, int3, remap or atomic. threads: another one sleeps. first: the first two updates
 * count too, else two later ones. many: of 100 sites of nobody's key. message: one that fails.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/text_poke.h>

#include "../api/tap.h"
#include "../common/call_site.h"

/* What the tracer counts from, and to. */
enum { BEGIN = 0x5e1, END = 0x5e2 };

static void mark(int what)
{
	(void)syscall(SYS_getpgid, what);
}

static void *sleep_for_good(void *arg)
{
	for (;;)
		(void)pause();
	return arg;
}

static uint8_t *many;
#define MANY 100

static int poke_many(bool back)
{
	static const uint8_t nop[] = {0x0f, 0x1f, 0x44, 0, 0}, jump[] = {0xe9, 1, 2, 0, 0};
	static struct text_poke pokes[MANY];

	for (size_t i = 0; i < MANY; i++)
		pokes[i] = (struct text_poke){many + 8 * i, back ? nop : jump, 5, NULL, NULL};
	return text_poke_bp_batch(pokes, MANY);
}

static bool make_many(void)
{
	many = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (many == MAP_FAILED)
		return false;
	for (size_t i = 0; i < MANY; i++)
		memcpy(many + 8 * i, "\x0f\x1f\x44\0\0\x90\x90\x90", 8);
	return true;
}

static int update(const char *mode)
{
	int ret;

	if (strstr(mode, "+message"))
		return __static_call_update(NULL, (void (*)(void))one) == -EINVAL ? 0 : 30;
	for (int i = 0; i < 2; i++) {
		ret = strstr(mode, "+many") ? poke_many(i)
					    : static_call_update(call, i ? one : two);
		if (ret)
			return 31;
	}
	return site() == 1 ? 0 : 32;
}

static int run(const char *mode)
{
	static const char *const names[] = {"auto", "int3", "remap", "atomic"};
	pthread_t thread;

	for (size_t i = 0; i < 4; i++)
		if (!strncmp(mode, names[i], strlen(names[i])) &&
		    shunt_set_poke((enum shunt_poke_policy)i))
			return 33;
	if (strstr(mode, "+threads") && pthread_create(&thread, NULL, sleep_for_good, NULL))
		return 34;
	if (!make_many() || (!strstr(mode, "+first") && update(mode)))
		return 35;
	mark(BEGIN);
	if (update(mode))
		return 36;
	mark(END);
	return 0;
}

static bool seen[1024];

/* Of the first thread alone: the others are not traced. */
static int trace(pid_t pid)
{
	bool counts = false, enters = true;
	int status, sig = 0;

	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		struct user_regs_struct regs;

		sig = WSTOPSIG(status);
		if (sig == (SIGTRAP | 0x80)) {
			sig = 0;
			if (ptrace(PTRACE_GETREGS, pid, NULL, &regs))
				return 40;
			if (enters && regs.orig_rax == SYS_getpgid)
				counts = regs.rdi == BEGIN;
			else if (enters && counts && regs.orig_rax < 1024)
				seen[regs.orig_rax] = true;
			enters = !enters;
		}
		if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(long)sig))
			return 41;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 42;
}

int main(int argc, char **argv)
{
	int status, ret;
	pid_t pid = argc > 1 ? fork() : -1;

	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(77);
		(void)raise(SIGSTOP);
		_exit(run(argv[1]));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 2;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_TRACESYSGOOD) ||
	    ptrace(PTRACE_SYSCALL, pid, NULL, NULL))
		return 2;
	ret = trace(pid);
	for (int i = 0; i < 1024; i++)
		if (seen[i])
			printf("%d ", i);
	printf("\n");
	return ret;
}
