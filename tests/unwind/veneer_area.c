/* SPDX-License-Identifier: MIT */
/*
 * Whose veneers are used: a module's own, as it comes and goes; those of a pool, once its
 * own are used up. None is ever made to lead elsewhere. And a module that was
 * compiled with another version of the header, without veneers, is refused.
 *
 *	area PLUGIN1 PLUGIN2
 *
 * Controls: one veneer for each target, whosever site asks; a veneer that is used again.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <shunt/inspect.h>

#include "../api/tap.h"
#include "veneer_area.h"
#include "veneers.h"

#define WORDS 32

KEEP static long host_a(long arg)
{
	return arg + 100;
}

KEEP static long host_b(long arg)
{
	return arg + 200;
}

DEFINE_STATIC_CALL(area_host_call, host_a);

KEEP static long host_call(long arg)
{
	return static_call(area_host_call)(arg) + 1000;
}

/* ------------------------------------------------------------------ controls */

static enum control { NO_CONTROL, BY_TARGET, USED_AGAIN } control;

uintptr_t __real_shunt_port_veneer(uintptr_t near, uintptr_t target);
uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target);

uintptr_t __wrap_shunt_port_veneer(uintptr_t near, uintptr_t target)
{
	static struct {
		uintptr_t target, veneer;
	} known[64];
	static size_t n;

	if (control == USED_AGAIN && near - (uintptr_t)host_call + (1ul << 30) < 1ul << 31) {
		*veneer_word(&__shunt_module, 0) = (void *)target;
		return (uintptr_t)__shunt_module.veneers;
	}
	for (size_t i = 0; control == BY_TARGET && i < n; i++)
		if (known[i].target == target)
			return known[i].veneer;
	known[n % 64].target = target;
	known[n % 64].veneer = __real_shunt_port_veneer(near, target);
	return known[n++ % 64].veneer;
}

/* Words of the program's that were in use, and what is in them now. */
static void *words[WORDS];

static unsigned long changed_words(void)
{
	unsigned long changed = 0;

	for (size_t i = 0; i < WORDS; i++) {
		void *now = *veneer_word(&__shunt_module, i);

		changed += words[i] && words[i] != now;
		words[i] = now;
	}
	return changed;
}

/* ------------------------------------------------------------ coming and going */

static struct {
	unsigned long opened, own, errors, wrong, changed;
} seen;

static const struct area_plugin *open_plugin(const char *path, void **handle)
{
	*handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	return *handle ? dlsym(*handle, "plugin") : NULL;
}

/* Calls of the plugin to the program, and of the program to the plugin. */
static void use(const struct area_plugin *p, long number)
{
	seen.opened++;
	seen.errors += p->update(host_a) != 0;
	seen.own += veneer_is_of(p->module, veneer_of("area_plugin_call", p->call));
	seen.wrong += p->call(1) != 1101;
	seen.errors += p->update(host_b) != 0;
	seen.own += veneer_is_of(p->module, veneer_of("area_plugin_call", p->call));
	seen.wrong += p->call(1) != 1201;
	seen.errors += static_call_update(area_host_call, p->target) != 0;
	seen.own += veneer_is_of(&__shunt_module, veneer_of("area_host_call", host_call));
	seen.wrong += host_call(1) != 1001 + number;
	seen.changed += changed_words();
	seen.errors += static_call_update(area_host_call, p->call) != 0;
	seen.own += veneer_is_of(&__shunt_module, veneer_of("area_host_call", host_call));
	seen.wrong += host_call(1) != 2201;
	seen.changed += changed_words();
}

/* In turn, so that each comes to lie where the other was. */
static void come_and_go(char **paths, unsigned rounds)
{
	memset(&seen, 0, sizeof(seen));
	for (unsigned round = 0; round < rounds; round++) {
		unsigned first = round / 2 % 2;

		for (unsigned i = 0; i < 2; i++) {
			unsigned which = (first + i) % 2;
			void *handle;
			const struct area_plugin *p = open_plugin(paths[which], &handle);

			if (!p) {
				seen.errors++;
				return;
			}
			use(p, which + 1);
			seen.errors += dlclose(handle) != 0;
			seen.wrong += host_call(1) != 1101;
		}
	}
}

static void test_coming_and_going(char **paths)
{
	come_and_go(paths, 200);
	ok(seen.opened == 400 && seen.own == 1600 && !seen.errors && !seen.wrong,
	   "%lu times a plugin came and went: %lu of 1600 veneers are the module's own, %lu "
	   "errors, %lu wrong calls",
	   seen.opened, seen.own, seen.errors, seen.wrong);
	ok(!seen.changed, "none leads elsewhere (%lu)", seen.changed);
}

/* In a process of its own: how it ends. DIED is AddressSanitizer's exit status of a crash. */
enum { DIED = 1, WRONG = 2, CHANGED = 4, NOT_OWN = 8, ERRORS = 16 };

static int end_with(enum control which, char **paths)
{
	int status = 0;
	pid_t pid = fork();

	if (!pid) {
		control = which;
		come_and_go(paths, 4);
		_exit((seen.errors ? ERRORS : 0) | (seen.wrong ? WRONG : 0) |
		      (seen.changed ? CHANGED : 0) | (seen.own != 4 * seen.opened ? NOT_OWN : 0));
	}
	(void)waitpid(pid, &status, 0);
	return status;
}

/* That is, it called what it should not have, or saw that it was about to. */
static bool went_wrong(int status)
{
	return WIFSIGNALED(status) || WEXITSTATUS(status) & (DIED | WRONG | CHANGED | NOT_OWN);
}

static void run_controls(char **paths)
{
	int status = end_with(NO_CONTROL, paths);

	ok(!status, "in a process of its own, all is well (%#x)", (unsigned)status);
	status = end_with(BY_TARGET, paths);
	ok(went_wrong(status), "control: one veneer for each target, whosever site it is (%#x)",
	   (unsigned)status);
	status = end_with(USED_AGAIN, paths);
	ok(went_wrong(status), "control: a veneer that is used again (%#x)", (unsigned)status);
}

/* ---------------------------------------------------------------- the overflow */

static _Atomic bool stop;
static _Atomic unsigned long calls, wrong_calls;

static void *keep_calling(void *arg)
{
	(void)arg;
	while (!stop) {
		long got = host_call(1);

		/* host_a, host_b, the plugin's target and its spare one */
		wrong_calls += got != 1101 && got != 1201 && got != 1002 && got != 2001;
		calls++;
	}
	return NULL;
}

/* Use up what the program has left, on addresses that nobody calls. */
static size_t fill(const struct area_plugin *p)
{
	size_t used = 0;

	for (uintptr_t i = 1; i <= WORDS; i++)
		seen.errors +=
			static_call_update(area_host_call, (void *)((uintptr_t)p->module + i)) != 0;
	seen.errors += static_call_update(area_host_call, host_a) != 0;
	for (size_t i = 0; i < WORDS; i++)
		used += *veneer_word(&__shunt_module, i) != NULL;
	return used;
}

static void update_often(area_fn *first, area_fn *second)
{
	unsigned long from = calls;
	pthread_t thread;

	if (pthread_create(&thread, NULL, keep_calling, NULL))
		abort();
	for (unsigned i = 0; i < 3000 || calls < from + 1000; i++)
		seen.errors += static_call_update(area_host_call, i % 3 == 0   ? first
								  : i % 3 == 1 ? second
									       : host_b) != 0;
	stop = true;
	(void)pthread_join(thread, NULL);
}

static void test_overflow(char **paths)
{
	uintptr_t before, after, pool;
	void *handle;
	const struct area_plugin *p = open_plugin(paths[0], &handle);

	if (!ok(p != NULL, "a plugin") || !p)
		return;
	memset(&seen, 0, sizeof(seen));
	seen.errors += static_call_update(area_host_call, p->target) != 0;
	before = veneer_of("area_host_call", host_call);
	ok(fill(p) == WORDS && !seen.errors, "all %d veneers of the program are used up", WORDS);
	(void)changed_words();

	seen.errors += static_call_update(area_host_call, p->target) != 0;
	after = veneer_of("area_host_call", host_call);
	ok(before && before == after, "whoever has one keeps it");
	seen.errors += static_call_update(area_host_call, p->spare) != 0;
	pool = veneer_of("area_host_call", host_call);
	seen.errors += p->update(host_a) != 0;
	ok(pool && !veneer_is_of(&__shunt_module, pool) && host_call(1) == 2001,
	   "another one comes from a pool, and leads to its target");
	ok(veneer_is_of(p->module, veneer_of("area_plugin_call", p->call)),
	   "the plugin still has its own");
	seen.errors += p->update(p->target) != 0;
	seen.errors += static_call_update(area_host_call, host_a) != 0;
	seen.errors += static_call_update(area_host_call, p->spare) != 0;
	ok(pool == veneer_of("area_host_call", host_call), "and the same one again");
	seen.errors += static_call_update(area_host_call, host_a) != 0;
	update_often(p->target, p->spare);
	ok(!seen.errors && !wrong_calls && !changed_words(),
	   "updates under %lu calls: %lu errors, %lu wrong calls", (unsigned long)calls,
	   seen.errors, (unsigned long)wrong_calls);
	ok(!static_call_update(area_host_call, host_a) && !dlclose(handle), "the plugin goes");
}

/* --------------------------------------------------------------- other versions */

static unsigned long refused;

static void count_refusals(const char *message, void *arg)
{
	(void)arg;
	refused += strstr(message, "another version") != NULL;
}

/* As the header was before modules had veneers. */
static void test_versions(void)
{
	static struct shunt_module old;

	old = __shunt_module;
	old.size = offsetof(struct shunt_module, veneers);
	old.veneers = old.veneers_end = NULL;
	shunt_set_log(count_refusals, NULL);
	shunt_module_register(&old);
	/* Once for its calls, once for its branches. */
	ok(refused == 2 && !static_call_update(area_host_call, host_b) && host_call(1) == 1201 &&
		   !static_call_update(area_host_call, host_a),
	   "a module of another version is refused (%lu)", refused);
	shunt_module_unregister(&old);
	shunt_set_log(NULL, NULL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 1;
	(void)setenv("SHUNT_LOG", "0", 1); /* the keys that go back to their defaults */
	ok(__shunt_module.veneers_end - __shunt_module.veneers ==
		   (ptrdiff_t)(WORDS * AREA_VENEER_BYTES),
	   "the program has %d veneers", WORDS);
	run_controls(argv + 1);
	test_coming_and_going(argv + 1);
	test_overflow(argv + 1);
	test_versions();
	return tap_done();
}
