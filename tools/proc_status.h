/* SPDX-License-Identifier: MIT */
/* What /proc/TID/status says of a thread, and of its process. */
#ifndef SHUNT_TOOLS_PROC_STATUS_H
#define SHUNT_TOOLS_PROC_STATUS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* 0, or false: the kernel does not say. */
struct proc_status {
	char state;
	pid_t tgid, tracer;
	pid_t inner_tid; /* as the thread sees itself: in the innermost PID namespace */
	uid_t real_uid, uid;
	unsigned seccomp; /* mode */
	bool has_memory;
	bool has_shadow_stack;
	uint64_t permitted, effective; /* capabilities */
	uint64_t caught, pending;      /* signals; pending: for the thread or the process */
};

/* 0, or -errno and all is zero: -ESRCH there is no such thread. */
int proc_status_read(pid_t tid, struct proc_status *status);

#endif
