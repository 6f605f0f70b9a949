/* SPDX-License-Identifier: MIT */
/*
 * Functions that messages are passed to and that do themselves what fails, and so are called
 * again: without an end, by what another one does, left by longjmp(), on several threads. They
 * come to an end, each message that is not within one still comes, and shunt_last_error() has the
 * last.
 *
 * Control: the depth is not looked at (-DCONTROL); each of them fills its stack and dies of it.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>
#include <shunt/text_poke.h>

#include "tap.h"

static int one(void)
{
	return 1;
}

DEFINE_STATIC_CALL(key, one);
DEFINE_STATIC_KEY_FALSE(off);

#ifdef CONTROL
struct shunt_nesting;
bool __wrap_shunt_nesting_begin(struct shunt_nesting *before);
void __wrap_shunt_nesting_end(const struct shunt_nesting *before);

bool __wrap_shunt_nesting_begin(struct shunt_nesting *before)
{
	(void)before;
	return true;
}

void __wrap_shunt_nesting_end(const struct shunt_nesting *before)
{
	(void)before;
}
#endif

enum { FEW = 16 }; /* calls within each other, at most */

static __thread unsigned depth, deepest, calls;

static void enter(void)
{
	calls++;
	if (++depth > deepest)
		deepest = depth;
}

static void fail(void)
{
	if (__static_call_update(NULL, (void (*)(void))one) != -EINVAL)
		_exit(10);
}

static void by_update(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	enter();
	fail();
	depth--;
}

static void by_others(const char *message, void *arg);

/* Each sets the other one. */
static void by_poke(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	enter();
	shunt_set_log(by_others, NULL);
	if (text_poke_bp(NULL, "\x90", 1) != -EINVAL)
		_exit(11);
	depth--;
}

static void by_others(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	enter();
	shunt_set_log(by_poke, NULL);
	if (static_branch_dec(&off) != -EINVAL)
		_exit(12);
	depth--;
}

static __thread sigjmp_buf out;

/* Leaves from the third within each other. */
static void by_jump(const char *message, void *arg)
{
	by_update(message, arg);
	depth = 0;
	siglongjmp(out, 1);
}

static void (*const functions[])(const char *, void *) = {by_update, by_poke, by_jump};
static const char *const names[] = {"fails again", "fails otherwise, by another function",
				    "fails again, and is left by longjmp()"};

/* 0: each of the messages has come, and they are not many. */
static int fail_often(size_t f)
{
	for (int i = 0; i < 100; i++) {
		unsigned before = calls;

		shunt_set_log(functions[f], NULL);
		depth = 0;
		if (!sigsetjmp(out, 1))
			fail();
		if (calls == before)
			return 13;
		if (deepest > FEW || calls - before > FEW)
			return 14;
	}
	return 0;
}

static void *on_thread(void *arg)
{
	return (void *)(uintptr_t)fail_often(*(size_t *)arg);
}

static int run(size_t f, bool threads)
{
	static const struct rlimit no_core = {0, 0}, stack = {1 << 20, 1 << 20};
	pthread_t others[2];
	void *ret[2] = {NULL, NULL};
	int wrong;

	(void)setrlimit(RLIMIT_CORE, &no_core);
	(void)setrlimit(RLIMIT_STACK, &stack);
	(void)signal(SIGSEGV, SIG_DFL);
	for (int i = 0; threads && i < 2; i++)
		if (pthread_create(&others[i], NULL, on_thread, &f))
			return 15;
	wrong = fail_often(f);
	for (int i = 0; threads && i < 2; i++)
		if (pthread_join(others[i], &ret[i]) || ret[i])
			return 16;
	return wrong;
}

int main(void)
{
	for (size_t f = 0; f < sizeof(functions) / sizeof(functions[0]); f++)
		for (int threads = 0; threads < 2; threads++) {
			int status = -1;
			pid_t pid = fork();

			if (!pid)
				_exit(run(f, threads));
			if (pid < 0 || waitpid(pid, &status, 0) != pid)
				status = -1;
#ifdef CONTROL
			ok(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "control: %s%s: %x",
			   names[f], threads ? ", on threads" : "", (unsigned)status);
#else
			ok(!status, "a function that %s%s: %x", names[f],
			   threads ? ", on threads" : "", (unsigned)status);
#endif
		}
	return tap_done();
}
