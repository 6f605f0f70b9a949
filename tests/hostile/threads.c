/* SPDX-License-Identifier: MIT */
/*
 * Rows: threads by the thousand, cancelled threads, and functions that are left by longjmp(),
 * each through a site in the middle of an update. (C++ exceptions, and what unwinding must
 * find on every path, are in tests/unwind.)
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>

#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "hostile.h"

#define AT_ONCE 8
#define HELD(r) ((r)->times / 50) /* jumps */

static struct row *row;
static _Atomic bool over;
static _Atomic uint64_t passes;

/* A held update waits until somebody has been through the site from end to end. */
static void wait_for_pass(void *arg)
{
	uint64_t then = atomic_load(&passes);

	(void)arg;
	AWAIT(atomic_load(&passes) > then + 1 || atomic_load(&over));
}

static void pass(void)
{
	go_through(row);
	atomic_fetch_add(&passes, 1);
}

static void *update_until_over(void *arg)
{
	while (!atomic_load(&over)) {
		hold_next(wait_for_pass, NULL);
		update(row);
	}
	return arg;
}

static pthread_t begin(struct row *r)
{
	pthread_t updater;

	row = r;
	if (r->is_control)
		take_poke_out();
	MUST(r, !pthread_create(&updater, NULL, update_until_over, NULL));
	return updater;
}

/* Whether a row is to go on: on a busy machine updates may be late. */
static bool goes_on(const struct row *r)
{
	return more(r) || times_held() <= 10;
}

static void end(struct row *r, pthread_t updater)
{
	atomic_store(&over, true);
	MUST(r, !pthread_join(updater, NULL));
	MUST(r, r->is_control ||
			times_held() > 10); /* (of a control it would be no failure of its own) */
}

/* ----------------------------------------------------------------------- thousands */

static void *short_life(void *arg)
{
	pass();
	return arg;
}

static void row_thousands(struct row *r)
{
	pthread_t updater = begin(r);

	while (goes_on(r)) {
		pthread_t threads[AT_ONCE];
		int n = 0;

		while (n < AT_ONCE && !pthread_create(&threads[n], NULL, short_life, NULL))
			n++;
		MUST(r, n == AT_ONCE);
		while (n--)
			MUST(r, !pthread_join(threads[n], NULL));
		provoked(r, AT_ONCE);
	}
	end(r, updater);
}

/* ------------------------------------------------------------------------ cancelled */

static void *run_until_cancelled(void *arg)
{
	int old;

	if (pick(row, 2))
		(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	for (;;) {
		pass();
		pthread_testcancel();
	}
	return arg;
}

static void row_cancelled(struct row *r)
{
	pthread_t updater = begin(r);

	while (goes_on(r)) {
		uint64_t then = atomic_load(&passes);
		pthread_t thread;
		void *result = NULL;

		MUST(r, !pthread_create(&thread, NULL, run_until_cancelled, NULL));
		AWAIT(atomic_load(&passes) > then);
		MUST(r, !pthread_cancel(thread) && !pthread_join(thread, &result));
		MUST(r, result == PTHREAD_CANCELED);
		provoked(r, 1);
	}
	end(r, updater);
}

/* -------------------------------------------------------------------------- longjmp */

static __thread jmp_buf *back;

void jump_one(void);
void jump_two(void);
void hop_one(void);
void hop_two(void);

KEEP void jump_one(void)
{
	longjmp(*back, 1);
}

KEEP void jump_two(void)
{
	longjmp(*back, 2);
}

/* On the way to each: as in hostile.h, half an address leads nowhere. */
/* clang-format off */
#ifdef __aarch64__
#define JUMP "	b "
#else
#define JUMP "	jmp "
#endif
__asm__(".text\n"
	DESERT_BEFORE
	".globl hop_one, hop_two\n"
	".type hop_one" DESERT_FUNCTION
	"hop_one:\n"
	JUMP "jump_one\n"
	DESERT_BETWEEN
	".type hop_two" DESERT_FUNCTION
	"hop_two:\n"
	JUMP "jump_two\n"
	DESERT_BEHIND);
/* clang-format on */

DEFINE_STATIC_CALL(jumps, hop_one);
DEFINE_STATIC_KEY_FALSE(hops_to_two);

static KEEP int jump(void)
{
	jmp_buf here;
	int how;

	back = &here;
	how = setjmp(here);
	if (how)
		return how;
	if (row->way != FLIP)
		static_call(jumps)();
	else if (static_branch_unlikely(&hops_to_two))
		hop_two();
	else
		hop_one();
	return 0;
}

static int change_jumps(const struct row *r, bool to_two)
{
	if (r->way == FLIP)
		return to_two ? static_branch_enable(&hops_to_two)
			      : static_branch_disable(&hops_to_two);
	return static_call_update(jumps, to_two ? hop_two : hop_one);
}

static void *jump_until_over(void *arg)
{
	while (!atomic_load(&over)) {
		int how = jump();

		if (how != 1 && how != 2)
			failed(row, "a jump to the wrong place");
		atomic_fetch_add(&passes, 1);
		provoked(row, 1);
	}
	return arg;
}

static void row_longjmp(struct row *r)
{
	pthread_t thread;
	bool to_two = false;

	row = r;
	if (r->is_control)
		take_poke_out();
	MUST(r, !pthread_create(&thread, NULL, jump_until_over, NULL));
	while (more(r) || times_held() < HELD(r)) {
		to_two = !to_two;
		hold_next(wait_for_pass, NULL);
		MUST(r, !change_jumps(r, to_two));
	}
	end(r, thread);
}

static struct row rows[] = {
	{.name = "thousands",
	 .title = "starts and ends thousands of threads, which come through sites",
	 .unit = "threads",
	 .run = row_thousands,
	 .times = 4000,
	 .flip = true,
	 .atomic = true,
	 .control = "no poke, torn writes"},
	{.name = "cancelled",
	 .title = "cancels threads that are in sites, also asynchronously",
	 .unit = "threads cancelled",
	 .run = row_cancelled,
	 .times = 1000,
	 .flip = true,
	 .not_tsan = true,
	 .control = "no poke, torn writes"},
	{.name = "longjmp",
	 .title = "leaves a called function by longjmp()",
	 .unit = "jumps, beside and within updates",
	 .run = row_longjmp,
	 .times = 10000,
	 .flip = true,
	 .atomic = true,
	 .not_tsan = true,
	 .control = "no poke, torn writes"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
