/* SPDX-License-Identifier: MIT */
/*
 * What a stopped thread is made to do: it tries the locks, loads the libraries that are not there,
 * and calls shunt_agent_start(). The libraries go by their paths where the process sees the same
 * files there, else by descriptor, in memory files that it never sees the names of.
 */
#include "inject.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject_parts.h"
#include "inject_thread.h"
#include "inject_worker.h"
#include "remote.h"
#include "remote_elf.h"
#include "shunt.h"
#include "tracee.h"

#ifndef INJECT_CALL_MS
#define INJECT_PROBE_MS 1000  /* for a lock to be free, each time that it is tried */
#define INJECT_CALL_MS  10000 /* for one within dlopen() */
#endif

enum {
	LIBRARIES = 3,
	PROBE = 100 << 10, /* bytes that malloc() has no list of each thread for */
	SEARCH_MS = 5000,  /* for a thread */
	PATH_ROOM = 64,    /* below the stack's top: strings */
	TEXT_AT = 4096     /* of the stack: strings, far below what runs on it */
};

/* In the order in which they need each other. @path differs, because the linker knows a library
 * by the name under which it was loaded, and descriptors' numbers come again. */
static const struct library {
	const char *name, *folder, *symbol, *path;
} libraries[LIBRARIES] = {
	{"libshunt.so.0", "../src", "shunt_last_error", "/proc/self/fd/%d"},
	{"libshunt-trace.so.0", "../src/trace", "shunt_trace_start", "/proc/self/./fd/%d"},
	{"libshunt-agent.so.0", "../src/agent", "shunt_agent_start", "/proc/./self/fd/%d"},
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

static int fail_tracee(const struct injection *in, int err, const char *what)
{
	return fail(in, err, "process %d: %s: %s", (int)in->pid, what, in->tracee.why);
}

/* ------------------------------------------------------------------------ its locks */

#ifndef INJECT_NO_PROBE /* the tests' control */
/* One of the calls that hold nothing else while they wait: a thread can be taken away from there.
 */
static int try_call(struct injection *in, uint64_t function, uint64_t first, uint64_t second,
		    const char *what, uint64_t *result)
{
	int err = tracee_call(&in->tracee, function, first, second, INJECT_PROBE_MS, result);

	in->is_locked = err == -ETIMEDOUT;
	return err ? fail_tracee(in, err, what) : 0;
}

/*
 * A function that the process uses, and the dynamic linker with it: another library's, or the
 * program's, stands before libc's, but not one of a library that was loaded with RTLD_LOCAL, which
 * may be unmapped at any time. The linker itself says it, under its lock.
 */
static int find_global(struct injection *in, const char *name, uint64_t *function)
{
	uint64_t text = in->tracee.stack + TEXT_AT;
	int err = remote_write(&in->space, text, name, strlen(name) + 1);

	if (err)
		return fail(in, err, "process %d: its memory: %s", (int)in->pid, strerror(-err));
	err = try_call(in, in->dlsym, 0 /* RTLD_DEFAULT */, text, "the dynamic linker", function);
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
	if (!err && !*function)
		return fail(in, -EOPNOTSUPP, "process %d has no %s()", (int)in->pid, name);
	return err;
}
#endif

static int try_locks(struct injection *in)
{
#ifdef INJECT_NO_PROBE
	(void)in;
	return 0;
#else
	uint64_t allocate = 0, give_back = 0, result = 0;
	int err = find_global(in, "malloc", &allocate);

	if (!err)
		err = find_global(in, "free", &give_back);
	if (!err)
		err = try_call(in, allocate, PROBE, 0, "malloc()", &result);
	if (!err)
		err = try_call(in, give_back, result, 0, "free()", &result);
	return err ? err
		   : try_call(in, in->dlopen, 0, RTLD_NOW | RTLD_NOLOAD, "the dynamic linker",
			      &result);
#endif
}

/* ---------------------------------------------------------------------- a library */

/* Beside this program, in the tree that it was built in or installed to. */
static int find_library(const struct injection *in, const struct library *library, char *path)
{
	const char *const places[] = {library->folder, SHUNT_TOOL_TO_LIB};
	char self[4096], beside[4400];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	self[n > 0 ? n : 0] = '\0';
	slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < sizeof(places) / sizeof(places[0]); i++) {
		*slash = '\0';
		(void)snprintf(beside, sizeof(beside), "%s/%s/%s", self, places[i], library->name);
		if (realpath(beside, path))
			return 0;
	}
	return fail(in, -ENOENT, "there is no %s beside this program", library->name);
}

/* Whether the process finds the same file under that path. */
static bool is_seen(const struct injection *in, const char *path)
{
	char there[4200];
	struct stat ours, theirs;

	(void)snprintf(there, sizeof(there), "/proc/%d/root%s", (int)remote_thread(in->pid), path);
	return !stat(path, &ours) && !stat(there, &theirs) && ours.st_dev == theirs.st_dev &&
	       ours.st_ino == theirs.st_ino;
}

/* dlopen() of @path there. -ENOENT: it could not, and @in->why is dlerror(). */
static int load(struct injection *in, const char *path)
{
	uint64_t text = in->tracee.stack + TEXT_AT, handle = 0, message = 0;
	char reason[600] = "no reason is given";
	int err = remote_write(&in->space, text, path, strlen(path) + 1);

	if (err)
		return fail(in, err, "process %d: its memory: %s", (int)in->pid, strerror(-err));
	err = tracee_call(&in->tracee, in->dlopen, text, RTLD_NOW | RTLD_LOCAL, INJECT_CALL_MS,
			  &handle);
	if (err)
		return fail_tracee(in, err, "dlopen()");
	if (handle)
		return 0;
	err = tracee_call(&in->tracee, in->dlerror, 0, 0, INJECT_CALL_MS, &message);
	if (err)
		return fail_tracee(in, err, "dlerror()");
	if (message)
		(void)remote_read_string(&in->space, message, reason, sizeof(reason));
	return fail(in, -ENOENT, "process %d cannot load %s: %s", (int)in->pid, path, reason);
}

/* ------------------------------------------------------------------ by descriptor */

static int remote_call(struct injection *in, long number, uint64_t first, uint64_t second,
		       const char *name)
{
	const uint64_t arguments[6] = {first, second};
	int64_t result = 0;
	int err = tracee_syscall(&in->tracee, number, arguments, &result);

	if (err)
		return fail_tracee(in, err, name);
	if (result < 0)
		return fail(in, (int)result, "process %d: %s: %s", (int)in->pid, name,
			    strerror((int)-result));
	return (int)result;
}

/* Write the file at @path into descriptor @fd of the thread. */
static int fill(const struct injection *in, const char *path, int fd)
{
	char there[64];
	void *image;
	size_t size, done = 0;
	int to, err = tool_read_file(path, &image, &size);

	if (err)
		return fail(in, err, "%s: %s", path, strerror(-err));
	(void)snprintf(there, sizeof(there), "/proc/%d/fd/%d", (int)in->tracee.tid, fd);
	to = open(there, O_WRONLY | O_CLOEXEC);
	err = to < 0 ? -errno : 0;
	while (!err && done < size) {
		ssize_t n = write(to, (const char *)image + done, size - done);

		if (n < 0 && errno != EINTR)
			err = -errno;
		else if (n > 0)
			done += (size_t)n;
	}
	if (to >= 0)
		(void)close(to);
	free(image);
	return err ? fail(in, err, "%s: %s", there, strerror(-err)) : 0;
}

static int load_by_descriptor(struct injection *in, const struct library *library, const char *path)
{
	uint64_t text = in->tracee.stack + TEXT_AT;
	char there[PATH_ROOM], why[600];
	int err = remote_write(&in->space, text, library->name, strlen(library->name) + 1), fd;

	if (err)
		return fail(in, err, "process %d: its memory: %s", (int)in->pid, strerror(-err));
	fd = remote_call(in, SYS_memfd_create, text, MFD_CLOEXEC, "memfd_create()");
	if (fd < 0)
		return fd;
	err = fill(in, path, fd);
	if (!err) {
		/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): of the table above */
		(void)snprintf(there, sizeof(there), library->path, fd);
		err = load(in, there);
	}
	(void)snprintf(why, sizeof(why), "%.599s", in->why);
	fd = remote_call(in, SYS_close, (uint64_t)fd, 0, "close()");
	if (err)
		return fail(in, err, "%s (%s)", why, library->name);
	return fd;
}

static int load_library(struct injection *in, const struct library *library)
{
	char path[4096];
	int err = find_library(in, library, path);

	if (err)
		return err;
	/* It may see the file, and not be allowed to read it. */
	if (strlen(path) < TEXT_AT / 2 && is_seen(in, path)) {
		err = load(in, path);
		if (err != -ENOENT)
			return err;
	}
	return load_by_descriptor(in, library, path);
}

static int load_libraries(struct injection *in)
{
	for (size_t i = 0; i < LIBRARIES; i++) {
		int err;

		if (remote_module_with(&in->space, libraries[i].symbol))
			continue;
		err = load_library(in, &libraries[i]);
		if (err)
			return err;
	}
	return remote_space_reload(&in->space);
}

/* ------------------------------------------------------------------------- the agent */

static int start_agent(struct injection *in)
{
	/* Of an older one, the public function. */
	static const char *const names[] = {"shunt_agent_attach", "shunt_last_error",
					    "shunt_agent_start"};
	uint64_t start = remote_symbol(&in->space, NULL, names[0]), message = 0, result = 0;
	uint64_t last_error = remote_symbol(&in->space, NULL, names[1]);
	char reason[600] = "no reason is given";
	int err;

	if (!start)
		start = remote_symbol(&in->space, NULL, names[2]);
	if (!start || !last_error)
		return fail(in, -ENOENT, "process %d: the agent is not where it was loaded",
			    (int)in->pid);
	err = tracee_call(&in->tracee, start, in->options->in_children, 0, INJECT_CALL_MS, &result);
	if (err == -ETIMEDOUT) /* its own lock, or one of libc's */
		return fail(in, err, "process %d: %s: a lock stayed taken", (int)in->pid, names[0]);
	if (err)
		return fail_tracee(in, err, names[0]);
	if (!(int)result)
		return 0;
	if (!tracee_call(&in->tracee, last_error, 0, 0, INJECT_CALL_MS, &message) && message)
		(void)remote_read_string(&in->space, message, reason, sizeof(reason));
	return fail(in, (int)result, "process %d: %s", (int)in->pid, reason);
}

static int run_in_thread(struct injection *in)
{
	int err = tracee_prepare(&in->tracee);

	if (!err)
		err = tracee_map(&in->tracee);
	if (!err)
		err = tracee_keep_errno(&in->tracee, in->errno_location);
	if (err)
		return fail_tracee(in, err, "preparing a call");
	err = try_locks(in);
	if (!err)
		err = load_libraries(in);
#ifndef INJECT_KEEPS_AGENT /* the tests' control */
	if (!err && worker_is_alone())
		err = fail(in, -EINTR, "process %d: the command has been killed", (int)in->pid);
#endif
	return err ? err : start_agent(in);
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
		return fail(in, -ENOMEM, "no memory");
	tracee_find_way(&in->space, in->libc, &way);
	thread_search_begin(search, &in->space, in->libc, in->options->allow_seccomp);
	err = thread_search_stop(search, &in->tracee, timeout_ms);
	if (err == -EAGAIN)
		thread_search_say_none(search, timeout_ms, in->why, in->why_size);
	else if (err == -EPERM || err == -EACCES)
		inject_say_denied(in->pid, in->why, in->why_size);
	else if (err == -ESTALE)
		(void)fail(in, err, "process %d executes one program after another", (int)in->pid);
	else if (err == -ESRCH)
		(void)fail(in, err, "process %d has ended meanwhile", (int)in->pid);
	else if (err == -EINTR)
		(void)fail(in, err, "interrupted before a thread of process %d was found",
			   (int)in->pid);
	else if (err)
		(void)fail_tracee(in, err, "ptrace");
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
	return !err && released ? fail_tracee(in, released, "letting it go on") : err;
}
