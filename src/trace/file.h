/* SPDX-License-Identifier: MIT */
/*
 * The file of a session, written chunk by chunk. By system calls alone, without allocation: it may
 * be written in a signal handler. What was written stays good: a chunk that could not be written
 * whole is cut off again.
 */
#ifndef SHUNT_TRACE_FILE_H
#define SHUNT_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "trace/format.h"

#define TRACE_PATH_MAX 4096

/* Where a chunk begins, and how many events stand before it. */
struct trace_mark {
	uint64_t size, events;
};
#define TRACE_MARKS 8u

struct trace_file {
	int fd;    /* -1: not open */
	int error; /* 0, or -errno of the first failure: nothing but an end is written any more */
	const char *failed_call; /* that failed with it */
	uint64_t failed_at;      /* ticks */
	bool tells_failure;      /* its last chunk does */
	uint64_t size;           /* of the whole chunks */
	uint64_t events;         /* in them */
	unsigned nr_marks;       /* in all; the last ones are kept */
	struct trace_mark marks[TRACE_MARKS];
	uint64_t start;         /* where they begin in the file */
	uint64_t device, inode; /* to see that @fd is still ours */
	bool is_borrowed;       /* @fd is another's, who closes it */
	uint64_t limit;         /* nothing is written from there on: -EOVERFLOW; 0: there is none */
	uint64_t whole; /* of one that is held: up to where a save is, from @start; 0: there is none
			 */
	size_t replaces;   /* what is named by so many bytes of @path (replace.h); 0: nothing */
	bool is_for_place; /* the error is that nothing can be put in the place of what is there */
	/*
	 * What a file begins with: called in the middle of a write where others have cut it off,
	 * and its header is there again. NULL: nothing is done about it.
	 */
	void (*begin_again)(struct trace_file *file);
	char path[TRACE_PATH_MAX];
	const char *again; /* of one that came as a descriptor: where it may be opened again */
};

enum trace_how {
	TRACE_OPEN_OVER,   /* in the place of what is there */
	TRACE_OPEN_NEW,    /* a regular file must not be there: -EEXIST */
	TRACE_OPEN_OWN,    /* made here, whatever others left under that name; regular */
	TRACE_OPEN_SHARED, /* a device that is there; nothing is made, and no pipe shared */
};

/*
 * Create or open it, and write the header. A pipe is one session's as long as that writes it:
 * -EBUSY. 0 or -errno, which is the file's error.
 */
int trace_file_open(struct trace_file *file, const char *path, enum trace_how how);

/* Write to a copy of the descriptor @fd, from where it stands; it has no path then. */
int trace_file_adopt(struct trace_file *file, int fd);

/*
 * A copy of the descriptor @fd, to which nothing is written yet; and a save to it, by that copy
 * itself, for there may be no descriptor left. An earlier one that is whole stays until
 * trace_file_lead() makes the header lead to the new one: that is written before it, where there is
 * room (else -EOVERFLOW), or @behind it.
 */
int trace_file_hold(struct trace_file *file, int fd);
int trace_file_take(struct trace_file *file, int fd); /* itself, not a copy */
int trace_file_rewrite(struct trace_file *file, struct trace_file *held, bool behind);
int trace_file_lead(struct trace_file *file, struct trace_file *held);

/* Whether what is held is still ours, and has a name. */
bool trace_file_is_held(const struct trace_file *held);

/*
 * A chunk whose contents are the @n parts. Returns 0 or the file's error. Where that is new, some
 * of the events may have been kept, and as well some that stood before been given up: @events
 * of the file.
 */
int trace_file_chunk(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     int n);

/* It has its descriptor, or has one again. */
bool trace_file_is_there(struct trace_file *file);

/* Bytes that are chunks already. */
int trace_file_raw(struct trace_file *file, const void *chunks, size_t size);

/* Nothing has failed, and no event is in it: those that are belong to another session. */
static inline void trace_file_forget(struct trace_file *file)
{
	file->error = 0;
	file->events = 0;
}

/* Returns the file's error, or that of closing it; -ENOENT: it has lost its name meanwhile. */
int trace_file_close(struct trace_file *file);

/* CRC-32C of @size bytes behind those of @crc, which begins as 0; 0: this CPU has no instruction.
 */
uint32_t trace_crc(uint32_t crc, const void *bytes, size_t size);

#endif
