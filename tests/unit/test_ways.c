/* SPDX-License-Identifier: MIT */
/*
 * The ways of poking beside int3, over the fake port: by remapped pages, by one store, by
 * plain writes where nobody else runs (ways_arena.h). What each asks of the port, and whether a
 * breach would be seen. Faults: test_ways_faults.c; repair in a copy: test_ways_repair.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "poke_hooked.h"
#include "test_ways.h"
#include "ways_arena.h"

/* ------------------------------------------------------------------ what goes through */

static void expect_counts(size_t syncs, size_t remaps, size_t traps)
{
	assert_int_equal(fake.begins, 1);
	assert_int_equal(fake.ends, 1);
	assert_int_equal(fake.syncs, syncs);
	assert_int_equal(fake.remaps, remaps);
	assert_int_equal(fake.traps_taken, traps);
	assert_int_equal(fake.events[0].type, FAKE_BEGIN);
	assert_int_equal(fake.events[fake.nr_events - 1].type, FAKE_SYNC);
}

static void nothing_traps(void)
{
	for (size_t i = 0; i < arena.n; i++)
		if (arena.spots[i].addr[0] == SHUNT_INT3)
			wrong("an int3 stands at a site");
}

static void traps_are_right(void)
{
	const char *why = wrong_effects();

	if (why)
		wrong(why);
}

/* There and back; @expect after each. */
static void there_and_back(int way, void (*expect)(void))
{
	static const size_t sizes[] = {1, 3, 17, 300};
	struct shunt_report report;

	for (arena.shift = 0; arena.shift <= STRADDLING; arena.shift += STRADDLING)
		for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
			for (size_t kind = 0; kind <= KINDS; kind++) {
				new_arena(sizes[s], kind < KINDS ? kind : MIXED, way, way);
				if (way != SHUNT_WAY_ATOMIC)
					fake.on_point = nothing_traps;
				else if (sizes[s] <= 17) /* for the time that it takes */
					fake.on_point = traps_are_right;
				for (unsigned to = 1; to < 3; to++) {
					fake_restart();
					assert_int_equal(poke(to & 1, &report), 0);
					assert_int_equal(report.error, 0);
					assert_int_equal(arena.state, to & 1);
					expect();
					expect_whole();
				}
				assert_int_equal(arena.commits, 2);
				assert_int_equal(arena.reverts, 0);
				arena_free();
			}
	arena.shift = 0;
}

/* begin, remap, [commit,] sync; not a single write. */
static void expect_a_remap(void)
{
	expect_counts(1, 1, 0);
	assert_int_equal(fake.nr_events, 3);
	assert_int_equal(fake.events[1].type, FAKE_REMAP);
	assert_int_equal(fake.writes, 0);
}

static void by_remap(void **state)
{
	(void)state;
	there_and_back(SHUNT_WAY_REMAP, expect_a_remap);
}

/* The only write to site @i lies within it and makes all the change; returns its event. */
static size_t expect_one_write(size_t i)
{
	size_t found = 0;

	for (size_t e = 0; e < fake.nr_events; e++) {
		const struct fake_event *event = &fake.events[e];

		if (event->type != FAKE_WRITE || event->write.addr < arena.spots[i].addr ||
		    event->write.addr >= arena.spots[i].addr + arena.spots[i].len)
			continue;
		assert_int_equal(found, 0);
		if (event->write.addr == arena.spots[i].addr)
			assert_int_not_equal(event->write.bytes[0], SHUNT_INT3);
		found = e;
	}
	assert_int_not_equal(found, 0);
	return found;
}

/* begin, one write for each site, sync. */
static void expect_plain_writes(void)
{
	expect_counts(1, 0, 0);
	assert_int_equal(fake.writes, arena.n);
	assert_int_equal(fake.nr_events, arena.n + 2);
	for (size_t i = 0; i < arena.n; i++)
		(void)expect_one_write(i);
}

static void by_plain_writes(void **state)
{
	(void)state;
	there_and_back(SHUNT_WAY_ALONE, expect_plain_writes);
}

static size_t in_one_store, in_three_steps;

/* The first write to a site that needs it is the int3, and comes before all stores. */
static size_t expect_int3_first(size_t i)
{
	size_t writes = 0;

	for (size_t e = 0; e < fake.nr_events; e++)
		if (fake.events[e].type == FAKE_WRITE &&
		    fake.events[e].write.addr - arena.spots[i].addr < 6 &&
		    fake.events[e].write.addr >= arena.spots[i].addr && !writes++)
			assert_int_equal(fake.events[e].write.bytes[0], SHUNT_INT3);
	assert_true(writes >= 2);
	return writes;
}

static void expect_stores(void)
{
	size_t straddle = 0, last_but_one = 0, last = 0;
	bool tails = false;

	for (size_t i = 0; i < arena.n; i++) {
		if (in_a_word(i))
			continue;
		straddle++;
		tails = expect_int3_first(i) > 2 || tails;
	}
	expect_counts(!straddle ? 1 : tails ? 3 : 2, 0, straddle != 0);
	for (size_t e = 0; e < fake.nr_events; e++)
		if (fake.events[e].type == FAKE_SYNC) {
			last_but_one = last;
			last = e;
		}
	for (size_t i = 0; i < arena.n; i++)
		if (in_a_word(i))
			assert_true(expect_one_write(i) > last_but_one);
	in_three_steps += straddle;
	in_one_store += arena.n - straddle;
}

static void by_stores(void **state)
{
	(void)state;
	there_and_back(SHUNT_WAY_ATOMIC, expect_stores);
	print_message("%zu sites by one store, %zu in three steps\n", in_one_store, in_three_steps);
	assert_true(in_one_store && in_three_steps);
}

/* begin, the first byte of each site, [commit,] sync. */
static void expect_flips(void)
{
	expect_counts(1, 0, 0);
	assert_int_equal(fake.writes, arena.n);
	assert_int_equal(fake.bytes, arena.n);
	assert_int_equal(fake.nr_events, arena.n + 2);
	for (size_t i = 0; i < arena.n; i++) {
		const struct shunt_write *w = &fake.events[1 + i].write;

		assert_ptr_equal(w->addr, arena.spots[i].addr);
		assert_int_equal(w->len, 1);
	}
}

static void by_flips(void **state)
{
	static const size_t sizes[] = {1, 3, 17, 300};
	struct shunt_report report;

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
		for (size_t kind = SAME_TAILS; kind <= KINDS; kind++) {
			new_arena(sizes[s], kind < KINDS ? kind : MIXED, SHUNT_WAY_FLIP,
				  SHUNT_WAY_FLIP);
			fake.on_point = nothing_traps;
			for (unsigned to = 1; to < 3; to++) {
				fake_restart();
				assert_int_equal(poke(to & 1, &report), 0);
				assert_int_equal(report.error, 0);
				expect_flips();
				expect_whole();
			}
			arena_free();
		}
}

/* What is written at the flips of a batch that has others: a byte of each, and once. */
static void expect_single_bytes(void)
{
	size_t flips = 0, found = 0;

	for (size_t i = 0; i < arena.n; i++)
		flips += is_flip(i);
	for (size_t e = 0; e < fake.nr_events; e++) {
		const struct shunt_write *w = &fake.events[e].write;

		for (size_t i = 0; i < arena.n && fake.events[e].type == FAKE_WRITE; i++)
			if (is_flip(i) && w->addr == arena.spots[i].addr) {
				assert_int_equal(w->len, 1);
				assert_int_not_equal(w->bytes[0], SHUNT_INT3);
				found++;
			}
	}
	assert_int_equal(found, flips);
}

/* In a batch with others flips have neither an int3 nor a page of their own. */
static void beside_others(void **state)
{
	struct shunt_report report;

	(void)state;
	for (int way = 0; way < NR_WAYS; way++)
		for (size_t n = 8; n < 600; n += 97) {
			new_arena(n, WITH_FLIPS, way, way);
			arena.check_turn = turn_of_both;
			for (unsigned to = 1; to < 3; to++) {
				fake_restart();
				assert_int_equal(poke(to & 1, &report), 0);
				expect_single_bytes();
				expect_whole();
				if (way == SHUNT_WAY_REMAP)
					assert_int_equal(fake.remaps, 1);
			}
			arena_free();
		}
}

/* A byte that cannot be written gets a new page after all. */
static void flips_that_cannot_be_written(void **state)
{
	struct shunt_report report;

	(void)state;
	new_arena(30, WITH_FLIPS, SHUNT_WAY_REMAP, SHUNT_WAY_REMAP);
	arena.check_turn = turn_of_both;
	fake.write_call = (struct fake_fault){.at = 1, .onwards = true, .error = -SHUNT_EPERM};
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(report.error, 0);
	assert_int_equal(fake.remaps, 2);
	expect_whole();
	arena_free();
}

/* ------------------------------------------------------------------ negative controls */

/* Without the sync, the order of events differs, and the watch or the turn's check objects. */
static void the_sync_is_needed(void **state)
{
	struct shunt_report report;
	size_t left;

	(void)state;
	for (int way = 0; way <= SHUNT_WAY_FLIP; way++) {
		new_arena(3, MIXED, way, way);
		poke_without = WITHOUT_SYNC;
		assert_int_equal(poke(true, &report), 0);
		poke_without = 0;
		assert_null(not_whole(false, &left)); /* text alone does not show it */
		assert_int_equal(events_of(FAKE_SYNC), 0);
		if (way == SHUNT_WAY_INT3)
			assert_non_null(fake.violation);
		arena_free();
	}
}

/* Every fault again, without the way back: which ways leave what is neither old nor new. */
static void the_way_back_is_needed(void **state)
{
	size_t uses[NR_WHAT];

	(void)state;
	for (int way = 0; way <= SHUNT_WAY_FLIP; way++) {
		struct route r = {way, way};
		size_t seen = 0, faults = 0;

		run_course(&r, 3, uses);
		poke_without = WITHOUT_WAY_BACK;
		for (enum what_fails what = A_WRITE; what < NR_WHAT; what++)
			for (size_t at = 1; at <= uses[what]; at++) {
				struct shunt_report report;
				size_t left;

				new_arena(3, MIXED, way, way);
				*fault_of(what) = (struct fake_fault){.at = at, .error = -1};
				fake.remap_part = 1;
				(void)poke(true, &report);
				seen += not_whole(false, &left) != NULL;
				faults++;
				arena_free();
			}
		poke_without = 0;
		print_message("way %d: %zu of %zu faults leave wrong bytes without a way back\n",
			      way, seen, faults);
		assert_true(seen > 0);
	}
}

static void expect_violation(const char *what)
{
	assert_string_equal(fake.violation ? fake.violation : "nothing", what);
	fake.violation = NULL;
}

static void put(uint8_t *at, size_t len)
{
	struct shunt_write w = {.addr = at, .len = (uint8_t)len, .bytes = {1, 2, 3, 4, 5}};

	assert_int_equal(shunt_port_text_write(&w, 1), 0);
}

/* The watch: what each way may not do. */
static void breaches_are_seen(void **state)
{
	struct shunt_write w;
	uint8_t *site;

	(void)state;
	for (int way = 0; way < NR_WAYS; way++) {
		arena.shift = STRADDLING;
		new_arena(2, 0, way, way);
		site = arena.spots[1].addr; /* at 4 of a word: it straddles */
		assert_int_equal((uintptr_t)site % 8, 4);
		assert_int_equal(shunt_port_lock(), 0);
		assert_int_equal(shunt_port_poke_begin(1, false, 0), way);
		put(site + 1, 4); /* without the first byte */
		expect_violation(way == SHUNT_WAY_ALONE ? "nothing"
				 : way == SHUNT_WAY_REMAP
					 ? "text_write in a batch that goes by remaps"
					 : "tail written without an int3 before it");
		assert_int_equal(shunt_port_core_sync(), 0);
		put(site, 4);
		expect_violation(way == SHUNT_WAY_ALONE || way == SHUNT_WAY_ATOMIC ? "nothing"
				 : way == SHUNT_WAY_REMAP
					 ? "text_write in a batch that goes by remaps"
					 : "tail written without an int3 before it");
		w = (struct shunt_write){.addr = site, .len = 5};
		assert_int_equal(shunt_port_text_remap(&w, 1, sizeof(w)), 0);
		expect_violation(way == SHUNT_WAY_REMAP
					 ? "nothing"
					 : "text_remap in a batch that goes another way");
		shunt_port_unlock();
		arena_free();
	}
	arena.shift = 0;
}

/* The check of the turn objects to a turn at any other time than the right one. */
static void early_turns_are_seen(void **state)
{
	(void)state;
	for (int way = 0; way <= SHUNT_WAY_FLIP; way++)
		for (unsigned late = 0; late < 2; late++) {
			new_arena(3, MIXED, way, way);
			fake.way_now = way;
			arena.commits = 1;
			if (late)
				for (size_t i = 0; i < arena.n; i++)
					memcpy(arena.spots[i].addr, arena.spots[i].bytes[1],
					       arena.spots[i].len);
			assert_null(arena.wrong);
			check_any_turn(true);
			/* Plain writes and stores turn while all is old. */
			if (late || way == SHUNT_WAY_REMAP || way == SHUNT_WAY_INT3)
				assert_non_null(arena.wrong);
			arena_free();
		}
}

static int teardown(void **state)
{
	(void)state;
	print_message("%lu traps checked, %lu faults injected\n", checks, injected);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(by_remap),
		cmocka_unit_test(by_plain_writes),
		cmocka_unit_test(by_stores),
		cmocka_unit_test(by_flips),
		cmocka_unit_test(beside_others),
		cmocka_unit_test(beside_others_every_fault),
		cmocka_unit_test(flips_that_cannot_be_written),
		cmocka_unit_test(every_fault),
		cmocka_unit_test(any_two_faults),
		cmocka_unit_test(no_sync_works),
		cmocka_unit_test(mended_by_each_way),
		cmocka_unit_test(mending_fails),
		cmocka_unit_test(put_right_after_a_failed_sync),
		cmocka_unit_test(no_other_way_over_foreign_bytes),
		cmocka_unit_test(another_way_after_ebusy),
		cmocka_unit_test(copied_at_every_point),
		cmocka_unit_test(copied_at_every_load),
		cmocka_unit_test(queue_is_dropped_without_a_way),
		cmocka_unit_test(copied_at_every_point_under_faults),
		cmocka_unit_test(no_way_to_repair),
		cmocka_unit_test(the_sync_is_needed),
		cmocka_unit_test(the_way_back_is_needed),
		cmocka_unit_test(repair_is_needed),
		cmocka_unit_test(revert_is_needed),
		cmocka_unit_test(nothing_goes_on),
		cmocka_unit_test(breaches_are_seen),
		cmocka_unit_test(early_turns_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
