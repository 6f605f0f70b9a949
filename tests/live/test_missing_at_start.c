/* SPDX-License-Identifier: MIT */
/*
 * What is missing when a module registers: /proc, descriptors, or room for most of them. What
 * updates need is kept before the sites are poked, so that without /proc the sites become direct
 * calls all the same, by each policy. Where that cannot be, calls go through their trampolines, and
 * an update works or is an error with nothing changed. When it is there again, updates work.
 *
 * Control: nothing is kept (shunt_mappings_open()).
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/child.h"
#include "../common/descriptor_limit.h"
#include "../common/one_two.h"
#include "linux/text/mapping.h"

#include "../api/tap.h"

DEFINE_STATIC_CALL(call, one);
DEFINE_STATIC_KEY_FALSE(key);

KEEP static int site(void)
{
	return static_call(call)() + (static_branch_unlikely(&key) ? 10 : 0);
}

/* -------------------------------------------------------------- before all constructors */

enum { WITH_ALL, NO_PROC = 1, NOT_KEPT = 2 };

static struct {
	bool is_set;
	int without, room; /* of descriptors; -1: as it is */
} start = {.room = -1};

void __real_shunt_mappings_open(const struct shunt_segments *segments, const char *path,
				bool is_program);
void __wrap_shunt_mappings_open(const struct shunt_segments *segments, const char *path,
				bool is_program);
void __wrap_shunt_mappings_open(const struct shunt_segments *segments, const char *path,
				bool is_program)
{
	if (!(start.without & NOT_KEPT))
		__real_shunt_mappings_open(segments, path, is_program);
}

#define CANNOT 77

static void begin(int argc, char **argv, char **envp)
{
	(void)argc;
	(void)argv;
	for (; *envp && !start.is_set; envp++)
		start.is_set = sscanf(*envp, "START=%d %d", &start.without, &start.room) == 2;
	if (!start.is_set)
		return;
	if (start.without & NO_PROC &&
	    (unshare(CLONE_NEWUSER | CLONE_NEWNS) || mount("none", "/proc", "tmpfs", 0, NULL)))
		_exit(CANNOT);
	if (start.room >= 0 && !limit_descriptors((rlim_t)start.room))
		_exit(CANNOT);
}

__attribute__((section(".preinit_array"), used)) static void (*const early)(int, char **,
									    char **) = begin;

/* ------------------------------------------------------------------------- and then */

static int count_direct(const struct shunt_site_info *info, void *arg)
{
	*(unsigned *)arg += info->state == SHUNT_SITE_INLINE;
	return 0;
}

static bool is_direct(void)
{
	unsigned n = 0;

	(void)shunt_for_each_site("call", count_direct, &n);
	return n;
}

static bool has_failed;

/* 0, or what is wrong. */
static int turn(void)
{
	int (*was)(void) = static_call_query(call), before = site(), ret;
	bool on = static_key_count(&key);

	ret = static_call_update(call, was == one ? two : one);
	has_failed = has_failed || ret;
	if (ret && (!shunt_last_error()[0] || site() != before))
		return 3;
	if (site() % 10 != (static_call_query(call) == one ? 1 : 2))
		return 4;
	ret = on ? static_branch_disable(&key) : static_branch_enable(&key);
	has_failed = has_failed || ret;
	if (ret && !shunt_last_error()[0])
		return 5;
	return site() / 10 == (static_key_count(&key) != 0) &&
			       (static_key_count(&key) != 0) == (ret ? on : !on)
		       ? 0
		       : 6;
}

/* An update by int3 waits only so long for a thread that starts with its signals blocked. */
static _Atomic bool has_started;

static void *idle(void *arg)
{
	has_started = true;
	(void)pause();
	return arg;
}

/* In the program that has been started so. 42: the sites are not what they were to become. */
static int run(void)
{
	bool direct = is_direct();
	pthread_t thread;
	int ret = 0;

	if (site() != 1)
		return 2;
	for (int i = 0; i < 4 && !ret; i++) {
		if (i == 2 && pthread_create(&thread, NULL, idle, NULL))
			return 8;
		while (i == 2 && !has_started)
			(void)sched_yield();
		ret = turn();
	}
	if (ret)
		return ret;
	if (start.room < 0 && (!direct || has_failed))
		return 42;
	has_failed = false;
	if (!limit_descriptors(1024))
		return 9;
	for (int i = 0; i < 2 && !ret; i++)
		ret = turn();
	return ret ? ret : has_failed ? 7 : 0;
}

static const char *self;

static int begin_anew(int without, int room, const char *policy)
{
	char text[64];
	pid_t pid = fork();

	if (!pid) {
		char *argv[] = {(char *)(uintptr_t)self, NULL};

		(void)snprintf(text, sizeof(text), "%d %d", without, room);
		if (setenv("START", text, 1) || setenv("SHUNT_POKE", policy, 1) ||
		    setenv("SHUNT_LOG", "0", 1))
			_exit(98);
		(void)execv(self, argv);
		_exit(99);
	}
	return child_status(pid);
}

int main(int argc, char **argv)
{
	static const char *const policies[] = {"auto", "int3", "remap", "atomic"};

	if (start.is_set)
		return run();
	self = argc ? argv[0] : NULL;
	for (int policy = 0; policy < 4; policy++) {
		const char *name = policies[policy];
		int status = begin_anew(NO_PROC, -1, name);

		if (status == CANNOT) {
			skip("without /proc", "no user namespaces");
		} else {
			ok(!status, "without /proc, by %s: %d", name, status);
			if (!strcmp(name, "remap")) {
				status = begin_anew(NO_PROC | NOT_KEPT, -1, name);
				ok(status == 42, "control: nothing is kept: %d", status);
			}
		}
		for (int room = 0; room <= 10; room++) {
			status = begin_anew(0, room, name);
			ok(!status, "by %s, room for %d descriptors: %d", name, room, status);
		}
		status = begin_anew(0, 51, name);
		ok(!status, "by %s, room for 51 descriptors: %d", name, status);
	}
	return tap_done();
}
