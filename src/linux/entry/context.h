/* SPDX-License-Identifier: MIT */
/*
 * The guard: each thread says in a record of its own whether a stub of function tracing is calling
 * something on it, so that a change can wait for that, and so that what a callback calls is
 * not traced again (context.c). Stubs set and leave it in their assembly where it is not set
 * (ftrace_save.inc); everything else is decided here.
 */
#ifndef SHUNT_LINUX_CONTEXT_H
#define SHUNT_LINUX_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Handlers on top of callbacks, on top of each other, that are traced. */
#define SHUNT_CONTEXTS 16

/* The assembly knows the first two. */
struct shunt_context {
	_Alignas(64) _Atomic uintptr_t sp; /* of the innermost callback's stub; 0: none runs */
	_Atomic uint64_t seq;              /* how often it has become 0 */
	_Atomic int32_t tid;               /* whose it is; 0: nobody's; -1: not known */
	_Atomic int32_t pid;               /* of its process, a copy of which has other threads */
	struct shunt_context **_Atomic of; /* the thread's variable below, which holds this */
	unsigned depth;                    /* in @outer */
	uintptr_t outer[SHUNT_CONTEXTS];   /* callbacks below the innermost, outermost first */
	/* wait.c: who waits has seen that this guard was left, when the count was that. */
	_Atomic uintptr_t left_sp;
	_Atomic uint64_t left_seq;
};

#define SHUNT_CONTEXTS_OF_CHUNK 60
struct shunt_context_chunk {
	struct shunt_context_chunk *_Atomic next;
	struct shunt_context contexts[SHUNT_CONTEXTS_OF_CHUNK];
};

/* All of them; only ever added to. */
extern struct shunt_context_chunk shunt_context_chunks;

/* This thread's; NULL: it has called no stub yet. */
extern __thread struct shunt_context *shunt_context __attribute__((tls_model("initial-exec")));

/*
 * Set the guard for a stub whose stack pointer is @sp, which has called the caller: the word below
 * @sp is an address in the stubs' text. False: nothing is to be called, and the guard is not
 * to be left: it is a callback that calls a traced function, or there is no memory. *depth is for
 * shunt_guard_leave(). Any context; async-signal-safe.
 */
bool shunt_guard_enter(uintptr_t sp, uintptr_t *depth);
void shunt_guard_leave(uintptr_t depth);

/* Before: a guard in [@low, @high), which is of the caller's own frame, is of what has been left.
 */
void shunt_guard_drop(uintptr_t low, uintptr_t high);

/* Whether this thread is in a callback, also below a signal handler. */
bool shunt_is_in_callback(void);

/*
 * Whether the thread of a record has ended, as far as its number tells, which may be another
 * thread's by now (wait.c); or the record is nobody's: who takes it resets the guard.
 */
bool shunt_context_is_gone(const struct shunt_context *context);

/*
 * In a copy of the process: the records of its threads stay, this one's gets its number, and those
 * of threads that are not in it go.
 */
void shunt_contexts_of_copy(void);

/* The signal frame of a handler on top of what is below @guard, where the stack pointer is @sp; 0:
 * none. */
uintptr_t shunt_find_handler(uintptr_t sp, uintptr_t guard);

#endif
