/* SPDX-License-Identifier: MIT */
/*
 * A process that is attached to while its threads have locks of the dynamic linker, are on stacks
 * of their own making, or in a malloc() that is not libc's.
 *
 *     launcher_target KIND
 *
 * It writes "ready" when it is, ends when its standard input does, and has exit status 1 where it
 * has seen anything wrong.
 */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../common/filter.h"
#include "jumping_malloc.h"

enum { STACK = 256 << 10 };

static atomic_bool is_over, is_ready;
static atomic_uint rounds;
static atomic_int wrong;
static long round_ms = 1000;

static void sleep_ms(long ms)
{
	struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&time, &time) && errno == EINTR)
		;
}

/* In a system call in which no thread is taken. */
static void *end_with_input(void *arg)
{
	char byte = 0;
	struct iovec to = {&byte, 1};

	while (readv(STDIN_FILENO, &to, 1) > 0)
		atomic_store(&is_over, true);
	atomic_store(&is_over, true);
	sleep_ms(300);
	_exit(atomic_load(&wrong));
	return arg;
}

/* The same: for a lock. */
static void wait_for_good(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	(void)pthread_mutex_lock(&lock);
	(void)pthread_mutex_lock(&lock);
}

static void say_ready(void)
{
	if (!atomic_exchange(&is_ready, true) && write(STDOUT_FILENO, "ready\n", 6) != 6)
		atomic_store(&wrong, 1);
}

static void sleep_in_rounds(void)
{
	say_ready();
	for (;;) {
		sleep_ms(round_ms);
		atomic_fetch_add(&rounds, 1);
	}
}

/* ------------------------------------------------------------------------------ text */

/* Memory without a file is not mapped as text any more, for all threads. */
static bool refuse_text(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
}

/* One thread alone filters its system calls. */
static void *filter_itself(void *arg)
{
	if (!answer_syscall(SYS_msync, EPERM))
		atomic_store(&wrong, 1);
	say_ready();
	for (;;)
		sleep_ms(1000);
	return arg;
}

/* ------------------------------------------------------------------ the linker's list */

static atomic_bool is_listing;
static bool waits_for_good;

/* Until the main thread has come round three times. */
static int wait_in_list(struct dl_phdr_info *info, size_t size, void *arg)
{
	unsigned from = atomic_load(&rounds);

	(void)info, (void)size, (void)arg;
	atomic_store(&is_listing, true);
	while (waits_for_good ? !atomic_load(&is_over) : atomic_load(&rounds) - from < 3)
		sleep_ms(1);
	return 1;
}

static void *list(void *arg)
{
	do
		(void)dl_iterate_phdr(wait_in_list, NULL);
	while (!waits_for_good);
	/* And the linker is free again. */
	if (!dlopen("libm.so.6", RTLD_NOW))
		atomic_store(&wrong, 1);
	return arg;
}

static void run_list(void)
{
	pthread_t thread;

	round_ms = 20;
	(void)pthread_create(&thread, NULL, list, NULL);
	while (!atomic_load(&is_listing))
		sleep_ms(1);
	sleep_in_rounds();
}

/* ------------------------------------------------------------------------- stacks */

static ucontext_t home, fibre;

static void *run_fibre(void *arg)
{
	if (getcontext(&fibre))
		abort();
	fibre.uc_stack.ss_sp = malloc(STACK);
	fibre.uc_stack.ss_size = STACK;
	makecontext(&fibre, sleep_in_rounds, 0);
	(void)swapcontext(&home, &fibre);
	return arg;
}

static void in_handler(int signal)
{
	(void)signal;
	sleep_in_rounds();
}

/* On an alternate stack, which has interrupted a wait. */
static void run_handler(void)
{
	stack_t alternate = {.ss_sp = malloc(STACK), .ss_size = STACK};
	struct sigaction action = {.sa_handler = in_handler, .sa_flags = SA_ONSTACK};

	(void)sigaltstack(&alternate, NULL);
	(void)sigaction(SIGALRM, &action, NULL);
	(void)alarm(1);
	for (;;)
		(void)poll(NULL, 0, -1);
}

static void *sleep_as_thread(void *arg)
{
	sleep_in_rounds();
	return arg;
}

/* Memory of the program's own is a thread's stack. */
static void run_given_stack(void)
{
	pthread_attr_t attributes;
	pthread_t thread;

	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setstack(&attributes, aligned_alloc(4096, STACK), STACK);
	(void)pthread_create(&thread, &attributes, sleep_as_thread, NULL);
	wait_for_good();
}

static void run_fibre_in_thread(void)
{
	pthread_t thread;

	(void)pthread_create(&thread, NULL, run_fibre, NULL);
	wait_for_good();
}

/* ---------------------------------------------------------------------------- setuid() */

/* Of all threads, again and again: it ends with status 1 where one call takes ten seconds. */
static void *set_users(void *arg)
{
	while (!atomic_load(&is_over)) {
		(void)alarm(10);
		if (setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1))
			atomic_store(&wrong, 1);
		sleep_ms(1);
	}
	(void)alarm(0);
	return arg;
}

/* ---------------------------------------------------------------------------- main */

static void run(const char *kind)
{
	pthread_t thread;

	(void)pthread_create(&thread, NULL, end_with_input, NULL);
	if (!strcmp(kind, "list") || !strcmp(kind, "list_for_good") ||
	    !strcmp(kind, "list_no_text")) {
		waits_for_good = strcmp(kind, "list") != 0;
		if (!strcmp(kind, "list_no_text") && !refuse_text())
			atomic_store(&wrong, 1);
		run_list();
	} else if (!strcmp(kind, "no_text")) {
		if (!refuse_text())
			atomic_store(&wrong, 1);
	} else if (!strcmp(kind, "fibre"))
		(void)run_fibre(NULL);
	else if (!strcmp(kind, "fibre_in_thread"))
		run_fibre_in_thread();
	else if (!strcmp(kind, "handler"))
		run_handler();
	else if (!strcmp(kind, "setuid"))
		(void)pthread_create(&thread, NULL, set_users, NULL);
	else if (!strcmp(kind, "filter")) {
		(void)pthread_create(&thread, NULL, filter_itself, NULL);
		while (!atomic_load(&is_ready))
			sleep_ms(1);
	} else if (!strcmp(kind, "given_stack"))
		run_given_stack();
	else if (!strcmp(kind, "malloc"))
		(void)strcpy(malloc(JUMPING_SLEEPS), kind);
	else if (!strcmp(kind, "malloc_pointer")) {
		void *(*volatile allocate)(size_t) = malloc;

		(void)strcpy(allocate(JUMPING_SLEEPS), kind);
	} else if (!strcmp(kind, "dlerror")) {
		(void)dlopen("/none", RTLD_NOW);
		say_ready();
		while (!atomic_load(&is_over))
			sleep_ms(20);
		if (!dlerror())
			atomic_store(&wrong, 1);
	} else if (strcmp(kind, "sleep") != 0)
		atomic_store(&wrong, 1);
	sleep_in_rounds();
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	run(argv[1]);
	return 0;
}
