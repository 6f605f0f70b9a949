/* SPDX-License-Identifier: MIT */
/*
 * The recorder's locks in fork(), over a faked engine: a fork waits for who has them, so that what
 * they guard is whole in the child; where it has given up, the child does not wait for a thread
 * that it has not; a handler of pthread_atfork() that runs while they are held may fork.
 *
 * *Control:* SHUNT_CONTROL: "unlocked": no lock is taken; "kept": the child has the locks as they
 * were. And a build with -DTRACE_FORGETS_FORKER: a thread does not know that it is in a fork.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <shunt/trace.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "fake_engine.h"
#include "trace/drain.h"
#include "trace/state.h"
#include "trace_reader.h"

enum { TURNS = 20000000, DEEP = 3 };

static struct trace_read r;
static char path[64], child_path[80];

static bool is_control(const char *name)
{
	const char *control = getenv("SHUNT_CONTROL");

	return control && !strcmp(control, name);
}

/* Until what hangs is killed. */
static unsigned seconds(void)
{
	return is_control("kept") ? 2 : 20;
}

static bool start(void)
{
	return !shunt_trace_start(
		&(struct shunt_trace_options){.size = sizeof(struct shunt_trace_options),
					      .path = path,
					      .auto_off_ns = UINT64_MAX});
}

static void calls(unsigned n)
{
	uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

	for (unsigned i = 0; i < n; i++)
		fake_call(i % FAKE_FUNCTIONS, sp - 64);
}

/* What a child makes of its session: 0: it is recorded. */
static int record_in_child(void)
{
	(void)alarm(seconds()); /* fork() does not hand it on */
	calls(100);
	snprintf(child_path, sizeof(child_path), "%s.%d", path, (int)getpid());
	if (shunt_trace_stop())
		return 1;
	if (!read_trace(&r, child_path) || !r.has_end || r.events != 200 || r.unmatched)
		return 2;
	return unlink(child_path) ? 3 : 0;
}

/* ------------------------------------------------------------------ who has the locks */

static pthread_mutex_t *watched;  /* the lock that the fork is to wait for */
static _Atomic bool is_inside;    /* somebody is at what it guards */
static _Atomic bool is_asked_for; /* by the fork */
static bool gives_up;

int __real_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until);
int __wrap_pthread_mutex_timedlock(pthread_mutex_t *lock, const struct timespec *until)
{
	atomic_store(&is_asked_for, atomic_load(&is_asked_for) || lock == watched);
	if (gives_up)
		return pthread_mutex_trylock(lock) ? ETIMEDOUT : 0;
	return is_control("unlocked") ? 0 : __real_pthread_mutex_timedlock(lock, until);
}

int __real_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_init(pthread_mutex_t *lock, const pthread_mutexattr_t *attr)
{
	return is_control("kept") ? 0 : __real_pthread_mutex_init(lock, attr);
}

/* In the middle of what @watched guards: until the fork asks for it, and a little longer. */
static void stay(void)
{
	atomic_store(&is_inside, true);
	for (int i = 0; i < TURNS && !atomic_load(&is_asked_for); i++)
		sched_yield();
	for (int i = 0; i < 1000; i++)
		sched_yield();
	atomic_store(&is_inside, false);
}

/* The consumer has the session's lock. */
void __real_trace_drain(bool is_last);
void __wrap_trace_drain(bool is_last);
void __wrap_trace_drain(bool is_last)
{
	if (watched == &trace_session.lock && !is_last && !atomic_load(&is_asked_for))
		stay();
	__real_trace_drain(is_last);
}

static int fork_and_look(void)
{
	pid_t pid;

	for (int i = 0; i < TURNS && !atomic_load(&is_inside); i++)
		sched_yield();
	if (!atomic_load(&is_inside))
		return 10;
	pid = fork();
	if (!pid)
		_exit(atomic_load(&is_inside) ? 11 : record_in_child());
	return child_status(pid);
}

static int beside_consumer(void)
{
	int status;

	(void)alarm(seconds());
	if (!start())
		return 20;
	watched = &trace_session.lock;
	status = fork_and_look();
	return status ? status : shunt_trace_stop() ? 21 : 0;
}

/* A thread that starts a session has the lock of the interface, and both in the engine's call. */
static void *start_session(void *good)
{
	*(bool *)good = start();
	return NULL;
}

static int beside_start(void)
{
	pthread_t thread;
	bool good = false;
	int status;

	(void)alarm(seconds());
	watched = &trace_session.api_lock;
	fake.in_middle = stay;
	if (pthread_create(&thread, NULL, start_session, &good))
		return 20;
	status = fork_and_look();
	if (status)
		_exit(status); /* the control's thread may have lost its lock */
	fake.in_middle = NULL;
	pthread_join(thread, NULL);
	return !good || shunt_trace_stop() ? 21 : 0;
}

/* --------------------------------------------------------------------------- given up */

static _Atomic bool has_lock, may_let_go;

static void *keep_lock(void *arg)
{
	pthread_mutex_lock(&trace_session.lock);
	atomic_store(&has_lock, true);
	while (!atomic_load(&may_let_go))
		sched_yield();
	pthread_mutex_unlock(&trace_session.lock);
	return arg;
}

static int beside_keeper(void)
{
	pthread_t thread;
	int status;
	pid_t pid;

	(void)alarm(seconds());
	gives_up = true;
	if (!start() || pthread_create(&thread, NULL, keep_lock, NULL))
		return 20;
	while (!atomic_load(&has_lock))
		sched_yield();
	pid = fork();
	if (!pid) {
		(void)alarm(seconds());
		calls(100);
		_exit(shunt_trace_stop() == -EBUSY ? 0 : 11);
	}
	status = child_status(pid);
	if (status)
		return status;
	/* The parent's are who has them, as before. */
	if (!pthread_mutex_trylock(&trace_session.lock) ||
	    pthread_mutex_trylock(&trace_session.api_lock))
		return 12;
	pthread_mutex_unlock(&trace_session.api_lock);
	atomic_store(&may_let_go, true);
	pthread_join(thread, NULL);
	return shunt_trace_stop() ? 21 : 0;
}

/* ------------------------------------------------------------------------ in a handler */

static bool forks;
static bool is_of_handler; /* this process is the child of a fork() in it */
static unsigned depth;
static int wrong;

/*
 * Registered before the recorder's, it runs in the parent while the recorder has its locks: as that
 * of a program to which shunt attach loads the recorder. In the child of its fork the handlers of
 * the outer fork() go on.
 */
static void fork_in_handler(void)
{
	pid_t pid;

	if (!forks || is_of_handler || depth == DEEP)
		return;
	depth++;
	pid = fork();
	if (!pid)
		is_of_handler = true;
	if (is_of_handler)
		return; /* from the outer ones' handlers, too */
	wrong = wrong ? wrong : child_status(pid);
	depth--;
}

__attribute__((constructor(101))) static void register_handler(void)
{
	(void)pthread_atfork(NULL, fork_in_handler, NULL);
}

static int in_handler(void)
{
	pid_t pid;

	(void)alarm(seconds());
	if (!start())
		return 20;
	forks = true;
	pid = fork();
	forks = false;
	if (!pid || is_of_handler)
		_exit(record_in_child());
	(void)alarm(2); /* a lock that was never given back is waited for */
	wrong = wrong ? wrong : child_status(pid);
	if (wrong)
		return wrong;
	return shunt_trace_stop() ? 21 : 0;
}

static void row(int (*in)(void), const char *what)
{
	int status = in_child(in);

	ok(!status, "%s (%d)", what, status);
}

int main(void)
{
	snprintf(path, sizeof(path), "/tmp/shunt-recorder-forks.%d", (int)getpid());
	row(beside_keeper, "a fork that has given up: the child does not wait, and says so");
	row(beside_consumer, "a fork waits for the consumer: the child is recorded");
	row(beside_start, "a fork waits for a session's start: the child is recorded");
	row(in_handler, "a handler of pthread_atfork() that forks, in the middle of a fork");
	unlink(path);
	return tap_done();
}
