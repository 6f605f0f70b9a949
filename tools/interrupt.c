/* SPDX-License-Identifier: MIT */
#include "interrupt.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "write_all.h"

static int signals = -1;
static sigset_t blocked;

static bool is_ignored(int sig)
{
	struct sigaction now;

	return !sigaction(sig, NULL, &now) && now.sa_handler == SIG_IGN;
}

void interrupt_set(sigset_t *set)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	(void)sigemptyset(set);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (!is_ignored(ends[i]))
			(void)sigaddset(set, ends[i]);
}

bool interrupt_is_pending(void)
{
	sigset_t pending, set;

	if (sigpending(&pending))
		return false;
	interrupt_set(&set);
	return sigandset(&set, &set, &pending) == 0 && !sigisemptyset(&set);
}

int interrupt_open(int more, sigset_t *set)
{
	(void)sigemptyset(&blocked);
	(void)sigaddset(&blocked, SIGINT);
	(void)sigaddset(&blocked, SIGTERM);
	if (!is_ignored(SIGHUP))
		(void)sigaddset(&blocked, SIGHUP);
	if (more)
		(void)sigaddset(&blocked, more);
	if (set)
		*set = blocked;
	if (sigprocmask(SIG_BLOCK, &blocked, NULL))
		return -errno;
	signals = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
	return signals < 0 ? -errno : 0;
}

void interrupt_use(int fd)
{
	signals = fd;
}

int interrupt_wait(int fd, short events, int ms)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = signals, .events = POLLIN}};
	int n;

	do
		n = poll(fds, 2, ms);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (fds[1].revents)
		return -EINTR;
	return n ? 0 : -ETIMEDOUT;
}

int interrupt_write(int fd, const char *from, size_t size)
{
	/* A pipe that poll() finds writable takes so much without waiting. */
	while (size) {
		size_t n = size < PIPE_BUF ? size : PIPE_BUF;
		int err = interrupt_wait(fd, POLLOUT, -1);

		if (!err)
			err = write_all(fd, from, n);
		if (err)
			return err;
		from += n;
		size -= n;
	}
	return 0;
}

void interrupt_close(void)
{
	(void)close(signals);
	signals = -1;
	(void)sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}
