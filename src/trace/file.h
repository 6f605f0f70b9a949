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
	/*
	 * What a file begins with: called in the middle of a write where others have cut it off,
	 * and its header is there again. NULL: nothing is done about it.
	 */
	void (*begin_again)(struct trace_file *file);
	/*
	 * What is done where it has failed to take a chunk of @type and @parts, of which @done
	 * bytes were written (full.h). NULL: it is cut off again.
	 */
	void (*keep)(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     uint64_t done);
	char path[TRACE_PATH_MAX];
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
 * A copy of the descriptor @fd, to which nothing is written yet; and a file from its beginning, by
 * that copy itself, for there may be no descriptor left: what it held goes.
 */
int trace_file_hold(struct trace_file *file, int fd);
int trace_file_rewrite(struct trace_file *file, const struct trace_file *held);

/* Whether what is held is still ours, and has a name. */
bool trace_file_is_held(const struct trace_file *held);

/*
 * A chunk whose contents are the @n parts. Returns 0 or the file's error. Where that is new, some
 * of the events may have been kept, and as well some that stood before been given up: @events
 * of the file.
 */
int trace_file_chunk(struct trace_file *file, enum trace_chunk_type type, const struct iovec *parts,
		     int n);

/* The rest is for full.c. All of @parts, which are changed, whatever the error: 0 or -errno. */
long trace_file_write(const struct trace_file *file, struct iovec *parts, int n, uint64_t *done);
void trace_file_added(struct trace_file *file, uint64_t size, uint64_t events);
/* It has its descriptor, or has one again. */
bool trace_file_is_there(struct trace_file *file);

/* Bytes that are chunks already. */
int trace_file_raw(struct trace_file *file, const void *chunks, size_t size);

/* Returns the file's error, or that of closing it; -ENOENT: it has lost its name meanwhile. */
int trace_file_close(struct trace_file *file);

/* CRC-32C of @size bytes behind those of @crc, which begins as 0; 0: this CPU has no instruction.
 */
uint32_t trace_crc(uint32_t crc, const void *bytes, size_t size);

#endif
