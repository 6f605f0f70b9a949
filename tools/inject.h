/* SPDX-License-Identifier: MIT */
/* Putting libshunt-agent into a running process that has nothing of Shunt in it. */
#ifndef SHUNT_TOOLS_INJECT_H
#define SHUNT_TOOLS_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct remote_space; /* remote_elf.h */

struct inject_options {
	unsigned timeout_ms; /* for a thread that can be used; 0: five seconds */
	bool allow_seccomp;
	bool allow_fibres; /* a thread on a stack that is not its own, too */
	bool in_children;  /* those that it forks have agents of their own */
	bool is_temporary; /* it ends with its last client; else it stays, also one that runs */
};

struct inject_result {
	bool was_there;     /* the agent runs already */
	bool was_temporary; /* and would have ended */
	pid_t tid;          /* the thread that was used */
	uint64_t held;      /* ns for which it was held */
	char why[900];
};

/*
 * Start the agent in process @pid, by ptrace, unless it runs there. 0; or -errno and
 * @result->why, and the process is as it was, but for libraries that are loaded.
 */
int inject_agent(pid_t pid, const struct inject_options *options, struct inject_result *result);

/*
 * inject_check.c: whether process @pid can be attached to, from what /proc says of it. 0 or -errno
 * with @why.
 */
int inject_check(pid_t pid, bool allow_seccomp, char *why, size_t size);
/* Why /proc or ptrace refused, in words, from what is seen: yama, dumpable, other users. */
void inject_say_denied(pid_t pid, char *why, size_t size);
/* yama's; -1: the kernel has none. */
int inject_ptrace_scope(void);
/* Whether the program has no dynamic linker. */
bool inject_is_static(pid_t pid);
/*
 * What went wrong in an image that is gone (@err: 0 or -errno) did so because it is: -ESTALE with
 * @why where the process has executed another program, -ESRCH where it has ended. Else @err.
 */
int inject_look_gone(pid_t pid, const struct remote_space *space, int err, char *why, size_t size);

#endif
