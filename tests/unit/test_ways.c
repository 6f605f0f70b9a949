/* SPDX-License-Identifier: MIT */
/*
 * The ways of poking beside int3, over the fake port: by remapped pages, by one store, by
 * plain writes where nobody else runs. What each asks of the port; every fault, and every
 * two, with another way to fall to and without; sites left on an int3 and mended by each
 * way; and the poke of a process that was copied in its middle, at every point, taken back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "poke_hooked.h"

#define LEFT_CHANGED "write text, or undo it; sites are left changed"
#define UNSEEN                                                           \
	"core sync, also behind undoing it; the text is as it was, but " \
	"another CPU may not have seen that yet"
#define NR_WAYS 4 /* for any sites; behind them SHUNT_WAY_FLIP */

/* With this, some sites lie in an aligned word and some do not. */
#define STRADDLING 3

static unsigned long injected, stops, left_on_int3, left_changed;

/* ------------------------------------------------------------------ what is right */

/* Whether all that changes at site @i lies in one aligned word. */
static bool in_a_word(size_t i)
{
	const struct spot *spot = &arena.spots[i];
	uintptr_t first = 0, last = 0;

	for (unsigned b = 0; b < spot->len; b++) {
		if (spot->bytes[0][b] == spot->bytes[1][b])
			continue;
		last = (uintptr_t)spot->addr + b;
		if (!first)
			first = last;
	}
	return first / 8 == last / 8;
}

/* Whether the first byte alone changes at site @i. */
static bool is_flip(size_t i)
{
	const struct spot *spot = &arena.spots[i];

	return !memcmp(spot->bytes[0] + 1, spot->bytes[1] + 1, spot->len - 1);
}

/* The others go by @way, and at the turn the flips are new. */
static void turn_of_both(bool state)
{
	for (size_t i = 0; i < arena.n; i++)
		if (is_flip(i) && !is_poked(i) && !has(i, false) && !has(i, true))
			wrong("a flip is neither old nor new");
		else if (is_flip(i) && !is_poked(i) && arena.commits > arena.reverts &&
			 !has(i, state))
			wrong("the state turns before the flips are new");
}

/* Flips beside sites that have been left on an int3, and so are none. */
static bool has_both(void)
{
	size_t flips = 0;

	for (size_t i = 0; i < arena.n; i++)
		flips += is_flip(i) && !is_poked(i);
	return flips && flips < arena.n;
}

static void turn_of_remap(bool state, bool forward)
{
	if (!forward)
		return; /* before anything is remapped back */
	if (!has_both() && (!fake.nr_events || fake.events[fake.nr_events - 1].type != FAKE_REMAP ||
			    fake.events[fake.nr_events - 1].result))
		wrong("the state turns elsewhere than between the remap and the sync");
	for (size_t i = 0; i < arena.n; i++)
		if (!has(i, state))
			wrong("the state turns before the pages are new");
}

/* The writes have been made, and the sync has not; before they are taken back. */
static void turn_of_flips(bool state, bool forward)
{
	for (size_t i = 0; i < arena.n; i++)
		if (forward ? !has(i, state) : !has(i, false) && !has(i, true))
			wrong("the state turns when a site is not new");
	if (forward && (!fake.nr_events || fake.events[fake.nr_events - 1].type != FAKE_WRITE))
		wrong("the state turns elsewhere than between the writes and the sync");
}

static void turn_of_writes(bool state, bool forward)
{
	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *spot = &arena.spots[i];

		if (state == arena.state && has(i, state))
			continue; /* one of those that need no mending */
		if (has_both() && is_flip(i) && !is_poked(i))
			continue; /* turn_of_both() sees to it */
		if (spot->addr[0] == SHUNT_INT3) {
			/* Nobody runs it and it is mended; or it cannot be, and traps. */
			if (fake.way_now == SHUNT_WAY_ALONE || !forward)
				continue;
			if (memcmp(spot->addr + 1, spot->bytes[state] + 1, spot->len - 1) != 0)
				wrong("the state turns before all tails have");
			if (fake.events[fake.nr_events - 1].type != FAKE_SYNC && !has_both())
				wrong("the state turns without a core sync before it");
		} else if (fake.way_now == SHUNT_WAY_ATOMIC && !in_a_word(i)) {
			wrong("a site that needs an int3 has none");
		} else if (forward ? !has(i, !state) : !has(i, false) && !has(i, true)) {
			wrong("the state turns when a site is neither old nor new");
		}
	}
}

/* arena.check_turn for any way. */
static void check_any_turn(bool state)
{
	/* To the same state is neither: sites are mended. */
	bool forward = arena.commits > arena.reverts && state != arena.state;

	if (fake.way_now == SHUNT_WAY_REMAP)
		turn_of_remap(state, forward);
	else if (fake.way_now == SHUNT_WAY_FLIP)
		turn_of_flips(state, forward);
	else if (fake.way_now == SHUNT_WAY_INT3 && has_both())
		turn_of_both(state);
	else if (fake.way_now == SHUNT_WAY_INT3)
		check_turn(state);
	else
		turn_of_writes(state, forward);
	if (has_both())
		turn_of_both(state);
}

/*
 * An arena with a port that offers @way, and when that has failed @after (the same: none). MIXED
 * is of all flips where they are to go by that way.
 */
static void new_arena(size_t n, size_t kind, int way, int after)
{
	arena_new(n, kind == MIXED && way == SHUNT_WAY_FLIP ? FLIPS : kind);
	arena.check_turn = check_any_turn;
	fake.way = way;
	fake.way_after = after;
}

/* ------------------------------------------------------------------ what goes through */

static size_t events_of(enum fake_event_type type)
{
	size_t n = 0;

	for (size_t e = 0; e < fake.nr_events; e++)
		n += fake.events[e].type == type;
	return n;
}

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

/* ------------------------------------------------------------------ faults */

enum what_fails { A_BEGIN, TRAPS, A_WRITE, A_VECTOR, A_SYNC, A_REMAP, NR_WHAT };

static struct fake_fault *fault_of(enum what_fails what)
{
	struct fake_fault *const faults[] = {&fake.begin,      &fake.take_traps, &fake.write,
					     &fake.write_call, &fake.sync,       &fake.remap};

	return faults[what];
}

static size_t uses_of(enum what_fails what)
{
	const size_t uses[] = {fake.begins,      fake.traps_taken, fake.writes,
			       fake.write_calls, fake.syncs,       fake.remaps};

	return uses[what];
}

static void clear_faults(void)
{
	injected += fake.injected;
	fake.injected = 0;
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		*fault_of(what) = (struct fake_fault){0};
}

/* Ways in the order in which the port offers them. */
static const struct route {
	int way, after; /* the same again: there is no other */
} routes[] = {
	{SHUNT_WAY_REMAP, SHUNT_WAY_REMAP},  {SHUNT_WAY_REMAP, SHUNT_WAY_INT3},
	{SHUNT_WAY_REMAP, SHUNT_WAY_ATOMIC}, {SHUNT_WAY_ATOMIC, SHUNT_WAY_ATOMIC},
	{SHUNT_WAY_ATOMIC, SHUNT_WAY_INT3},  {SHUNT_WAY_ATOMIC, SHUNT_WAY_REMAP},
	{SHUNT_WAY_ALONE, SHUNT_WAY_ALONE},  {SHUNT_WAY_ALONE, SHUNT_WAY_REMAP},
	{SHUNT_WAY_ALONE, SHUNT_WAY_INT3},   {SHUNT_WAY_INT3, SHUNT_WAY_INT3},
	{SHUNT_WAY_INT3, SHUNT_WAY_REMAP},   {SHUNT_WAY_FLIP, SHUNT_WAY_FLIP},
	{SHUNT_WAY_FLIP, SHUNT_WAY_REMAP},   {SHUNT_WAY_FLIP, SHUNT_WAY_INT3},
	{SHUNT_WAY_FLIP, SHUNT_WAY_ATOMIC},  {SHUNT_WAY_FLIP, SHUNT_WAY_ALONE},
};

static bool has_after(const struct route *r)
{
	return r->after != r->way;
}

/* How often each thing is asked for where all goes well, by the one way. */
static void run_course(const struct route *r, size_t n, size_t uses[NR_WHAT])
{
	struct shunt_report report;

	new_arena(n, MIXED, r->way, r->after);
	assert_int_equal(poke(true, &report), 0);
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		uses[what] = uses_of(what);
	arena_free();
}

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

/* What is being tried, for the message. */
static char scene[160];

static size_t count_changed(void)
{
	size_t n = 0;

	for (size_t i = 0; i < arena.n; i++)
		n += arena.spots[i].addr[0] != SHUNT_INT3 && !has(i, arena.state);
	return n;
}

static void expect_no_breach(void)
{
	if (arena.wrong || fake.violation)
		fail_msg("%s (%s)", arena.wrong ? arena.wrong : fake.violation, scene);
}

/*
 * After a poke from old to new under faults. All or nothing; or sites are left on an int3
 * with the right effect, or, where the way back by remaps or single writes has failed and
 * there was no other way, changed; and the report says which.
 */
static void expect_all_or_nothing(int ret, const struct shunt_report *report)
{
	size_t left = 0, changed = count_changed();
	const char *why;

	expect_no_breach();
	assert_int_equal(arena.commits, arena.reverts + arena.state);
	assert_int_equal(arena.state, !ret);
	assert_true(fake.ends <= fake.begins);
	if (ret)
		assert_int_equal(report->error, ret);
	if (changed) {
		left_changed++;
		if (!ret)
			fail_msg("%zu sites are changed (%s): %s", changed, scene, report->what);
		assert_true(!strcmp(report->what, LEFT_CHANGED) || !strcmp(report->what, LEFT));
		return;
	}
	why = not_whole(true, &left);
	if (why)
		fail_msg("%s", why);
	left_on_int3 += left != 0;
	if ((left || ret) && (left > 0) != !strcmp(report->what, LEFT))
		fail_msg("%zu sites are left, and it says %s (%s)", left, report->what, scene);
	/*
	 * One that went through, be it by another way, has nothing to report, unless the last
	 * sync has failed and then the way back.
	 */
	if (!left && !ret && strcmp(report->what ? report->what : "", LEFT) != 0)
		assert_int_equal(report->error, 0);
}

/* The next update, by @way, with nothing in its way. */
static void expect_mended(int way, bool to)
{
	struct shunt_report report;

	clear_faults();
	fake.way = fake.way_after = way;
	if (count_changed()) {
		/* Text that nobody can account for is not touched. */
		assert_int_equal(poke(to, &report), -SHUNT_EBUSY);
		return;
	}
	assert_int_equal(poke(to, &report), 0);
	assert_int_equal(report.error, 0);
	assert_int_equal(arena.state, to);
	expect_whole();
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

static void every_fault(void **state)
{
	size_t uses[NR_WHAT];

	(void)state;
	arena.shift = STRADDLING;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++) {
		run_course(&routes[r], 3, uses);
		for (enum what_fails what = 0; what < NR_WHAT; what++)
			for (size_t at = 1; at <= uses[what]; at++)
				for (size_t part = 0; part < parts_of(what); part++)
					fail_once(&routes[r], what, at, part);
	}
	arena.shift = 0;
}

/* Every fault of a batch of both, with another way to fall to and without: all or nothing. */
static void beside_others_every_fault(void **state)
{
	struct shunt_report report;
	unsigned long failed = 0;

	(void)state;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
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

static void any_two_faults(void **state)
{
	(void)state;
	arena.shift = STRADDLING;
	left_on_int3 = left_changed = 0;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
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
static void no_sync_works(void **state)
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
static void mended_by_each_way(void **state)
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
static void mending_fails(void **state)
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
static void put_right_after_a_failed_sync(void **state)
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
static void no_other_way_over_foreign_bytes(void **state)
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
static void another_way_after_ebusy(void **state)
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

static void copied_at_every_point(void **state)
{
	(void)state;
	stops = 0;
	for (arena.shift = 0; arena.shift <= STRADDLING; arena.shift += STRADDLING)
		for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
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
static void copied_at_every_load(void **state)
{
	(void)state;
	stops = with_queue = 0;
	job.at_loads = true;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
		for (int way = 0; way < NR_WAYS; way++)
			stop_everywhere(&routes[r], A_WRITE, 0, way);
	/* And with a fault before it: what is queued then is the way back. */
	arena.shift = STRADDLING;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++)
		for (int way = 0; way < NR_WAYS; way++)
			stop_everywhere(&routes[r], A_SYNC, 1, way);
	arena.shift = 0;
	job.at_loads = false;
	print_message("%lu stops, %zu of them with writes in the queue\n", stops, with_queue);
	assert_true(with_queue > 100);
}

/* Where there is no way to repair, the queue is dropped all the same. */
static void queue_is_dropped_without_a_way(void **state)
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
static void copied_at_every_point_under_faults(void **state)
{
	size_t uses[NR_WHAT];

	(void)state;
	stops = 0;
	arena.shift = STRADDLING;
	for (size_t r = 0; r < ARRAY_SIZE(routes); r++) {
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
static void no_way_to_repair(void **state)
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

/* A copy that takes nothing back has half a poke in it. */
static void repair_is_needed(void **state)
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

static void revert_is_needed(void **state)
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
		cmocka_unit_test(breaches_are_seen),
		cmocka_unit_test(early_turns_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
