/* SPDX-License-Identifier: MIT */
/* Calls that wait with a mask of their own, by the threads that are in one. Async-signal-safe. */
#include <errno.h>

#include "signals/signals.h"

static __thread const struct shunt_wait *waiting;

void shunt_wait_begin(struct shunt_wait *wait, const sigset_t *kernel, int place, uintptr_t first,
		      uintptr_t second)
{
	*wait = (struct shunt_wait){
		waiting, shunt_mask(kernel), place, (uintptr_t)kernel, {first, second},
	};
	atomic_signal_fence(memory_order_seq_cst);
	waiting = wait;
	atomic_signal_fence(memory_order_seq_cst);
}

void shunt_wait_end(struct shunt_wait *wait)
{
	atomic_signal_fence(memory_order_seq_cst);
	waiting = wait->outer;
}

/* Whether the system call that was interrupted has the arguments of @w's. */
static bool has_arguments_of(const struct shunt_wait *w, const greg_t *g)
{
	uintptr_t set = (uintptr_t)g[w->place], sp = (uintptr_t)g[REG_RSP];

	if (w->place != REG_RDI &&
	    ((uint32_t)g[REG_RDI] != (uint32_t)w->args[0] || (uintptr_t)g[REG_RSI] != w->args[1]))
		return false;
	if (w->place != REG_R9)
		return set == w->set;
	return set - sp < (uintptr_t)w - sp && !(set % 8) && *(const uintptr_t *)set == w->set;
}

/*
 * The mask that was in force where the signal came. In a wait it is not in the frame. It
 * was the wait itself that was interrupted if it is about to return EINTR, close below
 * the frame of whoever waits: a handler that runs within the wait is further down, by
 * a signal frame, or on another stack. A wait that was left by siglongjmp() is still
 * named, and what is there by now may be anything: but what is interrupted has other arguments.
 */
uint64_t shunt_interrupted_mask(const ucontext_t *uc)
{
	const greg_t *g = uc->uc_mcontext.gregs;
	const struct shunt_wait *w = waiting;

	if (w && g[REG_RAX] == -EINTR && (uintptr_t)w - (uintptr_t)g[REG_RSP] < 1024 &&
	    has_arguments_of(w, g))
		return w->mask;
	return shunt_mask(&uc->uc_sigmask);
}
