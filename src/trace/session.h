/* SPDX-License-Identifier: MIT */
/*
 * The session that runs, or ran last, and what the recorder's files do with it.
 *
 * Lock order: api_lock (start and stop), then lock (the file, the catalogue, the rings' consumer
 * side), then those of <shunt/ftrace.h>. Hooks take none.
 */
#ifndef SHUNT_TRACE_SESSION_H
#define SHUNT_TRACE_SESSION_H

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
	uint64_t functions, switched_off;
	uint64_t no_return_before; /* of the engine, at the start */
	uint64_t no_return;        /* at the end */
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
	char command[1024];               /* the words of the command line */
	size_t command_size;
	struct trace_file file; /* SHUNT_TRACE_ALL */
	struct trace_cursor cursor;
	struct shunt_raw_ops raw;
	struct trace_totals totals;
	bool has_consumer;
	pthread_t consumer;
	_Atomic int32_t consumer_tid;
	bool is_finished;      /* the file was closed by trace_stream_finish() */
	bool has_told_failure; /* of the file */
	sigset_t mask;         /* of the thread that started it */
	_Atomic bool stop;
};
extern struct trace_session_state trace_session; /* state.c */

/* state.c: path.PID, into TRACE_PATH_MAX bytes. */
void trace_path_of_process(char *path);

/* Since the start, in ticks. */
static inline uint64_t trace_now(void)
{
	return trace_clock_ticks((enum trace_clock_source)trace_session.head.clock) -
	       trace_session.head.start_ticks;
}

/* consumer.c: the thread that empties the rings, and looks after them. 0 or -errno. */
int trace_consumer_start(void);
void trace_consumer_stop(void);

/* stream.c. Lock held, or a child of fork's own. The events of a ring to the file. */
void trace_stream_begin(void);                   /* what stands before all events */
bool trace_stream_ring(struct trace_ring *ring); /* whether there was something */
void trace_stream_loss(struct trace_ring *ring); /* what was lost, and no event came behind */
void trace_stream_end(void);
/* What the rings hold now, while hooks run; @is_end: and the file is closed, for good. */
void trace_stream_finish(bool is_end);

/*
 * drain.c. Lock held. The events of all rings to the file; @is_last: no hook begins any more, and
 * those that run are waited for.
 */
void trace_drain(bool is_last);

/*
 * finish.c: what the rings hold is written, because this process is about to be another program,
 * or (@is_end) to end. Async-signal-safe. The consumer's side of it is the other two.
 */
void trace_finish(bool is_end);
bool trace_finish_is_wanted(void);
void trace_finish_serve(void);

/*
 * snapshot.c: the chunks that begin and end a file; and one file of what the rings hold now.
 * Async-signal-safe: no lock.
 */
void trace_write_head(struct trace_file *file, struct trace_cursor *cursor);
void trace_write_thread(struct trace_file *file, const struct trace_ring *ring, uint64_t started);
void trace_write_clock(struct trace_file *file);
void trace_write_end(struct trace_file *file, uint64_t events, uint64_t lost);
int trace_snapshot(const char *path, int fd); /* @path NULL: to @fd */
/* The same, to the session's path or, where that is another process's, path.PID. */
int trace_save_by_environment(void);
/* save.c: the one or the other, as the session is. Async-signal-safe. */
void trace_save_now(void);

/* totals of the rings, besides those in trace_session.totals. */
void trace_count_rings(uint64_t *events, uint64_t *lost);

/* signals.c: snapshots on signals; 0 or -errno. */
int trace_signals_start(const struct shunt_trace_options *options);
void trace_signals_stop(void);
/* The handler of a signal that the process is about to die of. */
bool trace_is_own_handler(const struct sigaction *action);
/* libc_sigaction.c */
int trace_sigaction(int sig, const struct sigaction *action, struct sigaction *before);

/* auto_off.c. Lock held, but for the first. */
void trace_auto_off_begin(uint64_t below_ns);
/* Events of one thread, in order: @scale calls stand for each. */
void trace_auto_off_see(const struct trace_slot *slots, uint64_t n, uint64_t scale);
void trace_auto_off_look(void); /* now and then */

/* child.c: fork. */
void trace_child_prepare(void);

/* failed.c: a failure's message, for shunt_last_error(); returns @error. */
int trace_failed(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
