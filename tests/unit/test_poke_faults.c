/* SPDX-License-Identifier: MIT */
/* unit/poke: every fault at every step, once and for good, any two of them, and what mends it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "test_poke.h"

unsigned long injected;

/* ------------------------------------------------------------- fault injection */

enum what_fails { A_WRITE, A_VECTOR, A_SYNC, NR_WHAT };

static struct fake_fault *fault_of(enum what_fails what)
{
	return what == A_WRITE ? &fake.write : what == A_VECTOR ? &fake.write_call : &fake.sync;
}

static void clear_faults(void)
{
	injected += fake.injected;
	fake.injected = 0;
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		*fault_of(what) = (struct fake_fault){0};
	fake.unwritable = NULL;
}

/* How often each is asked for in a poke that goes well, and in which step. */
struct course {
	size_t n[NR_WHAT];
	const char *step[NR_WHAT][1024]; /* by number, from 1 */
};

static void run_course(struct course *c)
{
	static const char *const write[] = {"write int3", "write the tails",
					    "write the first bytes"};
	static const char *const sync[] = {"core sync after int3", "core sync after the tails",
					   "core sync after the first bytes"};
	struct shunt_report report;

	memset(c, 0, sizeof(*c));
	fake_restart();
	assert_int_equal(poke(true, &report), 0);
	for (size_t e = 0; e < fake.nr_events; e++) {
		size_t step = c->n[A_SYNC];

		if (fake.syncs == 2 && step == 1)
			step = 2; /* no tails */
		if (fake.events[e].type == FAKE_SYNC) {
			c->step[A_SYNC][++c->n[A_SYNC]] = sync[step];
		} else if (fake.events[e].type == FAKE_WRITE) {
			c->step[A_WRITE][++c->n[A_WRITE]] = write[step];
			c->n[A_VECTOR] = fake.events[e].call;
			c->step[A_VECTOR][c->n[A_VECTOR]] = write[step];
		}
	}
	assert_true(c->n[A_WRITE] + 1 < ARRAY_SIZE(c->step[0]));
}

static size_t runs_with_sites_left;

/* After a poke under faults: the outcome and the text agree. */
static void expect_consistent(int ret, bool from, bool to, const struct shunt_report *report,
			      bool may_be_left)
{
	size_t left;
	const char *why = not_whole(may_be_left, &left);

	if (why || arena.wrong || fake.violation)
		fail_msg("%s", why ? why : arena.wrong ? arena.wrong : fake.violation);
	assert_int_equal(arena.state, ret ? from : to);
	if (ret)
		assert_int_equal(report->error, ret);
	if (left) {
		runs_with_sites_left++;
		assert_true(report->error < 0);
	}
	/* The message of a failure speaks of breakpoints only where there are some. */
	if (left || ret)
		assert_int_equal(left > 0, !strcmp(report->what, LEFT));
}

/* The next poke, with nothing in its way, puts everything right. */
static void expect_mended(bool to)
{
	struct shunt_report report;

	clear_faults();
	assert_int_equal(poke(to, &report), 0);
	assert_int_equal(report.error, 0);
	assert_int_equal(arena.state, to);
	expect_whole();
}

static void fail_once(size_t n, size_t kind)
{
	struct shunt_report report;
	static struct course c;

	arena_new(n, kind);
	run_course(&c);
	arena_free();
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		for (size_t k = 1; k <= c.n[what]; k++) {
			arena_new(n, kind);
			*fault_of(what) = (struct fake_fault){.at = k, .error = -SHUNT_EIO};
			assert_int_equal(poke(true, &report), -SHUNT_EIO);
			assert_int_equal(fake.injected, 1);
			expect_consistent(-SHUNT_EIO, false, true, &report, false);
			assert_string_equal(report.what, c.step[what][k]);
			assert_true(report.site >= (void *)arena.text &&
				    report.site < (void *)(arena.text + arena.size));
			assert_int_equal(arena.commits, arena.reverts);
			expect_mended(true);
			arena_free();
		}
}

void every_step_fails_once(void **state)
{
	(void)state;
	SKIP_IN_TSAN();
	fail_once(1, 0);
	fail_once(1, SAME_TAILS);
	fail_once(3, MIXED);
	fail_once(8, MIXED);
	fail_once(300, MIXED);
}

static void fail_for_good(size_t n, size_t kind)
{
	struct shunt_report report;
	static struct course c;

	arena_new(n, kind);
	run_course(&c);
	arena_free();
	for (enum what_fails what = 0; what < NR_WHAT; what++)
		for (size_t k = 1; k <= c.n[what]; k++) {
			int ret;

			arena_new(n, kind);
			*fault_of(what) = (struct fake_fault){
				.at = k, .onwards = true, .error = -SHUNT_EPERM};
			ret = poke(true, &report);
			assert_true(ret == 0 || ret == -SHUNT_EPERM);
			assert_int_equal(report.error, -SHUNT_EPERM);
			expect_consistent(ret, false, true, &report, true);
			/* And again, with no better luck: nothing gets worse. */
			if (k % 7 == 1) {
				bool from = arena.state;

				ret = poke(!from, &report);
				expect_consistent(ret, from, !from, &report, true);
			}
			expect_mended(k & 1);
			expect_mended(!(k & 1));
			arena_free();
		}
}

void every_step_fails_for_good(void **state)
{
	(void)state;
	SKIP_IN_TSAN();
	runs_with_sites_left = 0;
	fail_for_good(1, 0);
	fail_for_good(1, SAME_TAILS);
	fail_for_good(3, MIXED);
	fail_for_good(300, MIXED);
	assert_true(runs_with_sites_left > 0);
}

/* The way back has up to as many steps as the way there. */
#define MORE(c, what) (2 * (c).n[what] + 2)

/* Any two faults: the second one mostly hits the way back. */
void any_two_steps_fail(void **state)
{
	static struct course c;
	struct shunt_report report;

	(void)state;
	SKIP_IN_TSAN();
	runs_with_sites_left = 0;
	arena_new(3, MIXED);
	run_course(&c);
	arena_free();
	for (enum what_fails x = 0; x < NR_WHAT; x++)
		for (enum what_fails y = x; y < NR_WHAT; y++)
			for (size_t j = 1; j <= MORE(c, x); j++)
				for (size_t k = 1; k <= MORE(c, y); k++) {
					int ret;

					arena_new(3, MIXED);
					*fault_of(y) =
						(struct fake_fault){.at = k, .error = -SHUNT_EIO};
					if (x == y)
						fault_of(x)->again = j;
					else
						*fault_of(x) = (struct fake_fault){
							.at = j, .error = -SHUNT_EIO};
					ret = poke(true, &report);
					expect_consistent(ret, false, true, &report, true);
					expect_mended((j + k) & 1);
					arena_free();
				}
	assert_true(runs_with_sites_left > 0);
}

/* Sites are left on an int3, and then the poke that would mend them fails too. */
void mending_fails(void **state)
{
	static struct course c;
	struct shunt_report report;

	(void)state;
	SKIP_IN_TSAN();
	runs_with_sites_left = 0;
	arena_new(3, MIXED);
	run_course(&c);
	arena_free();
	for (enum what_fails x = 0; x < NR_WHAT; x++)
		for (size_t j = 1; j <= MORE(c, x); j++)
			for (unsigned y = 0; y < 2 * NR_WHAT; y++)
				for (size_t k = 1; k <= MORE(c, y / 2); k++) {
					struct fake_fault *fault;
					bool from;
					int ret;

					arena_new(3, MIXED);
					fault = fault_of(x);
					*fault = (struct fake_fault){
						.at = j, .onwards = true, .error = -SHUNT_EIO};
					ret = poke(true, &report);
					expect_consistent(ret, false, true, &report, true);
					clear_faults();
					fake_restart();
					from = arena.state;
					*fault_of(y / 2) = (struct fake_fault){
						.at = k, .onwards = k & 1, .error = -SHUNT_EPERM};
					ret = poke((y & 1) ? from : !from, &report);
					expect_consistent(ret, from, (y & 1) ? from : !from,
							  &report, true);
					expect_mended(true);
					arena_free();
				}
	assert_true(runs_with_sites_left > 0);
}

/*
 * One page of many cannot be written: what is unchanged there needs no write to go
 * back, so nothing is left on a breakpoint.
 */
void one_byte_cannot_be_written(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t i = 0; i < 9; i++)
		for (unsigned b = 0; b < 6; b++) {
			int ret;

			arena_new(9, MIXED);
			if (b >= arena.spots[i].len) {
				arena_free();
				continue;
			}
			fake.unwritable = arena.spots[i].addr + b;
			ret = poke(true, &report);
			expect_consistent(ret, false, true, &report, false);
			if (arena.spots[i].bytes[0][b] != arena.spots[i].bytes[1][b] || !b)
				assert_int_equal(ret, -SHUNT_EIO);
			expect_mended(true);
			arena_free();
		}
}
