/* SPDX-License-Identifier: MIT */
/*
 * An attempt to attach: what the process is, its libc, a thread of it, and all that once more where
 * it has become another meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "inject.h"
#include "inject_parts.h"
#include "inject_worker.h"
#include "interrupt.h"
#include "remote.h"
#include "shunt.h"
#include "tracee.h"

enum {
	LOCKS_MS = 30000, /* for the locks: a module's constructor may have one for long */
	START_MS = 10000, /* for the agent's thread to be run */
	END_MS = 10000,   /* for the agent to end */
	EXECS = 5,
	PAUSE_US = 5000, /* before it is tried once more */
	EXEC_MS = 250    /* for a program that begins, on a busy machine */
};

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
			return inject_fail(in, -EOPNOTSUPP,
					   "process %d runs with musl, not with glibc",
					   (int)in->pid);
	if (inject_is_static(in->pid))
		return inject_fail(in, -EOPNOTSUPP,
				   "process %d has no glibc: it is linked statically",
				   (int)in->pid);
	return file ? inject_fail(
			      in, -ESTALE,
			      "process %d: %s is mapped, but its headers and symbols in memory are "
			      "not those of a whole library",
			      (int)in->pid, file)
		    : inject_fail(in, -ESTALE, "process %d has no glibc loaded", (int)in->pid);
}

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
	if (!in->libc)
		return say_no_libc(in);
	if (remote_module_with(&in->space, "__tsan_init"))
		return inject_fail(
			in, -EOPNOTSUPP,
			"process %d runs under ThreadSanitizer, whose own thread must not "
			"call malloc(), and which takes the agent's for one that was "
			"forgotten",
			(int)in->pid);
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
		return inject_fail(in, -EOPNOTSUPP, "process %d has no dlopen()", (int)in->pid);
	return find_globals(in);
}

/* It was there; and whether it would have ended, as it says. */
static void take_stay(char *reply, struct inject_result *result)
{
	struct remote_line line = {0};

	result->was_there = true;
	while (remote_next_line(&reply, &line) > 0)
		if (!strcmp(line.words[0], "was_temporary"))
			result->was_temporary = strcmp(line.words[1], "0") != 0;
	remote_line_free(&line);
}

static int ask_to_stay(int fd, const struct inject_options *options, struct inject_result *result)
{
	static const char *const words[] = {"stay", "children"};
	char *reply = NULL;
	size_t size;
	int err = remote_ask(fd, words, options->in_children ? 2 : 1, -1, &reply, &size,
			     result->why, sizeof(result->why));

	if (!err)
		take_stay(reply, result);
	free(reply);
	return err;
}

/*
 * An agent that runs is asked to stay: it may be about to end with somebody's `shunt trace -p`. 0;
 * -ENOENT: there is none, or none any more; or -errno, and @result says why.
 */
static int keep_agent(pid_t pid, const struct inject_options *options, struct inject_result *result)
{
	char path[REMOTE_PATH];
	int fd, err;

	do {
		if (remote_find(pid, path) && !remote_agent_thread(pid))
			return -ENOENT;
		fd = remote_connect(pid, result->why, sizeof(result->why));
		if (fd < 0)
			return fd == -ESRCH ? -ENOENT : fd;
		err = options->is_temporary ? 0 : ask_to_stay(fd, options, result);
		result->was_there = !err;
		(void)close(fd);
	} while (err == -ECONNRESET || err == -EPIPE || err == -ESHUTDOWN);
	return err;
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
	return err ? err : inject_in_thread(in, result);
}

/* The image that was looked at last is gone, or it has none: the process has executed a program. */
static bool has_changed(const struct injection *in)
{
	return in->space.memory >= 0 && remote_space_is_gone(&in->space);
}

static int say_changes(const struct injection *in, int err, unsigned changes, unsigned looks)
{
#ifdef INJECT_IMAGE_STAYS /* the tests' control */
	return err;
#endif
	return err != -ESTALE || !changes
		       ? err
		       : inject_fail(in, err,
				     "process %d has executed another program while it was looked "
				     "at: in %u of %u look%s",
				     (int)in->pid, changes, looks, tool_plural(looks));
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
	const uint64_t began = tracee_now();
	unsigned changes = 0, looks = 0;
	int err, execs = 0;

	in->until = began + locks_ms * 1000000ull;
	do {
		if (execs || in->is_locked)
			(void)usleep(PAUSE_US);
		changes += has_changed(in);
		in->is_locked = false;
		remote_space_close(&in->space);
		looks++;
		err = keep_agent(in->pid, in->options, result);
		if (err != -ENOENT)
			return err;
		err = inject_once(in, result);
#ifndef INJECT_IMAGE_STAYS /* the tests' control */
		err = inject_look_gone(in->pid, &in->space, err, in->why, in->why_size);
#endif
	} while (((err == -ESTALE || (err == -EPERM && !result->tid)) &&
		  (++execs < EXECS || (err == -ESTALE && !changes && !has_changed(in) &&
				       tracee_now() - began < EXEC_MS * 1000000ull))) ||
		 (in->is_locked && tracee_now() < in->until && !worker_is_to_end()));
	return say_changes(in, err, changes + has_changed(in), looks);
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
	bool is_ours = !job->err && !job->result.was_there;
	int fd = is_ours ? remote_connect(pid, why, sizeof(why)) : -1;

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
	(void)remote_wait_for_end(pid, agent, END_MS);
}

/*
 * One command at a time attaches to a process: two could hold a thread of it each, and write to the
 * same padding. By a lock of the process's folder in /proc, which ends with who has it. Returns a
 * descriptor; -EBUSY: another one has it still; or -1: there is no such lock here.
 */
static int lock_process(struct injection *in)
{
	const unsigned ms = in->options->timeout_ms ? in->options->timeout_ms : LOCKS_MS;
	const uint64_t until = tracee_now() + ms * 1000000ull;
	char path[32];
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d", (int)in->pid);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB)) {
		bool is_held = errno == EWOULDBLOCK;

		if (is_held && tracee_now() < until && !worker_is_to_end()) {
			(void)usleep(PAUSE_US);
			continue;
		}
		if (is_held)
			(void)inject_fail(in, -EBUSY,
					  "process %d is being attached to already, by another "
					  "command",
					  (int)in->pid);
		(void)close(fd);
		return is_held ? -EBUSY : -1;
	}
	return fd;
}

static void work(void *arg)
{
	struct job *job = arg;
	struct injection *in = calloc(1, sizeof(*in));
	int lock;

	job->err = in ? 0 : -ENOMEM;
	if (!in)
		return;
	*in = (struct injection){.pid = job->pid,
				 .options = &job->options,
				 .space.memory = -1,
				 .why = job->result.why,
				 .why_size = sizeof(job->result.why)};
	lock = lock_process(in);
	job->err = lock == -EBUSY ? -EBUSY : inject(in, &job->result);
	if (!job->err && !job->result.was_there)
		remote_wait_for_start(job->pid, START_MS);
	if (lock >= 0)
		(void)close(lock);
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
	sigset_t all, before;

	job.err = keep_agent(pid, options, &job.result);
	if (job.err != -ENOENT) {
		*result = job.result;
		return job.err;
	}
	if (pid == getpid()) {
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
