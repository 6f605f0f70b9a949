/* SPDX-License-Identifier: MIT */
#include "inject_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "interrupt.h"

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

static int front = -1; /* the command's end is behind it */

bool worker_is_alone(void)
{
	struct pollfd polled = {.fd = front, .events = POLLIN};

	return front >= 0 && poll(&polled, 1, 0) == 1;
}

bool worker_is_to_end(void)
{
	return interrupt_is_pending() || worker_is_alone();
}

/* --------------------------------------------------------------------------- the child */

/* Who reads the command's output waits for the command, not for this process. */
static void leave_descriptors(int kept)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = 0; null >= 0 && fd <= STDERR_FILENO; fd++)
		if (fd != kept)
			(void)dup2(null, fd);
	if (kept > STDERR_FILENO + 1)
		(void)syscall(SYS_close_range, STDERR_FILENO + 1, kept - 1, 0);
	(void)syscall(SYS_close_range, (kept > STDERR_FILENO ? kept : STDERR_FILENO) + 1, ~0u, 0);
}

struct work {
	void (*job)(void *arg), (*undo)(void *arg);
};

struct shared {
	_Atomic bool is_done;
	char arg[] __attribute__((aligned(16)));
};

/* Whether the command knows that it is done. */
static bool tell(int fd)
{
	char byte = 0;

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
}

/* No terminal's signals, and none of those that are sent to the command's process group. */
static void run_job(int fd, const struct work *work, struct shared *shared)
{
	front = fd;
	(void)setsid();
	(void)signal(SIGTERM, SIG_DFL);
	(void)signal(SIGCHLD, SIG_DFL);
	interrupt_use(-1); /* this process has none */
	leave_descriptors(fd);
	if (!worker_is_alone()) {
		work->job(shared->arg);
		shared->is_done = true;
		if (!tell(fd))
			work->undo(shared->arg);
	}
	_exit(0);
}

/* ----------------------------------------------------------------------------- the command */

/* Signals are looked at and left where they are: they end the command when this is over. */
static int open_signals(void)
{
	sigset_t set;

	interrupt_set(&set);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int wait_for(int fd, pid_t pid)
{
	struct pollfd fds[] = {{.fd = fd, .events = POLLIN},
			       {.fd = open_signals(), .events = POLLIN}};
	int signals = fds[1].fd, status = 0;
	char byte;
	pid_t got;

	while (!fds[0].revents) {
		if (poll(fds, 2, -1) < 0 || !fds[1].revents)
			continue;
		fds[1].fd = -1;
		fds[1].revents = 0;
		(void)kill(pid, SIGTERM);
	}
	if (signals >= 0)
		(void)close(signals);
	if (recv(fd, &byte, 1, 0) == 1)
		(void)send(fd, &byte, 1, MSG_NOSIGNAL);
	do
		got = waitpid(pid, &status, 0);
	while (got < 0 && errno == EINTR);
	return got == pid && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static int run_and_wait(struct shared *shared, const struct work *work, int *by)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return -errno;
	pid = fork();
	if (!pid) {
		(void)close(ends[0]);
		run_job(ends[1], work, shared);
	}
	(void)close(ends[1]);
	if (pid < 0) {
		int err = -errno;

		(void)close(ends[0]);
		return err;
	}
	*by = wait_for(ends[0], pid);
	(void)close(ends[0]);
	return shared->is_done ? 0 : -ECHILD;
}

int worker_run(void (*job)(void *arg), void (*undo)(void *arg), void *arg, size_t size, int *by)
{
	const struct work work = {job, undo};
	const size_t whole = sizeof(struct shared) + size;
	struct shared *shared =
		mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int err;

	*by = 0;
	if (shared == MAP_FAILED)
		return -errno;
	memcpy(shared->arg, arg, size);
	err = run_and_wait(shared, &work, by);
	memcpy(arg, shared->arg, size);
	(void)munmap(shared, whole);
	return err;
}
