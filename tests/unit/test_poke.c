/* SPDX-License-Identifier: MIT */
/*
 * The poke protocol over the fake port: order, verification, sorting, every fault
 * at every step, and the trap path in the middle of all that (arena.h).
 */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "poke_hooked.h"

static unsigned long injected;

/* ----------------------------------------------------------- what goes through */

static size_t changed_tail_bytes(void)
{
	size_t n = 0;

	for (size_t i = 0; i < arena.n; i++)
		for (unsigned b = 1; b < arena.spots[i].len; b++)
			n += arena.spots[i].bytes[0][b] != arena.spots[i].bytes[1][b];
	return n;
}

/* The writes up to the next sync: ascending, all first bytes or all of tails. */
static size_t expect_phase(size_t e, bool first, size_t *writes)
{
	const uint8_t *last = NULL;

	for (*writes = 0; fake.events[e].type == FAKE_WRITE; e++, ++*writes) {
		const struct shunt_write *w = &fake.events[e].write;
		size_t i = (size_t)(w->addr - arena.text) / STRIDE;
		bool is_first = w->addr == arena.spots[i].addr;

		assert_true(w->addr > last);
		last = w->addr;
		assert_int_equal(is_first, first);
		if (first)
			assert_int_equal(w->len, 1);
	}
	assert_int_equal(fake.events[e].type, FAKE_SYNC);
	return e + 1;
}

/* int3, sync, tails, sync, first bytes, sync; each byte that changes once. */
static void expect_protocol(bool tails)
{
	size_t e = 0, writes;

	assert_int_equal(fake.events[e++].type, FAKE_BEGIN);
	for (size_t i = 0; i < arena.n; i++)
		assert_int_equal(fake.events[e + i].write.bytes[0], SHUNT_INT3);
	e = expect_phase(e, true, &writes);
	assert_int_equal(writes, arena.n);
	if (tails)
		e = expect_phase(e, false, &writes);
	e = expect_phase(e, true, &writes);
	assert_int_equal(writes, arena.n);
	assert_int_equal(e, fake.nr_events);
	assert_int_equal(fake.begins, 1);
	assert_int_equal(fake.begun_for, arena.n);
	assert_int_equal(fake.syncs, tails ? 3 : 2);
	assert_int_equal(fake.idle, 0);
	assert_int_equal(fake.bytes, 2 * arena.n + changed_tail_bytes());
}

static void order_of_steps(void **state)
{
	struct shunt_report report;

	(void)state;
	for (size_t kind = 0; kind <= KINDS; kind++) {
		arena_new(17, kind < KINDS ? kind : MIXED);
		for (unsigned to = 1; to < 3; to++) {
			fake_restart();
			assert_int_equal(poke(to & 1, &report), 0);
			assert_int_equal(report.error, 0);
			assert_int_equal(arena.state, to & 1);
			expect_protocol(kind < SAME_TAILS || kind == KINDS);
			expect_whole();
		}
		assert_int_equal(arena.commits, 2);
		assert_int_equal(arena.reverts, 0);
		arena_free();
	}
}

/* The flips are new; what is none of them traps, and has its new tail. */
static void check_others(bool state)
{
	for (size_t i = 0; i < arena.n; i++) {
		const struct spot *spot = &arena.spots[i];
		bool is_flip = !memcmp(spot->bytes[0] + 1, spot->bytes[1] + 1, spot->len - 1);

		if (is_flip ? !has(i, state)
			    : spot->addr[0] != SHUNT_INT3 ||
				      memcmp(spot->addr + 1, spot->bytes[state] + 1,
					     spot->len - 1) != 0)
			wrong("the state turns too early or too late");
	}
}

/* Of flips and site @other, which is none: only that has an int3, and a tail that is written. */
static void expect_flips_last(size_t other)
{
	size_t syncs = 0, flips = 0;

	assert_int_equal(fake.syncs, 3);
	for (size_t e = 0; e < fake.nr_events; e++) {
		const struct shunt_write *w = &fake.events[e].write;

		syncs += fake.events[e].type == FAKE_SYNC;
		if (fake.events[e].type != FAKE_WRITE ||
		    (size_t)(w->addr - arena.spots[other].addr) < 5)
			continue;
		assert_int_equal(syncs, 2);
		assert_int_equal(w->len, 1);
		assert_int_not_equal(w->bytes[0], SHUNT_INT3);
		flips++;
	}
	assert_int_equal(flips, arena.n - 1);
}

/*
 * One tail in many is enough to need the middle sync. Flips that are with it in a batch have no
 * int3: their bytes go with the first bytes.
 */
static void middle_sync_only_for_tails(void **state)
{
	struct shunt_report report;

	(void)state;
	arena_new(9, SAME_TAILS);
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(fake.syncs, 2);
	arena_free();
	for (size_t i = 0; i < 9; i++) {
		arena_new(9, SAME_TAILS);
		make_spot(i, 0);
		arena.check_turn = check_others;
		assert_int_equal(poke(true, &report), 0);
		expect_flips_last(i);
		expect_whole();
		arena_free();
	}
}

/* Linux 2aebf5ee43bf: an unsorted batch, and one that is larger than the queue. */
static void unsorted_and_overfull_batches_2aebf5ee43bf(void **state)
{
	static const size_t sizes[] = {0, 1, 2, 255, 256, 257, 512, 1000};
	struct shunt_report report;

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
		for (enum order order = ASCENDING; order <= SHUFFLED; order++) {
			arena_new(sizes[s], MIXED);
			assert_int_equal(poke_with(new_pokes(true, order), true, &report), 0);
			assert_int_equal(arena.commits, 1);
			assert_true(arena.state);
			if (arena.n)
				expect_protocol(arena.n > 0);
			else
				assert_int_equal(fake.nr_events, 0);
			expect_whole();
			arena_free();
		}
}

static void a_hundred_thousand_sites(void **state)
{
	struct shunt_report report;

	(void)state;
	SKIP_IN_TSAN();
	for (enum order order = ASCENDING; order <= SHUFFLED; order++) {
		arena_new(100000, MIXED);
		fake.quiet = true;
		assert_int_equal(poke_with(new_pokes(true, order), true, &report), 0);
		assert_int_equal(fake.syncs, 3);
		assert_int_equal(fake.bytes, 2 * arena.n + changed_tail_bytes());
		expect_whole();
		arena_free();
	}
}

static void counters(void **state)
{
	struct shunt_report report;
	uint64_t pokes, writes, bytes, syncs;

	(void)state;
	arena_new(300, MIXED);
	pokes = shunt_poke_stats.pokes;
	writes = shunt_poke_stats.writes;
	bytes = shunt_poke_stats.bytes;
	syncs = shunt_poke_stats.syncs;
	assert_int_equal(poke(true, &report), 0);
	assert_int_equal(shunt_poke_stats.pokes - pokes, 1);
	assert_int_equal(shunt_poke_stats.writes - writes, fake.writes);
	assert_int_equal(shunt_poke_stats.bytes - bytes, fake.bytes);
	assert_int_equal(shunt_poke_stats.syncs - syncs, fake.syncs);
	arena_free();
}

/* --------------------------------------------------------- what is turned down */

/* Refused before anything happened. */
static void expect_untouched(const uint8_t *before)
{
	assert_int_equal(fake.nr_events, 0);
	assert_memory_equal(arena.text, before, arena.size);
	assert_false(arena.state);
	assert_int_equal(arena.commits, 0);
	for (size_t i = 0; i < arena.n; i++)
		assert_false(is_poked(i));
}

static void overlapping_sites(void **state)
{
	struct shunt_report report;

	(void)state;
	/* From the same address to the first that is free: only that one will do. */
	for (size_t distance = 0; distance <= 6; distance++) {
		struct shunt_poke *pokes;
		uint8_t before[64];
		int ret;

		arena_new(4, 2);
		pokes = new_pokes(true, ASCENDING);
		pokes[2].addr = pokes[1].addr + distance;
		if (distance == 6) {
			memcpy(pokes[2].addr, pokes[2].old, 6);
			pokes[3].addr = pokes[2].addr + 6;
			memcpy(pokes[3].addr, pokes[3].old, 6);
			fake_watch(NULL, 0, NULL, 0);
			ret = poke_with(pokes, true, &report);
			assert_int_equal(ret, 0);
			arena_free();
			continue;
		}
		memcpy(before, arena.text, arena.size);
		ret = poke_with(pokes, true, &report);
		assert_int_equal(ret, -SHUNT_EINVAL);
		assert_int_equal(report.error, -SHUNT_EINVAL);
		assert_string_equal(report.what, "two sites overlap");
		assert_non_null(report.site);
		expect_untouched(before);
		arena_free();
	}
}

static void foreign_bytes(void **state)
{
	struct shunt_report report;
	uint8_t before[128];

	(void)state;
	arena_new(9, MIXED);
	for (size_t i = 0; i < arena.n; i++)
		for (unsigned b = 0; b < arena.spots[i].len; b++)
			for (unsigned flip = 1; flip < 256; flip <<= 1) {
				uint8_t *at = arena.spots[i].addr + b;
				const struct spot *spot = &arena.spots[i];

				*at ^= (uint8_t)flip;
				memcpy(before, arena.text, arena.size);
				assert_int_equal(poke(true, &report), -SHUNT_EBUSY);
				assert_int_equal(report.error, -SHUNT_EBUSY);
				assert_string_equal(report.what, "foreign bytes stand at the site");
				assert_ptr_equal(report.site, spot->addr);
				assert_int_equal(report.nbytes, spot->len);
				assert_memory_equal(report.found, spot->addr, spot->len);
				assert_memory_equal(report.expected, spot->bytes[0], spot->len);
				expect_untouched(before);
				*at ^= (uint8_t)flip;
			}
	assert_int_equal(poke(true, &report), 0);
	arena_free();
}

/* Somebody's breakpoint is nobody's leftover. */
static void foreign_int3_is_not_overwritten(void **state)
{
	struct shunt_report report;
	uint8_t before[64];

	(void)state;
	arena_new(3, MIXED);
	arena.spots[1].addr[0] = SHUNT_INT3;
	memcpy(before, arena.text, arena.size);
	assert_int_equal(poke(true, &report), -SHUNT_EBUSY);
	assert_int_equal(report.found[0], SHUNT_INT3);
	expect_untouched(before);
	arena_free();
}

static void not_ready_to_poke(void **state)
{
	struct shunt_report report;
	uint8_t before[64];

	(void)state;
	arena_new(3, MIXED);
	fake.begin = (struct fake_fault){.at = 1, .error = -SHUNT_EPERM};
	memcpy(before, arena.text, arena.size);
	assert_int_equal(poke(true, &report), -SHUNT_EPERM);
	assert_string_equal(report.what, "make ready to poke");
	assert_null(report.site);
	fake.nr_events = 0;
	expect_untouched(before);
	fake.begin.at = 0;
	assert_int_equal(poke(true, &report), 0);
	expect_whole();
	arena_free();
}

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

static void every_step_fails_once(void **state)
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

static void every_step_fails_for_good(void **state)
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
static void any_two_steps_fail(void **state)
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
static void mending_fails(void **state)
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
static void one_byte_cannot_be_written(void **state)
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

/* -------------------------------------------------------------- the trap path */

static size_t hook_runs;

static void all_traps_are_right(void)
{
	const char *why = wrong_effects();

	hook_runs++;
	if (why)
		wrong(why);
}

/* Whatever step the poke is in, a trap has the effect of old or new, as committed. */
static void traps_at_every_step(void **state)
{
	static const size_t sizes[] = {1, 8, 300};
	struct shunt_report report;

	(void)state;
	for (size_t s = 0; s < ARRAY_SIZE(sizes); s++) {
		arena_new(sizes[s], MIXED);
		hook_runs = 0;
		fake.on_write = fake.on_sync = all_traps_are_right;
		assert_int_equal(poke(true, &report), 0);
		assert_true(hook_runs >= 5);
		expect_whole();
		fake.sync = (struct fake_fault){.at = fake.syncs + 3, .error = -SHUNT_EIO};
		assert_int_equal(poke(false, &report), -SHUNT_EIO);
		expect_whole();
		arena_free();
	}
}

static void expect_foreign(uintptr_t ip)
{
	const struct shunt_regs before = {.ip = ip, .sp = 2, .flags = 3, .ax = 4};
	struct shunt_regs regs = before;

	checks++;
	assert_int_equal(shunt_trap(&regs), SHUNT_TRAP_FOREIGN);
	assert_memory_equal(&regs, &before, sizeof(regs));
}

static void foreign_addresses(void **state)
{
	(void)state;
	arena_new(9, MIXED);
	memset(arena.text, SHUNT_INT3, arena.size - 8);
	expect_foreign(0);
	expect_foreign(1);
	expect_foreign(UINTPTR_MAX);
	expect_foreign((uintptr_t)arena.text + arena.size);
	expect_foreign((uintptr_t)arena.text + ((uintptr_t)1 << 32) + 1);
	expect_foreign((uintptr_t)arena.text - ((uintptr_t)1 << 32) + 1);
	for (size_t i = 0; i < arena.n; i++)
		for (unsigned b = 0; b < STRIDE - 1; b++)
			if (b)
				expect_foreign((uintptr_t)arena.spots[i].addr + b + 1);
	arena_free();
}

static void foreign_int3_at_a_site(void **state)
{
	struct shunt_report report;

	(void)state;
	arena_new(3, MIXED);
	for (unsigned to = 1; to < 4; to++) {
		for (size_t i = 0; i < arena.n; i++) {
			uint8_t byte = arena.spots[i].addr[0];

			arena.spots[i].addr[0] = SHUNT_INT3;
			expect_foreign((uintptr_t)arena.spots[i].addr + 1);
			arena.spots[i].addr[0] = byte;
		}
		assert_int_equal(poke(to & 1, &report), 0);
	}
	arena_free();
}

/* A mark is not enough: what the site is to do must have an emulation. */
static void nothing_to_emulate(void **state)
{
	(void)state;
	arena_new(1, 0);
	arena.spots[0].addr[0] = SHUNT_INT3;
	arena.sites[0].poked = 1;
	arena.spots[0].insn[0].op = SHUNT_OP_INT3;
	expect_foreign((uintptr_t)arena.spots[0].addr + 1);
	arena.spots[0].insn[0].op = SHUNT_OP_NONE;
	expect_foreign((uintptr_t)arena.spots[0].addr + 1);
	arena_free();
}

/*
 * Linux efd608fa7403: a handler used a descriptor that was on the stack of a
 * writer who had returned. Here all that the writer owned is destroyed (poke_with)
 * when the handler runs: after a poke, and at int3 that are left for good.
 */
static void handler_after_the_writer_has_left_efd608fa7403(void **state)
{
	struct shunt_report report;
	size_t left;

	(void)state;
	arena_new(300, MIXED);
	assert_int_equal(poke(true, &report), 0);
	assert_null(wrong_effects());
	arena_free();

	arena_new(300, MIXED);
	fake.write_call = (struct fake_fault){.at = 2, .onwards = true, .error = -SHUNT_EIO};
	assert_int_equal(poke(true, &report), -SHUNT_EIO);
	assert_null(not_whole(true, &left));
	assert_int_equal(left, 256); /* the first vector */
	arena_free();
}

/* ----------------------------------------------- races of handler and writer */

static struct {
	pthread_t writer;
	sem_t standing, go_on;
	uint8_t *site;
	const volatile void *stop_at; /* the load to stop the handler before */
	void (*meanwhile)(void);      /* what happens then, once */
	int result;
} race;

/* In the writer's first sync: all int3 stand. Let the handler in and wait. */
static void pause_writer(void)
{
	if (fake.syncs != 1)
		return;
	sem_post(&race.standing);
	sem_wait(&race.go_on);
}

static void *write_new(void *arg)
{
	struct shunt_report report;

	(void)arg;
	race.result = poke(true, &report);
	return NULL;
}

static void finish_poke(void)
{
	sem_post(&race.go_on);
	pthread_join(race.writer, NULL);
}

static void finish_poke_and_break(void)
{
	finish_poke();
	race.site[0] = SHUNT_INT3; /* a debugger's */
}

static void finish_poke_and_leave_the_next_one_standing(void)
{
	struct shunt_report report;

	finish_poke();
	fake.on_sync = NULL;
	fake_restart();
	fake.sync = (struct fake_fault){.at = 2, .onwards = true, .error = -SHUNT_EIO};
	assert_int_equal(poke(false, &report), -SHUNT_EIO);
}

static void stop_handler(const volatile void *object)
{
	void (*meanwhile)(void) = race.meanwhile;

	if (object != race.stop_at || !meanwhile)
		return;
	race.meanwhile = NULL;
	poke_before_load = NULL;
	meanwhile();
}

/* A handler that has trapped at the site, while @meanwhile happens in its middle. */
static enum shunt_trap run_race(const volatile void *stop_at, void (*meanwhile)(void),
				struct shunt_regs *regs)
{
	enum shunt_trap trap;

	race.stop_at = stop_at;
	race.site = arena.spots[0].addr;
	race.meanwhile = meanwhile;
	assert_int_equal(sem_init(&race.standing, 0, 0), 0);
	assert_int_equal(sem_init(&race.go_on, 0, 0), 0);
	fake.on_sync = pause_writer;
	assert_int_equal(pthread_create(&race.writer, NULL, write_new, NULL), 0);
	sem_wait(&race.standing);
	assert_int_equal(race.site[0], SHUNT_INT3);
	fresh_stack();
	*regs = (struct shunt_regs){.ip = (uintptr_t)race.site + 1,
				    .sp = (uintptr_t)stack + STACK / 2};
	poke_before_load = stop_handler;
	trap = shunt_trap(regs);
	poke_before_load = NULL;
	assert_null(race.meanwhile); /* the handler did get there */
	sem_destroy(&race.standing);
	sem_destroy(&race.go_on);
	assert_int_equal(race.result, 0);
	return trap;
}

/* The int3 is read, then the poke ends, then the mark is read: it is gone. */
static void poke_ends_between_byte_and_mark(void **state)
{
	struct shunt_regs regs;

	(void)state;
	arena_new(1, 0);
	assert_int_equal(run_race(&arena.sites[0].poked, finish_poke, &regs), SHUNT_TRAP_LATE);
	assert_int_equal(regs.ip, (uintptr_t)arena.spots[0].addr);
	expect_whole();
	arena_free();
}

/* The same, before the byte is read. */
static void poke_ends_before_the_byte(void **state)
{
	struct shunt_regs regs;

	(void)state;
	arena_new(1, 0);
	assert_int_equal(run_race(arena.spots[0].addr, finish_poke, &regs), SHUNT_TRAP_LATE);
	assert_int_equal(regs.ip, (uintptr_t)arena.spots[0].addr);
	arena_free();
}

/* And then a debugger sets its breakpoint: the second look finds that one. */
static void foreign_int3_after_the_poke(void **state)
{
	struct shunt_regs regs, before;

	(void)state;
	arena_new(1, 0);
	before = (struct shunt_regs){.ip = (uintptr_t)arena.spots[0].addr + 1,
				     .sp = (uintptr_t)stack + STACK / 2};
	assert_int_equal(run_race(&arena.sites[0].poked, finish_poke_and_break, &regs),
			 SHUNT_TRAP_FOREIGN);
	assert_memory_equal(&regs, &before, sizeof(regs));
	arena_free();
}

/* And then the next poke has begun: it is ours again. */
static void next_poke_after_the_poke(void **state)
{
	struct shunt_regs regs;

	(void)state;
	arena_new(1, 0);
	assert_int_equal(
		run_race(&arena.sites[0].poked, finish_poke_and_leave_the_next_one_standing, &regs),
		SHUNT_TRAP_EMULATED);
	assert_true(regs.ip == arena.spots[0].insn[0].target ||
		    regs.ip == arena.spots[0].insn[1].target);
	assert_int_equal(regs.sp, (uintptr_t)stack + STACK / 2 - 8);
	arena_free();
}

static struct {
	_Atomic bool stop;
	_Atomic unsigned long traps, emulated, late;
	_Atomic(const char *) why;
} crowd;

/* Traps at any site at any time: late or emulated, never foreign, never a third thing. */
static void *trap_all_the_time(void *arg)
{
	uint8_t own_stack[64];

	(void)arg;
	for (size_t i = 0; !crowd.stop; i = (i + 1) % arena.n) {
		const struct spot *spot = &arena.spots[i];
		struct shunt_regs regs = {.ip = (uintptr_t)spot->addr + 1,
					  .sp = (uintptr_t)own_stack + 32};

		crowd.traps++;
		switch (shunt_trap(&regs)) {
		case SHUNT_TRAP_FOREIGN:
			crowd.why = "a trap of ours is called foreign";
			break;
		case SHUNT_TRAP_LATE:
			crowd.late++;
			if (regs.ip != (uintptr_t)spot->addr)
				crowd.why = "a late trap does not go back";
			break;
		case SHUNT_TRAP_EMULATED:
			crowd.emulated++;
			if (regs.ip != spot->insn[0].target && regs.ip != spot->insn[1].target)
				crowd.why = "a call of neither old nor new";
			break;
		}
	}
	return NULL;
}

static void handlers_beside_a_writer(void **state)
{
	struct shunt_report report;
	pthread_t handler;
	unsigned long pokes = 0;

	(void)state;
	arena_new(4, 0);
	crowd.stop = false;
	crowd.why = NULL;
	fake.quiet = true;
	assert_int_equal(pthread_create(&handler, NULL, trap_all_the_time, NULL), 0);
	/* On one CPU the two take turns by the second: until both have happened. */
	while (pokes < 100000 || (pokes < 10000000 && (!crowd.emulated || !crowd.late)))
		assert_int_equal(poke(++pokes & 1, &report), 0);
	crowd.stop = true;
	pthread_join(handler, NULL);
	print_message("%lu pokes, %lu traps: %lu emulated, %lu late\n", pokes, crowd.traps,
		      crowd.emulated, crowd.late);
	if (crowd.why)
		fail_msg("%s", crowd.why);
	assert_true(crowd.late && crowd.emulated);
	assert_null(fake.violation);
	arena_free();
}

/* ---------------------------------------------------------- negative controls */

static bool something_is_seen(bool *text)
{
	size_t left;

	*text = not_whole(false, &left);
	return *text || arena.wrong || fake.violation;
}

/* A port that loses a byte: each one is noticed, whichever it is. */
static void lost_bytes_are_seen(void **state)
{
	struct shunt_report report;
	size_t writes, in_text = 0;
	bool text;

	(void)state;
	arena_new(8, MIXED);
	assert_int_equal(poke(true, &report), 0);
	assert_false(something_is_seen(&text));
	writes = fake.writes;
	arena_free();
	for (size_t k = 1; k <= writes; k++) {
		arena_new(8, MIXED);
		fake.drop_at = k;
		(void)poke(true, &report);
		assert_true(something_is_seen(&text));
		in_text += text;
		arena_free();
	}
	/* All tails and all last first bytes; a lost int3 shows at the commit. */
	assert_int_equal(in_text, writes - 8);
}

static void put_byte(uint8_t *at, uint8_t byte)
{
	const struct shunt_write w = {.addr = at, .len = 1, .bytes = {byte}};

	assert_int_equal(shunt_port_text_write(&w, 1), 0);
}

static void expect_violation(const char *what)
{
	assert_string_equal(fake.violation ? fake.violation : "nothing", what);
	fake.violation = NULL;
}

/* Breaches of the protocol, step by step: the watch sees each. */
static void breaches_are_seen(void **state)
{
	uint8_t *site;

	(void)state;
	arena_new(2, 0);
	site = arena.spots[0].addr;
	put_byte(site, SHUNT_INT3);
	expect_violation("text_write without the update lock");
	assert_int_equal(shunt_port_lock(), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("text_write before poke_begin");
	assert_int_equal(shunt_port_poke_begin(1, false, 0), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("int3 written before traps were taken");
	assert_int_equal(shunt_port_install_handler(), 0);
	put_byte(site, SHUNT_INT3);
	expect_violation("nothing");
	put_byte(site + 1, 0);
	expect_violation("tail written before the int3 was synced");
	assert_int_equal(shunt_port_core_sync(), 0);
	put_byte(site + 1, 0);
	expect_violation("nothing");
	put_byte(site, 0xe8);
	expect_violation("first byte written before the tail was synced");
	assert_int_equal(shunt_port_core_sync(), 0);
	put_byte(site, 0xe8);
	expect_violation("nothing");
	put_byte(site + 1, 0);
	expect_violation("tail written without an int3 before it");
	put_byte(site + 5, 0);
	expect_violation("write outside of the sites");
	shunt_port_unlock();
	arena_free();
}

/* The wrong state, a mark, an int3 without one: the checkers see each. */
static void wrong_outcomes_are_seen(void **state)
{
	struct shunt_report report;
	size_t left;

	(void)state;
	arena_new(3, MIXED);
	assert_null(not_whole(false, &left));
	arena.sites[1].poked = 1;
	assert_non_null(not_whole(false, &left));
	arena.sites[1].poked = 0;
	arena.spots[1].addr[0] = SHUNT_INT3;
	assert_non_null(not_whole(false, &left));
	assert_non_null(not_whole(true, &left));
	arena.sites[1].poked = 1;
	assert_non_null(not_whole(false, &left));
	assert_null(not_whole(true, &left));
	/* The trap has the effect of the state; a checker of the other one objects. */
	arena.spots[1].insn[0].len++;
	assert_null(wrong_effect(1, 0));
	arena.spots[1].addr[0] = arena.spots[1].bytes[0][0];
	arena.sites[1].poked = 0;
	arena.state = true;
	assert_non_null(not_whole(true, &left));
	arena.state = false;
	assert_int_equal(poke(true, &report), 0);
	arena_free();
}

static int teardown(void **state)
{
	(void)state;
	print_message("%lu traps checked, %lu faults injected\n", checks, injected);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order_of_steps),
		cmocka_unit_test(middle_sync_only_for_tails),
		cmocka_unit_test(unsorted_and_overfull_batches_2aebf5ee43bf),
		cmocka_unit_test(a_hundred_thousand_sites),
		cmocka_unit_test(counters),
		cmocka_unit_test(overlapping_sites),
		cmocka_unit_test(foreign_bytes),
		cmocka_unit_test(foreign_int3_is_not_overwritten),
		cmocka_unit_test(not_ready_to_poke),
		cmocka_unit_test(every_step_fails_once),
		cmocka_unit_test(every_step_fails_for_good),
		cmocka_unit_test(any_two_steps_fail),
		cmocka_unit_test(mending_fails),
		cmocka_unit_test(one_byte_cannot_be_written),
		cmocka_unit_test(traps_at_every_step),
		cmocka_unit_test(foreign_addresses),
		cmocka_unit_test(foreign_int3_at_a_site),
		cmocka_unit_test(nothing_to_emulate),
		cmocka_unit_test(handler_after_the_writer_has_left_efd608fa7403),
		cmocka_unit_test(poke_ends_between_byte_and_mark),
		cmocka_unit_test(poke_ends_before_the_byte),
		cmocka_unit_test(foreign_int3_after_the_poke),
		cmocka_unit_test(next_poke_after_the_poke),
		cmocka_unit_test(handlers_beside_a_writer),
		cmocka_unit_test(lost_bytes_are_seen),
		cmocka_unit_test(breaches_are_seen),
		cmocka_unit_test(wrong_outcomes_are_seen),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
