/* SPDX-License-Identifier: MIT */
/*
 * What is used again of the memory of modules that have gone, one file of the port alone: arrays
 * of sites, which a late trap handler may still be reading, and mods. Never one that is too
 * small, and nothing of what the last module had in it. Controls (SHUNT_CONTROL, by ld --wrap):
 * an array is never had again, not wiped, taken for as big as it is asked for, taken for smaller
 * than it is; the size of mods is not kept.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "control.h"
#include "linux/base/base.h"
#include "linux/module/arrays.h"

__thread const char *shunt_failed_call;

/* ----------------------------------------------------------------- the controls */

struct shunt_site *__real_shunt_sites_alloc(size_t n, size_t *room);
struct shunt_site *__wrap_shunt_sites_alloc(size_t n, size_t *room);
void __real_shunt_sites_free(struct shunt_site *sites, size_t room);
void __wrap_shunt_sites_free(struct shunt_site *sites, size_t room);
void __real_shunt_mods_retire(struct shunt_mod *mods, size_t max);
void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max);
void *__real_memset(void *to, int byte, size_t size);
void *__wrap_memset(void *to, int byte, size_t size);

struct shunt_site *__wrap_shunt_sites_alloc(size_t n, size_t *room)
{
	struct shunt_site *sites = __real_shunt_sites_alloc(is_control("room") ? 1 : n, room);

	if (is_control("room"))
		*room = n;
	return sites;
}

void __wrap_shunt_sites_free(struct shunt_site *sites, size_t room)
{
	if (!is_control("again"))
		__real_shunt_sites_free(sites, is_control("large") ? 100 : room);
}

void __wrap_shunt_mods_retire(struct shunt_mod *mods, size_t max)
{
	__real_shunt_mods_retire(mods, is_control("mods") ? 1024 : max);
}

void *__wrap_memset(void *to, int byte, size_t size)
{
	return is_control("wiped") && !byte ? to : __real_memset(to, byte, size);
}

/* -------------------------------------------------------------------- the tests */

static bool is_zero(const void *bytes, size_t size)
{
	const uint8_t *b = bytes;

	while (size && !b[size - 1])
		size--;
	return !size;
}

static void fill(struct shunt_site *sites, size_t room)
{
	memset(sites, 0xa5, room * sizeof(*sites));
}

/* An array whose room is what it says: all of it can be written. */
static struct shunt_site *take(size_t n, size_t *room)
{
	struct shunt_site *sites = shunt_sites_alloc(n, room);

	assert_non_null(sites);
	assert_true(*room >= n);
	assert_true(is_zero(sites, *room * sizeof(*sites)));
	fill(sites, *room);
	return sites;
}

static void sites_are_used_again(void **state)
{
	size_t room, again;
	struct shunt_site *sites = take(100, &room);

	(void)state;
	shunt_sites_free(sites, room);
	assert_ptr_equal(take(100, &again), sites);
	assert_int_equal(again, room);
	shunt_sites_free(sites, again);
}

static void a_bigger_module(void **state)
{
	size_t small_room, big_room, again;
	struct shunt_site *small = take(10, &small_room), *big;

	(void)state;
	shunt_sites_free(small, small_room);
	big = take(small_room + 1, &big_room);
	assert_ptr_not_equal(big, small);
	/* And with both to choose from, in either order. */
	shunt_sites_free(big, big_room);
	assert_ptr_equal(take(10, &again), small);
	shunt_sites_free(small, again);
	assert_ptr_equal(take(small_room + 1, &again), big);
	shunt_sites_free(big, again);
}

/* What is far too big is left for a module that needs it. */
static void a_smaller_module(void **state)
{
	size_t big_room, small_room;
	struct shunt_site *big = take(100000, &big_room), *small;

	(void)state;
	shunt_sites_free(big, big_room);
	small = take(10, &small_room);
	assert_ptr_not_equal(small, big);
	shunt_sites_free(small, small_room);
}

static struct shunt_mod *new_mods(size_t max, uint32_t owner)
{
	struct shunt_mod *mods = shunt_port_alloc(max * sizeof(*mods));

	assert_non_null(mods);
	for (size_t i = 0; i < max; i++)
		mods[i].slot = owner + i;
	return mods;
}

/*
 * Behind the few there is room for many: what a control copies there must not be over what the
 * kernel has mapped behind them. Under Debian's arm64 kernel the program died there, by SIGSEGV,
 * before the row could fail.
 */
static void mods_of_the_same_size(void **state)
{
	struct shunt_mod *few = new_mods(1024, 1), *many = new_mods(1024, 1000), *settled;

	(void)state;
	shunt_mods_retire(few, 64);
	settled = shunt_mods_settle(many, 1024);
	assert_ptr_equal(settled, many);
	settled = shunt_mods_settle(new_mods(64, 5000), 64);
	assert_ptr_equal(settled, few);
	for (size_t i = 0; i < 64; i++)
		assert_int_equal(few[i].slot, 5000 + i);
	for (size_t i = 0; i < 1024; i++)
		assert_int_equal(many[i].slot, 1000 + i);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sites_are_used_again),
		cmocka_unit_test(a_bigger_module),
		cmocka_unit_test(a_smaller_module),
		cmocka_unit_test(mods_of_the_same_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
