/* SPDX-License-Identifier: MIT */
/* unit/poke: traps at every step of a poke, behind it, and in races of handler and writer. */
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "core/error.h"

#include "arena.h"
#include "poke_hooked.h"
#include "test_poke.h"

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
void traps_at_every_step(void **state)
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

void foreign_addresses(void **state)
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

void foreign_int3_at_a_site(void **state)
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
void nothing_to_emulate(void **state)
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
void handler_after_the_writer_has_left_efd608fa7403(void **state)
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
void poke_ends_between_byte_and_mark(void **state)
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
void poke_ends_before_the_byte(void **state)
{
	struct shunt_regs regs;

	(void)state;
	arena_new(1, 0);
	assert_int_equal(run_race(arena.spots[0].addr, finish_poke, &regs), SHUNT_TRAP_LATE);
	assert_int_equal(regs.ip, (uintptr_t)arena.spots[0].addr);
	arena_free();
}

/* And then a debugger sets its breakpoint: the second look finds that one. */
void foreign_int3_after_the_poke(void **state)
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
void next_poke_after_the_poke(void **state)
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

void handlers_beside_a_writer(void **state)
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
