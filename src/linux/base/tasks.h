/* SPDX-License-Identifier: MIT */
/* The process's threads, as the kernel lists them (tasks.c). */
#ifndef SHUNT_LINUX_TASKS_H
#define SHUNT_LINUX_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A list of the process's threads; the array is the list's own. */
struct shunt_tasks {
	int32_t *tids;
	size_t n, room;
	void *entries; /* as the kernel gives them */
	bool complete; /* has every thread that was there when the listing began */
};

/* Room for @n threads at least; 0 or -ENOMEM. Update lock held. */
int shunt_tasks_reserve(struct shunt_tasks *tasks, size_t n);

/* Fill in the list; 0 or -errno, with shunt_failed_call set. Update lock held. */
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

/* How thread @tid stands to @sig now. Update lock held. */
enum shunt_task shunt_task_look(int32_t tid, int sig);

/*
 * Why the last look has told nothing (SHUNT_TASK_UNKNOWN, or an error of what is below): -errno,
 * and shunt_failed_call is the call, in memory that the update lock guards. Update lock held.
 */
int shunt_task_why_unknown(void);

/*
 * Whether thread @tid is ready to run, and the CPU time that it has had, in clock ticks
 * (*ticks, for comparison); false where that is not known. Update lock held.
 */
bool shunt_task_is_ready(int32_t tid, uint64_t *ticks);

/*
 * A child of one of @tasks that is a process of its own in this memory, as that of vfork()
 * is until it executes; 0: none is seen; -errno: it cannot be seen whether there is one
 * (shunt_task_why_unknown()). Update lock held.
 */
int32_t shunt_task_sharing_memory(const struct shunt_tasks *tasks);

#endif
