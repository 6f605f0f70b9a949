/* SPDX-License-Identifier: MIT */
/*
 * In which system calls a thread can be stopped without seeing anything of it: those that the
 * kernel, or tracee_release(), begins anew because they have done nothing yet while they sleep. Not
 * what returns a part of its work instead: any write, recvmmsg(2), splice(2), reads that wait for
 * more than the first byte. Those are told by what the descriptor is, of which a copy is asked.
 */
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

#include "inject_thread.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

enum {
	THREAD_OWN = O_EXCL, /* PIDFD_THREAD */
	TTY_PLAIN = 0,       /* N_TTY */
	TTY_MINOR_MASTER = 2 /* /dev/ptmx, of major 5 */
};

/* ------------------------------------------------------------------------ descriptors */

/*
 * A copy of the thread's descriptor: of its own table, or, before Linux 6.9, of the process's. -1:
 * there is none, as before Linux 5.6.
 */
static int copy_descriptor(const struct thread_search *search, pid_t tid, int fd)
{
	int of = (int)syscall(SYS_pidfd_open, tid, THREAD_OWN), copy;

	if (of < 0)
		of = (int)syscall(SYS_pidfd_open, search->space->pid, 0);
	if (of < 0)
		return -1;
	copy = (int)syscall(SYS_pidfd_getfd, of, fd, 0);
	(void)close(of);
	return copy;
}

/* Whether the kernel's reads of such sockets return what there is, or sleep with nothing taken. */
static bool has_plain_reads(int domain)
{
	return domain == AF_UNIX || domain == AF_INET || domain == AF_INET6 ||
	       domain == AF_NETLINK || domain == AF_PACKET || domain == AF_VSOCK;
}

static enum thread_verdict judge_socket(int fd, bool accepts, int flags)
{
	socklen_t size = sizeof(int), limit_size = sizeof(struct timeval);
	struct timeval limit = {0};
	int domain = 0, least = 0;
	enum thread_verdict known = accepts ? THREAD_FITS_LESS : THREAD_PARTS;

	if (flags & MSG_WAITALL || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) ||
	    getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &least, &size) ||
	    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &limit_size))
		return known;
	if (!accepts && (!has_plain_reads(domain) || least > 1))
		return THREAD_PARTS;
	return limit.tv_sec || limit.tv_usec ? THREAD_FITS_LESS : THREAD_FITS;
}

/* The side of a pseudo terminal's owner gives what there is. */
static enum thread_verdict judge_terminal(int fd, dev_t device)
{
	int discipline = -1;
	struct termios how;

	if (major(device) == 5 && minor(device) == TTY_MINOR_MASTER)
		return THREAD_FITS;
	if (ioctl(fd, TIOCGETD, &discipline) || discipline != TTY_PLAIN || tcgetattr(fd, &how))
		return THREAD_PARTS;
	if (how.c_lflag & ICANON || how.c_cc[VMIN] == 1)
		return THREAD_FITS;
	return how.c_cc[VMIN] ? THREAD_PARTS : THREAD_FITS_LESS; /* of VTIME */
}

/* What has no type: only those are known of which a read takes nothing before it sleeps. */
static bool has_whole_reads(const char *path)
{
	static const char *const known[] = {"anon_inode:[eventfd]", "anon_inode:[timerfd]",
					    "anon_inode:[signalfd]", "anon_inode:inotify",
					    "anon_inode:[fanotify]"};
	char name[64];
	ssize_t n = readlink(path, name, sizeof(name) - 1);

	name[n > 0 ? n : 0] = '\0';
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(name, known[i]))
			return true;
	return false;
}

/* Terminals: /dev/tty and consoles, and the pseudo ones. */
static bool is_terminal(const struct stat *st)
{
	unsigned kind = major(st->st_rdev);

	return S_ISCHR(st->st_mode) && (kind == 4 || kind == 5 || (kind >= 136 && kind <= 143));
}

/* A thread that reads from, or accepts on, descriptor @fd: never of a file system. */
static enum thread_verdict judge_read(const struct thread_search *search, pid_t tid, int fd,
				      bool accepts, int flags)
{
	enum thread_verdict verdict;
	struct stat st, now;
	char path[64];
	int copy;

	(void)snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)tid, fd);
	if (stat(path, &st))
		return THREAD_ELSEWHERE;
	if (S_ISFIFO(st.st_mode))
		return THREAD_FITS;
	if (!S_ISSOCK(st.st_mode) && !is_terminal(&st))
		return !(st.st_mode & S_IFMT) && has_whole_reads(path) ? THREAD_FITS
								       : THREAD_ELSEWHERE;
#ifdef INJECT_ANY_READ /* the tests' control */
	(void)search, (void)accepts, (void)flags, (void)now, (void)copy;
	return THREAD_FITS;
#endif
	copy = copy_descriptor(search, tid, fd);
	if (copy >= 0 && (fstat(copy, &now) || now.st_dev != st.st_dev || now.st_ino != st.st_ino))
		verdict = THREAD_PARTS;
	else if (S_ISSOCK(st.st_mode))
		verdict = judge_socket(copy, accepts, flags);
	else
		verdict = judge_terminal(copy, st.st_rdev);
	if (copy >= 0)
		(void)close(copy);
	return verdict;
}

/* ----------------------------------------------------------------------- system calls */

/* Those that begin anew with a time limit that the kernel does not shorten. */
static enum thread_verdict judge_limit(bool has_limit)
{
	return has_limit ? THREAD_FITS_LESS : THREAD_FITS;
}

enum thread_verdict thread_judge_wait(const struct thread_search *search, pid_t tid,
				      const struct thread_place *place)
{
	const uint64_t *a = place->arguments;

	switch (place->number) {
	case SYS_read:
		return judge_read(search, tid, (int)a[0], false, 0);
	case SYS_recvfrom:
		return judge_read(search, tid, (int)a[0], false, (int)a[3]);
	case SYS_recvmsg:
		return judge_read(search, tid, (int)a[0], false, (int)a[2]);
	case SYS_accept:
	case SYS_accept4:
		return judge_read(search, tid, (int)a[0], true, 0);
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
		return judge_limit((int32_t)a[3] > 0);
	case SYS_epoll_pwait2:
		return judge_limit(a[3] != 0);
	case SYS_rt_sigtimedwait:
		return judge_limit(a[2] != 0);
	case SYS_poll:
	case SYS_ppoll:
	case SYS_select:
	case SYS_pselect6:
	case SYS_nanosleep:
	case SYS_clock_nanosleep:
	case SYS_pause:
	case SYS_rt_sigsuspend:
	case SYS_wait4:
	case SYS_waitid:
		return THREAD_FITS;
	case SYS_restart_syscall: /* one of these, or the next one, stopped and continued before */
		if (!thread_is_in_futex(search, place))
			return THREAD_FITS;
		__attribute__((fallthrough));
	case SYS_futex: /* FUTEX_WAIT is what libc's own locks wait with */
		return ((int)a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET ||
				       thread_is_in_barrier(search, place)
			       ? THREAD_FITS
			       : THREAD_LOCK;
	default:
		return THREAD_ELSEWHERE;
	}
}
