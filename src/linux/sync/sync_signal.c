/* SPDX-License-Identifier: MIT */
/*
 * Core sync by signals, for kernels whose membarrier(2) cannot do it (before Linux 4.16;
 * gVisor): every thread gets a signal, its handler executes a serialising instruction and
 * acknowledges (sync_handler.c), and the caller waits for all of them. What Userspace
 * RCU did for memory barriers before there was membarrier.
 *
 * Which threads: all that are listed by a listing that begins after the writes and is
 * complete. A thread that is made later first comes out of the kernel (by iret, which
 * serialises) into text that is written already.
 *
 * Who need not answer: a thread that has ended; and one that does not run, in vfork()
 * or stopped, with the signal pending and not blocked: it takes the signal before any
 * other instruction of the program. What is left to the hardware is a thread that has
 * answered on one CPU and goes on on another, and one whose tracer keeps the signal
 * from it after a stop: the kernel's code lies between, but on some paths no
 * serialising instruction.
 *
 * Not covered: other processes that run in the same memory, such as a child of
 * vfork(), because they are not listed. They may not update either (-EPERM).
 *
 * A copy of the process that is made in the middle of a round has its updating thread at
 * most, if that one made it (in a signal handler). It makes the round once more.
 */
#include <errno.h>
#include <signal.h>

#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/base/tasks.h"
#include "linux/sync/serialise.h"
#include "linux/sync/sync.h"
#include "linux/sync/sync_handler.h"
#include "linux/sync/sync_signal.h"
#include "linux/sync/sync_slots.h"

#define MS 1000000u
/* How long a thread may take that is about to answer, and one that blocks the signal. */
#define PATIENCE         (10000ul * MS)
#define BLOCKED_PATIENCE (1000ul * MS)
/* And in clock ticks, of its own CPU time, where it is ready to run: it may only be in a handler.
 */
#define BLOCKED_TICKS 4
/* The most that counts between two looks at the clock: the process may be stopped. */
#define LONGEST_LOOK (100ul * MS)

/* Guarded by the update lock. */
static struct {
	uint64_t looked; /* at the clock, ns */
	uint64_t waited; /* in this round, ns */
	bool is_full;    /* there was no room for a signal, all the time that one may wait for it */
	bool (*spares)(int32_t tid);
	struct shunt_tasks tasks;
} state;

static int fail(int error, const char *what, int32_t tid)
{
	char *failure = shunt_call_buffer();

	if (failure)
		shunt_format(failure, SHUNT_CALL_MAX, "signal %d to thread %d, which %s",
			     shunt_sync_signal, (int)tid, what);
	shunt_failed_call = failure ? failure : "a signal to each thread";
	return error;
}

/*
 * For how long this round has waited. Time in which the whole process was stopped (SIGSTOP,
 * a debugger) is not the threads' fault, and hardly counts.
 */
static uint64_t time_waited(void)
{
	uint64_t time = shunt_clock(), since = time - state.looked;

	state.looked = time;
	state.waited += since < LONGEST_LOOK ? since : LONGEST_LOOK;
	return state.waited;
}

/* ---------------------------------------------------------------------- sending */

static long queue(struct shunt_sync_slot *slot)
{
	siginfo_t info = {0};
	int32_t pid = shunt_own_pid(); /* now: a copy must not send to its parent's threads */

	shunt_sync_fill(&info, slot);
	return shunt_syscall(SYS_rt_tgsigqueueinfo, pid, slot->tid, shunt_sync_signal, (long)&info);
}

/*
 * The user's signals that are pending are as many as RLIMIT_SIGPENDING allows: others take theirs,
 * for as long as one waits for a thread that blocks the signal. Where that was in vain there is no
 * more waiting until there has been room.
 */
static long queue_when_room(struct shunt_sync_slot *slot, uint32_t round)
{
	uint64_t since = time_waited();
	long ret = queue(slot);

	while (ret == -EAGAIN && !state.is_full) {
		if (shunt_wait_word(&slot->acked, round, MS)) /* an earlier one has done */
			return 0;
		shunt_answer_others();
		ret = queue(slot);
		state.is_full = ret == -EAGAIN && time_waited() - since >= BLOCKED_PATIENCE;
	}
	state.is_full = ret == -EAGAIN;
	return ret;
}

static int send(struct shunt_sync_slot *slot, uint32_t round)
{
	long ret;

	slot->sent = round;
	slot->answers = false;
	ret = queue_when_room(slot, round);
	if (!ret || ret == -ESRCH) /* gone; seen when it does not answer */
		return 0;
	return fail((int)ret,
		    ret == -EAGAIN
			    ? "cannot be sent it (rt_tgsigqueueinfo: RLIMIT_SIGPENDING is reached)"
			    : "cannot be sent it (rt_tgsigqueueinfo)",
		    slot->tid);
}

/*
 * Whether what is sent comes: to this thread, which blocks it. A filter may answer 0 for the
 * call.
 */
static int try_sending(uint32_t round)
{
	struct shunt_sync_slot *self = shunt_sync_slot_of(shunt_own_tid());
	uint64_t pending = 0;
	bool comes;

	if (!self)
		return 0;
	atomic_store_explicit(&self->acked, 0, memory_order_relaxed);
	comes = queue(self) ||
		(!shunt_syscall(SYS_rt_sigpending, (long)&pending, sizeof(pending), 0, 0) &&
		 pending >> (shunt_sync_signal - 1) & 1) ||
		atomic_load_explicit(&self->acked, memory_order_relaxed);
	atomic_store_explicit(&self->acked, round, memory_order_relaxed);
	if (comes)
		return 0;
	shunt_failed_call = "rt_tgsigqueueinfo";
	return -EPERM;
}

/* What has been seen of a thread while it was waited for. */
struct watch {
	unsigned looks;
	uint64_t blocks_since; /* time_waited() at the first of the looks that said so; 0: none */
	uint64_t ticks;        /* its CPU time then */
};

/* A thread that blocks the signal: whether there is no more waiting for that to end. */
static int on_blocked(struct shunt_sync_slot *slot, struct watch *watch)
{
	uint64_t time = time_waited() + 1, ticks = 0;

	if (!watch)
		return 0;
	if (!watch->blocks_since) {
		watch->blocks_since = time;
		(void)shunt_task_is_ready(slot->tid, &watch->ticks);
	}
	if (!slot->blocks && time - watch->blocks_since < BLOCKED_PATIENCE)
		return 0;
	/* On a busy machine it may hardly have run. */
	if (!slot->blocks && shunt_task_is_ready(slot->tid, &ticks) &&
	    ticks - watch->ticks < BLOCKED_TICKS)
		return 0;
	slot->blocks = true; /* not waited for again, until it is seen not to */
	return fail(-EAGAIN, "blocks it", slot->tid);
}

/*
 * See to a thread of which no answer has come. It can end the waiting for it, by an
 * answer in its place. (@watch: NULL while it is not waited for.)
 */
static int look_at_silent(struct shunt_sync_slot *slot, uint32_t round, struct watch *watch)
{
	enum shunt_task task = shunt_task_look(slot->tid, shunt_sync_signal);
	bool again = watch && watch->looks % 16 == 0; /* what it was sent seems to be lost */

	/*
	 * It blocks the signal, perhaps for a moment (SHUNT_TASK_PENDING), and has come to sleep
	 * since it was sent it: on a lock, for one, that this thread has.
	 */
	if (watch && (task == SHUNT_TASK_BLOCKS || task == SHUNT_TASK_PENDING) && state.spares &&
	    state.spares(slot->tid)) {
		atomic_store_explicit(&slot->acked, round, memory_order_relaxed);
		return 0;
	}
	if (task == SHUNT_TASK_BLOCKS)
		return on_blocked(slot, watch);
	slot->blocks = false;
	if (watch)
		watch->blocks_since = 0;
	if (task == SHUNT_TASK_GONE || task == SHUNT_TASK_HELD) {
		slot->sent = 0; /* so it is looked at first the next time */
		atomic_store_explicit(&slot->acked, round, memory_order_relaxed);
		return 0;
	}
	if (task == SHUNT_TASK_OPEN && again && try_sending(round))
		return -EPERM;
	if ((task == SHUNT_TASK_OPEN && (again || slot->sent != round)) ||
	    (task == SHUNT_TASK_UNKNOWN && !slot->sent))
		return send(slot, round);
	return 0;
}

/*
 * A thread that is known to answer is sent the signal at once. Another one is looked
 * at first, so that no signal is left pending for one that blocks it, and perhaps
 * waits for signals with sigwait().
 */
static int signal_one(int32_t tid, uint32_t round, bool is_self)
{
	struct shunt_sync_slot *slot = shunt_sync_slot_of(tid);

	if (!slot) {
		shunt_failed_call = "mmap";
		return shunt_port_no_memory();
	}
	if (slot->seen == round)
		return 0;
	slot->seen = round;
	is_self |= state.spares && state.spares(tid);
	atomic_store_explicit(&slot->acked, is_self ? round : 0, memory_order_relaxed);
	if (is_self)
		return 0;
	return slot->answers ? send(slot, round) : look_at_silent(slot, round, NULL);
}

static int signal_listed(uint32_t round)
{
	int32_t self = shunt_own_tid();
	int error = shunt_check_tid(self);
	bool self_seen = false;

	if (error)
		return error;
	for (size_t i = 0; i < state.tasks.n; i++) {
		int32_t tid = state.tasks.tids[i];
		int ret = signal_one(tid, round, tid == self);

		if (ret)
			return ret;
		self_seen |= tid == self;
	}
	/* Seen from another PID namespace, threads have other numbers. */
	if (self_seen || !state.tasks.complete)
		return 0;
	shunt_failed_call = "/proc/self/task is not of this PID namespace";
	return -ENOSYS;
}

static int signal_all(uint32_t round)
{
	do {
		int ret = shunt_tasks_list(&state.tasks);

		if (!ret)
			ret = signal_listed(round);
		if (ret)
			return ret;
		if (state.tasks.complete)
			return 0;
	} while (time_waited() < PATIENCE);
	shunt_failed_call = "getdents64(/proc/self/task), which is never complete";
	return -EAGAIN;
}

/* ---------------------------------------------------------------------- waiting */

static int await(struct shunt_sync_slot *slot, uint32_t round)
{
	struct watch watch = {.looks = 1};
	uint32_t ns = MS / 4;

	for (; !shunt_wait_word(&slot->acked, round, ns); watch.looks++) {
		int ret;

		shunt_answer_others();
		if (!shunt_has_sync_signal()) {
			shunt_failed_call = "the program takes the signal of the sync";
			return -EINTR;
		}
		ret = look_at_silent(slot, round, &watch);
		if (ret)
			return ret;
		if (time_waited() > PATIENCE) {
			slot->blocks = watch.blocks_since != 0;
			return fail(-EAGAIN, slot->blocks ? "blocks it" : "does not answer",
				    slot->tid);
		}
		ns = ns < 16 * MS ? 2 * ns : ns;
	}
	slot->answers = slot->sent == round;
	return 0;
}

static int await_all(uint32_t round)
{
	shunt_answer_others();
	for (size_t i = 0; i < SHUNT_BUCKETS; i++)
		for (struct shunt_sync_slot *slot = shunt_sync_slot_buckets[i]; slot;
		     slot = slot->next) {
			int ret = slot->seen == round ? await(slot, round) : 0;

			if (ret)
				return ret;
		}
	return 0;
}

/* ---------------------------------------------------------------------- a round */

static uint32_t start_round(void)
{
	uint32_t round =
		(atomic_load_explicit(&shunt_sync_round, memory_order_relaxed) + 1) & ~SHUNT_WAITED;

	round = round ? round : 1;
	state.looked = shunt_clock();
	state.waited = 0;
	/* Pairs with acknowledge(). */
	atomic_store_explicit(&shunt_sync_round, round, memory_order_seq_cst);
	return round;
}

static int run_round(void)
{
	uint32_t round;
	int ret = shunt_choose_sync_signal();

	if (ret)
		return ret;
	round = start_round();
	ret = signal_all(round);
	if (!ret) {
		shunt_sync_slots_drop(round);
		ret = await_all(round);
	}
	return ret;
}

#define TAKEN_MAX 100 /* a filter may answer EINTR for a call each time */

int shunt_signal_sync(void)
{
	int ret = shunt_sync_slots_of_process(), again;
	unsigned taken = 0;

	if (ret == -EINTR) /* this process's first */
		ret = 0;
	if (ret)
		return ret;
	shunt_serialise();
	do {
		ret = run_round();
		again = shunt_sync_slots_of_process();
	} while ((again == -EINTR ||            /* made in a parent */
		  (!again && ret == -EINTR)) && /* the program has taken the signal meanwhile */
		 ++taken < TAKEN_MAX);
	return again ? again : ret;
}

int shunt_signal_those(bool (*spares)(int32_t tid))
{
	int ret;

	state.spares = spares;
	ret = shunt_signal_sync();
	state.spares = NULL;
	return ret;
}

/*
 * Of the signals that are pending for a thread the kernel takes that of its own trap first, and
 * in that handler all others are blocked: whoever has answered has left it. What is left is the
 * handler of the answer, in which everything is blocked too.
 */
#define DRAIN_LOOKS 1000

static void await_left(int32_t tid)
{
	for (int looks = 0; looks < DRAIN_LOOKS; looks++) {
		enum shunt_task task = shunt_task_look(tid, shunt_sync_signal);

		if (task != SHUNT_TASK_BLOCKS && task != SHUNT_TASK_UNKNOWN)
			return;
		(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
	}
}

void shunt_signal_drain(void)
{
	const char *earlier = shunt_failed_call;
	int32_t self = shunt_own_tid();

	if (!shunt_signal_sync())
		for (size_t i = 0; i < state.tasks.n; i++)
			if (state.tasks.tids[i] != self)
				await_left(state.tasks.tids[i]);
	shunt_failed_call = earlier;
}
