/* SPDX-License-Identifier: MIT */
/*
 * The poke protocol over the fake port: order, verification, sorting, and whether a breach would
 * be seen (arena.h). Faults: test_poke_faults.c; the trap path: test_poke_traps.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "test_poke.h"

/* ----------------------------------------------------------- what goes through */

static size_t changed_tail_bytes(void)
{
	size_t n = 0;

	for (size_t i = 0; i < arena.n; i++)
		for (unsigned b = 1; b < arena.spots[i].len; b++)
			n += arena.spots[i].bytes[0][b] != arena.spots[i].bytes[1][b];
	return n;
}

/* The writes up to the next sync: ascending, all first bytes or all of tails. */
static size_t expect_phase(size_t e, bool first, size_t *writes)
{
	const uint8_t *last = NULL;

	for (*writes = 0; fake.events[e].type == FAKE_WRITE; e++, ++*writes) {
		const struct shunt_write *w = &fake.events[e].write;
		size_t i = (size_t)(w->addr - arena.text) / STRIDE;
		bool is_first = w->addr == arena.spots[i].addr;

		assert_true(w->addr > last);
		last = w->addr;
		assert_int_equal(is_first, first);
		if (first)
			assert_int_equal(w->len, 1);
	}
	assert_int_equal(fake.events[e].type, FAKE_SYNC);
	return e + 1;
}

/* int3, sync, tails, sync, first bytes, sync; each byte that changes once. */
static void expect_protocol(bool tails)
{
	size_t e = 0, writes;

	assert_int_equal(fake.events[e++].type, FAKE_BEGIN);
	for (size_t i = 0; i < arena.n; i++)
		assert_int_equal(fake.events[e + i].write.bytes[0], SHUNT_INT3);
	e = expect_phase(e, true, &writes);
	assert_int_equal(writes, arena.n);
	if (tails)
		e = expect_phase(e, false, &writes);
	e = expect_phase(e, true, &writes);
	assert_int_equal(writes, arena.n);
	assert_int_equal(e, fake.nr_events);
	assert_int_equal(fake.begins, 1);
	assert_int_equal(fake.begun_for, arena.n);
	assert_int_equal(fake.syncs, tails ? 3 : 2);
	assert_int_equal(fake.idle, 0);
	assert_int_equal(fake.bytes, 2 * arena.n + changed_tail_bytes());
}

static void order_of_steps(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t kind = 0; kind <= KINDS; kind++) {
		arena_new(17, kind < KINDS ? kind : MIXED);
		for (unsigned to = 1; to < 3; to++) {
			fake_restart();
			assert_int_equal(poke(to & 1, &report), 0);
			assert_int_equal(report.error, 0);
			assert_int_equal(arena.state, to & 1);
			expect_protocol(kind < SAME_TAILS || kind == KINDS);
			expect_whole();
		}
		assert_int_equal(arena.commits, 2);
		assert_int_equal(arena.reverts, 0);
		arena_free();
	}
}

/* The flips are new; what is none of them traps, and has its new tail. */
static void check_others(bool state)
{
	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *spot = &arena.spots[i];
		bool is_flip = !memcmp(spot->bytes[0] + 1, spot->bytes[1] + 1, spot->len - 1);

		if (is_flip ? !has(i, state)
			    : spot->addr[0] != SHUNT_INT3 ||
				      memcmp(spot->addr + 1, spot->bytes[state] + 1,
					     spot->len - 1) != 0)
			wrong("the state turns too early or too late");
	}
}

/* Of flips and site @other, which is none: only that has an int3, and a tail that is written. */
static void expect_flips_last(size_t other)
{
	size_t syncs = 0, flips = 0;

	assert_int_equal(fake.syncs, 3);
	for (size_t e = 0; e < fake.nr_events; e++) {
		const struct shunt_write *w = &fake.events[e].write;

		syncs += fake.events[e].type == FAKE_SYNC;
		if (fake.events[e].type != FAKE_WRITE ||
		    (size_t)(w->addr - arena.spots[other].addr) < 5)
			continue;
		assert_int_equal(syncs, 2);
		assert_int_equal(w->len, 1);
		assert_int_not_equal(w->bytes[0], SHUNT_INT3);
		flips++;
	}
	assert_int_equal(flips, arena.n - 1);
}

/*
 * One tail in many is enough to need the middle sync. Flips that are with it in a batch have no
 * int3: their bytes go with the first bytes.
 */
static void middle_sync_only_for_tails(void **state)
{
	struct shunt_report report;

	(void)state;
	arena_new(9, SAME_TAILS);
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(fake.syncs, 2);
	arena_free();
	for (size_t i = 0; i < 9; i++) {
		arena_new(9, SAME_TAILS);
		make_spot(i, 0);
		arena.check_turn = check_others;
		assert_int_equal(poke(true, &report), 0);
		expect_flips_last(i);
		expect_whole();
		arena_free();
	}
}

/* Linux 2aebf5ee43bf: an unsorted batch, and one that is larger than the queue. */
static void unsorted_and_overfull_batches_2aebf5ee43bf(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 255, 256, 257, 512, 1000};
	struct shunt_report report;

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
		for (enum order order = ASCENDING; order <= SHUFFLED; order++) {
			arena_new(sizes[s], MIXED);
			assert_int_equal(poke_with(new_pokes(true, order), true, &report), 0);
			assert_int_equal(arena.commits, 1);
			assert_true(arena.state);
			if (arena.n)
				expect_protocol(arena.n > 0);
			else
				assert_int_equal(fake.nr_events, 0);
			expect_whole();
			arena_free();
		}
}

static void a_hundred_thousand_sites(void **state)
{
	struct shunt_report report;

	(void)state;
	SKIP_IN_TSAN();
	for (enum order order = ASCENDING; order <= SHUFFLED; order++) {
		arena_new(100000, MIXED);
		fake.quiet = true;
		assert_int_equal(poke_with(new_pokes(true, order), true, &report), 0);
		assert_int_equal(fake.syncs, 3);
		assert_int_equal(fake.bytes, 2 * arena.n + changed_tail_bytes());
		expect_whole();
		arena_free();
	}
}

static void counters(void **state)
{
	struct shunt_report report;
	uint64_t pokes, writes, bytes, syncs;

	(void)state;
	arena_new(300, MIXED);
	pokes = shunt_poke_stats.pokes;
	writes = shunt_poke_stats.writes;
	bytes = shunt_poke_stats.bytes;
	syncs = shunt_poke_stats.syncs;
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(shunt_poke_stats.pokes - pokes, 1);
	assert_int_equal(shunt_poke_stats.writes - writes, fake.writes);
	assert_int_equal(shunt_poke_stats.bytes - bytes, fake.bytes);
	assert_int_equal(shunt_poke_stats.syncs - syncs, fake.syncs);
	arena_free();
}

/* --------------------------------------------------------- what is turned down */

/* Refused before anything happened. */
static void expect_untouched(const uint8_t *before)
{
	assert_int_equal(fake.nr_events, 0);
	assert_memory_equal(arena.text, before, arena.size);
	assert_false(arena.state);
	assert_int_equal(arena.commits, 0);
	for (size_t i = 0; i < arena.n; i++)
		assert_false(is_poked(i));
}

static void overlapping_sites(void **state)
{
	struct shunt_report report;

	(void)state;
	/* From the same address to the first that is free: only that one will do. */
	for (size_t distance = 0; distance <= 6; distance++) {
		struct shunt_poke *pokes;
		uint8_t before[64];
		int ret;

		arena_new(4, 2);
		pokes = new_pokes(true, ASCENDING);
		pokes[2].addr = pokes[1].addr + distance;
		if (distance == 6) {
			memcpy(pokes[2].addr, pokes[2].old, 6);
			pokes[3].addr = pokes[2].addr + 6;
			memcpy(pokes[3].addr, pokes[3].old, 6);
			fake_watch(NULL, 0, NULL, 0);
			ret = poke_with(pokes, true, &report);
			assert_int_equal(ret, 0);
			arena_free();
			continue;
		}
		memcpy(before, arena.text, arena.size);
		ret = poke_with(pokes, true, &report);
		assert_int_equal(ret, -SHUNT_EINVAL);
		assert_int_equal(report.error, -SHUNT_EINVAL);
		assert_string_equal(report.what, "two sites overlap");
		assert_non_null(report.site);
		expect_untouched(before);
		arena_free();
	}
}

static void foreign_bytes(void **state)
{
	struct shunt_report report;
	uint8_t before[128];

	(void)state;
	arena_new(9, MIXED);
	for (size_t i = 0; i < arena.n; i++)
		for (unsigned b = 0; b < arena.spots[i].len; b++)
			for (unsigned flip = 1; flip < 256; flip <<= 1) {
				uint8_t *at = arena.spots[i].addr + b;
				const struct spot *spot = &arena.spots[i];

				*at ^= (uint8_t)flip;
				memcpy(before, arena.text, arena.size);
				assert_int_equal(poke(true, &report), -SHUNT_EBUSY);
				assert_int_equal(report.error, -SHUNT_EBUSY);
				assert_string_equal(report.what, "foreign bytes stand at the site");
				assert_ptr_equal(report.site, spot->addr);
				assert_int_equal(report.nbytes, spot->len);
				assert_memory_equal(report.found, spot->addr, spot->len);
				assert_memory_equal(report.expected, spot->bytes[0], spot->len);
				expect_untouched(before);
				*at ^= (uint8_t)flip;
			}
	assert_int_equal(poke(true, &report), 0);
	arena_free();
}

/* Somebody's breakpoint is nobody's leftover. */
static void foreign_int3_is_not_overwritten(void **state)
{
	struct shunt_report report;
	uint8_t before[64];

	(void)state;
	arena_new(3, MIXED);
	arena.spots[1].addr[0] = SHUNT_INT3;
	memcpy(before, arena.text, arena.size);
	assert_int_equal(poke(true, &report), -SHUNT_EBUSY);
	assert_int_equal(report.found[0], SHUNT_INT3);
	expect_untouched(before);
	arena_free();
}

static void not_ready_to_poke(void **state)
{
	struct shunt_report report;
	uint8_t before[64];

	(void)state;
	arena_new(3, MIXED);
	fake.begin = (struct fake_fault){.at = 1, .error = -SHUNT_EPERM};
	memcpy(before, arena.text, arena.size);
	assert_int_equal(poke(true, &report), -SHUNT_EPERM);
	assert_string_equal(report.what, "make ready to poke");
	assert_null(report.site);
	fake.nr_events = 0;
	expect_untouched(before);
	fake.begin.at = 0;
	assert_int_equal(poke(true, &report), 0);
	expect_whole();
	arena_free();
}

/* ---------------------------------------------------------- negative controls */

static bool something_is_seen(bool *text)
{
	size_t left;

	*text = not_whole(false, &left);
	return *text || arena.wrong || fake.violation;
}

/* A port that loses a byte: each one is noticed, whichever it is. */
static void lost_bytes_are_seen(void **state)
{
	struct shunt_report report;
	size_t writes, in_text = 0;
	bool text;

	(void)state;
	arena_new(8, MIXED);
	assert_int_equal(poke(true, &report), 0);
	assert_false(something_is_seen(&text));
	writes = fake.writes;
	arena_free();
	for (size_t k = 1; k <= writes; k++) {
		arena_new(8, MIXED);
		fake.drop_at = k;
		(void)poke(true, &report);
		assert_true(something_is_seen(&text));
		in_text += text;
		arena_free();
	}
	/* All tails and all last first bytes; a lost int3 shows at the commit. */
	assert_int_equal(in_text, writes - 8);
}

static void put_byte(uint8_t *at, uint8_t byte)
{
	const struct shunt_write w = {.addr = at, .len = 1, .bytes = {byte}};

	assert_int_equal(shunt_port_text_write(&w, 1), 0);
}

static void expect_violation(const char *what)
{
	assert_string_equal(fake.violation ? fake.violation : "nothing", what);
	fake.violation = NULL;
}

/* Breaches of the protocol, step by step: the watch sees each. */
static void breaches_are_seen(void **state)
{
	uint8_t *site;

	(void)state;
	arena_new(2, 0);
	site = arena.spots[0].addr;
	put_byte(site, SHUNT_INT3);
	expect_violation("text_write without the update lock");
	assert_int_equal(shunt_port_lock(), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("text_write before poke_begin");
	assert_int_equal(shunt_port_poke_begin(1, false, 0), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("int3 written before traps were taken");
	assert_int_equal(shunt_port_install_handler(), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("nothing");
	put_byte(site + 1, 0);
	expect_violation("tail written before the int3 was synced");
	assert_int_equal(shunt_port_core_sync(), 0);
	put_byte(site + 1, 0);
	expect_violation("nothing");
	put_byte(site, 0xe8);
	expect_violation("first byte written before the tail was synced");
	assert_int_equal(shunt_port_core_sync(), 0);
	put_byte(site, 0xe8);
	expect_violation("nothing");
	put_byte(site + 1, 0);
	expect_violation("tail written without an int3 before it");
	put_byte(site + 5, 0);
	expect_violation("write outside of the sites");
	shunt_port_unlock();
	arena_free();
}

/* The wrong state, a mark, an int3 without one: the checkers see each. */
static void wrong_outcomes_are_seen(void **state)
{
	struct shunt_report report;
	size_t left;

	(void)state;
	arena_new(3, MIXED);
	assert_null(not_whole(false, &left));
	arena.sites[1].poked = 1;
	assert_non_null(not_whole(false, &left));
	arena.sites[1].poked = 0;
	arena.spots[1].addr[0] = SHUNT_INT3;
	assert_non_null(not_whole(false, &left));
	assert_non_null(not_whole(true, &left));
	arena.sites[1].poked = 1;
	assert_non_null(not_whole(false, &left));
	assert_null(not_whole(true, &left));
	/* The trap has the effect of the state; a checker of the other one objects. */
	arena.spots[1].insn[0].len++;
	assert_null(wrong_effect(1, 0));
	arena.spots[1].addr[0] = arena.spots[1].bytes[0][0];
	arena.sites[1].poked = 0;
	arena.state = true;
	assert_non_null(not_whole(true, &left));
	arena.state = false;
	assert_int_equal(poke(true, &report), 0);
	arena_free();
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
		cmocka_unit_test(order_of_steps),
		cmocka_unit_test(middle_sync_only_for_tails),
		cmocka_unit_test(unsorted_and_overfull_batches_2aebf5ee43bf),
		cmocka_unit_test(a_hundred_thousand_sites),
		cmocka_unit_test(counters),
		cmocka_unit_test(overlapping_sites),
		cmocka_unit_test(foreign_bytes),
		cmocka_unit_test(foreign_int3_is_not_overwritten),
		cmocka_unit_test(not_ready_to_poke),
		cmocka_unit_test(every_step_fails_once),
		cmocka_unit_test(every_step_fails_for_good),
		cmocka_unit_test(any_two_steps_fail),
		cmocka_unit_test(mending_fails),
		cmocka_unit_test(one_byte_cannot_be_written),
		cmocka_unit_test(traps_at_every_step),
		cmocka_unit_test(foreign_addresses),
		cmocka_unit_test(foreign_int3_at_a_site),
		cmocka_unit_test(nothing_to_emulate),
		cmocka_unit_test(handler_after_the_writer_has_left_efd608fa7403),
		cmocka_unit_test(poke_ends_between_byte_and_mark),
		cmocka_unit_test(poke_ends_before_the_byte),
		cmocka_unit_test(foreign_int3_after_the_poke),
		cmocka_unit_test(next_poke_after_the_poke),
		cmocka_unit_test(handlers_beside_a_writer),
		cmocka_unit_test(lost_bytes_are_seen),
		cmocka_unit_test(breaches_are_seen),
		cmocka_unit_test(wrong_outcomes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
