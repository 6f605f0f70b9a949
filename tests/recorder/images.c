/* SPDX-License-Identifier: MIT */
/* The program of images.py: 100 calls of leaf(); then it executes argv[2] by argv[1], with an
 * environment of its own that argv[3] names. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))
#define NOT  __attribute__((patchable_function_entry(0)))

enum { MANY = 2000, HUGE_ONE = 120000 };

KEEP int leaf(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

static char *words[] = {"image", NULL};
static char many[MANY][16];

/* Two pages, of which the second cannot be read. */
NOT static char *at_edge(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + 4096, 4096, PROT_NONE))
		_exit(9);
	return pages + 4096;
}

/*
 * As much as the kernel takes: it says E2BIG of more before ENOEXEC, of @broken, whose name is as
 * long as that of the program.
 */
NOT static char **fill_all(char **env, const char *broken)
{
	static char text[HUGE_ONE + 1];
	struct rlimit stack = {1 << 20, RLIM_INFINITY};
	size_t fits = 0, not = HUGE_ONE;

	(void)setrlimit(RLIMIT_STACK, &stack); /* a quarter of it is for words and environment */
	(void)memset(text, 'x', sizeof(text) - 1);
	env[0] = env[1] = text;
	env[2] = text;
	while (not -fits > 1) {
		size_t n = (fits + not ) / 2;

		env[2] = text + HUGE_ONE - n;
		(void)syscall(SYS_execve, broken, words, env);
		if (errno == E2BIG)
			not = n;
		else
			fits = n;
	}
	env[2] = text + HUGE_ONE - fits;
	return env + 3;
}

NOT static char **make_environment(const char *how, const char *path)
{
	static char *own[MANY + 8];
	char broken[4096], *edge, **to = own;

	if (!strcmp(how, "null"))
		return NULL;
	if (!strncmp(how, "bad-at-", 7))
		return (char **)strtoul(how + 7, NULL, 16);
	if (!strncmp(how, "bad-text-", 9))
		*to++ = (char *)strtoul(how + 9, NULL, 16);
	if (!strcmp(how, "unended")) { /* the kernel reads on where nothing is */
		edge = at_edge();
		*(char **)(edge - 8) = "A=B";
		return (char **)(edge - 8);
	}
	if (!strcmp(how, "unended-text")) {
		edge = at_edge();
		(void)memcpy(edge - 11, "LD_PRELOAD=", 11);
		*to++ = edge - 11;
	}
	if (!strcmp(how, "edge")) { /* good up to its last byte */
		edge = at_edge();
		(void)memcpy(edge - 4, "A=B", 4);
		*to++ = edge - 4;
		to = memcpy(edge - 24, own, 8);
		to[1] = to[2] = NULL;
		return to;
	}
	if (!strcmp(how, "many"))
		for (int i = 0; i < MANY; i++) {
			(void)snprintf(many[i], sizeof(many[i]), "V%d=%d", i, i);
			*to++ = many[i];
		}
	if (!strcmp(how, "full")) {
		(void)strcpy(broken, path);
		(void)memcpy(broken + strlen(broken) - 6, "broken", 6);
		to = fill_all(to, broken);
	}
	if (!strcmp(how, "one"))
		*to++ = "A=B";
	*to = NULL;
	return own;
}

/* By file actions: in the folder that @how names behind its first ':', or, searched for in PATH. */
NOT static int spawn_elsewhere(const char *how, char *path, char **env)
{
	const char *folder = strchr(how, ':') + 1;
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	pid_t pid;

	(void)posix_spawn_file_actions_init(&actions);
	(void)posix_spawnattr_init(&attributes);
	if (strstr(how, "-fd"))
		(void)posix_spawn_file_actions_addfchdir_np(&actions,
							    open(folder, O_RDONLY | O_CLOEXEC));
	else
		(void)posix_spawn_file_actions_addchdir_np(&actions, folder);
	if (strstr(how, "-reset")) {
		(void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_RESETIDS);
		if (seteuid(1))
			_exit(9);
	}
	if (strstr(how, "-path"))
		(void)setenv("PATH", "/nothing:.:/bin", 1);
	if (strstr(how, "-own"))
		env = environ;
	errno = (strstr(how, "-path") ? posix_spawnp : posix_spawn)(
		&pid, strstr(how, "-null") ? NULL : path, strstr(how, "-reset") ? NULL : &actions,
		&attributes, words, env);
	return errno || waitpid(pid, NULL, 0) != pid ? -1 : 0;
}

NOT static int execute(const char *how, char *path, char **env)
{
	pid_t pid = 0;
	int error;

	if (!strcmp(how, "execve"))
		return execve(path, words, env);
	if (!strcmp(how, "execle"))
		return execle(path, "image", NULL, env);
	if (!strcmp(how, "execvpe"))
		return execvpe(path, words, env);
	if (!strcmp(how, "execveat"))
		return execveat(AT_FDCWD, path, words, env, 0);
	if (!strcmp(how, "fexecve"))
		return fexecve(open(path, O_RDONLY | O_CLOEXEC), words, env);
	if (!strcmp(how, "environ")) {
		environ = env;
		return execv(path, words);
	}
	if (!strcmp(how, "bare"))
		return (int)syscall(SYS_execve, path, words, env);
	if (!strncmp(how, "actions", 7))
		return spawn_elsewhere(how, path, env);
	if (!strcmp(how, "vfork") && !(pid = vfork())) {
		(void)execve(path, words, env);
		_exit(9);
	}
	error = !strcmp(how, "posix_spawn")    ? posix_spawn(&pid, path, NULL, NULL, words, env)
		: !strcmp(how, "posix_spawnp") ? posix_spawnp(&pid, path, NULL, NULL, words, env)
					       : 0;
	if (error || waitpid(pid, NULL, 0) != pid) {
		errno = error;
		return -1;
	}
	return 0;
}

/*
 * A child without a descriptor to be had, which calls leaf(); then it executes @path, or ends.
 * "limit": by the limit; else they are all used, and closed by exec(). @times, one behind the
 * other.
 */
NOT static int fork_less(const char *how, char *path, int times)
{
	const struct rlimit none = {3, 3}, few = {100, 100};
	int status = 0;

	/* Until then it says something by itself. */
	while (getenv("SHUNT_TRACE_FILE") && access(getenv("SHUNT_TRACE_FILE"), F_OK))
		usleep(1000);
	for (int i = 0; i < times; i++) {
		pid_t pid = fork();

		if (!pid && strstr(how, "limit"))
			(void)setrlimit(RLIMIT_NOFILE, &none);
		if (!pid && !strstr(how, "limit")) {
			(void)setrlimit(RLIMIT_NOFILE, &few);
			while (open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0)
				;
		}
		if (!pid) {
			char *none_of_it[] = {NULL};

			(void)leaf(i);
			if (strstr(how, "exec"))
				(void)execve(path, words, none_of_it);
			_exit(0);
		}
		(void)waitpid(pid, &status, 0);
	}
	return 0;
}

NOT int main(int argc, char **argv)
{
	char **env, *before[4] = {NULL};
	bool is_good;
	int status;

	for (int i = 0; i < 100; i++)
		(void)leaf(i);
	if (argc < 4)
		return 0;
	if (!strncmp(argv[1], "less", 4))
		return fork_less(argv[1], argv[2], atoi(argv[3]));
	if (!strcmp(argv[3], "cleared")) {
		(void)clearenv();
		return strcmp(argv[1], "popen") ? system(argv[2]) : pclose(popen(argv[2], "r"));
	}
	if (!strcmp(argv[3], "kept"))
		return strcmp(argv[1], "popen") ? system(argv[2]) : pclose(popen(argv[2], "r"));
	if (!strcmp(argv[1], "chroot")) {
		if (chroot(argv[3]) || chdir("/"))
			return 9;
		argv[1] = "execve";
		argv[3] = "one";
	}
	if (!strcmp(argv[1], "no-new")) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
			return 9;
		argv[1] = "execve";
	}
	env = make_environment(argv[3], argv[2]);
	is_good = env && !strstr(argv[3], "bad") && !strstr(argv[3], "unended");
	for (int i = 0; is_good && i < 4 && (before[i] = env[i]); i++)
		;
	status = execute(argv[1], argv[2], env);
	(void)printf("%s\n", status ? strerrorname_np(errno) : "ran");
	for (int i = 0; is_good && i < 4 && before[i]; i++)
		if (env[i] != before[i])
			(void)printf("changed\n");
	(void)fflush(stdout);
	return status ? 5 : 0;
}
