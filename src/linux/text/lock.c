/* SPDX-License-Identifier: MIT */
/*
 * The update lock: one futex word that holds its owner's number. Not a pthread
 * mutex, because an update may be asked for in a signal handler: taking the lock
 * and becoming its owner is one step here, so that a handler that interrupts the
 * owner at any point is told so (-EDEADLK) and never waits for itself.
 *
 * The owner's signals are blocked: a handler that jumps out of an update, or an
 * asynchronous cancellation, would leave the lock taken for ever. They are open while it
 * waits for the lock, because the lock's owner may be waiting for its answer to a signal
 * (sync_signal.c).
 *
 * A copy of the process, made by fork() or a raw clone(), has a lock of its own, which
 * nobody holds, and takes back what the parent was in the middle of. The lock is not
 * held over fork(): a program that updates with a lock of its own held, and takes that in a
 * handler of pthread_atfork(), would wait for itself.
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>

#include <shunt/port.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/frames.h"
#include "linux/text/proc_mem.h"
#include "linux/text/text.h"
#include "linux/trap/sigtrap.h"

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

/* -------------------------------------------------------- copies of the process */

/* Guarded by the update lock: the signal mask of its owner, before. */
static uint64_t mask_before;

/*
 * The owner's number once more, where a copy of the process finds it: the word itself is
 * wiped there.
 */
static uint32_t owner;

/* This is a copy whose records cannot be relied on. */
static bool is_broken;

/*
 * Whether this is a copy of the process that the lock is of, and not another one in its
 * memory (a child of vfork()): 1 or 0, or an error where it cannot be told. Where the kernel does
 * not wipe the lock's page in a copy (shunt_make_process()), the descriptor of /proc/self/mem
 * tells: it leads to the memory of the process that opened it.
 */
static int is_copy(void)
{
	int own = shunt_proc_mem_is_own();

	if (own >= 0)
		return !own;
	shunt_failed_call = "this may be a copy of the process";
	return -EPERM;
}

/*
 * The first update in this process, or in a copy of it. In a copy the thread that was in
 * the middle of an update may not exist; then its poke is taken back. If it is this very
 * thread, the copy was made by a signal handler in the middle of the update, which goes
 * on afterwards.
 */
static int begin_process(struct shunt_process *process, bool copied)
{
	uint32_t rights;

	if (copied)
		process->mem_fd = 0;
	shunt_text_copied();
	if (owner == this_thread())
		return -EDEADLK;
	rights = shunt_area_open_keys(); /* this thread may have none to the text */
	is_broken = shunt_sites_repair() != 0;
	shunt_area_close_keys(rights);
	return 0;
}

/* ------------------------------------------------------------------------- lock */

/* The lock as a whole. */
static uint64_t lock_of(int32_t pid, uint32_t word)
{
	return (uint64_t)(uint32_t)pid << 32 | word;
}

static int32_t pid_in(uint64_t lock)
{
	return (int32_t)(lock >> 32);
}

static uint32_t word_in(uint64_t lock)
{
	return (uint32_t)lock;
}

/* Not an error number: somebody else holds the lock. */
#define HELD 1

/*
 * The number of this process, where the lock may be of another one. Where the kernel wipes its
 * page, it is of this one or of none.
 */
static int32_t number_of_process(uint64_t lock)
{
	if (pid_in(lock) && atomic_load_explicit(&shunt_process_is_wiped, memory_order_relaxed))
		return pid_in(lock);
	return shunt_own_pid();
}

/*
 * Take the lock if it is free, with @word in it. *seen is what it was. Whoever is the
 * first to take that of this process, whatever is left in it, has to begin_process().
 */
static int try_lock(struct shunt_process *process, uint32_t word, uint64_t *seen)
{
	*seen = atomic_load_explicit(&process->whole, memory_order_relaxed);
	for (;;) {
		int32_t of = pid_in(*seen), pid = number_of_process(*seen);
		int copied = of && of != pid ? is_copy() : 0;
		bool first = !of || copied > 0;

		if (copied < 0)
			return copied;
		if (!first && (word_in(*seen) & OWNER) == (word & OWNER))
			return -EDEADLK;
		if (!first && word_in(*seen))
			return HELD;
		/* Pairs with the release in shunt_port_unlock(). */
		if (atomic_compare_exchange_weak_explicit(
			    &process->whole, seen, lock_of(first ? pid : of, word),
			    memory_order_acquire, memory_order_relaxed))
			return first ? begin_process(process, copied) : 0;
	}
}

/* Sleep while the lock is @seen. Whoever has slept must assume that others still do. */
static void wait(struct shunt_process *process, uint64_t seen)
{
	uint32_t word = word_in(seen);

	if ((word & WAITERS) ||
	    atomic_compare_exchange_strong_explicit(&process->lock, &word, word | WAITERS,
						    memory_order_relaxed, memory_order_relaxed))
		futex(&process->lock, FUTEX_WAIT, word | WAITERS);
}

static void unlock(void)
{
	struct shunt_process *process = shunt_process();
	uint64_t mask = mask_before;

	owner = 0;
	if (atomic_exchange_explicit(&process->lock, 0, memory_order_release) & WAITERS)
		futex(&process->lock, FUTEX_WAKE, 1);
	shunt_restore_signals(mask);
}

int shunt_port_lock(void)
{
	const char *earlier;
	struct shunt_process *process;
	uint64_t mask = 0, seen;
	uint32_t word;
	int ret;

	if (!shunt_libc_has_started())
		return -EAGAIN;
	process = shunt_process();
	word = this_thread();
	earlier = shunt_failed_call;
	shunt_failed_call = NULL; /* an earlier call's is not this one's */
	for (;;) {
		ret = shunt_block_signals(&mask);
		if (ret)
			return ret;
		ret = try_lock(process, word, &seen);
		if (ret != HELD)
			break;
		shunt_restore_signals(mask);
		wait(process, seen);
		word |= WAITERS;
	}
	if (ret) {
		if (ret == -EDEADLK) /* the update that this one came in still needs it */
			shunt_failed_call = earlier;
		shunt_restore_signals(mask);
		return ret;
	}
	owner = word & OWNER;
	mask_before = mask;
	if (!is_broken)
		return 0;
	unlock();
	shunt_failed_call = "the process was copied while a module was registered in it";
	return -EIO;
}

/*
 * What an update leaves to be done without its lock: messages, and what takes the dynamic linker's
 * locks. Where the thread holds a lock of tracing it waits for the end of that call, or for the
 * next update: who loads a module has the dynamic linker's, and waits for those of tracing.
 */
void shunt_do_after_unlock(void)
{
	if (shunt_holds_trace_lock())
		return;
	shunt_check_environment();
	shunt_frames_register(); /* of veneers that this update has made */
	if (atomic_load_explicit(&shunt_others_seen, memory_order_relaxed))
		shunt_report_others();
}

void shunt_port_unlock(void)
{
	const char *call = shunt_failed_call;

	unlock();
	shunt_do_after_unlock();
	shunt_failed_call = call; /* what goes wrong from here on is no failure of the update */
}

/* ------------------------------------------------------------------------- fork */

/*
 * In a child of fork(): what the kernel should have wiped is wiped. It sees to the parent's
 * descriptor and its update at once, and not only in its first update, which may come too
 * late: after a change of privileges, or when the stack of the updating thread, which the
 * child does not have, has become that of another one.
 */
static void fork_child(void)
{
	struct shunt_process *process =
		atomic_load_explicit(&shunt_process_page, memory_order_acquire);

	if (!process)
		return;
	atomic_store_explicit(&process->whole, 0, memory_order_relaxed);
	process->mem_fd = 0;
	if (!shunt_port_lock())
		unlock();
}

/* Early, because others' handlers may update. */
__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, fork_child);
}
