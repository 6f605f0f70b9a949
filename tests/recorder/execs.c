/* SPDX-License-Identifier: MIT */
/* The program of execs.py: 100 calls of leaf(), then itself, or ("child") a child of fork() with 10
 * of them, does as argv[1] says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))
#define NOT  __attribute__((patchable_function_entry(0)))

KEEP int leaf(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

KEEP void last(void)
{
	__asm__ volatile("");
}

NOT static void call(int n)
{
	for (int i = 0; i < n; i++)
		(void)leaf(i);
}

static char *const words[] = {"true", NULL};

/* In very many folders: the recorder's thread, which writes every 10 ms, has its turn meanwhile. */
NOT static void look_long(void)
{
	static char path[120000];

	for (size_t i = 0; i < sizeof(path) - 10; i += 3)
		(void)memcpy(path + i, "/-:", 3);
	(void)strcat(path, "/bin");
	(void)setenv("PATH", path, 1);
	(void)execvp("true", words);
}

NOT static void execute(const char *how)
{
	if (!strcmp(how, "execl"))
		(void)execl("/bin/true", "true", (char *)NULL);
	if (!strcmp(how, "execvp"))
		(void)execvp("true", words);
	if (!strcmp(how, "execvpe"))
		(void)execvpe("true", words, environ);
	if (!strcmp(how, "execveat"))
		(void)execveat(AT_FDCWD, "/bin/true", words, environ, 0);
	if (!strcmp(how, "fexecve"))
		(void)fexecve(open("/bin/true", O_RDONLY | O_CLOEXEC), words, environ);
	if (!strcmp(how, "path"))
		look_long();
	if (!strcmp(how, "bare"))
		(void)syscall(SYS_execve, "/bin/true", words, environ);
}

NOT static void *call_always(void *arg)
{
	for (;;)
		(void)leaf(1);
	return arg;
}

NOT static void begin_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, call_always, NULL))
		_exit(9);
	(void)usleep(3000);
}

NOT static void handle(int sig)
{
	(void)sig;
	last();
	(void)!write(STDOUT_FILENO, "x", 1);
}

/* Once, when something in its folder is written: that is the recorder, which is about to let
 * handlers run. */
NOT static void expect_write(const char *folder)
{
	int fd = open(folder, O_RDONLY | O_CLOEXEC);

	(void)signal(SIGIO, handle);
	if (fcntl(fd, F_NOTIFY, DN_MODIFY))
		_exit(77);
}

/* Until the recorder's file has begun: it has more than what a session begins with. */
NOT static void await_file(const char *path)
{
	struct stat st;

	while (stat(path, &st) || st.st_size < 512)
		(void)leaf(1);
}

/* Its entry is changed then; a moment later, on a busy machine too, the agent has said so. */
NOT static void await_trace(void)
{
	unsigned char first[16];

	memcpy(first, (void *)leaf, sizeof(first));
	(void)!write(STDOUT_FILENO, "\n", 1); /* its agent is there */
	while (!memcmp(first, (void *)leaf, sizeof(first)))
		(void)usleep(1000);
	(void)usleep(1000000);
}

NOT static int spawn(const char *how)
{
	pid_t pid = 0;

	if (!strcmp(how, "posix_spawn"))
		(void)posix_spawn(&pid, "/bin/true", NULL, NULL, words, environ);
	else if (!(pid = vfork())) {
		(void)execv(how + 6, words); /* "vfork-PATH" */
		_exit(0);
	}
	last();
	return waitpid(pid, NULL, 0) != pid;
}

NOT static int act(const char *how, char **argv)
{
	if (!strncmp(how, "failed", 6)) {
		(void)execv("/nonexistent", words);
		call(10);
		if (!strcmp(how, "failed-kill"))
			(void)raise(SIGKILL);
		how += strcspn(how, "-");
		how += *how == '-';
	}
	if (!strncmp(how, "busy-", 5)) {
		begin_thread();
		for (int i = 0; i < 10; i++)
			last();
		how += 5;
	}
	if (!strncmp(how, "static-", 7)) { /* no descriptor by which the recorder could say so */
		await_file(argv[0]);
		(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0});
		if (strcmp(how + 7, "bare"))
			(void)execv(argv[1], words);
		(void)syscall(SYS_execve, argv[1], words, environ);
	}
	if (!strcmp(how, "handler")) {
		expect_write(argv[0]);
		how = "execl";
	}
	if (!strncmp(how, "await-", 6)) {
		await_trace();
		for (int i = 0; i < 10; i++)
			last();
		how += 6;
	}
	if (!strcmp(how, "_exit"))
		_exit(0);
	if (!strcmp(how, "posix_spawn") || !strncmp(how, "vfork", 5))
		return spawn(how);
	execute(how);
	return 0;
}

/* A copy of the process that has called nothing, or a copy of that, by argv: it executes a program
 * or ends. Its parent's file has begun. */
NOT static int copy(char **argv)
{
	bool twice = !strncmp(argv[0], "twice-", 6);
	const char *how = argv[0] + (twice ? 6 : 0);
	pid_t pid;

	await_file(argv[1]);
	do {
		pid = !strcmp(how, "_Fork")   ? _Fork()
		      : !strcmp(how, "clone") ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)
					      : fork();
		if (pid)
			return waitpid(pid, NULL, 0) != pid;
	} while (twice && !(twice = false));
	if (!strcmp(how, "_exit"))
		_exit(0);
	return execl("/bin/true", "true", NULL);
}

/* The recorder is in this program by LD_PRELOAD. */
NOT static void *recorder(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found)
		_exit(9);
	return found;
}

/* A session behind the command's, which has a file; in it nothing is called. */
NOT static int begin_another(const char *file)
{
	await_file(file);
	((int (*)(void))recorder("shunt_trace_stop"))();
	((int (*)(void *))recorder("shunt_trace_start"))(NULL);
	return execl("/bin/true", "true", NULL);
}

NOT static int become_again(const char *name, int times, const char *how)
{
	char left[16];

	if (!times)
		return act(how, NULL);
	(void)snprintf(left, sizeof(left), "%d", times - 1);
	return execl("/proc/self/exe", name, "again", left, how, (char *)NULL);
}

NOT int main(int argc, char **argv)
{
	pid_t pid;

	call(100);
	if (argc > 3 && !strcmp(argv[1], "copy"))
		return copy(argv + 2);
	if (argc > 2 && !strcmp(argv[1], "another"))
		return begin_another(argv[2]);
	if (argc > 3 && !strcmp(argv[1], "again"))
		return become_again(argv[0], atoi(argv[2]), argv[3]);
	if (argc < 3 || strcmp(argv[1], "child"))
		return argc > 1 ? act(argv[1], argv + 2) : 0;
	pid = fork();
	if (!pid) {
		call(10);
		return act(argv[2], argv + 3);
	}
	return waitpid(pid, NULL, 0) != pid;
}
