/* SPDX-License-Identifier: MIT */
/*
 * A process that sleeps with certain words on its stack, for shunt attach: as calls that have
 * returned leave them in a buffer that is not initialised, or as frames of calls that have not.
 *
 *	attach_stack KIND [thread | no_cfi]
 *
 * thread: in another thread than the first, which waits for a lock then. no_cfi: below a function
 * without call frame information. It prints a line when it is about to sleep.
 */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	WORDS = 32,
	FAR = 200 /* words: more than are looked at of a stack */
};

extern void *__libc_malloc(size_t size);

/* Calls @function; nothing says how to unwind it. */
void call_without_cfi(void (*function)(void));
__asm__(".pushsection .text\n"
	"	.type call_without_cfi, @function\n"
	"call_without_cfi:\n"
	"	pushq $0\n"
	"	pushq $0\n"
	"	pushq $0\n"
	"	call *%rdi\n"
	"	addq $24, %rsp\n"
	"	ret\n"
	"	.size call_without_cfi, . - call_without_cfi\n"
	"	.popsection\n");

static uint64_t words[WORDS]; /* what is to be on the stack beside the frames */
static void (*in_malloc)(void);
static bool has_cfi = true;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void sleep_now(void)
{
	if (write(1, "ready\n", 6) == 6)
		(void)pause();
}

/* With the words in its frame. */
__attribute__((noinline)) static void sleep_beside_words(void)
{
	volatile uint64_t buffer[WORDS];

	for (int i = 0; i < WORDS; i++)
		buffer[i] = words[i];
	sleep_now();
	(void)buffer[0];
}

/* Called from so far that no word of the caller's is near. */
__attribute__((noinline)) static void sleep_far(void)
{
	volatile uint64_t buffer[FAR];

	for (int i = 0; i < FAR; i++)
		buffer[i] = 0;
	if (has_cfi)
		sleep_beside_words();
	else
		call_without_cfi(sleep_beside_words);
	(void)buffer[0];
}

static void sleep_below_no_cfi(void)
{
	call_without_cfi(sleep_beside_words);
}

/* -------------------------------------------------------------------------- frames */

/* The first call of @in_malloc is below the program's own malloc(). */
__attribute__((noinline)) void *malloc(size_t size)
{
	void (*function)(void) = in_malloc;

	if (function) {
		in_malloc = NULL;
		function();
	}
	return __libc_malloc(size);
}

static void allocate(void)
{
	void *volatile p;

	in_malloc = has_cfi ? sleep_beside_words : sleep_below_no_cfi;
	p = malloc(10);
	free(p);
}

static void allocate_far(void)
{
	void *volatile p;

	in_malloc = sleep_far;
	p = malloc(10);
	free(p);
}

/* A constructor that sleeps, and says so by itself. */
static void load(void)
{
	if (!dlopen(getenv("ATTACH_MODULE"), RTLD_NOW))
		abort();
}

static int sleep_in_callback(struct dl_phdr_info *info, size_t size, void *data)
{
	(void)info, (void)size, (void)data;
	sleep_beside_words();
	return 1;
}

static void iterate(void)
{
	(void)dl_iterate_phdr(sleep_in_callback, NULL);
}

static void sleep_in_handler(int signal)
{
	(void)signal;
	sleep_beside_words();
}

static void in_handler(void)
{
	(void)signal(SIGUSR1, sleep_in_handler);
	(void)raise(SIGUSR1);
}

/* For another thread's mutex, with a time limit. */
static void lock_mutex(void)
{
	static const struct timespec never = {.tv_sec = INT32_MAX};
	volatile uint64_t buffer[WORDS];

	for (int i = 0; i < WORDS; i++)
		buffer[i] = words[i];
	if (write(1, "ready\n", 6) == 6)
		(void)pthread_mutex_timedlock(&lock, &never);
	(void)buffer[0];
}

/* A handler that has interrupted a wait, in which servers start their work. */
static void interrupt_wait(int flags)
{
	struct sigaction action = {.sa_handler = sleep_in_handler, .sa_flags = flags};
	sigset_t set, none;

	(void)sigemptyset(&none);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigaction(SIGUSR1, &action, NULL);
	(void)pthread_sigmask(SIG_BLOCK, &set, NULL);
	(void)raise(SIGUSR1);
	(void)sigsuspend(&none);
}

static void in_handler_of_wait(void)
{
	interrupt_wait(0);
}

static void in_handler_on_stack(void)
{
	static uint64_t memory[1 << 13];
	const stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};

	(void)sigaltstack(&stack, NULL);
	interrupt_wait(SA_ONSTACK);
}

/* --------------------------------------------------------------------------- words */

static uint64_t address_of(const char *function)
{
	void *found = dlsym(RTLD_DEFAULT, function);

	if (!found)
		abort();
	return (uint64_t)(uintptr_t)found;
}

/* As a return address into it. */
static void add_word(const char *function)
{
	words[WORDS / 2] = address_of(function) + 5;
}

/* The handler's own frame, from its return address on: ucontext is behind that. */
static void copy_frame(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)info;
	memcpy(words, (uint64_t *)context - 1, sizeof(words));
}

static void add_signal_frame(void)
{
	struct sigaction action = {.sa_sigaction = copy_frame, .sa_flags = SA_SIGINFO};

	(void)sigaction(SIGUSR1, &action, NULL);
	(void)raise(SIGUSR1);
}

static const struct kind {
	const char *name, *word; /* a function */
	void (*sleep)(void);
} kinds[] = {
	{"none", NULL, sleep_far},
	/* Of calls that have returned. */
	{"malloc", "malloc", sleep_far},
	{"libc_malloc", "__libc_malloc", sleep_far},
	{"linker", "__tls_get_addr", sleep_far},
	{"signal_frame", "signal", sleep_far},
	{"handler_of_wait", "malloc", in_handler_of_wait},
	{"handler_on_stack", "malloc", in_handler_on_stack},
	/* Of those that have not. */
	{"in_malloc", NULL, allocate},
	{"far_in_malloc", "__tls_get_addr", allocate_far},
	{"in_dlopen", NULL, load},
	{"in_iterate", NULL, iterate},
	{"in_handler", NULL, in_handler},
	{"in_lock", "malloc", lock_mutex},
};

static void *run(void *data)
{
	const struct kind *kind = data;

	kind->sleep();
	return NULL;
}

int main(int argc, char **argv)
{
	bool in_thread = argc == 3 && !strcmp(argv[2], "thread");
	const struct kind *kind = NULL;
	pthread_t thread;

	has_cfi = argc != 3 || strcmp(argv[2], "no_cfi") != 0;
	for (size_t i = 0; argc > 1 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].name))
			kind = &kinds[i];
	if (!kind)
		return 2;
	if (kind->word && !strcmp(kind->word, "signal"))
		add_signal_frame();
	else if (kind->word)
		add_word(kind->word);
	(void)pthread_mutex_lock(&lock);
	if (in_thread && !pthread_create(&thread, NULL, run, (void *)(uintptr_t)kind))
		(void)pthread_mutex_lock(&lock);
	else
		(void)run((void *)(uintptr_t)kind);
	return 1;
}
