/* SPDX-License-Identifier: MIT */
/*
 * The update lock: one futex word that holds its owner's number. Not a pthread
 * mutex, because an update may be asked for in a signal handler: taking the lock
 * and becoming its owner is one step here, so that a handler that interrupts the
 * owner at any point is told so (-EDEADLK) and never waits for itself.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>

#include "linux/linux.h"
#include "linux/syscall.h"
#include "linux/veneer.h"

#include "core/poke.h"

#define WAITERS 0x80000000u /* somebody sleeps on the word */
#define OWNER   0x7fffffffu

/*
 * This thread's number, not 0. (A thread id would do, but costs a system call.) A
 * handler that gets here in between gives the thread another one, which does no harm
 * before the lock is taken.
 */
static uint32_t this_thread(void)
{
	static _Atomic uint32_t last;
	static __thread uint32_t number;

	while (!(number & OWNER))
		number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) + 1;
	return number & OWNER;
}

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	(void)shunt_syscall(SYS_futex, (long)word, op | FUTEX_PRIVATE_FLAG, value, 0);
}

/*
 * The owner's number once more, where a copy of the process finds it: the word itself is
 * wiped there.
 */
static uint32_t owner;

/*
 * The first update in this process, or in a copy of it that no fork handler saw. There
 * the thread that was in the middle of an update may not exist; then its poke is taken
 * back. If it is this very thread, the copy was made by a signal handler in the middle
 * of the update, which goes on afterwards.
 */
static int meet(struct shunt_process *process, uint32_t self)
{
	process->is_known = true;
	shunt_text_copied();
	if (owner == self) {
		atomic_store_explicit(&process->lock, self, memory_order_relaxed);
		return -EDEADLK;
	}
	shunt_poke_repair();
	return 0;
}

int shunt_port_lock(void)
{
	struct shunt_process *process = shunt_process();
	_Atomic uint32_t *word = &process->lock;
	uint32_t self = this_thread();
	uint32_t seen = 0, taken = self;

	/* Pairs with the release in shunt_port_unlock(). */
	while (!atomic_compare_exchange_weak_explicit(word, &seen, taken, memory_order_acquire,
						      memory_order_relaxed)) {
		if ((seen & OWNER) == self)
			return -EDEADLK;
		if (!seen)
			continue;
		/* Whoever has slept must assume that others still do. */
		taken = self | WAITERS;
		if ((seen & WAITERS) || atomic_compare_exchange_strong_explicit(
						word, &seen, seen | WAITERS, memory_order_relaxed,
						memory_order_relaxed))
			futex(word, FUTEX_WAIT, seen | WAITERS);
		seen = 0;
	}
	if (!process->is_known && meet(process, self))
		return -EDEADLK;
	owner = self;
	return 0;
}

void shunt_port_unlock(void)
{
	_Atomic uint32_t *word = &shunt_process()->lock;

	owner = 0;
	if (atomic_exchange_explicit(word, 0, memory_order_release) & WAITERS)
		futex(word, FUTEX_WAKE, 1);
	shunt_frames_register(); /* of veneers that this update has made */
}

/* ---------------------------------------------------------------------- fork */

/* Whether the fork holds the lock, or is made within an update (in a handler). */
static bool fork_holds;

static void fork_prepare(void)
{
	if (!shunt_port_lock())
		fork_holds = true;
}

static void fork_done(void)
{
	if (fork_holds) {
		fork_holds = false;
		shunt_port_unlock();
	}
}

/*
 * The lock has been wiped in the child, which owns it all the same. Without this its first
 * update would see to the descriptor: perhaps too late, and perhaps there is none.
 */
static void fork_child(void)
{
	shunt_text_copied();
	fork_done();
}

/*
 * No fork in the middle of a poke: the child would have its sites half changed
 * and nobody to finish them. Early, because prepare handlers run in reverse order
 * and others' may update.
 */
__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)pthread_atfork(fork_prepare, fork_done, fork_child);
}
