/* SPDX-License-Identifier: MIT */
/*
 * unit/text_poke: sites that are forgotten, each fault at each place, and handlers beside a growing
 * table.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <shunt/text_poke.h>

#include "core/error.h"
#include "core/site_table.h"

#include "fake_port.h"
#include "test_text_poke.h"
#include "text_arena.h"

static size_t with_flips; /* what flip_calls() is of the batch in which a step fails */

/* ------------------------------------------------------------------------ forget */

static bool is_known(const uint8_t *at)
{
	struct shunt_insn insn;

	return shunt_site_find((uintptr_t)at, &insn);
}

void forget(void **state)
{
	uint8_t *at = take(3);

	(void)state;
	arena_new(0);
	text_poke_forget(at, 3 * STRIDE);
	text_poke_forget(NULL, SIZE_MAX);
	memcpy(at + STRIDE, nop5, 5);
	assert_false(is_known(at + STRIDE));
	for (unsigned round = 0; round < 5; round++) {
		struct shunt_regs regs = {.ip = (uintptr_t)at + STRIDE + 1}, before = regs;

		assert_int_equal(text_poke_bp(at + STRIDE, (round & 1) ? nop5 : ret5, 5), 0);
		assert_true(is_known(at + STRIDE));
		text_poke_forget(at, STRIDE);
		text_poke_forget(at + STRIDE + 1, STRIDE);
		text_poke_forget(at + STRIDE, 0);
		assert_true(is_known(at + STRIDE));
		assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_LATE);
		regs = before;
		text_poke_forget(at, STRIDE + 1);
		assert_false(is_known(at + STRIDE));
		assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_FOREIGN);
		assert_memory_equal(&regs, &before, sizeof(regs));
	}
	/* Another instruction, of another length, may come to stand there. */
	at[STRIDE] = 0x90;
	assert_int_equal(text_poke_bp(at + STRIDE, ret5, 1), 0);
	assert_true(is_known(at + STRIDE));
	text_poke_forget(NULL, SIZE_MAX);
	assert_false(is_known(at + STRIDE));
	arena_free();
}

/* To the byte, whether it goes by addresses or by records. */
void edges_of_what_is_forgotten(void **state)
{
	static const size_t lens[] = {1, 5, 100, 1 << 24};
	uint8_t *at = take(2), *behind = at + STRIDE;

	(void)state;
	arena_new(0);
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++)
		for (unsigned round = 0; round < 3; round++) {
			memcpy(at, nop5, 5);
			memcpy(behind, nop5, 5);
			assert_int_equal(text_poke_bp(at, ret5, 5), 0);
			assert_int_equal(text_poke_bp(behind, ret5, 5), 0);
			/* The range ends before the site; in its first byte; or starts behind it.
			 */
			text_poke_forget(behind + (round == 1) - lens[i], lens[i]);
			assert_int_equal(is_known(behind), round != 1);
			assert_int_equal(is_known(at), lens[i] < STRIDE);
			text_poke_forget(behind + 1, lens[i]);
			assert_int_equal(is_known(behind), round != 1);
			text_poke_forget(NULL, SIZE_MAX);
		}
	arena_free();
}

/*
 * A site that was left on an int3 is forgotten, and other code comes to stand there: an
 * int3 in that is not ours, neither to a trap nor to the next poke.
 */
void forgotten_with_its_int3(void **state)
{
	uint8_t *at = take(1);

	(void)state;
	for (unsigned len = 1; len <= 5; len += 4)
		for (size_t k = 2; k <= 3; k++) {
			struct text_poke again = {at, nop5, 5, ret5, NULL};
			struct shunt_regs regs = {.ip = (uintptr_t)at + 1};

			arena_new(0);
			memcpy(at, nop5, 5);
			/* The int3 can be written, and not one byte more. */
			fake.write =
				(struct fake_fault){.at = 2, .onwards = true, .error = -SHUNT_EIO};
			assert_int_not_equal(text_poke_bp(at, "\xe9\x00\x01\x00\x00", 5), 0);
			fake.write = (struct fake_fault){0};
			assert_int_equal(*at, SHUNT_INT3);
			if (k == 2)
				text_poke_forget(at, len);
			else
				text_poke_forget(NULL, SIZE_MAX);
			memcpy(at, ret5, 5);
			*at = SHUNT_INT3; /* a debugger's */
			fake_restart();
			assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_FOREIGN);
			assert_int_equal(text_poke_bp_batch(&again, 1), -SHUNT_EBUSY);
			assert_int_equal(*at, SHUNT_INT3);
			*at = ret5[0];
			assert_int_equal(text_poke_bp_batch(&again, 1), 0);
			arena_free();
		}
}

/* ------------------------------------------------------------------------ faults */

static size_t fails_at(struct fake_fault *fault, int error, size_t n, bool known)
{
	size_t failures = 0;

	for (size_t k = 1;; k++) {
		uint8_t *at = take(n);
		int ret;

		arena_new(n);
		add_many(at, n);
		if (known) {
			for (unsigned i = 0; i < 2; i++) {
				assert_int_equal(poke_all(), 0);
				turn_round();
			}
			fake_restart();
		}
		*fault = (struct fake_fault){.at = k, .error = error};
		ret = poke_all();
		*fault = (struct fake_fault){0};
		if (ret) {
			failures++;
			assert_int_equal(ret, error);
			assert_int_equal(fake.reports, 1);
			assert_int_equal(fake.report.error, error);
			assert_non_null(fake.report.what);
			/* The traps on the way back are the old ones again: not checked here. */
			arena.wrong = NULL;
			expect_at_rest(false);
			fake_restart();
			assert_int_equal(poke_all(), 0);
		}
		expect_at_rest(true);
		with_flips = flip_calls();
		arena_free();
		if (!ret)
			return failures;
	}
}

void every_step_fails(void **state)
{
	(void)state;
	SKIP_IN_TSAN();
	for (size_t n = 1; n <= 21; n += 10) {
		assert_int_equal(fails_at(&fake.begin, -SHUNT_EPERM, n, false), 1);
		assert_int_equal(fails_at(&fake.sync, -SHUNT_EPERM, n, false), 3);
		assert_int_equal(fails_at(&fake.write_call, -SHUNT_EIO, n, false), 3 + with_flips);
		assert_true(fails_at(&fake.write, -SHUNT_EIO, n, true) >= 2 * n);
	}
}

/* For the batch, for the table when it grows, and for each block of records. */
void no_memory(void **state)
{
	size_t failures = 0;

	(void)state;
	SKIP_IN_TSAN();
	for (size_t n = 1; n < 2000; n = 3 * n + 1)
		failures += fails_at(&fake.alloc, -SHUNT_ENOMEM, n, false);
	print_message("%zu failures of memory\n", failures);
	assert_true(failures > 20);
	/* Sites that are known need none but for the batch. */
	assert_int_equal(fails_at(&fake.alloc, -SHUNT_ENOMEM, 30, true), 1);
}

/*
 * The way back fails as well: sites stay on an int3 that does old or new, as the
 * result says; the next poke mends them, whatever it is to.
 */
/* While sites are mended they do what they did, up to the commit. */
static bool left_new;

static void at_first_sync(void)
{
	if (fake.syncs == 1)
		check_traps(left_new);
}

void cannot_be_undone(void **state)
{
	size_t kept = 0, changed = 0;

	(void)state;
	SKIP_IN_TSAN();
	for (size_t k = 1; k <= 30; k++)
		for (unsigned back = 0; back < 2; back++) {
			uint8_t *at = take(10);
			int ret;

			arena_new(10);
			add_many(at, 10);
			fake.write =
				(struct fake_fault){.at = k, .onwards = true, .error = -SHUNT_EIO};
			ret = text_poke_bp_batch(arena.pokes, arena.n);
			fake.write = (struct fake_fault){0};
			if (!fake.injected) {
				arena_free();
				continue;
			}
			assert_int_equal(fake.report.error, -SHUNT_EIO);
			*(ret ? &kept : &changed) += 1;
			check_traps(!ret);
			assert_null(arena.wrong);
			for (size_t i = 0; i < arena.n; i++) {
				/* What stands there now is no instruction to compare with. */
				arena.pokes[i].old = NULL;
				assert_true(*arena.spots[i].addr == SHUNT_INT3 || has(i, !ret));
			}
			if (back)
				for (size_t i = 0; i < arena.n; i++)
					arena.pokes[i].insn = arena.spots[i].bytes[0];
			fake_restart();
			left_new = !ret;
			fake.on_sync = at_first_sync;
			assert_int_equal(text_poke_bp_batch(arena.pokes, arena.n), 0);
			expect_at_rest(!back);
			arena_free();
		}
	assert_true(kept && changed);
}

/* ---------------------------------------------- handlers beside a growing table */

static struct {
	_Atomic bool stop;
	_Atomic unsigned long traps, emulated, wrong;
	uint8_t *known;
} crowd;

static void *trap_all_the_time(void *arg)
{
	uintptr_t own_stack[4] = {0};
	uintptr_t addr = (uintptr_t)crowd.known;

	(void)arg;
	while (!crowd.stop) {
		struct shunt_regs regs = {.ip = addr + 1, .sp = (uintptr_t)&own_stack[2]};
		enum shunt_trap trap = shunt_trap(&regs);

		crowd.traps++;
		crowd.emulated += trap == SHUNT_TRAP_EMULATED;
		if (trap == SHUNT_TRAP_FOREIGN || (trap == SHUNT_TRAP_LATE && regs.ip != addr) ||
		    (trap == SHUNT_TRAP_EMULATED && regs.ip != addr + 5 &&
		     regs.ip != addr + 5 + 0x04030201))
			crowd.wrong++;
	}
	return NULL;
}

void handlers_beside_a_growing_table(void **state)
{
	enum { MORE = 12000 };
	uint8_t *at = take(MORE);
	pthread_t handler;
	unsigned long pokes = 0;

	(void)state;
	arena_new(0);
	fake.quiet = true;
	crowd.known = take(1);
	memcpy(crowd.known, nop5, 5);
	assert_int_equal(text_poke_bp(crowd.known, jmp5, 5), 0);
	assert_int_equal(pthread_create(&handler, NULL, trap_all_the_time, NULL), 0);
	while (pokes < MORE || (pokes < 5000000 && !crowd.emulated)) {
		if (pokes < MORE)
			assert_int_equal(text_poke_bp(at + pokes * STRIDE, ret5, 1), 0);
		assert_int_equal(text_poke_bp(crowd.known, (pokes++ & 1) ? jmp5 : nop5, 5), 0);
	}
	crowd.stop = true;
	pthread_join(handler, NULL);
	print_message("%lu pokes, %lu traps, %lu of them emulated\n", pokes, crowd.traps,
		      crowd.emulated);
	assert_int_equal(crowd.wrong, 0);
	assert_true(crowd.emulated > 0);
	for (size_t i = 0; i < MORE; i++)
		assert_true(is_known(at + i * STRIDE));
	text_poke_forget(text, sizeof(text));
	arena_free();
}
