/* SPDX-License-Identifier: MIT */
/*
 * What a function of shunt_set_log() may do: update, inspect, fork, load and unload modules, set
 * another one, leave by longjmp(). It is called with no lock held.
 *
 *	test_log SENTINEL
 *
 * Control: it is called with the update lock held.
 */
#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/port.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../api/tap.h"
#include "linux/base/base.h"

typedef int func_t(void);

static int home(void)
{
	return 1;
}

static int other(void)
{
	return 2;
}

DEFINE_STATIC_CALL(log_key, home);
DEFINE_STATIC_KEY_FALSE(log_branch);

KEEP static int call_it(void)
{
	return static_call(log_key)() + (static_branch_unlikely(&log_branch) ? 10 : 0);
}

static const char *sentinel;
static int called, result;
static jmp_buf back;

static int set(func_t *function)
{
	return static_call_update(log_key, function);
}

static void do_update(const char *message, void *arg)
{
	(void)message;
	(void)arg;
	if (called++) /* it was its own call that failed */
		return;
	result = set(other);
	if (!result)
		result = static_branch_enable(&log_branch);
}

static int count_key(const struct shunt_key_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 0;
}

static void do_inspect(const char *message, void *arg)
{
	do_update(message, arg);
	if (!result)
		result = shunt_for_each_key(count_key, NULL);
}

static void do_fork(const char *message, void *arg)
{
	int status = -1;
	pid_t pid;

	do_update(message, arg);
	pid = fork();
	if (!pid)
		_exit(set(home) || call_it() != 11);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		result = -ECHILD;
}

static void do_load(const char *message, void *arg)
{
	void *handle = dlopen(sentinel, RTLD_NOW);
	func_t *function = handle ? (func_t *)dlsym(handle, "sentinel_call") : NULL;

	result = function ? set(function) : -ENOENT;
	shunt_set_log(do_update, arg); /* for the message of what follows */
	if (handle)
		(void)dlclose(handle);
	if (!result)
		do_update(message, arg);
}

static void do_leave(const char *message, void *arg)
{
	do_update(message, arg);
	longjmp(back, 1);
}

static void fail(void)
{
	if (!setjmp(back) && static_branch_dec(&log_branch) != -EINVAL)
		called = 0;
}

static void row(const char *what, void (*fn)(const char *message, void *arg))
{
	int ret;

	called = 0;
	result = -1;
	shunt_set_log(fn, NULL);
	fail();
	ok(called && !result && call_it() == 12, "%s: %d", what, result);
	shunt_set_log(NULL, NULL);
	ret = set(home);
	if (!ret)
		ret = static_branch_disable(&log_branch);
	ok(!ret && call_it() == 1, "and updates go on: %d", ret);
}

static void control(void)
{
	called = 0;
	shunt_set_log(do_update, NULL);
	if (!shunt_port_lock()) {
		shunt_message("with the lock held");
		shunt_port_unlock();
	}
	ok(called && result == -EDEADLK && call_it() == 1, "control: with the lock held: %d",
	   result);
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 2;
	sentinel = argv[1];
	row("it updates", do_update);
	row("it inspects", do_inspect);
	row("it forks", do_fork);
	row("it loads and unloads a module", do_load);
	row("it leaves by longjmp()", do_leave);
	control();
	return tap_done();
}
