/* SPDX-License-Identifier: MIT */
/*
 * Rows: threads and coroutines on small stacks come through a site in the middle of an
 * update. A trap takes some kilobytes for the signal frame, which is not there; a new page takes
 * nothing.
 */
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "../common/cpu.h"
#include "hostile.h"

#define PAGE      4096u
#define FIBRE     (2 * PAGE) /* all of a coroutine's stack */
#define LEFT      1024u      /* of any stack, when it comes to the site */
#define ALTERNATE 65536u

static struct row *row;
static _Atomic bool wanted;
static bool has_alternate;

static void wait_for_visitor(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

/* Down to @bottom + LEFT, and there through the site. */
static KEEP void descend(const char *bottom)
{
	char room[128];

	__asm__ volatile("" : : "r"(room) : "memory");
	if (room - bottom > (long)LEFT)
		descend(bottom);
	else
		go_through(row);
	__asm__ volatile("" : : "r"(room) : "memory");
}

static void visit(const char *bottom)
{
	if (!atomic_load(&wanted))
		return;
	descend(bottom);
	provoked(row, 1);
	atomic_store(&wanted, false);
}

/* @len bytes with a page below that nobody may touch. */
static char *guarded(size_t len)
{
	char *p =
		mmap(NULL, len + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	MUST(row, p != MAP_FAILED && !mprotect(p, PAGE, PROT_NONE));
	return p + PAGE;
}

static void take_alternate(void)
{
	stack_t alternate = {.ss_size = ALTERNATE};

	if (!has_alternate)
		return;
	alternate.ss_sp = malloc(ALTERNATE);
	MUST(row, !sigaltstack(&alternate, NULL));
}

/* ----------------------------------------------------------------------- threads */

static void *small_thread(void *arg)
{
	take_alternate();
	while (more(row)) {
		visit(arg);
		(void)sched_yield();
	}
	return NULL;
}

static void update_beside(void *(*start)(void *), void *arg, const pthread_attr_t *attr)
{
	pthread_t thread;

	MUST(row, !pthread_create(&thread, attr, start, arg));
	while (more(row)) {
		hold_next(wait_for_visitor, NULL);
		MUST(row, !try_update());
	}
	MUST(row, !pthread_join(thread, NULL));
}

static void row_thread(struct row *r)
{
	size_t size = (size_t)sysconf(_SC_THREAD_STACK_MIN);
	pthread_attr_t attr;
	char *stack;

	row = r;
	size = (size + PAGE - 1) & -(size_t)PAGE;
	stack = guarded(size);
	MUST(r, !pthread_attr_init(&attr) && !pthread_attr_setstack(&attr, stack, size));
	update_beside(small_thread, stack, &attr);
}

/* --------------------------------------------------------------------- coroutines */

static ucontext_t outside, within;
static char *fibre;

static void small_fibre(void)
{
	for (;;) {
		visit(fibre);
		(void)swapcontext(&within, &outside);
	}
}

static void *switch_to_and_fro(void *arg)
{
	take_alternate();
	fibre = guarded(FIBRE);
	MUST(row, !getcontext(&within));
	within.uc_stack.ss_sp = fibre;
	within.uc_stack.ss_size = FIBRE;
	makecontext(&within, small_fibre, 0);
	while (more(row)) {
		(void)swapcontext(&outside, &within);
		(void)sched_yield();
	}
	return arg;
}

static void row_fibre(struct row *r)
{
	row = r;
	update_beside(switch_to_and_fro, NULL, NULL);
}

static void row_fibre_alternate(struct row *r)
{
	has_alternate = !r->is_control;
	row_fibre(r);
}

static void row_thread_alternate(struct row *r)
{
	has_alternate = !r->is_control;
	row_thread(r);
}

#define UNIT "calls with 1 KiB of stack left, each in the middle of an update"

static struct row rows[] = {
	{.name = "small-thread",
	 .title = "runs threads on the smallest stacks (PTHREAD_STACK_MIN)",
	 .unit = UNIT,
	 .run = row_thread,
	 .times = 500,
	 .flip = true,
	 .int3 = FAILS,
	 .not_asan = true,
	 .not_tsan = true},
	{.name = "small-thread-alternate",
	 .title = "the same with an alternate signal stack",
	 .unit = UNIT,
	 .run = row_thread_alternate,
	 .times = 500,
	 .flip = true,
	 .not_asan = true,
	 .not_tsan = true,
	 .control = CPU_HAS_TRAPS ? "no alternate stack" : NULL, /* no trap, no frame */
	 .control_by_int3 = true},
	{.name = "coroutine",
	 .title = "runs coroutines (makecontext) on stacks of 8 KiB",
	 .unit = UNIT,
	 .run = row_fibre,
	 .times = 500,
	 .flip = true,
	 .int3 = FAILS,
	 .not_asan = true,
	 .not_tsan = true},
	{.name = "coroutine-alternate",
	 .title = "the same with an alternate signal stack",
	 .unit = UNIT,
	 .run = row_fibre_alternate,
	 .times = 500,
	 .flip = true,
	 .not_asan = true,
	 .not_tsan = true,
	 .control = CPU_HAS_TRAPS ? "no alternate stack" : NULL, /* no trap, no frame */
	 .control_by_int3 = true},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
