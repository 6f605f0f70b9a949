/* SPDX-License-Identifier: MIT */
/*
 * A process whose threads all end by pthread_exit(): the C library calls exit(0) as the last one
 * ends, and this thread would keep it from that. So it looks whether it is alone, and ends, too.
 * Where nothing tells it that (watch.c) it looks each second.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"

enum {
	LOOK_MS = 1000, /* while there is a first thread */
	LOOK_ENDED_MS = 100,
	STATUS = 4096 /* of /proc/self/status, which may have more */
};

/* Which the kernel forgets of a thread that has ended. @unknown: it does not say. */
static bool has_no_robust_list(bool unknown)
{
	void *head = &head;
	size_t size;

	return syscall(SYS_get_robust_list, getpid(), &head, &size) ? unknown : !head;
}

/* /proc/self/status, which is the first thread's; 0 or -errno. */
static int read_status(char text[STATUS])
{
	int fd, err;
	ssize_t n;

	agent_hold_fork();
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, STATUS - 1);
	err = n < 0 ? -errno : 0;
	if (fd >= 0)
		(void)close(fd);
	agent_allow_fork();
	text[n > 0 ? n : 0] = '\0';
	return err;
}

static bool first_has_ended(void)
{
	char text[STATUS];
	int err = read_status(text);

	if (err == -EMFILE || err == -ENFILE) /* the process has no descriptor left */
		return has_no_robust_list(false);
	return !err && strstr(text, "\nState:\tZ");
}

/* 0: that cannot be seen. */
static unsigned count_threads(void)
{
	struct stat st;

	/* "." and "..", and one for each thread; the first one is there until all have ended. */
	return stat("/proc/self/task", &st) || st.st_nlink < 2 ? 0 : (unsigned)st.st_nlink - 2;
}

bool agent_is_alone(struct agent_server *server)
{
	unsigned n, ours;

#ifdef AGENT_NEVER_ALONE /* the tests' control */
	return false;
#endif
	/* One system call, as long as the first thread is there. */
	if (!server->has_first_ended && !has_no_robust_list(true))
		return false;
	n = count_threads();
	ours = 1 + shunt_trace_threads();
	if (n && n <= ours + 1 && !server->has_first_ended)
		server->has_first_ended = first_has_ended();
	server->is_alone = server->has_first_ended && n && n <= ours + 1;
	return server->is_alone;
}

/* False: what is watched may have the number of what is polled, which has been closed just then. */
static bool watch(struct agent_server *server)
{
	/* Two system calls, where nobody else is there. */
	if (agent_is_told(server) || count_threads() <= 2 + shunt_trace_threads())
		return true;
	agent_watch_other(server);
	return server->other.fd < 0 || server->opens_at || agent_is_ours(&server->wake);
}

static int turn_ms(const struct agent_server *server, int left)
{
	int turn = server->has_first_ended || agent_first_is_ending() ? LOOK_ENDED_MS : LOOK_MS;

#ifndef AGENT_ALWAYS_LOOKS /* the tests' control */
	if (agent_is_told(server))
		return left;
#endif
	return turn < left ? turn : left;
}

int agent_poll(struct agent_server *server, struct pollfd *polled, nfds_t n, int timeout)
{
	for (int left = timeout, turn;; left -= turn) {
		int ready;

		if (!watch(server))
			return 0;
		turn = turn_ms(server, left);
		polled[n] = (struct pollfd){.fd = server->other.fd, .events = POLLIN};
		ready = poll(polled, n + (server->other.fd >= 0), turn);
		if (ready > 0 && server->other.fd >= 0 && polled[n].revents) {
			agent_close_here(&server->other);
			ready--;
		}
		if (ready || turn == left || agent_is_alone(server))
			return ready;
	}
}

/* Signals as the first thread had them. */
static void take_mask(void)
{
	static const char name[] = "\nSigBlk:\t";
	char text[STATUS];
	const char *line = read_status(text) ? NULL : strstr(text, name);
	uint64_t blocked = line ? strtoull(line + sizeof(name) - 1, NULL, 16) : 0;
	sigset_t set;

	(void)sigemptyset(&set);
	for (int sig = 1; sig <= 64; sig++)
		if (blocked >> (sig - 1) & 1)
			(void)sigaddset(&set, sig);
	(void)pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static pid_t agent_tid;

/* Behind the agent's thread, on whose stack exit() would be run if that were the last one. */
static void *end_last(void *arg)
{
	(void)prctl(PR_SET_NAME, program_invocation_short_name);
#ifdef AGENT_LAST_FIRST /* the tests' control */
	return arg;
#endif
	while (!syscall(SYS_tgkill, getpid(), agent_tid, 0))
		agent_nap(1);
	return arg;
}

/* What the program does at its exit may need more of a stack than this thread has. */
void agent_end_last(void)
{
	pthread_t thread;

	take_mask();
	agent_tid = (pid_t)syscall(SYS_gettid);
	(void)pthread_create(&thread, NULL, end_last, NULL);
#ifdef AGENT_LAST_FIRST
	agent_nap(200);
#endif
}
