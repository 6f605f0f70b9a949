/* SPDX-License-Identifier: MIT */
/*
 * The session that runs, or ran last: what the recorder's files share.
 *
 * Lock order: api_lock (start and stop), then lock (the file, the catalogue, the rings' consumer
 * side), then those of <shunt/ftrace.h>. Hooks take none.
 */
#ifndef SHUNT_TRACE_STATE_H
#define SHUNT_TRACE_STATE_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <shunt/trace.h>

#include "core/ftrace_raw.h"
#include "trace/catalogue.h"
#include "trace/clock.h"
#include "trace/file.h"
#include "trace/ring.h"

struct trace_totals {
	uint64_t events, lost; /* of rings that have gone to other threads, or in the file */
	uint64_t lost_told;    /* to `shunt trace` */
	uint64_t functions, switched_off;
	uint64_t no_return_before; /* of the engine, at the start */
	uint64_t no_return;        /* at the end */
	uint64_t no_return_told;   /* to `shunt trace`, of this session's */
};

struct trace_session_state {
	pthread_mutex_t api_lock;
	pthread_mutex_t lock;
	_Atomic bool is_running;
	bool has_been; /* there is, or was, a session */
	struct trace_session head;
	struct shunt_trace_options
		options;                  /* its strings are not ours: not used behind the start */
	struct trace_clock first, second; /* readings of the clock, at the start */
	uint64_t rate;                    /* ticks a second */
	char path[TRACE_PATH_MAX];        /* absolute where that could be found */
	size_t path_length;               /* of the session's that began; a child's is longer */
	enum trace_how how;               /* to open it */
	uint64_t since;     /* ns of CLOCK_REALTIME: files that are older are not this session's */
	char command[1024]; /* the words of the command line */
	size_t command_size;
	struct trace_file file; /* SHUNT_TRACE_ALL */
	struct trace_file held; /* SHUNT_TRACE_FLIGHT: what it is saved to; closed: to the path */
	struct trace_cursor cursor;
	struct shunt_raw_ops raw;
	struct trace_totals totals;
	_Atomic bool has_consumer;
	pthread_t consumer;
	_Atomic int32_t consumer_tid;
	bool is_finished;      /* the file was closed by trace_stream_finish() */
	bool has_told_failure; /* of the file */
	sigset_t mask;         /* of the thread that started it */
	_Atomic bool stop;
};
extern struct trace_session_state trace_session;

/*
 * The environment has asked for it (autostart.c): its file is made when there is something to
 * write, and under the path with ".PID" behind it where the path is taken, by another process or
 * an image of this one before exec().
 */
extern bool trace_is_autostart;

/* Calls of which nothing is known, because their thread could get no ring. */
extern _Atomic uint64_t trace_lost_without_ring;

/*
 * This process's own file, into TRACE_PATH_MAX bytes, and how that is to be opened: path.PID where
 * path is a regular file, or nothing is there; path.PID.2 and so on where that is one of this
 * session already; else there is none, and it is path again. By system calls alone.
 */
enum trace_how trace_path_of_process(char *path);

/* session.c: modules that have come and gone in the last moments. Not in a signal handler. */
void trace_look_again(void);

/* What is at @path is a regular file, or nothing is: not a device, a pipe, or a link. */
bool trace_is_file_or_nothing(const char *path);

/*
 * What a handler calls while its thread's ring is set aside would be neither recorded nor counted:
 * none runs, but of signals that a thread raises by what it does, which kill it where they are
 * blocked, and of the engine's own and the C library's (glibc's 32 and 33), which somebody may be
 * waiting for. Returns the mask before it. Async-signal-safe.
 */
uint64_t trace_hold_handlers(void);
void trace_let_go_handlers(uint64_t before);

/* Since the start, in ticks. */
static inline uint64_t trace_now(void)
{
	return trace_clock_ticks((enum trace_clock_source)trace_session.head.clock) -
	       trace_session.head.start_ticks;
}

#endif
