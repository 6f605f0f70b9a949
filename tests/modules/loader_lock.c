/* SPDX-License-Identifier: MIT */
/*
 * Updates while another thread holds a lock of the dynamic linker's and waits for the one that
 * updates: in a constructor, in a destructor, in a callback of dl_iterate_phdr(). The target is
 * in a module that is not watched yet.
 *
 *	test_locked PLUGIN SENTINEL SENTINEL BARE SENTINEL SENTINEL
 *
 * Controls: the module cannot be looked at without a lock; and one that can only be pinned,
 * for which the dynamic linker is waited for.
 */
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <shunt/inspect.h>
#include <shunt/static_call.h>

#include "../api/tap.h"
#include "../common/cpu.h"
#include "linux/base/base.h"

void locked_hook(void);
bool __real_shunt_peek(void *to, const void *from, size_t len);
bool __wrap_shunt_peek(void *to, const void *from, size_t len);

static _Atomic bool blind; /* what is taken out */

bool __wrap_shunt_peek(void *to, const void *from, size_t len)
{
	return !blind && __real_shunt_peek(to, from, len);
}

typedef int func_t(void);

static int home(void)
{
	return 1;
}

DEFINE_STATIC_CALL(locked_key, home);

KEEP static int call_it(void)
{
	return static_call(locked_key)() + 0;
}

/* -------------------------------------------------------------- the thread that updates */

static func_t *target;
static _Atomic bool done, was_done;
static int result;
static pthread_t thread;

static int count_key(const struct shunt_key_info *info, void *arg)
{
	(void)info;
	(void)arg;
	return 0;
}

static void *update(void *arg)
{
	result = static_call_update(locked_key, target);
	if (!result)
		result = shunt_for_each_key(count_key, NULL);
	done = true;
	return arg;
}

static void begin(func_t *to)
{
	target = to;
	done = was_done = false;
	result = -1;
}

/* With the lock held: have it update, and wait. Given up, it goes on when the lock is free. */
void locked_hook(void)
{
	if (!target || pthread_create(&thread, NULL, update, NULL))
		return;
	for (int turns = 0; !done && turns < (blind ? 200 : 20000); turns++) {
		(void)sched_yield();
		(void)usleep(turns < 100 ? 0 : 1000);
	}
	was_done = done;
}

static bool end(void)
{
	int value;

	(void)pthread_join(thread, NULL);
	value = call_it();
	target = NULL;
	return !static_call_update(locked_key, home) && !result && value != 1;
}

/* ---------------------------------------------------------------------------- the rows */

static void in_constructor(const char *plugin, func_t *to, const char *what)
{
	void *handle;

	begin(to);
	handle = dlopen(plugin, RTLD_NOW);
	ok(handle && was_done && end(), "in a constructor: %s", what);
	target = NULL;
	if (handle)
		(void)dlclose(handle);
}

static void in_destructor(const char *plugin, func_t *to)
{
	void *handle = dlopen(plugin, RTLD_NOW);

	begin(to);
	(void)dlclose(handle);
	ok(was_done && end(), "in a destructor");
}

static int hold(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)info;
	(void)size;
	(void)arg;
	locked_hook();
	return 1;
}

static void in_callback(func_t *to)
{
	begin(to);
	(void)dl_iterate_phdr(hold, NULL);
	ok(was_done && end(), "in a callback of dl_iterate_phdr()");
}

static void control_blind(func_t *to)
{
	begin(to);
	blind = true;
	(void)dl_iterate_phdr(hold, NULL);
	ok(!was_done && end(), "control: no copies: it waits for the lock");
	blind = false;
}

/* As the manual says: it cannot tell when it goes, and is pinned. */
static void control_bare(const char *plugin, func_t *to)
{
	void *handle;

	begin(to);
	blind = true; /* for fewer turns */
	handle = dlopen(plugin, RTLD_NOW);
	blind = false;
	ok(handle && !was_done && end(), "control: one that must be pinned: it waits for dlopen()");
}

/* ------------------------------------------------------------- the look through the stack */

/* Memory full of what a signal frame has where it is looked at. */
#ifdef __aarch64__
static void fill(void *memory, size_t size)
{
	uint64_t *words = memory;

	/* The first record behind the registers, FPSIMD_MAGIC and its size. */
	for (size_t i = 0; i < size / 8; i++)
		words[i] = (uintptr_t)&words[i] % 16 ? 0 : 0x0000021046508001u;
}
#else
static void fill(void *memory, size_t size)
{
	uint64_t *words = memory;
	uint16_t cs, ss;

	__asm__("mov %%cs, %0" : "=r"(cs));
	__asm__("mov %%ss, %0" : "=r"(ss));
	/* Restorer, flags of the context, ..., flags, selectors. */
	for (size_t i = 0; i < size / 8; i++) {
		static const uint64_t others[] = {0x7f0000000000, 7};
		size_t place = i % 25;

		words[i] = place < 2 ? others[place] : 0;
		if (place == 23)
			words[i] = 0x246;
		if (place == 24)
			words[i] = cs | (uint64_t)ss << 48;
	}
}
#endif

static bool seen;

static void *look_inside(void *arg)
{
	seen = shunt_may_be_in_handler();
	return arg;
}

static void *look_below(void *arg)
{
	uint64_t memory[100];

	fill(memory, sizeof(memory));
	__asm__ volatile("" : : "r"(memory) : "memory");
	(void)look_inside(arg);
	__asm__ volatile("" : : "r"(memory) : "memory");
	return arg;
}

/* On a stack behind which is other memory, as behind every one that was mapped last. */
static void run_beside(void *(*fn)(void *))
{
	const size_t size = 1 << 20;
	char *stack =
		mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_attr_t attr;
	pthread_t id;

	if (stack == MAP_FAILED)
		return;
	fill(stack + size, size);
	(void)pthread_attr_init(&attr);
	(void)pthread_attr_setstack(&attr, stack, size);
	if (!pthread_create(&id, &attr, fn, NULL))
		(void)pthread_join(id, NULL);
	(void)pthread_attr_destroy(&attr);
	(void)munmap(stack, 2 * size);
}

static void look_through_stacks(void)
{
	seen = true;
	run_beside(look_inside);
	ok(!seen, "a thread with such words behind its stack is in no handler");
	run_beside(look_below);
	ok(seen, "control: on its stack they are seen");
}

static func_t *function_in(const char *path)
{
	void *handle = dlopen(path, RTLD_NOW);

	return handle ? (func_t *)dlsym(handle, "sentinel_call") : NULL;
}

int main(int argc, char **argv)
{
	if (argc < 5)
		return 2;
	shunt_set_log(NULL, NULL);
	in_constructor(argv[1], function_in(argv[2]), "a function of another module");
	in_constructor(argv[1], (func_t *)dlsym(RTLD_DEFAULT, "getppid"), "one of the C library's");
	in_destructor(argv[1], function_in(argv[3]));
	in_callback(function_in(argv[5]));
	control_blind(function_in(argv[6]));
	control_bare(argv[1], function_in(argv[4]));
	look_through_stacks();
	return tap_done();
}
