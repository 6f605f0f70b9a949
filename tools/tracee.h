/* SPDX-License-Identifier: MIT */
/*
 * One thread of another process, held by ptrace while it sleeps in a system call: system calls and
 * functions that it is made to run meanwhile, and its return to that system call as if nothing had
 * been.
 *
 * Functions return 0, or -errno with words in @why: -ESRCH the thread or process has ended or
 * executed another program; -ETIMEDOUT; -EIO something that must not happen. Whatever they return,
 * tracee_release() gives the thread back.
 */
#ifndef SHUNT_TOOLS_TRACEE_H
#define SHUNT_TOOLS_TRACEE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "remote_elf.h"

enum {
	TRACEE_XSTATE = 64 << 10,
	TRACEE_STACK = 256 << 10,
	TRACEE_ARGUMENTS = 4,
	/* Of the page of tracee_map.c. */
	TRACEE_RETURNED = 12, /* behind the system call that says that a function has returned */
	TRACEE_SYSCALL = 64   /* a `syscall` instruction */
};

/* By what a thread makes a system call and comes back by itself: tracee_frame.c. */
struct tracee_way {
	uint64_t call, back,
		frame; /* `syscall; ret`, the call of rt_sigreturn(); room for a frame */
	size_t room;   /* bytes; 0: there is none of it */
};

struct tracee {
	const struct remote_space *space;
	pid_t tid;
	bool is_seized, is_stopped, is_saved;
	struct user_regs_struct regs; /* as it was stopped */
	uint64_t number;              /* its system call, to be made anew */
	uint64_t mask;                /* its blocked signals */
	unsigned char xstate[TRACEE_XSTATE];
	size_t xstate_size;
	uint64_t stack; /* of ours, in the process; 0: none */
	uint64_t page;  /* the same, to return to; 0: none */
	size_t page_size;
	uint64_t errno_at; /* where its errno is; 0: not known */
	int32_t errno_value;
	uint64_t stopped; /* ns, when */
	struct tracee_way way;
	bool has_way;        /* there is a frame */
	bool is_restarted;   /* it goes on before its system call, as tracee_stop() has left it */
	unsigned char *kept; /* what was where the frame is */
	char why[600];
};

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t tracee_now(void);

/* Stop thread @tid, whose registers are @t->regs then. */
int tracee_stop(struct tracee *t, const struct remote_space *space, pid_t tid);
/* tracee_frame.c: look in @libc, before the thread is stopped, which is @t->way afterwards. */
void tracee_find_way(const struct remote_space *space, const struct remote_module *libc,
		     struct tracee_way *way);
/* Save all that is to be as before, and block its signals. Behind tracee_stop(). */
int tracee_prepare(struct tracee *t);
/*
 * tracee_map.c: map a stack of TRACEE_STACK bytes for it, and the page that it returns to. Behind
 * tracee_prepare(). And unmap both, before it is released.
 */
int tracee_map(struct tracee *t);
int tracee_unmap(struct tracee *t);
/*
 * tracee_map.c: have its errno be what it is now when it goes on, also where this program is killed
 * meanwhile. @location: __errno_location() there. Behind tracee_map().
 */
int tracee_keep_errno(struct tracee *t, uint64_t location);

/* A system call with up to six arguments; what it returns, -errno too, goes to @result. */
int tracee_syscall(struct tracee *t, long number, const uint64_t arguments[6], int64_t *result);

/*
 * Call @function with TRACEE_ARGUMENTS arguments on the stack of ours. -ETIMEDOUT: for @limit_ms it
 * waited for a lock, and is stopped there: tracee_release() takes it away from it.
 */
int tracee_call(struct tracee *t, uint64_t function, const uint64_t *arguments, unsigned limit_ms,
		uint64_t *result);

/* Stop it where it is, if it runs. */
int tracee_halt(struct tracee *t);
/* Everything as before, but for what is mapped, and the thread runs on. What could not be done is
 * in the result. */
int tracee_release(struct tracee *t);

#endif
