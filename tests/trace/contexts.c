/* SPDX-License-Identifier: MIT */
/*
 * Who is in what: a callback that calls traced functions is not traced for it; a signal handler on
 * top of a callback is, on either stack; and behind a callback that was left by longjmp(), or whose
 * thread has ended, tracing goes on and an unregister does not wait for ever. From callbacks
 * nothing is changed. Copies of the process, by fork() in the middle of a change too, and by
 * vfork().
 *
 * Controls: NO_GUARD: everything is taken for a context of its own, NO_CONTEXT: nothing is.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <shunt/inspect.h>

#include "../common/filter.h"
#include "entries.h"
#include "tap.h"

/* By their place in the source: f0, f1, f2. */
TRACED unsigned long outer(unsigned long argument);
TRACED unsigned long outer(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

TRACED unsigned long inner(unsigned long argument);
TRACED unsigned long inner(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 2;
}

TRACED unsigned long in_handler(unsigned long argument);
TRACED unsigned long in_handler(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 3;
}

static _Atomic unsigned long called;
static void (*what)(struct ftrace_ops *ops); /* the callback does, of outer() alone */

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *fregs)
{
	called++;
	if (what && ip - (unsigned long)outer < 8)
		what(ops);
	(void)parent_ip;
	(void)fregs;
}

static struct ftrace_ops ops = {.func = on_call}, others = {.func = on_call};

static bool begin(void (*does)(struct ftrace_ops *ops))
{
	what = does;
	return !add_entries() && !register_ftrace_function(&ops);
}

static bool calls(unsigned long n)
{
	if (called != n)
		printf("# %lu calls, not %lu\n", called, n);
	return called == n;
}

static bool end(unsigned long n)
{
	bool good = calls(n) && !unregister_ftrace_function(&ops);

	return good && outer(1) == 2 && inner(1) == 3 && calls(n);
}

#ifdef NO_GUARD
bool __wrap_shunt_guard_enter(uintptr_t sp, uintptr_t *depth);
bool __real_shunt_guard_enter(uintptr_t sp, uintptr_t *depth);
bool __wrap_shunt_guard_enter(uintptr_t sp, uintptr_t *depth)
{
	*depth = 1;
	(void)__real_shunt_guard_enter(sp, depth);
	return true;
}
#endif

#ifdef NO_CONTEXT
uintptr_t __wrap_shunt_find_signal_frame(uintptr_t at, uintptr_t end);
uintptr_t __wrap_shunt_find_signal_frame(uintptr_t at, uintptr_t end)
{
	(void)at;
	(void)end;
	return 0;
}
#endif

/* ------------------------------------------------------------------ recursion */

static void call_inner(struct ftrace_ops *o)
{
	(void)o;
	(void)inner(1);
	(void)outer(1);
}

static bool recursion(void)
{
	bool good = begin(call_inner) && outer(5) == 6 && calls(1) && inner(5) == 7 && calls(2);

	good = good && !register_ftrace_function(&others) && outer(5) == 6 && calls(4);
	return good && !unregister_ftrace_function(&others) && end(4);
}

/* What says whether a stack can be read is refused by a filter; @all: each call that could say. */
static bool recursion_unsaid(bool all)
{
	bool good = begin(call_inner) && outer(5) == 6 && calls(1);

	(void)alarm(120);
	good = good && answer_syscall(SYS_rt_sigprocmask, EPERM) &&
	       (!all || answer_syscall(SYS_rt_sigaction, EPERM));
	return good && outer(5) == 6 && calls(2) && inner(5) == 7 && calls(3);
}

static bool recursion_filtered(void)
{
	return recursion_unsaid(false);
}

/* Control: then all that a callback calls is a context of its own. */
static bool recursion_mute(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		_exit(recursion_unsaid(true) ? 0 : 1);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status;
}

/* ------------------------------------------------------------- signal handlers */

static void on_signal(int sig)
{
	(void)in_handler(1);
	(void)sig;
}

static void take_signal(struct ftrace_ops *o)
{
	(void)o;
	(void)raise(SIGUSR1);
	(void)inner(1); /* still none */
}

static bool handler(void)
{
	bool good = signal(SIGUSR1, on_signal) != SIG_ERR && begin(take_signal);

	return good && outer(1) == 2 && calls(2) && outer(1) == 2 && end(4);
}

static bool handler_on_alternate_stack(void)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	bool good = !sigaltstack(&stack, NULL) && !sigaction(SIGUSR1, &act, NULL);

	good = good && begin(take_signal) && outer(1) == 2 && calls(2);
	return good && outer(1) == 2 && end(4);
}

/* A stack above the thread's own. */
static void *call_outer(void *arg)
{
	struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
	stack_t stack = {.ss_sp = arg, .ss_size = 1 << 16};

	stack_t before;
	bool good = !sigaltstack(&stack, &before) && !sigaction(SIGUSR1, &act, NULL) &&
		    outer(1) == 2 && outer(1) == 2;

	(void)sigaltstack(&before, NULL); /* which a sanitizer has given */
	return good ? arg : NULL;
}

static bool handler_on_higher_stack(void)
{
	char stack[1 << 16];
	pthread_t thread;
	void *good = NULL;

	return begin(take_signal) && !pthread_create(&thread, NULL, call_outer, stack) &&
	       !pthread_join(thread, &good) && good && end(4);
}

/* A handler on top of a callback on top of a callback. */
static void on_both(int sig)
{
	(void)in_handler(1);
	if (sig == SIGUSR1)
		(void)raise(SIGUSR2);
	(void)in_handler(1);
}

static bool nested(void)
{
	bool good = signal(SIGUSR1, on_both) != SIG_ERR && signal(SIGUSR2, on_both) != SIG_ERR;

	return good && begin(take_signal) && outer(1) == 2 && calls(5) && outer(1) == 2 && end(10);
}

/* ------------------------------------------------------------ left callbacks */

static sigjmp_buf away;

static void on_leave(int sig)
{
	(void)sig;
	siglongjmp(away, 1);
}

static __attribute__((noinline)) bool leave(void)
{
	if (!sigsetjmp(away, 1))
		(void)outer(1);
	return true;
}

static __attribute__((noinline)) bool leave_deep(unsigned depth)
{
	volatile char room[512] = {0};

	if (depth)
		return leave_deep(depth - 1) && !room[depth];
	return leave();
}

static bool left(void)
{
	bool good = signal(SIGUSR1, on_leave) != SIG_ERR && begin(take_signal);

	good = good && leave() && calls(1) && inner(1) == 3 && calls(2);
	good = good && leave_deep(3) && calls(3) && inner(1) == 3 && calls(4);
	return good && leave() && calls(5) && end(5); /* an unregister right behind it */
}

static _Atomic bool has_left, may_end;

static void *leave_and_stay(void *arg)
{
	if (arg)
		(void)leave_deep(8);
	else
		pthread_exit(NULL);
	has_left = true;
	while (!may_end)
		(void)usleep(1000);
	return NULL;
}

/* In a thread that traces nothing since. */
static bool left_by_another(void)
{
	bool good = signal(SIGUSR1, on_leave) != SIG_ERR && begin(take_signal);
	pthread_t thread;

	good = good && !pthread_create(&thread, NULL, leave_and_stay, &good);
	while (good && !has_left)
		(void)usleep(1000);
	good = good && end(1);
	may_end = true;
	(void)pthread_join(thread, NULL);
	return good;
}

static void on_exit_thread(int sig)
{
	(void)sig;
	pthread_exit(NULL);
}

static void *call_once(void *arg)
{
	(void)outer(1);
	return arg;
}

/* And its number is another thread's. */
static bool thread_ended(void)
{
	bool good = signal(SIGUSR1, on_exit_thread) != SIG_ERR && begin(take_signal);
	pthread_t thread;

	good = good && !pthread_create(&thread, NULL, call_once, NULL) &&
	       !pthread_join(thread, NULL);
	return good && end(1);
}

static bool many_threads(void)
{
	bool good = begin(NULL);

	for (int i = 0; i < 2000 && good; i++) {
		pthread_t thread;

		good = !pthread_create(&thread, NULL, call_once, NULL) &&
		       !pthread_join(thread, NULL);
	}
	return good && end(2000);
}

/* ------------------------------------------------------------ within a callback */

static int results[5];

static void change_all(struct ftrace_ops *o)
{
	results[0] = unregister_ftrace_function(o);
	results[1] = register_ftrace_function(&others);
	results[2] = ftrace_set_filter(o, "f0", 0, 1);
	results[3] = ftrace_set_notrace(o, "f0", 0, 1);
	results[4] = ftrace_set_filter_ip(o, (unsigned long)outer, 0, 1);
}

static bool from_callback(void)
{
	bool good = begin(change_all) && outer(1) == 2;

	for (int i = 0; i < 5; i++)
		good = good && results[i] == -EDEADLK;
	what = NULL;
	return good && strstr(shunt_last_error(), "callback") && inner(1) == 3 && end(2);
}

/* ----------------------------------------------------------------------- copies */

static bool is_good_child(pid_t pid)
{
	int status = 1;

	return pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static bool forked(void)
{
	bool good = begin(NULL) && outer(1) == 2 && calls(1);
	pid_t pid = fork();

	if (!pid)
		_exit(outer(1) == 2 && calls(2) && !register_ftrace_function(&others) &&
				      outer(1) == 2 && calls(4) &&
				      !unregister_ftrace_function(&others) && end(4)
			      ? 0
			      : 1);
	return good && is_good_child(pid) && end(1);
}

static bool vforked(void)
{
	bool good = begin(NULL);
	int status = 1;
	pid_t pid = vfork();

	if (!pid) {
		(void)outer(1);
		_exit(0);
	}
	return good && waitpid(pid, &status, 0) == pid && !status && calls(1) && outer(1) == 2 &&
	       end(2);
}

static _Atomic bool stop;

static void *change_often(void *arg)
{
	static struct ftrace_ops often = {.func = on_call};

	while (!stop && !register_ftrace_function(&often) && !unregister_ftrace_function(&often))
		;
	return arg;
}

/* Its child has no thread that would finish the change. */
static bool forked_in_change(void)
{
	bool good = begin(NULL);
	pthread_t thread;

	good = good && !pthread_create(&thread, NULL, change_often, NULL);
	for (int i = 0; i < 200 && good; i++) {
		pid_t pid = fork();

		if (!pid) {
			bool fine = outer(1) == 2 && !register_ftrace_function(&others);
			unsigned long n = called;

			(void)alarm(120);
			fine = fine && n && inner(1) == 3 && called >= n + 2;
			_exit(fine && !unregister_ftrace_function(&others) &&
					      !unregister_ftrace_function(&ops)
				      ? 0
				      : 1);
		}
		good = is_good_child(pid);
	}
	stop = true;
	(void)pthread_join(thread, NULL);
	return good && !unregister_ftrace_function(&ops);
}

/* Rows that fail when something is missing. */
enum missing { NOTHING, GUARD, CONTEXT };
#if defined(NO_GUARD)
#define MISSING GUARD
#elif defined(NO_CONTEXT)
#define MISSING CONTEXT
#else
#define MISSING NOTHING
#endif

int main(void)
{
	static const struct {
		bool (*run)(void);
		const char *name;
		enum missing without;
	} all[] = {
		{recursion, "what a callback calls is not traced", GUARD},
		{recursion_filtered, "nor where a filter refuses rt_sigprocmask()", NOTHING},
		{recursion_mute, "control: it is where rt_sigaction() is refused too", NOTHING},
		{handler, "a signal handler on top of a callback is", CONTEXT},
		{handler_on_alternate_stack, "on an alternate stack", CONTEXT},
		{handler_on_higher_stack, "on one above the thread's", NOTHING},
		{nested, "and one on top of that", CONTEXT},
		{left, "behind a callback that was left by siglongjmp()", NOTHING},
		{left_by_another, "in a thread that traces nothing since", NOTHING},
		{thread_ended, "and one whose thread has ended", NOTHING},
		{many_threads, "2000 threads, one after the other", NOTHING},
		{from_callback, "from a callback nothing is changed", NOTHING},
		{forked, "a child of fork()", NOTHING},
		{vforked, "a child of vfork()", NOTHING},
		{forked_in_change, "children of fork() in the middle of a change", NOTHING},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (MISSING == NOTHING || all[i].without == MISSING)
			row_in_child(all[i].run, all[i].name);
	return end_rows();
}
