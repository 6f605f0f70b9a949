/* SPDX-License-Identifier: MIT */
/*
 * A process with an agent, and what programs do: MODE says. It prints its number when it has done
 * that, and waits until its standard input is closed; 3: the agent has taken what is the program's.
 */
#include <shunt/control.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/filter.h"

enum { FIRST = 3, LAST = 1024, TAKEN = 700, TAKEN_END = 720 };

static int ends[2];

/* Its descriptors are gone; sockets of the program's have their numbers. */
static int take_numbers(void)
{
	for (int fd = FIRST; fd < LAST; fd++)
		(void)close(fd);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
		return -1;
	for (int fd = TAKEN; fd < TAKEN_END; fd++)
		if (dup2(ends[0], fd) < 0)
			return -1;
	return 0;
}

static bool has_numbers(void)
{
	struct stat first, other;

	if (fstat(ends[0], &first))
		return false;
	for (int fd = TAKEN; fd < TAKEN_END; fd++)
		if (fstat(fd, &other) || other.st_ino != first.st_ino)
			return false;
	return true;
}

static int run_another(const char *self, const char *mode)
{
	return execl(self, self, mode, (char *)NULL);
}

enum { CHILDREN = 20 };

static pid_t children[CHILDREN];

static int fork_children(void)
{
	for (int i = 0; i < CHILDREN; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return -1;
		children[i] = pid;
	}
	return 0;
}

/* With other rights than its user's: the libraries come by their paths, and there is no agent. */
static int start_secure(char **libraries)
{
	int (*start)(void);
	void *handle = NULL;

	if (!getauxval(AT_SECURE))
		return 77;
	for (; *libraries; libraries++)
		handle = dlopen(*libraries, RTLD_NOW | RTLD_GLOBAL);
	if (!handle)
		return 2;
	*(void **)&start = dlsym(handle, "shunt_agent_start");
	return start && start() ? 0 : 3;
}

/* No number is left for a descriptor. */
static int take_all(void)
{
	while (open("/dev/null", O_RDONLY) >= 0)
		;
	return errno != EMFILE;
}

/* This thread alone: where the agent's socket is there is another folder for it. */
static int leave_mounts(const char *folder)
{
	return unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       (!access("/run/user", F_OK) && mount(folder, "/run/user", NULL, MS_BIND, NULL)) ||
	       mount(folder, "/tmp", NULL, MS_BIND, NULL);
}

/* All threads, the agent's too: what these calls come to. */
static int filter_all(const char *action, char **names)
{
	unsigned ret = !strcmp(action, "thread")    ? SECCOMP_RET_KILL_THREAD
		       : !strcmp(action, "process") ? SECCOMP_RET_KILL_PROCESS
						    : SECCOMP_RET_ERRNO | EPERM;

	for (; *names; names++)
		if (!filter_syscall(filter_number(*names), ret, SECCOMP_FILTER_FLAG_TSYNC))
			return -1;
	return 0;
}

#ifndef AGENT_SECURE
/* It has the parent's agent's records, and no agent. 0: all as it should be. */
static int act_as_copy(const char *what)
{
	pid_t pid;

	(void)alarm(5);
	if (!strcmp(what, "stop"))
		return shunt_agent_stop() == -EINVAL ? 0 : 1;
	if (!strcmp(what, "start"))
		return shunt_agent_start() || shunt_agent_stop() ? 1 : 0;
	if (strcmp(what, "fork") != 0)
		return 0;
	pid = fork();
	if (!pid)
		_exit(0);
	return pid < 0 || waitpid(pid, NULL, 0) != pid;
}

/* A copy of the process that no handler of fork() sees. */
static int copy(const char *what)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	int status;

	if (!pid)
		exit(act_as_copy(what));
	return pid < 0 || waitpid(pid, &status, 0) != pid || status ? -1 : 0;
}
#endif

/* It forks for each byte that it is sent, until there are no more: read() is all that it needs. */
static int fork_when_told(void)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) == 1) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid || write(STDOUT_FILENO, "f\n", 2) != 2)
			return 1;
	}
	return 0;
}

static int act(const char *mode, char **argv)
{
	if (!strcmp(mode, "secure"))
		exit(start_secure(argv + 2));
	if (!strcmp(mode, "filtered") && filter_all("refuse", argv + 2))
		return -1;
#ifndef AGENT_SECURE
	if (strcmp(mode, "nothing") != 0 && shunt_agent_start())
		return -1;
#endif
	if (!strcmp(mode, "takes"))
		return take_numbers();
	if (!strcmp(mode, "full"))
		return take_all();
	if (!strcmp(mode, "exec"))
		return run_another(argv[0], "nothing");
	if (!strcmp(mode, "exec-start"))
		return run_another(argv[0], "start");
	if (!strcmp(mode, "daemon"))
		return daemon(1, 1);
	if (!strcmp(mode, "children"))
		return fork_children();
#ifndef AGENT_SECURE
	if (!strcmp(mode, "copy"))
		return copy(argv[2]);
#endif
	if (!strcmp(mode, "chroot"))
		return chroot(argv[2]) || chdir("/");
	if (!strcmp(mode, "drop"))
		return setgid(65534) || setuid(65534);
	if (!strcmp(mode, "netns"))
		return unshare(CLONE_NEWNET);
	if (!strcmp(mode, "mntns"))
		return leave_mounts(argv[2]);
	if (!strcmp(mode, "filter"))
		return filter_all(argv[2], argv + 3);
	return 0;
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	const char *mode = argc > 1 ? argv[1] : "start";

	if (act(mode, argv))
		return 1;
	(void)printf("%d\n", (int)getpid());
	for (int i = 0; i < CHILDREN && children[i]; i++)
		(void)printf("%d%c", (int)children[i], i + 1 < CHILDREN ? ' ' : '\n');
	(void)fflush(stdout);
	if (!strcmp(mode, "filter"))
		return fork_when_told();
	while (!poll(&input, 1, 20))
		if (!strcmp(mode, "takes") && !has_numbers())
			return 3;
	return 0;
}
