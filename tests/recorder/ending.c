/* SPDX-License-Identifier: MIT */
/* The program of ends.py: 100 calls of leaf(), then it ends in the way that argv[1] says. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/filter.h"

#define KEEP __attribute__((noinline))

KEEP int leaf(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

KEEP void not_called(void)
{
	__asm__ volatile("");
}

KEEP void last(void)
{
	__asm__ volatile("");
}

/* Until the recorder's file has begun: it has more than what a session begins with. */
static void await_file(const char *path)
{
	struct stat st;

	while (stat(path, &st) || st.st_size < 512)
		(void)leaf(1);
}

/* Its own handlers are asked for, and are as they were by default. */
static int ask_actions(void)
{
	struct sigaction now;

	if (sigaction(SIGTERM, NULL, &now) || now.sa_handler != SIG_DFL)
		return 20;
	if (signal(SIGINT, SIG_IGN) != SIG_DFL || signal(SIGINT, SIG_DFL) != SIG_IGN)
		return 21;
	return 6;
}

/* The control: libc's own sigaction() shows that the recorder has a handler. */
static int ask_libc(void)
{
	int (*of_libc)(int, const struct sigaction *, struct sigaction *);
	void *libc = dlopen("libc.so.6", RTLD_NOW);
	struct sigaction now;

	*(void **)&of_libc = libc ? dlsym(libc, "sigaction") : NULL;
	if (!of_libc || of_libc(SIGTERM, NULL, &now))
		return 20;
	return now.sa_handler == SIG_DFL ? 21 : 7;
}

/* A child of vfork() ends in its parent's memory: the session goes on. */
static int in_vfork(char **argv)
{
	pid_t pid = vfork();
	int status;

	if (!pid) {
		if (argv[2])
			(void)execl("/bin/true", "true", (char *)NULL);
		_exit(0);
	}
	(void)waitpid(pid, &status, 0);
	last();
	return 6;
}

static int in_fork(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		last();
		_exit(3);
	}
	(void)waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/* Three children, of which one has a child itself. */
static int forks(void)
{
	int status = 0;

	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (!pid) {
			last();
			if (!i && !fork()) {
				last();
				exit(0);
			}
			(void)wait(NULL);
			exit(0);
		}
		(void)waitpid(pid, &status, 0);
	}
	return status ? 6 : 5;
}

/* There is something where its child's file would be. */
static int fork_beside(char **argv)
{
	pid_t pid = fork();
	char name[4096];
	int status;

	if (!pid) {
		(void)snprintf(name, sizeof(name), "%s.%d", argv[3], (int)getpid());
		if (!strcmp(argv[2], "link") && symlink(argv[4], name))
			_exit(9);
		if (!strcmp(argv[2], "pipe") && mkfifo(name, 0600))
			_exit(9);
		if (!strcmp(argv[2], "folder") && mkdir(name, 0700))
			_exit(9);
		last();
		_exit(3);
	}
	(void)waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static int fork_less(const char *root)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (root ? chroot(root) || chdir("/") : setgid(65534) || setuid(65534))
			_exit(9);
		last();
		_exit(3);
	}
	(void)waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

/*
 * What the file is opened with is given up, within the first milliseconds; "bare": by a system call
 * that the recorder does not see.
 */
static int give_up(const char *how, const char *root)
{
	const struct rlimit none = {0, 0};
	bool is_bare = !strncmp(how, "bare-", 5);
	const char *what = is_bare ? how + 5 : how;

	if (!strcmp(what, "chroot") && (is_bare ? syscall(SYS_chroot, root) : chroot(root)))
		return 9;
	if (!strcmp(what, "setuid") && (is_bare ? syscall(SYS_setuid, 65534) : setuid(65534)))
		return 9;
	if (!strcmp(what, "descriptors") &&
	    (is_bare ? syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &none, NULL)
		     : setrlimit(RLIMIT_NOFILE, &none)))
		return 9;
	if (!strcmp(what, "setresgid") && setresgid(65534, 65534, 65534))
		return 9;
	if (!strcmp(what, "prlimit") && prlimit(0, RLIMIT_NOFILE, &none, NULL))
		return 9;
	if (!strcmp(what, "daemon") && daemon(1, 1))
		return 9;
	/* The first call opens the file, which is then removed; the second one opens another. */
	if (!strcmp(what, "setuid-removed") && (setegid(getegid()) || unlink(root)))
		return 9;
	if (!strncmp(what, "setuid-", 7) && setuid(65534))
		return 9;
	last();
	if (!strcmp(what, "setuid-signal")) {
		(void)raise(SIGUSR1);
		last();
		(void)raise(SIGUSR2);
	}
	return 6;
}

/* Its only thread keeps what it may, and gets other rights than the recorder's: "blind": not seen.
 */
static int become_uneven(bool is_blind)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct rights[2];

	if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) || setresuid(65534, 65534, 65534) ||
	    syscall(SYS_capget, &head, rights))
		return 9;
	rights[0].effective |= 1u << CAP_SETGID | 1u << CAP_SETUID;
	if (syscall(SYS_capset, &head, rights) || (is_blind && !answer_syscall(SYS_capget, ENOSYS)))
		return 9;
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534))
		return 9;
	last();
	return 6;
}

/* A user namespace is for a process of one thread; behind one of PIDs no thread can be made. */
static int leave_namespace(const char *how)
{
	if (strcmp(how, "bare") ? unshare(CLONE_NEWUSER | (strcmp(how, "pid") ? 0 : CLONE_NEWPID))
				: syscall(SYS_unshare, CLONE_NEWUSER))
		return 9;
	for (int i = 0; i < 100000; i++)
		(void)leaf(i);
	last();
	return 6;
}

static volatile int handled;

KEEP static void handle(int sig)
{
	(void)sig;
	handled = handled + 1;
	last();
}

/* Handlers run all the time, and each of their calls is recorded. */
static int be_alone_often(void)
{
	const struct itimerval every = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
	int fd = open("/proc/self/ns/user", O_RDONLY);

	(void)signal(SIGALRM, handle);
	(void)setitimer(ITIMER_REAL, &every, NULL);
	for (int i = 0; i < 100; i++)
		if (setns(fd, CLONE_NEWUSER) != -1 || errno != EINVAL)
			return 9;
	(void)setitimer(ITIMER_REAL, &never, NULL);
	(void)printf("%d\n", handled);
	return 6;
}

/* The bytes of the file are back, and no call of the recorder; "mended": that again. */
static int change_entries(bool is_mended)
{
	const size_t size = 4096;
	char *page = (char *)((uintptr_t)leaf & ~(size - 1)), *copy = malloc(size);

	memcpy(copy, page, size);
	if (madvise(page, size, MADV_DONTNEED))
		return 9;
	if (is_mended && (mprotect(page, size, PROT_READ | PROT_WRITE | PROT_EXEC) ||
			  (memcpy(page, copy, size), mprotect(page, size, PROT_READ | PROT_EXEC))))
		return 9;
	free(copy);
	return 0;
}

/* The same program again, so often; first a child that becomes it, too. */
static int be_again(char **argv)
{
	char times[16];
	int status = 0;

	(void)snprintf(times, sizeof(times), "%d", atoi(argv[2]) - 1);
	if (atoi(argv[2]) > 0 && argv[3] && !fork()) {
		last();
		(void)execl("/proc/self/exe", argv[0], (char *)NULL);
		_exit(9);
	}
	(void)wait(&status);
	if (atoi(argv[2]) > 0)
		(void)execl("/proc/self/exe", argv[0], "again", times, (char *)NULL);
	return status ? 9 : 6;
}

enum { MOST_CALLS = 100 };

/* From here on a system call whose number is not among @words kills the process. */
static int allow_only(char **words)
{
	struct sock_filter code[MOST_CALLS + 3] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
	struct sock_fprog program = {.filter = code};
	unsigned char n = 0, at = 1;

	while (n < MOST_CALLS && words[n])
		n++;
	for (unsigned char i = 0; i < n; i++, at++)
		code[at] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
							(unsigned)atoi(words[i]),
							(unsigned char)(n - i), 0);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = at;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

static void *call_many(void *arg)
{
	for (int i = 0; i < 100000; i++)
		(void)leaf(i);
	return arg;
}

static int in_sandbox(char **words)
{
	pthread_t thread;

	if (allow_only(words))
		return 9;
	(void)call_many(NULL);
	(void)raise(SIGWINCH); /* with --flight and --signal WINCH: there are three saves */
	if (pthread_create(&thread, NULL, call_many, NULL) || pthread_join(thread, NULL))
		return 9;
	(void)raise(SIGWINCH);
	return 8;
}

static int pipe_of_late[2];

__attribute__((patchable_function_entry(0))) static void *run_late(void *arg)
{
	char c;

	if (read(pipe_of_late[0], &c, 1) == 1)
		for (int i = 0; i < 1000; i++)
			last();
	return arg;
}

/* A thread that has no ring yet, and gets no memory for one. */
static int without_memory(void)
{
	struct rlimit before, none;
	pthread_t thread;

	if (pipe(pipe_of_late) || pthread_create(&thread, NULL, run_late, NULL) ||
	    getrlimit(RLIMIT_AS, &before))
		return 9;
	none = before;
	none.rlim_cur = 4096;
	(void)setrlimit(RLIMIT_AS, &none);
	if (write(pipe_of_late[1], "", 1) != 1)
		return 9;
	(void)pthread_join(thread, NULL);
	(void)setrlimit(RLIMIT_AS, &before);
	return 7;
}

static _Atomic unsigned interrupted;
static _Atomic bool enough;

KEEP void on_usr2(int sig)
{
	(void)sig;
	interrupted++;
}

/* One signal after the other, for as long as that thread tries to become another program. */
static void *interrupt(void *arg)
{
	for (unsigned sent = 0; !enough; (void)sched_yield()) {
		if (interrupted != sent)
			continue;
		(void)syscall(SYS_tgkill, getpid(), *(pid_t *)arg, SIGUSR2);
		sent++;
	}
	return NULL;
}

/* @held: else no signal can be blocked, as if nobody had done it. */
static int exec_interrupted(bool held)
{
	pid_t self = (pid_t)syscall(SYS_gettid);
	pthread_t thread;

	(void)signal(SIGUSR2, on_usr2);
	if (pthread_create(&thread, NULL, interrupt, &self))
		return 20;
	if (!held && !answer_syscall(SYS_rt_sigprocmask, EPERM))
		return 21;
	for (int i = 0; i < 100; i++)
		(void)execv("/nonexistent", (char *[]){"", NULL});
	enough = true;
	(void)pthread_join(thread, NULL);
	(void)printf("%u\n", interrupted);
	return 7;
}

static void end_by_exec(const char *how, char **argv)
{
	char *const arguments[] = {"true", NULL};

	if (!strcmp(how, "execl"))
		(void)execl("/bin/true", "true", (char *)NULL);
	if (!strcmp(how, "execlp"))
		(void)execlp("true", "true", (char *)NULL);
	if (!strcmp(how, "execle"))
		(void)execle("/bin/sh", "sh", "-c", "exit $STATUS", (char *)NULL,
			     (char *[]){"STATUS=4", NULL});
	if (!strcmp(how, "execve"))
		(void)execve("/bin/true", arguments, environ);
	if (!strcmp(how, "execvp"))
		(void)execvp("true", arguments);
	if (!strcmp(how, "execv-not-there")) {
		(void)execv("/nonexistent", arguments);
		last();
		exit(6);
	}
	(void)argv;
}

static void end_by_signal(const char *how, char **argv)
{
	if (!strcmp(how, "segv"))
		__asm__ volatile("movl $0, 8" : : : "memory");
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "raise"))
		(void)raise(atoi(argv[2]));
	if (!strcmp(how, "kill"))
		(void)kill(getpid(), SIGKILL);
	if (!strcmp(how, "kill-later")) {
		await_file(argv[2]);
		(void)kill(getpid(), SIGKILL);
	}
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	(void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	for (int i = 0; i < 100; i++)
		(void)leaf(i);
	if (!strcmp(how, "_exit"))
		_exit(3);
	if (!strcmp(how, "_Exit"))
		_Exit(3);
	if (!strcmp(how, "quick_exit"))
		quick_exit(3);
	if (!strcmp(how, "system-call"))
		(void)syscall(SYS_exit_group, 0);
	if (!strcmp(how, "vfork"))
		return in_vfork(argv);
	if (!strcmp(how, "fork"))
		return in_fork();
	/* Without the look at what is there: control. */
	if (!strcmp(how, "forks-blind") && !answer_syscall(SYS_newfstatat, ENOENT))
		return 1;
	if (!strncmp(how, "forks", 5))
		return forks();
	if (!strcmp(how, "fork-beside"))
		return fork_beside(argv);
	if (!strcmp(how, "sandbox"))
		return in_sandbox(argv + 2);
	if (!strcmp(how, "no-memory"))
		return without_memory();
	if (!strcmp(how, "no-descriptor") && argc > 2)
		await_file(argv[2]);
	if (!strcmp(how, "no-descriptor"))
		(void)setrlimit(RLIMIT_NOFILE, &(struct rlimit){0, 0});
	if (!strcmp(how, "fork-setuid"))
		return fork_less(NULL);
	if (!strcmp(how, "fork-chroot"))
		return fork_less(argv[2]);
	if (!strcmp(how, "again"))
		return be_again(argv);
	if (!strncmp(how, "execv-interrupted", 17))
		return exec_interrupted(!how[17]);
	if (!strncmp(how, "uneven", 6))
		return become_uneven(!strcmp(how, "uneven-blind"));
	if (!strcmp(how, "namespace"))
		return leave_namespace(argv[2]);
	if (!strcmp(how, "alone-often"))
		return be_alone_often();
	if (!strcmp(how, "changed"))
		return change_entries(argc > 2);
	if (!strcmp(how, "give-up"))
		return give_up(argv[2], argv[3]);
	if (!strcmp(how, "actions"))
		return ask_actions();
	if (!strcmp(how, "actions-of-libc"))
		return ask_libc();
	if (!strcmp(how, "many"))
		for (int i = 0; i < 1000000; i++)
			(void)leaf(i);
	end_by_exec(how, argv);
	end_by_signal(how, argv);
	return argc > 4 ? (not_called(), 1) : 0;
}
