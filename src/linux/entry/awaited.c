/* SPDX-License-Identifier: MIT */
/* What a callback that is waited for waits for itself: wait.c tells it, trace_lock.c asks too. */
#include <stdatomic.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "linux/entry/modules.h"

/* The futex that a callback which is waited for sleeps at; 0: none. */
static _Atomic uintptr_t sleeps_at;

/* As all pthread_mutex_t of this system are, which programs are compiled with. */
struct mutex {
	int32_t lock; /* the futex */
	uint32_t count;
	int32_t owner;
};

void shunt_callback_sleeps_at(uintptr_t futex)
{
	atomic_store(&sleeps_at, futex);
}

bool shunt_callback_waits_for_caller(void)
{
	uintptr_t futex = atomic_load(&sleeps_at);
	struct mutex mutex;

	/* NOLINTNEXTLINE(performance-no-int-to-ptr) */
	return futex && shunt_peek(&mutex, (const void *)futex, sizeof(mutex)) && mutex.lock &&
	       mutex.owner == shunt_own_tid();
}
