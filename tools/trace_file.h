/* SPDX-License-Identifier: MIT */
/*
 * Reading the file of a recorded session (src/trace/format.h). trace_open() reads all of it once:
 * each length, number and checksum is looked at, and what is kept is names, and where the events
 * stand. Nothing is mapped, for a mapped file may be cut off under its reader. trace_events.h and
 * trace_calls.h make calls of the events, one thread at a time.
 */
#ifndef SHUNT_TOOLS_TRACE_FILE_H
#define SHUNT_TOOLS_TRACE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "array.h"
#include "hash.h"
#include "trace/format.h"

#define TRACE_NONE UINT32_MAX

struct file_module {
	struct trace_module raw;
	char *path; /* printable */
};

/* One function, also where its module was loaded several times. */
struct file_function {
	char *symbol;          /* as in the file, printable; "" without one */
	char *name;            /* demangled; NULL until trace_function_name() */
	char *json;            /* the same as a string of JSON; NULL until trace_function_json() */
	char *module;          /* the path of its module */
	uint64_t addr;         /* from the module's start */
	uint32_t build_id_len; /* of the module; 0: not known */
	uint8_t build_id[32];
	bool may_be_inlined; /* -finstrument-functions: calls of it that are inlined are told, too
			      */
};

/* An entry: what events name. Several may have the same address, one behind the other. */
struct file_entry {
	uint64_t address;
	uint64_t loaded; /* ticks: of its module */
	uint32_t function;
	uint32_t next; /* another one of this address, loaded earlier; TRACE_NONE: none */
};

/* The events of one chunk. */
struct file_piece {
	uint64_t offset; /* of the first event */
	uint64_t lost;   /* events before it */
	uint32_t count;
};

struct file_thread {
	struct trace_thread raw;
	char *name;
	struct array pieces; /* of struct file_piece */
	uint64_t events, lost;
	uint64_t no_return; /* calls without a return, of those that were loaded */
	bool has_ended;
	uint64_t alive; /* ticks, where it has: it had not then, as far as is known */
};

struct file_off {
	struct trace_off raw;
	uint32_t function;
};

struct trace_file {
	const char *path;
	int fd;
	uint64_t size, offset; /* of the file; of the chunk that is looked at */
	struct trace_session session;
	char *command; /* its words, printable, with spaces between them */
	bool has_session, has_clock, ended;
	bool at_exec; /* an exec() was called, nothing is recorded behind it, nor that it failed */
	bool is_past_exec; /* of one that is not known to have failed events are behind it */
	bool has_failed;   /* writing it, and nothing but an end is behind it */
	struct trace_failure failure;
	struct trace_clock first_clock, last_clock;
	struct trace_end end;
	struct trace_exec exec;
	struct array modules;   /* of struct file_module */
	struct array functions; /* of struct file_function */
	struct array entries;   /* of struct file_entry */
	struct array threads;   /* of struct file_thread */
	struct array offs;      /* of struct file_off */
	struct hash module_ids, thread_ids, entry_addresses, function_keys; /* number + 1 */
	uint64_t events, lost;
	uint64_t min_ns;                  /* trace_walk() leaves out shorter calls */
	uint64_t lossy_calls, open_calls; /* trace_walk() has found */
	uint64_t ns_per_tick;             /* times 2^TRACE_NS_SHIFT */
};
#define TRACE_NS_SHIFT 32

/*
 * Read @path ("-": standard input) and look at all that is in it. Says on standard error what is
 * wrong with it. Returns 0, also for a file that was cut off; else -1: trace_close() all the same.
 */
int trace_open(struct trace_file *f, const char *path);

/*
 * @fd, or a copy of what a pipe or a socket gives, for this cannot be read twice. The
 * file's from now on; @fd is closed. -1, having complained.
 */
int trace_regular(const struct trace_file *f, int fd);
void trace_close(struct trace_file *f);

/*
 * A file that is still written, at @fd, which is the file's from now on; and what has been written
 * since the last time, as far as it is whole. 0, or -1 having complained.
 */
void trace_open_growing(struct trace_file *f, const char *path, int fd);
int trace_read_growing(struct trace_file *f);

/* Complain of what stands at @offset, or of the system; return -1. */
int trace_corrupted(const struct trace_file *f, uint64_t offset, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int trace_failed(const struct trace_file *f, int error);

/* Fill @buf from @offset on: 0 or -1. */
int trace_read(const struct trace_file *f, void *buf, size_t size, uint64_t offset);

/* What the entry at @address was at @ticks. A function that the file does not name is made. */
uint32_t trace_function_at(struct trace_file *f, uint64_t address, uint64_t ticks);
/*
 * Add one; what is there already is found again, also in another module of the same path, unless
 * both have a build-id and not the same. TRACE_NONE: no memory.
 */
uint32_t trace_add_function(struct trace_file *f, const struct file_module *module, uint64_t offset,
			    const char *symbol);

/* Demangled, printable, and never NULL. */
const char *trace_function_name(struct trace_file *f, uint32_t function);
/* The same, quoted as JSON wants it, and safe within HTML. */
const char *trace_function_json(struct trace_file *f, uint32_t function);
const char *trace_function_module(const struct trace_file *f, uint32_t function);
/* Behind the last '/'. */
const char *trace_base_name(const char *path);

/* Length of the UTF-8 character at @text, of at most @size bytes; 0: it is none. */
size_t trace_utf8_length(const char *text, size_t size);
/* A copy of @size bytes of malloc(), in which what a terminal must not see has become '?'. */
char *trace_printable(const char *text, size_t size);
/* The same in place, and @text; without memory it becomes "". */
char *trace_make_printable(char *text);
/* @text as a string of JSON, of malloc(), safe within HTML; NULL: no memory. */
char *trace_json_string(const char *text);

/* CRC-32C, going on from @crc, which is 0 at first. */
uint32_t trace_crc(uint32_t crc, const void *data, size_t size);

static inline uint64_t trace_ns(const struct trace_file *f, uint64_t ticks)
{
	unsigned __int128 ns = (unsigned __int128)ticks * f->ns_per_tick;

	return (uint64_t)((ns + ((uint64_t)1 << (TRACE_NS_SHIFT - 1))) >> TRACE_NS_SHIFT);
}

static inline uint64_t trace_ticks(const struct trace_file *f, uint64_t ns)
{
	unsigned __int128 ticks = ((unsigned __int128)ns << TRACE_NS_SHIFT) / f->ns_per_tick;

	return ticks > UINT64_MAX ? UINT64_MAX : (uint64_t)ticks;
}

static inline struct file_thread *trace_thread_at(const struct trace_file *f, size_t i)
{
	return (struct file_thread *)f->threads.data + i;
}

static inline struct file_function *trace_function(const struct trace_file *f, uint32_t i)
{
	return (struct file_function *)f->functions.data + i;
}

#endif
