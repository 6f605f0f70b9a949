/* SPDX-License-Identifier: MIT */
/*
 * The system calls of updates, as shunt(7) lists them for those who write sandboxes: under a
 * filter that kills whoever makes another one, updates by each policy work, the first one to
 * a function of another module too. Controls: the same filter without one of them kills; so
 * does it where the library does not see that there is one.
 */
#include <dlfcn.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "linux/base/alone.h"

bool __real_shunt_is_filtered(void);
bool __wrap_shunt_is_filtered(void);

static bool careless;

bool __wrap_shunt_is_filtered(void)
{
	return !careless && __real_shunt_is_filtered();
}

static int one(void)
{
	return 1;
}

static int two(void)
{
	return 2;
}

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	if (static_branch_unlikely(&key))
		return static_call(call)() + 10;
	return static_call(call)();
}

/* shunt(7), SYSTEM CALLS. Those of every update, and those of each way. */
#define EVERY                                                                                  \
	SYS_rt_sigprocmask, SYS_getpid, SYS_futex, SYS_mmap, SYS_munmap, SYS_lseek, SYS_ioctl, \
		SYS_membarrier, SYS_prctl, SYS_sigaltstack
#define REMAP EVERY, SYS_pwrite64, SYS_mremap
#define INT3  EVERY, SYS_pwrite64, SYS_rt_sigaction, SYS_rt_sigreturn
#define STORE EVERY, SYS_mprotect

/* And the test's own. */
#define OWN SYS_exit_group

static const int by_auto[] = {OWN, REMAP, 0}, by_int3[] = {OWN, INT3, 0},
		 by_remap[] = {OWN, REMAP, 0}, by_atomic[] = {OWN, STORE, INT3, 0};

static const struct policy {
	const char *name;
	enum shunt_poke_policy policy;
	const int *calls;
	int needed; /* what the control leaves out */
} policies[] = {
	{"auto", SHUNT_POKE_AUTO, by_auto, SYS_mremap},
	{"auto", SHUNT_POKE_AUTO, by_auto, SYS_ioctl},
	{"int3", SHUNT_POKE_INT3, by_int3, SYS_pwrite64},
	{"int3", SHUNT_POKE_INT3, by_int3, SYS_rt_sigaction},
	{"remap", SHUNT_POKE_REMAP, by_remap, SYS_membarrier},
	{"atomic", SHUNT_POKE_ATOMIC, by_atomic, SYS_mprotect},
};

static bool allow_only(const int *calls, int but)
{
	struct sock_filter f[64];
	struct sock_fprog program = {0, f};

	f[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							offsetof(struct seccomp_data, nr));
	for (; *calls; calls++) {
		if (*calls == but)
			continue;
		f[program.len++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
								(unsigned)*calls, 0, 1);
		f[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	f[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int update(int times)
{
	for (int i = 0; i < times; i++) {
		if (static_call_update(call, i % 2 ? one : two) ||
		    (i % 2 ? static_branch_disable(&key) : static_branch_enable(&key)))
			return 1;
		if (site() != (i % 2 ? 1 : 12))
			return 2;
	}
	return 0;
}

static int (*far_function)(void); /* in a module that is not watched yet */

static int update_to_module(void)
{
	if (static_call_update(call, far_function))
		return 3;
	return site() == far_function() ? update(2) : 4;
}

static void *idle(void *arg)
{
	(void)pause();
	return arg;
}

/* In a child: 0, what is wrong, or 1000 + the signal that has killed it. */
static int run(const struct policy *p, bool threads, int but)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		pthread_t thread;

		if (shunt_set_poke(p->policy) ||
		    (threads && pthread_create(&thread, NULL, idle, NULL)))
			_exit(9);
		if (!allow_only(p->calls, but))
			_exit(8);
		_exit(far_function ? update_to_module() : update(20));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void test_module(void)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW), *found;
	int status;

	found = handle ? dlsym(handle, "fegetround") : NULL;
	memcpy(&far_function, &found, sizeof(found));
	if (!found)
		return;
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		status = run(&policies[i], true, -1);
		ok(status == 0, "%s, to a module's function: %d", policies[i].name, status);
	}
	careless = true;
	status = run(&policies[0], true, -1);
	ok(status == 1000 + SIGSYS, "control: the filter is not seen: %d", status);
}

int main(void)
{
	shunt_set_log(NULL, NULL);
	for (size_t i = 0; i < sizeof(policies) / sizeof(policies[0]); i++) {
		const struct policy *p = &policies[i];

		for (int threads = 0; threads < 2; threads++) {
			int status = run(p, threads, -1);

			ok(status == 0, "%s, %s: %d", p->name, threads ? "threads" : "one thread",
			   status);
			status = run(p, threads, p->needed);
			ok(status == 1000 + SIGSYS, "control: without call %d: %d", p->needed,
			   status);
		}
	}
	test_module();
	return tap_done();
}
