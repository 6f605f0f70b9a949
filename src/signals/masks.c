/* SPDX-License-Identifier: MIT */
/*
 * The calls that set, report or wait with a signal mask: what the program says of SIGTRAP
 * goes to the kernel as the mirror, and comes back as SIGTRAP (signals.h).
 */
#include <errno.h>
#include <sys/signalfd.h>

#include "signals/signals.h"

const sigset_t *shunt_set_in(sigset_t *kernel, const sigset_t *program)
{
	shunt_signals_start();
	if (!program)
		return NULL;
	memset(kernel, 0, sizeof(*kernel));
	shunt_set_mask(kernel, shunt_mask_in(shunt_mask(program)));
	return kernel;
}

void shunt_set_out(sigset_t *set)
{
	shunt_set_mask(set, shunt_mask_out(shunt_mask(set)));
}

/* ------------------------------------------------------------ set and report */

int shunt_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	sigset_t kernel;
	const sigset_t *in = shunt_set_in(&kernel, set);
	int ret = shunt_next.pthread_sigmask(how, in, old);

	if (!ret && old)
		shunt_set_out(old);
	return ret;
}

int shunt_sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	int ret = shunt_sigmask(how, set, old);

	if (ret)
		errno = ret;
	return ret ? -1 : 0;
}

INTERPOSER int pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
	return shunt_sigmask(how, set, old);
}

INTERPOSER int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
	return shunt_sigprocmask(how, set, old);
}

INTERPOSER int sigpending(sigset_t *set)
{
	shunt_signals_start();
	if (shunt_next.sigpending(set))
		return -1;
	shunt_set_out(set);
	return 0;
}

INTERPOSER int pthread_attr_setsigmask_np(pthread_attr_t *attr, const sigset_t *set)
{
	sigset_t kernel;
	const sigset_t *in = shunt_set_in(&kernel, set);

	return shunt_next.pthread_attr_setsigmask_np
		       ? shunt_next.pthread_attr_setsigmask_np(attr, in)
		       : ENOSYS;
}

INTERPOSER int pthread_attr_getsigmask_np(const pthread_attr_t *attr, sigset_t *set)
{
	int ret;

	shunt_signals_start();
	if (!shunt_next.pthread_attr_getsigmask_np)
		return ENOSYS;
	ret = shunt_next.pthread_attr_getsigmask_np(attr, set);
	if (!ret)
		shunt_set_out(set);
	return ret;
}

/* ------------------------------------------------- the calls of BSD: int masks */

static int mask_as_int(int how, int mask)
{
	sigset_t set, old;

	memset(&set, 0, sizeof(set));
	shunt_set_mask(&set, (unsigned)mask);
	return shunt_sigprocmask(how, &set, &old) ? -1 : (int)shunt_mask(&old);
}

INTERPOSER int sigblock(int mask)
{
	return mask_as_int(SIG_BLOCK, mask);
}

INTERPOSER int sigsetmask(int mask)
{
	return mask_as_int(SIG_SETMASK, mask);
}

INTERPOSER int siggetmask(void)
{
	return mask_as_int(SIG_BLOCK, 0);
}

/* ------------------------------------------------------ waiting with a mask */

/* For the cleanup attribute: a wait also ends when its thread is cancelled in it. */
#define WAIT __attribute__((cleanup(shunt_wait_end))) struct shunt_wait

static int suspend(const sigset_t *set)
{
	sigset_t kernel;
	WAIT wait;

	shunt_wait_begin(&wait, shunt_set_in(&kernel, set), REG_RDI, 0, 0);
	return shunt_next.sigsuspend(&kernel);
}

INTERPOSER int sigsuspend(const sigset_t *set)
{
	return suspend(set);
}

/* <signal.h> calls __xpg_sigpause() sigpause(); the symbol of that name takes a mask. */
int shunt_bsd_sigpause(int mask) __asm__("sigpause");
int __xpg_sigpause(int sig);
int __sigpause(int sig_or_mask, int is_sig);

INTERPOSER int shunt_bsd_sigpause(int mask)
{
	sigset_t set;

	memset(&set, 0, sizeof(set));
	shunt_set_mask(&set, (unsigned)mask);
	return suspend(&set);
}

INTERPOSER int __xpg_sigpause(int sig)
{
	sigset_t set;

	if (shunt_sigprocmask(SIG_BLOCK, NULL, &set) || sigdelset(&set, sig))
		return -1;
	return suspend(&set);
}

INTERPOSER int __sigpause(int sig_or_mask, int is_sig)
{
	return is_sig ? __xpg_sigpause(sig_or_mask) : shunt_bsd_sigpause(sig_or_mask);
}

static int poll_with(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *set)
{
	sigset_t kernel;
	WAIT wait;

	if (!shunt_set_in(&kernel, set))
		return shunt_next.ppoll(fds, n, timeout, NULL);
	shunt_wait_begin(&wait, &kernel, REG_R10, (uintptr_t)fds, n);
	return shunt_next.ppoll(fds, n, timeout, &kernel);
}

INTERPOSER int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		     const sigset_t *set)
{
	return poll_with(fds, n, timeout, set);
}

INTERPOSER int pselect(int n, fd_set *in, fd_set *out, fd_set *except,
		       const struct timespec *timeout, const sigset_t *set)
{
	sigset_t kernel;
	WAIT wait;

	if (!shunt_set_in(&kernel, set))
		return shunt_next.pselect(n, in, out, except, timeout, NULL);
	shunt_wait_begin(&wait, &kernel, REG_R9, (unsigned)n, (uintptr_t)in);
	return shunt_next.pselect(n, in, out, except, timeout, &kernel);
}

INTERPOSER int epoll_pwait(int epfd, struct epoll_event *events, int n, int timeout,
			   const sigset_t *set)
{
	sigset_t kernel;
	WAIT wait;

	if (!shunt_set_in(&kernel, set))
		return shunt_next.epoll_pwait(epfd, events, n, timeout, NULL);
	shunt_wait_begin(&wait, &kernel, REG_R8, (unsigned)epfd, (uintptr_t)events);
	return shunt_next.epoll_pwait(epfd, events, n, timeout, &kernel);
}

INTERPOSER int epoll_pwait2(int epfd, struct epoll_event *events, int n,
			    const struct timespec *timeout, const sigset_t *set)
{
	sigset_t kernel;
	const sigset_t *in = shunt_set_in(&kernel, set);
	WAIT wait;

	if (!shunt_next.epoll_pwait2) {
		errno = ENOSYS;
		return -1;
	}
	if (!in)
		return shunt_next.epoll_pwait2(epfd, events, n, timeout, NULL);
	shunt_wait_begin(&wait, &kernel, REG_R8, (unsigned)epfd, (uintptr_t)events);
	return shunt_next.epoll_pwait2(epfd, events, n, timeout, &kernel);
}

/* ------------------------------------------------------ waiting for a signal */

/*
 * A SIGTRAP that is waited for comes as the mirror, once it has been to some thread as
 * SIGTRAP. If that was this one, its wait was interrupted for nothing: look again.
 */
static int wait_for(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	static const struct timespec now;
	sigset_t kernel;
	const sigset_t *in = shunt_set_in(&kernel, set);
	siginfo_t unwanted = {0};
	int sig;

	info = info ? info : &unwanted;
	sig = shunt_next.sigtimedwait(in, info, timeout);
	if (sig < 0 && errno == EINTR) {
		sig = shunt_next.sigtimedwait(in, info, &now);
		if (sig < 0)
			errno = EINTR;
	}
	if (sig == shunt_mirror())
		sig = info->si_signo = SIGTRAP;
	return sig;
}

INTERPOSER int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *timeout)
{
	return wait_for(set, info, timeout);
}

INTERPOSER int sigwaitinfo(const sigset_t *set, siginfo_t *info)
{
	return wait_for(set, info, NULL);
}

INTERPOSER int sigwait(const sigset_t *set, int *sig)
{
	int ret;

	do {
		ret = wait_for(set, NULL, NULL);
	} while (ret < 0 && errno == EINTR);
	if (ret < 0)
		return errno;
	*sig = ret;
	return 0;
}

/* What is read from the descriptor names the mirror; so it is never to be read. */
INTERPOSER int signalfd(int fd, const sigset_t *set, int flags)
{
	uint64_t never = shunt_bit(SIGTRAP) | shunt_bit(shunt_mirror()) | shunt_sync_bit();
	sigset_t kernel = *set;

	shunt_set_mask(&kernel, shunt_mask(set) & ~never);
	return shunt_next.signalfd(fd, &kernel, flags);
}

#ifdef SHUNT_SIGNALS_SHARED
/* What the C library exports besides. A static program has no need of them. */
int __sigsuspend(const sigset_t *set);
int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *set,
		size_t size);
void __chk_fail(void) __attribute__((noreturn));

INTERPOSER int __sigsuspend(const sigset_t *set)
{
	return suspend(set);
}

INTERPOSER int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
			   const sigset_t *set, size_t size)
{
	if (size / sizeof(*fds) < n)
		__chk_fail();
	return poll_with(fds, n, timeout, set);
}
#endif
