/* SPDX-License-Identifier: MIT */
/*
 * Static calls over the fake port: sites of every kind in a buffer, under keys
 * that go to every sort of target. What must stand at a site is written out here
 * byte by byte, apart from the library's own encoder.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <shunt/static_call.h>

#include "core/error.h"
#include "core/key.h"

#include "call_sites.h"

/* ------------------------------------------------------------ kinds and targets */

static void from_every_target_to_every_other(uintptr_t (*veneer)(uintptr_t, uintptr_t))
{
	size_t veneers = 0;

	trap_wrong = NULL;
	traps_checked = 0;
	for (enum target from = 0; from < NR_TARGETS; from++)
		for (enum target to = 0; to < NR_TARGETS; to++) {
			func_t func = target_func(to);
			struct module *m;

			fake_reset();
			nr_stubs = 0;
			fake.veneer = veneer;
			keys_new(1, from, STATIC_CALL_NULLABLE);
			m = mixed_module(0, 80, 1); /* a jcc of each condition among them */
			watch(m);
			fake.on_sync = fake.on_write = check_traps;
			add(m);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], func), 0);
			assert_int_equal(fake.watches, 1);
			assert_int_equal(fake.watched, func ? func : __static_call_nop);
			assert_ptr_equal(__static_call_query(&keys[0]), (void *)func);
			assert_ptr_equal(keys[0].func, func ? func : __static_call_nop);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], target_func(from)), 0);
			expect_sites(m);
			assert_int_equal(fake.reports, 0);
			assert_null(trap_wrong);
			assert_int_equal(fake.veneers > 0, from >= FAR || to >= FAR);
			veneers += fake.veneers;
			remove_and_free(m);
		}
	fake_watch(NULL, 0, NULL, 0);
	nr_stubs = 0;
	assert_true(traps_checked > 1000 && veneers > 100);
}

static void every_kind_from_every_target_to_every_other(void **state)
{
	(void)state;
	from_every_target_to_every_other(NULL);
}

/* Out of reach, but there are stubs to go through. */
static void the_same_with_veneers(void **state)
{
	(void)state;
	from_every_target_to_every_other(near_stub);
}

/* A stub that does not reach either is as good as none. */
static void the_same_with_bad_veneers(void **state)
{
	(void)state;
	from_every_target_to_every_other(far_stub);
}

/* The stubs run out: one target has one, the other is left to the trampoline. */
static void veneers_run_out(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	fake.veneer = near_stub;
	nr_stubs = MAX_STUBS - 1;
	memset(stub_targets, 0, sizeof(stub_targets));
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = mixed_module(0, 30, 1);
	add(m);
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(__static_call_update(&keys[0], target_func(FAR)), 0);
		assert_int_equal(m->sites[0].why, SHUNT_WHY_FAR);
		expect_sites(m);
		assert_int_equal(__static_call_update(&keys[0], target_func(FARTHER)), 0);
		assert_int_equal(m->sites[0].why, SHUNT_WHY_TOO_FAR);
		expect_sites(m);
	}
	remove_and_free(m);
	nr_stubs = 0;
}

/*
 * Targets on either side of each edge: of what a rel32 reaches, and of what its 32 bits
 * would be mistaken for. From one near, back to it, and from each to the next.
 */
static void edges_of_reach(void **state)
{
	static const intptr_t edges[] = {(intptr_t)1 << 31, (intptr_t)1 << 32, (intptr_t)3 << 31,
					 (intptr_t)1 << 33};
	uint32_t inlined = 0, left = 0;
	struct module *m;

	(void)state;
	m = fresh_module(1, FUNC_A, STATIC_CALL_NULLABLE, 10);
	for (size_t e = 0; e < ARRAY_SIZE(edges); e++)
		for (intptr_t step = -8; step <= 8; step++)
			for (unsigned below = 0; below < 2; below++) {
				intptr_t to = (below ? -edges[e] : edges[e]) + step;
				func_t func = (func_t)(near_text[0] + to);

				assert_int_equal(__static_call_update(&keys[0], func), 0);
				expect_sites(m);
				inlined += m->sites[0].why == SHUNT_INLINE;
				left += m->sites[0].why == SHUNT_WHY_TOO_FAR;
				if (step & 1)
					continue;
				assert_int_equal(__static_call_update(&keys[0], func_a), 0);
				expect_sites(m);
			}
	assert_true(inlined > 10 && left > 100);
	remove_and_free(m);
}

/* A site that reaches, and one in a far module that does not, under one key. */
static void near_and_far_sites_of_one_key(void **state)
{
	struct module *near, *far;
	uint8_t *area =
		mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(area, MAP_FAILED);
	assert_false(reaches(area, func_a));
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	near = mixed_module(0, 10, 1);
	far = module_new(1, 10, 1);
	far->text = area;
	far->tramps = (uint8_t(*)[16])(area + 0x8000);
	far->slots = (void **)(area + 0x9000);
	far->mods[0].tramp = (uintptr_t)far->tramps[0];
	far->mods[0].slot = (uintptr_t)&far->slots[0];
	for (uint32_t i = 0; i < 10; i++)
		site_new(far, i, i, any_kind(i), 0);
	add(near);
	add(far);
	for (enum target to = NR_TARGETS; to-- > 0;) {
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		expect_sites(near);
		expect_sites(far);
		if (to == FUNC_A) {
			assert_int_equal(near->sites[0].why, SHUNT_INLINE);
			assert_int_equal(far->sites[0].why, SHUNT_WHY_TOO_FAR);
		}
	}
	remove_and_free(near);
	remove_and_free(far);
	munmap(area, 1 << 16);
}

static void same_function_again_writes_nothing(void **state)
{
	struct module *m;

	(void)state;
	for (enum target to = 0; to < NR_TARGETS; to++) {
		m = fresh_module(1, to, STATIC_CALL_NULLABLE, 30);
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		assert_int_equal(fake.nr_events, 0);
		expect_sites(m);
		remove_and_free(m);
	}
}

/* All the sites of a key in one batch: three syncs, however many there are. */
static void one_batch_for_all_sites(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(3, FUNC_A, 0, 3000);
	assert_int_equal(fake.syncs, 3);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_int_equal(fake.syncs, 3);
	assert_int_equal(fake.begins, 1);
	expect_sites(m);
	remove_and_free(m);
}

/* ------------------------------------------------------------ updates that fail */

static void expect_report(int error, const char *key, const char *what)
{
	assert_int_equal(fake.reports, 1);
	assert_int_equal(fake.report.error, error);
	if (key)
		assert_string_equal(fake.report.key, key);
	else
		assert_null(fake.report.key);
	if (what)
		assert_non_null(strstr(fake.report.what, what));
	expect_clean_port();
}

static void bad_arguments(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(1, FUNC_A, 0, 10);
	fake_restart();
	assert_int_equal(__static_call_update(NULL, func_a), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, NULL, "no key");
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], NULL), -SHUNT_EINVAL);
	expect_report(-SHUNT_EINVAL, "k00", "NULL");
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	assert_int_equal(fake.nr_events, 0);
	expect_sites(m);
	remove_and_free(m);
}

static int inner_result;

static void update_from_a_handler(void)
{
	const char *violation = fake.violation;

	inner_result = __static_call_update(&keys[1], (func_t)func_b);
	/* To the fake port, a report within an update is a breach; here it is the point. */
	fake.violation = violation;
}

static void update_within_an_update(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(2, FUNC_A, 0, 20);
	fake_restart();
	fake.on_sync = update_from_a_handler;
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	fake.on_sync = NULL;
	assert_int_equal(inner_result, -SHUNT_EDEADLK);
	assert_int_equal(fake.reports, 3); /* at each sync */
	assert_int_equal(fake.report.error, -SHUNT_EDEADLK);
	assert_string_equal(fake.report.key, "k01");
	assert_ptr_equal(keys[0].func, (func_t)func_b);
	assert_ptr_equal(keys[1].func, func_a);
	expect_sites(m);

	remove_and_free(m);
}

/* Each fault at each place: nothing has changed, and the report says where. */
static size_t update_fails_at(struct fake_fault *fault, int error, uint32_t n, enum target to)
{
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		struct module *m;
		uint8_t *before;
		int ret;

		m = fresh_module(1, FUNC_A, 0, n);
		before = malloc(n * STRIDE);
		assert_non_null(before);
		memcpy(before, m->text, n * STRIDE);
		watch(m);
		fake_restart();
		fake.on_sync = fake.on_write = check_traps;
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = __static_call_update(&keys[0], target_func(to));
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			expect_report(error, "k00", NULL);
			assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
			assert_memory_equal(m->text, before, n * STRIDE);
			expect_sites(m);
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		}
		expect_sites(m);
		fake_watch(NULL, 0, NULL, 0);
		free(before);
		remove_and_free(m);
		if (!ret)
			return failures;
	}
}

static void update_fails(void **state)
{
	(void)state;
	trap_wrong = NULL;
	for (uint32_t n = 1; n <= 37; n += 12) {
		assert_int_equal(update_fails_at(&fake.begin, -SHUNT_EPERM, n, FUNC_B), 1);
		assert_int_equal(update_fails_at(&fake.sync, -SHUNT_EPERM, n, FUNC_B), 3);
		assert_int_equal(update_fails_at(&fake.write_call, -SHUNT_EIO, n, FUNC_B), 3);
		assert_int_equal(update_fails_at(&fake.write, -SHUNT_EIO, n, FUNC_B), 3 * n);
		/* Back to the trampoline: that it is so, and why, is not said too early. */
		assert_int_equal(update_fails_at(&fake.sync, -SHUNT_EPERM, n, FAR), 3);
		/* Small batches need no memory. */
		assert_int_equal(update_fails_at(&fake.alloc, -SHUNT_ENOMEM, n, FAR), n > 16);
	}
	assert_null(trap_wrong);
}

/* For good: what is left on int3 does what query() says, and the next update mends it. */
static void update_cannot_be_undone(void **state)
{
	size_t kept = 0, changed = 0;

	(void)state;
	for (size_t k = 1; k <= 60; k++) {
		struct module *m;
		int ret;

		m = fresh_module(1, FUNC_A, 0, 20);
		fake_restart();
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		ret = __static_call_update(&keys[0], (func_t)func_b);
		fake.write = (struct fake_fault){0};
		expect_report(-SHUNT_EIO, "k00", NULL);
		assert_ptr_equal(__static_call_query(&keys[0]),
				 ret ? (void *)func_a : (void *)func_b);
		*(ret ? &kept : &changed) += 1;
		trap_wrong = NULL;
		check_traps();
		assert_null(trap_wrong);
		assert_int_equal(__static_call_update(&keys[0], ret ? (func_t)func_b : func_a), 0);
		expect_sites(m);
		remove_and_free(m);
	}
	assert_true(kept && changed);
}

/*
 * The same, between two targets whose bytes do not differ: both are out of reach, and the
 * sites go to the trampoline. Those on an int3 are mended.
 */
static void left_on_int3_with_equal_bytes(void **state)
{
	size_t left = 0;

	(void)state;
	for (size_t k = 1; k <= 60; k++) {
		struct module *m;

		m = fresh_module(1, FUNC_A, 0, 20);
		fake_restart();
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		(void)!__static_call_update(&keys[0], target_func(FAR));
		fake.write = (struct fake_fault){0};
		for (uint32_t i = 0; i < m->n && keys[0].func == target_func(FAR); i++)
			left += m->sites[i].poked;
		assert_int_equal(__static_call_update(&keys[0], target_func(FARTHER)), 0);
		expect_sites(m);
		remove_and_free(m);
	}
	assert_true(left > 0);
}

/* Bytes that became foreign after the start: no update, and the message shows them. */
static void foreign_bytes_at_an_update(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(1, FUNC_A, 0, 20);
	for (uint32_t i = 0; i < 20; i++) {
		uint8_t *at = m->text + m->sites[i].off, expected[6];
		unsigned len = kind_len(m->sites[i].kind & 0xf);

		memcpy(expected, at, len);
		at[0] = 0xcc; /* a debugger's breakpoint */
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EBUSY);
		expect_report(-SHUNT_EBUSY, "k00", "foreign");
		assert_ptr_equal(fake.report.site, at);
		assert_int_equal(fake.report.nbytes, len);
		assert_memory_equal(fake.report.found, at, len);
		assert_memory_equal(fake.report.expected, expected, len);
		assert_int_equal(fake.nr_events, 0);
		assert_ptr_equal(keys[0].func, func_a);
		at[0] = expected[0];
		expect_sites(m);
	}
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
}

/* --------------------------------------------------------------- many modules */

static void two_modules_share_a_key(void **state)
{
	struct module *a, *b;
	uint8_t *copy = malloc(30 * STRIDE);

	(void)state;
	assert_non_null(copy);
	fake_reset();
	keys_new(3, FUNC_A, 0);
	a = mixed_module(0, 25, 2);
	b = mixed_module(1, 30, 3);
	add(a);
	add(b);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	assert_int_equal(fake.syncs, 3);
	expect_sites(a);
	expect_sites(b);

	/* One goes: its text is not touched any more, nor are its records read. */
	memcpy(copy, a->text, 25 * STRIDE);
	remove_sites(a);
	memset(a->sites, 0xa5, a->n * sizeof(*a->sites));
	memset(a->mods, 0xa5, sizeof(a->mods));
	assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_memory_equal(a->text, copy, 25 * STRIDE);
	expect_sites(b);
	module_free(a);

	/* It comes back, and gets what the keys are now. */
	a = mixed_module(0, 25, 2);
	add(a);
	expect_sites(a);
	assert_int_equal(__static_call_update(&keys[1], func_a), 0);
	expect_sites(a);
	expect_sites(b);

	/* Both go, in the other order: no site is left to write to. */
	remove_and_free(b);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	expect_sites(a);
	remove_and_free(a);
	for (size_t k = 0; k < 3; k++)
		assert_null(keys[k].mods);
	fake_restart();
	assert_int_equal(__static_call_update(&keys[2], (func_t)func_b), 0);
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(keys[2].func, (func_t)func_b);
	free(copy);
}

/*
 * A record is used again by a module that has no sites, which is never added; when
 * that one goes, nothing of the first may be read: its keys are unmapped by then.
 */
static void removed_twice(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(2, FUNC_A, 0, 10);
	remove_sites(m);
	memset(m->mods, 0xa5, sizeof(m->mods)); /* as good as unmapped */
	remove_sites(m);
	module_free(m);
}

/* ---------------------------------------------------------- negative control */

/* Calls and tail calls of 5 bytes, which have an off form. */
static struct module *calls_and_tails(uint32_t n)
{
	struct module *m = module_new(0, n, 1);

	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, i, i % 2 ? SHUNT_KIND_JMP : SHUNT_KIND_CALL, 0);
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

/* What stands at each site, by hand: @first at a call, @tail at a tail call, to @target. */
static void expect_all(const struct module *m, uint8_t call, uint8_t tail, const void *target)
{
	for (uint32_t i = 0; i < m->n; i++) {
		const uint8_t *addr = m->text + m->sites[i].off;
		uint8_t bytes[5] = {i % 2 ? tail : call};

		put_rel32(bytes + 1, (uintptr_t)addr + 1, target);
		assert_memory_equal(addr, bytes, 5);
	}
}

static void expect_way(int way, size_t bytes)
{
	assert_int_equal(fake.way_now, way);
	if (way == SHUNT_WAY_FLIP)
		assert_int_equal(fake.bytes, bytes);
	assert_int_equal(fake.syncs, way == SHUNT_WAY_FLIP ? 1 : 3);
}

/*
 * A call that is switched off keeps the displacement that it had, first of all that of the
 * trampoline: so on and off are a flip as long as the target stays.
 */
static void keeps_what_it_called(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	fake_reset();
	fake.flips = true;
	keys_new(1, NOTHING, STATIC_CALL_NULLABLE);
	m = calls_and_tails(12);
	watch(m);
	assert_int_equal(add_to(m, &report), 0);
	expect_way(SHUNT_WAY_FLIP, m->n);
	expect_all(m, 0xa9, 0xc3, m->tramps[0]);
	for (unsigned turn = 0; turn < 4; turn++) {
		func_t func = target_func(turn % 2 ? FUNC_B : FUNC_A);

		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], func), 0);
		expect_way(SHUNT_WAY_INT3, 0); /* to another than it has called */
		expect_all(m, 0xe8, 0xe9, (void *)func);
		for (unsigned i = 0; i < 3; i++) {
			fake_restart();
			assert_int_equal(__static_call_update(&keys[0], NULL), 0);
			expect_way(SHUNT_WAY_FLIP, m->n);
			expect_all(m, 0xa9, 0xc3, (void *)func);
			assert_null(__static_call_query(&keys[0]));
			fake_restart();
			assert_int_equal(__static_call_update(&keys[0], func), 0);
			expect_way(SHUNT_WAY_FLIP, m->n);
			expect_all(m, 0xe8, 0xe9, (void *)func);
		}
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
	}
	assert_null(fake.violation);
	fake_watch(NULL, 0, NULL, 0);
	remove_and_free(m);
}

/* What the sites of an update that fails keep is still what they call. */
static void keeps_it_where_the_update_fails(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	fake_reset();
	fake.flips = true;
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
	m = calls_and_tails(4);
	assert_int_equal(add_to(m, &report), 0);
	for (unsigned sync = 0; sync < 2; sync++) {
		struct fake_fault *fault = sync ? &fake.sync : &fake.begin;

		fake_restart();
		*fault = (struct fake_fault){.at = 1, .error = -SHUNT_EIO};
		assert_int_equal(__static_call_update(&keys[0], NULL), -SHUNT_EIO);
		*fault = (struct fake_fault){0};
		expect_all(m, 0xe8, 0xe9, (void *)func_a);
		assert_ptr_equal(__static_call_query(&keys[0]), func_a);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
		expect_all(m, 0xa9, 0xc3, (void *)func_b);
		assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	}
	remove_and_free(m);
}

static void wrong_bytes_are_seen(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(1, FUNC_A, 0, 5);
	for (uint32_t i = 0; i < m->n; i++) {
		bool jcc = m->sites[i].kind == SHUNT_KIND_JCC; /* of "o": not taken */
		uint8_t bytes[6];

		assert_true(direct_bytes(m->text + m->sites[i].off, m->sites[i].kind,
					 (func_t)func_b, bytes));
		assert_memory_not_equal(m->text + m->sites[i].off, bytes,
					kind_len(m->sites[i].kind & 0xf));
		m->sites[i].poked = 1;
		m->text[m->sites[i].off] = 0xcc;
		assert_true(has_effect(m, i, func_a));
		assert_int_equal(has_effect(m, i, __static_call_nop), jcc);
		assert_int_equal(has_effect(m, i, (func_t)func_b), jcc);
		m->sites[i].poked = 0;
		assert_false(has_effect(m, i, func_a));
	}
	remove_and_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_kind_from_every_target_to_every_other),
		cmocka_unit_test(the_same_with_veneers),
		cmocka_unit_test(the_same_with_bad_veneers),
		cmocka_unit_test(veneers_run_out),
		cmocka_unit_test(edges_of_reach),
		cmocka_unit_test(near_and_far_sites_of_one_key),
		cmocka_unit_test(same_function_again_writes_nothing),
		cmocka_unit_test(one_batch_for_all_sites),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(update_within_an_update),
		cmocka_unit_test(update_fails),
		cmocka_unit_test(update_cannot_be_undone),
		cmocka_unit_test(left_on_int3_with_equal_bytes),
		cmocka_unit_test(foreign_bytes_at_an_update),
		cmocka_unit_test(two_modules_share_a_key),
		cmocka_unit_test(removed_twice),
		cmocka_unit_test(keeps_what_it_called),
		cmocka_unit_test(keeps_it_where_the_update_fails),
		cmocka_unit_test(wrong_bytes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
