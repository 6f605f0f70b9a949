/* SPDX-License-Identifier: MIT */
/*
 * SHUNT_TRACE_ALL: all rings to the file, by the consumer and at the end of a session; those of
 * threads that have ended go to others. Unlike stream.c, which a hook may call, this writes what
 * waits for min_ns, as hooks do.
 */
#include "trace/drain.h"
#include "trace/catalogue.h"
#include "trace/hooks.h"
#include "trace/ring.h"
#include "trace/state.h"
#include "trace/stream.h"

/* An ended thread's ring, all of which is in the file: for another one. */
static void recycle(struct trace_ring *ring)
{
	if (ring->pending) {
		trace_flush_pending(ring, trace_now() + trace_session.head.start_ticks);
		(void)trace_stream_ring(ring);
	}
	trace_stream_loss(ring);
	trace_ring_empty(ring);
	trace_ring_release(ring);
}

/* Hooks that have begun may take a moment to end. */
static void wait_for_hooks(struct trace_ring *ring)
{
	for (int i = 0; i < 10000; i++) {
		(void)trace_stream_ring(ring);
		if (atomic_load(&ring->tail) >= atomic_load(&ring->head))
			return;
		(void)shunt_syscall(SYS_sched_yield, 0, 0, 0, 0);
	}
}

static void drain_last(struct trace_ring *ring)
{
	wait_for_hooks(ring);
	trace_flush_pending(ring, trace_now() + trace_session.head.start_ticks);
	trace_stream_rest(ring);
	trace_stream_loss(ring);
}

void trace_drain(bool is_last)
{
	struct trace_session_state *s = &trace_session;

	if (s->file.fd >= 0)
		(void)trace_catalogue_write(&s->file, &s->cursor);
	for (struct trace_ring *ring = atomic_load(&trace_rings); ring; ring = ring->next) {
		uint64_t now;
		bool any;

		if (atomic_load(&ring->state) != TRACE_RING_OWNED || !ring->is_ready)
			continue;
		if (is_last) {
			drain_last(ring);
			continue;
		}
		any = trace_stream_ring(ring);
		if (any || atomic_load(&ring->tail) != atomic_load(&ring->head))
			continue;
		now = trace_now();
		if (!trace_ring_has_ended(ring))
			atomic_store_explicit(&ring->alive, now, memory_order_relaxed);
		else if (!trace_stream_ring(ring))
			recycle(ring);
	}
}
