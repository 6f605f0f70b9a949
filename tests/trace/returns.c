/* SPDX-License-Identifier: MIT */
/*
 * Returns under what a program does with its stack, in C: every entry that is traced has one
 * return, told once, at its depth; the functions' results are theirs. Recursion a million deep;
 * tail calls, direct, conditional with live flags, mutual; longjmp(); handlers on alternate stacks;
 * vfork() and fork(); fibres that move between threads; cancelled, exiting and short threads; last
 * destructors.
 *
 * Control (-DBY_THREAD): activation records that are a stack for each thread, as a shadow stack is,
 * by the linker: what longjmp() has left, and fibres, are not told right.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "graph.h"

static volatile long sink;

#define AT(function) ((unsigned long)(uintptr_t)(function))

/* ---------------------------------------------------------------- recursion */

TRACED long recurse(long depth);
long recurse(long depth)
{
	long below = depth ? recurse(depth - 1) + 1 : 0;

	sink = below;
	return below;
}

/* Two functions, so that the depth at the end says how deep it was. */
#define DEEP 1000000l
static void *recurse_deep(void *good)
{
	graph_reset();
	*(bool *)good = recurse(DEEP) == DEEP && graph_is_balanced(DEEP + 1) &&
			graph_is(60, AT(recurse), 60, false);
	return NULL;
}

static bool on_stack_of(size_t size, void *(*function)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;
	bool good = false;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, size);
	if (pthread_create(&thread, &attr, function, &good))
		return false;
	pthread_join(thread, NULL);
	pthread_attr_destroy(&attr);
	return good;
}

/* ---------------------------------------------------------------- tail calls */

TRACED long last(long n);
long last(long n)
{
	sink = n;
	return n + 1;
}

TRACED long direct(long n);
long direct(long n)
{
	sink = n;
	return last(n * 2);
}

TRACED long around(long n);
long around(long n)
{
	long value = direct(n) + 1;

	sink = value;
	return value;
}

static bool tail_call(void)
{
	graph_reset();
	return around(5) == 12 && graph_is(0, AT(around), 0, false) &&
	       graph_is(1, AT(direct), 1, false) && graph_is(2, AT(direct), 1, true) &&
	       graph_is(3, AT(last), 1, false) && graph_is(4, AT(last), 1, true) &&
	       graph_is(5, AT(around), 0, true) && graph_is_balanced(3);
}

TRACED long odd(long n, long sum);
TRACED long even(long n, long sum);
long even(long n, long sum)
{
	sink = n;
	return n ? odd(n - 1, sum + 1) : sum;
}
long odd(long n, long sum)
{
	sink = n;
	return n ? even(n - 1, sum + 2) : -sum;
}

/* A conditional branch to a traced function. */
long conditional(long n);
long by_flags(long n);
__asm__(".pushsection .text\n"
	".globl conditional\n.type conditional, %function\n"
	"conditional:\n"
#ifdef __aarch64__
	"1:	nop\n"
	"	cmp x0, #7\n"
	"	b.eq last\n"
	"	sub x0, x0, #1\n"
	"	ret\n"
#else
	"1:	.byte 0x0f, 0x1f, 0x44, 0x00, 0x00\n"
	"	cmpq $7, %rdi\n"
	"	je last\n"
	"	leaq -1(%rdi), %rax\n"
	"	ret\n"
#endif
	".size conditional, . - conditional\n"
	".section __patchable_function_entries, \"aw\", %progbits\n"
	"	.balign 8\n	.quad 1b\n"
	".popsection\n");

static bool other_tail_calls(void)
{
	bool good;

	graph_reset();
	good = even(100001, 0) == -150001 && graph_is_balanced(100002);
	graph_reset();
	return conditional(7) == 8 && conditional(9) == 8 && graph_is_balanced(3) && good;
}

/* ------------------------------------------------------------------- longjmp */

static jmp_buf place;

TRACED long jump_from(long depth);
long jump_from(long depth)
{
	if (!depth)
		longjmp(place, 7);
	sink = jump_from(depth - 1);
	return sink;
}

TRACED long jumps(long depth);
long jumps(long depth)
{
	volatile long value = depth;

	if (setjmp(place) == 7)
		return recurse(value);
	return jump_from(depth);
}

/* The 11 that are jumped over have no return; those behind are at the depth where they are. */
static bool jump_and_go_on(void)
{
	graph_reset();
	return jumps(10) == 10 && graph_counts.entries == 1 + 11 + 11 &&
	       graph_counts.returns == 1 + 11 && graph_is(11, AT(jump_from), 11, false) &&
	       graph_is(12, AT(recurse), 1, false) && graph_is(34, AT(jumps), 0, true);
}

static bool jump_often(void)
{
	bool good = true;

	for (int i = 0; i < 1000; i++)
		good = jumps(i) == i && good;
	graph_reset();
	return recurse(30) == 30 && graph_is_balanced(31) && graph_is(0, AT(recurse), 0, false) &&
	       good;
}

/* ------------------------------------------------------------ signal handlers */

static volatile sig_atomic_t handled;
static sigjmp_buf signal_place;

TRACED void handler(int signal);
void handler(int signal)
{
	(void)signal;
	sink = recurse(5);
	handled++;
}

TRACED void handler_jumps(int signal);
void handler_jumps(int signal)
{
	(void)signal;
	sink = recurse(5);
	siglongjmp(signal_place, 1);
}

static void install(void (*function)(int))
{
	struct sigaction action = {.sa_handler = function, .sa_flags = SA_ONSTACK};

	sigaction(SIGUSR1, &action, NULL);
}

TRACED long raise_below(long depth);
long raise_below(long depth)
{
	long value;

	if (!depth)
		return raise(SIGUSR1);
	value = raise_below(depth - 1) + 1;
	sink = value;
	return value;
}

static bool handlers(void)
{
	static char memory[1 << 16];
	const stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};
	const stack_t none = {.ss_flags = SS_DISABLE};
	bool good = true;

	for (int on_alternate = 0; on_alternate < 2; on_alternate++) {
		sigaltstack(on_alternate ? &stack : &none, NULL);
		install(handler);
		graph_reset();
		good = raise_below(4) == 4 && graph_is_balanced(5 + 1 + 6) && good;
		install(handler_jumps);
		graph_reset();
		if (!sigsetjmp(signal_place, 1))
			good = raise_below(4) < 0 && good; /* not reached */
		good = graph_counts.returns == 6 && graph_counts.entries == 12 && good;
		graph_reset();
		good = recurse(10) == 10 && graph_is_balanced(11) && good;
	}
	sigaltstack(&none, NULL);
	return good && handled == 2;
}

/* ------------------------------------------------------------------ processes */

TRACED int vforks(long depth);
int vforks(long depth)
{
	pid_t pid;
	int status;

	if (depth) {
		status = vforks(depth - 1);
		sink = status;
		return status;
	}
	pid = vfork();
	if (!pid) {
		sink = recurse(20);
		_exit(17);
	}
	status = child_status(pid);
	sink = status;
	return status;
}

TRACED int forks(long depth);
int forks(long depth)
{
	int value;

	if (!depth)
		return fork();
	value = forks(depth - 1);
	sink = value;
	return value;
}

static bool processes(void)
{
	int pid;
	bool good;

	graph_reset();
	good = vforks(5) == 17 && graph_counts.returns == graph_counts.entries;
	graph_reset();
	pid = forks(5);
	if (!pid)
		_exit(graph_is_balanced(6) && recurse(5) == 5 ? 21 : 22);
	return graph_is_balanced(6) && child_status(pid) == 21 && good;
}

/* --------------------------------------------------------------------- fibres */

#define FIBRES     8
#define FIBRE_SIZE 65536

struct fibre {
	ucontext_t context, back;
	int turns; /* that it has left */
	bool is_over, good;
	pthread_mutex_t lock;
};
static struct fibre fibres[FIBRES];
static int fibres_left = FIBRES;

TRACED long yield_below(struct fibre *f, long depth);
long yield_below(struct fibre *f, long depth)
{
	long value;

	if (!depth) {
		swapcontext(&f->context, &f->back);
		return 0;
	}
	value = yield_below(f, depth - 1) + 1;
	sink = value;
	return value;
}

static void run_fibre(int number)
{
	struct fibre *f = &fibres[number];

	f->good = true;
	while (f->turns--)
		f->good = yield_below(f, 1 + f->turns % 17) == 1 + f->turns % 17 && f->good;
	f->is_over = true;
	__atomic_fetch_sub(&fibres_left, 1, __ATOMIC_SEQ_CST);
	setcontext(&f->back);
}

/* Each thread goes on with whatever fibre is free: they move. */
static void *run_fibres(void *seed)
{
	unsigned i = (unsigned)(uintptr_t)seed;

	while (__atomic_load_n(&fibres_left, __ATOMIC_SEQ_CST)) {
		struct fibre *f = &fibres[i++ % FIBRES];

		if (pthread_mutex_trylock(&f->lock))
			continue;
		if (!f->is_over)
			swapcontext(&f->back, &f->context);
		pthread_mutex_unlock(&f->lock);
	}
	return NULL;
}

static bool moving_fibres(void)
{
	static char stacks[FIBRES][FIBRE_SIZE];
	unsigned long entries = graph_entries, returns = graph_returns, wanted = 0;
	pthread_t threads[3];
	bool good = true;

	for (int i = 0; i < FIBRES; i++) {
		struct fibre *f = &fibres[i];

		f->turns = 500;
		for (int turn = f->turns; turn--;)
			wanted += 2 + (unsigned)turn % 17;
		pthread_mutex_init(&f->lock, NULL);
		getcontext(&f->context);
		f->context.uc_stack.ss_sp = stacks[i];
		f->context.uc_stack.ss_size = FIBRE_SIZE;
		makecontext(&f->context, (void (*)(void))run_fibre, 1, i);
	}
	for (uintptr_t i = 0; i < 3; i++)
		good = !pthread_create(&threads[i], NULL, run_fibres, (void *)i) && good;
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < FIBRES; i++)
		good = fibres[i].good && good;
	return good && graph_entries - entries == wanted && graph_returns - returns == wanted;
}

/* -------------------------------------------------------------------- threads */

static pthread_key_t key;

TRACED void destroy(void *value);
void destroy(void *value)
{
	/* Again, as often as it is done: behind all that the C library's own destructors do. */
	sink = recurse(3);
	if ((uintptr_t)value > 1)
		pthread_setspecific(key, (void *)((uintptr_t)value - 1));
}

TRACED void *short_thread(void *unused);
void *short_thread(void *unused)
{
	pthread_setspecific(key, (void *)2);
	sink = recurse(3);
	return unused;
}

TRACED void exit_below(long depth);
void exit_below(long depth)
{
	if (!depth)
		pthread_exit((void *)5);
	exit_below(depth - 1);
	sink = depth;
}

TRACED void clean_up(void *count);
void clean_up(void *count)
{
	++*(unsigned *)count;
	sink = recurse(2);
}

TRACED void *exiting_thread(void *count);
void *exiting_thread(void *count)
{
	pthread_cleanup_push(clean_up, count);
	exit_below(20);
	pthread_cleanup_pop(0);
	return NULL;
}

TRACED long wait_below(long depth);
long wait_below(long depth)
{
	if (!depth)
		return pause();
	sink = wait_below(depth - 1);
	return sink;
}

TRACED void *cancelled_thread(void *count);
void *cancelled_thread(void *count)
{
	pthread_cleanup_push(clean_up, count);
	sink = wait_below(20);
	pthread_cleanup_pop(0);
	return NULL;
}

static bool short_threads(void)
{
	unsigned long entries = graph_entries, returns = graph_returns;
	pthread_t threads[10];
	bool good = !pthread_key_create(&key, destroy);

	for (int round = 0; round < 200 && good; round++) {
		for (int i = 0; i < 10; i++)
			good = !pthread_create(&threads[i], NULL, short_thread, NULL) && good;
		for (int i = 0; i < 10; i++)
			pthread_join(threads[i], NULL);
	}
	entries = graph_entries - entries;
	return good && entries == 2000ul * (5 + 2 * 5) && graph_returns - returns == entries;
}

static bool ending_threads(void)
{
	unsigned cleaned = 0;
	void *result = NULL;
	pthread_t thread;
	bool good;

	good = !pthread_create(&thread, NULL, exiting_thread, &cleaned) &&
	       !pthread_join(thread, &result) && result == (void *)5;
	good = !pthread_create(&thread, NULL, cancelled_thread, &cleaned) &&
	       !pthread_cancel(thread) && !pthread_join(thread, &result) &&
	       result == PTHREAD_CANCELED && good;
	return good && cleaned >= 1;
}

#ifdef BY_THREAD
#include "linux/entry/activation.h"

struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls);
struct shunt_activation *__wrap_shunt_activation_get(uintptr_t sp, bool calls);
static __thread struct shunt_activation stack_of_thread[2048];
static __thread unsigned height;

/* A return is that of the last entry. */
struct shunt_activation *__wrap_shunt_activation_find(uintptr_t sp, bool calls)
{
	(void)sp;
	(void)calls;
	return height ? &stack_of_thread[--height] : NULL;
}

struct shunt_activation *__wrap_shunt_activation_get(uintptr_t sp, bool calls)
{
	(void)sp;
	(void)calls;
	return height < 2048 ? &stack_of_thread[height++] : NULL;
}

static bool one_thread(void)
{
	graph_reset();
	return recurse(10) == 10 && graph_is_balanced(11);
}

int main(void)
{
	graph_begin();
	ok(one_thread(), "control: with a stack for each thread plain recursion is told right");
	ok(!jump_and_go_on(), "control: longjmp() is not");
	return tap_done();
}
#else
int main(void)
{
	graph_begin();
	ok(on_stack_of((size_t)512 << 20, recurse_deep), "recursion a million deep");
	ok(tail_call(), "a tail call ends its caller first");
	ok(other_tail_calls(), "100,000 mutual tail calls; conditional ones");
	ok(jump_and_go_on(), "longjmp() over 11 functions, and on");
	ok(jump_often(), "a thousand times");
	ok(handlers(), "signal handlers, also on an alternate stack, that return and that jump");
	ok(processes(), "vfork() and fork() below traced functions");
	ok(moving_fibres(), "fibres that move between threads");
	ok(short_threads(), "2,000 short threads with destructors of their own");
	ok(ending_threads(), "pthread_exit() and pthread_cancel() below traced functions");
	graph_end();
	graph_reset();
	ok(recurse(10) == 10 && !graph_counts.nr_events, "nothing is told behind the unregister");
	return tap_done();
}
#endif
