/* SPDX-License-Identifier: MIT */
/*
 * Veneers, one file of the port alone: what each is, one for a target and neighbourhood,
 * pools that fill up to their last place and not beyond, a module's own area, and the
 * reach of what was found last.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <shunt/module.h>
#include <shunt/port.h>

#include "control.h"
#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/base/registry.h"
#include "linux/text/area.h"
#include "linux/text/frames.h"
#include "linux/text/text.h"
#include "linux/text/veneer.h"

#define IN_A_POOL (SHUNT_POOL_SIZE / sizeof(struct shunt_veneer))

/* ------------------------------------------------------- what veneer.c asks for */

__thread const char *shunt_failed_call;
static struct shunt_loaded *modules;
static bool write_fails;
static bool is_unreadable; /* the program has made its text execute-only */
static unsigned pools, opened;

bool shunt_area_are_readable(uintptr_t addr, size_t len)
{
	(void)addr;
	(void)len;
	return !is_unreadable;
}

struct shunt_loaded *shunt_first_loaded(void)
{
	return is_control("area") ? NULL : modules;
}

/* Whether a jump reaches: everything, for the control. */
bool __real_shunt_insn_reach(uintptr_t next, uintptr_t target);
bool __wrap_shunt_insn_reach(uintptr_t next, uintptr_t target);
bool __wrap_shunt_insn_reach(uintptr_t next, uintptr_t target)
{
	return is_control("reach") || __real_shunt_insn_reach(next, target);
}

void shunt_frames_add(struct shunt_frames *frames, uintptr_t start, size_t size)
{
	(void)frames;
	(void)start;
	(void)size;
	pools++;
}

void shunt_text_begin(size_t n, enum shunt_way way, bool may_run)
{
	(void)n;
	(void)way;
	(void)may_run;
	opened++;
}

void shunt_text_end(void)
{
	opened--;
}

/* Before a site leads to new code, where that must be (SHUNT_NEW_CODE_SYNC). */
int shunt_port_core_sync(void);
int shunt_port_core_sync(void)
{
	return 0;
}

int shunt_port_no_memory(void)
{
	return -ENOMEM;
}

void *shunt_port_alloc(size_t size)
{
	return calloc(1, size);
}

void shunt_port_free(void *p, size_t size)
{
	(void)size;
	free(p);
}

/* Pools are never writable: as the library does it. */
int shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
	int ret = 0;

	assert_true(fd >= 0 && opened == 1);
	for (size_t i = 0; i < n && !write_fails && !is_control("written"); i++)
		if (pwrite(fd, writes[i].bytes, writes[i].len, (off_t)(uintptr_t)writes[i].addr) !=
		    writes[i].len)
			ret = -EIO;
	(void)close(fd);
	return write_fails && !is_control("errors") ? -EIO : ret;
}

/* ------------------------------------------------------------------ what is right */

/* Where shared objects are; and in the program, some 40 TiB away from it. */
#define PAGE 4096
static uintptr_t near_1, near_2;

static bool is_reached(uintptr_t from, uintptr_t to)
{
	intptr_t distance = (intptr_t)(to - (from + 6));

#ifdef __aarch64__
	return distance < 128 << 20 && distance > -(128 << 20);
#else
	return distance == (int32_t)distance;
#endif
}

#ifdef __aarch64__
/* bti c; ldr x16, target; br x16; what cannot be executed; the target. */
#define VENEER_CODE                                         \
	{                                                   \
		0xd503245f, 0x58000070, 0xd61f0200, 0, 0, 0 \
	}
typedef uint32_t veneer_code[6];

/* bti c; adrp x16, word; ldr x16, [x16, #:lo12:word]; br x16 */
static void make_area_veneer(uint8_t *veneer, void **word)
{
	const uint32_t code[] = {0xd503245f,
				 a64_adrp(A64_X16, (uintptr_t)veneer + 4, (uintptr_t)word),
				 a64_ldr(A64_X16, A64_X16, (uintptr_t)word & 0xfff), 0xd61f0200};

	memcpy(veneer, code, sizeof(code));
}
#else
/* jmp *2(%rip); ud2; the target. */
#define VENEER_CODE                                \
	{                                          \
		0xff, 0x25, 2, 0, 0, 0, 0x0f, 0x0b \
	}
typedef uint8_t veneer_code[16];

/* jmp *word(%rip) */
static void make_area_veneer(uint8_t *veneer, void **word)
{
	int32_t rel = (int32_t)((uint8_t *)word - (veneer + 6));

	memcpy(veneer, "\xff\x25", 2);
	memcpy(veneer + 2, &rel, 4);
}
#endif

static void expect_veneer(uintptr_t near, uintptr_t at, uintptr_t target)
{
	veneer_code code = VENEER_CODE;

	memcpy((char *)code + sizeof(code) - 8, &target, 8);
	assert_int_not_equal(at, 0);
	assert_true(is_reached(near, at));
	assert_memory_equal((const void *)at, code, sizeof(code));
	for (struct shunt_pool *pool = shunt_pools; pool; pool = pool->next)
		if (at - (uintptr_t)pool->veneers < SHUNT_POOL_SIZE)
			return;
	fail_msg("%#lx lies in no pool", (unsigned long)at);
}

static uintptr_t target(size_t i)
{
	return 0x7000000000 + 16 * i;
}

/* ------------------------------------------------------------------------ tests */

static void one_for_each_target(void **state)
{
	uintptr_t first[100];

	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < 100; i++) {
			uintptr_t at = shunt_port_veneer(near_1 + 8 * i, target(i));

			expect_veneer(near_1 + 8 * i, at, target(i));
			if (!round)
				first[i] = at;
			assert_int_equal(at, first[i]);
			for (size_t j = 0; j < i; j++)
				assert_int_not_equal(first[j], first[i]);
		}
	assert_int_equal(pools, 1);
}

/* To the last place of a pool, and then another; each target keeps its own. */
static void full_pools(void **state)
{
	const size_t n = 2 * IN_A_POOL + 10;
	uintptr_t *at = calloc(n, sizeof(*at));

	(void)state;
	assert_non_null(at);
	for (size_t i = 0; i < n; i++) {
		at[i] = shunt_port_veneer(near_1, target(i));
		expect_veneer(near_1, at[i], target(i));
	}
	for (struct shunt_pool *pool = shunt_pools; pool; pool = pool->next)
		assert_true(pool->n <= IN_A_POOL);
	assert_int_equal(pools, 3);
	for (size_t i = 0; i < n; i++)
		expect_veneer(near_1, at[i], target(i));
	for (size_t i = n; i-- > 0;)
		assert_int_equal(shunt_port_veneer(near_1, target(i)), at[i]);
	free(at);
}

/* Sites out of each other's reach have veneers of their own, asked for in turn. */
static void two_neighbourhoods(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++)
		for (size_t i = 0; i < 70; i++) {
			expect_veneer(near_1, shunt_port_veneer(near_1, target(i)), target(i));
			expect_veneer(near_2, shunt_port_veneer(near_2, target(i)), target(i));
		}
	assert_int_equal(pools, 4);
}

static void a_write_that_fails(void **state)
{
	(void)state;
	write_fails = true;
	assert_int_equal(shunt_port_veneer(near_2, target(5000)), 0);
	assert_int_equal(shunt_port_far_error(), -EIO);
	write_fails = false;
	expect_veneer(near_2, shunt_port_veneer(near_2, target(5000)), target(5000));
	assert_int_equal(opened, 0);
}

/* A module's area: as many targets as it has room for, then the pools; no byte of text written. */
static void area_of_a_module(void **state)
{
	enum { ROOM = 16 };
	uint8_t *area =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void **words = (void **)(area + PAGE);
	struct shunt_module module = {0};
	struct shunt_loaded loaded = {.module = &module,
				      .range = {(uintptr_t)area, (uintptr_t)area + 2 * PAGE}};
	uintptr_t near = (uintptr_t)area + PAGE - 64;
	unsigned in_area = 0;

	(void)state;
	assert_ptr_not_equal(area, MAP_FAILED);
	for (size_t i = 0; i < ROOM; i++)
		make_area_veneer(area + i * SHUNT_AREA_VENEER, &words[i]);
	module.veneers = area;
	module.veneers_end = area + ROOM * SHUNT_AREA_VENEER;
	modules = &loaded;
	for (unsigned round = 0; round < 2; round++)
		for (size_t i = 0; i < ROOM + 4; i++) {
			uintptr_t at = shunt_port_veneer(near, target(i));
			size_t nth = (at - (uintptr_t)area) / SHUNT_AREA_VENEER;

			if (i >= ROOM) {
				expect_veneer(near, at, target(i));
				continue;
			}
			assert_true(nth < ROOM);
			assert_ptr_equal(words[nth], (void *)target(i));
			in_area++;
		}
	assert_int_equal(in_area, 2 * ROOM);
	/* Where it cannot be read, what a veneer jumps through is not known. */
	is_unreadable = true;
	assert_false(shunt_port_veneer(near, target(0)) - (uintptr_t)area < 2 * PAGE);
	is_unreadable = false;
	assert_true(shunt_port_veneer(near, target(0)) - (uintptr_t)area < 2 * PAGE);
	modules = NULL;
	assert_null(words[ROOM]);
}

static int setup(void **state)
{
	void *p = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	near_1 = (uintptr_t)p;
	near_2 = (uintptr_t)one_for_each_target;
	return p == MAP_FAILED || is_reached(near_1, near_2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_for_each_target), cmocka_unit_test(full_pools),
		cmocka_unit_test(two_neighbourhoods),  cmocka_unit_test(a_write_that_fails),
		cmocka_unit_test(area_of_a_module),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
