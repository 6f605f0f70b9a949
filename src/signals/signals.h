/* SPDX-License-Identifier: MIT */
/*
 * What the files of libshunt-signals tell each other.
 *
 * SIGTRAP must never be blocked in a process that pokes with int3, yet a program that
 * blocks it must not notice. So the kernel keeps what the program has set in the place of
 * another signal, the mirror, a real-time signal that glibc sets aside for us: where
 * the program says SIGTRAP in a mask, the kernel is told the mirror, and the other
 * way round where a mask is reported. Whatever inherits, saves, adds or restores masks
 * (a new thread, fork(), siglongjmp(), a handler's return) is then right without our help.
 * A SIGTRAP that was sent and meets a blocked mirror is sent again as the mirror, so it
 * is pending in the kernel until some thread lets it in.
 *
 * That masks and handlers can be interposed for a runtime's sake, with the program's
 * own view kept, is from the JVM's libjsig and from ART's libsigchain. The mirror is ours.
 *
 * No locks and no memory allocation on the way of masks and handlers: their callers may be
 * signal handlers, and children of fork() and vfork().
 */
#ifndef SHUNT_SIGNALS_SIGNALS_H
#define SHUNT_SIGNALS_SIGNALS_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>
#include <ucontext.h>

#include "linux/base/syscall.h"

/* What a program reaches instead of the C library's function of that name. */
#define INTERPOSER __attribute__((visibility("default")))

/*
 * The next definition of each: that of the library behind us (next_dynamic.c), or the
 * C library's by another name (next_static.c). NULL where there is none.
 */
struct shunt_next {
	int (*sigaction)(int, const struct sigaction *, struct sigaction *);
	int (*pthread_sigmask)(int, const sigset_t *, sigset_t *);
	int (*sigsuspend)(const sigset_t *);
	int (*sigpending)(sigset_t *);
	int (*sigtimedwait)(const sigset_t *, siginfo_t *, const struct timespec *);
	int (*signalfd)(int, const sigset_t *, int);
	int (*ppoll)(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *);
	int (*pselect)(int, fd_set *, fd_set *, fd_set *, const struct timespec *,
		       const sigset_t *);
	int (*epoll_pwait)(int, struct epoll_event *, int, int, const sigset_t *);
	int (*epoll_pwait2)(int, struct epoll_event *, int, const struct timespec *,
			    const sigset_t *);
	int (*pthread_attr_setsigmask_np)(pthread_attr_t *, const sigset_t *);
	int (*pthread_attr_getsigmask_np)(const pthread_attr_t *, sigset_t *);
	int (*setcontext)(const ucontext_t *);
	int (*swapcontext)(ucontext_t *, const ucontext_t *);
	int (*timer_create)(clockid_t, struct sigevent *, timer_t *);
};

extern struct shunt_next shunt_next;

/* Fill in shunt_next. */
void shunt_next_init(void);

/* ---------------------------------------------------------------------- masks */

/* Change this thread's mask, and return the one before; the kernel's, not the program's. */
static inline uint64_t shunt_mask_raw(int how, uint64_t mask)
{
	uint64_t old = 0;

	(void)shunt_syscall(SYS_rt_sigprocmask, how, (long)&mask, (long)&old, sizeof(mask));
	return old;
}

/* The kernel's part of a set; the C library's type has room for more. */
static inline uint64_t shunt_mask(const sigset_t *set)
{
	uint64_t mask;

	memcpy(&mask, set, sizeof(mask));
	return mask;
}

static inline void shunt_set_mask(sigset_t *set, uint64_t mask)
{
	memcpy(set, &mask, sizeof(mask));
}

static inline uint64_t shunt_bit(int sig)
{
	return (uint64_t)1 << (sig - 1);
}

/* start.c: make all ready; by whatever call of the program's comes first. */
void shunt_signals_start(void);

/* mirror.c: the mirror's number; 0: it is not chosen yet. */
int shunt_mirror(void);

/* mirror.c: choose the mirror, and libshunt's signal for the core sync; 0: it needs none. */
void shunt_mirror_set(int number, int sync);

/*
 * mirror.c: the bit of the signal that libshunt needs for its core sync where membarrier(2) cannot
 * do it: never blocked, and not the program's. 0 where membarrier can.
 */
uint64_t shunt_sync_bit(void);

/* mirror.c: the program's mask as the kernel is to have it, and a mask of the kernel's as it reads
 * it. */
uint64_t shunt_mask_in(uint64_t program);
uint64_t shunt_mask_out(uint64_t kernel);

/* masks.c: the same for sets; NULL in, NULL out. @kernel is where the result goes. */
const sigset_t *shunt_set_in(sigset_t *kernel, const sigset_t *program);
void shunt_set_out(sigset_t *set);

/*
 * wait.c: a call that waits with a mask of its own, for as long as it lasts: what a SIGTRAP
 * that comes in it has to go by, for the signal frame tells only the mask outside.
 */
struct shunt_wait {
	const struct shunt_wait *outer;
	uint64_t mask;     /* as the kernel has it */
	int place;         /* where the system call has its address: REG_RDI ...; */
	uintptr_t set;     /* the address; of REG_R9, that of a pointer to it */
	uintptr_t args[2]; /* its first two arguments, but for REG_RDI */
};

void shunt_wait_begin(struct shunt_wait *wait, const sigset_t *kernel, int place, uintptr_t first,
		      uintptr_t second);
void shunt_wait_end(struct shunt_wait *wait);

/* wait.c: the mask that was in force where the signal with frame @uc came. */
uint64_t shunt_interrupted_mask(const ucontext_t *uc);

/* ------------------------------------------- what the interposed names call */

/* handlers.c, masks.c: not through the symbols, which may be somebody else's in front of us. */
int shunt_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int shunt_sigmask(int how, const sigset_t *set, sigset_t *old); /* 0 or an error number */
int shunt_sigprocmask(int how, const sigset_t *set, sigset_t *old);

/* trap.c: sigaction() for SIGTRAP. */
int shunt_trap_action(const struct sigaction *act, struct sigaction *old);

/* trap.c, for the start: this process is the one whose action it is; in a child too. */
void shunt_trap_claim_process(void);

/* trap.c, for the start: the action that stands already becomes the program's, and ours stands. */
void shunt_trap_adopt(void);

/* trap.c, for the start: have a copy of the process noticed. */
void shunt_trap_watch_processes(void);

#endif
