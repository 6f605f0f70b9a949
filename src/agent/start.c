/* SPDX-License-Identifier: MIT */
/* The agent's start and end (shunt/control.h), by the program, the environment, and in children of
 * fork(). */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <shunt/control.h>

#include "agent/agent.h"
#include "linux/base/base.h"
#include "linux/sync/sync.h"

enum {
	STACK = 256 << 10,
	TURN_NS = 10000000 /* of a thread that waits for its end */
};

static pthread_mutex_t api_lock = PTHREAD_MUTEX_INITIALIZER;
static struct agent_server server;
static pthread_t thread;
static bool has_thread; /* to be joined */
static _Atomic bool is_being_joined;
static bool is_child;              /* of fork(), of a process with an agent */
static _Atomic uintptr_t forker;   /* the thread that is in fork(), and has the lock; 0: none */
static unsigned forks;             /* of that thread, one in a handler of the other */
static _Atomic char *this_process; /* 0 in a copy: the kernel clears its page; NULL: not known */

/* 0, or an errno. */
static int lock_for_a_while(void)
{
	struct timespec until;

	(void)clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += TURN_NS;
	if (until.tv_nsec >= 1000000000) {
		until.tv_nsec -= 1000000000;
		until.tv_sec++;
	}
	return pthread_mutex_timedlock(&api_lock, &until);
}

static void *run(void *arg)
{
	(void)arg;
#ifdef AGENT_BEGINS_LATE /* tests/agent: behind its socket, as on a machine that is busy */
	agent_nap(3000);
#endif
	(void)prctl(PR_SET_NAME, "shunt-agent");
	/* What fails is the client's to know. */
#ifndef AGENT_IS_LOUD /* tests/agent: a control */
	shunt_log_hold_here(true);
#endif
	agent_serve(&server);
#ifdef AGENT_ENDS_LATE /* tests/agent: behind its socket */
	agent_nap(1500);
#endif
	/* Where a client has ended it nobody joins it before the next start. Who has the lock joins
	 * it, or is in fork(). */
	while (!atomic_load(&is_being_joined)) {
		/* A program may have it most of the time: forks, and sleeps in its handlers. */
		if (!lock_for_a_while()) {
			agent_close_wake(&server);
			(void)pthread_mutex_unlock(&api_lock);
			break;
		}
	}
	if (server.is_alone)
		agent_end_last();
	return NULL;
}

/* All but those that an instruction may raise, and the core sync's. */
static void block_signals(sigset_t *before)
{
	static const int raised[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGSYS};
	sigset_t set;
	int sync;

	(void)pthread_sigmask(SIG_BLOCK, NULL, before);
	/* Before, as this waits for a lock whose owner may be waiting for this thread's answer. */
	sync = shunt_open_to_sync(0);
	(void)sigfillset(&set);
	for (size_t i = 0; i < sizeof(raised) / sizeof(raised[0]); i++)
		(void)sigdelset(&set, raised[i]);
	if (sync)
		(void)sigdelset(&set, sync);
	(void)pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static int create_thread(void)
{
	pthread_attr_t attr;
	sigset_t before;
	int err = pthread_attr_init(&attr);

	if (err)
		return -err;
	(void)pthread_attr_setstacksize(&attr, STACK);
	block_signals(&before);
	err = pthread_create(&thread, &attr, run, NULL);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	(void)pthread_attr_destroy(&attr);
	has_thread = !err;
	if (err)
		shunt_message("agent: pthread_create: %s", strerror(err));
	return -err;
}

static int open_descriptors(void)
{
	char message[600];
	int err = agent_open_wake(&server);

	if (err) {
		shunt_message("agent: its pipe: %s", strerror(-err));
		return err;
	}
	if (server.has_no_socket)
		return 0;
	err = agent_listen(&server.address, server.is_child, message, sizeof(message));
	if (err) {
		agent_close_wake(&server);
		shunt_message("%s", message);
		return err;
	}
	agent_spare_take(&server); /* without it nobody is let in when the program has none left */
	return 0;
}

static void reset(bool has_no_socket)
{
	memset(&server, 0, sizeof(server));
	server.is_child = is_child;
	server.has_no_socket = has_no_socket;
	server.wake.fd = server.far_end.fd = server.spare.fd = server.other.fd = -1;
	server.address.socket.fd = server.address.file.fd = -1;
	for (size_t i = 0; i < AGENT_CLIENTS; i++)
		server.clients[i] = (struct agent_client){.socket.fd = -1, .passed.fd = -1};
}

/* Lock held. */
static int start(bool has_no_socket, bool is_temporary)
{
	int err;

	reset(has_no_socket);
	if (is_temporary)
		agent_begin_temporary(&server);
	err = open_descriptors();
	if (err)
		return err;
	err = create_thread();
	if (!err) {
		agent_watch_first(&server);
		return 0;
	}
	agent_close(&server.spare);
	agent_unlisten(&server.address);
	agent_close_wake(&server);
	return err;
}

/* Lock held: the thread has been told to end, or has ended by itself. */
static void join(void)
{
	atomic_store(&is_being_joined, true);
	(void)pthread_join(thread, NULL);
	atomic_store(&is_being_joined, false);
	has_thread = false;
	agent_close_wake(&server);
}

/* ----------------------------------------------------------------------- fork() */

static void note_process(void)
{
	void *page;

	if (!this_process) {
		page = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (page == MAP_FAILED)
			return;
		if (madvise(page, 1, MADV_WIPEONFORK)) {
			(void)munmap(page, 1);
			return;
		}
		this_process = page;
	}
	atomic_store(this_process, 1);
}

/* The thread and its clients are the parent's. The descriptors are copies: closed. */
static void leave_to_parent(void)
{
	agent_session_in_child();
	(void)pthread_mutex_init(&api_lock, NULL);
	atomic_store(&forker, 0);
	if (!has_thread)
		return;
	agent_abandon(&server);
	has_thread = false;
	is_child = true;
}

/*
 * A copy of the process that no atfork handler has seen (_Fork(), a bare clone()): it has no agent,
 * and what the parent's has is not touched.
 */
static void see_copy(void)
{
#ifndef AGENT_SEES_NO_COPY /* the tests' control */
	if (!this_process || atomic_exchange(this_process, 1))
		return;
	leave_to_parent();
#endif
}

static bool is_in_fork(void)
{
#ifdef AGENT_FORGETS_FORKER /* the tests' control */
	return false;
#endif
	return atomic_load(&forker) == (uintptr_t)pthread_self();
}

static void before_fork(void)
{
	see_copy();
	if (is_in_fork()) { /* a handler of the program's forks, too */
		forks++;
		return;
	}
	(void)pthread_mutex_lock(&api_lock);
	agent_hold_fork();
	forks = 1;
	atomic_store(&forker, (uintptr_t)pthread_self());
}

/* Of the program's handlers this one is called last. Those that were not there when fork() began
 * are not called, but for glibc before 2.36; nor is it the child's own fork() that goes on here. */
static void in_parent(void)
{
	if (atomic_load(&forker) != (uintptr_t)pthread_self() || --forks)
		return;
	atomic_store(&forker, 0);
	agent_allow_fork();
	(void)pthread_mutex_unlock(&api_lock);
}

/*
 * The lock, for what starts or ends the agent. Where a tool has that called in a handler of fork()
 * the thread has it; it is not copying the process then, and the agent may open and close
 * descriptors.
 */
static void take_lock(void)
{
	if (is_in_fork())
		agent_allow_fork();
	else
		(void)pthread_mutex_lock(&api_lock);
}

static void give_lock(void)
{
	if (is_in_fork())
		agent_hold_fork();
	else
		(void)pthread_mutex_unlock(&api_lock);
}

static bool is_wanted_in_children(void)
{
	const char *value = secure_getenv("SHUNT_AGENT_FORK");

	return !value || strcmp(value, "0") != 0;
}

static void in_child(void)
{
	bool had_thread = has_thread;
	bool was_running = has_thread && !atomic_load(&server.stop) &&
			   atomic_load(&server.life) == AGENT_STAYS;

	if (this_process)
		atomic_store(this_process, 1);
	leave_to_parent();
	if (!had_thread)
		return;
	/* Where it fails the library has said so. */
	if (was_running && agent_is_in_children && is_wanted_in_children())
		(void)start(false, false);
#ifndef AGENT_LEAVES_CHILDREN /* the tests' control */
	else if (agent_session_is_parents())
		(void)start(true, false);
#endif
}

/* ------------------------------------------------------------------- public */

static void stop_thread(void)
{
	atomic_store(&server.stop, true);
	/* Where the program has closed that the thread is awake, or looks by itself, in a minute.
	 */
	agent_wake(&server);
	join();
}

/* One that runs, and is about to end or to be replaced, has ended. */
static void end_old(bool is_temporary)
{
	if (has_thread && !server.has_no_socket && !is_temporary)
		(void)agent_stays(&server);
	if (has_thread && (atomic_load(&server.stop) || atomic_load(&server.life) == AGENT_ENDS))
		join();
	if (has_thread && server.has_no_socket) {
		atomic_store(&server.is_replaced, true);
		stop_thread();
	}
}

/* Its threads, its socket and its locks are the parent's. */
static int refuse_in_vfork(const char *what)
{
	if (!shunt_is_in_others_memory())
		return 0;
	shunt_message("%s: " SHUNT_IS_IN_OTHERS_MEMORY, what);
	return -EPERM;
}

static int start_for(bool in_children, bool is_temporary)
{
	static bool is_registered;
	int err = 0;

	if (getauxval(AT_SECURE)) {
		shunt_message(
			"shunt_agent_start: the program runs with other rights than its user's");
		return -EPERM;
	}
	err = refuse_in_vfork("shunt_agent_start");
	if (err)
		return err;
	see_copy();
	note_process();
	take_lock();
	end_old(is_temporary);
	if (!is_registered && !pthread_atfork(before_fork, in_parent, in_child))
		is_registered = true;
	if (has_thread && in_children)
		agent_is_in_children = true;
	if (!has_thread) {
		err = start(false, is_temporary);
		agent_is_in_children = in_children && !err;
	}
	give_lock();
	return err;
}

int shunt_agent_start(void)
{
	return start_for(true, false);
}

/* What fails is for who attaches to know, by shunt_last_error(). */
int shunt_agent_attach(int how)
{
	int err;

#ifndef AGENT_IS_LOUD /* tests/agent: a control */
	shunt_log_hold_here(true);
#endif
	err = start_for(how & AGENT_IN_CHILDREN, how & AGENT_TEMPORARY);
	shunt_log_hold_here(false);
	return err;
}

int shunt_agent_stop(void)
{
	int err = refuse_in_vfork("shunt_agent_stop");

	if (err)
		return err;
	see_copy();
	if (has_thread && pthread_equal(pthread_self(), thread))
		return -EDEADLK;
	take_lock();
	agent_is_in_children = false;
	if (!has_thread) {
		give_lock();
		shunt_message("shunt_agent_stop: the agent does not run");
		return -EINVAL;
	}
	stop_thread();
	give_lock();
	return 0;
}

__attribute__((constructor)) static void start_by_environment(void)
{
	const char *value = secure_getenv("SHUNT_AGENT");

	if (!value || !*value || !strcmp(value, "0"))
		return;
	if (strcmp(value, "1") != 0)
		shunt_message("SHUNT_AGENT has none of its values, and is ignored: 0 or 1");
	/* The library has said what was wrong; the program runs all the same. */
	else if (shunt_agent_start())
		agent_is_in_children = false;
}

/* At the exit the socket goes; the thread may be anywhere, and ends with the process. */
__attribute__((destructor)) static void end(void)
{
	see_copy();
	if (has_thread && agent_is_ours(&server.address.socket) && server.address.file.fd < 0)
		agent_remove_address(&server.address);
}
