/* SPDX-License-Identifier: MIT */
/*
 * Threads that end in a callback, or leave it for good: a change waits for none of them for ever,
 * and for each only once. More of them than a chunk of records has, so that records of ended
 * threads are freed for others; the process's first thread; one whose number is another thread's;
 * handlers on top of callbacks; and in a copy of the process what was seen of its records before
 * is of no callback there.
 *
 * Controls: NOBODY: a record that was freed with its guard set is not known for one; ASKED_AGAIN:
 * nothing is remembered; COPIED: in a copy what was seen before is.
 */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "../common/thread_state.h"
#include "entries.h"
#include "linux/entry/context.h"
#include "tap.h"

#define ROUNDS (2 * SHUNT_CONTEXTS_OF_CHUNK + 10)

TRACED unsigned long outer(unsigned long argument);
TRACED unsigned long outer(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 1;
}

TRACED unsigned long in_handler(unsigned long argument);
TRACED unsigned long in_handler(unsigned long argument)
{
	__asm__ volatile("" : "+r"(argument));
	return argument + 3;
}

static void (*what_outer)(void), (*what_inner)(void); /* the callback does, of either */
static uintptr_t guard;                               /* of the last callback */

static void on_call(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
		    struct ftrace_regs *fregs)
{
	void (*what)(void) = ip - (unsigned long)outer < 8 ? what_outer : what_inner;

	guard = atomic_load(&shunt_context->sp);
	if (what)
		what();
	(void)parent_ip;
	(void)ops;
	(void)fregs;
}

static struct ftrace_ops ops = {.func = on_call};

/* Whether the waiting one has asked, behind its patience: how often. */
static _Atomic unsigned asked;

bool __wrap_shunt_context_is_gone(const struct shunt_context *c);
bool __real_shunt_context_is_gone(const struct shunt_context *c);
bool __wrap_shunt_context_is_gone(const struct shunt_context *c)
{
	if (++asked > 2 * ROUNDS)
		_exit(1); /* for the same ones time and again */
#ifdef NOBODY
	if (!atomic_load(&c->tid))
		return false;
#endif
	return __real_shunt_context_is_gone(c);
}

/* Bounded by row_in_child(). */
static bool wait_until(bool (*is)(void))
{
	while (!is())
		(void)usleep(1000);
	return true;
}

static int unregister(void)
{
#ifdef ASKED_AGAIN
	for (struct shunt_context_chunk *k = &shunt_context_chunks; k; k = atomic_load(&k->next))
		for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++)
			atomic_store(&k->contexts[i].left_sp, 0);
#endif
	return unregister_ftrace_function(&ops);
}

#ifdef COPIED
void __wrap_shunt_contexts_of_copy(void);
void __real_shunt_contexts_of_copy(void);
void __wrap_shunt_contexts_of_copy(void)
{
	__real_shunt_contexts_of_copy();
	for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++)
		if (atomic_load(&shunt_context_chunks.contexts[i].left_sp))
			atomic_store(&shunt_context_chunks.contexts[i].seq,
				     atomic_load(&shunt_context_chunks.contexts[i].left_seq));
}
#endif

static void *call_outer(void *arg)
{
	(void)outer(1);
	return arg;
}

static bool run_thread(void)
{
	pthread_t thread;

	return !pthread_create(&thread, NULL, call_outer, NULL) && !pthread_join(thread, NULL);
}

static bool change_behind_each(void)
{
	bool good = !add_entries();

	for (int i = 0; i < ROUNDS && good; i++)
		good = !register_ftrace_function(&ops) && run_thread() && !unregister();
	return good && asked >= ROUNDS;
}

/* Their records are freed for others before anyone has asked. */
static bool change_behind_all(void)
{
	bool good = !add_entries() && !register_ftrace_function(&ops);

	for (int i = 0; i < ROUNDS && good; i++)
		good = run_thread();
	return good && !unregister() && asked;
}

/* --------------------------------------------------------- its number is another's */

#define STACK ((size_t)256 << 10)

/* Of whom that has ended in a callback, and who has begun since, and computes. */
static struct {
	pid_t number;
	pthread_t thread;
} ended, next;
static _Atomic bool is_computing, is_enough;

static void exit_and_tell(void)
{
	ended.number = gettid();
	ended.thread = pthread_self();
	pthread_exit(NULL);
}

static void *compute(void *arg)
{
	next.number = gettid();
	next.thread = pthread_self();
	is_computing = true;
	while (!is_enough)
		;
	return arg;
}

static bool other_computes(void)
{
	return is_computing;
}

static bool let_next_be(pid_t number)
{
	FILE *f = fopen("/proc/sys/kernel/ns_last_pid", "w");
	bool good = f && fprintf(f, "%d", (int)number - 1) > 0;

	return f && !fclose(f) && good;
}

static bool has_number_again(void)
{
	return syscall(SYS_tgkill, getpid(), ended.number, 0) != 0;
}

/* One turn: other processes begin threads, too, and the C library has stacks left. */
static bool one_after_other(void *own, size_t size, size_t size_of_next, bool *good)
{
	pthread_attr_t attr, other;
	pthread_t first, second;

	(void)pthread_attr_init(&attr);
	(void)pthread_attr_init(&other);
	(void)pthread_attr_setstacksize(&other, size_of_next);
	(void)(own ? pthread_attr_setstack(&attr, own, size)
		   : pthread_attr_setstacksize(&attr, size));
	is_computing = is_enough = false;
	what_outer = exit_and_tell;
	*good = !pthread_create(&first, &attr, call_outer, NULL) && !pthread_join(first, NULL) &&
		(!own || !mprotect(own, size, PROT_NONE)) && wait_until(has_number_again) &&
		let_next_be(ended.number) && !pthread_create(&second, &other, compute, NULL) &&
		wait_until(other_computes);
	if (!*good || next.number == ended.number)
		return *good;
	is_enough = true;
	(void)pthread_join(second, NULL);
	return false;
}

/* One that allows all: what a filter may kill for is not asked. */
static bool set_filter(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = 1, .filter = &allow};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* @same: on the same stack; @is_unmapped: on one of its own, of which nothing can be read any more
 * (not unmapped: the next one's would be there). */
static bool number_is_anothers(size_t size, size_t size_of_next, bool is_unmapped, bool same)
{
	bool good = !add_entries() && !register_ftrace_function(&ops), done = false;

	for (int i = 0; i < 1000 && good && !done; i++) {
		void *own = is_unmapped ? mmap(NULL, size, PROT_READ | PROT_WRITE,
					       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
					: NULL;

		done = one_after_other(own, size, size_of_next, &good);
		if (done && pthread_equal(ended.thread, next.thread) != same) {
			is_enough = true;
			done = false;
		}
	}
	asked = 0;
	return done && (!is_unmapped || set_filter()) && !unregister() && asked;
}

static bool stack_is_kept(void)
{
	return number_is_anothers(8 * STACK, STACK, false, false);
}

static bool stack_is_its(void)
{
	return number_is_anothers(STACK, STACK, false, true);
}

static bool stack_is_unmapped(void)
{
	return number_is_anothers(STACK, 8 * STACK, true, false);
}

/* ------------------------------------------------------------------- ways to end */

static void exit_thread(void)
{
	pthread_exit(NULL);
}

static void on_exit_thread(int sig)
{
	(void)sig;
	pthread_exit(NULL);
}

static void on_call_inner(int sig)
{
	(void)sig;
	(void)in_handler(1);
}

static void take_signal(void)
{
	(void)raise(SIGUSR1);
}

static bool by_itself(void)
{
	what_outer = exit_thread;
	return change_behind_each();
}

static bool by_many(void)
{
	what_outer = exit_thread;
	return change_behind_all();
}

static bool by_handler(void)
{
	what_outer = take_signal;
	return signal(SIGUSR1, on_exit_thread) != SIG_ERR && change_behind_each();
}

/* In a callback of the handler's, on top of another one. */
static bool by_both(void)
{
	what_outer = take_signal;
	what_inner = exit_thread;
	return signal(SIGUSR1, on_call_inner) != SIG_ERR && change_behind_each();
}

static void wait_for_cancel(void)
{
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	(void)pthread_cancel(pthread_self());
	for (;;)
		;
}

static bool by_cancel(void)
{
	what_outer = wait_for_cancel;
	return change_behind_each();
}

/* ------------------------------------------------------------------ the first thread */

static bool first_has_ended(void)
{
	return thread_state(getpid()) == 'Z';
}

static void *change_without_first(void *arg)
{
	bool good = wait_until(first_has_ended);

	_exit(good && !unregister() && !register_ftrace_function(&ops) && !unregister() ? 0 : 1);
	return arg;
}

static bool first_thread(void)
{
	bool good = !add_entries() && !register_ftrace_function(&ops);
	pthread_t thread;

	what_outer = exit_thread;
	if (good && !pthread_create(&thread, NULL, change_without_first, NULL))
		(void)outer(1);
	return false;
}

/* ------------------------------------------------------------------------- left */

static sigjmp_buf away;
static _Atomic bool has_left;

static void on_leave(int sig)
{
	(void)sig;
	siglongjmp(away, 1);
}

static __attribute__((noinline)) void leave(void)
{
	volatile char room[4096] = {0};

	if (!sigsetjmp(away, 1))
		(void)outer(1);
	(void)room[0];
}

static void *leave_and_stay(void *arg)
{
	leave();
	has_left = true;
	for (;;)
		(void)pause();
	return arg;
}

static bool leaver_sleeps(void)
{
	return has_left;
}

static bool left(void)
{
	bool good = signal(SIGUSR1, on_leave) != SIG_ERR && !add_entries() &&
		    !register_ftrace_function(&ops);
	pthread_t thread;

	what_outer = take_signal;
	good = good && !pthread_create(&thread, NULL, leave_and_stay, NULL) &&
	       wait_until(leaver_sleeps) && !unregister();
	/* It may have been asked before the thread slept. */
	asked = 0;
	for (int i = 0; i < 20 && good; i++)
		good = !register_ftrace_function(&ops) && !unregister();
	if (asked > 1)
		printf("# asked %u times\n", asked);
	return good && asked <= 1;
}

/* ----------------------------------------------------------------------- copies */

static _Atomic bool is_in, is_done;

static void stay_until_asked(void)
{
	is_in = true;
	while (!asked)
		;
	is_done = true;
}

static bool callback_runs(void)
{
	return is_in;
}

/* A thread with the stack, and the record, of one that ended in a callback. */
static bool is_waited_for(uintptr_t before)
{
	pthread_t thread;
	bool good;

	asked = 0;
	what_outer = stay_until_asked;
	good = !pthread_create(&thread, NULL, call_outer, NULL) && wait_until(callback_runs) &&
	       guard == before && !unregister() && is_done;
	asked++; /* where nobody has, it ends, too */
	return good;
}

static bool copied(void)
{
	bool good;
	int status = 1;
	pid_t pid;

	what_outer = exit_thread;
	good = !add_entries() && !register_ftrace_function(&ops) && run_thread() && !unregister() &&
	       asked == 1 && !register_ftrace_function(&ops);
	pid = fork();
	if (!pid) {
		(void)alarm(60);
		_exit(is_waited_for(guard) ? 0 : 1);
	}
	return good && pid > 0 && waitpid(pid, &status, 0) == pid && !status;
}

static bool can_choose_number(void)
{
	return let_next_be(getpid());
}

/* Which controls see a row fail; BY_NUMBER: mutants do, and a thread's number is chosen. */
enum { BY_NOBODY = 1, BY_ASKED_AGAIN = 2, BY_COPIED = 4, BY_NUMBER = 8 };
#if defined(NOBODY)
#define CONTROLS BY_NOBODY
#elif defined(ASKED_AGAIN)
#define CONTROLS BY_ASKED_AGAIN
#elif defined(COPIED)
#define CONTROLS BY_COPIED
#endif

static const struct {
	bool (*run)(void);
	const char *name;
	int controls;
} table[] = {
	{by_many, "pthread_exit() in a callback, of many threads", BY_NOBODY},
	{by_itself, "with a change behind each", BY_ASKED_AGAIN},
	{by_both, "in a callback on top of another one", BY_ASKED_AGAIN},
	{by_handler, "in a signal handler", 0},
	{by_cancel, "by cancellation", 0},
	{first_thread, "the process's first thread", 0},
	{stack_is_kept, "its number is a computing thread's", BY_NUMBER},
	{stack_is_its, "and its stack, too", BY_NUMBER},
	{stack_is_unmapped, "and its stack is not to be read, under a filter", BY_NUMBER},
	{left, "a callback that was left for good is waited for once", BY_ASKED_AGAIN},
	{copied, "in a copy of the process, on the stack of such a thread", BY_COPIED},
};

int main(void)
{
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
#ifdef CONTROLS
		if (!(table[i].controls & CONTROLS))
			continue;
#endif
		if (table[i].controls & BY_NUMBER && !can_choose_number())
			printf("ok %u - %s # SKIP ns_last_pid is not to be written\n", ++rows,
			       table[i].name);
		else
			row_in_child(table[i].run, table[i].name);
	}
	return end_rows();
}
