/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "ways_arena.h"

unsigned long injected, left_on_int3, left_changed;

/* Whether all that changes at site @i lies in one aligned word. */
bool in_a_word(size_t i)
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
bool is_flip(size_t i)
{
	const struct spot *spot = &arena.spots[i];

	return !memcmp(spot->bytes[0] + 1, spot->bytes[1] + 1, spot->len - 1);
}

/* The others go by @way, and at the turn the flips are new. */
void turn_of_both(bool state)
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
void check_any_turn(bool state)
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
void new_arena(size_t n, size_t kind, int way, int after)
{
	arena_new(n, kind == MIXED && way == SHUNT_WAY_FLIP ? FLIPS : kind);
	arena.check_turn = check_any_turn;
	fake.way = way;
	fake.way_after = after;
}

size_t events_of(enum fake_event_type type)
{
	size_t n = 0;

	for (size_t e = 0; e < fake.nr_events; e++)
		n += fake.events[e].type == type;
	return n;
}

struct fake_fault *fault_of(enum what_fails what)
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

void clear_faults(void)
{
	injected += fake.injected;
	fake.injected = 0;
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		*fault_of(what) = (struct fake_fault){0};
}

const struct route routes[] = {
	{SHUNT_WAY_REMAP, SHUNT_WAY_REMAP},  {SHUNT_WAY_REMAP, SHUNT_WAY_INT3},
	{SHUNT_WAY_REMAP, SHUNT_WAY_ATOMIC}, {SHUNT_WAY_ATOMIC, SHUNT_WAY_ATOMIC},
	{SHUNT_WAY_ATOMIC, SHUNT_WAY_INT3},  {SHUNT_WAY_ATOMIC, SHUNT_WAY_REMAP},
	{SHUNT_WAY_ALONE, SHUNT_WAY_ALONE},  {SHUNT_WAY_ALONE, SHUNT_WAY_REMAP},
	{SHUNT_WAY_ALONE, SHUNT_WAY_INT3},   {SHUNT_WAY_INT3, SHUNT_WAY_INT3},
	{SHUNT_WAY_INT3, SHUNT_WAY_REMAP},   {SHUNT_WAY_FLIP, SHUNT_WAY_FLIP},
	{SHUNT_WAY_FLIP, SHUNT_WAY_REMAP},   {SHUNT_WAY_FLIP, SHUNT_WAY_INT3},
	{SHUNT_WAY_FLIP, SHUNT_WAY_ATOMIC},  {SHUNT_WAY_FLIP, SHUNT_WAY_ALONE},
};

bool has_after(const struct route *r)
{
	return r->after != r->way;
}

/* How often each thing is asked for where all goes well, by the one way. */
void run_course(const struct route *r, size_t n, size_t uses[NR_WHAT])
{
	struct shunt_report report;

	new_arena(n, MIXED, r->way, r->after);
	assert_int_equal(poke(true, &report), 0);
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		uses[what] = uses_of(what);
	arena_free();
}

/* What is being tried, for the message. */
char scene[160];

size_t count_changed(void)
{
	size_t n = 0;

	for (size_t i = 0; i < arena.n; i++)
		n += arena.spots[i].addr[0] != SHUNT_INT3 && !has(i, arena.state);
	return n;
}

void expect_no_breach(void)
{
	if (arena.wrong || fake.violation)
		fail_msg("%s (%s)", arena.wrong ? arena.wrong : fake.violation, scene);
}

/*
 * After a poke from old to new under faults. All or nothing; or sites are left on an int3
 * with the right effect, or, where the way back by remaps or single writes has failed and
 * there was no other way, changed; and the report says which.
 */
void expect_all_or_nothing(int ret, const struct shunt_report *report)
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
void expect_mended(int way, bool to)
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
