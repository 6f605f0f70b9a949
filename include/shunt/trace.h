/* SPDX-License-Identifier: MIT */
/*
 * The recorder: which functions ran when, on which thread, for how long, written to a file
 * that the `shunt` tool reads (report, replay, graph, export). A library of its own,
 * libshunt-trace (pkg-config shunt-trace), on top of <shunt/ftrace.h>.
 *
 * One session at a time. All functions may be called from any thread, and not from a signal
 * handler or a callback of <shunt/ftrace.h>. Errors are negative; shunt_last_error() has the words.
 */
#ifndef SHUNT_TRACE_H
#define SHUNT_TRACE_H

#include <stddef.h>
#include <stdint.h>

#include <shunt/module.h>

#ifdef __cplusplus
extern "C" {
#endif

enum shunt_trace_mode {
	SHUNT_TRACE_ALL,    /* each call; a thread writes them to the file as they come */
	SHUNT_TRACE_FLIGHT, /* the last calls, as many as the rings hold, kept until they are saved
			     */
};

/* What is zero or NULL has the default that is said. */
struct shunt_trace_options {
	size_t size;      /* sizeof(struct shunt_trace_options), for later versions */
	const char *path; /* SHUNT_TRACE_ALL: the file; "shunt.trace" */
	const char
		*filter; /* globs, separated by spaces or commas, as of ftrace_set_filter(); all */
	const char *notrace; /* and those that are not traced; none */
	enum shunt_trace_mode mode;
	uint64_t min_ns;      /* calls that are shorter are left out; 0: none */
	size_t ring_size;     /* bytes of a thread's ring: 1 MiB; rounded up to a power of 2 */
	uint64_t auto_off_ns; /* functions shorter than this that are called very often are switched
			       * off while the session runs, and listed; 0: 200 ns; UINT64_MAX: none
			       */
	int save_signal;      /* SHUNT_TRACE_FLIGHT: this signal saves to @path; 0: none */
	int save_on_crash; /* SHUNT_TRACE_FLIGHT: a fault or abort() does, before the process dies
			    * of it; 2: so does any signal that ends it by default */
	int entry_only;    /* no returns: nothing on the stack is changed, nor durations known */
	int fd; /* SHUNT_TRACE_ALL: written to instead of @path, by a copy of it, from where
		 * it stands; 0: none. Children of fork() are recorded where @path is set.
		 * SHUNT_TRACE_FLIGHT: saved to instead of @path, from its beginning each time, by
		 * those signals, and by exit() */
};

/*
 * Start a session. @options NULL: the defaults. Returns 0; -EBUSY: there is one; -EINVAL: an
 * option, or a filter that matches no function that can be traced; -ENOMEM; or what opening
 * the file, or the poke, failed with.
 */
SHUNT_API int shunt_trace_start(const struct shunt_trace_options *options) __SHUNT_CHECKED;

/*
 * End the session: no function is traced behind it; in SHUNT_TRACE_ALL the file is whole. In
 * SHUNT_TRACE_FLIGHT what was recorded is kept until the next start. Returns 0; -EINVAL: there is
 * none; or what writing the file failed with: the session has ended all the same.
 */
SHUNT_API int shunt_trace_stop(void);

/*
 * SHUNT_TRACE_FLIGHT: write what the rings hold now to a new file at @path, while the session runs,
 * or behind its stop. Returns 0; -EINVAL: there has been no session, or it is in SHUNT_TRACE_ALL,
 * whose calls are in its file; -EBUSY: the session writes to that file itself; or what writing it
 * failed with. In the first three cases the file is as it was.
 */
SHUNT_API int shunt_trace_save(const char *path) __SHUNT_CHECKED;

/* The same to the descriptor @fd, which stays the caller's, from where it stands. */
SHUNT_API int shunt_trace_save_fd(int fd) __SHUNT_CHECKED;

/* Totals of the session that runs, or ran last. */
struct shunt_trace_stats {
	uint64_t events;       /* recorded */
	uint64_t lost;         /* not recorded, for want of room in a ring or of memory */
	uint64_t no_return;    /* calls of which the entry alone was recorded, for want of a slot */
	uint64_t threads;      /* that have recorded */
	uint64_t functions;    /* that are traced */
	uint64_t switched_off; /* of them: for being short and called very often */
};
SHUNT_API void shunt_trace_get_stats(struct shunt_trace_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
