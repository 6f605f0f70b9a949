/* SPDX-License-Identifier: MIT */
/* unit/static_key: everything that can happen between two steps of a count, and many threads. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/error.h"

#include "key_model.h"
#include "static_key_hooked.h"
#include "test_static_key.h"

/* ----------------------------------------------------------------------- races */

static struct {
	enum op op;
	size_t at, seen; /* which swap, or which hook of the port */
	bool ran, busy;
	int ret, before;
} other;

/* Another's op, in the middle; it is told if it would have to wait. */
static void interpose(void)
{
	const char *violation = fake.violation;
	void (*hook)(void) = key_before_swap;

	if (++other.seen != other.at)
		return;
	key_before_swap = NULL;
	other.before = __static_key_count(handle(0));
	other.ret = run_op(other.op, 0);
	other.ran = true;
	other.busy = other.ret == -SHUNT_EDEADLK;
	/* To the fake port, a report within an update is a breach; here it is the point. */
	fake.violation = violation;
	key_before_swap = hook;
}

enum place { AT_SWAP, AT_LOCK, AT_WRITE, AT_SYNC, NR_PLACES };

static void set_hooks(enum place place, void (*hook)(void))
{
	key_before_swap = place == AT_SWAP ? hook : NULL;
	fake.on_lock = place == AT_LOCK ? hook : NULL;
	fake.on_write = place == AT_WRITE ? hook : NULL;
	fake.on_sync = place == AT_SYNC ? hook : NULL;
}

/*
 * One op in the middle of another, at each place that there is: the outcome is that
 * of the one before the other, or of the other before the one; an op that would
 * have to wait has no effect. Linux 83ab38ef0a0b: first and second inc, inc and dec.
 */
static void check_outcome(enum op op, int count, int ret)
{
	int one_first = count, other_first = count;
	int ret_1 = model(op, &one_first);
	int ret_1_other = other.busy ? other.ret : model(other.op, &one_first);
	int ret_2_other = other.busy ? other.ret : model(other.op, &other_first);
	int ret_2 = model(op, &other_first);
	int now = __static_key_count(handle(0));

	if ((ret == ret_1 && other.ret == ret_1_other && now == one_first) ||
	    (ret == ret_2 && other.ret == ret_2_other && now == other_first))
		return;
	fail_msg("op %d at %d returns %d, with op %d at swap or hook %zu returning %d: %d", op,
		 count, ret, other.op, other.at, other.ret, now);
}

static size_t interpose_everywhere(enum place place, enum op op, enum op second, int count)
{
	for (size_t at = 1;; at++) {
		struct branches *b = fresh_with_count(count, 0);
		int ret;

		memset(&other, 0, sizeof(other));
		other.op = second;
		other.at = at;
		set_hooks(place, interpose);
		ret = run_op(op, 0);
		set_hooks(NR_PLACES, NULL);
		if (other.ran)
			check_outcome(op, count, ret);
		expect_right(b);
		branches_remove(b);
		if (!other.ran)
			return at - 1;
	}
}

void one_in_the_middle_of_another_83ab38ef0a0b(void **state)
{
	size_t places[NR_PLACES] = {0};

	(void)state;
	for (enum place place = 0; place < NR_PLACES; place++)
		for (enum op op = 0; op < NR_OPS; op++)
			for (enum op second = 0; second < NR_OPS; second++)
				for (int count = 0; count <= 3; count++)
					places[place] +=
						interpose_everywhere(place, op, second, count);
	print_message("interposed at %zu swaps, %zu locks, %zu writes, %zu syncs\n",
		      places[AT_SWAP], places[AT_LOCK], places[AT_WRITE], places[AT_SYNC]);
	for (enum place place = 0; place < NR_PLACES; place++)
		assert_true(places[place] > 20);
}

/* Within an update whoever asks for the text to change is told, and nothing happens. */
void update_within_an_update(void **state)
{
	struct branches *b = fresh_with_count(0, 0);

	(void)state;
	memset(&other, 0, sizeof(other));
	other.op = INC;
	other.at = 2;
	set_hooks(AT_SYNC, interpose);
	assert_int_equal(run_op(INC, 0), 0);
	set_hooks(NR_PLACES, NULL);
	assert_true(other.ran && other.busy);
	/* A count is above 0 only once all sites have changed. */
	assert_int_equal(other.before, 0);
	assert_int_equal(fake.report.error, -SHUNT_EDEADLK);
	assert_string_equal(fake.report.key, "s0000");
	assert_int_equal(__static_key_count(handle(0)), 1);
	expect_right(b);
	branches_remove(b);
}

/* The other one in a thread of its own, which waits for the first one's end. */
static struct {
	pthread_t thread;
	_Atomic bool started, done;
	bool done_early;
	enum op op;
	int ret, count_in_middle;
} second;

static void *run_second(void *arg)
{
	(void)arg;
	second.started = true;
	second.ret = run_op(second.op, 0);
	second.done = true;
	return NULL;
}

static void start_second(void)
{
	if (fake.syncs != 2)
		return;
	fake.on_sync = NULL;
	if (pthread_create(&second.thread, NULL, run_second, NULL))
		abort();
	while (!second.started)
		sched_yield();
	(void)usleep(5000);
	second.done_early = second.done;
	second.count_in_middle = __static_key_count(handle(0));
}

void another_thread_waits_83ab38ef0a0b(void **state)
{
	(void)state;
	for (enum op op = 0; op < NR_OPS; op++)
		for (enum op then = 0; then < NR_OPS; then++) {
			int count = op == DISABLE || op == DEC;
			struct branches *b = fresh_with_count(count, 0);

			memset(&second, 0, sizeof(second));
			second.op = then;
			fake.on_sync = start_second;
			assert_int_equal(run_op(op, 0), 0);
			pthread_join(second.thread, NULL);
			assert_false(second.done_early);
			/* Nobody takes it for on while some sites are not. */
			assert_int_equal(second.count_in_middle, 0);
			assert_int_equal(model(op, &count), 0);
			assert_int_equal(second.ret, model(then, &count));
			assert_int_equal(__static_key_count(handle(0)), count);
			expect_right(b);
			branches_remove(b);
		}
}

#define THREADS 4
#define ROUNDS  4000

static struct {
	_Atomic unsigned long incs, decs, wrong, failed;
	_Atomic bool stop;
} stress;

static void *count_up_and_down(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;
	int held[2] = {0};

	for (unsigned i = 0; i < ROUNDS || held[0] || held[1]; i++) {
		uint32_t key;

		seed = seed * 1664525 + 1013904223;
		key = seed >> 20 & 1;
		if (i < ROUNDS && (!held[key] || (seed >> 24) % 3 == 0)) {
			stress.failed += __static_key_inc(handle(key)) != 0;
			stress.incs++;
			held[key]++;
		} else if (held[key]) {
			stress.failed += __static_key_dec(handle(key)) != 0;
			stress.decs++;
			held[key]--;
		}
		for (key = 0; key < 2; key++)
			if (held[key] && !is_on_everywhere(&branches[0], key))
				stress.wrong++;
	}
	return NULL;
}

/* Traps beside it: never foreign, and where to is one of the two. */
static void *trap_beside(void *arg)
{
	const struct branches *b = arg;

	for (uint32_t i = 0; !stress.stop; i = (i + 1) % b->n) {
		uintptr_t addr = (uintptr_t)branch_addr(b, i);
		struct shunt_regs regs = {.ip = addr + 1};
		enum shunt_trap trap = shunt_trap(&regs);

		if (trap == SHUNT_TRAP_FOREIGN ||
		    (regs.ip != addr && regs.ip != addr + branch_len(b, i) &&
		     regs.ip != (uintptr_t)branch_target(b, i)))
			stress.wrong++;
	}
	return NULL;
}

void many_threads(void **state)
{
	struct branches *b = fresh(12, 2, 0);
	pthread_t threads[THREADS], trapper;

	(void)state;
	fake.quiet = true;
	assert_int_equal(pthread_create(&trapper, NULL, trap_beside, b), 0);
	for (uintptr_t t = 0; t < THREADS; t++)
		assert_int_equal(
			pthread_create(&threads[t], NULL, count_up_and_down, (void *)(t + 1)), 0);
	for (size_t t = 0; t < THREADS; t++)
		pthread_join(threads[t], NULL);
	stress.stop = true;
	pthread_join(trapper, NULL);
	print_message("%lu incs, %lu decs, %zu syncs\n", stress.incs, stress.decs, fake.syncs);
	assert_int_equal(stress.incs, stress.decs);
	assert_int_equal(stress.failed, 0);
	assert_int_equal(stress.wrong, 0);
	assert_true(fake.syncs > 30);
	for (size_t k = 0; k < 2; k++) {
		assert_int_equal(__static_key_count(handle(k)), 0);
		assert_int_equal(branch_keys[k].on, 0);
	}
	expect_right(b);
	branches_remove(b);
}
