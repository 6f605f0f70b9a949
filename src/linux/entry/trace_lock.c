/* SPDX-License-Identifier: MIT */
/*
 * The ftrace lock: who changes what is traced. It is two of one kind. The lock of calls is held by
 * a call of the interface from begin to end. The lock of sets guards all that the core and the
 * records of modules are; it is let go of while a call waits for callbacks, and it alone is taken
 * by the dynamic linker's notices (notice.c), whose own lock is held then: a callback may wait for
 * that lock (dladdr()), so who holds it must not wait for callbacks.
 *
 * Lock order: the dynamic linker's lock of loading, the lock of calls, the lock of sets, the
 * dynamic linker's lock of its list (dl_iterate_phdr()), the update lock. Nobody waits for the
 * first with one of the others held, but callbacks that the holder of the second waits for: who
 * waits for that and has the first is told so (-EDEADLK). A call of the interface from a program's
 * dl_iterate_phdr() has the fourth already: it gives up (-EAGAIN) where the holder of the lock of
 * sets may be waiting for that.
 *
 * Each is a futex word with the number of its owner, as the update lock (text/lock.c), whose
 * holder's signals are blocked for the same reasons; and as that one it is not held over fork(): a
 * copy of the process finds it free, and the owner's number, which the kernel does not wipe, says
 * that a change was left in the middle.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>

#include "core/ftrace.h"
#include "linux/base/base.h"
#include "linux/base/dl_list.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"
#include "linux/sync/sync_handler.h"
#include "linux/text/text.h"

#define WAITERS 0x80000000u
#define OWNER   0x7fffffffu

struct lock {
	uint32_t owner; /* once more; guarded by the lock */
	uint64_t mask;  /* of its signals, before */
};

static struct lock calls, sets;
static unsigned abandoned; /* the lock of sets */

/* The lock of sets' owner may be waiting for the dynamic linker's list. */
static _Atomic bool is_in_loader;

#define LOADER_PATIENCE 2000000000ul /* ns */

/* How often the lock of sets has been taken; and who has waited for it and not got it yet. */
static _Atomic uint32_t sets_taken, sets_starving;

#define FAIRNESS 200 /* looks of 50 us, at most, that others let those go first */

static _Atomic uint32_t *word_of(const struct lock *l)
{
	struct shunt_process *process = shunt_process();

	return l == &calls ? &process->calls_lock : &process->sets_lock;
}

static int fail(const char *what, const struct ftrace_ops *ops, int ret)
{
	struct shunt_report report = {.error = ret, .what = what, .ops = ops};

	shunt_port_report(&report);
	return ret;
}

static int fail_in(const char *what, const char *call, const struct ftrace_ops *ops)
{
	shunt_failed_call = call;
	return fail(what, ops, -EDEADLK);
}

static bool is_gone(uint32_t tid)
{
	return shunt_syscall(SYS_tgkill, shunt_own_pid(), (long)tid, 0, 0) == -ESRCH;
}

/* Wait while the word is @seen. A copy that no atfork handler saw may have an owner that is not. */
static void wait(_Atomic uint32_t *word, uint32_t seen)
{
	struct timespec moment = {0, 50000000};
	uint32_t with = seen | WAITERS;

	if (is_gone(seen & OWNER)) {
		(void)atomic_compare_exchange_strong(word, &seen, 0);
		return;
	}
	if ((seen & WAITERS) || atomic_compare_exchange_strong(word, &seen, with))
		(void)shunt_syscall(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, with,
				    (long)&moment);
}

static int repair(void)
{
	int ret = shunt_port_lock(); /* takes the poke back */

	if (ret)
		return ret;
	shunt_port_unlock();
	shunt_ftrace_repair();
	return 0;
}

static void release(struct lock *l)
{
	_Atomic uint32_t *word = word_of(l);
	uint64_t mask = l->mask;

	l->owner = 0;
	if (atomic_exchange(word, 0) & WAITERS)
		(void)shunt_syscall(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0);
	shunt_restore_signals(mask);
}

/*
 * A child of vfork() has numbers of its own, is none of the process's threads, and may be killed in
 * the middle; an unregister in it could not wait for callbacks of its parent's threads.
 */
static int check_process(void)
{
	int ret = shunt_look_whose_memory();

	if (ret <= 0)
		return ret;
	shunt_failed_call = SHUNT_IS_IN_OTHERS_MEMORY;
	return -EPERM;
}

/*
 * A futex goes to whoever comes when it is free: a thread that loads and unloads all the time has
 * the lock of sets again before a waiter is awake. So who comes lets those go first who have
 * waited.
 */
static void let_starving_first(void)
{
	struct timespec moment = {0, 50000};

	for (unsigned i = 0; i < FAIRNESS && atomic_load(&sets_starving); i++)
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
}

/* Whether the lock of sets has been with one owner, who may be in the dynamic linker, too long. */
static bool is_stuck(uint64_t *since, uint32_t *taken)
{
	if (!*since || *taken != atomic_load(&sets_taken) || !atomic_load(&is_in_loader)) {
		*since = shunt_clock();
		*taken = atomic_load(&sets_taken);
	}
	return shunt_clock() - *since > LOADER_PATIENCE;
}

/*
 * Who waits answers the sync by signals, on which the owner of what is waited for may be waiting;
 * in a call of the interface all other signals stay blocked.
 */
static void open_signals(uint64_t mask)
{
	if (shunt_sync_signal > 0)
		mask &= ~(UINT64_C(1) << (shunt_sync_signal - 1));
	shunt_restore_signals(mask);
}

/*
 * 0; 1: a copy of the process, whose owner is not in it; -EDEADLK, -EAGAIN: it never comes; -EPERM:
 * a child of vfork(); or the error of shunt_failed_call, which a filter may have any of these for.
 */
static int take(struct lock *l, bool gives_up)
{
	const uint32_t tid = (uint32_t)shunt_own_tid();
	_Atomic uint32_t *lock = word_of(l);
	uint32_t word = tid, seen = 0, taken = 0;
	uint64_t mask = 0, since = 0;
	bool starves = false, gave_up = false;
	int ret = check_process();

	if (!ret)
		ret = shunt_check_tid((int32_t)tid); /* of two without a number either has it */
	if (ret)
		return ret;
	if (l == &sets && atomic_load(&sets_starving) && (atomic_load(lock) & OWNER) != tid)
		let_starving_first();
	ret = shunt_block_signals(&mask);
	while (!ret && !atomic_compare_exchange_strong(lock, &seen, word)) {
		open_signals(mask);
		if ((seen & OWNER) == tid) {
			ret = -EDEADLK;
		} else if ((l == &sets && gives_up && is_stuck(&since, &taken)) ||
			   (l == &calls && shunt_callback_waits_for_caller())) {
			ret = -EAGAIN;
		}
		gave_up = ret;
		if (gave_up)
			break;
		wait(lock, seen);
		shunt_restore_signals(mask);
		if (l == &sets && !starves)
			atomic_fetch_add(&sets_starving, 1);
		starves |= l == &sets;
		word |= WAITERS; /* others may be waiting */
		seen = 0;
		ret = shunt_block_signals(&mask);
	}
	if (starves)
		atomic_fetch_sub(&sets_starving, 1);
	if (gave_up)
		shunt_restore_signals(mask);
	if (ret)
		return ret;
	if (l == &sets)
		atomic_fetch_add(&sets_taken, 1);
	l->mask = mask;
	ret = l->owner && l->owner != tid;
	l->owner = tid;
	return ret;
}

int shunt_sets_lock(bool gives_up)
{
	int ret = take(&sets, gives_up);

	if (ret <= 0)
		return ret;
	atomic_store(&is_in_loader, false);
	abandoned++;
	ret = repair();
	if (ret)
		release(&sets);
	return ret;
}

void shunt_sets_unlock(void)
{
	release(&sets);
}

void shunt_sets_pause(void)
{
	release(&sets);
	open_signals(~UINT64_C(0));
}

bool shunt_sets_are_locked(void)
{
	return (atomic_load(word_of(&sets)) & OWNER) == (uint32_t)shunt_own_tid();
}

unsigned shunt_sets_abandoned(void)
{
	return abandoned;
}

void shunt_sets_in_loader(bool is)
{
	atomic_store(&is_in_loader, is);
}

/*
 * The first change in this process, or in a copy of it that no atfork handler has seen, by a page
 * that the kernel clears there: nobody waits for callbacks of threads that are not in it.
 */
void shunt_trace_begin_process(void)
{
	struct shunt_process *process = shunt_process();

	if (atomic_load(&process->has_traced) || shunt_is_child_in_memory() ||
	    atomic_exchange(&process->has_traced, true))
		return;
	atomic_store(&sets_starving, 0);
	shunt_contexts_of_copy();
	if (shunt_dl_is_copied())
		shunt_loader_copied();
}

int shunt_port_trace_lock(const char *what, const struct ftrace_ops *ops)
{
	int ret;

	if (!shunt_libc_has_started())
		return fail(what, ops, -EAGAIN);
	if (shunt_is_in_callback())
		return fail_in("called from a callback", what, ops);
	shunt_failed_call = NULL;
	ret = take(&calls, false);
	if (ret == -EDEADLK && !shunt_failed_call)
		return fail_in("called from within a change of the same thread", what, ops);
	if (ret == -EAGAIN && !shunt_failed_call)
		return fail_in(
			"its owner waits for a callback, and that for a lock that this thread has",
			what, ops);
	if (ret < 0)
		return fail(what, ops, ret);
	if (ret)
		sets.owner = ~0u; /* to be repaired */
	shunt_trace_begin_process();
	shunt_failed_call = NULL;
	ret = shunt_sets_lock(true);
	if (!ret)
		return 0;
	release(&calls);
	if (ret == -EAGAIN && !shunt_failed_call)
		shunt_failed_call = "the dynamic linker is busy, perhaps waiting for this thread";
	return fail(what, ops, ret);
}

void shunt_port_trace_unlock(void)
{
	const char *call = shunt_failed_call;

	release(&sets);
	release(&calls);
	shunt_do_after_unlock();
	shunt_failed_call = call;
}

/* In a child this thread has another number. */
static void fork_child(void)
{
	struct shunt_process *process =
		atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	if (process) {
		atomic_store(&process->calls_lock, 0);
		atomic_store(&process->sets_lock, 0);
		atomic_store(&sets_starving, 0);
		atomic_store(&process->has_traced, true);
	}
	shunt_contexts_of_copy();
	shunt_loader_copied();
}

__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, fork_child);
}
