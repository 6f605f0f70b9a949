/* SPDX-License-Identifier: MIT */
/* What inject.c and inject_agent.c share. */
#ifndef SHUNT_TOOLS_INJECT_PARTS_H
#define SHUNT_TOOLS_INJECT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "inject.h"
#include "remote_elf.h"
#include "tracee.h"

struct injection {
	pid_t pid;
	const struct inject_options *options;
	struct remote_space space;
	const struct remote_module *libc;
	uint64_t dlopen, dlerror, dlsym, errno_location;
	struct tracee tracee;
	bool is_locked; /* a lock was tried, and stayed taken */
	char *why;
	size_t why_size;
};

/*
 * inject.c: look for a thread of the process, whose libc is known, and have it start the agent. 0
 * or -errno with @in->why.
 */
int inject_in_thread(struct injection *in, struct inject_result *result);

#endif
