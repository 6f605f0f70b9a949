/* SPDX-License-Identifier: MIT */
/*
 * The consumer is a thread that the program has not made. The kernel refuses some calls to a
 * process of several threads: unshare() and setns() of a user namespace. And the C library has each
 * thread make the call of setuid() and its like, and ends the process where one is refused what
 * another one is not: so it would be where the program has changed the capabilities of its only
 * thread. There the consumer ends before the call, and another one is made behind it, with the
 * rights of that thread. Where that cannot be (RLIMIT_NPROC, a namespace of PIDs that is the
 * children's), each ring is written by its owner, as in a child of fork.
 */
#include <errno.h>
#include <linux/capability.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>

#include "linux/base/syscall.h"
#include "trace/child.h"
#include "trace/consumer.h"
#include "trace/pause.h"
#include "trace/ring.h"
#include "trace/state.h"

static struct trace_ring *own; /* of the thread that pauses, which has api_lock */
static sigset_t before;

/* Nothing of this is recorded; so no handler runs meanwhile, whose calls would be missed. */
static void begin(void)
{
	sigset_t all;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	own = trace_own_ring;
	trace_own_ring = &trace_not_here;
}

static void end(void)
{
	trace_own_ring = own;
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* "." and "..", this thread, and the consumer. */
static bool has_no_others(void)
{
	struct stat status;

	return !stat("/proc/self/task", &status) && status.st_nlink == 4;
}

static bool is_here(void)
{
	const struct trace_session_state *s = &trace_session;

	return atomic_load(&s->is_running) && s->has_consumer &&
	       s->head.pid == (uint32_t)shunt_own_pid() && /* else after vfork() */
	       atomic_load(&s->consumer_tid) != shunt_own_tid();
}

bool trace_pause(void)
{
	int saved = errno;
	bool is_paused;

	trace_see_copy();
	if (!is_here() || pthread_mutex_trylock(&trace_session.api_lock))
		return false;
	begin();
	is_paused = is_here() && has_no_others() && trace_consumer_try_stop();
	end();
	if (!is_paused)
		(void)pthread_mutex_unlock(&trace_session.api_lock);
	errno = saved;
	return is_paused;
}

static bool read_rights(int tid, struct __user_cap_data_struct rights[2])
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, tid};

	return !shunt_syscall(SYS_capget, (long)&head, (long)rights, 0, 0);
}

bool trace_pause_if_unequal(void)
{
	struct __user_cap_data_struct this[2] = {{0}}, other[2] = {{0}};

	return is_here() && read_rights(0, this) &&
	       read_rights(atomic_load(&trace_session.consumer_tid), other) &&
	       memcmp(this, other, sizeof(this)) != 0 && trace_pause();
}

void trace_resume(void)
{
	int saved = errno;

	begin();
	if (trace_consumer_start())
		trace_owners_take_over();
	trace_session.mask = before;
	end();
	(void)pthread_mutex_unlock(&trace_session.api_lock);
	errno = saved;
}
