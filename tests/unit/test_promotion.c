/* SPDX-License-Identifier: MIT */
/*
 * A module's sites become direct calls when it registers, and go with it: each failure on the
 * way, baked sites, keys that are missing or known later. Over the fake port.
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

/* ------------------------------------------------------------------- promotion */

static void foreign_sites_are_left_alone(void **state)
{
	struct shunt_report report;

	(void)state;
	for (uint32_t i = 0; i < 20; i++)
		for (unsigned b = 0; b < kind_len(any_kind(i) & 0xf); b++) {
			struct module *m;
			uint8_t *at, foreign[6];

			fake_reset();
			keys_new(1, FUNC_A, 0);
			m = mixed_module(0, 20, 1);
			at = m->text + m->sites[i].off;
			at[b] ^= 0x10;
			memcpy(foreign, at, sizeof(foreign));
			assert_int_equal(add_to(m, &report), 0);
			assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
			for (uint32_t j = 0; j < 20; j++)
				if (j != i)
					expect_site(m, j, (func_t)func_b);
			assert_int_equal(m->sites[i].why, SHUNT_WHY_FOREIGN);
			assert_memory_equal(at, foreign, kind_len(any_kind(i) & 0xf));
			remove_and_free(m);
		}
}

/* After a promotion that failed: everything works, through the trampolines. */
static void expect_on_trampolines(struct module *m, enum shunt_why why)
{
	expect_linked(m, why);
	for (enum target to = 0; to < NR_TARGETS; to++) {
		fake_restart();
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
		assert_ptr_equal(__static_call_query(&keys[0]), (void *)target_func(to));
		assert_int_equal(fake.nr_events, 0);
		expect_linked(m, why);
	}
}

/* @fault fails once, at each place in turn, until there are no more of them. */
static void promotion_fails_at(struct fake_fault *fault, int error)
{
	struct shunt_report report;
	size_t failures = 0;
	int ret;

	for (size_t k = 1;; k++) {
		struct module *m;

		fake_reset();
		keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
		m = mixed_module(0, 20, 1);
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = add_to(m, &report);
		assert_int_equal(fake.reports, 0); /* the caller's to tell */
		if (!ret) {
			expect_sites(m);
			remove_and_free(m);
			break;
		}
		failures++;
		assert_int_equal(ret, error);
		assert_int_equal(report.error, error);
		assert_non_null(report.what);
		*fault = (struct fake_fault){0};
		expect_on_trampolines(m, SHUNT_WHY_WRITE);
		remove_and_free(m);
	}
	assert_true(failures > 0);
}

static void promotion_fails(void **state)
{
	(void)state;
	promotion_fails_at(&fake.begin, -SHUNT_EPERM);
	promotion_fails_at(&fake.write, -SHUNT_EIO);
	promotion_fails_at(&fake.write_call, -SHUNT_EPERM);
	promotion_fails_at(&fake.sync, -SHUNT_EPERM);
	promotion_fails_at(&fake.alloc, -SHUNT_ENOMEM);
}

/* The way back fails as well: the int3 that stay do what the key says, for ever. */
static void promotion_cannot_be_undone(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t k = 2; k < 60; k += 3) {
		struct module *m;

		fake_reset();
		keys_new(1, FUNC_A, STATIC_CALL_NULLABLE);
		m = mixed_module(0, 20, 1);
		fake.write = (struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
		(void)add_to(m, &report);
		assert_int_equal(report.error, -SHUNT_EIO);
		fake.write = (struct fake_fault){0};
		for (enum target to = 0; to < NR_TARGETS; to++) {
			trap_wrong = NULL;
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
			check_traps();
			assert_null(trap_wrong);
			/* And they stay no longer than to the first update that is one. */
			for (uint32_t i = 0; i < m->n && to != FUNC_A; i++) {
				assert_int_equal(m->sites[i].poked, 0);
				assert_int_not_equal(m->text[m->sites[i].off], 0xcc);
			}
		}
		remove_and_free(m);
	}
}

/*
 * A baked file: its sites hold the direct calls of the first targets already. They
 * are left so while the key is, and are brought up to a key that has changed.
 */
static bool bare; /* as an earlier `shunt bake` wrote what is off: without a displacement */

static struct module *baked_module(size_t index, uint32_t n)
{
	struct module *m = mixed_module(index, n, 1);

	m->mods[0].baked_bare = bare;
	m->mods[0].last = bare ? 0 : m->mods[0].tramp;
	for (uint32_t i = 0; i < n; i++) {
		uint8_t *at = m->text + m->sites[i].off, bytes[6];
		enum shunt_why why;

		if (keys[0].init != __static_call_nop || !off_bytes(m, &m->sites[i], bytes, &why))
			assert_true(direct_bytes(at, m->sites[i].kind, keys[0].init, bytes));
		memcpy(at, bytes, kind_len(m->sites[i].kind & 0xf));
		m->sites[i].baked = 1;
	}
	memcpy(m->linked, m->text, n * STRIDE);
	return m;
}

static void check_baked_sites(void)
{
	for (enum target from = FUNC_A; from < FAR; from++)
		for (enum target to = 0; to < NR_TARGETS; to++) {
			struct module *a, *b;

			fake_reset();
			keys_new(1, from, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
			a = baked_module(0, 40);
			/* Not before the sites are known: they would not follow. */
			assert_int_equal(__static_call_update(&keys[0], target_func(to)),
					 -SHUNT_EAGAIN);
			assert_int_equal(fake.report.error, -SHUNT_EAGAIN);
			assert_string_equal(fake.report.key, "k00");
			assert_int_equal(fake.nr_events, 0);
			add(a);
			assert_int_equal(fake.nr_events, 0); /* no page is copied */
			expect_sites(a);
			watch(a);
			fake.on_sync = fake.on_write = check_traps;
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
			expect_sites(a);
			fake_watch(NULL, 0, NULL, 0);
			/* Another baked module comes late. */
			b = baked_module(1, 30);
			add(b);
			expect_sites(b);
			assert_int_equal(__static_call_update(&keys[0], target_func(from)), 0);
			expect_sites(a);
			expect_sites(b);
			assert_null(trap_wrong);
			remove_and_free(a);
			remove_and_free(b);
		}
}

static void baked_sites(void **state)
{
	(void)state;
	check_baked_sites();
	bare = true;
	check_baked_sites();
	bare = false;
}

/* That another module's sites of a baked key are known is not that its own are. */
static void baked_key_known_elsewhere_first(void **state)
{
	struct module *a, *b;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	b = mixed_module(1, 10, 1);
	add(b);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EAGAIN);
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	expect_sites(b);
	a = baked_module(0, 10);
	add(a);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(a);
	expect_sites(b);
	remove_and_free(a);
	remove_and_free(b);
}

/* Its module is on its way out, says the port: an update would not reach its sites. */
static void key_is_going(void **state)
{
	struct module *m;

	(void)state;
	m = fresh_module(1, FUNC_A, STATIC_CALL_NULLABLE, 10);
	keys[0].flags |= STATIC_CALL_GONE;
	fake_restart();
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EAGAIN);
	assert_int_equal(fake.report.error, -SHUNT_EAGAIN);
	assert_string_equal(fake.report.key, "k00");
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
	expect_sites(m);
	keys[0].flags &= ~STATIC_CALL_GONE; /* and it has come back */
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
}

/* The port has put the sites off; the update wants them. */
static struct module *put_off;

static void hand_over(void)
{
	struct shunt_report report = {0};

	if (put_off)
		assert_int_equal(shunt_sites_add(put_off->sites_of, (uintptr_t)put_off->text,
						 put_off->sites, put_off->n, &report),
				 0);
	put_off = NULL;
}

static void sites_found_when_wanted(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	put_off = m = baked_module(0, 40);
	fake.on_wanted = hand_over;
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	assert_null(put_off);
	assert_int_equal(fake.wanted, 1);
	expect_sites(m);
	remove_and_free(m);
}

/*
 * Baked sites that come late to a changed key, and cannot be written: the next
 * update still knows what stands there.
 */
static void check_not_promoted(enum target first)
{
	struct shunt_report report;

	for (size_t k = 1; k <= 3; k++) {
		struct module *a, *b;

		fake_reset();
		keys_new(1, first, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
		a = baked_module(0, 10);
		add(a);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		b = baked_module(1, 10);
		fake_restart();
		fake.sync = (struct fake_fault){.at = k, .error = -SHUNT_EPERM};
		assert_int_equal(add_to(b, &report), -SHUNT_EPERM);
		fake.sync = (struct fake_fault){0};
		assert_memory_equal(b->text, b->linked, b->n * STRIDE);
		for (uint32_t i = 0; i < b->n; i++)
			assert_int_not_equal(b->sites[i].why, SHUNT_INLINE);
		assert_int_equal(__static_call_update(&keys[0], NULL), 0);
		expect_sites(a);
		expect_sites(b);
		assert_int_equal(__static_call_update(&keys[0], func_a), 0);
		expect_sites(a);
		expect_sites(b);
		remove_and_free(a);
		remove_and_free(b);
	}
}

static void baked_sites_cannot_be_promoted(void **state)
{
	(void)state;
	check_not_promoted(FUNC_A);
	check_not_promoted(NOTHING);
	bare = true;
	check_not_promoted(NOTHING);
	bare = false;
}

/* While they still cannot be written no update goes through: they call the first target. */
static void baked_sites_stay_unwritable(void **state)
{
	struct shunt_report report;
	struct module *b;

	(void)state;
	fake_reset();
	keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
	b = baked_module(0, 10);
	add(b);
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	remove_sites(b);
	memcpy(b->text, b->linked, b->n * STRIDE);
	for (uint32_t i = 0; i < b->n; i++) {
		b->sites[i].next = 0;
		b->mods[0].first = b->mods[0].nr_sites = 0;
	}
	b->sites_of->nr_mods = 1;
	fake.begin =
		(struct fake_fault){.at = fake.begins + 1, .onwards = true, .error = -SHUNT_EPERM};
	assert_int_equal(add_to(b, &report), -SHUNT_EPERM);
	for (enum target to = NOTHING; to < NR_TARGETS; to++) {
		assert_int_equal(__static_call_update(&keys[0], target_func(to)), -SHUNT_EPERM);
		assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_b);
		assert_memory_equal(b->text, b->linked, b->n * STRIDE);
	}
	/* The first target is what they do call: there is nothing to write. */
	assert_int_equal(__static_call_update(&keys[0], func_a), 0);
	assert_memory_equal(b->text, b->linked, b->n * STRIDE);
	fake.begin = (struct fake_fault){0};
	assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
	expect_sites(b);
	remove_and_free(b);
}

/*
 * A breakpoint of somebody's stands on a baked call when it is found. No update goes through while
 * it does, because the site calls the first target behind it; then all do.
 */
static void baked_site_has_a_breakpoint(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10; i++) {
		struct module *m;
		uint8_t *at, first;

		fake_reset();
		keys_new(1, FUNC_A, STATIC_CALL_NULLABLE | STATIC_CALL_BAKED);
		m = baked_module(0, 10);
		at = m->text + m->sites[i].off;
		first = *at;
		*at = SHUNT_INT3;
		add(m);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), -SHUNT_EBUSY);
		assert_ptr_equal(fake.report.site, at);
		assert_ptr_equal(__static_call_query(&keys[0]), (void *)func_a);
		assert_int_equal(*at, SHUNT_INT3);
		*at = first;
		assert_memory_equal(m->text, m->linked, m->n * STRIDE);
		for (enum target to = NOTHING; to < NR_TARGETS; to++) {
			assert_int_equal(__static_call_update(&keys[0], target_func(to)), 0);
			expect_sites(m);
		}
		remove_and_free(m);
	}
}

/* A module that could not bind one of its keys: the others work. */
static void module_with_a_key_missing(void **state)
{
	struct module *m;

	(void)state;
	for (uint32_t missing = 0; missing < 3; missing++) {
		uint32_t other = missing == 1 ? 2 : 1;

		fake_reset();
		keys_new(3, FUNC_A, 0);
		m = module_new(0, 10, 3);
		m->mods[missing].key = NULL; /* it has no sites */
		memset(m->text, 0x90, 10 * STRIDE);
		for (uint32_t i = 0; i < 10; i++)
			site_new(m, i, i, any_kind(i), other);
		memcpy(m->linked, m->text, 10 * STRIDE);
		add(m);
		assert_null(keys[missing].mods);
		assert_int_equal(__static_call_update(&keys[other], (func_t)func_b), 0);
		expect_sites(m);
		remove_and_free(m);
		assert_null(keys[other].mods);
	}
}

/* Sites whose key is not known stay as linked, until it is: then they follow it. */
static void key_known_later(void **state)
{
	struct shunt_report report;
	struct module *m;

	(void)state;
	for (unsigned fails = 0; fails < 2; fails++) {
		fake_reset();
		keys_new(2, FUNC_A, 0);
		m = module_new(0, 20, 2);
		m->mods[1].key = NULL;
		memset(m->text, 0x90, 20 * STRIDE);
		for (uint32_t i = 0; i < 20; i++)
			site_new(m, i, i, any_kind(i), i % 2);
		memcpy(m->linked, m->text, 20 * STRIDE);
		add(m);
		assert_null(keys[1].mods);
		assert_int_equal(__static_call_update(&keys[0], (func_t)func_b), 0);
		assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
		for (uint32_t i = 0; i < 20; i++) {
			bool as_linked =
				!memcmp(m->text + m->sites[i].off, m->linked + m->sites[i].off,
					kind_len(m->sites[i].kind & 0xf));

			assert_int_equal(as_linked, i % 2);
			assert_int_equal(m->sites[i].why, i % 2 ? SHUNT_WHY_UNBOUND : SHUNT_INLINE);
			assert_true(shunt_site_overlaps((uintptr_t)m->text + m->sites[i].off, 1));
		}
		m->mods[1].key = &keys[1];
		if (fails)
			fake.begin =
				(struct fake_fault){.at = fake.begins + 1, .error = -SHUNT_EPERM};
		assert_int_equal(shunt_port_lock(), 0);
		assert_int_equal(shunt_sites_bind(m->sites_of, &report), fails ? -SHUNT_EPERM : 0);
		shunt_port_unlock();
		assert_ptr_equal(keys[1].mods, &m->mods[1]);
		for (uint32_t i = 0; i < 20; i++)
			assert_int_equal(m->sites[i].why,
					 i % 2 && fails ? SHUNT_WHY_WRITE : SHUNT_INLINE);
		if (!fails)
			expect_sites(m);
		assert_int_equal(__static_call_update(&keys[1], (func_t)func_a), 0);
		if (!fails)
			expect_sites(m);
		remove_and_free(m);
		assert_null(keys[0].mods);
		assert_null(keys[1].mods);
	}
}

/* A key goes away before the module that calls it: nothing leads to it any more. */
static void key_removed(void **state)
{
	struct module *a, *b;
	uint8_t *copy = malloc(20 * STRIDE);

	(void)state;
	assert_non_null(copy);
	fake_reset();
	keys_new(2, FUNC_A, 0);
	a = mixed_module(0, 20, 2);
	b = mixed_module(1, 20, 2);
	add(a);
	add(b);
	memcpy(copy, a->text, 20 * STRIDE);
	assert_int_equal(shunt_port_lock(), 0);
	shunt_key_remove(&shunt_static_call_kind, &keys[0]);
	shunt_port_unlock();
	assert_null(keys[0].mods);
	memset(&keys[0], 0xa5, sizeof(keys[0])); /* as good as unmapped */
	for (uint32_t i = 0; i < 20; i++) {
		uintptr_t addr = (uintptr_t)a->text + a->sites[i].off;
		struct shunt_regs regs = {.ip = addr + 1};
		struct shunt_insn insn;
		bool gone = a->sites[i].owner == 0;

		assert_int_equal(!shunt_site_find(addr, &insn), gone);
		assert_int_equal(shunt_trap(&regs), gone ? SHUNT_TRAP_FOREIGN : SHUNT_TRAP_LATE);
	}
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	for (uint32_t i = 0; i < 20; i++) {
		if (a->sites[i].owner == 1)
			expect_site(a, i, (func_t)func_b);
		else
			assert_memory_equal(a->text + a->sites[i].off, copy + a->sites[i].off,
					    kind_len(a->sites[i].kind & 0xf));
	}
	remove_and_free(a);
	remove_and_free(b);
	assert_null(keys[1].mods);
	free(copy);
}

static void module_without_sites(void **state)
{
	struct module *m;

	(void)state;
	fake_reset();
	keys_new(2, FUNC_A, 0);
	m = module_new(0, 0, 2);
	add(m);
	assert_int_equal(fake.nr_events, 0);
	assert_int_equal(__static_call_update(&keys[1], (func_t)func_b), 0);
	assert_int_equal(fake.nr_events, 0);
	assert_ptr_equal(keys[1].func, (func_t)func_b);
	remove_and_free(m);
}

static uint32_t lcg(uint32_t *seed)
{
	*seed = *seed * 1664525 + 1013904223;
	return *seed >> 8;
}

/* Any order in, sorted out: each key's chain has all of its sites, ascending. */
static void large_unsorted_module(void **state)
{
	const uint32_t n = MAX_SITES, nr_keys = MAX_KEYS;
	uint32_t *order = malloc(n * sizeof(*order)), seed = 1;
	struct module *m;

	(void)state;
	assert_non_null(order);
	fake_reset();
	fake.quiet = true;
	keys_new(nr_keys, FUNC_A, 0);
	m = module_new(0, n, nr_keys);
	memset(m->text, 0x90, n * STRIDE);
	for (uint32_t i = 0; i < n; i++)
		order[i] = i;
	for (uint32_t i = n; i-- > 1;) {
		uint32_t j = lcg(&seed) % (i + 1), t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (uint32_t i = 0; i < n; i++)
		site_new(m, i, order[i], any_kind(i), i % nr_keys);
	add(m);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(m->sites[i].off, i * STRIDE + i % 3);
	expect_sites(m);
	for (uint32_t k = 0; k < nr_keys; k++) {
		uint32_t count = 0, last = 0;

		for (uint32_t i = m->mods[k].first; i; i = m->sites[i - 1].next) {
			assert_int_equal(m->sites[i - 1].owner, k);
			assert_true(i > last);
			last = i;
			count++;
		}
		assert_int_equal(count, m->mods[k].nr_sites);
		assert_int_equal(count, n / nr_keys + (k < n % nr_keys));
	}
	for (uint32_t k = 0; k < nr_keys; k += 7)
		assert_int_equal(__static_call_update(&keys[k], (func_t)func_b), 0);
	expect_sites(m);
	remove_and_free(m);
	free(order);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(foreign_sites_are_left_alone),
		cmocka_unit_test(promotion_fails),
		cmocka_unit_test(promotion_cannot_be_undone),
		cmocka_unit_test(baked_sites),
		cmocka_unit_test(baked_key_known_elsewhere_first),
		cmocka_unit_test(key_is_going),
		cmocka_unit_test(sites_found_when_wanted),
		cmocka_unit_test(baked_sites_cannot_be_promoted),
		cmocka_unit_test(baked_sites_stay_unwritable),
		cmocka_unit_test(baked_site_has_a_breakpoint),
		cmocka_unit_test(module_with_a_key_missing),
		cmocka_unit_test(key_known_later),
		cmocka_unit_test(key_removed),
		cmocka_unit_test(module_without_sites),
		cmocka_unit_test(large_unsorted_module),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
