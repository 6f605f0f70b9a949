/* SPDX-License-Identifier: MIT */
/*
 * The program of real.py, which knows how often each function is called. It is compiled with room
 * for tracing in every way, and does not know the recorder. argv[1]: what it does besides.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEEP __attribute__((noinline))

enum { ROUNDS = 300, THREADS = 200 };

KEEP int leaf(int x)
{
	__asm__ volatile("" : "+r"(x));
	return x + 1;
}

KEEP int middle(int x)
{
	int sum = 0;

	for (int i = 0; i < 10; i++)
		sum += leaf(x + i);
	return sum;
}

/* With -finstrument-functions its last call is a jump. */
KEEP void nothing(void)
{
	__asm__ volatile("");
}

KEEP void around_nothing(void)
{
	nothing();
	__asm__ volatile("");
}

KEEP void on_signal(int sig)
{
	(void)leaf(sig);
}

#ifdef OWN_MALLOC
/* The program's allocator is traced, too. */
static char pool[1 << 20];
static _Atomic size_t pool_used;

void *malloc(size_t size)
{
	size_t at = __atomic_fetch_add((size_t *)&pool_used, (size + 31) & ~(size_t)15,
				       __ATOMIC_RELAXED);

	*(size_t *)(void *)(pool + at) = size;
	return pool + at + 16;
}

void free(void *p)
{
	(void)p;
}

void *calloc(size_t n, size_t size)
{
	return malloc(n * size);
}

void *realloc(void *p, size_t size)
{
	void *new = malloc(size);

	return p && new ? memcpy(new, p, *(size_t *)(void *)((char *)p - 16)) : new;
}
#endif

static pthread_key_t key;

KEEP void last_destructor(void *arg)
{
	if (arg)
		(void)leaf(1);
}

static void *short_thread(void *arg)
{
	(void)pthread_setspecific(key, &key);
	(void)leaf(3);
	(void)pthread_setname_np(pthread_self(), "short one");
	(void)leaf(2);
	return arg;
}

static void threads(void)
{
	(void)pthread_key_create(&key, last_destructor);
	for (int i = 0; i < THREADS; i++) {
		pthread_t t;

		if (!pthread_create(&t, NULL, short_thread, NULL))
			(void)pthread_join(t, NULL);
	}
}

static void handlers(void)
{
	(void)signal(SIGUSR1, on_signal);
	for (int i = 0; i < ROUNDS; i++)
		(void)raise(SIGUSR1);
}

static jmp_buf back;

KEEP void jump(void)
{
	longjmp(back, 1);
}

static void jumps(void)
{
	for (volatile int i = 0; i < ROUNDS; i++)
		if (!setjmp(back))
			jump();
}

static int in_fork(void)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		(void)middle(1);
		exit(7);
	}
	(void)waitpid(pid, &status, 0);
	return WEXITSTATUS(status);
}

static void plugin(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);
	void (*fn)(void) = handle ? (void (*)(void))dlsym(handle, "in_plugin") : NULL;

	for (int i = 0; fn && i < ROUNDS; i++)
		fn();
	if (handle && getenv("CLOSE"))
		(void)dlclose(handle);
}

/* Comes and goes @times; half way another file takes its name. */
static void reload(const char *path, const char *other, int times)
{
	for (int i = 0; i < times; i++) {
		if (i == times / 2 && rename(other, path))
			exit(8);
		plugin(path);
	}
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	for (int i = 0; i < ROUNDS; i++) {
		(void)middle(i);
		around_nothing();
	}
	if (!strcmp(what, "threads"))
		threads();
	if (!strcmp(what, "handlers"))
		handlers();
	if (!strcmp(what, "jumps"))
		jumps();
	if (!strcmp(what, "fork"))
		return in_fork();
	if (!strcmp(what, "plugin"))
		plugin(argv[2]);
	if (!strcmp(what, "reload"))
		reload(argv[2], argv[3], atoi(argv[4]));
	if (!strcmp(what, "exec"))
		(void)execl(argv[0], argv[0], (char *)NULL);
	if (!strcmp(what, "_exit"))
		_exit(5);
	if (!strcmp(what, "crash"))
		(void)raise(SIGSEGV);
	return 5;
}
