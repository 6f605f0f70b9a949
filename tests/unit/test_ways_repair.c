/* SPDX-License-Identifier: MIT */
/* unit/ways: the poke of a process that was copied in its middle, at every point, taken back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "poke_hooked.h"
#include "test_ways.h"
#include "ways_arena.h"

unsigned long stops;

/* ------------------------------------------------------------------ repair */

/* A poke that is stopped at a point, as one is for a copy of the process that lacks its thread. */
static struct {
	struct shunt_change change; /* the first member */
	struct shunt_poke *pokes;
	jmp_buf out;
	size_t passed, stop_at;
	size_t dones;
	bool over;     /* done() has begun */
	bool at_loads; /* it can be stopped before each atomic load of core/poke*.c too */
} job;

static void stop_point(void)
{
	if (++job.passed == job.stop_at) {
		fake.on_point = NULL;
		poke_before_load = NULL;
		longjmp(job.out, 1);
	}
}

/* Writes that are queued and not yet with the port are counted first. */
static size_t with_queue;

static void stop_point_at_load(const volatile void *object)
{
	with_queue += object == &shunt_poke_stats.writes && job.passed + 1 == job.stop_at;
	stop_point();
}

static void job_commit(struct shunt_change *change)
{
	(void)change;
	stop_point();
	atomic_store(&arena.state, true);
	stop_point();
}

static void job_revert(struct shunt_change *change)
{
	(void)change;
	if (fake.on_point)
		stop_point();
	atomic_store(&arena.state, false);
	if (fake.on_point)
		stop_point();
}

static void job_done(struct shunt_change *change)
{
	(void)change;
	job.over = true;
	job.dones++;
	if (fake.on_point)
		stop_point();
}

/* The poke of a fresh arena; false: it was stopped at the point, with the lock held. */
static bool goes_on_to_the_end(const struct route *r, enum what_fails what, size_t fault_at,
			       size_t stop_at)
{
	static struct shunt_report report;

	new_arena(3, MIXED, r->way, r->after);
	*fault_of(what) = (struct fake_fault){.at = fault_at, .error = -SHUNT_EIO};
	fake.remap_part = 1;
	job.change = (struct shunt_change){job_commit, job_revert, job_done, NULL};
	job.pokes = new_pokes(true, SHUFFLED);
	job.passed = job.dones = 0;
	job.stop_at = stop_at;
	job.over = false;
	assert_int_equal(shunt_port_lock(), 0);
	fake.on_point = stop_point;
	poke_before_load = job.at_loads ? stop_point_at_load : NULL;
	report = (struct shunt_report){0};
	if (setjmp(job.out))
		return false;
	(void)shunt_poke_batch(job.pokes, arena.n, &job.change, &report);
	fake.on_point = NULL;
	poke_before_load = NULL;
	return true;
}

static void end_job(void)
{
	shunt_port_unlock();
	free(job.pokes);
	arena_free();
}

static void forget_faults(int way)
{
	clear_faults();
	fake_restart();
	fake.way = fake.way_after = way;
}

/* Old and old; or, where it was over but for the book-keeping, new and new. */
static void expect_taken_back(void)
{
	assert_int_equal(arena.state, job.over);
	assert_int_equal(job.dones, job.over ? 2 : 0);
	expect_whole();
}

static void expect_next_update(int way, bool to)
{
	struct shunt_report report;

	shunt_port_unlock();
	fake.way = fake.way_after = way;
	arena.commits = arena.reverts = 0;
	assert_int_equal(poke(to, &report), 0);
	assert_int_equal(arena.state, to);
	expect_whole();
	assert_int_equal(shunt_port_lock(), 0);
}

/* Stop at every point of this poke; the copy takes it back by @way. */
static void stop_everywhere(const struct route *r, enum what_fails what, size_t fault_at, int way)
{
	for (size_t k = 1;; k++) {
		bool ended = goes_on_to_the_end(r, what, fault_at, k);

		stops += !ended;
		forget_faults(way);
		if (!ended) {
			shunt_poke_repair();
			expect_taken_back();
		}
		shunt_poke_repair(); /* now there is nothing to do */
		if (!ended)
			expect_taken_back();
		expect_next_update((int)(k % NR_WAYS), !arena.state);
		end_job();
		if (ended)
			break;
	}
}

void copied_at_every_point(void **state)
{
	(void)state;
	stops = 0;
	for (arena.shift = 0; arena.shift <= STRADDLING; arena.shift += STRADDLING)
		for (size_t r = 0; r < NR_ROUTES; r++)
			for (int way = 0; way < NR_WAYS; way++)
				stop_everywhere(&routes[r], A_WRITE, 0, way);
	print_message("%lu stops\n", stops);
	assert_true(stops > 1000);
	arena.shift = 0;
}

/*
 * Between two requests to the port as well: writes are queued for it, and the copy's next
 * update must not make them. (src/core/poke.c, shunt_poke_repair())
 */
void copied_at_every_load(void **state)
{
	(void)state;
	stops = with_queue = 0;
	job.at_loads = true;
	for (size_t r = 0; r < NR_ROUTES; r++)
		for (int way = 0; way < NR_WAYS; way++)
			stop_everywhere(&routes[r], A_WRITE, 0, way);
	/* And with a fault before it: what is queued then is the way back. */
	arena.shift = STRADDLING;
	for (size_t r = 0; r < NR_ROUTES; r++)
		for (int way = 0; way < NR_WAYS; way++)
			stop_everywhere(&routes[r], A_SYNC, 1, way);
	arena.shift = 0;
	job.at_loads = false;
	print_message("%lu stops, %zu of them with writes in the queue\n", stops, with_queue);
	assert_true(with_queue > 100);
}

/* Where there is no way to repair, the queue is dropped all the same. */
void queue_is_dropped_without_a_way(void **state)
{
	static const struct route int3 = {SHUNT_WAY_INT3, SHUNT_WAY_INT3};
	bool ended = false;

	(void)state;
	with_queue = 0;
	job.at_loads = true;
	for (size_t k = 1; !ended; k++) {
		ended = goes_on_to_the_end(&int3, A_WRITE, 0, k);
		forget_faults(-SHUNT_EPERM);
		if (!ended)
			shunt_poke_repair();
		if (!count_changed())
			expect_next_update((int)(k % NR_WAYS), !arena.state);
		end_job();
	}
	job.at_loads = false;
	assert_true(with_queue >= 3);
}

/* Also on the way back, and between one way and the next. */
void copied_at_every_point_under_faults(void **state)
{
	size_t uses[NR_WHAT];

	(void)state;
	stops = 0;
	arena.shift = STRADDLING;
	for (size_t r = 0; r < NR_ROUTES; r++) {
		run_course(&routes[r], 3, uses);
		for (enum what_fails what = TRAPS; what < NR_WHAT; what++)
			for (size_t at = 1; at <= uses[what]; at++)
				for (int way = 0; way < NR_WAYS; way++)
					stop_everywhere(&routes[r], what, at, way);
	}
	print_message("%lu stops\n", stops);
	arena.shift = 0;
}

/* There is no way to repair: int3 that stand go on having the effect of the old ones. */
void no_way_to_repair(void **state)
{
	static const struct route int3 = {SHUNT_WAY_INT3, SHUNT_WAY_INT3};
	size_t standing = 0;

	(void)state;
	for (size_t k = 1;; k++) {
		bool ended = goes_on_to_the_end(&int3, A_WRITE, 0, k);

		forget_faults(-SHUNT_EPERM);
		if (!ended) {
			const char *why;

			shunt_poke_repair();
			why = wrong_effects();
			if (why)
				fail_msg("%s", why);
			standing += arena.spots[0].addr[0] == SHUNT_INT3;
			/* And an int3 that others set there later is theirs. */
			for (size_t i = 0; i < arena.n; i++)
				if (arena.spots[i].addr[0] != SHUNT_INT3)
					assert_false(is_poked(i));
			assert_int_equal(arena.state, job.over);
		}
		/* No int3 of it all stands any more, or all can be mended by any way. */
		if (!count_changed())
			expect_next_update((int)(k % NR_WAYS), !arena.state);
		end_job();
		if (ended)
			break;
	}
	assert_true(standing > 10);
}

/* ------------------------------------------------------------------ negative controls */

/* A copy that takes nothing back has half a poke in it. */
void repair_is_needed(void **state)
{
	(void)state;
	for (int way = 0; way <= SHUNT_WAY_FLIP; way++) {
		struct route r = {way, way};
		size_t half = 0, left;
		bool ended = false;

		for (size_t k = 1; !ended; k++) {
			ended = goes_on_to_the_end(&r, A_WRITE, 0, k);
			half += !ended && not_whole(false, &left) != NULL;
			/* Not for the next arena. */
			forget_faults(way);
			shunt_poke_repair();
			end_job();
		}
		print_message("way %d: %zu points leave half a poke\n", way, half);
		assert_true(half > 0);
	}
}

/* What is no longer there is not reverted: the state stays new over text that is old. */
static void ignore(struct shunt_change *change)
{
	(void)change;
}

void revert_is_needed(void **state)
{
	static const struct route remap = {SHUNT_WAY_REMAP, SHUNT_WAY_REMAP};
	size_t seen = 0, left;
	bool ended = false;

	(void)state;
	for (size_t k = 1; !ended; k++) {
		ended = goes_on_to_the_end(&remap, A_WRITE, 0, k);
		job.change.revert = ignore;
		forget_faults(SHUNT_WAY_REMAP);
		if (!ended)
			shunt_poke_repair();
		seen += !ended && not_whole(false, &left) != NULL;
		end_job();
	}
	assert_true(seen > 0);
}

/* A copy that is made when the poke is over: nothing of it is touched again. */
void nothing_goes_on(void **state)
{
	static const struct route ways[] = {{SHUNT_WAY_REMAP, SHUNT_WAY_REMAP},
					    {SHUNT_WAY_INT3, SHUNT_WAY_INT3}};

	(void)state;
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		assert_true(goes_on_to_the_end(&ways[i], A_WRITE, 0, SIZE_MAX));
		assert_int_equal(job.dones, 1);
		forget_faults(ways[i].way);
		shunt_poke_repair();
		assert_int_equal(job.dones, 1);
		assert_true(arena.state);
		end_job();
	}
}
