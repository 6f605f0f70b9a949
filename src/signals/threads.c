/* SPDX-License-Identifier: MIT */
/*
 * Where the C library runs the program's code with a mask that no call of the program
 * set: callbacks of timers, and contexts whose mask the program wrote.
 */
#include <errno.h>
#include <stdlib.h>

#include "signals/signals.h"

/* ------------------------------------------------------------------- callbacks */

/*
 * The C library calls back on a thread of its own, all signals blocked. What to call is
 * found by a record. Such a thread can be on its way long after its timer is gone, so
 * records stay; one for each different pair.
 */
struct callback {
	struct callback *next;
	void (*function)(union sigval value);
	union sigval value;
};

static struct callback *_Atomic buckets[256];

static struct callback *callback_for(void (*function)(union sigval), union sigval value)
{
	uintptr_t hash = ((uintptr_t)value.sival_ptr >> 4) * 31 + ((uintptr_t)function >> 4);
	struct callback *_Atomic *bucket = &buckets[hash % 256];
	struct callback *new, *first = atomic_load(bucket);

	for (struct callback *c = first; c; c = c->next) {
		if (c->function == function && c->value.sival_ptr == value.sival_ptr)
			return c;
	}
	new = malloc(sizeof(*new));
	if (!new)
		return NULL;
	*new = (struct callback){first, function, value};
	while (!atomic_compare_exchange_weak(bucket, &new->next, new))
		;
	return new;
}

static void call_back(union sigval value)
{
	const struct callback *c = value.sival_ptr;

	(void)shunt_mask_raw(SIG_UNBLOCK, shunt_bit(SIGTRAP) | shunt_sync_bit());
	c->function(c->value);
}

/* Have @event call back through us. Returns 0 or EAGAIN. */
static int wrap(struct sigevent *event)
{
	struct callback *c;

	if (event->sigev_notify != SIGEV_THREAD)
		return 0;
	c = callback_for(event->sigev_notify_function, event->sigev_value);
	if (!c)
		return EAGAIN;
	event->sigev_notify_function = call_back;
	event->sigev_value.sival_ptr = c;
	return 0;
}

INTERPOSER int timer_create(clockid_t clock, struct sigevent *event, timer_t *id)
{
	struct sigevent wrapped;

	shunt_signals_start();
	if (!event)
		return shunt_next.timer_create(clock, NULL, id);
	wrapped = *event;
	errno = wrap(&wrapped);
	return errno ? -1 : shunt_next.timer_create(clock, &wrapped, id);
}

/* -------------------------------------------------------------------- contexts */

/*
 * A context that getcontext() saved has the mask as the kernel has it, and is right as it
 * is, unless the program has written SIGTRAP into it since. Then a copy goes in its
 * place: it is in use only until the switch, and the stack that it is on stays.
 */
static bool has_trap(const ucontext_t *uc)
{
	return shunt_mask(&uc->uc_sigmask) & (shunt_bit(SIGTRAP) | shunt_sync_bit());
}

static void copy_without_trap(ucontext_t *copy, const ucontext_t *uc)
{
	*copy = *uc;
	shunt_set_mask(&copy->uc_sigmask, shunt_mask_in(shunt_mask(&uc->uc_sigmask)));
}

INTERPOSER int setcontext(const ucontext_t *uc)
{
	ucontext_t copy;

	shunt_signals_start();
	if (!has_trap(uc))
		return shunt_next.setcontext(uc);
	copy_without_trap(&copy, uc);
	return shunt_next.setcontext(&copy);
}

INTERPOSER int swapcontext(ucontext_t *save, const ucontext_t *uc)
{
	ucontext_t copy;

	shunt_signals_start();
	if (!has_trap(uc))
		return shunt_next.swapcontext(save, uc);
	copy_without_trap(&copy, uc);
	return shunt_next.swapcontext(save, &copy);
}
