/* SPDX-License-Identifier: MIT */
/*
 * What touches another process by ptrace runs in a process of its own, which goes on to a defined
 * end where the command is killed meanwhile (SIGKILL): a thread that is held is given back.
 */
#ifndef SHUNT_TOOLS_INJECT_WORKER_H
#define SHUNT_TOOLS_INJECT_WORKER_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Call @job(@arg) in a child of this process, in a session of its own. @arg: @size bytes, which are
 * as the child left them when it has ended. Called with all signals blocked: SIGINT, SIGTERM,
 * SIGHUP and SIGQUIT that are not ignored make interrupt_is_pending() true there. Where this
 * process has ended before it knew that @job has returned @undo(@arg) is called in the child. 0: it
 * has run; -ECHILD: it has been killed, by signal *@by (0: not known); or -errno: it was not
 * started.
 */
int worker_run(void (*job)(void *arg), void (*undo)(void *arg), void *arg, size_t size, int *by);

/* In the child: whether who called worker_run() has ended. Elsewhere false. */
bool worker_is_alone(void);
/* Whether what has not begun yet is not to begin: that, or interrupt_is_pending(). */
bool worker_is_to_end(void);

#endif
