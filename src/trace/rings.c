/* SPDX-License-Identifier: MIT */
/*
 * Where rings come from, and who has which. A hook asks for one: no lock, no C library. The list
 * only grows, at its head; who owns a ring is its @state, which is claimed by an exchange.
 */
#include <errno.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "linux/base/syscall.h"
#include "trace/ring.h"

struct trace_ring *_Atomic trace_rings;
_Atomic uint32_t trace_threads;
struct trace_ring_shape trace_shape;

static void *map(size_t bytes)
{
	long p = shunt_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p < 0 && p >= -4095 ? NULL : (void *)p;
}

static void unmap(void *p, size_t bytes)
{
	(void)shunt_syscall(SYS_munmap, (long)p, (long)bytes, 0, 0);
}

void trace_ring_empty(struct trace_ring *ring)
{
	ring->start = trace_shape.start;
	ring->min = trace_shape.min;
	ring->stuck = ring->lost_known = 0;
	atomic_store_explicit(&ring->alive, 0, memory_order_relaxed);
	ring->is_told = false;
	ring->chunks = 0;
	atomic_store_explicit(&ring->left, 0, memory_order_relaxed);
	atomic_store_explicit(&ring->head, 0, memory_order_relaxed);
	atomic_store_explicit(&ring->tail, 0, memory_order_relaxed);
	atomic_store_explicit(&ring->depth, 0, memory_order_relaxed);
	atomic_store_explicit(&ring->lost, 0, memory_order_relaxed);
	atomic_store_explicit(&ring->limit,
			      trace_shape.is_flight ? UINT64_MAX : trace_soft_limit(ring, 0),
			      memory_order_relaxed);
}

/* Memory for the slots and the entries that wait, empty. */
static bool give_memory(struct trace_ring *ring)
{
	if (!ring->slots) {
		ring->slots = map(trace_shape.bytes);
		if (!ring->slots)
			return false;
		ring->mask = trace_shape.bytes / sizeof(struct trace_slot) - 1;
	}
	if (trace_shape.min && !ring->pending) {
		ring->pending = map(TRACE_PENDING_ROOM * sizeof(*ring->pending));
		if (!ring->pending)
			return false;
	}
	trace_ring_empty(ring);
	return true;
}

static bool claim(struct trace_ring *ring, uint32_t from)
{
	return atomic_compare_exchange_strong(&ring->state, &from, TRACE_RING_OWNED);
}

/* One that is free: its memory is empty. Else one without memory. */
static struct trace_ring *take(uint32_t state)
{
	struct trace_ring *ring = atomic_load(&trace_rings);

	while (ring && !(atomic_load_explicit(&ring->state, memory_order_relaxed) == state &&
			 claim(ring, state)))
		ring = ring->next;
	return ring;
}

static struct trace_ring *make(void)
{
	struct trace_ring *ring = map(sizeof(*ring));

	if (!ring)
		return NULL;
	/* By an older kernel too, a copy is not seen before the ring is full. */
	if (trace_shape.is_wiped)
		(void)shunt_syscall(SYS_madvise, (long)ring, TRACE_RING_PAGE, MADV_WIPEONFORK, 0);
	atomic_store(&ring->state, TRACE_RING_OWNED);
	ring->next = atomic_load(&trace_rings);
	while (!atomic_compare_exchange_weak(&trace_rings, &ring->next, ring))
		;
	return ring;
}

/* Who of all threads there have been this one is: what a signal handler finds stays. */
static uint32_t own_number(void)
{
	static _Atomic uint32_t last;
	static __thread _Atomic uint32_t own;
	uint32_t none = 0;

	if (!atomic_load(&own))
		(void)atomic_compare_exchange_strong(&own, &none, atomic_fetch_add(&last, 1) + 1);
	return atomic_load(&own);
}

/* Who had this tid before has ended. The ring may go to another thread meanwhile: it says whose. */
static void leave_others(const struct trace_ring *of)
{
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		uint32_t thread = ring->thread;

		atomic_thread_fence(memory_order_acquire);
		/* Not of this very thread, by what a signal handler has interrupted. */
		if (ring->tid == of->tid && ring->owner != of->owner &&
		    atomic_load(&ring->state) == TRACE_RING_OWNED)
			atomic_store(&ring->left, thread);
	}
}

struct trace_ring *trace_ring_get(void)
{
	struct trace_ring *ring = take(TRACE_RING_FREE);
	uint32_t thread;

	if (!ring)
		ring = take(TRACE_RING_SPARED);
	if (!ring)
		ring = make();
	if (!ring)
		return NULL;
	if (!give_memory(ring)) {
		atomic_store(&ring->state, TRACE_RING_SPARED);
		return NULL;
	}
	ring->tid = shunt_own_tid();
	ring->owner = own_number();
	ring->variable = (uintptr_t)&trace_own_ring;
	leave_others(ring);
	(void)shunt_syscall(SYS_prctl, PR_GET_NAME, (long)ring->name, 0, 0);
	thread = atomic_fetch_add(&trace_threads, 1) + 1;
	atomic_thread_fence(memory_order_release); /* @tid first: leave_others() */
	ring->thread = thread;
	/* Pairs with the loads of the consumer. */
	atomic_store_explicit(&ring->is_ready, true, memory_order_release);
	return ring;
}

void trace_ring_release(struct trace_ring *ring)
{
	/* Its slots are 0 in a stream; in the flight recorder an old event would look like a new
	 * one. */
	if (trace_shape.is_flight && atomic_load(&ring->head)) {
		unmap(ring->slots, trace_ring_size(ring) * sizeof(struct trace_slot));
		ring->slots = NULL;
		atomic_store(&ring->is_ready, false);
		atomic_store(&ring->state, TRACE_RING_SPARED);
		return;
	}
	atomic_store(&ring->is_ready, false);
	atomic_store(&ring->state, TRACE_RING_FREE);
}

bool trace_ring_has_ended(const struct trace_ring *ring)
{
	return atomic_load(&ring->left) == ring->thread ||
	       shunt_syscall(SYS_tgkill, shunt_own_pid(), ring->tid, 0, 0) == -ESRCH;
}

static void take_memory(struct trace_ring *ring)
{
	if (ring->slots)
		unmap(ring->slots, trace_ring_size(ring) * sizeof(struct trace_slot));
	ring->slots = NULL;
	atomic_store(&ring->is_ready, false);
	if (ring->pending)
		unmap(ring->pending, TRACE_PENDING_ROOM * sizeof(*ring->pending));
	ring->pending = NULL;
}

static void clear(struct trace_ring *ring)
{
	(void)shunt_syscall(SYS_madvise, (long)ring->slots,
			    (long)(trace_ring_size(ring) * sizeof(struct trace_slot)),
			    MADV_DONTNEED, 0);
}

/*
 * A thread may still be in a hook that has begun in the last session, for nobody waits for them:
 * its memory stays. Where that has another size, it is left to the thread, which asks for a new
 * ring.
 */
static int reset(struct trace_ring *ring)
{
	bool is_owned = atomic_load(&ring->state) == TRACE_RING_OWNED;

	if (atomic_load(&ring->state) == TRACE_RING_RETIRED || is_owned) {
		if (trace_ring_has_ended(ring)) {
			is_owned = false;
		} else if (!is_owned ||
			   ring->mask != trace_shape.bytes / sizeof(struct trace_slot) - 1) {
			atomic_store(&ring->limit, 0);
			atomic_store(&ring->head, 0);
			atomic_store(&ring->state, TRACE_RING_RETIRED);
			clear(ring);
			return 0;
		}
	}
	if (!is_owned) {
		take_memory(ring);
		atomic_store(&ring->state, TRACE_RING_SPARED);
		return 0;
	}
	clear(ring);
	if (!give_memory(ring))
		return -ENOMEM;
	ring->thread = atomic_fetch_add(&trace_threads, 1) + 1;
	return 0;
}

int trace_rings_reset(void)
{
	int err = 0;

	atomic_store(&trace_threads, 0);
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		int failed = reset(ring);

		err = err ? err : failed;
	}
	return err;
}

void trace_rings_give_back(void)
{
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next)
		if (ring->slots)
			clear(ring);
}

void trace_ring_adopt(struct trace_ring *ring)
{
	if (!ring->slots)
		return;
	clear(ring);
	trace_ring_empty(ring);
	ring->thread = atomic_fetch_add(&trace_threads, 1) + 1;
}

/* Their threads are not in this process; what they hold is the other one's to write. */
void trace_rings_drop_others(struct trace_ring *this)
{
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		if (ring == this)
			continue;
		take_memory(ring);
		atomic_store(&ring->state, TRACE_RING_SPARED);
	}
}
