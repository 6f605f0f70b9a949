/* SPDX-License-Identifier: MIT */
/*
 * Preloaded into the tool: the kernel's yama, with FAKE_YAMA as its ptrace_scope. 1: who is an
 * ancestor of the process may trace it; 2, 3: nobody. Refused is what asks for the right to
 * attach: ptrace(), and the process's memory and system calls in /proc.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static FILE *(*real_fopen)(const char *, const char *);
static long (*real_ptrace)(int, ...);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_fopen = dlsym(RTLD_NEXT, "fopen");
	*(void **)&real_ptrace = dlsym(RTLD_NEXT, "ptrace");
}

static int scope(void)
{
	const char *text = getenv("FAKE_YAMA");

	return text ? atoi(text) : 0;
}

static pid_t parent_of(pid_t pid)
{
	char name[32], line[128];
	pid_t parent = 0;
	FILE *file;

	(void)snprintf(name, sizeof(name), "/proc/%d/status", (int)pid);
	file = real_fopen(name, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, "PPid:", 5))
			parent = (pid_t)strtol(line + 5, NULL, 10);
	if (file)
		(void)fclose(file);
	return parent;
}

static bool may_trace(pid_t pid)
{
	if (!scope())
		return true;
	while (scope() == 1 && pid > 1 && pid != getpid())
		pid = parent_of(pid);
	return pid == getpid();
}

/* A file of /proc that wants the right to attach. */
static bool is_refused(const char *path)
{
	char name[16] = "";
	int pid = 0;

	return sscanf(path, "/proc/%d/%15s", &pid, name) == 2 &&
	       (!strcmp(name, "mem") || !strcmp(name, "syscall")) && pid != getpid() &&
	       !may_trace(pid);
}

/* As Meson compiles, these are fopen64() and open64(), which the tool calls. */
FILE *fopen(const char *path, const char *mode)
{
	if (scope() && !strcmp(path, "/proc/sys/kernel/yama/ptrace_scope"))
		return fmemopen(getenv("FAKE_YAMA"), strlen(getenv("FAKE_YAMA")), "r");
	if (!is_refused(path))
		return real_fopen(path, mode);
	errno = EACCES;
	return NULL;
}

int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & O_CREAT ? va_arg(args, mode_t) : 0;
	va_end(args);
	if (!is_refused(path))
		return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
	errno = EACCES;
	return -1;
}

long ptrace(int request, ...); /* of <sys/ptrace.h>, whose first argument is an enum */
long ptrace(int request, ...)
{
	va_list args;
	void *address, *data;
	pid_t pid;

	va_start(args, request);
	pid = va_arg(args, pid_t);
	address = va_arg(args, void *);
	data = va_arg(args, void *);
	va_end(args);
	if (request != 0x4206 /* PTRACE_SEIZE */ || may_trace(pid))
		return real_ptrace(request, pid, address, data);
	errno = EPERM;
	return -1;
}
