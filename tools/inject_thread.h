/* SPDX-License-Identifier: MIT */
/*
 * Which thread of a process can be made to call dlopen(): one that sleeps in a system call in which
 * no lock of malloc() or of the dynamic linker can be held by it.
 */
#ifndef SHUNT_TOOLS_INJECT_THREAD_H
#define SHUNT_TOOLS_INJECT_THREAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject_chain.h"
#include "remote_elf.h"
#include "tracee.h"

enum thread_verdict {
	THREAD_FITS,
	THREAD_FITS_LESS,   /* its time limit would begin anew */
	THREAD_FITS_WALKED, /* if no word of its stack that speaks against it is of its call chain
			     */
	THREAD_FITS_LEAST,  /* its children may end meanwhile */
	THREAD_RUNS,
	THREAD_ELSEWHERE, /* in another system call */
	THREAD_PARTS,     /* in one that returns what it has so far when it is interrupted */
	THREAD_LOCK,      /* waits in a futex that may be a lock's */
	THREAD_OLD_CALL,  /* in a system call as of a program of 32 bits */
	THREAD_HANDLER,   /* in a signal handler */
	THREAD_ALLOCATOR, /* in malloc() or the dynamic linker */
	THREAD_FIBRE,     /* on a stack that is not its own */
	THREAD_FILTERED,  /* by seccomp */
	THREAD_FOREIGN,   /* not made by this libc */
	THREAD_VERDICTS
};

/* Where a thread is in the kernel. */
struct thread_place {
	long number; /* of the system call */
	uint64_t arguments[6], stack, instruction;
};

/* What does not change while a thread is looked for. */
struct thread_search {
	const struct remote_space *space;
	const struct remote_module *libc;
	bool allow_seccomp, allow_fibres;
	struct remote_range waits[64], allocators[64], interrupted[64], barriers[4]; /* functions */
	size_t waits_n, allocators_n, libc_allocators_n, interrupted_n, barriers_n;
	struct remote_range malloc_libraries[8]; /* and the dynamic linker */
	size_t malloc_libraries_n;
	bool is_single;                 /* there was one thread in the last round */
	bool is_late;                   /* others have had half of the time to come to sleep */
	unsigned seen[THREAD_VERDICTS]; /* in the last round */
	unsigned walkable;              /* in the last round: THREAD_FITS_WALKED, not tried */
	struct chain_reader *reader;
	bool has_opened_reader; /* or tried to */
	struct chain chain;     /* of the stopped thread */
	/* Threads whose chain was walked in vain: when, ns, and what it said. */
	struct thread_walk {
		pid_t tid;
		uint64_t at;
		enum thread_verdict verdict;
	} * walks;
	size_t walks_n;
};

void thread_search_begin(struct thread_search *search, const struct remote_space *space,
			 const struct remote_module *libc);
/* inject_functions.c: whether @address is behind a call in one of the functions. */
bool thread_is_return_to(const struct remote_range *ranges, size_t n, uint64_t address);
/* Whether it leads back into malloc() or the dynamic linker. */
bool thread_is_of_allocator(const struct thread_search *search, uint64_t address);

/* inject_wait.c: by the system call alone. */
enum thread_verdict thread_judge_wait(const struct thread_search *search, pid_t tid,
				      const struct thread_place *place);
/* inject_stack.c: by what the thread was called from, for which each word of the stack is taken. */
enum thread_verdict thread_judge_stack(const struct thread_search *search,
				       const struct thread_place *place);
/* The same by the frames of @search->chain, and by words where those end too early. */
enum thread_verdict thread_judge_chain(const struct thread_search *search,
				       const struct thread_place *place);
/*
 * Whether it sleeps on the stack that it was made with, at whose top glibc has its description
 * (@tcb), or in a handler that has interrupted one of libc's waits there: on another one it may
 * have left any function in the middle.
 */
bool thread_is_on_own_stack(const struct thread_search *search, const struct thread_place *place,
			    pid_t tid, uint64_t tcb);
/* Read what the walk of its stack needs of modules, before the thread is stopped. */
void thread_load_modules(const struct thread_search *search, const struct thread_place *place);
/* Whether the system call may be futex(2), begun anew too. */
bool thread_is_in_futex(const struct thread_search *search, const struct thread_place *place);
/* Whether it is pthread_barrier_wait() itself that waits: no lock that this would call. */
bool thread_is_in_barrier(const struct thread_search *search, const struct thread_place *place);

/*
 * Stop a thread that fits, in @t, within @limit_ms. 0; -EAGAIN: there was none, and @search->seen
 * says what the threads did; -ESTALE: the process has executed another program, and @search->space
 * is of the one before; or what tracee_stop() returned, with words in @t->why.
 */
int thread_search_stop(struct thread_search *search, struct tracee *t, unsigned limit_ms);

/* Words for -EAGAIN within @limit_ms: what the threads did instead. */
void thread_search_say_none(const struct thread_search *search, unsigned limit_ms, char *why,
			    size_t size);

#endif
