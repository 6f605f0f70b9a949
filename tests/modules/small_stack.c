/* SPDX-License-Identifier: MIT */
/*
 * A thread on a stack of 16 KiB, the smallest that pthreads has (on aarch64, where that is 128 KiB,
 * the thread takes the rest itself first): it loads a plugin with static calls and static keys,
 * walks all keys and sites, and updates. Control: it walks with 8 KiB more of its stack taken.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>
#include <shunt/static_key.h>

#include "../common/cpu.h"
#include "../traps/rows.h"

int host_one(void);
int host_one(void)
{
	return 1;
}

static int host_two(void)
{
	return 2;
}

DEFINE_STATIC_KEY_FALSE(host_branch);
EXPORT_STATIC_KEY(host_branch);
DEFINE_STATIC_CALL(host_call, host_one);
EXPORT_STATIC_CALL(host_call);

#define LEFT  (16 * 1024)
#define STACK (CPU_HAS_TRAPS ? LEFT : 128 * 1024)

static const char *path;

static void *load(void *arg)
{
	void *handle = dlopen(path, RTLD_NOW);

	must(handle && !dlclose(handle));
	return arg;
}

static int one_key(const struct shunt_key_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 0;
}

static int one_site(const struct shunt_site_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 0;
}

static void *walk(void *arg)
{
	must(!shunt_for_each_key(one_key, NULL) && !shunt_for_each_site(NULL, one_site, NULL));
	return arg;
}

static __attribute__((noinline)) void *walk_deep(void *arg)
{
	volatile char taken[8 * 1024];

	taken[0] = 0;
	(void)walk(arg);
	return taken[0] ? NULL : arg;
}

static void *update(void *arg)
{
	must(!static_call_update(host_call, host_two) && !static_branch_enable(&host_branch));
	must(static_call(host_call)() == 2 && static_branch_unlikely(&host_branch));
	return arg;
}

static void *with_what_is_left(void *arg)
{
	void *(**function)(void *) = arg;
	volatile char *taken = __builtin_alloca(STACK - LEFT + 1);

	taken[0] = 0;
	(void)(*function)(arg);
	return taken[0] ? NULL : arg;
}

/* The stack lies between pages that cannot be touched. */
static void on_small_stack(void *(*function)(void *))
{
	char *stack = mmap(NULL, STACK + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t thread;

	must(stack != MAP_FAILED && !mprotect(stack + 4096, STACK, PROT_READ | PROT_WRITE));
	must(!pthread_attr_init(&attr) && !pthread_attr_setstack(&attr, stack + 4096, STACK));
	must(!pthread_create(&thread, &attr, with_what_is_left, &function) &&
	     !pthread_join(thread, NULL));
}

static void loads(void)
{
	on_small_stack(load);
}

static void walks(void)
{
	must(dlopen(path, RTLD_NOW) != NULL);
	on_small_stack(walk);
}

static void updates(void)
{
	must(dlopen(path, RTLD_NOW) != NULL);
	on_small_stack(update);
}

static void walks_deep(void)
{
	must(dlopen(path, RTLD_NOW) != NULL);
	on_small_stack(walk_deep);
}

int main(int argc, char **argv)
{
	static const struct row rows[] = {
		{"a plugin is loaded", .run = loads},
		{"keys and sites are walked", .run = walks},
		{"updates", .run = updates},
		{"8 KiB less", .run = walks_deep, .is_control = true},
	};

	if (argc < 2)
		return 1;
	path = argv[1];
	return run_rows(rows, sizeof(rows) / sizeof(rows[0]));
}
