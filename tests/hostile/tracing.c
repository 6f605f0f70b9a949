/* SPDX-License-Identifier: MIT */
/*
 * Rows: functions are traced while threads call them, and other ops come and go with filters that
 * change. No call is skipped, none is seen behind the end of an ops, and a copy of the process that
 * is made in the middle of a change traces on.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/ftrace.h>

#include "core/ftrace.h"

#include "../common/cpu.h"
#include "hostile.h"

#define THREADS 2
#define TRACED  __attribute__((patchable_function_entry(5)))

static struct row *row;

/* Two, so that filters can leave one out. */
KEEP TRACED static long traced_one(long x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

KEEP TRACED static long traced_two(long x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 2;
}

/* ------------------------------------------------------------------- the callbacks */

static __thread unsigned long seen __attribute__((tls_model("initial-exec")));

static SHUNT_GENERAL_REGS void see(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				   struct ftrace_regs *regs)
{
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
	seen++;
}

/* Stays for a while, so that it is in there when its ops is unregistered. */
static _Atomic uint64_t came, gone; /* how often it was registered, and unregistered */
static _Atomic uint64_t late, inside;
static _Atomic long stays = 200; /* looks */

static SHUNT_GENERAL_REGS void stay(unsigned long ip, unsigned long parent, struct ftrace_ops *ops,
				    struct ftrace_regs *regs)
{
	uint64_t number = atomic_load(&came);

	atomic_fetch_add(&inside, 1);
	for (long i = 0; i < atomic_load(&stays) && atomic_load(&gone) < number; i++)
		relax_cpu();
	if (atomic_load(&gone) >= number)
		atomic_fetch_add(&late, 1);
	atomic_fetch_sub(&inside, 1);
	(void)ip;
	(void)parent;
	(void)ops;
	(void)regs;
}

static struct ftrace_ops always = {.func = see, .flags = SHUNT_FTRACE_GENERAL_REGS};
static struct ftrace_ops sometimes = {.func = stay, .flags = SHUNT_FTRACE_GENERAL_REGS};

/* ---------------------------------------------------------------------- the threads */

static pthread_t threads[THREADS];
static _Atomic bool over;

/* Each call is seen once; a signal handler may come in between, and does as much. */
static void call_both(void)
{
	unsigned long before = seen;

	MUST(row, traced_one(1) == 2 && traced_two(1) == 3);
	MUST(row, seen == before + 2);
}

static void on_signal(int sig)
{
	unsigned long before = seen;

	(void)sig;
	call_both();
	seen = before;
}

static void *call_until_over(void *arg)
{
	while (!atomic_load_explicit(&over, memory_order_relaxed))
		for (int i = 0; i < 64; i++)
			call_both();
	return arg;
}

static void start_threads(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	MUST(row, !sigaction(SIGUSR1, &action, NULL));
	for (int i = 0; i < THREADS; i++)
		MUST(row, !pthread_create(&threads[i], NULL, call_until_over, NULL));
}

static void end_threads(void)
{
	atomic_store(&over, true);
	for (int i = 0; i < THREADS; i++)
		(void)pthread_join(threads[i], NULL);
}

/* ------------------------------------------------------- what comes and goes */

int __real_shunt_port_trace_wait(void);
int __wrap_shunt_port_trace_wait(void);
static _Atomic bool no_wait;

int __wrap_shunt_port_trace_wait(void)
{
	return atomic_load(&no_wait) ? 0 : __real_shunt_port_trace_wait();
}

/* Register, with a filter by chance, another filter, and unregister: where @is_called, in the
 * midst. */
static void come_and_go(bool is_called)
{
	static const char *const filters[] = {"traced_*", "traced_one", "traced_t*"};

	atomic_fetch_add(&came, 1);
	MUST(row, !ftrace_set_filter(&sometimes, filters[pick(row, 3)], 0, 1));
	MUST(row, !register_ftrace_function(&sometimes));
	MUST(row, !ftrace_set_filter(&sometimes, filters[pick(row, 3)], 0, 1));
	if (is_called)
		AWAIT(atomic_load(&inside));
	MUST(row, !unregister_ftrace_function(&sometimes));
	atomic_fetch_add(&gone, 1);
}

static void begin(struct row *r)
{
	row = r;
	MUST(r, !ftrace_set_filter(&always, "traced_*", 0, 1));
	MUST(r, !register_ftrace_function(&always));
}

static void row_come_and_go(struct row *r)
{
	begin(r);
	atomic_store(&no_wait, r->is_control);
	if (r->is_control)
		atomic_store(&stays, 10000000);
	start_threads();
	while (more(r)) {
		(void)pthread_kill(threads[pick(r, THREADS)], SIGUSR1);
		come_and_go(true);
		provoked(r, 1);
		if (atomic_load(&late))
			failed(r, "a callback behind its unregister");
	}
	end_threads();
	MUST(r, !unregister_ftrace_function(&always));
}

/* ------------------------------------------------- copies in the middle of a change */

static _Atomic bool wanted;

static void wait_for_copy(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

enum { GOOD, BAD_CALL, BAD_CHANGE };

/* In a copy: what was traced is, and what comes and goes can be anything, but is done whole. */
static int live_on(void)
{
	struct ftrace_ops own = {.func = see, .flags = SHUNT_FTRACE_GENERAL_REGS};
	unsigned long before = seen;

	if (traced_one(1) != 2 || traced_two(1) != 3 || seen != before + 2)
		return BAD_CALL;
	if (ftrace_set_filter(&own, "traced_one", 0, 1) || register_ftrace_function(&own))
		return BAD_CHANGE;
	before = seen;
	if (traced_one(1) != 2 || traced_two(1) != 3 || seen != before + 3)
		return BAD_CALL;
	if (unregister_ftrace_function(&own) || unregister_ftrace_function(&always))
		return BAD_CHANGE;
	before = seen;
	return traced_one(1) != 2 || traced_two(1) != 3 || seen != before ? BAD_CALL : GOOD;
}

static void judge(pid_t child)
{
	int status = -1;

	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		failed(row, "a child was killed");
	else if (WEXITSTATUS(status))
		failed(row, WEXITSTATUS(status) == BAD_CALL ? "a child's call is wrong"
							    : "a child cannot change");
	provoked(row, 1);
}

static void *copy_until_over(void *arg)
{
	while (!atomic_load(&over)) {
		pid_t child;

		(void)sched_yield();
		if (!atomic_load(&wanted))
			continue;
		child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (!child)
			_exit(live_on());
		atomic_store(&wanted, false);
		judge(child);
	}
	return arg;
}

static void row_copy(struct row *r)
{
	pthread_t thread;

	begin(r);
	if (r->is_control)
		take_repair_out();
	MUST(r, !pthread_create(&thread, NULL, copy_until_over, NULL));
	while (more(r)) {
		hold_next(wait_for_copy, NULL);
		come_and_go(false);
	}
	hold_next(NULL, NULL);
	atomic_store(&over, true);
	MUST(r, !pthread_join(thread, NULL));
}

/* ----------------------------------------------------------- returns, and longjmp() */

void *__real_shunt_activation_find(uintptr_t sp, bool make);
void *__wrap_shunt_activation_find(uintptr_t sp, bool make);
static _Atomic bool no_activations;

void *__wrap_shunt_activation_find(uintptr_t sp, bool make)
{
	return atomic_load(&no_activations) ? NULL : __real_shunt_activation_find(sp, make);
}

static __thread long entered __attribute__((tls_model("initial-exec")));
static __thread long returned __attribute__((tls_model("initial-exec")));

static int on_entry(struct ftrace_graph_ent *trace, struct fgraph_ops *ops,
		    struct ftrace_regs *regs)
{
	(void)trace;
	(void)ops;
	(void)regs;
	entered++;
	return 1;
}

static void on_return(struct ftrace_graph_ret *trace, struct fgraph_ops *ops,
		      struct ftrace_regs *regs)
{
	(void)trace;
	(void)ops;
	(void)regs;
	returned++;
}

static struct fgraph_ops graph = {.entryfunc = on_entry, .retfunc = on_return};
static struct fgraph_ops other_graph = {.entryfunc = on_entry, .retfunc = NULL};

KEEP TRACED static long traced_deep(jmp_buf *out, int depth)
{
	long sum = 0;

	__asm__ volatile("" : "+r"(depth));
	if (depth)
		sum = traced_deep(out, depth - 1);
	else if (out)
		longjmp(*out, 1);
	__asm__ volatile("" : "+r"(sum));
	return sum + 1;
}

/* Twenty that return; and twenty that are left, none of which does. */
static void *recurse_until_over(void *arg)
{
	while (!atomic_load_explicit(&over, memory_order_relaxed)) {
		volatile long before = returned;
		jmp_buf out;

		MUST(row, traced_deep(NULL, 19) == 20 && returned == before + 20);
		before = returned;
		if (!setjmp(out))
			(void)traced_deep(&out, 19);
		MUST(row, returned == before);
	}
	return arg;
}

static void row_returns(struct row *r)
{
	row = r;
	MUST(r, !ftrace_set_filter(&graph.ops, "traced_deep", 0, 1));
	MUST(r, !ftrace_set_filter(&other_graph.ops, "traced_*", 0, 1));
	MUST(r, !register_ftrace_graph(&graph));
	atomic_store(&no_activations, r->is_control);
	for (int i = 0; i < THREADS; i++)
		MUST(r, !pthread_create(&threads[i], NULL, recurse_until_over, NULL));
	while (more(r)) {
		MUST(r, !register_ftrace_graph(&other_graph));
		MUST(r, !unregister_ftrace_graph(&other_graph));
		provoked(r, 1);
	}
	end_threads();
	MUST(r, !unregister_ftrace_graph(&graph));
}

/* ------------------------------------------------------------------------ the rows */

static struct row rows[] = {
	{.name = "trace-come-and-go",
	 .title = "traces functions by ops that come and go, while threads and their signal "
		  "handlers "
		  "call them",
	 .unit = "ops that came and went",
	 .run = row_come_and_go,
	 .times = 400,
	 .int3 = HOLDS,
	 .not_tsan = true,
	 .control = "unregister does not wait"},
	{.name = "trace-raw-clone",
	 .title = "copies itself by a raw clone() in the middle of a change of what is traced",
	 .unit = "children that trace on",
	 .run = row_copy,
	 .times = 200,
	 .int3 = HOLDS,
	 .not_tsan = true,
	 .control = CPU_HAS_TRAPS ? "no repair in the child" : NULL, /* each store is whole */
	 .control_by_remap = true /* an int3 that is left does the right thing */},
	{.name = "trace-returns",
	 .title = "traces returns, with longjmp() over them, while other ops come and go",
	 .unit = "ops that came and went",
	 .run = row_returns,
	 .times = 400,
	 .int3 = HOLDS,
	 .not_tsan = true,
	 .control = "activation records are not found"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
