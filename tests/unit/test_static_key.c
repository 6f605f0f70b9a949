/* SPDX-License-Identifier: MIT */
/*
 * Static keys over the fake port: sites of both lengths and both senses under keys of both values,
 * what enable, disable, inc, dec and count mean (key_model.h), and whether a wrong outcome would be
 * seen. Faults: test_static_key_faults.c; races: test_static_key_races.c.
 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/error.h"

#include "key_model.h"
#include "test_static_key.h"

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

/*
 * A file of the key's module registers it, no file does, and it has done so and gone; where modules
 * register, and where they do not.
 */
static void not_registered(void **state)
{
	static const unsigned char states[] = {0, SHUNT_KEY_PENDING, SHUNT_KEY_UNREGISTERED};

	(void)state;
	for (unsigned pending = 0; pending < ARRAY_SIZE(states); pending++)
		for (unsigned registers = 0; registers < 2; registers++) {
			struct branches *b = fresh(SITES, 1, 0);
			bool refused = pending == 1 || (pending == 2 && registers);

			fake.registers = registers;
			branch_keys[0].pending = states[pending];
			for (unsigned i = 0; i < 2; i++) {
				assert_int_equal(run_op(i ? INC : ENABLE, 0),
						 refused ? -SHUNT_EAGAIN : 0);
				assert_int_equal(__static_key_count(handle(0)),
						 refused ? 0 : i + 1);
			}
			assert_int_equal(is_on_everywhere(b, 0), !refused);
			fake_restart();
			shunt_static_keys_known(branch_keys, 1, true);
			assert_int_equal(run_op(INC, 0), 0);
			assert_true(is_on_everywhere(b, 0));
			shunt_static_keys_known(branch_keys, 1, false);
			assert_int_equal(run_op(INC, 0), -SHUNT_EAGAIN);
			shunt_static_keys_known(branch_keys, 1, true);
			fake.registers = false;
			branches_remove(b);
		}
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

/* A key of another libshunt, or one that a module of another tests, is not changed. */
static void two_libraries(void **state)
{
	struct branches *b = fresh(SITES, 3, 0);

	(void)state;
	fake.others_key = &branch_keys[1];
	assert_int_equal(__static_key_enable(handle(1)), -SHUNT_EAGAIN);
	fake.others_key = NULL;
	for (unsigned i = 0; i < 2; i++)
		shunt_static_key_tested_elsewhere(&branch_keys[1], true);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(__static_key_enable(handle(1)), -SHUNT_EAGAIN);
		assert_int_equal(__static_key_inc(handle(1)), -SHUNT_EAGAIN);
		assert_int_equal(fake.writes, 0);
		shunt_static_key_tested_elsewhere(&branch_keys[1], false);
	}
	assert_int_equal(__static_key_enable(handle(1)), 0);
	expect_right(b);
	/* The count ends, and what comes behind that is not forgotten. */
	for (unsigned i = 0; i < 300; i++)
		shunt_static_key_tested_elsewhere(&branch_keys[2], true);
	for (unsigned i = 0; i < 300; i++)
		shunt_static_key_tested_elsewhere(&branch_keys[2], false);
	assert_true(shunt_static_key_is_known(&branch_keys[2]));
	assert_int_equal(__static_key_enable(handle(2)), -SHUNT_EAGAIN);
	branch_keys[2].pending = 0;
	branches_remove(b);
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
		cmocka_unit_test(not_registered),
		cmocka_unit_test(update_within_an_update),
		cmocka_unit_test(another_thread_waits_83ab38ef0a0b),
		cmocka_unit_test(many_threads),
		cmocka_unit_test(two_libraries),
		cmocka_unit_test(wrong_outcomes_are_seen),
		cmocka_unit_test(wrong_order_is_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
