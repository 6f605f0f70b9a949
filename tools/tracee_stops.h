/* SPDX-License-Identifier: MIT */
/*
 * What tracee.c is made of: the requests of ptrace, and a thread that is let run from one stop to
 * the next, with what becomes of the signals that come meanwhile. Results are as in tracee.h.
 */
#ifndef SHUNT_TOOLS_TRACEE_STOPS_H
#define SHUNT_TOOLS_TRACEE_STOPS_H

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "tracee.h"

/* Put words into @t->why; returns @err. */
int tracee_fail(struct tracee *t, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Before each request: where tests have this program killed. */
void tracee_step(const struct tracee *t);
/* @name: of the request, for the words. */
int tracee_request(struct tracee *t, enum __ptrace_request what, void *address, void *data,
		   const char *name);
int tracee_get_registers(struct tracee *t, struct user_regs_struct *regs);
int tracee_set_registers(struct tracee *t, struct user_regs_struct *regs);

static inline void *tracee_data(uint64_t value)
{
	return (void *)(uintptr_t)value; /* NOLINT(performance-no-int-to-ptr): ptrace's way */
}

/* What waitpid() says of a stop: one of PTRACE_INTERRUPT or of the group; a system call's. */
static inline bool tracee_is_event_stop(int status)
{
	return status >> 16 == PTRACE_EVENT_STOP;
}

static inline bool tracee_is_syscall_stop(int status)
{
	return WSTOPSIG(status) == (SIGTRAP | 0x80);
}

/* Wait until the thread stops, or @until, ns: -ETIMEDOUT without words. */
int tracee_wait(struct tracee *t, uint64_t until, int *status);
int tracee_resume(struct tracee *t, enum __ptrace_request how, int signal);

/* What to do about a stop that is no system call's: 0, and @signal is to be given to the thread. */
int tracee_judge_stop(struct tracee *t, int status, int *signal);

/* Go on until the next stop at a system call's beginning or end. */
int tracee_run_to_syscall(struct tracee *t, uint64_t until);

/* Stop it, wherever it is: a stop from which a system call can be restarted. */
int tracee_interrupt(struct tracee *t, uint64_t until);

#endif
