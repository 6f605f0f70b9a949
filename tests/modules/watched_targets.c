/* SPDX-License-Identifier: MIT */
/*
 * Modules that never heard of Shunt, into which a key points: they are seen to go, or are kept;
 * and what of that is not for signal handlers is refused there.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "linux/base/base.h"

int __real___cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle);
int __wrap___cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle);
int __real_shunt_look_for_handler(void);
int __wrap_shunt_look_for_handler(void);

static bool deaf, careless; /* what is taken out */

int __wrap___cxa_atexit(void (*fn)(void *), void *arg, void *dso_handle)
{
	return deaf ? 0 : __real___cxa_atexit(fn, arg, dso_handle);
}

int __wrap_shunt_look_for_handler(void)
{
	return careless ? 0 : __real_shunt_look_for_handler();
}

static int home(void)
{
	return 1;
}

DEFINE_STATIC_CALL(watch_key, home);

KEEP static int call_it(void)
{
	return static_call(watch_key)();
}

typedef int func_t(void);

/* ---------------------------------------------------------------------- they go */

/* Returns 1: the key is back; 2: the module is kept; 0: neither; negative: an error. */
static int point_and_unload(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW), *again;
	func_t *call = handle ? (func_t *)dlsym(handle, "sentinel_call") : NULL;
	int ret;

	if (!call)
		return -1;
	ret = static_call_update(watch_key, call);
	if (ret || call_it() != 42)
		return ret ? ret : -2;
	(void)dlclose(handle);
	again = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
	if (again)
		return call_it() == 42 ? 2 : -3;
	if ((func_t *)static_call_query(watch_key) != home)
		return 0;
	return call_it() == 1 ? 1 : -4;
}

static void expect(const char *path, bool must_go)
{
	int ret = 0;

	for (int i = 0; i < 3 && ret != -5; i++)
		ret = point_and_unload(path);
	ok(ret == 1 || (ret == 2 && !must_go), "%s: %s (%d)", strrchr(path, '/') + 1,
	   ret == 1 ? "the key is back" : "the module is kept", ret);
	if (static_call_update(watch_key, home))
		ok(false, "back home");
}

/* ------------------------------------------------------------------ in a handler */

static func_t *unknown;
static volatile int result;

static void on_signal(int sig)
{
	(void)sig;
	result = static_call_update(watch_key, unknown);
}

static void install(int flags)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = flags};

	(void)sigaction(SIGUSR1, &action, NULL);
}

static void *on_own_stack(void *arg)
{
	(void)raise(SIGUSR1);
	return arg;
}

static void test_handler(const char *path)
{
	static char alternative[1 << 16];
	stack_t stack = {.ss_sp = alternative, .ss_size = sizeof(alternative)};
	void *handle = dlopen(path, RTLD_NOW);
	pthread_t thread;

	unknown = handle ? (func_t *)dlsym(handle, "sentinel_call") : NULL;
	install(0);
	(void)raise(SIGUSR1);
	ok(result == -EAGAIN && call_it() == 1 && strstr(shunt_last_error(), "shunt_watch_target"),
	   "in a handler, not known: %d, %s", result, shunt_last_error());
	(void)pthread_create(&thread, NULL, on_own_stack, NULL);
	(void)pthread_join(thread, NULL);
	ok(result == -EAGAIN && call_it() == 1, "in another thread's: %d", result);
	(void)sigaltstack(&stack, NULL);
	install(SA_ONSTACK);
	(void)raise(SIGUSR1);
	ok(result == -EAGAIN && call_it() == 1, "on another stack: %d", result);
	ok(!shunt_watch_target((const void *)unknown), "it is made known");
	(void)raise(SIGUSR1);
	ok(!result && call_it() == 42, "in a handler, known: %d", result);
	unknown = home;
	(void)raise(SIGUSR1);
	ok(!result && call_it() == 1, "in a handler, the program's own: %d", result);
	(void)dlclose(handle);
}

/* --------------------------------------------------------------------- controls */

/* Not told of the unloading, and nothing pinned: the key is left behind. */
static void control_deaf(const char *path)
{
	pid_t pid = fork();
	int status = -1;

	if (!pid) {
		deaf = true;
		_exit(point_and_unload(path) == 0 ? 0 : 1);
	}
	(void)waitpid(pid, &status, 0);
	ok(!status, "control: not told: the key points into unmapped memory (%x)", status);
}

static void control_careless(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);

	unknown = handle ? (func_t *)dlsym(handle, "sentinel_call") : NULL;
	careless = true;
	(void)raise(SIGUSR1);
	ok(!result, "control: handlers are not seen: the loader's locks are taken in one");
	careless = false;
	if (static_call_update(watch_key, home))
		ok(false, "back home");
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	shunt_set_log(NULL, NULL);
	test_handler(argv[1]);
	expect(argv[1], true);
	expect(argv[2], true);  /* relative relocations are packed */
	expect(argv[6], true);  /* its text is short */
	expect(argv[3], false); /* nobody calls __cxa_finalize() */
	control_deaf(argv[1]);
	control_careless(argv[4]);
	return tap_done();
}
