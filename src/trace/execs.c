/* SPDX-License-Identifier: MIT */
/*
 * The C library's functions by which a process becomes another program, or makes one: before the C
 * library's, as in exits.c. What its threads have recorded is written first (finish.h); where the
 * environment that it hands over has no recorder in it, the program gets a copy that has one
 * (handed.h). All of it on the stack, or in a mapping of its own: in a child of vfork() the memory
 * is the parent's, and a handler's stack may be small.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "linux/base/base.h"
#include "linux/base/syscall.h"
#include "trace/finish.h"
#include "trace/program.h"

#define EXPORT __attribute__((visibility("default")))

enum { ON_STACK = 1024 /* bytes */ };

typedef int (*spawner)(pid_t *, const char *, const posix_spawn_file_actions_t *,
		       const posix_spawnattr_t *, char *const[], char *const[]);

/* The C library's, which are found once. */
static int (*real_execvpe)(const char *, char *const[], char *const[]);
static spawner real_posix_spawn, real_posix_spawnp;
static int (*real_system)(const char *);
static FILE *(*real_popen)(const char *, const char *);

__attribute__((constructor)) static void find_real(void)
{
	*(void **)&real_execvpe = dlsym(RTLD_NEXT, "execvpe");
	*(void **)&real_posix_spawn = dlsym(RTLD_NEXT, "posix_spawn");
	*(void **)&real_posix_spawnp = dlsym(RTLD_NEXT, "posix_spawnp");
	*(void **)&real_system = dlsym(RTLD_NEXT, "system");
	*(void **)&real_popen = dlsym(RTLD_NEXT, "popen");
}

/* ---------------------------------------------------------- the environment handed over */

/* Room for a copy: @small, of ON_STACK bytes or of all, or a mapping; NULL: there is none. */
static void *get_room(size_t bytes, void *small)
{
	long p;

	if (small)
		return small;
	p = shunt_syscall6(SYS_mmap, 0, (long)bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p < 0 && p >= -4095 ? NULL : (void *)p;
}

static void give_room_back(void *room, size_t bytes, const void *small)
{
	if (room && room != small)
		(void)shunt_syscall(SYS_munmap, (long)room, (long)bytes, 0, 0);
}

/* A mapping that is made in a child of vfork() would stay in its parent. */
#define SMALL_ROOM(bytes)                                               \
	((bytes) <= ON_STACK || shunt_is_in_others_memory()             \
		 ? __builtin_alloca((bytes) ? (bytes) : sizeof(char *)) \
		 : NULL)

/* ---------------------------------------------------------------------------- exec */

struct exec {
	bool searches; /* in PATH */
	int dir, flags;
	const char *path;
	char *const *argv;
	char *const *envp;
};

static long call(const struct exec *exec, char *const envp[])
{
	if (exec->searches)
		return real_execvpe(exec->path, exec->argv, envp) < 0 ? -errno : 0;
	if (exec->dir == AT_FDCWD && !exec->flags)
		return shunt_syscall(SYS_execve, (long)exec->path, (long)exec->argv, (long)envp, 0);
	return shunt_syscall6(SYS_execveat, exec->dir, (long)exec->path, (long)exec->argv,
			      (long)envp, exec->flags, 0);
}

/* Where what is added is too much, without it. */
static long call_with(const struct exec *exec, struct trace_program *program, void *room)
{
	long ret;

	if (!program->handed.bytes)
		return call(exec, exec->envp);
	ret = -E2BIG;
	if (room)
		ret = call(exec, trace_handed_add(&program->handed, exec->envp, room));
	if (ret != -E2BIG)
		return ret;
	if (!program->left_out) {
		program->left_out = TRACE_LEFT_OUT_NO_ROOM;
		trace_program_tell(program, shunt_own_pid());
	}
	return call(exec, exec->envp);
}

static int execute(const struct exec *exec)
{
	int saved = errno;
	struct trace_program program;
	void *small, *room;
	long ret;

	trace_program_look(&program, exec->dir, exec->path, exec->flags,
			   exec->searches ? TRACE_PROGRAM_SEARCHED : 0, exec->envp);
	small = SMALL_ROOM(program.handed.bytes);
	room = get_room(program.handed.bytes, small);
	trace_program_tell(&program, shunt_own_pid());
	trace_exec_begin();
	errno = saved;
	ret = call_with(exec, &program, room);
	trace_exec_failed();
	trace_program_has_failed(&program);
	give_room_back(room, program.handed.bytes, small);
	errno = (int)-ret;
	return -1;
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return execute(&(struct exec){false, AT_FDCWD, 0, path, argv, envp});
}

EXPORT int execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	if (!real_execvpe)
		find_real();
	if (!real_execvpe) {
		errno = ENOSYS;
		return -1;
	}
	return execute(&(struct exec){true, AT_FDCWD, 0, file, argv, envp});
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	return execute(&(struct exec){false, dir, flags, path, argv, envp});
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	if (fd < 0) {
		errno = EINVAL;
		return -1;
	}
	return execveat(fd, "", argv, envp, AT_EMPTY_PATH);
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

/* --------------------------------------------------------------------- posix_spawn() */

/* File actions are the C library's: whether one of them changes the folder is not to be seen. */
static int how_found(bool searches, const posix_spawn_file_actions_t *actions,
		     const posix_spawnattr_t *attributes)
{
	bool are_equal = getuid() == geteuid() && getgid() == getegid();
	short flags = 0;

	if (attributes)
		(void)posix_spawnattr_getflags(attributes, &flags);
	return (searches ? TRACE_PROGRAM_SEARCHED : 0) | (actions ? TRACE_PROGRAM_ELSEWHERE : 0) |
	       (flags & POSIX_SPAWN_RESETIDS && !are_equal ? TRACE_PROGRAM_RESET : 0);
}

/*
 * The session goes on in this process. Of what has no recorder in it `shunt trace` is told when it
 * is there, for that has no number before.
 */
static int spawn(spawner real, bool searches, pid_t *pid, const char *path,
		 const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attributes,
		 char *const argv[], char *const envp[])
{
	struct trace_program program;
	void *small, *room;
	pid_t made = 0;
	int err = E2BIG;

	trace_program_look(&program, AT_FDCWD, path, 0, how_found(searches, actions, attributes),
			   envp);
	small = SMALL_ROOM(program.handed.bytes);
	room = get_room(program.handed.bytes, small);
	if (program.handed.bytes && room)
		err = real(&made, path, actions, attributes, argv,
			   trace_handed_add(&program.handed, envp, room));
	if (program.handed.bytes && err == E2BIG && !program.left_out)
		program.left_out = TRACE_LEFT_OUT_NO_ROOM;
	if (err == E2BIG)
		err = real(&made, path, actions, attributes, argv, envp);
	give_room_back(room, program.handed.bytes, small);
	if (!err && pid)
		*pid = made;
	if (!err && (program.left_out || program.is_unknown))
		trace_program_tell(&program, made);
	return err;
}

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	if (!real_posix_spawn)
		find_real();
	return real_posix_spawn
		       ? spawn(real_posix_spawn, false, pid, path, actions, attributes, argv, envp)
		       : ENOSYS;
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
	if (!real_posix_spawnp)
		find_real();
	return real_posix_spawnp
		       ? spawn(real_posix_spawnp, true, pid, file, actions, attributes, argv, envp)
		       : ENOSYS;
}

/* ------------------------------------------------------------ system() and popen() */

/* They hand over what the program's environment is, and nobody stands between: it is said. */
static void tell_of_shell(void)
{
	int saved = errno;

	trace_program_tell_of_shell(environ);
	errno = saved;
}

EXPORT int system(const char *command)
{
	int ret;

	if (!real_system)
		find_real();
	if (!real_system) {
		errno = ENOSYS;
		return -1;
	}
	ret = real_system(command);
	if (command && ret != -1)
		tell_of_shell();
	return ret;
}

EXPORT FILE *popen(const char *command, const char *mode)
{
	FILE *stream;

	if (!real_popen)
		find_real();
	if (!real_popen) {
		errno = ENOSYS;
		return NULL;
	}
	stream = real_popen(command, mode);
	if (stream)
		tell_of_shell();
	return stream;
}
