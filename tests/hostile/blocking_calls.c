/* SPDX-License-Identifier: MIT */
/*
 * Rows about who waits for whom. A fork in the middle of another thread's update does not wait
 * for its end; the child takes the update back (fork_child() in lock.c), so that it has whole
 * sites and a free lock. A
 * thread that waits in a system call goes on waiting, or not, as the program has asked for
 * with SA_RESTART and SIG_IGN, also when SIGTRAP is ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/port.h>

#include "linux/base/base.h"
#include "linux/trap/sigtrap.h"

#include "hostile.h"

/* Whether the kernel has thread @tid sleeping. */
static bool sleeps(pid_t tid)
{
	char path[64], stat[256], *end;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, stat, sizeof(stat) - 1);
	(void)close(fd);
	stat[n < 0 ? 0 : n] = '\0';
	end = strrchr(stat, ')');
	return end && end[1] && end[2] == 'S';
}

static pid_t this_tid(void)
{
	return (pid_t)syscall(SYS_gettid);
}

/* --------------------------------------------------------- a fork in mid-update */

static _Atomic bool wanted, over;

/* In the updating thread, its poke half way: the fork does not wait for its end. */
static void until_it_forked(void *arg)
{
	(void)arg;
	atomic_store(&wanted, true);
	AWAIT(!atomic_load(&wanted));
}

/* A child: its sites are whole, without an update of its own, and it updates. */
static int live(void)
{
	if (try_site() != key_is_new())
		return 1;
	for (int i = 0; i < 3; i++)
		if (try_update() || try_site() != key_is_new())
			return 2;
	return 0;
}

static pid_t copy(bool by_fork)
{
	return by_fork ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

static void *fork_when_wanted(void *arg)
{
	struct row *r = arg;

	while (!atomic_load(&over)) {
		int status = -1;
		pid_t child;

		if (!atomic_load(&wanted)) {
			(void)sched_yield();
			continue;
		}
		child = copy(true);
		if (!child)
			_exit(live());
		atomic_store(&wanted, false);
		MUST(r, waitpid(child, &status, 0) == child);
		if (status)
			failed(r, WIFSIGNALED(status)        ? "a child was killed"
				  : WEXITSTATUS(status) == 1 ? "a child has half an update"
							     : "a child cannot update");
		provoked(r, 1);
	}
	return NULL;
}

static void row_fork_repairs(struct row *r)
{
	pthread_t thread;

	if (r->is_control)
		take_repair_out();
	MUST(r, !pthread_create(&thread, NULL, fork_when_wanted, r));
	while (more(r)) {
		hold_next(until_it_forked, NULL);
		MUST(r, !try_update());
		MUST(r, try_site() == key_is_new());
		AWAIT(!atomic_load(&wanted));
	}
	atomic_store(&over, true);
	MUST(r, !pthread_join(thread, NULL));
}

/* ------------------------------------------------- what a child could write to */

static volatile int mark;

/* Through each descriptor of a /proc/PID/mem that there is. Returns how many there were. */
static int write_mark(int value)
{
	char path[64], name[64];
	int n = 0;

	for (int fd = 3; fd < 256; fd++) {
		ssize_t len;

		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		len = readlink(path, name, sizeof(name));
		if (len > 4 && !memcmp(name + len - 4, "/mem", 4))
			n += pwrite(fd, &value, sizeof(value), (off_t)(uintptr_t)&mark) ==
			     sizeof(value);
	}
	return n;
}

/* A child that could write to its parent's memory could, of one with more rights than it. */
static void row_fork_descriptor(struct row *r)
{
	MUST(r, !try_update());
	while (more(r)) {
		bool by_fork = times_provoked(r) % 2 || r->is_control;
		int status = -1;
		pid_t child;

		mark = 1;
		if (r->is_control) /* as if the number were not known: it stays open */
			MUST(r, dup(shunt_process()->mem_fd - 1) >= 0);
		child = copy(by_fork);
		if (!child) {
			if (!by_fork && try_update()) /* no fork handler has seen it */
				_exit(1);
			_exit(write_mark(2) && mark == 2 ? 0 : 2);
		}
		MUST(r, waitpid(child, &status, 0) == child && !status);
		if (mark != 1)
			failed(r, "a child has written to its parent's memory");
		provoked(r, 1);
	}
}

/* ------------------------------------------------- a system call is interrupted */

enum mode { IGNORED, RESTARTS, STOPS, NR_MODES };

static int ends[2];
static pid_t reader;
static _Atomic uint64_t seen;
static _Atomic enum mode mode;
static _Atomic bool reads; /* the reader is about to read; the sender is to disturb it */

static void on_trap(int sig)
{
	(void)sig;
	atomic_fetch_add(&seen, 1);
}

/* How many SIGTRAPs have come that are not of a site: to the program's handler, or ours. */
static uint64_t traps_seen(void)
{
	uint64_t emulated, late, foreign;

	shunt_trap_counts(&emulated, &late, &foreign);
	return atomic_load(&seen) + foreign;
}

/* Disturb the reader in its read(); then let it have its byte. */
static void *disturb(void *arg)
{
	while (!atomic_load(&over)) {
		uint64_t before = traps_seen();

		if (!atomic_load(&reads) || !sleeps(reader)) {
			(void)sched_yield();
			continue;
		}
		(void)syscall(SYS_tgkill, getpid(), reader, SIGTRAP);
		if (atomic_load(&mode) != IGNORED || shunt_traps_reach_us())
			AWAIT(traps_seen() != before);
		atomic_store(&reads, false);
		if (atomic_load(&mode) != STOPS)
			(void)!write(ends[1], "x", 1);
	}
	return arg;
}

/* Take SA_RESTART from whoever has SIGTRAP now. */
static void take_restart_out(void)
{
	struct {
		void *handler;
		unsigned long flags;
		void *restorer;
		uint64_t mask;
	} action;

	(void)syscall(SYS_rt_sigaction, SIGTRAP, NULL, &action, sizeof(action.mask));
	action.flags &= ~(unsigned long)SA_RESTART;
	(void)syscall(SYS_rt_sigaction, SIGTRAP, &action, NULL, sizeof(action.mask));
}

static void read_in(struct row *r, enum mode new)
{
	struct sigaction act = {.sa_handler = new == IGNORED ? SIG_IGN : on_trap,
				.sa_flags = new == RESTARTS ? SA_RESTART : 0};
	ssize_t n;
	char c;

	MUST(r, !sigaction(SIGTRAP, &act, NULL));
	MUST(r, !try_update()); /* which may take it */
	MUST(r, shunt_traps_reach_us() == (r->way == INT3));
	if (r->is_control)
		take_restart_out();
	atomic_store(&mode, new);
	atomic_store(&reads, true);
	n = read(ends[0], &c, 1);
	if (new == STOPS ? n != -1 || errno != EINTR : n != 1)
		failed(r, new == STOPS ? "a system call was not interrupted"
				       : "a system call was interrupted");
	AWAIT(!atomic_load(&reads));
	provoked(r, 1);
}

static void row_restart(struct row *r)
{
	pthread_t thread;

	MUST(r, !pipe(ends));
	reader = this_tid();
	MUST(r, !pthread_create(&thread, NULL, disturb, NULL));
	for (unsigned i = 0; more(r); i++)
		read_in(r, i % NR_MODES);
	atomic_store(&over, true);
	MUST(r, !pthread_join(thread, NULL));
}

static struct row rows[] = {
	{.name = "fork-repairs",
	 .title = "forks in the middle of another thread's update",
	 .unit = "children that found its sites whole",
	 .run = row_fork_repairs,
	 .flip = true,
	 .times = 200,
	 .control = "no repair in the child",
	 .control_by_remap = true /* an int3 that is left does the right thing */},
	{.name = "fork-descriptor",
	 .title = "forks, and the child writes to each /proc/PID/mem that it has open",
	 .unit = "children",
	 .run = row_fork_descriptor,
	 .flip = true,
	 .times = 100,
	 .control = "a descriptor of it is left open"},
	{.name = "restart",
	 .title = "gets SIGTRAP in a system call, with and without SA_RESTART",
	 .unit = "system calls",
	 .run = row_restart,
	 .flip = true,
	 .times = 300,
	 .control = "SA_RESTART is taken out"},
	{0},
};

int main(int argc, char **argv)
{
	return hostile_main(argc, argv, rows);
}
