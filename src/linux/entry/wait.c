/* SPDX-License-Identifier: MIT */
/*
 * Waiting for callbacks that run. What they were called by has been taken away, and a core sync
 * made, which is a memory barrier on every thread: so a guard that is not seen set now is set by
 * a thread that finds nothing any more (what sys_membarrier() is for; a stub has no barrier). One
 * that is set is waited for until it has been unset once, which its count tells.
 *
 * A guard that is never unset: its thread has ended; or a signal handler on top of the callback
 * has left it by longjmp(), in a thread that traces nothing since. The latter is seen where the
 * thread sleeps, by its stack pointer above the guard. Both are seen once, and remembered.
 *
 * A callback may wait for a mutex, as dladdr() does for that of the dynamic linker. Should its
 * owner be the thread that waits here, or one that waits for the lock of this one's call, a
 * constructor for instance, nobody would go on: the futex that the callback sleeps at tells.
 */
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/ftrace.h"
#include "linux/base/alone.h"
#include "linux/base/base.h"
#include "linux/base/format.h"
#include "linux/base/syscall.h"
#include "linux/entry/context.h"
#include "linux/entry/modules.h"

#define MS 1000000ul

/* Looks without a pause; how long the CPU is offered to others then; and between two questions. */
#define SPINS     200
#define YIELDING  MS
#define PATIENCE  (10 * MS)
#define MAX_STACK ((uintptr_t)8 << 20)

static void relax(uint64_t waited)
{
	struct timespec moment = {0, 50000};

	if (waited < YIELDING) /* a turn of a thread that computes takes longer than that */
		(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
	else
		(void)shunt_syscall(SYS_nanosleep, (long)&moment, 0, 0, 0);
}

/* "202 0x7f..." */
static uintptr_t futex_of(const char *text)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	return number == SYS_futex && *end == ' ' ? strtoul(end, NULL, 16) : 0;
}

/*
 * Where a thread sleeps: its stack pointer, and a futex. 0: it does not, or it is not to be seen;
 * HAS_ENDED: it is the process's first, which others outlive.
 */
#define HAS_ENDED UINTPTR_MAX

static uintptr_t sleeping_sp(int32_t tid, uintptr_t *futex)
{
	char path[64], text[256];
	long fd, n;
	char *at;

	*futex = 0;

	shunt_format(path, sizeof(path), "/proc/self/task/%d/syscall", (int)tid);
	fd = shunt_syscall(SYS_openat, -100, (long)path, 02000000 /* O_CLOEXEC */, 0);
	if (fd < 0)
		return 0;
	n = shunt_syscall(SYS_read, fd, (long)text, sizeof(text) - 1, 0);
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	text[n > 0 ? n : 0] = '\0';
	if (!strcmp(text, "-1 0x0 0x0\n")) /* fs/proc/base.c: it has no stack any more */
		return HAS_ENDED;
	*futex = futex_of(text);
	at = strrchr(text, ' '); /* ... sp pc */
	if (!at)
		return 0;
	*at = '\0';
	at = strrchr(text, ' ');
	return at ? strtoul(at + 1, NULL, 16) : 0;
}

/* By calls that filters let pass (shunt-trace(1)). */
static bool read_pointer(const void *from, void *to)
{
	long fd = shunt_syscall(SYS_openat, -100, (long)"/proc/self/mem", 02000000, 0), n;

	if (fd < 0)
		return false;
	n = shunt_syscall(SYS_pread64, fd, (long)to, sizeof(void *), (long)from);
	(void)shunt_syscall(SYS_close, fd, 0, 0, 0);
	return n == sizeof(void *);
}

/*
 * Where the kernel finds the thread's robust mutexes (get_robust_list(2)): the C library has that
 * beside its thread-local storage, always as far away. 0: not known.
 */
static uintptr_t robust_list_of(int32_t tid)
{
	uintptr_t head = 0, size = 0;

	return shunt_syscall(SYS_get_robust_list, tid, (long)&head, (long)&size, 0) ? 0 : head;
}

/*
 * Whether the thread that has the number now is another one than the record's: whose storage is
 * no more, or has been a new thread's since, or is kept by the C library for one, while the number
 * belongs to a thread with other storage.
 */
static bool has_successor(const struct shunt_context *c)
{
	struct shunt_context **of = atomic_load(&c->of), *held;
	int32_t tid = atomic_load(&c->tid);
	uintptr_t own, its;

	if (tid <= 0) /* it has none */
		return false;
	if (shunt_probe((uintptr_t)of) == -EFAULT)
		return true;
	if (read_pointer(of, &held) && held != c)
		return true;
	if (shunt_is_filtered()) /* the filter may kill who asks */
		return false;
	own = robust_list_of(0);
	its = own ? robust_list_of(tid) : 0;
	return its && its - (uintptr_t)of != own - (uintptr_t)&shunt_context;
}

enum left { NOT_LEFT, LEFT, LEFT_FOR_GOOD };

/* A handler on top of the callback may sleep too, on a stack that lies above. */
static enum left find_left(const struct shunt_context *c)
{
	unsigned depth = c->depth;
	uintptr_t guard = depth ? c->outer[0] : atomic_load(&c->sp), sp, futex;

	if (shunt_context_is_gone(c) || has_successor(c))
		return LEFT_FOR_GOOD;
	sp = sleeping_sp(atomic_load(&c->tid), &futex);
	shunt_callback_sleeps_at(futex);
	if (sp == HAS_ENDED)
		return LEFT_FOR_GOOD;
	if (sp <= guard || sp - guard >= MAX_STACK || shunt_find_handler(sp, guard))
		return NOT_LEFT;
	return depth ? LEFT : LEFT_FOR_GOOD;
}

/*
 * A guard that was seen to have been left is that still: whoever sets one anew on that thread, or
 * takes the record for another one, resets it first, which is counted (context.c). Not so
 * where there are several on top of each other: they are reset one by one, the last is counted.
 */
static bool is_known_left(const struct shunt_context *c, uintptr_t guard, uint64_t seq)
{
	return atomic_load(&c->left_sp) == guard && atomic_load(&c->left_seq) == seq;
}

static void note_left(struct shunt_context *c, uintptr_t guard, uint64_t seq)
{
	atomic_store(&c->left_seq, seq);
	atomic_store(&c->left_sp, guard);
}

static bool is_unset(const struct shunt_context *c, uint64_t seq)
{
	return !atomic_load_explicit(&c->sp, memory_order_acquire) ||
	       atomic_load_explicit(&c->seq, memory_order_acquire) != seq;
}

/* 0; -EDEADLK: it waits for this thread. */
static int await(struct shunt_context *c)
{
	uint64_t seq = atomic_load_explicit(&c->seq, memory_order_acquire), begin, asked;
	uintptr_t guard = atomic_load_explicit(&c->sp, memory_order_acquire);
	enum left left;

	if (!guard || is_known_left(c, guard, seq))
		return 0;
	for (unsigned looks = 0; looks < SPINS; looks++) {
		if (is_unset(c, seq))
			return 0;
		shunt_relax_cpu();
	}
	left = shunt_context_is_gone(c) ? LEFT_FOR_GOOD : NOT_LEFT;
	begin = asked = shunt_clock();
	while (left == NOT_LEFT) {
		uint64_t now = shunt_clock();

		if (is_unset(c, seq))
			return 0;
		relax(now - begin);
		if (now - asked < PATIENCE)
			continue;
		left = find_left(c);
		if (left == NOT_LEFT && shunt_callback_waits_for_caller())
			return -EDEADLK;
		asked = shunt_clock();
	}
	if (left == LEFT_FOR_GOOD)
		note_left(c, guard, seq);
	return 0;
}

int shunt_port_trace_wait(void)
{
	const char *earlier = shunt_failed_call;
	const bool has_sets = shunt_sets_are_locked();
	int ret = 0;

	/* Callbacks may be waiting for the dynamic linker, and that for the sets (trace_lock.c). */
	if (has_sets)
		shunt_sets_pause();
	for (struct shunt_context_chunk *k = &shunt_context_chunks; k; k = atomic_load(&k->next))
		for (size_t i = 0; i < SHUNT_CONTEXTS_OF_CHUNK; i++)
			if (&k->contexts[i] != shunt_context && !ret)
				ret = await(&k->contexts[i]);
	shunt_callback_sleeps_at(0);
	while (has_sets && !shunt_sets_are_locked() && shunt_sets_lock(false))
		(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
	shunt_failed_call = ret ? "a callback waits for a lock that this thread has" : earlier;
	return ret;
}
