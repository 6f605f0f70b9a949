/* SPDX-License-Identifier: MIT */
/*
 * Core sync by signals, for kernels whose membarrier(2) cannot do it (design, section
 * 5): every thread gets a signal, its handler executes a serialising instruction and
 * acknowledges, and the caller waits for all of them. What Userspace RCU did for
 * memory barriers before there was membarrier.
 *
 * Which round is acknowledged: the handler reads the number of the round, serialises,
 * and only then stores that number. So whatever made the handler run, a late signal of
 * an earlier round included, the thread has serialised after the writes of the round
 * that it acknowledges.
 *
 * Which threads: all that are listed by a listing that begins after the writes and is
 * complete. A thread that is made later first comes out of the kernel (by iret, which
 * serialises) into text that is written already.
 *
 * Who need not answer: a thread that has ended; and one that does not run, in vfork()
 * or stopped, with the signal pending and not blocked: it takes the signal before any
 * other instruction of the program. What is left to the hardware is a thread that has
 * answered on one CPU and goes on on another: the kernel's code lies between, but on
 * some paths no serialising instruction.
 *
 * Which signal: the highest real-time one with the default action, that the caller
 * does not block if there is such a one. A program that takes it later is noticed at
 * the next round, which takes another. The handler is never removed: a thread may be
 * about to run it.
 *
 * Not covered: other processes that run in the same memory, such as a child of
 * vfork(), because they are not listed. They may not update either (-EPERM).
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <linux/futex.h>

#include "linux/linux.h"
#include "linux/sync.h"
#include "linux/syscall.h"

/* sigaction as the kernel has it. */
struct action {
	void (*handler)(int sig, siginfo_t *info, void *context);
	unsigned long flags;
	void (*restorer)(void);
	uint64_t mask;
};

#define SA_RESTORER_FLAG 0x04000000ul

void shunt_restore_rt(void);

/*
 * One thread. Its address is what the signal carries, so it is not given to another
 * thread while a signal may be pending.
 */
struct slot {
	_Atomic uint32_t acked; /* the round, and SHUNT_WAITED */
	int32_t tid;            /* 0: free */
	struct slot *next;      /* of its bucket, or free */
	uint32_t seen;          /* the round in which it was listed last */
	uint32_t sent;          /* the round in which it was sent the signal last; 0: never */
	bool answers;           /* it has acknowledged that one */
	bool blocks;            /* it blocked the signal for as long as anybody waited */
};

#define SLOTS 500

struct chunk {
	struct chunk *next;
	struct slot slots[SLOTS];
};

/* Only ever added to: the handler walks it. */
static struct chunk *_Atomic chunks;

/* The number of the round, never 0; read by the handler. */
static _Atomic uint32_t generation;

/* Guarded by the update lock. */
static struct {
	int sig;       /* 0: none yet */
	int32_t pid;   /* of the process that the slots are of */
	uint64_t ends; /* when the round gives up, ns */
	struct shunt_tasks tasks;
	struct slot *bucket[256];
	struct slot *free;
} state;

#define MS 1000000u
/* How long a thread may take that is about to answer, and one that blocks the signal. */
#define PATIENCE         (10000ul * MS)
#define BLOCKED_PATIENCE (1000ul * MS)

static __thread char failure[96] __attribute__((tls_model("initial-exec")));

static int fail(int error, const char *what, int32_t tid)
{
	(void)snprintf(failure, sizeof(failure), "signal %d to thread %d, which %s", state.sig,
		       (int)tid, what);
	shunt_failed_call = failure;
	return error;
}

static long own_pid(void)
{
	return shunt_syscall(SYS_getpid, 0, 0, 0, 0);
}

static long own_tid(void)
{
	return shunt_syscall(SYS_gettid, 0, 0, 0, 0);
}

static uint64_t now(void)
{
	struct timespec t = {0, 0};

	(void)shunt_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&t, 0, 0);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ------------------------------------------------------------------ the handler */

static long sigaction_raw(int sig, const struct action *new, struct action *old)
{
	return shunt_syscall(SYS_rt_sigaction, sig, (long)new, (long)old, sizeof(new->mask));
}

/* The slot at @address, if one is there. */
static struct slot *slot_at(uintptr_t address)
{
	/* Pairs with add_chunk(). */
	struct chunk *c = atomic_load_explicit(&chunks, memory_order_acquire);

	for (; c; c = c->next)
		if (address - (uintptr_t)c->slots < sizeof(c->slots) &&
		    (address - (uintptr_t)c->slots) % sizeof(c->slots[0]) == 0)
			return (struct slot *)address;
	return NULL;
}

static void acknowledge(struct slot *slot)
{
	/* Pairs with start_round(): the writes came before it. */
	uint32_t round = atomic_load_explicit(&generation, memory_order_acquire);
	uint32_t old;

	shunt_serialise();
	/* Pairs with shunt_wait_word(). */
	old = atomic_exchange_explicit(&slot->acked, round, memory_order_acq_rel);
	if (old & SHUNT_WAITED)
		(void)shunt_syscall(SYS_futex, (long)&slot->acked, FUTEX_WAKE | FUTEX_PRIVATE_FLAG,
				    1, 0);
}

static void on_sync(int sig, siginfo_t *info, void *context);

/*
 * Somebody else's signal: the default action, as if we were not here. Not where a
 * handler that has replaced ours calls it as the one before.
 */
static void default_action(int sig)
{
	static const struct action dfl = {0};
	struct action current = {0};

	if (sigaction_raw(sig, NULL, &current) || current.handler != on_sync)
		return;
	(void)sigaction_raw(sig, &dfl, NULL);
	(void)shunt_syscall(SYS_tgkill, own_pid(), own_tid(), sig, 0);
}

/* Async-signal-safe, takes no lock, leaves errno alone; runs with all signals blocked. */
static void on_sync(int sig, siginfo_t *info, void *context)
{
	struct slot *slot = NULL;

	(void)context;
	if (info->si_code == SI_QUEUE)
		slot = slot_at((uintptr_t)info->si_value.sival_ptr);
	if (slot)
		acknowledge(slot);
	else
		default_action(sig);
}

/* ------------------------------------------------------------------- the signal */

static bool is_ours(int sig)
{
	struct action current = {0};

	return !sigaction_raw(sig, NULL, &current) && current.handler == on_sync;
}

/* Interrupted system calls are restarted; an alternate stack is used where there is one. */
static bool take(int sig)
{
	const struct action ours = {
		.handler = on_sync,
		.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_RESTORER_FLAG,
		.restorer = shunt_restore_rt,
		.mask = ~0ul,
	};
	struct action current = {0};

	if (sigaction_raw(sig, NULL, &current) || current.handler)
		return false;
	return !sigaction_raw(sig, &ours, NULL); /* valgrind keeps one for itself */
}

static int choose_of(uint64_t not )
{
	for (int sig = 64; sig >= SIGRTMIN; sig--)
		if (!(not >> (sig - 1) & 1) && take(sig))
			return sig;
	return 0;
}

static void forget_answers(void)
{
	for (struct chunk *c = atomic_load(&chunks); c; c = c->next)
		for (size_t i = 0; i < SLOTS; i++) {
			c->slots[i].sent = 0;
			c->slots[i].answers = false;
			c->slots[i].blocks = false;
		}
}

static int choose_signal(void)
{
	uint64_t mask = 0;

	if (state.sig && is_ours(state.sig))
		return 0;
	(void)shunt_syscall(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, sizeof(mask));
	state.sig = choose_of(mask);
	if (!state.sig)
		state.sig = choose_of(0);
	forget_answers();
	if (state.sig)
		return 0;
	shunt_failed_call = "no real-time signal is free";
	return -EAGAIN;
}

/* -------------------------------------------------------------------- the slots */

static bool add_chunk(void)
{
	struct chunk *c = shunt_port_alloc(sizeof(*c));

	if (!c)
		return false;
	for (size_t i = 0; i < SLOTS; i++) {
		c->slots[i].next = state.free;
		state.free = &c->slots[i];
	}
	c->next = atomic_load_explicit(&chunks, memory_order_relaxed);
	/* Pairs with slot_at(). */
	atomic_store_explicit(&chunks, c, memory_order_release);
	return true;
}

static struct slot *slot_of(int32_t tid)
{
	struct slot **head = &state.bucket[(uint32_t)tid % 256];
	struct slot *slot;

	for (slot = *head; slot; slot = slot->next)
		if (slot->tid == tid)
			return slot;
	if (!state.free && !add_chunk())
		return NULL;
	slot = state.free;
	state.free = slot->next;
	slot->tid = tid;
	slot->seen = 0;
	slot->sent = 0;
	slot->answers = false;
	slot->blocks = false;
	slot->next = *head;
	*head = slot;
	return slot;
}

/* Give back the slots of threads that were not listed: they and their signals are gone. */
static void drop_unseen(uint32_t round)
{
	for (size_t i = 0; i < 256; i++)
		for (struct slot **p = &state.bucket[i]; *p;) {
			struct slot *slot = *p;

			if (slot->seen == round) {
				p = &slot->next;
				continue;
			}
			*p = slot->next;
			slot->tid = 0;
			slot->next = state.free;
			state.free = slot;
		}
}

/* The child of a fork begins anew: it has one thread, and no signals are pending. */
static int check_process(void)
{
	struct shunt_process *process = shunt_process();
	int32_t pid = (int32_t)own_pid();

	if (process->signals_pid && process->signals_pid != pid) {
		shunt_failed_call = "the memory is another process's";
		return -EPERM;
	}
	process->signals_pid = pid;
	if (state.pid != pid)
		drop_unseen(SHUNT_WAITED); /* which is no round */
	state.pid = pid;
	return 0;
}

/*
 * Early, so that a child of vfork() is told apart from one of fork() by a number that
 * is set; the second is for kernels that cannot clear the page in a child.
 */
static void claim_process(void)
{
	shunt_process()->signals_pid = (int32_t)own_pid();
}

__attribute__((constructor(101))) static void watch_processes(void)
{
	claim_process();
	(void)pthread_atfork(NULL, NULL, claim_process);
}

/* ---------------------------------------------------------------------- a round */

static int send(struct slot *slot, uint32_t round)
{
	siginfo_t info = {0};
	long ret;

	info.si_signo = state.sig;
	info.si_code = SI_QUEUE;
	info.si_pid = state.pid;
	info.si_value.sival_ptr = slot;
	slot->sent = round;
	slot->answers = false;
	ret = shunt_syscall(SYS_rt_tgsigqueueinfo, state.pid, slot->tid, state.sig, (long)&info);
	if (!ret || ret == -ESRCH) /* gone; seen when it does not answer */
		return 0;
	return fail((int)ret, "cannot be sent it", slot->tid);
}

/* A thread that blocks the signal: whether there is no more waiting for that to end. */
static int blocked(struct slot *slot, bool waited)
{
	if (!waited || (!slot->blocks && now() < state.ends - PATIENCE + BLOCKED_PATIENCE))
		return 0;
	slot->blocks = true; /* not waited for again, until it is seen not to */
	return fail(-EAGAIN, "blocks it", slot->tid);
}

/*
 * See to a thread of which no answer has come. It can end the waiting for it, by an
 * answer in its place. (@again: what it was sent seems to be lost.)
 */
static int attend(struct slot *slot, uint32_t round, bool waited, bool again)
{
	enum shunt_task task = shunt_task_look(slot->tid, state.sig);

	if (task == SHUNT_TASK_BLOCKS)
		return blocked(slot, waited);
	slot->blocks = false;
	if (task == SHUNT_TASK_GONE || task == SHUNT_TASK_HELD) {
		slot->sent = 0; /* so it is looked at first the next time */
		atomic_store_explicit(&slot->acked, round, memory_order_relaxed);
		return 0;
	}
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
	struct slot *slot = slot_of(tid);

	if (!slot) {
		shunt_failed_call = "mmap";
		return -ENOMEM;
	}
	if (slot->seen == round)
		return 0;
	slot->seen = round;
	atomic_store_explicit(&slot->acked, is_self ? round : 0, memory_order_relaxed);
	if (is_self)
		return 0;
	return slot->answers ? send(slot, round) : attend(slot, round, false, false);
}

static int signal_listed(uint32_t round)
{
	int32_t self = (int32_t)own_tid();
	bool self_seen = false;

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
	} while (now() < state.ends);
	shunt_failed_call = "getdents64(/proc/self/task), which is never complete";
	return -EAGAIN;
}

static int await(struct slot *slot, uint32_t round)
{
	uint32_t ns = MS / 4;

	for (unsigned looks = 1; !shunt_wait_word(&slot->acked, round, ns); looks++) {
		int ret;

		if (!is_ours(state.sig))
			return -EINTR;
		ret = attend(slot, round, true, looks % 16 == 0);
		if (ret)
			return ret;
		if (now() > state.ends)
			return fail(-EAGAIN, "does not answer", slot->tid);
		ns = ns < 16 * MS ? 2 * ns : ns;
	}
	slot->answers = slot->sent == round;
	return 0;
}

static int await_all(uint32_t round)
{
	for (size_t i = 0; i < 256; i++)
		for (struct slot *slot = state.bucket[i]; slot; slot = slot->next) {
			int ret = slot->seen == round ? await(slot, round) : 0;

			if (ret)
				return ret;
		}
	return 0;
}

static uint32_t start_round(void)
{
	uint32_t round =
		(atomic_load_explicit(&generation, memory_order_relaxed) + 1) & ~SHUNT_WAITED;

	round = round ? round : 1;
	state.ends = now() + PATIENCE;
	/* Pairs with acknowledge(). */
	atomic_store_explicit(&generation, round, memory_order_seq_cst);
	return round;
}

static int run_round(void)
{
	uint32_t round;
	int ret = choose_signal();

	if (ret)
		return ret;
	round = start_round();
	ret = signal_all(round);
	if (!ret) {
		drop_unseen(round);
		ret = await_all(round);
	}
	return ret;
}

int shunt_signal_sync(void)
{
	int ret = check_process();

	if (ret)
		return ret;
	shunt_serialise();
	do
		ret = run_round();
	while (ret == -EINTR); /* the program has taken the signal meanwhile */
	return ret;
}
