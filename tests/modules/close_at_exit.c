/* SPDX-License-Identifier: MIT */
/*
 * Modules that are closed by handlers of atexit(), in a program that learns of exit() at its first
 * update: handlers that were registered before run when the destructors of modules seem to be
 * those of exit().
 *
 *	test_exit OWNER USER SENTINEL
 *
 * Control: nothing is pinned when the process exits.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "../common/child.h"
#include "linux/module/image.h"

static bool careless;

int __real_shunt_image_pin(struct shunt_image *image);
int __wrap_shunt_image_pin(struct shunt_image *image);
int __wrap_shunt_image_pin(struct shunt_image *image)
{
	return careless ? 0 : __real_shunt_image_pin(image);
}

typedef int func_t(void);

static const char *owner_path, *user_path, *sentinel_path;
static void *owner, *user, *sentinel;
static func_t *owner_call, *user_call, *sentinel_call;
static int (*update)(func_t *function);

static void *load(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);

	if (!handle)
		_exit(90);
	return handle;
}

static void find(void *handle, const char *name, void *function)
{
	void *symbol = dlsym(handle, name);

	if (!symbol)
		_exit(91);
	memcpy(function, &symbol, sizeof(symbol));
}

static void expect(bool good, int what)
{
	if (!good)
		_exit(what);
}

/* ---------------------------------------------------------------- in handlers of atexit() */

/* Its sites are not to be written any more, unless they are still there. */
static void close_user(void)
{
	expect(!dlclose(user), 1);
	expect(!update(sentinel_call) && owner_call() == 42, 2);
	expect(!update(NULL) && owner_call() == 1, 3);
	_exit(0);
}

/* A key is still called that points into it. */
static void close_target(void)
{
	expect(owner_call() == 42 && !dlclose(sentinel), 1);
	expect(owner_call() == 42 && user_call() == 42, 2);
	expect(!update(NULL) && owner_call() == 1 && user_call() == 1, 3);
	_exit(0);
}

static void close_owner(void)
{
	expect(!dlclose(owner), 1);
	expect(user_call() == 42 && !update(NULL) && user_call() == 1, 2);
	_exit(0);
}

static void open_and_close(void)
{
	for (int i = 0; i < 3; i++) {
		user = load(user_path);
		find(user, "exit_call", &user_call);
		expect(user_call() == (i ? 1 : 42), 1);
		expect(!dlclose(user), 2);
		expect(!update(sentinel_call) && owner_call() == 42, 3);
		expect(!update(NULL) && owner_call() == 1, 4);
	}
	_exit(0);
}

/* ---------------------------------------------------------------------------- a child each */

static int run(void (*handler)(void))
{
	pid_t pid = fork();

	if (!pid) {
		if (atexit(handler))
			_exit(92);
		owner = load(owner_path);
		find(owner, "exit_call", &owner_call);
		find(owner, "exit_update", &update);
		sentinel = load(sentinel_path);
		find(sentinel, "sentinel_call", &sentinel_call);
		if (handler != open_and_close) {
			user = load(user_path);
			find(user, "exit_call", &user_call);
		}
		expect(!update(sentinel_call), 93);
		exit(94);
	}
	return child_status(pid);
}

static void works(void (*handler)(void), const char *what)
{
	int status = run(handler);

	ok(status == 0, "%s: %d", what, status);
}

static void fails(void (*handler)(void), const char *what)
{
	int status = run(handler);

	ok(status != 0, "control: unmapped: %s: %d", what, status);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	owner_path = argv[1];
	user_path = argv[2];
	sentinel_path = argv[3];
	shunt_set_log(NULL, NULL);
	works(close_user, "a module with sites is closed");
	works(close_target, "a key's target");
	works(close_owner, "a key's own module");
	works(open_and_close, "one that was opened in exit()");
	careless = true;
	fails(close_user, "a module with sites");
	fails(close_target, "a key's target");
	fails(open_and_close, "opened in exit()");
	return tap_done();
}
