/* SPDX-License-Identifier: MIT */
/*
 * The C library's functions by which a process ends, or becomes another program, without its
 * destructors: they stand before the C library's, by names without a version, which match what any
 * program asks for.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#include "linux/base/syscall.h"
#include "trace/finish.h"

#define EXPORT __attribute__((visibility("default")))

/* --------------------------------------------------------------------------- exits */

static _Noreturn void exit_now(int status)
{
	trace_finish(true);
	for (;;)
		(void)shunt_syscall(SYS_exit_group, status, 0, 0, 0);
}

EXPORT void _exit(int status)
{
	exit_now(status);
}

EXPORT void _Exit(int status)
{
	exit_now(status);
}

/* ---------------------------------------------------------------------------- exec */

/* A program that is looked for in PATH: the C library's, which is found once. */
static int (*real_execvpe)(const char *, char *const[], char *const[]);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_execvpe = dlsym(RTLD_NEXT, "execvpe");
}

static int result(long ret)
{
	if (ret >= 0)
		return (int)ret;
	errno = (int)-ret;
	return -1;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	long ret;

	trace_exec_begin();
	ret = shunt_syscall(SYS_execve, (long)path, (long)argv, (long)envp, 0);
	trace_exec_failed();
	return result(ret);
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	int ret;

	if (!real_execvpe)
		find_real();
	if (!real_execvpe) {
		errno = ENOSYS;
		return -1;
	}
	trace_exec_begin();
	ret = real_execvpe(file, argv, envp);
	trace_exec_failed();
	return ret;
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	long ret;

	trace_exec_begin();
	ret = shunt_syscall6(SYS_execveat, dir, (long)path, (long)argv, (long)envp, flags, 0);
	trace_exec_failed();
	return result(ret);
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	if (fd < 0) {
		errno = EINVAL;
		return -1;
	}
	return execveat(fd, "", argv, envp, 0x1000 /* AT_EMPTY_PATH */);
}

/* How many words stand before the NULL, the first one included. */
static size_t count_words(const char *first, va_list *args)
{
	size_t n = 0;

	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the callers have begun it */
	for (const char *word = first; word; word = va_arg(*args, const char *))
		n++;
	return n;
}

/* @argv has room for them, and the NULL. */
static void take_words(char **argv, const char *first, va_list *args)
{
	size_t n = 0;

	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the callers have begun it */
	for (const char *word = first; word; word = va_arg(*args, const char *))
		argv[n++] = (char *)(uintptr_t)word;
	argv[n] = NULL;
}

/* As the C library's, on the stack: they may be called in a signal handler. */
#define TAKE_WORDS(argv, first, args)                                    \
	va_list args;                                                    \
	size_t nr_words;                                                 \
	va_start(args, first);                                           \
	nr_words = count_words(first, &args);                            \
	va_end(args);                                                    \
	char **argv = __builtin_alloca((nr_words + 1) * sizeof(char *)); \
	va_start(args, first);                                           \
	take_words(argv, first, &args)

EXPORT int execl(const char *path, const char *arg, ...)
{
	TAKE_WORDS(argv, arg, args);
	va_end(args);
	return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	TAKE_WORDS(argv, arg, args);
	va_end(args);
	return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *envp;

	TAKE_WORDS(argv, arg, args);
	envp = va_arg(args, char *const *);
	va_end(args);
	return execve(path, argv, envp);
}
