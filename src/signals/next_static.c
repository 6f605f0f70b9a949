/* SPDX-License-Identifier: MIT */
/*
 * The next definition, in a static executable: the C library's function by its other
 * name. Where glibc's archive has none, the system call.
 *
 * Those that wait are cancellation points there: as in glibc, cancellation is
 * asynchronous for as long as the system call lasts.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "signals/signals.h"

int __libc_sigaction(int sig, const struct sigaction *act, struct sigaction *old);
int __pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __sigsuspend(const sigset_t *set);
int __sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout);
int __pselect(int n, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
	      const sigset_t *set);
int __pthread_attr_setsigmask_internal(pthread_attr_t *attr, const sigset_t *set);
int __pthread_attr_getsigmask_np(const pthread_attr_t *attr, sigset_t *set);
int __setcontext(const ucontext_t *uc);
int __swapcontext(ucontext_t *save, const ucontext_t *uc);
int ___timer_create(clockid_t clock, struct sigevent *event, timer_t *id);

#define MASK_SIZE sizeof(uint64_t)

static int pending(sigset_t *set)
{
	return (int)syscall(SYS_rt_sigpending, set, MASK_SIZE);
}

static int make_signalfd(int fd, const sigset_t *set, int flags)
{
	return (int)syscall(SYS_signalfd4, fd, set, MASK_SIZE, flags);
}

static int cancellable(long number, long a, long b, long c, const void *d, const sigset_t *set)
{
	int type;
	long ret;

	/* NOLINTNEXTLINE(cert-pos47-c,concurrency-thread-canceltype-asynchronous) */
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	ret = syscall(number, a, b, c, d, set, MASK_SIZE);
	(void)pthread_setcanceltype(type, NULL);
	return (int)ret;
}

/* ppoll has one argument fewer: its mask's size stands where others have the mask. */
static int poll_next(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *set)
{
	struct timespec left; /* the kernel writes what is left */

	if (timeout)
		left = *timeout;
	return cancellable(SYS_ppoll, (long)fds, (long)n, (long)(timeout ? &left : NULL), set,
			   (const sigset_t *)MASK_SIZE);
}

static int epoll_next(int epfd, struct epoll_event *events, int n, int timeout, const sigset_t *set)
{
	/* The register that holds the timeout is as wide as a pointer. */
	return cancellable(SYS_epoll_pwait, epfd, (long)events, n, (const void *)(intptr_t)timeout,
			   set);
}

static int epoll_next2(int epfd, struct epoll_event *events, int n, const struct timespec *timeout,
		       const sigset_t *set)
{
	return cancellable(SYS_epoll_pwait2, epfd, (long)events, n, timeout, set);
}

struct shunt_next shunt_next = {
	.sigaction = __libc_sigaction,
	.pthread_sigmask = __pthread_sigmask,
	.sigsuspend = __sigsuspend,
	.sigpending = pending,
	.sigtimedwait = __sigtimedwait,
	.signalfd = make_signalfd,
	.ppoll = poll_next,
	.pselect = __pselect,
	.epoll_pwait = epoll_next,
	.epoll_pwait2 = epoll_next2,
	.pthread_attr_setsigmask_np = __pthread_attr_setsigmask_internal,
	.pthread_attr_getsigmask_np = __pthread_attr_getsigmask_np,
	.setcontext = __setcontext,
	.swapcontext = __swapcontext,
	.timer_create = ___timer_create,
};

void shunt_next_init(void)
{
}
