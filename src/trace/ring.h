/* SPDX-License-Identifier: MIT */
/*
 * The ring of a thread: its events, until they are written to the file or overwritten.
 *
 * The thread itself, and the signal handlers on top of it, claim slots by one instruction that no
 * signal can come in between; another thread, the consumer, reads them. A slot's second word is 0
 * until both are there: the owner stores word 0, then word 1; the consumer, in a stream, clears
 * word 1 before it gives the slot back by @limit. The order of stores, and of loads, is that of
 * the atomics; on x86 they only tell the compiler.
 *
 * A ring's header is never unmapped: a pointer to it stays good. Its thread may end: then the ring
 * goes to another one.
 */
#ifndef SHUNT_TRACE_RING_H
#define SHUNT_TRACE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/ftrace.h"
#include "trace/format.h"

/* Of struct trace_session.flags: how addresses stand in events. */
#define TRACE_ADDRESSES (SHUNT_ADDRESS_BITS > TRACE_ADDR_BITS ? TRACE_ADDR_IS_48 : 0)

struct trace_slot {
	_Atomic uint64_t word[2];
};

/*
 * A slot that says that events are missing before the next one: this word 1, which no event has
 * (an entry at address 1), and their number in word 0.
 */
#define TRACE_LOST_MARK 1u

/*
 * Slots that are never given out: signal handlers that come between the look at @limit and the
 * claim take one of them each.
 */
#define TRACE_RESERVE 64u

#define TRACE_RING_PAGE   4096  /* where pages are bigger, a copy is not seen before it is full */
#define TRACE_RING_MIN    4096u /* bytes */
#define TRACE_PATIENCE_NS 2000000000u

/* An entry whose call may still turn out to be shorter than min_ns (hooks.c). */
struct trace_pending {
	uint64_t time;
	uintptr_t ip;
	uintptr_t sp;
	uint64_t state; /* 0: being written */
};

#define TRACE_PENDING_MAX  16384u
#define TRACE_PENDING_ROOM (TRACE_PENDING_MAX + 64) /* signal handlers may be on top */

enum trace_ring_state {
	TRACE_RING_FREE,    /* of no thread */
	TRACE_RING_OWNED,   /* of the thread @tid */
	TRACE_RING_ENDED,   /* that thread has ended; the flight recorder keeps its events */
	TRACE_RING_SPARED,  /* no thread's, and its events' memory is gone */
	TRACE_RING_RETIRED, /* of a session with another size; its thread asks for a new one */
};

/* NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): lines of their own */
struct trace_ring {
	/*
	 * The owner's, for each event. These two are alone on a page that the kernel clears in a
	 * copy of the process (MADV_WIPEONFORK): there is no room, then, and child.h is asked
	 * before a copy's first event.
	 */
	_Atomic uint64_t head;  /* events ever claimed */
	_Atomic uint64_t limit; /* up to here slots may be claimed */

	struct trace_slot *slots __attribute__((aligned(TRACE_RING_PAGE)));
	uint64_t mask;  /* slots - 1 */
	uint64_t start; /* the session's, in ticks of the clock */
	uint64_t min;   /* ticks; 0: all calls */
	struct trace_pending *pending;
	_Atomic uint64_t depth; /* of @pending */

	/* The owner's, where there is no room. */
	_Atomic uint64_t lost __attribute__((aligned(64))); /* and not marked yet */

	/* The consumer's. */
	_Atomic uint64_t tail __attribute__((aligned(64)));
	uint64_t stuck; /* since when the slot at @tail is claimed and not written, ticks; 0: it
			 * is not. Behind TRACE_PATIENCE_NS it is given up */
	_Atomic uint64_t alive; /* ticks: its thread had not ended then; 0: not known */
	uint64_t lost_known;    /* taken from marks, to be told before the next events */
	uint64_t started;       /* ticks: of its first event */
	bool is_told;           /* its thread stands in the file */
	char told[16];          /* with this name, */
	uint32_t named_told;    /* when @named was that; */
	uint32_t chunks;        /* and so many chunks of events */
	_Atomic bool is_ready;  /* its owner has filled in what is here */
	_Atomic uint32_t left;  /* @thread of one that has ended: another one has its tid */
	uint64_t ended_at;      /* order of those that have */

	_Atomic uint32_t state; /* enum trace_ring_state */
	int32_t tid;
	uint32_t thread;    /* the session's number for it */
	uint32_t owner;     /* of all threads there have been: tids are used again */
	uintptr_t variable; /* address of its trace_own_ring */
	char name[16];      /* of the thread, with its NUL: when it got the ring, or set later: */
	_Atomic uint32_t named; /* how often it has been set (names.c), behind @name */
	struct trace_ring *next;
};

/* state.c: this thread's; one of the two below where it has none. */
extern __thread struct trace_ring *trace_own_ring __attribute__((tls_model("initial-exec")));
extern struct trace_ring trace_no_ring;  /* none yet */
extern struct trace_ring trace_not_here; /* this thread is not traced */

/* What rings are made with: the session's, and not changed while one runs. */
struct trace_ring_shape {
	size_t bytes; /* of the slots: a power of 2 */
	uint64_t start;
	uint64_t min;   /* ticks */
	bool is_flight; /* overwritten for ever */
	bool is_wiped;  /* TRACE_RING_PAGE is a page of the system */
};
extern struct trace_ring_shape trace_shape;

/* rings.c. All are async-signal-safe and by system calls alone. */
extern struct trace_ring *_Atomic trace_rings; /* all there are */
extern _Atomic uint32_t trace_threads;         /* that have had a ring in this session */

/* A ring for this thread; NULL: no memory. */
struct trace_ring *trace_ring_get(void);
/* It goes to whoever asks next. Consumer, or the owner that has not used it. */
void trace_ring_release(struct trace_ring *ring);
/* Whether the thread of @ring has ended; a tid of which no other ring is may be another's. */
bool trace_ring_has_ended(const struct trace_ring *ring);
/* All rings as in a new session with trace_shape. Nobody records. 0 or -ENOMEM. */
int trace_rings_reset(void);
/* What they hold is written: their pages go back to the system, their addresses stay. */
void trace_rings_give_back(void);
/* Those that are nobody's any more; @this stays. In the child of a fork. */
void trace_rings_drop_others(struct trace_ring *this);
/* Those that this thread has filled in another process are nothing any more. */
void trace_ring_adopt(struct trace_ring *ring);
/* Empty, as it was got. Nobody else uses it. */
void trace_ring_empty(struct trace_ring *ring);

static inline uint64_t trace_ring_size(const struct trace_ring *ring)
{
	return ring->mask + 1;
}

/* The limit at which the owner wakes the consumer, and the last one. */
static inline uint64_t trace_soft_limit(const struct trace_ring *ring, uint64_t tail)
{
	return tail + trace_ring_size(ring) / 2;
}

static inline uint64_t trace_hard_limit(const struct trace_ring *ring, uint64_t tail)
{
	return tail + trace_ring_size(ring) - TRACE_RESERVE;
}

/* An event's words. */
static inline uint64_t trace_stack_bits(uintptr_t sp)
{
	return (sp >> 3) & ((1ull << TRACE_STACK_BITS) - 1);
}

static inline uint64_t trace_word0(uint64_t ticks, uintptr_t sp)
{
	return ticks << 15 | (trace_stack_bits(sp) & 0x7fff);
}

static inline uint64_t trace_addr_bits(uintptr_t ip)
{
	if (!TRACE_ADDRESSES)
		return ip;
	return (ip & ((1ull << TRACE_ADDR_BITS) - 1)) | ip >> TRACE_ADDR_BITS;
}

static inline uint64_t trace_word1(enum trace_event_kind kind, uintptr_t sp, uintptr_t ip)
{
	return (uint64_t)kind << 62 | trace_stack_bits(sp) >> 15 << TRACE_ADDR_BITS |
	       trace_addr_bits(ip);
}

#endif
