/* SPDX-License-Identifier: MIT */
/*
 * The tool without one of its checks, which SHUNT_WITHOUT names. "thread": the end of an agent is
 * that of its socket, not of its thread; "end": it is not waited for, as if the time were over;
 * "start": nor is its beginning; "lock": any number of commands attach at once;
 * "threads": a filter of system calls is looked for in the first thread alone; "tsan": what runs
 * under ThreadSanitizer is a process as any other; "yama": that it restricts ptrace is not known.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>

#include "inject.h"
#include "proc_status.h"
#include "remote_elf.h"

static bool is_without(const char *check)
{
	const char *without = getenv("SHUNT_WITHOUT");

	return without && !strcmp(without, check);
}

bool __real_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms);
bool __wrap_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms);
bool __wrap_remote_wait_for_end(pid_t pid, pid_t agent, unsigned ms)
{
	return !is_without("end") &&
	       __real_remote_wait_for_end(pid, is_without("thread") ? 0 : agent, ms);
}

void __real_remote_wait_for_start(pid_t pid, unsigned ms);
void __wrap_remote_wait_for_start(pid_t pid, unsigned ms);
void __wrap_remote_wait_for_start(pid_t pid, unsigned ms)
{
	if (!is_without("start"))
		__real_remote_wait_for_start(pid, ms);
}

int __real_flock(int fd, int operation);
int __wrap_flock(int fd, int operation);
int __wrap_flock(int fd, int operation)
{
	return is_without("lock") ? 0 : __real_flock(fd, operation);
}

int __real_proc_status_read(pid_t tid, struct proc_status *status);
int __wrap_proc_status_read(pid_t tid, struct proc_status *status);
int __wrap_proc_status_read(pid_t tid, struct proc_status *status)
{
	int err = __real_proc_status_read(tid, status);

	if (is_without("threads") && tid != status->tgid)
		status->seccomp = 0;
	return err;
}

const struct remote_module *__real_remote_module_with(const struct remote_space *space,
						      const char *symbol);
const struct remote_module *__wrap_remote_module_with(const struct remote_space *space,
						      const char *symbol);
const struct remote_module *__wrap_remote_module_with(const struct remote_space *space,
						      const char *symbol)
{
	return is_without("tsan") && !strcmp(symbol, "__tsan_init")
		       ? NULL
		       : __real_remote_module_with(space, symbol);
}

int __real_inject_ptrace_scope(void);
int __wrap_inject_ptrace_scope(void);
int __wrap_inject_ptrace_scope(void)
{
	return is_without("yama") ? -1 : __real_inject_ptrace_scope();
}
