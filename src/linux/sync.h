/* SPDX-License-Identifier: MIT */
/*
 * Core sync, between its two ways: sync.c chooses and has membarrier, sync_signal.c
 * has the signals, tasks.c tells which threads there are.
 */
#ifndef SHUNT_LINUX_SYNC_H
#define SHUNT_LINUX_SYNC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* sync.c: execute a serialising instruction. Async-signal-safe. */
void shunt_serialise(void);

/* serialise.S: the same, cheaper; false where it is not to be had. */
bool shunt_iret(void);

/*
 * sync.c: wait for @word, whose top bit is the waiter's mark, to become @value; at
 * most @ns nanoseconds (below a second), or until a signal. Whether it has.
 */
#define SHUNT_WAITED 0x80000000u
bool shunt_wait_word(_Atomic uint32_t *word, uint32_t value, uint32_t ns);

/* sync_signal.c: a core sync by signals; 0 or -errno. Update lock held. */
int shunt_signal_sync(void);

/* A list of the process's threads; the array is the list's own. */
struct shunt_tasks {
	int32_t *tids;
	size_t n, room;
	void *entries; /* as the kernel gives them */
	bool complete; /* has every thread that was there when the listing began */
};

/* tasks.c: room for @n threads at least; 0 or -ENOMEM. Update lock held. */
int shunt_tasks_reserve(struct shunt_tasks *tasks, size_t n);

/* tasks.c: fill in the list; 0 or -errno, with shunt_failed_call set. Update lock held. */
int shunt_tasks_list(struct shunt_tasks *tasks);

/* How a thread stands to a signal. */
enum shunt_task {
	SHUNT_TASK_GONE,    /* it runs no code of the program (any more) */
	SHUNT_TASK_BLOCKS,  /* it blocks the signal, or waits for it to read it */
	SHUNT_TASK_HELD,    /* in the kernel, and takes the pending signal before it leaves it */
	SHUNT_TASK_PENDING, /* it is about to take the signal */
	SHUNT_TASK_OPEN,    /* the signal is neither pending for it nor blocked */
	SHUNT_TASK_UNKNOWN, /* not to be read here */
};

/* tasks.c: how thread @tid stands to @sig now. Update lock held. */
enum shunt_task shunt_task_look(int32_t tid, int sig);

/*
 * tasks.c: a child of one of @tasks that is a process of its own in this memory, as that of vfork()
 * is until it executes; 0: none is seen. Update lock held.
 */
int32_t shunt_task_sharing_memory(const struct shunt_tasks *tasks);

#endif
