/* SPDX-License-Identifier: MIT */
/*
 * A switch of one key with many sites, whose flips come in blocks and not as a list
 * (src/core/poke_flip_blocks.c): at sizes around those of a block, with each fault in each block,
 * with bytes of others at a site, and copied at every point. What holds of a list holds of it.
 *
 * Controls (SHUNT_CONTROL): "list", there are no blocks; "put-back", what flips cannot put back
 * stays as it is; "repair", a copy does not take anything back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"
#include "core/poke_batch.h"

#include "branch_sites.h"
#include "control.h"
#include "fake_port.h"

#define BLOCK SHUNT_FLIP_BLOCK
#define SITES (2 * BLOCK + 76)

static const struct static_key *const handle = &branch_handles[0][0];

int __real_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report);
int __wrap_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report);
enum poke_state __real_shunt_poke_put_back(struct poke_batch *b, unsigned tried);
enum poke_state __wrap_shunt_poke_put_back(struct poke_batch *b, unsigned tried);

int __wrap_shunt_poke_flips(struct shunt_flips *flips, struct shunt_change *change,
			    struct shunt_report *report)
{
	return is_control("list") ? SHUNT_AS_A_LIST
				  : __real_shunt_poke_flips(flips, change, report);
}

enum poke_state __wrap_shunt_poke_put_back(struct poke_batch *b, unsigned tried)
{
	return is_control("put-back") ? POKE_MIXED : __real_shunt_poke_put_back(b, tried);
}

static struct branches *add_module(size_t index, uint32_t n, uint32_t nr_keys)
{
	struct branches *b = branches_new(index, n, nr_keys);
	struct shunt_report report;

	assert_int_equal(branches_add(b, &report), 0);
	assert_int_equal(report.error, 0);
	return b;
}

static struct branches *fresh(uint32_t n, unsigned initial)
{
	struct branches *b;

	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	branch_tests = 1;
	branch_keys_new(1, initial);
	b = add_module(0, n, 1);
	fake.flips = fake.quiet = true;
	branches_watch(b);
	fake_restart();
	return b;
}

static int turn(bool on)
{
	return on ? __static_key_enable(handle) : __static_key_disable(handle);
}

static void expect_right(const struct branches *b, bool on)
{
	const char *why = branches_wrong(b);

	if (why || fake.violation)
		fail_msg("%s", why ? why : fake.violation);
	assert_int_equal(branch_keys[0].on, on);
	assert_false(fake.locked);
}

/* --------------------------------------------------------------- all goes well */

/* A byte of each site, one sync, no memory. */
static void without_a_list(void **state)
{
	static const uint32_t sizes[] = {17, 64, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, SITES};

	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(sizes); i++) {
		uint32_t n = sizes[i / 2];
		struct branches *b = fresh(n, i % 2);

		for (unsigned k = 0; k < 4; k++) {
			bool on = !branch_keys[0].on;

			fake_restart();
			assert_int_equal(turn(on), 0);
			assert_int_equal(fake.way_now, SHUNT_WAY_FLIP);
			assert_int_equal(fake.begins, 1);
			assert_int_equal(fake.begun_for, n);
			assert_int_equal(fake.syncs, 1);
			assert_int_equal(fake.writes, n);
			assert_int_equal(fake.bytes, n);
			assert_int_equal(fake.allocs, 0);
			assert_int_equal(fake.traps_taken, 0);
			assert_int_equal(fake.ends, 1);
			expect_right(b, on);
		}
		branches_remove(b);
	}
}

/* What is no flip, and what does not come in order, goes by a list. */
static void others_by_a_list(void **state)
{
	struct branches *b, *c;

	(void)state;
	branch_tests = EVERY_OTHER;
	fake_reset();
	fake_watch(NULL, 0, NULL, 0);
	branch_keys_new(1, 0);
	b = add_module(0, SITES, 1);
	fake.flips = true;
	assert_int_equal(turn(true), 0);
	assert_int_equal(fake.way_now, SHUNT_WAY_INT3);
	assert_int_equal(fake.allocs, 2); /* the module's, and this one */
	expect_right(b, true);
	branches_remove(b);

	for (size_t first = 0; first < 2; first++) {
		fake_reset();
		branch_tests = 1;
		branch_keys_new(1, 0);
		b = add_module(first, SITES, 1);
		c = add_module(!first, SITES, 1);
		fake_restart();
		fake.flips = true;
		assert_int_equal(turn(true), 0);
		assert_int_equal(fake.writes, 2 * SITES);
		/* Of the two, the one that came last comes first. */
		assert_int_equal(fake.allocs, b->text < c->text);
		assert_int_equal(fake.outstanding, 0);
		expect_right(b, true);
		expect_right(c, true);
		branches_remove(b);
		branches_remove(c);
	}
}

/* ------------------------------------------------------------------------ faults */

/* The n-th write, around the ends of blocks. */
static const size_t places[] = {1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, SITES - 1, SITES};

/* Once: it is put back, and goes through as a list. */
static void a_write_fails_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct branches *b = fresh(SITES, 0);

		fake.write = (struct fake_fault){.at = places[i], .error = -SHUNT_EIO};
		assert_int_equal(turn(true), 0);
		assert_int_equal(fake.begins, 2);
		assert_int_equal(fake.writes, places[i] + (places[i] - 1) + SITES);
		expect_right(b, true);
		branches_remove(b);
	}
}

/* The same of the list: by another way, or not at all. */
static void a_write_fails_twice(void **state)
{
	(void)state;
	for (unsigned other = 0; other < 2; other++)
		for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
			struct branches *b = fresh(SITES, 0);
			size_t at = places[i];
			bool works = other;

			fake.way = other ? SHUNT_WAY_REMAP : -SHUNT_ENOSYS;
			fake.write = (struct fake_fault){
				.at = at, .again = at + (at - 1) + at, .error = -SHUNT_EIO};
			assert_int_equal(turn(true), works ? 0 : -SHUNT_EIO);
			expect_right(b, works);
			branches_remove(b);
		}
}

/* From there on, in all that is written: only new pages can help. */
static void no_write_works_any_more(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct branches *b = fresh(SITES, 0);

		fake.way = fake.way_after = SHUNT_WAY_REMAP;
		fake.write =
			(struct fake_fault){.at = places[i], .onwards = true, .error = -SHUNT_EIO};
		assert_int_equal(turn(true), 0);
		expect_right(b, true);
		branches_remove(b);
	}
}

/* And where there are none: it is said, and no update returns 0 over a site that is otherwise. */
static void nothing_can_be_put_back(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		struct branches *b = fresh(SITES, 0);
		bool mixed = places[i] > 1;

		fake.way = fake.way_after = -SHUNT_ENOSYS;
		fake.write =
			(struct fake_fault){.at = places[i], .onwards = true, .error = -SHUNT_EIO};
		assert_int_equal(turn(true), -SHUNT_EIO);
		assert_int_equal(branch_keys[0].on, 0);
		assert_int_equal(__static_key_count(handle), 0);
		assert_int_equal(fake.report.error, -SHUNT_EIO);
		assert_string_equal(fake.report.key, "s0000");
		if (mixed)
			assert_string_equal(fake.report.what,
					    "write text, or undo it; sites are left changed");
		fake.write = (struct fake_fault){0};
		assert_int_equal(turn(false), mixed ? -SHUNT_EBUSY : 0);
		if (!mixed)
			expect_right(b, false);
		branches_remove(b);
	}
}

/* Every way needs it. */
static void a_sync_fails(void **state)
{
	(void)state;
	for (unsigned onwards = 0; onwards < 2; onwards++) {
		struct branches *b = fresh(SITES, 0);

		fake.sync = (struct fake_fault){.at = 1, .onwards = onwards, .error = -SHUNT_EIO};
		fake.way = fake.way_after = SHUNT_WAY_REMAP;
		assert_int_equal(turn(true), -SHUNT_EIO);
		assert_string_equal(fake.report.what, "core sync after the first bytes");
		assert_string_equal(fake.report.key, "s0000");
		assert_int_equal(fake.begins, 1);
		expect_right(b, false);
		fake.sync = (struct fake_fault){0};
		assert_int_equal(turn(true), 0);
		expect_right(b, true);
		branches_remove(b);
	}
}

/* In any block: nothing is written. */
static void bytes_of_others(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		for (unsigned byte = 0; byte < 2; byte++) {
			struct branches *b = fresh(SITES, 0);
			uint8_t *at = branch_addr(b, (uint32_t)places[i] - 1);

			at[byte] ^= 0x80;
			assert_int_equal(turn(true), -SHUNT_EBUSY);
			assert_ptr_equal(fake.report.site, at);
			assert_int_equal(fake.writes, 0);
			at[byte] ^= 0x80;
			expect_right(b, false);
			assert_int_equal(turn(true), 0);
			expect_right(b, true);
			branches_remove(b);
		}
}

static uint8_t *meanwhile;

static void set_breakpoint(void)
{
	if (fake.write_calls == 2)
		*meanwhile = 0xcc;
}

/* In the middle of the writes, before its own: it stays, all others are as they were. */
static void a_breakpoint_comes(void **state)
{
	static const uint32_t at_site[] = {BLOCK, 2 * BLOCK - 1, 2 * BLOCK, SITES - 1};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(at_site); i++) {
		struct branches *b = fresh(SITES, 0);
		uint8_t before;

		meanwhile = branch_addr(b, at_site[i]);
		before = *meanwhile;
		fake.on_write = set_breakpoint;
		assert_int_equal(turn(true), -SHUNT_EBUSY);
		assert_ptr_equal(fake.report.site, meanwhile);
		assert_string_equal(fake.report.what, "foreign bytes stand at the site");
		assert_int_equal(*meanwhile, 0xcc);
		fake.on_write = NULL;
		*meanwhile = before;
		expect_right(b, false);
		assert_int_equal(turn(true), 0);
		expect_right(b, true);
		branches_remove(b);
	}
}

static void forbid(void)
{
	if (fake.write_calls == 2)
		fake.unwritable = meanwhile;
}

/* One that is switched already cannot be put back: all others are, by flips or another way. */
static void one_cannot_be_put_back(void **state)
{
	static const uint32_t at_site[] = {0, 5, BLOCK - 1};

	(void)state;
	for (size_t i = 0; i < 2 * ARRAY_SIZE(at_site); i++) {
		struct branches *b = fresh(SITES, 0);
		uint32_t site = at_site[i / 2];

		meanwhile = branch_addr(b, site);
		fake.on_write = forbid;
		fake.write_call = (struct fake_fault){.at = 2, .error = -SHUNT_EIO};
		if (i % 2)
			fake.way = fake.way_after = -SHUNT_ENOSYS;
		assert_int_equal(turn(true), -SHUNT_EIO);
		assert_ptr_equal(fake.report.site, meanwhile);
		assert_string_equal(fake.report.what,
				    "write text, or undo it; sites are left changed");
		for (uint32_t k = 0; k < SITES; k++)
			assert_int_equal(branch_is(b, k, false), k != site);
		branches_remove(b);
	}
}

/* ------------------------------------------------------------------------ copies */

static jmp_buf copied;
static size_t points_left;

static void copy_here(void)
{
	if (points_left && !--points_left)
		longjmp(copied, 1);
}

/* Stop at the @k-th point, and go on as a copy in which the thread is not. False: there is none. */
static bool stop_and_repair(struct branches *b, size_t k, int way)
{
	bool on = !branch_keys[0].on;

	points_left = k;
	fake.on_point = copy_here;
	if (!setjmp(copied)) {
		assert_int_equal(turn(on), 0);
		points_left = 0;
		return false;
	}
	fake.on_point = NULL;
	fake.write = (struct fake_fault){0};
	fake.way_after = way;
	fake.ends = fake.begins;
	if (!is_control("repair")) {
		assert_int_equal(shunt_sites_repair(), 0);
		assert_int_equal(shunt_sites_repair(), 0); /* now there is nothing to do */
	}
	shunt_port_unlock();
	expect_right(b, !on);
	assert_int_equal(turn(on), 0);
	expect_right(b, on);
	return true;
}

/* Each point around the first write and the last ones, of those between some. */
static size_t next_point(size_t k, size_t n)
{
	size_t near = k / (2 * n) * (2 * n) + 2 * n - 12;

	if (k % (2 * n) < 12 || k >= near)
		return k + 1;
	return k + 37 < near ? k + 37 : near;
}

/* By each way; with a write that fails before it, so that it is on its way back. */
static void copied_at_every_point(void **state)
{
	static const int ways[] = {SHUNT_WAY_INT3, SHUNT_WAY_REMAP, SHUNT_WAY_ALONE};
	static const uint32_t n = BLOCK + 9;
	size_t stops = 0;

	SKIP_IN_TSAN();
	(void)state;
	for (unsigned i = 0; i < 2 * ARRAY_SIZE(ways); i++)
		for (size_t k = 1;; k = next_point(k, n)) {
			struct branches *b = fresh(n, i & 1);
			bool stopped;

			if (i >= ARRAY_SIZE(ways))
				fake.write =
					(struct fake_fault){.at = BLOCK + 3, .error = -SHUNT_EIO};
			stopped = stop_and_repair(b, k, ways[i % ARRAY_SIZE(ways)]);
			branches_remove(b);
			stops += stopped;
			if (!stopped)
				break;
		}
	print_message("%zu stops\n", stops);
	assert_true(stops > 200);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_a_list),
		cmocka_unit_test(others_by_a_list),
		cmocka_unit_test(a_write_fails_once),
		cmocka_unit_test(a_write_fails_twice),
		cmocka_unit_test(no_write_works_any_more),
		cmocka_unit_test(nothing_can_be_put_back),
		cmocka_unit_test(a_sync_fails),
		cmocka_unit_test(bytes_of_others),
		cmocka_unit_test(a_breakpoint_comes),
		cmocka_unit_test(one_cannot_be_put_back),
		cmocka_unit_test(copied_at_every_point),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
