/* SPDX-License-Identifier: MIT */
/*
 * Row: static calls and static branches in signal handlers, nested, on alternate stacks, as
 * fast as timers of 50 us and a thread can send the signals, while sites are updated: tens
 * of thousands a second, where the machine allows it; the rate is printed. Each update is held
 * half way until handlers have been through.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "../common/emulated.h"

#include "hostile.h"

/* An emulated machine has no time for more than the handlers of so many. */
#define OFTEN (is_emulated() ? 2000000 : 50000) /* ns */

#define STACK   65536
#define THREADS 2
#define HELD(r) ((r)->times / 1000) /* updates, in each of which handlers have come through */

static struct row *row;
static pthread_t threads[THREADS];
static timer_t timers[THREADS];
static _Atomic uint64_t handled, nested, off_stack;
static _Atomic bool over;
static _Atomic int ready;
static char stacks[THREADS][STACK];
static __thread char *stack;
static __thread unsigned depth; /* of handlers */
static _Atomic unsigned deepest;

static void enter(void)
{
	if (++depth > atomic_load(&deepest))
		atomic_store(&deepest, depth);
}

static void through(_Atomic uint64_t *counter)
{
	char here;

	go_through(row);
	if (&here < stack || &here >= stack + STACK)
		atomic_fetch_add(&off_stack, 1);
	atomic_fetch_add(counter, 1);
	provoked(row, 1);
}

static void on_inner(int sig)
{
	(void)sig;
	enter();
	through(&nested);
	depth--;
}

static void on_outer(int sig)
{
	(void)sig;
	enter();
	through(&handled);
	(void)pthread_kill(pthread_self(), SIGUSR2); /* comes at once, on top of this */
	through(&handled);
	depth--;
}

static void install(int sig, void (*handler)(int))
{
	struct sigaction act = {.sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART};

	MUST(row, !sigaction(sig, &act, NULL));
}

/* On the thread that is interrupted. */
static void *suffer(void *arg)
{
	stack_t alternate = {.ss_size = STACK}, before;
	struct itimerspec often = {{.tv_nsec = OFTEN}, {.tv_nsec = OFTEN}};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
	timer_t *timer = &timers[(char(*)[STACK])arg - stacks];

	alternate.ss_sp = stack = arg;
	MUST(row, !sigaltstack(&alternate, &before));
	event._sigev_un._tid = gettid();
	MUST(row, !timer_create(CLOCK_MONOTONIC, &event, timer));
	MUST(row, !timer_settime(*timer, 0, &often, NULL));
	atomic_fetch_add(&ready, 1);
	while (!atomic_load(&over))
		go_through(row);
	MUST(row, !timer_delete(*timer));
	MUST(row, !sigaltstack(&before, NULL)); /* AddressSanitizer's, which it unmaps */
	return NULL;
}

/* Half way: until a handler in each thread has been through, with one on top of it. */
static void send_until_handled(void *arg)
{
	uint64_t then = atomic_load(&handled), inner = atomic_load(&nested);

	(void)arg;
	for (int i = 0; i < THREADS; i++)
		(void)pthread_kill(threads[i], SIGUSR1);
	AWAIT(atomic_load(&handled) > then + 1 && atomic_load(&nested) > inner);
}

static uint64_t microseconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* For information: a machine may be too slow, or too busy. */
static void print_rate(uint64_t us)
{
	uint64_t signals = handled / 2 + nested; /* the outer handler goes through twice */

	diag("info|%s|%s|%llu signals a second, nested to depth %u", row->name, way_name(row),
	     (unsigned long long)(signals * 1000000u / (us ? us : 1)), deepest);
}

static void row_handlers(struct row *r)
{
	static const struct itimerspec never;
	uint64_t then;

	row = r;
	if (r->is_control)
		take_poke_out();
	install(SIGUSR1, on_outer);
	install(SIGUSR2, on_inner);
	for (int i = 0; i < THREADS; i++)
		MUST(r, !pthread_create(&threads[i], NULL, suffer, stacks[i]));
	AWAIT(atomic_load(&ready) == THREADS);
	then = microseconds();
	while (more(r) || (times_held() < HELD(r) && !r->is_control)) {
		hold_next(send_until_handled, NULL);
		update(r);
	}
	print_rate(microseconds() - then);
	/* A slow machine may be in handlers alone, as long as signals come. */
	for (int i = 0; i < THREADS; i++)
		MUST(r, !timer_settime(timers[i], 0, &never, NULL));
	atomic_store(&over, true);
	for (int i = 0; i < THREADS; i++)
		MUST(r, !pthread_join(threads[i], NULL));
	MUST(r, nested && handled && deepest >= 2 && !off_stack);
}

/* ------------------------------------------------- a handler that updates, in an update */

/* The thread that is updating is interrupted: it must be told, and must not wait for itself. */
static void on_update(int sig)
{
	(void)sig;
	if (try_update() < 0)
		provoked(row, 1);
	else
		failed(row, "an update within an update went through");
	go_through(row);
}

static void raise_it(void *arg)
{
	(void)arg;
	(void)raise(SIGBUS); /* one that an update does not block */
}

static void row_updating_handler(struct row *r)
{
	row = r;
	if (r->is_control)
		take_poke_out();
	install(SIGBUS, on_update);
	while (more(r)) {
		hold_next(raise_it, NULL);
		MUST(r, !try_update());
		go_through(r);
	}
}

static struct row rows[] = {
	{.name = "handlers",
	 .title = "runs through sites in signal handlers, nested, on alternate stacks",
	 .unit = "passes in handlers, beside and within updates",
	 .run = row_handlers,
	 .times = 100000,
	 .atomic = true,
	 .flip = true,
	 .not_tsan = true, /* delays signals to a system call */
	 .control = "no poke, torn writes"},
	{.name = "updating-handler",
	 .title = "updates in a signal handler, in the middle of an update",
	 .unit = "updates refused",
	 .run = row_updating_handler,
	 .times = 1000,
	 .atomic = true,
	 .flip = true,
	 .not_tsan = true,
	 .control = "no poke, torn writes"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
