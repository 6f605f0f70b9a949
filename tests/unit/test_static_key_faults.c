/* SPDX-License-Identifier: MIT */
/* unit/static_key: each fault at each place, foreign bytes, and sites that are not up to date. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "key_model.h"
#include "test_static_key.h"

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

void every_step_fails(void **state)
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
void port_is_busy(void **state)
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
void cannot_be_undone(void **state)
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

void foreign_bytes(void **state)
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
void foreign_bytes_at_start_up(void **state)
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
void failed_change_after_failed_start_up(void **state)
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
void stale_sites_are_brought_up(void **state)
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
void stale_sites_without_the_mark(void **state)
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
void unknown_keys_are_refused(void **state)
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
