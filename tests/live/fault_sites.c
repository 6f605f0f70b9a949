/* SPDX-License-Identifier: MIT */
/*
 * Sites of every kind that a compiler makes of a static call, and a thread that runs
 * through all of them without a pause and checks each result.
 */
#include <sched.h>
#include <string.h>

#include "fault.h"

/* ------------------------------------------------------------------- the sites */

long old_function(long x)
{
	return 2 * x;
}

/* Kept apart: were they alike, a linker could make one of them. */
long new_function(long x)
{
	return 2 * x + 1;
}

DEFINE_STATIC_CALL(faulty, old_function);

#define NOINLINE __attribute__((noinline))

static NOINLINE long tail_1(long x)
{
	return static_call(faulty)(x);
}

static NOINLINE long tail_2(long x)
{
	return static_call(faulty)(x + 2);
}

static NOINLINE long tail_3(long x)
{
	return static_call(faulty)(3 * x);
}

static NOINLINE long call_1(long x)
{
	return static_call(faulty)(x) + 10;
}

static NOINLINE long call_2(long x)
{
	return 5 - static_call(faulty)(x);
}

/* Two calls in one function: both results have to be of one kind or the other. */
static NOINLINE long calls_3(long x)
{
	long first = static_call(faulty)(x) - 2 * x;

	return 100 * first + static_call(faulty)(x);
}

static NOINLINE long call_4(long x)
{
	return static_call(faulty)(x) ^ 64;
}

#define BIT(value) ((value) == 0 || (value) == 1)

bool round_trip(long x, unsigned *new_results)
{
	long r[] = {
		tail_1(x) - 2 * x,      tail_2(x) - 2 * (x + 2), tail_3(x) - 6 * x,
		call_1(x) - 10 - 2 * x, 5 - call_2(x) - 2 * x,   (call_4(x) ^ 64) - 2 * x,
	};
	long two = calls_3(x) - 2 * x;
	bool right = two == 0 || two == 1 || two == 100 || two == 101;

	*new_results = (unsigned)(two / 100 + two % 100);
	for (size_t i = 0; i < ARRAY_SIZE(r); i++) {
		right = right && BIT(r[i]);
		*new_results += (unsigned)r[i];
	}
	return right;
}

struct place places[2 * SITES];
size_t nr_places, nr_tails;

int add_place(const struct shunt_site_info *info, void *arg)
{
	(void)arg;
	assert_true(nr_places < ARRAY_SIZE(places));
	places[nr_places++] = (struct place){.addr = info->addr, .len = info->len};
	nr_tails += info->state == SHUNT_SITE_TAIL;
	assert_null(info->why);
	return 0;
}

void remember_text(void)
{
	for (size_t i = 0; i < nr_places; i++)
		memcpy(places[i].before, places[i].addr, places[i].len);
}

bool is_text_as_before(void)
{
	for (size_t i = 0; i < nr_places; i++)
		if (memcmp(places[i].before, places[i].addr, places[i].len) != 0)
			return false;
	return true;
}

size_t count_int3(void)
{
	size_t n = 0;

	for (size_t i = 0; i < nr_places; i++)
		n += *places[i].addr == 0xcc;
	return n;
}

/* --------------------------------------------------------- the hammering thread */

struct hammer hammer;

void *run_through_the_sites(void *arg)
{
	(void)arg;
	for (long x = 0; !hammer.stop; x = (x + 1) & 0xffff) {
		unsigned new_results;

		if (!round_trip(x, &new_results))
			hammer.wrong++;
		hammer.new_results = new_results;
		hammer.rounds++;
	}
	return NULL;
}

void wait_for_a_round(void)
{
	unsigned long now = hammer.rounds;

	while (hammer.rounds < now + 2)
		sched_yield();
}
