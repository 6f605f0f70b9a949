/* SPDX-License-Identifier: MIT */
/*
 * What a stopped thread is made to do: it tries malloc()'s lock, and creates the launcher, a thread
 * that loads the libraries and starts the agent while no thread is held. A process of one thread
 * has nobody who could have a lock, and may fork() in the middle of dlopen() if it is let go: that
 * thread itself makes the calls, and so it does where the launcher's code cannot be mapped.
 */
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject_parts.h"
#include "inject_thread.h"
#include "inject_worker.h"
#include "remote.h"

enum {
	PROBE = 100 << 10, /* bytes that malloc() has no list of each thread for */
	SEARCH_MS = 5000,  /* for a thread */
};

/* ------------------------------------------------------------------------ its locks */

#ifndef INJECT_NO_PROBE /* the tests' control */
/* One of the calls that hold nothing else while they wait: a thread can be taken away from there.
 */
static int try_call(struct injection *in, uint64_t function, uint64_t first, uint64_t second,
		    const char *what, uint64_t *result)
{
	const uint64_t arguments[TRACEE_ARGUMENTS] = {first, second};
	int err = tracee_call(&in->tracee, function, arguments, INJECT_PROBE_MS, result);

	in->is_locked = err == -ETIMEDOUT;
	return err ? inject_fail_tracee(in, err, what) : 0;
}
#endif

/* malloc()'s, which pthread_create() takes. */
static int try_malloc(struct injection *in)
{
#ifdef INJECT_NO_PROBE
	(void)in;
	return 0;
#else
	uint64_t result = 0;
	int err = try_call(in, in->malloc, PROBE, 0, "malloc()", &result);

	return err ? err : try_call(in, in->free, result, 0, "free()", &result);
#endif
}

/*
 * The dynamic linker's: of loading, by dlopen() of what is loaded; and of its list, which
 * dl_iterate_phdr() holds while it calls, here a function that ends it at once.
 */
static int try_linker(struct injection *in)
{
#ifdef INJECT_NO_PROBE
	(void)in;
	return 0;
#else
	uint64_t result = 0;
	int err =
		try_call(in, in->dlopen, 0, RTLD_NOW | RTLD_NOLOAD, "the dynamic linker", &result);

#ifdef INJECT_LIST_UNTRIED /* the tests' control */
	return err;
#endif
	return err ? err : try_call(in, in->iterate, in->ends, 0, "the dynamic linker", &result);
#endif
}

/* ------------------------------------------------------------------------- its calls */

#ifndef INJECT_NO_LAUNCHER /* the tests' control */
static bool count_thread(pid_t tid, void *threads)
{
	(void)tid;
	++*(unsigned *)threads;
	return false;
}

static bool has_one_thread(pid_t pid)
{
	unsigned threads = 0;

	return !remote_each_thread(pid, count_thread, &threads) && threads == 1;
}

/* -EACCES, -EPERM: text cannot be mapped. */
static int start_launcher(struct injection *in)
{
	int err = launcher_start(&in->launcher, &in->tracee, &in->calls, INJECT_PROBE_MS);

	/* One that pthread_create() waits for with nothing else taken: setuid() in all threads has
	 * it, and waits for the held one, or malloc() in another. */
	in->is_locked = err == -ETIMEDOUT;
	return err ? inject_fail(in, err, "process %d: a thread for dlopen(): %s", (int)in->pid,
				 in->launcher.why)
		   : 0;
}

#endif

/* What is done while the thread is held. */
static int run_in_thread(struct injection *in)
{
	int err = tracee_prepare(&in->tracee);

	if (!err)
		err = tracee_map(&in->tracee);
	if (!err)
		err = tracee_keep_errno(&in->tracee, in->errno_location);
	if (err)
		return inject_fail_tracee(in, err, "preparing a call");
	err = try_malloc(in);
#ifndef INJECT_NO_LAUNCHER
	if (!err && in->tracee.page && !has_one_thread(in->pid)) {
		err = start_launcher(in);
		if (err != -EACCES && err != -EPERM)
			return err;
		err = 0;
	}
#endif
	if (!err)
		err = try_linker(in);
	return err ? err : inject_load(in);
}

/*
 * And what is done by the launcher. A library that is there may be one that is being loaded: not
 * behind the linker's lock.
 */
static int run_in_launcher(struct injection *in)
{
	uint64_t result = 0;
	int err = inject_call(in, in->dlopen, 0, RTLD_NOW | RTLD_NOLOAD, "the dynamic linker",
			      &result);

	if (!err)
		err = remote_space_reload(&in->space);
	if (!err) {
		inject_look(in);
		err = inject_load(in);
	}
	launcher_leave(&in->launcher);
	return err;
}

/* ---------------------------------------------------------------------- the thread */

static unsigned timeout_of(const struct injection *in)
{
	return in->options->timeout_ms ? in->options->timeout_ms : SEARCH_MS;
}

int inject_in_thread(struct injection *in, struct inject_result *result)
{
	unsigned timeout_ms = timeout_of(in);
	struct thread_search *search = calloc(1, sizeof(*search));
	struct tracee_way way;
	int err, unmapped, released;

	if (!search)
		return inject_fail(in, -ENOMEM, "no memory");
	tracee_find_way(&in->space, in->libc, &way);
	thread_search_begin(search, &in->space, in->libc);
	search->allow_seccomp = in->options->allow_seccomp;
	search->allow_fibres = in->options->allow_fibres;
	err = thread_search_stop(search, &in->tracee, timeout_ms);
	if (err == -EAGAIN)
		thread_search_say_none(search, timeout_ms, in->why, in->why_size);
	else if (err == -EPERM || err == -EACCES)
		inject_say_denied(in->pid, in->why, in->why_size);
	else if (err == -ESTALE)
		(void)inject_fail(in, err, "process %d executes one program after another",
				  (int)in->pid);
	else if (err == -ESRCH)
		(void)inject_fail(in, err, "process %d has ended meanwhile", (int)in->pid);
	else if (err == -EINTR)
		(void)inject_fail(in, err, "interrupted before a thread of process %d was found",
				  (int)in->pid);
	else if (err)
		(void)inject_fail_tracee(in, err, "ptrace");
	free(search);
	if (err)
		return err;
	in->tracee.way = way;
	result->tid = in->tracee.tid;
	err = run_in_thread(in);
#ifdef INJECT_KEEPS_STACK /* the tests' control */
	unmapped = 0;
#else
	unmapped = tracee_unmap(&in->tracee);
#endif
	released = tracee_release(&in->tracee);
	released = released ? released : unmapped;
	result->held += tracee_now() - in->tracee.stopped;
	if (!err && in->launcher.base)
		err = run_in_launcher(in);
	return !err && released ? inject_fail_tracee(in, released, "letting it go on") : err;
}
