/* SPDX-License-Identifier: MIT */
/* A program with keys, choices and an entry to trace, and what else its arguments ask for. */
#include <shunt/control.h>
#include <shunt/static_key.h>

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int plus_one(int x)
{
	return x + 1;
}

static int plus_two(int x)
{
	return x + 2;
}

DEFINE_STATIC_CALL(op, plus_one);
STATIC_CALL_CHOICE(op, plus_one);
STATIC_CALL_CHOICE(op, plus_two);
DEFINE_STATIC_KEY_FALSE(debug);
DEFINE_STATIC_CALL(without, plus_one); /* choices */

/* More choices than anybody has. */
DEFINE_STATIC_CALL(many, plus_one);
/* clang-format off */
#define C1   STATIC_CALL_CHOICE(many, plus_two)
#define C4   C1; C1; C1; C1
#define C16  C4; C4; C4; C4
#define C64  C16; C16; C16; C16
#define C320 C64; C64; C64; C64; C64
/* clang-format on */
C320;

#ifdef __clang__
#define TRACED __attribute__((noinline, patchable_function_entry(5, 0)))
#else
#define TRACED __attribute__((noipa, patchable_function_entry(5, 0)))
#endif

TRACED static int traced(int x)
{
	return static_call(op)(x) + static_branch_unlikely(&debug);
}

static void leave(int sig)
{
	(void)sig;
	exit(0);
}

/* A child each time, and a byte on standard output when it has ended. */
static void fork_often(void)
{
	for (;;) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return;
		(void)traced(1);
		(void)!write(STDOUT_FILENO, ".", 1);
		(void)usleep(1000);
	}
}

/* Whether this process has a socket, or the file that the test passes. */
static bool has_clients_descriptor(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *entry;
	bool found = false;

	while (dir && (entry = readdir(dir))) {
		char to[256];
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, to, sizeof(to) - 1);

		to[n > 0 ? n : 0] = '\0';
		found |= strtol(entry->d_name, NULL, 10) > STDERR_FILENO &&
			 (!strncmp(to, "socket:", 7) || strstr(to, "/passed"));
	}
	if (dir)
		(void)closedir(dir);
	return found;
}

/*
 * Children that have no agent, each in turn; on standard output what they have of its descriptors:
 * nothing ('.') or something ('x'). What is mapped here, below the libraries' data, is copied
 * before that, and long after the descriptors.
 */
static void fork_slowly(void)
{
	const size_t size = 64 << 20;
	char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status = 0;

	if (memory == MAP_FAILED)
		return;
	(void)madvise(memory, size, MADV_NOHUGEPAGE);
	memset(memory, 1, size);
	for (;;) {
		pid_t pid = fork();

		if (!pid)
			_exit(has_clients_descriptor());
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			return;
		(void)!write(STDOUT_FILENO, status ? "x" : ".", 1);
	}
}

/* Names that a program can have if it wants to: @names, choices of op; and the key without's, @key.
 */
static void take_names(char **names, char *key)
{
	static struct shunt_choice hostile[64];

	for (size_t i = 0; names[i] && i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		hostile[i] = (struct shunt_choice){
			.name = names[i],
			.key = &STATIC_CALL_KEY(op),
			.func = (void (*)(void))(uintptr_t)plus_two,
		};
		shunt_choice_add(&hostile[i]);
	}
	*(char **)(uintptr_t)&STATIC_CALL_KEY(without).name = key;
}

static volatile sig_atomic_t is_to_fork, is_to_stop;

static void ask_for_child(int sig)
{
	(void)sig;
	is_to_fork = 1;
}

static void ask_for_stop(int sig)
{
	(void)sig;
	is_to_stop = 1;
}

/* The program ends its agent by itself, whoever traces it. */
static void stop_where_asked(void)
{
	if (is_to_stop && shunt_agent_stop())
		exit(1);
	is_to_stop = 0;
}

/* The child goes on as its parent does. */
static void fork_where_asked(void)
{
	if (!is_to_fork)
		return;
	is_to_fork = 0;
	if (fork())
		return;
	(void)traced(1);
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	int sum = 0;

	if (!strcmp(what, "names") && argc > 3)
		take_names(argv + 3, argv[2]);
	if (strcmp(what, "env") && shunt_agent_start())
		return 1;
	if (!strcmp(what, "fork") && fork() < 0)
		return 1;
	if (!strcmp(what, "closed"))
		for (int fd = 3; fd < 1024; fd++)
			(void)close(fd);
	(void)signal(SIGUSR1, leave);
	(void)signal(SIGUSR2, ask_for_child);
	(void)signal(SIGHUP, ask_for_stop);
	(void)printf("%d\n", (int)getpid());
	(void)fflush(stdout);
	if (!strcmp(what, "idle"))
		for (;;)
			(void)pause();
	if (!strcmp(what, "forking"))
		fork_often();
	if (!strcmp(what, "copies"))
		fork_slowly();
	for (;;) {
		/* "hot": so often that a session switches it off */
		for (int i = 0; i < 20000 && !strcmp(what, "hot"); i++)
			sum += traced(sum);
		sum += traced(sum);
		fork_where_asked();
		stop_where_asked();
		(void)usleep(1000);
	}
}
