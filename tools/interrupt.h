/* SPDX-License-Identifier: MIT */
/*
 * Signals that end a command which waits for another process, or for a reader: they are blocked,
 * and looked for wherever it waits, so that it can take away what it has begun.
 */
#ifndef SHUNT_TOOLS_INTERRUPT_H
#define SHUNT_TOOLS_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * From now on SIGINT, SIGTERM, @more of 0 and one that nohup has not switched off, SIGHUP, end
 * waits.
 * @set, unless NULL: these signals. 0 or -errno.
 */
int interrupt_open(int more, sigset_t *set);

/*
 * The same for a command that looks for its signals by itself: @fd, a signalfd of those that are
 * to end a wait, which it reads. -1: none are looked for any more.
 */
void interrupt_use(int fd);

/*
 * Wait until poll() sees one of @events of @fd (-1: never), at most @ms (-1: without end). 0;
 * -ETIMEDOUT; -EINTR: a signal waits that is to end the command; or -errno.
 */
int interrupt_wait(int fd, short events, int ms);

/* As write_all(), but to a pipe that nobody reads, until a signal. 0 or -errno. */
int interrupt_write(int fd, const char *from, size_t size);

/*
 * For a command that has blocked all signals: those of SIGINT, SIGTERM, SIGHUP and SIGQUIT that are
 * not ignored; and whether one of them waits.
 */
void interrupt_set(sigset_t *set);
bool interrupt_is_pending(void);

/* Signals are as ever: one that still waits ends the process. */
void interrupt_close(void);

#endif
