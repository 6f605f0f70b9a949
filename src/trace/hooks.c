/* SPDX-License-Identifier: MIT */
/*
 * The hooks: an event into the thread's ring. They run in the place of a function's call and
 * return, anywhere: in malloc, in signal handlers, in a thread that ends. No lock, no C library, no
 * vector register, and no store to a line that another thread writes, but the ring's own @limit.
 * Where a ring has no room system calls are made, and in a child of fork() the C library is called:
 * with the vector registers saved.
 */
#include <errno.h>

#include "linux/base/syscall.h"
#include "trace/child.h"
#include "trace/clock.h"
#include "trace/hooks.h"
#include "trace/ring.h"
#include "trace/state.h"
#include "trace/wake.h"

/* No signal handler on this thread gets the same number; no other thread adds to it. */
static inline uint64_t add_one(_Atomic uint64_t *counter)
{
	return shunt_add_on_thread(counter, 1);
}

static inline void put(struct trace_ring *ring, uint64_t word0, uint64_t word1)
{
	struct trace_slot *slot = &ring->slots[add_one(&ring->head) & ring->mask];

	/* In the flight recorder there is an older event. Pairs with the reads in snapshot.c. */
	atomic_store_explicit(&slot->word[1], 0, memory_order_release);
	atomic_store_explicit(&slot->word[0], word0, memory_order_release);
	/* Pairs with the acquire in stream.c. */
	atomic_store_explicit(&slot->word[1], word1, memory_order_release);
}

/* ------------------------------------------------------------- where there is no room */

/* A signal handler may have got one meanwhile: then that one. */
static struct trace_ring *first_ring(struct trace_ring *was)
{
	struct trace_ring *ring = trace_ring_get();

	if (!ring) {
		atomic_fetch_add(&trace_lost_without_ring, 1);
		return NULL;
	}
	atomic_signal_fence(memory_order_seq_cst);
	if (trace_own_ring != was) {
		trace_ring_release(ring);
		return trace_own_ring;
	}
	trace_own_ring = ring;
	return ring;
}

/*
 * Room again behind a loss: a mark in the place of what is missing. The consumer leaves @limit at 0
 * where there was one, so that it is made before the next event.
 */
static void mark_loss(struct trace_ring *ring)
{
	uint64_t lost = atomic_exchange(&ring->lost, 0);

	if (lost)
		put(ring, lost, TRACE_LOST_MARK);
}

/* Below the last limit: up to there, and the consumer is woken. */
static bool raise_limit(struct trace_ring *ring)
{
	uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);

	if (atomic_load_explicit(&ring->head, memory_order_relaxed) >= trace_hard_limit(ring, tail))
		return false;
	atomic_store_explicit(&ring->limit, trace_hard_limit(ring, tail), memory_order_relaxed);
	return true;
}

static inline bool has_room(struct trace_ring *ring)
{
	return atomic_load_explicit(&ring->head, memory_order_relaxed) <
	       atomic_load_explicit(&ring->limit, memory_order_relaxed);
}

/* The ring that has room for the next event; NULL: it is lost, and counted. */
static struct trace_ring *look_for_room(struct trace_ring *ring)
{
	if (ring == &trace_not_here)
		return NULL;
	if (ring == &trace_no_ring ||
	    atomic_load_explicit(&ring->state, memory_order_relaxed) == TRACE_RING_RETIRED) {
		ring = first_ring(ring);
		if (!ring || ring == &trace_not_here)
			return NULL;
		trace_owner_open();
		if (has_room(ring))
			return ring;
	}
	if (trace_owner_writes())
		trace_owner_write(ring);
	else
		trace_wake_consumer();
	if (!raise_limit(ring)) {
		(void)add_one(&ring->lost);
		return NULL;
	}
	mark_loss(ring);
	return ring;
}

static void replace_by_room(void *arg)
{
	struct trace_ring **ring = arg;

	*ring = look_for_room(*ring);
}

static __attribute__((noinline, cold)) struct trace_ring *find_room(struct trace_ring *ring)
{
	shunt_saving_vectors(replace_by_room, &ring);
	return ring;
}

/* --------------------------------------------------------------------- every call */

static __attribute__((noinline, cold)) void
record_slowly(uint64_t ticks, enum trace_event_kind kind, uintptr_t ip, uintptr_t sp)
{
	struct trace_ring *ring = find_room(trace_own_ring);

	if (ring)
		put(ring, trace_word0(ticks - ring->start, sp), trace_word1(kind, sp, ip));
}

static inline void record(uint64_t ticks, enum trace_event_kind kind, uintptr_t ip, uintptr_t sp)
{
	struct trace_ring *ring = trace_own_ring;

	if (__builtin_expect(has_room(ring), 1))
		put(ring, trace_word0(ticks - ring->start, sp), trace_word1(kind, sp, ip));
	else
		record_slowly(ticks, kind, ip, sp);
}

static inline void entry_all(enum trace_clock_source clock, uintptr_t ip, uintptr_t sp,
			     enum shunt_raw_how how)
{
	uint64_t ticks = trace_clock_ticks(clock);

	if (__builtin_expect(how == SHUNT_RAW_TAIL, 0))
		record(ticks, TRACE_TAIL, 0, sp);
	record(ticks, how == SHUNT_RAW_NO_RETURN ? TRACE_CALL : TRACE_ENTRY, ip, sp);
}

static inline void return_all(enum trace_clock_source clock, uintptr_t func, uintptr_t sp)
{
	record(trace_clock_ticks(clock), TRACE_RETURN, func, sp);
}

/* ------------------------------------------------------- calls that last for min_ns */

/*
 * An entry waits in ring->pending until its call has returned: short, it is forgotten; else it goes
 * into the ring, after those that wait below it, which are longer. So do all where calls are not
 * nested, because one was left by longjmp() or the thread has changed stacks; and what finds no
 * room to wait is recorded, however short. Whatever goes into the ring, what waits goes first:
 * times never go back.
 *
 * A slot above @depth is 0; one below, which a signal handler finds 0, is being written by what it
 * has interrupted.
 */
enum { PENDING = 1, FLUSHED = 2 };

/* The first @n entries, outermost first; those that are in the ring already are at the bottom. */
static void flush(struct trace_ring *ring, uint64_t n)
{
	uint64_t first = n;

	while (first && ring->pending[first - 1].state != FLUSHED)
		first--;
	for (uint64_t i = first; i < n; i++) {
		struct trace_pending *p = &ring->pending[i];

		if (p->state != PENDING)
			continue;
		p->state = FLUSHED;
		record(p->time, TRACE_ENTRY, p->ip, p->sp);
	}
}

static inline void pop_to(struct trace_ring *ring, uint64_t depth, uint64_t n)
{
	while (n > depth)
		ring->pending[--n].state = 0;
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&ring->depth, depth, memory_order_relaxed);
}

/* Its own ring, whether or not there is room in it. */
static inline struct trace_ring *ring_for_pending(void)
{
	struct trace_ring *ring = trace_own_ring;

	return __builtin_expect(ring->pending != NULL, 1) ? ring : find_room(ring);
}

static inline bool is_over(const struct trace_pending *p, uintptr_t ip, uintptr_t sp)
{
	return p->state && (p->sp < sp || (p->sp == sp && p->ip == ip));
}

static inline void wait_for_return(struct trace_ring *ring, uint64_t ticks, uintptr_t ip,
				   uintptr_t sp)
{
	uint64_t n = atomic_load_explicit(&ring->depth, memory_order_relaxed), top = n;
	struct trace_pending *p;

	while (top && is_over(&ring->pending[top - 1], ip, sp))
		top--;
	if (__builtin_expect(top < n || n >= TRACE_PENDING_MAX, 0)) {
		flush(ring, n);
		pop_to(ring, top, n);
		if (top >= TRACE_PENDING_MAX) {
			record(ticks, TRACE_ENTRY, ip, sp);
			return;
		}
	}
	/* One more may be taken by each signal handler: there is room for them at the end. */
	p = &ring->pending[add_one(&ring->depth)];
	p->time = ticks;
	p->ip = ip;
	p->sp = sp;
	atomic_signal_fence(memory_order_seq_cst);
	p->state = PENDING;
}

/* How many wait below the last one with this stack pointer, and that one; 0: there is none. */
static inline uint64_t find_pending(const struct trace_ring *ring, uint64_t n, uintptr_t sp)
{
	for (uint64_t i = n; i > 0; i--) {
		const struct trace_pending *p = &ring->pending[i - 1];

		if (p->state && p->sp == sp)
			return i;
		if (p->state && p->sp > sp)
			break;
	}
	return 0;
}

/* A frame is no bigger: what is further below is on another stack. */
#define FRAME_MAX ((uintptr_t)1 << 20)

/* The same, for a return that is told from where the frame began: the outermost one in it. */
static uint64_t find_pending_frame(const struct trace_ring *ring, uint64_t n, uintptr_t sp)
{
	uint64_t found = 0;

	for (uint64_t i = n; i > 0; i--) {
		const struct trace_pending *p = &ring->pending[i - 1];

		if (p->state && (p->sp >= sp || sp - p->sp > FRAME_MAX))
			break;
		found = i;
	}
	return found;
}

static inline void end_pending(struct trace_ring *ring, uint64_t ticks, uintptr_t func,
			       uintptr_t sp, enum trace_event_kind kind)
{
	uint64_t n = atomic_load_explicit(&ring->depth, memory_order_relaxed);
	uint64_t found = find_pending(ring, n, sp);

	if (!found && func)
		found = find_pending_frame(ring, n, sp);
	if (found && found == n && ring->pending[n - 1].state == PENDING &&
	    ticks - ring->pending[n - 1].time < ring->min) {
		pop_to(ring, n - 1, n);
		return;
	}
	flush(ring, n);
	if (found)
		pop_to(ring, found - 1, n);
	record(ticks, kind, func, sp);
}

static inline void entry_min(enum trace_clock_source clock, uintptr_t ip, uintptr_t sp,
			     enum shunt_raw_how how)
{
	uint64_t ticks = trace_clock_ticks(clock);
	struct trace_ring *ring = ring_for_pending();

	if (!ring)
		return;
	if (how == SHUNT_RAW_TAIL)
		end_pending(ring, ticks, 0, sp, TRACE_TAIL);
	if (how != SHUNT_RAW_NO_RETURN) {
		wait_for_return(ring, ticks, ip, sp);
		return;
	}
	/* Its return will not be told, so nobody can say that it was short. */
	flush(ring, atomic_load_explicit(&ring->depth, memory_order_relaxed));
	record(ticks, TRACE_CALL, ip, sp);
}

static inline void return_min(enum trace_clock_source clock, uintptr_t func, uintptr_t sp)
{
	uint64_t ticks = trace_clock_ticks(clock);
	struct trace_ring *ring = ring_for_pending();

	if (ring)
		end_pending(ring, ticks, func, sp, TRACE_RETURN);
}

void trace_flush_pending(struct trace_ring *ring, uint64_t now)
{
	struct trace_ring *own = trace_own_ring;
	uint64_t n = atomic_load(&ring->depth), lasting = 0;

	if (!ring->pending)
		return;
	while (lasting < n && now - ring->pending[lasting].time >= ring->min)
		lasting++;
	trace_own_ring = ring;
	flush(ring, lasting);
	trace_own_ring = own;
	pop_to(ring, 0, n);
}

/* ------------------------------------------------------------------------- by kind */

#define HOOKS(name, calls, clock)                                                    \
	static void name##_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how) \
	{                                                                            \
		entry_##calls(clock, ip, sp, how);                                   \
	}                                                                            \
	static void name##_return(uintptr_t func, uintptr_t sp)                      \
	{                                                                            \
		return_##calls(clock, func, sp);                                     \
	}                                                                            \
	static const struct trace_hooks name = {name##_entry, name##_return, false}

/* All calls by the processor's clock: in assembly, if there is any, where nothing is in the way. */
void trace_slow_entry(uintptr_t ip, uintptr_t sp, enum shunt_raw_how how)
{
	entry_all(TRACE_CLOCK_TSC, ip, sp, how);
}

void trace_slow_return(uintptr_t func, uintptr_t sp)
{
	return_all(TRACE_CLOCK_TSC, func, sp);
}

#if SHUNT_HAS_FAST_HOOKS
static const struct trace_hooks tsc_all = {trace_fast_entry, trace_fast_return, true};
#else
static const struct trace_hooks tsc_all = {trace_slow_entry, trace_slow_return, false};
#endif

_Static_assert(offsetof(struct trace_ring, head) == 0 && offsetof(struct trace_ring, limit) == 8 &&
		       offsetof(struct trace_ring, slots) == 4096 &&
		       offsetof(struct trace_ring, mask) == 4104 &&
		       offsetof(struct trace_ring, start) == 4112,
	       "trace_hooks.S has them");
_Static_assert(TRACE_STACK_BITS == 30 && TRACE_ADDR_BITS == 47 && TRACE_ENTRY == 0, "and these");

HOOKS(tsc_min, min, TRACE_CLOCK_TSC);
HOOKS(monotonic_all, all, TRACE_CLOCK_MONOTONIC);
HOOKS(monotonic_min, min, TRACE_CLOCK_MONOTONIC);

const struct trace_hooks *trace_hooks_for(enum trace_clock_source clock, bool has_min)
{
	if (clock == TRACE_CLOCK_TSC)
		return has_min ? &tsc_min : &tsc_all;
	return has_min ? &monotonic_min : &monotonic_all;
}
