/* SPDX-License-Identifier: MIT */
/* Core sync by signals: a record of each thread (sync_slots.c). */
#ifndef SHUNT_LINUX_SYNC_SLOTS_H
#define SHUNT_LINUX_SYNC_SLOTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One thread. Its address is what the signal carries, so it is not given to another
 * thread while a signal may be pending.
 */
struct shunt_sync_slot {
	_Atomic uint32_t acked;       /* the round, and SHUNT_WAITED */
	int32_t tid;                  /* 0: free */
	struct shunt_sync_slot *next; /* of its bucket, or free */
	uint32_t seen;                /* the round in which it was listed last */
	uint32_t sent;                /* the round in which it was sent the signal last; 0: never */
	bool answers;                 /* it has acknowledged that one */
	bool blocks;                  /* it blocked the signal for as long as anybody waited */
};

#define SHUNT_SLOTS   500 /* of a chunk */
#define SHUNT_BUCKETS 256

struct shunt_sync_slot_chunk {
	struct shunt_sync_slot_chunk *next;
	struct shunt_sync_slot slots[SHUNT_SLOTS];
};

/* All of them. Only ever added to: the handler walks it. */
extern struct shunt_sync_slot_chunk *_Atomic shunt_sync_slot_chunks;

/* The slots in use, by the thread's number. Update lock held. */
extern struct shunt_sync_slot *shunt_sync_slot_buckets[SHUNT_BUCKETS];

/* The slot of thread @tid, a new one if need be; NULL: no memory. */
struct shunt_sync_slot *shunt_sync_slot_of(int32_t tid);

/* Give back the slots of threads that were not listed in @round. */
void shunt_sync_slots_drop(uint32_t round);

/* No thread is known to answer, or to block the signal. */
void shunt_sync_slots_forget(void);

/*
 * Have the slots be of this process; 0, or -EPERM where the memory is
 * another's, or -EINTR where they were a parent's: what was begun there is to begin anew.
 * Update lock held.
 */
int shunt_sync_slots_of_process(void);

#endif
