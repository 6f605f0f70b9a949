/* SPDX-License-Identifier: MIT */
/*
 * Static keys over the fake port: sites of both lengths and both senses under keys
 * of both values, what enable, disable, inc, dec and count mean, each fault at each
 * place, and everything that can happen between two steps of a count.
 */
#include <limits.h>
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

#include "branch_sites.h"
#include "fake_port.h"
#include "static_key_hooked.h"

#define SITES 24

static const struct static_key *handle(size_t i)
{
	return &branch_handles[0][i];
}

enum op { ENABLE, DISABLE, INC, DEC, NR_OPS };

static int run_op(enum op op, size_t key)
{
	switch (op) {
	case ENABLE:
		return __static_key_enable(handle(key));
	case DISABLE:
		return __static_key_disable(handle(key));
	case INC:
		return __static_key_inc(handle(key));
	default:
		return __static_key_dec(handle(key));
	}
}

/* What the op does to a count, by the manual: 0 with *@count changed, or the error. */
static int model(enum op op, int *count)
{
	switch (op) {
	case ENABLE:
		*count = *count ? *count : 1;
		return 0;
	case DISABLE:
		if (*count > 1)
			return -SHUNT_EBUSY;
		*count = 0;
		return 0;
	case INC:
		if (*count == INT_MAX)
			return -SHUNT_EOVERFLOW;
		++*count;
		return 0;
	default:
		if (!*count)
			return -SHUNT_EINVAL;
		--*count;
		return 0;
	}
}

static void expect_right(const struct branches *b)
{
	const char *why = branches_wrong(b);

	if (why || fake.violation)
		fail_msg("%s", why ? why : fake.violation);
	assert_false(fake.locked);
	assert_int_equal(fake.outstanding, 0);
}

static struct branches *add_module(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct branches *b = branches_new(index, n, nr_keys);
	struct shunt_report report;

	assert_int_equal(branches_add(b, &report), 0);
	assert_int_equal(report.error, 0);
	return b;
}

static struct branches *fresh(uint32_t n, uint32_t nr_keys, unsigned initial)
{
	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	branch_keys_new(nr_keys, initial);
	return add_module(0, n, nr_keys);
}

/* A key with @count users, by way of the public functions. */
static struct branches *fresh_with_count(int count, unsigned initial)
{
	struct branches *b = fresh(SITES, 1, initial);

	assert_int_equal(__static_key_disable(handle(0)), 0);
	for (int i = 0; i < count; i++)
		assert_int_equal(__static_key_inc(handle(0)), 0);
	assert_int_equal(__static_key_count(handle(0)), count);
	fake_restart();
	return b;
}

/* ------------------------------------------------------------------- semantics */

/* Nothing is written for sites that are right already, whatever the keys' values. */
static void start_up(void **state)
{
	(void)state;
	for (unsigned initial = 0; initial <= EVERY_OTHER; initial++) {
		struct branches *b = fresh(SITES, 5, initial);

		assert_int_equal(fake.nr_events, 0);
		for (size_t k = 0; k < 5; k++)
			assert_int_equal(__static_key_count(handle(k)), branch_keys[k].initial);
		expect_right(b);
		branches_remove(b);
	}
}

/* A module that comes when its keys have changed is brought up to them. */
static void late_module(void **state)
{
	(void)state;
	for (unsigned initial = 0; initial <= EVERY_OTHER; initial++) {
		struct branches *a = fresh(SITES, 4, initial), *b;

		for (size_t k = 0; k < 3; k++)
			assert_int_equal(run_op(k ? ENABLE : DISABLE, k), 0);
		b = add_module(1, SITES, 4);
		expect_right(a);
		expect_right(b);
		/* Both follow, whichever module's handle it is asked through. */
		fake_restart();
		assert_int_equal(__static_key_disable(&branch_handles[1][1]), 0);
		assert_int_equal(fake.syncs, 3);
		expect_right(a);
		expect_right(b);
		branches_remove(a);
		assert_int_equal(__static_key_enable(handle(1)), 0);
		expect_right(b);
		branches_remove(b);
		for (size_t k = 0; k < 4; k++)
			assert_null(branch_keys[k].mods);
	}
}

static const char *trap_wrong;
static size_t hooks;

static void check_traps(void)
{
	const char *why = branches_wrong_traps(&branches[0]);

	hooks++;
	if (why)
		trap_wrong = why;
}

/* A byte of each site, and one sync; nothing traps, by whatever way the port pokes others. */
static void expect_a_flip(const struct branches *b)
{
	assert_int_equal(fake.way_now, SHUNT_WAY_FLIP);
	assert_int_equal(fake.begins, 1);
	assert_int_equal(fake.syncs, 1);
	assert_int_equal(fake.traps_taken, 0);
	assert_int_equal(fake.bytes, b->n);
	assert_int_equal(fake.writes, b->n);
	expect_right(b);
}

/* Modules of the header of today: each switch is a flip. */
static void flips(void **state)
{
	(void)state;
	branch_tests = 1;
	for (unsigned initial = 0; initial < 2; initial++) {
		struct branches *b = fresh(24, 1, initial);

		fake.flips = true;
		branches_watch(b);
		for (unsigned i = 0; i < 4; i++) {
			int on = __static_key_count(handle(0));

			fake_restart();
			assert_int_equal(on ? __static_key_disable(handle(0))
					    : __static_key_enable(handle(0)),
					 0);
			assert_int_equal(__static_key_count(handle(0)), !on);
			expect_a_flip(b);
		}
		branches_remove(b);
	}
	branch_tests = 0;
}

/* The write fails, then the sync: all or nothing, with another way and without. */
static void flips_fail(void **state)
{
	(void)state;
	branch_tests = 1;
	for (unsigned other = 0; other < 2; other++)
		for (size_t at = 1; at <= 25; at++) {
			struct branches *b = fresh(24, 1, 0);
			struct fake_fault fault = {
				.at = at, .onwards = !other, .error = -SHUNT_EIO};
			int ret;

			fake.flips = true;
			branches_watch(b);
			fake_restart();
			if (at <= 24)
				fake.write = fault;
			else
				fake.sync = (struct fake_fault){.at = 1, .error = -SHUNT_EIO};
			ret = __static_key_enable(handle(0));
			fake.write = fake.sync = (struct fake_fault){0};
			assert_int_equal(ret, other && at <= 24 ? 0 : -SHUNT_EIO);
			assert_int_equal(__static_key_count(handle(0)), ret == 0);
			if (ret == 0 || at == 25 || at == 1)
				expect_right(b);
			branches_remove(b);
		}
	branch_tests = 0;
}

/* Tests and nops in one module, of object files that were compiled with either header. */
static void nops_and_tests(void **state)
{
	struct branches *b;

	(void)state;
	branch_tests = EVERY_OTHER;
	trap_wrong = NULL;
	for (unsigned initial = 0; initial < 2; initial++) {
		b = fresh(24, 3, initial);
		fake.flips = true;
		branches_watch(b);
		fake.on_write = fake.on_sync = check_traps;
		for (unsigned i = 0; i < 6; i++) {
			fake_restart();
			assert_int_equal(__static_key_count(handle(i % 3))
						 ? __static_key_disable(handle(i % 3))
						 : __static_key_enable(handle(i % 3)),
					 0);
			assert_int_equal(fake.way_now, SHUNT_WAY_INT3);
			assert_int_equal(fake.syncs, 3);
			assert_null(trap_wrong);
			expect_right(b);
		}
		branches_remove(b);
	}
	branch_tests = 0;
}

/* Each op at each count, compared with the model: count, text, traps on the way. */
static void every_op_at_every_count(void **state)
{
	static const int counts[] = {0, 1, 2, 3, 7};
	unsigned long traps = branch_traps;

	(void)state;
	trap_wrong = NULL;
	for (unsigned initial = 0; initial < 2; initial++)
		for (size_t c = 0; c < ARRAY_SIZE(counts); c++)
			for (enum op op = 0; op < NR_OPS; op++) {
				int want = counts[c], ret;
				struct branches *b = fresh_with_count(want, initial);
				bool was = want > 0;

				branches_watch(b);
				fake.on_write = fake.on_sync = check_traps;
				ret = model(op, &want);
				assert_int_equal(run_op(op, 0), ret);
				assert_int_equal(__static_key_count(handle(0)), want);
				assert_int_equal(branch_keys[0].on, want > 0);
				/* Text is written where the value turns, and only there. */
				assert_int_equal(fake.syncs, was == (want > 0) ? 0 : 3);
				assert_int_equal(fake.reports, ret != 0);
				if (fake.syncs)
					assert_int_equal(fake.wanted, 1);
				if (ret) {
					assert_int_equal(fake.report.error, ret);
					assert_string_equal(fake.report.key, "s0000");
					assert_non_null(fake.report.what);
				}
				assert_null(trap_wrong);
				expect_right(b);
				branches_remove(b);
			}
	assert_true(branch_traps - traps > 500);
}

/* Linux 83ab38ef0a0b: the count goes neither below 0 nor beyond its end. */
static void ends_of_the_count_83ab38ef0a0b(void **state)
{
	struct branches *b = fresh_with_count(0, 0);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(__static_key_dec(handle(0)), -SHUNT_EINVAL);
	assert_int_equal(__static_key_count(handle(0)), 0);
	assert_int_equal(fake.reports, 3);
	assert_int_equal(fake.nr_events, 0);
	assert_int_equal(__static_key_inc(handle(0)), 0);

	branch_keys[0].count = INT_MAX - 1;
	fake_restart();
	assert_int_equal(__static_key_inc(handle(0)), 0);
	assert_int_equal(__static_key_count(handle(0)), INT_MAX);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(__static_key_inc(handle(0)), -SHUNT_EOVERFLOW);
	assert_int_equal(fake.report.error, -SHUNT_EOVERFLOW);
	assert_string_equal(fake.report.key, "s0000");
	assert_int_equal(__static_key_count(handle(0)), INT_MAX);
	assert_int_equal(__static_key_enable(handle(0)), 0);
	assert_int_equal(__static_key_disable(handle(0)), -SHUNT_EBUSY);
	assert_int_equal(__static_key_count(handle(0)), INT_MAX);
	assert_int_equal(__static_key_dec(handle(0)), 0);
	assert_int_equal(__static_key_count(handle(0)), INT_MAX - 1);
	assert_int_equal(fake.nr_events, 0);
	expect_right(b);
	branches_remove(b);
}

/* Random ops over an array of keys against the model; no key disturbs another. */
static void array_of_keys(void **state)
{
	enum { KEYS = 37 };
	struct branches *b = fresh(10 * KEYS, KEYS, EVERY_OTHER);
	int counts[KEYS];
	uint32_t seed = 7;

	(void)state;
	fake.quiet = true;
	branches_watch(b);
	for (size_t k = 0; k < KEYS; k++)
		counts[k] = k & 1;
	for (unsigned i = 0; i < 3000; i++) {
		size_t k;
		enum op op;

		seed = seed * 1664525 + 1013904223;
		k = (seed >> 8) % KEYS;
		op = (seed >> 20) % NR_OPS;
		assert_int_equal(run_op(op, k), model(op, &counts[k]));
		if (i % 50)
			continue;
		for (k = 0; k < KEYS; k++) {
			assert_int_equal(__static_key_count(handle(k)), counts[k]);
			assert_ptr_equal(shunt_jump_key(&b->entries[k]), &branch_keys[k]);
			assert_int_equal(shunt_jump_code(&b->entries[k]),
					 branch_addr(b, (uint32_t)k));
		}
		expect_right(b);
	}
	branches_remove(b);
}

static void key_without_sites(void **state)
{
	struct branches *b = fresh(0, 1, 0);

	(void)state;
	for (enum op op = 0; op < NR_OPS; op++) {
		int count = branch_keys[0].count;
		int ret = model(op, &count);

		assert_int_equal(run_op(op, 0), ret);
		assert_int_equal(__static_key_count(handle(0)), count);
	}
	assert_int_equal(fake.nr_events, 0);
	expect_right(b);
	branches_remove(b);
}

static void key_removed(void **state)
{
	struct branches *b = fresh(SITES, 2, 0);
	struct shunt_static_key other;

	(void)state;
	assert_int_equal(shunt_port_lock(), 0);
	shunt_key_remove(&shunt_static_key_kind, &branch_keys[0]);
	shunt_port_unlock();
	assert_null(branch_keys[0].mods);
	other = branch_keys[1];
	assert_int_equal(__static_key_enable(handle(1)), 0);
	assert_ptr_equal(other.mods, branch_keys[1].mods);
	for (uint32_t i = 0; i < SITES; i++)
		assert_true(branch_is(b, i, branch_key(b, i) == &branch_keys[1]));
	branches_remove(b);
	assert_null(branch_keys[1].mods);
}

/* ---------------------------------------------------------------------- faults */

/* @fault at each place in turn: count, value and text as before; then it works. */
static size_t fails_at(struct fake_fault *fault, int error, enum op op, int count, uint32_t n)
{
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		static uint8_t before[MAX_BRANCHES * BRANCH_STRIDE];
		struct branches *b;
		int want = count, ret;

		b = fresh(n, 1, 0);
		for (int i = 0; i < count; i++)
			assert_int_equal(__static_key_inc(handle(0)), 0);
		memcpy(before, b->text, n * BRANCH_STRIDE);
		fake_restart();
		branches_watch(b);
		fake.on_write = fake.on_sync = check_traps;
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = run_op(op, 0);
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			assert_int_equal(fake.reports, 1);
			assert_int_equal(fake.report.error, error);
			assert_string_equal(fake.report.key, "s0000");
			assert_int_equal(__static_key_count(handle(0)), count);
			assert_int_equal(branch_keys[0].on, count > 0);
			assert_memory_equal(b->text, before, n * BRANCH_STRIDE);
			expect_right(b);
			assert_int_equal(run_op(op, 0), 0);
		}
		assert_int_equal(model(op, &want), 0);
		assert_int_equal(__static_key_count(handle(0)), want);
		assert_null(trap_wrong);
		expect_right(b);
		branches_remove(b);
		if (!ret)
			return failures;
	}
}

static void every_step_fails(void **state)
{
	(void)state;
	trap_wrong = NULL;
	for (enum op op = 0; op < NR_OPS; op++)
		for (uint32_t n = 1; n <= 33; n += 16) {
			int count = op == DISABLE || op == DEC;

			assert_int_equal(fails_at(&fake.begin, -SHUNT_EPERM, op, count, n), 1);
			assert_int_equal(fails_at(&fake.sync, -SHUNT_EPERM, op, count, n), 3);
			assert_int_equal(fails_at(&fake.write_call, -SHUNT_EIO, op, count, n), 3);
			assert_int_equal(fails_at(&fake.alloc, -SHUNT_ENOMEM, op, count, n),
					 n > 16);
			assert_true(fails_at(&fake.write, -SHUNT_EIO, op, count, n) >= 3 * n);
		}
}

/* A port whose error is -EBUSY is not taken for a count that others have. */
static void port_is_busy(void **state)
{
	(void)state;
	trap_wrong = NULL;
	for (enum op op = 0; op < NR_OPS; op++) {
		int count = op == DISABLE || op == DEC;

		assert_int_equal(fails_at(&fake.sync, -SHUNT_EBUSY, op, count, 5), 3);
		assert_int_equal(fails_at(&fake.begin, -SHUNT_EBUSY, op, count, 5), 1);
	}
}

/*
 * The way back fails as well: sites stay on an int3 that does what the key says,
 * and its count agrees; the next change mends them.
 */
static void cannot_be_undone(void **state)
{
	size_t kept = 0, changed = 0;

	(void)state;
	for (size_t k = 1; k <= 3 * SITES; k++)
		for (enum op op = INC; op <= DEC; op++) {
			struct branches *b = fresh_with_count(op == DEC, 0);
			int ret, count = op == DEC;

			fake.write =
				(struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
			ret = run_op(op, 0);
			fake.write = (struct fake_fault){0};
			assert_int_equal(fake.report.error, -SHUNT_EIO);
			if (!ret)
				assert_int_equal(model(op, &count), 0);
			assert_int_equal(__static_key_count(handle(0)), count);
			assert_int_equal(branch_keys[0].on, count);
			assert_null(branches_wrong_traps(b));
			*(ret ? &kept : &changed) += 1;
			assert_int_equal(run_op(count ? DEC : INC, 0), 0);
			expect_right(b);
			branches_remove(b);
		}
	assert_true(kept && changed);
}

static void foreign_bytes(void **state)
{
	struct branches *b = fresh_with_count(0, 1);

	(void)state;
	for (uint32_t i = 0; i < SITES; i++)
		for (int count = 0; count < 2; count++) {
			uint8_t *at = branch_addr(b, i), was = *at;

			*at = SHUNT_INT3;
			assert_int_equal(run_op(count ? DEC : INC, 0), -SHUNT_EBUSY);
			assert_ptr_equal(fake.report.site, at);
			assert_string_equal(fake.report.key, "s0000");
			assert_int_equal(run_op(count ? DISABLE : ENABLE, 0), -SHUNT_EBUSY);
			assert_int_equal(__static_key_count(handle(0)), count);
			*at = was;
			expect_right(b);
			assert_int_equal(run_op(count ? DEC : INC, 0), 0);
			expect_right(b);
		}
	branches_remove(b);
}

/*
 * Foreign bytes at start-up: a branch has no trampoline, so such a site is not
 * passed over. No change of the key, and no harm to the others.
 */
static void foreign_bytes_at_start_up(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < SITES; i++) {
		struct branches *b;
		struct shunt_report report;
		uint8_t was;

		fake_reset();
		branch_keys_new(2, 0);
		b = branches_new(0, SITES, 2);
		was = *branch_addr(b, i);
		*branch_addr(b, i) = SHUNT_INT3;
		(void)branches_add(b, &report);
		assert_int_equal(run_op(ENABLE, i % 2), -SHUNT_EBUSY);
		assert_int_equal(run_op(ENABLE, 1 - i % 2), 0);
		assert_int_equal(*branch_addr(b, i), SHUNT_INT3);
		assert_int_equal(__static_key_count(handle(i % 2)), 0);
		*branch_addr(b, i) = was;
		assert_int_equal(run_op(ENABLE, i % 2), 0);
		expect_right(b);
		branches_remove(b);
	}
}

/*
 * One module's sites could not be brought up to the key, so they have what the
 * change would give them already; the change then fails for another module's. What
 * stands at the first ones is still known: the next attempt goes through.
 */
static void failed_change_after_failed_start_up(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t k = 1; k <= 3; k++) {
		struct branches *a = fresh(4, 1, 0), *b;

		assert_int_equal(run_op(ENABLE, 0), 0);
		b = branches_new(1, 4, 1);
		fake_restart();
		fake.sync = (struct fake_fault){.at = 1, .error = -SHUNT_EPERM};
		assert_int_equal(branches_add(b, &report), -SHUNT_EPERM);
		fake_restart();
		fake.sync = (struct fake_fault){.at = k, .error = -SHUNT_EPERM};
		assert_int_equal(run_op(DISABLE, 0), -SHUNT_EPERM);
		fake.sync = (struct fake_fault){0};
		assert_int_equal(run_op(DISABLE, 0), 0);
		expect_right(a);
		expect_right(b);
		assert_int_equal(run_op(ENABLE, 0), 0);
		expect_right(a);
		expect_right(b);
		branches_remove(a);
		branches_remove(b);
	}
}

/* -------------------------------------------------- sites that are not up to date */

/* A module that comes while the key is on, and cannot be poked. */
static struct branches *stale_module(int count)
{
	struct branches *a = fresh(SITES, 1, 0), *b;
	struct shunt_report report;

	for (int i = 0; i < count; i++)
		assert_int_equal(__static_key_inc(handle(0)), 0);
	b = branches_new(1, SITES, 1);
	fake_restart();
	fake.sync = (struct fake_fault){.at = 1, .error = -SHUNT_EPERM, .onwards = true};
	assert_int_equal(branches_add(b, &report), -SHUNT_EPERM);
	assert_int_equal(branch_keys[0].unknown, SHUNT_KEY_STALE);
	expect_right(a);
	for (uint32_t i = 0; i < SITES; i++)
		assert_true(branch_is(b, i, false));
	return b;
}

/* An update to the value that the key has brings them up, or fails. */
static void stale_sites_are_brought_up(void **state)
{
	(void)state;
	for (enum op op = 0; op < NR_OPS; op++)
		for (int count = 1; count < 3; count++) {
			struct branches *b = stale_module(count);
			int want = count, ret;

			ret = run_op(op, 0);
			assert_true(ret < 0);
			assert_int_equal(__static_key_count(handle(0)), count);
			for (uint32_t i = 0; i < SITES; i++)
				assert_true(branch_is(b, i, false));
			fake.sync = (struct fake_fault){0};
			assert_int_equal(run_op(op, 0), model(op, &want));
			assert_int_equal(__static_key_count(handle(0)), want);
			if (op == DISABLE && count == 2) /* refused, and nothing was tried */
				assert_int_equal(__static_key_enable(handle(0)), 0);
			assert_int_equal(branch_keys[0].unknown, 0);
			expect_right(b);
			branches_remove(b);
			branches_remove(&branches[0]);
		}
}

/* Control: without the mark an update returns 0 and the sites stay as they are. */
static void stale_sites_without_the_mark(void **state)
{
	struct branches *b = stale_module(1);

	(void)state;
	branch_keys[0].unknown = 0;
	fake.sync = (struct fake_fault){0};
	assert_int_equal(__static_key_enable(handle(0)), 0);
	assert_int_equal(__static_key_inc(handle(0)), 0);
	for (uint32_t i = 0; i < SITES; i++)
		assert_true(branch_is(b, i, false));
	branches_remove(b);
	branches_remove(&branches[0]);
}

/* A key whose module has not registered, or that is tested where it is not known. */
static void unknown_keys_are_refused(void **state)
{
	(void)state;
	for (unsigned how = 0; how < 3; how++)
		for (enum op op = 0; op < NR_OPS; op++)
			for (int count = 0; count < 3; count++) {
				struct branches *b = fresh_with_count(count, 0);

				if (how == 0)
					shunt_static_keys_known(branch_keys, 1, false);
				else
					shunt_static_key_set_flags(&branch_keys[0],
								   how == 1 ? SHUNT_KEY_REFUSED
									    : SHUNT_KEY_LOST,
								   true);
				assert_int_equal(run_op(op, 0), -SHUNT_EAGAIN);
				assert_string_equal(fake.report.key, "s0000");
				assert_non_null(fake.report.what);
				assert_int_equal(__static_key_count(handle(0)), count);
				assert_int_equal(fake.nr_events, 0);
				expect_right(b);
				branches_remove(b);
				shunt_static_keys_known(branch_keys, 1, true);
			}
}

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

static void one_in_the_middle_of_another_83ab38ef0a0b(void **state)
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
static void update_within_an_update(void **state)
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

static void another_thread_waits_83ab38ef0a0b(void **state)
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

/* Who holds a count finds the key on, at every site, for as long as it holds it. */
static bool is_on_everywhere(const struct branches *b, uint32_t key)
{
	bool on = __static_key_count(handle(key)) > 0;

	for (uint32_t i = key; i < b->n; i += b->nr_keys)
		on = on && branch_is(b, i, true);
	return on;
}

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

static void many_threads(void **state)
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

/* ---------------------------------------------------------- negative controls */

static bool is_wrong(const struct branches *b)
{
	return branches_wrong(b) || fake.violation;
}

/* A lost byte at any write is seen; so are a mark, a reason, a count, a value. */
static void wrong_outcomes_are_seen(void **state)
{
	struct branches *b = fresh_with_count(0, 0);
	size_t writes;

	(void)state;
	assert_int_equal(run_op(INC, 0), 0);
	writes = fake.writes;
	branches_remove(b);
	for (size_t k = 1; k <= writes; k++) {
		b = fresh_with_count(0, 0);
		branches_watch(b);
		fake.drop_at = k;
		(void)run_op(INC, 0);
		assert_true(is_wrong(b));
		branches_remove(b);
	}
	b = fresh_with_count(1, 0);
	assert_false(is_wrong(b));
	b->sites[3].poked = 1;
	assert_true(is_wrong(b));
	b->sites[3].poked = 0;
	b->sites[3].why = SHUNT_WHY_NEW;
	assert_true(is_wrong(b));
	b->sites[3].why = SHUNT_INLINE;
	branch_keys[0].count = 0;
	assert_true(is_wrong(b));
	assert_false(is_on_everywhere(b, 0));
	branch_keys[0].count = 1;
	branch_keys[0].on = 0;
	assert_true(is_wrong(b));
	branch_keys[0].on = 1;
	assert_false(is_wrong(b));
	assert_true(is_on_everywhere(b, 0));
	b->text[7] ^= 1;
	assert_true(is_wrong(b));
	b->text[7] ^= 1;
	branch_addr(b, 5)[1] ^= 1;
	assert_true(is_wrong(b));
	assert_false(is_on_everywhere(b, 0));
	branch_addr(b, 5)[1] ^= 1;
	/* A trap that does what the other value asks for. */
	*branch_addr(b, 2) = SHUNT_INT3;
	assert_non_null(branches_wrong_traps(b));
	b->sites[2].poked = 1;
	assert_null(branches_wrong_traps(b));
	b->entries[2].handle ^= 1;
	assert_non_null(branches_wrong_traps(b));
	branches_remove(b);
}

/* An op that another has slipped into, and an outcome that is of neither order. */
static void wrong_order_is_seen(void **state)
{
	int count = 1;

	(void)state;
	assert_int_equal(model(DEC, &count), 0);
	assert_int_equal(model(DEC, &count), -SHUNT_EINVAL);
	assert_int_equal(count, 0);
	count = 2;
	assert_int_equal(model(DISABLE, &count), -SHUNT_EBUSY);
	assert_int_equal(count, 2);
	count = INT_MAX;
	assert_int_equal(model(INC, &count), -SHUNT_EOVERFLOW);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(start_up),
		cmocka_unit_test(late_module),
		cmocka_unit_test(flips),
		cmocka_unit_test(flips_fail),
		cmocka_unit_test(nops_and_tests),
		cmocka_unit_test(every_op_at_every_count),
		cmocka_unit_test(ends_of_the_count_83ab38ef0a0b),
		cmocka_unit_test(array_of_keys),
		cmocka_unit_test(key_without_sites),
		cmocka_unit_test(key_removed),
		cmocka_unit_test(every_step_fails),
		cmocka_unit_test(port_is_busy),
		cmocka_unit_test(cannot_be_undone),
		cmocka_unit_test(foreign_bytes),
		cmocka_unit_test(foreign_bytes_at_start_up),
		cmocka_unit_test(failed_change_after_failed_start_up),
		cmocka_unit_test(stale_sites_are_brought_up),
		cmocka_unit_test(stale_sites_without_the_mark),
		cmocka_unit_test(unknown_keys_are_refused),
		cmocka_unit_test(one_in_the_middle_of_another_83ab38ef0a0b),
		cmocka_unit_test(update_within_an_update),
		cmocka_unit_test(another_thread_waits_83ab38ef0a0b),
		cmocka_unit_test(many_threads),
		cmocka_unit_test(wrong_outcomes_are_seen),
		cmocka_unit_test(wrong_order_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
