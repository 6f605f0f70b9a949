/* SPDX-License-Identifier: MIT */
/*
 * What a stopped thread is made to do: it tries malloc()'s lock, and creates the launcher, a thread
 * that loads the libraries and starts the agent while no thread is held. A process of one thread
 * has nobody who could have a lock, and may fork() in the middle of dlopen() if it is let go: that
 * thread itself makes the calls, and so it does where the launcher's code cannot be mapped.
 */
#include "inject.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject_parts.h"
#include "inject_thread.h"
#include "interrupt.h"
#include "remote.h"

#ifndef INJECT_CALL_MS
#define INJECT_PROBE_MS 100   /* for a lock to be free, each time that it is tried */
#define INJECT_CALL_MS  10000 /* for one within pthread_create(), or dlopen() in the held thread */
#endif

enum {
	PROBE = 100 << 10, /* bytes that malloc() has no list of each thread for */
	SEARCH_MS = 5000,  /* for a thread */
	LOCKS_MS = 30000,  /* for the locks: a module's constructor may have one for long */
	LEAST_MS = 2000,
	EXECS = 5,
	PAUSE_US = 5000, /* before it is tried once more */
	TEXT_AT = 4096   /* of the stack: strings, far below what runs on it */
};

int inject_fail(const struct injection *in, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(in->why, in->why_size, format, args);
	va_end(args);
	return err;
}

static int fail_tracee(const struct injection *in, int err, const char *what)
{
	return inject_fail(in, err, "process %d: %s: %s", (int)in->pid, what, in->tracee.why);
}

/* ---------------------------------------------------------------------------- calls */

uint64_t inject_text(const struct injection *in)
{
	return in->launcher.base ? in->launcher.text : in->tracee.stack + TEXT_AT;
}

int inject_put_text(const struct injection *in, const char *text)
{
	int err = remote_write(&in->space, inject_text(in), text, strlen(text) + 1);

	return err ? inject_fail(in, err, "process %d: its memory: %s", (int)in->pid,
				 strerror(-err))
		   : 0;
}

pid_t inject_thread(const struct injection *in)
{
	return in->launcher.base && in->launcher.tid ? in->launcher.tid : in->tracee.tid;
}

/* How long the launcher may wait for locks, in ms: what it does takes a moment without any. */
static unsigned time_left(const struct injection *in)
{
	uint64_t now = tracee_now();
	unsigned left = now < in->until ? (unsigned)((in->until - now) / 1000000) : 0;

	return left > LEAST_MS ? left : LEAST_MS;
}

int inject_call(struct injection *in, uint64_t function, uint64_t first, uint64_t second,
		const char *name, uint64_t *result)
{
	const uint64_t arguments[6] = {first, second};
	int err;

	if (!in->launcher.base) {
		err = tracee_call(&in->tracee, function, arguments, INJECT_CALL_MS, result);
		return err ? fail_tracee(in, err, name) : 0;
	}
	err = launcher_call(&in->launcher, function, arguments, time_left(in), result);
	return err ? inject_fail(in, err, "process %d: %s: %s", (int)in->pid, name,
				 in->launcher.why)
		   : 0;
}

int inject_call_kernel(struct injection *in, long number, uint64_t first, uint64_t second,
		       const char *name)
{
	const uint64_t arguments[6] = {first, second};
	int64_t result = 0;
	int err;

	if (in->launcher.base) {
		err = launcher_call_kernel(&in->launcher, number, arguments, time_left(in),
					   &result);
		if (err)
			return inject_fail(in, err, "process %d: %s: %s", (int)in->pid, name,
					   in->launcher.why);
	} else {
		err = tracee_syscall(&in->tracee, number, arguments, &result);
		if (err)
			return fail_tracee(in, err, name);
	}
	if (result < 0)
		return inject_fail(in, (int)result, "process %d: %s: %s", (int)in->pid, name,
				   strerror((int)-result));
	return (int)result;
}

/* ------------------------------------------------------------------------ its libc */

/*
 * A function that the process uses, and the dynamic linker with it: another library's, or the
 * program's, stands before libc's, but not one of a library that was loaded with RTLD_LOCAL, which
 * may be unmapped at any time.
 */
static int find_global(struct injection *in, const char *name, uint64_t *function)
{
	*function = remote_global(&in->space, name);
#ifdef INJECT_LIBC_MALLOC /* the tests' control */
	*function = remote_symbol(&in->space, in->libc, name);
#endif
#ifdef INJECT_ANY_MALLOC /* another */
	for (size_t i = 0; i < in->space.modules_n; i++)
		if (&in->space.modules[i] != in->libc &&
		    !remote_symbol(&in->space, &in->space.modules[i], "_rtld_global") &&
		    remote_symbol(&in->space, &in->space.modules[i], name))
			*function = remote_symbol(&in->space, &in->space.modules[i], name);
#endif
	return *function ? 0
			 : inject_fail(in, -EOPNOTSUPP,
				       "process %d: the dynamic linker's list has no %s()",
				       (int)in->pid, name);
}

/* libc's own; before glibc 2.34 some are in a library of their own. */
static uint64_t find_own(const struct injection *in, const char *name)
{
	uint64_t function = remote_symbol(&in->space, in->libc, name);

	return function ? function : remote_symbol(&in->space, NULL, name);
}

static int find_globals(struct injection *in)
{
	int err = find_global(in, "malloc", &in->malloc);

	if (!err)
		err = find_global(in, "free", &in->free);
	if (!err)
		err = find_global(in, "pthread_create", &in->calls.create);
	if (err)
		return err;
	in->calls.init = find_own(in, "pthread_attr_init");
	in->calls.stack_size = find_own(in, "pthread_attr_setstacksize");
	in->calls.detach = find_own(in, "pthread_attr_setdetachstate");
	in->calls.unmap = find_own(in, "munmap");
	in->iterate = find_own(in, "dl_iterate_phdr");
	in->ends = find_own(in, "getpid");
	if (!in->calls.init || !in->calls.stack_size || !in->calls.detach || !in->calls.unmap ||
	    !in->iterate || !in->ends)
		return inject_fail(in, -EOPNOTSUPP,
				   "process %d: its libc lacks a function that is needed",
				   (int)in->pid);
	return 0;
}

static int find_libc(struct injection *in)
{
	const struct remote_module *dl;

	in->libc = remote_module_with(&in->space, "gnu_get_libc_version");
	if (!in->libc) {
		for (size_t i = 0; i < in->space.modules_n; i++)
			if (strstr(in->space.modules[i].name, "musl"))
				return inject_fail(in, -EOPNOTSUPP,
						   "process %d runs with musl, not with glibc",
						   (int)in->pid);
		return inject_is_static(in->pid)
			       ? inject_fail(in, -EOPNOTSUPP,
					     "process %d has no glibc: it is linked statically",
					     (int)in->pid)
			       : inject_fail(in, -ESTALE, "process %d has no glibc loaded",
					     (int)in->pid);
	}
	/* Before glibc 2.34 it was in a library of its own. */
	dl = remote_symbol(&in->space, in->libc, "dlopen") ? in->libc : NULL;
	for (size_t i = 0; !dl && i < in->space.modules_n; i++)
		if (strstr(in->space.modules[i].name, "/libdl"))
			dl = &in->space.modules[i];
	in->dlopen = dl ? remote_symbol(&in->space, dl, "dlopen") : 0;
	in->dlerror = dl ? remote_symbol(&in->space, dl, "dlerror") : 0;
	in->errno_location = remote_symbol(&in->space, in->libc, "__errno_location");
	in->dlsym = dl ? remote_symbol(&in->space, dl, "dlsym") : 0;
	if (!in->dlopen || !in->dlerror || !in->errno_location)
		return inject_fail(in, -EOPNOTSUPP, "process %d has no dlopen()", (int)in->pid);
	return find_globals(in);
}

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
	return err ? fail_tracee(in, err, what) : 0;
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
static bool has_one_thread(pid_t pid)
{
	const struct dirent *entry;
	unsigned threads = 0;
	char path[64];
	DIR *dir;

	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		threads += entry->d_name[0] != '.';
	if (dir)
		(void)closedir(dir);
	return threads == 1;
}

/* -EACCES, -EPERM: text cannot be mapped. */
static int start_launcher(struct injection *in)
{
	int err = launcher_start(&in->launcher, &in->tracee, &in->calls, INJECT_CALL_MS);
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
		return fail_tracee(in, err, "preparing a call");
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

static int take_thread(struct injection *in, struct inject_result *result)
{
	unsigned timeout_ms = timeout_of(in);
	struct thread_search *search = calloc(1, sizeof(*search));
	int err, unmapped, released;

	if (!search)
		return inject_fail(in, -ENOMEM, "no memory");
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
		(void)fail_tracee(in, err, "ptrace");
	free(search);
	if (err)
		return err;
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
	return !err && released ? fail_tracee(in, released, "letting it go on") : err;
}

static int inject_once(struct injection *in, struct inject_result *result)
{
	int err = inject_check(in->pid, in->options->allow_seccomp, in->why, in->why_size);
	pid_t other;

	if (err)
		return err;
	other = launcher_find(in->pid);
	in->is_locked = other;
	if (other)
		return inject_fail(in, -EBUSY,
				   "process %d is being attached to already: by its thread %d "
				   "(" LAUNCHER_THREAD_NAME ")",
				   (int)in->pid, (int)other);
	err = remote_space_open(&in->space, in->pid);
	if (err == -EACCES || err == -EPERM) {
		inject_say_denied(in->pid, in->why, in->why_size);
		return -EPERM;
	}
	if (err)
		return inject_fail(in, err, "process %d: its memory: %s", (int)in->pid,
				   strerror(-err));
	err = find_libc(in);
	inject_look(in);
	return err ? err : take_thread(in, result);
}

/*
 * Once more where it has executed another program meanwhile, or is about to begin one, of which
 * little is permitted for a moment; and, as long as there is time, where a lock stayed taken, or
 * where there is a launcher of somebody else, or of one who was killed: the thread goes on in
 * between.
 */
static int inject(struct injection *in, struct inject_result *result)
{
	const unsigned locks_ms = in->options->timeout_ms ? in->options->timeout_ms : LOCKS_MS;
	char path[REMOTE_PATH];
	int err, execs = 0;

	in->until = tracee_now() + locks_ms * 1000000ull;
	do {
		if (execs || in->is_locked)
			(void)usleep(PAUSE_US);
		in->is_locked = false;
		remote_space_close(&in->space);
		result->was_there = !remote_find(in->pid, path);
		err = result->was_there ? 0 : inject_once(in, result);
#ifndef INJECT_IMAGE_STAYS /* the tests' control */
		err = inject_look_gone(in->pid, &in->space, err, in->why, in->why_size);
#endif
	} while (((err == -ESTALE || (err == -EPERM && !result->tid)) && ++execs < EXECS) ||
		 (in->is_locked && tracee_now() < in->until && !interrupt_is_pending()));
	return err;
}

int inject_agent(pid_t pid, const struct inject_options *options, struct inject_result *result)
{
	struct injection *in = calloc(1, sizeof(*in));
	char path[REMOTE_PATH];
	sigset_t all, before;
	int err = 0;

	*result = (struct inject_result){0};
	if (!in)
		return -ENOMEM;
	*in = (struct injection){.pid = pid,
				 .options = options,
				 .space.memory = -1,
				 .why = result->why,
				 .why_size = sizeof(result->why)};
	result->was_there = !remote_find(pid, path);
	if (result->was_there) {
		/* Seen by all, it is for its user: only that is asked. */
		int fd = remote_connect_within(pid, 0, result->why, sizeof(result->why));

		if (fd >= 0)
			(void)close(fd);
		err = fd == -EACCES || fd == -EPERM ? fd : 0;
	} else {
		/* Ended in the middle, it would leave a thread there that runs into nothing. */
		(void)sigfillset(&all);
		(void)sigprocmask(SIG_BLOCK, &all, &before);
		err = inject(in, result);
		(void)sigprocmask(SIG_SETMASK, &before, NULL);
	}
	remote_space_close(&in->space);
	free(in);
	return err;
}
