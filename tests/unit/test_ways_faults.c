/* SPDX-License-Identifier: MIT */
/*
 * unit/ways: every fault, and every two, with another way to fall to and without; sites left on an
 * int3 and mended by each way; bytes that somebody else has written meanwhile.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "test_ways.h"
#include "ways_arena.h"

/* ------------------------------------------------------------------ faults */

/* What the report calls the step in which the first fault came. */
static const char *expected_step(enum what_fails what)
{
	static const char *const writes[] = {"write int3", "write the tails",
					     "write the first bytes"};
	static const char *const syncs[] = {"core sync after int3", "core sync after the tails",
					    "core sync after the first bytes"};
	bool plain = fake.way == SHUNT_WAY_ALONE;
	size_t done = 0, e = 0;

	if (what == A_BEGIN || what == TRAPS)
		return what == TRAPS ? "install the trap handler" : "make ready to poke";
	if (fake.way == SHUNT_WAY_REMAP)
		return what == A_REMAP ? "remap pages" : "core sync after the remap";
	for (; !fake.events[e].result || fake.events[e].type == FAKE_BEGIN; e++)
		done += fake.events[e].type == FAKE_SYNC;
	if (plain)
		return what == A_SYNC ? syncs[2] : "write the sites";
	if (fake.way == SHUNT_WAY_FLIP)
		return what == A_SYNC ? syncs[2] : writes[2];
	return what == A_SYNC ? syncs[done] : writes[done];
}

static void fail_once(const struct route *r, enum what_fails what, size_t at, size_t part)
{
	struct shunt_report report;
	bool falls;
	int ret;

	new_arena(3, MIXED, r->way, r->after);
	*fault_of(what) = (struct fake_fault){.at = at, .error = -SHUNT_EIO};
	fake.remap_part = part;
	ret = poke(true, &report);
	assert_int_equal(fake.injected, 1);
	expect_all_or_nothing(ret, &report);
	assert_int_equal(count_changed(), 0);
	/* A sync that has failed is no failure of the way: no other is tried. */
	falls = has_after(r) && what != A_BEGIN && what != A_SYNC;
	if (ret != (falls ? 0 : -SHUNT_EIO))
		fail_msg("way %d, then %d; fault %d at %zu: %d, %s", r->way, r->after, (int)what,
			 at, ret, report.what ? report.what : "");
	assert_int_equal(fake.begins, what == A_BEGIN || what == A_SYNC ? 1 : 2);
	assert_int_equal(fake.ends, what == A_BEGIN ? 0 : falls ? 2 : 1);
	if (!falls)
		assert_string_equal(report.what, expected_step(what));
	expect_whole();
	expect_mended(r->way, !arena.state);
	arena_free();
}

/* How many sites a remap that fails has changed: 0 to all. */
static size_t parts_of(enum what_fails what)
{
	return what == A_REMAP ? 4 : 1;
}

void every_fault(void **state)
{
	size_t uses[NR_WHAT];

	(void)state;
	arena.shift = STRADDLING;
	for (size_t r = 0; r < NR_ROUTES; r++) {
		run_course(&routes[r], 3, uses);
		for (enum what_fails what = 0; what < NR_WHAT; what++)
			for (size_t at = 1; at <= uses[what]; at++)
				for (size_t part = 0; part < parts_of(what); part++)
					fail_once(&routes[r], what, at, part);
	}
	arena.shift = 0;
}

/* Every fault of a batch of both, with another way to fall to and without: all or nothing. */
void beside_others_every_fault(void **state)
{
	struct shunt_report report;
	unsigned long failed = 0;

	(void)state;
	for (size_t r = 0; r < NR_ROUTES; r++)
		for (enum what_fails what = 0; what < NR_WHAT && routes[r].way < NR_WAYS; what++)
			for (size_t at = 1, hit = 1; hit; at++) {
				int ret;

				new_arena(11, WITH_FLIPS, routes[r].way, routes[r].after);
				arena.check_turn = turn_of_both;
				*fault_of(what) =
					(struct fake_fault){.at = at, .error = -SHUNT_EIO};
				fake.remap_part = at % 12;
				ret = poke(true, &report);
				hit = fake.injected;
				failed += ret != 0;
				expect_all_or_nothing(ret, &report);
				expect_whole();
				expect_mended(routes[r].way, !arena.state);
				arena_free();
			}
	assert_true(failed > 20);
}

struct two_faults {
	enum what_fails what[2];
	size_t at[2], part;
	bool onwards; /* and everything of the kinds after that */
};

static int poke_under(const struct two_faults *f, struct shunt_report *report)
{
	for (unsigned i = 0; i < 2; i++) {
		struct fake_fault *fault = fault_of(f->what[i]);

		fault->error = -SHUNT_EIO;
		fault->onwards = f->onwards;
		if (fault->at)
			fault->again = f->at[i];
		else
			fault->at = f->at[i];
	}
	fake.remap_part = f->part;
	return poke(true, report);
}

static void fail_twice(const struct route *r, const struct two_faults *f)
{
	struct shunt_report report;
	int ret;

	new_arena(3, MIXED, r->way, r->after);
	(void)snprintf(scene, sizeof(scene),
		       "way %d, then %d; fault %d at %zu, %d at %zu%s; part %zu", r->way, r->after,
		       (int)f->what[0], f->at[0], (int)f->what[1], f->at[1],
		       f->onwards ? " and on" : "", f->part);
	ret = poke_under(f, &report);
	expect_all_or_nothing(ret, &report);
	expect_mended((int)((f->at[0] + f->at[1]) % NR_WAYS), f->at[0] & 1);
	arena_free();
}

#define MOST 24 /* times that anything is asked for in a batch of three, with two ways */

static size_t most_of(enum what_fails what)
{
	return what == A_WRITE ? MOST : what == A_SYNC || what == A_VECTOR ? 10 : 4;
}

static void fail_at_two_places(const struct route *r, struct two_faults *f)
{
	bool remaps = f->what[0] == A_REMAP || f->what[1] == A_REMAP;

	for (f->at[0] = 1; f->at[0] <= most_of(f->what[0]); f->at[0]++)
		for (f->at[1] = 1; f->at[1] <= most_of(f->what[1]); f->at[1]++)
			for (f->part = 0; f->part < (remaps ? 4 : 1); f->part++)
				fail_twice(r, f);
}

void any_two_faults(void **state)
{
	(void)state;
	arena.shift = STRADDLING;
	left_on_int3 = left_changed = 0;
	for (size_t r = 0; r < NR_ROUTES; r++)
		for (unsigned onwards = 0; onwards < 2; onwards++)
			for (enum what_fails x = 0; x < NR_WHAT; x++)
				for (enum what_fails y = x; y < NR_WHAT; y++) {
					struct two_faults f = {{x, y}, {0, 0}, 0, onwards};

					fail_at_two_places(&routes[r], &f);
				}
	print_message("%lu runs left sites on an int3, %lu left them changed\n", left_on_int3,
		      left_changed);
	assert_true(left_on_int3 && left_changed);
	arena.shift = 0;
}

/*
 * Each core sync fails from the @at-th on. Where the bytes are old again the message does not say
 * that sites are left changed; nor that all is well, where no sync has followed what was new.
 */
void no_sync_works(void **state)
{
	struct shunt_report report;
	unsigned unseen = 0;

	(void)state;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
		for (size_t at = 1; at <= 3; at++) {
			bool has_traps =
				routes[r].way != SHUNT_WAY_REMAP && routes[r].way != SHUNT_WAY_FLIP;
			int ret;

			new_arena(3, MIXED, routes[r].way, routes[r].after);
			fake.sync =
				(struct fake_fault){.at = at, .onwards = true, .error = -SHUNT_EIO};
			ret = poke(true, &report);
			if (!count_changed() && ret && !has_traps) {
				assert_string_equal(report.what, UNSEEN);
				unseen++;
			}
			expect_all_or_nothing(ret, &report);
			expect_mended(routes[r].way, true);
			arena_free();
		}
	assert_true(unseen >= 4); /* by remap and by flip, each with ways to fall to */
}

/* ------------------------------------------------------- left on an int3, and mended */

/* Writes fail for good from the @at-th on. Whether sites were left. */
static bool leave_on_int3(size_t at)
{
	struct shunt_report report;
	size_t left = 0;

	new_arena(3, MIXED, SHUNT_WAY_INT3, SHUNT_WAY_INT3);
	fake.write = (struct fake_fault){.at = at, .onwards = true, .error = -SHUNT_EIO};
	expect_all_or_nothing(poke(true, &report), &report);
	for (size_t i = 0; i < arena.n; i++)
		left += is_poked(i);
	clear_faults();
	fake_restart();
	arena.commits = arena.reverts = 0;
	return left;
}

/* By each way, to either state. */
void mended_by_each_way(void **state)
{
	size_t mended = 0;

	(void)state;
	for (arena.shift = 0; arena.shift <= STRADDLING; arena.shift += STRADDLING)
		for (size_t at = 1; at <= 12; at++)
			for (int way = 0; way < NR_WAYS; way++)
				for (unsigned to = 0; to < 2; to++) {
					mended += leave_on_int3(at);
					expect_mended(way, to);
					arena_free();
				}
	print_message("%zu times sites were left and mended\n", mended);
	assert_true(mended >= 80);
	arena.shift = 0;
}

/* And the poke that would mend them fails once, at each place. */
void mending_fails(void **state)
{
	(void)state;
	arena.shift = STRADDLING;
	for (size_t r = 0; routes[r].way != SHUNT_WAY_FLIP; r++) /* what is left is none */
		for (size_t at = 2; at <= 10; at += 2)
			for (enum what_fails what = 0; what < NR_WHAT; what++)
				for (size_t k = 1; k <= 2 * most_of(what) * parts_of(what); k++) {
					struct shunt_report report;
					bool from;
					int ret;

					(void)leave_on_int3(at);
					from = arena.state;
					fake.way = routes[r].way;
					fake.way_after = routes[r].after;
					fake.remap_part = (k - 1) % parts_of(what);
					(void)snprintf(scene, sizeof(scene), "left at %zu, way %d",
						       at, fake.way);
					*fault_of(what) = (struct fake_fault){
						.at = (k - 1) / parts_of(what) + 1,
						.error = -SHUNT_EIO};
					ret = poke(!from, &report);
					expect_no_breach();
					assert_int_equal(arena.state, ret ? from : !from);
					if (!count_changed()) {
						size_t left;
						const char *why = not_whole(true, &left);

						if (why)
							fail_msg("%s", why);
					} else {
						assert_int_not_equal(ret, 0);
						left_changed++;
					}
					expect_mended((int)(k % NR_WAYS), k & 1);
					arena_free();
				}
	arena.shift = 0;
}

/*
 * The sync behind a remap fails, and then the remap back: no other way may go forward, for each
 * needs the sync, but the next one that there is puts the text right.
 */
void put_right_after_a_failed_sync(void **state)
{
	static const int after[] = {SHUNT_WAY_INT3, SHUNT_WAY_ATOMIC, SHUNT_WAY_ALONE};
	struct shunt_report report;

	(void)state;
	for (size_t a = 0; a < ARRAY_SIZE(after); a++)
		for (size_t part = 0; part < 4; part++) {
			new_arena(3, MIXED, SHUNT_WAY_REMAP, after[a]);
			fake.sync = (struct fake_fault){.at = 1, .error = -SHUNT_EPERM};
			fake.remap = (struct fake_fault){.at = 2, .error = -SHUNT_EIO};
			fake.remap_part = part;
			assert_int_equal(poke(true, &report), -SHUNT_EPERM);
			assert_int_equal(fake.injected, 2);
			assert_false(arena.state);
			expect_whole();
			expect_mended(SHUNT_WAY_REMAP, true);
			arena_free();
		}
}

/* ------------------------------------------------------ somebody else writes meanwhile */

/* A byte of site 1 becomes another's while a remap is on its way; then the remap fails. */
static uint8_t foreign;
static size_t foreign_at;

static void write_foreign_byte(void)
{
	if (fake.remaps == 1)
		arena.spots[1].addr[foreign_at] = foreign;
}

/* @before: what stood there. */
static void expect_left_to_the_other(int ret, const struct shunt_report *report, uint8_t before)
{
	assert_int_equal(ret, -SHUNT_EBUSY);
	assert_int_equal(report->error, -SHUNT_EBUSY);
	assert_ptr_equal(report->site, arena.spots[1].addr);
	assert_int_equal(fake.begins, 1); /* no other way was tried */
	assert_int_equal(arena.spots[1].addr[foreign_at], foreign);
	assert_false(arena.state);
	arena.spots[1].addr[foreign_at] = before;
	expect_whole();
}

/*
 * The remap says -EBUSY, because the text is not what it read. If a debugger has set its
 * breakpoint there, or a byte of the tail is another's, no other way may write there.
 */
void no_other_way_over_foreign_bytes(void **state)
{
	static const int after[] = {SHUNT_WAY_INT3, SHUNT_WAY_ATOMIC, SHUNT_WAY_ALONE};
	struct shunt_report report;

	(void)state;
	for (size_t a = 0; a < ARRAY_SIZE(after); a++)
		for (foreign_at = 0; foreign_at < 5; foreign_at++) {
			uint8_t before;

			new_arena(3, 0, SHUNT_WAY_REMAP, after[a]);
			before = arena.spots[1].addr[foreign_at];
			foreign = foreign_at ? before ^ 1 : SHUNT_INT3;
			fake.remap = (struct fake_fault){.at = 1, .error = -SHUNT_EBUSY};
			fake.on_point = write_foreign_byte;
			expect_left_to_the_other(poke(true, &report), &report, before);
			assert_int_equal(fake.writes, 0);
			arena_free();
		}
}

/* And where it was the page's other bytes that had changed, the other way works. */
void another_way_after_ebusy(void **state)
{
	struct shunt_report report;

	(void)state;
	new_arena(3, MIXED, SHUNT_WAY_REMAP, SHUNT_WAY_INT3);
	fake.remap = (struct fake_fault){.at = 1, .error = -SHUNT_EBUSY};
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(report.error, 0);
	assert_int_equal(fake.begins, 2);
	expect_whole();
	arena_free();
}
