/* SPDX-License-Identifier: MIT */
/*
 * The file of a recorded session: written by libshunt-trace, read by the `shunt` tool. All numbers
 * are little-endian. A file is a header and chunks; a reader skips chunks whose type it does
 * not know. What a chunk names (a module, a function, a thread) stands in an earlier chunk.
 * A file that was cut off is good up to its last whole chunk. Nothing in a file is trusted.
 */
#ifndef SHUNT_TRACE_FORMAT_H
#define SHUNT_TRACE_FORMAT_H

#include <stdint.h>

#define TRACE_MAGIC   "SHUNTTRC"
#define TRACE_VERSION 1

struct trace_header {
	char magic[8];
	uint32_t version;
	/*
	 * Bytes: where the first chunk begins. A save that has a descriptor alone stands behind an
	 * earlier one, or before it, and this leads to the one that is whole.
	 */
	uint32_t header_size;
};

enum trace_chunk_type {
	TRACE_CHUNK_SESSION =
		1, /* struct trace_session, then the command line's NUL-terminated words */
	TRACE_CHUNK_CLOCK =
		2, /* struct trace_clock: at least one at the start and one at the end */
	TRACE_CHUNK_MODULE = 3, /* struct trace_module, then its path and a NUL */
	TRACE_CHUNK_FUNCTION =
		4, /* any number of: struct trace_function, its name, a NUL; filled up to 8 */
	TRACE_CHUNK_THREAD = 5,     /* struct trace_thread, then its name and a NUL */
	TRACE_CHUNK_EVENTS = 6,     /* struct trace_events, then events of one thread, in order */
	TRACE_CHUNK_OFF = 7,        /* struct trace_off: a function that was switched off */
	TRACE_CHUNK_END = 8,        /* struct trace_end: the session ended in good order. The last:
				     * what stands behind it is none of the session's, but for a
				     * failure: a later save to this file has failed */
	TRACE_CHUNK_THREAD_END = 9, /* struct trace_thread_end */
	TRACE_CHUNK_EXEC =
		10, /* struct trace_exec: an exec() follows, and nothing if it succeeds */
	TRACE_CHUNK_FAILURE =
		11, /* struct trace_failure: what came behind is lost; an end may follow */
	TRACE_CHUNK_EXEC_FAILED = 12, /* struct trace_exec: that exec() has failed, and the process
				       * goes on */
};

/* Each chunk, on a multiple of 8 bytes. */
struct trace_chunk {
	uint32_t type;
	uint32_t crc;  /* CRC-32C of the contents; 0: not said */
	uint64_t size; /* of the contents, bytes, without the filling up to 8 */
};

enum trace_clock_source { TRACE_CLOCK_TSC = 0, TRACE_CLOCK_MONOTONIC = 1 };

struct trace_session {
	uint32_t pid;
	uint32_t mode;              /* enum shunt_trace_mode */
	uint64_t start_ticks;       /* an event's time counts from here */
	uint64_t start_realtime_ns; /* CLOCK_REALTIME at the start */
	uint64_t min_ns;
	uint32_t clock; /* enum trace_clock_source */
	uint32_t flags; /* TRACE_ENTRY_ONLY */
	uint32_t argc;  /* words behind */
	uint32_t reserved;
};
#define TRACE_ENTRY_ONLY 1u
#define TRACE_ADDR_IS_48 2u /* see struct trace_event */
#define TRACE_AT_END     4u /* what was kept, saved at the end of the process, */
#define TRACE_AT_EXEC    8u /* or before an exec() */

/* The clock's ticks (since start_ticks) and CLOCK_MONOTONIC, read together. */
struct trace_clock {
	uint64_t ticks;
	uint64_t monotonic_ns;
	uint64_t error_ns; /* how far apart the two reads may have been */
};

struct trace_module {
	uint32_t id;
	uint32_t build_id_len; /* 0 to 32 */
	uint8_t build_id[32];
	uint64_t start, end;       /* where it was mapped */
	uint64_t loaded, unloaded; /* ticks since start_ticks; unloaded 0: not before the end */
};

struct trace_function {
	uint64_t entry; /* what events name */
	uint64_t addr;  /* the function's start */
	uint32_t module;
	uint32_t kind;     /* enum shunt_entry_kind */
	uint32_t name_len; /* without the NUL; 0: no symbol */
	uint32_t size;     /* of the function, bytes; 0: not known */
};

struct trace_thread {
	uint32_t id; /* a number of the session's own: tids are used again */
	uint32_t tid;
	uint32_t pid; /* of the process: another one in a child of fork */
	uint32_t reserved;
	uint64_t started; /* ticks: of its first event */
};

/* A thread that has ended before the session. */
struct trace_thread_end {
	uint32_t thread;
	uint32_t reserved;
	uint64_t alive; /* ticks: it had not ended then; 0: not known */
	uint64_t ended; /* and had then */
};

struct trace_exec {
	uint64_t ticks;
};

/*
 * @lost events of this thread are missing before the first of these.
 */
struct trace_events {
	uint32_t thread;
	uint32_t count;
	uint64_t lost;
};

struct trace_off {
	uint64_t entry;
	uint64_t calls;       /* until then */
	uint64_t ticks;       /* when */
	uint64_t total_ticks; /* of those calls */
};

/* Writing the file has failed, with @error of errno. */
struct trace_failure {
	uint64_t ticks;
	uint32_t error;
	uint32_t reserved;
};

struct trace_end {
	uint64_t ticks;
	uint64_t events, lost, no_return;
};

/*
 * An event: 16 bytes.
 *
 *	word 0: [63:15] time, ticks since start_ticks, modulo 2^49; [14:0] stack, low bits
 *	word 1: [63:62] enum trace_event_kind; [61:47] stack, high bits; [46:0] address
 *
 * Times of a thread do not go back, but for a signal handler's events, which may stand one place
 * earlier than they happened: by less than a second, from which a reader tells them from a wrap.
 *
 * The stack: bits 3 to 32 of the address of the function's return address (30 bits). A return is
 * matched with the last entry of the thread that has the same; entries above it on that
 * stack have ended otherwise: by longjmp, an exception. Where stacks begin and end is not said: a
 * program makes them without telling, and each call would have to be asked.
 *
 * Where a session has TRACE_ADDR_IS_48 (aarch64: instructions are at multiples of 4, in 48 bits)
 * bit 47 of the address stands in its bit 0.
 *
 * The address: of an entry, its function's trace_function.entry; of a return 0. But a function of
 * -finstrument-functions says itself which it is: of both it is its trace_function.addr. At a
 * return the stack may then be another than at its entry, where it uses alloca(); or, where it
 * ends by a jump to the handler, that of its return address, which is above that of the
 * entry, with nothing but its own frame between them.
 */
struct trace_event {
	uint64_t word[2];
};

enum trace_event_kind {
	TRACE_ENTRY = 0,
	TRACE_RETURN = 1,
	TRACE_TAIL =
		2, /* the function of this stack has ended by a tail call; an entry may follow */
	TRACE_CALL = 3, /* an entry whose return is not recorded */
};

#define TRACE_TIME_BITS  49
#define TRACE_STACK_BITS 30
#define TRACE_ADDR_BITS  47

#endif
