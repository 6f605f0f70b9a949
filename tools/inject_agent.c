/* SPDX-License-Identifier: MIT */
/*
 * An attempt to attach: what the process is, its libc, a thread of it, and all that once more where
 * it has become another meanwhile.
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"
#include "inject_parts.h"
#include "inject_worker.h"
#include "interrupt.h"
#include "remote.h"
#include "tracee.h"

enum {
	LOCKS_MS = 30000, /* for the locks: a module's constructor may have one for long */
	END_MS = 10000,   /* for the agent to end */
	EXECS = 5,
	EXEC_PAUSE_US = 5000,
	EXEC_MS = 250 /* for a program that begins, on a busy machine */
};

static int fail(const struct injection *in, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(const struct injection *in, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(in->why, in->why_size, format, args);
	va_end(args);
	return err;
}

/* ------------------------------------------------------------------------ its libc */

/* A file that has a name as glibc's is mapped; NULL: there is none. */
static const char *libc_file(const struct injection *in)
{
	for (size_t i = 0; i < in->space.maps_n; i++)
		if (strstr(in->space.maps[i].name, "/libc.so.6") ||
		    strstr(in->space.maps[i].name, "/libc-2."))
			return in->space.maps[i].name;
	return NULL;
}

static int say_no_libc(const struct injection *in)
{
	const char *file = libc_file(in);

	for (size_t i = 0; i < in->space.modules_n; i++)
		if (strstr(in->space.modules[i].name, "musl"))
			return fail(in, -EOPNOTSUPP, "process %d runs with musl, not with glibc",
				    (int)in->pid);
	if (inject_is_static(in->pid))
		return fail(in, -EOPNOTSUPP, "process %d has no glibc: it is linked statically",
			    (int)in->pid);
	return file ? fail(in, -ESTALE,
			   "process %d: %s is mapped, but its headers and symbols in memory are "
			   "not those of a whole library",
			   (int)in->pid, file)
		    : fail(in, -ESTALE, "process %d has no glibc loaded", (int)in->pid);
}

static int find_libc(struct injection *in)
{
	const struct remote_module *dl;

	in->libc = remote_module_with(&in->space, "gnu_get_libc_version");
	if (!in->libc)
		return say_no_libc(in);
	/* Before glibc 2.34 it was in a library of its own. */
	dl = remote_symbol(&in->space, in->libc, "dlopen") ? in->libc : NULL;
	for (size_t i = 0; !dl && i < in->space.modules_n; i++)
		if (strstr(in->space.modules[i].name, "/libdl"))
			dl = &in->space.modules[i];
	in->dlopen = dl ? remote_symbol(&in->space, dl, "dlopen") : 0;
	in->dlerror = dl ? remote_symbol(&in->space, dl, "dlerror") : 0;
	in->errno_location = remote_symbol(&in->space, in->libc, "__errno_location");
	in->dlsym = dl ? remote_symbol(&in->space, dl, "dlsym") : 0;
	if (!in->dlopen || !in->dlerror || !in->dlsym || !in->errno_location)
		return fail(in, -EOPNOTSUPP, "process %d has no dlopen()", (int)in->pid);
	return 0;
}

static int inject_once(struct injection *in, struct inject_result *result)
{
	int err = inject_check(in->pid, in->options->allow_seccomp, in->why, in->why_size);

	if (err)
		return err;
	err = remote_space_open(&in->space, in->pid);
	if (err == -EACCES || err == -EPERM) {
		inject_say_denied(in->pid, in->why, in->why_size);
		return -EPERM;
	}
	if (err)
		return fail(in, err, "process %d: its memory: %s", (int)in->pid, strerror(-err));
	err = find_libc(in);
	return err ? err : inject_in_thread(in, result);
}

/* The image that was looked at last is gone, or it has none: the process has executed a program. */
static bool has_changed(const struct injection *in)
{
	return in->space.memory >= 0 && remote_space_is_gone(&in->space);
}

static int say_changes(const struct injection *in, int err, unsigned changes)
{
#ifdef INJECT_IMAGE_STAYS /* the tests' control */
	return err;
#endif
	return err != -ESTALE || !changes
		       ? err
		       : fail(in, err,
			      "process %d has executed another program while it was looked at, %u "
			      "time%s in a row",
			      (int)in->pid, changes, changes == 1 ? "" : "s");
}

/*
 * Once more where it has executed another program meanwhile, or is about to begin one, of which
 * little is permitted for a moment; and where a lock stayed taken, as long as there is time: the
 * thread goes on in between.
 */
static int inject(struct injection *in, struct inject_result *result)
{
	const unsigned locks_ms = in->options->timeout_ms ? in->options->timeout_ms : LOCKS_MS;
	const uint64_t began = tracee_now(), until = began + locks_ms * 1000000ull;
	unsigned changes = 0;
	int err, execs = 0;

	do {
		if (execs)
			(void)usleep(EXEC_PAUSE_US);
		changes += has_changed(in);
		in->is_locked = false;
		remote_space_close(&in->space);
		err = inject_once(in, result);
#ifndef INJECT_IMAGE_STAYS /* the tests' control */
		err = inject_look_gone(in->pid, &in->space, err, in->why, in->why_size);
#endif
	} while (((err == -ESTALE || (err == -EPERM && !result->tid)) &&
		  (++execs < EXECS || (err == -ESTALE && !changes && !has_changed(in) &&
				       tracee_now() - began < EXEC_MS * 1000000ull))) ||
		 (in->is_locked && tracee_now() < until && !worker_is_to_end()));
	return say_changes(in, err, changes + has_changed(in));
}

/* ------------------------------------------------------------------- in a process of its own */

struct job {
	pid_t pid;
	struct inject_options options;
	struct inject_result result;
	int err;
};

/* Who wanted it has been killed: nobody knows that it is there. */
static void take_back(void *arg)
{
	static const char *const words[] = {"detach"};
	const struct job *job = arg;
	pid_t pid = job->pid, agent;
	char why[700];
	int fd = job->err ? -1 : remote_connect(pid, why, sizeof(why));

#ifdef INJECT_KEEPS_AGENT /* the tests' control */
	(void)agent;
	if (fd >= 0)
		return;
#endif
	if (fd < 0)
		return;
	agent = remote_agent_thread(pid);
	(void)remote_ask(fd, words, 1, -1, NULL, NULL, why, sizeof(why));
	(void)close(fd);
	for (int ms = 0; agent && ms < END_MS && remote_agent_thread(pid) == agent; ms++)
		(void)usleep(1000);
}

static void work(void *arg)
{
	struct job *job = arg;
	struct injection *in = calloc(1, sizeof(*in));

	job->err = in ? 0 : -ENOMEM;
	if (!in)
		return;
	*in = (struct injection){.pid = job->pid,
				 .options = &job->options,
				 .space.memory = -1,
				 .why = job->result.why,
				 .why_size = sizeof(job->result.why)};
	job->err = inject(in, &job->result);
	remote_space_close(&in->space);
	free(in);
}

/* yama permits this process what it does not permit its child: where it is the other's parent. */
static bool may_do_more(const struct job *job)
{
	return (job->err == -EPERM || job->err == -EACCES) && !job->result.tid &&
	       inject_ptrace_scope() == 1;
}

static void run(struct job *job)
{
	const struct inject_result none = {0};
	int by, err;

#ifdef INJECT_NO_WORKER /* the tests' control */
	work(job);
	return;
#endif
	err = worker_run(work, take_back, job, sizeof(*job), &by);
	if (err == -ECHILD) {
		job->err = err;
		(void)snprintf(job->result.why, sizeof(job->result.why),
			       "process %d: the child of this command that attaches has been "
			       "killed%s%s",
			       (int)job->pid, by ? ": " : "", by ? strsignal(by) : "");
	} else if (err || may_do_more(job)) {
		job->result = none;
		work(job);
	}
}

int inject_agent(pid_t pid, const struct inject_options *options, struct inject_result *result)
{
	struct job job = {.pid = pid, .options = *options};
	char path[REMOTE_PATH];
	sigset_t all, before;

	if (!remote_find(pid, path)) {
		/* Seen by all, it is for its user: only that is asked. */
		int fd = remote_connect_within(pid, 0, job.result.why, sizeof(job.result.why));

		if (fd >= 0)
			(void)close(fd);
		job.result.was_there = true;
		job.err = fd == -EACCES || fd == -EPERM ? fd : 0;
	} else if (pid == getpid()) {
		job.err = inject_check(pid, false, job.result.why, sizeof(job.result.why));
	} else {
		/* Ended in the middle, it would leave a thread there that runs into nothing. */
		(void)sigfillset(&all);
		(void)sigprocmask(SIG_BLOCK, &all, &before);
		run(&job);
		(void)sigprocmask(SIG_SETMASK, &before, NULL);
	}
	*result = job.result;
	return job.err;
}
