/* SPDX-License-Identifier: MIT */
/*
 * What the handler of a trap raises itself: a call that it emulates pushes onto a page that the
 * program brings in when it is touched, on the stack that the trap came from; and the program
 * dispatches the handler's system calls (PR_SET_SYSCALL_USER_DISPATCH), its return among them. The
 * program's handlers see to both, as where there is no trap.
 *
 * With SHUNT_SYNC=signal the thread whose system calls are dispatched has the handler of the core
 * sync's signal as well.
 *
 * Controls: the same handlers with all signals blocked.
 */
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#include <shunt/inspect.h>

#include "../common/left_on_int3.h"
#include "key.h"
#include "rows.h"

#include "linux/base/action.h"

#define PAGE 4096

/* ------------------------------------------------------------- what is taken out */

/* The handlers that Shunt has by now block all signals. */
static void block_all(void)
{
	for (int sig = 1; sig <= 64; sig++) {
		struct shunt_action action = {0};

		if (shunt_sigaction_raw(sig, NULL, &action) || sig == SIGSYS ||
		    (uintptr_t)action.handler <= 1)
			continue;
		action.mask = ~0ull;
		must(!shunt_sigaction_raw(sig, &action, NULL));
	}
}

/* ------------------------------------------------------- a stack that grows by itself */

/* Call key with the stack pointer @sp. */
long call_on(void *sp);
__asm__(".pushsection .text\n"
	"call_on:\n"
	"	pushq	%rbp\n"
	"	movq	%rsp, %rbp\n"
	"	movq	%rdi, %rsp\n"
	"	call	__SCT__key\n"
	"	movq	%rbp, %rsp\n"
	"	popq	%rbp\n"
	"	ret\n"
	".popsection\n");

static char *page;

static void bring_in(int sig, siginfo_t *info, void *context)
{
	char *at = info->si_addr;

	(void)sig;
	(void)context;
	must(at >= page && at < page + PAGE);
	counts->first++;
	must(!mprotect(page, PAGE, PROT_READ | PROT_WRITE));
}

static void use_alternate_stack(void)
{
	static char room[1 << 16];
	stack_t stack = {.ss_sp = room, .ss_size = sizeof(room)};
	struct sigaction action = {.sa_sigaction = bring_in, .sa_flags = SA_SIGINFO | SA_ONSTACK};

	must(!sigaltstack(&stack, NULL));
	must(!sigaction(SIGSEGV, &action, NULL));
}

static void grow(void)
{
	page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(page != MAP_FAILED && !mprotect(page, PAGE, PROT_NONE));
	counts->second = (unsigned)call_on(page + PAGE);
}

static void leave_on_int3(void)
{
	fails = true;
	must(static_call_update(key, new_function));
	fails = false;
}

static void grows(void)
{
	use_alternate_stack();
	grow();
}

static void grows_in_trap(void)
{
	use_alternate_stack();
	leave_on_int3();
	grow();
}

static void grows_blocked(void)
{
	use_alternate_stack();
	leave_on_int3();
	block_all();
	grow();
}

/* --------------------------------------------------------- dispatched system calls */

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_ON           1
#endif

/* The only ones that are made where they stand. */
extern const char own_calls[], own_calls_end[];
long own_call(long number, const greg_t *args);
void own_return(void);
__asm__(".pushsection .text\n"
	"own_calls:\n"
	"own_call:\n"
	"	movq	%rdi, %rax\n"
	"	movq	%rsi, %rcx\n"
	"	movq	64(%rcx), %rdi\n" /* REG_RDI; the offsets of gregs[] */
	"	movq	72(%rcx), %rsi\n"
	"	movq	96(%rcx), %rdx\n"
	"	movq	16(%rcx), %r10\n"
	"	movq	0(%rcx), %r8\n"
	"	movq	8(%rcx), %r9\n"
	"	syscall\n"
	"	ret\n"
	"own_return:\n"
	"	movl	$15, %eax\n" /* rt_sigreturn */
	"	syscall\n"
	"	nop\n"
	"own_calls_end:\n"
	".popsection\n");

static void dispatch(int sig, siginfo_t *info, void *context)
{
	greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;

	(void)sig;
	(void)info;
	if (regs[REG_RAX] == SYS_rt_sigreturn) {
		uintptr_t to = (uintptr_t)own_return;

		counts->first = 1;
		regs[REG_RIP] = (greg_t)to;
	} else {
		regs[REG_RAX] = own_call(regs[REG_RAX], regs);
	}
}

static char selector; /* 0: system calls are made; 1: they are dispatched */

static void begin_dispatch(void)
{
	struct shunt_action action = {
		.handler = dispatch,
		.flags = SA_SIGINFO | SHUNT_SA_RESTORER,
		.restorer = own_return,
	};

	must(!shunt_sigaction_raw(SIGSYS, &action, NULL));
	if (prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, own_calls,
		  own_calls_end - own_calls, &selector))
		_exit(SKIPPED);
}

static void dispatches(void)
{
	leave_on_int3();
	begin_dispatch();
	selector = 1;
	counts->second = (unsigned)go();
	selector = 0;
}

static void dispatches_blocked(void)
{
	leave_on_int3();
	block_all();
	begin_dispatch();
	selector = 1;
	counts->second = (unsigned)go();
	selector = 0;
}

/* ------------------------------------------------------ and a core sync by a signal */

static _Atomic bool waits, is_over;

static void *wait_dispatched(void *unused)
{
	(void)unused;
	begin_dispatch();
	selector = 1;
	atomic_store(&waits, true);
	while (!atomic_load(&is_over))
		;
	selector = 0;
	return NULL;
}

static void syncs(bool blocked)
{
	struct shunt_ways ways;
	pthread_t thread;

	must(!shunt_set_poke(SHUNT_POKE_INT3));
	must(!static_call_update(key, new_function)); /* the handlers are there */
	if (blocked)
		block_all();
	must(!pthread_create(&thread, NULL, wait_dispatched, NULL));
	while (!atomic_load(&waits))
		;
	must(!static_call_update(key, old_function));
	atomic_store(&is_over, true);
	must(!pthread_join(thread, NULL));
	shunt_get_ways(&ways);
	if (strcmp(ways.sync, "signals") != 0)
		_exit(SKIPPED);
	counts->second = (unsigned)go();
}

static void syncs_open(void)
{
	syncs(false);
}

static void syncs_blocked(void)
{
	syncs(true);
}

static const struct row rows[] = {
	{"a stack that grows", grows, 0, 1, 1, false},
	{"a stack that grows at a trap", grows_in_trap, 0, 1, 1, false},
	{"the same, all signals blocked", grows_blocked, 0, 1, 1, true},
	{"a return from a trap that is dispatched", dispatches, 0, 1, 1, false},
	{"the same, all signals blocked", dispatches_blocked, 0, 1, 1, true},
	{"a return from a core sync's signal that is dispatched", syncs_open, 0, 1, 1, false},
	{"the same, all signals blocked", syncs_blocked, 0, 1, 1, true},
};

int main(void)
{
	shunt_set_log(NULL, NULL);
	if (shunt_set_poke(SHUNT_POKE_INT3))
		return 1;
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
