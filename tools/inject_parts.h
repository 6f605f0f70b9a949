/* SPDX-License-Identifier: MIT */
/* Of inject.c, inject_agent.c and inject_load.c: one injection, and how calls are made in the
 * process. */
#ifndef SHUNT_TOOLS_INJECT_PARTS_H
#define SHUNT_TOOLS_INJECT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject.h"
#include "launcher.h"
#include "remote_elf.h"
#include "tracee.h"

#ifndef INJECT_CALL_MS
#define INJECT_PROBE_MS 100   /* for a lock to be free, each time that it is tried */
#define INJECT_CALL_MS  10000 /* for one within pthread_create(), or dlopen() in the held thread */
#endif

enum {
	INJECT_LIBRARIES = 3,
	INJECT_PATH = 2048 /* bytes of a path that the process is asked to open */
};

struct injection {
	pid_t pid;
	const struct inject_options *options;
	struct remote_space space;
	const struct remote_module *libc;
	uint64_t dlopen, dlerror, dlsym, errno_location;
	uint64_t malloc, free, iterate, ends; /* dl_iterate_phdr(), and what ends it */
	struct launcher_calls calls;
	bool is_there[INJECT_LIBRARIES];
	uint64_t start, last_error; /* of the agent, where it is there, and of libshunt */
	struct tracee tracee;
	struct launcher launcher;
	uint64_t until; /* ns: when there is no time any more to wait for locks */
	bool is_locked; /* a lock was tried, and stayed taken */
	char *why;
	size_t why_size;
};

/* inject_calls.c: @err, having put words into @in->why. */
int inject_fail(const struct injection *in, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same of what @in->tracee.why says of @what. */
int inject_fail_tracee(const struct injection *in, int err, const char *what);

/* INJECT_PATH bytes of the process's memory, for strings. */
uint64_t inject_text(const struct injection *in);
/* 0, and the string is at inject_text(). */
int inject_put_text(const struct injection *in, const char *text);
/* The thread that makes the calls. */
pid_t inject_thread(const struct injection *in);
/* A function of the process, which @name is for. 0, or -errno with words. */
int inject_call(struct injection *in, uint64_t function, uint64_t first, uint64_t second,
		const char *name, uint64_t *result);
/* A system call, which @name is for. What it returns, or -errno with words. */
int inject_call_kernel(struct injection *in, long number, uint64_t first, uint64_t second,
		       const char *name);

/*
 * inject.c: look for a thread of the process, whose libc is known, and have it start the agent. 0
 * or -errno with @in->why.
 */
int inject_in_thread(struct injection *in, struct inject_result *result);

/* inject_load.c: which of our libraries are there. */
void inject_look(struct injection *in);
/* Load those that are not, and start the agent. */
int inject_load(struct injection *in);

#endif
