/* SPDX-License-Identifier: MIT */
/*
 * What the rows run through and change: a static call that goes from one function to the other,
 * by the way of the row; or, where that is flip, a static branch. And a hold on the poke in the
 * middle, by ld --wrap around the port's functions.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/remap_first.h"
#include "core/poke.h"

#include "hostile.h"

/* Two functions in a desert (hostile.h). */
long hostile_old(long x);
long hostile_new(long x);

/* clang-format off */
#ifdef __aarch64__
#define TWICE_PLUS(n) "	lsl x0, x0, #1\n	add x0, x0, #" #n "\n"
#else
#define TWICE_PLUS(n) "	lea " #n "(%rdi,%rdi), %rax\n"
#endif
__asm__(".text\n"
	DESERT_BEFORE
	".globl hostile_old, hostile_new\n"
	".type hostile_old" DESERT_FUNCTION
	"hostile_old:\n"
	TWICE_PLUS(0)
	"	ret\n"
	".size hostile_old, . - hostile_old\n"
	DESERT_BETWEEN
	".type hostile_new" DESERT_FUNCTION
	"hostile_new:\n"
	TWICE_PLUS(1)
	"	ret\n"
	".size hostile_new, . - hostile_new\n"
	DESERT_BEHIND);
/* clang-format on */

DEFINE_STATIC_CALL(hostile_call, hostile_old);
DEFINE_STATIC_KEY_FALSE(hostile_key);

static _Atomic bool by_flip; /* print_costs() sets it beside a thread */

void change_by_flip(void)
{
	by_flip = true;
}

static KEEP long call_site(long x)
{
	return static_call(hostile_call)(x) + 10;
}

static KEEP long branch_site(void)
{
	if (static_branch_unlikely(&hostile_key))
		return 7;
	return 3;
}

int try_site(void)
{
	long call = call_site(21), branch = branch_site();

	if ((call != 52 && call != 53) || (branch != 3 && branch != 7))
		return -1;
	return by_flip ? branch == 7 : call == 53;
}

void go_through(struct row *r)
{
	if (try_site() < 0)
		failed(r, "a wrong result of a site");
}

bool key_is_new(void)
{
	if (by_flip)
		return static_key_count(&hostile_key) > 0;
	return (uintptr_t)static_call_query(hostile_call) == (uintptr_t)hostile_new;
}

/* 0 only where it went by flip: @ret, or -EPROTO. */
static int by_flip_only(int ret)
{
	struct shunt_ways ways;

	if (ret)
		return ret;
	shunt_get_ways(&ways);
	return strcmp(ways.poke, "flip") ? -EPROTO : 0;
}

int try_update(void)
{
	if (by_flip)
		return by_flip_only(key_is_new() ? static_branch_disable(&hostile_key)
						 : static_branch_enable(&hostile_key));
	return static_call_update(hostile_call, key_is_new() ? hostile_old : hostile_new);
}

void update(struct row *r)
{
	char what[160];
	int ret = try_update();

	if (!ret)
		return;
	(void)snprintf(what, sizeof(what), "update: %d, %s", ret, shunt_last_error());
	failed(r, what);
}

/* --------------------------------------------------------------------------- hold */

int __real_shunt_port_core_sync(void);
int __wrap_shunt_port_core_sync(void);
int __real_shunt_port_text_write(const struct shunt_write *writes, size_t n);
int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n);
void __real_shunt_poke_repair(void);
void __wrap_shunt_poke_repair(void);
int __real_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);
int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride);

static void (*_Atomic held)(void *arg);
static void *_Atomic held_arg;
static _Atomic uint64_t holds;

void hold_next(void (*fn)(void *arg), void *arg)
{
	atomic_store(&held_arg, arg);
	atomic_store(&held, fn);
}

uint64_t times_held(void)
{
	return atomic_load(&holds);
}

static void hold(void)
{
	void (*fn)(void *) = atomic_exchange(&held, NULL);

	if (!fn)
		return;
	atomic_fetch_add(&holds, 1);
	fn(atomic_load(&held_arg));
}

/* ---------------------------------------------------------------------- taken out */

static bool no_poke, no_repair;

void take_poke_out(void)
{
	no_poke = true;
}

void take_repair_out(void)
{
	no_repair = true;
}

/* Two bytes, and after a while the others. */
static int write_torn(const struct shunt_write *w)
{
	struct shunt_write part = *w;
	int ret;

	part.len = part.len < 2 ? part.len : 2;
	ret = __real_shunt_port_text_write(&part, 1);
	if (!ret && w->len > 2)
		hold();
	return ret ? ret : __real_shunt_port_text_write(w, 1);
}

/* Of a flip: an instruction that there is not, and after a while the byte. */
static int write_wrong_byte(const struct shunt_write *w)
{
	struct shunt_write first = *w;
	int ret;

#ifdef __aarch64__
	first.bytes[3] = 0; /* the group of instructions that are reserved */
#else
	first.bytes[0] = 0x06;
#endif
	ret = __real_shunt_port_text_write(&first, 1);
	if (!ret)
		hold();
	return ret ? ret : __real_shunt_port_text_write(w, 1);
}

int __wrap_shunt_port_core_sync(void)
{
	int ret;

	if (by_flip && !no_poke)
		hold(); /* there is no other sync; by int3 it is between that and the rest */
	ret = __real_shunt_port_core_sync();
	if (!by_flip && !no_poke)
		hold();
	return ret;
}

int __wrap_shunt_port_text_write(const struct shunt_write *writes, size_t n)
{
	int ret = 0;

	if (!no_poke)
		return __real_shunt_port_text_write(writes, n);
	for (size_t i = 0; i < n && !ret; i++)
		if (writes[i].len != 1 || writes[i].bytes[0] != 0xcc)
			ret = by_flip ? write_wrong_byte(&writes[i]) : write_torn(&writes[i]);
	return ret;
}

int __wrap_shunt_port_text_remap(const struct shunt_write *writes, size_t n, size_t stride)
{
	int ret = 0;

	if (!no_poke) {
		ret = __real_shunt_port_text_remap(writes, n, stride);
		hold();
		return ret;
	}
	for (size_t i = 0; i < n && !ret; i++)
		ret = write_torn((const void *)((const char *)writes + i * stride));
	return ret;
}

int __wrap_shunt_port_poke_begin(size_t n, bool flips, unsigned tried)
{
	return begin_remap_first(n, flips, tried);
}

void __wrap_shunt_poke_repair(void)
{
	if (!no_repair)
		__real_shunt_poke_repair();
}

/* ---------------------------------------------------------------------- the costs */

#define UPDATES 401

static _Atomic bool costs_over;

static void *hammer(void *arg)
{
	while (!atomic_load(&costs_over))
		(void)try_site();
	return arg;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t nanoseconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The median cost of an update of one site beside a thread in it. For information only. */
static uint64_t cost(enum shunt_poke_policy policy)
{
	static uint64_t took[UPDATES];

	if (shunt_set_poke(policy))
		return 0;
	for (int i = 0; i < UPDATES; i++) {
		uint64_t then = nanoseconds();

		if (try_update())
			return 0;
		took[i] = nanoseconds() - then;
	}
	qsort(took, UPDATES, sizeof(took[0]), by_size);
	return took[UPDATES / 2];
}

void print_costs(void);

void print_costs(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, hammer, NULL))
		return;
	diag("cost|int3|%llu", (unsigned long long)cost(SHUNT_POKE_INT3));
	diag("cost|remap|%llu", (unsigned long long)cost(SHUNT_POKE_REMAP));
	diag("cost|auto|%llu", (unsigned long long)cost(SHUNT_POKE_AUTO));
	change_by_flip();
	diag("cost|flip|%llu", (unsigned long long)cost(SHUNT_POKE_AUTO));
	atomic_store(&costs_over, true);
	(void)pthread_join(thread, NULL);
}
