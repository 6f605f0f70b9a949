/* SPDX-License-Identifier: MIT */
/* A signal's frame that leads a thread back: tracee_frame.c. */
#ifndef SHUNT_TOOLS_TRACEE_FRAME_H
#define SHUNT_TOOLS_TRACEE_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tracee.h"

enum { TRACEE_FRAME = 38 * 8 /* bytes: struct ucontext, as the kernel has it */ };

/* Whether the kernel takes what ptrace gave of its vector state. */
bool tracee_has_frame(const struct tracee *t);
/*
 * What its system call was before it was stopped once, and went on as restart_syscall(2): by the
 * code before it.
 */
uint64_t tracee_first_number(const struct tracee *t);
/* TRACEE_FRAME bytes to @to; @xstate: where the next one is, a multiple of 64. */
void tracee_make_frame(const struct tracee *t, void *to, uint64_t xstate);
/* @t->xstate_size + 4 bytes, the result. */
size_t tracee_make_xstate(const struct tracee *t, unsigned char *to);

/*
 * Write the frame to where @t->way says, and keep what was there; @t->has_way then. 0, also where
 * there is no room; or -errno. And put back what was there.
 */
int tracee_open_way(struct tracee *t);
void tracee_close_way(struct tracee *t);

#endif
