/* SPDX-License-Identifier: MIT */
/*
 * A port over plain memory, for tests of the core: it records what the core asks
 * of it, fails when it is told to, and watches over the protocol of a poke. The
 * update lock is a real one: threads wait for it.
 */
#ifndef FAKE_PORT_H
#define FAKE_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <shunt/port.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/*
 * At the start of a long test of one thread: ThreadSanitizer finds nothing in it, and makes a
 * minute and a half of some seconds.
 */
#ifdef __SANITIZE_THREAD__
#define SKIP_IN_TSAN() skip()
#else
#define SKIP_IN_TSAN() ((void)0)
#endif

/* Fail the @at-th use (1: the first; 0: none), all later ones if @onwards, and the @again-th. */
struct fake_fault {
	size_t at, again;
	bool onwards;
	int error; /* negative */
};

enum fake_event_type { FAKE_BEGIN, FAKE_WRITE, FAKE_SYNC, FAKE_REMAP };

/* One thing that the core asked for, in order; of a vector each single write. */
struct fake_event {
	enum fake_event_type type;
	int result;
	struct shunt_write write;
	size_t call; /* which text_write() it came in, from 1 */
};

struct fake_port {
	int way;           /* what poke_begin() offers: enum shunt_way */
	int way_after;     /* and once a way has been tried; the same again: none */
	bool flips;        /* before both it offers FLIP, where that will do */
	size_t remap_part; /* how many sites a remap that fails has changed */
	struct fake_fault begin, sync, alloc, take_traps, remap;
	struct fake_fault write;      /* counts single writes: those before it are done */
	struct fake_fault write_call; /* counts vectors: nothing of it is done */
	const uint8_t *unwritable;    /* a write to this byte always fails (-EIO) */
	size_t drop_at;               /* of this single write the last byte is lost, unnoticed */

	/* Called with the lock held, before the request is served. */
	void (*on_write)(void);
	void (*on_sync)(void);
	void (*on_lock)(void); /* as the first thing with the lock */
	void (*on_wanted)(void);

	/* Called wherever a poke can be stopped: around each request, and in its middle. */
	void (*on_point)(void);

	/* What shunt_port_veneer() answers; NULL: that there is none to be had. */
	uintptr_t (*veneer)(uintptr_t near, uintptr_t target);
	bool free_alloc; /* memory may be asked for without the lock */
	bool registers;  /* modules do; off at first, as in ring 0 */

	/* How often each has been asked for. */
	size_t traps_taken, remaps;
	size_t begins, syncs, allocs, alloc_bytes, writes, write_calls, bytes, text_checks;
	size_t ends;        /* ended once for each begin that succeeded */
	int way_now;        /* of the batch that was begun last */
	bool has_traps;     /* they were taken in it */
	size_t idle;        /* bytes of them that stood there already */
	size_t outstanding; /* allocations that have not been freed */
	size_t injected;
	size_t begun_for; /* sites that the last poke_begin() was told of */
	size_t veneers, watches, wanted;
	uintptr_t watched; /* the last target */

	size_t reports;
	struct shunt_report report; /* the last one */
	const void *others_key;     /* of another libshunt */

	const char *violation; /* the first breach of the port's contract, or NULL */
	_Atomic bool locked;

	struct fake_event *events;
	size_t nr_events, max_events;
	bool quiet; /* records no events */
};

extern struct fake_port fake;

/* Forget everything but the watch: counts, faults, hooks, events. */
void fake_reset(void);

/* Forget the events and counts; faults and hooks stay. */
void fake_restart(void);

/* A site that the port watches over. */
struct fake_site {
	uint8_t *addr;
	uint8_t len;
};

/*
 * Watch over the text [text, text + size) with the sites @sites (sorted, copied).
 * From here on it is a violation to write
 *   - outside of a site,
 *   - a tail, unless an int3 stands before it, and was seen by a core sync,
 *   - a first byte other than int3, unless a core sync has been since the last
 *     change of the tail behind it,
 *   - an int3 before traps were taken,
 *   - in a batch that goes by remaps, anything but first bytes.
 * Any bytes of a site may be written by the way ALONE; and by STORE, where no int3
 * stands, those in an aligned word.
 * Size 0 ends the watch.
 */
void fake_watch(uint8_t *text, size_t size, const struct fake_site *sites, size_t n);

/* As the teardown of a group of tests. */
int fake_teardown(void **state);

#endif
