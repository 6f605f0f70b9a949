/* SPDX-License-Identifier: MIT */
/*
 * An entry of five nops of one byte, and a thread that stands between two of them while the
 * function is traced for the first time: in the frame of a signal handler that runs until then;
 * on an alternate stack too; below a second handler; and in a thread that blocks all signals.
 *
 * Control: nobody is moved from between the nops.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include <shunt/inspect.h>

#include "counting.h"
#include "entries.h"
#include "nops_entry.h"
#include "tap.h"

#ifdef CONTROL
int __wrap_shunt_port_leave_nops(const uintptr_t *ips, size_t n);
int __wrap_shunt_port_leave_nops(const uintptr_t *ips, size_t n)
{
	(void)ips;
	(void)n;
	return 0;
}
#endif

/* ----------------------------------------------------- standing between the nops */

static _Atomic int stands, go_on;

static struct how {
	int offset;        /* of where it stands, in the entry */
	bool is_alternate; /* the handlers have a stack of their own */
	bool second;       /* another handler on top of the first */
	bool blocks;       /* all signals are blocked in the first */
	const char *name;
} how;

static void wait_here(void)
{
	stands = 1;
	while (!go_on)
		(void)usleep(1000); /* signals interrupt it */
}

static void on_second(int sig)
{
	(void)sig;
	wait_here();
}

/* As if the function had been called, and got as far as that, when the signal came. */
static void on_signal(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *g = uc->uc_mcontext.gregs;

	(void)sig;
	(void)info;
	g[REG_RIP] = (greg_t)nops_entry + how.offset;
	if (how.second)
		(void)raise(SIGUSR2);
	else
		wait_here();
	/* What is there now in the middle of an instruction may do no harm, by chance. */
	if ((uintptr_t)g[REG_RIP] - (uintptr_t)nops_entry - 1 < NOPS - 1)
		_exit(3);
}

static int set_handlers(void)
{
	struct sigaction act = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
	struct sigaction second = {.sa_handler = on_second};

	if (how.blocks)
		(void)sigfillset(&act.sa_mask);
	return sigaction(SIGUSR1, &act, NULL) | sigaction(SIGUSR2, &second, NULL);
}

/* Sends itself the signal, whose handler returns into the function, which returns here. */
static void *stand(void *arg)
{
	static char stack[1 << 16];
	const stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	stack_t before;
	unsigned long pid = (unsigned long)getpid(), answer = 234; /* tgkill */

	if (how.is_alternate)
		(void)sigaltstack(&alternate, &before);
	__asm__ volatile("	leaq -128(%%rsp), %%rsp\n"
			 "	leaq 1f(%%rip), %%rcx\n"
			 "	pushq %%rcx\n"
			 "	syscall\n"
			 "	ud2\n"
			 "1:	leaq 128(%%rsp), %%rsp\n"
			 : "+a"(answer)
			 : "D"(pid), "S"(gettid()), "d"(SIGUSR1)
			 : "rcx", "r11", "memory");
	if (how.is_alternate)
		(void)sigaltstack(&before, NULL); /* which a sanitizer has given */
	*(bool *)arg = answer == pid;
	return NULL;
}

/* The first time that it is traced, then, and again. */
static bool stand_and_trace(void)
{
	bool right = false, good;
	pthread_t thread;

	good = !set_handlers() && !add_nops() && !ftrace_set_filter(&ops, "f0", 0, 1) &&
	       !pthread_create(&thread, NULL, stand, &right);
	while (good && !stands)
		(void)usleep(1000);
	good = good && !register_ftrace_function(&ops);
	if (!good)
		printf("# %s\n", shunt_last_error());
	go_on = 1;
	(void)pthread_join(thread, NULL);
	good = good && right && nops_entry(5) == 5 && called == 1;
	good = good && !unregister_ftrace_function(&ops) && nops_entry(6) == 6 && called == 1;
	return good && !register_ftrace_function(&ops) && nops_entry(7) == 7 && called == 2;
}

int main(void)
{
	static const struct how hows[] = {
		{1, false, false, false, "behind the first, in the frame of a handler"},
		{4, false, false, false, "before the last, in the frame of a handler"},
		{2, true, false, false, "in the frame of a handler on an alternate stack"},
		{3, false, true, false, "in the frame of a handler below another"},
		{2, true, true, false,
		 "in the frame of a handler on an alternate stack, below another"},
		{3, false, false, true, "in the frame of a handler with all signals blocked"},
	};

	for (size_t i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
		how = hows[i];
		row_in_child(stand_and_trace, how.name);
	}
	return end_rows();
}
