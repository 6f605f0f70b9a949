/* SPDX-License-Identifier: MIT */
/* Calls in a process that is attached to: by its launcher, or by the thread that is held. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "inject_parts.h"

enum {
	LEAST_MS = 2000, /* for a call of the launcher */
	TEXT_AT = 4096   /* of the held thread's stack: strings, far below what runs on it */
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

int inject_fail_tracee(const struct injection *in, int err, const char *what)
{
	return inject_fail(in, err, "process %d: %s: %s", (int)in->pid, what, in->tracee.why);
}

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
		return err ? inject_fail_tracee(in, err, name) : 0;
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
			return inject_fail_tracee(in, err, name);
	}
	if (result < 0)
		return inject_fail(in, (int)result, "process %d: %s: %s", (int)in->pid, name,
				   strerror((int)-result));
	return (int)result;
}
