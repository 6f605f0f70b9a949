/* SPDX-License-Identifier: MIT */
/*
 * Messages: one line for each failure, with key, site, step and system call. Kept
 * for the thread that it happened to, and passed to the program or to standard
 * error.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <shunt/inspect.h>

#include "linux/linux.h"

/* The core's error numbers are this system's. */
#include "core/error.h"
_Static_assert(SHUNT_EPERM == EPERM && SHUNT_EIO == EIO && SHUNT_ENOMEM == ENOMEM &&
		       SHUNT_EBUSY == EBUSY && SHUNT_EINVAL == EINVAL && SHUNT_ERANGE == ERANGE &&
		       SHUNT_EDEADLK == EDEADLK,
	       "core/error.h has Linux's numbers");

__thread const char *shunt_failed_call;

static __thread char last[512];

struct log {
	void (*fn)(const char *message, void *arg);
	void *arg;
	const struct log *before; /* the one it replaced: a leak checker sees that none is lost */
};

static void to_stderr(const char *message, void *arg)
{
	char line[sizeof(last) + 16];
	int n = snprintf(line, sizeof(line), "shunt: %s\n", message);

	(void)arg;
	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody to tell */
}

static const struct log stderr_log = {to_stderr, NULL, NULL};

/* NULL: not set by the program. A record is never freed: a reader may hold it. */
static const struct log *_Atomic current;

void shunt_set_log(void (*fn)(const char *message, void *arg), void *arg)
{
	struct log *log = malloc(sizeof(*log));

	if (!log)
		return;
	log->fn = fn;
	log->arg = arg;
	log->before = atomic_load_explicit(&current, memory_order_relaxed);
	/* Pairs with the acquire load in shunt_message(). */
	while (!atomic_compare_exchange_weak_explicit(&current, &log->before, log,
						      memory_order_release, memory_order_relaxed))
		;
}

static const struct log *default_log(void)
{
	static const struct log none = {NULL, NULL, NULL};
	const char *wish = getenv("SHUNT_LOG");

	return wish && !strcmp(wish, "0") ? &none : &stderr_log;
}

static void pass(const char *message)
{
	const struct log *log = atomic_load_explicit(&current, memory_order_acquire);

	if (!log)
		log = default_log();
	if (log->fn)
		log->fn(message, log->arg);
}

void shunt_message(const char *format, ...)
{
	int saved = errno;
	va_list args;

	va_start(args, format);
	(void)vsnprintf(last, sizeof(last), format, args);
	va_end(args);
	pass(last);
	shunt_failed_call = NULL; /* told */
	errno = saved;
}

void shunt_note(const char *message)
{
	int saved = errno;

	pass(message);
	errno = saved;
}

const char *shunt_last_error(void)
{
	return last;
}

/* ------------------------------------------------------------------ reports */

struct text {
	char *at, *end;
};

static void add(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void add(struct text *t, const char *format, ...)
{
	size_t room = (size_t)(t->end - t->at);
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(t->at, room, format, args);
	va_end(args);
	if (n > 0)
		t->at += (size_t)n < room ? (size_t)n : room - 1;
}

static void add_bytes(struct text *t, const char *label, const uint8_t *bytes, size_t n)
{
	add(t, "%s", label);
	for (size_t i = 0; i < n; i++)
		add(t, " %02x", bytes[i]);
}

static void add_site(struct text *t, const void *site)
{
	Dl_info info = {0};

	add(t, ", site %p", site);
	if (!dladdr(site, &info))
		return;
	if (info.dli_sname)
		add(t, " (%s+0x%zx)", info.dli_sname,
		    (size_t)((const char *)site - (const char *)info.dli_saddr));
	if (info.dli_fname)
		add(t, " in %s", info.dli_fname);
}

void shunt_port_report(const struct shunt_report *report)
{
	char line[sizeof(last)];
	struct text t = {line, line + sizeof(line)};
	const char *call = shunt_failed_call;
	char why[64];

	add(&t, "key %s", report->key ? report->key : "(none)");
	if (report->site)
		add_site(&t, report->site);
	add(&t, ": %s", report->what ? report->what : "failed");
	if (report->nbytes) {
		add_bytes(&t, ": found", report->found, report->nbytes);
		add_bytes(&t, ", expected", report->expected, report->nbytes);
	}
	if (call)
		add(&t, ": %s", call);
	add(&t, ": %s", strerror_r(-report->error, why, sizeof(why)));
	shunt_message("%s", line);
}
