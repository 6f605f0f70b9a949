/* SPDX-License-Identifier: MIT */
/*
 * Pokes for others over the fake port (text_arena.h): every instruction to every other of its
 * length, ten thousand sites, one, and whether a wrong outcome would be seen. What is refused:
 * test_text_poke_refused.c; what is forgotten and faults: test_text_poke_faults.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/site_table.h"
#include "core/text_site.h"

#include "fake_port.h"
#include "test_text_poke.h"
#include "text_arena.h"

/* ------------------------------------------------------------ all pairs of forms */

/* The @i-th form of all that there are; false behind the last one. */
static bool nth_form(unsigned i, uint8_t *addr, struct form *f)
{
	/* Each what, with two targets; the conditional ones with all sixteen conditions. */
	if (i >= 2 * NR_WHAT + 2 * 14)
		return false;
	*f = (struct form){
		.what = i / 2, .cc = 4, .target = (uintptr_t)text + 0x12345 * (i % 2 + 1)};
	if (i >= 2 * NR_WHAT) {
		i -= 2 * NR_WHAT;
		f->what = (i & 1) ? JCC : JCC8;
		f->cc = i / 2 + 2;
	}
	if (f->what == JMP8 || f->what == JCC8)
		f->target = (uintptr_t)addr + 2 + (uintptr_t)((i % 2) ? 100 : -100);
	return true;
}

static void every_pair_of_instructions(void **state)
{
	unsigned long pairs = 0, traps[2] = {0};
	uint8_t *at = take(1);

	(void)state;
	for (size_t len = 1; len <= 6; len++)
		for (unsigned i = 0;; i++) {
			struct form from, to;
			uint8_t unused[6];

			if (!nth_form(i, at, &from))
				break;
			if (!form_bytes(&from, len, (uintptr_t)at, unused))
				continue;
			for (unsigned j = 0; nth_form(j, at, &to); j++) {
				struct fake_site site = {at, (uint8_t)len};

				if (!form_bytes(&to, len, (uintptr_t)at, unused))
					continue;
				arena_new(1);
				add_spot(at, len, from, to);
				fake_watch(at, STRIDE, &site, 1);
				assert_int_equal(poke_all(), 0);
				expect_at_rest(true);
				assert_int_equal(fake.reports, 0);
				assert_int_equal(fake.begun_for, 1);
				pairs++;
				for (unsigned k = 0; k < 2; k++)
					traps[k] += arena.traps[k];
				fake_watch(NULL, 0, NULL, 0);
				arena_free();
			}
		}
	print_message("%lu pairs, %lu traps before, %lu after the commit\n", pairs, traps[0],
		      traps[1]);
	assert_true(pairs > 1500 && traps[0] > pairs && traps[1] >= pairs);
}

/* ----------------------------------------------------------------- many sites */

/*
 * The first test: at most half of the table of sites is used, as the memory that was asked for
 * shows. (A full one is searched for ever.)
 */
static void half_of_the_table_is_free(void **state)
{
	enum { MANY = 1000 };
	const uint8_t *at = take(MANY);
	size_t made = 0;
	bool fits = true;

	(void)state;
	fake_reset();
	assert_int_equal(shunt_port_lock(), 0);
	while (fits && made < MANY && shunt_text_site_make((uintptr_t)at + made * STRIDE)) {
		made++;
		fits = fake.alloc_bytes >=
		       made * (2 * sizeof(void *) + sizeof(struct shunt_text_site));
	}
	shunt_port_unlock();
	assert_int_equal(made, MANY);
	assert_true(fits);
}

static void ten_thousand_sites(void **state)
{
	enum { MANY = 10000 };
	uint8_t *at;
	size_t outstanding;

	(void)state;
	SKIP_IN_TSAN();
	at = take(MANY);
	arena_new(MANY);
	fake.quiet = true;
	add_many(at, MANY);
	assert_int_equal(poke_all(), 0);
	assert_int_equal(fake.syncs, 3);
	assert_int_equal(fake.begun_for, MANY);
	assert_true(fake.text_checks <= 2); /* of all sites together */
	expect_at_rest(true);
	assert_true(arena.traps[0] >= 2 * MANY && arena.traps[1] >= MANY);

	/* Their records are there for good: a second time needs no more of them. */
	outstanding = fake.outstanding;
	fake_restart();
	turn_round();
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	assert_int_equal(fake.allocs, 1);
	assert_int_equal(fake.outstanding, outstanding);

	/* Every second one is forgotten: not known, and the others are. */
	for (size_t i = 0; i < MANY; i += 1000)
		text_poke_forget(arena.spots[i].addr, 500 * STRIDE - 1);
	for (size_t i = 0; i < MANY; i++) {
		struct shunt_insn insn;
		bool known = shunt_site_find((uintptr_t)arena.spots[i].addr, &insn);

		assert_int_equal(known, i % 1000 >= 500);
	}
	/* And made known again. */
	fake_restart();
	turn_round();
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	assert_int_equal(fake.outstanding, outstanding);
	arena_free();
}

/* ------------------------------------------------------------------- one site */

/* With three arguments, and with four. */
static void both_macros(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	memcpy(at, nop5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), 0);
	assert_memory_equal(at, jmp5, 5);
	assert_int_equal(text_poke_bp(at, nop5, sizeof(nop5), NULL), 0);
	assert_memory_equal(at, nop5, 5);
	assert_int_equal(text_poke_bp(at, ret5, 5, jmp5), 0);
	assert_memory_equal(at, ret5, 5);
	assert_int_equal((text_poke_bp)(at, nop5, 5, NULL), 0);
	assert_memory_equal(at, nop5, 5);
	text_poke_forget(at, 1);
	arena_free();
}

/* Where clang has left room for a patch (-fpatchable-function-entry=5), and back. */
static void room_of_clang(void **state)
{
	static const uint8_t clang5[] = {0x0f, 0x1f, 0x44, 0x00, 0x08};
	static const uint8_t gcc5[] = {0x90, 0x90, 0x90, 0x90, 0x90};
	uint8_t *at = take(1);

	(void)state;
	arena_new(0);
	memcpy(at, clang5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), 0);
	assert_memory_equal(at, jmp5, 5);
	assert_int_equal(text_poke_bp(at, clang5, 5), 0);
	assert_memory_equal(at, clang5, 5);
	/* gcc's are five instructions: a thread may be between them. */
	memcpy(at, gcc5, 5);
	assert_int_equal(text_poke_bp(at, jmp5, 5), -SHUNT_EINVAL);
	assert_memory_equal(at, gcc5, 5);
	text_poke_forget(at, 1);
	arena_free();
}

/* What traps after the commit does what @emulate says. */
static void emulate_argument(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	arena_new(1);
	add_spot(at, 5, (struct form){.what = NOP}, (struct form){.what = RET});
	arena.spots[0].form[1] =
		(struct form){.what = JMP, .target = (uintptr_t)at + 5 + 0x04030201};
	arena.pokes[0].emulate = jmp5;
	assert_int_equal(poke_all(), 0);
	assert_true(arena.traps[0] && arena.traps[1]);
	expect_at_rest(true);
	assert_memory_equal(at, ret5, 5);
	/* The next poke starts from what the text is, not from what was emulated. */
	arena.pokes[0] = (struct text_poke){.addr = at, .insn = nop5, .len = 5, .old = ret5};
	arena.spots[0].form[0] = (struct form){.what = RET};
	arena.spots[0].form[1] = (struct form){.what = NOP};
	memcpy(arena.spots[0].bytes[1], nop5, 5);
	assert_int_equal(poke_all(), 0);
	expect_at_rest(true);
	arena_free();
}

/* ------------------------------------------------------------ negative controls */

static void wrong_outcomes_are_seen(void **state)
{
	uint8_t *at = take(10);
	size_t writes;

	(void)state;
	arena_new(10);
	add_many(at, 10);
	assert_null(wrong_at_rest(false));
	assert_non_null(wrong_at_rest(true));
	assert_int_equal(poke_all(), 0);
	assert_null(wrong_at_rest(true));
	writes = fake.writes;
	/* The effect of another target, and of another instruction. */
	*arena.spots[0].addr = SHUNT_INT3;
	check_traps(true); /* one that nobody has marked */
	assert_non_null(arena.wrong);
	arena.wrong = NULL;
	{
		struct shunt_insn insn;
		struct shunt_site *site =
			shunt_text_site_find((uintptr_t)arena.spots[0].addr, &insn);

		assert_non_null(site);
		site->poked = 1;
		check_traps(true);
		assert_null(arena.wrong);
		check_traps(false);
		assert_non_null(arena.wrong);
		arena.wrong = NULL;
		arena.spots[0].form[1].target++;
		check_traps(true);
		assert_non_null(arena.wrong);
		site->poked = 0;
	}
	arena_free();
	for (size_t k = 1; k <= writes; k++) {
		struct fake_site sites[10];

		arena_new(10);
		add_many(at, 10);
		for (size_t i = 0; i < 10; i++)
			sites[i] = (struct fake_site){arena.spots[i].addr,
						      (uint8_t)arena.spots[i].len};
		fake_watch(at, 10 * STRIDE, sites, 10);
		fake.drop_at = k;
		(void)!poke_all();
		/* Of a site of one byte a lost int3 is nothing to anyone. */
		if (k > 10)
			assert_non_null(wrong_at_rest(true));
		fake.violation = NULL;
		fake_watch(NULL, 0, NULL, 0);
		arena_free();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(half_of_the_table_is_free),
		cmocka_unit_test(every_pair_of_instructions),
		cmocka_unit_test(ten_thousand_sites),
		cmocka_unit_test(both_macros),
		cmocka_unit_test(room_of_clang),
		cmocka_unit_test(emulate_argument),
		cmocka_unit_test(bad_arguments),
		cmocka_unit_test(target_above_47_bits),
		cmocka_unit_test(undecodable_instructions),
		cmocka_unit_test(old_bytes_mismatch),
		cmocka_unit_test(overlapping_sites),
		cmocka_unit_test(overlaps_earlier_site),
		cmocka_unit_test(site_of_a_key),
		cmocka_unit_test(site_of_a_key_not_found_yet),
		cmocka_unit_test(site_across_a_key),
		cmocka_unit_test(poke_within_a_poke),
		cmocka_unit_test(forget),
		cmocka_unit_test(edges_of_what_is_forgotten),
		cmocka_unit_test(forgotten_with_its_int3),
		cmocka_unit_test(every_step_fails),
		cmocka_unit_test(no_memory),
		cmocka_unit_test(cannot_be_undone),
		cmocka_unit_test(handlers_beside_a_growing_table),
		cmocka_unit_test(wrong_outcomes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, fake_teardown);
}
