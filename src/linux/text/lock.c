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
 * A child that runs in this memory (of vfork()) can be killed with the lock taken. The kernel says
 * so in the word then (robust.c), and the next one to take it takes back what the child was in the
 * middle of, as a copy of the process does.
 *
 * A copy of the process, made by fork() or a raw clone(), has a lock of its own, which
 * nobody holds, and takes back what the parent was in the middle of. The lock is not
 * held over fork(): a program that updates with a lock of its own held, and takes that in a
 * handler of pthread_atfork(), would wait for itself.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <shunt/port.h>

#include "core/key.h"
#include "linux/base/base.h"
#include "linux/base/environment.h"
#include "linux/base/syscall.h"
#include "linux/text/area.h"
#include "linux/text/frames.h"
#include "linux/text/proc_file.h"
#include "linux/text/proc_mem.h"
#include "linux/text/robust.h"
#include "linux/text/text.h"
#include "linux/text/veneer.h"
#include "linux/trap/sigtrap.h"

#define WAITERS FUTEX_WAITERS    /* somebody sleeps on the word */
#define DIED    FUTEX_OWNER_DIED /* its owner, a child in this memory */
#define OWNER   FUTEX_TID_MASK

/* In the number of a thread of this process. That of a child is its thread id, which is smaller. */
#define THREAD 0x20000000u

/*
 * This thread's number. (A thread id would do, but costs a system call.) A
 * handler that gets here in between gives the thread another one, which does no harm
 * before the lock is taken.
 */
static uint32_t this_thread(void)
{
	static _Atomic uint32_t last;
	static __thread uint32_t number;

	if (!number)
		number = atomic_fetch_add_explicit(&last, 1, memory_order_relaxed) | THREAD;
	return number & OWNER;
}

/* As the kernel wakes those whose owner has died: without FUTEX_PRIVATE_FLAG. */
static void futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *limit)
{
	(void)shunt_syscall(SYS_futex, (long)word, op, value, (long)limit);
}

/* -------------------------------------------------------- copies of the process */

/* Guarded by the update lock: the signal mask of its owner, before; and what the kernel knew. */
static uint64_t mask_before;
static struct shunt_robust robust_before;

/*
 * The owner's number once more, where a copy of the process finds it: the word itself is
 * wiped there.
 */
static uint32_t owner;

/* This is a copy whose records cannot be relied on. */
static bool is_broken;

/* There has been an update, in this process or in one that it is a copy of. */
static bool has_begun;

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

/* Of an owner's number. */
static bool is_child(uint32_t number)
{
	return number && !(number & THREAD);
}

static void take_back(void)
{
	uint32_t rights = shunt_area_open_keys(); /* this thread may have none to the text */

	is_broken = shunt_sites_repair() || is_broken;
	shunt_area_close_keys(rights);
}

/*
 * The first update in this process, or in a copy of it. In a copy the thread that was in
 * the middle of an update may not exist; then its poke is taken back. If it is this very
 * thread, the copy was made by a signal handler in the middle of the update, which goes
 * on afterwards.
 */
static int begin_process(struct shunt_process *process, bool copied)
{
	if (copied)
		process->mem_fd = 0;
	shunt_text_copied();
	if (owner == this_thread() || (is_child(owner) && owner == (uint32_t)getppid()))
		return -EDEADLK;
	is_broken = false;
	has_begun = true;
	take_back();
	return 0;
}

/* The lock's owner was a child in this memory, and has been killed. */
static void take_over(void)
{
	shunt_port_poke_end();
	take_back();
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

/* Who asks for the lock. */
struct asker {
	int32_t pid;
	uint32_t thread;
	uint32_t word; /* that is the lock's when this one has it; 0: not known yet */
	struct shunt_robust robust;
};

/* A child that shares the memory of process @of: it can be killed with the lock taken. */
static void be_child(struct asker *who, struct shunt_process *process)
{
	int32_t tid;

	if (who->word)
		return;
	tid = shunt_own_tid();
	if (tid > 0)
		shunt_robust_begin(&who->robust, &process->lock);
	who->word = tid > 0 ? (uint32_t)tid : who->thread;
}

/* Where the kernel wipes the lock's page, it is of the process whose memory this is, or of none. */
static int is_lock_copied(const struct asker *who, int32_t of)
{
	if (!of || of == who->pid ||
	    atomic_load_explicit(&shunt_process_is_wiped, memory_order_relaxed))
		return 0;
	return is_copy();
}

/*
 * The process that this memory is of, where the lock does not say: one that has begun, or this one;
 * or in a copy that no handler of fork() has seen, whose first update a child of vfork() makes, the
 * parent.
 */
static int32_t process_of_memory(struct shunt_process *process, const struct asker *who)
{
	int32_t pid = atomic_load_explicit(&process->memory_pid, memory_order_relaxed);

	if (!atomic_load_explicit(&shunt_process_is_wiped, memory_order_relaxed))
		return who->pid;
	if (pid)
		return pid;
	if (has_begun)
		pid = shunt_parent_in_memory();
	if (!pid)
		return who->pid;
	atomic_store_explicit(&process->memory_pid, pid, memory_order_relaxed);
	return pid;
}

static bool is_owner(const struct asker *who, uint32_t word)
{
	return word & OWNER &&
	       ((word & OWNER) == (who->word & OWNER) || (word & OWNER) == who->thread);
}

/*
 * Take the lock if it is free. *seen is what it was. Whoever is the
 * first to take that of this process, whatever is left in it, has to begin_process().
 */
static int try_lock(struct shunt_process *process, struct asker *who, uint64_t *seen)
{
	*seen = atomic_load_explicit(&process->whole, memory_order_relaxed);
	for (;;) {
		int32_t of = pid_in(*seen);
		int copied = is_lock_copied(who, of);
		bool first = !of || copied > 0;
		uint32_t word = word_in(*seen);

		if (copied < 0)
			return copied;
		if (first)
			of = process_of_memory(process, who);
		if (of != who->pid)
			be_child(who, process);
		else if (!who->word)
			who->word = who->thread;
		if (!first && is_owner(who, word))
			return -EDEADLK;
		if (!first && word & OWNER)
			return HELD;
		/* Pairs with the release in shunt_port_unlock(). */
		if (!atomic_compare_exchange_weak_explicit(
			    &process->whole, seen,
			    lock_of(of, who->word | (first ? 0 : word & WAITERS)),
			    memory_order_acquire, memory_order_relaxed))
			continue;
		if (first)
			return begin_process(process, copied);
		if (word & DIED)
			take_over();
		return 0;
	}
}

/*
 * Sleep while the lock is @seen. Whoever has slept must assume that others still do. And look again
 * now and then: one that was woken, a child, may have been killed before it could take the lock.
 */
static void wait(struct shunt_process *process, uint64_t seen)
{
	static const struct timespec limit = {1, 0};
	uint32_t word = word_in(seen);

	if ((word & WAITERS) ||
	    atomic_compare_exchange_strong_explicit(&process->lock, &word, word | WAITERS,
						    memory_order_relaxed, memory_order_relaxed))
		futex(&process->lock, FUTEX_WAIT, word | WAITERS, &limit);
}

/*
 * The lock goes to whoever comes when it is free: who updates again at once mostly has it before
 * one that was woken runs. So one that was woken too late so many times says so, and who comes then
 * sleeps until that one has the lock: for a moment at most, for it may have been killed.
 */
#define TOO_LATE 8

static void let_starving_first(struct shunt_process *process, const struct asker *who)
{
	static const struct timespec moment = {0, 1000000};
	uint32_t word = atomic_load_explicit(&process->lock, memory_order_relaxed);

	if ((word & OWNER) == who->thread) /* within its own update */
		return;
	futex(&process->starving, FUTEX_WAIT, 1, &moment);
	atomic_store_explicit(&process->starving, 0, memory_order_relaxed);
}

static void starves_no_more(struct shunt_process *process)
{
	atomic_store_explicit(&process->starving, 0, memory_order_relaxed);
	futex(&process->starving, FUTEX_WAKE, INT_MAX, NULL);
}

static void unlock(void)
{
	struct shunt_process *process = shunt_process();
	struct shunt_robust robust = robust_before;
	uint64_t mask = mask_before;

	owner = 0;
	if (atomic_exchange_explicit(&process->lock, 0, memory_order_release) & WAITERS)
		futex(&process->lock, FUTEX_WAKE, 1, NULL);
	shunt_robust_end(&robust);
	shunt_restore_signals(mask);
}

/* Returns with signals blocked, and in *mask what they were, where that has worked. */
static int lock_at_last(struct shunt_process *process, struct asker *who, uint64_t *mask)
{
	unsigned waits = 0;

	if (atomic_load_explicit(&process->starving, memory_order_relaxed))
		let_starving_first(process, who);
	for (;;) {
		uint64_t seen;
		int ret = shunt_block_signals(mask);

		if (ret)
			return ret;
		ret = try_lock(process, who, &seen);
		if (!ret && waits > TOO_LATE)
			starves_no_more(process);
		if (!ret)
			return 0;
		shunt_restore_signals(*mask);
		if (ret != HELD)
			return ret;
		wait(process, seen);
		who->word |= WAITERS;
		if (++waits > TOO_LATE)
			atomic_store_explicit(&process->starving, 1, memory_order_relaxed);
	}
}

int shunt_port_lock(void)
{
	struct shunt_process *process;
	struct asker who = {.word = 0};
	const char *earlier;
	uint64_t mask = 0;
	int ret;

	if (!shunt_libc_has_started())
		return -EAGAIN;
	process = shunt_process();
	who.pid = shunt_own_pid();
	who.thread = this_thread();
	earlier = shunt_failed_call;
	shunt_failed_call = NULL; /* an earlier call's is not this one's */
	ret = lock_at_last(process, &who, &mask);
	if (ret) {
		shunt_robust_end(&who.robust);
		if (ret == -EDEADLK) /* the update that this one came in still needs it */
			shunt_failed_call = earlier;
		return ret;
	}
	owner = who.word & OWNER;
	robust_before = who.robust;
	mask_before = mask;
	shunt_pools_begin();
	if (!is_broken)
		return 0;
	unlock();
	shunt_failed_call = "the process was copied, or a child in its memory killed, while a "
			    "module was registered in it";
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

	shunt_proc_files_done();
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
	int32_t pid;

	if (!process)
		return;
	atomic_store_explicit(&process->whole, 0, memory_order_relaxed);
	pid = shunt_own_pid();
	atomic_store_explicit(&process->memory_pid, pid > 0 ? pid : 0, memory_order_relaxed);
	process->mem_fd = 0;
	if (!shunt_port_lock())
		unlock();
}

/* Early, because others' handlers may update. */
__attribute__((constructor(101))) static void watch_forks(void)
{
	(void)pthread_atfork(NULL, NULL, fork_child);
}
