/* SPDX-License-Identifier: MIT */
/*
 * What tells that threads of the program end, so that the agent need not look each second whether
 * all have. The first thread does by a value of its own (pthread_setspecific()), where the agent
 * was started in it. As long as another thread of the program's runs not all have ended: it is
 * watched by a pidfd (PIDFD_THREAD, of Linux 6.9; the first thread's is not readable before all
 * others have ended, of which the agent is one).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/agent.h"

#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

enum { OTHERS_MS = 1000 /* between two threads that are watched */ };

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;
static _Atomic pid_t told;     /* the process whose first thread tells */
static _Atomic bool is_ending; /* that thread */

static void first_ends(void *server)
{
	atomic_store(&is_ending, true);
	agent_wake(server);
}

static void make_key(void)
{
	has_key = !pthread_key_create(&key, first_ends);
}

void agent_watch_first(struct agent_server *server)
{
	(void)pthread_once(&once, make_key);
	if (syscall(SYS_gettid) != getpid() || !has_key || pthread_setspecific(key, server))
		return;
	atomic_store(&is_ending, false);
	atomic_store(&told, getpid());
}

bool agent_first_is_ending(void)
{
	return atomic_load(&told) == getpid() && atomic_load(&is_ending);
}

/* Neither the first, nor one of Shunt's. */
static bool is_others(pid_t tid)
{
	char path[64], name[16] = "shunt-";
	int fd;

	if (tid <= 0 || tid == getpid())
		return false;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (read(fd, name, sizeof(name) - 1) <= 0)
		name[0] = '\0';
	(void)close(fd);
	return name[0] && strncmp(name, "shunt-", 6) != 0;
}

/* The first that can be, which mostly is the oldest; < 0: none. */
static int open_other(void)
{
	int folder = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	char entries[1024] __attribute__((aligned(8)));
	ssize_t size = folder < 0 ? 0 : getdents64(folder, entries, sizeof(entries));

	for (ssize_t at = 0; at < size && fd < 0;) {
		const struct dirent64 *entry = (const void *)(entries + at);
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (is_others(tid)) {
			fd = (int)syscall(SYS_pidfd_open, tid, PIDFD_THREAD);
			fd = fd < 0 ? -errno : fd;
		}
		at += entry->d_reclen;
	}
	if (folder >= 0)
		(void)close(folder);
	return fd;
}

void agent_watch_other(struct agent_server *server)
{
	int fd;

	if (agent_now_ms() < server->others_at)
		return;
	server->others_at = agent_now_ms() + OTHERS_MS;
	agent_hold_fork();
	fd = open_other();
	if (fd == -EINVAL) /* the kernel has none */
		server->others_at = LLONG_MAX;
	if (fd >= 0)
		(void)agent_keep(&server->other, fd);
	agent_allow_fork();
}

bool agent_is_told(const struct agent_server *server)
{
	return server->other.fd >= 0 ||
	       (atomic_load(&told) == getpid() && !atomic_load(&is_ending));
}
