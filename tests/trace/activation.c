/* SPDX-License-Identifier: MIT */
/*
 * Activation records alone (linux/entry/activation.c): found by address, also under a million of
 * addresses; depth over what was left; records of calls, stacked at one address, and found from
 * behind the function's frame; no memory beyond the bits of an address.
 */
#include <stdint.h>
#include <stdlib.h>

#include "../api/tap.h"
#include "arch/arch.h"
#include "linux/entry/activation.h"
#include "linux/entry/return_slots.h"

static struct shunt_activation *enter(uintptr_t func, uintptr_t sp, bool calls)
{
	struct shunt_activation *a = shunt_activation_get(sp, calls);
	struct shunt_activation *parent = shunt_activation_parent(sp, calls);

	if (!a || !shunt_activation_begin(a, parent, func, sp, calls))
		abort();
	a->mask = 1;
	return a;
}

/* Words that records are made for: as if they were a stack. */
static uintptr_t words[1 << 20];
#define AT(i) ((uintptr_t)&words[i])

static bool by_address(void)
{
	bool good = !shunt_activation_find(AT(7), false);

	for (unsigned i = 0; i < 1 << 20; i++)
		shunt_activation_get(AT(i), false)->func = i + 1;
	for (unsigned i = 0; i < 1 << 20; i++)
		good = shunt_activation_find(AT(i), false)->func == i + 1 && good;
	return good && !shunt_activation_get((uintptr_t)1 << SHUNT_ADDRESS_BITS, false) &&
	       !shunt_activation_find(AT(7), true);
}

static bool depths(void)
{
	struct shunt_activation *a = enter(1, AT(9000), false), *b = enter(2, AT(8000), false);
	struct shunt_activation *c = enter(3, AT(7000), false);
	bool good = a->depth == 0 && b->depth == 1 && c->depth == 2 && c->parent == b;

	/* c and b are left. */
	c = enter(4, AT(8500), false);
	good = c->depth == 1 && c->parent == a && good;
	shunt_activation_end(c);
	c = enter(5, AT(100), false);
	good = c->depth == 1 && good;
	shunt_activation_end(c);
	shunt_activation_end(a);
	a = enter(6, AT(100), false);
	good = a->depth == 0 && good;
	shunt_activation_end(a);
	return good;
}

static bool calls(void)
{
	uintptr_t sp = AT(5000);
	struct shunt_activation *a = NULL;
	bool good = true;

	for (int round = 0; round < 3; round++) {
		for (uintptr_t i = 1; i <= 5; i++)
			a = enter(i, sp, true);
		for (uintptr_t i = 5; i >= 1; i--) {
			a = shunt_activation_of_call(i, sp - 64);
			good = a && a->func == i && a->depth == i - 1 && a->mask && good;
			if (!a)
				return false;
			shunt_activation_end(a);
		}
		good = !shunt_activation_of_call(1, sp) && good;
	}
	return good;
}

/* By a jump to its exit, from behind its frame: the frame is looked for down to 64 KiB below. */
static bool jumps(void)
{
	const unsigned frame = 65536 / sizeof(uintptr_t);
	struct shunt_activation *a = enter(1, AT(30000), true);
	struct shunt_activation *last = enter(2, AT(20000), true);
	bool good = shunt_activation_of_jump(1, AT(30001)) == a &&
		    shunt_activation_of_jump(1, AT(30000 + frame - 1)) == a &&
		    !shunt_activation_of_jump(1, AT(30000 + frame)) &&
		    !shunt_activation_of_jump(1, AT(30000)) &&
		    !shunt_activation_of_jump(3, AT(30001)) &&
		    shunt_activation_of_jump(2, AT(20000 + frame)) == last;

	shunt_activation_end(last);
	shunt_activation_end(a);
	return good && !shunt_activation_of_jump(1, AT(30001));
}

/*
 * Of calls: what the same call at the same place finds was left by an exception, and what a
 * function with another return address does; one compiled into it has another call.
 */
static bool left_calls(void)
{
	/* On one page: only there it is looked at. */
	_Alignas(sizeof(uintptr_t[64])) uintptr_t stack[64] = {0};
	uintptr_t sp = (uintptr_t)&stack[8];
	struct shunt_activation *a = shunt_activation_get(sp, true);
	bool good = a != NULL;

	stack[12] = 0x5000; /* the word that it returns by */
	good = good && shunt_activation_begin(a, NULL, 0x1000, sp, true);
	shunt_activation_note_call(a, 0x1010, 0x5000);
	a->mask = 1;
	good = good && a->word == 0x5000;
	shunt_activation_drop_left(a, 0x1020, 0x5000);
	good = good && a->mask == 1 && a->func == 0x1000;
	shunt_activation_drop_left(a, 0x1010, 0x5000);
	good = good && !a->mask;
	good = good && shunt_activation_begin(a, NULL, 0x1000, sp, true);
	shunt_activation_note_call(a, 0x1010, 0x5000);
	a->mask = 1;
	shunt_activation_drop_left(a, 0x2010, 0x6000);
	good = good && !a->mask;
	/* And seen from further down: something else stands where it was to return. */
	good = good && shunt_activation_begin(a, NULL, 0x1000, sp, true);
	shunt_activation_note_call(a, 0x1010, 0x5000);
	a->mask = 1;
	good = good && shunt_activation_parent((uintptr_t)&stack[2], true) == a;
	stack[12] = 0x7000;
	return good && !shunt_activation_parent((uintptr_t)&stack[2], true);
}

static bool slots(void)
{
	uintptr_t stub = shunt_return_stub(0x1234567), other = shunt_return_stub(0x1234568);
	const struct shunt_return_range range = {(uintptr_t)shunt_return_stubs,
						 (const uintptr_t *)shunt_return_slots};
	unsigned n = 0;
	bool good;

	shunt_return_range = range;
	good = stub && other && stub != other && shunt_return_stub(0x1234567) == stub &&
	       shunt_is_return_stub(stub) && !shunt_is_return_stub(0x1234567) &&
	       shunt_return_parent(stub) == 0x1234567 && shunt_return_parent(5000) == 5000;

	/* Full, or so near it that a place is not found: none, and those that have one keep it. */
	for (uintptr_t i = 0; i < 200000; i++)
		n += shunt_return_stub(0x10000000 + 3 * i) != 0;
	good = n > SHUNT_RETURN_STUBS / 2 && n <= SHUNT_RETURN_STUBS &&
	       shunt_return_stub(0x1234567) == stub && good;
	shunt_return_stubs_forget(0x10000000, 0x20000000);
	return good && shunt_return_stub(0x30000000) && shunt_return_stub(0x1234567) == stub;
}

int main(void)
{
	ok(by_address(), "a million addresses");
	ok(depths(), "depth, also where functions were left");
	ok(calls(), "several at one address");
	ok(jumps(), "by a jump from behind the frame");
	ok(left_calls(), "calls that were left");
	ok(slots(), "slots of return addresses: until there are none, and again");
	return tap_done();
}
