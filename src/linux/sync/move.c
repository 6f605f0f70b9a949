/* SPDX-License-Identifier: MIT */
/*
 * Threads that stand between nops which have become one instruction are moved behind them, in the
 * handler of the sync by signals (entry/nops.c says why). Async-signal-safe.
 */
#include <stdatomic.h>
#include <stddef.h>

#include "linux/base/signal_frame.h"
#include "linux/base/syscall.h"
#include "linux/sync/move.h"

#define NOPS      5
#define MAX_STACK ((uintptr_t)8 << 20)

static struct shunt_left_nops *_Atomic lefts;

void shunt_left_nops_add(struct shunt_left_nops *l)
{
	l->next = atomic_load_explicit(&lefts, memory_order_relaxed);
	/* Pairs with shunt_nops_around(). */
	atomic_store_explicit(&lefts, l, memory_order_release);
}

uintptr_t shunt_nops_around(uintptr_t ip)
{
	for (const struct shunt_left_nops *l = atomic_load_explicit(&lefts, memory_order_acquire);
	     l; l = l->next) {
		size_t low = 0, high = l->n;

		while (low < high) {
			size_t middle = (low + high) / 2;

			if (l->ips[middle] < ip)
				low = middle + 1;
			else
				high = middle;
		}
		if (low && ip - l->ips[low - 1] < NOPS)
			return l->ips[low - 1];
	}
	return 0;
}

static void move(uintptr_t *ip)
{
	uintptr_t entry = shunt_nops_around(*ip);

	if (entry)
		*ip = entry + NOPS;
}

/*
 * The whole of the stack, for what looks like a frame and is none leads nowhere; and then that
 * which a handler on an alternate stack has interrupted. Returns where that is, or 0.
 */
static uintptr_t move_on_stack(uintptr_t sp)
{
	uintptr_t end = sp + MAX_STACK, other = 0;
	uintptr_t frame = shunt_find_signal_frame(sp, end);

	for (; frame; frame = shunt_find_signal_frame(frame + 8, end)) {
		uintptr_t at = shunt_frame_sp(frame);

		move(shunt_frame_ip(frame));
		if (at < frame || at >= end)
			other = at;
	}
	return other;
}

/* By itself, so that its system call can be read in the handler's code (tests/closure). */
static __attribute__((noinline)) bool can_be_read(uintptr_t addr)
{
	return shunt_is_readable(addr);
}

void shunt_move_below_handlers(uintptr_t sp)
{
	for (int stacks = 0; sp && stacks < 8 && can_be_read(sp); stacks++)
		sp = move_on_stack(sp);
}

void shunt_move_from_nops(void *context)
{
	if (!atomic_load_explicit(&lefts, memory_order_acquire))
		return;
	move(shunt_frame_ip((uintptr_t)context));
	shunt_move_below_handlers(shunt_frame_sp((uintptr_t)context));
}
