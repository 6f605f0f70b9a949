/* SPDX-License-Identifier: MIT */
/*
 * SIGTRAPs that are not Shunt's go to whom they would have gone to without it: the
 * program's own handler, installed before the first update or after, with the mask
 * and the flags that it asked for; or the default action, which kills.
 *
 * Each case runs in a child process, so that the handlers start from nothing.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "tap.h"

#define NOINLINE KEEP

NOINLINE static int add1(int x)
{
	return x + 1;
}

NOINLINE static int add2(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(fo_key, add1);

static volatile int zero;

NOINLINE static int call_it(int x)
{
	return static_call(fo_key)(x) - zero;
}

/* What a case finds wrong, as the child's exit status: the line. */
#define CHECK(condition)                                                     \
	do {                                                                 \
		if (!(condition)) {                                          \
			printf("# line %d: not %s\n", __LINE__, #condition); \
			fflush(stdout);                                      \
			_exit(1);                                            \
		}                                                            \
	} while (0)

/* One round trip, which takes SIGTRAP over if it was not ours. */
static void update(void)
{
	CHECK(static_call_update(fo_key, add2) == 0 && call_it(1) == 3);
	CHECK(static_call_update(fo_key, add1) == 0 && call_it(1) == 2);
}

/* ------------------------------------------------------------------ the traps */

NOINLINE static void breakpoint(void)
{
	__asm__ volatile("int3");
}

/* The two-byte form: the byte before the resumption address is 03. */
NOINLINE static void breakpoint_cd03(void)
{
	__asm__ volatile(".byte 0xcd, 0x03");
}

/* An int3 with an address that a site would have: directly behind a call. */
NOINLINE static int breakpoint_after_call(int x)
{
	int y = static_call(fo_key)(x);

	__asm__ volatile("int3");
	return y;
}

/* ----------------------------------------------------------- the own handler */

static volatile int handled, info_handled, handled_code;
static volatile int trap_blocked, usr1_blocked, usr2_blocked;
static void *volatile handled_ip;

static void see_mask(void)
{
	sigset_t mask;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	trap_blocked = sigismember(&mask, SIGTRAP);
	usr1_blocked = sigismember(&mask, SIGUSR1);
	usr2_blocked = sigismember(&mask, SIGUSR2);
}

static void handler(int sig)
{
	handled += sig == SIGTRAP;
	see_mask();
}

static void info_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	info_handled += sig == SIGTRAP;
	handled_code = info->si_code;
	handled_ip = (void *)uc->uc_mcontext.gregs[REG_RIP];
	see_mask();
}

static void install(int flags)
{
	struct sigaction sa = {.sa_flags = flags};

	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR1);
	if (flags & SA_SIGINFO)
		sa.sa_sigaction = info_handler;
	else
		sa.sa_handler = handler;
	CHECK(sigaction(SIGTRAP, &sa, NULL) == 0);
}

static void all_traps(volatile int *count)
{
	*count = 0;
	breakpoint();
	CHECK(*count == 1);
	breakpoint_cd03();
	CHECK(*count == 2);
	CHECK(breakpoint_after_call(5) == 6 && *count == 3);
	raise(SIGTRAP);
	CHECK(*count == 4);
	kill(getpid(), SIGTRAP);
	CHECK(*count == 5);
}

static void case_before(void)
{
	install(0);
	update();
	all_traps(&handled);
}

static void case_after(void)
{
	update();
	install(0);
	update();
	all_traps(&handled);
}

static void case_replaced(void)
{
	install(0);
	update();
	install(SA_SIGINFO);
	update();
	all_traps(&info_handled);
	CHECK(handled == 0);
}

static void case_info(void)
{
	install(SA_SIGINFO);
	update();
	breakpoint();
	CHECK(info_handled == 1 && handled_code == SI_KERNEL && handled_ip);
	CHECK((char *)handled_ip > (char *)breakpoint &&
	      (char *)handled_ip < (char *)breakpoint + 32);
	CHECK(((unsigned char *)handled_ip)[-1] == 0xcc);
	raise(SIGTRAP);
	CHECK(info_handled == 2 && handled_code == SI_TKILL);
}

static void case_mask(void)
{
	sigset_t mask;

	install(0);
	update();
	breakpoint();
	CHECK(handled == 1 && trap_blocked && usr1_blocked && !usr2_blocked);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	CHECK(!sigismember(&mask, SIGTRAP) && !sigismember(&mask, SIGUSR1));
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	breakpoint();
	CHECK(handled == 2 && usr1_blocked && usr2_blocked);
	sigprocmask(SIG_BLOCK, NULL, &mask);
	CHECK(sigismember(&mask, SIGUSR2) && !sigismember(&mask, SIGTRAP));
}

static void case_nodefer(void)
{
	install(SA_NODEFER);
	update();
	breakpoint();
	CHECK(handled == 1 && !trap_blocked && usr1_blocked);
}

static void case_resethand(void)
{
	install(SA_RESETHAND);
	update();
	breakpoint();
	CHECK(handled == 1);
	breakpoint(); /* kills */
}

static void case_default(void)
{
	update();
	breakpoint();
}

static void case_default_raise(void)
{
	update();
	raise(SIGTRAP);
}

static void case_default_cd03(void)
{
	update();
	breakpoint_cd03();
}

static void case_ignored(void)
{
	signal(SIGTRAP, SIG_IGN);
	update();
	raise(SIGTRAP);
	kill(getpid(), SIGTRAP);
	update();
}

static void case_ignored_int3(void)
{
	signal(SIGTRAP, SIG_IGN);
	update();
	breakpoint(); /* the kernel does not let anyone ignore this */
}

static sigjmp_buf back;

static void jumper(int sig)
{
	(void)sig;
	siglongjmp(back, 1);
}

/* Out of the handler with siglongjmp(): the mask is the jump's business. */
static void case_longjmp(void)
{
	signal(SIGTRAP, jumper);
	update();
	for (volatile int i = 0; i < 3; i++)
		if (!sigsetjmp(back, 1)) {
			breakpoint();
			CHECK(false);
		}
	update();
}

static void case_counted(void)
{
	struct shunt_stats stats;

	install(0);
	update();
	breakpoint();
	raise(SIGTRAP);
	shunt_get_stats(&stats);
	CHECK(stats.foreign_traps == 2);
}

static volatile int in_handler;

static void calling_handler(int sig)
{
	(void)sig;
	in_handler = call_it(1);
}

/* The program's handler makes static calls and returns. */
static void case_calls(void)
{
	signal(SIGTRAP, calling_handler);
	update();
	breakpoint();
	CHECK(in_handler == 2);
	CHECK(static_call_update(fo_key, add2) == 0);
	breakpoint();
	CHECK(in_handler == 3);
}

static void case_errno(void)
{
	install(0);
	update();
	errno = 4711;
	breakpoint();
	CHECK(errno == 4711);
}

/* ------------------------------------------------------------------------ main */

static const struct {
	const char *name;
	void (*run)(void);
	int killed_by;
} cases[] = {
	{"a handler installed before the first update", case_before, 0},
	{"a handler installed after it", case_after, 0},
	{"a handler replaced by another", case_replaced, 0},
	{"siginfo and context", case_info, 0},
	{"the mask that the handler asked for", case_mask, 0},
	{"SA_NODEFER", case_nodefer, 0},
	{"SA_RESETHAND: the second one kills", case_resethand, SIGTRAP},
	{"the default action: int3 kills", case_default, SIGTRAP},
	{"the default action: raise() kills", case_default_raise, SIGTRAP},
	{"the default action: cd 03 kills", case_default_cd03, SIGTRAP},
	{"SIG_IGN: a sent signal is ignored", case_ignored, 0},
	{"SIG_IGN: int3 kills all the same", case_ignored_int3, SIGTRAP},
	{"siglongjmp() out of the handler", case_longjmp, 0},
	{"foreign traps are counted", case_counted, 0},
	{"static calls in the handler", case_calls, 0},
	{"errno is kept", case_errno, 0},
};

static bool run_case(void (*run)(void), int killed_by)
{
	struct rlimit none = {0, 0};
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		setrlimit(RLIMIT_CORE, &none);
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
		alarm(10);
		run();
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (killed_by)
		return WIFSIGNALED(status) && WTERMSIG(status) == killed_by;
	if (WIFSIGNALED(status))
		diag("killed by %s", strsignal(WTERMSIG(status)));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void)
{
	struct sigaction dfl;

	/*
	 * Whoever is registered already has SIGTRAP; the cases are about a program
	 * that comes before and after, so give it back first.
	 */
	signal(SIGTRAP, SIG_DFL);
	sigaction(SIGTRAP, NULL, &dfl);
	ok(dfl.sa_handler == SIG_DFL, "SIGTRAP starts out as the default");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
#ifdef SUITE_TSAN
		if (cases[i].run == case_mask || cases[i].run == case_nodefer) {
			skip(cases[i].name, "ThreadSanitizer runs handlers with a mask of its own");
			continue;
		}
#endif
		ok(run_case(cases[i].run, cases[i].killed_by), "%s", cases[i].name);
	}
	return tap_done();
}
