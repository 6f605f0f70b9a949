/* SPDX-License-Identifier: MIT */
/* A thread of another process that makes calls: launcher.h. */
#include "launcher.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include "inject_worker.h"
#include "launcher_block.h"
#include "remote.h"

extern const unsigned char launcher_code[], launcher_syscall[], launcher_code_end[];

enum {
	PAGE = 4096,
	BLOCK_AT = PAGE, /* behind the code */
	TEXT_AT = 2 * PAGE,
	BYTES = TEXT_AT + LAUNCHER_TEXT,
	STACK = 256 << 10, /* of the thread: dlopen() runs on it */
	/* Of the held thread's stack, far below what runs on it. */
	ATTRIBUTES_AT = 4096,
	THREAD_AT = 4096 + 1024,
	SIGSETXID = 33,
	PAUSE_NS = 50000,
	LEAVE_MS = 1000
};

static int fail(struct launcher *l, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static int fail(struct launcher *l, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is above */
	(void)vsnprintf(l->why, sizeof(l->why), format, args);
	va_end(args);
	return err;
}

pid_t launcher_find(pid_t pid)
{
	return remote_thread_called(pid, LAUNCHER_THREAD_NAME, 0);
}

/* ----------------------------------------------------------------------- its start */

/* A system call of the held thread, which must not fail. */
static int ask_kernel(struct launcher *l, struct tracee *t, long number,
		      const uint64_t arguments[6], const char *name, int64_t *result)
{
	int err = tracee_syscall(t, number, arguments, result);

	if (err)
		return fail(l, err, "%s", t->why);
	if (*result < 0 && *result > -4096)
		return fail(l, (int)*result, "%s in it: %s", name, strerror((int)-*result));
	return 0;
}

/* Code that is never writable, and what is written there that is never code. */
static int map(struct launcher *l, struct tracee *t)
{
	const uint64_t all[6] = {0, BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
				 (uint64_t)-1};
	uint64_t rest[6] = {0, BYTES - BLOCK_AT, PROT_READ | PROT_WRITE};
	int64_t result;
	int err = ask_kernel(l, t, SYS_mmap, all, "mmap()", &result);

	if (err)
		return err;
	l->base = (uint64_t)result;
	l->text = l->base + TEXT_AT;
	rest[0] = l->base + BLOCK_AT;
	return ask_kernel(l, t, SYS_mprotect, rest, "mprotect()", &result);
}

static void unmap(struct launcher *l, struct tracee *t)
{
	const uint64_t all[6] = {l->base, BYTES};
	int64_t result;

	if (l->base && !tracee_halt(t))
		(void)tracee_syscall(t, SYS_munmap, all, &result);
	l->base = 0;
}

static void put(unsigned char *block, size_t at, uint64_t word)
{
	memcpy(block + at, &word, sizeof(word));
}

static int fill(struct launcher *l, const struct launcher_calls *calls)
{
	unsigned char image[BLOCK_AT + 256] = {0}, *block = image + BLOCK_AT;
	int err;

	memcpy(image, launcher_code, (size_t)(launcher_code_end - launcher_code));
	put(block, LAUNCHER_MUNMAP, calls->unmap);
	put(block, LAUNCHER_BASE, l->base);
	put(block, LAUNCHER_SIZE, BYTES);
	put(block, LAUNCHER_PAUSE + 8, PAUSE_NS);
	put(block, LAUNCHER_SIGNALS, (uint64_t)1 << (SIGSETXID - 1));
	memcpy(block + LAUNCHER_NAME, LAUNCHER_THREAD_NAME, sizeof(LAUNCHER_THREAD_NAME));
	err = remote_write(l->space, l->base, image, sizeof(image));
	return err ? fail(l, err, "its memory: %s", strerror(-err)) : 0;
}

/* A thread with no more stack than it needs, whose end nobody waits for. */
static int create(struct launcher *l, struct tracee *t, const struct launcher_calls *calls,
		  unsigned limit_ms)
{
	const uint64_t attributes = t->stack + ATTRIBUTES_AT, block = l->base + BLOCK_AT;
	const uint64_t init[TRACEE_ARGUMENTS] = {attributes},
		       size[TRACEE_ARGUMENTS] = {attributes, STACK},
		       state[TRACEE_ARGUMENTS] = {attributes, PTHREAD_CREATE_DETACHED},
		       arguments[TRACEE_ARGUMENTS] = {t->stack + THREAD_AT, attributes, l->base,
						      block};
	uint64_t result = 0;
	int err = tracee_call(t, calls->init, init, limit_ms, &result);

	if (!err)
		err = tracee_call(t, calls->stack_size, size, limit_ms, &result);
	if (!err)
		err = tracee_call(t, calls->detach, state, limit_ms, &result);
	if (!err)
		err = tracee_call(t, calls->create, arguments, limit_ms, &result);
	if (err)
		return fail(l, err, "%s", t->why);
	return (int)result ? fail(l, -(int)result, "pthread_create(): %s", strerror((int)result))
			   : 0;
}

int launcher_start(struct launcher *l, struct tracee *t, const struct launcher_calls *calls,
		   unsigned limit_ms)
{
	int err;

	*l = (struct launcher){.space = t->space};
	err = map(l, t);
	if (!err)
		err = fill(l, calls);
	if (!err)
		err = create(l, t, calls, limit_ms);
	if (err)
		unmap(l, t);
	return err;
}

/* ------------------------------------------------------------------------ its calls */

static int get(struct launcher *l, size_t at, void *to, size_t size)
{
	int err = remote_read(l->space, l->base + BLOCK_AT + at, to, size);

	return err ? fail(l, err == -EIO ? -ESRCH : err, "its memory: %s", strerror(-err)) : 0;
}

static int set(struct launcher *l, size_t at, const void *from, size_t size)
{
	int err = remote_write(l->space, l->base + BLOCK_AT + at, from, size);

	return err ? fail(l, err == -EIO ? -ESRCH : err, "its memory: %s", strerror(-err)) : 0;
}

/* The time is up: what the launcher is seen to do. */
static int say_late(struct launcher *l, unsigned limit_ms)
{
	char path[64], line[32] = "";
	FILE *file;

	if (!l->tid)
		l->tid = launcher_find(l->space->pid);
	(void)snprintf(path, sizeof(path), "/proc/%d/syscall", (int)l->tid);
	file = l->tid ? fopen(path, "re") : NULL;
	if (file && !fgets(line, sizeof(line), file))
		line[0] = '\0';
	if (file)
		(void)fclose(file);
	if (strtol(line, NULL, 10) == SYS_futex)
		return fail(
			l, -ETIMEDOUT,
			"a lock of libc stayed taken for %g s; thread %d waits for it, which was "
			"made for this and ends by itself then",
			limit_ms / 1000.0, (int)l->tid);
	return fail(
		l, -ETIMEDOUT,
		"it has not returned in %g s, in thread %d, which was made for this and ends by "
		"itself then",
		limit_ms / 1000.0, (int)l->tid);
}

static int wait_for(struct launcher *l, unsigned limit_ms)
{
	static const struct timespec pause = {.tv_nsec = PAUSE_NS};
	const uint64_t until = tracee_now() + limit_ms * 1000000ull;
	uint32_t done, ended;

	for (;;) {
		int err = get(l, LAUNCHER_DONE, &done, sizeof(done));

		if (!err && done != l->command)
			err = get(l, LAUNCHER_ENDED, &ended, sizeof(ended));
		if (err || done == l->command)
			return err;
		if (ended)
			return fail(l, -ESRCH,
				    "the thread that was made for this has ended: this "
				    "program was not heard of for too long");
		if (!l->is_deaf && worker_is_to_end())
			return fail(l, -EINTR, "interrupted");
		if (tracee_now() >= until)
			return say_late(l, limit_ms);
		(void)nanosleep(&pause, NULL);
	}
}

int launcher_call(struct launcher *l, uint64_t function, const uint64_t arguments[6],
		  unsigned limit_ms, uint64_t *result)
{
	uint64_t words[7] = {function};
	int err;

	if (!l->tid)
		l->tid = launcher_find(l->space->pid);
	memcpy(words + 1, arguments, 6 * sizeof(words[0]));
	err = set(l, LAUNCHER_FUNCTION, words, sizeof(words));
	l->command++;
#ifdef INJECT_END_CALL /* the tests: it is killed, or stopped, before this call */
	static int calls;
	if (++calls == atoi(getenv("INJECT_END_CALL")))
		(void)raise(atoi(getenv("INJECT_END_SIGNAL")));
#endif
	if (!err)
		err = set(l, LAUNCHER_COMMAND, &l->command, sizeof(l->command));
	if (!err)
		err = wait_for(l, limit_ms);
	return err ? err : get(l, LAUNCHER_RESULT, result, sizeof(*result));
}

int launcher_call_kernel(struct launcher *l, long number, const uint64_t arguments[5],
			 unsigned limit_ms, int64_t *result)
{
	uint64_t words[6] = {(uint64_t)number}, raw = 0;
	int err;

	memcpy(words + 1, arguments, 5 * sizeof(words[0]));
	err = launcher_call(l, l->base + (size_t)(launcher_syscall - launcher_code), words,
			    limit_ms, &raw);
	*result = (int64_t)raw;
	return err;
}

/* ------------------------------------------------------------------------- its end */

void launcher_leave(struct launcher *l)
{
	static const struct timespec pause = {.tv_nsec = PAUSE_NS};
	const uint64_t until = tracee_now() + LEAVE_MS * 1000000ull;
	const uint32_t one = 1;
	uint32_t done = 0;
	bool is_idle;

	if (!l->base)
		return;
	is_idle = !get(l, LAUNCHER_DONE, &done, sizeof(done)) && done == l->command;
	(void)set(l, LAUNCHER_LEAVE, &one, sizeof(one));
	l->base = 0;
	while (is_idle && launcher_find(l->space->pid) && tracee_now() < until)
		(void)nanosleep(&pause, NULL);
}
