/* SPDX-License-Identifier: MIT */
/*
 * Core sync by signals, between its parts: sync_handler.c has the handler and finds a
 * signal for it, sync_slots.c has a record of each thread, sync_signal.c makes a round.
 */
#ifndef SHUNT_LINUX_SYNC_SIGNAL_H
#define SHUNT_LINUX_SYNC_SIGNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "linux/base/syscall.h"

/*
 * One thread. Its address is what the signal carries, so it is not given to another
 * thread while a signal may be pending.
 */
struct shunt_slot {
	_Atomic uint32_t acked;  /* the round, and SHUNT_WAITED */
	int32_t tid;             /* 0: free */
	struct shunt_slot *next; /* of its bucket, or free */
	uint32_t seen;           /* the round in which it was listed last */
	uint32_t sent;           /* the round in which it was sent the signal last; 0: never */
	bool answers;            /* it has acknowledged that one */
	bool blocks;             /* it blocked the signal for as long as anybody waited */
};

#define SHUNT_SLOTS   500 /* of a chunk */
#define SHUNT_BUCKETS 256

struct shunt_slot_chunk {
	struct shunt_slot_chunk *next;
	struct shunt_slot slots[SHUNT_SLOTS];
};

/* sync_signal.c: a core sync by signals; 0 or -errno. Update lock held. */
int shunt_signal_sync(void);

/* sync_slots.c: all of them. Only ever added to: the handler walks it. */
extern struct shunt_slot_chunk *_Atomic shunt_slot_chunks;

/* sync_slots.c: the slots in use, by the thread's number. Update lock held. */
extern struct shunt_slot *shunt_slot_buckets[SHUNT_BUCKETS];

/* sync_slots.c: the slot of thread @tid, a new one if need be; NULL: no memory. */
struct shunt_slot *shunt_slot_of(int32_t tid);

/* sync_slots.c: give back the slots of threads that were not listed in @round. */
void shunt_slots_drop(uint32_t round);

/* sync_slots.c: no thread is known to answer, or to block the signal. */
void shunt_slots_forget(void);

/*
 * sync_slots.c: have the slots be of this process; 0, or -EPERM where the memory is
 * another's, or -EINTR where they were a parent's: what was begun there is to begin anew.
 * Update lock held.
 */
int shunt_slots_of_process(void);

/* sync_handler.c: the number of the round, never 0; the handler reads it. */
extern _Atomic uint32_t shunt_sync_round;

/*
 * sync_handler.c: the signal; 0: none yet. And whether the program has left it to us.
 * Update lock held.
 */
extern int shunt_sync_signal;
bool shunt_has_sync_signal(void);

/* sync_handler.c: choose one if there is none, or if the program has taken it; 0 or -errno. */
int shunt_choose_sync_signal(void);

/*
 * sync_handler.c: run the handlers of other libshunts whose signals are pending for this thread,
 * which blocks them while it updates. Update lock held.
 */
void shunt_answer_others(void);

static inline int32_t shunt_own_pid(void)
{
	return (int32_t)shunt_syscall(SYS_getpid, 0, 0, 0, 0);
}

static inline int32_t shunt_own_tid(void)
{
	return (int32_t)shunt_syscall(SYS_gettid, 0, 0, 0, 0);
}

#endif
