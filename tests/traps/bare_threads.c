/* SPDX-License-Identifier: MIT */
/*
 * Threads that come through a site while its int3 stands, with less than a thread of the C
 * library's has: no thread-local storage (the base of %fs is 0, as a thread by clone() may have
 * it), an alternate stack of the smallest size, one that is disarmed meanwhile (SS_AUTODISARM), all
 * of them. Each goes on as if nothing had been, on its own stack, and nothing below the alternate
 * stack is written. With core sync by signals (SHUNT_SYNC=signal) the handler of that runs there
 * too.
 *
 * Control: a handler of SIGTRAP that looks at its errno, as most do, dies in such a thread.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static long twice(long x)
{
	return 2 * x;
}

static long thrice(long x)
{
	return 3 * x;
}

DEFINE_STATIC_CALL(met, twice);

KEEP static long site(long x)
{
	return static_call(met)(x) + 10;
}

/* What Shunt's handlers take of the stack beside the kernel's frame, at most, as the manual says.
 */
#define HANDLER_STACK 1024

enum { PAGE = 4096, STACK = 16 * PAGE };

struct bare {
	_Atomic bool is_ready, may_go, is_done;
	bool has_no_tls, has_stack, disarms;
	long result;
	char *alternate; /* below it is a page that nobody may touch */
	size_t size;
	stack_t after;
};

static struct bare *meeting; /* to come through the site once its int3 stands */

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);

/* The first sync of a poke: its int3 stand. (One by signals waits for the thread's handler.) */
int __wrap_shunt_port_core_sync(void)
{
	struct bare *b = meeting;
	int ret = __real_shunt_port_core_sync();

	meeting = NULL;
	if (!b)
		return ret;
	b->may_go = true;
	for (long i = 0; i < 100000000 && !b->is_done; i++)
		(void)sched_yield();
	return ret;
}

static long raw(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return ret;
}

/* Nothing of the C library's, and no thread-local variable. */
__attribute__((no_sanitize("thread", "address"))) static int run(void *arg)
{
	struct bare *b = arg;
	stack_t alternate = {
		.ss_sp = b->alternate,
		.ss_size = b->size,
		.ss_flags = b->disarms ? (int)SS_AUTODISARM : 0,
	};

	if (b->has_stack && raw(SYS_sigaltstack, (long)&alternate, 0, 0))
		(void)raw(SYS_exit_group, 20, 0, 0);
	b->is_ready = true;
	while (!b->may_go)
		(void)raw(SYS_sched_yield, 0, 0, 0);
	b->result = site(21);
	(void)raw(SYS_sigaltstack, 0, (long)&b->after, 0);
	b->is_done = true;
	(void)raw(SYS_exit, 0, 0, 0);
	return 0;
}

static void start(struct bare *b)
{
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		    CLONE_SYSVSEM | (b->has_no_tls ? CLONE_SETTLS : 0);
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *room = mmap(NULL, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	if (stack == MAP_FAILED || room == MAP_FAILED || mprotect(room, PAGE, PROT_NONE))
		_exit(21);
	b->alternate = room + PAGE;
	b->size = getauxval(AT_MINSIGSTKSZ) + HANDLER_STACK;
	if (clone(run, stack + STACK, flags, b, NULL, NULL, NULL) < 0)
		_exit(22);
	while (!b->is_ready)
		(void)sched_yield();
}

static int meet(struct bare b)
{
	start(&b);
	meeting = &b;
	if (static_call_update(met, thrice))
		return 23;
	if (!b.is_done)
		return 24;
	if (b.result != 52 && b.result != 73)
		return 25;
	if (b.has_stack && (b.after.ss_sp != b.alternate || b.after.ss_size != b.size ||
			    b.after.ss_flags != (b.disarms ? (int)SS_AUTODISARM : 0)))
		return 26;
	return site(1) == 13 ? 0 : 27;
}

static void on_trap(int sig)
{
	(void)sig;
	errno = EINTR;
}

__attribute__((no_sanitize("thread", "address"))) static int run_control(void *arg)
{
	struct bare *b = arg;

	__asm__ volatile("int3");
	b->is_done = true;
	(void)raw(SYS_exit, 0, 0, 0);
	return 0;
}

static int meet_careless(void)
{
	struct bare b = {0};
	char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (signal(SIGTRAP, on_trap) == SIG_ERR ||
	    clone(run_control, stack + STACK,
		  CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
			  CLONE_SETTLS,
		  &b, NULL, NULL, NULL) < 0)
		return 28;
	while (!b.is_done)
		(void)sched_yield();
	return 0;
}

static int status_of(pid_t pid)
{
	int status = -1;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFSIGNALED(status) ? 1000 + WTERMSIG(status) : WEXITSTATUS(status);
}

int main(void)
{
	int status;
	pid_t pid;

	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 2;
	for (int kind = 0; kind < 6; kind++) {
		const struct bare b = {
			.has_no_tls = kind % 2, .has_stack = kind >= 2, .disarms = kind >= 4};

		pid = fork();
		if (!pid) {
			(void)alarm(60);
			_exit(meet(b));
		}
		status = status_of(pid);
		ok(!status, "%s thread-local storage, %s alternate stack: %d",
		   b.has_no_tls ? "no" : "with",
		   b.disarms     ? "a disarmed"
		   : b.has_stack ? "a smallest"
				 : "no",
		   status);
	}
	pid = fork();
	if (!pid)
		_exit(meet_careless());
	status = status_of(pid);
	ok(status == 1000 + SIGSEGV, "control: a handler that uses some dies: %d", status);
	return tap_done();
}
