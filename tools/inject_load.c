/* SPDX-License-Identifier: MIT */
/*
 * The libraries, loaded into the process, and the agent's start. They go by their paths where the
 * process sees the same files there, else by descriptor, in memory files that it never sees the
 * names of.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject_parts.h"
#include "inject_worker.h"
#include "remote.h"
#include "shunt.h"

enum {
	NAME_ROOM = 64 /* of a path in /proc/self/fd */
};

/* In the order in which they need each other. @path differs, because the linker knows a library
 * by the name under which it was loaded, and descriptors' numbers come again. */
static const struct library {
	const char *name, *folder, *symbol, *path;
} libraries[INJECT_LIBRARIES] = {
	{"libshunt.so.0", "../src", "shunt_last_error", "/proc/self/fd/%d"},
	{"libshunt-trace.so.0", "../src/trace", "shunt_trace_start", "/proc/self/./fd/%d"},
	{"libshunt-agent.so.0", "../src/agent", "shunt_agent_start", "/proc/./self/fd/%d"},
};

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
	return inject_fail(in, -ENOENT, "there is no %s beside this program", library->name);
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
static int load(struct injection *in, const char *path, uint64_t *handle)
{
	uint64_t message = 0;
	char reason[600] = "no reason is given";
	int err = inject_put_text(in, path);

	if (!err)
		err = inject_call(in, in->dlopen, inject_text(in), RTLD_NOW | RTLD_LOCAL,
				  "dlopen()", handle);
	if (err || *handle)
		return err;
	err = inject_call(in, in->dlerror, 0, 0, "dlerror()", &message);
	if (err)
		return err;
	if (message)
		(void)remote_read_string(&in->space, message, reason, sizeof(reason));
	return inject_fail(in, -ENOENT, "process %d cannot load %s: %s", (int)in->pid, path,
			   reason);
}

/* ------------------------------------------------------------------ by descriptor */

/* Write the file at @path into descriptor @fd of the thread. */
static int fill(const struct injection *in, const char *path, int fd)
{
	char there[64];
	void *image;
	size_t size, done = 0;
	int to, err = tool_read_file(path, &image, &size);

	if (err)
		return inject_fail(in, err, "%s: %s", path, strerror(-err));
	(void)snprintf(there, sizeof(there), "/proc/%d/fd/%d", (int)inject_thread(in), fd);
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
	return err ? inject_fail(in, err, "%s: %s", there, strerror(-err)) : 0;
}

static int load_by_descriptor(struct injection *in, const struct library *library, const char *path,
			      uint64_t *handle)
{
	char there[NAME_ROOM], why[600];
	int err = inject_put_text(in, library->name), fd;

	if (err)
		return err;
	fd = inject_call_kernel(in, SYS_memfd_create, inject_text(in), MFD_CLOEXEC,
				"memfd_create()");
	if (fd < 0)
		return fd;
	err = fill(in, path, fd);
	if (!err) {
		/* NOLINTNEXTLINE(clang-diagnostic-format-nonliteral): of the table above */
		(void)snprintf(there, sizeof(there), library->path, fd);
		err = load(in, there, handle);
	}
	(void)snprintf(why, sizeof(why), "%.599s", in->why);
	fd = inject_call_kernel(in, SYS_close, (uint64_t)fd, 0, "close()");
	if (err)
		return inject_fail(in, err, "%s (%s)", why, library->name);
	return fd;
}

static int load_library(struct injection *in, const struct library *library, uint64_t *handle)
{
	char path[4096];
	int err = find_library(in, library, path);

	if (err)
		return err;
	/* It may see the file, and not be allowed to read it. */
	if (strlen(path) < INJECT_PATH && is_seen(in, path)) {
		err = load(in, path, handle);
		if (err != -ENOENT)
			return err;
	}
	return load_by_descriptor(in, library, path, handle);
}

/* ------------------------------------------------------------------------- the agent */

/* Of an older one, the public function. */
static const char *const starts[] = {"shunt_agent_attach", "shunt_agent_start"};
static const char last_error[] = "shunt_last_error";

void inject_look(struct injection *in)
{
	for (size_t i = 0; i < INJECT_LIBRARIES; i++)
		in->is_there[i] = remote_module_with(&in->space, libraries[i].symbol);
	in->start = remote_symbol(&in->space, NULL, starts[0]);
	if (!in->start)
		in->start = remote_symbol(&in->space, NULL, starts[1]);
	in->last_error = remote_symbol(&in->space, NULL, last_error);
}

/* A function of what has been loaded; 0: it has none. */
static int find_symbol(struct injection *in, uint64_t handle, const char *name, uint64_t *function)
{
	int err = inject_put_text(in, name);

	return err ? err : inject_call(in, in->dlsym, handle, inject_text(in), "dlsym()", function);
}

static int load_libraries(struct injection *in)
{
	for (size_t i = 0; i < INJECT_LIBRARIES; i++) {
		uint64_t handle = 0;
		int err = in->is_there[i] ? 0 : load_library(in, &libraries[i], &handle);

		if (!err && handle && i == 0)
			err = find_symbol(in, handle, last_error, &in->last_error);
		if (!err && handle && i == INJECT_LIBRARIES - 1)
			err = find_symbol(in, handle, starts[0], &in->start);
		if (err)
			return err;
	}
	return 0;
}

/* As src/agent/agent.h has it. */
static uint64_t how(const struct inject_options *options)
{
	enum { IN_CHILDREN = 1, TEMPORARY = 2 };

	return (options->in_children ? IN_CHILDREN : 0) | (options->is_temporary ? TEMPORARY : 0);
}

int inject_load(struct injection *in)
{
	char reason[600] = "no reason is given";
	uint64_t message = 0, result = 0;
	int err = load_libraries(in);

	if (err)
		return err;
#ifndef INJECT_KEEPS_AGENT /* the tests' control */
	if (worker_is_alone())
		return inject_fail(in, -EINTR, "process %d: the command has been killed",
				   (int)in->pid);
#endif
	if (!in->start || !in->last_error)
		return inject_fail(in, -ENOENT, "process %d: the agent is not where it was loaded",
				   (int)in->pid);
	in->launcher.is_deaf = true;
	err = inject_call(in, in->start, how(in->options), 0, starts[0], &result);
	if (err == -ETIMEDOUT && !in->launcher.base) /* its own lock, or one of libc's */
		return inject_fail(in, err, "process %d: %s: a lock stayed taken", (int)in->pid,
				   starts[0]);
	if (err || !(int)result)
		return err;
	if (!inject_call(in, in->last_error, 0, 0, last_error, &message) && message)
		(void)remote_read_string(&in->space, message, reason, sizeof(reason));
	return inject_fail(in, (int)result, "process %d: %s", (int)in->pid, reason);
}
