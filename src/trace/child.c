/* SPDX-License-Identifier: MIT */
/*
 * In a child of fork the session goes on: with rings of its own, empty at first, and a file of its
 * own, the path with ".PID" behind it (of a device that one again: state.c), which is made with
 * the first call, so that a child that is killed leaves one. It has no consumer: fork() must not
 * make threads. So each thread writes its own ring when that is full, in the hook, one at a time;
 * who finds another one at it loses events, which are counted.
 *
 * A child that is made while the session is busy for long, with a pipe that nobody reads for
 * instance, is not recorded; its stop says so.
 *
 * A copy of the process that no atfork handler has seen (_Fork(), a bare clone()) is known by pages
 * that the kernel clears in it: the one that each ring begins with, so that the first event asks,
 * and one for everything else. After vfork() the child runs in the parent's memory, on the parent's
 * ring.
 */
#include <errno.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "trace/catalogue.h"
#include "trace/child.h"
#include "trace/file.h"
#include "trace/ring.h"
#include "trace/save.h"
#include "trace/state.h"
#include "trace/stream.h"

static _Atomic uint32_t *this_process; /* 0 in a copy; NULL: not known to be cleared */
static _Atomic bool is_child;
static _Atomic bool has_old_locks; /* of a copy: another one's thread may have them */
static _Atomic int32_t writer;     /* the thread that writes; 0: none does */

/* By system calls and stores alone: it may happen in a hook. */
static void become_child(void)
{
	struct trace_session_state *s = &trace_session;
	static char path[TRACE_PATH_MAX];
	struct trace_ring *own = trace_own_ring;

	if (this_process)
		atomic_store(this_process, 1);
	s->has_consumer = false;
	if (s->file.fd >= 0)
		(void)trace_file_close(&s->file);
	trace_file_forget(&s->file);
	(void)trace_file_close(&s->held); /* the parent's */
	s->is_finished = s->has_told_failure = false;
	s->cursor = (struct trace_cursor){0};
	s->head.pid = (uint32_t)shunt_own_pid();
	s->how = trace_path_of_process(path);
	for (size_t i = 0; i < sizeof(path); i++)
		((volatile char *)s->path)[i] = path[i];
	s->totals.events = s->totals.lost = s->totals.lost_told = 0;
	s->totals.no_return_before = shunt_returns_missed();
	s->totals.no_return_told = 0;
	atomic_store(&trace_lost_without_ring, 0);
	atomic_store(&writer, 0);
	trace_save_in_child();
	atomic_store(&trace_threads, 0);
	trace_rings_drop_others(own);
	if (own != &trace_no_ring && own != &trace_not_here) {
		trace_ring_adopt(own);
		own->tid = shunt_own_tid();
		if (!trace_shape.is_flight) /* the first call opens the file */
			atomic_store(&own->limit, 0);
	}
	atomic_store(&is_child, true);
}

static bool is_copy(void)
{
	return this_process && !atomic_load_explicit(this_process, memory_order_relaxed);
}

/* What another thread was at when the copy was made will never end here. */
static void become_copy(void)
{
	become_child();
	trace_catalogue_take_over(false);
	atomic_store(&has_old_locks, true);
}

void trace_see_copy(void)
{
	if (is_copy() && atomic_load(&trace_session.is_running))
		become_copy();
	else if (is_copy()) {
		atomic_store(this_process, 1);
		atomic_store(&has_old_locks, true);
	}
	if (atomic_exchange(&has_old_locks, false)) {
		(void)pthread_mutex_init(&trace_session.lock, NULL);
		(void)pthread_mutex_init(&trace_session.api_lock, NULL);
	}
}

bool trace_owner_writes(void)
{
	if (is_copy())
		become_copy();
	return atomic_load_explicit(&is_child, memory_order_relaxed);
}

enum { WRITER_TURNS = 20000, WRITER_TURN_NS = 100000 }; /* 2 seconds */

static bool begin_writing(void)
{
	int32_t none = 0;

	return atomic_compare_exchange_strong_explicit(&writer, &none, shunt_own_tid(),
						       memory_order_acquire, memory_order_relaxed);
}

static void end_writing(void)
{
	atomic_store_explicit(&writer, 0, memory_order_release);
}

/* As soon as another thread is done with what it writes; a handler in the middle of that would wait
 * in vain. */
static bool begin_writing_last(void)
{
	static const struct timespec turn = {0, WRITER_TURN_NS};
	int32_t now;

	for (int i = 0; i < WRITER_TURNS; i++) {
		if (begin_writing())
			return true;
		now = atomic_load(&writer);
		if (now == shunt_own_tid())
			return false;
		if (now)
			(void)shunt_syscall(SYS_futex, (long)&writer, FUTEX_WAIT_PRIVATE, now,
					    (long)&turn);
	}
	return false;
}

void trace_owner_write(struct trace_ring *ring)
{
	if (!begin_writing())
		return;
	trace_stream_go_on();
	if (!trace_shape.is_flight)
		trace_stream_open();
	(void)trace_stream_ring(ring);
	end_writing();
}

void trace_owner_open(void)
{
	if (trace_shape.is_flight || !trace_owner_writes() || !begin_writing())
		return;
	trace_stream_open();
	end_writing();
}

void trace_owner_finish(bool is_end)
{
	if (!begin_writing_last())
		return;
	trace_stream_go_on();
	trace_stream_finish(is_end);
	end_writing();
}

void trace_owner_go_on(void)
{
	if (!begin_writing())
		return;
	trace_stream_go_on();
	end_writing();
}

void trace_owners_take_over(void)
{
	atomic_store(&is_child, true);
}

/* ------------------------------------------------------------------------- fork() */

enum { PATIENCE = 2 }; /* seconds */

static __thread bool has_locks __attribute__((tls_model("initial-exec")));
/* That this thread is in: one in a handler of the other. */
static __thread unsigned forks __attribute__((tls_model("initial-exec")));

static bool take(pthread_mutex_t *lock, const struct timespec *until)
{
	return !pthread_mutex_timedlock(lock, until);
}

/*
 * What these guard is whole in the child. But whoever has them may be waiting for this thread,
 * which may have the dynamic linker's list, or for a pipe's reader.
 */
static void before_fork(void)
{
	struct timespec until;

#ifndef TRACE_FORGETS_FORKER /* tests/recorder: a control */
	if (forks++)
		return;
#endif
	trace_see_copy();
	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += PATIENCE;
	has_locks = take(&trace_session.api_lock, &until);
	if (!has_locks || take(&trace_session.lock, &until))
		return;
	(void)pthread_mutex_unlock(&trace_session.api_lock);
	has_locks = false;
}

/* In a child of one fork() the handlers of the other one may go on, which has no locks there. */
static void in_parent(void)
{
#ifndef TRACE_FORGETS_FORKER
	if (!forks || --forks)
		return;
#endif
	if (!has_locks)
		return;
	has_locks = false;
	(void)pthread_mutex_unlock(&trace_session.lock);
	(void)pthread_mutex_unlock(&trace_session.api_lock);
}

static void in_child(void)
{
	forks = 0;
	(void)pthread_mutex_init(&trace_session.lock, NULL);
	(void)pthread_mutex_init(&trace_session.api_lock, NULL);
	if (!atomic_load(&trace_session.is_running))
		return;
	become_child();
	trace_catalogue_take_over(has_locks);
	if (!has_locks) { /* it may be anything: nothing of this child is recorded */
		trace_session.file.error = -EBUSY;
		trace_session.file.failed_call = "fork";
	}
}

/* Before any session, so that none begins in the middle of a fork(); and before the agent's own. */
__attribute__((constructor)) static void register_fork_handlers(void)
{
	static bool is_registered;

	if (!is_registered && !pthread_atfork(before_fork, in_parent, in_child))
		is_registered = true;
}

/* As the kernel sets the times of files. Of one by the environment the command's start counts. */
static void note_start(void)
{
	struct timespec now;

	if (trace_is_autostart && trace_session.since)
		return;
	trace_session.since = clock_gettime(CLOCK_REALTIME_COARSE, &now)
				      ? 0
				      : (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void trace_child_prepare(void)
{
	static bool is_prepared;

	note_start();
	trace_shape.is_wiped = sysconf(_SC_PAGESIZE) == TRACE_RING_PAGE;
	atomic_store(&is_child, false);
	if (!is_prepared) {
		void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				  -1, 0);

		is_prepared = true;
		register_fork_handlers(); /* where a constructor before it begins a session */
		if (page != MAP_FAILED && !madvise(page, 4096, MADV_WIPEONFORK))
			this_process = page;
	}
	if (this_process)
		atomic_store(this_process, 1);
}
